/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: flavours=restore libs=-lrt */
/* POSIX shared memory: shm_open(3), mapped and open, or only mapped, by two processes. It has a name in /dev/shm and
 * comes back by that. */
#include "e2e.h"

static struct gate ready, go, done;

int main(int argc, char **argv) {
        char name[64], *p;
        struct stat st, before;
        pid_t kid;
        int fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        snprintf(name, sizeof(name), "/e2e.%d.%lld", getpid(), (long long)now_ns(CLOCK_REALTIME));
        fd = SYS(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
        SYS(ftruncate(fd, 8 * PAGE));
        p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        fill(p + PAGE, PAGE, 1);
        SYS(fstat(fd, &before));
        kid = xfork();
        if (kid == 0) {
                close(fd);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_filled(p + PAGE, PAGE, 1, "the child's view");
                fill(p + 2 * PAGE, PAGE, 2);
                gate_open(&done, 1);
                _exit(3);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: p[PAGE] ^= 1; */
        /* break: mmap(p, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 3);
        check_filled(p + PAGE, PAGE, 1, "the parent's view");
        check_filled(p + 2 * PAGE, PAGE, 2, "written by the child");
        SYS(fstat(fd, &st));
        CHECK(st.st_ino == before.st_ino && st.st_dev == before.st_dev, "it is another file");
        close(fd);
        fd = SYS(shm_open(name, O_RDWR, 0));
        CHECK(pwrite(fd, "by its name", 11, 0) == 11 && memcmp(p, "by its name", 11) == 0,
              "opened again: %m");
        SYS(shm_unlink(name));
        test_pass();
}
