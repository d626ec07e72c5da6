/* SPDX-License-Identifier: GPL-2.0-only */
/* NUMA policies of threads and of areas. */
#pragma once

#include <stdint.h>

#include "error.h"

enum { NUMA_NODES_MAX = 1024 /* the most that a kernel can be built for */ };

/*
 * Load stage: can there be such a policy here? Tried in the calling thread, which gets its own policy back. `who`, of whom the
 * policy is, and `call`, which gives it, are for the message. -EBADMSG: it is none; -ENOTSUP: not here.
 */
int numa_check(const char *who, const char *call, uint32_t mode, uint64_t nodes, struct ckpt_error *err);
