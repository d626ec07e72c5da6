/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused AIO request in flight that waits for a descriptor \(IOCB_CMD_POLL\) */
/* An AIO request that waits for something that may never happen; it is still there afterwards. */
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "e2e.h"

int main(int argc, char **argv) {
        struct iocb cb = { .aio_lio_opcode = IOCB_CMD_POLL, .aio_data = 4711, .aio_buf = POLLIN };
        struct iocb *list = &cb;
        struct io_event event;
        aio_context_t ctx = 0, other = 0;
        const uint64_t one = 1;
        int fd;

        test_init(argc, argv);
        fd = SYS(eventfd(0, 0));
        cb.aio_fildes = (uint32_t)fd;
        SYS(syscall(SYS_io_setup, 10, &other));
        SYS(syscall(SYS_io_setup, 10, &ctx));
        SYS(syscall(SYS_io_submit, ctx, 1, &list));
        test_ready();
        test_wait();
        CHECK(write(fd, &one, sizeof(one)) == sizeof(one), "write: %m");
        CHECK(syscall(SYS_io_getevents, ctx, 1, 1, &event, NULL) == 1 && event.data == 4711, "no event: %m");
        test_pass();
}
