/* SPDX-License-Identifier: GPL-2.0-only */
/* State of threads that only the kernel's structures show. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/hidden_state.h"
#include "macro.h"

static struct hidden_source *open_or_skip(struct bpf *bpf) {
        struct hidden_source *s = NULL;
        int r = hidden_source_open(bpf, &s);

        if (r < 0) {
                print_message("no BPF iterator here: %s\n", strerror(-r));
                skip();
        }
        return s;
}

static int enter_domain(void) {
        const struct landlock_ruleset_attr rules = { .handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK };
        _cleanup_close_ int fd = -EBADF;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
        return fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}

/* The number of a new session keyring that has `keys` others in it. */
static int join_session(int keys) {
        int serial = (int)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0);
        char name[8] = "a";

        for (int i = 0; i < keys; i++, name[0]++)
                if (syscall(SYS_add_key, "user", name, "x", 1, (unsigned long)KEY_SPEC_SESSION_KEYRING) < 0)
                        return -errno;
        return serial;
}

static int register_ring(void) {
        struct io_uring_params params = { 0 };
        int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
        struct io_uring_rsrc_update update = { .offset = UINT32_MAX, .data = (uint64_t)fd };

        if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, &update, 1) != 1)
                return -ENOSYS;
        close(fd);
        return 0;
}

enum what { NOTHING, DOMAIN, SESSION, EMPTY_SESSION, DEFAULT_RING, RING, DISPATCH };

/* A child that has done it when this returns; *ret_result is what came of it. */
static pid_t start(enum what what, int *ret_result) {
        static char let_through; /* SYSCALL_DISPATCH_FILTER_ALLOW */
        int ready[2], result = 0;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                switch (what) {
                case NOTHING:
                        break;
                case DOMAIN:
                        result = enter_domain();
                        break;
                case SESSION:
                        result = join_session(3);
                        break;
                case EMPTY_SESSION:
                        result = join_session(0);
                        break;
                case DEFAULT_RING:
                        result = (int)syscall(SYS_keyctl, KEYCTL_SET_REQKEY_KEYRING,
                                              KEY_REQKEY_DEFL_USER_KEYRING, 0, 0, 0);
                        break;
                case RING:
                        result = register_ring();
                        break;
                case DISPATCH:
                        result = prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &let_through);
                        break;
                }
                (void)!write(ready[1], &result, sizeof(result));
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], ret_result, sizeof(*ret_result)), sizeof(*ret_result));
        close(ready[0]);
        return pid;
}

static void end(pid_t pid) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void check(const struct hidden_source *s, const struct hidden_state *state, enum what what,
                  int result) {
        const struct hidden_keyring *session = &state->ring[HIDDEN_RING_SESSION];

        assert_int_equal(state->landlock != 0,
                         what == DOMAIN && result == 0 && hidden_source_tells(s).landlock);
        assert_int_equal(state->io_uring, what == RING && result == 0);
        assert_int_equal(state->default_ring,
                         what == DEFAULT_RING && result >= 0 && hidden_source_tells(s).keyrings);
        assert_int_equal(state->dispatch,
                         what == DISPATCH && result == 0 && hidden_source_tells(s).dispatch);
        assert_false(state->user_events);
        assert_false(state->iopl);
        if (what != SESSION && what != EMPTY_SESSION)
                return;
        if (!hidden_source_tells(s).keyrings)
                result = 0;
        assert_int_equal(session->serial, result);
        assert_int_equal(session->keys, what == SESSION && result > 0 ? 3 : 0);
        assert_int_equal(session->uid, result > 0 ? geteuid() : 0);
        assert_int_equal(state->ring[HIDDEN_RING_PROCESS].serial, 0);
}

/* By process, and among all there are. */
static void test_all(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(hidden_source_free) struct hidden_source *s = NULL;
        _cleanup_(hidden_state_vec_done) struct hidden_state_vec one = { 0 }, all = { 0 };

        assert_int_equal(bpf_new(&bpf), 0);
        s = open_or_skip(bpf);
        for (enum what what = NOTHING; what <= DISPATCH; what++) {
                int result;
                pid_t pid = start(what, &result);

                assert_int_equal(hidden_source_read(s, pid, &one), 0);
                assert_non_null(hidden_state_find(&one, pid));
                assert_null(hidden_state_find(&one, -1));
                check(s, hidden_state_find(&one, pid), what, result);
                assert_int_equal(hidden_source_read(s, 0, &all), 0);
                assert_non_null(hidden_state_find(&all, pid));
                assert_non_null(hidden_state_find(&all, getpid()));
                check(s, hidden_state_find(&all, pid), what, result);
                end(pid);
                if (result < 0)
                        print_message("not possible here: %d (%s)\n", what, strerror(-result));
        }
}

/* What was tried to prove it has left nothing with this thread. */
static void test_own(void **state) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(hidden_source_free) struct hidden_source *s = NULL, *again = NULL;
        _cleanup_(hidden_state_vec_done) struct hidden_state_vec before = { 0 }, after = { 0 };

        assert_int_equal(bpf_new(&bpf), 0);
        s = open_or_skip(bpf);
        assert_int_equal(hidden_source_read(s, getpid(), &before), 0);
        again = open_or_skip(bpf);
        assert_int_equal(hidden_source_read(s, getpid(), &after), 0);
        assert_memory_equal(hidden_state_find(&before, gettid()), hidden_state_find(&after, gettid()),
                            sizeof(*before.v));
        assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

/* The fault point of what has no BPF. */
static void test_none(void **state) {
        struct hidden_source *s = NULL;

        assert_true(hidden_source_open(NULL, &s) < 0);
        assert_null(s);
        hidden_source_free(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all),
                cmocka_unit_test(test_own),
                cmocka_unit_test(test_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
