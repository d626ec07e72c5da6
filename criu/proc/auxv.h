/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/auxv: the auxiliary vector that the kernel keeps for a process */
#pragma once

#include <stdint.h>

#include "proc/proc.h"

/* Type and value in turn, as PR_SET_MM_AUXV takes them, up to and without the AT_NULL pair. */
DEFINE_VEC(proc_auxv_vec, uint64_t);

/*
 * Parse the bytes of an auxv file: pairs of 64-bit words, ended by AT_NULL. *ret is replaced
 * on success; n counts words, two per entry. -EBADMSG: no AT_NULL, or a size that is no multiple of 16.
 */
int proc_auxv_parse(const char *data, size_t len, struct proc_auxv_vec *ret);

/* Read and parse `auxv`. Zombies and kernel threads have none: an empty vector. */
int proc_auxv_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_auxv_vec *ret);

/* The value of a type (AT_SYSINFO_EHDR, AT_BASE, ...). -ENOENT: not in the vector. */
int proc_auxv_find(const struct proc_auxv_vec *vec, uint64_t type, uint64_t *ret);
