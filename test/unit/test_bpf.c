/* SPDX-License-Identifier: GPL-2.0-only */
/* kernel/bpf.h: places of members, and records from a stream. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "macro.h"

static void test_members(void **state) {
        _cleanup_(bpf_free) struct bpf *b = NULL;
        int16_t sock = -1, common = -1, family = -1, x = -1;

        assert_int_equal(bpf_new(&b), 0);
        if (bpf_load(b) < 0) {
                print_message("no BPF here\n");
                skip();
        }
        assert_int_equal(bpf_load(b), 0);
        assert_true(bpf_member(b, "sock", "__sk_common", 0, &sock));
        assert_true(bpf_member(b, "sock_common", "skc_family", 2, &common));
        assert_true(bpf_member(b, "sock", "__sk_common.skc_family", 2, &family));
        assert_int_equal(family, sock + common);
        /* In an unnamed member of an unnamed member. */
        assert_true(bpf_member(b, "vm_area_struct", "vm_start", sizeof(void *), &x));

        assert_true(bpf_member(b, "task_struct", "comm", 16, &x));
        assert_true(bpf_member(b, "vm_area_struct", "vm_page_prot", 8, &x));

        x = -7;
        assert_false(bpf_member(b, "sock", "__sk_common.skc_family", 4, &x));
        assert_false(bpf_member(b, "sock", "__sk_common.no_such_member", 0, &x));
        assert_false(bpf_member(b, "sock", "__sk_common.skc_family.deeper", 0, &x));
        assert_false(bpf_member(b, "no_such_type", "x", 0, &x));
        assert_int_equal(x, -7);
        assert_true(bpf_type_size(b, "sock") > (size_t)family);
        assert_int_equal(bpf_type_size(b, "no_such_type"), 0);
        assert_int_equal(bpf_load_iterator(b, "no_such_target", "x", NULL, 0), -ENOSYS);
}

static void test_none(void **state) {
        assert_int_equal(bpf_load(NULL), -EOPNOTSUPP);
}

struct seen {
        unsigned int n, stop_at;
        uint64_t sum;
};

static int add(void *arg, const void *record) {
        const uint64_t *r = record;
        struct seen *s = arg;

        s->sum += r[0] + r[2];
        return ++s->n == s->stop_at ? -EAGAIN : 0;
}

static int stream(const void *data, size_t size) {
        int pipefd[2];

        assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
        assert_int_equal(write(pipefd[1], data, size), size);
        close(pipefd[1]);
        return pipefd[0];
}

static void test_records(void **state) {
        uint64_t data[2000][3];
        uint64_t sum = 0;
        struct seen s = { 0 };
        int fd;

        for (size_t i = 0; i < ELEMENTSOF(data); i++) {
                for (size_t j = 0; j < 3; j++)
                        data[i][j] = i * 3 + j;
                sum += data[i][0] + data[i][2];
        }
        /* 32 KiB at a time are no whole number of records of 24 bytes. */
        fd = stream(data, sizeof(data));
        assert_int_equal(bpf_read_records(fd, sizeof(data[0]), add, &s), 0);
        assert_int_equal(s.n, ELEMENTSOF(data));
        assert_int_equal(s.sum, sum);
        close(fd);

        s = (struct seen){ .stop_at = 10 };
        fd = stream(data, sizeof(data));
        assert_int_equal(bpf_read_records(fd, sizeof(data[0]), add, &s), -EAGAIN);
        assert_int_equal(s.n, 10);
        close(fd);

        s = (struct seen){ 0 };
        fd = stream(data, sizeof(data[0]) * 3 + 1);
        assert_int_equal(bpf_read_records(fd, sizeof(data[0]), add, &s), -EBADMSG);
        assert_int_equal(s.n, 3);
        close(fd);
        assert_int_equal(bpf_read_records(-1, sizeof(data[0]), add, &s), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_members),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_records),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
