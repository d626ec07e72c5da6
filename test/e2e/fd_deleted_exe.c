/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 ignore=maps,exe */
/* The program itself was deleted, and another one has its name by now: as after an upgrade. Its name is then no longer
 * shown quite as it was. */
#include "e2e.h"

#include <limits.h>

static void copy(const char *from, const char *to) {
        char buf[65536];
        int in = SYS(open(from, O_RDONLY)), out = SYS(open(to, O_WRONLY | O_CREAT | O_EXCL, 0755));
        ssize_t n;

        while ((n = SYS(read(in, buf, sizeof(buf)))) > 0)
                CHECK(write(out, buf, (size_t)n) == n, "write: %m");
        close(in);
        close(out);
}

static int constant_data = 42;
static const char text[] = "in the deleted program";

int main(int argc, char **argv) {
        char link[PATH_MAX], *again = getenv("AGAIN");
        ssize_t n;

        if (!again) {
                copy("/proc/self/exe", "program");
                setenv("AGAIN", "1", 1);
                execv("program", argv);
                test_fail("execv: %m");
        }
        test_init(argc, argv);
        SYS(unlink("program"));
        close(SYS(open("program", O_CREAT | O_WRONLY, 0600)));
        constant_data++;
        test_ready();
        test_wait();
        /* break: constant_data++; */
        /* break: unlink("program"); */
        n = SYS(readlink("/proc/self/exe", link, sizeof(link) - 1));
        link[n] = 0;
        CHECK(strstr(link, "/program") && strstr(link, " (deleted)"), "/proc/self/exe is %s", link);
        CHECK(constant_data == 43 && strcmp(text, "in the deleted program") == 0, "data");
        CHECK(access("program", F_OK) == 0 && access("program", X_OK) < 0, "the new one");
        check_fork();
        n = SYS(open("/proc/self/exe", O_RDONLY));
        CHECK(read((int)n, link, 4) == 4 && memcmp(link, "\177ELF", 4) == 0, "the program's file");
        test_pass();
}
