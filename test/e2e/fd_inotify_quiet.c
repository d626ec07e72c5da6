/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: flavours=restore timeout=60 */
/* A directory and the files in it that are open, mapped, executed from, and worked in are watched for all events:
 * neither the dump nor the restore is one of them. */
#include "e2e.h"

#include <sys/inotify.h>

int main(int argc, char **argv) {
        struct inotify_event e[32];
        int watcher, file, dir, wd, wd_file;
        char *map;

        test_init(argc, argv);
        SYS(mkdir("all", 0700));
        file = SYS(open("all/file", O_CREAT | O_RDWR, 0600));
        CHECK(write(file, "watched", 7) == 7, "write: %m");
        map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
        CHECK(map != MAP_FAILED, "mmap: %m");
        dir = SYS(open("all", O_RDONLY | O_DIRECTORY));
        SYS(chdir("all"));
        watcher = SYS(inotify_init1(IN_NONBLOCK));
        wd = SYS(inotify_add_watch(watcher, ".", IN_ALL_EVENTS));
        wd_file = SYS(inotify_add_watch(watcher, "file", IN_ALL_EVENTS));
        test_ready();
        test_wait();
        /* break: close(open("file", O_RDONLY)); */
        CHECK(read(watcher, e, sizeof(e)) < 0 && errno == EAGAIN, "event %x of watch %d", e[0].mask,
              e[0].wd);
        CHECK(memcmp(map, "watched", 7) == 0 && fcntl(dir, F_GETFD) == 0, "file and directory");
        CHECK(pwrite(file, "W", 1, 0) == 1 && map[0] == 'W', "write: %m");
        CHECK(read(watcher, e, sizeof(e)) > 0 && e[0].wd == wd && e[0].mask == IN_MODIFY, "%d %x", e[0].wd,
              e[0].mask);
        SYS(inotify_rm_watch(watcher, wd_file));
        test_pass();
}
