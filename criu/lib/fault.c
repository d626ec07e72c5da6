/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "lib/io.h"
#include "macro.h"

enum fault_action {
        ACTION_KILL,
        ACTION_FAIL,
        ACTION_ENOSPC,
        ACTION_AGAIN,
        ACTION_STOP,
        ACTION_PAUSE,
        ACTION_MAX,
        ACTION_INVALID = -1,
};

static const char *const action_names[ACTION_MAX] = {
        [ACTION_KILL] = "kill",   [ACTION_FAIL] = "fail", [ACTION_ENOSPC] = "enospc",
        [ACTION_AGAIN] = "again", [ACTION_STOP] = "stop", [ACTION_PAUSE] = "pause",
};

static const struct {
        const char *name, *when;
} faults[FAULT_MAX] = {
#define FAULT(id, fault_name, fault_when) [FAULT_##id] = { fault_name, fault_when },
#include "lib/faults.def"
#undef FAULT
};

#define MAX_ARMED 16

struct armed_fault {
        enum fault fault;
        enum fault_action action;
        unsigned int at; /* passage, from 1; 0: every one */
        unsigned int passed;
};

/* Set once before any thread starts; afterwards only the `passed` change, atomically. */
static struct {
        size_t n;
        struct armed_fault v[MAX_ARMED];
} armed;

const char *fault_name(enum fault fault) {
        ckpt_assert(fault >= 0 && fault < FAULT_MAX);
        return faults[fault].name;
}

void fault_list(FILE *f) {
        for (size_t i = 0; i < FAULT_MAX; i++)
                fprintf(f, "%s\t%s\n", faults[i].name, faults[i].when);
}

static bool is_word(const char *s, size_t n, const char *word) {
        return strlen(word) == n && memcmp(s, word, n) == 0;
}

static enum fault fault_from_name(const char *s, size_t n) {
        for (size_t i = 0; i < FAULT_MAX; i++)
                if (is_word(s, n, faults[i].name))
                        return (enum fault)i;
        return FAULT_INVALID;
}

static enum fault_action action_from_name(const char *s, size_t n) {
        for (size_t i = 0; i < ACTION_MAX; i++)
                if (is_word(s, n, action_names[i]))
                        return (enum fault_action)i;
        return ACTION_INVALID;
}

/* A number from 1 to 999,999,999, digits only. 0: not one. */
static unsigned int parse_passage(const char *s, size_t n) {
        unsigned int v = 0;

        if (n == 0 || n > 9)
                return 0;
        for (size_t i = 0; i < n; i++) {
                if (s[i] < '0' || s[i] > '9')
                        return 0;
                v = v * 10 + (unsigned int)(s[i] - '0');
        }
        return v;
}

static int parse_one(const char *s, size_t n, struct armed_fault *ret, struct ckpt_error *err) {
        const char *equals = memchr(s, '=', n);
        size_t name_len = equals ? (size_t)(equals - s) : n;
        const char *colon = memchr(s, ':', name_len);
        struct armed_fault f = { .at = 1 };

        if (!equals)
                return ckpt_error(err, -EINVAL, "CKPT_FAULT: \"%.*s\" has no \"=ACTION\"", (int)n, s);

        f.action = action_from_name(equals + 1, n - name_len - 1);
        if (f.action < 0)
                return ckpt_error(err, -EINVAL,
                                  "CKPT_FAULT: \"%.*s\" is not one of kill, fail, enospc, stop, pause",
                                  (int)(n - name_len - 1), equals + 1);

        if (colon) {
                bool every = is_word(colon + 1, (size_t)(equals - colon - 1), "*");

                f.at = every ? 0 : parse_passage(colon + 1, (size_t)(equals - colon - 1));
                if (f.at == 0 && !every)
                        return ckpt_error(err, -EINVAL,
                                          "CKPT_FAULT: \"%.*s\" is not the number of a passage",
                                          (int)(equals - colon - 1), colon + 1);
                name_len = (size_t)(colon - s);
        }

        f.fault = fault_from_name(s, name_len);
        if (f.fault < 0) {
                ckpt_error(err, -EINVAL, "CKPT_FAULT: there is no fault point \"%.*s\"", (int)name_len, s);
                return ckpt_error_hint(err, "CKPT_FAULT=list prints them all.");
        }

        *ret = f;
        return 0;
}

int fault_init(const char *env, struct ckpt_error *err) {
        struct armed_fault v[MAX_ARMED];
        size_t n = 0;

        armed.n = 0;
        if (!env || !*env)
                return 0;
        if (strcmp(env, "list") == 0)
                return 1;

        for (const char *s = env;; s++) {
                size_t len = strcspn(s, ",");
                int r;

                if (n == MAX_ARMED)
                        return ckpt_error(err, -EINVAL, "CKPT_FAULT: more than %d faults", MAX_ARMED);
                r = parse_one(s, len, &v[n], err);
                if (r < 0)
                        return r;
                n++;
                s += len;
                if (!*s)
                        break;
        }

        memcpy(armed.v, v, n * sizeof(v[0]));
        armed.n = n;
        return 0;
}

static void announce(const struct armed_fault *f) {
        char line[128];
        int n;

        n = snprintf(line, sizeof(line), "ckpt: fault point %s: pid %d %s\n", faults[f->fault].name,
                     (int)getpid(), action_names[f->action]);
        (void)!write_full(STDERR_FILENO, line, MIN((size_t)n, sizeof(line) - 1));
}

static int act(const struct armed_fault *f) {
        if (f->action == ACTION_FAIL)
                return -EIO;
        if (f->action == ACTION_ENOSPC)
                return -ENOSPC;
        if (f->action == ACTION_AGAIN)
                return -EAGAIN;

        announce(f);
        if (f->action == ACTION_PAUSE) {
                kill(getpid(), SIGSTOP);
                return 0;
        }
        if (f->action == ACTION_KILL)
                kill(getpid(), SIGKILL);
        for (;;)
                pause();
}

static int pass(enum fault fault) {
        int r = 0;

        for (size_t i = 0; i < armed.n; i++) {
                struct armed_fault *f = &armed.v[i];
                unsigned int passed;

                if (f->fault != fault)
                        continue;
                passed = __atomic_add_fetch(&f->passed, 1, __ATOMIC_RELAXED);
                if ((f->at == 0 || passed == f->at) && r == 0)
                        r = act(f);
        }
        return r;
}

int fault_point(enum fault fault) {
        if (__builtin_expect(armed.n == 0, 1))
                return 0;
        return pass(fault);
}

int fault_point_error(enum fault fault, struct ckpt_error *err) {
        int r = fault_point(fault);

        if (r < 0)
                return ckpt_error_errno(err, r, "fault point %s, set in CKPT_FAULT", fault_name(fault));
        return 0;
}
