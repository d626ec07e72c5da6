/* SPDX-License-Identifier: GPL-2.0-only */
/* Damaged and hostile images: one error, nothing printed, no end of the process. */
#include "test_inspect_tree.h"

#include <dirent.h>

/* Printed all of it, or said why not. */
static void assert_sane(const struct test_dir *dir, const char *what) {
        for (int json = 0; json < 2; json++) {
                _cleanup_output_ struct test_output out = test_inspect(dir, json, 3);

                if (out.r > 0 || (out.r < 0 && (out.text[0] || !out.error[0])) ||
                    (out.r == 0 && !out.text[0]))
                        fail_msg("%s: result %d, '%s', prints '%s'", what, out.r, out.error, out.text);
        }
}

static void assert_refused(const struct test_dir *dir, const char *why) {
        _cleanup_output_ struct test_output out = test_inspect(dir, false, 2);

        assert_int_equal(out.r, -EBADMSG);
        assert_string_equal(out.text, "");
        assert_says(out.error, why);
}

static void damage(const struct test_dir *dir, const char *name, const uint8_t *bytes, size_t n,
                   size_t step) {
        uint8_t copy[1 << 16];

        for (size_t at = 0; at < n; at += step) {
                memcpy(copy, bytes, n);
                copy[at] ^= (uint8_t)(1U << (at * 7 % 8));
                test_write_at(dir->fd, name, copy, n);
                assert_sane(dir, name);
                copy[at] = 0xff;
                test_write_at(dir->fd, name, copy, n);
                assert_sane(dir, name);
                test_write_at(dir->fd, name, bytes, at);
                assert_sane(dir, name);
        }
        test_write_at(dir->fd, name, bytes, n);
}

static void test_damage(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        uint8_t bytes[1 << 16];
        const struct dirent *entry;
        unsigned files = 0;
        DIR *list;

        make_tree(&dir);
        list = opendir(dir.path);
        assert_non_null(list);
        while ((entry = readdir(list))) {
                size_t n;

                if (entry->d_name[0] == '.')
                        continue;
                n = test_read_at(dir.fd, entry->d_name, bytes, sizeof(bytes));
                damage(&dir, entry->d_name, bytes, n, n > 1000 ? 7 : 1);
                assert_int_equal(unlinkat(dir.fd, entry->d_name, 0), 0);
                assert_sane(&dir, entry->d_name);
                test_write_at(dir.fd, entry->d_name, bytes, n);
                files++;
        }
        closedir(list);
        assert_true(files > 15);
        assert_sane(&dir, "put back");
}

/* A tree whose pstree.img holds these (pid, ppid). */
static void make_pstree(const struct test_dir *dir, const uint32_t (*entries)[2], size_t n) {
        struct test_image *pstree = test_image_new(IMAGE_PSTREE);

        test_put_inventory(dir->fd);
        for (size_t i = 0; i < n; i++) {
                test_add_process(pstree, entries[i][0], entries[i][1], NULL, 0);
                test_put_core(dir->fd, entries[i][0], "x", 1, 0);
        }
        test_image_save(pstree, dir->fd, IMAGE_PSTREE, 0);
}

static void test_tree(void **state) {
        static const struct {
                uint32_t entries[3][2];
                const char *why;
        } cases[] = {
                { { { 5, 0 }, { 6, 5 }, { 6, 5 } }, "the id 6 is there twice" },
                { { { 5, 0 }, { 7, 6 }, { 6, 5 } }, "process 7 does not follow its parent 6" },
                { { { 5, 0 }, { 6, 6 }, { 7, 5 } }, "process 6 does not follow its parent 6" },
                { { { 5, 0 }, { 6, 0 }, { 7, 5 } }, "process 6 is a second root" },
                { { { 5, 6 }, { 6, 5 }, { 7, 5 } }, "its first process, 5, is not the root" },
                { { { 5, 0 }, { 0, 5 }, { 7, 5 } }, "0 is no process id" },
                { { { 5, 0 }, { 4294967295U, 5 }, { 7, 5 } }, "4294967295 is no process id" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_dir_ struct test_dir dir = test_dir_make();

                make_pstree(&dir, cases[i].entries, 3);
                assert_refused(&dir, cases[i].why);
        }
}

static void test_threads(void **state) {
        uint32_t wrong[] = { 6, 5 }, twice[] = { 5, 6, 6 };
        struct {
                uint32_t *threads;
                size_t n;
                const char *why;
        } cases[] = { { wrong, 2, "the first thread of process 5 is 6" },
                      { twice, 3, "the id 6 is there twice" } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_dir_ struct test_dir dir = test_dir_make();
                struct test_image *pstree = test_image_new(IMAGE_PSTREE);

                test_put_inventory(dir.fd);
                test_add_process(pstree, 5, 0, cases[i].threads, cases[i].n);
                test_image_save(pstree, dir.fd, IMAGE_PSTREE, 0);
                assert_refused(&dir, cases[i].why);
        }
}

/* 1,000 generations: no recursion, and lines do not grow with the depth. */
static void test_depth(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        static uint32_t chain[1000][2];
        _cleanup_output_ struct test_output out = { 0 };

        for (uint32_t i = 0; i < ELEMENTSOF(chain); i++)
                memcpy(chain[i], (uint32_t[]){ 10 + i, i == 0 ? 0 : 9 + i }, sizeof(chain[i]));
        make_pstree(&dir, (const uint32_t(*)[2])chain, ELEMENTSOF(chain));
        out = test_inspect(&dir, false, 3);
        assert_int_equal(out.r, 0);
        assert_says(out.text, "`- 1009 x\n");
        assert_true(strlen(out.text) < 300 * ELEMENTSOF(chain));
}

static void make_memory(const struct test_dir *dir, const uint64_t areas[2][3], const uint64_t runs[2][2]) {
        static const uint32_t root[][2] = { { 5, 0 } };
        struct test_image *pagemap = test_image_new(IMAGE_PAGEMAP);
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        Img__Vma vma[2], *vmas[] = { &vma[0], &vma[1] };
        Img__Mm mm = IMG__MM__INIT;

        make_pstree(dir, root, 1);
        for (size_t i = 0; i < 2; i++) {
                img__vma__init(&vma[i]);
                vma[i].start = areas[i][0];
                vma[i].end = areas[i][1];
                vma[i].status = (uint32_t)areas[i][2];
        }
        mm.n_vmas = 2;
        mm.vmas = vmas;
        test_put_one(dir->fd, IMAGE_MM, 5, &mm.base);
        test_put(pagemap, &head.base);
        for (size_t i = 0; i < 2; i++) {
                Img__Pagemap run = IMG__PAGEMAP__INIT;

                run.vaddr = runs[i][0];
                run.has_nr_pages = run.has_flags = 1;
                run.nr_pages = runs[i][1];
                run.flags = 4;
                test_put(pagemap, &run.base);
        }
        test_image_save(pagemap, dir->fd, IMAGE_PAGEMAP, 5);
}

static void test_memory(void **state) {
        static const struct {
                uint64_t areas[2][3], runs[2][2];
                const char *why; /* NULL: fine */
        } cases[] = {
                { { { 0x1000, 0x3000, 1 }, { 0x3000, 0x4000, 1 } }, { { 0x1000, 1 }, { 0x2000, 2 } }, NULL },
                { { { 0x1000, 0x3000, 1 }, { 0x2000, 0x4000, 1 } },
                  { { 0x1000, 1 }, { 0x2000, 1 } },
                  "overlaps" },
                { { { 0x3000, 0x1000, 1 }, { 0x5000, 0x6000, 1 } },
                  { { 0x1000, 1 }, { 0x2000, 1 } },
                  "no range" },
                { { { 0x1001, 0x3000, 1 }, { 0x5000, 0x6000, 1 } },
                  { { 0x1000, 1 }, { 0x2000, 1 } },
                  "no range" },
                { { { 0x1000, 0x3000, 1 << 16 }, { 0x5000, 0x6000, 1 } },
                  { { 0x1000, 1 }, { 0x2000, 1 } },
                  "follows the guard ranges" },
                { { { 0x1000, 0x3000, 1 }, { 0x3000, 0x4000, 1 } },
                  { { 0x1000, 2 }, { 0x2000, 1 } },
                  "not in order" },
                { { { 0x1000, 0x3000, 1 }, { 0x3000, 0x4000, 1 } },
                  { { 0x1000, 1 }, { 0x2000, UINT64_MAX } },
                  "out of range" },
                { { { 0x1000, 0x3000, 1 }, { 0x3000, 0x4000, 1 } },
                  { { 0x1000, 1 }, { 0xfffffffffffff000, 2 } },
                  "out of range" },
                { { { 0x1000, 0x3000, 1 }, { 0x3000, 0x4000, 1 } },
                  { { 0x1000, 1 }, { 0x2001, 1 } },
                  "not in order" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_dir_ struct test_dir dir = test_dir_make();

                make_memory(&dir, cases[i].areas, cases[i].runs);
                if (cases[i].why)
                        assert_refused(&dir, cases[i].why);
                else
                        assert_sane(&dir, "good memory");
        }
}

static void test_files(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        static const uint32_t root[][2] = { { 5, 0 } };
        struct test_image *files = test_image_new(IMAGE_FILES), *fds = test_image_new(IMAGE_FDINFO);
        Img__File file = IMG__FILE__INIT;
        char *path = malloc(PATH_MAX + 1);

        make_pstree(&dir, root, 1);
        file.type = IMG__FD_TYPES__PIPE;
        file.id = 3;
        test_put(files, &file.base);
        test_image_save(files, dir.fd, IMAGE_FILES, 0);
        assert_refused(&dir, "file 3 is of the type pipe, but has no data of it");

        files = test_image_new(IMAGE_FILES);
        put_reg(files, 3, "/one", O_RDONLY, 0);
        put_reg(files, 3, "/two", O_RDONLY, 0);
        test_image_save(files, dir.fd, IMAGE_FILES, 0);
        assert_refused(&dir, "there are two open files (file) with the id 3");

        memset(path, 'x', PATH_MAX);
        path[PATH_MAX] = '\0';
        files = test_image_new(IMAGE_FILES);
        put_reg(files, 3, path, O_RDONLY, 0);
        test_image_save(files, dir.fd, IMAGE_FILES, 0);
        free(path);
        assert_refused(&dir, "the path of file 3 is too long");

        assert_int_equal(unlinkat(dir.fd, "files.img", 0), 0);
        put_fd(fds, 3, IMG__FD_TYPES__REG, 3, 0);
        put_fd(fds, 4, IMG__FD_TYPES__REG, 3, 0);
        put_fd(fds, 3, IMG__FD_TYPES__REG, 3, 0);
        test_image_save(fds, dir.fd, IMAGE_FDINFO, 9);
        test_put_core(dir.fd, 5, "x", 1, 9);
        assert_refused(&dir, "the descriptor 3 is in it twice");
}

static void test_no_set(void **state) {
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        _cleanup_output_ struct test_output out = { 0 }, no_tree = { 0 };

        out = test_inspect(&dir, false, 2);
        assert_int_equal(out.r, -ENOENT);
        assert_string_equal(out.text, "");
        test_put_inventory(dir.fd);
        no_tree = test_inspect(&dir, true, 2);
        assert_int_equal(no_tree.r, -ENOENT);
        assert_says(no_tree.error, "pstree.img is missing");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_damage), cmocka_unit_test(test_tree),   cmocka_unit_test(test_threads),
                cmocka_unit_test(test_depth),  cmocka_unit_test(test_memory), cmocka_unit_test(test_files),
                cmocka_unit_test(test_no_set),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
