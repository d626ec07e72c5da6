/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: dump="--link-remap" flavours=restore ignore=fd.70,fd.71 timeout=60 */
/* Files deleted under the name they were opened by, with other names: they are the same files afterwards, and the link
 * that kept them is gone. One of them has a new file under its old name. */
#include "e2e.h"

#include <dirent.h>

enum { REUSED = 70, REUSED_TOO };

static int make(const char *path, const char *text) {
        int fd = SYS(open(path, O_CREAT | O_RDWR, 0640));

        CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write: %m");
        return fd;
}

static ino_t inode(const char *path) {
        struct stat st;

        SYS(stat(path, &st));
        return st.st_ino;
}

static ino_t inode_of(int fd) {
        struct stat st;

        SYS(fstat(fd, &st));
        return st.st_ino;
}

static void check_nothing_left(void) {
        DIR *dir = opendir(".");
        struct dirent *e;

        CHECK(dir, "opendir: %m");
        while ((e = readdir(dir)))
                CHECK(strncmp(e->d_name, "link_remap", 10) != 0 && strcmp(e->d_name, "old") != 0,
                      "%s is left", e->d_name);
        closedir(dir);
}

int main(int argc, char **argv) {
        int fd, other, tmp;
        char *map, buf[32], path[64], link_text[512];
        struct stat st;
        ssize_t n;

        test_init(argc, argv);
        fd = make("old", "kept by a link");
        other = SYS(open("old", O_RDONLY));
        map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED, "mmap: %m");
        SYS(link("old", "kept"));
        SYS(unlink("old"));
        tmp = make("reused", "the first");
        SYS(dup2(tmp, REUSED));
        SYS(dup2(tmp, REUSED_TOO));
        close(tmp);
        SYS(link("reused", "reused-kept"));
        SYS(unlink("reused"));
        close(make("reused", "the second"));
        test_ready();
        test_wait();
        /* break: pwrite(fd, "x", 1, 0); */
        /* break: SYS(dup2(make("kept2", "kept by a link"), fd)); */
        /* break: close(make("link_remap.7", "x")); */
        check_nothing_left();
        SYS(fstat(fd, &st));
        CHECK(st.st_nlink == 1 && st.st_ino == inode("kept") && inode_of(other) == inode("kept"), "%d links",
              (int)st.st_nlink);
        CHECK(pread(other, buf, sizeof(buf), 0) == 14 && memcmp(buf, "kept by a link", 14) == 0, "contents");
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = SYS(readlink(path, link_text, sizeof(link_text) - 1));
        link_text[n] = 0;
        CHECK(n > 14 && strcmp(link_text + n - 14, "/old (deleted)") == 0, "it is %s", link_text);
        map[0] = 'K';
        CHECK(pread(other, buf, 1, 0) == 1 && buf[0] == 'K', "the mapping is of another file");
        CHECK(inode_of(REUSED) == inode("reused-kept") && inode_of(REUSED_TOO) == inode("reused-kept"),
              "the first");
        CHECK(pread(REUSED, buf, sizeof(buf), 0) == 9 && lseek(REUSED_TOO, 0, SEEK_CUR) == 9,
              "the first: contents");
        SYS(stat("reused", &st));
        CHECK(st.st_size == 10 && st.st_nlink == 1, "the second");
        test_pass();
}
