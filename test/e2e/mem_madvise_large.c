/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The same in a process so large that its flags are not read from smaps where the kernel has something faster. */
#define LARGE ((size_t)80 << 20)
#include "mem_madvise.c"
