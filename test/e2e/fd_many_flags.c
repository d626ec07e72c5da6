/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 ignore=fd.1000 */
/*
 * A table that is read by copies of its descriptors: what copies do not tell comes over all the same. Close-on-exec of
 * each, locks of the table, of a description, of flock(2), on files and on pipes.
 */
#include "e2e.h"

#include <sys/file.h>

#define N       600
#define N_PIPES 60

static int files[N], pipes[2 * N_PIPES];

/* Behind all others: not found by asking about the first numbers. Its fdinfo names an inode, which changes. */
enum { LOCKED_PIPE = 1000 };

static int wants_cloexec(int i) {
        return i % 3 == 1;
}

static void check_fd(int fd, int i, const char *what) {
        int flags = fcntl(fd, F_GETFD);

        CHECK(flags == (wants_cloexec(i) ? FD_CLOEXEC : 0), "%s %d: F_GETFD is %d", what, i, flags);
}

static short lock_of(int fd, int cmd, off_t at) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

        CHECK(fcntl(fd, cmd, &lock) == 0, "F_GETLK: %m");
        return lock.l_type;
}

/* Everybody but the owner sees a lock. */
static void check_from_outside(void) {
        pid_t kid = xfork();

        if (kid == 0) {
                CHECK(lock_of(files[20], F_GETLK, 12) == F_WRLCK, "the lock of the table is gone");
                CHECK(lock_of(files[20], F_GETLK, 20) == F_UNLCK, "the lock of the table has grown");
                CHECK(lock_of(pipes[3], F_GETLK, 7) == F_WRLCK, "the lock on a pipe is gone");
                CHECK(lock_of(files[40], F_GETLK, 0) == F_UNLCK, "a lock came from nowhere");
                _exit(3);
        }
        xwait(kid, 3);
}

static void check_all(void) {
        int other;

        for (int i = 0; i < N; i++) {
                check_fd(files[i], i, "file");
                CHECK(lseek(files[i], 0, SEEK_CUR) == i, "offset of file %d", i);
                CHECK((fcntl(files[i], F_GETFL) & (O_APPEND | O_ACCMODE)) ==
                              ((i % 7 == 0 ? O_APPEND : 0) | O_RDWR),
                      "flags of file %d", i);
        }
        for (int i = 0; i < 2 * N_PIPES; i++)
                check_fd(pipes[i], i, "pipe");
        check_from_outside();
        other = open("file-10", O_RDWR | O_CLOEXEC);
        CHECK(other >= 0 && flock(other, LOCK_SH | LOCK_NB) < 0, "the lock of flock(2) is gone");
        CHECK(flock(files[10], LOCK_EX | LOCK_NB) == 0, "the lock of flock(2) is another's");
        close(other);
        other = open("file-30", O_RDWR | O_CLOEXEC);
        CHECK(other >= 0 && lock_of(other, F_OFD_GETLK, 100) == F_RDLCK,
              "the lock of a description is gone");
        CHECK(lock_of(files[30], F_OFD_GETLK, 100) == F_UNLCK, "the lock of a description is another's");
        close(other);
}

int main(int argc, char **argv) {
        struct flock posix = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
        struct flock on_pipe = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 5 };
        struct flock ofd = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100 };

        test_init(argc, argv);
        for (int i = 0; i < N; i++) {
                char name[32];

                snprintf(name, sizeof(name), "file-%d", i);
                files[i] = open(name,
                                O_RDWR | O_CREAT | (wants_cloexec(i) ? O_CLOEXEC : 0) |
                                        (i % 7 == 0 ? O_APPEND : 0),
                                0644);
                CHECK(files[i] >= 0 && lseek(files[i], i, SEEK_SET) == i, "%s: %m", name);
        }
        for (int i = 0; i < N_PIPES; i++) {
                CHECK(pipe(&pipes[2 * i]) == 0, "pipe: %m");
                for (int j = 2 * i; j <= 2 * i + 1; j++)
                        CHECK(fcntl(pipes[j], F_SETFD, wants_cloexec(j) ? FD_CLOEXEC : 0) == 0,
                              "F_SETFD: %m");
        }
        CHECK(dup3(pipes[3], LOCKED_PIPE, fcntl(pipes[3], F_GETFD) ? O_CLOEXEC : 0) == LOCKED_PIPE,
              "dup3: %m");
        close(pipes[3]);
        pipes[3] = LOCKED_PIPE;
        CHECK(flock(files[10], LOCK_EX) == 0 && fcntl(files[20], F_SETLK, &posix) == 0 &&
                      fcntl(files[30], F_OFD_SETLK, &ofd) == 0 && fcntl(pipes[3], F_SETLK, &on_pipe) == 0,
              "locks: %m");
        check_all();
        test_ready();
        test_wait();
        /* break: fcntl(files[1], F_SETFD, 0); */
        /* break: flock(files[10], LOCK_UN); */
        check_all();
        test_pass();
}
