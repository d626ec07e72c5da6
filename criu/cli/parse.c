/* SPDX-License-Identifier: GPL-2.0-only */
/* The command line. Not getopt_long(): that one accepts abbreviations, which change their
 * meaning as options are added, and cannot tell a missing value from a following option. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "cli/config.h"
#include "cli/options.h"
#include "macro.h"

struct parser {
        int argc;
        char *const *argv;
        int next;       /* index of the next word */
        bool only_args; /* after "--" */
        struct ckpt_options *opts;
        struct ckpt_error *err;
};

/* Number of edits (insert, delete, replace) between two names; both are cut off at 31 bytes. */
static unsigned edit_distance(const char *a, const char *b) {
        size_t na = strnlen(a, 31), nb = strnlen(b, 31);
        unsigned row[32];

        for (size_t j = 0; j <= nb; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; i <= na; i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= nb; j++) {
                        unsigned replace = diagonal + (a[i - 1] != b[j - 1]);
                        unsigned shift = MIN(row[j], row[j - 1]) + 1;

                        diagonal = row[j];
                        row[j] = MIN(replace, shift);
                }
        }
        return row[nb];
}

static int unknown_option(struct parser *p, const char *name) {
        enum option_id best = OPTION_INVALID;
        unsigned best_distance = 4;

        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const char *other = option_desc(id)->name;
                unsigned distance;

                if (!other)
                        continue;
                /* An abbreviation is as good as one wrong letter. */
                distance = strlen(name) > 2 && strncmp(other, name, strlen(name)) == 0
                                   ? 1
                                   : edit_distance(name, other);
                if (distance < best_distance && distance < strlen(other) / 2) {
                        best_distance = distance;
                        best = id;
                }
        }
        ckpt_error(p->err, -EINVAL, "unknown option --%.100s", name);
        if (best != OPTION_INVALID)
                return ckpt_error_hint(p->err, "Did you mean --%s?", option_desc(best)->name);
        return ckpt_error_hint(p->err, "See ckpt --help");
}

/* The next word as a value, NULL when there is none or when it is an option itself. */
static const char *take_value(struct parser *p, const struct option_desc *desc) {
        bool number = desc->kind == OPTION_KIND_INT || desc->kind == OPTION_KIND_SIZE ||
                      desc->kind == OPTION_KIND_FDS || desc->kind == OPTION_KIND_LEVEL;
        const char *word;

        if (p->next >= p->argc)
                return NULL;
        word = p->argv[p->next];
        /* "-5" is a number out of range, rather than a missing one. */
        if (word[0] == '-' && word[1] && !(number && isdigit((unsigned char)word[1])))
                return NULL;
        p->next++;
        return word;
}

static int parse_long(struct parser *p, const char *word) {
        const char *equals = strchr(word, '='), *value = equals ? equals + 1 : NULL;
        _cleanup_free_ char *name = NULL;
        const struct option_desc *desc;
        enum option_id id;
        bool negated;

        name = strndup(word, equals ? (size_t)(equals - word) : strlen(word));
        if (!name)
                return ckpt_error_errno(p->err, -ENOMEM, "--%.100s", word);
        id = option_find(name, &negated);
        if (id == OPTION_INVALID)
                return unknown_option(p, name);

        desc = option_desc(id);
        if (!value && desc->kind != OPTION_KIND_BOOL && desc->kind != OPTION_KIND_OPTIONAL)
                value = take_value(p, desc);
        return ckpt_options_set(p->opts, id, negated, value, OPTION_SOURCE_COMMAND_LINE, p->err);
}

/* -v, -vv: one more than the default for each; -v4: that level. Returns the rest of the bundle. */
static const char *parse_level(struct parser *p, enum option_id id, const char *rest, int *ret) {
        const struct option_desc *desc = option_desc(id);
        int *level = (int *)((char *)p->opts + desc->offset);
        size_t digits = strspn(rest, "0123456789");
        char text[24];

        if (digits > 0) {
                snprintf(text, sizeof(text), "%.*s", (int)MIN(digits, sizeof(text) - 1), rest);
                *ret = ckpt_options_set(p->opts, id, false, text, OPTION_SOURCE_COMMAND_LINE, p->err);
                return rest + digits;
        }

        if (p->opts->source[id] != OPTION_SOURCE_COMMAND_LINE)
                *level = (int)desc->value.initial;
        if (*level < desc->value.max)
                ++*level;
        p->opts->source[id] = OPTION_SOURCE_COMMAND_LINE;
        *ret = 0;
        return rest;
}

static int parse_bundle(struct parser *p, const char *bundle) {
        int r = 0;

        for (const char *c = bundle; *c && r == 0;) {
                enum option_id id = option_find_short(*c);
                const struct option_desc *desc;
                const char *value = NULL;

                if (id == OPTION_INVALID) {
                        ckpt_error(p->err, -EINVAL, "unknown option -%c%s%.100s", *c,
                                   bundle[1] ? " in -" : "", bundle[1] ? bundle : "");
                        return ckpt_error_hint(p->err, "See ckpt --help");
                }
                desc = option_desc(id);
                c++;
                if (desc->kind == OPTION_KIND_LEVEL) {
                        c = parse_level(p, id, c, &r);
                        continue;
                }
                if (desc->kind != OPTION_KIND_BOOL) {
                        value = *c ? c : take_value(p, desc);
                        c = "";
                }
                r = ckpt_options_set(p->opts, id, false, value, OPTION_SOURCE_COMMAND_LINE, p->err);
        }
        return r;
}

static int parse_positional(struct parser *p, const char *word) {
        _cleanup_free_ char *copy = NULL;
        int r;

        if (p->opts->command == COMMAND_INVALID) {
                p->opts->command = command_find(word);
                if (p->opts->command != COMMAND_INVALID)
                        return 0;
                ckpt_error(p->err, -EINVAL, "unknown command '%.100s'", word);
                return ckpt_error_hint(p->err, "See ckpt --help");
        }

        copy = strdup(word);
        r = copy ? option_strings_push(&p->opts->args, copy) : -ENOMEM;
        if (r < 0)
                return ckpt_error_errno(p->err, r, "cannot read the command line");
        TAKE_PTR(copy);
        return 0;
}

static int parse_words(struct parser *p) {
        while (p->next < p->argc) {
                const char *word = p->argv[p->next++];
                int r;

                if (p->only_args || word[0] != '-' || !word[1])
                        r = parse_positional(p, word);
                else if (word[1] != '-')
                        r = parse_bundle(p, word + 1);
                else if (word[2])
                        r = parse_long(p, word + 2);
                else {
                        p->only_args = true;
                        r = 0;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_command_line(int argc, char *const argv[], struct ckpt_options *opts,
                              struct ckpt_error *err) {
        struct parser p = { .argc = argc, .argv = argv, .next = 1, .opts = opts, .err = err };

        return parse_words(&p);
}

static int read_configs(const struct option_env *env, const struct ckpt_options *line,
                        struct ckpt_options *opts, struct ckpt_error *err) {
        int r = 0;

        if (line->default_config && env->system_file)
                r = config_read(env->system_file, true, OPTION_SOURCE_SYSTEM_FILE, opts, err);
        if (r == 0 && line->default_config && env->home && *env->home) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/.ckpt/default.conf", env->home) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "cannot read the configuration files");
                r = config_read(path, true, OPTION_SOURCE_HOME_FILE, opts, err);
        }
        if (r == 0 && env->config_file && *env->config_file) {
                r = config_read(env->config_file, false, OPTION_SOURCE_ENV_FILE, opts, err);
                if (r < 0)
                        ckpt_error_hint(err, "It is named by the environment variable CKPT_CONFIG_FILE");
        }
        if (r == 0 && line->config) {
                r = config_read(line->config, false, OPTION_SOURCE_CONFIG_FILE, opts, err);
                if (r < 0)
                        ckpt_error_hint(err, "It is named by --config");
        }
        return r;
}

int ckpt_options_parse(int argc, char *const argv[], const struct option_env *env, struct ckpt_options *ret,
                       struct ckpt_error *err) {
        _cleanup_options_ struct ckpt_options line, all;
        int r;

        /* The command line says which files to read and overrides them: it is parsed for itself,
         * and once more on top of the files. */
        ckpt_options_init(&line);
        ckpt_options_init(&all);
        r = parse_command_line(argc, argv, &line, err);
        if (r < 0)
                return r;
        if (!line.help && !line.version) {
                r = read_configs(env, &line, &all, err);
                if (r < 0)
                        return r;
        }
        r = parse_command_line(argc, argv, &all, err);
        if (r < 0)
                return r;

        *ret = all;
        ckpt_options_init(&all);
        return 0;
}
