/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seccomp, the restore half. Filters are made with ckpt's privileges, which need no no_new_privs, and are suspended
 * until the end of the restore. What the chains of all threads of a process have in common is synchronized
 * (SECCOMP_FILTER_FLAG_TSYNC), so that it is one object, and the program can synchronize on top of it later.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/seccomp.pb-c.h"
#include "task/internal.h"
#include "task/seccomp.h"

enum {
        INSN_SIZE = sizeof(struct sock_filter),
        CHAIN_INSNS_MAX = 32768, /* of the kernel, which counts four for each filter besides its own */
        FILTER_COST = 4,
        FLAGS_CARRIED = SECCOMP_FILTER_FLAG_LOG,
        RUNNING = 1, /* no result of a system call */
        NONE = -1,
};

struct chain {
        uint32_t depth; /* filters up to this one; 0: not known yet */
        uint32_t cost;
};

struct restore_seccomp {
        Img__Seccomp *msg;
        struct chain *chains; /* of each filter, which is the last of it */
};

/* ---- load ---- */

static int64_t prev_of(const struct restore_seccomp *s, int64_t i) {
        const Img__SeccompFilter *f = s->msg->seccomp_filters[i];

        return f->has_prev ? (int64_t)f->prev : NONE;
}

static int damaged(size_t i, const char *what, struct ckpt_error *err) {
        return ckpt_error(err, -EBADMSG, "seccomp.img: filter %zu %s", i, what);
}

static int check_filter(const struct restore_seccomp *s, size_t i, struct ckpt_error *err) {
        const Img__SeccompFilter *f = s->msg->seccomp_filters[i];

        if (f->filter.len == 0 || f->filter.len % INSN_SIZE != 0 || f->filter.len / INSN_SIZE > BPF_MAXINSNS)
                return damaged(i, "has an impossible length", err);
        if (f->has_prev && f->prev >= s->msg->n_seccomp_filters)
                return damaged(i, "stands on one that is not there", err);
        if (f->has_flags && f->flags & ~(uint32_t)FLAGS_CARRIED)
                return damaged(i, "has flags that no filter can show", err);
        return 0;
}

/* Each filter is walked over twice at most: down to one whose chain is known, and once more to fill in. */
static int measure_chain(struct restore_seccomp *s, size_t i, struct ckpt_error *err) {
        uint32_t depth = 0, cost = 0, steps = 0;

        for (int64_t at = (int64_t)i; at >= 0; at = prev_of(s, at)) {
                if (s->chains[at].depth > 0) {
                        depth += s->chains[at].depth;
                        cost += s->chains[at].cost;
                        break;
                }
                depth++;
                steps++;
                cost += (uint32_t)(s->msg->seccomp_filters[at]->filter.len / INSN_SIZE) + FILTER_COST;
                if (depth > s->msg->n_seccomp_filters || cost > CHAIN_INSNS_MAX + FILTER_COST)
                        return damaged(i, "is in a circle, or in a chain longer than the kernel allows",
                                       err);
        }
        if (cost > CHAIN_INSNS_MAX + FILTER_COST)
                return damaged(i, "is in a chain longer than the kernel allows", err);
        for (int64_t at = (int64_t)i; steps > 0; at = prev_of(s, at), steps--) {
                s->chains[at] = (struct chain){ depth--, cost };
                cost -= (uint32_t)(s->msg->seccomp_filters[at]->filter.len / INSN_SIZE) + FILTER_COST;
        }
        return 0;
}

/* A filter may forbid everything, so the answer comes by memory, and the end by SIGKILL. */
static void __attribute__((noreturn)) try_in_child(const struct sock_fprog *prog, int64_t *result) {
        long r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

        if (r == 0)
                r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, prog);
        __atomic_store_n(result, r < 0 ? -errno : 0, __ATOMIC_SEQ_CST);
        for (;;)
                __builtin_ia32_pause();
}

static int try_filter(const Img__SeccompFilter *f, int64_t *result) {
        struct sock_fprog prog = { (unsigned short)(f->filter.len / INSN_SIZE),
                                   (struct sock_filter *)f->filter.data };
        pid_t pid, ended = 0;

        *result = RUNNING;
        pid = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
        if (pid < 0)
                return -errno;
        if (pid == 0)
                try_in_child(&prog, result);
        while (__atomic_load_n(result, __ATOMIC_SEQ_CST) == RUNNING && ended == 0) {
                sched_yield();
                ended = waitpid(pid, NULL, __WALL | WNOHANG);
        }
        if (ended == 0) {
                kill(pid, SIGKILL);
                while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        }
        return *result == RUNNING ? -ECHILD : (int)*result;
}

static int try_filters(const struct restore_seccomp *s, struct ckpt_error *err) {
        int64_t *result = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int r = 0;

        if (result == MAP_FAILED)
                return ckpt_error_errno(err, -errno, "cannot try the seccomp filters");
        for (size_t i = 0; r == 0 && i < s->msg->n_seccomp_filters; i++) {
                r = try_filter(s->msg->seccomp_filters[i], result);
                if (r == -EINVAL)
                        r = damaged(i, "is no program that this kernel takes", err);
                else if (r < 0)
                        r = ckpt_error_errno(err, r, "cannot try seccomp filter %zu; nothing was created",
                                             i);
        }
        munmap(result, PAGE_SIZE);
        return r;
}

int seccomp_load(struct restore *r, struct ckpt_error *err) {
        struct restore_seccomp *s = arena_new(&r->arena, struct restore_seccomp);
        int ret;

        ret = image_load(r->dir, IMAGE_SECCOMP, 0, IMAGE_OPTIONAL, &img__seccomp__descriptor, &s->msg, err);
        if (ret == -ENOENT)
                return 0;
        if (ret < 0)
                return ret;
        r->seccomp = s;
        if (s->msg->n_seccomp_filters > SECCOMP_FILTERS_MAX)
                return ckpt_error(err, -EBADMSG, "seccomp.img has more filters than any dump writes");
        s->chains = arena_new_array(&r->arena, struct chain, s->msg->n_seccomp_filters);
        for (size_t i = 0; ret == 0 && i < s->msg->n_seccomp_filters; i++)
                ret = check_filter(s, i, err);
        for (size_t i = 0; ret == 0 && i < s->msg->n_seccomp_filters; i++)
                ret = measure_chain(s, i, err);
        return ret < 0 ? ret : try_filters(s, err);
}

void seccomp_load_free(struct restore *r) {
        if (r->seccomp)
                img__seccomp__free_unpacked(r->seccomp->msg, NULL);
        r->seccomp = NULL;
}

/* ---- what a thread has ---- */

/* Older writers kept it for all threads in the leader's image. */
static uint32_t mode_of(const struct restore_thread *t) {
        const Img__ThreadCore *core = restore_thread_core(t);
        const Img__TaskCore *tc = restore_task_core(t);

        if (core->has_seccomp_mode)
                return core->seccomp_mode;
        return tc && tc->has_old_seccomp_mode ? tc->old_seccomp_mode : SECCOMP_MODE_DISABLED;
}

/* The last filter of its chain, or NONE. */
static int64_t last_of(const struct restore_thread *t) {
        const Img__ThreadCore *core = restore_thread_core(t);
        const Img__TaskCore *tc = restore_task_core(t);

        if (mode_of(t) != SECCOMP_MODE_FILTER)
                return NONE;
        if (core->has_seccomp_mode)
                return core->has_seccomp_filter ? (int64_t)core->seccomp_filter : NONE;
        return tc->has_old_seccomp_filter ? (int64_t)tc->old_seccomp_filter : NONE;
}

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const struct restore *r = t->task->restore;
        uint32_t mode = mode_of(t);

        if (mode == SECCOMP_MODE_DISABLED)
                return 0;
        if (mode != SECCOMP_MODE_STRICT && mode != SECCOMP_MODE_FILTER)
                return ckpt_error(err, -EBADMSG, "core-%d.img: %u is no mode of seccomp", t->tid, mode);
        if (mode == SECCOMP_MODE_FILTER &&
            (last_of(t) < 0 || !r->seccomp || last_of(t) >= (int64_t)r->seccomp->msg->n_seccomp_filters))
                return ckpt_error(err, -EBADMSG, "core-%d.img: its seccomp filter is not in the images",
                                  t->tid);
        if (!kernel_has(&t->task->restore->kernel, KERNEL_SECCOMP_SUSPEND)) {
                ckpt_error(err, -EPERM,
                           "%s is under seccomp, which cannot be suspended here; nothing was created",
                           restore_thread_name(t));
                return ckpt_error_hint(err,
                                       "ckpt needs CAP_SYS_ADMIN, and must not be under seccomp itself");
        }
        return 0;
}

size_t seccomp_lane_room(const struct restore_thread *t) {
        const struct restore_seccomp *s = t->task->restore->seccomp;
        size_t room = 0;

        if (!s || !t->core || !t->core->thread_core)
                return 0;
        for (int64_t i = last_of(t); i >= 0; i = prev_of(s, i))
                room = MAX(room, s->msg->seccomp_filters[i]->filter.len);
        return room;
}

/* ---- making ---- */

static struct restore_thread *living(struct restore_task *t, size_t *ret_n) {
        size_t first = t->leader_dead ? 1 : 0;

        *ret_n = t->nr_threads - first;
        return &t->threads[first];
}

/* The last filter that two chains have in common. */
static int64_t common_of(const struct restore_seccomp *s, int64_t a, int64_t b) {
        while (a != b && a >= 0 && b >= 0)
                if (s->chains[a].depth >= s->chains[b].depth)
                        a = prev_of(s, a);
                else
                        b = prev_of(s, b);
        return a == b ? a : NONE;
}

/* The filters above `from` up to `to`, the oldest first. */
static void add_filters(struct restore_thread *t, struct compel_batch *b, int64_t from, int64_t to,
                        uint32_t flags) {
        const struct restore_seccomp *s = t->task->restore->seccomp;
        uint32_t n = to < 0 ? 0 : s->chains[to].depth - (from < 0 ? 0 : s->chains[from].depth);
        int64_t *path = arena_new_array(&t->task->arena, int64_t, n);

        for (uint32_t i = n; i-- > 0; to = prev_of(s, to))
                path[i] = to;
        for (uint32_t i = 0; i < n; i++) {
                const Img__SeccompFilter *f = s->msg->seccomp_filters[path[i]];
                struct sock_fprog prog = { .len = (unsigned short)(f->filter.len / INSN_SIZE) };
                struct compel_op *op;

                compel_room(b, 1, f->filter.len + sizeof(prog) + 2 * sizeof(uint64_t));
                prog.filter = (void *)(uintptr_t)compel_copy(b, f->filter.data, f->filter.len);
                op = compel_call(b, "install a seccomp filter", SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                 flags | (f->has_flags ? f->flags : 0), compel_copy(b, &prog, sizeof(prog)));
                op->check =
                        COMPEL_CHECK_EQUAL; /* that of a thread that cannot be synchronized is its number */
                op->want = 0;
        }
}

/* The kernel runs no filter of a thread from here until it is let go, and kills it if ckpt dies. */
static int attach(struct restore_thread *t, struct ckpt_error *err) {
        int r;

        t->stop.tracer = NULL;
        r = compel_attach(&t->stop, t->tid, PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP);
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot suspend its seccomp filters",
                                        restore_thread_name(t))
                     : 0;
}

static int restore_process(struct restore_thread *t, struct compel_batch *b, struct ckpt_error *err) {
        struct restore_thread *threads;
        bool filtered = false;
        int64_t common;
        size_t n;
        int r = 0;

        threads = living(t->task, &n);
        for (size_t i = 0; i < n; i++)
                filtered |= mode_of(&threads[i]) != SECCOMP_MODE_DISABLED;
        t->task->seccomp_common = NONE;
        if (!filtered)
                return 0;
        common = last_of(&threads[0]);
        for (size_t i = 0; r == 0 && i < n; i++) {
                common = common_of(t->task->restore->seccomp, common, last_of(&threads[i]));
                r = attach(&threads[i], err);
        }
        if (r < 0)
                return r;
        t->task->seccomp_common = common;
        add_filters(t, b, NONE, common, n > 1 ? SECCOMP_FILTER_FLAG_TSYNC : 0);
        return 0;
}

static int restore_thread(struct restore_thread *t, struct compel_batch *b, struct ckpt_error *err) {
        (void)err;
        add_filters(t, b, t->task->seccomp_common, last_of(t), 0);
        if (mode_of(t) == SECCOMP_MODE_STRICT)
                compel_call(b, "enter seccomp's strict mode", SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0);
        return 0;
}

const struct task_kind kind_seccomp_process = {
        .name = "seccomp filters of all threads",
        .phase = TASK_PHASE_PROCESS,
        .restore = restore_process,
};

const struct task_kind kind_seccomp_thread = {
        .name = "seccomp",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .check = check,
        .restore = restore_thread,
};
