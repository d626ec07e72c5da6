/* SPDX-License-Identifier: GPL-2.0-only */
/* Rings as memory: where what is, and what the kernel writes there. */
#include "sock/ring.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>

#include "macro.h"

#define RING_MAX (4ULL << 30) /* bytes; more is no ring that anybody had */

enum {
        BLOCKS_MAX = 1 << 16, /* of TPACKET_V3: the kernel counts them in 16 bits */
        BLOCK_ALIGN = 8,
};

static uint32_t block_head(const Img__PacketRing *m) {
        uint32_t descriptor = (uint32_t)sizeof(struct tpacket_block_desc);

        return (descriptor + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN +
               (m->sizeof_priv + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
}

static uint32_t frame_head(uint32_t version) {
        return version == TPACKET_V1   ? TPACKET_HDRLEN
               : version == TPACKET_V2 ? TPACKET2_HDRLEN
                                       : TPACKET3_HDRLEN;
}

struct ring ring_of(const Img__PacketRing *m, uint32_t version, bool rx, char *base) {
        bool blocks = rx && version == TPACKET_V3;

        return (struct ring){ version, blocks, m, base, blocks ? m->block_nr : m->frame_nr };
}

uint64_t ring_size(const Img__PacketRing *m) {
        return m ? (uint64_t)m->block_size * m->block_nr : 0;
}

char *ring_at(const struct ring *ring, uint32_t i) {
        const Img__PacketRing *m = ring->m;
        uint32_t in_block = m->block_size / m->frame_size;

        if (ring->blocks)
                return ring->base + (uint64_t)m->block_size * i;
        return ring->base + (uint64_t)m->block_size * (i / in_block) +
               (uint64_t)m->frame_size * (i % in_block);
}

static uint32_t *status_word(const struct ring *ring, uint32_t i) {
        char *at = ring_at(ring, i);

        if (ring->blocks)
                return &((struct tpacket_block_desc *)at)->hdr.bh1.block_status;
        return ring->version == TPACKET_V3 ? &((struct tpacket3_hdr *)at)->tp_status
                                           : &((struct tpacket2_hdr *)at)->tp_status;
}

uint64_t ring_status(const struct ring *ring, uint32_t i) {
        if (ring->version == TPACKET_V1)
                return __atomic_load_n(&((struct tpacket_hdr *)ring_at(ring, i))->tp_status,
                                       __ATOMIC_ACQUIRE);
        return __atomic_load_n(status_word(ring, i), __ATOMIC_ACQUIRE);
}

void ring_set_status(const struct ring *ring, uint32_t i, uint64_t status) {
        if (ring->version == TPACKET_V1)
                __atomic_store_n(&((struct tpacket_hdr *)ring_at(ring, i))->tp_status, status,
                                 __ATOMIC_RELEASE);
        else
                __atomic_store_n(status_word(ring, i), (uint32_t)status, __ATOMIC_RELEASE);
}

/* ---- measures ---- */

static const char *check_size(const Img__PacketRing *m) {
        if (m->block_size == 0 || m->block_nr == 0 || m->frame_size == 0 || m->frame_nr == 0 ||
            m->block_size > INT32_MAX || ring_size(m) > RING_MAX)
                return "has a ring of an impossible size";
        if (m->block_size % PAGE_SIZE != 0 || m->frame_size % TPACKET_ALIGNMENT != 0 ||
            m->frame_size > m->block_size ||
            (uint64_t)(m->block_size / m->frame_size) * m->block_nr != m->frame_nr)
                return "has a ring whose frames and blocks do not fit into each other";
        return NULL;
}

static bool frozen(const Img__PacketRing *m) {
        return m->has_frozen && m->frozen;
}

/* Blocks are opened one after the other, and each gets the next number. */
static const char *check_blocks(const Img__PacketRing *m) {
        uint64_t opened;

        if (m->block_nr > BLOCKS_MAX || m->sizeof_priv > m->block_size ||
            (uint64_t)block_head(m) + TPACKET3_HDRLEN > m->block_size)
                return "has a ring of impossible blocks";
        if (!m->has_next_seq)
                return m->has_head || m->has_last || frozen(m) ? "has a ring without sequence numbers"
                                                               : NULL;
        opened = m->next_seq - 1;
        if (m->next_seq < 2 || m->head != (frozen(m) ? opened : opened - 1) % m->block_nr)
                return "has a ring in which the kernel cannot be where it is said to be";
        if (m->has_last &&
            (frozen(m) || !m->has_fill || m->last % BLOCK_ALIGN != 0 || m->last < block_head(m) ||
             m->fill > m->block_size || (uint64_t)m->last + sizeof(struct tpacket3_hdr) > m->fill))
                return "has a ring with impossible packets in its open block";
        return NULL;
}

const char *ring_check(const Img__PacketRing *m, uint32_t version, bool rx) {
        const char *why = check_size(m);
        struct ring ring;

        if (why)
                return why;
        if (m->frame_size < frame_head(version))
                return "has a ring of too small frames";
        ring = ring_of(m, version, rx, NULL);
        if (m->has_head && m->head >= ring.n)
                return "has a ring in which the kernel is behind its end";
        if (m->has_free && m->free.len != (ring.n + 7) / 8)
                return "has a ring that tells too little or too much of its frames";
        return ring.blocks ? check_blocks(m) : NULL;
}

/* An open block without packets need not be used up: the kernel opens it when it needs it. */
uint64_t ring_closings(const Img__PacketRing *m) {
        uint64_t opened = m->has_next_seq ? m->next_seq - 1 : 1;

        return frozen(m) || m->has_last ? opened : opened - 1;
}

bool ring_is_used(const Img__PacketRing *m, uint32_t version) {
        return version == TPACKET_V3 ? ring_closings(m) > 0 : m->has_head && m->head > 0;
}

uint64_t ring_work(const Img__PacketRing *m) {
        uint64_t work, least = 64 << 10; /* small blocks cost as much as those do */

        if (__builtin_mul_overflow(ring_closings(m), MAX((uint64_t)m->block_size, least), &work))
                return UINT64_MAX;
        return work;
}

/* ---- blocks ---- */

static struct tpacket3_hdr *packet_at(const char *block, uint64_t size, uint64_t at) {
        if (at % BLOCK_ALIGN != 0 || at + sizeof(struct tpacket3_hdr) > size)
                return NULL;
        return (struct tpacket3_hdr *)(uintptr_t)(block + at);
}

int ring_count(const char *block, uint64_t size, uint32_t last, uint32_t *ret) {
        const struct tpacket_block_desc *d = (const struct tpacket_block_desc *)block;
        uint64_t at = d->hdr.bh1.offset_to_first_pkt;
        uint32_t n = 1;

        while (at != last) {
                const struct tpacket3_hdr *p = packet_at(block, size, at);
                uint32_t step = p ? p->tp_next_offset : 0;

                if (step < sizeof(*p) || at > last)
                        return -EBADMSG;
                at += step;
                n++;
        }
        if (!packet_at(block, size, last))
                return -EBADMSG;
        *ret = n;
        return 0;
}

int ring_close_block(char *block, const Img__PacketRing *m) {
        struct tpacket_hdr_v1 *h = &((struct tpacket_block_desc *)block)->hdr.bh1;
        struct tpacket3_hdr *last;
        uint32_t n;
        int r = ring_count(block, m->block_size, m->last, &n);

        if (r < 0)
                return r;
        last = packet_at(block, m->block_size, m->last);
        last->tp_next_offset = 0;
        h->num_pkts = n;
        h->blk_len = m->fill;
        h->seq_num = m->next_seq - 1;
        h->ts_last_pkt.ts_sec = last->tp_sec;
        h->ts_last_pkt.ts_nsec = last->tp_nsec;
        return 0;
}

/* ---- the place of the kernel, by what it has written ---- */

static const struct tpacket_hdr_v1 *head_of(const struct ring *ring, uint32_t i) {
        return &((const struct tpacket_block_desc *)ring_at(ring, i))->hdr.bh1;
}

/* All blocks have the numbers that they were opened with, the one with the highest last. */
static bool numbers_are_sound(const struct ring *ring, uint32_t at, uint64_t highest) {
        if (highest == 0 || (highest - 1) % ring->n != at)
                return false;
        for (uint32_t back = 0; back < ring->n; back++) {
                uint64_t seq = head_of(ring, (at + ring->n - back) % ring->n)->seq_num;

                if (seq != (highest > back ? highest - back : 0))
                        return false;
        }
        return true;
}

/* Of the packets in a block that nobody but the kernel has had: the last. */
static int find_last(const char *block, const Img__PacketRing *m, uint32_t n, uint32_t *ret) {
        uint64_t at = ((const struct tpacket_block_desc *)block)->hdr.bh1.offset_to_first_pkt;
        const struct tpacket3_hdr *p = NULL;

        for (uint32_t i = 0; i < n; i++) {
                if (p)
                        at += p->tp_next_offset;
                if (p && p->tp_next_offset < sizeof(*p))
                        return -ENODATA;
                p = packet_at(block, m->block_size, at);
                if (!p)
                        return -ENODATA;
        }
        *ret = (uint32_t)at;
        return 0;
}

/*
 * Of a block without packets that is the kernel's: open, or closed so, since a packet needed all of the next, and given back?
 * A block that is closed gets a time later than when it was opened.
 */
static bool is_surely_open(const struct ring *ring, uint32_t at) {
        const struct tpacket_hdr_v1 *h = head_of(ring, at);
        uint32_t next = (at + 1) % ring->n;

        if (h->ts_last_pkt.ts_sec > h->ts_first_pkt.ts_sec ||
            (h->ts_last_pkt.ts_sec == h->ts_first_pkt.ts_sec &&
             h->ts_last_pkt.ts_nsec >= h->ts_first_pkt.ts_nsec))
                return false;
        return next == at || !(ring_status(ring, next) & TP_STATUS_USER);
}

int ring_derive(const struct ring *ring, Img__PacketRing *ret) {
        const struct tpacket3_hdr *p;
        uint64_t highest = 0;
        uint32_t at = 0, last;
        struct tpacket_hdr_v1 h;
        int r;

        for (uint32_t i = 0; i < ring->n; i++)
                if (head_of(ring, i)->seq_num > highest) {
                        highest = head_of(ring, i)->seq_num;
                        at = i;
                }
        if (!numbers_are_sound(ring, at, highest))
                return -ENODATA;
        h = *head_of(ring, at);
        ret->has_head = ret->has_next_seq = true;
        ret->has_frozen = ret->has_last = ret->has_fill = false;
        ret->head = at;
        ret->next_seq = highest + 1;
        if (h.num_pkts == 0 && !(h.block_status & TP_STATUS_USER))
                return is_surely_open(ring, at) ? 0 : -ENODATA;
        r = h.num_pkts > 0 ? find_last(ring_at(ring, at), ring->m, h.num_pkts, &last) : 0;
        if (r < 0)
                return r;
        p = h.num_pkts > 0 ? packet_at(ring_at(ring, at), ring->m->block_size, last) : NULL;
        /* The kernel has closed it (also if the program has returned it since), and could not open the next. */
        if (!p || p->tp_next_offset == 0) {
                ret->has_frozen = ret->frozen = true;
                ret->head = (at + 1) % ring->n;
                return 0;
        }
        if (h.block_status & TP_STATUS_USER)
                return -ENODATA;
        ret->has_last = ret->has_fill = true;
        ret->last = last;
        ret->fill = h.blk_len;
        return h.blk_len == (uint64_t)last + p->tp_next_offset && h.blk_len <= ring->m->block_size
                       ? 0
                       : -ENODATA;
}
