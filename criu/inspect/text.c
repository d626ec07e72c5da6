/* SPDX-License-Identifier: GPL-2.0-only */
#include "inspect/text.h"

#include <string.h>

#include "macro.h"

size_t utf8_char(const uint8_t *data, size_t len, uint32_t *ret_code) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        uint8_t first = data[0];
        size_t n = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
        uint32_t code;

        if (n == 0 || n > len)
                return 0;
        code = n == 1 ? first : first & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if (data[i] >> 6 != 2)
                        return 0;
                code = code << 6 | (data[i] & 0x3f);
        }
        if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
                return 0;
        *ret_code = code;
        return n;
}

/* C0, DEL, C1, and what turns the direction of the text around. */
static int is_control(uint32_t code) {
        return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
               (code >= 0x2066 && code <= 0x2069) || code == 0x200e || code == 0x200f;
}

void print_bytes(FILE *out, const void *data, size_t len) {
        const uint8_t *p = data;

        if (!p) {
                fputc('?', out);
                return;
        }
        while (len > 0) {
                uint32_t code = 0;
                size_t n = utf8_char(p, len, &code), step = n > 0 ? n : 1;

                if (n > 0 && !is_control(code))
                        fwrite(p, 1, n, out);
                else
                        for (size_t i = 0; i < step; i++)
                                fprintf(out, "\\x%02x", p[i]);
                p += step;
                len -= step;
        }
}

void print_text(FILE *out, const char *text) {
        print_bytes(out, text, text ? strlen(text) : 0);
}

const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]) {
        static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double value = (double)bytes / 1024;
        size_t unit = 0;

        if (bytes < 1024) {
                snprintf(buf, SIZE_TEXT_MAX, "%u B", (unsigned)bytes);
                return buf;
        }
        while (value >= 999.5 && unit + 1 < ELEMENTSOF(units)) {
                value /= 1024;
                unit++;
        }
        snprintf(buf, SIZE_TEXT_MAX, "%.*f %s", value < 9.95 && value != (double)(uint64_t)value ? 1 : 0,
                 value, units[unit]);
        return buf;
}
