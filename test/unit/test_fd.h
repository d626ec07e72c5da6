/* SPDX-License-Identifier: GPL-2.0-only */
/* A dump and a restore of nothing but descriptors: a child is looked at, collected, saved; a host task gets its table. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd/kind.h"
#include "macro.h"
#include "restore/inherit.h"
#include "restore/stages.h"
#include "sock/sock.h"

#define assert_ok(expr, err)                                                         \
        do {                                                                         \
                int _r_ = (expr);                                                    \
                if (_r_ < 0)                                                         \
                        fail_msg("%s: %d: %s", #expr, _r_, ckpt_error_message(err)); \
        } while (0)

struct fd_fixture {
        char dir[64];
        int dirfd;
        struct ckpt_options opts;
        struct ckpt_run run;
        struct ckpt_error err;
        struct dump dump;
        struct restore restore;
};

static void fixture_init(struct fd_fixture *f) {
        memset(f, 0, sizeof(*f));
        snprintf(f->dir, sizeof(f->dir), "/tmp/ckpt-fd-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dirfd >= 0);
        ckpt_options_init(&f->opts);
        f->run = (struct ckpt_run){ .opts = &f->opts, .images_dir = f->dir, .images_dirfd = f->dirfd };
}

static __attribute__((unused)) void fixture_done(struct fd_fixture *f) {
        char command[128];

        snprintf(command, sizeof(command), "rm -rf %s", f->dir);
        assert_int_equal(system(command), 0);
        close(f->dirfd);
        ckpt_options_done(&f->opts);
        ckpt_error_clear(&f->err);
}

/* ---- dump ---- */

/* Of a child: it cannot do what it is for. */
static __attribute__((unused)) void must(bool ok) {
        if (!ok)
                _exit(99);
}

/* Standard streams that can be dumped; everything else is closed. */
static __attribute__((unused)) void plain_table(void) {
        int null = open("/dev/null", O_RDWR);

        for (int i = 0; i < 3; i++)
                must(dup2(null, i) == i);
        must(close_range(3, ~0U, 0) == 0);
}

/* A child that runs `set_up` and then stops until it is killed. */
static __attribute__((unused)) pid_t child_new(void (*set_up)(void *arg), void *arg) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                set_up(arg);
                raise(SIGSTOP);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        return pid;
}

static __attribute__((unused)) void child_end(pid_t pid) {
        /* Not a number that is somebody else's by now. */
        if (pid == getpid() || waitpid(pid, NULL, WNOHANG) != 0)
                return;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

/* Likewise, but it is not the test's own child, which ckpt would take for a helper of its own. stranger_end() ends it. */
static __attribute__((unused)) pid_t stranger_new(void (*set_up)(void *arg), void *arg) {
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = (pid_t)syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
        assert_true(pid >= 0);
        if (pid == 0) {
                set_up(arg);
                close(ready[0]);
                close(ready[1]);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 0); /* its end is closed */
        close(ready[0]);
        return pid;
}

static __attribute__((unused)) void stranger_end(pid_t pid) {
        struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

        assert_true(end.fd >= 0);
        kill(pid, SIGKILL);
        assert_int_equal(poll(&end, 1, -1), 1);
        close(end.fd);
}

static __attribute__((unused)) struct dump_task *dump_task_add(struct fd_fixture *f, pid_t pid,
                                                               struct dump_task *parent) {
        struct dump_task *t = calloc(1, sizeof(*t));
        struct dump *d = &f->dump;
        struct proc_buf buf = { 0 };

        assert_non_null(t);
        d->run = &f->run;
        d->opts = &f->opts;
        if (!d->blockers)
                d->blockers = blockers_new();
        *t = (struct dump_task){ .dump = d, .parent = parent, .pid = pid, .other = PROC_DIR_INIT };
        assert_int_equal(proc_open(pid, &t->proc), 0);
        assert_int_equal(proc_stat_read(&t->proc, &buf, &t->stat), 0);
        t->state = t->stat.state;
        t->threads = calloc(1, sizeof(*t->threads));
        t->nr_threads = 1;
        t->threads[0] = (struct dump_thread){ .task = t, .tid = pid, .own_proc = PROC_DIR_INIT };
        t->ids = arena_message(&t->arena, Img__TaskKobjIds, img__task_kobj_ids__init);
        d->tasks = reallocarray(d->tasks, d->nr_tasks + 1, sizeof(*d->tasks));
        d->tasks[d->nr_tasks++] = t;
        t->ids->files_id = t->ids->fs_id = (uint32_t)d->nr_tasks;
        proc_buf_done(&buf);
        return t;
}

static __attribute__((unused)) void dump_look_all(struct fd_fixture *f) {
        for (size_t i = 0; i < f->dump.nr_tasks; i++)
                fd_look(f->dump.tasks[i]);
}

static __attribute__((unused)) int dump_collect_all(struct fd_fixture *f) {
        int r = 0;

        fd_look_init(&f->dump);
        for (size_t i = 0; r == 0 && i < f->dump.nr_tasks; i++)
                r = fd_collect(f->dump.tasks[i], &f->err);
        return r;
}

static __attribute__((unused)) void images_commit(struct fd_fixture *f) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;

        inventory.root_ids = NULL;
        assert_ok(image_set_commit(f->dump.set, &inventory, &f->err), &f->err);
        image_set_abort(f->dump.set);
        f->dump.set = NULL;
}

static __attribute__((unused)) void dump_save_all(struct fd_fixture *f) {
        assert_ok(image_set_create(f->dirfd, NULL, &f->dump.set, &f->err), &f->err);
        for (size_t i = 0; i < f->dump.nr_tasks; i++)
                assert_ok(fd_save_task(f->dump.tasks[i], &f->err), &f->err);
        assert_ok(fd_save_files(&f->dump, &f->err), &f->err);
        images_commit(f);
}

static __attribute__((unused)) void dump_done(struct fd_fixture *f) {
        sock_dump_free(&f->dump);
        fd_dump_free(&f->dump);
        for (size_t i = 0; i < f->dump.nr_tasks; i++) {
                struct dump_task *t = f->dump.tasks[i];

                proc_close(&t->proc);
                proc_close(&t->threads[0].own_proc);
                free(t->threads);
                pid_vec_done(&t->tids);
                arena_done(&t->arena);
                free(t);
        }
        free(f->dump.tasks);
        blockers_free(&f->dump.blockers);
        f->dump = (struct dump){ 0 };
}

/* Does one of the blockers have all of these words? */
static __attribute__((unused)) bool blocked_by(struct blockers *b, const char *word, const char *other) {
        for (size_t i = 0; i < blockers_count(b); i++) {
                const char *hint, *message = blocker_message(b, i, &hint);

                if (strstr(message, word) && strstr(message, other))
                        return true;
        }
        return false;
}

/* ---- restore ---- */

static __attribute__((unused)) struct restore_task *restore_task_add(struct fd_fixture *f, pid_t pid,
                                                                     uint32_t files_id) {
        struct restore *r = &f->restore;
        struct restore_task *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        r->run = &f->run;
        r->opts = &f->opts;
        *t = (struct restore_task){ .restore = r, .kind = RESTORE_TASK_LIVE, .pid = pid, .nr_threads = 1 };
        t->threads = calloc(1, sizeof(*t->threads));
        t->threads[0] = (struct restore_thread){ .task = t, .tid = pid };
        t->ids = malloc(sizeof(*t->ids));
        img__task_kobj_ids__init(t->ids);
        t->ids->files_id = t->ids->fs_id = files_id;
        r->tasks = reallocarray(r->tasks, r->nr_tasks + 1, sizeof(*r->tasks));
        r->tasks[r->nr_tasks++] = t;
        return t;
}

static __attribute__((unused)) int restore_load_all(struct fd_fixture *f) {
        int r;

        if (!f->restore.dir)
                assert_ok(image_dir_open(f->dirfd, 1, &f->restore.dir, &f->err), &f->err);
        f->restore.run = &f->run;
        f->restore.opts = &f->opts;
        r = fd_load_files(&f->restore, &f->err);
        for (size_t i = 0; r == 0 && i < f->restore.nr_tasks; i++)
                r = fd_load_task(f->restore.tasks[i], &f->err);
        return r;
}

/* Hosts for all tasks; they have other pids than in the images. */
static __attribute__((unused)) void restore_make_hosts(struct fd_fixture *f) {
        struct restore *r = &f->restore;
        size_t lane = 1 << 18, size = compel_host_overhead() + (r->nr_tasks + 1) * lane;

        assert_ok(inherit_init(r, &f->err), &f->err);
        assert_ok(compel_host_create(0x10000000, page_align_up(size), &r->host, &f->err), &f->err);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];
                struct clone_args args = { .exit_signal = SIGCHLD };

                assert_ok(compel_host_lane(r->host, lane, task_lane(t), &f->err), &f->err);
                assert_ok(compel_host_clone(r->host, task_lane(t), &args, &t->threads[0].tid, &f->err),
                          &f->err);
                inherit_add_close_others(r, task_lane(t));
                assert_ok(compel_run(task_lane(t), &f->err), &f->err);
        }
}

static __attribute__((unused)) void restore_done(struct fd_fixture *f) {
        struct restore *r = &f->restore;

        for (size_t i = 0; i < r->nr_tasks && r->host; i++) {
                kill(r->tasks[i]->threads[0].tid, SIGKILL);
                waitpid(r->tasks[i]->threads[0].tid, NULL, 0);
        }
        fd_restore_free(r);
        if (r->host)
                inherit_done(r);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                compel_batch_done(task_lane(t));
                if (t->fs)
                        img__fs__free_unpacked(t->fs, NULL);
                img__task_kobj_ids__free_unpacked(t->ids, NULL);
                arena_done(&t->arena);
                free(t->threads);
                free(t);
        }
        free(r->tasks);
        compel_host_free(&r->host);
        image_dir_free(r->dir);
        f->restore = (struct restore){ 0 };
}

/* One system call in a host. */
#define host_call(f, t, nr, ...)                                                      \
        ({                                                                            \
                struct compel_batch *_b_ = task_lane(t);                              \
                struct compel_op *_op_ = compel_call(_b_, "test", nr, ##__VA_ARGS__); \
                int64_t _ret_;                                                        \
                                                                                      \
                _op_->check = COMPEL_CHECK_NOTHING;                                   \
                compel_start(_b_);                                                    \
                assert_ok(compel_wait(_b_, &(f)->err), &(f)->err);                    \
                _ret_ = _b_->ops[_b_->n - 1].ret;                                     \
                compel_reset(_b_);                                                    \
                _ret_;                                                                \
        })

/* read(2) in a host. */
static __attribute__((unused)) ssize_t host_read(struct fd_fixture *f, struct restore_task *t, int fd,
                                                 void *buf, size_t size) {
        raddr_t remote;
        void *local = compel_data(task_lane(t), size, &remote);
        char copy[65536];
        int64_t n;

        assert_true(size <= sizeof(copy));
        n = host_call(f, t, SYS_read, (uint64_t)fd, remote, size);
        if (n > 0)
                memcpy(buf, local, (size_t)n);
        return n;
}
