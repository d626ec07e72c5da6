/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/peek.h"
#include "macro.h"
#include "sock/mptcp.h"
#include "sock/uapi.h"

/*
 * Those by which the trial has to fail if they are taken from elsewhere. Not MPTCP_FRAG_SENT, which may be 0 throughout: each time
 * it is used, what it leads to has to come to as many bytes as are known to wait.
 */
static const enum mptcp_member needed[] = {
        MPTCP_WRITE_SEQ,   MPTCP_SND_UNA,   MPTCP_SND_NXT,     MPTCP_SND_WL1,     MPTCP_SND_WND,
        MPTCP_MAX_WINDOW,  MPTCP_RCV_NXT,   MPTCP_RCV_WND,     MPTCP_RCV_WUP,     MPTCP_COPIED_SEQ,
        MPTCP_MSS_CLAMP,   MPTCP_STATE,     MPTCP_ULP_DATA,    MPTCP_CONN,        MPTCP_TCP_SOCK,
        MPTCP_M_FIRST,     MPTCP_M_PENDING, MPTCP_M_WRITE_SEQ, MPTCP_M_SND_NXT,   MPTCP_FRAG_LEN,
        MPTCP_FRAG_OFFSET, MPTCP_FRAG_PAGE, MPTCP_SKB_LEN,     MPTCP_WRITE_QUEUE, MPTCP_SENT_TREE,
        MPTCP_CB_SEQ,
};

struct fixture {
        struct bpf *bpf;
        struct peek *peek;
        struct mptcp_reader reader;
};

static int set_up(void **state) {
        static struct fixture f;

        *state = &f;
        return bpf_new(&f.bpf);
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        peek_free(&f->peek);
        bpf_free(&f->bpf);
        return 0;
}

static void test_prove(void **state) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
        struct fixture *f = *state;

        if (fd < 0 || peek_open(f->bpf, &f->peek) < 0)
                skip();
        f->reader.bpf = f->bpf;
        assert_true(mptcp_prove(f->peek, &f->reader));
}

static void test_needed(void **state) {
        struct fixture *f = *state;

        if (!f->reader.peek)
                skip();
        for (size_t i = 0; i < ELEMENTSOF(needed); i++) {
                struct mptcp_reader other = f->reader;

                /* Not where the next begins, which may happen to be the same. */
                other.places[needed[i]].offset += other.places[needed[i]].size > 0 ? 1 : 8;
                if (mptcp_try(&other))
                        fail_msg("the trial does not need member %d", needed[i]);
        }
        assert_true(mptcp_prove(f->peek, &f->reader));
}

static void test_other_sockets(void **state) {
        static const int protocols[] = { IPPROTO_MPTCP, IPPROTO_TCP };
        struct fixture *f = *state;
        uint8_t memory[64];

        assert_false(mptcp_fell_back(-1));
        for (size_t i = 0; i < ELEMENTSOF(protocols); i++) {
                _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocols[i]);
                struct tcp_room room = { memory, sizeof(memory) };
                struct tcp_queues q;

                assert_false(mptcp_fell_back(fd));
                if (!f->reader.peek || protocols[i] == IPPROTO_MPTCP)
                        continue;
                /* There is none inside. */
                assert_int_equal(mptcp_read_sent(&f->reader, fd, &q, &room), -ENODATA);
                assert_int_equal(mptcp_read_received(&f->reader, fd, &q, &room), -ENODATA);
                assert_ptr_equal(room.at, memory);
                assert_int_equal(room.left, sizeof(memory));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_prove),
                cmocka_unit_test(test_needed),
                cmocka_unit_test(test_other_sockets),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
