/* SPDX-License-Identifier: GPL-2.0-only */
/* The line that maps and smaps have in common. */
#pragma once

#include "proc/maps.h"
#include "proc/scan.h"

/*
 * Parse the first line of an area into *vma, which is all zero. `line` lies in writable memory, and a newline, which
 * becomes a NUL, follows it; vma->name points into it. -EBADMSG.
 */
int proc_vma_line(struct scan line, struct proc_vma *vma);
