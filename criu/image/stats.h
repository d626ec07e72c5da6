/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stats-dump and stats-restore in the work directory: what a run cost, for the scripts and engines that read
 * them. They are no part of a checkpoint.
 */
#pragma once

#include <stdint.h>

#include "error.h"

/* Times in microseconds, amounts in pages. */
struct dump_stats {
        uint64_t freezing_time; /* from the first stop to the last */
        uint64_t frozen_time;   /* from the first stop until the tasks run again or are killed */
        uint64_t memdump_time;  /* finding and saving memory */
        uint64_t memwrite_time; /* the part of it spent writing */
        uint64_t pages_scanned;
        uint64_t pages_skipped_parent;
        uint64_t pages_written;
        uint64_t pages_lazy;
        uint64_t shpages_scanned; /* shared memory, not in the numbers above */
        uint64_t shpages_skipped_parent;
        uint64_t shpages_written;
};

struct restore_stats {
        uint64_t pages_compared;    /* with a parent's page that may still be shared */
        uint64_t pages_skipped_cow; /* found equal and left shared */
        uint64_t pages_restored;
        uint64_t forking_time; /* creating the tree */
        uint64_t restore_time; /* everything */
};

/*
 * Write the file into the directory `work_dirfd`, replacing an older one by rename(2). Times too large
 * for the format's 32 bits are written as its maximum.
 */
int stats_write_dump(int work_dirfd, const struct dump_stats *stats, struct ckpt_error *err);
int stats_write_restore(int work_dirfd, const struct restore_stats *stats, struct ckpt_error *err);
