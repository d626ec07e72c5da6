/* SPDX-License-Identifier: GPL-2.0-only */
#include "restore/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/fd.h"
#include "lib/io.h"
#include "macro.h"
#include "proc/proc.h"
#include "restore/stages.h"

enum {
        FDS_PER_MESSAGE = 253, /* SCM_MAX_FD */
        MESSAGES_AT_ONCE = 32, /* within the default buffer of a socket */
};

static int own_highest(void) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec fds = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;

        if (proc_open(getpid(), &self) < 0 || proc_fds(&self, &fds) < 0 || fds.n == 0)
                return 255;
        return fds.v[fds.n - 1];
}

enum { MORE_FDS = 1024 };

int inherit_init(struct restore *r, struct ckpt_error *err) {
        _cleanup_close_ int theirs = -EBADF;
        int pair[2], n;

        raise_descriptor_limit();
        r->inherit_base = MAX(fd_highest(r), own_highest()) + 16;
        r->inherit_next = r->inherit_base;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot make the socket that carries descriptors to the tasks");
        r->transport = pair[0];
        theirs = pair[1];
        n = restore_inherit(r, theirs, err);
        if (n < 0)
                return n;
        r->transport_task = n;
        return 0;
}

void inherit_done(struct restore *r) {
        if (r->inherit_next > r->inherit_base)
                syscall(SYS_close_range, r->inherit_base, r->inherit_next - 1, 0);
        r->inherit_next = r->inherit_base;
        r->transport = safe_close(r->transport);
}

/* Descriptors of the tree may reach up to the hard limit; beyond it leads CAP_SYS_RESOURCE only. */
static bool raise_hard_limit(int fd) {
        const struct rlimit limit = { (rlim_t)fd + MORE_FDS, (rlim_t)fd + MORE_FDS };

        return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

int restore_inherit(struct restore *r, int fd, struct ckpt_error *err) {
        int copy = fcntl(fd, F_DUPFD, r->inherit_next);

        if (copy < 0 && (errno == EINVAL || errno == EMFILE) && raise_hard_limit(r->inherit_next))
                copy = fcntl(fd, F_DUPFD, r->inherit_next);
        if (copy < 0) {
                copy = ckpt_error_errno(err, -errno,
                                        "cannot keep a descriptor from %d on for the restored tasks",
                                        r->inherit_next);
                ckpt_error_hint(
                        err,
                        "Raise the hard limit on open files (ulimit -Hn) of ckpt, or give it CAP_SYS_RESOURCE");
                return copy;
        }
        r->inherit_next = copy + 1;
        return copy;
}

void inherit_add_close_others(struct restore *r, struct compel_batch *b) {
        compel_call(b, "close the descriptors of ckpt", SYS_close_range, 0, (uint64_t)r->inherit_base - 1,
                    0);
        compel_call(b, "close the descriptors of ckpt", SYS_close_range, (uint64_t)r->inherit_next, ~0U, 0);
}

void restore_close_inherited(struct restore_task *t, struct compel_batch *b) {
        compel_call(b, "close inherited descriptors", SYS_close_range, (uint64_t)t->restore->inherit_base,
                    ~0U, 0);
}

static int send_message(int sock, const int *fds, size_t n) {
        char byte = 0;
        union {
                char buf[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.buf,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n * sizeof(int));
        return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

/* The receiving side: struct msghdr with everything it points to, in the lane. */
static void add_receive(struct restore_task *t, struct compel_batch *b, size_t n) {
        struct {
                struct msghdr msg;
                struct iovec iov;
                char byte, pad[15];
                char control[];
        } * data;
        size_t control = CMSG_SPACE(n * sizeof(int));
        struct compel_op *op;
        raddr_t addr;

        data = compel_data(b, sizeof(*data) + control, &addr);
        data->iov = (struct iovec){ (void *)(uintptr_t)(addr + offsetof(__typeof__(*data), byte)), 1 };
        data->msg = (struct msghdr){
                .msg_iov = (void *)(uintptr_t)(addr + offsetof(__typeof__(*data), iov)),
                .msg_iovlen = 1,
                .msg_control = (void *)(uintptr_t)(addr + sizeof(*data)),
                .msg_controllen = control,
        };
        op = compel_call(b, "receive descriptors", SYS_recvmsg, (uint64_t)t->restore->transport_task, addr,
                         0);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = 1;
}

int restore_send_fds(struct restore_task *t, struct compel_batch *b, const int *fds, size_t n,
                     struct ckpt_error *err) {
        size_t sent = 0;

        for (size_t messages = 0; sent < n; messages++) {
                size_t chunk = MIN(n - sent, (size_t)FDS_PER_MESSAGE);
                int r;

                if (messages == MESSAGES_AT_ONCE) {
                        r = compel_run(b, err);
                        if (r < 0)
                                return r;
                        messages = 0;
                }
                r = send_message(t->restore->transport, fds + sent, chunk);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot send it descriptors",
                                                restore_task_name(t));
                add_receive(t, b, chunk);
                sent += chunk;
        }
        return 0;
}
