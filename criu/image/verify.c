/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every byte of a set against its checksums, chunk by chunk, by several threads. Restore waits for
 * this, so it runs at the speed of read(2): buffers stay in the cache, and threads share files chunk by
 * chunk.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "lib/io.h"
#include "lib/thread.h"
#include "macro.h"

#define CHUNK         ((uint64_t)IMAGE_CHUNK_SIZE)
#define THREADS_MAX   64
#define THREAD_CHUNKS 4                    /* below that a further thread costs more than it brings */
#define KEEP_MAX      ((uint64_t)64 << 20) /* bytes of small files to keep for image_open_read() */

enum which {
        ALL,
        SMALL, /* of one chunk at most */
        LARGE,
};

struct verify {
        struct image_dir *dir;
        enum which which;
        size_t *first_chunk; /* per record, and one past the end */
        struct image_digest *chunks;
        int *result; /* per record: negative errno of reading it */
        atomic_size_t next_chunk;
        atomic_uint_fast64_t kept;
};

/* Threads that are at it while the caller does something else. */
struct image_verification {
        struct verify v;
        pthread_t helper[THREADS_MAX];
        unsigned n;
};

/* Is it a file, and one of those to look at? The inventory is checked against its message. */
static bool is_meant(const struct verify *v, const struct image_record *record) {
        return (v->which == ALL || (v->which == LARGE) == (record->size > CHUNK)) &&
               strcmp(record->name, "inventory.img") != 0;
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

        if (!is_meant(v, record))
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
                if (is_meant(v, record))
                        v->first_chunk[i + 1] += (size_t)((record->size + CHUNK - 1) / CHUNK);
        }
        return r;
}

static unsigned start_threads(struct verify *v, unsigned want, pthread_t helper[THREADS_MAX]) {
        unsigned n = 0;

        while (n < want && thread_start(&helper[n], verify_thread, v) == 0)
                n++;
        return n;
}

static int join_threads(unsigned n, const pthread_t helper[THREADS_MAX], int r) {
        void *result;

        while (n > 0) {
                pthread_join(helper[--n], &result);
                if (r == 0)
                        r = (int)(intptr_t)result;
        }
        return r;
}

/* Of so many threads, how many have something to do? */
static unsigned useful_threads(const struct verify *v, unsigned threads) {
        size_t useful = v->first_chunk[v->dir->records.n] / THREAD_CHUNKS + 1;

        threads = MIN(threads, THREADS_MAX + 0U);
        return (unsigned)MIN((size_t)threads, useful);
}

/* The caller's thread takes part; no others if there is little to do. Returns the first error of any. */
static int run(struct verify *v, unsigned threads) {
        pthread_t helper[THREADS_MAX];
        unsigned n = start_threads(v, useful_threads(v, threads) - 1, helper);
        int r = (int)(intptr_t)verify_thread(v);

        return join_threads(n, helper, r);
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

                if (is_meant(v, &records->v[i]) &&
                    memcmp(digest.byte, records->v[i].digest.byte, IMAGE_DIGEST_SIZE) != 0)
                        return ckpt_error(err, -EBADMSG,
                                          "%s in %s is damaged: its contents do not match their checksum",
                                          records->v[i].name, path);
        }
        return 0;
}

static void verify_done(struct verify *v) {
        free(v->first_chunk);
        free(v->result);
        free(v->chunks);
}

static int no_memory(struct ckpt_error *err) {
        return ckpt_error(err, -ENOMEM, "not enough memory to verify the images");
}

/* `threads` 0: only sizes are looked at, here. */
static int prepare(struct verify *v, unsigned threads, struct ckpt_error *err) {
        size_t n = v->dir->records.n;
        int r;

        v->first_chunk = calloc(n + 1, sizeof(*v->first_chunk));
        v->result = calloc(n + 1, sizeof(*v->result));
        if (!v->first_chunk || !v->result)
                return no_memory(err);
        r = lay_out(v, threads == 0, err);
        if (r < 0)
                return r;
        v->chunks = calloc(v->first_chunk[n] + 1, sizeof(*v->chunks));
        return v->chunks ? 0 : no_memory(err);
}

static int judge(struct verify *v, int r, struct ckpt_error *err) {
        for (size_t i = 0; r < 0 && i < v->dir->records.n; i++)
                if (check_size(v, i, err) < 0)
                        return err->code;
        return check_digests(v, r, err);
}

static int verify_which(struct image_dir *dir, enum which which, unsigned threads, struct ckpt_error *err) {
        _cleanup_(verify_done) struct verify v = { .dir = dir, .which = which };
        int r = prepare(&v, threads, err);

        if (r < 0 || threads == 0)
                return r;
        return judge(&v, run(&v, threads), err);
}

int image_verify(struct image_dir *dir, unsigned threads, struct ckpt_error *err) {
        return verify_which(dir, ALL, threads, err);
}

int image_verify_begin(struct image_dir *dir, unsigned threads, struct ckpt_error *err) {
        struct image_verification *late;
        int r;

        if (threads == 0)
                return image_verify(dir, 0, err);
        late = calloc(1, sizeof(*late));
        if (!late)
                return no_memory(err);
        dir->late = late;
        late->v.dir = dir;
        late->v.which = LARGE;
        r = prepare(&late->v, threads, err);
        if (r < 0)
                return r;
        if (late->v.first_chunk[dir->records.n] > 0)
                late->n = start_threads(&late->v, useful_threads(&late->v, threads), late->helper);
        return verify_which(dir, SMALL, threads, err);
}

int image_verify_end(struct image_dir *dir, struct ckpt_error *err) {
        struct image_verification *late = dir->late;
        int r;

        if (!late)
                return 0;
        r = join_threads(late->n, late->helper, (int)(intptr_t)verify_thread(&late->v));
        late->n = 0;
        r = judge(&late->v, r, err);
        image_verify_cancel(dir);
        return r;
}

void image_verify_cancel(struct image_dir *dir) {
        struct image_verification *late = dir->late;

        if (!late)
                return;
        if (late->n > 0)
                atomic_store(&late->v.next_chunk, late->v.first_chunk[dir->records.n]);
        join_threads(late->n, late->helper, 0);
        verify_done(&late->v);
        free(late);
        dir->late = NULL;
}
