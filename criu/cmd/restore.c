/* SPDX-License-Identifier: GPL-2.0-only */
#include "restore/restore.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli/interrupt.h"
#include "cli/pidfile.h"
#include "cmd/cmd.h"
#include "log.h"

static int check_options(struct ckpt_run *run) {
        const struct ckpt_options *opts = run->opts;
        struct ckpt_error *err = &run->err;

        if (opts->exec_cmd && opts->args.n == 0) {
                ckpt_error(err, -EINVAL, "--exec-cmd needs a command");
                return ckpt_error_hint(err, "Write it at the end, after '--'");
        }
        if (!opts->exec_cmd && opts->args.n > 0)
                return ckpt_error(err, -EINVAL, "'%s' is too much: only --exec-cmd takes a command",
                                  opts->args.v[0]);
        if (opts->exec_cmd && opts->restore_detached)
                return ckpt_error(
                        err, -EINVAL,
                        "--exec-cmd and -d/--restore-detached exclude each other: the command stays the "
                        "parent of the tree");
        if (opts->restore_sibling && !opts->restore_detached)
                return ckpt_error(
                        err, -EINVAL,
                        "-S/--restore-sibling needs -d/--restore-detached: ckpt cannot wait for a task "
                        "that is not its child");
        return pidfile_check(run, err);
}

static bool is_program(const char *path) {
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Where execvp() would find `name`; searched before the restore, so that a wrong name is refused
 * while nothing has been created. */
static int find_program(const char *name, char **ret, struct ckpt_error *err) {
        const char *dirs = getenv("PATH") ?: "/usr/bin:/bin";
        char *path = NULL;

        if (strchr(name, '/'))
                dirs = NULL;
        for (const char *dir = dirs, *end; dir; dir = *end ? end + 1 : NULL) {
                end = strchrnul(dir, ':');
                if (asprintf(&path, "%.*s/%s", end > dir ? (int)(end - dir) : 1, end > dir ? dir : ".",
                             name) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "--exec-cmd: %s", name);
                if (is_program(path)) {
                        *ret = path;
                        return 0;
                }
                free(path);
        }
        if (dirs || !is_program(name))
                return ckpt_error(err, -ENOENT, "--exec-cmd: there is no program %s", name);

        *ret = strdup(name);
        return *ret ? 0 : ckpt_error_errno(err, -ENOMEM, "--exec-cmd: %s", name);
}

/* Returns on failure only. */
static int become(struct ckpt_run *run, const char *program) {
        const struct option_strings *args = &run->opts->args;
        struct option_strings argv = { 0 };
        int r = 0;

        for (size_t i = 0; i < args->n && r == 0; i++)
                r = option_strings_push(&argv, args->v[i]);
        if (r == 0)
                r = option_strings_push(&argv, NULL);
        if (r == 0) {
                signal(SIGPIPE, SIG_DFL);
                execv(program, argv.v);
                r = -errno;
        }
        option_strings_done(&argv);
        ckpt_error_errno(&run->err, r, "--exec-cmd: %s cannot be started", program);
        return ckpt_error_hint(&run->err, "The restored tree runs, with pid %d as its root",
                               (int)run->root_pid);
}

/* The exit status as a shell tells it. */
static int wait_for_root(struct ckpt_run *run) {
        int status = 0;

        while (waitpid(run->root_pid, &status, 0) < 0)
                if (errno != EINTR) {
                        ckpt_error_errno(&run->err, -errno, "cannot wait for the root task %d",
                                         (int)run->root_pid);
                        return ckpt_error_hint(&run->err, "The tree has been restored and runs on");
                }
        if (WIFSIGNALED(status)) {
                log_info("the root task %d was killed by signal %d", (int)run->root_pid, WTERMSIG(status));
                return 128 + WTERMSIG(status);
        }
        log_info("the root task %d has ended with status %d", (int)run->root_pid, WEXITSTATUS(status));
        return WEXITSTATUS(status);
}

int cmd_restore(struct ckpt_run *run) {
        _cleanup_free_ char *program = NULL;
        int r;

        r = check_options(run);
        if (r == 0 && run->opts->exec_cmd)
                r = find_program(run->opts->args.v[0], &program, &run->err);
        if (r < 0)
                return r;

        interrupt_says_nothing_left();
        progress_start(&run->progress, "restoring", !run->log_on_stderr || !log_enabled(LOG_LEVEL_INFO));
        r = restore_run(run);
        progress_stop(&run->progress);
        if (r < 0) {
                pidfile_undo(run);
                return r;
        }

        status_ready(run);
        if (program)
                return become(run, program);
        /* A signal now must not look as if nothing had been restored. */
        if (run->opts->restore_detached)
                return 0;
        interrupt_over();
        return wait_for_root(run);
}
