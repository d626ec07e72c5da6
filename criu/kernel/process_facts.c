/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/process_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/task_program.h"
#include "lib/thread.h"
#include "macro.h"
#include "proc/attr.h"

/* What the program writes for each thread. */
enum slot {
        SLOT_TID, /* in the outermost pid namespace */
        SLOT_PID,
        SLOT_PART,
        SLOT_PLACE = SLOT_PART + PROCESS_PARTS_MAX,
        SLOT_EXE_INO = SLOT_PLACE + 2 * PROCESS_PLACES_MAX,
        SLOT_NS, /* by enum proc_ns */
        SLOT_NSPROXY = SLOT_NS + PROC_NS_MAX,
        SLOT_SIGNAL,
        SLOT_VALUE,
        SLOT_FDT = SLOT_VALUE + PROCESS_VALUES_MAX,
        SLOT_FILES,
        SLOT_FILE,
        SLOT_LOCKS = SLOT_FILE + PROCESS_FDS,
        SLOT_CLOEXEC = SLOT_LOCKS + PROCESS_FDS,
        SLOT_LEVEL,
        SLOT_NUMBER,
        SLOTS = SLOT_NUMBER + TASK_PROGRAM_LEVELS,
};

struct record {
        uint64_t word[SLOTS];
};
DEFINE_VEC(record_vec, struct record);

struct process_facts {
        int prog_fd;
        uint64_t level; /* of the pid namespace of ckpt */
        struct proc_ns_set own;
        unsigned int tells; /* bits of enum process_value: those that are proved */
        int loginuid;       /* of ckpt */
        bool tells_files;   /* behind descriptors */
};

/* ---- the program ---- */

/* What is where, from the task on or from a word that has been read before. What is behind no pointer is read as 0. */
static const struct {
        unsigned int slot;
        int from;
        const char *type, *path;
        unsigned int size;
} rows[] = {
        { SLOT_TID, TASK_PROGRAM_TASK, "task_struct", "pid", 4 },
        { SLOT_PID, TASK_PROGRAM_TASK, "task_struct", "tgid", 4 },
        { SLOT_PART + PROCESS_MEMORY, TASK_PROGRAM_TASK, "task_struct", "mm", 8 },
        { SLOT_PART + PROCESS_FILES, TASK_PROGRAM_TASK, "task_struct", "files", 8 },
        { SLOT_PART + PROCESS_FS, TASK_PROGRAM_TASK, "task_struct", "fs", 8 },
        { SLOT_PLACE + 2 * PROCESS_CWD, SLOT_PART + PROCESS_FS, "fs_struct", "pwd.mnt", 8 },
        { SLOT_PLACE + 2 * PROCESS_CWD + 1, SLOT_PART + PROCESS_FS, "fs_struct", "pwd.dentry", 8 },
        { SLOT_PLACE + 2 * PROCESS_ROOT, SLOT_PART + PROCESS_FS, "fs_struct", "root.mnt", 8 },
        { SLOT_PLACE + 2 * PROCESS_ROOT + 1, SLOT_PART + PROCESS_FS, "fs_struct", "root.dentry", 8 },
        { SLOT_PLACE + 2 * PROCESS_EXE, SLOT_PART + PROCESS_MEMORY, "mm_struct", "exe_file", 8 },
        { SLOT_PLACE + 2 * PROCESS_EXE + 1, SLOT_PART + PROCESS_MEMORY, "mm_struct", "exe_file", 8 },
        { SLOT_EXE_INO, SLOT_PLACE + 2 * PROCESS_EXE, "file", "f_inode", 8 },
        { SLOT_EXE_INO, SLOT_EXE_INO, "inode", "i_ino", 8 },
        { SLOT_NS + PROC_NS_USER, TASK_PROGRAM_TASK, "task_struct", "real_cred", 8 },
        { SLOT_NS + PROC_NS_USER, SLOT_NS + PROC_NS_USER, "cred", "user_ns", 8 },
        { SLOT_NS + PROC_NS_USER, SLOT_NS + PROC_NS_USER, "user_namespace", "ns.inum", 4 },
        { SLOT_NSPROXY, TASK_PROGRAM_TASK, "task_struct", "nsproxy", 8 },
};

/* Here what is not there is 0, and found out to be nothing. */
static const struct {
        unsigned int slot;
        int from;
        const char *type, *path;
        unsigned int size;
} value_rows[] = {
        { SLOT_SIGNAL, TASK_PROGRAM_TASK, "task_struct", "signal", 8 },
        { SLOT_VALUE + PROCESS_OOM_SCORE_ADJ, SLOT_SIGNAL, "signal_struct", "oom_score_adj", 2 },
        { SLOT_VALUE + PROCESS_COREDUMP_FILTER, SLOT_PART + PROCESS_MEMORY, "mm_struct", "flags", 8 },
        { SLOT_VALUE + PROCESS_LOGINUID, TASK_PROGRAM_TASK, "task_struct", "loginuid", 4 },
        { SLOT_VALUE + PROCESS_TIMERS, SLOT_SIGNAL, "signal_struct", "posix_timers", 8 },
};

static const struct {
        enum proc_ns ns;
        const char *member, *type;
} namespace_rows[] = {
        { PROC_NS_CGROUP, "cgroup_ns", "cgroup_namespace" },
        { PROC_NS_IPC, "ipc_ns", "ipc_namespace" },
        { PROC_NS_MNT, "mnt_ns", "mnt_namespace" },
        { PROC_NS_NET, "net_ns", "net" },
        { PROC_NS_PID_FOR_CHILDREN, "pid_ns_for_children", "pid_namespace" },
        { PROC_NS_TIME, "time_ns", "time_namespace" },
        { PROC_NS_TIME_FOR_CHILDREN, "time_ns_for_children", "time_namespace" },
        { PROC_NS_UTS, "uts_ns", "uts_namespace" },
};

/* The first descriptors; a table has room for 64 at least. */
static void add_files(struct task_program *p) {
        task_program_read_any(p, SLOT_FDT, SLOT_PART + PROCESS_FILES, "files_struct", "fdt", 8);
        task_program_read_any(p, SLOT_CLOEXEC, SLOT_FDT, "fdtable", "close_on_exec", 8);
        task_program_copy(p, SLOT_CLOEXEC, 1, SLOT_CLOEXEC);
        task_program_read_any(p, SLOT_FILES, SLOT_FDT, "fdtable", "fd", 8);
        task_program_copy(p, SLOT_FILE, PROCESS_FDS, SLOT_FILES);
        for (unsigned int i = 0; i < PROCESS_FDS; i++) {
                unsigned int slot = SLOT_LOCKS + i;

                task_program_read_any(p, slot, SLOT_FILE + (int)i, "file", "f_inode", 8);
                task_program_read_any(p, slot, (int)slot, "inode", "i_flctx", 8);
        }
}

/* Called with each thread, and at the end without one. */
static int load_program(const struct bpf *bpf) {
        struct task_program p;

        task_program_begin(&p, bpf, SLOTS);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                task_program_read(&p, rows[i].slot, rows[i].from, rows[i].type, rows[i].path, rows[i].size);
        for (size_t i = 0; i < ELEMENTSOF(namespace_rows); i++) {
                unsigned int slot = SLOT_NS + namespace_rows[i].ns;

                task_program_read(&p, slot, SLOT_NSPROXY, "nsproxy", namespace_rows[i].member, 8);
                task_program_read(&p, slot, (int)slot, namespace_rows[i].type, "ns.inum", 4);
        }
        for (size_t i = 0; i < ELEMENTSOF(value_rows); i++)
                task_program_read_any(&p, value_rows[i].slot, value_rows[i].from, value_rows[i].type,
                                      value_rows[i].path, value_rows[i].size);
        add_files(&p);
        /* That of the process itself cannot be read like this: see in_own_namespaces(). */
        task_program_zero(&p, SLOT_NS + PROC_NS_PID);
        task_program_numbers(&p, SLOT_LEVEL, SLOT_NUMBER);
        return task_program_finish(&p, "ckpt_processes");
}

/* ---- reading ---- */

static int take_record(void *arg, const void *record) {
        return record_vec_push(arg, *(const struct record *)record);
}

/* pid 0: of all processes. */
static int read_records(const struct process_facts *f, pid_t pid, struct record_vec *ret) {
        return bpf_iterate(f->prog_fd, pid, sizeof(struct record), take_record, ret);
}

/* A process whose pid namespace is as deep as that of ckpt, and that has a number there, is in that one. */
static bool in_own_namespaces(const struct process_facts *f, const struct record *r) {
        if (r->word[SLOT_LEVEL] != f->level)
                return false;
        for (unsigned int i = 0; i < PROC_NS_MAX; i++)
                if (i != PROC_NS_PID && r->word[SLOT_NS + i] != f->own.ino[i])
                        return false;
        return true;
}

static bool is_complete(const struct process_facts *f, const struct record *r) {
        for (unsigned int i = SLOT_TID; i < SLOT_EXE_INO; i++)
                if (r->word[i] == 0)
                        return false;
        return r->word[SLOT_NUMBER + f->level] != 0;
}

/* Where the filter of core dumps is among the flags of an address space. */
enum { FILTER_SHIFT = 2, FILTER_MASK = 0x1ff };

static int value_of(const struct record *r, enum process_value which) {
        uint64_t word = r->word[SLOT_VALUE + which];

        switch (which) {
        case PROCESS_OOM_SCORE_ADJ:
                return (int16_t)word;
        case PROCESS_COREDUMP_FILTER:
                return (int)(word >> FILTER_SHIFT & FILTER_MASK);
        case PROCESS_TIMERS:
                return word != 0;
        default:
                return (int)word;
        }
}

static void take_files(const struct record *r, struct process_fact *ret) {
        for (unsigned int i = 0; i < PROCESS_FDS; i++) {
                ret->file[i] = r->word[SLOT_FILE + i];
                ret->locks |= (unsigned int)(r->word[SLOT_LOCKS + i] != 0) << i;
        }
        ret->cloexec = (unsigned int)r->word[SLOT_CLOEXEC];
}

static struct process_fact fact_of(const struct process_facts *f, const struct record *r) {
        struct process_fact fact = {
                .pid = (pid_t)r->word[SLOT_NUMBER + f->level],
                .same_namespaces = in_own_namespaces(f, r),
        };

        memcpy(fact.part, &r->word[SLOT_PART], sizeof(fact.part));
        memcpy(fact.place, &r->word[SLOT_PLACE], sizeof(fact.place));
        fact.known = f->tells;
        for (enum process_value which = 0; which < PROCESS_VALUES_MAX; which++)
                fact.value[which] = value_of(r, which);
        /* Another one might be shown as another number in the user namespace of ckpt. */
        if (fact.value[PROCESS_LOGINUID] != f->loginuid)
                fact.known &= ~(1U << PROCESS_LOGINUID);
        if (f->tells_files)
                take_files(r, &fact);
        return fact;
}

static int compare_facts(const void *a, const void *b) {
        const struct process_fact *x = a, *y = b;

        return x->pid < y->pid ? -1 : x->pid > y->pid;
}

int process_facts_read(const struct process_facts *f, struct process_fact_vec *ret) {
        _cleanup_(record_vec_done) struct record_vec records = { 0 };
        int r = read_records(f, 0, &records);

        ret->n = 0;
        for (size_t i = 0; r == 0 && i < records.n; i++) {
                const struct record *record = &records.v[i];

                if (record->word[SLOT_TID] == record->word[SLOT_PID] && is_complete(f, record))
                        r = process_fact_vec_push(ret, fact_of(f, record));
        }
        if (r == 0 && ret->n > 0)
                qsort(ret->v, ret->n, sizeof(*ret->v), compare_facts);
        return r;
}

const struct process_fact *process_facts_find(const struct process_fact_vec *facts, pid_t pid) {
        const struct process_fact key = { .pid = pid };

        return facts->n > 0 ? bsearch(&key, facts->v, facts->n, sizeof(key), compare_facts) : NULL;
}

bool process_fact_value(const struct process_fact *fact, enum process_value which, int *ret) {
        if (!fact || !(fact->known >> which & 1))
                return false;
        *ret = fact->value[which];
        return true;
}

uint64_t process_fact_file(const struct process_fact *fact, int fd) {
        return fact && fd >= 0 && fd < PROCESS_FDS ? fact->file[fd] : 0;
}

/* ---- is it what it should be? ---- */

static int read_thread(const struct process_facts *f, pid_t tid, struct process_fact *ret) {
        _cleanup_(record_vec_done) struct record_vec records = { 0 };
        int r = read_records(f, getpid(), &records);

        for (size_t i = 0; r == 0 && i < records.n; i++)
                if (records.v[i].word[SLOT_NUMBER + f->level] == (uint64_t)tid &&
                    is_complete(f, &records.v[i])) {
                        *ret = fact_of(f, &records.v[i]);
                        return 0;
                }
        return r < 0 ? r : -ENODATA;
}

static bool same_place(const struct process_fact *a, enum process_place x, const struct process_fact *b,
                       enum process_place y) {
        return memcmp(a->place[x], b->place[y], sizeof(a->place[x])) == 0;
}

/* Of one process, before and after a change. */
struct change {
        const struct process_facts *f;
        struct process_fact leader, now;
        int result;
        bool files; /* what is told of descriptors is true */
};

static bool reread(struct change *c) {
        return read_thread(c->f, gettid(), &c->now) == 0;
}

static bool same_parts(const struct change *c, enum process_part part) {
        return c->leader.part[part] == c->now.part[part];
}

/* A thread shares all with its process at first; then it has descriptors and directories of its own. */
static bool tells_changes(struct change *c) {
        if (!reread(c) || !same_parts(c, PROCESS_MEMORY) || !same_parts(c, PROCESS_FILES) ||
            !same_parts(c, PROCESS_FS) || memcmp(c->now.place, c->leader.place, sizeof(c->now.place)) != 0)
                return false;
        if (unshare(CLONE_FILES) < 0 || !reread(c) || same_parts(c, PROCESS_FILES) ||
            !same_parts(c, PROCESS_FS))
                return false;
        if (unshare(CLONE_FS) < 0 || !reread(c) || same_parts(c, PROCESS_FS) ||
            !same_parts(c, PROCESS_MEMORY) ||
            memcmp(c->now.place, c->leader.place, sizeof(c->now.place)) != 0)
                return false;
        if (chdir("/") < 0 || !reread(c) || !same_place(&c->now, PROCESS_CWD, &c->now, PROCESS_ROOT))
                return false;
        return chdir("/proc") == 0 && reread(c) &&
               !same_place(&c->now, PROCESS_CWD, &c->now, PROCESS_ROOT) &&
               same_place(&c->now, PROCESS_ROOT, &c->leader, PROCESS_ROOT);
}

/* What is not open may be marked as closed on exec. In a table of its own: 0 and 1 are one file, 2 none, and 3 another one, of which nobody else knows. */
static bool make_files(int *ret_fd) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        _cleanup_close_ int other = (int)syscall(SYS_memfd_create, "ckpt", MFD_CLOEXEC);
        _cleanup_close_ int high = fcntl(null, F_DUPFD_CLOEXEC, PROCESS_FDS);
        _cleanup_close_ int high_other = fcntl(other, F_DUPFD_CLOEXEC, PROCESS_FDS);

        if (high < 0 || high_other < 0 || dup2(high, 0) < 0 || dup3(high, 1, O_CLOEXEC) < 0 ||
            dup2(high_other, 3) < 0)
                return false;
        if (null < PROCESS_FDS)
                null = -EBADF; /* it is one of them now */
        if (other < PROCESS_FDS)
                other = -EBADF;
        *ret_fd = 3;
        return close(2) == 0 || errno == EBADF;
}

static bool tells_files(struct change *c) {
        const struct process_fact *now = &c->now;
        int fd;

        if (!make_files(&fd) || !reread(c) || now->file[0] == 0 || now->file[1] != now->file[0] ||
            now->file[2] != 0 || now->file[3] == 0 || now->file[3] == now->file[0] ||
            (now->cloexec & 0xb) != 1U << 1 || now->locks >> fd & 1)
                return false;
        return flock(fd, LOCK_EX | LOCK_NB) == 0 && reread(c) && now->locks >> fd & 1;
}

static void *change(void *arg) {
        struct change *c = arg;

        c->result = tells_changes(c) ? 0 : -ENODATA;
        c->files = c->result == 0 && tells_files(c);
        return NULL;
}

/* In a thread of its own, because it cannot be undone. */
static int check_changes(struct process_facts *f) {
        struct change c = { .f = f };
        pthread_t thread;
        int r;

        f->tells_files = true;
        r = read_thread(f, getpid(), &c.leader);

        if (r == 0)
                r = thread_start(&thread, change, &c);
        if (r < 0)
                return r;
        pthread_join(thread, NULL);
        f->tells_files = c.files;
        return c.result;
}

/* Numbers that are known otherwise: those of namespaces, and the inode of the program. */
static int check_numbers(struct process_facts *f) {
        _cleanup_(record_vec_done) struct record_vec records = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct stat st;
        int r = read_records(f, getpid(), &records);

        if (r == 0)
                r = proc_open(getpid(), &self);
        if (r < 0 || stat("/proc/self/exe", &st) < 0 || records.n == 0)
                return r < 0 ? r : -ENODATA;
        proc_ns_read(&self, self.pid, PROC_NS_ALL, &f->own);
        f->level = records.v[0].word[SLOT_LEVEL];
        if (f->level >= TASK_PROGRAM_LEVELS)
                return -ENODATA;
        for (size_t i = 0; i < records.n; i++)
                if (records.v[i].word[SLOT_NUMBER + f->level] == (uint64_t)getpid() &&
                    records.v[i].word[SLOT_EXE_INO] == st.st_ino && in_own_namespaces(f, &records.v[i]))
                        return 0;
        return -ENODATA;
}

/* ---- values: before and after a change ---- */

struct values {
        int v[PROCESS_VALUES_MAX];
        bool there[PROCESS_VALUES_MAX];
};

/* As /proc has those of ckpt, of which it is known whether it has a timer. */
static void read_values(const struct proc_dir *self, bool timer, struct values *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        uint32_t filter = 0;
        uid_t loginuid = 0;

        ret->there[PROCESS_OOM_SCORE_ADJ] =
                proc_oom_score_adj_read(self, &buf, &ret->v[PROCESS_OOM_SCORE_ADJ]) == 0;
        ret->there[PROCESS_COREDUMP_FILTER] = proc_coredump_filter_read(self, &buf, &filter) == 0;
        ret->v[PROCESS_COREDUMP_FILTER] = (int)filter;
        ret->there[PROCESS_LOGINUID] = proc_loginuid_read(self, &buf, &loginuid) == 0;
        ret->v[PROCESS_LOGINUID] = (int)loginuid;
        ret->there[PROCESS_TIMERS] = true;
        ret->v[PROCESS_TIMERS] = timer;
}

static void write_value(const struct proc_dir *self, const char *name, int value) {
        _cleanup_close_ int fd = openat(self->fd, name, O_WRONLY | O_CLOEXEC);

        if (fd >= 0)
                (void)!dprintf(fd, "%d", value);
}

/* Bits of enum process_value: which are what they should be. */
static unsigned int compare_values(const struct process_facts *f, const struct values *values) {
        struct process_fact own;
        unsigned int agree = 0;

        if (read_thread(f, gettid(), &own) < 0)
                return 0;
        for (enum process_value which = 0; which < PROCESS_VALUES_MAX; which++)
                if (values->there[which] && values->v[which] == own.value[which])
                        agree |= 1U << which;
        return agree;
}

/* Those of ckpt itself are others meanwhile; the login uid cannot be. */
static unsigned int check_changed_values(const struct process_facts *f, const struct proc_dir *self,
                                         const struct values *before) {
        int oom = before->v[PROCESS_OOM_SCORE_ADJ], filter = before->v[PROCESS_COREDUMP_FILTER];
        struct sigevent event = { .sigev_notify = SIGEV_NONE };
        bool timer;
        struct values now = { 0 };
        unsigned int agree;
        timer_t id;

        if (before->there[PROCESS_OOM_SCORE_ADJ])
                write_value(self, "oom_score_adj", oom < 1000 ? oom + 1 : oom - 1);
        if (before->there[PROCESS_COREDUMP_FILTER])
                write_value(self, "coredump_filter", ~filter & FILTER_MASK);
        timer = timer_create(CLOCK_MONOTONIC, &event, &id) == 0;
        read_values(self, timer, &now);
        agree = compare_values(f, &now);
        if (timer)
                timer_delete(id);
        if (before->there[PROCESS_COREDUMP_FILTER])
                write_value(self, "coredump_filter", filter);
        if (before->there[PROCESS_OOM_SCORE_ADJ])
                write_value(self, "oom_score_adj", oom);
        for (enum process_value which = 0; which < PROCESS_VALUES_MAX; which++)
                if (which != PROCESS_LOGINUID && now.v[which] == before->v[which])
                        agree &= ~(1U << which);
        return agree;
}

static unsigned int check_values(struct process_facts *f) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct values own = { 0 };

        if (proc_open(getpid(), &self) < 0)
                return 0;
        read_values(&self, false, &own);
        f->loginuid = own.v[PROCESS_LOGINUID];
        return compare_values(f, &own) & check_changed_values(f, &self, &own);
}

int process_facts_open(struct bpf *bpf, struct process_facts **ret) {
        _cleanup_(process_facts_free) struct process_facts *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return -ENOMEM;
        f->prog_fd = -EBADF;
        r = bpf_load(bpf);
        if (r < 0)
                return r;
        f->prog_fd = load_program(bpf);
        if (f->prog_fd < 0)
                return f->prog_fd;
        if (f->prog_fd < PROCESS_FDS) { /* where it is changed what is open */
                int high = fcntl(f->prog_fd, F_DUPFD_CLOEXEC, PROCESS_FDS);

                close(f->prog_fd);
                f->prog_fd = high < 0 ? -errno : high;
                if (high < 0)
                        return f->prog_fd;
        }
        r = check_numbers(f);
        if (r == 0)
                r = check_changes(f);
        if (r < 0)
                return r;
        f->tells = check_values(f);
        *ret = TAKE_PTR(f);
        return 0;
}

void process_facts_free(struct process_facts **f) {
        if (!*f)
                return;
        safe_close((*f)->prog_fd);
        free(*f);
        *f = NULL;
}
