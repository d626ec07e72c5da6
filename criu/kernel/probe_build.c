/* SPDX-License-Identifier: GPL-2.0-only */
/* Probes of what building a task needs: pids, mm fields, vDSO, limits, scheduling, privileges. */
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/probe_internal.h"
#include "kernel/uapi.h"
#include "macro.h"

/* Privileges */

static int probe_cap(struct probe *p, int cap) {
        char map[64];
        unsigned long inside, outside, count;

        if (!probe_has_cap(cap)) {
                probe_note(p, "this process does not have the capability");
                return -EPERM;
        }
        if (probe_read("/proc/self/uid_map", map, sizeof(map)) > 0 &&
            (sscanf(map, "%lu %lu %lu", &inside, &outside, &count) != 3 || count < UINT32_MAX))
                probe_note(p, "only inside this user namespace");
        return 1;
}

int probe_cap_sys_ptrace(struct probe *p) {
        return probe_cap(p, CAP_SYS_PTRACE);
}
int probe_cap_checkpoint_restore(struct probe *p) {
        return probe_cap(p, probe_has_cap(CAP_SYS_ADMIN) ? CAP_SYS_ADMIN : CAP_CHECKPOINT_RESTORE);
}
int probe_cap_setuid(struct probe *p) {
        return probe_cap(p, CAP_SETUID);
}
int probe_cap_setgid(struct probe *p) {
        return probe_cap(p, CAP_SETGID);
}
int probe_cap_setpcap(struct probe *p) {
        return probe_cap(p, CAP_SETPCAP);
}
int probe_cap_kill(struct probe *p) {
        return probe_cap(p, CAP_KILL);
}
int probe_cap_dac_override(struct probe *p) {
        return probe_cap(p, CAP_DAC_OVERRIDE);
}
int probe_cap_sys_nice(struct probe *p) {
        return probe_cap(p, CAP_SYS_NICE);
}
int probe_cap_net_admin(struct probe *p) {
        return probe_cap(p, CAP_NET_ADMIN);
}

int probe_ptrace_scope(struct probe *p) {
        char value[16];
        ssize_t n = probe_read("/proc/sys/kernel/yama/ptrace_scope", value, sizeof(value));

        if (n == -ENOENT)
                return 1;
        if (n < 0)
                return (int)n;
        probe_note(p, "kernel.yama.ptrace_scope is %s", value);
        if (value[0] == '0')
                return 1;
        /* 1: descendants only, 2: administrators only; both let CAP_SYS_PTRACE pass. 3: nobody, for good. */
        return value[0] != '3' && probe_has_cap(CAP_SYS_PTRACE) ? 1 : -EPERM;
}

/* Pids */

static int clone_with_tid(pid_t tid) {
        struct clone_args args = { .set_tid = (uintptr_t)&tid, .set_tid_size = 1 };
        pid_t pid;
        int r;

        pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
        if (pid < 0)
                return -errno;
        if (pid == 0)
                _exit(getpid() == tid ? 0 : 1);
        r = probe_wait(pid);
        return r < 0 ? r : r == 0;
}

int probe_clone_set_tid(struct probe *p __attribute__((unused))) {
        /* The pid of a child that has just ended is free, unless somebody else gets it first. */
        for (int i = 0; i < 8; i++) {
                pid_t pid = probe_fork();
                int r;

                if (pid < 0)
                        return -errno;
                if (pid == 0)
                        _exit(0);
                r = probe_wait(pid);
                if (r < 0)
                        return r;
                r = clone_with_tid(pid);
                if (r != -EEXIST)
                        return r;
        }
        return -EAGAIN;
}

/* The fields of struct mm */

/* /proc/self/stat from field 3 on, as numbers; `f[3]` is the state and is left 0. */
static int read_stat(uint64_t f[static 53]) {
        char buf[1024], *s;
        ssize_t n = probe_read("/proc/self/stat", buf, sizeof(buf));

        if (n < 0)
                return (int)n;
        s = strrchr(buf, ')');
        if (!s || strlen(s) < 4)
                return -EIO;
        s += 3;
        f[3] = 0;
        for (int i = 4; i <= 52; i++) {
                char *end;

                f[i] = strtoull(s, &end, 10);
                if (end == s)
                        return -EIO;
                s = end;
        }
        return 0;
}

static int set_mm_map(int exe_fd) {
        struct prctl_mm_map map;
        uint64_t f[53];
        int r;

        r = read_stat(f);
        if (r < 0)
                return r;
        map = (struct prctl_mm_map){
                .start_code = f[26],
                .end_code = f[27],
                .start_stack = f[28],
                .start_data = f[45],
                .end_data = f[46],
                .start_brk = f[47],
                .brk = (uint64_t)syscall(SYS_brk, 0),
                .arg_start = f[48],
                .arg_end = f[49],
                .env_start = f[50],
                .env_end = f[51],
                .exe_fd = (uint32_t)exe_fd,
        };
        return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) < 0 ? -errno : 0;
}

static int child_set_mm_map(void *arg __attribute__((unused))) {
        return set_mm_map(-1);
}

int probe_set_mm_map(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_set_mm_map, NULL);
}

static int child_set_mm_exe(void *arg __attribute__((unused))) {
        _cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        int r;

        if (fd < 0)
                return -errno;
        r = set_mm_map(fd);
        /* Allowed, but for the old file, which is still mapped here: it has to be unmapped before. */
        return r == -EBUSY ? 0 : r;
}

int probe_set_mm_exe(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_set_mm_exe, NULL);
}

int probe_get_tid_address(struct probe *p __attribute__((unused))) {
        int *address;

        return probe_result(prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0));
}

/* vDSO */

static int unmap_vdso_part(char *line, void *arg __attribute__((unused))) {
        static const char *const parts[] = { "[vdso]", "[vvar]", "[vvar_vclock]" };
        const char *name = strrchr(line, ' ');
        unsigned long start, end;
        char *dash;

        for (size_t i = 0; name && i < ELEMENTSOF(parts); i++) {
                if (strcmp(name + 1, parts[i]) != 0)
                        continue;
                start = strtoul(line, &dash, 16);
                if (*dash != '-')
                        return -EIO;
                end = strtoul(dash + 1, NULL, 16);
                if (munmap((void *)start, end - start) < 0)
                        return -errno;
        }
        return 0;
}

static int child_map_vdso(void *arg __attribute__((unused))) {
        void *place;
        int r;

        r = probe_each_line("/proc/self/maps", unmap_vdso_part, NULL);
        if (r < 0)
                return r;
        /* A place that is free, found by asking for one. */
        place = mmap(NULL, 16 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED || munmap(place, 16 * PAGE_SIZE) < 0)
                return -errno;
        /* The result is the size of what was mapped. */
        if (syscall(SYS_arch_prctl, ARCH_MAP_VDSO_64, place) < 0)
                return -errno;
        return probe_mapping_size(place) > 0 ? 0 : -ENXIO;
}

int probe_can_map_vdso(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_map_vdso, NULL);
}

/* Timers */

static int child_timer_ids(void *arg __attribute__((unused))) {
        struct sigevent ev = { .sigev_notify = SIGEV_NONE };
        int id = 1717;

        if (prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0) < 0)
                return -errno;
        if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id) < 0)
                return -errno;
        return id == 1717 ? 0 : -ENOSYS;
}

int probe_timer_cr_ids(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_timer_ids, NULL);
}

/* Limits */

static int child_hard_limit(void *arg __attribute__((unused))) {
        struct rlimit low = { 0, 0 }, high = { 0, 1 };

        if (setrlimit(RLIMIT_CORE, &low) < 0)
                return -errno;
        return setrlimit(RLIMIT_CORE, &high) < 0 ? -errno : 0;
}

int probe_hard_limits(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_hard_limit, NULL);
}

static int child_oom_score(void *arg __attribute__((unused))) {
        return probe_write("/proc/self/oom_score_adj", "-1000");
}

int probe_oom_score(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_oom_score, NULL);
}

int probe_big_pipes(struct probe *p) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        char value[32];
        ssize_t n = probe_read("/proc/sys/fs/pipe-max-size", value, sizeof(value));
        long max;
        int fds[2];

        if (n < 0)
                return (int)n;
        probe_note(p, "fs.pipe-max-size is %s", value);
        max = strtol(value, NULL, 10);
        if (max > 64 * 1024 * 1024)
                return 1; /* larger than any pipe there is; do not claim that much memory */
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        in = fds[0];
        out = fds[1];
        return probe_result(fcntl(out, F_SETPIPE_SZ, max * 2));
}

/* Scheduling */

static int child_sched_setattr(void *arg __attribute__((unused))) {
        struct sched_attr attr = { 0 };

        if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0)
                return -errno;
        return syscall(SYS_sched_setattr, 0, &attr, 0) < 0 ? -errno : 0;
}

int probe_sched_setattr(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_sched_setattr, NULL);
}

static int membarrier(int cmd) {
        return (int)syscall(SYS_membarrier, cmd, 0, 0);
}

static int child_membarrier(void *arg __attribute__((unused))) {
        return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) < 0 ? -errno : 0;
}

int probe_membarrier(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_membarrier, NULL);
}

static int child_membarrier_get(void *arg __attribute__((unused))) {
        int r;

        if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) < 0)
                return -errno;
        r = membarrier(MEMBARRIER_GET_REGISTRATIONS);
        if (r < 0)
                return -errno;
        return r & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED ? 0 : -ENOSYS;
}

int probe_membarrier_get(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_membarrier_get, NULL);
}

static int child_loginuid(void *arg __attribute__((unused))) {
        int r = probe_write("/proc/self/loginuid", "0");

        return r < 0 ? r : probe_write("/proc/self/loginuid", "4294967295");
}

int probe_loginuid(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_loginuid, NULL);
}

static int child_compat(void *arg __attribute__((unused))) {
        long pid;

        if (syscall(SYS_arch_prctl, ARCH_MAP_VDSO_32, 0) < 0 && errno != EEXIST)
                return -errno;
        /* getpid of the 32-bit table; where that is switched off, SIGSEGV ends this child. */
        __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
        return (pid_t)pid == getpid() ? 0 : -ENOSYS;
}

int probe_compat(struct probe *p __attribute__((unused))) {
        int r = probe_in_child(child_compat, NULL);

        return r == -EFAULT ? 0 : r;
}
