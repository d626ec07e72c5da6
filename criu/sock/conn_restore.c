/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP connections being restored. They are connected in repair mode, where they neither send nor say goodbye
 * should the restore fail; then all receive queues are filled, then all send queues: a connection with both ends
 * in the tree may begin to retransmit before the last one is complete. At the very end the network lock goes
 * and each speaks its first word.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli/action.h"
#include "image/image.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "sock/restore.h"

enum { PORT_FIRST = 1024, PORT_TRIES = 4096 };

struct inet_state *inet_state(struct restore *r) {
        return r->files->state[FD_STATE_INET];
}

struct inet_file *inet_find(struct restore *r, uint32_t id) {
        struct inet_state *s = inet_state(r);
        size_t low = 0, high = s ? s->n : 0;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (s->v[middle].isk->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return s && low < s->n && s->v[low].isk->id == id ? &s->v[low] : NULL;
}

void inet_free(struct restore_files *files) {
        struct inet_state *s = files->state[FD_STATE_INET];

        if (!s)
                return;
        for (size_t i = 0; i < s->n; i++) {
                safe_close(s->v[i].fd);
                free(s->v[i].in);
                free(s->v[i].out);
                image_message_freep(&s->v[i].stream);
        }
        /* The restore has failed. A lock that was there before is still needed for the next attempt. */
        netlock_hold_free(&s->hold);
        safe_close(s->unlock);
        sock_defaults_free(&s->defaults);
        packet_sender_free(&s->sender);
        free(s->claimed);
        inet_file_ref_vec_done(&s->grouped);
        free(s->v);
        free(s);
        files->state[FD_STATE_INET] = NULL;
}

/* ---- load ---- */

static int read_queue(struct image_file *image, size_t len, uint8_t **ret, struct ckpt_error *err) {
        uint8_t *data;
        int r;

        if (len == 0)
                return 0;
        data = malloc(len);
        if (!data)
                return ckpt_error_errno(err, -ENOMEM, "cannot read the queue of a TCP connection");
        r = image_read_raw(image, data, len, err);
        if (r < 0)
                free(data);
        else
                *ret = data;
        return r;
}

static int read_stream(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        const char *why;
        int rc;

        rc = image_open_read(r->dir, IMAGE_TCP_STREAM, f->isk->ino, IMAGE_OPTIONAL, &image, err);
        if (rc == 0)
                rc = image_read_expected(image, &img__tcp_stream__descriptor, &f->stream, err);
        if (rc < 0)
                return rc;
        why = tcp_stream_check(f->stream, f->isk->state);
        if (why)
                return image_damaged(image, err, "the connection %s", why);
        if ((uint64_t)f->stream->inq_len + f->stream->outq_len > image_remaining(image))
                return image_damaged(image, err, "the queues are longer than the file");
        rc = read_queue(image, f->stream->inq_len, &f->in, err);
        return rc < 0 ? rc : read_queue(image, f->stream->outq_len, &f->out, err);
}

static int load_connection(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        char text[SOCK_NAME_MAX];
        int rc;

        inet_tuple(f->isk, &f->tuple);
        f->deaf = f->isk->state == TCP_CLOSE;
        f->closed = r->opts->tcp_close && !f->deaf;
        if (f->closed)
                return 0;
        rc = read_stream(r, f, err);
        if (rc == -ENOENT && f->deaf)
                return 0;
        if (rc == -ENOENT) {
                inet_describe(f->isk, text);
                ckpt_error(err, -ENOENT, "%s was dumped with --tcp-close; nothing was created", text);
                ckpt_error_hint(err, "Restore it with --tcp-close");
        }
        return rc;
}

static int compare_tuples(const void *a, const void *b) {
        const struct inet_file *x = *(struct inet_file *const *)a, *y = *(struct inet_file *const *)b;

        /* Tuples are zeroed before they are filled: padding compares equal. */
        return memcmp(
                &x->tuple, &y->tuple,
                sizeof(x->tuple)); // NOLINT(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c)
}

/* Connections whose other end is not among them. */
static void find_outside(struct inet_state *s) {
        struct inet_file **sorted = calloc(s->n + 1, sizeof(*sorted));
        size_t n = 0;

        ckpt_assert(sorted);
        for (size_t i = 0; i < s->n; i++)
                if (tcp_is_connection(s->v[i].isk->state) && s->v[i].stream)
                        sorted[n++] = &s->v[i];
        qsort(sorted, n, sizeof(*sorted), compare_tuples);
        for (size_t i = 0; i < n; i++) {
                struct inet_file *f = sorted[i], key = *f, *key_at = &key;

                memcpy(key.tuple.src, f->tuple.dst, sizeof(key.tuple.src));
                memcpy(key.tuple.dst, f->tuple.src, sizeof(key.tuple.dst));
                key.tuple.src_port = f->tuple.dst_port;
                key.tuple.dst_port = f->tuple.src_port;
                f->outside = !bsearch(&key_at, sorted, n, sizeof(*sorted), compare_tuples);
        }
        free(sorted);
}

/* ---- lock ---- */

/* Is every connection behind a lock that is still there since the dump? */
static bool still_locked(const struct inet_state *s) {
        const char *known = NULL;

        for (size_t i = 0; i < s->n; i++) {
                const struct inet_file *f = &s->v[i];

                if (!f->outside)
                        continue;
                if (!f->isk->lock)
                        return false;
                if (known && strcmp(known, f->isk->lock) == 0)
                        continue;
                if (!netlock_exists(f->isk->lock))
                        return false;
                known = f->isk->lock;
        }
        return true;
}

static int lock_network(struct restore *r, struct inet_state *s, struct ckpt_error *err) {
        _cleanup_(sock_tuple_vec_done) struct sock_tuple_vec outside = { 0 };
        char name[NETLOCK_NAME_MAX], note[128];
        int rc;

        for (size_t i = 0; i < s->n; i++)
                if (s->v[i].outside && sock_tuple_vec_push(&outside, s->v[i].tuple) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        if (outside.n == 0 || r->opts->network_lock == NETWORK_LOCK_SKIP || still_locked(s))
                return 0;
        netlock_new_name(name);
        snprintf(note, sizeof(note), "restore from %s", r->run->images_dir);
        rc = netlock_hold(name, outside.v, outside.n, note, NULL, &s->hold, err);
        return rc < 0 ? rc : netlock_hold_in(s->hold, err);
}

/* Those of the dump may be several only in images that somebody has put together. */
static int unlock_network(struct restore *r, struct inet_state *s, struct ckpt_error *err) {
        const char *last = NULL;
        int rc = 0;

        rc = netlock_hold_end(s->hold, err);
        if (rc == 0 && s->connections)
                rc = action_run(r->run, ACTION_NETWORK_UNLOCK, r->tasks[0]->pid, err);
        for (size_t i = 0; rc == 0 && i < s->n; i++) {
                const char *name = s->v[i].isk->lock;

                if (!name || (last && strcmp(last, name) == 0))
                        continue;
                rc = netlock_remove(&s->unlock, name, err);
                last = name;
        }
        return rc;
}

static int compare_raw(const void *a, const void *b) {
        return memcmp(a, b, sizeof(struct sock_tuple));
}

static struct sock_tuple diag_tuple(const struct sock_diag *s) {
        Img__InetSk isk = IMG__INET_SK__INIT;
        struct sock_diag copy = *s;
        struct sock_tuple t;

        isk.family = s->family;
        isk.src_port = s->src_port;
        isk.dst_port = s->dst_port;
        isk.src_addr = copy.src;
        isk.dst_addr = copy.dst;
        isk.n_src_addr = isk.n_dst_addr = s->family == AF_INET6 ? 4 : 1;
        inet_tuple(&isk, &t);
        return t;
}

/*
 * The port of a listener without SO_REUSEADDR cannot be bound while a connection that it has accepted is in
 * TIME_WAIT. It had the port before that. Returned is a byte for each port, set for those of such listeners; owned.
 */
static bool *ports_of_listeners(const struct inet_state *s) {
        bool *ports = calloc(UINT16_MAX + 1, sizeof(*ports));

        ckpt_assert(ports);
        for (size_t i = 0; i < s->n; i++) {
                const Img__InetSk *isk = s->v[i].isk;

                if (isk->type == SOCK_STREAM && isk->state == TCP_LISTEN && !isk->opts->reuseaddr)
                        ports[isk->src_port] = true;
        }
        return ports;
}

/*
 * What is left in the kernel of the same connections, as of a tree that was killed after it had been left running,
 * would be in their way for up to a minute.
 */
static int forget_dying(struct inet_state *s, struct ckpt_error *err) {
        _cleanup_(sock_diag_vec_done) struct sock_diag_vec dying = { 0 };
        _cleanup_free_ struct sock_tuple *tuples = NULL;
        _cleanup_free_ bool *blocked = NULL;
        size_t n = 0;
        int rc;

        rc = sock_diag_dying(&dying, err);
        if (rc < 0 || dying.n == 0)
                return rc;
        tuples = calloc(s->n + 1, sizeof(*tuples));
        ckpt_assert(tuples);
        for (size_t i = 0; i < s->n; i++)
                if (s->v[i].stream && !s->v[i].deaf)
                        tuples[n++] = s->v[i].tuple;
        qsort(tuples, n, sizeof(*tuples), compare_raw);
        blocked = ports_of_listeners(s);
        for (size_t i = 0; i < dying.n; i++) {
                const struct sock_diag *one = &dying.v[i];
                struct sock_tuple t = diag_tuple(one);

                /* If that fails, so will bind(2) or connect(2), and say why. */
                if (((one->state == TCP_TIME_WAIT && blocked[one->src_port]) ||
                     bsearch(&t, tuples, n, sizeof(t), compare_raw)) &&
                    sock_diag_destroy(one) < 0)
                        log_debug("a closing connection stays in the kernel");
        }
        return 0;
}

/* Of connections only the address is tried, and many have the same. */
static bool same_trial(const Img__InetSk *a, const Img__InetSk *b) {
        return inet_is_connection(a) && inet_is_connection(b) && a->family == b->family &&
               a->n_src_addr == b->n_src_addr && memcmp(a->src_addr, b->src_addr, a->n_src_addr * 4) == 0;
}

int inet_load(struct restore *r, struct ckpt_error *err) {
        struct restore_files *files = r->files;
        struct inet_state *s;
        size_t n = 0;
        int rc = 0;

        for (size_t i = 0; i < files->n; i++)
                n += files->v[i].kind == &fd_kind_inet;
        if (n == 0)
                return 0;
        s = files->state[FD_STATE_INET] = calloc(1, sizeof(*s));
        ckpt_assert(s);
        s->unlock = -EBADF;
        s->v = calloc(n, sizeof(*s->v));
        s->claimed = calloc(UINT16_MAX + 1, sizeof(*s->claimed));
        ckpt_assert(s->v && s->claimed);
        s->defaults = sock_defaults_new();
        s->sender = packet_sender_new();
        for (size_t i = 0; rc == 0 && i < files->n; i++) {
                struct inet_file *f = &s->v[s->n];

                if (files->v[i].kind != &fd_kind_inet)
                        continue;
                s->n++;
                f->file = &files->v[i];
                f->isk = files->v[i].msg->isk;
                f->fd = -EBADF;
                if (inet_is_connection(f->isk)) {
                        s->connections = true;
                        rc = load_connection(r, f, err);
                } else if (f->isk->type == SOCK_STREAM)
                        s->claimed[f->isk->src_port]++;
        }
        if (rc < 0)
                return rc;
        find_outside(s);
        rc = reuseport_load(s, err);
        if (rc == 0)
                rc = lock_network(r, s, err);
        if (rc == 0)
                rc = forget_dying(s, err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                if (!s->v[i].closed && (i == 0 || !same_trial(s->v[i - 1].isk, s->v[i].isk)))
                        inet_check_address(s->v[i].isk, files->blockers);
        return rc < 0 ? rc : blockers_to_error(files->blockers, "nothing was created", err);
}

/* ---- open ---- */

static int bind_repaired(struct inet_file *f, const char *what, struct ckpt_error *err) {
        union sock_address a;
        socklen_t len;
        int rc;

        rc = tcp_repair(f->fd, TCP_REPAIR_ON);
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot repair %s", what);
        f->repaired = true;
        inet_address(f->isk, false, &a, &len);
        if (bind(f->fd, &a.any, len) < 0)
                return ckpt_error_errno(err, -errno, "cannot bind %s again", what);
        return 0;
}

/*
 * A connection that its peer has closed: to a port of its own address, where nobody ever hears of it. There may be
 * many such with one local port.
 */
static int connect_deaf(struct inet_state *s, struct inet_file *f, const char *what,
                        struct ckpt_error *err) {
        Img__TcpStream empty = IMG__TCP_STREAM__INIT;
        Img__InetSk isk = *f->isk;
        union sock_address a;
        socklen_t len;
        int rc = -EADDRNOTAVAIL;

        isk.dst_addr = isk.src_addr;
        isk.n_dst_addr = isk.n_src_addr;
        empty.mss_clamp = 536;
        empty.inq_len = f->stream ? f->stream->inq_len : 0;
        for (int i = 0; i < PORT_TRIES && rc == -EADDRNOTAVAIL; i++) {
                _cleanup_error_ struct ckpt_error why = CKPT_ERROR_INIT;

                isk.dst_port = PORT_FIRST + s->next_port++ % (0xffff - PORT_FIRST);
                inet_address(&isk, true, &a, &len);
                rc = tcp_rebuild_connect(f->fd, &empty, TCP_ESTABLISHED, &a.any, len, what, &why);
                if (rc < 0 && rc != -EADDRNOTAVAIL)
                        return ckpt_error(err, rc, "%s", ckpt_error_message(&why));
        }
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot connect %s again", what);
        len = sizeof(a);
        if (getsockname(f->fd, &a.any, &len) < 0)
                return ckpt_error_errno(err, -errno, "cannot read the address of %s", what);
        /* Sockets that are bound to any address have got one now. */
        isk.src_addr =
                a.any.sa_family == AF_INET6 ? (uint32_t *)&a.in6.sin6_addr : (uint32_t *)&a.in.sin_addr;
        isk.src_port = ntohs(a.any.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
        inet_tuple(&isk, &f->tuple);
        if (f->tuple.dst[0] == 0 && f->tuple.dst[3] == 0)
                memcpy(f->tuple.dst, f->tuple.src, sizeof(f->tuple.dst));
        return 0;
}

/* The SYN goes out when the network is unlocked, with the number that it had. */
static int prepare_connecting(struct inet_file *f, const char *what, struct ckpt_error *err) {
        uint32_t iss = f->stream->outq_seq - 1;
        int rc, queue = TCP_SEND_QUEUE;

        rc = setsockopt(f->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) < 0 ||
                             setsockopt(f->fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &iss, sizeof(iss)) < 0
                     ? -errno
                     : tcp_repair(f->fd, TCP_REPAIR_OFF_NO_WP);
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot repair %s", what);
        f->repaired = false;
        return 0;
}

int inet_conn_open(struct restore *r, struct inet_file *f, const char *what, struct ckpt_error *err) {
        union sock_address peer;
        socklen_t len;
        int rc;

        rc = bind_repaired(f, what, err);
        if (rc < 0)
                return rc;
        if (pending_error_connecting(f->isk))
                return pending_error_connect(f, what, err);
        if (f->deaf)
                return connect_deaf(inet_state(r), f, what, err);
        if (f->isk->state == TCP_SYN_SENT)
                return prepare_connecting(f, what, err);
        inet_address(f->isk, true, &peer, &len);
        return tcp_rebuild_connect(f->fd, f->stream, f->isk->state, &peer.any, len, what, err);
}

/* ---- when all are there ---- */

static bool has_queues(const struct inet_file *f) {
        return f->fd >= 0 && f->stream && !f->closed && !f->deaf && f->isk->state != TCP_SYN_SENT;
}

/* Urgent data that comes a second time would send its SIGURG a second time. */
static int fill_received(struct restore *r, struct inet_file *f, const Img__TcpStream *msg,
                         unsigned int state, const char *what, struct ckpt_error *err) {
        bool owned = msg->has_urgent_at && f->isk->fown->pid != 0;
        struct restore_file file = *f->file;
        int rc;

        file.fd = f->fd;
        if (owned && fcntl(f->fd, F_SETOWN, 0) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot change who owns it", what);
        rc = tcp_rebuild_received(f->fd, msg, state, f->in, &f->tuple, inet_state(r)->sender, what, err);
        return rc < 0 || !owned ? rc : fown_restore(r->files, &file, err);
}

static enum tcp_end end_of(const Img__InetSk *isk) {
        return !isk->reset ? TCP_END_QUIET : isk->error == EPIPE ? TCP_END_FIN_RESET : TCP_END_RESET;
}

static int fill_deaf(struct restore *r, struct inet_file *f, const char *what, struct ckpt_error *err) {
        Img__TcpStream msg = IMG__TCP_STREAM__INIT;
        struct inet_state *s = inet_state(r);
        int rc;

        if (f->stream) {
                msg.inq_len = f->stream->inq_len;
                msg.has_urgent_at = f->stream->has_urgent_at;
                msg.urgent_at = f->stream->urgent_at;
                msg.has_urgent_read = f->stream->has_urgent_read;
                msg.urgent_read = f->stream->urgent_read;
        }
        rc = fill_received(r, f, &msg, TCP_ESTABLISHED, what, err);
        if (rc == 0)
                rc = tcp_rebuild_closed(f->fd, &f->tuple, 0, end_of(f->isk), s->sender, what, err);
        f->repaired = rc < 0;
        return rc < 0 ? rc : tcp_repair(f->fd, TCP_REPAIR_OFF_NO_WP);
}

static int fill_received_job(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        if (has_queues(f))
                return fill_received(r, f, f->stream, f->isk->state, inet_file_name(f), err);
        return f->deaf && f->fd >= 0 && !pending_error_connecting(f->isk)
                       ? fill_deaf(r, f, inet_file_name(f), err)
                       : 0;
}

static int fill_sent_job(struct restore *r __attribute__((unused)), struct inet_file *f,
                         struct ckpt_error *err) {
        if (!has_queues(f))
                return 0;
        return tcp_rebuild_sent(f->fd, f->stream, f->isk->state, f->out, inet_file_name(f), err);
}

static int close_job(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        if (!has_queues(f) || f->isk->state == TCP_ESTABLISHED)
                return 0;
        return tcp_rebuild_closing(f->fd, f->stream, f->isk->state, &f->tuple, inet_state(r)->sender,
                                   inet_file_name(f), err);
}

/* The packets of a peer are made by one sender, which belongs to one thread. */
static bool takes_packets(const struct inet_file *f) {
        return f->deaf || (f->stream && f->stream->has_urgent_at);
}

static bool is_closing(const struct inet_file *f) {
        return f->isk->state != TCP_ESTABLISHED;
}

static bool none_alone(const struct inet_file *f __attribute__((unused))) {
        return false;
}

int sock_restore(struct restore *r, struct ckpt_error *err) {
        int rc;

        rc = inet_each(r, fill_received_job, takes_packets, err);
        if (rc == 0)
                rc = inet_each(r, fill_sent_job, none_alone, err);
        if (rc == 0)
                rc = inet_each(r, close_job, is_closing, err);
        return rc < 0 ? rc : fault_point_error(FAULT_RESTORE_SOCKETS, err);
}

/* connect(2) only starts it; the program waits for it, or asks later. */
static int go_on_connecting(struct inet_file *f, const char *what, struct ckpt_error *err) {
        union sock_address peer;
        socklen_t len;
        int rc = 0, flags = fcntl(f->fd, F_GETFL);

        inet_address(f->isk, true, &peer, &len);
        if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_NONBLOCK) < 0)
                rc = -errno;
        /* What becomes of it is for the program to learn. */
        if (rc == 0 && connect(f->fd, &peer.any, len) < 0 && errno != EINPROGRESS)
                log_info("%s: %s", what, strerror(errno));
        if (rc == 0 && fcntl(f->fd, F_SETFL, flags) < 0)
                rc = -errno;
        return rc < 0 ? ckpt_error_errno(err, rc, "cannot go on connecting %s", what) : 0;
}

static int wake(struct inet_state *s, struct inet_file *f, const char *what, struct ckpt_error *err) {
        int rc = 0;

        if (!f->closed && f->isk->state == TCP_SYN_SENT)
                return go_on_connecting(f, what, err);
        if (!has_queues(f))
                return 0;
        if (f->outside)
                rc = tcp_speak_first(f->stream, f->isk->state, &f->tuple, s->sender, err);
        f->repaired = false;
        if (rc == 0)
                rc = tcp_rebuild_finish(f->fd, f->stream, f->isk->state, f->out, what, err);
        if (rc == 0 && f->outside && !tcp_fin_received(f->isk->state))
                packet_hint_retry(&f->tuple, f->stream->inq_seq);
        return rc;
}

static int restore_shutdown(const struct inet_file *f, const char *what, struct ckpt_error *err) {
        const Img__InetSk *isk = f->isk;
        int how = !isk->has_shutdown                         ? -1
                  : isk->shutdown == IMG__SK_SHUTDOWN__READ  ? SHUT_RD
                  : isk->shutdown == IMG__SK_SHUTDOWN__WRITE ? SHUT_WR
                  : isk->shutdown == IMG__SK_SHUTDOWN__BOTH  ? SHUT_RDWR
                                                             : -1;

        if (how < 0 || f->closed || f->deaf)
                return 0;
        /* It says so where there is no peer, and does it. A closed half of TCP is in its state. */
        if (isk->type == SOCK_STREAM && how != SHUT_RD)
                return 0;
        if (shutdown(f->fd, how) < 0 && errno != ENOTCONN)
                return ckpt_error_errno(err, -errno, "cannot shut %s down again", what);
        return 0;
}

static int restore_options(struct inet_state *s, const struct inet_file *f, enum sock_when when,
                           const char *what, struct ckpt_error *err) {
        const Img__InetSk *isk = f->isk;
        struct sock_kind kind = { (int)isk->family, (int)isk->type, (int)isk->proto };
        struct sock_opts opts = { isk->opts, isk->ip_opts, isk->tcp_opts };

        return sock_opts_restore(f->fd, &kind, &opts, when, 0, s->defaults, what, err);
}

static int set_filter_job(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        return f->fd < 0 ? 0 : restore_options(inet_state(r), f, SOCK_WHEN_FILTER, inet_file_name(f), err);
}

static int resume_job(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        const char *what = inet_file_name(f);
        int rc;

        if (f->fd < 0)
                return 0;
        rc = wake(inet_state(r), f, what, err);
        if (rc == 0)
                rc = restore_shutdown(f, what, err);
        if (rc == 0)
                rc = reuseport_restore(f, what, err);
        if (rc == 0)
                rc = restore_options(inet_state(r), f, SOCK_WHEN_LAST, what, err);
        if (rc == 0)
                pending_error_tell(f, what);
        f->fd = safe_close(f->fd);
        return rc;
}

static bool is_outside(const struct inet_file *f) {
        return f->outside;
}

int sock_resume(struct restore *r, struct ckpt_error *err) {
        struct inet_state *s = inet_state(r);
        int rc = 0;

        unix_settled(r);
        if (s)
                rc = inet_each(r, set_filter_job, none_alone, err);
        if (s && rc == 0)
                rc = unlock_network(r, s, err);
        if (s && rc == 0)
                rc = inet_each(r, resume_job, is_outside, err);
        return rc;
}
