/* SPDX-License-Identifier: GPL-2.0-only */
/* What of an address space /proc does not show, and only the task itself can be asked for. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "macro.h"
#include "mem/dump.h"
#include "mem/uapi.h"
#include "task/kind.h"

enum { AUXV_MAX = 1024 }; /* bytes; the kernel has some 500 */

/* Places in the batch. */
struct asked {
        uint32_t brk, mdwe, auxv, map, locked, resident;
        const unsigned char *vec; /* what mincore(2) writes; in memory shared with the task */
        const char *auxv_data;    /* likewise */
};

/* /proc shows it, too, but that takes eight microseconds, and some memory of the kernel's until the task is reaped. */
static void ask_auxv(struct compel_batch *b, struct asked *a) {
        struct compel_op *op;
        raddr_t at;

        a->auxv_data = compel_data(b, AUXV_MAX, &at);
        op = compel_call(b, "read PR_GET_AUXV", SYS_prctl, PR_GET_AUXV, at, AUXV_MAX, 0, 0);
        op->check = COMPEL_CHECK_NOTHING;
        a->auxv = compel_index(b, op);
}

static void answer_auxv(struct dump_task *t, int64_t size, const char *data) {
        struct mem_answers *ret = &dump_mem_of(t)->answers;

        if (size <= 0 || size > AUXV_MAX)
                return; /* an older kernel */
        ret->auxv = arena_copy(&t->arena, data, (size_t)size);
        ret->auxv_size = (size_t)size;
}

/*
 * mlockall(MCL_FUTURE) shows only in what is mapped from then on: msync(MS_INVALIDATE) refuses a locked
 * page, and unless it is to be locked on its first fault, the page is there at once.
 */
static void ask_lock_future(struct compel_batch *b, struct asked *a) {
        raddr_t vec;
        uint32_t map;

        a->vec = compel_data(b, 1, &vec);
        map = compel_index(b, compel_call(b, "map a page", SYS_mmap, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0));
        b->ops[map].check = COMPEL_CHECK_NOTHING;
        a->map = map;
        a->locked = compel_index(
                b, compel_call(b, "see whether it is locked", SYS_msync, map, PAGE_SIZE, MS_INVALIDATE));
        a->resident = compel_index(
                b, compel_call(b, "see whether it is resident", SYS_mincore, map, PAGE_SIZE, vec));
        compel_call(b, "unmap a page", SYS_munmap, map, PAGE_SIZE);
        for (uint32_t i = map + 1; i < b->n; i++) {
                b->ops[i].refs = 1;
                b->ops[i].check = COMPEL_CHECK_NOTHING;
        }
}

static void *ask(struct dump_thread *t, struct compel_batch *b) {
        struct asked *a = arena_new(&t->task->arena, struct asked);
        struct compel_op *mdwe;

        compel_room(b, 16, PAGE_SIZE + AUXV_MAX);
        a->brk = compel_index(b, compel_call(b, "read the break", SYS_brk, 0));
        mdwe = compel_call(b, "read PR_GET_MDWE", SYS_prctl, PR_GET_MDWE, 0, 0, 0, 0);
        mdwe->check = COMPEL_CHECK_NOTHING;
        a->mdwe = compel_index(b, mdwe);
        ask_auxv(b, a);
        ask_lock_future(b, a);
        return a;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *asked, struct ckpt_error *err) {
        struct mem_answers *ret = &dump_mem_of(t->task)->answers;
        const struct asked *a = asked;
        int64_t map = b->ops[a->map].ret;

        ret->brk = (uint64_t)b->ops[a->brk].ret;
        if (ret->brk >= MEM_END)
                return ckpt_error(err, -EIO, "%s: its break, %#llx, makes no sense", dump_task_name(t->task),
                                  (unsigned long long)ret->brk);
        ret->mdwe = (int)b->ops[a->mdwe].ret;
        answer_auxv(t->task, b->ops[a->auxv].ret, a->auxv_data);
        if (map == -EAGAIN || b->ops[a->locked].ret == -EBUSY)
                ret->lock_future = MCL_FUTURE;
        if (ret->lock_future && map != -EAGAIN && b->ops[a->resident].ret == 0 && !(*a->vec & 1))
                ret->lock_future |= MCL_ONFAULT;
        ret->known = true;
        return 0;
}

const struct task_kind mem_brk_kind = {
        .name = "memory",
        .ask = ask,
        .answer = answer,
};
