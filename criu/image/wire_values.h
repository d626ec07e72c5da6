/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers of the format that are no protobuf enums. */
#pragma once

/* TaskCore.task_state */
enum {
        WIRE_TASK_ALIVE = 1,
        WIRE_TASK_DEAD = 2,
        WIRE_TASK_STOPPED = 3,
};
