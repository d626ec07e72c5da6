/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* What is done on each of the 64 signals: handler, flags, mask and restorer, as the kernel keeps them; another
 * set in a child; delivered signals run the right handler with the right mask. */
#include "e2e.h"

struct kernel_sigaction {
        uint64_t handler, flags, restorer, mask;
};

#define SIG_BIT(s) (1ULL << ((s)-1))

static volatile sig_atomic_t last_sig, last_kind, count;
static volatile uint64_t mask_inside;

static uint64_t own_mask(void) {
        uint64_t m = 0;

        CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &m, sizeof(m)) == 0, "rt_sigprocmask: %m");
        return m;
}

static void plain(int sig) {
        last_sig = sig;
        last_kind = 1;
        count++;
        mask_inside = own_mask();
}

static void with_info(int sig, siginfo_t *si, void *ctx) {
        last_sig = sig;
        last_kind = si->si_code == SI_TKILL && ctx ? 2 : 3;
        count++;
        mask_inside = own_mask();
}

static void get_action(int sig, struct kernel_sigaction *ret) {
        CHECK(syscall(SYS_rt_sigaction, sig, NULL, ret, sizeof(uint64_t)) == 0, "rt_sigaction(%d): %m", sig);
}

static bool ours(int sig) {
        return sig != SIGKILL && sig != SIGSTOP && sig != SIGTERM;
}

/* A different action for each signal, another variety for each `shift`. */
static void set_all(int shift, uint64_t libc_restorer) {
        static const uint64_t flag_sets[] = { 0,
                                              SA_RESTART,
                                              SA_NODEFER | SA_ONSTACK,
                                              SA_RESETHAND | SA_RESTART,
                                              SA_NOCLDSTOP,
                                              SA_NOCLDWAIT,
                                              SA_ONSTACK | SA_RESTART };

        for (int s = 1; s <= 64; s++) {
                struct kernel_sigaction a = { .flags = flag_sets[(s + shift) % 7],
                                              .mask = pattern((uint64_t)shift, (uint64_t)s) };

                a.mask &= ~(SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP));
                if (!ours(s))
                        continue;
                switch ((s + shift) % 4) {
                case 0:
                        a.handler = (uint64_t)(uintptr_t)SIG_IGN;
                        break;
                case 1:
                        break; /* SIG_DFL, with flags and mask */
                case 2:
                        a.handler = (uint64_t)(uintptr_t)plain;
                        a.flags |= 0x04000000; /* SA_RESTORER */
                        a.restorer = libc_restorer;
                        break;
                default:
                        a.handler = (uint64_t)(uintptr_t)with_info;
                        a.flags |= 0x04000000 | SA_SIGINFO;
                        a.restorer = libc_restorer;
                }
                CHECK(syscall(SYS_rt_sigaction, s, &a, NULL, sizeof(uint64_t)) == 0, "rt_sigaction(%d): %m",
                      s);
        }
}

static void snapshot(struct kernel_sigaction all[65]) {
        for (int s = 1; s <= 64; s++)
                get_action(s, &all[s]);
}

static void check_same(const struct kernel_sigaction was[65]) {
        for (int s = 1; s <= 64; s++) {
                struct kernel_sigaction a;

                get_action(s, &a);
                CHECK(memcmp(&a, &was[s], sizeof(a)) == 0,
                      "signal %d: handler %" PRIx64 " flags %" PRIx64 " restorer %" PRIx64 " mask %" PRIx64
                      ", was %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64,
                      s, a.handler, a.flags, a.restorer, a.mask, was[s].handler, was[s].flags,
                      was[s].restorer, was[s].mask);
        }
}

/* Sends each signal that has a handler and looks at what ran. */
static void deliver(const struct kernel_sigaction was[65]) {
        const uint64_t outside = own_mask();

        for (int s = 1; s <= 64; s++) {
                const struct kernel_sigaction *a = &was[s];
                int before = count;

                if (!ours(s) || a->handler < 2)
                        continue;
                CHECK(syscall(SYS_tgkill, getpid(), xgettid(), s) == 0, "tgkill: %m");
                CHECK(count == before + 1 && last_sig == s, "signal %d ran the handler of %d", s,
                      (int)last_sig);
                CHECK(last_kind == (a->flags & SA_SIGINFO ? 2 : 1), "signal %d ran handler kind %d", s,
                      (int)last_kind);
                CHECK(mask_inside == (outside | a->mask | (a->flags & SA_NODEFER ? 0 : SIG_BIT(s))),
                      "signal %d: mask %" PRIx64 " in the handler", s, mask_inside);
                CHECK(own_mask() == outside, "mask after signal %d", s);
        }
}

int main(int argc, char **argv) {
        struct kernel_sigaction all[65], term;
        struct gate ready, go;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        get_action(SIGTERM, &term);
        CHECK(term.restorer, "libc sets no restorer");
        kid = xfork();
        if (kid == 0) {
                set_all(3, term.restorer);
                snapshot(all);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_same(all);
                deliver(all);
                _exit(7);
        }
        gate_pass(&ready, 1);
        set_all(0, term.restorer);
        snapshot(all);
        test_ready();
        test_wait();
        /* break: signal(SIGUSR2, SIG_IGN); signal(SIGUSR1, SIG_IGN); */
        /* break: all[64].mask ^= 4; */
        /* break: all[33].flags ^= SA_RESTART; */
        check_same(all);
        deliver(all);
        signal(SIGCHLD, SIG_DFL);
        gate_open(&go, 1);
        xwait(kid, 7);
        check_fork();
        test_pass();
}
