/* SPDX-License-Identifier: GPL-2.0-only */
/* Messages of packet_diag and images of packet sockets, made by hand and hostile. */
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "sock/af_packet.h"

struct answer {
        struct packet_diag_msg msg;
        struct nlattr info_head;
        struct packet_diag_info info;
        struct nlattr mclist_head;
        struct packet_diag_mclist mclist[2];
        struct nlattr ring_head;
        struct packet_diag_ring ring;
        struct nlattr fanout_head;
        uint32_t fanout;
};

static struct answer make(void) {
        return (struct answer){
                .msg = { .pdiag_family = AF_PACKET, .pdiag_ino = 99 },
                .info_head = { sizeof(struct nlattr) + sizeof(struct packet_diag_info), PACKET_DIAG_INFO },
                .info = { .pdi_index = 3, .pdi_flags = PDI_LOSS },
                .mclist_head = { sizeof(struct nlattr) + 2 * sizeof(struct packet_diag_mclist),
                                 PACKET_DIAG_MCLIST },
                .mclist = { { .pdmc_index = 3, .pdmc_count = 2 }, { .pdmc_alen = 60000 } },
                .ring_head = { sizeof(struct nlattr) + sizeof(struct packet_diag_ring),
                               PACKET_DIAG_TX_RING },
                .ring = { .pdr_block_nr = 4 },
                .fanout_head = { sizeof(struct nlattr) + 4, PACKET_DIAG_FANOUT },
                .fanout = 0x10007,
        };
}

static void test_diag(void **state) {
        struct arena arena = { 0 };
        struct answer a = make();
        struct packet_diag d = { 0 };

        assert_int_equal(packet_parse_diag(&a, sizeof(a), &arena, &d), 0);
        assert_int_equal(d.ino, 99);
        assert_int_equal(d.info.pdi_flags, PDI_LOSS);
        assert_int_equal(d.nr_mclist, 2);
        assert_int_equal(d.mclist[0].pdmc_count, 2);
        assert_null(d.rx);
        assert_int_equal(d.tx->pdr_block_nr, 4);
        assert_true(d.has_fanout && d.fanout == 0x10007);
        /* Cut off anywhere: an answer or an error. */
        for (size_t n = 0; n < sizeof(a); n++)
                packet_parse_diag(&a, n, &arena, &d);
        assert_int_equal(packet_parse_diag(&a, sizeof(a.msg) - 1, &arena, &d), -EBADMSG);
        a.ring_head.nla_len = 5; /* shorter than a ring */
        a.fanout_head.nla_len = 60000;
        assert_int_equal(packet_parse_diag(&a, sizeof(a), &arena, &d), -EBADMSG);
        arena_done(&arena);
}

static void test_check_rings(void **state) {
        Img__PacketRing ring = IMG__PACKET_RING__INIT;
        Img__PacketSock m = IMG__PACKET_SOCK__INIT;
        Img__SkOpts opts = IMG__SK_OPTS__INIT;

        m.opts = &opts;
        m.type = SOCK_RAW;
        m.protocol = 8;
        m.rx_ring = &ring; /* all zero */
        assert_non_null(packet_check(&m));
        ring.block_size = ring.frame_size = 4096;
        ring.block_nr = ring.frame_nr = 16;
        assert_null(packet_check(&m));
        ring.has_head = true;
        ring.head = 5;
        assert_null(packet_check(&m));
        m.protocol = 0; /* nothing can have come in */
        assert_non_null(packet_check(&m));
        m.protocol = 8;
        ring.head = 16;
        assert_non_null(packet_check(&m));
        m.version = TPACKET_V3;
        ring.head = 15;
        ring.has_next_seq = true;
        ring.next_seq = 1ULL << 40;
        ring.head = (uint32_t)((ring.next_seq - 2) % 16);
        assert_non_null(packet_check(&m)); /* would take hours */
        ring.next_seq = 1 << 20;
        ring.head = (uint32_t)((ring.next_seq - 2) % 16);
        assert_null(packet_check(&m));
        m.version = TPACKET_V1;
        ring.has_head = ring.has_next_seq = false;
        ring.block_nr = UINT32_MAX;
        assert_non_null(packet_check(&m));
}

static void test_check(void **state) {
        Img__PacketMclist member = IMG__PACKET_MCLIST__INIT, *members[] = { &member };
        Img__PacketSock m = IMG__PACKET_SOCK__INIT;
        Img__SkOpts opts = IMG__SK_OPTS__INIT;
        uint8_t address[64] = { 0 };

        m.opts = &opts;
        m.type = SOCK_RAW;
        assert_null(packet_check(&m));
        m.type = SOCK_PACKET;
        assert_non_null(packet_check(&m));
        m.type = SOCK_DGRAM;
        m.protocol = 0x10000;
        assert_non_null(packet_check(&m));
        m.protocol = 8;
        m.has_fanout = true;
        m.fanout = UINT32_MAX; /* what other writers say for none */
        assert_null(packet_check(&m));
        m.fanout = PACKET_FANOUT_EBPF << 16;
        assert_non_null(packet_check(&m));
        m.fanout = PACKET_FANOUT_CBPF << 16;
        assert_non_null(packet_check(&m));
        m.fanout = PACKET_FANOUT_QM << 16 | 5;
        assert_null(packet_check(&m));
        m.n_mclist = 1;
        m.mclist = members;
        member.addr = (ProtobufCBinaryData){ .len = 6, .data = address };
        assert_null(packet_check(&m));
        member.addr.len = 33;
        assert_non_null(packet_check(&m));
        member.addr.len = 6;
        member.has_count = true;
        member.count = UINT32_MAX; /* would join for hours */
        assert_non_null(packet_check(&m));
        member.count = 1;
        member.ifname = (char *)"a name that is much too long";
        assert_non_null(packet_check(&m));
        member.ifname = NULL;
        m.version = 9;
        assert_non_null(packet_check(&m));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_diag),
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_check_rings),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
