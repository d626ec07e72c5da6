/* SPDX-License-Identifier: GPL-2.0-only */
/* Internet sockets come back: what every one has (inet.c); the inside of TCP connections is in conn_restore.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/datagram.h"
#include "sock/inet.h"
#include "sock/raw.h"
#include "sock/restore.h"

static const char *check_message(const Img__InetSk *isk) {
        size_t words = isk->family == AF_INET6 ? 4 : 1;
        struct sock_opts opts = { isk->opts, isk->ip_opts, isk->tcp_opts };
        const char *why;

        if (!inet_is_known((int)isk->family, (int)isk->type, (int)isk->proto))
                return "is of a family, type or protocol that cannot be restored";
        if (isk->src_port > 0xffff || isk->dst_port > 0xffff)
                return "has an impossible port";
        if (isk->n_src_addr != words || (isk->n_dst_addr != words && isk->n_dst_addr != 0))
                return "has an address of the wrong length";
        if (isk->backlog > INT32_MAX)
                return "has an impossible backlog";
        if (isk->type == SOCK_STREAM
                    ? !tcp_is_connection(isk->state) && isk->state != TCP_LISTEN && isk->state != TCP_CLOSE
                    : isk->state != TCP_ESTABLISHED && isk->state != TCP_CLOSE)
                return "is in a state that cannot be restored";
        if (isk->proto == IPPROTO_MPTCP && (inet_is_connection(isk) || isk->dst_port != 0))
                return "is a multipath TCP connection";
        if (isk->type != SOCK_STREAM && isk->state == TCP_ESTABLISHED && isk->n_dst_addr != words)
                return "is connected to nowhere";
        if (isk->ip_opts && isk->ip_opts->raw && isk->ip_opts->raw->n_icmpv_filter > 8)
                return "has a filter of ICMP types that is too long";
        if (inet_is_connection(isk) && isk->state != TCP_CLOSE &&
            (isk->n_dst_addr != words || isk->dst_port == 0))
                return "is a connection to nowhere";
        if (isk->ifname && strlen(isk->ifname) >= IF_NAMESIZE)
                return "is on a device of an impossible name";
        if (isk->lock && !netlock_name_valid(isk->lock))
                return "has a network lock that is none of ckpt's";
        why = datagrams_check(isk);
        if (!why)
                why = inet_groups_check(isk);
        if (!why)
                why = reuseport_check(isk);
        if (!why)
                why = pending_error_check(isk);
        return why || sock_opts_check(&opts, &why) < 0 ? why : NULL;
}

static int set_bool(int fd, int level, int name, bool value) {
        int number = value;

        return setsockopt(fd, level, name, &number, sizeof(number)) < 0 ? -errno : 0;
}

static void check_device(const char *name, const char *use, const char *what, struct blockers *b) {
        if (if_nametoindex(name) == 0)
                blocker_add(b, "Make a device of this name",
                            "%s needs the network device %s%s, which is not there", what, name, use);
}

/* Are the devices there, and has this machine what its options take? */
static void check_machine(struct restore *r, const Img__InetSk *isk) {
        const struct sock_kind kind = { (int)isk->family, (int)isk->type, (int)isk->proto };
        const struct sock_opts opts = { isk->opts, isk->ip_opts, isk->tcp_opts };
        bool takes = sock_opts_try(&kind, &opts, sock_defaults_of(r), "", NULL) == 0;
        bool scoped = isk->family == AF_INET6 && isk->ifname;
        char text[SOCK_NAME_MAX];

        if (takes && !scoped && isk->n_groups == 0)
                return;
        inet_describe(isk, text);
        if (!takes)
                sock_check_machine(r, &kind, &opts, sock_defaults_of(r), text);
        if (scoped)
                check_device(isk->ifname, "", text, r->files->blockers);
        for (size_t i = 0; i < isk->n_groups; i++)
                check_device(isk->groups[i]->ifname, " for its multicast group", text, r->files->blockers);
}

/* By trial. */
void inet_check_address(const Img__InetSk *isk, struct blockers *b) {
        bool tcp = isk->type == SOCK_STREAM, connection = inet_is_connection(isk);
        const char *device = isk->opts->so_bound_dev;
        _cleanup_close_ int fd = socket((int)isk->family, (int)isk->type | SOCK_CLOEXEC, (int)isk->proto);
        char text[SOCK_NAME_MAX];
        union sock_address a;
        socklen_t len;

        if (fd < 0 || isk->src_port == 0 || (tcp && !connection && isk->state != TCP_LISTEN))
                return;
        inet_address(isk, false, &a, &len);
        /* What is on another device is in nobody's way. */
        if (device && *device &&
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0)
                return;
        if (sock_opts_number(isk->opts, IPPROTO_IP, IP_TRANSPARENT, 0))
                set_bool(fd, IPPROTO_IP, IP_TRANSPARENT, true);
        if (isk->ip_opts && isk->ip_opts->freebind)
                set_bool(fd, IPPROTO_IP, IP_FREEBIND, true);
        if (isk->family == AF_INET6)
                set_bool(fd, IPPROTO_IPV6, IPV6_V6ONLY, isk->v6only);
        set_bool(fd, SOL_SOCKET, SO_REUSEADDR, tcp || isk->opts->reuseaddr);
        set_bool(fd, SOL_SOCKET, SO_REUSEPORT, isk->opts->so_reuseport);
        if (connection) /* where port and address are at the same place in both */
                a.in.sin_port = 0;
        if (bind(fd, &a.any, len) == 0)
                return;
        inet_describe(isk, text);
        if (errno == EADDRINUSE)
                blocker_add(b, "End the program that uses it (`ss -lnp` tells which)",
                            "the port of %s is in use", text);
        else if (errno == EADDRNOTAVAIL)
                blocker_add(b, "Give this machine the addresses that the tree used",
                            "the address of %s is none of this machine's", text);
}

int inet_check(struct restore *r, struct restore_file *file, struct image_file *image,
               struct ckpt_error *err) {
        const Img__InetSk *isk = file->msg->isk;
        const char *why = check_message(isk);
        char text[SOCK_NAME_MAX];

        if (why)
                return image_damaged(image, err, "the socket with the id %u %s", isk->id, why);
        check_machine(r, isk);
        if (inet_is_connection(isk) && isk->state != TCP_CLOSE && !r->opts->tcp_established &&
            !r->opts->tcp_close) {
                inet_describe(isk, text);
                blocker_add(
                        r->files->blockers,
                        "Use --tcp-established to bring TCP connections back, or --tcp-close to have them closed",
                        "the checkpoint has %s", text);
        }
        return 0;
}

/*
 * First with what the socket has. If that is too strict because of the order in which the sockets come back, with
 * SO_REUSEADDR for the time being; each gets its own value when all are there.
 */
static int bind_it(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err) {
        union sock_address a;
        socklen_t len;
        int r;

        if (isk->src_port == 0)
                return 0;
        inet_address(isk, false, &a, &len);
        if (isk->opts->reuseaddr)
                set_bool(fd, SOL_SOCKET, SO_REUSEADDR, true);
        if (bind(fd, &a.any, len) == 0)
                return 0;
        if (errno == EADDRINUSE && set_bool(fd, SOL_SOCKET, SO_REUSEADDR, true) == 0 &&
            bind(fd, &a.any, len) == 0)
                return 0;
        r = ckpt_error_errno(err, -errno, "cannot bind %s again", what);
        if (r == -EADDRINUSE)
                ckpt_error_hint(err, "End the program that uses the port (`ss -anp` tells which)");
        return r;
}

static int listen_again(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err) {
        if (listen(fd, (int)isk->backlog) == 0)
                return 0;
        if (errno == EADDRINUSE && set_bool(fd, SOL_SOCKET, SO_REUSEADDR, true) == 0 &&
            listen(fd, (int)isk->backlog) == 0)
                return 0;
        return ckpt_error_errno(err, -errno, "cannot listen again with %s", what);
}

/* How many of its SO_REUSEPORT group are open already. */
static int place_in_group(const struct inet_state *s, const struct inet_file *f) {
        int n = 0;

        for (size_t i = 0; f->isk->n_datagrams > 0 && f->isk->opts->so_reuseport && i < s->n; i++) {
                const Img__InetSk *other = s->v[i].isk;

                n += &s->v[i] != f && s->v[i].fd >= 0 && other->opts->so_reuseport &&
                     other->family == f->isk->family && other->proto == f->isk->proto &&
                     other->src_port == f->isk->src_port && other->n_src_addr == f->isk->n_src_addr &&
                     memcmp(other->src_addr, f->isk->src_addr, other->n_src_addr * 4) == 0;
        }
        return n;
}

/* By state; `f->fd` is new. */
static int open_state(struct restore *r, struct inet_file *f, const char *what, struct ckpt_error *err) {
        const Img__InetSk *isk = f->isk;
        union sock_address peer;
        socklen_t len;
        int rc;

        if (f->closed)
                return 0;
        if (inet_is_connection(isk))
                return inet_conn_open(r, f, what, err);
        rc = bind_it(f->fd, isk, what, err);
        if (rc == 0 && isk->type == SOCK_STREAM)
                return isk->state == TCP_LISTEN ? listen_again(f->fd, isk, what, err) : 0;
        if (rc == 0)
                rc = inet_groups_restore(f->fd, isk, what, err);
        if (rc == 0)
                rc = datagrams_restore(f->fd, isk, place_in_group(inet_state(r), f), what, err);
        if (rc < 0 || isk->state != TCP_ESTABLISHED)
                return rc;
        inet_address(isk, true, &peer, &len);
        return connect(f->fd, &peer.any, len) < 0
                       ? ckpt_error_errno(err, -errno, "cannot connect %s again", what)
                       : 0;
}

static int make_socket(const Img__InetSk *isk, const char *what, int *ret, struct ckpt_error *err) {
        struct sock_kind kind = { (int)isk->family, (int)isk->type, (int)isk->proto };
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (isk->type == SOCK_DGRAM && raw_is_kind(kind.type, kind.protocol)) {
                r = ping_make(isk, &fd);
                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot make %s", what);
                r = sock_give(fd, isk->has_uid && isk->has_gid, isk->uid, isk->gid, what, err);
        } else
                r = sock_make(&kind, isk->has_uid && isk->has_gid, isk->uid, isk->gid, what, &fd, err);
        if (r < 0)
                return r;
        /* Nobody can set that of a raw socket. */
        if (isk->family == AF_INET6 && isk->type != SOCK_RAW && isk->has_v6only &&
            set_bool(fd, IPPROTO_IPV6, IPV6_V6ONLY, isk->v6only) < 0)
                return ckpt_error_errno(err, -errno, "cannot set IPV6_V6ONLY of %s", what);
        *ret = TAKE_FD(fd);
        return 0;
}

/* The buffers have to take the queues, each byte with what it costs the kernel. */
static size_t room_for(const struct inet_file *f) {
        return f->isk->n_datagrams > 0 ? datagrams_room(f->isk)
               : f->stream             ? 4 * (size_t)MAX(f->stream->inq_len, f->stream->outq_len) +
                                     (f->stream->outq_len ? 65536 : 0)
                           : 0;
}

int inet_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        struct inet_file *f = inet_find(r, file->id);
        const Img__InetSk *isk = file->msg->isk;
        struct sock_kind kind = { (int)isk->family, (int)isk->type, (int)isk->proto };
        struct sock_opts opts = { isk->opts, isk->ip_opts, isk->tcp_opts };
        struct sock_defaults *defaults = inet_state(r)->defaults;
        _cleanup_close_ int fd = -EBADF;
        const char *what;
        int rc;

        ckpt_assert(f && f->fd < 0);
        what = inet_file_name(f);
        rc = reuseport_open_earlier(r, f, err);
        if (rc == 0)
                rc = make_socket(isk, what, &f->fd, err);
        if (rc == 0)
                rc = sock_opts_restore(f->fd, &kind, &opts, SOCK_WHEN_BIND, room_for(f), defaults, what,
                                       err);
        if (rc == 0)
                rc = raw_restore(f->fd, isk, what, err);
        if (rc == 0)
                rc = open_state(r, f, what, err);
        if (rc == 0)
                rc = sock_opts_restore(f->fd, &kind, &opts, SOCK_WHEN_OPEN, 0, defaults, what, err);
        if (rc == 0)
                rc = sock_set_flags(f->fd, isk->flags, what, err);
        if (rc < 0)
                return rc;
        fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot keep %s open", what);
        if (isk->type == SOCK_STREAM && !inet_is_connection(isk))
                inet_state(r)->claimed[isk->src_port]--;
        file->fd = TAKE_FD(fd);
        return 0;
}
