/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/status and /proc/PID/task/TID/status */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

DEFINE_VEC(gid_vec, gid_t);

/* Pid namespaces nest at most 32 deep below the initial one. */
#define PROC_NS_LEVELS 33

/* A number per pid namespace, from that of our /proc (ids[0]) to the task's own (ids[n - 1]). */
struct proc_ns_ids {
        pid_t ids[PROC_NS_LEVELS];
        unsigned n;
};

/* Which lines there were: bits of proc_status.present. */
enum proc_status_field {
        PROC_STATUS_UMASK,
        PROC_STATUS_STATE,
        PROC_STATUS_TGID,
        PROC_STATUS_NGID,
        PROC_STATUS_PID,
        PROC_STATUS_PPID,
        PROC_STATUS_TRACER_PID,
        PROC_STATUS_UID,
        PROC_STATUS_GID,
        PROC_STATUS_FDSIZE,
        PROC_STATUS_GROUPS,
        PROC_STATUS_NSTGID,
        PROC_STATUS_NSPID,
        PROC_STATUS_NSPGID,
        PROC_STATUS_NSSID,
        PROC_STATUS_KTHREAD,
        PROC_STATUS_VM_PEAK,
        PROC_STATUS_VM_SIZE,
        PROC_STATUS_VM_LCK,
        PROC_STATUS_VM_PIN,
        PROC_STATUS_VM_HWM,
        PROC_STATUS_VM_RSS,
        PROC_STATUS_RSS_ANON,
        PROC_STATUS_RSS_FILE,
        PROC_STATUS_RSS_SHMEM,
        PROC_STATUS_VM_DATA,
        PROC_STATUS_VM_STK,
        PROC_STATUS_VM_EXE,
        PROC_STATUS_VM_LIB,
        PROC_STATUS_VM_PTE,
        PROC_STATUS_VM_SWAP,
        PROC_STATUS_HUGETLB,
        PROC_STATUS_CORE_DUMPING,
        PROC_STATUS_THP_ENABLED,
        PROC_STATUS_UNTAG_MASK,
        PROC_STATUS_THREADS,
        PROC_STATUS_SIGQ,
        PROC_STATUS_SIGPND,
        PROC_STATUS_SHDPND,
        PROC_STATUS_SIGBLK,
        PROC_STATUS_SIGIGN,
        PROC_STATUS_SIGCGT,
        PROC_STATUS_CAPINH,
        PROC_STATUS_CAPPRM,
        PROC_STATUS_CAPEFF,
        PROC_STATUS_CAPBND,
        PROC_STATUS_CAPAMB,
        PROC_STATUS_NO_NEW_PRIVS,
        PROC_STATUS_SECCOMP,
        PROC_STATUS_SECCOMP_FILTERS,
        PROC_STATUS_SLEEPS,
        PROC_STATUS_THREAD_FEATURES,
        PROC_STATUS_THREAD_FEATURES_LOCKED,
        PROC_STATUS_MAX,
};

/* x86_Thread_features */
enum {
        PROC_X86_SHSTK = 1 << 0,   /* user shadow stack on */
        PROC_X86_WRSS = 1 << 1,    /* may write to it */
        PROC_X86_OTHER = 1U << 31, /* a feature that we have no name for */
};

struct proc_status {
        uint64_t present; /* 1 << enum proc_status_field */
        char state;       /* as proc_stat.state */
        uint32_t umask;   /* absent for zombies */
        pid_t tgid, ngid, pid, ppid;
        pid_t tracer_pid; /* 0: nobody */
        uid_t uids[4];    /* real, effective, saved, filesystem; as our user namespace sees them */
        gid_t gids[4];
        uint32_t fd_size; /* slots of the fd table, not open descriptors */
        struct gid_vec groups;
        struct proc_ns_ids nstgid, nspid, nspgid, nssid;
        bool kthread; /* 6.8+, false before: see PF_KTHREAD in proc_stat.flags */
        /* Bytes. Absent for zombies and kernel threads. */
        uint64_t vm_peak, vm_size, vm_lck, vm_pin, vm_hwm, vm_rss, rss_anon, rss_file, rss_shmem;
        uint64_t vm_data, vm_stk, vm_exe, vm_lib, vm_pte, vm_swap, hugetlb;
        bool core_dumping, thp_enabled;
        uint64_t untag_mask;
        uint32_t threads;
        uint64_t sigq, sigq_max; /* queued signals of the real uid, and its limit */
        /* Bit n - 1 is signal n. SigPnd is the thread's own, ShdPnd the process's. */
        uint64_t sig_pnd, shd_pnd, sig_blk, sig_ign, sig_cgt;
        /* Bit n is capability n. */
        uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
        bool no_new_privs;
        uint32_t seccomp;                                 /* 0 none, 1 strict, 2 filter */
        uint32_t seccomp_filters;                         /* 5.9+ */
        uint64_t sleeps;                                  /* how often the thread has given up a CPU */
        uint32_t thread_features, thread_features_locked; /* PROC_X86_* */
};

static inline bool proc_status_has(const struct proc_status *st, enum proc_status_field field) {
        return st->present >> field & 1;
}

/*
 * Parse the text of a status file. Lines we do not know are passed over; State, Tgid, Pid,
 * PPid, Uid, Gid, the five signal masks and the effective capabilities must be there.
 * *ret is overwritten on success only; free it with proc_status_done().
 */
int proc_status_parse(const char *text, size_t len, struct proc_status *ret);

/* Read and parse `status` of a process or thread. */
int proc_status_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_status *ret);

void proc_status_done(struct proc_status *st);
#define _cleanup_proc_status_ _cleanup_(proc_status_done)

struct scan;

/* Numbers between tabs, as in NSpid: (of status and of a pidfd's fdinfo). False: nonsense. */
bool proc_scan_ns_ids(struct scan *s, struct proc_ns_ids *ret);
