/* SPDX-License-Identifier: GPL-2.0-only */
/* TCP connections of the tree that is dumped: the network lock, their streams, and their silent end. */
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli/action.h"
#include "image/image.h"
#include "lib/fault.h"
#include "lib/pool.h"
#include "log.h"
#include "macro.h"
#include "sock/inet.h"
#include "sock/unix.h"

static uint64_t own_netns(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static struct dump_socks *new_socks(const struct dump *d) {
        struct dump_socks *s = calloc(1, sizeof(*s));

        ckpt_assert(s);
        s->guard = SOCK_GUARD_INIT;
        s->defaults = sock_defaults_new();
        s->copy.fd = -EBADF;
        s->mptcp.bpf = d->bpf;
        s->netns = own_netns();
        pthread_mutex_init(&s->copy_lock, NULL);
        return s;
}

struct dump_socks *dump_socks(struct dump *d) {
        struct dump_files *files = dump_files(d);

        if (__atomic_load_n(&d->socks, __ATOMIC_ACQUIRE))
                return d->socks;
        pthread_mutex_lock(&files->lock);
        if (!d->socks)
                __atomic_store_n(&d->socks, new_socks(d), __ATOMIC_RELEASE);
        pthread_mutex_unlock(&files->lock);
        return d->socks;
}

void sock_dump_free(struct dump *d) {
        struct dump_socks *s = d->socks;
        bool holds;

        if (!s)
                return;
        holds = s->killed && s->unix_ && s->unix_->holds;
        sock_guard_disarm(&s->guard);
        netlock_hold_free(&s->hold);
        for (size_t i = 0; i < s->conns.n; i++)
                safe_close(s->conns.v[i]->fd);
        for (size_t i = 0; i < s->unread.n; i++)
                safe_close(s->unread.v[i]->fd);
        inet_conn_vec_done(&s->conns);
        inet_conn_vec_done(&s->unread);
        reuseport_dump_free(s);
        safe_close(s->copy.fd);
        pthread_mutex_destroy(&s->copy_lock);
        sock_diag_done(&s->diag);
        sock_diag_done(&s->tcp);
        netlink_table_free(&s->netlink);
        packet_table_free(&s->packets);
        packet_rings_free(&s->rings);
        unix_dump_free(&s->unix_);
        sock_defaults_free(&s->defaults);
        arena_done(&s->arena);
        free(s);
        d->socks = NULL;
        if (holds)
                sock_await_end(d);
}

/* ---- who is connected with whom ---- */

static int compare_conns(const void *a, const void *b) {
        const struct inet_conn *x = *(struct inet_conn *const *)a, *y = *(struct inet_conn *const *)b;

        /* Tuples are zeroed before they are filled: padding compares equal. */
        return memcmp(
                &x->tuple, &y->tuple,
                sizeof(x->tuple)); // NOLINT(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c)
}

static void find_pairs(struct dump_socks *s) {
        if (s->conns.n == 0)
                return;
        qsort(s->conns.v, s->conns.n, sizeof(*s->conns.v), compare_conns);
        for (size_t i = 0; i < s->conns.n; i++) {
                struct inet_conn *c = s->conns.v[i], key = *c, *key_at = &key, **found;

                if (!tcp_is_connection(c->isk->state))
                        continue;
                memcpy(key.tuple.src, c->tuple.dst, sizeof(key.tuple.src));
                memcpy(key.tuple.dst, c->tuple.src, sizeof(key.tuple.dst));
                key.tuple.src_port = c->tuple.dst_port;
                key.tuple.dst_port = c->tuple.src_port;
                found = bsearch(&key_at, s->conns.v, s->conns.n, sizeof(*s->conns.v), compare_conns);
                if (found && *found != c && tcp_is_connection((*found)->isk->state))
                        c->peer = *found;
        }
}

/* ---- not accepted yet ---- */

static bool is_for(const Img__InetSk *listener, const struct sock_diag *request) {
        static const uint32_t any[4];
        size_t n = listener->n_src_addr * sizeof(*any);

        return request->state == TCP_SYN_RECV && request->src_port == listener->src_port &&
               (request->family != listener->family || memcmp(listener->src_addr, any, n) == 0 ||
                memcmp(listener->src_addr, request->src, n) == 0);
}

/*
 * With TCP_DEFER_ACCEPT clients are connected, and nothing of it is in the backlog, until they have sent something.
 * Without, it is the moment of a handshake.
 */
static unsigned int count_deferred(struct dump_socks *s, int fd, const Img__InetSk *isk) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        const struct sock_diag_table *table = s->tcp.asked ? &s->tcp : &s->diag;
        unsigned int n = 0;
        int seconds = 0;
        socklen_t len = sizeof(seconds);

        if (getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) < 0 || seconds == 0)
                return 0;
        if (table == &s->diag && sock_diag_query(&s->diag, AF_INET, IPPROTO_TCP, &err) < 0)
                log_warn("%s", ckpt_error_message(&err));
        for (size_t i = 0; i < table->all.n; i++)
                n += is_for(isk, &table->all.v[i]);
        return n;
}

unsigned int inet_in_flight(struct dump_socks *s, int fd, const Img__InetSk *isk) {
        struct tcp_info info = { 0 };
        socklen_t len = sizeof(info);

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
                return 0;
        return info.tcpi_unacked + count_deferred(s, fd, isk);
}

static int check_in_flight(struct dump *d, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        struct blockers *b = blockers_new();
        int r;

        for (size_t i = 0; i < s->conns.n; i++) {
                struct inet_conn *c = s->conns.v[i];
                unsigned int n = c->isk->state == TCP_LISTEN ? inet_in_flight(s, c->fd, c->isk) : 0;

                if (n > 0 && d->opts->skip_in_flight)
                        log_warn("%s: %u connections that nobody has accepted yet are left out", c->name, n);
                else if (n > 0)
                        blocker_add(b, INET_IN_FLIGHT_HINT,
                                    "%s: connections that nobody has accepted yet wait in it: %u", c->name,
                                    n);
        }
        r = blockers_to_error(b, "the tree runs on as before", err);
        blockers_free(&b);
        return r;
}

/* ---- lock ---- */

static int collect_outside(struct dump_socks *s, struct sock_tuple_vec *ret) {
        for (size_t i = 0; i < s->conns.n; i++) {
                struct inet_conn *c = s->conns.v[i];

                if (tcp_is_connection(c->isk->state) && !c->peer && sock_tuple_vec_push(ret, c->tuple) < 0)
                        return -ENOMEM;
        }
        return 0;
}

enum { NOTE_MAX = 128 };

static const char *lock_note(const struct dump *d, char note[static NOTE_MAX]) {
        snprintf(note, NOTE_MAX, "dump of pid %d into %s", d->opts->tree_pid, d->run->images_dir);
        return note;
}

static int arm_guard(struct dump *d, struct ckpt_error *err) {
        struct sock_guard *guard = &d->socks->guard;

        return guard->pid > 0 ? 0
                              : sock_guard_arm(d->opts->tree_pid, &d->guard, compel_tracer_hold(d->tracer),
                                               guard, err);
}

bool sock_will_read(const struct dump *d) {
        return d->socks && d->socks->connections && !d->opts->tcp_close;
}

int sock_prepare(struct dump *d, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        int r;

        if (!sock_will_read(d))
                return 0;
        r = arm_guard(d, err);
        if (r == 0)
                r = sock_diag_query(&s->tcp, AF_INET, IPPROTO_TCP, err);
        if (r == 0 || r == -EOPNOTSUPP)
                r = sock_diag_query(&s->tcp, AF_INET6, IPPROTO_TCP, err);
        return r == -EOPNOTSUPP ? 0 : r;
}

static int lock_network(struct dump *d, struct ckpt_error *err) {
        _cleanup_(sock_tuple_vec_done) struct sock_tuple_vec outside = { 0 };
        struct dump_socks *s = d->socks;
        char held[NETLOCK_NAME_MAX], lock[NETLOCK_NAME_MAX], note[NOTE_MAX];
        const char *locks[GUARD_LOCKS] = { held, lock };
        bool wanted;
        int r;

        if (collect_outside(s, &outside) < 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
        wanted = outside.n > 0 && d->opts->network_lock != NETWORK_LOCK_SKIP;
        netlock_new_name(held);
        netlock_new_name(lock);
        /* Armed first: nothing that it would have to undo may be there without it. */
        r = arm_guard(d, err);
        if (r == 0 && wanted)
                r = sock_guard_locks(&s->guard, locks, err);
        if (r == 0)
                r = action_run(d->run, ACTION_NETWORK_LOCK, d->opts->tree_pid, err);
        s->told = r == 0;
        if (r < 0 || !wanted)
                return r;
        r = netlock_hold(held, outside.v, outside.n, lock_note(d, note), &d->low_fd, &s->hold, err);
        if (r == 0)
                r = netlock_hold_in(s->hold, err);
        if (r < 0)
                return r;
        memcpy(s->lock, lock, sizeof(s->lock));
        for (size_t i = 0; i < s->conns.n; i++)
                if (tcp_is_connection(s->conns.v[i]->isk->state) && !s->conns.v[i]->peer)
                        s->conns.v[i]->isk->lock = s->lock;
        return fault_point_error(FAULT_DUMP_NETWORK_LOCKED, err);
}

/* ---- streams ---- */

static void complete_stream(const struct inet_conn *c, struct tcp_queues *q) {
        const Img__TcpOpts *opts = c->isk->tcp_opts;

        c->isk->state = q->state;
        /* Closed since it was looked at. */
        if (q->state == TCP_CLOSE) {
                c->isk->has_shutdown = true;
                c->isk->shutdown = IMG__SK_SHUTDOWN__BOTH;
        }
        /* Where older readers look for them. */
        q->msg.has_cork = q->msg.has_nodelay = opts != NULL;
        q->msg.cork = opts && opts->cork;
        q->msg.nodelay = opts && opts->nodelay;
}

static int save_stream(struct dump *d, const struct inet_conn *c, const struct tcp_queues *q,
                       struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r == 0)
                r = image_open_write(d->set, IMAGE_TCP_STREAM, c->isk->ino, &image, err);
        if (r == 0)
                r = image_write(image, &q->msg.base, err);
        if (r == 0 && q->msg.inq_len > 0)
                r = image_write_raw(image, q->in, q->msg.inq_len, err);
        if (r == 0 && q->msg.outq_len > 0)
                r = image_write_raw(image, q->out, q->msg.outq_len, err);
        return r < 0 ? r : image_close(TAKE_PTR(image), err);
}

/* Nothing tells it of those without changing something, and what is left of the room is for all of them. */
enum { MPTCP_ROOM = GUARD_ROOM / 16 };

/* What reading it may take of the guard's room: of two ends, what one has sent may have reached the other by then. */
static size_t room_of(const struct inet_conn *c) {
        int sent = 0, received = 0;
        size_t room = 2 * (size_t)TCP_SEGMENT_MAX;

        if (c->mptcp)
                return MPTCP_ROOM;
        if (ioctl(c->fd, SIOCOUTQ, &sent) == 0 && sent > 0)
                room += 2 * (size_t)sent;
        if (ioctl(c->fd, SIOCINQ, &received) == 0 && received > 0)
                room += 2 * (size_t)received;
        return room;
}

/* As much, where all is known. */
static size_t told_room(const struct inet_conn *c) {
        size_t bytes = (size_t)c->told.rqueue + c->told.wqueue;

        return bytes > 0 ? 2 * (size_t)TCP_SEGMENT_MAX + 2 * bytes : 0;
}

enum { PARTS = 4 };

struct batch {
        struct dump *dump;
        bool quiet;                              /* see tcp_read_quiet() */
        struct inet_conn *conns[GUARD_JOBS_MAX]; /* both ends of a connection next to each other */
        struct guard_job *jobs;                  /* as many */
        size_t n, room;
        struct part { /* for each thread to write */
                const struct batch *batch;
                size_t from, to;
        } parts[PARTS];
};

static bool may_be_quiet(const struct inet_conn *c) {
        return c->told.known && c->isk->state == TCP_ESTABLISHED;
}

static bool is_for_batch(const struct batch *b, const struct inet_conn *c) {
        return c->isk->state != TCP_LISTEN && !c->saved &&
               (!b->quiet || (may_be_quiet(c) && (!c->peer || may_be_quiet(c->peer))));
}

static bool add_to_batch(struct batch *b, struct inet_conn *c) {
        size_t (*room_for)(const struct inet_conn *c) = b->quiet ? told_room : room_of;
        size_t ends = c->peer ? 2 : 1, room = room_for(c) + (c->peer ? room_for(c->peer) : 0);

        if (b->n + ends > GUARD_JOBS_MAX || (b->n > 0 && b->room + room > GUARD_ROOM))
                return false;
        b->room += room;
        b->conns[b->n++] = c;
        c->saved = true;
        if (c->peer) {
                b->conns[b->n++] = c->peer;
                c->peer->saved = true;
        }
        return true;
}

static int await_batch(struct dump_socks *s, const struct batch *b, struct ckpt_error *err) {
        int r;

        r = sock_guard_await(&s->guard, err);
        for (size_t i = 0; r == 0 && i < b->n; i++)
                if (b->jobs[i].result < 0)
                        r = ckpt_error_errno(err, b->jobs[i].result, "%s: cannot be read",
                                             b->conns[i]->name);
        return r;
}

/* In the pool. */
static int write_part(void *arg, struct ckpt_error *err) {
        const struct part *p = arg;
        const struct batch *b = p->batch;
        int r = 0;

        for (size_t i = p->from; r == 0 && i < p->to; i++)
                if (b->conns[i]->saved)
                        r = save_stream(b->dump, b->conns[i], &b->jobs[i].q, err);
        return r;
}

static int write_batch(struct batch *b, struct ckpt_error *err) {
        size_t step = (b->n + PARTS - 1) / PARTS;
        int r = 0;

        for (size_t i = 0; r == 0 && i < PARTS && i * step < b->n; i++) {
                struct part *p = &b->parts[i];

                p->batch = b;
                p->from = i * step;
                p->to = MIN(p->from + step, b->n);
                r = pool_add(b->dump->pool, write_part, p);
        }
        return r < 0 ? ckpt_error_errno(err, r, "cannot go on with the connections") : 0;
}

/* The next connections, from `*at` on. */
static void fill_batch(struct dump_socks *s, struct batch *b, size_t *at) {
        b->n = b->room = 0;
        for (; *at < s->conns.n; (*at)++)
                if (is_for_batch(b, s->conns.v[*at]) && !add_to_batch(b, s->conns.v[*at]))
                        break;
}

static const char mptcp_hint[] = "Try again, or turn multipath TCP off (sysctl net.mptcp.enabled=0)";

/* They cannot be put into repair mode, so it does not take the guard to read them. */
static int read_mptcp(struct dump *d, const struct batch *b,
                      int (*read)(const struct mptcp_reader *r, int fd, struct tcp_queues *q,
                                  struct tcp_room *room),
                      struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < b->n; i++) {
                const struct inet_conn *c = b->conns[i];

                if (!c->mptcp)
                        continue;
                b->jobs[i].result = r =
                        read(&d->socks->mptcp, c->fd, &b->jobs[i].q, sock_guard_room(&d->socks->guard));
                if (r < 0) {
                        ckpt_error_errno(err, r, "%s: the kernel's memory does not show all of it", c->name);
                        ckpt_error_hint(err, mptcp_hint);
                }
        }
        return r;
}

/* All sending halves first: tcp.h says why. The guard is at it; meanwhile `next` is filled. */
static int read_halves(struct dump *d, struct batch *b, struct batch *next, size_t *at,
                       struct ckpt_error *err) {
        struct sock_guard *guard = &d->socks->guard;
        int r = read_mptcp(d, b, mptcp_read_sent, err);

        if (r < 0)
                return r;
        sock_guard_order(guard, GUARD_SENT, b->n);
        r = await_batch(d->socks, b, err);
        if (r == 0)
                r = read_mptcp(d, b, mptcp_read_received, err);
        if (r < 0)
                return r;
        sock_guard_order(guard, GUARD_RECEIVED, b->n);
        fill_batch(d->socks, next, at);
        return await_batch(d->socks, b, err);
}

/* What was not quiet, and the other ends of that, are not saved. */
static int read_quiet(struct dump *d, struct batch *b, struct batch *next, size_t *at,
                      struct ckpt_error *err) {
        int r;

        sock_guard_order(&d->socks->guard, GUARD_QUIET, b->n);
        fill_batch(d->socks, next, at);
        r = sock_guard_await(&d->socks->guard, err);
        for (size_t i = 0; r == 0 && i < b->n; i++)
                if (b->jobs[i].result < 0) {
                        b->conns[i]->saved = b->conns[i]->told.known = false;
                        if (b->conns[i]->peer)
                                b->conns[i]->peer->saved = false;
                }
        return r;
}

static int read_streams(struct dump *d, struct batch *b, bool all_room, struct batch *next, size_t *at,
                        struct ckpt_error *err) {
        struct guard_job *jobs = sock_guard_begin(&d->socks->guard, all_room);
        int r;

        b->jobs = jobs;
        for (size_t i = 0; i < b->n; i++) {
                const Img__SkOpts *opts = b->conns[i]->isk->opts;

                jobs[i] = (struct guard_job){
                        .fd = b->conns[i]->mptcp ? -EBADF : b->conns[i]->fd,
                        .kept = { opts->reuseaddr, sock_opts_number(opts, SOL_SOCKET, SO_PEEK_OFF, -1) },
                        .told = b->conns[i]->told,
                };
        }
        r = b->quiet ? read_quiet(d, b, next, at, err) : read_halves(d, b, next, at, err);
        for (size_t i = 0; r == 0 && i + 1 < b->n; i++)
                if (b->conns[i]->peer == b->conns[i + 1]) {
                        tcp_match_peer(&jobs[i].q, &jobs[i + 1].q);
                        tcp_match_peer(&jobs[i + 1].q, &jobs[i].q);
                }
        for (size_t i = 0; r == 0 && i < b->n; i++)
                if (b->conns[i]->saved)
                        complete_stream(b->conns[i], &jobs[i].q);
        return r;
}

/* A batch is written while the guard reads the next, and the one after that is filled. */
static int dump_batch(struct dump *d, struct batch *b, struct batch *next, size_t *at,
                      struct ckpt_error *err) {
        bool large = b->room > GUARD_ROOM / 2;
        int r = 0, waited;

        if (large)
                r = pool_wait(d->pool, err);
        if (r == 0)
                r = read_streams(d, b, large, next, at, err);
        waited = pool_wait(d->pool, err);
        if (r == 0)
                r = waited;
        if (r == 0)
                r = write_batch(b, err);
        return r == 0 && large ? pool_wait(d->pool, err) : r;
}

static int dump_streams(struct dump *d, struct batch *b, bool quiet, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        size_t at = 0;
        int r = 0, waited;

        for (int i = 0; i < 3; i++)
                b[i] = (struct batch){ .dump = d, .quiet = quiet };
        fill_batch(s, &b[0], &at);
        for (int i = 0; r == 0 && b[i % 3].n > 0; i++)
                r = dump_batch(d, &b[i % 3], &b[(i + 1) % 3], &at, err);
        waited = pool_wait(d->pool, err);
        return r < 0 ? r : waited;
}

/* Most are quiet while their tasks stand still. */
static int dump_all_streams(struct dump *d, struct ckpt_error *err) {
        struct batch *b = arena_new_array(&d->socks->arena, struct batch, 3);
        const struct inet_conn_vec *conns = &d->socks->conns;
        size_t quiet = 0;
        int r;

        r = fault_point(FAULT_DUMP_SOCKET_QUIET) < 0 ? 0 : dump_streams(d, b, true, err);
        for (size_t i = 0; i < conns->n; i++)
                quiet += conns->v[i]->saved;
        log_debug("%zu connections were quiet", quiet);
        return r < 0 ? r : dump_streams(d, b, false, err);
}

/* ---- datagrams ---- */

static int dump_datagrams(struct dump *d, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        int r = 0;

        if (s->unread.n > 0)
                r = arm_guard(d, err);
        for (size_t i = 0; r == 0 && i < s->unread.n; i++) {
                struct guard_job *job = sock_guard_begin(&s->guard, true);
                struct inet_conn *c = s->unread.v[i];

                *job = (struct guard_job){ .fd = c->fd };
                sock_guard_order(&s->guard, GUARD_DATAGRAMS, 1);
                r = sock_guard_await(&s->guard, err);
                if (r == 0 && job->result < 0)
                        r = ckpt_error_errno(err, job->result, "%s: its datagrams cannot be read", c->name);
                if (r == 0)
                        datagrams_dump(&job->datagrams, &s->arena, c->isk, c->name);
        }
        return r;
}

static int dump_connections(struct dump *d, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        size_t n = 0;
        int r;

        r = check_in_flight(d, err);
        for (size_t i = 0; i < s->conns.n; i++)
                n += s->conns.v[i]->isk->state != TCP_LISTEN;
        if (r < 0 || n == 0 || d->opts->tcp_close)
                return r;
        find_pairs(s);
        r = lock_network(d, err);
        return r < 0 ? r : dump_all_streams(d, err);
}

int sock_collect(struct dump *d, struct ckpt_error *err) {
        int r = d->socks ? reuseport_check_groups(d, err) : 0;

        if (r == 0 && d->socks && d->socks->conns.n > 0)
                r = dump_connections(d, err);
        return r == 0 && d->socks ? dump_datagrams(d, err) : r;
}

/* ---- the end ---- */

/* From now on the lock has to outlive us. */
int sock_before_kill(struct dump *d, struct ckpt_error *err) {
        _cleanup_(sock_tuple_vec_done) struct sock_tuple_vec outside = { 0 };
        struct dump_socks *s = d->socks;
        char note[NOTE_MAX];
        int r = 0;

        if (!s)
                return 0;
        if (s->hold) {
                if (collect_outside(s, &outside) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "cannot lock the network");
                r = netlock_hold_leave(s->hold, s->lock, outside.v, outside.n, lock_note(d, note), err);
        }
        s->left = r == 0 && s->hold;
        if (r == 0)
                sock_guard_killing(&s->guard);
        return r;
}

static void silence_part(void *ctx, size_t from, size_t to) {
        const struct dump_socks *s = ctx;

        for (size_t i = from; i < to; i++) {
                struct inet_conn *c = s->conns.v[i];

                if (tcp_is_connection(c->isk->state) && !c->mptcp)
                        c->result = tcp_repair(c->fd, TCP_REPAIR_ON);
        }
}

/*
 * A socket that is closed in repair mode sends nothing, and nothing of it stays in the kernel, so that the
 * same connection can be made again.
 */
int sock_silence(struct dump *d, struct ckpt_error *err) {
        struct dump_socks *s = d->socks;
        int r;

        if (s)
                s->killed = true;
        if (!s || d->opts->tcp_close || s->conns.n == 0)
                return 0;
        s->silenced = true;
        for (size_t i = 0; i < s->conns.n; i++)
                if (s->conns.v[i]->mptcp)
                        sock_guard_end(&s->guard, s->conns.v[i]->fd);
        r = pool_spread(d->pool, s->conns.n, silence_part, s);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot close the connections silently");
        for (size_t i = 0; i < s->conns.n; i++)
                if (s->conns.v[i]->result < 0)
                        return ckpt_error_errno(err, s->conns.v[i]->result, "%s: cannot be closed silently",
                                                s->conns.v[i]->name);
        return 0;
}

static void close_part(void *ctx, size_t from, size_t to) {
        const struct dump_socks *s = ctx;

        for (size_t i = from; i < to; i++) {
                struct inet_conn *c = s->conns.v[i];

                if (c->mptcp && tcp_is_connection(c->isk->state) && mptcp_end(c->fd) < 0)
                        log_debug("%s: it stays in the kernel for a while", c->name);
                c->fd = safe_close(c->fd);
        }
}

void sock_after_kill(struct dump *d) {
        struct dump_socks *s = d->socks;

        /* What it leaves open is closed at the end. */
        if (s && s->conns.n > 0)
                (void)pool_spread(d->pool, s->conns.n, close_part, s);
}

/* Repair mode has set and cleared it. */
static void end_repair(const struct inet_conn *c) {
        int reuse = c->isk->opts->reuseaddr;

        tcp_repair(c->fd, TCP_REPAIR_OFF_NO_WP);
        setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
}

static int remove_lock(const char *name, struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;

        return netlock_remove(&fd, name, err);
}

void sock_undo(struct dump *d) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct dump_socks *s = d->socks;

        if (!s)
                return;
        for (size_t i = 0; s->silenced && i < s->conns.n; i++)
                if (tcp_is_connection(s->conns.v[i]->isk->state) && !s->conns.v[i]->mptcp)
                        end_repair(s->conns.v[i]);
        s->silenced = s->killed = false;
        if (netlock_hold_end(s->hold, &err) < 0 || (s->left && remove_lock(s->lock, &err) < 0))
                log_error("%s", ckpt_error_message(&err));
        s->left = false;
        if (s->told && action_run(d->run, ACTION_NETWORK_UNLOCK, d->opts->tree_pid, &err) < 0)
                log_warn("%s", ckpt_error_message(&err));
        s->told = false;
        sock_guard_disarm(&s->guard);
}
