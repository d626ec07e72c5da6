/* SPDX-License-Identifier: GPL-2.0-only */
/* How tasks get into their sessions and process groups. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/options.h"
#include "restore/stages.h"

struct fixture {
        struct restore r;
        struct ckpt_options opts;
        struct ckpt_error err;
};

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        ckpt_options_init(&f->opts);
        f->r.opts = &f->opts;
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        load_free(&f->r);
        ckpt_options_done(&f->opts);
        ckpt_error_clear(&f->err);
        free(f);
        return 0;
}

static struct restore_task *add(struct fixture *f, pid_t pid, pid_t ppid, pid_t sid, pid_t pgid) {
        struct restore_task *t = calloc(1, sizeof(*t));

        f->r.tasks = reallocarray(f->r.tasks, f->r.nr_tasks + 1, sizeof(t));
        *t = (struct restore_task){
                .restore = &f->r, .pid = pid, .sid = sid, .pgid = pgid, .nr_threads = 1
        };
        t->threads = calloc(1, sizeof(*t->threads));
        t->threads[0].tid = pid;
        t->parent = ppid ? restore_find_task(&f->r, ppid) : NULL;
        f->r.tasks[f->r.nr_tasks++] = t;
        return t;
}

static size_t helpers(const struct fixture *f) {
        size_t n = 0;

        for (size_t i = 0; i < f->r.nr_tasks; i++)
                n += f->r.tasks[i]->kind == RESTORE_TASK_HELPER;
        return n;
}

static void test_one_session(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add(f, 100, 0, 100, 100), *child = add(f, 101, 100, 100, 100);

        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(root->step, TREE_STEP_AFTER);
        assert_int_equal(root->born_sid, getsid(0));
        assert_int_equal(child->step, TREE_STEP_AFTER);
        assert_ptr_equal(child->donor, root);
        assert_int_equal(helpers(f), 0);
}

static void test_child_older_than_session(void **state) {
        struct fixture *f = *state;
        struct restore_task *leader, *older, *younger;

        add(f, 100, 0, 100, 100);
        leader = add(f, 101, 100, 101, 101);
        older = add(f, 102, 101, 100, 100);
        younger = add(f, 103, 101, 101, 101);
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(leader->born_sid, 100);
        assert_int_equal(older->step, TREE_STEP_BEFORE);
        assert_int_equal(younger->step, TREE_STEP_AFTER);
        assert_int_equal(helpers(f), 0);
}

/* Older children two generations deep: both leaders are born into the session of the oldest. */
static void test_older_below_older(void **state) {
        struct fixture *f = *state;
        struct restore_task *upper, *lower, *oldest;

        add(f, 100, 0, 100, 100);
        upper = add(f, 101, 100, 101, 101);
        lower = add(f, 102, 101, 102, 102);
        oldest = add(f, 103, 102, 100, 100);
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(oldest->step, TREE_STEP_BEFORE);
        assert_int_equal(lower->step, TREE_STEP_BEFORE);
        assert_int_equal(upper->step, TREE_STEP_AFTER);
        assert_int_equal(helpers(f), 0);
}

static void test_orphan_of_living_session(void **state) {
        struct fixture *f = *state;
        struct restore_task *root, *leader, *orphan;

        root = add(f, 100, 0, 100, 100);
        leader = add(f, 101, 100, 101, 101);
        orphan = add(f, 102, 100, 101, 101);
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(orphan->step, TREE_STEP_VIA);
        assert_ptr_equal(orphan->parent, root);
        assert_ptr_equal(orphan->donor, leader);
        assert_ptr_equal(orphan->via->parent, leader);
        assert_int_equal(orphan->via->sid, 101);
        assert_true(orphan->via->pid > 102);
        assert_int_equal(helpers(f), 1);
}

static void test_dead_session_leader(void **state) {
        struct fixture *f = *state;
        struct restore_task *root, *a, *b;

        root = add(f, 100, 0, 100, 100);
        a = add(f, 102, 100, 90, 90);
        b = add(f, 103, 100, 90, 103);
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(a->step, TREE_STEP_BESIDE);
        assert_int_equal(b->step, TREE_STEP_BESIDE);
        assert_ptr_equal(a->via, b->via);
        assert_int_equal(a->via->pid, 90);
        assert_int_equal(a->via->sid, 90);
        assert_ptr_equal(a->via->parent, root);
        assert_ptr_equal(a->donor, root);
        assert_int_equal(helpers(f), 1);
}

/* A daemon: the session leader that forked it is gone. */
static void test_root_of_dead_session(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add(f, 100, 0, 90, 90), *child = add(f, 101, 100, 90, 90);

        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(root->step, TREE_STEP_BESIDE);
        assert_int_equal(root->via->pid, 90);
        assert_null(root->via->parent);
        assert_null(root->donor);
        assert_int_equal(child->step, TREE_STEP_AFTER);
}

static void test_dead_group_leader(void **state) {
        struct fixture *f = *state;
        struct restore_task *member, *group = NULL;

        add(f, 100, 0, 100, 100);
        member = add(f, 102, 100, 100, 95);
        add(f, 103, 100, 100, 95);
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(helpers(f), 1);
        group = restore_find_task(&f->r, 95);
        assert_non_null(group);
        assert_ptr_equal(group->parent, member);
        assert_int_equal(group->sid, 100);
        assert_int_equal(group->pgid, 95);
}

static void test_shell_job(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add(f, 100, 0, 50, 60), *child = add(f, 101, 100, 50, 101);

        f->opts.shell_job = true;
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        assert_int_equal(root->sid, getsid(0));
        assert_int_equal(root->pgid, getpgid(0));
        assert_int_equal(root->step, TREE_STEP_AFTER);
        assert_int_equal(child->sid, getsid(0));
        assert_int_equal(child->pgid, 101);
        assert_int_equal(helpers(f), 0);
}

/* Nobody below its parent ever was in that session: only the images of a liar say so. */
static void test_unreachable_session(void **state) {
        struct fixture *f = *state;

        add(f, 100, 0, 100, 100);
        add(f, 101, 100, 101, 101);
        add(f, 102, 100, 102, 102);
        add(f, 103, 102, 101, 101);
        assert_int_not_equal(plan_tree(&f->r, &f->err), 0);
        assert_true(ckpt_error_is_set(&f->err));
}

/* ---- sharing ---- */

static struct restore_task *add_sharer(struct fixture *f, pid_t pid, pid_t ppid, uint32_t files,
                                       uint32_t fs) {
        struct restore_task *t = add(f, pid, ppid, 100, 100);

        t->ids = calloc(1, sizeof(*t->ids));
        img__task_kobj_ids__init(t->ids);
        t->ids->files_id = files;
        t->ids->fs_id = fs;
        return t;
}

static int plan(struct fixture *f) {
        assert_int_equal(plan_tree(&f->r, &f->err), 0);
        return plan_sharing(&f->r, &f->err);
}

static const struct restore_sharing *files_of(const struct restore_task *t) {
        return &t->share[RESTORE_SHARE_FILES];
}

static void test_nothing_shared(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add_sharer(f, 100, 0, 1, 1), *child = add_sharer(f, 101, 100, 2, 2);

        assert_int_equal(plan(f), 0);
        assert_int_equal(files_of(root)->own, 0);
        assert_int_equal(files_of(child)->born, 0);
        assert_false(files_of(root)->unshares_last);
}

static void test_shared_with_parent(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add_sharer(f, 100, 0, 1, 1), *child = add_sharer(f, 101, 100, 1, 2),
                            *other = add_sharer(f, 102, 100, 3, 1);

        assert_int_equal(plan(f), 0);
        assert_int_equal(files_of(child)->born, 1);
        assert_int_equal(child->share[RESTORE_SHARE_FS].born, 0);
        assert_int_equal(files_of(other)->born, 0);
        assert_int_equal(other->share[RESTORE_SHARE_FS].born, 1);
        assert_false(files_of(root)->unshares_last || root->share[RESTORE_SHARE_FS].unshares_last);
}

/* Two groups of siblings, and one that shares with the parent: it is cloned last, after two unshares. */
static void test_shared_by_siblings(void **state) {
        struct fixture *f = *state;
        struct restore_task *root = add_sharer(f, 100, 0, 1, 1), *own = add_sharer(f, 101, 100, 1, 2),
                            *a = add_sharer(f, 102, 100, 5, 3), *b = add_sharer(f, 103, 100, 6, 4),
                            *c = add_sharer(f, 104, 100, 5, 5), *d = add_sharer(f, 105, 100, 6, 6);

        assert_int_equal(plan(f), 0);
        assert_true(a->clone_rank == 0 && c->clone_rank == 1 && b->clone_rank == 2 && d->clone_rank == 3);
        assert_int_equal(own->clone_rank, 4);
        assert_true(!files_of(a)->cloner_unshares && !files_of(c)->cloner_unshares);
        assert_true(files_of(b)->cloner_unshares && !files_of(d)->cloner_unshares);
        assert_true(files_of(own)->cloner_unshares && !files_of(root)->unshares_last);
}

/* A grandparent shares with its grandchild: what is between carries it and leaves it. */
static void test_shared_across(void **state) {
        struct fixture *f = *state;
        struct restore_task *between, *grandchild;

        add_sharer(f, 100, 0, 1, 1);
        between = add_sharer(f, 101, 100, 2, 2);
        grandchild = add_sharer(f, 102, 101, 1, 3);
        assert_int_equal(plan(f), 0);
        assert_int_equal(files_of(between)->born, 1);
        assert_true(files_of(between)->unshares_last);
        assert_int_equal(files_of(grandchild)->born, 1);
}

/* Two tables would have to come through one birth. */
static void test_shared_impossibly(void **state) {
        struct fixture *f = *state;

        add_sharer(f, 100, 0, 1, 1);
        add_sharer(f, 101, 100, 2, 2);
        add_sharer(f, 102, 101, 2, 3);
        add_sharer(f, 103, 102, 1, 4);
        assert_int_equal(plan(f), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&f->err), "no order of clones"));
}

/* It has its parent's table, so it cannot have had another one for its children. */
static void test_shared_below_sharer(void **state) {
        struct fixture *f = *state;

        add_sharer(f, 100, 0, 1, 1);
        add_sharer(f, 101, 100, 1, 2);
        add_sharer(f, 102, 101, 2, 3);
        add_sharer(f, 103, 101, 2, 4);
        assert_int_equal(plan(f), -ENOTSUP);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_one_session),         TEST(test_child_older_than_session),
                TEST(test_older_below_older),   TEST(test_orphan_of_living_session),
                TEST(test_dead_session_leader), TEST(test_root_of_dead_session),
                TEST(test_dead_group_leader),   TEST(test_shell_job),
                TEST(test_unreachable_session), TEST(test_nothing_shared),
                TEST(test_shared_with_parent),  TEST(test_shared_by_siblings),
                TEST(test_shared_across),       TEST(test_shared_impossibly),
                TEST(test_shared_below_sharer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
