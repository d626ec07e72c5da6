/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tree being restored. The load stage fills it from the images and checks all of it, then the
 * stages of restore.c make it real. Only the main thread works on it, except that loading it, opening its files and
 * filling its memory use the pool, and that in the end threads of ckpt share what is to be traced.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/run.h"
#include "compel/compel.h"
#include "image/image.h"
#include "image/stats.h"
#include "images/core.pb-c.h"
#include "images/fs.pb-c.h"
#include "images/mm.pb-c.h"
#include "images/pstree.pb-c.h"
#include "kernel/probe.h"
#include "lib/arena.h"
#include "lib/pool.h"
#include "lib/team.h"

struct restore;
struct restore_task;
struct restore_clocks;  /* ns/time.c */
struct restore_ipc;     /* ns/ipc.c */
struct restore_mem;     /* mem/ */
struct restore_fds;     /* fd/: one per descriptor table */
struct restore_files;   /* fd/: all open files of the set */
struct restore_seccomp; /* task/: the seccomp filters of the tree */
struct task_self;       /* task/: what ckpt itself is and has */

enum restore_task_kind {
        RESTORE_TASK_LIVE,
        RESTORE_TASK_ZOMBIE,
        RESTORE_TASK_HELPER, /* not in the images: holds a session or process group open until others have joined */
};

/* What processes can share that is theirs alone after fork(2). */
enum restore_share {
        RESTORE_SHARE_FILES, /* the descriptor table */
        RESTORE_SHARE_FS,    /* working directory, root, umask */
        RESTORE_SHARE_MAX,
        RESTORE_SHARE_INVALID = -1,
};

/* How a task comes by it; restore/sharing.c decides. The numbers are ids of the images, 0: shared with nobody. */
struct restore_sharing {
        uint32_t own;         /* what it is to have in the end */
        uint32_t born;        /* what it is cloned with, which its cloner has then */
        bool cloner_unshares; /* just before it is cloned */
        bool unshares_last;   /* after its last child */
        uint32_t below;       /* while it is being decided */
};

struct restore_thread {
        struct restore_task *task;
        pid_t tid;
        Img__Core *core; /* owned */
        struct compel_batch lane;
        bool made;                 /* has had what is its own since it was cloned: task_fill_unborn() */
        struct compel_thread stop; /* in the finish stage */
};

struct restore_task {
        struct restore *restore;
        struct restore_task *parent; /* NULL for the root */
        enum restore_task_kind kind;
        pid_t pid, pgid, sid;
        unsigned int depth;  /* 0: the root */
        Img__Pstree *pstree; /* NULL for a helper; all messages are owned */
        Img__TaskKobjIds *ids;
        Img__Mm *mm;
        Img__Fs *fs;
        struct restore_thread *threads; /* the leader first, also a dead one */
        size_t nr_threads;
        bool leader_dead;
        /*
         * Whose memory it starts with a copy of: the parent's, or that of the leader of its session if only from
         * there it can be cloned; NULL: ckpt's.
         */
        struct restore_task *donor;
        unsigned int step;        /* enum tree_step */
        struct restore_task *via; /* who clones it, when it is not the parent */
        struct restore_sharing share[RESTORE_SHARE_MAX];
        size_t clone_rank;      /* among those of the same cloner, if the tree shares any of that */
        pid_t born_sid;         /* the session it is cloned into; it may make its own afterwards */
        int64_t seccomp_common; /* the last filter that all threads have in common; -1: none */
        bool cloned, filled, settled, threaded;
        bool ids_changed;    /* for a moment: not all of its credentials need be those of ckpt */
        bool has_children;   /* somebody's parent, or whoever clones somebody */
        bool fills_at_birth; /* its lane has the batch for its memory before it exists */
        bool makes_group;    /* a process group has its number, and it is no session leader */
        struct arena arena;
        struct restore_mem *mem;
        struct restore_fds *fds; /* shared by the tasks that share a table */
};

struct restore {
        struct ckpt_run *run;
        const struct ckpt_options *opts;
        struct kernel_features kernel;
        struct pool *pool;
        struct image_dir *dir;
        struct restore_task **tasks; /* parents before children */
        size_t nr_tasks;
        struct restore_files *files;
        struct restore_clocks *clocks;   /* ns/time.c; NULL: the images say nothing */
        struct restore_seccomp *seccomp; /* task/; NULL: no filters */
        struct restore_ipc *ipc;         /* ns/ipc.c; NULL: the tree shares ckpt's IPC namespace */
        struct compel_host *host;
        struct restore_stats stats;
        size_t xstate_size; /* of the area that ptrace(2) takes; 0: not known yet; atomic */
        struct team
                *tracers; /* in the finish stage of a large tree; NULL: the main thread traces it alone */
        pthread_mutex_t naming; /* around the arenas of tasks, by those who have to name them */
        struct arena arena;
        struct task_self *self; /* made by task/ when first needed; free(3) it */
        /*
         * Descriptors that every task inherits from ckpt while it is being built, numbered from
         * inherit_base on, which is above every descriptor of the images (restore/inherit.h).
         */
        int inherit_base, inherit_next;
        int transport;      /* ckpt's end of the socketpair over which descriptors reach a task */
        int transport_task; /* number of the other end in the tasks */
};

struct restore_task *restore_find_task(const struct restore *r, pid_t pid);

/* "pid 812 (redis-server)"; in the task's arena. From any thread that knows of no other use of it. */
const char *restore_task_name(struct restore_task *t);

static inline struct compel_batch *task_lane(struct restore_task *t) {
        return &t->threads[0].lane;
}

/*
 * Wait for the batch in that lane, if it has been started; one that could not be filled fails here. It is empty again
 * unless it failed.
 */
int lane_wait(struct restore_task *t, struct ckpt_error *err);
