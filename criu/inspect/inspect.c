/* SPDX-License-Identifier: GPL-2.0-only */
#include "inspect/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "inspect/model.h"
#include "lib/thread.h"
#include "log.h"

/* The whole view in memory: damage is found before the first byte is printed. */
static int render(const struct ckpt_run *run, const struct inspect *in, char **ret, size_t *ret_size) {
        char *text = NULL;
        size_t size = 0;
        bool failed;
        FILE *out;

        out = open_memstream(&text, &size);
        if (!out)
                return -ENOMEM;
        if (run->opts->json)
                show_json(out, in);
        else
                show_text(out, in, run->opts->verbosity > LOG_LEVEL_WARN);
        failed = ferror(out);
        if (fclose(out) != 0 || failed) {
                free(text);
                return -ENOMEM;
        }
        *ret = text;
        *ret_size = size;
        return 0;
}

int inspect_run(struct ckpt_run *run) {
        _cleanup_(inspect_done) struct inspect in = { .path = run->images_dir, .err = &run->err };
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r;

        r = image_dir_open(run->images_dirfd, thread_cpus(), &in.dir, &run->err);
        if (r == 0)
                r = inspect_load(&in);
        if (r < 0)
                return r;
        r = render(run, &in, &text, &size);
        if (r < 0)
                return ckpt_error(&run->err, r, "not enough memory to show the checkpoint in %s", in.path);
        if (fwrite(text, 1, size, stdout) != size)
                return ckpt_error_errno(&run->err, errno ? -errno : -EIO, "cannot write to standard output");
        return 0;
}
