/* SPDX-License-Identifier: GPL-2.0-only */
/* What processes have in common, by a BPF iterator. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/process_facts.h"
#include "macro.h"

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

static void test_none(void **state) {
        struct process_facts *f = NULL;

        assert_int_equal(process_facts_open(NULL, &f), -EOPNOTSUPP);
        assert_null(f);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_parts), cmocka_unit_test(test_none) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
