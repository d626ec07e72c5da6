/* SPDX-License-Identifier: GPL-2.0-only */
/* What is worth knowing about an open file of each type. A new type is a row here, with its two functions. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "images/core.pb-c.h"
#include "inspect/model.h"
#include "inspect/text.h"
#include "macro.h"

#define PEERS_MAX 4 /* descriptors named as the other end of a pipe */

static void print_size(FILE *out, uint64_t bytes) {
        char text[SIZE_TEXT_MAX];

        fputs(size_text(bytes, text), out);
}

/* --- files with a path ---------------------------------------------------------------------------------- */

static void print_reg(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__RegFile *reg = message;

        print_text(out, reg->name);
        if (reg->has_ext && reg->ext)
                fputs(" (supplied by the caller of restore)", out);
}

static const char *mode_text(uint32_t mode) {
        switch (mode & S_IFMT) {
        case S_IFREG:
                return "regular";
        case S_IFDIR:
                return "directory";
        case S_IFCHR:
                return "character device";
        case S_IFBLK:
                return "block device";
        case S_IFIFO:
                return "fifo";
        case S_IFLNK:
                return "symbolic link";
        case S_IFSOCK:
                return "socket";
        default:
                return NULL;
        }
}

static void json_reg(struct json *j, const void *message) {
        const Img__RegFile *reg = message;

        json_string(j, "path", reg->name);
        json_string(j, "kind", reg->has_mode ? mode_text(reg->mode) : NULL);
        json_optional(j, "mode", reg->has_mode, reg->mode);
        json_optional(j, "size", reg->has_size, reg->size);
        json_int(j, "mount_id", reg->mnt_id);
        json_bool(j, "external", reg->has_ext && reg->ext);
}

/* --- pipes ---------------------------------------------------------------------------------------------- */

static void print_content(FILE *out, const struct pipe_content *content) {
        if (!content || content->bytes == 0)
                return;
        fputs(", ", out);
        print_size(out, content->bytes);
        fputs(" in it", out);
}

/* Whoever has the other ends of a pipe open. */
static void print_peers(FILE *out, const struct inspect *in, const Img__Pipe *pipe) {
        size_t n_ends, left = PEERS_MAX;
        const Img__File *const *ends = inspect_pipe_ends(in, pipe->pipe_id, &n_ends);

        for (size_t i = 0; i < n_ends && i < 2 * PEERS_MAX && left > 0; i++) {
                const struct file_ref *refs;
                size_t n;

                if (ends[i]->pipe == pipe || (ends[i]->pipe->flags & O_ACCMODE) == (pipe->flags & O_ACCMODE))
                        continue;
                refs = inspect_refs(in, ends[i], &n);
                for (size_t k = 0; k < n && left > 0; k++, left--)
                        fprintf(out, "%spid %u fd %u", left == PEERS_MAX ? " <-> " : ", ", refs[k].pid,
                                refs[k].fd);
                if (n > 0 && left == 0)
                        fputs(", ...", out);
        }
}

static void print_pipe(FILE *out, const struct inspect *in, const void *message) {
        const Img__Pipe *pipe = message;
        uint32_t mode = pipe->flags & O_ACCMODE;

        fprintf(out, "pipe %u, %s", pipe->pipe_id,
                mode == O_RDONLY   ? "read end"
                : mode == O_WRONLY ? "write end"
                                   : "both ends");
        if (pipe->flags & O_DIRECT)
                fputs(", packets", out);
        print_content(out, inspect_pipe(&in->pipes, pipe->pipe_id));
        print_peers(out, in, pipe);
}

static void json_pipe(struct json *j, const void *message) {
        json_uint(j, "pipe_id", ((const Img__Pipe *)message)->pipe_id);
}

static void print_fifo(FILE *out, const struct inspect *in, const void *message) {
        const Img__Fifo *fifo = message;

        print_text(out, fifo->has_regf_id ? inspect_path(in, fifo->regf_id) : NULL);
        print_content(out, inspect_pipe(&in->fifos, fifo->pipe_id));
}

static void json_fifo(struct json *j, const void *message) {
        const Img__Fifo *fifo = message;

        json_uint(j, "pipe_id", fifo->pipe_id);
        json_optional(j, "path_file", fifo->has_regf_id, fifo->regf_id);
}

/* --- sockets -------------------------------------------------------------------------------------------- */

struct name {
        unsigned value;
        const char *text;
};

static const struct name socket_types[] = {
        { SOCK_STREAM, "stream" },
        { SOCK_DGRAM, "datagram" },
        { SOCK_RAW, "raw" },
        { SOCK_SEQPACKET, "seqpacket" },
};
static const struct name tcp_states[] = {
        { TCP_ESTABLISHED, "established" },
        { TCP_SYN_SENT, "SYN sent" },
        { TCP_SYN_RECV, "SYN received" },
        { TCP_FIN_WAIT1, "FIN wait 1" },
        { TCP_FIN_WAIT2, "FIN wait 2" },
        { TCP_TIME_WAIT, "time wait" },
        { TCP_CLOSE, "closed" },
        { TCP_CLOSE_WAIT, "close wait" },
        { TCP_LAST_ACK, "last ACK" },
        { TCP_LISTEN, "listening" },
        { TCP_CLOSING, "closing" },
};
static const struct name protocols[] = {
        { IPPROTO_TCP, "TCP" },   { IPPROTO_UDP, "UDP" },       { IPPROTO_UDPLITE, "UDP-Lite" },
        { IPPROTO_ICMP, "ICMP" }, { IPPROTO_ICMPV6, "ICMPv6" }, { IPPROTO_RAW, "raw" },
};

static const char *name_of(const struct name *names, size_t n, unsigned value) {
        for (size_t i = 0; i < n; i++)
                if (names[i].value == value)
                        return names[i].text;
        return "?";
}
#define NAME_OF(names, value) name_of(names, ELEMENTSOF(names), value)

#define ENDPOINT_MAX (INET6_ADDRSTRLEN + 16)

/* "10.0.0.1:80", "[::1]:80", or "*" where nothing is bound. Words are in network byte order, as in memory. */
static const char *endpoint(const uint32_t *words, size_t n, uint32_t port, char buf[ENDPOINT_MAX]) {
        char text[INET6_ADDRSTRLEN] = "*";

        if (n == 1)
                inet_ntop(AF_INET, words, text, sizeof(text));
        else if (n == 4)
                inet_ntop(AF_INET6, words, text, sizeof(text));
        snprintf(buf, ENDPOINT_MAX, n == 4 ? "[%s]:%u" : "%s:%u", text, port);
        return buf;
}

static void print_inet(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__InetSk *sk = message;
        char buf[ENDPOINT_MAX];

        fprintf(out, "%s%s %s", sk->type == SOCK_RAW ? "raw " : "", NAME_OF(protocols, sk->proto),
                endpoint(sk->src_addr, sk->n_src_addr, sk->src_port, buf));
        if (sk->dst_port > 0)
                fprintf(out, " -> %s", endpoint(sk->dst_addr, sk->n_dst_addr, sk->dst_port, buf));
        if (sk->type == SOCK_STREAM)
                fprintf(out, ", %s", NAME_OF(tcp_states, sk->state));
}

static void json_inet(struct json *j, const void *message) {
        const Img__InetSk *sk = message;
        char buf[ENDPOINT_MAX];

        json_string(j, "protocol", NAME_OF(protocols, sk->proto));
        json_string(j, "socket_type", NAME_OF(socket_types, sk->type));
        json_string(j, "state", NAME_OF(tcp_states, sk->state));
        json_string(j, "local", endpoint(sk->src_addr, sk->n_src_addr, sk->src_port, buf));
        json_string(j, "remote",
                    sk->dst_port > 0 ? endpoint(sk->dst_addr, sk->n_dst_addr, sk->dst_port, buf) : NULL);
        json_uint(j, "inode", sk->ino);
}

/* The name without the NUL that ends a path. */
static size_t unix_name_length(const Img__UnixSk *sk) {
        size_t n = sk->name.len;

        return n > 1 && sk->name.data[0] != '\0' && sk->name.data[n - 1] == '\0' ? n - 1 : n;
}

static void print_unix(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__UnixSk *sk = message;
        size_t n = unix_name_length(sk);

        fprintf(out, "%s", NAME_OF(socket_types, sk->type));
        if (n > 0 && sk->name.data[0] == '\0') {
                fputs(" @", out);
                print_bytes(out, sk->name.data + 1, n - 1);
        } else if (n > 0) {
                fputc(' ', out);
                print_bytes(out, sk->name.data, n);
        }
        if (sk->moved_to) {
                fputs(", moved to ", out);
                print_bytes(out, (const uint8_t *)sk->moved_to, strlen(sk->moved_to));
        }
        if (sk->state == TCP_LISTEN)
                fputs(", listening", out);
        if (sk->n_waiting > 0)
                fprintf(out, ", %zu clients wait", sk->n_waiting);
        if (sk->peer)
                fprintf(out, ", inode %u -> %u", sk->ino, sk->peer);
        if (sk->has_closed && sk->closed)
                fputs(", peer closed", out);
        if (sk->has_outside) {
                bool abstract = sk->outside.len > 0 && sk->outside.data[0] == '\0';

                fputs(abstract ? ", outside: @" : ", outside: ", out);
                print_bytes(out, sk->outside.data + abstract, sk->outside.len - (sk->outside.len > 0));
        }
        if (sk->has_deleted && sk->deleted)
                fputs(", deleted", out);
}

static void json_unix(struct json *j, const void *message) {
        const Img__UnixSk *sk = message;
        size_t n = unix_name_length(sk);

        json_string(j, "socket_type", NAME_OF(socket_types, sk->type));
        json_string(j, "state", NAME_OF(tcp_states, sk->state));
        json_bytes(j, "path", n > 0 ? sk->name.data : NULL, n);
        json_bytes(j, "moved_to", sk->moved_to, sk->moved_to ? strlen(sk->moved_to) : 0);
        json_uint(j, "inode", sk->ino);
        json_optional(j, "peer_inode", sk->peer != 0, sk->peer);
        json_bytes(j, "outside", sk->has_outside ? sk->outside.data : NULL, sk->outside.len);
        json_uint(j, "waiting_clients", sk->n_waiting);
        json_bool(j, "peer_closed", sk->has_closed && sk->closed);
        json_bool(j, "deleted", sk->has_deleted && sk->deleted);
}

static const struct name netlink_protocols[] = {
        { NETLINK_ROUTE, "route" },         { NETLINK_USERSOCK, "usersock" },
        { NETLINK_SOCK_DIAG, "sock_diag" }, { NETLINK_XFRM, "xfrm" },
        { NETLINK_AUDIT, "audit" },         { NETLINK_CONNECTOR, "connector" },
        { NETLINK_NETFILTER, "netfilter" }, { NETLINK_KOBJECT_UEVENT, "kobject_uevent" },
        { NETLINK_GENERIC, "generic" },     { NETLINK_CRYPTO, "crypto" },
};

static void print_netlink(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__NetlinkSk *sk = message;
        unsigned int groups = 0;

        for (size_t i = 0; i < sk->n_groups; i++)
                groups += (unsigned int)__builtin_popcount(sk->groups[i]);
        fprintf(out, "%s, port %u", NAME_OF(netlink_protocols, sk->protocol), sk->portid);
        if (groups > 0)
                fprintf(out, ", in %u groups", groups);
        if (sk->dst_portid)
                fprintf(out, " -> port %u", sk->dst_portid);
}

static void json_netlink(struct json *j, const void *message) {
        const Img__NetlinkSk *sk = message;

        json_string(j, "protocol", NAME_OF(netlink_protocols, sk->protocol));
        json_uint(j, "port", sk->portid);
        json_optional(j, "peer_port", sk->dst_portid != 0, sk->dst_portid);
        json_uint(j, "inode", sk->ino);
}

static void print_ring(FILE *out, const char *what, const Img__PacketRing *ring) {
        if (ring)
                fprintf(out, ", a ring of %u frames in %u blocks for %s", ring->frame_nr, ring->block_nr,
                        what);
}

static void print_packet(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__PacketSock *sk = message;

        fprintf(out, "%s, protocol %#06x, ", NAME_OF(socket_types, sk->type), ntohs((uint16_t)sk->protocol));
        if (sk->ifname)
                print_text(out, sk->ifname);
        else if (sk->ifindex)
                fprintf(out, "link %u", sk->ifindex);
        else
                fputs("all links", out);
        print_ring(out, "receiving", sk->rx_ring);
        print_ring(out, "sending", sk->tx_ring);
}

static void json_packet(struct json *j, const void *message) {
        const Img__PacketSock *sk = message;

        json_string(j, "socket_type", NAME_OF(socket_types, sk->type));
        json_uint(j, "protocol", ntohs((uint16_t)sk->protocol));
        json_string(j, "link", sk->ifname);
        json_optional(j, "fanout", sk->has_fanout, sk->fanout);
        json_optional(j, "rx_frames", sk->rx_ring != NULL, sk->rx_ring ? sk->rx_ring->frame_nr : 0);
        json_optional(j, "tx_frames", sk->tx_ring != NULL, sk->tx_ring ? sk->tx_ring->frame_nr : 0);
}

/* --- the others ----------------------------------------------------------------------------------------- */

static void print_eventfd(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        fprintf(out, "counter %" PRIu64, ((const Img__EventfdFile *)message)->counter);
}

static void json_eventfd(struct json *j, const void *message) {
        json_uint(j, "counter", ((const Img__EventfdFile *)message)->counter);
}

static void print_epoll(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        fprintf(out, "%zu descriptors", ((const Img__EventpollFile *)message)->n_tfd);
}

static void json_epoll(struct json *j, const void *message) {
        json_uint(j, "members", ((const Img__EventpollFile *)message)->n_tfd);
}

static void print_tty(FILE *out, const struct inspect *in, const void *message) {
        const Img__TtyFile *tty = message;

        print_text(out, tty->has_regf_id ? inspect_path(in, tty->regf_id) : NULL);
}

static void json_tty(struct json *j, const void *message) {
        const Img__TtyFile *tty = message;

        json_uint(j, "tty_id", tty->tty_info_id);
        json_optional(j, "path_file", tty->has_regf_id, tty->regf_id);
}

static void print_pidfd(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        fprintf(out, "of pid %d", ((const Img__Pidfd *)message)->nspid);
}

static void json_pidfd(struct json *j, const void *message) {
        json_int(j, "pid", ((const Img__Pidfd *)message)->nspid);
}

static void print_timerfd(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        const Img__Timerfd *t = message;

        fprintf(out, "clock %u, %" PRIu64 ".%03" PRIu64 " s left, %" PRIu64 " expirations unread",
                t->clockid, t->vsec, t->vnsec / 1000000, t->ticks);
}

static void json_timerfd(struct json *j, const void *message) {
        const Img__Timerfd *t = message;

        json_uint(j, "clock", t->clockid);
        json_uint(j, "unread_expirations", t->ticks);
}

static void print_tun(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        print_text(out, ((const Img__Tunfile *)message)->netdev);
}

static void json_tun(struct json *j, const void *message) {
        json_string(j, "link", ((const Img__Tunfile *)message)->netdev);
}

static void print_memfd(FILE *out, const struct inspect *in, const void *message) {
        const Img__MemfdFile *memfd = message;

        for (size_t i = 0; i < in->memfds.n; i++) {
                const struct memfd_name *m = &in->memfds.v[i];

                if (m->inode_id != memfd->inode_id)
                        continue;
                print_text(out, m->name);
                fputs(", ", out);
                print_size(out, m->size);
                if (m->seals != 0)
                        fprintf(out, ", seals %#x", m->seals);
                return;
        }
}

static void json_memfd(struct json *j, const void *message) {
        json_uint(j, "memfd", ((const Img__MemfdFile *)message)->inode_id);
        json_uint(j, "offset", ((const Img__MemfdFile *)message)->pos);
}

static void print_ns(FILE *out, const struct inspect *in __attribute__((unused)), const void *message) {
        fprintf(out, "namespace %u", ((const Img__NsFile *)message)->ns_id);
}

static void json_ns(struct json *j, const void *message) {
        json_uint(j, "namespace", ((const Img__NsFile *)message)->ns_id);
}

/* --- the table ------------------------------------------------------------------------------------------ */

#define FILE_KIND(TYPE, text, old_image, message, member, print, json)                 \
        {                                                                              \
                IMG__FD_TYPES__##TYPE, text, old_image, &img__##message##__descriptor, \
                        offsetof(Img__File, member), print, json                       \
        }

static const struct file_kind kinds[] = {
        FILE_KIND(REG, "file", IMAGE_REG_FILES, reg_file, reg, print_reg, json_reg),
        FILE_KIND(PIPE, "pipe", IMAGE_PIPES, pipe, pipe, print_pipe, json_pipe),
        FILE_KIND(FIFO, "fifo", IMAGE_FIFO, fifo, fifo, print_fifo, json_fifo),
        FILE_KIND(INETSK, "inet socket", IMAGE_INETSK, inet_sk, isk, print_inet, json_inet),
        FILE_KIND(UNIXSK, "unix socket", IMAGE_UNIXSK, unix_sk, usk, print_unix, json_unix),
        FILE_KIND(EVENTFD, "eventfd", IMAGE_EVENTFD_FILE, eventfd_file, efd, print_eventfd, json_eventfd),
        FILE_KIND(EVENTPOLL, "epoll", IMAGE_EVENTPOLL_FILE, eventpoll_file, epfd, print_epoll, json_epoll),
        FILE_KIND(INOTIFY, "inotify", IMAGE_INOTIFY_FILE, inotify_file, ify, NULL, NULL),
        FILE_KIND(SIGNALFD, "signalfd", IMAGE_SIGNALFD, signalfd, sgfd, NULL, NULL),
        FILE_KIND(PACKETSK, "packet socket", IMAGE_PACKETSK, packet_sock, psk, print_packet, json_packet),
        FILE_KIND(TTY, "terminal", IMAGE_TTY_FILES, tty_file, tty, print_tty, json_tty),
        FILE_KIND(FANOTIFY, "fanotify", IMAGE_FANOTIFY_FILE, fanotify_file, ffy, NULL, NULL),
        FILE_KIND(NETLINKSK, "netlink socket", IMAGE_NETLINK_SK, netlink_sk, nlsk, print_netlink,
                  json_netlink),
        FILE_KIND(NS, "namespace", IMAGE_NS_FILES, ns_file, nsf, print_ns, json_ns),
        FILE_KIND(TUNF, "tun", IMAGE_TUNFILE, tunfile, tunf, print_tun, json_tun),
        FILE_KIND(EXT, "external", IMAGE_EXT_FILES, ext_file, ext, NULL, NULL),
        FILE_KIND(TIMERFD, "timerfd", IMAGE_TIMERFD, timerfd, tfd, print_timerfd, json_timerfd),
        FILE_KIND(MEMFD, "memfd", IMAGE_KIND_INVALID, memfd_file, memfd, print_memfd, json_memfd),
        FILE_KIND(BPFMAP, "bpf map", IMAGE_KIND_INVALID, bpfmap_file, bpf, NULL, NULL),
        FILE_KIND(PIDFD, "pidfd", IMAGE_KIND_INVALID, pidfd, pidfd, print_pidfd, json_pidfd),
};

const struct file_kind *file_kind_at(size_t i) {
        return i < ELEMENTSOF(kinds) ? &kinds[i] : NULL;
}

const struct file_kind *file_kind(uint32_t type) {
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (kinds[i].type == type)
                        return &kinds[i];
        return NULL;
}

const char *file_type_name(uint32_t type) {
        const struct file_kind *kind = file_kind(type);

        return kind ? kind->name : "unknown";
}

const void *file_message(const Img__File *file) {
        const struct file_kind *kind = file_kind(file->type);
        const void *message = NULL;

        if (kind)
                memcpy(&message, (const char *)file + kind->offset, sizeof(message));
        return message;
}

bool file_number(const Img__File *file, const char *name, uint64_t *ret) {
        const struct file_kind *kind = file_kind(file->type);
        const ProtobufCFieldDescriptor *field =
                kind ? protobuf_c_message_descriptor_get_field_by_name(kind->descriptor, name) : NULL;
        const char *at;
        uint32_t small;

        if (!field || field->label != PROTOBUF_C_LABEL_REQUIRED)
                return false;
        at = (const char *)file_message(file) + field->offset;
        switch (field->type) {
        case PROTOBUF_C_TYPE_UINT32:
                memcpy(&small, at, sizeof(small));
                *ret = small;
                return true;
        case PROTOBUF_C_TYPE_UINT64:
                memcpy(ret, at, sizeof(*ret));
                return true;
        default:
                return false;
        }
}

uint32_t file_id(const Img__File *file) {
        uint64_t id = 0;

        (void)file_number(file, "id", &id);
        return (uint32_t)id;
}

void file_print(FILE *out, const struct inspect *in, const Img__File *file) {
        const struct file_kind *kind = file_kind(file->type);

        if (kind && kind->print)
                kind->print(out, in, file_message(file));
}

void file_json(struct json *j, const Img__File *file) {
        const struct file_kind *kind = file_kind(file->type);

        if (kind && kind->json)
                kind->json(j, file_message(file));
}
