/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/syscall.h"

#include "proc/scan.h"

static bool scan_word_hex(struct scan *s, uint64_t *ret) {
        return scan_lit(s, " 0x") && scan_hex64(s, ret);
}

int proc_syscall_parse(const char *text, size_t len, struct proc_syscall *ret) {
        struct scan s = scan_text(text, len), line;
        struct proc_syscall sc = { .state = PROC_SYSCALL_RUNNING, .nr = -1 };

        if (!scan_line(&s, &line) || !scan_at_end(&s))
                return -EBADMSG;
        if (!scan_equal(&line, "running")) {
                /* The kernel prints the number as a signed long; no call has one that large. */
                if (!scan_i32(&line, &sc.nr) || sc.nr < -1)
                        return -EBADMSG;
                sc.state = sc.nr < 0 ? PROC_SYSCALL_NONE : PROC_SYSCALL_INSIDE;
                for (unsigned i = 0; sc.nr >= 0 && i < 6; i++)
                        if (!scan_word_hex(&line, &sc.args[i]))
                                return -EBADMSG;
                if (!scan_word_hex(&line, &sc.sp) || !scan_word_hex(&line, &sc.pc) || !scan_at_end(&line))
                        return -EBADMSG;
        }
        *ret = sc;
        return 0;
}

int proc_syscall_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_syscall *ret) {
        int r = proc_read_once(dir, "syscall", buf);

        return r < 0 ? r : proc_syscall_parse(buf->data, buf->len, ret);
}
