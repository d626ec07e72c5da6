/* SPDX-License-Identifier: GPL-2.0-only */
/* The limits of an IPC namespace: /proc/sys shows those of the namespace that its reader is in. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "ns/ipc_internal.h"
#include "proc/scan.h"

enum { SEM_CTLS = 4 }; /* SEMMSL SEMMNS SEMOPM SEMMNI */

/* A file with one number. */
struct row {
        const char *path; /* below /proc/sys */
        size_t offset;    /* of the field */
        size_t has;       /* of its has_ field; 0: it is required */
        bool wide;        /* 64 bits */
        bool lacking;     /* some kernels are built without */
        uint64_t min;     /* what is below cannot be set: it stands for nothing */
};

#define FIELD(f)    .offset = offsetof(Img__IpcVar, f)
#define OPTIONAL(f) FIELD(f), .has = offsetof(Img__IpcVar, has_##f)

static const struct row rows[] = {
        { "kernel/msgmax", FIELD(msg_ctlmax) },
        { "kernel/msgmnb", FIELD(msg_ctlmnb) },
        { "kernel/msgmni", FIELD(msg_ctlmni) },
        { "kernel/auto_msgmni", FIELD(auto_msgmni), .lacking = true },
        { "kernel/shmmax", FIELD(shm_ctlmax), .wide = true },
        { "kernel/shmall", FIELD(shm_ctlall), .wide = true },
        { "kernel/shmmni", FIELD(shm_ctlmni) },
        { "kernel/shm_rmid_forced", FIELD(shm_rmid_forced) },
        { "fs/mqueue/queues_max", FIELD(mq_queues_max), .lacking = true },
        { "fs/mqueue/msg_max", FIELD(mq_msg_max), .lacking = true, .min = 1 },
        { "fs/mqueue/msgsize_max", FIELD(mq_msgsize_max), .lacking = true, .min = 1 },
        { "fs/mqueue/msg_default", OPTIONAL(mq_msg_default), .lacking = true, .min = 1 },
        { "fs/mqueue/msgsize_default", OPTIONAL(mq_msgsize_default), .lacking = true, .min = 1 },
};

static uint64_t get_field(const Img__IpcVar *var, const struct row *row) {
        const char *at = (const char *)var + row->offset;

        return row->wide ? *(const uint64_t *)at : *(const uint32_t *)at;
}

static void set_field(Img__IpcVar *var, const struct row *row, uint64_t value) {
        char *at = (char *)var + row->offset;

        if (row->wide)
                *(uint64_t *)at = value;
        else
                *(uint32_t *)at = (uint32_t)value;
        if (row->has)
                *(protobuf_c_boolean *)((char *)var + row->has) = true;
}

static int open_sysctl(const char *path, int flags) {
        char name[80];
        int fd;

        snprintf(name, sizeof(name), "/proc/sys/%s", path);
        fd = open(name, flags | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Up to `n` numbers. */
static int read_sysctl(const char *path, uint64_t *ret, size_t n) {
        _cleanup_close_ int fd = open_sysctl(path, O_RDONLY);
        char text[128];
        struct scan s;
        ssize_t len;

        if (fd < 0)
                return fd;
        len = read_full(fd, text, sizeof(text));
        if (len < 0)
                return (int)len;
        s = scan_text(text, (size_t)len);
        for (size_t i = 0; i < n; i++) {
                scan_blanks(&s);
                if (!scan_u64(&s, &ret[i]))
                        return -EBADMSG;
        }
        return 0;
}

static int write_sysctl(const char *path, const uint64_t *values, size_t n, struct ckpt_error *err) {
        _cleanup_close_ int fd = open_sysctl(path, O_WRONLY);
        char text[128];
        size_t len = 0;
        int r = fd;

        for (size_t i = 0; i < n; i++)
                len += (size_t)snprintf(text + len, sizeof(text) - len, "%" PRIu64 "%c", values[i],
                                        i + 1 < n ? ' ' : '\n');
        if (fd >= 0)
                r = write_full(fd, text, len);
        if (r >= 0)
                return 0;
        text[len - 1] = '\0';
        return ckpt_error_errno(err, r, "cannot set /proc/sys/%s to %s in the new IPC namespace", path,
                                text);
}

/* ---- dump ---- */

static int read_failed(const char *path, int r, struct ckpt_error *err) {
        return ckpt_error_errno(
                err, r, "cannot read /proc/sys/%s in the IPC namespace of the tree; it runs on", path);
}

int ipc_var_save(struct dump *d, struct ckpt_error *err) {
        Img__IpcVar var = IMG__IPC_VAR__INIT;
        uint64_t sem[SEM_CTLS] = { 0 }, value;
        uint32_t sem_ctls[SEM_CTLS];
        int r;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                r = read_sysctl(rows[i].path, &value, 1);
                if (r == -ENOENT && rows[i].lacking)
                        continue;
                if (r < 0)
                        return read_failed(rows[i].path, r, err);
                set_field(&var, &rows[i], value);
        }
        r = read_sysctl("kernel/sem", sem, SEM_CTLS);
        if (r < 0)
                return read_failed("kernel/sem", r, err);
        for (size_t i = 0; i < SEM_CTLS; i++)
                sem_ctls[i] = (uint32_t)sem[i];
        var.sem_ctls = sem_ctls;
        var.n_sem_ctls = SEM_CTLS;
        return image_store(d->set, IMAGE_IPC_VAR, IPC_IMAGE_ID, &var.base, err);
}

/* ---- load ---- */

int ipc_var_load(struct restore *r, struct ckpt_error *err) {
        struct restore_ipc *ipc = r->ipc;
        int ret;

        ret = image_load(r->dir, IMAGE_IPC_VAR, ipc->id, 0, &img__ipc_var__descriptor, &ipc->var, err);
        if (ret < 0)
                return ret;
        if (ipc->var->n_sem_ctls != SEM_CTLS)
                return ckpt_error(err, -EBADMSG,
                                  "ipcns-var-%u.img is damaged: it has %zu limits of semaphores, not %d",
                                  ipc->id, ipc->var->n_sem_ctls, SEM_CTLS);
        for (size_t i = 0; i < SEM_CTLS; i++)
                if (ipc->var->sem_ctls[i] > INT32_MAX)
                        return ckpt_error(err, -EBADMSG,
                                          "ipcns-var-%u.img is damaged: a limit of semaphores is impossible",
                                          ipc->id);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (!rows[i].wide && get_field(ipc->var, &rows[i]) > INT32_MAX)
                        return ckpt_error(err, -EBADMSG,
                                          "ipcns-var-%u.img is damaged: the value of %s is impossible",
                                          ipc->id, rows[i].path);
        return 0;
}

/* ---- restore ---- */

/* What the objects need, whatever the limits were when the tree was dumped: they apply to new objects only. */
struct needs {
        uint64_t sem[SEM_CTLS];
        uint64_t msgmax, msgmnb, msgmni;
        uint64_t shmmax, shmall, shmmni;
};

static void add_needs(const struct restore_ipc *ipc, struct needs *n) {
        *n = (struct needs){ .msgmni = ipc->queues.n, .shmmni = ipc->segments.n };
        n->sem[3] = ipc->sems.n;
        for (size_t i = 0; i < ipc->sems.n; i++) {
                n->sem[0] = MAX(n->sem[0], (uint64_t)ipc->sems.v[i].msg->nsems);
                n->sem[1] += ipc->sems.v[i].msg->nsems;
        }
        for (size_t i = 0; i < ipc->segments.n; i++) {
                n->shmmax = MAX(n->shmmax, ipc->segments.v[i].msg->size);
                n->shmall += page_align_up(ipc->segments.v[i].msg->size) / PAGE_SIZE;
        }
        for (size_t i = 0; i < ipc->queues.n; i++) {
                const struct ipc_queue *q = &ipc->queues.v[i];
                uint64_t bytes = 0;

                for (size_t j = 0; j < q->messages.n; j++) {
                        n->msgmax = MAX(n->msgmax, (uint64_t)q->messages.v[j].msg->msize);
                        bytes += q->messages.v[j].msg->msize;
                }
                n->msgmnb = MAX(n->msgmnb, bytes);
                n->msgmnb = MAX(n->msgmnb, (uint64_t)q->msg->qbytes);
                n->msgmnb = MAX(n->msgmnb, (uint64_t)q->messages.n); /* a byte for each that has none */
        }
}

static int raise_to(const char *path, const uint64_t *need, size_t n, struct ckpt_error *err) {
        uint64_t now[SEM_CTLS];
        bool enough = true;
        int r = read_sysctl(path, now, n);

        if (r < 0)
                return ckpt_error_errno(err, r, "cannot read /proc/sys/%s in the new IPC namespace", path);
        for (size_t i = 0; i < n; i++) {
                enough = enough && now[i] >= need[i];
                now[i] = MAX(now[i], need[i]);
        }
        return enough ? 0 : write_sysctl(path, now, n, err);
}

int ipc_var_raise(const struct restore_ipc *ipc, struct ckpt_error *err) {
        struct needs n;
        int r;

        add_needs(ipc, &n);
        r = raise_to("kernel/sem", n.sem, SEM_CTLS, err);
        if (r == 0)
                r = raise_to("kernel/msgmax", &n.msgmax, 1, err);
        if (r == 0)
                r = raise_to("kernel/msgmnb", &n.msgmnb, 1, err);
        if (r == 0)
                r = raise_to("kernel/msgmni", &n.msgmni, 1, err);
        if (r == 0)
                r = raise_to("kernel/shmmax", &n.shmmax, 1, err);
        if (r == 0)
                r = raise_to("kernel/shmall", &n.shmall, 1, err);
        return r < 0 ? r : raise_to("kernel/shmmni", &n.shmmni, 1, err);
}

static int set_row(const struct restore_ipc *ipc, const struct row *row, struct ckpt_error *err) {
        uint64_t value = get_field(ipc->var, row), now;
        int r;

        if (value < row->min)
                return 0;
        r = read_sysctl(row->path, &now, 1);
        if (r == -ENOENT && row->lacking)
                return 0;
        if (r == 0 && now == value)
                return 0;
        return write_sysctl(row->path, &value, 1, err);
}

int ipc_var_restore(const struct restore_ipc *ipc, struct ckpt_error *err) {
        uint64_t sem[SEM_CTLS];
        int r = 0;

        for (size_t i = 0; i < SEM_CTLS; i++)
                sem[i] = ipc->var->sem_ctls[i];
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(rows); i++)
                r = set_row(ipc, &rows[i], err);
        return r < 0 ? r : write_sysctl("kernel/sem", sem, SEM_CTLS, err);
}

int ipc_var_next_id(const char *name, uint32_t id) {
        _cleanup_close_ int fd = open_sysctl(name, O_WRONLY);
        char text[16];
        int n;

        if (fd < 0)
                return fd;
        n = snprintf(text, sizeof(text), "%u\n", id);
        return write_full(fd, text, (size_t)n);
}
