/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/lock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "proc/stat.h"
#include "sock/lock_backend.h"

static const char prefix[] = "ckpt-";
enum { ID_DIGITS = 16 };

/* In the order in which they are tried. */
static const struct netlock_backend *const backends[] = { &netlock_nft, &netlock_legacy };

void netlock_new_name(char ret[static NETLOCK_NAME_MAX]) {
        uint64_t id = 0;

        ckpt_assert(getrandom(&id, sizeof(id), 0) == sizeof(id));
        snprintf(ret, NETLOCK_NAME_MAX, "%s%016" PRIx64, prefix, id);
}

bool netlock_name_valid(const char *name) {
        size_t head = sizeof(prefix) - 1;

        return strncmp(name, prefix, head) == 0 && strlen(name) == head + ID_DIGITS &&
               strspn(name + head, "0123456789abcdef") == ID_DIGITS;
}

/* ---- notes ---- */

static bool stat_of(pid_t pid, struct proc_stat *ret) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        return proc_open(pid, &dir) == 0 && proc_stat_read(&dir, &buf, ret) == 0;
}

void netlock_note_print(const char *note, char ret[static NETLOCK_NOTE_MAX]) {
        struct proc_stat stat;
        int used = 0;

        ret[0] = 0;
        if (stat_of(getpid(), &stat))
                used = snprintf(ret, NETLOCK_NOTE_MAX, "%d/%" PRIu64 " ", getpid(), stat.start_time);
        snprintf(ret + used, NETLOCK_NOTE_MAX - (size_t)used, "%.100s", note);
        for (char *c = ret; *c; c++)
                if (*c > 0 && (*c < ' ' || *c == '"' || *c == '\\' || *c == 127))
                        *c = '_';
}

void netlock_note_parse(const char *text, struct netlock_found *found) {
        uint64_t start = 0;
        struct proc_stat stat;
        int pid = 0, used = 0;

        if (sscanf(text, "%9d/%" SCNu64 " %n", &pid, &start, &used) != 2)
                return;
        snprintf(found->note, sizeof(found->note), "%s", text + used);
        if (pid > 0 && stat_of(pid, &stat) && stat.start_time == start && stat.state != 'Z')
                found->owner = pid;
}

/* ---- holding ---- */

struct netlock_hold {
        const struct netlock_backend *backend;
        void *own;
        char name[NETLOCK_NAME_MAX];
        bool held;
};

/* The fault point stands for a kernel without nf_tables. */
static int hold_with_any(struct netlock_hold *h, const struct sock_tuple *tuples, size_t n, const char *note,
                         int *spare, struct ckpt_error *err) {
        bool pretend = fault_point(FAULT_NETWORK_NFTABLES) < 0;
        int r = -EOPNOTSUPP;

        h->backend = &netlock_nft;
        if (!pretend)
                r = h->backend->hold(h->name, tuples, n, note, spare, &h->own, err);
        if (r == 0 || (!pretend && netlock_nft_works()))
                return r;
        ckpt_error_clear(err);
        log_debug("no nf_tables: the network lock is made with the legacy iptables");
        h->backend = &netlock_legacy;
        return h->backend->hold(h->name, tuples, n, note, spare, &h->own, err);
}

int netlock_hold(const char *name, const struct sock_tuple *tuples, size_t n, const char *note, int *spare,
                 struct netlock_hold **ret, struct ckpt_error *err) {
        struct netlock_hold *h = calloc(1, sizeof(*h));
        int r;

        ckpt_assert(h && netlock_name_valid(name));
        snprintf(h->name, sizeof(h->name), "%s", name);
        log_debug("network lock %s for %zu connections", name, n);
        r = hold_with_any(h, tuples, n, note, spare, err);
        if (r < 0) {
                free(h);
                return r;
        }
        h->held = true;
        *ret = h;
        return 0;
}

int netlock_hold_in(struct netlock_hold *h, struct ckpt_error *err) {
        return h->backend->hold_in(h->own, h->name, err);
}

int netlock_hold_leave(struct netlock_hold *h, const char *name, const struct sock_tuple *tuples, size_t n,
                       const char *note, struct ckpt_error *err) {
        int r;

        ckpt_assert(netlock_name_valid(name));
        r = h->backend->leave(h->own, h->name, name, tuples, n, note, err);
        h->held = h->held && r < 0;
        return r;
}

int netlock_hold_end(struct netlock_hold *h, struct ckpt_error *err) {
        int r;

        if (!h || !h->held)
                return 0;
        r = h->backend->end(h->own, h->name, err);
        h->held = r < 0;
        return r;
}

void netlock_hold_free(struct netlock_hold **h) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (!*h)
                return;
        if (netlock_hold_end(*h, &err) < 0)
                log_error("%s", ckpt_error_message(&err));
        (*h)->backend->free((*h)->own);
        free(*h);
        *h = NULL;
}

/* ---- finding ---- */

int netlock_list(struct netlock_found_vec *ret, struct ckpt_error *err) {
        struct netlock_found_vec all = { 0 };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(backends); i++)
                r = backends[i]->list(&all, err);
        if (r < 0) {
                netlock_found_vec_done(&all);
                return r;
        }
        netlock_found_vec_done(ret);
        *ret = all;
        return 0;
}

int netlock_exists(const char *name) {
        _cleanup_(netlock_found_vec_done) struct netlock_found_vec all = { 0 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (netlock_list(&all, &err) < 0)
                return 0;
        for (size_t i = 0; i < all.n; i++)
                if (strcmp(all.v[i].name, name) == 0)
                        return 1;
        return 0;
}

int netlock_remove(int *fd, const char *name, struct ckpt_error *err) {
        int r;

        ckpt_assert(netlock_name_valid(name));
        r = netlock_nft_remove(fd, name, err);
        if (r < 0)
                return r;
        r = netlock_legacy_remove(name);
        return r < 0 ? ckpt_error_errno(err, r, "cannot remove the network lock (chains of iptables %s-*)",
                                        name)
                     : 0;
}
