/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* AIO contexts: a fresh one; one with unread events; one whose ring has wrapped, with unread events across its end; a
 * large one; a child's own. What was not read is read, in order; new requests are done; the address is the same. */
#include "e2e.h"
#include "e2e_maps.h"

#include <linux/aio_abi.h>
#include <sys/eventfd.h>

enum { BLOCK = 4096, EVENTS = 200 };

/* As libaio sees it. */
struct ring {
        uint32_t id, nr, head, tail, magic, compat, incompat, length;
};

static struct maps before;
static struct gate ready, go, done;
static int file, event;

static aio_context_t setup(unsigned n) {
        aio_context_t ctx = 0;

        SYS(syscall(SYS_io_setup, n, &ctx));
        return ctx;
}

/* Write `n` blocks, each an event with its number. */
static void submit(aio_context_t ctx, uint64_t first, unsigned n, bool write_too) {
        static char block[BLOCK];

        for (unsigned i = 0; i < n; i++) {
                struct iocb cb = { .aio_data = first + i,
                                   .aio_lio_opcode = write_too ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                                   .aio_fildes = (uint32_t)file,
                                   .aio_buf = (uintptr_t)block,
                                   .aio_nbytes = 100 + (first + i) % 1000,
                                   .aio_flags = IOCB_FLAG_RESFD,
                                   .aio_resfd = (uint32_t)event };
                struct iocb *list = &cb;

                CHECK(syscall(SYS_io_submit, ctx, 1, &list) == 1, "io_submit: %m");
        }
}

static void get(aio_context_t ctx, uint64_t first, unsigned n, const char *what) {
        static struct io_event events[EVENTS];
        struct timespec wait = { .tv_sec = 100 };
        long got = syscall(SYS_io_getevents, ctx, n, EVENTS, events, &wait);

        CHECK(got == (long)n, "%s: %ld events, not %u: %m", what, got, n);
        for (unsigned i = 0; i < n; i++)
                CHECK(events[i].data == first + i && events[i].res == (int64_t)(100 + (first + i) % 1000),
                      "%s: event %u is %llu with the result %lld", what, i,
                      (unsigned long long)events[i].data, (long long)events[i].res);
}

static void check_none(aio_context_t ctx, const char *what) {
        struct timespec now = { 0 };
        struct io_event e;

        CHECK(syscall(SYS_io_getevents, ctx, 0, 1, &e, &now) == 0, "%s has events", what);
}

static const struct ring *ring(aio_context_t ctx) {
        return (const struct ring *)(uintptr_t)ctx;
}

/* Goes on as any would. */
static void use(aio_context_t ctx, const char *what) {
        uint32_t nr = ring(ctx)->nr;

        CHECK(ring(ctx)->magic == 0xa10a10a1, "%s has no ring", what);
        for (uint64_t round = 0; round < 2 * nr / 50 + 2; round++) {
                submit(ctx, 5000 + round * 50, 50, round % 2);
                get(ctx, 5000 + round * 50, 50, what);
        }
        check_none(ctx, what);
        SYS(syscall(SYS_io_destroy, ctx));
        CHECK(syscall(SYS_io_destroy, ctx) < 0 && errno == EINVAL, "%s is still there", what);
}

int main(int argc, char **argv) {
        aio_context_t fresh, unread, wrapped, large, gone;
        char name[64], data[64 * BLOCK] = "";
        uint32_t nr, unread_tail;
        uint64_t count;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        file = make_file(name, "aio", data, sizeof(data));
        event = SYS(eventfd(0, EFD_NONBLOCK));
        kid = xfork();
        if (kid == 0) {
                aio_context_t own = setup(10);

                submit(own, 70, 3, true);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                get(own, 70, 3, "the child's");
                use(own, "the child's");
                gate_open(&done, 1);
                _exit(6);
        }
        gate_pass(&ready, 1);
        gone = setup(1);
        fresh = setup(5);
        unread = setup(20);
        submit(unread, 300, 4, true);
        get(unread, 300, 4, "unread");
        submit(unread, 304, 9, true);
        unread_tail = ring(unread)->tail;
        wrapped = setup(30);
        nr = ring(wrapped)->nr;
        for (uint32_t i = 0; i + 10 < nr; i += 10) {
                submit(wrapped, i, 10, true);
                get(wrapped, i, 10, "wrapped");
        }
        submit(wrapped, 900, 40, true);
        CHECK(ring(wrapped)->tail < ring(wrapped)->head, "it has not wrapped: %u, %u", ring(wrapped)->head,
              ring(wrapped)->tail);
        large = setup(1000);
        submit(large, 10, EVENTS - 50, false);
        SYS(syscall(SYS_io_destroy, gone));
        CHECK(read(event, &count, sizeof(count)) == sizeof(count), "eventfd: %m");
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: get(unread, 304, 1, "unread"); */
        /* break: get(wrapped, 900, 1, "wrapped"); */
        /* break: syscall(SYS_io_destroy, fresh); */
        /* break: ((struct ring *)(uintptr_t)large)->head++; */
        maps_check_same(&before);
        CHECK(read(event, &count, sizeof(count)) < 0 && errno == EAGAIN,
              "an eventfd was told of events: %m");
        check_none(fresh, "fresh");
        CHECK(ring(unread)->tail == unread_tail && ring(unread)->head == 4, "unread is from %u to %u",
              ring(unread)->head, ring(unread)->tail);
        get(unread, 304, 9, "unread");
        CHECK(ring(wrapped)->nr == nr, "wrapped has %u events", ring(wrapped)->nr);
        get(wrapped, 900, 40, "wrapped");
        get(large, 10, EVENTS - 50, "large");
        submit(fresh, 1, 1, true);
        CHECK(read(event, &count, sizeof(count)) == sizeof(count) && count == 1, "eventfd: %m");
        get(fresh, 1, 1, "fresh");
        use(fresh, "fresh");
        use(unread, "unread");
        use(wrapped, "wrapped");
        use(large, "large");
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 6);
        test_pass();
}
