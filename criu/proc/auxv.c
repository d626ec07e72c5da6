/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/auxv.h"

#include <elf.h>
#include <string.h>

int proc_auxv_parse(const char *data, size_t len, struct proc_auxv_vec *ret) {
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec vec = { 0 };
        bool ended = len == 0;

        if (len % (2 * sizeof(uint64_t)))
                return -EBADMSG;
        for (size_t at = 0; at < len; at += 2 * sizeof(uint64_t)) {
                uint64_t pair[2];

                memcpy(pair, data + at, sizeof(pair));
                ended = pair[0] == AT_NULL;
                if (ended)
                        break;
                if (proc_auxv_vec_push(&vec, pair[0]) < 0 || proc_auxv_vec_push(&vec, pair[1]) < 0)
                        return -ENOMEM;
        }
        if (!ended)
                return -EBADMSG;
        proc_auxv_vec_done(ret);
        *ret = vec;
        vec = (struct proc_auxv_vec){ 0 };
        return 0;
}

int proc_auxv_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_auxv_vec *ret) {
        int r = proc_read_once(dir, "auxv", buf);

        /* A zombie has no memory: older kernels show an empty file, newer ones (6.18) say -ESRCH. */
        if (r == -ESRCH && proc_exists(dir))
                return proc_auxv_parse("", 0, ret);
        return r < 0 ? r : proc_auxv_parse(buf->data, buf->len, ret);
}

int proc_auxv_find(const struct proc_auxv_vec *vec, uint64_t type, uint64_t *ret) {
        for (size_t i = 0; i + 1 < vec->n; i += 2)
                if (vec->v[i] == type) {
                        *ret = vec->v[i + 1];
                        return 0;
                }
        return -ENOENT;
}
