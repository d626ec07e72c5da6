/* SPDX-License-Identifier: GPL-2.0-only */
/* A restore that failed leaves nothing behind. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "restore/stages.h"

enum { ROUNDS = 2000 }; /* of a millisecond */

/* Its number was free before and clone3(set_tid) gave it to us, so whoever has it now is ours. */
static bool is_alive(pid_t pid) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        return proc_open(pid, &dir) == 0 && proc_stat_read(&dir, &buf, &stat) == 0 && stat.state != 'Z' &&
               stat.state != 'X';
}

static void reap(const struct restore_task *t) {
        for (size_t i = t->nr_threads; i-- > 0;)
                waitpid(t->threads[i].tid, NULL, __WALL | WNOHANG);
}

void undo(struct restore *r) {
        struct timespec ms = { 0, 1000000 };
        bool alive = true;

        if (!r->host)
                return;
        compel_host_kill(r->host);
        for (unsigned int round = 0; alive && round < ROUNDS; round++) {
                alive = false;
                for (size_t i = r->nr_tasks; i-- > 0;) {
                        if (r->tasks[i]->cloned && is_alive(r->tasks[i]->pid)) {
                                kill(r->tasks[i]->pid, SIGKILL);
                                alive = true;
                        }
                        if (r->tasks[i]->cloned)
                                reap(r->tasks[i]);
                }
                if (alive)
                        nanosleep(&ms, NULL);
        }
}
