/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the IPC namespace share among themselves. */
#pragma once

#include <pthread.h>

#include "image/image.h"
#include "images/ipc.pb-c.h"
#include "lib/arena.h"
#include "ns/ipc.h"
#include "vec.h"

enum {
        IPC_IMAGE_ID = 9,          /* of the tree's namespace: behind those of collect_namespace_ids() */
        IPC_OBJECTS_MAX = 1 << 24, /* of one sort, in a kernel with ipcmni_extend */
        IPC_MODE_MASK = 0777,
};

struct dump_ipc {
        bool own; /* not ckpt's */
        ino_t ino;
        int home, there; /* the namespaces of ckpt and of the tree */
        struct arena arena;
        struct ipc_sem_list sems; /* in the arena */
        bool sems_listed;
        pthread_mutex_t asking; /* ipc_ask_last() */
};

/* An object of an image, and what the kernel needs besides. All of it was checked when it was loaded. */
struct ipc_segment {
        Img__IpcShm *msg;
        void *raw;  /* the content, if it is not in pagemaps */
        void *addr; /* where ckpt has attached it, or NULL */
};
DEFINE_VEC(ipc_segment_vec, struct ipc_segment);

struct ipc_sems {
        Img__IpcSem *msg;
        uint16_t *values;
};
DEFINE_VEC(ipc_sems_vec, struct ipc_sems);

struct ipc_message {
        Img__IpcMessage *msg;
        void *data;
};
DEFINE_VEC(ipc_message_vec, struct ipc_message);

struct ipc_queue {
        Img__IpcMsg *msg;
        struct ipc_message_vec messages;
};
DEFINE_VEC(ipc_queue_vec, struct ipc_queue);

struct restore_ipc {
        uint32_t id; /* in the images */
        Img__IpcVar *var;
        struct ipc_segment_vec segments;
        struct ipc_sems_vec sems;
        struct ipc_queue_vec queues;
        int home; /* the namespace of ckpt */
};

struct ipc_perm;

/* ---- ipc.c ---- */

/* struct ipc_perm into a message, in the arena. */
Img__IpcDesc *ipc_describe(struct dump *d, const struct ipc_perm *perm, int id);

/* Is this an object that could exist? `mode_mask`: the bits that its mode may have. */
int ipc_check_desc(const struct image_file *file, const Img__IpcDesc *desc, uint32_t mode_mask,
                   struct ckpt_error *err);

/*
 * Make an object with the id and the creator of `desc`: asks the kernel for the id (kernel.NAME_next_id), takes the
 * creator's effective ids for the call of make(arg), a *get(2) that returns an id, and checks it. `what` is for
 * messages.
 */
int ipc_make(const Img__IpcDesc *desc, const char *next_id, const char *what, int (*make)(void *arg),
             void *arg, struct ckpt_error *err);

/* Fill in what IPC_SET takes. */
void ipc_owner(const Img__IpcDesc *desc, struct ipc_perm *ret);

/* ---- ipc_var.c: limits ---- */

int ipc_var_save(struct dump *d, struct ckpt_error *err);
int ipc_var_load(struct restore *r, struct ckpt_error *err);

/* In the new namespace: first so that all objects fit, whatever the limits; at the end as they were. */
int ipc_var_raise(const struct restore_ipc *ipc, struct ckpt_error *err);
int ipc_var_restore(const struct restore_ipc *ipc, struct ckpt_error *err);

/* Ask for the id of the next object. */
int ipc_var_next_id(const char *name, uint32_t id);

/* ---- ipc_shm.c, ipc_sem.c, ipc_msg.c ---- */

/* In the namespace of the tree, which may be frozen or not: what is in it that cannot be carried over. */
void ipc_shm_look(struct dump *d, struct blockers *b);

int ipc_shm_save(struct dump *d, struct ckpt_error *err);
int ipc_shm_load(struct restore *r, struct ckpt_error *err);
int ipc_shm_make(struct restore *r, struct ckpt_error *err);
void ipc_shm_detach(struct restore_ipc *ipc);
void ipc_shm_free(struct restore_ipc *ipc);

void ipc_sem_list(struct dump *d, struct ipc_sem_list *ret);
void ipc_sem_ask_last(struct dump *d, struct ipc_sem_list *list);
int ipc_sem_save(struct dump *d, struct ckpt_error *err);
int ipc_sem_load(struct restore *r, struct ckpt_error *err);
int ipc_sem_check_undos(const struct restore *r, struct ckpt_error *err);
int ipc_sem_make(struct restore *r, struct ckpt_error *err);
void ipc_sem_free(struct restore_ipc *ipc);

int ipc_msg_save(struct dump *d, struct ckpt_error *err);
int ipc_msg_load(struct restore *r, struct ckpt_error *err);
int ipc_msg_make(struct restore *r, struct ckpt_error *err);
void ipc_msg_free(struct restore_ipc *ipc);

/* ---- ipc_mqueue.c ---- */

/* POSIX message queues live in the namespace as well, in a file system of their own. */
void ipc_mqueue_look(struct blockers *b);
