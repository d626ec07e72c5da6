/* SPDX-License-Identifier: GPL-2.0-only */
/* maps and smaps */
#include "test_proc_hostile.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/pool.h"
#include "proc/maps.h"

static const char maps_text[] =
        "559b92dc9000-559b92dcb000 r--p 00000000 fe:00 247498                     /usr/bin/head\n"
        "559b92dcb000-559b92dd1000 r-xp 00002000 103:1f 18446744073709551615      /a\\012b c (deleted)\n"
        "559bb3a12000-559bb3a33000 rw-p 00000000 00:00 0                          [heap]\n"
        "7f0238e1b000-7f0238e3d000 rw-p 00000000 00:00 0 \n"
        "7f0238e3d000-7f0238e5d000 rw-s 00000000 00:01 1024                       /dev/zero (deleted)\n"
        "7f0238e5d000-7f0238e6d000 ---p 00000000 00:00 0                          [anon:glibc: malloc]\n"
        "7f0238e6d000-7f0238e7d000 rw-s 00000000 00:01 7                          [anon_shmem:x]\n"
        "7f0238e8d000-7f0238e9d000 rw-s 08000000 00:0f 1038                       anon_inode:[io_uring]\n"
        "7ffe37640000-7ffe37661000 rw-p 00000000 00:00 0                          [stack]\n"
        "7ffe37700000-7ffe37704000 r--p 00000000 00:00 0                          [vvar]\n"
        "7ffe37704000-7ffe37706000 r--p 00000000 00:00 0                          [vvar_vclock]\n"
        "7ffe37706000-7ffe37708000 r-xp 00000000 00:00 0                          [vdso]\n"
        "7ffe37709000-7ffe3770a000 --xp 00000000 00:00 0                          [uprobes]\n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

static int parse_maps(char *text, size_t len) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec vec = { 0 };

        return proc_maps_parse(text, len, &vec);
}

static void test_maps(void **state) {
        (void)state;
        static const enum proc_vma_kind kinds[] = {
                PROC_VMA_FILE,    PROC_VMA_FILE,       PROC_VMA_HEAP,        PROC_VMA_ANON,
                PROC_VMA_FILE,    PROC_VMA_ANON_NAMED, PROC_VMA_ANON_NAMED,  PROC_VMA_FILE,
                PROC_VMA_STACK,   PROC_VMA_VVAR,       PROC_VMA_VVAR_VCLOCK, PROC_VMA_VDSO,
                PROC_VMA_SPECIAL, PROC_VMA_VSYSCALL,
        };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec vec = { 0 };
        char copy[sizeof(maps_text)];

        memcpy(copy, maps_text, sizeof(copy));
        assert_int_equal(proc_maps_parse(copy, strlen(maps_text), &vec), 0);
        assert_int_equal(vec.n, sizeof(kinds) / sizeof(kinds[0]));
        for (size_t i = 0; i < vec.n; i++)
                assert_int_equal(vec.v[i].kind, kinds[i]);
        assert_int_equal(vec.v[0].start, 0x559b92dc9000);
        assert_int_equal(vec.v[0].end, 0x559b92dcb000);
        assert_int_equal(vec.v[0].prot, PROT_READ);
        assert_false(vec.v[0].shared || vec.v[0].name_ambiguous || vec.v[0].name_deleted);
        assert_int_equal(vec.v[0].dev_major, 0xfe);
        assert_int_equal(vec.v[0].ino, 247498);
        assert_string_equal(vec.v[0].name, "/usr/bin/head");
        assert_int_equal(vec.v[1].prot, PROT_READ | PROT_EXEC);
        assert_int_equal(vec.v[1].pgoff, 0x2000);
        assert_int_equal(vec.v[1].dev_major, 0x103);
        assert_int_equal(vec.v[1].dev_minor, 0x1f);
        assert_int_equal(vec.v[1].ino, UINT64_MAX);
        assert_string_equal(vec.v[1].name, "/a\nb c (deleted)");
        assert_true(vec.v[1].name_ambiguous && vec.v[1].name_deleted);
        assert_string_equal(vec.v[3].name, "");
        assert_true(vec.v[4].shared && vec.v[4].name_deleted);
        assert_int_equal(vec.v[5].prot, 0);
        assert_string_equal(vec.v[5].name, "[anon:glibc: malloc]");
        assert_int_equal(vec.v[13].end, 0xffffffffff601000);
        assert_ptr_equal(proc_vma_find(&vec, 0x559b92dcafff), &vec.v[0]);
        assert_ptr_equal(proc_vma_find(&vec, 0x559b92dcb000), &vec.v[1]);
        assert_null(proc_vma_find(&vec, 0x559b92dd1000));
        assert_null(proc_vma_find(&vec, 0));
        assert_null(proc_vma_find(&vec, UINT64_MAX));
}

static void test_maps_hostile(void **state) {
        (void)state;
        static const char *const bad[] = {
                "1000-1000 r--p 00000000 00:00 0 \n",  "2000-1000 r--p 00000000 00:00 0 \n",
                "1000-2001 r--p 00000000 00:00 0 \n",  "1000-2000 r-zp 00000000 00:00 0 \n",
                "1000-2000 r--q 00000000 00:00 0 \n",  "1000-2000 r--p 00000001 00:00 0 \n",
                "1000-2000 r--p 00000000 00:00 0x\n",  "1000-2000 r--p 00000000 00:00 0",
                "1000-2000 r--p 00000000 00:00\n",     "\n",
                "10000000000000000-2 r--p 0 0:0 0 \n",
        };
        static const char overlap[] = "1000-3000 r--p 0 0:0 0 \n2000-4000 r--p 0 0:0 0 \n";
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec vec = { 0 };
        char copy[128];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                snprintf(copy, sizeof(copy), "%s", bad[i]);
                assert_int_equal(proc_maps_parse(copy, strlen(copy), &vec), -EBADMSG);
        }
        snprintf(copy, sizeof(copy), "%s", overlap);
        assert_int_equal(proc_maps_parse(copy, strlen(copy), &vec), -EAGAIN);
        assert_int_equal(vec.n, 0);
        hostile_check(parse_maps, maps_text, strlen(maps_text), true);
}

static const char smaps_text[] =
        "55faed074000-55faed076000 r--p 00000000 fe:00 247498                     /usr/bin/head\n"
        "Size:                  8 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
        "Rss:                   8 kB\nPss:                   4 kB\nPss_Dirty:             0 kB\n"
        "Shared_Clean:          8 kB\nAnonymous:             4 kB\nKSM:                   0 kB\n"
        "AnonHugePages:         0 kB\nSwap:                 12 kB\nSwapPss:               0 kB\n"
        "Locked:               16 kB\nTHPeligible:           0\nProtectionKey:         3\n"
        "VmFlags: rd mr mw me lo dp \n"
        "55faed076000-55faee076000 rw-s 00002000 00:0e 5                          /anon_hugepage (deleted)\n"
        "Size:              16384 kB\nKernelPageSize:     2048 kB\nRss:                   0 kB\n"
        "VmFlags: rd wr sh ht zz \n";

static int parse_smaps(char *text, size_t len) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec vec = { 0 };

        return proc_smaps_parse(text, len, &vec);
}

static uint64_t flags_of(const char *names) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec vec = { 0 };
        char text[256];

        snprintf(text, sizeof(text),
                 "55faed074000-55faed076000 rw-p 00000000 00:00 0 \nSize: 8 kB\nVmFlags: %s\n", names);
        assert_int_equal(proc_smaps_parse(text, strlen(text), &vec), 0);
        return vec.v[0].flags;
}

/* Linux 6.1 has no name for it. */
static void test_onfault_without_name(void **state) {
        const uint64_t plain = PROC_VMF_RD | PROC_VMF_MR, locked = plain | PROC_VMF_LO;

        (void)state;
        assert_true(flags_of("rd mr lo ?? ac sd ") == (locked | PROC_VMF_LF | PROC_VMF_AC | PROC_VMF_SD));
        assert_true(flags_of("rd mr lo dc ?? sd ") == (locked | PROC_VMF_DC | PROC_VMF_LF | PROC_VMF_SD));
        assert_true(flags_of("rd mr lo lf ac ") == (locked | PROC_VMF_LF | PROC_VMF_AC));
        /* Some other flag without a name. */
        assert_true(flags_of("rd mr lo ?? ") == (locked | PROC_VMF_UNKNOWN));
        assert_true(flags_of("rd mr lo ?? mm ") == (locked | PROC_VMF_UNKNOWN | PROC_VMF_MM));
        assert_true(flags_of("rd mr lo ?? ?? ac ") & PROC_VMF_UNKNOWN);
        assert_true(flags_of("rd mr lo ac ?? ") == (locked | PROC_VMF_AC | PROC_VMF_UNKNOWN));
        assert_true(flags_of("rd mr lo ?? dc ") & PROC_VMF_UNKNOWN);
        assert_true(flags_of("rd mr lo zz ac ") == (locked | PROC_VMF_UNKNOWN | PROC_VMF_AC));
        assert_true(flags_of("rd mr ?? ac ") == (plain | PROC_VMF_UNKNOWN | PROC_VMF_AC));
}

static void test_smaps(void **state) {
        (void)state;
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec vec = { 0 };
        char copy[sizeof(smaps_text)];

        memcpy(copy, smaps_text, sizeof(copy));
        assert_int_equal(proc_smaps_parse(copy, strlen(smaps_text), &vec), 0);
        assert_int_equal(vec.n, 2);
        assert_string_equal(vec.v[0].vma.name, "/usr/bin/head");
        assert_int_equal(vec.v[0].flags,
                         PROC_VMF_RD | PROC_VMF_MR | PROC_VMF_MW | PROC_VMF_ME | PROC_VMF_LO | PROC_VMF_DP);
        assert_int_equal(vec.v[0].page_size, 4096);
        assert_int_equal(vec.v[0].pkey, 3);
        assert_int_equal(vec.v[1].page_size, 2 << 20);
        assert_true(vec.v[1].flags ==
                    (PROC_VMF_RD | PROC_VMF_WR | PROC_VMF_SH | PROC_VMF_HT | PROC_VMF_UNKNOWN));
        /* The last area must be ended by its flags. */
        assert_int_equal(parse_smaps(memcpy(copy, smaps_text, sizeof(copy)), 100), -EBADMSG);
        hostile_check(parse_smaps, smaps_text, strlen(smaps_text), true);
        for (unsigned i = 0; i < PROC_VMF_BIT_MAX; i++)
                for (unsigned k = i + 1; k < PROC_VMF_BIT_MAX; k++)
                        assert_string_not_equal(proc_vmf_name(i), proc_vmf_name(k));
}

static struct proc_dir self_dir(void) {
        struct proc_dir dir;

        assert_int_equal(proc_open(getpid(), &dir), 0);
        return dir;
}

/* Areas of our own, with every madvise that leaves a flag; what smaps says about them. */
static void test_live_flags(void **state) {
        (void)state;
        static const struct {
                int advice;
                uint64_t flag;
                bool may_fail;
        } advices[] = {
                { MADV_SEQUENTIAL, PROC_VMF_SR, false }, { MADV_RANDOM, PROC_VMF_RR, false },
                { MADV_DONTFORK, PROC_VMF_DC, false },   { MADV_WIPEONFORK, PROC_VMF_WF, false },
                { MADV_DONTDUMP, PROC_VMF_DD, false },   { MADV_HUGEPAGE, PROC_VMF_HG, true },
                { MADV_NOHUGEPAGE, PROC_VMF_NH, true },  { MADV_MERGEABLE, PROC_VMF_MG, true },
        };
        const size_t n = sizeof(advices) / sizeof(advices[0]);
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec smaps = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 }, buf2 = { 0 };
        char *area = mmap(NULL, (2 * n + 3) * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        bool done[sizeof(advices) / sizeof(advices[0])];
        char *locked = area + 2 * n * 4096 + 4096;

        assert_ptr_not_equal(area, MAP_FAILED);
        for (size_t i = 0; i < n; i++) {
                char *p = area + (2 * i + 1) * 4096;

                assert_int_equal(mprotect(p, 4096, PROT_READ | PROT_WRITE), 0);
                done[i] = madvise(p, 4096, advices[i].advice) == 0;
                assert_true(done[i] || advices[i].may_fail);
        }
        assert_int_equal(mprotect(locked, 4096, PROT_READ | PROT_WRITE), 0);
        /* mlock(3) does nothing under AddressSanitizer. */
        assert_int_equal(syscall(SYS_mlock, locked, 4096), 0);
        assert_int_equal(proc_smaps_read(&dir, NULL, &buf, &smaps), 0);
        assert_int_equal(proc_maps_read(&dir, &buf2, &maps), 0);
        for (size_t i = 0; i <= n; i++) {
                uint64_t at = (uint64_t)(uintptr_t)(i < n ? area + (2 * i + 1) * 4096 : locked);
                uint64_t expected = i < n ? advices[i].flag : PROC_VMF_LO;
                const struct proc_vma *vma = proc_vma_find(&maps, at);
                size_t k = 0;

                while (k < smaps.n && smaps.v[k].vma.start != at)
                        k++;
                assert_true(k < smaps.n);
                assert_non_null(vma);
                assert_int_equal(vma->start, at);
                assert_int_equal(vma->end, at + 4096);
                assert_int_equal(vma->prot, PROT_READ | PROT_WRITE);
                assert_int_equal(vma->kind, PROC_VMA_ANON);
                if (i == n || done[i])
                        assert_true(smaps.v[k].flags & expected);
                assert_false(smaps.v[k].flags & (uint64_t)PROC_VMF_UNKNOWN);
        }
        munmap(area, (2 * n + 3) * 4096);
}

/* smaps comes in pieces; it must show the areas that maps shows, names and all. */
static void check_same_in_smaps(const struct proc_dir *dir, struct pool *pool,
                                const struct proc_vma_vec *maps) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec smaps = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        size_t k = 0;

        assert_int_equal(proc_smaps_read(dir, pool, &buf, &smaps), 0);
        for (size_t i = 0; i < maps->n; i++) {
                const struct proc_vma *a = &maps->v[i], *b;

                while (k < smaps.n && smaps.v[k].vma.start < a->start)
                        k++;
                assert_true(k < smaps.n);
                b = &smaps.v[k].vma;
                if (a->kind == PROC_VMA_ANON || a->kind == PROC_VMA_HEAP) /* our own malloc may move those */
                        continue;
                assert_true(a->start == b->start && a->end == b->end && a->prot == b->prot &&
                            a->pgoff == b->pgoff && a->ino == b->ino && a->kind == b->kind &&
                            a->shared == b->shared && a->name_deleted == b->name_deleted &&
                            a->name_ambiguous == b->name_ambiguous);
                assert_string_equal(a->name, b->name);
                assert_true(smaps.v[k].page_size == 4096 || a->kind == PROC_VMA_VSYSCALL);
        }
}

struct walk {
        const struct proc_vma_vec *maps;
        size_t n, stop;
};

static int is_as_read(void *arg, const struct proc_vma *vma) {
        struct walk *w = arg;
        const struct proc_vma *a;

        assert_true(w->n < w->maps->n);
        a = &w->maps->v[w->n++];
        assert_true(a->start == vma->start && a->end == vma->end && a->prot == vma->prot &&
                    a->ino == vma->ino && a->kind == vma->kind && a->pgoff == vma->pgoff);
        assert_string_equal(a->name, vma->name);
        return w->n == w->stop ? 17 : 0;
}

/* One by one they are what they are together; what the function returns ends it. */
static void check_each(const struct proc_dir *dir, const struct proc_vma_vec *maps) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct walk w = { .maps = maps };

        assert_int_equal(proc_maps_each(dir, &buf, is_as_read, &w), 0);
        assert_int_equal(w.n, maps->n);
        w.n = 0;
        w.stop = 3;
        assert_int_equal(proc_maps_each(dir, &buf, is_as_read, &w), 17);
        assert_int_equal(w.n, 3);
}

/* Every name we could be confused by, on a real file. */
static void test_live_names(void **state) {
        (void)state;
        static const char *const names[] = { "plain",         "with blank", "new\nline", "lit\\012eral",
                                             "end (deleted)", "[heap]",     " lead",     "trail " };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char base[] = "/tmp/test_proc_maps.XXXXXX", path[128], link[64], *target;

        assert_non_null(mkdtemp(base));
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                const struct proc_vma *vma;
                struct stat st;
                char *p;
                int fd;

                snprintf(path, sizeof(path), "%s/%s", base, names[i]);
                fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                assert_true(fd >= 0);
                assert_int_equal(ftruncate(fd, 8192), 0);
                p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
                assert_ptr_not_equal(p, MAP_FAILED);
                assert_int_equal(fstat(fd, &st), 0);
                close(fd);
                assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
                vma = proc_vma_find(&maps, (uintptr_t)p);
                assert_non_null(vma);
                /* Of a name that has the escape in it, the text cannot tell; the link can. */
                if (i != 3)
                        assert_string_equal(vma->name, path);
                snprintf(link, sizeof(link), "map_files/%lx-%lx", (long)vma->start, (long)vma->end);
                assert_int_equal(proc_readlink(&dir, link, &target), 0);
                assert_string_equal(target, path);
                free(target);
                assert_int_equal(vma->name_ambiguous, i == 2 || i == 3);
                assert_int_equal(vma->name_deleted, i == 4);
                assert_int_equal(vma->kind, PROC_VMA_FILE);
                assert_int_equal(vma->pgoff, 4096);
                assert_int_equal(vma->ino, st.st_ino);
                assert_int_equal(makedev(vma->dev_major, vma->dev_minor), st.st_dev);
                assert_true(vma->shared);
                check_same_in_smaps(&dir, NULL, &maps);
                unlink(path);
                assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
                vma = proc_vma_find(&maps, (uintptr_t)p);
                assert_non_null(vma);
                assert_true(vma->name_deleted);
                munmap(p, 4096);
        }
        rmdir(base);
}

/* An area whose text does not fit into a page, twice; between others. */
static void test_live_long_names(void **state) {
        (void)state;
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char base[] = "/tmp/test_proc_maps.XXXXXX", name[256], cwd[4096];
        enum { DEPTH = 13 };
        const struct proc_vma *vma;
        void *p[2];
        pid_t pid;
        int fd;

        assert_non_null(mkdtemp(base));
        assert_non_null(getcwd(cwd, sizeof(cwd)));
        assert_int_equal(chdir(base), 0);
        memset(name, '\n', 255); /* shown as four characters */
        name[255] = 0;
        for (unsigned i = 0; i < DEPTH; i++) {
                assert_int_equal(mkdir(name, 0700), 0);
                assert_int_equal(chdir(name), 0);
        }
        fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, 8192), 0);
        for (unsigned i = 0; i < 2; i++) {
                p[i] = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, i * 4096);
                assert_ptr_not_equal(p[i], MAP_FAILED);
        }
        close(fd);
        /* Its areas stay as they are, while those of the test change with each allocation. */
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
        for (unsigned i = 0; i < 2; i++) {
                vma = proc_vma_find(&maps, (uintptr_t)p[i]);
                assert_non_null(vma);
                assert_true(strlen(vma->name) > DEPTH * 255);
                assert_int_equal(vma->pgoff, i * 4096);
        }
        check_same_in_smaps(&dir, NULL, &maps);
        assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
        check_each(&dir, &maps);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        unlink("f");
        for (unsigned i = 0; i < DEPTH; i++)
                assert_true(chdir("..") == 0 && rmdir(name) == 0);
        assert_int_equal(chdir(cwd), 0);
        rmdir(base);
        munmap(p[0], 4096);
        munmap(p[1], 4096);
}

/* 20,000 areas of a stopped child: they are all there, and it does not take long. */
static void test_many(void **state) {
        (void)state;
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct pool *pool;
        double best = 1e9;
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                for (int i = 0; i < 20000; i++) {
                        int prot = i & 1 ? PROT_READ : PROT_READ | PROT_WRITE;
                        const void *p = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                        if (p == MAP_FAILED)
                                _exit(1);
                }
                raise(SIGSTOP);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(proc_open(pid, &dir), 0);
        for (int i = 0; i < 5; i++) {
                struct timespec a, b;
                double ms;

                clock_gettime(CLOCK_MONOTONIC, &a);
                assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
                clock_gettime(CLOCK_MONOTONIC, &b);
                ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
                best = ms < best ? ms : best;
                assert_true(maps.n >= 20000 && maps.n < 20200);
        }
        assert_int_equal(pool_create(1, &pool, &err), 0);
        check_same_in_smaps(&dir, NULL, &maps);
        check_same_in_smaps(&dir, pool, &maps);
        pool_free(&pool);
        check_each(&dir, &maps);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        print_message("20,000 areas: %.1f ms\n", best);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_maps),
                cmocka_unit_test(test_maps_hostile),
                cmocka_unit_test(test_smaps),
                cmocka_unit_test(test_onfault_without_name),
                cmocka_unit_test(test_live_flags),
                cmocka_unit_test(test_live_names),
                cmocka_unit_test(test_live_long_names),
                cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
