/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this kernel and these capabilities allow. Each feature (features.def) has a small
 * function that really tries it, run at the first question and remembered; nothing is kept on
 * disk. What a probe changes it changes in a child process of its own, and undoes.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "error.h"

enum kernel_feature {
#define FEATURE(id, name, need, since, when, probe, what, cost) KERNEL_##id,
#include "kernel/features.def"
#undef FEATURE
        KERNEL_FEATURE_MAX,
        KERNEL_FEATURE_INVALID = -1,
};

enum kernel_need {
        KERNEL_NEED_REQUIRED, /* no dump or restore without it */
        KERNEL_NEED_OPTIONAL, /* there is another way, or only some programs need it */
        KERNEL_NEED_LATER,    /* ckpt has no function yet that uses it */
        KERNEL_NEED_NONE,     /* ckpt does its work without it */
        KERNEL_NEED_MAX,
        KERNEL_NEED_INVALID = -1,
};

/* One row of features.def. */
struct kernel_feature_info {
        const char *name;
        const char *what;  /* what it is needed for */
        const char *cost;  /* what its lack costs the user */
        const char *since; /* the first kernel that has it, "" if that is not what decides */
        enum kernel_need need;
};

enum kernel_answer {
        KERNEL_UNASKED,
        KERNEL_YES,
        KERNEL_NO,        /* this kernel, as it is configured, does not have it */
        KERNEL_FORBIDDEN, /* the kernel would, but these capabilities or settings do not allow it */
        KERNEL_UNKNOWN,   /* could not be tried: memory, descriptors or processes ran short */
        KERNEL_ANSWER_MAX,
        KERNEL_ANSWER_INVALID = -1,
};

#define KERNEL_NOTE_MAX 160

/* The answers of one run. Opaque: ask with the functions below. */
struct kernel_features {
        pthread_mutex_t lock; /* one probe at a time */
        struct {
                int answer; /* enum kernel_answer; written last, read without the lock */
                char note[KERNEL_NOTE_MAX];
        } row[KERNEL_FEATURE_MAX];
};

/* Make *f ready, with nothing asked yet. Costs nothing. */
void kernel_features_init(struct kernel_features *f);

/* Release what *f holds. */
void kernel_features_done(struct kernel_features *f);

#define _cleanup_kernel_features_ __attribute__((cleanup(kernel_features_done)))

/*
 * Is `feature` there? Probes at the first question (20 microseconds for a system call or two,
 * some 300 for what needs a child), a load afterwards. Callable from any thread. What could not
 * be tried counts as missing, but only for this question: the next one tries again.
 * Children of probes send no SIGCHLD when they end, so that ordinary handlers and waits do not
 * see them. The probes of ptrace stop one, which any waitpid(-1) of another thread could see: ask
 * for those while no thread waits so.
 */
bool kernel_has(struct kernel_features *f, enum kernel_feature feature);

/* As kernel_has(), with the kind of answer. Never KERNEL_UNASKED. */
enum kernel_answer kernel_ask(struct kernel_features *f, enum kernel_feature feature);

/*
 * After kernel_has() or kernel_ask() in the same thread: what the probe has to say beyond yes or
 * no ("kernel.pid_max is 32768", "Operation not permitted"); "" if nothing. Valid as long as *f.
 */
const char *kernel_feature_note(const struct kernel_features *f, enum kernel_feature feature);

/* The row of a feature. `feature` must be valid. */
const struct kernel_feature_info *kernel_feature_info(enum kernel_feature feature);

/* The feature of a name as scripts spell it (aliases too), or KERNEL_FEATURE_INVALID. */
enum kernel_feature kernel_feature_from_name(const char *name);

/*
 * See that what every dump (restore) needs is there, as far as that takes no child process: the
 * privileges and interfaces marked AT_DUMP (AT_RESTORE) in features.def, some 60 microseconds
 * in all. Returns 0, or -EPERM or -EOPNOTSUPP with *err naming the first thing missing, what
 * that costs and what to do.
 */
int kernel_probe_for_dump(struct kernel_features *f, struct ckpt_error *err);
int kernel_probe_for_restore(struct kernel_features *f, struct ckpt_error *err);
