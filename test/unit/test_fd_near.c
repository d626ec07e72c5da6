/* SPDX-License-Identifier: GPL-2.0-only */
/* The directory that paths one after the other lead into: what is found is what the whole path leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "fd/near.h"
#include "macro.h"

/* Returns whether it was looked up from a directory. */
static bool assert_same(struct near_dir *near, const char *path) {
        struct stat a, b;
        const char *rest;
        int dir = near_dir_find(near, path, &rest), found, whole;

        found = fstatat(dir, rest, &a, AT_SYMLINK_NOFOLLOW);
        whole = fstatat(AT_FDCWD, path, &b, AT_SYMLINK_NOFOLLOW);
        assert_int_equal(found, whole);
        if (whole == 0) {
                assert_int_equal(a.st_ino, b.st_ino);
                assert_int_equal(a.st_dev, b.st_dev);
        }
        assert_true(rest >= path && rest <= path + strlen(path));
        return dir != AT_FDCWD;
}

static void test_same(void **state) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        static const struct {
                const char *path;
                bool near;
        } rows[] = {
                { "/proc/self/maps", false },
                { "/proc/self/smaps", true },
                { "/proc/self/status", true },
                { "/proc/self/not-there", true },
                { "/proc/self/maps", true },
                { "/proc/maps", false }, /* as long as it is, but elsewhere */
                { "/proc/stat", true },
                { "/proc/self/", false },
                { "/proc/self/", false },
                { "/proc/self/.", false },
                { "/proc/self/..", true },
                { "/", false },
                { "/", false },
                { "/proc", false },
                { "/dev", false },
                { "/not-there/a", false },
                { "/not-there/b", false },
                { "/not-there/c", false },
                { "/proc/stat/a", false },
                { "/proc/stat/b", false }, /* not a directory */
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (assert_same(&near, rows[i].path) != rows[i].near)
                        fail_msg("%zu: %s", i, rows[i].path);
}

static void test_long(void **state) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        char path[2 * PATH_MAX];

        (void)state;
        memset(path, 'a', sizeof(path));
        path[0] = path[PATH_MAX + 1] = '/';
        path[sizeof(path) - 1] = '\0';
        for (int i = 0; i < 3; i++)
                assert_false(assert_same(&near, path));
}

static void test_without(void **state) {
        (void)state;
        for (int i = 0; i < 2; i++)
                assert_false(assert_same(NULL, "/proc/self/maps"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same),
                cmocka_unit_test(test_long),
                cmocka_unit_test(test_without),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
