/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A checkpoint for programs; the keys are described in README.md next to this file. Keys stay what they are
 * once a version had them; new ones may be added.
 */
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "images/core.pb-c.h"
#include "inspect/model.h"
#include "macro.h"

static void put_saved(struct json *j, const struct saved *saved) {
        json_uint(j, "saved_bytes", saved->present);
        json_uint(j, "parent_bytes", saved->parent);
}

static void put_checkpoint(struct json *j, const struct inspect *in) {
        const Img__Inventory *inventory = image_dir_inventory(in->dir);
        bool checksums = image_dir_has_checksums(in->dir);

        json_object(j, "checkpoint");
        json_string(j, "directory", in->path);
        json_uint(j, "image_version", inventory->img_version);
        json_string(j, "writer", checksums ? "ckpt" : "other");
        json_string(j, "checksums", checksums ? "verified" : "none");
        json_uint(j, "files", in->n_images);
        json_uint(j, "bytes", in->bytes);
        json_int(j, "written", in->written);
        json_optional(j, "uptime_us", inventory->has_dump_uptime, inventory->dump_uptime);
        json_string(j, "run_id", inventory->dump_criu_run_id);
        json_string(j, "parent", in->prev);
        json_uint(j, "processes", in->tasks.n);
        json_uint(j, "threads", in->n_threads);
        json_end_object(j);
}

static const char *policy_name(uint32_t policy) {
        static const char *const names[] = {
                [SCHED_OTHER] = "other", [SCHED_FIFO] = "fifo", [SCHED_RR] = "rr",
                [SCHED_BATCH] = "batch", [SCHED_IDLE] = "idle", [6] = "deadline",
        };

        return policy < ELEMENTSOF(names) ? names[policy] : NULL;
}

static void put_creds(struct json *j, const struct creds *creds) {
        static const char *const names[] = { "real", "effective", "saved", "filesystem" };

        if (!creds) {
                json_string(j, "credentials", NULL);
                return;
        }
        json_object(j, "credentials");
        json_object(j, "uid");
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                json_uint(j, names[i], creds->uid[i]);
        json_end_object(j);
        json_object(j, "gid");
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                json_uint(j, names[i], creds->gid[i]);
        json_end_object(j);
        json_array(j, "groups");
        for (size_t i = 0; i < creds->n_groups; i++)
                json_uint(j, NULL, creds->groups[i]);
        json_end_array(j);
        json_end_object(j);
}

static void put_thread(struct json *j, const struct thread *thread) {
        json_object(j, NULL);
        json_uint(j, "tid", thread->tid);
        json_string(j, "comm", thread->comm);
        json_string(j, "policy", policy_name(thread->policy));
        json_uint(j, "priority", thread->priority);
        if (thread->has_nice)
                json_int(j, "nice", thread->nice);
        else
                json_string(j, "nice", NULL);
        if (thread->has_regs) {
                json_hex(j, "ip", thread->ip);
                json_hex(j, "sp", thread->sp);
        }
        json_uint(j, "pending_signals", thread->pending);
        put_creds(j, thread->creds);
        json_end_object(j);
}

static void put_area(struct json *j, const Img__Vma *vma, const struct saved *saved) {
        enum area_kind kind = area_kind_of(vma);
        char prot[] = { vma->prot & 1 ? 'r' : '-', vma->prot & 2 ? 'w' : '-', vma->prot & 4 ? 'x' : '-',
                        '\0' };

        json_object(j, NULL);
        json_hex(j, "start", vma->start);
        json_hex(j, "end", vma->end);
        json_uint(j, "bytes", vma->end - vma->start);
        json_string(j, "kind", area_kind_name(kind));
        json_string(j, "protection", prot);
        json_uint(j, "map_flags", vma->flags);
        json_uint(j, "status", vma->status);
        json_uint(j, "offset", vma->pgoff);
        if (kind == AREA_PRIVATE_FILE || kind == AREA_SHARED_FILE)
                json_uint(j, "file", vma->shmid);
        else if (kind == AREA_SHARED_ANON || kind == AREA_SYSV)
                json_uint(j, "shared_memory", vma->shmid);
        put_saved(j, saved);
        json_end_object(j);
}

static void put_sum(struct json *j, const char *key, const struct mem_sum *sum) {
        json_object(j, key);
        json_uint(j, "areas", sum->areas);
        json_uint(j, "mapped_bytes", sum->mapped);
        put_saved(j, &sum->saved);
        json_end_object(j);
}

static void put_memory(struct json *j, const struct task *task) {
        const struct mem *mem = &task->mem;

        if (!task->mm) {
                json_string(j, "memory", NULL);
                return;
        }
        json_object(j, "memory");
        json_optional(j, "pages_image", mem->has_pagemap, mem->pages_id);
        put_sum(j, "total", &mem->total);
        json_object(j, "by_kind");
        for (enum area_kind kind = 0; kind < AREA_KIND_MAX; kind++)
                if (mem->sum[kind].areas > 0)
                        put_sum(j, area_kind_name(kind), &mem->sum[kind]);
        json_end_object(j);
        json_array(j, "areas");
        for (size_t i = 0; i < mem->n_vmas; i++)
                put_area(j, mem->vmas[i], &mem->saved[i]);
        json_end_array(j);
        json_end_object(j);
}

static void put_state(struct json *j, const struct task *task) {
        static const char *const names[] = { [1] = "running", [2] = "zombie", [3] = "stopped" };
        int status = (int)task->exit_code;
        bool zombie = task->state == 2, killed = zombie && WIFSIGNALED(status);

        json_string(j, "state",
                    task->state < ELEMENTSOF(names) && names[task->state] ? names[task->state] : "other");
        json_optional(j, "exit_status", zombie && !killed, (uint64_t)WEXITSTATUS(status));
        json_optional(j, "exit_signal", killed, (uint64_t)WTERMSIG(status));
}

static void put_path(struct json *j, const char *key, const struct inspect *in, bool has, uint32_t id) {
        json_string(j, key, has ? inspect_path(in, id) : NULL);
}

static void put_process(struct json *j, const struct inspect *in, const struct task *task) {
        const Img__Fs *fs = task->fs;

        json_object(j, NULL);
        json_uint(j, "pid", task->pid);
        json_optional(j, "ppid", task->parent >= 0, task->ppid);
        json_uint(j, "group", task->pgid);
        json_uint(j, "session", task->sid);
        json_string(j, "comm", task->comm);
        put_state(j, task);
        put_path(j, "program", in, task->mm, task->mm ? task->mm->exe_file_id : 0);
        put_path(j, "directory", in, fs, fs ? fs->cwd_id : 0);
        put_path(j, "root", in, fs, fs ? fs->root_id : 0);
        json_optional(j, "umask", fs && fs->has_umask, fs ? fs->umask : 0);
        json_uint(j, "pending_signals", task->pending);
        put_creds(j, task->threads[0].creds);
        json_array(j, "threads");
        for (size_t i = 0; i < task->n_threads; i++)
                put_thread(j, &task->threads[i]);
        json_end_array(j);
        put_memory(j, task);
        json_optional(j, "descriptor_table", task->fds, task->fds ? task->fds->id : 0);
        json_end_object(j);
}

static void put_table(struct json *j, const struct fd_table *table) {
        json_object(j, NULL);
        json_uint(j, "id", table->id);
        json_array(j, "descriptors");
        for (size_t i = 0; i < table->n_fds; i++) {
                json_object(j, NULL);
                json_uint(j, "fd", table->fds[i]->fd);
                json_string(j, "type", file_type_name(table->fds[i]->type));
                json_uint(j, "file", table->fds[i]->id);
                json_bool(j, "close_on_exec", table->fds[i]->flags & 1);
                json_end_object(j);
        }
        json_end_array(j);
        json_end_object(j);
}

static void put_file(struct json *j, const Img__File *file) {
        uint64_t flags = 0, pos = 0;
        bool has_flags = file_number(file, "flags", &flags), has_pos = file_number(file, "pos", &pos);

        json_object(j, NULL);
        json_uint(j, "id", file->id);
        json_string(j, "type", file_type_name(file->type));
        json_optional(j, "flags", has_flags, flags);
        json_optional(j, "position", has_pos, pos);
        file_json(j, file);
        json_end_object(j);
}

static void put_pipes(struct json *j, const char *type, const struct pipe_content_vec *pipes) {
        for (size_t i = 0; i < pipes->n; i++) {
                json_object(j, NULL);
                json_string(j, "type", type);
                json_uint(j, "pipe_id", pipes->v[i].pipe_id);
                json_uint(j, "bytes", pipes->v[i].bytes);
                json_optional(j, "capacity", pipes->v[i].has_size, pipes->v[i].size);
                json_end_object(j);
        }
}

static void put_shmem(struct json *j, const struct shmem *shmem) {
        json_object(j, NULL);
        json_uint(j, "id", shmem->id);
        json_uint(j, "bytes", shmem->mapped);
        json_uint(j, "mappings", shmem->mappings);
        put_saved(j, &shmem->saved);
        json_end_object(j);
}

void show_json(FILE *out, const struct inspect *in) {
        struct json j = { .out = out };

        json_object(&j, NULL);
        put_checkpoint(&j, in);
        json_array(&j, "processes");
        for (size_t i = 0; i < in->tasks.n; i++)
                put_process(&j, in, &in->tasks.v[i]);
        json_end_array(&j);
        json_array(&j, "descriptor_tables");
        for (size_t i = 0; i < in->tables.n; i++)
                put_table(&j, in->tables.v[i]);
        json_end_array(&j);
        json_array(&j, "files");
        for (size_t i = 0; i < in->files.n; i++)
                put_file(&j, in->files.v[i]);
        json_end_array(&j);
        json_array(&j, "pipes");
        put_pipes(&j, "pipe", &in->pipes);
        put_pipes(&j, "fifo", &in->fifos);
        json_end_array(&j);
        json_array(&j, "shared_memory");
        for (size_t i = 0; i < in->shmem.n; i++)
                put_shmem(&j, &in->shmem.v[i]);
        json_end_array(&j);
        inspect_json_ipc(&j, in);
        json_end_object(&j);
}
