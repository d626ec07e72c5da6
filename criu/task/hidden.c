/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/hidden.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump/blockers.h"
#include "kernel/bpf.h"
#include "kernel/hidden_state.h"
#include "log.h"
#include "macro.h"
#include "task/keyring.h"

enum { FEW_TASKS = 16 /* of more, it is faster to read all tasks of the machine at once */ };

DEFINE_VEC(serial_vec, int32_t);

struct dump_hidden {
        struct pool_offer offer;
        bool claimed;
        struct hidden_source *source; /* NULL: not to be had */
        struct hidden_state own;      /* of ckpt's main thread; it stays as it is */
        struct serial_vec judged;     /* session keyrings, in one look */
};

static int read_own(struct dump_hidden *h) {
        _cleanup_(hidden_state_vec_done) struct hidden_state_vec states = { 0 };
        int r = hidden_source_read(h->source, getpid(), &states);
        const struct hidden_state *own = r == 0 ? hidden_state_find(&states, getpid()) : NULL;

        if (!own)
                return r < 0 ? r : -ENODATA;
        h->own = *own;
        return 0;
}

static int open_source(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct dump *d = arg;
        struct dump_hidden *h = d->hidden;
        int r = hidden_source_open(d->bpf, &h->source);

        if (r == 0)
                r = read_own(h);
        if (r < 0) {
                hidden_source_free(&h->source);
                log_debug("Landlock domains and keyrings are not seen without BPF (%s)", strerror(-r));
        }
        return 0;
}

void hidden_prepare(struct dump *d) {
        d->hidden = calloc(1, sizeof(*d->hidden));
        ckpt_assert(d->hidden);
        d->hidden->claimed = pool_offer(d->aside, open_source, d, &d->hidden->offer) < 0;
}

static const struct hidden_source *source_of(struct dump *d) {
        struct dump_hidden *h = d->hidden;

        if (!h->claimed)
                (void)pool_claim(&h->offer, NULL);
        h->claimed = true;
        return h->source;
}

void hidden_free(struct dump *d) {
        struct dump_hidden *h = d->hidden;

        if (!h)
                return;
        if (!h->claimed)
                pool_withdraw(&h->offer);
        hidden_source_free(&h->source);
        serial_vec_done(&h->judged);
        free(h);
        d->hidden = NULL;
}

/* ---- keyrings ---- */

/* Has it been judged in this look? The processes of a tree mostly have one session keyring in common. */
static bool is_judged(struct dump_hidden *h, int32_t serial) {
        for (size_t i = 0; i < h->judged.n; i++)
                if (h->judged.v[i] == serial)
                        return true;
        ckpt_assert(serial_vec_push(&h->judged, serial) == 0);
        return false;
}

static void look_session(struct dump_task *t, const struct hidden_keyring *ring) {
        struct dump_hidden *h = t->dump->hidden;
        int n;

        if (ring->keys == 0 || ring->serial == h->own.ring[HIDDEN_RING_SESSION].serial ||
            is_judged(h, ring->serial))
                return;
        n = keyring_count_own(ring->serial, ring->uid);
        if (n == 0)
                return;
        blocker_add(
                t->dump->blockers,
                "Have it clear that keyring (keyctl clear @s), or keep keys in that of the user",
                n > 0 ? "%s has keys in its session keyring (keyctl), which cannot be checkpointed"
                      : "%s has a session keyring (keyctl) that ckpt may not read, which cannot be checkpointed",
                dump_task_name(t));
}

static void look_keyrings(struct dump_task *t, const struct hidden_state *state) {
        static const char *const names[HIDDEN_RINGS_MAX] = {
                [HIDDEN_RING_PROCESS] = "process",
                [HIDDEN_RING_THREAD] = "thread",
        };

        if (state->default_ring)
                blocker_add(
                        t->dump->blockers, NULL,
                        "%s has chosen a keyring for keys that it requests (KEYCTL_SET_REQKEY_KEYRING), which "
                        "cannot be checkpointed",
                        dump_task_name(t));
        look_session(t, &state->ring[HIDDEN_RING_SESSION]);
        for (unsigned int i = HIDDEN_RING_PROCESS; i < HIDDEN_RINGS_MAX; i++)
                if (state->ring[i].keys > 0)
                        blocker_add(t->dump->blockers,
                                    "Have it clear that keyring, or keep keys in that of the user",
                                    "%s has keys in its %s keyring (keyctl), which cannot be checkpointed",
                                    dump_task_name(t), names[i]);
}

/* ---- all of it ---- */

static void look_thread(struct dump_task *t, const struct hidden_state *state) {
        struct blockers *b = t->dump->blockers;

        if (state->landlock != 0 && state->landlock != t->dump->hidden->own.landlock)
                blocker_add(b, "Start it without its Landlock sandbox",
                            "%s has restricted itself by Landlock, which cannot be checkpointed yet",
                            dump_task_name(t));
        if (state->io_uring)
                blocker_add(
                        b, "Start the program with io_uring disabled",
                        "%s has an io_uring instance registered with a thread, which cannot be checkpointed",
                        dump_task_name(t));
        if (state->user_events)
                blocker_add(b, NULL,
                            "%s has registered trace events (user_events), which cannot be checkpointed",
                            dump_task_name(t));
        if (state->dispatch)
                blocker_add(
                        b, NULL,
                        "%s has its system calls intercepted (PR_SET_SYSCALL_USER_DISPATCH), which cannot be "
                        "checkpointed",
                        dump_task_name(t));
        if (state->iopl)
                blocker_add(b, NULL, "%s has access to I/O ports (iopl), which is not supported",
                            dump_task_name(t));
        look_keyrings(t, state);
}

static void look_tid(struct dump_task *t, const struct hidden_state_vec *states, pid_t tid) {
        const struct hidden_state *state = hidden_state_find(states, tid);

        if (state)
                look_thread(t, state);
}

/* What a dead leader has does not matter any more, and does no harm. */
static void look_task(struct dump_task *t, const struct hidden_source *source,
                      struct hidden_state_vec *states, bool one_by_one) {
        const struct pid_vec *tids;

        if (t->state == 'Z' || (one_by_one && hidden_source_read(source, t->pid, states) < 0))
                return; /* it is gone */
        for (size_t i = 0; i < t->nr_threads; i++)
                look_tid(t, states, t->threads[i].tid);
        tids = t->nr_threads == 0 ? dump_tids(t) : NULL;
        for (size_t i = 0; tids && i < tids->n; i++)
                look_tid(t, states, tids->v[i]);
}

void hidden_look_tree(struct dump *d) {
        _cleanup_(hidden_state_vec_done) struct hidden_state_vec states = { 0 };
        const struct hidden_source *source = d->hidden ? source_of(d) : NULL;
        bool one_by_one = d->nr_tasks <= FEW_TASKS;

        if (!source || (!one_by_one && hidden_source_read(source, 0, &states) < 0))
                return;
        d->hidden->judged.n = 0;
        for (size_t i = 0; i < d->nr_tasks; i++)
                look_task(d->tasks[i], source, &states, one_by_one);
}
