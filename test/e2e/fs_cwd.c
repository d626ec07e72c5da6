/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Working directory, root and umask: the root process below its directory, a child with others, a child in a
 * chroot, one in a chroot whose working directory is not its root. */
#include "e2e.h"

static struct gate ready, go;

enum { ELSEWHERE, JAILED, JAILED_DEEP, N_KIDS };

static void check_umask(mode_t want, const char *name) {
        struct stat st;
        int fd;

        CHECK(status_u64(getpid(), "Umask", 8) == want, "umask is 0%o",
              (unsigned)status_u64(getpid(), "Umask", 8));
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0777);
        CHECK(fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == (0777 & ~want),
              "a file of mode 0%o: %m", st.st_mode & 07777);
        close(fd);
        unlink(name);
}

/* Reads the file through which a place is recognised. */
static void check_file(const char *path, const char *want) {
        char buf[64];

        CHECK(read_file(path, buf, sizeof(buf)) > 0 && strcmp(buf, want) == 0, "%s holds '%s': %m", path,
              buf);
}

static void jail(const char *cwd) {
        CHECK(chroot("jail") == 0 && chdir(cwd) == 0, "chroot: %m");
}

static void check_jail(const char *cwd) {
        char now[4096];

        check_file("/mark", "jail");
        check_file("/deep/../mark", "jail");
        CHECK(getcwd(now, sizeof(now)) && strcmp(now, cwd) == 0, "working directory '%s'", now);
        check_file("mark", strcmp(cwd, "/") == 0 ? "jail" : "deep");
        check_file("/../../mark", "jail");
        CHECK(access("/proc", F_OK) < 0 && errno == ENOENT, "there is more than the jail");
}

static void run(int which) {
        char was[4096], now[4096];

        switch (which) {
        case ELSEWHERE:
                CHECK(chdir("other/dir") == 0 && getcwd(was, sizeof(was)), "chdir: %m");
                umask(0);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(getcwd(now, sizeof(now)) && strcmp(now, was) == 0, "working directory '%s', not '%s'",
                      now, was);
                check_file("mark", "other");
                check_umask(0, "new");
                break;
        case JAILED:
                jail("/");
                umask(0777);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_jail("/");
                CHECK(umask(0) == 0777, "umask");
                break;
        default:
                jail("/deep");
                umask(0137);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_jail("/deep");
                CHECK(umask(0) == 0137, "umask");
        }
        _exit(30 + which);
}

static void mark(const char *path, const char *text) {
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

        CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write %s: %m", path);
        close(fd);
}

int main(int argc, char **argv) {
        char was[4096], now[4096];
        pid_t kids[N_KIDS];

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        CHECK(mkdir("jail", 0755) == 0 && mkdir("jail/deep", 0755) == 0 && mkdir("other", 0755) == 0 &&
                      mkdir("other/dir", 0755) == 0 && mkdir("own dir", 0755) == 0,
              "mkdir: %m");
        mark("jail/mark", "jail");
        mark("jail/deep/mark", "deep");
        mark("other/dir/mark", "other");
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        gate_pass(&ready, N_KIDS);
        CHECK(chdir("own dir") == 0 && getcwd(was, sizeof(was)), "chdir: %m");
        umask(0027);
        test_ready();
        test_wait();
        /* break: chdir(".."); */
        /* break: umask(0022); */
        /* break: kill(kids[JAILED], SIGKILL); */
        /* break: unlink("../jail/deep/mark"); */
        CHECK(getcwd(now, sizeof(now)) && strcmp(now, was) == 0, "working directory '%s', not '%s'", now,
              was);
        CHECK(access("../jail", F_OK) == 0 && access("/proc/self", F_OK) == 0, "access: %m");
        check_umask(0027, "new");
        gate_open(&go, N_KIDS);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 30 + i);
        test_pass();
}
