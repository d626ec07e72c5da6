/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compel/internal.h"

/* Until it reports the job-control stop itself. Its signals are blocked: nothing else can come in between. */
static int into_stop(struct compel_thread *t, unsigned int timeout_ms) {
        int sig = 0, r;

        for (;;) {
                int status = 0;

                r = compel_cont(t, sig);
                if (r < 0)
                        return r;
                r = compel_next_report(t, timeout_ms, &status);
                if (r < 0)
                        return r;
                sig = WSTOPSIG(status) == SIGSTOP ? SIGSTOP : 0;
                if (sig == SIGSTOP && status >> 16 == PTRACE_EVENT_STOP)
                        return 0;
        }
}

int compel_job_stop(pid_t pid, struct compel_thread **threads, size_t nr_threads, unsigned int timeout_ms) {
        int r = 0;

        /* To the first thread alone: the others must not leave their stop before this one has begun the job's. */
        if (syscall(SYS_tgkill, pid, threads[0]->tid, SIGSTOP) < 0)
                return -errno;
        for (size_t i = 0; r == 0 && i < nr_threads; i++)
                r = into_stop(threads[i], timeout_ms);
        return r;
}
