/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/btf_offsets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "vec.h"

enum { DEPTH_MAX = 6, SIZE_MAX_MIB = 64 };

DEFINE_VEC(type_vec, const struct btf_type *);

struct reader {
        const char *types, *types_end, *strings;
        size_t strings_size;
        struct type_vec by_id; /* [0] is void: NULL */
};

/* Bytes behind the head of a type; -1: no such kind. */
static int64_t tail_of(const struct btf_type *t) {
        size_t n = BTF_INFO_VLEN(t->info);

        switch (BTF_INFO_KIND(t->info)) {
        case BTF_KIND_INT:
        case BTF_KIND_VAR:
        case BTF_KIND_DECL_TAG:
                return 4;
        case BTF_KIND_ARRAY:
                return sizeof(struct btf_array);
        case BTF_KIND_STRUCT:
        case BTF_KIND_UNION:
                return (int64_t)(n * sizeof(struct btf_member));
        case BTF_KIND_ENUM:
                return (int64_t)(n * sizeof(struct btf_enum));
        case BTF_KIND_ENUM64:
                return (int64_t)(n * sizeof(struct btf_enum64));
        case BTF_KIND_FUNC_PROTO:
                return (int64_t)(n * sizeof(struct btf_param));
        case BTF_KIND_DATASEC:
                return (int64_t)(n * sizeof(struct btf_var_secinfo));
        case BTF_KIND_PTR:
        case BTF_KIND_FWD:
        case BTF_KIND_TYPEDEF:
        case BTF_KIND_VOLATILE:
        case BTF_KIND_CONST:
        case BTF_KIND_RESTRICT:
        case BTF_KIND_FUNC:
        case BTF_KIND_FLOAT:
        case BTF_KIND_TYPE_TAG:
                return 0;
        default:
                return -1;
        }
}

static const char *name_at(const struct reader *r, uint32_t offset) {
        return offset < r->strings_size ? r->strings + offset : "";
}

static int list_types(struct reader *r) {
        const char *p = r->types;

        if (type_vec_push(&r->by_id, NULL) < 0)
                return -ENOMEM;
        while (p < r->types_end) {
                const struct btf_type *t = (const void *)p;
                int64_t tail;

                if ((size_t)(r->types_end - p) < sizeof(*t))
                        return -EBADMSG;
                tail = tail_of(t);
                if (tail < 0 || (size_t)(r->types_end - p) - sizeof(*t) < (size_t)tail)
                        return -EBADMSG;
                if (type_vec_push(&r->by_id, t) < 0)
                        return -ENOMEM;
                p += sizeof(*t) + (size_t)tail;
        }
        return 0;
}

static const struct btf_type *type_of(const struct reader *r, uint32_t id) {
        return id < r->by_id.n ? r->by_id.v[id] : NULL;
}

static bool is_composite(const struct btf_type *t) {
        return BTF_INFO_KIND(t->info) == BTF_KIND_STRUCT || BTF_INFO_KIND(t->info) == BTF_KIND_UNION;
}

/* What typedefs and the like stand for. */
static const struct btf_type *plain(const struct reader *r, uint32_t id) {
        const struct btf_type *t = type_of(r, id);

        for (int i = 0; t && i < 16; i++)
                switch (BTF_INFO_KIND(t->info)) {
                case BTF_KIND_TYPEDEF:
                case BTF_KIND_VOLATILE:
                case BTF_KIND_CONST:
                case BTF_KIND_RESTRICT:
                case BTF_KIND_TYPE_TAG:
                        t = type_of(r, t->type);
                        break;
                default:
                        return t;
                }
        return NULL;
}

static uint32_t size_of(const struct reader *r, uint32_t id) {
        const struct btf_type *t = plain(r, id);

        if (!t)
                return 0;
        switch (BTF_INFO_KIND(t->info)) {
        case BTF_KIND_PTR:
                return sizeof(uint64_t);
        case BTF_KIND_INT:
        case BTF_KIND_ENUM:
        case BTF_KIND_ENUM64:
                return t->size <= sizeof(uint64_t) ? t->size : 0;
        default:
                return 0;
        }
}

static bool find_member(const struct reader *r, const struct btf_type *t, const char *name, uint32_t base,
                        int depth, struct btf_place *ret) {
        const struct btf_member *m = (const void *)(t + 1);

        for (uint32_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
                uint32_t bits = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset;
                bool field = BTF_INFO_KFLAG(t->info) && BTF_MEMBER_BITFIELD_SIZE(m[i].offset) != 0;
                const char *its = name_at(r, m[i].name_off);
                const struct btf_type *inner = *its == '\0' ? plain(r, m[i].type) : NULL;

                if (inner && is_composite(inner) && depth < DEPTH_MAX &&
                    find_member(r, inner, name, base + bits / 8, depth + 1, ret))
                        return true;
                if (strcmp(its, name) != 0 || *its == '\0')
                        continue;
                *ret = (struct btf_place){ (int32_t)(base + bits / 8), field ? 0 : size_of(r, m[i].type) };
                return true;
        }
        return false;
}

static void take_struct(const struct reader *r, const struct btf_type *t, const struct btf_wanted *wanted,
                        size_t n, bool *known, struct btf_place *ret) {
        const char *name = name_at(r, t->name_off);

        for (size_t i = 0; i < n; i++) {
                struct btf_place place = { .offset = -1 };

                if (wanted[i].type[0] != name[0] || strcmp(wanted[i].type, name) != 0)
                        continue;
                find_member(r, t, wanted[i].member, 0, 0, &place);
                if (known[i] && (place.offset != ret[i].offset || place.size != ret[i].size))
                        place = (struct btf_place){ .offset = -1 };
                known[i] = true;
                ret[i] = place;
        }
}

static void reader_done(struct reader *r) {
        type_vec_done(&r->by_id);
}

int btf_parse_offsets(const void *data, size_t size, const struct btf_wanted *wanted, size_t n,
                      struct btf_place *ret) {
        _cleanup_(reader_done) struct reader r = { 0 };
        _cleanup_free_ bool *known = calloc(n + 1, sizeof(*known));
        const struct btf_header *h = data;
        uint64_t room;
        int rc;

        if (size < sizeof(*h) || h->magic != BTF_MAGIC || h->hdr_len < sizeof(*h) || h->hdr_len > size)
                return -EBADMSG;
        room = size - h->hdr_len;
        if ((uint64_t)h->type_off + h->type_len > room || (uint64_t)h->str_off + h->str_len > room ||
            h->str_len == 0 || h->type_off % 4 != 0 || h->hdr_len % 4 != 0)
                return -EBADMSG;
        r.types = (const char *)data + h->hdr_len + h->type_off;
        r.types_end = r.types + h->type_len;
        r.strings = (const char *)data + h->hdr_len + h->str_off;
        r.strings_size = h->str_len;
        if (r.strings[r.strings_size - 1] != '\0')
                return -EBADMSG;
        if (!known)
                return -ENOMEM;
        rc = list_types(&r);
        if (rc < 0)
                return rc;
        for (size_t i = 0; i < n; i++)
                ret[i] = (struct btf_place){ .offset = -1 };
        for (size_t id = 1; id < r.by_id.n; id++)
                if (BTF_INFO_KIND(r.by_id.v[id]->info) == BTF_KIND_STRUCT)
                        take_struct(&r, r.by_id.v[id], wanted, n, known, ret);
        return 0;
}

/* Mapped from Linux 6.16 on, which spares copying 5 MiB. */
int btf_find_offsets(const struct btf_wanted *wanted, size_t n, struct btf_place *ret) {
        _cleanup_close_ int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size;
        void *map;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -ENOSYS;
        map = st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        if (map != MAP_FAILED) {
                r = btf_parse_offsets(map, (size_t)st.st_size, wanted, n, ret);
                munmap(map, (size_t)st.st_size);
                return r;
        }
        r = read_all(fd, (size_t)SIZE_MAX_MIB << 20, &text, &size);
        return r < 0 ? r : btf_parse_offsets(text, size, wanted, n, ret);
}
