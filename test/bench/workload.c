/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * workload NAME NUMBER: what is dumped and restored. Sets up one kind of state, creates the file "ready" in its
 * working directory and sleeps for ever. The runner gives it /dev/null as standard input and a file as the others.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

static void fail(const char *what) {
        perror(what);
        exit(1);
}

static char *map(size_t size, int flags) {
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

        if (p == MAP_FAILED)
                fail("mmap");
        return p;
}

static void nothing(size_t n) {
        (void)n;
}

/* n MiB, every page different. */
static void memory(size_t n) {
        size_t size = n << 20;
        char *p = map(size, 0);

        for (size_t at = 0; at < size; at += PAGE)
                memset(p + at, (int)(at / PAGE % 255) + 1, PAGE);
}

/* n MiB, one page in 64 written. */
static void sparse(size_t n) {
        size_t size = n << 20;
        char *p = map(size, MAP_NORESERVE);

        if (madvise(p, size, MADV_NOHUGEPAGE) < 0)
                fail("madvise");
        for (size_t at = 0; at < size; at += 64 * PAGE)
                p[at] = 1;
}

/* Neighbours with other protections cannot merge. */
static void areas(size_t n) {
        char *p = map(n * PAGE, 0);

        for (size_t i = 0; i < n; i++) {
                p[i * PAGE] = 1;
                if (i % 2 == 1 && mprotect(p + i * PAGE, PAGE, PROT_READ) < 0)
                        fail("mprotect");
        }
}

static void processes(size_t n) {
        for (size_t i = 1; i < n; i++) {
                pid_t pid = fork();

                if (pid < 0)
                        fail("fork");
                if (pid == 0)
                        for (;;)
                                pause();
        }
}

static void *sleeper(void *arg) {
        for (;;)
                pause();
        return arg;
}

static void threads(size_t n) {
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 64 << 10);
        for (size_t i = 1; i < n; i++)
                if (pthread_create(&thread, &attr, sleeper, NULL) != 0)
                        fail("pthread_create");
}

static void allow_descriptors(size_t n) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                fail("getrlimit");
        if (limit.rlim_cur < n) {
                limit.rlim_cur = n;
                if (limit.rlim_max < n)
                        limit.rlim_max = n;
                if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                        fail("RLIMIT_NOFILE");
        }
}

/* Every one a file of its own. */
static void descriptors(size_t n) {
        char name[32];

        allow_descriptors(n + 16);
        if (mkdir("files", 0700) < 0)
                fail("files");
        for (size_t i = 0; i < n; i++) {
                int fd;

                snprintf(name, sizeof(name), "files/%zu", i);
                fd = open(name, O_RDWR | O_CREAT, 0600);
                if (fd < 0 || write(fd, name, sizeof(name)) < 0)
                        fail(name);
        }
}

/* Each with something to read at one end. */
static void unix_pairs(size_t n) {
        const char data[100] = "data";

        allow_descriptors(2 * n + 64);
        for (size_t i = 0; i < n; i++) {
                int fds[2];

                if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
                    write(fds[1], data, sizeof(data)) != sizeof(data))
                        fail("socketpair");
        }
}

static void pipes(size_t n) {
        static const char data[100] = "x";
        int fds[2];

        allow_descriptors(2 * n + 16);
        for (size_t i = 0; i < n; i++)
                if (pipe(fds) < 0 || write(fds[1], data, sizeof(data)) != sizeof(data))
                        fail("pipe");
}

static void connections(size_t n) {
        struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(addr);
        int listener = socket(AF_INET, SOCK_STREAM, 0);

        allow_descriptors(2 * n + 16);
        if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 128) < 0 ||
            getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
                fail("listen");
        for (size_t i = 0; i < n; i++) {
                int one = socket(AF_INET, SOCK_STREAM, 0);

                if (one < 0 || connect(one, (struct sockaddr *)&addr, len) < 0 ||
                    accept(listener, NULL, NULL) < 0)
                        fail("connect");
        }
}

static const struct {
        const char *name;
        void (*set_up)(size_t n);
} workloads[] = {
        { "nothing", nothing },         { "memory", memory },
        { "sparse", sparse },           { "areas", areas },
        { "processes", processes },     { "threads", threads },
        { "descriptors", descriptors }, { "pipes", pipes },
        { "unix-pairs", unix_pairs },   { "connections", connections },
};

int main(int argc, char **argv) {
        for (size_t i = 0; argc == 3 && i < sizeof(workloads) / sizeof(workloads[0]); i++)
                if (strcmp(workloads[i].name, argv[1]) == 0) {
                        int fd;

                        workloads[i].set_up((size_t)strtoul(argv[2], NULL, 10));
                        fd = open("ready", O_WRONLY | O_CREAT, 0600);
                        if (fd < 0)
                                fail("ready");
                        close(fd);
                        for (;;)
                                pause();
                }
        fprintf(stderr, "usage: workload NAME NUMBER\n");
        return 2;
}
