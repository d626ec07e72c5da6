/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include <stdio.h>

/*
 * For `ckpt check`: the network locks that are there, with what they are for, and how to remove those that no running
 * ckpt has. Asks whether to do it where a person sits at a terminal. Prints nothing if there are none.
 */
void sock_show_leftovers(FILE *out);
