/* SPDX-License-Identifier: GPL-2.0-only */
#include "ns/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc_internal.h"
#include "proc/stat.h"

/* ---- who is in the namespace ---- */

static int read_own_inode(ino_t *ret) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r = proc_open(getpid(), &self);

        return r < 0 ? r : proc_ns_inode(&self, "ipc", ret);
}

static bool has_thread_inside(const struct proc_dir *dir, ino_t ino) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };

        if (proc_tids(dir, &tids) < 0)
                return false;
        for (size_t i = 0; i < tids.n; i++) {
                _cleanup_proc_dir_ struct proc_dir thread = PROC_DIR_INIT;
                ino_t theirs;

                if (proc_open_thread(dir, tids.v[i], &thread) == 0 &&
                    proc_ns_inode(&thread, "ipc", &theirs) == 0 && theirs == ino)
                        return true;
        }
        return false;
}

enum { OUTSIDERS_NAMED = 5 };

static void look_outsider(struct dump *d, pid_t pid, size_t *nr, struct blockers *b) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        if (proc_open(pid, &dir) < 0 || !has_thread_inside(&dir, d->ipc->ino) || dump_is_below(d, pid) ||
            proc_stat_read(&dir, &buf, &stat) < 0)
                return;
        /* In the namespace of the whole machine there may be thousands. */
        if ((*nr)++ >= OUTSIDERS_NAMED)
                return;
        blocker_add(
                b, "End it first, or start the tree under unshare --ipc of its own",
                "pid %d (%s) does not belong to the tree but is in its IPC namespace, which can be carried "
                "over only as a whole",
                pid, stat.comm);
}

static void look_outsiders(struct dump *d, struct blockers *b) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };
        size_t nr = 0;
        int r = proc_pids(&pids);

        if (r < 0)
                blocker_add(b, NULL, "who else is in the IPC namespace of the tree cannot be found out (%s)",
                            strerror(-r));
        for (size_t i = 0; i < pids.n; i++)
                if (pids.v[i] != getpid() && !dump_find_task(d, pids.v[i]))
                        look_outsider(d, pids.v[i], &nr, b);
        if (nr > OUTSIDERS_NAMED)
                blocker_add(b, NULL, "%zu more processes are in the IPC namespace of the tree",
                            nr - OUTSIDERS_NAMED);
}

/* ---- entering it ---- */

static struct dump_ipc *dump_ipc_of(struct dump *d) {
        if (!d->ipc) {
                d->ipc = calloc(1, sizeof(*d->ipc));
                ckpt_assert(d->ipc);
                d->ipc->home = d->ipc->there = -EBADF;
                pthread_mutex_init(&d->ipc->asking, NULL);
        }
        return d->ipc;
}

/* While ckpt is in the namespace of the tree. */
struct visit {
        const struct dump_ipc *ipc; /* NULL: it is not */
};

static void end_visit(struct visit *v) {
        if (v->ipc)
                ckpt_assert(setns(v->ipc->home, CLONE_NEWIPC) == 0);
}

static int open_namespaces(struct dump *d) {
        struct dump_ipc *ipc = d->ipc;

        if (ipc->home < 0)
                ipc->home = open("/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC);
        if (ipc->home < 0)
                return -errno;
        if (ipc->there < 0 && ipc->own)
                ipc->there = proc_openat(dump_living(d->tasks[0]), "ns/ipc", O_RDONLY);
        return ipc->there < 0 && ipc->own ? ipc->there : 0;
}

static int begin_visit(struct dump *d, struct visit *ret) {
        int r = open_namespaces(d);

        if (r == 0 && setns(d->ipc->own ? d->ipc->there : d->ipc->home, CLONE_NEWIPC) < 0)
                r = -errno;
        if (r == 0)
                ret->ipc = d->ipc;
        return r;
}

/* ---- dump ---- */

static void look_root(struct dump *d, ino_t theirs) {
        _cleanup_(end_visit) struct visit v = { 0 };
        ino_t own;
        int r;

        r = read_own_inode(&own);
        if (r < 0)
                return blocker_add(d->blockers, NULL, "ckpt cannot find out its own IPC namespace (%s)",
                                   strerror(-r));
        dump_ipc_of(d)->ino = theirs;
        d->ipc->own = own != theirs;
        if (!d->ipc->own)
                return;
        look_outsiders(d, d->blockers);
        r = begin_visit(d, &v);
        if (r < 0)
                return blocker_add(d->blockers, "Run ckpt as root",
                                   "the IPC namespace of %s cannot be entered (%s)",
                                   dump_task_name(d->tasks[0]), strerror(-r));
        ipc_mqueue_look(d->blockers);
        ipc_shm_look(d, d->blockers);
}

void ipc_look(struct dump_task *t) {
        struct dump *d = t->dump;
        ino_t theirs = t->ns.ino[PROC_NS_IPC];

        if (theirs == 0)
                return; /* it is gone, or dead */
        if (t == d->tasks[0])
                return look_root(d, theirs);
        if (d->ipc && theirs != d->ipc->ino)
                blocker_add(
                        d->blockers, "Start the whole tree in one IPC namespace",
                        "%s is in another IPC namespace than the root of the tree, which is not supported",
                        dump_task_name(t));
}

/* What may have come between the look and the freeze. */
static int check_again(struct dump *d, struct ckpt_error *err) {
        struct blockers *b = blockers_new();
        int r;

        look_outsiders(d, b);
        ipc_mqueue_look(b);
        ipc_shm_look(d, b);
        r = blockers_to_error(b, "the tree runs on as before", err);
        blockers_free(&b);
        return r;
}

int ipc_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_(end_visit) struct visit v = { 0 };
        int r;

        if (!ipc_is_own(d))
                return 0;
        r = begin_visit(d, &v);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot enter the IPC namespace of %s; the tree runs on",
                                        dump_task_name(d->tasks[0]));
        r = check_again(d, err);
        if (r == 0)
                r = ipc_var_save(d, err);
        if (r == 0)
                r = ipc_sem_save(d, err);
        if (r == 0)
                r = ipc_msg_save(d, err);
        return r < 0 ? r : ipc_shm_save(d, err);
}

const struct ipc_sem_list *ipc_list_sems(struct dump *d) {
        _cleanup_(end_visit) struct visit v = { 0 };

        if (dump_ipc_of(d)->sems_listed)
                return &d->ipc->sems;
        /* Also into its own: entering one drops the list of adjustments. What fails here fails in ipc_save(). */
        if (begin_visit(d, &v) == 0 || !d->ipc->own)
                ipc_sem_list(d, &d->ipc->sems);
        d->ipc->sems_listed = true;
        return &d->ipc->sems;
}

void ipc_ask_last(struct dump *d) {
        struct visit v = { 0 };

        pthread_mutex_lock(&d->ipc->asking);
        if (begin_visit(d, &v) == 0)
                ipc_sem_ask_last(d, &d->ipc->sems);
        end_visit(&v);
        pthread_mutex_unlock(&d->ipc->asking);
}

void ipc_dump_free(struct dump *d) {
        if (!d->ipc)
                return;
        safe_close(d->ipc->home);
        safe_close(d->ipc->there);
        arena_done(&d->ipc->arena);
        pthread_mutex_destroy(&d->ipc->asking);
        free(d->ipc);
        d->ipc = NULL;
}

Img__IpcDesc *ipc_describe(struct dump *d, const struct ipc_perm *perm, int id) {
        Img__IpcDesc *desc = arena_message(&d->ipc->arena, Img__IpcDesc, img__ipc_desc__init);

        desc->key = (uint32_t)perm->__key;
        desc->uid = perm->uid;
        desc->gid = perm->gid;
        desc->cuid = perm->cuid;
        desc->cgid = perm->cgid;
        desc->mode = perm->mode;
        desc->id = (uint32_t)id;
        return desc;
}

/* ---- load ---- */

int ipc_check_desc(const struct image_file *file, const Img__IpcDesc *desc, uint32_t mode_mask,
                   struct ckpt_error *err) {
        const uint32_t none = UINT32_MAX; /* means "leave it" to setresuid(2) */

        if (desc->id > INT32_MAX)
                return image_damaged(file, err, "%u is no id of a System V object", desc->id);
        if (desc->mode & ~mode_mask)
                return image_damaged(file, err, "id %u has the impossible mode %#o", desc->id, desc->mode);
        if (desc->uid == none || desc->gid == none || desc->cuid == none || desc->cgid == none)
                return image_damaged(file, err, "id %u belongs to nobody", desc->id);
        return 0;
}

/* The namespace of the tree, by its number in the images; 0: ckpt's, or the images say nothing. */
static int tree_namespace(struct restore *r, uint32_t *ret, struct ckpt_error *err) {
        const Img__TaskKobjIds *root = image_dir_inventory(r->dir)->root_ids;
        const Img__TaskKobjIds *first = r->tasks[0]->ids;

        *ret = 0;
        if (!root || !root->has_ipc_ns_id || !first->has_ipc_ns_id)
                return 0;
        for (size_t i = 1; i < r->nr_tasks; i++)
                if (r->tasks[i]->ids &&
                    (!r->tasks[i]->ids->has_ipc_ns_id || r->tasks[i]->ids->ipc_ns_id != first->ipc_ns_id))
                        return ckpt_error(
                                err, -ENOTSUP,
                                "%s is in another IPC namespace than the root of the tree in these "
                                "images, which is not supported; nothing was created",
                                restore_task_name(r->tasks[i]));
        if (first->ipc_ns_id != root->ipc_ns_id)
                *ret = first->ipc_ns_id;
        return 0;
}

int ipc_load(struct restore *r, struct ckpt_error *err) {
        uint32_t id;
        int ret;

        ret = tree_namespace(r, &id, err);
        if (ret == 0 && id != 0) {
                r->ipc = calloc(1, sizeof(*r->ipc));
                ckpt_assert(r->ipc);
                r->ipc->id = id;
                r->ipc->home = -EBADF;
                ret = ipc_var_load(r, err);
                if (ret == 0)
                        ret = ipc_shm_load(r, err);
                if (ret == 0)
                        ret = ipc_sem_load(r, err);
                if (ret == 0)
                        ret = ipc_msg_load(r, err);
        }
        if (ret == 0)
                ret = ipc_sem_check_undos(r, err);
        return ret < 0 ? ret : mem_check_segments(r, err);
}

void ipc_restore_free(struct restore *r) {
        struct restore_ipc *ipc = r->ipc;

        if (!ipc)
                return;
        ipc_shm_free(ipc);
        ipc_sem_free(ipc);
        ipc_msg_free(ipc);
        if (ipc->var)
                img__ipc_var__free_unpacked(ipc->var, NULL);
        safe_close(ipc->home);
        free(ipc);
        r->ipc = NULL;
}

/* ---- restore ---- */

void ipc_owner(const Img__IpcDesc *desc, struct ipc_perm *ret) {
        ret->uid = desc->uid;
        ret->gid = desc->gid;
        ret->mode = desc->mode & IPC_MODE_MASK;
}

/* Only this thread changes its ids (the system call, not glibc's function). */
static int set_effective(uid_t uid, gid_t gid, bool uid_first) {
        if (uid_first && syscall(SYS_setresuid, -1, uid, -1) < 0)
                return -errno;
        if (syscall(SYS_setresgid, -1, gid, -1) < 0)
                return -errno;
        return uid_first || syscall(SYS_setresuid, -1, uid, -1) == 0 ? 0 : -errno;
}

/* The creator of an object is who had these effective ids then, for ever. */
static int make_as(const Img__IpcDesc *desc, int (*make)(void *arg), void *arg) {
        uid_t uid = geteuid();
        gid_t gid = getegid();
        int r, dumpable;

        if (desc->cuid == uid && desc->cgid == gid)
                return make(arg) < 0 ? -errno : 0;
        dumpable = prctl(PR_GET_DUMPABLE);
        r = set_effective(desc->cuid, desc->cgid, false);
        if (r == 0 && make(arg) < 0)
                r = -errno;
        if (set_effective(uid, gid, true) < 0)
                return -EPERM;
        if (dumpable == 0 || dumpable == 1)
                prctl(PR_SET_DUMPABLE, dumpable);
        return r;
}

int ipc_make(const Img__IpcDesc *desc, const char *next_id, const char *what, int (*make)(void *arg),
             void *arg, struct ckpt_error *err) {
        int r = ipc_var_next_id(next_id, desc->id);

        if (r < 0) {
                ckpt_error_errno(err, r, "cannot choose the id of a System V object; nothing was restored");
                return ckpt_error_hint(
                        err,
                        "ckpt needs CAP_CHECKPOINT_RESTORE, and a kernel with CONFIG_CHECKPOINT_RESTORE");
        }
        r = make_as(desc, make, arg);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot create the %s with id %u; nothing was restored",
                                        what, desc->id);
        return 0;
}

int ipc_enter(struct restore *r, struct ckpt_error *err) {
        int ret;

        if (!r->ipc)
                return 0;
        r->ipc->home = open("/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC);
        if (r->ipc->home < 0 || unshare(CLONE_NEWIPC) < 0) {
                ckpt_error_errno(err, -errno,
                                 "cannot create an IPC namespace for the tree; nothing was created");
                return ckpt_error_hint(err, "ckpt needs CAP_SYS_ADMIN, and a kernel with CONFIG_IPC_NS");
        }
        ret = ipc_var_raise(r->ipc, err);
        if (ret == 0)
                ret = ipc_shm_make(r, err);
        if (ret == 0)
                ret = ipc_sem_make(r, err);
        if (ret == 0)
                ret = ipc_msg_make(r, err);
        return ret < 0 ? ret : ipc_var_restore(r->ipc, err);
}

int ipc_leave(struct restore *r, struct ckpt_error *err) {
        if (!r->ipc)
                return 0;
        ipc_shm_detach(r->ipc);
        if (setns(r->ipc->home, CLONE_NEWIPC) < 0)
                return ckpt_error_errno(err, -errno, "cannot go back to ckpt's own IPC namespace");
        return 0;
}
