/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/kind.h"
#include "log.h"

struct peek *dump_peek(struct dump *d) {
        struct dump_files *files = dump_files(d);

        pthread_mutex_lock(&files->lock);
        if (!d->peek_tried && peek_open(&d->peek) < 0)
                log_debug("the kernel's memory cannot be read with BPF here");
        d->peek_tried = true;
        pthread_mutex_unlock(&files->lock);
        return d->peek;
}
