/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/timers.h"

#include <signal.h>

#include "macro.h"
#include "proc/scan.h"

#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif

static const struct {
        const char *word;
        int notify;
} notify_words[] = { { "signal/", SIGEV_SIGNAL }, { "none/", SIGEV_NONE }, { "thread/", SIGEV_THREAD } };

static bool scan_notify(struct scan *s, struct proc_timer *timer) {
        for (size_t i = 0; i < ELEMENTSOF(notify_words); i++) {
                if (!scan_lit(s, notify_words[i].word))
                        continue;
                timer->notify = notify_words[i].notify;
                timer->by_tid = scan_lit(s, "tid.");
                if (timer->by_tid)
                        timer->notify |= SIGEV_THREAD_ID;
                else if (!scan_lit(s, "pid."))
                        return false;
                return scan_i32(s, &timer->target);
        }
        return false;
}

/* Four lines: ID: 1; signal: 34/0000deadbeef1234; notify: signal/tid.4790; ClockID: 0 */
static bool scan_timer(struct scan *s, struct proc_timer *timer) {
        struct scan line;

        if (!scan_line(s, &line) || !scan_lit(&line, "ID: ") || !scan_i32(&line, &timer->id) ||
            !scan_at_end(&line))
                return false;
        if (!scan_line(s, &line) || !scan_lit(&line, "signal: ") || !scan_i32(&line, &timer->signo) ||
            !scan_char(&line, '/'))
                return false;
        scan_lit(&line, "0x");
        if (!scan_hex64(&line, &timer->sival_ptr) || !scan_at_end(&line))
                return false;
        if (!scan_line(s, &line) || !scan_lit(&line, "notify: ") || !scan_notify(&line, timer) ||
            !scan_at_end(&line))
                return false;
        return scan_line(s, &line) && scan_lit(&line, "ClockID: ") && scan_i32(&line, &timer->clock_id) &&
               scan_at_end(&line) && timer->id >= 0;
}

static int compare_id(const void *a, const void *b) {
        const struct proc_timer *x = a, *y = b;

        return (x->id > y->id) - (x->id < y->id);
}

int proc_timers_parse(const char *text, size_t len, struct proc_timer_vec *ret) {
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec vec = { 0 };
        struct scan s = scan_text(text, len);

        while (!scan_at_end(&s)) {
                struct proc_timer *timer = proc_timer_vec_add(&vec);

                if (!timer)
                        return -ENOMEM;
                if (!scan_timer(&s, timer))
                        return -EBADMSG;
        }
        if (vec.n)
                qsort(vec.v, vec.n, sizeof(*vec.v), compare_id);
        for (size_t i = 1; i < vec.n; i++)
                if (vec.v[i].id == vec.v[i - 1].id)
                        return -EBADMSG;
        proc_timer_vec_done(ret);
        *ret = vec;
        vec = (struct proc_timer_vec){ 0 };
        return 0;
}

int proc_timers_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_timer_vec *ret) {
        int r = proc_read(dir, "timers", buf);

        return r < 0 ? r : proc_timers_parse(buf->data, buf->len, ret);
}
