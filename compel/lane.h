/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What ckpt and the agent share: lanes and operations. A lane is a piece of memory mapped
 * by both that carries one batch of system calls at a time to one thread. This header is
 * compiled into the agent, too, so it needs nothing but fixed-width integers.
 */
#pragma once

#include <stdint.h>

/* How the result of an operation is judged. The first one that fails ends the batch. */
enum compel_check {
        COMPEL_CHECK_OK,      /* anything but -4095..-1 */
        COMPEL_CHECK_EQUAL,   /* exactly `want` */
        COMPEL_CHECK_NOTHING, /* goes on whatever comes */
};

struct compel_op {
        uint32_t nr;     /* system call number */
        uint8_t check;   /* enum compel_check */
        uint8_t refs;    /* bit i: arg[i] is the index of an earlier operation whose result is meant */
        uint8_t store;   /* 4 or 8: write the result, that wide, to store_at; 0: don't */
        uint8_t failed;  /* set by the agent when this operation ended the batch */
        uint64_t arg[6]; /* of clone3, arg[5] is the address of the lane of the new thread */
        int64_t want;
        int64_t ret; /* set by the agent */
        uint64_t store_at;
};

/* Written to compel_lane.mode before the thread enters. */
enum compel_mode {
        /* A stranger's thread: one batch for each entry. The death of ckpt leads back to its own work. */
        COMPEL_MODE_VISIT,
        /* A thread that ckpt made: batch after batch. The death of ckpt is its own. */
        COMPEL_MODE_HOST,
};

/* Which signal handlers end the system call that a visited thread was interrupted in with -EINTR. */
enum compel_intr {
        COMPEL_INTR_NONE,       /* none, or it is in no such call */
        COMPEL_INTR_ANY,        /* every one */
        COMPEL_INTR_NO_RESTART, /* those installed without SA_RESTART */
};

/* Is a guest, a thread other than the driver, in the memory of a visit? compel_lane.inside. */
enum compel_inside {
        COMPEL_INSIDE_NOBODY,
        COMPEL_INSIDE_MAYBE,  /* between two steps of ckpt, whose death there leaves it open */
        COMPEL_INSIDE_COMING, /* whatever becomes of ckpt, its registers lead to where NOBODY is stored */
        COMPEL_INSIDE_GUEST,
};

/*
 * The words at the start are futexes. `guard` is owned by a thread of ckpt as a robust futex
 * is: the kernel sets FUTEX_OWNER_DIED in it when that thread dies, however it dies.
 */
struct compel_lane {
        uint32_t command; /* counted up by ckpt: there is a new batch */
        uint32_t done;    /* the agent's answer: the last command carried out */
        uint32_t asleep;  /* the agent waits in the kernel for `command` */
        uint32_t waiting; /* ckpt waits in the kernel for `done` */
        uint32_t mode;    /* enum compel_mode */
        uint32_t nr_ops;
        uint32_t nr_done; /* operations carried out of the last batch, the failing one included */
        int32_t status;   /* 0, or the result of the failing operation */
        uint64_t ops;     /* address of struct compel_op[], as the agent sees it */
        uint64_t guard;   /* address of the guard word, as the agent sees it */

        /* Of a visit. */
        uint64_t leave;       /* where to jump when ckpt has died ... */
        uint64_t leave_arg;   /* ... with this in the first result register */
        uint64_t inside;      /* address of an enum compel_inside of 32 bits; the driver's: of all guests' */
        uint64_t sigmask;     /* the thread's own blocked signals, as bits signo - 1 */
        uint32_t intr;        /* enum compel_intr */
        uint32_t is_guest;    /* not the driver */
        uint64_t map_len;     /* driver: bytes mapped at leave_arg */
        uint32_t job_stopped; /* its process is in a job-control stop */

        uint32_t few;       /* few threads work for ckpt: waiting a little on the CPU pays */
        uint32_t nr_inside; /* of a visit, driver: guests, whose words follow each other at `inside` */
        uint32_t reserved_;
        uint64_t reserved[2];
};

/* Bytes of stack at the end of a lane, which shares its last page with data. */
#define COMPEL_LANE_STACK 2048
