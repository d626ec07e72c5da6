/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Memory that parent, children and a grandchild still share copy-on-write: contents are each one's own, a write
 * is not seen by the others, and the restore does not double what was shared (page frames, Pss). */
#include "e2e.h"

#define N      2048 /* pages: 8 MiB */
#define N_KIDS 3

static struct gate ready, go, done, finish;
static char *mem;

/* 0 when nothing is mapped there */
static uint64_t frame_of(pid_t pid, const char *p) {
        char path[64];
        uint64_t e = 0;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0, "open %s: %m", path);
        CHECK(pread(fd, &e, sizeof(e), (off_t)((uintptr_t)p / PAGE * sizeof(e))) == sizeof(e),
              "pagemap: %m");
        close(fd);
        return e >> 63 ? e & ((1ULL << 55) - 1) : 0;
}

static uint64_t pss_kb(pid_t pid) {
        char path[64], buf[4096], *p;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        CHECK(read_file(path, buf, sizeof(buf)) > 0, "read %s: %m", path);
        p = strstr(buf, "\nPss:");
        CHECK(p, "no Pss in %s", path);
        return strtoull(p + 5, NULL, 10);
}

/* Child i has written every page whose number is i modulo 16; the grandchild also those that are 8. */
static bool is_own(int who, size_t page) {
        return page % 16 == (size_t)who || (who == N_KIDS && page % 16 == 8) ||
               (who == N_KIDS && page % 16 == 0);
}

static void check_mem(int who, bool after_writes) {
        for (size_t i = 0; i < N; i++) {
                uint64_t seed = who < 0 ? (i % 16 == 12 ? 9000 + i : i) : is_own(who, i) ? 5000 + i : i;

                /* The grandchild came from child 0, with that one's pages. */
                if (after_writes && i == 15)
                        seed = 7000 + (uint64_t)(who + 1);
                check_filled(mem + i * PAGE, PAGE, seed, "private page");
        }
}

static void run(int who, pid_t grandchild) {
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_mem(who, false);
        fill(mem + 15 * PAGE, PAGE, 7000 + (uint64_t)(who + 1));
        gate_open(&done, 1);
        gate_pass(&finish, 1);
        check_mem(who, true);
        if (grandchild)
                xwait(grandchild, 40 + N_KIDS);
        _exit(40 + who);
}

static pid_t start(int who) {
        pid_t pid = xfork(), grandchild = 0;

        if (pid > 0)
                return pid;
        for (size_t i = 0; i < N; i++)
                if (is_own(who, i))
                        fill(mem + i * PAGE, PAGE, 5000 + i);
        if (who == 0) {
                grandchild = xfork();
                if (grandchild == 0) {
                        for (size_t i = 0; i < N; i++)
                                if (is_own(N_KIDS, i))
                                        fill(mem + i * PAGE, PAGE, 5000 + i);
                        run(N_KIDS, 0);
                }
        }
        run(who, grandchild);
        return -1;
}

static uint64_t total_pss(const pid_t *kids) {
        uint64_t sum = pss_kb(getpid());

        for (int i = 0; i < N_KIDS; i++)
                sum += pss_kb(kids[i]);
        return sum;
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];
        uint64_t before, after;
        size_t same = 0;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        gate_init(&finish);
        mem = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mem != MAP_FAILED, "mmap: %m");
        CHECK(madvise(mem, N * PAGE, MADV_NOHUGEPAGE) == 0, "madvise: %m");
        for (size_t i = 0; i < N; i++)
                fill(mem + i * PAGE, PAGE, i);
        for (int i = 0; i < N_KIDS; i++)
                kids[i] = start(i);
        gate_pass(&ready, N_KIDS + 1);
        for (size_t i = 12; i < N; i += 16)
                fill(mem + i * PAGE, PAGE, 9000 + i);
        CHECK(frame_of(getpid(), mem + 3 * PAGE) == frame_of(kids[1], mem + 3 * PAGE),
              "not shared to begin with");
        before = total_pss(kids);
        test_ready();
        test_wait();
        /* break: fill(mem + PAGE, PAGE, 5001); */
        /* break: for (size_t i = 0; i < N; i++) *(volatile char *) (mem + i * PAGE) += 0; */
        /* break: mem[PAGE * 12]++; */
        after = total_pss(kids);
        CHECK(after <= before + before / 10 + 2048, "Pss of all was %" PRIu64 " KiB, is %" PRIu64, before,
              after);
        for (size_t i = 4; i < N; i += 16)
                same += frame_of(getpid(), mem + i * PAGE) != 0 &&
                        frame_of(getpid(), mem + i * PAGE) == frame_of(kids[2], mem + i * PAGE);
        CHECK(same == N / 16, "only %zu of %d pages have one frame in parent and child", same, N / 16);
        check_mem(-1, false);
        gate_open(&go, N_KIDS + 1);
        gate_pass(&done, N_KIDS + 1);
        fill(mem + 15 * PAGE, PAGE, 7000);
        check_mem(-1, true);
        gate_open(&finish, N_KIDS + 1);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 40 + i);
        test_pass();
}
