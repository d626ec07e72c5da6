/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ckpt dies in the middle of a visit, at every step of it: the target goes on as if nothing had been, and
 * the next visit succeeds. A "tool" process visits; this one traces the tool and kills it before its Nth
 * system call, for every N, or at random moments.
 */
#include "test_compel.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

enum { NR_GUESTS = 20, RANDOM_KILLS = 150 };

/* ---- targets: each counts beats as long as all is well with it -------------------------------- */

/* In assembler: registers, flags, the red zone and what is above rsp, compared round after round. */
uint64_t check_forever(uint64_t *beats);

#define LOADED(op)                                                                                    \
        op(rbx, 0x1111) op(rdx, 0x2222) op(rsi, 0x3333) op(rbp, 0x4444) op(r8, 0x5555) op(r9, 0x6666) \
                op(r10, 0x7777) op(r11, 0x8888) op(r12, 0x9999) op(r13, 0xaaaa) op(r14, 0xbbbb)       \
                        op(r15, 0xcccc)
#define LOAD(r, v) "movabs $" #v "*0x100000001, %" #r "\n"
#define SAME(r, v) "movabs $" #v "*0x100000001, %rax\n cmp %rax, %" #r "\n jne 9f\n"
#define ALL_XMM(op) \
        op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14)
#define LOAD_XMM(n) "movdqa %xmm15, %xmm" #n "\n"
#define SAME_XMM(n) "pcmpeqd %xmm15, %xmm" #n "\n pmovmskb %xmm" #n ", %eax\n cmp $0xffff, %eax\n jne 9f\n"

/* On failure it returns the address of what differs, roughly; the flags are compared first. */
/* clang-format off */
__asm__(".text\n.globl check_forever\ncheck_forever:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "sub $264, %rsp\n"
        "mov %rdi, 256(%rsp)\n"
        "cld\n lea -128(%rsp), %rdi\n mov $48, %ecx\n mov $0x5ca1ab1ec0de, %rax\n rep stosq\n"
        "1: mov $0x123456789abc, %rax\n movq %rax, %xmm15\n pshufd $0x4e, %xmm15, %xmm15\n"
        ALL_XMM(LOAD_XMM)
        LOADED(LOAD)
        "lea 8(%rsp), %rsp\n pushq $0xed7\n popfq\n lea -8(%rsp), %rsp\n"
        "mov $0x5ca1ab1ec0de, %rax\n mov %rax, (%rsp)\n"
        "mov $20000, %ecx\n"
        "2: lea -1(%rcx), %rcx\n jrcxz 3f\n jmp 2b\n"
        "3: lea 8(%rsp), %rsp\n pushfq\n popq %rcx\n lea -8(%rsp), %rsp\n mov %rax, (%rsp)\n"
        "cld\n"
        "cmp $0xed7, %rcx\n mov %rcx, %rax\n jne 9f\n"
        LOADED(SAME)
        ALL_XMM(SAME_XMM)
        "mov $0x5ca1ab1ec0de, %rax\n lea -128(%rsp), %rdi\n mov $48, %ecx\n"
        "repe scasq\n mov %rdi, %rax\n jne 9f\n"
        "mov 256(%rsp), %rdi\n lock incq (%rdi)\n"
        "jmp 1b\n"
        "9: cld\n add $264, %rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
/* clang-format on */

static void spin(struct shared *sh) {
        set(sh->ready, 1);
        sh->ret = (int64_t)check_forever(&sh->beats);
        sh->failed = __LINE__;
        for (;;)
                pause();
}

static void check_wait(struct shared *sh, int64_t began, int64_t ms, bool as_expected) {
        int64_t took = now_ns() - began;

        complain_if(sh, !as_expected);
        complain_if(sh, took < ms * 1000000);
        if (sh->failed == 0)
                set(sh->beats, sh->beats + 1);
}

static void sleeps(struct shared *sh) {
        struct timespec ts = { 0, 8 * 1000 * 1000 };

        set(sh->ready, 1);
        for (;;) {
                int64_t began = now_ns();

                check_wait(sh, began, 8, syscall(SYS_nanosleep, &ts, NULL) == 0);
        }
}

static void polls(struct shared *sh) {
        struct pollfd p = { .events = POLLIN };
        int fd[2];

        complain_if(sh, pipe(fd) < 0);
        p.fd = fd[0];
        set(sh->ready, 1);
        for (;;) {
                int64_t began = now_ns();

                check_wait(sh, began, 8, poll(&p, 1, 8) == 0);
        }
}

/* Woken by its child through a pipe and answering, without ever seeing EINTR. */
static void reads(struct shared *sh) {
        struct timespec ts = { 0, 5 * 1000 * 1000 };
        int fd[2];
        char c;

        complain_if(sh, pipe(fd) < 0);
        if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                while (write(fd[1], "x", 1) == 1)
                        nanosleep(&ts, NULL);
                _exit(0);
        }
        close(fd[1]);
        set(sh->ready, 1);
        for (;;)
                check_wait(sh, now_ns(), 0, read(fd[0], &c, 1) == 1);
}

static void *guest(void *arg) {
        struct shared *sh = arg;
        struct timespec ts = { 0, 5 * 1000 * 1000 };
        int k = __atomic_fetch_add(&sh->nr_got, 1, __ATOMIC_SEQ_CST);

        for (uint32_t n = 0;; n++) {
                int r;

                if (k % 3 == 0)
                        r = (int)syscall(SYS_nanosleep, &ts, NULL);
                else if (k % 3 == 1)
                        r = poll(NULL, 0, 5);
                else
                        r = syscall(SYS_futex, &sh->word, FUTEX_WAIT, 0, &ts, NULL, 0) == -1 &&
                                            errno == ETIMEDOUT
                                    ? 0
                                    : -1;
                complain_if(sh, r != 0);
                set(sh->got[k], (int)n);
        }
        return NULL;
}

/* One beat: every thread has moved on. */
static void has_threads(struct shared *sh, int n) {
        pthread_attr_t attr;
        pthread_t thread;
        int last[NR_GUESTS] = { 0 };

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 64 * 1024);
        for (int i = 0; i < n; i++)
                complain_if(sh, pthread_create(&thread, &attr, guest, sh) != 0);
        while (get(sh->nr_got) < n)
                sched_yield();
        set(sh->ready, 1);
        for (;;) {
                struct timespec ts = { 0, 1000 * 1000 };
                bool all = true;

                for (int i = 0; i < n; i++)
                        all &= get(sh->got[i]) != last[i];
                for (int i = 0; all && i < n; i++)
                        last[i] = get(sh->got[i]);
                if (all && sh->failed == 0)
                        set(sh->beats, sh->beats + 1);
                complain_if(sh, nanosleep(&ts, NULL) != 0);
        }
}

static void has_guests(struct shared *sh) {
        has_threads(sh, NR_GUESTS);
}

static void has_one_guest(struct shared *sh) {
        has_threads(sh, 1);
}

/* Nothing may be both writable and executable, and no vDSO: the other ways in. */
static void strict(struct shared *sh) {
        prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
        sleeps(sh);
}

static void stopped(struct shared *sh) {
        set(sh->ready, 1);
        for (;;) {
                raise(SIGSTOP);
                set(sh->beats, sh->beats + 1);
        }
}

static struct shared *handler_shared;

static void note_signal(int signo, siginfo_t *si, void *context) {
        struct shared *sh = handler_shared;
        int n = sh->nr_got;

        sh->got[n % (int)ELEMENTSOF(sh->got)] = si->si_value.sival_int;
        complain_if(sh, si->si_value.sival_int != n);
        set(sh->nr_got, n + 1);
        if (sh->failed == 0)
                set(sh->beats, sh->beats + 1);
}

static void pauses(struct shared *sh) {
        struct sigaction sa = { .sa_sigaction = note_signal, .sa_flags = SA_SIGINFO };

        handler_shared = sh;
        sigfillset(&sa.sa_mask);
        sigaction(SIGRTMIN + 1, &sa, NULL);
        set(sh->ready, 1);
        for (;;) {
                pause();
                set(sh->extra, sh->extra + 1);
        }
}

/* ---- the tool ----------------------------------------------------------------------------------- */

static void run_tool(pid_t target, bool forever) {
        do
                if (visit_everyone(target, 1, NULL) < 0)
                        _exit(1);
        while (forever);
        _exit(0);
}

static pid_t start_tool(pid_t target, bool traced) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (traced)
                        raise(SIGSTOP);
                run_tool(target, !traced);
        }
        return pid;
}

static bool is_waiting(uint64_t nr) {
        return nr == SYS_sched_yield || nr == SYS_waitid || nr == SYS_wait4 || nr == SYS_nanosleep ||
               nr == SYS_clock_nanosleep || nr == SYS_futex;
}

/*
 * Let a tool make its visit, and kill it before its `n`th system call. Those it spins with are not
 * counted: how many there are is left to chance. False if the visit ended first.
 */
static bool kill_at(pid_t target, unsigned int n, void (*meanwhile)(const struct target *),
                    const struct target *t) {
        pid_t tool = start_tool(target, true);
        bool entry = true;
        int status;

        assert_int_equal(waitpid(tool, &status, WUNTRACED), tool);
        assert_int_equal(ptrace(PTRACE_SEIZE, tool, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
        kill(tool, SIGCONT);
        assert_int_equal(ptrace(PTRACE_SYSCALL, tool, 0, 0), 0);
        for (unsigned int i = 0;;) {
                struct user_regs_struct regs;

                assert_int_equal(waitpid(tool, &status, __WALL), tool);
                if (!WIFSTOPPED(status)) {
                        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                                fail_msg("the tool ended with status %#x before step %u",
                                         (unsigned int)status, n);
                        return false;
                }
                if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
                        assert_int_equal(ptrace(PTRACE_GETREGS, tool, 0, &regs), 0);
                        if (entry && !is_waiting(regs.orig_rax) && i++ == n)
                                break;
                        entry = !entry;
                        if (meanwhile && i == n)
                                meanwhile(t);
                }
                ptrace(PTRACE_SYSCALL, tool, 0, WSTOPSIG(status) == SIGCHLD ? SIGCHLD : 0);
        }
        kill(tool, SIGKILL);
        do
                assert_int_equal(waitpid(tool, &status, __WALL), tool);
        while (WIFSTOPPED(status));
        return true;
}

/* ---- what must be true after a kill ---------------------------------------------------------------- */

static void assert_unharmed(const struct target *t, const struct snapshot *before, const char *when,
                            unsigned int n) {
        uint64_t beats = get(t->sh->beats);

        if (!eventually(get(t->sh->beats) > beats + 1 || get(t->sh->failed)) || get(t->sh->failed))
                fail_msg("killed %s %u: the target is in state %c, complaint in line %d (%#" PRIx64 ")",
                         when, n, state_of(t->pid), t->sh->failed, t->sh->ret);
        if (!eventually(snapshot_holds(t->pid, before)))
                fail_msg("killed %s %u: maps, descriptors or signal masks of the target have changed", when,
                         n);
}

static void assert_visitable(const struct target *t, const char *when, unsigned int n) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = visit_everyone(t->pid, 1, &err);

        if (r < 0)
                fail_msg("killed %s %u: the next visit: %s (%d)", when, n, ckpt_error_message(&err), r);
}

/* Every step of one visit. Every other time, the next tool finds what the last one left. */
static void at_every_step(void (*fn)(struct shared *)) {
        static struct snapshot before;
        struct target t = target_start(fn);
        unsigned int n;

        assert_eventually(get(t.sh->ready) && get(t.sh->beats) > 2);
        snapshot_take(t.pid, &before);
        for (n = 0; kill_at(t.pid, n, NULL, NULL); n++) {
                assert_unharmed(&t, &before, "before system call", n);
                if (n % 2)
                        assert_visitable(&t, "before system call", n);
        }
        print_message("           %u steps\n", n);
        assert_true(n > 40);
        assert_visitable(&t, "after system call", n);
        assert_unharmed(&t, &before, "after system call", n);
        target_end(&t);
}

static void steps_spinning(void **state) {
        at_every_step(spin);
}
static void steps_nanosleep(void **state) {
        at_every_step(sleeps);
}
static void steps_poll(void **state) {
        at_every_step(polls);
}
static void steps_read(void **state) {
        at_every_step(reads);
}
static void steps_guest(void **state) {
        at_every_step(has_one_guest);
}
static void steps_strict(void **state) {
        at_every_step(strict);
}

/* A target stopped by job control stays so, whenever the tool dies. */
static void steps_stopped(void **state) {
        static struct snapshot before;
        struct target t = target_start(stopped);
        unsigned int n;

        assert_eventually(get(t.sh->ready) && state_of(t.pid) == 'T');
        snapshot_take(t.pid, &before);
        for (n = 0; kill_at(t.pid, n, NULL, NULL); n++) {
                assert_eventually(state_of(t.pid) == 'T');
                assert_int_equal(get(t.sh->beats), n);
                kill(t.pid, SIGCONT);
                assert_eventually(get(t.sh->beats) == n + 1 && state_of(t.pid) == 'T');
                assert_eventually(snapshot_holds(t.pid, &before));
        }
        assert_true(n > 40);
        target_end(&t);
}

/* Not more than fit into its queue, however often it is called before they are taken. */
static void send_one(const struct target *t) {
        if (t->sh->fd[0] - get(t->sh->nr_got) < 20 &&
            sigqueue(t->pid, SIGRTMIN + 1, (union sigval){ .sival_int = t->sh->fd[0] }) == 0)
                t->sh->fd[0]++;
}

/* A signal during the visit, then the death of the tool: the handler runs, once. */
static void steps_with_signals(void **state) {
        static struct snapshot before;
        struct target t = target_start(pauses);
        unsigned int n;

        assert_eventually(get(t.sh->ready) && sleeps_in(t.pid, SYS_pause));
        snapshot_take(t.pid, &before);
        for (n = 1; kill_at(t.pid, n, send_one, &t); n++) {
                assert_eventually(get(t.sh->nr_got) == t.sh->fd[0]);
                assert_int_equal(t.sh->failed, 0);
                assert_eventually(sleeps_in(t.pid, SYS_pause));
                assert_eventually(snapshot_holds(t.pid, &before));
        }
        assert_true(n > 40);
        assert_eventually(get(t.sh->nr_got) == t.sh->fd[0]);
        assert_int_equal(t.sh->failed, 0);
        target_end(&t);
}

/* ---- interrupted calls ------------------------------------------------------------------------------ */

static void count_signal(int signo) {
        set(handler_shared->nr_got, handler_shared->nr_got + 1);
}

static void wait_interrupted(struct shared *sh, int flags, bool reading) {
        struct sigaction sa = { .sa_handler = count_signal, .sa_flags = flags };
        struct timespec hour = { 3600, 0 };
        int fd[2];
        char c;

        handler_shared = sh;
        sigaction(SIGUSR1, &sa, NULL);
        complain_if(sh, pipe(fd) < 0);
        sh->fd[0] = fd[0];
        sh->fd[1] = fd[1];
        for (;;) {
                set(sh->ready, 1);
                sh->ret = reading ? read(fd[0], &c, 1) : syscall(SYS_nanosleep, &hour, NULL);
                sh->err = sh->ret < 0 ? errno : 0;
                set(sh->beats, sh->beats + 1);
        }
}

static void naps(struct shared *sh) {
        wait_interrupted(sh, SA_RESTART, false);
}
static void reads_interruptibly(struct shared *sh) {
        wait_interrupted(sh, 0, true);
}
static void reads_with_restart(struct shared *sh) {
        wait_interrupted(sh, SA_RESTART, true);
}

/* A tool that keeps its target in the agent, with all threads stopped, until it is killed. */
static pid_t start_keeper(pid_t target) {
        int fd[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe(fd), 0);
        pid = fork();
        if (pid == 0) {
                static struct stopped s;
                struct compel_visit *v = NULL;

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (stop_all(&s, target) < 0 || enter(&s, &v, NULL) < 0)
                        _exit(1);
                compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                if (compel_visit_run(v, &s.thread[0], NULL) < 0 || write(fd[1], "x", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(fd[1]);
        assert_int_equal(read(fd[0], &c, 1), 1);
        close(fd[0]);
        return pid;
}

static void kill_keeper(pid_t tool) {
        kill(tool, SIGKILL);
        assert_int_equal(waitpid(tool, NULL, 0), tool);
}

static void write_to(const struct target *t) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->pid, t->sh->fd[1]);
        fd = open(path, O_WRONLY);
        assert_int_equal(write(fd, "x", 1), 1);
}

/*
 * A signal for which a handler runs ends the call that it was in, as it would have without ckpt, or
 * does not.
 */
static void handlers_end_calls(void **state) {
        static const struct {
                void (*fn)(struct shared *);
                long nr;
                bool ends;
        } cases[] = {
                { naps, SYS_nanosleep, true },
                { reads_interruptibly, SYS_read, true },
                { reads_with_restart, SYS_read, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct target t = target_start(cases[i].fn);
                pid_t tool;

                assert_eventually(get(t.sh->ready) && sleeps_in(t.pid, cases[i].nr));
                kill_keeper(start_keeper(t.pid)); /* no signal: it sleeps on */
                assert_eventually(sleeps_in(t.pid, cases[i].nr));
                tool = start_keeper(t.pid);
                kill(t.pid, SIGUSR1);
                kill(t.pid, SIGCHLD); /* nobody handles that */
                kill_keeper(tool);
                assert_eventually(get(t.sh->nr_got) == 1);
                if (cases[i].ends) {
                        assert_eventually(get(t.sh->beats) == 1);
                        assert_int_equal(t.sh->err, EINTR);
                } else {
                        assert_eventually(sleeps_in(t.pid, cases[i].nr));
                        assert_int_equal(get(t.sh->beats), 0);
                        write_to(&t);
                        assert_eventually(get(t.sh->beats) == 1);
                        assert_int_equal(t.sh->ret, 1);
                }
                tool = start_keeper(t.pid);
                kill(t.pid, SIGCHLD);
                kill_keeper(tool);
                assert_eventually(sleeps_in(t.pid, cases[i].nr));
                assert_int_equal(get(t.sh->beats), 1);
                target_end(&t);
        }
}

/* ---- random moments --------------------------------------------------------------------------------- */

static void at_random(void (*fn)(struct shared *), unsigned int kills) {
        static struct snapshot before;
        struct target t = target_start(fn);
        unsigned int seed = (unsigned int)t.pid;

        assert_eventually(get(t.sh->ready) && get(t.sh->beats) > 2);
        snapshot_take(t.pid, &before);
        for (unsigned int i = 0; i < kills; i++) {
                struct timespec ts = { 0, rand_r(&seed) % 1500000 };
                pid_t tool = start_tool(t.pid, false);

                nanosleep(&ts, NULL);
                kill(tool, SIGKILL);
                assert_int_equal(waitpid(tool, NULL, 0), tool);
                assert_unharmed(&t, &before, "at random", i);
                if (i % 2)
                        assert_visitable(&t, "at random", i);
        }
        target_end(&t);
}

static void random_spinning(void **state) {
        at_random(spin, RANDOM_KILLS * 2);
}
static void random_nanosleep(void **state) {
        at_random(sleeps, RANDOM_KILLS);
}
static void random_poll(void **state) {
        at_random(polls, RANDOM_KILLS);
}
static void random_guests(void **state) {
        at_random(has_guests, RANDOM_KILLS);
}

/* Signals all the time: each is delivered once, in order. */
static void random_with_signals(void **state) {
        static struct snapshot before;
        struct target t = target_start(pauses);
        unsigned int seed = (unsigned int)t.pid;

        assert_eventually(get(t.sh->ready) && sleeps_in(t.pid, SYS_pause));
        snapshot_take(t.pid, &before);
        for (unsigned int i = 0; i < RANDOM_KILLS; i++) {
                int64_t until = now_ns() + (int64_t)(rand_r(&seed) % 1500000);
                pid_t tool = start_tool(t.pid, false);

                do
                        send_one(&t);
                while (now_ns() < until);
                kill(tool, SIGKILL);
                assert_int_equal(waitpid(tool, NULL, 0), tool);
                assert_eventually(get(t.sh->nr_got) == t.sh->fd[0]);
                assert_int_equal(t.sh->failed, 0);
                assert_eventually(sleeps_in(t.pid, SYS_pause));
                assert_eventually(snapshot_holds(t.pid, &before));
        }
        target_end(&t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(steps_spinning),     cmocka_unit_test(steps_nanosleep),
                cmocka_unit_test(steps_poll),         cmocka_unit_test(steps_read),
                cmocka_unit_test(steps_guest),        cmocka_unit_test(steps_strict),
                cmocka_unit_test(steps_stopped),      cmocka_unit_test(steps_with_signals),
                cmocka_unit_test(handlers_end_calls), cmocka_unit_test(random_spinning),
                cmocka_unit_test(random_nanosleep),   cmocka_unit_test(random_poll),
                cmocka_unit_test(random_guests),      cmocka_unit_test(random_with_signals),
        };

        return cmocka_run_group_tests_name("compel: the death of ckpt", tests, NULL, NULL);
}
