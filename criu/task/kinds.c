/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/mem.h"
#include "task/internal.h"

/* Rows of one phase are carried out in this order; so is everything of a dump. */
const struct task_kind *const task_kinds[] = {
        /* Dump: refuse first; the calls that were interrupted decide about the registers. */
        &kind_unsupported,
        &kind_seccomp_dump,
        &mem_policy_kind, /* may ask several times, so before the others that ask */
        &kind_ldt,
        &kind_syscall,
        &kind_registers,

        /* TASK_PHASE_PROCESS */
        &kind_proc_files,
        &kind_process_early,
        &mem_brk_kind,
        &mem_aio_kind,
        &kind_rlimits_raise,
        &kind_sigactions,
        &kind_posix_timers,
        &kind_sem_undo,
        &kind_seccomp_process,

        /* TASK_PHASE_THREAD */
        &kind_loginuid,
        &kind_thread_early,
        &kind_tls,
        &kind_numa,
        &kind_seccomp_thread,

        /* TASK_PHASE_CREDENTIALS */
        &kind_creds,

        /* TASK_PHASE_LAST */
        &kind_process_late,
        &kind_thread_late,
        &kind_sigaltstack,
        &kind_addresses,
        &kind_sigpending,
        &kind_sigpending_thread,
        &kind_posix_timers_arm,
        &kind_itimers,
        &kind_rlimits,
        &kind_sched,
        &kind_autogroup,
};

const size_t nr_task_kinds = ELEMENTSOF(task_kinds);
