/* SPDX-License-Identifier: GPL-2.0-only */
/* mm and pagemap images that lie. */
#include <fcntl.h>

#include "images/pagemap.pb-c.h"
#include "mem/restore.h"
#include "test_mem.h"

#include <sys/mman.h>

#define PID      77
#define P(n)     ((uint64_t)(n)*PAGE_SIZE)
#define BASE     P(0x10000)
#define AREA_MAX 8

/* A small sound process, to be spoilt by the tests. */
struct image {
        Img__Mm mm;
        Img__Vma vma[AREA_MAX], *vmas[AREA_MAX];
        Img__Pagemap run[AREA_MAX];
        size_t nr_runs;
        uint64_t pages;   /* in the pages file */
        uint32_t ring[8]; /* how the second run begins */
        Img__AioRing aio[2], *aios[2];
        struct ckpt_run command;
        struct restore r;
        struct restore_task task;
        struct ckpt_error err;
};

static void set_area(struct image *m, size_t i, uint64_t start, uint64_t end, uint32_t status) {
        Img__Vma *v = &m->vma[i];

        img__vma__init(v);
        v->start = start;
        v->end = end;
        v->prot = PROT_READ | PROT_WRITE;
        v->flags = MAP_PRIVATE | MAP_ANONYMOUS;
        v->status = VMA_REGULAR | status;
        v->fd = -1;
        m->vmas[i] = v;
}

static void set_run(struct image *m, size_t i, uint64_t start, uint64_t pages) {
        img__pagemap__init(&m->run[i]);
        m->run[i].vaddr = start;
        m->run[i].has_nr_pages = m->run[i].has_flags = true;
        m->run[i].nr_pages = pages;
        m->run[i].flags = MEM_RUN_PRESENT;
}

static void sound(struct image *m) {
        memset(m, 0, sizeof(*m));
        img__mm__init(&m->mm);
        set_area(m, 0, BASE, BASE + P(10), VMA_ANON_PRIVATE);
        set_area(m, 1, BASE + P(10), BASE + P(20), VMA_FILE_PRIVATE);
        m->vma[1].fd = 3;
        m->vma[1].flags = MAP_PRIVATE;
        set_area(m, 2, BASE + P(30), BASE + P(40), VMA_ANON_SHARED);
        m->vma[2].flags = MAP_SHARED | MAP_ANONYMOUS;
        set_area(m, 3, BASE + P(50), BASE + P(60), VMA_ANON_PRIVATE);
        m->mm.n_vmas = 4;
        m->mm.vmas = m->vmas;
        set_run(m, 0, BASE + P(1), 2);
        set_run(m, 1, BASE + P(8), 4);
        set_run(m, 2, BASE + P(55), 5);
        m->nr_runs = 3;
        m->pages = 11;
}

static void write_pagemap(struct image_set *set, const struct image *m, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL, *pages = NULL;
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;

        head.pages_id = 1;
        assert_ok(image_open_write(set, IMAGE_PAGEMAP, PID, &file, err), err);
        assert_ok(image_write(file, &head.base, err), err);
        for (size_t i = 0; i < m->nr_runs; i++)
                assert_ok(image_write(file, &m->run[i].base, err), err);
        assert_ok(image_close(TAKE_PTR(file), err), err);
        assert_ok(image_open_pages(set, 1, &pages, err), err);
        assert_int_equal(ftruncate(image_file_fd(pages), (off_t)P(m->pages)), 0);
        if (m->ring[1])
                assert_int_equal(pwrite(image_file_fd(pages), m->ring, sizeof(m->ring), (off_t)P(6)),
                                 sizeof(m->ring));
        assert_ok(image_close(TAKE_PTR(pages), err), err);
}

/* Store, load; what became of it. The caller ends it with done(). */
static int load(struct image *m) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        int r;

        assert_ok(image_set_create(dir.fd, NULL, &set, &m->err), &m->err);
        assert_ok(image_store(set, IMAGE_MM, PID, &m->mm.base, &m->err), &m->err);
        write_pagemap(set, m, &m->err);
        inventory.dump_criu_run_id = (char *)"run";
        assert_ok(image_set_commit(set, &inventory, &m->err), &m->err);
        m->task = (struct restore_task){ .restore = &m->r, .pid = PID };
        m->r.run = &m->command;
        kernel_features_init(&m->r.kernel);
        assert_ok(image_dir_open(dir.fd, 1, &m->r.dir, &m->err), &m->err);
        r = mem_load(&m->task, &m->err);
        assert_true((r < 0) == ckpt_error_is_set(&m->err));
        image_dir_free(m->r.dir);
        return r;
}

static void done(struct image *m) {
        mem_restore_free(&m->task.mem);
        if (m->task.mm)
                img__mm__free_unpacked(m->task.mm, NULL);
        arena_done(&m->task.arena);
        kernel_features_done(&m->r.kernel);
        ckpt_error_clear(&m->err);
}

static void expect(struct image *m, int code) {
        int r = load(m);

        if (r != code)
                fail_msg("%d instead of %d: %s", r, code, ckpt_error_message(&m->err));
        done(m);
}

static void test_sound(void **state) {
        static struct image m;
        const struct restore_mem *mem;

        sound(&m);
        assert_ok(load(&m), &m.err);
        mem = m.task.mem;
        assert_int_equal(mem->areas.n, 4);
        assert_true(mem->areas.v[0].content && mem->areas.v[1].content && !mem->areas.v[2].content);
        assert_int_equal(mem->runs.n, 3);
        assert_int_equal(mem->runs.v[2].offset, P(6));
        assert_int_equal(mem->pages_size, P(11));
        done(&m);
        /* An older writer's runs. */
        sound(&m);
        for (size_t i = 0; i < 3; i++) {
                m.run[i].compat_nr_pages = (uint32_t)m.run[i].nr_pages;
                m.run[i].has_nr_pages = m.run[i].has_flags = false;
        }
        expect(&m, 0);
        /* One that says nothing, and vsyscall. */
        sound(&m);
        m.run[1].flags = 0;
        m.pages = 7;
        set_area(&m, 4, 0xffffffffff600000, 0xffffffffff601000, VMA_VSYSCALL);
        m.mm.n_vmas = 5;
        expect(&m, 0);
}

/* Each changes one thing about the sound image. */
static void test_areas(void **state) {
        static const struct {
                size_t area;
                size_t field;
                uint64_t value;
                size_t width;
                int code;
        } rows[] = {
#define ROW(i, f, value, code) { i, offsetof(Img__Vma, f), value, sizeof(((Img__Vma *)NULL)->f), code }
                ROW(0, start, BASE + 1, -EBADMSG),
                ROW(0, end, BASE, -EBADMSG),
                ROW(0, end, BASE - P(1), -EBADMSG),
                ROW(0, end, BASE + P(11), -EBADMSG), /* into the next */
                ROW(3, end, 0x100000000000000, -EBADMSG),
                ROW(3, end, UINT64_MAX - 4095, -EBADMSG),
                ROW(3, start, BASE, -EBADMSG),
                ROW(0, prot, 8, -EBADMSG),
                ROW(0, prot, UINT32_MAX, -EBADMSG),
                ROW(0, flags, MAP_SHARED | MAP_ANONYMOUS, -EBADMSG),
                ROW(0, flags, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -EBADMSG),
                ROW(0, flags, MAP_ANONYMOUS, -EBADMSG),
                ROW(0, flags, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -EBADMSG), /* how large? */
                ROW(0, flags, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21U << 26,
                    -EBADMSG), /* not aligned */
                ROW(0, flags, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 13U << 26,
                    -ENOTSUP),                                                    /* no such pages */
                ROW(0, flags, MAP_PRIVATE | MAP_ANONYMOUS | 21U << 26, -EBADMSG), /* and no MAP_HUGETLB */
                ROW(1, flags, MAP_PRIVATE | MAP_HUGETLB | 13U << 26, -EBADMSG),   /* of a file */
                ROW(0, flags, MAP_PRIVATE | 0x40000000, -EBADMSG),
                ROW(1, flags, MAP_PRIVATE | MAP_GROWSDOWN, -EBADMSG),
                ROW(0, status, VMA_REGULAR, -EBADMSG),
                ROW(0, status, VMA_REGULAR | VMA_ANON_PRIVATE | VMA_FILE_PRIVATE, -EBADMSG),
                ROW(0, status, VMA_ANON_PRIVATE | VMA_AIO_RING, -EBADMSG), /* without a context */
                ROW(0, status, VMA_ANON_PRIVATE | VMA_SYSV_SHM, -EBADMSG), /* private flags */
                ROW(0, status, VMA_SOCKET, -EBADMSG),                      /* likewise */
                ROW(1, fd, (uint64_t)-1, -EBADMSG),
                ROW(1, fd, 1ULL << 40, -EBADMSG),
                ROW(1, pgoff, 1, -EBADMSG),
                ROW(1, pgoff, UINT64_MAX - 4095, -EBADMSG),
                ROW(1, pgoff, INT64_MAX - 4095, -EBADMSG),
                ROW(2, pgoff, 1ULL << 50, -EBADMSG),
                ROW(3, status, VMA_REGULAR | VMA_ANON_SHARED, -EBADMSG), /* private flags, and pages */
                ROW(0, status, VMA_GUARD, -EBADMSG),                     /* pages outside of all areas */
#undef ROW
        };
        static struct image m;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                sound(&m);
                memcpy((char *)&m.vma[rows[i].area] + rows[i].field, &rows[i].value, rows[i].width);
                expect(&m, rows[i].code);
        }
}

static void test_more_areas(void **state) {
        static struct image m;

        sound(&m);
        m.vma[0].has_madv = true;
        m.vma[0].madv = 1ULL << MADV_DONTNEED;
        expect(&m, -EBADMSG);
        sound(&m);
        m.vma[2].has_shmem_size = true;
        m.vma[2].shmem_size = 4097;
        expect(&m, -EBADMSG);
        m.vma[2].shmem_size = 1ULL << 60;
        expect(&m, -EBADMSG);
        sound(&m);
        set_area(&m, 4, P(0x7f0000000), P(0x7f0000000) + (1 << 20), VMA_VDSO | VMA_ANON_PRIVATE);
        m.mm.n_vmas = 5;
        expect(&m, -EBADMSG);
        sound(&m);
        set_area(&m, 4, BASE + P(45), BASE + P(46), VMA_GUARD);
        m.mm.n_vmas = 5;
        expect(&m, -EBADMSG);
        sound(&m);
        m.mm.has_lock_future = true;
        m.mm.lock_future = MCL_CURRENT;
        expect(&m, -EBADMSG);
        sound(&m);
        m.vma[1].has_mempolicy = m.vma[1].has_mempolicy_nodes = true;
        m.vma[1].mempolicy = 77;
        expect(&m, -EBADMSG);
        m.vma[1].mempolicy = 2;
        m.vma[1].mempolicy_nodes = 1ULL << 63;
        expect(&m, -ENOTSUP);
        sound(&m);
        m.mm.n_mm_saved_auxv = 3;
        m.mm.mm_saved_auxv = (uint64_t[]){ 1, 2, 3 };
        expect(&m, -EBADMSG);
}

static void test_runs(void **state) {
        static struct image m;

        sound(&m);
        m.pages = 12;
        expect(&m, -EBADMSG);
        m.pages = 10;
        expect(&m, -EBADMSG);
        m.pages = 0;
        expect(&m, -EBADMSG);
        sound(&m);
        m.run[0].vaddr++;
        expect(&m, -EBADMSG);
        sound(&m);
        m.run[0].nr_pages = 0;
        expect(&m, -EBADMSG);
        m.run[0].nr_pages = UINT64_MAX / 4096 + 2; /* wraps to one page */
        expect(&m, -EBADMSG);
        m.run[0].nr_pages = 1ULL << 51;
        expect(&m, -EBADMSG);
        sound(&m);
        m.run[0].nr_pages = 8; /* over the next */
        expect(&m, -EBADMSG);
        sound(&m);
        set_run(&m, 1, BASE, 1); /* out of order */
        m.pages = 8;
        expect(&m, -EBADMSG);
        sound(&m);
        set_run(&m, 1, BASE + P(18), 4); /* beyond the area */
        expect(&m, -EBADMSG);
        set_run(&m, 1, BASE + P(30), 4); /* in shared memory */
        expect(&m, -EBADMSG);
        set_run(&m, 1, BASE + P(41), 4); /* in none */
        expect(&m, -EBADMSG);
        sound(&m);
        set_run(&m, 2, BASE + P(56), 5); /* half in none */
        expect(&m, -EBADMSG);
        sound(&m);
        m.run[1].flags = MEM_RUN_PARENT;
        m.pages = 7;
        expect(&m, -ENOTSUP);
        m.run[1].has_flags = false;
        m.run[1].has_in_parent = m.run[1].in_parent = true;
        expect(&m, -ENOTSUP);
}

/* The area at 55 pages becomes a ring of five. */
static void sound_aio(struct image *m) {
        static const uint32_t ring[8] = { 0, 5 * 128 - 1, 7, 9, 0xa10a10a1, 1, 0, 32 };

        sound(m);
        set_area(m, 3, BASE + P(55), BASE + P(60), VMA_AIO_RING | VMA_ANON_PRIVATE);
        m->vma[3].flags = MAP_SHARED | MAP_ANONYMOUS;
        memcpy(m->ring, ring, sizeof(ring));
        for (size_t i = 0; i < 2; i++) {
                img__aio_ring__init(&m->aio[i]);
                m->aio[i].id = BASE + P(55);
                m->aio[i].ring_len = P(5);
                m->aio[i].nr_req = 256;
                m->aios[i] = &m->aio[i];
        }
        m->mm.aios = m->aios;
        m->mm.n_aios = 1;
}

static void test_aio(void **state) {
        static struct image m;

        sound_aio(&m);
        expect(&m, 0);
        for (size_t i = 1; i < 8; i++) {
                sound_aio(&m);
                m.ring[i] += i == 5 ? 0 : 0x10000; /* all but compatible features */
                expect(&m, i == 5 ? 0 : -EBADMSG);
        }
        sound_aio(&m);
        m.mm.n_aios = 0; /* a ring without a context */
        expect(&m, -EBADMSG);
        sound_aio(&m);
        m.mm.n_aios = 2; /* two of one ring */
        expect(&m, -EBADMSG);
        sound_aio(&m);
        m.aio[0].id = BASE;
        expect(&m, -EBADMSG);
        sound_aio(&m);
        m.aio[0].ring_len = P(6);
        expect(&m, -EBADMSG);
        sound_aio(&m);
        m.aio[0].nr_req = 1000000;
        expect(&m, -EBADMSG);
        sound_aio(&m);
        m.vma[3].prot = PROT_READ;
        expect(&m, -EBADMSG);
        sound_aio(&m);
        set_run(&m, 2, BASE + P(55), 4); /* not all of it */
        m.pages = 10;
        expect(&m, -EBADMSG);
}

/* Any bits whatever: an answer, no crash. */
static void test_random(void **state) {
        static struct image m;

        srandom(7);
        for (unsigned i = 0; i < 400; i++) {
                if (i % 2)
                        sound(&m);
                else
                        sound_aio(&m);
                for (unsigned j = 0; j < 3; j++) {
                        Img__Vma *v = &m.vma[random() % 4];
                        Img__Pagemap *run = &m.run[random() % 3];
                        uint64_t *const field[] = { &v->start, &v->end,     &v->pgoff,
                                                    &v->shmid, &run->vaddr, &run->nr_pages };
                        uint64_t bit = 1ULL << (random() % 64);

                        *field[random() % ELEMENTSOF(field)] ^= bit;
                        if (random() % 3 == 0)
                                v->status ^= (uint32_t)(bit | bit >> 32);
                }
                (void)load(&m);
                done(&m);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sound),      cmocka_unit_test(test_areas),
                cmocka_unit_test(test_more_areas), cmocka_unit_test(test_runs),
                cmocka_unit_test(test_aio),        cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
