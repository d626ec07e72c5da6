/* SPDX-License-Identifier: GPL-2.0-only */
/* The network lock as a table of nftables. */
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/lock_backend.h"
#include "sock/nlmsg.h"

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

static void print_in(FILE *f) {
        print_chain(f, "in", "daddr", "dport", "saddr", "sport");
}

enum { OUT_ONLY = 1 << 0, OWNED = 1 << 1 };

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

struct nft_hold {
        struct nft_library nft;
        struct nft_ctx *ctx; /* with the socket that owns the table */
        bool owned;
};

/* The library waits with select(2) for its socket, which gets the lowest number that is free. */
static bool has_low_fd(void) {
        _cleanup_close_ int fd = open("/dev/null", O_PATH | O_CLOEXEC);

        return fd >= 0 && fd < FD_SETSIZE;
}

static int open_nft(struct nft_hold *h, int *spare, struct ckpt_error *err) {
        if (!nft_load(&h->nft))
                return ckpt_error(err, -EOPNOTSUPP,
                                  "cannot lock the network: libnftables.so.1 cannot be loaded");
        if (spare)
                *spare = safe_close(*spare);
        if (!has_low_fd())
                return ckpt_error(
                        err, -EMFILE,
                        "cannot lock the network: libnftables needs a descriptor below %d, and ckpt has "
                        "all of them in use",
                        FD_SETSIZE);
        h->ctx = h->nft.ctx_new(NFT_CTX_DEFAULT);
        if (!h->ctx)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        h->nft.buffer_output(h->ctx);
        h->nft.buffer_error(h->ctx);
        return 0;
}

static int run_nft(struct nft_hold *h, const char *commands, struct ckpt_error *err) {
        const char *text;
        int r;

        if (h->nft.run(h->ctx, commands) >= 0)
                return 0;
        text = h->nft.get_error(h->ctx);
        r = ckpt_error(err, -EOPNOTSUPP, "cannot lock or unlock the network with nftables: %.*s",
                       (int)strcspn(text, "\n"), strncmp(text, "Error: ", 7) == 0 ? text + 7 : text);
        ckpt_error_hint(err,
                        "Use a kernel with nf_tables (`ckpt check` tells), or hold the packets of these "
                        "connections back yourself and use --network-lock skip");
        return r;
}

static void print_note(FILE *f, const char *note) {
        char text[NETLOCK_NOTE_MAX];

        netlock_note_print(note, text);
        fprintf(f, " comment \"%s\"\n", text);
}

/* Commands for one transaction. `replaces`: the name of a table that goes; NULL: none. */
static char *print_table(const char *name, const struct sock_tuple *tuples, size_t n, unsigned int flags,
                         const char *note, const char *replaces) {
        char *commands = NULL;
        size_t size;
        FILE *f = open_memstream(&commands, &size);

        ckpt_assert(f && netlock_name_valid(name));
        if (replaces)
                fprintf(f, "delete table inet %s\n", replaces);
        fprintf(f, "table inet %s {\n%s", name, flags & OWNED ? " flags owner\n" : "");
        print_note(f, note);
        print_elements(f, tuples, n, false);
        print_elements(f, tuples, n, true);
        print_chain(f, "out", "saddr", "sport", "daddr", "dport");
        if (!(flags & OUT_ONLY))
                print_in(f);
        fputs("}\n", f);
        ckpt_assert(fclose(f) == 0);
        return commands;
}

/* The library leaves its socket open across execve, so that an action script could keep it. */
static void close_on_exec(void) {
        _cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
        const struct dirent *entry;

        while (dir && (entry = readdir(dir)) != NULL) {
                int fd = atoi(entry->d_name), domain = 0, protocol = 0;
                socklen_t len = sizeof(int);

                if (entry->d_name[0] != '.' && fcntl(fd, F_GETFD) == 0 &&
                    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
                    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
                    protocol == NETLINK_NETFILTER)
                        fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
}

static void free_nft(void *own) {
        struct nft_hold *h = own;

        if (h->ctx)
                h->nft.ctx_free(h->ctx);
        if (h->nft.handle)
                dlclose(h->nft.handle);
        free(h);
}

static int hold_nft(const char *name, const struct sock_tuple *tuples, size_t n, const char *note,
                    int *spare, void **ret_own, struct ckpt_error *err) {
        _cleanup_free_ char *owned = print_table(name, tuples, n, OUT_ONLY | OWNED, note, NULL);
        _cleanup_free_ char *plain = print_table(name, tuples, n, OUT_ONLY, note, NULL);
        _cleanup_error_ struct ckpt_error refused = CKPT_ERROR_INIT;
        struct nft_hold *h = calloc(1, sizeof(*h));
        int r;

        ckpt_assert(h);
        r = open_nft(h, spare, err);
        if (r == 0) {
                h->owned = run_nft(h, owned, &refused) == 0;
                if (!h->owned)
                        r = run_nft(h, plain, err);
        }
        if (r < 0) {
                free_nft(h);
                return r;
        }
        close_on_exec();
        *ret_own = h;
        return 0;
}

static int hold_in_nft(void *own, const char *name, struct ckpt_error *err) {
        _cleanup_free_ char *commands = NULL;
        struct nft_hold *h = own;
        size_t size;
        FILE *f = open_memstream(&commands, &size);

        ckpt_assert(f);
        fprintf(f, "table inet %s {\n%s", name, h->owned ? " flags owner\n" : "");
        print_in(f);
        fputs("}\n", f);
        ckpt_assert(fclose(f) == 0);
        return run_nft(h, commands, err);
}

static int leave_nft(void *own, const char *held, const char *name, const struct sock_tuple *tuples,
                     size_t n, const char *note, struct ckpt_error *err) {
        _cleanup_free_ char *commands = print_table(name, tuples, n, 0, note, held);

        return run_nft(own, commands, err);
}

static int end_nft(void *own, const char *name, struct ckpt_error *err) {
        char command[NETLOCK_NAME_MAX + 32];

        snprintf(command, sizeof(command), "delete table inet %s\n", name);
        return run_nft(own, command, err);
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

int netlock_nft_remove(int *fd, const char *name, struct ckpt_error *err) {
        char message[NETLOCK_MESSAGE_MAX];
        size_t size = netlock_remove_message(name, message);
        int r;

        if (*fd < 0)
                *fd = netlock_socket();
        r = *fd < 0 ? *fd : nl_ask(*fd, message, size, NULL, NULL);
        if (r < 0 && r != -ENOENT && !netlock_nft_missing(r))
                return ckpt_error_errno(err, r, "cannot remove the network lock (nftables table inet %s)",
                                        name);
        return 0;
}

bool netlock_nft_missing(int r) {
        return r == -EOPNOTSUPP || r == -EPROTONOSUPPORT || r == -EINVAL;
}

bool netlock_nft_works(void) {
        char message[NETLOCK_MESSAGE_MAX];
        size_t size = 0;
        int r;

        put_head(message, &size, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_INET, 0);
        r = nl_list(NETLINK_NETFILTER, message, size, NULL, NULL, NULL);
        return !netlock_nft_missing(r);
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

/* libnftables keeps the comment as type 0, length, text. */
static void parse_comment(const struct table_seen *seen, struct netlock_found *found) {
        char text[NETLOCK_NOTE_MAX] = "";
        size_t len;

        if (seen->userdata_len < 3 || seen->userdata[0] != 0 || seen->userdata[1] > seen->userdata_len - 2)
                return;
        len = MIN((size_t)seen->userdata[1], sizeof(text) - 1);
        memcpy(text, seen->userdata + 2, len);
        netlock_note_parse(text, found);
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
        parse_comment(&seen, found);
        found->nft = true;
        return 0;
}

static void begin_again(void *arg) {
        ((struct netlock_found_vec *)arg)->n = 0;
}

static int list_nft(struct netlock_found_vec *all, struct ckpt_error *err) {
        char message[NETLOCK_MESSAGE_MAX];
        size_t size = 0;
        int r;

        put_head(message, &size, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_INET, 0);
        r = nl_list(NETLINK_NETFILTER, message, size, add_found, begin_again, all);
        if (r < 0 && !netlock_nft_missing(r))
                return ckpt_error_errno(err, r, "cannot list the tables of nftables");
        return 0;
}

const struct netlock_backend netlock_nft = {
        .hold = hold_nft,
        .hold_in = hold_in_nft,
        .leave = leave_nft,
        .end = end_nft,
        .free = free_nft,
        .list = list_nft,
};
