/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/opts.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/uapi.h"

enum { DATA_MAX = 64, MAXSEG_MAX = 32767 };

/* Who has the option. */
enum {
        FOR_ALL = 0,
        FOR_INET = 1 << 0, /* AF_INET and AF_INET6 */
        FOR_INET6 = 1 << 1,
        FOR_TCP = 1 << 2,
        FOR_UDP = 1 << 3, /* UDP-Lite too */
        FOR_UDPLITE = 1 << 4,
        FOR_DGRAM = 1 << 5,
        FOR_CREDS = 1 << 6, /* unix and netlink */
        FOR_UNIX = 1 << 7,
        FOR_NETLINK = 1 << 8,
        FOR_PACKET = 1 << 9,
        FOR_RAW = 1 << 10,
};

enum home { HOME_OTHERS, HOME_SK, HOME_IP, HOME_TCP };

struct row {
        int level, name;
        const char *label;
        uint16_t who;
        uint8_t when, home, told;
        bool is_bool;        /* in its home */
        bool machine;        /* its devices, its modules or ckpt's privileges may be too few for it */
        uint8_t size;        /* bytes of what is no int; 0: an int */
        uint16_t has, value; /* offsets in its home */
};

#define IN_SK(field) \
        .home = HOME_SK, .has = offsetof(Img__SkOpts, has_##field), .value = offsetof(Img__SkOpts, field)
#define IN_IP(field) \
        .home = HOME_IP, .has = offsetof(Img__IpOpts, has_##field), .value = offsetof(Img__IpOpts, field)
#define IN_TCP(field) \
        .home = HOME_TCP, .has = offsetof(Img__TcpOpts, has_##field), .value = offsetof(Img__TcpOpts, field)
#define BOOL        .is_bool = true
#define MACHINE     .machine = true
#define TOLD(what_) .told = SOCK_TOLD_##what_
#define OPT(level_, name_, who_, when_, ...)                                        \
        {                                                                           \
                .level = (level_), .name = (name_), .label = #name_, .who = (who_), \
                .when = SOCK_WHEN_##when_, __VA_ARGS__                              \
        }

/*
 * In the order in which they are set: IP_TOS before SO_PRIORITY, which it changes. Buffers, timeouts, linger,
 * filter, device have functions of their own.
 */
static const struct row table[] = {
#include "sock/opts.def"
};

/* The value of an option: an int, or bytes. */
struct value {
        bool known;
        int number;
        uint8_t size;
        uint8_t data[DATA_MAX];
};

static bool applies(const struct row *row, const struct sock_kind *k) {
        bool inet = k->domain == AF_INET || k->domain == AF_INET6;

        return (!(row->who & FOR_INET) || inet) && (!(row->who & FOR_INET6) || k->domain == AF_INET6) &&
               (!(row->who & FOR_TCP) || (inet && k->type == SOCK_STREAM)) &&
               (!(row->who & FOR_UDP) || (inet && k->type == SOCK_DGRAM &&
                                          (k->protocol == IPPROTO_UDP || k->protocol == IPPROTO_UDPLITE))) &&
               (!(row->who & FOR_UDPLITE) ||
                (inet && k->type == SOCK_DGRAM && k->protocol == IPPROTO_UDPLITE)) &&
               (!(row->who & FOR_DGRAM) || k->type != SOCK_STREAM) &&
               (!(row->who & FOR_CREDS) || k->domain == AF_UNIX || k->domain == AF_NETLINK) &&
               (!(row->who & FOR_UNIX) || k->domain == AF_UNIX) &&
               (!(row->who & FOR_NETLINK) || k->domain == AF_NETLINK) &&
               (!(row->who & FOR_PACKET) || k->domain == AF_PACKET) &&
               (!(row->who & FOR_RAW) || k->type == SOCK_RAW);
}

/* Options that a kernel does not know, or not of this socket in this state, are not there. */
static void get_value(int fd, const struct row *row, struct value *ret) {
        socklen_t len = row->size ? row->size : sizeof(ret->number);
        void *buf = row->size ? (void *)ret->data : (void *)&ret->number;

        ret->known = getsockopt(fd, row->level, row->name, buf, &len) == 0;
        if (!ret->known)
                return;
        if (row->size)
                ret->size = (uint8_t)MIN(len, (socklen_t)row->size);
        else if (
                len ==
                1) /* the kernel shortens small numbers where the caller's buffer is small, and IP_MULTICAST_* */
                ret->number = *(const uint8_t *)&ret->number;
        else if (len != sizeof(ret->number))
                ret->known = false;
        if (row->level == IPPROTO_TCP && row->name == TCP_MAXSEG)
                ret->known = ret->number <= MAXSEG_MAX;
}

/* As get_value(), or what is known. */
static void find_value(int fd, const struct row *row, const struct sock_known *known, struct value *ret) {
        const struct sock_diag *diag = known ? known->diag : NULL;

        *ret = (struct value){ .known = true };
        if (known && known->connected && row->level == IPPROTO_TCP && row->name == TCP_MAXSEG)
                ret->known = false; /* of a connection it is what was negotiated */
        else if (!row->told || !sock_diag_tells(diag, row->told))
                get_value(fd, row, ret);
        else if (row->told == SOCK_TOLD_CONGESTION) {
                ret->size = sizeof(diag->congestion);
                memcpy(ret->data, diag->congestion, sizeof(diag->congestion));
        } else if (row->told == SOCK_TOLD_PACING) {
                ret->size = sizeof(diag->pacing);
                memcpy(ret->data, &diag->pacing, sizeof(diag->pacing));
        } else
                ret->number = diag->numbers[row->told];
}

static bool same_value(const struct row *row, const struct value *a, const struct value *b) {
        if (a->known != b->known)
                return false;
        return row->size ? a->size == b->size && memcmp(a->data, b->data, a->size) == 0
                         : a->number == b->number;
}

/* ---- defaults ---- */

struct defaults_of {
        struct defaults_of *next;
        struct sock_kind kind;
        bool known; /* false: only others may make such a socket, as of ping; each is compared with itself */
        size_t n_rows;
        uint8_t rows[ELEMENTSOF(table)]; /* those of the table that apply, in its order */
        struct value values[ELEMENTSOF(table)];
};
_Static_assert(ELEMENTSOF(table) <= UINT8_MAX, "numbers of rows");

struct sock_defaults {
        pthread_mutex_t lock;
        struct defaults_of *first;
        struct value
                passed[ELEMENTSOF(table)]; /* which this machine has taken from sock_opts_try(), and on */
        struct sock_kind passed_by;        /* this kind of sockets */
};

struct sock_defaults *sock_defaults_new(void) {
        struct sock_defaults *d = calloc(1, sizeof(*d));

        ckpt_assert(d);
        pthread_mutex_init(&d->lock, NULL);
        return d;
}

void sock_defaults_free(struct sock_defaults **d) {
        if (!*d)
                return;
        while ((*d)->first) {
                struct defaults_of *of = (*d)->first;

                (*d)->first = of->next;
                free(of);
        }
        pthread_mutex_destroy(&(*d)->lock);
        free(*d);
        *d = NULL;
}

static struct defaults_of *ask_defaults(const struct sock_kind *kind) {
        _cleanup_close_ int fd = socket(kind->domain, kind->type | SOCK_CLOEXEC, kind->protocol);
        struct defaults_of *of = calloc(1, sizeof(*of));

        ckpt_assert(of);
        of->kind = *kind;
        of->known = fd >= 0;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                if (!applies(&table[i], kind))
                        continue;
                of->rows[of->n_rows++] = (uint8_t)i;
                if (of->known)
                        get_value(fd, &table[i], &of->values[i]);
        }
        return of;
}

static const struct defaults_of *defaults_for(struct sock_defaults *d, const struct sock_kind *kind) {
        struct defaults_of *of;

        pthread_mutex_lock(&d->lock);
        for (of = d->first; of; of = of->next)
                if (memcmp(&of->kind, kind, sizeof(*kind)) == 0)
                        break;
        if (!of) {
                of = ask_defaults(kind);
                of->next = d->first;
                d->first = of;
        }
        pthread_mutex_unlock(&d->lock);
        return of;
}

/* ---- dump ---- */

static char *home_of(const struct row *row, const struct sock_opts *o) {
        switch ((enum home)row->home) {
        case HOME_SK:
                return (char *)o->sk;
        case HOME_IP:
                return (char *)o->ip;
        case HOME_TCP:
                return (char *)o->tcp;
        case HOME_OTHERS:
                break;
        }
        return NULL;
}

static Img__SkOption *make_other(const struct row *row, const struct value *v, bool is_default,
                                 struct arena *arena) {
        Img__SkOption *o = arena_message(arena, Img__SkOption, img__sk_option__init);

        o->level = row->level;
        o->name = row->name;
        o->has_is_default = o->is_default = is_default;
        if (row->size) {
                o->has_data = true;
                o->data.len = v->size;
                o->data.data = arena_copy(arena, v->data, v->size);
        } else {
                o->has_number = true;
                o->number = v->number;
        }
        return o;
}

static void read_table(int fd, struct arena *arena, const struct defaults_of *of,
                       const struct sock_known *known, const struct sock_opts *o) {
        Img__SkOption *others[ELEMENTSOF(table)];
        size_t n = 0;

        for (size_t i = 0; i < of->n_rows; i++) {
                const struct value *fresh = &of->values[of->rows[i]];
                const struct row *row = &table[of->rows[i]];
                struct value v;
                char *home;

                /* What a new socket does not know, none does. */
                if (of->known && !fresh->known)
                        continue;
                find_value(fd, row, known, &v);
                if (!v.known)
                        continue;
                home = home_of(row, o);
                if (home && row->is_bool) {
                        *(protobuf_c_boolean *)(home + row->has) = true;
                        *(protobuf_c_boolean *)(home + row->value) = v.number != 0;
                } else if (home) {
                        *(protobuf_c_boolean *)(home + row->has) = true;
                        *(uint32_t *)(home + row->value) = (uint32_t)v.number;
                } else if (row->size ? v.size > 0 : v.number != 0 || !fresh->known || fresh->number != 0)
                        others[n++] = make_other(row, &v, same_value(row, &v, fresh), arena);
        }
        o->sk->n_others = n;
        o->sk->others = arena_copy(arena, others, n * sizeof(*others));
}

static int read_timeout(int fd, int name, uint64_t *ret_sec, uint64_t *ret_usec) {
        struct timeval tv = { 0 };
        socklen_t len = sizeof(tv);

        if (getsockopt(fd, SOL_SOCKET, name, &tv, &len) < 0)
                return -errno;
        *ret_sec = (uint64_t)tv.tv_sec;
        *ret_usec = (uint64_t)tv.tv_usec;
        return 0;
}

static int read_u32(int fd, int name, uint32_t *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, SOL_SOCKET, name, ret, &len) < 0 ? -errno : 0;
}

static int read_buffer(int fd, int name, const struct sock_diag *diag, enum sock_told told, uint32_t *ret) {
        if (!sock_diag_tells(diag, told))
                return read_u32(fd, name, ret);
        *ret = (uint32_t)diag->numbers[told];
        return 0;
}

/* The length counts instructions here, not bytes. -EACCES: it is an eBPF program, which look has refused. */
static int read_filter(int fd, Img__SkOpts *sk, struct arena *arena) {
        char room[BPF_MAXINSNS]; /* as a sanitizer takes the number of instructions for that of bytes */
        socklen_t n = 0;         /* of room: it only tells how much there is */

        if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, room, &n) < 0)
                return errno == ENOPROTOOPT ? 0 : -errno;
        if (n == 0)
                return 0;
        sk->so_filter = arena_new_array(arena, uint64_t, n);
        _Static_assert(sizeof(struct sock_filter) == sizeof(uint64_t), "one number each");
        if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, sk->so_filter, &n) < 0)
                return -errno;
        sk->n_so_filter = n;
        return 0;
}

/* Number for number: what the wire gives a field of another shape. */
static int read_others(int fd, const struct sock_diag *diag, Img__SkOpts *sk, struct arena *arena) {
        struct linger linger = { 0 };
        char device[IFNAMSIZ] = "";
        socklen_t len = sizeof(linger);
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) < 0)
                return -errno;
        sk->has_so_linger = linger.l_onoff != 0;
        sk->so_linger = (uint32_t)linger.l_linger;
        len = sizeof(device);
        if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0 && len > 0 && device[0])
                sk->so_bound_dev = arena_strdup(arena, device);
        r = read_buffer(fd, SO_SNDBUF, diag, SOCK_TOLD_SNDBUF, &sk->so_sndbuf);
        if (r == 0)
                r = read_buffer(fd, SO_RCVBUF, diag, SOCK_TOLD_RCVBUF, &sk->so_rcvbuf);
        if (r == 0)
                r = read_timeout(fd, SO_SNDTIMEO, &sk->so_snd_tmo_sec, &sk->so_snd_tmo_usec);
        if (r == 0)
                r = read_timeout(fd, SO_RCVTIMEO, &sk->so_rcv_tmo_sec, &sk->so_rcv_tmo_usec);
        sk->has_so_buf_lock = r == 0 && read_u32(fd, SO_BUF_LOCK, &sk->so_buf_lock) == 0;
        return r;
}

int sock_opts_dump(int fd, const struct sock_kind *kind, struct arena *arena, struct sock_defaults *defaults,
                   const struct sock_known *known, struct sock_opts *ret, struct ckpt_error *err) {
        bool inet = kind->domain == AF_INET || kind->domain == AF_INET6;
        struct sock_opts o = { .sk = arena_message(arena, Img__SkOpts, img__sk_opts__init) };
        int r;

        if (inet)
                o.ip = arena_message(arena, Img__IpOpts, img__ip_opts__init);
        if (inet && kind->type == SOCK_STREAM)
                o.tcp = arena_message(arena, Img__TcpOpts, img__tcp_opts__init);
        r = read_others(fd, known ? known->diag : NULL, o.sk, arena);
        if (r == 0)
                r = read_filter(fd, o.sk, arena);
        if (r == -EACCES)
                return ckpt_error(err, -ENOTSUP,
                                  "the filter of a socket is an eBPF program, which cannot be carried over");
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read the options of a socket");
        read_table(fd, arena, defaults_for(defaults, kind), known, &o);
        if (o.tcp) { /* where older readers look for them */
                o.sk->has_tcp_keepcnt = o.tcp->has_keepcnt;
                o.sk->tcp_keepcnt = o.tcp->keepcnt;
                o.sk->has_tcp_keepidle = o.tcp->has_keepidle;
                o.sk->tcp_keepidle = o.tcp->keepidle;
                o.sk->has_tcp_keepintvl = o.tcp->has_keepintvl;
                o.sk->tcp_keepintvl = o.tcp->keepintvl;
        }
        *ret = o;
        return 0;
}

/* ---- restore ---- */

static const struct row *find_row(const Img__SkOption *o) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (table[i].level == o->level && table[i].name == o->name)
                        return &table[i];
        return NULL;
}

int sock_opts_number(const Img__SkOpts *sk, int level, int name, int otherwise) {
        for (size_t i = 0; i < sk->n_others; i++)
                if (sk->others[i]->level == level && sk->others[i]->name == name &&
                    sk->others[i]->has_number)
                        return sk->others[i]->number;
        return otherwise;
}

int sock_opts_check(const struct sock_opts *opts, const char **ret_why) {
        const Img__SkOpts *sk = opts->sk;

        for (size_t i = 0; i < sk->n_others; i++) {
                const Img__SkOption *o = sk->others[i];
                const struct row *row = find_row(o);

                *ret_why = !row            ? "has an option that ckpt does not know"
                           : row->size     ? (o->has_data && o->data.len <= row->size
                                                      ? NULL
                                                      : "has an option of the wrong size")
                           : o->has_number ? NULL
                                           : "has an option without a value";
                if (*ret_why)
                        return -EBADMSG;
        }
        *ret_why = sk->so_sndbuf > INT32_MAX || sk->so_rcvbuf > INT32_MAX
                           ? "has a buffer of an impossible size"
                   : sk->so_snd_tmo_usec >= 1000000 || sk->so_rcv_tmo_usec >= 1000000 ||
                                   sk->so_snd_tmo_sec > INT64_MAX || sk->so_rcv_tmo_sec > INT64_MAX
                           ? "has an impossible timeout"
                   : sk->n_so_filter > BPF_MAXINSNS ? "has a filter that is too long"
                   : sk->so_bound_dev && strlen(sk->so_bound_dev) >= IFNAMSIZ
                           ? "is bound to a device of an impossible name"
                           : NULL;
        return *ret_why ? -EBADMSG : 0;
}

static int set_value(int fd, const struct row *row, const struct value *v, const char *what,
                     struct ckpt_error *err) {
        int r = row->size ? setsockopt(fd, row->level, row->name, v->data, v->size)
                          : setsockopt(fd, row->level, row->name, &v->number, sizeof(v->number));

        return r < 0 ? ckpt_error_errno(err, -errno, "%s: cannot set the socket option %s", what, row->label)
                     : 0;
}

static int set_int(int fd, int name, int value, const char *label, const char *what,
                   struct ckpt_error *err) {
        if (setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot set the socket option %s", what, label);
        return 0;
}

static int set_timeout(int fd, int name, uint64_t sec, uint64_t usec, const char *what,
                       struct ckpt_error *err) {
        struct timeval tv = { .tv_sec = (time_t)sec, .tv_usec = (suseconds_t)usec };

        if (sec == 0 && usec == 0)
                return 0;
        if (setsockopt(fd, SOL_SOCKET, name, &tv, sizeof(tv)) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot set a timeout of the socket", what);
        return 0;
}

/* The kernel doubles what it is given. */
static int set_buffer(int fd, int force, int plain, size_t size, const char *what, struct ckpt_error *err) {
        int half = (int)(MIN(size, (size_t)INT32_MAX) / 2), now = 0;
        socklen_t len = sizeof(now);

        if (getsockopt(fd, SOL_SOCKET, plain, &now, &len) == 0 && (size_t)now / 2 == size / 2)
                return 0;
        return set_int(fd, force, half, plain == SO_SNDBUF ? "SO_SNDBUF" : "SO_RCVBUF", what, err);
}

static int set_buffers(int fd, const Img__SkOpts *sk, size_t room, const char *what,
                       struct ckpt_error *err) {
        int r;

        r = set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, MAX((size_t)sk->so_sndbuf, room), what, err);
        return r < 0 ? r
                     : set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, MAX((size_t)sk->so_rcvbuf, room), what,
                                  err);
}

/* The others, by row. They are in the table's order, if ckpt has written them. */
struct others {
        const Img__SkOption *of[ELEMENTSOF(table)];
};

static void sort_others(const Img__SkOpts *sk, struct others *ret) {
        size_t at = 0;

        *ret = (struct others){ 0 };
        for (size_t i = 0; i < sk->n_others; i++)
                for (size_t n = 0; n < ELEMENTSOF(table); n++) {
                        size_t row = at + n < ELEMENTSOF(table) ? at + n : at + n - ELEMENTSOF(table);

                        if (table[row].level != sk->others[i]->level ||
                            table[row].name != sk->others[i]->name)
                                continue;
                        if (!ret->of[row])
                                ret->of[row] = sk->others[i];
                        at = row;
                        break;
                }
}

/* What is recorded for a row; `o`: of others. */
static struct value recorded(const struct row *row, const struct sock_opts *opts, const Img__SkOption *o) {
        struct value v = { 0 };
        char *home = home_of(row, opts);

        if (row->home != HOME_OTHERS) {
                v.known = home && *(protobuf_c_boolean *)(home + row->has);
                if (v.known)
                        v.number = row->is_bool ? *(protobuf_c_boolean *)(home + row->value)
                                                : (int)*(uint32_t *)(home + row->value);
                return v;
        }
        v.known = o != NULL;
        if (o && row->size) {
                v.size = (uint8_t)MIN(o->data.len, sizeof(v.data));
                memcpy(v.data, o->data.data, v.size);
        } else if (o)
                v.number = o->number;
        return v;
}

/*
 * What arrives as soon as the socket has an address must pass the filter; but not what ckpt puts into the queues of
 * connections, and of unix sockets, where a new filter would see it a second time, and not what moves a packet socket's rings on.
 */
static enum sock_when filter_when(const struct sock_kind *kind) {
        return kind->domain == AF_UNIX                                  ? SOCK_WHEN_LAST
               : kind->type == SOCK_STREAM || kind->domain == AF_PACKET ? SOCK_WHEN_FILTER
                                                                        : SOCK_WHEN_BIND;
}

static int set_filter(int fd, const struct sock_opts *opts, const char *what, struct ckpt_error *err) {
        const Img__SkOpts *sk = opts->sk;
        struct sock_fprog prog = { .len = (unsigned short)sk->n_so_filter,
                                   .filter = (struct sock_filter *)sk->so_filter };

        if (sk->n_so_filter > 0 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot attach the socket's filter", what);
        return 0;
}

/* Last: the program of a SO_REUSEPORT group could not be attached any more. */
static int lock_filter(int fd, const struct sock_opts *opts, const char *what, struct ckpt_error *err) {
        return sock_opts_number(opts->sk, SOL_SOCKET, SO_LOCK_FILTER, 0)
                       ? set_int(fd, SO_LOCK_FILTER, 1, "SO_LOCK_FILTER", what, err)
                       : 0;
}

static int restore_device(int fd, const Img__SkOpts *sk, const char *what, struct ckpt_error *err) {
        if (!sk->so_bound_dev || !*sk->so_bound_dev)
                return 0;
        if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, sk->so_bound_dev,
                       (socklen_t)strlen(sk->so_bound_dev)) < 0) {
                int r = ckpt_error_errno(err, -errno, "%s: cannot bind it to the network device %s", what,
                                         sk->so_bound_dev);

                return r == -ENODEV ? ckpt_error_hint(err, "Make a device of this name") : r;
        }
        return 0;
}

static int restore_open(int fd, const Img__SkOpts *sk, const char *what, struct ckpt_error *err) {
        struct linger linger = { .l_onoff = 1, .l_linger = (int)sk->so_linger };
        int r;

        if (sk->has_so_linger && setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot set the socket option SO_LINGER", what);
        r = set_timeout(fd, SO_SNDTIMEO, sk->so_snd_tmo_sec, sk->so_snd_tmo_usec, what, err);
        return r < 0 ? r : set_timeout(fd, SO_RCVTIMEO, sk->so_rcv_tmo_sec, sk->so_rcv_tmo_usec, what, err);
}

/* Setting a buffer ends its automatic growth; SO_BUF_LOCK (5.14) gives that back. */
static int restore_last(int fd, const Img__SkOpts *sk, const char *what, struct ckpt_error *err) {
        int r, now = 0, lock = sk->has_so_buf_lock ? (int)sk->so_buf_lock : 0;
        socklen_t len = sizeof(now);

        r = set_buffers(fd, sk, 0, what, err);
        if (r < 0)
                return r;
        if (getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &now, &len) == 0 && now != lock) {
                r = set_int(fd, SO_BUF_LOCK, lock, "SO_BUF_LOCK", what, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/*
 * Set in any case: SO_REUSEADDR may have a value of ours by then. SO_RCVLOWAT wakes whoever waits for data that is there:
 * that of a repaired queue came without a word, perhaps after the socket was put into an epoll instance.
 */
static bool set_always(const struct row *row) {
        return row->level == SOL_SOCKET && (row->name == SO_REUSEADDR || row->name == SO_RCVLOWAT);
}

static int restore_rows(int fd, const struct sock_opts *opts, const struct defaults_of *of,
                        enum sock_when when, const char *what, struct ckpt_error *err) {
        struct others others;
        int r = 0;

        sort_others(opts->sk, &others);
        for (size_t i = 0; r == 0 && i < of->n_rows; i++) {
                const struct row *row = &table[of->rows[i]];
                const struct value *fresh = &of->values[of->rows[i]];
                const Img__SkOption *o = others.of[of->rows[i]];
                struct value v, own = { 0 };

                if (row->when != when)
                        continue;
                v = recorded(row, opts, o);
                if (!of->known && v.known)
                        get_value(fd, row, &own);
                if (!of->known)
                        fresh = &own;
                /* An older kernel knows nothing of it, and the program has never asked for it. */
                if (!fresh->known && o && o->is_default)
                        continue;
                if (v.known && (set_always(row) || !same_value(row, &v, fresh)))
                        r = set_value(fd, row, &v, what, err);
        }
        return r;
}

int sock_opts_restore(int fd, const struct sock_kind *kind, const struct sock_opts *opts,
                      enum sock_when when, size_t room, struct sock_defaults *defaults, const char *what,
                      struct ckpt_error *err) {
        int r = 0;

        if (when == SOCK_WHEN_BIND) {
                r = restore_device(fd, opts->sk, what, err);
                if (r == 0)
                        r = set_buffers(fd, opts->sk, room, what, err);
        }
        if (r == 0 && when != SOCK_WHEN_FILTER) /* has no rows */
                r = restore_rows(fd, opts, defaults_for(defaults, kind), when, what, err);
        if (r == 0 && when == SOCK_WHEN_OPEN)
                r = restore_open(fd, opts->sk, what, err);
        /* Before anything is received: a larger window, once told, is what the peer waits for ever after. */
        if (r == 0 && when == SOCK_WHEN_FILTER && kind->domain != AF_UNIX && kind->type == SOCK_STREAM)
                r = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, opts->sk->so_rcvbuf, what, err);
        if (r == 0 && when == SOCK_WHEN_LAST)
                r = restore_last(fd, opts->sk, what, err);
        if (r == 0 && when == filter_when(kind))
                r = set_filter(fd, opts, what, err);
        if (r == 0 && when == SOCK_WHEN_LAST)
                r = lock_filter(fd, opts, what, err);
        return r;
}

/* What may be missing. */
static int hint_at(int r, const struct row *row, const struct value *v, struct ckpt_error *err) {
        if (row->level == IPPROTO_TCP && row->name == TCP_CONGESTION)
                return ckpt_error_hint(err, "Load the kernel's module of this algorithm (tcp_%.*s)", v->size,
                                       (const char *)v->data);
        if (r == -EPERM)
                return ckpt_error_hint(err, "Run ckpt as root, or with CAP_NET_ADMIN");
        return ckpt_error_hint(err, "Make the network devices that the tree used");
}

/* Of a scratch socket, which is made when there is something to try. */
static int try_row(const struct sock_kind *kind, const struct sock_opts *opts, const struct row *row,
                   const struct value *v, int *fd, const char *what, struct ckpt_error *err) {
        int r;

        if (*fd < 0) {
                *fd = socket(kind->domain, kind->type | SOCK_CLOEXEC, kind->protocol);
                if (*fd < 0)
                        return 0; /* only others may make such a socket */
                r = restore_device(*fd, opts->sk, what, err);
                if (r < 0)
                        return r;
        }
        r = set_value(*fd, row, v, what, err);
        return r < 0 ? hint_at(r, row, v, err) : 0;
}

int sock_opts_try(const struct sock_kind *kind, const struct sock_opts *opts, struct sock_defaults *d,
                  const char *what, struct ckpt_error *err) {
        const struct defaults_of *of = defaults_for(d, kind);
        bool device = opts->sk->so_bound_dev && *opts->sk->so_bound_dev;
        _cleanup_close_ int fd = -EBADF;
        struct others others;
        int r = 0;

        if (memcmp(kind, &d->passed_by, sizeof(*kind)) != 0) {
                memset(d->passed, 0, sizeof(d->passed));
                d->passed_by = *kind;
        }
        if (device) {
                fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                r = restore_device(fd, opts->sk, what, err);
                fd = safe_close(fd);
        }
        sort_others(opts->sk, &others);
        for (size_t i = 0; r == 0 && i < of->n_rows; i++) {
                size_t n = of->rows[i];
                struct value v;

                if (!table[n].machine)
                        continue;
                v = recorded(&table[n], opts, others.of[n]);
                if (!v.known || same_value(&table[n], &v, &of->values[n]) ||
                    (!device && same_value(&table[n], &v, &d->passed[n])))
                        continue;
                r = try_row(kind, opts, &table[n], &v, &fd, what, err);
                if (r == 0 && !device)
                        d->passed[n] = v;
        }
        return r;
}
