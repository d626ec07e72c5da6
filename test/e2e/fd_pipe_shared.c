/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Pipes between processes: a chain of filters with data under way, a writer blocked on a full pipe, ends that
 * only children hold, and a second description of the same pipe opened through /proc. */
#include "e2e.h"

#include <linux/kcmp.h>

#define TOTAL 400000

static struct gate ready;
static int a[2], b[2], full[2], kids[2];

/* Writes words 0, 1, 2, ... ; short counts are no error, EINTR is. */
static void produce(int fd) {
        uint32_t buf[2500];
        size_t next = 0;

        while (next < TOTAL) {
                size_t size, n = 0;

                for (size_t i = 0; i < ELEMENTS(buf); i++)
                        buf[i] = (uint32_t)(next + i);
                size = sizeof(buf);
                while (n < size) {
                        ssize_t w = write(fd, (char *)buf + n, size - n);

                        CHECK(w > 0, "write gave %zd: %m", w);
                        n += (size_t)w;
                }
                next += ELEMENTS(buf);
        }
        _exit(11);
}

/* Adds one to each word that passes, once it has been let go. */
static void filter(int in, int out, const struct gate *go) {
        uint32_t word;
        size_t n = 0;

        gate_open(&ready, 1);
        gate_pass(go, 1);
        for (;;) {
                ssize_t r = read(in, (char *)&word + n, sizeof(word) - n);

                CHECK(r >= 0, "read: %m");
                if (r == 0)
                        break;
                n += (size_t)r;
                if (n < sizeof(word))
                        continue;
                n = 0;
                word++;
                CHECK(write(out, &word, sizeof(word)) == sizeof(word), "write: %m");
        }
        _exit(12);
}

/* Blocks in one small write, which must then report all of it. */
static void block(int fd) {
        char page[4096];

        memset(page, 'b', sizeof(page));
        CHECK(write(fd, page, sizeof(page)) == sizeof(page), "a blocked write: %m");
        _exit(13);
}

static void consume(int fd, size_t n) {
        for (size_t i = 0; i < n; i++) {
                uint32_t word;
                size_t have = 0;

                while (have < sizeof(word)) {
                        ssize_t r = read(fd, (char *)&word + have, sizeof(word) - have);

                        CHECK(r > 0, "read: %m");
                        have += (size_t)r;
                }
                CHECK(word == i + 1, "word %zu is %u", i, word);
        }
}

/* In a child: all ends but these two are closed, or there would be no end of file. */
static void keep(int fd, int other) {
        const int *pipes[] = { a, b, full, kids };

        for (size_t i = 0; i < ELEMENTS(pipes); i++)
                for (int end = 0; end < 2; end++)
                        if (pipes[i][end] != fd && pipes[i][end] != other)
                                close(pipes[i][end]);
}

int main(int argc, char **argv) {
        int again, all = 0;
        pid_t producer, filterer, blocked, holder;
        char path[64], buf[65536];
        struct gate go, go2;
        ssize_t r;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&go2);
        CHECK(pipe(a) == 0 && pipe(b) == 0 && pipe(full) == 0 && pipe(kids) == 0, "pipe: %m");
        CHECK(write(kids[1], "kept by children", 16) == 16, "write: %m");
        snprintf(path, sizeof(path), "/proc/self/fd/%d", full[0]);
        CHECK((again = open(path, O_RDONLY | O_NONBLOCK)) >= 0, "open the pipe again: %m");
        memset(buf, 'f', sizeof(buf));
        CHECK(write(full[1], buf, 65536) == 65536, "fill: %m");
        producer = xfork();
        if (producer == 0) {
                keep(a[1], -1);
                produce(a[1]);
        }
        filterer = xfork();
        if (filterer == 0) {
                keep(a[0], b[1]);
                filter(a[0], b[1], &go);
        }
        blocked = xfork();
        if (blocked == 0) {
                keep(full[1], -1);
                block(full[1]);
        }
        holder = xfork();
        if (holder == 0) {
                keep(kids[0], kids[1]);
                if (xfork() == 0) {
                        close(kids[0]);
                        gate_open(&ready, 1);
                        gate_pass(&go2, 1);
                        CHECK(write(kids[1], "!", 1) == 1, "write: %m");
                        _exit(0);
                }
                close(kids[1]);
                gate_open(&ready, 1);
                gate_pass(&go2, 1);
                CHECK(wait(NULL) > 0, "wait: %m");
                CHECK(read(kids[0], buf, 100) == 17 && memcmp(buf, "kept by children!", 17) == 0,
                      "children's pipe");
                CHECK(read(kids[0], buf, 100) == 0, "children's pipe: no end of file");
                _exit(14);
        }
        close(a[0]);
        close(a[1]);
        close(b[1]);
        close(kids[0]);
        close(kids[1]);
        gate_pass(&ready, 3);
        WAIT_FOR(proc_state(producer) == 'S' && proc_state(blocked) == 'S', "the writers block");
        test_ready();
        test_wait();
        /* break: read(full[0], buf, 100); */
        /* break: kill(holder, SIGKILL); */
        /* break: fcntl(again, F_SETFL, 0); */
        CHECK(proc_state(blocked) == 'S', "the blocked writer is in state %c", proc_state(blocked));
        CHECK(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, (long)again, (long)full[0]) != 0,
              "two descriptions became one");
        CHECK((fcntl(again, F_GETFL) & O_NONBLOCK) && !(fcntl(full[0], F_GETFL) & O_NONBLOCK),
              "flags of each");
        while ((r = read(again, buf, 5000)) > 0) {
                for (ssize_t i = 0; i < r; i++)
                        CHECK(buf[i] == (all + i < 65536 ? 'f' : 'b'), "byte %zd is '%c'", all + i, buf[i]);
                all += (int)r;
                if (all == 65536)
                        break;
        }
        CHECK(all >= 65536, "only %d bytes in the full pipe: %m", all);
        xwait(blocked, 13);
        while (all < 65536 + 4096) {
                r = read(full[0], buf, sizeof(buf));
                CHECK(r > 0, "read: %m");
                all += (int)r;
        }
        CHECK(all == 65536 + 4096 && read(again, buf, 1) < 0 && errno == EAGAIN, "%d bytes in all", all);
        gate_open(&go, 1);
        consume(b[0], TOTAL);
        CHECK(read(b[0], buf, 1) == 0, "no end of file after the last filter");
        xwait(producer, 11);
        xwait(filterer, 12);
        gate_open(&go2, 2);
        xwait(holder, 14);
        test_pass();
}
