/* SPDX-License-Identifier: GPL-2.0-only */
/* Directories and small checkpoints for the tests of criu/image/. */
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "image/internal.h"
#include "images/core.pb-c.h"
#include "images/mm.pb-c.h"
#include "images/pstree.pb-c.h"
#include "macro.h"

/* On failure, show the error as well. */
#define assert_ok(expr, err)                                                         \
        do {                                                                         \
                int _r_ = (expr);                                                    \
                if (_r_ < 0)                                                         \
                        fail_msg("%s: %d: %s", #expr, _r_, ckpt_error_message(err)); \
        } while (0)

struct test_dir {
        char path[64];
        int fd;
};

static inline int test_remove_entry(const char *path, const struct stat *st __attribute__((unused)),
                                    int type __attribute__((unused)),
                                    struct FTW *ftw __attribute__((unused))) {
        return remove(path);
}

static inline struct test_dir test_dir_make_in(const char *parent) {
        struct test_dir dir;

        snprintf(dir.path, sizeof(dir.path), "%s/ckpt-image-XXXXXX", parent);
        assert_non_null(mkdtemp(dir.path));
        dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(dir.fd >= 0);
        return dir;
}

static inline struct test_dir test_dir_make(void) {
        return test_dir_make_in("/tmp");
}

static inline void test_dir_remove(struct test_dir *dir) {
        close(dir->fd);
        nftw(dir->path, test_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#define _cleanup_dir_ _cleanup_(test_dir_remove)

static inline void test_write_at(int dirfd, const char *name, const void *data, size_t len) {
        int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, len), len);
        close(fd);
}

static inline size_t test_read_at(int dirfd, const char *name, void *buf, size_t max) {
        int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        assert_true(fd >= 0);
        n = read(fd, buf, max);
        assert_true(n >= 0 && (size_t)n < max);
        close(fd);
        return (size_t)n;
}

static inline bool test_exists(int dirfd, const char *name) {
        return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A pstree, a core and a pages file for process `pid`; different pids, different file names. */
static inline int test_store_process(struct image_set *set, uint32_t pid, size_t page_bytes,
                                     struct ckpt_error *err) {
        Img__Pstree pstree = IMG__PSTREE__INIT;
        Img__TaskCore tc = IMG__TASK_CORE__INIT;
        Img__Core core = IMG__CORE__INIT;
        _cleanup_image_file_ struct image_file *pages = NULL;
        _cleanup_free_ uint8_t *bytes = malloc(page_bytes + 1);
        int r;

        pstree.pid = pstree.pgid = pstree.sid = pid;
        pstree.n_threads = 1;
        pstree.threads = &pid;
        core.mtype = IMG__CORE__MARCH__X86_64;
        core.tc = &tc;
        tc.comm = (char *)"hello";
        tc.task_state = 1;
        r = image_store(set, IMAGE_PSTREE, 0, &pstree.base, err);
        if (r < 0)
                return r;
        r = image_store(set, IMAGE_CORE, pid, &core.base, err);
        if (r < 0)
                return r;
        r = image_open_pages(set, pid, &pages, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < page_bytes; i++)
                bytes[i] = (uint8_t)(i * 31 + (i >> 12) + pid);
        if (page_bytes > 0 && pwrite(image_file_fd(pages), bytes, page_bytes, 0) != (ssize_t)page_bytes)
                return ckpt_error_errno(err, errno ? -errno : -ENOSPC, "cannot write pages");
        return image_close(TAKE_PTR(pages), err);
}

static inline int test_make_checkpoint(int dirfd, uint32_t pid, size_t page_bytes,
                                       const struct image_hooks *hooks, struct ckpt_error *err) {
        _cleanup_image_set_ struct image_set *set = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        int r;

        r = image_set_create(dirfd, hooks, &set, err);
        if (r < 0)
                return r;
        r = test_store_process(set, pid, page_bytes, err);
        if (r < 0)
                return r;
        inventory.has_dump_uptime = 1;
        inventory.dump_uptime = 123456;
        inventory.dump_criu_run_id = (char *)"run";
        return image_set_commit(set, &inventory, err);
}

/* The pid of the whole, verified checkpoint in the directory; 0 if there is none. */
static inline uint32_t test_checkpoint_pid(int dirfd) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_dir_ struct image_dir *dir = NULL;
        _cleanup_image_message_ Img__Pstree *pstree = NULL;
        int r;

        r = image_dir_open(dirfd, 2, &dir, &err);
        if (r == -ENOENT)
                return 0;
        assert_ok(r, &err);
        assert_ok(image_load(dir, IMAGE_PSTREE, 0, 0, &img__pstree__descriptor, &pstree, &err), &err);
        assert_true(image_dir_has(dir, IMAGE_CORE, pstree->pid));
        assert_true(image_dir_has(dir, IMAGE_PAGES, pstree->pid));
        return pstree->pid;
}
