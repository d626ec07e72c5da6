/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * netlink(7) sockets: port, groups, options. What a program has not read yet cannot be put back: the kernel lets
 * nobody else speak in its name.
 */
#include "sock/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/inet.h"
#include "sock/nlmsg.h"

enum {
        CONNECTED = 1,          /* netlink_diag's state */
        GROUP_WORDS_MAX = 2048, /* the kernel has 65536 groups at most */
        LIST_MAX = 1 << 20,     /* bytes of a file in /proc */
        TEXT_MAX = 96,
};

/* Those of whose sockets the kernel keeps nothing but what is read here, or where it can be found out. */
static const struct {
        int protocol;
        const char *name;
} protocols[] = {
        { NETLINK_ROUTE, "ROUTE" },           { NETLINK_USERSOCK, "USERSOCK" },
        { NETLINK_SOCK_DIAG, "SOCK_DIAG" },   { NETLINK_XFRM, "XFRM" },
        { NETLINK_SELINUX, "SELINUX" },       { NETLINK_AUDIT, "AUDIT" },
        { NETLINK_FIB_LOOKUP, "FIB_LOOKUP" }, { NETLINK_CONNECTOR, "CONNECTOR" },
        { NETLINK_NETFILTER, "NETFILTER" },   { NETLINK_KOBJECT_UEVENT, "KOBJECT_UEVENT" },
        { NETLINK_GENERIC, "GENERIC" },       { NETLINK_CRYPTO, "CRYPTO" },
};

static const char *protocol_name(uint32_t protocol) {
        for (size_t i = 0; i < ELEMENTSOF(protocols); i++)
                if ((uint32_t)protocols[i].protocol == protocol)
                        return protocols[i].name;
        return NULL;
}

static void describe(uint32_t protocol, uint32_t portid, char ret[static TEXT_MAX]) {
        const char *name = protocol_name(protocol);

        snprintf(ret, TEXT_MAX, "the netlink socket (NETLINK_%s, port %u)", name ? name : "?", portid);
}

static bool is_known(int domain, int type __attribute__((unused)), int protocol __attribute__((unused))) {
        return domain == AF_NETLINK;
}

static bool netlink_match(struct fd_probe *p) {
        return sock_match(p, is_known);
}

/* ---- all of the network namespace ---- */

DEFINE_VEC(netlink_diag_vec, struct netlink_diag);

struct netlink_table {
        struct netlink_diag_vec all; /* sorted by ino */
};

int netlink_parse_diag(const void *payload, size_t len, struct netlink_diag *ret) {
        struct nl_attrs attrs = nl_attrs(payload, len, sizeof(struct netlink_diag_msg));
        struct netlink_diag_msg msg;
        struct netlink_diag s;
        struct nl_attr attr;
        uint32_t flags;
        int r;

        if (len < sizeof(msg))
                return -EBADMSG;
        memcpy(&msg, payload, sizeof(msg));
        s = (struct netlink_diag){ .ino = msg.ndiag_ino, .state = msg.ndiag_state };
        while ((r = nl_attrs_next(&attrs, &attr)) > 0)
                if (attr.type == NETLINK_DIAG_FLAGS && attr.len >= sizeof(flags)) {
                        memcpy(&flags, attr.data, sizeof(flags));
                        s.listing = flags & NDIAG_FLAG_CB_RUNNING;
                }
        if (r < 0)
                return r;
        *ret = s;
        return 0;
}

static int take_socket(const void *payload, size_t len, void *arg) {
        struct netlink_diag s;
        int r = netlink_parse_diag(payload, len, &s);

        return r < 0 ? r : netlink_diag_vec_push(arg, s);
}

static void begin_again(void *arg) {
        ((struct netlink_diag_vec *)arg)->n = 0;
}

static int compare_ino(const void *a, const void *b) {
        uint32_t x = ((const struct netlink_diag *)a)->ino, y = ((const struct netlink_diag *)b)->ino;

        return (x > y) - (x < y);
}

/* Once for the tree. A kernel without netlink_diag tells nothing. */
static int query(struct netlink_table *t) {
        const struct netlink_diag_req req = {
                .sdiag_family = AF_NETLINK,
                .sdiag_protocol = NDIAG_PROTO_ALL,
                .ndiag_show = NDIAG_SHOW_FLAGS,
        };
        int r = nl_list_sockets(&req, sizeof(req), take_socket, begin_again, &t->all);

        if (r < 0 && r != -ENOENT)
                return r;
        qsort(t->all.v, t->all.n, sizeof(*t->all.v), compare_ino);
        return 0;
}

void netlink_table_free(struct netlink_table **t) {
        if (!*t)
                return;
        netlink_diag_vec_done(&(*t)->all);
        free(*t);
        *t = NULL;
}

static int find_diag(struct dump_socks *s, uint64_t ino, const struct netlink_diag **ret) {
        struct netlink_diag key = { .ino = (uint32_t)ino };
        int r = 0;

        if (!s->netlink) {
                s->netlink = calloc(1, sizeof(*s->netlink));
                ckpt_assert(s->netlink);
                r = query(s->netlink);
        }
        *ret = s->netlink->all.n == 0 ? NULL
                                      : bsearch(&key, s->netlink->all.v, s->netlink->all.n,
                                                sizeof(*s->netlink->all.v), compare_ino);
        return r;
}

/* ---- what the kernel does for the owner of a port ---- */

bool netlink_in_list(const char *text, uint32_t portid) {
        for (const char *line = text; *line;) {
                unsigned int number, port;

                if (sscanf(line, "%u %u", &number, &port) == 2 && port == portid)
                        return true;
                line += strcspn(line, "\n");
                line += *line == '\n';
        }
        return false;
}

static bool listed_in(const char *path, uint32_t portid) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        size_t size;

        return fd >= 0 && read_all(fd, LIST_MAX, &text, &size) == 0 && netlink_in_list(text, portid);
}

struct owned {
        uint32_t portid;
        bool found;
};

static int take_table(const struct nlmsghdr *h, void *arg) {
        struct nl_attrs attrs =
                nl_attrs(NLMSG_DATA(h), h->nlmsg_len - NLMSG_HDRLEN, sizeof(struct nfgenmsg));
        struct owned *owned = arg;
        struct nl_attr attr;
        uint32_t owner;

        while (nl_attrs_next(&attrs, &attr) > 0)
                if (attr.type == NFTA_TABLE_OWNER && attr.len >= sizeof(owner)) {
                        memcpy(&owner, attr.data, sizeof(owner));
                        owned->found |= ntohl(owner) == owned->portid;
                }
        return 0;
}

static bool owns_tables(uint32_t portid) {
        struct owned owned = { .portid = portid };
        struct {
                struct nlmsghdr head;
                struct nfgenmsg gen;
        } msg = {
                .head = { .nlmsg_len = sizeof(msg),
                          .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
                .gen = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 },
        };

        return nl_list(NETLINK_NETFILTER, &msg, sizeof(msg), take_table, NULL, &owned) == 0 && owned.found;
}

static int take_status(const struct nlmsghdr *h, void *arg) {
        struct audit_status status;

        if (h->nlmsg_type != AUDIT_GET ||
            h->nlmsg_len < NLMSG_LENGTH(offsetof(struct audit_status, rate_limit)))
                return 0;
        memset(&status, 0, sizeof(status));
        memcpy(&status, NLMSG_DATA(h), MIN(sizeof(status), h->nlmsg_len - (size_t)NLMSG_HDRLEN));
        *(uint32_t *)arg = status.pid;
        return 0;
}

/* The pid of the audit daemon; 0: there is none. */
static uint32_t audit_daemon(void) {
        struct nlmsghdr msg = { .nlmsg_len = sizeof(msg),
                                .nlmsg_type = AUDIT_GET,
                                .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK };
        uint32_t pid = 0;

        return nl_list(NETLINK_AUDIT, &msg, sizeof(msg), take_status, NULL, &pid) == 0 ? pid : 0;
}

static bool is_in_tree(const struct dump *d, uint32_t pid) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if ((uint32_t)d->tasks[i]->pid == pid)
                        return true;
        return false;
}

static bool has_groups(int fd) {
        uint32_t words[GROUP_WORDS_MAX] = { 0 };
        socklen_t len = sizeof(words);

        if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len) < 0)
                return false;
        for (size_t i = 0; i < GROUP_WORDS_MAX; i++)
                if (words[i])
                        return true;
        return false;
}

/* A phrase: what goes on beyond the socket; NULL: nothing. */
static const char *kernel_state(const struct dump *d, int fd, uint32_t protocol, uint32_t portid) {
        switch (protocol) {
        case NETLINK_NETFILTER:
                return listed_in("/proc/net/netfilter/nfnetlink_queue", portid)
                               ? "through which a queue of packets (NFQUEUE) is served"
                       : listed_in("/proc/net/netfilter/nfnetlink_log", portid)
                               ? "through which logged packets (NFLOG) are read"
                       : owns_tables(portid) ? "that owns tables of nftables, which go when it is closed"
                                             : NULL;
        case NETLINK_CONNECTOR:
                return has_groups(fd) ? "that listens to the kernel's connector (events of processes)"
                                      : NULL;
        case NETLINK_AUDIT:
                return is_in_tree(d, audit_daemon()) ? "of the audit daemon" : NULL;
        default:
                return NULL;
        }
}

/* ---- dump ---- */

static int read_address(int fd, bool peer, struct sockaddr_nl *ret) {
        socklen_t len = sizeof(*ret);

        memset(ret, 0, sizeof(*ret));
        return (peer ? getpeername(fd, (struct sockaddr *)ret, &len)
                     : getsockname(fd, (struct sockaddr *)ret, &len)) < 0
                       ? -errno
                       : 0;
}

static bool has_unread(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0 && p.revents & (POLLIN | POLLERR);
}

static void netlink_look(struct fd_probe *p, struct blockers *b) {
        struct sockaddr_nl a;
        int fd = sock_look_at(p, b);
        uint32_t protocol;
        const char *state;
        char what[TEXT_MAX];

        if (fd < 0)
                return;
        protocol = (uint32_t)sock_option(fd, SO_PROTOCOL);
        if (read_address(fd, false, &a) < 0)
                a.nl_pid = 0;
        describe(protocol, a.nl_pid, what);
        if (!protocol_name(protocol))
                blocker_add(
                        b, "Have the program close it first, or end the program that uses it",
                        "%s is a netlink socket of the protocol %u, for which the kernel may keep more than "
                        "ckpt can see",
                        fd_probe_name(p), protocol);
        else if ((state = kernel_state(p->task->dump, fd, protocol, a.nl_pid)))
                blocker_add(b, "Have the program close it first, or end the program that uses it",
                            "%s is %s %s; that cannot be carried over", fd_probe_name(p), what, state);
        if (has_unread(fd))
                blocker_add(b, "Try again when the program has read it",
                            "%s is %s with messages that nobody has read; they cannot be put back",
                            fd_probe_name(p), what);
        sock_copy_keep(p, fd);
}

static int read_groups(int fd, struct arena *arena, Img__NetlinkSk *nlsk) {
        uint32_t words[GROUP_WORDS_MAX] = { 0 };
        socklen_t len = sizeof(words);
        size_t n = GROUP_WORDS_MAX;

        if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len) < 0)
                return -errno;
        while (n > 0 && words[n - 1] == 0)
                n--;
        nlsk->n_groups = n;
        nlsk->groups = arena_copy(arena, words, n * sizeof(*words));
        return 0;
}

static int read_ends(struct dump *d, int fd, uint64_t ino, Img__NetlinkSk *nlsk, const char *name,
                     struct ckpt_error *err) {
        const struct netlink_diag *diag = NULL;
        struct sockaddr_nl local, peer;
        int r;

        r = read_address(fd, false, &local);
        if (r == 0)
                r = read_address(fd, true, &peer);
        if (r == 0)
                r = find_diag(dump_socks(d), ino, &diag);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read this netlink socket", name);
        if (diag && diag->listing) {
                ckpt_error(
                        err, -ENOTSUP,
                        "%s: the kernel is in the middle of a long answer to it; the tree runs on as before",
                        name);
                ckpt_error_hint(err, "Try again when the program has read it");
                return -ENOTSUP;
        }
        nlsk->portid = local.nl_pid;
        nlsk->dst_portid = peer.nl_pid;
        nlsk->dst_group = peer.nl_groups;
        nlsk->state = diag ? diag->state == CONNECTED : peer.nl_pid || peer.nl_groups;
        return 0;
}

static int netlink_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        Img__NetlinkSk *nlsk = arena_message(arena, Img__NetlinkSk, img__netlink_sk__init);
        const char *name = fd_probe_name(p);
        _cleanup_close_ int fd = sock_copy_take(p);
        struct sock_kind kind = { .domain = AF_NETLINK };
        struct sock_owner owner;
        struct sock_opts opts;
        int r = fd;

        if (r >= 0)
                r = read_groups(fd, arena, nlsk);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read this netlink socket", name);
        kind.type = sock_option(fd, SO_TYPE);
        kind.protocol = sock_option(fd, SO_PROTOCOL);
        r = read_ends(d, fd, p->st.stx_ino, nlsk, name, err);
        if (r == 0)
                r = sock_owner_dump(d, fd, &dump_files(d)->arena, name, &owner, err);
        if (r == 0)
                r = sock_opts_dump(fd, &kind, arena, dump_socks(d)->defaults, NULL, &opts, err);
        if (r < 0)
                return r;
        nlsk->id = file->id;
        nlsk->ino = (uint32_t)p->st.stx_ino;
        nlsk->protocol = (uint32_t)kind.protocol;
        nlsk->flags = fd_probe_flags(p);
        nlsk->fown = owner.fown;
        nlsk->opts = opts.sk;
        nlsk->has_ns_id = nlsk->has_type = nlsk->has_uid = nlsk->has_gid = true;
        nlsk->ns_id = sock_ns_id();
        nlsk->type = (uint32_t)kind.type;
        nlsk->uid = owner.uid;
        nlsk->gid = owner.gid;
        file->msg->nlsk = nlsk;
        return 0;
}

/* ---- restore ---- */

const char *netlink_check(const Img__NetlinkSk *nlsk) {
        struct sock_opts opts = { .sk = nlsk->opts };
        const char *why;

        if (!protocol_name(nlsk->protocol))
                return "is of a protocol that cannot be restored";
        if (nlsk->has_type && nlsk->type != SOCK_RAW && nlsk->type != SOCK_DGRAM)
                return "is of an impossible type";
        if (nlsk->n_groups > GROUP_WORDS_MAX)
                return "has too many groups";
        return sock_opts_check(&opts, &why) < 0 ? why : NULL;
}

static int bind_to(int fd, uint32_t portid) {
        struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = portid };

        return portid != 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

static int netlink_check_file(struct restore *r, struct restore_file *file, struct image_file *image,
                              struct ckpt_error *err) {
        const Img__NetlinkSk *nlsk = file->msg->nlsk;
        const char *why = netlink_check(nlsk);
        _cleanup_close_ int fd = -EBADF;
        const struct sock_kind kind = { AF_NETLINK, nlsk->has_type ? (int)nlsk->type : SOCK_RAW,
                                        (int)nlsk->protocol };
        const struct sock_opts opts = { .sk = nlsk->opts };
        char what[TEXT_MAX];

        if (why)
                return image_damaged(image, err, "the netlink socket with the id %u %s", nlsk->id, why);
        describe(nlsk->protocol, nlsk->portid, what);
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)nlsk->protocol);
        if (fd < 0)
                blocker_add(r->files->blockers, "Use a kernel that has it", "cannot make %s: %s", what,
                            strerror(errno));
        else if (bind_to(fd, nlsk->portid) == -EADDRINUSE)
                blocker_add(r->files->blockers,
                            "End the program that has it (`ss -f netlink -p` tells which)",
                            "the port of %s is in use", what);
        sock_check_machine(r, &kind, &opts, sock_defaults_of(r), what);
        return 0;
}

static int join_groups(int fd, const Img__NetlinkSk *nlsk, const char *what, struct ckpt_error *err) {
        for (size_t i = 0; i < nlsk->n_groups * 32; i++) {
                int group = (int)i + 1;

                if (!(nlsk->groups[i / 32] & 1U << i % 32))
                        continue;
                if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
                        return ckpt_error_errno(err, -errno, "%s: cannot join group %d again", what, group);
        }
        return 0;
}

static int give_ends(int fd, const Img__NetlinkSk *nlsk, const char *what, struct ckpt_error *err) {
        struct sockaddr_nl peer = { .nl_family = AF_NETLINK,
                                    .nl_pid = nlsk->dst_portid,
                                    .nl_groups = nlsk->dst_group };
        int r = bind_to(fd, nlsk->portid);

        if (r < 0)
                return ckpt_error_errno(err, r, "cannot bind %s again", what);
        r = join_groups(fd, nlsk, what, err);
        if (r < 0)
                return r;
        if (nlsk->state == CONNECTED && connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
                return ckpt_error_errno(err, -errno, "cannot connect %s again", what);
        return 0;
}

static int netlink_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__NetlinkSk *nlsk = file->msg->nlsk;
        struct sock_kind kind = { AF_NETLINK, nlsk->has_type ? (int)nlsk->type : SOCK_RAW,
                                  (int)nlsk->protocol };
        struct sock_opts opts = { .sk = nlsk->opts };
        struct sock_defaults *defaults = sock_defaults_of(r);
        _cleanup_close_ int fd = -EBADF;
        char what[TEXT_MAX];
        int rc;

        describe(nlsk->protocol, nlsk->portid, what);
        rc = sock_make(&kind, nlsk->has_uid && nlsk->has_gid, nlsk->uid, nlsk->gid, what, &fd, err);
        if (rc == 0)
                rc = sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_BIND, 0, defaults, what, err);
        if (rc == 0)
                rc = give_ends(fd, nlsk, what, err);
        for (int when = SOCK_WHEN_OPEN; rc == 0 && when < SOCK_WHEN_MAX; when++)
                rc = sock_opts_restore(fd, &kind, &opts, (enum sock_when)when, 0, defaults, what, err);
        if (rc == 0)
                rc = sock_set_flags(fd, nlsk->flags, what, err);
        if (rc == 0)
                file->fd = TAKE_FD(fd);
        return rc;
}

const struct fd_kind fd_kind_netlink = {
        .type = IMG__FD_TYPES__NETLINKSK,
        .name = "netlink socket",
        .match = netlink_match,
        .look = netlink_look,
        .dump = netlink_dump,
        .check = netlink_check_file,
        .open = netlink_open,
        .free = sock_defaults_drop,
};
