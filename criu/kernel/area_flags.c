/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/area_flags.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"

enum {
        SAMPLES_MAX = 512,
        WORDS = SAMPLES_MAX / 64,
        DEPTH_MAX = 4, /* of unnamed structures in one another */
};

/* What the program writes for each area. */
struct record {
        uint64_t start, end, raw;
};
DEFINE_VEC(record_vec, struct record);

/* The functions of libbpf that are used. It is loaded by need, because that takes longer than many dumps. */
struct bpf_library {
        void *handle;
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

struct area_flags {
        struct bpf_library lib;
        int prog_fd;
        struct area_code code;
        uint64_t vsyscall; /* flags of an area that is in no list of areas */
};

static bool load_library(struct bpf_library *lib) {
        lib->handle = dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!lib->handle)
                return false;
#define LOAD(field, symbol) \
        ((lib->field = (__typeof__(&symbol))(uintptr_t)dlsym(lib->handle, #symbol)) != NULL)
        return LOAD(set_print, libbpf_set_print) && LOAD(load_vmlinux_btf, btf__load_vmlinux_btf) &&
               LOAD(btf_free, btf__free) && LOAD(find_by_name_kind, btf__find_by_name_kind) &&
               LOAD(type_by_id, btf__type_by_id) && LOAD(name_by_offset, btf__name_by_offset) &&
               LOAD(resolve_size, btf__resolve_size) && LOAD(prog_load, bpf_prog_load) &&
               LOAD(link_create, bpf_link_create) && LOAD(iter_create, bpf_iter_create);
#undef LOAD
}

/* ---- the kernel's types ---- */

/* Byte offset of a member of 8 bytes, also inside of unnamed members; -1: there is none. */
static int64_t member_offset(const struct bpf_library *lib, const struct btf *btf, int32_t type,
                             const char *name, int depth) {
        const struct btf_type *t = lib->type_by_id(btf, (uint32_t)type);
        const struct btf_member *m;

        if (!t || depth == DEPTH_MAX || !btf_is_composite(t))
                return -1;
        m = btf_members(t);
        for (unsigned int i = 0; i < btf_vlen(t); i++) {
                const char *its = lib->name_by_offset(btf, m[i].name_off);
                int64_t inner = 0;

                if (!its || btf_member_bitfield_size(t, i) != 0)
                        continue;
                if (*its == '\0')
                        inner = member_offset(lib, btf, (int32_t)m[i].type, name, depth + 1);
                else if (strcmp(its, name) != 0 || lib->resolve_size(btf, m[i].type) != 8)
                        continue;
                if (inner >= 0)
                        return btf_member_bit_offset(t, i) / 8 + inner;
        }
        return -1;
}

struct layout {
        int32_t hook; /* type id of the function that stands for the iterator */
        int16_t task_vma_vma, task_vma_meta, meta_seq, vm_start, vm_end, vm_flags;
};

static bool find_member(const struct bpf_library *lib, const struct btf *btf, const char *type,
                        const char *name, int16_t *ret) {
        int32_t id = lib->find_by_name_kind(btf, type, BTF_KIND_STRUCT);
        int64_t offset = id > 0 ? member_offset(lib, btf, id, name, 0) : -1;

        if (offset < 0 || offset > INT16_MAX)
                return false;
        *ret = (int16_t)offset;
        return true;
}

static bool find_layout(const struct bpf_library *lib, struct layout *l) {
        struct btf *btf = lib->load_vmlinux_btf();
        bool ok;

        if (!btf)
                return false;
        l->hook = lib->find_by_name_kind(btf, "bpf_iter_task_vma", BTF_KIND_FUNC);
        ok = l->hook > 0 && find_member(lib, btf, "bpf_iter__task_vma", "vma", &l->task_vma_vma) &&
             find_member(lib, btf, "bpf_iter__task_vma", "meta", &l->task_vma_meta) &&
             find_member(lib, btf, "bpf_iter_meta", "seq", &l->meta_seq) &&
             find_member(lib, btf, "vm_area_struct", "vm_start", &l->vm_start) &&
             find_member(lib, btf, "vm_area_struct", "vm_end", &l->vm_end) &&
             find_member(lib, btf, "vm_area_struct", "vm_flags", &l->vm_flags);
        lib->btf_free(btf);
        return ok;
}

/* ---- the program ---- */

#define INSN(op, to, from, offset, value) \
        ((struct bpf_insn){               \
                .code = (op), .dst_reg = (to), .src_reg = (from), .off = (offset), .imm = (value) })
#define LOAD_REG(to, from, offset)  INSN(BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0)
#define STORE_REG(to, from, offset) INSN(BPF_STX | BPF_MEM | BPF_DW, to, from, offset, 0)

enum {
        CTX = BPF_REG_1,
        VMA = BPF_REG_6,
        META = BPF_REG_7,
        FRAME = BPF_REG_10,
        RECORD = -(int)sizeof(struct record)
};

/* Called with each area, and at the end without one: a record into the text that is read from the iterator. */
static int load_program(const struct bpf_library *lib, const struct layout *l) {
        const struct bpf_insn program[] = {
                LOAD_REG(VMA, CTX, l->task_vma_vma),
                INSN(BPF_JMP | BPF_JEQ | BPF_K, VMA, 0, 12, 0),
                LOAD_REG(META, CTX, l->task_vma_meta),
                LOAD_REG(BPF_REG_1, META, l->meta_seq),
                LOAD_REG(BPF_REG_2, VMA, l->vm_start),
                STORE_REG(FRAME, BPF_REG_2, RECORD),
                LOAD_REG(BPF_REG_2, VMA, l->vm_end),
                STORE_REG(FRAME, BPF_REG_2, RECORD + 8),
                LOAD_REG(BPF_REG_2, VMA, l->vm_flags),
                STORE_REG(FRAME, BPF_REG_2, RECORD + 16),
                INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, FRAME, 0, 0),
                INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, RECORD),
                INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, sizeof(struct record)),
                INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
                INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0),
                INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        };
        struct bpf_prog_load_opts opts = { .sz = sizeof(opts),
                                           .expected_attach_type = BPF_TRACE_ITER,
                                           .attach_btf_id = (uint32_t)l->hook };

        return lib->prog_load(BPF_PROG_TYPE_TRACING, "ckpt_areas", "GPL", program, ELEMENTSOF(program),
                              &opts);
}

static int read_records_from(int fd, struct record_vec *ret) {
        struct record buf[1024];

        for (;;) {
                ssize_t n = read(fd, buf, sizeof(buf));

                if (n == 0)
                        return 0;
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n % (ssize_t)sizeof(*buf) != 0)
                        return -EBADMSG;
                for (size_t i = 0; i < (size_t)n / sizeof(*buf); i++) {
                        /* Whatever else it may be: not the areas of one process, each once. */
                        if (ret->n > 0 && buf[i].start < ret->v[ret->n - 1].end)
                                return -EAGAIN;
                        if (record_vec_push(ret, buf[i]) < 0)
                                return -ENOMEM;
                }
        }
}

/*
 * The areas of one process, by its number in the pid namespace of ckpt. Not by that of a thread: there, Linux 6.18 begins anew
 * with every read(2) and never ends.
 */
static int read_records(const struct area_flags *f, pid_t pid, struct record_vec *ret) {
        union bpf_iter_link_info info = { .task = { .pid = (uint32_t)pid } };
        struct bpf_link_create_opts opts = { .sz = sizeof(opts),
                                             .iter_info = &info,
                                             .iter_info_len = sizeof(info) };
        _cleanup_close_ int link = -EBADF, fd = -EBADF;

        link = f->lib.link_create(f->prog_fd, 0, BPF_TRACE_ITER, &opts);
        if (link < 0)
                return link;
        fd = f->lib.iter_create(link);
        return fd < 0 ? fd : read_records_from(fd, ret);
}

/* ---- the code ---- */

/* In which samples a bit is set. */
struct signature {
        uint64_t word[WORDS];
};

static bool is_never(const struct signature *s) {
        for (size_t i = 0; i < WORDS; i++)
                if (s->word[i] != 0)
                        return false;
        return true;
}

static bool same(const struct signature *a, const struct signature *b) {
        return memcmp(a, b, sizeof(*a)) == 0;
}

/* All bits from `bits` with this signature. */
static uint64_t bits_like(const struct signature bits[64], const struct signature *s) {
        uint64_t found = 0;

        for (unsigned int i = 0; i < 64; i++)
                if (same(&bits[i], s))
                        found |= 1ULL << i;
        return found;
}

void area_code_learn(const struct area_sample *samples, size_t n, struct area_code *ret) {
        struct signature raw[64] = { 0 }, flags[64] = { 0 };
        uint64_t done = 0;

        *ret = (struct area_code){ 0 };
        n = MIN(n, (size_t)SAMPLES_MAX);
        for (size_t s = 0; s < n; s++)
                for (unsigned int i = 0; i < 64; i++) {
                        raw[i].word[s / 64] |= (samples[s].raw >> i & 1) << s % 64;
                        flags[i].word[s / 64] |= (samples[s].flags >> i & 1) << s % 64;
                }
        for (unsigned int i = 0; i < 64; i++) {
                struct area_bits group;

                if (done >> i & 1 || is_never(&raw[i]))
                        continue;
                group = (struct area_bits){ bits_like(raw, &raw[i]), bits_like(flags, &raw[i]) };
                done |= group.raw;
                /* Bits that smaps does not show would make it guesswork. */
                if (__builtin_popcountll(group.raw) == __builtin_popcountll(group.flags) &&
                    !(group.flags & PROC_VMF_UNKNOWN))
                        ret->groups[ret->n++] = group;
        }
}

int area_code_translate(const struct area_code *code, uint64_t raw, uint64_t *ret) {
        uint64_t flags = 0;

        for (size_t i = 0; i < code->n; i++)
                if ((raw & code->groups[i].raw) == code->groups[i].raw) {
                        raw &= ~code->groups[i].raw;
                        flags |= code->groups[i].flags;
                }
        if (raw != 0)
                return -ENODATA;
        *ret = flags;
        return 0;
}

/* ---- learning ---- */

/* An area of ckpt that has what areas of others may have. What cannot be had is not learnt. */
static const struct example {
        int prot, flags, advice; /* advice -1: none */
        bool lock, lock_onfault;
} examples[] = {
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, false, false },
        { PROT_READ, MAP_PRIVATE, -1, false, false },
        { PROT_READ | PROT_EXEC, MAP_PRIVATE, -1, false, false },
        { PROT_NONE, MAP_PRIVATE, -1, false, false },
        { PROT_READ | PROT_WRITE, MAP_SHARED, -1, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, -1, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN, -1, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_LOCKED, -1, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, true, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, -1, true, true },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_SEQUENTIAL, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_RANDOM, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_DONTFORK, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_DONTDUMP, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_WIPEONFORK, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_HUGEPAGE, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_NOHUGEPAGE, false, false },
        { PROT_READ | PROT_WRITE, MAP_PRIVATE, MADV_MERGEABLE, false, false },
};

enum { STRIDE = 4 * PAGE_SIZE, EXAMPLES_SIZE = (ELEMENTSOF(examples) + 1) * STRIDE };

/* Not side by side, so that they do not merge. */
static char *make_examples(void) {
        char *base =
                mmap(NULL, EXAMPLES_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (base == MAP_FAILED)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(examples); i++) {
                const struct example *e = &examples[i];
                char *p = base + (i + 1) * STRIDE;

                if (mmap(p, PAGE_SIZE, e->prot, e->flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
                        continue;
                if (e->advice >= 0)
                        (void)madvise(p, PAGE_SIZE, e->advice);
                if (e->lock)
                        (void)mlock2(p, PAGE_SIZE, e->lock_onfault ? MLOCK_ONFAULT : 0);
        }
        return base;
}

static const struct record *find_record(const struct record_vec *records, const struct proc_vma *vma) {
        size_t low = 0, high = records->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (records->v[middle].start < vma->start)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < records->n && records->v[low].start == vma->start && records->v[low].end == vma->end
                       ? &records->v[low]
                       : NULL;
}

/* Other threads of ckpt may make areas meanwhile: only those count that both looks have seen. */
static int learn_from_self(struct area_flags *f) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec smaps = { 0 };
        _cleanup_(record_vec_done) struct record_vec records = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct area_sample samples[SAMPLES_MAX];
        size_t n = 0;
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = read_records(f, getpid(), &records);
        if (r == 0)
                r = proc_smaps_read(&self, NULL, &buf, &smaps);
        for (size_t i = 0; r == 0 && i < smaps.n && n < SAMPLES_MAX; i++) {
                const struct record *record = find_record(&records, &smaps.v[i].vma);

                if (smaps.v[i].vma.kind == PROC_VMA_VSYSCALL)
                        f->vsyscall = smaps.v[i].flags;
                else if (record && smaps.v[i].pkey == 0)
                        samples[n++] = (struct area_sample){ record->raw, smaps.v[i].flags };
        }
        if (r == 0)
                area_code_learn(samples, n, &f->code);
        return r;
}

static int learn(struct area_flags *f) {
        char *base = make_examples();
        int r;

        if (!base)
                return -ENOMEM;
        r = learn_from_self(f);
        munmap(base, EXAMPLES_SIZE);
        return r;
}

/* ---- the interface ---- */

void area_flags_free(struct area_flags **f) {
        if (!*f)
                return;
        safe_close((*f)->prog_fd);
        if ((*f)->lib.handle)
                dlclose((*f)->lib.handle);
        free(*f);
        *f = NULL;
}

int area_flags_open(struct area_flags **ret) {
        _cleanup_(area_flags_free) struct area_flags *f = calloc(1, sizeof(*f));
        struct layout layout = { 0 };
        int r;

        if (!f)
                return -ENOMEM;
        f->prog_fd = -EBADF;
        if (!load_library(&f->lib))
                return -ENOSYS;
        f->lib.set_print(NULL);
        if (!find_layout(&f->lib, &layout))
                return -ENOSYS;
        f->prog_fd = load_program(&f->lib, &layout);
        if (f->prog_fd < 0)
                return f->prog_fd;
        r = learn(f);
        if (r == 0)
                *ret = TAKE_PTR(f);
        return r;
}

static int describe(const struct area_flags *f, const struct proc_vma *vma, const struct record_vec *records,
                    size_t *at, struct proc_smap *ret) {
        const struct record *record = *at < records->n ? &records->v[*at] : NULL;

        *ret = (struct proc_smap){ .vma = *vma, .flags = f->vsyscall, .page_size = PAGE_SIZE };
        if (vma->kind == PROC_VMA_VSYSCALL)
                return 0;
        if (!record || record->start != vma->start || record->end != vma->end)
                return -EAGAIN;
        (*at)++;
        return area_code_translate(&f->code, record->raw, &ret->flags);
}

int area_flags_read(const struct area_flags *f, pid_t pid, const struct proc_vma_vec *maps,
                    struct proc_smap_vec *ret) {
        _cleanup_(record_vec_done) struct record_vec records = { 0 };
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec smaps = { 0 };
        size_t at = 0;
        int r;

        r = read_records(f, pid, &records);
        for (size_t i = 0; r == 0 && i < maps->n; i++) {
                struct proc_smap *smap = proc_smap_vec_add(&smaps);

                r = smap ? describe(f, &maps->v[i], &records, &at, smap) : -ENOMEM;
        }
        if (r == 0 && at != records.n)
                r = -EAGAIN;
        if (r < 0)
                return r;
        proc_smap_vec_done(ret);
        *ret = smaps;
        smaps = (struct proc_smap_vec){ 0 };
        return 0;
}
