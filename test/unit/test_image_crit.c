/* SPDX-License-Identifier: GPL-2.0-only */
/* An independent reader of the format, Debian's crit, finds in our images what we put there. */
#include "test_image.h"

#include <sys/wait.h>

#include "image/stats.h"
#include "images/fdinfo.pb-c.h"
#include "images/fs.pb-c.h"
#include "images/memfd.pb-c.h"
#include "images/ns.pb-c.h"
#include "images/pagemap.pb-c.h"
#include "images/pipe.pb-c.h"

/* What `crit decode` prints, without blanks; the caller frees it. */
static char *crit_decode(const struct test_dir *dir, const char *name) {
        char command[256], *out = calloc(1, 1 << 18);
        size_t n = 0;
        FILE *f;
        int c;

        snprintf(command, sizeof(command), "crit decode -i %s/%s --pretty 2>&1", dir->path, name);
        f = popen(command, "re");
        assert_non_null(f);
        while ((c = getc(f)) != EOF)
                if (c != ' ' && c != '\n' && n < (1 << 18) - 1)
                        out[n++] = (char)c;
        if (pclose(f) != 0)
                fail_msg("%s failed (is the package criu installed?): %s", command, out);
        return out;
}

static void assert_decodes(const struct test_dir *dir, const char *name, const char *const *expected) {
        _cleanup_free_ char *out = crit_decode(dir, name);

        for (; *expected; expected++)
                if (!strstr(out, *expected))
                        fail_msg("crit does not see %s in %s: %s", *expected, name, out);
}

#define ASSERT_DECODES(dir, name, ...) assert_decodes(dir, name, (const char *const[]){ __VA_ARGS__, NULL })

static Img__ThreadInfoX86 *thread_info(void) {
        static const uint32_t zero[512];
        static Img__UserX86Regs regs;
        static Img__UserX86Fpregs fpregs;
        static Img__UserX86Xsave xsave;
        static Img__ThreadInfoX86 info;

        img__user_x86_regs__init(&regs);
        img__user_x86_fpregs__init(&fpregs);
        img__user_x86_xsave__init(&xsave);
        img__thread_info_x86__init(&info);
        regs.ip = 0x401000;
        regs.sp = 0x7ffc00001000;
        fpregs.mxcsr = 0x1f80;
        fpregs.n_st_space = 32;
        fpregs.st_space = (uint32_t *)zero;
        fpregs.n_xmm_space = 64;
        fpregs.xmm_space = (uint32_t *)zero;
        xsave.xstate_bv = 7;
        xsave.n_ymmh_space = 64;
        xsave.ymmh_space = (uint32_t *)zero;
        fpregs.xsave = &xsave;
        info.gpregs = &regs;
        info.fpregs = &fpregs;
        info.clear_tid_addr = 0x1234;
        return &info;
}

static int store_core(struct image_set *set, struct ckpt_error *err) {
        Img__Core core = IMG__CORE__INIT;
        Img__TaskCore tc = IMG__TASK_CORE__INIT;
        Img__ThreadCore thread = IMG__THREAD_CORE__INIT;
        Img__TaskKobjIds ids = IMG__TASK_KOBJ_IDS__INIT;

        core.mtype = IMG__CORE__MARCH__X86_64;
        core.thread_info = thread_info();
        core.tc = &tc;
        core.ids = &ids;
        core.thread_core = &thread;
        ids.vm_id = ids.files_id = ids.fs_id = ids.sighand_id = 1;
        tc.task_state = 1;
        tc.comm = (char *)"sleeper";
        thread.has_timerslack_ns = 1;
        thread.timerslack_ns = 50000;
        return image_store(set, IMAGE_CORE, 5, &core.base, err);
}

static int store_mm(struct image_set *set, struct ckpt_error *err) {
        Img__Vma vma = IMG__VMA__INIT, *vmas[] = { &vma };
        Img__Mm mm = IMG__MM__INIT;

        vma.start = 0x400000;
        vma.end = 0x402000;
        vma.prot = 3;
        vma.flags = 0x22;
        vma.status = 1 | 1 << 9;
        vma.fd = -1;
        mm.mm_start_code = 0x400000;
        mm.exe_file_id = 3;
        mm.n_vmas = 1;
        mm.vmas = vmas;
        return image_store(set, IMAGE_MM, 5, &mm.base, err);
}

static int store_pagemap(struct image_set *set, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        Img__Pagemap run = IMG__PAGEMAP__INIT;
        int r;

        head.pages_id = 1;
        run.vaddr = 0x400000;
        run.has_nr_pages = 1;
        run.nr_pages = 2;
        run.has_flags = 1;
        run.flags = 1 << 2;
        run.has_cow_parent = run.cow_parent = 1;
        r = image_open_write(set, IMAGE_PAGEMAP, 5, &file, err);
        if (r < 0)
                return r;
        r = image_write(file, &head.base, err);
        if (r >= 0)
                r = image_write(file, &run.base, err);
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

static int store_files(struct image_set *set, struct ckpt_error *err) {
        Img__Fown fown = IMG__FOWN__INIT;
        Img__RegFile reg = IMG__REG_FILE__INIT;
        Img__File file = IMG__FILE__INIT;
        Img__Fdinfo fdinfo = IMG__FDINFO__INIT;
        Img__Fs fs = IMG__FS__INIT;
        int r;

        reg.id = file.id = fdinfo.id = 3;
        reg.fown = &fown;
        reg.name = (char *)"/bin/sleep";
        file.type = fdinfo.type = IMG__FD_TYPES__REG;
        file.reg = &reg;
        fdinfo.fd = 7;
        fs.cwd_id = 4;
        fs.root_id = 4;
        r = image_store(set, IMAGE_FILES, 0, &file.base, err);
        if (r >= 0)
                r = image_store(set, IMAGE_FDINFO, 1, &fdinfo.base, err);
        return r < 0 ? r : image_store(set, IMAGE_FS, 5, &fs.base, err);
}

static int store_pipe_data(struct image_set *set, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        Img__PipeData data = IMG__PIPE_DATA__INIT;
        int r;

        data.pipe_id = 9;
        data.bytes = 5;
        data.has_size = 1;
        data.size = 65536;
        r = image_open_write(set, IMAGE_PIPES_DATA, 0, &file, err);
        for (int i = 0; r >= 0 && i < 2; i++) {
                r = image_write(file, &data.base, err);
                if (r >= 0)
                        r = image_write_raw(file, "hello", 5, err);
        }
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

static void test_crit(void **state __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__TaskKobjIds ids = IMG__TASK_KOBJ_IDS__INIT;
        Img__Pstree pstree = IMG__PSTREE__INIT;
        uint32_t threads[] = { 5, 6 };

        pstree.pid = pstree.pgid = pstree.sid = 5;
        pstree.n_threads = 2;
        pstree.threads = threads;
        ids.vm_id = 77;
        inventory.root_ids = &ids;
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_store(set, IMAGE_PSTREE, 0, &pstree.base, &err), &err);
        assert_ok(store_core(set, &err), &err);
        assert_ok(store_mm(set, &err), &err);
        assert_ok(store_pagemap(set, &err), &err);
        assert_ok(store_files(set, &err), &err);
        assert_ok(store_pipe_data(set, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);

        ASSERT_DECODES(&tmp, "inventory.img", "\"magic\":\"INVENTORY\"", "\"img_version\":2",
                       "\"fdinfo_per_id\":true", "\"ns_per_id\":true", "\"vm_id\":77");
        ASSERT_DECODES(&tmp, "pstree.img", "\"magic\":\"PSTREE\"", "\"pid\":5", "\"threads\":[5,6]");
        ASSERT_DECODES(&tmp, "core-5.img", "\"mtype\":\"X86_64\"", "\"ip\":\"0x401000\"",
                       "\"comm\":\"sleeper\"");
        ASSERT_DECODES(&tmp, "mm-5.img", "\"start\":\"0x400000\"", "\"exe_file_id\":3");
        ASSERT_DECODES(&tmp, "pagemap-5.img", "\"pages_id\":1", "\"vaddr\":\"0x400000\"");
        ASSERT_DECODES(&tmp, "files.img", "\"type\":\"REG\"", "\"name\":\"/bin/sleep\"");
        ASSERT_DECODES(&tmp, "fdinfo-1.img", "\"type\":\"REG\"", "\"fd\":7");
        ASSERT_DECODES(&tmp, "fs-5.img", "\"cwd_id\":4");
        ASSERT_DECODES(&tmp, "pipes-data.img", "\"pipe_id\":9", "\"bytes\":5", "aGVsbG8=");
}

/* Memory without a name: memfds, namespaces that are open, AIO contexts, huge pages. */
static void test_memory(void **state __attribute__((unused))) {
        Img__AioRing aio = IMG__AIO_RING__INIT, *aios[] = { &aio };
        Img__Vma vma = IMG__VMA__INIT, *vmas[] = { &vma };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();
        _cleanup_image_set_ struct image_set *set = NULL;
        Img__MemfdInode inode = IMG__MEMFD_INODE__INIT;
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__MemfdFile memfd = IMG__MEMFD_FILE__INIT;
        Img__NsFile ns = IMG__NS_FILE__INIT;
        Img__File file = IMG__FILE__INIT;
        struct image_file *image;
        Img__Fown fown = IMG__FOWN__INIT;
        Img__Mm mm = IMG__MM__INIT;

        aio.id = vma.start = 0x7f0000000000;
        aio.nr_req = 63;
        aio.ring_len = 8192;
        vma.end = vma.start + 8192;
        vma.status = 1 | 1 << 9 | 1 << 13;
        vma.fd = -1;
        mm.vmas = vmas;
        mm.aios = aios;
        mm.n_vmas = mm.n_aios = 1;
        inode.name = (char *)"shared";
        inode.size = 123456;
        inode.shmid = 3;
        inode.seals = 4;
        inode.inode_id = 9;
        inode.has_hugetlb_flag = true;
        inode.hugetlb_flag = 4 | 21U << 26;
        memfd.id = file.id = 11;
        memfd.inode_id = 9;
        memfd.pos = 77;
        memfd.fown = &fown;
        assert_ok(image_set_create(tmp.fd, NULL, &set, &err), &err);
        assert_ok(image_store(set, IMAGE_MM, 5, &mm.base, &err), &err);
        assert_ok(image_store(set, IMAGE_MEMFD_INODE, 0, &inode.base, &err), &err);
        assert_ok(image_open_write(set, IMAGE_FILES, 0, &image, &err), &err);
        file.type = IMG__FD_TYPES__MEMFD;
        file.memfd = &memfd;
        assert_ok(image_write(image, &file.base, &err), &err);
        ns.id = file.id = 12;
        ns.ns_id = 2;
        ns.ns_cflag = 0x40000000;
        file.type = IMG__FD_TYPES__NS;
        file.memfd = NULL;
        file.nsf = &ns;
        assert_ok(image_write(image, &file.base, &err), &err);
        assert_ok(image_close(image, &err), &err);
        assert_ok(image_set_commit(set, &inventory, &err), &err);

        ASSERT_DECODES(&tmp, "mm-5.img",
                       "\"aios\":[{\"id\":139637976727552,\"nr_req\":63,\"ring_len\":8192}]");
        ASSERT_DECODES(&tmp, "memfd.img", "\"name\":\"shared\"", "\"size\":123456", "\"shmid\":3",
                       "\"seals\":\"F_SEAL_GROW", "\"inode_id\":9");
        ASSERT_DECODES(&tmp, "files.img", "\"type\":\"MEMFD\"", "\"inode_id\":9", "\"pos\":77",
                       "\"type\":\"NS\"", "\"ns_cflag\":1073741824");
}

static void test_stats(void **state __attribute__((unused))) {
        struct dump_stats dump = { .freezing_time = 11,
                                   .frozen_time = 1ULL << 40,
                                   .pages_written = 1ULL << 33 };
        struct restore_stats restore = { .forking_time = 12, .restore_time = 13, .pages_restored = 14 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_dir_ struct test_dir tmp = test_dir_make();

        assert_ok(stats_write_dump(tmp.fd, &dump, &err), &err);
        assert_ok(stats_write_restore(tmp.fd, &restore, &err), &err);
        ASSERT_DECODES(&tmp, "stats-dump", "\"freezing_time\":11", "\"frozen_time\":4294967295",
                       "\"pages_written\":8589934592");
        ASSERT_DECODES(&tmp, "stats-restore", "\"forking_time\":12", "\"restore_time\":13",
                       "\"pages_restored\":14");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_crit),
                cmocka_unit_test(test_memory),
                cmocka_unit_test(test_stats),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
