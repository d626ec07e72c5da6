/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sockets in the queues of unix sockets that hold each other outlive the tree, with their ports and names, until the
 * kernel's garbage collection has found them. That runs by itself when a unix socket is closed, at some time after that; a
 * restore may come before it.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "log.h"
#include "macro.h"
#include "sock/diag.h"
#include "sock/unix.h"

enum { TRIES = 4000, PAUSE_MS = 5 }; /* a machine that is busy may need seconds */

static bool is_there(const struct dump_file *f, const struct sock_diag_table *inet,
                     const struct unix_table *local) {
        switch (f->msg->type) {
        case IMG__FD_TYPES__INETSK:
                return sock_diag_find(inet, f->msg->isk->ino) != NULL;
        case IMG__FD_TYPES__UNIXSK:
                return unix_diag_find(local, f->msg->usk->ino) != NULL;
        default:
                return false;
        }
}

static bool any_left(const struct dump_files *files) {
        static const int families[] = { AF_INET, AF_INET6 }, protocols[] = { IPPROTO_TCP, IPPROTO_UDP };
        _cleanup_(unix_table_done) struct unix_table local = { 0 };
        _cleanup_(sock_diag_done) struct sock_diag_table inet = { 0 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = unix_diag_query(&local, &err);

        for (size_t i = 0; i < ELEMENTSOF(families) * ELEMENTSOF(protocols); i++)
                if (r >= 0)
                        r = sock_diag_query(&inet, families[i / 2], protocols[i % 2], &err);
        for (size_t i = 0; r >= 0 && i < files->all.n; i++)
                if (is_there(files->all.v[i], &inet, &local))
                        return true;
        return false;
}

void sock_await_end(struct dump *d) {
        const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };

        for (int i = 0; any_left(dump_files(d)); i++) {
                if (i == TRIES) {
                        log_warn(
                                "the kernel has not let go yet of sockets that hold each other in their queues; until it has, "
                                "a restore may find their ports and names in use");
                        return;
                }
                /* Whoever closes a unix socket wakes the collection. */
                safe_close(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                nanosleep(&pause, NULL);
        }
}
