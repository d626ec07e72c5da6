/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* O_PATH descriptors of a file, a directory, a symbolic link, a fifo and a device. */
#include "e2e.h"

enum { FILE_, DIR_, LINK_, FIFO_, DEVICE, N };

int main(int argc, char **argv) {
        static const mode_t kind[N] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR };
        int fd[N], flags[N], fd2, f;
        char path[64], text[64], c;
        struct stat st[N], now;
        ssize_t n;

        test_init(argc, argv);
        f = make_file(path, "file", "content", 7);
        CHECK(mkdir("dir", 0755) == 0 && symlink("nowhere", "link") == 0 && mkfifo("fifo", 0600) == 0,
              "make: %m");
        close(f);
        CHECK((f = open("dir/inside", O_CREAT | O_WRONLY, 0600)) >= 0, "create: %m");
        close(f);
        fd[FILE_] = open(path, O_PATH | O_CLOEXEC);
        fd[DIR_] = open("dir", O_PATH | O_DIRECTORY);
        fd[LINK_] = open("link", O_PATH | O_NOFOLLOW);
        fd[FIFO_] = open("fifo", O_PATH);
        fd[DEVICE] = open("/dev/null", O_PATH);
        for (int i = 0; i < N; i++) {
                CHECK(fd[i] >= 0 && fstat(fd[i], &st[i]) == 0, "open: %m");
                flags[i] = fcntl(fd[i], F_GETFL);
        }
        fd2 = dup(fd[FILE_]);
        test_ready();
        test_wait();
        /* break: dup2(open(path, O_RDONLY), fd[FILE_]); */
        /* break: dup2(open("link", O_PATH), fd[LINK_]); dup2(fd[DIR_], fd[LINK_]); */
        /* break: fcntl(fd[FILE_], F_SETFD, 0); */
        /* break: dup2(open(".", O_PATH | O_DIRECTORY), fd[DIR_]); */
        for (int i = 0; i < N; i++) {
                CHECK(fcntl(fd[i], F_GETFL) == flags[i], "%d: flags 0%o, not 0%o", i,
                      (unsigned)fcntl(fd[i], F_GETFL), (unsigned)flags[i]);
                CHECK(flags[i] & O_PATH, "%d: no O_PATH", i);
                CHECK(fcntl(fd[i], F_GETFD) == (i == FILE_ ? FD_CLOEXEC : 0), "%d: close-on-exec", i);
                CHECK(fstat(fd[i], &now) == 0 && now.st_ino == st[i].st_ino && now.st_dev == st[i].st_dev,
                      "%d: inode", i);
                CHECK((now.st_mode & S_IFMT) == kind[i], "%d: mode 0%o", i, now.st_mode);
                CHECK(read(fd[i], &c, 1) < 0 && errno == EBADF, "%d: can be read", i);
        }
        n = readlinkat(fd[LINK_], "", text, sizeof(text));
        CHECK(n == 7 && memcmp(text, "nowhere", 7) == 0, "readlinkat: %m");
        CHECK(faccessat(fd[DIR_], "inside", F_OK, 0) == 0, "faccessat: %m");
        snprintf(text, sizeof(text), "/proc/self/fd/%d", fd2);
        CHECK((f = open(text, O_RDONLY)) >= 0 && read(f, &c, 1) == 1 && c == 'c', "open it again: %m");
        test_pass();
}
