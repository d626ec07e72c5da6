/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 ignore=fd.60,fd.61,fd.62,fd.63,maps dump="--ghost-fiemap --file-locks" */
/* The same deleted files when their holes are found by fiemap. */
#include "fd_deleted.c" /* NOLINT(bugprone-suspicious-include) */
