/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: dump="--force-irmap" timeout=60 */
/* The paths of watched files are searched for below the working directory, instead of asked for by file handle. */
#include "e2e.h"

#include <sys/inotify.h>

static void expect(int fd, int wd, uint32_t mask) {
        char buf[512] __attribute__((aligned(8)));
        const struct inotify_event *e = (const void *)buf;
        ssize_t n = read(fd, buf, sizeof(buf));

        CHECK(n >= (ssize_t)sizeof(*e) && e->wd == wd && e->mask == mask, "%zd bytes: %d %x, wanted %d %x",
              n, e->wd, e->mask, wd, mask);
}

int main(int argc, char **argv) {
        int fd, deep, file, top;

        test_init(argc, argv);
        SYS(mkdir("a", 0700));
        SYS(mkdir("a/b", 0700));
        SYS(mkdir("a/b/c", 0700));
        close(SYS(open("a/b/c/file", O_CREAT | O_WRONLY, 0600)));
        fd = SYS(inotify_init1(IN_NONBLOCK));
        deep = SYS(inotify_add_watch(fd, "a/b/c", IN_CREATE));
        file = SYS(inotify_add_watch(fd, "a/b/c/file", IN_ATTRIB));
        top = SYS(inotify_add_watch(fd, ".", IN_DELETE));
        test_ready();
        test_wait();
        /* break: inotify_rm_watch(fd, deep); */
        /* break: inotify_add_watch(fd, "a/b/c/file", IN_CREATE); */
        SYS(mkdir("a/b/c/new", 0700));
        expect(fd, deep, IN_CREATE | IN_ISDIR);
        SYS(rmdir("a/b/c/new"));
        SYS(chmod("a/b/c/file", 0644));
        expect(fd, file, IN_ATTRIB);
        close(SYS(open("top", O_CREAT | O_WRONLY, 0600)));
        SYS(unlink("top"));
        expect(fd, top, IN_DELETE);
        test_pass();
}
