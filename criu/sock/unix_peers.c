/* SPDX-License-Identifier: GPL-2.0-only */
/* Names of unix sockets, and whose other end is where. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fd/pipe.h"
#include "macro.h"
#include "sock/unix.h"

static const char *type_name(uint32_t type) {
        return type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "datagram" : "seqpacket";
}

void unix_describe(uint32_t type, const void *name, size_t len, char ret[static UNIX_TEXT_MAX]) {
        const unsigned char *bytes = name;
        size_t at;

        if (len > 0 && bytes[0] != 0)
                len = strnlen(name, len);
        at = (size_t)snprintf(ret, UNIX_TEXT_MAX, "%s unix %s socket%s", len > 0 ? "the" : "a",
                              type_name(type), len > 0 ? " " : "");
        for (size_t i = 0; i < len && at + 1 < UNIX_TEXT_MAX; i++)
                ret[at++] = (char)(i == 0 && bytes[0] == 0             ? '@'
                                   : bytes[i] < ' ' || bytes[i] >= 127 ? '?'
                                                                       : bytes[i]);
        ret[at] = 0;
}

size_t unix_name_length(const struct sockaddr_un *a, socklen_t len) {
        size_t n = len > offsetof(struct sockaddr_un, sun_path)
                           ? len - offsetof(struct sockaddr_un, sun_path)
                           : 0;

        n = MIN(n, (size_t)UNIX_NAME_MAX);
        return n > 0 && a->sun_path[0] != 0 ? strnlen(a->sun_path, n) + 1 : n;
}

/* Of a path that fills sun_path, the NUL behind it is not the caller's. */
socklen_t unix_address(const void *name, size_t len, union unix_address *ret) {
        memset(ret, 0, sizeof(*ret));
        ret->un.sun_family = AF_UNIX;
        len = MIN(len, sizeof(ret->un.sun_path));
        memcpy(ret->un.sun_path, name, len);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

bool unix_may_be_outside(const struct ckpt_options *opts, uint32_t ino, uint32_t peer) {
        if (opts->ext_unix_sk)
                return true;
        for (size_t i = 0; i < opts->external.n; i++) {
                const char *key = opts->external.v[i];
                char *end;
                unsigned long number;

                if (strncmp(key, "unix[", 5) != 0)
                        continue;
                number = strtoul(key + 5, &end, 10);
                if (end > key + 5 && end[0] == ']' && end[1] == 0 && (number == ino || number == peer))
                        return true;
        }
        return false;
}

/* ---- in the tree or not ---- */

struct judge {
        struct dump *d;
        struct blockers *b;
        const struct unix_table *table;
        const struct unix_dumped **socks; /* by inode */
        size_t n;
};

static int compare_socks(const void *a, const void *b) {
        const struct unix_dumped *const *x = a, *const *y = b;

        return ((*x)->ino > (*y)->ino) - ((*x)->ino < (*y)->ino);
}

static const struct unix_dumped *find(const struct judge *j, uint32_t ino) {
        const struct unix_dumped key = { .ino = ino }, *key_at = &key, **found;

        found = j->n > 0 ? bsearch(&key_at, j->socks, j->n, sizeof(*j->socks), compare_socks) : NULL;
        return found ? *found : NULL;
}

static const char *describe(const struct judge *j, const struct unix_diag *diag) {
        char text[UNIX_TEXT_MAX];

        unix_describe(diag->type, diag->name, diag->name_len, text);
        return arena_strdup(&dump_files(j->d)->arena, text);
}

/*
 * " of pid 4711", in the arena, "" if nobody is found. Before the freeze the tree goes on making sockets, and one that
 * was not seen in it need not be outside: NULL if that is so.
 */
static const char *holder_of(const struct judge *j, const struct unix_dumped *s, uint32_t ino) {
        pid_t pid = sock_foreign_holder(j->d, ino);

        if (pid == 0)
                return s->msg ? "" : NULL;
        return arena_printf(&dump_files(j->d)->arena, " of pid %d", pid);
}

static void judge_outside(const struct judge *j, const struct unix_dumped *s, const struct unix_diag *diag,
                          const struct unix_diag *peer) {
        bool named = peer->name_len > 0 && (peer->name[0] == 0 || peer->name[0] == '/');
        const char *holder = holder_of(j, s, peer->ino);

        if (!holder)
                return;
        if (!unix_may_be_outside(j->d->opts, s->ino, peer->ino)) {
                blocker_add(
                        j->b,
                        !*holder ? "Try again: no process was found that has it, so one may just be exiting"
                        : named  ? "Dump a tree that has both ends, or use --ext-unix-sk or --external "
                                   "unix[INODE] to have it connected by that name on restore"
                                 : "Dump a tree that has both ends",
                        "%s is %s (inode %u), whose other end, %s%s (inode %u), is outside of the tree",
                        s->name, describe(j, diag), s->ino, describe(j, peer), holder, peer->ino);
                return;
        }
        if (!named) {
                blocker_add(
                        j->b, "Dump a tree that has both ends (`ss -xp` tells whose they are)",
                        "%s is %s (inode %u), whose other end (inode %u) is outside of the tree and has no "
                        "name by which it could be connected again",
                        s->name, describe(j, diag), s->ino, peer->ino);
                return;
        }
        if (diag->type == SOCK_STREAM && s->at_mark && diag->rqueue == 0) {
                blocker_add(
                        j->b, "Try again when the program has read on",
                        "%s is a unix socket at the mark of urgent data (MSG_OOB) that came from %s (inode %u), which "
                        "is outside of the tree: nobody could send it again",
                        s->name, describe(j, peer), peer->ino);
                return;
        }
        if (diag->type != SOCK_DGRAM && diag->rqueue > 0) {
                blocker_add(
                        j->b, "Try again when the program has read it",
                        "%s has %u unread bytes from %s (inode %u), which is outside of the tree: nobody could "
                        "send them again",
                        s->name, diag->rqueue, describe(j, peer), peer->ino);
                return;
        }
        if (s->msg) {
                s->msg->uflags |= UNIX_FLAG_OUTSIDE;
                s->msg->has_outside = true;
                s->msg->outside.len = peer->name_len;
                s->msg->outside.data = arena_copy(&dump_files(j->d)->arena, peer->name, peer->name_len);
                s->msg->peer = 0;
        }
}

/* The listener that a client waits in to be accepted. */
static const struct unix_diag *find_listener(const struct judge *j, uint32_t client) {
        for (size_t i = 0; i < j->table->all.n; i++)
                for (uint32_t w = 0; w < j->table->all.v[i].nr_waiting; w++)
                        if (j->table->all.v[i].waiting[w] == client)
                                return &j->table->all.v[i];
        return NULL;
}

/* A peer without an inode: closed, or not accepted yet. */
static void judge_client(const struct judge *j, const struct unix_dumped *s, const struct unix_diag *diag) {
        const struct unix_diag *listener = diag->type == SOCK_DGRAM ? NULL : find_listener(j, s->ino);
        const struct proc_status *status;
        Img__UnixCred *cred;

        if (listener && !find(j, listener->ino)) {
                judge_outside(j, s, diag, listener);
                return;
        }
        if (!s->msg || s->msg->cred) /* known already */
                return;
        if (!listener) {
                s->msg->has_closed = s->msg->closed = true;
                return;
        }
        /* The connection has the ids of who made it; of those that have the socket, this is the likeliest. */
        status = &s->task->threads[0].status;
        cred = arena_message(&dump_files(j->d)->arena, Img__UnixCred, img__unix_cred__init);
        cred->pid = s->task->pid;
        cred->uid = status->uids[1];
        cred->gid = status->gids[1];
        cred->n_groups = status->groups.n;
        cred->groups =
                arena_copy(&dump_files(j->d)->arena, status->groups.v, status->groups.n * sizeof(uint32_t));
        s->msg->cred = cred;
}

/*
 * What a client sends before it is accepted lies in a socket that nobody has a descriptor of. 0: it is known; -ENOENT: but not where
 * descriptors that it sent lead; -EOPNOTSUPP: it is not.
 */
static int ask_readable(const struct judge *j, const struct unix_dumped *s) {
        if (s->msg)
                return s->early ? 0 : s->lost_files ? -ENOENT : -EOPNOTSUPP;
        return unix_waiting_seen(j->d) ? unix_waiting_look(j->d, s) : -EOPNOTSUPP;
}

static void judge_waiting(const struct judge *j, const struct unix_dumped *s, const struct unix_diag *diag,
                          uint32_t ino) {
        const char *holder = ino != 0 && !find(j, ino) ? holder_of(j, s, ino) : NULL;

        if (holder)
                blocker_add(
                        j->b, "Try again when the program has accepted it",
                        "%s is %s, in which a client%s, outside of the tree, waits to be accepted (inode %u)",
                        s->name, describe(j, diag), holder, ino);
}

static const char *tell_client(const struct judge *j, uint32_t ino) {
        return ino == 0 ? "a client waits to be accepted that has closed its end already"
                        : arena_printf(
                                  &dump_files(j->d)->arena,
                                  "a client (inode %u) waits to be accepted that has sent something already",
                                  ino);
}

/* Of clients that have sent something, or closed, the first is named. */
static void judge_sent(const struct judge *j, const struct unix_dumped *s, const struct unix_diag *diag,
                       uint32_t ino) {
        int r = ask_readable(j, s);

        if (r == -ENOENT)
                blocker_add(
                        j->b,
                        "Try again when the program has accepted it, or have the file kept open by a process",
                        "%s is %s, in which clients wait to be accepted, and one has sent descriptors of a file that "
                        "no process of the tree has open any more: those cannot be carried over",
                        s->name, describe(j, diag));
        else if (r < 0)
                blocker_add(j->b, "Try again when the program has accepted it",
                            "%s is %s, in which %s: what it had sent cannot be read", s->name,
                            describe(j, diag), tell_client(j, ino));
}

static void judge_listener(const struct judge *j, const struct unix_dumped *s,
                           const struct unix_diag *diag) {
        const uint32_t *sent = NULL;

        for (uint32_t i = 0; i < diag->nr_waiting; i++) {
                uint32_t ino = diag->waiting[i];
                const struct unix_diag *client = unix_diag_find(j->table, ino);

                judge_waiting(j, s, diag, ino);
                if (!sent && (ino == 0 || (client && client->wqueue > 0 && find(j, ino))))
                        sent = &diag->waiting[i];
        }
        if (sent)
                judge_sent(j, s, diag, *sent);
}

/* Datagram sockets outside that send to one in the tree: of those the kernel does not tell the other end. */
static void judge_senders(const struct judge *j) {
        for (size_t i = 0; i < j->table->all.n; i++) {
                const struct unix_diag *sender = &j->table->all.v[i], *diag;
                const struct unix_dumped *s;

                if (sender->type != SOCK_DGRAM || sender->peer == 0 || find(j, sender->ino))
                        continue;
                s = find(j, sender->peer);
                diag = s ? unix_diag_find(j->table, s->ino) : NULL;
                if (diag && holder_of(j, s, sender->ino) &&
                    !unix_may_be_outside(j->d->opts, s->ino, sender->ino))
                        blocker_add(
                                j->b,
                                "Dump a tree that has both, or use --ext-unix-sk or --external unix[INODE] if the "
                                "other one connects again by itself",
                                "%s is %s, which a unix datagram socket outside of the tree (inode %u) is "
                                "connected to",
                                s->name, describe(j, diag), sender->ino);
        }
}

static void judge_one(const struct judge *j, const struct unix_dumped *s) {
        const struct unix_diag *diag = unix_diag_find(j->table, s->ino), *peer;

        if (!diag) /* gone since it was seen; in the freeze each was found */
                return;
        if (diag->state == TCP_LISTEN) {
                judge_listener(j, s, diag);
                return;
        }
        if (diag->has_peer && diag->peer != 0) {
                peer = unix_diag_find(j->table, diag->peer);
                if (peer && !find(j, diag->peer))
                        judge_outside(j, s, diag, peer);
        } else if (diag->has_peer) {
                judge_client(j, s, diag);
        }
}

static struct judge make_judge(struct dump *d, const struct unix_dumped_vec *socks, struct blockers *b) {
        struct judge j = { .d = d, .b = b, .table = &unix_dump(d)->table, .n = socks->n };

        j.socks = calloc(socks->n + 1, sizeof(*j.socks));
        ckpt_assert(j.socks);
        for (size_t i = 0; i < socks->n; i++)
                j.socks[i] = &socks->v[i];
        if (j.n > 0)
                qsort(j.socks, j.n, sizeof(*j.socks), compare_socks);
        return j;
}

bool unix_any_lost(struct dump *d) {
        struct judge j = make_judge(d, &unix_dump(d)->all, NULL);
        bool lost = false;

        for (size_t i = 0; i < j.n && !lost; i++) {
                const struct unix_diag *diag = unix_diag_find(j.table, j.socks[i]->ino);

                lost = diag && diag->peer != 0 && !find(&j, diag->peer) &&
                       sock_foreign_holder(d, diag->peer) == 0;
        }
        free(j.socks);
        return lost;
}

void unix_judge(struct dump *d, const struct unix_dumped_vec *socks, struct blockers *b) {
        struct judge j = make_judge(d, socks, b);

        for (size_t i = 0; i < j.n; i++)
                judge_one(&j, j.socks[i]);
        judge_senders(&j);
        free(j.socks);
}
