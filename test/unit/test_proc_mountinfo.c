/* SPDX-License-Identifier: GPL-2.0-only */
/* mountinfo */
#include "test_proc_hostile.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/mountinfo.h"

static const char text[] =
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,discard\n"
        "22 27 0:21 / /proc rw,relatime shared:12 master:3 propagate_from:4 new:field - proc proc rw\n"
        "30 27 0:40 /sub\\040dir /mnt/a\\040b\\011c\\012d\\134e ro,nosuid unbindable - tmpfs  rw,size=1k\n"
        "31 27 0:41 / /mnt rw - tmpfs none rw\n"
        "32 31 0:42 /x//deleted /mnt rw - fuse.sshfs u@h:/p\\043q rw\n"
        "33 27 0:4 net:[4026531993] /run/netns/x rw shared:9 - nsfs nsfs rw\n";

static int parse(char *t, size_t len) {
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };

        return proc_mountinfo_parse(t, len, &vec);
}

static void parse_copy(const char *from, char *copy, size_t size, struct proc_mount_vec *ret) {
        size_t n = strlen(from);

        assert_true(n < size);
        memcpy(copy, from, n + 1);
        assert_int_equal(proc_mountinfo_parse(copy, n, ret), 0);
}

static void test_text(void **state) {
        (void)state;
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        char copy[sizeof(text)];

        parse_copy(text, copy, sizeof(copy), &vec);
        assert_int_equal(vec.n, 6);
        assert_int_equal(vec.v[0].id, 27);
        assert_int_equal(vec.v[0].parent_id, 1);
        assert_int_equal(vec.v[0].dev_major, 254);
        assert_int_equal(vec.v[0].shared, 1);
        assert_int_equal(vec.v[0].master, 0);
        assert_string_equal(vec.v[0].fstype, "ext4");
        assert_string_equal(vec.v[0].source, "/dev/root");
        assert_string_equal(vec.v[0].super_options, "rw,discard");
        assert_int_equal(vec.v[1].shared, 12);
        assert_int_equal(vec.v[1].master, 3);
        assert_int_equal(vec.v[1].propagate_from, 4);
        assert_false(vec.v[1].unbindable);
        assert_string_equal(vec.v[2].root, "/sub dir");
        assert_string_equal(vec.v[2].mountpoint, "/mnt/a b\tc\nd\\e");
        assert_true(vec.v[2].unbindable);
        assert_string_equal(vec.v[2].source, "");
        assert_string_equal(vec.v[2].super_options, "rw,size=1k");
        assert_string_equal(vec.v[4].source, "u@h:/p#q");
        assert_string_equal(vec.v[4].fstype, "fuse.sshfs");
        assert_string_equal(vec.v[4].root, "/x//deleted");
        assert_string_equal(vec.v[5].root, "net:[4026531993]");
        assert_ptr_equal(proc_mount_by_id(&vec, 31), &vec.v[3]);
        assert_null(proc_mount_by_id(&vec, 1));
        assert_true(proc_mount_has_option(vec.v[2].options, "ro"));
        assert_true(proc_mount_has_option(vec.v[2].options, "nosuid"));
        assert_false(proc_mount_has_option(vec.v[2].options, "r"));
        assert_false(proc_mount_has_option(vec.v[2].options, "nosui"));
        assert_false(proc_mount_has_option("", "ro"));
}

static int mount_of(const struct proc_mount_vec *vec, const char *path) {
        const struct proc_mount *m = proc_mount_by_path(vec, path);

        return m ? m->id : -1;
}

static void test_by_path(void **state) {
        (void)state;
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        char copy[sizeof(text)];

        parse_copy(text, copy, sizeof(copy), &vec);
        assert_int_equal(mount_of(&vec, "/"), 27);
        assert_int_equal(mount_of(&vec, "/etc/passwd"), 27);
        assert_int_equal(mount_of(&vec, "/proc"), 22);
        assert_int_equal(mount_of(&vec, "/proc/1/maps"), 22);
        assert_int_equal(mount_of(&vec, "/process"), 27);
        /* Mounted over twice; the mount below /mnt of before is out of reach. */
        assert_int_equal(mount_of(&vec, "/mnt"), 32);
        assert_int_equal(mount_of(&vec, "/mnt/a b\tc\nd\\e/f"), 32);
        assert_int_equal(mount_of(&vec, "relative"), -1);
        /* In a chroot to a directory: the mount it is on is not shown. */
        parse_copy("40 7 0:1 / /dev rw - tmpfs x rw\n41 40 0:2 / /dev/shm rw - tmpfs x rw\n", copy,
                   sizeof(copy), &vec);
        assert_int_equal(mount_of(&vec, "/dev/shm/a"), 41);
        assert_int_equal(mount_of(&vec, "/dev/null"), 40);
        assert_int_equal(mount_of(&vec, "/etc"), -1);
        /* Circles, and a mount that is its own parent. */
        parse_copy("1 2 0:1 / /a rw - t x rw\n2 1 0:2 / /a rw - t x rw\n", copy, sizeof(copy), &vec);
        assert_int_equal(mount_of(&vec, "/a/b"), -1);
        parse_copy("5 5 0:1 / / rw - t x rw\n1 5 0:1 / / rw - t x rw\n5 1 0:2 / / rw - t x rw\n", copy,
                   sizeof(copy), &vec);
        mount_of(&vec, "/a/b");
        parse_copy("5 5 0:1 / / rw - t x rw\n", copy, sizeof(copy), &vec);
        assert_int_equal(mount_of(&vec, "/a/b"), 5);
}

static void test_hostile(void **state) {
        (void)state;
        static const char *const bad[] = {
                "27 1 254:0 / / rw shared:1 ext4 /dev/root rw\n",
                "27 1 254:0 / / rw - ext4 /dev/root\n",
                "27 1 254:0 / / rw shared:0 - ext4 x rw\n",
                "27 1 254:0 / / rw shared:1x - ext4 x rw\n",
                "27 1 254 / / rw - ext4 x rw\n",
                "27 1 254:0 / x rw - ext4 x rw\n",
                "-1 1 254:0 / / rw - ext4 x rw\n",
                "27 1 254:0 / / rw - ext4 x rw",
                "\n",
        };
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        char copy[128];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                snprintf(copy, sizeof(copy), "%s", bad[i]);
                if (proc_mountinfo_parse(copy, strlen(copy), &vec) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);
        }
        /* An escaped NUL stays what it is; so does half an escape. */
        parse_copy("27 1 254:0 / /\\000\\04 rw - ext4 x\\9 rw\\\n", copy, sizeof(copy), &vec);
        assert_string_equal(vec.v[0].mountpoint, "/\\000\\04");
        assert_string_equal(vec.v[0].source, "x\\9");
        assert_string_equal(vec.v[0].super_options, "rw\\");
        hostile_check(parse, text, strlen(text), true);
}

static struct proc_dir self_dir(void) {
        struct proc_dir dir;

        assert_int_equal(proc_open(getpid(), &dir), 0);
        return dir;
}

/* In the child: a mount namespace of its own with odd names and one mount over another. */
static int live_child(const char *base) {
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_mount *m;
        char path[128], inner[160];
        struct stat st;

        if (unshare(CLONE_NEWNS) < 0)
                return errno == EPERM ? 77 : 1;
        snprintf(path, sizeof(path), "%s/a b\n\\c", base);
        snprintf(inner, sizeof(inner), "%s/in", path);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdir(path, 0700) < 0 ||
            mount("", path, "tmpfs", MS_NOSUID, "size=64k") < 0 || mkdir(inner, 0700) < 0 ||
            mount("one two", inner, "tmpfs", 0, NULL) < 0 ||
            mount("over", path, "tmpfs", MS_RDONLY, NULL) < 0)
                return 2;
        if (proc_mountinfo_read(&dir, &buf, &vec) < 0)
                return 3;
        m = proc_mount_by_path(&vec, inner);
        if (!m || strcmp(m->source, "over") != 0 || strcmp(m->mountpoint, path) != 0 || m->shared ||
            !proc_mount_has_option(m->options, "ro") || stat(path, &st) < 0 ||
            st.st_dev != makedev(m->dev_major, m->dev_minor))
                return 4;
        m = proc_mount_by_id(&vec, m->parent_id);
        /* The kernel calls an empty source "none". */
        if (!m || (strcmp(m->source, "") != 0 && strcmp(m->source, "none") != 0) ||
            !proc_mount_has_option(m->options, "nosuid") || strcmp(m->mountpoint, path) != 0)
                return 5;
        return 0;
}

static void test_live(void **state) {
        (void)state;
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char base[] = "/tmp/test_proc_mounts.XXXXXX", path[128];
        const struct proc_mount *m;
        struct stat st;
        int status;
        pid_t pid;

        assert_int_equal(proc_mountinfo_read(&dir, &buf, &vec), 0);
        m = proc_mount_by_path(&vec, "/proc/self");
        assert_non_null(m);
        assert_string_equal(m->fstype, "proc");
        assert_int_equal(stat("/proc", &st), 0);
        assert_int_equal(st.st_dev, makedev(m->dev_major, m->dev_minor));
        assert_non_null(mkdtemp(base));
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(live_child(base));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        snprintf(path, sizeof(path), "%s/a b\n\\c", base);
        rmdir(path);
        rmdir(base);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_by_path),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_live),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
