/* SPDX-License-Identifier: GPL-2.0-only */
/* The end of a dump: the images become the checkpoint, and then the tree is killed or goes on. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "dump/stages.h"
#include "images/inventory.pb-c.h"
#include "cleanup.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "sock/sock.h"

/* Steps of image_set_commit() that have a fault point of their own. A hook cannot fail. */
static void pass_step(void *userdata __attribute__((unused)), const char *step) {
        if (strcmp(step, "committed") == 0)
                fault_point(FAULT_DUMP_COMMIT_HALF);
        else if (strcmp(step, "inventory-moved") == 0)
                fault_point(FAULT_DUMP_COMMIT_RENAMED);
}

const struct image_hooks dump_image_hooks = { .step = pass_step };

int commit(struct dump *d, struct ckpt_error *err) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__TaskKobjIds root_ids = IMG__TASK_KOBJ_IDS__INIT;
        int r;

        /* Those of the dumping process; a task with other ones has namespaces of its own. */
        collect_namespace_ids(&root_ids);
        inventory.root_ids = &root_ids;
        inventory.has_lsmtype = true;
        inventory.lsmtype = IMG__LSMTYPE__NO_LSM;
        inventory.has_dump_uptime = true;
        inventory.dump_uptime = clock_us(CLOCK_BOOTTIME);
        r = fault_point_error(FAULT_DUMP_BEFORE_COMMIT, err);
        if (r == 0)
                r = image_set_commit(d->set, &inventory, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_COMMITTED, err);
        return r;
}

/* SIGSTOP takes effect when ptrace lets go of the first thread, which thaw() waits for. */
static void stop_tree(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->nr_threads > 0 && d->tasks[i]->state != 'T') {
                        kill(d->tasks[i]->pid, SIGSTOP);
                        d->tasks[i]->state = 'T';
                }
}

int dispose(struct dump *d, struct ckpt_error *err) {
        int r;

        if (!d->opts->leave_running && !d->opts->leave_stopped)
                return kill_tree(d, err);
        r = fault_point_error(FAULT_DUMP_BEFORE_RESUME, err);
        if (d->opts->leave_stopped)
                stop_tree(d);
        sock_undo(d);
        thaw(d);
        return r;
}
