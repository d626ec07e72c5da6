/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A checkpoint as `ckpt inspect` sees it: what load*.c has read, checked as far as the views (show.c, show_json.c)
 * rely on it. Other writers' sets are taken too, so what a set may lack is NULL or false here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"
#include "image/image.h"
#include "images/creds.pb-c.h"
#include "images/fdinfo.pb-c.h"
#include "images/fs.pb-c.h"
#include "images/mm.pb-c.h"
#include "inspect/json.h"
#include "lib/arena.h"
#include "vec.h"

DEFINE_VEC(message_vec, ProtobufCMessage *);

/* Kinds of memory areas, in the order in which they are shown. */
enum area_kind {
        AREA_HEAP,
        AREA_STACK,
        AREA_PRIVATE_ANON,
        AREA_PRIVATE_FILE,
        AREA_SHARED_ANON,
        AREA_SHARED_FILE,
        AREA_SYSV,
        AREA_MEMFD,
        AREA_SPECIAL, /* vdso, vvar, AIO rings, ... */
        AREA_GUARD,   /* guard ranges lie within other areas */
        AREA_KIND_MAX,
        AREA_KIND_INVALID = -1,
};

const char *area_kind_text(enum area_kind kind); /* for people: "shared, of files" */
const char *area_kind_name(enum area_kind kind); /* for programs: "shared_file" */

/* What a pagemap says of some pages, in bytes. */
struct saved {
        uint64_t present; /* in a pages file of this checkpoint */
        uint64_t parent;  /* in the checkpoint this one builds on */
};

struct mem_sum {
        uint64_t areas, mapped; /* mapped: bytes */
        struct saved saved;
};

struct mem {
        Img__Vma **vmas; /* in address order, then the guard ranges; checked: start < end, page-aligned */
        size_t n_vmas;
        struct saved *saved;                      /* per VMA */
        struct mem_sum sum[AREA_KIND_MAX], total; /* total without AREA_GUARD */
        bool has_pagemap;
        uint32_t pages_id;
};

enum area_kind area_kind_of(const Img__Vma *vma);

struct creds {
        uint32_t uid[4], gid[4]; /* real, effective, saved, filesystem */
        uint32_t *groups;
        size_t n_groups;
};

struct thread {
        uint32_t tid;
        const char *comm; /* NULL: not recorded */
        const struct creds *creds;
        uint64_t ip, sp;
        bool has_regs, has_nice;
        int32_t nice;
        uint32_t policy, priority;
        size_t pending; /* signals for this thread */
};

struct fd_table {
        uint32_t id;
        Img__Fdinfo **fds; /* in the order of their numbers, each number once */
        size_t n_fds;
        uint32_t owner; /* pid of the first process that uses it */
};
DEFINE_VEC(fd_table_vec, struct fd_table *);

struct task {
        uint32_t pid, ppid, pgid, sid;
        const char *comm;
        uint32_t state; /* 1 alive, 2 zombie, 3 stopped; others as found */
        uint32_t exit_code;
        struct thread *threads; /* the leader first */
        size_t n_threads;
        size_t pending; /* signals for the process */
        const Img__TaskKobjIds *ids;
        const Img__Mm *mm;
        const Img__Fs *fs;
        struct mem mem;
        const struct fd_table *fds;
        /* The tree: indexes of inspect.tasks, -1 for none. */
        ssize_t parent, first_child, last_child, next;
        unsigned depth;
};
DEFINE_VEC(task_vec, struct task);

/* Open file descriptions, whatever kind of image they stood in. */
DEFINE_VEC(file_vec, const Img__File *);

/* A reference to a file by a descriptor; sorted by file. */
struct file_ref {
        uint32_t type, file;
        uint32_t pid, fd; /* pid: the table's owner */
};
DEFINE_VEC(file_ref_vec, struct file_ref);

/* What is in a pipe or fifo. */
struct pipe_content {
        uint32_t pipe_id;
        uint32_t bytes;
        bool has_size;
        uint32_t size;
};
DEFINE_VEC(pipe_content_vec, struct pipe_content);

/* Shared memory: pagemap-shmem-ID.img. */
struct shmem {
        uint64_t id;
        uint64_t mapped; /* the largest end of any mapping of it */
        struct saved saved;
        bool has_pagemap;
        uint32_t first_pid, mappings;
};
DEFINE_VEC(shmem_vec, struct shmem);

/* A System V object of the tree's IPC namespace. */
enum ipc_object_sort {
        IPC_OBJECT_SHM,
        IPC_OBJECT_SEM,
        IPC_OBJECT_MSG,
};
struct ipc_object {
        enum ipc_object_sort sort;
        uint32_t id, key, mode, uid, gid;
        uint64_t amount; /* bytes, semaphores, messages */
};
DEFINE_VEC(ipc_object_vec, struct ipc_object);

struct memfd_name {
        uint64_t inode_id, size;
        uint32_t seals;
        const char *name; /* in the arena */
};
DEFINE_VEC(memfd_name_vec, struct memfd_name);

struct inspect {
        struct image_dir *dir;
        const char *path; /* of the directory */
        struct ckpt_error *err;
        struct arena arena;
        struct message_vec messages; /* all that was read; freed at the end */

        struct task_vec tasks; /* parents before children, tasks[0] is the root */
        size_t n_threads;
        struct file_vec files; /* sorted by type and id */
        struct fd_table_vec tables;
        struct file_ref_vec refs;             /* sorted by file */
        struct file_vec pipe_ends;            /* sorted by pipe_id */
        struct pipe_content_vec pipes, fifos; /* sorted by pipe_id */
        struct shmem_vec shmem;               /* sorted by id */
        struct memfd_name_vec memfds;
        struct ipc_object_vec ipc;

        uint64_t n_images, bytes; /* files of this checkpoint and their sizes */
        int64_t written;          /* seconds since the epoch: when inventory.img was written */
        const char *prev;         /* where the link `parent` leads, NULL if there is none */
};

/* Read everything. 0, or a negative errno with in->err filled. */
int inspect_load(struct inspect *in);
void inspect_done(struct inspect *in);

/* load_mem.c: task->mm and task->mem; shared memory of all tasks. */
int inspect_load_mem(struct inspect *in, struct task *task);
int inspect_load_shmem(struct inspect *in);

/* load_files.c: files.img and its older kin, what is in pipes; then the tables. */
int inspect_load_files(struct inspect *in);
int inspect_load_fds(struct inspect *in, struct task *task);
void inspect_sort_refs(struct inspect *in);

/* ipc.c: the IPC namespace of the tree, if it has one of its own; both views of it. */
int inspect_load_ipc(struct inspect *in);
void inspect_print_ipc(FILE *out, const struct inspect *in, bool all);
void inspect_json_ipc(struct json *j, const struct inspect *in);

/* Pass over the bytes behind an entry. */
int inspect_skip_raw(struct inspect *in, struct image_file *image, uint64_t len);

/* As image_load() and image_read(), for messages that live as long as `in`. */
int inspect_load_one(struct inspect *in, enum image_kind kind, unsigned long id, unsigned flags,
                     const ProtobufCMessageDescriptor *descriptor, void *ret);
int inspect_read(struct inspect *in, struct image_file *file, const ProtobufCMessageDescriptor *descriptor,
                 void *ret);

/* The file with this type and id, or NULL. */
const Img__File *inspect_file(const struct inspect *in, uint32_t type, uint32_t id);
/* Path of the regular file (or directory) `id`; NULL if unknown. */
const char *inspect_path(const struct inspect *in, uint32_t id);
/* The references to a file: *ret_n of them from the returned one on. */
const struct file_ref *inspect_refs(const struct inspect *in, const Img__File *file, size_t *ret_n);
/* The ends of a pipe: *ret_n of them from the returned one on. */
const Img__File *const *inspect_pipe_ends(const struct inspect *in, uint32_t pipe_id, size_t *ret_n);
/* What is recorded of the content of a pipe, or NULL. */
const struct pipe_content *inspect_pipe(const struct pipe_content_vec *pipes, uint32_t pipe_id);

/*
 * describe.c: the types of open files. `message` is what the File message has for the type; print() writes what is
 * particular about it in one line, json() as members of an object.
 */
struct file_kind {
        uint32_t type;
        const char *name;
        enum image_kind old; /* where older writers kept them; IMAGE_KIND_INVALID: nowhere */
        const ProtobufCMessageDescriptor *descriptor;
        size_t offset; /* of `message` in Img__File */
        void (*print)(FILE *out, const struct inspect *in, const void *message);
        void (*json)(struct json *j, const void *message);
};
/* The i-th row, NULL after the last; the row of a type, NULL if there is none. */
const struct file_kind *file_kind_at(size_t i);
const struct file_kind *file_kind(uint32_t type);
const char *file_type_name(uint32_t type);

/* The message of the file's type; never NULL for a file of in->files. */
const void *file_message(const Img__File *file);
/* Its field `name`, a number, or false if the type has no such field. */
bool file_number(const Img__File *file, const char *name, uint64_t *ret);
/* Its id among the files, as Fdinfo has it. */
uint32_t file_id(const Img__File *file);

void file_print(FILE *out, const struct inspect *in, const Img__File *file);
void file_json(struct json *j, const Img__File *file);

/* The views. `all`: collapse nothing. */
void show_text(FILE *out, const struct inspect *in, bool all);
void show_json(FILE *out, const struct inspect *in);
