/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy ignore=maps rounds=3 libs=-lpthread timeout=60 */
/* The vDSO of another kernel: the program alters its own copy, so that it is not the restoring kernel's any more,
 * and asks it for the time without pause, so that threads are stopped in the middle of it. Every function works
 * on by the pointers that the program has. What it gets as a replacement it alters, too, so that
 * each round adds one to the chain. */
#include "e2e.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>

#define N_THREADS 3

static volatile int stop, altered;
static volatile uint64_t rounds[N_THREADS];

struct functions {
        int (*gettime)(clockid_t, struct timespec *);
        int (*getres)(clockid_t, struct timespec *);
        int (*timeofday)(struct timeval *, void *);
        time_t (*time)(time_t *);
        int (*cpu)(unsigned *, unsigned *, void *);
};

static void find_functions(struct functions *f) {
        static const struct {
                const char *name;
                size_t at;
        } table[] = {
                { "__vdso_clock_gettime", offsetof(struct functions, gettime) },
                { "__vdso_clock_getres", offsetof(struct functions, getres) },
                { "__vdso_gettimeofday", offsetof(struct functions, timeofday) },
                { "__vdso_time", offsetof(struct functions, time) },
                { "__vdso_getcpu", offsetof(struct functions, cpu) },
        };
        const char *base = (const char *)getauxval(AT_SYSINFO_EHDR), *strings = NULL;
        const ElfW(Ehdr) *eh = (const void *)base;
        const ElfW(Phdr) *ph = (const void *)(base + eh->e_phoff);
        const ElfW(Sym) *symbols = NULL;

        for (int i = 0; i < eh->e_phnum; i++) {
                if (ph[i].p_type != PT_DYNAMIC)
                        continue;
                for (const ElfW(Dyn) *dyn = (const void *)(base + ph[i].p_offset); dyn->d_tag != DT_NULL;
                     dyn++) {
                        if (dyn->d_tag == DT_STRTAB)
                                strings = base + dyn->d_un.d_ptr;
                        if (dyn->d_tag == DT_SYMTAB)
                                symbols = (const void *)(base + dyn->d_un.d_ptr);
                }
        }
        CHECK(strings && symbols, "the vDSO's symbols");
        memset(f, 0, sizeof(*f));
        for (size_t t = 0; t < ELEMENTS(table); t++)
                for (int i = 1; i < 16; i++)
                        if (strcmp(strings + symbols[i].st_name, table[t].name) == 0) {
                                const char *p = base + symbols[i].st_value;

                                memcpy((char *)f + table[t].at, &p, sizeof(p));
                                break;
                        }
        CHECK(f->gettime && f->getres && f->timeofday && f->time && f->cpu, "the vDSO's functions");
}

/* Where the kernel's own is by now: the end of a chain of jumps. Without /proc/self/maps, which would be found open. */
static char *find_vdso(const struct functions *f) {
        const unsigned char *p, *target;
        const char *at;

        memcpy(&p, &f->gettime, sizeof(p));
        for (;;) {
                if (memcmp(p, "\xf3\x0f\x1e\xfa", 4) == 0)
                        p += 4;
                if (memcmp(p, "\xff\x25\0\0\0\0", 6) != 0)
                        break;
                memcpy(&target, p + 6, sizeof(target));
                p = target;
        }
        at = (const char *)((uintptr_t)p & ~(PAGE - 1));
        while (memcmp(at, ELFMAG, SELFMAG) != 0)
                at -= PAGE;
        return (char *)(uintptr_t)at;
}

/* A byte of the ELF header that means nothing. */
static void alter(char *base) {
        const ElfW(Ehdr) *eh = (const void *)base;
        size_t size = (eh->e_shoff + (size_t)eh->e_shnum * eh->e_shentsize + PAGE - 1) &
                      ~(PAGE - 1); /* all of it */

        CHECK(mprotect(base, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0, "mprotect: %m");
        base[EI_NIDENT - 1] ^= 1;
        CHECK(mprotect(base, size, PROT_READ | PROT_EXEC) == 0, "mprotect: %m");
}

static void *alter_all(void *arg) {
        while (!stop) {
                char *p = find_vdso(arg);

                if ((p[EI_NIDENT - 1] & 1) == 0) {
                        alter(p);
                        altered++;
                }
                tick();
        }
        return NULL;
}

static void *loop(void *arg) {
        volatile uint64_t *count = arg;
        struct functions f;
        int64_t last = 0;

        find_functions(&f);
        while (!stop) {
                struct timespec ts;
                int64_t now;

                CHECK(f.gettime(CLOCK_MONOTONIC, &ts) == 0, "clock_gettime");
                now = ts.tv_sec * NS_PER_S + ts.tv_nsec;
                CHECK(now >= last && (last == 0 || now - last < 600 * NS_PER_S),
                      "the clock went from %" PRId64 " to %" PRId64, last, now);
                last = now;
                ++*count;
        }
        return NULL;
}

static void check_functions(const struct functions *f) {
        const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC,       CLOCK_MONOTONIC_RAW,
                                     CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE,
                                     CLOCK_TAI };
        struct timespec a, b, c;
        struct timeval tv;
        unsigned n, node;

        for (size_t i = 0; i < ELEMENTS(clocks); i++) {
                CHECK(syscall(SYS_clock_gettime, clocks[i], &a) == 0, "clock_gettime: %m");
                CHECK(f->gettime(clocks[i], &b) == 0, "the vDSO's clock_gettime");
                CHECK(syscall(SYS_clock_gettime, clocks[i], &c) == 0, "clock_gettime: %m");
                CHECK(a.tv_sec * NS_PER_S + a.tv_nsec <= b.tv_sec * NS_PER_S + b.tv_nsec &&
                              b.tv_sec * NS_PER_S + b.tv_nsec <= c.tv_sec * NS_PER_S + c.tv_nsec,
                      "clock %d is wrong", clocks[i]);
        }
        CHECK(f->getres(CLOCK_MONOTONIC, &a) == 0 && syscall(SYS_clock_getres, CLOCK_MONOTONIC, &b) == 0 &&
                      a.tv_nsec == b.tv_nsec,
              "the vDSO's clock_getres");
        CHECK(f->timeofday(&tv, NULL) == 0 && labs(tv.tv_sec - time(NULL)) <= 1, "the vDSO's gettimeofday");
        CHECK(labs(f->time(NULL) - tv.tv_sec) <= 1, "the vDSO's time");
        CHECK(f->cpu(&n, &node, NULL) == 0 && n < CPU_SETSIZE, "the vDSO's getcpu");
}

int main(int argc, char **argv) {
        struct functions f, again;
        pthread_t t[N_THREADS], alterer;
        uint64_t seen[N_THREADS];
        struct vma v;
        char *base;

        test_init(argc, argv);
        find_functions(&f);
        base = (char *)getauxval(AT_SYSINFO_EHDR);
        CHECK(pthread_create(&alterer, NULL, alter_all, &f) == 0, "pthread_create");
        WAIT_FOR(altered == 1, "the vDSO is altered");
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_create(&t[i], NULL, loop, (void *)&rounds[i]) == 0, "pthread_create");
        for (int i = 0; i < N_THREADS; i++)
                WAIT_FOR(rounds[i] > 1000, "the loops run");
        test_ready();
        test_wait();
        /* break: base -= PAGE; */
        /* break: base[EI_NIDENT - 1] ^= 1; */
        for (int i = 0; i < N_THREADS; i++)
                seen[i] = rounds[i];
        for (int i = 0; i < N_THREADS; i++)
                WAIT_FOR(rounds[i] > seen[i] + 1000, "the loops go on");
        stop = 1;
        CHECK(pthread_join(alterer, NULL) == 0, "pthread_join");
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(t[i], NULL) == 0, "pthread_join");
        CHECK((char *)getauxval(AT_SYSINFO_EHDR) == base, "AT_SYSINFO_EHDR");
        CHECK((base[EI_NIDENT - 1] & 1) == 1, "the code is not the program's own");
        CHECK(find_vma(base, &v), "nothing is mapped where the vDSO was");
        check_functions(&f);
        find_functions(&again);
        CHECK(memcmp(&f, &again, sizeof(f)) == 0, "the functions have moved");
        check_functions(&again);
        test_pass();
}
