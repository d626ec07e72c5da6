/* SPDX-License-Identifier: GPL-2.0-only */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "compel/arch.h"
#include "compel/internal.h"

int compel_find_syscall_insn(pid_t pid, raddr_t *ret) {
        uint64_t vdso = compel_read_auxv(pid, AT_SYSINFO_EHDR);
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
