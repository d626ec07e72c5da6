/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/maps.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "macro.h"
#include "proc/scan.h"

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

static bool scan_vmflags(struct scan *s, uint64_t *ret) {
        uint64_t flags = 0;
        struct scan word;

        for (scan_blanks(s); scan_word(s, &word); scan_blanks(s)) {
                unsigned bit;

                if (scan_left(&word) != 2)
                        return false;
                for (bit = 0; bit < PROC_VMF_BIT_MAX; bit++)
                        if (word.p[0] == vmf_names[bit][0] && word.p[1] == vmf_names[bit][1])
                                break;
                flags |= bit < PROC_VMF_BIT_MAX ? 1ULL << bit : (uint64_t)PROC_VMF_UNKNOWN;
        }
        *ret = flags;
        return scan_at_end(s);
}

static const struct {
        const char *key;
        size_t offset;
} smap_sizes[] = {
        { "KernelPageSize", offsetof(struct proc_smap, page_size) },
        { "Rss", offsetof(struct proc_smap, rss) },
        { "Anonymous", offsetof(struct proc_smap, anonymous) },
        { "AnonHugePages", offsetof(struct proc_smap, anon_huge) },
        { "Swap", offsetof(struct proc_smap, swap) },
        { "Locked", offsetof(struct proc_smap, locked) },
};

/* A line below an area's first. *last is set by the one that ends the area. */
static int parse_smap_line(struct scan line, struct proc_smap *smap, bool *last) {
        struct scan key;

        if (!scan_until(&line, ':', &key))
                return -EBADMSG;
        if (scan_equal(&key, "VmFlags")) {
                *last = true;
                return scan_vmflags(&line, &smap->flags) ? 0 : -EBADMSG;
        }
        scan_blanks(&line);
        if (scan_equal(&key, "ProtectionKey"))
                return scan_u32(&line, &smap->pkey) && scan_at_end(&line) ? 0 : -EBADMSG;
        for (size_t i = 0; i < ELEMENTSOF(smap_sizes); i++) {
                uint64_t kb;

                if (!scan_equal(&key, smap_sizes[i].key))
                        continue;
                if (!scan_u64(&line, &kb) || kb > UINT64_MAX >> 10 || !scan_lit(&line, " kB") ||
                    !scan_at_end(&line))
                        return -EBADMSG;
                *(uint64_t *)((char *)smap + smap_sizes[i].offset) = kb << 10;
                break;
        }
        return 0;
}

int proc_smaps_parse(char *text, size_t len, struct proc_smap_vec *ret) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec vec = { 0 };
        struct scan s = scan_text(text, len), line;
        struct proc_smap *smap = NULL;
        bool overlap = false;
        uint64_t end = 0;

        while (scan_line(&s, &line)) {
                bool last = false;
                int r;

                if (!smap) {
                        smap = proc_smap_vec_add(&vec);
                        if (!smap)
                                return -ENOMEM;
                        r = parse_vma(line, &smap->vma);
                        if (r < 0)
                                return r;
                        overlap = overlap || smap->vma.start < end;
                        end = smap->vma.end;
                        continue;
                }
                r = parse_smap_line(line, smap, &last);
                if (r < 0)
                        return r;
                if (last)
                        smap = NULL;
        }
        if (smap || !scan_at_end(&s))
                return -EBADMSG;
        if (overlap)
                return -EAGAIN;
        proc_smap_vec_done(ret);
        *ret = vec;
        vec = (struct proc_smap_vec){ 0 };
        return 0;
}

int proc_smaps_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_smap_vec *ret) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < ATTEMPTS && r == -EAGAIN; i++) {
                r = proc_read(dir, "smaps", buf);
                if (r == 0)
                        r = proc_smaps_parse(buf->data, buf->len, ret);
        }
        return r;
}
