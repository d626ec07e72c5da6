/* SPDX-License-Identifier: GPL-2.0-only */
/* memfds: images that lie, and who else has one. What is right about them is tested end to end. */
#include "test_fd_images.h"

#include <sys/mman.h>

#include "images/memfd.pb-c.h"
#include "images/pagemap.pb-c.h"

enum { ID_DIR = 1, ID_MEMFD = 2 };

/* A set that is in order. */
static Img__MemfdFile file;
static Img__MemfdInode inode[2];
static size_t nr_inodes;
static uint64_t nr_pages;

static int setup(void **state) {
        (void)state;
        set_init(ID_DIR);
        add(IMG__FD_TYPES__REG, ID_DIR)->reg = &dir;
        add(IMG__FD_TYPES__MEMFD, ID_MEMFD)->memfd = &file;
        add_fd(4, IMG__FD_TYPES__MEMFD, ID_MEMFD);
        img__memfd_file__init(&file);
        file.id = ID_MEMFD;
        file.flags = O_RDWR | 0100000;
        file.pos = 5;
        file.fown = &fown;
        file.inode_id = 7;
        for (size_t i = 0; i < 2; i++) {
                img__memfd_inode__init(&inode[i]);
                inode[i].name = (char *)"some";
                inode[i].size = PAGE_SIZE + 1;
                inode[i].shmid = 3;
                inode[i].inode_id = 7;
                inode[i].seals = F_SEAL_SHRINK;
                inode[i].has_mode = true;
                inode[i].mode = 0640;
        }
        nr_inodes = 1;
        nr_pages = 2;
        return 0;
}

static void write_memfds(void) {
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        Img__Pagemap run = IMG__PAGEMAP__INIT;
        static const char pages[2 * PAGE_SIZE] = "content";
        struct image_digest digest;
        struct image_file *image;

        open_image(IMAGE_MEMFD_INODE, 0);
        for (size_t i = 0; i < nr_inodes; i++)
                put(&inode[i].base);
        close_image();
        if (nr_pages == 0)
                return;
        head.pages_id = 9;
        run.has_nr_pages = run.has_flags = true;
        run.nr_pages = nr_pages;
        run.flags = 4;
        open_image(IMAGE_SHMEM_PAGEMAP, 3);
        put(&head.base);
        put(&run.base);
        close_image();
        assert_ok(image_open_pages(fx.dump.set, 9, &image, &fx.err), &fx.err);
        digest = image_chunk_digest(pages, nr_pages * PAGE_SIZE);
        assert_int_equal(image_pages_chunk(image, 0, &digest), 0);
        assert_int_equal(pwrite(image_file_fd(image), pages, nr_pages * PAGE_SIZE, 0), nr_pages * PAGE_SIZE);
        close_image();
}

static void write_set(void) {
        begin_set();
        write_files();
        write_tables();
        write_memfds();
        images_commit(&fx);
}

static void test_in_order(void **state) {
        char buf[16] = "";

        (void)state;
        assert_ok(restore_set(), &fx.err);
        assert_int_equal(host_call(&fx, HOST, SYS_lseek, 4, 0, SEEK_CUR), 5);
        assert_int_equal(host_call(&fx, HOST, SYS_fcntl, 4, F_GET_SEALS), F_SEAL_SHRINK);
        assert_int_equal(host_read(&fx, HOST, 4, buf, 2), 2);
        assert_memory_equal(buf, "nt", 2);
}

static void test_flags(void **state) {
        (void)state;
        file.flags = 1 << 30;
        assert_refused(-EBADMSG, "cannot be those of a memfd");
}

static void test_offset(void **state) {
        (void)state;
        file.pos = 1ULL << 63;
        assert_refused(-EBADMSG, "impossible offset");
}

static void test_missing_inode(void **state) {
        (void)state;
        file.inode_id = 8;
        assert_refused(-EBADMSG, "which is not in memfd.img");
}

static void test_two_inodes(void **state) {
        (void)state;
        nr_inodes = 2;
        assert_refused(-EBADMSG, "two memfds with the number 7");
}

static void test_name(void **state) {
        char name[251];

        (void)state;
        memset(name, 'x', 250);
        name[250] = 0;
        inode[0].name = name;
        assert_refused(-EBADMSG, "a name of 250 bytes");
}

static void test_size(void **state) {
        (void)state;
        inode[0].size = UINT64_MAX;
        assert_refused(-EBADMSG, "cannot have");
}

static void test_seals(void **state) {
        (void)state;
        inode[0].seals = 0x40;
        assert_refused(-EBADMSG, "unknown seals 0x40");
}

static void test_mode(void **state) {
        (void)state;
        inode[0].mode = S_IFDIR | 0700;
        assert_refused(-EBADMSG, "cannot have the mode");
}

static void test_huge(void **state) {
        (void)state;
        inode[0].has_hugetlb_flag = true;
        inode[0].hugetlb_flag = MFD_HUGETLB | 21U << 26;
        assert_refused(-EBADMSG, "cannot have such huge pages"); /* because of its size */
}

static void test_huge_unknown(void **state) {
        (void)state;
        inode[0].has_hugetlb_flag = true;
        inode[0].hugetlb_flag = MFD_HUGETLB | 40U << 26;
        inode[0].size = 0;
        nr_pages = 0;
        assert_refused(-ENOTSUP, "which this kernel does not have");
}

static void test_huge_flags(void **state) {
        (void)state;
        inode[0].has_hugetlb_flag = true;
        inode[0].hugetlb_flag = 21U << 26 | MFD_CLOEXEC;
        assert_refused(-EBADMSG, "cannot have such huge pages");
}

static void test_pages_behind_end(void **state) {
        (void)state;
        inode[0].size = PAGE_SIZE;
        assert_refused(-EBADMSG, "pages behind the end");
}

/* ---- look ---- */

static int given, sealed;

static void keeps(void *arg) {
        int as = *(int *)arg;

        if (dup2(given, 0) != 0 || dup2(sealed, 1) != 1 || dup2(0, 2) != 2)
                _exit(9);
        if (as == 1 &&
            (mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, 0, 0) == MAP_FAILED || close(0) || close(2)))
                _exit(9);
        close_range(3, ~0U, 0);
}

static void make_given(void) {
        given = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_true(given >= 0 && sealed >= 0);
        assert_int_equal(ftruncate(given, PAGE_SIZE), 0);
        assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
}

static void test_outside(void **state) {
        int open_in = 0, mapped_in = 1;
        pid_t inside, outside;
        char text[64];

        (void)state;
        make_given();
        inside = child_new(keeps, &open_in);
        for (int way = 0; way < 2; way++) {
                outside = stranger_new(keeps, way ? &mapped_in : &open_in);
                dump_task_add(&fx, inside, NULL);
                dump_look_all(&fx);
                snprintf(text, sizeof(text), "which pid %d outside of the tree has", outside);
                assert_true(blocked_by(fx.dump.blockers, "the memfd given", text));
                assert_false(blocked_by(fx.dump.blockers, "sealed", "")); /* nobody can change it */
                stranger_end(outside);
                dump_done(&fx);
        }
        dump_task_add(&fx, inside, NULL);
        dump_look_all(&fx);
        assert_int_equal(blockers_count(fx.dump.blockers), 0);
        child_end(inside);
        close(given);
        close(sealed);
}

/* A deleted file of that name is none. */
static void has_impostor(void *arg) {
        (void)arg;
        if (chroot(fx.dir) < 0 || open("/memfd:x", O_RDWR | O_CREAT, 0600) < 0 || unlink("/memfd:x") < 0)
                _exit(9);
}

static void test_impostor(void **state) {
        pid_t child;

        (void)state;
        child = child_new(has_impostor, NULL);
        dump_task_add(&fx, child, NULL);
        (void)fd_collect(fx.dump.tasks[0], &fx.err);
        for (size_t i = 0; i < fx.dump.files->all.n; i++)
                assert_int_not_equal(fx.dump.files->all.v[i]->msg->type, IMG__FD_TYPES__MEMFD);
        child_end(child);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_in_order),
                TEST(test_flags),
                TEST(test_offset),
                TEST(test_missing_inode),
                TEST(test_two_inodes),
                TEST(test_name),
                TEST(test_size),
                TEST(test_seals),
                TEST(test_mode),
                TEST(test_huge),
                TEST(test_huge_unknown),
                TEST(test_huge_flags),
                TEST(test_pages_behind_end),
                TEST(test_outside),
                TEST(test_impostor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
