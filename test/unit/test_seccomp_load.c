/* SPDX-License-Identifier: GPL-2.0-only */
/* seccomp.img as anyone may have made it: everything that makes no sense is refused before a process exists. */
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "images/seccomp.pb-c.h"
#include "task/internal.h"
#include "task/seccomp.h"
#include "test_fd.h"

enum { MAX = 8 };

static const struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
static const struct sock_filter forbid_all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS) };
static const struct sock_filter endless[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0) };

static struct fd_fixture fx;
static Img__SeccompFilter filters[MAX];
static size_t nr_filters;

static Img__SeccompFilter *add(const struct sock_filter *insns, size_t size, int prev) {
        Img__SeccompFilter *f = &filters[nr_filters++];

        img__seccomp_filter__init(f);
        f->filter = (ProtobufCBinaryData){ size, (uint8_t *)insns };
        f->has_prev = prev >= 0;
        f->prev = (uint32_t)prev;
        return f;
}

static int load_it(void) {
        Img__SeccompFilter *list[MAX];
        Img__Seccomp msg = IMG__SECCOMP__INIT;

        for (size_t i = 0; i < nr_filters; i++)
                list[i] = &filters[i];
        msg.n_seccomp_filters = nr_filters;
        msg.seccomp_filters = list;
        assert_ok(image_set_create(fx.dirfd, NULL, &fx.dump.set, &fx.err), &fx.err);
        assert_ok(image_store(fx.dump.set, IMAGE_SECCOMP, 0, &msg.base, &fx.err), &fx.err);
        images_commit(&fx);
        assert_ok(image_dir_open(fx.dirfd, 1, &fx.restore.dir, &fx.err), &fx.err);
        return seccomp_load(&fx.restore, &fx.err);
}

#define assert_refused(text)                                                                 \
        do {                                                                                 \
                assert_int_equal(load_it(), -EBADMSG);                                       \
                if (!strstr(ckpt_error_message(&fx.err), (text)))                            \
                        fail_msg("'%s' is not in: %s", (text), ckpt_error_message(&fx.err)); \
        } while (0)

static int set_up(void **state) {
        (void)state;
        nr_filters = 0;
        fixture_init(&fx);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        seccomp_load_free(&fx.restore);
        image_dir_free(fx.restore.dir);
        arena_done(&fx.restore.arena);
        fixture_done(&fx);
        return 0;
}

/* Also filters that forbid the trial to end, and chains that stand in any order. */
static void test_in_order(void **state) {
        (void)state;
        add(allow, sizeof(allow), 2);
        add(forbid_all, sizeof(forbid_all), -1)->flags = SECCOMP_FILTER_FLAG_LOG;
        add(allow, sizeof(allow), 1);
        add(forbid_all, sizeof(forbid_all), -1);
        filters[1].has_flags = true;
        assert_ok(load_it(), &fx.err);
}

static void test_length(void **state) {
        (void)state;
        add(allow, sizeof(allow) - 1, -1);
        assert_refused("filter 0 has an impossible length");
}

static void test_empty(void **state) {
        (void)state;
        add(allow, 0, -1);
        assert_refused("impossible length");
}

static void test_no_end(void **state) {
        (void)state;
        add(allow, sizeof(allow), -1);
        add(endless, sizeof(endless), 0);
        assert_refused("filter 1 is no program that this kernel takes");
}

static void test_prev(void **state) {
        (void)state;
        add(allow, sizeof(allow), 1);
        assert_refused("filter 0 stands on one that is not there");
}

static void test_circle(void **state) {
        (void)state;
        add(allow, sizeof(allow), -1);
        add(allow, sizeof(allow), 2);
        add(allow, sizeof(allow), 1);
        assert_refused("filter 1 is in a circle");
}

static void test_itself(void **state) {
        (void)state;
        add(allow, sizeof(allow), 0);
        assert_refused("circle");
}

static void test_flags(void **state) {
        Img__SeccompFilter *f = add(allow, sizeof(allow), -1);

        (void)state;
        f->has_flags = true;
        f->flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
        assert_refused("flags that no filter can show");
}

static void test_long_chain(void **state) {
        static struct sock_filter insns[BPF_MAXINSNS];

        (void)state;
        for (size_t i = 0; i < BPF_MAXINSNS; i++)
                insns[i] = allow[0];
        for (int i = 0; i < MAX; i++)
                add(insns, sizeof(insns), i - 1);
        assert_ok(load_it() == -EBADMSG ? 0 : -1, &fx.err);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "filter 7 is in a"));
}

/* ---- what threads say that they have ---- */

static int check_thread(uint32_t mode, bool has_filter, uint32_t filter) {
        struct restore_task t = { .restore = &fx.restore, .pid = 100, .nr_threads = 1 };
        Img__ThreadCore tc = IMG__THREAD_CORE__INIT;
        Img__Core core = IMG__CORE__INIT;
        struct restore_thread th = { .task = &t, .tid = 100, .core = &core };
        int r;

        core.thread_core = &tc;
        t.threads = &th;
        tc.has_seccomp_mode = true;
        tc.seccomp_mode = (Img__SeccompMode)mode;
        tc.has_seccomp_filter = has_filter;
        tc.seccomp_filter = filter;
        kernel_features_init(&fx.restore.kernel);
        r = kind_seccomp_thread.check(&th, &fx.err);
        kernel_features_done(&fx.restore.kernel);
        arena_done(&t.arena);
        return r;
}

static void test_threads(void **state) {
        (void)state;
        assert_int_equal(check_thread(SECCOMP_MODE_FILTER, true, 0), -EBADMSG); /* no seccomp.img */
        ckpt_error_clear(&fx.err);
        add(allow, sizeof(allow), -1);
        assert_ok(load_it(), &fx.err);
        assert_int_equal(check_thread(SECCOMP_MODE_DISABLED, false, 0), 0);
        assert_int_equal(check_thread(SECCOMP_MODE_FILTER, true, 1), -EBADMSG);
        ckpt_error_clear(&fx.err);
        assert_int_equal(check_thread(SECCOMP_MODE_FILTER, false, 0), -EBADMSG);
        ckpt_error_clear(&fx.err);
        assert_int_equal(check_thread(3, false, 0), -EBADMSG);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_in_order),   TEST(test_length),  TEST(test_empty),  TEST(test_no_end),
                TEST(test_prev),       TEST(test_circle),  TEST(test_itself), TEST(test_flags),
                TEST(test_long_chain), TEST(test_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
