/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * On which NUMA nodes a thread gets its memory: set_mempolicy(2). What memory there is already is placed anew by a restore,
 * before it has its policy.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/internal.h"
#include "task/self.h"

enum {
        WORDS = 16, /* 1024 nodes, the most that a kernel can be built for */
        NODES = WORDS * 64,
        MODE_KNOWN_MAX = 6,                /* MPOL_WEIGHTED_INTERLEAVE, Linux 6.9 */
        FLAGS = MPOL_MODE_FLAGS | 1 << 13, /* MPOL_F_NUMA_BALANCING, in older headers not there */
        NOT_TOLD = -1,                     /* by a kernel without NUMA */
};

struct policy {
        int32_t mode;
        uint64_t nodes[WORDS];
};

/* ---- dump ---- */

static void *ask(struct dump_thread *t __attribute__((unused)), struct compel_batch *b) {
        struct policy *p;
        struct compel_op *op;
        raddr_t at;

        compel_room(b, 1, sizeof(*p));
        p = compel_data(b, sizeof(*p), &at);
        p->mode = NOT_TOLD;
        op = compel_call(b, "read its NUMA policy", SYS_get_mempolicy, at + offsetof(struct policy, mode),
                         at + offsetof(struct policy, nodes), NODES, 0, 0);
        op->check = COMPEL_CHECK_NOTHING;
        return p;
}

static int answer(struct dump_thread *t, struct compel_batch *b __attribute__((unused)), void *asked,
                  struct ckpt_error *err) {
        Img__ThreadCore *core = dump_thread_core(t);
        struct policy p;

        memcpy(&p, asked, sizeof(p));
        if (p.mode == NOT_TOLD || p.mode == MPOL_DEFAULT)
                return 0;
        for (size_t i = 1; i < WORDS; i++)
                if (p.nodes[i] != 0)
                        return ckpt_error(
                                err, -ENOTSUP,
                                "%s has a NUMA policy (set_mempolicy) for nodes beyond 63, which is not "
                                "supported; the tree runs on",
                                dump_thread_name(t));
        core->has_mempolicy = core->has_mempolicy_nodes = true;
        core->mempolicy = (uint32_t)p.mode;
        core->mempolicy_nodes = p.nodes[0];
        return 0;
}

static void infer(struct dump_thread *t, const struct dump_thread *like,
                  const struct thread_fact *fact __attribute__((unused))) {
        const Img__ThreadCore *from = dump_thread_core(like);
        Img__ThreadCore *core = dump_thread_core(t);

        core->has_mempolicy = from->has_mempolicy;
        core->mempolicy = from->mempolicy;
        core->has_mempolicy_nodes = from->has_mempolicy_nodes;
        core->mempolicy_nodes = from->mempolicy_nodes;
}

/* ---- restore ---- */

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

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);
        int r;

        if (!core->has_mempolicy)
                return 0;
        if ((core->mempolicy & ~(uint32_t)FLAGS) > MODE_KNOWN_MAX)
                return ckpt_error(err, -EBADMSG, "core-%d.img: %#x is no NUMA policy", t->tid,
                                  core->mempolicy);
        if (!fits_here(core->mempolicy, core->mempolicy_nodes)) {
                ckpt_error(
                        err, -ENOTSUP,
                        "%s has a NUMA policy (set_mempolicy) for nodes that are not here (%#llx); nothing "
                        "was created",
                        restore_thread_name(t), (unsigned long long)core->mempolicy_nodes);
                return ckpt_error_hint(err,
                                       "Restore where these nodes are, or without a cpuset that hides them");
        }
        r = try_here(core->mempolicy, core->mempolicy_nodes);
        return r < 0 ? ckpt_error(err, -ENOTSUP,
                                  "%s has a NUMA policy (%#x, nodes %#llx) that this kernel does not "
                                  "take; nothing was created",
                                  restore_thread_name(t), core->mempolicy,
                                  (unsigned long long)core->mempolicy_nodes)
                     : 0;
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__ThreadCore *core = restore_thread_core(t);
        uint64_t nodes[2] = { core->mempolicy_nodes };

        /* Every thread has been cloned with the policy of ckpt. */
        if (!core->has_mempolicy && self->default_mempolicy)
                return 0;
        /* The number of bits is one more than are looked at. */
        compel_call(b, "set its NUMA policy", SYS_set_mempolicy, core->mempolicy,
                    nodes[0] ? compel_copy(b, nodes, sizeof(nodes)) : 0, nodes[0] ? 65 : 0);
        return 0;
}

const struct task_kind kind_numa = {
        .name = "NUMA policy",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .ask = ask,
        .answer = answer,
        .infer = infer,
        .check = check,
        .restore = restore,
};
