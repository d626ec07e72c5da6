/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* All sixteen limits, soft below hard, in the root; others in a child; unlimited stays unlimited. */
#include "e2e.h"

#include <sys/resource.h>

#define N RLIM_NLIMITS

static struct gate ready, go;

static void get_all(struct rlimit all[N]) {
        for (int i = 0; i < (int)N; i++)
                CHECK(getrlimit((__rlimit_resource_t)i, &all[i]) == 0, "getrlimit(%d): %m", i);
}

/* Takes from what there is: only what needs no privilege. */
static void lower(int shift) {
        static const rlim_t soft[N] = {
                [RLIMIT_CPU] = 10000,       [RLIMIT_FSIZE] = 1ULL << 30, [RLIMIT_DATA] = 1ULL << 33,
                [RLIMIT_STACK] = 4 << 20,   [RLIMIT_CORE] = 1 << 20,     [RLIMIT_RSS] = 1ULL << 34,
                [RLIMIT_NPROC] = 3000,      [RLIMIT_NOFILE] = 300,       [RLIMIT_MEMLOCK] = 1 << 20,
                [RLIMIT_AS] = 1ULL << 36,   [RLIMIT_LOCKS] = 77,         [RLIMIT_SIGPENDING] = 500,
                [RLIMIT_MSGQUEUE] = 100000, [RLIMIT_NICE] = 0,           [RLIMIT_RTPRIO] = 0,
                [RLIMIT_RTTIME] = 5000000,
        };

        for (int i = 0; i < (int)N; i++) {
                struct rlimit rl;

                CHECK(getrlimit((__rlimit_resource_t)i, &rl) == 0, "getrlimit: %m");
                if (soft[i] == 0 || (i + shift) % 4 == 3)
                        continue; /* as it was */
                rl.rlim_cur = soft[i] - (rlim_t)shift < rl.rlim_max ? soft[i] - (rlim_t)shift : rl.rlim_max;
                if ((i + shift) % 4 == 0 && rl.rlim_max > rl.rlim_cur * 2)
                        rl.rlim_max = rl.rlim_cur * 2;
                if ((i + shift) % 4 == 1)
                        rl.rlim_max = rl.rlim_cur;
                CHECK(setrlimit((__rlimit_resource_t)i, &rl) == 0, "setrlimit(%d): %m", i);
        }
}

static void check_same(const struct rlimit was[N], const char *who) {
        struct rlimit now[N];

        get_all(now);
        for (int i = 0; i < (int)N; i++)
                CHECK(was[i].rlim_cur == now[i].rlim_cur && was[i].rlim_max == now[i].rlim_max,
                      "%s: limit %d was %llu/%llu, is %llu/%llu", who, i,
                      (unsigned long long)was[i].rlim_cur, (unsigned long long)was[i].rlim_max,
                      (unsigned long long)now[i].rlim_cur, (unsigned long long)now[i].rlim_max);
}

int main(int argc, char **argv) {
        struct rlimit was[N];
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        kid = xfork();
        if (kid == 0) {
                lower(1);
                get_all(was);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_same(was, "child");
                CHECK(dup2(1, (int)was[RLIMIT_NOFILE].rlim_cur) < 0 && errno == EBADF,
                      "the limit does not limit");
                _exit(5);
        }
        gate_pass(&ready, 1);
        lower(2);
        get_all(was);
        test_ready();
        test_wait();
        /* break: was[RLIMIT_CORE].rlim_cur++; */
        /* break: was[RLIMIT_RTTIME].rlim_max--; */
        /* break: was[RLIMIT_CPU].rlim_cur--; */
        check_same(was, "root");
        gate_open(&go, 1);
        xwait(kid, 5);
        was[RLIMIT_NOFILE].rlim_cur--;
        CHECK(setrlimit(RLIMIT_NOFILE, &was[RLIMIT_NOFILE]) == 0, "lower it again: %m");
        check_same(was, "root");
        test_pass();
}
