/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs that distribute what arrives among the sockets of a SO_REUSEPORT group (SO_ATTACH_REUSEPORT_CBPF, _EBPF). No call
 * tells of them: they are read from the kernel's memory. The program's result is the place of a socket in its group, so
 * that the sockets have to come back in the same order.
 */
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/peek.h"
#include "log.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/restore.h"

enum { GROUP_MAX = 65535 };

bool reuseport_is_set(int fd) {
        return sock_option(fd, SO_REUSEPORT) > 0;
}

/* ---- dump ---- */

struct found {
        uint64_t group, n; /* its address; sockets in it */
        uint64_t place;
        uint64_t orig; /* the classic program; 0: it is an eBPF program */
        struct sock_filter code[BPF_MAXINSNS];
        size_t len;
};

static int read_code(struct peek *p, struct found *ret) {
        uint64_t len = 0, at = 0;
        int r;

        r = peek_number(p, ret->orig, PEEK_sock_fprog_kern__len, &len);
        if (r == 0)
                r = peek_number(p, ret->orig, PEEK_sock_fprog_kern__filter, &at);
        if (r == 0 && (len == 0 || len > ELEMENTSOF(ret->code)))
                r = -ENODATA;
        if (r == 0)
                r = peek_bytes(p, at, ret->code, len * sizeof(*ret->code));
        ret->len = (size_t)len;
        return r;
}

static int find_place(struct peek *p, uint64_t sk, struct found *ret) {
        uint64_t at, socks[512];
        int r;

        r = peek_number(p, ret->group, PEEK_sock_reuseport__num_socks, &ret->n);
        if (r == 0)
                r = peek_place(p, ret->group, PEEK_sock_reuseport__socks, &at);
        for (uint64_t i = 0; r == 0 && i < ret->n; i += ELEMENTSOF(socks)) {
                size_t n = MIN((size_t)(ret->n - i), ELEMENTSOF(socks));

                r = peek_bytes(p, at + i * sizeof(*socks), socks, n * sizeof(*socks));
                for (size_t k = 0; r == 0 && k < n; k++)
                        if (socks[k] == sk) {
                                ret->place = i + k;
                                return 0;
                        }
        }
        return r < 0 ? r : -ENODATA;
}

/* 1: there is a program; 0: there is none. */
static int find_program(struct peek *p, int fd, struct found *ret) {
        uint64_t sk, prog = 0;
        int r;

        ret->group = 0;
        r = peek_sock(p, fd, &sk);
        if (r == 0)
                r = peek_number(p, sk, PEEK_sock__sk_reuseport_cb, &ret->group);
        if (r < 0 || ret->group == 0)
                return r;
        r = peek_number(p, ret->group, PEEK_sock_reuseport__prog, &prog);
        if (r < 0 || prog == 0)
                return r;
        r = find_place(p, sk, ret);
        if (r == 0)
                r = peek_number(p, prog, PEEK_bpf_prog__orig_prog, &ret->orig);
        if (r == 0 && ret->orig != 0)
                r = read_code(p, ret);
        return r < 0 ? r : 1;
}

/* Does it work on a program that is known? */
static bool prove(struct peek *p, void *arg __attribute__((unused))) {
        struct sock_filter code[] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
                                      BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0x5ca1ab1e),
                                      BPF_STMT(BPF_RET | BPF_A, 0) };
        const struct sock_fprog prog = { ELEMENTSOF(code), code };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_free_ struct found *found = malloc(sizeof(*found));
        int on = 1;

        ckpt_assert(found);
        return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
               find_program(p, fd, found) == 0 &&
               setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) == 0 &&
               find_program(p, fd, found) == 1 && found->n == 1 && found->place == 0 &&
               found->len == ELEMENTSOF(code) && memcmp(found->code, code, sizeof(code)) == 0;
}

/* As find_program(); *ret is the caller's. */
static int look_for_program(struct dump *d, int fd, struct found **ret) {
        struct peek *p = dump_peek_for(d, DUMP_PEEK_REUSEPORT, prove, NULL);
        int r;

        *ret = NULL;
        if (!p)
                return 0;
        *ret = malloc(sizeof(**ret));
        ckpt_assert(*ret);
        r = find_program(p, fd, *ret);
        if (r < 0)
                log_debug("whether a socket's SO_REUSEPORT group has a program cannot be read");
        return MAX(r, 0);
}

static const char ebpf[] = "it is in a SO_REUSEPORT group with an eBPF program (SO_ATTACH_REUSEPORT_EBPF), "
                           "which cannot be carried over";
static const char ebpf_hint[] =
        "Have the program use a classic one (SO_ATTACH_REUSEPORT_CBPF), or detach it for the "
        "time of the dump (SO_DETACH_REUSEPORT_BPF)";

/* The number of its group. */
static size_t note(struct dump_socks *s, const struct found *found, const char *name) {
        struct reuseport_group *g = NULL;

        for (size_t i = 0; !g && i < s->reuseport.n; i++)
                if (s->reuseport.v[i].addr == found->group)
                        g = &s->reuseport.v[i];
        if (!g) {
                g = reuseport_group_vec_add(&s->reuseport);
                ckpt_assert(g);
                *g = (struct reuseport_group){ .addr = found->group,
                                               .n = found->n,
                                               .known = calloc(found->n, sizeof(bool)),
                                               .name = arena_strdup(&s->arena, name) };
                ckpt_assert(g->known);
        }
        g->changed |= found->n != g->n;
        if (found->place < g->n)
                g->known[found->place] = true;
        return (size_t)(g - s->reuseport.v);
}

void reuseport_dump_free(struct dump_socks *s) {
        for (size_t i = 0; i < s->reuseport.n; i++)
                free(s->reuseport.v[i].known);
        reuseport_group_vec_done(&s->reuseport);
}

void reuseport_look(struct dump *d, int fd, const char *name, struct blockers *b) {
        _cleanup_free_ struct found *found = NULL;

        if (look_for_program(d, fd, &found) == 0)
                return;
        if (found->orig == 0)
                blocker_add(b, ebpf_hint, "%s: %s", name, ebpf);
        else if (d->checking)
                note(dump_socks(d), found, name);
}

int reuseport_dump(struct dump *d, int fd, Img__InetSk *isk, const char *name, struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        _cleanup_free_ struct found *found = NULL;
        struct dump_socks *s = dump_socks(d);
        Img__SkReuseport *msg;
        size_t number;

        if (look_for_program(d, fd, &found) <= 0)
                return 0;
        if (found->orig == 0) {
                ckpt_error(err, -ENOTSUP, "%s: %s; the tree runs on as before", name, ebpf);
                return ckpt_error_hint(err, "%s", ebpf_hint);
        }
        number = note(s, found, name);
        msg = arena_message(arena, Img__SkReuseport, img__sk_reuseport__init);
        msg->group = (uint32_t)number + 1;
        msg->place = (uint32_t)found->place;
        if (found->place == 0) {
                _Static_assert(sizeof(*found->code) == sizeof(*msg->program), "one number each");
                msg->program = arena_copy(arena, found->code, found->len * sizeof(*found->code));
                msg->n_program = found->len;
        }
        isk->reuseport = msg;
        return 0;
}

static bool is_whole(const struct reuseport_group *g) {
        for (uint64_t i = 0; i < g->n; i++)
                if (!g->known[i])
                        return false;
        return !g->changed;
}

static const char partly[] =
        "is in a SO_REUSEPORT group with a program (SO_ATTACH_REUSEPORT_CBPF) whose other sockets are not all "
        "in the tree, so that their places in it could not be given back";
static const char partly_hint[] = "Dump all processes that listen there as one tree, or detach the program "
                                  "(SO_DETACH_REUSEPORT_BPF)";

void reuseport_look_groups(struct dump *d, struct blockers *b) {
        for (size_t i = 0; i < d->socks->reuseport.n; i++)
                if (!is_whole(&d->socks->reuseport.v[i]))
                        blocker_add(b, partly_hint, "%s %s", d->socks->reuseport.v[i].name, partly);
}

int reuseport_check_groups(struct dump *d, struct ckpt_error *err) {
        for (size_t i = 0; i < d->socks->reuseport.n; i++) {
                const struct reuseport_group *g = &d->socks->reuseport.v[i];

                if (is_whole(g))
                        continue;
                ckpt_error(err, -ENOTSUP, "%s %s; the tree runs on as before", g->name, partly);
                return ckpt_error_hint(err, "%s", partly_hint);
        }
        return 0;
}

/* ---- restore ---- */

const char *reuseport_check(const Img__InetSk *isk) {
        const Img__SkReuseport *g = isk->reuseport;

        return !g ? NULL
               : g->place > GROUP_MAX || g->n_program > BPF_MAXINSNS ||
                               (g->place == 0) != (g->n_program > 0) || inet_is_connection(isk)
                       ? "has an impossible SO_REUSEPORT group"
                       : NULL;
}

static int compare_places(const void *a, const void *b) {
        const Img__SkReuseport *x = (*(struct inet_file *const *)a)->isk->reuseport;
        const Img__SkReuseport *y = (*(struct inet_file *const *)b)->isk->reuseport;

        if (x->group != y->group)
                return x->group < y->group ? -1 : 1;
        return (x->place > y->place) - (x->place < y->place);
}

int reuseport_load(struct inet_state *s, struct ckpt_error *err) {
        for (size_t i = 0; i < s->n; i++)
                if (s->v[i].isk->reuseport && inet_file_ref_vec_push(&s->grouped, &s->v[i]) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "cannot load the sockets");
        if (s->grouped.n == 0)
                return 0;
        qsort(s->grouped.v, s->grouped.n, sizeof(*s->grouped.v), compare_places);
        for (size_t i = 0; i < s->grouped.n; i++) {
                const Img__SkReuseport *g = s->grouped.v[i]->isk->reuseport;
                const Img__SkReuseport *last = i > 0 ? s->grouped.v[i - 1]->isk->reuseport : NULL;

                if (g->place != (last && last->group == g->group ? last->place + 1 : 0))
                        return ckpt_error(
                                err, -EBADMSG,
                                "the images are damaged: a SO_REUSEPORT group has a place that none or "
                                "two of its sockets have; nothing was created");
        }
        return 0;
}

int reuseport_open_earlier(struct restore *r, struct inet_file *f, struct ckpt_error *err) {
        const struct inet_file_ref_vec *all = &inet_state(r)->grouped;
        struct inet_file *const *at;
        int rc = 0;

        if (!f->isk->reuseport || f->isk->reuseport->place == 0)
                return 0;
        at = bsearch(&f, all->v, all->n, sizeof(*all->v), compare_places);
        ckpt_assert(at);
        for (at -= f->isk->reuseport->place; rc == 0 && *at != f; at++)
                rc = (*at)->fd >= 0 ? 0 : fd_file_open(r, (*at)->file, err);
        return rc;
}

/* When all are there, and no datagram of ours has to be brought to one of them. */
int reuseport_restore(const struct inet_file *f, const char *what, struct ckpt_error *err) {
        const Img__SkReuseport *g = f->isk->reuseport;
        struct sock_fprog prog = { 0 };

        if (!g || g->place != 0 || f->closed)
                return 0;
        prog.len = (unsigned short)g->n_program;
        prog.filter = (struct sock_filter *)g->program;
        if (setsockopt(f->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) < 0)
                return ckpt_error_errno(err, -errno,
                                        "%s: cannot attach the program of its SO_REUSEPORT group", what);
        return 0;
}
