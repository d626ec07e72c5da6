/* SPDX-License-Identifier: GPL-2.0-only */
/* Hosts: trees of processes made by ckpt, built by batches, and their end. */
#include "test_compel.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum {
        REGION_SIZE = 4 << 20,
        LANE_SIZE = 64 * 1024,
        LANES = 8,
};

static const raddr_t region = 0x110000000000; /* also free under a sanitizer */
static const raddr_t end_of_user_space = 0x7ffffffff000;

/* A host with a root process that has nothing mapped but the region. */
struct scene {
        struct compel_host *host;
        struct compel_batch lane[LANES];
        struct compel_batch *root; /* lane[0] */
        pid_t pid;
        struct ckpt_error err;
};

static void assert_ran(struct scene *s, struct compel_batch *b) {
        int r = compel_run(b, &s->err);

        if (r < 0)
                fail_msg("%s (%d)", ckpt_error_message(&s->err), r);
}

static int create(struct scene *s, size_t lane_size) {
        struct clone_args args = { .exit_signal = SIGCHLD };
        int r;

        r = compel_host_create(region, REGION_SIZE, &s->host, &s->err);
        for (int i = 0; r == 0 && i < LANES; i++)
                r = compel_host_lane(s->host, i == 0 ? lane_size : LANE_SIZE, &s->lane[i], &s->err);
        s->root = &s->lane[0];
        if (r == 0)
                r = compel_host_clone(s->host, s->root, &args, &s->pid, &s->err);
        if (r < 0)
                return r;
        compel_call(s->root, "unmap what is below", SYS_munmap, 0, region);
        compel_call(s->root, "unmap what is above", SYS_munmap, region + REGION_SIZE,
                    end_of_user_space - region - REGION_SIZE);
        return compel_run(s->root, &s->err);
}

static struct scene *new_scene(size_t lane_size) {
        struct scene *s = calloc(1, sizeof(*s));

        assert_non_null(s);
        if (create(s, lane_size) < 0)
                fail_msg("%s", ckpt_error_message(&s->err));
        return s;
}

static void create_again(struct scene *s, size_t lane_size) {
        compel_host_free(&s->host);
        assert_int_equal(waitpid(s->pid, NULL, __WALL), s->pid);
        for (int i = 0; i < LANES; i++)
                compel_batch_done(&s->lane[i]);
        assert_int_equal(create(s, lane_size), 0);
}

static int set_up(void **state) {
        *state = new_scene(LANE_SIZE);
        return 0;
}

static int set_up_small(void **state) {
        *state = new_scene(2 * PAGE_SIZE);
        return 0;
}

/* The end of the host is the end of all that is still in the agent. */
static int tear_down(void **state) {
        struct scene *s = *state;

        compel_host_free(&s->host);
        while (s->pid > 0 && waitpid(s->pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
        for (int i = 0; i < LANES; i++)
                compel_batch_done(&s->lane[i]);
        ckpt_error_clear(&s->err);
        free(s);
        return 0;
}

static unsigned int count_lines(pid_t pid, const char *name) {
        char path[64], *line = NULL;
        unsigned int n = 0;
        size_t cap = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        f = fopen(path, "re");
        assert_non_null(f);
        while (getline(&line, &cap, f) > 0)
                n += !strstr(line, "[vsyscall]");
        free(line);
        fclose(f);
        return n;
}

static void nothing_but_the_agent(void **state) {
        struct scene *s = *state;

        assert_int_equal(compel_host_addr(s->host), region);
        assert_int_equal(compel_host_size(s->host), REGION_SIZE);
        assert_true(count_lines(s->pid, "maps") <= 4);
        compel_call(s->root, "get its pid", SYS_getpid);
        compel_start(s->root);
        assert_int_equal(compel_wait(s->root, &s->err), 0);
        assert_int_equal(s->root->ops[0].ret, s->pid);
}

static void add_area(struct scene *s, uint64_t i) {
        const uint64_t at = 0x200000000000 + i * 2 * PAGE_SIZE;
        struct compel_op *op = compel_call(s->root, "map an area", SYS_mmap, at, PAGE_SIZE, PROT_READ,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ULL, 0);

        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)at;
}

static void many_areas(void **state) {
        struct scene *s = *state;
        unsigned int before = count_lines(s->pid, "maps");

        for (uint64_t i = 0; i < 20000; i++)
                add_area(s, i);
        assert_ran(s, s->root);
        assert_int_equal(count_lines(s->pid, "maps"), before + 20000);
}

/*
 * In a lane of two pages: data and operations of one step stay in one batch, whatever the batch before
 * held.
 */
static void overflow_keeps_data(void **state) {
        struct scene *s = *state;
        int fd = memfd_create("test", 0);
        char buf[64], want[64];

        assert_true(fd >= 0);
        create_again(s, 2 * PAGE_SIZE); /* so that it has the descriptor */
        for (uint64_t i = 0; i < 3000; i++) {
                size_t size = 1 + i % sizeof(want);

                memset(want, (int)i, sizeof(want));
                compel_call(s->root, "write", SYS_pwrite64, (uint64_t)fd, compel_copy(s->root, want, size),
                            size, i * 64);
                if (i % 7 == 0)
                        compel_call(s->root, "get its pid", SYS_getpid);
        }
        assert_ran(s, s->root);
        for (uint64_t i = 0; i < 3000; i++) {
                size_t size = 1 + i % sizeof(want);

                memset(want, (int)i, sizeof(want));
                assert_int_equal(pread(fd, buf, size, (off_t)(i * 64)), size);
                assert_memory_equal(buf, want, size);
        }
        close(fd);
}

/* References to results hold as long as compel_room() was asked for the whole step. */
static void room_keeps_steps_together(void **state) {
        struct scene *s = *state;

        for (uint64_t i = 0; i < 2000; i++) {
                struct compel_op *eventfd, *op;
                uint64_t value = 1 + i;
                raddr_t at, out_at;
                uint32_t index;

                /* Of various sizes, so that the end of the lane is met everywhere. */
                compel_room(s->root, 9, 8 + 8 + 100 + i % 200);
                eventfd = compel_call(s->root, "make an eventfd", SYS_eventfd2, 0, 0);
                index = compel_index(s->root, eventfd);
                at = compel_copy(s->root, &value, 8);
                op = compel_call(s->root, "write to it", SYS_write, index, at, 8);
                op->refs = 1;
                compel_data(s->root, 100 + i % 200, &out_at);
                compel_data(s->root, 8, &out_at);
                op = compel_call(s->root, "read from it", SYS_read, index, out_at, 8);
                op->refs = 1;
                for (int k = 0; k < 5; k++) {
                        op = compel_call(s->root, "look at it", SYS_fcntl, index, F_GETFD);
                        op->refs = 1;
                }
                op = compel_call(s->root, "close it", SYS_close, index);
                op->refs = 1;
                assert_int_equal(s->root->n, index + 9);
        }
        assert_ran(s, s->root);
}

static void failing_operation(void **state) {
        struct scene *s = *state;
        char want[64];

        compel_call(s->root, "get its pid", SYS_getpid);
        compel_call(s->root, "close a bad descriptor", SYS_close, 77777);
        compel_call(s->root, "get its pid", SYS_getpid);
        assert_int_equal(compel_run(s->root, &s->err), -EBADF);
        snprintf(want, sizeof(want), "pid %d: cannot close a bad descriptor: %s", s->pid, strerror(EBADF));
        assert_string_equal(ckpt_error_message(&s->err), want);
        ckpt_error_clear(&s->err);
        compel_reset(s->root);
        compel_call(s->root, "get its pid", SYS_getpid);
        assert_ran(s, s->root);
}

/*
 * The failure of a run that adding made necessary is told by the next compel_run(), and adding does no
 * harm meanwhile.
 */
static void failure_at_overflow(void **state) {
        struct scene *s = *state;
        raddr_t at;

        compel_call(s->root, "close a bad descriptor", SYS_close, 77777);
        for (uint64_t i = 0; i < 500; i++) {
                add_area(s, i);
                memset(compel_data(s->root, 300, &at), 1, 300);
        }
        assert_int_equal(compel_run(s->root, &s->err), -EBADF);
        assert_non_null(strstr(ckpt_error_message(&s->err), "cannot close a bad descriptor"));
        ckpt_error_clear(&s->err);
        compel_reset(s->root);
        compel_call(s->root, "get its pid", SYS_getpid);
        assert_ran(s, s->root);
}

static void too_big(void **state) {
        struct scene *s = *state;
        struct compel_batch lane;
        raddr_t at;

        compel_data(s->root, LANE_SIZE, &at);
        assert_int_equal(compel_run(s->root, &s->err), -E2BIG);
        ckpt_error_clear(&s->err);
        compel_reset(s->root);
        assert_non_null(compel_data(s->root, compel_capacity(s->root), &at));
        compel_call(s->root, "get random bytes", SYS_getrandom, at, compel_capacity(s->root), 0);
        assert_ran(s, s->root);
        assert_int_equal(compel_host_lane(s->host, REGION_SIZE, &lane, &s->err), -ENOSPC);
}

/* The agent sleeps in the kernel between batches that are far apart; nothing gets lost. */
static void idle_agent(void **state) {
        struct scene *s = *state;
        int64_t until = now_ns() + 1000000000LL;

        while (now_ns() < until)
                between_looks();
        for (int i = 0; i < 1000; i++) {
                compel_call(s->root, "get its pid", SYS_getpid);
                assert_ran(s, s->root);
                if (i % 100 == 0)
                        assert_eventually(state_of(s->pid) == 'S');
        }
}

/* ---- families ------------------------------------------------------------------------------------ */

static pid_t free_pid(void) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        waitpid(pid, NULL, 0);
        return pid;
}

/* Its parent's descriptors in /proc are those of the whole line, and each has the pid that was asked for. */
static void children_with_pids(void **state) {
        struct scene *s = *state;
        pid_t want[LANES] = { s->pid };

        for (int i = 1; i < LANES; i++) {
                struct clone_args args = { .exit_signal = SIGCHLD };

                want[i] = free_pid();
                args.set_tid = compel_arg(&want[i]);
                args.set_tid_size = 1;
                compel_add_clone(&s->lane[i - 1], "make a child", &args, &s->lane[i]);
                assert_ran(s, &s->lane[i - 1]);
                s->lane[i].tid = want[i];
        }
        for (int i = 1; i < LANES; i++) {
                struct compel_op *op = compel_call(&s->lane[i], "get its pid", SYS_getpid);

                op->check = COMPEL_CHECK_EQUAL;
                op->want = want[i];
                op = compel_call(&s->lane[i], "get its parent's pid", SYS_getppid);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = want[i - 1];
                compel_start(&s->lane[i]);
        }
        for (int i = 1; i < LANES; i++)
                assert_int_equal(compel_wait(&s->lane[i], &s->err), 0);
        for (int i = 1; i < LANES; i++)
                compel_reset(&s->lane[i]);
}

/* A clone at the moment when the lane is nearly full: its arguments are not torn apart. */
static void clones_in_a_full_lane(void **state) {
        struct scene *s = *state;

        for (unsigned int fill = 0; fill < 60; fill++) {
                struct clone_args args = { .exit_signal = SIGCHLD };
                pid_t want = free_pid();
                struct compel_op *op;

                args.set_tid = compel_arg(&want);
                args.set_tid_size = 1;
                compel_reset(s->root);
                for (unsigned int i = 0; i < fill; i++)
                        compel_call(s->root, "get its pid", SYS_getpid);
                memset(s->lane[1].lane, 0, sizeof(*s->lane[1].lane));
                s->lane[1].lane->mode = COMPEL_MODE_HOST;
                s->lane[1].lane->guard = s->root->lane->guard;
                s->lane[1].command = 0;
                compel_add_clone(s->root, "make a child", &args, &s->lane[1]);
                assert_ran(s, s->root);
                s->lane[1].tid = want;
                op = compel_call(&s->lane[1], "get its pid", SYS_getpid);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = want;
                assert_ran(s, &s->lane[1]);
                compel_call(&s->lane[1], "exit", SYS_exit_group, 0);
                assert_int_equal(compel_run(&s->lane[1], &s->err), -ESRCH);
                ckpt_error_clear(&s->err);
                compel_reset(&s->lane[1]);
                compel_call(s->root, "wait for the child", SYS_wait4, (uint64_t)want, 0, 0, 0);
                assert_ran(s, s->root);
        }
}

static void threads(void **state) {
        struct scene *s = *state;
        struct clone_args args = { .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                            CLONE_THREAD | CLONE_SYSVSEM };

        for (int i = 1; i < LANES; i++)
                compel_add_clone(s->root, "make a thread", &args, &s->lane[i])->store = 0;
        compel_start(s->root);
        assert_int_equal(compel_wait(s->root, &s->err), 0);
        for (int i = 1; i < LANES; i++)
                s->lane[i].tid = (pid_t)s->root->ops[i - 1].ret;
        compel_reset(s->root);
        assert_int_equal(tids_of(s->pid, (pid_t[16]){ 0 }, 16), LANES);
        for (int round = 0; round < 100; round++) {
                for (int i = 1; i < LANES; i++) {
                        struct compel_op *op = compel_call(&s->lane[i], "get its tid", SYS_gettid);

                        op->check = COMPEL_CHECK_EQUAL;
                        op->want = s->lane[i].tid;
                        op = compel_call(&s->lane[i], "get its pid", SYS_getpid);
                        op->check = COMPEL_CHECK_EQUAL;
                        op->want = s->pid;
                        compel_start(&s->lane[i]);
                }
                for (int i = 1; i < LANES; i++) {
                        assert_int_equal(compel_wait(&s->lane[i], &s->err), 0);
                        compel_reset(&s->lane[i]);
                }
        }
}

/* ---- death ----------------------------------------------------------------------------------------- */

static void dies_in_a_batch(void **state) {
        struct scene *s = *state;
        char want[64];
        raddr_t fds;
        int *fd = compel_data(s->root, 2 * sizeof(int), &fds), end;
        pid_t killer;

        compel_call(s->root, "make a pipe", SYS_pipe2, fds, 0);
        compel_start(s->root);
        assert_int_equal(compel_wait(s->root, &s->err), 0);
        end = fd[0];
        compel_reset(s->root);
        compel_data(s->root, 8, &fds);
        compel_call(s->root, "read for good", SYS_read, (uint64_t)end, fds, 1);
        killer = fork();
        if (killer == 0)
                _exit(eventually(sleeps_in(s->pid, SYS_read)) && kill(s->pid, SIGKILL) == 0 ? 0 : 1);
        assert_int_equal(compel_run(s->root, &s->err), -ESRCH);
        snprintf(want, sizeof(want), "pid %d died", s->pid);
        assert_non_null(strstr(ckpt_error_message(&s->err), want));
        assert_int_equal(waitpid(killer, NULL, 0), killer);
}

/* A death before the batch is begun. */
static void dead_before(void **state) {
        struct scene *s = *state;
        siginfo_t si;

        kill(s->pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)s->pid, &si, WEXITED | WNOWAIT), 0);
        compel_call(s->root, "get its pid", SYS_getpid);
        assert_int_equal(compel_run(s->root, &s->err), -ESRCH);
}

/*
 * ---- leaving the agent
 * ---------------------------------------------------------------------------------
 */

/* lock incl (%rbx); jmp back; syscall */
static const uint8_t counting[] = { 0xf0, 0xff, 0x03, 0xeb, 0xfb, 0x0f, 0x05 };

enum { SYSCALL_AT = 5 };

static void becomes_a_program(void **state) {
        const raddr_t code = 0x300000000000, counter = 0x300000010000;
        struct scene *s = *state;
        int fd = memfd_create("test", 0);
        struct compel_thread t = { 0 };
        struct user_regs_struct regs;
        uint32_t *ours, before;
        uint64_t arg[6] = { 0 };
        int64_t ret = 0;

        assert_int_equal(ftruncate(fd, PAGE_SIZE), 0);
        ours = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(ours != MAP_FAILED);
        create_again(s, LANE_SIZE);
        compel_call(s->root, "map code", SYS_mmap, code, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1ULL, 0);
        compel_call(s->root, "map the counter", SYS_mmap, counter, PAGE_SIZE, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, (uint64_t)fd, 0);
        assert_ran(s, s->root);
        {
                struct iovec local = { (void *)(uintptr_t)counting, sizeof(counting) };
                struct iovec remote = { (void *)(uintptr_t)code, sizeof(counting) };

                assert_int_equal(process_vm_writev(s->pid, &local, 1, &remote, 1, 0), sizeof(counting));
        }
        assert_int_equal(compel_seize(&t, s->pid, PTRACE_O_EXITKILL), 0);
        assert_int_equal(compel_wait_stop(&t, DEADLINE_MS), 0);
        assert_int_equal(compel_remote_syscall(&t, code + SYSCALL_AT, SYS_getpid, arg, &ret, &s->err), 0);
        assert_int_equal(ret, s->pid);
        arg[0] = UINT64_MAX;
        assert_int_equal(compel_remote_syscall(&t, code + SYSCALL_AT, SYS_close, arg, &ret, &s->err), 0);
        assert_int_equal(ret, -EBADF);
        arg[0] = region;
        arg[1] = REGION_SIZE;
        assert_int_equal(compel_remote_syscall(&t, code + SYSCALL_AT, SYS_munmap, arg, &ret, &s->err), 0);
        assert_int_equal(ret, 0);
        regs = t.regs;
        regs.rip = code;
        regs.rbx = counter;
        regs.rsp = 0x1234;
        regs.orig_rax = UINT64_MAX;
        assert_int_equal(compel_set_regs(&t, &regs), 0);
        assert_int_equal(compel_set_sigmask(&t, 0), 0);
        compel_release(&t);
        before = get(*ours);
        assert_eventually(get(*ours) > before + 1000);
        assert_int_equal(count_lines(s->pid, "maps"), 2);
        /* The end of the host is nothing to it. */
        compel_host_free(&s->host);
        before = get(*ours);
        assert_eventually(get(*ours) > before + 1000);
        kill(s->pid, SIGKILL);
        munmap(ours, PAGE_SIZE);
        close(fd);
}

/*
 * ---- the death of ckpt
 * ------------------------------------------------------------------------------------
 */

/* Builds a tree of processes and threads, some of which it traces. All are in its session. */
static void build_tree(void) {
        static struct scene s;
        struct clone_args process = { .exit_signal = SIGCHLD };
        struct clone_args thread = { .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                              CLONE_THREAD };
        static const int parent[LANES] = { 0, 0, 1, 1, 0, 3, 2, 1 };
        struct compel_thread t;

        if (create(&s, LANE_SIZE) < 0)
                _exit(1);
        for (int i = 1; i < LANES; i++) {
                struct compel_batch *b = &s.lane[parent[i]];

                compel_add_clone(b, "make a child", i % 3 == 2 ? &thread : &process, &s.lane[i]);
                compel_start(b);
                if (compel_wait(b, NULL) < 0)
                        _exit(1);
                s.lane[i].tid = (pid_t)b->ops[0].ret;
                compel_reset(b);
        }
        for (int i = 0; i < LANES; i++) {
                compel_call(&s.lane[i], "get its tid", SYS_gettid);
                compel_start(&s.lane[i]);
        }
        for (int i = 0; i < LANES; i++)
                if (compel_wait(&s.lane[i], NULL) < 0)
                        _exit(1);
        for (int i = 0; i < LANES; i += 3)
                if (compel_seize(&t, s.lane[i].tid, PTRACE_O_EXITKILL) < 0 ||
                    compel_wait_stop(&t, DEADLINE_MS) < 0)
                        _exit(1);
}

static pid_t start_tool(bool traced) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                setsid();
                if (traced)
                        raise(SIGSTOP);
                build_tree();
                if (traced)
                        _exit(0);
                for (;;)
                        pause();
        }
        return pid;
}

/* How many of session `sid` live; those that are dead are waited for: this process is their reaper. */
static unsigned int count_session(pid_t sid) {
        unsigned int n = 0;
        struct dirent *e;
        DIR *d = opendir("/proc");

        assert_non_null(d);
        while ((e = readdir(d))) {
                char buf[512], *p, state;
                int ppid, pgrp, session;

                if (atoi(e->d_name) <= 0)
                        continue;
                read_proc(atoi(e->d_name), "stat", buf, sizeof(buf));
                p = strrchr(buf, ')');
                if (!p || sscanf(p + 1, " %c %d %d %d", &state, &ppid, &pgrp, &session) != 4 ||
                    session != sid)
                        continue;
                if (state == 'Z')
                        waitpid(atoi(e->d_name), NULL, WNOHANG | __WALL);
                else
                        n++;
        }
        closedir(d);
        return n;
}

static bool is_waiting(const struct user_regs_struct *regs) {
        uint64_t nr = regs->orig_rax;

        return nr == SYS_sched_yield || nr == SYS_waitid || nr == SYS_wait4 || nr == SYS_nanosleep ||
               nr == SYS_clock_nanosleep || (nr == SYS_futex && regs->rsi == FUTEX_WAIT);
}

/* Kill a tool before its `n`th system call; false if it finished first. */
static bool kill_at(unsigned int n, pid_t *ret) {
        pid_t tool = start_tool(true);
        bool entry = true;
        int status;

        *ret = tool;
        assert_int_equal(waitpid(tool, &status, WUNTRACED), tool);
        assert_int_equal(ptrace(PTRACE_SEIZE, tool, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
        kill(tool, SIGCONT);
        assert_int_equal(ptrace(PTRACE_SYSCALL, tool, 0, 0), 0);
        for (unsigned int i = 0;;) {
                struct user_regs_struct regs;

                assert_int_equal(waitpid(tool, &status, __WALL), tool);
                if (!WIFSTOPPED(status)) {
                        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                                fail_msg("the tool ended with status %#x before step %u",
                                         (unsigned int)status, n);
                        return false;
                }
                if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
                        assert_int_equal(ptrace(PTRACE_GETREGS, tool, 0, &regs), 0);
                        if (entry && !is_waiting(&regs) && i++ == n)
                                break;
                        entry = !entry;
                }
                ptrace(PTRACE_SYSCALL, tool, 0, 0);
        }
        kill(tool, SIGKILL);
        do
                assert_int_equal(waitpid(tool, &status, __WALL), tool);
        while (WIFSTOPPED(status));
        return true;
}

static void assert_nobody_left(pid_t sid, const char *when, unsigned int n) {
        if (!eventually(count_session(sid) == 0))
                fail_msg("killed %s %u: %u processes are left", when, n, count_session(sid));
}

static void tree_dies_at_every_step(void **state) {
        unsigned int n;
        pid_t tool;

        for (n = 0; kill_at(n, &tool); n++)
                assert_nobody_left(tool, "before system call", n);
        assert_nobody_left(tool, "after system call", n);
        print_message("           %u steps\n", n);
        assert_true(n > 15);
}

static void tree_dies_at_random(void **state) {
        unsigned int seed = (unsigned int)getpid();

        for (unsigned int i = 0; i < 100; i++) {
                struct timespec ts = { 0, rand_r(&seed) % 3000000 };
                pid_t tool = start_tool(false);

                nanosleep(&ts, NULL);
                kill(tool, SIGKILL);
                assert_int_equal(waitpid(tool, NULL, 0), tool);
                assert_nobody_left(tool, "at random", i);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(f)     cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define SMALL(f) cmocka_unit_test_setup_teardown(f, set_up_small, tear_down)
                T(nothing_but_the_agent),
                T(many_areas),
                SMALL(many_areas),
                T(overflow_keeps_data),
                SMALL(overflow_keeps_data),
                T(room_keeps_steps_together),
                SMALL(room_keeps_steps_together),
                T(failing_operation),
                SMALL(failure_at_overflow),
                T(too_big),
                T(idle_agent),
                T(children_with_pids),
                SMALL(clones_in_a_full_lane),
                T(threads),
                T(dies_in_a_batch),
                T(dead_before),
                T(becomes_a_program),
                cmocka_unit_test(tree_dies_at_every_step),
                cmocka_unit_test(tree_dies_at_random),
        };

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        return cmocka_run_group_tests_name("compel: hosts", tests, NULL, NULL);
}
