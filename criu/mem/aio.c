/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/aio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/aio_flight.h"
#include "proc/scan.h"
#include "restore/inherit.h"
#include "task/kind.h"

#define RING_MAGIC 0xa10a10a1U

/* How the ring begins: part of the kernel's interface, libaio reads it. */
struct ring_head {
        uint32_t id, nr;
        uint32_t head, tail; /* of the unread events: by index, wrapping at nr */
        uint32_t magic, compat_features, incompat_features, header_length;
};

enum {
        EVENT_SIZE = sizeof(struct io_event),
        HEAD_OFFSET = offsetof(struct ring_head, head),
        PER_CPU = 4,    /* requests that the kernel sets up for each possible CPU at least */
        SUBMIT_MAX = 64 /* requests handed over in one call */
};

#define QUIET_NS    (10 * 1000000LL)  /* rings that stay as they are for so long ... */
#define PATIENCE_NS (500 * 1000000LL) /* ... are waited for this long, in each attempt */

/* Events that a ring of `size` bytes has room for. */
static uint32_t ring_events(uint64_t size) {
        return (uint32_t)((size - sizeof(struct ring_head)) / EVENT_SIZE);
}

/* Bytes of the ring that io_setup(2) makes for so many requests. */
static uint64_t ring_size(uint64_t requests, uint64_t cpus) {
        uint64_t events = MAX(requests, cpus * PER_CPU) * 2 + 2;

        return page_align_up(sizeof(struct ring_head) + events * EVENT_SIZE);
}

/* The smallest number of requests that a ring of this size is made for. */
static uint32_t requests_of(uint64_t size) {
        uint32_t few = (uint32_t)((size - PAGE_SIZE) / EVENT_SIZE / 2);

        return few > 1 ? few - 1 : 1;
}

static bool is_sound(const struct ring_head *h, uint64_t size) {
        return h->magic == RING_MAGIC && h->header_length == sizeof(*h) && h->nr == ring_events(size) &&
               h->head < h->nr && h->tail < h->nr && h->incompat_features == 0;
}

/* ---- dump ---- */

bool aio_is_ring(const struct proc_vma *vma) {
        return vma->ino != 0 && vma->shared && strcmp(vma->name, "/[aio] (deleted)") == 0;
}

static bool has_ring(const struct dump_task *t, uint64_t ino) {
        for (size_t i = 0; i < t->smaps.n; i++)
                if (aio_is_ring(&t->smaps.v[i].vma) && t->smaps.v[i].vma.ino == ino)
                        return true;
        return false;
}

static void look_ring(struct dump_task *t, const struct proc_vma *vma) {
        for (const struct dump_task *p = t->parent; p; p = p->parent)
                if (has_ring(p, vma->ino)) {
                        blocker_add(
                                t->dump->blockers,
                                "Let the program set up its AIO contexts after it has forked",
                                "%s: the mapping at %#llx is the ring of an AIO context of another process, which "
                                "cannot be checkpointed yet",
                                dump_task_name(t), (unsigned long long)vma->start);
                        return;
                }
}

static const char waiting_hint[] = "Have the program cancel it (io_cancel), or use epoll";

/* While it runs, what is read may not fit together; then the freeze will tell. */
static void look_requests(struct dump_task *t) {
        struct aio_flight flight = { 0 };

        if (aio_flight_read(t, &flight) == 0 && flight.waiting)
                blocker_add(
                        t->dump->blockers, waiting_hint,
                        "%s has an AIO request in flight that waits for a descriptor (IOCB_CMD_POLL), which "
                        "cannot be carried over",
                        dump_task_name(t));
}

void aio_look_tree(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                bool found = false;

                for (size_t j = 0; j < d->tasks[i]->smaps.n; j++)
                        if (aio_is_ring(&d->tasks[i]->smaps.v[j].vma)) {
                                look_ring(d->tasks[i], &d->tasks[i]->smaps.v[j].vma);
                                found = true;
                        }
                if (found && d->checking)
                        look_requests(d->tasks[i]);
        }
}

struct asked {
        size_t n;
        uint32_t *ops;
        uint64_t *addresses;
};

/* Reading no events of it does nothing, and fails where there is no context, as behind a fork(2). */
static void *ask(struct dump_thread *t, struct compel_batch *b) {
        struct arena *a = &t->task->arena;
        struct asked *asked = arena_new(a, struct asked);

        asked->ops = arena_new_array(a, uint32_t, t->task->smaps.n + 1);
        asked->addresses = arena_new_array(a, uint64_t, t->task->smaps.n + 1);
        for (size_t i = 0; i < t->task->smaps.n; i++) {
                const struct proc_vma *vma = &t->task->smaps.v[i].vma;
                struct compel_op *op;

                if (!aio_is_ring(vma))
                        continue;
                op = compel_call(b, "look at an AIO context", SYS_io_getevents, vma->start, 0, 0, 0, 0);
                op->check = COMPEL_CHECK_NOTHING;
                asked->addresses[asked->n] = vma->start;
                asked->ops[asked->n++] = compel_index(b, op);
        }
        return asked;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *ptr,
                  struct ckpt_error *err __attribute__((unused))) {
        struct mem_answers *ret = &dump_mem_of(t->task)->answers;
        const struct asked *asked = ptr;

        ret->contexts = arena_new_array(&t->task->arena, uint64_t, asked->n + 1);
        ret->nr_contexts = 0;
        for (size_t i = 0; i < asked->n; i++)
                if (b->ops[asked->ops[i]].ret == 0)
                        ret->contexts[ret->nr_contexts++] = asked->addresses[i];
        return 0;
}

const struct task_kind mem_aio_kind = {
        .name = "AIO contexts",
        .ask = ask,
        .answer = answer,
};

static int read_head(const struct dump_task *t, const Img__Vma *v, struct ring_head *ret) {
        struct iovec local = { ret, sizeof(*ret) }, remote = { (void *)(uintptr_t)v->start, sizeof(*ret) };
        ssize_t n = process_vm_readv(t->threads[0].tid, &local, 1, &remote, 1, 0);

        return n == sizeof(*ret) ? 0 : n < 0 ? -errno : -EIO;
}

static bool is_usable(const struct mem_answers *a, uint64_t address) {
        for (size_t i = 0; i < a->nr_contexts; i++)
                if (a->contexts[i] == address)
                        return true;
        return false;
}

static int check_ring(struct dump_task *t, const Img__Vma *v, struct ckpt_error *err) {
        int r = -ENOTSUP;
        struct ring_head head;
        const char *why;

        if (!is_usable(&t->mem->answers, v->start)) {
                why = "which it cannot use: it was inherited by fork(2), or has just been made or moved";
                r = -EAGAIN;
        } else if (read_head(t, v, &head) < 0 || !is_sound(&head, v->end - v->start)) {
                why = "which is not as the kernel makes it";
        } else if (v->prot != (PROT_READ | PROT_WRITE) || v->madv != 0) {
                why = "whose protection or advice was changed";
        } else {
                return 0;
        }
        return ckpt_error(
                err, r,
                "%s has the ring of an AIO context (io_setup) at %#llx, %s; the tree runs on as before",
                dump_task_name(t), (unsigned long long)v->start, why);
}

/* "       0        0": reads and writes. */
static bool is_idle(int dir, const char *name) {
        char path[NAME_MAX + 16], buf[64] = "";
        _cleanup_close_ int fd = -EBADF;

        snprintf(path, sizeof(path), "%s/inflight", name);
        fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
        return fd < 0 || read_full(fd, buf, sizeof(buf) - 1) <= 0 || strpbrk(buf, "123456789") == NULL;
}

static bool are_disks_idle(void) {
        DIR *dir = opendir("/sys/block");
        const struct dirent *e;
        bool idle = true;

        if (!dir)
                return true;
        while (idle && (e = readdir(dir)))
                idle = e->d_name[0] == '.' || is_idle(dirfd(dir), e->d_name);
        closedir(dir);
        return idle;
}

static int64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static uint64_t sum_of_tails(const struct dump_task *t) {
        const Img__Mm *mm = t->mem->mm;
        uint64_t sum = 0;

        for (size_t i = 0; i < mm->n_aios; i++) {
                Img__Vma v = { .start = mm->aios[i]->id };
                struct ring_head head;

                if (read_head(t, &v, &head) == 0)
                        sum = sum * 31 + head.tail;
        }
        return sum;
}

/* 1: it cannot be seen. Requests go on while their process is frozen, unless they wait for something to happen. */
static int wait_for_requests(struct dump_task *t, struct ckpt_error *err) {
        const struct timespec moment = { .tv_nsec = 100000 };
        int64_t give_up = now_ns() + PATIENCE_NS;
        struct aio_flight flight = { 0 };

        do {
                if (aio_flight_read(t, &flight) < 0)
                        return 1;
                if (flight.n == 0)
                        return 0;
                if (flight.waiting) {
                        ckpt_error(
                                err, -ENOTSUP,
                                "%s has an AIO request in flight that waits for a descriptor (IOCB_CMD_POLL), "
                                "which cannot be carried over; the tree runs on as before",
                                dump_task_name(t));
                        return ckpt_error_hint(err, "%s", waiting_hint);
                }
                nanosleep(&moment, NULL);
        } while (now_ns() < give_up);
        ckpt_error(err, -EAGAIN,
                   "%s has %llu AIO requests in flight, which do not end; the tree runs on as before",
                   dump_task_name(t), (unsigned long long)flight.n);
        return ckpt_error_hint(err, "Try again when less is written");
}

/*
 * Without BPF nothing tells how many requests are in flight. Those of a disk are over once all disks were idle for a moment, and their
 * events are in the ring soon after.
 */
static int wait_until_quiet(struct dump_task *t, struct ckpt_error *err) {
        int64_t give_up = now_ns() + PATIENCE_NS;
        const struct timespec quiet = { .tv_nsec = QUIET_NS }, moment = { .tv_nsec = QUIET_NS / 10 };
        int r = wait_for_requests(t, err);

        if (r <= 0)
                return r;
        while (now_ns() < give_up) {
                uint64_t before = sum_of_tails(t);

                if (!are_disks_idle()) {
                        nanosleep(&moment, NULL);
                        continue;
                }
                nanosleep(&quiet, NULL);
                if (sum_of_tails(t) == before)
                        return 0;
        }
        ckpt_error(
                err, -EAGAIN,
                "%s has AIO contexts (io_setup), and the disks are busy all the time, so that requests may be in "
                "flight; the tree runs on as before",
                dump_task_name(t));
        return ckpt_error_hint(err, "Try again when less is written");
}

int aio_collect(struct dump_task *t, struct ckpt_error *err) {
        Img__Mm *mm = t->mem->mm;
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < t->mem->areas.n; i++)
                n += t->mem->areas.v[i].kind == MEM_AIO;
        if (n == 0)
                return 0;
        mm->aios = arena_new_array(&t->arena, Img__AioRing *, n);
        for (size_t i = 0; r == 0 && i < t->mem->areas.n; i++) {
                const Img__Vma *v = t->mem->areas.v[i].msg;
                Img__AioRing *ring;

                if (t->mem->areas.v[i].kind != MEM_AIO)
                        continue;
                r = check_ring(t, v, err);
                ring = arena_message(&t->arena, Img__AioRing, img__aio_ring__init);
                ring->id = v->start;
                ring->ring_len = (uint32_t)(v->end - v->start);
                ring->nr_req = requests_of(ring->ring_len);
                mm->aios[mm->n_aios++] = ring;
        }
        return r < 0 ? r : wait_until_quiet(t, err);
}

/* ---- restore ---- */

static int damaged(const struct restore_task *t, const Img__AioRing *ring, const char *why,
                   struct ckpt_error *err) {
        return ckpt_error(err, -EBADMSG, "mm-%d.img is damaged: the AIO context at %#llx %s", t->pid,
                          (unsigned long long)ring->id, why);
}

static const struct restore_area *area_of(const struct restore_task *t, uint64_t start) {
        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].start == start && t->mem->areas.v[i].kind == MEM_AIO)
                        return &t->mem->areas.v[i];
        return NULL;
}

/* The ring's beginning, from the pages file. */
static int load_head(const struct restore_task *t, const struct restore_area *area, struct ring_head *ret,
                     struct ckpt_error *err) {
        const struct mem_run_vec *runs = &t->mem->runs;
        size_t i = mem_runs_find(runs, area->start);
        _cleanup_close_ int fd = -EBADF;
        uint64_t size;
        int r;

        if (i == runs->n || runs->v[i].start > area->start || runs->v[i].end < area->end)
                return -ENODATA;
        r = image_pages_fd(t->restore->dir, t->mem->pages_id, &fd, &size, err);
        if (r < 0)
                return r;
        if (pread_full(fd, ret, sizeof(*ret), (off_t)(runs->v[i].offset + area->start - runs->v[i].start)) !=
            (ssize_t)sizeof(*ret))
                return -ENODATA;
        return 0;
}

static int check_context(const struct restore_task *t, const Img__AioRing *ring, uint64_t cpus,
                         struct ckpt_error *err) {
        const struct restore_area *area = area_of(t, ring->id);
        struct ring_head head;
        int r;

        if (!area || area->end - area->start != ring->ring_len)
                return damaged(t, ring, "has no ring, or one of another size", err);
        r = load_head(t, area, &head, err);
        if (r == -ENODATA || (r == 0 && !is_sound(&head, ring->ring_len)))
                return damaged(t, ring, "has a ring without meaning", err);
        if (r < 0)
                return r;
        if (ring_size(ring->nr_req, 0) != ring->ring_len)
                return damaged(t, ring, "does not have as many requests as its ring", err);
        if (ring_size(ring->nr_req, cpus) != ring->ring_len)
                return ckpt_error(
                        err, -ENOTSUP,
                        "pid %d has an AIO context for %u events; with %llu CPUs, as this machine may have, "
                        "the kernel makes none so small; nothing was created",
                        t->pid, head.nr, (unsigned long long)cpus);
        return 0;
}

int aio_load(struct restore_task *t, struct ckpt_error *err) {
        const Img__Mm *mm = t->mm;
        uint64_t cpus = mm->n_aios > 0 ? aio_possible_cpus() : 0;
        size_t rings = 0;
        int r = 0;

        for (size_t i = 0; i < t->mem->areas.n; i++)
                rings += t->mem->areas.v[i].kind == MEM_AIO;
        if (rings != mm->n_aios)
                return ckpt_error(err, -EBADMSG,
                                  "mm-%d.img is damaged: it has %zu AIO contexts and %zu rings", t->pid,
                                  mm->n_aios, rings);
        for (size_t i = 0; r == 0 && i < mm->n_aios; i++) {
                for (size_t j = 0; j < i; j++)
                        if (mm->aios[j]->id == mm->aios[i]->id)
                                return damaged(t, mm->aios[i], "is there twice", err);
                r = check_context(t, mm->aios[i], cpus, err);
        }
        return r;
}

int aio_prepare(struct restore *r, struct ckpt_error *err) {
        struct restore_mem_tree *tree = restore_mem_tree_of(r);
        _cleanup_close_ int fd = -EBADF;
        bool any = false;

        for (size_t i = 0; i < r->nr_tasks; i++)
                any = any || (r->tasks[i]->mm && r->tasks[i]->mm->n_aios > 0);
        if (!any)
                return 0;
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot open /dev/null");
        tree->null_fd = restore_inherit(r, fd, err);
        return tree->null_fd < 0 ? tree->null_fd : 0;
}

/* A context on its way. */
struct setup {
        struct restore_task *t;
        struct compel_batch *b;
        const Img__AioRing *ring;
        uint64_t now_at; /* where the kernel made it */
        uint32_t nr, tail;
};

/* Copy within the task. */
static void add_copy(const struct setup *s, raddr_t from, raddr_t to, uint64_t size) {
        struct iovec iov[2] = { { (void *)(uintptr_t)from, size }, { (void *)(uintptr_t)to, size } };
        raddr_t at = compel_copy(s->b, iov, sizeof(iov));
        struct compel_op *op;

        op = compel_call(s->b, "fill the ring of an AIO context", SYS_process_vm_writev, s->t->pid, at, 1,
                         at + sizeof(iov[0]), 1, 0);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)size;
}

/* All events up to `head` are read. */
static void add_head(const struct setup *s, uint32_t head) {
        compel_room(s->b, 8, 64);
        add_copy(s, compel_copy(s->b, &head, sizeof(head)), s->now_at + HEAD_OFFSET, sizeof(head));
}

/* Writes of nothing to /dev/null: each is an event at once, which moves the tail by one. */
static void add_requests(struct setup *s, uint32_t n, bool read) {
        struct iocb request = { .aio_lio_opcode = IOCB_CMD_PWRITE,
                                .aio_fildes = (uint32_t)restore_mem_tree_of(s->t->restore)->null_fd };
        uint32_t step = MIN((uint32_t)SUBMIT_MAX, MAX(1U, s->nr / 8));

        while (n > 0) {
                uint32_t now = MIN(n, step);
                uint64_t list[SUBMIT_MAX];
                struct compel_op *op;
                raddr_t at;

                compel_room(s->b, 16, sizeof(request) + sizeof(list) + 128);
                at = compel_copy(s->b, &request, sizeof(request));
                for (uint32_t i = 0; i < now; i++)
                        list[i] = at;
                at = compel_copy(s->b, list, now * sizeof(*list));
                op = compel_call(s->b, "move on in the ring of an AIO context", SYS_io_submit, s->now_at,
                                 now, at);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = now;
                s->tail = (s->tail + now) % s->nr;
                if (read)
                        add_head(s, s->tail);
                n -= now;
        }
}

static int set_up(struct setup *s, struct ckpt_error *err) {
        raddr_t at;
        const uint64_t *context;
        int r;

        compel_room(s->b, 8, 64);
        context = compel_data(s->b, sizeof(*context), &at);
        compel_call(s->b, "set up an AIO context (see fs.aio-max-nr)", SYS_io_setup, s->ring->nr_req, at);
        r = s->b->error;
        if (r == 0) {
                compel_start(s->b);
                r = compel_wait(s->b, err);
        }
        if (r < 0)
                return r;
        s->now_at = *context;
        compel_reset(s->b);
        return 0;
}

static int restore_context(struct setup *s, struct ckpt_error *err) {
        const struct restore_area *area = area_of(s->t, s->ring->id);
        uint64_t len = s->ring->ring_len, place = s->ring->id;
        struct ring_head head;
        struct compel_op *op;
        int r;

        r = load_head(s->t, area, &head, err);
        if (r == 0)
                r = compel_run(s->b, err);
        if (r == 0)
                r = set_up(s, err);
        if (r < 0)
                return r;
        s->nr = head.nr;
        add_requests(s, head.head, true);
        add_requests(s, (head.tail + head.nr - head.head) % head.nr, false);
        compel_room(s->b, 8, 64);
        add_copy(s, place + sizeof(head), s->now_at + sizeof(head), len - sizeof(head));
        op = compel_call(s->b, "move the ring of an AIO context to its address", SYS_mremap, s->now_at, len,
                         len, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)place;
        compel_call(s->b, "use an AIO context at its address", SYS_io_getevents, place, 0, 0, 0, 0);
        return compel_run(s->b, err);
}

int aio_restore(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->mm->n_aios; i++) {
                struct setup s = { .t = t, .b = b, .ring = t->mm->aios[i] };

                r = restore_context(&s, err);
        }
        return r;
}
