/* SPDX-License-Identifier: GPL-2.0-only */
/* What a process still shows when it is dead: whose it was. */
#include "image/image.h"
#include "task/internal.h"

int task_collect_zombie(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct dump_thread dead = {
                .task = t, .tid = t->pid, .own_proc = PROC_DIR_INIT, .arena = &t->arena
        };
        int r;

        t->leader_core = arena_message(&t->arena, Img__Core, img__core__init);
        t->leader_core->mtype = IMG__CORE__MARCH__X86_64;
        t->leader_core->tc = arena_message(&t->arena, Img__TaskCore, img__task_core__init);
        t->leader_core->thread_core = arena_message(&t->arena, Img__ThreadCore, img__thread_core__init);
        dead.core = t->leader_core;
        r = proc_status_read(&t->proc, &buf, &dead.status);
        if (r == 0)
                r = kind_creds.read(&dead, err);
        else
                ckpt_error_errno(err, r, "%s: cannot read its status", dump_task_name(t));
        proc_status_done(&dead.status);
        return r;
}

int task_check_zombie(struct restore_task *t, struct ckpt_error *err) {
        const Img__Core *core = t->threads[0].core;

        if (!core->thread_core || !core->thread_core->creds)
                return 0; /* other tools do not record it */
        return kind_creds.check(&t->threads[0], err);
}

int task_restore_zombie(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        const Img__Core *core = t->threads[0].core;

        if (!core->thread_core || !core->thread_core->creds)
                return 0;
        return kind_creds.restore(&t->threads[0], b, err);
}
