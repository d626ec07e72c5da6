/* SPDX-License-Identifier: GPL-2.0-only */
#include "ns/time.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "images/ns.pb-c.h"
#include "log.h"
#include "proc/scan.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

enum { NS_PER_S = 1000000000 };

struct restore_clocks {
        int64_t monotonic, boottime; /* nanoseconds, as the tree saw them */
};

static int64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* ---- dump ---- */

void time_look(struct dump_task *t) {
        struct dump *d = t->dump;
        ino_t own = t->ns.ino[PROC_NS_TIME], children = t->ns.ino[PROC_NS_TIME_FOR_CHILDREN];

        if (own == 0 || children == 0)
                return;
        if (t == d->tasks[0])
                d->time_ns = own;
        else if (d->time_ns == 0 && proc_ns_inode(dump_living(d->tasks[0]), "time", &d->time_ns) < 0)
                return;
        if (own != d->time_ns || children != d->time_ns)
                blocker_add(
                        t->dump->blockers, "Start the whole tree in one time namespace",
                        "%s or its children are in another time namespace than the root of the tree, which is not "
                        "supported yet",
                        dump_task_name(t));
}

/* A line of timens_offsets: the clock, seconds (of either sign), nanoseconds. */
static bool scan_offset(struct scan *s, const char *clock, int64_t *ret) {
        int64_t sec, nsec;
        struct scan line;

        if (!scan_line(s, &line) || !scan_lit(&line, clock))
                return false;
        scan_blanks(&line);
        if (!scan_i64(&line, &sec))
                return false;
        scan_blanks(&line);
        if (!scan_i64(&line, &nsec) || sec > INT64_MAX / NS_PER_S - 1 || sec < INT64_MIN / NS_PER_S + 1)
                return false;
        *ret = sec * NS_PER_S + nsec;
        return true;
}

/* Offsets to the clocks of the initial namespace, of the namespace that children of the task are born into. */
static int read_offsets(const struct proc_dir *dir, int64_t *ret_monotonic, int64_t *ret_boottime) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct scan s;
        int r;

        *ret_monotonic = *ret_boottime = 0;
        r = proc_read(dir, "timens_offsets", &buf);
        if (r == -ENOENT)
                return 0; /* a kernel without time namespaces */
        if (r < 0)
                return r;
        s = scan_text(buf.data, buf.len);
        if (!scan_offset(&s, "monotonic", ret_monotonic) || !scan_offset(&s, "boottime", ret_boottime))
                return -EBADMSG;
        return 0;
}

static void fill_timespec(Img__Timespec *ts, int64_t ns) {
        ts->tv_sec = (uint64_t)(ns / NS_PER_S);
        ts->tv_nsec = (uint64_t)(ns % NS_PER_S);
}

int time_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        Img__Timespec monotonic = IMG__TIMESPEC__INIT, boottime = IMG__TIMESPEC__INIT;
        Img__Timens clocks = IMG__TIMENS__INIT;
        int64_t ours[2], theirs[2];
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = read_offsets(&self, &ours[0], &ours[1]);
        if (r == 0)
                r = read_offsets(&d->tasks[0]->proc, &theirs[0], &theirs[1]);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read the clock offsets of %s",
                                        dump_task_name(d->tasks[0]));
        fill_timespec(&monotonic, now_ns(CLOCK_MONOTONIC) - ours[0] + theirs[0]);
        fill_timespec(&boottime, now_ns(CLOCK_BOOTTIME) - ours[1] + theirs[1]);
        clocks.monotonic = &monotonic;
        clocks.boottime = &boottime;
        return image_store(d->set, IMAGE_TIMENS, d->tasks[0]->ids->time_ns_id, &clocks.base, err);
}

/* ---- restore ---- */

static bool take_timespec(const Img__Timespec *ts, int64_t *ret) {
        if (ts->tv_nsec >= NS_PER_S || ts->tv_sec > INT64_MAX / NS_PER_S / 2)
                return false;
        *ret = (int64_t)ts->tv_sec * NS_PER_S + (int64_t)ts->tv_nsec;
        return true;
}

int time_load(struct restore *r, struct ckpt_error *err) {
        const Img__TaskKobjIds *ids = r->tasks[0]->ids;
        _cleanup_image_message_ Img__Timens *image = NULL;
        struct restore_clocks *clocks;
        int ret;

        if (!ids->has_time_ns_id)
                return 0;
        ret = image_load(r->dir, IMAGE_TIMENS, ids->time_ns_id, IMAGE_OPTIONAL, &img__timens__descriptor,
                         &image, err);
        if (ret == -ENOENT)
                return 0; /* the format leaves it out for trees that share the namespace of the dumping tool */
        if (ret < 0)
                return ret;
        clocks = arena_new(&r->arena, struct restore_clocks);
        if (!take_timespec(image->monotonic, &clocks->monotonic) ||
            !take_timespec(image->boottime, &clocks->boottime))
                return ckpt_error(err, -EBADMSG, "timens-%u.img: this is no time", ids->time_ns_id);
        r->clocks = clocks;
        return 0;
}

/* The kernel wants nanoseconds from 0 on, also behind negative seconds. */
static int64_t floor_seconds(int64_t ns) {
        return ns / NS_PER_S - (ns % NS_PER_S < 0);
}

static int write_offsets(int64_t monotonic, int64_t boottime) {
        _cleanup_close_ int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
        char text[128];
        int n;

        if (fd < 0)
                return -errno;
        n = snprintf(text, sizeof(text),
                     "monotonic %" PRId64 " %" PRId64 "\nboottime %" PRId64 " %" PRId64 "\n",
                     floor_seconds(monotonic), monotonic - floor_seconds(monotonic) * NS_PER_S,
                     floor_seconds(boottime), boottime - floor_seconds(boottime) * NS_PER_S);
        return write(fd, text, (size_t)n) == n ? 0 : -errno;
}

int time_enter(struct restore *r, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int64_t monotonic, boottime, ours[2];
        int ret;

        if (!r->clocks)
                return 0;
        monotonic = r->clocks->monotonic - now_ns(CLOCK_MONOTONIC);
        boottime = r->clocks->boottime - now_ns(CLOCK_BOOTTIME);
        if (monotonic <= 0 && boottime <= 0)
                return 0;
        ret = proc_open(getpid(), &self);
        if (ret == 0)
                ret = read_offsets(&self, &ours[0], &ours[1]);
        if (ret == 0 && unshare(CLONE_NEWTIME) < 0)
                ret = -errno;
        /* Offsets count from the initial namespace; a clock that would not jump back keeps ours. */
        if (ret == 0)
                ret = write_offsets(ours[0] + (monotonic > 0 ? monotonic : 0),
                                    ours[1] + (boottime > 0 ? boottime : 0));
        if (ret < 0) {
                ckpt_error_errno(
                        err, ret,
                        "the clocks of this machine are behind those of the checkpoint, and it cannot be "
                        "restored into a time namespace; nothing was created");
                return ckpt_error_hint(
                        err, "ckpt needs CAP_SYS_ADMIN and CAP_SYS_TIME, and a kernel with CONFIG_TIME_NS");
        }
        log_warn(
                "the clocks of this machine are behind those of the checkpoint: restoring into a time namespace "
                "(monotonic %+" PRId64 " s, boottime %+" PRId64 " s)",
                monotonic / NS_PER_S, boottime / NS_PER_S);
        return 0;
}
