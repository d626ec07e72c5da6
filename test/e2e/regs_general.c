/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy libs=-lpthread timeout=60 */
/* General registers, flags (the direction flag too), data segments, bases of FS and GS and the red zone of
 * threads that spin in user space, without a single system call, until a word in memory changes. */
#include "e2e.h"

#include <pthread.h>
#include <sys/auxv.h>

#define N_THREADS 6
#define N_REGS    14 /* all but rsp, and rcx, with which it waits */
#define RED_ZONE  16

struct state {
        uint64_t regs[N_REGS]; /* rax rbx rdx rsi rdi rbp r8..r15 */
        uint64_t flags, fs, gs, ds, es;
        uint64_t red[RED_ZONE];
};

struct thread {
        pthread_t t;
        int i;
        struct state in, out;
        volatile uint64_t running;
};

static struct thread threads[N_THREADS];
/* Absolute, so that no register need point to it. */
static volatile uint64_t let_go __attribute__((used));

/* Loads everything from in, spins, and stores everything to out. The two pointers and what C needs wait on the
 * stack, below the red zone's 128 bytes of which the assembly makes room. */
static void __attribute__((noinline))
spin(const struct state *in, struct state *out, volatile uint64_t *running) {
        __asm__ volatile(
                "push %%rbp\n push %%rbx\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
                "push %[out]\n"
                "rdfsbase %%rax\n push %%rax\n"
                "rdgsbase %%rax\n push %%rax\n"
                "mov %%rsp, %%rax\n"
                /* rcx walks through in; the red zone first. */
                "mov %[in], %%rcx\n"
                ".set i, 0\n"
                ".rept 16\n"
                "mov 152+i(%%rcx), %%rax\n mov %%rax, -128+i(%%rsp)\n"
                ".set i, i+8\n"
                ".endr\n"
                "movq $1, (%[running])\n"
                "mov 136(%%rcx), %%rax\n mov %%eax, %%ds\n"
                "mov 144(%%rcx), %%rax\n mov %%eax, %%es\n"
                "mov 128(%%rcx), %%rax\n wrgsbase %%rax\n"
                "mov 120(%%rcx), %%rax\n wrfsbase %%rax\n"
                /* The flags travel through a word that is not in the red zone. */
                "lea -256(%%rsp), %%rsp\n"
                "pushq 112(%%rcx)\n popfq\n"
                "lea 256(%%rsp), %%rsp\n"
                "mov 0(%%rcx), %%rax\n mov 8(%%rcx), %%rbx\n mov 16(%%rcx), %%rdx\n mov 24(%%rcx), %%rsi\n"
                "mov 32(%%rcx), %%rdi\n mov 40(%%rcx), %%rbp\n mov 48(%%rcx), %%r8\n mov 56(%%rcx), %%r9\n"
                "mov 64(%%rcx), %%r10\n mov 72(%%rcx), %%r11\n mov 80(%%rcx), %%r12\n mov 88(%%rcx), %%r13\n"
                "mov 96(%%rcx), %%r14\n mov 104(%%rcx), %%r15\n"
                /* Neither instruction changes the flags. */
                "1: mov let_go(%%rip), %%rcx\n jrcxz 1b\n"
                "mov 16(%%rsp), %%rcx\n"
                "mov %%rax, 0(%%rcx)\n mov %%rbx, 8(%%rcx)\n mov %%rdx, 16(%%rcx)\n mov %%rsi, 24(%%rcx)\n"
                "mov %%rdi, 32(%%rcx)\n mov %%rbp, 40(%%rcx)\n mov %%r8, 48(%%rcx)\n mov %%r9, 56(%%rcx)\n"
                "mov %%r10, 64(%%rcx)\n mov %%r11, 72(%%rcx)\n mov %%r12, 80(%%rcx)\n mov %%r13, 88(%%rcx)\n"
                "mov %%r14, 96(%%rcx)\n mov %%r15, 104(%%rcx)\n"
                "lea -256(%%rsp), %%rsp\n"
                "pushfq\n popq 112(%%rcx)\n"
                "lea 256(%%rsp), %%rsp\n"
                "cld\n"
                "xor %%eax, %%eax\n mov %%ds, %%eax\n mov %%rax, 136(%%rcx)\n"
                "xor %%eax, %%eax\n mov %%es, %%eax\n mov %%rax, 144(%%rcx)\n"
                "rdfsbase %%rax\n mov %%rax, 120(%%rcx)\n"
                "rdgsbase %%rax\n mov %%rax, 128(%%rcx)\n"
                ".set i, 0\n"
                ".rept 16\n"
                "mov -128+i(%%rsp), %%rax\n mov %%rax, 152+i(%%rcx)\n"
                ".set i, i+8\n"
                ".endr\n"
                "xor %%eax, %%eax\n mov %%eax, %%ds\n mov %%eax, %%es\n"
                "pop %%rax\n wrgsbase %%rax\n"
                "pop %%rax\n wrfsbase %%rax\n"
                "add $8, %%rsp\n"
                "pushq $0x202\n popfq\n"
                "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbx\n pop %%rbp\n"
                :
                : [in] "S"(in), [out] "D"(out), [running] "d"(running)
                : "rax", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void *run(void *arg) {
        struct thread *t = arg;
        sigset_t all;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        spin(&t->in, &t->out, &t->running);
        return arg;
}

static void check_state(const struct thread *t) {
        const struct state *a = &t->in, *b = &t->out;

        for (int i = 0; i < N_REGS; i++)
                CHECK(a->regs[i] == b->regs[i], "thread %d: register %d was 0x%" PRIx64 ", is 0x%" PRIx64,
                      t->i, i, a->regs[i], b->regs[i]);
        CHECK(a->flags == b->flags, "thread %d: flags were 0x%" PRIx64 ", are 0x%" PRIx64, t->i, a->flags,
              b->flags);
        CHECK(a->fs == b->fs && a->gs == b->gs,
              "thread %d: bases were 0x%" PRIx64 " 0x%" PRIx64 ", are 0x%" PRIx64 " 0x%" PRIx64, t->i, a->fs,
              a->gs, b->fs, b->gs);
        CHECK(a->ds == b->ds && a->es == b->es, "thread %d: ds 0x%" PRIx64 " es 0x%" PRIx64, t->i, b->ds,
              b->es);
        for (int i = 0; i < RED_ZONE; i++)
                CHECK(a->red[i] == b->red[i], "thread %d: word %d of the red zone", t->i, i);
}

int main(int argc, char **argv) {
        /* With what is always set: bit 1 and the interrupt flag. CF PF AF ZF SF DF OF, AC (nothing here is
         * unaligned). Not ID, which neither ptrace nor a signal frame can set. */
        static const uint64_t flags[N_THREADS] = {
                0x202, 0x602, 0xad7, 0xed7, 0x200 | 0x2 | 1 << 18, 0x643
        };
        static const uint64_t bases[N_THREADS] = {
                0, 1, 0x7fffffffe000, 0x123456789abc, 0xfff, 0x400000000000
        };

        test_init(argc, argv);
        if (!(getauxval(AT_HWCAP2) & 2))
                test_skip("this CPU or kernel has no FSGSBASE");
        for (int i = 0; i < N_THREADS; i++) {
                struct thread *t = &threads[i];

                t->i = i;
                fill(t->in.regs, sizeof(t->in.regs), 100 + (uint64_t)i);
                fill(t->in.red, sizeof(t->in.red), 200 + (uint64_t)i);
                t->in.flags = flags[i];
                t->in.fs = bases[i];
                t->in.gs = bases[N_THREADS - 1 - i];
                t->in.ds = i % 2 ? 0x2b : 0;
                t->in.es = i % 3 ? 0x2b : 0;
                CHECK(pthread_create(&t->t, NULL, run, t) == 0, "pthread_create");
                WAIT_FOR(t->running, "the thread runs");
        }
        for (int i = 0; i < 20; i++)
                tick();
        test_ready();
        test_wait();
        /* break: threads[0].in.regs[3]++; */
        /* break: threads[1].in.flags ^= 0x400; */
        /* break: threads[2].in.fs++; */
        /* break: threads[3].in.gs++; */
        /* break: threads[1].in.ds = 0; */
        /* break: threads[5].in.red[0]++; */
        let_go = 1;
        for (int i = 0; i < N_THREADS; i++) {
                CHECK(pthread_join(threads[i].t, NULL) == 0, "pthread_join");
                check_state(&threads[i]);
        }
        test_pass();
}
