/* SPDX-License-Identifier: GPL-2.0-only */
/* A directory being written: its staging directory, the lock on it, the list of finished files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "log.h"
#include "macro.h"

const char *image_dir_path(int dirfd, char buf[PATH_MAX]) {
        char link[64];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
        n = readlink(link, buf, PATH_MAX - 1);
        if (n <= 0)
                return "the images directory";
        buf[n] = '\0';
        return buf;
}

void image_step(const struct image_hooks *hooks, const char *step) {
        if (hooks && hooks->step)
                hooks->step(hooks->userdata, step);
}

static int record_compare(const void *a, const void *b) {
        return strcmp(((const struct image_record *)a)->name, ((const struct image_record *)b)->name);
}

void image_records_sort(struct image_record_vec *records) {
        if (records->n > 0)
                qsort(records->v, records->n, sizeof(*records->v), record_compare);
}

struct image_record *image_records_find(const struct image_record_vec *records, const char *name) {
        struct image_record key = { 0 };

        if (records->n == 0 || strlen(name) >= sizeof(key.name))
                return NULL;
        strcpy(key.name, name);
        return bsearch(&key, records->v, records->n, sizeof(*records->v), record_compare);
}

void image_records_done(struct image_record_vec *records) {
        for (size_t i = 0; i < records->n; i++)
                free(records->v[i].content);
        image_record_vec_done(records);
}

void image_names_done(struct image_name_vec *names) {
        for (size_t i = 0; i < names->n; i++)
                free(names->v[i]);
        image_name_vec_done(names);
}

int image_list_dir(int dirfd, bool (*want)(const char *name, const void *userdata), const void *userdata,
                   struct image_name_vec *ret) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        _cleanup_closedir_ DIR *dir = NULL;
        int fd, r;

        /* A descriptor of its own: the position of a directory stream lives in the file description. */
        fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                close(fd);
                return r;
        }
        for (;;) {
                const struct dirent *entry;
                char *name;

                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        break;
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    (want && !want(entry->d_name, userdata)))
                        continue;
                name = strdup(entry->d_name);
                if (!name)
                        return -ENOMEM;
                r = image_name_vec_push(&names, name);
                if (r < 0) {
                        free(name);
                        return r;
                }
        }
        if (errno != 0)
                return -errno;
        *ret = names;
        names = (struct image_name_vec){ 0 };
        return 0;
}

/* Who holds a flock on this inode, by /proc/locks; 0 if that cannot be told. */
static pid_t lock_holder(const struct stat *st) {
        _cleanup_fclose_ FILE *f = fopen("/proc/locks", "re");
        char line[256];

        while (f && fgets(line, sizeof(line), f)) {
                unsigned long long ino;
                unsigned major_nr, minor_nr;
                int pid;

                if (sscanf(line, "%*u: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_nr, &minor_nr, &ino) ==
                            4 &&
                    ino == st->st_ino && makedev(major_nr, minor_nr) == st->st_dev)
                        return pid;
        }
        return 0;
}

static int lock_refused(int dirfd, const struct stat *st, struct ckpt_error *err) {
        char path[PATH_MAX], holder[64] = "";
        pid_t pid = lock_holder(st);

        if (pid > 0)
                snprintf(holder, sizeof(holder), " (pid %d)", pid);
        ckpt_error(err, -EBUSY,
                   "another ckpt%s is writing a checkpoint into %s right now; nothing was changed", holder,
                   image_dir_path(dirfd, path));
        return ckpt_error_hint(err, "Wait until it has finished, or choose another directory with -D");
}

static int flock_dir(int fd, int dirfd, const struct stat *st, struct ckpt_error *err) {
        char path[PATH_MAX];

        if (flock(fd, LOCK_EX | LOCK_NB) >= 0)
                return 0;
        if (errno == EWOULDBLOCK)
                return lock_refused(dirfd, st, err);
        if (errno != EBADF && errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS)
                return ckpt_error_errno(err, -errno, "cannot lock %s", image_dir_path(dirfd, path));
        /* NFS emulates flock by byte-range locks, which directories do not have. */
        log_warn("%s is on a filesystem without locks on directories: make sure that only one ckpt uses it",
                 image_dir_path(dirfd, path));
        return 0;
}

int image_lock_dir(int dirfd, const char *name, bool create, int *ret_fd, struct ckpt_error *err) {
        char path[PATH_MAX];
        struct stat opened, named;
        int r;

        /* Between open and flock the holder may finish and remove or rename the directory: look again. */
        for (int attempt = 0; attempt < 100; attempt++) {
                _cleanup_close_ int fd = -EBADF;

                if (create && mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
                        return ckpt_error_errno(err, -errno, "cannot create %s in %s; nothing was changed",
                                                name, image_dir_path(dirfd, path));
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 && errno == ENOENT && create)
                        continue;
                if (fd < 0 && errno == ENOENT)
                        return -ENOENT;
                if (fd < 0 || fstat(fd, &opened) < 0)
                        return ckpt_error_errno(err, -errno, "cannot open %s in %s", name,
                                                image_dir_path(dirfd, path));
                r = flock_dir(fd, dirfd, &opened, err);
                if (r < 0)
                        return r;
                if (fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) >= 0 &&
                    named.st_ino == opened.st_ino && named.st_dev == opened.st_dev) {
                        *ret_fd = TAKE_FD(fd);
                        return 0;
                }
        }
        return lock_refused(dirfd, &opened, err);
}

static int empty_dir(int dirfd, int stagefd, struct ckpt_error *err) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        char path[PATH_MAX];
        int r;

        r = image_list_dir(stagefd, NULL, NULL, &names);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot list " IMAGE_STAGING_DIR " in %s",
                                        image_dir_path(dirfd, path));
        if (names.n > 0)
                log_info("removing %zu files of a dump that did not finish", names.n);
        for (size_t i = 0; i < names.n; i++)
                if (unlinkat(stagefd, names.v[i], 0) < 0 && errno != ENOENT)
                        return ckpt_error_errno(
                                err, -errno, "cannot remove %s, left by a dump that did not finish, from %s",
                                names.v[i], image_dir_path(stagefd, path));
        return 0;
}

static bool want_image(const char *name, const void *unused __attribute__((unused))) {
        return image_kind_of(name, NULL) != IMAGE_KIND_INVALID;
}

/* No checkpoint, nor anything left of one. */
static int is_fresh(int dirfd, struct ckpt_error *err) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        char path[PATH_MAX];
        int r;

        r = image_list_dir(dirfd, want_image, NULL, &names);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot list %s", image_dir_path(dirfd, path));
        return names.n == 0;
}

int image_set_create(int dirfd, const struct image_hooks *hooks, struct image_set **ret,
                     struct ckpt_error *err) {
        _cleanup_close_ int dir = -EBADF, stage = -EBADF;
        struct image_set *set;
        int r, fresh;

        dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return ckpt_error_errno(err, -errno, "cannot open the images directory");
        r = image_set_recover(dir, err);
        if (r < 0)
                return r;
        r = image_lock_dir(dir, IMAGE_STAGING_DIR, true, &stage, err);
        if (r < 0)
                return r;
        r = empty_dir(dir, stage, err);
        fresh = r < 0 ? r : is_fresh(dir, err);
        if (fresh < 0)
                return fresh;
        set = calloc(1, sizeof(*set));
        if (!set)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        if (hooks)
                set->hooks = *hooks;
        pthread_mutex_init(&set->lock, NULL);
        set->dirfd = TAKE_FD(dir);
        set->stagefd = TAKE_FD(stage);
        set->direct = fresh;
        *ret = set;
        return 0;
}

void image_set_abort(struct image_set *set) {
        if (!set)
                return;
        ckpt_assert(set->n_open == 0);
        if (!set->committed) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

                /* What stays behind after an error here is removed by the next dump. */
                for (size_t i = 0; set->direct && i < set->records.n; i++)
                        (void)unlinkat(set->dirfd, set->records.v[i].name, 0);
                if (empty_dir(set->dirfd, set->stagefd, &err) < 0)
                        log_warn("%s", ckpt_error_message(&err));
                else if (unlinkat(set->dirfd, IMAGE_STAGING_DIR, AT_REMOVEDIR) < 0)
                        log_warn("cannot remove " IMAGE_STAGING_DIR ": %s", strerror(errno));
        }
        close(set->stagefd);
        close(set->dirfd);
        pthread_mutex_destroy(&set->lock);
        image_records_done(&set->records);
        free(set);
}

void image_set_totals(struct image_set *set, uint64_t *ret_files, uint64_t *ret_bytes) {
        pthread_mutex_lock(&set->lock);
        if (ret_files)
                *ret_files = set->records.n;
        if (ret_bytes)
                *ret_bytes = set->bytes;
        pthread_mutex_unlock(&set->lock);
}

int image_write_error(const struct image_set *set, const char *name, int code, struct ckpt_error *err) {
        char path[PATH_MAX];

        ckpt_error_errno(err, code, "cannot write %s into %s (what the directory held before is untouched)",
                         name, image_dir_path(set->dirfd, path));
        if (code == -ENOSPC || code == -EDQUOT)
                ckpt_error_hint(err, "Free some space there, or choose another directory with -D");
        return code;
}
