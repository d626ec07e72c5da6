/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets of the tree that is dumped: each by itself, its path, and who is connected with whom. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/pipe.h"
#include "image/image.h"
#include "log.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/inet.h"
#include "sock/sock.h"
#include "sock/uapi.h"
#include "sock/unix.h"

enum { GROUPS_MAX = 65536, EXIT_TRIES = 250 };

struct unix_dump *unix_dump(struct dump *d) {
        struct dump_socks *s = dump_socks(d);

        if (!s->unix_) {
                s->unix_ = calloc(1, sizeof(*s->unix_));
                ckpt_assert(s->unix_);
        }
        return s->unix_;
}

void unix_dump_free(struct unix_dump **u) {
        if (!*u)
                return;
        for (size_t i = 0; i < (*u)->all.n; i++) {
                safe_close((*u)->all.v[i].fd);
                for (size_t k = 0; k < (*u)->all.v[i].nr_early; k++)
                        unix_rights_close((*u)->all.v[i].early[k].first);
        }
        for (size_t i = 0; i < (*u)->kept.n; i++)
                safe_close((*u)->kept.v[i]);
        unix_table_done(&(*u)->table);
        unix_dumped_vec_done(&(*u)->seen);
        unix_dumped_vec_done(&(*u)->all);
        unix_place_vec_done(&(*u)->places);
        unix_fd_vec_done(&(*u)->kept);
        unix_holder_vec_done(&(*u)->holders);
        free(*u);
        *u = NULL;
}

static bool is_unix(int domain, int type __attribute__((unused)), int protocol __attribute__((unused))) {
        return domain == AF_UNIX;
}

static bool unix_match(struct fd_probe *p) {
        return sock_match(p, is_unix);
}

/* ---- look ---- */

/* Where urgent data was, too. Of listeners and datagram sockets the kernel says so as well, about other things. */
static bool is_at_mark(int fd) {
        int at = 0;

        return ioctl(fd, SIOCATMARK, &at) == 0 && at != 0 && sock_option(fd, SO_TYPE) == SOCK_STREAM &&
               sock_option(fd, SO_ACCEPTCONN) == 0;
}

static bool has_urgent(int fd) {
        struct pollfd events = { .fd = fd, .events = POLLPRI };

        return (poll(&events, 1, 0) > 0 && events.revents & POLLPRI) || is_at_mark(fd);
}

static bool unix_clear(struct dump *d, int fd) {
        return sock_option(fd, SO_DOMAIN) == AF_UNIX && sock_is_clear(d, fd) && !has_urgent(fd);
}

static void unix_look(struct fd_probe *p, struct blockers *b) {
        struct dump *d = p->task->dump;
        _cleanup_close_ int fd = p->clear ? -EBADF : sock_look_at(p, b);
        pid_t holder;

        if (fd < 0 && !p->clear)
                return;
        if (!p->clear && has_urgent(fd) && !unix_queues_seen(d))
                blocker_add(
                        b, "Try again when the program has read it, or see `ckpt check --feature bpf_peek`",
                        "%s is a unix socket with urgent data (MSG_OOB): only BPF tells where, and it is not to be had",
                        fd_probe_name(p));
        holder = p->what ? 0 : sock_foreign_holder(d, p->st.stx_ino);
        if (holder > 0)
                blocker_add(b, "Dump a tree that has all of its holders, or have the others close it",
                            "%s is a unix socket (%s) that pid %d, outside of the tree, has open as well",
                            fd_probe_name(p), p->link, holder);
        if (!unix_dump(d)->frozen)
                ckpt_assert(unix_dumped_vec_push(&unix_dump(d)->seen,
                                                 (struct unix_dumped){ .task = p->task,
                                                                       .ino = (uint32_t)p->st.stx_ino,
                                                                       .name = fd_probe_name(p),
                                                                       .number = p->fd,
                                                                       .at_mark = fd >= 0 && is_at_mark(fd),
                                                                       .fd = -EBADF }) == 0);
        if (fd >= 0)
                sock_copy_keep(p, TAKE_FD(fd));
}

void sock_look_tree(struct dump *d) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct unix_dump *u = d->socks ? d->socks->unix_ : NULL;

        if (d->socks && d->checking)
                reuseport_look_groups(d, d->blockers);
        packet_look_tree(d);
        if (!u || u->seen.n == 0)
                return;
        if (unix_diag_query(&u->table, &err) < 0)
                blocker_add(d->blockers, NULL, "%s", ckpt_error_message(&err));
        else
                unix_judge(d, &u->seen, d->blockers);
}

/* ---- dump ---- */

static int ask_frozen(struct unix_dump *u, struct ckpt_error *err) {
        int r;

        if (u->frozen)
                return 0;
        r = unix_diag_query(&u->table, err);
        u->frozen = r == 0;
        return r;
}

static Img__UnixCred *new_cred(struct arena *arena, pid_t pid, uid_t uid, gid_t gid) {
        Img__UnixCred *c = arena_message(arena, Img__UnixCred, img__unix_cred__init);

        c->pid = pid;
        c->uid = uid;
        c->gid = gid;
        return c;
}

static Img__UnixCred *read_peer_cred(int fd, struct arena *arena) {
        uint32_t few[32], *groups = few;
        socklen_t len = sizeof(struct ucred);
        struct ucred cred = { 0 };
        Img__UnixCred *c;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid == (uid_t)-1)
                return NULL;
        c = new_cred(arena, cred.pid, cred.uid, cred.gid);
        len = sizeof(few);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0) {
                if (errno != ERANGE || len > GROUPS_MAX * sizeof(*groups))
                        return c;
                groups = arena_alloc(arena, len);
                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
                        return c;
        }
        c->n_groups = len / sizeof(*groups);
        c->groups = arena_copy(arena, groups, len);
        return c;
}

static void read_peer_name(int fd, struct arena *arena, Img__UnixSk *msg) {
        union unix_address a;
        socklen_t len = sizeof(a);

        memset(&a, 0, sizeof(a));
        if (getpeername(fd, &a.any, &len) < 0 || len <= sizeof(sa_family_t))
                return;
        msg->has_peer_name = true;
        msg->peer_name.len = unix_name_length(&a.un, len);
        msg->peer_name.data = arena_copy(arena, a.un.sun_path, msg->peer_name.len);
}

/* What a copy tells and sock_diag does not. */
struct unix_asked {
        short events;
        bool at_mark;
        Img__UnixCred *peer_cred;
        struct sock_owner owner;
        Img__SkOpts *opts;
};

static int ask_state(int fd, struct arena *arena, struct unix_asked *ret) {
        struct pollfd events = { .fd = fd, .events = POLLIN | POLLPRI };

        if (poll(&events, 1, 0) < 0)
                return -errno;
        ret->events = events.revents;
        ret->at_mark = events.revents & POLLIN && is_at_mark(fd);
        ret->peer_cred = read_peer_cred(fd, arena);
        return 0;
}

/* In any thread. */
static int ask_rest(struct dump *d, int fd, struct arena *arena, const char *name, struct unix_asked *ret,
                    struct ckpt_error *err) {
        struct sock_kind kind = { .domain = AF_UNIX, .type = sock_option(fd, SO_TYPE) };
        struct sock_opts opts;
        int r;

        r = sock_owner_dump(d, fd, arena, name, &ret->owner, err);
        if (r == 0)
                r = sock_opts_dump(fd, &kind, arena, dump_socks(d)->defaults, NULL, &opts, err);
        if (r == 0)
                ret->opts = opts.sk;
        return r;
}

static void *unix_ask(struct dump *d, int fd, struct arena *arena, bool *ret_keep) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct unix_asked *asked = arena_new(arena, struct unix_asked);

        if (ask_state(fd, arena, asked) < 0 || ask_rest(d, fd, arena, "a socket", asked, &err) < 0)
                return NULL;
        *ret_keep = asked->events & POLLIN;
        return asked;
}

/* 1: there is something in its queue. */
static int read_state(int fd, const struct unix_diag *diag, const struct unix_asked *asked,
                      struct arena *arena, Img__UnixSk *msg) {
        msg->type = diag->type;
        msg->state = diag->state;
        msg->name.len = diag->name_len;
        msg->name.data = arena_copy(arena, diag->name, diag->name_len);
        msg->peer = diag->peer;
        msg->backlog = diag->state == TCP_LISTEN ? diag->wqueue : 0;
        msg->has_shutdown = diag->shutdown != 0;
        msg->shutdown = (Img__SkShutdown)diag->shutdown;
        if (diag->has_file) {
                msg->has_file_dev = msg->has_file_ino = true;
                msg->file_dev = diag->file_dev;
                msg->file_ino = diag->file_ino;
        }
        msg->n_waiting = diag->nr_waiting;
        msg->waiting = arena_copy(arena, diag->waiting, diag->nr_waiting * sizeof(uint32_t));
        if (msg->n_waiting == 0)
                msg->waiting = NULL;
        msg->has_reset = msg->reset = (asked->events & POLLERR) != 0;
        msg->peer_cred = asked->peer_cred;
        if (diag->has_peer && diag->peer == 0)
                read_peer_name(fd, arena, msg);
        if (diag->state == TCP_LISTEN)
                return 0;
        if (diag->rqueue > 0)
                return 1;
        if (msg->type == SOCK_STREAM && asked->at_mark)
                return 1;
        /* An empty packet; of a stream, in kernels that do not call that the mark, where urgent data was. */
        return asked->events & POLLIN && !(diag->shutdown & IMG__SK_SHUTDOWN__READ);
}

static void fill_common(struct fd_probe *p, uint32_t id, const struct sock_owner *owner, Img__SkOpts *opts,
                        Img__UnixSk *msg) {
        msg->id = id;
        msg->ino = (uint32_t)p->st.stx_ino;
        msg->flags = fd_probe_flags(p);
        msg->fown = owner->fown;
        msg->has_uid = msg->has_gid = true;
        msg->uid = owner->uid;
        msg->gid = owner->gid;
        msg->opts = opts;
        msg->has_ns_id = true;
        msg->ns_id = sock_ns_id();
}

/* A stream can be read as far as its data goes; of packets every read tells the error first, and takes it. */
static int check_error(const Img__UnixSk *msg, bool queued, const char *name, struct ckpt_error *err) {
        if (!queued || !msg->reset || msg->type == SOCK_STREAM)
                return 0;
        ckpt_error(
                err, -ENOTSUP,
                "%s is a unix socket with an error (ECONNRESET) and messages that nobody has read: reading them would "
                "take the error from it",
                name);
        return ckpt_error_hint(err, "Try again when the program has read them");
}

/* Even if all that is always asked has been: what it is bound to, who its peer was, what is in its queue. */
static bool needs_copy(const struct unix_diag *diag, const struct unix_asked *asked) {
        return diag->name_len > 0 || (diag->has_peer && diag->peer == 0) || diag->rqueue > 0 ||
               asked->at_mark;
}

static int unix_dump_one(struct dump *d, struct fd_probe *p, struct dump_file *file,
                         struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        Img__UnixSk *msg = arena_message(arena, Img__UnixSk, img__unix_sk__init);
        _cleanup_close_ int fd = p->asked ? fd_probe_take_copy(p) : sock_copy_take(p);
        struct unix_asked own = { 0 }, *asked = p->asked ? p->asked : &own;
        const char *name = fd_probe_name(p);
        const struct unix_diag *diag;
        int r, queued;

        r = ask_frozen(unix_dump(d), err);
        if (r < 0)
                return r;
        diag = unix_diag_find(&unix_dump(d)->table, (uint32_t)p->st.stx_ino);
        if (!diag)
                return ckpt_error(err, -ENOENT, "%s: the kernel's list of unix sockets does not have it",
                                  name);
        if (p->asked && fd < 0 && needs_copy(diag, asked))
                fd = fd_probe_get(p);
        if (fd < 0 && (!p->asked || needs_copy(diag, asked)))
                return ckpt_error_errno(err, fd, "%s: cannot read this socket", name);
        r = p->asked ? 0 : ask_state(fd, arena, asked);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read this socket", name);
        queued = read_state(fd, diag, asked, arena, msg);
        r = check_error(msg, queued, name, err);
        if (r == 0 && !p->asked)
                r = ask_rest(d, fd, arena, name, asked, err);
        if (r == 0)
                r = unix_dump_path(d, p, fd, diag, msg, err);
        if (r < 0)
                return r;
        fill_common(p, file->id, &asked->owner, asked->opts, msg);
        file->msg->usk = msg;
        ckpt_assert(unix_dumped_vec_push(&unix_dump(d)->all, (struct unix_dumped){
                                                                     .msg = msg,
                                                                     .file = file,
                                                                     .task = p->task,
                                                                     .ino = msg->ino,
                                                                     .name = name,
                                                                     .fd = queued ? TAKE_FD(fd) : -EBADF,
                                                                     .bytes = diag->rqueue,
                                                                     .pri = asked->events & POLLPRI,
                                                                     .at_mark = asked->at_mark,
                                                             }) == 0);
        return 0;
}

/* ---- its path ---- */

/* The directory below which the end of `path` is `name`; NULL: it is not. */
static char *strip_name(const char *path, const char *name, struct arena *arena) {
        size_t len = strlen(path), end = strlen(name);
        char *dir = arena_strdup(arena, path);

        while (end > 0) {
                size_t start = end;

                while (start > 0 && name[start - 1] != '/')
                        start--;
                if (end - start == 2 && strncmp(name + start, "..", 2) == 0)
                        return NULL;
                if (end > start && !(end - start == 1 && name[start] == '.')) {
                        if (len < end - start + 1 || path[len - (end - start) - 1] != '/' ||
                            strncmp(path + len - (end - start), name + start, end - start) != 0)
                                return NULL;
                        len -= end - start + 1;
                }
                end = start > 0 ? start - 1 : 0;
        }
        dir[len] = 0;
        return len > 0 ? dir : arena_strdup(arena, "/");
}

static bool leads_there(int dirfd, const char *path, const struct stat *st) {
        struct stat there;

        return fstatat(dirfd, path, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == st->st_dev &&
               there.st_ino == st->st_ino;
}

/* A relative path starts from where the program was when it bound the socket: nothing but the path tells. */
static const char *find_directory(struct fd_probe *p, const char *path, const char *name,
                                  const struct stat *st, struct arena *arena) {
        const char *dir = strip_name(path, name, arena);
        char cwd[PATH_MAX];
        char *below;
        ssize_t n;

        if (dir) {
                below = arena_printf(arena, "%s/%s", dir, name);
                if (leads_there(AT_FDCWD, below, st))
                        return dir;
        }
        below = arena_printf(arena, "cwd/%s", name);
        n = readlinkat(p->proc->fd, "cwd", cwd, sizeof(cwd) - 1);
        if (n <= 0 || !leads_there(p->proc->fd, below, st))
                return NULL;
        cwd[n] = 0;
        return arena_strdup(arena, cwd);
}

/*
 * Bound under a name of its own for the moment and then renamed, so that clients find either the old socket or the new one.
 * It is bound under that name again and moved: where from follows from the name and the root directory, or is any place if
 * the name has no directory.
 */
static bool find_moved(struct fd_probe *p, const char *name, const char *path, const struct stat *st,
                       struct arena *arena, struct unix_place *place) {
        char root[PATH_MAX];
        ssize_t n = readlinkat(p->proc->fd, "root", root, sizeof(root) - 1);

        if (n <= 0 || !leads_there(AT_FDCWD, path, st) || (name[0] != '/' && strchr(name, '/')))
                return false;
        root[n] = 0;
        if (name[0] != '/')
                place->dir = strip_name(path, strrchr(path, '/') + 1, arena);
        else if (strcmp(root, "/") != 0)
                place->root = arena_strdup(arena, root);
        place->moved_to = arena_strdup(arena, path);
        return true;
}

static int read_place(struct dump *d, struct fd_probe *p, int fd, const char *name, struct unix_place *place,
                      struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        _cleanup_close_ int node = ioctl(fd, SIOCUNIXFILE);
        char link[32], path[PATH_MAX];
        struct stat st;
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", node);
        n = node < 0 ? -1 : readlink(link, path, sizeof(path) - 1);
        if (n < 0 || fstat(node, &st) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot read which file it is bound to",
                                        fd_probe_name(p));
        path[n] = 0;
        place->perms = arena_message(arena, Img__FilePerms, img__file_perms__init);
        place->perms->mode = st.st_mode;
        place->perms->uid = st.st_uid;
        place->perms->gid = st.st_gid;
        place->deleted = st.st_nlink == 0;
        if (place->deleted || (name[0] == '/' && leads_there(AT_FDCWD, name, &st)))
                return 0;
        if (name[0] == '/') {
                place->root = strip_name(path, name + 1, arena);
                if (place->root && strcmp(place->root, "/") != 0 && leads_there(AT_FDCWD, path, &st))
                        return 0;
        } else {
                place->dir = find_directory(p, path, name, &st, arena);
                if (place->dir)
                        return 0;
        }
        if (find_moved(p, name, path, &st, arena, place))
                return 0;
        ckpt_error(err, -ENOTSUP, "%s is a unix socket bound to %s, which has been moved to %s since",
                   fd_probe_name(p), name, path);
        return ckpt_error_hint(err, "Have the program bind the socket under the name that it is to have");
}

int unix_dump_path(struct dump *d, struct fd_probe *p, int fd, const struct unix_diag *diag,
                   Img__UnixSk *msg, struct ckpt_error *err) {
        struct unix_place_vec *places = &unix_dump(d)->places;
        struct unix_place *place = NULL;
        int r;

        if (diag->name_len == 0 || diag->name[0] == 0)
                return 0;
        for (size_t i = places->n; i-- > 0 && !place;)
                if (places->v[i].ino == diag->file_ino && places->v[i].dev == diag->file_dev)
                        place = &places->v[i];
        if (!place) {
                struct unix_place new = { .dev = diag->file_dev, .ino = diag->file_ino };

                r = read_place(d, p, fd, diag->name, &new, err);
                if (r < 0)
                        return r;
                place = unix_place_vec_add(places);
                ckpt_assert(place);
                *place = new;
        }
        msg->file_perms = place->perms;
        msg->has_deleted = place->deleted;
        msg->deleted = place->deleted;
        msg->name_dir = (char *)place->dir;
        msg->name_root = (char *)place->root;
        msg->moved_to = (char *)place->moved_to;
        return 0;
}

/* ---- together ---- */

static int save_check(struct dump *d, struct ckpt_error *err) {
        struct blockers *b = blockers_new();
        struct unix_dump *u = unix_dump(d);
        int r;

        unix_judge(d, &u->all, b);
        r = blockers_to_retry(b, err);
        blockers_free(&b);
        return r;
}

/* What a peer's end has changed; what is in the queue it has not. */
static int read_again(struct dump *d, const struct unix_dumped *s) {
        const struct unix_diag *diag = unix_diag_find(&unix_dump(d)->table, s->ino);
        struct arena *arena = &dump_files(d)->arena;
        _cleanup_close_ int fd = -EBADF;
        struct unix_asked asked = { 0 };
        int r;

        if (!diag || (diag->peer == s->msg->peer && diag->shutdown == (uint8_t)s->msg->shutdown))
                return 0;
        fd = dump_file_get(s->file);
        r = fd < 0 ? fd : ask_state(fd, arena, &asked);
        if (r == 0)
                read_state(fd, diag, &asked, arena, s->msg);
        return r;
}

/*
 * A process that exits may have lost its table, so that it has no descriptors, and not have closed them yet. It is about
 * to.
 */
static int wait_for_exits(struct dump *d, struct ckpt_error *err) {
        const struct timespec pause = { .tv_nsec = 2000000 };
        struct unix_dump *u = unix_dump(d);
        int r = 0, i = 0;

        for (; r == 0 && i < EXIT_TRIES && unix_any_lost(d); i++) {
                nanosleep(&pause, NULL);
                r = unix_diag_query(&u->table, err);
        }
        for (size_t k = 0; r == 0 && i > 0 && k < u->all.n; k++) {
                r = read_again(d, &u->all.v[k]);
                if (r < 0)
                        ckpt_error_errno(err, r, "%s: cannot read this socket", u->all.v[k].name);
        }
        return r;
}

int unix_collect(struct dump *d, struct ckpt_error *err) {
        struct unix_dump *u = d->socks ? d->socks->unix_ : NULL;
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        if (!u || u->all.n == 0)
                return 0;
        r = unix_dump_queues(d, &image, err);
        if (r == 0)
                r = wait_for_exits(d, err);
        if (r == 0) {
                unix_waiting_read(d);
                r = save_check(d, err);
        }
        if (r == 0)
                r = unix_waiting_write(d, &image, err);
        return r < 0 || !image ? r : image_close(TAKE_PTR(image), err);
}

const struct fd_kind fd_kind_unix = {
        .type = IMG__FD_TYPES__UNIXSK,
        .name = "unix socket",
        .link = "socket:",
        .by_inode = true,
        .clear = unix_clear,
        .match = unix_match,
        .look = unix_look,
        .ask = unix_ask,
        .dump = unix_dump_one,
        .check = unix_check,
        .load = unix_load,
        .open = unix_open,
        .finish = unix_finish,
        .free = unix_free,
};
