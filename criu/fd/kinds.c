/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of kinds of files. The order decides: the first row that matches has the descriptor. */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fd/kind.h"
#include "macro.h"

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

static bool is_type(const struct fd_probe *p, mode_t type) {
        return (p->st.stx_mode & S_IFMT) == type;
}

/* Memory that only looks like a file: "/memfd:name (deleted)" on the kernel's own tmpfs or hugetlbfs. */
static bool match_kernel_memory(struct fd_probe *p) {
        return p->st.stx_nlink == 0 && is_type(p, S_IFREG);
}

/* Regular files that are the kernel's answers, and have a state there; see kernel_file.c for those that have none. */
static bool match_kernel_file(struct fd_probe *p) {
        if (p->link[0] != '/' || !is_type(p, S_IFREG))
                return false;
        switch (fd_probe_fs_type(p)) {
        case DEBUGFS_MAGIC:
        case TRACEFS_MAGIC:
        case SECURITYFS_MAGIC:
        case SELINUX_MAGIC:
        case BPF_FS_MAGIC:
                return true;
        default:
                return false;
        }
}

static bool match_mqueue(struct fd_probe *p) {
        return p->link[0] == '/' && is_type(p, S_IFREG) && fd_probe_fs_type(p) == MQUEUE_MAGIC;
}

static bool match_path_only(struct fd_probe *p) {
        return fd_probe_flags(p) & O_PATH;
}

static bool match_tty(struct fd_probe *p) {
        static const struct {
                unsigned int from, to;
        } majors[] = { { 2, 5 }, { 136, 143 }, { 204, 204 }, { 229, 229 } };

        if (!is_type(p, S_IFCHR) || match_path_only(p))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(majors); i++)
                if (p->st.stx_rdev_major >= majors[i].from && p->st.stx_rdev_major <= majors[i].to)
                        return true;
        return false;
}

static bool match_device(struct fd_probe *p) {
        return p->link[0] == '/' && (is_type(p, S_IFCHR) || is_type(p, S_IFBLK));
}

static bool match_socket(struct fd_probe *p) {
        return is_type(p, S_IFSOCK) && strncmp(p->link, "socket:", 7) == 0;
}

static bool match_unreachable(struct fd_probe *p) {
        return p->link[0] != '/' && strncmp(p->link, "(unreachable)", 13) == 0;
}

static bool match_any(struct fd_probe *p __attribute__((unused))) {
        return true;
}

#define ROW(type_, name_, link_, match_, what_, hint_)                                               \
        {                                                                                            \
                .type = IMG__FD_TYPES__##type_, .name = (name_), .link = (link_), .match = (match_), \
                .what = (what_), .hint = (hint_),                                                    \
        }
#define ANON(type_, name_, link_, what_, hint_) ROW(type_, name_, "anon_inode:" link_, NULL, what_, hint_)

#define CLOSE_IT "Have the program close it first, or end the program that uses it"

/* Memory behind names on the kernel's own filesystems. */
static const struct fd_kind memory_rows[] = {
        ROW(UND, "shared memory", "/dev/zero (deleted)", match_kernel_memory,
            "is anonymous shared memory, opened through /proc", CLOSE_IT),
        ROW(UND, "sysv shm", "/SYSV", match_kernel_memory, "is a System V shared memory segment", NULL),
        ROW(UND, "aio", "/[aio]", match_kernel_memory, "is the ring of an AIO context", NULL),
        ROW(UND, "secretmem", "/secretmem", match_kernel_memory,
            "is secret memory (memfd_secret), which nobody but its program can read", CLOSE_IT),
        ROW(UND, "dma-buf", "/dmabuf:", NULL, "is a buffer shared with a device (dma-buf)", CLOSE_IT),
        ROW(UND, "mqueue", NULL, match_mqueue, "is a POSIX message queue", NULL),
        ROW(UND, "kernel file", NULL, match_kernel_file, "is a file that the kernel generates", CLOSE_IT),
};

/* What has no path. */
static const struct fd_kind other_rows[] = {
        ROW(TTY, "tty", NULL, match_tty, "is a terminal",
            "Start the program with setsid(1) and its standard streams redirected"),
        ROW(UND, "device", NULL, match_device, "is a device, which has a state that ckpt does not know",
            CLOSE_IT),
        { .type = IMG__FD_TYPES__UND, .name = "socket", .match = match_socket, .look = sock_look },
        ANON(FANOTIFY, "fanotify", "[fanotify]", "is a fanotify group", NULL),
        ANON(UND, "io_uring", "[io_uring]", "is an io_uring instance",
             "Start the program with io_uring disabled: most have a setting or an environment variable for it (Node: "
             "UV_USE_IO_URING=0), and all do without when the sysctl kernel.io_uring_disabled is 2"),
        ANON(UND, "userfaultfd", "[userfaultfd]", "is a userfaultfd", CLOSE_IT),
        ANON(UND, "perf", "[perf_event]", "is a performance counter (perf_event_open)",
             "End the profiling first"),
        ANON(BPFMAP, "bpf map", "bpf-map", "is a BPF map", NULL),
        ANON(UND, "bpf program", "bpf-prog", "is a BPF program", CLOSE_IT),
        ANON(UND, "bpf", "bpf", "is an object of BPF", CLOSE_IT),
        ANON(UND, "btf", "btf", "is an object of BPF", CLOSE_IT),
        ANON(UND, "seccomp notifier", "seccomp notify",
             "is a seccomp notifier, which answers for other processes", CLOSE_IT),
        ANON(UND, "kvm", "kvm", "is a virtual machine (KVM)", "Stop the virtual machine by its own means"),
        ANON(UND, "landlock", "[landlock-ruleset]", "is a Landlock ruleset", CLOSE_IT),
        ANON(UND, "mount context", "[fscontext]", "is a mount being configured (fsopen)", CLOSE_IT),
        ROW(UND, "unreachable", NULL, match_unreachable,
            "is on a mount that cannot be reached from ckpt's root",
            "Run ckpt where the whole directory tree of the program is visible"),
        ROW(UND, "unknown", NULL, match_any, "is of a kind that ckpt does not know", CLOSE_IT),
};

static const struct {
        const struct fd_kind *rows;
        size_t n;
} table[] = {
        { &fd_kind_memfd, 1 },
        { memory_rows, ELEMENTSOF(memory_rows) },
        { &fd_kind_reg, 1 },
        { &fd_kind_pipe, 1 },
        { &fd_kind_fifo, 1 },
        { &fd_kind_eventfd, 1 },
        { &fd_kind_epoll, 1 },
        { &fd_kind_signalfd, 1 },
        { &fd_kind_timerfd, 1 },
        { &fd_kind_inotify, 1 },
        { &fd_kind_pidfd, 1 },
        { &fd_kind_ns, 1 },
        { &fd_kind_inet, 1 },
        { &fd_kind_unix, 1 },
        { &fd_kind_netlink, 1 },
        { &fd_kind_packet, 1 },
        { other_rows, ELEMENTSOF(other_rows) },
};

/* Types that only occur in images, or under another name than that of the row they are refused by. */
static const struct fd_kind image_rows[] = {
        ROW(TUNF, "network tunnel", NULL, NULL, NULL, NULL),
        ROW(EXT, "external file", NULL, NULL, NULL, NULL),
        ROW(CTL_TTY, "terminal", NULL, NULL, NULL, NULL),
        ROW(AUTOFS_PIPE, "autofs pipe", NULL, NULL, NULL, NULL),
};

const struct fd_kind *fd_kind_row(size_t i) {
        for (size_t t = 0; t < ELEMENTSOF(table); t++) {
                if (i < table[t].n)
                        return &table[t].rows[i];
                i -= table[t].n;
        }
        return NULL;
}

static bool matches(const struct fd_kind *kind, struct fd_probe *p) {
        if (kind->link && strncmp(p->link, kind->link, strlen(kind->link)) != 0)
                return false;
        return !kind->match || kind->match(p);
}

const struct fd_kind *fd_kind_of(struct fd_probe *p) {
        struct dump_files *files = dump_files(p->task->dump);
        const struct fd_kind *kind;

        pthread_mutex_lock(&files->lock);
        for (size_t i = 0; (kind = fd_kind_row(i)); i++)
                if (matches(kind, p))
                        break;
        pthread_mutex_unlock(&files->lock);
        ckpt_assert(kind);
        return kind;
}

const struct fd_kind *fd_kind_by_type(Img__FdTypes type) {
        const struct fd_kind *kind;

        for (size_t i = 0; i < ELEMENTSOF(image_rows); i++)
                if (image_rows[i].type == type)
                        return &image_rows[i];
        for (size_t i = 0; type != IMG__FD_TYPES__UND && (kind = fd_kind_row(i)); i++)
                if (kind->type == type)
                        return kind;
        return NULL;
}

void fd_kind_look(const struct fd_kind *kind, struct fd_probe *p, struct blockers *b) {
        struct dump_files *files = dump_files(p->task->dump);

        if (kind->look) {
                pthread_mutex_lock(&files->lock);
                kind->look(p, b);
                pthread_mutex_unlock(&files->lock);
                return;
        }
        blocker_add(b, kind->hint, "%s (%s) %s, which cannot be checkpointed", fd_probe_name(p), p->link,
                    kind->what);
}
