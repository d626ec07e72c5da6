/* SPDX-License-Identifier: GPL-2.0-only */
/* Options on the command line and in the table (cli/options.h); files are in test_options_config.c. */
#include "test_options.h"

#include "cli/help.h"

static void *field_of(struct ckpt_options *opts, const struct option_desc *desc) {
        return (char *)opts + desc->offset;
}

/* A value that the row accepts. */
static const char *good_value(const struct option_desc *desc, char *buf, size_t size) {
        if (desc->kind == OPTION_KIND_INT || desc->kind == OPTION_KIND_LEVEL ||
            desc->kind == OPTION_KIND_FDS || desc->kind == OPTION_KIND_SIZE)
                snprintf(buf, size, "%lld", (long long)desc->value.max);
        else if (desc->kind == OPTION_KIND_CHOICE)
                snprintf(buf, size, "%.*s", (int)strcspn(desc->value.choices, "|"), desc->value.choices);
        else if (desc == option_desc(OPTION_config))
                snprintf(buf, size, "/dev/null"); /* it is read */
        else
                snprintf(buf, size, "a value of %s", desc->name);
        return buf;
}

static void assert_has_value(struct ckpt_options *opts, const struct option_desc *desc, const char *text) {
        void *field = field_of(opts, desc);

        switch (desc->kind) {
        case OPTION_KIND_BOOL:
                assert_true(*(bool *)field);
                break;
        case OPTION_KIND_INT:
        case OPTION_KIND_LEVEL:
                assert_int_equal(*(int *)field, desc->value.max);
                break;
        case OPTION_KIND_SIZE:
                assert_int_equal(*(uint64_t *)field, desc->value.max);
                break;
        case OPTION_KIND_CHOICE:
                assert_int_equal(*(int *)field, 0);
                break;
        case OPTION_KIND_STRING:
                assert_string_equal(*(char **)field, text);
                break;
        case OPTION_KIND_OPTIONAL:
                assert_true(((struct option_text *)field)->given);
                assert_string_equal(((struct option_text *)field)->text, text);
                break;
        case OPTION_KIND_LIST:
                assert_int_equal(((struct option_strings *)field)->n, 1);
                assert_string_equal(((struct option_strings *)field)->v[0], text);
                break;
        case OPTION_KIND_FDS:
                assert_int_equal(((struct option_ints *)field)->n, 1);
                assert_int_equal(((struct option_ints *)field)->v[0], desc->value.max);
                break;
        default:
                fail();
        }
}

static void check_forms_with_value(enum option_id id, const struct option_desc *desc) {
        _cleanup_options_ struct ckpt_options a, b, c, d;
        char value[64], word[128], separate[64], bundle[128];

        good_value(desc, value, sizeof(value));
        snprintf(word, sizeof(word), "--%s=%s", desc->name, value);
        assert_parses(&a, word);
        assert_true(option_given(&a, id));
        assert_has_value(&a, desc, value);

        ckpt_options_init(&b);
        snprintf(separate, sizeof(separate), "--%s", desc->name);
        if (desc->kind == OPTION_KIND_OPTIONAL) {
                assert_parses(&b, separate);
                assert_true(((struct option_text *)field_of(&b, desc))->given);
                assert_null(((struct option_text *)field_of(&b, desc))->text);
        } else {
                assert_parses(&b, separate, value);
                assert_has_value(&b, desc, value);
                /* The value is missing, empty, or another option. */
                assert_refused(separate, &no_env, separate);
                assert_refused(separate, &no_env, separate, "");
                assert_refused(separate, &no_env, separate, "--help");
        }
        snprintf(word, sizeof(word), "--%s=", desc->name);
        assert_refused(separate, &no_env, word);
        snprintf(word, sizeof(word), "--no-%s", desc->name);
        assert_refused(word, &no_env, word);

        ckpt_options_init(&c);
        ckpt_options_init(&d);
        if (desc->short_name) {
                snprintf(bundle, sizeof(bundle), "-%c%s", desc->short_name, value);
                assert_parses(&c, bundle);
                assert_has_value(&c, desc, value);
        }
        if (desc->short_name && desc->kind != OPTION_KIND_LEVEL) {
                bundle[2] = '\0';
                assert_parses(&d, bundle, value);
                assert_has_value(&d, desc, value);
                assert_refused(separate, &no_env, bundle);
        }
}

static void check_forms_of_bool(enum option_id id, const struct option_desc *desc) {
        _cleanup_options_ struct ckpt_options a, b, c, d;
        char on[64], off[64], letter[3] = { '-', desc->short_name, '\0' }, word[80];

        snprintf(on, sizeof(on), "--%s", desc->name);
        snprintf(off, sizeof(off), "--no-%s", desc->name);
        assert_parses(&a, on);
        assert_true(option_given(&a, id));
        assert_true(*(bool *)field_of(&a, desc));
        assert_parses(&b, on, off);
        assert_true(option_given(&b, id));
        assert_false(*(bool *)field_of(&b, desc));
        assert_parses(&c, off, on);
        assert_true(*(bool *)field_of(&c, desc));

        snprintf(word, sizeof(word), "--%s=yes", desc->name);
        assert_refused(on, &no_env, word);
        snprintf(word, sizeof(word), "--no-%s=1", desc->name);
        assert_refused(off, &no_env, word);

        ckpt_options_init(&d);
        if (desc->short_name) {
                assert_parses(&d, letter);
                assert_true(*(bool *)field_of(&d, desc));
        }
}

static void test_every_row(void **state) {
        (void)state;
        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);

                if (!desc->name)
                        continue;
                if (desc->kind == OPTION_KIND_BOOL)
                        check_forms_of_bool(id, desc);
                else
                        check_forms_with_value(id, desc);
        }
}

static void test_ranges(void **state) {
        char option[64], word[160];

        (void)state;
        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);
                static const char *const bad[] = { "x",    "1x",  " 1", "+1",
                                                   "0x10", "1.5", "-",  "99999999999999999999999",
                                                   "-1",   "1 ",  "1\n" };

                if (!desc->name || (desc->kind != OPTION_KIND_INT && desc->kind != OPTION_KIND_SIZE &&
                                    desc->kind != OPTION_KIND_FDS && desc->kind != OPTION_KIND_LEVEL))
                        continue;
                snprintf(option, sizeof(option), "--%s", desc->name);
                for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                        assert_refused(option, &no_env, option, bad[i]);
                snprintf(word, sizeof(word), "%s=%lld", option, (long long)desc->value.max + 1);
                assert_refused(option, &no_env, word);
                if (desc->value.min > 0) {
                        snprintf(word, sizeof(word), "%s=%lld", option, (long long)desc->value.min - 1);
                        assert_refused(option, &no_env, word);
                }
        }
}

/* A value may look like an option where it can only be a wrong number. */
static void test_negative_numbers(void **state) {
        (void)state;
        assert_refused("--timeout: -5 is out of range", &no_env, "--timeout", "-5");
        assert_refused("--tree: -1 is out of range", &no_env, "-t", "-1");
        assert_refused("--tree needs a value", &no_env, "-t", "-j");
        assert_refused("--log-file needs a value", &no_env, "-o", "-4");
}

static void test_sizes(void **state) {
        static const struct {
                const char *text;
                uint64_t value;
        } sizes[] = { { "0", 0 },
                      { "4096", 4096 },
                      { "512k", 512 << 10 },
                      { "10M", 10 << 20 },
                      { "3G", 3ULL << 30 } };
        static const char *const bad[] = { "K",           "1KB", "1T", "1kk", "5G", "18014398509481984K",
                                           "17179869184G" };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_options_ struct ckpt_options opts;

                assert_parses(&opts, "--ghost-limit", sizes[i].text);
                assert_int_equal(opts.ghost_limit, sizes[i].value);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_refused("--ghost-limit", &no_env, "--ghost-limit", bad[i]);
}

static void test_choices(void **state) {
        _cleanup_options_ struct ckpt_options a, b, c;

        (void)state;
        assert_parses(&a, "--file-validation", "filesize");
        assert_int_equal(a.file_validation, FILE_VALIDATION_FILESIZE);
        assert_refused("--file-validation buildid is not supported yet", &no_env,
                       "--file-validation=buildid");
        assert_refused("--file-validation", &no_env, "--file-validation=?buildid");
        assert_refused("--file-validation", &no_env, "--file-validation=file");
        assert_refused("--file-validation", &no_env, "--file-validation=filesize|");
        assert_parses(&b, "--network-lock=skip");
        assert_int_equal(b.network_lock, NETWORK_LOCK_SKIP);
        assert_parses(&c, "--network-lock=iptables", "--pre-dump-mode=read");
        assert_int_equal(c.network_lock, NETWORK_LOCK_IPTABLES);
        assert_int_equal(c.pre_dump_mode, PRE_DUMP_MODE_READ);
}

static void test_verbosity(void **state) {
        static const struct {
                const char *word;
                int level;
        } forms[] = { { "-v", 3 },   { "-vv", 4 },           { "-vvvvvv", 4 },
                      { "-v0", 0 },  { "-v4", 4 },           { "-jv", 3 },
                      { "-v1j", 1 }, { "--verbosity=3", 3 }, { "--no-log-pid", 2 } };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                _cleanup_options_ struct ckpt_options opts;

                assert_parses(&opts, forms[i].word);
                assert_int_equal(opts.verbosity, forms[i].level);
        }
        assert_refused("--verbosity", &no_env, "-v5");
        assert_refused("--verbosity", &no_env, "-v99999999999999999999");
        assert_refused("-x", &no_env, "-vx");
}

static void test_command_and_arguments(void **state) {
        _cleanup_options_ struct ckpt_options a, b, c, d;

        (void)state;
        assert_parses(&a, "-v4", "dump", "-jR", "--tree=12", "-D", "/x y");
        assert_int_equal(a.command, COMMAND_DUMP);
        assert_int_equal(a.tree_pid, 12);
        assert_true(a.shell_job && a.leave_running && !a.leave_stopped);
        assert_string_equal(a.images_dir, "/x y");
        assert_int_equal(a.timeout, 10);
        assert_int_equal(a.status_fd, -1);
        assert_true(a.default_config);

        assert_parses(&b, "restore", "--exec-cmd", "--", "sh", "-c", "--", "-t");
        assert_int_equal(b.args.n, 4);
        assert_string_equal(b.args.v[2], "--");
        assert_string_equal(b.args.v[3], "-t");
        assert_parses(&c, "swrk", "5");
        assert_string_equal(c.args.v[0], "5");
        assert_parses(&d, "-jt5", "dump", "-jdD", "dir", "-t", "6", "--action-script", "a",
                      "--action-script=b", "--close=3", "--close", "4");
        assert_int_equal(d.tree_pid, 6);
        assert_string_equal(d.images_dir, "dir");
        assert_int_equal(d.action_script.n, 2);
        assert_string_equal(d.action_script.v[1], "b");
        assert_int_equal(d.close_fds.v[1], 4);

        assert_refused("'frob'", &no_env, "frob");
        assert_refused("''", &no_env, "");
        assert_refused("'-'", &no_env, "-");
        for (enum command_id id = 0; id < COMMAND_MAX; id++)
                assert_int_equal(command_find(command_name(id)), id);
}

static void test_hostile(void **state) {
        _cleanup_free_ char *huge = malloc(2000002);
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct ckpt_options opts;
        char word[8] = "--", *argv[] = { NULL };

        (void)state;
        assert_non_null(huge);
        memset(huge, '-', 2000001);
        huge[2000001] = '\0';
        assert_refused("unknown option", &no_env, huge);
        memset(huge + 2, 'a', 1999999);
        assert_refused("unknown option", &no_env, huge);
        assert_refused("unknown command", &no_env, huge + 2);
        huge[1] = 'a';
        assert_refused("unknown option -a", &no_env, huge);
        memcpy(huge, "--tree=", 7);
        memset(huge + 7, '9', 1999994);
        assert_refused("--tree", &no_env, huge);

        for (int c = 1; c < 256; c++) {
                word[2] = (char)c;
                word[3] = '\0';
                if (c != '=')
                        assert_refused("unknown option", &no_env, word);
                if (c == '-' || option_find_short((char)c) != OPTION_INVALID)
                        continue;
                word[1] = (char)c;
                word[2] = '\0';
                assert_refused("unknown option", &no_env, word);
                word[1] = '-';
        }
        assert_refused("unknown option", &no_env, "--=");
        assert_refused("unknown option", &no_env, "--=x");
        assert_refused("unknown option", &no_env, "--no-");
        assert_refused("unknown option", &no_env, "--no-no-help");
        assert_refused("unknown option", &no_env, "--leave-run");
        assert_refused("unknown option", &no_env, "---help");
        assert_refused("unknown option", &no_env, "--Help");

        /* execve(2) allows an empty argv. */
        assert_int_equal(ckpt_options_parse(0, argv, &no_env, &opts, &err), 0);
        assert_int_equal(opts.command, COMMAND_INVALID);
        ckpt_options_done(&opts);

        assert_true(parse(&opts, &err, &no_env, "--leave-runing", NULL) < 0);
        assert_string_equal(err.hint, "Did you mean --leave-running?");
        ckpt_error_clear(&err);
}

/* Each option with each command: taken, not taken, or refused by name as not supported yet. */
static void test_check(void **state) {
        (void)state;
        for (enum command_id command = 0; command < COMMAND_MAX; command++)
                for (enum option_id id = 0; id < OPTION_MAX; id++) {
                        const struct option_desc *desc = option_desc(id);
                        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                        char value[64], word[140], label[80];
                        const char *words[] = { "ckpt", command_name(command), word, NULL };
                        bool plain = desc->kind == OPTION_KIND_BOOL, off = plain && desc->value.initial;
                        int r;

                        if (!desc->name || id == OPTION_config)
                                continue;
                        if (id == OPTION_external)
                                snprintf(value, sizeof(value), "unix[12]");
                        else
                                good_value(desc, value, sizeof(value));
                        snprintf(word, sizeof(word), "--%s%s%s%s", off ? "no-" : "", desc->name,
                                 plain ? "" : "=", plain ? "" : value);
                        r = check(words, &err, &no_env);
                        if (!(desc->commands & (1U << command))) {
                                snprintf(label, sizeof(label), "--%s is not an option of %s", desc->name,
                                         command_name(command));
                                assert_true(r < 0);
                                assert_non_null(strstr(ckpt_error_message(&err), label));
                        } else if (desc->missing) {
                                snprintf(label, sizeof(label), "--%s is not supported yet: %s", desc->name,
                                         desc->missing);
                                assert_true(r < 0);
                                assert_non_null(strstr(ckpt_error_message(&err), label));
                        } else if (r < 0)
                                fail_msg("%s: %s", word, ckpt_error_message(&err));
                }
}

/* Of the keys of --external, only unix[INODE] is carried over. */
static void test_external(void **state) {
        static const char *const others[] = {
                "mnt[/x]:name", "mnt[]:ms", "dev[1/3]:x", "file[1:2]", "tty[1:2]", "net[1]:x",  "pid[1]:x",
                "veth[a]:b@c",  "unix[",    "unix[]",     "unix[x]",   "unix[1",   "unix[1]:x", "unix[1]]",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                const char *words[] = { "ckpt",       "dump",    "--external", "unix[1]",
                                        "--external", others[i], NULL };
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

                assert_int_equal(check(words, &err, &no_env), -EOPNOTSUPP);
                assert_non_null(strstr(ckpt_error_message(&err), others[i]));
        }
}

static void test_later_turned_off(void **state) {
        const char *words[] = { "ckpt", "dump", "--lazy-pages", "--no-lazy-pages", NULL };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        (void)state;
        assert_int_equal(check(words, &err, &no_env), 0);
        words[3] = NULL;
        assert_true(check(words, &err, &no_env) < 0);
}

/* Numbers of criu_opts (messages.tsv of the wire format); there is no 40. */
static void test_rpc_fields(void **state) {
        static const struct {
                int number;
                const char *name;
        } fields[] = {
                { 1, "images_dir_fd" },
                { 2, "pid" },
                { 3, "leave_running" },
                { 4, "ext_unix_sk" },
                { 5, "tcp_established" },
                { 6, "evasive_devices" },
                { 7, "shell_job" },
                { 8, "file_locks" },
                { 9, "log_level" },
                { 10, "log_file" },
                { 11, "ps" },
                { 12, "notify_scripts" },
                { 13, "root" },
                { 14, "parent_img" },
                { 15, "track_mem" },
                { 16, "auto_dedup" },
                { 17, "work_dir_fd" },
                { 18, "link_remap" },
                { 19, "veths" },
                { 20, "cpu_cap" },
                { 21, "force_irmap" },
                { 22, "exec_cmd" },
                { 23, "ext_mnt" },
                { 24, "manage_cgroups" },
                { 25, "cg_root" },
                { 26, "rst_sibling" },
                { 27, "inherit_fd" },
                { 28, "auto_ext_mnt" },
                { 29, "ext_sharing" },
                { 30, "ext_masters" },
                { 31, "skip_mnt" },
                { 32, "enable_fs" },
                { 33, "unix_sk_ino" },
                { 34, "manage_cgroups_mode" },
                { 35, "ghost_limit" },
                { 36, "irmap_scan_paths" },
                { 37, "external" },
                { 38, "empty_ns" },
                { 39, "join_ns" },
                { 41, "cgroup_props" },
                { 42, "cgroup_props_file" },
                { 43, "cgroup_dump_controller" },
                { 44, "freeze_cgroup" },
                { 45, "timeout" },
                { 46, "tcp_skip_in_flight" },
                { 47, "weak_sysctls" },
                { 48, "lazy_pages" },
                { 49, "status_fd" },
                { 50, "orphan_pts_master" },
                { 51, "config_file" },
                { 52, "tcp_close" },
                { 53, "lsm_profile" },
                { 54, "tls_cacert" },
                { 55, "tls_cacrl" },
                { 56, "tls_cert" },
                { 57, "tls_key" },
                { 58, "tls" },
                { 59, "tls_no_cn_verify" },
                { 60, "cgroup_yard" },
                { 61, "pre_dump_mode" },
                { 62, "pidfd_store_sk" },
                { 63, "lsm_mount_context" },
                { 64, "network_lock" },
                { 65, "mntns_compat_mode" },
                { 66, "skip_file_rwx_check" },
                { 67, "unprivileged" },
                { 68, "images_dir" },
                { 69, "leave_stopped" },
                { 70, "display_stats" },
                { 71, "log_to_stderr" },
        };
        size_t rows = 0;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                bool found = false;

                for (enum option_id id = 0; id < OPTION_MAX; id++) {
                        const struct option_desc *desc = option_desc(id);

                        if (desc->rpc_number != fields[i].number)
                                continue;
                        assert_false(found);
                        found = true;
                        assert_string_equal(desc->rpc_name, fields[i].name);
                }
                if (!found)
                        fail_msg("criu_opts.%s is not in the table", fields[i].name);
        }
        for (enum option_id id = 0; id < OPTION_MAX; id++)
                rows += option_desc(id)->rpc_number != 0;
        assert_int_equal(rows, ELEMENTSOF(fields));
}

/* All options of the documented command line, and what the table must keep to be usable. */
static void test_table(void **state) {
        static const char documented[] =
                "images-dir work-dir prev-images-dir log-file verbosity log-pid config libdir close pidfile status-fd "
                "action-script display-stats unprivileged version help tree leave-running leave-stopped external "
                "freeze-cgroup manage-cgroups cgroup-root cgroup-props cgroup-props-file cgroup-dump-controller "
                "cgroup-yard tcp-established tcp-close skip-in-flight network-lock evasive-devices page-server "
                "address port tls tls-cacert tls-cacrl tls-cert tls-key tls-no-cn-verify force-irmap "
                "irmap-scan-path auto-dedup file-locks link-remap timeout ghost-limit ghost-fiemap shell-job cpu-cap "
                "lazy-pages file-validation track-mem pre-dump-mode ext-unix-sk ext-mount-map "
                "enable-external-sharing enable-external-masters enable-fs skip-mnt empty-ns allow-uprobes "
                "lsm-profile lsm-mount-context stream restore-detached restore-sibling root inherit-fd join-ns "
                "veth-pair weak-sysctls mntns-compat-mode skip-file-rwx-check exec-cmd feature json default-config";
        static const char shorts[] = "DWovLVhtRsljdSrJ";
        char text[sizeof(documented)], *save = NULL;
        bool negated;

        (void)state;
        memcpy(text, documented, sizeof(text));
        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
                if (option_find(word, &negated) == OPTION_INVALID || negated)
                        fail_msg("--%s is not in the table", word);
        assert_int_not_equal(option_find("no-default-config", &negated), OPTION_INVALID);
        assert_true(negated);
        for (size_t i = 0; shorts[i]; i++)
                assert_int_not_equal(option_find_short(shorts[i]), OPTION_INVALID);

        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);

                assert_true(desc->help && desc->commands);
                assert_true(desc->name || desc->rpc_name);
                if (desc->name) {
                        assert_int_equal(option_find(desc->name, &negated), id);
                        assert_true(strlen(desc->name) < 32);
                        assert_int_equal(desc->metavar == NULL, desc->kind == OPTION_KIND_BOOL);
                }
                if (desc->short_name)
                        assert_int_equal(option_find_short(desc->short_name), id);
                for (enum option_id other = 0; other < id; other++)
                        assert_false(desc->rpc_number && desc->rpc_number == option_desc(other)->rpc_number);
        }
}

static void check_help(enum command_id command) {
        _cleanup_free_ char *text = NULL, *copy = NULL;
        char *save = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        help_print(f, command);
        fclose(f);
        for (enum option_id id = 0; id < OPTION_MAX; id++) {
                const struct option_desc *desc = option_desc(id);
                bool off = desc->kind == OPTION_KIND_BOOL && desc->value.initial;
                char name[64];

                if (!desc->name || (command != COMMAND_INVALID && !(desc->commands & (1U << command))))
                        continue;
                snprintf(name, sizeof(name), "--%s%s", off ? "no-" : "", desc->name);
                if (!strstr(text, name))
                        fail_msg("--help lacks %s", name);
        }
        copy = strdup(text);
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                if (strlen(line) > 80)
                        fail_msg("too wide: %s", line);
}

static void test_help(void **state) {
        (void)state;
        check_help(COMMAND_INVALID);
        for (enum command_id id = 0; id < COMMAND_MAX; id++)
                check_help(id);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_rpc_fields),
                cmocka_unit_test(test_every_row),
                cmocka_unit_test(test_ranges),
                cmocka_unit_test(test_negative_numbers),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_choices),
                cmocka_unit_test(test_verbosity),
                cmocka_unit_test(test_command_and_arguments),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_external),
                cmocka_unit_test(test_later_turned_off),
                cmocka_unit_test(test_help),
        };

        return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
