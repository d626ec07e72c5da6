/* SPDX-License-Identifier: GPL-2.0-only */
/* task/: what needs no process. Extended registers to messages and back, on this machine's layout and on others'. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "macro.h"
#include "task/internal.h"
#include "task/still.h"
#include "task/waits.h"
#include "task/xstate.h"

enum { HEADER = 512, PKRU = 9, TILE_CONFIG = 17, TILE_DATA = 18 };

#define BIT(n) (1ULL << (n))

/* As Intel's server CPUs lay it out, MPX and AMX included, and as AMD's do. */
static const struct xstate_layout intel = {
        .xcr0 = 0x602ff,
        .component = { [2] = { 576, 256 },
                       [3] = { 960, 64 },
                       [4] = { 1024, 64 },
                       [5] = { 1088, 64 },
                       [6] = { 1152, 512 },
                       [7] = { 1664, 1024 },
                       [9] = { 2688, 8 },
                       [17] = { 2752, 64 },
                       [18] = { 2816, 8192 } },
};
static const struct xstate_layout amd = {
        .xcr0 = 0x2e7,
        .component = { [2] = { 576, 256 },
                       [5] = { 832, 64 },
                       [6] = { 896, 512 },
                       [7] = { 1408, 1024 },
                       [9] = { 2432, 8 } },
};
static const struct xstate_layout avx_only = { .xcr0 = 7, .component = { [2] = { 576, 256 } } };

static size_t size_of(const struct xstate_layout *l) {
        size_t size = XSTATE_SIZE_MIN;

        for (int i = 2; i < XSTATE_COMPONENTS; i++)
                size = MAX(size, (size_t)l->component[i].offset + l->component[i].size);
        return size;
}

/* A random area as the kernel would give it: components that are not in use are zero. */
static void random_area(const struct xstate_layout *l, uint64_t bv, uint8_t *area) {
        size_t size = size_of(l);
        uint32_t mxcsr = 0x1f80, mask = 0xffff;

        memset(area, 0, XSTATE_SIZE_MAX);
        for (int i = 0; i < 416; i++)
                area[i] = (uint8_t)random();
        memcpy(area + 24, &mxcsr, sizeof(mxcsr));
        memcpy(area + 28, &mask, sizeof(mask));
        memcpy(area + HEADER, &bv, sizeof(bv));
        for (int i = 2; i < XSTATE_COMPONENTS; i++)
                if (bv & BIT(i))
                        for (uint32_t j = 0; j < l->component[i].size; j++)
                                area[l->component[i].offset + j] = (uint8_t)(random() | 1);
        assert_true(size <= XSTATE_SIZE_MAX);
}

/* Through the wire, as the images have it. */
static Img__UserX86Fpregs *through_wire(const Img__UserX86Fpregs *fp) {
        size_t size = img__user_x86_fpregs__get_packed_size(fp);
        uint8_t *buf = malloc(size);
        Img__UserX86Fpregs *copy;

        img__user_x86_fpregs__pack(fp, buf);
        copy = img__user_x86_fpregs__unpack(NULL, size, buf);
        free(buf);
        assert_non_null(copy);
        return copy;
}

static Img__UserX86Fpregs *to_image(const struct xstate_layout *l, const uint8_t *area) {
        Img__UserX86Fpregs fp = IMG__USER_X86_FPREGS__INIT, *ret;
        struct arena arena = { 0 };

        assert_int_equal(xstate_to_image(l, area, size_of(l), &arena, &fp, NULL), 0);
        ret = through_wire(&fp);
        arena_done(&arena);
        return ret;
}

static void check_round_trip(const struct xstate_layout *l, uint64_t bv) {
        static uint8_t area[XSTATE_SIZE_MAX], back[XSTATE_SIZE_MAX];
        Img__UserX86Fpregs *fp;

        random_area(l, bv, area);
        fp = to_image(l, area);
        memset(back, 0xee, sizeof(back));
        assert_int_equal(xstate_from_image(l, fp, back, size_of(l), NULL), 0);
        /* An image without keys gets those of a new process. */
        if (l->xcr0 & BIT(PKRU) && !(bv & BIT(PKRU))) {
                const uint32_t pkru = 0x55555554;
                const uint64_t with = bv | BIT(PKRU);

                memcpy(area + l->component[PKRU].offset, &pkru, sizeof(pkru));
                memcpy(area + HEADER, &with, sizeof(with));
        }
        assert_memory_equal(area, back, size_of(l));
        img__user_x86_fpregs__free_unpacked(fp, NULL);
}

static void test_round_trips(void **state) {
        srandom(1);
        for (int i = 0; i < 2000; i++) {
                check_round_trip(&intel, (uint64_t)random() & intel.xcr0 & ~BIT(TILE_DATA));
                check_round_trip(&amd, (uint64_t)random() & amd.xcr0);
                check_round_trip(&avx_only, (uint64_t)random() & avx_only.xcr0);
        }
}

static void test_this_machine(void **state) {
        struct xstate_layout here;

        xstate_layout_read(&here);
        assert_true(here.xcr0 & 1 && size_of(&here) <= XSTATE_SIZE_MAX);
        for (int i = 2; i < XSTATE_COMPONENTS; i++)
                assert_true(!(here.xcr0 & BIT(i)) == (here.component[i].size == 0));
        check_round_trip(&here, here.xcr0 & ~BIT(TILE_DATA));
}

/* From one CPU to the other: components move. */
static void test_other_machine(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX], back[XSTATE_SIZE_MAX];
        Img__UserX86Fpregs *fp;

        random_area(&intel, amd.xcr0, area);
        fp = to_image(&intel, area);
        assert_int_equal(xstate_from_image(&amd, fp, back, size_of(&amd), NULL), 0);
        for (int i = 2; i < XSTATE_COMPONENTS; i++)
                if (amd.xcr0 & BIT(i))
                        assert_memory_equal(area + intel.component[i].offset, back + amd.component[i].offset,
                                            amd.component[i].size);
        img__user_x86_fpregs__free_unpacked(fp, NULL);
}

static void refused(const struct xstate_layout *l, const Img__UserX86Fpregs *fp, int code,
                    const char *word) {
        static uint8_t area[XSTATE_SIZE_MAX];
        struct ckpt_error err = CKPT_ERROR_INIT;

        assert_int_equal(xstate_from_image(l, fp, area, size_of(l), &err), code);
        if (!strstr(ckpt_error_message(&err), word))
                fail_msg("'%s' is not in '%s'", word, ckpt_error_message(&err));
        ckpt_error_clear(&err);
}

static void test_missing_components(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX], back[XSTATE_SIZE_MAX];
        const uint32_t pkru = 0x55555554;
        Img__UserX86Fpregs *fp;
        uint64_t bv;

        random_area(&intel, 0xe7, area);
        fp = to_image(&intel, area);
        refused(&avx_only, fp, -ENOTSUP, "AVX-512");
        img__user_x86_fpregs__free_unpacked(fp, NULL);

        random_area(&intel, 0x3 | BIT(3), area);
        fp = to_image(&intel, area);
        refused(&amd, fp, -ENOTSUP, "MPX");
        img__user_x86_fpregs__free_unpacked(fp, NULL);

        random_area(&intel, 0x3 | BIT(TILE_CONFIG), area);
        fp = to_image(&intel, area);
        refused(&amd, fp, -ENOTSUP, "component 17");
        img__user_x86_fpregs__free_unpacked(fp, NULL);

        /* Said to be in use, but with nothing in it. */
        random_area(&intel, 0x2e7, area);
        memset(area + intel.component[5].offset, 0, 64);
        memset(area + intel.component[6].offset, 0, 512);
        memset(area + intel.component[7].offset, 0, 1024);
        memcpy(area + intel.component[PKRU].offset, &pkru, sizeof(pkru));
        fp = to_image(&intel, area);
        assert_int_equal(xstate_from_image(&avx_only, fp, back, size_of(&avx_only), NULL), 0);
        memcpy(&bv, back + HEADER, sizeof(bv));
        assert_int_equal(bv, 7);
        img__user_x86_fpregs__free_unpacked(fp, NULL);
}

static void test_tile_data(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX];
        Img__UserX86Fpregs fp = IMG__USER_X86_FPREGS__INIT;
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct arena arena = { 0 };

        random_area(&intel, intel.xcr0, area);
        assert_int_equal(xstate_to_image(&intel, area, size_of(&intel), &arena, &fp, &err), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&err), "AMX"));
        ckpt_error_clear(&err);
        arena_done(&arena);
}

/* A component that the CPU does not describe, or an area that ends before it. */
static void test_odd_areas(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX];
        Img__UserX86Fpregs fp = IMG__USER_X86_FPREGS__INIT;
        struct arena arena = { 0 };
        uint64_t bv = BIT(40) | 3;

        random_area(&amd, amd.xcr0, area);
        assert_int_equal(xstate_to_image(&amd, area, 100, &arena, &fp, NULL), -EIO);
        assert_int_equal(xstate_to_image(&amd, area, size_of(&amd) - 1, &arena, &fp, NULL), -ENOTSUP);
        memcpy(area + HEADER, &bv, sizeof(bv));
        assert_int_equal(xstate_to_image(&amd, area, size_of(&amd), &arena, &fp, NULL), -ENOTSUP);
        arena_done(&arena);
}

static void test_hostile_images(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX], data[8192];
        Img__UserX86Fpregs *fp;
        Img__UserX86XstateComponent c = IMG__USER_X86_XSTATE_COMPONENT__INIT, *list[2] = { &c, &c };

        random_area(&intel, 0xe7, area);
        fp = to_image(&intel, area);
        fp->n_xmm_space--;
        refused(&intel, fp, -EBADMSG, "floating-point");
        fp->n_xmm_space++;
        fp->mxcsr = 0x10000;
        refused(&intel, fp, -EBADMSG, "floating-point");
        fp->mxcsr = 0x1f80;
        fp->cwd = 0x10000;
        refused(&intel, fp, -EBADMSG, "floating-point");
        fp->cwd = 0;
        fp->xsave->n_zmm_upper--;
        refused(&intel, fp, -EBADMSG, "AVX-512");
        fp->xsave->n_zmm_upper++;
        fp->xsave->xstate_bv |= BIT(62);
        refused(&intel, fp, -ENOTSUP, "does not hold");
        fp->xsave->xstate_bv = 0xe7 | BIT(TILE_CONFIG);
        refused(&intel, fp, -ENOTSUP, "does not hold");

        fp->n_components = 1;
        fp->components = list;
        c.data.data = data;
        c.data.len = 63;
        for (uint32_t number = 0; number < 100; number++) {
                c.number = number;
                refused(&intel, fp, number == TILE_CONFIG ? -ENOTSUP : -EBADMSG, "component");
        }
        c.number = TILE_CONFIG;
        c.data.len = 64;
        assert_int_equal(xstate_from_image(&intel, fp, area, size_of(&intel), NULL), 0);
        fp->n_components = 2;
        refused(&intel, fp, -EBADMSG, "component");
        fp->n_components = 0;
        fp->components = NULL;
        img__user_x86_fpregs__free_unpacked(fp, NULL);
}

/* Images from before XSAVE have the legacy region alone. */
static void test_without_xsave(void **state) {
        static uint8_t area[XSTATE_SIZE_MAX];
        Img__UserX86Fpregs fp = IMG__USER_X86_FPREGS__INIT;
        uint64_t bv;

        fp.cwd = 0x37f;
        fp.mxcsr = 0x1f80;
        assert_int_equal(xstate_from_image(&avx_only, &fp, area, size_of(&avx_only), NULL), 0);
        memcpy(&bv, area + HEADER, sizeof(bv));
        assert_int_equal(bv, 3);
        assert_int_equal(area[0] | area[1] << 8, 0x37f);
}

static void test_sleeps(void **state) {
        static const char text[] = "sleep (1, #threads: 1)\n---\n"
                                   "se.exec_start                                :       4972653.940517\n"
                                   "nr_switches                                  :                   12\n"
                                   "nr_voluntary_switches                        :                    9\n"
                                   "nr_involuntary_switches                      :                    3\n";
        static const char liar[] = "\nnr_voluntary_switches : 5\n(1, #threads: 1)\n"
                                   "nr_voluntary_switches                        :                    7\n";
        uint64_t n = 0;

        assert_int_equal(waits_parse_sleeps(text, sizeof(text) - 1, &n), 0);
        assert_int_equal(n, 9);
        assert_int_equal(waits_parse_sleeps(liar, sizeof(liar) - 1, &n), 0);
        assert_int_equal(n, 7);
        for (size_t i = 0; i < sizeof(text) - 1; i++)
                waits_parse_sleeps(text, i, &n);
        assert_int_equal(waits_parse_sleeps("a\nb\n", 4, &n), -ENOENT);
        assert_int_equal(waits_parse_sleeps("nr_voluntary_switches x\n", 24, &n), -EBADMSG);
        assert_int_equal(waits_parse_sleeps("nr_voluntary_switches : x\n", 26, &n), -EBADMSG);
}

static void test_cpu(void **state) {
        static const char text[] =
                "4321 (a) R 1 (b) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 "
                "29 30 31 32 33 34 35 36 37 38 77 40 41 42 43 44 45 46 47 48 49 50 51 52\n";
        unsigned int cpu = 0;

        assert_int_equal(waits_parse_cpu(text, sizeof(text) - 1, &cpu), 0);
        assert_int_equal(cpu, 77);
        for (size_t i = 0; i < sizeof(text) - 1; i++)
                waits_parse_cpu(text, i, &cpu);
        assert_int_equal(waits_parse_cpu("1 a S 1", 7, &cpu), -EBADMSG);
        assert_int_equal(waits_parse_cpu("", 0, &cpu), -EBADMSG);
}

/* Policies that no kernel has, and nodes that this machine has not. */
static void test_numa(void **state) {
        static const struct {
                uint32_t mode;
                uint64_t nodes;
                int result;
        } cases[] = {
                { 0, 0, 0 },
                { 2, 1, 0 },
                { 4, 0, 0 },
                { 1 | 1U << 14, ~0ULL, 0 },
                { 7, 1, -EBADMSG },
                { 1U << 31, 1, -EBADMSG },
                { 2 | 1U << 12, 1, -EBADMSG },
                { 2, 1ULL << 63, -ENOTSUP },
                { 1 | 1U << 15, 1ULL << 63, -ENOTSUP },
                { 0, 1, -ENOTSUP }, /* the default for some nodes */
                { 4, 1, -ENOTSUP },
                { 2, 0, -ENOTSUP },            /* bound to none */
                { 2 | 3U << 14, 1, -ENOTSUP }, /* two flags that exclude each other */
        };

        int mode = -1;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                Img__ThreadCore core = IMG__THREAD_CORE__INIT;
                Img__Core image = { .thread_core = &core };
                struct restore restore = { .naming = PTHREAD_MUTEX_INITIALIZER };
                struct restore_task task = { .restore = &restore, .pid = 100, .nr_threads = 1 };
                struct restore_thread t = { .task = &task, .tid = 100, .core = &image };

                core.has_mempolicy = core.has_mempolicy_nodes = true;
                core.mempolicy = cases[i].mode;
                core.mempolicy_nodes = cases[i].nodes;
                task.threads = &t;
                assert_int_equal(kind_numa.check(&t, &err), cases[i].result);
                arena_done(&task.arena);
        }
        /* What was tried has left nothing behind. */
        assert_int_equal(syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0), 0);
        assert_int_equal(mode, 0);
}

/* Between the look and the freeze: in the same call, and without having left it. */
static void test_stood_still(void **state) {
        struct task_call calls[2] = { { .tid = 11 }, { .tid = 10 } };
        struct dump_thread threads[2] = { { .tid = 10 }, { .tid = 11 } };
        struct dump_task t = { .threads = threads, .nr_threads = 2, .calls = calls, .nr_calls = 2 };

        (void)state;
        for (uint64_t i = 0; i < 2; i++) {
                struct user_regs_struct *regs = &threads[i].stop.regs;

                *regs = (struct user_regs_struct){
                        .orig_rax = 7, .rsp = 1, .rip = 2, .rdi = 10 + i, .r9 = 4
                };
                threads[i].status =
                        (struct proc_status){ .present = 1ULL << PROC_STATUS_SLEEPS, .sleeps = 50 + i };
                calls[1 - i].known = calls[1 - i].has_sleeps = true;
                calls[1 - i].sleeps = 49 + i;
                calls[1 - i].call = (struct proc_syscall){ .state = PROC_SYSCALL_INSIDE,
                                                           .nr = 7,
                                                           .args = { 10 + i, 0, 0, 0, 0, 4 },
                                                           .sp = 1,
                                                           .pc = 2 };
        }
        assert_true(task_stood_still(&t));

        /* Looked at in the freeze. */
        threads[1].status.sleeps = calls[0].sleeps;
        assert_true(task_stood_still(&t));

        /* It has been round its loop. */
        threads[1].status.sleeps = calls[0].sleeps + 2;
        assert_false(task_stood_still(&t));
        threads[1].status.sleeps = calls[0].sleeps + 1;
        calls[0].has_sleeps = false;
        assert_false(task_stood_still(&t));
        calls[0].has_sleeps = true;
        threads[1].status.present = 0;
        assert_false(task_stood_still(&t));
        threads[1].status.present = 1ULL << PROC_STATUS_SLEEPS;
        assert_true(task_stood_still(&t));

        threads[0].stop.regs.r9 = 5;
        assert_false(task_stood_still(&t));
        threads[0].stop.regs.r9 = 4;
        calls[1].tid = 12;
        assert_false(task_stood_still(&t));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trips),    cmocka_unit_test(test_this_machine),
                cmocka_unit_test(test_other_machine),  cmocka_unit_test(test_missing_components),
                cmocka_unit_test(test_tile_data),      cmocka_unit_test(test_odd_areas),
                cmocka_unit_test(test_hostile_images), cmocka_unit_test(test_without_xsave),
                cmocka_unit_test(test_numa),           cmocka_unit_test(test_stood_still),
                cmocka_unit_test(test_sleeps),         cmocka_unit_test(test_cpu),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
