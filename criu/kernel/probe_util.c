/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/probe_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"

void probe_note(struct probe *p, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(p->note, p->note_size, fmt, ap);
        va_end(ap);
}

int probe_result(long r) {
        return r < 0 ? -errno : 1;
}

bool probe_has_cap(int cap) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

        if (syscall(SYS_capget, &head, data) < 0)
                return false;
        return data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap);
}

ssize_t probe_read(const char *path, char *buf, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        ssize_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read_full(fd, buf, size - 1);
        if (n < 0)
                return n;
        if (n > 0 && buf[n - 1] == '\n')
                n--;
        buf[n] = 0;
        return n;
}

int probe_write(const char *path, const char *text) {
        _cleanup_close_ int fd = -EBADF;

        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return write_full(fd, text, strlen(text));
}

int probe_each_line(const char *path, int (*fn)(char *line, void *arg), void *arg) {
        _cleanup_close_ int fd = -EBADF;
        char chunk[4096], line[1024];
        size_t len = 0;
        ssize_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        while ((n = read_full(fd, chunk, sizeof(chunk))) > 0)
                for (ssize_t i = 0; i < n; i++) {
                        int r;

                        if (chunk[i] != '\n') {
                                if (len < sizeof(line) - 1)
                                        line[len++] = chunk[i];
                                continue;
                        }
                        line[len] = 0;
                        len = 0;
                        r = fn(line, arg);
                        if (r)
                                return r;
                }
        return (int)n;
}

struct mapping_query {
        uint64_t start, size;
};

static int match_mapping(char *line, void *arg) {
        struct mapping_query *q = arg;
        char *end;

        if (strtoull(line, &end, 16) != q->start || *end != '-')
                return 0;
        q->size = strtoull(end + 1, NULL, 16) - q->start;
        return 1;
}

size_t probe_mapping_size(const void *addr) {
        struct mapping_query q = { .start = (uintptr_t)addr };

        return probe_each_line("/proc/self/maps", match_mapping, &q) > 0 ? q.size : 0;
}

void *probe_pages(size_t n) {
        void *p = mmap(NULL, n * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return p == MAP_FAILED ? NULL : p;
}

pid_t probe_fork(void) {
        pid_t parent = getpid(), pid;

        /* No exit signal: neither SIGCHLD handlers nor waits without __WALL learn of it. */
        pid = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
        if (pid != 0)
                return pid;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(0);
        return 0;
}

int probe_wait(pid_t pid) {
        int status;

        while (waitpid(pid, &status, __WALL) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -EFAULT;
}

int probe_in_child(int (*fn)(void *arg), void *arg) {
        pid_t pid;
        int r;

        pid = probe_fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                struct rlimit none = { 0 };

                setrlimit(RLIMIT_CORE, &none);
                r = fn(arg);
                _exit(r < 0 ? -r : 0);
        }

        r = probe_wait(pid);
        return r < 0 ? r : r > 0 ? -r : 1;
}

void tracee_end(struct tracee *t) {
        if (t->pid < 0)
                return;
        kill(t->pid, SIGKILL);
        probe_wait(t->pid);
        t->pid = -1;
}

static _Noreturn void tracee_main(int fd, int (*setup)(void *arg)) {
        int r = setup ? setup(NULL) : 0;

        (void)!write(fd, &r, sizeof(r));
        for (;;)
                syscall(SYS_pause);
}

static int tracee_stop(pid_t pid) {
        int status;

        if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
                return -errno;
        while (waitpid(pid, &status, __WALL) < 0)
                if (errno != EINTR)
                        return -errno;
        if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP)
                return -ECHILD;
        return 0;
}

int tracee_start(struct tracee *ret, unsigned long options, int (*setup)(void *arg)) {
        _cleanup_tracee_ struct tracee t = TRACEE_NONE;
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        int pipefd[2], r, ready;

        if (pipe2(pipefd, O_CLOEXEC) < 0)
                return -errno;
        in = pipefd[0];
        out = pipefd[1];

        t.pid = probe_fork();
        if (t.pid < 0)
                return -errno;
        if (t.pid == 0)
                tracee_main(out, setup);
        out = safe_close(out);

        if (read_full(in, &ready, sizeof(ready)) != sizeof(ready))
                return -ECHILD;
        if (ready < 0)
                return ready;
        if (ptrace(PTRACE_SEIZE, t.pid, 0, options) < 0)
                return -errno;
        r = tracee_stop(t.pid);
        if (r < 0)
                return r;

        *ret = t;
        t.pid = -1;
        return 0;
}

int probe_enter_mount_ns(void) {
        static const char *const places[] = { "/tmp", "/mnt", "/sys" };

        if (unshare(CLONE_NEWNS) < 0)
                return -errno;
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                if (mount("ckpt-check", places[i], "tmpfs", 0, NULL) < 0) {
                        if (errno == ENOENT || errno == ENOTDIR)
                                continue;
                        return -errno;
                }
                return chdir(places[i]) < 0 ? -errno : 0;
        }
        return -ENOENT;
}
