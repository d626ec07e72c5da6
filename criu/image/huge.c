/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Huge pages behind images on a tmpfs, whatever it was mounted with: MADV_COLLAPSE (Linux 6.1) on a mapping of the file. A
 * tmpfs takes a lock for each write(2), and most of the time that it holds it goes into one page of 4 KiB after the other.
 * The kernel makes nothing huge of what is wholly empty, so one byte is written first. Only where all has become huge may be
 * written through the mapping: where pages are missing, a full tmpfs would be a SIGBUS.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "cleanup.h"
#include "image/internal.h"
#include "kernel/uapi.h"
#include "lib/io.h"
#include "macro.h"

#define HUGE ((uint64_t)2 << 20)

void image_window_close(struct image_window *w) {
        if (w->map)
                munmap(w->map, w->map_size);
        *w = (struct image_window){ 0 };
}

static bool is_tmpfs(int fd) {
        struct statfs fs;

        return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static int collapse(int fd, uint64_t offset, uint64_t size, struct image_window *ret) {
        _cleanup_image_window_ struct image_window w = { .map_size = size + HUGE };
        char *p = mmap(NULL, w.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                return -errno;
        w.map = p;
        p += -(uintptr_t)p & (HUGE - 1);
        if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED ||
            madvise(p, size, MADV_COLLAPSE) < 0)
                return -errno;
        w.start = p;
        w.offset = offset;
        w.size = size;
        *ret = w;
        w = (struct image_window){ 0 };
        return 0;
}

bool image_pages_make_huge(const struct image_file *file, uint64_t offset, uint64_t size,
                           struct image_window *ret) {
        uint64_t end = (offset + size) & ~(HUGE - 1);
        int r = 0;

        ckpt_assert(file->pages);
        *ret = (struct image_window){ 0 };
        offset = (offset + HUGE - 1) & ~(HUGE - 1);
        if (offset >= end)
                return true;
        if (!is_tmpfs(file->fd))
                return false;
        for (uint64_t at = offset; r == 0 && at < end; at += HUGE)
                r = pwrite_full(file->fd, "", 1, (off_t)(at + HUGE - 1));
        if (r == 0)
                r = collapse(file->fd, offset, end - offset, ret);
        return r == 0 || r == -EAGAIN; /* a page was in use just then */
}
