/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * BPF programs (bpf(2)) without libbpf: what all need, and iterators; single objects are read by peek.h, with the same `struct bpf`.
 *
 * The kernel's own objects, seen by BPF iterators (BPF_TRACE_ITER, Linux 5.8; for one process 6.1): a small program is
 * called with each object (a task, a memory area, a descriptor, a socket) and writes a record of fixed size, which is read from a
 * descriptor. Where the members of the kernel's structures are, its BTF tells (/sys/kernel/btf/vmlinux); what they mean may
 * change with any version, so who reads them checks them first on objects of ckpt's own whose state is known,
 * and has another way where that does not come out right or there is no BPF at all: the capabilities (CAP_BPF
 * and CAP_PERFMON, or CAP_SYS_ADMIN) or BTF may be missing.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bpf;

/* Nothing is loaded yet. Returns 0 or -ENOMEM. bpf_free() frees it. */
int bpf_new(struct bpf **ret);
void bpf_free(struct bpf **b);

/*
 * Read the kernel's types, some 2 ms, if that has not been tried yet. 0, or a negative errno, without a message, each time the
 * same: BPF cannot be had. Callable from any thread; the functions below only after it has returned 0, and then
 * from any thread too. NULL: -EOPNOTSUPP.
 */
int bpf_load(struct bpf *b);

/* btf_find_offsets() of the running kernel. */
struct btf_wanted;
struct btf_place;
int bpf_find_offsets(const struct bpf *b, const struct btf_wanted *wanted, size_t n, struct btf_place *ret);

/* btf_member() of the running kernel. */
bool bpf_member(const struct bpf *b, const char *type, const char *path, unsigned int size, int16_t *ret);

/* Size of `struct type` in bytes; 0: there is none. */
size_t bpf_type_size(const struct bpf *b, const char *type);

/*
 * Load a program for the iterator `target` ("task", "task_vma", "task_file", "tcp", ...); `name` is what bpftool shows. Returns its
 * descriptor, which the caller closes, or a negative errno (-ENOSYS: no such iterator).
 */
int bpf_load_iterator(const struct bpf *b, const char *target, const char *name,
                      const struct bpf_insn *insns, size_t n);

/*
 * Let such a program run over the objects of the process `pid`, by its number in the pid namespace of ckpt (targets that begin with
 * "task"; from Linux 6.1 on), or of all (0), and read what it writes: see bpf_read_records(). Or a negative errno.
 */
int bpf_iterate(int prog_fd, pid_t pid, size_t size, int (*fn)(void *arg, const void *record), void *arg);

/*
 * Read all records from a descriptor: `fn` is called with each; what it returns but 0 ends the reading and is returned.
 * `size`: of a record, as the program writes it, at most 32 KiB. -EBADMSG: the stream ends within a record.
 */
int bpf_read_records(int fd, size_t size, int (*fn)(void *arg, const void *record), void *arg);

/* bpf(2): what it returns, or a negative errno. */
int bpf_call(int command, union bpf_attr *attr);

/* ---- for programs: instructions by name, 64 bits wide ---- */

#define BPF_INSN(op, to, from, offset, value) \
        ((struct bpf_insn){                   \
                .code = (op), .dst_reg = (to), .src_reg = (from), .off = (offset), .imm = (value) })

/* to = *(u64 *)(from + offset) */
#define BPF_LOAD64(to, from, offset) BPF_INSN(BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0)
/* *(u64 *)(to + offset) = from */
#define BPF_STORE64(to, from, offset) BPF_INSN(BPF_STX | BPF_MEM | BPF_DW, to, from, offset, 0)
/* to = from, to = value, to += value */
#define BPF_MOVE(to, from)      BPF_INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define BPF_MOVE_IMM(to, value) BPF_INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define BPF_ADD_IMM(to, value)  BPF_INSN(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value)
/* if (reg == value) skip `over` instructions */
#define BPF_SKIP_IF(reg, value, over) BPF_INSN(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, over, value)
/* R0 = helper(R1, ...); helper: BPF_FUNC_* */
#define BPF_CALL_HELPER(helper) BPF_INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define BPF_RETURN()            BPF_INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
