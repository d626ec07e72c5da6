/* SPDX-License-Identifier: GPL-2.0-only */
/* Who belongs to a tree. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dump/model.h"

/* A child that lives until it is killed; with `ret_child` it has one as well. */
static pid_t start_child(pid_t *ret_child) {
        int report[2];
        pid_t pid;

        assert_int_equal(pipe(report), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                pid_t child = 0;

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (ret_child)
                        child = fork();
                alarm(60); /* should the test fail */
                if (child > 0 || !ret_child)
                        (void)!write(report[1], &child, sizeof(child));
                for (;;)
                        pause();
        }
        close(report[1]);
        if (ret_child)
                assert_int_equal(read(report[0], ret_child, sizeof(*ret_child)), sizeof(*ret_child));
        close(report[0]);
        return pid;
}

static void end_child(pid_t pid) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_below(void **state) {
        struct dump_task root = { 0 }, *tasks[] = { &root };
        const struct dump d = { .tasks = tasks, .nr_tasks = 1 };
        pid_t grandchild, stranger = start_child(NULL);

        root.pid = start_child(&grandchild);
        assert_true(dump_is_below(&d, root.pid));
        assert_true(dump_is_below(&d, grandchild));
        assert_false(dump_is_below(&d, stranger));
        assert_false(dump_is_below(&d, getpid()));
        assert_false(dump_is_below(&d, 1));
        assert_false(dump_is_below(&d, 0));

        /* Gone, and nobody's problem. */
        end_child(stranger);
        assert_true(dump_is_below(&d, stranger));

        /* Its parent's parent is somebody else now. */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        end_child(root.pid);
        assert_false(dump_is_below(&d, grandchild));
        end_child(grandchild);
        prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_below) };

        return cmocka_run_group_tests_name("dump_tree", tests, NULL, NULL);
}
