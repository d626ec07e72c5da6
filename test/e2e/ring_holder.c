/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* A ring that this process shares with its child, which is to be dumped alone. argv[1]: what this one keeps of it, "open" or "mapped". */
#include <stdio.h>
#include <sys/wait.h>

#include "e2e_ring.h"

int main(int argc, char **argv) {
        struct ring r = { .version = TPACKET_V2,
                          .protocol = 0x9600,
                          .block_size = 8192,
                          .blocks = 2,
                          .frame_size = 2048 };
        pid_t child;

        test_init(argc, argv);
        ring_up();
        ring_make(&r, 1);
        child = SYS(fork());
        if (child == 0) {
                SYS(setsid());
                test_ready();
                test_wait();
                ring_pass(&r, 10);
                test_pass();
        }
        if (strcmp(argv[1], "open") == 0)
                SYS(munmap(r.map, r.size));
        else
                close(r.fd);
        {
                int status;
                int out = SYS(open("child", O_WRONLY | O_CREAT | O_TRUNC, 0600));

                dprintf(out, "%d\n", child);
                close(out);
                CHECK(waitpid(child, &status, 0) == child && status == 0, "the child failed");
        }
        return 0;
}
