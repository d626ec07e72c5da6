/* SPDX-License-Identifier: GPL-2.0-only */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/pool.h"
#include "macro.h"
#include "proc/vma_line.h"

#define ATTEMPTS 10
#define PIECE    (128UL << 10) /* bytes that are parsed at once */

/*
 * The kernel fills a page per read(2) and throws away the area that does not fit, having looked at its page tables.
 * Asked for less it stops in time, unless an area needs more than the difference, which few do.
 */
#define SMAPS_READ (PAGE_SIZE - 768)

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

/*
 * Kernels that have no name for MLOCK_ONFAULT (some 6.x got "lf") show it as "??", like every flag without a name. Flags come
 * in the order of the kernel's bits, in which it is the only nameless one between "lo" and the flags given here.
 */
#define AFTER_LF \
        (PROC_VMF_AC | PROC_VMF_NR | PROC_VMF_HT | PROC_VMF_SF | PROC_VMF_WF | PROC_VMF_DD | PROC_VMF_SD)

static bool may_be_lf(uint64_t flags) {
        return flags & PROC_VMF_LO && !(flags & (AFTER_LF | PROC_VMF_UNKNOWN));
}

static bool scan_vmflags(struct scan *s, uint64_t *ret) {
        uint64_t flags = 0;
        bool lf = false; /* the last one was nameless, and may be this */
        unsigned from = 0;
        struct scan word;

        for (scan_blanks(s); scan_word(s, &word); scan_blanks(s)) {
                unsigned bit;
                uint64_t flag;

                if (scan_left(&word) != 2)
                        return false;
                bit = find_flag(word.p, from);
                flag = bit < PROC_VMF_BIT_MAX ? 1ULL << bit : (uint64_t)PROC_VMF_UNKNOWN;
                from = bit < PROC_VMF_BIT_MAX ? bit + 1 : from;
                if (lf)
                        flags |= flag & AFTER_LF ? (uint64_t)PROC_VMF_LF : (uint64_t)PROC_VMF_UNKNOWN;
                lf = flag == PROC_VMF_UNKNOWN && memcmp(word.p, "??", 2) == 0 && may_be_lf(flags);
                if (!lf)
                        flags |= flag;
        }
        *ret = lf ? flags | PROC_VMF_UNKNOWN : flags;
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

static int begin_area(struct smaps *p, struct scan line, struct proc_buf *names) {
        int r;

        p->open = proc_smap_vec_add(&p->vec);
        if (!p->open)
                return -ENOMEM;
        r = proc_vma_line(line, &p->open->vma);
        if (r == 0 && names)
                r = move_name(&p->open->vma, names);
        if (r < 0)
                return r;
        p->overlap = p->overlap || p->open->vma.start < p->end;
        p->end = p->open->vma.end;
        return 0;
}

/* `names`: where to move the names to; NULL: they stay in the text. */
static int take_text(struct smaps *p, char *text, size_t len, struct proc_buf *names) {
        struct scan s = scan_text(text, len), line;
        bool last;
        int r = 0;

        while (r == 0 && scan_line(&s, &line)) {
                if (!p->open) {
                        r = begin_area(p, line, names);
                } else {
                        r = parse_smap_line(line, p->open, &last);
                        p->open = last ? NULL : p->open;
                }
        }
        if (r < 0)
                return r;
        return scan_at_end(&s) ? 0 : -EBADMSG;
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
        int r = take_text(&p, text, len, NULL);

        return r < 0 ? r : finish(&p, ret);
}

/* ---- reading: one piece is parsed, by another thread if one has time, while the next is read ---- */

struct reader;

struct piece {
        struct reader *reader;
        struct proc_buf text;
        struct pool_offer parsing;
};

struct reader {
        struct smaps smaps;
        struct proc_buf *names;
        struct pool *pool; /* NULL: no help */
        struct piece pieces[2];
};

static void reader_done(struct reader *rd) {
        for (size_t i = 0; i < ELEMENTSOF(rd->pieces); i++) {
                pool_withdraw(&rd->pieces[i].parsing);
                proc_buf_done(&rd->pieces[i].text);
        }
        smaps_done(&rd->smaps);
}

static int parse_piece(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct piece *piece = arg;
        struct reader *rd = piece->reader;

        return take_text(&rd->smaps, piece->text.data, piece->text.len, rd->names);
}

static int finish_piece(struct piece *piece) {
        return piece->parsing.pool ? pool_claim(&piece->parsing, NULL) : 0;
}

/* The last line, which is not whole yet, goes to the next piece. */
static int move_rest(struct proc_buf *from, struct proc_buf *to) {
        const char *newline = memrchr(from->data, '\n', from->len);
        size_t whole = newline ? (size_t)(newline - from->data) + 1 : 0, rest = from->len - whole;
        int r = proc_buf_room(to, rest + SMAPS_READ);

        if (r < 0)
                return r;
        memcpy(to->data, from->data + whole, rest);
        to->len = rest;
        from->len = whole;
        return 0;
}

/* `piece` is full. The one before has to be parsed first. */
static int hand_over(struct reader *rd, struct piece *piece, struct piece *next) {
        int r = finish_piece(next);

        if (r == 0)
                r = move_rest(&piece->text, &next->text);
        if (r == 0 && (!rd->pool || pool_offer(rd->pool, parse_piece, piece, &piece->parsing) < 0))
                r = parse_piece(piece, NULL);
        return r;
}

/* *ret: the piece that holds the end. */
static int read_pieces(struct reader *rd, int fd, struct piece **ret) {
        struct piece *piece = &rd->pieces[0], *next = &rd->pieces[1], *full;
        int r;

        for (;;) {
                ssize_t n;

                r = proc_buf_room(&piece->text, SMAPS_READ);
                if (r < 0)
                        return r;
                n = read(fd, piece->text.data + piece->text.len, SMAPS_READ);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                piece->text.len += n > 0 ? (size_t)n : 0;
                if (piece->text.len < PIECE)
                        continue;
                r = hand_over(rd, piece, next);
                if (r < 0)
                        return r;
                full = piece;
                piece = next;
                next = full;
        }
        *ret = piece;
        return finish_piece(next);
}

static int read_smaps(const struct proc_dir *dir, struct pool *pool, struct proc_buf *names,
                      struct proc_smap_vec *ret) {
        _cleanup_close_ int fd = proc_openat(dir, "smaps", O_RDONLY);
        _cleanup_(reader_done) struct reader rd = { .names = names, .pool = pool };
        struct piece *last = NULL;
        int r;

        if (fd < 0)
                return fd;
        names->len = 0;
        rd.pieces[0].reader = rd.pieces[1].reader = &rd;
        r = read_pieces(&rd, fd, &last);
        if (r == 0)
                r = parse_piece(last, NULL);
        if (r == 0)
                r = finish(&rd.smaps, ret);
        if (r == 0)
                point_names(ret, names);
        return r;
}

int proc_smaps_read(const struct proc_dir *dir, struct pool *pool, struct proc_buf *buf,
                    struct proc_smap_vec *ret) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < ATTEMPTS && r == -EAGAIN; i++)
                r = read_smaps(dir, pool, buf, ret);
        return r;
}
