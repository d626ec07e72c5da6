/* SPDX-License-Identifier: GPL-2.0-only */
/* Names, framing, and every kind of message through a set and back. */
#include "test_image.h"

#include <linux/magic.h>
#include <pthread.h>
#include <sys/vfs.h>

#include "images/fdinfo.pb-c.h"
#include "lib/arena.h"
#include "images/fs.pb-c.h"
#include "images/signals.pb-c.h"

static void test_names(void **state __attribute__((unused))) {
        char name[IMAGE_NAME_MAX];
        unsigned long id;

        for (enum image_kind kind = 0; kind < IMAGE_KIND_MAX; kind++) {
                static const unsigned long ids[] = { 0, 1, 10, 4711, 0xabcdef, 4294967295 };

                for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                        id = 0;
                        image_name(kind, ids[i], name);
                        assert_int_equal(image_kind_of(name, &id), kind);
                        if (image_kind_info(kind)->id_form != IMAGE_ID_NONE)
                                assert_int_equal(id, ids[i]);
                }
        }
        image_name(IMAGE_GHOST_FILE, 255, name);
        assert_string_equal(name, "ghost-file-ff.img");
        image_name(IMAGE_SHMEM_PAGEMAP, 7, name);
        assert_string_equal(name, "pagemap-shmem-7.img");
}

static void test_strange_names(void **state __attribute__((unused))) {
        static const char *const names[] = { "",
                                             "core-.img",
                                             "core-01.img",
                                             "core-+1.img",
                                             "core- 1.img",
                                             "core-1.imgx",
                                             "core-1.IMG",
                                             "core--1.img",
                                             "core-1a.img",
                                             "xcore-1.img",
                                             "../core-1.img",
                                             "core-1/x.img",
                                             "pages-0x1.img",
                                             "ghost-file-FF.img",
                                             "core-99999999999999999999999.img",
                                             ".ckpt-staging",
                                             "stats-dump" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                assert_int_equal(image_kind_of(names[i], NULL), IMAGE_KIND_INVALID);
}

/* Wire bytes with every field of the message set, to a depth where recursion stops. */
struct bytes {
        uint8_t data[65536];
        size_t len;
};

static void put_varint(struct bytes *b, uint64_t v) {
        do {
                b->data[b->len++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
                v >>= 7;
        } while (v);
}

static void put_message(struct bytes *b, const ProtobufCMessageDescriptor *descriptor, unsigned depth);

static void put_field(struct bytes *b, const ProtobufCFieldDescriptor *field, unsigned depth) {
        struct bytes *inner;

        switch (field->type) {
        case PROTOBUF_C_TYPE_FIXED64:
                put_varint(b, field->id << 3 | 1);
                memset(b->data + b->len, 0x5a, 8);
                b->len += 8;
                break;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
                put_varint(b, field->id << 3 | 2);
                put_varint(b, 5);
                memcpy(b->data + b->len, "abcde", 5);
                b->len += 5;
                break;
        case PROTOBUF_C_TYPE_MESSAGE:
                inner = calloc(1, sizeof(*inner));
                assert_non_null(inner);
                put_message(inner, field->descriptor, depth + 1);
                put_varint(b, field->id << 3 | 2);
                put_varint(b, inner->len);
                memcpy(b->data + b->len, inner->data, inner->len);
                b->len += inner->len;
                free(inner);
                break;
        case PROTOBUF_C_TYPE_ENUM:
                put_varint(b, field->id << 3);
                put_varint(b,
                           (uint64_t)((const ProtobufCEnumDescriptor *)field->descriptor)->values[0].value);
                break;
        case PROTOBUF_C_TYPE_BOOL:
                put_varint(b, field->id << 3);
                put_varint(b, 1);
                break;
        default:
                put_varint(b, field->id << 3);
                put_varint(b, 1000 + field->id);
                break;
        }
}

static void put_message(struct bytes *b, const ProtobufCMessageDescriptor *descriptor, unsigned depth) {
        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];

                if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth > 4 &&
                    field->label != PROTOBUF_C_LABEL_REQUIRED)
                        continue;
                put_field(b, field, depth);
                if (field->label == PROTOBUF_C_LABEL_REPEATED && depth < 2)
                        put_field(b, field, depth);
        }
}

static ProtobufCMessage *make_message(const ProtobufCMessageDescriptor *descriptor) {
        struct bytes *b = calloc(1, sizeof(*b));
        ProtobufCMessage *message;

        assert_non_null(b);
        put_message(b, descriptor, 0);
        message = protobuf_c_message_unpack(descriptor, NULL, b->len, b->data);
        assert_non_null(message);
        free(b);
        return message;
}

static void assert_same_message(const ProtobufCMessage *a, const ProtobufCMessage *b) {
        size_t len = protobuf_c_message_get_packed_size(a);
        _cleanup_free_ uint8_t *pa = malloc(len + 1), *pb = malloc(len + 1);

        assert_int_equal(protobuf_c_message_get_packed_size(b), len);
        protobuf_c_message_pack(a, pa);
        protobuf_c_message_pack(b, pb);
        assert_memory_equal(pa, pb, len);
}

static bool is_written(enum image_kind kind) {
        return image_kind_info(kind)->message && kind != IMAGE_INVENTORY && kind != IMAGE_CHECKSUMS;
}

static void write_kind(struct image_set *set, enum image_kind kind) {
        const struct image_kind_info *k = image_kind_info(kind);
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_message_ ProtobufCMessage *message = make_message(k->message);
        struct image_file *file = NULL;

        assert_ok(image_open_write(set, kind, 12, &file, &err), &err);
        if (k->head) {
                _cleanup_image_message_ ProtobufCMessage *head = make_message(k->head);

                assert_ok(image_write(file, head, &err), &err);
        }
        for (int i = 0; i < 3; i++) {
                assert_ok(image_write(file, message, &err), &err);
                assert_ok(image_write_raw(file, "raw", 3, &err), &err);
        }
        assert_ok(image_close(file, &err), &err);
}

static void read_kind(struct image_dir *dir, enum image_kind kind) {
        const struct image_kind_info *k = image_kind_info(kind);
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_message_ ProtobufCMessage *expected = make_message(k->message);
        ProtobufCMessage *message;
        struct image_file *file = NULL;
        char raw[4] = "";

        assert_ok(image_open_read(dir, kind, 12, 0, &file, &err), &err);
        if (k->head) {
                _cleanup_image_message_ ProtobufCMessage *head = make_message(k->head);

                assert_int_equal(image_read(file, k->head, &message, &err), 1);
                assert_same_message(message, head);
                protobuf_c_message_free_unpacked(message, NULL);
        }
        for (int i = 0; i < 3; i++) {
                assert_ok(image_read_expected(file, k->message, &message, &err), &err);
                assert_same_message(message, expected);
                protobuf_c_message_free_unpacked(message, NULL);
                assert_ok(image_read_raw(file, raw, 3, &err), &err);
                assert_string_equal(raw, "raw");
        }
        assert_int_equal(image_remaining(file), 0);
        assert_int_equal(image_read(file, k->message, &message, &err), 0);
        image_close(file, NULL);
}

static void test_every_kind(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        uint64_t files;

        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        for (enum image_kind kind = 0; kind < IMAGE_KIND_MAX; kind++)
                if (is_written(kind))
                        write_kind(set, kind);
        image_set_totals(set, &files, NULL);
        assert_true(files > 60);
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        /* 0: read from files, 2: small files come from memory. */
        for (unsigned threads = 0; threads <= 2; threads += 2) {
                _cleanup_image_dir_ struct image_dir *dir = NULL;

                assert_ok(image_dir_open(tmp.fd, threads, &dir, &err), &err);
                assert_int_equal(image_dir_inventory(dir)->img_version, 2);
                assert_true(image_dir_inventory(dir)->fdinfo_per_id && image_dir_inventory(dir)->ns_per_id);
                for (enum image_kind kind = 0; kind < IMAGE_KIND_MAX; kind++)
                        if (is_written(kind))
                                read_kind(dir, kind);
        }
}

/* What stands at the front of the files, byte by byte. */
static void test_headers(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        uint8_t buf[4096];

        assert_ok(test_make_checkpoint(tmp.fd, 5, 0, NULL, &err), &err);
        test_read_at(tmp.fd, "inventory.img", buf, sizeof(buf));
        assert_memory_equal(buf, "\x16\x31\x31\x58", 4);
        test_read_at(tmp.fd, "pstree.img", buf, sizeof(buf));
        assert_memory_equal(buf, "\x19\x43\x56\x54\x30\x30\x27\x50", 8);
        assert_int_equal(buf[8] | buf[9] << 8 | buf[10] << 16 | buf[11] << 24,
                         test_read_at(tmp.fd, "pstree.img", buf, sizeof(buf)) - 12);
        assert_int_equal(test_read_at(tmp.fd, "pages-5.img", buf, sizeof(buf)), 0);
}

/* Entries and raw data that do not fit into the buffers. */
static void test_large(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        _cleanup_image_file_ struct image_file *in = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        struct image_file *out;
        size_t len = 5 * IMAGE_CHUNK_SIZE + 17;
        _cleanup_free_ uint8_t *data = malloc(len), *back = malloc(len);

        for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t)(i ^ i >> 9);
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_open_write(set, IMAGE_TTY_DATA, 0, &out, &err), &err);
        for (size_t n = 1; n <= len; n = n * 3 + 1) {
                Img__Siginfo message = IMG__SIGINFO__INIT;

                message.siginfo.data = data;
                message.siginfo.len = n;
                assert_ok(image_write(out, &message.base, &err), &err);
                assert_ok(image_write_raw(out, data, n, &err), &err);
        }
        assert_ok(image_close(out, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        assert_ok(image_dir_open(tmp.fd, 2, &dir, &err), &err);
        assert_ok(image_open_read(dir, IMAGE_TTY_DATA, 0, 0, &in, &err), &err);
        for (size_t n = 1; n <= len; n = n * 3 + 1) {
                _cleanup_image_message_ Img__Siginfo *message = NULL;

                assert_ok(image_read_expected(in, &img__siginfo__descriptor, &message, &err), &err);
                assert_int_equal(message->siginfo.len, n);
                assert_memory_equal(message->siginfo.data, data, n);
                assert_ok(image_read_raw(in, back, n, &err), &err);
                assert_memory_equal(back, data, n);
        }
        assert_int_equal(image_remaining(in), 0);
}

struct writer {
        struct image_set *set;
        struct image_file *pages;
        const uint8_t *data;
        size_t first, len;
        unsigned base;
        int result;
};

static void *writer_thread(void *arg) {
        struct writer *w = arg;

        for (unsigned i = 0; w->result == 0 && i < 200; i++) {
                Img__Fs fs = IMG__FS__INIT;

                fs.cwd_id = fs.root_id = w->base + i;
                w->result = image_store(w->set, IMAGE_FS, w->base + i, &fs.base, NULL);
        }
        for (size_t chunk = w->first; w->result == 0 && chunk * IMAGE_CHUNK_SIZE < w->len; chunk += 2) {
                size_t offset = chunk * IMAGE_CHUNK_SIZE, n = MIN(w->len - offset, (size_t)IMAGE_CHUNK_SIZE);
                struct image_digest digest = image_chunk_digest(w->data + offset, n);

                if (pwrite(image_file_fd(w->pages), w->data + offset, n, (off_t)offset) != (ssize_t)n)
                        w->result = -errno;
                else if (chunk % 3 == 0) /* the others are left to image_pages_hash() and image_close() */
                        w->result = image_pages_chunk(w->pages, chunk, &digest);
                else if (chunk % 3 == 1)
                        w->result = image_pages_hash(w->pages, chunk, 1, NULL);
        }
        return NULL;
}

static void test_threads(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        size_t len = 9 * IMAGE_CHUNK_SIZE + 4096;
        _cleanup_free_ uint8_t *data = malloc(len), *back = malloc(len);
        struct image_file *pages;
        struct writer w[2];
        pthread_t t[2];
        uint64_t size;
        int fd;

        for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t)(i * 7 ^ i >> 13);
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_open_pages(set, 1, &pages, &err), &err);
        for (unsigned i = 0; i < 2; i++) {
                w[i] = (struct writer){
                        .set = set, .pages = pages, .data = data, .first = i, .len = len, .base = 1000 * i
                };
                assert_int_equal(pthread_create(&t[i], NULL, writer_thread, &w[i]), 0);
        }
        for (unsigned i = 0; i < 2; i++) {
                pthread_join(t[i], NULL);
                assert_int_equal(w[i].result, 0);
        }
        assert_ok(image_close(pages, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        assert_ok(image_dir_open(tmp.fd, 2, &dir, &err), &err);
        assert_ok(image_pages_fd(dir, 1, &fd, &size, &err), &err);
        assert_int_equal(size, len);
        assert_int_equal(pread(fd, back, len, 0), len);
        assert_memory_equal(back, data, len);
        close(fd);
        for (unsigned i = 0; i < 400; i++)
                assert_true(image_dir_has(dir, IMAGE_FS, (i % 2) * 1000 + i / 2));
}

/* [done, done + len) of `data` to its place in the file: what can be by the window, and what is around it. */
static void write_around(const struct image_file *pages, const struct image_window *w, const uint8_t *data,
                         size_t done, size_t len) {
        size_t before = w->start ? w->offset - done : len, size = w->start ? w->size : 0;
        size_t after = done + before + size, rest = len - before - size;

        assert_true(!w->start || (w->offset >= done && w->offset + w->size <= done + len));
        assert_int_equal(pwrite(image_file_fd(pages), data + done, before, (off_t)done), before);
        if (w->start)
                memcpy(w->start, data + w->offset, size);
        assert_int_equal(pwrite(image_file_fd(pages), data + after, rest, (off_t)after), rest);
}

/* Before the file is written, for parts of any size; what is written counts, and whether it worked is no difference. */
static void write_huge(const char *parent, bool can) {
        static const size_t parts[] = { 4096, 3 << 20, (2 << 20) - 4096, 8 << 20, 0, (5 << 20) + 4096 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make_in(parent);
        _cleanup_image_set_ struct image_set *set = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        size_t len = 0, done = 0;
        _cleanup_free_ uint8_t *data = NULL, *back = NULL;
        struct image_file *pages;
        struct image_window w;

        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                len += parts[i];
        data = malloc(len);
        back = malloc(len + 1);
        for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t)(i * 5 ^ i >> 12);
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_open_pages(set, 1, &pages, &err), &err);
        assert_true(image_pages_make_huge(pages, 4096, 2 << 20, &w)); /* nothing whole in it */
        assert_null(w.start);
        assert_int_equal(lseek(image_file_fd(pages), 0, SEEK_END), 0);
        if (!can)
                assert_false(image_pages_make_huge(pages, 0, 2 << 20, &w));
        assert_int_equal(lseek(image_file_fd(pages), 0, SEEK_END), 0);
        for (size_t i = 0; i < ELEMENTSOF(parts); done += parts[i++]) {
                (void)image_pages_make_huge(pages, done, parts[i], &w);
                assert_true((size_t)lseek(image_file_fd(pages), 0, SEEK_END) <= done + parts[i]);
                write_around(pages, &w, data, done, parts[i]);
                image_window_close(&w);
        }
        assert_ok(image_close(pages, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        assert_int_equal(test_read_at(tmp.fd, "pages-1.img", back, len + 1), len);
        assert_memory_equal(back, data, len);
}

static void test_huge(void **state __attribute__((unused))) {
        struct statfs fs;

        assert_int_equal(statfs("/dev/shm", &fs), 0);
        write_huge("/dev/shm", fs.f_type == TMPFS_MAGIC);
        assert_int_equal(statfs("/tmp", &fs), 0);
        write_huge("/tmp", fs.f_type == TMPFS_MAGIC);
}

static void test_digest(void **state __attribute__((unused))) {
        size_t len = 3 * IMAGE_CHUNK_SIZE + 5;
        _cleanup_free_ uint8_t *data = calloc(1, len);
        struct image_digest chunk[4], whole, empty;

        for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t)(i >> 3);
        for (size_t i = 0; i < 4; i++)
                chunk[i] = image_chunk_digest(data + i * IMAGE_CHUNK_SIZE, i < 3 ? IMAGE_CHUNK_SIZE : 5);
        whole = image_file_digest(chunk, 4);
        empty = image_data_digest(data, len);
        assert_memory_equal(&whole, &empty, sizeof(whole));
        empty = image_file_digest(NULL, 0);
        whole = image_data_digest("", 0);
        assert_memory_equal(&whole, &empty, sizeof(whole));
        /* XXH3-128 of nothing, as published: the digest does not depend on the CPU or the library. */
        assert_memory_equal(empty.byte, "\x99\xaa\x06\xd3\x01\x47\x98\xd8\x60\x01\xc3\x24\x46\x8d\x49\x7f",
                            16);
}

/* Twice the same file, a file left open, a file given up. */
static void test_misuse(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        struct image_file *file, *again = NULL;
        uint64_t files;

        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_open_write(set, IMAGE_FILES, 0, &file, &err), &err);
        assert_int_equal(image_open_write(set, IMAGE_FILES, 0, &again, &err), -EEXIST);
        assert_null(again);
        assert_non_null(strstr(ckpt_error_message(&err), "files.img"));
        image_discard(file);
        image_set_totals(set, &files, NULL);
        assert_int_equal(files, 0);
        ckpt_error_clear(&err);
        assert_ok(image_open_write(set, IMAGE_FILES, 0, &file, &err), &err);
        assert_ok(image_close(file, &err), &err);
}

static void test_missing(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        struct image_file *file = NULL;

        assert_ok(test_make_checkpoint(tmp.fd, 5, 0, NULL, &err), &err);
        assert_ok(image_dir_open(tmp.fd, 1, &dir, &err), &err);
        assert_int_equal(image_open_read(dir, IMAGE_MM, 5, IMAGE_OPTIONAL, &file, &err), -ENOENT);
        assert_false(ckpt_error_is_set(&err));
        assert_int_equal(image_open_read(dir, IMAGE_MM, 5, 0, &file, &err), -ENOENT);
        assert_non_null(strstr(ckpt_error_message(&err), "mm-5.img is missing"));
}

struct taken {
        Img__Fdinfo *kept; /* the entry of descriptor 2 */
        unsigned int n;
};

static int take_entry(void *ctx, struct image_file *file, void **message, struct ckpt_error *err) {
        const Img__Fdinfo *entry = *message;
        struct taken *taken = ctx;

        assert_int_equal(entry->fd, ++taken->n);
        if (entry->fd == 2)
                taken->kept = TAKE_PTR(*message);
        return taken->n == 4 ? image_damaged(file, err, "four") : 0;
}

static int take_all(struct image_dir *dir, unsigned long id, unsigned flags, struct taken *ret,
                    struct ckpt_error *err) {
        *ret = (struct taken){ 0 };
        ckpt_error_clear(err);
        return image_each(dir, IMAGE_FDINFO, id, flags, &img__fdinfo__descriptor, take_entry, ret, err);
}

static void test_each(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__Fdinfo entry = IMG__FDINFO__INIT;
        struct taken taken;

        /* A file of so many entries by each of these numbers. */
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        for (unsigned long id = 3; id <= 5; id++) {
                struct image_file *file;

                assert_ok(image_open_write(set, IMAGE_FDINFO, id, &file, &err), &err);
                for (entry.fd = 1; entry.fd <= id; entry.fd++)
                        assert_ok(image_write(file, &entry.base, &err), &err);
                assert_ok(image_close(file, &err), &err);
        }
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        assert_ok(image_dir_open(tmp.fd, 1, &dir, &err), &err);

        assert_int_equal(take_all(dir, 3, 0, &taken, &err), 0);
        assert_int_equal(taken.n, 3);
        assert_int_equal(taken.kept->fd, 2);
        img__fdinfo__free_unpacked(taken.kept, NULL);

        /* The first error is the end. */
        assert_int_equal(take_all(dir, 5, 0, &taken, &err), -EBADMSG);
        assert_int_equal(taken.n, 4);
        assert_non_null(strstr(ckpt_error_message(&err), "fdinfo-5.img"));
        img__fdinfo__free_unpacked(taken.kept, NULL);

        assert_int_equal(take_all(dir, 7, IMAGE_OPTIONAL, &taken, &err), 0);
        assert_int_equal(taken.n, 0);
        assert_int_equal(take_all(dir, 7, 0, &taken, &err), -ENOENT);
        assert_non_null(strstr(ckpt_error_message(&err), "fdinfo-7.img is missing"));
}

/* All of them, and the entry of descriptor 2 is taken as well. */
struct kept {
        Img__File *v[3];
        unsigned int n;
};

static int keep_entry(void *ctx, struct image_file *file __attribute__((unused)), void **message,
                      struct ckpt_error *err __attribute__((unused))) {
        struct kept *kept = ctx;

        kept->v[kept->n++] = *message;
        if (kept->n == 2)
                *message = NULL;
        return 0;
}

static void test_each_kept(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        _cleanup_(arena_done) struct arena arena = { 0 };
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__RegFile reg = IMG__REG_FILE__INIT;
        Img__Fown fown = IMG__FOWN__INIT;
        Img__File entry = IMG__FILE__INIT;
        struct image_file *file;
        struct kept kept = { 0 };
        char name[] = "/file-0";

        entry.type = IMG__FD_TYPES__REG;
        entry.reg = &reg;
        reg.fown = &fown;
        reg.name = name;
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_open_write(set, IMAGE_FILES, 0, &file, &err), &err);
        for (unsigned int i = 0; i < 3; i++) {
                name[sizeof(name) - 2] = (char)('0' + i);
                entry.id = reg.id = i + 1;
                assert_ok(image_write(file, &entry.base, &err), &err);
        }
        assert_ok(image_close(file, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);
        assert_ok(image_dir_open(tmp.fd, 1, &dir, &err), &err);

        assert_ok(image_each_kept(dir, IMAGE_FILES, 0, 0, &img__file__descriptor, &arena, keep_entry, &kept,
                                  &err),
                  &err);
        assert_int_equal(kept.n, 3);
        for (unsigned int i = 0; i < 3; i++) {
                name[sizeof(name) - 2] = (char)('0' + i);
                assert_int_equal(kept.v[i]->id, i + 1);
                assert_string_equal(kept.v[i]->reg->name, name);
                assert_non_null(kept.v[i]->reg->fown);
        }
        assert_ok(image_each_kept(dir, IMAGE_PIPES_DATA, 0, IMAGE_OPTIONAL, &img__pipe_data__descriptor,
                                  &arena, keep_entry, &kept, &err),
                  &err);
        assert_int_equal(kept.n, 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_kept),     cmocka_unit_test(test_names),
                cmocka_unit_test(test_strange_names), cmocka_unit_test(test_every_kind),
                cmocka_unit_test(test_headers),       cmocka_unit_test(test_large),
                cmocka_unit_test(test_threads),       cmocka_unit_test(test_digest),
                cmocka_unit_test(test_misuse),        cmocka_unit_test(test_missing),
                cmocka_unit_test(test_each),          cmocka_unit_test(test_huge),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
