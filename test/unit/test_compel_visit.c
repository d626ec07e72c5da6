/* SPDX-License-Identifier: GPL-2.0-only */
/* Visits: what batches do in the target, and what becomes of their failures. */
#include "test_compel.h"

#include <sys/uio.h>

#include "compel/internal.h"

static void pause_forever(struct shared *sh) {
        set(sh->ready, 1);
        for (;;)
                pause();
}

/* A target in pause(), stopped and entered. */
struct scene {
        struct target t;
        struct stopped stopped;
        struct snapshot before;
        struct compel_visit *v;
        struct compel_batch *b;
        struct compel_thread *driver;
        struct ckpt_error err;
};

static int set_up(void **state) {
        struct scene *s = calloc(1, sizeof(*s));

        assert_non_null(s);
        s->t = target_start(pause_forever);
        assert_eventually(sleeps_in(s->t.pid, SYS_pause));
        snapshot_take(s->t.pid, &s->before);
        assert_int_equal(stop_all(&s->stopped, s->t.pid), 0);
        assert_int_equal(enter(&s->stopped, &s->v, &s->err), 0);
        s->b = compel_visit_batch(s->v);
        s->driver = &s->stopped.thread[0];
        *state = s;
        return 0;
}

static int tear_down(void **state) {
        struct scene *s = *state;

        compel_visit_free(&s->v);
        let_go(&s->stopped);
        target_end(&s->t);
        ckpt_error_clear(&s->err);
        free(s);
        return 0;
}

static void leave(struct scene *s) {
        assert_int_equal(compel_visit_end(s->v, &s->err), 0);
        compel_visit_free(&s->v);
        let_go(&s->stopped);
        assert_eventually(sleeps_in(s->t.pid, SYS_pause));
        assert_true(snapshot_holds(s->t.pid, &s->before));
}

static int run(struct scene *s) {
        return compel_visit_run(s->v, s->driver, &s->err);
}

static void knows_its_pid(void **state) {
        struct scene *s = *state;

        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        assert_int_equal(s->b->ops[0].ret, s->t.pid);
        leave(s);
}

static void empty_batch(void **state) {
        struct scene *s = *state;

        assert_int_equal(run(s), 0);
        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        leave(s);
}

static void thousand_areas(void **state) {
        const uint64_t base = 0x510000000000;
        struct scene *s = *state;
        char maps[128 * 1024], line[64];

        for (uint64_t i = 0; i < 1000; i++) {
                struct compel_op *op =
                        compel_call(s->b, "map an area", SYS_mmap, base + i * 3 * PAGE_SIZE, 2 * PAGE_SIZE,
                                    PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ULL, 0);

                op->check = COMPEL_CHECK_EQUAL;
                op->want = (int64_t)(base + i * 3 * PAGE_SIZE);
        }
        assert_int_equal(run(s), 0);
        assert_true(read_proc(s->t.pid, "maps", maps, sizeof(maps)) > 0);
        for (uint64_t i = 0; i < 1000; i++) {
                snprintf(line, sizeof(line), "%" PRIx64 "-%" PRIx64 " r--p", base + i * 3 * PAGE_SIZE,
                         base + (i * 3 + 2) * PAGE_SIZE);
                assert_non_null(strstr(maps, line));
        }
        compel_reset(s->b);
        for (uint64_t i = 0; i < 1000; i++)
                compel_call(s->b, "unmap an area", SYS_munmap, base + i * 3 * PAGE_SIZE, 2 * PAGE_SIZE);
        assert_int_equal(run(s), 0);
        leave(s);
}

static void stops_at_the_first_failure(void **state) {
        struct scene *s = *state;
        struct compel_op *bad;

        compel_call(s->b, "get its pid", SYS_getpid);
        bad = compel_call(s->b, "close a bad descriptor", SYS_close, -1ULL);
        compel_call(s->b, "never reached", SYS_getpid);
        assert_int_equal(compel_index(s->b, bad), 1);
        assert_int_equal(run(s), -EBADF);
        assert_non_null(strstr(ckpt_error_message(&s->err), "cannot close a bad descriptor"));
        assert_non_null(strstr(ckpt_error_message(&s->err), strerror(EBADF)));
        assert_int_equal(s->b->lane->nr_done, 2);
        assert_int_equal(s->b->ops[0].failed, 0);
        assert_int_equal(s->b->ops[1].failed, 1);
        assert_int_equal(s->b->ops[2].ret, 0);
        /* The visit goes on. */
        ckpt_error_clear(&s->err);
        compel_reset(s->b);
        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        leave(s);
}

static void names_the_thread(void **state) {
        struct scene *s = *state;
        char want[64];

        compel_call(s->b, "close a bad descriptor", SYS_close, -1ULL);
        assert_int_equal(run(s), -EBADF);
        snprintf(want, sizeof(want), "pid %d: ", s->t.pid);
        assert_ptr_equal(strstr(ckpt_error_message(&s->err), want), ckpt_error_message(&s->err));
        leave(s);
}

static void mismatch(void **state) {
        struct scene *s = *state;
        struct compel_op *op;

        op = compel_call(s->b, "be pid 1", SYS_getpid);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = 1;
        assert_int_equal(run(s), -EIO);
        assert_non_null(strstr(ckpt_error_message(&s->err), "be pid 1"));
        assert_non_null(strstr(ckpt_error_message(&s->err), "0x1 "));
        leave(s);
}

static void errors_that_do_not_matter(void **state) {
        struct scene *s = *state;

        compel_call(s->b, "close nothing", SYS_close, -1ULL)->check = COMPEL_CHECK_NOTHING;
        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        assert_int_equal(s->b->ops[0].ret, -EBADF);
        assert_int_equal(s->b->ops[1].ret, s->t.pid);
        leave(s);
}

/* pipe2 into data, a descriptor used through a reference, results stored with 4 and 8 bytes. */
static void references_and_stores(void **state) {
        struct scene *s = *state;
        raddr_t fds_at, text_at, wide_at;
        int *fds = compel_data(s->b, 2 * sizeof(int), &fds_at);
        char *text = compel_data(s->b, 16, &text_at);
        uint64_t *wide = compel_data(s->b, 2 * sizeof(uint64_t), &wide_at);
        struct compel_op *op, *eventfd;
        uint64_t one = 1;

        wide[1] = UINT64_MAX;
        eventfd = compel_call(s->b, "make an eventfd", SYS_eventfd2, 0, 0);
        eventfd->store = 4;
        eventfd->store_at = fds_at;
        op = compel_call(s->b, "write to it", SYS_write, compel_index(s->b, eventfd),
                         compel_copy(s->b, &one, 8), 8);
        op->refs = 1 << 0;
        op->check = COMPEL_CHECK_EQUAL;
        op->want = 8;
        op = compel_call(s->b, "read from it", SYS_read, compel_index(s->b, eventfd), text_at, 8);
        op->refs = 1 << 0;
        op = compel_call(s->b, "close it", SYS_close, compel_index(s->b, eventfd));
        op->refs = 1 << 0;
        op = compel_call(s->b, "get its pid", SYS_getpid);
        op->store = 8;
        op->store_at = wide_at;
        assert_int_equal(run(s), 0);
        assert_int_equal(fds[0], s->b->ops[0].ret);
        assert_int_equal(text[0], 1);
        assert_true(wide[0] == (uint64_t)s->t.pid);
        assert_true(wide[1] == UINT64_MAX);
        leave(s);
}

/* Once a batch has run, data of the next one must have the right address, too. */
static void data_of_later_batches(void **state) {
        struct scene *s = *state;

        for (int i = 0; i < 3; i++) {
                char cwd[4096];
                raddr_t at;
                char *p = compel_data(s->b, sizeof(cwd), &at);

                compel_call(s->b, "get its directory", SYS_getcwd, at, sizeof(cwd));
                assert_int_equal(run(s), 0);
                assert_non_null(getcwd(cwd, sizeof(cwd)));
                assert_string_equal(p, cwd);
                compel_reset(s->b);
        }
        leave(s);
}

static void data_to_the_brim(void **state) {
        struct scene *s = *state;
        size_t size = compel_capacity(s->b);
        raddr_t at;
        char *p = compel_data(s->b, size, &at);

        assert_int_equal(s->b->error, 0);
        memset(p, 'x', size);
        compel_call(s->b, "get random bytes", SYS_getrandom, at, size, 0);
        assert_int_equal(run(s), 0);
        assert_int_equal(s->b->ops[0].ret, size);
        leave(s);
}

static void too_much(void **state) {
        struct scene *s = *state;
        raddr_t at;

        for (int i = 0; i < 10000; i++)
                compel_call(s->b, "get its pid", SYS_getpid)->want = i;
        assert_non_null(compel_data(s->b, 1 << 20, &at));
        assert_int_equal(run(s), -E2BIG);
        assert_non_null(strstr(ckpt_error_message(&s->err), "cannot hand over"));
        ckpt_error_clear(&s->err);
        compel_reset(s->b);
        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        leave(s);
}

/* Results are data that the target could forge: whatever stands there must do no harm here. */
static void forged_answers(void **state) {
        struct scene *s = *state;
        struct compel_lane *lane;

        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        lane = s->b->lane;
        for (uint32_t forged = 0; forged < 8; forged++) {
                lane->nr_done = forged < 4 ? forged * 2 : UINT32_MAX - forged;
                lane->status = -1;
                assert_int_equal(compel_batch_result(s->b, &s->err), -EIO);
                assert_non_null(strstr(ckpt_error_message(&s->err), "makes no sense"));
                ckpt_error_clear(&s->err);
        }
        lane->done = lane->command + 7;
        lane->command = 12345;
        compel_reset(s->b);
        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        leave(s);
}

/* ckpt gives up half way: an error in the caller, and compel_visit_free() alone. */
static void given_up(void **state) {
        struct scene *s = *state;

        compel_call(s->b, "get its pid", SYS_getpid);
        assert_int_equal(run(s), 0);
        compel_visit_free(&s->v);
        let_go(&s->stopped);
        assert_eventually(sleeps_in(s->t.pid, SYS_pause));
        assert_true(snapshot_holds(s->t.pid, &s->before));
}

static void ended_twice(void **state) {
        struct scene *s = *state;

        assert_int_equal(compel_visit_end(s->v, &s->err), 0);
        assert_int_equal(compel_visit_end(s->v, &s->err), 0);
        leave(s);
}

/* A long call in the agent, longer than any spinning. */
static void long_call(void **state) {
        struct scene *s = *state;
        struct timespec ts = { 0, 300 * 1000 * 1000 };
        int64_t before = now_ns();

        /* Not nanosleep: it would overwrite what the kernel keeps for the call that is interrupted. */
        compel_call(s->b, "wait", SYS_ppoll, 0, 0, compel_copy(s->b, &ts, sizeof(ts)), 0, 8);
        assert_int_equal(run(s), 0);
        assert_true(now_ns() - before >= 300 * 1000 * 1000);
        leave(s);
}

/* The code of the visit is put back: a later look at the vDSO finds it as in any other process. */
static void vdso_is_clean(void **state) {
        struct scene *s = *state;
        char maps[64 * 1024], *line;
        uint64_t start, end;

        read_proc(s->t.pid, "maps", maps, sizeof(maps));
        line = strstr(maps, "[vdso]");
        assert_non_null(line);
        while (line > maps && line[-1] != '\n')
                line--;
        assert_int_equal(sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end), 2);
        leave(s);
        {
                size_t size = end - start;
                _cleanup_free_ char *theirs = malloc(size);
                struct iovec local = { theirs, size }, remote = { (void *)(uintptr_t)start, size };

                assert_int_equal(process_vm_readv(s->t.pid, &local, 1, &remote, 1, 0), size);
                assert_memory_equal(theirs, (void *)(uintptr_t)start,
                                    size); /* forked: ours is at the same place */
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
                T(knows_its_pid),
                T(empty_batch),
                T(thousand_areas),
                T(stops_at_the_first_failure),
                T(names_the_thread),
                T(mismatch),
                T(errors_that_do_not_matter),
                T(references_and_stores),
                T(data_of_later_batches),
                T(data_to_the_brim),
                T(too_much),
                T(forged_answers),
                T(given_up),
                T(ended_twice),
                T(long_call),
                T(vdso_is_clean),
#undef T
        };

        return cmocka_run_group_tests_name("compel: visits", tests, NULL, NULL);
}
