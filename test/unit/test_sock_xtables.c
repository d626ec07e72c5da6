/* SPDX-License-Identifier: GPL-2.0-only */
/* Tables of the legacy iptables: what a lock puts in and takes out, and tables that make no sense. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "macro.h"
#include "sock/xtables.h"

#include <linux/netfilter/xt_tcpudp.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#define LOCK  "ckpt-0123456789abcdef"
#define OTHER "ckpt-fedcba9876543210"

/* A table in memory that lasts as long as the test. */
struct made {
        struct ipt_getinfo info;
        uint8_t *entries;
        struct xt_table table;
};

enum { BOTH = 1U << NF_INET_LOCAL_IN | 1U << NF_INET_LOCAL_OUT, ROOM = 1 << 16 };

static uint32_t add_entry(struct made *m, const struct xt_family *f, uint16_t target, const void *data) {
        uint8_t *at = m->entries + m->info.size;
        uint16_t next = (uint16_t)(f->entry + target);

        memcpy(at + f->target, &f->entry, sizeof(next));
        memcpy(at + f->next, &next, sizeof(next));
        memcpy(at + f->entry, data, target);
        m->info.size += next;
        m->info.num_entries++;
        return m->info.size - next;
}

static uint32_t add_verdict(struct made *m, const struct xt_family *f, int verdict) {
        struct xt_standard_target t = { .target.u.target_size = sizeof(t), .verdict = verdict };

        return add_entry(m, f, sizeof(t), &t);
}

static uint32_t add_head(struct made *m, const struct xt_family *f, const char *name) {
        struct xt_error_target t = { .target.u.target_size = sizeof(t) };

        strcpy(t.target.u.user.name, XT_ERROR_TARGET);
        strcpy(t.errorname, name);
        return add_entry(m, f, sizeof(t), &t);
}

/* INPUT: a jump to the chain, a rule without a target, the policy; OUTPUT: the policy; the chain; the end. */
static void make(struct made *m, const struct xt_family *f) {
        uint32_t size = f->entry + sizeof(struct xt_standard_target);

        *m = (struct made){ .info = { .name = "mangle", .valid_hooks = BOTH }, .entries = calloc(1, ROOM) };
        assert_non_null(m->entries);
        m->info.hook_entry[NF_INET_LOCAL_IN] =
                add_verdict(m, f, (int)(4 * size + f->entry + sizeof(struct xt_error_target)));
        add_verdict(m, f, (int)(2 * size));
        m->info.underflow[NF_INET_LOCAL_IN] = add_verdict(m, f, -NF_ACCEPT - 1);
        m->info.hook_entry[NF_INET_LOCAL_OUT] = m->info.underflow[NF_INET_LOCAL_OUT] =
                add_verdict(m, f, -NF_ACCEPT - 1);
        add_head(m, f, "mine");
        add_verdict(m, f, XT_RETURN);
        add_head(m, f, "ERROR");
        m->table = (struct xt_table){ .family = f, .info = &m->info, .entries = m->entries };
}

/* The table after the change. Its room is checked, and freed. */
static int edit(const struct made *m, const struct xt_change *c, struct made *ret, uint32_t *ret_source) {
        size_t size = xt_new_size(&m->table, c), n = xt_new_entries(&m->table, c);
        struct xt_room room = { .map = calloc(1, xt_map_size(&m->table)),
                                .source = calloc(n, sizeof(uint32_t)),
                                .replace = calloc(1, sizeof(struct ipt_replace) + size) };
        int r = xt_edit(&m->table, c, &room);

        if (r == 0) {
                struct ipt_replace *replace = room.replace;

                assert_true(replace->size <= size && replace->num_entries <= n);
                assert_string_equal(replace->name, "mangle");
                assert_int_equal(replace->num_counters, m->info.num_entries);
                *ret = (struct made){ .info = { .name = "mangle",
                                                .valid_hooks = replace->valid_hooks,
                                                .num_entries = replace->num_entries,
                                                .size = replace->size },
                                      .entries = calloc(1, replace->size) };
                memcpy(ret->info.hook_entry, replace->hook_entry, sizeof(replace->hook_entry));
                memcpy(ret->info.underflow, replace->underflow, sizeof(replace->underflow));
                memcpy(ret->entries, replace->entries, replace->size);
                ret->table = (struct xt_table){ .family = m->table.family,
                                                .info = &ret->info,
                                                .entries = ret->entries };
                for (uint32_t i = 0; ret_source && i < replace->num_entries; i++)
                        ret_source[i] = room.source[i];
        }
        free(room.map);
        free(room.source);
        free(room.replace);
        return r;
}

static int count(const char *lock, const char *note, void *arg) {
        assert_string_equal(note, "note");
        ((int *)arg)[strcmp(lock, LOCK) == 0]++;
        return 0;
}

static void check_locks(const struct made *m, int ours, int others) {
        int n[2] = { 0 };

        assert_int_equal(xt_locks(&m->table, count, n), 0);
        assert_int_equal(n[1], ours);
        assert_int_equal(n[0], others);
}

/* What a packet meets: the verdict for one with these ends, which come in. Follows jumps as the kernel does. */
static int verdict(const struct made *m, const struct sock_tuple *t, uint32_t at) {
        const struct xt_family *f = m->table.family;
        int back[8], depth = 0, v;

        for (int steps = 0; steps < 10000; steps++) {
                const uint8_t *e = m->entries + at;
                uint16_t target, next;
                bool matches = true;

                assert_true(at < m->info.size);
                memcpy(&target, e + f->target, sizeof(target));
                memcpy(&next, e + f->next, sizeof(next));
                if (target > f->entry) {
                        const struct xt_entry_match *match = (const void *)(e + f->entry);
                        const struct xt_tcp *tcp = (const void *)match->data;
                        bool any =
                                f->v6 ? ((const struct ip6t_entry *)(const void *)e)->ipv6.smsk.s6_addr[0] ==
                                                0
                                      : ((const struct ipt_entry *)(const void *)e)->ip.smsk.s_addr == 0;

                        matches = strcmp(match->u.user.name, "tcp") == 0 && t->dst_port >= tcp->spts[0] &&
                                  t->dst_port <= tcp->spts[1] && t->src_port >= tcp->dpts[0] &&
                                  t->src_port <= tcp->dpts[1] &&
                                  (any ||
                                   (f->v6 ? memcmp(&((const struct ip6t_entry *)(const void *)e)->ipv6.src,
                                                   t->dst, 16) == 0
                                          : ((const struct ipt_entry *)(const void *)e)->ip.src.s_addr ==
                                                    t->dst[0]));
                }
                if (!matches) {
                        at += next;
                        continue;
                }
                assert_string_equal(
                        ((const struct xt_entry_target *)(const void *)(e + target))->u.user.name, "");
                memcpy(&v, e + target + offsetof(struct xt_standard_target, verdict), sizeof(v));
                if (v == XT_RETURN && depth > 0) {
                        at = (uint32_t)back[--depth];
                } else if (v < 0) {
                        return -v - 1;
                } else {
                        assert_true(depth < 8);
                        if ((uint32_t)v != at + next)
                                back[depth++] = (int)(at + next);
                        at = (uint32_t)v;
                }
        }
        fail_msg("no end");
        return -1;
}

static struct sock_tuple *make_tuples(size_t n, bool v6, bool by_own) {
        struct sock_tuple *t = calloc(n + 1, sizeof(*t));

        assert_non_null(t);
        for (size_t i = 0; i <= n; i++) {
                /* Pairs share a port, so that some do across the end of a bucket. */
                t[i] = (struct sock_tuple){ .v6 = v6,
                                            .src = { 1, 2, 3, 4 },
                                            .dst = { 5 + (uint32_t)(i % 2) } };
                t[i].src_port = by_own ? (uint16_t)(1000 + (i + 1) / 2) : 80;
                t[i].dst_port = by_own ? 80 : (uint16_t)(1000 + (i + 1) / 2);
        }
        return t;
}

static void check_round(const struct xt_family *f, size_t n, bool by_own) {
        struct made before, with, both, without, last;
        struct sock_tuple *t = make_tuples(n, f->v6, by_own);
        struct xt_change add = {
                .add = LOCK, .note = "note", .tuples = t, .n = n, .hooks = BOTH, .by_own_port = by_own
        };
        struct xt_change more = add, swap = { .remove = LOCK };
        uint32_t *source = calloc(2 * n + 1000, sizeof(*source)), kept = 0;

        make(&before, f);
        assert_int_equal(edit(&before, &add, &with, source), 0);
        check_locks(&with, 2, 0);
        for (uint32_t i = 0; i < with.info.num_entries; i++)
                if (source[i] != XT_NEW)
                        assert_int_equal(source[i], kept++);
        assert_int_equal(kept, before.info.num_entries);
        for (size_t i = 0; i <= n; i++)
                assert_int_equal(verdict(&with, &t[i], with.info.hook_entry[NF_INET_LOCAL_IN]),
                                 i < n ? NF_DROP : NF_ACCEPT);
        more.add = OTHER;
        assert_int_equal(edit(&with, &more, &both, NULL), 0);
        check_locks(&both, 2, 2);
        assert_int_equal(edit(&both, &swap, &without, NULL), 0);
        check_locks(&without, 0, 2);
        assert_int_equal(verdict(&without, &t[0], without.info.hook_entry[NF_INET_LOCAL_IN]),
                         n > 0 ? NF_DROP : NF_ACCEPT);
        assert_int_equal(edit(&without, &swap, &last, NULL), 1);
        swap.remove = OTHER;
        assert_int_equal(edit(&without, &swap, &last, NULL), 0);
        /* As it was, to the byte. */
        assert_int_equal(last.info.size, before.info.size);
        assert_memory_equal(last.entries, before.entries, before.info.size);
        assert_memory_equal(last.info.hook_entry, before.info.hook_entry, sizeof(before.info.hook_entry));
        assert_memory_equal(last.info.underflow, before.info.underflow, sizeof(before.info.underflow));
        for (size_t i = 0; i < 5; i++)
                free((struct made *[]){ &before, &with, &both, &without, &last }[i]->entries);
        free(t);
        free(source);
}

static void test_rounds(void **state) {
        static const size_t sizes[] = { 0, 1, XT_BUCKET, XT_BUCKET + 1, 1000 };

        for (size_t f = 0; f < 2; f++)
                for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                        for (int own = 0; own < 2; own++)
                                check_round(&xt_families[f], sizes[i], own);
}

static int see(const char *lock, const char *note, void *arg) {
        assert_true(netlock_name_valid(lock) && strlen(note) < 256);
        ++*(int *)arg;
        return 0;
}

/* Whatever is in the blob: an error, or another blob, and no access beyond it. */
static void test_hostile(void **state) {
        struct xt_change swap = { .remove = LOCK, .add = OTHER, .note = "note", .hooks = BOTH };
        struct made m, with, got;
        uint32_t seed = 1;
        int refused = 0;

        make(&m, &xt_families[0]);
        assert_int_equal(
                edit(&m, &(struct xt_change){ .add = LOCK, .note = "note", .hooks = BOTH }, &with, NULL), 0);
        for (uint32_t at = 0; at < with.info.size; at++)
                for (int k = 0; k < 4; k++) {
                        uint8_t saved = with.entries[at];
                        int r, seen = 0;

                        seed = seed * 1103515245 + 12345;
                        with.entries[at] ^= (uint8_t)(k == 0 ? 0xff : seed >> 16);
                        r = edit(&with, &swap, &got, NULL);
                        assert_true(r == 0 || r == -EBADMSG);
                        refused += r < 0;
                        if (r == 0)
                                free(got.entries);
                        r = xt_locks(&with.table, see, &seen);
                        assert_true((r == 0 && seen <= 2) || r == -EBADMSG);
                        with.entries[at] = saved;
                }
        assert_true(refused > 100);
        for (uint32_t size = 0; size < with.info.size; size += 4) {
                struct ipt_getinfo info = with.info;

                info.size = size;
                with.table.info = &info;
                assert_int_equal(edit(&with, &swap, &got, NULL), -EBADMSG);
        }
        with.table.info = &with.info;
        with.info.valid_hooks = 1U << NF_INET_LOCAL_IN;
        assert_int_equal(edit(&with, &swap, &got, NULL), -EOPNOTSUPP);
        with.info.valid_hooks = BOTH;
        with.info.hook_entry[NF_INET_LOCAL_IN] = 8;
        assert_int_equal(edit(&with, &swap, &got, NULL), -EBADMSG);
        free(with.entries);
        free(m.entries);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rounds),
                cmocka_unit_test(test_hostile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
