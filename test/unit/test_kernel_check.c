/* SPDX-License-Identifier: GPL-2.0-only */
/* `ckpt check`: what it prints and what it returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/check.h"
#include "kernel/probe.h"
#include "lib/io.h"
#include "macro.h"

#define UNUSED __attribute__((unused))

struct outcome {
        int code;
        char out[32768], message[512], hint[4096];
};

/* Takes the place of check_tree.c: what belongs to -t is tested with real trees. */
int check_tree(struct ckpt_run *run, pid_t pid) {
        return ckpt_error(&run->err, -ESRCH, "looked at %d", (int)pid);
}

static void run_check(const char *const *features, size_t n, pid_t tree, struct outcome *ret) {
        struct ckpt_options opts = { 0 };
        struct ckpt_run run = { .opts = &opts };

        for (size_t i = 0; i < n; i++)
                assert_int_equal(option_strings_push(&opts.feature, (char *)features[i]), 0);
        if (tree) {
                opts.tree_pid = tree;
                opts.source[OPTION_tree_pid] = OPTION_SOURCE_COMMAND_LINE;
        }
        ret->code = check_run(&run);
        fflush(stdout);
        snprintf(ret->message, sizeof(ret->message), "%s", ckpt_error_message(&run.err));
        snprintf(ret->hint, sizeof(ret->hint), "%s", run.err.hint ?: "");
        ckpt_error_clear(&run.err);
        option_strings_done(&opts.feature);
}

static void forbid(unsigned int nr, unsigned int with_errno) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | with_errno),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { .len = ELEMENTSOF(filter), .filter = filter };

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
                _exit(2);
}

/* In a child with its standard output in a file, and without two system calls if `poor`. */
static struct outcome *check(const char *const *features, size_t n, pid_t tree, bool poor) {
        struct outcome *o =
                mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        _cleanup_close_ int fd = memfd_create("check", MFD_CLOEXEC);
        int status;
        pid_t pid;

        assert_true(o != MAP_FAILED && fd >= 0);
        fflush(stdout);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(fd, STDOUT_FILENO);
                if (poor) {
                        forbid(SYS_kcmp, ENOSYS);
                        forbid(SYS_pidfd_getfd, EPERM);
                }
                run_check(features, n, tree, o);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_true(pread_full(fd, o->out, sizeof(o->out) - 1, 0) >= 0);
        return o;
}

static void done(struct outcome *o) {
        munmap(o, sizeof(*o));
}

static bool ends_with(const char *s, const char *end) {
        size_t n = strlen(s), m = strlen(end);

        return n >= m && strcmp(s + n - m, end) == 0;
}

/* Everything required is there exactly if the probes say so. */
static bool expect_good(void) {
        _cleanup_kernel_features_ struct kernel_features f;
        bool good = true;

        kernel_features_init(&f);
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++)
                if (kernel_feature_info((enum kernel_feature)i)->need == KERNEL_NEED_REQUIRED)
                        good &= kernel_has(&f, (enum kernel_feature)i);
        return good;
}

static void test_all(void **state UNUSED) {
        struct outcome *o = check(NULL, 0, 0, false);
        bool good = expect_good();

        assert_int_equal(o->code, good ? 0 : -EOPNOTSUPP);
        assert_int_equal(ends_with(o->out, "\nLooks good.\n"), good);
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++) {
                const char *name = kernel_feature_info((enum kernel_feature)i)->name;

                if (!strstr(o->out, name))
                        fail_msg("%s is not in the list", name);
        }
        done(o);
}

static void test_missing(void **state UNUSED) {
        struct outcome *o;

        if (!expect_good())
                skip();
        o = check(NULL, 0, 0, true);
        assert_int_equal(o->code, -EOPNOTSUPP);
        assert_true(ends_with(o->out, "\n2 required things are missing.\n"));
        assert_non_null(strstr(o->out, "  no   kcmp "));
        assert_non_null(strstr(o->out, "not in this kernel (Linux 3.5 or newer may have it)"));
        assert_non_null(strstr(o->out, "  no   pidfd_getfd "));
        assert_non_null(strstr(o->out, "not allowed here"));
        assert_non_null(strstr(o->message, "2 things"));
        done(o);
}

static void test_feature(void **state UNUSED) {
        static const char *const there[] = { "pidfd_open", "proc_sched" },
                                 *const poor[] = { "pidfd_open", "kcmp" }, *const later[] = { "uffd" },
                                 *const none[] = { "telepathy" };
        struct outcome *o;

        o = check(there, 2, 0, false);
        assert_int_equal(o->code, 0);
        assert_string_equal(o->out, "pidfd_open is available\nproc_sched is available\n");
        done(o);

        o = check(poor, 2, 0, true);
        assert_int_equal(o->code, -EOPNOTSUPP);
        assert_string_equal(o->out, "pidfd_open is available\n");
        assert_int_equal(strncmp(o->message, "kcmp ", 5), 0);
        assert_non_null(strstr(o->message, "the kernel does not have it"));
        done(o);

        /* Whatever the kernel can: who asks wants to use it. */
        o = check(later, 1, 0, false);
        assert_int_equal(o->code, -EOPNOTSUPP);
        assert_string_equal(o->out, "");
        assert_non_null(strstr(o->message, "ckpt does not use it yet"));
        done(o);

        o = check(none, 1, 0, false);
        assert_int_equal(o->code, -EINVAL);
        assert_non_null(strstr(o->message, "\"telepathy\""));
        assert_non_null(strstr(o->hint, "mem_dirty_track"));
        assert_true(ends_with(o->hint, "breakpoints"));
        done(o);
}

static void test_tree(void **state UNUSED) {
        struct outcome *o = check(NULL, 0, 4711, false);

        assert_int_equal(o->code, -ESRCH);
        assert_string_equal(o->message, "looked at 4711");
        assert_string_equal(o->out, "");
        done(o);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all),
                cmocka_unit_test(test_missing),
                cmocka_unit_test(test_feature),
                cmocka_unit_test(test_tree),
        };

        return cmocka_run_group_tests_name("kernel_check", tests, NULL, NULL);
}
