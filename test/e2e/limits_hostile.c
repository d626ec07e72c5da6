/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Processes under limits that leave them nothing: no file size, no descriptor (and fewer than are open), no
 * process, no address space, hardly a stack, no data, no locked memory, no queued signal. Soft and hard. */
#include "e2e.h"

#include <sys/resource.h>

/* What a dump needs in the address space of the target for a moment. */
enum { AGENT_ROOM = 256 * 1024 };

enum { FSIZE, NOFILE_USED, NOFILE_ZERO, NPROC, AS, STACK, DATA, MEMLOCK, SIGPENDING, ALL, N_KIDS };

static struct gate ready, go;

static void limit(__rlimit_resource_t what, rlim_t value) {
        struct rlimit rl = { value, value };

        CHECK(setrlimit(what, &rl) == 0, "setrlimit(%d, %llu): %m", (int)what, (unsigned long long)value);
}

static void check_limit(__rlimit_resource_t what, rlim_t value) {
        struct rlimit rl;

        CHECK(getrlimit(what, &rl) == 0 && rl.rlim_cur == value && rl.rlim_max == value,
              "limit %d is %llu/%llu, not %llu", (int)what, (unsigned long long)rl.rlim_cur,
              (unsigned long long)rl.rlim_max, (unsigned long long)value);
}

/* Sleeps at the gate; messages and gates stay usable as far as the limits allow. */
static void sleep_here(void) {
        gate_open(&ready, 1);
        gate_pass(&go, 1);
}

static rlim_t address_space(void) {
        return status_u64(getpid(), "VmSize", 10) * 1024;
}

static void run_fsize(void) {
        int fd = open("some-file", O_RDWR | O_CREAT, 0644);

        CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10, "write: %m");
        signal(SIGXFSZ, SIG_IGN);
        limit(RLIMIT_FSIZE, 0);
        sleep_here();
        check_limit(RLIMIT_FSIZE, 0);
        CHECK(write(fd, "x", 1) < 0 && errno == EFBIG, "it can write");
}

static void run_nofile(bool zero) {
        /* Nothing but 0, 1 and 2, which are the gates and the output. */
        CHECK(dup2(go.r, 0) == 0 && dup2(ready.w, 2) == 2, "dup2: %m");
        CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0, "close_range: %m");
        go.r = 0;
        ready.w = 2;
        limit(RLIMIT_NOFILE, zero ? 0 : 3);
        sleep_here();
        check_limit(RLIMIT_NOFILE, zero ? 0 : 3);
        CHECK(dup(0) < 0 && errno == EMFILE, "a descriptor is free");
        CHECK(close(2) == 0, "close: %m");
        CHECK(zero ? dup(0) < 0 : dup(0) == 2, "dup: %m");
}

static void run_nproc(void) {
        CHECK(setresgid(54321, 54321, 54321) == 0, "setresgid: %m");
        limit(RLIMIT_NPROC, 1);
        CHECK(setresuid(54321, 54321, 54321) == 0, "setresuid: %m");
        CHECK(fork() < 0 && errno == EAGAIN, "it can fork");
        sleep_here();
        check_limit(RLIMIT_NPROC, 1);
        CHECK(getuid() == 54321, "uid %d", (int)getuid());
        CHECK(fork() < 0 && errno == EAGAIN, "it can fork");
}

static void run_as(void) {
        char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        fill(p, 8 * PAGE, 1);
        limit(RLIMIT_AS, address_space() + AGENT_ROOM);
        CHECK(mmap(NULL, 2 * AGENT_ROOM, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED,
              "it can map");
        sleep_here();
        CHECK(mmap(NULL, 2 * AGENT_ROOM, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
                      errno == ENOMEM,
              "it can map");
        check_limit(RLIMIT_AS, address_space() + AGENT_ROOM);
        check_filled(p, 8 * PAGE, 1, "memory");
        CHECK(munmap(p, 8 * PAGE) == 0, "munmap: %m");
}

static void __attribute__((noinline)) run_stack(void) {
        uint64_t big[65536];

        fill(big, sizeof(big), 9);
        limit(RLIMIT_STACK, 64 << 10); /* there is eight times as much already */
        sleep_here();
        check_limit(RLIMIT_STACK, 64 << 10);
        check_filled(big, sizeof(big), 9, "stack");
}

static void run_data(void) {
        char *p = sbrk(1 << 20);

        CHECK(p != (char *)-1, "sbrk: %m");
        fill(p, 1 << 20, 10);
        limit(RLIMIT_DATA, 4096);
        sleep_here();
        check_limit(RLIMIT_DATA, 4096);
        check_filled(p, 1 << 20, 10, "heap");
        CHECK(sbrk(4096) == (void *)-1 && errno == ENOMEM, "the heap can grow");
}

static void run_memlock(void) {
        char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED && mlock(p, 4 * PAGE) == 0, "mlock: %m");
        limit(RLIMIT_MEMLOCK, 0);
        CHECK(setresuid(54322, 54322, 54322) == 0, "setresuid: %m"); /* gives up CAP_IPC_LOCK */
        sleep_here();
        check_limit(RLIMIT_MEMLOCK, 0);
        CHECK(mlock(p + PAGE, PAGE) < 0, "it can lock");
        CHECK(status_u64(getpid(), "VmLck", 10) == 16, "locked: %d KiB",
              (int)status_u64(getpid(), "VmLck", 10));
}

static void run_sigpending(void) {
        sigset_t all;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 5 }) == 0, "sigqueue: %m");
        limit(RLIMIT_SIGPENDING, 0);
        CHECK(setresuid(54323, 54323, 54323) == 0, "setresuid: %m");
        sleep_here();
        check_limit(RLIMIT_SIGPENDING, 0);
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 6 }) < 0 && errno == EAGAIN,
              "it can queue");
        CHECK(status_u64(getpid(), "ShdPnd", 16) & 1ULL << SIGRTMIN, "the pending signal is lost");
}

static void run_all(void) {
        uint64_t as;

        CHECK(dup2(go.r, 0) == 0 && dup2(ready.w, 2) == 2 && syscall(SYS_close_range, 3, ~0U, 0) == 0,
              "dup2: %m");
        go.r = 0;
        ready.w = 2;
        CHECK(setresgid(54324, 54324, 54324) == 0, "setresgid: %m");
        limit(RLIMIT_CORE, 0);
        limit(RLIMIT_FSIZE, 0);
        limit(RLIMIT_NPROC, 0);
        limit(RLIMIT_MEMLOCK, 0);
        limit(RLIMIT_SIGPENDING, 0);
        limit(RLIMIT_MSGQUEUE, 0);
        limit(RLIMIT_STACK, PAGE);
        limit(RLIMIT_DATA, 0);
        as = address_space() + AGENT_ROOM;
        limit(RLIMIT_AS, as);
        limit(RLIMIT_NOFILE, 0);
        CHECK(setresuid(54324, 54324, 54324) == 0, "setresuid: %m");
        sleep_here();
        check_limit(RLIMIT_NOFILE, 0);
        check_limit(RLIMIT_AS, as);
        check_limit(RLIMIT_STACK, PAGE);
        check_limit(RLIMIT_NPROC, 0);
        CHECK(getuid() == 54324, "uid %d", (int)getuid());
}

static void run(int which) {
        switch (which) {
        case FSIZE:
                run_fsize();
                break;
        case NOFILE_USED:
                run_nofile(false);
                break;
        case NOFILE_ZERO:
                run_nofile(true);
                break;
        case NPROC:
                run_nproc();
                break;
        case AS:
                run_as();
                break;
        case STACK:
                run_stack();
                break;
        case DATA:
                run_data();
                break;
        case MEMLOCK:
                run_memlock();
                break;
        case SIGPENDING:
                run_sigpending();
                break;
        default:
                run_all();
        }
        _exit(20 + which);
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        gate_pass(&ready, N_KIDS);
        test_ready();
        test_wait();
        /* break: struct rlimit rl = { PAGE, PAGE }; prlimit(kids[AS], RLIMIT_AS, &rl, NULL); */
        /* break: struct rlimit rl = { 1, 1 }; prlimit(kids[NOFILE_USED], RLIMIT_NOFILE, &rl, NULL); */
        /* break: struct rlimit rl = { 1 << 30, 1 << 30 }; prlimit(kids[STACK], RLIMIT_DATA, &rl, NULL); kill(kids[STACK], 9); */
        gate_open(&go, N_KIDS);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 20 + i);
        test_pass();
}
