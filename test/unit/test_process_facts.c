/* SPDX-License-Identifier: GPL-2.0-only */
/* What processes have in common, by a BPF iterator. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/process_facts.h"
#include "macro.h"
#include "proc/attr.h"

static struct process_facts *open_or_skip(struct bpf *bpf) {
        struct process_facts *f = NULL;
        int r = process_facts_open(bpf, &f);

        if (r < 0) {
                print_message("no BPF iterator here: %s\n", strerror(-r));
                skip();
        }
        return f;
}

/* A child that has called `unshared`, and chdir(2) if `dir` is not NULL, when this returns. */
static pid_t start(unsigned long shared, int unshared, const char *dir) {
        int ready[2];
        char byte = 0;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = (pid_t)syscall(SYS_clone, SIGCHLD | shared, 0, 0, 0, 0);
        if (pid == 0) {
                bool ok = (unshared == 0 || unshare(unshared) == 0) && (!dir || chdir(dir) == 0);

                (void)!write(ready[1], ok ? "y" : "n", 1);
                for (;;)
                        pause();
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(byte, 'y');
        close(ready[0]);
        close(ready[1]);
        return pid;
}

static void end(pid_t pid) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool same_place(const struct process_fact *a, const struct process_fact *b,
                       enum process_place place) {
        return a && b && memcmp(a->place[place], b->place[place], sizeof(a->place[place])) == 0;
}

static void test_parts(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(process_facts_free) struct process_facts *f = NULL;
        _cleanup_(process_fact_vec_done) struct process_fact_vec facts = { 0 };
        pid_t plain, files, fs, elsewhere, uts;
        const struct process_fact *own, *its;

        assert_int_equal(bpf_new(&bpf), 0);
        f = open_or_skip(bpf);
        plain = start(0, 0, NULL);
        files = start(CLONE_FILES, 0, NULL);
        fs = start(CLONE_FS, 0, NULL);
        elsewhere = start(0, 0, "/proc");
        uts = start(0, CLONE_NEWUTS, NULL);
        assert_int_equal(process_facts_read(f, &facts), 0);
        own = process_facts_find(&facts, getpid());
        assert_non_null(own);
        assert_true(own->same_namespaces);

        its = process_facts_find(&facts, plain);
        assert_non_null(its);
        for (enum process_part part = 0; part < PROCESS_PARTS_MAX; part++)
                assert_true(its->part[part] != own->part[part]);
        for (enum process_place place = 0; place < PROCESS_PLACES_MAX; place++)
                assert_true(same_place(its, own, place));
        assert_true(its->same_namespaces);

        its = process_facts_find(&facts, files);
        assert_true(its && its->part[PROCESS_FILES] == own->part[PROCESS_FILES]);
        assert_true(its->part[PROCESS_FS] != own->part[PROCESS_FS]);
        its = process_facts_find(&facts, fs);
        assert_true(its && its->part[PROCESS_FILES] != own->part[PROCESS_FILES]);
        assert_true(its->part[PROCESS_FS] == own->part[PROCESS_FS]);
        its = process_facts_find(&facts, elsewhere);
        assert_true(its && !same_place(its, own, PROCESS_CWD) && same_place(its, own, PROCESS_ROOT));
        assert_true(same_place(its, own, PROCESS_EXE));
        its = process_facts_find(&facts, uts);
        assert_true(its && !its->same_namespaces);
        /* No kernel threads, and nobody twice. */
        assert_null(process_facts_find(&facts, 0));
        for (size_t i = 1; i < facts.n; i++)
                assert_true(facts.v[i - 1].pid < facts.v[i].pid);
        end(plain);
        end(files);
        end(fs);
        end(elsewhere);
        end(uts);
        assert_int_equal(process_facts_read(f, &facts), 0);
        assert_null(process_facts_find(&facts, plain));
}

static int value_of(const struct process_fact *fact, enum process_value which) {
        int value = 0;

        assert_true(process_fact_value(fact, which, &value));
        return value;
}

static void write_own(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
                _exit(1);
        close(fd);
}

/* A child with other values than those of this process, when this returns. */
static pid_t start_other(void) {
        struct sigevent event = { .sigev_notify = SIGEV_NONE };
        int ready[2];
        char byte = 0;
        timer_t id;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                write_own("/proc/self/oom_score_adj", "777");
                write_own("/proc/self/coredump_filter", "0x15");
                if (timer_create(CLOCK_MONOTONIC, &event, &id) < 0)
                        _exit(1);
                (void)!write(ready[1], "y", 1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void test_values(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(process_facts_free) struct process_facts *f = NULL;
        _cleanup_(process_fact_vec_done) struct process_fact_vec facts = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        uint32_t filter = 0, filter_then = 0;
        const struct process_fact *own, *its;
        int oom = 0, oom_then = 0, value;
        uid_t loginuid = 0;
        pid_t other;

        assert_int_equal(proc_open(getpid(), &self), 0);
        assert_int_equal(proc_oom_score_adj_read(&self, &buf, &oom), 0);
        assert_int_equal(proc_coredump_filter_read(&self, &buf, &filter), 0);
        assert_int_equal(bpf_new(&bpf), 0);
        f = open_or_skip(bpf);
        /* What was tried is as it was. */
        assert_int_equal(proc_oom_score_adj_read(&self, &buf, &oom_then), 0);
        assert_int_equal(proc_coredump_filter_read(&self, &buf, &filter_then), 0);
        assert_int_equal(oom_then, oom);
        assert_int_equal(filter_then, filter);
        other = start_other();
        assert_int_equal(process_facts_read(f, &facts), 0);
        own = process_facts_find(&facts, getpid());
        assert_non_null(own);
        its = process_facts_find(&facts, other);
        assert_non_null(its);
        if (process_fact_value(own, PROCESS_OOM_SCORE_ADJ, &value)) {
                assert_int_equal(value, oom);
                assert_int_equal(value_of(its, PROCESS_OOM_SCORE_ADJ), 777);
        }
        if (process_fact_value(own, PROCESS_COREDUMP_FILTER, &value)) {
                assert_int_equal(value, filter);
                assert_int_equal(value_of(its, PROCESS_COREDUMP_FILTER), 0x15);
        }
        if (process_fact_value(own, PROCESS_TIMERS, &value)) {
                assert_int_equal(value, 0);
                assert_int_equal(value_of(its, PROCESS_TIMERS), 1);
        }
        if (process_fact_value(own, PROCESS_LOGINUID, &value)) {
                assert_int_equal(proc_loginuid_read(&self, &buf, &loginuid), 0);
                assert_int_equal((uid_t)value, loginuid);
                assert_int_equal((uid_t)value_of(its, PROCESS_LOGINUID), loginuid);
        }
        assert_false(process_fact_value(NULL, PROCESS_TIMERS, &value));
        end(other);
}

/* A child that has the same file as this process under one number, others otherwise. */
static pid_t start_with_files(int fd) {
        int ready[2];
        char byte = 0;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                int high = fcntl(ready[1], F_DUPFD_CLOEXEC, 20), own = fcntl(fd, F_DUPFD_CLOEXEC, 20);
                int other = open("/dev/null", O_RDONLY);

                if (high < 0 || own < 0 || other < 0 || dup2(own, 4) < 0 || dup3(own, 5, O_CLOEXEC) < 0 ||
                    dup2(other, 6) < 0)
                        _exit(1);
                close(7);
                (void)!write(high, "y", 1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void test_files(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(process_facts_free) struct process_facts *f = NULL;
        _cleanup_(process_fact_vec_done) struct process_fact_vec facts = { 0 };
        _cleanup_close_ int spare = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 4), fd = -EBADF;
        const struct process_fact *own, *its;
        pid_t child;

        fd = memfd_create("test", MFD_CLOEXEC);
        assert_true(spare >= 0 && fd >= 0);
        fd = dup3(fd, 4, O_CLOEXEC);
        assert_int_equal(fd, 4);
        assert_int_equal(bpf_new(&bpf), 0);
        f = open_or_skip(bpf);
        child = start_with_files(fd);
        assert_int_equal(process_facts_read(f, &facts), 0);
        own = process_facts_find(&facts, getpid());
        its = process_facts_find(&facts, child);
        assert_non_null(its);
        if (process_fact_file(own, fd) == 0)
                skip();
        assert_true(process_fact_file(its, 4) == process_fact_file(own, fd));
        assert_true(process_fact_file(its, 5) == process_fact_file(own, fd));
        assert_true(process_fact_file(its, 6) != 0);
        assert_true(process_fact_file(its, 6) != process_fact_file(own, fd));
        assert_true(process_fact_file(its, 7) == 0);
        assert_int_equal(its->cloexec >> 4 & 7, 1 << 1);
        assert_int_equal(own->cloexec >> fd & 1, 1);
        assert_int_equal(its->locks >> 4 & 3, 0);
        assert_true(process_fact_file(NULL, 4) == 0 && process_fact_file(its, -1) == 0 &&
                    process_fact_file(its, PROCESS_FDS) == 0);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(process_facts_read(f, &facts), 0);
        its = process_facts_find(&facts, child);
        assert_non_null(its);
        assert_int_equal(its->locks >> 4 & 3, 3);
        end(child);
}

static void test_none(void **state) {
        struct process_facts *f = NULL;

        assert_int_equal(process_facts_open(NULL, &f), -EOPNOTSUPP);
        assert_null(f);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_parts), cmocka_unit_test(test_values),
                                            cmocka_unit_test(test_files), cmocka_unit_test(test_none) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
