/* SPDX-License-Identifier: GPL-2.0-only */
/* Messages of netlink and images of netlink sockets, recorded and hostile. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "macro.h"
#include "sock/netlink.h"
#include "sock/nlmsg.h"

struct answer {
        struct netlink_diag_msg msg;
        struct nlattr attr;
        uint32_t flags;
};

static void test_diag(void **state) {
        struct answer a = { .msg = { .ndiag_ino = 77, .ndiag_state = 1 },
                            .attr = { .nla_len = sizeof(struct nlattr) + 4, .nla_type = NETLINK_DIAG_FLAGS },
                            .flags = NDIAG_FLAG_CB_RUNNING };
        struct netlink_diag d = { 0 };

        assert_int_equal(netlink_parse_diag(&a, sizeof(a), &d), 0);
        assert_true(d.ino == 77 && d.state == 1 && d.listing);
        a.flags = NDIAG_FLAG_PKTINFO;
        assert_int_equal(netlink_parse_diag(&a, sizeof(a), &d), 0);
        assert_false(d.listing);
        assert_int_equal(netlink_parse_diag(&a, sizeof(a.msg), &d), 0);
        assert_int_equal(netlink_parse_diag(&a, sizeof(a.msg) - 1, &d), -EBADMSG);
        a.attr.nla_len = 200; /* longer than the message */
        assert_int_equal(netlink_parse_diag(&a, sizeof(a), &d), -EBADMSG);
        a.attr.nla_len = 0; /* would never end */
        assert_int_equal(netlink_parse_diag(&a, sizeof(a), &d), -EBADMSG);
}

static void test_attrs(void **state) {
        struct {
                struct nlattr one;
                char text[4];
                struct nlattr two;
        } m = { .one = { .nla_len = 7, .nla_type = 3 | NLA_F_NESTED },
                .two = { .nla_len = 4, .nla_type = 9 } };
        struct nl_attrs attrs = nl_attrs(&m, sizeof(m), 0);
        struct nl_attr attr;

        assert_int_equal(nl_attrs_next(&attrs, &attr), 1);
        assert_true(attr.type == 3 && attr.len == 3);
        assert_int_equal(nl_attrs_next(&attrs, &attr), 1);
        assert_true(attr.type == 9 && attr.len == 0);
        assert_int_equal(nl_attrs_next(&attrs, &attr), 0);
        /* The fixed part is longer than all there is. */
        attrs = nl_attrs(&m, 4, 16);
        assert_int_equal(nl_attrs_next(&attrs, &attr), 0);
        /* Cut off anywhere. */
        for (size_t n = 0; n < sizeof(m); n++) {
                attrs = nl_attrs(&m, n, 0);
                while (nl_attrs_next(&attrs, &attr) > 0)
                        assert_true((const char *)attr.data + attr.len <= (const char *)&m + n);
        }
}

/* Recorded on Linux 6.18: nfnetlink_queue, then nfnetlink_log. */
static void test_lists(void **state) {
        static const char queue[] = "    7  48213     0 2 65531     0     0        0  1\n"
                                    "    9 3456789     0 2 65531     0     0        0  1\n";
        static const char log[] = "    2  48215 2 65535     10  1\n";

        assert_true(netlink_in_list(queue, 48213));
        assert_true(netlink_in_list(queue, 3456789));
        assert_false(netlink_in_list(queue, 7));
        assert_false(netlink_in_list(queue, 4821));
        assert_true(netlink_in_list(log, 48215));
        assert_false(netlink_in_list("", 0));
        assert_false(netlink_in_list("\n\nx y\n1\n-", 1));
}

static void test_check(void **state) {
        Img__NetlinkSk m = IMG__NETLINK_SK__INIT;
        Img__SkOpts opts = IMG__SK_OPTS__INIT;

        m.opts = &opts;
        m.protocol = NETLINK_ROUTE;
        assert_null(netlink_check(&m));
        m.protocol = NETLINK_ISCSI;
        assert_non_null(netlink_check(&m));
        m.protocol = 4000000000;
        assert_non_null(netlink_check(&m));
        m.protocol = NETLINK_GENERIC;
        m.has_type = true;
        m.type = SOCK_STREAM;
        assert_non_null(netlink_check(&m));
        m.type = SOCK_DGRAM;
        assert_null(netlink_check(&m));
        m.n_groups = 100000; /* is not looked at */
        assert_non_null(netlink_check(&m));
        m.n_groups = 0;
        opts.so_rcvbuf = UINT32_MAX;
        assert_non_null(netlink_check(&m));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_diag),
                cmocka_unit_test(test_attrs),
                cmocka_unit_test(test_lists),
                cmocka_unit_test(test_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
