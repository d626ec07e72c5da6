/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=120 args="processes" */
/* many.c, each sleeper a process. */
#include "many.c"
