/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tree being dumped. The stages (dump.c) fill it from top to bottom; what belongs to one room of
 * the house hangs off it as a pointer to that room's own structure.
 *
 * While the tree is looked at and collected, one worker (`aside`) does what memory and descriptors need of a task
 * that the main thread is done with; so mem/ and fd/ see one task at a time.
 *
 * Threads: `dump` belongs to the main thread. Whatever ptrace or the agent has a part in is done by the tracer in whose
 * hands the task or thread is (tracers.h), while the main thread waits. From the moment a task is handed to the pool (save
 * stage), that task is its worker's; what several tasks share (files, image set, statistics) has locks of its own.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/run.h"
#include "compel/compel.h"
#include "image/image.h"
#include "image/stats.h"
#include "images/core.pb-c.h"
#include "kernel/peek.h"
#include "kernel/probe.h"
#include "kernel/thread_facts.h"
#include "lib/arena.h"
#include "lib/kill_guard.h"
#include "lib/pool.h"
#include "proc/maps.h"
#include "proc/ns.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "proc/status.h"

/* What is read of the kernel's memory, each proved for itself. */
enum dump_peek_use {
        DUMP_PEEK_AIO,       /* AIO requests in flight */
        DUMP_PEEK_ERRORS,    /* of sockets, not told yet */
        DUMP_PEEK_MPTCP,     /* connections in MPTCP sockets */
        DUMP_PEEK_REUSEPORT, /* programs of SO_REUSEPORT groups */
        DUMP_PEEK_UNIX,      /* clients that wait to be accepted */
        DUMP_PEEK_QUEUES,    /* what queues of unix sockets consist of */
        DUMP_PEEK_USES_MAX,
        _DUMP_PEEK_USES_INVALID = -EINVAL,
};

struct dump;
struct dump_task;
struct dump_facts;   /* dump/facts.h */
struct process_fact; /* kernel/process_facts.h */
struct dump_mem;     /* mem/ */
struct dump_fds;     /* fd/: one per descriptor table */
struct dump_files;   /* fd/: all open files of the tree */
struct dump_ipc;     /* ns/ipc.c: the IPC namespace of the tree */
struct dump_clocks;  /* ns/time.c */
struct dump_socks;   /* sock/: connections, the network lock */
struct task_waits;   /* task/: what threads were waiting for before the freeze */
struct task_call;    /* task/: the system call that a thread was in before the freeze */
struct sem_undo;     /* task/: semaphores that a process changes by its end */
struct dump_seccomp; /* task/: the seccomp filters of the tree */
struct task_self;    /* task/: what ckpt itself is and has */
struct tracers;      /* tracers.h */
struct dump_hidden;  /* task/hidden.h */

struct dump_thread {
        struct dump_task *task;
        pid_t tid;
        struct compel_thread stop; /* while frozen */
        struct proc_dir own_proc;  /* by dump_thread_proc() */
        bool gone;                 /* it died while it was being stopped; to be removed */
        struct arena *arena;       /* while it is being collected: the task's, or one of its tracer's */
        struct proc_status status; /* read while frozen; cap_*, uids, sig_* */
        Img__Core *core;           /* core-TID.img: made by collect, filled by the task kinds; in `arena` */
};

struct dump_task {
        struct dump *dump;
        struct dump_task *parent; /* NULL for the root */
        pid_t parent_tid;         /* the thread of it that this is a child of; 0: the leader */
        pid_t pid;
        struct proc_dir proc;
        struct proc_dir other; /* of another thread, if the leader was dead when it was looked at */
        struct proc_stat stat;
        struct proc_ns_set ns;           /* look stage */
        const struct process_fact *fact; /* frozen: dump/facts.h; NULL: nothing is known */
        unsigned int
                alone; /* frozen: bits of enum process_part, which no other process of the tree shares */
        char state;    /* as proc_stat.state, before ckpt stopped it: Z zombie, T stopped, ... */
        struct dump_thread *threads; /* living ones; the leader first unless it has exited */
        size_t nr_threads;
        bool looked_at;          /* by the look stage */
        bool frozen;             /* all its threads are stopped */
        bool has_tracer;         /* tracers.h: the next two are decided */
        bool spread;             /* several tracers have its threads */
        unsigned int tracer;     /* the number of the one that has all of them */
        bool visit_later;        /* it may share memory with one that is being visited */
        bool leader_dead;        /* other threads live on; core of the leader is `leader_core` */
        unsigned int generation; /* of living descendants; when the tree is to be killed */
        bool has_dead;           /* zombies among its children, likewise */
        bool ignores_ends;       /* of its children; from then on it must be killed */
        Img__Core *leader_core;  /* of threads[0], or of a dead leader or zombie */
        Img__TaskKobjIds *ids;
        struct arena arena;
        struct proc_buf maps_buf; /* names of `smaps` */
        struct pid_vec tids;      /* look stage, by dump_tids() */
        uint64_t seen_areas; /* look stage, before the areas were read: thread_fact.areas; 0: not known */
        bool areas_ahead;    /* look stage: read by areas_offer, perhaps before the threads were looked at */
        struct pool_offer areas_offer; /* mem_look_ahead() */
        bool seen_sharing; /* look stage: all threads share a descriptor table and a working directory; false: not known */
        const struct proc_status
                *seen_status;    /* the leader's, while it is being looked at; NULL: not read */
        struct task_call *calls; /* look stage: of each of its threads; in the arena; NULL: not known */
        size_t nr_calls;
        uint64_t resident;          /* bytes of memory when it was looked at ... */
        uint64_t page_tables;       /* ... and of the tables that say where it is */
        struct proc_smap_vec smaps; /* look stage: flags of the areas; they may be stale after the freeze */
        bool filtered;              /* some thread is, or was, under seccomp: d->tracer traces it */
        int dumpable;               /* PR_GET_DUMPABLE, for mm-PID.img; by task_collect() */
        bool thp_disabled;          /* PR_GET_THP_DISABLE, likewise */
        uint64_t sig_pending; /* task/: of the process, when its timers were read; bit n - 1 is signal n */
        struct thread_fact_vec
                facts;             /* task/facts.h: of its threads, while they are collected; empty: none */
        struct sem_undo *sem_undo; /* in the arena; NULL: not asked for */
        struct task_waits *waits;  /* in the arena; NULL: none seen */
        struct dump_mem *mem;
        struct dump_fds *fds;
};

struct dump {
        struct ckpt_run *run;
        const struct ckpt_options *opts;
        struct kernel_features kernel;
        struct bpf *bpf;         /* the kernel's own objects; loads by need (kernel/bpf.h) */
        struct kill_guard guard; /* of the end of the tree; it is started first of all */
        struct pool *pool;
        struct pool *aside;   /* one worker, which takes part of each task's work off the main thread */
        unsigned int attempt; /* from 1 */
        int low_fd;           /* keeps a low number free for libnftables (sock/lock.h); -EBADF */
        bool checking;        /* for `ckpt check`: name what comes and goes, too, since nothing follows */
        bool may_retry;       /* it failed for what the next attempt may not meet */
        struct image_set *set;
        struct dump_task **tasks; /* parents before children; zombies included */
        size_t nr_tasks;
        struct proc_ns_held *held_ns;     /* those of ckpt, which are mostly also those of the tree */
        ino_t time_ns;                    /* of the root, when it was looked at */
        struct dump_clocks *clocks;       /* ns/time.c; by the look stage */
        struct dump_facts *process_facts; /* NULL: too few processes */
        struct dump_files *files;
        struct dump_socks *socks; /* NULL: no sockets */
        struct dump_ipc *ipc;     /* by the look stage */
        bool shares;              /* processes of the tree share descriptor tables or directories */
        bool trace_all; /* as if all were filtered: one is since it was looked at, or connections are to be read */
        struct compel_tracer *tracer; /* NULL: no task needs it */
        struct tracers *tracers;      /* NULL: the main thread traces all */
        struct dump_seccomp *seccomp; /* task/: the filters of all threads; NULL: none */
        struct blockers *blockers;
        struct dump_stats stats; /* fields counted by several threads: __atomic */
        struct dump_hidden *hidden;
        struct task_facts *facts; /* task/facts.h; NULL: no process has many threads */
        bool no_facts; /* they did not agree with what a thread told itself; atomic while there are tracers */
        struct task_self *self; /* made by task/ when first needed; free(3) it */
        pthread_mutex_t peek_lock;
        struct peek *peek; /* by dump_peek_for(), as the next two */
        bool peek_tried;
        struct {
                bool tried, proved;
        } peek_uses[DUMP_PEEK_USES_MAX];
};

/*
 * To read what only the kernel's memory shows (kernel/peek.h), for one use, of which `prove` has shown on an object of ckpt's
 * own that it works: asked the first time only, and `arg` is its own. NULL: it does not, or there is no BPF here, and what it would
 * show is not known. Callable from any thread.
 */
struct peek *dump_peek_for(struct dump *d, enum dump_peek_use use, bool (*prove)(struct peek *p, void *arg),
                           void *arg);

/*
 * Its threads as they were when it was first asked for, before the freeze; the leader, living or not, comes first. Empty:
 * they cannot be listed. In the thread that looks at the task.
 */
const struct pid_vec *dump_tids(struct dump_task *t);

/*
 * /proc/PID/task/TID, or /proc/PID of the leader; opened when it is first asked for, by who has the thread, and kept with it.
 * -ESRCH: it is gone.
 */
int dump_thread_proc(struct dump_thread *t, const struct proc_dir **ret);

/* The task with this pid, or NULL. */
struct dump_task *dump_find_task(const struct dump *d, pid_t pid);

/*
 * Is it in the tree, or a descendant of it that was born since the tree was read? Also true of what is gone by now, which
 * is nobody's problem; not of what lost its parent meanwhile to somebody outside. Rests on /proc/PID/stat.
 */
bool dump_is_below(const struct dump *d, pid_t pid);

/*
 * Where /proc shows what belongs to the process as a whole (files, memory, namespaces): behind a dead leader only under
 * the number of another thread. While the task is being looked at.
 */
static inline const struct proc_dir *dump_living(const struct dump_task *t) {
        return t->other.pid > 0 && t->other.fd >= 0 ? &t->other : &t->proc;
}

/* For messages: "pid 812 (redis-server)"; in the task's arena. */
const char *dump_task_name(struct dump_task *t);
