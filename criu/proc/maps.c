/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/maps.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "macro.h"
#include "proc/vma_line.h"

#define ATTEMPTS 10

static const struct {
        const char *name;
        enum proc_vma_kind kind;
} special_names[] = {
        { "[heap]", PROC_VMA_HEAP },
        { "[stack]", PROC_VMA_STACK },
        { "[vdso]", PROC_VMA_VDSO },
        { "[vvar]", PROC_VMA_VVAR },
        { "[vvar_vclock]", PROC_VMA_VVAR_VCLOCK },
        { "[vsyscall]", PROC_VMA_VSYSCALL },
};

static enum proc_vma_kind kind_of(const struct proc_vma *vma) {
        if (strncmp(vma->name, "[anon_shmem:", 12) == 0)
                return PROC_VMA_ANON_NAMED;
        if (vma->ino || vma->dev_major || vma->dev_minor)
                return PROC_VMA_FILE;
        if (!*vma->name)
                return PROC_VMA_ANON;
        if (strncmp(vma->name, "[anon:", 6) == 0)
                return PROC_VMA_ANON_NAMED;
        for (size_t i = 0; i < ELEMENTSOF(special_names); i++)
                if (strcmp(vma->name, special_names[i].name) == 0)
                        return special_names[i].kind;
        return PROC_VMA_SPECIAL;
}

/* The kernel escapes newlines in these names, and nothing else. */
static size_t unescape_newlines(char *name, size_t n) {
        size_t out = 0;

        for (size_t i = 0; i < n; i++) {
                if (n - i >= 4 && memcmp(name + i, "\\012", 4) == 0) {
                        name[out++] = '\n';
                        i += 3;
                } else
                        name[out++] = name[i];
        }
        return out;
}

static bool scan_prot(struct scan *s, struct proc_vma *vma) {
        static const struct {
                char letter;
                uint32_t bit;
        } letters[] = { { 'r', PROT_READ }, { 'w', PROT_WRITE }, { 'x', PROT_EXEC } };

        if (scan_left(s) < 4)
                return false;
        vma->prot = 0;
        for (size_t i = 0; i < ELEMENTSOF(letters); i++, s->p++) {
                if (*s->p == letters[i].letter)
                        vma->prot |= letters[i].bit;
                else if (*s->p != '-')
                        return false;
        }
        if (*s->p != 's' && *s->p != 'p')
                return false;
        vma->shared = *s->p++ == 's';
        return true;
}

int proc_vma_line(struct scan line, struct proc_vma *vma) {
        char *name;
        size_t n;

        if (!scan_hex64(&line, &vma->start) || !scan_char(&line, '-') || !scan_hex64(&line, &vma->end) ||
            !scan_char(&line, ' ') || !scan_prot(&line, vma) || !scan_char(&line, ' ') ||
            !scan_hex64(&line, &vma->pgoff) || !scan_char(&line, ' ') ||
            !scan_hex32(&line, &vma->dev_major) || !scan_char(&line, ':') ||
            !scan_hex32(&line, &vma->dev_minor) || !scan_char(&line, ' ') || !scan_u64(&line, &vma->ino))
                return -EBADMSG;
        if (vma->start >= vma->end || ((vma->start | vma->end | vma->pgoff) & (PAGE_SIZE - 1)))
                return -EBADMSG;
        if (!scan_at_end(&line) && *line.p != ' ')
                return -EBADMSG;
        scan_blanks(&line);
        name = (char *)line.p;
        n = scan_left(&line);
        if (n && memchr(name, 0, n))
                return -EBADMSG;
        if (n && memchr(name, '\\', n)) {
                size_t shorter = unescape_newlines(name, n);

                vma->name_ambiguous = shorter != n;
                n = shorter;
        }
        name[n] = 0;
        vma->name = name;
        vma->name_deleted = n >= 10 && memcmp(name + n - 10, " (deleted)", 10) == 0;
        vma->kind = kind_of(vma);
        return 0;
}

int proc_maps_parse(char *text, size_t len, struct proc_vma_vec *ret) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec vec = { 0 };
        struct scan s = scan_text(text, len), line;
        bool overlap = false;
        uint64_t end = 0;

        while (scan_line(&s, &line)) {
                struct proc_vma *vma = proc_vma_vec_add(&vec);
                int r;

                if (!vma)
                        return -ENOMEM;
                r = proc_vma_line(line, vma);
                if (r < 0)
                        return r;
                overlap = overlap || vma->start < end;
                end = vma->end;
        }
        if (!scan_at_end(&s))
                return -EBADMSG;
        if (overlap)
                return -EAGAIN;
        proc_vma_vec_done(ret);
        *ret = vec;
        vec = (struct proc_vma_vec){ 0 };
        return 0;
}

int proc_maps_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_vma_vec *ret) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < ATTEMPTS && r == -EAGAIN; i++) {
                r = proc_read(dir, "maps", buf);
                if (r == 0)
                        r = proc_maps_parse(buf->data, buf->len, ret);
        }
        return r;
}

/* The whole lines in buf; the rest stays, at the beginning. */
static int each_in_piece(struct proc_buf *buf, int (*fn)(void *arg, const struct proc_vma *vma), void *arg) {
        struct scan s = scan_text(buf->data, buf->len), line;
        int r = 0;

        while (r == 0 && scan_line(&s, &line)) {
                struct proc_vma vma = { 0 };

                r = proc_vma_line(line, &vma);
                if (r == 0)
                        r = fn(arg, &vma);
        }
        buf->len = scan_left(&s);
        memmove(buf->data, s.p, buf->len);
        return r;
}

int proc_maps_each(const struct proc_dir *dir, struct proc_buf *buf,
                   int (*fn)(void *arg, const struct proc_vma *vma), void *arg) {
        _cleanup_close_ int fd = proc_openat(dir, "maps", O_RDONLY);
        int r = 0;

        if (fd < 0)
                return fd;
        buf->len = 0;
        while (r == 0) {
                ssize_t n;

                r = proc_buf_room(buf, PAGE_SIZE);
                if (r < 0)
                        return r;
                n = read(fd, buf->data + buf->len, buf->cap - buf->len);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return buf->len > 0 ? -EBADMSG : 0;
                buf->len += n > 0 ? (size_t)n : 0;
                r = each_in_piece(buf, fn, arg);
        }
        return r;
}

const struct proc_vma *proc_vma_find(const struct proc_vma_vec *vec, uint64_t address) {
        size_t low = 0, high = vec->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (vec->v[mid].end <= address)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < vec->n && vec->v[low].start <= address ? &vec->v[low] : NULL;
}
