/* SPDX-License-Identifier: GPL-2.0-only */
/* The System V objects of the tree's IPC namespace: read, shown to people, and as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <sys/shm.h>

#include "images/ipc.pb-c.h"
#include "inspect/model.h"
#include "inspect/text.h"
#include "macro.h"

enum { OBJECTS_SHOWN = 20 };

static const struct {
        const char *name, *json, *unit, *units;
} sorts[] = {
        [IPC_OBJECT_SHM] = { "memory", "shared_memory", NULL, NULL },
        [IPC_OBJECT_SEM] = { "semaphores", "semaphores", "semaphore", "semaphores" },
        [IPC_OBJECT_MSG] = { "queue", "message_queue", "message", "messages" },
};

/* ---- loading ---- */

static int add(struct inspect *in, enum ipc_object_sort sort, const Img__IpcDesc *desc, uint64_t amount) {
        struct ipc_object *o = ipc_object_vec_add(&in->ipc);

        if (!o)
                return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
        *o = (struct ipc_object){ sort, desc->id, desc->key, desc->mode, desc->uid, desc->gid, amount };
        return 0;
}

static uint64_t padded(uint64_t size) {
        return (size + 7) & ~7ULL;
}

static int read_segment(struct inspect *in, struct image_file *file) {
        _cleanup_image_message_ Img__IpcShm *msg = NULL;
        int r = image_read(file, &img__ipc_shm__descriptor, &msg, in->err);

        if (r <= 0)
                return r;
        if (msg->size > UINT64_MAX - 8)
                return image_damaged(file, in->err, "a segment has an impossible size");
        r = add(in, IPC_OBJECT_SHM, msg->desc, msg->size);
        if (r == 0 && !(msg->has_in_pagemaps && msg->in_pagemaps))
                r = inspect_skip_raw(in, file, padded(msg->size));
        return r < 0 ? r : 1;
}

static int read_set(struct inspect *in, struct image_file *file) {
        _cleanup_image_message_ Img__IpcSem *msg = NULL;
        int r = image_read(file, &img__ipc_sem__descriptor, &msg, in->err);

        if (r <= 0)
                return r;
        r = add(in, IPC_OBJECT_SEM, msg->desc, msg->nsems);
        if (r == 0)
                r = inspect_skip_raw(in, file, padded(2ULL * msg->nsems));
        return r < 0 ? r : 1;
}

static int read_queue(struct inspect *in, struct image_file *file) {
        _cleanup_image_message_ Img__IpcMsg *msg = NULL;
        int r = image_read(file, &img__ipc_msg__descriptor, &msg, in->err);

        if (r <= 0)
                return r;
        r = add(in, IPC_OBJECT_MSG, msg->desc, msg->qnum);
        for (uint32_t i = 0; r == 0 && i < msg->qnum; i++) {
                _cleanup_image_message_ Img__IpcMessage *m = NULL;

                r = image_read_expected(file, &img__ipc_message__descriptor, &m, in->err);
                if (r == 0)
                        r = inspect_skip_raw(in, file, padded(m->msize));
        }
        return r < 0 ? r : 1;
}

static int load_sort(struct inspect *in, enum image_kind kind, uint32_t id,
                     int (*read)(struct inspect *in, struct image_file *file)) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(in->dir, kind, id, IMAGE_OPTIONAL, &file, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        do
                r = read(in, file);
        while (r > 0);
        return r;
}

int inspect_load_ipc(struct inspect *in) {
        const Img__TaskKobjIds *root = image_dir_inventory(in->dir)->root_ids;
        const Img__TaskKobjIds *ids = in->tasks.n > 0 ? in->tasks.v[0].ids : NULL;
        int r;

        if (!ids || !ids->has_ipc_ns_id ||
            (root && root->has_ipc_ns_id && root->ipc_ns_id == ids->ipc_ns_id))
                return 0;
        r = load_sort(in, IMAGE_IPCNS_SHM, ids->ipc_ns_id, read_segment);
        if (r == 0)
                r = load_sort(in, IMAGE_IPCNS_SEM, ids->ipc_ns_id, read_set);
        return r < 0 ? r : load_sort(in, IMAGE_IPCNS_MSG, ids->ipc_ns_id, read_queue);
}

/* ---- showing ---- */

void inspect_print_ipc(FILE *out, const struct inspect *in, bool all) {
        size_t shown = all ? in->ipc.n : MIN(in->ipc.n, (size_t)OBJECTS_SHOWN);

        if (in->ipc.n == 0)
                return;
        fputs("\nSystem V objects\n", out);
        for (size_t i = 0; i < shown; i++) {
                const struct ipc_object *o = &in->ipc.v[i];
                char text[SIZE_TEXT_MAX];

                fprintf(out, "  %-10s id %u, key %#x, mode %#o, owner %u:%u, ", sorts[o->sort].name, o->id,
                        o->key, o->mode & 0777, o->uid, o->gid);
                if (o->sort == IPC_OBJECT_SHM)
                        fprintf(out, "%s%s\n", size_text(o->amount, text),
                                o->mode & SHM_DEST ? ", removed" : "");
                else
                        fprintf(out, "%" PRIu64 " %s\n", o->amount,
                                o->amount == 1 ? sorts[o->sort].unit : sorts[o->sort].units);
        }
        if (shown < in->ipc.n)
                fprintf(out, "  ... and %zu more objects; -v lists them all\n", in->ipc.n - shown);
}

void inspect_json_ipc(struct json *j, const struct inspect *in) {
        json_array(j, "ipc_objects");
        for (size_t i = 0; i < in->ipc.n; i++) {
                const struct ipc_object *o = &in->ipc.v[i];

                json_object(j, NULL);
                json_string(j, "type", sorts[o->sort].json);
                json_uint(j, "id", o->id);
                json_uint(j, "key", o->key);
                json_uint(j, "mode", o->mode & 0777);
                json_uint(j, "uid", o->uid);
                json_uint(j, "gid", o->gid);
                json_uint(j, o->sort == IPC_OBJECT_SHM ? "bytes" : sorts[o->sort].units, o->amount);
                json_end_object(j);
        }
        json_end_array(j);
}
