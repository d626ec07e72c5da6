/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* File mappings: private with and without changed pages, beyond the end of the file, shared between processes,
 * read-only ones that may and may not become writable; the descriptors are closed. */
#include "e2e.h"
#include "e2e_maps.h"

#define N 16

static struct maps before;

static char *map(int fd, size_t pages, int prot, int flags, size_t first) {
        char *p = mmap(NULL, pages * PAGE, prot, flags, fd, (off_t)(first * PAGE));

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

int main(int argc, char **argv) {
        static char data[N * PAGE], page[PAGE];
        const int rw = PROT_READ | PROT_WRITE;
        char name[64], shared_name[64], *clean, *dirty, *past, *shared, *part, *ro_rw, *ro, *prot_none;
        struct gate ready, go;
        pid_t kid;
        int fd, shared_fd, ro_fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        fill(data, sizeof(data), 1);
        fd = make_file(name, "private", data, sizeof(data));
        fill(data, sizeof(data), 2);
        shared_fd = make_file(shared_name, "shared", data, sizeof(data));
        ro_fd = open(shared_name, O_RDONLY);
        CHECK(ro_fd >= 0, "open: %m");

        clean = map(fd, N, rw, MAP_PRIVATE, 0);
        dirty = map(fd, N - 2, rw, MAP_PRIVATE, 2);
        for (size_t i = 0; i < N - 2; i += 2)
                fill(dirty + i * PAGE, PAGE, 50 + i);
        past = map(fd, 4, PROT_READ, MAP_PRIVATE, N - 2);
        prot_none = map(fd, 2, rw, MAP_PRIVATE, 1);
        fill(prot_none, 2 * PAGE, 40);
        CHECK(mprotect(prot_none, 2 * PAGE, PROT_NONE) == 0, "mprotect: %m");
        shared = map(shared_fd, N, rw, MAP_SHARED, 0);
        part = map(shared_fd, 4, rw, MAP_SHARED, 3);
        ro_rw = map(shared_fd, 2, PROT_READ, MAP_SHARED, 0);
        ro = map(ro_fd, 2, PROT_READ, MAP_SHARED, 0);
        close(ro_fd);
        close(fd);
        close(shared_fd);
        fill(shared + 5 * PAGE, PAGE, 60);

        kid = xfork();
        if (kid == 0) {
                fill(dirty, PAGE, 90); /* its own copy */
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_filled(dirty, PAGE, 90, "the child's private page");
                check_filled(shared + 7 * PAGE, PAGE, 61, "what the parent wrote after the restore");
                fill(shared + 8 * PAGE, PAGE, 62);
                _exit(9);
        }
        gate_pass(&ready, 1);
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: dirty[PAGE * 2 + 8]++; */
        /* break: clean[PAGE * 3]++; */
        /* break: mmap(shared, N * PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        /* break: truncate(shared_name, PAGE); */
        maps_check_same(&before);
        for (size_t i = 0; i < N - 2; i += 2)
                check_filled(dirty + i * PAGE, PAGE, 50 + i, "changed page");
        fill(data, sizeof(data), 1);
        CHECK(memcmp(clean, data, sizeof(data)) == 0, "unchanged pages");
        for (size_t i = 1; i < N - 2; i += 2)
                CHECK(memcmp(dirty + i * PAGE, data + (i + 2) * PAGE, PAGE) == 0, "unchanged page %zu", i);
        CHECK(memcmp(past, data + (N - 2) * PAGE, 2 * PAGE) == 0, "pages at the end");
        CHECK(!can_access(past + 2 * PAGE, false), "a page beyond the end of the file");
        CHECK(!can_access(prot_none, false), "PROT_NONE can be read");
        CHECK(mprotect(prot_none, 2 * PAGE, PROT_READ) == 0, "mprotect: %m");
        check_filled(prot_none, 2 * PAGE, 40, "behind PROT_NONE");

        /* The private copies did not reach the file; the shared writes did, and go on doing so. */
        CHECK((fd = open(name, O_RDONLY)) >= 0, "open %s: %m", name);
        CHECK(pread(fd, page, PAGE, 2 * (off_t)PAGE) == (ssize_t)PAGE &&
                      memcmp(page, data + 2 * PAGE, PAGE) == 0,
              "the file has changed");
        close(fd);
        check_filled(part + 2 * PAGE, PAGE, 60, "written before the dump");
        fill(part + 4 * PAGE - PAGE, PAGE, 63);
        check_filled(shared + 6 * PAGE, PAGE, 63, "the same page elsewhere");
        fill(shared + 7 * PAGE, PAGE, 61);
        gate_open(&go, 1);
        xwait(kid, 9);
        check_filled(shared + 8 * PAGE, PAGE, 62, "what the child wrote");
        CHECK((fd = open(shared_name, O_RDONLY)) >= 0, "open %s: %m", shared_name);
        CHECK(pread(fd, page, PAGE, 7 * (off_t)PAGE) == (ssize_t)PAGE, "pread: %m");
        check_filled(page, PAGE, 61, "the file itself");
        CHECK(mprotect(ro_rw, PAGE, rw) == 0, "a mapping of a writable descriptor may become writable: %m");
        CHECK(mprotect(ro, PAGE, rw) < 0 && errno == EACCES, "a mapping of a read-only one may not");
        test_pass();
}
