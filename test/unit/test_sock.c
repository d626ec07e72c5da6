/* SPDX-License-Identifier: GPL-2.0-only */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "macro.h"
#include "sock/inet.h"
#include "sock/lock_backend.h"
#include "sock/raw.h"
#include "sock/restore.h"
#include "sock/uapi.h"

/* Recorded on Linux 6.18. */
static const char igmp_text[] = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
                                "1\tlo        :     1      V3\n"
                                "\t\t\t\t010000E0     1 0:00000000\t\t0\n"
                                "2\teth0      :     2      V3\n"
                                "\t\t\t\tFB0000E0     1 0:00000000\t\t0\n"
                                "\t\t\t\t010000E0     1 0:00000000\t\t0\n";
static const char igmp6_text[] = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n"
                                 "2    eth0            ff0200000000000000000001ff000001     1 00000004 0\n";

static void test_igmp(void **state) {
        struct inet_group_vec v = { 0 };
        struct in6_addr want;

        assert_int_equal(inet_parse_igmp(igmp_text, &v), 0);
        assert_int_equal(v.n, 3);
        assert_string_equal(v.v[1].ifname, "eth0");
        assert_int_equal(v.v[1].ifindex, 2);
        assert_int_equal(v.v[1].group[0], inet_addr("224.0.0.251"));
        v.n = 0;
        assert_int_equal(inet_parse_igmp6(igmp6_text, &v), 0);
        assert_int_equal(v.n, 2);
        inet_pton(AF_INET6, "ff02::1:ff00:1", &want);
        assert_memory_equal(v.v[1].group, &want, 16);
        inet_group_vec_done(&v);
}

static void test_igmp_hostile(void **state) {
        static const char *const bad[] = { "",
                                           "nonsense\n",
                                           "Idx\n\t\t\t\t010000E0 1\n",
                                           "Idx\nx\teth0\n",
                                           "Idx\n-3\teth0 :\n",
                                           "Idx\n1\tlo : 1\n\t\t\t\tzz\n" };
        static const char *const bad6[] = { "1 lo ff02\n", "x\n",
                                            "1 lo ff02000000000000000000000000000g 1\n", "\n",
                                            "0 lo ff020000000000000000000000000001 1\n" };
        struct inet_group_vec v = { 0 };

        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_int_equal(inet_parse_igmp(bad[i], &v), -EBADMSG);
        for (size_t i = 0; i < sizeof(bad6) / sizeof(*bad6); i++)
                assert_int_equal(inet_parse_igmp6(bad6[i], &v), -EBADMSG);
        /* Cut off anywhere: an answer or an error, no crash. */
        for (size_t n = 0; n < sizeof(igmp_text); n++) {
                char *text = strndup(igmp_text, n);

                inet_parse_igmp(text, &v);
                free(text);
        }
        for (size_t n = 0; n < sizeof(igmp6_text); n++) {
                char *text = strndup(igmp6_text, n);

                inet_parse_igmp6(text, &v);
                free(text);
        }
        inet_group_vec_done(&v);
}

/* Recorded on Linux 6.18. */
static const char raw_text[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
        "pointer drops\n"
        "  253: 0100007F:00FD 0200007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 19310822 2 "
        "0000000000000000 0\n";
static const char raw6_text[] =
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
        "tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
        "   58: 00000000000000000000000001000000:003A 00000000000000000000000000000000:0000 07 "
        "00000000:00000000 00:00000000 00000000     0        0 19310826 2 0000000000000000 0\n";

static void test_raw_list(void **state) {
        static const char *const bad[] = {
                "", "x\n", "  sl local_address\n  1: 0100007F:0001\n",
                ("local_address\n  1: 0100007:0001 00000000:0000 07 00000000:00000000 "
                 "00:00000000 00000000 0 0 5 2 0 0\n"),
                "x\nlocal_address\n"
        };
        struct sock_diag_vec v = { 0 };
        struct in6_addr want = IN6ADDR_LOOPBACK_INIT;

        assert_int_equal(raw_parse_list(raw_text, false, &v), 0);
        assert_int_equal(v.n, 1);
        assert_int_equal(v.v[0].ino, 19310822);
        assert_int_equal(v.v[0].state, TCP_ESTABLISHED);
        assert_int_equal(v.v[0].src[0], inet_addr("127.0.0.1"));
        assert_int_equal(v.v[0].dst[0], inet_addr("127.0.0.2"));
        assert_int_equal(v.v[0].src_port, 253);
        assert_int_equal(raw_parse_list(raw6_text, true, &v), 0);
        assert_int_equal(v.n, 2);
        assert_memory_equal(v.v[1].src, &want, 16);
        assert_int_equal(raw_parse_list(raw6_text, false, &v), -EBADMSG);
        assert_int_equal(raw_parse_list(raw_text, true, &v), -EBADMSG);
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_int_equal(raw_parse_list(bad[i], false, &v), -EBADMSG);
        for (size_t n = 0; n < sizeof(raw_text); n++) {
                char *text = strndup(raw_text, n);

                raw_parse_list(text, false, &v);
                free(text);
        }
        sock_diag_vec_done(&v);
}

static void test_diag_parse(void **state) {
        struct {
                struct inet_diag_msg msg;
                struct rtattr attr;
                uint8_t shutdown, pad[3];
        } m = { .msg = { .idiag_family = AF_INET,
                         .idiag_state = TCP_LISTEN,
                         .idiag_inode = 77,
                         .idiag_wqueue = 5 },
                .attr = { .rta_len = sizeof(struct rtattr) + 1, .rta_type = INET_DIAG_SHUTDOWN },
                .shutdown = 2 };
        struct sock_diag s;

        m.msg.id.idiag_sport = htons(80);
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), 0);
        assert_int_equal(s.ino, 77);
        assert_int_equal(s.src_port, 80);
        assert_true(s.has_shutdown && s.shutdown == 2);
        assert_int_equal(sock_diag_parse(&m, sizeof(m.msg) - 1, IPPROTO_TCP, &s), -EBADMSG);
        m.attr.rta_len = 200; /* longer than the message */
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), -EBADMSG);
        m.attr.rta_len = 0; /* would never end */
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), -EBADMSG);
        m.attr.rta_len = 1;
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), -EBADMSG);
}

static void test_diag_info(void **state) {
        struct {
                struct inet_diag_msg msg;
                struct rtattr attr;
                uint8_t info[sizeof(struct tcp_info_long)];
        } m = { .attr = { .rta_len = sizeof(struct rtattr) + sizeof(struct tcp_info_long),
                          .rta_type = INET_DIAG_INFO } };
        struct tcp_info_long info = { .segs_in = 3, .segs_out = 4 };
        struct sock_diag s;

        memcpy(m.info, &info, sizeof(info));
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), 0);
        assert_true(s.has_segments && s.segments_in == 3 && s.segments_out == 4);
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_UDP, &s), 0);
        assert_false(s.has_segments);
        m.attr.rta_len--; /* of an old kernel */
        assert_int_equal(sock_diag_parse(&m, sizeof(m), IPPROTO_TCP, &s), 0);
        assert_false(s.has_segments);
}

static void test_diag_query(void **state) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), n = 0;
        struct sock_diag_table t = { 0 };
        struct ckpt_error err = CKPT_ERROR_INIT;
        const struct sock_diag *s;
        char link[64] = "", path[32];

        assert_int_equal(listen(fd, 7), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        assert_true(readlink(path, link, sizeof(link) - 1) > 0 && sscanf(link, "socket:[%d]", &n) == 1);
        assert_int_equal(sock_diag_query(&t, AF_INET, IPPROTO_TCP, &err), 0);
        s = sock_diag_find(&t, (uint64_t)n);
        assert_non_null(s);
        assert_int_equal(s->state, TCP_LISTEN);
        assert_int_equal(s->wqueue, 7);
        assert_null(sock_diag_find(&t, 0));
        assert_int_equal(sock_diag_query(&t, AF_INET, IPPROTO_SCTP, &err), -EOPNOTSUPP);
        sock_diag_done(&t);
        close(fd);
}

static void test_lock_names(void **state) {
        char name[NETLOCK_NAME_MAX], other[NETLOCK_NAME_MAX];

        netlock_new_name(name);
        netlock_new_name(other);
        assert_true(netlock_name_valid(name));
        assert_string_not_equal(name, other);
        assert_false(netlock_name_valid(""));
        assert_false(netlock_name_valid("filter"));
        assert_false(netlock_name_valid("ckpt-"));
        assert_false(netlock_name_valid("ckpt-0123456789abcdeF"));
        assert_false(netlock_name_valid("ckpt-0123456789abcde; flush ruleset"));
        assert_false(netlock_name_valid("ckpt-0123456789abcdef0"));
}

static int check_locks(const char *a, const char *b) {
        struct netlock_found_vec found = { 0 };
        struct ckpt_error err = CKPT_ERROR_INIT;
        int r = netlock_list(&found, &err) == 0 && found.n == (size_t)(a != NULL) + (b != NULL) ? 0 : 1;

        for (size_t i = 0; i < found.n; i++) {
                bool first = a && strcmp(found.v[i].name, a) == 0;

                if (found.v[i].owner != getpid() || (!first && (!b || strcmp(found.v[i].name, b) != 0)) ||
                    strcmp(found.v[i].note, first ? "a _note_; }" : "b") != 0)
                        r = 1;
        }
        netlock_found_vec_done(&found);
        return r;
}

/* In a child, in a network of its own. */
static int lock_child(void) {
        struct sock_tuple tuples[2] = {
                { .src = { 0x0100007f }, .dst = { 0x0200007f }, .src_port = 1, .dst_port = 2 },
                { .v6 = true, .src = { 1, 2, 3, 4 }, .dst = { 5, 6, 7, 8 }, .src_port = 3 }
        };
        struct netlock_hold *held_a = NULL, *held_b = NULL;
        char a[NETLOCK_NAME_MAX], b[NETLOCK_NAME_MAX];
        struct ckpt_error err = CKPT_ERROR_INIT;
        int fd, status;

        if (unshare(CLONE_NEWNET) < 0)
                return 77;
        fd = -EBADF;
        netlock_new_name(a);
        netlock_new_name(b);
        if (netlock_exists(a) != 0 || netlock_hold(a, tuples, 2, "a \"note\"; }", NULL, &held_a, &err) < 0 ||
            netlock_hold_in(held_a, &err) < 0 ||
            netlock_hold(b, tuples + 1, 1, "b", NULL, &held_b, &err) < 0) {
                fprintf(stderr, "%s\n", ckpt_error_message(&err));
                return 1;
        }
        if (netlock_exists(a) != 1 || netlock_exists(b) != 1 || check_locks(a, b) != 0)
                return 2;
        if (netlock_hold_end(held_b, &err) < 0 || check_locks(a, NULL) != 0)
                return 3;
        netlock_hold_free(&held_b);
        /* Left in the place of the other, it is nobody's. */
        if (netlock_hold_leave(held_a, b, tuples, 2, "b", &err) < 0 || check_locks(NULL, b) != 0)
                return 4;
        netlock_hold_free(&held_a);
        if (check_locks(NULL, b) != 0 || netlock_remove(&fd, b, &err) < 0 ||
            netlock_remove(&fd, b, &err) < 0 || netlock_exists(b) != 0)
                return 5;
        /* Whoever holds it is killed. */
        if (fork() == 0) {
                netlock_hold(a, tuples, 2, "a", NULL, &held_a, &err);
                kill(getpid(), SIGKILL);
        }
        return wait(&status) > 0 && WIFSIGNALED(status) && netlock_exists(a) == 0 ? 0 : 6;
}

/* Connections that ended while they were read, all of one family: nothing of the lock stays there. */
static int legacy_child(void) {
        struct sock_tuple tuples[2] = {
                { .src = { 0x0100007f }, .dst = { 0x0200007f }, .src_port = 1, .dst_port = 2 },
                { .v6 = true, .src = { 1, 2, 3, 4 }, .dst = { 5, 6, 7, 8 }, .src_port = 3 }
        };
        struct netlock_found_vec found = { 0 };
        char a[NETLOCK_NAME_MAX], b[NETLOCK_NAME_MAX];
        struct ckpt_error err = CKPT_ERROR_INIT;
        void *own;
        int r;

        if (unshare(CLONE_NEWNET) < 0)
                return 77;
        netlock_new_name(a);
        netlock_new_name(b);
        r = netlock_legacy.hold(a, tuples, 2, "a", NULL, &own, &err);
        if (r == -EOPNOTSUPP)
                return 77;
        if (r < 0 || netlock_legacy.hold_in(own, a, &err) < 0 ||
            netlock_legacy.leave(own, a, b, tuples, 1, "b", &err) < 0) {
                fprintf(stderr, "%s\n", ckpt_error_message(&err));
                return 1;
        }
        netlock_legacy.free(own);
        if (netlock_legacy.list(&found, &err) < 0 || found.n != 1 || strcmp(found.v[0].name, b) != 0 ||
            !found.v[0].xt[0] || found.v[0].xt[1])
                return 2;
        netlock_found_vec_done(&found);
        return netlock_legacy_remove(b) == 0 && netlock_exists(b) == 0 ? 0 : 3;
}

static void run_in_child(int (*fn)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(fn());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
                skip();
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_lock(void **state) {
        run_in_child(lock_child);
}

static void test_legacy_leave(void **state) {
        run_in_child(legacy_child);
}

static void test_stream_check(void **state) {
        Img__TcpStream m = IMG__TCP_STREAM__INIT;

        assert_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        assert_non_null(tcp_stream_check(&m, TCP_LISTEN));
        assert_non_null(tcp_stream_check(&m, 99));
        m.outq_len = 10;
        m.has_unsq_len = true;
        m.unsq_len = 11;
        assert_non_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        m.unsq_len = 10;
        assert_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        assert_non_null(tcp_stream_check(&m, TCP_FIN_WAIT2));
        assert_non_null(tcp_stream_check(&m, TCP_SYN_SENT));
        m.inq_len = 0xffffffff;
        assert_non_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        m.inq_len = 0;
        m.has_urgent_at = true;
        assert_non_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        m.inq_len = 5;
        m.urgent_at = 5;
        assert_non_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        m.urgent_at = 4;
        assert_null(tcp_stream_check(&m, TCP_ESTABLISHED));
        m.inq_len = 0;
        m.has_urgent_at = false;
        m.opt_mask = 4;
        m.snd_wscale = 15;
        assert_non_null(tcp_stream_check(&m, TCP_ESTABLISHED));
}

/* The peer has more than was sent when we looked, also across the wrap of the sequence numbers. */
static void test_match_peer(void **state) {
        struct tcp_queues a = { .state = TCP_ESTABLISHED }, b = { .state = TCP_ESTABLISHED };

        img__tcp_stream__init(&a.msg);
        img__tcp_stream__init(&b.msg);
        a.msg.outq_seq = 50; /* wrapped: the queue begins at -150 */
        a.msg.outq_len = 200;
        a.msg.unsq_len = 120;
        b.msg.inq_seq = 10;
        tcp_match_peer(&a, &b);
        assert_int_equal(a.msg.unsq_len, 40);
        b.msg.inq_seq = (uint32_t)-100;
        tcp_match_peer(&a, &b);
        assert_int_equal(a.msg.unsq_len, 40);
        a.state = TCP_FIN_WAIT1;
        b.state = TCP_CLOSE_WAIT;
        b.msg.inq_seq = 50;
        tcp_match_peer(&a, &b);
        assert_int_equal(a.msg.unsq_len, 0);
}

static void test_opts_check(void **state) {
        Img__SkOption o = IMG__SK_OPTION__INIT, *list[] = { &o };
        Img__SkOpts sk = IMG__SK_OPTS__INIT;
        struct sock_opts opts = { .sk = &sk };
        uint8_t data[100] = { 0 };
        const char *why = NULL;

        assert_int_equal(sock_opts_check(&opts, &why), 0);
        sk.n_others = 1;
        sk.others = list;
        o.level = SOL_SOCKET;
        o.name = 9999;
        assert_int_equal(sock_opts_check(&opts, &why), -EBADMSG);
        o.name = SO_RCVMARK;
        assert_int_equal(sock_opts_check(&opts, &why), -EBADMSG); /* without a value */
        o.has_number = true;
        assert_int_equal(sock_opts_check(&opts, &why), 0);
        o.level = IPPROTO_TCP;
        o.name = TCP_CONGESTION;
        assert_int_equal(sock_opts_check(&opts, &why), -EBADMSG);
        o.has_data = true;
        o.data = (ProtobufCBinaryData){ .len = sizeof(data), .data = data };
        assert_int_equal(sock_opts_check(&opts, &why), -EBADMSG);
        o.data.len = 4;
        assert_int_equal(sock_opts_check(&opts, &why), 0);
        sk.so_sndbuf = 0xffffffff;
        assert_int_equal(sock_opts_check(&opts, &why), -EBADMSG);
}

/* Netlink sockets have no SO_PEEK_OFF, as older kernels have not all options. */
static void test_opts_of_newer(void **state) {
        const struct sock_kind kind = { .domain = AF_NETLINK, .type = SOCK_RAW, .protocol = NETLINK_ROUTE };
        Img__SkOption o = IMG__SK_OPTION__INIT, *list[] = { &o };
        struct sock_defaults *defaults = sock_defaults_new();
        struct ckpt_error err = CKPT_ERROR_INIT;
        Img__SkOpts sk = IMG__SK_OPTS__INIT;
        struct sock_opts opts = { .sk = &sk };
        int fd = socket(kind.domain, kind.type | SOCK_CLOEXEC, kind.protocol);

        (void)state;
        assert_true(fd >= 0);
        sk.n_others = 1;
        sk.others = list;
        sk.so_sndbuf = sk.so_rcvbuf = 8192;
        o.level = SOL_SOCKET;
        o.name = SO_PEEK_OFF;
        o.has_number = true;
        o.number = -1;
        assert_true(sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_LAST, 0, defaults, "it", &err) < 0);
        ckpt_error_clear(&err);
        o.has_is_default = o.is_default = true;
        assert_int_equal(sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_LAST, 0, defaults, "it", &err), 0);
        close(fd);
        sock_defaults_free(&defaults);
}

static void test_reuseport_check(void **state) {
        Img__SkReuseport g = IMG__SK_REUSEPORT__INIT;
        Img__InetSk m = IMG__INET_SK__INIT;
        uint64_t program[2] = { 6 };

        (void)state;
        m.type = SOCK_DGRAM;
        m.state = TCP_CLOSE;
        assert_null(reuseport_check(&m));
        m.reuseport = &g;
        g.group = 1;
        assert_non_null(reuseport_check(&m)); /* the first has the program */
        g.program = program;
        g.n_program = 1;
        assert_null(reuseport_check(&m));
        g.place = 1;
        assert_non_null(reuseport_check(&m)); /* ... and no other */
        g.n_program = 0;
        assert_null(reuseport_check(&m));
        g.place = 65536;
        assert_non_null(reuseport_check(&m));
        g.place = 0;
        g.n_program = BPF_MAXINSNS + 1;
        assert_non_null(reuseport_check(&m));
        g.n_program = 1;
        m.type = SOCK_STREAM;
        m.state = TCP_ESTABLISHED;
        assert_non_null(reuseport_check(&m));
}

/* A place that two have, or nobody. */
static void test_reuseport_load(void **state) {
        static const uint32_t places[][4] = {
                { 1, 0, 1, 1 }, { 1, 1, 1, 2 }, { 1, 0, 2, 1 }, { 1, 0, 1, 0 }
        };
        Img__SkReuseport g[2] = { IMG__SK_REUSEPORT__INIT, IMG__SK_REUSEPORT__INIT };
        Img__InetSk m[2] = { IMG__INET_SK__INIT, IMG__INET_SK__INIT };
        struct inet_file files[2] = { { .isk = &m[0] }, { .isk = &m[1] } };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                struct ckpt_error err = CKPT_ERROR_INIT;
                struct inet_state s = { .v = files, .n = 2 };

                for (size_t k = 0; k < 2; k++) {
                        g[k].group = places[i][2 * k];
                        g[k].place = places[i][2 * k + 1];
                        m[k].reuseport = &g[k];
                }
                assert_int_equal(reuseport_load(&s, &err), i == 0 ? 0 : -EBADMSG);
                ckpt_error_clear(&err);
                inet_file_ref_vec_done(&s.grouped);
        }
}

static void test_pending_error_check(void **state) {
        Img__InetSk m = IMG__INET_SK__INIT;
        uint32_t here = inet_addr("127.0.0.1");

        (void)state;
        m.family = AF_INET;
        m.n_src_addr = 1;
        m.src_addr = &here;
        m.type = SOCK_DGRAM;
        m.state = TCP_ESTABLISHED;
        assert_null(pending_error_check(&m));
        m.has_error = true;
        assert_non_null(pending_error_check(&m));
        m.error = ECONNREFUSED;
        assert_null(pending_error_check(&m));
        m.state = TCP_CLOSE; /* nobody tells a socket that is not connected */
        assert_non_null(pending_error_check(&m));
        m.type = SOCK_STREAM;
        assert_non_null(pending_error_check(&m));
        m.connecting = true;
        assert_null(pending_error_check(&m));
        m.error = ETIMEDOUT;
        assert_non_null(pending_error_check(&m));
        m.connecting = false;
        m.error = EPIPE;
        assert_null(pending_error_check(&m));
        m.state = TCP_ESTABLISHED;
        assert_non_null(pending_error_check(&m));
}

static void test_datagrams_check(void **state) {
        Img__SkDatagram d = IMG__SK_DATAGRAM__INIT, *list[] = { &d };
        Img__InetSk m = IMG__INET_SK__INIT;
        uint32_t here = inet_addr("127.0.0.1"), there = inet_addr("10.0.0.1"), many = inet_addr("224.0.0.1");

        m.family = AF_INET;
        m.type = SOCK_DGRAM;
        m.proto = IPPROTO_UDP;
        m.n_src_addr = 1;
        m.src_addr = &here;
        assert_null(datagrams_check(&m));
        m.n_datagrams = 1;
        m.datagrams = list;
        assert_non_null(datagrams_check(&m)); /* from nowhere */
        d.n_src_addr = 1;
        d.src_addr = &there;
        d.src_port = 53;
        assert_null(datagrams_check(&m));
        d.src_port = 0x10000;
        assert_non_null(datagrams_check(&m));
        d.src_port = 53;
        d.n_src_addr = 4; /* of another family */
        assert_non_null(datagrams_check(&m));
        d.n_src_addr = 1;
        d.src_addr = &many;
        assert_non_null(datagrams_check(&m));
        d.src_addr = &there;
        d.n_dst_addr = 2;
        d.dst_addr = &here;
        assert_non_null(datagrams_check(&m));
        d.n_dst_addr = 1;
        assert_null(datagrams_check(&m));
        d.dst_addr = &many; /* would reach others */
        assert_non_null(datagrams_check(&m));
        d.n_dst_addr = 0;
        d.data.len = 70000; /* is not looked at */
        assert_non_null(datagrams_check(&m));
        d.data.len = 0;
        d.has_ttl = true;
        d.ttl = 256;
        assert_non_null(datagrams_check(&m));
        d.ttl = 1;
        m.proto = IPPROTO_ICMP;
        assert_non_null(datagrams_check(&m));
        m.proto = IPPROTO_UDP;
        m.type = SOCK_RAW;
        assert_non_null(datagrams_check(&m));
}

/* A connection to a listener of its own; *ret_peer is the accepted end. */
static int connected(int family, int *ret_peer) {
        union sock_address a = { .any.sa_family = (sa_family_t)family };
        int listener = socket(family, SOCK_STREAM, 0), fd = socket(family, SOCK_STREAM, 0);
        socklen_t len = sizeof(a);

        if (family == AF_INET)
                a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                a.in6.sin6_addr = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
        assert_int_equal(bind(listener, &a.any, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, &a.any, &len), 0);
        assert_int_equal(connect(fd, &a.any, len), 0);
        *ret_peer = accept(listener, NULL, NULL);
        assert_true(*ret_peer >= 0);
        close(listener);
        return fd;
}

/* As bytes: the same options, whether asked one by one or told by sock_diag. */
static void check_told(int fd, int family) {
        struct sock_kind kind = { family, SOCK_STREAM, IPPROTO_TCP };
        struct sock_defaults *defaults = sock_defaults_new();
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct sock_diag_table t = { 0 };
        struct sock_opts asked, told;
        struct sock_known known = { .connected = true };
        struct arena arena = { 0 };
        uint8_t a[4096], b[4096];
        struct stat st;
        size_t n;

        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(sock_diag_query(&t, family, IPPROTO_TCP, &err), 0);
        assert_int_equal(sock_opts_dump(fd, &kind, &arena, defaults, &known, &asked, &err), 0);
        known.diag = sock_diag_find(&t, st.st_ino);
        assert_non_null(known.diag);
        for (int i = SOCK_TOLD_NOT + 1; i < SOCK_TOLD_MAX; i++)
                if (i != SOCK_TOLD_TCLASS || family == AF_INET6)
                        assert_true(sock_diag_tells(known.diag, (enum sock_told)i));
        assert_int_equal(sock_opts_dump(fd, &kind, &arena, defaults, &known, &told, &err), 0);
        n = img__sk_opts__get_packed_size(told.sk);
        assert_true(n <= sizeof(a) && n == img__sk_opts__pack(told.sk, a));
        assert_true(n == img__sk_opts__pack(asked.sk, b) && memcmp(a, b, n) == 0);
        n = img__ip_opts__pack(told.ip, a);
        assert_true(n == img__ip_opts__pack(asked.ip, b) && memcmp(a, b, n) == 0);
        sock_diag_done(&t);
        sock_defaults_free(&defaults);
        arena_done(&arena);
}

static void set_option(int fd, int level, int name, int value) {
        assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static void test_diag_options(void **state) {
        static const struct {
                int level, name, value;
        } sets[] = {
                { IPPROTO_IP, IP_TOS, 16 },        { IPPROTO_IP, IP_FREEBIND, 1 },
                { IPPROTO_IP, IP_TRANSPARENT, 1 }, { IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1 },
                { IPPROTO_IP, IP_RECVERR, 1 },     { IPPROTO_IP, IP_RECVERR_RFC4884, 1 },
                { SOL_SOCKET, SO_MARK, -2 },       { SOL_SOCKET, SO_SNDBUF, 10000 },
                { SOL_SOCKET, SO_RCVBUF, 20000 },  { SOL_SOCKET, SO_MAX_PACING_RATE, 1000000 },
        };
        static const int families[] = { AF_INET, AF_INET6 };

        for (size_t f = 0; f < 2; f++) {
                int peer, fd = connected(families[f], &peer);

                check_told(fd, families[f]);
                for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
                        set_option(fd, sets[i].level, sets[i].name, sets[i].value);
                        check_told(fd, families[f]);
                }
                if (families[f] == AF_INET6)
                        set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, 40);
                assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
                check_told(fd, families[f]);
                check_told(peer, families[f]);
                close(fd);
                close(peer);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_igmp),
                cmocka_unit_test(test_igmp_hostile),
                cmocka_unit_test(test_diag_parse),
                cmocka_unit_test(test_diag_info),
                cmocka_unit_test(test_diag_options),
                cmocka_unit_test(test_diag_query),
                cmocka_unit_test(test_lock_names),
                cmocka_unit_test(test_lock),
                cmocka_unit_test(test_legacy_leave),
                cmocka_unit_test(test_stream_check),
                cmocka_unit_test(test_match_peer),
                cmocka_unit_test(test_opts_check),
                cmocka_unit_test(test_opts_of_newer),
                cmocka_unit_test(test_raw_list),
                cmocka_unit_test(test_datagrams_check),
                cmocka_unit_test(test_reuseport_check),
                cmocka_unit_test(test_reuseport_load),
                cmocka_unit_test(test_pending_error_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
