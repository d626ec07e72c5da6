/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Locks on files: POSIX locks belong to a descriptor table, those of flock(2) and open-file-description locks to a
 * description. A task takes them itself when its table is complete: closing any descriptor of a file
 * drops all POSIX locks on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "macro.h"

/* FileLock.flag: the kernel's FL_ constants. */
enum {
        WIRE_POSIX = 1,
        WIRE_FLOCK = 2,
        WIRE_OFD = 1024,
};

void lock_look(struct fd_probe *p, struct blockers *b) {
        if (p->fd < 0 || fd_probe_info(p) < 0)
                return;
        for (size_t i = 0; i < p->info.locks.n; i++) {
                const struct proc_lock *lock = &p->info.locks.v[i];

                switch (lock->type) {
                case PROC_LOCK_POSIX:
                case PROC_LOCK_OFD:
                case PROC_LOCK_FLOCK:
                        if (lock->mandatory ||
                            (lock->mode != PROC_LOCK_READ && lock->mode != PROC_LOCK_WRITE))
                                blocker_add(
                                        b, NULL,
                                        "%s (%s) has a lock of an unusual mode, which cannot be checkpointed",
                                        fd_probe_name(p), p->link);
                        break;
                case PROC_LOCK_LEASE:
                        blocker_add(b, NULL,
                                    "%s (%s) has a lease (F_SETLEASE), which cannot be checkpointed yet",
                                    fd_probe_name(p), p->link);
                        break;
                default:
                        blocker_add(b, NULL,
                                    "%s (%s) has a lock of a file server, which cannot be checkpointed",
                                    fd_probe_name(p), p->link);
                }
        }
}

/* Taking a POSIX or OFD lock takes a descriptor opened for that; fdinfo shows it with every one of the file. */
static bool can_take(uint32_t flags, const struct proc_lock *lock) {
        uint32_t mode = flags & O_ACCMODE;

        if (lock->type == PROC_LOCK_FLOCK || mode == O_RDWR)
                return true;
        return mode == (lock->mode == PROC_LOCK_READ ? O_RDONLY : O_WRONLY);
}

static bool same_lock(const struct proc_lock *a, const struct proc_lock *b) {
        return a->type == b->type && a->mode == b->mode && a->start == b->start && a->end == b->end;
}

static bool is_known(const struct dump_fds *fds, const struct dump_file *file, const struct proc_lock *lock,
                     bool takeable) {
        for (const struct dump_lock *l = fds->locks; l; l = l->next)
                if (l->takeable >= takeable && l->file->group == file->group && same_lock(&l->lock, lock))
                        return true;
        return false;
}

void lock_collect(struct dump_fds *fds, struct dump_file *file, const struct fd_probe *p) {
        bool first = !file->locks_collected;

        file->locks_collected = true;
        for (size_t i = 0; i < p->info.locks.n; i++) {
                const struct proc_lock *lock = &p->info.locks.v[i];
                bool takeable = can_take(p->info.flags, lock);
                struct dump_lock *l;

                /* All descriptors of a file show its table's POSIX locks; all of a description, in any task, the others. */
                if (lock->type == PROC_LOCK_POSIX ? is_known(fds, file, lock, takeable) : !first)
                        continue;
                l = arena_new(&fds->task->arena, struct dump_lock);
                *l = (struct dump_lock){ fds->locks, p->fd, takeable, file, *lock };
                fds->locks = l;
        }
}

static void fill(Img__FileLock *msg, const struct dump_fds *fds, const struct dump_lock *l) {
        img__file_lock__init(msg);
        msg->flag = l->lock.type == PROC_LOCK_POSIX ? WIRE_POSIX
                    : l->lock.type == PROC_LOCK_OFD ? WIRE_OFD
                                                    : WIRE_FLOCK;
        msg->type = l->lock.mode == PROC_LOCK_READ ? F_RDLCK : F_WRLCK;
        msg->pid = fds->task->pid;
        msg->fd = l->fd;
        msg->start = l->lock.start;
        msg->len = l->lock.end == INT64_MAX ? 0 : l->lock.end - l->lock.start + 1;
}

static int save_table(struct dump *d, const struct dump_fds *fds, struct image_file **image,
                      struct ckpt_error *err) {
        for (const struct dump_lock *l = fds->locks; l; l = l->next) {
                Img__FileLock msg;
                int r = 0;

                if (!l->takeable) {
                        if (is_known(fds, l->file, &l->lock, true))
                                continue;
                        return ckpt_error(err, -ENOTSUP,
                                          "%s: fd %d has a lock, but no descriptor to take it again with",
                                          dump_task_name(fds->task), l->fd);
                }
                if (!*image)
                        r = image_open_write(d->set, IMAGE_FILE_LOCKS, 0, image, err);
                fill(&msg, fds, l);
                if (r == 0)
                        r = image_write(*image, &msg.base, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int lock_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                if (d->tasks[i]->fds && !d->tasks[i]->fds->shared)
                        r = save_table(d, d->tasks[i]->fds, &image, err);
        return r < 0 || !image ? r : image_close(TAKE_PTR(image), err);
}

/* ---- restore ---- */

static bool makes_sense(const Img__FileLock *l) {
        if (l->flag != WIRE_POSIX && l->flag != WIRE_FLOCK && l->flag != WIRE_OFD)
                return false;
        return l->pid > 0 && l->fd >= 0 && l->start >= 0 && l->len >= 0 && l->len <= INT64_MAX - l->start &&
               (l->type == F_RDLCK || l->type == F_WRLCK);
}

static int take_lock(void *ctx, struct image_file *image, void **message, struct ckpt_error *err) {
        Img__FileLock *lock = *message;
        const struct restore_task *holder;
        struct restore *r = ctx;

        if (!makes_sense(lock))
                return image_damaged(image, err,
                                     "the lock of pid %d on fd %d (flag %u, type %u) makes no sense",
                                     lock->pid, lock->fd, lock->flag, lock->type);
        holder = restore_find_task(r, lock->pid);
        if (!holder || holder->kind != RESTORE_TASK_LIVE)
                return image_damaged(image, err, "a lock belongs to pid %d, which is not in the tree",
                                     lock->pid);
        if (restore_lock_vec_push(&r->files->locks, (struct restore_lock){ .msg = lock }) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory to read the file locks");
        *message = NULL;
        return 0;
}

int lock_load(struct restore *r, struct ckpt_error *err) {
        return image_each(r->dir, IMAGE_FILE_LOCKS, 0, IMAGE_OPTIONAL, &img__file_lock__descriptor,
                          take_lock, r, err);
}

int lock_load_task(struct restore_task *t, struct ckpt_error *err) {
        struct restore_files *files = t->restore->files;
        const struct restore_task *holder = t->fds->shared ? t->fds->shared : t;

        for (size_t i = 0; i < files->locks.n; i++) {
                struct restore_lock *l = &files->locks.v[i];

                if (l->owned || l->msg->pid != t->pid)
                        continue;
                l->msg->pid = holder->pid;
                if (!restore_find_slot(holder->fds, l->msg->fd))
                        return ckpt_error(err, -EBADMSG,
                                          "filelocks.img: pid %d has a lock on fd %d, which it has not open",
                                          l->msg->pid, l->msg->fd);
                l->owned = true;
        }
        return 0;
}

static void take(struct compel_batch *b, const Img__FileLock *l) {
        struct flock lock = {
                .l_type = (short)l->type, .l_whence = SEEK_SET, .l_start = l->start, .l_len = l->len
        };

        if (l->flag == WIRE_FLOCK)
                compel_call(b, "lock a file again (flock), which somebody else may have locked meanwhile",
                            SYS_flock, l->fd, (l->type == F_RDLCK ? LOCK_SH : LOCK_EX) | LOCK_NB);
        else
                compel_call(b, "lock a file again (fcntl), which somebody else may have locked meanwhile",
                            SYS_fcntl, l->fd, l->flag == WIRE_OFD ? F_OFD_SETLK : F_SETLK,
                            compel_copy(b, &lock, sizeof(lock)));
}

void lock_restore(struct restore_task *t, struct compel_batch *b) {
        const struct restore_files *files = t->restore->files;

        for (size_t i = 0; i < files->locks.n; i++)
                if (files->locks.v[i].msg->pid == t->pid)
                        take(b, files->locks.v[i].msg);
}

void lock_free(struct restore_files *files) {
        for (size_t i = 0; i < files->locks.n; i++)
                img__file_lock__free_unpacked(files->locks.v[i].msg, NULL);
        restore_lock_vec_done(&files->locks);
}
