/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Orphans that the root took over as a subreaper: a plain one, one whose session leader has died, one whose
 * group leader has died, one with both dead, and one two levels down. Ids whose owner is gone must come back. */
#include "e2e.h"

enum { PLAIN, SESSION, GROUP, BOTH, NESTED, N_ORPHANS };

struct orphan {
        pid_t pid, pgrp, sid;
};

static struct gate ready, go;
static struct orphan *orphans;
static volatile sig_atomic_t hits;

static void on_usr1(int sig E2E_UNUSED) {
        hits++;
}

static void be_orphan(int kind, pid_t root) {
        struct orphan me;
        pid_t parent = getppid();
        sigset_t usr1, old;

        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        sigprocmask(SIG_BLOCK, &usr1, &old);
        signal(SIGUSR1, on_usr1);
        if (parent != root)
                WAIT_FOR(getppid() == root, "adopted by the root");
        me = (struct orphan){ getpid(), getpgrp(), getsid(0) };
        orphans[kind] = me;
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(getpid() == me.pid, "pid %d is now %d", me.pid, getpid());
        CHECK(getppid() == root, "parent %d is now %d", root, getppid());
        CHECK(getpgrp() == me.pgrp, "kind %d: group %d is now %d", kind, me.pgrp, getpgrp());
        CHECK(getsid(0) == me.sid, "kind %d: session %d is now %d", kind, me.sid, getsid(0));
        sigprocmask(SIG_SETMASK, &old, NULL);
        CHECK(hits == (kind == PLAIN || kind == NESTED ? 0 : 1), "kind %d got %d signals to its group", kind,
              (int)hits);
        check_fork();
        _exit(50 + kind);
}

/* Child of the root that makes an orphan of that kind and dies. */
static void make_orphan(int kind, pid_t root) {
        pid_t pid, child = xfork();

        if (child > 0) {
                xwait(child, 0);
                return;
        }
        if (kind == SESSION || kind == BOTH)
                CHECK(setsid() == getpid(), "setsid: %m");
        if (kind == GROUP)
                CHECK(setpgid(0, 0) == 0, "setpgid: %m");
        if (kind == BOTH || kind == NESTED) {
                pid = xfork();
                if (pid > 0)
                        _exit(0);
                if (kind == BOTH)
                        CHECK(setpgid(0, 0) == 0, "setpgid: %m");
        }
        pid = xfork();
        if (pid > 0)
                _exit(0);
        be_orphan(kind, root);
}

/* The pid's owner must really be gone, or the test shows nothing. */
static void check_gone(pid_t pid) {
        while (waitpid(pid, NULL, 0) > 0)
                ;
        CHECK(kill(pid, 0) < 0 && errno == ESRCH, "leader %d lives", pid);
}

int main(int argc, char **argv) {
        pid_t root = getpid();
        int status, on = 0;

        test_init(argc, argv);
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl: %m");
        orphans = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(orphans != MAP_FAILED, "mmap: %m");
        gate_init(&ready);
        gate_init(&go);
        for (int i = 0; i < N_ORPHANS; i++)
                make_orphan(i, root);
        gate_pass(&ready, N_ORPHANS);
        check_gone(orphans[SESSION].sid);
        check_gone(orphans[GROUP].pgrp);
        check_gone(orphans[BOTH].pgrp);
        check_gone(orphans[BOTH].sid);
        for (int i = 0; i < N_ORPHANS; i++)
                CHECK(kill(orphans[i].pid, 0) == 0, "orphan %d: %m", i);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        test_ready();
        test_wait();
        /* break: setpgid(orphans[GROUP].pid, 0); */
        /* break: kill(orphans[PLAIN].pid, SIGUSR1); */
        /* break: prctl(PR_SET_CHILD_SUBREAPER, 0); */
        /* break: orphans[SESSION].sid++; */
        for (int i = 0; i < N_ORPHANS; i++) {
                CHECK(getpgid(orphans[i].pid) == orphans[i].pgrp, "group of orphan %d: %m", i);
                CHECK(getsid(orphans[i].pid) == orphans[i].sid, "session of orphan %d: %m", i);
        }
        CHECK(prctl(PR_GET_CHILD_SUBREAPER, &on) == 0 && on == 1, "no longer a subreaper");
        CHECK(kill(-orphans[SESSION].pgrp, SIGUSR1) == 0, "kill a group whose leader is dead: %m");
        CHECK(kill(-orphans[GROUP].pgrp, SIGUSR1) == 0, "kill a group whose leader is dead: %m");
        CHECK(kill(-orphans[BOTH].pgrp, SIGUSR1) == 0, "kill a group whose leader is dead: %m");
        gate_open(&go, N_ORPHANS);
        for (int i = 0; i < N_ORPHANS; i++)
                xwait(orphans[i].pid, 50 + i);

        /* A new orphan finds the subreaper too. */
        status = 0;
        if (xfork() == 0) {
                if (xfork() == 0) {
                        WAIT_FOR(getppid() == root, "adopted");
                        _exit(33);
                }
                _exit(34);
        }
        for (int i = 0, st; i < 2; i++) {
                CHECK(wait(&st) > 0 && WIFEXITED(st), "wait: %m");
                status += WEXITSTATUS(st);
        }
        CHECK(status == 67, "statuses add up to %d", status);
        test_pass();
}
