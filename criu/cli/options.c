/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "cli/config.h"
#include "macro.h"

static void *option_field(struct ckpt_options *opts, const struct option_desc *desc) {
        return (char *)opts + desc->offset;
}

static void strings_done(struct option_strings *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->v[i]);
        option_strings_done(list);
}

void ckpt_options_init(struct ckpt_options *opts) {
        *opts = (struct ckpt_options){ .command = COMMAND_INVALID };
        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);
                void *field = option_field(opts, desc);

                if (desc->kind == OPTION_KIND_BOOL)
                        *(bool *)field = desc->value.initial;
                else if (desc->kind == OPTION_KIND_SIZE)
                        *(uint64_t *)field = (uint64_t)desc->value.initial;
                else if (desc->kind == OPTION_KIND_INT || desc->kind == OPTION_KIND_CHOICE ||
                         desc->kind == OPTION_KIND_LEVEL)
                        *(int *)field = (int)desc->value.initial;
        }
}

void ckpt_options_done(struct ckpt_options *opts) {
        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);
                void *field = option_field(opts, desc);

                if (desc->kind == OPTION_KIND_STRING)
                        free(*(char **)field);
                else if (desc->kind == OPTION_KIND_OPTIONAL)
                        free(((struct option_text *)field)->text);
                else if (desc->kind == OPTION_KIND_LIST)
                        strings_done(field);
                else if (desc->kind == OPTION_KIND_FDS)
                        option_ints_done(field);
        }
        strings_done(&opts->args);
        for (size_t i = 0; i < OPTION_SOURCE_MAX; i++)
                free(opts->source_file[i]);
        *opts = (struct ckpt_options){ .command = COMMAND_INVALID };
}

/* How messages name the option: "-t/--tree", "--timeout". */
struct label {
        char text[48];
};

static struct label option_label(const struct option_desc *desc) {
        struct label label;

        if (!desc->name)
                snprintf(label.text, sizeof(label.text), "%s", desc->rpc_name);
        else if (desc->short_name)
                snprintf(label.text, sizeof(label.text), "-%c/--%s", desc->short_name, desc->name);
        else
                snprintf(label.text, sizeof(label.text), "--%s", desc->name);
        return label;
}

/* The scale of a size's unit letter, 0 when there is no such unit. */
static uint64_t unit_scale(const char *unit) {
        static const struct {
                char letter;
                uint64_t scale;
        } units[] = { { 'k', 1ULL << 10 }, { 'm', 1ULL << 20 }, { 'g', 1ULL << 30 } };

        if (!*unit)
                return 1;
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if ((*unit | 0x20) == units[i].letter && !unit[1])
                        return units[i].scale;
        return 0;
}

/* Decimal digits, then for sizes a unit. strtoull would take signs, blanks and wrap around. */
static int parse_number(const struct option_desc *desc, const char *text, int64_t *ret,
                        struct ckpt_error *err) {
        bool size = desc->kind == OPTION_KIND_SIZE, negative = text[0] == '-', overflow = false;
        const char *p = text + negative;
        uint64_t value = 0, scale = 1;

        if (*p < '0' || *p > '9')
                p = "x";
        for (; *p >= '0' && *p <= '9'; p++)
                overflow |= __builtin_mul_overflow(value, 10, &value) ||
                            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
        if (size)
                scale = unit_scale(p);
        if (size ? !scale : *p)
                return ckpt_error(err, -EINVAL, "%s: '%s' is not a %s", option_label(desc).text, text,
                                  size ? "size such as 4096, 512K, 10M or 1G" : "number");

        overflow |= __builtin_mul_overflow(value, scale, &value);
        if (overflow || negative || value > INT64_MAX || (int64_t)value < desc->value.min ||
            (int64_t)value > desc->value.max)
                return ckpt_error(err, -ERANGE, "%s: %s is out of range, %lld to %lld are possible",
                                  option_label(desc).text, text, (long long)desc->value.min,
                                  (long long)desc->value.max);
        *ret = (int64_t)value;
        return 0;
}

static int parse_choice(const struct option_desc *desc, const char *text, int *ret, struct ckpt_error *err) {
        size_t length = strlen(text);
        int index = 0;

        for (const char *word = desc->value.choices, *end; word; word = *end ? end + 1 : NULL, index++) {
                bool missing = *word == '?';

                word += missing;
                end = strchrnul(word, '|');
                if ((size_t)(end - word) != length || memcmp(word, text, length) != 0)
                        continue;
                if (missing)
                        return ckpt_error(err, -EOPNOTSUPP, "%s %s is not supported yet",
                                          option_label(desc).text, text);
                *ret = index;
                return 0;
        }
        return ckpt_error(err, -EINVAL, "%s: '%s' is not one of %s", option_label(desc).text, text,
                          desc->value.choices);
}

static int set_number(const struct option_desc *desc, void *field, const char *text,
                      struct ckpt_error *err) {
        int64_t value = 0;
        int r;

        r = parse_number(desc, text, &value, err);
        if (r < 0)
                return r;
        if (desc->kind == OPTION_KIND_SIZE)
                *(uint64_t *)field = (uint64_t)value;
        else if (desc->kind == OPTION_KIND_FDS)
                return option_ints_push(field, (int)value);
        else
                *(int *)field = (int)value;
        return 0;
}

static int set_text(const struct option_desc *desc, void *field, const char *text) {
        _cleanup_free_ char *copy = text ? strdup(text) : NULL;
        char **place = field;
        int r;

        if (text && !copy)
                return -ENOMEM;
        if (desc->kind == OPTION_KIND_LIST) {
                r = option_strings_push(field, copy);
                if (r == 0)
                        TAKE_PTR(copy);
                return r;
        }
        if (desc->kind == OPTION_KIND_OPTIONAL) {
                struct option_text *optional = field;

                optional->given = true;
                place = &optional->text;
        }
        free(*place);
        *place = TAKE_PTR(copy);
        return 0;
}

static int set_value(const struct option_desc *desc, void *field, const char *value,
                     struct ckpt_error *err) {
        switch (desc->kind) {
        case OPTION_KIND_INT:
        case OPTION_KIND_SIZE:
        case OPTION_KIND_FDS:
        case OPTION_KIND_LEVEL:
                return set_number(desc, field, value, err);
        case OPTION_KIND_STRING:
        case OPTION_KIND_LIST:
        case OPTION_KIND_OPTIONAL:
                return set_text(desc, field, value);
        case OPTION_KIND_CHOICE:
                return parse_choice(desc, value, field, err);
        default:
                ckpt_assert(false);
        }
}

int ckpt_options_set(struct ckpt_options *opts, enum option_id id, bool negated, const char *value,
                     enum option_source source, struct ckpt_error *err) {
        const struct option_desc *desc = option_desc(id);
        void *field = option_field(opts, desc);
        int r;

        if (desc->kind == OPTION_KIND_BOOL) {
                if (value)
                        return ckpt_error(err, -EINVAL, "--%s%s does not take a value", negated ? "no-" : "",
                                          desc->name ?: desc->rpc_name);
                *(bool *)field = !negated;
                opts->source[id] = (uint8_t)source;
                return 0;
        }
        if (value ? !*value : desc->kind != OPTION_KIND_OPTIONAL)
                return ckpt_error(err, -EINVAL, "%s needs a value (%s)", option_label(desc).text,
                                  desc->metavar ?: "a number");

        r = set_value(desc, field, value, err);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s", option_label(desc).text);
        opts->source[id] = (uint8_t)source;
        return 0;
}

static int check_option(const struct ckpt_options *opts, enum option_id id, struct ckpt_error *err) {
        const struct option_desc *desc = option_desc(id);
        const char *file = opts->source_file[opts->source[id]];
        bool takes = desc->commands & (1U << opts->command);

        if (!takes && opts->source[id] != OPTION_SOURCE_COMMAND_LINE)
                return 0;
        if (!takes)
                return ckpt_error(err, -EINVAL, "%s is not an option of %s", option_label(desc).text,
                                  command_name(opts->command));

        /* A boolean that is at its default asks for nothing. */
        if (!desc->missing || (desc->kind == OPTION_KIND_BOOL &&
                               *(const bool *)((const char *)opts + desc->offset) == desc->value.initial))
                return 0;
        return ckpt_error(err, -EOPNOTSUPP, "%s is not supported yet: %s%s%s%s", option_label(desc).text,
                          desc->missing, file ? " (it is set in " : "", file ?: "", file ? ")" : "");
}

/* Of the keys of --external, unix[INODE] is carried over; all others are refused by name. */
static int check_external(const struct ckpt_options *opts, struct ckpt_error *err) {
        for (size_t i = 0; i < opts->external.n; i++) {
                const char *key = opts->external.v[i];
                size_t digits = strncmp(key, "unix[", 5) == 0 ? strspn(key + 5, "0123456789") : 0;

                if (digits > 0 && strcmp(key + 5 + digits, "]") == 0)
                        continue;
                ckpt_error(err, -EOPNOTSUPP, "--external %s is not supported yet", key);
                return ckpt_error_hint(err,
                                       "Only unix[INODE], a unix socket whose other end is outside, is");
        }
        return 0;
}

int ckpt_options_check(const struct ckpt_options *opts, struct ckpt_error *err) {
        ckpt_assert(opts->command != COMMAND_INVALID);

        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                int r = option_given(opts, id) ? check_option(opts, id, err) : 0;

                if (r < 0)
                        return r;
        }
        return check_external(opts, err);
}
