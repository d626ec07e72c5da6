/* SPDX-License-Identifier: GPL-2.0-only */
#include "inspect/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "inspect/text.h"
#include "macro.h"

/* Returns whether all of it was UTF-8. */
static bool put_quoted(FILE *out, const uint8_t *data, size_t len) {
        bool clean = true;

        fputc('"', out);
        while (len > 0) {
                uint32_t code = 0;
                size_t n = utf8_char(data, len, &code);

                if (n == 0) {
                        fputs("\\ufffd", out);
                        clean = false;
                        n = 1;
                } else if (code == '"' || code == '\\') {
                        fprintf(out, "\\%c", (int)code);
                } else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
                        fprintf(out, "\\u%04" PRIx32, code);
                } else {
                        fwrite(data, 1, n, out);
                }
                data += n;
                len -= n;
        }
        fputc('"', out);
        return clean;
}

/* The comma and line break before a value, and its key. */
static void begin(struct json *j, const char *key) {
        if (j->depth > 0) {
                fputs(j->filled[j->depth] ? ",\n" : "\n", j->out);
                j->filled[j->depth] = true;
                fprintf(j->out, "%*s", (int)(2 * j->depth), "");
        }
        if (key)
                fprintf(j->out, "\"%s\": ", key);
}

static void open_level(struct json *j, const char *key, char bracket) {
        begin(j, key);
        fputc(bracket, j->out);
        ckpt_assert(j->depth + 1 < JSON_DEPTH_MAX);
        j->filled[++j->depth] = false;
}

static void close_level(struct json *j, char bracket) {
        bool filled = j->filled[j->depth];

        ckpt_assert(j->depth > 0);
        j->depth--;
        if (filled)
                fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
        fputc(bracket, j->out);
        if (j->depth == 0)
                fputc('\n', j->out);
}

void json_object(struct json *j, const char *key) {
        open_level(j, key, '{');
}

void json_array(struct json *j, const char *key) {
        open_level(j, key, '[');
}

void json_end_object(struct json *j) {
        close_level(j, '}');
}

void json_end_array(struct json *j) {
        close_level(j, ']');
}

void json_uint(struct json *j, const char *key, uint64_t value) {
        begin(j, key);
        fprintf(j->out, "%" PRIu64, value);
}

void json_int(struct json *j, const char *key, int64_t value) {
        begin(j, key);
        fprintf(j->out, "%" PRId64, value);
}

void json_bool(struct json *j, const char *key, bool value) {
        begin(j, key);
        fputs(value ? "true" : "false", j->out);
}

void json_hex(struct json *j, const char *key, uint64_t value) {
        begin(j, key);
        fprintf(j->out, "\"0x%" PRIx64 "\"", value);
}

void json_optional(struct json *j, const char *key, bool has, uint64_t value) {
        if (has)
                json_uint(j, key, value);
        else
                json_string(j, key, NULL);
}

void json_bytes(struct json *j, const char *key, const void *data, size_t len) {
        const uint8_t *p = data;

        begin(j, key);
        if (!p) {
                fputs("null", j->out);
                return;
        }
        if (put_quoted(j->out, p, len) || !key)
                return;
        fprintf(j->out, ",\n%*s\"%s_hex\": \"", (int)(2 * j->depth), "", key);
        for (size_t i = 0; i < len; i++)
                fprintf(j->out, "%02x", p[i]);
        fputc('"', j->out);
}

void json_string(struct json *j, const char *key, const char *text) {
        json_bytes(j, key, text, text ? strlen(text) : 0);
}

void json_format(struct json *j, const char *key, const char *fmt, ...) {
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        json_string(j, key, text);
}
