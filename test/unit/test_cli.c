/* SPDX-License-Identifier: GPL-2.0-only */
/* What the command line's helpers do: action scripts, pid file, status descriptor, report, progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "cli/action.h"
#include "cli/pidfile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "lib/io.h"
#include "macro.h"

struct fixture {
        char dir[32], script[64], output[64];
        struct ckpt_options opts;
        struct ckpt_run run;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/ckpt-cli.XXXXXX");
        if (!mkdtemp(f->dir))
                return -1;
        snprintf(f->script, sizeof(f->script), "%s/script", f->dir);
        snprintf(f->output, sizeof(f->output), "%s/output", f->dir);
        ckpt_options_init(&f->opts);
        f->run.opts = &f->opts;
        f->run.images_dir = f->dir;
        f->run.images_dirfd = f->run.work_dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        unlink(f->script);
        unlink(f->output);
        ckpt_options_done(&f->opts);
        close(f->run.work_dirfd);
        /* Fails when something was left behind. */
        if (rmdir(f->dir) < 0)
                return -1;
        free(f);
        return 0;
}

static void write_script(struct fixture *f, const char *text) {
        FILE *file = fopen(f->script, "we");

        assert_non_null(file);
        fputs(text, file);
        assert_int_equal(fchmod(fileno(file), 0700), 0);
        fclose(file);
}

static char *output_of(struct fixture *f) {
        _cleanup_close_ int fd = open(f->output, O_RDONLY | O_CLOEXEC);
        char *text = NULL;

        assert_true(fd >= 0);
        assert_int_equal(read_all(fd, 100000, &text, NULL), 0);
        return text;
}

static void add_script(struct fixture *f, const char *path) {
        assert_int_equal(ckpt_options_set(&f->opts, OPTION_action_script, false, path,
                                          OPTION_SOURCE_COMMAND_LINE, NULL),
                         0);
}

static void test_action_environment(void **state) {
        struct fixture *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_free_ char *text = NULL;
        char expected[300];

        write_script(f, "#!/bin/sh\n"
                        "echo $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR ${CRTOOLS_INIT_PID-none} $OURS $#"
                        " >>$CRTOOLS_IMAGE_DIR/output\n"
                        "grep -q '^SigIgn:.*1...$' /proc/self/status && echo ignores-sigpipe"
                        " >>$CRTOOLS_IMAGE_DIR/output\nexit 0\n");
        setenv("OURS", "passed-on", 1);
        setenv("CRTOOLS_INIT_PID", "from-outside", 1);
        signal(SIGPIPE, SIG_IGN);

        assert_int_equal(action_run(&f->run, ACTION_PRE_DUMP, 1, &err), 0); /* no script */
        add_script(f, f->script);
        add_script(f, f->script);
        assert_int_equal(action_run(&f->run, ACTION_PRE_RESTORE, 0, &err), 0);
        assert_int_equal(action_run(&f->run, ACTION_POST_SETUP_NAMESPACES, 4711, &err), 0);
        signal(SIGPIPE, SIG_DFL);

        text = output_of(f);
        snprintf(expected, sizeof(expected),
                 "pre-restore %s none passed-on 0\npre-restore %s none passed-on 0\n"
                 "post-setup-namespaces %s 4711 passed-on 0\npost-setup-namespaces %s 4711 passed-on 0\n",
                 f->dir, f->dir, f->dir, f->dir);
        assert_string_equal(text, expected);
}

static void expect_failure(struct fixture *f, enum action action, const char *message) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        assert_true(action_run(&f->run, action, 1, &err) < 0);
        if (!strstr(ckpt_error_message(&err), message))
                fail_msg("'%s' lacks '%s'", ckpt_error_message(&err), message);
        assert_non_null(strstr(ckpt_error_message(&err), action_name(action)));
        assert_non_null(strstr(ckpt_error_message(&err), f->script));
}

static void test_action_failures(void **state) {
        struct fixture *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        add_script(f, f->script);
        expect_failure(f, ACTION_PRE_DUMP, "No such file");
        write_script(f, "#!/bin/sh\nexit 3\n");
        for (enum action a = 0; a < ACTION_POST_RESUME; a++)
                expect_failure(f, a, "exit status 3");
        /* The tree runs already. */
        assert_int_equal(action_run(&f->run, ACTION_POST_RESUME, 1, &err), 0);
        assert_false(ckpt_error_is_set(&err));

        write_script(f, "#!/bin/sh\nkill -9 $$\n");
        expect_failure(f, ACTION_POST_DUMP, "signal 9 (Killed)");
        write_script(f, "no interpreter\n");
        expect_failure(f, ACTION_POST_DUMP, "Exec format error");
        chmod(f->script, 0600);
        expect_failure(f, ACTION_POST_DUMP, "Permission denied");
}

/* A failing script keeps the ones after it from running. */
static void test_action_order(void **state) {
        struct fixture *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        write_script(f, "#!/bin/sh\ntouch $CRTOOLS_IMAGE_DIR/output\n");
        add_script(f, "/bin/false");
        add_script(f, f->script);
        assert_true(action_run(&f->run, ACTION_PRE_DUMP, 1, &err) < 0);
        assert_true(access(f->output, F_OK) < 0);
}

static void test_pidfile(void **state) {
        struct fixture *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_free_ char *text = NULL;

        assert_int_equal(pidfile_write(&f->run, 42, &err), 0); /* not asked for */
        f->opts.pidfile = strdup("output");
        assert_int_equal(pidfile_check(&f->run, &err), 0);
        assert_int_equal(pidfile_write(&f->run, 4194303, &err), 0);
        assert_int_equal(pidfile_write(&f->run, 5, &err), 0); /* once */
        text = output_of(f);
        assert_string_equal(text, "4194303\n");

        assert_int_equal(pidfile_check(&f->run, &err), -EEXIST);
        ckpt_error_clear(&err);
        pidfile_undo(&f->run);
        assert_true(access(f->output, F_OK) < 0);

        /* One that was there before is neither replaced nor removed, be it a dangling link. */
        assert_int_equal(symlink("/nowhere", f->output), 0);
        assert_int_equal(pidfile_write(&f->run, 5, &err), -EEXIST);
        assert_non_null(strstr(ckpt_error_message(&err), "--pidfile: output exists already"));
        pidfile_undo(&f->run);
        assert_int_equal(unlink(f->output), 0);

        ckpt_error_clear(&err);
        free(f->opts.pidfile);
        f->opts.pidfile = strdup("/nowhere/at/all");
        assert_int_equal(pidfile_write(&f->run, 5, &err), -ENOENT);
        assert_non_null(strstr(ckpt_error_message(&err), "/nowhere/at/all"));
}

static void test_status(void **state) {
        struct fixture *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        char buf[4] = "xxx";
        int p[2];

        assert_int_equal(status_check(&f->run, &err), 0);
        status_ready(&f->run);
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        f->opts.status_fd = p[0];
        assert_int_equal(status_check(&f->run, &err), -EBADF);
        assert_non_null(strstr(ckpt_error_message(&err), "--status-fd"));
        f->opts.status_fd = p[1];
        assert_int_equal(status_check(&f->run, NULL), 0);
        status_ready(&f->run);
        status_ready(&f->run);
        close(p[1]);
        assert_int_equal(read_full(p[0], buf, 4), 1);
        assert_int_equal(buf[0], 0);
        close(p[0]);
        assert_int_equal(status_check(&f->run, NULL), -EBADF);
}

static void check_report(const char *what, const char *hint, const char *expected) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_free_ char *line = NULL, *text = NULL;
        char with_name[300];
        int p[2];

        ckpt_error(&err, -EIO, "%s", what);
        if (hint)
                ckpt_error_hint(&err, "%s", hint);
        line = report_line(&err);
        assert_string_equal(line, expected);

        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        report_error(p[1], &err);
        close(p[1]);
        assert_int_equal(read_all(p[0], 1000, &text, NULL), 0);
        close(p[0]);
        snprintf(with_name, sizeof(with_name), "ckpt: %s\n", expected);
        assert_string_equal(text, with_name);
}

static void test_report(void **state) {
        (void)state;
        check_report("it failed", NULL, "it failed");
        check_report("it failed.", "Try again", "it failed. Try again.");
        check_report("it failed\n", "Try again.\n", "it failed. Try again.");
        check_report("it failed", "Why not?", "it failed. Why not?");
        check_report("one\ntwo\nthree", NULL, "one; two; three");
        check_report("a\033[2J\177\rb\tc", "\001", "a?[2J??b?c. ?.");
        check_report("\n\n\n", "\n\n", "");
        check_report("", "", "");
        check_report("\n.\n", ". .", "; .");
        check_report("Gr\303\274\303\237e", NULL, "Gr\303\274\303\237e");
}

static void test_progress_format(void **state) {
        char buf[160], small[8];

        (void)state;
        progress_format(buf, sizeof(buf), "dumping", 512 << 20, 1 << 30, 2);
        assert_string_equal(buf, "dumping  512.0 MiB of 1.0 GiB  50%  256.0 MiB/s");
        progress_format(buf, sizeof(buf), "dumping", 1000, 0, 0);
        assert_string_equal(buf, "dumping  1000 B  0 B/s");
        progress_format(buf, sizeof(buf), "dumping", UINT64_MAX, 1, 1);
        assert_string_equal(buf, "dumping  16.0 EiB of 1 B  100%  16.0 EiB/s");
        progress_format(small, sizeof(small), "dumping", 1, 1, 1);
        assert_string_equal(small, "dumping");
}

/* Not a terminal, or not wanted: nothing is counted or written. */
static void test_progress_off(void **state) {
        struct progress p;

        (void)state;
        progress_start(&p, "dumping", false);
        assert_null(p.shared);
        progress_add(&p, 1);
        progress_stop(&p);
}

static void test_progress_on(void **state) {
        int master, slave, saved = dup(STDERR_FILENO);
        char buf[400] = "";
        struct progress p;
        size_t n = 0;

        (void)state;
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
        assert_true(dup2(slave, STDERR_FILENO) >= 0);
        progress_start(&p, "dumping", true);
        assert_non_null(p.shared);
        progress_add_total(&p, 1000);
        progress_add(&p, 250);
        /* Blocks until the first line is drawn, after a second. */
        while (n < sizeof(buf) - 1 && !strstr(buf, "\033[K")) {
                ssize_t got = read(master, buf + n, sizeof(buf) - 1 - n);

                if (got <= 0)
                        break;
                n += (size_t)got;
                buf[n] = '\0';
        }
        progress_stop(&p);
        dup2(saved, STDERR_FILENO);
        assert_non_null(strstr(buf, "dumping  250 B of 1000 B  25%"));
        n = (size_t)MAX(read(master, buf, sizeof(buf) - 1), 0);
        buf[n] = '\0';
        assert_true(n >= 4);
        assert_string_equal(buf + n - 4, "\r\033[K");
        close(master);
        close(slave);
        close(saved);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_action_environment, setup, teardown),
                cmocka_unit_test_setup_teardown(test_action_failures, setup, teardown),
                cmocka_unit_test_setup_teardown(test_action_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pidfile, setup, teardown),
                cmocka_unit_test_setup_teardown(test_status, setup, teardown),
                cmocka_unit_test(test_report),
                cmocka_unit_test(test_progress_format),
                cmocka_unit_test(test_progress_off),
                cmocka_unit_test(test_progress_on),
        };

        return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
