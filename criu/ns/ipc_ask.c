/* SPDX-License-Identifier: GPL-2.0-only */
/* What other rooms ask about the IPC namespace of the tree. */
#include "ns/ipc_internal.h"

bool ipc_is_own(const struct dump *d) {
        return d->ipc && d->ipc->own;
}

uint32_t ipc_image_id(const struct dump *d, uint32_t other) {
        return ipc_is_own(d) ? IPC_IMAGE_ID : other;
}

bool ipc_find_segment(const struct restore *r, uint64_t id, uint64_t *ret_size) {
        for (size_t i = 0; r->ipc && i < r->ipc->segments.n; i++)
                if (r->ipc->segments.v[i].msg->desc->id == id) {
                        *ret_size = r->ipc->segments.v[i].msg->size;
                        return true;
                }
        return false;
}

bool ipc_find_sem(const struct restore *r, uint32_t id, uint32_t num, uint16_t *ret) {
        for (size_t i = 0; r->ipc && i < r->ipc->sems.n; i++) {
                const struct ipc_sems *set = &r->ipc->sems.v[i];

                if (set->msg->desc->id == id && num < set->msg->nsems) {
                        *ret = set->values[num];
                        return true;
                }
        }
        return false;
}
