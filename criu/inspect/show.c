/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A checkpoint for people: an overview, the tree, and a paragraph per process. Long lists are cut short unless
 * `all`; what is shown per line is bounded in any case, so the text stays in proportion to the images.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "images/core.pb-c.h"
#include "inspect/model.h"
#include "inspect/text.h"
#include "macro.h"

enum {
        TREE_DEPTH_MAX = 24, /* levels that are indented */
        TREE_MAX = 200,      /* the rest only with `all`, from here on */
        PARAGRAPHS_MAX = 20,
        THREADS_MAX = 8,
        DESCRIPTORS_MAX = 24,
        SHMEM_MAX = 24,
        SHARERS_MAX = 4, /* also with `all` */
        GROUPS_MAX = 16, /* also with `all` */
};

static void print_size(FILE *out, int width, uint64_t bytes) {
        char text[SIZE_TEXT_MAX];

        fprintf(out, "%*s", width, size_text(bytes, text));
}

static const char *plural(size_t n) {
        return n == 1 ? "" : "s";
}

static void print_more(FILE *out, const char *indent, size_t n, const char *what) {
        fprintf(out, "%s... and %zu more %s; -v lists them all\n", indent, n, what);
}

/* --- the set -------------------------------------------------------------------------------------------- */

static void print_when(FILE *out, const struct inspect *in) {
        const Img__Inventory *inventory = image_dir_inventory(in->dir);
        uint64_t up = inventory->dump_uptime / 1000000;
        time_t written = (time_t)in->written;
        char text[64] = "?";
        struct tm tm;

        if (localtime_r(&written, &tm))
                strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &tm);
        fprintf(out, "  written    %s", text);
        if (inventory->has_dump_uptime)
                fprintf(out, "; the machine had been up for %" PRIu64 " d %02u:%02u:%02u", up / 86400,
                        (unsigned)(up / 3600 % 24), (unsigned)(up / 60 % 60), (unsigned)(up % 60));
        fputc('\n', out);
}

static void print_set(FILE *out, const struct inspect *in) {
        bool ours = image_dir_has_checksums(in->dir);

        fputs("Checkpoint in ", out);
        print_text(out, in->path);
        fprintf(out, "\n  format     version %u, %s\n", image_dir_inventory(in->dir)->img_version,
                ours ? "written by ckpt; every file was checked against its checksum"
                     : "written by another tool; it has no checksums");
        print_when(out, in);
        fprintf(out, "  size       %" PRIu64 " files, ", in->n_images);
        print_size(out, 0, in->bytes);
        if (in->prev) {
                fputs("\n  builds on  ", out);
                print_text(out, in->prev);
        }
        fprintf(out, "\n  holds      %zu process%s, %zu thread%s, %zu open file%s\n", in->tasks.n,
                in->tasks.n == 1 ? "" : "es", in->n_threads, plural(in->n_threads), in->files.n,
                plural(in->files.n));
}

/* --- the tree ------------------------------------------------------------------------------------------- */

static void print_state(FILE *out, const struct task *task) {
        int status = (int)task->exit_code;

        if (task->state == 1)
                fputs("running", out);
        else if (task->state == 3)
                fputs("stopped", out);
        else if (task->state != 2)
                fprintf(out, "state %u", task->state);
        else if (WIFSIGNALED(status))
                fprintf(out, "zombie, killed by SIG%s", sigabbrev_np(WTERMSIG(status)) ?: "?");
        else
                fprintf(out, "zombie, exit status %d", WEXITSTATUS(status));
}

/* "|  `- " for a task below the root. */
static void print_branch(FILE *out, const struct inspect *in, const struct task *task) {
        bool last[TREE_DEPTH_MAX];
        unsigned n = 0, skipped;

        for (const struct task *t = task; t->parent >= 0 && n < TREE_DEPTH_MAX; t = &in->tasks.v[t->parent])
                last[n++] = t->next < 0;
        skipped = task->depth - n;
        if (skipped > 0)
                fprintf(out, "(%u) ", skipped);
        while (n > 1)
                fputs(last[--n] ? "   " : "|  ", out);
        if (n == 1)
                fputs(last[0] ? "`- " : "|- ", out);
}

static void print_node(FILE *out, const struct inspect *in, const struct task *task) {
        fputs("  ", out);
        print_branch(out, in, task);
        fprintf(out, "%u ", task->pid);
        print_text(out, task->comm);
        if (task->state != 1) {
                fputs(" (", out);
                print_state(out, task);
                fputc(')', out);
        }
        if (task->n_threads > 1)
                fprintf(out, ", %zu threads", task->n_threads);
        if (task->mem.total.saved.present > 0) {
                fputs(", ", out);
                print_size(out, 0, task->mem.total.saved.present);
        }
        fputc('\n', out);
}

/* The task after `task` when children follow their parents; NULL after the last. */
static const struct task *next_in_tree(const struct inspect *in, const struct task *task) {
        if (task->first_child >= 0)
                return &in->tasks.v[task->first_child];
        while (task->next < 0) {
                if (task->parent < 0)
                        return NULL;
                task = &in->tasks.v[task->parent];
        }
        return &in->tasks.v[task->next];
}

static void print_tree(FILE *out, const struct inspect *in, bool all) {
        size_t n = 0;

        fputs("\nProcesses\n", out);
        for (const struct task *task = &in->tasks.v[0]; task; task = next_in_tree(in, task)) {
                if (!all && n == TREE_MAX) {
                        print_more(out, "  ", in->tasks.n - n, "processes");
                        break;
                }
                print_node(out, in, task);
                n++;
        }
}

/* --- one process ---------------------------------------------------------------------------------------- */

static void print_ids(FILE *out, const char *what, const uint32_t id[4]) {
        fprintf(out, "%s %u", what, id[0]);
        if (id[1] != id[0] || id[2] != id[0] || id[3] != id[0])
                fprintf(out, " (effective %u, saved %u, filesystem %u)", id[1], id[2], id[3]);
}

static void print_creds(FILE *out, const struct creds *creds) {
        if (!creds)
                return;
        print_ids(out, "  user        uid", creds->uid);
        print_ids(out, ", gid", creds->gid);
        for (size_t i = 0; i < creds->n_groups && i < GROUPS_MAX; i++)
                fprintf(out, "%s%u", i == 0 ? ", groups " : " ", creds->groups[i]);
        fputs(creds->n_groups > GROUPS_MAX ? " ...\n" : "\n", out);
}

static void print_place(FILE *out, const struct inspect *in, const struct task *task) {
        if (task->mm) {
                fputs("  program     ", out);
                print_text(out, inspect_path(in, task->mm->exe_file_id));
                fputc('\n', out);
        }
        if (!task->fs)
                return;
        fputs("  directory   ", out);
        print_text(out, inspect_path(in, task->fs->cwd_id));
        fputs(", root ", out);
        print_text(out, inspect_path(in, task->fs->root_id));
        if (task->fs->has_umask)
                fprintf(out, ", umask %03o", task->fs->umask);
        fputc('\n', out);
}

static void print_threads(FILE *out, const struct task *task, bool all) {
        size_t shown = all ? task->n_threads : MIN(task->n_threads, (size_t)THREADS_MAX);

        if (task->n_threads == 1)
                return;
        fprintf(out, "  threads     %zu:", task->n_threads);
        for (size_t i = 0; i < shown; i++) {
                const struct thread *thread = &task->threads[i];

                fprintf(out, "%s %u ", i > 0 ? "," : "", thread->tid);
                print_text(out, thread->comm ?: task->comm);
        }
        if (shown < task->n_threads)
                fprintf(out, " ... and %zu more; -v lists them all", task->n_threads - shown);
        fputc('\n', out);
}

static void print_sum(FILE *out, const char *name, const struct mem_sum *sum, bool parent) {
        fprintf(out, "    %-18s", name);
        print_size(out, 9, sum->mapped);
        fprintf(out, " %6" PRIu64 " ", sum->areas);
        print_size(out, 10, sum->saved.present);
        if (parent)
                print_size(out, 12, sum->saved.parent);
        fputc('\n', out);
}

static void print_memory(FILE *out, const struct task *task) {
        const struct mem *mem = &task->mem;
        bool parent = mem->total.saved.parent > 0;

        if (!task->mm)
                return;
        fprintf(out, "  %-20s%9s %6s %10s%s\n", "memory", "mapped", "areas", "in images",
                parent ? "   in parent" : "");
        for (enum area_kind kind = 0; kind < AREA_KIND_MAX; kind++)
                if (mem->sum[kind].areas > 0)
                        print_sum(out, area_kind_text(kind), &mem->sum[kind], parent);
        print_sum(out, "all", &mem->total, parent);
}

static const char *flag_text(uint32_t flags) {
        if (flags & O_PATH)
                return "path";
        switch (flags & O_ACCMODE) {
        case O_RDONLY:
                return "r";
        case O_WRONLY:
                return "w";
        default:
                return "rw";
        }
}

static void print_flags(FILE *out, const Img__File *file, const Img__Fdinfo *fd) {
        static const struct {
                uint32_t flag;
                const char *text;
        } names[] = {
                { O_APPEND, "append" }, { O_NONBLOCK, "nonblock" }, { O_DSYNC, "sync" },
                { O_ASYNC, "async" },   { O_NOATIME, "noatime" },
        };
        uint64_t flags = 0, pos = 0;

        if (file_number(file, "flags", &flags)) {
                fprintf(out, "  %s", flag_text((uint32_t)flags));
                for (size_t i = 0; i < ELEMENTSOF(names); i++)
                        if (flags & names[i].flag)
                                fprintf(out, " %s", names[i].text);
        }
        if (fd->flags & FD_CLOEXEC)
                fputs(" cloexec", out);
        if (file_number(file, "pos", &pos) && pos > 0)
                fprintf(out, " at %" PRIu64, pos);
}

/* Who else has the same open file: its own process first. */
static void print_sharers(FILE *out, const struct inspect *in, const struct fd_table *table,
                          const Img__Fdinfo *fd, const Img__File *file) {
        const struct file_ref *refs;
        size_t n, shown = 0;

        refs = inspect_refs(in, file, &n);
        if (n < 2)
                return;
        fputs("  =", out);
        for (int others = 0; others < 2; others++)
                for (size_t i = 0; i < n && shown < SHARERS_MAX; i++) {
                        bool here = refs[i].pid == table->owner;

                        if (here == others || (here && refs[i].fd == fd->fd))
                                continue;
                        fputs(shown > 0 ? ", " : " ", out);
                        if (!here)
                                fprintf(out, "pid %u ", refs[i].pid);
                        fprintf(out, "fd %u", refs[i].fd);
                        shown++;
                }
        if (shown < n - 1)
                fprintf(out, " and %zu more", n - 1 - shown);
}

static void print_descriptor(FILE *out, const struct inspect *in, const struct fd_table *table,
                             const Img__Fdinfo *fd) {
        const Img__File *file = inspect_file(in, fd->type, fd->id);

        fprintf(out, "    %5u  %-8s ", fd->fd, file_type_name(fd->type));
        if (!file) {
                fprintf(out, "file %u, of which the images hold nothing\n", fd->id);
                return;
        }
        file_print(out, in, file);
        print_flags(out, file, fd);
        print_sharers(out, in, table, fd, file);
        fputc('\n', out);
}

static void print_descriptors(FILE *out, const struct inspect *in, const struct task *task, bool all) {
        const struct fd_table *table = task->fds;
        size_t shown;

        if (!table)
                return;
        if (table->owner != task->pid) {
                fprintf(out, "  descriptors the table of pid %u\n", table->owner);
                return;
        }
        shown = all ? table->n_fds : MIN(table->n_fds, (size_t)DESCRIPTORS_MAX);
        fprintf(out, "  descriptors %zu\n", table->n_fds);
        for (size_t i = 0; i < shown; i++)
                print_descriptor(out, in, table, table->fds[i]);
        if (shown < table->n_fds)
                print_more(out, "           ", table->n_fds - shown, "descriptors");
}

static void print_process(FILE *out, const struct inspect *in, const struct task *task, bool all) {
        size_t pending = task->pending;

        fprintf(out, "\npid %u ", task->pid);
        print_text(out, task->comm);
        fputs(": ", out);
        print_state(out, task);
        if (task->parent >= 0)
                fprintf(out, ", child of %u", task->ppid);
        fprintf(out, ", group %u, session %u\n", task->pgid, task->sid);
        print_place(out, in, task);
        print_creds(out, task->threads[0].creds);
        print_threads(out, task, all);
        for (size_t i = 0; i < task->n_threads; i++)
                pending += task->threads[i].pending;
        if (pending > 0)
                fprintf(out, "  signals     %zu pending\n", pending);
        print_memory(out, task);
        print_descriptors(out, in, task, all);
}

/* --- shared memory -------------------------------------------------------------------------------------- */

static void print_shmem(FILE *out, const struct inspect *in, bool all) {
        size_t shown = all ? in->shmem.n : MIN(in->shmem.n, (size_t)SHMEM_MAX);

        if (in->shmem.n == 0)
                return;
        fputs("\nShared memory\n", out);
        for (size_t i = 0; i < shown; i++) {
                const struct shmem *s = &in->shmem.v[i];

                fprintf(out, "  %-10" PRIu64 " ", s->id);
                print_size(out, 9, s->mapped);
                fputs(", ", out);
                print_size(out, 0, s->saved.present);
                fprintf(out, " in the images; %u mapping%s", s->mappings, plural(s->mappings));
                if (s->first_pid)
                        fprintf(out, ", the first in pid %u", s->first_pid);
                fputc('\n', out);
        }
        if (shown < in->shmem.n)
                print_more(out, "  ", in->shmem.n - shown, "objects");
}

void show_text(FILE *out, const struct inspect *in, bool all) {
        size_t n = 0;

        print_set(out, in);
        print_tree(out, in, all);
        for (const struct task *task = &in->tasks.v[0]; task; task = next_in_tree(in, task)) {
                if (!all && n == PARAGRAPHS_MAX) {
                        fputc('\n', out);
                        print_more(out, "", in->tasks.n - n, "processes");
                        break;
                }
                print_process(out, in, task, all);
                n++;
        }
        print_shmem(out, in, all);
        inspect_print_ipc(out, in, all);
}
