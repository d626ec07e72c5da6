/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Logging. Levels follow the command line: -v0 nothing, -v1 errors, -v2 warnings,
 * -v3 information, -v4 debug. The sink is set once by main() before any thread starts
 * and only read afterwards; lines are written with one write(2) each, so that threads
 * and processes sharing the log file do not mix them.
 */
#pragma once

#include <stdbool.h>

enum log_level {
        LOG_LEVEL_NONE,
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARN,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG,
        LOG_LEVEL_MAX,
        LOG_LEVEL_INVALID = -1,
};

/*
 * Send log lines of `level` and below to `fd`, each with the time since this call in
 * seconds, and with the writer's pid if `with_pid`. The descriptor stays the caller's and
 * must stay open.
 */
void log_open(int fd, enum log_level level, bool with_pid);

/* Would a line of this level be written? Costs one load; guards expensive arguments. */
bool log_enabled(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_at(level, ...)                             \
        do {                                           \
                if (log_enabled(level))                \
                        log_write(level, __VA_ARGS__); \
        } while (0)

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
