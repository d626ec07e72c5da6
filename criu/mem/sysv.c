/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System V shared memory in an address space. The segments themselves, and what is in them, are the IPC namespace's
 * (ns/ipc.h), which is there before the tasks are. Areas of one shmat(2) stay together: shmdt(2) finds them so.
 *
 * The mapping of a packet socket (socket.c) is made in the same way: like a segment, there is only the whole of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "macro.h"
#include "mem/dump.h"
#include "mem/restore.h"
#include "ns/ipc.h"
#include "sock/sock.h"

#define SYSV_PREFIX "/SYSV"

/* ---- dump ---- */

/* "/SYSV", the key, " (deleted)", on a file system that nobody can mount. */
bool mem_is_sysv(struct dump *d, const struct proc_vma *vma) {
        return vma->shared && vma->ino <= INT32_MAX &&
               strncmp(vma->name, SYSV_PREFIX, strlen(SYSV_PREFIX)) == 0 &&
               makedev(vma->dev_major, vma->dev_minor) == mem_tree_of(d)->shm_dev;
}

static const struct mem_area *find_area(const struct dump_task *t, uint64_t id, size_t *cursor) {
        for (; t->mem && *cursor < t->mem->areas.n; (*cursor)++) {
                const struct mem_area *area = &t->mem->areas.v[*cursor];

                if (area->kind == MEM_SYSV && (id == MEM_ANY_SEGMENT || area->vma.ino == id)) {
                        (*cursor)++;
                        return area;
                }
        }
        return NULL;
}

size_t mem_count_attachments(const struct dump *d, uint64_t id) {
        size_t n = 0;

        for (size_t i = 0; i < d->nr_tasks; i++)
                for (size_t cursor = 0; find_area(d->tasks[i], id, &cursor);)
                        n++;
        return n;
}

bool mem_segment_key(const struct dump *d, uint64_t id, uint32_t *ret) {
        const struct mem_area *area = NULL;

        for (size_t i = 0; !area && i < d->nr_tasks; i++) {
                size_t cursor = 0;

                area = find_area(d->tasks[i], id, &cursor);
        }
        if (!area)
                return false;
        *ret = (uint32_t)strtoul(area->vma.name + strlen(SYSV_PREFIX), NULL, 16);
        return true;
}

int mem_open_segment(const struct dump *d, uint64_t id, int *ret) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                const struct mem_area *area;
                size_t cursor = 0;
                char link[48];
                int fd;

                area = find_area(d->tasks[i], id, &cursor);
                if (!area)
                        continue;
                mem_map_files_link(&area->vma, link);
                fd = proc_openat(&d->tasks[i]->proc, link, O_RDONLY);
                if (fd < 0)
                        return fd;
                *ret = fd;
                return 0;
        }
        return -ENOENT;
}

struct last_page {
        char *addr;
};

static void unmap_last_page(struct last_page *page) {
        if (page->addr)
                munmap(page->addr, PAGE_SIZE);
}

/* The size of a segment need not be one of pages, but all of its last page is there for those who attach it. */
static int map_last_page(int fd, uint64_t size, const struct mem_run_vec *runs, struct last_page *ret) {
        void *addr;

        if (runs->n == 0 || runs->v[runs->n - 1].end <= size)
                return 0;
        addr = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, (off_t)(size & ~(PAGE_SIZE - 1)));
        if (addr == MAP_FAILED)
                return -errno;
        ret->addr = addr;
        return 0;
}

int mem_save_segment(struct dump *d, int fd, uint32_t id, uint64_t size, struct ckpt_error *err) {
        _cleanup_(unmap_last_page) struct last_page last = { 0 };
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        struct mem_source source = { .fd = fd, .file_size = size, .name = "System V shared memory" };
        int r = mem_data_runs(fd, page_align_up(size), &runs);

        if (r == 0)
                r = map_last_page(fd, size, &runs, &last);
        if (last.addr)
                source.tail = last.addr + size % PAGE_SIZE;
        if (r < 0)
                return ckpt_error_errno(
                        err, r, "cannot read the System V shared memory with id %u; the tree runs on", id);
        return mem_store(d, &source, IMAGE_SHMEM_PAGEMAP, id, ++mem_tree_of(d)->last_pages_id, &runs, err);
}

/* ---- load ---- */

static int check_area(const struct restore *r, const struct restore_task *t, const struct restore_area *area,
                      struct ckpt_error *err) {
        uint64_t size;

        if (!r->ipc)
                return ckpt_error(
                        err, -ENOTSUP,
                        "pid %d has System V shared memory attached at %#llx, and the images do not have "
                        "the IPC namespace that it belongs to; nothing was created",
                        t->pid, (unsigned long long)area->start);
        if (!ipc_find_segment(r, area->msg->shmid, &size) ||
            area->msg->pgoff + (area->end - area->start) > page_align_up(size))
                return ckpt_error(
                        err, -EBADMSG,
                        "mm-%d.img is damaged: the area at %#llx is of no part of a System V segment",
                        t->pid, (unsigned long long)area->start);
        return 0;
}

int mem_check_segments(const struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; ret == 0 && r->tasks[i]->mem && j < r->tasks[i]->mem->areas.n; j++)
                        if (r->tasks[i]->mem->areas.v[j].kind == MEM_SYSV)
                                ret = check_area(r, r->tasks[i], &r->tasks[i]->mem->areas.v[j], err);
        return ret;
}

int mem_fill_segment(struct restore *r, uint32_t id, uint64_t size, void *addr, struct ckpt_error *err) {
        return mem_fill_shared(r, id, page_align_up(size), addr, err);
}

/* ---- restore ---- */

DEFINE_VEC(area_ref_vec, const struct restore_area *);

/* Where the whole segment would begin. */
static uint64_t base_of(const struct restore_area *area) {
        return area->start - area->msg->pgoff;
}

static bool is_read_only(const struct restore_area *area) {
        return area->kind == MEM_SYSV && mem_sysv_read_only(area->msg);
}

static int compare_attachments(const struct restore_area *x, const struct restore_area *y) {
        bool x_ro = is_read_only(x), y_ro = is_read_only(y);

        if (x->kind != y->kind)
                return x->kind < y->kind ? -1 : 1;
        if (x->msg->shmid != y->msg->shmid)
                return x->msg->shmid < y->msg->shmid ? -1 : 1;
        if (base_of(x) != base_of(y))
                return base_of(x) < base_of(y) ? -1 : 1;
        return (int)x_ro - (int)y_ro;
}

static int compare(const void *a, const void *b) {
        const struct restore_area *x = *(const struct restore_area *const *)a,
                                  *y = *(const struct restore_area *const *)b;
        int c = compare_attachments(x, y);

        return c != 0 ? c : x->start < y->start ? -1 : x->start > y->start;
}

/* Areas of one shmat(2), or mmap(2) of a socket, ascending. */
struct attachment {
        const struct restore_area **areas;
        size_t n;
        uint64_t size; /* of the whole, in pages */
};

static bool is_whole(const struct attachment *a) {
        uint64_t end = base_of(a->areas[0]);

        for (size_t i = 0; i < a->n; i++) {
                if (a->areas[i]->start != end)
                        return false;
                end = a->areas[i]->end;
        }
        return end - base_of(a->areas[0]) == a->size;
}

static void add_attach(const struct attachment *a, struct compel_batch *b, uint64_t address) {
        const Img__Vma *v = a->areas[0]->msg;
        struct compel_op *op;

        if (a->areas[0]->kind == MEM_SOCKET)
                op = compel_call(b, "map the rings of a packet socket", SYS_mmap, address, a->size,
                                 a->areas[0]->map_prot, (uint64_t)(MAP_SHARED | MAP_FIXED_NOREPLACE),
                                 (uint64_t)a->areas[0]->fd, 0);
        else
                op = compel_call(b, "attach System V shared memory", SYS_shmat, v->shmid, address,
                                 (uint64_t)(mem_sysv_read_only(v) ? SHM_RDONLY : 0));
        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)address;
}

/* What mprotect(2) has parted stays parted, and counts in shm_nattch, also once it is equal again. */
static void add_splits(const struct attachment *a, struct compel_batch *b) {
        for (size_t i = 1; i < a->n; i++) {
                uint64_t start = a->areas[i]->start, size = a->areas[i]->end - start;

                compel_call(b, "part an area", SYS_mprotect, start, size, PROT_NONE);
                compel_call(b, "part an area", SYS_mprotect, start, size, a->areas[i]->map_prot);
        }
}

/* Attach all of it aside, and move the parts to where they were. */
static int add_parts(struct restore_task *t, const struct attachment *a, struct compel_batch *b) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec taken = { 0 };
        const struct compel_host *host = t->restore->host;
        uint64_t aside;
        int r;

        r = mem_taken_by_task(t, &taken);
        if (r == 0)
                r = mem_run_vec_push(
                        &taken, (struct mem_run){ .start = compel_host_addr(host),
                                                  .end = compel_host_addr(host) + compel_host_size(host) });
        if (r == 0)
                r = mem_find_gap(&taken, a->size, PAGE_SIZE, &aside);
        if (r < 0)
                return r;
        add_attach(a, b, aside);
        for (size_t i = 0; i < a->n; i++) {
                const struct restore_area *area = a->areas[i];
                struct compel_op *op;

                op = compel_call(b, "move a part of shared memory", SYS_mremap, aside + area->msg->pgoff,
                                 area->end - area->start, area->end - area->start,
                                 (uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED), area->start);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = (int64_t)area->start;
        }
        compel_call(b, "unmap the rest of shared memory", SYS_munmap, aside, a->size);
        return 0;
}

static int add_attachment(struct restore_task *t, struct attachment *a, struct compel_batch *b) {
        uint64_t id = a->areas[0]->msg->shmid;

        if (a->areas[0]->kind == MEM_SOCKET)
                a->size = packet_mapping_size(t->restore, (uint32_t)id);
        else if (ipc_find_segment(t->restore, id, &a->size))
                a->size = page_align_up(a->size);
        ckpt_assert(a->size > 0); /* mem_check_segments(), mem_check_sockets() */
        if (!is_whole(a))
                return add_parts(t, a, b);
        add_attach(a, b, a->areas[0]->start);
        add_splits(a, b);
        return 0;
}

int mem_add_attachments(struct restore_task *t, struct compel_batch *b) {
        _cleanup_(area_ref_vec_done) struct area_ref_vec refs = { 0 };
        int r = 0;

        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (mem_is_attached(t->mem->areas.v[i].kind) &&
                    area_ref_vec_push(&refs, &t->mem->areas.v[i]) < 0)
                        return -ENOMEM;
        if (refs.n > 0)
                qsort(refs.v, refs.n, sizeof(*refs.v), compare);
        for (size_t i = 0; r == 0 && i < refs.n;) {
                struct attachment a = { .areas = refs.v + i };

                while (i < refs.n && compare_attachments(a.areas[0], refs.v[i]) == 0) {
                        a.n++;
                        i++;
                }
                r = add_attachment(t, &a, b);
        }
        return r;
}
