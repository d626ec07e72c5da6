/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A thread of ckpt takes on one attribute after the other, and sees whether what is read of it shows that. It ends with
 * attributes that cannot be given back, so it is made for this only. It must not use what it has forbidden itself:
 * between two of its states there are only system calls.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/thread_facts_internal.h"
#include "lib/thread.h"
#include "macro.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { ATTEMPTS = 8 /* some of the bits also change when the CPU is taken away */ };

static int read_self(const struct thread_facts *f, struct thread_fact *ret) {
        _cleanup_(thread_fact_vec_done) struct thread_fact_vec facts = { 0 };
        int r = thread_facts_read(f, getpid(), &facts);
        const struct thread_fact *own;

        if (r < 0)
                return r;
        own = thread_facts_find(&facts, gettid());
        if (!own)
                return -ENODATA;
        *ret = *own;
        return 0;
}

/* ---- values ---- */

static bool has_mempolicy(void) {
        int mode = MPOL_DEFAULT;

        return syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0) == 0 && mode != MPOL_DEFAULT;
}

static bool values_agree(const struct thread_fact *fact) {
        const uint64_t *like = fact->likeness;
        uint64_t address = 0;
        char comm[16] = { 0 };
        int pdeath = -1;
        stack_t ss;

        return prctl(PR_GET_NAME, comm, 0, 0, 0) == 0 && strncmp(comm, fact->comm, sizeof(comm)) == 0 &&
               prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 && address == fact->tid_address &&
               sigaltstack(NULL, &ss) == 0 && (uintptr_t)ss.ss_sp == fact->ss_sp &&
               ss.ss_size == fact->ss_size && (uint32_t)ss.ss_flags == fact->ss_flags &&
               prctl(PR_GET_PDEATHSIG, &pdeath, 0, 0, 0) == 0 && (uint64_t)pdeath == like[LIKE_PDEATH] &&
               (uint64_t)syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0) == like[LIKE_SLACK] &&
               (uint64_t)(unsigned int)personality(0xffffffff) == like[LIKE_PERSONALITY] &&
               (uint64_t)prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == like[LIKE_SECUREBITS] &&
               has_mempolicy() == (like[LIKE_MEMPOLICY] != 0);
}

static int compare_values(const struct thread_facts *f) {
        struct thread_fact fact;
        int r = read_self(f, &fact);

        return r < 0 ? r : values_agree(&fact) ? 0 : -ENODATA;
}

/* Not its own: pthread_join() waits for that. */
static int compare_address(const struct thread_facts *f) {
        uint64_t own;
        pid_t other = 0;
        int r;

        if (prctl(PR_GET_TID_ADDRESS, &own, 0, 0, 0) < 0)
                return -ENODATA;
        (void)syscall(SYS_set_tid_address, &other);
        r = compare_values(f);
        (void)syscall(SYS_set_tid_address, own);
        return r;
}

static int compare_stacks(const struct thread_facts *f) {
        char room[4096 * 4];
        const stack_t stacks[] = {
                { .ss_sp = room, .ss_size = sizeof(room) },
                { .ss_sp = room + 4096, .ss_size = sizeof(room) - 4096, .ss_flags = (int)SS_AUTODISARM },
                { .ss_flags = SS_DISABLE },
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(stacks); i++)
                r = sigaltstack(&stacks[i], NULL) < 0 ? -ENODATA : compare_values(f);
        return r;
}

/* A policy without nodes is one of its own, too: memory from where it runs. */
static int compare_mempolicy(const struct thread_facts *f) {
        if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, NULL, 0) < 0)
                return errno == ENOSYS ? 0 : -ENODATA;
        if (!has_mempolicy())
                return -ENODATA;
        return compare_values(f);
}

static int check_values(const struct thread_facts *f) {
        int r = compare_values(f);

        if (r == 0)
                r = compare_address(f);
        if (r == 0)
                r = compare_stacks(f);
        if (r == 0)
                r = compare_mempolicy(f);
        if (r < 0)
                return r;
        if (prctl(PR_SET_NAME, "ckpt: fifteen c", 0, 0, 0) < 0 ||
            prctl(PR_SET_PDEATHSIG, SIGURG, 0, 0, 0) < 0 ||
            prctl(PR_SET_TIMERSLACK, (1UL << 32) + 77777, 0, 0, 0) < 0 ||
            prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
            personality((unsigned int)personality(0xffffffff) ^ ADDR_NO_RANDOMIZE) < 0)
                return -ENODATA;
        return compare_values(f);
}

/* ---- rights ---- */

/* 0, too, where it may not be changed. */
static int changes_credentials(const struct thread_facts *f, struct thread_fact *now, long result) {
        struct thread_fact before = *now;
        int r = result < 0 ? 0 : read_self(f, now);

        return r == 0 && result >= 0 && thread_facts_same_rights(now, &before) ? -ENODATA : r;
}

/* A capability that it may have anyway: others lose it, or get it, by execve(2). Then back. */
static int check_capabilities(const struct thread_facts *f, struct thread_fact *now) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2];
        int r = 0;

        if (syscall(SYS_capget, &head, caps) < 0)
                return -ENODATA;
        for (int i = 0; r == 0 && i < 2; i++) {
                caps[0].inheritable ^= caps[0].permitted & -caps[0].permitted;
                r = changes_credentials(f, now,
                                        caps[0].permitted == 0 ? -1 : syscall(SYS_capset, &head, caps));
        }
        return r;
}

/* Credentials are a thread's own: the library's functions would change them for all of ckpt. */
static int check_credentials(const struct thread_facts *f) {
        gid_t groups[2] = { 65532, 65533 };
        struct thread_fact now;
        int r = read_self(f, &now);

        if (r == 0 && now.credentials == 0)
                r = -ENODATA;
        if (r == 0)
                r = check_capabilities(f, &now);
        if (r == 0)
                r = changes_credentials(f, &now, syscall(SYS_setgroups, ELEMENTSOF(groups), groups));
        if (r == 0)
                r = changes_credentials(f, &now, syscall(SYS_setresgid, -1, -1, getegid() ^ 1));
        if (r == 0)
                r = changes_credentials(f, &now,
                                        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                                                        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
                                                ? 0
                                                : -1);
        return r;
}

static int compare_seccomp(const struct thread_facts *f) {
        int mode = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
        struct thread_fact fact;
        int r = read_self(f, &fact);

        return r < 0 ? r : fact.seccomp == (uint64_t)(mode < 0 ? 0 : mode) ? 0 : -ENODATA;
}

/* A filter that forbids nothing. Without no_new_privs, or where filters are forbidden, there is none. */
static int check_seccomp(const struct thread_facts *f) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        const struct sock_fprog program = { .len = 1, .filter = &allow };
        int r = compare_seccomp(f);

        if (r == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0)
                r = compare_seccomp(f);
        return r;
}

static bool has_pending(const struct thread_facts *f, uint64_t pending) {
        struct thread_fact fact;

        return read_self(f, &fact) == 0 && fact.pending == pending;
}

/* All signals are blocked here. */
static int check_pending(const struct thread_facts *f) {
        const uint64_t signals[] = { 1ULL << (SIGUSR2 - 1), 1ULL << (SIGUSR2 - 1) | 1ULL << (SIGRTMAX - 1) };
        const struct timespec now = { 0 };
        bool agree = has_pending(f, 0) && syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2) == 0 &&
                     has_pending(f, signals[0]) && syscall(SYS_tgkill, getpid(), gettid(), SIGRTMAX) == 0 &&
                     has_pending(f, signals[1]);

        for (int i = 0; i < 2; i++)
                (void)syscall(SYS_rt_sigtimedwait, &signals[1], NULL, &now, sizeof(signals[1]));
        return agree && has_pending(f, 0) ? 0 : -ENODATA;
}

static int check_rights(const struct thread_facts *f) {
        int r = check_pending(f);

        if (r == 0)
                r = check_credentials(f);
        return r < 0 ? r : check_seccomp(f);
}

/* ---- memory ---- */

enum { AREA_CHANGES = 5 };

/* What changes the flags of an area, or which there are. Some kernels and limits do not allow all. */
static int change_areas(char *at, size_t size, unsigned int which) {
        switch (which) {
        case 0:
                return mprotect(at, size, PROT_READ);
        case 1:
                return madvise(at, size, MADV_DONTFORK);
        case 2:
                return madvise(at, size, MADV_NOHUGEPAGE);
        case 3:
                return mlock(at, size);
        default:
                return munmap(at, size);
        }
}

static int check_areas(const struct thread_facts *f) {
        const size_t size = 4 * PAGE_SIZE;
        char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct thread_fact before, now;
        int r = at == MAP_FAILED ? -ENOMEM : read_self(f, &now);

        if (r < 0 || now.areas == 0)
                return r;
        for (unsigned int i = 0; r == 0 && i < AREA_CHANGES; i++) {
                if (change_areas(at, size, i) < 0)
                        continue;
                before = now;
                r = read_self(f, &now);
                if (r == 0 && now.areas == before.areas)
                        r = -ENODATA;
        }
        return r;
}

/* ---- namespaces ---- */

/* Whoever enters one, and be it its own, has others from then on, for all that can be seen. */
static int enter_own(const char *path, int type) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 || setns(fd, type) < 0 ? -ENODATA : 0;
}

static int check_namespaces(const struct thread_facts *f) {
        static const struct {
                const char *path;
                int type;
        } rows[] = {
                { "/proc/self/ns/uts", CLONE_NEWUTS },       { "/proc/self/ns/ipc", CLONE_NEWIPC },
                { "/proc/self/ns/net", CLONE_NEWNET },       { "/proc/self/ns/pid", CLONE_NEWPID },
                { "/proc/self/ns/cgroup", CLONE_NEWCGROUP },
        };
        struct thread_fact before, now;
        int r = read_self(f, &now);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(rows); i++) {
                before = now;
                r = enter_own(rows[i].path, rows[i].type);
                if (r == 0)
                        r = read_self(f, &now);
                if (r == 0 && (now.namespaces == 0 || now.namespaces == before.namespaces))
                        r = -ENODATA;
        }
        return r;
}

/* ---- tables ---- */

/* Of the first thread, and of this one. */
static int read_tables(const struct thread_facts *f, struct thread_fact *ret_first,
                       struct thread_fact *ret_own) {
        _cleanup_(thread_fact_vec_done) struct thread_fact_vec facts = { 0 };
        int r = thread_facts_read(f, getpid(), &facts);
        const struct thread_fact *first = thread_facts_find(&facts, getpid()),
                                 *own = thread_facts_find(&facts, gettid());

        if (r < 0 || !first || !own)
                return r < 0 ? r : -ENODATA;
        *ret_first = *first;
        *ret_own = *own;
        return 0;
}

static bool tables_agree(const struct thread_fact *first, const struct thread_fact *own) {
        long files = syscall(SYS_kcmp, first->tid, own->tid, KCMP_FILES, 0, 0),
             fs = syscall(SYS_kcmp, first->tid, own->tid, KCMP_FS, 0, 0);

        return files >= 0 && fs >= 0 && first->files != 0 && own->files != 0 && first->fs != 0 &&
               own->fs != 0 && (first->files == own->files) == (files == 0) &&
               (first->fs == own->fs) == (fs == 0) &&
               thread_facts_same_tables(first, own) == (files == 0 && fs == 0);
}

/* The last of all: it leaves what it shares with ckpt, for good. The table that it gets goes with it. */
static int check_tables(const struct thread_facts *f) {
        static const int steps[] = { 0, CLONE_FS, CLONE_FILES };
        struct thread_fact before, first, own;
        int r = read_tables(f, &before, &own);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(steps); i++) {
                if (unshare(steps[i]) < 0)
                        return -ENODATA;
                r = read_tables(f, &first, &own);
                if (r == 0 && (!tables_agree(&first, &own) || !thread_facts_same_tables(&first, &before) ||
                               (own.fs == first.fs) != (i < 1) || (own.files == first.files) != (i < 2)))
                        r = -ENODATA;
        }
        return r;
}

/* ---- bits ---- */

static int set_tsc(unsigned long value) {
        return prctl(PR_SET_TSC, value, 0, 0, 0);
}

static int set_cpuid(unsigned long value) {
        return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, value);
}

static int set_machine_checks(unsigned long value) {
        return prctl(PR_MCE_KILL, PR_MCE_KILL_SET, value, 0, 0);
}

static int set_store_bypass(unsigned long value) {
        return prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, value, 0, 0);
}

static int set_branches(unsigned long value) {
        return prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, value, 0, 0);
}

static int set_l1d_flush(unsigned long value) {
        return prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_L1D_FLUSH, value, 0, 0);
}

/* Where the kernel, or the CPU, lets nobody change it, it is the same for all. */
static bool has_cpuid(void) {
        return set_cpuid(1) == 0 || errno != ENODEV;
}

static bool has_speculation(unsigned long which) {
        int now = prctl(PR_GET_SPECULATION_CTRL, which, 0, 0, 0);

        return now > 0 && now & PR_SPEC_PRCTL;
}

static bool has_store_bypass(void) {
        return has_speculation(PR_SPEC_STORE_BYPASS);
}

static bool has_branches(void) {
        return has_speculation(PR_SPEC_INDIRECT_BRANCH);
}

static bool has_l1d_flush(void) {
        return has_speculation(PR_SPEC_L1D_FLUSH);
}

/* The first value is what a thread begins with. */
static const struct mode {
        bool (*has)(void); /* NULL: always */
        int (*set)(unsigned long value);
        unsigned long values[3];
        unsigned int n;
        unsigned long last; /* from which there is no way back; 0: none */
} modes[] = {
        { NULL, set_tsc, { PR_TSC_ENABLE, PR_TSC_SIGSEGV }, 2, 0 },
        { has_cpuid, set_cpuid, { 1, 0 }, 2, 0 },
        { NULL, set_machine_checks, { PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY, PR_MCE_KILL_LATE }, 3, 0 },
        { has_store_bypass,
          set_store_bypass,
          { PR_SPEC_ENABLE, PR_SPEC_DISABLE, PR_SPEC_DISABLE_NOEXEC },
          3,
          PR_SPEC_FORCE_DISABLE },
        { has_branches, set_branches, { PR_SPEC_ENABLE, PR_SPEC_DISABLE }, 2, PR_SPEC_FORCE_DISABLE },
        { has_l1d_flush, set_l1d_flush, { PR_SPEC_DISABLE, PR_SPEC_ENABLE }, 2, 0 },
};

static int read_mode(const struct thread_facts *f, const struct mode *m, unsigned long value,
                     struct thread_fact *ret) {
        return m->set(value) < 0 ? -ENODATA : read_self(f, ret);
}

/* Each value is to be had twice, with the first one between, and each time to look as before, and unlike all others. */
static int try_mode(const struct thread_facts *f, const struct mode *m) {
        struct thread_fact seen[ELEMENTSOF(m->values) + 1], again;
        unsigned int n = m->n + (m->last != 0);
        int r = 0;

        for (unsigned int i = 0; r == 0 && i < m->n; i++)
                r = read_mode(f, m, m->values[i], &seen[i]);
        for (unsigned int i = 0; r == 0 && i < 2 * m->n; i++) {
                unsigned int which = i % 2 == 0 ? 0 : i / 2;

                r = read_mode(f, m, m->values[which], &again);
                if (r == 0 && !thread_facts_alike(&again, &seen[which]))
                        r = -EAGAIN;
        }
        if (r == 0 && m->last != 0)
                r = read_mode(f, m, m->last, &seen[m->n]);
        for (unsigned int i = 0; r == 0 && i < n; i++)
                for (unsigned int j = 0; j < i; j++)
                        if (thread_facts_alike(&seen[i], &seen[j]))
                                r = -ENODATA;
        return r;
}

/* A mode that is left to its last value is not tried again: by then all else was right. */
static int check_mode(const struct thread_facts *f, const struct mode *m) {
        int r = -EAGAIN;

        if (m->has && !m->has())
                return 0;
        for (unsigned int i = 0; r == -EAGAIN && i < ATTEMPTS; i++) {
                r = try_mode(f, m);
                if (r == -EAGAIN)
                        (void)m->set(m->values[0]);
        }
        return r;
}

static int check_modes(const struct thread_facts *f) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(modes); i++) {
                r = check_mode(f, &modes[i]);
                if (modes[i].last == 0)
                        (void)modes[i].set(modes[i].values[0]);
        }
        return r;
}

/* ---- the thread ---- */

struct check {
        const struct thread_facts *f;
        int result;
};

static void *check(void *arg) {
        struct check *c = arg;

        (void)syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
        c->result = check_modes(c->f);
        if (c->result == 0)
                c->result = check_values(c->f);
        if (c->result == 0)
                c->result = check_namespaces(c->f);
        if (c->result == 0)
                c->result = check_areas(c->f);
        if (c->result == 0)
                c->result = check_rights(c->f);
        if (c->result == 0)
                c->result = check_tables(c->f);
        return NULL;
}

int thread_facts_check(const struct thread_facts *f) {
        struct check c = { .f = f };
        pthread_t thread;
        int r = thread_start(&thread, check, &c);

        if (r < 0)
                return r;
        pthread_join(thread, NULL);
        return c.result;
}
