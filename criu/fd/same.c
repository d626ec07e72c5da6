/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/same.h"

#include <linux/kcmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dump/facts.h"
#include "macro.h"

enum { MISSES_MAX = 4 };

static bool same_description(pid_t tid, pid_t other, int fd, int other_fd) {
        return syscall(SYS_kcmp, tid, other, KCMP_FILE, fd, other_fd) == 0;
}

static struct same_fds *same_of(struct dump_files *files) {
        if (!files->same)
                files->same = arena_new(&files->arena, struct same_fds);
        return files->same;
}

void same_note_looked(struct dump_files *files, const struct same_owner *owner, const struct seen_fd *seen) {
        if (seen->fd >= SAME_MAX)
                return;
        pthread_mutex_lock(&files->lock);
        same_of(files)->looked[seen->fd].tid = owner->tid;
        same_of(files)->looked[seen->fd].fact = process_fact_file(owner->fact, seen->fd);
        same_of(files)->looked[seen->fd].seen = *seen;
        /* That task, and its memory with it, may be gone before the others. */
        same_of(files)->looked[seen->fd].seen.link = arena_strdup(&files->arena, seen->link);
        pthread_mutex_unlock(&files->lock);
}

bool same_looked(struct dump_files *files, const struct same_owner *owner, int fd, struct seen_fd *ret) {
        uint64_t fact = process_fact_file(owner->fact, fd), other_fact = 0;
        pid_t other = 0;

        if (fd >= SAME_MAX)
                return false;
        pthread_mutex_lock(&files->lock);
        if (files->same) {
                other = files->same->looked[fd].tid;
                other_fact = files->same->looked[fd].fact;
                *ret = files->same->looked[fd].seen;
        }
        pthread_mutex_unlock(&files->lock);
        if (fact != 0 && other_fact != 0)
                return fact == other_fact;
        return other > 0 && same_description(owner->tid, other, fd, fd);
}

bool same_looked_all(struct dump_files *files, const struct same_owner *owner, size_t n,
                     struct seen_fd *ret) {
        unsigned int misses = 0;
        size_t found = 0;

        for (int fd = 0; fd < SAME_MAX && found < n && misses < MISSES_MAX; fd++)
                if (same_looked(files, owner, fd, &ret[found]))
                        found++;
                else
                        misses++;
        return found == n;
}

void same_note_collected(struct dump_files *files, const struct same_owner *owner, int fd,
                         struct dump_file *file) {
        const struct fd_kind *kind = file->kind;

        if (fd < SAME_MAX && (kind == &fd_kind_reg || (kind->by_inode && !kind->look_twice))) {
                same_of(files)->collected[fd].file = file;
                same_of(files)->collected[fd].fact = process_fact_file(owner->fact, fd);
        }
}

struct dump_file *same_collected(struct dump_files *files, const struct same_owner *owner, int fd) {
        uint64_t fact = process_fact_file(owner->fact, fd), its_fact = 0;
        struct dump_file *file = NULL;

        if (fd >= SAME_MAX)
                return NULL;
        pthread_mutex_lock(&files->lock);
        if (files->same) {
                file = files->same->collected[fd].file;
                its_fact = files->same->collected[fd].fact;
        }
        pthread_mutex_unlock(&files->lock);
        if (fact != 0 && its_fact != 0)
                return fact == its_fact ? file : NULL;
        return file && same_description(owner->tid, file->tid, fd, file->fd) ? file : NULL;
}

/* Of no mount has it a second name. */
static bool has_one_name(const struct statx *st) {
        return S_ISDIR(st->stx_mode) || (S_ISREG(st->stx_mode) && st->stx_nlink == 1);
}

static bool is_inode(const struct same_inode *known, const struct fd_probe *p) {
        return known->there && (p->st.stx_mask & STATX_MNT_ID) && known->ino == p->st.stx_ino &&
               known->dev == statx_dev(&p->st) && known->mnt_id == p->st.stx_mnt_id &&
               (has_one_name(&p->st) || (p->link && strcmp(p->link, known->link) == 0));
}

_Static_assert((int)SAME_CWD == PROCESS_CWD && (int)SAME_ROOT == PROCESS_ROOT &&
                       (int)SAME_EXE == PROCESS_EXE,
               "one order of places");

static void note_fact(struct same_inode *ret, const struct process_fact *fact, enum same_place place) {
        if (fact)
                memcpy(ret->fact, fact->place[place], sizeof(ret->fact));
}

static bool is_fact(const struct same_inode *known, const struct process_fact *fact, enum same_place place) {
        return known->there && fact && memcmp(known->fact, fact->place[place], sizeof(known->fact)) == 0;
}

bool same_place_seen(const struct dump_task *t, enum same_place place) {
        const struct process_fact *fact = dump_fact_seen(t);
        struct dump_files *files = dump_files(t->dump);
        bool known;

        if (!fact)
                return false;
        pthread_mutex_lock(&files->lock);
        known = files->same && is_fact(&files->same->places_looked[place], fact, place);
        pthread_mutex_unlock(&files->lock);
        return known;
}

bool same_place_known(const struct dump_task *t, enum same_place place, uint32_t *ret_id) {
        struct dump_files *files = dump_files(t->dump);
        bool known;

        if (!t->fact)
                return false;
        pthread_mutex_lock(&files->lock);
        known = files->same && is_fact(&files->same->places_collected[place], t->fact, place);
        if (known)
                *ret_id = files->same->places_collected[place].id;
        pthread_mutex_unlock(&files->lock);
        return known;
}

static void note_inode(struct dump_files *files, struct same_inode *ret, const struct fd_probe *p,
                       uint32_t id) {
        *ret = (struct same_inode){
                .there = true,
                .dev = statx_dev(&p->st),
                .ino = p->st.stx_ino,
                .mnt_id = p->st.stx_mnt_id,
                .link = arena_strdup(&files->arena, p->link),
                .id = id,
        };
}

bool same_place_looked(const struct fd_probe *p, enum same_place place) {
        struct dump_files *files = dump_files(p->task->dump);
        bool known;

        pthread_mutex_lock(&files->lock);
        known = files->same && is_inode(&files->same->places_looked[place], p);
        if (known)
                note_fact(&files->same->places_looked[place], dump_fact_seen(p->task), place);
        pthread_mutex_unlock(&files->lock);
        return known;
}

void same_note_place_looked(const struct fd_probe *p, enum same_place place) {
        struct dump_files *files = dump_files(p->task->dump);

        pthread_mutex_lock(&files->lock);
        note_inode(files, &same_of(files)->places_looked[place], p, 0);
        note_fact(&same_of(files)->places_looked[place], dump_fact_seen(p->task), place);
        pthread_mutex_unlock(&files->lock);
}

bool same_place_collected(const struct fd_probe *p, enum same_place place, uint32_t *ret_id) {
        struct dump_files *files = dump_files(p->task->dump);
        bool known;

        if (!has_one_name(&p->st))
                return false;
        pthread_mutex_lock(&files->lock);
        known = files->same && is_inode(&files->same->places_collected[place], p);
        if (known)
                *ret_id = files->same->places_collected[place].id;
        pthread_mutex_unlock(&files->lock);
        return known;
}

void same_note_place_collected(const struct fd_probe *p, enum same_place place, uint32_t id) {
        struct dump_files *files = dump_files(p->task->dump);

        pthread_mutex_lock(&files->lock);
        note_inode(files, &same_of(files)->places_collected[place], p, id);
        note_fact(&same_of(files)->places_collected[place], p->task->fact, place);
        pthread_mutex_unlock(&files->lock);
}
