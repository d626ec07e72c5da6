/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* A directory read half way: the rest comes afterwards, each name once; the descriptor works as the base of
 * openat and fchdir. */
#include "e2e.h"

#define N 300

struct entry {
        uint64_t ino;
        int64_t off;
        uint16_t len;
        uint8_t type;
        char name[];
};

static int seen[N];

/* Reads one buffer of names; returns the number of those that count. */
static int read_some(int fd, size_t size) {
        _Alignas(8) char buf[4096];
        long n = syscall(SYS_getdents64, fd, buf, size);
        int found = 0, number;

        CHECK(n >= 0, "getdents64: %m");
        for (long pos = 0; pos < n;) {
                const struct entry *e = (const struct entry *)(const void *)(buf + pos);

                if (sscanf(e->name, "name-%d", &number) == 1 && number >= 0 && number < N) {
                        seen[number]++;
                        found++;
                }
                pos += e->len;
        }
        return n == 0 ? -1 : found;
}

int main(int argc, char **argv) {
        char name[64];
        int fd, whole, before = 0, after = 0, n, f;
        off_t off;

        test_init(argc, argv);
        CHECK(mkdir("dir", 0700) == 0, "mkdir: %m");
        for (int i = 0; i < N; i++) {
                snprintf(name, sizeof(name), "dir/name-%d", i);
                CHECK((f = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600)) >= 0, "create: %m");
                close(f);
        }
        fd = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        whole = open("dir", O_RDONLY);
        CHECK(fd >= 0 && whole >= 0, "open: %m");
        while (before < N / 3) {
                n = read_some(fd, 512);
                CHECK(n >= 0, "the directory ended too early");
                before += n;
        }
        off = lseek(fd, 0, SEEK_CUR);
        test_ready();
        test_wait();
        /* break: lseek(fd, 0, SEEK_SET); */
        /* break: read_some(fd, 512); memset(seen, 0, sizeof(seen)); */
        /* break: read_some(whole, 512); */
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(whole, F_GETFD) == 0, "close-on-exec");
        CHECK((fcntl(fd, F_GETFL) & (O_DIRECTORY | O_ACCMODE)) == (O_DIRECTORY | O_RDONLY), "flags");
        CHECK(lseek(fd, 0, SEEK_CUR) == off, "position");
        CHECK(lseek(whole, 0, SEEK_CUR) == 0, "position of a fresh one");
        while ((n = read_some(fd, 4096)) >= 0)
                after += n;
        CHECK(before + after == N, "%d names before, %d after", before, after);
        for (int i = 0; i < N; i++)
                CHECK(seen[i] == 1, "name-%d was seen %d times", i, seen[i]);
        while ((n = read_some(whole, 4096)) >= 0)
                ;
        for (int i = 0; i < N; i++)
                CHECK(seen[i] == 2, "name-%d was seen %d times", i, seen[i]);
        CHECK((f = openat(fd, "name-7", O_RDONLY)) >= 0, "openat: %m");
        CHECK(fchdir(fd) == 0 && access("name-8", F_OK) == 0, "fchdir: %m");
        test_pass();
}
