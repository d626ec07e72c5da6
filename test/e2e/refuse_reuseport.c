/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns expect=refused SO_REUSEPORT group with an eBPF program */
/* A group of SO_REUSEPORT with an eBPF program, which is seen and refused. */
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "e2e.h"

static int load(void) {
        const struct bpf_insn program[] = {
                { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
                { .code = BPF_JMP | BPF_EXIT },
        };
        union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                                .insns = (uintptr_t)program,
                                .insn_cnt = ELEMENTS(program),
                                .license = (uintptr_t) "GPL" };

        return SYS(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)));
}

int main(int argc, char **argv) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd, prog, on = 1;

        test_init(argc, argv);
        fd = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
        SYS(bind(fd, (struct sockaddr *)&a, sizeof(a)));
        prog = load();
        SYS(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &prog, sizeof(prog)));
        close(prog);
        test_ready();
        test_wait();
        test_pass();
}
