/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: ignore=ns.ipc */
/*
 * System V shared memory in an IPC namespace of its own: ids, keys, owners, modes, content, segments that nobody has
 * attached, removed ones, attachments that are parted, moved or read-only, how often each is attached, limits.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "e2e.h"

enum { PAGES = 64, SIZE = PAGES * PAGE, SPARSE = 512 << 20, BYTES = 100 };

static int plain, lone, gone, parted, holed, moved, read_only, sparse, small, foreign, reused;
static char *plain_at, *gone_at, *parted_at, *holed_at, *moved_at, *read_only_at, *sparse_at, *small_at;
static size_t stamp;

static void set_sysctl(const char *path, const char *value) {
        int fd = SYS(open(path, O_WRONLY));

        CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value), "write %s: %m", path);
        close(fd);
}

static void check_sysctl(const char *path, const char *want) {
        char text[64] = "";
        int fd = SYS(open(path, O_RDONLY));

        CHECK(read(fd, text, sizeof(text) - 1) > 0, "read %s: %m", path);
        close(fd);
        CHECK(strncmp(text, want, strlen(want)) == 0 && text[strlen(want)] == '\n', "%s is %s", path, text);
}

static int make(key_t key, size_t size, int mode) {
        return SYS(shmget(key, size, IPC_CREAT | IPC_EXCL | mode));
}

static void *attach(int id, int flags) {
        return SYS(shmat(id, NULL, flags));
}

static void check_count(int id, unsigned long want, const char *what) {
        struct shmid_ds ds;

        SYS(shmctl(id, IPC_STAT, &ds));
        CHECK(ds.shm_nattch == want, "%s is attached %lu times, not %lu", what, (unsigned long)ds.shm_nattch,
              want);
}

static void set_up_segments(void) {
        struct shmid_ds ds;

        /* So that ids are none that a new namespace would give out by itself. */
        for (int i = 0; i < 5; i++)
                SYS(shmctl(make(IPC_PRIVATE, PAGE, 0600), IPC_RMID, NULL));
        plain = make(0x1234, SIZE, 0640);
        plain_at = attach(plain, 0);
        test_fill(plain_at, SIZE, 1);

        lone = make(0x77654321, SIZE, 0600);
        void *at = attach(lone, 0);
        test_fill(at, SIZE, 2);
        SYS(shmdt(at));
        SYS(shmctl(lone, IPC_STAT, &ds));
        ds.shm_perm.uid = 1001;
        ds.shm_perm.gid = 1002;
        ds.shm_perm.mode = 0620;
        SYS(shmctl(lone, IPC_SET, &ds));
        SYS(shmctl(lone, SHM_LOCK, NULL));

        gone = make(0x99, SIZE, 0600);
        gone_at = attach(gone, 0);
        test_fill(gone_at, SIZE, 3);
        SYS(shmctl(gone, IPC_RMID, NULL));
        reused = make(0x99, PAGE, 0600);

        sparse = make(IPC_PRIVATE, SPARSE, 0600);
        sparse_at = attach(sparse, 0);
        test_fill(sparse_at + SPARSE - PAGE, PAGE, 4);
        small = make(IPC_PRIVATE, BYTES, 0600);
        small_at = attach(small, 0);
        test_fill(small_at, BYTES, 5);
        test_fill(small_at + BYTES, PAGE - BYTES, 10);
}

static void set_up_shapes(void) {
        parted = make(IPC_PRIVATE, SIZE, 0600);
        parted_at = attach(parted, 0);
        test_fill(parted_at, SIZE, 6);
        SYS(mprotect(parted_at + 4 * PAGE, 4 * PAGE, PROT_READ));
        SYS(mprotect(parted_at + 8 * PAGE, 4 * PAGE, PROT_NONE));
        SYS(mprotect(parted_at + 8 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));

        holed = make(IPC_PRIVATE, SIZE, 0600);
        holed_at = attach(holed, 0);
        test_fill(holed_at, SIZE, 7);
        SYS(munmap(holed_at, PAGE));
        SYS(munmap(holed_at + 10 * PAGE, 2 * PAGE));
        /* The first hole is somebody else's now. */
        CHECK(mmap(holed_at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
                      holed_at,
              "mmap: %m");

        moved = make(IPC_PRIVATE, SIZE, 0600);
        moved_at = attach(moved, 0);
        test_fill(moved_at, SIZE, 8);
        char *to = SYS(mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        CHECK(mremap(moved_at + PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to,
              "mremap: %m");

        read_only = make(IPC_PRIVATE, PAGE, 0400);
        char *at = attach(read_only, 0);
        test_fill(at, PAGE, 9);
        SYS(shmdt(at));
        read_only_at = attach(read_only, SHM_RDONLY);
        stamp = (size_t)(to - moved_at);
}

/* A segment whose creator was somebody else. */
static void set_up_foreign(void) {
        int status;
        pid_t pid = SYS(fork());

        if (pid == 0) {
                SYS(setgid(4321));
                SYS(setuid(1234));
                _exit(shmget(0x4242, PAGE, IPC_CREAT | 0666) >= 0 ? 0 : 1);
        }
        SYS(waitpid(pid, &status, 0));
        CHECK(status == 0, "the child: %d", status);
        foreign = SYS(shmget(0x4242, 0, 0));
}

static void check_segments(void) {
        struct shmid_ds ds;

        CHECK_EQ(shmget(0x1234, 0, 0), plain);
        test_verify(plain_at, SIZE, 1, "the attached one");
        CHECK_EQ(shmget(0x77654321, 0, 0), lone);
        SYS(shmctl(lone, IPC_STAT, &ds));
        CHECK_EQ(ds.shm_perm.uid, 1001);
        CHECK_EQ(ds.shm_perm.gid, 1002);
        CHECK_EQ(ds.shm_perm.cuid, 0);
        CHECK_EQ(ds.shm_perm.mode, 0620 | SHM_LOCKED);
        CHECK_EQ(ds.shm_segsz, SIZE);
        CHECK_EQ(ds.shm_nattch, 0);
        void *at = attach(lone, SHM_RDONLY);
        test_verify(at, SIZE, 2, "the one that nobody has attached");
        SYS(shmdt(at));
        CHECK_EQ(shmget(0x99, 0, 0), reused);
        SYS(shmctl(gone, IPC_STAT, &ds));
        CHECK_EQ(ds.shm_perm.mode, 0600 | SHM_DEST);
        test_verify(gone_at, SIZE, 3, "the removed one");
        test_verify(sparse_at + SPARSE - PAGE, PAGE, 4, "the sparse one");
        CHECK_EQ(sparse_at[0] | sparse_at[SPARSE / 2], 0);
        test_verify(small_at, BYTES, 5, "the small one");
        test_verify(small_at + BYTES, PAGE - BYTES, 10, "what is behind the end of the small one");
        SYS(shmctl(small, IPC_STAT, &ds));
        CHECK_EQ(ds.shm_segsz, BYTES);
        SYS(shmctl(foreign, IPC_STAT, &ds));
        CHECK_EQ(ds.shm_perm.cuid, 1234);
        CHECK_EQ(ds.shm_perm.cgid, 4321);
        CHECK_EQ(ds.shm_perm.uid, 1234);
        CHECK_EQ(ds.shm_perm.mode, 0666);
        CHECK_EQ(shmget(0x4242, 0, 0), foreign);
}

static void check_shapes(void) {
        char *to = moved_at + stamp;

        check_count(parted, 4, "the parted one");
        test_verify(parted_at, SIZE, 6, "the parted one");
        check_count(holed, 2, "the one with holes");
        CHECK_EQ(holed_at[0], 0);
        check_count(moved, 3, "the moved one");
        check_count(read_only, 1, "the read-only one");
        test_verify(read_only_at, PAGE, 9, "the read-only one");
        CHECK(mprotect(read_only_at, PAGE, PROT_READ | PROT_WRITE) < 0,
              "the read-only one can be made writable");
        /* One memory, wherever it is. */
        char *whole = attach(moved, 0);
        test_verify(whole, SIZE, 8, "the moved one");
        CHECK(memcmp(whole + PAGE, to, 8 * PAGE) == 0 &&
                      memcmp(whole + 9 * PAGE, moved_at + 9 * PAGE, PAGE) == 0,
              "the parts are not where they belong");
        whole[PAGE] ^= 1;
        CHECK_EQ(to[0], whole[PAGE]);
        whole[PAGE] ^= 1;
        SYS(shmdt(whole));
}

/* Detaching works as it would have: all areas of one shmat(2) at once. */
static void detach_all(void) {
        SYS(shmdt(parted_at));
        check_count(parted, 0, "the parted one");
        SYS(shmdt(gone_at));
        CHECK(shmctl(gone, IPC_STAT, &(struct shmid_ds){ 0 }) < 0, "the removed one is still there");
        SYS(shmdt(plain_at));
        check_count(plain, 0, "the attached one");
        SYS(shmdt(moved_at));
        check_count(moved, 1, "the moved one");
        SYS(shmdt(moved_at + stamp - PAGE));
        check_count(moved, 0, "the moved one");
}

static int child(void *arg __attribute__((unused))) {
        test_child_ready();
        test_wait();
        test_verify(plain_at, SIZE, 1, "the child's");
        plain_at[0] ^= 0x55;
        return 0;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (unshare(CLONE_NEWIPC) < 0)
                test_skip("no IPC namespaces: %m");
        set_up_segments();
        set_up_shapes();
        set_up_foreign();
        set_sysctl("/proc/sys/kernel/shmmax", "536870913");
        set_sysctl("/proc/sys/kernel/shmmni", "3");
        test_fork(child, NULL);
        test_wait_children_ready();
        test_ready();
        test_wait();

        check_sysctl("/proc/sys/kernel/shmmax", "536870913");
        check_sysctl("/proc/sys/kernel/shmmni", "3");
        check_count(plain, 2, "the attached one");
        check_segments();
        char first = plain_at[0];
        test_stop_children();
        CHECK_EQ(plain_at[0], first ^ 0x55);
        check_shapes();
        detach_all();
        test_pass();
}
