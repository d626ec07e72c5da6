/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the kernel can be read what is in a page that it knows by its struct page: all memory is mapped in one piece, as are the
 * structures of its pages. Where both begin is found with a page of ckpt's own.
 */
#pragma once

#include "kernel/peek.h"

struct peek_pages {
        uint64_t page;   /* the struct page of a page of ckpt's ... */
        uint64_t number; /* ... and its number */
        uint64_t start;  /* the address of the page 0 */
};

/* -ENODATA: it is not to be found here (CAP_SYS_ADMIN for page numbers, CAP_NET_RAW). */
int peek_pages_find(struct peek *p, struct peek_pages *ret);

/* The address of the page whose struct page is at `page`. -ENODATA: none is. */
int peek_page_address(const struct peek_pages *pages, uint64_t page, uint64_t *ret);
