/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#define CKPT_VERSION "0.1"
