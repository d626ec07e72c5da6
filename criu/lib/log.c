/* SPDX-License-Identifier: GPL-2.0-only */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/io.h"
#include "macro.h"

/* Set once before any thread starts, read only afterwards. */
static struct {
        int fd;
        enum log_level level;
        bool with_pid;
        struct timespec start;
} sink = { .fd = -1, .level = LOG_LEVEL_NONE };

static const char *const level_names[LOG_LEVEL_MAX] = {
        [LOG_LEVEL_NONE] = "", [LOG_LEVEL_ERROR] = "error: ", [LOG_LEVEL_WARN] = "warning: ",
        [LOG_LEVEL_INFO] = "", [LOG_LEVEL_DEBUG] = "debug: ",
};

void log_open(int fd, enum log_level level, bool with_pid) {
        ckpt_assert(level >= LOG_LEVEL_NONE && level < LOG_LEVEL_MAX);

        sink.fd = fd;
        sink.level = level;
        sink.with_pid = with_pid;
        clock_gettime(CLOCK_MONOTONIC, &sink.start);
}

bool log_enabled(enum log_level level) {
        return level <= sink.level;
}

static int line_head(char *buf, size_t size, enum log_level level) {
        struct timespec now;
        int64_t usec;
        int n;

        clock_gettime(CLOCK_MONOTONIC, &now);
        usec = (int64_t)(now.tv_sec - sink.start.tv_sec) * 1000000 +
               (now.tv_nsec - sink.start.tv_nsec) / 1000;
        if (usec < 0)
                usec = 0;

        n = snprintf(buf, size, "%4lld.%06lld ", (long long)(usec / 1000000), (long long)(usec % 1000000));
        if (sink.with_pid)
                n += snprintf(buf + n, size - (size_t)n, "[%d] ", (int)getpid());
        n += snprintf(buf + n, size - (size_t)n, "%s", level_names[level]);
        return n;
}

void log_write(enum log_level level, const char *fmt, ...) {
        char stack[1024], *line = stack, *heap = NULL;
        int saved = errno, head, body;
        size_t size = sizeof(stack), len;
        va_list ap;

        if (level <= LOG_LEVEL_NONE || level >= LOG_LEVEL_MAX || !log_enabled(level) || sink.fd < 0)
                return;

        head = line_head(stack, sizeof(stack), level);
        va_start(ap, fmt);
        body = vsnprintf(stack + head, sizeof(stack) - (size_t)head, fmt, ap);
        va_end(ap);
        if (body < 0) {
                errno = saved;
                return;
        }

        len = (size_t)head + (size_t)body;
        if (len + 1 > size) {
                heap = malloc(len + 2);
                if (heap) {
                        memcpy(heap, stack, (size_t)head);
                        va_start(ap, fmt);
                        vsnprintf(heap + head, (size_t)body + 1, fmt, ap);
                        va_end(ap);
                        line = heap;
                } else
                        len = size - 1;
        }

        if (len > (size_t)head && line[len - 1] == '\n')
                len--;
        /* Names that a target chose must neither forge a line nor reach a terminal as commands. */
        for (size_t i = (size_t)head; i < len; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = line[i] == '\n' ? ';' : '?';
        line[len] = '\n';

        /* Nobody is left to be told that the log cannot be written. */
        (void)write_full(sink.fd, line, len + 1);
        free(heap);
        errno = saved;
}
