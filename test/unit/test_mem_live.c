/* SPDX-License-Identifier: GPL-2.0-only */
/* Address spaces of live processes: saved, built again, compared area by area and byte by byte. */
#include "test_mem.h"

#include "mem/uapi.h"
#include "proc/auxv.h"

#define HUGE     ((size_t)2 << 20)
#define PAGES(n) ((size_t)(n)*PAGE_SIZE)

static char *map(size_t pages, int prot, int flags) {
        char *p = mmap(NULL, PAGES(pages), prot, MAP_ANONYMOUS | flags, -1, 0);

        if (p == MAP_FAILED)
                _exit(90);
        return p;
}

static void paint(char *p, size_t pages, uint64_t seed) {
        for (size_t i = 0; i < PAGES(pages) / 8; i++)
                ((uint64_t *)p)[i] = (seed + 1) * 0x9e3779b97f4a7c15ULL + i;
}

/* ---- comparing ---- */

struct view {
        struct proc_dir dir;
        struct proc_buf buf;
        struct proc_smap_vec smaps;
};

static void view_of(pid_t pid, const struct built *b, struct view *v) {
        size_t n = 0;

        memset(v, 0, sizeof(*v));
        assert_int_equal(proc_open(pid, &v->dir), 0);
        assert_int_equal(proc_smaps_read(&v->dir, NULL, &v->buf, &v->smaps), 0);
        for (size_t i = 0; i < v->smaps.n; i++) {
                const struct proc_smap *s = &v->smaps.v[i];
                raddr_t host = b ? compel_host_addr(b->r.host) : 0;

                if (s->vma.kind == PROC_VMA_VSYSCALL ||
                    (b && s->vma.start >= host && s->vma.start < host + compel_host_size(b->r.host)))
                        continue;
                v->smaps.v[n++] = *s;
        }
        v->smaps.n = n;
}

static void view_done(struct view *v) {
        proc_close(&v->dir);
        proc_buf_done(&v->buf);
        proc_smap_vec_done(&v->smaps);
}

/* Accounting depends on how a protection came about, soft-dirty on everything. */
#define NO_STATE (PROC_VMF_AC | PROC_VMF_SD | PROC_VMF_GU)

/* By chance, one in 8192, the heap begins right behind the data of the program, and may become one area with them. */
static const char *name_of(const struct proc_smap *a) {
        return a->vma.kind == PROC_VMA_HEAP ? "" : a->vma.name;
}

static bool mergeable(const struct proc_smap *a, const struct proc_smap *b) {
        return a->vma.end == b->vma.start && a->vma.prot == b->vma.prot && a->vma.ino == 0 &&
               b->vma.ino == 0 && strcmp(name_of(a), name_of(b)) == 0 &&
               ((a->flags ^ b->flags) & ~(uint64_t)NO_STATE) == 0;
}

static void merge(struct proc_smap_vec *smaps) {
        size_t n = 0;

        for (size_t i = 0; i < smaps->n; i++) {
                if (n > 0 && mergeable(&smaps->v[n - 1], &smaps->v[i]))
                        smaps->v[n - 1].vma.end = smaps->v[i].vma.end;
                else
                        smaps->v[n++] = smaps->v[i];
        }
        smaps->n = n;
}

static void read_page(const struct view *v, uint64_t at, char *ret, bool *ret_ok) {
        int fd = proc_openat(&v->dir, "mem", O_RDONLY);

        *ret_ok = pread(fd, ret, PAGE_SIZE, (off_t)at) == PAGE_SIZE;
        close(fd);
}

static void compare_content(const struct view *a, const struct view *b, const struct proc_vma *vma) {
        char x[PAGE_SIZE], y[PAGE_SIZE];

        if (vma->kind == PROC_VMA_VVAR || vma->kind == PROC_VMA_VVAR_VCLOCK ||
            vma->end - vma->start > PAGES(4096))
                return;
        for (uint64_t at = vma->start; at < vma->end; at += PAGE_SIZE) {
                bool ok_a, ok_b;

                read_page(a, at, x, &ok_a);
                read_page(b, at, y, &ok_b);
                if (ok_a != ok_b || (ok_a && memcmp(x, y, PAGE_SIZE) != 0))
                        fail_msg("page %#lx of %s differs", at, vma->name);
        }
}

static void compare(pid_t original, const struct built *b, size_t i) {
        struct view was, is;

        view_of(original, NULL, &was);
        view_of(b->pid[i], b, &is);
        merge(&was.smaps);
        merge(&is.smaps);
        for (size_t j = 0; j < was.smaps.n && j < is.smaps.n; j++) {
                const struct proc_smap *x = &was.smaps.v[j], *y = &is.smaps.v[j];

                if (x->vma.start != y->vma.start || x->vma.end != y->vma.end || x->vma.prot != y->vma.prot ||
                    x->vma.pgoff != y->vma.pgoff || x->vma.shared != y->vma.shared ||
                    strcmp(name_of(x), name_of(y)) != 0 ||
                    ((x->flags ^ y->flags) & ~(uint64_t)NO_STATE) != 0)
                        fail_msg(
                                "area %zu was %#lx-%#lx %x '%s' flags %#lx, is %#lx-%#lx %x '%s' flags %#lx",
                                j, x->vma.start, x->vma.end, x->vma.prot, x->vma.name, x->flags,
                                y->vma.start, y->vma.end, y->vma.prot, y->vma.name, y->flags);
                compare_content(&was, &is, &x->vma);
        }
        assert_int_equal(was.smaps.n, is.smaps.n);
        view_done(&was);
        view_done(&is);
}

static void compare_fields(pid_t original, pid_t copy) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir a = PROC_DIR_INIT, b = PROC_DIR_INIT;
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec x = { 0 }, y = { 0 };
        _cleanup_free_ char *exe_a = NULL, *exe_b = NULL;
        struct proc_stat s, t;

        assert_int_equal(proc_open(original, &a), 0);
        assert_int_equal(proc_open(copy, &b), 0);
        assert_int_equal(proc_stat_read(&a, &buf, &s), 0);
        assert_int_equal(proc_stat_read(&b, &buf, &t), 0);
        assert_int_equal(s.start_code, t.start_code);
        assert_int_equal(s.end_data, t.end_data);
        assert_int_equal(s.start_brk, t.start_brk);
        assert_int_equal(s.start_stack, t.start_stack);
        assert_int_equal(s.arg_start, t.arg_start);
        assert_int_equal(s.env_end, t.env_end);
        assert_int_equal(proc_auxv_read(&a, &buf, &x), 0);
        assert_int_equal(proc_auxv_read(&b, &buf, &y), 0);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.v, y.v, x.n * sizeof(*x.v));
        assert_int_equal(proc_readlink(&a, "exe", &exe_a), 0);
        assert_int_equal(proc_readlink(&b, "exe", &exe_b), 0);
        assert_string_equal(exe_a, exe_b);
}

/* Save the tree, build it, compare; the caller looks further before built_end(). */
static void round_trip(struct saved *s, struct built *b) {
        saved_take(s);
        built_begin(b, s);
        built_load(b);
        built_host(b);
        built_fill(b);
        for (size_t i = 0; i < s->d.nr_tasks; i++) {
                compare(s->task[i].pid, b, i);
                compare_fields(s->task[i].pid, b->pid[i]);
        }
}

static void one_process(void (*setup)(void *), void *arg) {
        static struct saved s;
        static struct built b;
        pid_t pid = spawn(setup, arg);

        saved_begin(&s, pid);
        round_trip(&s, &b);
        built_end(&b);
        saved_end(&s);
        reap(pid);
}

/* ---- tests ---- */

static void setup_private(void *arg __attribute__((unused))) {
        const int rw = PROT_READ | PROT_WRITE;
        char *p = map(90, rw, MAP_PRIVATE);

        for (size_t i = 0; i < 90; i += 3)
                paint(p + PAGES(i), 1, i);
        p = map(8, rw, MAP_PRIVATE);
        paint(p, 8, 1);
        mprotect(p, PAGES(8), PROT_NONE);
        p = map(8, rw, MAP_PRIVATE);
        paint(p, 8, 2);
        mprotect(p, PAGES(8), PROT_READ);
        p = map(4, PROT_WRITE, MAP_PRIVATE);
        paint(p, 4, 3);
        p = map(2, rw, MAP_PRIVATE);
        paint(p, 2, 4);
        mprotect(p, PAGES(2), PROT_READ | PROT_EXEC);
        p = map(12, rw, MAP_PRIVATE);
        paint(p, 12, 5);
        for (size_t i = 0; i < 12; i++)
                mprotect(p + PAGES(i), PAGE_SIZE, i % 3 == 0 ? rw : i % 3 == 1 ? PROT_READ : PROT_NONE);
        p = map(16, rw, MAP_PRIVATE | MAP_NORESERVE | MAP_STACK);
        paint(p, 1, 6);
        p = map(8192, rw, MAP_PRIVATE);
        paint(p + PAGES(4000), 700, 7);
        map(1 << 18, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
        /* Large, not writable, with a few pages. */
        p = map(1 << 18, PROT_READ, MAP_PRIVATE | MAP_NORESERVE);
        mprotect(p + PAGES(100), PAGES(2), rw);
        paint(p + PAGES(100), 2, 8);
        mprotect(p + PAGES(100), PAGES(2), PROT_READ);
}

/* Enough, and aligned, for huge pages; with a hole, and parts of other kinds. */
static void setup_huge(void *arg __attribute__((unused))) {
        char *room = map(16 * 512, PROT_NONE, MAP_PRIVATE),
             *p = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));

        mprotect(p, PAGES(13 * 512), PROT_READ | PROT_WRITE);
        paint(p + PAGES(3), 13 * 512 - 3, 1);
        madvise(p + PAGES(6 * 512 + 100), PAGES(5), MADV_DONTNEED);
        mprotect(p + PAGES(8 * 512 + 7), PAGES(1100), PROT_READ);
        madvise(p + PAGES(11 * 512), PAGES(512), MADV_NOHUGEPAGE);
}

static uint64_t huge_bytes(pid_t pid) {
        char path[64], line[256];
        uint64_t kb = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "AnonHugePages: %lu", &kb) == 1)
                        break;
        fclose(f);
        return kb << 10;
}

static void test_huge(void **state __attribute__((unused))) {
        static struct saved s;
        static struct built b;
        pid_t pid = spawn(setup_huge, NULL);

        saved_begin(&s, pid);
        round_trip(&s, &b);
        print_message("%lu KiB in huge pages\n", huge_bytes(b.pid[0]) / 1024);
        if (kernel_has(&b.r.kernel, KERNEL_UFFD_MOVE))
                assert_true(huge_bytes(b.pid[0]) >= 5 * HUGE);
        built_end(&b);
        saved_end(&s);
        reap(pid);
}

static void test_private(void **state __attribute__((unused))) {
        one_process(setup_private, NULL);
}

static void setup_advice(void *arg __attribute__((unused))) {
        const int advice[] = { MADV_HUGEPAGE,  MADV_NOHUGEPAGE, MADV_DONTFORK,   MADV_DONTDUMP,
                               MADV_MERGEABLE, MADV_WIPEONFORK, MADV_SEQUENTIAL, MADV_RANDOM };
        char *p;

        for (size_t i = 0; i < ELEMENTSOF(advice); i++) {
                p = map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
                paint(p, 3, i);
                madvise(p, PAGES(8), advice[i]);
        }
        p = map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        madvise(p, PAGES(8), MADV_DONTDUMP);
        madvise(p, PAGES(8), MADV_WIPEONFORK);
        p = map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        paint(p, 2, 50);
        mlock(p, PAGES(4));
        syscall(SYS_mlock2, p + PAGES(4), PAGES(2), MLOCK_ONFAULT);
        p = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGES(4), "a name");
        p = map(32, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        paint(p, 32, 60);
        madvise(p + PAGES(4), PAGES(2), MADV_GUARD_INSTALL);
        madvise(p + PAGES(31), PAGES(1), MADV_GUARD_INSTALL);
        p = mmap((void *)0x220000000000, PAGES(16), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == MAP_FAILED)
                _exit(91);
        paint(p, 16, 70);
        *(volatile char *)(p - PAGE_SIZE) = 1;
}

static void test_advice(void **state __attribute__((unused))) {
        one_process(setup_advice, NULL);
}

static void setup_files(void *arg) {
        const char *path = arg;
        int fd = open(path, O_RDWR | O_CLOEXEC), ro = open(path, O_RDONLY | O_CLOEXEC),
            zero = open("/dev/zero", O_RDWR);
        char *p;

        p = mmap(NULL, PAGES(16), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        for (size_t i = 0; i < 16; i += 2)
                paint(p + PAGES(i), 1, 100 + i);
        (void)mmap(NULL, PAGES(4), PROT_READ, MAP_PRIVATE, fd, (off_t)PAGES(14));
        p = mmap(NULL, PAGES(4), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)PAGES(2));
        paint(p + PAGES(1), 2, 200);
        mprotect(p, PAGES(4), PROT_NONE);
        (void)mmap(NULL, PAGES(16), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)mmap(NULL, PAGES(3), PROT_READ, MAP_SHARED, fd, (off_t)PAGES(5));
        (void)mmap(NULL, PAGES(3), PROT_READ, MAP_SHARED, ro, (off_t)PAGES(5));
        p = mmap(NULL, PAGES(8), PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
        paint(p + PAGES(2), 1, 300);
        p = mmap(NULL, PAGES(8), PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0);
        paint(p + PAGES(3), 1, 301);
        close(fd);
        close(ro);
        close(zero);
}

static void test_files(void **state __attribute__((unused))) {
        char path[] = "/tmp/ckpt-mem-XXXXXX", data[PAGE_SIZE];
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        for (size_t i = 0; i < 16; i++) {
                paint(data, 1, i);
                assert_int_equal(write(fd, data, PAGE_SIZE), PAGE_SIZE);
        }
        close(fd);
        one_process(setup_files, path);
        unlink(path);
}

/* ---- shared anonymous memory ---- */

static void setup_shared(void *arg) {
        char *shared = ((char **)arg)[0], *again;

        paint(shared + PAGES(5), 2, 1);
        again = mremap(shared, 0, PAGES(32), MREMAP_MAYMOVE);
        if (again == MAP_FAILED)
                _exit(92);
        paint(again + PAGES(20), 3, 2);
        munmap(shared, PAGES(7));
}

static void test_shared(void **state __attribute__((unused))) {
        static struct saved s;
        static struct built b;
        char *shared = map(32, PROT_READ | PROT_WRITE, MAP_SHARED), word[8] = "written";
        struct iovec local = { word, sizeof(word) }, remote = { shared + PAGES(25), sizeof(word) };
        pid_t first = spawn(setup_shared, &shared), second = spawn(setup_shared, &shared);

        saved_begin(&s, first);
        saved_add(&s, second, &s.task[0]);
        round_trip(&s, &b);
        assert_int_equal(s.d.stats.shpages_written, 5);
        /* What one writes the other sees. */
        assert_int_equal(process_vm_writev(b.pid[0], &local, 1, &remote, 1, 0), sizeof(word));
        memset(word, 0, sizeof(word));
        assert_int_equal(process_vm_readv(b.pid[1], &local, 1, &remote, 1, 0), sizeof(word));
        assert_string_equal(word, "written");
        built_end(&b);
        saved_end(&s);
        reap(first);
        reap(second);
        munmap(shared, PAGES(32));
}

/* ---- copy-on-write ---- */

#define COW_PAGES 512

struct cow {
        pid_t *child;
        char *mem, *heap, *gap;
};

static void cow_child(struct cow *c) {
        for (size_t i = 0; i < COW_PAGES; i += 8)
                paint(c->mem + PAGES(i), 1, 1000 + i);
        madvise(c->mem + PAGES(3), PAGE_SIZE, MADV_DONTNEED);
        /* Grown in the child alone. */
        if (sbrk((intptr_t)PAGES(10)) == (void *)-1)
                _exit(93);
        paint(c->heap + PAGES(21), 2, 77);
        for (;;)
                pause();
}

static void setup_cow(void *arg) {
        struct cow *c = arg;
        int ready[2];
        pid_t pid;
        char x;

        madvise(c->mem, PAGES(COW_PAGES), MADV_NOHUGEPAGE);
        for (size_t i = 0; i < COW_PAGES; i++)
                paint(c->mem + PAGES(i), 1, i);
        c->heap = (char *)(((uintptr_t)sbrk((intptr_t)PAGES(21)) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1));
        paint(c->heap, 20, 5);
        if (pipe(ready) < 0)
                _exit(94);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(ready[0]);
                close(ready[1]); /* the write end of the child goes with its first page of own */
                cow_child(c);
        }
        *c->child = pid;
        close(ready[1]);
        if (read(ready[0], &x, 1) != 0)
                _exit(95);
        close(ready[0]);
        for (size_t i = 4; i < COW_PAGES; i += 8)
                paint(c->mem + PAGES(i), 1, 2000 + i);
}

static uint64_t frame(pid_t pid, const char *p) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_pagemap_ struct proc_pagemap pm = PROC_PAGEMAP_INIT;
        uint64_t word;

        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_pagemap_open(&dir, true, &pm), 0);
        assert_int_equal(proc_pagemap_words(&pm, (uintptr_t)p, 1, &word), 0);
        return pagemap_word_pfn(word);
}

/* A child that pauses has done what it was to do. */
static void wait_until_paused(pid_t pid) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_syscall call;

        assert_int_equal(proc_open(pid, &dir), 0);
        do {
                sched_yield();
                assert_int_equal(proc_syscall_read(&dir, &buf, &call), 0);
        } while (call.state != PROC_SYSCALL_INSIDE || call.nr != SYS_pause);
}

static void test_cow(void **state __attribute__((unused))) {
        static struct saved s;
        static struct built b;
        pid_t *child = (pid_t *)map(1, PROT_READ | PROT_WRITE, MAP_SHARED);
        struct cow c = { .child = child, .mem = map(COW_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE) };
        pid_t parent = spawn(setup_cow, &c);
        size_t shared = 0, kept = 0;

        wait_until_paused(*child);
        saved_begin(&s, parent);
        saved_add(&s, *child, &s.task[0]);
        for (size_t i = 0; i < COW_PAGES; i++)
                shared += frame(parent, c.mem + PAGES(i)) == frame(*child, c.mem + PAGES(i));
        assert_int_equal(shared, COW_PAGES / 4 * 3 - 1);
        round_trip(&s, &b);
        for (size_t i = 0; i < COW_PAGES; i++)
                kept += frame(b.pid[0], c.mem + PAGES(i)) == frame(b.pid[1], c.mem + PAGES(i));
        assert_int_equal(kept, shared);
        /* Nor did the dump end the sharing between the originals. */
        kept = 0;
        for (size_t i = 0; i < COW_PAGES; i++)
                kept += frame(parent, c.mem + PAGES(i)) == frame(*child, c.mem + PAGES(i));
        assert_int_equal(kept, shared);
        assert_true(b.r.stats.pages_skipped_cow > shared);
        kill(*child, SIGKILL);
        built_end(&b);
        saved_end(&s);
        reap(parent);
        munmap(child, PAGE_SIZE);
        munmap(c.mem, PAGES(COW_PAGES));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_private), cmocka_unit_test(test_huge),   cmocka_unit_test(test_advice),
                cmocka_unit_test(test_files),   cmocka_unit_test(test_shared), cmocka_unit_test(test_cow),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
