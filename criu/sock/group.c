/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Multicast groups of a socket. The kernel lists none, but answers whether a socket has joined a given group; those
 * that can be are the groups that the devices have joined.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "sock/inet.h"

enum { SOURCES_MAX = 512, TEXT_MAX = 4 << 20 };

/*
 * "2\teth0      :     2      V3" heads the groups of a device, a line each:
 * "\t\t\t\tFB0000E0     1 0:00000000\t\t0", the address in the machine's byte order.
 */
int inet_parse_igmp(const char *text, struct inet_group_vec *ret) {
        struct inet_group device = { 0 };

        if (strncmp(text, "Idx", 3) != 0)
                return -EBADMSG;
        for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line, '\n')) {
                struct inet_group *g;

                line++;
                if (line[0] != '\t') {
                        if (sscanf(line, "%d %15s", &device.ifindex, device.ifname) != 2 ||
                            device.ifindex <= 0)
                                return -EBADMSG;
                        device.ifname[strcspn(device.ifname, ":")] = 0;
                        continue;
                }
                if (device.ifindex == 0 || sscanf(line, " %8x", &device.group[0]) != 1)
                        return -EBADMSG;
                g = inet_group_vec_add(ret);
                if (!g)
                        return -ENOMEM;
                *g = device;
        }
        return 0;
}

/* "2    eth0            ff0200000000000000000000000000fb     1 0000000C 0" */
int inet_parse_igmp6(const char *text, struct inet_group_vec *ret) {
        for (const char *line = text; *line;) {
                struct inet_group g = { 0 }, *place;
                char hex[33] = "";

                if (sscanf(line, "%d %15s %32[0-9a-fA-F]", &g.ifindex, g.ifname, hex) != 3 ||
                    g.ifindex <= 0 || strlen(hex) != 32)
                        return -EBADMSG;
                for (size_t i = 0; i < 4; i++) {
                        char word[9] = "";

                        memcpy(word, hex + i * 8, 8);
                        g.group[i] = htonl((uint32_t)strtoul(word, NULL, 16));
                }
                place = inet_group_vec_add(ret);
                if (!place)
                        return -ENOMEM;
                *place = g;
                line += strcspn(line, "\n");
                line += *line == '\n';
        }
        return 0;
}

static int read_groups(const char *path, int (*parse)(const char *, struct inet_group_vec *),
                       struct inet_group_vec *ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (fd < 0) /* no IPv6 */
                return errno == ENOENT ? 0 : -errno;
        r = read_all(fd, TEXT_MAX, &text, &size);
        return r < 0 ? r : parse(text, ret);
}

static void fill_address(struct sockaddr_storage *ret, const uint32_t *a, bool v6) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in in = { .sin_family = AF_INET };

        if (v6) {
                memcpy(&in6.sin6_addr, a, 16);
                memcpy(ret, &in6, sizeof(in6));
        } else {
                in.sin_addr.s_addr = a[0];
                memcpy(ret, &in, sizeof(in));
        }
}

static const uint32_t *address_words(const struct sockaddr_storage *a, bool v6) {
        return v6 ? (const uint32_t *)&((const struct sockaddr_in6 *)a)->sin6_addr
                  : &((const struct sockaddr_in *)a)->sin_addr.s_addr;
}

/* 1: joined, 0: not. */
static int query_group(int fd, bool v6, const struct inet_group *g, struct group_filter *filter,
                       uint32_t room) {
        socklen_t len = (socklen_t)GROUP_FILTER_SIZE(room);

        memset(filter, 0, GROUP_FILTER_SIZE(room));
        filter->gf_interface = (uint32_t)g->ifindex;
        filter->gf_numsrc = room;
        fill_address(&filter->gf_group, g->group, v6);
        if (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, MCAST_MSFILTER, filter, &len) == 0)
                return 1;
        /* Raw IPv6 sockets have none of IPv4. */
        return errno == EADDRNOTAVAIL || errno == EINVAL || errno == ENODEV || errno == ENOPROTOOPT ? 0
                                                                                                    : -errno;
}

static void add_group(Img__InetSk *isk, const struct inet_group *g, bool v6,
                      const struct group_filter *filter, struct arena *arena) {
        Img__SkGroup *msg = arena_message(arena, Img__SkGroup, img__sk_group__init);
        Img__SkGroup **all = arena_new_array(arena, Img__SkGroup *, isk->n_groups + 1);
        size_t words = v6 ? 4 : 1;

        msg->ifname = arena_strdup(arena, g->ifname);
        msg->n_group = words;
        msg->group = arena_copy(arena, g->group, words * 4);
        msg->mode = filter->gf_fmode;
        msg->n_sources = filter->gf_numsrc * words;
        msg->sources = arena_new_array(arena, uint32_t, msg->n_sources + 1);
        for (uint32_t i = 0; i < filter->gf_numsrc; i++)
                memcpy(msg->sources + i * words, address_words(&filter->gf_slist[i], v6), words * 4);
        if (isk->n_groups > 0)
                memcpy(all, isk->groups, isk->n_groups * sizeof(*all));
        all[isk->n_groups++] = msg;
        isk->groups = all;
}

static int dump_family(int fd, Img__InetSk *isk, bool v6, struct arena *arena) {
        _cleanup_(inet_group_vec_done) struct inet_group_vec groups = { 0 };
        _cleanup_free_ struct group_filter *filter = NULL;
        int r;

        r = v6 ? read_groups("/proc/self/net/igmp6", inet_parse_igmp6, &groups)
               : read_groups("/proc/self/net/igmp", inet_parse_igmp, &groups);
        if (r < 0 || groups.n == 0)
                return r;
        filter = malloc(GROUP_FILTER_SIZE(SOURCES_MAX));
        if (!filter)
                return -ENOMEM;
        for (size_t i = 0; i < groups.n; i++) {
                r = query_group(fd, v6, &groups.v[i], filter, SOURCES_MAX);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                if (filter->gf_numsrc > SOURCES_MAX)
                        return -E2BIG;
                add_group(isk, &groups.v[i], v6, filter, arena);
        }
        return 0;
}

/* An IPv6 socket can join groups of both. */
int inet_groups_dump(int fd, Img__InetSk *isk, struct arena *arena, struct ckpt_error *err) {
        int r = 0;

        if (isk->family == AF_INET6)
                r = dump_family(fd, isk, true, arena);
        if (r == 0)
                r = dump_family(fd, isk, false, arena);
        return r < 0 ? ckpt_error_errno(err, r, "cannot read the multicast groups of a socket") : 0;
}

/* ---- restore ---- */

static int join(int fd, const Img__SkGroup *g, bool v6, unsigned int ifindex) {
        struct group_req req = { .gr_interface = ifindex };
        size_t words = v6 ? 4 : 1, n = g->n_sources / words;
        _cleanup_free_ struct group_filter *filter = NULL;
        int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;

        fill_address(&req.gr_group, g->group, v6);
        if (setsockopt(fd, level, MCAST_JOIN_GROUP, &req, sizeof(req)) < 0)
                return -errno;
        if (n == 0 && g->mode == MCAST_EXCLUDE)
                return 0;
        filter = calloc(1, GROUP_FILTER_SIZE(n));
        if (!filter)
                return -ENOMEM;
        filter->gf_interface = ifindex;
        filter->gf_group = req.gr_group;
        filter->gf_fmode = g->mode;
        filter->gf_numsrc = (uint32_t)n;
        for (size_t i = 0; i < n; i++)
                fill_address(&filter->gf_slist[i], g->sources + i * words, v6);
        return setsockopt(fd, level, MCAST_MSFILTER, filter, (socklen_t)GROUP_FILTER_SIZE(n)) < 0 ? -errno
                                                                                                  : 0;
}

const char *inet_groups_check(const Img__InetSk *isk) {
        for (size_t i = 0; i < isk->n_groups; i++) {
                const Img__SkGroup *g = isk->groups[i];

                if ((g->n_group != 1 && !(g->n_group == 4 && isk->family == AF_INET6)) ||
                    g->n_sources % g->n_group != 0 || g->n_sources / g->n_group > SOURCES_MAX ||
                    strlen(g->ifname) >= IF_NAMESIZE)
                        return "has a multicast group that makes no sense";
        }
        return NULL;
}

int inet_groups_restore(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err) {
        for (size_t i = 0; i < isk->n_groups; i++) {
                const Img__SkGroup *g = isk->groups[i];
                bool v6 = g->n_group == 4;
                unsigned int ifindex;
                int r;

                ifindex = if_nametoindex(g->ifname);
                if (ifindex == 0)
                        return ckpt_error(err, -ENODEV,
                                          "%s has joined a multicast group on the device %s, which is not "
                                          "there",
                                          what, g->ifname);
                r = join(fd, g, v6, ifindex);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s cannot join its multicast group on %s again",
                                                what, g->ifname);
        }
        return 0;
}
