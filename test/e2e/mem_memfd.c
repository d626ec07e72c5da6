/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 */
/* Mappings of memfds: shared and private, whole and in part, read-only by a seal, twice in a process; shared with
 * children; most are closed. One process was executed from a memfd. */
#include "e2e.h"
#include "e2e_maps.h"

enum { N = 40 };

static struct maps before;
static struct gate ready, go, done;

static char *map(int fd, size_t pages, int prot, int flags, size_t first) {
        char *p = mmap(NULL, pages * PAGE, prot, flags, fd, (off_t)(first * PAGE));

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

static int make(const char *name, uint64_t seed) {
        int fd = SYS(memfd_create(name, MFD_ALLOW_SEALING));
        char page[PAGE];

        for (size_t i = 0; i < N; i += 3) {
                fill(page, PAGE, seed + i);
                CHECK(pwrite(fd, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE, "write: %m");
        }
        SYS(ftruncate(fd, N * PAGE));
        return fd;
}

static void check_pages(const char *p, size_t first, size_t n, uint64_t seed, const char *what) {
        for (size_t i = first; i < first + n; i++) {
                if (i % 3 == 0)
                        check_filled(p + (i - first) * PAGE, PAGE, seed + i, what);
                else
                        check_zero(p + (i - first) * PAGE, PAGE, what);
        }
}

/* Executed from a memfd, which has no name to find it by. */
static void start_executed(pid_t *ret) {
        char *const args[] = { (char *)"cat", NULL }, *const env[] = { NULL };
        int in[2], self, fd;
        char buf[65536];
        ssize_t n;

        SYS(pipe(in));
        *ret = xfork();
        if (*ret > 0) {
                close(in[0]);
                /* Its end of file ends it; nobody writes to it. */
                CHECK(fcntl(in[1], F_DUPFD_CLOEXEC, 50) == 50, "dup: %m");
                close(in[1]);
                return;
        }
        self = SYS(open("/bin/cat", O_RDONLY));
        fd = SYS(memfd_create("program", MFD_CLOEXEC));
        while ((n = read(self, buf, sizeof(buf))) > 0)
                CHECK(write(fd, buf, (size_t)n) == n, "write: %m");
        close(self);
        close(in[1]);
        SYS(dup2(in[0], 0));
        close(in[0]);
        snprintf(buf, sizeof(buf), "/proc/self/fd/%d", fd);
        self = SYS(open(buf, O_RDONLY | O_CLOEXEC));
        close(fd);
        fexecve(self, args, env);
        CHECK(false, "fexecve: %m");
}

static bool is_executed(pid_t pid) {
        char path[32], link[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/exe", pid);
        n = readlink(path, link, sizeof(link) - 1);
        return n > 0 && strncmp(link, "/memfd:program (deleted)", (size_t)n) == 0;
}

int main(int argc, char **argv) {
        const int rw = PROT_READ | PROT_WRITE;
        char *shared, *part, *private, *sealed, *twice, *none;
        pid_t kid, executed;
        int fd, fd2;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        start_executed(&executed);
        fd = make("shared", 100);
        shared = map(fd, N, rw, MAP_SHARED, 0);
        part = map(fd, 5, PROT_READ, MAP_SHARED, 7);
        private = map(fd, N, rw, MAP_PRIVATE, 0);
        fill(private + 4 * PAGE, PAGE, 900);
        none = map(fd, 3, PROT_NONE, MAP_SHARED, 0);
        close(fd);
        fd = make("sealed", 300);
        SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
        sealed = mmap(NULL, N * PAGE, PROT_READ, MAP_SHARED, fd, 0);
        if (sealed == MAP_FAILED) /* before Linux 6.7 */
                sealed = map(fd, N, PROT_READ, MAP_PRIVATE, 0);
        close(fd);
        fd2 = make("kept", 500);
        twice = map(fd2, N, rw, MAP_SHARED, 0);
        kid = xfork();
        if (kid == 0) {
                CHECK(munmap(shared, 10 * PAGE) == 0, "munmap: %m");
                fill(private + 5 * PAGE, PAGE, 901);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_pages(shared + 10 * PAGE, 10, N - 10, 100, "the child's part");
                check_filled(private + 4 * PAGE, PAGE, 900, "private, from before the fork");
                check_filled(private + 5 * PAGE, PAGE, 901, "private, the child's own");
                fill(shared + 11 * PAGE, PAGE, 950);
                fill(twice, PAGE, 951);
                gate_open(&done, 1);
                _exit(6);
        }
        gate_pass(&ready, 1);
        WAIT_FOR(is_executed(executed) && proc_state(executed) == 'S', "cat");
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: shared[PAGE * 3] ^= 1; */
        /* break: private[PAGE * 4] ^= 1; */
        /* break: mmap(shared, N * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        /* break: pwrite(fd2, "x", 1, 0); */
        maps_check_same(&before);
        check_pages(shared, 0, N, 100, "shared");
        check_pages(part, 7, 5, 100, "a part, read-only");
        check_pages(sealed, 0, N, 300, "sealed");
        check_pages(twice, 0, N, 500, "kept open");
        check_pages(private, 0, 4, 100, "private");
        check_filled(private + 4 * PAGE, PAGE, 900, "private, changed");
        check_zero(private + 5 * PAGE, PAGE, "private, changed by the child only");
        CHECK(!can_access(none, false), "PROT_NONE");
        CHECK(mprotect(sealed, PAGE, rw) < 0 || sealed[0] != 0, "a sealed mapping becomes writable");
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 6);
        check_filled(shared + 11 * PAGE, PAGE, 950, "written by the child");
        check_filled(part + 4 * PAGE, PAGE, 950, "written by the child, the other view");
        {
                char page[PAGE];

                CHECK(pread(fd2, page, PAGE, 0) == (ssize_t)PAGE, "pread: %m");
                check_filled(page, PAGE, 951, "written by the child, read by the descriptor");
                fill(page, PAGE, 960);
                CHECK(pwrite(fd2, page, PAGE, 7 * PAGE) == (ssize_t)PAGE, "pwrite: %m");
                check_filled(twice + 7 * PAGE, PAGE, 960, "written by the descriptor");
        }
        CHECK(is_executed(executed), "what it was executed from");
        close(50);
        xwait(executed, 0);
        test_pass();
}
