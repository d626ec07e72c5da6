/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The same in a process so large that the kernel is asked about all its areas at once, where it can be. */
#define RESIDENT 1
#include "numa_areas.c"
