/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Zombies not yet waited for: exit codes, deaths by signal, one that led a session and a group with living
 * members, one of another user, one that was all-powerful in a user namespace of its own, one below a child. No SIGCHLD may be seen for them a second time. */
#include "e2e.h"

#include <sched.h>
#include <sys/resource.h>

static volatile sig_atomic_t sigchlds;

static void on_chld(int sig E2E_UNUSED) {
        sigchlds++;
}

struct zombie {
        int code, signo; /* one of them */
        bool userns;
        uid_t uid;
        pid_t pid;
        char comm[16];
};

static struct zombie zombies[] = {
        { .code = 0 },
        { .code = 7 },
        { .code = 255 },
        { .signo = SIGKILL },
        { .signo = SIGTERM },
        { .signo = SIGSEGV },
        { .signo = 40 },
        { .code = 9, .uid = 65534 },
        { .code = 11, .userns = true },
        { .code = 3, .comm = "dead ) leader" },
};

static void make_zombie(struct zombie *z) {
        siginfo_t si;

        z->pid = xfork();
        if (z->pid == 0) {
                sigset_t empty;

                if (z->comm[0]) {
                        prctl(PR_SET_NAME, z->comm);
                        CHECK(setsid() == getpid(), "setsid: %m");
                        if (xfork() == 0) {
                                pause();
                                _exit(1);
                        }
                }
                if (z->userns)
                        (void)!unshare(CLONE_NEWUSER); /* not every machine allows it */
                if (z->uid)
                        CHECK(setresuid(z->uid, z->uid, z->uid) == 0, "setresuid: %m");
                if (!z->signo)
                        _exit(z->code);
                /* Whether it dumped core is not carried over. */
                CHECK(setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == 0, "setrlimit: %m");
                sigemptyset(&empty);
                signal(z->signo, SIG_DFL);
                sigprocmask(SIG_SETMASK, &empty, NULL);
                raise(z->signo);
                _exit(99);
        }
        CHECK(waitid(P_PID, (id_t)z->pid, &si, WEXITED | WNOWAIT) == 0, "waitid: %m");
        CHECK(proc_state(z->pid) == 'Z', "state %c", proc_state(z->pid));
}

static void check_zombie(const struct zombie *z) {
        siginfo_t si = { 0 };
        char comm[32];
        int st;

        CHECK(proc_state(z->pid) == 'Z', "state of %d is %c", z->pid, proc_state(z->pid));
        if (z->comm[0]) {
                status_text(z->pid, "Name", comm, sizeof(comm));
                CHECK(strcmp(comm, z->comm) == 0, "name of %d is '%s'", z->pid, comm);
                CHECK(getsid(z->pid) == z->pid && getpgid(z->pid) == z->pid, "session of %d", z->pid);
        }
        CHECK(waitid(P_PID, (id_t)z->pid, &si, WEXITED | WNOWAIT | WNOHANG) == 0, "waitid(%d): %m", z->pid);
        CHECK(si.si_pid == z->pid, "waitid gave pid %d", si.si_pid);
        CHECK(si.si_code == (z->signo ? CLD_KILLED : CLD_EXITED), "si_code %d of %d", si.si_code, z->pid);
        CHECK(si.si_status == (z->signo ? z->signo : z->code), "si_status %d", si.si_status);
        CHECK(si.si_uid == z->uid, "uid %u, not %u", si.si_uid, z->uid);
        CHECK(waitpid(z->pid, &st, WNOHANG) == z->pid, "waitpid(%d): %m", z->pid);
        CHECK(z->signo ? WIFSIGNALED(st) && WTERMSIG(st) == z->signo
                       : WIFEXITED(st) && WEXITSTATUS(st) == z->code,
              "wait status 0x%x", (unsigned)st);
        CHECK(kill(z->pid, 0) < 0 && errno == ESRCH, "%d is still there", z->pid);
}

int main(int argc, char **argv) {
        struct zombie inner = { .code = 77 }, *leader = &zombies[ELEMENTS(zombies) - 1];
        struct gate ready, go;
        pid_t kid, member = 0;
        int before;

        test_init(argc, argv);
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl: %m");
        signal(SIGCHLD, on_chld);
        gate_init(&ready);
        gate_init(&go);
        for (size_t i = 0; i < ELEMENTS(zombies); i++)
                make_zombie(&zombies[i]);
        kid = xfork();
        if (kid == 0) {
                make_zombie(&inner);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_zombie(&inner);
                _exit(5);
        }
        gate_pass(&ready, 1);
        before = sigchlds;
        CHECK(before > 0, "no SIGCHLD at all");
        test_ready();
        test_wait();
        /* break: waitpid(zombies[1].pid, NULL, 0); */
        /* break: zombies[3].signo = SIGHUP; */
        /* break: zombies[7].uid = 1; */
        /* break: raise(SIGCHLD); */
        CHECK(sigchlds == before, "%d SIGCHLDs where none was due", sigchlds - before);
        /* The dead leader's session lives on in the member it left behind. */
        for (pid_t p = leader->pid + 1; p < leader->pid + 200 && !member; p++)
                if (getsid(p) == leader->pid)
                        member = p;
        CHECK(member > 0 && getpgid(member) == leader->pid, "no member of the dead leader's session");
        for (size_t i = 0; i < ELEMENTS(zombies); i++)
                check_zombie(&zombies[i]);
        gate_open(&go, 1);
        xwait(kid, 5);
        CHECK(kill(-leader->pid, SIGKILL) == 0, "kill the dead leader's group: %m");
        CHECK(waitpid(member, NULL, 0) == member, "wait for the orphan: %m");
        CHECK(sigchlds > before, "no SIGCHLD for a new death");
        test_pass();
}
