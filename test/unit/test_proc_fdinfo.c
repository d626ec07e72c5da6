/* SPDX-License-Identifier: GPL-2.0-only */
/* fdinfo of every kind, made here, and file locks; on recorded, real and hostile text. */
#include "test_proc_hostile.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/fdinfo.h"
#include "proc/locks.h"

#define HEAD "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n"

#define WATCH HEAD "inotify wd:2 ino:1 sdev:1 mask:2 ignored_mask:0 "

/* One of each kind, as Linux 6.18 prints them. */
static const char *const recorded[] = {
        HEAD,
        HEAD "eventfd-count:                7\neventfd-id: 1\neventfd-semaphore: 1\n",
        HEAD
        "clockid: 1\nticks: 3\nsettime flags: 03\nit_value: (99, 999969219)\nit_interval: (1, 500000000)\n",
        HEAD "sigmask:\t8000000000000200\n",
        HEAD "tfd:        6 events:       19 data:                6  pos:0 ino:40e sdev:10\n"
             "tfd:        3 events: 80000019 data: ffffffffffffffff  pos:-1 ino:40f sdev:fe00000\n",
        HEAD
        "inotify wd:2 ino:3c51d sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 "
        "f_handle:1dc5030000000000\ninotify wd:1a ino:3c51a sdev:fe00000 mask:40000100 ignored_mask:0 \n",
        HEAD
        "fanotify flags:0 event-flags:8000\n"
        "fanotify ino:a720c8 sdev:fe00000 mflags:40 mask:0 ignored_mask:8 fhandle-bytes:8 fhandle-type:1 "
        "f_handle:c820a700f8b22e5f\n"
        "fanotify sdev:fe00000 mflags:0 mask:20 ignored_mask:0\n"
        "fanotify mnt_id:1b mflags:0 mask:20 ignored_mask:0\n"
        "fanotify mnt_ns:f0000001 mflags:0 mask:1000000 ignored_mask:0\n",
        HEAD "Pid:\t4790\nNSpid:\t4790\t12\n",
        HEAD "scm_fds: 2\n",
        HEAD "lock:\t1: FLOCK  ADVISORY  WRITE 4790 fe:00:10952904 0 EOF\n"
             "lock:\t2: POSIX  ADVISORY  READ 4790 fe:00:10952904 5 14\n"
             "lock:\t3: OFDLCK ADVISORY  WRITE -1 fe:00:10952904 100 106\n"
             "lock:\t4: LEASE  BREAKING  UNLCK 4790 fe:00:10952905 0 EOF\n",
        HEAD "iff:\ttt0\nmap_flags:\t0x10\nmap_id:\t25\nPollList:\n  op=1, task_works=0\n",
};

static int parse(char *text, size_t len) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };

        return proc_fdinfo_parse(text, len, &info);
}

static void parse_recorded(size_t i, char *copy, size_t size, struct proc_fdinfo *ret) {
        size_t n = strlen(recorded[i]);

        assert_true(n < size);
        memcpy(copy, recorded[i], n + 1);
        proc_fdinfo_done(ret);
        assert_int_equal(proc_fdinfo_parse(copy, n, ret), 0);
        assert_int_equal(ret->flags, O_CLOEXEC | O_RDWR);
        assert_int_equal(ret->mnt_id, 17);
        assert_true(ret->has_ino && ret->ino == 1038);
}

static void test_recorded(void **state) {
        (void)state;
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        char c[1024];
        uint64_t v;

        parse_recorded(0, c, sizeof(c), &info);
        assert_int_equal(info.kind, PROC_FDINFO_PLAIN);
        parse_recorded(1, c, sizeof(c), &info);
        assert_int_equal(info.kind, PROC_FDINFO_EVENTFD);
        assert_true(info.eventfd.count == 7 && info.eventfd.id == 1 && info.eventfd.semaphore);
        parse_recorded(2, c, sizeof(c), &info);
        assert_int_equal(info.kind, PROC_FDINFO_TIMERFD);
        assert_true(info.timerfd.clockid == 1 && info.timerfd.ticks == 3 && info.timerfd.settime_flags == 3);
        assert_true(info.timerfd.value.tv_sec == 99 && info.timerfd.value.tv_nsec == 999969219);
        assert_true(info.timerfd.interval.tv_sec == 1 && info.timerfd.interval.tv_nsec == 500000000);
        parse_recorded(3, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_SIGNALFD && info.signalfd.mask == 0x8000000000000200);
        parse_recorded(4, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_EPOLL && info.epoll.n == 2);
        assert_true(info.epoll.v[1].fd == 3 && info.epoll.v[1].events == 0x80000019 &&
                    info.epoll.v[1].data == UINT64_MAX && info.epoll.v[1].pos == -1 &&
                    info.epoll.v[1].ino == 0x40f && info.epoll.v[1].sdev == 0xfe00000);
        parse_recorded(5, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_INOTIFY && info.inotify.n == 2);
        assert_true(info.inotify.v[0].handle.known && info.inotify.v[0].handle.n == 8 &&
                    info.inotify.v[0].handle.data[2] == 3 && info.inotify.v[0].handle.type == 1);
        assert_true(info.inotify.v[1].wd == 26 && info.inotify.v[1].mask == 0x40000100 &&
                    !info.inotify.v[1].handle.known);
        parse_recorded(6, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_FANOTIFY && info.fanotify_marks.n == 4);
        for (int i = 0; i < 4; i++)
                assert_int_equal(info.fanotify_marks.v[i].on,
                                 ((int[]){ PROC_FANOTIFY_INODE, PROC_FANOTIFY_FILESYSTEM,
                                           PROC_FANOTIFY_MOUNT, PROC_FANOTIFY_MNTNS })[i]);
        assert_true(info.fanotify.event_flags == 0x8000 && info.fanotify_marks.v[0].mflags == 0x40 &&
                    info.fanotify_marks.v[0].ignored_mask == 8 && info.fanotify_marks.v[2].mnt_id == 0x1b);
        parse_recorded(7, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_PIDFD && info.pidfd.pid == 4790 && info.pidfd.nspid.n == 2);
        parse_recorded(8, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_UNIX && info.unix_socket.scm_fds == 2);
        parse_recorded(9, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_PLAIN && info.locks.n == 4 && info.locks.v[3].breaking &&
                    info.locks.v[3].mode == PROC_LOCK_UNLOCK);
        parse_recorded(10, c, sizeof(c), &info);
        assert_true(info.kind == PROC_FDINFO_OTHER && info.other.n == 5);
        assert_string_equal(proc_fdinfo_find(&info, "iff"), "tt0");
        assert_string_equal(proc_fdinfo_find(&info, "PollList"), "");
        assert_string_equal(proc_fdinfo_find(&info, ""), "  op=1, task_works=0");
        assert_null(proc_fdinfo_find(&info, "map"));
        assert_true(proc_fdinfo_find_u64(&info, "map_id", &v) == 0 && v == 25);
        assert_true(proc_fdinfo_find_u64(&info, "map_flags", &v) == 0 && v == 16);
        assert_int_equal(proc_fdinfo_find_u64(&info, "iff", &v), -EBADMSG);
        assert_int_equal(proc_fdinfo_find_u64(&info, "x", &v), -ENOENT);
}

/* What kernels before 6.18 leave out. */
static void test_old(void **state) {
        (void)state;
        char plain[] = "pos:\t-5\nflags:\t0100000\n",
             event[] = "pos:\t0\nflags:\t02\nmnt_id:\t9\neventfd-count: ff\n";
        char epoll[] =
                "pos:\t0\nflags:\t02\nmnt_id:\t9\ntfd:        5 events:       1d data: ffffffff00000005\n";
        _cleanup_proc_fdinfo_ struct proc_fdinfo a = { 0 }, b = { 0 }, c = { 0 };

        assert_int_equal(proc_fdinfo_parse(plain, strlen(plain), &a), 0);
        assert_true(a.pos == -5 && a.mnt_id == -1 && !a.has_ino);
        assert_int_equal(proc_fdinfo_parse(event, strlen(event), &b), 0);
        assert_true(b.eventfd.count == 255 && b.eventfd.id == -1 && !b.eventfd.has_semaphore);
        assert_int_equal(proc_fdinfo_parse(epoll, strlen(epoll), &c), 0);
        assert_true(c.epoll.n == 1 && c.epoll.v[0].data == 0xffffffff00000005 && c.epoll.v[0].ino == 0);
}

static void test_hostile(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "pos:\t0\n",
                "flags:\t0\n",
                HEAD "pos:\t0\n",
                HEAD "eventfd-id: 1\n",
                HEAD "eventfd-count: 1\nsigmask:\t8000000000000200\n",
                HEAD "clockid: 1\nticks: 3\n",
                HEAD "it_value: (1, 2)\n",
                HEAD
                "clockid: 1\nticks: 3\nsettime flags: 03\nit_value: (99, 1000000000)\nit_interval: (1, 0)\n",
                WATCH "fhandle-bytes:81 fhandle-type:1 f_handle:00\n",
                WATCH "fhandle-bytes:2 fhandle-type:1 f_handle:000\n",
                WATCH "fhandle-bytes:1 fhandle-type:1 f_handle:0000\n",
                HEAD "fanotify ino:1 sdev:1 mflags:0 mask:0 ignored_mask:8\n",
                HEAD "Pid:\t1\nPid:\t1\n",
                HEAD "lock:\t1: FLOCK  ADVISORY  WRITE 4790 fe:00:10952904 9 5\n",
                HEAD "lock:\t1: FLECK  ADVISORY  WRITE 4790 fe:00:10952904 0 EOF\n",
        };
        char copy[1024];
        size_t n;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                snprintf(copy, sizeof(copy), "%s", bad[i]);
                if (parse(copy, strlen(copy)) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);
        }
        /* A handle that is all there, but larger than any can be. */
        n = (size_t)snprintf(copy, sizeof(copy), "%s", WATCH "fhandle-bytes:81 fhandle-type:1 f_handle:");
        memset(copy + n, '0', 2 * 0x81);
        copy[n + 2 * 0x81] = '\n';
        assert_int_equal(parse(copy, n + 2 * 0x81 + 1), -EBADMSG);
        for (size_t i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++)
                hostile_check(parse, recorded[i], strlen(recorded[i]), true);
}

/* --- real descriptors --- */

static int read_own(int fd, struct proc_buf *buf, struct proc_fdinfo *ret) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

        assert_true(fd >= 0);
        assert_int_equal(proc_open(getpid(), &dir), 0);
        proc_fdinfo_done(ret);
        *ret = (struct proc_fdinfo){ 0 };
        return proc_fdinfo_read(&dir, fd, buf, ret);
}

static void test_live_plain(void **state) {
        (void)state;
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        struct stat st;

        assert_int_equal(lseek(fd, 1234, SEEK_SET), 1234);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(read_own(fd, &buf, &info), 0);
        assert_int_equal(info.pos, 1234);
        assert_int_equal(info.flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK),
                         O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        assert_true(info.kind == PROC_FDINFO_PLAIN && info.mnt_id > 0);
        assert_true(!info.has_ino || info.ino == st.st_ino);
        assert_int_equal(read_own(19999, &buf, &info), -ENOENT);
}

static void test_live_events(void **state) {
        (void)state;
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_close_ int event = eventfd(0x1234, EFD_SEMAPHORE | EFD_CLOEXEC);
        _cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
        _cleanup_close_ int timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
        _cleanup_close_ int signal_fd = -EBADF;
        struct epoll_event ev = { .events = EPOLLIN | EPOLLET | EPOLLONESHOT,
                                  .data.u64 = 0xfedcba9876543210 };
        struct itimerspec its = { .it_value.tv_sec = 5000, .it_interval = { 3, 7 } };
        sigset_t set;

        assert_int_equal(read_own(event, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_EVENTFD && info.eventfd.count == 0x1234);
        assert_true(!info.eventfd.has_semaphore || info.eventfd.semaphore);
        assert_int_equal(read_own(epoll, &buf, &info), 0);
        assert_int_equal(info.kind, PROC_FDINFO_PLAIN);
        assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ev), 0);
        assert_int_equal(read_own(epoll, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_EPOLL && info.epoll.n == 1 && info.epoll.v[0].fd == event &&
                    info.epoll.v[0].data == ev.data.u64);
        assert_int_equal(info.epoll.v[0].events & (EPOLLIN | EPOLLET | EPOLLONESHOT),
                         EPOLLIN | EPOLLET | EPOLLONESHOT);
        assert_int_equal(timerfd_settime(timer, TFD_TIMER_ABSTIME, &its, NULL), 0);
        assert_int_equal(read_own(timer, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_TIMERFD && info.timerfd.clockid == CLOCK_BOOTTIME &&
                    info.timerfd.settime_flags == TFD_TIMER_ABSTIME && info.timerfd.interval.tv_sec == 3 &&
                    info.timerfd.interval.tv_nsec == 7);
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGRTMAX);
        signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
        assert_int_equal(read_own(signal_fd, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_SIGNALFD &&
                    info.signalfd.mask == (1ULL << (SIGHUP - 1) | 1ULL << 63));
}

static void test_live_notify(void **state) {
        (void)state;
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_close_ int inotify = inotify_init1(IN_CLOEXEC), fanotify = -EBADF;
        struct stat st;
        int wd = inotify_add_watch(inotify, "/usr", IN_CREATE | IN_ONESHOT);

        assert_true(wd >= 0);
        assert_int_equal(stat("/usr", &st), 0);
        assert_int_equal(read_own(inotify, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_INOTIFY && info.inotify.n == 1 && info.inotify.v[0].wd == wd &&
                    info.inotify.v[0].ino == st.st_ino);
        assert_int_equal(info.inotify.v[0].mask & (IN_CREATE | IN_DELETE), IN_CREATE);
        fanotify = fanotify_init(FAN_CLOEXEC, O_RDONLY | O_LARGEFILE);
        if (fanotify < 0)
                return; /* not permitted, or not in this kernel */
        assert_int_equal(fanotify_mark(fanotify, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/usr"), 0);
        assert_int_equal(
                fanotify_mark(fanotify, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, "/proc"),
                0);
        assert_int_equal(read_own(fanotify, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_FANOTIFY && info.fanotify_marks.n == 2);
        for (size_t i = 0; i < 2; i++) {
                const struct proc_fanotify_mark *m = &info.fanotify_marks.v[i];

                assert_true(m->on == PROC_FANOTIFY_INODE
                                    ? m->ino == st.st_ino && m->mask == FAN_OPEN
                                    : m->on == PROC_FANOTIFY_MOUNT && m->mask == FAN_CLOSE_WRITE);
        }
}

static void test_live_process(void **state) {
        (void)state;
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_close_ int pidfd = -EBADF, tty = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        char control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec iov = { .iov_base = control, .iov_len = 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        uint64_t index;
        int pair[2];
        unsigned n;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(0);
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        assert_int_equal(read_own(pidfd, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_PIDFD && info.pidfd.pid == pid &&
                    info.pidfd.nspid.ids[0] == pid);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(read_own(pidfd, &buf, &info), 0);
        assert_true(info.kind == PROC_FDINFO_PIDFD && info.pidfd.pid == -1);
        if (tty >= 0) {
                assert_int_equal(ioctl(tty, TIOCGPTN, &n), 0);
                assert_int_equal(read_own(tty, &buf, &info), 0);
                assert_int_equal(proc_fdinfo_find_u64(&info, "tty-index", &index), 0);
                assert_int_equal(index, n);
        }
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &pidfd, sizeof(int));
        assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
        assert_int_equal(read_own(pair[1], &buf, &info), 0);
        /* Before 5.11 (and without CONFIG_PROC_FS in af_unix) the line is missing. */
        assert_true(info.kind == PROC_FDINFO_PLAIN ||
                    (info.kind == PROC_FDINFO_UNIX && info.unix_socket.scm_fds == 1));
        close(pair[0]);
        close(pair[1]);
}

/* --- locks --- */

static const char locks_text[] = "1: OFDLCK ADVISORY  WRITE -1 fe:00:10952904 100 106\n"
                                 "2: POSIX  ADVISORY  READ 4790 fe:1f:10952904 5 14\n"
                                 "2: -> POSIX  ADVISORY  WRITE 4791 fe:1f:10952904 0 EOF\n"
                                 "2:  -> POSIX  ADVISORY  WRITE 4792 fe:1f:10952904 0 0\n"
                                 "3: FLOCK  ADVISORY  WRITE 4790 103:00:18446744073709551615 0 EOF\n"
                                 "4: LEASE  ACTIVE    READ 4790 fe:00:1 0 EOF\n"
                                 "5: DELEG  BREAKING  UNLCK 4790 fe:00:1 0 EOF\n"
                                 "6: POSIX  *NOINODE* WRITE 0 <none>:0 0 9223372036854775806\n"
                                 "7: ACCESS ADVISORY  READ 0 00:00:1 0 EOF\n"
                                 "8: POSIX  MANDATORY READ 7 00:00:1 0 EOF\n";

static int parse_locks(char *text, size_t len) {
        _cleanup_(proc_lock_vec_done) struct proc_lock_vec vec = { 0 };

        return proc_locks_parse(text, len, &vec);
}

static void test_locks(void **state) {
        (void)state;
        _cleanup_(proc_lock_vec_done) struct proc_lock_vec vec = { 0 };

        assert_int_equal(proc_locks_parse(locks_text, strlen(locks_text), &vec), 0);
        assert_int_equal(vec.n, 10);
        assert_true(vec.v[0].type == PROC_LOCK_OFD && vec.v[0].pid == -1 && vec.v[0].start == 100 &&
                    vec.v[0].end == 106 && vec.v[0].mode == PROC_LOCK_WRITE && !vec.v[0].blocked);
        assert_true(vec.v[1].type == PROC_LOCK_POSIX && vec.v[1].mode == PROC_LOCK_READ &&
                    vec.v[1].dev_major == 0xfe && vec.v[1].dev_minor == 0x1f && vec.v[1].ino == 10952904);
        assert_true(vec.v[2].blocked && vec.v[2].id == 2 && vec.v[2].end == INT64_MAX);
        assert_true(vec.v[3].blocked && vec.v[3].end == 0);
        assert_true(vec.v[4].type == PROC_LOCK_FLOCK && vec.v[4].ino == UINT64_MAX);
        assert_true(vec.v[5].type == PROC_LOCK_LEASE && !vec.v[5].breaking);
        assert_true(vec.v[6].type == PROC_LOCK_DELEG && vec.v[6].breaking &&
                    vec.v[6].mode == PROC_LOCK_UNLOCK);
        assert_true(vec.v[7].no_inode && vec.v[7].end == INT64_MAX - 1);
        assert_true(vec.v[8].type == PROC_LOCK_ACCESS);
        assert_true(vec.v[9].mandatory);
        hostile_check(parse_locks, locks_text, strlen(locks_text), true);
}

static void test_live_locks(void **state) {
        (void)state;
        _cleanup_(proc_lock_vec_done) struct proc_lock_vec vec = { 0 };
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char path[] = "/tmp/test_proc_locks.XXXXXX";
        _cleanup_close_ int fd = mkstemp(path);
        struct flock posix = { .l_type = F_RDLCK, .l_start = 5, .l_len = 10 };
        struct flock ofd = { .l_type = F_WRLCK, .l_start = 100 };
        unsigned found = 0;
        struct stat st;

        assert_true(fd >= 0);
        unlink(path);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(fcntl(fd, F_SETLK, &posix), 0);
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &ofd), 0);
        assert_int_equal(read_own(fd, &buf, &info), 0);
        assert_int_equal(info.locks.n, 3);
        for (size_t i = 0; i < 3; i++) {
                const struct proc_lock *l = &info.locks.v[i];

                assert_int_equal(l->ino, st.st_ino);
                found |= 1U << l->type;
                if (l->type == PROC_LOCK_POSIX)
                        assert_true(l->pid == getpid() && l->start == 5 && l->end == 14 &&
                                    l->mode == PROC_LOCK_READ);
                else if (l->type == PROC_LOCK_OFD)
                        assert_true(l->pid == -1 && l->start == 100 && l->end == INT64_MAX);
                else
                        assert_true(l->pid == getpid() && l->mode == PROC_LOCK_WRITE && l->start == 0);
        }
        assert_int_equal(found, 1U << PROC_LOCK_POSIX | 1U << PROC_LOCK_OFD | 1U << PROC_LOCK_FLOCK);
        assert_int_equal(proc_locks_read(&buf, &vec), 0);
        found = 0;
        for (size_t i = 0; i < vec.n; i++)
                found += vec.v[i].ino == st.st_ino;
        assert_true(found >= 3);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_recorded),     cmocka_unit_test(test_old),
                cmocka_unit_test(test_hostile),      cmocka_unit_test(test_live_plain),
                cmocka_unit_test(test_live_events),  cmocka_unit_test(test_live_notify),
                cmocka_unit_test(test_live_process), cmocka_unit_test(test_locks),
                cmocka_unit_test(test_live_locks),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
