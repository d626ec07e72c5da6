/* SPDX-License-Identifier: GPL-2.0-only */
/* A set of images of one process's descriptors, put together by hand: in order until a test spoils something in it. */
#pragma once

#include "test_fd.h"

static struct fd_fixture fx;
static char path_dir[64]; /* of the test, and the process's working directory */

static Img__Fown fown;
static Img__RegFile dir;
static Img__File files[32];
static Img__Fdinfo table[32];
static Img__Fs fs;
static size_t nr_files, nr_table;

#define HOST (fx.restore.tasks[0])

static Img__File *add(Img__FdTypes type, uint32_t id) {
        Img__File *f = &files[nr_files++];

        assert_true(nr_files <= ELEMENTSOF(files));
        img__file__init(f);
        f->type = type;
        f->id = id;
        return f;
}

static Img__Fdinfo *add_fd(uint32_t fd, Img__FdTypes type, uint32_t id) {
        Img__Fdinfo *e = &table[nr_table++];

        assert_true(nr_table <= ELEMENTSOF(table));
        img__fdinfo__init(e);
        e->fd = fd;
        e->type = type;
        e->id = id;
        return e;
}

static void reg_init(Img__RegFile *reg, uint32_t id, char *name, uint32_t mode) {
        img__reg_file__init(reg);
        reg->id = id;
        reg->flags = 0100000;
        reg->fown = &fown;
        reg->name = name;
        reg->has_mode = true;
        reg->mode = mode;
}

/* Nothing but the working directory, which the test add()s. */
static void set_init(uint32_t dir_id) {
        fixture_init(&fx);
        snprintf(path_dir, sizeof(path_dir), "%s", fx.dir);
        nr_files = nr_table = 0;
        img__fown__init(&fown);
        reg_init(&dir, dir_id, path_dir, S_IFDIR | 0700);
        img__fs__init(&fs);
        fs.cwd_id = fs.root_id = dir_id;
}

static int teardown(void **state) {
        (void)state;
        restore_done(&fx);
        dump_done(&fx);
        fixture_done(&fx);
        return 0;
}

/* In whatever has a `struct image_file *image`. */
#define open_image(kind, id) assert_ok(image_open_write(fx.dump.set, kind, id, &image, &fx.err), &fx.err)
#define put(message)         assert_ok(image_write(image, (message), &fx.err), &fx.err)
#define put_raw(text)        assert_ok(image_write_raw(image, (text), strlen(text), &fx.err), &fx.err)
#define close_image()        assert_ok(image_close(image, &fx.err), &fx.err)

static void begin_set(void) {
        assert_ok(image_set_create(fx.dirfd, NULL, &fx.dump.set, &fx.err), &fx.err);
}

static void write_files(void) {
        struct image_file *image;

        open_image(IMAGE_FILES, 0);
        for (size_t i = 0; i < nr_files; i++)
                put(&files[i].base);
        close_image();
}

static void write_tables(void) {
        struct image_file *image;

        open_image(IMAGE_FDINFO, 1);
        for (size_t i = 0; i < nr_table; i++)
                put(&table[i].base);
        close_image();
        open_image(IMAGE_FS, 100);
        put(&fs.base);
        close_image();
}

/* The test's own: write all images and commit them. */
static void write_set(void);

static int load_set(void) {
        write_set();
        restore_task_add(&fx, 100, 1);
        return restore_load_all(&fx);
}

static __attribute__((unused)) int restore_set(void) {
        int r = load_set();

        if (r < 0)
                return r;
        restore_make_hosts(&fx);
        return fd_restore(&fx.restore, &fx.err);
}

#define assert_says(text)                                                                    \
        do {                                                                                 \
                if (!strstr(ckpt_error_message(&fx.err), (text)))                            \
                        fail_msg("'%s' is not in: %s", (text), ckpt_error_message(&fx.err)); \
        } while (0)

#define assert_refused(code, text)                    \
        do {                                          \
                assert_int_equal(load_set(), (code)); \
                assert_says(text);                    \
        } while (0)
