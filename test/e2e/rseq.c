/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy libs=-lpthread timeout=60 */
/* Restartable sequences as libc registers them: the kernel keeps the thread's cpu_id up to date, also where it
 * moves to after the restore; a critical section that runs all the time loses no count. */
#include "e2e.h"

#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#define N_THREADS 3

static struct gate ready, go;
static volatile int stop;
static bool unregister;
static uint64_t per_cpu[1024][8];
static uint64_t done[N_THREADS];

static struct rseq *area(void) {
        return (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static uint32_t cpu_id(void) {
        return __atomic_load_n(&area()->cpu_id, __ATOMIC_RELAXED);
}

/* Adds one to this CPU's counter, without a lock prefix: right only when the kernel aborts the sequence of a
 * thread that it takes off the CPU. Returns false then. */
static bool add_on_cpu(void) {
        struct rseq *rs = area();
        uint32_t cpu = cpu_id();
        uint64_t *counter = per_cpu[cpu];
        void *cs = &rs->rseq_cs, *id = &rs->cpu_id;
        bool ok;

        __asm__ goto(
                ".pushsection __rseq_cs, \"aw\"\n"
                ".balign 32\n"
                "3:\n"
                ".long 0, 0\n"
                ".quad 1f, 2f - 1f, 4f\n"
                ".popsection\n"
                "leaq 3b(%%rip), %%rax\n"
                "movq %%rax, (%[cs])\n"
                "1:\n"
                "cmpl %[cpu], (%[cpu_id])\n"
                "jnz 4f\n"
                "movq (%[counter]), %%rax\n"
                "incq %%rax\n"
                "movq %%rax, (%[counter])\n"
                "2:\n"
                "jmp 5f\n"
                ".long %c[sig]\n"
                "4:\n"
                "jmp %l[aborted]\n"
                "5:\n"
                :
                : [cs] "r"(cs), [cpu] "r"(cpu), [cpu_id] "r"(id), [counter] "r"(counter), [sig] "i"(RSEQ_SIG)
                : "rax", "memory", "cc"
                : aborted);
        ok = true;
        if (0) {
        aborted:
                ok = false;
        }
        return ok;
}

static void *count(void *arg) {
        uint64_t *n = arg;

        gate_open(&ready, 1);
        while (!stop)
                if (add_on_cpu())
                        (*n)++;
        return arg;
}

/* Moves to each CPU that it may use and looks at the field. */
static void *follow(void *arg) {
        cpu_set_t allowed, one;

        CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity: %m");
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        if (unregister)
                CHECK(syscall(SYS_rseq, area(), __rseq_size > 32 ? __rseq_size : 32, 1, RSEQ_SIG) == 0,
                      "rseq: %m");
        for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (!CPU_ISSET(cpu, &allowed))
                        continue;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                CHECK(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity: %m");
                CHECK(cpu_id() == cpu && area()->cpu_id_start == cpu, "on CPU %u: cpu_id is %u", cpu,
                      cpu_id());
        }
        CHECK(sched_setaffinity(0, sizeof(allowed), &allowed) == 0, "sched_setaffinity: %m");
        return arg;
}

int main(int argc, char **argv) {
        uint64_t sum = 0, want = 0, seen;
        pthread_t t[N_THREADS], f;

        test_init(argc, argv);
        if (__rseq_size == 0)
                test_skip("libc has not registered restartable sequences");
        gate_init(&ready);
        gate_init(&go);
        CHECK(pthread_create(&f, NULL, follow, NULL) == 0, "pthread_create");
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_create(&t[i], NULL, count, &done[i]) == 0, "pthread_create");
        gate_pass(&ready, N_THREADS + 1);
        test_ready();
        test_wait();
        /* break: unregister = true; */
        seen = *(volatile uint64_t *)&done[0];
        WAIT_FOR(*(volatile uint64_t *)&done[0] > seen, "the counting goes on");
        stop = 1;
        for (int i = 0; i < N_THREADS; i++) {
                CHECK(pthread_join(t[i], NULL) == 0, "pthread_join");
                want += done[i];
        }
        /* break: per_cpu[0][0]++; */
        for (size_t i = 0; i < ELEMENTS(per_cpu); i++)
                sum += per_cpu[i][0];
        CHECK(sum == want, "counted %" PRIu64 " of %" PRIu64, sum, want);
        gate_open(&go, 2);
        CHECK(pthread_join(f, NULL) == 0, "pthread_join");
        CHECK(pthread_create(&f, NULL, follow, NULL) == 0 && pthread_join(f, NULL) == 0, "a new thread");
        test_pass();
}
