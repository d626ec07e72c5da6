/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State that no other interface of the kernel shows, read from its memory. A BPF program that runs when it is called
 * (BPF_PROG_TYPE_SYSCALL, Linux 5.14) copies bytes from an address; where members are is the kernel's own description of
 * its types (bpf.h). Reading never faults and changes nothing.
 *
 * Everything begins with a descriptor of ckpt's. That the right thing is read is proved on the way: an object has to
 * point back to the one that led to it, or to have a number that is known otherwise. Whoever reads something new proves it
 * on an object of ckpt's own first. What cannot be proved is -ENODATA, and as good as not asked.
 *
 * Callable from any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The members that are read. */
enum peek_member {
#define PEEK(type, member) PEEK_##type##__##member,
#include "kernel/peek.def"
#undef PEEK
        PEEK_MEMBER_MAX,
};

struct bpf;
struct peek;

enum { PEEK_MAX = 65536 }; /* bytes at a time */

/*
 * Some 0.5 ms, and what bpf_load() takes; `bpf` stays the caller's. A negative errno, without a message: the kernel is too
 * old or has no BTF, or the capabilities (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN) are missing.
 */
int peek_open(struct bpf *bpf, struct peek **ret);
void peek_free(struct peek **p);

/* `size` bytes (at most PEEK_MAX) of the kernel's at `addr`. -ENODATA: there are none. */
int peek_bytes(struct peek *p, uint64_t addr, void *buf, size_t size);

/* The place of a member of the structure at `addr`. -ENODATA: this kernel's have none. */
int peek_place(const struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret);

/* A member that is a number or pointer; without sign. */
int peek_number(struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret);

/*
 * Where a variable that each CPU has its own of is for this one, by its address for all (Linux 5.19). `base` is from
 * peek_cpu_base(), once for any number of them.
 */
int peek_cpu_base(struct peek *p, uint64_t *ret);
int peek_per_cpu(struct peek *p, uint64_t base, uint64_t addr, unsigned int cpu, uint64_t *ret);

/* The address of the struct task_struct of a thread or process, by a descriptor of its directory in /proc. */
int peek_task(struct peek *p, int proc_fd, uint64_t *ret);

/*
 * What the descriptors of a process refer to, by number: addresses as of peek_file(), 0 where there is none; the caller frees *ret.
 * `proc_fd` as for peek_task(). Unless the process is stopped, it may be what never was.
 */
int peek_files(struct peek *p, int proc_fd, uint64_t **ret, size_t *ret_n);

/* A number of at most 8 bytes that the kernel keeps in a structure of its own, as atomic_t and kuid_t. */
int peek_wrapped(struct peek *p, uint64_t addr, enum peek_member m, size_t size, uint64_t *ret);

/* The address of a structure of which the member `m` is at `addr`. */
int peek_container(const struct peek *p, uint64_t addr, enum peek_member m, uint64_t *ret);

/* The number of a struct pid in ckpt's pid namespace; 0: it has none there. */
int peek_pid_number(struct peek *p, uint64_t pid, uint64_t *ret);

/* The address of the struct file of a descriptor of ckpt's: proved by its inode. */
int peek_file(struct peek *p, int fd, uint64_t *ret);

/* The same of the struct sock behind it: it points to the struct socket that points to the file. */
int peek_sock(struct peek *p, int fd, uint64_t *ret);
