/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/hidden_state.h"

#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/task_program.h"
#include "lib/thread.h"
#include "macro.h"

enum {
        SECURITY_WORDS = 16,   /* of what the security modules have in the credentials */
        REGISTERED_RINGS = 16, /* IO_RINGFD_REG_MAX */
        NOT_FOUND = -1,
};

/* What the program writes for each thread: numbers, and the pointers that led to them. */
enum slot {
        SLOT_CRED,
        SLOT_RING,
        SLOT_SERIAL = SLOT_RING + HIDDEN_RINGS_MAX,
        SLOT_UID = SLOT_SERIAL + HIDDEN_RINGS_MAX,
        SLOT_KEYS = SLOT_UID + HIDDEN_RINGS_MAX,
        SLOT_DEFAULT_RING = SLOT_KEYS + HIDDEN_RINGS_MAX,
        SLOT_SECURITY_AT,
        SLOT_SECURITY,
        SLOT_IO_URING_AT = SLOT_SECURITY + SECURITY_WORDS,
        SLOT_IO_URING,
        SLOT_USER_EVENTS = SLOT_IO_URING + REGISTERED_RINGS,
        SLOT_IOPL,
        SLOT_WORK,
        SLOT_LEVEL,
        SLOT_NUMBER,
        SLOTS = SLOT_NUMBER + TASK_PROGRAM_LEVELS,
};

struct record {
        uint64_t word[SLOTS];
};

struct hidden_source {
        int prog_fd;
        uint64_t level; /* of the pid namespace of ckpt */
        int landlock;   /* which word of SLOT_SECURITY; NOT_FOUND */
        bool keyrings;
        uint64_t dispatch; /* the bit of SLOT_WORK; 0: it cannot be told */
        bool all;          /* before Linux 6.1, only all threads of the machine can be read */
};

/* ---- the program ---- */

static void add_keyrings(struct task_program *p) {
        static const char *const members[HIDDEN_RINGS_MAX] = {
                [HIDDEN_RING_SESSION] = "session_keyring",
                [HIDDEN_RING_PROCESS] = "process_keyring",
                [HIDDEN_RING_THREAD] = "thread_keyring",
        };

        for (unsigned int i = 0; i < HIDDEN_RINGS_MAX; i++) {
                int ring = SLOT_RING + (int)i;

                task_program_read_optional(p, SLOT_RING + i, SLOT_CRED, "cred", members[i], 8);
                task_program_read_optional(p, SLOT_SERIAL + i, ring, "key", "serial", 4);
                task_program_read_optional(p, SLOT_UID + i, ring, "key", "uid.val", 4);
                task_program_read_optional(p, SLOT_KEYS + i, ring, "key", "keys.nr_leaves_on_tree", 8);
        }
}

/* Called with each thread, and at the end without one. */
static int load_program(const struct bpf *bpf) {
        struct task_program p;

        task_program_begin(&p, bpf, SLOTS);
        task_program_read_optional(&p, SLOT_CRED, TASK_PROGRAM_TASK, "task_struct", "cred", 8);
        task_program_read_optional(&p, SLOT_SECURITY_AT, SLOT_CRED, "cred", "security", 8);
        task_program_copy(&p, SLOT_SECURITY, SECURITY_WORDS, SLOT_SECURITY_AT);
        add_keyrings(&p);
        task_program_read_optional(&p, SLOT_DEFAULT_RING, SLOT_CRED, "cred", "jit_keyring", 1);
        task_program_read_optional(&p, SLOT_IO_URING_AT, TASK_PROGRAM_TASK, "task_struct", "io_uring", 8);
        task_program_read_optional(&p, SLOT_IO_URING, SLOT_IO_URING_AT, "io_uring_task", "registered_rings",
                                   8 * REGISTERED_RINGS);
        task_program_read_optional(&p, SLOT_USER_EVENTS, TASK_PROGRAM_TASK, "task_struct", "user_event_mm",
                                   8);
        task_program_read_optional(&p, SLOT_IOPL, TASK_PROGRAM_TASK, "task_struct", "thread.iopl_emul", 8);
        task_program_read_optional(&p, SLOT_WORK, TASK_PROGRAM_TASK, "task_struct",
                                   "thread_info.syscall_work", 8);
        task_program_numbers(&p, SLOT_LEVEL, SLOT_NUMBER);
        return task_program_finish(&p, "ckpt_hidden");
}

/* ---- reading ---- */

struct reading {
        const struct hidden_source *source;
        struct hidden_state_vec states;
};

/* One byte: KEY_REQKEY_DEFL_* */
static uint8_t default_ring_of(const struct record *r) {
        return (uint8_t)r->word[SLOT_DEFAULT_RING];
}

static struct hidden_state state_of(const struct hidden_source *s, const struct record *r) {
        struct hidden_state state = {
                .tid = (pid_t)r->word[SLOT_NUMBER + s->level],
                .user_events = r->word[SLOT_USER_EVENTS] != 0,
                .iopl = r->word[SLOT_IOPL] != 0,
                .dispatch = (r->word[SLOT_WORK] & s->dispatch) != 0,
        };

        for (unsigned int i = 0; i < REGISTERED_RINGS; i++)
                state.io_uring |= r->word[SLOT_IO_URING + i] != 0;
        if (s->landlock != NOT_FOUND)
                state.landlock = r->word[SLOT_SECURITY + s->landlock];
        state.default_ring = s->keyrings && default_ring_of(r) != 0;
        for (unsigned int i = 0; s->keyrings && i < HIDDEN_RINGS_MAX; i++)
                state.ring[i] = (struct hidden_keyring){
                        .serial = (int32_t)r->word[SLOT_SERIAL + i],
                        .uid = (uint32_t)r->word[SLOT_UID + i],
                        .keys = r->word[SLOT_KEYS + i],
                };
        return state;
}

/* What has no number where ckpt is, or none any more, is nobody's. */
static int take_record(void *arg, const void *record) {
        struct reading *reading = arg;
        struct hidden_state state = state_of(reading->source, record);

        return state.tid > 0 && hidden_state_vec_push(&reading->states, state) < 0 ? -ENOMEM : 0;
}

static int by_number(const void *a, const void *b) {
        pid_t x = ((const struct hidden_state *)a)->tid, y = ((const struct hidden_state *)b)->tid;

        return (x > y) - (x < y);
}

int hidden_source_read(const struct hidden_source *s, pid_t pid, struct hidden_state_vec *ret) {
        struct reading reading = { .source = s };
        int r = bpf_iterate(s->prog_fd, s->all ? 0 : pid, sizeof(struct record), take_record, &reading);

        if (r < 0) {
                hidden_state_vec_done(&reading.states);
                return r;
        }
        if (reading.states.n > 0)
                qsort(reading.states.v, reading.states.n, sizeof(*reading.states.v), by_number);
        hidden_state_vec_done(ret);
        *ret = reading.states;
        return 0;
}

const struct hidden_state *hidden_state_find(const struct hidden_state_vec *states, pid_t tid) {
        const struct hidden_state key = { .tid = tid };

        return states->n == 0 ? NULL : bsearch(&key, states->v, states->n, sizeof(*states->v), by_number);
}

/* ---- is it what it should be? ---- */

/* In a thread of its own, because none of it can be undone. */
struct trial {
        struct hidden_source *s;
        int result;
};

static int read_own(const struct hidden_source *s, struct record *ret) {
        return task_program_read_own(s->prog_fd, s->all ? 0 : getpid(), SLOTS, SLOT_LEVEL, SLOT_NUMBER,
                                     ret->word);
}

static int enter_domain(void) {
        const struct landlock_ruleset_attr rules = { .handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK };
        _cleanup_close_ int fd = -EBADF;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
        if (fd < 0)
                return -errno;
        return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}

/* Gives the thread new credentials that say the same. */
static int copy_credentials(void) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

        return syscall(SYS_capget, &head, caps) < 0 || syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

static uint64_t security_word(const struct record *r, int i) {
        return r->word[SLOT_SECURITY + i];
}

/*
 * The first word that has become a pointer, or another one, by entering a domain, and that new credentials otherwise keep. What
 * is behind the end of what the modules have is copied too, and may be anything; so it is the first.
 */
static int find_landlock(const struct hidden_source *s) {
        struct record first, before, after, last;

        if (read_own(s, &first) < 0 || copy_credentials() < 0 || read_own(s, &before) < 0 ||
            enter_domain() < 0 || read_own(s, &after) < 0 || copy_credentials() < 0 ||
            read_own(s, &last) < 0)
                return NOT_FOUND;
        for (int i = 0; i < SECURITY_WORDS; i++) {
                uint64_t was = security_word(&before, i), is = security_word(&after, i);

                if (was != is && (was == 0 || was >> 63 != 0) && is >> 63 != 0 &&
                    was == security_word(&first, i) && is == security_word(&last, i))
                        return i;
        }
        return NOT_FOUND;
}

static long keyctl(int command, unsigned long a, unsigned long b) {
        return syscall(SYS_keyctl, command, a, b, 0, 0);
}

/* Three new keyrings, with a key in the first. */
static bool tells_keyrings(const struct hidden_source *s) {
        long serial[HIDDEN_RINGS_MAX];
        struct record own;

        serial[HIDDEN_RING_SESSION] = keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0);
        serial[HIDDEN_RING_PROCESS] =
                keyctl(KEYCTL_GET_KEYRING_ID, (unsigned long)KEY_SPEC_PROCESS_KEYRING, 1);
        serial[HIDDEN_RING_THREAD] =
                keyctl(KEYCTL_GET_KEYRING_ID, (unsigned long)KEY_SPEC_THREAD_KEYRING, 1);
        (void)keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_USER_KEYRING, 0);
        if (keyctl(KEYCTL_LINK, (unsigned long)serial[HIDDEN_RING_PROCESS],
                   (unsigned long)serial[HIDDEN_RING_SESSION]) < 0 ||
            read_own(s, &own) < 0)
                return false;
        for (unsigned int i = 0; i < HIDDEN_RINGS_MAX; i++)
                if (serial[i] <= 0 || (int32_t)own.word[SLOT_SERIAL + i] != serial[i] ||
                    own.word[SLOT_KEYS + i] != (i == HIDDEN_RING_SESSION))
                        return false;
        return default_ring_of(&own) == KEY_REQKEY_DEFL_USER_KEYRING;
}

/* The bit that comes and goes with it. All system calls are let through meanwhile. */
static uint64_t find_dispatch(const struct hidden_source *s) {
        char let_through = 0; /* SYSCALL_DISPATCH_FILTER_ALLOW */
        struct record before, during, after;
        uint64_t bit;
        bool seen;

        if (read_own(s, &before) < 0 ||
            prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &let_through) < 0)
                return 0;
        seen = read_own(s, &during) == 0;
        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) < 0 || !seen ||
            read_own(s, &after) < 0)
                return 0;
        bit = during.word[SLOT_WORK] ^ before.word[SLOT_WORK];
        return before.word[SLOT_WORK] == after.word[SLOT_WORK] && (during.word[SLOT_WORK] & bit) == bit &&
                               __builtin_popcountll(bit) == 1
                       ? bit
                       : 0;
}

static void *try_out(void *arg) {
        struct trial *t = arg;
        struct record own;

        t->result = read_own(t->s, &own);
        if (t->result < 0) {
                t->s->all = true;
                t->result = read_own(t->s, &own);
        }
        if (t->result < 0)
                return NULL;
        t->s->level = own.word[SLOT_LEVEL];
        t->s->keyrings = tells_keyrings(t->s);
        t->s->landlock = find_landlock(t->s);
        t->s->dispatch = find_dispatch(t->s);
        return NULL;
}

int hidden_source_open(struct bpf *bpf, struct hidden_source **ret) {
        _cleanup_(hidden_source_free) struct hidden_source *s = calloc(1, sizeof(*s));
        struct trial trial = { .s = s };
        pthread_t thread;
        int r;

        if (!s)
                return -ENOMEM;
        s->prog_fd = -EBADF;
        s->landlock = NOT_FOUND;
        r = bpf_load(bpf);
        if (r < 0)
                return r;
        s->prog_fd = load_program(bpf);
        if (s->prog_fd < 0)
                return s->prog_fd;
        r = thread_start(&thread, try_out, &trial);
        if (r < 0)
                return r;
        pthread_join(thread, NULL);
        if (trial.result == 0)
                *ret = TAKE_PTR(s);
        return trial.result;
}

void hidden_source_free(struct hidden_source **s) {
        if (!*s)
                return;
        safe_close((*s)->prog_fd);
        free(*s);
        *s = NULL;
}

struct hidden_tells hidden_source_tells(const struct hidden_source *s) {
        return (struct hidden_tells){ .landlock = s->landlock != NOT_FOUND,
                                      .keyrings = s->keyrings,
                                      .dispatch = s->dispatch != 0 };
}
