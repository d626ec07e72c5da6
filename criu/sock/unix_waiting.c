/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Clients that have sent something, or closed their end, before they were accepted. On restore those of the tree send it again; in the
 * place of those that are gone ckpt connects, sends what they had sent, and closes its end.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/image.h"
#include "log.h"
#include "macro.h"
#include "sock/inet.h"
#include "sock/unix.h"

/* ---- dump ---- */

bool unix_waiting_seen(struct dump *d) {
        return dump_peek_for(d, DUMP_PEEK_UNIX, unix_early_prove, &unix_dump(d)->early) != NULL;
}

static int look_once(struct dump *d, int fd) {
        _cleanup_(unix_holder_vec_done) struct unix_holder_vec holders = { 0 };
        _cleanup_(unix_early_vec_done) struct unix_early_vec clients = { 0 };
        const struct unix_memory *m = &unix_dump(d)->early;
        int r = unix_early_read(m, fd, &dump_files(d)->arena, &clients);
        bool known = true;

        if (r < 0)
                return r == -EOPNOTSUPP ? r : 0;
        for (size_t i = 0; i < clients.n && known; i++)
                known = unix_holders_have(&holders, clients.v[i].first);
        if (known) /* there are none */
                return 0;
        unix_holders_read(d, m->peek, &holders);
        for (size_t i = 0; i < clients.n; i++)
                if (!unix_holders_have(&holders, clients.v[i].first))
                        return -ENOENT;
        return 0;
}

/* The program runs, and what is read while it accepts one of them may be anything: so only what is the same twice counts. */
int unix_waiting_look(struct dump *d, const struct unix_dumped *s) {
        _cleanup_close_ int pidfd = -EBADF, fd = -EBADF;
        int r = 0;
        const struct fd_probe probe = {
                .task = s->task, .proc = dump_living(s->task), .fd = s->number, .pidfd = &pidfd
        };
        struct stat st;

        if (s->number >= 0)
                fd = fd_probe_get(&probe);
        if (fd < 0 || fstat(fd, &st) < 0 || (uint32_t)st.st_ino != s->ino)
                return 0;
        for (int i = 0; i < 2 && (i == 0 || r < 0); i++)
                r = look_once(d, fd);
        return r;
}

/* Those that have sent nothing and are there need nothing of this. */
static bool is_needed(const struct unix_table *t, const struct unix_diag *diag) {
        for (uint32_t i = 0; diag && i < diag->nr_waiting; i++) {
                const struct unix_diag *client = unix_diag_find(t, diag->waiting[i]);

                if (diag->waiting[i] == 0 || !client || client->wqueue > 0)
                        return true;
        }
        return false;
}

static bool is_same(const struct unix_early_vec *clients, const struct unix_diag *diag) {
        if (clients->n != diag->nr_waiting)
                return false;
        for (size_t i = 0; i < clients->n; i++)
                if (clients->v[i].ino != diag->waiting[i])
                        return false;
        return true;
}

static struct unix_dumped *find_dumped(struct unix_dump *u, uint32_t ino) {
        for (size_t i = 0; ino != 0 && i < u->all.n; i++)
                if (u->all.v[i].ino == ino)
                        return &u->all.v[i];
        return NULL;
}

/* What is known of them better than before. */
static void take_clients(struct dump *d, struct unix_dumped *s, const struct unix_early_vec *clients) {
        struct arena *arena = &dump_files(d)->arena;
        struct unix_dump *u = unix_dump(d);

        s->early = arena_copy(arena, clients->v, clients->n * sizeof(*clients->v));
        s->nr_early = clients->n;
        s->msg->gone = arena_new_array(arena, Img__UnixClient *, clients->n);
        for (size_t i = 0; i < clients->n; i++) {
                const struct unix_early *e = &clients->v[i];
                struct unix_dumped *client = find_dumped(u, e->ino);
                Img__UnixClient *gone;

                if (client)
                        client->msg->cred = e->cred;
                if (e->ino != 0)
                        continue;
                gone = arena_message(arena, Img__UnixClient, img__unix_client__init);
                gone->cred = e->cred;
                gone->has_name = e->name_len > 0;
                gone->name.data = (uint8_t *)e->name;
                gone->name.len = e->name_len;
                s->msg->gone[s->msg->n_gone++] = gone;
        }
}

static int find_files(struct dump *d, struct unix_early_vec *clients) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < clients->n; i++)
                r = unix_find_files(d, unix_dump(d)->early.peek, NULL, clients->v[i].first);
        return r;
}

void unix_waiting_read(struct dump *d) {
        struct unix_dump *u = unix_dump(d);

        for (size_t i = 0; i < u->all.n; i++) {
                _cleanup_(unix_early_vec_done) struct unix_early_vec clients = { 0 };
                struct unix_dumped *s = &u->all.v[i];
                const struct unix_diag *diag = unix_diag_find(&u->table, s->ino);
                _cleanup_close_ int fd = -EBADF;
                int r;

                if (s->msg->state != TCP_LISTEN || !is_needed(&u->table, diag) || !unix_waiting_seen(d))
                        continue;
                fd = dump_file_get(s->file);
                r = unix_early_read(&u->early, fd, &dump_files(d)->arena, &clients);
                if (r == 0)
                        r = find_files(d, &clients);
                s->lost_files = r == -ENOENT;
                if (r == 0 && !is_same(&clients, diag))
                        r = -ESTALE;
                for (size_t k = 0; r < 0 && k < clients.n; k++)
                        unix_rights_close(clients.v[k].first);
                if (r == 0)
                        take_clients(d, s, &clients);
                else
                        log_debug("%s: its clients cannot be read: %s", s->name, strerror(-r));
        }
}

int unix_waiting_write(struct dump *d, struct image_file **image, struct ckpt_error *err) {
        struct unix_dump *u = unix_dump(d);
        int r = 0;

        for (size_t i = 0; i < u->all.n; i++)
                for (size_t k = 0; k < u->all.v[i].nr_early; k++)
                        for (const struct unix_peeked *m = u->all.v[i].early[k].first; m; m = m->next) {
                                if (!*image)
                                        r = image_open_write(d->set, IMAGE_SK_QUEUES, 0, image, err);
                                if (r == 0)
                                        r = unix_write_packet(d, *image, &u->all.v[i], (uint32_t)k + 1, m,
                                                              err);
                                if (r < 0)
                                        return r;
                        }
        return 0;
}

/* ---- restore ---- */

const char *unix_waiting_check(const Img__UnixSk *m) {
        size_t zeros = 0;

        for (size_t i = 0; i < m->n_waiting; i++)
                zeros += m->waiting[i] == 0;
        if (zeros != m->n_gone)
                return "has clients of which nothing is known";
        for (size_t i = 0; i < m->n_gone; i++)
                if ((m->gone[i]->has_name && !unix_name_is_valid(&m->gone[i]->name)) ||
                    (m->gone[i]->cred && m->gone[i]->cred->pid < 0))
                        return "has an impossible client";
        return NULL;
}

int unix_waiting_load(struct unix_sock *u) {
        size_t gone = 0;

        if (u->m->n_waiting == 0)
                return 0;
        u->early = calloc(u->m->n_waiting, sizeof(*u->early));
        if (!u->early)
                return -ENOMEM;
        for (size_t i = 0; i < u->m->n_waiting; i++)
                u->early[i] = (struct unix_early_client){ .fd = -EBADF,
                                                          .gone = u->m->waiting[i] == 0 ? u->m->gone[gone++]
                                                                                        : NULL };
        return 0;
}

static int have_room(int fd, size_t bytes) {
        int room = (int)MIN(4 * bytes + 65536, (size_t)INT32_MAX / 2);

        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
                return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        return 0;
}

int unix_waiting_fill(struct restore *r, struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];
        int rc = 0;

        unix_describe(u->m->type, u->m->name.data, u->m->name.len, text);
        for (size_t i = 0; u->early && rc == 0 && i < u->m->n_waiting; i++) {
                struct unix_early_client *e = &u->early[i];
                int from = e->gone ? e->fd : unix_fd(unix_by_ino(s, u->m->waiting[i]));

                if (e->first)
                        (void)have_room(from, e->bytes);
                for (const struct unix_packet *p = e->first; rc == 0 && p; p = p->next)
                        rc = unix_send_packet(r, from, p, text, err);
        }
        return rc;
}

int unix_waiting_end(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; u->early && r == 0 && i < u->m->n_waiting; i++) {
                struct unix_early_client *e = &u->early[i];

                if (e->gone && e->gone->has_name)
                        r = unix_bind_stranger(s, e->fd, &e->gone->name, err);
                e->fd = safe_close(e->fd);
        }
        return r;
}

void unix_packets_free(struct unix_packet *first) {
        while (first) {
                struct unix_packet *p = first;

                first = p->next;
                image_message_freep(&p->msg);
                free(p->data);
                free(p);
        }
}

void unix_waiting_free(struct unix_sock *u) {
        for (size_t i = 0; u->early && i < u->m->n_waiting; i++) {
                safe_close(u->early[i].fd);
                unix_packets_free(u->early[i].first);
        }
        free(u->early);
        u->early = NULL;
}
