/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Options, as criu/options.def lists them: from the command line and from configuration files
 * into one struct, owned by main() and passed explicitly, read-only, to everyone else.
 *
 * Later sources win over earlier ones: /etc/ckpt/default.conf, ~/.ckpt/default.conf, the file
 * named by $CKPT_CONFIG_FILE, --config FILE, the command line. Repeated options add up.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "vec.h"

enum command_id {
#define COMMAND(id, name, function, status, summary) COMMAND_##id,
#include "cmd/commands.def"
#undef COMMAND
        COMMAND_MAX,
        COMMAND_INVALID = -1,
};

enum option_id {
#define OPTION(field, ...)     OPTION_##field,
#define RPC_OPTION(field, ...) OPTION_##field,
#include "options.def"
#undef OPTION
#undef RPC_OPTION
        OPTION_MAX,
        OPTION_INVALID = -1,
};

enum option_kind {
        OPTION_KIND_BOOL,
        OPTION_KIND_INT,
        OPTION_KIND_SIZE,
        OPTION_KIND_STRING,
        OPTION_KIND_LIST,
        OPTION_KIND_FDS,
        OPTION_KIND_OPTIONAL,
        OPTION_KIND_CHOICE,
        OPTION_KIND_LEVEL,
        OPTION_KIND_MAX,
        OPTION_KIND_INVALID = -1,
};

/* In the order of precedence. */
enum option_source {
        OPTION_SOURCE_DEFAULT,
        OPTION_SOURCE_SYSTEM_FILE,
        OPTION_SOURCE_HOME_FILE,
        OPTION_SOURCE_ENV_FILE,
        OPTION_SOURCE_CONFIG_FILE,
        OPTION_SOURCE_COMMAND_LINE,
        OPTION_SOURCE_MAX,
        OPTION_SOURCE_INVALID = -1,
};

DEFINE_VEC(option_strings, char *);
DEFINE_VEC(option_ints, int);

struct option_text {
        bool given;
        char *text; /* NULL when given without one */
};

/* The words of CHOICE options, in the order of options.def. */
enum file_validation { FILE_VALIDATION_FILESIZE, FILE_VALIDATION_BUILDID };
enum network_lock { NETWORK_LOCK_NFTABLES, NETWORK_LOCK_IPTABLES, NETWORK_LOCK_SKIP };
enum pre_dump_mode { PRE_DUMP_MODE_SPLICE, PRE_DUMP_MODE_READ };

#define OPTION_TYPE_BOOL     bool
#define OPTION_TYPE_INT      int
#define OPTION_TYPE_SIZE     uint64_t
#define OPTION_TYPE_STRING   char *
#define OPTION_TYPE_LIST     struct option_strings
#define OPTION_TYPE_FDS      struct option_ints
#define OPTION_TYPE_OPTIONAL struct option_text
#define OPTION_TYPE_CHOICE   int
#define OPTION_TYPE_LEVEL    int

/* One member per row of options.def (`opts->leave_running`, `opts->timeout`), and the rest. */
struct ckpt_options {
#define OPTION(field, name, short_name, kind, ...) OPTION_TYPE_##kind field;
#define RPC_OPTION(field, kind, ...)               OPTION_TYPE_##kind field;
#include "options.def"
#undef OPTION
#undef RPC_OPTION

        enum command_id command;    /* COMMAND_INVALID: none was given */
        struct option_strings args; /* what follows the command, without options */

        uint8_t source[OPTION_MAX];           /* enum option_source of each row */
        char *source_file[OPTION_SOURCE_MAX]; /* paths of the configuration files that were read */
};

struct option_value {
        int64_t initial, min, max;
        const char *choices; /* CHOICE: "a|?b" */
};

/* A row of options.def. */
struct option_desc {
        const char *name; /* NULL: RPC only */
        char short_name;  /* 0: none */
        enum option_kind kind;
        uint32_t commands; /* bits 1 << COMMAND_x, OPTION_CMDLINE */
        const char *metavar;
        struct option_value value;
        const char *rpc_name; /* NULL: not in criu_opts */
        int rpc_number;
        const char *missing; /* NULL: implemented; otherwise what is missing */
        const char *help;
        size_t offset; /* in struct ckpt_options */
};

/* Only on the command line, not in a configuration file. */
#define OPTION_CMDLINE (1U << 31)

/* The row of an option; `id` below OPTION_MAX. */
const struct option_desc *option_desc(enum option_id id);

/* The ID of the option `name` (without dashes); *ret_negated tells whether it was --no-NAME.
 * OPTION_INVALID when there is none. */
enum option_id option_find(const char *name, bool *ret_negated);
enum option_id option_find_short(char c);

/* Find a command by its name, COMMAND_INVALID when there is none. */
enum command_id command_find(const char *name);
const char *command_name(enum command_id id);
const char *command_summary(enum command_id id);
/* NULL, or what is missing before the command can be used. */
const char *command_missing(enum command_id id);

/* Was the option given anywhere (and not left at its default)? */
static inline bool option_given(const struct ckpt_options *opts, enum option_id id) {
        return opts->source[id] != OPTION_SOURCE_DEFAULT;
}

/* Fill in the defaults. */
void ckpt_options_init(struct ckpt_options *opts);

/* Free what *opts owns. */
void ckpt_options_done(struct ckpt_options *opts);
#define _cleanup_options_ __attribute__((cleanup(ckpt_options_done)))

/*
 * Set one option from a text. `value` is NULL where none was written; `negated` for --no-NAME.
 * Returns 0, -EINVAL, -ERANGE or -ENOMEM with an error that names the option.
 */
int ckpt_options_set(struct ckpt_options *opts, enum option_id id, bool negated, const char *value,
                     enum option_source source, struct ckpt_error *err);

/* Where configuration comes from besides the command line; NULL members are skipped. */
struct option_env {
        const char *system_file; /* /etc/ckpt/default.conf */
        const char *home;        /* $HOME, for .ckpt/default.conf in it */
        const char *config_file; /* $CKPT_CONFIG_FILE */
};

/*
 * Parse the command line (argv[0] is skipped) and the configuration files it allows.
 * Configuration files are not read when --help or --version is given. Returns 0 and *ret,
 * which the caller frees with ckpt_options_done(), or a negative errno.
 */
int ckpt_options_parse(int argc, char *const argv[], const struct option_env *env, struct ckpt_options *ret,
                       struct ckpt_error *err);

/*
 * Does opts->command take each option of the command line, and is each option that was given
 * implemented? In configuration files, options of other commands are left alone. Returns 0 or
 * -EINVAL or -EOPNOTSUPP.
 */
int ckpt_options_check(const struct ckpt_options *opts, struct ckpt_error *err);
