/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: env=GLIBC_TUNABLES=glibc.pthread.rseq=0 libs=-lpthread timeout=60 */
/* A program that registers restartable sequences by itself, with its own signature, in one thread only. */
#include "e2e.h"

#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#define OWN_SIGNATURE 0x12345678U

static struct gate ready, go;
static struct rseq own __attribute__((aligned(64)));

static void *without(void *arg) {
        struct rseq *fresh = aligned_alloc(64, 64);

        CHECK(fresh, "aligned_alloc");
        memset(fresh, 0, 64);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        /* It has none: a registration succeeds. */
        CHECK(syscall(SYS_rseq, fresh, 32, 0, OWN_SIGNATURE) == 0, "register in a thread without: %m");
        CHECK(syscall(SYS_rseq, fresh, 32, RSEQ_FLAG_UNREGISTER, OWN_SIGNATURE) == 0, "unregister: %m");
        return arg;
}

int main(int argc, char **argv) {
        cpu_set_t allowed, one;
        pthread_t t;

        test_init(argc, argv);
        if (__rseq_size != 0) {
                /* Started without the runner's environment. */
                CHECK(!getenv("E2E_AGAIN"), "libc has registered all the same");
                setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
                setenv("E2E_AGAIN", "1", 1);
                execv("/proc/self/exe", argv);
                CHECK(false, "exec: %m");
        }
        gate_init(&ready);
        gate_init(&go);
        CHECK(syscall(SYS_rseq, &own, 32, 0, OWN_SIGNATURE) == 0, "rseq: %m");
        CHECK(pthread_create(&t, NULL, without, NULL) == 0, "pthread_create");
        gate_pass(&ready, 1);
        CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity: %m");
        test_ready();
        test_wait();
        /* break: syscall(SYS_rseq, &own, 32, RSEQ_FLAG_UNREGISTER, OWN_SIGNATURE); */
        /* break: syscall(SYS_rseq, &own, 32, RSEQ_FLAG_UNREGISTER, OWN_SIGNATURE); syscall(SYS_rseq, &own, 32, 0, 1); */
        for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (!CPU_ISSET(cpu, &allowed))
                        continue;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                CHECK(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity: %m");
                CHECK(__atomic_load_n(&own.cpu_id, __ATOMIC_RELAXED) == cpu, "on CPU %u: cpu_id is %u", cpu,
                      own.cpu_id);
        }
        CHECK(syscall(SYS_rseq, &own, 32, 0, OWN_SIGNATURE) < 0 && errno == EBUSY, "registered twice: %m");
        CHECK(syscall(SYS_rseq, &own, 32, RSEQ_FLAG_UNREGISTER, OWN_SIGNATURE + 1) < 0 && errno == EPERM,
              "another signature: %m");
        CHECK(syscall(SYS_rseq, &own, 32, RSEQ_FLAG_UNREGISTER, OWN_SIGNATURE) == 0, "unregister: %m");
        gate_open(&go, 1);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        test_pass();
}
