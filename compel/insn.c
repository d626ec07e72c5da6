/* SPDX-License-Identifier: GPL-2.0-only */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/arch.h"
#include "compel/compel.h"

static uint64_t vdso_of(pid_t pid) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t auxv[128][2];
        char path[40];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, auxv, sizeof(auxv));
        for (ssize_t i = 0; i < n / (ssize_t)sizeof(auxv[0]); i++)
                if (auxv[i][0] == AT_SYSINFO_EHDR)
                        return auxv[i][1];
        return 0;
}

int compel_find_syscall_insn(pid_t pid, raddr_t *ret) {
        uint64_t vdso = vdso_of(pid);
        char text[2 * 4096];
        struct iovec local = { text, sizeof(text) }, remote = { (void *)(uintptr_t)vdso, sizeof(text) };
        ssize_t n = vdso ? process_vm_readv(pid, &local, 1, &remote, 1, 0) : 0;

        for (ssize_t i = 0; i + SYSCALL_INSN_SIZE <= n; i++)
                if (memcmp(text + i, "\x0f\x05", SYSCALL_INSN_SIZE) == 0) {
                        *ret = vdso + (uint64_t)i;
                        return 0;
                }
        return -ENOENT;
}
