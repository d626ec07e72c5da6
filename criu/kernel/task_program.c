/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/task_program.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "macro.h"

enum { WORDS_MAX = 64 /* the kernel gives a program 512 bytes of stack */ };

/* Registers of such a program. Helpers change the first six. */
enum {
        CTX = BPF_REG_1,
        OBJECT = BPF_REG_6, /* the task or socket */
        SEQ = BPF_REG_7,
        LEVEL = BPF_REG_8,
        NUMBERS = BPF_REG_9,
        FRAME = BPF_REG_10,
};

static int16_t place_of(const struct task_program *p, unsigned int word) {
        return (int16_t)(8 * ((int)word - (int)p->words));
}

static void add(struct task_program *p, struct bpf_insn insn) {
        ckpt_assert(p->n < TASK_PROGRAM_MAX);
        p->insn[p->n++] = insn;
}

void task_program_zero(struct task_program *p, unsigned int word) {
        ckpt_assert(word < p->words);
        add(p, BPF_INSN(BPF_ST | BPF_MEM | BPF_DW, FRAME, 0, place_of(p, word), 0));
}

/* R3 is where to read, but for `offset`. */
static void copy(struct task_program *p, unsigned int word, int offset, unsigned int size) {
        ckpt_assert(word + (size + 7) / 8 <= p->words);
        if (size % 8 != 0)
                task_program_zero(p, word + size / 8);
        add(p, BPF_ADD_IMM(BPF_REG_3, offset));
        add(p, BPF_MOVE(BPF_REG_1, FRAME));
        add(p, BPF_ADD_IMM(BPF_REG_1, place_of(p, word)));
        add(p, BPF_MOVE_IMM(BPF_REG_2, (int)size));
        add(p, BPF_CALL_HELPER(BPF_FUNC_probe_read_kernel));
}

/* `whole`: the bytes that the member has to have; 0: any. */
static bool try_read(struct task_program *p, unsigned int word, int from, const char *type, const char *path,
                     unsigned int size, unsigned int whole) {
        int16_t offset;

        if (!bpf_member(p->bpf, type, path, whole, &offset))
                return false;
        if (from < 0)
                add(p, BPF_MOVE(BPF_REG_3, OBJECT));
        else
                add(p, BPF_LOAD64(BPF_REG_3, FRAME, place_of(p, (unsigned int)from)));
        copy(p, word, offset, size);
        return true;
}

void task_program_read(struct task_program *p, unsigned int word, int from, const char *type,
                       const char *path, unsigned int size) {
        if (!try_read(p, word, from, type, path, size, size))
                p->failed = true;
}

void task_program_read_first(struct task_program *p, unsigned int word, int from, const char *type,
                             const char *path, unsigned int size) {
        if (!try_read(p, word, from, type, path, size, 0))
                p->failed = true;
}

static void read_or_zero(struct task_program *p, unsigned int word, int from, const char *type,
                         const char *path, unsigned int size, unsigned int whole) {
        if (!try_read(p, word, from, type, path, size, whole))
                for (unsigned int i = 0; i < (size + 7) / 8; i++)
                        task_program_zero(p, word + i);
}

void task_program_read_optional(struct task_program *p, unsigned int word, int from, const char *type,
                                const char *path, unsigned int size) {
        read_or_zero(p, word, from, type, path, size, size);
}

void task_program_read_any(struct task_program *p, unsigned int word, int from, const char *type,
                           const char *path, unsigned int size) {
        read_or_zero(p, word, from, type, path, size, 0);
}

void task_program_copy(struct task_program *p, unsigned int word, unsigned int n, unsigned int from) {
        add(p, BPF_LOAD64(BPF_REG_3, FRAME, place_of(p, from)));
        copy(p, word, 0, 8 * n);
}

/* *to = the member of `struct type` to which `from` points; followed by the kernel's rules for pointers. */
static void load(struct task_program *p, int to, int from, const char *type, const char *path) {
        int16_t offset;

        if (bpf_member(p->bpf, type, path, 8, &offset))
                add(p, BPF_LOAD64(to, from, offset));
        else
                p->failed = true;
}

/* A jump to the end, where nothing is written; how far that is, is known only there. */
static void leave(struct task_program *p, struct bpf_insn insn) {
        ckpt_assert(p->nr_outs < TASK_PROGRAM_OUTS);
        p->outs[p->nr_outs++] = p->n;
        add(p, insn);
}

static void begin(struct task_program *p, const struct bpf *bpf, const char *target, unsigned int words) {
        ckpt_assert(words <= WORDS_MAX);
        *p = (struct task_program){ .bpf = bpf, .target = target, .words = words };
}

/* At the end the iterator calls once more, without a task. */
void task_program_begin(struct task_program *p, const struct bpf *bpf, unsigned int words) {
        begin(p, bpf, "task", words);
        load(p, OBJECT, CTX, "bpf_iter__task", "task");
        leave(p, BPF_SKIP_IF(OBJECT, 0, 0));
        load(p, SEQ, CTX, "bpf_iter__task", "meta");
        load(p, SEQ, SEQ, "bpf_iter_meta", "seq");
}

void task_program_begin_sockets(struct task_program *p, const struct bpf *bpf, unsigned int words,
                                uint16_t family) {
        int16_t fd, its_family;

        begin(p, bpf, "task_file", words);
        if (!bpf_member(bpf, "bpf_iter__task_file", "fd", 4, &fd) ||
            !bpf_member(bpf, "sock", "__sk_common.skc_family", 2, &its_family)) {
                p->failed = true;
                return;
        }
        load(p, SEQ, CTX, "bpf_iter__task_file", "meta");
        load(p, SEQ, SEQ, "bpf_iter_meta", "seq");
        add(p, BPF_INSN(BPF_LDX | BPF_MEM | BPF_W, LEVEL, CTX, fd, 0));
        add(p, BPF_STORE64(FRAME, LEVEL, place_of(p, 0)));
        load(p, CTX, CTX, "bpf_iter__task_file", "file");
        leave(p, BPF_SKIP_IF(CTX, 0, 0));
        add(p, BPF_CALL_HELPER(BPF_FUNC_sock_from_file));
        leave(p, BPF_SKIP_IF(BPF_REG_0, 0, 0));
        load(p, OBJECT, BPF_REG_0, "socket", "sk");
        leave(p, BPF_SKIP_IF(OBJECT, 0, 0));
        add(p, BPF_INSN(BPF_LDX | BPF_MEM | BPF_H, BPF_REG_1, OBJECT, its_family, 0));
        leave(p, BPF_INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, 0, family));
}

/* Behind the numbers that it has, there is memory of something else. */
void task_program_numbers(struct task_program *p, unsigned int level, unsigned int number) {
        size_t size = bpf_type_size(p->bpf, "upid");
        int16_t numbers, nr;

        if (size == 0 || size > 64 || !bpf_member(p->bpf, "pid", "numbers", 0, &numbers) ||
            !bpf_member(p->bpf, "upid", "nr", 4, &nr)) {
                p->failed = true;
                return;
        }
        task_program_read(p, level, TASK_PROGRAM_TASK, "task_struct", "thread_pid", 8);
        add(p, BPF_LOAD64(NUMBERS, FRAME, place_of(p, level)));
        task_program_read(p, level, (int)level, "pid", "level", 4);
        add(p, BPF_LOAD64(LEVEL, FRAME, place_of(p, level)));
        for (int i = 0; i < TASK_PROGRAM_LEVELS; i++) {
                size_t over;

                task_program_zero(p, number + (unsigned int)i);
                over = p->n;
                add(p, BPF_INSN(BPF_JMP | BPF_JLT | BPF_K, LEVEL, 0, 0, i));
                add(p, BPF_MOVE(BPF_REG_3, NUMBERS));
                copy(p, number + (unsigned int)i, numbers + i * (int)size + nr, 4);
                p->insn[over].off = (int16_t)(p->n - over - 1);
        }
}

int task_program_finish(struct task_program *p, const char *name) {
        add(p, BPF_MOVE(BPF_REG_1, SEQ));
        add(p, BPF_MOVE(BPF_REG_2, FRAME));
        add(p, BPF_ADD_IMM(BPF_REG_2, place_of(p, 0)));
        add(p, BPF_MOVE_IMM(BPF_REG_3, 8 * (int)p->words));
        add(p, BPF_CALL_HELPER(BPF_FUNC_seq_write));
        for (size_t i = 0; i < p->nr_outs; i++)
                p->insn[p->outs[i]].off = (int16_t)(p->n - p->outs[i] - 1);
        add(p, BPF_MOVE_IMM(BPF_REG_0, 0));
        add(p, BPF_RETURN());
        return p->failed ? -ENOSYS : bpf_load_iterator(p->bpf, p->target, name, p->insn, p->n);
}

struct own {
        size_t size;
        unsigned int level, number;
        uint64_t *record;
};

/* At each depth of pid namespaces in turn, the thread's number is its own only at one. */
static int take_own(void *arg, const void *record) {
        const uint64_t *word = record;
        struct own *own = arg;
        uint64_t level = word[own->level];

        if (level >= TASK_PROGRAM_LEVELS || word[own->number + level] != (uint64_t)gettid())
                return 0;
        memcpy(own->record, record, own->size);
        return 1;
}

int task_program_read_own(int prog_fd, pid_t pid, unsigned int words, unsigned int level,
                          unsigned int number, uint64_t *ret) {
        struct own own = { .size = words * sizeof(*ret), .level = level, .number = number, .record = ret };
        int r = bpf_iterate(prog_fd, pid, own.size, take_own, &own);

        return r == 0 ? -ENODATA : MIN(r, 0);
}
