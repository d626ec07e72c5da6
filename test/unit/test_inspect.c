/* SPDX-License-Identifier: GPL-2.0-only */
/* What `ckpt inspect` shows of whole checkpoints, ours and others'. */
#include "test_inspect_tree.h"

static void test_text(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 };
        static const char *const expected[] = {
                "version 2, written by another tool; it has no checksums",
                "had been up for 1 d 02:03:04",
                "holds      4 processes, 5 threads, 7 open files",
                "  100 program, 2 threads, 24 KiB\n  |- 101 ba\\x1b]d\\xff (stopped), 24 KiB\n",
                "  |  `- 104 sharer, 24 KiB\n  `- 103 gone (zombie, exit status 3)\n",
                "pid 104 sharer: running, child of 101, group 100, session 100\n",
                "  program     /usr/bin/program\n  directory   /home/user, root /, umask 022\n",
                "uid 1000 (effective 1001, saved 1000, filesystem 1000), gid 0, groups 27 33\n",
                "  threads     2: 100 program, 102 worker\n",
                "fd 2",
                "pipe 4711, read end, 2.0 KiB in it <-> pid 101 fd 7  r cloexec\n",
                "/var/log/messages  w append at 12345  = fd 2, pid 101 fd 10, pid 101 fd 11, pid 101 fd 12 and 97 more\n",
                "evil\\x1b[2J\\x0a\\xff\"\\",
                "file 99, of which the images hold nothing",
                "descriptors the table of pid 101\n",
                "... and 78 more descriptors; -v lists them all\n",
                "Shared memory\n  77           256 KiB, 20 KiB in the images; 3 mappings, the first in pid 100\n",
        };

        make_tree(&dir);
        out = test_inspect(&dir, false, 2);
        if (out.r < 0)
                fail_msg("%s", out.error);
        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                assert_says(out.text, expected[i]);
        for (const char *p = out.text; *p; p++)
                assert_true(*p == '\n' || (unsigned char)*p >= ' ');
}

static void test_verbose(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 };

        make_tree(&dir);
        out = test_inspect(&dir, false, 3);
        assert_int_equal(out.r, 0);
        assert_says(out.text, "      109  file ");
        assert_null(strstr(out.text, "lists them all"));
}

static void test_json(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 };
        char command[160];

        make_tree(&dir);
        assert_int_equal(symlinkat("../earlier", dir.fd, "parent"), 0);
        out = test_inspect(&dir, true, 2);
        if (out.r < 0)
                fail_msg("%s", out.error);
        snprintf(command, sizeof(command), "python3 -m json.tool %s /dev/null", out.path);
        assert_int_equal(system(command), 0);
        assert_python(
                &out,
                "d[\"checkpoint\"][\"writer\"] == \"other\" and d[\"checkpoint\"][\"uptime_us\"] == 93784000000 "
                "and d[\"checkpoint\"][\"parent\"] == \"../earlier\"");
        assert_python(&out, "[(p[\"pid\"], p[\"ppid\"]) for p in d[\"processes\"]] == "
                            "[(100, None), (101, 100), (103, 100), (104, 101)]");
        assert_python(
                &out,
                "d[\"processes\"][2][\"state\"] == \"zombie\" and d[\"processes\"][2][\"exit_status\"] == 3 "
                "and d[\"processes\"][2][\"memory\"] is None");
        assert_python(&out, "d[\"processes\"][1][\"comm\"] == \"ba\\x1b]d\\ufffd\" and "
                            "d[\"processes\"][1][\"comm_hex\"] == \"62611b5d64ff\"");
        assert_python(&out, "[t[\"nice\"] for t in d[\"processes\"][0][\"threads\"]] == [-5, -5]");
        assert_python(&out, "len(d[\"descriptor_tables\"][1][\"descriptors\"]) == 102 and "
                            "d[\"processes\"][3][\"descriptor_table\"] == 2");
        assert_python(
                &out,
                "[f[\"path\"] for f in d[\"files\"] if f[\"id\"] == 5] == [\"evil\\x1b[2J\\n\\ufffd\\\"\\\\\\u00e4\"]");
        assert_python(
                &out,
                "d[\"pipes\"] == [{\"type\": \"pipe\", \"pipe_id\": 4711, \"bytes\": 2000, \"capacity\": None}]");
        assert_python(&out, "d[\"shared_memory\"][0][\"saved_bytes\"] == 20480");
}

static void test_memory(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 };

        make_tree(&dir);
        out = test_inspect(&dir, true, 2);
        assert_int_equal(out.r, 0);
        assert_python(&out, "[a[\"saved_bytes\"] for a in d[\"processes\"][0][\"memory\"][\"areas\"]] == "
                            "[0, 12288, 4096, 4096, 0, 4096, 0, 0]");
        assert_python(
                &out,
                "[(k, v[\"areas\"], v[\"mapped_bytes\"]) for k, v in "
                "d[\"processes\"][0][\"memory\"][\"by_kind\"].items()] == [(\"heap\", 1, 1048576), "
                "(\"stack\", 1, 131072), (\"private_anonymous\", 2, 2097152), (\"private_file\", 1, 65536), "
                "(\"shared_anonymous\", 1, 262144), (\"special\", 1, 8192), (\"guard\", 1, 4096)]");
        assert_python(
                &out,
                "d[\"processes\"][0][\"memory\"][\"total\"] == {\"areas\": 7, \"mapped_bytes\": 3612672, "
                "\"saved_bytes\": 24576, \"parent_bytes\": 4096}");
}

/* What writers of long ago had in files of their own. */
static void test_old_files(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        struct test_image *pstree = test_image_new(IMAGE_PSTREE), *fds = test_image_new(IMAGE_FDINFO);
        _cleanup_output_ struct test_output out = { 0 };
        Img__TaskKobjIds ids = IMG__TASK_KOBJ_IDS__INIT;
        Img__Fown fown = IMG__FOWN__INIT;
        Img__RegFile reg = IMG__REG_FILE__INIT;
        Img__Mm mm = IMG__MM__INIT;
        Img__Vma vma = VMA(0x1000, 0x3000, 1 | 1 << 9, 0);

        test_put_inventory(dir.fd);
        test_add_process(pstree, 5, 0, NULL, 0);
        test_image_save(pstree, dir.fd, IMAGE_PSTREE, 0);
        test_put_core(dir.fd, 5, "old", 1, 0);
        ids.files_id = 8;
        test_put_one(dir.fd, IMAGE_IDS, 5, &ids.base);
        reg.id = 3;
        reg.name = (char *)"/old/file";
        reg.fown = &fown;
        test_put_one(dir.fd, IMAGE_REG_FILES, 0, &reg.base);
        put_fd(fds, 4, IMG__FD_TYPES__REG, 3, 0);
        test_image_save(fds, dir.fd, IMAGE_FDINFO, 8);
        mm.exe_file_id = 3;
        test_put_one(dir.fd, IMAGE_MM, 5, &mm.base);
        test_put_one(dir.fd, IMAGE_VMAS, 5, &vma.base);

        out = test_inspect(&dir, false, 2);
        if (out.r < 0)
                fail_msg("%s", out.error);
        assert_says(out.text, "        4  file     /old/file  r\n");
        assert_says(out.text, "program     /old/file\n");
        assert_says(out.text, "private anonymous     8 KiB      1");
}

static void test_own(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 }, damaged = { 0 };
        int fd;

        assert_ok(test_make_checkpoint(dir.fd, 42, 8192, NULL, &err), &err);
        out = test_inspect(&dir, true, 2);
        if (out.r < 0)
                fail_msg("%s", out.error);
        /* pstree, core, pages, inventory, checksums */
        assert_python(
                &out,
                "d[\"checkpoint\"][\"checksums\"] == \"verified\" and d[\"checkpoint\"][\"files\"] == 5 and "
                "d[\"checkpoint\"][\"run_id\"] == \"run\" and d[\"processes\"][0][\"comm\"] == \"hello\"");
        fd = openat(dir.fd, "pages-42.img", O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "!", 1, 5000), 1);
        close(fd);
        damaged = test_inspect(&dir, true, 2);
        assert_int_equal(damaged.r, -EBADMSG);
        assert_string_equal(damaged.text, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),   cmocka_unit_test(test_verbose),   cmocka_unit_test(test_json),
                cmocka_unit_test(test_memory), cmocka_unit_test(test_old_files), cmocka_unit_test(test_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
