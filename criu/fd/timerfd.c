/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * timerfd_create(2). A timer's end is a moment on its clock. During the same boot, with the time of day, or where the clock
 * goes on from where it was, that moment is kept, as for a process that was stopped for a while; other boots have other
 * clocks, and what was left is left. In images the moment is on the tree's clock (ns/time.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "macro.h"
#include "ns/time.h"

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif
#define SET_TICKS _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS, 3.17 */

#define NS_PER_S 1000000000ULL
#define SEC_MAX  (INT64_MAX / NS_PER_S) /* KTIME_SEC_MAX: the kernel takes more for as much */

enum { BOOT_ID_SIZE = 40, READS_MAX = 5, NARROW_NS = 1000000 };

static bool read_boot_id(char ret[BOOT_ID_SIZE]) {
        _cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, ret, BOOT_ID_SIZE - 1);

        ret[n > 0 ? n : 0] = '\0';
        return n > 0;
}

/* On which clock its end stays where it is. CLOCK_*_ALARM cannot be read on machines without such a clock. */
static clockid_t clock_of(uint32_t clockid, uint32_t settime_flags) {
        switch (clockid) {
        case CLOCK_REALTIME:
                return settime_flags & TFD_TIMER_ABSTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        case CLOCK_REALTIME_ALARM:
                return CLOCK_REALTIME;
        case CLOCK_BOOTTIME:
        case CLOCK_BOOTTIME_ALARM:
                return CLOCK_BOOTTIME;
        default:
                return CLOCK_MONOTONIC;
        }
}

static uint64_t now_ns(clockid_t clock) {
        struct timespec ts = { 0 };

        clock_gettime(clock, &ts);
        return ts.tv_sec > 0 ? (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec : 0;
}

static bool is_zero(const struct timespec *ts) {
        return ts->tv_sec == 0 && ts->tv_nsec == 0;
}

static void timerfd_look(struct fd_probe *p, struct blockers *b) {
        pid_t outside;

        if (!anon_look(p, PROC_FDINFO_TIMERFD, b))
                return;
        outside = timerfd_foreign_holder(p);
        if (outside > 0)
                blocker_add(b, "Include that process in the tree, or end it",
                            "%s is a timerfd that pid %d, outside of the tree, has open as well",
                            fd_probe_name(p), outside);
        /* A single shot that is still to come has not fired: the tick is that of the cancellation. */
        if (p->info.timerfd.settime_flags & TFD_TIMER_CANCEL_ON_SET && p->info.timerfd.ticks > 0 &&
            is_zero(&p->info.timerfd.interval) && !is_zero(&p->info.timerfd.value))
                blocker_add(
                        b, "Try again when the program has read it",
                        "%s is a timerfd that a change of the clock has cancelled (TFD_TIMER_CANCEL_ON_SET), which "
                        "its program has not read yet",
                        fd_probe_name(p));
}

/* Between the reading of the timer and that of its clock ckpt may have to wait for a CPU. */
struct moment {
        struct proc_fdinfo_timerfd timer;
        uint64_t now;   /* its clock's, read behind it, so that its end is no earlier than it was */
        uint64_t width; /* what passed in between at the most */
};

static int read_moment(struct fd_probe *p, struct moment *ret) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        uint64_t begin = now_ns(CLOCK_MONOTONIC);
        int r;

        r = proc_fdinfo_read(p->proc, p->fd, p->buf, &info);
        if (r < 0)
                return r;
        if (info.kind != PROC_FDINFO_TIMERFD)
                return -ESTALE;
        ret->timer = info.timerfd;
        ret->now = now_ns(clock_of((uint32_t)info.timerfd.clockid, info.timerfd.settime_flags));
        ret->width = now_ns(CLOCK_MONOTONIC) - begin;
        return 0;
}

/*
 * The state of this moment. A periodic timer that has fired stands still until it is read, and shows nothing of
 * when it goes on; timerfd_gettime(2) sets it going and counts what was missed, as a read does.
 */
static int read_state(struct fd_probe *p, int fd, struct moment *ret) {
        struct itimerspec its;
        int r;

        if (p->info.timerfd.ticks > 0 && is_zero(&p->info.timerfd.value) &&
            !is_zero(&p->info.timerfd.interval) && timerfd_gettime(fd, &its) < 0)
                return -errno;
        *ret = (struct moment){ .width = UINT64_MAX };
        for (int i = 0; i < READS_MAX && ret->width > NARROW_NS; i++) {
                struct moment m = { 0 };

                r = read_moment(p, &m);
                if (r < 0)
                        return r;
                if (m.width < ret->width)
                        *ret = m;
        }
        return 0;
}

static void note_end(const struct dump *d, uint64_t now, Img__Timerfd *msg) {
        uint64_t left = msg->vsec * NS_PER_S + msg->vnsec;
        char boot_id[BOOT_ID_SIZE];
        int64_t ahead;

        if (left == 0 || msg->vsec >= SEC_MAX || !read_boot_id(boot_id) ||
            !time_ahead(d, clock_of(msg->clockid, msg->settime_flags), &ahead))
                return;
        now += (uint64_t)ahead;
        if (left > INT64_MAX - now)
                return;
        msg->has_expires_ns = true;
        msg->expires_ns = (int64_t)(now + left);
        msg->boot_id = arena_strdup(&d->files->arena, boot_id);
}

static int timerfd_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        Img__Timerfd *msg = arena_message(&dump_files(d)->arena, Img__Timerfd, img__timerfd__init);
        _cleanup_close_ int fd = -EBADF;
        struct moment m = { 0 };
        int r;

        r = anon_dump(d, p, PROC_FDINFO_TIMERFD, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        r = read_state(p, fd, &m);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read the timer", fd_probe_name(p));
        msg->id = file->id;
        msg->clockid = (uint32_t)m.timer.clockid;
        msg->settime_flags = m.timer.settime_flags;
        msg->ticks = m.timer.ticks;
        msg->vsec = (uint64_t)m.timer.value.tv_sec;
        msg->vnsec = (uint64_t)m.timer.value.tv_nsec;
        msg->isec = (uint64_t)m.timer.interval.tv_sec;
        msg->insec = (uint64_t)m.timer.interval.tv_nsec;
        note_end(d, m.now, msg);
        file->msg->tfd = msg;
        return 0;
}

/* ---- restore ---- */

static int timerfd_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                         struct image_file *image, struct ckpt_error *err) {
        const Img__Timerfd *msg = file->msg->tfd;

        switch (msg->clockid) {
        case CLOCK_REALTIME:
        case CLOCK_MONOTONIC:
        case CLOCK_BOOTTIME:
        case CLOCK_REALTIME_ALARM:
        case CLOCK_BOOTTIME_ALARM:
                break;
        default:
                return image_damaged(image, err, "file %u: there is no timerfd of clock %u", file->id,
                                     msg->clockid);
        }
        if (msg->settime_flags & ~(uint32_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) ||
            msg->vsec > INT64_MAX || msg->isec > INT64_MAX || msg->vnsec >= NS_PER_S ||
            msg->insec >= NS_PER_S || (msg->has_expires_ns && msg->expires_ns <= 0))
                return image_damaged(image, err, "file %u: its timer makes no sense", file->id);
        return anon_check_flags(file, image, msg->flags, 0, err);
}

static int timerfd_open(struct restore *r __attribute__((unused)), struct restore_file *file,
                        struct ckpt_error *err) {
        return anon_opened(file, timerfd_create((clockid_t)file->msg->tfd->clockid, TFD_CLOEXEC),
                           file->msg->tfd->flags, err);
}

struct timer {
        uint64_t value, interval, ticks; /* ns; value is absolute with TFD_TIMER_ABSTIME */
};

static uint64_t to_ns(uint64_t sec, uint64_t nsec) {
        return sec >= SEC_MAX ? INT64_MAX : sec * NS_PER_S + nsec;
}

static bool same_clock(const struct restore *r, const Img__Timerfd *msg, clockid_t clock) {
        char boot_id[BOOT_ID_SIZE];

        if (!msg->has_expires_ns)
                return false;
        return clock == CLOCK_REALTIME || time_put_ahead(r, clock) > 0 ||
               (msg->boot_id && read_boot_id(boot_id) && strcmp(boot_id, msg->boot_id) == 0);
}

/* What the kernel is to be told at this moment, by ckpt, on its own clock. */
static struct timer timer_now(const struct restore *r, const Img__Timerfd *msg) {
        clockid_t clock = clock_of(msg->clockid, msg->settime_flags);
        uint64_t now = now_ns(clock), left = to_ns(msg->vsec, msg->vnsec), end;
        struct timer t = { .interval = to_ns(msg->isec, msg->insec), .ticks = msg->ticks };

        /* Foreign images do not know when a periodic timer that has fired goes on. */
        if (left == 0 && t.interval > 0 && t.ticks > 0)
                left = t.interval;
        if (left == 0)
                return t;
        if (same_clock(r, msg, clock))
                end = (uint64_t)MAX(msg->expires_ns - time_put_ahead(r, clock), (int64_t)1);
        else
                end = left < INT64_MAX - now ? now + left : INT64_MAX;
        if (msg->settime_flags & TFD_TIMER_ABSTIME) {
                t.value = end;
        } else if (end > now) {
                t.value = end - now;
        } else if (t.interval == 0) {
                t.value = 1;
        } else {
                /* It would have fired meanwhile, and again and again. */
                t.ticks += 1 + (now - end) / t.interval;
                t.value = t.interval - (now - end) % t.interval;
        }
        return t;
}

static struct timespec to_timespec(uint64_t ns) {
        return (struct timespec){ (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
}

static int read_own(int fd, struct proc_fdinfo *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = proc_fdinfo_read(&self, fd, &buf, ret);
        return r < 0 ? r : ret->kind == PROC_FDINFO_TIMERFD ? 0 : -EBADMSG;
}

/*
 * Setting the timer forgets the ticks, and setting the ticks forgets what has fired since: a timer that has fired
 * stands still until it is read, so what it shows when it does is to be added.
 */
static int set_ticks(int fd, uint64_t ticks) {
        struct proc_fdinfo before = { 0 }, after = { 0 };
        uint64_t more;
        int r;

        r = read_own(fd, &before);
        proc_fdinfo_done(&before);
        if (r < 0)
                return r;
        more = ticks + before.timerfd.ticks;
        if (ioctl(fd, SET_TICKS, &more) < 0)
                return -errno;
        if (before.timerfd.ticks > 0)
                return 0;
        r = read_own(fd, &after);
        proc_fdinfo_done(&after);
        if (r < 0 || is_zero(&before.timerfd.value) || !is_zero(&after.timerfd.value) ||
            after.timerfd.ticks > more)
                return r;
        more++;
        return ioctl(fd, SET_TICKS, &more) < 0 ? -errno : 0;
}

static int timerfd_finish(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__Timerfd *msg = file->msg->tfd;
        struct timer t = timer_now(r, msg);
        struct itimerspec its = { .it_value = to_timespec(t.value), .it_interval = to_timespec(t.interval) };
        int rc = 0;

        if (timerfd_settime(file->fd, (int)msg->settime_flags, &its, NULL) < 0)
                return ckpt_error_errno(err, -errno, "file %u: cannot set the timer", file->id);
        if (t.ticks > 0)
                rc = set_ticks(file->fd, t.ticks);
        return rc < 0 ? ckpt_error_errno(err, rc, "file %u: cannot set the expirations of a timer", file->id)
                      : 0;
}

const struct fd_kind fd_kind_timerfd = {
        .type = IMG__FD_TYPES__TIMERFD,
        .name = "timerfd",
        .link = "anon_inode:[timerfd]",
        .look = timerfd_look,
        .dump = timerfd_dump,
        .check = timerfd_check,
        .open = timerfd_open,
        .finish = timerfd_finish,
};
