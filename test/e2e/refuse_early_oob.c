/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns expect=refused a client .* waits to be accepted that has sent something already */
/* The same with urgent data. */
#define URGENT 1
#include "refuse_early_fd.c"
