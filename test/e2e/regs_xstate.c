/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy libs=-lpthread timeout=60 */
/* x87, SSE, AVX and AVX-512 registers, whatever this CPU has of them, of threads that spin in user space; and of
 * some that were interrupted there by a signal and are inside its handler: their registers lie in the frame. */
#include "e2e.h"

#include <cpuid.h>
#include <pthread.h>

#define N_THREADS 6
#define AREA      8192
#define LEGACY    512

/* Bits of XCR0: x87, SSE, AVX, opmask, ZMM_Hi256, Hi16_ZMM. Protection keys and tiles are left alone. */
#define COMPONENTS 0xe7ULL

struct thread {
        pthread_t t;
        int i;
        pid_t tid;
        bool in_handler;
        volatile uint64_t running;
        _Alignas(64) unsigned char in[AREA], out[AREA];
};

static struct thread threads[N_THREADS];
static volatile uint64_t let_go __attribute__((used));
static struct gate ready, go;
static uint64_t components;
static __thread struct thread *me;

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {
        __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
}

static uint64_t xgetbv0(void) {
        uint32_t lo, hi;

        __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        return lo | (uint64_t)hi << 32;
}

/* Offset and size of a component above SSE in the standard format. */
static void where(int component, uint32_t *offset, uint32_t *size) {
        uint32_t r[4];

        cpuid(0xd, (uint32_t)component, r);
        *size = r[0];
        *offset = r[1];
        CHECK(*offset + *size <= AREA, "component %d is at %u+%u", component, *offset, *size);
}

static void prepare(unsigned char *area, uint64_t seed) {
        /* Eight values of 80 bits, none of them special, in the order of the stack. */
        static const unsigned char number[10] = { 1, 2, 3, 4, 5, 6, 7, 0x81, 0x0c, 0x40 };
        uint16_t control = (uint16_t)(0x037f | (seed % 4) << 10); /* rounding; exceptions masked */
        uint16_t status = (uint16_t)((seed % 8) << 11 | 0x4521);  /* top of stack, condition codes, flags */
        uint32_t mxcsr = (uint32_t)(0x1f80 | (seed % 4) << 13 | 0x8000 | 0x21);

        memset(area, 0, AREA);
        memcpy(area, &control, 2);
        memcpy(area + 2, &status, 2);
        area[4] = 0xff; /* all registers in use (abridged tag word) */
        memcpy(area + 24, &mxcsr, 4);
        for (int i = 0; i < 8; i++) {
                memcpy(area + 32 + i * 16, number, 10);
                area[32 + i * 16] = (unsigned char)(seed * 8 + (uint64_t)i);
        }
        fill(area + 160, 256, seed);
        for (int c = 2; c < 8; c++) {
                uint32_t offset, size;

                if (!(components & 1ULL << c))
                        continue;
                where(c, &offset, &size);
                fill(area + offset, size, seed * 100 + (uint64_t)c);
        }
        memcpy(area + LEGACY, &components, 8);
}

static void __attribute__((noinline)) spin(const void *in, void *out, volatile uint64_t *running) {
        __asm__ volatile("xrstor64 (%[in])\n"
                         "movq $1, (%[running])\n"
                         "1: mov let_go(%%rip), %%rcx\n jrcxz 1b\n"
                         "xsave64 (%[out])\n"
                         "fninit\n"
                         :
                         : [in] "S"(in), [out] "D"(out), [running] "r"(running), "a"((uint32_t)components),
                           "d"(0)
                         : "rcx", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void on_usr1(int sig E2E_UNUSED) {
        static _Alignas(64) unsigned char zero[AREA];

        /* Other contents while the handler runs. */
        memcpy(zero + 24, "\x80\x1f\0\0", 4);
        __asm__ volatile("xrstor64 (%0)" : : "r"(zero), "a"((uint32_t)components), "d"(0) : "memory");
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        me->in_handler = true;
}

static void *run(void *arg) {
        static const uint32_t mxcsr = 0x1f80;

        me = arg;
        me->tid = xgettid();
        spin(me->in, me->out, &me->running);
        __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
        return arg;
}

static void compare(const struct thread *t, size_t from, size_t size, const char *what) {
        for (size_t i = from; i < from + size; i++)
                CHECK(t->in[i] == t->out[i], "thread %d: %s: byte %zu is 0x%02x, not 0x%02x", t->i, what,
                      i - from, t->out[i], t->in[i]);
}

static void check_thread(const struct thread *t) {
        static const char *const names[] = {
                "x87", "SSE", "AVX", "", "", "opmask", "ZMM_Hi256", "Hi16_ZMM"
        };

        compare(t, 0, 5, "x87 control, status and tag");
        compare(t, 24, 4, "MXCSR");
        for (size_t i = 0; i < 8; i++)
                compare(t, 32 + i * 16, 10, "x87 register");
        compare(t, 160, 256, "SSE");
        for (int c = 2; c < 8; c++) {
                uint32_t offset, size;

                if (!(components & 1ULL << c))
                        continue;
                where(c, &offset, &size);
                compare(t, offset, size, names[c]);
        }
}

int main(int argc, char **argv) {
        uint32_t r[4];
        sigset_t usr1;

        test_init(argc, argv);
        cpuid(1, 0, r);
        if (!(r[2] & 1U << 27))
                test_skip("this CPU has no XSAVE");
        components = xgetbv0() & COMPONENTS;
        test_msg("state components 0x%" PRIx64, components);
        gate_init(&ready);
        gate_init(&go);
        signal(SIGUSR1, on_usr1);
        sigfillset(&usr1);
        sigdelset(&usr1, SIGUSR1);
        pthread_sigmask(SIG_SETMASK, &usr1, NULL);
        for (int i = 0; i < N_THREADS; i++) {
                struct thread *t = &threads[i];

                t->i = i;
                prepare(t->in, (uint64_t)i + 1);
                CHECK(pthread_create(&t->t, NULL, run, t) == 0, "pthread_create");
                WAIT_FOR(t->running, "the thread runs");
                if (i % 3 == 2) {
                        CHECK(syscall(SYS_tgkill, getpid(), t->tid, SIGUSR1) == 0, "tgkill: %m");
                        gate_pass(&ready, 1);
                }
        }
        test_ready();
        test_wait();
        /* break: threads[0].in[160 + 17]++; */
        /* break: threads[2].in[32 + 7]++; */
        /* break: threads[1].in[24] ^= 1; */
        /* break: threads[3].in[3] ^= 0x40; */
        /* break: uint32_t o, s; where(2, &o, &s); threads[4].in[o + s - 1]++; */
        let_go = 1;
        gate_open(&go, N_THREADS / 3);
        for (int i = 0; i < N_THREADS; i++) {
                CHECK(pthread_join(threads[i].t, NULL) == 0, "pthread_join");
                CHECK(threads[i].in_handler == (i % 3 == 2), "thread %d: handler", i);
                check_thread(&threads[i]);
        }
        test_pass();
}
