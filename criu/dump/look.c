/* SPDX-License-Identifier: GPL-2.0-only */
/* What stands against a dump; nothing is stopped for it. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "fd/fd.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc.h"
#include "ns/time.h"
#include "sock/sock.h"
#include "task/kind.h"

struct namespace_row {
        const char *name; /* below /proc/PID/ns */
        const char *text;
        bool per_thread; /* the kernel lets a thread of several have its own */
};

/* Later issues carry these over; until then a tree shares all of them with ckpt. Not here: IPC and time. */
static const struct namespace_row namespace_rows[] = {
        { "mnt", "mount", false },           { "net", "network", true }, { "pid", "pid", false },
        { "pid_for_children", "pid", true }, { "user", "user", false },  { "uts", "UTS", true },
        { "cgroup", "cgroup", true },
};

/* ckpt's own, in the order of the table; 0: this kernel has no such namespace. */
struct own_namespaces {
        ino_t ino[ELEMENTSOF(namespace_rows)];
};

static int read_own_namespaces(struct own_namespaces *ret, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r;

        *ret = (struct own_namespaces){ 0 };
        r = proc_open(getpid(), &self);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read /proc/self");
        for (size_t i = 0; i < ELEMENTSOF(namespace_rows); i++)
                if (proc_ns_inode(&self, namespace_rows[i].name, &ret->ino[i]) < 0)
                        ret->ino[i] = 0;
        return 0;
}

static void look_namespaces(struct dump_task *t, const struct proc_dir *dir, bool thread,
                            const struct own_namespaces *own) {
        for (size_t i = 0; i < ELEMENTSOF(namespace_rows); i++) {
                const struct namespace_row *row = &namespace_rows[i];
                ino_t theirs;

                if (own->ino[i] == 0 || (thread && !row->per_thread) ||
                    proc_ns_inode(dir, row->name, &theirs) < 0 || own->ino[i] == theirs)
                        continue;
                if (thread)
                        blocker_add(
                                t->dump->blockers, NULL,
                                "%s: thread %d is in another %s namespace than ckpt, which is not supported yet",
                                dump_task_name(t), dir->pid, row->text);
                else
                        blocker_add(t->dump->blockers, "Run ckpt in the same namespaces as the tree",
                                    "%s is in another %s namespace than ckpt, which is not supported yet",
                                    dump_task_name(t), row->text);
        }
}

static void look_thread_namespaces(struct dump_task *t, const struct own_namespaces *own) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };

        if (proc_tids(&t->proc, &tids) < 0)
                return;
        for (size_t i = 0; i < tids.n; i++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

                if (tids.v[i] != t->pid && proc_open_thread(&t->proc, tids.v[i], &dir) == 0)
                        look_namespaces(t, &dir, true, own);
        }
}

static void look_tracer(struct dump_task *t, const struct proc_status *status) {
        if (status->tracer_pid > 0)
                blocker_add(t->dump->blockers, "End the debugger or strace first",
                            "%s is traced by pid %d, and a task has one tracer at most", dump_task_name(t),
                            status->tracer_pid);
}

/* A parent that is told of its child's end in an unusual way. */
static void look_exit_signal(struct dump_task *t) {
        if (t->parent && t->stat.exit_signal != 17)
                blocker_add(
                        t->dump->blockers, NULL,
                        "%s was cloned with exit signal %d instead of SIGCHLD, which is not supported yet",
                        dump_task_name(t), t->stat.exit_signal);
}

/* Signal 0 asks for the permission to send SIGKILL. */
static void look_killable(struct dump_task *t) {
        if (!t->dump->opts->leave_running && kill(t->pid, 0) < 0 && errno == EPERM)
                blocker_add(t->dump->blockers, "Use -R/--leave-running, or run ckpt with CAP_KILL",
                            "%s belongs to another user, and ckpt may not end it after the dump",
                            dump_task_name(t));
}

/* In the worker, or in the main thread when that has nothing else to do. */
static int look_rest(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct dump_task *t = arg;

        mem_look(t);
        fd_look(t);
        return 0;
}

static int look_task(struct dump_task *t, const struct own_namespaces *own, struct ckpt_error *err) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        r = proc_status_read(&t->proc, &buf, &status);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its status", dump_task_name(t));
        /* A dead leader's /proc entry is that of a zombie, though other threads live on. */
        if (t->stat.state == 'Z' && t->stat.num_threads <= 1)
                return 0;
        tree_find_living(t);
        look_namespaces(t, dump_living(t), false, own);
        look_thread_namespaces(t, own);
        time_look(t);
        ipc_look(t);
        look_tracer(t, &status);
        look_sharing(t);
        look_exit_signal(t);
        look_killable(t);
        task_look(t);
        if (pool_add(t->dump->aside, look_rest, t) < 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot look at %s", dump_task_name(t));
        return 0;
}

int look_tasks(struct dump *d, struct ckpt_error *err) {
        struct own_namespaces own;
        int r, waited;

        mem_look_init(d);
        fd_look_init(d);
        r = read_own_namespaces(&own, err);
        if (r < 0)
                return r;
        r = fault_point_error(FAULT_DUMP_LOOK, err);
        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                if (!d->tasks[i]->looked_at) {
                        r = look_task(d->tasks[i], &own, err);
                        d->tasks[i]->looked_at = true;
                }
        waited = pool_join(d->aside, err);
        mem_look_tree(d);
        sock_look_tree(d);
        return r < 0 ? r : waited;
}

int look_again(struct dump *d, struct ckpt_error *err) {
        blockers_free(&d->blockers);
        d->blockers = blockers_new();
        for (size_t i = 0; i < d->nr_tasks; i++) {
                mem_dump_free(&d->tasks[i]->mem);
                d->tasks[i]->looked_at = false;
        }
        return look_tasks(d, err);
}

static bool is_in_tree(const struct dump *d, pid_t pid) {
        return dump_find_task(d, pid) != NULL;
}

/* Does a process outside the tree belong to this session or group? */
static bool used_outside(const struct dump *d, pid_t sid, pid_t pgid) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        if (proc_pids(&pids) < 0)
                return true;
        for (size_t i = 0; i < pids.n; i++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                struct proc_stat stat;

                if (is_in_tree(d, pids.v[i]) || proc_open(pids.v[i], &dir) < 0 ||
                    proc_stat_read(&dir, &buf, &stat) < 0)
                        continue;
                if (stat.sid == sid || stat.pgid == pgid)
                        return true;
        }
        return false;
}

/*
 * A session or group whose leader has died comes back by a helper that leads it for a moment; that takes its
 * number, so nobody outside may still be in it. With --shell-job the root's are replaced by ckpt's own on restore.
 */
void look_sessions(struct dump *d) {
        const struct proc_stat *root = &d->tasks[0]->stat;

        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];
                bool foreign_sid = !is_in_tree(d, t->stat.sid), foreign_pgid = !is_in_tree(d, t->stat.pgid);

                if (d->opts->shell_job && t->stat.sid == root->sid)
                        foreign_sid = false;
                if (d->opts->shell_job && t->stat.pgid == root->pgid)
                        foreign_pgid = false;
                if (foreign_sid && (t->stat.sid == 0 || used_outside(d, t->stat.sid, -1)))
                        blocker_add(
                                d->blockers,
                                "Use -j/--shell-job for a program started from a shell, or start it with setsid(1)",
                                "%s belongs to session %d, which is shared with processes outside the tree",
                                dump_task_name(t), t->stat.sid);
                else if (foreign_pgid && (t->stat.pgid == 0 || used_outside(d, -1, t->stat.pgid)))
                        blocker_add(
                                d->blockers,
                                "Use -j/--shell-job for a program started from a shell, or start it with setsid(1)",
                                "%s belongs to process group %d, which is shared with processes outside the tree",
                                dump_task_name(t), t->stat.pgid);
        }
}
