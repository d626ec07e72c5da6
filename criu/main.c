/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/pidfile.h"
#include "cli/report.h"
#include "cli/run.h"
#include "cmd/cmd.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "version.h"

#define SYSTEM_CONFIG "/etc/ckpt/default.conf"

static int (*const commands[COMMAND_MAX])(struct ckpt_run *run) = {
#define COMMAND(id, name, function, status, summary) [COMMAND_##id] = function,
#include "cmd/commands.def"
#undef COMMAND
};

/* Otherwise the next file opened becomes standard error, and messages are written into it. */
static int open_standard_fds(void) {
        int fd;

        do {
                fd = open("/dev/null", O_RDWR);
                if (fd < 0)
                        return -errno;
        } while (fd <= STDERR_FILENO);
        close(fd);
        return 0;
}

static int close_inherited(const struct ckpt_options *opts, struct ckpt_error *err) {
        for (size_t i = 0; i < opts->close_fds.n; i++)
                if (close(opts->close_fds.v[i]) < 0 && errno == EBADF)
                        return ckpt_error(err, -EBADF, "--close: descriptor %d is not open",
                                          opts->close_fds.v[i]);
        return open_standard_fds();
}

static int open_dir(const char *path, const char *label, int *ret, struct ckpt_error *err) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot open the directory %s", label, path);
        *ret = fd;
        return 0;
}

static int open_dirs(struct ckpt_run *run) {
        const struct ckpt_options *opts = run->opts;
        int r;

        r = open_dir(opts->images_dir ?: ".", "-D/--images-dir", &run->images_dirfd, &run->err);
        if (r == 0)
                r = open_dir(opts->work_dir ?: opts->images_dir ?: ".", "-W/--work-dir", &run->work_dirfd,
                             &run->err);
        if (r < 0)
                return r;
        run->images_dir = realpath(opts->images_dir ?: ".", NULL);
        if (!run->images_dir)
                return ckpt_error_errno(&run->err, -errno, "-D/--images-dir: %s", opts->images_dir ?: ".");
        return 0;
}

static int start_log(struct ckpt_run *run, int *ret_fd) {
        const struct ckpt_options *opts = run->opts;
        size_t length = opts->log_file ? strlen(opts->log_file) : 0;
        int fd, flags;

        run->log_on_stderr = !opts->log_file;
        if (run->log_on_stderr) {
                log_open(STDERR_FILENO, (enum log_level)opts->verbosity, opts->log_pid);
                return 0;
        }
        /* It would be truncated, and the checkpoint that it belongs to be lost. */
        if (length >= 4 && strcmp(opts->log_file + length - 4, ".img") == 0)
                return ckpt_error(&run->err, -EINVAL,
                                  "-o/--log-file: %s has the name of an image; choose another",
                                  opts->log_file);
        /* Not blocking: a FIFO that nobody reads is an error. */
        fd = openat(run->work_dirfd, opts->log_file,
                    O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
        if (fd < 0 && errno == ENXIO)
                return ckpt_error(&run->err, -ENXIO, "-o/--log-file: nobody reads from the FIFO %s",
                                  opts->log_file);
        if (fd < 0)
                return ckpt_error_errno(&run->err, -errno, "-o/--log-file: cannot open %s", opts->log_file);
        flags = fcntl(fd, F_GETFL);
        if (flags >= 0)
                (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        log_open(fd, (enum log_level)opts->verbosity, opts->log_pid);
        *ret_fd = fd;
        return 0;
}

/* What was printed must have arrived, where printing is what the command is for. */
static int flush_output(struct ckpt_error *err) {
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return 0;
        return ckpt_error_errno(err, errno ? -errno : -EIO, "cannot write to standard output");
}

static int run_command(const struct ckpt_options *opts, struct ckpt_run *run, int *log_fd) {
        int r;

        run->opts = opts;
        r = close_inherited(opts, &run->err);
        if (r == 0)
                r = status_check(run, &run->err);
        if (r == 0)
                r = open_dirs(run);
        if (r == 0)
                r = start_log(run, log_fd);
        if (r < 0)
                return r;

        log_info("ckpt %s: %s, images in %s", CKPT_VERSION, command_name(opts->command), run->images_dir);
        r = commands[opts->command](run);
        /* A dump or a restore cannot be taken back because its statistics were not read. */
        if (opts->command == COMMAND_DUMP || opts->command == COMMAND_RESTORE)
                (void)flush_output(NULL);
        else if (r == 0)
                r = flush_output(&run->err);
        return r;
}

/* What can be answered, or refused, before anything is opened. Returns 1 when that is all. */
static int answer(const struct ckpt_options *opts, struct ckpt_error *err) {
        const char *missing;

        if (opts->help || opts->version) {
                if (opts->version)
                        printf("Version: %s\n", CKPT_VERSION);
                else
                        help_print(stdout, opts->command);
                return flush_output(err) < 0 ? err->code : 1;
        }
        if (opts->command == COMMAND_INVALID) {
                ckpt_error(err, -EINVAL, "a command is missing");
                return ckpt_error_hint(err, "See ckpt --help");
        }
        missing = command_missing(opts->command);
        if (missing)
                return ckpt_error(err, -EOPNOTSUPP, "%s is not supported yet: %s",
                                  command_name(opts->command), missing);
        if (opts->args.n > 0 && opts->command != COMMAND_RESTORE)
                return ckpt_error(err, -EINVAL, "'%s' is too much: %s takes options only", opts->args.v[0],
                                  command_name(opts->command));
        return ckpt_options_check(opts, err);
}

static void run_done(struct ckpt_run *run) {
        safe_close(run->images_dirfd);
        safe_close(run->work_dirfd);
        free((char *)run->images_dir);
        ckpt_error_clear(&run->err);
}

int main(int argc, char *argv[]) {
        _cleanup_(run_done) struct ckpt_run run = { .images_dirfd = -EBADF, .work_dirfd = -EBADF };
        const struct option_env env = {
                .system_file = SYSTEM_CONFIG,
                .home = getenv("HOME"),
                .config_file = getenv("CKPT_CONFIG_FILE"),
        };
        _cleanup_options_ struct ckpt_options opts;
        _cleanup_close_ int log_fd = -EBADF;
        int r;

        ckpt_options_init(&opts);
        if (open_standard_fds() < 0)
                return EXIT_FAILURE;
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);

        r = fault_init(secure_getenv("CKPT_FAULT"), &run.err);
        if (r > 0) {
                fault_list(stdout);
                return EXIT_SUCCESS;
        }
        if (r == 0)
                r = ckpt_options_parse(argc, argv, &env, &opts, &run.err);
        if (r == 0)
                r = answer(&opts, &run.err);
        if (r > 0)
                return EXIT_SUCCESS;
        if (r == 0)
                r = run_command(&opts, &run, &log_fd);
        if (r >= 0)
                return r;

        if (!ckpt_error_is_set(&run.err))
                ckpt_error_errno(&run.err, r, "%s failed", command_name(opts.command));
        if (log_fd >= 0)
                log_error("%s", ckpt_error_message(&run.err));
        report_error(STDERR_FILENO, &run.err);
        return EXIT_FAILURE;
}
