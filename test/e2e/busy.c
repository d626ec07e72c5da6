/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy */
/* Dumped while it computes: two counters that move together may be caught between any two instructions. */
#include "testlib.h"

struct state {
        uint64_t up, down;
        double sum;
};

static void step(void *arg) {
        volatile struct state *s = arg;

        s->up++;
        s->sum += 0.5;
        s->down--;
}

int main(int argc, char **argv) {
        struct state s = { 0 };

        test_init(argc, argv);
        test_ready();
        test_wait_busy(step, &s);

        CHECK(s.up > 0, "it never ran");
        CHECK(s.up == -s.down, "up %llu, down -%llu", (unsigned long long)s.up, (unsigned long long)-s.down);
        CHECK(s.sum == (double)s.up * 0.5, "the floating-point sum is %f after %llu steps", s.sum,
              (unsigned long long)s.up);
        test_pass();
}
