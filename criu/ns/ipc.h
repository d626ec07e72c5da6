/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System V shared memory, semaphores and message queues. They belong to an IPC namespace, so they are carried over
 * where the whole namespace goes along: the tree has one of its own, which nobody else is in (a program started
 * under `unshare --ipc`). On restore the tree gets a new one with the same objects under the same ids.
 *
 * ipcns-var-ID.img (limits), ipcns-shm-ID.img, ipcns-sem-ID.img, ipcns-msg-ID.img; the bytes of shared memory are in
 * pagemap-shmem-SHMID.img. The kernel's interface: ipc_namespaces(7), shmctl(2), semctl(2), msgctl(2).
 */
#pragma once

#include "dump/blockers.h"
#include "dump/model.h"
#include "restore/model.h"

/* ---- dump ---- */

/*
 * A task of the tree, not stopped: everybody has to be in one IPC namespace, ckpt's or the tree's own. The first call
 * is for the root of the tree, t->ns is filled. Adds blockers; a namespace of the tree's own is looked into.
 */
void ipc_look(struct dump_task *t);

/* Has the tree an IPC namespace of its own? After ipc_look() of the root. */
bool ipc_is_own(const struct dump *d);

/* The number of that namespace in the images, or of ckpt's own, which is `other`. */
uint32_t ipc_image_id(const struct dump *d, uint32_t other);

/*
 * Frozen, everything but the bytes of memory is collected, the image set is open: write the namespace. Main thread
 * only: it enters the namespace of the tree for the time of the call.
 */
int ipc_save(struct dump *d, struct ckpt_error *err);

/*
 * Frozen: the semaphore sets of the namespace that the tree is in, its own or ckpt's, with their values. The first
 * call is for the main thread, which after it has no semaphore adjustments, not even an empty list of them (kcmp(2), KCMP_SYSVSEM).
 */
struct ipc_sem_list {
        struct ipc_sem_set {
                int id;
                size_t nsems;
                uint16_t *values;
                pid_t *last; /* who was the last to change each; NULL: not asked yet */
        } * v;
        size_t n;
};
const struct ipc_sem_list *ipc_list_sems(struct dump *d);

/* Fill in `last` of all sets. In any thread, which visits the namespace for it. */
void ipc_ask_last(struct dump *d);

void ipc_dump_free(struct dump *d);

/* ---- restore ---- */

/* Load stage, after the tasks: read and check the images of the namespace, if the tree had one of its own. */
int ipc_load(struct restore *r, struct ckpt_error *err);

/* Is there a segment with this id? Its size, in bytes and as shmget(2) was given it, in *ret_size. */
bool ipc_find_segment(const struct restore *r, uint64_t id, uint64_t *ret_size);

/* Does this semaphore exist? Its value in *ret. */
bool ipc_find_sem(const struct restore *r, uint32_t id, uint32_t num, uint16_t *ret);

/*
 * Before the root is cloned: the calling thread enters a new IPC namespace, which it fills; what is cloned from it
 * is born there. Main thread only. Nothing has to be undone: the namespace goes with its last member.
 */
int ipc_enter(struct restore *r, struct ckpt_error *err);

/* All tasks have their memory and files (of /proc, some show the namespace): go back to ckpt's own. */
int ipc_leave(struct restore *r, struct ckpt_error *err);
void ipc_restore_free(struct restore *r);
