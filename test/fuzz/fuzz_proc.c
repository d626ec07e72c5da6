/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every parser of /proc on arbitrary bytes: the first selects the parser, the rest is its
 * text. It stands at the very end of an allocation, so that a sanitizer sees the first byte
 * read too far.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"
#include "proc/attr.h"
#include "proc/auxv.h"
#include "proc/cgroup.h"
#include "proc/fdinfo.h"
#include "proc/limits.h"
#include "proc/locks.h"
#include "proc/maps.h"
#include "proc/mountinfo.h"
#include "proc/pagemap.h"
#include "proc/sched.h"
#include "proc/stat.h"
#include "proc/status.h"
#include "proc/syscall.h"
#include "proc/timers.h"

static int do_stat(char *text, size_t len) {
        struct proc_stat st;
        int r = proc_stat_parse(text, len, &st);

        ckpt_assert(r < 0 || (st.pid > 0 && strlen(st.comm) < sizeof(st.comm)));
        return r;
}

static int do_status(char *text, size_t len) {
        _cleanup_proc_status_ struct proc_status st = { 0 };
        int r = proc_status_parse(text, len, &st);

        ckpt_assert(r < 0 || (st.nspid.n <= PROC_NS_LEVELS && proc_status_has(&st, PROC_STATUS_UID)));
        return r;
}

static int do_maps(char *text, size_t len) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec vec = { 0 };
        int r = proc_maps_parse(text, len, &vec);

        for (size_t i = 0; r == 0 && i < vec.n; i++) {
                ckpt_assert(vec.v[i].start < vec.v[i].end && strlen(vec.v[i].name) < len);
                ckpt_assert(!i || vec.v[i - 1].end <= vec.v[i].start);
                ckpt_assert(proc_vma_find(&vec, vec.v[i].start) == &vec.v[i]);
        }
        return r;
}

static int do_smaps(char *text, size_t len) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec vec = { 0 };
        int r = proc_smaps_parse(text, len, &vec);

        for (size_t i = 0; r == 0 && i < vec.n; i++)
                ckpt_assert(strlen(vec.v[i].vma.name) < len);
        return r;
}

static int do_fdinfo(char *text, size_t len) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        int r = proc_fdinfo_parse(text, len, &info);
        uint64_t v;

        for (size_t i = 0; r == 0 && i < info.other.n; i++)
                ckpt_assert(strlen(info.other.v[i].key) + strlen(info.other.v[i].value) < len);
        for (size_t i = 0; r == 0 && i < info.inotify.n; i++)
                ckpt_assert(info.inotify.v[i].handle.n <= PROC_FHANDLE_MAX);
        if (r == 0)
                proc_fdinfo_find_u64(&info, "map_id", &v);
        return r;
}

static int do_limits(char *text, size_t len) {
        struct proc_limits limits;

        return proc_limits_parse(text, len, &limits);
}

static int do_timers(char *text, size_t len) {
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec vec = { 0 };
        int r = proc_timers_parse(text, len, &vec);

        for (size_t i = 1; r == 0 && i < vec.n; i++)
                ckpt_assert(vec.v[i - 1].id < vec.v[i].id);
        return r;
}

static int do_mountinfo(char *text, size_t len) {
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        int r = proc_mountinfo_parse(text, len, &vec);

        for (size_t i = 0; r == 0 && i < vec.n && i < 16; i++) {
                proc_mount_by_path(&vec, vec.v[i].mountpoint);
                proc_mount_has_option(vec.v[i].super_options, "ro");
                ckpt_assert(proc_mount_by_id(&vec, vec.v[i].id));
        }
        return r;
}

static int do_auxv(char *text, size_t len) {
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec vec = { 0 };
        int r = proc_auxv_parse(text, len, &vec);

        ckpt_assert(r < 0 || vec.n % 2 == 0);
        return r;
}

static int do_cgroup(char *text, size_t len) {
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec vec = { 0 };
        int r = proc_cgroup_parse(text, len, &vec);

        for (size_t i = 0; r == 0 && i < vec.n; i++)
                ckpt_assert(vec.v[i].path[0] == '/' && strlen(vec.v[i].controllers) < len);
        return r;
}

static int do_locks(char *text, size_t len) {
        _cleanup_(proc_lock_vec_done) struct proc_lock_vec vec = { 0 };
        int r = proc_locks_parse(text, len, &vec);

        for (size_t i = 0; r == 0 && i < vec.n; i++)
                ckpt_assert(vec.v[i].start >= 0 && vec.v[i].start <= vec.v[i].end);
        return r;
}

static int do_syscall(char *text, size_t len) {
        struct proc_syscall sc;

        return proc_syscall_parse(text, len, &sc);
}

static int do_sched(char *text, size_t len) {
        uint64_t ns;

        return proc_sched_parse(text, len, &ns);
}

static int do_attr(char *text, size_t len) {
        uint64_t u;
        int64_t i;

        proc_attr_parse_hex(text, len, &u);
        return proc_attr_parse_dec(text, len, &i);
}

static int do_children(char *text, size_t len) {
        _cleanup_(pid_vec_done) struct pid_vec vec = { 0 };
        int r = proc_children_parse(text, len, &vec);

        for (size_t i = 0; i < vec.n; i++)
                ckpt_assert(r == 0 && vec.v[i] > 0);
        return r;
}

static int do_words(char *text, size_t len) {
        uint64_t words[3];

        if (len < sizeof(words))
                return -EBADMSG;
        memcpy(words, text, sizeof(words));
        ckpt_assert(!(pagemap_word_categories(words[0], words[1], words[2]) & ~0x1ffU));
        return 0;
}

static int (*const parsers[])(char *text, size_t len) = {
        do_stat, do_status, do_maps,  do_smaps,   do_fdinfo, do_limits, do_timers,   do_mountinfo,
        do_auxv, do_cgroup, do_locks, do_syscall, do_sched,  do_attr,   do_children, do_words,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text;
        int r;

        if (size < 1)
                return 0;
        text = malloc(MAX(size - 1, (size_t)1));
        if (!text)
                return 0;
        memcpy(text, data + 1, size - 1);
        r = parsers[data[0] % ELEMENTSOF(parsers)](text, size - 1);
        ckpt_assert(r == 0 || r == -EBADMSG || r == -EAGAIN || r == -ENOENT);
        free(text);
        return 0;
}
