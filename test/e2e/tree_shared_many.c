/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* So many processes that what they have in common is found out for all at once: some work in another directory, share it or
 * the descriptor table with their parent, run another program, have other values of /proc and a timer, a lock on a file that
 * all have open, or other flags and files for its descriptors. */
#include "e2e.h"

#include <limits.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define N_CHILDREN 280
#define N_PLACES   5

enum kind {
        PLAIN,
        ELSEWHERE,
        SHARES_FS,
        SHARES_FILES,
        OTHER_PROGRAM,
        OTHER_VALUES,
        LOCKS,
        OTHER_FILES,
        N_KINDS
};

static const char *const files[] = { "oom_score_adj", "coredump_filter", "loginuid", "timers" };
enum { N_FILES = sizeof(files) / sizeof(*files) };

struct child {
        pid_t pid;
        char cwd[PATH_MAX], exe[PATH_MAX];
        char text[N_FILES][256];
};

static struct child children[N_CHILDREN];

static enum kind kind_of(int i) {
        return i < 64 ? (enum kind)(i % N_KINDS) : i % 9 == 0 ? ELSEWHERE : PLAIN;
}

/* All children begin with these open; `locked` and `twice` are of the parent, too. */
static struct { int locked, twice, other; } fds;

static void take_lock(int i) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i, .l_len = 1 };

        CHECK(fcntl(fds.locked, F_SETLK, &lock) == 0, "lock byte %d", i);
}

static void check_lock(int i) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i, .l_len = 1 };

        CHECK(fcntl(fds.locked, F_GETLK, &lock) == 0, "F_GETLK");
        CHECK(lock.l_type == (kind_of(i) == LOCKS ? F_WRLCK : F_UNLCK), "child %d: a lock", i);
        CHECK(lock.l_type == F_UNLCK || lock.l_pid == children[i].pid, "child %d: its lock", i);
}

static void take_files(void) {
        CHECK(fcntl(fds.twice, F_SETFD, FD_CLOEXEC) == 0, "F_SETFD");
        CHECK(close(fds.other) == 0 && open("plain", O_RDONLY) == fds.other, "open");
}

static bool same_file(pid_t pid, int fd) {
        return syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, fd, fd) == 0;
}

static void check_files(int i) {
        bool other = kind_of(i) == OTHER_FILES, closed;
        char path[64], text[256] = { 0 };
        unsigned int flags = 0;
        int fd;

        CHECK(same_file(children[i].pid, fds.locked) && same_file(children[i].pid, fds.twice) &&
                      same_file(children[i].pid, fds.other) == !other,
              "child %d: its files", i);
        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", children[i].pid, fds.twice);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
                      sscanf(strstr(text, "flags:"), "flags: %o", &flags) == 1,
              "read %s", path);
        close(fd);
        closed = flags & O_CLOEXEC;
        CHECK(closed == other, "child %d: flags %o", i, flags);
}

static void write_own(const char *path, int value) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        CHECK(fd >= 0 && dprintf(fd, "%d", value) > 0, "write %s", path);
        close(fd);
}

static void take_values(int i) {
        struct sigevent event = { .sigev_notify = SIGEV_NONE };
        timer_t id;

        write_own("/proc/self/oom_score_adj", 500 + i);
        write_own("/proc/self/coredump_filter", i);
        CHECK(timer_create(CLOCK_MONOTONIC, &event, &id) == 0, "timer_create");
}

static void __attribute__((noreturn)) live(int i, int ready) {
        char dir[16];

        snprintf(dir, sizeof(dir), "place%d", i % N_PLACES);
        if (kind_of(i) == ELSEWHERE)
                CHECK(chdir(dir) == 0, "chdir to %s", dir);
        if (kind_of(i) == OTHER_VALUES)
                take_values(i);
        if (kind_of(i) == LOCKS)
                take_lock(i);
        if (kind_of(i) == OTHER_FILES)
                take_files();
        if (kind_of(i) == OTHER_PROGRAM) {
                /* The end of file of `ready`, which is closed on exec, says that it runs. */
                execl("/bin/sleep", "sleep", "100000", (char *)NULL);
                _exit(1);
        }
        if (kind_of(i) != SHARES_FILES)
                close(ready);
        for (;;)
                pause();
}

static void start(int i, int ready) {
        unsigned long flags = SIGCHLD | (kind_of(i) == SHARES_FS      ? CLONE_FS
                                         : kind_of(i) == SHARES_FILES ? CLONE_FILES
                                                                      : 0);
        pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);

        CHECK(pid >= 0, "clone");
        if (pid == 0)
                live(i, ready);
        children[i].pid = pid;
}

static void link_of(pid_t pid, const char *name, char ret[PATH_MAX]) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        n = readlink(path, ret, PATH_MAX - 1);
        CHECK(n > 0, "readlink %s", path);
        ret[n] = 0;
}

static void text_of(pid_t pid, const char *name, char ret[256]) {
        char path[64];
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 && errno == ENOENT ? 0 : read(fd, ret, 255);
        CHECK(n >= 0, "read %s", path);
        ret[n] = 0;
        if (fd >= 0)
                close(fd);
}

static bool shares(pid_t pid, int type) {
        return syscall(SYS_kcmp, getpid(), pid, type, 0, 0) == 0;
}

static void check(int i) {
        const struct child *c = &children[i];
        char link[PATH_MAX];

        CHECK(shares(c->pid, KCMP_FS) == (kind_of(i) == SHARES_FS), "child %d: its directory", i);
        CHECK(shares(c->pid, KCMP_FILES) == (kind_of(i) == SHARES_FILES), "child %d: its descriptors", i);
        link_of(c->pid, "cwd", link);
        CHECK(strcmp(link, c->cwd) == 0, "child %d works in %s, not %s", i, link, c->cwd);
        link_of(c->pid, "exe", link);
        CHECK(strcmp(link, c->exe) == 0, "child %d runs %s, not %s", i, link, c->exe);
        check_lock(i);
        check_files(i);
        for (int j = 0; j < N_FILES; j++) {
                char text[256];

                text_of(c->pid, files[j], text);
                CHECK(strcmp(text, c->text[j]) == 0, "child %d: %s is %s, not %s", i, files[j], text,
                      c->text[j]);
        }
}

int main(int argc, char **argv) {
        int ready[2];
        char byte;

        test_init(argc, argv);
        for (int i = 0; i < N_PLACES; i++) {
                char dir[16];

                snprintf(dir, sizeof(dir), "place%d", i);
                CHECK(mkdir(dir, 0700) == 0, "mkdir");
        }
        fds.locked = open("locked", O_RDWR | O_CREAT, 0600);
        fds.twice = open("plain", O_RDWR | O_CREAT, 0600);
        fds.other = dup(fds.twice);
        CHECK(fds.locked >= 0 && fds.twice >= 0 && fds.other >= 0, "open");
        CHECK(pipe2(ready, O_CLOEXEC) == 0, "pipe2");
        for (int i = 0; i < N_CHILDREN; i++)
                start(i, ready[1]);
        close(ready[1]); /* of those that share the descriptors, too */
        CHECK(read(ready[0], &byte, 1) == 0, "wait for the children");
        close(ready[0]);
        for (int i = 0; i < N_CHILDREN; i++) {
                link_of(children[i].pid, "cwd", children[i].cwd);
                link_of(children[i].pid, "exe", children[i].exe);
                for (int j = 0; j < N_FILES; j++)
                        text_of(children[i].pid, files[j], children[i].text[j]);
                check(i);
        }
        CHECK(strcmp(children[N_KINDS + ELSEWHERE].cwd, children[0].cwd) != 0, "all are in one place");
        for (int j = 0; j < N_FILES; j++)
                CHECK(strcmp(files[j], "loginuid") == 0 ||
                              strcmp(children[OTHER_VALUES].text[j], children[PLAIN].text[j]) != 0,
                      "%s is the same in all", files[j]);
        test_ready();
        test_wait();
        /* break: strcat(children[3].cwd, "x"); */
        for (int i = 0; i < N_CHILDREN; i++)
                check(i);
        for (int i = 0; i < N_CHILDREN; i++) {
                kill(children[i].pid, SIGKILL);
                CHECK(waitpid(children[i].pid, NULL, 0) == children[i].pid, "waitpid");
        }
        test_pass();
}
