/* SPDX-License-Identifier: GPL-2.0-only */
/* A dump that dies at any step, or finds the disk full, leaves the old checkpoint or the new one, whole. */
#include "test_image.h"

#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define OLD_PID 100U
#define NEW_PID 200U
#define KILLED  77

struct countdown {
        int left;   /* steps until the process ends */
        int report; /* fd that gets one byte when the commit point has passed */
};

static void count_step(void *userdata, const char *step) {
        struct countdown *c = userdata;

        if (strcmp(step, "committed") == 0)
                assert_int_equal(write(c->report, "c", 1), 1);
        if (c->left-- == 0)
                _exit(KILLED);
}

/*
 * Run in a child that ends at step `steps`. Returns its exit status; *ret_committed: it got past the
 * rename.
 */
static int run_until(int steps,
                     int (*fn)(int dirfd, const struct image_hooks *hooks, struct ckpt_error *err),
                     int dirfd, bool *ret_committed) {
        int pipefd[2], status;
        char byte;
        pid_t pid;

        assert_int_equal(pipe(pipefd), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct countdown c = { .left = steps, .report = pipefd[1] };
                struct image_hooks hooks = { .step = count_step, .userdata = &c };
                struct ckpt_error err = CKPT_ERROR_INIT;

                if (fn(dirfd, &hooks, &err) < 0) {
                        fprintf(stderr, "child: %s\n", ckpt_error_message(&err));
                        _exit(1);
                }
                _exit(0);
        }
        close(pipefd[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        *ret_committed = read(pipefd[0], &byte, 1) == 1;
        close(pipefd[0]);
        return WEXITSTATUS(status);
}

static int commit_new(int dirfd, const struct image_hooks *hooks, struct ckpt_error *err) {
        return test_make_checkpoint(dirfd, NEW_PID, 5000, hooks, err);
}

static void make_old(int dirfd) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        assert_ok(test_make_checkpoint(dirfd, OLD_PID, 3000, NULL, &err), &err);
        test_write_at(dirfd, "notes.txt", "keep", 4);
        test_write_at(dirfd, "dump.log", "keep", 4);
        test_write_at(dirfd, "core-7.img", "stale", 5); /* of an even older set */
}

static void assert_whole_but_log(int dirfd, uint32_t pid) {
        char name[64];

        assert_int_equal(test_checkpoint_pid(dirfd), pid);
        assert_true(test_exists(dirfd, "notes.txt"));
        snprintf(name, sizeof(name), "pages-%u.img", pid == NEW_PID ? OLD_PID : NEW_PID);
        assert_false(test_exists(dirfd, name));
        assert_false(test_exists(dirfd, IMAGE_COMMIT_DIR));
        assert_int_equal(test_exists(dirfd, "core-7.img"), pid == OLD_PID);
}

static void assert_whole(int dirfd, uint32_t pid) {
        assert_whole_but_log(dirfd, pid);
        assert_true(test_exists(dirfd, "dump.log"));
}

static void test_replace(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();

        make_old(tmp.fd);
        assert_whole(tmp.fd, OLD_PID);
        assert_ok(commit_new(tmp.fd, NULL, &err), &err);
        assert_whole(tmp.fd, NEW_PID);
        assert_false(test_exists(tmp.fd, IMAGE_STAGING_DIR));
}

static void test_abort(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        struct image_set *set;

        make_old(tmp.fd);
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(test_store_process(set, NEW_PID, 10000, &err), &err);
        assert_whole(tmp.fd, OLD_PID);
        image_set_abort(set);
        assert_whole(tmp.fd, OLD_PID);
        assert_false(test_exists(tmp.fd, IMAGE_STAGING_DIR));
}

static void test_killed_at_every_step(void **state __attribute__((unused))) {
        int status = KILLED, steps;

        for (steps = 0; status == KILLED; steps++) {
                _cleanup_dir_ struct test_dir tmp = test_dir_make();
                bool committed;

                make_old(tmp.fd);
                status = run_until(steps, commit_new, tmp.fd, &committed);
                assert_whole(tmp.fd, committed ? NEW_PID : OLD_PID);
                /* What is left over is no obstacle to the next dump. */
                make_old(tmp.fd);
                assert_int_equal(test_checkpoint_pid(tmp.fd), OLD_PID);
                assert_false(test_exists(tmp.fd, IMAGE_STAGING_DIR));
        }
        assert_int_equal(status, 0);
        assert_true(steps > 8);
}

/* Nothing of a set is there, and nothing that stands in the way of the next one. */
static void assert_fresh(int dirfd) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        assert_int_equal(test_checkpoint_pid(dirfd), 0);
        assert_true(test_exists(dirfd, "notes.txt"));
        assert_ok(commit_new(dirfd, NULL, &err), &err);
        assert_whole_but_log(dirfd, NEW_PID);
}

/* Without a checkpoint to replace, files are made in place. */
static void test_fresh_killed_at_every_step(void **state __attribute__((unused))) {
        int status = KILLED, steps;

        for (steps = 0; status == KILLED; steps++) {
                _cleanup_dir_ struct test_dir tmp = test_dir_make();
                bool committed;

                test_write_at(tmp.fd, "notes.txt", "keep", 4);
                status = run_until(steps, commit_new, tmp.fd, &committed);
                if (committed)
                        assert_whole_but_log(tmp.fd, NEW_PID);
                else
                        assert_fresh(tmp.fd);
                make_old(tmp.fd);
                assert_whole(tmp.fd, OLD_PID);
                assert_false(test_exists(tmp.fd, IMAGE_STAGING_DIR));
        }
        assert_int_equal(status, 0);
        assert_true(steps > 4);
}

static size_t count_entries(int dirfd) {
        _cleanup_closedir_ DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        size_t n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        return n;
}

static void test_fresh_abort(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        struct image_file *file;
        struct image_set *set;

        test_write_at(tmp.fd, "notes.txt", "keep", 4);
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(test_store_process(set, NEW_PID, 10000, &err), &err);
        assert_true(test_exists(tmp.fd, "core-200.img"));
        assert_ok(image_open_write(set, IMAGE_TTY_DATA, 0, &file, &err), &err);
        image_discard(file);
        image_set_abort(set);
        assert_int_equal(count_entries(tmp.fd), 3); /* with . and .. */
        assert_fresh(tmp.fd);
}

/* Somebody else's file of that name is neither overwritten nor removed. */
static void test_fresh_in_the_way(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        struct image_set *set;

        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        test_write_at(tmp.fd, "core-200.img", "theirs", 6);
        assert_true(test_store_process(set, NEW_PID, 10000, &err) < 0);
        image_set_abort(set);
        assert_true(test_exists(tmp.fd, "core-200.img"));
        assert_int_equal(count_entries(tmp.fd), 3);
}

/* Until the recovery, no other reader may take the mixture for a checkpoint. */
static void test_no_inventory_in_between(void **state __attribute__((unused))) {
        for (int steps = 3; steps <= 6; steps++) {
                _cleanup_dir_ struct test_dir tmp = test_dir_make();
                bool committed;

                make_old(tmp.fd);
                assert_int_equal(run_until(steps, commit_new, tmp.fd, &committed), KILLED);
                assert_false(test_exists(tmp.fd, "inventory.img"));
        }
}

static void test_recovery_killed_at_every_step(void **state __attribute__((unused))) {
        int first = KILLED;

        for (int a = 2; first == KILLED; a++) {
                int second = KILLED;

                for (int b = 0; second == KILLED; b++) {
                        _cleanup_dir_ struct test_dir tmp = test_dir_make();
                        bool committed, ignored;

                        make_old(tmp.fd);
                        first = run_until(a, commit_new, tmp.fd, &committed);
                        assert_true(committed);
                        second = run_until(b, image_recover_hooked, tmp.fd, &ignored);
                        assert_whole(tmp.fd, NEW_PID);
                }
                assert_int_equal(second, 0);
        }
        assert_int_equal(first, 0);
}

static void test_two_at_once(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        struct image_set *other = NULL;
        char holder[32];

        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_int_equal(image_set_create(tmp.fd, NULL, &other, &err), -EBUSY);
        assert_null(other);
        assert_non_null(strstr(ckpt_error_message(&err), tmp.path));
        snprintf(holder, sizeof(holder), "pid %d", getpid());
        assert_non_null(strstr(ckpt_error_message(&err), holder));
}

static void test_directory_in_the_way(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();

        make_old(tmp.fd);
        assert_int_equal(mkdirat(tmp.fd, "core-200.img", 0700), 0);
        assert_int_equal(commit_new(tmp.fd, NULL, &err), -EISDIR);
        assert_non_null(strstr(ckpt_error_message(&err), "core-200.img"));
        assert_int_equal(test_checkpoint_pid(tmp.fd), OLD_PID);
}

static bool set_immutable(int dirfd, const char *name, bool on) {
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
        int flags = 0;

        assert_true(fd >= 0);
        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
                return false;
        flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

/* The move into place fails at its first step, and at a later one. */
static void test_commit_refused(void **state __attribute__((unused))) {
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        struct ckpt_error err = CKPT_ERROR_INIT;

        make_old(tmp.fd);
        if (!set_immutable(tmp.fd, "inventory.img", true))
                skip(); /* no capability, or not a filesystem with file attributes */
        assert_int_equal(commit_new(tmp.fd, NULL, &err), -EPERM);
        assert_non_null(strstr(ckpt_error_message(&err), "untouched"));
        ckpt_error_clear(&err);
        assert_true(set_immutable(tmp.fd, "inventory.img", false));
        assert_whole(tmp.fd, OLD_PID);
        assert_false(test_exists(tmp.fd, IMAGE_STAGING_DIR));

        assert_true(set_immutable(tmp.fd, "pages-100.img", true));
        assert_int_equal(commit_new(tmp.fd, NULL, &err), -EPERM);
        assert_non_null(strstr(ckpt_error_message(&err), "complete"));
        ckpt_error_clear(&err);
        assert_true(image_set_recover(tmp.fd, &err) < 0);
        ckpt_error_clear(&err);
        assert_true(set_immutable(tmp.fd, "pages-100.img", false));
        assert_whole(tmp.fd, NEW_PID);
}

/* A staging directory that is a symlink, and one with a subdirectory: not followed, not removed. */
static void test_hostile_staging(void **state __attribute__((unused))) {
        _cleanup_dir_ struct test_dir tmp = test_dir_make(), elsewhere = test_dir_make();
        struct ckpt_error err = CKPT_ERROR_INIT;

        test_write_at(elsewhere.fd, "precious", "x", 1);
        assert_int_equal(symlinkat(elsewhere.path, tmp.fd, IMAGE_STAGING_DIR), 0);
        assert_true(commit_new(tmp.fd, NULL, &err) < 0);
        ckpt_error_clear(&err);
        assert_int_equal(unlinkat(tmp.fd, IMAGE_STAGING_DIR, 0), 0);
        assert_int_equal(symlinkat(elsewhere.path, tmp.fd, IMAGE_COMMIT_DIR), 0);
        assert_true(commit_new(tmp.fd, NULL, &err) < 0);
        ckpt_error_clear(&err);
        assert_true(test_exists(elsewhere.fd, "precious"));
}

static void fill_filesystem(int dirfd, unsigned pages_left) {
        static const uint8_t page[4096];
        int fd = openat(dirfd, "filler", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct stat st;

        assert_true(fd >= 0);
        while (write(fd, page, sizeof(page)) == (ssize_t)sizeof(page))
                continue;
        assert_int_equal(errno, ENOSPC);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size - (off_t)pages_left * 4096), 0);
        close(fd);
}

static bool try_on_full_disk(unsigned pages_left) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        int fd, r;

        assert_int_equal(mount("tmpfs", tmp.path, "tmpfs", 0, "size=512k"), 0);
        fd = open(tmp.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        make_old(fd);
        fill_filesystem(fd, pages_left);
        r = test_make_checkpoint(fd, NEW_PID, 40000, NULL, &err);
        if (r < 0) {
                assert_int_equal(r, -ENOSPC);
                assert_whole(fd, OLD_PID);
                assert_false(test_exists(fd, IMAGE_STAGING_DIR));
        } else {
                assert_whole(fd, NEW_PID);
        }
        close(fd);
        assert_int_equal(umount2(tmp.path, MNT_DETACH), 0);
        return r >= 0;
}

static void test_disk_full(void **state __attribute__((unused))) {
        unsigned left = 0, refused = 0;
        bool done = false;

        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        for (; !done && left < 64; left++) {
                done = try_on_full_disk(left);
                refused += !done;
        }
        assert_true(done);
        assert_true(refused >= 10 + 4); /* ten for the pages, and at least one for each further file */
}

static void test_disk_full_message(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        struct image_file *file;
        uint8_t data[8192] = { 0 };
        int fd;

        assert_int_equal(mount("tmpfs", tmp.path, "tmpfs", 0, "size=64k"), 0);
        fd = open(tmp.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_ok(image_set_create(fd, NULL, &set, &err), &err);
        close(fd);
        assert_ok(image_open_write(set, IMAGE_TTY_DATA, 0, &file, &err), &err);
        for (int i = 0; i < 20; i++)
                assert_ok(image_write_raw(file, data, sizeof(data), &err), &err);
        assert_int_equal(image_close(file, &err), -ENOSPC);
        assert_non_null(strstr(ckpt_error_message(&err), "tty-data.img"));
        assert_non_null(strstr(ckpt_error_message(&err), "untouched"));
        assert_non_null(err.hint);
        assert_int_equal(umount2(tmp.path, MNT_DETACH), 0);
}

/* The process's own limit on file sizes. */
static void test_file_size_limit(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        struct rlimit before, tiny;

        make_old(tmp.fd);
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        tiny = (struct rlimit){ .rlim_cur = 64, .rlim_max = before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
        assert_true(commit_new(tmp.fd, NULL, &err) < 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_whole(tmp.fd, OLD_PID);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_replace),
                cmocka_unit_test(test_abort),
                cmocka_unit_test(test_killed_at_every_step),
                cmocka_unit_test(test_fresh_killed_at_every_step),
                cmocka_unit_test(test_fresh_abort),
                cmocka_unit_test(test_fresh_in_the_way),
                cmocka_unit_test(test_no_inventory_in_between),
                cmocka_unit_test(test_recovery_killed_at_every_step),
                cmocka_unit_test(test_two_at_once),
                cmocka_unit_test(test_directory_in_the_way),
                cmocka_unit_test(test_commit_refused),
                cmocka_unit_test(test_hostile_staging),
                cmocka_unit_test(test_disk_full),
                cmocka_unit_test(test_disk_full_message),
                cmocka_unit_test(test_file_size_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
