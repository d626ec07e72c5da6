/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "sock/common.h"

enum {
        ICMP_FILTER_NAME = 1,   /* <linux/icmp.h>; at SOL_RAW */
        ICMPV6_FILTER_NAME = 1, /* at IPPROTO_ICMPV6 */
        FILTER_WORDS = 8,
        LIST_MAX = 16 << 20, /* bytes of a file in /proc */
};

static const struct list {
        int family;
        bool ping;
        const char *path;
        uint32_t asked; /* bit in sock_diag_table.asked */
} lists[] = {
        { AF_INET, false, "/proc/net/raw", 1U << 28 },
        { AF_INET6, false, "/proc/net/raw6", 1U << 29 },
        { AF_INET, true, "/proc/net/icmp", 1U << 30 },
        { AF_INET6, true, "/proc/net/icmp6", 1U << 31 },
};

bool raw_is_kind(int type, int protocol) {
        return type == SOCK_RAW ||
               (type == SOCK_DGRAM && (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6));
}

/* Words of 8 digits: numbers whose bytes in memory are the address. */
static bool parse_address(const char *hex, size_t words, uint32_t *ret) {
        if (strlen(hex) != words * 8)
                return false;
        for (size_t i = 0; i < words; i++) {
                char word[9] = "";

                memcpy(word, hex + i * 8, 8);
                ret[i] = (uint32_t)strtoul(word, NULL, 16);
        }
        return true;
}

/*
 * "  12: 0100007F:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 18871424 2 0000 0".
 * The first line is a heading.
 */
int raw_parse_list(const char *text, bool v6, struct sock_diag_vec *ret) {
        const char *line = text + strcspn(text, "\n");

        if (!strstr(text, "local_address") || strstr(text, "local_address") > line)
                return -EBADMSG;
        for (line += *line == '\n'; *line; line += *line == '\n') {
                char local[33] = "", peer[33] = "";
                unsigned int src_port, dst_port, state, ino;
                struct sock_diag s = { .family = v6 ? AF_INET6 : AF_INET };
                size_t words = v6 ? 4 : 1;

                if (sscanf(line,
                           " %*u: %32[0-9A-F]:%4X %32[0-9A-F]:%4X %2X %*8X:%*8X %*2X:%*8X %*8X %*u %*u %u",
                           local, &src_port, peer, &dst_port, &state, &ino) != 6 ||
                    !parse_address(local, words, s.src) || !parse_address(peer, words, s.dst))
                        return -EBADMSG;
                s.src_port = (uint16_t)src_port;
                s.dst_port = (uint16_t)dst_port;
                s.state = (uint8_t)state;
                s.ino = ino;
                if (sock_diag_vec_push(ret, s) < 0)
                        return -ENOMEM;
                line += strcspn(line, "\n");
        }
        return 0;
}

static int read_list(struct sock_diag_table *t, const struct list *list) {
        _cleanup_close_ int fd = open(list->path, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        size_t size, before = t->all.n;
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = read_all(fd, LIST_MAX, &text, &size);
        if (r == 0)
                r = raw_parse_list(text, list->family == AF_INET6, &t->all);
        if (r < 0)
                t->all.n = before;
        return r < 0 ? r : sock_diag_index(t);
}

int raw_query(struct sock_diag_table *t, int family, bool ping, struct ckpt_error *err) {
        const struct list *list = lists;
        int r;

        while (list->family != family || list->ping != ping)
                list++;
        if (t->asked & list->asked)
                return 0;
        r = read_list(t, list);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot list the raw and ping sockets (%s)", list->path);
        t->asked |= list->asked;
        return 0;
}

/* How many sockets route multicast packets in this network namespace. */
static int multicast_routers(bool v6) {
        _cleanup_close_ int fd = open(v6 ? "/proc/sys/net/ipv6/conf/all/mc_forwarding"
                                         : "/proc/sys/net/ipv4/conf/all/mc_forwarding",
                                      O_RDONLY | O_CLOEXEC);
        char text[16] = "";

        return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? atoi(text) : 0;
}

void raw_look(int fd, const char *name, struct blockers *b) {
        bool v6 = sock_option(fd, SO_DOMAIN) == AF_INET6;
        int protocol = sock_option(fd, SO_PROTOCOL);

        if (sock_option(fd, SO_TYPE) != SOCK_RAW || protocol != (v6 ? IPPROTO_ICMPV6 : IPPROTO_IGMP) ||
            multicast_routers(v6) <= 0)
                return;
        blocker_add(
                b, "Stop the routing daemon by its own means",
                "%s is a raw socket of a kind through which multicast packets are routed in this network "
                "namespace, which goes when it is closed",
                name);
}

static bool has_filter(const Img__InetSk *isk, int *ret_level, int *ret_name, socklen_t *ret_size) {
        bool v6 = isk->family == AF_INET6;

        *ret_level = v6 ? IPPROTO_ICMPV6 : SOL_RAW;
        *ret_name = v6 ? ICMPV6_FILTER_NAME : ICMP_FILTER_NAME;
        *ret_size = v6 ? FILTER_WORDS * 4 : 4;
        return isk->type == SOCK_RAW && isk->proto == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

int raw_dump(int fd, struct arena *arena, Img__InetSk *isk) {
        uint32_t words[FILTER_WORDS];
        Img__IpOptsRaw *raw;
        socklen_t size;
        int level, name;

        if (!has_filter(isk, &level, &name, &size))
                return 0;
        if (getsockopt(fd, level, name, words, &size) < 0)
                return -errno;
        raw = arena_message(arena, Img__IpOptsRaw, img__ip_opts_raw__init);
        raw->n_icmpv_filter = size / 4;
        raw->icmpv_filter = arena_copy(arena, words, size);
        isk->ip_opts->raw = raw;
        return 0;
}

int raw_restore(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err) {
        const Img__IpOptsRaw *raw = isk->ip_opts ? isk->ip_opts->raw : NULL;
        socklen_t size;
        int level, name;

        if (!raw || raw->n_icmpv_filter == 0 || !has_filter(isk, &level, &name, &size))
                return 0;
        if (setsockopt(fd, level, name, raw->icmpv_filter, MIN(size, (socklen_t)(raw->n_icmpv_filter * 4))) <
            0)
                return ckpt_error_errno(err, -errno, "%s: cannot set its filter of ICMP types", what);
        return 0;
}

/* Only this thread changes its group; what that takes from the process is its dumpable flag. */
int ping_make(const Img__InetSk *isk, int *ret_fd) {
        const int type = (int)isk->type | SOCK_CLOEXEC, proto = (int)isk->proto;
        _cleanup_close_ int fd = socket((int)isk->family, type, proto);
        int dumpable, r = fd < 0 ? -errno : 0;
        gid_t saved = getegid();

        if (r == -EACCES && isk->has_gid && isk->gid != saved) {
                dumpable = prctl(PR_GET_DUMPABLE);
                if (syscall(SYS_setresgid, -1, isk->gid, -1) < 0)
                        return -errno;
                fd = socket((int)isk->family, type, proto);
                r = fd < 0 ? -errno : 0;
                ckpt_assert(syscall(SYS_setresgid, -1, saved, -1) == 0);
                if (dumpable == 0 || dumpable == 1)
                        prctl(PR_SET_DUMPABLE, dumpable);
        }
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}
