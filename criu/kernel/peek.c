/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/peek.h"

#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/btf.h"
#include "kernel/bpf.h"
#include "macro.h"

enum {
        TRIES = 3,
        FILES_MAX = 1 << 24, /* descriptors of a process */
};

struct peek {
        pthread_mutex_t lock; /* of what the program writes */
        int prog_fd;
        void *data;                      /* PEEK_MAX bytes, which the program fills */
        int per_cpu_fd, per_cpu_prog_fd; /* -EBADF: they cannot be made */
        struct btf_place places[PEEK_MEMBER_MAX];
        uint64_t upid_size; /* bytes */
};

/* What the program is called with. */
struct request {
        uint64_t addr, size; /* size 0: the address of the task that calls is asked for */
        uint64_t result;
};

/* ---- the program ---- */

enum { R0, R1, R2, R3, REQUEST = BPF_REG_6, FRAME = BPF_REG_10 };

static int load(const struct bpf_insn *insns, size_t n) {
        union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SYSCALL,
                                .insns = (uintptr_t)insns,
                                .insn_cnt = (uint32_t)n,
                                .license = (uintptr_t) "GPL",
                                .prog_flags = BPF_F_SLEEPABLE,
                                .prog_name = "ckpt_peek" };

        return bpf_call(BPF_PROG_LOAD, &attr);
}

static int load_program(int map_fd) {
        const struct bpf_insn program[] = {
                BPF_MOVE(REQUEST, R1),
                BPF_LOAD64(R2, REQUEST, offsetof(struct request, size)),
                BPF_INSN(BPF_JMP | BPF_JNE | BPF_K, R2, 0, 2, 0),
                BPF_CALL_HELPER(BPF_FUNC_get_current_task),
                BPF_INSN(BPF_JMP | BPF_JA, 0, 0, 6, 0), /* to the end */
                BPF_MOVE_IMM(R0, -1),
                BPF_INSN(BPF_JMP | BPF_JGT | BPF_K, R2, 0, 4, PEEK_MAX),
                BPF_INSN(BPF_LD | BPF_IMM | BPF_DW, R1, BPF_PSEUDO_MAP_VALUE, 0, map_fd),
                BPF_INSN(0, 0, 0, 0, 0),
                BPF_LOAD64(R3, REQUEST, offsetof(struct request, addr)),
                BPF_CALL_HELPER(BPF_FUNC_probe_read_kernel),
                /* The end. */
                BPF_STORE64(REQUEST, R0, offsetof(struct request, result)),
                BPF_MOVE_IMM(R0, 0),
                BPF_RETURN(),
        };

        return load(program, ELEMENTSOF(program));
}

/* The address of the element for the CPU `addr`. */
static int load_per_cpu_program(int map_fd) {
        const struct bpf_insn program[] = {
                BPF_MOVE(REQUEST, R1),
                BPF_MOVE_IMM(R0, 0),
                BPF_STORE64(FRAME, R0, -8),
                BPF_INSN(BPF_LD | BPF_IMM | BPF_DW, R1, BPF_PSEUDO_MAP_FD, 0, map_fd),
                BPF_INSN(0, 0, 0, 0, 0),
                BPF_MOVE(R2, FRAME),
                BPF_ADD_IMM(R2, -8),
                BPF_LOAD64(R3, REQUEST, offsetof(struct request, addr)),
                BPF_CALL_HELPER(BPF_FUNC_map_lookup_percpu_elem),
                BPF_STORE64(REQUEST, R0, offsetof(struct request, result)),
                BPF_MOVE_IMM(R0, 0),
                BPF_RETURN(),
        };

        return load(program, ELEMENTSOF(program));
}

/* Not every kernel that has the other has this. */
static void make_per_cpu_program(struct peek *p) {
        union bpf_attr attr = { .map_type = BPF_MAP_TYPE_PERCPU_ARRAY,
                                .key_size = sizeof(uint32_t),
                                .value_size = sizeof(uint64_t),
                                .max_entries = 1,
                                .map_name = "ckpt_cpus" };

        p->per_cpu_fd = bpf_call(BPF_MAP_CREATE, &attr);
        if (p->per_cpu_fd >= 0)
                p->per_cpu_prog_fd = load_per_cpu_program(p->per_cpu_fd);
}

static int make_program(struct peek *p) {
        union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY,
                                .key_size = sizeof(uint32_t),
                                .value_size = PEEK_MAX,
                                .max_entries = 1,
                                .map_flags = BPF_F_MMAPABLE,
                                .map_name = "ckpt_peek" };
        _cleanup_close_ int map = bpf_call(BPF_MAP_CREATE, &attr);
        void *data;

        if (map < 0)
                return map;
        data = mmap(NULL, PEEK_MAX, PROT_READ, MAP_SHARED, map, 0);
        if (data == MAP_FAILED)
                return -errno;
        p->data = data;
        make_per_cpu_program(p);
        p->prog_fd = load_program(map);
        return p->prog_fd < 0 ? p->prog_fd : 0;
}

static int run(int prog_fd, struct request *request) {
        union bpf_attr attr = { .test = { .prog_fd = (uint32_t)prog_fd,
                                          .ctx_in = (uintptr_t)request,
                                          .ctx_size_in = sizeof(*request) } };

        return bpf_call(BPF_PROG_TEST_RUN, &attr) < 0 ? -ENODATA : 0;
}

/* ---- the interface ---- */

void peek_free(struct peek **p) {
        if (!*p)
                return;
        safe_close((*p)->prog_fd);
        safe_close((*p)->per_cpu_fd);
        safe_close((*p)->per_cpu_prog_fd);
        if ((*p)->data)
                munmap((*p)->data, PEEK_MAX);
        pthread_mutex_destroy(&(*p)->lock);
        free(*p);
        *p = NULL;
}

int peek_bytes(struct peek *p, uint64_t addr, void *buf, size_t size) {
        struct request request = { .addr = addr, .size = size };
        int r;

        if (size == 0 || size > PEEK_MAX || addr == 0)
                return size == 0 ? 0 : -ENODATA;
        pthread_mutex_lock(&p->lock);
        r = run(p->prog_fd, &request);
        if (r == 0 && request.result != 0)
                r = -ENODATA;
        if (r == 0)
                memcpy(buf, p->data, size);
        pthread_mutex_unlock(&p->lock);
        return r;
}

int peek_place(const struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret) {
        if (addr == 0 || p->places[m].offset < 0)
                return -ENODATA;
        *ret = addr + (uint64_t)p->places[m].offset;
        return 0;
}

int peek_number(struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret) {
        uint64_t place, number = 0; /* the numbers of this architecture begin with the lowest byte */
        int r;

        r = p->places[m].size == 0 ? -ENODATA : peek_place(p, addr, m, &place);
        if (r == 0)
                r = peek_bytes(p, place, &number, p->places[m].size);
        if (r == 0)
                *ret = number;
        return r;
}

int peek_wrapped(struct peek *p, uint64_t addr, enum peek_member m, size_t size, uint64_t *ret) {
        uint64_t at, number = 0;
        int r = size > sizeof(number) ? -ENODATA : peek_place(p, addr, m, &at);

        if (r == 0)
                r = peek_bytes(p, at, &number, size);
        if (r == 0)
                *ret = number;
        return r;
}

int peek_container(const struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret) {
        if (addr == 0 || p->places[m].offset < 0)
                return -ENODATA;
        *ret = addr - (uint64_t)p->places[m].offset;
        return 0;
}

/* Its number on that level of namespaces, and whose namespace it is. */
static int number_on_level(struct peek *p, uint64_t pid, uint64_t level, uint64_t *ret_ns,
                           uint64_t *ret_nr) {
        uint64_t all;
        int r = p->upid_size == 0 ? -ENODATA : peek_place(p, pid, PEEK_pid__numbers, &all);

        if (r == 0)
                r = peek_number(p, all + level * p->upid_size, PEEK_upid__ns, ret_ns);
        return r < 0 ? r : peek_number(p, all + level * p->upid_size, PEEK_upid__nr, ret_nr);
}

int peek_pid_number(struct peek *p, uint64_t pid, uint64_t *ret) {
        uint64_t own = 0, level = 0, its = 0, ns = 0, other = 1, nr = 0;
        struct request self = { 0 };
        int r = run(p->prog_fd, &self);

        if (r == 0)
                r = peek_number(p, self.result, PEEK_task_struct__thread_pid, &own);
        if (r == 0)
                r = peek_number(p, own, PEEK_pid__level, &level);
        if (r == 0)
                r = number_on_level(p, own, level, &ns, &nr);
        if (r == 0)
                r = peek_number(p, pid, PEEK_pid__level, &its);
        if (r == 0 && its >= level)
                r = number_on_level(p, pid, level, &other, &nr);
        if (r == 0)
                *ret = its >= level && other == ns ? nr : 0;
        return r;
}

/* The address for all of an element of a map of ckpt's, of which the kernel tells the address for each CPU. */
int peek_cpu_base(struct peek *p, uint64_t *ret) {
        uint64_t file, map = 0, all, its = 0;
        int r;

        r = peek_file(p, p->per_cpu_fd, &file);
        if (r == 0)
                r = peek_number(p, file, PEEK_file__private_data, &map);
        if (r == 0)
                r = peek_place(p, map, PEEK_bpf_array__pptrs, &all);
        if (r == 0)
                r = peek_bytes(p, all, &its, sizeof(its));
        if (r == 0 && its == 0)
                r = -ENODATA;
        if (r == 0)
                *ret = its;
        return r;
}

int peek_per_cpu(struct peek *p, uint64_t base, uint64_t addr, unsigned int cpu, uint64_t *ret) {
        struct request request = { .addr = cpu };

        if (p->per_cpu_prog_fd < 0 || run(p->per_cpu_prog_fd, &request) < 0 || request.result == 0)
                return -ENODATA;
        *ret = addr + (request.result - base);
        return 0;
}

/*
 * ckpt's threads share their table of descriptors, which may move while it is read, and the old one is freed: then it is
 * another afterwards. Many files have the same inode (anon_inode), so that alone would not do.
 */
static int find_file(struct peek *p, int fd, uint64_t ino, uint64_t *ret) {
        uint64_t at, files = 0, table = 0, table_after = 0, max = 0, file = 0, its = 0;
        struct request self = { 0 };
        int r;

        r = run(p->prog_fd, &self);
        if (r == 0)
                r = peek_number(p, self.result, PEEK_task_struct__files, &files);
        if (r == 0)
                r = peek_number(p, files, PEEK_files_struct__fdt, &table);
        if (r == 0)
                r = peek_number(p, table, PEEK_fdtable__max_fds, &max);
        if (r == 0 && (uint64_t)fd >= max)
                r = -ENODATA;
        if (r == 0)
                r = peek_number(p, table, PEEK_fdtable__fd, &at);
        if (r == 0)
                r = peek_bytes(p, at + (uint64_t)fd * sizeof(file), &file, sizeof(file));
        if (r == 0)
                r = peek_number(p, files, PEEK_files_struct__fdt, &table_after);
        if (r == 0 && table_after != table)
                r = -ENODATA;
        if (r == 0)
                r = peek_number(p, file, PEEK_file__f_inode, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_inode__i_ino, &its);
        if (r == 0 && its != ino)
                r = -ENODATA;
        if (r == 0)
                *ret = file;
        return r;
}

int peek_file(struct peek *p, int fd, uint64_t *ret) {
        struct stat st;
        int r = -ENODATA;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -ENODATA;
        for (int i = 0; r < 0 && i < TRIES; i++)
                r = find_file(p, fd, st.st_ino, ret);
        return r;
}

int peek_task(struct peek *p, int proc_fd, uint64_t *ret) {
        uint64_t file, at = 0, pid = 0, task = 0, back = 0, vfs, links;
        int r;

        r = peek_file(p, proc_fd, &file);
        if (r == 0)
                r = peek_number(p, file, PEEK_file__f_inode, &at);
        if (r == 0 && (p->places[PEEK_proc_inode__vfs_inode].offset < 0 ||
                       p->places[PEEK_task_struct__pid_links].offset < 0))
                r = -ENODATA;
        if (r < 0)
                return r;
        vfs = (uint64_t)p->places[PEEK_proc_inode__vfs_inode].offset;
        links = (uint64_t)p->places[PEEK_task_struct__pid_links].offset;
        r = peek_number(p, at - vfs, PEEK_proc_inode__pid, &pid);
        if (r == 0)
                r = peek_place(p, pid, PEEK_pid__tasks, &at);
        if (r == 0)
                r = peek_bytes(p, at, &task, sizeof(task));
        if (r == 0)
                r = peek_number(p, task - links, PEEK_task_struct__thread_pid, &back);
        if (r == 0 && (task == 0 || back != pid))
                r = -ENODATA;
        if (r == 0)
                *ret = task - links;
        return r;
}

int peek_files(struct peek *p, int proc_fd, uint64_t **ret, size_t *ret_n) {
        uint64_t task, files = 0, table = 0, max = 0, at = 0;
        _cleanup_free_ uint64_t *v = NULL;
        int r;

        r = peek_task(p, proc_fd, &task);
        if (r == 0)
                r = peek_number(p, task, PEEK_task_struct__files, &files);
        if (r == 0)
                r = peek_number(p, files, PEEK_files_struct__fdt, &table);
        if (r == 0)
                r = peek_number(p, table, PEEK_fdtable__max_fds, &max);
        if (r == 0)
                r = peek_number(p, table, PEEK_fdtable__fd, &at);
        if (r == 0 && max > FILES_MAX)
                r = -ENODATA;
        if (r < 0)
                return r;
        v = calloc(max + 1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        for (uint64_t i = 0; r == 0 && i < max; i += PEEK_MAX / sizeof(*v)) {
                size_t some = MIN((size_t)(max - i), PEEK_MAX / sizeof(*v));

                r = peek_bytes(p, at + i * sizeof(*v), v + i, some * sizeof(*v));
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        *ret_n = max;
        return 0;
}

int peek_sock(struct peek *p, int fd, uint64_t *ret) {
        uint64_t file, sock = 0, sk = 0, back = 0;
        int r;

        r = peek_file(p, fd, &file);
        if (r == 0)
                r = peek_number(p, file, PEEK_file__private_data, &sock);
        if (r == 0)
                r = peek_number(p, sock, PEEK_socket__file, &back);
        if (r == 0 && back != file)
                r = -ENODATA;
        if (r == 0)
                r = peek_number(p, sock, PEEK_socket__sk, &sk);
        if (r == 0)
                r = peek_number(p, sk, PEEK_sock__sk_socket, &back);
        if (r == 0 && back != sock)
                r = -ENODATA;
        if (r == 0)
                *ret = sk;
        return r;
}

int peek_open(struct bpf *bpf, struct peek **ret) {
        static const struct btf_wanted wanted[] = {
#define PEEK(type, member) [PEEK_##type##__##member] = { #type, #member },
#include "kernel/peek.def"
#undef PEEK
        };
        _cleanup_(peek_free) struct peek *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        pthread_mutex_init(&p->lock, NULL);
        p->prog_fd = p->per_cpu_fd = p->per_cpu_prog_fd = -EBADF;
        r = bpf_load(bpf);
        if (r == 0)
                r = bpf_find_offsets(bpf, wanted, ELEMENTSOF(wanted), p->places);
        if (r < 0)
                return r;
        p->upid_size = bpf_type_size(bpf, "upid");
        r = make_program(p);
        if (r == 0)
                *ret = TAKE_PTR(p);
        return r;
}
