/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/xtables.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>
#include <sys/socket.h>

#include "macro.h"

/* The options have the same numbers in both. */
_Static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO && IPT_SO_GET_ENTRIES == IP6T_SO_GET_ENTRIES &&
                       IPT_SO_SET_REPLACE == IP6T_SO_SET_REPLACE &&
                       IPT_SO_SET_ADD_COUNTERS == IP6T_SO_SET_ADD_COUNTERS,
               "socket options of ip_tables and ip6_tables");
_Static_assert(sizeof(struct ipt_replace) == sizeof(struct ip6t_replace) &&
                       sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo),
               "arguments of ip_tables and ip6_tables");

const struct xt_family xt_families[2] = {
        { .v6 = false,
          .domain = AF_INET,
          .level = IPPROTO_IP,
          .list = "/proc/thread-self/net/ip_tables_names",
          .entry = sizeof(struct ipt_entry),
          .target = offsetof(struct ipt_entry, target_offset),
          .next = offsetof(struct ipt_entry, next_offset) },
        { .v6 = true,
          .domain = AF_INET6,
          .level = IPPROTO_IPV6,
          .list = "/proc/thread-self/net/ip6_tables_names",
          .entry = sizeof(struct ip6t_entry),
          .target = offsetof(struct ip6t_entry, target_offset),
          .next = offsetof(struct ip6t_entry, next_offset) },
};

enum {
        STANDARD = XT_ALIGN(sizeof(struct xt_standard_target)),
        HEAD = XT_ALIGN(sizeof(struct xt_error_target)),
        TCP = XT_ALIGN(sizeof(struct xt_entry_match) + sizeof(struct xt_tcp)),
        MARK = XT_ALIGN(sizeof(struct xt_entry_match) + sizeof(struct xt_mark_mtinfo1)),
        COMMENT = XT_ALIGN(sizeof(struct xt_entry_match) + sizeof(struct xt_comment_info)),
        DROP = -NF_DROP - 1,
        LOCK_NAME = 21, /* ckpt- and 16 digits */
};

static const unsigned int lock_hooks[] = { NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT };

/* ---- reading ---- */

/* An entry within the bounds of its table. */
struct entry {
        const uint8_t *at;
        uint32_t offset, size, target;
};

static const struct xt_entry_target *target_of(const struct entry *e) {
        return (const struct xt_entry_target *)(const void *)(e->at + e->target);
}

/* 1: *ret is the entry at this offset; 0: that is the end; -EBADMSG. */
static int entry_at(const struct xt_table *t, uint32_t offset, struct entry *ret) {
        struct entry e = { .at = t->entries + offset, .offset = offset };
        uint32_t left = t->info->size - offset;
        uint16_t target, next;

        if (left == 0)
                return 0;
        if (left < t->family->entry + sizeof(struct xt_entry_target))
                return -EBADMSG;
        memcpy(&target, e.at + t->family->target, sizeof(target));
        memcpy(&next, e.at + t->family->next, sizeof(next));
        if (next > left || next % 8 != 0 || target % 8 != 0 || target < t->family->entry ||
            target + sizeof(struct xt_entry_target) > next ||
            target_of(&(struct entry){ .at = e.at, .target = target })->u.target_size > next - target)
                return -EBADMSG;
        e.size = next;
        e.target = target;
        *ret = e;
        return 1;
}

static bool target_is(const struct entry *e, const char *name, size_t size) {
        const struct xt_entry_target *target = target_of(e);

        return target->u.target_size >= size &&
               strncmp(target->u.user.name, name, sizeof(target->u.user.name)) == 0;
}

/* The name of the chain that begins here, in a field of XT_FUNCTION_MAXNAMELEN bytes. NULL: none begins. */
static const char *chain_head(const struct entry *e) {
        return target_is(e, XT_ERROR_TARGET, sizeof(struct xt_error_target))
                       ? ((const struct xt_error_target *)(const void *)target_of(e))->errorname
                       : NULL;
}

/* Where it jumps, which is not where it would have gone anyway. -1: it does not. */
static int64_t jump_of(const struct entry *e) {
        int verdict = -1;

        if (target_is(e, XT_STANDARD_TARGET, sizeof(struct xt_standard_target)))
                memcpy(&verdict, e->at + e->target + offsetof(struct xt_standard_target, verdict),
                       sizeof(verdict));
        return verdict < 0 ? -1 : verdict;
}

static bool is_chain_of(const char *head, const char *lock) {
        return strnlen(head, XT_FUNCTION_MAXNAMELEN) > LOCK_NAME && memcmp(head, lock, LOCK_NAME) == 0 &&
               head[LOCK_NAME] == '-';
}

static bool has_hook(const struct xt_table *t, unsigned int hook) {
        return (t->info->valid_hooks & 1U << hook) != 0;
}

static bool begins_hook(const struct xt_table *t, uint32_t offset) {
        for (unsigned int i = 0; i < NF_INET_NUMHOOKS; i++)
                if (has_hook(t, i) && t->info->hook_entry[i] == offset)
                        return true;
        return false;
}

static bool is_last(const struct xt_table *t, const struct entry *e) {
        return e->offset + e->size == t->info->size;
}

static int take_lock(const struct xt_table *t, const struct entry *rule, const char *head, xt_take *take,
                     void *arg) {
        const struct xt_entry_match *match;
        char name[NETLOCK_NAME_MAX] = "", note[XT_MAX_COMMENT_LEN] = "";

        memcpy(name, head, LOCK_NAME);
        if (!netlock_name_valid(name))
                return 0;
        for (uint32_t at = t->family->entry; rule->target - at >= sizeof(*match);
             at += match->u.match_size) {
                match = (const struct xt_entry_match *)(const void *)(rule->at + at);
                if (match->u.match_size < sizeof(*match) || match->u.match_size % 8 != 0 ||
                    match->u.match_size > rule->target - at)
                        return -EBADMSG;
                if (match->u.match_size == COMMENT &&
                    strncmp(match->u.user.name, "comment", sizeof(match->u.user.name)) == 0)
                        memcpy(note, match->data, sizeof(note) - 1);
        }
        return take(name, note, arg);
}

int xt_locks(const struct xt_table *t, xt_take *take, void *arg) {
        const char *head = NULL;
        struct entry e;
        int r;

        for (uint32_t at = 0; (r = entry_at(t, at, &e)) > 0; at += e.size) {
                if (head) {
                        r = take_lock(t, &e, head, take, arg);
                        if (r != 0)
                                return r;
                }
                head = chain_head(&e);
                if (head &&
                    (strnlen(head, XT_FUNCTION_MAXNAMELEN) >= XT_FUNCTION_MAXNAMELEN ||
                     strlen(head) < LOCK_NAME ||
                     (strcmp(head + LOCK_NAME, "-in") != 0 && strcmp(head + LOCK_NAME, "-out") != 0)))
                        head = NULL;
        }
        return r;
}

/* ---- sizes ---- */

static size_t n_buckets(const struct xt_change *c) {
        return c->n > XT_BUCKET ? (c->n + XT_BUCKET - 1) / XT_BUCKET : 0;
}

static size_t rule_size(const struct xt_family *f) {
        return f->entry + TCP + STANDARD;
}

static size_t jump_size(const struct xt_family *f) {
        return f->entry + STANDARD;
}

static size_t bucket_size(const struct xt_family *f, size_t rules) {
        return f->entry + HEAD + rules * rule_size(f) + jump_size(f);
}

/* All chains of one hook. */
static size_t chains_size(const struct xt_family *f, const struct xt_change *c) {
        size_t buckets = n_buckets(c);

        return f->entry + HEAD + (f->entry + MARK + COMMENT + STANDARD) + (c->n + buckets) * rule_size(f) +
               jump_size(f) + buckets * bucket_size(f, 0);
}

static size_t n_hooks(const struct xt_change *c) {
        return c->add ? (size_t)__builtin_popcount(c->hooks) : 0;
}

size_t xt_map_size(const struct xt_table *t) {
        return (t->info->size / 8 + 1) * sizeof(uint32_t);
}

size_t xt_new_size(const struct xt_table *t, const struct xt_change *c) {
        return t->info->size + n_hooks(c) * (jump_size(t->family) + chains_size(t->family, c));
}

size_t xt_new_entries(const struct xt_table *t, const struct xt_change *c) {
        return t->info->num_entries + n_hooks(c) * (4 + c->n + 3 * n_buckets(c));
}

/* ---- writing ---- */

struct writer {
        const struct xt_table *t;
        const struct xt_change *c;
        struct ipt_replace *replace;
        uint32_t *source;
};

static uint8_t *entry_put(struct writer *w, size_t matches, size_t target) {
        const struct xt_family *f = w->t->family;
        uint16_t target_at = (uint16_t)(f->entry + matches), size = (uint16_t)(target_at + target);
        uint8_t *e = (uint8_t *)w->replace->entries + w->replace->size;
        struct xt_entry_target head = { .u.user.target_size = (uint16_t)target };

        memset(e, 0, size);
        memcpy(e + f->target, &target_at, sizeof(target_at));
        memcpy(e + f->next, &size, sizeof(size));
        memcpy(e + target_at, &head, sizeof(head));
        w->source[w->replace->num_entries++] = XT_NEW;
        w->replace->size += size;
        return e;
}

static void set_verdict(const struct xt_family *f, uint8_t *e, int verdict) {
        uint16_t target;

        memcpy(&target, e + f->target, sizeof(target));
        memcpy(e + target + offsetof(struct xt_standard_target, verdict), &verdict, sizeof(verdict));
}

static void put_rule_without_matches(struct writer *w, int verdict) {
        set_verdict(w->t->family, entry_put(w, 0, STANDARD), verdict);
}

static size_t put_match(uint8_t *at, size_t size, const char *name, uint8_t revision, const void *data,
                        size_t len) {
        struct xt_entry_match head = { .u.user.match_size = (uint16_t)size, .u.user.revision = revision };

        memcpy(head.u.user.name, name, strlen(name));
        memcpy(at, &head, sizeof(head));
        memcpy(at + sizeof(head), data, len);
        return size;
}

/* ckpt's own packets go through. The note stands here, too. */
static void put_mark(struct writer *w) {
        uint8_t *e = entry_put(w, MARK + COMMENT, STANDARD), *at = e + w->t->family->entry;
        struct xt_mark_mtinfo1 mark = { .mark = NETLOCK_MARK, .mask = UINT32_MAX };

        at += put_match(at, MARK, "mark", 1, &mark, sizeof(mark));
        put_match(at, COMMENT, "comment", 0, w->c->note, MIN(strlen(w->c->note), XT_MAX_COMMENT_LEN - 1U));
        set_verdict(w->t->family, e, XT_RETURN);
}

/* As number `bucket` if that is not negative. */
static void put_head(struct writer *w, unsigned int hook, int bucket) {
        uint8_t *e = entry_put(w, 0, HEAD);
        struct xt_error_target *head = (struct xt_error_target *)(void *)(e + w->t->family->entry);
        char *name = head->errorname + LOCK_NAME;

        memcpy(head->target.u.user.name, XT_ERROR_TARGET, sizeof(XT_ERROR_TARGET));
        memcpy(head->errorname, w->c->add, LOCK_NAME);
        if (bucket < 0) {
                memcpy(name, hook == NF_INET_LOCAL_IN ? "-in" : "-out", hook == NF_INET_LOCAL_IN ? 3 : 4);
                return;
        }
        *name++ = '-';
        *name++ = hook == NF_INET_LOCAL_IN ? 'i' : 'o';
        for (int i = 4; i >= 0; i--, bucket /= 10)
                name[i] = (char)('0' + bucket % 10);
}

static void set_addresses(const struct xt_family *f, uint8_t *e, const uint32_t *src, const uint32_t *dst) {
        if (!f->v6) {
                struct ipt_ip *ip = &((struct ipt_entry *)(void *)e)->ip;

                memcpy(&ip->src, src, sizeof(ip->src));
                memcpy(&ip->dst, dst, sizeof(ip->dst));
                memset(&ip->smsk, 0xff, sizeof(ip->smsk));
                memset(&ip->dmsk, 0xff, sizeof(ip->dmsk));
        } else {
                struct ip6t_ip6 *ip = &((struct ip6t_entry *)(void *)e)->ipv6;

                memcpy(&ip->src, src, sizeof(ip->src));
                memcpy(&ip->dst, dst, sizeof(ip->dst));
                memset(&ip->smsk, 0xff, sizeof(ip->smsk));
                memset(&ip->dmsk, 0xff, sizeof(ip->dmsk));
        }
}

static void set_tcp(const struct xt_family *f, uint8_t *e) {
        if (!f->v6) {
                ((struct ipt_entry *)(void *)e)->ip.proto = IPPROTO_TCP;
        } else {
                ((struct ip6t_entry *)(void *)e)->ipv6.proto = IPPROTO_TCP;
                ((struct ip6t_entry *)(void *)e)->ipv6.flags = IP6T_F_PROTO;
        }
}

/* A rule for packets of TCP with these ports. */
static uint8_t *put_ports(struct writer *w, const uint16_t src[2], const uint16_t dst[2], int verdict) {
        const struct xt_family *f = w->t->family;
        struct xt_tcp tcp = { .spts = { src[0], src[1] }, .dpts = { dst[0], dst[1] } };
        uint8_t *e = entry_put(w, TCP, STANDARD);

        put_match(e + f->entry, TCP, "tcp", 0, &tcp, sizeof(tcp));
        set_tcp(f, e);
        set_verdict(f, e, verdict);
        return e;
}

static void put_drop(struct writer *w, unsigned int hook, const struct sock_tuple *t) {
        const uint16_t own[2] = { t->src_port, t->src_port }, peer[2] = { t->dst_port, t->dst_port };

        if (hook == NF_INET_LOCAL_IN)
                set_addresses(w->t->family, put_ports(w, peer, own, DROP), t->dst, t->src);
        else
                set_addresses(w->t->family, put_ports(w, own, peer, DROP), t->src, t->dst);
}

/* Those of one bucket share ports with the next one at most at its end; who finds nothing in the one comes to the next. */
static void put_jump(struct writer *w, unsigned int hook, const struct sock_tuple *first,
                     const struct sock_tuple *last, uint32_t to) {
        static const uint16_t any[2] = { 0, UINT16_MAX };
        uint16_t range[2];

        range[0] = w->c->by_own_port ? first->src_port : first->dst_port;
        range[1] = w->c->by_own_port ? last->src_port : last->dst_port;
        if ((hook == NF_INET_LOCAL_OUT) == w->c->by_own_port)
                put_ports(w, range, any, (int)to);
        else
                put_ports(w, any, range, (int)to);
}

static void put_chains(struct writer *w, unsigned int hook) {
        const struct xt_family *f = w->t->family;
        const struct xt_change *c = w->c;
        size_t buckets = n_buckets(c), to;

        put_head(w, hook, -1);
        put_mark(w);
        for (size_t i = 0; buckets == 0 && i < c->n; i++)
                put_drop(w, hook, &c->tuples[i]);
        to = w->replace->size + buckets * rule_size(f) + jump_size(f) + f->entry + HEAD;
        for (size_t i = 0; i < buckets; i++, to += bucket_size(f, XT_BUCKET))
                put_jump(w, hook, &c->tuples[i * XT_BUCKET], &c->tuples[MIN((i + 1) * XT_BUCKET, c->n) - 1],
                         (uint32_t)to);
        put_rule_without_matches(w, XT_RETURN);
        for (size_t i = 0; i < buckets; i++) {
                put_head(w, hook, (int)i);
                for (size_t k = i * XT_BUCKET; k < c->n && k < (i + 1) * XT_BUCKET; k++)
                        put_drop(w, hook, &c->tuples[k]);
                put_rule_without_matches(w, XT_RETURN);
        }
}

/* ---- the change ---- */

/* What the map says of the entry at an offset / 8: its new place, or the one of the next that stays. */
#define CHAIN_GONE 0x80000000U
#define JUMP_GONE  0x40000000U
#define PLACE      (~(CHAIN_GONE | JUMP_GONE))
#define NOTHING    UINT32_MAX

static bool adds(const struct xt_table *t, const struct xt_change *c, unsigned int hook, uint32_t offset) {
        return c->add && (c->hooks & 1U << hook) && t->info->hook_entry[hook] == offset;
}

/* The chains that go. Counts the entries, and finds the end. */
static int mark_chains(const struct xt_table *t, const struct xt_change *c, uint32_t *map, bool *ret_any) {
        bool ours = false, any = false;
        struct entry e = { 0 };
        uint32_t n = 0;
        int r;

        memset(map, 0xff, xt_map_size(t));
        for (uint32_t at = 0; (r = entry_at(t, at, &e)) > 0; at += e.size, n++) {
                const char *head = chain_head(&e);

                if (head)
                        ours = c->remove && is_chain_of(head, c->remove);
                if (begins_hook(t, at) || is_last(t, &e))
                        ours = false;
                map[at / 8] = ours ? CHAIN_GONE : 0;
                any = any || ours;
        }
        if (r < 0 || n == 0 || n != t->info->num_entries || !chain_head(&e))
                return -EBADMSG;
        *ret_any = any;
        return 0;
}

/* Where everything comes to be. */
static int make_map(const struct xt_table *t, const struct xt_change *c, uint32_t *map) {
        uint32_t place = 0;
        struct entry e;

        for (uint32_t at = 0; entry_at(t, at, &e) > 0; at += e.size) {
                int64_t jump = jump_of(&e);
                uint32_t gone = map[at / 8];

                if (jump >= t->info->size || jump % 8 > 0 || (jump >= 0 && map[jump / 8] == NOTHING))
                        return -EBADMSG;
                /* One to where it would go anyway is a rule without a target. */
                if (jump >= 0 && jump != at + e.size && (map[jump / 8] & CHAIN_GONE))
                        gone |= JUMP_GONE;
                for (size_t i = 0; i < ELEMENTSOF(lock_hooks); i++)
                        if (adds(t, c, lock_hooks[i], at))
                                place += (uint32_t)jump_size(t->family);
                if (is_last(t, &e))
                        place += (uint32_t)(n_hooks(c) * chains_size(t->family, c));
                map[at / 8] = place | gone;
                place += gone ? 0 : e.size;
        }
        return 0;
}

static void keep_entry(struct writer *w, const struct entry *e, uint32_t number, const uint32_t *map) {
        uint8_t *to = (uint8_t *)w->replace->entries + w->replace->size;
        int64_t jump = jump_of(e);

        memcpy(to, e->at, e->size);
        if (jump >= 0)
                set_verdict(w->t->family, to, (int)(map[jump / 8] & PLACE));
        w->source[w->replace->num_entries++] = number;
        w->replace->size += e->size;
}

/* Where the chain for a hook begins, its head not counted. The new chains lie before the last entry, at `place`. */
static uint32_t chain_start(const struct xt_table *t, const struct xt_change *c, unsigned int hook,
                            uint32_t place) {
        size_t size = chains_size(t->family, c), before = place - n_hooks(c) * size;

        if (hook == NF_INET_LOCAL_OUT && (c->hooks & 1U << NF_INET_LOCAL_IN))
                before += size;
        return (uint32_t)(before + t->family->entry + HEAD);
}

static void put_all(struct writer *w, const uint32_t *map, uint32_t last) {
        uint32_t number = 0;
        struct entry e;

        for (uint32_t at = 0; entry_at(w->t, at, &e) > 0; at += e.size, number++) {
                for (size_t i = 0; i < ELEMENTSOF(lock_hooks); i++) {
                        unsigned int hook = lock_hooks[i];

                        if (adds(w->t, w->c, hook, at)) {
                                w->replace->hook_entry[hook] = w->replace->size;
                                put_rule_without_matches(
                                        w, (int)chain_start(w->t, w->c, hook, map[last / 8] & PLACE));
                        }
                        if (at == last && w->c->add && (w->c->hooks & 1U << hook))
                                put_chains(w, hook);
                }
                if (!(map[at / 8] & ~PLACE))
                        keep_entry(w, &e, number, map);
        }
}

static int check_hooks(const struct xt_table *t, const struct xt_change *c, const uint32_t *map) {
        for (unsigned int i = 0; i < NF_INET_NUMHOOKS; i++) {
                uint32_t entry = t->info->hook_entry[i], end = t->info->underflow[i];

                if (!has_hook(t, i)) {
                        if (c->add && (c->hooks & 1U << i))
                                return -EOPNOTSUPP;
                        continue;
                }
                if (entry >= t->info->size || entry % 8 != 0 || map[entry / 8] == NOTHING ||
                    end >= t->info->size || end % 8 != 0 || map[end / 8] == NOTHING)
                        return -EBADMSG;
        }
        return 0;
}

int xt_edit(const struct xt_table *t, const struct xt_change *c, const struct xt_room *room) {
        struct writer w = { .t = t, .c = c, .replace = room->replace, .source = room->source };
        uint32_t last = 0;
        bool any = false;
        struct entry e;
        int r;

        r = mark_chains(t, c, room->map, &any);
        if (r == 0)
                r = check_hooks(t, c, room->map);
        if (r == 0 && !any && !c->add)
                return 1;
        if (r == 0)
                r = make_map(t, c, room->map);
        if (r < 0)
                return r;
        for (uint32_t at = 0; entry_at(t, at, &e) > 0; at += e.size)
                last = at;
        *w.replace = (struct ipt_replace){ .valid_hooks = t->info->valid_hooks,
                                           .num_counters = t->info->num_entries };
        memcpy(w.replace->name, t->info->name, sizeof(w.replace->name));
        for (unsigned int i = 0; i < NF_INET_NUMHOOKS; i++)
                if (has_hook(t, i)) {
                        w.replace->hook_entry[i] = room->map[t->info->hook_entry[i] / 8] & PLACE;
                        w.replace->underflow[i] = room->map[t->info->underflow[i] / 8] & PLACE;
                }
        put_all(&w, room->map, last);
        return 0;
}
