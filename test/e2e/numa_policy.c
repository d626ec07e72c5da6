/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread */
/* NUMA policies of threads (set_mempolicy): of each its own, a process that has inherited one, and one without. */
#include "e2e.h"

#include <linux/mempolicy.h>
#include <pthread.h>

enum { LOCAL = 4 }; /* MPOL_LOCAL */

static const struct policy {
        int mode;
        unsigned long nodes;
} table[] = {
        { MPOL_BIND, 1 },
        { MPOL_PREFERRED | MPOL_F_STATIC_NODES, 1 },
        { MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, 1 },
        { LOCAL, 0 },
        { MPOL_DEFAULT, 0 },
};

static struct gate ready, go;

static void set(const struct policy *p) {
        SYS(syscall(SYS_set_mempolicy, p->mode, p->nodes ? &p->nodes : NULL, p->nodes ? 65 : 0));
}

static void check(const struct policy *p, const char *who) {
        unsigned long nodes[16] = { 0 };
        int mode = -1;

        SYS(syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0));
        CHECK(mode == p->mode && nodes[0] == p->nodes, "%s: policy %#x for nodes %#lx, not %#x for %#lx",
              who, mode, nodes[0], p->mode, p->nodes);
}

static void *run(void *arg) {
        set(arg);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check(arg, "a thread");
        return NULL;
}

static int kid(void *arg __attribute__((unused))) {
        test_child_ready();
        test_wait();
        check(&table[0], "the child");
        return 0;
}

int main(int argc, char **argv) {
        pthread_t t[ELEMENTS(table)];
        int mode;

        test_init(argc, argv);
        if (syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0) < 0)
                test_skip("a kernel without NUMA");
        gate_init(&ready);
        gate_init(&go);
        set(&table[0]);
        test_fork(kid, NULL);
        test_wait_children_ready();
        for (size_t i = 0; i < ELEMENTS(table); i++)
                CHECK(pthread_create(&t[i], NULL, run, (void *)(uintptr_t)&table[i]) == 0, "pthread_create");
        gate_pass(&ready, ELEMENTS(table));
        test_ready();
        test_wait();
        check(&table[0], "the first thread");
        gate_open(&go, ELEMENTS(table));
        for (size_t i = 0; i < ELEMENTS(table); i++)
                pthread_join(t[i], NULL);
        test_stop_children();
        test_pass();
}
