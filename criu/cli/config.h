/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Configuration files: one `option value` per line, the long name without dashes; '#' starts a
 * comment; values with spaces stand in single or double quotes, in the latter and outside of
 * quotes a backslash takes the next character literally.
 */
#pragma once

#include "cli/options.h"

/*
 * Read the configuration file `path` into *opts. With `optional`, a file that does not exist is
 * no error. Errors name the file and the line.
 */
int config_read(const char *path, bool optional, enum option_source source, struct ckpt_options *opts,
                struct ckpt_error *err);
