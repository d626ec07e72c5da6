/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where members of the kernel's structures are, from its own description of its types (/sys/kernel/btf/vmlinux, Linux 5.4;
 * Documentation/bpf/btf.rst). Without libbpf, which needs 5 ms to load and to index the 130,000 types, longer than many a
 * dump: one pass takes 1 ms.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct btf_types;

/* The types of the running kernel; -ENOSYS: there is no description; -EBADMSG: it makes no sense. */
int btf_open(struct btf_types **ret);
void btf_close(struct btf_types **t);

/* The same of a description in memory, which has to stay there: for tests. */
int btf_parse(const void *data, size_t size, struct btf_types **ret);

/* ---- many members at once, in one pass ---- */

struct btf_wanted {
        const char *type, *member;
};

struct btf_place {
        int32_t offset; /* -1: there is no such structure or member, or several of that name that differ */
        uint32_t size;  /* of a number or pointer; 0: of anything else, which begins there */
};

/*
 * Fill ret[i] for wanted[i], i < n. Members of unnamed members count as the structure's own; of bit fields, the byte where they
 * begin. -ENOMEM.
 */
int btf_find_offsets(const struct btf_types *t, const struct btf_wanted *wanted, size_t n,
                     struct btf_place *ret);

/* ---- one after another ---- */

/*
 * Byte offset of `path`, a member of `struct type` or, with dots, a member of a member, unnamed ones left out:
 * ("sock", "__sk_common.skc_family", 2). `size`: the bytes that it has to have; 0: anything. false: there is
 * none such, or not in the first 32 KiB.
 */
bool btf_member(const struct btf_types *t, const char *type, const char *path, uint32_t size, int16_t *ret);

/* Size of `struct type` in bytes; 0: there is none. */
size_t btf_struct_size(const struct btf_types *t, const char *type);

/* The number of the function that programs are attached to which iterate over `target`; 0: there is none. */
uint32_t btf_hook(const struct btf_types *t, const char *target);
