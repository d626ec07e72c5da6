/* SPDX-License-Identifier: GPL-2.0-only */
/* A checkpoint of four processes with a bit of everything. */
#pragma once

#include "test_inspect.h"

#include "images/pipe.pb-c.h"

static inline void put_reg(struct test_image *files, uint32_t id, const char *path, uint32_t flags,
                           uint64_t pos) {
        Img__Fown fown = IMG__FOWN__INIT;
        Img__RegFile reg = IMG__REG_FILE__INIT;
        Img__File file = IMG__FILE__INIT;

        reg.id = file.id = id;
        reg.name = (char *)path;
        reg.flags = flags;
        reg.pos = pos;
        reg.fown = &fown;
        file.type = IMG__FD_TYPES__REG;
        file.reg = &reg;
        test_put(files, &file.base);
}

static inline void put_pipe(struct test_image *files, uint32_t id, uint32_t flags) {
        Img__Fown fown = IMG__FOWN__INIT;
        Img__Pipe pipe = IMG__PIPE__INIT;
        Img__File file = IMG__FILE__INIT;

        pipe.id = file.id = id;
        pipe.pipe_id = 4711;
        pipe.flags = flags;
        pipe.fown = &fown;
        file.type = IMG__FD_TYPES__PIPE;
        file.pipe = &pipe;
        test_put(files, &file.base);
}

static inline void put_files(int dirfd) {
        struct test_image *files = test_image_new(IMAGE_FILES), *data = test_image_new(IMAGE_PIPES_DATA);
        Img__PipeData pipe_data = IMG__PIPE_DATA__INIT;

        put_reg(files, 1, "/usr/bin/program", O_RDONLY, 0);
        put_reg(files, 2, "/home/user", O_RDONLY, 0);
        put_reg(files, 3, "/", O_RDONLY, 0);
        put_reg(files, 4, "/var/log/messages", O_WRONLY | O_APPEND, 12345);
        put_reg(files, 5, "evil\x1b[2J\n\xff\"\\\xc3\xa4", O_RDWR, 0);
        put_pipe(files, 6, O_RDONLY);
        put_pipe(files, 7, O_WRONLY | O_NONBLOCK);
        test_image_save(files, dirfd, IMAGE_FILES, 0);
        pipe_data.pipe_id = 4711;
        pipe_data.bytes = 2000;
        test_put(data, &pipe_data.base);
        memset(data->bytes + data->n, 'x', 2000);
        data->n += 2000;
        test_image_save(data, dirfd, IMAGE_PIPES_DATA, 0);
}

static inline void put_fd(struct test_image *image, uint32_t fd, uint32_t type, uint32_t id,
                          uint32_t flags) {
        Img__Fdinfo info = IMG__FDINFO__INIT;

        info.fd = fd;
        info.type = (Img__FdTypes)type;
        info.id = id;
        info.flags = flags;
        test_put(image, &info.base);
}

static inline void put_tables(int dirfd) {
        struct test_image *one = test_image_new(IMAGE_FDINFO), *two = test_image_new(IMAGE_FDINFO);

        put_fd(one, 2, IMG__FD_TYPES__REG, 4, 0); /* not in the order of the numbers */
        put_fd(one, 1, IMG__FD_TYPES__REG, 4, 0);
        put_fd(one, 0, IMG__FD_TYPES__PIPE, 6, FD_CLOEXEC);
        put_fd(one, 9, IMG__FD_TYPES__REG, 5, 0);
        test_image_save(one, dirfd, IMAGE_FDINFO, 1);
        for (uint32_t fd = 10; fd < 110; fd++)
                put_fd(two, fd, IMG__FD_TYPES__REG, 4, 0);
        put_fd(two, 7, IMG__FD_TYPES__PIPE, 7, 0);
        put_fd(two, 8, IMG__FD_TYPES__INETSK, 99, 0); /* nothing in files.img */
        test_image_save(two, dirfd, IMAGE_FDINFO, 2);
}

#define VMA(first, last, bits, shm)                                                                       \
        {                                                                                                 \
                PROTOBUF_C_MESSAGE_INIT(&img__vma__descriptor), .start = (first), .end = (last),          \
                                                                .shmid = (shm), .prot = 3, .flags = 0x22, \
                                                                .status = (bits), .fd = -1                \
        }

static inline void put_memory(int dirfd, uint32_t pid) {
        Img__Vma vmas[] = {
                VMA(0x400000, 0x410000, 1 | 1 << 6, 1),          /* program */
                VMA(0x500000, 0x600000, 1 | 1 << 5 | 1 << 9, 0), /* heap */
                VMA(0x700000, 0x800000, 1 | 1 << 9, 0),
                VMA(0x800000, 0x900000, 1 | 1 << 9, 0),
                VMA(0xa00000, 0xa40000, 1 | 1 << 8, 77), /* shared */
                VMA(0x7ffc0000, 0x7ffe0000, 1 | 1 << 1 | 1 << 9, 0),
                VMA(0x7fff0000, 0x7fff2000, 1 | 1 << 3 | 1 << 9, 0),
                VMA(0x700000, 0x701000, 1 << 16, 0), /* guard */
        };
        Img__Vma *list[ELEMENTSOF(vmas)];
        /* start, pages, flags: in the gap, in one area, over two, in the parent, in the shared one */
        static const struct {
                uint64_t start, pages;
                uint32_t flags;
        } runs[] = { { 0x500000, 3, 4 }, { 0x7ff000, 2, 4 }, { 0x880000, 1, 1 }, { 0x7ffdf000, 1, 4 } };
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        Img__Fs fs = IMG__FS__INIT;
        Img__Mm mm = IMG__MM__INIT;
        struct test_image *pagemap = test_image_new(IMAGE_PAGEMAP);

        for (size_t i = 0; i < ELEMENTSOF(vmas); i++)
                list[i] = &vmas[i];
        mm.exe_file_id = 1;
        mm.n_vmas = ELEMENTSOF(list);
        mm.vmas = list;
        test_put_one(dirfd, IMAGE_MM, pid, &mm.base);
        head.pages_id = pid;
        test_put(pagemap, &head.base);
        for (size_t i = 0; i < ELEMENTSOF(runs); i++) {
                Img__Pagemap run = IMG__PAGEMAP__INIT;

                run.vaddr = runs[i].start;
                run.has_nr_pages = run.has_flags = 1;
                run.nr_pages = runs[i].pages;
                run.flags = runs[i].flags;
                test_put(pagemap, &run.base);
        }
        test_image_save(pagemap, dirfd, IMAGE_PAGEMAP, pid);
        fs.cwd_id = 2;
        fs.root_id = 3;
        fs.has_umask = 1;
        fs.umask = 022;
        test_put_one(dirfd, IMAGE_FS, pid, &fs.base);
}

static inline void put_shmem(int dirfd) {
        struct test_image *image = test_image_new(IMAGE_SHMEM_PAGEMAP);
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        Img__Pagemap run = IMG__PAGEMAP__INIT;

        head.pages_id = 9;
        test_put(image, &head.base);
        run.compat_nr_pages = 5; /* as older writers have it, without flags */
        test_put(image, &run.base);
        test_image_save(image, dirfd, IMAGE_SHMEM_PAGEMAP, 77);
}

/* 100 with two threads, its children 101 (stopped) and 103 (a zombie); 104 below 101 shares its descriptors. */
static inline void make_tree(const struct test_dir *dir) {
        struct test_image *pstree = test_image_new(IMAGE_PSTREE);
        uint32_t threads[] = { 100, 102 }, one[] = { 101 }, two[] = { 104 };

        test_put_inventory(dir->fd);
        test_add_process(pstree, 100, 0, threads, 2);
        test_add_process(pstree, 101, 100, one, 1);
        test_add_process(pstree, 103, 100, NULL, 0);
        test_add_process(pstree, 104, 101, two, 1);
        test_image_save(pstree, dir->fd, IMAGE_PSTREE, 0);
        test_put_core(dir->fd, 100, "program", 1, 1);
        test_put_core(dir->fd, 102, NULL, 1, 0);
        test_put_core(dir->fd, 101, "ba\x1b]d\xff", 3, 2);
        test_put_core(dir->fd, 103, "gone", 2, 0);
        test_put_core(dir->fd, 104, "sharer", 1, 2);
        put_files(dir->fd);
        put_tables(dir->fd);
        put_memory(dir->fd, 100);
        put_memory(dir->fd, 101);
        put_memory(dir->fd, 104);
        put_shmem(dir->fd);
}
