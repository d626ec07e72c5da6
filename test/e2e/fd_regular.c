/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Regular files: access modes, status flags, close-on-exec and offsets; files with odd names, renamed, hard
 * linked, reached by a symbolic link; reading, writing and appending go on at the right place. */
#include "e2e.h"

#define SIZE 10000

static const struct {
        const char *name;
        int flags;
        int fd_flags;
        off_t off;
} table[] = {
        { "read", O_RDONLY, 0, 5 },
        { "write", O_WRONLY, 0, 7 },
        { "both", O_RDWR, FD_CLOEXEC, 4096 },
        { "append", O_RDWR | O_APPEND, 0, 12 },
        { "append-write", O_WRONLY | O_APPEND, FD_CLOEXEC, 0 },
        { "sync", O_RDWR | O_SYNC, 0, 1 },
        { "dsync", O_RDWR | O_DSYNC, 0, 2 },
        { "nonblock", O_RDWR | O_NONBLOCK, 0, 3 },
        { "noatime", O_RDONLY | O_NOATIME, 0, SIZE },
        { "far beyond the end", O_RDWR, 0, 5LL << 30 },
        { "name with\nnewline and \xc3\xa4", O_RDWR, 0, 100 },
        { "gone (deleted)", O_RDWR, 0, 101 },
        { "trailing blank ", O_RDONLY, FD_CLOEXEC, 102 },
};

#define N ELEMENTS(table)

static int open_one(size_t i) {
        char *data = malloc(SIZE);
        int fd = open(table[i].name, O_RDWR | O_CREAT | O_EXCL, 0644);

        CHECK(fd >= 0 && data, "create %s: %m", table[i].name);
        fill(data, SIZE, i);
        CHECK(write(fd, data, SIZE) == SIZE, "write: %m");
        free(data);
        close(fd);
        fd = open(table[i].name, table[i].flags | (table[i].fd_flags ? O_CLOEXEC : 0));
        CHECK(fd >= 0, "open %s: %m", table[i].name);
        CHECK(lseek(fd, table[i].off, SEEK_SET) == table[i].off, "lseek: %m");
        return fd;
}

static void check_one(size_t i, int fd, int was_flags, const struct stat *was) {
        const char *name = table[i].name;
        char want[SIZE], byte = 0;
        off_t off = table[i].off;
        struct stat st, by_name;

        fill(want, sizeof(want), i);
        CHECK(fcntl(fd, F_GETFL) == was_flags, "%s: flags 0%o, not 0%o", name, (unsigned)fcntl(fd, F_GETFL),
              (unsigned)was_flags);
        CHECK(fcntl(fd, F_GETFD) == table[i].fd_flags, "%s: close-on-exec", name);
        CHECK(lseek(fd, 0, SEEK_CUR) == off, "%s: offset %lld", name, (long long)lseek(fd, 0, SEEK_CUR));
        CHECK(fstat(fd, &st) == 0 && stat(name, &by_name) == 0, "%s: stat: %m", name);
        CHECK(st.st_ino == was->st_ino && st.st_dev == was->st_dev && st.st_ino == by_name.st_ino,
              "%s: inode", name);
        CHECK(st.st_size == SIZE, "%s: size %lld", name, (long long)st.st_size);
        if ((table[i].flags & O_ACCMODE) != O_WRONLY) {
                CHECK(read(fd, &byte, 1) == (off < SIZE), "%s: read: %m", name);
                CHECK(off >= SIZE || byte == want[off], "%s: read byte %d, not %d", name, byte, want[off]);
        } else {
                CHECK(read(fd, &byte, 1) < 0 && errno == EBADF, "%s: can be read", name);
        }
        if ((table[i].flags & O_ACCMODE) == O_RDONLY) {
                CHECK(write(fd, "x", 1) < 0 && errno == EBADF, "%s: can be written", name);
                return;
        }
        CHECK(lseek(fd, off, SEEK_SET) == off, "lseek: %m");
        if (off > SIZE)
                return; /* a write would make the file huge */
        CHECK(write(fd, "NEW", 3) == 3, "%s: write: %m", name);
        CHECK(fstat(fd, &st) == 0, "fstat: %m");
        if (table[i].flags & O_APPEND)
                CHECK(st.st_size == SIZE + 3 && lseek(fd, 0, SEEK_CUR) == SIZE + 3, "%s: did not append",
                      name);
        else
                CHECK(st.st_size == SIZE && lseek(fd, 0, SEEK_CUR) == off + 3, "%s: wrote elsewhere", name);
}

int main(int argc, char **argv) {
        int fds[N], flags[N], moved, hard, soft;
        struct stat st[N], st_moved, now;
        char path[256], text[4096], want[4200];
        ssize_t n;

        test_init(argc, argv);
        for (size_t i = 0; i < N; i++) {
                fds[i] = open_one(i);
                flags[i] = fcntl(fds[i], F_GETFL);
                CHECK(fstat(fds[i], &st[i]) == 0, "fstat: %m");
        }
        moved = make_file(path, "old-name", "content", 7);
        CHECK(mkdir("dir", 0755) == 0 && rename(path, "dir/new-name") == 0, "rename: %m");
        CHECK(fstat(moved, &st_moved) == 0, "fstat: %m");
        CHECK(link("dir/new-name", "other-link") == 0 && symlink("dir/new-name", "soft-link") == 0,
              "link: %m");
        CHECK((hard = open("other-link", O_RDWR)) >= 0 && (soft = open("soft-link", O_RDWR)) >= 0,
              "open: %m");
        test_ready();
        test_wait();
        /* break: lseek(fds[3], 1, SEEK_SET); */
        /* break: fcntl(fds[7], F_SETFL, 0); */
        /* break: fcntl(fds[2], F_SETFD, 0); */
        /* break: dup2(fds[5], fds[6]); */
        /* break: ftruncate(fds[1], 9999); */
        /* break: dup2(fds[0], moved); */
        for (size_t i = 0; i < N; i++)
                check_one(i, fds[i], flags[i], &st[i]);
        CHECK(fstat(moved, &now) == 0 && now.st_ino == st_moved.st_ino, "the renamed file");
        CHECK(fstat(soft, &now) == 0 && now.st_ino == st_moved.st_ino, "the file behind a symbolic link");
        snprintf(path, sizeof(path), "/proc/self/fd/%d", hard);
        n = readlink(path, text, sizeof(text) - 1);
        CHECK(n > 0, "readlink: %m");
        text[n] = 0;
        CHECK(getcwd(want, 4096), "getcwd: %m");
        strcat(want, "/other-link");
        CHECK(strcmp(text, want) == 0, "the hard link is now open as '%s'", text);
        CHECK(lseek(moved, 0, SEEK_CUR) == 7 && lseek(hard, 0, SEEK_CUR) == 0, "offsets");
        CHECK(write(moved, "+", 1) == 1 && pread(hard, text, 10, 0) == 8 && text[7] == '+',
              "one file, two links");
        test_pass();
}
