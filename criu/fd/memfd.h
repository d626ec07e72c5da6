/* SPDX-License-Identifier: GPL-2.0-only */
/* memfds, for those who refer to them by other ways than a descriptor. */
#pragma once

#include "fd/kind.h"

/* Who outside of the tree has it open or mapped; 0: nobody. Looked for once, for all memfds. (foreign.c) */
pid_t memfd_foreign_holder(const struct fd_probe *p);

/* As reg_open_again(), for a file that is a memfd; the inode is made and filled at the first call. */
int memfd_open_again(struct restore *r, const struct restore_file *file, uint32_t flags,
                     struct ckpt_error *err);
