/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/nlmsg.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"

enum { ANSWER_SIZE = 64 << 10, TRIES = 8 };

/* One datagram of the answer. 1: the last one. */
static int take_datagram(const char *buf, size_t size, nl_take *take, void *arg) {
        bool interrupted = false;
        int r;

        for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, size);
             h = NLMSG_NEXT(h, size)) {
                const struct nlmsgerr *e = NLMSG_DATA(h);

                interrupted |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
                if (h->nlmsg_type == NLMSG_DONE)
                        return interrupted ? -EINTR : 1;
                if (h->nlmsg_type == NLMSG_ERROR)
                        return h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) ? -EBADMSG
                               : e->error < 0                          ? e->error
                                                                       : 1;
                r = take ? take(h, arg) : 0;
                if (r != 0)
                        return r;
        }
        return interrupted ? -EINTR : 0;
}

int nl_ask(int fd, const void *message, size_t size, nl_take *take, void *arg) {
        _cleanup_free_ char *buf = malloc(ANSWER_SIZE);
        int r = 0;

        if (!buf)
                return -ENOMEM;
        if (send(fd, message, size, 0) < 0)
                return -errno;
        while (r == 0) {
                ssize_t n = recv(fd, buf, ANSWER_SIZE, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                r = take_datagram(buf, (size_t)n, take, arg);
        }
        return r < 0 ? r : 0;
}

int nl_list(int protocol, const void *message, size_t size, nl_take *take, void (*again)(void *arg),
            void *arg) {
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < TRIES; i++) {
                _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

                if (fd < 0)
                        return -errno;
                if (i > 0 && again)
                        again(arg);
                r = nl_ask(fd, message, size, take, arg);
        }
        return r;
}

struct socket_list {
        nl_take_socket *take;
        void (*again)(void *arg);
        void *arg;
};

static int take_socket(const struct nlmsghdr *h, void *arg) {
        const struct socket_list *list = arg;

        if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
                return 0;
        return list->take(NLMSG_DATA(h), h->nlmsg_len - NLMSG_HDRLEN, list->arg);
}

static void list_again(void *arg) {
        const struct socket_list *list = arg;

        list->again(list->arg);
}

int nl_list_sockets(const void *request, size_t size, nl_take_socket *take, void (*again)(void *arg),
                    void *arg) {
        struct socket_list list = { take, again, arg };
        struct {
                struct nlmsghdr head;
                char request[64];
        } msg = {
                .head = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(size),
                          .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        };

        ckpt_assert(size <= sizeof(msg.request));
        memcpy(msg.request, request, size);
        return nl_list(NETLINK_SOCK_DIAG, &msg, msg.head.nlmsg_len, take_socket, list_again, &list);
}

struct nl_attrs nl_attrs(const void *payload, size_t len, size_t head) {
        const char *at = payload;
        size_t skip = NLMSG_ALIGN(head);

        return (struct nl_attrs){ .at = at + (skip < len ? skip : len), .end = at + len };
}

int nl_attrs_next(struct nl_attrs *attrs, struct nl_attr *ret) {
        size_t left = (size_t)(attrs->end - attrs->at), step;
        struct nlattr head;

        if (left < sizeof(head))
                return 0;
        memcpy(&head, attrs->at, sizeof(head));
        if (head.nla_len < sizeof(head) || head.nla_len > left)
                return -EBADMSG;
        *ret = (struct nl_attr){ .type = head.nla_type & NLA_TYPE_MASK,
                                 .len = head.nla_len - sizeof(head),
                                 .data = attrs->at + sizeof(head) };
        step = (size_t)NLA_ALIGN(head.nla_len);
        attrs->at += MIN(step, left);
        return 1;
}
