/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "macro.h"

static void set(const char *env) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        assert_int_equal(fault_init(env, &err), 0);
        assert_false(ckpt_error_is_set(&err));
}

static void refused(const char *env, const char *part) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        assert_int_equal(fault_init(env, &err), -EINVAL);
        assert_non_null(strstr(ckpt_error_message(&err), part));
        /* Nothing is armed, not even the good half of a list. */
        for (enum fault f = 0; f < FAULT_MAX; f++)
                assert_int_equal(fault_point(f), 0);
}

static void test_unset(void **state __attribute__((unused))) {
        set(NULL);
        set("");
        for (enum fault f = 0; f < FAULT_MAX; f++)
                assert_int_equal(fault_point(f), 0);
}

static void test_every(void **state __attribute__((unused))) {
        set("dump-look:*=fail");
        for (int i = 0; i < 3; i++)
                assert_int_equal(fault_point(FAULT_DUMP_LOOK), -EIO);
        assert_int_equal(fault_point(FAULT_DUMP_FROZEN), 0);
        refused("dump-look:**=fail", "passage");
}

static void test_list(void **state __attribute__((unused))) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0, lines = 0;
        FILE *f;

        assert_int_equal(fault_init("list", NULL), 1);
        assert_int_equal(fault_point(FAULT_DUMP_LOOK), 0);

        f = open_memstream(&text, &size);
        assert_non_null(f);
        fault_list(f);
        fclose(f);
        for (char *s = text, *end; (end = strchr(s, '\n')); s = end + 1, lines++) {
                char *tab = strchr(s, '\t');

                assert_true(tab && tab < end && tab > s && tab + 1 < end);
                assert_int_equal(strncmp(s, fault_name((enum fault)lines), (size_t)(tab - s)), 0);
        }
        assert_int_equal(lines, FAULT_MAX);
}

static void test_names_are_unique(void **state __attribute__((unused))) {
        for (enum fault a = 0; a < FAULT_MAX; a++)
                for (enum fault b = 0; b < a; b++)
                        assert_string_not_equal(fault_name(a), fault_name(b));
}

static void test_every_name(void **state __attribute__((unused))) {
        for (enum fault f = 0; f < FAULT_MAX; f++) {
                char env[128];

                snprintf(env, sizeof(env), "%s=fail", fault_name(f));
                set(env);
                for (enum fault g = 0; g < FAULT_MAX; g++)
                        assert_int_equal(fault_point(g), g == f ? -EIO : 0);
        }
}

static void test_passages(void **state __attribute__((unused))) {
        set("dump-write-image:3=enospc");
        for (int i = 1; i < 6; i++)
                assert_int_equal(fault_point(FAULT_DUMP_WRITE_IMAGE), i == 3 ? -ENOSPC : 0);

        set("dump-look:2=fail,dump-look=enospc,restore-tree:1=fail");
        assert_int_equal(fault_point(FAULT_DUMP_LOOK), -ENOSPC);
        assert_int_equal(fault_point(FAULT_DUMP_LOOK), -EIO);
        assert_int_equal(fault_point(FAULT_DUMP_LOOK), 0);
        assert_int_equal(fault_point(FAULT_RESTORE_TREE), -EIO);
        set(NULL);
}

static void test_error(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        set("dump-memory=again");
        assert_int_equal(fault_point(FAULT_DUMP_MEMORY), -EAGAIN);
        set("dump-memory=enospc");
        assert_int_equal(fault_point_error(FAULT_DUMP_LOOK, &err), 0);
        assert_false(ckpt_error_is_set(&err));
        assert_int_equal(fault_point_error(FAULT_DUMP_MEMORY, &err), -ENOSPC);
        assert_int_equal(err.code, -ENOSPC);
        assert_non_null(strstr(ckpt_error_message(&err), "dump-memory"));
        set(NULL);
}

static void test_refused(void **state __attribute__((unused))) {
        refused("dump-look", "\"dump-look\" has no");
        refused("dump-look=", "\"\" is not one of");
        refused("dump-look=killl", "\"killl\"");
        refused("dump-look=kil", "\"kil\"");
        refused("dump-loo=kill", "no fault point \"dump-loo\"");
        refused("=kill", "no fault point \"\"");
        refused("dump-look:=kill", "\"\" is not the number");
        refused("dump-look:0=kill", "\"0\"");
        refused("dump-look:-1=kill", "\"-1\"");
        refused("dump-look:1x=kill", "\"1x\"");
        refused("dump-look: 1=kill", "\" 1\"");
        refused("dump-look:9999999999=kill", "\"9999999999\"");
        refused("dump-look:1:2=kill", "\"1:2\"");
        refused("dump-look=fail,", "\"\" has no");
        refused(",dump-look=fail", "\"\" has no");
        refused("dump-look=fail;dump-memory=fail", "\"fail;dump-memory=fail\"");
        refused("dump-look=fail,dump-frozen=nothing", "\"nothing\"");
        refused("list,dump-look=fail", "\"list\" has no");
}

static void test_too_many(void **state __attribute__((unused))) {
        char env[17 * 20] = "";

        for (int i = 0; i < 16; i++)
                strcat(env, i ? ",dump-look:9=fail" : "dump-look:9=fail");
        set(env);
        strcat(env, ",dump-look=fail");
        refused(env, "more than 16");
}

static void *pass_often(void *arg __attribute__((unused))) {
        uintptr_t failed = 0;

        for (int i = 0; i < 200000; i++)
                failed += fault_point(FAULT_DUMP_COLLECT) == -EIO;
        return (void *)failed;
}

static void test_threads_count_together(void **state __attribute__((unused))) {
        uintptr_t total = 0;
        pthread_t t[4];
        void *failed;

        /* The very last passage of all: one that is not counted keeps it from acting. */
        set("dump-collect:800000=fail");
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                assert_int_equal(pthread_create(&t[i], NULL, pass_often, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                assert_int_equal(pthread_join(t[i], &failed), 0);
                total += (uintptr_t)failed;
        }
        assert_int_equal(total, 1);
        set(NULL);
}

/* A child that passes dump-frozen twice with `env` set and then exits with 7; its stderr in *ret. */
static pid_t run_child(const char *env, int *ret_stderr) {
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(fds[1], STDERR_FILENO);
                close(fds[0]);
                close(fds[1]);
                if (fault_init(env, NULL) < 0 || fault_point(FAULT_DUMP_FROZEN) < 0 ||
                    fault_point(FAULT_DUMP_FROZEN) < 0)
                        _exit(1);
                _exit(7);
        }
        close(fds[1]);
        *ret_stderr = fds[0];
        return pid;
}

/* Waits until the child has said where it is. */
static void expect_announced(int fd, pid_t pid, const char *action) {
        char expected[128], line[128];
        int n = snprintf(expected, sizeof(expected), "ckpt: fault point dump-frozen: pid %d %s\n", (int)pid,
                         action);

        assert_int_equal(read_full(fd, line, (size_t)n), n);
        line[n] = 0;
        assert_string_equal(line, expected);
}

static void test_kill(void **state __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = run_child("dump-frozen:2=kill", &fd);
        int status;

        expect_announced(fd, pid, "kill");
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_stop(void **state __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = run_child("dump-frozen=stop", &fd);
        int status;

        expect_announced(fd, pid, "stop");
        /* Signals that only interrupt do not let it go on. */
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(kill(pid, SIGCONT), 0);
        assert_int_equal(waitpid(pid, &status, WCONTINUED), pid);
        assert_true(WIFCONTINUED(status));
        assert_int_equal(waitpid(pid, &status, WNOHANG), 0);

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_pause(void **state __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = run_child("dump-frozen=pause", &fd);
        int status;

        expect_announced(fd, pid, "pause");
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        assert_int_equal(kill(pid, SIGCONT), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_unset),      cmocka_unit_test(test_every),
                cmocka_unit_test(test_list),       cmocka_unit_test(test_names_are_unique),
                cmocka_unit_test(test_every_name), cmocka_unit_test(test_passages),
                cmocka_unit_test(test_error),      cmocka_unit_test(test_refused),
                cmocka_unit_test(test_too_many),   cmocka_unit_test(test_threads_count_together),
                cmocka_unit_test(test_kill),       cmocka_unit_test(test_stop),
                cmocka_unit_test(test_pause),
        };

        return cmocka_run_group_tests_name("kernel_fault", tests, NULL, NULL);
}
