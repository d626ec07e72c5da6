/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 busy save=frozen */
/* AIO that never rests: eight requests past the page cache are always in flight, reads and writes of a file's blocks. Each
 * ends once, with all of its block, and the file has what was written last. */
#include "e2e.h"

#include <linux/aio_abi.h>

enum { DEPTH = 8, BLOCKS = 256, BLOCK = 4096 };

static struct slot {
        struct iocb cb;
        size_t block;
        bool busy, write;
        char *buf;
} slots[DEPTH];
static uint64_t written[BLOCKS]; /* with which seed */
static bool taken[BLOCKS];
static aio_context_t ctx;
static uint64_t ended, seed = 1;
static int file;

static void submit(struct slot *s) {
        struct iocb *list = &s->cb;

        do
                s->block = (size_t)(pattern(++seed, 7) >> 8) % BLOCKS;
        while (taken[s->block]);
        s->write = pattern(seed, 8) & 0x100;
        if (s->write) {
                written[s->block] = seed;
                fill(s->buf, BLOCK, seed);
        } else {
                memset(s->buf, 0xee, BLOCK);
        }
        s->cb = (struct iocb){ .aio_data = (uintptr_t)s,
                               .aio_lio_opcode = s->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                               .aio_fildes = (uint32_t)file,
                               .aio_buf = (uintptr_t)s->buf,
                               .aio_nbytes = BLOCK,
                               .aio_offset = (int64_t)(s->block * BLOCK) };
        s->busy = taken[s->block] = true;
        CHECK(syscall(SYS_io_submit, ctx, 1, &list) == 1, "io_submit: %m");
}

static void end(const struct io_event *e) {
        struct slot *s = (struct slot *)(uintptr_t)e->data;

        CHECK(s >= slots && s < slots + DEPTH && s->busy, "an event of nothing that was asked for");
        CHECK(e->res == BLOCK, "block %zu: %lld", s->block, (long long)e->res);
        if (!s->write)
                check_filled(s->buf, BLOCK, written[s->block], "what was read");
        s->busy = taken[s->block] = false;
        ended++;
}

static void get(long at_least) {
        struct timespec wait = { .tv_sec = 100 };
        struct io_event events[DEPTH];
        long n = syscall(SYS_io_getevents, ctx, at_least, DEPTH, events, &wait);

        if (n < 0 && errno == EINTR)
                return;
        CHECK(n >= at_least, "io_getevents gave %ld of %ld: %m", n, at_least);
        for (long i = 0; i < n; i++)
                end(&events[i]);
}

static void step(void *arg E2E_UNUSED) {
        for (int i = 0; i < DEPTH; i++)
                if (!slots[i].busy)
                        submit(&slots[i]);
        get(1);
}

static bool any_busy(void) {
        for (int i = 0; i < DEPTH; i++)
                if (slots[i].busy)
                        return true;
        return false;
}

int main(int argc, char **argv) {
        char name[64], *block;
        uint64_t before;

        test_init(argc, argv);
        block = mmap(NULL, BLOCK * (DEPTH + 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(block != MAP_FAILED, "mmap: %m");
        close(make_file(name, "busy", "", 0));
        file = open(name, O_RDWR | O_DIRECT);
        if (file < 0)
                test_skip("no O_DIRECT here: %m");
        for (size_t i = 0; i < BLOCKS; i++) {
                written[i] = ++seed;
                fill(block, BLOCK, seed);
                CHECK(pwrite(file, block, BLOCK, (off_t)(i * BLOCK)) == BLOCK, "write: %m");
        }
        for (int i = 0; i < DEPTH; i++)
                slots[i].buf = block + (size_t)(i + 1) * BLOCK;
        SYS(syscall(SYS_io_setup, DEPTH, &ctx));
        for (int i = 0; i < 50; i++)
                step(NULL);
        test_ready();
        test_wait_busy(step, NULL);
        /* break: written[5] = 0; */
        before = ended;
        for (int i = 0; i < 100; i++)
                step(NULL);
        CHECK(ended >= before + 100, "only %" PRIu64 " have ended", ended - before);
        while (any_busy())
                get(1);
        for (size_t i = 0; i < BLOCKS; i++) {
                CHECK(pread(file, block, BLOCK, (off_t)(i * BLOCK)) == BLOCK, "read: %m");
                check_filled(block, BLOCK, written[i], "the file");
        }
        test_pass();
}
