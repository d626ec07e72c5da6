/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Mappings of /dev/zero: private with changed pages, shared between parent and child. */
#include "e2e.h"

int main(int argc, char **argv) {
        struct gate ready, go;
        char *priv, *shared;
        struct vma v;
        pid_t kid;
        int fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        fd = open("/dev/zero", O_RDWR);
        CHECK(fd >= 0, "open: %m");
        priv = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        shared = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(priv != MAP_FAILED && shared != MAP_FAILED, "mmap: %m");
        close(fd);
        fill(priv + 2 * PAGE, PAGE, 1);
        fill(shared + 3 * PAGE, PAGE, 2);
        kid = xfork();
        if (kid == 0) {
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_filled(shared + 3 * PAGE, PAGE, 2, "shared, in the child");
                fill(shared, PAGE, 3);
                _exit(4);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: priv[0] = 1; */
        /* break: mmap(shared, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        CHECK(find_vma(priv, &v) && strcmp(v.path, "/dev/zero") == 0, "the private mapping is of '%s'",
              v.path);
        check_zero(priv, 2 * PAGE, "private, untouched");
        check_filled(priv + 2 * PAGE, PAGE, 1, "private");
        check_zero(priv + 3 * PAGE, 5 * PAGE, "private, untouched");
        gate_open(&go, 1);
        xwait(kid, 4);
        check_filled(shared, PAGE, 3, "written by the child");
        test_pass();
}
