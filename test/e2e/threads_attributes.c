/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=120 */
/* Many threads, each with what only it can be asked for: few of them like another, so that none must answer for the wrong one. */
#include "e2e_crowd.h"

#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdint.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { N_THREADS = 300, STACK = 16384, GROUPS = 3 };

struct state {
        char comm[16];
        uint64_t address, slack;
        int pdeath, securebits, personality, mce, tsc, policy, speculation[3];
        stack_t ss;
        /* What /proc tells of each. */
        struct {
                uint64_t pending, blocked;
                uid_t uids[3];
                gid_t gids[3], groups[GROUPS];
                int nr_groups, no_new_privs, padding; /* all of it can be compared */
                struct __user_cap_data_struct caps[2];
        } open;
};

static pid_t child; /* of one of the threads */
static struct state before[N_THREADS];
static char stacks[N_THREADS][STACK];

static bool same_state(const struct state *a, const struct state *b) {
        return strcmp(a->comm, b->comm) == 0 && a->address == b->address && a->slack == b->slack &&
               a->pdeath == b->pdeath && a->securebits == b->securebits &&
               a->personality == b->personality && a->mce == b->mce && a->tsc == b->tsc &&
               a->policy == b->policy &&
               memcmp(a->speculation, b->speculation, sizeof(a->speculation)) == 0 &&
               a->ss.ss_sp == b->ss.ss_sp && a->ss.ss_size == b->ss.ss_size &&
               a->ss.ss_flags == b->ss.ss_flags && memcmp(&a->open, &b->open, sizeof(a->open)) == 0;
}

/* The thread's own system calls: those of the library change all threads. */
static void read_open(struct state *s) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        gid_t groups[64] = { 0 };

        CHECK(syscall(SYS_rt_sigpending, &s->open.pending, 8) == 0, "sigpending");
        CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &s->open.blocked, 8) == 0, "sigprocmask");
        CHECK(getresuid(&s->open.uids[0], &s->open.uids[1], &s->open.uids[2]) == 0 &&
                      getresgid(&s->open.gids[0], &s->open.gids[1], &s->open.gids[2]) == 0,
              "users and groups");
        s->open.nr_groups = getgroups(64, groups);
        memcpy(s->open.groups, groups, sizeof(s->open.groups));
        s->open.no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
        CHECK(syscall(SYS_capget, &head, s->open.caps) == 0, "capget");
}

/* By system calls only: the TSC may be forbidden. */
static void read_state(struct state *s) {
        memset(s, 0, sizeof(*s));
        CHECK(prctl(PR_GET_NAME, s->comm, 0, 0, 0) == 0, "PR_GET_NAME");
        CHECK(prctl(PR_GET_TID_ADDRESS, &s->address, 0, 0, 0) == 0, "PR_GET_TID_ADDRESS");
        s->slack = (uint64_t)syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
        CHECK(prctl(PR_GET_PDEATHSIG, &s->pdeath, 0, 0, 0) == 0, "PR_GET_PDEATHSIG");
        s->securebits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
        s->personality = personality(0xffffffff);
        s->mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
        CHECK(prctl(PR_GET_TSC, &s->tsc, 0, 0, 0) == 0, "PR_GET_TSC");
        if (syscall(SYS_get_mempolicy, &s->policy, NULL, 0, 0, 0) < 0)
                s->policy = -1;
        for (int i = 0; i < 3; i++)
                s->speculation[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
        CHECK(sigaltstack(NULL, &s->ss) == 0, "sigaltstack");
        read_open(s);
}

/* A signal that came and is blocked: another with a value, and none. */
static void set_signals(int i) {
        uint64_t mask = 1ULL << (SIGUSR1 - 1) | 1ULL << (SIGRTMIN + i % 5 - 1);
        siginfo_t si = { .si_signo = SIGRTMIN + i % 5, .si_code = SI_QUEUE, .si_value.sival_int = i };

        if (i % 4 == 0)
                return;
        CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, 8) == 0, "sigprocmask");
        if (i % 4 == 1)
                CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0, "tgkill");
        if (i % 4 == 2)
                CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), si.si_signo, &si) == 0,
                      "rt_tgsigqueueinfo");
}

static void check_signals(int i) {
        uint64_t mask = 1ULL << (SIGRTMIN + i % 5 - 1);
        struct timespec now = { 0 };
        siginfo_t si;

        if (i % 4 == 2)
                CHECK(syscall(SYS_rt_sigtimedwait, &mask, &si, &now, 8) == SIGRTMIN + i % 5 &&
                              si.si_code == SI_QUEUE && si.si_value.sival_int == i,
                      "thread %d: the signal that waited for it", i);
}

/* Credentials are a thread's own. */
static void set_creds(int i) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2];
        gid_t groups[GROUPS] = { 7, 8, 1000 + (gid_t)i };

        if (i % 12 == 1)
                CHECK(syscall(SYS_setgroups, GROUPS, groups) == 0, "setgroups");
        if (i % 12 == 3)
                CHECK(syscall(SYS_setresgid, -1, 1 + i, -1) == 0, "setresgid");
        if (i % 12 == 5)
                CHECK(syscall(SYS_setresuid, -1, -1, 1 + i / 100) == 0, "setresuid");
        if (i % 12 == 7) {
                CHECK(syscall(SYS_capget, &head, caps) == 0, "capget");
                caps[0].effective &= ~(1U << (i % 20 == 7 ? CAP_CHOWN : CAP_FOWNER));
                CHECK(syscall(SYS_capset, &head, caps) == 0, "capset");
        }
        if (i % 12 == 9)
                CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
}

static void set_stack(int i) {
        stack_t ss = { .ss_sp = stacks[i], .ss_size = STACK - (size_t)(i % 7) * 16 };

        if (i % 3 == 0)
                return;
        if (i % 3 == 2)
                ss.ss_flags = (int)SS_AUTODISARM;
        CHECK(sigaltstack(&ss, NULL) == 0, "sigaltstack");
}

/* Every thread for itself, or one of a few that are the same. */
static void set_state(int i) {
        char comm[16];

        snprintf(comm, sizeof(comm), "thread %u", (unsigned char)(i / 2));
        CHECK(prctl(PR_SET_NAME, comm, 0, 0, 0) == 0, "PR_SET_NAME");
        set_stack(i);
        set_creds(i);
        set_signals(i);
        if (i % 10 == 1)
                /* Signals that nobody notices: the parent of what is restored is ckpt, which ends. */
                CHECK(prctl(PR_SET_PDEATHSIG, i % 20 == 1 ? SIGURG : SIGWINCH, 0, 0, 0) == 0,
                      "PR_SET_PDEATHSIG");
        if (i % 10 == 2)
                CHECK(prctl(PR_SET_TIMERSLACK, 60000 + (i / 100), 0, 0, 0) == 0, "PR_SET_TIMERSLACK");
        if (i % 10 == 3)
                CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "PR_SET_KEEPCAPS");
        if (i % 10 == 4)
                CHECK(personality((unsigned int)personality(0xffffffff) ^ ADDR_NO_RANDOMIZE) >= 0,
                      "personality");
        if (i % 10 == 5)
                CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, i % 20 == 5 ? PR_MCE_KILL_EARLY : PR_MCE_KILL_LATE,
                            0, 0) == 0,
                      "PR_MCE_KILL");
        if (i % 10 == 6)
                CHECK(syscall(SYS_set_mempolicy, i % 20 == 6 ? MPOL_PREFERRED : MPOL_LOCAL, NULL, 0) == 0 ||
                              errno == ENOSYS,
                      "set_mempolicy");
        if (i % 10 == 7)
                (void)prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
        if (i % 50 == 8)
                CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0, "PR_SET_TSC");
}

static void *run(void *arg) {
        int i = (int)(intptr_t)arg;
        struct state now;

        set_state(i);
        read_state(&before[i]);
        if (i == 17) {
                child = fork();
                CHECK(child >= 0, "fork");
                while (child == 0)
                        pause();
        }
        crowd_sleep();
        read_state(&now);
        /* break: now.slack++; */
        /* break: now.open.pending ^= 1; */
        /* break: now.open.gids[1]++; */
        /* break: now.ss.ss_size--; */
        /* break: now.comm[7] ^= 1; */
        prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0);
        CHECK(same_state(&now, &before[i]),
              "thread %d: '%s' slack %llu death %d bits %x personality %x mce %d tsc %d policy %d speculation %x %x "
              "%x stack %p %zu %x pending %llx groups %d, was '%s' slack %llu death %d bits %x personality %x mce %d tsc %d policy %d "
              "speculation %x %x %x stack %p %zu %x pending %llx groups %d",
              i, now.comm, (unsigned long long)now.slack, now.pdeath, now.securebits, now.personality,
              now.mce, now.tsc, now.policy, now.speculation[0], now.speculation[1], now.speculation[2],
              now.ss.ss_sp, now.ss.ss_size, now.ss.ss_flags, (unsigned long long)now.open.pending,
              now.open.nr_groups, before[i].comm, (unsigned long long)before[i].slack, before[i].pdeath,
              before[i].securebits, before[i].personality, before[i].mce, before[i].tsc, before[i].policy,
              before[i].speculation[0], before[i].speculation[1], before[i].speculation[2],
              before[i].ss.ss_sp, before[i].ss.ss_size, before[i].ss.ss_flags,
              (unsigned long long)before[i].open.pending, before[i].open.nr_groups);
        check_signals(i);
        return arg;
}

int main(int argc, char **argv) {
        static pthread_t threads[N_THREADS];

        test_init(argc, argv);
        crowd_start(threads, N_THREADS, run, NULL, 1); /* each its number */
        test_ready();
        test_wait();
        crowd_send_on();
        for (int i = 0; i < N_THREADS; i++) {
                void *r = NULL;

                CHECK(pthread_join(threads[i], &r) == 0 && r == (void *)(intptr_t)i, "join of thread %d", i);
        }
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "child %d", child);
        test_pass();
}
