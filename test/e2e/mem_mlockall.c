/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* mlockall: what is mapped is locked, and with MCL_FUTURE also what is mapped after the restore. */
#include "e2e.h"

/* Four pages, and a hole on either side, so that they are an area of their own. */
static char *map(void) {
        char *p = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        CHECK(munmap(p, PAGE) == 0 && munmap(p + 5 * PAGE, PAGE) == 0, "munmap: %m");
        return p + PAGE;
}

static void run(int flags, const struct gate *ready, const struct gate *go) {
        struct vma v;
        char *p;

        CHECK(mlockall(flags) == 0, "mlockall: %m");
        gate_open(ready, 1);
        gate_pass(go, 1);
        /* break: if (flags & MCL_FUTURE) munlockall(); */
        /* break: if (!(flags & MCL_FUTURE)) mlockall(MCL_FUTURE); */
        CHECK(find_vma(&v, &v) && vma_has_flag(&v, "lo") == !!(flags & MCL_CURRENT), "the stack: %s",
              v.flags);
        p = map();
        CHECK(find_vma(p, &v) && vma_has_flag(&v, "lo") == !!(flags & MCL_FUTURE), "a new mapping: %s",
              v.flags);
        CHECK(vma_is_onfault(&v) == !!(flags & MCL_ONFAULT), "a new mapping: %s", v.flags);
        CHECK(v.locked_kb == (flags == (MCL_CURRENT | MCL_FUTURE) ? 16 : 0),
              "a new mapping: %" PRIu64 " KiB locked", v.locked_kb);
        CHECK(munlockall() == 0, "munlockall: %m");
        p = map();
        CHECK(find_vma(p, &v) && !vma_has_flag(&v, "lo"), "after munlockall: %s", v.flags);
        _exit(3);
}

int main(int argc, char **argv) {
        static const int flags[] = { MCL_CURRENT, MCL_CURRENT | MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT };
        pid_t kids[ELEMENTS(flags)];
        struct gate ready, go;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        for (size_t i = 0; i < ELEMENTS(flags); i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(flags[i], &ready, &go);
        }
        gate_pass(&ready, ELEMENTS(flags));
        test_ready();
        test_wait();
        gate_open(&go, ELEMENTS(flags));
        for (size_t i = 0; i < ELEMENTS(flags); i++)
                xwait(kids[i], 3);
        test_pass();
}
