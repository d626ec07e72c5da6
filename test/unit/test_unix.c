/* SPDX-License-Identifier: GPL-2.0-only */
/* Unix sockets: what the kernel says of them, and images that make no sense. */
#include "test_fd.h"

#include <linux/rtnetlink.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sock/unix.h"

static struct fd_fixture fx;

/* ---- unix_diag ---- */

struct message {
        struct unix_diag_msg head;
        char rest[512];
        size_t len;
};

static struct message begin(void) {
        return (struct message){ .head = { .udiag_family = AF_UNIX,
                                           .udiag_type = SOCK_STREAM,
                                           .udiag_state = TCP_LISTEN,
                                           .udiag_ino = 4711 },
                                 .len = sizeof(struct unix_diag_msg) };
}

static void attribute(struct message *m, uint16_t type, const void *data, size_t size) {
        struct rtattr attr = { .rta_len = (unsigned short)(sizeof(attr) + size), .rta_type = type };
        char *at = (char *)m + m->len;

        memcpy(at, &attr, sizeof(attr));
        memcpy(at + sizeof(attr), data, size);
        m->len += RTA_ALIGN(attr.rta_len);
}

static void test_diag_parse(void **state) {
        uint32_t vfs[2] = { 99, 0x800001 }, queue[2] = { 3, 128 }, waiting[3] = { 7, 0, 8 }, peer = 4712;
        struct message m = begin();
        struct arena arena = { 0 };
        struct unix_diag s;
        uint8_t both = 3;

        (void)state;
        attribute(&m, UNIX_DIAG_NAME, "/run/x", 7);
        attribute(&m, UNIX_DIAG_VFS, vfs, sizeof(vfs));
        attribute(&m, UNIX_DIAG_PEER, &peer, 4);
        attribute(&m, UNIX_DIAG_ICONS, waiting, sizeof(waiting));
        attribute(&m, UNIX_DIAG_RQLEN, queue, sizeof(queue));
        attribute(&m, UNIX_DIAG_SHUTDOWN, &both, 1);
        attribute(&m, 77, "unknown", 7);
        assert_int_equal(unix_diag_parse(&m, m.len, &arena, &s), 0);
        assert_int_equal(s.ino, 4711);
        assert_int_equal(s.name_len, 7);
        assert_string_equal(s.name, "/run/x");
        assert_true(s.has_file && s.file_ino == 99 && s.file_dev == 0x800001);
        assert_true(s.has_peer && s.peer == 4712);
        assert_int_equal(s.nr_waiting, 3);
        assert_int_equal(s.waiting[2], 8);
        assert_int_equal(s.rqueue, 3);
        assert_int_equal(s.wqueue, 128);
        assert_int_equal(s.shutdown, 3);
        arena_done(&arena);
}

static void test_diag_hostile(void **state) {
        static const struct {
                uint16_t type;
                size_t size;
        } bad[] = { { UNIX_DIAG_NAME, 110 }, { UNIX_DIAG_NAME, 200 }, { UNIX_DIAG_VFS, 4 },
                    { UNIX_DIAG_PEER, 3 },   { UNIX_DIAG_RQLEN, 7 },  { UNIX_DIAG_SHUTDOWN, 0 } };
        char zeros[256] = "", path[] = { '/', 'x' };
        struct arena arena = { 0 };
        struct unix_diag s;
        struct message m;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
                m = begin();
                attribute(&m, bad[i].type, zeros, bad[i].size);
                assert_int_equal(unix_diag_parse(&m, m.len, &arena, &s), -EBADMSG);
        }
        m = begin();
        attribute(&m, UNIX_DIAG_NAME, path, 2); /* without its NUL */
        assert_int_equal(unix_diag_parse(&m, m.len, &arena, &s), -EBADMSG);
        m = begin();
        for (size_t len = 0; len < sizeof(struct unix_diag_msg); len++)
                assert_int_equal(unix_diag_parse(&m, len, &arena, &s), -EBADMSG);
        attribute(&m, UNIX_DIAG_PEER, zeros, 4);
        ((struct rtattr *)m.rest)->rta_len = 60000;
        assert_int_equal(unix_diag_parse(&m, m.len, &arena, &s), -EBADMSG);
        arena_done(&arena);
}

static void test_diag_query(void **state) {
        struct unix_table t = { 0 };
        int s[2];
        struct stat a, b;
        const struct unix_diag *found;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
        assert_int_equal(send(s[0], "12345", 5, 0), 5);
        fstat(s[0], &a);
        fstat(s[1], &b);
        assert_ok(unix_diag_query(&t, &fx.err), &fx.err);
        found = unix_diag_find(&t, (uint32_t)b.st_ino);
        assert_non_null(found);
        assert_int_equal(found->peer, a.st_ino);
        assert_int_equal(found->type, SOCK_SEQPACKET);
        assert_int_equal(found->rqueue, 5);
        assert_null(unix_diag_find(&t, 0));
        unix_table_done(&t);
        close(s[0]);
        close(s[1]);
}

/* ---- images ---- */

enum { NR = 3 };

static Img__UnixSk socks[NR];
static Img__SkOpts opts;
static Img__Fown fown;
static Img__SkPacket packet;
static Img__Scm scm, *scms[2] = { &scm, &scm };
static uint32_t rights[300], waiting[2], nobody[1]; /* of whom one waits, and has closed */
static Img__UnixClient gone, *gone_list[2] = { &gone, &gone };
static Img__UnixCred cred;
static const char *bytes;
static unsigned int packets; /* how often it is written ... */
static uint32_t last_urgent; /* ... and the last time as this, if not 0 */

static void name(Img__UnixSk *s, const char *text, size_t len) {
        s->name.data = (uint8_t *)text;
        s->name.len = len;
}

static int setup(void **state) {
        (void)state;
        fixture_init(&fx);
        img__sk_opts__init(&opts);
        img__fown__init(&fown);
        img__unix_cred__init(&cred);
        img__unix_client__init(&gone);
        for (uint32_t i = 0; i < NR; i++) {
                img__unix_sk__init(&socks[i]);
                socks[i].id = i + 1;
                socks[i].ino = 101 + i;
                socks[i].type = SOCK_STREAM;
                socks[i].state = TCP_ESTABLISHED;
                socks[i].flags = O_RDWR;
                socks[i].opts = &opts;
                socks[i].fown = &fown;
        }
        socks[0].peer = 102;
        socks[1].peer = 101;
        socks[2].type = SOCK_DGRAM;
        socks[2].state = TCP_CLOSE;
        img__sk_packet__init(&packet);
        img__scm__init(&scm);
        scm.type = SCM_RIGHTS;
        scm.rights = rights;
        packet.id_for = 101;
        packet.length = 4;
        bytes = "data";
        packets = 1;
        last_urgent = 0;
        return 0;
}

static int teardown(void **state) {
        (void)state;
        restore_done(&fx);
        fixture_done(&fx);
        return 0;
}

static int load_set(void) {
        struct image_file *image;

        assert_ok(image_set_create(fx.dirfd, NULL, &fx.dump.set, &fx.err), &fx.err);
        assert_ok(image_open_write(fx.dump.set, IMAGE_FILES, 0, &image, &fx.err), &fx.err);
        for (size_t i = 0; i < NR; i++) {
                Img__File f = IMG__FILE__INIT;

                f.type = IMG__FD_TYPES__UNIXSK;
                f.id = socks[i].id;
                f.usk = &socks[i];
                assert_ok(image_write(image, &f.base, &fx.err), &fx.err);
        }
        assert_ok(image_close(image, &fx.err), &fx.err);
        assert_ok(image_open_write(fx.dump.set, IMAGE_SK_QUEUES, 0, &image, &fx.err), &fx.err);
        for (unsigned int i = 0; i < packets; i++) {
                if (i > 0 && last_urgent != 0) {
                        packet.urgent = last_urgent;
                        packet.length = 0;
                        bytes = "";
                }
                assert_ok(image_write(image, &packet.base, &fx.err), &fx.err);
                assert_ok(image_write_raw(image, bytes, strlen(bytes), &fx.err), &fx.err);
        }
        assert_ok(image_close(image, &fx.err), &fx.err);
        images_commit(&fx);
        return restore_load_all(&fx);
}

static void test_in_order(void **state) {
        (void)state;
        assert_ok(load_set(), &fx.err);
}

/* Each spoils one thing. */
static void spoil_type(void) {
        socks[0].type = SOCK_RAW;
}
static void spoil_state(void) {
        socks[0].state = TCP_SYN_SENT;
}
static void spoil_listen(void) {
        socks[2].state = TCP_LISTEN;
}
static void spoil_nameless_listener(void) {
        socks[2].type = SOCK_STREAM;
        socks[2].state = TCP_LISTEN;
}
static void spoil_name_long(void) {
        static char text[200];

        name(&socks[0], memset(text, 'x', sizeof(text)), sizeof(text));
}
static void spoil_name_nul(void) {
        name(&socks[0], "/a\0b", 5);
}
static void spoil_name_end(void) {
        name(&socks[0], "/a", 2);
}
static void spoil_name_empty(void) {
        name(&socks[0], "/a", 1);
}
static void spoil_dir(void) {
        socks[0].name_dir = (char *)"relative";
}
static void spoil_no_dir(void) {
        name(&socks[0], "a", 2);
}
static void spoil_root(void) {
        socks[0].name_root = (char *)"relative";
}
static void spoil_backlog(void) {
        socks[0].backlog = UINT32_MAX;
}
static void spoil_peer(void) {
        socks[0].peer = 999;
}
static void spoil_peer_own(void) {
        socks[0].peer = 101;
}
static void spoil_peer_type(void) {
        socks[0].peer = 103;
}
static void spoil_same_ino(void) {
        socks[2].ino = 101;
}
static void spoil_waiting(void) {
        socks[2].n_waiting = 1;
        socks[2].waiting = waiting;
        waiting[0] = 101;
}
static void spoil_two_peers(void) {
        socks[0].has_outside = true;
        socks[0].outside.data = (uint8_t *)"/x";
        socks[0].outside.len = 3;
}
static void spoil_packet_for(void) {
        packet.id_for = 5;
}
static void spoil_packet_length(void) {
        packet.length = 5;
}
static void spoil_packet_huge(void) {
        packet.length = UINT32_MAX;
}
static void spoil_packet_empty(void) {
        packet.length = 0;
        bytes = "";
}
static void spoil_packet_lonely(void) {
        packet.id_for = 103;
}
static void spoil_scm_type(void) {
        packet.n_scm = 1;
        packet.scm = scms;
        scm.type = 77;
}
static void spoil_scm_two(void) {
        packet.n_scm = 2;
        packet.scm = scms;
}
static void spoil_rights(void) {
        packet.n_scm = 1;
        packet.scm = scms;
        scm.n_rights = 1;
        rights[0] = 55;
}
static void spoil_rights_many(void) {
        packet.n_scm = 1;
        packet.scm = scms;
        scm.n_rights = 300;
        for (size_t i = 0; i < 300; i++)
                rights[i] = 1;
}
static void spoil_cred(void) {
        packet.cred = &cred;
        cred.pid = -1;
}
static void spoil_peer_cred(void) {
        socks[0].peer_cred = &cred;
        cred.pid = -1;
}
static void spoil_sender(void) {
        packet.has_sender = true;
        packet.sender.data = (uint8_t *)"/a";
        packet.sender.len = 2;
}
static void spoil_two_binders(void) {
        socks[0].name.len = socks[2].name.len = 4;
        socks[0].name.data = socks[2].name.data = (uint8_t *)"\0abc";
        socks[2].type = SOCK_STREAM;
        socks[0].state = socks[2].state = TCP_CLOSE;
        socks[0].peer = 0;
        socks[1].peer = 0;
        socks[1].has_closed = socks[1].closed = true;
        packet.id_for = 102;
}

static void make_listener(void) {
        name(&socks[2], "\0test of clients", 16);
        socks[2].type = SOCK_STREAM;
        socks[2].state = TCP_LISTEN;
        socks[2].n_waiting = 1;
        socks[2].waiting = nobody;
}
static void spoil_gone_few(void) {
        make_listener();
}
static void spoil_gone_many(void) {
        make_listener();
        socks[2].n_gone = 2;
        socks[2].gone = gone_list;
}
static void spoil_gone_name(void) {
        make_listener();
        socks[2].n_gone = 1;
        socks[2].gone = gone_list;
        gone.has_name = true;
        gone.name.data = (uint8_t *)"/a";
        gone.name.len = 2;
}
static void spoil_gone_cred(void) {
        make_listener();
        socks[2].n_gone = 1;
        socks[2].gone = gone_list;
        gone.has_name = false;
        gone.cred = &cred;
        cred.pid = -1;
}
static void spoil_early_none(void) {
        packet.has_early = true;
        packet.early = 1;
}
static void early_packet(uint32_t client) {
        make_listener();
        socks[2].n_gone = 1;
        socks[2].gone = gone_list;
        gone = (Img__UnixClient)IMG__UNIX_CLIENT__INIT;
        packet.id_for = 103;
        packet.has_early = true;
        packet.early = client;
}
static void spoil_early_zero(void) {
        early_packet(0);
}
static void spoil_early_beyond(void) {
        early_packet(2);
}
static void spoil_early_rights(void) {
        early_packet(1);
        packet.n_scm = 1;
        packet.scm = scms;
        scm.n_rights = 1;
        rights[0] = 55;
}
static void spoil_early_missing(void) {
        early_packet(1);
        packet.has_early = false; /* a listener has no queue of its own */
}

static void make_urgent(uint32_t urgent, uint32_t length) {
        packet.has_urgent = true;
        packet.urgent = urgent;
        packet.length = length;
        bytes = "data" + 4 - length;
}
static void spoil_urgent_zero(void) {
        make_urgent(0, 1);
}
static void spoil_urgent_other(void) {
        make_urgent(3, 1);
}
static void spoil_urgent_long(void) {
        make_urgent(UNIX_URGENT_UNREAD, 4);
}
static void spoil_urgent_empty(void) {
        make_urgent(UNIX_URGENT_UNREAD, 0);
}
static void spoil_urgent_read(void) {
        make_urgent(UNIX_URGENT_READ, 1);
}
static void spoil_urgent_packet(void) {
        socks[0].type = socks[1].type = SOCK_SEQPACKET;
        make_urgent(UNIX_URGENT_UNREAD, 1);
}
static void spoil_urgent_early(void) {
        early_packet(1);
        make_urgent(UNIX_URGENT_READ, 0);
}
static void spoil_urgent_twice(void) {
        make_urgent(UNIX_URGENT_UNREAD, 1);
        packets = 2;
}
static void spoil_urgent_behind(void) {
        make_urgent(UNIX_URGENT_UNREAD, 1);
        packets = 2;
        last_urgent = UNIX_URGENT_READ;
}

static void (*const spoilers[])(void) = {
        spoil_urgent_zero,   spoil_urgent_other,
        spoil_urgent_long,   spoil_urgent_empty,
        spoil_urgent_read,   spoil_urgent_packet,
        spoil_urgent_early,  spoil_urgent_twice,
        spoil_urgent_behind, spoil_gone_few,
        spoil_gone_many,     spoil_gone_name,
        spoil_gone_cred,     spoil_early_none,
        spoil_early_zero,    spoil_early_beyond,
        spoil_early_rights,  spoil_early_missing,
        spoil_type,          spoil_state,
        spoil_listen,        spoil_nameless_listener,
        spoil_name_long,     spoil_name_nul,
        spoil_name_end,      spoil_name_empty,
        spoil_dir,           spoil_no_dir,
        spoil_root,          spoil_backlog,
        spoil_peer,          spoil_peer_own,
        spoil_peer_type,     spoil_same_ino,
        spoil_waiting,       spoil_two_peers,
        spoil_packet_for,    spoil_packet_length,
        spoil_packet_huge,   spoil_packet_empty,
        spoil_packet_lonely, spoil_scm_type,
        spoil_scm_two,       spoil_rights,
        spoil_rights_many,   spoil_cred,
        spoil_peer_cred,     spoil_sender,
        spoil_two_binders,
};

static void test_hostile(void **state) {
        for (size_t i = 0; i < sizeof(spoilers) / sizeof(*spoilers); i++) {
                int r;

                teardown(state);
                setup(state);
                rights[0] = 0;
                cred.pid = 0;
                spoilers[i]();
                r = load_set();
                if (r != -EBADMSG)
                        fail_msg("case %zu: %d %s", i, r, ckpt_error_message(&fx.err));
        }
}

/* The same, but right: of a client that is gone. */
static void test_early(void **state) {
        teardown(state);
        setup(state);
        early_packet(1);
        if (load_set() != 0)
                fail_msg("%s", ckpt_error_message(&fx.err));
}

/* With descriptors, too. */
static void test_early_rights(void **state) {
        teardown(state);
        setup(state);
        early_packet(1);
        packet.n_scm = 1;
        packet.scm = scms;
        scm.n_rights = 1;
        rights[0] = 1;
        if (load_set() != 0)
                fail_msg("%s", ckpt_error_message(&fx.err));
        assert_int_equal(restore_find_file(fx.restore.files, 1)->nr_slots, 1);
        scm.n_rights = 0;
}

/* Urgent data that was read, then such that was not. */
static void test_urgent(void **state) {
        (void)state;
        make_urgent(UNIX_URGENT_READ, 0);
        packets = 2;
        assert_ok(load_set(), &fx.err);
}

/* What waits in it counts as one more that needs the file. */
static void test_rights(void **state) {
        (void)state;
        packet.n_scm = 1;
        packet.scm = scms;
        scm.n_rights = 2;
        rights[0] = rights[1] = 3;
        assert_ok(load_set(), &fx.err);
        assert_int_equal(restore_find_file(fx.restore.files, 3)->nr_slots, 2);
        scm.n_rights = 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_diag_parse),
                cmocka_unit_test(test_diag_hostile),
                cmocka_unit_test(test_diag_query),
                cmocka_unit_test_setup_teardown(test_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
                cmocka_unit_test_setup_teardown(test_early, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_early_rights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_urgent, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
