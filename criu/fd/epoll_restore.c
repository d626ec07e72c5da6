/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registering the members of an epoll instance. Tasks that have the instance and the member under its number do it
 * themselves, all members in one batch; a signalfd shows the signals of who registers it. What is not under its
 * number any more is registered by a process that has nothing else to do, in a table of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "fd/epoll.h"
#include "log.h"
#include "macro.h"

/* An event as the kernel has it. */
struct kernel_event {
        uint32_t events;
        uint64_t data;
} __attribute__((packed));

enum { NESTS_MAX = 8 }; /* EP_MAX_NESTS of the kernel is 4 */

/* Ready for anything at all, so that a one-shot member fires. */
#define ANYTHING ((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP))

/* One that a registered member is reached by. */
struct member {
        const Img__EventpollTfd *msg;
        struct restore_file *file;
        struct restore_task
                *task; /* has the file under that number, and the instance as `epfd`; NULL: none */
        int epfd;
};

/* The first task that has both; for foreign images also which file it is. */
static int find_member(struct restore *r, const struct restore_file *epoll, const Img__EventpollTfd *msg,
                       struct member *ret, struct ckpt_error *err) {
        const struct fd_holder *holders;
        size_t n = fd_holders(r, epoll, &holders);

        *ret = (struct member){ .msg = msg };
        if (msg->has_file_id)
                ret->file = restore_find_file(r->files, msg->file_id);
        for (size_t i = 0; i < n && !ret->task; i++) {
                const struct restore_slot *slot = restore_find_slot(holders[i].task->fds, (int)msg->tfd);

                if (!slot || slot->file == epoll || (ret->file && slot->file != ret->file))
                        continue;
                ret->file = slot->file;
                ret->task = holders[i].task;
                ret->epfd = holders[i].fd;
        }
        if (!ret->file)
                return ckpt_error(
                        err, -EBADMSG,
                        "files.img: member %u of the epoll instance %u is a descriptor that nobody has",
                        msg->tfd, epoll->id);
        return 0;
}

/* A copy in ckpt of what a task has. */
static int get_file(struct restore *r, const struct restore_file *file) {
        const struct fd_holder *holder;
        _cleanup_close_ int pidfd = -EBADF;
        int fd;

        if (fd_holders(r, file, &holder) == 0)
                return file->fd < 0 ? -EBADF : (fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0)) < 0 ? -errno : fd;
        pidfd = (int)syscall(SYS_pidfd_open, holder->task->threads[0].tid, 0);
        if (pidfd < 0)
                return -errno;
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, holder->fd, 0);
        return fd < 0 ? -errno : fd;
}

/*
 * In a child with a copy of the table and ckpt's memory: nothing but system calls. A signalfd that is registered
 * like this is never ready by itself, as it is when who registered it has ended.
 */
static int control_elsewhere(int epfd, int op, int fd, int number, struct kernel_event *event) {
        volatile int result = 0;
        pid_t pid;

        pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork)
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                int e = fcntl(epfd, F_DUPFD, number + 1); // NOLINT(clang-analyzer-unix.Vfork)

                if (e < 0 || dup2(fd, number) < 0 ||
                    epoll_ctl(e, op, number, (struct epoll_event *)event) < 0)
                        result = -errno;
                _exit(0);
        }
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return result;
}

static int control(struct restore *r, const struct restore_file *epoll, const struct member *m, int op,
                   uint32_t events, struct ckpt_error *err) {
        struct kernel_event event = { events, m->msg->data };
        _cleanup_close_ int fd = -EBADF;
        int rc;

        if (m->task) {
                struct compel_batch *b = task_lane(m->task);

                compel_room(b, 1, sizeof(event));
                compel_call(b, "register a member of an epoll instance", SYS_epoll_ctl, (uint64_t)m->epfd,
                            (uint64_t)op, m->msg->tfd, compel_copy(b, &event, sizeof(event)));
                return 0;
        }
        fd = get_file(r, m->file);
        rc = fd < 0 ? fd : control_elsewhere(epoll->fd, op, fd, (int)m->msg->tfd, &event);
        return rc < 0 ? ckpt_error_errno(
                                err, rc,
                                "file %u: cannot register the closed member %u of an epoll instance",
                                epoll->id, m->msg->tfd)
                      : 0;
}

/* Members of one instance may be registered by several tasks. */
static int run_all(const struct member *members, size_t n, struct ckpt_error *err) {
        for (size_t i = 0; i < n; i++) {
                int rc;

                if (!members[i].task)
                        continue;
                rc = compel_run(task_lane(members[i].task), err);
                if (rc < 0)
                        return ckpt_error_prefix(err, "%s", restore_task_name(members[i].task));
        }
        return 0;
}

/* ---- one-shot members that have fired ---- */

static bool has_fired(const Img__EventpollTfd *msg) {
        return (msg->events & EPOLLONESHOT) && !(msg->events & ~EPOLL_PRIVATE_BITS);
}

static void take_events(int epfd) {
        struct epoll_event events[64];

        while (epoll_wait(epfd, events, ELEMENTSOF(events), 0) > 0)
                ;
}

/* A pipe without data is made ready for a moment: by a byte that is taken out again. */
static void poke(struct restore *r, const struct restore_file *epoll, const struct member *m) {
        _cleanup_close_ int fd = -EBADF, both = -EBADF;
        struct pollfd p;
        char path[32], c = 0;

        if (m->file->msg->type != IMG__FD_TYPES__PIPE && m->file->msg->type != IMG__FD_TYPES__FIFO)
                return;
        fd = get_file(r, m->file);
        if (fd < 0)
                return;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        both = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        p = (struct pollfd){ .fd = both, .events = POLLIN };
        if (both < 0 || poll(&p, 1, 0) != 0 || write(both, &c, 1) != 1)
                return;
        take_events(epoll->fd);
        (void)!read(both, &c, 1);
}

/* The numbers of members that are still armed. */
static int still_armed(int epfd, struct proc_fdinfo *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        size_t n = 0;
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = proc_fdinfo_read(&self, epfd, &buf, ret);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ret->epoll.n; i++)
                if (ret->epoll.v[i].events & ~EPOLL_PRIVATE_BITS)
                        ret->epoll.v[n++] = ret->epoll.v[i];
        ret->epoll.n = n;
        return 0;
}

static bool is_listed(const struct proc_fdinfo *info, uint32_t number) {
        for (size_t i = 0; i < info->epoll.n; i++)
                if (info->epoll.v[i].fd == (int)number)
                        return true;
        return false;
}

/*
 * A member that has fired is one that has to fire: registered with no events it would still report errors and
 * hangups. Nothing else is registered yet, so taking events takes only theirs. What is ready for nothing keeps
 * reporting those two.
 */
static int disarm(struct restore *r, const struct restore_file *epoll, const struct member *members,
                  size_t n, struct ckpt_error *err) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo before = { 0 }, after = { 0 };
        int rc;

        take_events(epoll->fd);
        rc = still_armed(epoll->fd, &before);
        if (rc == 0 && before.epoll.n == 0)
                return 0;
        for (size_t i = 0; rc == 0 && i < n; i++)
                if (has_fired(members[i].msg) && is_listed(&before, members[i].msg->tfd))
                        poke(r, epoll, &members[i]);
        if (rc == 0)
                rc = still_armed(epoll->fd, &after);
        if (rc < 0)
                return ckpt_error_errno(err, rc, "file %u: cannot read the members of an epoll instance",
                                        epoll->id);
        for (size_t i = 0; rc == 0 && i < n; i++) {
                if (!has_fired(members[i].msg) || !is_listed(&after, members[i].msg->tfd))
                        continue;
                log_info(
                        "file %u: member %u of an epoll instance, one-shot and fired, may still report a hangup",
                        epoll->id, members[i].msg->tfd);
                rc = control(r, epoll, &members[i], EPOLL_CTL_MOD, members[i].msg->events, err);
        }
        return rc < 0 ? rc : run_all(members, n, err);
}

static int add_fired(struct restore *r, const struct restore_file *epoll, const struct member *members,
                     size_t n, struct ckpt_error *err) {
        size_t found = 0;
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < n; i++)
                if (has_fired(members[i].msg)) {
                        found++;
                        rc = control(r, epoll, &members[i], EPOLL_CTL_ADD, members[i].msg->events | ANYTHING,
                                     err);
                }
        if (rc < 0 || found == 0)
                return rc;
        rc = run_all(members, n, err);
        return rc < 0 ? rc : disarm(r, epoll, members, n, err);
}

/* ---- all ---- */

static int restore_members(struct restore *r, struct restore_file *file, unsigned int depth,
                           struct ckpt_error *err);

/* An instance in another one: its own members first, so that taking their events is not seen from there. */
static int restore_nested(struct restore *r, const struct member *members, size_t n, unsigned int depth,
                          struct ckpt_error *err) {
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < n; i++)
                if (members[i].file->kind == &fd_kind_epoll)
                        rc = restore_members(r, members[i].file, depth + 1, err);
        return rc;
}

static int restore_members(struct restore *r, struct restore_file *file, unsigned int depth,
                           struct ckpt_error *err) {
        const Img__EventpollFile *msg = file->msg->epfd;
        _cleanup_free_ struct member *members = NULL;
        int rc = 0;

        if (depth > NESTS_MAX)
                return ckpt_error(err, -EBADMSG,
                                  "files.img: epoll instances are nested more than %d deep, which no kernel "
                                  "allows",
                                  NESTS_MAX);
        /* Also ends the way round of a circle, which the kernel refuses. */
        if (file->finished || msg->n_tfd == 0 || file->fd < 0)
                return 0;
        file->finished = true;
        members = calloc(msg->n_tfd, sizeof(*members));
        ckpt_assert(members);
        for (size_t i = 0; rc == 0 && i < msg->n_tfd; i++)
                rc = find_member(r, file, msg->tfd[i], &members[i], err);
        if (rc == 0)
                rc = restore_nested(r, members, msg->n_tfd, depth, err);
        if (rc == 0)
                rc = add_fired(r, file, members, msg->n_tfd, err);
        for (size_t i = 0; rc == 0 && i < msg->n_tfd; i++)
                if (!has_fired(msg->tfd[i]))
                        rc = control(r, file, &members[i], EPOLL_CTL_ADD, msg->tfd[i]->events, err);
        return rc < 0 ? rc : run_all(members, msg->n_tfd, err);
}

int epoll_restore_members(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        return restore_members(r, file, 0, err);
}
