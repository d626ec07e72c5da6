/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets from the images: checked one by one, with each other, and against this machine. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/image.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/unix.h"

enum { PACKET_MAX = 256 << 20, RIGHTS_MAX = 253, GROUPS_MAX = 65536 };

struct unix_state *unix_state(const struct restore_files *files) {
        return files->state[FD_STATE_UNIX];
}

bool unix_name_is_valid(const ProtobufCBinaryData *name) {
        if (name->len > UNIX_NAME_MAX)
                return false;
        if (name->len == 0)
                return true;
        if (name->data[0] == 0)
                return name->len < UNIX_NAME_MAX;
        return name->len > 1 && memchr(name->data, 0, name->len) == name->data + name->len - 1;
}

static bool is_path(const ProtobufCBinaryData *name) {
        return name->len > 0 && name->data[0] != 0;
}

static const char *check_cred(const Img__UnixCred *cred) {
        return cred && (cred->pid < 0 || cred->n_groups > GROUPS_MAX) ? "names an impossible process" : NULL;
}

/* Has it a path that will be made when it is bound, and stay? */
static bool binds_path(const Img__UnixSk *m) {
        return is_path(&m->name) && !(m->has_deleted && m->deleted);
}

static const char *check_message(const Img__UnixSk *m) {
        struct sock_opts opts = { m->opts, NULL, NULL };
        const char *why;

        if (m->type != SOCK_STREAM && m->type != SOCK_DGRAM && m->type != SOCK_SEQPACKET)
                return "is of a type that there is not";
        if (m->state != TCP_ESTABLISHED && m->state != TCP_CLOSE && m->state != TCP_LISTEN)
                return "is in a state that cannot be restored";
        if (m->state == TCP_LISTEN && (m->type == SOCK_DGRAM || m->name.len == 0 || m->peer != 0))
                return "listens, which it cannot";
        if (m->state == TCP_CLOSE && m->type != SOCK_DGRAM && m->peer != 0)
                return "has a peer and is not connected";
        if (!unix_name_is_valid(&m->name) || (m->has_outside && !unix_name_is_valid(&m->outside)) ||
            (m->has_peer_name && !unix_name_is_valid(&m->peer_name)))
                return "has an impossible name";
        if (m->backlog > INT32_MAX)
                return "has an impossible backlog";
        if (m->n_waiting > 0 && m->state != TCP_LISTEN)
                return "has clients and does not listen";
        if (m->has_outside && (m->outside.len == 0 || m->peer != 0))
                return "has a peer outside without a name, or two peers";
        if (is_path(&m->name) && m->file_perms && !S_ISSOCK(m->file_perms->mode) &&
            m->file_perms->mode & ~07777U)
                return "has a path that was no socket";
        if ((m->name_dir && m->name_dir[0] != '/') || (m->name_root && m->name_root[0] != '/'))
                return "has a directory that is none";
        if (m->moved_to && (m->moved_to[0] != '/' || strlen(m->moved_to) >= PATH_MAX || !binds_path(m)))
                return "was moved to a path that is none";
        if (binds_path(m) && m->name.data[0] != '/' && !m->name_dir && !m->moved_to)
                return "has a relative path, and not the directory that it starts from";
        why = unix_waiting_check(m);
        if (!why)
                why = check_cred(m->peer_cred);
        if (!why)
                why = check_cred(m->cred);
        if (why)
                return why;
        return sock_opts_check(&opts, &why) < 0 ? why : NULL;
}

/*
 * Not by a connection: who listens would see a client come and go. An abstract name is there if it cannot be had; a
 * path if a socket of another type is refused for its type.
 */
static bool is_there(const Img__UnixSk *m) {
        bool abstract = m->outside.data[0] == 0;
        _cleanup_close_ int fd = socket(AF_UNIX, (abstract ? (int)m->type : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
        union unix_address a;
        socklen_t len = unix_address(m->outside.data, m->outside.len, &a);

        if (fd < 0)
                return true;
        if (abstract)
                return bind(fd, &a.any, len) < 0 && errno == EADDRINUSE;
        return connect(fd, &a.any, len) == 0 || (errno != ECONNREFUSED && errno != ENOENT);
}

static void check_outside(struct restore *r, const Img__UnixSk *m) {
        char text[UNIX_TEXT_MAX];

        if (!m->has_outside)
                return;
        unix_describe(m->type, m->outside.data, m->outside.len, text);
        if (unix_may_be_outside(r->opts, m->ino, 0)) {
                if (!is_there(m))
                        blocker_add(r->files->blockers, "Start the program that it belongs to",
                                    "nobody has %s, which a socket of the checkpoint was connected to",
                                    text);
                return;
        }
        blocker_add(r->files->blockers, "Use --ext-unix-sk, or --external unix[INODE] with this inode",
                    "a socket of the checkpoint (inode %u) was connected to %s, outside of it", m->ino,
                    text);
}

/* By trial. The listener and those that it has accepted have one name; it is tried as often, which does no harm. */
static void check_abstract(struct restore *r, const Img__UnixSk *m) {
        _cleanup_close_ int fd = socket(AF_UNIX, (int)m->type | SOCK_CLOEXEC, 0);
        union unix_address a;
        socklen_t len = unix_address(m->name.data, m->name.len, &a);
        char text[UNIX_TEXT_MAX];

        if (fd < 0 || bind(fd, &a.any, len) == 0 || errno != EADDRINUSE)
                return;
        unix_describe(m->type, m->name.data, m->name.len, text);
        blocker_add(r->files->blockers, "End the program that uses it (`ss -xlp` tells which)",
                    "the name of %s is in use", text);
}

int unix_check(struct restore *r, struct restore_file *file, struct image_file *image,
               struct ckpt_error *err) {
        const Img__UnixSk *m = file->msg->usk;
        const struct sock_kind kind = { AF_UNIX, (int)m->type, 0 };
        const struct sock_opts opts = { .sk = m->opts };
        const char *why = check_message(m);
        char text[UNIX_TEXT_MAX];

        if (why)
                return image_damaged(image, err, "the unix socket with the id %u %s", m->id, why);
        check_outside(r, m);
        if (sock_opts_try(&kind, &opts, sock_defaults_of(r), "", NULL) < 0) {
                unix_describe(m->type, m->name.data, m->name.len, text);
                sock_check_machine(r, &kind, &opts, sock_defaults_of(r), text);
        }
        if (binds_path(m))
                unix_check_path(m, r->files->blockers);
        else if (m->name.len > 0 && m->name.data[0] == 0)
                check_abstract(r, m);
        return 0;
}

/* ---- all together ---- */

static int compare_inos(const void *a, const void *b) {
        const struct unix_sock *const *x = a, *const *y = b;

        return ((*x)->m->ino > (*y)->m->ino) - ((*x)->m->ino < (*y)->m->ino);
}

struct unix_sock *unix_by_ino(const struct unix_state *s, uint32_t ino) {
        Img__UnixSk m = { .ino = ino };
        struct unix_sock key = { .m = &m }, *key_at = &key, **found;

        found = s->n > 0 ? bsearch(&key_at, s->by_ino, s->n, sizeof(*s->by_ino), compare_inos) : NULL;
        return found ? *found : NULL;
}

static struct unix_state *make_state(struct restore *r) {
        struct restore_files *files = r->files;
        struct unix_state *s;
        size_t n = 0;

        for (size_t i = 0; i < files->n; i++)
                n += files->v[i].msg->type == IMG__FD_TYPES__UNIXSK;
        if (n == 0)
                return NULL;
        s = calloc(1, sizeof(*s));
        ckpt_assert(s);
        s->v = calloc(n, sizeof(*s->v));
        s->by_ino = calloc(n, sizeof(struct unix_sock *));
        ckpt_assert(s->v && s->by_ino);
        s->defaults = sock_defaults_new();
        for (size_t i = 0; i < files->n; i++)
                if (files->v[i].msg->type == IMG__FD_TYPES__UNIXSK) {
                        s->by_ino[s->n] = &s->v[s->n];
                        s->v[s->n++] = (struct unix_sock){ .file = &files->v[i],
                                                           .m = files->v[i].msg->usk,
                                                           .fd = -EBADF,
                                                           .node = -EBADF,
                                                           .ghost = -EBADF };
                }
        qsort(s->by_ino, s->n, sizeof(*s->by_ino), compare_inos);
        files->state[FD_STATE_UNIX] = s;
        return s;
}

static int find_peers(struct unix_state *s, struct ckpt_error *err) {
        for (size_t i = 1; i < s->n; i++)
                if (s->by_ino[i - 1]->m->ino == s->by_ino[i]->m->ino)
                        return ckpt_error(err, -EBADMSG,
                                          "files.img: there are two unix sockets with the inode %u",
                                          s->by_ino[i]->m->ino);
        for (size_t i = 0; i < s->n; i++) {
                struct unix_sock *u = &s->v[i];

                if (u->m->peer == 0)
                        continue;
                u->peer = unix_by_ino(s, u->m->peer);
                if (!u->peer || u->peer == u || u->peer->m->type != u->m->type ||
                    (u->m->type != SOCK_DGRAM && u->peer->m->peer != u->m->ino))
                        return ckpt_error(err, -EBADMSG,
                                          "files.img: the peer of the unix socket %u makes no sense",
                                          u->m->ino);
        }
        return 0;
}

static int find_clients(struct unix_state *s, struct ckpt_error *err) {
        for (size_t i = 0; i < s->n; i++) {
                const Img__UnixSk *m = s->v[i].m;
                int r = unix_waiting_load(&s->v[i]);

                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot load the unix sockets");
                for (size_t w = 0; w < m->n_waiting; w++) {
                        struct unix_sock *client = unix_by_ino(s, m->waiting[w]);

                        if (m->waiting[w] == 0)
                                continue;
                        if (!client || client->waits || client->peer || client->m->has_outside ||
                            client->m->type != m->type || client->m->state != TCP_ESTABLISHED)
                                return ckpt_error(err, -EBADMSG,
                                                  "files.img: a client of the unix socket %u makes no sense",
                                                  m->ino);
                        client->waits = true;
                }
        }
        return 0;
}

/* ---- sk-queues.img ---- */

static int take_rights(struct restore *r, struct image_file *image, const Img__SkPacket *msg,
                       struct ckpt_error *err) {
        for (size_t i = 0; i < msg->n_scm; i++) {
                const Img__Scm *scm = msg->scm[i];

                if (i > 0 || scm->type != SCM_RIGHTS || scm->n_rights > RIGHTS_MAX)
                        return image_damaged(image, err, "a message has control data that makes no sense");
                for (size_t f = 0; f < scm->n_rights; f++) {
                        struct restore_file *file = restore_find_file(r->files, scm->rights[f]);

                        if (!file)
                                return image_damaged(image, err,
                                                     "a message has file %u, which is not in the images",
                                                     scm->rights[f]);
                        file->nr_slots++;
                }
        }
        return 0;
}

/* The queue that a message is for. NULL: there is no such. */
static struct unix_packet **find_end(struct unix_sock *u, const Img__SkPacket *msg, size_t **ret_bytes) {
        struct unix_early_client *e;

        if (!msg->has_early) {
                *ret_bytes = &u->bytes;
                return u->m->state == TCP_LISTEN ? NULL : u->last ? &u->last->next : &u->first;
        }
        if (msg->early == 0 || msg->early > u->m->n_waiting)
                return NULL;
        e = &u->early[msg->early - 1];
        *ret_bytes = &e->bytes;
        return e->last ? &e->last->next : &e->first;
}

static bool has_sender(const struct unix_sock *u, const Img__SkPacket *msg) {
        return msg->has_early || (u->m->type == SOCK_DGRAM && u->m->name.len > 0) || u->peer ||
               (u->m->has_closed && u->m->closed);
}

/* The mark is unique, and nothing that has been urgent is behind it. */
static const char *check_urgent(const struct unix_sock *u, const Img__SkPacket *msg, bool *marked) {
        if (!msg->has_urgent)
                return u->m->type == SOCK_STREAM && msg->length == 0 ? "a part of a stream is empty" : NULL;
        if (u->m->type != SOCK_STREAM ||
            (msg->urgent != UNIX_URGENT_UNREAD && msg->urgent != UNIX_URGENT_READ))
                return "a message is urgent in a way that it cannot be";
        if (msg->length != (msg->urgent == UNIX_URGENT_UNREAD) ||
            (msg->urgent == UNIX_URGENT_READ && msg->has_early))
                return "urgent data is not one byte, or was read by nobody";
        if (*marked)
                return "there is urgent data behind the mark of other urgent data";
        *marked = msg->urgent == UNIX_URGENT_UNREAD;
        return NULL;
}

static int read_packet(struct restore *r, struct image_file *image, Img__SkPacket *msg,
                       struct ckpt_error *err) {
        struct unix_sock *u = unix_by_ino(unix_state(r->files), msg->id_for);
        struct unix_packet *p, **end;
        size_t *bytes = NULL;
        const char *why;

        end = u ? find_end(u, msg, &bytes) : NULL;
        if (!end)
                return image_damaged(image, err,
                                     "a message is for the socket %u, which is none that receives",
                                     msg->id_for);
        if (msg->length > PACKET_MAX || msg->length > image_remaining(image))
                return image_damaged(image, err, "a message of %u bytes is longer than the file",
                                     msg->length);
        if ((msg->has_sender && !unix_name_is_valid(&msg->sender)) || check_cred(msg->cred))
                return image_damaged(image, err, "a message has an impossible sender");
        if (!has_sender(u, msg))
                return image_damaged(image, err, "a message is for the socket %u, which was never connected",
                                     msg->id_for);
        why = check_urgent(u, msg, msg->has_early ? &u->early[msg->early - 1].marked : &u->marked);
        if (why)
                return image_damaged(image, err, "%s", why);
        if (msg->has_urgent)
                unix_state(r->files)->urgent = true;
        p = calloc(1, sizeof(*p));
        ckpt_assert(p);
        *end = p;
        *(msg->has_early ? &u->early[msg->early - 1].last : &u->last) = p;
        p->data = malloc(msg->length + 1);
        if (!p->data)
                return ckpt_error(err, -ENOMEM, "not enough memory for what is in the unix sockets");
        *bytes += msg->length + 1024;
        return image_read_raw(image, p->data, msg->length, err);
}

static int take_packet(void *ctx, struct image_file *image, void **message, struct ckpt_error *err) {
        Img__SkPacket *msg = *message;
        struct restore *r = ctx;
        struct unix_sock *u;
        int rc;

        rc = take_rights(r, image, msg, err);
        if (rc == 0)
                rc = read_packet(r, image, msg, err);
        u = rc == 0 ? unix_by_ino(unix_state(r->files), msg->id_for) : NULL;
        if (u) {
                struct unix_packet *last = msg->has_early ? u->early[msg->early - 1].last : u->last;

                last->msg = TAKE_PTR(*message);
        }
        return rc;
}

int unix_load(struct restore *r, struct ckpt_error *err) {
        struct unix_state *s = make_state(r);
        int rc;

        if (!s)
                return 0;
        rc = find_peers(s, err);
        if (rc == 0)
                rc = find_clients(s, err);
        if (rc == 0)
                rc = image_each(r->dir, IMAGE_SK_QUEUES, 0, IMAGE_OPTIONAL, &img__sk_packet__descriptor,
                                take_packet, r, err);
        if (rc == 0 && s->urgent && !kernel_has(&r->kernel, KERNEL_UNIX_OOB))
                blocker_add(
                        r->files->blockers,
                        "Restore on a kernel from 5.15 on, built with CONFIG_AF_UNIX_OOB",
                        "unix sockets of the checkpoint have urgent data (MSG_OOB), which this kernel does not know");
        if (rc == 0)
                rc = unix_sort_out(s, err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                if (s->v[i].peer)
                        s->v[i].peer->most_bytes = MAX(s->v[i].peer->most_bytes, s->v[i].bytes);
        return rc;
}

static void free_sock(struct unix_sock *u, bool settled) {
        if (u->bound && !settled)
                unix_unbind(u);
        safe_close(u->fd);
        safe_close(u->node);
        safe_close(u->ghost);
        unix_packets_free(u->first);
        if (!u->stand_in)
                unix_waiting_free(u);
}

void unix_free(struct restore_files *files) {
        struct unix_state *s = unix_state(files);

        if (!s)
                return;
        for (size_t i = 0; i < s->n; i++)
                free_sock(&s->v[i], s->done);
        for (size_t i = 0; i < s->nr_stand_ins; i++)
                free_sock(&s->stand_ins[i], s->done);
        sock_defaults_free(&s->defaults);
        free(s->stand_ins);
        free(s->by_ino);
        free(s->v);
        free(s);
        files->state[FD_STATE_UNIX] = NULL;
}
