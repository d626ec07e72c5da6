/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of packet sockets in an address space: the rings, all in one mapping, of which a process may have cut pieces since. The socket
 * (sock/ring.h) makes them and fills them, before there are tasks; these map it, as they attach System V memory (sysv.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "macro.h"
#include "mem/dump.h"
#include "mem/restore.h"
#include "sock/sock.h"

static const char prefix[] = "socket:[";

/* ---- dump ---- */

bool mem_is_socket(const struct proc_vma *vma, uint64_t *ret_ino) {
        if (vma->name[0] != 's' || strncmp(vma->name, prefix, sizeof(prefix) - 1) != 0)
                return false;
        if (ret_ino)
                *ret_ino = vma->ino;
        return true;
}

int mem_each_socket(struct dump *d,
                    int (*fn)(void *arg, struct dump_task *t, const struct proc_vma *vma, Img__Vma *msg),
                    void *arg) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++) {
                const struct dump_mem *mem = d->tasks[i]->mem;

                for (size_t j = 0; r == 0 && mem && j < mem->areas.n; j++)
                        if (mem->areas.v[j].kind == MEM_SOCKET)
                                r = fn(arg, d->tasks[i], &mem->areas.v[j].vma, mem->areas.v[j].msg);
        }
        return r;
}

static bool is_zero(const char *page) {
        return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

int mem_save_mapping(struct dump *d, const char *addr, uint64_t size, uint32_t id, const char *name,
                     struct ckpt_error *err) {
        uint32_t pages_id = __atomic_add_fetch(&mem_tree_of(d)->last_pages_id, 1, __ATOMIC_RELAXED);
        struct mem_source source = { .fd = -EBADF, .memory = addr, .name = name };
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        int r = 0;

        for (uint64_t at = 0; r == 0 && at < size; at += PAGE_SIZE)
                if (!is_zero(addr + at))
                        r = mem_runs_add(&runs, at, at + PAGE_SIZE, 0);
        if (r < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        return mem_store(d, &source, IMAGE_SHMEM_PAGEMAP, id, pages_id, &runs, err);
}

/* ---- load ---- */

static int check_area(const struct restore *r, const struct restore_task *t, const struct restore_area *area,
                      struct ckpt_error *err) {
        uint64_t size =
                area->msg->shmid <= UINT32_MAX ? packet_mapping_size(r, (uint32_t)area->msg->shmid) : 0;

        if (area->msg->pgoff + (area->end - area->start) <= size) {
                if (packet_place_is_known(r, (uint32_t)area->msg->shmid))
                        return 0;
                return ckpt_error(
                        err, -ENOTSUP,
                        "pid %d maps the ring of a packet socket at %#llx, and the images do not tell where the "
                        "kernel was in it; nothing was created",
                        t->pid, (unsigned long long)area->start);
        }
        return ckpt_error(
                err, -EBADMSG,
                "mm-%d.img is damaged: the area at %#llx is of no part of the rings of a packet socket",
                t->pid, (unsigned long long)area->start);
}

int mem_check_sockets(const struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; ret == 0 && r->tasks[i]->mem && j < r->tasks[i]->mem->areas.n; j++)
                        if (r->tasks[i]->mem->areas.v[j].kind == MEM_SOCKET)
                                ret = check_area(r, r->tasks[i], &r->tasks[i]->mem->areas.v[j], err);
        return ret;
}
