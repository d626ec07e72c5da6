/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Descriptor numbers with gaps, up to the last below the limit; 0 is closed; the lowest free one is next. */
#include "e2e.h"

#include <sys/resource.h>

#define LIMIT 4096

int main(int argc, char **argv) {
        static const int numbers[] = { 3, 5, 10, 63, 64, 65, 255, 256, 1023, 1024, 2047, LIMIT - 1 };
        struct rlimit rl = { LIMIT, LIMIT };
        char path[64], c;
        size_t n = 0;

        test_init(argc, argv);
        CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0, "setrlimit: %m");
        for (size_t i = ELEMENTS(numbers); i-- > 0;) {
                char text[2] = { (char)('a' + (int)i), 0 }, tag[16];
                int fd;

                snprintf(tag, sizeof(tag), "file-%zu", i);
                fd = make_file(path, tag, text, 1);
                CHECK(fd == numbers[i] || dup2(fd, numbers[i]) == numbers[i], "dup2: %m");
                if (fd != numbers[i])
                        close(fd);
        }
        close(0);
        for (int fd = 0; fd < LIMIT; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        CHECK(n == ELEMENTS(numbers) + 2, "%zu descriptors to begin with", n);
        test_ready();
        test_wait();
        /* break: close(255); */
        /* break: dup2(3, 4); */
        /* break: dup2(3, LIMIT - 1); */
        n = 0;
        for (int fd = 0; fd < LIMIT; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        CHECK(n == ELEMENTS(numbers) + 2, "%zu descriptors", n);
        for (size_t i = 0; i < ELEMENTS(numbers); i++)
                CHECK(pread(numbers[i], &c, 1, 0) == 1 && c == (char)('a' + (int)i), "fd %d: %m",
                      numbers[i]);
        CHECK(fcntl(0, F_GETFD) < 0 && errno == EBADF, "fd 0 is open");
        CHECK(open("/dev/null", O_RDONLY) == 0 && open("/dev/null", O_RDONLY) == 4 &&
                      open("/dev/null", O_RDONLY) == 6,
              "not the lowest");
        CHECK(dup2(1, LIMIT) < 0 && errno == EBADF, "the limit");
        test_pass();
}
