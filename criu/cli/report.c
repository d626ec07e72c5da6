/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "lib/io.h"

static size_t trimmed_length(const char *text, const char *drop) {
        size_t length = strlen(text);

        while (length > 0 && strchr(drop, text[length - 1]))
                length--;
        return length;
}

static size_t append(char *to, size_t n, const char *text, size_t length) {
        for (size_t i = 0; i < length; i++) {
                if (text[i] == '\n')
                        to[n++] = ';', to[n++] = ' ';
                else
                        to[n++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
        }
        return n;
}

char *report_line(const struct ckpt_error *err) {
        const char *what = ckpt_error_message(err), *hint = err->hint ?: "";
        size_t hint_length = trimmed_length(hint, "\n. "), what_length;
        size_t n = 0;
        char *line;

        what_length = trimmed_length(what, hint_length > 0 ? "\n. " : "\n ");
        /* A line break takes two bytes; ". ", "." and NUL four. */
        line = malloc(2 * (what_length + hint_length) + 4);
        if (!line)
                return NULL;

        n = append(line, n, what, what_length);
        if (hint_length > 0) {
                line[n++] = '.', line[n++] = ' ';
                n = append(line, n, hint, hint_length);
                if (hint[hint_length - 1] != '?')
                        line[n++] = '.';
        }
        line[n] = '\0';
        return line;
}

void report_error(int fd, const struct ckpt_error *err) {
        _cleanup_free_ char *line = report_line(err), *text = NULL;
        int n;

        n = line ? asprintf(&text, "ckpt: %s\n", line) : -1;
        if (n < 0)
                (void)write_full(fd, "ckpt: out of memory\n", 20);
        else
                (void)write_full(fd, text, (size_t)n);
}
