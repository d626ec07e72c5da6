/* SPDX-License-Identifier: GPL-2.0-only */
/* What a visit must not change: registers, job control, pending signals, threads, restartable sequences. */
#include "test_compel.h"

#include <sys/rseq.h>
#include <sys/syscall.h>

/* ---- registers ------------------------------------------------------------------------- */

/*
 * All registers are loaded, left alone for some microseconds, and stored. rcx counts down to zero meanwhile,
 * without touching the flags; around rsp, the red zone below and 512 bytes above are filled.
 */
struct regfile {
        uint64_t gpr[14]; /* rax rbx rdx rsi rdi rbp r8..r15 */
        uint64_t rcx, flags;
        uint32_t mxcsr, pad[3];
        uint8_t vec[16][32];
};

_Static_assert(offsetof(struct regfile, vec) == 144, "regs_spin knows the layout");

/* Returns 0 if the memory around rsp was left alone. */
int regs_spin(const struct regfile *in, struct regfile *out, uint64_t rounds);

#define ALL_GPR(op)                                                                                 \
        op(rax, 0) op(rbx, 8) op(rdx, 16) op(rsi, 24) op(rdi, 32) op(rbp, 40) op(r8, 48) op(r9, 56) \
                op(r10, 64) op(r11, 72) op(r12, 80) op(r13, 88) op(r14, 96) op(r15, 104)
#define ALL_VEC(op) \
        op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD_VEC(n)      "vmovdqu 144+32*" #n "(%rcx), %ymm" #n "\n"
#define STORE_VEC(n)     "vmovdqu %ymm" #n ", 144+32*" #n "(%rcx)\n"
#define LOAD_GPR(r, at)  "mov " #at "(%rcx), %" #r "\n"
#define STORE_GPR(r, at) "mov %" #r ", " #at "(%rcx)\n"

/* clang-format off */
__asm__(".text\n.globl regs_spin\nregs_spin:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "push %rdx\n push %rsi\n push %rdi\n"
        "sub $512, %rsp\n"
        "cld\n lea -128(%rsp), %rdi\n mov $80, %ecx\n mov $0x5ca1ab1ec0de, %rax\n rep stosq\n"
        "mov 512(%rsp), %rcx\n"
        "ldmxcsr 128(%rcx)\n"
        ALL_VEC(LOAD_VEC)
        ALL_GPR(LOAD_GPR)
        /* The flags by way of the stack above: the red zone stays filled. */
        "lea 16(%rsp), %rsp\n pushq 120(%rcx)\n popfq\n lea -16(%rsp), %rsp\n"
        "mov 528(%rsp), %rcx\n"
        "1: lea -1(%rcx), %rcx\n jrcxz 2f\n jmp 1b\n"
        "2: mov 520(%rsp), %rcx\n"
        ALL_GPR(STORE_GPR)
        "movq $0, 112(%rcx)\n"
        "lea 16(%rsp), %rsp\n pushfq\n popq 120(%rcx)\n lea -16(%rsp), %rsp\n"
        "stmxcsr 128(%rcx)\n"
        ALL_VEC(STORE_VEC)
        "vzeroupper\n"
        "cld\n"
        /* The slot used for the flags is filled again before the memory is compared. */
        "mov $0x5ca1ab1ec0de, %rax\n mov %rax, 8(%rsp)\n"
        "lea -128(%rsp), %rdi\n mov $80, %ecx\n xor %edx, %edx\n"
        "3: cmp %rax, (%rdi)\n je 4f\n inc %edx\n 4: add $8, %rdi\n dec %ecx\n jnz 3b\n"
        "mov %edx, %eax\n"
        "add $512, %rsp\n"
        "pop %rdi\n pop %rsi\n pop %rdx\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n");
/* clang-format on */

static void spin(struct shared *sh) {
        struct regfile in = { 0 }, out;
        const uint64_t flags[] = { 0xed7, 0x202, 0x246, 0xa13 };

        for (uint64_t n = 0;; n++) {
                for (size_t i = 0; i < sizeof(in.gpr); i++)
                        ((uint8_t *)in.gpr)[i] = (uint8_t)(n * 31 + i * 7 + 1);
                for (size_t i = 0; i < sizeof(in.vec); i++)
                        ((uint8_t *)in.vec)[i] = (uint8_t)(n * 17 + i * 5 + 3);
                in.flags = flags[n % ELEMENTSOF(flags)] | 0x200 | 0x2;
                in.mxcsr = 0x1f80 | (uint32_t)(n % 4) << 13;
                memset(&out, 0, sizeof(out));
                complain_if(sh, regs_spin(&in, &out, 20000) != 0);
                complain_if(sh, memcmp(&in, &out, sizeof(in)) != 0);
                if (sh->failed == 0)
                        set(sh->beats, sh->beats + 1);
        }
}

static void registers_survive(void **state) {
        struct target t;

        if (!__builtin_cpu_supports("avx"))
                skip();
        t = target_start(spin);
        assert_eventually(get(t.sh->beats) > 2);
        for (int i = 0; i < 300; i++)
                assert_visited(t.pid);
        {
                uint64_t beats = get(t.sh->beats);

                assert_eventually(get(t.sh->beats) > beats + 2);
        }
        assert_int_equal(t.sh->failed, 0);
        target_end(&t);
}

/* ---- job control ------------------------------------------------------------------------ */

static bool all_stopped(pid_t pid) {
        pid_t tids[THREADS_MAX];
        size_t n = tids_of(pid, tids, THREADS_MAX);

        for (size_t i = 0; i < n; i++)
                if (state_of(tids[i]) != 'T')
                        return false;
        return n > 0;
}

/* Stopped, every thread by itself, and staying so. */
static bool rests(const struct target *t) {
        uint64_t beats;

        if (!eventually(all_stopped(t->pid)))
                return false;
        beats = get(t->sh->beats);
        for (int i = 0; i < 20; i++)
                between_looks();
        return get(t->sh->beats) == beats && all_stopped(t->pid);
}

static void stopped_stays_stopped(void **state) {
        struct target t = target_start(beat);
        siginfo_t si;

        assert_true(lives(&t));
        kill(t.pid, SIGSTOP);
        assert_true(rests(&t));
        for (int i = 0; i < 10; i++) {
                assert_visited(t.pid);
                assert_true(rests(&t));
        }
        /* Its parent still sees one stop, and one continuation. */
        assert_int_equal(waitid(P_PID, (id_t)t.pid, &si, WSTOPPED | WNOHANG), 0);
        assert_int_equal(si.si_status, SIGSTOP);
        kill(t.pid, SIGCONT);
        assert_true(lives(&t));
        target_end(&t);
}

static void reports_the_stop_signal(void **state) {
        struct target t = target_start(beat);
        static struct stopped s;

        /* SIGTSTP stops no orphaned process group: that of the tests is one where they lead a session. */
        assert_int_equal(setpgid(t.pid, t.pid), 0);
        kill(t.pid, SIGTSTP);
        assert_true(rests(&t));
        assert_int_equal(stop_all(&s, t.pid), 0);
        assert_int_equal(s.thread[0].stop_signal, SIGTSTP);
        let_go(&s);
        assert_true(rests(&t));
        kill(t.pid, SIGCONT);
        assert_true(lives(&t));
        assert_int_equal(stop_all(&s, t.pid), 0);
        assert_int_equal(s.thread[0].stop_signal, 0);
        let_go(&s);
        target_end(&t);
}

/* Signals sent at three moments of a visit: before, between and after batches. */
static void visit_with_signals(const struct target *t, const int signals[3]) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        static struct stopped s;
        struct compel_visit *v = NULL;

        assert_int_equal(stop_all(&s, t->pid), 0);
        for (int i = 0; i < 3; i++) {
                if (signals[i])
                        kill(t->pid, signals[i]);
                if (!v)
                        assert_int_equal(enter(&s, &v, &err), 0);
                for (size_t k = 0; k < s.n; k++) {
                        compel_reset(compel_visit_batch(v));
                        compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                        assert_int_equal(compel_visit_run(v, &s.thread[k], &err), 0);
                        assert_int_equal(compel_visit_batch(v)->ops[0].ret, t->pid);
                }
        }
        assert_int_equal(compel_visit_end(v, &err), 0);
        compel_visit_free(&v);
        let_go(&s);
}

static void stop_during_visit(void **state) {
        for (int when = 0; when < 3; when++) {
                struct target t = target_start(beat);
                int signals[3] = { 0 };

                assert_true(lives(&t));
                signals[when] = SIGSTOP;
                visit_with_signals(&t, signals);
                assert_true(rests(&t));
                assert_visited(t.pid);
                assert_true(rests(&t));
                kill(t.pid, SIGCONT);
                assert_true(lives(&t));
                target_end(&t);
        }
}

static void stop_and_continue_during_visit(void **state) {
        struct target t = target_start(beat);

        assert_true(lives(&t));
        visit_with_signals(&t, (int[]){ SIGSTOP, SIGCONT, 0 });
        assert_true(lives(&t));
        visit_with_signals(&t, (int[]){ SIGSTOP, 0, SIGCONT });
        assert_true(lives(&t));
        visit_with_signals(&t, (int[]){ SIGSTOP, SIGCONT, SIGSTOP });
        assert_true(rests(&t));
        visit_with_signals(&t, (int[]){ 0, SIGCONT, 0 });
        assert_true(lives(&t));
        target_end(&t);
}

/* ---- threads ---------------------------------------------------------------------------- */

enum { NR_THREADS = 200 };

static void *thread_beat(void *arg) {
        struct shared *sh = arg;
        struct timespec ts = { 0, 1000 * 1000 };

        __atomic_add_fetch(&sh->nr_got, 1, __ATOMIC_SEQ_CST);
        for (;;) {
                nanosleep(&ts, NULL);
                __atomic_add_fetch(&sh->beats, 1, __ATOMIC_SEQ_CST);
        }
        return NULL;
}

static void start_threads(struct shared *sh, int n) {
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 64 * 1024);
        for (int i = 0; i < n; i++)
                complain_if(sh, pthread_create(&thread, &attr, thread_beat, sh) != 0);
        while (get(sh->nr_got) < n)
                sched_yield();
        set(sh->ready, 1);
}

static void many_threads(struct shared *sh) {
        start_threads(sh, NR_THREADS);
        for (;;)
                pause();
}

static void every_thread_goes_through(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        static struct snapshot before;
        struct target t = target_start(many_threads);

        assert_eventually(get(t.sh->ready));
        assert_eventually(sleeps_in(t.pid, SYS_pause));
        snapshot_take(t.pid, &before);
        assert_int_equal(visit_everyone(t.pid, 2, &err), 0);
        assert_int_equal(t.sh->failed, 0);
        assert_true(snapshot_holds(t.pid, &before));
        assert_true(lives(&t));
        target_end(&t);
}

static void threads_and_job_control(void **state) {
        struct target t = target_start(many_threads);

        assert_eventually(get(t.sh->ready));
        visit_with_signals(&t, (int[]){ 0, SIGSTOP, 0 });
        assert_true(rests(&t));
        assert_visited(t.pid);
        assert_true(rests(&t));
        kill(t.pid, SIGCONT);
        assert_true(lives(&t));
        visit_with_signals(&t, (int[]){ SIGSTOP, 0, SIGCONT });
        assert_true(lives(&t));
        target_end(&t);
}

/* The first thread is not the leader, and the others are not asked. */
static void other_thread_drives(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct target t = target_start(many_threads);
        static struct stopped s;
        struct compel_visit *v = NULL;
        pid_t tids[THREADS_MAX];
        size_t n;

        assert_eventually(get(t.sh->ready));
        n = tids_of(t.pid, tids, THREADS_MAX);
        assert_int_equal(n, NR_THREADS + 1);
        tids[0] = tids[100];
        tids[100] = t.pid;
        assert_int_equal(stop_tids(&s, tids, n, 0), 0);
        assert_int_equal(enter(&s, &v, &err), 0);
        for (size_t i = 0; i < n; i += 50) {
                compel_call(compel_visit_batch(v), "get its tid", SYS_gettid);
                assert_int_equal(compel_visit_run(v, &s.thread[i], &err), 0);
                assert_int_equal(compel_visit_batch(v)->ops[0].ret, tids[i]);
                compel_reset(compel_visit_batch(v));
        }
        assert_int_equal(compel_visit_end(v, &err), 0);
        compel_visit_free(&v);
        let_go(&s);
        assert_true(lives(&t));
        target_end(&t);
}

static void leave_threads_alone(struct shared *sh) {
        start_threads(sh, 3);
        syscall(SYS_exit, 0);
}

/* The leader is a zombie that keeps its pid; the process lives in its other threads. */
static void dead_leader(void **state) {
        struct target t = target_start(leave_threads_alone);
        static struct stopped s;
        struct compel_thread leader;
        pid_t tids[8];
        size_t n;

        assert_eventually(get(t.sh->ready));
        assert_eventually(state_of(t.pid) == 'Z');
        assert_int_equal(compel_seize(&leader, t.pid, 0), -ESRCH);
        compel_release(&leader);
        n = tids_of(t.pid, tids, ELEMENTSOF(tids));
        assert_int_equal(n, 4);
        for (int round = 0; round < 3; round++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                struct compel_visit *v = NULL;

                assert_int_equal(stop_tids(&s, tids + 1, 3, 0), 0);
                assert_int_equal(enter(&s, &v, &err), 0);
                for (size_t i = 0; i < 3; i++) {
                        compel_call(compel_visit_batch(v), "get its tid", SYS_gettid);
                        assert_int_equal(compel_visit_run(v, &s.thread[i], &err), 0);
                        assert_int_equal(compel_visit_batch(v)->ops[0].ret, tids[1 + i]);
                        compel_reset(compel_visit_batch(v));
                }
                assert_int_equal(compel_visit_end(v, &err), 0);
                compel_visit_free(&v);
                let_go(&s);
                assert_true(lives(&t));
        }
        target_end(&t);
}

/* ---- signals ---------------------------------------------------------------------------- */

static struct shared *handler_shared;

static void note_signal(int signo, siginfo_t *si, void *context) {
        struct shared *sh = handler_shared;

        complain_if(sh, signo == SIGRTMIN + 1 && si->si_code != SI_QUEUE);
        if (sh->nr_got < (int)ELEMENTSOF(sh->got))
                sh->got[sh->nr_got] = signo == SIGRTMIN + 1 ? si->si_value.sival_int : -signo;
        set(sh->nr_got, sh->nr_got + 1);
}

static void take_signals(struct shared *sh) {
        struct sigaction sa = { .sa_sigaction = note_signal, .sa_flags = SA_SIGINFO };

        handler_shared = sh;
        sigfillset(&sa.sa_mask);
        sigaction(SIGUSR1, &sa, NULL);
        sigaction(SIGRTMIN + 1, &sa, NULL);
        set(sh->ready, 1);
        for (;;) {
                pause();
                set(sh->beats, sh->beats + 1);
        }
}

/*
 * Those sent while the target is in the agent, stopped or running: once each, in order, with their
 * values.
 */
static void signals_arrive_once(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct target t = target_start(take_signals);
        static struct stopped s;
        struct compel_visit *v = NULL;
        const int n = 100;
        int next = 0;

        assert_eventually(get(t.sh->ready) && sleeps_in(t.pid, SYS_pause));
        assert_int_equal(stop_all(&s, t.pid), 0);
        for (int round = 0; round < 4; round++) {
                for (int i = 0; i < n / 4; i++)
                        assert_int_equal(
                                sigqueue(t.pid, SIGRTMIN + 1, (union sigval){ .sival_int = next++ }), 0);
                kill(t.pid, SIGUSR1);
                if (!v)
                        assert_int_equal(enter(&s, &v, &err), 0);
                assert_int_equal(compel_visit_run(v, &s.thread[0], &err), 0);
        }
        assert_int_equal(get(t.sh->nr_got), 0);
        assert_int_equal(compel_visit_end(v, &err), 0);
        compel_visit_free(&v);
        let_go(&s);
        assert_eventually(get(t.sh->nr_got) >= n + 1);
        assert_eventually(sleeps_in(t.pid, SYS_pause));
        assert_int_equal(t.sh->nr_got, n + 1); /* SIGUSR1 does not queue */
        assert_int_equal(t.sh->got[0], -SIGUSR1);
        for (int i = 0; i < n; i++)
                assert_int_equal(t.sh->got[1 + i], i);
        assert_int_equal(t.sh->failed, 0);
        target_end(&t);
}

static void blocked_signals_stay_blocked(void **state) {
        struct target t = target_start(take_signals);
        static struct stopped s;
        uint64_t mask = 0;

        assert_eventually(get(t.sh->ready) && sleeps_in(t.pid, SYS_pause));
        assert_int_equal(stop_all(&s, t.pid), 0);
        assert_int_equal(compel_set_sigmask(&s.thread[0], 0x1234567800000200), 0);
        let_go(&s);
        assert_visited(t.pid);
        assert_int_equal(stop_all(&s, t.pid), 0);
        assert_true(s.thread[0].sigmask == 0x1234567800000200);
        assert_int_equal(compel_get_sigmask(&s.thread[0], &mask), 0);
        assert_true(mask == 0x1234567800000200);
        let_go(&s);
        target_end(&t);
}

/* A storm while visits go on. */
static void storm(void **state) {
        struct target t = target_start(take_signals);
        int sent = 0;

        assert_eventually(get(t.sh->ready));
        while (sent < 2000) {
                for (int i = 0; i < 10; i++)
                        if (sigqueue(t.pid, SIGRTMIN + 1, (union sigval){ .sival_int = sent }) == 0)
                                sent++;
                assert_visited(t.pid);
        }
        assert_eventually(get(t.sh->nr_got) >= sent);
        assert_int_equal(t.sh->nr_got, sent);
        for (int i = 0; i < sent; i++)
                assert_int_equal(t.sh->got[i], i);
        target_end(&t);
}

/* ---- restartable sequences ---------------------------------------------------------------- */

extern const char rseq_start[], rseq_end[], rseq_abort[];

/* Spins in a sequence for good; every abort is counted and begins it anew. */
static void spin_in_rseq(struct shared *sh) {
        struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);

        __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n"
                         ".balign 32\n"
                         "7: .long 0, 0\n .quad rseq_start, rseq_end - rseq_start, rseq_abort\n"
                         ".popsection\n"
                         ".globl rseq_start, rseq_end, rseq_abort\n"
                         "1: lea 7b(%%rip), %%rax\n"
                         "mov %%rax, (%0)\n"
                         "rseq_start: movl $1, (%2)\n"
                         "2: pause\n jmp 2b\n"
                         "rseq_end:\n"
                         ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
                         "rseq_abort:\n"
                         "lock incq (%1)\n"
                         "jmp 1b\n"
                         :
                         : "r"(&area->rseq_cs), "r"(&sh->beats), "r"(&sh->ready)
                         : "rax", "memory");
}

static void rseq_is_aborted(void **state) {
        struct target t;
        static struct stopped s;
        int at_abort = 0;

        if (__rseq_size == 0)
                skip();
        t = target_start(spin_in_rseq);
        assert_eventually(get(t.sh->ready));
        for (int i = 0; i < 200; i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                struct compel_visit *v = NULL;
                struct user_regs_struct regs;
                uint64_t beats, rip;

                assert_int_equal(stop_all(&s, t.pid), 0);
                beats = get(t.sh->beats);
                rip = s.thread[0].regs.rip;
                assert_false(rip >= compel_arg(rseq_start) && rip < compel_arg(rseq_end));
                at_abort += rip == compel_arg(rseq_abort);
                assert_int_equal(enter(&s, &v, &err), 0);
                compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
                assert_int_equal(compel_visit_run(v, &s.thread[0], &err), 0);
                assert_int_equal(compel_visit_end(v, &err), 0);
                compel_visit_free(&v);
                assert_int_equal(compel_get_xstate(&s.thread[0], &(char[16384]){ 0 }, &(size_t){ 16384 }),
                                 0);
                regs = s.thread[0].regs;
                assert_true(regs.rip == rip);
                let_go(&s);
                assert_eventually(get(t.sh->beats) > beats);
        }
        assert_true(at_abort > 100);
        target_end(&t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(registers_survive),
                cmocka_unit_test(stopped_stays_stopped),
                cmocka_unit_test(reports_the_stop_signal),
                cmocka_unit_test(stop_during_visit),
                cmocka_unit_test(stop_and_continue_during_visit),
                cmocka_unit_test(every_thread_goes_through),
                cmocka_unit_test(threads_and_job_control),
                cmocka_unit_test(other_thread_drives),
                cmocka_unit_test(dead_leader),
                cmocka_unit_test(signals_arrive_once),
                cmocka_unit_test(blocked_signals_stay_blocked),
                cmocka_unit_test(storm),
                cmocka_unit_test(rseq_is_aborted),
        };

        return cmocka_run_group_tests_name("compel: state of the target", tests, NULL, NULL);
}
