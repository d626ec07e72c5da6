/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that cannot be carried over is named before anything is stopped; what comes up in between, too. */
#include "test_mem.h"

#include <linux/aio_abi.h>
#include <linux/if_packet.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/shm.h>
#include <sys/socket.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif

#define CANNOT 77 /* exit status: this kernel does not have it */

static void *xmap(size_t pages, int flags, int fd) {
        void *p = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

        if (p == MAP_FAILED)
                _exit(CANNOT);
        return p;
}

static void *anon(size_t pages) {
        return xmap(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void with_memfd(void *arg) {
        int fd = (int)syscall(SYS_memfd_create, "some", 0);

        if (fd < 0 || ftruncate(fd, PAGE_SIZE) < 0)
                _exit(CANNOT);
        xmap(1, MAP_SHARED, fd);
        close(fd);
}

static void with_sysv(void *arg) {
        int id = shmget(IPC_PRIVATE, PAGE_SIZE, 0600 | IPC_CREAT);

        if (id < 0 || shmat(id, NULL, 0) == (void *)-1)
                _exit(CANNOT);
        shmctl(id, IPC_RMID, NULL);
}

static void with_aio(void *arg) {
        aio_context_t ctx = 0;

        if (syscall(SYS_io_setup, 8, &ctx) < 0)
                _exit(CANNOT);
}

static void with_deleted(void *arg) {
        char path[] = "/tmp/ckpt-mem-XXXXXX";
        int fd = mkstemp(path);

        if (fd < 0 || ftruncate(fd, PAGE_SIZE) < 0)
                _exit(CANNOT);
        xmap(1, MAP_PRIVATE, fd);
        unlink(path);
        close(fd);
}

/* In the test's directory, which it removes. */
static void with_replaced(void *arg) {
        char path[128], other[128];
        int fd;

        snprintf(path, sizeof(path), "%s/new", (char *)arg);
        snprintf(other, sizeof(other), "%s/old", (char *)arg);
        fd = open(path, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || ftruncate(fd, PAGE_SIZE) < 0 || link(path, other) < 0)
                _exit(CANNOT);
        xmap(1, MAP_SHARED, fd);
        unlink(path);
        close(fd);
        close(open(path, O_RDWR | O_CREAT, 0600));
}

static void with_uffd(void *arg) {
        struct uffdio_api api = { .api = UFFD_API };
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
        struct uffdio_register reg = { .range = { (uintptr_t)anon(4), 4 * PAGE_SIZE },
                                       .mode = UFFDIO_REGISTER_MODE_MISSING };

        if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
                _exit(CANNOT);
}

static void with_seal(void *arg) {
        if (syscall(SYS_mseal, anon(1), PAGE_SIZE, 0) < 0)
                _exit(CANNOT);
}

static void with_pkey(void *arg) {
        int key = (int)syscall(SYS_pkey_alloc, 0, 0);

        if (key <= 0 || syscall(SYS_pkey_mprotect, anon(1), PAGE_SIZE, PROT_READ, key) < 0)
                _exit(CANNOT);
}

static void with_droppable(void *arg) {
        xmap(1, MAP_DROPPABLE | MAP_ANONYMOUS, -1);
}

static void with_huge(void *arg) {
        if (mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1,
                 0) == MAP_FAILED)
                _exit(CANNOT);
}

static void with_ring(void *arg) {
        struct tpacket_req req = {
                .tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 2048, .tp_frame_nr = 2
        };
        int fd = socket(AF_PACKET, SOCK_RAW, 0);

        if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
                _exit(CANNOT);
        xmap(1, MAP_PRIVATE, fd);
        close(fd);
}

static void with_perf(void *arg) {
        struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
                                        .size = sizeof(attr),
                                        .config = PERF_COUNT_SW_CPU_CLOCK };
        int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);

        if (fd < 0)
                _exit(CANNOT);
        xmap(2, MAP_SHARED, fd);
        close(fd);
}

static void with_io_uring(void *arg) {
        uint32_t params[30] = { 0 };
        int fd = (int)syscall(SYS_io_uring_setup, 4, params);

        if (fd < 0)
                _exit(CANNOT);
        xmap(1, MAP_SHARED, fd);
        close(fd);
}

static void with_private_view(void *arg) {
        char path[64], *p = xmap(1, MAP_SHARED | MAP_ANONYMOUS, -1);
        int fd;

        snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
                 (unsigned long)p + PAGE_SIZE);
        fd = open(path, O_RDWR);
        if (fd < 0)
                _exit(CANNOT);
        xmap(1, MAP_PRIVATE, fd);
        close(fd);
}

/* Everything that is carried over. */
static void with_harmless(void *arg) {
        char path[] = "/proc/self/exe";
        int fd = open(path, O_RDONLY), zero = open("/dev/zero", O_RDWR);

        if (fd < 0 || zero < 0)
                _exit(CANNOT);
        (void)mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
        xmap(1, MAP_PRIVATE, zero);
        xmap(1, MAP_SHARED, zero);
        xmap(1, MAP_SHARED | MAP_ANONYMOUS, -1);
        mlock(anon(1), PAGE_SIZE);
        madvise(anon(1), PAGE_SIZE, MADV_DONTFORK);
        xmap(1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE, -1);
        close(fd);
        close(zero);
}

static const struct {
        const char *name;
        void (*setup)(void *);
        const char *said; /* NULL: nothing */
} rows[] = {
        { "memfd", with_memfd, "fd/ was asked about map_files/" },
        { "sysv", with_sysv, "System V shared memory" },
        { "aio", with_aio, NULL },
        { "deleted", with_deleted, "fd/ was asked about map_files/" },
        { "replaced", with_replaced, "fd/ was asked about map_files/" },
        { "uffd", with_uffd, "watched by a userfaultfd" },
        { "seal", with_seal, "sealed memory" },
        { "pkey", with_pkey, "under memory protection key" },
        { "droppable", with_droppable, "droppable memory" },
        { "hugetlb", with_huge, NULL },
        { "ring", with_ring, "the ring buffer of a socket" },
        { "perf", with_perf, "the buffer of a performance counter" },
        { "io_uring", with_io_uring, "the rings of an io_uring instance" },
        { "private view", with_private_view, "a private mapping of shared anonymous memory" },
        { "harmless", with_harmless, NULL },
};

/* As spawn(), for children that may find that they cannot. */
static pid_t try_spawn(void (*setup)(void *), void *arg) {
        int ready[2], status;
        pid_t pid;
        char c;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(ready[0]);
                setup(arg);
                if (write(ready[1], "x", 1) == 1)
                        for (;;)
                                pause();
        }
        close(ready[1]);
        if (read(ready[0], &c, 1) == 1) {
                close(ready[0]);
                return pid;
        }
        close(ready[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == CANNOT);
        return 0;
}

static void test_look(void **state) {
        struct test_dir dir = test_dir_make();
        static struct saved s;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                pid_t pid = try_spawn(rows[i].setup, dir.path);
                const char *hint;
                size_t n;

                if (pid == 0) {
                        print_message("%s: not on this kernel\n", rows[i].name);
                        continue;
                }
                saved_begin(&s, pid);
                mem_look(s.tasks[0]);
                n = blockers_count(s.d.blockers);
                for (size_t j = 0; j < n; j++)
                        if (!rows[i].said || !strstr(blocker_message(s.d.blockers, j, &hint), rows[i].said))
                                fail_msg("%s: %s", rows[i].name, blocker_message(s.d.blockers, j, &hint));
                if (rows[i].said && n == 0)
                        fail_msg("%s: nothing was said", rows[i].name);
                saved_end(&s);
                reap(pid);
        }
        test_dir_remove(&dir);
}

/* Made between look and freeze: the dump fails and says why. */
static void test_late(void **state) {
        int go[2], done[2];
        static struct saved s;
        pid_t pid;
        char c = 'x';

        assert_int_equal(pipe(go) | pipe(done), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (read(go[0], &c, 1) == 1)
                        with_uffd(NULL);
                if (write(done[1], "x", 1) == 1)
                        for (;;)
                                pause();
        }
        saved_begin(&s, pid);
        mem_look(s.tasks[0]);
        assert_int_equal(blockers_count(s.d.blockers), 0);
        assert_int_equal(write(go[1], &c, 1), 1);
        assert_int_equal(read(done[0], &c, 1), 1);
        saved_freeze(&s);
        assert_int_equal(mem_collect(s.tasks[0], &s.err), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&s.err), "a userfaultfd"));
        saved_end(&s);
        reap(pid);
        for (int i = 0; i < 2; i++) {
                close(go[i]);
                close(done[i]);
        }
}

static char *toggled;

static void toggle(void *arg) {
        if (fork() == 0)
                _exit(0); /* so that it has run since */
        madvise(toggled, PAGE_SIZE, MADV_DONTDUMP);
}

/* A flag that changes between look and freeze while the areas stay the same. */
static void test_late_flag(void **state) {
        int go[2], done[2];
        static struct saved s;
        bool found = false;
        pid_t pid;
        char c = 'x';

        toggled = anon(3);
        assert_int_equal(mprotect(toggled, PAGE_SIZE, PROT_READ) |
                                 mprotect(toggled + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ),
                         0);
        toggled += PAGE_SIZE; /* an area of its own */
        assert_int_equal(pipe(go) | pipe(done), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (read(go[0], &c, 1) == 1)
                        toggle(NULL);
                if (write(done[1], "x", 1) == 1)
                        for (;;)
                                pause();
        }
        saved_begin(&s, pid);
        mem_look(s.tasks[0]);
        assert_int_equal(write(go[1], &c, 1), 1);
        assert_int_equal(read(done[0], &c, 1), 1);
        saved_freeze(&s);
        assert_ok(mem_collect(s.tasks[0], &s.err), &s.err);
        for (size_t i = 0; i < s.task[0].mem->mm->n_vmas; i++) {
                const Img__Vma *v = s.task[0].mem->mm->vmas[i];

                if (v->start == (uintptr_t)toggled) {
                        assert_int_equal(v->madv, 1ULL << MADV_DONTDUMP);
                        found = true;
                }
        }
        assert_true(found);
        saved_end(&s);
        reap(pid);
        munmap(toggled - PAGE_SIZE, 3 * PAGE_SIZE);
        for (int i = 0; i < 2; i++) {
                close(go[i]);
                close(done[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_look),
                cmocka_unit_test(test_late),
                cmocka_unit_test(test_late_flag),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
