/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused has an io_uring instance registered with a thread */
/* An io_uring instance without a descriptor and without a mapping: the thread has registered it. */
#include "e2e.h"

#include <linux/io_uring.h>

int main(int argc, char **argv) {
        struct io_uring_params params = { 0 };
        struct io_uring_rsrc_update update = { .offset = UINT32_MAX };
        int fd;

        test_init(argc, argv);
        fd = (int)syscall(SYS_io_uring_setup, 1, &params);
        update.data = (uint64_t)fd;
        if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, &update, 1) != 1)
                test_skip("no io_uring instance can be registered here");
        close(fd);
        test_ready();
        test_wait();
        SYS(syscall(SYS_io_uring_enter, update.offset, 0, 0, IORING_ENTER_REGISTERED_RING, NULL, 0));
        test_pass();
}
