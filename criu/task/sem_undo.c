/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What semaphores are changed by when a process ends (SEM_UNDO). No interface shows these adjustments, but the kernel
 * keeps each between -32768 and 32767, and semop(2) does all of its operations or none. So the task is had try
 * operations that move the adjustment and leave the semaphore as it is, behind them one that cannot be done at once: EAGAIN
 * means that the adjustment would still be in its range, ERANGE that it would not, and in either case nothing
 * has happened. Two attempts tell an adjustment of 0, sixteen tell any.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ns/ipc.h"
#include "task/internal.h"

enum {
        ADJUST_MIN = -32768,
        ADJUST_MAX = 32767, /* SEMAEM */
        STEP_MAX = 16383,   /* any semaphore has room for it in one of both directions */
        SOPS_MAX = 8,       /* three steps of two operations, and two that cannot be done */
        ASKED_AT_ONCE = 48, /* semaphores */
        SEMS_MAX = 4000,
};

/* An adjustment that is being found out. */
struct sought {
        const struct ipc_sem_set *set;
        uint16_t num;
        bool first_done, known;
        bool forbidden;    /* the task has no right to it, so that nothing can be tried */
        int low, high;     /* it is within these */
        uint32_t index[2]; /* of the attempts in the batch */
        int tried;
};

/* Of one process, over several passages. */
struct sem_undo {
        struct sought *v;
        size_t n, done;
};

/* ---- operations ---- */

static void add_op(struct sembuf *ops, size_t *n, uint16_t num, int by, bool undo) {
        ops[(*n)++] = (struct sembuf){ .sem_num = num,
                                       .sem_op = (short)by,
                                       .sem_flg = (short)(undo ? SEM_UNDO : 0) };
}

/* Move the adjustment by `amount`; what it is moved by, the semaphore is moved by in the other direction. */
static size_t make_ops(uint16_t num, uint16_t value, int amount, struct sembuf *ops) {
        size_t n = 0;

        while (amount != 0) {
                int step = amount > 0 ? -MIN(amount, (int)STEP_MAX) : MIN(-amount, (int)STEP_MAX);
                bool room = (int)value + step >= 0 && (int)value + step <= ADJUST_MAX;

                add_op(ops, &n, num, room ? step : -step, room);
                add_op(ops, &n, num, room ? -step : step, !room);
                amount += step;
        }
        return n;
}

/* Whatever the semaphore is: at 0 the second waits, else the first. */
static size_t make_impossible(uint16_t num, struct sembuf *ops) {
        ops[0] = (struct sembuf){ .sem_num = num, .sem_op = 0, .sem_flg = IPC_NOWAIT };
        ops[1] = (struct sembuf){ .sem_num = num, .sem_op = -1, .sem_flg = IPC_NOWAIT };
        return 2;
}

static uint32_t ask_attempt(const struct sought *s, struct compel_batch *b, int amount) {
        struct sembuf ops[SOPS_MAX];
        size_t n = make_ops(s->num, s->set->values[s->num], amount, ops);

        n += make_impossible(s->num, ops + n);
        return task_ask(b, "try a semaphore", SYS_semop, (uint64_t)s->set->id,
                        compel_copy(b, ops, n * sizeof(*ops)), (uint64_t)n);
}

/* ---- dump ---- */

/*
 * Has this thread ever had adjustments? Every thread that pthread_create(3) makes shares a list of them, be it an empty
 * one. ckpt's main thread has none: ipc_list_sems() sees to it.
 */
static bool has_list(pid_t tid) {
        return syscall(SYS_kcmp, getpid(), tid, KCMP_SYSVSEM, 0, 0) != 0;
}

static bool any_list(const struct dump_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++)
                if (has_list(t->threads[i].tid))
                        return true;
        return false;
}

static struct sem_undo *make_state(struct dump_task *t, const struct ipc_sem_list *list) {
        struct sem_undo *u = arena_new(&t->arena, struct sem_undo);
        size_t k = 0;

        for (size_t i = 0; i < list->n; i++)
                u->n += list->v[i].nsems;
        if (u->n > SEMS_MAX)
                return u;
        u->v = arena_new_array(&t->arena, struct sought, u->n + 1);
        for (size_t i = 0; i < list->n; i++)
                for (size_t j = 0; j < list->v[i].nsems; j++)
                        u->v[k++] = (struct sought){
                                .set = &list->v[i], .num = (uint16_t)j, .low = ADJUST_MIN, .high = ADJUST_MAX
                        };
        return u;
}

static void ask_one(struct sought *s, struct compel_batch *b) {
        compel_room(b, 2, 2 * SOPS_MAX * sizeof(struct sembuf));
        if (!s->first_done) {
                s->index[0] = ask_attempt(s, b, ADJUST_MAX);
                s->index[1] = ask_attempt(s, b, ADJUST_MIN);
                return;
        }
        /* Up to the limit on the side where it is. */
        s->tried = s->low > 0 ? ADJUST_MAX - (s->low + (s->high - s->low + 1) / 2) + 1
                              : ADJUST_MIN - (s->low + (s->high - s->low) / 2) - 1;
        s->index[0] = ask_attempt(s, b, s->tried);
}

static void *ask(struct dump_thread *t, struct compel_batch *b) {
        const struct ipc_sem_list *list = ipc_list_sems(t->task->dump);
        struct sem_undo *u = t->task->sem_undo;

        if (list->n == 0 || (!u && !any_list(t->task)))
                return NULL;
        if (!u)
                u = t->task->sem_undo = make_state(t->task, list);
        for (size_t i = u->done; u->v && i < u->n && i < u->done + ASKED_AT_ONCE; i++)
                if (!u->v[i].known)
                        ask_one(&u->v[i], b);
        return u;
}

/* 1: in range, 0: not. Negative: the semaphore is gone, or none of this task's. */
static int judge(int64_t result) {
        if (result == -EAGAIN)
                return 1;
        return result == -ERANGE ? 0 : (int)result;
}

static int learn(struct sought *s, const struct compel_batch *b) {
        int up = judge(task_asked(b, s->index[0])), down;

        if (!s->first_done) {
                down = judge(task_asked(b, s->index[1]));
                if (up < 0 || down < 0)
                        return up < 0 ? up : down;
                if (up && down)
                        s->low = s->high = 0;
                else if (up)
                        s->high = -1;
                else
                        s->low = 1;
                s->first_done = true;
        } else if (up < 0) {
                return up;
        } else if (s->low > 0) {
                /* adjustment + tried <= max, or not */
                if (up)
                        s->high = ADJUST_MAX - s->tried;
                else
                        s->low = ADJUST_MAX - s->tried + 1;
        } else {
                if (up)
                        s->low = ADJUST_MIN - s->tried;
                else
                        s->high = ADJUST_MIN - s->tried - 1;
        }
        s->known = s->low >= s->high;
        return 0;
}

static int refuse(struct dump_thread *t, const char *why, struct ckpt_error *err) {
        return ckpt_error(err, -ENOTSUP, "%s %s; the tree runs on", dump_task_name(t->task), why);
}

/* Threads that raw clone(2) made without CLONE_SYSVSEM, and processes that it made with it. */
static int check_sharing(struct dump_thread *t, struct ckpt_error *err) {
        struct dump_task *task = t->task;

        for (size_t i = 0; i < task->nr_threads; i++)
                if (has_list(task->threads[i].tid) &&
                    syscall(SYS_kcmp, t->tid, task->threads[i].tid, KCMP_SYSVSEM, 0, 0) != 0)
                        return refuse(
                                t,
                                "has threads with System V semaphore adjustments (SEM_UNDO) of their own, "
                                "which is not supported",
                                err);
        for (size_t i = 0; i < task->dump->nr_tasks; i++) {
                const struct dump_task *other = task->dump->tasks[i];

                if (other != task && other->nr_threads > 0 &&
                    syscall(SYS_kcmp, t->tid, other->threads[0].tid, KCMP_SYSVSEM, 0, 0) == 0)
                        return refuse(
                                t,
                                "shares System V semaphore adjustments (SEM_UNDO) with another process, "
                                "which is not supported",
                                err);
        }
        return 0;
}

/*
 * It may have had the right before, and adjustments from then. Every thread has a list, so having one says nothing; that it was
 * the last to change the semaphore does.
 */
static int check_forbidden(struct dump_thread *t, const struct sem_undo *u, struct ckpt_error *err) {
        bool asked = false;

        for (size_t i = 0; i < u->n; i++) {
                const struct sought *s = &u->v[i];

                if (!s->forbidden)
                        continue;
                if (!asked)
                        ipc_ask_last(t->task->dump);
                asked = true;
                if (!s->set->last || s->set->last[s->num] != t->task->pid)
                        continue;
                ckpt_error(
                        err, -ENOTSUP,
                        "%s has changed a System V semaphore (id %d, number %u) that it may not use any more: "
                        "whether it is changed back at its end (SEM_UNDO) cannot be found out; the tree runs on",
                        dump_task_name(t->task), s->set->id, s->num);
                return ckpt_error_hint(err,
                                       "Give the program's user the right to change it (semctl, IPC_SET)");
        }
        return 0;
}

static int store(struct dump_thread *t, const struct sem_undo *u, struct ckpt_error *err) {
        struct arena *a = &t->task->arena;
        Img__TaskCore *tc = dump_task_core(t);

        tc->n_sem_undos = 0;
        tc->sem_undos = arena_new_array(a, Img__SemUndo *, u->n + 1);
        for (size_t i = 0; i < u->n; i++) {
                Img__SemUndo *msg;

                if (u->v[i].low == 0)
                        continue;
                msg = arena_message(a, Img__SemUndo, img__sem_undo__init);
                msg->semid = (uint32_t)u->v[i].set->id;
                msg->num = u->v[i].num;
                msg->adjust = u->v[i].low;
                tc->sem_undos[tc->n_sem_undos++] = msg;
        }
        if (tc->n_sem_undos == 0 || ipc_is_own(t->task->dump))
                return 0;
        refuse(t,
               "has System V semaphores in ckpt's own IPC namespace that change when it ends (SEM_UNDO), which "
               "cannot be checkpointed",
               err);
        return ckpt_error_hint(err, "Start the program under unshare --ipc");
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *asked, struct ckpt_error *err) {
        struct sem_undo *u = asked;
        bool all = true;
        size_t end;
        int r;

        if (!u)
                return 0;
        if (u->n > SEMS_MAX)
                return refuse(
                        t,
                        "may have adjustments (SEM_UNDO) of more System V semaphores than can be found out",
                        err);
        end = MIN(u->n, u->done + ASKED_AT_ONCE);
        for (size_t i = u->done; i < end; i++) {
                struct sought *s = &u->v[i];

                r = s->known ? 0 : learn(s, b);
                if (r == -E2BIG)
                        return refuse(
                                t,
                                "may have System V semaphore adjustments (SEM_UNDO), which the limits of "
                                "kernel.sem do not allow to find out",
                                err);
                if (r < 0) {
                        /* Removed meanwhile (in a namespace that others use), or of somebody else. */
                        s->forbidden = r == -EACCES;
                        s->low = s->high = 0;
                        s->known = true;
                }
                all = all && s->known;
        }
        if (all)
                u->done = end;
        if (u->done < u->n)
                return 1;
        r = check_sharing(t, err);
        if (r == 0)
                r = check_forbidden(t, u, err);
        return r < 0 ? r : store(t, u, err);
}

/* ---- restore ---- */

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = restore_task_core(t);

        for (size_t i = 0; i < tc->n_sem_undos; i++)
                if (tc->sem_undos[i]->adjust == 0 || tc->sem_undos[i]->adjust < ADJUST_MIN ||
                    tc->sem_undos[i]->adjust > ADJUST_MAX)
                        return ckpt_error(err, -EBADMSG,
                                          "%s: an adjustment of a System V semaphore makes no sense",
                                          restore_task_name(t->task));
        return 0;
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskCore *tc = restore_task_core(t);

        for (size_t i = 0; i < tc->n_sem_undos; i++) {
                const Img__SemUndo *msg = tc->sem_undos[i];
                struct sembuf ops[SOPS_MAX];
                uint16_t value;
                size_t n;

                ckpt_assert(ipc_find_sem(t->task->restore, msg->semid, msg->num, &value)); /* ipc_load() */
                n = make_ops((uint16_t)msg->num, value, msg->adjust, ops);
                compel_call(b, "note what a semaphore is to be changed by at its end", SYS_semop, msg->semid,
                            compel_copy(b, ops, n * sizeof(*ops)), (uint64_t)n);
        }
        return 0;
}

const struct task_kind kind_sem_undo = {
        .name = "System V semaphore adjustments",
        .phase = TASK_PHASE_PROCESS,
        .ask = ask,
        .answer = answer,
        .check = check,
        .restore = restore,
};
