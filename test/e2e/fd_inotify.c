/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* inotify: watches on directories and files, with gaps in their numbers, masks and flags, one-shot ones, several on
 * the same file from several instances, one that is shared; the restore itself is no event. */
#include "e2e.h"

#include <poll.h>
#include <sys/inotify.h>

enum { NR_WATCHES = 40 };

static int names[NR_WATCHES];

struct seen {
        int wd;
        uint32_t mask;
        char name[64];
};

/* The next event, or wd 0. */
static struct seen next(int fd) {
        const struct inotify_event *e;
        struct seen s = { 0 };
        static char queue[8192] __attribute__((aligned(8)));
        static size_t len, at;
        static int of = -1;

        if (of != fd || at >= len) {
                ssize_t n = read(fd, queue, sizeof(queue));

                CHECK(n > 0 || errno == EAGAIN, "read: %m");
                len = n > 0 ? (size_t)n : 0;
                at = 0;
                of = fd;
                if (n <= 0)
                        return s;
        }
        e = (const void *)(queue + at);
        s.wd = e->wd;
        s.mask = e->mask;
        snprintf(s.name, sizeof(s.name), "%s", e->len ? e->name : "");
        at += sizeof(*e) + e->len;
        return s;
}

static void expect(int fd, int wd, uint32_t mask, const char *name) {
        struct seen s = next(fd);

        CHECK(s.wd == wd && s.mask == mask && strcmp(s.name, name) == 0,
              "event of watch %d mask %x name '%s', wanted %d %x '%s'", s.wd, s.mask, s.name, wd, mask,
              name);
}

static void expect_nothing(int fd, const char *what) {
        struct seen s = next(fd);

        CHECK(s.wd == 0, "%s: event of watch %d mask %x name '%s'", what, s.wd, s.mask, s.name);
}

static void touch(const char *path) {
        int fd = SYS(open(path, O_CREAT | O_WRONLY, 0600));

        CHECK(write(fd, "x", 1) == 1, "write: %m");
        close(fd);
}

int main(int argc, char **argv) {
        int main_fd, second, plain, wd_dir, wd_file, wd_once, wd_all, other, empty;
        char name[32];

        test_init(argc, argv);
        SYS(mkdir("dir", 0700));
        SYS(mkdir("all", 0700));
        touch("file");
        touch("once");
        touch("all/old");
        SYS(symlink("nowhere", "link"));
        main_fd = SYS(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
        second = SYS(inotify_init1(IN_NONBLOCK));
        plain = SYS(inotify_init());
        empty = SYS(inotify_init1(IN_NONBLOCK));
        for (int i = 0; i < NR_WATCHES; i++) {
                snprintf(name, sizeof(name), "many-%d", i);
                SYS(mkdir(name, 0700));
                names[i] = SYS(inotify_add_watch(main_fd, name, IN_CREATE | IN_DELETE_SELF | IN_ONLYDIR));
        }
        /* Numbers are not used again, so removing leaves gaps; what that puts into the queue is read. */
        for (int i = 0; i < NR_WATCHES; i += 3) {
                SYS(inotify_rm_watch(main_fd, names[i]));
                expect(main_fd, names[i], IN_IGNORED, "");
        }
        wd_dir = SYS(inotify_add_watch(main_fd, "dir", IN_CREATE | IN_DELETE | IN_MOVE | IN_EXCL_UNLINK));
        wd_file = SYS(inotify_add_watch(main_fd, "file", IN_MODIFY | IN_CLOSE_WRITE));
        wd_once = SYS(inotify_add_watch(main_fd, "once", IN_MODIFY | IN_ONESHOT));
        wd_all = SYS(inotify_add_watch(second, "all", IN_CLOSE_WRITE | IN_ATTRIB | IN_UNMOUNT));
        other = SYS(inotify_add_watch(second, "dir", IN_DELETE));
        SYS(inotify_add_watch(plain, "link", IN_ATTRIB | IN_DONT_FOLLOW));
        test_ready();
        test_wait();
        /* break: inotify_rm_watch(main_fd, names[1]); */
        /* break: inotify_add_watch(main_fd, "file", IN_MODIFY); */
        /* break: touch("once"); */
        /* break: close(open("all/old", O_WRONLY)); */
        /* break: inotify_rm_watch(second, other); */
        /* break: fcntl(plain, F_SETFL, O_NONBLOCK); */
        CHECK(fcntl(main_fd, F_GETFL) & O_NONBLOCK && fcntl(main_fd, F_GETFD) == FD_CLOEXEC, "flags");
        CHECK(!(fcntl(plain, F_GETFL) & O_NONBLOCK), "flags of the blocking one");
        expect_nothing(main_fd, "after the restore");
        expect_nothing(second, "the second, after the restore");
        expect_nothing(empty, "without watches");
        for (int i = 0; i < NR_WATCHES; i++) {
                snprintf(name, sizeof(name), "many-%d/new", i);
                touch(name);
                if (i % 3 != 0)
                        expect(main_fd, names[i], IN_CREATE, "new");
                expect_nothing(main_fd, "one event each");
                SYS(unlink(name));
        }
        touch("dir/a");
        expect(main_fd, wd_dir, IN_CREATE, "a");
        SYS(rename("dir/a", "dir/b"));
        expect(main_fd, wd_dir, IN_MOVED_FROM, "a");
        expect(main_fd, wd_dir, IN_MOVED_TO, "b");
        SYS(unlink("dir/b"));
        expect(main_fd, wd_dir, IN_DELETE, "b");
        touch("file");
        expect(main_fd, wd_file, IN_MODIFY, "");
        expect(main_fd, wd_file, IN_CLOSE_WRITE, "");
        touch("once");
        expect(main_fd, wd_once, IN_MODIFY, "");
        expect(main_fd, wd_once, IN_IGNORED, "");
        touch("once");
        expect_nothing(main_fd, "one-shot");
        expect(second, other, IN_DELETE, "b");
        close(SYS(open("all/old", O_WRONLY)));
        expect(second, wd_all, IN_CLOSE_WRITE, "old");
        SYS(lchown("link", getuid(), getgid()));
        CHECK(poll(&(struct pollfd){ plain, POLLIN, 0 }, 1, 30000) == 1, "the link is not watched");
        /* The next number is one that was never used. */
        CHECK(inotify_add_watch(main_fd, "all", IN_OPEN) == wd_once + 1, "next number");
        test_pass();
}
