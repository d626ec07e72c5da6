/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the kernel stands in the rings of a socket whose program stands still, while the network does not. */
#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/mman.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/ring.h"

enum { TRIES = 1000 };

struct view {
        char *base;
        uint64_t size;
};

static void view_done(struct view *v) {
        if (v->base)
                munmap(v->base, v->size);
}

static int view_open(int fd, const Img__PacketSock *psk, struct view *ret) {
        uint64_t size = ring_size(psk->rx_ring) + ring_size(psk->tx_ring);
        void *base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

        if (base == MAP_FAILED)
                return -errno;
        *ret = (struct view){ base, size };
        return 0;
}

static bool same_place(const Img__PacketRing *a, const Img__PacketRing *b) {
        return a->head == b->head && a->next_seq == b->next_seq && a->frozen == b->frozen &&
               a->has_last == b->has_last && a->last == b->last && a->fill == b->fill;
}

/* Nobody holds the kernel while the memory is being read: what comes out twice in a row was true. */
static int derive(const struct ring *ring, Img__PacketRing *ret) {
        Img__PacketRing before = IMG__PACKET_RING__INIT, now;
        int r = -EAGAIN;

        for (size_t i = 0; i < TRIES; i++) {
                now = (Img__PacketRing)IMG__PACKET_RING__INIT;
                r = ring_derive(ring, &now);
                if (r == 0 && i > 0 && same_place(&before, &now)) {
                        *ret = now;
                        return 0;
                }
                before = now;
        }
        return r < 0 ? r : -EAGAIN;
}

/* -EOPNOTSUPP: without BPF, such rings do not tell. */
static int read_state(const struct ring_reader *reader, int fd, const Img__PacketSock *psk, char *base,
                      struct ring_state *ret) {
        struct ring_state state = { .rx = IMG__PACKET_RING__INIT, .tx = IMG__PACKET_RING__INIT };
        struct ring rx;
        int r;

        if (reader)
                return ring_state_read(reader, fd, psk->rx_ring, psk->tx_ring, psk->version, ret);
        if (psk->version != TPACKET_V3 || !psk->rx_ring || psk->tx_ring)
                return -EOPNOTSUPP;
        rx = ring_of(psk->rx_ring, psk->version, true, base);
        r = derive(&rx, &state.rx);
        if (r == 0)
                *ret = state;
        return r;
}

static void take_place(const Img__PacketRing *place, Img__PacketRing *m) {
        m->has_head = place->has_head;
        m->head = place->head;
        m->has_next_seq = place->has_next_seq;
        m->next_seq = place->next_seq;
        m->has_frozen = place->has_frozen;
        m->frozen = place->frozen;
        m->has_last = place->has_last;
        m->last = place->last;
        m->has_fill = place->has_fill;
        m->fill = place->fill;
}

static uint64_t closed(const Img__PacketRing *m) {
        return m->next_seq - 1 - (m->has_frozen && m->frozen ? 0 : 1);
}

/* How many frames or blocks the kernel has used up from one look to the other: not more than were its own. */
static uint32_t moved(const struct ring *ring, const struct ring_state *from, const struct ring_state *to) {
        uint32_t n;

        if (ring->blocks)
                return (uint32_t)MIN(closed(&to->rx) - closed(&from->rx), (uint64_t)ring->n);
        n = (uint32_t)(((uint64_t)to->rx.head + ring->n - from->rx.head) % ring->n);
        return n == 0 && to->packets - from->packets >= ring->n ? ring->n : n;
}

static void note_free(const struct ring *ring, Img__PacketRing *m, struct arena *arena) {
        m->has_free = true;
        m->free.len = (ring->n + 7) / 8;
        m->free.data = arena_alloc(arena, m->free.len);
        memset(m->free.data, 0, m->free.len);
        for (uint32_t i = 0; i < ring->n; i++)
                if (ring_status(ring, i) == TP_STATUS_KERNEL)
                        m->free.data[i / 8] |= (uint8_t)(1 << i % 8);
}

/* `n` from the kernel's place on. */
static void mark_free(const struct ring *ring, uint32_t n) {
        uint32_t at = ring->m->head;

        for (uint32_t i = 0; i < n; i++) {
                ring->m->free.data[at / 8] |= (uint8_t)(1 << at % 8);
                at = at + 1 < ring->n ? at + 1 : 0;
        }
}

static int check_place(const struct ring *ring) {
        uint32_t n;

        if (ring_check(ring->m, ring->version, true))
                return -ENODATA;
        if (!ring->m->has_last)
                return 0;
        return ring_count(ring_at(ring, ring->m->head), ring->m->block_size, ring->m->last, &n);
}

/* What came in between the two looks at the kernel counts as not received. */
static int snapshot(const struct ring_reader *reader, int fd, Img__PacketSock *psk, char *base,
                    struct arena *arena, uint32_t *ret_mapped) {
        struct ring_state from, to;
        struct ring rx;
        int r = read_state(reader, fd, psk, base, &from);

        if (r < 0)
                return r;
        *ret_mapped = from.mapped > 0 ? from.mapped - 1 : 0; /* without ours */
        if (psk->tx_ring)
                take_place(&from.tx, psk->tx_ring);
        if (psk->tx_ring && ring_check(psk->tx_ring, psk->version, false))
                return -ENODATA;
        if (!psk->rx_ring)
                return 0;
        take_place(&from.rx, psk->rx_ring);
        rx = ring_of(psk->rx_ring, psk->version, true, base);
        r = check_place(&rx);
        if (r < 0)
                return r;
        note_free(&rx, psk->rx_ring, arena);
        r = read_state(reader, fd, psk, base, &to);
        if (r < 0)
                return r;
        mark_free(&rx, moved(&rx, &from, &to));
        return 0;
}

static const char *too_far(const Img__PacketSock *psk, const char **ret_hint) {
        if (psk->version != TPACKET_V3 || !psk->rx_ring || ring_work(psk->rx_ring) <= RING_WORK_MAX)
                return NULL;
        *ret_hint = "Have the program make a new ring";
        return "has a ring of which so many blocks have been used that it would take minutes to use as many again";
}

static const char *why_not(int r, const char **ret_hint) {
        if (r == -EOPNOTSUPP) {
                *ret_hint = "Run ckpt with CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), on a kernel with BTF";
                return "has a ring, and only BPF tells where the kernel is in it";
        }
        *ret_hint = "Have the program read it with TPACKET_V3, or without a ring";
        return r == -EBADMSG ? "has a ring into which the program has written where only the kernel may"
                             : "has a ring, and it cannot be told where the kernel is in it";
}

int ring_dump(const struct ring_reader *reader, int fd, Img__PacketSock *psk, struct arena *arena,
              uint32_t *ret_mapped, const char *name, struct ckpt_error *err) {
        _cleanup_(view_done) struct view v = { 0 };
        const char *hint = NULL, *why = NULL;
        int r = view_open(fd, psk, &v);

        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot map the rings of this packet socket", name);
        r = snapshot(reader, fd, psk, v.base, arena, ret_mapped);
        why = r < 0 ? why_not(r, &hint) : too_far(psk, &hint);
        if (!why)
                return 0;
        ckpt_error(err, r < 0 ? r : -ENOTSUP, "%s is a packet socket that %s", name, why);
        return ckpt_error_hint(err, "%s", hint);
}

const char *ring_look(const struct ring_reader *reader, int fd, const Img__PacketSock *psk,
                      const char **ret_hint) {
        _cleanup_(view_done) struct view v = { 0 };
        Img__PacketRing rx = IMG__PACKET_RING__INIT;
        Img__PacketSock copy = *psk;
        struct ring_state state;
        int r = view_open(fd, psk, &v);

        if (r == 0)
                r = read_state(reader, fd, psk, v.base, &state);
        if (r < 0)
                return why_not(r, ret_hint);
        if (!psk->rx_ring)
                return NULL;
        rx = *psk->rx_ring;
        take_place(&state.rx, &rx);
        copy.rx_ring = &rx;
        return too_far(&copy, ret_hint);
}
