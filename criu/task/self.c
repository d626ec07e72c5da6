/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/self.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/model.h"
#include "macro.h"
#include "proc/attr.h"
#include "proc/status.h"
#include "restore/model.h"

enum { IOPRIO_WHO_PROCESS = 1 };

void task_read_cpus(pid_t tid, struct task_cpus *ret) {
        long n = syscall(SYS_sched_getaffinity, tid, sizeof(ret->bits), ret->bits);

        ret->size = n > 0 ? (uint32_t)n : 0;
}

bool task_cpus_equal(const struct task_cpus *a, const struct task_cpus *b) {
        uint32_t common = MIN(a->size, b->size);

        if (memcmp(a->bits, b->bits, common) != 0)
                return false;
        for (uint32_t i = common; i < a->size; i++)
                if (a->bits[i])
                        return false;
        for (uint32_t i = common; i < b->size; i++)
                if (b->bits[i])
                        return false;
        return true;
}

int task_read_label(const struct proc_dir *dir, char *buf, size_t size) {
        _cleanup_close_ int fd = proc_openat(dir, "attr/current", O_RDONLY);
        ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);
        int r = n < 0 && errno == EINVAL ? -EINVAL : 0;

        buf[n > 0 ? n : 0] = '\0';
        buf[strcspn(buf, "\n")] = '\0';
        return r;
}

static void read_status(const struct proc_dir *dir, struct proc_buf *buf, struct task_self *self) {
        _cleanup_proc_status_ struct proc_status status = { 0 };

        self->last_cap = 40;
        self->nr_groups = SIZE_MAX;
        self->ignored = UINT64_MAX;
        if (proc_status_read(dir, buf, &status) < 0)
                return;
        self->cap_permitted = status.cap_prm;
        self->cap_bounding = status.cap_bnd;
        self->cap_effective = status.cap_eff;
        self->cap_inheritable = status.cap_inh;
        self->cap_ambient = status.cap_amb;
        self->ignored = status.sig_ign;
        memcpy(self->uids, status.uids, sizeof(self->uids));
        memcpy(self->gids, status.gids, sizeof(self->gids));
        if (status.groups.n <= TASK_GROUPS_MAX) {
                self->nr_groups = status.groups.n;
                if (status.groups.n > 0)
                        memcpy(self->groups, status.groups.v, status.groups.n * sizeof(*self->groups));
        }
        self->no_new_privs = status.no_new_privs;
        for (self->last_cap = 0; self->last_cap < 63; self->last_cap++)
                if (prctl(PR_CAPBSET_READ, self->last_cap + 1, 0, 0, 0) < 0)
                        break;
}

static void read_policy(struct task_self *self) {
        struct sched_attributes own = { 0 }, first = { 0 };

        if (syscall(SYS_sched_getattr, 0, &own, sizeof(own), 0) < 0)
                return;
        self->slice_ns = own.runtime;
        self->nice = own.nice;
        self->plain_policy = own.policy == SCHED_OTHER && own.flags == 0 &&
                             syscall(SYS_sched_getattr, 1, &first, sizeof(first), 0) == 0 &&
                             own.runtime == first.runtime;
}

static bool has_default_mempolicy(void) {
        int mode = MPOL_DEFAULT;

        return syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0) < 0 || mode == MPOL_DEFAULT;
}

static void read_self(struct task_self *self) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        self->loginuid = UINT32_MAX;
        if (proc_open(getpid(), &dir) == 0) {
                uid_t uid;

                read_status(&dir, &buf, self);
                proc_limits_read(&dir, &buf, &self->limits);
                proc_oom_score_adj_read(&dir, &buf, &self->oom_score_adj);
                self->has_coredump_filter =
                        proc_coredump_filter_read(&dir, &buf, &self->coredump_filter) == 0;
                self->has_loginuid = proc_loginuid_read(&dir, &buf, &uid) == 0;
                if (self->has_loginuid)
                        self->loginuid = uid;
                self->no_labels = task_read_label(&dir, self->label, sizeof(self->label)) == -EINVAL;
        }
        self->personality = (uint32_t)personality(0xffffffff);
        self->timerslack_ns = (uint64_t)prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
        self->ioprio = (int)syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
        self->securebits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
        read_policy(self);
        self->default_mempolicy = has_default_mempolicy();
        task_read_cpus(0, &self->affinity);
        task_read_cpus(1, &self->machine);
        xstate_layout_read(&self->xstate);
}

/* The first who comes reads it; of two at once one is thrown away. */
static const struct task_self *get_self(struct task_self **at) {
        struct task_self *self = __atomic_load_n(at, __ATOMIC_ACQUIRE), *none = NULL;

        if (self)
                return self;
        self = calloc(1, sizeof(*self));
        ckpt_assert(self);
        read_self(self);
        if (__atomic_compare_exchange_n(at, &none, self, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                return self;
        free(self);
        return none;
}

const struct task_self *task_self_of_dump(struct dump *d) {
        return get_self(&d->self);
}

const struct task_self *task_self_of_restore(struct restore *r) {
        return get_self(&r->self);
}
