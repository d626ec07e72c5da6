/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 ignore=fd.60,fd.61,fd.62,fd.63,maps */
/* Deleted files: contents, owner, permissions and times, several descriptions and descriptors, sparse ones, a shared
 * and a private mapping, a new file under the old name, O_TMPFILE (which can get a name yet), a directory that is gone
 * too, a named pipe, hard links that are all gone, empty ones; nothing is left where they were. */
#include "e2e.h"

#include <dirent.h>

enum { BIG = 700000, HOLE = 64 << 20, NEW = 60, NEW_COPY, TMP, TMP_SAME };

static char *data_of(size_t size, uint64_t seed) {
        char *p = malloc(size);

        CHECK(p, "malloc");
        fill(p, size, seed);
        return p;
}

static int make(const char *path, int flags, size_t size, uint64_t seed) {
        int fd = SYS(open(path, flags | O_CREAT, 0600));
        char *data = data_of(size + 1, seed);

        CHECK(size == 0 || write(fd, data, size) == (ssize_t)size, "write %s: %m", path);
        free(data);
        return fd;
}

static void check_content(int fd, size_t size, uint64_t seed, const char *what) {
        char *buf = malloc(size + 1);
        struct stat st;

        SYS(fstat(fd, &st));
        CHECK(st.st_nlink == 0 && st.st_size == (off_t)size, "%s: %d links, %lld bytes", what,
              (int)st.st_nlink, (long long)st.st_size);
        CHECK(buf && pread(fd, buf, size + 1, 0) == (ssize_t)size, "%s: read: %m", what);
        if (size > 0)
                check_filled(buf, size, seed, what);
        free(buf);
}

static void check_link(int fd, const char *want) {
        char path[64], got[PATH_MAX], cwd[PATH_MAX], full[PATH_MAX + 256];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, got, sizeof(got) - 1);
        CHECK(n > 0 && getcwd(cwd, sizeof(cwd)), "readlink: %m");
        got[n] = 0;
        snprintf(full, sizeof(full), "%s/%s (deleted)", cwd, want);
        CHECK(strcmp(got, full) == 0, "fd %d is %s, not %s", fd, got, full);
}

/* Nothing here but the new file, and what the runner has here. */
static void check_nothing_left(void) {
        static const char *const names[] = { "plain",  "sparse", "nofollow", "gone", "link-a",
                                             "link-b", "fifo",   "empty",    "left" };
        DIR *dir = opendir(".");
        struct dirent *e;

        CHECK(dir, "opendir: %m");
        while ((e = readdir(dir))) {
                CHECK(!strstr(e->d_name, ".ckpt"), "%s is left", e->d_name);
                for (size_t i = 0; i < ELEMENTS(names); i++)
                        CHECK(strcmp(e->d_name, names[i]) != 0, "%s is left", e->d_name);
        }
        closedir(dir);
}

int main(int argc, char **argv) {
        int plain, again, read_only, sparse, nofollow, in_gone, gone_dir, link_a, link_b, fifo_r, fifo_w,
                empty, fd;
        const struct timespec times[2] = { { 1000000000, 123000 }, { 1111111111, 456000 } };
        char *shared, *private, buf[64];
        struct stat st, before;
        pid_t kid;
        struct gate ready, go;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        plain = make("plain", O_RDWR | O_APPEND, BIG, 1);
        SYS(fchown(plain, 1234, 4321));
        SYS(fchmod(plain, 04751));
        again = SYS(open("plain", O_RDWR | O_NONBLOCK));
        read_only = SYS(open("plain", O_RDONLY));
        SYS(lseek(again, 4097, SEEK_SET));
        shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only, PAGE);
        CHECK(shared != MAP_FAILED && private != MAP_FAILED, "mmap: %m");
        private[0] ^= 0x55;
        SYS(futimens(plain, times));
        SYS(unlink("plain"));

        sparse = make("sparse", O_RDWR, 0, 0);
        SYS(ftruncate(sparse, HOLE));
        CHECK(pwrite(sparse, "middle", 6, HOLE / 2 + 5) == 6 && pwrite(sparse, "end", 3, HOLE - 3) == 3,
              "pwrite: %m");
        SYS(unlink("sparse"));

        nofollow = make("nofollow", O_WRONLY | O_NOFOLLOW | O_EXCL, 100, 2);
        SYS(unlink("nofollow"));

        SYS(mkdir("gone", 0700));
        SYS(mkdir("gone/deeper", 0750));
        in_gone = make("gone/deeper/file", O_RDWR, 5000, 3);
        gone_dir = SYS(open("gone/deeper", O_RDONLY | O_DIRECTORY));
        SYS(unlink("gone/deeper/file"));
        kid = xfork();
        if (kid == 0) {
                SYS(chdir("gone/deeper"));
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(open("x", O_CREAT | O_WRONLY, 0600) < 0 && errno == ENOENT,
                      "a file in a deleted directory: %m");
                CHECK(stat(".", &st) == 0 && st.st_nlink == 0 && (st.st_mode & 0777) == 0750,
                      "its directory: %o", st.st_mode);
                _exit(8);
        }
        gate_pass(&ready, 1);
        SYS(rmdir("gone/deeper"));
        SYS(rmdir("gone"));

        link_a = make("link-a", O_RDWR, 300, 4);
        SYS(link("link-a", "link-b"));
        link_b = SYS(open("link-b", O_RDONLY));
        SYS(unlink("link-a"));
        SYS(unlink("link-b"));

        SYS(mkfifo("fifo", 0640));
        fifo_r = SYS(open("fifo", O_RDONLY | O_NONBLOCK));
        fifo_w = SYS(open("fifo", O_WRONLY | O_NONBLOCK));
        CHECK(write(fifo_w, "piped", 5) == 5, "write: %m");
        SYS(unlink("fifo"));

        empty = make("empty", O_RDONLY, 0, 0);
        SYS(unlink("empty"));

        fd = make("reused", O_RDWR, 200, 5);
        SYS(dup2(fd, NEW));
        close(fd);
        SYS(dup3(NEW, NEW_COPY, O_CLOEXEC));
        SYS(unlink("reused"));
        close(make("reused", O_WRONLY, 50, 6));

        fd = SYS(open(".", O_TMPFILE | O_RDWR, 0600));
        CHECK(write(fd, "nameless", 8) == 8, "write: %m");
        SYS(dup2(fd, TMP));
        close(fd);
        snprintf(buf, sizeof(buf), "/proc/self/fd/%d", TMP);
        fd = SYS(open(buf, O_RDONLY));
        SYS(dup2(fd, TMP_SAME));
        close(fd);
        SYS(fstat(plain, &before));
        test_ready();
        test_wait();
        /* break: pwrite(again, "x", 1, 5000); */
        /* break: fchmod(plain, 0600); */
        /* break: lseek(again, 1, SEEK_SET); */
        /* break: pwrite(sparse, "x", 1, 77); */
        /* break: for (int i = 0; i < 100; i++) pwrite(sparse, buf, 50, i * 8192); */
        /* break: write(fifo_w, "x", 1); */
        /* break: private[1] ^= 1; */
        /* break: close(make("left", O_RDWR, 1, 1)); */
        check_nothing_left();
        SYS(fstat(plain, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 4321 && st.st_mode == before.st_mode, "owner and mode %o",
              st.st_mode);
        CHECK(st.st_mtim.tv_sec == times[1].tv_sec && st.st_mtim.tv_nsec / 1000 == times[1].tv_nsec / 1000,
              "mtime");
        check_content(again, BIG, 1, "plain");
        check_content(read_only, BIG, 1, "plain, read only");
        check_link(plain, "plain");
        check_link(again, "plain");
        CHECK(lseek(again, 0, SEEK_CUR) == 4097 && lseek(read_only, 0, SEEK_CUR) == 0 &&
                      lseek(plain, 0, SEEK_CUR) == BIG,
              "offsets");
        CHECK((fcntl(plain, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_RDWR | O_APPEND), "flags of plain");
        {
                char *want = data_of(BIG, 1);

                CHECK(memcmp(shared, want, 2 * PAGE) == 0, "shared mapping");
                want[PAGE] ^= 0x55;
                CHECK(memcmp(private, want + PAGE, 2 * PAGE) == 0, "private mapping");
                free(want);
        }
        shared[3] = '!';
        CHECK(pread(read_only, buf, 1, 3) == 1 && buf[0] == '!', "the mapping is of another file");
        CHECK(write(plain, "tail", 4) == 4 && pread(again, buf, 4, BIG) == 4 && memcmp(buf, "tail", 4) == 0,
              "not the same file");

        SYS(fstat(sparse, &st));
        CHECK(st.st_size == HOLE && st.st_blocks * 512 < 100000, "sparse: %lld bytes in %lld blocks",
              (long long)st.st_size, (long long)st.st_blocks);
        CHECK(pread(sparse, buf, 8, HOLE / 2 + 4) == 8 && memcmp(buf, "\0middle", 8) == 0, "sparse, middle");
        CHECK(pread(sparse, buf, 8, HOLE - 4) == 4 && memcmp(buf, "\0end", 4) == 0, "sparse, end");
        CHECK(pread(sparse, buf, 8, 76) == 8 && memcmp(buf, "\0\0\0\0\0\0\0\0", 8) == 0, "sparse, hole");
        CHECK((fcntl(nofollow, F_GETFL) & (O_ACCMODE | O_NOFOLLOW)) == (O_WRONLY | O_NOFOLLOW),
              "flags of nofollow");
        check_content(in_gone, 5000, 3, "in a deleted directory");
        check_link(in_gone, "gone/deeper/file");
        check_link(gone_dir, "gone/deeper");
        CHECK(fstat(gone_dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0, "deleted directory");
        CHECK(openat(gone_dir, "new", O_CREAT | O_WRONLY, 0600) < 0 && errno == ENOENT,
              "deleted directory: %m");
        gate_open(&go, 1);
        xwait(kid, 8);
        CHECK(access("gone", F_OK) < 0, "the directory is back");
        check_content(link_a, 300, 4, "link");
        check_link(link_a, "link-a");
        check_link(link_b, "link-b");
        CHECK(write(link_a, "more", 4) == 4 && pread(link_b, buf, 4, 300) == 4, "links of one file");
        CHECK(read(fifo_r, buf, sizeof(buf)) == 5 && memcmp(buf, "piped", 5) == 0, "named pipe");
        CHECK(write(fifo_w, "more", 4) == 4 && read(fifo_r, buf, sizeof(buf)) == 4, "named pipe, again");
        CHECK(fstat(fifo_r, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 0777) == 0640, "named pipe: %o",
              st.st_mode);
        check_content(empty, 0, 0, "empty");
        check_content(NEW, 200, 5, "with a new file under its name");
        CHECK(lseek(NEW, 7, SEEK_SET) == 7 && lseek(NEW_COPY, 0, SEEK_CUR) == 7, "one description");
        CHECK(fcntl(NEW_COPY, F_GETFD) == FD_CLOEXEC, "close-on-exec");
        CHECK(stat("reused", &st) == 0 && st.st_size == 50, "the new file: %m");
        CHECK(pread(TMP_SAME, buf, 20, 0) == 8 && memcmp(buf, "nameless", 8) == 0, "temporary file");
        snprintf(buf, sizeof(buf), "/proc/self/fd/%d", TMP);
        CHECK(linkat(AT_FDCWD, buf, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0, "it can get no name: %m");
        CHECK(fstat(TMP_SAME, &st) == 0 && st.st_nlink == 1, "temporary file, linked");
        SYS(unlink("named"));
        test_pass();
}
