/* SPDX-License-Identifier: GPL-2.0-only */
/* The sockets with rings of a tree that is dumped, and who has mapped them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/pipe.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "sock/inet.h"
#include "sock/ring.h"
#include "sock/sock.h"

/* A socket with a ring, as look or dump has seen it. */
struct ring_socket {
        uint64_t ino;
        uint32_t id;     /* in files.img; 0: not yet */
        uint32_t mapped; /* areas that the kernel counts; 0: not known */
        uint32_t areas;  /* those of the tree */
        const char *name;
};
DEFINE_VEC(ring_socket_vec, struct ring_socket);

struct packet_rings {
        struct ring_reader *reader; /* NULL: not to be had, or not tried yet */
        bool tried;
        struct ring_socket_vec all;
};

void packet_rings_free(struct packet_rings **r) {
        if (!*r)
                return;
        ring_reader_free(&(*r)->reader);
        ring_socket_vec_done(&(*r)->all);
        free(*r);
        *r = NULL;
}

static struct packet_rings *rings_of(struct dump *d) {
        struct dump_socks *s = dump_socks(d);

        if (!s->rings) {
                s->rings = calloc(1, sizeof(*s->rings));
                ckpt_assert(s->rings);
        }
        return s->rings;
}

static const struct ring_reader *reader_of(struct dump *d) {
        struct packet_rings *rings = rings_of(d);
        int r = rings->tried ? 0 : bpf_load(d->bpf);

        if (!rings->tried && r == 0)
                r = ring_reader_open(d->bpf, &rings->reader);
        rings->tried = true;
        if (r < 0)
                log_debug("the rings of packet sockets are read without BPF (%s)", strerror(-r));
        return rings->reader;
}

static struct ring_socket *find_ring(struct dump *d, uint64_t ino) {
        struct ring_socket_vec *all = d->socks && d->socks->rings ? &d->socks->rings->all : NULL;

        for (size_t i = 0; all && i < all->n; i++)
                if (all->v[i].ino == ino)
                        return &all->v[i];
        return NULL;
}

static struct ring_socket *note_ring(struct dump *d, uint64_t ino, const char *name) {
        struct ring_socket *s = find_ring(d, ino);

        if (!s) {
                s = ring_socket_vec_add(&rings_of(d)->all);
                ckpt_assert(s);
                *s = (struct ring_socket){ .ino = ino, .name = name };
        }
        return s;
}

void rings_look(struct fd_probe *p, int fd, const Img__PacketSock *psk, struct blockers *b) {
        const char *hint = NULL, *why;
        pid_t outside;

        note_ring(p->task->dump, p->st.stx_ino, fd_probe_name(p));
        why = ring_look(reader_of(p->task->dump), fd, psk, &hint);
        if (why)
                blocker_add(b, hint, "%s is a packet socket that %s", fd_probe_name(p), why);
        outside = sock_foreign_holder(p->task->dump, p->st.stx_ino);
        if (outside > 0)
                blocker_add(
                        b, "Dump a tree that has all of its holders, or have the others close it",
                        "%s is a packet socket with a ring that pid %d, outside of the tree, has open as well",
                        fd_probe_name(p), outside);
}

void packet_look_tree(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                for (size_t j = 0; j < d->tasks[i]->smaps.n; j++) {
                        const struct proc_vma *vma = &d->tasks[i]->smaps.v[j].vma;
                        uint64_t ino;

                        if (!vma->shared || !mem_is_socket(vma, &ino) || find_ring(d, ino))
                                continue;
                        blocker_add(
                                d->blockers,
                                "Have the program read what it receives without a mapping "
                                "(TCP_ZEROCOPY_RECEIVE), or keep the socket open, or end it",
                                "%s: the mapping at %#llx is the memory of a socket that is no packet socket "
                                "which the tree has open, which cannot be checkpointed yet",
                                dump_task_name(d->tasks[i]), (unsigned long long)vma->start);
                }
        /* What was told until now may have changed by the time of the freeze. */
        if (d->socks)
                packet_table_free(&d->socks->packets);
}

int rings_dump(struct dump *d, int fd, uint64_t ino, const char *name, Img__PacketSock *psk,
               struct ckpt_error *err) {
        struct ring_socket *s;
        int r;

        s = note_ring(d, ino, name);
        r = ring_dump(reader_of(d), fd, psk, &dump_files(d)->arena, &s->mapped, name, err);
        s->id = psk->id;
        psk->has_shmid = true;
        psk->shmid = MEM_RING_ID | psk->id;
        return r;
}

static int note_area(void *arg, struct dump_task *t, const struct proc_vma *vma, Img__Vma *msg) {
        struct ring_socket *s = find_ring(t->dump, vma->ino);
        struct ckpt_error *err = arg;

        if (!s || s->id == 0)
                return ckpt_error(
                        err, -EAGAIN,
                        "%s: the mapping at %#llx is the memory of a socket that the tree has not open; "
                        "the tree runs on as before",
                        dump_task_name(t), (unsigned long long)vma->start);
        s->areas++;
        msg->shmid = s->id;
        return 0;
}

int packet_collect_mapped(struct dump *d, struct ckpt_error *err) {
        int r = mem_each_socket(d, note_area, err);

        for (size_t i = 0; r == 0 && d->socks && d->socks->rings && i < d->socks->rings->all.n; i++) {
                const struct ring_socket *s = &d->socks->rings->all.v[i];

                if (s->id != 0 && s->mapped > s->areas) {
                        ckpt_error(
                                err, -ENOTSUP,
                                "%s is a packet socket with a ring that a process outside of the tree has mapped; the tree runs on as before",
                                s->name);
                        r = ckpt_error_hint(err, "Dump a tree that has all of its users, or end the others");
                }
        }
        return r;
}

static int save_ring(struct dump *d, const struct dump_file *file, struct ckpt_error *err) {
        const Img__PacketSock *psk = file->msg->psk;
        uint64_t size = ring_size(psk->rx_ring) + ring_size(psk->tx_ring);
        _cleanup_close_ int fd = dump_file_get(file);
        void *base;
        int r;

        base = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
                return ckpt_error_errno(err, fd < 0 ? fd : -errno,
                                        "%s: cannot map the rings of a packet socket",
                                        dump_task_name(file->task));
        r = mem_save_mapping(d, base, size, psk->shmid, dump_task_name(file->task), err);
        munmap(base, size);
        return r;
}

int rings_save(struct dump *d, struct ckpt_error *err) {
        const struct dump_file_vec *all = &dump_files(d)->all;
        int r = 0;

        for (size_t i = 0; r == 0 && i < all->n; i++)
                if (all->v[i]->kind == &fd_kind_packet && all->v[i]->msg->psk->has_shmid)
                        r = save_ring(d, all->v[i], err);
        return r;
}
