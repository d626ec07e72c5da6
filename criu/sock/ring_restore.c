/* SPDX-License-Identifier: GPL-2.0-only */
/* A ring that has just been made becomes what it was: the kernel's place in it, then what is in it. */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "macro.h"
#include "mem/mem.h"
#include "sock/ring.h"

struct filling {
        struct restore *r;
        const Img__PacketSock *psk;
        char *base;
        uint64_t size;
        /* The block that the kernel will use next, which it may look at at any time: its content comes here first. */
        char *aside;
        uint32_t aside_nr;
};

static void filling_done(struct filling *f) {
        free(f->aside);
        if (f->base)
                munmap(f->base, f->size);
}

static int set_ring(int fd, int name, const Img__PacketRing *ring, uint32_t version) {
        struct tpacket_req3 req;

        if (!ring)
                return 0;
        req = (struct tpacket_req3){ .tp_block_size = ring->block_size,
                                     .tp_block_nr = ring->block_nr,
                                     .tp_frame_size = ring->frame_size,
                                     .tp_frame_nr = ring->frame_nr,
                                     .tp_retire_blk_tov = ring->retire_tmo,
                                     .tp_sizeof_priv = ring->sizeof_priv,
                                     .tp_feature_req_word = ring->features };
        return setsockopt(fd, SOL_PACKET, name, &req,
                          version == TPACKET_V3 ? sizeof(req) : sizeof(struct tpacket_req)) < 0
                       ? -errno
                       : 0;
}

static bool was_free(const Img__PacketRing *m, uint32_t i) {
        return m->has_free && m->free.data[i / 8] >> i % 8 & 1;
}

/* ---- what is in the rings ---- */

/* What ckpt's own packets have left there goes in any case. */
static int read_content(struct filling *f, struct ckpt_error *err) {
        uint64_t from = f->size, to = from;

        if (f->aside) {
                from = (uint64_t)f->psk->rx_ring->block_size * f->aside_nr;
                to = from + f->psk->rx_ring->block_size;
        }
        memset(f->base, 0, from);
        memset(f->base + to, 0, f->size - to);
        if (!f->psk->has_shmid)
                return 0;
        return mem_fill_around(f->r, f->psk->shmid, f->size, f->base, from, to, f->aside, err);
}

/* What the kernel was sending when the checkpoint was made has been handed to the device then. */
static void finish_sending(const struct ring *tx) {
        for (uint32_t i = 0; i < tx->n; i++)
                if (ring_status(tx, i) & TP_STATUS_SENDING)
                        ring_set_status(tx, i, TP_STATUS_AVAILABLE);
}

static void finish_frames(const struct ring *rx) {
        for (uint32_t i = 0; i < rx->n; i++)
                if (was_free(rx->m, i))
                        ring_set_status(rx, i, TP_STATUS_KERNEL);
}

static char *block_of(const struct filling *f, const struct ring *rx, uint32_t i) {
        return i == f->aside_nr ? f->aside : ring_at(rx, i);
}

static uint32_t *status_of(char *block) {
        return &((struct tpacket_block_desc *)block)->hdr.bh1.block_status;
}

/*
 * The kernel has the block set aside open already if nothing has come in yet. Else it has found it taken, and looks again
 * each time a packet comes in or its timer runs out: from the moment on that the status says so, the block is its own.
 */
static void put_aside_back(const struct filling *f, const struct ring *rx) {
        const size_t head = sizeof(struct tpacket_block_desc);
        uint32_t final = *status_of(f->aside);
        char *block = ring_at(rx, f->aside_nr);

        if (ring_closings(rx->m) == 0) {
                memcpy(block + head, f->aside + head, rx->m->sizeof_priv);
                return;
        }
        *status_of(f->aside) = TP_STATUS_USER;
        memcpy(block, f->aside, rx->m->block_size);
        ring_set_status(rx, f->aside_nr, final);
}

static int finish_blocks(struct filling *f, const struct ring *rx, const char *what,
                         struct ckpt_error *err) {
        uint32_t open = rx->m->head;

        for (uint32_t i = 0; i < rx->n; i++)
                if (was_free(rx->m, i) || !f->psk->has_shmid)
                        *status_of(block_of(f, rx, i)) = TP_STATUS_KERNEL;
        if (rx->m->has_last) {
                char *block = block_of(f, rx, open);

                if (ring_close_block(block, rx->m) < 0)
                        return ckpt_error(
                                err, -EBADMSG,
                                "the images are damaged: the packets in a ring of %s make no sense", what);
                *status_of(block) = TP_STATUS_USER | TP_STATUS_BLK_TMO;
        }
        put_aside_back(f, rx);
        return 0;
}

static int fill(struct filling *f, const char *what, struct ckpt_error *err) {
        const Img__PacketSock *psk = f->psk;
        struct ring rx;
        int r;

        if (psk->rx_ring)
                rx = ring_of(psk->rx_ring, psk->version, true, f->base);
        if (psk->rx_ring && rx.blocks) {
                f->aside_nr = (uint32_t)(ring_closings(psk->rx_ring) % rx.n);
                f->aside = calloc(1, psk->rx_ring->block_size);
                if (!f->aside)
                        return ckpt_error(err, -ENOMEM, "not enough memory");
        }
        r = read_content(f, err);
        if (r < 0)
                return r;
        if (psk->tx_ring) {
                struct ring tx =
                        ring_of(psk->tx_ring, psk->version, false, f->base + ring_size(psk->rx_ring));

                finish_sending(&tx);
        }
        if (!psk->rx_ring)
                return 0;
        if (rx.blocks)
                return finish_blocks(f, &rx, what, err);
        finish_frames(&rx);
        return 0;
}

int ring_restore(struct restore *r, int fd, const Img__PacketSock *psk, struct ring_device *device,
                 const char *what, struct ckpt_error *err) {
        _cleanup_(filling_done) struct filling f = { .r = r, .psk = psk };
        int rc;

        f.size = ring_size(psk->rx_ring) + ring_size(psk->tx_ring);
        if (f.size == 0)
                return 0;
        rc = set_ring(fd, PACKET_RX_RING, psk->rx_ring, psk->version);
        if (rc == 0)
                rc = set_ring(fd, PACKET_TX_RING, psk->tx_ring, psk->version);
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot make the rings of %s", what);
        f.base = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (f.base == MAP_FAILED) {
                f.base = NULL;
                return ckpt_error_errno(err, -errno, "cannot map the rings of %s", what);
        }
        rc = ring_move(fd, psk, f.base, device, what, err);
        return rc < 0 ? rc : fill(&f, what, err);
}
