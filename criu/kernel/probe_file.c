/* SPDX-License-Identifier: GPL-2.0-only */
/* Probes of files, their descriptions, and file systems. */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/probe_internal.h"
#include "macro.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static ssize_t read_fdinfo(int fd, char *buf, size_t size) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", fd);
        return probe_read(path, buf, size);
}

int probe_fdinfo_lock(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        char info[1024];
        ssize_t n;

        fd = (int)syscall(SYS_memfd_create, "ckpt-check", 1U /* MFD_CLOEXEC */);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        n = read_fdinfo(fd, info, sizeof(info));
        if (n < 0)
                return (int)n;
        return strstr(info, "lock:") != NULL;
}

int probe_timerfd(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t set = 17, ticks = 0;
        char info[1024];
        ssize_t n;

        fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        n = read_fdinfo(fd, info, sizeof(info));
        if (n < 0)
                return (int)n;
        if (!strstr(info, "it_value:"))
                return 0;
        if (ioctl(fd, TFD_IOC_SET_TICKS, &set) < 0)
                return -errno;
        return read(fd, &ticks, sizeof(ticks)) == sizeof(ticks) && ticks == 17;
}

static int child_aio_remap(void *arg __attribute__((unused))) {
        struct timespec now = { 0 };
        struct io_event event;
        aio_context_t ctx = 0;
        size_t size;
        void *to;

        if (syscall(SYS_io_setup, 1, &ctx) < 0)
                return -errno;
        size = probe_mapping_size((void *)(uintptr_t)ctx);
        if (size == 0)
                return -ENXIO;
        to = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (to == MAP_FAILED)
                return -errno;
        if (mremap((void *)(uintptr_t)ctx, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
                return -errno;
        /* The address is the name of the context: the kernel must know it by the new one. */
        ctx = (aio_context_t)(uintptr_t)to;
        return syscall(SYS_io_getevents, ctx, 0, 1, &event, &now) == 0 ? 0 : -ENOSYS;
}

int probe_aio_remap(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_aio_remap, NULL);
}

int probe_renameat2(struct probe *p __attribute__((unused))) {
        const char *none = "/proc/self/fd/ckpt-check";

        /* Flags are looked at before names, so that a name that cannot be there tells enough. */
        if (syscall(SYS_renameat2, AT_FDCWD, none, AT_FDCWD, none, RENAME_EXCHANGE) == 0)
                return 1;
        return errno == ENOENT || errno == EROFS ? 1 : -errno;
}

int probe_syncfs_errors(struct probe *p) {
        unsigned int major = 0, minor = 0;
        struct utsname u;

        /* There is no way to see it but a failing disk. */
        if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
                return 0;
        probe_note(p, "judged by the kernel's version");
        return major > 5 || (major == 5 && minor >= 8);
}

int probe_o_tmpfile(struct probe *p) {
        _cleanup_close_ int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        probe_note(p, "tried in /tmp");
        /* Kernels that do not know the flag see O_DIRECTORY, and a directory opened for writing. */
        return fd < 0 && errno == EISDIR ? 0 : probe_result(fd);
}

int probe_openat2(struct probe *p __attribute__((unused))) {
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
        _cleanup_close_ int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));

        return probe_result(fd);
}

static int find_autofs_pipe(char *line, void *arg __attribute__((unused))) {
        return strstr(line, " - autofs ckpt-check ") && strstr(line, "pipe_ino=");
}

static int child_autofs(void *arg __attribute__((unused))) {
        char options[96];
        int fds[2], r;

        r = probe_enter_mount_ns();
        if (r < 0)
                return r;
        if (pipe2(fds, O_CLOEXEC) < 0 || mkdir("a", 0700) < 0)
                return -errno;
        snprintf(options, sizeof(options), "fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", fds[1],
                 (int)getpgrp());
        if (mount("ckpt-check", "a", "autofs", 0, options) < 0)
                return errno == ENODEV ? -EOPNOTSUPP : -errno;
        r = probe_each_line("/proc/self/mountinfo", find_autofs_pipe, NULL);
        return r < 0 ? r : r > 0 ? 0 : -ENOSYS;
}

int probe_autofs(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_autofs, NULL);
}

static int child_set_group(void *arg __attribute__((unused))) {
        int r = probe_enter_mount_ns();

        if (r < 0)
                return r;
        if (mkdir("a", 0700) < 0 || mkdir("b", 0700) < 0)
                return -errno;
        if (mount("ckpt-check", "a", "tmpfs", 0, NULL) < 0 || mount("a", "b", NULL, MS_BIND, NULL) < 0)
                return -errno;
        if (mount(NULL, "a", NULL, MS_SHARED, NULL) < 0)
                return -errno;
        if (syscall(SYS_move_mount, AT_FDCWD, "a", AT_FDCWD, "b", MOVE_MOUNT_SET_GROUP) < 0)
                return -errno;
        return 0;
}

int probe_move_mount_set_group(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_set_group, NULL);
}

struct mapped_file {
        unsigned long start;
        dev_t dev;
        unsigned long long ino;
};

static int match_mapped_file(char *line, void *arg) {
        const struct mapped_file *m = arg;
        unsigned int dev_major, dev_minor;
        unsigned long long ino;
        unsigned long start;

        if (sscanf(line, "%lx-%*x %*s %*x %x:%x %llu", &start, &dev_major, &dev_minor, &ino) != 4)
                return 0;
        return start == m->start && makedev(dev_major, dev_minor) == m->dev && ino == m->ino;
}

static int child_overlay(void *arg __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF;
        struct mapped_file m;
        struct stat st;
        void *p;
        int r;

        r = probe_enter_mount_ns();
        if (r < 0)
                return r;
        if (mkdir("l", 0700) < 0 || mkdir("l2", 0700) < 0 || mkdir("m", 0700) < 0)
                return -errno;
        fd = open("l/f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, PAGE_SIZE) < 0)
                return -errno;
        fd = safe_close(fd);
        if (mount("ckpt-check", "m", "overlay", 0, "lowerdir=l:l2") < 0)
                return errno == ENODEV ? -EOPNOTSUPP : -errno;

        fd = open("m/f", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        m = (struct mapped_file){ .start = (unsigned long)p, .dev = st.st_dev, .ino = st.st_ino };
        r = probe_each_line("/proc/self/maps", match_mapped_file, &m);
        return r < 0 ? r : r > 0 ? 0 : -ENOSYS;
}

int probe_overlayfs_maps(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_overlay, NULL);
}
