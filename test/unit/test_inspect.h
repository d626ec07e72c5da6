/* SPDX-License-Identifier: GPL-2.0-only */
/* Checkpoints written by hand, byte by byte as any tool may write them, and what `ckpt inspect` says of them. */
#pragma once

#include "test_image.h"

#include <fcntl.h>

#include "images/fdinfo.pb-c.h"
#include "images/fs.pb-c.h"
#include "images/memfd.pb-c.h"
#include "images/pagemap.pb-c.h"
#include "inspect/inspect.h"

struct test_image {
        uint8_t bytes[1 << 16];
        size_t n;
};

static inline void test_put_u32(struct test_image *image, uint32_t v) {
        for (int i = 0; i < 4; i++)
                image->bytes[image->n++] = (uint8_t)(v >> (8 * i));
}

static inline struct test_image *test_image_new(enum image_kind kind) {
        struct test_image *image = calloc(1, sizeof(*image));

        assert_non_null(image);
        if (image_kind_info(kind)->form == IMAGE_FORM_FRAMED)
                test_put_u32(image, IMAGE_MAGIC_COMMON);
        test_put_u32(image, image_kind_info(kind)->magic);
        return image;
}

static inline void test_put(struct test_image *image, const ProtobufCMessage *message) {
        size_t len = protobuf_c_message_get_packed_size(message);

        assert_true(image->n + 4 + len <= sizeof(image->bytes));
        test_put_u32(image, (uint32_t)len);
        protobuf_c_message_pack(message, image->bytes + image->n);
        image->n += len;
}

static inline void test_image_save(struct test_image *image, int dirfd, enum image_kind kind,
                                   unsigned long id) {
        char name[IMAGE_NAME_MAX];

        image_name(kind, id, name);
        test_write_at(dirfd, name, image->bytes, image->n);
        free(image);
}

/* A file of one entry. */
static inline void test_put_one(int dirfd, enum image_kind kind, unsigned long id,
                                const ProtobufCMessage *message) {
        struct test_image *image = test_image_new(kind);

        test_put(image, message);
        test_image_save(image, dirfd, kind, id);
}

static inline void test_put_inventory(int dirfd) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;

        inventory.img_version = 2;
        inventory.has_fdinfo_per_id = inventory.fdinfo_per_id = 1;
        inventory.has_ns_per_id = inventory.ns_per_id = 1;
        inventory.has_dump_uptime = 1;
        inventory.dump_uptime = 93784000000; /* 1 d 02:03:04 */
        test_put_one(dirfd, IMAGE_INVENTORY, 0, &inventory.base);
}

static inline void test_add_process(struct test_image *pstree, uint32_t pid, uint32_t ppid,
                                    uint32_t *threads, size_t n) {
        Img__Pstree entry = IMG__PSTREE__INIT;

        entry.pid = pid;
        entry.ppid = ppid;
        entry.pgid = entry.sid = 100;
        entry.threads = threads;
        entry.n_threads = n;
        test_put(pstree, &entry.base);
}

/* core-TID.img; a comm makes it that of a process. */
static inline void test_put_core(int dirfd, uint32_t tid, const char *comm, uint32_t state,
                                 uint32_t files_id) {
        Img__Core core = IMG__CORE__INIT;
        Img__TaskCore tc = IMG__TASK_CORE__INIT;
        Img__ThreadCore thread = IMG__THREAD_CORE__INIT;
        Img__TaskKobjIds ids = IMG__TASK_KOBJ_IDS__INIT;
        Img__Creds creds = IMG__CREDS__INIT;
        uint32_t groups[] = { 27, 33 };

        core.mtype = IMG__CORE__MARCH__X86_64;
        core.thread_core = &thread;
        creds.uid = creds.suid = creds.fsuid = 1000;
        creds.euid = 1001;
        creds.n_groups = 2;
        creds.groups = groups;
        thread.creds = &creds;
        thread.comm = (char *)(comm ? NULL : "worker");
        thread.has_sched_nice = 1;
        thread.sched_nice = -5;
        ids.vm_id = ids.fs_id = ids.sighand_id = tid;
        ids.files_id = files_id;
        if (comm) {
                tc.comm = (char *)comm;
                tc.task_state = state;
                tc.exit_code = state == 2 ? 3 << 8 : 0;
                core.tc = &tc;
                core.ids = files_id ? &ids : NULL;
        }
        test_put_one(dirfd, IMAGE_CORE, tid, &core.base);
}

struct test_output {
        int r;
        char *text; /* what was printed */
        char *error;
        char path[64]; /* the same in a file */
};

/* Run `ckpt inspect` on the directory. */
static inline struct test_output test_inspect(const struct test_dir *dir, bool json, int verbosity) {
        struct ckpt_options opts = { .json = json, .verbosity = verbosity };
        struct ckpt_run run = {
                .opts = &opts, .images_dir = dir->path, .images_dirfd = dir->fd, .work_dirfd = -1
        };
        struct test_output out = { .path = "/tmp/ckpt-inspect-XXXXXX" };
        int fd = mkstemp(out.path), saved = dup(STDOUT_FILENO);
        off_t size;

        assert_true(fd >= 0 && saved >= 0);
        fflush(stdout);
        dup2(fd, STDOUT_FILENO);
        out.r = inspect_run(&run);
        fflush(stdout);
        dup2(saved, STDOUT_FILENO);
        close(saved);
        size = lseek(fd, 0, SEEK_END);
        out.text = calloc(1, (size_t)size + 1);
        assert_int_equal(pread(fd, out.text, (size_t)size, 0), size);
        close(fd);
        out.error = strdup(out.r < 0 ? ckpt_error_message(&run.err) : "");
        if (out.r < 0)
                assert_true(ckpt_error_is_set(&run.err));
        ckpt_error_clear(&run.err);
        return out;
}

static inline void test_output_done(struct test_output *out) {
        unlink(out->path);
        free(out->text);
        free(out->error);
}

#define _cleanup_output_ _cleanup_(test_output_done)

/* Does a Python expression over the printed document, `d`, hold? */
static inline void assert_python(const struct test_output *out, const char *expression) {
        char command[2048];

        snprintf(command, sizeof(command),
                 "python3 -c 'import json; d = json.load(open(\"%s\", encoding=\"utf-8\")); x = (%s); "
                 "assert x is True, x'",
                 out->path, expression);
        if (system(command) != 0)
                fail_msg("not so: %s\n%s", expression, out->text);
}

static inline void assert_says(const char *text, const char *what) {
        if (!strstr(text, what))
                fail_msg("\"%s\" is not in: %s", what, text);
}
