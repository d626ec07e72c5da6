/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The extended processor state: the XSAVE area in the standard format, as NT_X86_XSTATE of ptrace(2) has it, and
 * its messages. Where a component stands in the area differs from CPU to CPU; CPUID leaf 0xD tells.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "images/core-x86.pb-c.h"
#include "lib/arena.h"

enum {
        XSTATE_COMPONENTS = 63,  /* bit 63 of xstate_bv is no component */
        XSTATE_SIZE_MAX = 16384, /* with AMX some 11 KiB are used */
        XSTATE_SIZE_MIN = 576,   /* legacy region and header */
};

struct xstate_layout {
        uint64_t xcr0; /* components that are there, bits 0 (x87) and 1 (SSE) among them */
        struct {
                uint32_t offset, size;
        } component[XSTATE_COMPONENTS]; /* from 2 on */
};

/* The layout of this machine. */
void xstate_layout_read(struct xstate_layout *ret);

/*
 * Turn an area of `size` bytes into its messages, which belong to the arena. -ENOTSUP with *err filled: it holds live
 * data that a restore could not set (AMX tiles), or a component that this CPU does not describe.
 */
int xstate_to_image(const struct xstate_layout *layout, const void *area, size_t size, struct arena *arena,
                    Img__UserX86Fpregs *ret, struct ckpt_error *err);

/*
 * Build the area of `size` bytes that belongs to the messages. -EBADMSG: they make no sense; -ENOTSUP: they hold
 * something that this CPU does not have.
 */
int xstate_from_image(const struct xstate_layout *layout, const Img__UserX86Fpregs *fp, void *area,
                      size_t size, struct ckpt_error *err);
