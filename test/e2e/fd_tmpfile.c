/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 ignore=fd.*,maps */
/* Files of O_TMPFILE: with content, offset and owner, empty, opened again by /proc, only mapped; each can still get a
 * name, and then it is an ordinary file. In /dev/shm, too. */
#include "e2e.h"

enum { SIZE = 5 * 4096 + 100 };

static void check_links(int fd, nlink_t want, const char *what) {
        struct stat st;

        SYS(fstat(fd, &st));
        CHECK(st.st_nlink == want, "%s has %d links", what, (int)st.st_nlink);
}

static void link_fd(int fd, const char *name) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        CHECK(linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0, "link %s: %m", name);
}

static void check_file(const char *name, const char *data, size_t size) {
        char buf[SIZE + 8];
        int fd = SYS(open(name, O_RDONLY));

        CHECK(read(fd, buf, sizeof(buf)) == (ssize_t)size && memcmp(buf, data, size) == 0,
              "the content of %s", name);
        close(fd);
        SYS(unlink(name));
}

static int reopen(int fd, int flags) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return SYS(open(path, flags));
}

int main(int argc, char **argv) {
        static char data[SIZE + 4];
        int plain, again, empty, only_again, fd, shm;
        struct stat st;
        char *mapped, name[64];

        test_init(argc, argv);
        fill(data, sizeof(data) & ~7UL, 3);
        plain = SYS(open(".", O_TMPFILE | O_RDWR | O_APPEND, 0640));
        CHECK(write(plain, data, SIZE) == SIZE, "write: %m");
        SYS(fchown(plain, 1234, 4321));
        SYS(lseek(plain, 777, SEEK_SET));
        again = reopen(plain, O_RDONLY);
        SYS(lseek(again, 4096, SEEK_SET));
        empty = SYS(open(".", O_TMPFILE | O_WRONLY, 0600));
        fd = SYS(open(".", O_TMPFILE | O_RDWR, 0600));
        CHECK(write(fd, data, 100) == 100, "write: %m");
        only_again = reopen(fd, O_RDONLY);
        close(fd);
        fd = SYS(open(".", O_TMPFILE | O_RDWR, 0600));
        CHECK(write(fd, data, SIZE) == SIZE, "write: %m");
        mapped = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(mapped != MAP_FAILED, "mmap: %m");
        close(fd);
        shm = SYS(open("/dev/shm", O_TMPFILE | O_RDWR, 0600));
        CHECK(write(shm, data, SIZE) == SIZE, "write: %m");
        test_ready();
        test_wait();
        /* break: pwrite(plain, "x", 1, 5); */
        /* break: lseek(plain, 0, SEEK_SET); */
        /* break: mapped[9] ^= 1; */
        /* break: only_again = empty; */
        check_links(plain, 0, "plain");
        check_links(empty, 0, "empty");
        check_links(only_again, 0, "what was opened again");
        SYS(fstat(plain, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 4321 && (st.st_mode & 07777) == 0640, "owner %d:%d, mode %o",
              st.st_uid, st.st_gid, st.st_mode);
        CHECK(lseek(plain, 0, SEEK_CUR) == 777 && lseek(again, 0, SEEK_CUR) == 4096, "offsets");
        CHECK((fcntl(plain, F_GETFL) & (O_TMPFILE | O_APPEND)) == (O_TMPFILE | O_APPEND), "flags %o",
              fcntl(plain, F_GETFL));
        CHECK(write(plain, data + SIZE, 4) == 4, "append: %m");
        link_fd(plain, "linked");
        check_links(again, 1, "linked");
        check_file("linked", data, SIZE + 4);
        link_fd(empty, "empty");
        check_file("empty", data, 0);
        link_fd(only_again, "again");
        check_file("again", data, 100);
        CHECK(memcmp(mapped, data, SIZE) == 0, "what is mapped");
        mapped[0] ^= 1;
        CHECK(msync(mapped, SIZE, MS_SYNC) == 0, "msync: %m");
        snprintf(name, sizeof(name), "/dev/shm/e2e-tmpfile.%lld", (long long)now_ns(CLOCK_REALTIME));
        link_fd(shm, name);
        check_file(name, data, SIZE);
        test_pass();
}
