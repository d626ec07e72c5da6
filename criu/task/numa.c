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
#include "task/numa.h"
#include "task/self.h"

enum {
        NODES = NUMA_NODES_MAX,
        WORDS = NODES / 64,
        NOT_TOLD = -1, /* by a kernel without NUMA */
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

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);

        if (!core->has_mempolicy)
                return 0;
        return numa_check(restore_thread_name(t), "set_mempolicy", core->mempolicy, core->mempolicy_nodes,
                          err);
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
