/* SPDX-License-Identifier: GPL-2.0-only */
/* Mapped files on dump. fd/ knows them; here stands which of them it has been told of. */
#include <errno.h>
#include <string.h>

#include "fd/fd.h"
#include "macro.h"
#include "mem/dump.h"

static int compare(const struct mem_known_file *file, const struct proc_vma *vma, uint32_t flags) {
        const struct proc_vma *x = file->vma;

        if (x->ino != vma->ino)
                return x->ino < vma->ino ? -1 : 1;
        if (x->dev_major != vma->dev_major)
                return x->dev_major < vma->dev_major ? -1 : 1;
        if (x->dev_minor != vma->dev_minor)
                return x->dev_minor < vma->dev_minor ? -1 : 1;
        if (file->flags != flags)
                return file->flags < flags ? -1 : 1;
        return strcmp(x->name, vma->name);
}

/* Index of the first that is not below. */
static size_t find(const struct mem_known_file_vec *files, const struct proc_vma *vma, uint32_t flags) {
        size_t low = 0, high = files->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (compare(&files->v[mid], vma, flags) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

static bool known_file(struct mem_tree *tree, const struct proc_vma *vma, uint32_t flags, uint32_t *ret) {
        size_t i;
        bool known;

        pthread_mutex_lock(&tree->lock);
        i = find(&tree->files, vma, flags);
        known = i < tree->files.n && compare(&tree->files.v[i], vma, flags) == 0;
        if (known)
                *ret = tree->files.v[i].id;
        pthread_mutex_unlock(&tree->lock);
        return known;
}

static int note_file(struct mem_tree *tree, const struct proc_vma *vma, uint32_t flags, uint32_t id) {
        struct mem_known_file_vec *files = &tree->files;
        int r = -ENOMEM;
        size_t i;

        pthread_mutex_lock(&tree->lock);
        i = find(files, vma, flags);
        if (mem_known_file_vec_add(files)) {
                memmove(&files->v[i + 1], &files->v[i], (files->n - 1 - i) * sizeof(*files->v));
                files->v[i] = (struct mem_known_file){ .vma = vma, .flags = flags, .id = id };
                r = 0;
        }
        pthread_mutex_unlock(&tree->lock);
        return r;
}

static int compare_clear(const struct mem_clear_file *file, const struct proc_vma *vma) {
        if (file->ino != vma->ino)
                return file->ino < vma->ino ? -1 : 1;
        if (file->dev_major != vma->dev_major)
                return file->dev_major < vma->dev_major ? -1 : 1;
        if (file->dev_minor != vma->dev_minor)
                return file->dev_minor < vma->dev_minor ? -1 : 1;
        return strcmp(file->name, vma->name);
}

/* Index of the first that is not below. */
static size_t find_clear(const struct mem_clear_file_vec *files, const struct proc_vma *vma) {
        size_t low = 0, high = files->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (compare_clear(&files->v[mid], vma) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

bool mem_file_is_clear(struct mem_tree *tree, const struct proc_vma *vma) {
        bool clear;
        size_t i;

        pthread_mutex_lock(&tree->lock);
        i = find_clear(&tree->clear, vma);
        clear = i < tree->clear.n && compare_clear(&tree->clear.v[i], vma) == 0;
        pthread_mutex_unlock(&tree->lock);
        return clear;
}

void mem_file_note_clear(struct mem_tree *tree, const struct proc_vma *vma) {
        struct mem_clear_file_vec *files = &tree->clear;
        char *name = strdup(vma->name);
        size_t i;

        ckpt_assert(name);
        pthread_mutex_lock(&tree->lock);
        i = find_clear(files, vma);
        ckpt_assert(mem_clear_file_vec_add(files));
        memmove(&files->v[i + 1], &files->v[i], (files->n - 1 - i) * sizeof(*files->v));
        files->v[i] = (struct mem_clear_file){
                .ino = vma->ino, .dev_major = vma->dev_major, .dev_minor = vma->dev_minor, .name = name
        };
        pthread_mutex_unlock(&tree->lock);
}

void mem_clear_files_done(struct mem_clear_file_vec *files) {
        for (size_t i = 0; i < files->n; i++)
                free(files->v[i].name);
        mem_clear_file_vec_done(files);
}

/* Not locked while fd/ is asked, which has a lock of its own and calls mem/ with that. */
int mem_file_id(struct dump_task *t, const struct proc_vma *vma, uint32_t flags, uint32_t *ret,
                struct ckpt_error *err) {
        struct mem_tree *tree = mem_tree_of(t->dump);
        char link[48];
        uint32_t id;
        int r;

        if (known_file(tree, vma, flags, ret))
                return 0;
        mem_map_files_link(vma, link);
        r = files_add_path(t, link, flags, &id, err);
        if (r < 0)
                return r;
        r = note_file(tree, vma, flags, id);
        if (r < 0)
                return ckpt_error(err, r, "not enough memory");
        *ret = id;
        return 0;
}
