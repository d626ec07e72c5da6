/* SPDX-License-Identifier: GPL-2.0-only */
/* A restore that failed leaves nothing behind. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "restore/stages.h"

enum { SLEEP_ROUNDS = 2000, ROUNDS_MAX = 120000 }; /* of a millisecond */

/* What becomes of a task that has been killed. */
enum end {
        END_REACHED,
        END_COMES,  /* all that it lacks is a CPU */
        END_AWAITS, /* it sleeps in the kernel where not even SIGKILL wakes it */
};

/* Its number was free before and clone3(set_tid) gave it to us, so whoever has it now is ours. */
static enum end kill_again(pid_t pid) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0 || stat.state == 'X')
                return END_REACHED;
        /* A leader that is dead may have threads that are not. */
        if (stat.state == 'Z' && stat.num_threads <= 1)
                return END_REACHED;
        kill(pid, SIGKILL);
        return stat.state == 'D' ? END_AWAITS : END_COMES;
}

static void reap(const struct restore_task *t) {
        for (size_t i = t->nr_threads; i-- > 0;)
                waitpid(t->threads[i].tid, NULL, __WALL | WNOHANG);
}

/*
 * Whether there was a clone(2) that gave us this one, nobody has told yet when its cloner failed later. It dies by itself, and
 * when its cloner has died, it is our child, as nobody else with such a number is.
 */
static enum end reap_adopted(const struct restore_task *t) {
        return waitpid(t->pid, NULL, WNOHANG) == 0 ? END_COMES : END_REACHED;
}

static enum end undo_once(struct restore *r) {
        enum end all = END_REACHED;

        for (size_t i = r->nr_tasks; i-- > 0;) {
                const struct restore_task *t = r->tasks[i];
                enum end one = t->cloned ? kill_again(t->pid) : END_REACHED;

                if (t->cloned)
                        reap(t);
                if (all != END_COMES && one != END_REACHED)
                        all = one;
        }
        /* After their cloners, so that none of them is met by neither. */
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (!r->tasks[i]->cloned && reap_adopted(r->tasks[i]) == END_COMES)
                        all = END_COMES;
        return all;
}

void undo(struct restore *r) {
        struct timespec ms = { 0, 1000000 };
        unsigned int slept = 0;

        if (!r->host)
                return;
        /* Orphans come to us, not to an init that may be slow to reap them. */
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        compel_host_kill(r->host);
        for (unsigned int round = 0; round < ROUNDS_MAX && slept < SLEEP_ROUNDS; round++) {
                enum end end = undo_once(r);

                if (end == END_REACHED)
                        break;
                slept += end == END_AWAITS;
                nanosleep(&ms, NULL);
        }
        /* Children that were dead before their parents. */
        undo_once(r);
}
