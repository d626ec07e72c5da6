/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/lock.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "proc/stat.h"
#include "sock/nlmsg.h"

static const char prefix[] = "ckpt-";
enum { ID_DIGITS = 16 };

void netlock_new_name(char ret[static NETLOCK_NAME_MAX]) {
        uint64_t id = 0;

        ckpt_assert(getrandom(&id, sizeof(id), 0) == sizeof(id));
        snprintf(ret, NETLOCK_NAME_MAX, "%s%016" PRIx64, prefix, id);
}

bool netlock_name_valid(const char *name) {
        size_t head = sizeof(prefix) - 1;

        return strncmp(name, prefix, head) == 0 && strlen(name) == head + ID_DIGITS &&
               strspn(name + head, "0123456789abcdef") == ID_DIGITS;
}

static bool stat_of(pid_t pid, struct proc_stat *ret) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        return proc_open(pid, &dir) == 0 && proc_stat_read(&dir, &buf, ret) == 0;
}

/* ---- making it ---- */

static void print_elements(FILE *f, const struct sock_tuple *tuples, size_t n, bool v6) {
        const char *type = v6 ? "ipv6_addr" : "ipv4_addr", *before = "  elements = { ";
        char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];

        fprintf(f, " set c%c {\n  type %s . inet_service . %s . inet_service\n", v6 ? '6' : '4', type, type);
        for (size_t i = 0; i < n; i++) {
                if (tuples[i].v6 != v6)
                        continue;
                inet_ntop(v6 ? AF_INET6 : AF_INET, tuples[i].src, src, sizeof(src));
                inet_ntop(v6 ? AF_INET6 : AF_INET, tuples[i].dst, dst, sizeof(dst));
                fprintf(f, "%s%s . %u . %s . %u", before, src, tuples[i].src_port, dst, tuples[i].dst_port);
                before = ",\n   ";
        }
        fputs(before[0] == ',' ? " }\n }\n" : " }\n", f);
}

/*
 * At the input hook addresses are the socket's also where they are translated on the way; at the output hook
 * that is so before the translation (-100). -350: ahead of connection tracking, which so sees nothing.
 */
static void print_chain(FILE *f, const char *name, const char *addr, const char *port, const char *peer_addr,
                        const char *peer_port) {
        fprintf(f, " chain %s {\n  type filter hook %sput priority -350\n  meta mark %#x accept\n", name,
                name, NETLOCK_MARK);
        for (int v6 = 0; v6 < 2; v6++)
                fprintf(f, "  %s %s . tcp %s . %s %s . tcp %s @c%d drop\n", v6 ? "ip6" : "ip", addr, port,
                        v6 ? "ip6" : "ip", peer_addr, peer_port, v6 ? 6 : 4);
        fputs(" }\n", f);
}

static void print_table(FILE *f, const char *name, const struct sock_tuple *tuples, size_t n, bool out_only,
                        const char *note) {
        fprintf(f, "table inet %s {\n comment \"", name);
        for (const char *c = note; *c && c - note < 120; c++)
                fputc(*c < ' ' || *c == '"' || *c == '\\' || *c == 127 ? '_' : *c, f);
        fprintf(f, "\"\n");
        print_elements(f, tuples, n, false);
        print_elements(f, tuples, n, true);
        print_chain(f, "out", "saddr", "sport", "daddr", "dport");
        if (!out_only)
                print_chain(f, "in", "daddr", "dport", "saddr", "sport");
        fputs("}\n", f);
}

/* The functions of libnftables that are used. It is loaded by need, because that takes longer than most dumps. */
struct nft_library {
        void *handle;
        struct nft_ctx *(*ctx_new)(uint32_t flags);
        void (*ctx_free)(struct nft_ctx *ctx);
        int (*buffer_output)(struct nft_ctx *ctx);
        int (*buffer_error)(struct nft_ctx *ctx);
        const char *(*get_error)(struct nft_ctx *ctx);
        int (*run)(struct nft_ctx *ctx, const char *commands);
};

static void nft_unload(struct nft_library *nft) {
        if (nft->handle)
                dlclose(nft->handle);
}

static bool nft_load(struct nft_library *nft) {
        nft->handle = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!nft->handle)
                return false;
#define LOAD(field, symbol) \
        ((nft->field = (__typeof__(&symbol))(uintptr_t)dlsym(nft->handle, #symbol)) != NULL)
        return LOAD(ctx_new, nft_ctx_new) && LOAD(ctx_free, nft_ctx_free) &&
               LOAD(buffer_output, nft_ctx_buffer_output) && LOAD(buffer_error, nft_ctx_buffer_error) &&
               LOAD(get_error, nft_ctx_get_error_buffer) && LOAD(run, nft_run_cmd_from_buffer);
#undef LOAD
}

static int run_nft(const char *commands, struct ckpt_error *err) {
        _cleanup_(nft_unload) struct nft_library nft = { 0 };
        struct nft_ctx *ctx;
        const char *text;
        int r = 0;

        if (!nft_load(&nft))
                return ckpt_error(err, -EOPNOTSUPP,
                                  "cannot lock the network: libnftables.so.1 cannot be loaded");
        ctx = nft.ctx_new(NFT_CTX_DEFAULT);
        if (!ctx)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        nft.buffer_output(ctx);
        nft.buffer_error(ctx);
        if (nft.run(ctx, commands) < 0) {
                text = nft.get_error(ctx);
                r = ckpt_error(err, -EOPNOTSUPP, "cannot lock the network with nftables: %.*s",
                               (int)strcspn(text, "\n"), strncmp(text, "Error: ", 7) == 0 ? text + 7 : text);
                ckpt_error_hint(
                        err,
                        "Use a kernel with nf_tables (`ckpt check` tells), or hold the packets of these "
                        "connections back yourself and use --network-lock skip");
        }
        nft.ctx_free(ctx);
        return r;
}

int netlock_add(const char *name, const struct sock_tuple *tuples, size_t n, bool out_only, const char *note,
                struct ckpt_error *err) {
        _cleanup_free_ char *commands = NULL;
        _cleanup_free_ char *full = NULL;
        struct proc_stat stat;
        size_t size;
        FILE *f;

        ckpt_assert(netlock_name_valid(name));
        if (!stat_of(getpid(), &stat) ||
            asprintf(&full, "%d/%" PRIu64 " %s", getpid(), stat.start_time, note) < 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        f = open_memstream(&commands, &size);
        if (!f)
                return ckpt_error_errno(err, -errno, "cannot lock the network");
        print_table(f, name, tuples, n, out_only, full);
        if (fclose(f) != 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        log_debug("network lock %s for %zu connections", name, n);
        return run_nft(commands, err);
}

int netlock_add_in(const char *name, struct ckpt_error *err) {
        _cleanup_free_ char *commands = NULL;
        size_t size;
        FILE *f = open_memstream(&commands, &size);

        ckpt_assert(netlock_name_valid(name));
        if (!f)
                return ckpt_error_errno(err, -errno, "cannot lock the network");
        fprintf(f, "table inet %s {\n", name);
        print_chain(f, "in", "daddr", "dport", "saddr", "sport");
        fputs("}\n", f);
        if (fclose(f) != 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        return run_nft(commands, err);
}

/* ---- netlink ---- */

int netlock_socket(void) {
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

        return fd < 0 ? -errno : fd;
}

static void *put(char *buf, size_t *at, const void *data, size_t len) {
        char *place = buf + *at;

        ckpt_assert(*at + NLMSG_ALIGN(len) <= NETLOCK_MESSAGE_MAX);
        memset(place, 0, NLMSG_ALIGN(len));
        memcpy(place, data, len);
        *at += NLMSG_ALIGN(len);
        return place;
}

static struct nlmsghdr *put_head(char *buf, size_t *at, uint16_t type, uint16_t flags, uint8_t family,
                                 uint16_t res_id) {
        struct {
                struct nlmsghdr head;
                struct nfgenmsg gen;
        } msg = {
                .head = { .nlmsg_len = sizeof(msg),
                          .nlmsg_type = type,
                          .nlmsg_flags = NLM_F_REQUEST | flags },
                .gen = { .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(res_id) },
        };

        return put(buf, at, &msg, sizeof(msg));
}

static void put_string(char *buf, size_t *at, struct nlmsghdr *head, uint16_t type, const char *text) {
        struct nlattr attr = { .nla_type = type, .nla_len = (uint16_t)(NLA_HDRLEN + strlen(text) + 1) };
        size_t before = *at;

        put(buf, at, &attr, sizeof(attr));
        put(buf, at, text, strlen(text) + 1);
        head->nlmsg_len += (uint32_t)(*at - before);
}

size_t netlock_remove_message(const char *name, char ret[static NETLOCK_MESSAGE_MAX]) {
        struct nlmsghdr *head;
        size_t at = 0;

        put_head(ret, &at, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
        head = put_head(ret, &at, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK, NFPROTO_INET, 0);
        put_string(ret, &at, head, NFTA_TABLE_NAME, name);
        put_head(ret, &at, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
        return at;
}

int netlock_remove(const char *name, struct ckpt_error *err) {
        _cleanup_close_ int fd = netlock_socket();
        char message[NETLOCK_MESSAGE_MAX];
        size_t size;
        int r = fd;

        ckpt_assert(netlock_name_valid(name));
        size = netlock_remove_message(name, message);
        if (fd >= 0)
                r = nl_ask(fd, message, size, NULL, NULL);
        if (r < 0 && r != -ENOENT)
                return ckpt_error_errno(err, r, "cannot remove the network lock (nftables table inet %s)",
                                        name);
        return 0;
}

/* ---- finding ---- */

struct table_seen {
        const char *name; /* NULL: none */
        const uint8_t *userdata;
        size_t userdata_len;
};

static struct table_seen parse_table(const struct nlmsghdr *h) {
        struct nl_attrs attrs =
                nl_attrs(NLMSG_DATA(h), h->nlmsg_len - NLMSG_HDRLEN, sizeof(struct nfgenmsg));
        struct table_seen seen = { 0 };
        struct nl_attr attr;

        while (nl_attrs_next(&attrs, &attr) > 0)
                if (attr.type == NFTA_TABLE_NAME && attr.len > 0 &&
                    ((const char *)attr.data)[attr.len - 1] == 0)
                        seen.name = attr.data;
                else if (attr.type == NFTA_TABLE_USERDATA) {
                        seen.userdata = attr.data;
                        seen.userdata_len = attr.len;
                }
        return seen;
}

/* libnftables keeps the comment as type 0, length, text. "PID/START note". */
static void parse_note(const struct table_seen *seen, struct netlock_found *found) {
        uint64_t start = 0;
        struct proc_stat stat;
        char text[160] = "";
        int pid = 0, used = 0;
        size_t len;

        if (seen->userdata_len < 3 || seen->userdata[0] != 0 || seen->userdata[1] > seen->userdata_len - 2)
                return;
        len = MIN((size_t)seen->userdata[1], sizeof(text) - 1);
        memcpy(text, seen->userdata + 2, len);
        if (sscanf(text, "%9d/%" SCNu64 " %n", &pid, &start, &used) != 2)
                return;
        snprintf(found->note, sizeof(found->note), "%s", text + used);
        if (pid > 0 && stat_of(pid, &stat) && stat.start_time == start && stat.state != 'Z')
                found->owner = pid;
}

static int add_found(const struct nlmsghdr *h, void *arg) {
        struct table_seen seen;
        struct netlock_found *found;

        if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE))
                return 0;
        seen = parse_table(h);
        if (!seen.name || !netlock_name_valid(seen.name))
                return 0;
        found = netlock_found_vec_add(arg);
        if (!found)
                return -ENOMEM;
        snprintf(found->name, sizeof(found->name), "%s", seen.name);
        parse_note(&seen, found);
        return 0;
}

static void begin_again(void *arg) {
        ((struct netlock_found_vec *)arg)->n = 0;
}

int netlock_list(struct netlock_found_vec *ret, struct ckpt_error *err) {
        struct netlock_found_vec all = { 0 };
        char message[NETLOCK_MESSAGE_MAX];
        size_t size = 0;
        int r;

        put_head(message, &size, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_INET, 0);
        r = nl_list(NETLINK_NETFILTER, message, size, add_found, begin_again, &all);
        if (r < 0) {
                netlock_found_vec_done(&all);
                return ckpt_error_errno(err, r, "cannot list the tables of nftables");
        }
        netlock_found_vec_done(ret);
        *ret = all;
        return 0;
}

int netlock_exists(const char *name) {
        _cleanup_(netlock_found_vec_done) struct netlock_found_vec all = { 0 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (netlock_list(&all, &err) < 0)
                return 0;
        for (size_t i = 0; i < all.n; i++)
                if (strcmp(all.v[i].name, name) == 0)
                        return 1;
        return 0;
}
