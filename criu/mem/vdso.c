/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/vdso.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "macro.h"
#include "proc/maps.h"

#define SECTIONS_MAX 64
#define SYMBOLS_MAX  256

static bool inside(uint64_t offset, uint64_t len, uint64_t size) {
        return offset <= size && len <= size - offset;
}

static int read_header(const uint8_t *data, size_t size, Elf64_Ehdr *ret) {
        if (size < sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, data, sizeof(*ret));
        if (memcmp(ret->e_ident, ELFMAG, SELFMAG) != 0 || ret->e_ident[EI_CLASS] != ELFCLASS64 ||
            ret->e_ident[EI_DATA] != ELFDATA2LSB || ret->e_machine != EM_X86_64 || ret->e_type != ET_DYN)
                return -EBADMSG;
        if (ret->e_shentsize != sizeof(Elf64_Shdr) || ret->e_shnum == 0 || ret->e_shnum > SECTIONS_MAX ||
            !inside(ret->e_shoff, (uint64_t)ret->e_shnum * sizeof(Elf64_Shdr), size))
                return -EBADMSG;
        if (ret->e_phentsize != sizeof(Elf64_Phdr) || ret->e_phnum == 0 || ret->e_phnum > SECTIONS_MAX ||
            !inside(ret->e_phoff, (uint64_t)ret->e_phnum * sizeof(Elf64_Phdr), size))
                return -EBADMSG;
        return 0;
}

/* Symbols are relative to the address that the image was linked for; it is mapped as one piece. */
static int find_base(const uint8_t *data, const Elf64_Ehdr *ehdr, uint64_t *ret) {
        for (size_t i = 0; i < ehdr->e_phnum; i++) {
                Elf64_Phdr ph;

                memcpy(&ph, data + ehdr->e_phoff + i * sizeof(ph), sizeof(ph));
                if (ph.p_type == PT_LOAD) {
                        *ret = ph.p_vaddr - ph.p_offset;
                        return 0;
                }
        }
        return -EBADMSG;
}

static int add_symbol(const uint8_t *data, size_t size, const Elf64_Sym *sym, uint64_t base,
                      const Elf64_Shdr *strings, struct vdso_elf *elf) {
        const char *name = (const char *)data + strings->sh_offset + sym->st_name;
        uint64_t offset = sym->st_value - base;

        if (ELF64_ST_TYPE(sym->st_info) != STT_FUNC || sym->st_shndx == SHN_UNDEF ||
            sym->st_shndx == SHN_ABS)
                return 0;
        if (sym->st_name >= strings->sh_size || !memchr(name, 0, strings->sh_size - sym->st_name))
                return -EBADMSG;
        if (!inside(offset, sym->st_size, size))
                return -EBADMSG;
        return vdso_symbol_vec_push(&elf->functions, (struct vdso_symbol){ name, offset, sym->st_size });
}

static int read_symbols(const uint8_t *data, size_t size, const Elf64_Ehdr *ehdr, const Elf64_Shdr *table,
                        struct vdso_elf *elf) {
        Elf64_Shdr strings;
        uint64_t base;
        int r;

        r = find_base(data, ehdr, &base);
        if (r < 0)
                return r;
        if (table->sh_link >= ehdr->e_shnum || table->sh_size / sizeof(Elf64_Sym) > SYMBOLS_MAX ||
            !inside(table->sh_offset, table->sh_size, size))
                return -EBADMSG;
        memcpy(&strings, data + ehdr->e_shoff + table->sh_link * sizeof(strings), sizeof(strings));
        if (!inside(strings.sh_offset, strings.sh_size, size))
                return -EBADMSG;
        for (uint64_t i = 0; r == 0 && i < table->sh_size / sizeof(Elf64_Sym); i++) {
                Elf64_Sym sym;

                memcpy(&sym, data + table->sh_offset + i * sizeof(sym), sizeof(sym));
                r = add_symbol(data, size, &sym, base, &strings, elf);
        }
        return r;
}

int vdso_parse(const uint8_t *data, size_t size, struct vdso_elf *ret) {
        _cleanup_(vdso_elf_done) struct vdso_elf elf = { 0 };
        Elf64_Ehdr ehdr;
        int r;

        r = read_header(data, size, &ehdr);
        if (r < 0)
                return r;
        elf.size = ehdr.e_shoff + (uint64_t)ehdr.e_shnum * sizeof(Elf64_Shdr);
        r = -EBADMSG;
        for (size_t i = 0; i < ehdr.e_shnum; i++) {
                Elf64_Shdr sh;

                memcpy(&sh, data + ehdr.e_shoff + i * sizeof(sh), sizeof(sh));
                if (sh.sh_type != SHT_NOBITS && inside(sh.sh_offset, sh.sh_size, size))
                        elf.size = MAX(elf.size, sh.sh_offset + sh.sh_size);
                if (sh.sh_type != SHT_DYNSYM)
                        continue;
                r = read_symbols(data, size, &ehdr, &sh, &elf);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = elf;
        elf = (struct vdso_elf){ 0 };
        return 0;
}

void vdso_elf_done(struct vdso_elf *elf) {
        vdso_symbol_vec_done(&elf->functions);
}

const struct vdso_symbol *vdso_find(const struct vdso_elf *elf, const char *name) {
        for (size_t i = 0; i < elf->functions.n; i++)
                if (strcmp(elf->functions.v[i].name, name) == 0)
                        return &elf->functions.v[i];
        return NULL;
}

uint64_t vdso_find_syscall(const uint8_t *data, size_t size) {
        for (size_t i = sizeof(Elf64_Ehdr); i + 1 < size; i++)
                if (data[i] == 0x0f && data[i + 1] == 0x05)
                        return i;
        return 0;
}

/* The system call that does the same, for functions that have the arguments of one. */
static const struct {
        const char *name;
        uint32_t nr;
} calls[] = {
        { "__vdso_clock_gettime", SYS_clock_gettime },
        { "clock_gettime", SYS_clock_gettime },
        { "__vdso_gettimeofday", SYS_gettimeofday },
        { "gettimeofday", SYS_gettimeofday },
        { "__vdso_time", SYS_time },
        { "time", SYS_time },
        { "__vdso_getcpu", SYS_getcpu },
        { "getcpu", SYS_getcpu },
        { "__vdso_clock_getres", SYS_clock_getres },
        { "clock_getres", SYS_clock_getres },
        { "__vdso_getrandom", SYS_getrandom },
        { "getrandom", SYS_getrandom },
};

enum { PATCH_MAX = 14 };

/* jmp *0(%rip); address */
static size_t write_jump(uint8_t *p, uint64_t to) {
        static const uint8_t code[6] = { 0xff, 0x25, 0, 0, 0, 0 };

        memcpy(p, code, sizeof(code));
        memcpy(p + sizeof(code), &to, sizeof(to));
        return sizeof(code) + sizeof(to);
}

/* mov $nr, %eax; syscall; ret, or for what is no system call, mov $-ENOSYS, %rax; ret */
static size_t write_call(uint8_t *p, const char *name) {
        static const uint8_t tail[3] = { 0x0f, 0x05, 0xc3 };
        static const uint8_t none[8] = { 0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3 };

        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                if (strcmp(calls[i].name, name) == 0) {
                        p[0] = 0xb8;
                        memcpy(p + 1, &calls[i].nr, 4);
                        memcpy(p + 5, tail, sizeof(tail));
                        return 8;
                }
        memcpy(p, none, sizeof(none));
        return sizeof(none);
}

/* The landing mark of indirect branches stays where it is. */
static size_t skip_endbr(const uint8_t *p, uint64_t size) {
        static const uint8_t endbr64[4] = { 0xf3, 0x0f, 0x1e, 0xfa };

        return size >= sizeof(endbr64) && memcmp(p, endbr64, sizeof(endbr64)) == 0 ? sizeof(endbr64) : 0;
}

static bool overlaps_earlier(const struct vdso_elf *elf, size_t index) {
        const struct vdso_symbol *f = &elf->functions.v[index];

        for (size_t i = 0; i < index; i++)
                if (elf->functions.v[i].value == f->value)
                        return true; /* another name of the same */
        return false;
}

int vdso_redirect(uint8_t *data, const struct vdso_elf *elf, const struct vdso_elf *target, uint64_t base,
                  const char **ret_name) {
        for (size_t i = 0; i < elf->functions.n; i++) {
                const struct vdso_symbol *f = &elf->functions.v[i];
                const struct vdso_symbol *to = target ? vdso_find(target, f->name) : NULL;
                uint8_t patch[PATCH_MAX];
                size_t skip, n;

                if (overlaps_earlier(elf, i))
                        continue;
                n = to ? write_jump(patch, base + to->value) : write_call(patch, f->name);
                skip = skip_endbr(data + f->value, f->size);
                if (f->size < skip + n) {
                        *ret_name = f->name;
                        return -ENOTSUP;
                }
                memcpy(data + f->value + skip, patch, n);
        }
        return 0;
}

int vdso_own_layout(struct vdso_layout *ret) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct vdso_layout l = { 0 };
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = proc_maps_read(&self, &buf, &maps);
        for (size_t i = 0; r == 0 && i < maps.n; i++) {
                const struct proc_vma *vma = &maps.v[i];

                if ((vma->kind == PROC_VMA_VVAR || vma->kind == PROC_VMA_VVAR_VCLOCK) && !l.vvar)
                        l.vvar = vma->start;
                if (vma->kind == PROC_VMA_VDSO) {
                        l.vdso = vma->start;
                        l.end = vma->end;
                }
        }
        if (r < 0)
                return r;
        if (l.end > 0) {
                if (!l.vvar || l.vvar > l.vdso)
                        l.vvar = l.vdso;
                l.code = (const uint8_t *)(uintptr_t)l.vdso;
                r = vdso_parse(l.code, l.end - l.vdso, &l.elf);
        }
        if (r == 0)
                *ret = l;
        return r;
}

void vdso_layout_done(struct vdso_layout *layout) {
        vdso_elf_done(&layout->elf);
}
