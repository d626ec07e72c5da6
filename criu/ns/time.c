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
#include "macro.h"
#include "proc/scan.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

enum { NS_PER_S = 1000000000 };

/* Those that differ between time namespaces. */
enum { MONOTONIC, BOOTTIME, NR_CLOCKS, OTHER_CLOCK = -1 };

static const clockid_t clock_ids[NR_CLOCKS] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME };

struct dump_clocks {
        int64_t ahead[NR_CLOCKS]; /* nanoseconds that the tree's are ahead of ckpt's */
        int error;                /* they cannot be read */
};

struct restore_clocks {
        int64_t saw[NR_CLOCKS];   /* nanoseconds, as the tree saw them */
        int64_t ahead[NR_CLOCKS]; /* that those of the restored tree are ahead of ckpt's */
};

static int clock_index(clockid_t clock) {
        switch (clock) {
        case CLOCK_MONOTONIC:
        case CLOCK_MONOTONIC_RAW:
        case CLOCK_MONOTONIC_COARSE:
                return MONOTONIC;
        case CLOCK_BOOTTIME:
        case CLOCK_BOOTTIME_ALARM:
                return BOOTTIME;
        default:
                return OTHER_CLOCK;
        }
}

static int64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* ---- dump ---- */

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
static int read_offsets(const struct proc_dir *dir, int64_t ret[NR_CLOCKS]) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct scan s;
        int r;

        ret[MONOTONIC] = ret[BOOTTIME] = 0;
        r = proc_read(dir, "timens_offsets", &buf);
        if (r == -ENOENT)
                return 0; /* a kernel without time namespaces */
        if (r < 0)
                return r;
        s = scan_text(buf.data, buf.len);
        if (!scan_offset(&s, "monotonic", &ret[MONOTONIC]) || !scan_offset(&s, "boottime", &ret[BOOTTIME]))
                return -EBADMSG;
        return 0;
}

static int read_own_offsets(int64_t ret[NR_CLOCKS]) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r;

        r = proc_open(getpid(), &self);
        return r < 0 ? r : read_offsets(&self, ret);
}

static void read_clocks(struct dump_task *root) {
        struct dump_clocks *clocks = arena_new(&root->arena, struct dump_clocks);
        int64_t ours[NR_CLOCKS], theirs[NR_CLOCKS];

        clocks->error = read_own_offsets(ours);
        if (clocks->error == 0)
                clocks->error = read_offsets(dump_living(root), theirs);
        for (int i = 0; clocks->error == 0 && i < NR_CLOCKS; i++)
                clocks->ahead[i] = theirs[i] - ours[i];
        root->dump->clocks = clocks;
}

void time_look(struct dump_task *t) {
        struct dump *d = t->dump;
        ino_t own = t->ns.ino[PROC_NS_TIME], children = t->ns.ino[PROC_NS_TIME_FOR_CHILDREN];

        if (t == d->tasks[0] || !d->clocks)
                read_clocks(d->tasks[0]);
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

bool time_ahead(const struct dump *d, clockid_t clock, int64_t *ret) {
        int i = clock_index(clock);
        int64_t ahead = i >= 0 && d->clocks ? d->clocks->ahead[i] : 0;

        if (ahead < 0)
                return false;
        *ret = ahead;
        return true;
}

static void fill_timespec(Img__Timespec *ts, int64_t ns) {
        ts->tv_sec = (uint64_t)(ns / NS_PER_S);
        ts->tv_nsec = (uint64_t)(ns % NS_PER_S);
}

int time_save(struct dump *d, struct ckpt_error *err) {
        Img__Timespec saw[NR_CLOCKS] = { IMG__TIMESPEC__INIT, IMG__TIMESPEC__INIT };
        Img__Timens image = IMG__TIMENS__INIT;

        if (d->clocks && d->clocks->error < 0)
                return ckpt_error_errno(err, d->clocks->error, "cannot read the clock offsets of %s",
                                        dump_task_name(d->tasks[0]));
        for (int i = 0; i < NR_CLOCKS; i++)
                fill_timespec(&saw[i], now_ns(clock_ids[i]) + (d->clocks ? d->clocks->ahead[i] : 0));
        image.monotonic = &saw[MONOTONIC];
        image.boottime = &saw[BOOTTIME];
        return image_store(d->set, IMAGE_TIMENS, d->tasks[0]->ids->time_ns_id, &image.base, err);
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
        if (!take_timespec(image->monotonic, &clocks->saw[MONOTONIC]) ||
            !take_timespec(image->boottime, &clocks->saw[BOOTTIME]))
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

int64_t time_put_ahead(const struct restore *r, clockid_t clock) {
        int i = clock_index(clock);

        return i >= 0 && r->clocks ? r->clocks->ahead[i] : 0;
}

/* Offsets count from the initial namespace; a clock that would not jump back keeps ours. */
static int enter_ahead(const int64_t ahead[NR_CLOCKS]) {
        int64_t ours[NR_CLOCKS];
        int r;

        r = read_own_offsets(ours);
        if (r == 0 && unshare(CLONE_NEWTIME) < 0)
                r = -errno;
        return r < 0 ? r
                     : write_offsets(ours[MONOTONIC] + ahead[MONOTONIC], ours[BOOTTIME] + ahead[BOOTTIME]);
}

int time_enter(struct restore *r, struct ckpt_error *err) {
        struct restore_clocks *clocks = r->clocks;
        int ret;

        if (!clocks)
                return 0;
        for (int i = 0; i < NR_CLOCKS; i++)
                clocks->ahead[i] = MAX(clocks->saw[i] - now_ns(clock_ids[i]), (int64_t)0);
        if (clocks->ahead[MONOTONIC] == 0 && clocks->ahead[BOOTTIME] == 0)
                return 0;
        ret = enter_ahead(clocks->ahead);
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
                clocks->ahead[MONOTONIC] / NS_PER_S, clocks->ahead[BOOTTIME] / NS_PER_S);
        return 0;
}
