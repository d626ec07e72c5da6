/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/model.h"
#include "log.h"

struct peek *dump_peek(struct dump *d) {
        pthread_mutex_lock(&d->peek_lock);
        if (!d->peek_tried && peek_open(&d->peek) < 0)
                log_debug("the kernel's memory cannot be read with BPF here");
        d->peek_tried = true;
        pthread_mutex_unlock(&d->peek_lock);
        return d->peek;
}
