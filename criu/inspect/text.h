/* SPDX-License-Identifier: GPL-2.0-only */
/* Texts from images and sizes, as a terminal may show them. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The length in bytes of the UTF-8 character at `data` (`len` bytes are left, at least one): 1 to 4, or 0 when
 * no valid one begins there. *ret_code is its code point.
 */
size_t utf8_char(const uint8_t *data, size_t len, uint32_t *ret_code);

/* Print bytes with control characters and what is no UTF-8 as \xNN. NULL prints "?". */
void print_bytes(FILE *out, const void *data, size_t len);
void print_text(FILE *out, const char *text);

/* A number of bytes in at most three digits and a unit, such as "1.5 MiB"; `buf` is returned. */
#define SIZE_TEXT_MAX 16
const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]);
