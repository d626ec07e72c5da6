/* SPDX-License-Identifier: GPL-2.0-only */
/* What only the kernel knows of a ring: read from its struct packet_sock, by a BPF iterator over the descriptors of ckpt. */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/task_program.h"
#include "macro.h"
#include "sock/ring.h"

enum field {
        PACKETS,
        MAPPED,
        RX_HEAD,
        RX_FRAME_MAX,
        RX_FRAME_SIZE,
        RX_BLOCKS,
        RX_ACTIVE,
        RX_RESET_PENDING,
        RX_NEXT_SEQ,
        RX_BLOCK_START,
        RX_LAST,
        RX_FILL,
        RX_V3_BLOCKS,
        RX_V3_BLOCK_SIZE,
        TX_HEAD,
        TX_FRAME_MAX,
        TX_FRAME_SIZE,
        TX_BLOCKS,
        FIELDS,
};

/* Of struct packet_sock. */
static const struct field_row {
        const char *path;
        uint8_t size;
        bool any; /* the member may have another size, and its first bytes are what counts */
} fields[FIELDS] = {
        [PACKETS] = { "stats.stats1.tp_packets", 4, false },
        [MAPPED] = { "mapped", 4, true },
        [RX_HEAD] = { "rx_ring.head", 4, false },
        [RX_FRAME_MAX] = { "rx_ring.frame_max", 4, false },
        [RX_FRAME_SIZE] = { "rx_ring.frame_size", 4, false },
        [RX_BLOCKS] = { "rx_ring.pg_vec_len", 4, false },
        [RX_ACTIVE] = { "rx_ring.prb_bdqc.kactive_blk_num", 2, false },
        [RX_RESET_PENDING] = { "rx_ring.prb_bdqc.reset_pending_on_curr_blk", 1, true },
        [RX_NEXT_SEQ] = { "rx_ring.prb_bdqc.knxt_seq_num", 8, false },
        [RX_BLOCK_START] = { "rx_ring.prb_bdqc.pkblk_start", 8, false },
        [RX_LAST] = { "rx_ring.prb_bdqc.prev", 8, false },
        [RX_FILL] = { "rx_ring.prb_bdqc.nxt_offset", 8, false },
        [RX_V3_BLOCKS] = { "rx_ring.prb_bdqc.knum_blocks", 4, false },
        [RX_V3_BLOCK_SIZE] = { "rx_ring.prb_bdqc.kblk_size", 4, false },
        [TX_HEAD] = { "tx_ring.head", 4, false },
        [TX_FRAME_MAX] = { "tx_ring.frame_max", 4, false },
        [TX_FRAME_SIZE] = { "tx_ring.frame_size", 4, false },
        [TX_BLOCKS] = { "tx_ring.pg_vec_len", 4, false },
};

/*
 * What the program writes for each packet socket. Nothing is locked meanwhile, so it reads all of it twice: what is the same
 * both times was true at one moment.
 */
enum { PASSES = 2 };
struct record {
        uint64_t fd;
        uint64_t pass[PASSES][FIELDS];
};

enum { TRIES = 1000, WORDS = sizeof(struct record) / sizeof(uint64_t) };

struct ring_reader {
        int prog_fd;
};

static int load_program(const struct bpf *b) {
        _cleanup_free_ struct task_program *p = malloc(sizeof(*p));

        if (!p)
                return -ENOMEM;
        task_program_begin_sockets(p, b, WORDS, AF_PACKET);
        for (unsigned int i = 0; i < PASSES * FIELDS; i++) {
                const struct field_row *row = &fields[i % FIELDS];

                (row->any ? task_program_read_first : task_program_read)(
                        p, 1 + i, TASK_PROGRAM_SOCK, "packet_sock", row->path, row->size);
        }
        return task_program_finish(p, "ckpt_rings");
}

/* ---- the interface ---- */

void ring_reader_free(struct ring_reader **r) {
        if (!*r)
                return;
        safe_close((*r)->prog_fd);
        free(*r);
        *r = NULL;
}

int ring_reader_open(const struct bpf *b, struct ring_reader **ret) {
        _cleanup_(ring_reader_free) struct ring_reader *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->prog_fd = load_program(b);
        if (r->prog_fd < 0)
                return r->prog_fd;
        *ret = TAKE_PTR(r);
        return 0;
}

struct search {
        uint64_t fd;
        struct record found;
};

/* 1: found. */
static int take(void *arg, const void *record) {
        struct search *s = arg;

        memcpy(&s->found, record, sizeof(s->found));
        return s->found.fd == s->fd;
}

static int read_once(const struct ring_reader *r, int fd, struct record *ret) {
        struct search s = { .fd = (uint64_t)fd };
        int n = bpf_iterate(r->prog_fd, getpid(), sizeof(struct record), take, &s);

        if (n <= 0)
                return n < 0 ? n : -ENODATA;
        *ret = s.found;
        return 0;
}

static bool is_that(const uint64_t *v, enum field frame_max, enum field frame_size, enum field blocks,
                    const Img__PacketRing *m) {
        if (!m)
                return v[blocks] == 0;
        return v[frame_max] + 1 == m->frame_nr && v[frame_size] == m->frame_size && v[blocks] == m->block_nr;
}

static int take_blocks(const uint64_t *v, const Img__PacketRing *m, Img__PacketRing *ret) {
        uint64_t last = v[RX_LAST] - v[RX_BLOCK_START], fill = v[RX_FILL] - v[RX_BLOCK_START];

        if (v[RX_V3_BLOCKS] != m->block_nr || v[RX_V3_BLOCK_SIZE] != m->block_size)
                return -ENODATA;
        ret->head = (uint32_t)v[RX_ACTIVE];
        ret->has_next_seq = true;
        ret->next_seq = v[RX_NEXT_SEQ];
        ret->has_frozen = ret->frozen = v[RX_RESET_PENDING] != 0;
        if (ret->frozen || last == fill)
                return 0;
        ret->has_last = ret->has_fill = true;
        ret->last = (uint32_t)last;
        ret->fill = (uint32_t)fill;
        return last < fill && fill <= m->block_size ? 0 : -ENODATA;
}

int ring_state_read(const struct ring_reader *r, int fd, const Img__PacketRing *rx,
                    const Img__PacketRing *tx, uint32_t version, struct ring_state *ret) {
        struct ring_state state = { .rx = IMG__PACKET_RING__INIT, .tx = IMG__PACKET_RING__INIT };
        struct record record;
        const uint64_t *v = record.pass[0];
        int rc = 0;

        for (size_t i = 0; i < TRIES; i++) {
                rc = read_once(r, fd, &record);
                if (rc < 0 || memcmp(record.pass[0], record.pass[1], sizeof(record.pass[0])) == 0)
                        break;
                rc = -EAGAIN;
        }
        if (rc < 0)
                return rc;
        if (!is_that(v, RX_FRAME_MAX, RX_FRAME_SIZE, RX_BLOCKS, rx) ||
            !is_that(v, TX_FRAME_MAX, TX_FRAME_SIZE, TX_BLOCKS, tx))
                return -ENODATA;
        state.packets = (uint32_t)v[PACKETS];
        state.mapped = (uint32_t)v[MAPPED];
        state.rx.has_head = rx != NULL;
        state.rx.head = (uint32_t)v[RX_HEAD];
        state.tx.has_head = tx != NULL;
        state.tx.head = (uint32_t)v[TX_HEAD];
        if (rx && version == TPACKET_V3)
                rc = take_blocks(v, rx, &state.rx);
        if (rc == 0)
                *ret = state;
        return rc;
}
