/* SPDX-License-Identifier: GPL-2.0-only */
/* Message queues of an IPC namespace. Messages are read by MSG_COPY (Linux 3.8), which leaves them in the queue. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "cleanup.h"
#include "macro.h"
#include "ns/ipc_internal.h"

#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

static size_t padded(size_t size) {
        return (size + 7) & ~(size_t)7;
}

/* What msgsnd(2) and msgrcv(2) take. */
struct buffer {
        long type;
        char text[];
};

/* ---- dump ---- */

static int read_failed(int id, size_t i, int r, struct ckpt_error *err) {
        if (r != -EINVAL)
                return ckpt_error_errno(
                        err, r, "cannot read message %zu of the queue with id %d; the tree runs on", i, id);
        /* The kernel makes no copies beyond the limit; raising it here could outlive us. */
        ckpt_error(
                err, -ENOTSUP,
                "message %zu of the message queue with id %d is larger than kernel.msgmax, which was lowered, "
                "and cannot be read; the tree runs on",
                i, id);
        return ckpt_error_hint(err, "Raise kernel.msgmax in the IPC namespace of the tree (nsenter --ipc)");
}

static int save_messages(int id, const struct msqid_ds *ds, struct image_file *file,
                         struct ckpt_error *err) {
        size_t room = ds->__msg_cbytes; /* of one message: at most all of them */
        _cleanup_free_ struct buffer *buf = calloc(1, sizeof(*buf) + room + 8);
        int r = 0;

        if (!buf)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        for (size_t i = 0; r == 0 && i < ds->msg_qnum; i++) {
                Img__IpcMessage msg = IMG__IPC_MESSAGE__INIT;
                ssize_t n = msgrcv(id, buf, room, (long)i, MSG_COPY | IPC_NOWAIT);

                if (n < 0)
                        return read_failed(id, i, -errno, err);
                msg.mtype = (uint64_t)buf->type;
                msg.msize = (uint32_t)n;
                memset(buf->text + n, 0, padded((size_t)n) - (size_t)n);
                r = image_write(file, &msg.base, err);
                if (r == 0)
                        r = image_write_raw(file, buf->text, padded((size_t)n), err);
        }
        return r;
}

static int save_queue(struct dump *d, int id, const struct msqid_ds *ds, struct image_file *file,
                      struct ckpt_error *err) {
        Img__IpcMsg msg = IMG__IPC_MSG__INIT;
        int r;

        msg.desc = ipc_describe(d, &ds->msg_perm, id);
        msg.qbytes = (uint32_t)ds->msg_qbytes;
        msg.qnum = (uint32_t)ds->msg_qnum;
        r = image_write(file, &msg.base, err);
        return r < 0 ? r : save_messages(id, ds, file, err);
}

int ipc_msg_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct msginfo info;
        int last = msgctl(0, MSG_INFO, (struct msqid_ds *)&info), r;

        r = image_open_write(d->set, IMAGE_IPCNS_MSG, IPC_IMAGE_ID, &file, err);
        for (int i = 0; r == 0 && i <= last; i++) {
                struct msqid_ds ds;
                int id = msgctl(i, MSG_STAT_ANY, &ds);

                if (id < 0 && (errno == EINVAL || errno == EIDRM))
                        continue; /* an empty slot */
                if (id < 0)
                        return ckpt_error_errno(err, -errno,
                                                "cannot look at the message queues of the IPC namespace");
                r = save_queue(d, id, &ds, file, err);
        }
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

/* ---- load ---- */

static int check_queue(const struct restore_ipc *ipc, const struct image_file *file, const Img__IpcMsg *msg,
                       struct ckpt_error *err) {
        int r = ipc_check_desc(file, msg->desc, IPC_MODE_MASK, err);

        if (r < 0)
                return r;
        if (msg->qbytes > INT32_MAX)
                return image_damaged(file, err, "the queue with id %u has the impossible limit of %u bytes",
                                     msg->desc->id, msg->qbytes);
        for (size_t i = 0; i < ipc->queues.n; i++)
                if (ipc->queues.v[i].msg->desc->id == msg->desc->id ||
                    (msg->desc->key != IPC_PRIVATE && ipc->queues.v[i].msg->desc->key == msg->desc->key))
                        return image_damaged(file, err, "the id %u or its key is there twice",
                                             msg->desc->id);
        return 0;
}

static int read_message(struct image_file *file, struct ipc_queue *q, struct ckpt_error *err) {
        _cleanup_image_message_ Img__IpcMessage *msg = NULL;
        struct ipc_message *m;
        int r;

        r = image_read_expected(file, &img__ipc_message__descriptor, &msg, err);
        if (r < 0)
                return r;
        if (msg->mtype == 0 || msg->mtype > INT64_MAX || msg->msize > INT32_MAX ||
            padded(msg->msize) > image_remaining(file))
                return image_damaged(file, err, "a message of the queue with id %u is impossible",
                                     q->msg->desc->id);
        m = ipc_message_vec_add(&q->messages);
        ckpt_assert(m);
        m->data = malloc(padded(msg->msize) + 1);
        ckpt_assert(m->data);
        m->msg = TAKE_PTR(msg);
        return image_read_raw(file, m->data, padded(m->msg->msize), err);
}

static int take_queue(void *ctx, struct image_file *file, void **message, struct ckpt_error *err) {
        struct restore_ipc *ipc = ctx;
        struct ipc_queue *q;
        int r;

        r = check_queue(ipc, file, *message, err);
        if (r < 0)
                return r;
        q = ipc_queue_vec_add(&ipc->queues);
        ckpt_assert(q);
        q->msg = TAKE_PTR(*message);
        for (uint32_t i = 0; r == 0 && i < q->msg->qnum; i++)
                r = read_message(file, q, err);
        return r;
}

int ipc_msg_load(struct restore *r, struct ckpt_error *err) {
        return image_each(r->dir, IMAGE_IPCNS_MSG, r->ipc->id, IMAGE_OPTIONAL, &img__ipc_msg__descriptor,
                          take_queue, r->ipc, err);
}

static void free_messages(struct ipc_queue *q) {
        for (size_t i = 0; i < q->messages.n; i++) {
                img__ipc_message__free_unpacked(q->messages.v[i].msg, NULL);
                free(q->messages.v[i].data);
        }
        ipc_message_vec_done(&q->messages);
}

void ipc_msg_free(struct restore_ipc *ipc) {
        for (size_t i = 0; i < ipc->queues.n; i++) {
                free_messages(&ipc->queues.v[i]);
                img__ipc_msg__free_unpacked(ipc->queues.v[i].msg, NULL);
        }
        ipc_queue_vec_done(&ipc->queues);
}

/* ---- restore ---- */

static int get(void *arg) {
        const Img__IpcMsg *msg = arg;
        int id =
                msgget((key_t)msg->desc->key, IPC_CREAT | IPC_EXCL | (int)(msg->desc->mode & IPC_MODE_MASK));

        if (id >= 0 && (uint32_t)id != msg->desc->id) {
                errno = EEXIST;
                return -1;
        }
        return id;
}

static int send_message(int id, const struct ipc_message *m) {
        _cleanup_free_ struct buffer *buf = malloc(sizeof(*buf) + m->msg->msize);

        if (!buf)
                return -ENOMEM;
        buf->type = (long)m->msg->mtype;
        memcpy(buf->text, m->data, m->msg->msize);
        return msgsnd(id, buf, m->msg->msize, IPC_NOWAIT) < 0 ? -errno : 0;
}

static int make_queue(const struct ipc_queue *q, struct ckpt_error *err) {
        int id = (int)q->msg->desc->id, r;
        struct msqid_ds ds = { 0 };

        r = ipc_make(q->msg->desc, "kernel/msg_next_id", "message queue", get, q->msg, err);
        if (r < 0)
                return r;
        /* The queue took the limit of the namespace, which is large enough as long as it is being filled. */
        for (size_t i = 0; i < q->messages.n; i++) {
                r = send_message(id, &q->messages.v[i]);
                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot put message %zu into the queue with id %d",
                                                i, id);
        }
        ipc_owner(q->msg->desc, &ds.msg_perm);
        ds.msg_qbytes = q->msg->qbytes;
        if (msgctl(id, IPC_SET, &ds) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot set owner and limit of the message queue with id %d", id);
        return 0;
}

int ipc_msg_make(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->ipc->queues.n; i++)
                ret = make_queue(&r->ipc->queues.v[i], err);
        return ret;
}
