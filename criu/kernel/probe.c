/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/probe_internal.h"
#include "log.h"
#include "macro.h"

#define AT_DUMP    1
#define AT_RESTORE 2

static const struct kernel_row {
        struct kernel_feature_info info;
        unsigned int when;
        int (*probe)(struct probe *p);
} rows[KERNEL_FEATURE_MAX] = {
#define FEATURE(id, f_name, f_need, f_since, f_when, f_probe, f_what, f_cost) \
        [KERNEL_##id] = {                                                     \
                .info = { .name = f_name,                                     \
                          .what = f_what,                                     \
                          .cost = f_cost,                                     \
                          .since = f_since,                                   \
                          .need = KERNEL_NEED_##f_need },                     \
                .when = f_when,                                               \
                .probe = f_probe,                                             \
        },
#include "kernel/features.def"
#undef FEATURE
};

/* Other spellings in use for the same thing. */
static const struct {
        const char *name;
        enum kernel_feature feature;
} aliases[] = {
        { "get_rseq_conf", KERNEL_PTRACE_GET_RSEQ },
        { "nsid", KERNEL_LINK_NSID },
        { "clone3_set_tid", KERNEL_CLONE_SET_TID },
};

void kernel_features_init(struct kernel_features *f) {
        memset(f, 0, sizeof(*f));
        pthread_mutex_init(&f->lock, NULL);
}

void kernel_features_done(struct kernel_features *f) {
        pthread_mutex_destroy(&f->lock);
}

/* What an errno from a probe means for the user. */
static enum kernel_answer answer_of(int code) {
        switch (-code) {
        case EPERM:
        case EACCES:
        case EROFS:
                return KERNEL_FORBIDDEN;
        case EAGAIN:
        case EINTR:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ENOSPC:
                return KERNEL_UNKNOWN;
        default:
                return KERNEL_NO;
        }
}

/* Errors that say no more than "not in this kernel" or "not allowed". */
static bool says_nothing(int code) {
        static const int errnos[] = { ENOSYS, EINVAL, ENOTTY, EOPNOTSUPP, ENOPROTOOPT, EPERM, EACCES };

        for (size_t i = 0; i < ELEMENTSOF(errnos); i++)
                if (code == -errnos[i])
                        return true;
        return false;
}

static enum kernel_answer probe_row(struct kernel_features *f, enum kernel_feature feature) {
        struct probe p = { .note = f->row[feature].note, .note_size = KERNEL_NOTE_MAX };
        enum kernel_answer answer;
        int r;

        p.note[0] = 0;
        r = rows[feature].probe(&p);
        if (r >= 0)
                answer = r > 0 ? KERNEL_YES : KERNEL_NO;
        else {
                answer = answer_of(r);
                if (!p.note[0] && !says_nothing(r))
                        probe_note(&p, "%s", strerrordesc_np(-r) ?: "refused for an unknown reason");
        }

        log_debug("kernel: %s: %s%s%s", rows[feature].info.name,
                  answer == KERNEL_YES       ? "yes"
                  : answer == KERNEL_UNKNOWN ? "could not be tried"
                                             : "no",
                  p.note[0] ? ": " : "", p.note);
        return answer;
}

enum kernel_answer kernel_ask(struct kernel_features *f, enum kernel_feature feature) {
        int answer;

        ckpt_assert(feature >= 0 && feature < KERNEL_FEATURE_MAX);

        answer = __atomic_load_n(&f->row[feature].answer, __ATOMIC_ACQUIRE);
        if (answer != KERNEL_UNASKED)
                return (enum kernel_answer)answer;

        pthread_mutex_lock(&f->lock);
        answer = f->row[feature].answer;
        if (answer == KERNEL_UNASKED) {
                answer = probe_row(f, feature);
                if (answer != KERNEL_UNKNOWN)
                        __atomic_store_n(&f->row[feature].answer, answer, __ATOMIC_RELEASE);
        }
        pthread_mutex_unlock(&f->lock);
        return (enum kernel_answer)answer;
}

bool kernel_has(struct kernel_features *f, enum kernel_feature feature) {
        return kernel_ask(f, feature) == KERNEL_YES;
}

const char *kernel_feature_note(const struct kernel_features *f, enum kernel_feature feature) {
        ckpt_assert(feature >= 0 && feature < KERNEL_FEATURE_MAX);
        return f->row[feature].note;
}

const struct kernel_feature_info *kernel_feature_info(enum kernel_feature feature) {
        ckpt_assert(feature >= 0 && feature < KERNEL_FEATURE_MAX);
        return &rows[feature].info;
}

enum kernel_feature kernel_feature_from_name(const char *name) {
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++)
                if (strcmp(rows[i].info.name, name) == 0)
                        return (enum kernel_feature)i;
        for (size_t i = 0; i < ELEMENTSOF(aliases); i++)
                if (strcmp(aliases[i].name, name) == 0)
                        return aliases[i].feature;
        return KERNEL_FEATURE_INVALID;
}

static int report_missing(struct kernel_features *f, enum kernel_feature feature, struct ckpt_error *err) {
        const struct kernel_feature_info *info = &rows[feature].info;
        bool forbidden = kernel_ask(f, feature) == KERNEL_FORBIDDEN;
        const char *note = kernel_feature_note(f, feature);
        const char *hint;
        int r;

        r = ckpt_error(err, forbidden ? -EPERM : -EOPNOTSUPP, "%s (to %s) is %s%s%s; %s", info->name,
                       info->what, forbidden ? "not allowed here" : "missing on this kernel",
                       note[0] ? ": " : "", note, info->cost);
        hint = forbidden
                       ? "Nothing was changed. Run ckpt as root, outside of a container that drops capabilities; "
                         "`ckpt check` lists all that is missing."
                       : "Nothing was changed. `ckpt check` lists all that is missing.";
        ckpt_error_hint(err, "%s", hint);
        return r;
}

/* All of ckpt reads /proc, by the pids that it knows itself. */
static int check_proc(struct ckpt_error *err) {
        char self[16], text[16];
        ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        snprintf(self, sizeof(self), "%d", (int)getpid());
        if (strcmp(text, self) == 0)
                return 0;
        ckpt_error(err, -ENOENT,
                   n < 0 ? "/proc is not mounted here; nothing was changed"
                         : "/proc belongs to another pid namespace; nothing was changed");
        return ckpt_error_hint(
                err, "Mount it: mount -t proc proc /proc (in the pid namespace and a mount namespace of "
                     "the tree: unshare --fork --pid --mount-proc)");
}

static int probe_for(struct kernel_features *f, unsigned int when, struct ckpt_error *err) {
        int r = check_proc(err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++)
                if ((rows[i].when & when) && !kernel_has(f, (enum kernel_feature)i))
                        return report_missing(f, (enum kernel_feature)i, err);
        return 0;
}

int kernel_probe_for_dump(struct kernel_features *f, struct ckpt_error *err) {
        return probe_for(f, AT_DUMP, err);
}

int kernel_probe_for_restore(struct kernel_features *f, struct ckpt_error *err) {
        return probe_for(f, AT_RESTORE, err);
}
