/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/bpf.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/btf.h"
#include "lib/fault.h"
#include "macro.h"

enum {
        READ_SIZE = 32 << 10,
};

struct bpf {
        pthread_mutex_t lock; /* of the loading */
        bool tried;
        int result;
        struct btf_types *types;
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
        btf_close(&(*b)->types);
        pthread_mutex_destroy(&(*b)->lock);
        free(*b);
        *b = NULL;
}

int bpf_load(struct bpf *b) {
        int r;

        if (!b)
                return -EOPNOTSUPP;
        pthread_mutex_lock(&b->lock);
        if (!b->tried) {
                b->result = fault_point(FAULT_KERNEL_BPF);
                if (b->result == 0)
                        b->result = btf_open(&b->types);
        }
        b->tried = true;
        r = b->result;
        pthread_mutex_unlock(&b->lock);
        return r;
}

int bpf_find_offsets(const struct bpf *b, const struct btf_wanted *wanted, size_t n, struct btf_place *ret) {
        return btf_find_offsets(b->types, wanted, n, ret);
}

bool bpf_member(const struct bpf *b, const char *type, const char *path, unsigned int size, int16_t *ret) {
        return btf_member(b->types, type, path, size, ret);
}

size_t bpf_type_size(const struct bpf *b, const char *type) {
        return btf_struct_size(b->types, type);
}

int bpf_call(int command, union bpf_attr *attr) {
        long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

        return r < 0 ? -errno : (int)r;
}

/* ---- iterators ---- */

int bpf_load_iterator(const struct bpf *b, const char *target, const char *name,
                      const struct bpf_insn *insns, size_t n) {
        union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_TRACING,
                                .expected_attach_type = BPF_TRACE_ITER,
                                .insns = (uintptr_t)insns,
                                .insn_cnt = (uint32_t)n,
                                .license = (uintptr_t) "GPL" };

        snprintf(attr.prog_name, sizeof(attr.prog_name), "%s", name);
        attr.attach_btf_id = btf_hook(b->types, target);
        return attr.attach_btf_id == 0 ? -ENOSYS : bpf_call(BPF_PROG_LOAD, &attr);
}

static int open_iterator(int prog_fd, pid_t pid) {
        union bpf_iter_link_info info = { .task = { .pid = (uint32_t)pid } };
        union bpf_attr link = { .link_create = { .prog_fd = (uint32_t)prog_fd,
                                                 .attach_type = BPF_TRACE_ITER } };
        union bpf_attr iterator = { 0 };
        _cleanup_close_ int fd = -EBADF;

        if (pid > 0) {
                link.link_create.iter_info = (uintptr_t)&info;
                link.link_create.iter_info_len = sizeof(info);
        }
        fd = bpf_call(BPF_LINK_CREATE, &link);
        if (fd < 0)
                return fd;
        iterator.iter_create.link_fd = (uint32_t)fd;
        return bpf_call(BPF_ITER_CREATE, &iterator);
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

int bpf_iterate(int prog_fd, pid_t pid, size_t size, int (*fn)(void *arg, const void *record), void *arg) {
        _cleanup_close_ int fd = open_iterator(prog_fd, pid);

        return fd < 0 ? fd : bpf_read_records(fd, size, fn, arg);
}
