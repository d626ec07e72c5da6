/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* The same in a process of so many areas that flags are not read from smaps where the kernel has something faster. */
#define LARGE 12000 /* areas */
#include "mem_madvise.c"
