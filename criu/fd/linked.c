/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/linked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kernel_file.h"
#include "images/remap-file-path.pb-c.h"
#include "log.h"
#include "macro.h"

static const char suffix[] = " (deleted)", prefix[] = "link_remap.";

enum { NAMES_MAX = 100000 };

struct dump_link {
        struct dump_link *next;
        uint32_t file_id;
        struct statx st;
        const struct proc_dir *proc;
        const char *where, *name; /* below proc; as it was opened */
        char *made;               /* the link, if it is the first of its inode; in the arena */
        uint32_t link_id;
};

struct dump_links {
        struct dump_link *list;
        bool keep;
};

/* A file may also be called so. */
static bool leads_there(const struct fd_probe *p) {
        struct statx st;

        return statx(AT_FDCWD, p->link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO,
                     &st) == 0 &&
               st.stx_ino == p->st.stx_ino && statx_dev(&st) == statx_dev(&p->st);
}

bool linked_is(const struct fd_probe *p) {
        size_t len = strlen(p->link), tail = sizeof(suffix) - 1;

        return p->st.stx_nlink > 0 && S_ISREG(p->st.stx_mode) && p->link[0] == '/' && len > tail &&
               strcmp(p->link + len - tail, suffix) == 0 && !leads_there(p) && !kernel_file_is(p);
}

static int name_length(const struct fd_probe *p) {
        return (int)(strlen(p->link) - (sizeof(suffix) - 1));
}

/* Its directory, on its filesystem. */
static bool has_directory(const struct fd_probe *p) {
        char path[PATH_MAX];
        struct statx st;

        snprintf(path, sizeof(path), "%.*s", (int)(strrchr(p->link, '/') - p->link), p->link);
        return statx(AT_FDCWD, *path ? path : "/", 0, STATX_TYPE | STATX_INO, &st) == 0 &&
               statx_dev(&st) == statx_dev(&p->st);
}

bool linked_look(const struct fd_probe *p, struct blockers *b) {
        bool somewhere = has_directory(p);

        /* A filesystem of the kernel's own, whose files all have one link. */
        if (!somewhere && strcmp(p->link, "/secretmem (deleted)") == 0)
                blocker_add(b, "Have the program close and unmap it",
                            "%s is secret memory (memfd_secret), which cannot be checkpointed",
                            fd_probe_name(p));
        else if (!somewhere)
                blocker_add(
                        b, "Have the program close it",
                        "%s is the file %.*s, deleted under that name, and there is no directory to make another link in",
                        fd_probe_name(p), name_length(p), p->link);
        else if (!p->task->dump->opts->link_remap)
                blocker_add(
                        b, "Use --link-remap to keep it by another link, which is made beside the old name",
                        "%s is the file %.*s, deleted under that name, which has other names (hard links)",
                        fd_probe_name(p), name_length(p), p->link);
        else
                return true;
        return false;
}

void linked_note(struct dump_files *files, const struct fd_probe *p, uint32_t id) {
        struct dump_link *l;
        char *name;

        if (!linked_is(p))
                return;
        if (!files->links)
                files->links = arena_new(&files->arena, struct dump_links);
        name = arena_strdup(&files->arena, p->link);
        name[name_length(p)] = 0;
        l = arena_new(&files->arena, struct dump_link);
        *l = (struct dump_link){
                .next = files->links->list,
                .file_id = id,
                .st = p->st,
                .proc = p->proc,
                .where = arena_strdup(&files->arena, p->where),
                .name = name,
        };
        files->links->list = l;
}

bool linked_any(const struct dump_files *files) {
        return files->links;
}

static int make_link(struct arena *a, struct dump_link *l, struct ckpt_error *err) {
        int dir = (int)(strrchr(l->name, '/') - l->name);
        char path[PATH_MAX];

        for (uint32_t i = l->file_id; i < l->file_id + NAMES_MAX; i++) {
                int n = snprintf(path, sizeof(path), "%.*s/%s%u", dir, l->name, prefix, i);

                if (n < 0 || (size_t)n >= sizeof(path))
                        break;
                if (linkat(l->proc->fd, l->where, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) {
                        l->made = arena_strdup(a, path);
                        return 0;
                }
                if (errno != EEXIST)
                        return ckpt_error_errno(err, -errno,
                                                "cannot make the link %s to keep the deleted file %s", path,
                                                l->name);
        }
        return ckpt_error(err, -EEXIST, "there is no name left beside %s for a link to keep that file",
                          l->name);
}

/* The link of another description of the inode will do. */
static struct dump_link *find_made(const struct dump_links *links, const struct dump_link *like) {
        for (struct dump_link *l = links->list; l; l = l->next)
                if (l->made && l->st.stx_ino == like->st.stx_ino &&
                    statx_dev(&l->st) == statx_dev(&like->st))
                        return l;
        return NULL;
}

static uint32_t add_file(struct dump_files *files, const struct dump_link *l) {
        struct dump_file *file = dump_file_new(files, &fd_kind_reg);

        file->msg->reg = arena_new(&files->arena, Img__RegFile);
        reg_fill(files, file->msg->reg, file->id, l->made, O_RDONLY, 0, &l->st,
                 arena_message(&files->arena, Img__Fown, img__fown__init));
        return file->id;
}

int linked_save(struct dump *d, struct image_file *image, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        int r = 0;

        for (struct dump_link *l = files->links ? files->links->list : NULL; r == 0 && l; l = l->next) {
                Img__RemapFilePath remap = IMG__REMAP_FILE_PATH__INIT;
                const struct dump_link *made = find_made(files->links, l);

                if (!made) {
                        r = make_link(&files->arena, l, err);
                        if (r < 0)
                                return r;
                        l->link_id = add_file(files, l);
                        made = l;
                }
                remap.orig_id = l->file_id;
                remap.remap_id = made->link_id;
                remap.has_remap_type = true;
                remap.remap_type = IMG__REMAP_TYPE__LINKED;
                r = image_write(image, &remap.base, err);
        }
        return r;
}

void fd_dump_committed(struct dump *d) {
        if (d->files && d->files->links)
                d->files->links->keep = true;
}

void linked_undo(struct dump_files *files) {
        if (!files->links || files->links->keep)
                return;
        for (const struct dump_link *l = files->links->list; l; l = l->next)
                if (l->made && unlink(l->made) < 0)
                        log_warn("cannot remove the link %s: %s", l->made, strerror(errno));
}

/* ---- restore ---- */

struct link_user {
        uint32_t file_id, link_id;
};
DEFINE_VEC(link_user_vec, struct link_user);

void linked_add(struct restore_files *files, uint32_t file_id, uint32_t link_id) {
        struct link_user_vec *users = files->state[FD_STATE_LINKED];

        if (!users)
                files->state[FD_STATE_LINKED] = users = calloc(1, sizeof(*users));
        ckpt_assert(users && link_user_vec_push(users, (struct link_user){ file_id, link_id }) == 0);
}

bool linked_has(const struct restore_files *files, uint32_t file_id) {
        const struct link_user_vec *users = files->state[FD_STATE_LINKED];

        for (size_t i = 0; users && i < users->n; i++)
                if (users->v[i].file_id == file_id)
                        return true;
        return false;
}

static const Img__RegFile *link_of(const struct restore_files *files, uint32_t id) {
        const struct restore_file *file = restore_find_file(files, id);

        return file && file->msg->type == IMG__FD_TYPES__REG && !file->ghost && !linked_has(files, id)
                       ? file->msg->reg
                       : NULL;
}

int linked_load(struct restore *r, struct ckpt_error *err) {
        const struct link_user_vec *users = r->files->state[FD_STATE_LINKED];

        for (size_t i = 0; users && i < users->n; i++) {
                struct restore_file *file = restore_find_file(r->files, users->v[i].file_id);
                const Img__RegFile *link = link_of(r->files, users->v[i].link_id);

                if (!file || file->msg->type != IMG__FD_TYPES__REG || !link)
                        return ckpt_error(
                                err, -EBADMSG,
                                "remap-fpath.img: file %u is to be found under the name of file %u, and one of them "
                                "is no file",
                                users->v[i].file_id, users->v[i].link_id);
                file->link = link->name;
        }
        return 0;
}

int linked_open(const struct restore_file *file, uint32_t flags) {
        const char *name = file->msg->reg->name;
        bool linked = link(file->link, name) == 0;
        int fd;

        fd = fd_open_exactly(linked ? name : file->link, flags);
        if (linked && unlink(name) < 0)
                log_warn("cannot remove %s, which was made for a moment: %s", name, strerror(errno));
        return fd;
}

/* Only what has a name that is for nothing else. */
void fd_restore_remove_links(struct restore *r) {
        const struct link_user_vec *users = r->files->state[FD_STATE_LINKED];

        for (size_t i = 0; users && i < users->n; i++) {
                const Img__RegFile *link = link_of(r->files, users->v[i].link_id);
                const char *base = link ? strrchr(link->name, '/') : NULL;

                if (base && strncmp(base + 1, prefix, sizeof(prefix) - 1) == 0 && unlink(link->name) < 0 &&
                    errno != ENOENT)
                        log_warn("cannot remove the link %s: %s", link->name, strerror(errno));
        }
}

void linked_free(struct restore_files *files) {
        struct link_user_vec *users = files->state[FD_STATE_LINKED];

        if (users)
                link_user_vec_done(users);
        free(users);
        files->state[FD_STATE_LINKED] = NULL;
}
