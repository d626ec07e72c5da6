/* SPDX-License-Identifier: GPL-2.0-only */
/* The smallest thing there is: static memory, a stack, a counter. */
#include "testlib.h"

static char data[3 * 4096] = { 1 };
static unsigned int counter = 41;

int main(int argc, char **argv) {
        char local[512];

        test_init(argc, argv);
        test_fill(data, sizeof(data), 1);
        test_fill(local, sizeof(local), 2);
        counter++;

        test_ready();
        test_wait();

        CHECK_EQ(counter, 42);
        test_verify(data, sizeof(data), 1, "static data");
        test_verify(local, sizeof(local), 2, "the stack");
        /* Life goes on. */
        counter++;
        CHECK_EQ(counter, 43);
        test_pass();
}
