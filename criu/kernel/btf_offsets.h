/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where members of the kernel's structures are, from its own description of its types (/sys/kernel/btf/vmlinux, Linux 5.4).
 * One pass over it, without libbpf: 1 ms.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct btf_wanted {
        const char *type, *member;
};

struct btf_place {
        int32_t offset; /* -1: there is no such structure or member, or several of that name that differ */
        uint32_t size;  /* of a number or pointer; 0: of anything else, which begins there */
};

/*
 * Fill ret[i] for wanted[i], i < n. Members of unnamed members count as the structure's own; of bit fields, the byte where they
 * begin. -ENOSYS: this kernel has no such description; -EBADMSG: it makes no sense.
 */
int btf_find_offsets(const struct btf_wanted *wanted, size_t n, struct btf_place *ret);

/* The same for a description in memory: for tests too. */
int btf_parse_offsets(const void *data, size_t size, const struct btf_wanted *wanted, size_t n,
                      struct btf_place *ret);
