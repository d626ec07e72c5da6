/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/btf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "vec.h"

enum { DEPTH_MAX = 6, SIZE_MAX_MIB = 64, NAME_SIZE = 64 };

/* Of every MARK_EVERY-th type it is known where it begins; the others are found by walking on from there. */
enum { MARK_EVERY = 32 };

DEFINE_VEC(type_vec, const struct btf_type *);

/* What programs are attached to that iterate. The names of all functions are too many to be gone through for each. */
#define HOOK "bpf_iter_"

struct hook {
        uint32_t id;
        const char *name;
};

DEFINE_VEC(hook_vec, struct hook);

struct reader {
        const char *types, *types_end, *strings;
        size_t strings_size;
        uint32_t n;              /* types, with number 0, which is void */
        struct type_vec marks;   /* [0]: type 1 */
        struct hook_vec hooks;   /* functions whose names begin with HOOK */
        struct type_vec structs; /* those that are looked for by name, so that the rest is not touched */
};

/* Bytes behind the head of a type, in all and for each of what it consists of. */
static const struct tail {
        bool known;
        uint8_t all, each;
} tails[32] = {
        [BTF_KIND_INT] = { true, 4, 0 },
        [BTF_KIND_PTR] = { true, 0, 0 },
        [BTF_KIND_ARRAY] = { true, sizeof(struct btf_array), 0 },
        [BTF_KIND_STRUCT] = { true, 0, sizeof(struct btf_member) },
        [BTF_KIND_UNION] = { true, 0, sizeof(struct btf_member) },
        [BTF_KIND_ENUM] = { true, 0, sizeof(struct btf_enum) },
        [BTF_KIND_FWD] = { true, 0, 0 },
        [BTF_KIND_TYPEDEF] = { true, 0, 0 },
        [BTF_KIND_VOLATILE] = { true, 0, 0 },
        [BTF_KIND_CONST] = { true, 0, 0 },
        [BTF_KIND_RESTRICT] = { true, 0, 0 },
        [BTF_KIND_FUNC] = { true, 0, 0 },
        [BTF_KIND_FUNC_PROTO] = { true, 0, sizeof(struct btf_param) },
        [BTF_KIND_VAR] = { true, 4, 0 },
        [BTF_KIND_DATASEC] = { true, 0, sizeof(struct btf_var_secinfo) },
        [BTF_KIND_FLOAT] = { true, 0, 0 },
        [BTF_KIND_DECL_TAG] = { true, 4, 0 },
        [BTF_KIND_TYPE_TAG] = { true, 0, 0 },
        [BTF_KIND_ENUM64] = { true, 0, sizeof(struct btf_enum64) },
};

/* The type behind, if this one is of a known kind. */
static const struct btf_type *next_type(const struct btf_type *t) {
        const struct tail *tail = &tails[BTF_INFO_KIND(t->info)];

        return (const void *)((const char *)(t + 1) + tail->all +
                              (size_t)BTF_INFO_VLEN(t->info) * tail->each);
}

static const char *name_at(const struct reader *r, uint32_t offset) {
        return offset < r->strings_size ? r->strings + offset : "";
}

static int note_type(struct reader *r, const struct btf_type *t, uint32_t id) {
        const char *name;

        switch (BTF_INFO_KIND(t->info)) {
        case BTF_KIND_STRUCT:
                return type_vec_push(&r->structs, t);
        case BTF_KIND_FUNC:
                name = name_at(r, t->name_off);
                return strncmp(name, HOOK, strlen(HOOK)) == 0
                               ? hook_vec_push(&r->hooks, (struct hook){ id, name })
                               : 0;
        default:
                return 0;
        }
}

static int list_types(struct reader *r) {
        const char *p = r->types;
        uint32_t n = 0;

        while (p < r->types_end) {
                const struct btf_type *t = (const void *)p;
                size_t left = (size_t)(r->types_end - p);

                if (left < sizeof(*t) || !tails[BTF_INFO_KIND(t->info)].known)
                        return -EBADMSG;
                p = (const void *)next_type(t);
                if (left < (size_t)(p - (const char *)t))
                        return -EBADMSG;
                if ((n++ % MARK_EVERY == 0 && type_vec_push(&r->marks, t) < 0) || note_type(r, t, n) < 0)
                        return -ENOMEM;
        }
        r->n = n + 1;
        return 0;
}

static const struct btf_type *type_of(const struct reader *r, uint32_t id) {
        const struct btf_type *t;

        if (id == 0 || id >= r->n)
                return NULL;
        t = r->marks.v[(id - 1) / MARK_EVERY];
        for (uint32_t i = (id - 1) % MARK_EVERY; i > 0; i--)
                t = next_type(t);
        return t;
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
                        int depth, struct btf_place *ret, uint32_t *ret_type) {
        const struct btf_member *m = (const void *)(t + 1);

        for (uint32_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
                uint32_t bits = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset;
                bool field = BTF_INFO_KFLAG(t->info) && BTF_MEMBER_BITFIELD_SIZE(m[i].offset) != 0;
                const char *its = name_at(r, m[i].name_off);
                const struct btf_type *inner = *its == '\0' ? plain(r, m[i].type) : NULL;

                if (inner && is_composite(inner) && depth < DEPTH_MAX &&
                    find_member(r, inner, name, base + bits / 8, depth + 1, ret, ret_type))
                        return true;
                if (strcmp(its, name) != 0 || *its == '\0')
                        continue;
                *ret = (struct btf_place){ (int32_t)(base + bits / 8), field ? 0 : size_of(r, m[i].type) };
                *ret_type = m[i].type;
                return true;
        }
        return false;
}

static void take_struct(const struct reader *r, const struct btf_type *t, const struct btf_wanted *wanted,
                        size_t n, bool *known, struct btf_place *ret) {
        const char *name = name_at(r, t->name_off);

        for (size_t i = 0; i < n; i++) {
                struct btf_place place = { .offset = -1 };
                uint32_t unused;

                if (wanted[i].type[0] != name[0] || strcmp(wanted[i].type, name) != 0)
                        continue;
                find_member(r, t, wanted[i].member, 0, 0, &place, &unused);
                if (known[i] && (place.offset != ret[i].offset || place.size != ret[i].size))
                        place = (struct btf_place){ .offset = -1 };
                known[i] = true;
                ret[i] = place;
        }
}

/* ---- one description ---- */

static void reader_done(struct reader *r) {
        type_vec_done(&r->marks);
        hook_vec_done(&r->hooks);
        type_vec_done(&r->structs);
}

static int read_types(const void *data, size_t size, struct reader *ret) {
        const struct btf_header *h = data;
        uint64_t room;

        if (size < sizeof(*h) || h->magic != BTF_MAGIC || h->hdr_len < sizeof(*h) || h->hdr_len > size)
                return -EBADMSG;
        room = size - h->hdr_len;
        if ((uint64_t)h->type_off + h->type_len > room || (uint64_t)h->str_off + h->str_len > room ||
            h->str_len == 0 || h->type_off % 4 != 0 || h->hdr_len % 4 != 0)
                return -EBADMSG;
        ret->types = (const char *)data + h->hdr_len + h->type_off;
        ret->types_end = ret->types + h->type_len;
        ret->strings = (const char *)data + h->hdr_len + h->str_off;
        ret->strings_size = h->str_len;
        if (ret->strings[ret->strings_size - 1] != '\0')
                return -EBADMSG;
        return list_types(ret);
}

/* The text of the running kernel: mapped from Linux 6.16 on, which spares copying 5 MiB. */
struct text {
        char *data;
        size_t size;
        bool mapped;
};

static void text_done(struct text *t) {
        if (t->mapped)
                munmap(t->data, t->size);
        else
                free(t->data);
}

static int read_text(struct text *ret) {
        _cleanup_close_ int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
        struct stat st;
        void *map;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -ENOSYS;
        map = st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        if (map == MAP_FAILED)
                return read_all(fd, (size_t)SIZE_MAX_MIB << 20, &ret->data, &ret->size);
        *ret = (struct text){ .data = map, .size = (size_t)st.st_size, .mapped = true };
        return 0;
}

/* ---- opening ---- */

struct btf_types {
        struct text text; /* empty: of the caller */
        struct reader reader;
};

void btf_close(struct btf_types **t) {
        if (!*t)
                return;
        reader_done(&(*t)->reader);
        text_done(&(*t)->text);
        free(*t);
        *t = NULL;
}

int btf_parse(const void *data, size_t size, struct btf_types **ret) {
        _cleanup_(btf_close) struct btf_types *t = calloc(1, sizeof(*t));
        int r = t ? read_types(data, size, &t->reader) : -ENOMEM;

        if (r == 0)
                *ret = TAKE_PTR(t);
        return r;
}

int btf_open(struct btf_types **ret) {
        _cleanup_(btf_close) struct btf_types *t = calloc(1, sizeof(*t));
        int r = t ? read_text(&t->text) : -ENOMEM;

        if (r == 0)
                r = read_types(t->text.data, t->text.size, &t->reader);
        if (r == 0)
                *ret = TAKE_PTR(t);
        return r;
}

/* ---- many members at once ---- */

int btf_find_offsets(const struct btf_types *t, const struct btf_wanted *wanted, size_t n,
                     struct btf_place *ret) {
        _cleanup_free_ bool *known = calloc(n + 1, sizeof(*known));

        if (!known)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                ret[i] = (struct btf_place){ .offset = -1 };
        for (size_t i = 0; i < t->reader.structs.n; i++)
                take_struct(&t->reader, t->reader.structs.v[i], wanted, n, known, ret);
        return 0;
}

/* ---- one after another ---- */

static bool has_name(const struct reader *r, const struct btf_type *t, const char *name) {
        return strcmp(name_at(r, t->name_off), name) == 0;
}

static const struct btf_type *find_struct(const struct btf_types *t, const char *name) {
        for (size_t i = 0; i < t->reader.structs.n; i++) {
                const struct btf_type *type = t->reader.structs.v[i];

                if (has_name(&t->reader, type, name))
                        return type;
        }
        return NULL;
}

/* Of arrays and structures, which have no place.size; 0: of anything else, also of bit fields. */
static uint64_t size_of_many(const struct reader *r, uint32_t id) {
        const struct btf_type *t = plain(r, id);
        const struct btf_array *array;

        if (!t || BTF_INFO_KIND(t->info) != BTF_KIND_ARRAY)
                return t && is_composite(t) ? t->size : 0;
        array = (const void *)(t + 1);
        return (uint64_t)array->nelems * size_of(r, array->type);
}

static const struct btf_type *inner_struct(const struct reader *r, uint32_t type) {
        const struct btf_type *t = plain(r, type);

        return t && is_composite(t) ? t : NULL;
}

bool btf_member(const struct btf_types *t, const char *type, const char *path, uint32_t size, int16_t *ret) {
        const struct btf_type *at = find_struct(t, type);
        struct btf_place place = { 0 };
        uint64_t its_size = 0;
        int64_t offset = 0;

        for (const char *name = path; *name;) {
                size_t len = strcspn(name, ".");
                char part[NAME_SIZE];
                uint32_t its_type = 0;

                if (!at || len >= sizeof(part))
                        return false;
                snprintf(part, sizeof(part), "%.*s", (int)len, name);
                if (!find_member(&t->reader, at, part, 0, 0, &place, &its_type))
                        return false;
                offset += place.offset;
                its_size = place.size > 0 ? place.size : size_of_many(&t->reader, its_type);
                at = inner_struct(&t->reader, its_type);
                name += len + (name[len] == '.');
        }
        if (offset > INT16_MAX || (size > 0 && its_size != size))
                return false;
        *ret = (int16_t)offset;
        return true;
}

size_t btf_struct_size(const struct btf_types *t, const char *type) {
        const struct btf_type *found = find_struct(t, type);

        return found ? found->size : 0;
}

uint32_t btf_hook(const struct btf_types *t, const char *target) {
        for (size_t i = 0; i < t->reader.hooks.n; i++)
                if (strcmp(t->reader.hooks.v[i].name + strlen(HOOK), target) == 0)
                        return t->reader.hooks.v[i].id;
        return 0;
}
