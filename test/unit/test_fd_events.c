/* SPDX-License-Identifier: GPL-2.0-only */
/* eventfd, signalfd, timerfd, pidfd, inotify and epoll: images that make no sense, images of other tools, and what the
 * live kernel is asked for. */
#include "test_fd_images.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

#include "fd/epoll.h"

enum { ID_DIR = 1, ID_EVENTFD, ID_SIGNALFD, ID_TIMERFD, ID_PIDFD, ID_INOTIFY, ID_EPOLL, ID_MORE };

static Img__EventfdFile efd;
static Img__Signalfd sgfd;
static Img__Timerfd tfd;
static Img__Pidfd pidfd;
static Img__InotifyFile ify;
static Img__InotifyWd wds[2], *wd_list[2] = { &wds[0], &wds[1] };
static Img__Fh handles[2];
static uint64_t handle_words[2][16];
static Img__EventpollFile epfd[16];
static Img__EventpollTfd members[16][2], *member_list[16][2];
static size_t nr_epolls;

/* An epoll instance as descriptor `fd`; its members are set by add_member(). */
static Img__EventpollFile *add_epoll(uint32_t fd, uint32_t id) {
        Img__EventpollFile *e = &epfd[nr_epolls];

        img__eventpoll_file__init(e);
        e->id = id;
        e->flags = O_RDWR;
        e->fown = &fown;
        e->tfd = member_list[nr_epolls++];
        add(IMG__FD_TYPES__EVENTPOLL, id)->epfd = e;
        add_fd(fd, IMG__FD_TYPES__EVENTPOLL, id);
        return e;
}

static Img__EventpollTfd *add_member(Img__EventpollFile *e, uint32_t number, uint32_t file_id,
                                     uint64_t value) {
        Img__EventpollTfd *m = &members[e - epfd][e->n_tfd];

        img__eventpoll_tfd__init(m);
        m->id = e->id;
        m->tfd = number;
        m->events = EPOLLIN | EPOLLERR | EPOLLHUP;
        m->data = value;
        m->has_file_id = file_id > 0;
        m->file_id = file_id;
        e->tfd[e->n_tfd++] = m;
        return m;
}

static void make_inotify(void) {
        img__inotify_file__init(&ify);
        ify.id = ID_INOTIFY;
        ify.fown = &fown;
        ify.wd = wd_list;
        ify.n_wd = 1;
        for (size_t i = 0; i < 2; i++) {
                img__fh__init(&handles[i]);
                handles[i].n_handle = 16;
                handles[i].handle = handle_words[i];
                handles[i].path = path_dir;
                img__inotify_wd__init(&wds[i]);
                wds[i].id = ID_INOTIFY;
                wds[i].wd = 7 + (uint32_t)i;
                wds[i].mask = IN_CREATE;
                wds[i].f_handle = &handles[i];
        }
        add(IMG__FD_TYPES__INOTIFY, ID_INOTIFY)->ify = &ify;
        add_fd(5, IMG__FD_TYPES__INOTIFY, ID_INOTIFY);
}

static void make_files(void) {
        add(IMG__FD_TYPES__REG, ID_DIR)->reg = &dir;
        img__eventfd_file__init(&efd);
        efd = (Img__EventfdFile){
                .base = efd.base, .id = ID_EVENTFD, .flags = O_RDWR, .fown = &fown, .counter = 3
        };
        add(IMG__FD_TYPES__EVENTFD, ID_EVENTFD)->efd = &efd;
        add_fd(1, IMG__FD_TYPES__EVENTFD, ID_EVENTFD);
        img__signalfd__init(&sgfd);
        sgfd = (Img__Signalfd){
                .base = sgfd.base, .id = ID_SIGNALFD, .flags = O_RDWR, .fown = &fown, .sigmask = 2
        };
        add(IMG__FD_TYPES__SIGNALFD, ID_SIGNALFD)->sgfd = &sgfd;
        add_fd(2, IMG__FD_TYPES__SIGNALFD, ID_SIGNALFD);
        img__timerfd__init(&tfd);
        tfd = (Img__Timerfd){ .base = tfd.base,
                              .id = ID_TIMERFD,
                              .flags = O_RDWR | O_NONBLOCK,
                              .fown = &fown,
                              .clockid = CLOCK_MONOTONIC,
                              .vsec = 1000 };
        add(IMG__FD_TYPES__TIMERFD, ID_TIMERFD)->tfd = &tfd;
        add_fd(3, IMG__FD_TYPES__TIMERFD, ID_TIMERFD);
        img__pidfd__init(&pidfd);
        pidfd = (Img__Pidfd){
                .base = pidfd.base, .id = ID_PIDFD, .flags = O_RDWR, .fown = &fown, .nspid = -1
        };
        add(IMG__FD_TYPES__PIDFD, ID_PIDFD)->pidfd = &pidfd;
        add_fd(4, IMG__FD_TYPES__PIDFD, ID_PIDFD);
        make_inotify();
        add_member(add_epoll(6, ID_EPOLL), 1, ID_EVENTFD, 11);
}

static int setup(void **state) {
        (void)state;
        set_init(ID_DIR);
        nr_epolls = 0;
        make_files();
        return 0;
}

static void write_set(void) {
        begin_set();
        write_files();
        write_tables();
        images_commit(&fx);
}

/* ---- one field at a time ---- */

static void spoil_counter(void) {
        efd.counter = UINT64_MAX;
}
static void spoil_eventfd_flags(void) {
        efd.flags = O_RDWR | O_DIRECTORY;
}
static void spoil_signalfd_flags(void) {
        sgfd.flags = O_PATH;
}
static void spoil_clock(void) {
        tfd.clockid = CLOCK_PROCESS_CPUTIME_ID;
}
static void spoil_nsec(void) {
        tfd.vnsec = 1000000000;
}
static void spoil_interval(void) {
        tfd.isec = UINT64_MAX;
}
static void spoil_settime(void) {
        tfd.settime_flags = 4;
}
static void spoil_expires(void) {
        tfd.has_expires_ns = true;
        tfd.expires_ns = -1;
}
static void spoil_pid(void) {
        pidfd.nspid = 4711;
}
static void spoil_thread(void) {
        pidfd.nspid = 4711;
        pidfd.flags |= O_EXCL;
}
static void spoil_wd_zero(void) {
        wds[0].wd = 0;
}
static void spoil_wd_negative(void) {
        wds[0].wd = 0x80000000;
}
static void spoil_wd_twice(void) {
        ify.n_wd = 2;
        wds[1].wd = wds[0].wd;
}
static void spoil_mask(void) {
        wds[0].mask = 1U << 30;
}
static void spoil_no_mask(void) {
        wds[0].mask = 0;
}
static void spoil_handle_size(void) {
        handles[0].bytes = 129;
}
static void spoil_handle_words(void) {
        handles[0].bytes = 9;
        handles[0].n_handle = 1;
}
static void spoil_watch_path(void) {
        handles[0].path = (char *)"relative";
}
static void spoil_watch_missing(void) {
        handles[0].path = (char *)"/nowhere/at all";
}
static void spoil_watch_no_path(void) {
        handles[0].path = NULL;
        handles[0].bytes = 8;
        handles[0].type = 1;
        wds[0].s_dev = 0xfe00;
}
static void spoil_watch_nothing(void) {
        handles[0].path = NULL;
}
static void spoil_member_file(void) {
        members[0][0].file_id = 99;
}
static void spoil_member_self(void) {
        members[0][0].file_id = ID_EPOLL;
}
static void spoil_member_number(void) {
        members[0][0].tfd = UINT32_MAX;
}
static void spoil_member_events(void) {
        members[0][0].events = EPOLLEXCLUSIVE | EPOLLONESHOT;
}
static void spoil_budget(void) {
        epfd[0].has_busy_poll_budget = true;
        epfd[0].busy_poll_budget = 65536;
}

static const struct {
        void (*spoil)(void);
        int result;
        const char *text;
} spoilt[] = {
        { spoil_counter, -EBADMSG, "no eventfd can count to" },
        { spoil_eventfd_flags, -EBADMSG, "cannot be those of a eventfd" },
        { spoil_signalfd_flags, -EBADMSG, "cannot be those of a signalfd" },
        { spoil_clock, -EBADMSG, "there is no timerfd of clock 2" },
        { spoil_nsec, -EBADMSG, "its timer makes no sense" },
        { spoil_interval, -EBADMSG, "its timer makes no sense" },
        { spoil_settime, -EBADMSG, "its timer makes no sense" },
        { spoil_expires, -EBADMSG, "its timer makes no sense" },
        { spoil_pid, -EBADMSG, "pid 4711 of a pidfd is not in the tree" },
        { spoil_thread, -ENOTSUP, "single thread 4711" },
        { spoil_wd_zero, -EBADMSG, "watch 0" },
        { spoil_wd_negative, -EBADMSG, "makes no sense" },
        { spoil_wd_twice, -EBADMSG, "watch 7 is there twice" },
        { spoil_mask, -EBADMSG, "makes no sense" },
        { spoil_no_mask, -EBADMSG, "makes no sense" },
        { spoil_handle_size, -EBADMSG, "file handle of 129 bytes" },
        { spoil_handle_words, -EBADMSG, "file handle of 9 bytes" },
        { spoil_watch_path, -EBADMSG, "no absolute path" },
        { spoil_watch_missing, -ENOTSUP, "/nowhere/at all, which is watched by inotify, is missing" },
        { spoil_watch_no_path, -ENOTSUP, "cannot be found by its handle" },
        { spoil_watch_nothing, -ENOTSUP, "cannot be found by its handle" },
        { spoil_member_file, -EBADMSG, "file 99, which is not in the images" },
        { spoil_member_self, -EBADMSG, "not its own member" },
        { spoil_member_number, -EBADMSG, "no number of a descriptor" },
        { spoil_member_events, -EBADMSG, "nothing is registered with the events" },
        { spoil_budget, -EBADMSG, "no budget of busy polling" },
};

static void test_spoilt(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(spoilt); i++) {
                if (i > 0)
                        setup(state);
                spoilt[i].spoil();
                assert_int_equal(load_set(), spoilt[i].result);
                assert_says(spoilt[i].text);
                if (i + 1 < ELEMENTSOF(spoilt))
                        teardown(state);
        }
}

/* ---- restored ---- */

static void test_in_order(void **state) {
        uint64_t value = 0;

        (void)state;
        assert_ok(restore_set(), &fx.err);
        assert_int_equal(host_read(&fx, HOST, 1, &value, 8), 8);
        assert_int_equal(value, 3);
        assert_int_equal(host_read(&fx, HOST, 3, &value, 8), -EAGAIN);
}

static void test_old_files(void **state) {
        struct image_file *image;

        (void)state;
        begin_set();
#define OLD(kind, message)   \
        open_image(kind, 0); \
        put(message);        \
        close_image()
        OLD(IMAGE_REG_FILES, &dir.base);
        OLD(IMAGE_EVENTFD_FILE, &efd.base);
        OLD(IMAGE_SIGNALFD, &sgfd.base);
        OLD(IMAGE_TIMERFD, &tfd.base);
        OLD(IMAGE_INOTIFY_FILE, &ify.base);
        OLD(IMAGE_EVENTPOLL_FILE, &epfd[0].base);
        /* Pidfds are younger than these files. */
        table[3] = table[--nr_table];
        write_tables();
        images_commit(&fx);
        restore_task_add(&fx, 100, 1);
        assert_ok(restore_load_all(&fx), &fx.err);
        restore_make_hosts(&fx);
        assert_ok(fd_restore(&fx.restore, &fx.err), &fx.err);
}

/* Two instances, each a member of the other. */
static void test_circle(void **state) {
        Img__EventpollFile *a, *b;

        (void)state;
        a = add_epoll(10, ID_MORE);
        b = add_epoll(11, ID_MORE + 1);
        add_member(a, 11, ID_MORE + 1, 0);
        add_member(b, 10, ID_MORE, 0);
        assert_true(restore_set() < 0);
        assert_says("cannot register a member");
}

static void test_nested_deep(void **state) {
        (void)state;
        for (uint32_t i = 0; i < 12; i++) {
                Img__EventpollFile *e = add_epoll(10 + i, ID_MORE + i);

                if (i < 11)
                        add_member(e, 11 + i, ID_MORE + i + 1, 0);
        }
        assert_int_equal(restore_set(), -EBADMSG);
        assert_says("nested more than");
}

/* Of another tool: the member is what has the number. */
static void test_foreign_member(void **state) {
        uint64_t one = 1;
        int64_t n;
        raddr_t at;

        (void)state;
        members[0][0].has_file_id = false;
        efd.counter = 0;
        assert_ok(restore_set(), &fx.err);
        compel_data(task_lane(HOST), sizeof(struct epoll_event), &at);
        n = host_call(&fx, HOST, SYS_epoll_wait, 6, at, 1, 0);
        assert_int_equal(n, 0);
        at = compel_copy(task_lane(HOST), &one, 8);
        assert_int_equal(host_call(&fx, HOST, SYS_write, 1, at, 8), 8);
        compel_data(task_lane(HOST), sizeof(struct epoll_event), &at);
        n = host_call(&fx, HOST, SYS_epoll_wait, 6, at, 1, 0);
        assert_int_equal(n, 1);
}

static void test_foreign_member_lost(void **state) {
        (void)state;
        members[0][0].has_file_id = false;
        members[0][0].tfd = 50;
        assert_int_equal(restore_set(), -EBADMSG);
        assert_says("member 50 of the epoll instance 7 is a descriptor that nobody has");
}

/* The member is not under its number: registered from elsewhere. */
static void test_closed_member(void **state) {
        struct epoll_event *ev;
        raddr_t at;

        (void)state;
        members[0][0].tfd = 3;
        members[0][0].data = 0x1234567890abcdef;
        assert_ok(restore_set(), &fx.err);
        ev = compel_data(task_lane(HOST), sizeof(*ev), &at);
        assert_int_equal(host_call(&fx, HOST, SYS_epoll_wait, 6, at, 1, 0), 1);
        assert_int_equal(ev->data.u64, 0x1234567890abcdef);
        assert_int_equal(host_call(&fx, HOST, SYS_epoll_ctl, 6, EPOLL_CTL_DEL, 1, 0), -ENOENT);
        assert_int_equal(host_call(&fx, HOST, SYS_epoll_ctl, 6, EPOLL_CTL_DEL, 3, 0), -ENOENT);
        assert_int_equal(host_call(&fx, HOST, SYS_dup2, 1, 3), 3);
        assert_int_equal(host_call(&fx, HOST, SYS_epoll_ctl, 6, EPOLL_CTL_DEL, 3, 0), 0);
}

/* ---- timers ---- */

static char boot_id[64];

static int64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void set_expires(int64_t when) {
        FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

        assert_non_null(f);
        assert_non_null(fgets(boot_id, sizeof(boot_id), f));
        fclose(f);
        tfd.has_expires_ns = true;
        tfd.expires_ns = when;
        tfd.boot_id = boot_id;
}

/* It would have fired every 10 ms since a second ago. */
static void test_timer_missed(void **state) {
        int64_t first = now_ns(CLOCK_MONOTONIC) - 1000000000;
        uint64_t ticks = 0;

        (void)state;
        set_expires(first);
        tfd.vsec = 5;
        tfd.insec = 10000000;
        tfd.ticks = 1000;
        assert_ok(restore_set(), &fx.err);
        assert_int_equal(host_read(&fx, HOST, 3, &ticks, 8), 8);
        assert_in_range(ticks, 1101, 1001 + (uint64_t)(now_ns(CLOCK_MONOTONIC) - first) / tfd.insec);
}

static void test_timer_missed_once(void **state) {
        uint64_t ticks = 0;

        (void)state;
        set_expires(now_ns(CLOCK_MONOTONIC) - 1000000000);
        tfd.flags &= ~(uint32_t)O_NONBLOCK;
        assert_ok(restore_set(), &fx.err);
        assert_int_equal(host_read(&fx, HOST, 3, &ticks, 8), 8);
        assert_int_equal(ticks, 1);
}

/* Another boot: its clocks mean nothing here, what was left is left. */
static void test_timer_other_boot(void **state) {
        struct itimerspec *its;
        raddr_t at;

        (void)state;
        set_expires(1);
        boot_id[0] = boot_id[0] == 'a' ? 'b' : 'a';
        assert_ok(restore_set(), &fx.err);
        its = compel_data(task_lane(HOST), sizeof(*its), &at);
        assert_int_equal(host_call(&fx, HOST, SYS_timerfd_gettime, 3, at), 0);
        assert_in_range(its->it_value.tv_sec, 500, 1000);
}

/* Other tools note a periodic timer that stands still as one without a value. */
static void test_timer_foreign(void **state) {
        uint64_t ticks = 0;

        (void)state;
        tfd.vsec = 0;
        tfd.isec = 1000;
        tfd.ticks = 4;
        assert_ok(restore_set(), &fx.err);
        assert_int_equal(host_read(&fx, HOST, 3, &ticks, 8), 8);
        assert_int_equal(ticks, 4);
}

static void test_timer_extremes(void **state) {
        (void)state;
        tfd.vsec = tfd.isec = INT64_MAX;
        tfd.vnsec = tfd.insec = 999999999;
        tfd.ticks = UINT64_MAX;
        tfd.settime_flags = TFD_TIMER_ABSTIME;
        assert_ok(restore_set(), &fx.err);
}

/* ---- eventfds on kernels that do not tell what they are (before 6.5) ---- */

static void dump_eventfd(int fd, struct dump_file *file) {
        struct proc_buf buf = { 0 };
        int self = -EBADF;
        struct fd_probe p = { .task = fx.dump.tasks[0],
                              .proc = &fx.dump.tasks[0]->proc,
                              .fd = fd,
                              .where = "fd/x",
                              .link = "anon_inode:[eventfd]",
                              .buf = &buf,
                              .pidfd = &self };

        assert_int_equal(fd_probe_info(&p), 0);
        p.info.eventfd.has_semaphore = p.info.eventfd.semaphore = false;
        file->msg = arena_message(&dump_files(&fx.dump)->arena, Img__File, img__file__init);
        assert_ok(fd_kind_eventfd.dump(&fx.dump, &p, file, &fx.err), &fx.err);
        fd_probe_done(&p);
        proc_buf_done(&buf);
        close(self);
}

static void test_semaphore_unknown(void **state) {
        const uint64_t counts[] = { 0, 1, 2, 7, UINT64_MAX - 3, UINT64_MAX - 2, UINT64_MAX - 1 };

        (void)state;
        dump_task_add(&fx, getpid(), NULL);
        fd_look_init(&fx.dump);
        for (size_t i = 0; i < 2 * ELEMENTSOF(counts); i++) {
                int flags = i % 2 ? EFD_SEMAPHORE : 0, fd = eventfd(0, EFD_NONBLOCK | flags);
                uint64_t count = counts[i / 2], got = 0;
                struct dump_file file = { .id = 1 };

                assert_true(fd >= 0 && (count == 0 || write(fd, &count, 8) == 8));
                dump_eventfd(fd, &file);
                assert_int_equal(file.msg->efd->flags & EFD_SEMAPHORE, flags);
                assert_int_equal(file.msg->efd->counter, count);
                if (count == 0) {
                        assert_true(read(fd, &got, 8) < 0);
                } else if (flags) {
                        uint64_t rest = UINT64_MAX - 1 - count;

                        /* Full with what is missing to the largest, and not before. */
                        assert_true(rest == 0 || write(fd, &rest, 8) == 8);
                        got = 1;
                        assert_true(write(fd, &got, 8) < 0);
                } else {
                        assert_int_equal(read(fd, &got, 8), 8);
                        assert_int_equal(got, count);
                }
                close(fd);
        }
}

/* ---- members ---- */

static void test_count_same(void **state) {
        const struct proc_epoll_item items[] = { { .fd = 5 }, { .fd = 3 }, { .fd = 5 },
                                                 { .fd = 4 }, { .fd = 5 }, { .fd = 3 } };
        const unsigned int want[] = { 0, 0, 1, 0, 2, 1 };
        unsigned int *same = epoll_count_same(items, ELEMENTSOF(items));

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(items); i++)
                assert_int_equal(same[i], want[i]);
        free(same);
        free(epoll_count_same(NULL, 0));
}

/* Asking changes nothing, whatever the answer. */
static void test_ask_all(void **state) {
        struct epoll_question questions[8];
        bool answers[8] = { false };
        int e = epoll_create1(EPOLL_CLOEXEC), self = (int)syscall(SYS_pidfd_open, getpid(), 0), copy;
        struct epoll_event ev = { .events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 7 };

        (void)state;
        for (int i = 0; i < 8; i++) {
                questions[i].fd = eventfd(0, 0);
                if (i != 3)
                        assert_int_equal(epoll_ctl(e, EPOLL_CTL_ADD, questions[i].fd, &ev), 0);
        }
        /* The number of 5 is another eventfd's, that of 6 nobody's. */
        copy = dup(questions[5].fd);
        assert_int_equal(dup2(questions[3].fd, questions[5].fd), questions[5].fd);
        close(questions[6].fd);
        assert_int_equal(epoll_ask_all(e, self, questions, 8, answers), 0);
        for (int i = 0; i < 8; i++)
                assert_int_equal(answers[i], i != 3 && i != 5 && i != 6);
        assert_int_equal(epoll_ctl(e, EPOLL_CTL_DEL, questions[3].fd, NULL), -1);
        assert_int_equal(epoll_ctl(e, EPOLL_CTL_DEL, questions[5].fd, NULL), -1);
        for (int i = 0; i < 6; i++)
                assert_int_equal(epoll_wait(e, &ev, 1, 0), 1);
        assert_int_equal(epoll_wait(e, &ev, 1, 0), 0);
        for (int i = 0; i < 8; i++)
                if (i != 6)
                        close(questions[i].fd);
        close(copy);
        close(e);
        close(self);
}

static void test_compare(void **state) {
        struct epoll_event ev = { .events = EPOLLIN };
        int e = epoll_create1(EPOLL_CLOEXEC), a = eventfd(0, 0), b = eventfd(0, 0), copy = dup(a);
        const struct proc_epoll_item item = { .fd = a };
        struct epoll_member first = { getpid(), e, &item, 0 }, second = { getpid(), e, &item, 1 };
        int r[4];

        (void)state;
        assert_int_equal(epoll_ctl(e, EPOLL_CTL_ADD, a, &ev), 0);
        assert_int_equal(epoll_compare(&first, getpid(), copy), 0);
        assert_in_range(epoll_compare(&first, getpid(), b), 1, 2);
        assert_int_equal(epoll_compare(&second, getpid(), a), -ENOENT);
        assert_int_equal(dup2(b, a), a);
        assert_int_equal(epoll_ctl(e, EPOLL_CTL_ADD, a, &ev), 0);
        r[0] = epoll_compare(&first, getpid(), copy);
        r[1] = epoll_compare(&first, getpid(), b);
        r[2] = epoll_compare(&second, getpid(), copy);
        r[3] = epoll_compare(&second, getpid(), b);
        assert_true((r[0] == 0 && r[3] == 0 && r[1] > 0 && r[2] > 0) ||
                    (r[1] == 0 && r[2] == 0 && r[0] > 0 && r[3] > 0));
        close(a);
        close(b);
        close(copy);
        close(e);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_spoilt),
                TEST(test_in_order),
                TEST(test_old_files),
                TEST(test_circle),
                TEST(test_nested_deep),
                TEST(test_foreign_member),
                TEST(test_foreign_member_lost),
                TEST(test_closed_member),
                TEST(test_timer_missed),
                TEST(test_timer_missed_once),
                TEST(test_timer_other_boot),
                TEST(test_timer_foreign),
                TEST(test_timer_extremes),
                TEST(test_semaphore_unknown),
                TEST(test_count_same),
                TEST(test_ask_all),
                TEST(test_compare),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
