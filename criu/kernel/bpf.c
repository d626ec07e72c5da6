/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/bpf.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "macro.h"

enum {
        DEPTH_MAX = 4, /* of unnamed structures in one another */
        NAME_SIZE = 64,
        READ_SIZE = 32 << 10,
};

/* The functions of libbpf that are used. It is loaded by need, because that takes longer than many dumps. */
struct bpf {
        pthread_mutex_t lock; /* of the loading */
        bool tried;
        int result;
        void *handle;
        struct btf *btf;
        __typeof__(&libbpf_set_print) set_print;
        __typeof__(&btf__load_vmlinux_btf) load_vmlinux_btf;
        __typeof__(&btf__free) btf_free;
        __typeof__(&btf__find_by_name_kind) find_by_name_kind;
        __typeof__(&btf__type_by_id) type_by_id;
        __typeof__(&btf__name_by_offset) name_by_offset;
        __typeof__(&btf__resolve_size) resolve_size;
        __typeof__(&bpf_prog_load) prog_load;
        __typeof__(&bpf_link_create) link_create;
        __typeof__(&bpf_iter_create) iter_create;
};

/* ---- loading ---- */

int bpf_new(struct bpf **ret) {
        struct bpf *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        pthread_mutex_init(&b->lock, NULL);
        *ret = b;
        return 0;
}

void bpf_free(struct bpf **b) {
        if (!*b)
                return;
        if ((*b)->btf)
                (*b)->btf_free((*b)->btf);
        if ((*b)->handle)
                dlclose((*b)->handle);
        pthread_mutex_destroy(&(*b)->lock);
        free(*b);
        *b = NULL;
}

static bool load_library(struct bpf *b) {
        b->handle = dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!b->handle)
                return false;
#define LOAD(field, symbol) ((b->field = (__typeof__(&symbol))(uintptr_t)dlsym(b->handle, #symbol)) != NULL)
        return LOAD(set_print, libbpf_set_print) && LOAD(load_vmlinux_btf, btf__load_vmlinux_btf) &&
               LOAD(btf_free, btf__free) && LOAD(find_by_name_kind, btf__find_by_name_kind) &&
               LOAD(type_by_id, btf__type_by_id) && LOAD(name_by_offset, btf__name_by_offset) &&
               LOAD(resolve_size, btf__resolve_size) && LOAD(prog_load, bpf_prog_load) &&
               LOAD(link_create, bpf_link_create) && LOAD(iter_create, bpf_iter_create);
#undef LOAD
}

static int load(struct bpf *b) {
        int r = fault_point(FAULT_KERNEL_BPF);

        if (r < 0)
                return r;
        if (!load_library(b))
                return -ENOSYS;
        b->set_print(NULL);
        b->btf = b->load_vmlinux_btf();
        return b->btf ? 0 : -ENOSYS;
}

int bpf_load(struct bpf *b) {
        int r;

        if (!b)
                return -EOPNOTSUPP;
        pthread_mutex_lock(&b->lock);
        if (!b->tried)
                b->result = load(b);
        b->tried = true;
        r = b->result;
        pthread_mutex_unlock(&b->lock);
        return r;
}

/* ---- the kernel's types ---- */

/* Byte offset of a member, also inside of unnamed members, and its type; -1: there is none. */
static int64_t find_member(const struct bpf *b, uint32_t type, const char *name, int depth,
                           uint32_t *ret_type) {
        const struct btf_type *t = b->type_by_id(b->btf, type);
        const struct btf_member *m;

        while (t && (btf_is_mod(t) || btf_is_typedef(t)))
                t = b->type_by_id(b->btf, t->type);
        if (!t || depth == DEPTH_MAX || !btf_is_composite(t))
                return -1;
        m = btf_members(t);
        for (unsigned int i = 0; i < btf_vlen(t); i++) {
                const char *its = b->name_by_offset(b->btf, m[i].name_off);
                int64_t inner = 0;

                if (!its || btf_member_bitfield_size(t, i) != 0)
                        continue;
                if (*its == '\0')
                        inner = find_member(b, m[i].type, name, depth + 1, ret_type);
                else if (strcmp(its, name) == 0)
                        *ret_type = m[i].type;
                else
                        continue;
                if (inner >= 0)
                        return btf_member_bit_offset(t, i) / 8 + inner;
        }
        return -1;
}

bool bpf_member(const struct bpf *b, const char *type, const char *path, unsigned int size, int16_t *ret) {
        int32_t id = b->find_by_name_kind(b->btf, type, BTF_KIND_STRUCT);
        uint32_t at = id > 0 ? (uint32_t)id : 0;
        int64_t offset = 0;

        if (at == 0)
                return false;
        for (const char *name = path; *name;) {
                size_t len = strcspn(name, ".");
                char part[NAME_SIZE];
                int64_t inner;

                if (len >= sizeof(part))
                        return false;
                snprintf(part, sizeof(part), "%.*s", (int)len, name);
                inner = find_member(b, at, part, 0, &at);
                if (inner < 0)
                        return false;
                offset += inner;
                name += len + (name[len] == '.');
        }
        if (offset > INT16_MAX || (size > 0 && b->resolve_size(b->btf, at) != size))
                return false;
        *ret = (int16_t)offset;
        return true;
}

size_t bpf_type_size(const struct bpf *b, const char *type) {
        int32_t id = b->find_by_name_kind(b->btf, type, BTF_KIND_STRUCT);
        int64_t size = id > 0 ? b->resolve_size(b->btf, (uint32_t)id) : 0;

        return size > 0 ? (size_t)size : 0;
}

/* ---- iterators ---- */

int bpf_load_iterator(const struct bpf *b, const char *target, const char *name,
                      const struct bpf_insn *insns, size_t n) {
        struct bpf_prog_load_opts opts = { .sz = sizeof(opts), .expected_attach_type = BPF_TRACE_ITER };
        char hook[NAME_SIZE];
        int32_t id;

        snprintf(hook, sizeof(hook), "bpf_iter_%s", target);
        id = b->find_by_name_kind(b->btf, hook, BTF_KIND_FUNC);
        if (id <= 0)
                return -ENOSYS;
        opts.attach_btf_id = (uint32_t)id;
        return b->prog_load(BPF_PROG_TYPE_TRACING, name, "GPL", insns, n, &opts);
}

int bpf_open_iterator(const struct bpf *b, int prog_fd, pid_t pid) {
        union bpf_iter_link_info info = { .task = { .pid = (uint32_t)pid } };
        struct bpf_link_create_opts opts = { .sz = sizeof(opts) };
        _cleanup_close_ int link = -EBADF;

        if (pid > 0) {
                opts.iter_info = &info;
                opts.iter_info_len = sizeof(info);
        }
        link = b->link_create(prog_fd, 0, BPF_TRACE_ITER, &opts);
        return link < 0 ? link : b->iter_create(link);
}

int bpf_read_records(int fd, size_t size, int (*fn)(void *arg, const void *record), void *arg) {
        _Alignas(uint64_t) char buf[READ_SIZE];
        size_t kept = 0; /* bytes of a record that is not whole yet */

        for (;;) {
                ssize_t n = read(fd, buf + kept, sizeof(buf) - kept);
                size_t at = 0;

                if (n == 0)
                        return kept == 0 ? 0 : -EBADMSG;
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n < 0)
                        return -errno;
                kept += (size_t)n;
                for (; kept - at >= size; at += size) {
                        int r = fn(arg, buf + at);

                        if (r != 0)
                                return r;
                }
                kept -= at;
                memmove(buf, buf + at, kept);
        }
}
