/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/model.h"

int dump_thread_proc(struct dump_thread *t, const struct proc_dir **ret) {
        const struct proc_dir *process = &t->task->proc;
        int r = 0;

        if (t->tid == process->pid) {
                *ret = process;
                return 0;
        }
        if (t->own_proc.fd < 0)
                r = proc_open_thread(process, t->tid, &t->own_proc);
        if (r == 0)
                *ret = &t->own_proc;
        return r;
}
