/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IPv4 and IPv6 sockets of TCP, UDP and UDP-Lite, raw and ping sockets: what every socket has, seen and dumped; it comes back in
 * inet_restore.c. The inside of TCP connections is in conn_dump.c and conn_restore.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/datagram.h"
#include "sock/raw.h"
#include "sock/inet.h"
#include "sock/restore.h"
#include "sock/urgent.h"

enum { CORK_WAIT_MS = 300, AO_INFO_SIZE = 48 /* struct tcp_ao_info_opt of Linux 6.7 */ };

bool inet_is_known(int domain, int type, int protocol) {
        if (domain != AF_INET && domain != AF_INET6)
                return false;
        if (type == SOCK_RAW)
                return protocol > 0 && protocol <= UINT8_MAX;
        return (type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)) ||
               (type == SOCK_DGRAM && protocol == (domain == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) ||
               (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE));
}

/* ---- dump ---- */

static bool inet_match(struct fd_probe *p) {
        return sock_match(p, inet_is_known);
}

static void copy_address(const union sock_address *a, struct arena *arena, size_t *ret_n, uint32_t **ret,
                         uint32_t *ret_port) {
        bool v6 = a->any.sa_family == AF_INET6;

        *ret_n = v6 ? 4 : 1;
        *ret = arena_copy(arena, v6 ? (const void *)&a->in6.sin6_addr : (const void *)&a->in.sin_addr,
                          v6 ? 16 : 4);
        *ret_port = ntohs(v6 ? a->in6.sin6_port : a->in.sin_port);
}

/* getpeername(2) tells the other end only of sockets with a port there. */
static void copy_diag_peer(const struct sock_diag *diag, struct arena *arena, Img__InetSk *isk) {
        isk->n_dst_addr = isk->family == AF_INET6 ? 4 : 1;
        isk->dst_addr = arena_copy(arena, diag->dst, isk->n_dst_addr * 4);
        isk->dst_port = diag->dst_port;
}

static int read_addresses(int fd, struct arena *arena, Img__InetSk *isk) {
        union sock_address a;
        socklen_t len = sizeof(a);
        char name[IF_NAMESIZE];

        if (getsockname(fd, &a.any, &len) < 0)
                return -errno;
        copy_address(&a, arena, &isk->n_src_addr, &isk->src_addr, &isk->src_port);
        if (isk->family == AF_INET6 && a.in6.sin6_scope_id != 0 && if_indextoname(a.in6.sin6_scope_id, name))
                isk->ifname = arena_strdup(arena, name);
        memset(&a, 0, sizeof(a));
        a.any.sa_family = (sa_family_t)isk->family;
        len = sizeof(a);
        if (getpeername(fd, &a.any, &len) < 0 && errno != ENOTCONN)
                return -errno;
        copy_address(&a, arena, &isk->n_dst_addr, &isk->dst_addr, &isk->dst_port);
        return 0;
}

/* What can be seen without changing anything: family, type, protocol, state, addresses. */
static int read_identity(int fd, struct arena *arena, Img__InetSk *isk) {
        int r = 0;

        isk->family = (uint32_t)sock_option(fd, SO_DOMAIN);
        isk->type = (uint32_t)sock_option(fd, SO_TYPE);
        isk->proto = (uint32_t)sock_option(fd, SO_PROTOCOL);
        if (isk->type == SOCK_STREAM) {
                r = tcp_state(fd);
                if (r < 0)
                        return r;
                isk->state = (uint32_t)r;
        }
        r = read_addresses(fd, arena, isk);
        if (isk->type != SOCK_STREAM)
                isk->state = isk->dst_port != 0 ? TCP_ESTABLISHED : TCP_CLOSE;
        return r;
}

static short events_of(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI | POLLRDHUP };

        return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

/* Has look_tcp() nothing to say? */
static bool tcp_is_clear(const struct ckpt_options *opts, int fd, int state, short events, bool no_ulp) {
        char ulp[16] = "";
        socklen_t len = sizeof(ulp) - 1;

        return state >= 0 &&
               (opts->tcp_established || opts->tcp_close || !tcp_is_connection((unsigned int)state)) &&
               (opts->tcp_close || !(events & POLLPRI)) &&
               (no_ulp || getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) < 0 || !ulp[0]);
}

static int look_at_state(struct dump *d, int fd) {
        int state = tcp_state(fd);

        if (state >= 0 && tcp_is_connection((unsigned int)state))
                __atomic_store_n(&dump_socks(d)->connections, true, __ATOMIC_RELAXED);
        return state;
}

/* Authentication by keys (RFC 5925, Linux 6.7). Most kernels have none, and then they need not be asked again. */
static bool has_ao(struct dump *d, int fd) {
        uint64_t info[16] = { 0 };
        socklen_t len = AO_INFO_SIZE;
        struct dump_socks *s = dump_socks(d);

        if (__atomic_load_n(&s->no_ao, __ATOMIC_RELAXED) || sock_option(fd, SO_TYPE) != SOCK_STREAM ||
            sock_option(fd, SO_PROTOCOL) != IPPROTO_TCP)
                return false;
        if (getsockopt(fd, IPPROTO_TCP, TCP_AO_INFO, info, &len) == 0)
                return true;
        if (errno == ENOPROTOOPT)
                __atomic_store_n(&s->no_ao, true, __ATOMIC_RELAXED);
        return false;
}

/* Not raw sockets and MPTCP: there are few. `ckpt check` looks closer. */
static bool inet_clear(struct dump *d, int fd) {
        int type = sock_option(fd, SO_TYPE), protocol = sock_option(fd, SO_PROTOCOL);

        if (d->checking || reuseport_is_set(fd) ||
            !inet_is_known(sock_option(fd, SO_DOMAIN), type, protocol) || type == SOCK_RAW ||
            protocol == IPPROTO_MPTCP || !sock_is_clear(d, fd))
                return false;
        return type != SOCK_STREAM ||
               (tcp_is_clear(d->opts, fd, look_at_state(d, fd), events_of(fd), false) && !has_ao(d, fd));
}

static const char use_tcp_options[] =
        "Use --tcp-established to carry TCP connections over, or --tcp-close to have them closed";
static const char no_mptcp[] =
        "Turn multipath TCP off in the program (Go: GODEBUG=multipathtcp=0) or on this machine (sysctl "
        "net.mptcp.enabled=0), or use --tcp-close to have such connections closed";

static void look_tcp(int fd, struct fd_probe *p, struct blockers *b) {
        const struct ckpt_options *opts = p->task->dump->opts;
        Img__InetSk isk = IMG__INET_SK__INIT;
        char text[SOCK_NAME_MAX], ulp[16] = "";
        socklen_t len = sizeof(ulp) - 1;
        int state = look_at_state(p->task->dump, fd);
        bool refused = state >= 0 && tcp_is_connection((unsigned int)state) && !opts->tcp_established &&
                       !opts->tcp_close;
        bool urgent = !opts->tcp_close && events_of(fd) & POLLPRI && !urgent_is_readable();
        bool ao = !opts->tcp_close && has_ao(p->task->dump, fd);

        if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) < 0)
                ulp[0] = 0;
        if ((!refused && !urgent && !ao && !ulp[0]) || read_identity(fd, &p->task->arena, &isk) < 0)
                return;
        inet_describe(&isk, text);
        if (refused)
                blocker_add(b, use_tcp_options, "%s is %s", fd_probe_name(p), text);
        if (ulp[0])
                blocker_add(b, "Have the program do without it",
                            "%s is %s, in which the kernel speaks the protocol %s", fd_probe_name(p), text,
                            ulp);
        if (ao)
                blocker_add(b, "Have the program do without them",
                            "%s is %s, with keys of TCP-AO, which cannot be carried over", fd_probe_name(p),
                            text);
        if (urgent)
                blocker_add(
                        b, "Try again when the program has read it",
                        "%s is %s with urgent data that nobody has read, which only Linux 6.9 and later let "
                        "anyone carry over",
                        fd_probe_name(p), text);
}

/* An MPTCP socket that has, or had, a peer. Listeners accept plain TCP sockets from clients of plain TCP. */
static bool has_mptcp_peer(const struct dump *d, int fd, int state) {
        return !d->opts->tcp_close && state != TCP_LISTEN &&
               (state != TCP_CLOSE || events_of(fd) & (POLLRDHUP | POLLERR | POLLIN));
}

static bool can_read_mptcp(struct dump *d) {
        return dump_peek_for(d, DUMP_PEEK_MPTCP, mptcp_prove, &dump_socks(d)->mptcp) != NULL;
}

static void look_mptcp(int fd, struct fd_probe *p, struct blockers *b) {
        struct dump *d = p->task->dump;
        int state = look_at_state(d, fd);
        bool fallen = mptcp_fell_back(fd);
        char text[SOCK_NAME_MAX] = "an MPTCP socket";
        Img__InetSk isk = IMG__INET_SK__INIT;

        if (!has_mptcp_peer(d, fd, state))
                return;
        if (read_identity(fd, &p->task->arena, &isk) == 0)
                inet_describe(&isk, text);
        if (state == TCP_SYN_SENT)
                blocker_add(b, "Try again when it is connected",
                            "%s is %s, which is connecting, and may or may not come to use multipath TCP",
                            fd_probe_name(p), text);
        else if (!fallen)
                blocker_add(b, no_mptcp, "%s is %s, which uses multipath TCP; its state cannot be read",
                            fd_probe_name(p), text);
        else if (state != TCP_CLOSE && !d->opts->tcp_established)
                blocker_add(b, use_tcp_options, "%s is %s", fd_probe_name(p), text);
        if (fallen && !can_read_mptcp(d))
                blocker_add(b, no_mptcp,
                            "%s is %s, a multipath TCP socket that speaks plain TCP; only BPF can read its "
                            "state, which it cannot here (`ckpt check --feature bpf_peek`)",
                            fd_probe_name(p), text);
}

static const char cork[] =
        "it holds a datagram back that is only half written (UDP_CORK, MSG_MORE), which cannot be "
        "carried over";

/* What the kernel tells only in its list of sockets. NULL: nothing. */
static const char *find_obstacle(const struct dump *d, const struct sock_diag *diag, const Img__InetSk *isk,
                                 const char **ret_hint) {
        bool closed = d->opts->tcp_close && tcp_is_connection(isk->state);

        *ret_hint = "Have the program do without them";
        if (diag && diag->md5 && !closed)
                return "it has TCP MD5 signatures, whose keys cannot be carried over";
        *ret_hint = "Try again when it is connected";
        if (diag && isk->state == TCP_SYN_SENT && diag->wqueue > 1 /* the SYN */ && !closed)
                return "it is connecting and has sent data with that (TCP Fast Open), which cannot be carried over";
        *ret_hint = "Have the peer connect from a link-local address, or to another one";
        if (isk->family == AF_INET6 && inet_is_connection(isk) && !isk->ifname && !closed &&
            IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)isk->src_addr))
                return "it has a link-local address, and its peer, which has none, does not tell of which device";
        return NULL;
}

/* What comes and goes, or takes a list of all sockets: only to tell it. */
static void look_closer(int fd, struct fd_probe *p, struct blockers *b) {
        struct dump *d = p->task->dump;
        struct dump_socks *s = dump_socks(d);
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        Img__InetSk isk = IMG__INET_SK__INIT;
        const char *name = fd_probe_name(p), *hint, *why;
        char text[SOCK_NAME_MAX];
        unsigned int waiting;
        int bytes = 0;

        if (read_identity(fd, &p->task->arena, &isk) < 0 || isk.type == SOCK_RAW)
                return;
        if (sock_diag_query(&s->diag, (int)isk.family, (int)isk.proto, &err) < 0)
                return;
        inet_describe(&isk, text);
        why = find_obstacle(d, sock_diag_find(&s->diag, p->st.stx_ino), &isk, &hint);
        if (why)
                blocker_add(b, hint, "%s: %s", name, why);
        waiting = isk.state == TCP_LISTEN && isk.type == SOCK_STREAM && !d->opts->skip_in_flight
                          ? inet_in_flight(s, fd, &isk)
                          : 0;
        if (waiting > 0)
                blocker_add(b, INET_IN_FLIGHT_HINT,
                            "%s, %s: connections that nobody has accepted yet wait in it: %u", name, text,
                            waiting);
        if (isk.type == SOCK_DGRAM && ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0)
                blocker_add(b, "Try again when it was sent", "%s: %s", name, cork);
}

/* Connections have what their listener had, and no group. */
static bool may_have_program(int fd) {
        int state = sock_option(fd, SO_TYPE) == SOCK_STREAM ? tcp_state(fd) : TCP_CLOSE;

        return (state == TCP_LISTEN || state == TCP_CLOSE) && reuseport_is_set(fd);
}

static void inet_look(struct fd_probe *p, struct blockers *b) {
        int fd = p->clear ? -EBADF : sock_look_at(p, b);

        if (fd < 0)
                return;
        if (sock_option(fd, SO_PROTOCOL) == IPPROTO_MPTCP)
                look_mptcp(fd, p, b);
        else if (sock_option(fd, SO_TYPE) == SOCK_STREAM)
                look_tcp(fd, p, b);
        raw_look(fd, fd_probe_name(p), b);
        if (may_have_program(fd))
                reuseport_look(p->task->dump, fd, fd_probe_name(p), b);
        if (p->task->dump->checking)
                look_closer(fd, p, b);
        sock_copy_keep(p, fd);
}

/* Datagrams that were sent are counted until they have left the machine; one that is corked does not leave. */
static int check_cork(int fd, const char *name, struct ckpt_error *err) {
        const struct timespec pause = { .tv_nsec = 1000000 };
        int bytes = 0;

        for (int i = 0; i < CORK_WAIT_MS; i++) {
                if (ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes == 0)
                        return 0;
                nanosleep(&pause, NULL);
        }
        ckpt_error(err, -ENOTSUP, "%s: %s; the tree runs on as before", name, cork);
        ckpt_error_hint(err, "Try again when it was sent");
        return -ENOTSUP;
}

/* RCV_SHUTDOWN is there too when the peer has closed. */
static void read_shutdown(short events, const struct sock_diag *diag, Img__InetSk *isk) {
        unsigned int bits = diag && diag->has_shutdown ? diag->shutdown : 0;

        if (isk->type == SOCK_STREAM) {
                bits = 0;
                if (isk->state == TCP_CLOSE && events & POLLRDHUP && isk->proto == IPPROTO_TCP)
                        bits = 3; /* it had a connection */
                else if ((isk->state == TCP_ESTABLISHED || isk->state == TCP_FIN_WAIT1 ||
                          isk->state == TCP_FIN_WAIT2) &&
                         events & POLLRDHUP)
                        bits = 1;
                if (bits == 3 && events & POLLERR)
                        isk->has_reset = isk->reset = true;
        }
        isk->has_shutdown = bits != 0;
        isk->shutdown = (Img__SkShutdown)(bits & 3);
}

static int read_listener(int fd, Img__InetSk *isk) {
        struct tcp_info info = { 0 };
        socklen_t len = sizeof(info);

        if (isk->type != SOCK_STREAM || isk->state != TCP_LISTEN)
                return 0;
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
                return -errno;
        isk->backlog = info.tcpi_sacked; /* that is how the kernel tells it */
        return 0;
}

static int read_options(struct dump *d, int fd, const struct sock_diag *diag, struct arena *arena,
                        Img__InetSk *isk, struct ckpt_error *err) {
        struct sock_kind kind = { (int)isk->family, (int)isk->type, (int)isk->proto };
        struct sock_known known = { isk->type == SOCK_STREAM && tcp_is_connection(isk->state), diag };
        struct sock_opts opts;
        int v6only = 0, r;
        socklen_t len = sizeof(v6only);

        r = sock_opts_dump(fd, &kind, arena, dump_socks(d)->defaults, &known, &opts, err);
        if (r < 0)
                return r;
        isk->opts = opts.sk;
        isk->ip_opts = opts.ip;
        isk->tcp_opts = opts.tcp;
        if (isk->family == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len) == 0) {
                isk->has_v6only = true;
                isk->v6only = v6only != 0;
        }
        return 0;
}

/* `diag` may be NULL. */
static struct inet_conn *add_conn(struct dump *d, struct inet_conn_vec *vec, struct dump_file *file,
                                  Img__InetSk *isk, const struct sock_diag *diag, const char *name, int fd) {
        struct dump_socks *s = dump_socks(d);
        struct inet_conn *c = arena_new(&s->arena, struct inet_conn);
        char text[SOCK_NAME_MAX];

        inet_describe(isk, text);
        *c = (struct inet_conn){ .isk = isk, .file = file, .fd = fd };
        c->name = arena_printf(&s->arena, "%s, %s", name, text);
        inet_tuple(isk, &c->tuple);
        if (diag && diag->has_segments)
                c->told = (struct tcp_told){ true, diag->segments_in, diag->segments_out, diag->rqueue,
                                             diag->wqueue };
        ckpt_assert(inet_conn_vec_push(vec, c) == 0);
        return c;
}

/* Only UDP's datagrams can be put back. */
static int add_unread(struct dump *d, struct dump_file *file, Img__InetSk *isk, const char *name,
                      int taken) {
        _cleanup_close_ int fd = taken;

        if (raw_is_kind((int)isk->type, (int)isk->proto))
                log_warn("%s: packets that were not read yet are lost, as when the socket's buffer is full",
                         name);
        else
                add_conn(d, &dump_socks(d)->unread, file, isk, NULL, name, TAKE_FD(fd));
        return 0;
}

/* In any thread; `diag` may be NULL of TCP. */
static int read_more(struct dump *d, int fd, short events, const struct sock_diag *diag,
                     const struct sock_owner *owner, struct arena *arena, Img__InetSk *isk, const char *name,
                     struct ckpt_error *err) {
        int r;

        read_shutdown(events, diag, isk);
        if (events & POLLERR)
                pending_error_dump(d, fd, isk, name);
        r = read_listener(fd, isk);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its backlog", name);
        isk->fown = owner->fown;
        isk->has_uid = isk->has_gid = true;
        isk->uid = owner->uid;
        isk->gid = owner->gid;
        return read_options(d, fd, diag, arena, isk, err);
}

/*
 * What read_identity() asks, of a connection that sock_diag has told of; false: it has to ask. It does not tell of which
 * device a link-local address is.
 */
static bool take_identity(const struct sock_diag *diag, struct arena *arena, Img__InetSk *isk) {
        size_t words = diag && diag->family == AF_INET6 ? 4 : 1;

        if (!diag || diag->state != TCP_ESTABLISHED || diag->dst_port == 0 ||
            (words == 4 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)diag->src)))
                return false;
        isk->family = diag->family;
        isk->type = SOCK_STREAM;
        isk->proto = IPPROTO_TCP;
        isk->state = TCP_ESTABLISHED;
        isk->n_src_addr = isk->n_dst_addr = words;
        isk->src_addr = arena_copy(arena, diag->src, words * sizeof(*diag->src));
        isk->dst_addr = arena_copy(arena, diag->dst, words * sizeof(*diag->dst));
        isk->src_port = diag->src_port;
        isk->dst_port = diag->dst_port;
        return true;
}

static void *inet_ask(struct dump *d, int fd, struct arena *arena, bool *ret_keep) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        short events = events_of(fd);
        const struct sock_diag *diag;
        struct sock_owner owner;
        Img__InetSk *isk;

        if (events & POLLERR || sock_owner_dump(d, fd, arena, "a socket", &owner, &err) < 0)
                return NULL;
        diag = sock_diag_find(&dump_socks(d)->tcp, owner.ino);
        if (!diag && sock_option(fd, SO_TYPE) != SOCK_STREAM)
                return NULL;
        isk = arena_message(arena, Img__InetSk, img__inet_sk__init);
        if ((!take_identity(diag, arena, isk) && read_identity(fd, arena, isk) < 0) ||
            !inet_is_known((int)isk->family, (int)isk->type, (int)isk->proto) || isk->proto != IPPROTO_TCP ||
            !tcp_is_clear(d->opts, fd, (int)isk->state, events, sock_diag_tells(diag, SOCK_TOLD_NO_ULP)) ||
            has_ao(d, fd) || read_more(d, fd, events, diag, &owner, arena, isk, "a socket", &err) < 0)
                return NULL;
        *ret_keep = inet_is_connection(isk) || isk->state == TCP_LISTEN || isk->opts->so_reuseport;
        return isk;
}

/* An MPTCP socket that was reset does not say that its peer has closed. */
static short events_of_closed(int fd, const Img__InetSk *isk) {
        return isk->type == SOCK_STREAM && isk->state == TCP_CLOSE && isk->proto == IPPROTO_TCP &&
                               mptcp_fell_back(fd)
                       ? POLLRDHUP
                       : 0;
}

/* `fd`: none, where all has been asked. */
static int dump_more(struct dump *d, int fd, const struct sock_diag *diag, Img__InetSk *isk, bool asked,
                     const char *name, struct ckpt_error *err) {
        const char *hint, *why = find_obstacle(d, diag, isk, &hint);
        struct arena *arena = &dump_files(d)->arena;
        struct sock_owner owner;
        int r = 0;

        if (why) {
                ckpt_error(err, -ENOTSUP, "%s: %s; the tree runs on as before", name, why);
                return ckpt_error_hint(err, "%s", hint);
        }
        if (diag && isk->type != SOCK_STREAM)
                isk->state = diag->state == TCP_ESTABLISHED ? TCP_ESTABLISHED : TCP_CLOSE;
        if (diag && (isk->state == TCP_SYN_SENT || (isk->state == TCP_ESTABLISHED && isk->dst_port == 0)))
                copy_diag_peer(diag, arena, isk);
        if (!asked) {
                r = sock_owner_dump(d, fd, arena, name, &owner, err);
                if (r == 0)
                        r = read_more(d, fd, events_of(fd) | events_of_closed(fd, isk), diag, &owner, arena,
                                      isk, name, err);
        }
        if (r < 0 || isk->type == SOCK_STREAM)
                return r;
        r = raw_dump(fd, arena, isk);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its filter of ICMP types", name);
        r = check_cork(fd, name, err);
        if (r == 0)
                r = inet_groups_dump(fd, isk, arena, err);
        return r;
}

static int inet_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        Img__InetSk *isk = p->asked ? p->asked : arena_message(arena, Img__InetSk, img__inet_sk__init);
        _cleanup_close_ int fd = p->asked ? fd_probe_take_copy(p) : sock_copy_take(p);
        struct dump_socks *s = dump_socks(d);
        const char *name = fd_probe_name(p);
        const struct sock_diag_table *table = &s->diag;
        const struct sock_diag *diag;
        bool mptcp;
        int r = p->asked ? 0 : fd < 0 ? fd : read_identity(fd, arena, isk);

        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read this socket", name);
        mptcp = isk->proto == IPPROTO_MPTCP && has_mptcp_peer(d, fd, (int)isk->state) && mptcp_fell_back(fd);
        if (mptcp) {
                isk->proto = IPPROTO_TCP;
                log_info("%s: an MPTCP socket that speaks plain TCP; it comes back as a TCP socket", name);
        }
        if (isk->proto == IPPROTO_TCP && isk->type == SOCK_STREAM && s->tcp.asked)
                table = &s->tcp;
        else
                r = raw_is_kind((int)isk->type, (int)isk->proto)
                            ? raw_query(&s->diag, (int)isk->family, isk->type != SOCK_RAW, err)
                            : sock_diag_query(&s->diag, (int)isk->family, (int)isk->proto, err);
        if (r < 0 && r != -EOPNOTSUPP)
                return r;
        /* Of MPTCP only --tcp-close leaves a connection here. */
        if (isk->proto == IPPROTO_MPTCP && isk->state != TCP_LISTEN && isk->state != TCP_CLOSE) {
                isk->state = TCP_CLOSE;
                isk->src_port = isk->dst_port = 0;
        }
        isk->id = file->id;
        isk->ino = (uint32_t)p->st.stx_ino;
        isk->flags = fd_probe_flags(p);
        isk->has_ns_id = true;
        isk->ns_id = sock_ns_id();
        file->msg->isk = isk;
        /* Of an MPTCP socket it tells of the one inside. */
        diag = mptcp ? NULL : sock_diag_find(table, p->st.stx_ino);
        r = dump_more(d, fd, diag, isk, p->asked != NULL, name, err);
        if (r == 0 && isk->opts->so_reuseport && !inet_is_connection(isk))
                r = reuseport_dump(d, fd, isk, name, err);
        if (r == 0 && (inet_is_connection(isk) || isk->state == TCP_LISTEN))
                add_conn(d, &s->conns, file, isk, diag, name, TAKE_FD(fd))->mptcp = mptcp;
        else if (r == 0 && isk->type != SOCK_STREAM && events_of(fd) & POLLIN)
                r = add_unread(d, file, isk, name, TAKE_FD(fd));
        return r;
}

/* ---- the row ---- */

const struct fd_kind fd_kind_inet = {
        .type = IMG__FD_TYPES__INETSK,
        .name = "internet socket",
        .link = "socket:",
        .by_inode = true,
        .look_twice = true,
        .clear = inet_clear,
        .match = inet_match,
        .look = inet_look,
        .ask = inet_ask,
        .dump = inet_dump,
        .check = inet_check,
        .load = inet_load,
        .ahead = inet_open_ahead,
        .open = inet_open,
        .free = inet_free,
};
