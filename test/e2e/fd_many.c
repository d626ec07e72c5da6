/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* 5,000 descriptors of 50 files, every fifth dup'ed from the one before, shared with a child. */
#include "e2e.h"

#include <sys/resource.h>

#define N       5000
#define N_FILES 50

static int fds[N];

static off_t want(int i) {
        return i % 5 == 4 ? i - 1 : i;
}

static void check_all(int from, int step, const char *who) {
        for (int i = from; i < N; i += step)
                CHECK(lseek(fds[i], 0, SEEK_CUR) == want(i), "%s: offset of number %d is %lld", who, i,
                      (long long)lseek(fds[i], 0, SEEK_CUR));
}

int main(int argc, char **argv) {
        struct rlimit rl;
        struct gate ready, go;
        struct stat st[N_FILES], now;
        char name[32];
        pid_t kid;

        test_init(argc, argv);
        CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0, "getrlimit: %m");
        rl.rlim_cur = rl.rlim_max;
        CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0, "setrlimit: %m");
        if (rl.rlim_max < N + 100)
                test_skip("RLIMIT_NOFILE is only %llu", (unsigned long long)rl.rlim_max);
        gate_init(&ready);
        gate_init(&go);
        for (int i = 0; i < N; i++) {
                snprintf(name, sizeof(name), "file-%d", i / 5 % N_FILES);
                fds[i] = i % 5 == 4 ? dup(fds[i - 1]) : open(name, O_RDWR | O_CREAT, 0644);
                CHECK(fds[i] >= 0, "open: %m");
                CHECK(lseek(fds[i], want(i), SEEK_SET) == want(i), "lseek: %m");
                CHECK(i / 5 >= N_FILES || fstat(fds[i], &st[i / 5]) == 0, "fstat: %m");
        }
        kid = xfork();
        if (kid == 0) {
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_all(0, 1, "child");
                for (int i = 0; i < N; i += 100)
                        lseek(fds[i], 1000000 + i, SEEK_SET);
                _exit(6);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: lseek(fds[4999], 0, SEEK_SET); */
        /* break: close(fds[77]); fds[77] = open("file-15", O_RDWR); lseek(fds[77], 77, SEEK_SET); dup2(fds[0], fds[300]); */
        check_all(0, 1, "root");
        for (int i = 0; i < N; i++)
                CHECK(fstat(fds[i], &now) == 0 && now.st_ino == st[i / 5 % N_FILES].st_ino,
                      "file of number %d", i);
        gate_open(&go, 1);
        xwait(kid, 6);
        for (int i = 0; i < N; i += 100)
                CHECK(lseek(fds[i], 0, SEEK_CUR) == 1000000 + i, "number %d is not shared with the child",
                      i);
        check_all(1, 100, "root");
        test_pass();
}
