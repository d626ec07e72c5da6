/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/unix_diag.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sock/nlmsg.h"

static int take_u32(const struct nl_attr *attr, size_t index, uint32_t *ret) {
        if (attr->len < (index + 1) * sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, (const char *)attr->data + index * sizeof(*ret), sizeof(*ret));
        return 0;
}

static int take_attribute(const struct nl_attr *attr, struct arena *arena, struct unix_diag *s) {
        int r;

        switch (attr->type) {
        case UNIX_DIAG_NAME:
                if (attr->len > sizeof(s->name))
                        return -EBADMSG;
                memcpy(s->name, attr->data, attr->len);
                s->name_len = (uint8_t)attr->len;
                return 0;
        case UNIX_DIAG_VFS:
                s->has_file = true;
                r = take_u32(attr, 0, &s->file_ino);
                return r < 0 ? r : take_u32(attr, 1, &s->file_dev);
        case UNIX_DIAG_PEER:
                s->has_peer = true;
                return take_u32(attr, 0, &s->peer);
        case UNIX_DIAG_ICONS:
                s->nr_waiting = (uint32_t)(attr->len / sizeof(uint32_t));
                s->waiting = arena_copy(arena, attr->data, s->nr_waiting * sizeof(uint32_t));
                return 0;
        case UNIX_DIAG_RQLEN:
                r = take_u32(attr, 0, &s->rqueue);
                return r < 0 ? r : take_u32(attr, 1, &s->wqueue);
        case UNIX_DIAG_SHUTDOWN:
                if (attr->len < 1)
                        return -EBADMSG;
                s->shutdown = *(const uint8_t *)attr->data & 3;
                return 0;
        default:
                return 0;
        }
}

int unix_diag_parse(const void *payload, size_t len, struct arena *arena, struct unix_diag *ret) {
        struct unix_diag_msg msg;
        struct nl_attrs attrs;
        struct nl_attr attr;
        struct unix_diag s;
        int r;

        if (len < sizeof(msg))
                return -EBADMSG;
        memcpy(&msg, payload, sizeof(msg));
        s = (struct unix_diag){ .ino = msg.udiag_ino, .type = msg.udiag_type, .state = msg.udiag_state };
        attrs = nl_attrs(payload, len, sizeof(msg));
        while ((r = nl_attrs_next(&attrs, &attr)) > 0) {
                r = take_attribute(&attr, arena, &s);
                if (r < 0)
                        return r;
        }
        if (r == 0 && s.name_len > 0 && s.name[0] != 0 && s.name[s.name_len - 1] != 0)
                return -EBADMSG;
        if (r == 0)
                *ret = s;
        return r;
}

static int take_socket(const void *payload, size_t len, void *arg) {
        struct unix_table *t = arg;
        struct unix_diag s;
        int r = unix_diag_parse(payload, len, &t->arena, &s);

        return r < 0 ? r : unix_diag_vec_push(&t->all, s);
}

static void begin_again(void *arg) {
        struct unix_table *t = arg;

        t->all.n = 0;
}

static int compare_inodes(const void *a, const void *b) {
        const struct unix_diag *x = a, *y = b;

        return (x->ino > y->ino) - (x->ino < y->ino);
}

int unix_diag_query(struct unix_table *t, struct ckpt_error *err) {
        const struct unix_diag_req req = {
                .sdiag_family = AF_UNIX,
                .udiag_states = ~0U,
                .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS |
                              UDIAG_SHOW_RQLEN,
        };
        int r;

        unix_table_done(t);
        r = nl_list_sockets(&req, sizeof(req), take_socket, begin_again, t);
        if (r < 0)
                return ckpt_error_errno(err, r,
                                        "cannot list the unix sockets of the network namespace (sock_diag)");
        if (t->all.n > 0)
                qsort(t->all.v, t->all.n, sizeof(*t->all.v), compare_inodes);
        return 0;
}

const struct unix_diag *unix_diag_find(const struct unix_table *t, uint32_t ino) {
        const struct unix_diag key = { .ino = ino };

        return t->all.n > 0 && ino != 0 ? bsearch(&key, t->all.v, t->all.n, sizeof(key), compare_inodes)
                                        : NULL;
}

void unix_table_done(struct unix_table *t) {
        unix_diag_vec_done(&t->all);
        arena_done(&t->arena);
        *t = (struct unix_table){ 0 };
}
