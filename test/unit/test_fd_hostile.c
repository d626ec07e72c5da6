/* SPDX-License-Identifier: GPL-2.0-only */
/* Images of files and tables that make no sense, that lie, or that no longer fit the machine. */
#include <linux/capability.h>
#include "test_fd_images.h"

#include <sys/resource.h>

#include "images/ns.pb-c.h"
#include "images/remap-file-path.pb-c.h"

static char path_a[96];

enum { ID_FILE = 1, ID_DIR = 2, ID_READ_END = 3, ID_WRITE_END = 4, ID_FIFO = 5, ID_FIFO_PATH = 6 };

/* A set that is in order; each test spoils something. */
static Img__RegFile file, fifo_path;
static Img__Pipe ends[2];
static Img__Fifo fifo;
static Img__PipeData data[2];
static const char *data_bytes[2];
static size_t nr_data;
static Img__FileLock lock;
static bool has_lock;

static void make_files(void) {
        reg_init(&file, ID_FILE, path_a, S_IFREG | 0600);
        file.has_size = true;
        file.size = 5;
        reg_init(&fifo_path, ID_FIFO_PATH, path_a, S_IFREG | 0600);
        add(IMG__FD_TYPES__REG, ID_FILE)->reg = &file;
        add(IMG__FD_TYPES__REG, ID_DIR)->reg = &dir;
        for (uint32_t i = 0; i < 2; i++) {
                img__pipe__init(&ends[i]);
                ends[i].id = ID_READ_END + i;
                ends[i].pipe_id = 77;
                ends[i].flags = i;
                ends[i].fown = &fown;
                add(IMG__FD_TYPES__PIPE, ID_READ_END + i)->pipe = &ends[i];
        }
}

static int setup(void **state) {
        int fd;

        (void)state;
        set_init(ID_DIR);
        snprintf(path_a, sizeof(path_a), "%s/a", fx.dir);
        fd = open(path_a, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, "12345", 5), 5);
        close(fd);
        make_files();
        add_fd(0, IMG__FD_TYPES__REG, ID_FILE);
        add_fd(1, IMG__FD_TYPES__PIPE, ID_READ_END);
        add_fd(2, IMG__FD_TYPES__PIPE, ID_WRITE_END);
        img__pipe_data__init(&data[0]);
        data[0].pipe_id = 77;
        data[0].bytes = 4;
        data_bytes[0] = "pipe";
        nr_data = 1;
        has_lock = false;
        img__file_lock__init(&lock);
        lock.flag = 1;
        lock.pid = 100;
        lock.fd = 0;
        return 0;
}

static Img__Fs *other_fs; /* of pid 101; NULL: no such image */

static void write_set(void) {
        struct image_file *image;

        begin_set();
        write_files();
        write_tables();
        if (other_fs) {
                open_image(IMAGE_FS, 101);
                put(&other_fs->base);
                close_image();
        }
        open_image(IMAGE_PIPES_DATA, 0);
        for (size_t i = 0; i < nr_data; i++) {
                put(&data[i].base);
                if (data_bytes[i])
                        put_raw(data_bytes[i]);
        }
        close_image();
        if (has_lock) {
                open_image(IMAGE_FILE_LOCKS, 0);
                put(&lock.base);
                close_image();
        }
        images_commit(&fx);
}

static void test_in_order(void **state) {
        (void)state;
        assert_ok(load_set(), &fx.err);
        assert_int_equal(fd_highest(&fx.restore), 2);
        restore_make_hosts(&fx);
        assert_ok(fd_restore(&fx.restore, &fx.err), &fx.err);
}

static void test_same_id_twice(void **state) {
        (void)state;
        add(IMG__FD_TYPES__REG, ID_FILE)->reg = &file;
        assert_refused(-EBADMSG, "two files with the id 1");
}

static void test_type_without_message(void **state) {
        (void)state;
        files[2].type = IMG__FD_TYPES__REG;
        assert_refused(-EBADMSG, "file 3 says it is of type 1, and is not");
}

static void test_inner_id(void **state) {
        (void)state;
        ends[0].id = 9;
        assert_refused(-EBADMSG, "file 3");
}

static void test_no_such_type(void **state) {
        (void)state;
        files[2].type = (Img__FdTypes)0;
        assert_refused(-EBADMSG, "file 3");
}

static void test_relative_name(void **state) {
        (void)state;
        file.name = (char *)"a";
        assert_refused(-EBADMSG, "no absolute path");
}

static void test_offset(void **state) {
        (void)state;
        file.pos = UINT64_MAX;
        assert_refused(-EBADMSG, "impossible offset");
}

static void test_missing_and_changed(void **state) {
        Img__RegFile missing;
        char name[128];

        (void)state;
        snprintf(name, sizeof(name), "%s/nowhere", fx.dir);
        reg_init(&missing, 7, name, S_IFREG | 0600);
        add(IMG__FD_TYPES__REG, 7)->reg = &missing;
        file.size = 6;
        dir.mode = S_IFDIR | 0755;
        write_set();
        assert_int_equal(restore_load_all(&fx), -ENOTSUP);
        /* All in one go. */
        assert_non_null(strstr(ckpt_error_message(&fx.err), "/nowhere is missing"));
        assert_non_null(strstr(ckpt_error_message(&fx.err), "has 5 bytes, it had 6"));
        assert_non_null(strstr(ckpt_error_message(&fx.err), "has the permissions 0700, it had 0755"));
}

static void test_skip_rwx(void **state) {
        (void)state;
        fx.opts.skip_file_rwx_check = true;
        file.mode = S_IFREG | 0777;
        assert_ok(load_set(), &fx.err);
}

static void test_other_kind(void **state) {
        (void)state;
        file.mode = S_IFDIR | 0600;
        assert_refused(-ENOTSUP, "is a file now, it was a directory");
}

static void test_unknown_file(void **state) {
        (void)state;
        add_fd(3, IMG__FD_TYPES__REG, 99);
        assert_refused(-EBADMSG, "file 99, which is not in the images");
}

static void test_type_of_descriptor(void **state) {
        (void)state;
        add_fd(3, IMG__FD_TYPES__PIPE, ID_FILE);
        assert_refused(-EBADMSG, "descriptor 3 is of type 2");
}

static void test_descriptor_twice(void **state) {
        (void)state;
        add_fd(1, IMG__FD_TYPES__REG, ID_FILE);
        assert_refused(-EBADMSG, "descriptor 1 is there twice");
}

static void test_descriptor_number(void **state) {
        (void)state;
        add_fd(0x7fffffff, IMG__FD_TYPES__REG, ID_FILE);
        assert_refused(-EBADMSG, "no number of a descriptor");
}

static void test_descriptor_beyond_limit(void **state) {
        (void)state;
        add_fd(1 << 29, IMG__FD_TYPES__REG, ID_FILE);
        assert_refused(-EMFILE, "may only open");
}

static void test_descriptor_flags(void **state) {
        (void)state;
        add_fd(3, IMG__FD_TYPES__REG, ID_FILE)->flags = 2;
        assert_refused(-EBADMSG, "flags");
}

static void test_directory(void **state) {
        (void)state;
        fs.cwd_id = ID_FILE;
        assert_refused(-EBADMSG, "no directory");
}

static void test_directory_is_pipe(void **state) {
        (void)state;
        fs.root_id = ID_READ_END;
        assert_refused(-EBADMSG, "no directory");
}

static Img__NsFile ns;

static void add_ns(void) {
        img__ns_file__init(&ns);
        ns.id = 50;
        ns.ns_cflag = CLONE_NEWUTS;
        ns.ns_id = 0;
        add(IMG__FD_TYPES__NS, 50)->nsf = &ns;
        add_fd(10, IMG__FD_TYPES__NS, 50);
}

static void test_ns(void **state) {
        struct stat a, b;
        char path[48];

        (void)state;
        add_ns();
        assert_ok(load_set(), &fx.err);
        restore_make_hosts(&fx);
        assert_ok(fd_restore(&fx.restore, &fx.err), &fx.err);
        snprintf(path, sizeof(path), "/proc/%d/fd/10", fx.restore.tasks[0]->threads[0].tid);
        assert_int_equal(stat(path, &a), 0);
        assert_int_equal(stat("/proc/self/ns/uts", &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
}

static void test_ns_unknown(void **state) {
        (void)state;
        add_ns();
        ns.ns_cflag = CLONE_VM;
        assert_refused(-EBADMSG, "no known kind of namespace");
}

static void test_ns_flags(void **state) {
        (void)state;
        add_ns();
        ns.flags = O_WRONLY;
        assert_refused(-EBADMSG, "cannot be those of a namespace");
}

static void test_ns_other(void **state) {
        (void)state;
        add_ns();
        ns.ns_id = 7;
        restore_task_add(&fx, 100, 1);
        write_set();
        assert_int_equal(restore_load_all(&fx), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "other than that of the tree"));
}

/* Its own /proc is not there yet; that of others has to be. */
static void test_proc_of_process(void **state) {
        (void)state;
        file.name = (char *)"/proc/100/status";
        file.has_size = false;
        assert_ok(load_set(), &fx.err);
}

static void test_proc_of_nobody(void **state) {
        char name[64];

        (void)state;
        snprintf(name, sizeof(name), "/proc/%d/status", 999999999);
        file.name = name;
        assert_refused(-ENOTSUP, "999999999/status is missing");
}

static void test_umask(void **state) {
        (void)state;
        fs.has_umask = true;
        fs.umask = 01000;
        assert_refused(-EBADMSG, "no umask");
}

static void test_pipe_bytes(void **state) {
        (void)state;
        data[0].bytes = 4000000000U;
        assert_refused(-EBADMSG, "more than the file has");
}

static void test_pipe_capacity(void **state) {
        (void)state;
        data[0].has_size = true;
        data[0].size = UINT32_MAX;
        assert_refused(-EBADMSG, "impossibly large");
}

static void test_pipe_flags(void **state) {
        (void)state;
        ends[0].flags = 3;
        assert_refused(-EBADMSG, "cannot have the flags");
}

static void test_pipe_too_full(void **state) {
        char much[9000];

        (void)state;
        memset(much, 'm', sizeof(much) - 1);
        much[sizeof(much) - 1] = 0;
        data[0].bytes = sizeof(much) - 1;
        data[0].has_size = true;
        data[0].size = 4096;
        data_bytes[0] = much;
        assert_refused(-EAGAIN, "cannot put 8999 bytes into pipe 77");
}

/* Take CAP_SYS_RESOURCE away, or back if it was there. */
static void change_resources(bool back) {
        struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct d[2];
        uint32_t bit = CAP_TO_MASK(CAP_SYS_RESOURCE);

        assert_int_equal(syscall(SYS_capget, &h, d), 0);
        d[0].effective = back ? d[0].effective | (d[0].permitted & bit) : d[0].effective & ~bit;
        assert_int_equal(syscall(SYS_capset, &h, d), 0);
}

/* More than this machine gives to whom it does not trust. */
static void test_pipe_beyond_limit(void **state) {
        static const size_t size = 12UL << 20;
        char *much = malloc(size + 1);
        int r;

        (void)state;
        assert_non_null(much);
        memset(much, 'm', size);
        much[size] = 0;
        data[0].bytes = (uint32_t)size;
        data[0].has_size = true;
        data[0].size = 16 << 20;
        data_bytes[0] = much;
        change_resources(false);
        r = load_set();
        change_resources(true);
        free(much);
        assert_int_equal(r, -EAGAIN);
        assert_says("into pipe 77");
        assert_non_null(strstr(fx.err.hint, "fs.pipe-max-size"));
}

static void test_fifo_without_path(void **state) {
        (void)state;
        img__fifo__init(&fifo);
        fifo.id = ID_FIFO;
        fifo.pipe_id = 1;
        add(IMG__FD_TYPES__FIFO, ID_FIFO)->fifo = &fifo;
        assert_refused(-EBADMSG, "named pipe 5 has no path");
}

static void test_fifo_on_file(void **state) {
        (void)state;
        img__fifo__init(&fifo);
        fifo.id = ID_FIFO;
        fifo.pipe_id = 1;
        fifo.has_regf_id = true;
        fifo.regf_id = ID_FIFO_PATH;
        add(IMG__FD_TYPES__FIFO, ID_FIFO)->fifo = &fifo;
        add(IMG__FD_TYPES__REG, ID_FIFO_PATH)->reg = &fifo_path;
        assert_refused(-EBADMSG, "named pipe 5 has no path");
}

static void test_lock(void **state) {
        (void)state;
        has_lock = true;
        lock.fd = 9;
        assert_refused(-EBADMSG, "a lock on fd 9, which it has not open");
}

static void test_lock_of_nobody(void **state) {
        (void)state;
        has_lock = true;
        lock.pid = 101;
        assert_refused(-EBADMSG, "a lock belongs to pid 101, which is not in the tree");
}

static void test_lock_range(void **state) {
        (void)state;
        has_lock = true;
        lock.start = INT64_MAX;
        lock.len = 2;
        assert_refused(-EBADMSG, "makes no sense");
}

/* The table is read once, and so is what stands in it. */
static void test_shared_table(void **state) {
        struct restore_task *first, *second;
        Img__Fs same = fs;

        (void)state;
        other_fs = &same;
        write_set();
        other_fs = NULL;
        first = restore_task_add(&fx, 100, 1);
        second = restore_task_add(&fx, 101, 1);
        assert_ok(restore_load_all(&fx), &fx.err);
        assert_ptr_equal(second->fds->shared, first);
        assert_int_equal(second->fds->slots.n, 0);
        assert_true(first->fds->slots.n > 0 && !first->fds->shared);
}

static void test_shared_directory_differs(void **state) {
        Img__Fs other = fs;

        (void)state;
        other.has_umask = true;
        other.umask = 0123;
        other_fs = &other;
        write_set();
        other_fs = NULL;
        restore_task_add(&fx, 100, 1);
        restore_task_add(&fx, 101, 1);
        assert_int_equal(restore_load_all(&fx), -EBADMSG);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "fs-101.img and fs-100.img differ"));
}

static void test_remap(void **state) {
        Img__RemapFilePath remap;
        struct image_file *image;

        (void)state;
        write_set();
        img__remap_file_path__init(&remap);
        remap.orig_id = ID_FILE;
        remap.has_remap_type = true;
        remap.remap_type = IMG__REMAP_TYPE__PROCFS;
        begin_set();
        open_image(IMAGE_FILES, 0);
        put(&files[0].base);
        close_image();
        open_image(IMAGE_REMAP_FPATH, 0);
        put(&remap.base);
        close_image();
        images_commit(&fx);
        assert_int_equal(restore_load_all(&fx), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "file 1 is the /proc directory of a process"));
}

/* Older writers: no files.img. */
static void test_old_files(void **state) {
        struct image_file *image;

        (void)state;
        begin_set();
        open_image(IMAGE_REG_FILES, 0);
        put(&file.base);
        put(&dir.base);
        close_image();
        open_image(IMAGE_PIPES, 0);
        put(&ends[1].base);
        put(&ends[0].base);
        close_image();
        write_tables();
        images_commit(&fx);
        restore_task_add(&fx, 100, 1);
        assert_ok(restore_load_all(&fx), &fx.err);
        assert_int_equal(fx.restore.files->n, 4);
        restore_make_hosts(&fx);
        assert_ok(fd_restore(&fx.restore, &fx.err), &fx.err);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_in_order),
                TEST(test_same_id_twice),
                TEST(test_type_without_message),
                TEST(test_inner_id),
                TEST(test_no_such_type),
                TEST(test_relative_name),
                TEST(test_offset),
                TEST(test_missing_and_changed),
                TEST(test_skip_rwx),
                TEST(test_other_kind),
                TEST(test_unknown_file),
                TEST(test_type_of_descriptor),
                TEST(test_descriptor_twice),
                TEST(test_descriptor_number),
                TEST(test_descriptor_beyond_limit),
                TEST(test_descriptor_flags),
                TEST(test_directory),
                TEST(test_directory_is_pipe),
                TEST(test_ns),
                TEST(test_ns_unknown),
                TEST(test_ns_flags),
                TEST(test_ns_other),
                TEST(test_proc_of_process),
                TEST(test_proc_of_nobody),
                TEST(test_umask),
                TEST(test_pipe_bytes),
                TEST(test_pipe_capacity),
                TEST(test_pipe_beyond_limit),
                TEST(test_pipe_flags),
                TEST(test_pipe_too_full),
                TEST(test_fifo_without_path),
                TEST(test_fifo_on_file),
                TEST(test_lock),
                TEST(test_lock_of_nobody),
                TEST(test_lock_range),
                TEST(test_shared_table),
                TEST(test_shared_directory_differs),
                TEST(test_remap),
                TEST(test_old_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
