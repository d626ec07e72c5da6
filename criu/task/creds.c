/* SPDX-License-Identifier: GPL-2.0-only */
/* Credentials, which in the kernel are each thread's own: credentials(7), capabilities(7). */
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "log.h"
#include "task/internal.h"
#include "task/self.h"

enum { GROUPS_MAX = 65536, CAP_WORDS = 2 };

/* ---- dump ---- */

static uint32_t *caps_to_image(struct arena *a, uint64_t caps, size_t *ret_n) {
        const uint32_t words[CAP_WORDS] = { (uint32_t)caps, (uint32_t)(caps >> 32) };

        *ret_n = CAP_WORDS;
        return arena_copy(a, words, sizeof(words));
}

/* All but the securebits, which only the thread itself can read. */
static int creds_read(struct dump_thread *t, struct ckpt_error *err __attribute__((unused))) {
        const struct proc_status *st = &t->status;
        struct arena *a = t->arena;
        Img__Creds *c = arena_message(a, Img__Creds, img__creds__init);

        c->uid = st->uids[0];
        c->euid = st->uids[1];
        c->suid = st->uids[2];
        c->fsuid = st->uids[3];
        c->gid = st->gids[0];
        c->egid = st->gids[1];
        c->sgid = st->gids[2];
        c->fsgid = st->gids[3];
        c->cap_inh = caps_to_image(a, st->cap_inh, &c->n_cap_inh);
        c->cap_prm = caps_to_image(a, st->cap_prm, &c->n_cap_prm);
        c->cap_eff = caps_to_image(a, st->cap_eff, &c->n_cap_eff);
        c->cap_bnd = caps_to_image(a, st->cap_bnd, &c->n_cap_bnd);
        c->cap_amb = caps_to_image(a, st->cap_amb, &c->n_cap_amb);
        c->groups = arena_copy(a, st->groups.v, st->groups.n * sizeof(*c->groups));
        c->n_groups = st->groups.n;
        c->has_no_new_privs = true;
        c->no_new_privs = st->no_new_privs;
        dump_thread_core(t)->creds = c;
        return 0;
}

static void *ask(struct dump_thread *t, struct compel_batch *b) {
        uint32_t *index = arena_new(t->arena, uint32_t);

        *index = task_ask(b, "read its securebits", SYS_prctl, PR_GET_SECUREBITS);
        return index;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *asked, struct ckpt_error *err) {
        int64_t bits = task_asked(b, *(const uint32_t *)asked);

        if (bits < 0 || bits > UINT32_MAX)
                return ckpt_error(err, -EIO, "%s: cannot read its securebits", dump_thread_name(t));
        dump_thread_core(t)->creds->secbits = (uint32_t)bits;
        return 0;
}

static void infer(struct dump_thread *t, const struct dump_thread *like,
                  const struct thread_fact *fact __attribute__((unused))) {
        dump_thread_core(t)->creds->secbits = dump_thread_core(like)->creds->secbits;
}

/* ---- check ---- */

struct caps {
        uint64_t inh, prm, eff, bnd, amb;
};

/* Capabilities that this kernel does not know cannot be given, and nothing here asks for them. */
static uint64_t caps_from_image(const uint32_t *words, size_t n, const struct task_self *self) {
        uint64_t caps = 0;

        for (size_t i = 0; i < n && i < CAP_WORDS; i++)
                caps |= (uint64_t)words[i] << (32 * i);
        return self->last_cap >= 63 ? caps : caps & ((2ULL << self->last_cap) - 1);
}

static struct caps read_caps(const Img__Creds *c, const struct task_self *self) {
        return (struct caps){
                .inh = caps_from_image(c->cap_inh, c->n_cap_inh, self),
                .prm = caps_from_image(c->cap_prm, c->n_cap_prm, self),
                .eff = caps_from_image(c->cap_eff, c->n_cap_eff, self),
                .bnd = caps_from_image(c->cap_bnd, c->n_cap_bnd, self),
                .amb = caps_from_image(c->cap_amb, c->n_cap_amb, self),
        };
}

/* What it was allowed is of no use to the dead, who may have been all-powerful in a user namespace of its own. */
static struct caps caps_of(const struct restore_thread *t, const Img__Creds *c,
                           const struct task_self *self) {
        struct caps caps = read_caps(c, self);
        uint64_t can_give = self->cap_permitted & self->cap_bounding;

        if (t->task->kind == RESTORE_TASK_LIVE)
                return caps;
        return (struct caps){ caps.inh & can_give, caps.prm & can_give, caps.eff & can_give,
                              caps.bnd & self->cap_bounding, caps.amb & can_give };
}

static const char *cap_text(struct restore_thread *t, uint64_t caps) {
        char *name = cap_to_name(__builtin_ctzll(caps));
        const char *text = arena_printf(&t->task->arena, "%s", name ? name : "a capability");

        cap_free(name);
        return text;
}

static int creds_check(struct restore_thread *t, struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__Creds *c = restore_thread_core(t)->creds;
        struct caps caps;

        if (!c)
                return ckpt_error(err, -EBADMSG, "%s has no credentials in its image",
                                  restore_thread_name(t));
        caps = caps_of(t, c, self);
        if (c->n_groups > GROUPS_MAX || (caps.eff & ~caps.prm) || (caps.amb & ~(caps.prm & caps.inh)))
                return ckpt_error(err, -EBADMSG, "%s: its credentials make no sense",
                                  restore_thread_name(t));
        if (caps.prm & ~self->cap_permitted) {
                ckpt_error(err, -EPERM,
                           "%s has the capability %s, which ckpt does not have itself and cannot give",
                           restore_thread_name(t), cap_text(t, caps.prm & ~self->cap_permitted));
                return ckpt_error_hint(err, "Run ckpt with all capabilities of the dumped tree");
        }
        if (caps.bnd & ~self->cap_bounding) {
                ckpt_error(err, -EPERM,
                           "%s has %s in its capability bounding set, which is missing in that of ckpt",
                           restore_thread_name(t), cap_text(t, caps.bnd & ~self->cap_bounding));
                return ckpt_error_hint(err, "Run ckpt with all capabilities of the dumped tree");
        }
        if (caps.inh & ~self->cap_bounding)
                return ckpt_error(err, -EPERM,
                                  "%s can hand on the capability %s, which ckpt does not have itself",
                                  restore_thread_name(t), cap_text(t, caps.inh & ~self->cap_bounding));
        if (self->no_new_privs && !(c->has_no_new_privs && c->no_new_privs)) {
                ckpt_error(err, -EPERM,
                           "%s may gain privileges by exec, but ckpt runs with no_new_privs, which all its "
                           "children keep",
                           restore_thread_name(t));
                return ckpt_error_hint(err, "Run ckpt without no_new_privs");
        }
        return 0;
}

/* ---- restore ---- */

static void add_capset(struct compel_batch *b, uint64_t eff, uint64_t prm, uint64_t inh) {
        const struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        const struct __user_cap_data_struct data[CAP_WORDS] = {
                { (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
                { (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
        };
        raddr_t at_header, at_data;

        compel_room(b, 1, sizeof(header) + sizeof(data));
        at_header = compel_copy(b, &header, sizeof(header));
        at_data = compel_copy(b, data, sizeof(data));
        compel_call(b, "set its capabilities", SYS_capset, at_header, at_data);
}

/* They answer with the id before, so a second call tells whether the first did it. */
static void add_setfsid(struct compel_batch *b, const char *what, uint32_t nr, uint32_t id) {
        struct compel_op *op;

        op = compel_call(b, what, nr, id);
        op->check = COMPEL_CHECK_NOTHING;
        op = compel_call(b, what, nr, id);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = id;
}

static void add_ids(const Img__Creds *c, struct compel_batch *b) {
        raddr_t groups = 0;

        compel_room(b, 1, c->n_groups * sizeof(*c->groups));
        if (c->n_groups > 0)
                groups = compel_copy(b, c->groups, c->n_groups * sizeof(*c->groups));
        compel_call(b, "set its supplementary groups", SYS_setgroups, c->n_groups, groups);
        compel_call(b, "set its group ids", SYS_setresgid, c->gid, c->egid, c->sgid);
        if (c->fsgid != c->egid)
                add_setfsid(b, "set its filesystem group id", SYS_setfsgid, c->fsgid);
        compel_call(b, "set its user ids", SYS_setresuid, c->uid, c->euid, c->suid);
        if (c->fsuid != c->euid)
                add_setfsid(b, "set its filesystem user id", SYS_setfsuid, c->fsuid);
}

static void add_bounding(uint64_t drop, struct compel_batch *b) {
        for (; drop; drop &= drop - 1)
                compel_call(b, "drop capabilities from its bounding set", SYS_prctl, PR_CAPBSET_DROP,
                            (uint64_t)__builtin_ctzll(drop), 0, 0, 0);
}

static void add_ambient(uint64_t ambient, struct compel_batch *b) {
        compel_call(b, "set its ambient capabilities", SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL,
                    0, 0, 0);
        for (; ambient; ambient &= ambient - 1)
                compel_call(b, "set its ambient capabilities", SYS_prctl, PR_CAP_AMBIENT,
                            PR_CAP_AMBIENT_RAISE, (uint64_t)__builtin_ctzll(ambient), 0, 0);
}

/* Everything that it has inherited from ckpt, and that nothing has changed since, is what it had. */
static bool has_creds(const struct restore_thread *t, const Img__Creds *c, const struct caps *caps) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const uid_t uids[] = { c->uid, c->euid, c->suid, c->fsuid };
        const gid_t gids[] = { c->gid, c->egid, c->sgid, c->fsgid };

        return !t->task->ids_changed && memcmp(uids, self->uids, sizeof(uids)) == 0 &&
               memcmp(gids, self->gids, sizeof(gids)) == 0 && c->n_groups == self->nr_groups &&
               (c->n_groups == 0 || memcmp(c->groups, self->groups, c->n_groups * sizeof(gid_t)) == 0) &&
               caps->prm == self->cap_permitted && caps->eff == self->cap_effective &&
               caps->inh == self->cap_inheritable && caps->amb == self->cap_ambient &&
               caps->bnd == self->cap_bounding && (int64_t)c->secbits == self->securebits;
}

static void add_no_new_privs(const Img__Creds *c, struct compel_batch *b) {
        if (c->has_no_new_privs && c->no_new_privs)
                compel_call(b, "set no_new_privs", SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/*
 * Each step needs what the later ones take away: capabilities survive the change of ids by
 * SECBIT_NO_SETUID_FIXUP; the inheritable set may only grow while the bounding set is whole; ambient
 * capabilities may only be raised before a securebit forbids it; securebits and bounding set want CAP_SETPCAP.
 */
static int creds_restore(struct restore_thread *t, struct compel_batch *b,
                         struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__Creds *c = restore_thread_core(t)->creds;
        struct caps caps = caps_of(t, c, self);

        if (has_creds(t, c, &caps)) {
                add_no_new_privs(c, b);
                return 0;
        }
        compel_call(b, "keep its capabilities for now", SYS_prctl, PR_SET_SECUREBITS,
                    SECBIT_NO_SETUID_FIXUP);
        add_capset(b, self->cap_permitted, self->cap_permitted, caps.inh);
        add_bounding(self->cap_bounding & ~caps.bnd, b);
        add_ids(c, b);
        add_ambient(caps.amb, b);
        compel_call(b, "set its securebits", SYS_prctl, PR_SET_SECUREBITS, c->secbits);
        add_capset(b, caps.eff, caps.prm, caps.inh);
        add_no_new_privs(c, b);
        return 0;
}

const struct task_kind kind_creds = {
        .name = "credentials",
        .per_thread = true,
        .phase = TASK_PHASE_CREDENTIALS,
        .read = creds_read,
        .ask = ask,
        .answer = answer,
        .infer = infer,
        .check = creds_check,
        .restore = creds_restore,
};
