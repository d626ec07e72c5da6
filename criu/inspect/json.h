/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * JSON onto a stream, indented by two spaces. The writer keeps track of commas and nesting; the caller
 * sees to it that members have keys (`key` not NULL) and elements of arrays have none. Errors of the stream are
 * found by whoever closes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 16

struct json {
        FILE *out;
        unsigned depth;
        bool filled[JSON_DEPTH_MAX]; /* something stands in this level already */
};

void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
/* Close the innermost object or array. */
void json_end_object(struct json *j);
void json_end_array(struct json *j);

void json_uint(struct json *j, const char *key, uint64_t value);
void json_int(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
/* An address or another number whose 64 bits count: a string, "0x7f00". */
void json_hex(struct json *j, const char *key, uint64_t value);
/* As json_uint(), or null. */
void json_optional(struct json *j, const char *key, bool has, uint64_t value);

/*
 * Bytes as a string; NULL is null. Bytes that are no UTF-8 become U+FFFD; where the string is a
 * member and has such bytes, a second member KEY_hex holds all of it.
 */
void json_bytes(struct json *j, const char *key, const void *data, size_t len);
void json_string(struct json *j, const char *key, const char *text);
void json_format(struct json *j, const char *key, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
