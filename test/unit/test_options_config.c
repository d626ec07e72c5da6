/* SPDX-License-Identifier: GPL-2.0-only */
/* Options in files (cli/config.h): which one wins, how they are written, what is refused. */
#include "test_options.h"

struct files {
        char dir[32];
        char system_file[64], home_dir[64], home_file[96], env_file[64], config_file[64];
        struct option_env env;
};

static void write_file(const char *path, const char *text) {
        _cleanup_fclose_ FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
}

static int setup(void **state) {
        struct files *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/ckpt-options.XXXXXX");
        if (!mkdtemp(f->dir))
                return -1;
        snprintf(f->system_file, sizeof(f->system_file), "%s/system", f->dir);
        snprintf(f->home_dir, sizeof(f->home_dir), "%s/.ckpt", f->dir);
        snprintf(f->home_file, sizeof(f->home_file), "%s/default.conf", f->home_dir);
        snprintf(f->env_file, sizeof(f->env_file), "%s/env", f->dir);
        snprintf(f->config_file, sizeof(f->config_file), "%s/config", f->dir);
        f->env = (struct option_env){ .system_file = f->system_file, .home = f->dir };
        *state = f;
        return mkdir(f->home_dir, 0700);
}

static int teardown(void **state) {
        struct files *f = *state;

        unlink(f->system_file);
        unlink(f->home_file);
        unlink(f->env_file);
        unlink(f->config_file);
        rmdir(f->home_dir);
        rmdir(f->dir);
        free(f);
        return 0;
}

static int timeout_of(const struct option_env *env, const char *a, const char *b) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_options_ struct ckpt_options opts;

        if (parse(&opts, &err, env, "dump", a, b, NULL) != 0)
                fail_msg("%s", ckpt_error_message(&err));
        return opts.timeout;
}

static void test_precedence(void **state) {
        struct files *f = *state;

        assert_int_equal(timeout_of(&f->env, NULL, NULL), 10); /* none of the files exists */
        write_file(f->system_file, "timeout 21\n");
        assert_int_equal(timeout_of(&f->env, NULL, NULL), 21);
        write_file(f->home_file, "timeout 22\n");
        assert_int_equal(timeout_of(&f->env, NULL, NULL), 22);
        write_file(f->env_file, "timeout 23\n");
        f->env.config_file = f->env_file;
        assert_int_equal(timeout_of(&f->env, NULL, NULL), 23);
        write_file(f->config_file, "timeout 24\n");
        assert_int_equal(timeout_of(&f->env, "--config", f->config_file), 24);
        assert_int_equal(timeout_of(&f->env, "--timeout=25", NULL), 25);
        assert_int_equal(timeout_of(&f->env, "--no-default-config", NULL), 23);
        f->env.config_file = NULL;
        assert_int_equal(timeout_of(&f->env, "--no-default-config", NULL), 10);
        assert_int_equal(timeout_of(&f->env, "--help", NULL), 10);
}

static void test_merging(void **state) {
        struct files *f = *state;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_options_ struct ckpt_options a, b;

        write_file(f->system_file, "verbosity 4\naction-script /one\nleave-running\nno-log-pid\n");
        assert_int_equal(parse(&a, &err, &f->env, "-v", "--action-script=/two", "--no-leave-running", NULL),
                         0);
        assert_int_equal(a.verbosity, 3);
        assert_int_equal(a.action_script.n, 2);
        assert_string_equal(a.action_script.v[0], "/one");
        assert_false(a.leave_running);
        assert_int_equal(parse(&b, &err, &f->env, "dump", NULL), 0);
        assert_int_equal(b.verbosity, 4);
        assert_true(b.leave_running);
}

static void test_config_syntax(void **state) {
        struct files *f = *state;
        _cleanup_options_ struct ckpt_options opts;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        write_file(f->system_file, "# a comment\n\n  \t \n"
                                   "\tleave-stopped   # another\r\n"
                                   "images-dir \"/with \\\"quotes\\\" and # \\\\\"\n"
                                   "work-dir 'single \\ \"quotes\"'\n"
                                   "log-file a\\ b#c\n"
                                   "manage-cgroups\n"
                                   "pidfile pre\"fix\" # the last line has no end");
        assert_int_equal(parse(&opts, &err, &f->env, "dump", NULL), 0);
        assert_true(opts.leave_stopped);
        assert_string_equal(opts.images_dir, "/with \"quotes\" and # \\");
        assert_string_equal(opts.work_dir, "single \\ \"quotes\"");
        assert_string_equal(opts.log_file, "a b#c");
        assert_true(opts.manage_cgroups.given);
        assert_null(opts.manage_cgroups.text);
        assert_string_equal(opts.pidfile, "prefix");
}

static void test_config_errors(void **state) {
        static const struct {
                const char *text, *message;
        } bad[] = {
                { "frob\n", ":1: unknown option 'frob'" },
                { "\n\n--timeout 5\n", ":3: unknown option '--timeout'" },
                { "timeout\n", ":1: --timeout needs a value" },
                { "timeout 5 6\n", ":1: '6' is too much" },
                { "timeout ''\n", ":1: --timeout needs a value" },
                { "timeout abc\n", ":1: --timeout: 'abc' is not a number" },
                { "timeout 0\n", ":1: --timeout: 0 is out of range" },
                { "log-file 'x\n'\n", ":1: a quote is not closed" },
                { "leave-running yes\n", ":1: --leave-running does not take a value" },
                { "config x\n", ":1: option 'config' is possible on the command line only" },
                { "no-default-config\n", "on the command line only" },
                { "help\n", "on the command line only" },
                { "images_dir_fd 3\n", "unknown option" },
                { "\"\"\n", "unknown option ''" },
        };
        struct files *f = *state;
        FILE *big;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                write_file(f->system_file, bad[i].text);
                assert_refused(bad[i].message, &f->env, "dump");
                assert_refused(f->system_file, &f->env, "dump");
        }

        big = fopen(f->system_file, "we");
        for (int i = 0; i < 300000; i++)
                fputs("#####\n", big);
        fclose(big);
        assert_refused("too big", &f->env, "dump");
        big = fopen(f->system_file, "we");
        fwrite("#\0#", 1, 3, big);
        fclose(big);
        assert_refused("zero bytes", &f->env, "dump");
        unlink(f->system_file);

        assert_refused("configuration file", &f->env, "--config", f->system_file);
        assert_refused("configuration file", &f->env, "--config", f->dir);
        f->env.config_file = f->system_file;
        assert_refused("configuration file", &f->env, "dump");
}

/* One file serves all commands; what is not supported is refused all the same, with the file. */
static void test_config_check(void **state) {
        const char *dump[] = { "ckpt", "dump", NULL }, *inspect[] = { "ckpt", "inspect", NULL };
        const char *off[] = { "ckpt", "dump", "--no-lazy-pages", NULL };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct files *f = *state;

        write_file(f->system_file, "leave-running\nlazy-pages\n");
        assert_int_equal(check(inspect, &err, &f->env), 0);
        assert_int_equal(check(off, &err, &f->env), 0);
        assert_true(check(dump, &err, &f->env) < 0);
        assert_non_null(strstr(ckpt_error_message(&err), "--lazy-pages is not supported yet: "));
        assert_non_null(strstr(ckpt_error_message(&err), f->system_file));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_precedence, setup, teardown),
                cmocka_unit_test_setup_teardown(test_merging, setup, teardown),
                cmocka_unit_test_setup_teardown(test_config_syntax, setup, teardown),
                cmocka_unit_test_setup_teardown(test_config_errors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_config_check, setup, teardown),
        };

        return cmocka_run_group_tests_name("options in files", tests, NULL, NULL);
}
