/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cleanup.h"
#include "lib/io.h"

#define CONFIG_FILE_MAX (1024 * 1024)

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r';
}

/*
 * Cut the next word off *line, in place. Returns 1 and *ret, 0 at the end of the line or at a
 * comment, -EINVAL for a quote that is not closed.
 */
static int next_word(char **line, char **ret) {
        char *from = *line, *to, *word, quote = 0;

        while (is_blank(*from))
                from++;
        *line = from;
        if (!*from || *from == '#')
                return 0;

        for (word = to = from; *from && (quote || !is_blank(*from)); from++) {
                if (quote ? *from == quote : *from == '"' || *from == '\'') {
                        quote = quote ? 0 : *from;
                        continue;
                }
                if (*from == '\\' && quote != '\'' && from[1])
                        from++;
                *to++ = *from;
        }
        if (quote)
                return -EINVAL;

        *line = *from ? from + 1 : from;
        *to = '\0';
        *ret = word;
        return 1;
}

static int parse_line(char *line, enum option_source source, struct ckpt_options *opts,
                      struct ckpt_error *err) {
        char *name = NULL, *value = NULL, *extra = NULL;
        enum option_id id;
        bool negated;
        int r;

        r = next_word(&line, &name);
        if (r == 0)
                return 0;
        if (r > 0)
                r = next_word(&line, &value);
        if (r > 0)
                r = next_word(&line, &extra);
        if (r < 0)
                return ckpt_error(err, r, "a quote is not closed");
        if (extra)
                return ckpt_error(err, -EINVAL,
                                  "'%s' is too much after the value of '%s'; put quotes around "
                                  "a value with spaces",
                                  extra, name);

        id = option_find(name, &negated);
        if (id == OPTION_INVALID)
                return ckpt_error(err, -EINVAL, "unknown option '%s'%s", name,
                                  name[0] == '-' ? " (options stand here without dashes)" : "");
        if (option_desc(id)->commands & OPTION_CMDLINE)
                return ckpt_error(err, -EINVAL, "option '%s' is possible on the command line only", name);
        return ckpt_options_set(opts, id, negated, value, source, err);
}

static int parse_text(const char *path, char *text, enum option_source source, struct ckpt_options *opts,
                      struct ckpt_error *err) {
        unsigned number = 0;

        for (char *next, *line = text; line; line = next) {
                int r;

                number++;
                next = strchr(line, '\n');
                if (next)
                        *next++ = '\0';

                r = parse_line(line, source, opts, err);
                if (r < 0) {
                        ckpt_error_prefix(err, "%s:%u", path, number);
                        return r;
                }
        }
        return 0;
}

int config_read(const char *path, bool optional, enum option_source source, struct ckpt_options *opts,
                struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 && optional && (errno == ENOENT || errno == ENOTDIR))
                return 0;
        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot read the configuration file %s", path);

        r = read_all(fd, CONFIG_FILE_MAX, &text, &size);
        if (r == -EFBIG)
                return ckpt_error(err, r, "%s is too big for a configuration file", path);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read the configuration file %s", path);
        if (memchr(text, '\0', size))
                return ckpt_error(err, -EINVAL, "%s is not a configuration file: there are zero bytes in it",
                                  path);

        if (!opts->source_file[source]) {
                opts->source_file[source] = strdup(path);
                if (!opts->source_file[source])
                        return ckpt_error_errno(err, -ENOMEM, "cannot read the configuration file %s", path);
        }
        return parse_text(path, text, source, opts, err);
}
