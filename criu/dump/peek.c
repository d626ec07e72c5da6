/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/model.h"
#include "log.h"

static struct peek *open_peek(struct dump *d) {
        if (!d->peek_tried && peek_open(d->bpf, &d->peek) < 0)
                log_debug("the kernel's memory cannot be read with BPF here");
        d->peek_tried = true;
        return d->peek;
}

struct peek *dump_peek_for(struct dump *d, enum dump_peek_use use, bool (*prove)(struct peek *p, void *arg),
                           void *arg) {
        struct peek *p;
        bool proved;

        pthread_mutex_lock(&d->peek_lock);
        p = open_peek(d);
        if (p && !d->peek_uses[use].tried)
                d->peek_uses[use].proved = prove(p, arg);
        d->peek_uses[use].tried = true;
        proved = d->peek_uses[use].proved;
        pthread_mutex_unlock(&d->peek_lock);
        return proved ? p : NULL;
}
