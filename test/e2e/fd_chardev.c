/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* /dev/null, zero, full, random and urandom, opened in several ways. */
#include "e2e.h"

#include <sys/sysmacros.h>

enum { NULL_, ZERO, FULL, RANDOM, URANDOM, N };

int main(int argc, char **argv) {
        static const char *const names[N] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                              "/dev/urandom" };
        static const unsigned minors[N] = { 3, 5, 7, 8, 9 };
        int rd[N], wr[N], flags[N], shared;
        unsigned char buf[4096], other[4096];
        struct stat st;

        test_init(argc, argv);
        for (int i = 0; i < N; i++) {
                rd[i] = open(names[i], O_RDONLY | O_NONBLOCK | (i % 2 ? O_CLOEXEC : 0));
                wr[i] = open(names[i], i % 2 ? O_WRONLY : O_RDWR | O_APPEND);
                CHECK(rd[i] >= 0 && wr[i] >= 0, "open %s: %m", names[i]);
                flags[i] = fcntl(wr[i], F_GETFL);
        }
        shared = dup(rd[ZERO]);
        test_ready();
        test_wait();
        /* break: dup2(rd[NULL_], rd[ZERO]); */
        /* break: dup2(wr[NULL_], wr[FULL]); */
        /* break: fcntl(rd[RANDOM], F_SETFL, 0); */
        /* break: dup2(rd[RANDOM], rd[URANDOM]); */
        for (int i = 0; i < N; i++) {
                CHECK(fstat(rd[i], &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, minors[i]),
                      "%s to read: "
                      "device %u:%u",
                      names[i], major(st.st_rdev), minor(st.st_rdev));
                CHECK(fstat(wr[i], &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, minors[i]),
                      "%s to write: "
                      "device %u:%u",
                      names[i], major(st.st_rdev), minor(st.st_rdev));
                CHECK((fcntl(rd[i], F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_RDONLY | O_NONBLOCK),
                      "%s: flags", names[i]);
                CHECK(fcntl(wr[i], F_GETFL) == flags[i], "%s: flags", names[i]);
                CHECK(fcntl(rd[i], F_GETFD) == (i % 2 ? FD_CLOEXEC : 0), "%s: close-on-exec", names[i]);
        }
        CHECK(read(rd[NULL_], buf, 10) == 0 && write(wr[NULL_], buf, 10) == 10, "/dev/null");
        memset(buf, 1, sizeof(buf));
        CHECK(read(rd[ZERO], buf, sizeof(buf)) == sizeof(buf), "/dev/zero: %m");
        for (size_t i = 0; i < sizeof(buf); i++)
                CHECK(buf[i] == 0, "/dev/zero gave %d", buf[i]);
        CHECK(read(shared, buf, 1) == 1, "/dev/zero, dup'ed: %m");
        CHECK(write(wr[FULL], buf, 1) < 0 && errno == ENOSPC, "/dev/full takes data");
        CHECK(read(rd[FULL], buf, 1) == 1 && buf[0] == 0, "/dev/full: %m");
        CHECK(read(rd[RANDOM], buf, 32) == 32 && read(rd[URANDOM], other, 32) == 32, "random: %m");
        CHECK(memcmp(buf, other, 32) != 0, "not random");
        CHECK(write(wr[URANDOM], buf, 1) == 1, "write to urandom: %m");
        test_pass();
}
