/* SPDX-License-Identifier: GPL-2.0-only */
/* Placing received descriptors into a table: every plan is carried out on a model of a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fd/plan.h"
#include "macro.h"

enum { TABLE = 4096, NOTHING = -1 };

struct model {
        int file[TABLE];
        bool cloexec[TABLE];
};

static void carry_out(const struct fd_plan *plan, struct model *m) {
        for (int i = 0; i < TABLE; i++) {
                m->file[i] = i < (int)plan->nr_send ? (int)plan->send[i] : NOTHING;
                m->cloexec[i] = false;
        }
        for (size_t i = 0; i < plan->nr_ops; i++) {
                const struct plan_op *op = &plan->ops[i];

                assert_in_range(op->from, 0, TABLE - 1);
                assert_in_range(op->to, 0, TABLE - 1);
                switch (op->kind) {
                case PLAN_DUP:
                        assert_int_not_equal(op->from, op->to); /* dup3 refuses that */
                        assert_int_not_equal(m->file[op->from], NOTHING);
                        m->file[op->to] = m->file[op->from];
                        m->cloexec[op->to] = op->cloexec;
                        break;
                case PLAN_CLOSE:
                        assert_true(op->from <= op->to);
                        for (int fd = op->from; fd <= op->to; fd++)
                                m->file[fd] = NOTHING;
                        break;
                case PLAN_CLOEXEC:
                        assert_true(op->from <= op->to);
                        for (int fd = op->from; fd <= op->to; fd++)
                                m->cloexec[fd] = true;
                        break;
                }
        }
}

static struct fd_plan check(const struct plan_slot *slots, size_t n, uint32_t nr_files,
                            struct arena *arena) {
        static struct model m;
        struct fd_plan plan;
        size_t next = 0;

        fd_plan_make(slots, n, nr_files, arena, &plan);
        assert_true(plan.nr_send <= 2 * n);
        assert_true(plan.nr_ops <= 3 * n + 1);
        carry_out(&plan, &m);
        for (int fd = 0; fd < TABLE; fd++) {
                if (next == n || slots[next].fd != fd) {
                        assert_int_equal(m.file[fd], NOTHING);
                        continue;
                }
                assert_int_equal(m.file[fd], slots[next].file);
                assert_int_equal(m.cloexec[fd], slots[next].cloexec);
                next++;
        }
        return plan;
}

static void test_empty(void **state) {
        struct arena arena = { 0 };
        const struct plan_slot none[1] = { 0 };
        struct fd_plan plan = check(none, 0, 0, &arena);

        (void)state;
        assert_int_equal(plan.nr_send + plan.nr_ops, 0);
        arena_done(&arena);
}

/* Without holes nothing is left to do, and one operation sets close-on-exec for a run. */
static void test_dense(void **state) {
        struct plan_slot slots[1000];
        struct arena arena = { 0 };
        struct fd_plan plan;

        (void)state;
        for (int i = 0; i < 1000; i++)
                slots[i] = (struct plan_slot){ i, false, (uint32_t)i };
        plan = check(slots, 1000, 1000, &arena);
        assert_int_equal(plan.nr_send, 1000);
        assert_int_equal(plan.nr_ops, 0);
        for (int i = 100; i < 900; i++)
                slots[i].cloexec = true;
        plan = check(slots, 1000, 1000, &arena);
        assert_int_equal(plan.nr_ops, 1);
        arena_done(&arena);
}

/* 0 closed, a thousand behind it: one filler, one close. */
static void test_hole_at_start(void **state) {
        struct plan_slot slots[1000];
        struct arena arena = { 0 };
        struct fd_plan plan;

        (void)state;
        for (int i = 0; i < 1000; i++)
                slots[i] = (struct plan_slot){ i + 1, false, (uint32_t)i };
        plan = check(slots, 1000, 1000, &arena);
        assert_int_equal(plan.nr_send, 1001);
        assert_int_equal(plan.nr_ops, 1);
        arena_done(&arena);
}

static void test_far_out(void **state) {
        const struct plan_slot slots[] = {
                { 0, false, 0 }, { 1, true, 1 },     { 2, false, 1 },    { 3, true, 0 },
                { 50, true, 2 }, { 1000, false, 3 }, { 1001, false, 2 }, { 4095, true, 0 },
        };
        const struct plan_slot one[] = { { 4000, true, 0 } };
        /* Targets that are places where others are received. */
        const struct plan_slot near[] = {
                { 20, false, 0 }, { 21, true, 0 }, { 22, false, 1 }, { 23, false, 2 }
        };
        struct arena arena = { 0 };

        (void)state;
        check(slots, ELEMENTSOF(slots), 4, &arena);
        check(one, 1, 1, &arena);
        check(near, ELEMENTSOF(near), 3, &arena);
        arena_done(&arena);
}

static uint32_t random_state = 12345;

static uint32_t next_random(uint32_t below) {
        random_state = random_state * 1664525 + 1013904223;
        return (random_state >> 8) % below;
}

static void test_random(void **state) {
        (void)state;
        for (int round = 0; round < 3000; round++) {
                uint32_t density = 1 + next_random(100),
                         limit = 1 + next_random(round % 10 == 0 ? TABLE : 200);
                uint32_t nr_files = 1 + next_random(40), start = next_random(30);
                struct plan_slot slots[TABLE];
                struct arena arena = { 0 };
                size_t n = 0;

                for (uint32_t fd = start; fd < limit; fd++)
                        if (next_random(100) < density) {
                                slots[n] = (struct plan_slot){ (int)fd, next_random(3) == 0,
                                                               next_random(nr_files) };
                                n++;
                        }
                check(slots, n, nr_files, &arena);
                arena_done(&arena);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_empty),         cmocka_unit_test(test_dense),
                cmocka_unit_test(test_hole_at_start), cmocka_unit_test(test_far_out),
                cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
