/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/task_program.h"

#include <errno.h>

#include "macro.h"

enum { WORDS_MAX = 64 /* the kernel gives a program 512 bytes of stack */ };

static int16_t place_of(const struct task_program *p, unsigned int word) {
        return (int16_t)(8 * ((int)word - (int)p->words));
}

void task_program_add(struct task_program *p, struct bpf_insn insn) {
        ckpt_assert(p->n < TASK_PROGRAM_MAX);
        p->insn[p->n++] = insn;
}

bool task_program_try_load(struct task_program *p, int to, int from, const char *type, const char *path,
                           unsigned int size) {
        int16_t offset;

        if (!bpf_member(p->bpf, type, path, size, &offset))
                return false;
        task_program_add(p, BPF_INSN(BPF_LDX | BPF_MEM | (size == 4 ? BPF_W : BPF_DW), to, from, offset, 0));
        return true;
}

void task_program_load(struct task_program *p, int to, int from, const char *type, const char *path,
                       unsigned int size) {
        if (!task_program_try_load(p, to, from, type, path, size))
                p->failed = true;
}

void task_program_store(struct task_program *p, unsigned int word, int from) {
        ckpt_assert(word < p->words);
        task_program_add(p, BPF_STORE64(TASK_PROGRAM_FRAME, from, place_of(p, word)));
}

/* At the end the iterator calls once more, without a task. */
void task_program_begin(struct task_program *p, const struct bpf *bpf, unsigned int words) {
        ckpt_assert(words <= WORDS_MAX);
        *p = (struct task_program){ .bpf = bpf, .words = words };
        task_program_load(p, TASK_PROGRAM_TASK, TASK_PROGRAM_CTX, "bpf_iter__task", "task", 8);
        p->skip = p->n;
        task_program_add(p, BPF_SKIP_IF(TASK_PROGRAM_TASK, 0, 0));
        task_program_load(p, TASK_PROGRAM_SEQ, TASK_PROGRAM_CTX, "bpf_iter__task", "meta", 8);
        task_program_load(p, TASK_PROGRAM_SEQ, TASK_PROGRAM_SEQ, "bpf_iter_meta", "seq", 8);
}

void task_program_numbers(struct task_program *p, unsigned int level, unsigned int number) {
        size_t size = bpf_type_size(p->bpf, "upid");
        int16_t numbers, nr;

        task_program_load(p, TASK_PROGRAM_OTHER, TASK_PROGRAM_TASK, "task_struct", "thread_pid", 8);
        task_program_load(p, TASK_PROGRAM_VALUE, TASK_PROGRAM_OTHER, "pid", "level", 4);
        task_program_store(p, level, TASK_PROGRAM_VALUE);
        if (size == 0 || size > 64 || !bpf_member(p->bpf, "pid", "numbers", 0, &numbers) ||
            !bpf_member(p->bpf, "upid", "nr", 4, &nr)) {
                p->failed = true;
                return;
        }
        for (int i = 0; i < TASK_PROGRAM_LEVELS; i++) {
                task_program_add(p, BPF_MOVE_IMM(TASK_PROGRAM_NUMBER, 0));
                task_program_add(p, BPF_INSN(BPF_JMP | BPF_JLT | BPF_K, TASK_PROGRAM_VALUE, 0, 1, i));
                task_program_add(p,
                                 BPF_INSN(BPF_LDX | BPF_MEM | BPF_W, TASK_PROGRAM_NUMBER, TASK_PROGRAM_OTHER,
                                          (int16_t)(numbers + i * (int)size + nr), 0));
                task_program_store(p, number + (unsigned int)i, TASK_PROGRAM_NUMBER);
        }
}

int task_program_finish(struct task_program *p, const char *name) {
        task_program_add(p, BPF_MOVE(BPF_REG_1, TASK_PROGRAM_SEQ));
        task_program_add(p, BPF_MOVE(BPF_REG_2, TASK_PROGRAM_FRAME));
        task_program_add(p, BPF_ADD_IMM(BPF_REG_2, place_of(p, 0)));
        task_program_add(p, BPF_MOVE_IMM(BPF_REG_3, 8 * (int)p->words));
        task_program_add(p, BPF_CALL_HELPER(BPF_FUNC_seq_write));
        p->insn[p->skip].off = (int16_t)(p->n - p->skip - 1);
        task_program_add(p, BPF_MOVE_IMM(BPF_REG_0, 0));
        task_program_add(p, BPF_RETURN());
        return p->failed ? -ENOSYS : bpf_load_iterator(p->bpf, "task", name, p->insn, p->n);
}
