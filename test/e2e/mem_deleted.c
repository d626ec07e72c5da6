/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 ignore=maps */
/* Mappings of deleted files that nobody has open: shared and private, of a file on disk and in /dev/shm, read-only, in
 * part, by two processes; and of a library that an upgrade has replaced. */
#include "e2e.h"

enum { N = 20 };

static struct gate ready, go, done;

static int make(const char *path, uint64_t seed) {
        int fd = SYS(open(path, O_RDWR | O_CREAT | O_EXCL, 0640));
        char page[PAGE];

        for (size_t i = 0; i < N; i += 2) {
                fill(page, PAGE, seed + i);
                CHECK(pwrite(fd, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE, "write: %m");
        }
        SYS(ftruncate(fd, N * PAGE));
        return fd;
}

static char *map(int fd, size_t pages, int prot, int flags, size_t first) {
        char *p = mmap(NULL, pages * PAGE, prot, flags, fd, (off_t)(first * PAGE));

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

static void check_pages(const char *p, size_t first, size_t n, uint64_t seed, const char *what) {
        for (size_t i = first; i < first + n; i++) {
                if (i % 2 == 0)
                        check_filled(p + (i - first) * PAGE, PAGE, seed + i, what);
                else
                        check_zero(p + (i - first) * PAGE, PAGE, what);
        }
}

/* "NAME (deleted)" is what is mapped there, and shared or not. */
static void check_maps(const void *p, const char *name, const char *perms) {
        struct vma v;
        char want[64];

        snprintf(want, sizeof(want), "%s (deleted)", name);
        CHECK(find_vma(p, &v), "nothing is mapped at %p", p);
        CHECK(strlen(v.path) >= strlen(want) && strcmp(v.path + strlen(v.path) - strlen(want), want) == 0,
              "%s is mapped as %s", want, v.path);
        CHECK(strcmp(v.perms, perms) == 0, "%s has %s", name, v.perms);
}

static void check_new_one(const char *path) {
        char buf[32] = "";
        int fd = SYS(open(path, O_RDONLY));

        CHECK(read(fd, buf, sizeof(buf)) == 8 && memcmp(buf, "upgraded", 8) == 0, "%s has become %s", path,
              buf);
        close(fd);
}

int main(int argc, char **argv) {
        const int rw = PROT_READ | PROT_WRITE;
        char shm_name[64], *shared, *part, *private, *read_only, *shm, *library;
        struct stat st;
        int fd, ro;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        fd = make("shared", 10);
        shared = map(fd, N, rw, MAP_SHARED, 0);
        part = map(fd, 4, rw, MAP_SHARED, 5);
        ro = SYS(open("shared", O_RDONLY));
        read_only = map(ro, 6, PROT_READ, MAP_SHARED, 0);
        close(ro);
        close(fd);
        SYS(unlink("shared"));
        fd = make("private", 50);
        private = map(fd, N, rw, MAP_PRIVATE, 0);
        fill(private + 3 * PAGE, PAGE, 77);
        close(fd);
        SYS(unlink("private"));
        snprintf(shm_name, sizeof(shm_name), "/dev/shm/e2e.%d.%lld", getpid(),
                 (long long)now_ns(CLOCK_REALTIME));
        fd = make(shm_name, 90);
        shm = map(fd, N, rw, MAP_SHARED, 0);
        close(fd);
        SYS(unlink(shm_name));
        /* A package manager writes the new one beside the old one and renames it. */
        fd = make("lib.so", 130);
        library = map(fd, N, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0);
        close(fd);
        fd = SYS(open("lib.so.new", O_WRONLY | O_CREAT, 0644));
        CHECK(write(fd, "upgraded", 8) == 8, "write: %m");
        close(fd);
        SYS(rename("lib.so.new", "lib.so"));
        kid = xfork();
        if (kid == 0) {
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_pages(shm, 0, N, 90, "the child's view");
                fill(shared + 6 * PAGE, PAGE, 200);
                fill(shm + PAGE, PAGE, 201);
                fill(private + PAGE, PAGE, 202);
                gate_open(&done, 1);
                _exit(3);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: shared[PAGE * 4] ^= 1; */
        /* break: mmap(shm, N * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        /* break: private[PAGE * 3] ^= 1; */
        /* break: close(open("shared", O_CREAT, 0600)); */
        check_maps(shared, "/shared", "rw-s");
        check_maps(read_only, "/shared", "r--s");
        check_maps(private, "/private", "rw-p");
        check_maps(shm, shm_name, "rw-s");
        /* Its name is another file's by now, so it is no longer shown quite as it was. */
        check_pages(shared, 0, N, 10, "shared");
        check_pages(part, 5, 4, 10, "a part of it");
        check_pages(read_only, 0, 6, 10, "read-only");
        check_pages(private, 0, 3, 50, "private");
        check_filled(private + 3 * PAGE, PAGE, 77, "private, changed");
        check_pages(library, 0, N, 130, "the library as it was");
        check_new_one("lib.so");
        CHECK(mprotect(read_only, PAGE, rw) < 0 && errno == EACCES,
              "a read-only mapping becomes writable: %m");
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 3);
        check_filled(shared + 6 * PAGE, PAGE, 200, "written by the child");
        check_filled(part + PAGE, PAGE, 200, "written by the child, seen in the part");
        check_filled(shm + PAGE, PAGE, 201, "written by the child in /dev/shm");
        check_zero(private + PAGE, PAGE, "private");
        CHECK(stat("shared", &st) < 0 && stat("private", &st) < 0 && stat(shm_name, &st) < 0,
              "a name is back");
        test_pass();
}
