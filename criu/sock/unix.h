/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of unix sockets share. */
#pragma once

#include <sys/un.h>

#include "fd/kind.h"
#include "images/sk-unix.pb-c.h"
#include "sock/opts.h"
#include "sock/unix_diag.h"
#include "sock/unix_early.h"
#include "sock/unix_rights.h"

enum { UNIX_TEXT_MAX = 200, UNIX_FLAG_OUTSIDE = 1 }; /* uflags */

union unix_address {
        struct sockaddr any;
        struct sockaddr_un un;
        char room[sizeof(struct sockaddr_un) + 2]; /* for the NUL behind a path that fills sun_path */
};

/* "the unix stream socket /run/x.sock", "the unix datagram socket @name", "a unix seqpacket socket"; any bytes are shown
 * as far as they can be. */
void unix_describe(uint32_t type, const void *name, size_t len, char ret[static UNIX_TEXT_MAX]);

/* Bytes of a name that the kernel gave; of a path with its NUL. At most UNIX_NAME_MAX. */
size_t unix_name_length(const struct sockaddr_un *a, socklen_t len);

/* A name as bind(2) and connect(2) want it. */
socklen_t unix_address(const void *name, size_t len, union unix_address *ret);

/* May the peer of this socket be outside of the tree (--ext-unix-sk, --external unix[INO])? */
bool unix_may_be_outside(const struct ckpt_options *opts, uint32_t ino, uint32_t peer);

/* ---- dump ---- */

struct unix_dumped {
        Img__UnixSk *msg;             /* NULL while the tree is only looked at ... */
        const struct dump_file *file; /* ... likewise */
        struct dump_task *task;
        uint32_t ino;
        const char *name; /* for messages: "pid 812 (redis): fd 7" */
        int number; /* while the tree is only looked at: of the task's descriptor; -1: it is in a queue */
        int fd;     /* a copy in ckpt, of one that has something in its queue */
        uint32_t bytes; /* in the queue; of a datagram socket: of the first message */
        bool pri;       /* there is urgent data in its queue that was not read */
        bool at_mark;   /* it is at the beginning of the queue, or was */
        const struct unix_early
                *early; /* of a listener: its clients, where unix_waiting_read() has read them */
        size_t nr_early;
        bool lost_files; /* ... and it could not, because of descriptors that nobody else has */
};
DEFINE_VEC(unix_dumped_vec, struct unix_dumped);
DEFINE_VEC(unix_fd_vec, int);

/* A path that sockets are bound to. */
struct unix_place {
        uint32_t dev, ino;
        bool deleted;
        const char *dir, *root, *moved_to;
        Img__FilePerms *perms;
};
DEFINE_VEC(unix_place_vec, struct unix_place);

struct unix_dump {
        struct unix_table table;
        bool frozen;                 /* it was asked for when the tree had been stopped */
        struct unix_dumped_vec seen; /* by look */
        struct unix_dumped_vec all;  /* by dump */
        struct unix_place_vec places;
        struct unix_fd_vec kept;        /* descriptors from queues that the registry refers to */
        bool holds;                     /* there are descriptors in queues */
        struct unix_holder_vec holders; /* when `holders_known`: frozen */
        bool holders_known;
        struct unix_memory early; /* clients that were not accepted are read by it, if unix_waiting_seen() */
        struct unix_memory queues; /* of others, if unix_queues_seen() */
};

/* Made at the first call. */
struct unix_dump *unix_dump(struct dump *d);
void unix_dump_free(struct unix_dump **u);

/*
 * The tree is dead, and ckpt has closed its copies: wait for the end of the sockets that were in the queues of others
 * (settle.c). Not for ever: something else may have them.
 */
void sock_await_end(struct dump *d);

/* Who has what to do with whom: adds a blocker for each socket whose other end, or client, is not in the tree. */
void unix_judge(struct dump *d, const struct unix_dumped_vec *socks, struct blockers *b);

/* Is there a peer that nobody has, neither in the tree nor outside? It is being closed by a process that exits. */
bool unix_any_lost(struct dump *d);

/* Fill in what is known of the path; adds to what stands against it. */
int unix_dump_path(struct dump *d, struct fd_probe *p, int fd, const struct unix_diag *diag,
                   Img__UnixSk *msg, struct ckpt_error *err);

/* Does the kernel's memory tell what queues consist of? Without it, urgent data cannot be carried over. From any thread. */
bool unix_queues_seen(struct dump *d);

/* Frozen: find the files of these messages, which have them by address; `stray` has descriptors of ckpt's. -ENOENT: one is nowhere. */
int unix_find_files(struct dump *d, struct peek *p, const struct unix_peeked *stray,
                    struct unix_peeked *first);

/* Write to sk-queues.img, *image, opened if need be. Registers descriptors that only queues have, and their queues. */
int unix_dump_queues(struct dump *d, struct image_file **image, struct ckpt_error *err);

/*
 * Clients that have sent something, or closed, before they were accepted (unix_waiting.c): can they be read here? Frozen: read them
 * for all listeners that have such; those whose `early` is still NULL could not be read. Then write what they sent.
 */
bool unix_waiting_seen(struct dump *d);

/*
 * While the tree is only looked at: 0 if there is nothing in what clients of this listener have sent that cannot be carried over;
 * -ENOENT: descriptors that nobody in the tree has; -EOPNOTSUPP: what is not seen here.
 */
int unix_waiting_look(struct dump *d, const struct unix_dumped *s);

void unix_waiting_read(struct dump *d);
int unix_waiting_write(struct dump *d, struct image_file **image, struct ckpt_error *err);

/* One message with what came with it; `early`: of which client of a listener, from 1; 0: it is in the socket's own queue. */
int unix_write_packet(struct dump *d, struct image_file *image, const struct unix_dumped *s, uint32_t early,
                      const struct unix_peeked *p, struct ckpt_error *err);

/* ---- restore ---- */

struct unix_packet {
        struct unix_packet *next;
        Img__SkPacket *msg; /* owned */
        char *data;         /* owned */
};

/* A client that waits in a listener. */
struct unix_early_client {
        const Img__UnixClient *gone; /* NULL: it is one of the images */
        int fd;                      /* in its place; -EBADF */
        struct unix_packet *first, *last;
        size_t bytes;
        bool marked; /* while they are loaded: there was unread urgent data */
};

struct unix_sock {
        struct restore_file *file;
        const Img__UnixSk *m;
        struct unix_sock *peer;    /* NULL: none, closed, or outside */
        struct unix_sock *partner; /* the other one of its socketpair(2) */
        struct unix_sock
                *listener; /* of one that was accepted: whose address it has; or itself, a stand-in */
        struct unix_packet *first, *last;
        struct unix_early_client *early; /* of a listener: as many as wait in it; owned */
        size_t bytes;                    /* in its queue */
        bool marked;                     /* as in unix_early_client */
        size_t most_bytes;               /* in a queue of others that it may have to fill */
        int fd;                          /* until it is open: then it is the file's */
        int node;                        /* O_PATH, of the path that it is bound to; -EBADF */
        int ghost;          /* the other end, when the peer has closed: until the queue is full; -EBADF */
        bool joined;        /* a datagram socket that is connected to what it should be */
        bool waits;         /* a client that nobody has accepted */
        bool accepted;      /* came from accept(2) */
        bool stand_in;      /* has no file: listens for those whose listener is gone */
        bool bound;         /* a path was made, which goes if the restore fails */
        size_t turned_away; /* who connected too early */
        bool listens;       /* for the time being, ... */
        const Img__UnixCred *listened; /* ... as this one */
};

struct unix_state {
        struct unix_sock *v; /* in the order of files->v */
        struct unix_sock **by_ino;
        size_t n;
        struct unix_sock *stand_ins;
        size_t nr_stand_ins;
        struct sock_defaults *defaults;
        bool own_fs, filled, done;
        bool urgent; /* somewhere */
};

/* NULL: there are no such files. */
struct unix_state *unix_state(const struct restore_files *files);
struct unix_sock *unix_by_ino(const struct unix_state *s, uint32_t ino);
int unix_load(struct restore *r, struct ckpt_error *err);

bool unix_name_is_valid(const ProtobufCBinaryData *name);

/*
 * The restore's half of unix_waiting.c: what is wrong with a listener's clients, or NULL; make u->early; connections have been made and
 * all files are open: send what was sent; last: close those that were closed.
 */
const char *unix_waiting_check(const Img__UnixSk *m);
int unix_waiting_load(struct unix_sock *u);
int unix_waiting_fill(struct restore *r, struct unix_state *s, struct unix_sock *u, struct ckpt_error *err);
int unix_waiting_end(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err);
void unix_waiting_free(struct unix_sock *u);
void unix_packets_free(struct unix_packet *first);

/* Send one message over the connection `from`, as it was sent. `what`: whose queue it comes to. */
int unix_send_packet(struct restore *r, int from, const struct unix_packet *p, const char *what,
                     struct ckpt_error *err);

/* How each is to be made: fills `accepted`, `listener`, and the stand-ins. -EBADMSG: there is no way. */
int unix_sort_out(struct unix_state *s, struct ckpt_error *err);
void unix_free(struct restore_files *files);

/* Its descriptor in ckpt. */
static inline int unix_fd(const struct unix_sock *s) {
        return s->fd >= 0 || !s->file ? s->fd : s->file->fd;
}

/* Bind it as it was, with owner and mode; fills s->node. */
int unix_bind(struct unix_state *state, struct unix_sock *s, struct ckpt_error *err);

/* Give `fd` a name that is of no consequence to anybody else: a path on a filesystem that nobody sees. */
int unix_bind_unseen(struct unix_state *state, int fd, const void *name, size_t len, struct ckpt_error *err);

/* The same for any name, if there is one; an abstract one that is in use is left out. */
int unix_bind_stranger(struct unix_state *state, int fd, const ProtobufCBinaryData *name,
                       struct ckpt_error *err);

/* Can that path be bound here? Adds to `b`. */
void unix_check_path(const Img__UnixSk *m, struct blockers *b);

/* The restore has failed: remove the path. */
void unix_unbind(const struct unix_sock *s);

/* ---- who makes it: the ids that SO_PEERCRED tells are those of who called ---- */

/* The pid of who makes what is made with `cred`: SO_PEERCRED of the other end will tell it. */
pid_t unix_maker(struct restore *r, const Img__UnixCred *cred);

/* `n` pairs in *ret; made by that process if it is one of the tree. `cred` may be NULL. */
int unix_make_pairs(struct restore *r, const Img__UnixCred *cred, uint32_t type, size_t n, int (*ret)[2],
                    struct ckpt_error *err);
int unix_make_listen(struct restore *r, const Img__UnixCred *cred, int fd, uint32_t backlog,
                     struct ckpt_error *err);

/* Connect to a path by its node, or (node < 0) to a name. -EAGAIN: too many wait there to be accepted. */
int unix_make_connect(struct restore *r, const Img__UnixCred *cred, int fd, int node, const void *name,
                      size_t len, struct ckpt_error *err);

int unix_check(struct restore *r, struct restore_file *file, struct image_file *image,
               struct ckpt_error *err);
int unix_open(struct restore *r, struct restore_file *file, struct ckpt_error *err);
int unix_finish(struct restore *r, struct restore_file *file, struct ckpt_error *err);

/* Fill the queues, connect datagram sockets, and set what comes last. All files are open. */
int unix_finish_all(struct restore *r, struct ckpt_error *err);
