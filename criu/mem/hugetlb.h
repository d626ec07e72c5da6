/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory of hugetlbfs. */
#pragma once

#include "mem/restore.h"
#include "proc/maps.h"

/* ---- dump ---- */

/* Was it made by mmap(MAP_ANONYMOUS | MAP_HUGETLB), as its name says? */
bool hugetlb_is_anonymous(const struct proc_smap *smap);

/* The flags of mmap(2) that ask for pages as this area has them. */
uint32_t hugetlb_flags(const struct proc_smap *smap);

/* Is `dev` the kernel's own hugetlbfs with pages of this size, which nobody can mount? */
bool hugetlb_is_kernels(const struct proc_smap *smap, dev_t dev);

/* ---- restore ---- */

/* The flags and limits of an area. -EBADMSG without a message: they make no sense. */
int hugetlb_check_area(const struct restore_task *t, const Img__Vma *v, struct ckpt_error *err);

/* When all objects are known: are there enough huge pages? */
int hugetlb_check_pages(const struct restore *r, struct ckpt_error *err);
