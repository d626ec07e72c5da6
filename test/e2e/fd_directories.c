/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Hundreds of files of the same names in several directories, next to each other and in turn: every one is the right
 * directory's, at its offset, with its flags.
 */
#include "e2e.h"

#define N_DIRS 4
#define N      (N_DIRS * 300)

static const char *const dirs[N_DIRS] = { "a", "a/b", "c", "." };
static struct opened {
        int fd, flags;
        off_t offset;
        struct stat st;
} files[N];

/* First each directory by itself, then some files of one and of another in turn, then one of each. */
static size_t dir_of(size_t i) {
        if (i < N / 3)
                return i / (N / 3 / N_DIRS) % N_DIRS;
        return (i < N * 2 / 3 ? i / 3 : i) % N_DIRS;
}

static void open_file(size_t i) {
        struct opened *f = &files[i];
        char name[64];

        snprintf(name, sizeof(name), "%s/file-%zu", dirs[dir_of(i)], i % 50);
        f->flags = i % 7 == 0 ? O_RDONLY : i % 7 == 1 ? O_WRONLY | O_APPEND : O_RDWR;
        f->fd = open(name, f->flags | O_CREAT, 0644);
        CHECK(f->fd >= 0, "%s: %m", name);
        f->offset = i % 5 == 0 ? 0 : (off_t)i;
        CHECK(lseek(f->fd, f->offset, SEEK_SET) == f->offset && fstat(f->fd, &f->st) == 0, "%s: %m", name);
}

static void check_file(size_t i) {
        const struct opened *f = &files[i];
        struct stat now;

        CHECK(fstat(f->fd, &now) == 0 && now.st_ino == f->st.st_ino && now.st_dev == f->st.st_dev,
              "number %d is another file", f->fd);
        CHECK(lseek(f->fd, 0, SEEK_CUR) == f->offset, "offset of number %d", f->fd);
        CHECK((fcntl(f->fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == f->flags, "flags of number %d", f->fd);
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        for (size_t i = 0; i < N_DIRS; i++)
                CHECK(mkdir(dirs[i], 0755) == 0 || errno == EEXIST, "%s: %m", dirs[i]);
        for (size_t i = 0; i < N; i++)
                open_file(i);
        test_ready();
        test_wait();
        /* break: dup2(files[10].fd, files[110].fd); */
        /* break: lseek(files[700].fd, 1, SEEK_SET); */
        for (size_t i = 0; i < N; i++)
                check_file(i);
        test_pass();
}
