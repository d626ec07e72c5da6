/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes that share a descriptor table (CLONE_FILES) or a working directory, root and umask (CLONE_FS). Only clone can
 * make that: the child has what its cloner has at that moment. A task that is to end up with another one leaves it
 * behind with unshare(2). So each task has one after the other: the one it is born with, those that only its children
 * are to share, and last its own; its children are cloned in that order.
 *
 * A group of tasks that share crosses an edge of the tree of clones if it has members on both sides of it. At birth a
 * task gets one table, so one group at most can cross an edge. That is no limit for what clone(2) has made, but
 * a subreaper may have taken over children from elsewhere.
 */
#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "macro.h"
#include "restore/stages.h"

enum { KEY_LAST = INT32_MAX };

static const char *const nouns[RESTORE_SHARE_MAX] = {
        [RESTORE_SHARE_FILES] = "descriptor table",
        [RESTORE_SHARE_FS] = "working directory",
};

static struct restore_task *cloner_of(const struct restore_task *t) {
        return t->via ? t->via : t->parent;
}

static uint32_t id_of(const struct restore_task *t, enum restore_share kind) {
        if (t->kind != RESTORE_TASK_LIVE || !t->ids)
                return 0;
        return kind == RESTORE_SHARE_FILES ? t->ids->files_id : t->ids->fs_id;
}

static int refuse(const struct restore_task *t, enum restore_share kind, struct ckpt_error *err) {
        return ckpt_error(
                err, -ENOTSUP,
                "pid %d: its %s is shared by processes (%s) in a way that no order of clones is known "
                "to make; nothing was created",
                t->pid, nouns[kind], kind == RESTORE_SHARE_FILES ? "CLONE_FILES" : "CLONE_FS");
}

/* ---- which group crosses which edge ---- */

struct member {
        uint32_t id;
        size_t order;
        struct restore_task *task;
};

static int compare_members(const void *a, const void *b) {
        const struct member *x = a, *y = b;

        if (x->id != y->id)
                return x->id < y->id ? -1 : 1;
        return (x->order > y->order) - (x->order < y->order);
}

/* Walk up from every member; `below` counts the members at and below a task, and is zero again afterwards. */
static int mark_group(const struct member *members, uint32_t n, enum restore_share kind,
                      struct ckpt_error *err) {
        int ret = 0;

        for (uint32_t i = 0; i < n; i++) {
                members[i].task->share[kind].own = members[0].id;
                for (struct restore_task *t = members[i].task; t; t = cloner_of(t))
                        t->share[kind].below++;
        }
        for (uint32_t i = 0; i < n; i++)
                for (struct restore_task *t = members[i].task; t && t->share[kind].below > 0;
                     t = cloner_of(t)) {
                        struct restore_sharing *s = &t->share[kind];

                        if (s->below < n && ret == 0) {
                                if (s->born != 0 || !cloner_of(t))
                                        ret = refuse(members[i].task, kind, err);
                                s->born = members[0].id;
                        }
                        s->below = 0;
                }
        return ret;
}

static int mark_groups(struct restore *r, enum restore_share kind, bool *ret_any, struct ckpt_error *err) {
        _cleanup_free_ struct member *members = calloc(r->nr_tasks + 1, sizeof(*members));
        size_t n = 0, first = 0;
        int ret = 0;

        ckpt_assert(members);
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (id_of(r->tasks[i], kind) != 0)
                        members[n++] = (struct member){ id_of(r->tasks[i], kind), i, r->tasks[i] };
        qsort(members, n, sizeof(*members), compare_members);
        for (size_t i = 1; ret == 0 && i <= n; i++) {
                if (i < n && members[i].id == members[first].id)
                        continue;
                if (i - first > 1) {
                        *ret_any = true;
                        ret = mark_group(&members[first], (uint32_t)(i - first), kind, err);
                }
                first = i;
        }
        return ret;
}

/* ---- in which order a task clones its children ---- */

struct child {
        struct restore_task *task;
        bool after;                     /* its setsid */
        int32_t key[RESTORE_SHARE_MAX]; /* which of the cloner's tables, in their order */
        size_t order;
};

static int compare_children(const void *a, const void *b) {
        const struct child *x = a, *y = b;

        if (x->after != y->after)
                return x->after ? 1 : -1;
        for (int kind = 0; kind < RESTORE_SHARE_MAX; kind++)
                if (x->key[kind] != y->key[kind])
                        return x->key[kind] < y->key[kind] ? -1 : 1;
        return (x->order > y->order) - (x->order < y->order);
}

/* The one it is born with comes first, its own last; a child that shares nothing may come at any time. */
static void set_keys(const struct restore_task *t, struct child *children, size_t n,
                     enum restore_share kind) {
        const struct restore_sharing *s = &t->share[kind];
        int32_t next = 1;

        for (size_t i = 0; i < n; i++) {
                uint32_t wanted = children[i].task->share[kind].born;

                if (wanted != 0 && wanted == s->born)
                        children[i].key[kind] = 0;
                else if (wanted == 0 || wanted == s->own)
                        children[i].key[kind] = KEY_LAST;
                else {
                        for (size_t j = 0; j < i && children[i].key[kind] == 0; j++)
                                if (children[j].task->share[kind].born == wanted)
                                        children[i].key[kind] = children[j].key[kind];
                        if (children[i].key[kind] == 0)
                                children[i].key[kind] = next++;
                }
        }
}

/* The children are in order: where the cloner has to leave behind what it has. */
static int place_unshares(struct restore_task *t, const struct child *children, size_t n,
                          enum restore_share kind, struct ckpt_error *err) {
        struct restore_sharing *s = &t->share[kind];
        uint32_t now = s->born;

        for (size_t i = 0; i < n; i++) {
                struct restore_sharing *c = &children[i].task->share[kind];

                if (c->born == 0 || c->born == now)
                        continue;
                /* What has been left behind cannot be had again. */
                if (now != 0 && now == s->own)
                        return refuse(children[i].task, kind, err);
                for (size_t j = 0; j < i; j++)
                        if (children[j].task->share[kind].born == c->born)
                                return refuse(children[i].task, kind, err);
                c->cloner_unshares = now != 0;
                now = c->born;
        }
        s->unshares_last = now != s->own && now != 0;
        return 0;
}

static int order_children(struct restore *r, struct restore_task *t, struct child *children,
                          struct ckpt_error *err) {
        size_t n = 0;
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                if (cloner_of(r->tasks[i]) == t)
                        children[n++] = (struct child){ .task = r->tasks[i],
                                                        .after = r->tasks[i]->step != TREE_STEP_BEFORE,
                                                        .order = i };
        for (int kind = 0; kind < RESTORE_SHARE_MAX; kind++)
                set_keys(t, children, n, kind);
        qsort(children, n, sizeof(*children), compare_children);
        for (size_t i = 0; i < n; i++)
                children[i].task->clone_rank = i;
        for (int kind = 0; ret == 0 && kind < RESTORE_SHARE_MAX; kind++)
                ret = place_unshares(t, children, n, kind, err);
        return ret;
}

int plan_sharing(struct restore *r, struct ckpt_error *err) {
        _cleanup_free_ struct child *children = NULL;
        bool any = false;
        int ret = 0;

        for (int kind = 0; ret == 0 && kind < RESTORE_SHARE_MAX; kind++)
                ret = mark_groups(r, kind, &any, err);
        if (ret < 0 || !any)
                return ret;
        children = calloc(r->nr_tasks, sizeof(*children));
        ckpt_assert(children);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                ret = order_children(r, r->tasks[i], children, err);
        return ret;
}
