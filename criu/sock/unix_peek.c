/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/unix_peek.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/uapi.h"
#include "sock/unix.h"

enum {
        ROOM_SIZE = 1 << 30, /* address space; memory only as far as it is used */
        ROOM_GAP = 4096,     /* at its end, where nothing can be written */
        STACK_SIZE = 256 << 10,
        CONTROL_SIZE = 4096,
        FIRST_TRY = 64 << 10, /* bytes of a message */
        MESSAGES_MAX = 1 << 20,
};

/*
 * Everything down to unix_peek() runs in a process that shares memory and descriptors with ckpt, and lives on if ckpt is
 * killed: no locks (malloc has one), only system calls.
 */

static void *take(struct unix_room *room, size_t size) {
        char *at = room->at;

        if (size > (size_t)(room->end - at) - 16)
                return NULL;
        room->at = at + (size + 15) / 16 * 16;
        return at;
}

static int set_offset(int fd, int offset) {
        return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0 ? -errno : 0;
}

static void close_fds(struct unix_peeked *p) {
        for (size_t i = 0; i < p->nr_fds; i++)
                close(p->fds[i]);
        p->fds = NULL;
        p->nr_fds = 0;
}

static int keep_fds(struct unix_room *room, const struct cmsghdr *c, struct unix_peeked *p) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        p->fds = take(room, n * sizeof(int));
        for (size_t i = 0; !p->fds && i < n; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
                close(fd);
        }
        if (!p->fds)
                return -ENOBUFS;
        memcpy(p->fds, CMSG_DATA(c), n * sizeof(int));
        p->nr_fds = n;
        return 0;
}

static int read_control(struct unix_room *room, struct msghdr *msg, struct unix_peeked *p) {
        int r = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                int fd;

                if (c->cmsg_level != SOL_SOCKET)
                        continue;
                if (c->cmsg_type == SCM_RIGHTS && r == 0) {
                        r = keep_fds(room, c, p);
                } else if (c->cmsg_type == SCM_CREDENTIALS) {
                        memcpy(&p->cred, CMSG_DATA(c), sizeof(p->cred));
                        p->has_cred = p->cred.pid != 0;
                } else if (c->cmsg_type == SCM_PIDFD) {
                        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
                        if (fd >= 0)
                                close(fd);
                }
        }
        if (r == 0 && msg->msg_flags & MSG_CTRUNC)
                r = -EMFILE;
        if (r < 0)
                close_fds(p);
        return r;
}

/* What there is at `offset`, up to `size` bytes. 0: nothing; 1: *p; *ret_full: how long the message is. */
static int peek_at(struct unix_room *room, int fd, int offset, size_t size, struct unix_peeked *p,
                   size_t *ret_full) {
        char control[CONTROL_SIZE] __attribute__((aligned(16)));
        union unix_address from;
        char *data = take(room, size);
        struct iovec iov = { data, size };
        struct msghdr msg = { .msg_name = &from,
                              .msg_namelen = sizeof(from),
                              .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof(control) };
        ssize_t n;
        int r;

        if (!data)
                return -ENOBUFS;
        memset(&from, 0, sizeof(from));
        r = set_offset(fd, offset);
        if (r < 0)
                return r;
        n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        *p = (struct unix_peeked){ .data = data, .len = (size_t)n < size ? (size_t)n : size };
        *ret_full = (size_t)n;
        p->sender_len = unix_name_length(&from.un, msg.msg_namelen);
        memcpy(p->sender, from.un.sun_path, p->sender_len);
        room->at = data + (p->len + 15) / 16 * 16; /* the rest was not needed */
        r = read_control(room, &msg, p);
        return r < 0 ? r : 1;
}

/* It has the descriptors then; or they are closed. */
static int add(struct unix_room *room, struct unix_peek *job, struct unix_peeked *p) {
        struct unix_peeked *copy = take(room, sizeof(*copy));

        if (!copy) {
                close_fds(p);
                return -ENOBUFS;
        }
        *copy = *p;
        copy->next = NULL;
        if (job->last)
                job->last->next = copy;
        else
                job->first = copy;
        job->last = copy;
        return 0;
}

/*
 * A read of a stream goes on from one piece to the next and ends behind a piece that has descriptors. Where that one begins
 * nothing tells; but a piece is copied as a whole or, if memory ends before it does, not at all: with one byte too few
 * for all `len`, what comes is everything before the last piece.
 */
static int find_start(struct unix_room *room, int fd, int offset, size_t len, size_t *ret) {
        char *data = room->end - (len - 1);
        ssize_t n;
        int r;

        if (data < room->at)
                return -ENOBUFS;
        r = set_offset(fd, offset);
        if (r < 0)
                return r;
        n = recv(fd, data, len, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && errno != EFAULT)
                return -errno;
        *ret = n < 0 ? 0 : (size_t)n;
        return *ret < len ? 0 : -EIO;
}

/* A piece that has descriptors at its end: what is before that has none. */
static int add_piece(struct unix_room *room, struct unix_peek *job, size_t offset, struct unix_peeked *p) {
        struct unix_peeked before = *p;
        size_t start = 0;
        int r = p->nr_fds > 0 ? find_start(room, job->fd, (int)offset, p->len, &start) : 0;

        if (r == 0 && start > 0) {
                before.len = start;
                before.fds = NULL;
                before.nr_fds = 0;
                r = add(room, job, &before);
                p->data += start;
                p->len -= start;
        }
        if (r < 0) {
                close_fds(p);
                return r;
        }
        return add(room, job, p);
}

static int peek_stream(struct unix_room *room, struct unix_peek *job) {
        size_t offset = 0, full;
        bool ended = false;

        /* Not beyond its end: there an error that waits for the program would be told, and gone. */
        while (offset < job->total) {
                struct unix_peeked p;
                /* When there is no room left, the kernel still goes on to the next descriptors. */
                int r = peek_at(room, job->fd, (int)offset, job->total - offset + 1, &p, &full);
                size_t len = r > 0 ? p.len : 0;
                bool plain = r > 0 && !job->no_marks && !p.has_cred;

                if (r <= 0 || len == 0)
                        return r;
                /* Why did the one before end? It had no descriptors, nor do credentials tell them apart. */
                ended = ended && plain;
                plain = plain && p.nr_fds == 0;
                r = add_piece(room, job, offset, &p);
                if (r == 0 && ended)
                        r = -EBADE;
                if (r < 0)
                        return r;
                ended = plain;
                offset += len;
        }
        return 0;
}

/* The same where it is known what it consists of. */
static int peek_parts(struct unix_room *room, struct unix_peek *job) {
        size_t offset = 0, full;

        for (size_t i = 0; i < job->nr_parts; i++) {
                const struct unix_part *part = &job->parts[i];
                struct unix_peeked p;
                int r;

                if (part->known) {
                        p = *part->known;
                } else {
                        r = peek_at(room, job->fd, (int)offset, part->len, &p, &full);
                        if (r < 0)
                                return r;
                        if (!part->has_fds) /* they are the next one's */
                                close_fds(&p);
                        if (r == 0 || p.len != part->len || (p.nr_fds > 0) != part->has_fds) {
                                close_fds(&p);
                                return -EIO;
                        }
                        p.urgent = part->urgent;
                        offset += part->len;
                }
                r = add(room, job, &p);
                if (r < 0)
                        return r;
        }
        return 0;
}

/*
 * Empty messages do not move the offset: the kernel notes that they were peeked at and passes them over next time. At the
 * end of a connection of packets the answer is an empty one for ever.
 */
static int peek_packet(struct unix_room *room, const struct unix_peek *job, size_t offset, size_t *size,
                       struct unix_peeked *ret) {
        for (;;) {
                char *at = room->at;
                size_t full;
                int r = peek_at(room, job->fd, (int)offset, *size, ret, &full);

                if (r <= 0 || full <= *size)
                        return r;
                close_fds(ret);
                room->at = at;
                *size = full;
        }
}

static int peek_packets(struct unix_room *room, struct unix_peek *job) {
        size_t offset = 0, size = FIRST_TRY;

        for (size_t i = 0; i < MESSAGES_MAX; i++) {
                struct unix_peeked p;
                int r;

                if (job->eof && offset >= job->total)
                        return 0;
                r = peek_packet(room, job, offset, &size, &p);
                if (r <= 0)
                        return r;
                offset += p.len;
                r = add(room, job, &p);
                if (r < 0)
                        return r;
        }
        return -ENOBUFS;
}

/* What came with empty ones is kept: those that had been peeked at before do not come, so nothing tells whose it is. */
static int add_stray(struct unix_room *room, struct unix_peek *job, struct unix_peeked *p) {
        struct unix_peeked *copy = p->nr_fds > 0 ? take(room, sizeof(*copy)) : NULL;

        if (!copy) {
                int r = p->nr_fds > 0 ? -ENOBUFS : 0;

                close_fds(p);
                return r;
        }
        *copy = *p;
        copy->next = job->stray;
        job->stray = copy;
        return 0;
}

/* The next one that is not empty. */
static int peek_full(struct unix_room *room, struct unix_peek *job, size_t offset, size_t *size,
                     struct unix_peeked *ret) {
        for (size_t i = 0; i <= job->nr_parts; i++) {
                int r = peek_packet(room, job, offset, size, ret);

                if (r <= 0 || ret->len > 0)
                        return r;
                r = add_stray(room, job, ret);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int peek_packet_parts(struct unix_room *room, struct unix_peek *job) {
        size_t offset = 0, size = FIRST_TRY;

        for (size_t i = 0; i < job->nr_parts; i++) {
                const struct unix_part *part = &job->parts[i];
                struct unix_peeked p;
                int r = 1;

                if (part->known && part->has_fds) { /* if it can be had, it is kept */
                        r = peek_full(room, job, offset, &size, &p);
                        if (r > 0)
                                close_fds(&p);
                        r = r < 0 ? r : 1;
                }
                if (r > 0 && part->known)
                        p = *part->known;
                else if (r > 0)
                        r = peek_full(room, job, offset, &size, &p);
                if (r < 0)
                        return r;
                if (r > 0 && p.len != part->len)
                        close_fds(&p);
                if (r == 0 || p.len != part->len)
                        return -EIO;
                r = add(room, job, &p);
                if (r < 0)
                        return r;
                offset += part->len;
        }
        return 0;
}

struct work {
        struct unix_peek *jobs;
        size_t n;
        struct unix_room *room;
        pid_t ckpt;
        int offset; /* SO_PEEK_OFF of the socket of `busy` as it was */
        const struct unix_peek *busy;
        int done;
};

static int end_peek(struct work *w) {
        int r = w->busy ? set_offset(w->busy->fd, w->offset) : 0;

        w->busy = NULL;
        return r;
}

static int peek_one(struct work *w, struct unix_peek *job) {
        socklen_t len = sizeof(w->offset);
        int r, back;

        if (getsockopt(job->fd, SOL_SOCKET, SO_PEEK_OFF, &w->offset, &len) < 0)
                return -errno;
        __atomic_store_n(&w->busy, job, __ATOMIC_SEQ_CST);
        if (job->type == SOCK_STREAM)
                r = job->parts ? peek_parts(w->room, job) : peek_stream(w->room, job);
        else
                r = job->parts ? peek_packet_parts(w->room, job) : peek_packets(w->room, job);
        back = end_peek(w);
        return r < 0 ? r : back;
}

static int peek_all(void *arg) {
        struct work *w = arg;

        for (size_t i = 0; i < w->n && getppid() == w->ckpt; i++)
                w->jobs[i].result = peek_one(w, &w->jobs[i]);
        w->done = 1;
        return 0;
}

int unix_peek(struct unix_peek *jobs, size_t n, struct unix_room *ret, struct ckpt_error *err) {
        struct work w = { .jobs = jobs, .n = n, .room = ret, .ckpt = getpid() };
        sigset_t all, saved;
        char *memory;
        pid_t pid;

        memory = mmap(NULL, ROOM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
        if (memory == MAP_FAILED)
                return ckpt_error_errno(err, -errno,
                                        "cannot reserve memory for what is in the unix sockets");
        *ret = (struct unix_room){ memory, memory + STACK_SIZE, memory + ROOM_SIZE - ROOM_GAP };
        if (mprotect(ret->end, ROOM_GAP, PROT_NONE) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot reserve memory for what is in the unix sockets");
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        /* No exit signal: nobody in ckpt is told. The caller waits until it has ended. */
        pid = clone(peek_all, memory + STACK_SIZE, CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_VFORK, &w);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (pid < 0)
                return ckpt_error_errno(err, -errno, "cannot start the process that reads the unix sockets");
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
        if (w.done)
                return 0;
        /* The tasks are stopped as long as we live, so what it left half done can be undone here. */
        end_peek(&w);
        return ckpt_error(err, -EPIPE, "the process that reads the unix sockets died");
}

void unix_room_done(struct unix_room *room) {
        if (room->start)
                munmap(room->start, ROOM_SIZE);
        *room = (struct unix_room){ 0 };
}
