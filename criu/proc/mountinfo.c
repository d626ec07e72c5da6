/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/mountinfo.h"

#include <string.h>

#include "macro.h"
#include "proc/scan.h"

/* Resolve \ooo in place, and end the text; field.end is in writable memory. */
static const char *unescape(const struct scan *field) {
        char *text = (char *)field->p, *out = text;
        size_t n = scan_left(field);

        for (size_t i = 0; i < n; i++) {
                const char *p = text + i;

                if (*p == '\\' && n - i >= 4 && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
                    p[3] >= '0' && p[3] <= '7') {
                        char c = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));

                        if (c) {
                                *out++ = c;
                                i += 3;
                                continue;
                        }
                }
                *out++ = *p;
        }
        *out = 0;
        return text;
}

/* Up to the next blank, which is used up: exactly one, as a field can be empty (the source). */
static bool scan_field(struct scan *s, const char **ret) {
        struct scan field;

        if (!scan_until(s, ' ', &field))
                return false;
        *ret = unescape(&field);
        return true;
}

/* Zero or more optional fields, then "- ". */
static bool scan_optional(struct scan *s, struct proc_mount *m) {
        const struct {
                const char *name;
                int *group;
        } groups[] = {
                { "shared:", &m->shared },
                { "master:", &m->master },
                { "propagate_from:", &m->propagate_from },
        };
        struct scan field;

        while (scan_until(s, ' ', &field)) {
                if (scan_equal(&field, "-"))
                        return true;
                if (scan_equal(&field, "unbindable"))
                        m->unbindable = true;
                for (size_t i = 0; i < ELEMENTSOF(groups); i++)
                        if (scan_lit(&field, groups[i].name) &&
                            (!scan_i32(&field, groups[i].group) || *groups[i].group <= 0 ||
                             !scan_at_end(&field)))
                                return false;
        }
        return false;
}

static bool scan_mount(struct scan line, struct proc_mount *m) {
        if (!scan_i32(&line, &m->id) || m->id < 0 || !scan_char(&line, ' ') ||
            !scan_i32(&line, &m->parent_id) || !scan_char(&line, ' ') || !scan_u32(&line, &m->dev_major) ||
            !scan_char(&line, ':') || !scan_u32(&line, &m->dev_minor) || !scan_char(&line, ' '))
                return false;
        if (!scan_field(&line, &m->root) || !scan_field(&line, &m->mountpoint) ||
            !scan_field(&line, &m->options) || !scan_optional(&line, m) || !scan_field(&line, &m->fstype) ||
            !scan_field(&line, &m->source))
                return false;
        /* The last field has the newline behind it. */
        m->super_options = unescape(&line);
        return *m->root && *m->mountpoint == '/' && *m->fstype;
}

int proc_mountinfo_parse(char *text, size_t len, struct proc_mount_vec *ret) {
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec vec = { 0 };
        struct scan s = scan_text(text, len), line;

        if (len && memchr(text, 0, len))
                return -EBADMSG;
        while (scan_line(&s, &line)) {
                struct proc_mount *m = proc_mount_vec_add(&vec);

                if (!m)
                        return -ENOMEM;
                if (!scan_mount(line, m))
                        return -EBADMSG;
        }
        if (!scan_at_end(&s))
                return -EBADMSG;
        proc_mount_vec_done(ret);
        *ret = vec;
        vec = (struct proc_mount_vec){ 0 };
        return 0;
}

int proc_mountinfo_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_mount_vec *ret) {
        int r = proc_read(dir, "mountinfo", buf);

        return r < 0 ? r : proc_mountinfo_parse(buf->data, buf->len, ret);
}

const struct proc_mount *proc_mount_by_id(const struct proc_mount_vec *vec, int id) {
        for (size_t i = 0; i < vec->n; i++)
                if (vec->v[i].id == id)
                        return &vec->v[i];
        return NULL;
}

/* Does path lie at or below dir, component by component? */
static bool is_below(const char *path, const char *dir) {
        size_t n = strlen(dir);

        if (n && dir[n - 1] == '/')
                return strncmp(path, dir, n) == 0;
        return strncmp(path, dir, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/*
 * Is `m` mounted on `at`? NULL stands for the task's root directory: on it stand the mount at
 * "/", or after a chroot to a plain directory, mounts whose parent the list does not show.
 */
static bool stands_on(const struct proc_mount_vec *vec, const struct proc_mount *m,
                      const struct proc_mount *at) {
        if (at)
                return m->parent_id == at->id && m != at;
        return m->parent_id == m->id || !proc_mount_by_id(vec, m->parent_id);
}

const struct proc_mount *proc_mount_by_path(const struct proc_mount_vec *vec, const char *path) {
        const struct proc_mount *at = NULL;

        if (path[0] != '/')
                return NULL;
        /* Each mount is entered at most once in a sane list; a hostile one may have circles. */
        for (size_t steps = 0; steps <= vec->n; steps++) {
                const struct proc_mount *next = NULL;

                for (size_t i = 0; i < vec->n; i++) {
                        const struct proc_mount *m = &vec->v[i];

                        /* Of several on the way, the path reaches the shortest mountpoint first. */
                        if (is_below(path, m->mountpoint) && stands_on(vec, m, at) &&
                            (!next || strlen(m->mountpoint) < strlen(next->mountpoint)))
                                next = m;
                }
                if (!next)
                        return at;
                at = next;
        }
        return NULL;
}

bool proc_mount_has_option(const char *options, const char *option) {
        size_t n = strlen(option);

        for (const char *p = options; p; p = strchr(p, ',')) {
                p += *p == ',';
                if (strncmp(p, option, n) == 0 && (p[n] == 0 || p[n] == ','))
                        return true;
        }
        return false;
}
