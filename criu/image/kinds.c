/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image/image.h"
#include "images/apparmor.pb-c.h"
#include "images/binfmt-misc.pb-c.h"
#include "images/bpfmap.pb-c.h"
#include "images/cgroup.pb-c.h"
#include "images/checksums.pb-c.h"
#include "images/core.pb-c.h"
#include "images/cpuinfo.pb-c.h"
#include "images/fdinfo.pb-c.h"
#include "images/fh.pb-c.h"
#include "images/file-lock.pb-c.h"
#include "images/fs.pb-c.h"
#include "images/ghost-file.pb-c.h"
#include "images/ipc.pb-c.h"
#include "images/mm.pb-c.h"
#include "images/mnt.pb-c.h"
#include "images/netdev.pb-c.h"
#include "images/ns.pb-c.h"
#include "images/pagemap.pb-c.h"
#include "images/pidfd.pb-c.h"
#include "images/pipe.pb-c.h"
#include "images/pstree.pb-c.h"
#include "images/remap-file-path.pb-c.h"
#include "images/seccomp.pb-c.h"
#include "images/sk-unix.pb-c.h"
#include "images/tcp.pb-c.h"
#include "images/tty.pb-c.h"
#include "macro.h"

#define MSG(name) &img__##name##__descriptor

static const struct image_kind_info image_kinds[IMAGE_KIND_MAX] = {
#define KIND(kind, pre, idform, suf, frm, mag, msg) \
        [IMAGE_##kind] = {                          \
                .name = #kind,                      \
                .prefix = pre,                      \
                .suffix = suf,                      \
                .id_form = IMAGE_ID_##idform,       \
                .form = IMAGE_FORM_##frm,           \
                .magic = mag,                       \
                .message = msg,                     \
        },
#define KIND_HEAD(kind, msg) [IMAGE_##kind].head = msg,
#include "image/kinds.def"
#undef KIND
#undef KIND_HEAD
};

const struct image_kind_info *image_kind_info(enum image_kind kind) {
        ckpt_assert(kind >= 0 && kind < IMAGE_KIND_MAX);
        return &image_kinds[kind];
}

void image_name(enum image_kind kind, unsigned long id, char *ret) {
        const struct image_kind_info *k = image_kind_info(kind);

        switch (k->id_form) {
        case IMAGE_ID_DEC:
                snprintf(ret, IMAGE_NAME_MAX, "%s%lu%s", k->prefix, id, k->suffix);
                break;
        case IMAGE_ID_HEX:
                snprintf(ret, IMAGE_NAME_MAX, "%s%lx%s", k->prefix, id, k->suffix);
                break;
        default:
                snprintf(ret, IMAGE_NAME_MAX, "%s%s", k->prefix, k->suffix);
                break;
        }
}

static bool kind_matches(enum image_kind kind, const char *name, unsigned long *ret_id) {
        const struct image_kind_info *k = &image_kinds[kind];
        size_t prefix_len = strlen(k->prefix);
        char canonical[IMAGE_NAME_MAX];
        unsigned long id = 0;

        if (strncmp(name, k->prefix, prefix_len) != 0)
                return false;
        if (k->id_form != IMAGE_ID_NONE) {
                errno = 0;
                id = strtoul(name + prefix_len, NULL, k->id_form == IMAGE_ID_HEX ? 16 : 10);
                if (errno != 0)
                        return false;
        }
        /* Going back to the name rules out signs, blanks, leading zeros and anything after the suffix. */
        image_name(kind, id, canonical);
        if (strcmp(canonical, name) != 0)
                return false;
        if (ret_id)
                *ret_id = id;
        return true;
}

enum image_kind image_kind_of(const char *name, unsigned long *ret_id) {
        for (enum image_kind kind = 0; kind < IMAGE_KIND_MAX; kind++)
                if (kind_matches(kind, name, ret_id))
                        return kind;
        return IMAGE_KIND_INVALID;
}
