/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "kernel/probe.h"
#include "macro.h"

static const char *const headings[KERNEL_NEED_MAX] = {
        [KERNEL_NEED_REQUIRED] = "Required",
        [KERNEL_NEED_OPTIONAL] = "Optional: there is another way, or only some programs need it",
        [KERNEL_NEED_LATER] = "The kernel's part of what ckpt does not use yet",
        [KERNEL_NEED_NONE] = "What ckpt does not need",
};

static const char *const answers[KERNEL_ANSWER_MAX] = {
        [KERNEL_UNASKED] = "?",    [KERNEL_YES] = "yes",   [KERNEL_NO] = "no",
        [KERNEL_FORBIDDEN] = "no", [KERNEL_UNKNOWN] = "?",
};

/* Why a feature is not there, in a few words. */
static void print_reason(FILE *out, enum kernel_answer answer, const struct kernel_feature_info *info,
                         const char *note) {
        switch (answer) {
        case KERNEL_FORBIDDEN:
                fprintf(out, "not allowed here");
                break;
        case KERNEL_UNKNOWN:
                fprintf(out, "could not be tried");
                break;
        default:
                fprintf(out, "not in this kernel");
                if (info->since[0])
                        fprintf(out, " (Linux %s or newer may have it)", info->since);
        }
        if (note[0])
                fprintf(out, ": %s", note);
}

static void print_row(FILE *out, struct kernel_features *f, enum kernel_feature feature, int width) {
        const struct kernel_feature_info *info = kernel_feature_info(feature);
        enum kernel_answer answer = kernel_ask(f, feature);
        const char *note = kernel_feature_note(f, feature);

        fprintf(out, "  %-3s  %-*s  %s", answers[answer], width, info->name, info->what);
        if (answer == KERNEL_YES) {
                fprintf(out, "%s%s%s\n", note[0] ? " (" : "", note, note[0] ? ")" : "");
                return;
        }
        fprintf(out, "\n       %-*s  - ", width, "");
        print_reason(out, answer, info, note);
        if (info->need == KERNEL_NEED_REQUIRED || info->need == KERNEL_NEED_OPTIONAL)
                fprintf(out, "\n       %-*s  - without it: %s", width, "", info->cost);
        fprintf(out, "\n");
}

static int name_width(void) {
        size_t width = 0;

        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++)
                width = MAX(width, strlen(kernel_feature_info((enum kernel_feature)i)->name));
        return (int)width;
}

static size_t print_section(FILE *out, struct kernel_features *f, enum kernel_need need, int width) {
        size_t missing = 0;

        fprintf(out, "%s:\n", headings[need]);
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++) {
                enum kernel_feature feature = (enum kernel_feature)i;

                if (kernel_feature_info(feature)->need != need)
                        continue;
                print_row(out, f, feature, width);
                missing += !kernel_has(f, feature);
        }
        fprintf(out, "\n");
        return missing;
}

static int check_all(FILE *out, struct kernel_features *f, struct ckpt_error *err) {
        int width = name_width(), r;
        struct utsname u;
        size_t missing = 0;

        if (uname(&u) == 0)
                fprintf(out, "Linux %s on %s\n\n", u.release, u.machine);
        for (enum kernel_need need = 0; need < KERNEL_NEED_MAX; need++) {
                size_t n = print_section(out, f, need, width);

                if (need == KERNEL_NEED_REQUIRED)
                        missing = n;
        }

        if (missing == 0) {
                fprintf(out, "Looks good.\n");
                return 0;
        }
        fprintf(out, missing == 1 ? "1 required thing is missing.\n" : "%zu required things are missing.\n",
                missing);
        r = ckpt_error(err, -EOPNOTSUPP,
                       missing == 1 ? "%zu thing that ckpt requires is missing here"
                                    : "%zu things that ckpt requires are missing here",
                       missing);
        ckpt_error_hint(err, "They are marked \"no\" under \"Required\" in the list on standard output.");
        return r;
}

static int unknown_feature(const char *name, struct ckpt_error *err) {
        char list[4096] = "";
        size_t len = 0;
        int r;

        for (size_t i = 0; i < KERNEL_FEATURE_MAX && len < sizeof(list); i++)
                len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
                                        kernel_feature_info((enum kernel_feature)i)->name);
        r = ckpt_error(err, -EINVAL, "--feature: there is no feature \"%s\"", name);
        ckpt_error_hint(err, "These are known: %s", list);
        return r;
}

/* The line about a single feature goes to `out` when it is there, into *err when not. */
static int check_feature(FILE *out, struct kernel_features *f, const char *name, struct ckpt_error *err) {
        enum kernel_feature feature = kernel_feature_from_name(name);
        const struct kernel_feature_info *info;
        enum kernel_answer answer;
        const char *note, *kernel;

        if (feature < 0)
                return unknown_feature(name, err);
        info = kernel_feature_info(feature);
        answer = kernel_ask(f, feature);
        note = kernel_feature_note(f, feature);

        if (answer == KERNEL_YES && info->need != KERNEL_NEED_LATER) {
                fprintf(out, "%s is available%s%s\n", name, note[0] ? ": " : "", note);
                return 0;
        }
        kernel = answer == KERNEL_YES         ? "the kernel has it"
                 : answer == KERNEL_FORBIDDEN ? "the kernel does not allow it here"
                 : answer == KERNEL_UNKNOWN   ? "whether the kernel has it could not be tried"
                                              : "the kernel does not have it";
        return ckpt_error(err, -EOPNOTSUPP, "%s (%s) is not available: %s%s%s%s", name, info->what, kernel,
                          note[0] ? ": " : "", note,
                          info->need == KERNEL_NEED_LATER ? "; ckpt does not use it yet" : "");
}

static int check_features(const struct option_strings *names, struct ckpt_error *err) {
        _cleanup_kernel_features_ struct kernel_features f;

        kernel_features_init(&f);
        if (names->n == 0)
                return check_all(stdout, &f, err);
        for (size_t i = 0; i < names->n; i++) {
                int r = check_feature(stdout, &f, names->v[i], err);

                if (r < 0)
                        return r;
        }
        return 0;
}

int check_run(struct ckpt_run *run) {
        if (option_given(run->opts, OPTION_tree_pid))
                return check_tree(run, run->opts->tree_pid);
        return check_features(&run->opts->feature, &run->err);
}
