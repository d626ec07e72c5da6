/* SPDX-License-Identifier: GPL-2.0-only */
/* The linked agent, as bytes. */
        .section .rodata
        .balign 16
        .globl compel_blob, compel_blob_end
compel_blob:
        .incbin "agent.bin"
compel_blob_end:
        .section .note.GNU-stack, "", @progbits
