/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/maps.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "macro.h"
#include "proc/scan.h"

#define ATTEMPTS 10
#define PIECE    (32UL << 10) /* bytes of smaps that are parsed at once */

/*
 * The kernel fills a page per read(2) and throws away the area that does not fit, having looked at its page tables.
 * Asked for less it stops in time, unless an area needs more than the difference, which few do.
 */
#define SMAPS_READ (PAGE_SIZE - 768)

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

/* `line` lies in writable memory, and a newline, which becomes a NUL, follows it. */
static int parse_vma(struct scan line, struct proc_vma *vma) {
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
                r = parse_vma(line, vma);
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

static const char vmf_names[][3] = {
#define X(id, text) text,
        PROC_VMF_TABLE(X)
#undef X
};
_Static_assert(PROC_VMF_BIT_MAX < 63, "the last bit stands for unknown flags");

const char *proc_vmf_name(enum proc_vmf_bit bit) {
        return bit < PROC_VMF_BIT_MAX ? vmf_names[bit] : "??";
}

/* The kernel prints flags in one order, which is nearly that of our table. */
static unsigned find_flag(const char *two, unsigned from) {
        for (unsigned i = 0; i < PROC_VMF_BIT_MAX; i++) {
                unsigned bit = from + i < PROC_VMF_BIT_MAX ? from + i : from + i - PROC_VMF_BIT_MAX;

                if (two[0] == vmf_names[bit][0] && two[1] == vmf_names[bit][1])
                        return bit;
        }
        return PROC_VMF_BIT_MAX;
}

static bool scan_vmflags(struct scan *s, uint64_t *ret) {
        uint64_t flags = 0;
        unsigned from = 0;
        struct scan word;

        for (scan_blanks(s); scan_word(s, &word); scan_blanks(s)) {
                unsigned bit;

                if (scan_left(&word) != 2)
                        return false;
                bit = find_flag(word.p, from);
                flags |= bit < PROC_VMF_BIT_MAX ? 1ULL << bit : (uint64_t)PROC_VMF_UNKNOWN;
                from = bit < PROC_VMF_BIT_MAX ? bit + 1 : from;
        }
        *ret = flags;
        return scan_at_end(s);
}

/* What stands between the first line of an area and its flags: many lines, of which few matter. */
static int parse_smap_detail(struct scan line, struct proc_smap *smap) {
        uint64_t kb;

        if (scan_lit(&line, "KernelPageSize:")) {
                scan_blanks(&line);
                if (!scan_u64(&line, &kb) || kb > UINT64_MAX >> 10 || !scan_lit(&line, " kB") ||
                    !scan_at_end(&line))
                        return -EBADMSG;
                smap->page_size = kb << 10;
        } else if (scan_lit(&line, "ProtectionKey:")) {
                scan_blanks(&line);
                if (!scan_u32(&line, &smap->pkey) || !scan_at_end(&line))
                        return -EBADMSG;
        } else if (!memchr(line.p, ':', scan_left(&line))) {
                return -EBADMSG;
        }
        return 0;
}

/* A line below an area's first. *last is set by the one that ends the area. */
static int parse_smap_line(struct scan line, struct proc_smap *smap, bool *last) {
        *last = scan_lit(&line, "VmFlags:");
        if (*last)
                return scan_vmflags(&line, &smap->flags) ? 0 : -EBADMSG;
        return scan_at_end(&line) ? -EBADMSG : parse_smap_detail(line, smap);
}

/*
 * The text goes, its names are needed: gather them in a buffer. That may move while it grows, so only point_names()
 * can say where they are.
 */
static int move_name(struct proc_vma *vma, struct proc_buf *names) {
        size_t size = strlen(vma->name) + 1;
        int r;

        if (size == 1) {
                vma->name = "";
                return 0;
        }
        r = proc_buf_room(names, size);
        if (r < 0)
                return r;
        memcpy(names->data + names->len, vma->name, size);
        names->len += size;
        vma->name = NULL;
        return 0;
}

static void point_names(struct proc_smap_vec *vec, const struct proc_buf *names) {
        const char *next = names->data;

        for (size_t i = 0; i < vec->n; i++)
                if (!vec->v[i].vma.name) {
                        vec->v[i].vma.name = next;
                        next += strlen(next) + 1;
                }
}

/* The text of an smaps file as it comes, in pieces of whole lines. */
struct smaps {
        struct proc_smap_vec vec;
        struct proc_smap *open; /* its last line is still to come */
        bool overlap;
        uint64_t end;
};

static void smaps_done(struct smaps *p) {
        proc_smap_vec_done(&p->vec);
}

/* Parses the whole lines of it. *ret: bytes of those. `names`: where to move the names to; NULL: they stay. */
static int take_text(struct smaps *p, char *text, size_t len, struct proc_buf *names, size_t *ret) {
        struct scan s = scan_text(text, len), line;
        bool last;
        int r;

        while (scan_line(&s, &line)) {
                if (p->open) {
                        r = parse_smap_line(line, p->open, &last);
                        if (r < 0)
                                return r;
                        p->open = last ? NULL : p->open;
                        continue;
                }
                p->open = proc_smap_vec_add(&p->vec);
                if (!p->open)
                        return -ENOMEM;
                r = parse_vma(line, &p->open->vma);
                if (r == 0 && names)
                        r = move_name(&p->open->vma, names);
                if (r < 0)
                        return r;
                p->overlap = p->overlap || p->open->vma.start < p->end;
                p->end = p->open->vma.end;
        }
        *ret = len - scan_left(&s);
        return 0;
}

static int finish(struct smaps *p, struct proc_smap_vec *ret) {
        if (p->open)
                return -EBADMSG;
        if (p->overlap)
                return -EAGAIN;
        proc_smap_vec_done(ret);
        *ret = p->vec;
        p->vec = (struct proc_smap_vec){ 0 };
        return 0;
}

int proc_smaps_parse(char *text, size_t len, struct proc_smap_vec *ret) {
        _cleanup_(smaps_done) struct smaps p = { 0 };
        size_t taken = 0;
        int r = take_text(&p, text, len, NULL, &taken);

        if (r < 0)
                return r;
        return taken < len ? -EBADMSG : finish(&p, ret);
}

/* Take the whole lines of `piece`, and leave the rest at its beginning. */
static int take_piece(struct smaps *p, struct proc_buf *piece, struct proc_buf *names) {
        size_t taken;
        int r = take_text(p, piece->data, piece->len, names, &taken);

        if (r == 0) {
                piece->len -= taken;
                memmove(piece->data, piece->data + taken, piece->len);
        }
        return r;
}

static int read_smaps(const struct proc_dir *dir, struct proc_buf *names, struct proc_smap_vec *ret) {
        _cleanup_close_ int fd = proc_openat(dir, "smaps", O_RDONLY);
        _cleanup_proc_buf_ struct proc_buf piece = { 0 };
        _cleanup_(smaps_done) struct smaps p = { 0 };
        int r = 0;

        if (fd < 0)
                return fd;
        names->len = 0;
        for (;;) {
                ssize_t n;

                if (piece.len >= PIECE)
                        r = take_piece(&p, &piece, names);
                if (r == 0)
                        r = proc_buf_room(&piece, SMAPS_READ);
                if (r < 0)
                        return r;
                n = read(fd, piece.data + piece.len, SMAPS_READ);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                piece.len += n > 0 ? (size_t)n : 0;
        }
        r = take_piece(&p, &piece, names);
        if (r < 0)
                return r;
        if (piece.len > 0)
                return -EBADMSG;
        r = finish(&p, ret);
        if (r == 0)
                point_names(ret, names);
        return r;
}

int proc_smaps_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_smap_vec *ret) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < ATTEMPTS && r == -EAGAIN; i++)
                r = read_smaps(dir, buf, ret);
        return r;
}
