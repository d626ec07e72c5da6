/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seccomp filters, for the stages. Threads refer to the last filter of their chain in the one list of seccomp.img.
 *
 * On dump, the threads of filtered processes are traced by a process of its own (compel.h: compel_tracer), which keeps
 * the filters suspended also when ckpt dies. On restore, ckpt attaches to the threads while they are still in the
 * agent, so that their filters are suspended from their making to the end.
 */
#pragma once

#include "dump/model.h"
#include "restore/model.h"

/* In one checkpoint; each is tried on restore before anything is made. */
enum { SECCOMP_FILTERS_MAX = 16384 };

/* seccomp.img, if any thread has a filter. */
int seccomp_save(struct dump *d, struct ckpt_error *err);
void seccomp_dump_free(struct dump *d);

/* Read seccomp.img, check it, and see that this kernel takes each filter. */
int seccomp_load(struct restore *r, struct ckpt_error *err);
/* Bytes of its lane that making its filters takes. */
size_t seccomp_lane_room(const struct restore_thread *t);
void seccomp_load_free(struct restore *r);
