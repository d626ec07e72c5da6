/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/sched.h"

#include "proc/scan.h"

/*
 * The first line has the name of the task, newlines and all. The rule below it has more
 * dashes than a name has characters.
 */
#define RULE_MIN 65

static bool is_rule(const struct scan *line) {
        if (scan_left(line) < RULE_MIN)
                return false;
        for (const char *p = line->p; p < line->end; p++)
                if (*p != '-')
                        return false;
        return true;
}

/* "        830787.604964": milliseconds with six decimals */
static bool scan_ms(struct scan *s, uint64_t *ret) {
        const char *digits;
        uint64_t ms, ns;

        scan_blanks(s);
        if (!scan_u64(s, &ms) || !scan_char(s, '.'))
                return false;
        digits = s->p;
        if (!scan_u64(s, &ns) || s->p - digits != 6 || !scan_at_end(s))
                return false;
        return !__builtin_mul_overflow(ms, 1000000, &ms) && !__builtin_add_overflow(ms, ns, ret);
}

int proc_sched_parse(const char *text, size_t len, uint64_t *ret_exec_start_ns) {
        struct scan s = scan_text(text, len), line;
        bool below_rule = false;

        while (scan_line(&s, &line)) {
                uint64_t ns;

                if (!below_rule) {
                        below_rule = is_rule(&line);
                        continue;
                }
                if (!scan_lit(&line, "se.exec_start "))
                        continue;
                if (!scan_blanks_lit(&line, ":") || !scan_ms(&line, &ns))
                        return -EBADMSG;
                *ret_exec_start_ns = ns;
                return 0;
        }
        return below_rule && scan_at_end(&s) ? -ENOENT : -EBADMSG;
}

int proc_sched_read(const struct proc_dir *dir, struct proc_buf *buf, uint64_t *ret_exec_start_ns) {
        int r = proc_read_once(dir, "sched", buf);

        return r < 0 ? r : proc_sched_parse(buf->data, buf->len, ret_exec_start_ns);
}
