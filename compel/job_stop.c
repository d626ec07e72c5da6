/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compel/internal.h"

static int go_on(struct compel_thread *t, int sig) {
        if (syscall(SYS_ptrace, PTRACE_CONT, t->tid, 0, sig) < 0)
                return -errno;
        t->stopped = false;
        return 0;
}

/* The next stop; returns the signal it reports, *ret_event whether it is an event stop. */
static int wait_report(struct compel_thread *t, bool *ret_event) {
        int status;

        while (waitpid(t->tid, &status, __WALL) < 0)
                if (errno != EINTR)
                        return -errno;
        if (!WIFSTOPPED(status))
                return -ESRCH;
        t->stopped = true;
        *ret_event = status >> 16 == PTRACE_EVENT_STOP;
        return WSTOPSIG(status);
}

/* Until it reports the job-control stop itself. Its signals are blocked: nothing else can come in between. */
static int into_stop(struct compel_thread *t, int sig) {
        bool event = false;
        int r;

        r = go_on(t, sig);
        while (r == 0) {
                r = wait_report(t, &event);
                if (r == SIGSTOP && event)
                        return 0;
                if (r > 0)
                        r = go_on(t, r == SIGSTOP ? SIGSTOP : 0);
        }
        return r;
}

int compel_job_stop(pid_t pid, struct compel_thread **threads, size_t nr_threads) {
        int r = 0;

        /* To the first thread alone: the others must not leave their stop before this one has begun the job's. */
        if (syscall(SYS_tgkill, pid, threads[0]->tid, SIGSTOP) < 0)
                return -errno;
        for (size_t i = 0; r == 0 && i < nr_threads; i++)
                r = into_stop(threads[i], 0);
        return r;
}
