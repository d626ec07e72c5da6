/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Process groups and sessions in the combinations that constrain the order of a restore:
 *   C1  forked before its parent A called setsid: stays in the root's session
 *   C2  forked after it: in A's session, leads a group of its own
 *   E   child of C2, joined A's group
 *   B   led a group, went back to the root's; B3, its child, stayed in it; B2, its sibling, joined it
 *   F   leads a session inside A's tree, whose child G leads a group
 */
#include "e2e.h"

enum { A, C1, C2, E, B, B2, B3, F, G, N_PROCS };

struct ids {
        pid_t pid, ppid, pgrp, sid;
        int status;
};

static struct gate ready, go, done, led, step[N_PROCS];
static struct ids *table;
static volatile sig_atomic_t hits;

static void on_usr1(int sig E2E_UNUSED) {
        hits++;
}

static struct ids ids_now(void) {
        return (struct ids){ .pid = getpid(), .ppid = getppid(), .pgrp = getpgrp(), .sid = getsid(0) };
}

static pid_t spawn(int who, void (*fn)(void)) {
        pid_t pid = xfork();

        if (pid == 0) {
                table[who].pid = getpid();
                fn();
                _exit(99);
        }
        return pid;
}

/* Records the ids, waits, and checks that they are the same. Children must end first. */
static void stay(int who, const pid_t *kids, int n_kids) {
        struct ids was = ids_now();
        sigset_t empty;

        table[who] = was;
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        sigemptyset(&empty);
        sigprocmask(SIG_SETMASK, &empty, NULL);
        table[who].status = hits;
        CHECK(memcmp(&was, &(struct ids){ getpid(), getppid(), getpgrp(), getsid(0), 0 }, sizeof(was)) == 0,
              "process %d: pid %d ppid %d group %d session %d became %d %d %d %d", who, was.pid, was.ppid,
              was.pgrp, was.sid, getpid(), getppid(), getpgrp(), getsid(0));
        gate_open(&done, 1);
        gate_pass(&step[who], 1);
        for (int i = 0; i < n_kids; i++)
                xwait(kids[i], 0);
        _exit(0);
}

static void run_c1(void) {
        stay(C1, NULL, 0);
}

static void run_e(void) {
        CHECK(setpgid(0, table[A].pid) == 0, "join A's group: %m");
        stay(E, NULL, 0);
}

static void run_c2(void) {
        pid_t kid;

        CHECK(setpgid(0, 0) == 0, "setpgid: %m");
        kid = spawn(E, run_e);
        stay(C2, &kid, 1);
}

static void run_g(void) {
        CHECK(setpgid(0, 0) == 0, "setpgid: %m");
        stay(G, NULL, 0);
}

static void run_f(void) {
        pid_t kid;

        CHECK(setsid() == getpid(), "setsid: %m");
        kid = spawn(G, run_g);
        stay(F, &kid, 1);
}

static void run_a(void) {
        pid_t kids[3];

        kids[0] = spawn(C1, run_c1);
        CHECK(setsid() == getpid(), "setsid: %m");
        kids[1] = spawn(C2, run_c2);
        kids[2] = spawn(F, run_f);
        stay(A, kids, 3);
}

static void run_b3(void) {
        stay(B3, NULL, 0);
}

static void run_b(void) {
        pid_t kid;

        CHECK(setpgid(0, 0) == 0, "setpgid: %m");
        kid = spawn(B3, run_b3);
        gate_open(&led, 1); /* the group exists: B2 may join it */
        gate_pass(&step[B], 1);
        CHECK(setpgid(0, getpgid(getppid())) == 0, "go back to the root's group: %m");
        stay(B, &kid, 1);
}

static void run_b2(void) {
        CHECK(setpgid(0, table[B].pid) == 0, "join B's group: %m");
        gate_open(&step[B], 1);
        stay(B2, NULL, 0);
}

static void check_table(pid_t root) {
        const struct ids *t = table;

        CHECK(t[C1].sid == getsid(0) && t[C1].pgrp == getpgrp() && t[C1].ppid == t[A].pid, "C1");
        CHECK(t[A].sid == t[A].pid && t[A].ppid == root, "A");
        CHECK(t[C2].sid == t[A].pid && t[C2].pgrp == t[C2].pid, "C2");
        CHECK(t[E].sid == t[A].pid && t[E].pgrp == t[A].pid && t[E].ppid == t[C2].pid, "E");
        CHECK(t[B].pgrp == getpgrp() && t[B2].pgrp == t[B].pid && t[B3].pgrp == t[B].pid, "B");
        CHECK(t[F].sid == t[F].pid && t[G].sid == t[F].pid && t[G].pgrp == t[G].pid, "F");
}

int main(int argc, char **argv) {
        pid_t root = getpid(), kids[3], kid;
        sigset_t usr1, old;
        static const int expected[N_PROCS] = { [A] = 1, [E] = 1, [B2] = 1, [B3] = 1 };

        test_init(argc, argv);
        table = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(table != MAP_FAILED, "mmap: %m");
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        gate_init(&led);
        for (int i = 0; i < N_PROCS; i++)
                gate_init(&step[i]);
        /* Inherited by all: the signals to groups stay pending until each looks. */
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        sigprocmask(SIG_BLOCK, &usr1, &old);
        signal(SIGUSR1, on_usr1);
        kids[0] = spawn(A, run_a);
        kids[1] = spawn(B, run_b);
        gate_pass(&led, 1);
        kids[2] = spawn(B2, run_b2);
        gate_pass(&ready, N_PROCS);
        check_table(root);
        sigprocmask(SIG_SETMASK, &old, NULL);
        test_ready();
        test_wait();
        /* break: setpgid(kids[1], kids[1]); */
        /* break: kill(table[C1].pid, SIGUSR1); */
        /* break: table[G].sid = 1; */
        CHECK(kill(-table[A].pid, SIGUSR1) == 0 && kill(-table[B].pid, SIGUSR1) == 0, "signal groups: %m");
        check_table(root);
        gate_open(&go, N_PROCS);
        gate_pass(&done, N_PROCS);
        for (int i = 0; i < N_PROCS; i++)
                CHECK(table[i].status == expected[i], "process %d saw %d signals, not %d", i,
                      table[i].status, expected[i]);
        check_table(root);
        /* A new process can join the group that only B2 and B3 are in. */
        kid = xfork();
        if (kid == 0) {
                CHECK(setpgid(0, table[B].pid) == 0, "join the old group: %m");
                CHECK(setsid() == getpid(), "setsid: %m");
                _exit(0);
        }
        xwait(kid, 0);
        for (int i = 0; i < N_PROCS; i++)
                gate_open(&step[i], 1);
        for (int i = 0; i < 3; i++)
                xwait(kids[i], 0);
        test_pass();
}
