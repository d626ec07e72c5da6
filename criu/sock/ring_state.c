/* SPDX-License-Identifier: GPL-2.0-only */
/* What only the kernel knows of a ring: read from its struct packet_sock, by a BPF iterator over the descriptors of ckpt. */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
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
static const struct {
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

enum {
        INSNS_MAX = 512,
        TRIES = 1000,
        FIELD_INSNS = 6,
};

struct ring_reader {
        int prog_fd;
};

struct layout {
        int16_t meta, fd, file, seq, sk, family;
        int16_t field[FIELDS];
};

static bool find_layout(const struct bpf *b, struct layout *l) {
        bool ok = bpf_member(b, "bpf_iter__task_file", "meta", 8, &l->meta) &&
                  bpf_member(b, "bpf_iter__task_file", "fd", 4, &l->fd) &&
                  bpf_member(b, "bpf_iter__task_file", "file", 8, &l->file) &&
                  bpf_member(b, "bpf_iter_meta", "seq", 8, &l->seq) &&
                  bpf_member(b, "socket", "sk", 8, &l->sk) &&
                  bpf_member(b, "sock", "__sk_common.skc_family", 2, &l->family);

        for (size_t i = 0; ok && i < FIELDS; i++)
                ok = bpf_member(b, "packet_sock", fields[i].path, fields[i].any ? 0 : fields[i].size,
                                &l->field[i]);
        return ok;
}

/* ---- the program ---- */

struct program {
        struct bpf_insn insns[INSNS_MAX];
        size_t n;
};

static void add(struct program *p, struct bpf_insn insn) {
        ckpt_assert(p->n < ELEMENTSOF(p->insns));
        p->insns[p->n++] = insn;
}

enum {
        META = BPF_REG_6,
        FD = BPF_REG_7,
        SK = BPF_REG_8,
        FRAME = BPF_REG_10,
        RECORD = -(int)sizeof(struct record),
        NR_RETURNS = 4,
};

static int16_t place_of(size_t pass, size_t field) {
        return (int16_t)(RECORD +
                         (int)(offsetof(struct record, pass) + (pass * FIELDS + field) * sizeof(uint64_t)));
}

static void add_fields(struct program *p, const struct layout *l) {
        for (size_t pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < FIELDS; i++) {
                        add(p, BPF_MOVE(BPF_REG_1, FRAME));
                        add(p, BPF_ADD_IMM(BPF_REG_1, place_of(pass, i)));
                        add(p, BPF_MOVE_IMM(BPF_REG_2, fields[i].size));
                        add(p, BPF_MOVE(BPF_REG_3, SK));
                        add(p, BPF_ADD_IMM(BPF_REG_3, l->field[i]));
                        add(p, BPF_CALL_HELPER(BPF_FUNC_probe_read_kernel));
                }
}

/* A jump to the end of the program, which is known only when all of it is there. */
static void add_way_out(struct program *p, size_t *outs, size_t *n, struct bpf_insn insn) {
        ckpt_assert(*n < NR_RETURNS);
        outs[(*n)++] = p->n;
        add(p, insn);
}

static void make_program(const struct layout *l, struct program *p) {
        size_t outs[NR_RETURNS], n = 0;

        add(p, BPF_LOAD64(META, BPF_REG_1, l->meta));
        add(p, BPF_INSN(BPF_LDX | BPF_MEM | BPF_W, FD, BPF_REG_1, l->fd, 0));
        add(p, BPF_LOAD64(BPF_REG_1, BPF_REG_1, l->file));
        add_way_out(p, outs, &n, BPF_SKIP_IF(BPF_REG_1, 0, 0));
        add(p, BPF_CALL_HELPER(BPF_FUNC_sock_from_file));
        add_way_out(p, outs, &n, BPF_SKIP_IF(BPF_REG_0, 0, 0));
        add(p, BPF_LOAD64(SK, BPF_REG_0, l->sk));
        add_way_out(p, outs, &n, BPF_SKIP_IF(SK, 0, 0));
        add(p, BPF_INSN(BPF_LDX | BPF_MEM | BPF_H, BPF_REG_1, SK, l->family, 0));
        add_way_out(p, outs, &n, BPF_INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, 0, AF_PACKET));
        add(p, BPF_MOVE_IMM(BPF_REG_1, 0));
        for (int at = RECORD; at < 0; at += 8)
                add(p, BPF_STORE64(FRAME, BPF_REG_1, (int16_t)at));
        add(p, BPF_STORE64(FRAME, FD, RECORD));
        add_fields(p, l);
        add(p, BPF_LOAD64(BPF_REG_1, META, l->seq));
        add(p, BPF_MOVE(BPF_REG_2, FRAME));
        add(p, BPF_ADD_IMM(BPF_REG_2, RECORD));
        add(p, BPF_MOVE_IMM(BPF_REG_3, sizeof(struct record)));
        add(p, BPF_CALL_HELPER(BPF_FUNC_seq_write));
        for (size_t i = 0; i < n; i++)
                p->insns[outs[i]].off = (int16_t)(p->n - outs[i] - 1);
        add(p, BPF_MOVE_IMM(BPF_REG_0, 0));
        add(p, BPF_RETURN());
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
        _cleanup_free_ struct program *p = calloc(1, sizeof(*p));
        struct layout l;

        if (!r || !p)
                return -ENOMEM;
        *r = (struct ring_reader){ .prog_fd = -EBADF };
        if (!find_layout(b, &l))
                return -ENOSYS;
        make_program(&l, p);
        r->prog_fd = bpf_load_iterator(b, "task_file", "ckpt_rings", p->insns, p->n);
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
        _cleanup_close_ int iter = bpf_open_iterator(r->prog_fd, getpid());
        struct search s = { .fd = (uint64_t)fd };
        int n = iter < 0 ? iter : bpf_read_records(iter, sizeof(struct record), take, &s);

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
