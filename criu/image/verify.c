/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every byte of a set against its checksums, chunk by chunk, by several threads. Restore waits for
 * this, so it runs at the speed of read(2): buffers stay in the cache, and threads share files chunk by
 * chunk.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "lib/io.h"
#include "macro.h"

#define CHUNK         ((uint64_t)IMAGE_CHUNK_SIZE)
#define THREADS_MAX   64
#define THREAD_CHUNKS 4                    /* below that a further thread costs more than it brings */
#define KEEP_MAX      ((uint64_t)64 << 20) /* bytes of small files to keep for image_open_read() */

struct verify {
        struct image_dir *dir;
        size_t *first_chunk; /* per record, and one past the end */
        struct image_digest *chunks;
        int *result; /* per record: negative errno of reading it */
        atomic_size_t next_chunk;
        atomic_uint_fast64_t kept;
};

static bool is_file(const struct image_record *record) {
        return strcmp(record->name, "inventory.img") != 0; /* checked against its message */
}

static bool keep(struct verify *v, const struct image_record *record) {
        enum image_kind kind = image_kind_of(record->name, NULL);

        if (record->size > CHUNK || image_kind_info(kind)->form == IMAGE_FORM_RAW)
                return false;
        return atomic_fetch_add(&v->kept, record->size) + record->size <= KEEP_MAX;
}

static int verify_chunk(struct verify *v, size_t index, size_t chunk, int fd, uint8_t *buf) {
        struct image_record *record = &v->dir->records.v[index];
        uint64_t offset = (chunk - v->first_chunk[index]) * CHUNK;
        size_t len = (size_t)MIN(CHUNK, record->size - offset);
        uint8_t *into = buf;
        ssize_t n;

        if (keep(v, record)) {
                /* One chunk, so nobody else looks at this record. */
                record->content = malloc(len);
                if (record->content)
                        into = record->content;
        }
        n = pread_full(fd, into, len, (off_t)offset);
        if (n < 0)
                return (int)n;
        if ((size_t)n < len)
                return -EBADMSG;
        v->chunks[chunk] = image_chunk_digest(into, len);
        return 0;
}

/* Existence, type and size. */
static int check_size(const struct verify *v, size_t index, struct ckpt_error *err) {
        const struct image_record *record = &v->dir->records.v[index];
        char path[PATH_MAX];
        struct stat st;

        if (!is_file(record))
                return 0;
        if (fstatat(v->dir->fd, record->name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
            (uint64_t)st.st_size == record->size)
                return 0;
        image_dir_path(v->dir->fd, path);
        if (fstatat(v->dir->fd, record->name, &st, 0) < 0)
                return errno == ENOENT ? ckpt_error(err, -EBADMSG,
                                                    "%s is missing in %s: the checkpoint is not whole",
                                                    record->name, path)
                                       : ckpt_error_errno(err, -errno, "cannot look at %s in %s",
                                                          record->name, path);
        if (!S_ISREG(st.st_mode))
                return ckpt_error(err, -EBADMSG, "%s in %s is not a regular file", record->name, path);
        return ckpt_error(err, -EBADMSG, "%s in %s is damaged: it has %lld bytes instead of %llu",
                          record->name, path, (long long)st.st_size, (unsigned long long)record->size);
}

/* Small files are looked at by the thread that reads them, and only if something is wrong once more, to say what. */
static bool is_looked_at_by_reader(const struct image_record *record) {
        return record->size > 0 && record->size <= CHUNK;
}

static int open_record(const struct verify *v, size_t index) {
        const struct image_record *record = &v->dir->records.v[index];
        struct stat st;
        int fd;

        /* Opening can do things where it is no file. */
        if (is_looked_at_by_reader(record) && (fstatat(v->dir->fd, record->name, &st, 0) < 0 ||
                                               !S_ISREG(st.st_mode) || (uint64_t)st.st_size != record->size))
                return -EBADMSG;
        fd = openat(v->dir->fd, record->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        return fd < 0 ? -errno : fd;
}

static void *verify_thread(void *arg) {
        struct verify *v = arg;
        size_t total = v->first_chunk[v->dir->records.n], index = 0, opened = SIZE_MAX, chunk;
        _cleanup_free_ uint8_t *buf = malloc(IMAGE_CHUNK_SIZE);
        _cleanup_close_ int fd = -EBADF;

        if (!buf)
                return (void *)(intptr_t)-ENOMEM;
        while ((chunk = atomic_fetch_add(&v->next_chunk, 1)) < total) {
                int r;

                while (v->first_chunk[index + 1] <= chunk)
                        index++;
                if (opened != index) {
                        safe_close(fd);
                        fd = open_record(v, index);
                        if (fd < 0)
                                return (void *)(intptr_t)(v->result[index] = fd);
                        opened = index;
                }
                r = verify_chunk(v, index, chunk, fd, buf);
                if (r < 0)
                        return (void *)(intptr_t)(v->result[index] = r);
        }
        return NULL;
}

/* Where the chunks of each file begin; `all`: every file is looked at here. */
static int lay_out(struct verify *v, bool all, struct ckpt_error *err) {
        const struct image_record_vec *records = &v->dir->records;
        int r = 0;

        for (size_t i = 0; r == 0 && i < records->n; i++) {
                const struct image_record *record = &records->v[i];

                v->first_chunk[i + 1] = v->first_chunk[i];
                if (all || !is_looked_at_by_reader(record))
                        r = check_size(v, i, err);
                if (is_file(record))
                        v->first_chunk[i + 1] += (size_t)((record->size + CHUNK - 1) / CHUNK);
        }
        return r;
}

/* The caller's thread takes part; no others if there is little to do. Returns the first error of any. */
static int run(struct verify *v, unsigned threads) {
        size_t useful = v->first_chunk[v->dir->records.n] / THREAD_CHUNKS + 1;
        pthread_t helper[THREADS_MAX];
        unsigned n = 0, want = MIN(threads, THREADS_MAX + 0U);
        sigset_t all, before;
        void *result;
        int r;

        want = (unsigned)MIN((size_t)want, useful) - 1;

        /* Signals belong to the thread that waits for them. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (n < want && pthread_create(&helper[n], NULL, verify_thread, v) == 0)
                n++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        r = (int)(intptr_t)verify_thread(v);
        while (n > 0) {
                pthread_join(helper[--n], &result);
                if (r == 0)
                        r = (int)(intptr_t)result;
        }
        return r;
}

static int check_digests(const struct verify *v, int result, struct ckpt_error *err) {
        const struct image_record_vec *records = &v->dir->records;
        char path[PATH_MAX];

        image_dir_path(v->dir->fd, path);
        for (size_t i = 0; result < 0 && i < records->n; i++)
                if (v->result[i] < 0)
                        return ckpt_error_errno(err, v->result[i], "cannot read %s in %s",
                                                records->v[i].name, path);
        if (result < 0)
                return ckpt_error_errno(err, result, "cannot verify the images in %s", path);
        for (size_t i = 0; i < records->n; i++) {
                size_t first = v->first_chunk[i];
                struct image_digest digest =
                        image_file_digest(v->chunks + first, v->first_chunk[i + 1] - first);

                if (is_file(&records->v[i]) &&
                    memcmp(digest.byte, records->v[i].digest.byte, IMAGE_DIGEST_SIZE) != 0)
                        return ckpt_error(err, -EBADMSG,
                                          "%s in %s is damaged: its contents do not match their checksum",
                                          records->v[i].name, path);
        }
        return 0;
}

int image_verify(struct image_dir *dir, unsigned threads, struct ckpt_error *err) {
        _cleanup_free_ size_t *first_chunk = calloc(dir->records.n + 1, sizeof(*first_chunk));
        _cleanup_free_ int *result = calloc(dir->records.n + 1, sizeof(*result));
        _cleanup_free_ struct image_digest *chunks = NULL;
        struct verify v = { .dir = dir, .first_chunk = first_chunk, .result = result };
        int r;

        if (!first_chunk || !result)
                return ckpt_error(err, -ENOMEM, "not enough memory to verify the images");
        r = lay_out(&v, threads == 0, err);
        if (r < 0 || threads == 0)
                return r;
        chunks = calloc(first_chunk[dir->records.n] + 1, sizeof(*chunks));
        if (!chunks)
                return ckpt_error(err, -ENOMEM, "not enough memory to verify the images");
        v.chunks = chunks;
        r = run(&v, threads);
        for (size_t i = 0; r < 0 && i < dir->records.n; i++)
                if (check_size(&v, i, err) < 0)
                        return err->code;
        return check_digests(&v, r, err);
}
