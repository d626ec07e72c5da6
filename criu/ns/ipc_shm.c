/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared memory segments of an IPC namespace, attached or not. How tasks map them is memory's affair (mem/sysv.c); the
 * content is read and written here, by attaching each for a moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc_internal.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif

#define SEGMENT_MAX (1ULL << 46) /* bytes */

/* ---- dump ---- */

/* The segment in slot `index` of the kernel's table: its id, -EINVAL for an empty slot. */
static int stat_slot(int index, struct shmid_ds *ret) {
        int id = shmctl(index, SHM_STAT_ANY, ret);

        if (id >= 0)
                return id;
        return errno == EIDRM ? -EINVAL : -errno;
}

/* The last slot in use, or -1. */
static int last_slot(void) {
        struct shm_info info;

        /* 0 also if there is none. */
        return shmctl(0, SHM_INFO, (struct shmid_ds *)&info);
}

static void detach(void **addr) {
        if (*addr)
                shmdt(*addr);
        *addr = NULL;
}

/* A descriptor of the memory, from an attachment that lasts for the moment. */
static int open_segment(int id, int *ret) {
        _cleanup_(detach) void *addr = shmat(id, NULL, SHM_RDONLY);
        struct shmid_ds ds;
        char path[80];
        int fd;

        if (addr == (void *)-1) {
                addr = NULL;
                return -errno;
        }
        if (shmctl(id, IPC_STAT, &ds) < 0)
                return -errno;
        snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)addr,
                 (unsigned long)(uintptr_t)addr + page_align_up(ds.shm_segsz));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

/* With huge pages of hugetlbfs, the area is larger than the segment, or the descriptor says it. */
static bool is_hugetlb(int id) {
        _cleanup_close_ int fd = -EBADF;
        struct statfs st;
        int r = open_segment(id, &fd);

        return r == -ENOENT || (r == 0 && fstatfs(fd, &st) == 0 && st.f_type == HUGETLBFS_MAGIC);
}

static bool is_removed_when_idle(void) {
        _cleanup_close_ int fd = open("/proc/sys/kernel/shm_rmid_forced", O_RDONLY | O_CLOEXEC);
        char c = '0';

        return fd >= 0 && read_full(fd, &c, 1) == 1 && c == '1';
}

void ipc_shm_look(struct dump *d __attribute__((unused)), struct blockers *b) {
        bool forced = is_removed_when_idle();
        int last = last_slot();

        for (int i = 0; i <= last; i++) {
                struct shmid_ds ds;
                int id = stat_slot(i, &ds);

                if (id < 0)
                        continue;
                /* Of attached ones the areas of the tasks tell. Detaching what `forced` is about would remove it. */
                if (ds.shm_nattch == 0 && !forced && is_hugetlb(id))
                        blocker_add(
                                b, "Let the program use transparent huge pages instead",
                                "the System V shared memory with id %d is made of huge pages of hugetlbfs, "
                                "which cannot be checkpointed yet",
                                id);
                if (forced && ds.shm_nattch == 0)
                        blocker_add(b, "Set kernel.shm_rmid_forced to 0 in its IPC namespace",
                                    "the System V shared memory with id %d is attached by nobody, and "
                                    "kernel.shm_rmid_forced would remove it on restore",
                                    id);
        }
}

static Img__IpcShm *describe(struct dump *d, int id, const struct shmid_ds *ds) {
        Img__IpcShm *msg = arena_message(&d->ipc->arena, Img__IpcShm, img__ipc_shm__init);

        msg->desc = ipc_describe(d, &ds->shm_perm, id);
        msg->size = ds->shm_segsz;
        msg->has_in_pagemaps = msg->in_pagemaps = true;
        if (ds->shm_perm.mode & SHM_DEST)
                msg->has_name_key = mem_segment_key(d, (uint64_t)id, &msg->name_key);
        return msg;
}

/* Somebody holds it whom we do not see: a process that has left the namespace with it, or one that has come with it. */
static int check_attachments(struct dump *d, int id, const struct shmid_ds *ds, struct ckpt_error *err) {
        size_t ours = mem_count_attachments(d, (uint64_t)id);

        if (ours == ds->shm_nattch)
                return 0;
        ckpt_error(
                err, -ENOTSUP,
                "the System V shared memory with id %d is attached %lu times, of which %zu in the tree: it is "
                "shared with a process outside of it; the tree runs on",
                id, (unsigned long)ds->shm_nattch, ours);
        return ckpt_error_hint(err,
                               "End the processes that have it attached; lsof and /proc/PID/maps show them");
}

static int save_segment(struct dump *d, int id, const struct shmid_ds *ds, struct image_file *file,
                        struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = check_attachments(d, id, ds, err);
        if (r < 0)
                return r;
        /* By way of a task that has it attached, this leaves no trace. */
        r = mem_open_segment(d, (uint64_t)id, &fd);
        if (r == -ENOENT)
                r = open_segment(id, &fd);
        if (r < 0)
                return ckpt_error_errno(
                        err, r, "the System V shared memory with id %d cannot be read; the tree runs on",
                        id);
        r = image_write(file, &describe(d, id, ds)->base, err);
        return r < 0 ? r : mem_save_segment(d, fd, (uint32_t)id, ds->shm_segsz, err);
}

int ipc_shm_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        size_t known = 0;
        int last = last_slot(), r;

        r = image_open_write(d->set, IMAGE_IPCNS_SHM, IPC_IMAGE_ID, &file, err);
        for (int i = 0; r == 0 && i <= last; i++) {
                struct shmid_ds ds;
                int id = stat_slot(i, &ds);

                if (id == -EINVAL)
                        continue;
                if (id < 0)
                        return ckpt_error_errno(err, id,
                                                "cannot look at the shared memory of the IPC namespace");
                known += mem_count_attachments(d, (uint64_t)id);
                r = save_segment(d, id, &ds, file, err);
        }
        if (r == 0 && known != mem_count_attachments(d, MEM_ANY_SEGMENT))
                r = ckpt_error(
                        err, -ENOTSUP,
                        "a process of the tree has System V shared memory attached that belongs to another IPC "
                        "namespace, which is not supported; the tree runs on");
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

/* ---- load ---- */

static int check_segment(const struct restore_ipc *ipc, const struct image_file *file,
                         const Img__IpcShm *msg, struct ckpt_error *err) {
        int r = ipc_check_desc(file, msg->desc, IPC_MODE_MASK | SHM_DEST | SHM_LOCKED, err);

        if (r < 0)
                return r;
        if (msg->size == 0 || msg->size > SEGMENT_MAX)
                return image_damaged(file, err, "the segment with id %u has the impossible size %llu",
                                     msg->desc->id, (unsigned long long)msg->size);
        if (msg->has_hugetlb_flag && msg->hugetlb_flag)
                return ckpt_error(
                        err, -ENOTSUP,
                        "the System V shared memory with id %u is made of huge pages of hugetlbfs, which "
                        "cannot be restored yet; nothing was created",
                        msg->desc->id);
        if ((msg->desc->mode & SHM_DEST) ? msg->desc->key != IPC_PRIVATE : msg->has_name_key)
                return image_damaged(file, err, "the segment with id %u has an impossible key",
                                     msg->desc->id);
        for (size_t i = 0; i < ipc->segments.n; i++)
                if (ipc->segments.v[i].msg->desc->id == msg->desc->id ||
                    (msg->desc->key != IPC_PRIVATE && ipc->segments.v[i].msg->desc->key == msg->desc->key))
                        return image_damaged(file, err, "the id %u or its key is there twice",
                                             msg->desc->id);
        return 0;
}

/* Other writers put the bytes behind the entry. */
static int load_content(struct restore *r, struct image_file *file, struct ipc_segment *seg,
                        struct ckpt_error *err) {
        uint64_t size = (seg->msg->size + 7) & ~7ULL;

        if (seg->msg->has_in_pagemaps && seg->msg->in_pagemaps)
                return mem_check_object(r, seg->msg->desc->id, seg->msg->size, err);
        if (size > image_remaining(file))
                return image_damaged(file, err, "the content of the segment with id %u is cut off",
                                     seg->msg->desc->id);
        seg->raw = malloc(MAX(size, (uint64_t)1));
        if (!seg->raw)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        return image_read_raw(file, seg->raw, size, err);
}

static int take_segment(void *ctx, struct image_file *file, void **message, struct ckpt_error *err) {
        struct restore *r = ctx;
        struct ipc_segment *seg;
        int n;

        n = check_segment(r->ipc, file, *message, err);
        if (n < 0)
                return n;
        seg = ipc_segment_vec_add(&r->ipc->segments);
        ckpt_assert(seg);
        seg->msg = TAKE_PTR(*message);
        return load_content(r, file, seg, err);
}

int ipc_shm_load(struct restore *r, struct ckpt_error *err) {
        return image_each(r->dir, IMAGE_IPCNS_SHM, r->ipc->id, IMAGE_OPTIONAL, &img__ipc_shm__descriptor,
                          take_segment, r, err);
}

void ipc_shm_free(struct restore_ipc *ipc) {
        for (size_t i = 0; i < ipc->segments.n; i++) {
                img__ipc_shm__free_unpacked(ipc->segments.v[i].msg, NULL);
                free(ipc->segments.v[i].raw);
        }
        ipc_segment_vec_done(&ipc->segments);
}

/* ---- restore ---- */

static bool is_removed(const struct ipc_segment *seg) {
        return seg->msg->desc->mode & SHM_DEST;
}

static int get(void *arg) {
        const Img__IpcShm *msg = arg;
        uint32_t key = msg->has_name_key ? msg->name_key : msg->desc->key;
        int id =
                shmget((key_t)key, msg->size, IPC_CREAT | IPC_EXCL | (int)(msg->desc->mode & IPC_MODE_MASK));

        if (id >= 0 && (uint32_t)id != msg->desc->id) {
                errno = EEXIST;
                return -1;
        }
        return id;
}

static int fill(struct restore *r, struct ipc_segment *seg, struct ckpt_error *err) {
        if (!seg->raw)
                return mem_fill_segment(r, seg->msg->desc->id, seg->msg->size, seg->addr, err);
        memcpy(seg->addr, seg->raw, seg->msg->size);
        return 0;
}

/* Mode, owner, locked, and removed: those who have it attached keep it, new ones come by its id only. */
static int set_up(const struct ipc_segment *seg) {
        const Img__IpcDesc *desc = seg->msg->desc;
        struct shmid_ds ds = { 0 };
        int id = (int)desc->id;

        ipc_owner(desc, &ds.shm_perm);
        if (shmctl(id, IPC_SET, &ds) < 0 || ((desc->mode & SHM_LOCKED) && shmctl(id, SHM_LOCK, NULL) < 0) ||
            ((desc->mode & SHM_DEST) && shmctl(id, IPC_RMID, NULL) < 0))
                return -errno;
        return 0;
}

static int make_segment(struct restore *r, struct ipc_segment *seg, struct ckpt_error *err) {
        const Img__IpcDesc *desc = seg->msg->desc;
        void *addr;
        int ret;

        ret = ipc_make(desc, "kernel/shm_next_id", "System V shared memory", get, seg->msg, err);
        if (ret < 0)
                return ret;
        addr = shmat((int)desc->id, NULL, 0);
        if (addr == (void *)-1)
                return ckpt_error_errno(err, -errno, "cannot attach the System V shared memory with id %u",
                                        desc->id);
        seg->addr = addr;
        ret = fill(r, seg, err);
        if (ret < 0)
                return ret;
        ret = set_up(seg);
        if (ret < 0)
                return ckpt_error_errno(err, ret,
                                        "cannot set owner and mode of the System V shared memory with id %u",
                                        desc->id);
        /* One that is removed exists for as long as it is attached. */
        if (!is_removed(seg))
                detach(&seg->addr);
        return 0;
}

int ipc_shm_make(struct restore *r, struct ckpt_error *err) {
        struct ipc_segment_vec *all = &r->ipc->segments;
        int ret = 0;

        /* Those that are removed first: their keys may be used by others now. */
        for (size_t i = 0; ret == 0 && i < all->n; i++)
                if (is_removed(&all->v[i]))
                        ret = make_segment(r, &all->v[i], err);
        for (size_t i = 0; ret == 0 && i < all->n; i++)
                if (!is_removed(&all->v[i]))
                        ret = make_segment(r, &all->v[i], err);
        return ret;
}

void ipc_shm_detach(struct restore_ipc *ipc) {
        for (size_t i = 0; i < ipc->segments.n; i++)
                detach(&ipc->segments.v[i].addr);
}
