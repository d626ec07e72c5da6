/* SPDX-License-Identifier: GPL-2.0-only */
/* What the visits of one thread of ckpt have in common: for visit.c. All take NULL for a visit by itself. */
#pragma once

#include "compel/compel.h"

/* Around the moment from the look whether there is a stub until there is one. */
void compel_visits_lock(struct compel_visits *s);
void compel_visits_unlock(struct compel_visits *s);

/*
 * Map `size` bytes of the file, shared, and a private page behind them. *ret is also set when that fails half way;
 * compel_visits_unmap() takes it.
 */
int compel_visits_map(struct compel_visits *s, int fd, size_t size, char **ret);
void compel_visits_unmap(struct compel_visits *s, char *p, size_t size);
