/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/limits.h"

#include "macro.h"
#include "proc/scan.h"

static const char *const names[] = {
        [RLIMIT_CPU] = "Max cpu time",
        [RLIMIT_FSIZE] = "Max file size",
        [RLIMIT_DATA] = "Max data size",
        [RLIMIT_STACK] = "Max stack size",
        [RLIMIT_CORE] = "Max core file size",
        [RLIMIT_RSS] = "Max resident set",
        [RLIMIT_NPROC] = "Max processes",
        [RLIMIT_NOFILE] = "Max open files",
        [RLIMIT_MEMLOCK] = "Max locked memory",
        [RLIMIT_AS] = "Max address space",
        [RLIMIT_LOCKS] = "Max file locks",
        [RLIMIT_SIGPENDING] = "Max pending signals",
        [RLIMIT_MSGQUEUE] = "Max msgqueue size",
        [RLIMIT_NICE] = "Max nice priority",
        [RLIMIT_RTPRIO] = "Max realtime priority",
        [RLIMIT_RTTIME] = "Max realtime timeout",
};
_Static_assert(ELEMENTSOF(names) == PROC_LIMITS, "one name per limit");

static bool scan_limit(struct scan *s, rlim_t *ret) {
        uint64_t v;

        if (!scan_char(s, ' '))
                return false;
        scan_blanks(s);
        if (scan_lit(s, "unlimited"))
                v = RLIM_INFINITY;
        else if (!scan_u64(s, &v))
                return false;
        *ret = v;
        return scan_at_end(s) || *s->p == ' ';
}

int proc_limits_parse(const char *text, size_t len, struct proc_limits *ret) {
        struct scan s = scan_text(text, len), line;
        struct proc_limits limits;

        if (!scan_line(&s, &line) || !scan_lit(&line, "Limit "))
                return -EBADMSG;
        for (unsigned i = 0; i < PROC_LIMITS; i++)
                if (!scan_line(&s, &line) || !scan_lit(&line, names[i]) ||
                    !scan_limit(&line, &limits.v[i].rlim_cur) || !scan_limit(&line, &limits.v[i].rlim_max))
                        return -EBADMSG;
        *ret = limits;
        return 0;
}

int proc_limits_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_limits *ret) {
        int r = proc_read_once(dir, "limits", buf);

        return r < 0 ? r : proc_limits_parse(buf->data, buf->len, ret);
}
