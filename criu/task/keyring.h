/* SPDX-License-Identifier: GPL-2.0-only */
/* Keys in keyrings: keyrings(7). */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * How many keys there are in a keyring that others do not have anyway: the keyrings that the kernel makes for each user, which
 * logins link to those of sessions, do not count. Read as its owner, in a thread of its own. -1: that may not be read.
 */
int keyring_count_own(int32_t serial, uid_t owner);
