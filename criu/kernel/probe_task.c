/* SPDX-License-Identifier: GPL-2.0-only */
/* Probes of stopping and driving tasks, and of what is asked about them. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/probe_internal.h"
#include "kernel/uapi.h"
#include "macro.h"

int probe_ptrace_seize(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        int r = tracee_start(&t, PTRACE_O_TRACESYSGOOD, NULL);

        if (r < 0)
                return r;
        return probe_result(ptrace(PTRACE_DETACH, t.pid, 0, 0));
}

int probe_ptrace_xstate(struct probe *p) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        static const size_t max = 64 * 1024; /* AMX needs 11 KiB */
        _cleanup_free_ void *buf = NULL;
        struct iovec iov;
        int r;

        buf = malloc(max);
        if (!buf)
                return -ENOMEM;
        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;

        iov = (struct iovec){ .iov_base = buf, .iov_len = max };
        if (ptrace(PTRACE_GETREGSET, t.pid, (void *)NT_X86_XSTATE, &iov) < 0)
                return -errno;
        if (ptrace(PTRACE_SETREGSET, t.pid, (void *)NT_X86_XSTATE, &iov) < 0)
                return -errno;
        probe_note(p, "%zu bytes for each thread", iov.iov_len);
        return 1;
}

int probe_ptrace_signals(struct probe *p __attribute__((unused))) {
        struct __ptrace_peeksiginfo_args args = { .off = 0, .flags = PTRACE_PEEKSIGINFO_SHARED, .nr = 1 };
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        siginfo_t info;
        uint64_t mask;
        int r;

        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        if (ptrace(PTRACE_PEEKSIGINFO, t.pid, &args, &info) < 0)
                return -errno;
        if (ptrace(PTRACE_GETSIGMASK, t.pid, (void *)sizeof(mask), &mask) < 0)
                return -errno;
        return probe_result(ptrace(PTRACE_SETSIGMASK, t.pid, (void *)sizeof(mask), &mask));
}

int probe_ptrace_get_rseq(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        struct __ptrace_rseq_configuration conf = { 0 };
        int r;

        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        r = probe_result(ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t.pid, (void *)sizeof(conf), &conf));
        return r == -EIO ? -ENOSYS : r;
}

int probe_ptrace_get_sud(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        struct ptrace_sud_config conf = { 0 };
        int r;

        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        r = probe_result(
                syscall(SYS_ptrace, PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, t.pid, sizeof(conf), &conf));
        return r == -EIO ? -ENOSYS : r;
}

int probe_seccomp_suspend(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        int r = tracee_start(&t, PTRACE_O_SUSPEND_SECCOMP, NULL);

        return r < 0 ? r : 1;
}

static int allow_everything(void *arg __attribute__((unused))) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog prog = { .len = 1, .filter = &allow };

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -errno : 0;
}

int probe_seccomp_filters(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        long n;
        int r;

        r = tracee_start(&t, 0, allow_everything);
        if (r < 0)
                return r;
        n = ptrace(PTRACE_SECCOMP_GET_FILTER, t.pid, 0, NULL);
        if (n < 0)
                return errno == EIO ? -ENOSYS : -errno;
        return n == 1;
}

int probe_proc_mem_force(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        _cleanup_close_ int fd = -EBADF;
        unsigned long base = getauxval(AT_SYSINFO_EHDR);
        unsigned char before, after;
        char path[64];
        off_t at;
        int r;

        if (!base)
                return 0;
        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "/proc/%d/mem", (int)t.pid);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        /* The last padding byte of the vDSO's ELF identification, in the child's own copy. */
        at = (off_t)(base + EI_NIDENT - 1);
        if (pread(fd, &before, 1, at) != 1)
                return -errno;
        after = (unsigned char)~before;
        if (pwrite(fd, &after, 1, at) != 1)
                return errno == EIO ? -EACCES : -errno;
        if (pread(fd, &before, 1, at) != 1)
                return -errno;
        return before == after;
}

static int poke_debugreg(pid_t pid, size_t number, unsigned long value) {
        size_t at = offsetof(struct user, u_debugreg) + number * sizeof(unsigned long);
        int r = probe_result(ptrace(PTRACE_POKEUSER, pid, (void *)at, (void *)value));

        /* What a virtual machine without them says. */
        return r == -ENOSPC ? 0 : r;
}

int probe_breakpoints(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        int r;

        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        r = poke_debugreg(t.pid, 0, (unsigned long)&probe_breakpoints);
        /* Bit 0 of register 7 switches breakpoint 0 on, for execution. */
        return r > 0 ? poke_debugreg(t.pid, 7, 1) : r;
}

static int self_pidfd(void) {
        int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

        return fd < 0 ? -errno : fd;
}

int probe_pidfd_open(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = self_pidfd();

        return fd < 0 ? fd : 1;
}

int probe_pidfd_thread(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, getpid(), PIDFD_THREAD);

        return fd >= 0 ? 1 : errno == EINVAL ? 0 : -errno;
}

int probe_pidfd_getfd(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int pidfd = -EBADF, copy = -EBADF;

        pidfd = self_pidfd();
        if (pidfd < 0)
                return pidfd;
        copy = (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0);
        return probe_result(copy);
}

int probe_pidfd_store(struct probe *p) {
        return probe_pidfd_getfd(p);
}

int probe_robust_list(struct probe *p __attribute__((unused))) {
        void *head;
        size_t len;

        return probe_result(syscall(SYS_get_robust_list, 0, &head, &len));
}

int probe_process_vm_readv(struct probe *p __attribute__((unused))) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        int here = 0x5a17, there = 0, r;
        struct iovec to = { &there, sizeof(there) }, from = { &here, sizeof(here) };

        r = tracee_start(&t, 0, NULL);
        if (r < 0)
                return r;
        if (syscall(SYS_process_vm_readv, t.pid, &to, 1L, &from, 1L, 0L) < 0)
                return -errno;
        return there == 0x5a17;
}

int probe_kcmp(struct probe *p __attribute__((unused))) {
        pid_t self = getpid();
        long r = syscall(SYS_kcmp, self, self, KCMP_VM, 0, 0);

        return r < 0 ? -errno : r == 0;
}

static int can_open(const char *path, int flags) {
        _cleanup_close_ int fd = open(path, flags | O_CLOEXEC);

        return probe_result(fd);
}

int probe_proc_children(struct probe *p __attribute__((unused))) {
        return can_open("/proc/thread-self/children", O_RDONLY);
}

int probe_proc_timers(struct probe *p __attribute__((unused))) {
        return can_open("/proc/self/timers", O_RDONLY);
}

int probe_proc_sched(struct probe *p __attribute__((unused))) {
        return can_open("/proc/self/sched", O_RDONLY);
}

int probe_ns_last_pid(struct probe *p __attribute__((unused))) {
        return can_open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
}

int probe_pid_max(struct probe *p) {
        char value[32];
        ssize_t n = probe_read("/proc/sys/kernel/pid_max", value, sizeof(value));

        if (n < 0)
                return (int)n;
        probe_note(p, "it is %s", value);
        return can_open("/proc/sys/kernel/pid_max", O_WRONLY);
}
