/* SPDX-License-Identifier: GPL-2.0-only */
/* Several visits at the same time: of processes with one memory, and a step of each in turn. */
#include "test_compel.h"

/* Two processes with one memory. */
static int spin_for_good(void *arg) {
        for (;;)
                __builtin_ia32_pause();
        return 0;
}

static void share_memory(struct shared *sh) {
        static char stack[16384] __attribute__((aligned(16)));

        set(sh->pid, clone(spin_for_good, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL));
        set(sh->ready, 1);
        for (;;)
                pause();
}

struct sharers {
        struct target t;
        struct stopped a, b;
};

static void sharers_start(struct sharers *s) {
        s->t = target_start(share_memory);
        assert_eventually(get(s->t.sh->ready));
        assert_int_equal(stop_all(&s->a, s->t.pid), 0);
        assert_int_equal(stop_all(&s->b, s->t.sh->pid), 0);
}

static void sharers_end(struct sharers *s) {
        let_go(&s->a);
        let_go(&s->b);
        kill(s->t.sh->pid, SIGKILL);
        target_end(&s->t);
}

/* The second is not entered over the first. */
static void one_visit_per_memory(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct compel_visit *va = NULL, *vb = NULL;
        static struct sharers s;

        sharers_start(&s);
        assert_int_equal(enter(&s.a, &va, &err), 0);
        assert_int_equal(enter(&s.b, &vb, &err), -EAGAIN);
        assert_null(vb);
        assert_false(ckpt_error_is_set(&err));
        assert_int_equal(compel_visit_end(va, &err), 0);
        assert_int_equal(enter(&s.b, &vb, &err), 0);
        assert_int_equal(compel_visit_end(vb, &err), 0);
        compel_visit_free(&va);
        compel_visit_free(&vb);
        sharers_end(&s);
}

/* ... nor while it is on its way in, when nothing is mapped yet. */
static void one_start_per_memory(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct compel_visit *va = NULL, *vb = NULL;
        static struct sharers s;

        sharers_start(&s);
        assert_int_equal(compel_visit_start(NULL, s.a.thread, s.a.n, &va, &err), 1);
        assert_int_equal(compel_visit_start(NULL, s.b.thread, s.b.n, &vb, &err), -EBUSY);
        assert_null(vb);
        assert_false(ckpt_error_is_set(&err));
        compel_visit_free(&va);
        assert_int_equal(compel_visit_start(NULL, s.b.thread, s.b.n, &vb, &err), 1);
        compel_visit_free(&vb);
        sharers_end(&s);
}

/* ---- side by side -------------------------------------------------------------------------- */

enum { SIDE_BY_SIDE = 5 };

struct side {
        struct target t;
        struct stopped stopped;
        struct compel_visit *v;
        struct snapshot before;
};

/* One step of each, until nobody has any more. */
static void take_steps(struct side *sides, struct ckpt_error *err) {
        for (bool going = true; going;) {
                going = false;
                for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                        int r = compel_visit_go(sides[i].v, err);

                        if (r < 0)
                                fail_msg("%s", ckpt_error_message(err));
                        going |= r > 0;
                }
        }
}

/* `steps`: how many are taken of the visit before it is freed; more than there are: all. */
static void visit_side_by_side(unsigned int steps) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        static struct side sides[SIDE_BY_SIDE];

        for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                struct side *s = &sides[i];

                s->t = target_start(i % 2 ? beat : beat_without_calls);
                assert_true(lives(&s->t));
                snapshot_take(s->t.pid, &s->before);
                assert_int_equal(stop_all(&s->stopped, s->t.pid), 0);
                assert_int_equal(compel_visit_start(NULL, s->stopped.thread, 1, &s->v, &err), 1);
        }
        for (size_t i = 0; steps <= 2 && i < steps * SIDE_BY_SIDE; i++)
                assert_true(compel_visit_go(sides[i % SIDE_BY_SIDE].v, &err) >= 0);
        if (steps > 2) {
                take_steps(sides, &err);
                for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                        compel_call(compel_visit_batch(sides[i].v), "get its pid", SYS_getpid);
                        assert_int_equal(compel_visit_run_start(sides[i].v, &err), 1);
                }
        }
        if (steps > 3) {
                take_steps(sides, &err);
                for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                        assert_int_equal(compel_visit_batch(sides[i].v)->ops[0].ret, sides[i].t.pid);
                        assert_int_equal(compel_visit_end_start(sides[i].v, &err), 1);
                }
        }
        if (steps > 4)
                take_steps(sides, &err);
        for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                compel_visit_free(&sides[i].v);
                let_go(&sides[i].stopped);
                assert_true(snapshot_holds(sides[i].t.pid, &sides[i].before));
                assert_true(lives(&sides[i].t));
                target_end(&sides[i].t);
        }
}

static void side_by_side(void **state) {
        for (unsigned int steps = 0; steps <= 5; steps++)
                visit_side_by_side(steps);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_visit_per_memory),
                cmocka_unit_test(one_start_per_memory),
                cmocka_unit_test(side_by_side),
        };

        return cmocka_run_group_tests_name("compel: several", tests, NULL, NULL);
}
