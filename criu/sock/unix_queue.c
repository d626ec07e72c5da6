/* SPDX-License-Identifier: GPL-2.0-only */
/* sk-queues.img: what has been sent to the unix sockets of the tree and not been received. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/image.h"
#include "lib/fault.h"
#include "macro.h"
#include "sock/unix.h"
#include "sock/unix_peek.h"

enum { PACKET_MEMORY = 552 /* a struct sk_buff and its skb_shared_info, without data */ };

/* Descriptors become files of files.img; those that only the queue has stay open in ckpt, for the registry to refer to. */
static int register_fds(struct dump *d, const struct unix_dumped *s, const struct unix_peeked *p,
                        Img__Scm *scm, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; i < p->nr_fds; i++) {
                bool keep = false;

                r = r < 0 ? r : dump_queued_fd(s->task, p->fds[i], &scm->rights[i], &keep, err);
                if (keep && r == 0)
                        ckpt_assert(unix_fd_vec_push(&unix_dump(d)->kept, p->fds[i]) == 0);
                else
                        close(p->fds[i]);
                p->fds[i] = -EBADF;
        }
        scm->n_rights = p->nr_fds;
        return r;
}

int unix_write_packet(struct dump *d, struct image_file *image, const struct unix_dumped *s, uint32_t early,
                      const struct unix_peeked *p, struct ckpt_error *err) {
        Img__SkPacket packet = IMG__SK_PACKET__INIT;
        Img__UnixCred cred = IMG__UNIX_CRED__INIT;
        Img__Scm scm = IMG__SCM__INIT, *scms = &scm;
        _cleanup_free_ uint32_t *rights = calloc(p->nr_fds + 1, sizeof(*rights));
        int r = 0;

        ckpt_assert(rights);
        packet.id_for = s->ino;
        packet.length = (uint32_t)p->len;
        packet.has_early = early != 0;
        packet.early = early;
        packet.has_urgent = p->urgent != UNIX_URGENT_NONE;
        packet.urgent = p->urgent;
        if (p->nr_fds > 0) {
                scm.type = SCM_RIGHTS;
                scm.rights = rights;
                packet.n_scm = 1;
                packet.scm = &scms;
                unix_dump(d)->holds = true;
                r = register_fds(d, s, p, &scm, err);
        }
        if (p->has_cred) {
                cred.pid = p->cred.pid;
                cred.uid = p->cred.uid;
                cred.gid = p->cred.gid;
                packet.cred = &cred;
        }
        packet.has_sender = p->sender_len > 0;
        packet.sender.data = (uint8_t *)p->sender;
        packet.sender.len = p->sender_len;
        if (r == 0)
                r = image_write(image, &packet.base, err);
        return r < 0 || p->len == 0 ? r : image_write_raw(image, p->data, p->len, err);
}

/* ---- what nobody could receive for ckpt ---- */

int unix_find_files(struct dump *d, struct peek *p, const struct unix_peeked *stray,
                    struct unix_peeked *first) {
        struct unix_dump *u = unix_dump(d);
        _cleanup_(unix_fd_vec_done) struct unix_fd_vec more = { 0 };

        if (unix_holders_have(&(struct unix_holder_vec){ 0 }, first)) /* there are none */
                return 0;
        if (!u->holders_known)
                unix_holders_read(d, p, &u->holders);
        u->holders_known = true;
        for (size_t i = 0; i < u->kept.n; i++)
                ckpt_assert(unix_fd_vec_push(&more, u->kept.v[i]) == 0);
        for (; stray; stray = stray->next)
                for (size_t i = 0; i < stray->nr_fds; i++)
                        ckpt_assert(unix_fd_vec_push(&more, stray->fds[i]) == 0);
        return unix_rights_find(p, &u->holders, more.v, more.n, first, &dump_files(d)->arena);
}

/* ---- what a queue consists of ---- */

static bool prove_queues(struct peek *peek, void *arg) {
        struct unix_memory *ret = arg;

        *ret = (struct unix_memory){ .peek = peek };
        unix_memory_prove(ret);
        return ret->urgent;
}

bool unix_queues_seen(struct dump *d) {
        return dump_peek_for(d, DUMP_PEEK_QUEUES, prove_queues, &unix_dump(d)->queues) != NULL;
}

/* Memory that a packet takes at least: two of them cannot hide in less than twice that. */
static bool is_one_packet(const struct unix_dump *u, const struct unix_dumped *s) {
        const struct unix_diag *peer = unix_diag_find(&u->table, s->msg->peer);

        return s->msg->type != SOCK_DGRAM && s->bytes > 0 && peer && peer->wqueue < 2 * PACKET_MEMORY;
}

static int urgent_error(const struct unix_dumped *s, struct ckpt_error *err) {
        ckpt_error(
                err, -ENOTSUP,
                "%s is a unix socket with urgent data (MSG_OOB): only BPF tells where, and it is not to be had",
                s->name);
        return ckpt_error_hint(
                err, "See `ckpt check --feature bpf_peek`, or try again when the program has read it");
}

static int find_parts(struct dump *d, const struct unix_dumped *s, struct unix_peek *job,
                      struct ckpt_error *err) {
        struct unix_dump *u = unix_dump(d);
        bool stream = s->msg->type == SOCK_STREAM,
             special = stream && (s->pri || s->at_mark || s->bytes == 0);
        int r = -ENODATA;

        if (!special && is_one_packet(u, s)) {
                job->no_marks = true;
                return 0;
        }
        if (unix_queues_seen(d)) /* some kernels take more: messages, however long */
                r = unix_memory_parts(special && unix_waiting_seen(d) ? &u->early : &u->queues, s->fd,
                                      (int)s->msg->type, &dump_files(d)->arena, &job->parts, &job->nr_parts);
        job->no_marks = r == 0;
        return special && !job->parts ? urgent_error(s, err) : 0;
}

/* ---- all of it ---- */

static void close_rest(const struct unix_peek *jobs, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unix_rights_close(jobs[i].first);
                unix_rights_close(jobs[i].stray);
        }
}

static int write_queue(struct dump *d, struct image_file *image, const struct unix_dumped *s,
                       const struct unix_peek *job, struct ckpt_error *err) {
        int r = job->result;

        if (r == -EBADE)
                return urgent_error(s, err);
        if (r == 0 && job->parts)
                r = unix_find_files(d, unix_dump(d)->queues.peek, job->stray, job->first);
        if (r == -ENOENT) {
                ckpt_error(
                        err, -ENOTSUP,
                        "%s is a unix socket with descriptors in its queue that cannot be read, as they came with "
                        "urgent data (MSG_OOB) or an empty message that was looked at (MSG_PEEK), and that nobody "
                        "in the tree has open besides",
                        s->name);
                return ckpt_error_hint(err, "Try again when the program has received it");
        }
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read what waits in this socket", s->name);
        for (const struct unix_peeked *p = job->first; r == 0 && p; p = p->next)
                r = unix_write_packet(d, image, s, 0, p, err);
        return r;
}

/* Sockets by their places in the list. What they hold may be sockets, which come at its end then. */
static int dump_some(struct dump *d, struct image_file *image, const size_t *index, size_t n,
                     struct ckpt_error *err) {
        struct unix_peek *jobs = calloc(n, sizeof(*jobs));
        struct unix_dump *u = unix_dump(d);
        struct unix_room room = { 0 };
        int r = 0;

        ckpt_assert(jobs);
        for (size_t i = 0; r == 0 && i < n; i++) {
                const struct unix_dumped *s = &u->all.v[index[i]];

                jobs[i] = (struct unix_peek){ .fd = s->fd,
                                              .type = (int)s->msg->type,
                                              .result = -ECANCELED,
                                              .total = s->bytes,
                                              .eof = s->msg->type == SOCK_SEQPACKET &&
                                                     s->msg->shutdown & IMG__SK_SHUTDOWN__READ };
                r = find_parts(d, s, &jobs[i], err);
        }
        if (r == 0)
                r = unix_peek(jobs, n, &room, err);
        for (size_t i = 0; r == 0 && i < n; i++) {
                /* A vector that grows below moves; what is needed of it is copied. */
                const struct unix_dumped s = u->all.v[index[i]];

                r = write_queue(d, image, &s, &jobs[i], err);
        }
        close_rest(jobs, n);
        unix_room_done(&room);
        free(jobs);
        return r;
}

int unix_dump_queues(struct dump *d, struct image_file **image, struct ckpt_error *err) {
        struct unix_dump *u = unix_dump(d);
        _cleanup_free_ size_t *index = NULL;
        int r = 0;

        for (size_t at = 0; r == 0 && at < u->all.n;) {
                size_t n = 0;

                free(index);
                index = calloc(u->all.n - at, sizeof(*index));
                ckpt_assert(index);
                for (; at < u->all.n; at++)
                        if (u->all.v[at].fd >= 0)
                                index[n++] = at;
                if (n == 0)
                        break;
                if (!*image) {
                        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
                        if (r == 0)
                                r = image_open_write(d->set, IMAGE_SK_QUEUES, 0, image, err);
                }
                if (r == 0)
                        r = dump_some(d, *image, index, n, err);
        }
        return r;
}
