/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/area_flags.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "macro.h"

enum {
        SAMPLES_MAX = 512,
        WORDS = SAMPLES_MAX / 64,
};

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450 /* Linux 5.17 */
#endif

/* What the program writes for each area. */
struct record {
        uint64_t start, end, raw;
        uint64_t policy; /* 0: it has no NUMA policy of its own */
        uint64_t home;   /* of the policy: 32 bits, all ones for none */
};
DEFINE_VEC(record_vec, struct record);

struct area_flags {
        int prog_fd;
        struct area_code code;
        uint64_t vsyscall;    /* flags of an area that is in no list of areas */
        bool policies, homes; /* it is known which areas have NUMA policies, and their home nodes */
};

/* ---- the program ---- */

struct layout {
        int16_t task_vma_vma, task_vma_meta, meta_seq, vm_start, vm_end, vm_flags;
        int16_t vm_policy, home_node; /* negative: this kernel has none */
};

static bool find_layout(const struct bpf *b, struct layout *l) {
        if (!bpf_member(b, "vm_area_struct", "vm_policy", 8, &l->vm_policy))
                l->vm_policy = -1;
        if (!bpf_member(b, "mempolicy", "home_node", 4, &l->home_node))
                l->home_node = -1;
        return bpf_member(b, "bpf_iter__task_vma", "vma", 8, &l->task_vma_vma) &&
               bpf_member(b, "bpf_iter__task_vma", "meta", 8, &l->task_vma_meta) &&
               bpf_member(b, "bpf_iter_meta", "seq", 8, &l->meta_seq) &&
               bpf_member(b, "vm_area_struct", "vm_start", 8, &l->vm_start) &&
               bpf_member(b, "vm_area_struct", "vm_end", 8, &l->vm_end) &&
               bpf_member(b, "vm_area_struct", "vm_flags", 8, &l->vm_flags);
}

enum {
        CTX = BPF_REG_1,
        VMA = BPF_REG_6,
        META = BPF_REG_7,
        FRAME = BPF_REG_10,
        RECORD = -(int)sizeof(struct record)
};

/* to = the place of a member of 8 or 4 bytes; 0 in kernels without */
static struct bpf_insn load_if_any(int to, int from, int16_t offset, bool wide) {
        if (offset < 0)
                return BPF_MOVE_IMM(to, 0);
        return BPF_INSN(BPF_LDX | BPF_MEM | (wide ? BPF_DW : BPF_W), to, from, offset, 0);
}

/* Called with each area, and at the end without one. What is behind no pointer is read as 0. */
static int load_program(const struct bpf *b, const struct layout *l) {
        const struct bpf_insn program[] = {
                BPF_LOAD64(VMA, CTX, l->task_vma_vma),
                BPF_SKIP_IF(VMA, 0, 16),
                BPF_LOAD64(META, CTX, l->task_vma_meta),
                BPF_LOAD64(BPF_REG_1, META, l->meta_seq),
                BPF_LOAD64(BPF_REG_2, VMA, l->vm_start),
                BPF_STORE64(FRAME, BPF_REG_2, RECORD),
                BPF_LOAD64(BPF_REG_2, VMA, l->vm_end),
                BPF_STORE64(FRAME, BPF_REG_2, RECORD + 8),
                BPF_LOAD64(BPF_REG_2, VMA, l->vm_flags),
                BPF_STORE64(FRAME, BPF_REG_2, RECORD + 16),
                load_if_any(BPF_REG_2, VMA, l->vm_policy, true),
                BPF_STORE64(FRAME, BPF_REG_2, RECORD + 24),
                load_if_any(BPF_REG_2, BPF_REG_2, l->vm_policy < 0 ? -1 : l->home_node, false),
                BPF_STORE64(FRAME, BPF_REG_2, RECORD + 32),
                BPF_MOVE(BPF_REG_2, FRAME),
                BPF_ADD_IMM(BPF_REG_2, RECORD),
                BPF_MOVE_IMM(BPF_REG_3, sizeof(struct record)),
                BPF_CALL_HELPER(BPF_FUNC_seq_write),
                BPF_MOVE_IMM(BPF_REG_0, 0),
                BPF_RETURN(),
        };

        return bpf_load_iterator(b, "task_vma", "ckpt_areas", program, ELEMENTSOF(program));
}

static int take_record(void *arg, const void *data) {
        const struct record *record = data;
        struct record_vec *records = arg;

        /* Whatever else it may be: not the areas of one process, each once. */
        if (records->n > 0 && record->start < records->v[records->n - 1].end)
                return -EAGAIN;
        return record_vec_push(records, *record) < 0 ? -ENOMEM : 0;
}

/* By process, not by thread: by thread, Linux 6.18 begins anew with every read(2) and never ends. */
static int read_records(const struct area_flags *f, pid_t pid, struct record_vec *ret) {
        return bpf_iterate(f->prog_fd, pid, sizeof(struct record), take_record, ret);
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

/* Behind them, two areas with NUMA policies, of which the second has a home node. */
enum {
        POLICY_EXAMPLE = ELEMENTSOF(examples),
        HOME_EXAMPLE,
        NR_EXAMPLES,
        STRIDE = 4 * PAGE_SIZE,
        EXAMPLES_SIZE = (NR_EXAMPLES + 1) * STRIDE
};

static char *example_at(char *base, size_t i) {
        return base + (i + 1) * STRIDE;
}

/* The first of the nodes that ckpt may use, or a negative errno. */
static int make_policy_example(char *p) {
        enum { WORDS_OF_NODES = 16, BITS = WORDS_OF_NODES * 64 };
        uint64_t nodes[WORDS_OF_NODES + 1] = { 0 };
        int node = 0;

        if (mmap(p, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
            syscall(SYS_get_mempolicy, NULL, nodes, BITS, NULL, MPOL_F_MEMS_ALLOWED) < 0 ||
            syscall(SYS_mbind, p, PAGE_SIZE, MPOL_BIND, nodes, BITS + 1, 0) < 0)
                return -errno;
        while (node < BITS && !(nodes[node / 64] >> node % 64 & 1))
                node++;
        return node;
}

/* The home node that the second has got, or a negative errno. */
static int make_policy_examples(char *base) {
        char *home = example_at(base, HOME_EXAMPLE);
        int node = make_policy_example(example_at(base, POLICY_EXAMPLE));

        if (node < 0 || make_policy_example(home) < 0)
                return -ENOSYS;
        return syscall(SYS_set_mempolicy_home_node, home, PAGE_SIZE, node, 0) < 0 ? -errno : node;
}

/* Not side by side, so that they do not merge. */
static char *make_examples(void) {
        char *base =
                mmap(NULL, EXAMPLES_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (base == MAP_FAILED)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(examples); i++) {
                const struct example *e = &examples[i];
                char *p = example_at(base, i);

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

static const struct record *record_at(const struct record_vec *records, const char *start) {
        const struct proc_vma vma = { .start = (uintptr_t)start, .end = (uintptr_t)start + PAGE_SIZE };

        return find_record(records, &vma);
}

/* Do the records tell which of the examples have a policy, and its home? `home`: as make_policy_examples() says. */
static void prove_policies(struct area_flags *f, const struct record_vec *records, char *base, int home) {
        const struct record *plain = record_at(records, example_at(base, POLICY_EXAMPLE));
        const struct record *at_home = record_at(records, example_at(base, HOME_EXAMPLE));

        f->policies = plain && plain->policy != 0 && at_home && at_home->policy != 0;
        for (size_t i = 0; i < ELEMENTSOF(examples); i++) {
                const struct record *other = record_at(records, example_at(base, i));

                if (other && other->policy != 0)
                        f->policies = false;
        }
        f->homes = f->policies && home >= 0 && plain->home == UINT32_MAX && at_home->home == (uint64_t)home;
}

/* Other threads of ckpt may make areas meanwhile: only those count that both looks have seen. */
static int learn_from_self(struct area_flags *f, char *base, int home) {
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
        if (r == 0) {
                area_code_learn(samples, n, &f->code);
                prove_policies(f, &records, base, home);
        }
        return r;
}

static int learn(struct area_flags *f) {
        char *base = make_examples();
        int r;

        if (!base)
                return -ENOMEM;
        r = learn_from_self(f, base, make_policy_examples(base));
        munmap(base, EXAMPLES_SIZE);
        return r;
}

/* ---- the interface ---- */

void area_flags_free(struct area_flags **f) {
        if (!*f)
                return;
        safe_close((*f)->prog_fd);
        free(*f);
        *f = NULL;
}

int area_flags_open(struct bpf *bpf, struct area_flags **ret) {
        _cleanup_(area_flags_free) struct area_flags *f = calloc(1, sizeof(*f));
        struct layout layout = { 0 };
        int r;

        if (!f)
                return -ENOMEM;
        f->prog_fd = -EBADF;
        r = bpf_load(bpf);
        if (r < 0)
                return r;
        if (!find_layout(bpf, &layout))
                return -ENOSYS;
        f->prog_fd = load_program(bpf, &layout);
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
        ret->no_policy = f->policies && record->policy == 0;
        if (f->homes && record->policy != 0 && record->home <= INT16_MAX) {
                ret->has_home_node = true;
                ret->home_node = (uint32_t)record->home;
        }
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
