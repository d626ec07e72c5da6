/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gen-man TEMPLATE: print the manual page. Lines of the template that are @COMMANDS@ or
 * @OPTIONS@ are replaced by what the tables say, @VERSION@ by the version.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "cli/help.h"
#include "version.h"

/* Text for roff: dashes are minus signs, backslashes and dots at the start of a line are text. */
static void print_text(const char *text) {
        if (*text == '.' || *text == '\'')
                fputs("\\&", stdout);
        for (; *text; text++) {
                if (*text == '-')
                        fputs("\\-", stdout);
                else if (*text == '\\')
                        fputs("\\e", stdout);
                else
                        putchar(*text);
        }
}

static void print_commands(void) {
        for (enum command_id id = 0; id < COMMAND_MAX; id++) {
                printf(".TP\n.B ");
                print_text(command_name(id));
                putchar('\n');
                print_text(command_summary(id));
                putchar('.');
                if (command_missing(id)) {
                        fputs(" Not supported yet: ", stdout);
                        print_text(command_missing(id));
                        putchar('.');
                }
                putchar('\n');
        }
}

static int print_option(const struct option_desc *desc) {
        _cleanup_free_ char *text = option_help(desc);
        char form[80], *value;

        if (!text)
                return -1;
        option_form(desc, true, form, sizeof(form));
        value = strstr(form, "--");
        value += strcspn(value, " [");

        printf(".TP\n\\fB");
        if (*value) {
                char separator = *value;

                *value = '\0';
                print_text(form);
                printf("\\fR%c\\fI", separator);
                print_text(value + 1);
        } else
                print_text(form);
        printf("\\fR\n");
        print_text(text);
        putchar('\n');
        return 0;
}

static int print_options(void) {
        for (enum option_group g = 0; g < OPTION_GROUP_MAX; g++) {
                bool first = true;

                for (enum option_id id = 0; id < OPTION_MAX; id++) {
                        const struct option_desc *desc = option_desc(id);

                        if (!desc->name || option_group_of(desc) != g)
                                continue;
                        if (first)
                                printf(".SS %s\n", option_group_title(g));
                        first = false;
                        if (print_option(desc) < 0)
                                return -1;
                }
        }
        return 0;
}

static int print_line(const char *line) {
        const char *version = strstr(line, "@VERSION@");

        if (strcmp(line, "@COMMANDS@\n") == 0) {
                print_commands();
                return 0;
        }
        if (strcmp(line, "@OPTIONS@\n") == 0)
                return print_options();
        if (version)
                printf("%.*s%s%s", (int)(version - line), line, CKPT_VERSION, version + strlen("@VERSION@"));
        else
                fputs(line, stdout);
        return 0;
}

int main(int argc, char *argv[]) {
        _cleanup_fclose_ FILE *template = argc == 2 ? fopen(argv[1], "re") : NULL;
        _cleanup_free_ char *line = NULL;
        size_t size = 0;

        if (!template) {
                fprintf(stderr, "gen-man: cannot read the template; usage: gen-man TEMPLATE\n");
                return EXIT_FAILURE;
        }
        while (getline(&line, &size, template) >= 0)
                if (print_line(line) < 0)
                        return EXIT_FAILURE;
        return ferror(template) || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
