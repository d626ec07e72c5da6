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

static int write_packet(struct dump *d, struct image_file *image, const struct unix_dumped *s,
                        const struct unix_peeked *p, struct ckpt_error *err) {
        Img__SkPacket packet = IMG__SK_PACKET__INIT;
        Img__UnixCred cred = IMG__UNIX_CRED__INIT;
        Img__Scm scm = IMG__SCM__INIT, *scms = &scm;
        _cleanup_free_ uint32_t *rights = calloc(p->nr_fds + 1, sizeof(*rights));
        int r = 0;

        ckpt_assert(rights);
        packet.id_for = s->ino;
        packet.length = (uint32_t)p->len;
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

static void close_rest(const struct unix_peek *jobs, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (const struct unix_peeked *p = jobs[i].first; p; p = p->next)
                        for (size_t f = 0; f < p->nr_fds; f++)
                                safe_close(p->fds[f]);
}

/* Sockets by their places in the list. What they hold may be sockets, which come at its end then. */
static int dump_some(struct dump *d, struct image_file *image, const size_t *index, size_t n,
                     struct ckpt_error *err) {
        struct unix_peek *jobs = calloc(n, sizeof(*jobs));
        struct unix_dump *u = unix_dump(d);
        struct unix_room room = { 0 };
        int r;

        ckpt_assert(jobs);
        for (size_t i = 0; i < n; i++)
                jobs[i] = (struct unix_peek){ .fd = u->all.v[index[i]].fd,
                                              .type = (int)u->all.v[index[i]].msg->type,
                                              .result = -ECANCELED,
                                              .total = u->all.v[index[i]].bytes,
                                              .eof = u->all.v[index[i]].msg->type == SOCK_SEQPACKET &&
                                                     u->all.v[index[i]].msg->shutdown &
                                                             IMG__SK_SHUTDOWN__READ };
        /* A vector that grows below moves; what is needed of it is copied. */
        r = unix_peek(jobs, n, &room, err);
        for (size_t i = 0; r == 0 && i < n; i++) {
                struct unix_dumped s = u->all.v[index[i]];

                if (jobs[i].result < 0)
                        r = ckpt_error_errno(err, jobs[i].result,
                                             "%s: cannot read what waits in this socket", s.name);
                for (const struct unix_peeked *p = jobs[i].first; r == 0 && p; p = p->next)
                        r = write_packet(d, image, &s, p, err);
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
