/* SPDX-License-Identifier: GPL-2.0-only */
/* The vDSO as an ELF image: this kernel's own, altered ones, and garbage; redirected code is executed. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "macro.h"
#include "mem/vdso.h"

#define _cleanup_elf_    _cleanup_(vdso_elf_done)
#define _cleanup_layout_ _cleanup_(vdso_layout_done)

static void own(struct vdso_layout *ret) {
        assert_int_equal(vdso_own_layout(ret), 0);
        if (!ret->end)
                skip();
}

static void test_own(void **state) {
        _cleanup_layout_ struct vdso_layout l = { 0 };
        const struct vdso_symbol *f;
        uint64_t insn;

        own(&l);
        assert_true(l.vvar < l.vdso && l.vdso < l.end);
        f = vdso_find(&l.elf, "__vdso_clock_gettime");
        assert_non_null(f);
        assert_true(f->size > 0 && f->value + f->size <= l.elf.size);
        assert_true(l.elf.size <= l.end - l.vdso);
        assert_null(vdso_find(&l.elf, "no such function"));
        insn = vdso_find_syscall(l.code, l.end - l.vdso);
        assert_true(insn > 0);
        assert_int_equal(l.code[insn], 0x0f);
        assert_int_equal(l.code[insn + 1], 0x05);
        assert_int_equal(
                vdso_find_syscall(
                        (const uint8_t *)"no such instruction here, nor there; that is all of it, for sure",
                        64),
                0);
}

static uint8_t *copy_of(const struct vdso_layout *l, int prot) {
        size_t size = l->end - l->vdso;
        uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        memcpy(p, l->code, size);
        assert_int_equal(mprotect(p, size, prot | PROT_WRITE), 0);
        return p;
}

static int64_t call_gettime(const uint8_t *code, const struct vdso_elf *elf) {
        const uint8_t *p = code + vdso_find(elf, "__vdso_clock_gettime")->value;
        int (*gettime)(clockid_t, struct timespec *);
        struct timespec ts;

        memcpy(&gettime, &p, sizeof(p));
        assert_int_equal(gettime(CLOCK_MONOTONIC, &ts), 0);
        return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void test_redirect(void **state) {
        _cleanup_layout_ struct vdso_layout l = { 0 };
        const char *name = NULL;
        uint8_t *to_code, *to_calls;
        int64_t before, a, b;

        own(&l);
        to_code = copy_of(&l, PROT_READ | PROT_EXEC);
        to_calls = copy_of(&l, PROT_READ | PROT_EXEC);
        assert_int_equal(vdso_redirect(to_code, &l.elf, &l.elf, l.vdso, &name), 0);
        assert_int_equal(vdso_redirect(to_calls, &l.elf, NULL, 0, &name), 0);
        /* Without redirection the copies would look for their data where none is mapped. */
        before = call_gettime(l.code, &l.elf);
        a = call_gettime(to_code, &l.elf);
        b = call_gettime(to_calls, &l.elf);
        assert_true(before <= a && a <= b && b - before < 10000000000LL);
        munmap(to_code, l.end - l.vdso);
        munmap(to_calls, l.end - l.vdso);
}

static void test_too_short(void **state) {
        _cleanup_layout_ struct vdso_layout l = { 0 };
        const char *name = NULL;
        uint8_t *code;

        own(&l);
        code = copy_of(&l, PROT_READ);
        for (size_t i = 0; i < l.elf.functions.n; i++)
                if (strcmp(l.elf.functions.v[i].name, "__vdso_getcpu") == 0)
                        l.elf.functions.v[i].size = 9;
        assert_int_equal(vdso_redirect(code, &l.elf, &l.elf, l.vdso, &name), -ENOTSUP);
        assert_non_null(strstr(name, "getcpu"));
        munmap(code, l.end - l.vdso);
}

/* Right at the end of readable memory, so that every byte read beyond faults. */
static uint8_t *at_the_end(const uint8_t *data, size_t size, uint8_t **ret_map, size_t *ret_len) {
        size_t len = page_align_up(size) + PAGE_SIZE;
        uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + len - PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
        *ret_map = p;
        *ret_len = len;
        return memcpy(p + len - PAGE_SIZE - size, data, size);
}

static void try(uint8_t *data, size_t size) {
        _cleanup_elf_ struct vdso_elf elf = { 0 };
        _cleanup_free_ uint8_t *copy = malloc(size + 1);
        const char *name;

        assert_non_null(copy);
        memcpy(copy, data, size);
        if (vdso_parse(data, size, &elf) < 0)
                return;
        assert_true(elf.size <= size);
        for (size_t i = 0; i < elf.functions.n; i++)
                assert_true(elf.functions.v[i].value <= size &&
                            elf.functions.v[i].size <= size - elf.functions.v[i].value);
        (void)vdso_redirect(copy, &elf, NULL, 0, &name);
}

static void test_garbage(void **state) {
        _cleanup_layout_ struct vdso_layout l = { 0 };
        size_t size, len;
        uint8_t *p, *map;

        own(&l);
        size = l.end - l.vdso;
        p = at_the_end(l.code, size, &map, &len);
        srandom(1);
        for (unsigned i = 0; i < 200000; i++) {
                unsigned n = 1 + (unsigned)random() % 3;
                size_t at[3];

                for (unsigned j = 0; j < n; j++) {
                        /* Headers and tables more often than code. */
                        at[j] = (size_t)random() % (random() % 2 ? 1024 : size);
                        if (random() % 8 == 0)
                                at[j] = l.elf.size - 1 - (size_t)random() % 1024;
                        p[at[j]] = random() % 4 ? (uint8_t)random() : (uint8_t)(random() % 2 ? 0xff : 0);
                }
                try(p, size);
                for (unsigned j = 0; j < n; j++)
                        p[at[j]] = l.code[at[j]];
        }
        munmap(map, len);
}

static void test_truncated(void **state) {
        _cleanup_layout_ struct vdso_layout l = { 0 };

        own(&l);
        for (size_t size = 0; size < l.end - l.vdso; size += size < 256 ? 1 : 61) {
                uint8_t *map, *p;
                size_t len;

                p = at_the_end(l.code, size, &map, &len);
                try(p, size);
                munmap(map, len);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_own),       cmocka_unit_test(test_redirect),
                cmocka_unit_test(test_too_short), cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_truncated),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
