/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The main stack, deeply used, and a MAP_GROWSDOWN mapping: contents, and both can still grow. */
#include "e2e.h"

#define DEEP (3 << 20)
#define ROOM (64 << 20)

static char *grows; /* the lowest page of the MAP_GROWSDOWN mapping */

static uint64_t __attribute__((noinline)) recurse(int depth) {
        volatile uint64_t frame[512];

        for (size_t i = 0; i < ELEMENTS(frame); i++)
                frame[i] = (uint64_t)depth + i;
        if (depth == 0)
                return frame[100];
        return recurse(depth - 1) + frame[0] - frame[0];
}

static void make_growing(void) {
        char *p = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED && munmap(p, ROOM) == 0, "reserve room: %m");
        grows = mmap(p + ROOM - 16 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(grows != MAP_FAILED, "mmap: %m");
        fill(grows, 16 * PAGE, 5);
        for (int i = 0; i < 8; i++) {
                grows -= PAGE;
                fill(grows, PAGE, 100 + (uint64_t)i);
        }
}

static void __attribute__((noinline)) with_deep_stack(void) {
        uint64_t deep[DEEP / 8];
        struct vma v;

        fill(deep, sizeof(deep), 3);
        test_ready();
        test_wait();
        /* break: deep[70000]++; */
        /* break: mprotect(grows, PAGE, PROT_READ); */
        /* break: grows[PAGE * 9]++; */
        check_filled(deep, sizeof(deep), 3, "stack");
        CHECK(find_vma(deep, &v) && strcmp(v.path, "[stack]") == 0 && vma_has_flag(&v, "gd"),
              "stack is '%s' with flags %s", v.path, v.flags);
        CHECK(find_vma(grows, &v) && vma_has_flag(&v, "gd"), "the growing mapping has flags %s", v.flags);
        CHECK(v.start == (uint64_t)(uintptr_t)grows && strcmp(v.perms, "rw-p") == 0, "it begins at %" PRIx64,
              v.start);
        for (int i = 7; i >= 0; i--)
                check_filled(grows + PAGE * (size_t)(7 - i), PAGE, 100 + (uint64_t)i, "grown page");
        check_filled(grows + PAGE * 8, 16 * PAGE, 5, "MAP_GROWSDOWN");
        for (int i = 0; i < 64; i++) {
                grows -= PAGE;
                grows[0] = 1;
        }
        CHECK(find_vma(grows, &v) && v.start == (uint64_t)(uintptr_t)grows, "it did not grow");
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        make_growing();
        with_deep_stack();
        CHECK(recurse(1500) == 100, "recursion"); /* six megabytes of stack */
        test_pass();
}
