/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that cannot be carried over yet. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/fd.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/aio.h"
#include "mem/dump.h"
#include "mem/hugetlb.h"
#include "ns/ipc.h"

struct dump_mem *dump_mem_of(struct dump_task *t) {
        if (!t->mem) {
                t->mem = calloc(1, sizeof(*t->mem));
                ckpt_assert(t->mem);
        }
        return t->mem;
}

/* Shared anonymous memory, memfds and System V segments are files of one tmpfs that nobody mounted. */
static uint64_t find_shm_dev(void) {
        _cleanup_close_ int fd = (int)syscall(SYS_memfd_create, "ckpt", MFD_CLOEXEC);
        struct stat st;

        return fd < 0 || fstat(fd, &st) < 0 ? makedev(0, 1) : st.st_dev;
}

struct mem_tree *mem_tree_of(struct dump *d) {
        struct dump_mem *mem = dump_mem_of(d->tasks[0]);

        if (!mem->tree) {
                mem->tree = calloc(1, sizeof(*mem->tree));
                ckpt_assert(mem->tree);
                mem->tree->shm_dev = find_shm_dev();
                pthread_mutex_init(&mem->tree->lock, NULL);
        }
        return mem->tree;
}

void mem_look_init(struct dump *d) {
        mem_tree_of(d);
        mem_prepare_areas(d);
}

static const struct flag_row {
        uint64_t vmf;
        const char *what, *hint;
} flag_rows[] = {
        { PROC_VMF_PF | PROC_VMF_IO | PROC_VMF_AR, "memory of a device", NULL },
        { PROC_VMF_MM, "memory of a device or of a DAX file system", NULL },
        { PROC_VMF_SF, "persistent memory mapped with MAP_SYNC", NULL },
        { PROC_VMF_NL, "a non-linear file mapping", NULL },
        { PROC_VMF_UM | PROC_VMF_UW | PROC_VMF_UI, "memory watched by a userfaultfd", NULL },
        { PROC_VMF_SS, "a shadow stack", "Start the program with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK" },
        { PROC_VMF_SL, "sealed memory (mseal)", NULL },
        { PROC_VMF_DP, "droppable memory (MAP_DROPPABLE)", NULL },
        { PROC_VMF_MT | PROC_VMF_BT | PROC_VMF_MP, "memory tied to a feature of the CPU", NULL },
        { PROC_VMF_UNKNOWN, "memory with a property that this ckpt does not know", "Use a newer ckpt" },
};

static const struct name_row {
        const char *prefix, *what, *hint;
} name_rows[] = {
        { "/SYSV", "System V shared memory",
          "Start the program in an IPC namespace of its own: unshare --ipc PROGRAM" },
        { "/secretmem", "secret memory (memfd_secret)", NULL },
        { "anon_inode:[io_uring]", "the rings of an io_uring instance",
          "Start the program with io_uring disabled" },
        { "anon_inode:[perf_event]", "the buffer of a performance counter", "Stop the profiler first" },
        { "anon_inode:bpf", "a BPF map", NULL },
        { "anon_inode:", "the memory of a special descriptor", NULL },
        { "socket:", "the ring buffer of a socket",
          "Have the program read what it receives without a mapping (PACKET_RX_RING, TCP_ZEROCOPY_RECEIVE), or end it" },
        { "[uprobes]", "the kernel's page for uprobes", "Remove the uprobes of the program" },
};

struct look {
        struct dump_task *t;
        struct blockers *b;
        const struct proc_vma *vma;
        const struct proc_smap *smap;
};

static void __attribute__((format(printf, 3, 4)))
block(const struct look *l, const char *hint, const char *fmt, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&what, fmt, ap);
        va_end(ap);
        ckpt_assert(n >= 0);
        blocker_add(l->b, hint, "%s: the mapping at %#llx is %s, which cannot be checkpointed yet",
                    dump_task_name(l->t), (unsigned long long)l->vma->start, what);
}

static const struct name_row *find_name(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(name_rows); i++)
                if (strncmp(name, name_rows[i].prefix, strlen(name_rows[i].prefix)) == 0)
                        return &name_rows[i];
        return NULL;
}

void mem_map_files_link(const struct proc_vma *vma, char ret[48]) {
        snprintf(ret, 48, "map_files/%llx-%llx", (unsigned long long)vma->start,
                 (unsigned long long)vma->end);
}

static bool is_memfd(const struct look *l) {
        return strncmp(l->vma->name, "/memfd:", 7) == 0;
}

/* Memory of the kernel's own tmpfs: what memfd_create(2) and mmap(MAP_SHARED | MAP_ANONYMOUS) made is known. */
static void look_shm(const struct look *l, const char *link) {
        const struct name_row *row = find_name(l->vma->name);
        bool anonymous =
                strcmp(l->vma->name, "/dev/zero (deleted)") == 0 || l->vma->kind == PROC_VMA_ANON_NAMED;

        if (l->vma->shared && mem_is_sysv(l->t->dump, l->vma) && ipc_is_own(l->t->dump))
                return;
        if (is_memfd(l))
                files_look_path(l->t, link, l->b);
        else if (row)
                block(l, row->hint, "%s", row->what);
        else if (!anonymous)
                block(l, NULL, "memory shared in an unknown way (%s)", l->vma->name);
        else if (!l->vma->shared)
                block(l, NULL, "a private mapping of shared anonymous memory");
}

/* Does the path that the kernel shows still lead to the file? 0: no. Negative: it is gone meanwhile. */
static int name_leads_there(const struct look *l, const char *link, const struct stat *st) {
        _cleanup_free_ char *path = NULL;
        struct stat there;

        int r = proc_readlink(&l->t->proc, link, &path);

        if (r == -ENOENT || r == -ESRCH)
                return r;
        if (r < 0)
                return 0;
        return path[0] == '/' && stat(path, &there) == 0 && there.st_dev == st->st_dev &&
               there.st_ino == st->st_ino;
}

static void look_huge(const struct look *l, const char *link, const struct stat *st) {
        const struct name_row *row = find_name(l->vma->name);

        if (st->st_nlink > 0 || is_memfd(l)) {
                if (is_memfd(l) || !name_leads_there(l, link, st))
                        files_look_path(l->t, link, l->b);
        } else if (row) {
                block(l, "Let the program use transparent huge pages instead",
                      "%s in huge pages of hugetlbfs", row->what);
        } else if (!hugetlb_is_anonymous(l->smap) || !hugetlb_is_kernels(l->smap, st->st_dev)) {
                block(l, "Have the program close it", "the deleted file %s of hugetlbfs", l->vma->name);
        }
}

static void look_file(const struct look *l) {
        const struct name_row *row = find_name(l->vma->name);
        struct mem_tree *tree = mem_tree_of(l->t->dump);
        bool huge = l->smap->flags & PROC_VMF_HT;
        char link[48];
        struct stat st;

        if (!huge && mem_file_is_clear(tree, l->vma))
                return;
        mem_map_files_link(l->vma, link);
        if (fstatat(l->t->proc.fd, link, &st, 0) < 0) {
                if (errno != ENOENT && errno != ESRCH) /* it is gone meanwhile */
                        block(l, "Run ckpt as root", "%s, which cannot be looked at (%s)", l->vma->name,
                              strerror(errno));
                return;
        }
        if (aio_is_ring(l->vma) && (st.st_mode & S_IFMT) == 0) /* what no filesystem has */
                return;
        if (st.st_dev == tree->shm_dev)
                return look_shm(l, link);
        if (huge)
                return look_huge(l, link, &st);
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5) && !l->vma->shared)
                return;
        if (!S_ISREG(st.st_mode) || (row && st.st_nlink == 0)) {
                if (row)
                        block(l, row->hint, "%s", row->what);
                else
                        block(l, NULL, "of the special file %s", l->vma->name);
        } else {
                int there = st.st_nlink == 0 ? 0 : name_leads_there(l, link, &st);

                if (there == 0)
                        files_look_path(l->t, link, l->b);
                else if (there > 0)
                        mem_file_note_clear(tree, l->vma);
        }
}

static bool look_flags(const struct look *l, const struct proc_smap *smap) {
        const struct name_row *row = find_name(smap->vma.name);
        bool found = false;

        bool ring = smap->vma.shared && mem_is_socket(&smap->vma, NULL);
        uint64_t flags = smap->flags;

        /* What is no path says more than the flags, which are a device's. Of rings, the sockets say it (packet_look_tree()). */
        if (ring)
                flags &= ~(uint64_t)PROC_VMF_MM;
        else if (row && smap->vma.name[0] != '/') {
                block(l, row->hint, "%s", row->what);
                return true;
        }
        for (size_t i = 0; i < ELEMENTSOF(flag_rows); i++)
                if (flags & flag_rows[i].vmf) {
                        block(l, flag_rows[i].hint, "%s", flag_rows[i].what);
                        found = true;
                }
        if (smap->pkey != 0) {
                block(l, NULL, "under memory protection key %u", smap->pkey);
                found = true;
        }
        return found || ring;
}

/* Several areas of one file are looked at once. */
static int compare_files(const void *a, const void *b) {
        const struct proc_vma *x = &(*(const struct proc_smap *const *)a)->vma;
        const struct proc_vma *y = &(*(const struct proc_smap *const *)b)->vma;

        if (x->dev_major != y->dev_major)
                return x->dev_major < y->dev_major ? -1 : 1;
        if (x->dev_minor != y->dev_minor)
                return x->dev_minor < y->dev_minor ? -1 : 1;
        if (x->ino != y->ino)
                return x->ino < y->ino ? -1 : 1;
        if (x->shared != y->shared)
                return x->shared ? -1 : 1;
        return strcmp(x->name, y->name);
}

DEFINE_VEC(smap_ref_vec, const struct proc_smap *);

static bool is_mapped_file(const struct proc_vma *vma) {
        return vma->kind == PROC_VMA_FILE || (vma->kind == PROC_VMA_ANON_NAMED && vma->ino != 0);
}

void mem_look_areas(struct dump_task *t, const struct proc_smap_vec *smaps, struct blockers *b) {
        _cleanup_(smap_ref_vec_done) struct smap_ref_vec files = { 0 };

        for (size_t i = 0; i < smaps->n; i++) {
                const struct proc_smap *smap = &smaps->v[i];
                struct look l = { t, b, &smap->vma, smap };

                switch (smap->vma.kind) {
                case PROC_VMA_VDSO:
                case PROC_VMA_VVAR:
                case PROC_VMA_VVAR_VCLOCK:
                case PROC_VMA_VSYSCALL:
                        break;
                case PROC_VMA_SPECIAL: {
                        const struct name_row *row = find_name(smap->vma.name);

                        if (row)
                                block(&l, row->hint, "%s", row->what);
                        else
                                block(&l, NULL, "of an unknown kind, %s", smap->vma.name);
                        break;
                }
                default:
                        if (!look_flags(&l, smap) && is_mapped_file(&smap->vma))
                                ckpt_assert(smap_ref_vec_push(&files, smap) == 0);
                }
        }
        if (files.n > 0)
                qsort(files.v, files.n, sizeof(*files.v), compare_files);
        for (size_t i = 0; i < files.n; i++)
                if (i == 0 || compare_files(&files.v[i - 1], &files.v[i]) != 0)
                        look_file(&(struct look){ t, b, &files.v[i]->vma, files.v[i] });
}

/* 32-bit programs, x32 among them: their address space and registers follow other rules. */
static void look_class(struct dump_task *t) {
        const struct proc_stat *parent = t->parent ? &t->parent->stat : NULL;
        _cleanup_close_ int fd = -EBADF;
        unsigned char ident[EI_NIDENT];

        /* Forked, and no execve(2) since: what was said of the parent will do. */
        if (parent && parent->start_code == t->stat.start_code && parent->start_stack == t->stat.start_stack)
                return;
        fd = proc_openat(&t->proc, "exe", O_RDONLY);
        if (fd >= 0 && pread_full(fd, ident, sizeof(ident), 0) == (ssize_t)sizeof(ident) &&
            memcmp(ident, ELFMAG, SELFMAG) == 0 && ident[EI_CLASS] == ELFCLASS32)
                blocker_add(t->dump->blockers, NULL,
                            "%s is a 32-bit program, which cannot be checkpointed yet", dump_task_name(t));
}

static int read_ahead(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct dump_task *t = arg;
        struct proc_dir dir = t->proc;

        dir.fd = dump_living(t)->fd;
        return mem_read_areas(t, &dir, &t->maps_buf, &t->smaps);
}

void mem_look_ahead(struct dump_task *t) {
        t->areas_ahead = t->seen_areas != 0 && t->dump->aside &&
                         pool_offer(t->dump->aside, read_ahead, t, &t->areas_offer) == 0;
}

/* `read`: whether the areas have been read already. */
static void look_at(struct dump_task *t, int read) {
        int r = t->areas_ahead ? read : mem_read_areas(t, &t->proc, &t->maps_buf, &t->smaps);

        look_class(t);
        if (r < 0) {
                if (r != -ESRCH)
                        blocker_add(t->dump->blockers, "Run ckpt as root",
                                    "%s: its memory areas cannot be read (%s)", dump_task_name(t),
                                    strerror(-r));
                return;
        }
        mem_look_areas(t, &t->smaps, t->dump->blockers);
}

void mem_look_tree(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                pool_withdraw(&d->tasks[i]->areas_offer);
        aio_look_tree(d);
}

void mem_look(struct dump_task *t) {
        int read = t->areas_ahead ? pool_claim(&t->areas_offer, NULL) : 0;
        struct proc_dir leader = t->proc;

        t->proc.fd = dump_living(t)->fd;
        look_at(t, read);
        t->proc = leader;
}
