/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filling with huge pages. Where all of an aligned 2 MiB of private memory has content, it is read into
 * an arena of huge pages and moved into place with UFFDIO_MOVE (Linux 6.8), which only changes page
 * tables: about three times as fast as reading into fresh small pages, and the areas keep their flags (a
 * MADV_HUGEPAGE on them would stay visible). The task has its userfaultfd for as long as this takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/restore.h"
#include "mem/uapi.h"

#define HUGE       (2ULL << 20)
#define ARENA_SIZE (64ULL << 20)
#define WORTH_IT   (8ULL << 20) /* less is done before the arena is set up */
#define MOVES_MAX  64           /* fit into the smallest batch */

/* Content of an arena on its way. */
struct move {
        uint32_t op;
        const struct uffdio_move *arg; /* in the lane */
        struct mem_run run;
};

struct huge {
        struct restore_task *t;
        struct compel_batch *b;
        uint64_t arena;
        int pages_fd, uffd;
        uint64_t used;             /* of the arena */
        struct mem_run_vec filled; /* of the arena, from the pages file */
        struct mem_run_vec ranges; /* what is filled this way */
        struct mem_run_vec rest;   /* what is left to others */
        struct move moves[MOVES_MAX];
        size_t nr_moves;
};

static void huge_done(struct huge *h) {
        mem_run_vec_done(&h->ranges);
        mem_run_vec_done(&h->rest);
        mem_run_vec_done(&h->filled);
}

/* [always] madvise never: what stands in brackets holds. */
static bool has_huge_pages(void) {
        _cleanup_close_ int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
        char buf[64] = "";

        return fd >= 0 && read_full(fd, buf, sizeof(buf) - 1) > 0 && !strstr(buf, "[never]");
}

static bool is_eligible(const struct restore_area *area) {
        return area->kind == MEM_ANON && area->map_prot == (PROT_READ | PROT_WRITE) && area->kept_end == 0 &&
               !area->patch && mem_huge_flags(area->msg->flags) == 0 &&
               !(area->msg->flags & MAP_GROWSDOWN) && !(area->msg->madv & (1ULL << MADV_NOHUGEPAGE));
}

static int push(struct mem_run_vec *runs, const struct mem_run *run, uint64_t start, uint64_t end) {
        if (start >= end)
                return 0;
        return mem_run_vec_push(runs, (struct mem_run){ .start = start,
                                                        .end = end,
                                                        .offset = run->offset + (start - run->start),
                                                        .sort = run->sort });
}

/* The last of the areas from `i` on that are one area as yet and allow huge pages, as the first one does. */
static size_t last_eligible(const struct restore_area_vec *areas, size_t i) {
        while (i + 1 < areas->n && is_eligible(&areas->v[i + 1]) &&
               mem_made_by_one(&areas->v[i], &areas->v[i + 1]))
                i++;
        return i;
}

/*
 * Cut a run into its whole huge pages within areas that allow them, and the rest. What parts the areas later, parts a huge
 * page into small ones without touching its bytes.
 */
static int split_run(struct huge *h, const struct mem_run *run, size_t *cursor) {
        const struct restore_area_vec *areas = &h->t->mem->areas;
        uint64_t at = run->start;
        int r = 0;

        while (*cursor < areas->n && areas->v[*cursor].end <= run->start)
                (*cursor)++;
        for (size_t i = *cursor; r == 0 && i < areas->n && areas->v[i].start < run->end; i++) {
                uint64_t start = (MAX(areas->v[i].start, run->start) + HUGE - 1) & ~(HUGE - 1), end;

                if (!is_eligible(&areas->v[i]))
                        continue;
                i = last_eligible(areas, i);
                end = MIN(areas->v[i].end, run->end) & ~(HUGE - 1);
                if (start >= end)
                        continue;
                r = push(&h->rest, run, at, start);
                if (r == 0)
                        r = push(&h->ranges, run, start, end);
                at = end;
        }
        return r < 0 ? r : push(&h->rest, run, at, run->end);
}

static int split_runs(struct huge *h, const struct mem_run_vec *runs) {
        size_t cursor = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < runs->n; i++)
                r = split_run(h, &runs->v[i], &cursor);
        return r;
}

static int find_arena(struct huge *h) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec taken = { 0 };
        uint64_t host = compel_host_addr(h->t->restore->host);
        int r;

        r = mem_taken_by_task(h->t, &taken);
        if (r == 0)
                r = mem_run_vec_push(
                        &taken, (struct mem_run){ .start = host,
                                                  .end = host + compel_host_size(h->t->restore->host) });
        return r < 0 ? r : mem_find_gap(&taken, ARENA_SIZE, HUGE, &h->arena);
}

static void add_setup(struct huge *h) {
        struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
        struct compel_batch *b = h->b;
        struct compel_op *op;
        uint32_t fd;
        raddr_t at;

        compel_call(b, "allow huge pages", SYS_prctl, PR_SET_THP_DISABLE, 0, 0, 0, 0);
        compel_call(b, "map an arena", SYS_mmap, h->arena, ARENA_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, ~0ULL, 0);
        compel_call(b, "make an arena of huge pages", SYS_madvise, h->arena, ARENA_SIZE, MADV_HUGEPAGE);
        at = compel_copy(b, &api, sizeof(api));
        fd = compel_index(b, compel_call(b, "open a userfaultfd", SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        op = compel_call(b, "keep a userfaultfd open", SYS_dup3, fd, (uint64_t)h->uffd, O_CLOEXEC);
        op->refs = 1;
        op = compel_call(b, "close a descriptor", SYS_close, fd);
        op->refs = 1;
        compel_call(b, "set up a userfaultfd", SYS_ioctl, (uint64_t)h->uffd, UFFDIO_API, at);
        for (size_t i = 0; i < h->ranges.n; i++) {
                const struct mem_run *range = &h->ranges.v[i];
                struct uffdio_register reg = { .range = { range->start, range->end - range->start },
                                               .mode = UFFDIO_REGISTER_MODE_MISSING };

                at = compel_copy(b, &reg, sizeof(reg));
                compel_call(b, "register memory", SYS_ioctl, (uint64_t)h->uffd, UFFDIO_REGISTER, at);
        }
}

static void add_cleanup(struct huge *h) {
        for (size_t i = 0; i < h->ranges.n; i++) {
                const struct mem_run *range = &h->ranges.v[i];
                struct uffdio_range arg = { range->start, range->end - range->start };
                raddr_t at = compel_copy(h->b, &arg, sizeof(arg));

                compel_call(h->b, "unregister memory", SYS_ioctl, (uint64_t)h->uffd, UFFDIO_UNREGISTER, at);
        }
        compel_call(h->b, "close a userfaultfd", SYS_close, (uint64_t)h->uffd);
        compel_call(h->b, "unmap an arena", SYS_munmap, h->arena, ARENA_SIZE);
}

/* What did not move goes to those who read the plain way. */
static int judge_move(struct huge *h, const struct move *m) {
        int64_t moved = m->arg->move, size = (int64_t)(m->run.end - m->run.start);

        if (h->b->ops[m->op].ret == 0)
                return 0;
        moved = moved < 0 || moved > size ? 0 : moved & ~(int64_t)(PAGE_SIZE - 1);
        return push(&h->rest, &m->run, m->run.start + (uint64_t)moved, m->run.end);
}

static void add_moves(struct huge *h) {
        for (size_t i = 0; i < h->nr_moves; i++) {
                struct move *m = &h->moves[i];
                struct uffdio_move *arg;
                struct compel_op *op;
                raddr_t at;

                arg = compel_data(h->b, sizeof(*arg), &at);
                *arg = (struct uffdio_move){ .dst = m->run.start,
                                             .src = h->filled.v[i].start,
                                             .len = m->run.end - m->run.start };
                op = compel_call(h->b, "move memory into place", SYS_ioctl, (uint64_t)h->uffd, UFFDIO_MOVE,
                                 at);
                op->check = COMPEL_CHECK_NOTHING;
                m->op = compel_index(h->b, op);
                m->arg = arg;
        }
}

/* Fill the arena, and empty it again: what is in it moves. */
static int run_moves(struct huge *h, struct ckpt_error *err) {
        int r;

        r = mem_fill_pieces(h->t, h->b, &h->filled, err);
        if (r < 0)
                return r;
        add_moves(h);
        if (h->b->error)
                return compel_run(h->b, err);
        compel_start(h->b);
        r = compel_wait(h->b, err);
        for (size_t i = 0; r == 0 && i < h->nr_moves; i++) {
                r = judge_move(h, &h->moves[i]);
                if (r < 0)
                        ckpt_error(err, r, "not enough memory");
        }
        h->nr_moves = h->filled.n = 0;
        h->used = 0;
        if (r == 0)
                compel_reset(h->b);
        return r;
}

/* One piece on its way through the arena. */
static int note_move(struct huge *h, const struct mem_run *piece) {
        uint64_t src = h->arena + h->used, size = piece->end - piece->start;

        if (mem_run_vec_push(&h->filled,
                             (struct mem_run){ .start = src, .end = src + size, .offset = piece->offset }) <
            0)
                return -ENOMEM;
        h->moves[h->nr_moves++] = (struct move){ .run = *piece };
        h->used += size;
        return 0;
}

static int fill_range(struct huge *h, const struct mem_run *range, struct ckpt_error *err) {
        struct mem_run left = *range;
        int r = 0;

        while (r == 0 && left.start < left.end) {
                struct mem_run piece = left;

                piece.end = MIN(left.end, left.start + (ARENA_SIZE - h->used));
                if (note_move(h, &piece) < 0)
                        return ckpt_error(err, -ENOMEM, "not enough memory");
                left.offset += piece.end - piece.start;
                left.start = piece.end;
                /* The moves of one round must fit into the batch, which must not run by itself and lose the results. */
                if (h->used == ARENA_SIZE || h->nr_moves == MOVES_MAX)
                        r = run_moves(h, err);
        }
        return r;
}

static int fill_ranges(struct huge *h, struct ckpt_error *err) {
        int r;

        add_setup(h);
        r = compel_run(h->b, err);
        for (size_t i = 0; r == 0 && i < h->ranges.n; i++)
                r = fill_range(h, &h->ranges.v[i], err);
        if (r == 0 && h->nr_moves > 0)
                r = run_moves(h, err);
        if (r == 0)
                add_cleanup(h);
        return r;
}

int mem_fill_huge(struct restore_task *t, struct compel_batch *b, struct mem_run_vec *runs,
                  struct ckpt_error *err) {
        const struct restore_mem_tree *tree = restore_mem_tree_of(t->restore);
        _cleanup_(huge_done) struct huge h = {
                .t = t, .b = b, .pages_fd = tree->pages_fd, .uffd = tree->uffd
        };
        struct mem_run_vec old = *runs;
        int r;

        r = split_runs(&h, runs);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot plan its memory", restore_task_name(t));
        if (t->fills_at_birth || mem_runs_bytes(&h.ranges) < WORTH_IT || t->mm->thp_disabled ||
            !has_huge_pages() || !kernel_has(&t->restore->kernel, KERNEL_UFFD_MOVE) || find_arena(&h) < 0)
                return 0;
        r = fill_ranges(&h, err);
        if (r < 0)
                return r;
        *runs = h.rest;
        h.rest = old;
        return 0;
}
