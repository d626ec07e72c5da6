/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The network lock as chains of the legacy iptables, for kernels without nf_tables. No library for that is used:
 * libiptc allocates memory, which a process that takes the lock away after ckpt was killed may not do.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/lock_backend.h"
#include "sock/xtables.h"

enum { TRIES = 64, PATIENCE_MS = 2000, PAUSE_MS = 5, SIZE_MAX_ = 512 << 20 };

static const char table_name[] = "mangle";

/* ---- system calls only: the guard comes here, too ---- */

/* A private mapping, zeroed. NULL: no memory. */
static void *map_new(size_t size) {
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return at == MAP_FAILED ? NULL : at;
}

/* Has the network namespace this table? To ask for one that is not there would make it. */
static bool has_table(const struct xt_family *f) {
        _cleanup_close_ int fd = open(f->list, O_RDONLY | O_CLOEXEC);
        char text[256];
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

        if (n <= 0)
                return false;
        text[n] = 0;
        for (const char *at = text; (at = strstr(at, table_name)) != NULL; at++)
                if ((at == text || at[-1] == '\n') && at[sizeof(table_name) - 1] == '\n')
                        return true;
        return false;
}

/*
 * iptables does not touch the tables of anybody who has this locked, and so do we: what one reads, changes and writes
 * back would undo what another one has done meanwhile. A copy of it that a killed ckpt has left locked is ours as long as
 * its guard lives; whoever holds it otherwise needs it for a moment.
 */
static int lock_tables(void) {
        const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
        int fd = open("/run/xtables.lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

        for (int i = 0; fd >= 0 && i < PATIENCE_MS / PAUSE_MS && flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
                nanosleep(&pause, NULL);
        return fd;
}

static int read_table(int fd, const struct xt_family *f, struct ipt_getinfo *ret_info,
                      struct ipt_get_entries **ret, size_t *ret_size) {
        struct ipt_get_entries *got;
        socklen_t len = sizeof(*ret_info);
        size_t size;
        int r;

        memset(ret_info, 0, sizeof(*ret_info));
        memcpy(ret_info->name, table_name, sizeof(table_name));
        if (getsockopt(fd, f->level, IPT_SO_GET_INFO, ret_info, &len) < 0)
                return -errno;
        if (ret_info->size > SIZE_MAX_ || ret_info->num_entries > ret_info->size / f->entry)
                return -EBADMSG;
        size = sizeof(*got) + ret_info->size;
        got = map_new(size);
        if (!got)
                return -ENOMEM;
        memcpy(got->name, table_name, sizeof(table_name));
        got->size = ret_info->size;
        len = (socklen_t)size;
        if (getsockopt(fd, f->level, IPT_SO_GET_ENTRIES, got, &len) < 0) {
                r = -errno;
                munmap(got, size);
                return r;
        }
        *ret = got;
        *ret_size = size;
        return 0;
}

/* The rules that were there count on from where they were. If somebody has changed the table already, they begin anew. */
static void keep_counters(int fd, const struct xt_family *f, const struct xt_room *room,
                          struct xt_counters_info *counters) {
        const struct ipt_replace *replace = room->replace;

        memcpy(counters->name, table_name, sizeof(table_name));
        counters->num_counters = replace->num_entries;
        for (uint32_t i = 0; i < replace->num_entries; i++)
                if (room->source[i] != XT_NEW)
                        counters->counters[i] = replace->counters[room->source[i]];
        setsockopt(fd, f->level, IPT_SO_SET_ADD_COUNTERS, counters,
                   (socklen_t)(sizeof(*counters) + replace->num_entries * sizeof(struct xt_counters)));
}

/* 1: nothing to change. -EAGAIN: somebody else has changed it meanwhile. */
static int change_table(int fd, const struct xt_table *t, const struct xt_change *c) {
        size_t n = xt_new_entries(t, c), new_size = xt_new_size(t, c);
        size_t map = (xt_map_size(t) + 7) & ~(size_t)7, source = (n * sizeof(uint32_t) + 7) & ~(size_t)7;
        size_t replace = (sizeof(struct ipt_replace) + new_size + 7) & ~(size_t)7;
        size_t old = t->info->num_entries * sizeof(struct xt_counters);
        size_t size = map + source + replace + old + sizeof(struct xt_counters_info) +
                      n * sizeof(struct xt_counters);
        uint8_t *area = new_size > SIZE_MAX_ ? NULL : map_new(size);
        struct xt_room room;
        int r;

        if (!area)
                return -ENOMEM;
        room = (struct xt_room){ .map = (void *)area,
                                 .source = (void *)(area + map),
                                 .replace = (void *)(area + map + source) };
        r = xt_edit(t, c, &room);
        if (r == 0) {
                room.replace->counters = (void *)(area + map + source + replace);
                if (setsockopt(fd, t->family->level, IPT_SO_SET_REPLACE, room.replace,
                               (socklen_t)(sizeof(*room.replace) + room.replace->size)) < 0)
                        r = -errno;
        }
        if (r == 0)
                keep_counters(fd, t->family, &room, (void *)(area + map + source + replace + old));
        munmap(area, size);
        return r;
}

static int change_family(const struct xt_family *f, const struct xt_change *c) {
        _cleanup_close_ int fd = socket(f->domain, SOCK_DGRAM | SOCK_CLOEXEC, 0), lock = -EBADF;
        int r = -EAGAIN;

        if (fd < 0)
                return -errno;
        lock = lock_tables();
        for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
                struct ipt_get_entries *got = NULL;
                struct ipt_getinfo info;
                size_t size = 0;

                r = read_table(fd, f, &info, &got, &size);
                if (r < 0)
                        continue;
                r = change_table(fd,
                                 &(struct xt_table){ .family = f,
                                                     .info = &info,
                                                     .entries = (const uint8_t *)got->entrytable },
                                 c);
                munmap(got, size);
        }
        return r < 0 ? r : 0;
}

int netlock_legacy_remove(const char *name) {
        struct xt_change c = { .remove = name };
        int result = 0;

        for (size_t i = 0; i < ELEMENTSOF(xt_families); i++) {
                int r = has_table(&xt_families[i]) ? change_family(&xt_families[i], &c) : 0;

                if (r < 0)
                        result = r;
        }
        return result;
}

static void __attribute__((noreturn)) keeper(int self, const char *name) {
        struct pollfd p = { .fd = self, .events = POLLIN };

        syscall(SYS_setsid);
        while (poll(&p, 1, -1) <= 0)
                ;
        netlock_legacy_remove(name);
        _exit(0);
}

/* ---- in ckpt ---- */

struct legacy_hold {
        struct sock_tuple *tuples[2]; /* IPv4, IPv6, sorted */
        size_t n[2];
        bool by_own_port[2];
        char note[NETLOCK_NOTE_MAX];
        int self; /* pidfd */
        pid_t keeper;
};

/* Whatever kills ckpt, the lock goes; also from a restore, which has no guard. It shares the descriptors, as the guard does. */
static int start_keeper(struct legacy_hold *h, const char *name) {
        sigset_t all, saved;
        int r;

        h->self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        if (h->self < 0)
                return -errno;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        h->keeper = (pid_t)syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
        if (h->keeper == 0)
                keeper(h->self, name);
        r = h->keeper < 0 ? -errno : 0;
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        return r;
}

static void free_legacy(void *own) {
        struct legacy_hold *h = own;

        if (h->keeper > 0) {
                kill(h->keeper, SIGKILL);
                while (waitpid(h->keeper, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        }
        safe_close(h->self);
        free(h->tuples[0]);
        free(h->tuples[1]);
        free(h);
}

static int compare_own(const void *a, const void *b) {
        return ((const struct sock_tuple *)a)->src_port - ((const struct sock_tuple *)b)->src_port;
}

static int compare_peer(const void *a, const void *b) {
        return ((const struct sock_tuple *)a)->dst_port - ((const struct sock_tuple *)b)->dst_port;
}

static size_t count_ports(const struct sock_tuple *tuples, size_t n, bool own) {
        size_t count = n > 0;

        for (size_t i = 1; i < n; i++)
                count += own ? tuples[i].src_port != tuples[i - 1].src_port
                             : tuples[i].dst_port != tuples[i - 1].dst_port;
        return count;
}

/* By the port that tells more of them apart: a server's peers differ in theirs, a client's connections in its own. */
static bool sort_tuples(struct sock_tuple *tuples, size_t n) {
        size_t peers;

        if (n == 0)
                return false;
        qsort(tuples, n, sizeof(*tuples), compare_peer);
        peers = count_ports(tuples, n, false);
        qsort(tuples, n, sizeof(*tuples), compare_own);
        if (count_ports(tuples, n, true) > peers)
                return true;
        qsort(tuples, n, sizeof(*tuples), compare_peer);
        return false;
}

static struct legacy_hold *new_hold(const struct sock_tuple *tuples, size_t n, const char *note) {
        struct legacy_hold *h = calloc(1, sizeof(*h));

        ckpt_assert(h);
        h->self = -EBADF;
        netlock_note_print(note, h->note);
        for (int v6 = 0; v6 < 2; v6++) {
                h->tuples[v6] = calloc(n + 1, sizeof(*tuples));
                ckpt_assert(h->tuples[v6]);
                for (size_t i = 0; i < n; i++)
                        if ((tuples[i].v6 != 0) == v6)
                                h->tuples[v6][h->n[v6]++] = tuples[i];
                h->by_own_port[v6] = sort_tuples(h->tuples[v6], h->n[v6]);
        }
        return h;
}

static int explain(int r, const char *name, bool v6, struct ckpt_error *err) {
        const char *what = v6 ? "ip6tables" : "iptables";

        if (r == -ENOPROTOOPT || r == -ENOENT) {
                ckpt_error(err, -EOPNOTSUPP,
                           "cannot lock the network: the kernel has neither nf_tables nor %s with the table "
                           "mangle and the matches tcp, mark and comment",
                           what);
                ckpt_error_hint(
                        err,
                        "Load such a module (modprobe nf_tables, or ip%s_tables), or hold the packets of "
                        "these connections back yourself and use --network-lock skip",
                        v6 ? "6" : "");
                return -EOPNOTSUPP;
        }
        return ckpt_error_errno(err, r, "cannot lock or unlock the network with %s (chains %s-*)", what,
                                name);
}

/* One transaction for each family that has connections now, or (`old`, perhaps NULL) had some. */
static int change(const struct legacy_hold *h, const struct legacy_hold *old, const char *remove,
                  const char *add, unsigned int hooks, struct ckpt_error *err) {
        for (int v6 = 0; v6 < 2; v6++) {
                struct xt_change c = { .remove = remove,
                                       .add = h->n[v6] > 0 ? add : NULL,
                                       .note = h->note,
                                       .tuples = h->tuples[v6],
                                       .n = h->n[v6],
                                       .hooks = hooks,
                                       .by_own_port = h->by_own_port[v6] };
                bool has_any = h->n[v6] > 0 || (old && old->n[v6] > 0);
                int r = has_any ? change_family(&xt_families[v6], &c) : 0;

                if (r < 0)
                        return explain(r, add ?: remove, v6 != 0, err);
        }
        return 0;
}

static int hold_legacy(const char *name, const struct sock_tuple *tuples, size_t n, const char *note,
                       int *spare __attribute__((unused)), void **ret_own, struct ckpt_error *err) {
        struct legacy_hold *h = new_hold(tuples, n, note);
        int r = start_keeper(h, name);

        if (r < 0)
                ckpt_error_errno(err, r, "cannot start the process that watches over the network lock");
        else
                r = change(h, NULL, NULL, name, 1U << NF_INET_LOCAL_OUT, err);
        if (r < 0) {
                netlock_legacy_remove(name);
                free_legacy(h);
                return r;
        }
        *ret_own = h;
        return 0;
}

static int hold_in_legacy(void *own, const char *name, struct ckpt_error *err) {
        return change(own, NULL, NULL, name, 1U << NF_INET_LOCAL_IN, err);
}

/*
 * Connections may have come to their end meanwhile, all of a family. With both families, the first may have the new lock
 * already when the second cannot: then it has none of the two.
 */
static int leave_legacy(void *own, const char *held, const char *name, const struct sock_tuple *tuples,
                        size_t n, const char *note, struct ckpt_error *err) {
        struct legacy_hold *h = new_hold(tuples, n, note);
        int r = change(h, own, held, name, 1U << NF_INET_LOCAL_IN | 1U << NF_INET_LOCAL_OUT, err);

        if (r < 0)
                netlock_legacy_remove(name);
        free_legacy(h);
        return r;
}

/* Of both families, whatever becomes of the first. */
static int end_legacy(void *own __attribute__((unused)), const char *name, struct ckpt_error *err) {
        int r = netlock_legacy_remove(name);

        return r < 0 ? explain(r, name, false, err) : 0;
}

/* ---- finding ---- */

struct found {
        struct netlock_found_vec *all;
        bool v6;
};

static int add_lock(const char *name, const char *note, void *arg) {
        struct found *f = arg;
        struct netlock_found *lock = NULL;

        for (size_t i = 0; i < f->all->n && !lock; i++)
                if (strcmp(f->all->v[i].name, name) == 0)
                        lock = &f->all->v[i];
        if (!lock) {
                lock = netlock_found_vec_add(f->all);
                if (!lock)
                        return -ENOMEM;
                snprintf(lock->name, sizeof(lock->name), "%s", name);
                netlock_note_parse(note, lock);
        }
        lock->xt[f->v6] = true;
        return 0;
}

static int list_family(const struct xt_family *f, struct netlock_found_vec *all) {
        _cleanup_close_ int fd = socket(f->domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct found found = { .all = all, .v6 = f->v6 };
        struct ipt_get_entries *got = NULL;
        struct ipt_getinfo info;
        size_t size = 0;
        int r = -EAGAIN;

        if (fd < 0)
                return -errno;
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = read_table(fd, f, &info, &got, &size);
        if (r < 0)
                return r;
        r = xt_locks(&(struct xt_table){ .family = f,
                                         .info = &info,
                                         .entries = (const uint8_t *)got->entrytable },
                     add_lock, &found);
        munmap(got, size);
        return r;
}

static int list_legacy(struct netlock_found_vec *all, struct ckpt_error *err) {
        for (size_t i = 0; i < ELEMENTSOF(xt_families); i++) {
                int r = has_table(&xt_families[i]) ? list_family(&xt_families[i], all) : 0;

                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot list the rules of ip%stables",
                                                xt_families[i].v6 ? "6" : "");
        }
        return 0;
}

const struct netlock_backend netlock_legacy = {
        .hold = hold_legacy,
        .hold_in = hold_in_legacy,
        .leave = leave_legacy,
        .end = end_legacy,
        .free = free_legacy,
        .list = list_legacy,
};
