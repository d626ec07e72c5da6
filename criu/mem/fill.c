/* SPDX-License-Identifier: GPL-2.0-only */
/* The bytes of a task's memory, read by the task itself from the pages file straight into place. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "macro.h"
#include "mem/restore.h"
#include "mem/uapi.h"

#define READ_MAX   (64ULL << 20) /* bytes in one call */
#define WORTH_HELP (4ULL << 20)  /* from here on others may lend a hand */

static void add_open(struct restore_task *t, struct compel_batch *b) {
        const struct restore_mem_tree *tree = restore_mem_tree_of(t->restore);
        char name[IMAGE_NAME_MAX];
        struct compel_op *op;
        uint64_t fd;
        raddr_t at;

        image_name(IMAGE_PAGES, t->mem->pages_id, name);
        at = compel_copy(b, name, strlen(name) + 1); /* and room for what follows */
        fd = compel_index(b, compel_call(b, "open its pages file", SYS_openat, (uint64_t)tree->images_fd, at,
                                         O_RDONLY | O_CLOEXEC));
        op = compel_call(b, "keep its pages file open", SYS_dup3, fd, (uint64_t)tree->pages_fd, O_CLOEXEC);
        op->refs = 1;
        op = compel_call(b, "close a descriptor", SYS_close, fd);
        op->refs = 1;
}

/* Runs of cow pages that stand in kept areas are there already. */
static int choose_runs(struct restore_task *t, struct mem_run_vec *ret) {
        const struct restore_area_vec *areas = &t->mem->areas;
        uint64_t skipped = 0, restored = 0;
        size_t a = 0;

        for (size_t i = 0; i < t->mem->runs.n; i++) {
                struct mem_run run = t->mem->runs.v[i];
                bool cow = run.sort & MEM_SORT_COW;

                while (run.start < run.end) {
                        struct mem_run part = run;
                        bool kept;

                        while (a < areas->n && areas->v[a].end <= run.start)
                                a++;
                        /* load.c saw to it that every page of a run is in an area. */
                        kept = cow && run.start >= areas->v[a].kept_start &&
                               run.start < areas->v[a].kept_end;
                        if (cow && areas->v[a].kept_end > 0)
                                part.end = MIN(run.end, kept ? areas->v[a].kept_end : areas->v[a].end);
                        else if (cow)
                                part.end = MIN(run.end, areas->v[a].end);
                        *(kept ? &skipped : &restored) += (part.end - part.start) / PAGE_SIZE;
                        if (!kept && mem_run_vec_push(ret, part) < 0)
                                return -ENOMEM;
                        run.offset += part.end - part.start;
                        run.start = part.end;
                }
        }
        __atomic_fetch_add(&t->restore->stats.pages_compared, skipped, __ATOMIC_RELAXED);
        __atomic_fetch_add(&t->restore->stats.pages_skipped_cow, skipped, __ATOMIC_RELAXED);
        __atomic_fetch_add(&t->restore->stats.pages_restored, restored, __ATOMIC_RELAXED);
        return 0;
}

void mem_add_piece(struct compel_batch *b, int fd, const struct mem_run_vec *runs,
                   const struct mem_piece *piece) {
        struct iovec iov[IOV_MAX];
        struct compel_op *op;
        raddr_t at;

        ckpt_assert(piece->nr <= ELEMENTSOF(iov));
        mem_piece_places(runs, piece, iov);
        at = compel_copy(b, iov, piece->nr * sizeof(*iov));
        op = compel_call(b, "fill its memory", SYS_preadv, (uint64_t)fd, at, piece->nr, piece->offset, 0);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)piece->bytes;
}

static void add_reads(struct compel_batch *b, int fd, const struct mem_run_vec *runs) {
        size_t max = MIN((size_t)IOV_MAX, compel_capacity(b) / 4 / sizeof(struct iovec)), i = 0;
        uint64_t skip = 0;

        while (i < runs->n) {
                struct mem_piece piece = mem_runs_cut(runs, &i, &skip, max, READ_MAX);

                mem_add_piece(b, fd, runs, &piece);
        }
}

static void add_patches(struct restore_task *t, struct compel_batch *b) {
        int fd = restore_mem_tree_of(t->restore)->patch_fd;

        for (size_t i = 0; i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                if (area->patch)
                        mem_add_read(b, "fill the old vDSO", fd, area->start, area->end - area->start,
                                     area->patch_offset);
        }
}

int mem_fill(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        const struct restore_mem_tree *tree = restore_mem_tree_of(t->restore);
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        int r;

        add_patches(t, b);
        r = choose_runs(t, &runs);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot plan its memory", restore_task_name(t));
        if (runs.n == 0)
                return 0;
        add_open(t, b);
        r = mem_fill_huge(t, b, &runs, err);
        if (r < 0)
                return r;
        /*
         * Where only now and then a page is written, huge ones would take many times the memory. task/
         * sets it last.
         */
        compel_call(b, "fill with small pages", SYS_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
        /* Who is not born yet has all of it in one batch, and nobody can wait for it. */
        if (!t->fills_at_birth && mem_runs_bytes(&runs) >= WORTH_HELP)
                r = mem_fill_pieces(t, b, &runs, err);
        else
                add_reads(b, tree->pages_fd, &runs);
        if (r < 0)
                return r;
        compel_call(b, "close its pages file", SYS_close, (uint64_t)tree->pages_fd);
        progress_add(&t->restore->run->progress, t->mem->pages_size);
        return 0;
}
