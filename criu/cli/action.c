/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/action.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "log.h"
#include "macro.h"
#include "vec.h"

static const struct {
        const char *name;
        bool committed; /* too late to fail */
} actions[ACTION_MAX] = {
        [ACTION_PRE_DUMP] = { "pre-dump" },
        [ACTION_NETWORK_LOCK] = { "network-lock" },
        [ACTION_NETWORK_UNLOCK] = { "network-unlock" },
        [ACTION_POST_DUMP] = { "post-dump" },
        [ACTION_PRE_RESTORE] = { "pre-restore" },
        [ACTION_SETUP_NAMESPACES] = { "setup-namespaces" },
        [ACTION_POST_SETUP_NAMESPACES] = { "post-setup-namespaces" },
        [ACTION_POST_RESTORE] = { "post-restore" },
        [ACTION_PRE_RESUME] = { "pre-resume" },
        [ACTION_POST_RESUME] = { "post-resume", .committed = true },
};

const char *action_name(enum action action) {
        ckpt_assert(action >= 0 && action < ACTION_MAX);
        return actions[action].name;
}

/* An environment: the strings that were made here come first. */
struct environment {
        struct option_strings all;
        size_t owned;
};

static void environment_done(struct environment *env) {
        for (size_t i = 0; i < env->owned; i++)
                free(env->all.v[i]);
        option_strings_done(&env->all);
}

static int environment_add(struct environment *env, const char *name, const char *value) {
        char *text;

        if (asprintf(&text, "%s=%s", name, value) < 0)
                return -ENOMEM;
        if (option_strings_push(&env->all, text) < 0) {
                free(text);
                return -ENOMEM;
        }
        env->owned++;
        return 0;
}

static int environment_make(const struct ckpt_run *run, enum action action, pid_t root_pid,
                            struct environment *env) {
        static const char *const ours[] = { "CRTOOLS_SCRIPT_ACTION=", "CRTOOLS_IMAGE_DIR=",
                                            "CRTOOLS_INIT_PID=" };
        char pid[16];
        int r;

        snprintf(pid, sizeof(pid), "%d", (int)root_pid);
        r = environment_add(env, "CRTOOLS_SCRIPT_ACTION", action_name(action));
        if (r == 0 && run->images_dir)
                r = environment_add(env, "CRTOOLS_IMAGE_DIR", run->images_dir);
        if (r == 0 && root_pid > 0)
                r = environment_add(env, "CRTOOLS_INIT_PID", pid);

        for (char **e = environ; r == 0 && *e; e++) {
                bool replaced = false;

                for (size_t i = 0; i < ELEMENTSOF(ours); i++)
                        replaced |= strncmp(*e, ours[i], strlen(ours[i])) == 0;
                if (!replaced)
                        r = option_strings_push(&env->all, *e);
        }
        return r < 0 ? r : option_strings_push(&env->all, NULL);
}

/* Signals as a program expects them: ckpt ignores SIGPIPE and may block others. */
static int spawn(const char *path, char *const envp[], pid_t *ret) {
        char *argv[] = { (char *)path, NULL };
        posix_spawnattr_t attr;
        sigset_t defaults, mask;
        int r;

        r = posix_spawnattr_init(&attr);
        if (r != 0)
                return -r;
        sigemptyset(&mask);
        sigemptyset(&defaults);
        sigaddset(&defaults, SIGPIPE);
        sigaddset(&defaults, SIGINT);
        sigaddset(&defaults, SIGTERM);
        sigaddset(&defaults, SIGHUP);
        posix_spawnattr_setsigmask(&attr, &mask);
        posix_spawnattr_setsigdefault(&attr, &defaults);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = posix_spawn(ret, path, NULL, &attr, argv, envp);
        posix_spawnattr_destroy(&attr);
        return -r;
}

static int run_script(const char *path, enum action action, char *const envp[], struct ckpt_error *err) {
        int status = 0, r;
        pid_t pid = 0;

        log_info("action script %s: %s", path, action_name(action));
        r = spawn(path, envp, &pid);
        if (r < 0) {
                ckpt_error_errno(err, r, "action script %s cannot be started for stage %s", path,
                                 action_name(action));
                return r == -ENOEXEC ? ckpt_error_hint(err, "Its first line must name its interpreter") : r;
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return ckpt_error_errno(err, -errno, "cannot wait for action script %s", path);

        if (WIFSIGNALED(status))
                return ckpt_error(err, -ECANCELED,
                                  "action script %s was killed by signal %d (%s) at stage %s", path,
                                  WTERMSIG(status), strsignal(WTERMSIG(status)), action_name(action));
        if (WEXITSTATUS(status) != 0)
                return ckpt_error(err, -ECANCELED, "action script %s failed at stage %s with exit status %d",
                                  path, action_name(action), WEXITSTATUS(status));
        return 0;
}

static int run_scripts(const struct ckpt_run *run, enum action action, pid_t root_pid,
                       struct ckpt_error *err) {
        __attribute__((cleanup(environment_done))) struct environment env = { 0 };
        const struct option_strings *scripts = &run->opts->action_script;
        int r;

        r = environment_make(run, action, root_pid, &env);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot start the action scripts for stage %s",
                                        action_name(action));
        for (size_t i = 0; i < scripts->n; i++) {
                r = run_script(scripts->v[i], action, env.all.v, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int action_run(const struct ckpt_run *run, enum action action, pid_t root_pid, struct ckpt_error *err) {
        _cleanup_error_ struct ckpt_error own = CKPT_ERROR_INIT;
        int r;

        if (run->opts->action_script.n == 0)
                return 0;
        if (!actions[action].committed)
                return run_scripts(run, action, root_pid, err);

        r = run_scripts(run, action, root_pid, &own);
        if (r < 0)
                log_warn("%s; the tree runs on", ckpt_error_message(&own));
        return 0;
}
