/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/numa.h"

enum {
        NODES = NUMA_NODES_MAX,
        WORDS = NODES / 64,
        MODE_KNOWN_MAX = 6,                /* MPOL_WEIGHTED_INTERLEAVE, Linux 6.9 */
        FLAGS = MPOL_MODE_FLAGS | 1 << 13, /* MPOL_F_NUMA_BALANCING, in older headers not there */
};

/* The nodes that there are, for ckpt at least. */
static uint64_t nodes_here(void) {
        uint64_t nodes[WORDS] = { 0 };

        return syscall(SYS_get_mempolicy, NULL, nodes, NODES, 0, MPOL_F_MEMS_ALLOWED) < 0 ? 0 : nodes[0];
}

/* A policy keeps names of nodes that are missing only if it is told to (MPOL_F_STATIC_NODES). */
static bool fits_here(uint32_t mode, uint64_t nodes) {
        if (mode & MPOL_F_RELATIVE_NODES || nodes == 0)
                return true;
        return mode & MPOL_F_STATIC_NODES ? (nodes & nodes_here()) != 0 : (nodes & ~nodes_here()) == 0;
}

/* The number of bits is one more than are looked at. */
static int set_here(int mode, const uint64_t nodes[WORDS]) {
        bool empty = true;

        for (size_t i = 0; i < WORDS; i++)
                empty = empty && nodes[i] == 0;
        return syscall(SYS_set_mempolicy, mode, empty ? NULL : nodes, empty ? 0 : NODES) < 0 ? -errno : 0;
}

/* Which modes go with which flags and nodes, the kernel knows: by trial in this thread, which gets its own policy back. */
static int try_here(uint32_t mode, uint64_t nodes) {
        uint64_t own_nodes[WORDS] = { 0 };
        int own = MPOL_DEFAULT, r, back;

        if (syscall(SYS_get_mempolicy, &own, own_nodes, NODES, 0, 0) < 0)
                return -errno;
        r = set_here((int)mode, (const uint64_t[WORDS]){ nodes });
        back = set_here(own, own_nodes);
        return r < 0 ? r : back;
}

int numa_check(const char *who, const char *call, uint32_t mode, uint64_t nodes, struct ckpt_error *err) {
        int r;

        if ((mode & ~(uint32_t)FLAGS) > MODE_KNOWN_MAX)
                return ckpt_error(err, -EBADMSG, "%s: %#x is no NUMA policy (%s)", who, mode, call);
        if (!fits_here(mode, nodes)) {
                ckpt_error(
                        err, -ENOTSUP,
                        "%s has a NUMA policy (%s) for nodes that are not here (%#llx); nothing was created",
                        who, call, (unsigned long long)nodes);
                return ckpt_error_hint(err,
                                       "Restore where these nodes are, or without a cpuset that hides them");
        }
        r = try_here(mode, nodes);
        return r < 0 ? ckpt_error(err, -ENOTSUP,
                                  "%s has a NUMA policy (%s; %#x, nodes %#llx) that this kernel does not "
                                  "take; nothing was created",
                                  who, call, mode, (unsigned long long)nodes)
                     : 0;
}
