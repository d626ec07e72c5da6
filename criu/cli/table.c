/* SPDX-License-Identifier: GPL-2.0-only */
/* The tables made from options.def and cmd/commands.def, and looking things up in them. */
#include <string.h>

#include "cli/options.h"
#include "macro.h"

#define READY       NULL
#define LATER(text) text

#define FOR(id) (1U << COMMAND_##id)
#define ALL     ((1U << COMMAND_MAX) - 1)
#define CMDLINE OPTION_CMDLINE

/* clang-format off */
#define NOTHING                     { .initial = 0 }
#define ON                          { .initial = 1 }
#define RANGE(initial_, min_, max_) { .initial = (initial_), .min = (min_), .max = (max_) }
#define CHOICES(initial_, words)    { .initial = (initial_), .choices = (words) }
#define RPC(name, number)           name, number
#define NO_RPC                      NULL, 0

_Static_assert(COMMAND_MAX < 31, "the commands and OPTION_CMDLINE share 32 bits");

/* The column rpc expands to two initializers, hence the second step. */
#define ROW(...) { __VA_ARGS__ }
#define OPTION(field, name, short_name, kind, commands, metavar, value, rpc, status, help)                  \
        [OPTION_##field] = ROW(name, short_name, OPTION_KIND_##kind, commands, metavar, value, rpc, status, \
                               help, offsetof(struct ckpt_options, field)),
#define RPC_OPTION(field, kind, commands, value, rpc, status, help)                                         \
        [OPTION_##field] = ROW(NULL, 0, OPTION_KIND_##kind, commands, NULL, value, rpc, status, help,       \
                               offsetof(struct ckpt_options, field)),
/* clang-format on */

static const struct option_desc options[OPTION_MAX] = {
#include "options.def"
};

static const struct {
        const char *name, *missing, *summary;
} commands[COMMAND_MAX] = {
#define COMMAND(id, name, function, status, summary) [COMMAND_##id] = { name, status, summary },
#include "cmd/commands.def"
#undef COMMAND
};

const struct option_desc *option_desc(enum option_id id) {
        ckpt_assert(id >= 0 && id < OPTION_MAX);
        return &options[id];
}

static enum option_id find_exact(const char *name) {
        for (enum option_id id = 0; id < OPTION_MAX; id++)
                if (options[id].name && strcmp(options[id].name, name) == 0)
                        return id;
        return OPTION_INVALID;
}

enum option_id option_find(const char *name, bool *ret_negated) {
        enum option_id id = find_exact(name);

        if (id != OPTION_INVALID) {
                *ret_negated = false;
                return id;
        }
        if (strncmp(name, "no-", 3) != 0)
                return OPTION_INVALID;

        id = find_exact(name + 3);
        if (id == OPTION_INVALID || options[id].kind != OPTION_KIND_BOOL)
                return OPTION_INVALID;
        *ret_negated = true;
        return id;
}

enum option_id option_find_short(char c) {
        for (enum option_id id = 0; c && id < OPTION_MAX; id++)
                if (options[id].short_name == c)
                        return id;
        return OPTION_INVALID;
}

enum command_id command_find(const char *name) {
        for (enum command_id id = 0; id < COMMAND_MAX; id++)
                if (strcmp(commands[id].name, name) == 0)
                        return id;
        return COMMAND_INVALID;
}

const char *command_name(enum command_id id) {
        ckpt_assert(id >= 0 && id < COMMAND_MAX);
        return commands[id].name;
}

const char *command_summary(enum command_id id) {
        ckpt_assert(id >= 0 && id < COMMAND_MAX);
        return commands[id].summary;
}

const char *command_missing(enum command_id id) {
        ckpt_assert(id >= 0 && id < COMMAND_MAX);
        return commands[id].missing;
}
