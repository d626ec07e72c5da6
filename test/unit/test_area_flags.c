/* SPDX-License-Identifier: GPL-2.0-only */
/* Flags of memory areas by the BPF iterator: what is learnt, and that it tells what smaps tells. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <linux/mempolicy.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/area_flags.h"
#include "kernel/bpf.h"
#include "macro.h"

static void test_learn(void **state) {
        const struct area_sample samples[] = {
                { 0x01, PROC_VMF_RD | PROC_VMF_MR },
                { 0x03, PROC_VMF_RD | PROC_VMF_WR | PROC_VMF_MR },
                { 0x00, PROC_VMF_MR },
                { 0x34, PROC_VMF_IO | PROC_VMF_PF | PROC_VMF_DE | PROC_VMF_MR },
                { 0x300, PROC_VMF_HG | PROC_VMF_MR },
                { 0x400, PROC_VMF_MR },
                { 0x800, PROC_VMF_UNKNOWN | PROC_VMF_MR },
        };
        struct area_code code;
        uint64_t flags = 7;

        area_code_learn(samples, ELEMENTSOF(samples), &code);
        assert_int_equal(area_code_translate(&code, 0x03, &flags), 0);
        assert_int_equal(flags, PROC_VMF_RD | PROC_VMF_WR);
        assert_int_equal(area_code_translate(&code, 0, &flags), 0);
        assert_int_equal(flags, 0);
        /* Three that come together are told apart by nobody, but together they are these three. */
        assert_int_equal(area_code_translate(&code, 0x35, &flags), 0);
        assert_int_equal(flags, PROC_VMF_RD | PROC_VMF_IO | PROC_VMF_PF | PROC_VMF_DE);
        flags = 7;
        assert_int_equal(area_code_translate(&code, 0x04, &flags), -ENODATA);
        assert_int_equal(area_code_translate(&code, 0x30, &flags), -ENODATA);
        /* Two bits and one name; a bit without a name; one with a name that nobody knows; one that never came. */
        assert_int_equal(area_code_translate(&code, 0x300, &flags), -ENODATA);
        assert_int_equal(area_code_translate(&code, 0x400, &flags), -ENODATA);
        assert_int_equal(area_code_translate(&code, 0x800, &flags), -ENODATA);
        assert_int_equal(area_code_translate(&code, 1ULL << 63, &flags), -ENODATA);
        assert_int_equal(flags, 7);

        area_code_learn(NULL, 0, &code);
        assert_int_equal(area_code_translate(&code, 1, &flags), -ENODATA);
}

/* As in the life of a kernel: all 64 bits, each on its own and with others. */
static void test_learn_all(void **state) {
        struct area_sample samples[600];
        struct area_code code;

        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                uint64_t raw = 1ULL << i % 64 | (i < 64 ? 0 : 1ULL << i * 7 % 64);

                samples[i] = (struct area_sample){ raw, (raw << 1 | raw >> 63) & ~PROC_VMF_UNKNOWN };
        }
        area_code_learn(samples, ELEMENTSOF(samples), &code);
        for (size_t i = 0; i < 512; i++) {
                uint64_t flags;

                if (samples[i].raw >> 62 & 1) /* the one whose name was taken away */
                        assert_int_equal(area_code_translate(&code, samples[i].raw, &flags), -ENODATA);
                else {
                        assert_int_equal(area_code_translate(&code, samples[i].raw, &flags), 0);
                        assert_int_equal(flags, samples[i].flags);
                }
        }
}

/* ---- on this kernel ---- */

static const int advices[] = { MADV_SEQUENTIAL, MADV_RANDOM,     MADV_DONTFORK,  MADV_DONTDUMP,
                               MADV_HUGEPAGE,   MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_WIPEONFORK };

static char *map(int prot, int flags) {
        char *p = mmap(NULL, 3 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(p, MAP_FAILED);
        p = mmap(p + PAGE_SIZE, PAGE_SIZE, prot, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        assert_ptr_not_equal(p, MAP_FAILED);
        return p;
}

static void make_areas(void) {
        char *many = mmap(NULL, 4000 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(many, MAP_FAILED);
        for (size_t i = 0; i < 4000; i += 2)
                assert_int_equal(mprotect(many + i * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
        for (size_t i = 0; i < ELEMENTSOF(advices); i++)
                for (size_t j = 0; j < ELEMENTSOF(advices); j++) {
                        char *p = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);

                        (void)madvise(p, PAGE_SIZE, advices[i]);
                        (void)madvise(p, PAGE_SIZE, advices[j]);
                }
        map(PROT_WRITE, MAP_SHARED);
        map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_NORESERVE);
        map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN | MAP_STACK);
        (void)mlock(map(PROT_READ | PROT_WRITE, MAP_PRIVATE), PAGE_SIZE);
        (void)mlock2(map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE), PAGE_SIZE, MLOCK_ONFAULT);
}

static void *sleep_long(void *arg) {
        pause();
        return arg;
}

static void make_many(void) {
        pthread_t thread;

        make_areas();
        for (int i = 0; i < 3; i++)
                assert_int_equal(pthread_create(&thread, NULL, sleep_long, NULL), 0);
}

/* A process that stands still, with what `make` makes. */
static pid_t start_target(void (*make)(void)) {
        pid_t pid;
        int ready[2];
        char byte;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                make();
                assert_int_equal(write(ready[1], "x", 1), 1);
                pause();
                _exit(0);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static struct bpf *new_bpf(void) {
        struct bpf *bpf = NULL;

        assert_int_equal(bpf_new(&bpf), 0);
        return bpf;
}

static struct area_flags *open_or_skip(struct bpf *bpf) {
        struct area_flags *f = NULL;
        int r = area_flags_open(bpf, &f);

        if (r < 0) {
                print_message("no BPF iterator here: %s\n", strerror(-r));
                skip();
        }
        return f;
}

static void test_like_smaps(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = new_bpf();
        _cleanup_(area_flags_free) struct area_flags *f = open_or_skip(bpf);
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec fast = { 0 }, slow = { 0 };
        _cleanup_proc_buf_ struct proc_buf fast_buf = { 0 }, slow_buf = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        pid_t pid = start_target(make_many);

        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_maps_read(&dir, &fast_buf, &maps), 0);
        assert_int_equal(area_flags_read(f, pid, &maps, &fast), 0);
        assert_int_equal(proc_smaps_read(&dir, NULL, &slow_buf, &slow), 0);
        assert_true(slow.n > 4000);
        assert_int_equal(fast.n, slow.n);
        for (size_t i = 0; i < slow.n; i++) {
                assert_int_equal(fast.v[i].vma.start, slow.v[i].vma.start);
                assert_int_equal(fast.v[i].vma.end, slow.v[i].vma.end);
                assert_int_equal(fast.v[i].vma.kind, slow.v[i].vma.kind);
                assert_string_equal(fast.v[i].vma.name, slow.v[i].vma.name);
                assert_int_equal(fast.v[i].flags, slow.v[i].flags);
                assert_int_equal(fast.v[i].page_size, slow.v[i].page_size);
                assert_int_equal(fast.v[i].pkey, slow.v[i].pkey);
        }
        /* Areas that are not those of the list: nothing is told of either. */
        maps.v[maps.n / 2].end += PAGE_SIZE;
        assert_int_equal(area_flags_read(f, pid, &maps, &slow), -EAGAIN);
        maps.v[maps.n / 2].end -= PAGE_SIZE;
        maps.n -= 10;
        assert_int_equal(area_flags_read(f, pid, &maps, &slow), -EAGAIN);
        maps.n += 10;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        /* What is gone is an error, not an empty list. */
        assert_true(area_flags_read(f, pid, &maps, &fast) < 0);
}

/* Of this process: one area of three pages has a policy in the middle, with a home node. */
static void test_policies(void **state) {
        enum { SET_HOME_NODE = 450 };
        _cleanup_(bpf_free) struct bpf *bpf = new_bpf();
        _cleanup_(area_flags_free) struct area_flags *f = open_or_skip(bpf);
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec fast = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        char *p = mmap(NULL, 3 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        unsigned long nodes = 1;
        bool has_home, found = false;

        assert_ptr_not_equal(p, MAP_FAILED);
        if (syscall(SYS_mbind, p + PAGE_SIZE, PAGE_SIZE, MPOL_BIND, &nodes, 65, 0) < 0)
                skip();
        has_home = syscall(SET_HOME_NODE, p + PAGE_SIZE, PAGE_SIZE, 0, 0) == 0;
        assert_int_equal(proc_open(getpid(), &dir), 0);
        assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
        assert_int_equal(area_flags_read(f, getpid(), &maps, &fast), 0);
        for (size_t i = 0; i < fast.n; i++) {
                const struct proc_smap *smap = &fast.v[i];
                bool middle = smap->vma.start == (uintptr_t)p + PAGE_SIZE;

                assert_int_equal(smap->no_policy, !middle && smap->vma.kind != PROC_VMA_VSYSCALL);
                assert_int_equal(smap->has_home_node, middle && has_home);
                found |= middle;
        }
        assert_true(found);
        munmap(p, 3 * PAGE_SIZE);
}

static void *map_huge(void) {
        return mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1,
                    0);
}

static void make_huge(void) {
        assert_ptr_not_equal(map_huge(), MAP_FAILED);
}

static int read_flags(void (*make)(void), struct proc_smap_vec *fast, struct proc_smap_vec *slow) {
        _cleanup_(bpf_free) struct bpf *bpf = new_bpf();
        _cleanup_(area_flags_free) struct area_flags *f = open_or_skip(bpf);
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        pid_t pid = start_target(make);
        int r;

        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
        r = area_flags_read(f, pid, &maps, fast);
        assert_int_equal(proc_smaps_read(&dir, NULL, &buf, slow), 0);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        return r;
}

/* Huge pages have a size that only smaps tells: their flag is not among what is learnt. */
static void test_not_huge(void **state) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec fast = { 0 }, slow = { 0 };
        void *p = map_huge();

        if (p == MAP_FAILED)
                skip();
        munmap(p, 2 << 20);
        assert_int_equal(read_flags(make_huge, &fast, &slow), -ENODATA);
        assert_int_equal(fast.n, 0);
}

/* Where the processor has protection keys, what may only be executed has one. */
static void make_execute_only(void) {
        map(PROT_EXEC, MAP_PRIVATE);
}

static void test_not_keys(void **state) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec fast = { 0 }, slow = { 0 };
        int r = read_flags(make_execute_only, &fast, &slow);
        bool any = false;

        for (size_t i = 0; i < slow.n; i++)
                any |= slow.v[i].pkey != 0;
        assert_int_equal(r, any ? -ENODATA : 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_learn),      cmocka_unit_test(test_learn_all),
                cmocka_unit_test(test_like_smaps), cmocka_unit_test(test_policies),
                cmocka_unit_test(test_not_huge),   cmocka_unit_test(test_not_keys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
