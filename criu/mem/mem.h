/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory of a process: areas, pages, mm fields, vDSO; both halves. Internal structure: mem/ *.h */
#pragma once

#include <sys/stat.h>

#include "dump/blockers.h"
#include "dump/model.h"
#include "restore/model.h"

/* ---- dump ---- */

/* Before the first mem_look(). From then on tasks may be looked at and collected by several threads. */
void mem_look_init(struct dump *d);

/*
 * In front of mem_look(), while other things of the task are looked at: offer the pool to read t->smaps, if it will be known
 * whether areas have changed since (t->seen_areas).
 */
void mem_look_ahead(struct dump_task *t);

/* Before the freeze: read t->smaps (slow for large processes), add blockers. */
void mem_look(struct dump_task *t);

/* When all tasks have been looked at, or it was given up: what several of them have to do with. Adds blockers. */
void mem_look_tree(struct dump *d);

/* Frozen: the areas as they are now (t->mem), shared anonymous memory registered, mapped files and the exe
 * file registered with fd/ (files_add_path). New kinds of areas since look: an error that names them. */
int mem_collect(struct dump_task *t, struct ckpt_error *err);

/* Frozen, all tasks collected: what tasks share (anonymous shared memory, copy-on-write pages). */
int mem_collect_shared(struct dump *d, struct ckpt_error *err);

/* In the pool: mm-PID, pagemap-PID, pages-N. Queues further jobs for large memory. */
int mem_save(struct dump_task *t, struct ckpt_error *err);

/* Shared memory, once for the tree: pagemap-shmem-ID, pages-N. */
int mem_save_shared(struct dump *d, struct ckpt_error *err);

/*
 * The task is being killed: take part in freeing its memory, so that it dies in half the time
 * (process_mrelease(2), Linux 5.15). Does nothing for a small one, and where the kernel will not.
 */
void mem_release_killed(const struct dump_task *t);

/*
 * Frozen: memory that is a file without a name (a memfd), whether it is mapped or not. It is saved with the other
 * shared memory as *ret_id, once however often it is added. `where` below `proc` leads to it, which is the task's or
 * ckpt's own, and has to stay until that is done.
 */
int mem_add_object(struct dump_task *t, const struct proc_dir *proc, const char *where,
                   const struct stat *st, uint32_t *ret_id, struct ckpt_error *err);

/*
 * System V segments (ns/ipc.h), which areas of the tree map by their id. After mem_collect(): how many areas do
 * (MEM_ANY_SEGMENT: of any)? A descriptor of one by way of such an area, -ENOENT if there is none. Write the content,
 * `size` bytes: pagemap-shmem-ID, pages-N; main thread, before the save stage.
 */
#define MEM_ANY_SEGMENT UINT64_MAX
size_t mem_count_attachments(const struct dump *d, uint64_t id);
bool mem_segment_key(const struct dump *d, uint64_t id,
                     uint32_t *ret); /* as the name of such an area shows it */
int mem_open_segment(const struct dump *d, uint64_t id, int *ret);
int mem_save_segment(struct dump *d, int fd, uint32_t id, uint64_t size, struct ckpt_error *err);

/*
 * The memory of sockets (sock/ring.h). Is it an area of one? *ret_ino: the inode of that. Frozen, when all tasks are collected: `fn` is
 * called for each such area of the tree, whose `msg` it may complete; what it returns but 0 ends that and is returned.
 */
bool mem_is_socket(const struct proc_vma *vma, uint64_t *ret_ino);
int mem_each_socket(struct dump *d,
                    int (*fn)(void *arg, struct dump_task *t, const struct proc_vma *vma, Img__Vma *msg),
                    void *arg);

/*
 * In the pool: write the content of such memory, mapped in ckpt: pagemap-shmem-ID, pages-N. MEM_RING_ID is in ids that are not those
 * of other objects.
 */
#define MEM_RING_ID 0xc0000000U
int mem_save_mapping(struct dump *d, const char *addr, uint64_t size, uint32_t id, const char *name,
                     struct ckpt_error *err);

void mem_dump_free(struct dump_mem **mem);

/* A row for the table of task/kinds.c: asks the task for its break and the like. No part in a restore. */
struct task_kind;
extern const struct task_kind mem_brk_kind;

/* policy.c: NUMA policies of areas. */
extern const struct task_kind mem_policy_kind;

/* Likewise: asks it which AIO contexts it can use. */
extern const struct task_kind mem_aio_kind;

/* ---- restore ---- */

/* Load stage: mm, pagemap, pages; everything checked: order, bounds, overlap, sizes of pages files. */
int mem_load(struct restore_task *t, struct ckpt_error *err);

/* Load stage, when all tasks and the IPC namespace are loaded: do all areas of System V memory lie in its segments? */
int mem_check_segments(const struct restore *r, struct ckpt_error *err);

/* Load stage, when all files are loaded: do all areas of sockets lie in the rings of one? */
int mem_check_sockets(const struct restore *r, struct ckpt_error *err);

/* Fill a segment of `size` bytes, attached at `addr`, from pagemap-shmem-ID and its pages file. */
int mem_fill_segment(struct restore *r, uint32_t id, uint64_t size, void *addr, struct ckpt_error *err);

/*
 * After all tasks are loaded: a hole of `size` bytes, page aligned, in the address spaces of ckpt and
 * all tasks.
 */
int mem_find_hole(struct restore *r, size_t size, raddr_t *ret, struct ckpt_error *err);

/* Load stage: may pagemap-shmem-SHMID be the content of `size` bytes? No file: nothing but zeroes. */
int mem_check_object(struct restore *r, uint64_t shmid, uint64_t size, struct ckpt_error *err);

/*
 * Read it into shared memory of `size` bytes at `addr`, except that what belongs to the part [skip_start, skip_end) comes to `aside`
 * instead, which has that size.
 */
int mem_fill_around(struct restore *r, uint64_t shmid, uint64_t size, char *addr, uint64_t skip_start,
                    uint64_t skip_end, char *aside, struct ckpt_error *err);

/* Write it into `fd`, a file that has this size already. `page`: bytes that it must be mapped in multiples of. */
int mem_fill_file(struct restore *r, uint64_t shmid, uint64_t size, uint64_t page, int fd,
                  struct ckpt_error *err);

/* Before the root is cloned: shared anonymous memory is created and filled, mapped files opened,
 * everything the tasks map by descriptor is handed to restore_inherit(). */
int mem_prepare(struct restore *r, struct ckpt_error *err);

/*
 * Build the address space of a task that has just been cloned: `t` starts with a copy of its parent's final
 * memory (the root: with ckpt's), keeps what both share copy-on-write, unmaps the rest, maps, fills.
 * Adds to the batch of the leader's lane, running it as often as needed; the
 * caller runs what is left. The host's region stays. mm fields are final after mem_finish().
 * Different tasks may be built by different threads at the same time.
 */
int mem_restore(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err);

/* May it write to memory that it shares with others than the tree, and that is there when the restore has failed? */
bool mem_outlives(const struct restore_task *t);

/* Will mem_restore() wait for much memory to be read? */
bool mem_is_large(const struct restore_task *t);

/* Will mem_restore() of a task that is not large run nothing itself, given this empty batch? false: perhaps not. */
bool mem_fits(const struct restore_task *t, const struct compel_batch *b);

/*
 * After the task has cloned its children: what must come last (PR_SET_MM with the exe file, mlock,
 * madvise of DONTFORK and WIPEONFORK, final protections where they were widened, ...).
 */
int mem_finish(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err);

/*
 * Address of a system call instruction in the task's memory outside the host's region, for the last
 * munmap; 0: none.
 */
raddr_t mem_syscall_insn(struct restore_task *t);

void mem_restore_free(struct restore_mem **mem);
