/* SPDX-License-Identifier: GPL-2.0-only */
/* Tables of real processes, there and back. */
#include "test_fd.h"

#include <linux/kcmp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/resource.h>

static struct fd_fixture fx;

static void go_there(void) {
        dump_look_all(&fx);
        if (blockers_count(fx.dump.blockers) > 0)
                blockers_to_error(fx.dump.blockers, "", &fx.err);
        assert_ok(dump_collect_all(&fx) < 0 || blockers_count(fx.dump.blockers) ? -1 : 0, &fx.err);
        dump_save_all(&fx);
}

static void and_back(void) {
        for (size_t i = 0; i < fx.dump.nr_tasks; i++)
                restore_task_add(&fx, fx.dump.tasks[i]->pid, fx.dump.tasks[i]->ids->files_id);
        assert_ok(restore_load_all(&fx), &fx.err);
        restore_make_hosts(&fx);
        assert_ok(fd_restore(&fx.restore, &fx.err), &fx.err);
        assert_ok(fd_restore_owners(&fx.restore, &fx.err), &fx.err);
}

/* Same numbers, flags, offsets, links; the description by description comparison is the caller's. */
static void compare_tables(pid_t before, pid_t after) {
        struct proc_dir a, b;
        struct proc_fd_vec fds_a = { 0 }, fds_b = { 0 };
        struct proc_buf buf = { 0 };

        assert_int_equal(proc_open(before, &a), 0);
        assert_int_equal(proc_open(after, &b), 0);
        assert_int_equal(proc_fds(&a, &fds_a), 0);
        assert_int_equal(proc_fds(&b, &fds_b), 0);
        assert_int_equal(fds_a.n, fds_b.n);
        for (size_t i = 0; i < fds_a.n; i++) {
                struct proc_fdinfo x, y;
                char path[32], *link_a, *link_b;

                assert_int_equal(fds_a.v[i], fds_b.v[i]);
                assert_int_equal(proc_fdinfo_read(&a, fds_a.v[i], &buf, &x), 0);
                assert_int_equal(proc_fdinfo_read(&b, fds_b.v[i], &buf, &y), 0);
                if (x.flags != y.flags)
                        fail_msg("fd %d: flags %#o and %#o", fds_a.v[i], x.flags, y.flags);
                assert_int_equal(x.pos, y.pos);
                snprintf(path, sizeof(path), "fd/%d", fds_a.v[i]);
                assert_int_equal(proc_readlink(&a, path, &link_a), 0);
                assert_int_equal(proc_readlink(&b, path, &link_b), 0);
                if (strncmp(link_a, "pipe:", 5) != 0)
                        assert_string_equal(link_a, link_b);
                free(link_a);
                free(link_b);
                proc_fdinfo_done(&x);
                proc_fdinfo_done(&y);
        }
        proc_fd_vec_done(&fds_a);
        proc_fd_vec_done(&fds_b);
        proc_buf_done(&buf);
        proc_close(&a);
        proc_close(&b);
}

enum { MANY = 5100 };

/* The highest descriptor that there may be, plus one. */
static rlim_t descriptors(void) {
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        return limit.rlim_cur;
}

/* Enough for all tests, where that is allowed. */
static void raise_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= MANY)
                return;
        if (limit.rlim_max < MANY && setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MANY, MANY }) == 0)
                return;
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)MANY);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int setup(void **state) {
        (void)state;
        fixture_init(&fx);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        for (size_t i = 0; i < fx.dump.nr_tasks; i++)
                child_end(fx.dump.tasks[i]->pid);
        restore_done(&fx);
        dump_done(&fx);
        fixture_done(&fx);
        return 0;
}

/* ---- files ---- */

/* A restore takes some numbers above the highest one. */
static int far_fd(void) {
        return (int)MIN(descriptors() - 100, (rlim_t)3000);
}

static void files_child(void *dir) {
        int fd;

        plain_table();
        must(chdir(dir) == 0 && mkdir("sub", 0755) == 0);
        must((fd = open("file", O_RDWR | O_CREAT, 0640)) == 3 && write(fd, "0123456789", 10) == 10);
        must(dup2(3, 700) == 700);                     /* 3 and 700: one description */
        must(open("file", O_RDONLY | O_CLOEXEC) == 4); /* another */
        must(lseek(4, 7, SEEK_SET) == 7 && lseek(3, 3, SEEK_SET) == 3);
        must(open("sub", O_RDONLY | O_DIRECTORY) == 5);
        must(open("file", O_PATH) == 6 && open("sub", O_PATH | O_DIRECTORY | O_CLOEXEC) == 7);
        must(symlink("nowhere", "link") == 0 && open("link", O_PATH | O_NOFOLLOW) == 8);
        must(open("/dev/zero", O_RDONLY | O_NONBLOCK) == 9 && open("/dev/full", O_WRONLY | O_APPEND) == 10);
        must(open("file", O_WRONLY | O_APPEND | O_SYNC) == 11);
        must(fcntl(11, F_DUPFD_CLOEXEC, 40) == 40);
        must(open("file", O_RDWR | O_NOATIME) == 12);
        must(close(2) == 0 && dup2(0, far_fd()) == far_fd());
        umask(0027);
        must(chdir("sub") == 0);
}

static bool same_file(pid_t a, int fd_a, pid_t b, int fd_b) {
        return syscall(SYS_kcmp, a, b, KCMP_FILE, fd_a, fd_b) == 0;
}

static void test_files(void **state) {
        pid_t pid = child_new(files_child, fx.dir), host;
        char want[80], *link;
        struct proc_dir dir;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        and_back();
        host = fx.restore.tasks[0]->threads[0].tid;
        compare_tables(pid, host);
        assert_true(same_file(host, 3, host, 700));
        assert_true(same_file(host, 0, host, far_fd()));
        assert_true(same_file(host, 11, host, 40));
        assert_false(same_file(host, 3, host, 4));
        assert_int_equal(host_call(&fx, fx.restore.tasks[0], SYS_umask, 0), 0027);
        assert_int_equal(proc_open(host, &dir), 0);
        assert_int_equal(proc_readlink(&dir, "cwd", &link), 0);
        snprintf(want, sizeof(want), "%s/sub", fx.dir);
        assert_string_equal(link, want);
        free(link);
        proc_close(&dir);
}

/* Between processes: what is one description before is one afterwards, and no more. */
struct place {
        int fd, at;
        const char *path;
};

static void sharing_child(void *arg) {
        const struct place *p = arg;

        must(dup2(p->fd, p->at) == p->at);
        must(dup2(open("/dev/null", O_RDWR), 0) == 0 && dup2(0, 1) == 1 && dup2(0, 2) == 2);
        must(close_range(3, (unsigned int)p->at - 1, 0) == 0 &&
             close_range((unsigned int)p->at + 1, ~0U, 0) == 0);
        must(open(p->path, O_RDWR) == 3);
}

static void test_sharing(void **state) {
        char path[96];
        struct place place_a = { .at = 50, .path = path }, place_b = { .at = 60, .path = path };
        struct dump_task *parent;
        pid_t a, b;

        (void)state;
        snprintf(path, sizeof(path), "%s/f", fx.dir);
        place_a.fd = place_b.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(place_a.fd, "abc", 3), 3);
        a = child_new(sharing_child, &place_a);
        b = child_new(sharing_child, &place_b);
        close(place_a.fd);
        parent = dump_task_add(&fx, a, NULL);
        dump_task_add(&fx, b, parent);
        go_there();
        and_back();
        compare_tables(a, fx.restore.tasks[0]->threads[0].tid);
        compare_tables(b, fx.restore.tasks[1]->threads[0].tid);
        a = fx.restore.tasks[0]->threads[0].tid;
        b = fx.restore.tasks[1]->threads[0].tid;
        assert_true(same_file(a, 50, b, 60));
        assert_false(same_file(a, 3, b, 3));
        assert_false(same_file(a, 3, a, 50));
}

/* Thousands, and a table that is full. */
static void many_child(void *dir) {
        struct rlimit limit = { MANY, MANY };

        plain_table();
        must(chdir(dir) == 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (int i = 3; i < MANY; i++) {
                char name[32];

                snprintf(name, sizeof(name), "f%d", i);
                must(open(name, O_RDWR | O_CREAT | (i % 3 ? 0 : O_CLOEXEC), 0600) == i);
        }
}

static void test_many(void **state) {
        pid_t pid;

        (void)state;
        if (descriptors() < MANY)
                skip();
        pid = child_new(many_child, fx.dir);
        dump_task_add(&fx, pid, NULL);
        go_there();
        and_back();
        compare_tables(pid, fx.restore.tasks[0]->threads[0].tid);
}

/* ---- pipes ---- */

static void pipes_child(void *dir) {
        char big[65536];
        int fd[2];

        (void)dir;
        plain_table();
        memset(big, 'x', sizeof(big));
        must(pipe2(fd, O_CLOEXEC) == 0 && fd[0] == 3 && write(4, "hello", 5) == 5);
        must(pipe2(fd, O_DIRECT) == 0 && fd[0] == 5 && write(6, "one", 3) == 3 && write(6, "three", 5) == 5);
        must(pipe2(fd, O_NONBLOCK) == 0 && fd[0] == 7 && fcntl(8, F_SETPIPE_SZ, 16384) == 16384);
        must(write(8, big, 16384) == 16384);
        must(pipe(fd) == 0 && fd[0] == 9 && write(10, "last words", 10) == 10 && close(10) == 0);
        must(pipe(fd) == 0 && fd[1] == 11 && close(10) == 0); /* no readers */
        must(pipe(fd) == 0 && fd[0] == 10 && fd[1] == 12);
        must(open("/proc/self/fd/10", O_RDONLY | O_NONBLOCK) == 13); /* a second reader, with O_LARGEFILE */
        must(open("/proc/self/fd/10", O_RDWR) == 14 && write(14, "abc", 3) == 3);
        must(pipe(fd) == 0 && fd[0] == 15 && fcntl(15, F_SETPIPE_SZ, 1 << 20) == 1 << 20);
        for (int i = 0; i < 16; i++)
                must(write(16, big, 65536) == 65536);
}

static void test_pipes(void **state) {
        pid_t pid = child_new(pipes_child, NULL), host;
        char buf[65536];
        struct restore_task *t;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        and_back();
        t = fx.restore.tasks[0];
        host = t->threads[0].tid;
        compare_tables(pid, host);
        /* What was read to be saved is still in the originals. */
        assert_int_equal(host_read(&fx, t, 3, buf, 100), 5);
        assert_memory_equal(buf, "hello", 5);
        assert_int_equal(host_read(&fx, t, 5, buf, 100), 3);
        assert_memory_equal(buf, "one", 3);
        assert_int_equal(host_read(&fx, t, 5, buf, 100), 5);
        assert_int_equal(host_call(&fx, t, SYS_fcntl, 7, F_GETPIPE_SZ), 16384);
        assert_int_equal(host_read(&fx, t, 7, buf, 20000), 16384);
        assert_int_equal(host_read(&fx, t, 7, buf, 1), -EAGAIN);
        assert_int_equal(host_read(&fx, t, 9, buf, 100), 10);
        assert_memory_equal(buf, "last words", 10);
        assert_int_equal(host_read(&fx, t, 9, buf, 100), 0);
        assert_int_equal(host_call(&fx, t, SYS_write, 11, 0x10000000, 1), -EPIPE);
        assert_int_equal(host_read(&fx, t, 13, buf, 2), 2);
        assert_int_equal(host_read(&fx, t, 10, buf, 2), 1);
        assert_int_equal(buf[0], 'c');
        assert_int_equal(host_call(&fx, t, SYS_fcntl, 15, F_GETPIPE_SZ), 1 << 20);
        for (int i = 0; i < 16; i++)
                assert_int_equal(host_read(&fx, t, 15, buf, 65536), 65536);
        {
                int original = (int)syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, pid, 0), 3, 0);

                assert_int_equal(read(original, buf, 100), 5);
                close(original);
        }
}

static void fifo_child(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && mkfifo("a", 0600) == 0 && mkfifo("b", 0600) == 0 && mkfifo("c", 0600) == 0);
        must(open("a", O_RDONLY | O_NONBLOCK) == 3 && open("a", O_WRONLY | O_CLOEXEC) == 4 &&
             write(4, "data", 4) == 4);
        must(open("b", O_RDONLY | O_NONBLOCK) == 5); /* never had a writer */
        must(open("c", O_RDWR) == 6 && open("c", O_RDONLY | O_NONBLOCK) == 7 && close(6) == 0); /* had one */
        must(open("c", O_RDONLY | O_NONBLOCK) == 6 && close(7) == 0 && open("c", O_RDWR) == 7 &&
             close(7) == 0);
}

static short host_poll(struct restore_task *t, int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        raddr_t remote;
        struct pollfd *data = compel_data(task_lane(t), sizeof(p), &remote);

        *data = p;
        assert_true(host_call(&fx, t, SYS_poll, remote, 1, 0) >= 0);
        return data->revents;
}

static void test_fifos(void **state) {
        pid_t pid = child_new(fifo_child, fx.dir);
        struct restore_task *t;
        char buf[16];

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        child_end(pid);
        and_back();
        t = fx.restore.tasks[0];
        assert_int_equal(host_read(&fx, t, 3, buf, 16), 4);
        assert_memory_equal(buf, "data", 4);
        assert_int_equal(host_read(&fx, t, 3, buf, 16), -EAGAIN);
        assert_int_equal(host_poll(t, 5), 0);
        assert_int_equal(host_read(&fx, t, 5, buf, 16), 0);
        assert_int_equal(host_poll(t, 6), POLLHUP);
}

/* ---- locks, owners, root ---- */

static void locks_child(void *dir) {
        struct flock posix = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
        struct flock ofd = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100 };

        plain_table();
        must(chdir(dir) == 0);
        must(open("a", O_RDWR | O_CREAT, 0600) == 3 && open("a", O_RDONLY) == 4 &&
             open("b", O_RDWR | O_CREAT, 0600) == 5);
        must(fcntl(3, F_SETLK, &posix) == 0 && fcntl(4, F_OFD_SETLK, &ofd) == 0 && flock(5, LOCK_EX) == 0);
        must(dup(5) == 6);
}

static void test_locks(void **state) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 12, .l_len = 1 };
        pid_t pid = child_new(locks_child, fx.dir), host;
        char path[96];
        int a, b;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        child_end(pid);
        and_back();
        host = fx.restore.tasks[0]->threads[0].tid;
        snprintf(path, sizeof(path), "%s/a", fx.dir);
        a = open(path, O_RDWR | O_CLOEXEC);
        snprintf(path, sizeof(path), "%s/b", fx.dir);
        b = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(fcntl(a, F_GETLK, &lock), 0);
        assert_int_equal(lock.l_type, F_WRLCK);
        assert_int_equal(lock.l_pid, host);
        assert_int_equal(lock.l_start, 10);
        assert_int_equal(lock.l_len, 5);
        lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1000, .l_len = 1 };
        assert_int_equal(fcntl(a, F_GETLK, &lock), 0);
        assert_int_equal(lock.l_type, F_RDLCK);
        assert_int_equal(lock.l_start, 100);
        assert_int_equal(lock.l_len, 0);
        assert_int_equal(flock(b, LOCK_EX | LOCK_NB), -1);
        close(a);
        close(b);
}

static void owner_child(void *arg) {
        struct f_owner_ex owner = { F_OWNER_PID, getpid() };
        int fd[2];

        (void)arg;
        plain_table();
        must(pipe(fd) == 0 && fcntl(3, F_SETOWN_EX, &owner) == 0 && fcntl(3, F_SETSIG, SIGUSR1) == 0);
        must(fcntl(3, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
        must(syscall(SYS_setresuid, 1234, 1234, 0) == 0 && fcntl(4, F_SETOWN_EX, &owner) == 0);
        must(syscall(SYS_setresuid, 0, 0, 0) == 0);
}

/* The owner in the images is the child, which still lives here. */
static void test_owner(void **state) {
        pid_t pid = child_new(owner_child, NULL);
        struct f_owner_ex owner = { 0 };
        struct restore_task *t;
        uid_t uids[2];
        int pidfd, fd;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        and_back();
        assert_int_equal(getuid(), 0);
        assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
        t = fx.restore.tasks[0];
        compare_tables(pid, t->threads[0].tid);
        pidfd = (int)syscall(SYS_pidfd_open, t->threads[0].tid, 0);
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, 3, 0);
        assert_int_equal(fcntl(fd, F_GETOWN_EX, &owner), 0);
        assert_int_equal(owner.type, F_OWNER_PID);
        assert_int_equal(owner.pid, pid);
        assert_int_equal(fcntl(fd, F_GETSIG), SIGUSR1);
        assert_int_equal(fcntl(fd, F_GETFL) & (O_ASYNC | O_NONBLOCK), O_ASYNC | O_NONBLOCK);
        close(fd);
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, 4, 0);
        assert_int_equal(fcntl(fd, 17 /* F_GETOWNER_UIDS */, uids), 0);
        assert_int_equal(uids[0], 1234);
        assert_int_equal(uids[1], 1234);
        close(fd);
        close(pidfd);
}

static void chroot_child(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && mkdir("jail", 0755) == 0 && mkdir("jail/in", 0755) == 0);
        must(chroot("jail") == 0 && chdir("/in") == 0);
}

static void test_chroot(void **state) {
        pid_t pid = child_new(chroot_child, fx.dir);
        char want[96], *link;
        struct proc_dir dir;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        go_there();
        and_back();
        assert_int_equal(proc_open(fx.restore.tasks[0]->threads[0].tid, &dir), 0);
        assert_int_equal(proc_readlink(&dir, "root", &link), 0);
        snprintf(want, sizeof(want), "%s/jail", fx.dir);
        assert_string_equal(link, want);
        free(link);
        assert_int_equal(proc_readlink(&dir, "cwd", &link), 0);
        snprintf(want, sizeof(want), "%s/jail/in", fx.dir);
        assert_string_equal(link, want);
        free(link);
        proc_close(&dir);
}

/* Something changed between the look and the freeze. */
static void rename_child(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && open("a", O_RDWR | O_CREAT, 0600) == 3 &&
             open("b", O_RDWR | O_CREAT, 0600) == 4);
}

static void test_changed_after_look(void **state) {
        pid_t pid = child_new(rename_child, fx.dir);
        char a[96], b[96], c[96];

        (void)state;
        dump_task_add(&fx, pid, NULL);
        dump_look_all(&fx);
        assert_int_equal(blockers_count(fx.dump.blockers), 0);
        snprintf(a, sizeof(a), "%s/a", fx.dir);
        snprintf(b, sizeof(b), "%s/b", fx.dir);
        snprintf(c, sizeof(c), "%s/c", fx.dir);
        assert_int_equal(rename(a, c), 0);
        assert_ok(dump_collect_all(&fx), &fx.err);
        assert_string_equal(fx.dump.tasks[0]->fds->v[3].file->msg->reg->name, c);
        fd_dump_free(&fx.dump);
        assert_int_equal(unlink(b), 0);
        assert_ok(dump_collect_all(&fx), &fx.err);
        assert_string_equal(fx.dump.tasks[0]->fds->v[4].file->msg->reg->name, b);
        fd_dump_free(&fx.dump);
        assert_int_equal(link(c, b), 0);
        assert_int_equal(unlink(c), 0);
        assert_int_equal(dump_collect_all(&fx), -EAGAIN);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "fd 3 is the file"));
}

/* As many descriptors as at the look, but not the same ones. */
static void swap_child(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && open("a", O_RDWR | O_CREAT, 0600) == 3 && dup2(3, 5) == 5);
        raise(SIGSTOP);
        must(close(3) == 0 && dup2(5, 4) == 4);
}

static void test_swapped_after_look(void **state) {
        pid_t pid = child_new(swap_child, fx.dir);
        const struct dump_fds *fds;
        int status;

        (void)state;
        dump_task_add(&fx, pid, NULL);
        dump_look_all(&fx);
        fds = fx.dump.tasks[0]->fds;
        assert_int_equal(fds->nr_seen, 5);
        assert_int_equal(kill(pid, SIGCONT), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        assert_ok(dump_collect_all(&fx), &fx.err);
        assert_false(ckpt_error_is_set(&fx.err));
        assert_int_equal(fds->n, 5);
        assert_int_equal(fds->v[3].fd, 4);
        assert_int_equal(fds->v[4].fd, 5);
        assert_ptr_equal(fds->v[3].file, fds->v[4].file);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_files),
                TEST(test_sharing),
                TEST(test_many),
                TEST(test_pipes),
                TEST(test_fifos),
                TEST(test_locks),
                TEST(test_owner),
                TEST(test_chroot),
                TEST(test_changed_after_look),
                TEST(test_swapped_after_look),
        };

        raise_limit();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
