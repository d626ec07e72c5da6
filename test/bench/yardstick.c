/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the machine needs for plain work of the same sort, in microseconds:
 *   yardstick write FILE   1 GiB into a fresh file, 1 MiB per write(2)
 *   yardstick read FILE    the same back into fresh 4 KiB pages
 *   yardstick tasks        2,000 forks and waits, 40,000 one-page mmaps, 20,000 reads of /proc/self/stat
 *   yardstick warm         no yardstick: 1.5 GiB of free memory are touched once and given back
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define SIZE  ((size_t)1 << 30)
#define PAGE  ((size_t)4096)

enum { FORKS = 2000, MMAPS = 40000, READS = 20000 };

static long long now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void fail(const char *what) {
        perror(what);
        exit(1);
}

static void do_write(const char *path) {
        char *buf = aligned_alloc(PAGE, CHUNK);
        int fd;

        if (!buf)
                fail("memory");
        memset(buf, 0x5a, CHUNK);
        (void)unlink(path);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
                fail(path);
        for (size_t i = 0; i < SIZE / CHUNK; i++)
                if (write(fd, buf, CHUNK) != (ssize_t)CHUNK)
                        fail("write");
        close(fd);
        free(buf);
}

static void do_read(const char *path) {
        char *p =
                mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        int fd = open(path, O_RDONLY);

        if (fd < 0)
                fail(path);
        if (p == MAP_FAILED || madvise(p, SIZE, MADV_NOHUGEPAGE) < 0)
                fail("mmap");
        for (size_t i = 0; i < SIZE / CHUNK; i++)
                if (read(fd, p + i * CHUNK, CHUNK) != (ssize_t)CHUNK)
                        fail("read");
        close(fd);
}

/*
 * A guest with free page reporting gives the memory behind free huge pages back to its host after two seconds, and the
 * host's work when they are touched again (1 GiB: 2 s and more) would hide everything else.
 */
static void warm(void) {
        size_t size = SIZE + SIZE / 2;
        char *p =
                mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                fail("mmap");
        (void)madvise(p, size, MADV_HUGEPAGE);
        for (size_t i = 0; i < size; i += PAGE)
                ((volatile char *)p)[i] = 1;
}

static void forks(void) {
        for (int i = 0; i < FORKS; i++) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                if (pid < 0 || waitpid(pid, NULL, 0) != pid)
                        fail("fork");
        }
}

/* Protections alternate, so that every mapping is an area of its own; every page is touched. */
static void mmaps(void) {
        char *base = mmap(NULL, MMAPS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (base == MAP_FAILED)
                fail("mmap");
        for (size_t i = 0; i < MMAPS; i++) {
                volatile char *p = mmap(base + i * PAGE, PAGE,
                                        i % 2 ? PROT_READ | PROT_EXEC | PROT_WRITE : PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

                if (p == MAP_FAILED)
                        fail("mmap");
                *p = 1;
        }
}

static void reads(void) {
        char buf[1024];

        for (int i = 0; i < READS; i++) {
                int fd = open("/proc/self/stat", O_RDONLY);

                if (fd < 0 || read(fd, buf, sizeof(buf)) <= 0)
                        fail("/proc/self/stat");
                close(fd);
        }
}

int main(int argc, char **argv) {
        const char *what = argc > 1 ? argv[1] : "";
        long long start = now_us(), t[2];

        if (strcmp(what, "write") == 0 && argc == 3)
                do_write(argv[2]);
        else if (strcmp(what, "read") == 0 && argc == 3)
                do_read(argv[2]);
        else if (strcmp(what, "tasks") == 0 && argc == 2) {
                forks();
                t[0] = now_us();
                reads();
                t[1] = now_us();
                mmaps();
                fprintf(stderr, "forks %lld us, reads %lld us, mmaps %lld us\n", t[0] - start, t[1] - t[0],
                        now_us() - t[1]);
        } else if (strcmp(what, "warm") == 0 && argc == 2) {
                warm();
        } else {
                fprintf(stderr, "usage: yardstick write FILE | read FILE | tasks | warm\n");
                return 2;
        }
        printf("%lld\n", now_us() - start);
        return 0;
}
