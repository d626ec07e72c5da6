/* SPDX-License-Identifier: GPL-2.0-only */
/* A visit as the files that carry it out see it: visit.c its beginning and its end, passage.c what is in between. */
#pragma once

#include "compel/foothold.h"
#include "compel/internal.h"
#include "macro.h"

enum {
        SHARED_SIZE = 128 * 1024,
        SEAT_SIZE = 16 * 1024, /* more for each guest but the first */
        HEAD_SIZE = PAGE_SIZE,
        GUARD_ROOM = 64, /* at the end: the word of the guard */
};

/* The page behind the agent. */
struct head {
        struct compel_lane driver;
        struct compel_lane guest[COMPEL_GUESTS_MAX];
        uint32_t inside[COMPEL_GUESTS_MAX]; /* enum compel_inside */
};

_Static_assert(sizeof(struct head) <= HEAD_SIZE, "the head of a visit outgrew its page");

struct compel_visit {
        struct compel_thread *driver;
        struct foothold foothold;
        struct compel_visits *visits; /* NULL: it is by itself */
        unsigned int guests;          /* at once */
        size_t size;                  /* of the shared memory */
        char *local;                  /* our mapping of it, and a private page of the guard */
        raddr_t remote;               /* the target's; 0: not mapped */
        struct compel_guard guard;
        bool entered; /* the driver's registers are not its own */
        bool lost;    /* a thread in the agent or the stub is out of control */
        /* What is left to do of what has been started: its next step, for compel_visit_go(). NULL: nothing. */
        int (*next)(struct compel_visit *v, struct ckpt_error *err);
        struct compel_batch batch;                         /* of the driver and of the first guest */
        struct compel_batch others[COMPEL_GUESTS_MAX - 1]; /* of the other guests */
};

/*
 * Layout of the shared memory: agent, head, the seats of further guests, each a batch that ends with its stack, stack
 * of the first guest, batch, which ends with the stack of the driver, guard. The agent comes first, because of
 * targets that must have no memory both writable and executable.
 */
static inline size_t agent_room(void) {
        return page_align_up(compel_blob_size());
}

static inline struct head *head_of(const struct compel_visit *v) {
        return (struct head *)(v->local + agent_room());
}

/* Of guest number 1 or more. */
static inline size_t seat_of(unsigned int guest) {
        return agent_room() + HEAD_SIZE + (guest - 1) * (size_t)SEAT_SIZE;
}

static inline size_t guest_stack_end(const struct compel_visit *v, unsigned int guest) {
        return guest > 0 ? seat_of(guest + 1) : seat_of(v->guests) + COMPEL_LANE_STACK;
}

static inline size_t driver_stack_end(const struct compel_visit *v) {
        return v->size - GUARD_ROOM;
}

static inline raddr_t remote_of(const struct compel_visit *v, const void *local) {
        return v->remote + (uint64_t)((const char *)local - v->local);
}

/*
 * Set registers so that `t`, which keeps its own stack pointer and flags, goes on at `label` of the stub, with
 * `value` in the first result register. A negative errno of ptrace(2).
 */
int visit_to_stub(const struct compel_visit *v, struct compel_thread *t, enum foothold_slot slot,
                  const char *label, uint64_t value);

/* The signal mask and the registers that `t` was found with. A negative errno of ptrace(2). */
int visit_put_back(struct compel_thread *t);

/* -ENOTSUP: a thread that cannot be entered, and why. */
int visit_refuse(const struct compel_thread *t, const char *reason, struct ckpt_error *err);

/* `r` > 0: take all steps that are left of what was started. Returns what came of it, or `r`. */
int visit_finish(struct compel_visit *v, int r, struct ckpt_error *err);
