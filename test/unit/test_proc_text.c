/* SPDX-License-Identifier: GPL-2.0-only */
/* The parsers of /proc whose subject has no test of its own, on recorded and on hostile text. */
#include "test_proc_hostile.h"

#include <elf.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proc/attr.h"
#include "proc/auxv.h"
#include "proc/cgroup.h"
#include "proc/limits.h"
#include "proc/scan.h"
#include "proc/sched.h"
#include "proc/stat.h"
#include "proc/status.h"
#include "proc/syscall.h"
#include "proc/timers.h"

static struct proc_dir self_dir(void) {
        struct proc_dir dir;

        assert_int_equal(proc_open(getpid(), &dir), 0);
        return dir;
}

/* --- scan.h --- */

static void test_scan(void **state) {
        (void)state;
        struct scan s = scan_text("18446744073709551615 18446744073709551616 -9223372036854775808 ", 62);
        uint64_t u;
        int64_t i;
        uint32_t u32;
        int32_t i32;

        assert_true(scan_u64(&s, &u) && u == UINT64_MAX && scan_char(&s, ' '));
        assert_false(scan_u64(&s, &u));
        assert_int_equal(*s.p, '1');
        s.p += 21;
        assert_false(scan_i32(&s, &i32));
        assert_false(scan_u64(&s, &u));
        assert_true(scan_i64(&s, &i) && i == INT64_MIN);
        s = scan_text("9223372036854775808", 19);
        assert_false(scan_i64(&s, &i));
        s = scan_text("-2147483648 2147483648", 22);
        assert_true(scan_i32(&s, &i32) && i32 == INT32_MIN && scan_char(&s, ' '));
        assert_false(scan_i32(&s, &i32));
        assert_true(scan_u32(&s, &u32) && u32 == 1U << 31);
        s = scan_text("18446744073709551620", 20); /* the product overflows, not the sum */
        assert_false(scan_u64(&s, &u));
        s = scan_text("00ffffffffffffffff", 18);
        assert_true(scan_hex64(&s, &u) && u == UINT64_MAX && scan_at_end(&s));
        s = scan_text("10000000000000000", 17);
        assert_false(scan_hex64(&s, &u));
        s = scan_text("01777777777777777777777", 23);
        assert_true(scan_oct64(&s, &u) && u == UINT64_MAX);
        s = scan_text("2000000000000000000000", 22);
        assert_false(scan_oct64(&s, &u));
        s = scan_text("", 0);
        assert_false(scan_u64(&s, &u) || scan_hex64(&s, &u) || scan_char(&s, 'x') || scan_line(&s, &s));
        s = scan_text("-", 1);
        assert_false(scan_i64(&s, &i));
        assert_int_equal(scan_left(&s), 1);
}

/* --- stat --- */

static const char stat_text[] =
        "4459 (a) b\n) R 1 (x) S 4455 4450 2499 34816 -1 4194304 104 0 0 0 7 8 9 10 20 -5 3 0 83079 "
        "3133440 360 "
        "18446744073709551615 94300300890112 94300300909993 140728466227632 0 0 0 0 0 0 0 0 0 17 1 99 2 "
        "0 0 0 "
        "94300300926000 94300300927616 94300416004096 140728466229626 140728466229720 140728466229721 "
        "140728466231275 256\n";

static int parse_stat(char *text, size_t len) {
        struct proc_stat st;

        return proc_stat_parse(text, len, &st);
}

static void test_stat(void **state) {
        (void)state;
        struct proc_stat st;

        assert_int_equal(proc_stat_parse(stat_text, strlen(stat_text), &st), 0);
        assert_int_equal(st.pid, 4459);
        assert_string_equal(st.comm, "a) b\n) R 1 (x");
        assert_int_equal(st.state, 'S');
        assert_int_equal(st.ppid, 4455);
        assert_int_equal(st.pgid, 4450);
        assert_int_equal(st.sid, 2499);
        assert_int_equal(st.tty_nr, 34816);
        assert_int_equal(st.tpgid, -1);
        assert_int_equal(st.flags, 4194304);
        assert_int_equal(st.utime, 7);
        assert_int_equal(st.stime, 8);
        assert_int_equal(st.cutime, 9);
        assert_int_equal(st.cstime, 10);
        assert_int_equal(st.nice, -5);
        assert_int_equal(st.num_threads, 3);
        assert_int_equal(st.start_time, 83079);
        assert_int_equal(st.start_code, 94300300890112);
        assert_int_equal(st.end_code, 94300300909993);
        assert_int_equal(st.start_stack, 140728466227632);
        assert_int_equal(st.exit_signal, 17);
        assert_int_equal(st.rt_priority, 99);
        assert_int_equal(st.policy, 2);
        assert_int_equal(st.start_data, 94300300926000);
        assert_int_equal(st.end_data, 94300300927616);
        assert_int_equal(st.start_brk, 94300416004096);
        assert_int_equal(st.arg_start, 140728466229626);
        assert_int_equal(st.arg_end, 140728466229720);
        assert_int_equal(st.env_start, 140728466229721);
        assert_int_equal(st.env_end, 140728466231275);
        assert_int_equal(st.exit_code, 256);
}

static void test_stat_hostile(void **state) {
        (void)state;
        static const char *const bad[] = {
                "", "1", "1 (", "1 ()", "1 () ", "1 () S", "-1 (x) S 1 1 1", "1 x S 1", "1 (x) q 1 1 1 1 1",
        };

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct proc_stat st = { .pid = 77 };

                assert_int_equal(proc_stat_parse(bad[i], strlen(bad[i]), &st), -EBADMSG);
                assert_int_equal(st.pid, 77); /* untouched */
        }
        hostile_check(parse_stat, stat_text, strlen(stat_text), true);
}

static void test_stat_self(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char name[16];
        struct proc_stat st;

        assert_int_equal(prctl(PR_GET_NAME, name), 0);
        assert_int_equal(prctl(PR_SET_NAME, "x) R 1\n) Z 2 3"), 0);
        assert_int_equal(proc_stat_read(&dir, &buf, &st), 0);
        assert_int_equal(prctl(PR_SET_NAME, name), 0);
        assert_string_equal(st.comm, "x) R 1\n) Z 2 3");
        assert_int_equal(st.state, 'R');
        assert_int_equal(st.pid, getpid());
        assert_int_equal(st.ppid, getppid());
        assert_int_equal(st.pgid, getpgid(0));
        assert_int_equal(st.sid, getsid(0));
        assert_int_equal(st.exit_signal, SIGCHLD);
        assert_true(st.start_code < st.end_code && st.arg_start < st.arg_end && st.arg_end <= st.env_start);
}

/* --- status --- */

static const char status_text[] =
        "Name:\ta\\nState:\\tX\nUmask:\t0022\nState:\tT (stopped)\nTgid:\t4459\nNgid:\t3\nPid:\t4460\n"
        "PPid:\t4455\n"
        "TracerPid:\t9\nUid:\t1000\t1001\t1002\t4294967294\nGid:\t5\t6\t7\t8\nFDSize:\t256\nGroups:\t0 "
        "4 24 65534 \n"
        "NStgid:\t4459\t12\t1\nNSpid:\t4460\t13\t2\nNSpgid:\t4455\t0\t0\nNSsid:\t2499\t0\t0\nKthread:\t0\n"
        "VmPeak:\t    3060 kB\nVmSize:\t    3059 kB\nVmLck:\t      16 kB\nVmPin:\t       0 kB\nVmHWM:\t "
        "   1616 kB\n"
        "VmRSS:\t    1616 kB\nRssAnon:\t     112 kB\nRssFile:\t    1504 kB\nRssShmem:\t       0 kB\n"
        "VmData:\t     360 kB\nVmStk:\t     132 kB\nVmExe:\t      20 kB\nVmLib:\t    1528 kB\nVmPTE:\t  "
        "    52 kB\n"
        "VmSwap:\t       4 kB\nHugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n"
        "untag_mask:\t0xffffffffffffffff\nThreads:\t2\nSigQ:\t1/96365\nSigPnd:\t0000000000000001\n"
        "ShdPnd:\t8000000000000000\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000004\n"
        "SigCgt:\t0000000000000008\nCapInh:\t0000000000000010\nCapPrm:\t000001fffeffffff\n"
        "CapEff:\t000001fffefffffe\nCapBnd:\t000001fffefffffd\nCapAmb:\t0000000000000020\nNoNewPrivs:\t1\n"
        "Seccomp:\t2\nSeccomp_filters:\t3\nSpeculation_Store_Bypass:\tvulnerable\n"
        "SpeculationIndirectBranch:\talways enabled\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n"
        "Mems_allowed:\t00000000,00000001\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t77\n"
        "nonvoluntary_ctxt_switches:\t1\nx86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\t\n";

static int parse_status(char *text, size_t len) {
        struct proc_status st;
        int r = proc_status_parse(text, len, &st);

        if (r == 0)
                proc_status_done(&st);
        return r;
}

static void test_status(void **state) {
        (void)state;
        _cleanup_proc_status_ struct proc_status st = { 0 };

        assert_int_equal(proc_status_parse(status_text, strlen(status_text), &st), 0);
        for (unsigned i = 0; i < PROC_STATUS_MAX; i++)
                assert_true(proc_status_has(&st, i));
        assert_int_equal(st.umask, 022);
        assert_int_equal(st.state, 'T');
        assert_int_equal(st.tgid, 4459);
        assert_int_equal(st.ngid, 3);
        assert_int_equal(st.pid, 4460);
        assert_int_equal(st.ppid, 4455);
        assert_int_equal(st.tracer_pid, 9);
        assert_int_equal(st.uids[0], 1000);
        assert_int_equal(st.uids[3], 4294967294);
        assert_int_equal(st.gids[2], 7);
        assert_int_equal(st.fd_size, 256);
        assert_int_equal(st.groups.n, 4);
        assert_int_equal(st.groups.v[3], 65534);
        assert_int_equal(st.nspid.n, 3);
        assert_int_equal(st.nspid.ids[0], 4460);
        assert_int_equal(st.nspid.ids[2], 2);
        assert_int_equal(st.nspgid.ids[1], 0);
        assert_int_equal(st.vm_peak, 3060 << 10);
        assert_int_equal(st.vm_lck, 16 << 10);
        assert_int_equal(st.vm_swap, 4 << 10);
        assert_false(st.core_dumping);
        assert_true(st.thp_enabled);
        assert_int_equal(st.untag_mask, UINT64_MAX);
        assert_int_equal(st.threads, 2);
        assert_int_equal(st.sigq, 1);
        assert_int_equal(st.sigq_max, 96365);
        assert_int_equal(st.sig_pnd, 1);
        assert_int_equal(st.shd_pnd, 1ULL << 63);
        assert_int_equal(st.sig_blk, 2);
        assert_int_equal(st.sig_ign, 4);
        assert_int_equal(st.sig_cgt, 8);
        assert_int_equal(st.cap_inh, 0x10);
        assert_int_equal(st.cap_prm, 0x1fffeffffff);
        assert_int_equal(st.cap_eff, 0x1fffefffffe);
        assert_int_equal(st.cap_bnd, 0x1fffefffffd);
        assert_int_equal(st.cap_amb, 0x20);
        assert_true(st.no_new_privs);
        assert_int_equal(st.seccomp, 2);
        assert_int_equal(st.seccomp_filters, 3);
        assert_int_equal(st.sleeps, 77);
        assert_int_equal(st.thread_features, PROC_X86_SHSTK | PROC_X86_WRSS);
        assert_int_equal(st.thread_features_locked, 0);
}

static void test_status_hostile(void **state) {
        (void)state;
        static const char *const bad[] = { "SigBlk:\t0000000000000002\n", "TracerPid:\t9\n",
                                           "Uid:\t1000\t" };
        char copy[sizeof(status_text) + 64];

        /* A line that is missing, and one that comes twice. */
        for (size_t i = 0; i < 2; i++) {
                const char *at = strstr(status_text, bad[i]);
                size_t n = strlen(bad[i]), before = (size_t)(at - status_text);

                snprintf(copy, sizeof(copy), "%.*s%s", (int)before, status_text, at + n);
                assert_int_equal(parse_status(copy, strlen(copy)), -EBADMSG);
                snprintf(copy, sizeof(copy), "%.*s%s%s", (int)before, status_text, bad[i], at);
                assert_int_equal(parse_status(copy, strlen(copy)), -EBADMSG);
        }
        hostile_check(parse_status, status_text, strlen(status_text), true);
}

static void test_status_self(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_status_ struct proc_status st = { 0 };
        gid_t groups[256];
        int n = getgroups(256, groups);
        sigset_t set, old;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigaddset(&set, SIGRTMAX);
        assert_int_equal(sigprocmask(SIG_SETMASK, &set, &old), 0);
        assert_int_equal(proc_status_read(&dir, &buf, &st), 0);
        assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
        assert_int_equal(st.sig_blk, 1ULL << (SIGUSR1 - 1) | 1ULL << (SIGRTMAX - 1));
        assert_int_equal(st.uids[1], geteuid());
        assert_int_equal(st.groups.n, n);
        for (int i = 0; i < n; i++)
                assert_int_equal(st.groups.v[i], groups[i]);
        assert_int_equal(st.nspid.ids[0], getpid());
        assert_true(proc_status_has(&st, PROC_STATUS_VM_SIZE) && st.vm_size >= st.vm_rss);
}

/* --- limits --- */

static const char limits_text[] =
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              11                   unlimited            seconds   \n"
        "Max file size             unlimited            unlimited            bytes     \n"
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max stack size            8388608              unlimited            bytes     \n"
        "Max core file size        0                    unlimited            bytes     \n"
        "Max resident set          unlimited            unlimited            bytes     \n"
        "Max processes             96365                96365                processes \n"
        "Max open files            1024                 20000                files     \n"
        "Max locked memory         8388608              8388608              bytes     \n"
        "Max address space         unlimited            18446744073709551614 bytes     \n"
        "Max file locks            unlimited            unlimited            locks     \n"
        "Max pending signals       96365                96365                signals   \n"
        "Max msgqueue size         819200               819200               bytes     \n"
        "Max nice priority         1                    2                    \n"
        "Max realtime priority     3                    4                    \n"
        "Max realtime timeout      unlimited            unlimited            us        \n";

static int parse_limits(char *text, size_t len) {
        struct proc_limits limits;

        return proc_limits_parse(text, len, &limits);
}

static void test_limits(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_limits limits;

        assert_int_equal(proc_limits_parse(limits_text, strlen(limits_text), &limits), 0);
        assert_int_equal(limits.v[RLIMIT_CPU].rlim_cur, 11);
        assert_int_equal(limits.v[RLIMIT_CPU].rlim_max, RLIM_INFINITY);
        assert_int_equal(limits.v[RLIMIT_NOFILE].rlim_cur, 1024);
        assert_int_equal(limits.v[RLIMIT_NOFILE].rlim_max, 20000);
        assert_int_equal(limits.v[RLIMIT_AS].rlim_max, RLIM_INFINITY - 1);
        assert_int_equal(limits.v[RLIMIT_RTPRIO].rlim_max, 4);
        assert_int_equal(limits.v[RLIMIT_RTTIME].rlim_cur, RLIM_INFINITY);
        assert_int_equal(proc_limits_read(&dir, &buf, &limits), 0);
        for (int i = 0; i < PROC_LIMITS; i++) {
                struct rlimit rl;

                assert_int_equal(getrlimit(i, &rl), 0);
                assert_int_equal(rl.rlim_cur, limits.v[i].rlim_cur);
                assert_int_equal(rl.rlim_max, limits.v[i].rlim_max);
        }
        hostile_check(parse_limits, limits_text, strlen(limits_text), true);
}

/* --- timers --- */

static const char timers_text[] =
        "ID: 3\nsignal: 10/0000000000000005\nnotify: signal/pid.4790\nClockID: -22\n"
        "ID: 2\nsignal: 0/0000000000000005\nnotify: none/pid.4790\nClockID: -6\n"
        "ID: 1\nsignal: 34/0000deadbeef1234\nnotify: signal/tid.4791\nClockID: 0\n"
        "ID: 0\nsignal: 14/(null)\nnotify: thread/pid.4790\nClockID: 1\n";

static int parse_timers(char *text, size_t len) {
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec vec = { 0 };

        return proc_timers_parse(text, len, &vec);
}

static void test_timers(void **state) {
        (void)state;
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec vec = { 0 };
        char good[512], twice[512];
        const char *null = strstr(timers_text, "(null)");

        assert_int_equal(proc_timers_parse(timers_text, strlen(timers_text), &vec), -EBADMSG);
        snprintf(good, sizeof(good), "%.*s0000000000000000%s", (int)(null - timers_text), timers_text,
                 null + 6);
        assert_int_equal(proc_timers_parse(good, strlen(good), &vec), 0);
        assert_int_equal(vec.n, 4);
        assert_int_equal(vec.v[0].id, 0);
        assert_int_equal(vec.v[0].notify, SIGEV_THREAD);
        assert_int_equal(vec.v[1].signo, 34);
        assert_int_equal(vec.v[1].sival_ptr, 0xdeadbeef1234);
        assert_int_equal(vec.v[1].notify, SIGEV_THREAD_ID);
        assert_true(vec.v[1].by_tid);
        assert_int_equal(vec.v[1].target, 4791);
        assert_int_equal(vec.v[2].notify, SIGEV_NONE);
        assert_int_equal(vec.v[3].clock_id, -22);
        assert_false(vec.v[3].by_tid);
        snprintf(twice, sizeof(twice), "%.120s%.120s", timers_text, timers_text);
        assert_int_equal(proc_timers_parse(twice, strlen(twice), &vec), -EBADMSG);
        assert_int_equal(vec.n, 4);
        hostile_check(parse_timers, good, strlen(good), true);
}

static void test_timers_self(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec vec = { 0 };
        struct sigevent sev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
        int ids[300];

        sev.sigev_value.sival_ptr = (void *)0x123456789abcUL;
        for (size_t i = 0; i < 300; i++)
                assert_int_equal(syscall(SYS_timer_create, CLOCK_BOOTTIME, &sev, &ids[i]), 0);
        assert_int_equal(proc_timers_read(&dir, &buf, &vec), 0);
        assert_int_equal(vec.n, 300);
        for (size_t i = 0; i < 300; i++) {
                assert_int_equal(vec.v[i].id, ids[i]);
                assert_int_equal(vec.v[i].signo, SIGUSR2);
                assert_int_equal(vec.v[i].sival_ptr, 0x123456789abc);
                assert_int_equal(vec.v[i].target, getpid());
                assert_int_equal(vec.v[i].clock_id, CLOCK_BOOTTIME);
                assert_int_equal(syscall(SYS_timer_delete, ids[i]), 0);
        }
        assert_int_equal(proc_timers_read(&dir, &buf, &vec), 0);
        assert_int_equal(vec.n, 0);
}

/* --- cgroup --- */

static int parse_cgroup(char *text, size_t len) {
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec vec = { 0 };

        return proc_cgroup_parse(text, len, &vec);
}

static void test_cgroup(void **state) {
        (void)state;
        static const char text[] = "9:name=systemd:/\n4:memory,cpu:/process api/a:b\n0::/x (deleted)\n";
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec vec = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char copy[sizeof(text)];

        memcpy(copy, text, sizeof(text));
        assert_int_equal(proc_cgroup_parse(copy, strlen(text), &vec), 0);
        assert_int_equal(vec.n, 3);
        assert_int_equal(vec.v[0].hierarchy, 9);
        assert_string_equal(vec.v[0].controllers, "name=systemd");
        assert_string_equal(vec.v[1].controllers, "memory,cpu");
        assert_string_equal(vec.v[1].path, "/process api/a:b");
        assert_int_equal(vec.v[2].hierarchy, 0);
        assert_string_equal(vec.v[2].controllers, "");
        assert_string_equal(vec.v[2].path, "/x (deleted)");
        assert_int_equal(proc_cgroup_read(&dir, &buf, &vec), 0);
        assert_true(vec.n > 0);
        hostile_check(parse_cgroup, text, strlen(text), true);
}

/* --- auxv --- */

static int parse_auxv(char *text, size_t len) {
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec vec = { 0 };

        return proc_auxv_parse(text, len, &vec);
}

static void test_auxv(void **state) {
        (void)state;
        static const uint64_t words[] = { AT_PHDR, 5, AT_SYSINFO_EHDR, 0x7fff0000, AT_NULL, 0, 7, 7, 0 };
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec vec = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        uint64_t v;

        assert_int_equal(proc_auxv_parse((const char *)words, 64, &vec), 0);
        assert_int_equal(vec.n, 4);
        assert_int_equal(proc_auxv_find(&vec, AT_SYSINFO_EHDR, &v), 0);
        assert_int_equal(v, 0x7fff0000);
        assert_int_equal(proc_auxv_find(&vec, 7, &v), -ENOENT);
        assert_int_equal(proc_auxv_parse((const char *)words, 32, &vec), -EBADMSG);
        assert_int_equal(proc_auxv_parse((const char *)words, 40, &vec), -EBADMSG);
        assert_int_equal(vec.n, 4);
        assert_int_equal(proc_auxv_parse("", 0, &vec), 0);
        assert_int_equal(vec.n, 0);
        assert_int_equal(proc_auxv_read(&dir, &buf, &vec), 0);
        assert_int_equal(proc_auxv_find(&vec, AT_PAGESZ, &v), 0);
        assert_int_equal(v, 4096);
        assert_int_equal(proc_auxv_find(&vec, AT_UID, &v), 0);
        assert_int_equal(v, getuid());
        hostile_check(parse_auxv, (const char *)words, 48, false);
}

/* --- syscall --- */

static int parse_syscall(char *text, size_t len) {
        struct proc_syscall sc;

        return proc_syscall_parse(text, len, &sc);
}

static void test_syscall(void **state) {
        (void)state;
        static const char in[] = "202 0x7f0238e1b000 0x80 0x7f0238eacb60 0xffffffff 0x0 0xffffffffffffffff "
                                 "0x7ffe3765d6a8 0x7f0238f952ad\n";
        static const char *const bad[] = { "",
                                           "\n",
                                           "running",
                                           "running \n",
                                           "1 0x1 0x2\n",
                                           "-2 0x1 0x2\n",
                                           "-1 0x1\n",
                                           "-1 0x1 0x2 0x3\n",
                                           "-1 0x1 0x2\n\n" };
        struct proc_syscall sc;

        assert_int_equal(proc_syscall_parse(in, strlen(in), &sc), 0);
        assert_int_equal(sc.state, PROC_SYSCALL_INSIDE);
        assert_int_equal(sc.nr, 202);
        assert_int_equal(sc.args[0], 0x7f0238e1b000);
        assert_int_equal(sc.args[5], UINT64_MAX);
        assert_int_equal(sc.sp, 0x7ffe3765d6a8);
        assert_int_equal(sc.pc, 0x7f0238f952ad);
        assert_int_equal(proc_syscall_parse("running\n", 8, &sc), 0);
        assert_int_equal(sc.state, PROC_SYSCALL_RUNNING);
        assert_int_equal(proc_syscall_parse("-1 0x1 0x2\n", 11, &sc), 0);
        assert_int_equal(sc.state, PROC_SYSCALL_NONE);
        assert_int_equal(sc.pc, 2);
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_equal(proc_syscall_parse(bad[i], strlen(bad[i]), &sc), -EBADMSG);
        assert_int_equal(sc.pc, 2);
        hostile_check(parse_syscall, in, strlen(in), true);
}

static void test_syscall_self(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_syscall sc;

        assert_int_equal(proc_syscall_read(&dir, &buf, &sc), 0);
        /* Reading our own: we are in read(2), though the kernel may also call us running. */
        assert_true(sc.state == PROC_SYSCALL_RUNNING ||
                    (sc.state == PROC_SYSCALL_INSIDE && sc.nr == SYS_read));
}

/* --- sched --- */

static int parse_sched(char *text, size_t len) {
        uint64_t ns;

        return proc_sched_parse(text, len, &ns);
}

#define RULE "-------------------------------------------------------------------\n"

static void test_sched(void **state) {
        (void)state;
        static const char text[] = "\nse.exec_start : (4465, #threads: 1)\n" RULE
                                   "se.exec_start                                :        830787.604964\n"
                                   "se.vruntime                                  :           181.078837\n";
        static const char none[] = "x (1, #threads: 1)\n" RULE "policy : 0\n";
        static const char odd[] = "x (1, #threads: 1)\n" RULE "se.exec_start : 12.5\n";
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        uint64_t ns = 0, later = 0;
        int r;

        assert_int_equal(proc_sched_parse(text, strlen(text), &ns), 0);
        assert_int_equal(ns, 830787604964);
        assert_int_equal(proc_sched_parse(none, strlen(none), &ns), -ENOENT);
        assert_int_equal(proc_sched_parse(odd, strlen(odd), &ns), -EBADMSG);
        assert_int_equal(proc_sched_parse("", 0, &ns), -EBADMSG);
        r = proc_sched_read(&dir, &buf, &ns);
        if (r == 0) {
                /* That clock stands still while the machine takes time for itself, and each CPU has one: it may have gone back. */
                for (later = ns; later == ns;) {
                        usleep(1);
                        assert_int_equal(proc_sched_read(&dir, &buf, &later), 0);
                }
        } else
                assert_int_equal(r, -ENOENT);
        hostile_check(parse_sched, text, strlen(text), false);
}

/* --- single values --- */

static int parse_dec(char *text, size_t len) {
        int64_t v;

        return proc_attr_parse_dec(text, len, &v);
}

static int parse_hex(char *text, size_t len) {
        uint64_t v;

        return proc_attr_parse_hex(text, len, &v);
}

static void test_attr(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = self_dir();
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const char *wchan;
        uint32_t u32;
        uint64_t u64;
        uid_t uid;
        int adj, r;

        assert_int_equal(proc_personality_read(&dir, &buf, &u32), 0);
        assert_int_equal(u32, (uint32_t)personality(0xffffffff));
        assert_int_equal(prctl(PR_SET_TIMERSLACK, 54321), 0);
        assert_int_equal(proc_timerslack_read(&dir, &buf, &u64), 0);
        assert_int_equal(u64, 54321);
        assert_int_equal(prctl(PR_SET_TIMERSLACK, 0), 0);
        assert_int_equal(proc_oom_score_adj_read(&dir, &buf, &adj), 0);
        assert_int_equal(adj, atoi(buf.data));
        assert_int_equal(proc_coredump_filter_read(&dir, &buf, &u32), 0);
        assert_int_equal(u32, strtoul(buf.data, NULL, 16));
        r = proc_loginuid_read(&dir, &buf, &uid);
        assert_true(r == -ENOENT || (r == 0 && uid == (uid_t)strtoul(buf.data, NULL, 10)));
        r = proc_autogroup_read(&dir, &buf, &adj);
        assert_true(r == -ENOENT || (r == 0 && adj >= -20 && adj <= 19));
        assert_int_equal(proc_wchan_read(&dir, &buf, &wchan), 0);
        assert_true(*wchan);
        hostile_check(parse_dec, "-1000\n", 6, false);
        hostile_check(parse_hex, "00000033\n", 9, false);
        assert_int_equal(parse_dec((char *)"1 ", 2), -EBADMSG);
        assert_int_equal(parse_dec((char *)"1\n\n", 3), -EBADMSG);
        assert_int_equal(parse_hex((char *)"0x1", 3), -EBADMSG);
}

/* --- children --- */

static int parse_children(char *text, size_t len) {
        _cleanup_(pid_vec_done) struct pid_vec vec = { 0 };

        return proc_children_parse(text, len, &vec);
}

static void test_children_text(void **state) {
        (void)state;
        _cleanup_(pid_vec_done) struct pid_vec vec = { 0 };

        assert_int_equal(proc_children_parse("12 345 ", 7, &vec), 0);
        assert_int_equal(proc_children_parse("", 0, &vec), 0);
        assert_int_equal(proc_children_parse("6 7", 3, &vec), -EBADMSG);
        assert_int_equal(proc_children_parse("0 ", 2, &vec), -EBADMSG);
        assert_int_equal(vec.n, 2);
        assert_int_equal(vec.v[1], 345);
        hostile_check(parse_children, "12 345 6789 ", 12, false);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scan),          cmocka_unit_test(test_stat),
                cmocka_unit_test(test_stat_hostile),  cmocka_unit_test(test_stat_self),
                cmocka_unit_test(test_status),        cmocka_unit_test(test_status_hostile),
                cmocka_unit_test(test_status_self),   cmocka_unit_test(test_limits),
                cmocka_unit_test(test_timers),        cmocka_unit_test(test_timers_self),
                cmocka_unit_test(test_cgroup),        cmocka_unit_test(test_auxv),
                cmocka_unit_test(test_syscall),       cmocka_unit_test(test_syscall_self),
                cmocka_unit_test(test_sched),         cmocka_unit_test(test_attr),
                cmocka_unit_test(test_children_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
