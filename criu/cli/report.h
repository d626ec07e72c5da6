/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include "error.h"

/*
 * An error as one line, without newline at the end: "WHAT. HINT". Line breaks in the text become
 * "; ", other control characters '?', because names in it may have been chosen by a
 * hostile target. The caller frees it; NULL when there is no memory.
 */
char *report_line(const struct ckpt_error *err);

/* Write "ckpt: LINE" to `fd` with one write(2). */
void report_error(int fd, const struct ckpt_error *err);
