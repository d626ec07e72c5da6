/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of live processes through mem/, without the rest of a dump or restore: a tree of
 * children is stopped, collected and saved, and built again in a tree of hosted tasks with other pids.
 * What mem/ needs of other rooms (files, inheriting) is stood in for here.
 */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dump/blockers.h"
#include "fd/fd.h"
#include "mem/dump.h"
#include "mem/restore.h"
#include "restore/inherit.h"
#include "sock/sock.h"
#include "task/waits.h"
#include "test_image.h"

#define TREE_MAX 8
#define LANE     ((size_t)512 * 1024)

/* ---- other rooms ---- */

static char test_paths[64][256];
static size_t test_nr_paths;

int files_add_path(struct dump_task *t, const char *map_files, uint32_t open_flags, uint32_t *ret_id,
                   struct ckpt_error *err) {
        _cleanup_free_ char *path = NULL;
        int r = proc_readlink(&t->proc, map_files, &path);

        if (r < 0)
                return ckpt_error_errno(err, r, "readlink %s", map_files);
        assert_true(test_nr_paths < ELEMENTSOF(test_paths));
        snprintf(test_paths[test_nr_paths], sizeof(test_paths[0]), "%s", path);
        (void)open_flags;
        *ret_id = (uint32_t)++test_nr_paths;
        return 0;
}

/* What has no usable path is fd/'s to judge: here it only shows that it was asked. */
void files_look_path(struct dump_task *t, const char *map_files, struct blockers *b) {
        blocker_add(b, NULL, "pid %d: fd/ was asked about %s", t->pid, map_files);
}

int files_open(struct restore *r, uint32_t id, uint32_t flags, int *ret_fd, struct ckpt_error *err) {
        if (id == 0 || id > test_nr_paths)
                return ckpt_error(err, -EBADMSG, "there is no file %u", id);
        *ret_fd = open(test_paths[id - 1], (int)flags | O_CLOEXEC);
        return *ret_fd < 0 ? ckpt_error_errno(err, -errno, "open %s", test_paths[id - 1]) : 0;
}

/* No sockets here. */
int files_open_socket(struct restore *r, uint32_t id, int *ret_fd, struct ckpt_error *err) {
        *ret_fd = -1;
        return ckpt_error(err, -EBADMSG, "there is no socket %u", id);
}

bool packet_place_is_known(const struct restore *r, uint32_t id) {
        return true;
}

uint64_t packet_mapping_size(const struct restore *r, uint32_t id) {
        return id == 7 ? 0x10000 : 0;
}

int restore_inherit(struct restore *r, int fd, struct ckpt_error *err) {
        int copy = fcntl(fd, F_DUPFD, r->inherit_next);

        if (copy < 0)
                return ckpt_error_errno(err, -errno, "dup");
        r->inherit_next = copy + 1;
        return copy;
}

const char *dump_task_name(struct dump_task *t) {
        return arena_printf(&t->arena, "pid %d", t->pid);
}

const char *restore_task_name(struct restore_task *t) {
        return arena_printf(&t->arena, "pid %d", t->pid);
}

/* ---- dump ---- */

struct saved {
        struct test_dir dir;
        struct ckpt_options opts;
        struct ckpt_run run;
        struct dump d;
        struct dump_task task[TREE_MAX];
        struct dump_task *tasks[TREE_MAX];
        struct dump_thread thread[TREE_MAX];
        struct ckpt_error err;
};

static inline void saved_add(struct saved *s, pid_t pid, struct dump_task *parent) {
        struct dump_task *t = &s->task[s->d.nr_tasks];
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        *t = (struct dump_task){
                .dump = &s->d, .parent = parent, .pid = pid, .proc = PROC_DIR_INIT, .other = PROC_DIR_INIT
        };
        assert_int_equal(proc_open(pid, &t->proc), 0);
        assert_int_equal(proc_stat_read(&t->proc, &buf, &t->stat), 0);
        s->tasks[s->d.nr_tasks++] = t;
}

static inline void saved_begin(struct saved *s, pid_t root) {
        memset(s, 0, sizeof(*s));
        s->dir = test_dir_make();
        s->run.opts = &s->opts;
        s->d = (struct dump){ .run = &s->run, .opts = &s->opts, .tasks = s->tasks };
        kernel_features_init(&s->d.kernel);
        s->d.blockers = blockers_new();
        test_nr_paths = 0;
        saved_add(s, root, NULL);
}

static inline void saved_freeze(struct saved *s) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (size_t i = 0; i < s->d.nr_tasks; i++) {
                s->thread[i] = (struct dump_thread){ .task = s->tasks[i], .tid = s->tasks[i]->pid };
                s->tasks[i]->threads = &s->thread[i];
                s->tasks[i]->nr_threads = 1;
                assert_int_equal(compel_seize(&s->thread[i].stop, s->tasks[i]->pid, 0), 0);
                assert_int_equal(compel_wait_stop(&s->thread[i].stop, 60000), 0);
                assert_int_equal(proc_status_read(&s->tasks[i]->proc, &buf, &s->thread[i].status), 0);
        }
}

static inline void saved_collect(struct saved *s) {
        for (size_t i = 0; i < s->d.nr_tasks; i++)
                assert_ok(mem_collect(s->tasks[i], &s->err), &s->err);
        assert_ok(pool_create(1, &s->d.aside, &s->err), &s->err);
        assert_ok(mem_collect_shared(&s->d, &s->err), &s->err);
        pool_free(&s->d.aside);
}

static int saved_job(void *arg, struct ckpt_error *err) {
        return mem_save(arg, err);
}

static inline void saved_write(struct saved *s) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;

        assert_ok(image_set_create(s->dir.fd, NULL, &s->d.set, &s->err), &s->err);
        assert_ok(pool_create(0, &s->d.pool, &s->err), &s->err);
        for (size_t i = 0; i < s->d.nr_tasks; i++)
                assert_int_equal(pool_add(s->d.pool, saved_job, s->tasks[i]), 0);
        assert_ok(mem_save_shared(&s->d, &s->err), &s->err);
        assert_ok(pool_wait(s->d.pool, &s->err), &s->err);
        pool_free(&s->d.pool);
        inventory.dump_criu_run_id = (char *)"run";
        assert_ok(image_set_commit(s->d.set, &inventory, &s->err), &s->err);
        image_set_abort(s->d.set);
}

/* As waits_look() does, which has other rooms behind it. */
static inline void saved_note_call(struct dump_task *t) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        assert_int_equal(proc_status_read(&t->proc, &buf, &status), 0);
        t->calls = arena_new_array(&t->arena, struct task_call, 1);
        t->calls[0].tid = t->pid;
        t->calls[0].has_sleeps = true;
        t->calls[0].sleeps = status.sleeps;
        t->calls[0].known = proc_syscall_read(&t->proc, &buf, &t->calls[0].call) == 0;
        t->nr_calls = 1;
}

/* Look at all, stop all, save all. */
static inline void saved_take(struct saved *s) {
        for (size_t i = 0; i < s->d.nr_tasks; i++) {
                saved_note_call(s->tasks[i]);
                mem_look(s->tasks[i]);
        }
        if (blockers_count(s->d.blockers) > 0)
                fail_msg("%s", blocker_message(s->d.blockers, 0, &(const char *){ NULL }));
        saved_freeze(s);
        saved_collect(s);
        saved_write(s);
}

static inline void saved_end(struct saved *s) {
        for (size_t i = 0; i < s->d.nr_tasks; i++) {
                struct dump_task *t = s->tasks[i];

                compel_release(&s->thread[i].stop);
                proc_status_done(&s->thread[i].status);
                mem_dump_free(&t->mem);
                proc_smap_vec_done(&t->smaps);
                proc_buf_done(&t->maps_buf);
                proc_close(&t->proc);
                arena_done(&t->arena);
        }
        blockers_free(&s->d.blockers);
        kernel_features_done(&s->d.kernel);
        ckpt_error_clear(&s->err);
        test_dir_remove(&s->dir);
}

/* ---- restore ---- */

struct built {
        struct restore r;
        struct restore_task task[TREE_MAX];
        struct restore_task *tasks[TREE_MAX];
        struct restore_thread thread[TREE_MAX];
        pid_t pid[TREE_MAX]; /* of the hosted ones; task[].pid names the images */
        struct ckpt_run run;
        struct ckpt_options opts;
        struct ckpt_error err;
};

static inline void built_begin(struct built *b, const struct saved *s) {
        memset(b, 0, sizeof(*b));
        b->run.opts = &b->opts;
        b->r = (struct restore){ .run = &b->run,
                                 .opts = &b->opts,
                                 .tasks = b->tasks,
                                 .nr_tasks = s->d.nr_tasks,
                                 .inherit_base = 600,
                                 .inherit_next = 600 };
        kernel_features_init(&b->r.kernel);
        for (size_t i = 0; i < s->d.nr_tasks; i++) {
                struct restore_task *t = &b->task[i];

                *t = (struct restore_task){ .restore = &b->r,
                                            .kind = RESTORE_TASK_LIVE,
                                            .pid = s->task[i].pid };
                if (s->task[i].parent)
                        t->parent = t->donor = &b->task[s->task[i].parent - s->task];
                b->thread[i] = (struct restore_thread){ .task = t, .tid = t->pid };
                t->threads = &b->thread[i];
                t->nr_threads = 1;
                b->tasks[i] = t;
        }
        assert_ok(pool_create(0, &b->r.pool, &b->err), &b->err);
        assert_ok(image_dir_open(s->dir.fd, 2, &b->r.dir, &b->err), &b->err);
}

static inline void built_load(struct built *b) {
        for (size_t i = 0; i < b->r.nr_tasks; i++)
                assert_ok(mem_load(b->tasks[i], &b->err), &b->err);
        assert_ok(mem_prepare(&b->r, &b->err), &b->err);
}

static inline void built_host(struct built *b) {
        size_t size = compel_host_overhead() + LANE * b->r.nr_tasks;
        raddr_t at;

        assert_ok(mem_find_hole(&b->r, size, &at, &b->err), &b->err);
        assert_ok(compel_host_create(at, size, &b->r.host, &b->err), &b->err);
        for (size_t i = 0; i < b->r.nr_tasks; i++)
                assert_ok(compel_host_lane(b->r.host, LANE, task_lane(b->tasks[i]), &b->err), &b->err);
}

static inline void built_clone(struct built *b, size_t i) {
        struct clone_args args = { .exit_signal = SIGCHLD };
        struct restore_task *t = b->tasks[i];
        struct compel_batch *lane;
        uint32_t op;

        if (!t->parent) {
                assert_ok(compel_host_clone(b->r.host, task_lane(t), &args, &b->pid[i], &b->err), &b->err);
                return;
        }
        lane = task_lane(t->parent);
        op = compel_index(lane, compel_add_clone(lane, "clone", &args, task_lane(t)));
        compel_start(lane);
        assert_ok(compel_wait(lane, &b->err), &b->err);
        b->pid[i] = (pid_t)lane->ops[op].ret;
        task_lane(t)->tid = b->pid[i];
        compel_reset(lane);
}

static inline void built_fill(struct built *b) {
        for (size_t i = 0; i < b->r.nr_tasks; i++) {
                built_clone(b, i);
                assert_ok(mem_restore(b->tasks[i], task_lane(b->tasks[i]), &b->err), &b->err);
                assert_ok(compel_run(task_lane(b->tasks[i]), &b->err), &b->err);
        }
        for (size_t i = 0; i < b->r.nr_tasks; i++) {
                assert_ok(mem_finish(b->tasks[i], task_lane(b->tasks[i]), &b->err), &b->err);
                assert_ok(compel_run(task_lane(b->tasks[i]), &b->err), &b->err);
        }
}

static inline void built_end(struct built *b) {
        for (size_t i = b->r.nr_tasks; i-- > 0;)
                if (b->pid[i] > 0) {
                        kill(b->pid[i], SIGKILL);
                        waitpid(b->pid[i], NULL, __WALL); /* -ECHILD for all but the root */
                }
        for (size_t i = 0; i < b->r.nr_tasks; i++) {
                compel_batch_done(task_lane(b->tasks[i]));
                mem_restore_free(&b->task[i].mem);
                if (b->task[i].mm)
                        img__mm__free_unpacked(b->task[i].mm, NULL);
                arena_done(&b->task[i].arena);
        }
        compel_host_free(&b->r.host);
        image_dir_free(b->r.dir);
        pool_free(&b->r.pool);
        for (int fd = 600; fd < b->r.inherit_next; fd++)
                close(fd);
        kernel_features_done(&b->r.kernel);
        ckpt_error_clear(&b->err);
}

/* ---- children ---- */

/* A child that runs setup() and then waits for its death. */
static inline pid_t spawn(void (*setup)(void *), void *arg) {
        int ready[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(ready[0]);
                setup(arg);
                if (write(ready[1], "x", 1) == 1)
                        close(ready[1]);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &c, 1), 1);
        close(ready[0]);
        return pid;
}

static inline void reap(pid_t pid) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
}
