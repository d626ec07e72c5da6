/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Named pipes with data: both ends here, O_RDWR, only a reader, ends in different processes, flags, capacity. */
#include "e2e.h"

static int open_fifo(const char *name, int flags) {
        int fd = open(name, flags);

        CHECK(fd >= 0, "open %s: %m", name);
        return fd;
}

int main(int argc, char **argv) {
        int both_r, both_w, rdwr, alone, split_r, split_w = -1, empty, two_r;
        char buf[8192], c;
        struct gate ready, go;
        struct stat st, by_name;
        pid_t kid;

        test_init(argc, argv);
        signal(SIGPIPE, SIG_IGN);
        gate_init(&ready);
        gate_init(&go);
        CHECK(mkfifo("both", 0600) == 0 && mkfifo("rdwr", 0640) == 0 && mkfifo("alone", 0600) == 0 &&
                      mkfifo("split", 0600) == 0 && mkfifo("empty", 0600) == 0,
              "mkfifo: %m");
        both_r = open_fifo("both", O_RDONLY | O_NONBLOCK);
        both_w = open_fifo("both", O_WRONLY | O_CLOEXEC);
        two_r = open_fifo("both", O_RDONLY);
        fill(buf, sizeof(buf), 1);
        CHECK(write(both_w, buf, 5000) == 5000 && read(two_r, buf, 1000) == 1000, "write, read: %m");
        rdwr = open_fifo("rdwr", O_RDWR);
        CHECK(fcntl(rdwr, F_SETPIPE_SZ, 16384) == 16384, "F_SETPIPE_SZ: %m");
        CHECK(write(rdwr, "rdwr data", 9) == 9, "write: %m");
        alone = open_fifo("alone", O_RDONLY | O_NONBLOCK);
        split_r = open_fifo("split", O_RDONLY | O_NONBLOCK);
        kid = xfork();
        if (kid == 0) {
                close(split_r);
                close(both_w);
                split_w = open_fifo("split", O_WRONLY);
                CHECK(write(split_w, "from the child", 14) == 14, "write: %m");
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(write(split_w, " again", 6) == 6, "write: %m");
                _exit(8);
        }
        gate_pass(&ready, 1);
        empty = open_fifo("empty", O_RDWR | O_NONBLOCK);
        test_ready();
        test_wait();
        /* break: read(both_r, &c, 1); */
        /* break: write(empty, "x", 1); */
        /* break: fcntl(both_r, F_SETFL, 0); */
        /* break: fcntl(rdwr, F_SETPIPE_SZ, 4096); */
        /* break: read(split_r, &c, 1); */
        /* break: dup2(empty, alone); */
        CHECK(fstat(both_r, &st) == 0 && stat("both", &by_name) == 0 && st.st_ino == by_name.st_ino,
              "inode");
        CHECK((fcntl(both_r, F_GETFL) & O_NONBLOCK) && !(fcntl(both_w, F_GETFL) & O_NONBLOCK) &&
                      !(fcntl(two_r, F_GETFL) & O_NONBLOCK),
              "O_NONBLOCK");
        CHECK(fcntl(both_w, F_GETFD) == FD_CLOEXEC && fcntl(both_r, F_GETFD) == 0, "close-on-exec");
        CHECK(read(both_r, buf, sizeof(buf)) == 4000, "data in the fifo: %m");
        {
                char want[8192];

                fill(want, sizeof(want), 1);
                CHECK(memcmp(buf, want + 1000, 4000) == 0, "data in the fifo");
        }
        CHECK(read(both_r, &c, 1) < 0 && errno == EAGAIN, "more data in the fifo");
        CHECK(write(both_w, "x", 1) == 1 && read(two_r, &c, 1) == 1 && c == 'x', "the fifo afterwards: %m");
        close(both_w);
        CHECK(read(both_r, &c, 1) == 0, "no end of file");
        CHECK(fcntl(rdwr, F_GETPIPE_SZ) == 16384, "capacity %d", fcntl(rdwr, F_GETPIPE_SZ));
        CHECK((fcntl(rdwr, F_GETFL) & O_ACCMODE) == O_RDWR, "O_RDWR");
        CHECK(read(rdwr, buf, 100) == 9 && memcmp(buf, "rdwr data", 9) == 0, "data behind O_RDWR");
        CHECK(write(rdwr, "y", 1) == 1 && read(rdwr, &c, 1) == 1 && c == 'y', "O_RDWR afterwards: %m");
        CHECK(read(alone, &c, 1) == 0, "a reader without writers");
        CHECK((both_w = open("alone", O_WRONLY | O_NONBLOCK)) >= 0, "a new writer finds the reader: %m");
        CHECK(write(both_w, "z", 1) == 1 && read(alone, &c, 1) == 1 && c == 'z', "new writer: %m");
        CHECK(read(empty, &c, 1) < 0 && errno == EAGAIN, "the empty one");
        CHECK(read(split_r, buf, 14) == 14 && memcmp(buf, "from the child", 14) == 0, "data of the child");
        CHECK(read(split_r, buf, 14) < 0 && errno == EAGAIN, "the child still has it open");
        gate_open(&go, 1);
        xwait(kid, 8);
        CHECK(read(split_r, buf, 14) == 6 && read(split_r, buf, 14) == 0, "data of the child");
        test_pass();
}
