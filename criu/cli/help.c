/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/help.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "macro.h"

#define WIDTH  80
#define INDENT 26

#define FOR(id) (1U << COMMAND_##id)
#define ALL     ((1U << COMMAND_MAX) - 1)

static const struct {
        const char *title;
        uint32_t all, any; /* an option fits that has all of `all` and one of `any` */
} groups[OPTION_GROUP_MAX] = {
        [OPTION_GROUP_COMMON] = { "Options of all commands", ALL, ALL },
        [OPTION_GROUP_DUMP_RESTORE] = { "Options of dump, pre-dump and restore", FOR(DUMP) | FOR(RESTORE),
                                        ALL },
        [OPTION_GROUP_DUMP] = { "Options of dump and pre-dump", 0, FOR(DUMP) | FOR(PRE_DUMP) },
        [OPTION_GROUP_RESTORE] = { "Options of restore", FOR(RESTORE), ALL },
        [OPTION_GROUP_CHECK] = { "Options of check", FOR(CHECK), ALL },
        [OPTION_GROUP_INSPECT] = { "Options of inspect", FOR(INSPECT), ALL },
        [OPTION_GROUP_OTHER] = { "Options of other commands", 0, ALL },
};

const char *option_group_title(enum option_group group) {
        ckpt_assert(group >= 0 && group < OPTION_GROUP_MAX);
        return groups[group].title;
}

enum option_group option_group_of(const struct option_desc *desc) {
        uint32_t mask = desc->commands & ALL;

        for (enum option_group g = 0; g < OPTION_GROUP_MAX; g++)
                if ((mask & groups[g].all) == groups[g].all && (mask & groups[g].any))
                        return g;
        return OPTION_GROUP_OTHER;
}

const char *option_form(const struct option_desc *desc, bool short_form, char *buf, size_t size) {
        bool no = desc->kind == OPTION_KIND_BOOL && desc->value.initial;
        char letter[8] = "";

        if (short_form && desc->short_name)
                snprintf(letter, sizeof(letter), "-%c, ", desc->short_name);
        if (desc->kind == OPTION_KIND_OPTIONAL)
                snprintf(buf, size, "%s--%s[=%s]", letter, desc->name, desc->metavar);
        else
                snprintf(buf, size, "%s--%s%s%s%s", letter, no ? "no-" : "", desc->name,
                         desc->metavar ? " " : "", desc->metavar ?: "");
        return buf;
}

char *option_help(const struct option_desc *desc) {
        enum option_group group = option_group_of(desc);
        bool also_check =
                (desc->commands & FOR(CHECK)) && group != OPTION_GROUP_COMMON && group != OPTION_GROUP_CHECK;
        char *text;

        if (asprintf(&text, "%s%s%s%s%s", desc->help, also_check ? " Also for check." : "",
                     desc->missing ? " Not supported yet: " : "", desc->missing ?: "",
                     desc->missing ? "." : "") < 0)
                return NULL;
        return text;
}

/* Print `text` in words, from column `column` on, further lines indented. */
static void print_wrapped(FILE *f, const char *text, size_t column, size_t indent) {
        while (*text) {
                size_t length = strcspn(text, " ");

                if (column > indent && column + 1 + length > WIDTH) {
                        fprintf(f, "\n%*s", (int)indent, "");
                        column = indent;
                } else if (column > indent) {
                        fputc(' ', f);
                        column++;
                }
                fprintf(f, "%.*s", (int)length, text);
                column += length;
                text += length;
                text += strspn(text, " ");
        }
        fputc('\n', f);
}

static void print_option(FILE *f, const struct option_desc *desc, bool one_command) {
        _cleanup_free_ char *text = one_command ? NULL : option_help(desc);
        char form[80];
        int column;

        column = fprintf(f, "  %s%s", desc->short_name ? "" : "    ",
                         option_form(desc, true, form, sizeof(form)));
        if (column < 0)
                return;
        if (column + 2 > INDENT)
                fprintf(f, "\n%*s", INDENT, "");
        else
                fprintf(f, "%*s", INDENT - column, "");
        print_wrapped(f, text ?: desc->help, INDENT, INDENT);
}

/* The rows of one group, or of all but the common one (OPTION_GROUP_INVALID). */
static bool is_shown(const struct option_desc *desc, enum option_group group, uint32_t commands) {
        enum option_group own = option_group_of(desc);

        if (!desc->name || !(desc->commands & commands))
                return false;
        return group == OPTION_GROUP_INVALID ? own != OPTION_GROUP_COMMON : own == group;
}

static void print_options(FILE *f, enum option_group group, uint32_t commands, const char *title) {
        bool one_command = commands != ALL, later = false, first = true;
        size_t column = 0;

        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);

                if (!is_shown(desc, group, commands))
                        continue;
                if (first)
                        fprintf(f, "\n%s:\n", title);
                first = false;
                later |= desc->missing != NULL;
                if (!desc->missing)
                        print_option(f, desc, one_command);
        }

        /* What is refused anyway needs no more than its name here; the manual page has the rest. */
        for (enum option_id id = 0; later && id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);
                char form[80];

                if (!desc->missing || !is_shown(desc, group, commands))
                        continue;
                option_form(desc, false, form, sizeof(form));
                form[strcspn(form, " [")] = '\0';
                if (column == 0)
                        column = (size_t)MAX(fprintf(f, "  Known, but not supported yet:"), 0);
                if (column + 1 + strlen(form) + 1 > WIDTH) {
                        fputs("\n   ", f);
                        column = 3;
                }
                column += (size_t)MAX(fprintf(f, " %s", form), 0);
        }
        if (later)
                fputc('\n', f);
}

static void print_commands(FILE *f) {
        fprintf(f, "\nCommands:\n");
        for (enum command_id id = 0; id < COMMAND_MAX; id++) {
                const char *missing = command_missing(id);
                int column = fprintf(f, "  %-12s ", command_name(id));
                _cleanup_free_ char *text = NULL;

                if (asprintf(&text, "%s%s", command_summary(id), missing ? " (not supported yet)" : "") < 0)
                        text = NULL;
                print_wrapped(f, text ?: command_summary(id), column < 0 ? 15 : (size_t)column, 15);
        }
}

static void print_all(FILE *f) {
        fprintf(f, "Usage: ckpt COMMAND [OPTIONS]\n\n"
                   "Stop a tree of processes, save it to image files, and bring it back later.\n");
        print_commands(f);
        for (enum option_group g = 0; g < OPTION_GROUP_MAX; g++)
                print_options(f, g, ALL, option_group_title(g));
}

static void print_command(FILE *f, enum command_id command) {
        const char *name = command_name(command), *words = "";
        char title[48];
        int column;

        if (command == COMMAND_SWRK)
                words = " FD";
        else if (command == COMMAND_CPUINFO)
                words = " dump|check";
        else if (command == COMMAND_RESTORE)
                words = " [--exec-cmd -- COMMAND [ARGUMENT...]]";

        fprintf(f, "Usage: ckpt %s [OPTIONS]%s\n\n", name, words);
        column = fprintf(f, "ckpt %s:", name);
        print_wrapped(f, command_summary(command), column < 0 ? 0 : (size_t)column, 0);
        if (command_missing(command))
                fprintf(f, "Not supported yet: %s.\n", command_missing(command));

        snprintf(title, sizeof(title), "Options of %s", name);
        print_options(f, OPTION_GROUP_INVALID, 1U << command, title);
        print_options(f, OPTION_GROUP_COMMON, 1U << command, option_group_title(OPTION_GROUP_COMMON));
}

void help_print(FILE *f, enum command_id command) {
        if (command == COMMAND_INVALID)
                print_all(f);
        else
                print_command(f, command);

        fputc('\n', f);
        print_wrapped(f,
                      "Options may stand before or after the command. Every option without a value can be "
                      "turned off again by --no-NAME. The exit status is 0 when everything is done, 1 when "
                      "it was refused or failed and nothing has changed.",
                      0, 0);
}
