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

struct peek *dump_peek_for(struct dump *d, enum dump_peek_use use, bool (*prove)(struct peek *p)) {
        struct peek *p = dump_peek(d);
        bool proved;

        pthread_mutex_lock(&d->peek_lock);
        if (p && !d->peek_uses[use].tried)
                d->peek_uses[use].proved = prove(p);
        d->peek_uses[use].tried = true;
        proved = d->peek_uses[use].proved;
        pthread_mutex_unlock(&d->peek_lock);
        return proved ? p : NULL;
}
