/* SPDX-License-Identifier: GPL-2.0-only */
/* Targets that cannot be entered, or only in another way; targets that die on the way. */
#include "test_compel.h"

#include "kernel/probe.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static int exit_status(struct target *t) {
        int status = 0;

        assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
        t->pid = 0;
        return status;
}

/* The visit is refused with -ENOTSUP and a message, and nothing has changed. */
static void assert_refused(const struct target *t, int want, const char *part) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        static struct snapshot before;
        int r;

        snapshot_take(t->pid, &before);
        r = visit_everyone(t->pid, 1, &err);
        if (r != want || !strstr(ckpt_error_message(&err), part))
                fail_msg("%d, %s", r, ckpt_error_message(&err));
        assert_non_null(strstr(ckpt_error_message(&err), "continues unchanged"));
        assert_true(snapshot_holds(t->pid, &before));
        assert_true(lives(t));
}

/* ---- seccomp ----------------------------------------------------------------------------- */

static void forbid_everything(struct shared *sh) {
        struct sock_filter kill_all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS) };
        struct sock_fprog prog = { 1, kill_all };

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        complain_if(sh, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0);
        beat_without_calls(sh);
        syscall(SYS_getpid);
}

static void seccomp_is_suspended(void **state) {
        struct target t = target_start(forbid_everything);
        int status;

        assert_eventually(get(t.sh->ready));
        for (int i = 0; i < 20; i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                static struct stopped s;
                struct compel_visit *v = NULL;
                int r = stop_tids(&s, &t.pid, 1, PTRACE_O_SUSPEND_SECCOMP);

                if (r == -EPERM) {
                        target_end(&t);
                        skip(); /* the tests themselves run under seccomp */
                }
                assert_int_equal(r, 0);
                assert_int_equal(enter(&s, &v, &err), 0);
                compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                assert_int_equal(compel_visit_run(v, &s.thread[0], &err), 0);
                assert_int_equal(compel_visit_end(v, &err), 0);
                compel_visit_free(&v);
                let_go(&s);
                assert_true(lives(&t));
        }
        assert_int_equal(t.sh->failed, 0);
        set(t.sh->go, 1);
        status = exit_status(&t);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS); /* filtered as before */
        target_end(&t);
}

/* ---- refused ----------------------------------------------------------------------------- */

static void dispatch_calls(struct shared *sh) {
        static char selector = 1; /* SYSCALL_DISPATCH_FILTER_BLOCK */

        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector) < 0)
                sh->err = errno;
        set(sh->ready, 1);
        while (get(sh->go) != 2) {
                selector = get(sh->go) == 0;
                set(sh->beats, sh->beats + 1);
        }
}

static bool tells_dispatch(void) {
        struct kernel_features kernel;
        bool tells;

        kernel_features_init(&kernel);
        tells = kernel_has(&kernel, KERNEL_PTRACE_GET_SUD);
        kernel_features_done(&kernel);
        return tells;
}

static void syscall_user_dispatch(void **state) {
        struct target t = target_start(dispatch_calls);

        assert_eventually(get(t.sh->ready));
        if (t.sh->err) {
                target_end(&t);
                skip();
        }
        /* Before Linux 6.4 nobody is told, and what is run in it is intercepted. */
        if (tells_dispatch())
                assert_refused(&t, -ENOTSUP, "PR_SET_SYSCALL_USER_DISPATCH");
        else
                assert_refused(&t, -EFAULT, "cannot be mapped");
        set(t.sh->go, 1);
        assert_true(lives(&t));
        assert_visited(t.pid); /* its selector lets everything pass now */
        assert_true(lives(&t));
        target_end(&t);
}

/* inc of a counter and a jump back, in the 32-bit code segment. */
static void run_32bit(struct shared *sh) {
        static const uint8_t code[] = { 0xff, 0x03, 0xeb, 0xfc }; /* 1: incl (%ebx); jmp 1b */
        uint32_t *counter = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        uint64_t to[1] = { compel_arg(counter + 64) | 0x2300000000 };

        if (counter == MAP_FAILED || fork() != 0) {
                complain_if(sh, counter == MAP_FAILED);
                set(sh->ready, 1);
                for (uint32_t last = 0;;) {
                        uint32_t v = get(*counter);

                        if (v != last)
                                set(sh->beats, sh->beats + 1);
                        last = v;
                }
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memcpy(counter + 64, code, sizeof(code));
        set(sh->pid, getpid());
        __asm__ volatile("mov %2, %%ds\n\tljmp *(%0)" : : "r"(to), "b"(counter), "r"(0x2b) : "memory");
}

static void code_of_32_bits(void **state) {
        struct target t = target_start(run_32bit), child;

        assert_eventually(get(t.sh->ready) && get(t.sh->beats) > 10 && get(t.sh->pid) != 0);
        child = (struct target){ t.sh->pid, t.sh };
        assert_refused(&child, -ENOTSUP, "32-bit");
        kill(child.pid, SIGKILL);
        target_end(&t);
}

static void exhaust_address_space(struct shared *sh) {
        struct rlimit lim = { PAGE_SIZE, PAGE_SIZE };

        setrlimit(RLIMIT_AS, &lim);
        beat(sh);
}

static void no_address_space(void **state) {
        struct target t = target_start(exhaust_address_space);

        assert_eventually(get(t.sh->ready));
        for (int i = 0; i < 3; i++)
                assert_refused(&t, -ENOMEM, "cannot be mapped");
        target_end(&t);
}

/* As root, RLIMIT_MEMLOCK does not count. mmap answers EAGAIN, which must not be taken for "come again". */
static void lock_memory(struct shared *sh) {
        struct rlimit lim = { PAGE_SIZE, PAGE_SIZE };

        /* Not by way of the C library: sanitizers replace its function by nothing. */
        complain_if(sh, syscall(SYS_mlockall, MCL_FUTURE) < 0);
        setrlimit(RLIMIT_MEMLOCK, &lim);
        complain_if(sh, setresuid(65534, 65534, 65534) < 0);
        prctl(PR_SET_DUMPABLE, 1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        beat(sh);
}

static void no_memory_to_lock(void **state) {
        struct target t = target_start(lock_memory);

        assert_eventually(get(t.sh->ready));
        assert_int_equal(t.sh->failed, 0);
        assert_refused(&t, -ENOMEM, "cannot be mapped");
        target_end(&t);
}

/* ---- entered nevertheless ------------------------------------------------------------------ */

static void no_files(struct shared *sh) {
        struct rlimit lim = { 0, 0 };

        setrlimit(RLIMIT_NOFILE, &lim);
        beat(sh);
}

static void all_files(struct shared *sh) {
        struct rlimit lim = { 64, 64 };

        setrlimit(RLIMIT_NOFILE, &lim);
        while (dup(0) >= 0 || (errno == EBADF && open("/dev/null", O_RDONLY) >= 0))
                ;
        beat(sh);
}

static void deny_write_execute(struct shared *sh) {
        if (prctl(PR_SET_MDWE, 1, 0, 0, 0) < 0)
                sh->err = errno;
        beat(sh);
}

static void for_line(pid_t pid, const char *name, uint64_t *start, uint64_t *end) {
        char maps[64 * 1024], *line, *rest = NULL;

        *start = *end = 0;
        read_proc(pid, "maps", maps, sizeof(maps));
        for (line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
                if (strstr(line, name))
                        sscanf(line, "%" SCNx64 "-%" SCNx64, start, end);
}

static void drop_vdso(struct shared *sh) {
        const char *names[] = { "[vdso]", "[vvar]", "[vvar_vclock]" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                uint64_t start, end;

                for_line(getpid(), names[i], &start, &end);
                if (start)
                        complain_if(sh, munmap((void *)(uintptr_t)start, end - start) < 0);
        }
        set(sh->ready, 1);
        for (;;) {
                struct timespec ts = { 0, 100 * 1000 };

                set(sh->beats, sh->beats + 1);
                syscall(SYS_nanosleep, &ts, NULL);
        }
}

/* Where auxv says that the vDSO is stands something else that looks like one, shared with others. */
static void fake_vdso(struct shared *sh) {
        uint64_t start, end;
        char *copy;

        for_line(getpid(), "[vdso]", &start, &end);
        copy = start ? malloc(end - start + 1) : NULL;
        if (!copy)
                _exit(1);
        memcpy(copy, (void *)(uintptr_t)start, end - start);
        if (mmap((void *)(uintptr_t)start, end - start, PROT_READ | PROT_WRITE,
                 MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
                sh->failed = __LINE__;
        else
                memcpy((void *)(uintptr_t)start, copy, end - start);
        set(sh->ready, 1);
        while (!get(sh->go)) {
                struct timespec ts = { 0, 100 * 1000 };
                const char *p = (const char *)(uintptr_t)end;

                /* Nobody writes to it. */
                for (int i = 1; i < 512; i++)
                        complain_if(sh, ((volatile const char *)p)[-i] != copy[end - start - (size_t)i]);
                set(sh->beats, sh->beats + 1);
                syscall(SYS_nanosleep, &ts, NULL);
        }
}

static void entered_nevertheless(void **state) {
        void (*const targets[])(struct shared *) = { no_files, all_files, deny_write_execute, drop_vdso,
                                                     fake_vdso };

        for (size_t i = 0; i < ELEMENTSOF(targets); i++) {
                static struct snapshot before;
                struct target t = target_start(targets[i]);

                assert_eventually(get(t.sh->ready));
                assert_true(lives(&t));
                snapshot_take(t.pid, &before);
                for (int k = 0; k < 20; k++)
                        assert_visited(t.pid);
                if (!snapshot_holds(t.pid, &before) || t.sh->failed)
                        fail_msg("target %zu is not as before (line %d)", i, t.sh->failed);
                assert_true(lives(&t));
                target_end(&t);
        }
}

/* ---- not ours ------------------------------------------------------------------------------ */

static void traced_by_another(void **state) {
        struct target t = target_start(beat);
        struct compel_thread thread;
        int ready[2], over[2];
        pid_t tracer;
        char c;

        assert_int_equal(pipe(ready) | pipe(over), 0);
        assert_eventually(get(t.sh->ready));
        tracer = fork();
        if (tracer == 0) {
                close(over[1]);
                c = ptrace(PTRACE_SEIZE, t.pid, 0, 0) == 0;
                _exit(write(ready[1], &c, 1) == 1 && read(over[0], &c, 1) == 0 ? 0 : 1);
        }
        close(over[0]);
        assert_int_equal(read(ready[0], &c, 1), 1);
        assert_int_equal(c, 1);
        assert_int_equal(compel_seize(&thread, t.pid, 0), -EPERM);
        compel_release(&thread);
        close(over[1]);
        assert_int_equal(waitpid(tracer, NULL, 0), tracer);
        assert_visited(t.pid);
        close(ready[0]);
        close(ready[1]);
        target_end(&t);
}

static void gone(void **state) {
        struct target t = target_start(beat);
        struct compel_thread thread;
        siginfo_t si;
        pid_t pid = t.pid;

        kill(t.pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)t.pid, &si, WEXITED | WNOWAIT), 0);
        assert_int_equal(compel_seize(&thread, pid, 0), -ESRCH); /* a zombie */
        compel_release(&thread);
        target_end(&t);
        assert_int_equal(compel_seize(&thread, pid, 0), -ESRCH);
        compel_release(&thread);
}

static void dies_while_stopping(void **state) {
        struct target t = target_start(beat);
        struct compel_thread thread;

        assert_eventually(get(t.sh->ready));
        assert_int_equal(compel_seize(&thread, t.pid, 0), 0);
        kill(t.pid, SIGKILL);
        assert_int_equal(compel_wait_stop(&thread, DEADLINE_MS), -ESRCH);
        compel_release(&thread);
        t.pid = 0; /* seen by the tracer */
        target_end(&t);
}

/* ---- death on the way ---------------------------------------------------------------------- */

static void *thread_beat(void *arg) {
        struct shared *sh = arg;

        __atomic_add_fetch(&sh->nr_got, 1, __ATOMIC_SEQ_CST);
        beat(sh);
        return NULL;
}

static void beat_in_threads(struct shared *sh) {
        pthread_t thread;

        for (int i = 0; i < 3; i++)
                pthread_create(&thread, NULL, thread_beat, sh);
        while (get(sh->nr_got) < 3)
                sched_yield();
        set(sh->extra, 1);
        beat(sh);
}

/* A process that kills `victim` as soon as it sits in read(). */
static pid_t start_killer(pid_t victim) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(eventually(sleeps_in(victim, SYS_read)) && kill(victim, SIGKILL) == 0 ? 0 : 1);
        return pid;
}

static void dies_in_a_batch(void **state) {
        void (*const targets[])(struct shared *) = { beat, beat_in_threads };

        for (size_t i = 0; i < 2 * ELEMENTSOF(targets); i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                struct target t = target_start(targets[i / 2]);
                static struct stopped s;
                struct compel_visit *v = NULL;
                struct compel_batch *b;
                struct compel_thread *th;
                pid_t killer;
                raddr_t fds;
                int *pair, end;
                char want[32];

                assert_eventually(get(t.sh->ready) && (i < 2 || get(t.sh->extra)));
                assert_int_equal(stop_all(&s, t.pid), 0);
                assert_int_equal(enter(&s, &v, &err), 0);
                b = compel_visit_batch(v);
                pair = compel_data(b, 2 * sizeof(int), &fds);
                compel_call(b, "make a pipe", SYS_pipe2, fds, 0)->check = COMPEL_CHECK_OK;
                assert_int_equal(compel_visit_run(v, &s.thread[0], &err), 0);
                end = pair[0];
                compel_reset(b);
                compel_data(b, 16, &fds);
                compel_call(b, "read for good", SYS_read, (uint64_t)end, fds, 1);
                th = &s.thread[i % 2 ? s.n - 1 : 0];
                killer = start_killer(th->tid);
                assert_int_equal(compel_visit_run(v, th, &err), -ESRCH);
                snprintf(want, sizeof(want), "pid %d died", th->tid);
                assert_non_null(strstr(ckpt_error_message(&err), want));
                ckpt_error_clear(&err);
                assert_true(compel_visit_end(v, &err) <= 0);
                compel_visit_free(&v);
                let_go(&s);
                assert_int_equal(waitpid(killer, NULL, 0), killer);
                waitpid(t.pid, NULL, 0); /* by the tracer or here */
                t.pid = 0;
                target_end(&t);
        }
}

/* A batch that faults: an operation stores its result to an address that is not mapped. */
static void faults_in_the_agent(void **state) {
        void (*const targets[])(struct shared *) = { beat, beat_in_threads };

        for (size_t i = 0; i < ELEMENTSOF(targets); i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                static struct snapshot before;
                struct target t = target_start(targets[i]);
                static struct stopped s;
                struct compel_visit *v = NULL;
                struct compel_op *op;

                assert_eventually(get(t.sh->ready));
                assert_true(lives(&t));
                assert_eventually(i == 0 || get(t.sh->extra));
                snapshot_take(t.pid, &before);
                assert_int_equal(stop_all(&s, t.pid), 0);
                assert_int_equal(enter(&s, &v, &err), 0);
                op = compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                op->store = 8;
                op->store_at = 8;
                assert_int_equal(compel_visit_run(v, &s.thread[s.n - 1], &err), -EFAULT);
                ckpt_error_clear(&err);
                compel_reset(compel_visit_batch(v));
                compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                for (size_t k = 0; k < s.n; k++)
                        assert_int_equal(compel_visit_run(v, &s.thread[k], &err), 0);
                assert_int_equal(compel_visit_end(v, &err), 0);
                compel_visit_free(&v);
                let_go(&s);
                assert_true(lives(&t));
                assert_true(snapshot_holds(t.pid, &before));
                target_end(&t);
        }
}

/* ---- vfork ---------------------------------------------------------------------------------- */

static int wait_for_go(void *arg) {
        struct shared *sh = arg;

        while (!get(sh->go)) {
                struct timespec ts = { 0, 100 * 1000 };

                syscall(SYS_nanosleep, &ts, NULL);
        }
        return 0;
}

static void wait_in_vfork(struct shared *sh) {
        static char stack[16384] __attribute__((aligned(16)));

        set(sh->ready, 1);
        clone(wait_for_go, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, sh);
        set(sh->go, 0);
        beat(sh);
}

static void parent_in_vfork(void **state) {
        struct target t = target_start(wait_in_vfork);
        struct compel_thread thread;

        assert_eventually(get(t.sh->ready) && state_of(t.pid) == 'D');
        assert_int_equal(compel_seize(&thread, t.pid, 0), 0);
        assert_int_equal(compel_wait_stop(&thread, 50), -ETIMEDOUT);
        assert_true(thread.seized);
        assert_false(thread.stopped);
        set(t.sh->go, 1);
        assert_eventually(state_of(t.pid) == 't');
        compel_release(&thread);
        assert_false(thread.seized);
        assert_true(lives(&t));
        assert_visited(t.pid);
        target_end(&t);
}

/* A signal that comes to a thread which has not stopped in time is not lost when it is let go. */
static void late_stop_keeps_signals(void **state) {
        struct target t = target_start(wait_in_vfork);
        struct compel_thread thread;
        int status;

        assert_eventually(get(t.sh->ready) && state_of(t.pid) == 'D');
        assert_int_equal(compel_seize(&thread, t.pid, 0), 0);
        assert_int_equal(compel_wait_stop(&thread, 10), -ETIMEDOUT);
        kill(t.pid, SIGUSR1);
        set(t.sh->go, 1);
        assert_eventually(state_of(t.pid) == 't');
        compel_release(&thread);
        status = exit_status(&t);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
        target_end(&t);
}

/* ---- job control ---------------------------------------------------------------------------- */

static void pause_for_good(struct shared *sh) {
        set(sh->ready, 1);
        for (;;)
                pause();
}

static void stop_with_signals_blocked(struct compel_thread *t, pid_t tid) {
        assert_int_equal(compel_seize(t, tid, 0), 0);
        assert_int_equal(compel_wait_stop(t, DEADLINE_MS), 0);
        assert_int_equal(compel_set_sigmask(t, ~0ULL), 0);
}

/* The stop of one process does not stop another: nobody waits for it for good. False: one was too late for `timeout_ms`. */
static bool job_stop_of_two(unsigned int timeout_ms) {
        struct target t = target_start(pause_for_good), other = target_start(pause_for_good);
        struct compel_thread a, b, *threads[] = { &a, &b };
        bool in_time;

        assert_eventually(get(t.sh->ready) && get(other.sh->ready));
        stop_with_signals_blocked(&a, t.pid);
        stop_with_signals_blocked(&b, other.pid);
        assert_int_equal(compel_job_stop(t.pid, threads, 2, timeout_ms), -ETIMEDOUT);
        in_time = a.stopped;
        if (in_time) {
                assert_false(b.stopped);
                compel_interrupt_later(&b);
                assert_eventually(state_of(other.pid) == 't');
                compel_release(&b);
                compel_release(&a);
                assert_eventually(state_of(t.pid) == 'T');
                assert_int_not_equal(state_of(other.pid), 'T');
        }
        target_end(&t);
        target_end(&other);
        return in_time;
}

static void job_stop_is_bounded(void **state) {
        unsigned int timeout_ms = 100;

        while (!job_stop_of_two(timeout_ms) && timeout_ms < DEADLINE_MS)
                timeout_ms *= 10;
        assert_true(timeout_ms < DEADLINE_MS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(seccomp_is_suspended),    cmocka_unit_test(syscall_user_dispatch),
                cmocka_unit_test(code_of_32_bits),         cmocka_unit_test(no_address_space),
                cmocka_unit_test(no_memory_to_lock),       cmocka_unit_test(entered_nevertheless),
                cmocka_unit_test(traced_by_another),       cmocka_unit_test(gone),
                cmocka_unit_test(dies_while_stopping),     cmocka_unit_test(dies_in_a_batch),
                cmocka_unit_test(faults_in_the_agent),     cmocka_unit_test(parent_in_vfork),
                cmocka_unit_test(late_stop_keeps_signals), cmocka_unit_test(job_stop_is_bounded),
        };

        return cmocka_run_group_tests_name("compel: odd targets", tests, NULL, NULL);
}
