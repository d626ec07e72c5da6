/* SPDX-License-Identifier: GPL-2.0-only */
/* Interval timers: getitimer(2), setitimer(2). */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "task/internal.h"
#include "task/timers.h"

enum { NR_ITIMERS = 3, USEC_PER_SEC = 1000000 };

/* ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF are 0, 1 and 2. */
static Img__Itimer **slot(Img__TaskTimers *timers, int which) {
        Img__Itimer **slots[NR_ITIMERS] = { &timers->real, &timers->virt, &timers->prof };

        return slots[which];
}

const struct itimerval *itimers_ask(struct compel_batch *b) {
        raddr_t at;
        struct itimerval *values;

        compel_room(b, NR_ITIMERS, NR_ITIMERS * sizeof(*values));
        values = compel_data(b, NR_ITIMERS * sizeof(*values), &at);
        for (int i = 0; i < NR_ITIMERS; i++)
                compel_call(b, "read its interval timers", SYS_getitimer, (uint64_t)i,
                            at + (uint64_t)i * sizeof(*values));
        return values;
}

void itimers_to_image(const struct itimerval *values, struct arena *a, Img__TaskTimers *ret) {
        for (int i = 0; i < NR_ITIMERS; i++) {
                Img__Itimer *image = arena_message(a, Img__Itimer, img__itimer__init);

                image->isec = (uint64_t)values[i].it_interval.tv_sec;
                image->iusec = (uint64_t)values[i].it_interval.tv_usec;
                image->vsec = (uint64_t)values[i].it_value.tv_sec;
                image->vusec = (uint64_t)values[i].it_value.tv_usec;
                *slot(ret, i) = image;
        }
}

static int check(struct restore_thread *t, struct ckpt_error *err) {
        Img__TaskTimers *timers = restore_task_core(t)->timers;

        for (int i = 0; timers && i < NR_ITIMERS; i++) {
                const Img__Itimer *image = *slot(timers, i);

                if (image->isec > INT64_MAX || image->vsec > INT64_MAX || image->iusec >= USEC_PER_SEC ||
                    image->vusec >= USEC_PER_SEC)
                        return ckpt_error(err, -EBADMSG, "%s has an interval timer that makes no sense",
                                          restore_task_name(t->task));
        }
        return 0;
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        Img__TaskTimers *timers = restore_task_core(t)->timers;

        for (int i = 0; timers && i < NR_ITIMERS; i++) {
                const Img__Itimer *image = *slot(timers, i);
                struct itimerval value = {
                        .it_interval = { .tv_sec = (time_t)image->isec,
                                         .tv_usec = (suseconds_t)image->iusec },
                        .it_value = { .tv_sec = (time_t)image->vsec, .tv_usec = (suseconds_t)image->vusec },
                };

                /*
                 * ITIMER_REAL stands still from the moment it fires until its signal is taken, and shows no time then:
                 * let it fire again, which adds nothing to the signal that is pending.
                 */
                if (i == ITIMER_REAL && image->vsec == 0 && image->vusec == 0 &&
                    (image->isec || image->iusec) && signal_is_pending(t->task, SIGALRM))
                        value.it_value.tv_usec = 1;
                if (value.it_value.tv_sec == 0 && value.it_value.tv_usec == 0)
                        continue;
                compel_call(b, "set its interval timers", SYS_setitimer, (uint64_t)i,
                            compel_copy(b, &value, sizeof(value)), 0);
        }
        return 0;
}

const struct task_kind kind_itimers = {
        .name = "interval timers",
        .phase = TASK_PHASE_LAST,
        .check = check,
        .restore = restore,
};
