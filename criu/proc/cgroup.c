/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/cgroup.h"

#include <string.h>

#include "proc/scan.h"

/* 3:cpu,cpuacct:/path; only the path may contain further colons. */
static bool scan_cgroup(struct scan line, struct proc_cgroup *cg) {
        struct scan controllers;

        if (!scan_u32(&line, &cg->hierarchy) || !scan_char(&line, ':') ||
            !scan_until(&line, ':', &controllers))
                return false;
        *(char *)controllers.end = 0;
        cg->controllers = controllers.p;
        *(char *)line.end = 0; /* the newline */
        cg->path = line.p;
        return cg->path[0] == '/';
}

int proc_cgroup_parse(char *text, size_t len, struct proc_cgroup_vec *ret) {
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec vec = { 0 };
        struct scan s = scan_text(text, len), line;

        if (len && memchr(text, 0, len))
                return -EBADMSG;
        while (scan_line(&s, &line)) {
                struct proc_cgroup *cg = proc_cgroup_vec_add(&vec);

                if (!cg)
                        return -ENOMEM;
                if (!scan_cgroup(line, cg))
                        return -EBADMSG;
        }
        if (!scan_at_end(&s))
                return -EBADMSG;
        proc_cgroup_vec_done(ret);
        *ret = vec;
        vec = (struct proc_cgroup_vec){ 0 };
        return 0;
}

int proc_cgroup_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_cgroup_vec *ret) {
        int r = proc_read_once(dir, "cgroup", buf);

        return r < 0 ? r : proc_cgroup_parse(buf->data, buf->len, ret);
}
