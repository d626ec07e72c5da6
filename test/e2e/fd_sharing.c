/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Which descriptors are one open file description, in one process and between processes: dup and fork share the
 * offset and the status flags, a second open does not; close-on-exec is each descriptor's own. */
#include "e2e.h"

#include <linux/kcmp.h>

static struct gate ready, go, done;

static int kcmp_file(pid_t a, pid_t b, int fd_a, int fd_b) {
        return (int)syscall(SYS_kcmp, a, b, KCMP_FILE, (unsigned long)fd_a, (unsigned long)fd_b);
}

static void move_to(int *fd, int to) {
        CHECK(dup2(*fd, to) == to, "dup2: %m");
        close(*fd);
        *fd = to;
}

int main(int argc, char **argv) {
        char path[64], c;
        int fd, copy, high, again, only_kids, fd_dir, fd_dir2;
        pid_t kid, kid2, root = getpid();

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        fd = make_file(path, "file", "0123456789abcdef", 16);
        copy = dup(fd);
        high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
        again = open(path, O_RDWR);
        only_kids = open(path, O_RDWR);
        fd_dir = open(".", O_RDONLY | O_DIRECTORY);
        fd_dir2 = dup(fd_dir);
        CHECK(copy >= 0 && high == 200 && again >= 0 && only_kids >= 0 && fd_dir2 >= 0, "open: %m");
        CHECK(lseek(fd, 3, SEEK_SET) == 3 && lseek(again, 9, SEEK_SET) == 9 &&
                      lseek(only_kids, 12, SEEK_SET) == 12,
              "lseek: %m");
        kid = xfork();
        if (kid == 0) {
                close(copy);
                move_to(&fd, 77);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(lseek(fd, 0, SEEK_CUR) == 4, "offset in the child: %d", (int)lseek(fd, 0, SEEK_CUR));
                CHECK(read(fd, &c, 1) == 1 && c == '4', "the child read '%c'", c);
                CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "F_SETFL: %m");
                CHECK(lseek(only_kids, 0, SEEK_CUR) == 12 && read(only_kids, &c, 1) == 1 && c == 'c',
                      "siblings' file");
                gate_open(&done, 1);
                gate_pass(&ready, 1);
                CHECK(lseek(only_kids, 0, SEEK_CUR) == 14, "offset shared by siblings");
                _exit(1);
        }
        gate_pass(&ready, 1);
        kid2 = xfork();
        if (kid2 == 0) {
                close(fd);
                move_to(&copy, 3 + 90);
                move_to(&only_kids, 95);
                gate_open(&ready, 1);
                gate_pass(&done, 1);
                CHECK(read(only_kids, &c, 1) == 1 && c == 'd', "siblings' file");
                CHECK(lseek(copy, 0, SEEK_CUR) == 5, "offset in the second child");
                gate_open(&ready, 1);
                _exit(2);
        }
        gate_pass(&ready, 1);
        close(only_kids);
        test_ready();
        test_wait();
        /* break: close(copy); copy = open(path, O_RDWR); lseek(copy, 3, SEEK_SET); */
        /* break: dup2(fd, again); */
        /* break: fcntl(high, F_SETFD, 0); */
        /* break: lseek(fd, 0, SEEK_SET); */
        CHECK(kcmp_file(root, root, fd, copy) == 0 && kcmp_file(root, root, fd, high) == 0,
              "dup'ed: not the same");
        CHECK(kcmp_file(root, root, fd, again) != 0, "opened twice: the same");
        CHECK(kcmp_file(root, root, fd_dir, fd_dir2) == 0, "directory dup'ed: not the same");
        CHECK(kcmp_file(root, kid, fd, 77) == 0 && kcmp_file(root, kid2, copy, 93) == 0,
              "forked: not the same");
        CHECK(kcmp_file(kid, kid2, high, high) == 0, "forked: not the same");
        CHECK(fcntl(high, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFD) == 0 && fcntl(copy, F_GETFD) == 0,
              "close-on-exec");
        CHECK(lseek(copy, 0, SEEK_CUR) == 3 && lseek(high, 0, SEEK_CUR) == 3, "shared offset");
        CHECK(read(high, &c, 1) == 1 && c == '3', "read '%c'", c);
        CHECK(lseek(again, 0, SEEK_CUR) == 9 && read(again, &c, 1) == 1 && c == '9', "own offset");
        gate_open(&go, 1);
        xwait(kid2, 2);
        xwait(kid, 1);
        CHECK(lseek(fd, 0, SEEK_CUR) == 5, "what the child read moved the offset");
        CHECK(fcntl(copy, F_GETFL) & O_NONBLOCK, "status flags are shared");
        CHECK(!(fcntl(again, F_GETFL) & O_NONBLOCK), "status flags of another description");
        test_pass();
}
