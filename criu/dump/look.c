/* SPDX-License-Identifier: GPL-2.0-only */
/* What stands against a dump; nothing is stopped for it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/facts.h"
#include "dump/stages.h"
#include "fd/fd.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc.h"
#include "ns/time.h"
#include "sock/sock.h"
#include "task/facts.h"
#include "task/hidden.h"
#include "task/kind.h"

enum { THREADS_PART = 64 };

struct namespace_row {
        enum proc_ns ns;
        const char *text;
        bool per_thread; /* the kernel lets a thread of several have its own */
};

/* Later issues carry these over; until then a tree shares all of them with ckpt. Not here: IPC and time. */
static const struct namespace_row namespace_rows[] = {
        { PROC_NS_MNT, "mount", false },    { PROC_NS_NET, "network", true },
        { PROC_NS_PID, "pid", false },      { PROC_NS_PID_FOR_CHILDREN, "pid", true },
        { PROC_NS_USER, "user", false },    { PROC_NS_UTS, "UTS", true },
        { PROC_NS_CGROUP, "cgroup", true },
};

static int read_own_namespaces(struct dump *d, struct proc_ns_set *ret, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r;

        r = proc_open(getpid(), &self);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read /proc/self");
        proc_ns_read(&self, self.pid, PROC_NS_ALL, ret);
        if (!d->held_ns)
                d->held_ns = proc_ns_hold(&self);
        return 0;
}

/* Which row is another namespace than ckpt's, from number `from` on; the number of rows: none. */
static size_t foreign_row(const struct proc_ns_set *theirs, const struct proc_ns_set *own, size_t from) {
        for (size_t i = from; i < ELEMENTSOF(namespace_rows); i++) {
                enum proc_ns ns = namespace_rows[i].ns;

                if (own->ino[ns] != 0 && theirs->ino[ns] != 0 && own->ino[ns] != theirs->ino[ns])
                        return i;
        }
        return ELEMENTSOF(namespace_rows);
}

/* Those that a thread of several can have for itself. */
static unsigned int namespaces_of_threads(void) {
        unsigned int which = 1U << PROC_NS_IPC;

        for (size_t i = 0; i < ELEMENTSOF(namespace_rows); i++)
                if (namespace_rows[i].per_thread)
                        which |= 1U << namespace_rows[i].ns;
        return which;
}

static void read_namespaces(struct dump_task *t, const struct process_fact *fact,
                            const struct proc_ns_set *own, struct proc_ns_set *ret) {
        if (fact && fact->same_namespaces)
                *ret = *own;
        else
                proc_ns_read(dump_living(t), dump_living(t)->pid, PROC_NS_ALL, ret);
}

static void look_namespaces(struct dump_task *t, const struct proc_ns_set *own) {
        for (size_t i = 0; (i = foreign_row(&t->ns, own, i)) < ELEMENTSOF(namespace_rows); i++)
                blocker_add(t->dump->blockers, "Run ckpt in the same namespaces as the tree",
                            "%s is in another %s namespace than ckpt, which is not supported yet",
                            dump_task_name(t), namespace_rows[i].text);
}

/* Some threads of a process, which the worker looks at. The task is not its own, so it only says whether they are odd. */
struct threads_part {
        struct threads_part *next;
        struct dump_task *task;
        struct proc_dir proc; /* as it was then; not owned */
        const struct proc_ns_set *own;
        size_t from, to;
        bool odd;
};

/*
 * Is a thread that is not the leader, whose are known, in other namespaces? Adds blockers, if `name` it. `process`: see
 * proc_ns_read().
 */
static bool look_thread(struct dump_task *t, const struct proc_dir *process, pid_t tid,
                        const struct proc_ns_set *own, bool name) {
        ino_t ipc = t->ns.ino[PROC_NS_IPC];
        struct proc_ns_set theirs;
        bool odd = false;

        proc_ns_read(process, tid, namespaces_of_threads(), &theirs);
        for (size_t k = 0; (k = foreign_row(&theirs, own, k)) < ELEMENTSOF(namespace_rows); k++) {
                odd = true;
                if (name)
                        blocker_add(t->dump->blockers, NULL,
                                    "%s: thread %d is in another %s namespace than ckpt, which is "
                                    "not supported yet",
                                    dump_task_name(t), tid, namespace_rows[k].text);
        }
        if (ipc == 0 || theirs.ino[PROC_NS_IPC] == 0 || theirs.ino[PROC_NS_IPC] == ipc)
                return odd;
        if (name)
                blocker_add(t->dump->blockers, NULL,
                            "%s: thread %d is in another IPC namespace than its process, which is "
                            "not supported",
                            dump_task_name(t), tid);
        return true;
}

static bool look_threads(const struct threads_part *p, bool name) {
        bool odd = false;

        for (size_t i = p->from; i < p->to; i++)
                if (p->task->tids.v[i] != p->task->pid)
                        odd |= look_thread(p->task, &p->proc, p->task->tids.v[i], p->own, name);
        return odd;
}

/* Are they known to be in the namespaces of the leader, which are looked at? */
static bool is_known_part(struct dump_task *t, size_t from) {
        pid_t living = dump_living(t)->pid;

        for (size_t i = from; i < t->tids.n && i < from + THREADS_PART; i++)
                if (t->tids.v[i] != living && !task_facts_same_namespaces(t, t->tids.v[i], living))
                        return false;
        return true;
}

static int look_threads_part(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct threads_part *p = arg;

        p->odd = look_threads(p, false);
        return 0;
}

static int add_threads_part(struct dump_task *t, const struct proc_ns_set *own, size_t from,
                            struct threads_part **parts) {
        struct threads_part *p = calloc(1, sizeof(*p));
        size_t n = dump_tids(t)->n;

        ckpt_assert(p);
        *p = (struct threads_part){ .next = *parts, .task = t, .proc = t->proc, .own = own, .from = from };
        p->to = MIN(from + THREADS_PART, n);
        *parts = p;
        return pool_add(t->dump->aside, look_threads_part, p);
}

/* When the pool is done. */
static void finish_threads_parts(struct threads_part **parts) {
        while (*parts) {
                struct threads_part *p = *parts;

                if (p->odd)
                        look_threads(p, true);
                *parts = p->next;
                free(p);
        }
}

/* Once frozen, it is traced by ckpt itself. */
static void look_tracer(struct dump_task *t, const struct proc_status *status) {
        if (status->tracer_pid > 0 && !t->frozen)
                blocker_add(t->dump->blockers, "End the debugger or strace first",
                            "%s is traced by pid %d, and a task has one tracer at most", dump_task_name(t),
                            status->tracer_pid);
}

/* A parent that is told of its child's end in an unusual way. */
static void look_exit_signal(struct dump_task *t) {
        if (t->parent && t->stat.exit_signal != 17)
                blocker_add(
                        t->dump->blockers, "Try again when it has ended, or end it",
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

        fd_look(t);
        mem_look(t);
        return 0;
}

static int look_task(struct dump_task *t, const struct proc_ns_set *own, struct threads_part **parts,
                     struct ckpt_error *err) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        pid_vec_done(&t->tids);
        r = proc_status_read(&t->proc, &buf, &status);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its status", dump_task_name(t));
        /* A dead leader's /proc entry is that of a zombie, though other threads live on. */
        if (t->stat.state == 'Z' && t->stat.num_threads <= 1)
                return 0;
        t->seen_status = &status;
        t->resident = status.vm_rss;
        t->page_tables = status.vm_pte;
        tree_find_living(t);
        task_facts_look(t);
        mem_look_ahead(t);
        /* First of all what its threads do: from then on it is known whether anything can have changed. */
        task_look(t);
        read_namespaces(t, dump_fact_seen(t), own, &t->ns);
        look_namespaces(t, own);
        for (size_t i = 0; r == 0 && dump_tids(t)->n > 1 && i < t->tids.n; i += THREADS_PART)
                if (!is_known_part(t, i))
                        r = add_threads_part(t, own, i, parts);
        thread_fact_vec_done(&t->facts); /* once it is frozen, others count */
        time_look(t);
        ipc_look(t);
        look_tracer(t, &status);
        look_sharing(t);
        look_exit_signal(t);
        look_killable(t);
        t->seen_status = NULL;
        if (r < 0 || pool_add(t->dump->aside, look_rest, t) < 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot look at %s", dump_task_name(t));
        return 0;
}

int look_tasks(struct dump *d, struct ckpt_error *err) {
        struct threads_part *parts = NULL;
        struct proc_ns_set own;
        int r, waited;

        dump_facts_look(d);
        mem_look_init(d);
        fd_look_init(d);
        r = read_own_namespaces(d, &own, err);
        if (r < 0)
                return r;
        r = fault_point_error(FAULT_DUMP_LOOK, err);
        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                if (!d->tasks[i]->looked_at) {
                        r = look_task(d->tasks[i], &own, &parts, err);
                        d->tasks[i]->looked_at = true;
                }
        waited = pool_join(d->aside, err);
        finish_threads_parts(&parts);
        mem_look_tree(d);
        sock_look_tree(d);
        hidden_look_tree(d);
        return r < 0 ? r : waited;
}

static void look_threads_again(struct dump_task *t, const struct proc_ns_set *own) {
        pid_t living = dump_living(t)->pid;

        task_facts_read(t);
        for (size_t i = 0; i < t->nr_threads; i++) {
                struct dump_thread *th = &t->threads[i];
                const struct proc_dir *dir = &t->proc;

                if (th->tid == living || task_facts_same_namespaces(t, th->tid, living))
                        continue;
                if (t->leader_dead)
                        (void)dump_thread_proc(th, &dir);
                look_thread(t, dir, th->tid, own, true);
        }
        thread_fact_vec_done(&t->facts); /* those of the visits count */
}

/*
 * Who has left its namespaces since would come back in those that it had, and without what belongs to the others. That a
 * thread is where it was, in the same system call, does not say that it has stayed there.
 */
int look_namespaces_again(struct dump *d, struct ckpt_error *err) {
        struct proc_ns_set own;
        int r = read_own_namespaces(d, &own, err);

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];
                struct proc_ns_set now;

                if (t->nr_threads == 0)
                        continue;
                read_namespaces(t, t->fact, &own, &now);
                if (memcmp(&now, &t->ns, sizeof(now)) != 0) {
                        t->ns = now;
                        look_namespaces(t, &own);
                        time_look(t);
                        ipc_look(t);
                }
                if (t->nr_threads > 1)
                        look_threads_again(t, &own);
        }
        return r;
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
