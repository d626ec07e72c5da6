/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Open files that could not be opened now: modes 0200, 0400 and 0000, and in a child that has given up its
 * privileges a file of root's in a closed directory. */
#include "e2e.h"

static int open_mode(const char *name, int flags, mode_t mode) {
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);

        CHECK(fd >= 0 && write(fd, name, 4) == 4, "create %s: %m", name);
        close(fd);
        fd = open(name, flags);
        CHECK(fd >= 0 && chmod(name, mode) == 0, "open %s: %m", name);
        return fd;
}

int main(int argc, char **argv) {
        const uid_t nobody = 65534;
        int ro, wo, none, closed, closed_w;
        struct gate ready, go;
        char buf[8];
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        ro = open_mode("only-write", O_RDONLY, 0200);
        wo = open_mode("only-read", O_WRONLY, 0400);
        none = open_mode("nothing", O_RDWR, 0000);
        CHECK(mkdir("closed", 0700) == 0, "mkdir: %m");
        closed = open_mode("closed/file", O_RDONLY, 0600);
        closed_w = open_mode("closed/other", O_WRONLY | O_APPEND, 0600);
        kid = xfork();
        if (kid == 0) {
                CHECK(setresgid(nobody, nobody, nobody) == 0 && setresuid(nobody, nobody, nobody) == 0,
                      "setresuid: %m");
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(getuid() == nobody && geteuid() == nobody && getgid() == nobody, "ids");
                CHECK(pread(closed, buf, 4, 0) == 4 && memcmp(buf, "clos", 4) == 0, "read root's file: %m");
                CHECK(write(closed_w, "more", 4) == 4, "write root's file: %m");
                CHECK(open("closed/file", O_RDONLY) < 0 && errno == EACCES, "it can be opened");
                _exit(9);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: kill(kid, SIGKILL); */
        /* break: dup2(closed, ro); */
        /* break: close(none); */
        CHECK(pread(ro, buf, 8, 0) == 4 && memcmp(buf, "only", 4) == 0, "read mode 0200: %m");
        CHECK(pwrite(wo, "x", 1, 4) == 1, "write mode 0400: %m");
        CHECK(pread(wo, buf, 1, 0) < 0 && errno == EBADF, "a write-only descriptor reads");
        CHECK(pread(none, buf, 4, 0) == 4 && pwrite(none, "y", 1, 0) == 1, "mode 0000: %m");
        gate_open(&go, 1);
        xwait(kid, 9);
        CHECK(pread(closed_w, buf, 1, 0) < 0 && lseek(closed_w, 0, SEEK_END) == 8, "what the child wrote");
        test_pass();
}
