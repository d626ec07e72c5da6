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
        FOOTHOLD_GUEST,
        FOOTHOLD_SLOT_MAX,
};

struct foothold {
        int mem_fd;   /* /proc/PID/mem */
        raddr_t addr; /* of the first slot */
        bool dirty;
};

/*
 * Find the foothold of a stopped process. -ENOENT: there is none. -EAGAIN: a thread is still in the stub
 * or the agent of an earlier visit. -EBUSY: a stub is there, and nobody knows whose, for the caller visits others at
 * this moment (not `alone`), who may share its memory.
 */
int foothold_open(struct foothold *f, const struct compel_thread *threads, size_t nr_threads, bool alone);

/* Bytes from `addr` on, all slots together. */
size_t foothold_size(void);

/* Write a slot for `t`, with what it needs to get back to what it was doing. */
int foothold_write(struct foothold *f, enum foothold_slot slot, const struct compel_thread *t,
                   uint64_t map_len);

/* Note in the driver's slot where the agent is mapped. */
int foothold_note_mapping(struct foothold *f, raddr_t addr);

/* Address of a label of the stub, one of compel_stub*, in a slot. */
raddr_t foothold_entry(const struct foothold *f, enum foothold_slot slot, const char *label);

/* Put back the zeroes, unless a thread may still need what stands there, and close. */
void foothold_close(struct foothold *f, bool keep);
