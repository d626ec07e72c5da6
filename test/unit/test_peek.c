/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's types (BTF), also damaged ones; and reading its memory from a descriptor on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/btf.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/btf.h"
#include "kernel/peek.h"
#include "kernel/peek_page.h"
#include "macro.h"

/*
 * typedef int number; struct thing { number a; union { struct { int b; void *c; }; char bytes[16]; }; int d : 3; int e : 5; };
 * struct other { int x; }; and twice, differently: struct twin { int x; }
 */
#define INFO(kind, n) ((uint32_t)(kind) << 24 | (n))
#define KFLAG         0x80000000U

struct sample {
        struct btf_header head;
        uint32_t types[75];
        char strings[64];
};

static const char strings[] = "\0int\0number\0thing\0a\0b\0c\0d\0e\0bytes\0twin\0x"; /* and its NUL */
enum {
        S_INT = 1,
        S_NUMBER = 5,
        S_THING = 12,
        S_A = 18,
        S_B = 20,
        S_C = 22,
        S_D = 24,
        S_E = 26,
        S_BYTES = 28,
        S_TWIN = 34,
        S_X = 39
};

static void make_sample(struct sample *s) {
        const uint32_t types[] = {
                S_INT,
                INFO(BTF_KIND_INT, 0),
                4,
                32, /* 1 */
                S_NUMBER,
                INFO(BTF_KIND_TYPEDEF, 0),
                1, /* 2 */
                0,
                INFO(BTF_KIND_PTR, 0),
                0, /* 3 */
                0,
                INFO(BTF_KIND_ARRAY, 0),
                0,
                1,
                1,
                16, /* 4 */
                0,
                INFO(BTF_KIND_STRUCT, 2),
                16,
                S_B,
                1,
                0,
                S_C,
                3,
                64, /* 5 */
                0,
                INFO(BTF_KIND_UNION, 2),
                16,
                0,
                5,
                0,
                S_BYTES,
                4,
                0, /* 6 */
                S_THING,
                INFO(BTF_KIND_STRUCT, 4) | KFLAG,
                32,
                S_A,
                2,
                0,
                0,
                6,
                64, /* 7 */
                S_D,
                1,
                3U << 24 | 192,
                S_E,
                1,
                5U << 24 | 195,
                S_TWIN,
                INFO(BTF_KIND_STRUCT, 1),
                4,
                S_X,
                1,
                0, /* 8 */
                S_TWIN,
                INFO(BTF_KIND_STRUCT, 1),
                8,
                S_X,
                1,
                32, /* 9 */
        };

        memset(s, 0, sizeof(*s));
        s->head = (struct btf_header){ .magic = BTF_MAGIC,
                                       .version = 1,
                                       .hdr_len = sizeof(s->head),
                                       .type_len = sizeof(types),
                                       .str_off = sizeof(s->types),
                                       .str_len = sizeof(strings) };
        assert_true(sizeof(types) <= sizeof(s->types) && sizeof(strings) <= sizeof(s->strings));
        memcpy(s->types, types, sizeof(types));
        memcpy(s->strings, strings, sizeof(strings));
}

static const struct btf_wanted wanted[] = { { "thing", "a" }, { "thing", "c" }, { "thing", "bytes" },
                                            { "thing", "e" }, { "thing", "f" }, { "twin", "x" },
                                            { "none", "x" } };

static int parse_offsets(const void *data, size_t size, struct btf_place *ret) {
        _cleanup_(btf_close) struct btf_types *t = NULL;
        int r = btf_parse(data, size, &t);

        return r < 0 ? r : btf_find_offsets(t, wanted, ELEMENTSOF(wanted), ret);
}

static void test_offsets(void **state) {
        static const struct btf_place right[] = { { 0, 4 },  { 16, 8 }, { 8, 0 }, { 24, 0 },
                                                  { -1, 0 }, { -1, 0 }, { -1, 0 } };
        struct btf_place places[ELEMENTSOF(wanted)];
        struct sample s;

        (void)state;
        make_sample(&s);
        assert_int_equal(parse_offsets(&s, sizeof(s), places), 0);
        for (size_t i = 0; i < ELEMENTSOF(wanted); i++) {
                assert_int_equal(places[i].offset, right[i].offset);
                assert_int_equal(places[i].size, right[i].size);
        }
}

/* Types far behind others, and what iterators attach to. */
static void test_many(void **state) {
        enum { N = 100, LAST = N + 1 };
        static const char names[] = "\0bpf_iter_one\0bpf_iter_two\0holder\0far\0one"; /* and its NUL */
        static const struct btf_wanted far[] = { { "holder", "far" } };
        struct {
                struct btf_header head;
                uint32_t ints[N][4], holder[3 + 3], hooks[2][3];
                char names[sizeof(names)];
        } many = { .holder = { 27, INFO(BTF_KIND_STRUCT, 1), 8, 34, N, 32 },
                   .hooks = { { 1, INFO(BTF_KIND_FUNC, 0), 1 }, { 14, INFO(BTF_KIND_FUNC, 0), 1 } } };
        _cleanup_(btf_close) struct btf_types *t = NULL;
        struct btf_place place;

        (void)state;
        for (uint32_t i = 0; i < N; i++) {
                many.ints[i][1] = INFO(BTF_KIND_INT, 0);
                many.ints[i][2] = i == N - 1 ? 2 : 4;
        }
        many.head = (struct btf_header){ .magic = BTF_MAGIC,
                                         .version = 1,
                                         .hdr_len = sizeof(many.head),
                                         .type_len = sizeof(many.ints) + sizeof(many.holder) +
                                                     sizeof(many.hooks),
                                         .str_len = sizeof(names) };
        many.head.str_off = many.head.type_len;
        memcpy(many.names, names, sizeof(names));
        assert_int_equal(btf_parse(&many, sizeof(many), &t), 0);
        assert_int_equal(btf_find_offsets(t, far, 1, &place), 0);
        assert_int_equal(place.offset, 4);
        assert_int_equal(place.size, 2);
        assert_int_equal(btf_hook(t, "one"), LAST + 1);
        assert_int_equal(btf_hook(t, "two"), LAST + 2);
        assert_int_equal(btf_hook(t, "on"), 0);
        assert_int_equal(btf_hook(t, ""), 0);
}

/* Every word of it wrong in turn, and every length: it is read whole or not, and nothing beyond it. */
static void test_damaged(void **state) {
        struct btf_place places[ELEMENTSOF(wanted)];
        struct sample s, *copy = malloc(sizeof(s));

        (void)state;
        assert_non_null(copy);
        make_sample(&s);
        for (size_t i = 0; i < sizeof(s) / 4; i++)
                for (int bit = 0; bit < 32; bit++) {
                        *copy = s;
                        ((uint32_t *)copy)[i] ^= 1U << bit;
                        (void)parse_offsets(copy, sizeof(*copy), places);
                }
        free(copy);
        for (size_t n = 0; n < sizeof(s); n++) {
                char *part = malloc(n + 1);

                memcpy(part, &s, n);
                if (n < offsetof(struct sample, strings) + sizeof(strings))
                        assert_int_equal(parse_offsets(part, n, places), -EBADMSG);
                free(part);
        }
        s.head.magic = 0;
        assert_int_equal(parse_offsets(&s, sizeof(s), places), -EBADMSG);
}

static void test_peek(void **state) {
        _cleanup_(bpf_free) struct bpf *b = NULL;
        _cleanup_(peek_free) struct peek *p = NULL;
        int pair[2], other = eventfd(0, EFD_CLOEXEC);
        uint64_t file, one, two, value;
        char buf[8];

        (void)state;
        assert_int_equal(bpf_new(&b), 0);
        if (peek_open(b, &p) < 0)
                skip();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(peek_file(p, pair[0], &file), 0);
        assert_int_equal(peek_sock(p, pair[0], &one), 0);
        assert_int_equal(peek_sock(p, pair[1], &two), 0);
        assert_int_not_equal(one, two);
        assert_int_equal(peek_file(p, other, &value), 0);
        assert_int_not_equal(file, value);
        /* No socket, no descriptor, no memory. */
        assert_int_equal(peek_sock(p, other, &value), -ENODATA);
        assert_int_equal(peek_file(p, 1 << 20, &value), -ENODATA);
        assert_int_equal(peek_file(p, -1, &value), -ENODATA);
        assert_int_equal(peek_bytes(p, 0, buf, sizeof(buf)), -ENODATA);
        assert_int_equal(peek_bytes(p, UINT64_MAX - 4, buf, sizeof(buf)), -ENODATA);
        assert_int_equal(peek_bytes(p, file, buf, PEEK_MAX + 1), -ENODATA);
        close(pair[0]);
        close(pair[1]);
        close(other);
}

static void test_task(void **state) {
        _cleanup_close_ int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(bpf_free) struct bpf *b = NULL;
        _cleanup_(peek_free) struct peek *p = NULL;
        uint64_t task, mm = 0, base, one, two;

        (void)state;
        assert_int_equal(bpf_new(&b), 0);
        if (peek_open(b, &p) < 0)
                skip();
        assert_int_equal(peek_task(p, self, &task), 0);
        assert_int_equal(peek_number(p, task, PEEK_task_struct__mm, &mm), 0);
        assert_int_not_equal(mm, 0);
        assert_int_equal(peek_cpu_base(p, &base), 0);
        assert_int_equal(peek_per_cpu(p, base, 0x100, 0, &one), 0);
        assert_int_equal(peek_per_cpu(p, base, 0x200, 0, &two), 0);
        assert_int_equal(two - one, 0x100);
        assert_int_equal(peek_per_cpu(p, base, 0, 1 << 20, &two), -ENODATA);
        /* No directory of a process. */
        close(self);
        self = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(peek_task(p, self, &task), -ENODATA);
}

static void test_pages(void **state) {
        const struct peek_pages pages = { .page = 0xf000000000001000,
                                          .number = 4,
                                          .start = 0xe000000000000000 };
        uint64_t at = 7;

        (void)state;
        assert_int_equal(peek_page_address(&pages, pages.page, &at), 0);
        assert_true(at == pages.start + 4 * PAGE_SIZE);
        assert_int_equal(peek_page_address(&pages, pages.page - 4 * 64, &at), 0);
        assert_true(at == pages.start);
        assert_int_equal(peek_page_address(&pages, pages.page + 3 * 64, &at), 0);
        assert_true(at == pages.start + 7 * PAGE_SIZE);
        /* Before the first one, between two, and what is no address of a page but has a bit for something else. */
        assert_int_equal(peek_page_address(&pages, pages.page - 5 * 64, &at), -ENODATA);
        assert_int_equal(peek_page_address(&pages, pages.page + 8, &at), -ENODATA);
        assert_int_equal(peek_page_address(&pages, pages.page + 1, &at), -ENODATA);
        assert_true(at == pages.start + 7 * PAGE_SIZE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_offsets), cmocka_unit_test(test_many), cmocka_unit_test(test_damaged),
                cmocka_unit_test(test_peek),    cmocka_unit_test(test_task), cmocka_unit_test(test_pages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
