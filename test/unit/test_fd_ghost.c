/* SPDX-License-Identifier: GPL-2.0-only */
/* Deleted files in images that make no sense, and where their names cannot be had: one error, and nothing is left. */
#include "test_fd_images.h"

#include <dirent.h>

#include "images/fs.pb-c.h"
#include "images/ghost-file.pb-c.h"
#include "images/remap-file-path.pb-c.h"

static char path_file[96], path_other[96];

enum { ID_DIR = 1, ID_FILE, ID_OTHER, GHOST = 0x1a };

static Img__RegFile file, other;
static Img__GhostFile ghost;
static Img__GhostChunk chunks[3];
static const char *chunk_bytes[3], *bytes;
static size_t nr_chunks;
static Img__RemapFilePath remaps[2];
static size_t nr_remaps;
static bool with_ghost;

static int setup(void **state) {
        (void)state;
        set_init(ID_DIR);
        snprintf(path_file, sizeof(path_file), "%s/ghosts/deep/file", fx.dir);
        snprintf(path_other, sizeof(path_other), "%s/other", fx.dir);
        reg_init(&file, ID_FILE, path_file, S_IFREG | 0640);
        reg_init(&other, ID_OTHER, path_other, S_IFREG | 0600);
        file.flags |= O_RDWR;
        other.flags |= O_RDWR;
        add(IMG__FD_TYPES__REG, ID_DIR)->reg = &dir;
        add(IMG__FD_TYPES__REG, ID_FILE)->reg = &file;
        add(IMG__FD_TYPES__REG, ID_OTHER)->reg = &other;
        add_fd(3, IMG__FD_TYPES__REG, ID_FILE);
        add_fd(4, IMG__FD_TYPES__REG, ID_OTHER);
        img__ghost_file__init(&ghost);
        ghost.mode = S_IFREG | 0640;
        ghost.uid = 7;
        ghost.gid = 8;
        ghost.has_size = true;
        ghost.size = 5;
        bytes = "ghost";
        nr_chunks = 0;
        with_ghost = true;
        for (size_t i = 0; i < 3; i++)
                img__ghost_chunk__init(&chunks[i]);
        img__remap_file_path__init(&remaps[0]);
        remaps[0].orig_id = ID_FILE;
        remaps[0].remap_id = GHOST;
        remaps[0].has_remap_type = true;
        remaps[0].remap_type = IMG__REMAP_TYPE__GHOST;
        remaps[1] = remaps[0];
        nr_remaps = 1;
        return 0;
}

static void write_set(void) {
        struct image_file *image;

        close(open(path_other, O_WRONLY | O_CREAT, 0600));
        begin_set();
        write_files();
        write_tables();
        open_image(IMAGE_REMAP_FPATH, 0);
        for (size_t i = 0; i < nr_remaps; i++)
                put(&remaps[i].base);
        close_image();
        if (with_ghost) {
                open_image(IMAGE_GHOST_FILE, GHOST);
                put(&ghost.base);
                if (bytes)
                        put_raw(bytes);
                for (size_t i = 0; i < nr_chunks; i++) {
                        put(&chunks[i].base);
                        put_raw(chunk_bytes[i]);
                }
                close_image();
        }
        images_commit(&fx);
}

/* Besides the images and `other`. */
static void assert_nothing_left(void) {
        DIR *d = opendir(fx.dir);
        struct dirent *e;

        assert_non_null(d);
        while ((e = readdir(d)))
                if (strcmp(e->d_name, "ghosts") == 0 || strstr(e->d_name, ".ckpt-ghost"))
                        fail_msg("%s is left", e->d_name);
        closedir(d);
}

static void use_chunk(uint64_t off, uint64_t len, const char *text) {
        ghost.has_chunks = ghost.chunks = true;
        bytes = NULL;
        chunks[nr_chunks].off = off;
        chunks[nr_chunks].len = len;
        chunk_bytes[nr_chunks++] = text;
}

/* ---- one thing at a time ---- */

static void spoil_mode(void) {
        ghost.mode = S_IFSOCK | 0600;
}
static void spoil_no_mode(void) {
        ghost.mode = 0600;
}
static void spoil_size(void) {
        ghost.size = UINT64_MAX;
}
static void spoil_shorter(void) {
        ghost.size = 6;
}
static void spoil_longer(void) {
        ghost.size = 4;
}
static void spoil_chunks_no_size(void) {
        use_chunk(0, 1, "x");
        ghost.has_size = false;
}
static void spoil_chunk_end(void) {
        use_chunk(3, 3, "abc");
}
static void spoil_chunk_offset(void) {
        use_chunk(UINT64_MAX, 2, "ab");
}
static void spoil_chunk_missing(void) {
        ghost.size = 1 << 30;
        use_chunk(0, 1 << 29, "abc");
}
static void spoil_enormous(void) {
        ghost.size = INT64_MAX;
        use_chunk(0, 1, "x");
}
static void spoil_kind(void) {
        ghost.mode = S_IFDIR | 0700;
        ghost.has_size = false;
        bytes = NULL;
}
static void spoil_tmpfile(void) {
        file.flags = 0100000 | O_TMPFILE;
}
static void spoil_no_ghost(void) {
        with_ghost = false;
}
static void spoil_twice(void) {
        nr_remaps = 2;
}
static void spoil_name(void) {
        file.name = (char *)"relative";
}
static void spoil_type(void) {
        remaps[0].remap_type = IMG__REMAP_TYPE__PROCFS;
}
static void spoil_link_unknown(void) {
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = 99;
}
static void spoil_link_self(void) {
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = ID_FILE;
}
static void spoil_link_circle(void) {
        remaps[0].remap_type = remaps[1].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = remaps[1].orig_id = ID_OTHER;
        remaps[1].remap_id = ID_FILE;
        nr_remaps = 2;
}
static void spoil_link_to_ghost(void) {
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = ID_OTHER;
        remaps[1].orig_id = ID_OTHER;
        nr_remaps = 2;
}
static void spoil_link_missing(void) {
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = ID_OTHER;
        other.name = (char *)"/nowhere/link_remap.1";
}
/* A directory that cannot be made: its parent is a file. */
static void spoil_parent(void) {
        snprintf(path_file, sizeof(path_file), "%s/other/file", fx.dir);
}
static void spoil_parent_readonly(void) {
        snprintf(path_file, sizeof(path_file), "/proc/nowhere/file");
}

static const struct {
        void (*spoil)(void);
        int result;
        const char *text;
} spoilt[] = {
        { spoil_mode, -EBADMSG, "not the mode of a file, directory or named pipe" },
        { spoil_no_mode, -EBADMSG, "not the mode of" },
        { spoil_size, -EBADMSG, "no file has" },
        { spoil_shorter, -EBADMSG, "5 bytes follow, not 6" },
        { spoil_longer, -EBADMSG, "5 bytes follow, not 4" },
        { spoil_chunks_no_size, -EBADMSG, "it has parts and no size" },
        { spoil_chunk_end, -EBADMSG, "a part from 3 on is beyond the end" },
        { spoil_chunk_offset, -EBADMSG, "is beyond the end" },
        { spoil_chunk_missing, -EBADMSG, "a part of 536870912 bytes is more than it has" },
        { spoil_enormous, -EFBIG, "cannot make a deleted file of" },
        { spoil_kind, -EBADMSG, "file 2 is not the kind of file that ghost-file-1a.img is" },
        { spoil_tmpfile, -EBADMSG, "cannot be those of a temporary file" },
        { spoil_no_ghost, -ENOENT, "ghost-file-1a.img" },
        { spoil_twice, -EBADMSG, "file 2 is there twice" },
        { spoil_name, -EBADMSG, "no absolute path" },
        { spoil_type, -ENOTSUP, "file 2 is the /proc directory of a process" },
        { spoil_link_unknown, -EBADMSG, "under the name of file 99" },
        { spoil_link_self, -EBADMSG, "under the name of file 2" },
        { spoil_link_circle, -EBADMSG, "is to be found under the name" },
        { spoil_link_to_ghost, -EBADMSG, "under the name of file 3" },
        { spoil_link_missing, -ENOTSUP, "/nowhere/link_remap.1 is missing" },
        { spoil_parent, -ENOTDIR, "cannot make" },
        { spoil_parent_readonly, -ENOENT, "cannot make" },
};

/* As the tmpfs of Linux 6.1: there it is a file like others. */
static bool takes_enormous(void) {
        int fd = open(fx.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        bool takes = ftruncate(fd, INT64_MAX) == 0;

        close(fd);
        return takes;
}

static void test_spoilt(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(spoilt); i++) {
                int r;

                if (i > 0)
                        setup(state);
                if (spoilt[i].spoil == spoil_enormous && takes_enormous()) {
                        teardown(state);
                        continue;
                }
                spoilt[i].spoil();
                r = restore_set();
                if (r != spoilt[i].result)
                        fail_msg("%zu: %d, not %d: %s", i, r, spoilt[i].result, ckpt_error_message(&fx.err));
                assert_says(spoilt[i].text);
                assert_nothing_left();
                if (i + 1 < ELEMENTSOF(spoilt))
                        teardown(state);
        }
}

/* ---- in order ---- */

static void assert_contents(const char *want, size_t size) {
        char buf[256];

        assert_int_equal(host_read(&fx, HOST, 3, buf, sizeof(buf)), size);
        assert_memory_equal(buf, want, size);
}

static struct stat stat_of_host(int fd) {
        char path[64];
        struct stat st;

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", HOST->threads[0].tid, fd);
        assert_int_equal(stat(path, &st), 0);
        return st;
}

static void test_in_order(void **state) {
        struct stat st;

        (void)state;
        assert_ok(restore_set(), &fx.err);
        assert_nothing_left();
        assert_contents("ghost", 5);
        st = stat_of_host(3);
        assert_int_equal(st.st_nlink, 0);
        assert_int_equal(st.st_mode, S_IFREG | 0640);
        assert_int_equal(st.st_uid, 7);
        assert_int_equal(st.st_gid, 8);
}

static void test_chunks(void **state) {
        (void)state;
        ghost.size = 11;
        use_chunk(2, 3, "abc");
        use_chunk(0, 1, "x");
        use_chunk(8, 2, "yz");
        assert_ok(restore_set(), &fx.err);
        assert_contents("x\0abc\0\0\0yz\0", 11);
        assert_nothing_left();
}

/* Written by older tools: no size, no type. */
static void test_foreign(void **state) {
        (void)state;
        ghost.has_size = false;
        remaps[0].has_remap_type = false;
        remaps[0].remap_id = 0x80000000 | GHOST;
        assert_ok(restore_set(), &fx.err);
        assert_contents("ghost", 5);
        assert_nothing_left();
}

/* The name is another file's, which nothing happens to, and nearly as long as a name may be. */
static void test_name_taken(void **state) {
        char name[PATH_MAX], text[8];
        int fd;

        (void)state;
        snprintf(name, sizeof(name), "%s/%0250d", fx.dir, 1);
        fd = open(name, O_RDWR | O_CREAT, 0600);
        assert_int_equal(write(fd, "mine", 4), 4);
        file.name = name;
        assert_ok(restore_set(), &fx.err);
        assert_nothing_left();
        assert_contents("ghost", 5);
        assert_int_equal(pread(fd, text, 8, 0), 4);
        assert_memory_equal(text, "mine", 4);
        assert_int_equal(access(name, F_OK), 0);
        close(fd);
}

static void test_linked(void **state) {
        struct stat st;
        char remap[96];
        int fd;

        (void)state;
        snprintf(remap, sizeof(remap), "%s/link_remap.1", fx.dir);
        snprintf(path_file, sizeof(path_file), "%s/old", fx.dir);
        fd = open(remap, O_RDWR | O_CREAT, 0600);
        assert_int_equal(write(fd, "linked", 6), 6);
        close(fd);
        other.name = remap;
        with_ghost = false;
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = ID_OTHER;
        assert_ok(restore_set(), &fx.err);
        assert_contents("linked", 6);
        assert_int_equal(access(path_file, F_OK), -1);
        assert_int_equal(access(remap, F_OK), 0);
        fd_restore_remove_links(&fx.restore);
        assert_int_equal(access(remap, F_OK), -1);
        st = stat_of_host(3);
        assert_int_equal(st.st_nlink, 0);
        assert_int_equal(st.st_ino, stat_of_host(4).st_ino);
}

/* A path that only looks like one of ours is not removed. */
static void test_linked_by_others(void **state) {
        (void)state;
        snprintf(path_file, sizeof(path_file), "%s/old", fx.dir);
        with_ghost = false;
        remaps[0].remap_type = IMG__REMAP_TYPE__LINKED;
        remaps[0].remap_id = ID_OTHER;
        assert_ok(restore_set(), &fx.err);
        fd_restore_remove_links(&fx.restore);
        assert_int_equal(access(path_other, F_OK), 0);
}

/* A dump that does not come to its end takes its links with it. */
static void opens_linked(void *arg) {
        int fd;

        if (chdir(arg) < 0 || (fd = open("old", O_RDWR | O_CREAT, 0600)) < 0 || link("old", "kept") < 0 ||
            unlink("old") < 0 || dup2(fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 ||
            close_range(3, ~0U, 0) < 0)
                _exit(99);
}

static int count_links(void) {
        DIR *d = opendir(fx.dir);
        struct dirent *e;
        int n = 0;

        while ((e = readdir(d)))
                n += strncmp(e->d_name, "link_remap.", 11) == 0;
        closedir(d);
        return n;
}

static void test_links_undone(void **state) {
        pid_t pid;

        (void)state;
        fx.opts.link_remap = true;
        pid = child_new(opens_linked, fx.dir);
        for (int committed = 0; committed < 2; committed++) {
                dump_task_add(&fx, pid, NULL);
                dump_look_all(&fx);
                assert_int_equal(blockers_count(fx.dump.blockers), 0);
                assert_ok(dump_collect_all(&fx), &fx.err);
                dump_save_all(&fx);
                assert_int_equal(count_links(), 1);
                if (committed)
                        fd_dump_committed(&fx.dump);
                dump_done(&fx);
                assert_int_equal(count_links(), committed);
        }
        child_end(pid);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_spoilt),           TEST(test_in_order),     TEST(test_chunks),
                TEST(test_foreign),          TEST(test_name_taken),   TEST(test_linked),
                TEST(test_linked_by_others), TEST(test_links_undone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
