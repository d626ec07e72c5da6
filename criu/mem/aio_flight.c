/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many AIO requests of a process are in flight: nothing but the kernel's memory tells. A context has a number of slots,
 * nr_events - 1; each request takes one and leaves it when its event has been read. Free ones are counted in common and for
 * each CPU, those whose event waits to be read as completed_events.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "lib/thread.h"
#include "macro.h"
#include "mem/aio_flight.h"

enum { CONTEXTS_MAX = 4096, CPUS_MAX = 8192, TRIES = 1000 };

/* "0-3": those that could be plugged in count for the kernel. */
uint64_t aio_possible_cpus(void) {
        _cleanup_close_ int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
        char buf[256] = "", *last;

        if (fd < 0 || read_full(fd, buf, sizeof(buf) - 1) <= 0)
                return (uint64_t)MAX(1L, sysconf(_SC_NPROCESSORS_CONF));
        last = strpbrk(buf, "-,") ? buf + strlen(buf) : buf;
        while (last > buf && last[-1] != '-' && last[-1] != ',')
                last--;
        return strtoull(last, NULL, 10) + 1;
}

static int peek_u32(struct peek *p, uint64_t addr, enum peek_member m, uint32_t *ret) {
        uint64_t number = 0;
        int r = peek_wrapped(p, addr, m, sizeof(*ret), &number);

        if (r == 0)
                *ret = (uint32_t)number;
        return r;
}

/* How the counts for each CPU are found. */
struct cpus {
        uint64_t base; /* peek_cpu_base() */
        unsigned int n;
};

static int find_cpus(struct peek *p, struct cpus *ret) {
        ret->n = (unsigned int)MIN(aio_possible_cpus(), (uint64_t)CPUS_MAX);
        return peek_cpu_base(p, &ret->base);
}

static int add_free_of_cpus(struct peek *p, const struct cpus *cpus, uint64_t ctx, uint64_t *sum) {
        uint64_t all, its, own = 0;
        int r;

        r = peek_number(p, ctx, PEEK_kioctx__cpu, &all);
        for (unsigned int i = 0; r == 0 && i < cpus->n; i++) {
                r = peek_per_cpu(p, cpus->base, all, i, &its);
                if (r == 0)
                        r = peek_number(p, its, PEEK_kioctx_cpu__reqs_available, &own);
                *sum += own;
        }
        return r;
}

struct slots {
        uint64_t all, unused, of_cpus, completed;
};

static int read_slots(struct peek *p, const struct cpus *cpus, uint64_t ctx, struct slots *ret) {
        uint32_t events = 0, common = 0, completed = 0;
        int r;

        r = peek_u32(p, ctx, PEEK_kioctx__nr_events, &events);
        if (r == 0)
                r = peek_u32(p, ctx, PEEK_kioctx__reqs_available, &common);
        if (r == 0)
                r = peek_u32(p, ctx, PEEK_kioctx__completed_events, &completed);
        if (r == 0 && events == 0)
                r = -ENODATA;
        *ret = (struct slots){ .all = (uint64_t)events - 1, .unused = common, .completed = completed };
        return r < 0 ? r : add_free_of_cpus(p, cpus, ctx, &ret->of_cpus);
}

/*
 * An interrupt that ends a request may at the same time move slots of events that were read from one count to another, and one
 * that is moved would be missed or counted twice: what comes out twice in a row was true.
 */
static int read_slots_at_once(struct peek *p, const struct cpus *cpus, uint64_t ctx, struct slots *ret) {
        struct slots before = { 0 };

        for (unsigned int i = 0; i < TRIES; i++) {
                int r = read_slots(p, cpus, ctx, ret);

                if (r < 0)
                        return r;
                if (i > 0 && memcmp(&before, ret, sizeof(before)) == 0)
                        return 0;
                before = *ret;
        }
        return -ENODATA;
}

static int add_context(struct peek *p, const struct cpus *cpus, uint64_t ctx, struct aio_flight *ret) {
        uint64_t list, next = 0, idle;
        struct slots s;
        int r;

        r = read_slots_at_once(p, cpus, ctx, &s);
        if (r == 0)
                r = peek_place(p, ctx, PEEK_kioctx__active_reqs, &list);
        if (r == 0)
                r = peek_bytes(p, list, &next, sizeof(next));
        if (r < 0)
                return r;
        idle = s.unused + s.of_cpus + s.completed;
        if (idle > s.all)
                return -ENODATA;
        ret->n += s.all - idle;
        ret->waiting |= next != list;
        return 0;
}

static int read_table(struct peek *p, uint64_t mm, struct aio_flight *ret) {
        uint64_t table = 0, at, contexts[64];
        struct cpus cpus;
        uint32_t n = 0;
        int r;

        r = peek_number(p, mm, PEEK_mm_struct__ioctx_table, &table);
        if (r < 0 || table == 0)
                return r;
        r = peek_u32(p, table, PEEK_kioctx_table__nr, &n);
        if (r == 0 && n > CONTEXTS_MAX)
                r = -ENODATA;
        if (r == 0)
                r = find_cpus(p, &cpus);
        if (r == 0)
                r = peek_place(p, table, PEEK_kioctx_table__table, &at);
        for (uint32_t i = 0; r == 0 && i < n; i += ELEMENTSOF(contexts)) {
                uint32_t some = MIN(n - i, (uint32_t)ELEMENTSOF(contexts));

                r = peek_bytes(p, at + i * sizeof(*contexts), contexts, some * sizeof(*contexts));
                for (uint32_t k = 0; r == 0 && k < some; k++)
                        if (contexts[k] != 0)
                                r = add_context(p, &cpus, contexts[k], ret);
        }
        return r;
}

static int count(struct peek *p, int proc_fd, struct aio_flight *ret) {
        struct aio_flight found = { 0 };
        uint64_t task, mm = 0;
        int r;

        r = peek_task(p, proc_fd, &task);
        if (r == 0)
                r = peek_number(p, task, PEEK_task_struct__mm, &mm);
        if (r == 0)
                r = read_table(p, mm, &found);
        if (r == 0)
                *ret = found;
        return r;
}

static void *destroy(void *ctx) {
        syscall(SYS_io_destroy, (aio_context_t)(uintptr_t)ctx);
        return NULL;
}

/* To end a context is to wait for a grace period of RCU, some 30 ms; the end of ckpt would wait as well. So it is begun at once. */
static void destroy_beside(const aio_context_t *ctx) {
        pthread_t thread;

        if (*ctx != 0 && thread_start(&thread, destroy, (void *)(uintptr_t)*ctx) == 0)
                pthread_detach(thread);
}

/* Does it work on a request that is known? One of ckpt's waits for an event, and then the event is there. */
static bool prove(struct peek *p, void *arg __attribute__((unused))) {
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
        _cleanup_(destroy_beside) aio_context_t ctx = 0;
        struct iocb cb = { .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = (uint32_t)fd, .aio_buf = POLLIN };
        struct aio_flight before, flying = { 0 }, after;
        struct iocb *list = &cb;
        const uint64_t one = 1;

        if (fd < 0 || proc_open(getpid(), &self) < 0 || syscall(SYS_io_setup, 1, &ctx) < 0)
                return false;
        return count(p, self.fd, &before) == 0 && before.n == 0 && !before.waiting &&
               syscall(SYS_io_submit, ctx, 1, &list) == 1 && count(p, self.fd, &flying) == 0 &&
               flying.n == 1 && flying.waiting && write(fd, &one, sizeof(one)) == sizeof(one) &&
               count(p, self.fd, &after) == 0 && after.n == 0 && !after.waiting;
}

int aio_flight_read(struct dump_task *t, struct aio_flight *ret) {
        struct peek *p = dump_peek_for(t->dump, DUMP_PEEK_AIO, prove, NULL);
        const struct proc_dir *dir = dump_living(t);
        int r = !p ? -ENODATA : t->nr_threads > 0 ? dump_thread_proc(&t->threads[0], &dir) : 0;

        return r < 0 ? r : count(p, dir->fd, ret);
}
