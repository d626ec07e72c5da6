/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The foothold: unused bytes at the end of an executable page of the target, nearly always the
 * last one of its vDSO, where the stub (arch/x86_64/stub.S) stands during a visit.
 */
#pragma once

#include "compel/arch.h"
#include "compel/compel.h"

enum foothold_slot {
        FOOTHOLD_DRIVER,
        FOOTHOLD_GUEST, /* the first; others follow */
        FOOTHOLD_SLOT_MAX = FOOTHOLD_GUEST + COMPEL_GUESTS_MAX,
};

/*
 * The driver's slot is the last before `end`, that of the first guest before it, and so on, so that a later ckpt
 * finds it.
 */
struct foothold {
        int mem_fd;         /* /proc/PID/mem */
        raddr_t end;        /* of the page */
        unsigned int slots; /* for which there is room: that of the driver and at least one more */
        bool dirty;
};

/*
 * Find the foothold of a stopped process. -ENOENT: there is none. -EAGAIN: a thread is still in the stub
 * or the agent of an earlier visit. -EBUSY: a stub is there, and nobody knows whose, for the caller visits others at
 * this moment (not `alone`), who may share its memory.
 */
int foothold_open(struct foothold *f, const struct compel_thread *threads, size_t nr_threads, bool alone);

/* Where all slots together begin. */
raddr_t foothold_start(const struct foothold *f);

/* Write a slot for `t`, with what it needs to get back to what it was doing. That of a guest in any thread of ckpt. */
int foothold_write(struct foothold *f, enum foothold_slot slot, const struct compel_thread *t,
                   uint64_t map_len);

/* Note in the driver's slot where the agent is mapped. */
int foothold_note_mapping(struct foothold *f, raddr_t addr);

/* Address of a label of the stub, one of compel_stub*, in a slot. */
raddr_t foothold_entry(const struct foothold *f, enum foothold_slot slot, const char *label);

/* Put back the zeroes, unless a thread may still need what stands there, and close. */
void foothold_close(struct foothold *f, bool keep);
