/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#if defined(__x86_64__)
#include "compel/arch/x86_64/arch.h"
#else
#error "compel knows no other architecture than x86-64 yet"
#endif
