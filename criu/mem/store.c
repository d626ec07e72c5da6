/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages files. The places of all pages are known before the first is read, so the file is written in chunks
 * of IMAGE_CHUNK_SIZE by as many workers as come to help. Each chunk is read into a buffer
 * (process_vm_readv, up to 1024 runs in a call), hashed while it is in the cache, and written; or, where the file can be had
 * as memory, read straight into that.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"
#include "images/pagemap.pb-c.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/dump.h"

#define CHUNK     ((size_t)IMAGE_CHUNK_SIZE)
#define HELP_FROM (8 * CHUNK) /* where help is worth the trouble of asking for it */
#define SHARE     ((size_t)4) /* chunks that a worker takes at a time: whole huge pages of the file */

struct store {
        struct dump *d;
        struct mem_source source;
        const struct mem_run_vec *runs;
        enum image_kind pagemap_kind;
        unsigned long pagemap_id;
        uint32_t pages_id;
        struct image_file *file;
        uint64_t size;
        size_t nr_chunks;
        size_t next;  /* chunk to be done, atomic */
        bool no_huge; /* pages in the file, atomic */

        pthread_mutex_t lock; /* of what follows */
        int failed;
        struct ckpt_error err;
};

/* Of one worker. */
struct reader {
        struct store *s;
        int mem_fd; /* /proc/PID/mem, opened when needed */
        char *buf;
        struct image_window window; /* part of the file, or nothing */
        struct iovec remote[IOV_MAX];
        bool shared[IOV_MAX]; /* has other owners */
};

static void reader_done(struct reader *rd) {
        rd->mem_fd = safe_close(rd->mem_fd);
        image_window_close(&rd->window);
        free(rd->buf);
}

/*
 * What process_vm_readv(2) may not read (PROT_NONE and the like), or must not because it would end
 * sharing (cow.c), can be read through /proc/PID/mem, at half the speed.
 */
static ssize_t read_forced(struct reader *rd, const struct iovec *remote, char *buf) {
        const struct mem_source *source = &rd->s->source;
        ssize_t n;

        if (rd->mem_fd < 0)
                rd->mem_fd = proc_openat(&source->task->proc, "mem", O_RDONLY);
        if (rd->mem_fd < 0)
                return rd->mem_fd;
        n = pread(rd->mem_fd, buf, remote->iov_len, (off_t)(uintptr_t)remote->iov_base);
        return n < 0 ? -errno : n == 0 ? -EFAULT : n;
}

static int read_task(struct reader *rd, size_t nr, char *buf, size_t len) {
        pid_t pid = rd->s->source.task->threads[0].tid;
        size_t first = 0;

        while (first < nr) {
                struct iovec local = { buf, len };
                ssize_t n = -EFAULT;
                size_t end = first;

                while (end < nr && !rd->shared[end])
                        end++;
                if (end > first) {
                        n = process_vm_readv(pid, &local, 1, rd->remote + first, end - first, 0);
                        n = n < 0 ? -errno : n;
                }
                if (n == -EFAULT)
                        n = read_forced(rd, &rd->remote[first], buf);
                if (n <= 0)
                        return n < 0 ? (int)n : -EFAULT;
                iov_advance(rd->remote, &first, (size_t)n);
                buf += n;
                len -= (size_t)n;
        }
        return 0;
}

static int read_memory(const struct reader *rd, size_t nr, char *buf) {
        for (size_t i = 0; i < nr; i++) {
                memcpy(buf, rd->s->source.memory + (uintptr_t)rd->remote[i].iov_base, rd->remote[i].iov_len);
                buf += rd->remote[i].iov_len;
        }
        return 0;
}

static int read_file(struct reader *rd, size_t nr, char *buf) {
        for (size_t i = 0; i < nr; i++) {
                const struct iovec *iov = &rd->remote[i];
                uint64_t at = (uintptr_t)iov->iov_base, size = rd->s->source.file_size;
                size_t len = (size_t)MIN((uint64_t)iov->iov_len, size > at ? size - at : 0);
                ssize_t n = pread_full(rd->s->source.fd, buf, len, (off_t)at);

                if (n != (ssize_t)len)
                        return n < 0 ? (int)n : -EIO;
                if (rd->s->source.tail && iov->iov_len - len < PAGE_SIZE)
                        memcpy(buf + len, rd->s->source.tail, iov->iov_len - len);
                else
                        memset(buf + len, 0, iov->iov_len - len);
                buf += n;
        }
        return 0;
}

/* Bytes [offset, offset + len) of the pages file. */
static int read_bytes(struct reader *rd, uint64_t offset, size_t len, char *buf) {
        const struct mem_run_vec *runs = rd->s->runs;
        size_t i = mem_runs_at_offset(runs, offset), done = 0;
        int r = 0;

        while (r == 0 && done < len) {
                size_t nr = 0, bytes = 0;

                for (; nr < IOV_MAX && done + bytes < len; i++, nr++) {
                        const struct mem_run *run = &runs->v[i];
                        uint64_t skip = offset + done + bytes - run->offset;
                        size_t n = MIN(run->end - run->start - skip, (uint64_t)(len - done - bytes));

                        rd->shared[nr] = run->sort & MEM_SORT_SHARED;
                        rd->remote[nr] = (struct iovec){ (void *)(uintptr_t)(run->start + skip), n };
                        bytes += n;
                }
                if (rd->s->source.memory)
                        r = read_memory(rd, nr, buf + done);
                else
                        r = rd->s->source.task ? read_task(rd, nr, buf + done, bytes)
                                               : read_file(rd, nr, buf + done);
                done += bytes;
        }
        return r;
}

/* Where chunks can be put together such that they need not be written. NULL: nowhere. */
static char *place_in_file(const struct reader *rd, uint64_t offset, size_t len) {
        const struct image_window *w = &rd->window;

        if (!w->start || offset < w->offset || offset + len > w->offset + w->size)
                return NULL;
        return w->start + (offset - w->offset);
}

static int store_chunk(struct reader *rd, size_t chunk, struct ckpt_error *err) {
        struct store *s = rd->s;
        uint64_t offset = chunk * (uint64_t)CHUNK;
        size_t len = MIN(s->size - offset, (uint64_t)CHUNK);
        char *place = place_in_file(rd, offset, len), *buf = place ? place : rd->buf;
        struct image_digest digest;
        int r;

        r = read_bytes(rd, offset, len, buf);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its memory", s->source.name);
        digest = image_chunk_digest(buf, len);
        r = image_pages_chunk(s->file, chunk, &digest);
        if (r == 0 && !place)
                r = pwrite_full(image_file_fd(s->file), buf, len, (off_t)offset);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot write the memory of %s into the images directory",
                                        s->source.name);
        progress_add(&s->d->run->progress, len);
        return chunk == s->nr_chunks / 2 ? fault_point_error(FAULT_DUMP_MEMORY_HALF, err) : 0;
}

/* Chunks from `first` on, as many as one worker does at a time. */
static int store_share(struct reader *rd, size_t first, struct ckpt_error *err) {
        struct store *s = rd->s;
        size_t end = MIN(first + SHARE, s->nr_chunks);
        uint64_t offset = first * (uint64_t)CHUNK;
        int r = 0;

        if (!__atomic_load_n(&s->no_huge, __ATOMIC_RELAXED) &&
            !image_pages_make_huge(s->file, offset, MIN(s->size, end * (uint64_t)CHUNK) - offset,
                                   &rd->window))
                __atomic_store_n(&s->no_huge, true, __ATOMIC_RELAXED);
        for (size_t i = first; r == 0 && i < end; i++)
                r = store_chunk(rd, i, err);
        image_window_close(&rd->window);
        return r;
}

static void note_failure(struct store *s, int r, struct ckpt_error *err) {
        pthread_mutex_lock(&s->lock);
        if (s->failed == 0) {
                s->failed = r;
                ckpt_error_move(&s->err, err);
        }
        pthread_mutex_unlock(&s->lock);
        __atomic_store_n(&s->next, s->nr_chunks, __ATOMIC_RELAXED);
}

static int write_pagemap(const struct store *s, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        const struct mem_run_vec *runs = s->runs;
        Img__PagemapHead head = IMG__PAGEMAP_HEAD__INIT;
        int r;

        head.pages_id = s->pages_id;
        r = image_open_write(s->d->set, s->pagemap_kind, s->pagemap_id, &file, err);
        if (r == 0)
                r = image_write(file, &head.base, err);
        for (size_t i = 0; r == 0 && i < runs->n; i++) {
                Img__Pagemap entry = IMG__PAGEMAP__INIT;

                bool cow = runs->v[i].sort & MEM_SORT_COW;

                entry.vaddr = runs->v[i].start;
                while (i + 1 < runs->n && runs->v[i + 1].start == runs->v[i].end &&
                       (runs->v[i + 1].sort & MEM_SORT_COW) == (runs->v[i].sort & MEM_SORT_COW))
                        i++;
                entry.has_nr_pages = true;
                entry.nr_pages = (runs->v[i].end - entry.vaddr) / PAGE_SIZE;
                entry.has_flags = true;
                entry.flags = MEM_RUN_PRESENT;
                entry.has_cow_parent = entry.cow_parent = cow;
                r = image_write(file, &entry.base, err);
        }
        return r < 0 ? r : image_close(TAKE_PTR(file), err);
}

/* The one whose memory it is also describes it; meanwhile the others begin. Then chunks, until none is left. */
static void work(void *ctx, bool helper) {
        struct store *s = ctx;
        _cleanup_(reader_done) struct reader rd = { .s = s, .mem_fd = -EBADF };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = 0;

        if (!helper)
                r = write_pagemap(s, &err);
        rd.buf = malloc(MIN(s->size, (uint64_t)CHUNK) + 1); /* there may be nothing */
        if (!rd.buf) {
                ckpt_error(&err, -ENOMEM, "not enough memory");
                note_failure(s, -ENOMEM, &err);
                return;
        }
        while (r == 0) {
                size_t chunk = __atomic_fetch_add(&s->next, SHARE, __ATOMIC_RELAXED);

                if (chunk >= s->nr_chunks)
                        return;
                r = store_share(&rd, chunk, &err);
        }
        note_failure(s, r, &err);
}

static int store_pages(struct store *s, struct ckpt_error *err) {
        s->nr_chunks = (size_t)((s->size + CHUNK - 1) / CHUNK);
        pthread_mutex_init(&s->lock, NULL);
        pool_share(s->d->pool, s->size >= HELP_FROM ? pool_threads(s->d->pool) - 1 : 0, work, s);
        pthread_mutex_destroy(&s->lock);
        ckpt_error_move(err, &s->err);
        return s->failed;
}

int mem_store(struct dump *d, const struct mem_source *source, enum image_kind pagemap_kind,
              unsigned long pagemap_id, uint32_t pages_id, struct mem_run_vec *runs,
              struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct store s = { .d = d,
                           .source = *source,
                           .runs = runs,
                           .pagemap_kind = pagemap_kind,
                           .pagemap_id = pagemap_id,
                           .pages_id = pages_id };
        uint64_t *counter;
        int r;

        s.size = mem_runs_place(runs);
        progress_add_total(&d->run->progress, s.size);
        r = image_open_pages(d->set, pages_id, &file, err);
        s.file = file;
        if (r == 0)
                r = store_pages(&s, err);
        if (r < 0)
                return r;
        counter = source->task ? &d->stats.pages_written : &d->stats.shpages_written;
        __atomic_fetch_add(counter, s.size / PAGE_SIZE, __ATOMIC_RELAXED);
        counter = source->task ? &d->stats.pages_scanned : &d->stats.shpages_scanned;
        __atomic_fetch_add(counter, s.size / PAGE_SIZE, __ATOMIC_RELAXED);
        return image_close(TAKE_PTR(file), err);
}
