/* SPDX-License-Identifier: GPL-2.0-only */
/* Images are input: whatever happened to them, one error and nothing else. */
#include "test_image.h"

#include "images/apparmor.pb-c.h"
#include "images/cgroup.pb-c.h"
#include "images/fdinfo.pb-c.h"
#include "images/pagemap.pb-c.h"

/* In two steps; *ret_late: it was the second that refused. */
static int open_early(int dirfd, bool *ret_late, struct ckpt_error *err) {
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        int r = image_dir_open_early(dirfd, 2, &dir, err);

        *ret_late = r == 0;
        return r < 0 ? r : image_dir_verified(dir, err);
}

static int open_dir(int dirfd, struct ckpt_error *err) {
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        _cleanup_error_ struct ckpt_error other = CKPT_ERROR_INIT;
        int r = image_dir_open(dirfd, 2, &dir, err);
        bool late;

        assert_int_equal(open_early(dirfd, &late, &other), r);
        if (r < 0)
                assert_string_equal(ckpt_error_message(&other), ckpt_error_message(err));
        return r;
}

/* One error that names the file; returns the code. */
static int assert_refused(int dirfd, const char *name) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = open_dir(dirfd, &err);

        if (r >= 0)
                fail_msg("damage to %s went unnoticed", name);
        if (!strstr(ckpt_error_message(&err), name))
                fail_msg("the error does not name %s: %s", name, ckpt_error_message(&err));
        return r;
}

static const char *const set_files[] = { "inventory.img", "checksums.img", "pstree.img", "core-5.img",
                                         "pages-5.img" };

static void test_every_flipped_bit(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        uint8_t data[4096];

        assert_ok(test_make_checkpoint(tmp.fd, 5, 200, NULL, &err), &err);
        for (size_t f = 0; f < ELEMENTSOF(set_files); f++) {
                size_t len = test_read_at(tmp.fd, set_files[f], data, sizeof(data));

                assert_true(len > 0);
                for (size_t bit = 0; bit < len * 8; bit++) {
                        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        test_write_at(tmp.fd, set_files[f], data, len);
                        /* Which of the two is wrong cannot be told when they disagree. */
                        assert_refused(tmp.fd, f < 2 ? ".img" : set_files[f]);
                        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
                test_write_at(tmp.fd, set_files[f], data, len);
                assert_ok(open_dir(tmp.fd, &err), &err);
        }
}

/* What is verified while the caller does something else. */
static void test_large_file(void **state __attribute__((unused))) {
        static const off_t places[] = { 0, (1 << 20) + 5, (3 << 20) + 99 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_close_ int fd = -EBADF;
        bool late;

        assert_ok(test_make_checkpoint(tmp.fd, 5, (3 << 20) + 100, NULL, &err), &err);
        assert_ok(open_dir(tmp.fd, &err), &err);
        fd = openat(tmp.fd, "pages-5.img", O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                _cleanup_error_ struct ckpt_error why = CKPT_ERROR_INIT;
                _cleanup_image_dir_ struct image_dir *dir = NULL;
                uint8_t byte;

                assert_int_equal(pread(fd, &byte, 1, places[i]), 1);
                byte ^= 1;
                assert_int_equal(pwrite(fd, &byte, 1, places[i]), 1);
                assert_int_equal(assert_refused(tmp.fd, "pages-5.img"), -EBADMSG);
                assert_int_equal(open_early(tmp.fd, &late, &why), -EBADMSG);
                assert_true(late);
                /* Nobody has to wait for it. */
                assert_ok(image_dir_open_early(tmp.fd, 2, &dir, &err), &err);
                byte ^= 1;
                assert_int_equal(pwrite(fd, &byte, 1, places[i]), 1);
                assert_ok(open_dir(tmp.fd, &err), &err);
        }
        assert_int_equal(ftruncate(fd, 3 << 20), 0);
        assert_int_equal(assert_refused(tmp.fd, "pages-5.img"), -EBADMSG);
        assert_int_equal(unlinkat(tmp.fd, "pages-5.img", 0), 0);
        assert_int_equal(assert_refused(tmp.fd, "pages-5.img"), -EBADMSG);
}

static void test_every_truncation(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        uint8_t data[4096];

        assert_ok(test_make_checkpoint(tmp.fd, 5, 200, NULL, &err), &err);
        for (size_t f = 0; f < ELEMENTSOF(set_files); f++) {
                size_t len = test_read_at(tmp.fd, set_files[f], data, sizeof(data));

                for (size_t n = 0; n < len; n++) {
                        test_write_at(tmp.fd, set_files[f], data, n);
                        assert_int_equal(assert_refused(tmp.fd, set_files[f]), -EBADMSG);
                }
                data[len] = 0;
                test_write_at(tmp.fd, set_files[f], data, len + 1);
                assert_refused(tmp.fd, set_files[f]);
                test_write_at(tmp.fd, set_files[f], data, len);
        }
        assert_ok(open_dir(tmp.fd, &err), &err);
}

static void test_missing_files(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();

        assert_ok(test_make_checkpoint(tmp.fd, 5, 200, NULL, &err), &err);
        for (size_t f = 0; f < ELEMENTSOF(set_files); f++) {
                assert_int_equal(renameat(tmp.fd, set_files[f], tmp.fd, "away"), 0);
                assert_int_equal(assert_refused(tmp.fd, set_files[f]), f == 0 ? -ENOENT : -EBADMSG);
                assert_int_equal(mkdirat(tmp.fd, set_files[f], 0700), 0);
                assert_refused(tmp.fd, set_files[f]);
                assert_int_equal(unlinkat(tmp.fd, set_files[f], AT_REMOVEDIR), 0);
                assert_int_equal(mkfifoat(tmp.fd, set_files[f], 0600), 0);
                assert_refused(tmp.fd, set_files[f]);
                assert_int_equal(unlinkat(tmp.fd, set_files[f], 0), 0);
                assert_int_equal(renameat(tmp.fd, "away", tmp.fd, set_files[f]), 0);
        }
        assert_ok(open_dir(tmp.fd, &err), &err);
}

/* Two whole checkpoints, one file exchanged. */
static void test_mixed_sets(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir a = test_dir_make(), b = test_dir_make();
        uint8_t data[4096];

        assert_ok(test_make_checkpoint(a.fd, 5, 200, NULL, &err), &err);
        assert_ok(test_make_checkpoint(b.fd, 6, 300, NULL, &err), &err);
        for (size_t f = 0; f < 3; f++) {
                uint8_t mine[4096];
                size_t n = test_read_at(b.fd, set_files[f], data, sizeof(data));
                size_t len = test_read_at(a.fd, set_files[f], mine, sizeof(mine));

                test_write_at(a.fd, set_files[f], data, n);
                assert_refused(a.fd, ".img");
                test_write_at(a.fd, set_files[f], mine, len);
        }
        assert_ok(open_dir(a.fd, &err), &err);
}

/* An image beside the set is not part of it. */
static void test_stranger(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        struct image_file *file = NULL;

        assert_ok(test_make_checkpoint(tmp.fd, 5, 200, NULL, &err), &err);
        test_write_at(tmp.fd, "core-9.img", "junk", 4);
        assert_ok(image_dir_open(tmp.fd, 1, &dir, &err), &err);
        assert_false(image_dir_has(dir, IMAGE_CORE, 9));
        assert_int_equal(image_open_read(dir, IMAGE_CORE, 9, IMAGE_OPTIONAL, &file, &err), -ENOENT);
}

/* Sets of other tools have no checksums. */
static void test_foreign(void **state __attribute__((unused))) {
        static const uint8_t inventory[] = { 0x16, 0x31, 0x31, 0x58, 2, 0, 0, 0, 0x08, 0x02 };
        static const uint8_t version_1[] = { 0x16, 0x31, 0x31, 0x58, 2, 0, 0, 0, 0x08, 0x01 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_dir_ struct image_dir *dir = NULL;

        test_write_at(tmp.fd, "inventory.img", version_1, sizeof(version_1));
        assert_int_equal(open_dir(tmp.fd, &err), -EPROTONOSUPPORT);
        ckpt_error_clear(&err);
        test_write_at(tmp.fd, "inventory.img", inventory, sizeof(inventory));
        test_write_at(tmp.fd, "core-9.img", "junk", 4);
        assert_ok(image_dir_open(tmp.fd, 2, &dir, &err), &err);
        assert_false(image_dir_has_checksums(dir));
        assert_true(image_dir_has(dir, IMAGE_CORE, 9));
        test_write_at(tmp.fd, "checksums.img", "x", 1);
        assert_int_equal(assert_refused(tmp.fd, "checksums.img"), -EBADMSG);
}

static void test_no_checkpoint(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();

        assert_int_equal(open_dir(tmp.fd, &err), -ENOENT);
        assert_non_null(strstr(ckpt_error_message(&err), "has no inventory.img: it is not a checkpoint"));
}

/* ---- One file, in memory ---- */

struct image {
        uint8_t data[1 << 20];
        size_t len;
};

static void image_begin(struct image *i, enum image_kind kind) {
        uint32_t magic = image_kind_info(kind)->magic;

        memcpy(i->data, "\x19\x43\x56\x54", 4);
        for (int n = 0; n < 4; n++)
                i->data[4 + n] = (uint8_t)(magic >> (8 * n));
        i->len = 8;
}

static void image_entry(struct image *i, const void *payload, size_t len) {
        for (int n = 0; n < 4; n++)
                i->data[i->len++] = (uint8_t)(len >> (8 * n));
        memcpy(i->data + i->len, payload, len);
        i->len += len;
}

/* Read the first entry; the message of a refusal is put into `text`. */
static int read_entry(const struct image *i, enum image_kind kind, const ProtobufCMessageDescriptor *type,
                      char text[512]) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_message_ ProtobufCMessage *message = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_memory(AT_FDCWD, kind, "some.img", i->data, i->len, &file, &err);
        if (r >= 0)
                r = image_read(file, type, &message, &err);
        if (r < 0)
                snprintf(text, 512, "%s", ckpt_error_message(&err));
        return r;
}

static void assert_bad(const struct image *i, enum image_kind kind, const ProtobufCMessageDescriptor *type,
                       const char *why) {
        char text[512] = "";

        assert_int_equal(read_entry(i, kind, type, text), -EBADMSG);
        if (!strstr(text, why))
                fail_msg("'%s' does not say '%s'", text, why);
}

static void test_framing(void **state __attribute__((unused))) {
        const ProtobufCMessageDescriptor *head = &img__pagemap_head__descriptor;
        struct image *i = calloc(1, sizeof(*i));
        char text[512];

        image_begin(i, IMAGE_PAGEMAP);
        assert_int_equal(read_entry(i, IMAGE_PAGEMAP, head, text), 0);
        image_entry(i, "\x08\x01", 2);
        assert_int_equal(read_entry(i, IMAGE_PAGEMAP, head, text), 1);
        for (size_t len = 0; len < i->len; len++) {
                struct image cut = { .len = len };

                if (len == 8)
                        continue;
                memcpy(cut.data, i->data, len);
                assert_bad(&cut, IMAGE_PAGEMAP, head,
                           len < 8    ? "inside its header"
                           : len < 12 ? "inside the length of an entry"
                                      : "the entry at byte 8 says it has 2 bytes");
        }
        assert_bad(i, IMAGE_CORE, head, "the magic of this kind of image at byte 4");
        i->data[0] ^= 1;
        assert_bad(i, IMAGE_PAGEMAP, head, "the common magic at byte 0");
        i->data[0] ^= 1;
        memset(i->data + 8, 0xff, 4);
        assert_bad(i, IMAGE_PAGEMAP, head, "says it has 4294967295 bytes");
        free(i);
}

static void test_length_limit(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_message_ ProtobufCMessage *message = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        size_t len = 12 + (size_t)IMAGE_ENTRY_MAX + 1;
        _cleanup_free_ uint8_t *data = calloc(1, len);

        memcpy(data, "\x19\x43\x56\x54\x25\x40\x08\x56\x01\x00\x00\x04", 12);
        assert_ok(image_open_memory(AT_FDCWD, IMAGE_PAGEMAP, "x", data, len, &file, &err), &err);
        assert_int_equal(image_read(file, &img__pagemap__descriptor, &message, &err), -EBADMSG);
        assert_non_null(strstr(ckpt_error_message(&err), "the format allows"));
}

static void test_wire(void **state __attribute__((unused))) {
        static const struct {
                const ProtobufCMessageDescriptor *type;
                const char *bytes;
                size_t len;
                const char *why; /* NULL: accepted */
        } cases[] = {
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x03", 8, NULL },
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x03\x28\x07", 10, "another type" },
                { &img__fdinfo__descriptor,
                  "\x08\x01\x10\x02\x18\x02\x20\x03\x2a\x02"
                  "ab",
                  12, NULL },
                { &img__fdinfo__descriptor,
                  "\x08\x01\x10\x02\x18\x02\x20\x03\x2a\x02"
                  "a\0",
                  12, "NUL" },
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x63\x20\x03", 8, "enum value" },
                { &img__fdinfo__descriptor, "\x08\x01\x08\x01\x10\x02\x18\x02\x20\x03", 10, "twice" },
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x20\x03", 6, "required" },
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x03\xf8\x7f\x01", 11,
                  NULL }, /* unknown */
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x03\x7b", 9,
                  "broken" }, /* a group */
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x03\x00\x01", 10,
                  "broken" }, /* field 0 */
                { &img__fdinfo__descriptor, "\x08\x01\x10\x02\x18\x02\x20\x83", 8, "broken" },
                { &img__fdinfo__descriptor, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "broken" },
                { &img__pstree__descriptor, "\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x02\x01\x02", 12,
                  NULL }, /* packed */
                { &img__pstree__descriptor, "\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x02\x01\x82", 12,
                  "list of numbers" },
                { &img__apparmor__descriptor,
                  "\x0a\x05\x0a\x01"
                  "a",
                  5, "broken" },
        };

        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                struct image *i = calloc(1, sizeof(*i));
                char text[512] = "";
                int r;

                image_begin(i, IMAGE_FDINFO);
                image_entry(i, cases[n].bytes, cases[n].len);
                r = read_entry(i, IMAGE_FDINFO, cases[n].type, text);
                if (r != (cases[n].why ? -EBADMSG : 1) || (cases[n].why && !strstr(text, cases[n].why)))
                        fail_msg("case %zu: %d '%s', expected '%s'", n, r, text, cases[n].why);
                free(i);
        }
}

/* A directory in a directory in a directory: protobuf-c alone would recurse as deep as it is told. */
static size_t nest(uint8_t *out, size_t max, unsigned depth) {
        size_t pos = max;

        for (unsigned i = 0; i < depth; i++) {
                size_t len = max - pos, n = 0;
                uint8_t head[16] = { 0x0a, 1, 'd' }; /* dir_name */

                if (i > 0) { /* children: what there is so far */
                        head[3] = 0x12;
                        for (n = 4; len > 0x7f; len >>= 7)
                                head[n++] = (uint8_t)(len | 0x80);
                        head[n++] = (uint8_t)len;
                } else {
                        n = 3;
                }
                pos -= n;
                memcpy(out + pos, head, n);
        }
        memmove(out, out + pos, max - pos);
        return max - pos;
}

static void test_nesting(void **state __attribute__((unused))) {
        struct image *i = calloc(1, sizeof(*i)), *inner = calloc(1, sizeof(*inner));
        char text[512];

        image_begin(i, IMAGE_CGROUP);
        inner->len = nest(inner->data, sizeof(inner->data), 50);
        image_entry(i, inner->data, inner->len);
        assert_int_equal(read_entry(i, IMAGE_CGROUP, &img__cgroup_dir__descriptor, text), 1);
        image_begin(i, IMAGE_CGROUP);
        inner->len = nest(inner->data, sizeof(inner->data), 100000);
        image_entry(i, inner->data, inner->len);
        assert_bad(i, IMAGE_CGROUP, &img__cgroup_dir__descriptor, "nested too deep");
        free(inner);
        free(i);
}

/* Two bytes of input for each few hundred bytes of memory. */
static void test_amplification(void **state __attribute__((unused))) {
        size_t len = 12 + (48 << 20);
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_message_ ProtobufCMessage *message = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        _cleanup_free_ uint8_t *data = malloc(len);

        memcpy(data, "\x19\x43\x56\x54\x30\x33\x38\x59\x00\x00\x00\x03", 12);
        for (size_t i = 12; i < len; i += 2)
                memcpy(data + i, "\x12\x00", 2); /* Cgroup.controllers, empty */
        assert_ok(image_open_memory(AT_FDCWD, IMAGE_CGROUP, "x", data, len, &file, &err), &err);
        assert_int_equal(image_read(file, &img__cgroup__descriptor, &message, &err), -EBADMSG);
        assert_non_null(strstr(ckpt_error_message(&err), "memory"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_flipped_bit),
                cmocka_unit_test(test_every_truncation),
                cmocka_unit_test(test_large_file),
                cmocka_unit_test(test_missing_files),
                cmocka_unit_test(test_mixed_sets),
                cmocka_unit_test(test_stranger),
                cmocka_unit_test(test_foreign),
                cmocka_unit_test(test_no_checkpoint),
                cmocka_unit_test(test_framing),
                cmocka_unit_test(test_length_limit),
                cmocka_unit_test(test_wire),
                cmocka_unit_test(test_nesting),
                cmocka_unit_test(test_amplification),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
