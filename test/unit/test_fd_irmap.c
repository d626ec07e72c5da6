/* SPDX-License-Identifier: GPL-2.0-only */
/* fd/irmap.h: paths of inodes that are watched. */
#include "test_fd.h"

#include <sys/inotify.h>
#include <sys/mount.h>

#include "fd/irmap.h"

static struct fd_fixture fx;

static int setup(void **state) {
        (void)state;
        fixture_init(&fx);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        fixture_done(&fx);
        return 0;
}

/* What fdinfo says of a watch on `path`. */
static struct proc_inotify_watch watch_of(const char *path) {
        struct proc_dir self = PROC_DIR_INIT;
        struct proc_fdinfo info = { 0 };
        struct proc_buf buf = { 0 };
        struct proc_inotify_watch w;
        int fd = inotify_init1(IN_CLOEXEC);

        assert_true(fd >= 0 && inotify_add_watch(fd, path, IN_CREATE | IN_DONT_FOLLOW) > 0);
        assert_int_equal(proc_open(getpid(), &self), 0);
        assert_int_equal(proc_fdinfo_read(&self, fd, &buf, &info), 0);
        assert_int_equal(info.inotify.n, 1);
        w = info.inotify.v[0];
        proc_fdinfo_done(&info);
        proc_buf_done(&buf);
        proc_close(&self);
        close(fd);
        return w;
}

static void make(const char *path) {
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        close(fd);
}

static void find_and_scan(const char *base) {
        char file[PATH_MAX], moved[PATH_MAX], deep[PATH_MAX];
        struct proc_inotify_watch w;
        struct irmap_inode inode;
        struct arena arena = { 0 };
        struct irmap *map;
        const char *found;
        int mnt_id;

        snprintf(deep, sizeof(deep), "%s/deep", base);
        snprintf(file, sizeof(file), "%s/deep/file", base);
        snprintf(moved, sizeof(moved), "%s/moved", base);
        assert_true(mkdir(deep, 0700) == 0);
        make(file);
        w = watch_of(file);
        inode = (struct irmap_inode){ w.sdev, w.ino, &w.handle };
        assert_int_equal(irmap_new(&arena, &map), 0);
        assert_int_equal(irmap_find(map, &inode, true, &found, &mnt_id), -ENOENT);
        assert_int_equal(irmap_scan(map, &inode, "/proc/self"), -ENOENT);
        assert_int_equal(irmap_scan(map, &inode, "relative"), -EINVAL);
        assert_int_equal(irmap_scan(map, &inode, "/nowhere"), -ENOENT);
        assert_int_equal(irmap_scan(map, &inode, base), 0);
        assert_int_equal(irmap_find(map, &inode, true, &found, &mnt_id), 0);
        assert_string_equal(found, file);
        assert_true(mnt_id > 0);
        /* What was found is not believed for ever. */
        assert_int_equal(rename(file, moved), 0);
        make(file);
        assert_int_equal(irmap_find(map, &inode, true, &found, &mnt_id), -ENOENT);
        assert_int_equal(irmap_scan(map, &inode, base), 0);
        assert_int_equal(irmap_find(map, &inode, true, &found, &mnt_id), 0);
        assert_string_equal(found, moved);
        assert_int_equal(unlink(moved), 0);
        assert_int_equal(irmap_find(map, &inode, true, &found, &mnt_id), -ENOENT);
        assert_int_equal(irmap_scan(map, &inode, base), -ENOENT);
        unlink(file);
        rmdir(deep);
        arena_done(&arena);
}

static void test_scan(void **state) {
        (void)state;
        find_and_scan(fx.dir);
}

static void test_by_handle(void **state) {
        struct proc_inotify_watch w = watch_of(fx.dir);
        struct irmap_inode inode = { w.sdev, w.ino, &w.handle };
        struct arena arena = { 0 };
        struct irmap *map;
        const char *found;
        int mnt_id;

        (void)state;
        if (!w.handle.known)
                skip();
        assert_int_equal(irmap_new(&arena, &map), 0);
        assert_int_equal(irmap_find(map, &inode, false, &found, &mnt_id), 0);
        assert_string_equal(found, fx.dir);
        /* No such device, no such handle, no such file, too long. */
        inode.sdev = 0xfff00001;
        inode.ino++;
        assert_int_equal(irmap_find(map, &inode, false, &found, &mnt_id), -ENODEV);
        inode.sdev = w.sdev;
        w.handle.n = 0;
        assert_true(irmap_find(map, &inode, false, &found, &mnt_id) < 0);
        w.handle.n = UINT32_MAX;
        assert_int_equal(irmap_find(map, &inode, false, &found, &mnt_id), -EOPNOTSUPP);
        w.handle.known = false;
        assert_int_equal(irmap_find(map, &inode, false, &found, &mnt_id), -EOPNOTSUPP);
        /* What is found is kept, and not every kernel minds this. */
        w = watch_of(fx.dir);
        w.handle.type = 0x7fff;
        assert_true(irmap_find(map, &inode, false, &found, &mnt_id) < 0 || strcmp(found, fx.dir) == 0);
        arena_done(&arena);
}

/* A filesystem whose handles cannot be opened, and whose numbers are not always those of its inodes. */
static void test_overlay(void **state) {
        char base[80], options[512], merged[96];
        int status;
        pid_t pid;

        (void)state;
        snprintf(base, sizeof(base), "%s/o", fx.dir);
        assert_int_equal(mkdir(base, 0700), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                    mount("t", base, "tmpfs", 0, NULL) < 0)
                        _exit(77);
                for (size_t i = 0; i < 4; i++) {
                        const char *const names[] = { "lower", "upper", "work", "merged" };

                        snprintf(merged, sizeof(merged), "%s/%s", base, names[i]);
                        if (mkdir(merged, 0700) < 0)
                                _exit(99);
                }
                snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
                         base, base, base);
                if (mount("overlay", merged, "overlay", 0, options) < 0)
                        _exit(77);
                find_and_scan(merged);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        rmdir(base);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_scan, setup, teardown),
                cmocka_unit_test_setup_teardown(test_by_handle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_overlay, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
