/* SPDX-License-Identifier: GPL-2.0-only */
/* Semaphore sets of an IPC namespace. Adjustments at the end of a process (SEM_UNDO) are the task's: task/sem_undo.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "cleanup.h"
#include "macro.h"
#include "ns/ipc_internal.h"

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif

enum {
        SEMS_MAX = 1 << 20, /* of a set; the kernel's own limit is 65535 */
        VALUE_MAX = 32767,  /* SEMVMX */
};

/* semctl(2): to be defined by its user. */
union semun {
        int val;
        struct semid_ds *buf;
        unsigned short *array;
        struct seminfo *info;
};

static size_t padded(size_t nsems) {
        return (nsems * sizeof(uint16_t) + 7) & ~(size_t)7;
}

/* ---- dump ---- */

void ipc_sem_list(struct dump *d, struct ipc_sem_list *ret) {
        struct arena *a = &d->ipc->arena;
        struct seminfo info;
        int last = semctl(0, 0, SEM_INFO, (union semun){ .info = &info });

        *ret = (struct ipc_sem_list){ .v = arena_new_array(a, struct ipc_sem_set, (size_t)last + 2) };
        for (int i = 0; i <= last; i++) {
                struct ipc_sem_set *set = &ret->v[ret->n];
                struct semid_ds ds;

                set->id = semctl(i, 0, SEM_STAT_ANY, (union semun){ .buf = &ds });
                if (set->id < 0)
                        continue;
                set->nsems = ds.sem_nsems;
                set->values = arena_new_array(a, uint16_t, set->nsems);
                if (semctl(set->id, 0, GETALL, (union semun){ .array = set->values }) == 0)
                        ret->n++;
        }
}

void ipc_sem_ask_last(struct dump *d, struct ipc_sem_list *list) {
        for (size_t i = 0; i < list->n; i++) {
                struct ipc_sem_set *set = &list->v[i];

                if (set->last)
                        continue;
                set->last = arena_new_array(&d->ipc->arena, pid_t, set->nsems);
                for (size_t j = 0; j < set->nsems; j++)
                        set->last[j] = semctl(set->id, (int)j, GETPID);
        }
}

static int save_set(struct dump *d, int id, const struct semid_ds *ds, struct image_file *file,
                    struct ckpt_error *err) {
        _cleanup_free_ uint16_t *values = calloc(1, padded(ds->sem_nsems));
        Img__IpcSem msg = IMG__IPC_SEM__INIT;
        int r;

        if (!values)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        if (semctl(id, 0, GETALL, (union semun){ .array = values }) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot read the semaphore set with id %d; the tree runs on", id);
        msg.desc = ipc_describe(d, &ds->sem_perm, id);
        msg.nsems = (uint32_t)ds->sem_nsems;
        r = image_write(file, &msg.base, err);
        return r < 0 ? r : image_write_raw(file, values, padded(ds->sem_nsems), err);
}

int ipc_sem_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct seminfo info;
        int last = semctl(0, 0, SEM_INFO, (union semun){ .info = &info }), r;

        r = image_open_write(d->set, IMAGE_IPCNS_SEM, IPC_IMAGE_ID, &file, err);
        for (int i = 0; r == 0 && i <= last; i++) {
                struct semid_ds ds;
                int id = semctl(i, 0, SEM_STAT_ANY, (union semun){ .buf = &ds });

                if (id < 0 && (errno == EINVAL || errno == EIDRM))
                        continue; /* an empty slot */
                if (id < 0)
                        return ckpt_error_errno(err, -errno,
                                                "cannot look at the semaphores of the IPC namespace");
                r = save_set(d, id, &ds, file, err);
        }
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

/* ---- load ---- */

static int check_set(const struct restore_ipc *ipc, const struct image_file *file, const Img__IpcSem *msg,
                     struct ckpt_error *err) {
        int r = ipc_check_desc(file, msg->desc, IPC_MODE_MASK, err);

        if (r < 0)
                return r;
        if (msg->nsems == 0 || msg->nsems > SEMS_MAX || padded(msg->nsems) > image_remaining(file))
                return image_damaged(file, err,
                                     "the set with id %u has the impossible number of %u semaphores",
                                     msg->desc->id, msg->nsems);
        for (size_t i = 0; i < ipc->sems.n; i++)
                if (ipc->sems.v[i].msg->desc->id == msg->desc->id ||
                    (msg->desc->key != IPC_PRIVATE && ipc->sems.v[i].msg->desc->key == msg->desc->key))
                        return image_damaged(file, err, "the id %u or its key is there twice",
                                             msg->desc->id);
        return 0;
}

static int read_values(struct image_file *file, struct ipc_sems *set, struct ckpt_error *err) {
        int r;

        set->values = malloc(padded(set->msg->nsems));
        if (!set->values)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        r = image_read_raw(file, set->values, padded(set->msg->nsems), err);
        for (size_t i = 0; r == 0 && i < set->msg->nsems; i++)
                if (set->values[i] > VALUE_MAX)
                        r = image_damaged(file, err,
                                          "semaphore %zu of the set with id %u has the impossible value %u",
                                          i, set->msg->desc->id, set->values[i]);
        return r;
}

int ipc_sem_check_undos(const struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                const Img__TaskCore *tc = r->tasks[i]->threads[0].core->tc;

                for (size_t j = 0; j < tc->n_sem_undos; j++) {
                        uint16_t value;

                        if (!ipc_find_sem(r, tc->sem_undos[j]->semid, tc->sem_undos[j]->num, &value))
                                return ckpt_error(
                                        err, -EBADMSG,
                                        "core-%d.img is damaged: it adjusts a System V semaphore that there "
                                        "is not",
                                        r->tasks[i]->pid);
                }
        }
        return 0;
}

static int take_set(void *ctx, struct image_file *file, void **message, struct ckpt_error *err) {
        struct restore_ipc *ipc = ctx;
        struct ipc_sems *set;
        int r;

        r = check_set(ipc, file, *message, err);
        if (r < 0)
                return r;
        set = ipc_sems_vec_add(&ipc->sems);
        ckpt_assert(set);
        set->msg = TAKE_PTR(*message);
        return read_values(file, set, err);
}

int ipc_sem_load(struct restore *r, struct ckpt_error *err) {
        return image_each(r->dir, IMAGE_IPCNS_SEM, r->ipc->id, IMAGE_OPTIONAL, &img__ipc_sem__descriptor,
                          take_set, r->ipc, err);
}

void ipc_sem_free(struct restore_ipc *ipc) {
        for (size_t i = 0; i < ipc->sems.n; i++) {
                img__ipc_sem__free_unpacked(ipc->sems.v[i].msg, NULL);
                free(ipc->sems.v[i].values);
        }
        ipc_sems_vec_done(&ipc->sems);
}

/* ---- restore ---- */

static int get(void *arg) {
        const Img__IpcSem *msg = arg;
        int id = semget((key_t)msg->desc->key, (int)msg->nsems,
                        IPC_CREAT | IPC_EXCL | (int)(msg->desc->mode & IPC_MODE_MASK));

        if (id >= 0 && (uint32_t)id != msg->desc->id) {
                errno = EEXIST;
                return -1;
        }
        return id;
}

int ipc_sem_make(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->ipc->sems.n; i++) {
                const struct ipc_sems *set = &r->ipc->sems.v[i];
                int id = (int)set->msg->desc->id, ret;
                struct semid_ds ds = { 0 };

                ret = ipc_make(set->msg->desc, "kernel/sem_next_id", "semaphore set", get, set->msg, err);
                if (ret < 0)
                        return ret;
                ipc_owner(set->msg->desc, &ds.sem_perm);
                if (semctl(id, 0, SETALL, (union semun){ .array = set->values }) < 0 ||
                    semctl(id, 0, IPC_SET, (union semun){ .buf = &ds }) < 0)
                        return ckpt_error_errno(err, -errno,
                                                "cannot set the values of the semaphore set with id %d", id);
        }
        return 0;
}
