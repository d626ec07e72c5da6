/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/status.h"

#include <string.h>

#include "macro.h"
#include "proc/scan.h"

/* One function per form of value. `into` is the field of the table below. */

static bool scan_state(struct scan *s, void *into) {
        if (scan_at_end(s) || !*s->p || !strchr("RSDTtZXxKWPI", *s->p))
                return false;
        *(char *)into = *s->p;
        s->p = s->end;
        return true;
}

static bool scan_pid(struct scan *s, void *into) {
        return scan_i32(s, into) && *(pid_t *)into >= 0;
}

static bool scan_number(struct scan *s, void *into) {
        return scan_u32(s, into);
}

static bool scan_bool(struct scan *s, void *into) {
        uint32_t v;

        if (!scan_u32(s, &v) || v > 1)
                return false;
        *(bool *)into = v;
        return true;
}

static bool scan_four(struct scan *s, void *into) {
        uint32_t *v = into;

        for (unsigned i = 0; i < 4; i++)
                if ((i && !scan_char(s, '\t')) || !scan_u32(s, &v[i]))
                        return false;
        return true;
}

static bool scan_octal(struct scan *s, void *into) {
        uint64_t v;

        if (!scan_oct64(s, &v) || v > 07777)
                return false;
        *(uint32_t *)into = (uint32_t)v;
        return true;
}

static bool scan_mask(struct scan *s, void *into) {
        return scan_hex64(s, into);
}

static bool scan_0x(struct scan *s, void *into) {
        return scan_lit(s, "0x") && scan_hex64(s, into);
}

static bool scan_kb(struct scan *s, void *into) {
        uint64_t v;

        if (!scan_u64(s, &v) || v > UINT64_MAX >> 10 || !scan_lit(s, " kB"))
                return false;
        *(uint64_t *)into = v << 10;
        return true;
}

static bool scan_count(struct scan *s, void *into) {
        return scan_u64(s, into);
}

static bool scan_sigq(struct scan *s, void *into) {
        uint64_t *v = into;

        return scan_u64(s, &v[0]) && scan_char(s, '/') && scan_u64(s, &v[1]);
}

static bool scan_groups(struct scan *s, void *into) {
        struct gid_vec *groups = into;

        groups->n = 0;
        for (scan_blanks(s); !scan_at_end(s); scan_blanks(s)) {
                gid_t gid;

                if (!scan_u32(s, &gid) || groups->n >= 65536 || gid_vec_push(groups, gid) < 0)
                        return false;
        }
        return true;
}

bool proc_scan_ns_ids(struct scan *s, struct proc_ns_ids *ret) {
        struct proc_ns_ids ids = { 0 };

        for (scan_blanks(s); !scan_at_end(s); scan_blanks(s))
                if (ids.n >= PROC_NS_LEVELS || !scan_i32(s, &ids.ids[ids.n++]))
                        return false;
        *ret = ids;
        return ids.n > 0;
}

static bool scan_ids(struct scan *s, void *into) {
        return proc_scan_ns_ids(s, into);
}

static bool scan_features(struct scan *s, void *into) {
        uint32_t features = 0;
        struct scan word;

        for (scan_blanks(s); scan_word(s, &word); scan_blanks(s)) {
                if (scan_equal(&word, "shstk"))
                        features |= PROC_X86_SHSTK;
                else if (scan_equal(&word, "wrss"))
                        features |= PROC_X86_WRSS;
                else
                        features |= (uint32_t)PROC_X86_OTHER;
        }
        *(uint32_t *)into = features;
        return true;
}

static const struct status_line {
        const char *key;
        bool (*scan)(struct scan *s, void *into);
        uint16_t offset;
        bool needed;
} lines[] = {
#define LINE(id, key, scan, field, needed) \
        [PROC_STATUS_##id] = { key, scan, offsetof(struct proc_status, field), needed }
        LINE(UMASK, "Umask", scan_octal, umask, false),
        LINE(STATE, "State", scan_state, state, true),
        LINE(TGID, "Tgid", scan_pid, tgid, true),
        LINE(NGID, "Ngid", scan_pid, ngid, false),
        LINE(PID, "Pid", scan_pid, pid, true),
        LINE(PPID, "PPid", scan_pid, ppid, true),
        LINE(TRACER_PID, "TracerPid", scan_pid, tracer_pid, true),
        LINE(UID, "Uid", scan_four, uids, true),
        LINE(GID, "Gid", scan_four, gids, true),
        LINE(FDSIZE, "FDSize", scan_number, fd_size, false),
        LINE(GROUPS, "Groups", scan_groups, groups, false),
        LINE(NSTGID, "NStgid", scan_ids, nstgid, false),
        LINE(NSPID, "NSpid", scan_ids, nspid, false),
        LINE(NSPGID, "NSpgid", scan_ids, nspgid, false),
        LINE(NSSID, "NSsid", scan_ids, nssid, false),
        LINE(KTHREAD, "Kthread", scan_bool, kthread, false),
        LINE(VM_PEAK, "VmPeak", scan_kb, vm_peak, false),
        LINE(VM_SIZE, "VmSize", scan_kb, vm_size, false),
        LINE(VM_LCK, "VmLck", scan_kb, vm_lck, false),
        LINE(VM_PIN, "VmPin", scan_kb, vm_pin, false),
        LINE(VM_HWM, "VmHWM", scan_kb, vm_hwm, false),
        LINE(VM_RSS, "VmRSS", scan_kb, vm_rss, false),
        LINE(RSS_ANON, "RssAnon", scan_kb, rss_anon, false),
        LINE(RSS_FILE, "RssFile", scan_kb, rss_file, false),
        LINE(RSS_SHMEM, "RssShmem", scan_kb, rss_shmem, false),
        LINE(VM_DATA, "VmData", scan_kb, vm_data, false),
        LINE(VM_STK, "VmStk", scan_kb, vm_stk, false),
        LINE(VM_EXE, "VmExe", scan_kb, vm_exe, false),
        LINE(VM_LIB, "VmLib", scan_kb, vm_lib, false),
        LINE(VM_PTE, "VmPTE", scan_kb, vm_pte, false),
        LINE(VM_SWAP, "VmSwap", scan_kb, vm_swap, false),
        LINE(HUGETLB, "HugetlbPages", scan_kb, hugetlb, false),
        LINE(CORE_DUMPING, "CoreDumping", scan_bool, core_dumping, false),
        LINE(THP_ENABLED, "THP_enabled", scan_bool, thp_enabled, false),
        LINE(UNTAG_MASK, "untag_mask", scan_0x, untag_mask, false),
        LINE(THREADS, "Threads", scan_number, threads, false),
        LINE(SIGQ, "SigQ", scan_sigq, sigq, false),
        LINE(SIGPND, "SigPnd", scan_mask, sig_pnd, true),
        LINE(SHDPND, "ShdPnd", scan_mask, shd_pnd, true),
        LINE(SIGBLK, "SigBlk", scan_mask, sig_blk, true),
        LINE(SIGIGN, "SigIgn", scan_mask, sig_ign, true),
        LINE(SIGCGT, "SigCgt", scan_mask, sig_cgt, true),
        LINE(CAPINH, "CapInh", scan_mask, cap_inh, true),
        LINE(CAPPRM, "CapPrm", scan_mask, cap_prm, true),
        LINE(CAPEFF, "CapEff", scan_mask, cap_eff, true),
        LINE(CAPBND, "CapBnd", scan_mask, cap_bnd, true),
        LINE(CAPAMB, "CapAmb", scan_mask, cap_amb, false),
        LINE(NO_NEW_PRIVS, "NoNewPrivs", scan_bool, no_new_privs, false),
        LINE(SECCOMP, "Seccomp", scan_number, seccomp, false),
        LINE(SECCOMP_FILTERS, "Seccomp_filters", scan_number, seccomp_filters, false),
        LINE(SLEEPS, "voluntary_ctxt_switches", scan_count, sleeps, false),
        LINE(THREAD_FEATURES, "x86_Thread_features", scan_features, thread_features, false),
        LINE(THREAD_FEATURES_LOCKED, "x86_Thread_features_locked", scan_features, thread_features_locked,
             false),
#undef LINE
};
_Static_assert(ELEMENTSOF(lines) == PROC_STATUS_MAX && PROC_STATUS_MAX <= 64,
               "one bit and one row per field");
/* scan_sigq() fills two fields at once. */
_Static_assert(offsetof(struct proc_status, sigq_max) == offsetof(struct proc_status, sigq) + 8, "adjacent");

/*
 * The row of a key, or PROC_STATUS_MAX. The kernel keeps the order of the table, so that
 * looking on from the last hit finds the next one at once.
 */
static unsigned find_line(const struct scan *key, unsigned from) {
        for (unsigned i = 0; i < PROC_STATUS_MAX; i++) {
                unsigned row = (from + i) % PROC_STATUS_MAX;

                if (lines[row].key[0] == *key->p && scan_equal(key, lines[row].key))
                        return row;
        }
        return PROC_STATUS_MAX;
}

int proc_status_parse(const char *text, size_t len, struct proc_status *ret) {
        _cleanup_proc_status_ struct proc_status st = { 0 };
        struct scan s = scan_text(text, len), line, key;
        unsigned row, from = 0;

        while (scan_line(&s, &line)) {
                if (!scan_until(&line, ':', &key) || scan_at_end(&key))
                        return -EBADMSG;
                row = find_line(&key, from);
                if (row == PROC_STATUS_MAX)
                        continue;
                /* The name of a task is escaped, so that no line can be forged: twice is nonsense. */
                if (st.present >> row & 1)
                        return -EBADMSG;
                scan_blanks(&line);
                if (!lines[row].scan(&line, (char *)&st + lines[row].offset) || !scan_at_end(&line))
                        return -EBADMSG;
                st.present |= 1ULL << row;
                from = row + 1;
        }
        if (!scan_at_end(&s))
                return -EBADMSG;
        for (row = 0; row < PROC_STATUS_MAX; row++)
                if (lines[row].needed && !(st.present >> row & 1))
                        return -EBADMSG;
        *ret = st;
        st.groups = (struct gid_vec){ 0 };
        return 0;
}

int proc_status_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_status *ret) {
        int r = proc_read_once(dir, "status", buf);

        return r < 0 ? r : proc_status_parse(buf->data, buf->len, ret);
}

void proc_status_done(struct proc_status *st) {
        gid_vec_done(&st->groups);
}
