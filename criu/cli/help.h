/* SPDX-License-Identifier: GPL-2.0-only */
/* --help, and what the manual page (scripts/gen-man.c) needs of the option table. */
#pragma once

#include <stdio.h>

#include "cli/options.h"

/* Options are shown in groups, each option in the first one that fits. */
enum option_group {
        OPTION_GROUP_COMMON,
        OPTION_GROUP_DUMP_RESTORE,
        OPTION_GROUP_DUMP,
        OPTION_GROUP_RESTORE,
        OPTION_GROUP_CHECK,
        OPTION_GROUP_INSPECT,
        OPTION_GROUP_OTHER,
        OPTION_GROUP_MAX,
        OPTION_GROUP_INVALID = -1,
};

const char *option_group_title(enum option_group group);
enum option_group option_group_of(const struct option_desc *desc);

/* "--timeout SECONDS", "--manage-cgroups[=MODE]", "--no-default-config", with `short_form` also
 * the "-t, ", cut off at `size`. Returns buf. */
const char *option_form(const struct option_desc *desc, bool short_form, char *buf, size_t size);

/* The help text and what the table knows besides ("Also for check.", "Not supported yet: ...").
 * The caller frees it; NULL when there is no memory. */
char *option_help(const struct option_desc *desc);

/* Help for one command, or for everything (COMMAND_INVALID), in 80 columns. */
void help_print(FILE *f, enum command_id command);
