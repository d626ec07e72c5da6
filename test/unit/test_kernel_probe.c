/* SPDX-License-Identifier: GPL-2.0-only */
/* Each probe runs here, leaves nothing behind, and says what other sources say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/probe.h"
#include "macro.h"

#define UNUSED __attribute__((unused))
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* What of this process a probe must not change. */
struct surroundings {
        size_t fds, children;
        char mounts[65536], limits[4096], loginuid[32], oom[32], cgroup[4096];
};

static size_t count_fds(void) {
        _cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
        size_t n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        return n;
}

static void slurp(const char *path, char *buf, size_t size) {
        _cleanup_fclose_ FILE *f = fopen(path, "re");

        buf[0] = 0;
        if (f)
                buf[fread(buf, 1, size - 1, f)] = 0;
}

static void look_around(struct surroundings *ret) {
        char children[4096];

        memset(ret, 0, sizeof(*ret));
        slurp("/proc/thread-self/children", children, sizeof(children));
        ret->children = strlen(children);
        slurp("/proc/self/mountinfo", ret->mounts, sizeof(ret->mounts));
        slurp("/proc/self/limits", ret->limits, sizeof(ret->limits));
        slurp("/proc/self/loginuid", ret->loginuid, sizeof(ret->loginuid));
        slurp("/proc/self/oom_score_adj", ret->oom, sizeof(ret->oom));
        slurp("/proc/self/cgroup", ret->cgroup, sizeof(ret->cgroup));
        ret->fds = count_fds();
}

static uint64_t effective_caps(void) {
        char status[8192], *line;

        slurp("/proc/self/status", status, sizeof(status));
        line = strstr(status, "CapEff:");
        assert_non_null(line);
        return strtoull(line + 7, NULL, 16);
}

static bool has_cap(int cap) {
        return effective_caps() >> cap & 1;
}

static volatile sig_atomic_t sigchlds;

static void count_sigchld(int signo UNUSED) {
        sigchlds++;
}

static void test_each_leaves_nothing(void **state UNUSED) {
        const struct sigaction count = { .sa_handler = count_sigchld, .sa_flags = SA_NOCLDSTOP };
        static struct surroundings before, after;
        _cleanup_kernel_features_ struct kernel_features f;

        /* Stops under ptrace send SIGCHLD whatever one does; ends must not. */
        sigchlds = 0;
        assert_int_equal(sigaction(SIGCHLD, &count, NULL), 0);
        kernel_features_init(&f);
        look_around(&before);
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++) {
                enum kernel_answer answer = kernel_ask(&f, (enum kernel_feature)i);

                look_around(&after);
                if (memcmp(&before, &after, sizeof(before)) != 0)
                        fail_msg("probe %s changed something",
                                 kernel_feature_info((enum kernel_feature)i)->name);
                if (answer != KERNEL_YES && answer != KERNEL_NO && answer != KERNEL_FORBIDDEN)
                        fail_msg("probe %s gave %d: %s", kernel_feature_info((enum kernel_feature)i)->name,
                                 (int)answer, kernel_feature_note(&f, (enum kernel_feature)i));
                /* Remembered. */
                assert_int_equal(kernel_ask(&f, (enum kernel_feature)i), answer);
                assert_int_equal(kernel_has(&f, (enum kernel_feature)i), answer == KERNEL_YES);
        }
        assert_int_equal(sigchlds, 0);
        assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
        assert_int_equal(errno, ECHILD);
        signal(SIGCHLD, SIG_DFL);
}

static size_t count_maps(void) {
        char text[65536];
        size_t n = 0;

        slurp("/proc/self/maps", text, sizeof(text));
        for (char *s = text; (s = strchr(s, '\n')); s++)
                n++;
        return n;
}

static void ask_all(struct kernel_features *f, enum kernel_answer ret[KERNEL_FEATURE_MAX]) {
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++)
                ret[i] = kernel_ask(f, (enum kernel_feature)i);
}

static void test_no_mapping_left(void **state UNUSED) {
        enum kernel_answer first[KERNEL_FEATURE_MAX] = { 0 }, second[KERNEL_FEATURE_MAX] = { 0 };
        size_t maps = 0;

        /* The first round may grow the heap. */
        for (int round = 0; round < 2; round++) {
                _cleanup_kernel_features_ struct kernel_features f;

                kernel_features_init(&f);
                maps = count_maps();
                ask_all(&f, round ? second : first);
        }
        if (!SANITIZED) /* its allocator maps as it likes */
                assert_int_equal(count_maps(), maps);
        assert_memory_equal(first, second, sizeof(first));
}

static void test_table(void **state UNUSED) {
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++) {
                const struct kernel_feature_info *info = kernel_feature_info((enum kernel_feature)i);

                assert_int_equal(kernel_feature_from_name(info->name), i);
                assert_true(info->what[0] && info->cost[0] && info->since);
                assert_true(info->need >= 0 && info->need < KERNEL_NEED_MAX);
                for (const char *s = info->name; *s; s++)
                        assert_non_null(strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", *s));
        }
}

static void test_names_of_scripts(void **state UNUSED) {
        static const char *const names[] = {
                "mem_dirty_track",
                "aio_remap",
                "timerfd",
                "tun_ns",
                "userns",
                "fdinfo_lock",
                "seccomp_suspend",
                "seccomp_filters",
                "loginuid",
                "cgroupns",
                "autofs",
                "tcp_half_closed",
                "uffd",
                "uffd-noncoop",
                "can_map_vdso",
                "sk_ns",
                "link_nsid",
                "external_net_ns",
                "compel_compat",
                "network_lock_nftables",
                "pidfd_store",
                "ptrace_get_rseq_conf",
                "move_mount_set_group",
                "openat2",
                "get_rseq_conf",
                "overlayfs_maps",
                "ipv6_freebind",
                "membarrier_get_registrations",
                "pagemap_scan",
                "timer_cr_ids",
                "breakpoints",
                "pagemap_scan_guard_pages",
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (kernel_feature_from_name(names[i]) < 0)
                        fail_msg("%s is not known", names[i]);
        assert_int_equal(kernel_feature_from_name(""), KERNEL_FEATURE_INVALID);
        assert_int_equal(kernel_feature_from_name("timerf"), KERNEL_FEATURE_INVALID);
        assert_int_equal(kernel_feature_from_name("timerfds"), KERNEL_FEATURE_INVALID);
        assert_int_equal(kernel_feature_from_name("TIMERFD"), KERNEL_FEATURE_INVALID);
}

/* "6.7" is 6007. */
static long version_number(const char *s) {
        char *end;
        long major = strtol(s, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;

        return major * 1000 + minor;
}

static void test_since(void **state UNUSED) {
        _cleanup_kernel_features_ struct kernel_features f;
        struct utsname u;

        assert_int_equal(uname(&u), 0);
        if (strstr(u.release, ".el"))
                skip(); /* such kernels have features of much later ones */
        kernel_features_init(&f);
        for (size_t i = 0; i < KERNEL_FEATURE_MAX; i++) {
                const struct kernel_feature_info *info = kernel_feature_info((enum kernel_feature)i);

                if (info->since[0] && i != KERNEL_CAP_CHECKPOINT_RESTORE &&
                    kernel_has(&f, (enum kernel_feature)i) &&
                    version_number(u.release) < version_number(info->since))
                        fail_msg("%s is there, but said to come with %s", info->name, info->since);
        }
}

static void test_capabilities(void **state UNUSED) {
        static const struct {
                enum kernel_feature feature;
                int cap;
        } caps[] = {
                { KERNEL_CAP_SYS_PTRACE, CAP_SYS_PTRACE },
                { KERNEL_CAP_SETUID, CAP_SETUID },
                { KERNEL_CAP_SETGID, CAP_SETGID },
                { KERNEL_CAP_SETPCAP, CAP_SETPCAP },
                { KERNEL_CAP_KILL, CAP_KILL },
                { KERNEL_CAP_DAC_OVERRIDE, CAP_DAC_OVERRIDE },
                { KERNEL_CAP_SYS_NICE, CAP_SYS_NICE },
                { KERNEL_CAP_NET_ADMIN, CAP_NET_ADMIN },
                /* What these allow is tried, not looked up. */
                { KERNEL_HARD_LIMITS, CAP_SYS_RESOURCE },
                { KERNEL_BIG_PIPES, CAP_SYS_RESOURCE },
                { KERNEL_PAGEMAP_PFN, CAP_SYS_ADMIN },
        };
        _cleanup_kernel_features_ struct kernel_features f;

        kernel_features_init(&f);
        for (size_t i = 0; i < ELEMENTSOF(caps); i++)
                assert_int_equal(kernel_ask(&f, caps[i].feature),
                                 has_cap(caps[i].cap) ? KERNEL_YES : KERNEL_FORBIDDEN);
        assert_int_equal(kernel_has(&f, KERNEL_CLONE_SET_TID),
                         has_cap(CAP_CHECKPOINT_RESTORE) || has_cap(CAP_SYS_ADMIN));
}

static void test_facts(void **state UNUSED) {
        _cleanup_kernel_features_ struct kernel_features f;
        char text[65536], pid_max[32], note[64];

        kernel_features_init(&f);

        slurp("/proc/sys/kernel/pid_max", pid_max, sizeof(pid_max));
        snprintf(note, sizeof(note), "it is %.*s", (int)strcspn(pid_max, "\n"), pid_max);
        kernel_ask(&f, KERNEL_PID_MAX);
        assert_string_equal(kernel_feature_note(&f, KERNEL_PID_MAX), note);

        slurp("/proc/filesystems", text, sizeof(text));
        if (!strstr(text, "\tautofs\n"))
                assert_false(kernel_has(&f, KERNEL_AUTOFS));
        if (!strstr(text, "\toverlay\n"))
                assert_false(kernel_has(&f, KERNEL_OVERLAYFS_MAPS));

        assert_int_equal(kernel_has(&f, KERNEL_PROC_TIMERS), access("/proc/self/timers", R_OK) == 0);
        assert_int_equal(kernel_has(&f, KERNEL_PROC_CHILDREN),
                         access("/proc/thread-self/children", R_OK) == 0);
        assert_int_equal(kernel_has(&f, KERNEL_TIMENS),
                         access("/proc/self/ns/time", F_OK) == 0 && has_cap(CAP_SYS_ADMIN));

        slurp("/proc/self/mountinfo", text, sizeof(text));
        assert_int_equal(kernel_has(&f, KERNEL_CGROUP), strstr(text, " - cgroup") != NULL);
}

/* Run fn in a child; its cmocka assertions become its exit status. */
static void in_child(void (*fn)(void)) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                fn();
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* Assertions in children: the line number tells which, as cmocka's jump must not leave the child. */
#define CHECK(cond)                                                                \
        do {                                                                       \
                if (!(cond)) {                                                     \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
                        _exit(1);                                                  \
                }                                                                  \
        } while (0)

static void without_privileges(void) {
        _cleanup_kernel_features_ struct kernel_features f;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
              setresuid(65534, 65534, 65534) == 0);
        CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
        CHECK(effective_caps() == 0);
        kernel_features_init(&f);

        CHECK(kernel_probe_for_dump(&f, &err) == -EPERM);
        CHECK(strstr(ckpt_error_message(&err), "cap_sys_ptrace"));
        CHECK(err.hint && strstr(err.hint, "root"));
        CHECK(kernel_probe_for_restore(&f, NULL) == -EPERM);

        CHECK(kernel_ask(&f, KERNEL_CLONE_SET_TID) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_MAP_FILES) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_PR_SET_MM_EXE) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_PAGEMAP_PFN) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_SECCOMP_SUSPEND) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_MOVE_MOUNT_SET_GROUP) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_PIDFD_OPEN) == KERNEL_YES);
        CHECK(kernel_ask(&f, KERNEL_TIMERFD) == KERNEL_YES);
}

static void test_without_privileges(void **state UNUSED) {
        if (!has_cap(CAP_SETUID) || !has_cap(CAP_SETGID))
                skip();
        in_child(without_privileges);
}

static void test_with_privileges(void **state UNUSED) {
        _cleanup_kernel_features_ struct kernel_features f;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (!has_cap(CAP_SYS_PTRACE) || !has_cap(CAP_SYS_ADMIN))
                skip();
        kernel_features_init(&f);
        assert_int_equal(kernel_probe_for_dump(&f, &err), 0);
        assert_int_equal(kernel_probe_for_restore(&f, &err), 0);
        assert_false(ckpt_error_is_set(&err));
}

/* From here on, the system call `nr` answers with an error. */
static void forbid(unsigned int nr, unsigned int with_errno) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | with_errno),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { .len = ELEMENTSOF(filter), .filter = filter };

        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static void without_calls(void) {
        _cleanup_kernel_features_ struct kernel_features f;
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        kernel_features_init(&f);
        forbid(SYS_pidfd_getfd, ENOSYS);
        forbid(SYS_kcmp, EPERM);
        forbid(SYS_clone3, ENOSYS);
        forbid(SYS_process_vm_readv, EPERM);
        forbid(SYS_userfaultfd, ENOSYS);
        forbid(SYS_timer_create, ENOSYS);

        CHECK(kernel_ask(&f, KERNEL_PIDFD_GETFD) == KERNEL_NO);
        CHECK(kernel_ask(&f, KERNEL_PIDFD_STORE) == KERNEL_NO);
        CHECK(kernel_ask(&f, KERNEL_PIDFD_OPEN) == KERNEL_YES);
        CHECK(kernel_ask(&f, KERNEL_KCMP) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_CLONE_SET_TID) == KERNEL_NO);
        CHECK(kernel_ask(&f, KERNEL_PROCESS_VM_READV) == KERNEL_FORBIDDEN);
        CHECK(kernel_ask(&f, KERNEL_UFFD_MOVE) == KERNEL_NO);
        CHECK(kernel_ask(&f, KERNEL_UFFD_WP_ASYNC) == KERNEL_NO);
        CHECK(kernel_ask(&f, KERNEL_TIMER_CR_IDS) == KERNEL_NO);
        if (has_cap(CAP_SYS_PTRACE) && has_cap(CAP_SYS_ADMIN)) {
                CHECK(kernel_probe_for_dump(&f, &err) == -EOPNOTSUPP);
                CHECK(strstr(ckpt_error_message(&err), "pidfd_getfd"));
        }
}

static void test_without_calls(void **state UNUSED) {
        in_child(without_calls);
}

static void without_descriptors(void) {
        _cleanup_kernel_features_ struct kernel_features f;
        struct rlimit old, none;

        kernel_features_init(&f);
        CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
        none = (struct rlimit){ 0, old.rlim_max };
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        CHECK(kernel_ask(&f, KERNEL_PIDFD_OPEN) == KERNEL_UNKNOWN);
        CHECK(kernel_ask(&f, KERNEL_FDINFO_LOCK) == KERNEL_UNKNOWN);
        CHECK(kernel_ask(&f, KERNEL_PTRACE_SEIZE) == KERNEL_UNKNOWN);
        CHECK(kernel_feature_note(&f, KERNEL_PTRACE_SEIZE)[0]);
        /* That says nothing about the kernel, so it is not kept. */
        CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
        CHECK(kernel_ask(&f, KERNEL_PIDFD_OPEN) == KERNEL_YES);
        CHECK(kernel_ask(&f, KERNEL_FDINFO_LOCK) == KERNEL_YES);
        CHECK(kernel_ask(&f, KERNEL_PTRACE_SEIZE) == KERNEL_YES);
}

static void test_without_descriptors(void **state UNUSED) {
        in_child(without_descriptors);
}

struct asker {
        struct kernel_features *features;
        enum kernel_answer answers[KERNEL_FEATURE_MAX];
};

static void *ask_in_thread(void *arg) {
        struct asker *a = arg;

        ask_all(a->features, a->answers);
        return NULL;
}

static void test_threads(void **state UNUSED) {
        _cleanup_kernel_features_ struct kernel_features f;
        static struct asker askers[8];
        pthread_t threads[ELEMENTSOF(askers)];
        size_t fds;

        kernel_features_init(&f);
        fds = count_fds();
        for (size_t i = 0; i < ELEMENTSOF(askers); i++) {
                askers[i].features = &f;
                assert_int_equal(pthread_create(&threads[i], NULL, ask_in_thread, &askers[i]), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(askers); i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (size_t i = 1; i < ELEMENTSOF(askers); i++)
                assert_memory_equal(askers[0].answers, askers[i].answers, sizeof(askers[0].answers));
        assert_int_equal(count_fds(), fds);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_leaves_nothing),
                cmocka_unit_test(test_no_mapping_left),
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_names_of_scripts),
                cmocka_unit_test(test_since),
                cmocka_unit_test(test_capabilities),
                cmocka_unit_test(test_facts),
                cmocka_unit_test(test_without_privileges),
                cmocka_unit_test(test_with_privileges),
                cmocka_unit_test(test_without_calls),
                cmocka_unit_test(test_without_descriptors),
                cmocka_unit_test(test_threads),
        };

        /* What others mount meanwhile is not the probes' doing. */
        if (unshare(CLONE_NEWNS) == 0)
                (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        return cmocka_run_group_tests_name("kernel_probe", tests, NULL, NULL);
}
