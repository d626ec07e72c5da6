/* SPDX-License-Identifier: GPL-2.0-only */
/* Rings of packet sockets: measures, blocks and images made by hand and hostile; and what the kernel makes of a move. */
#include <errno.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "macro.h"
#include "sock/ring.h"

enum { BLOCK = 4096, NR = 4, PRIV = 13, FIRST = 48 + 16, STEP = 128 };

static Img__PacketRing measures(uint32_t frame_size) {
        Img__PacketRing m = IMG__PACKET_RING__INIT;

        m.block_size = BLOCK;
        m.block_nr = NR;
        m.frame_size = frame_size;
        m.frame_nr = BLOCK / frame_size * NR;
        return m;
}

static void test_measures(void **state) {
        Img__PacketRing m = measures(1024);
        char base[NR * BLOCK];
        struct ring ring = ring_of(&m, TPACKET_V2, true, base);

        assert_null(ring_check(&m, TPACKET_V1, true));
        assert_null(ring_check(&m, TPACKET_V2, false));
        assert_int_equal(ring.n, 16);
        assert_ptr_equal(ring_at(&ring, 5), base + BLOCK + 1024);
        m.frame_size = 1360; /* three in a block, and a rest */
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m.frame_nr = 3 * NR;
        assert_null(ring_check(&m, TPACKET_V2, true));
        ring = ring_of(&m, TPACKET_V2, true, base);
        assert_ptr_equal(ring_at(&ring, 4), base + BLOCK + 1360);
        m.frame_size = 1361;
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m = measures(16);
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m = measures(BLOCK);
        m.block_size = 5000;
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m = measures(BLOCK);
        m.block_nr = UINT32_MAX;
        m.frame_nr = UINT32_MAX;
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m = measures(1024);
        m.has_head = true;
        m.head = 15;
        assert_null(ring_check(&m, TPACKET_V2, true));
        m.head = 16;
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        m.head = 0;
        m.has_free = true;
        m.free.len = 2;
        assert_null(ring_check(&m, TPACKET_V2, true));
        m.free.len = 1;
        assert_non_null(ring_check(&m, TPACKET_V2, true));
        assert_non_null(ring_check(&m, TPACKET_V3, true)); /* has 4 blocks */
}

static void test_places(void **state) {
        Img__PacketRing m = measures(BLOCK);

        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_int_equal(ring_closings(&m), 0);
        m.has_frozen = m.frozen = true; /* at no place */
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.has_frozen = m.frozen = false;
        m.has_head = m.has_next_seq = true;
        m.next_seq = 2;
        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_int_equal(ring_closings(&m), 0);
        m.next_seq = 12; /* eleven have been opened: 0 1 2 3 0 1 2 3 0 1 2 */
        m.head = 2;
        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_int_equal(ring_closings(&m), 10);
        m.head = 3;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.has_frozen = m.frozen = true;
        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_int_equal(ring_closings(&m), 11);
        m.frozen = false;
        m.head = 2;
        m.has_last = m.has_fill = true;
        m.last = FIRST;
        m.fill = FIRST + STEP;
        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_int_equal(ring_closings(&m), 11);
        m.fill = BLOCK + 8;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.fill = FIRST + 8;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.fill = FIRST + STEP;
        m.last = 8;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.last = UINT32_MAX - 7;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.has_last = m.has_fill = false;
        m.next_seq = 0;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.next_seq = 1;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.next_seq = UINT64_MAX;
        m.head = (UINT64_MAX - 2) % NR;
        assert_null(ring_check(&m, TPACKET_V3, true));
        assert_true(ring_work(&m) > RING_WORK_MAX);
        m.sizeof_priv = UINT32_MAX;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
        m.sizeof_priv = BLOCK - 48;
        assert_non_null(ring_check(&m, TPACKET_V3, true));
}

/* ---- blocks ---- */

static struct tpacket_hdr_v1 *head_of(char *block) {
        return &((struct tpacket_block_desc *)block)->hdr.bh1;
}

static struct tpacket3_hdr *packet(char *block, uint32_t i) {
        return (struct tpacket3_hdr *)(block + FIRST + (size_t)i * STEP);
}

/* As the kernel does. */
static void fill_block(char *block, uint64_t seq, uint32_t n) {
        struct tpacket_hdr_v1 *h = head_of(block);

        h->seq_num = seq;
        h->ts_first_pkt.ts_sec = (unsigned int)seq * 10;
        h->num_pkts = n;
        h->offset_to_first_pkt = FIRST;
        h->blk_len = FIRST + n * STEP;
        for (uint32_t i = 0; i < n; i++)
                packet(block, i)->tp_next_offset = STEP;
}

static void close_block(char *block) {
        struct tpacket_hdr_v1 *h = head_of(block);

        if (h->num_pkts > 0)
                packet(block, h->num_pkts - 1)->tp_next_offset = 0;
        h->ts_last_pkt.ts_sec = h->ts_first_pkt.ts_sec + 1;
        h->block_status = TP_STATUS_USER;
}

static void test_blocks(void **state) {
        _Alignas(8) static char block[BLOCK];
        Img__PacketRing m = measures(BLOCK);
        uint32_t n = 0;

        fill_block(block, 5, 7);
        packet(block, 4)->tp_sec = 77;
        assert_int_equal(ring_count(block, BLOCK, FIRST, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(ring_count(block, BLOCK, FIRST + 6 * STEP, &n), 0);
        assert_int_equal(n, 7);
        assert_int_equal(ring_count(block, BLOCK, FIRST + 3, &n), -EBADMSG);
        assert_int_equal(ring_count(block, BLOCK, 0, &n), -EBADMSG);
        m.next_seq = 6;
        m.last = FIRST + 4 * STEP; /* two have come later, which count as not received */
        m.fill = FIRST + 5 * STEP;
        assert_int_equal(ring_close_block(block, &m), 0);
        assert_int_equal(head_of(block)->num_pkts, 5);
        assert_int_equal(head_of(block)->blk_len, m.fill);
        assert_int_equal(head_of(block)->ts_last_pkt.ts_sec, 77);
        assert_int_equal(packet(block, 4)->tp_next_offset, 0);
        packet(block, 2)->tp_next_offset = 0; /* a chain that ends, goes astray, or in circles */
        assert_int_equal(ring_close_block(block, &m), -EBADMSG);
        packet(block, 2)->tp_next_offset = STEP + 4;
        assert_int_equal(ring_close_block(block, &m), -EBADMSG);
        packet(block, 2)->tp_next_offset = (uint32_t)-STEP;
        assert_int_equal(ring_close_block(block, &m), -EBADMSG);
        head_of(block)->offset_to_first_pkt = UINT32_MAX;
        assert_int_equal(ring_close_block(block, &m), -EBADMSG);
        for (unsigned int round = 0; round < 2000; round++) {
                _cleanup_free_ char *exact = malloc(BLOCK); /* for the sanitizer */

                assert_non_null(exact);
                for (size_t i = 0; i < BLOCK; i++)
                        exact[i] = (char)(rand() % 4 ? 0 : rand());
                head_of(exact)->offset_to_first_pkt = (uint32_t)(rand() % BLOCK);
                m.last = (uint32_t)(rand() % BLOCK) / 8 * 8;
                (void)ring_close_block(exact, &m);
        }
}

/* ---- the kernel's place, by the memory ---- */

struct memory {
        _Alignas(8) char base[NR * BLOCK];
        Img__PacketRing m;
        struct ring ring;
};

/* `opened` blocks have been used, three packets in each; the last is still open, empty. */
static void make(struct memory *s, uint64_t opened) {
        memset(s->base, 0, sizeof(s->base));
        s->m = measures(BLOCK);
        s->m.sizeof_priv = PRIV;
        s->ring = ring_of(&s->m, TPACKET_V3, true, s->base);
        for (uint64_t seq = 1; seq <= opened; seq++) {
                char *block = ring_at(&s->ring, (uint32_t)((seq - 1) % NR));

                memset(block, 0, BLOCK);
                fill_block(block, seq, seq == opened ? 0 : 3);
                if (seq < opened)
                        close_block(block);
                if (opened - seq >= NR - 1) /* it has been read */
                        head_of(block)->block_status = 0;
        }
}

static void expect(struct memory *s, uint32_t head, uint64_t next_seq, bool frozen, uint32_t last) {
        Img__PacketRing got = IMG__PACKET_RING__INIT;

        assert_int_equal(ring_derive(&s->ring, &got), 0);
        assert_int_equal(got.head, head);
        assert_int_equal(got.next_seq, next_seq);
        assert_int_equal(got.has_frozen && got.frozen, frozen);
        assert_int_equal(got.has_last ? got.last : 0, last);
        got.block_size = BLOCK;
        got.block_nr = got.frame_nr = NR;
        got.frame_size = BLOCK;
        assert_null(ring_check(&got, TPACKET_V3, true));
}

static void test_derive(void **state) {
        Img__PacketRing got = IMG__PACKET_RING__INIT;
        static struct memory s;

        make(&s, 1);
        expect(&s, 0, 2, false, 0);
        make(&s, 3);
        expect(&s, 2, 4, false, 0);
        make(&s, 11);
        expect(&s, 2, 12, false, 0);
        fill_block(ring_at(&s.ring, 2), 11, 2);
        expect(&s, 2, 12, false, FIRST + STEP);
        close_block(ring_at(&s.ring, 2)); /* the next is still the program's */
        expect(&s, 3, 12, true, 0);
        head_of(ring_at(&s.ring, 2))->block_status =
                0; /* given back before the others: as if open, but for the chain */
        expect(&s, 3, 12, true, 0);
        make(&s, 11);
        head_of(ring_at(&s.ring, 1))->block_status = head_of(ring_at(&s.ring, 3))->block_status = 0;
        expect(&s, 2, 12, false, 0);
        close_block(ring_at(&s.ring, 2)); /* without a packet */
        expect(&s, 3, 12, true, 0);
        head_of(ring_at(&s.ring, 2))->block_status = 0;
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
        make(&s, 11);
        head_of(ring_at(&s.ring, 1))->seq_num = 9;
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
        memset(s.base, 0, sizeof(s.base)); /* a program that wipes what it has read */
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
        make(&s, 2);
        head_of(ring_at(&s.ring, 3))->seq_num = 4;
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
        make(&s, 11);
        head_of(ring_at(&s.ring, 2))->num_pkts = UINT32_MAX;
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
        make(&s, 11);
        fill_block(ring_at(&s.ring, 2), 11, 2);
        head_of(ring_at(&s.ring, 2))->blk_len = UINT32_MAX;
        assert_int_equal(ring_derive(&s.ring, &got), -ENODATA);
}

/* ---- a move ---- */

enum { CANNOT = 77 };

static void require(bool ok, int line) {
        if (ok)
                return;
        print_message("line %d: %s\n", line, strerror(errno));
        _exit(1);
}
#define REQUIRE(x) require(x, __LINE__)

struct moved {
        Img__PacketSock psk;
        Img__PacketRing rx, tx;
        int fd;
        char *base;
        struct ring_device device;
        struct ring_state state;
};

static void set_ring(const struct moved *s, int name, const Img__PacketRing *m) {
        struct tpacket_req3 req = {
                m->block_size, m->block_nr, m->frame_size, m->frame_nr, m->retire_tmo, m->sizeof_priv, 0
        };

        REQUIRE(setsockopt(s->fd, SOL_PACKET, name, &req,
                           s->psk.version == TPACKET_V3 ? sizeof(req) : sizeof(struct tpacket_req)) == 0);
}

/* To where *s says; what the kernel says then is s->state. */
static void move(const struct ring_reader *reader, struct moved *s, int type) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        s->fd = socket(AF_PACKET, type, 0);
        REQUIRE(s->fd >= 0);
        REQUIRE(setsockopt(s->fd, SOL_PACKET, PACKET_VERSION, &s->psk.version, sizeof(int)) == 0);
        s->psk.rx_ring = s->rx.block_nr ? &s->rx : NULL;
        s->psk.tx_ring = s->tx.block_nr ? &s->tx : NULL;
        if (s->psk.rx_ring)
                set_ring(s, PACKET_RX_RING, &s->rx);
        if (s->psk.tx_ring)
                set_ring(s, PACKET_TX_RING, &s->tx);
        s->base = mmap(NULL, ring_size(s->psk.rx_ring) + ring_size(s->psk.tx_ring), PROT_READ | PROT_WRITE,
                       MAP_SHARED, s->fd, 0);
        REQUIRE(s->base != MAP_FAILED);
        s->device = RING_DEVICE_INIT;
        if (ring_move(s->fd, &s->psk, s->base, &s->device, "it", &err) < 0) {
                print_message("%s\n", ckpt_error_message(&err));
                _exit(1);
        }
        REQUIRE(ring_state_read(reader, s->fd, s->psk.rx_ring, s->psk.tx_ring, s->psk.version, &s->state) ==
                0);
        REQUIRE(s->state.mapped == 1 && s->state.packets == 0);
}

static void done(struct moved *s) {
        munmap(s->base, ring_size(s->psk.rx_ring) + ring_size(s->psk.tx_ring));
        close(s->fd);
        ring_device_close(&s->device);
}

static void move_frames(const struct ring_reader *reader, uint32_t version) {
        static const uint32_t heads[] = { 0, 1, 7, 15 };

        for (size_t i = 0; i < ELEMENTSOF(heads); i++) {
                struct moved s = { .psk = IMG__PACKET_SOCK__INIT,
                                   .rx = measures(1024),
                                   .tx = measures(1024) };

                s.psk.version = version;
                s.rx.has_head = s.tx.has_head = true;
                s.rx.head = heads[i];
                s.tx.head = 15 - heads[i];
                move(reader, &s, i % 2 ? SOCK_RAW : SOCK_DGRAM);
                REQUIRE(s.state.rx.head == s.rx.head && s.state.tx.head == s.tx.head);
                done(&s);
        }
}

/* A time that runs out while it is being moved (1 ms) must not disturb it; nor may only one block. */
static void move_blocks(const struct ring_reader *reader, uint32_t nr, uint32_t retire_tmo,
                        uint64_t opened) {
        struct moved s = { .psk = IMG__PACKET_SOCK__INIT,
                           .rx = measures(2048),
                           .tx = IMG__PACKET_RING__INIT };
        Img__PacketRing derived = IMG__PACKET_RING__INIT;
        struct ring ring;

        s.psk.version = TPACKET_V3;
        s.rx.block_nr = nr;
        s.rx.frame_nr = 2 * nr;
        s.rx.retire_tmo = retire_tmo;
        s.rx.sizeof_priv = PRIV;
        s.rx.has_head = s.rx.has_next_seq = s.rx.has_frozen = s.rx.frozen = true;
        s.rx.next_seq = opened + 1;
        s.rx.head = (uint32_t)(opened % nr);
        REQUIRE(!ring_check(&s.rx, TPACKET_V3, true));
        move(reader, &s, SOCK_RAW);
        REQUIRE(s.state.rx.frozen && s.state.rx.head == s.rx.head && s.state.rx.next_seq == s.rx.next_seq);
        ring = ring_of(&s.rx, TPACKET_V3, true, s.base);
        /* The blocks are empty: this alone does not tell whether the last one has been closed. */
        REQUIRE(ring_derive(&ring, &derived) == -ENODATA || (derived.frozen && derived.head == s.rx.head));
        done(&s);
}

static int in_network_of_its_own(void) {
        _cleanup_(bpf_free) struct bpf *b = NULL;
        _cleanup_(ring_reader_free) struct ring_reader *reader = NULL;

        if (unshare(CLONE_NEWNET) < 0 || ring_device_lack() || bpf_new(&b) < 0 || bpf_load(b) < 0)
                return CANNOT;
        REQUIRE(ring_reader_open(b, &reader) == 0);
        move_frames(reader, TPACKET_V1);
        move_frames(reader, TPACKET_V2);
        for (uint64_t n = 1; n < 10; n += 2)
                move_blocks(reader, NR, 60000, n);
        move_blocks(reader, NR, 1, 500);
        move_blocks(reader, 1, 60000, 1);
        move_blocks(reader, 1, 1, 20);
        return 0;
}

static void test_move(void **state) {
        pid_t pid = fork();
        int status = -1;

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(in_network_of_its_own());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT) {
                print_message("no BPF, network namespace or tun device here\n");
                skip();
        }
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_measures), cmocka_unit_test(test_places),
                cmocka_unit_test(test_blocks),   cmocka_unit_test(test_derive),
                cmocka_unit_test(test_move),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
