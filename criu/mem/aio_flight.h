/* SPDX-License-Identifier: GPL-2.0-only */
/* AIO requests that have been submitted and have not ended. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dump/model.h"

struct aio_flight {
        uint64_t n;
        bool waiting; /* some may never end, as IOCB_CMD_POLL */
};

/* Of all contexts of a frozen process. -ENODATA: it cannot be seen here. */
int aio_flight_read(struct dump_task *t, struct aio_flight *ret);

/* Number of CPUs that the kernel has prepared for, plugged in or not. */
uint64_t aio_possible_cpus(void);
