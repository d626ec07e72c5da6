/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interfaces of the kernel that are newer than the headers of Debian 12 (Linux 6.1), beyond
 * kernel/uapi.h.
 */
#pragma once

#include "kernel/uapi.h"

#ifndef PR_GET_MDWE /* 6.3 */
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef SYS_set_mempolicy_home_node /* 5.17 */
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef PR_GET_AUXV /* 6.4 */
#define PR_GET_AUXV 0x41555856
#endif
#ifndef PR_SET_VMA /* 5.17 */
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
