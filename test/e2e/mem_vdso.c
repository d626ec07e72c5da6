/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy libs=-lpthread timeout=60 */
/* Threads that ask the vDSO for the time without pause: it works on, never goes backwards, and agrees with the
 * system call; the vDSO's other functions work too. */
#include "e2e.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>

static volatile int stop;
static volatile uint64_t rounds[2];

/* Finds a function of the vDSO by its own symbol table, as libc does. */
static void *vdso_symbol(const char *name) {
        const char *base = (const char *)getauxval(AT_SYSINFO_EHDR), *strings = NULL;
        const ElfW(Ehdr) *eh = (const void *)base;
        const ElfW(Phdr) *ph = (const void *)(base + eh->e_phoff);
        const ElfW(Sym) *symbols = NULL;
        const ElfW(Dyn) *dyn = NULL;
        const char *load = NULL;

        for (int i = 0; i < eh->e_phnum; i++) {
                if (ph[i].p_type == PT_LOAD && !load)
                        load = base + ph[i].p_offset - ph[i].p_vaddr;
                if (ph[i].p_type == PT_DYNAMIC)
                        dyn = (const void *)(base + ph[i].p_offset);
        }
        CHECK(load && dyn, "the vDSO's headers");
        for (; dyn->d_tag != DT_NULL; dyn++) {
                if (dyn->d_tag == DT_STRTAB)
                        strings = load + dyn->d_un.d_ptr;
                if (dyn->d_tag == DT_SYMTAB)
                        symbols = (const void *)(load + dyn->d_un.d_ptr);
        }
        CHECK(strings && symbols, "the vDSO's symbols");
        for (int i = 1; i < 64; i++)
                if (strcmp(strings + symbols[i].st_name, name) == 0)
                        return (void *)(uintptr_t)(load + symbols[i].st_value);
        CHECK(false, "no %s in the vDSO", name);
        return NULL;
}

static void *loop(void *arg) {
        const int which = arg ? 1 : 0;
        const clockid_t clock = which ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        int64_t last = 0;

        while (!stop) {
                int64_t now = now_ns(clock);

                CHECK(now >= last, "clock %d went from %" PRId64 " to %" PRId64, clock, last, now);
                last = now;
                rounds[which]++;
        }
        return NULL;
}

int main(int argc, char **argv) {
        int (*gettime)(clockid_t, struct timespec *), (*cpu)(unsigned *, unsigned *, void *);
        int (*timeofday)(struct timeval *, void *);
        const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC,       CLOCK_MONOTONIC_RAW,
                                     CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE };
        unsigned n, node;
        uint64_t seen[2];
        pthread_t t[2];
        struct timeval tv;
        void *p, *ehdr = (void *)getauxval(AT_SYSINFO_EHDR);
        struct vma v;

        test_init(argc, argv);
        p = vdso_symbol("__vdso_clock_gettime");
        memcpy(&gettime, &p, sizeof(p));
        p = vdso_symbol("__vdso_getcpu");
        memcpy(&cpu, &p, sizeof(p));
        p = vdso_symbol("__vdso_gettimeofday");
        memcpy(&timeofday, &p, sizeof(p));
        for (int i = 0; i < 2; i++)
                CHECK(pthread_create(&t[i], NULL, loop, i ? &t : NULL) == 0, "pthread_create");
        WAIT_FOR(rounds[0] > 1000 && rounds[1] > 1000, "the loops run");
        test_ready();
        test_wait();
        /* break: stop = 1; pthread_join(t[1], NULL); pthread_create(&t[1], NULL, loop, NULL); */
        /* break: munmap(ehdr, 2 * PAGE); */
        /* break: p = NULL; memcpy(&gettime, &p, sizeof(p)); */
        seen[0] = rounds[0];
        seen[1] = rounds[1];
        WAIT_FOR(rounds[0] > seen[0] + 1000 && rounds[1] > seen[1] + 1000, "the loops go on");
        stop = 1;
        CHECK(pthread_join(t[0], NULL) == 0 && pthread_join(t[1], NULL) == 0, "pthread_join");
        CHECK(find_vma(ehdr, &v), "nothing is mapped where the vDSO was");
        for (size_t i = 0; i < ELEMENTS(clocks); i++) {
                struct timespec a, b, c;

                CHECK(syscall(SYS_clock_gettime, clocks[i], &a) == 0, "clock_gettime: %m");
                CHECK(gettime(clocks[i], &b) == 0, "the vDSO's clock_gettime");
                CHECK(syscall(SYS_clock_gettime, clocks[i], &c) == 0, "clock_gettime: %m");
                CHECK(a.tv_sec * NS_PER_S + a.tv_nsec <= b.tv_sec * NS_PER_S + b.tv_nsec &&
                              b.tv_sec * NS_PER_S + b.tv_nsec <= c.tv_sec * NS_PER_S + c.tv_nsec,
                      "clock %d: %ld.%09ld is not between %ld.%09ld and %ld.%09ld", clocks[i], b.tv_sec,
                      b.tv_nsec, a.tv_sec, a.tv_nsec, c.tv_sec, c.tv_nsec);
        }
        CHECK(cpu(&n, &node, NULL) == 0 && n < CPU_SETSIZE, "the vDSO's getcpu");
        CHECK(timeofday(&tv, NULL) == 0 && tv.tv_sec > 0, "the vDSO's gettimeofday");
        test_pass();
}
