/* SPDX-License-Identifier: GPL-2.0-only */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/foothold.h"
#include "compel/internal.h"
#include "macro.h"

enum { SLOT_SIZE_MAX = 512, VDSO_SIZE_MAX = 64 * 1024, FOOTHOLD_SLOT_MIN = FOOTHOLD_GUEST + 1 };

/* struct procmap_query of linux/fs.h (Linux 6.11), for older headers. */
struct vma_query {
        uint64_t size, query_flags, query_addr, start, end, flags, page_size, offset, inode;
        uint32_t dev_major, dev_minor, name_size, build_id_size;
        uint64_t name, build_id;
};

#define VMA_QUERY _IOWR('f', 17, struct vma_query)

enum { VMA_EXECUTABLE = 4, VMA_SHARED = 8 };

static size_t slot_size(void) {
        return (size_t)(compel_stub_end - compel_stub);
}

static size_t code_size(void) {
        return (size_t)(compel_stub_data - compel_stub);
}

static raddr_t slot_addr(const struct foothold *f, unsigned int slot) {
        return f->end - (slot + 1) * slot_size();
}

raddr_t foothold_start(const struct foothold *f) {
        return slot_addr(f, f->slots - 1);
}

static int open_in_proc(pid_t pid, const char *name, int flags) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, flags | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static bool read_mem(const struct foothold *f, raddr_t addr, void *buf, size_t size) {
        return pread(f->mem_fd, buf, size, (off_t)addr) == (ssize_t)size;
}

static int write_mem(const struct foothold *f, raddr_t addr, const void *buf, size_t size) {
        ssize_t n = pwrite(f->mem_fd, buf, size, (off_t)addr);

        return n < 0 ? -errno : n == (ssize_t)size ? 0 : -EFAULT;
}

static bool all_zero(const char *p, size_t size) {
        return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

uint64_t compel_read_auxv(pid_t pid, uint64_t type) {
        _cleanup_close_ int fd = open_in_proc(pid, "auxv", O_RDONLY);
        uint64_t auxv[128][2];
        ssize_t n = fd < 0 ? 0 : read(fd, auxv, sizeof(auxv));

        for (ssize_t i = 0; i < n / (ssize_t)sizeof(auxv[0]); i++)
                if (auxv[i][0] == type)
                        return auxv[i][1];
        return 0;
}

static bool is_stub(const char *slot) {
        return memcmp(slot, compel_stub, code_size()) == 0;
}

/*
 * Are the last bytes of the page that ends at `end` unused, or full of stubs of ours? As many slots as that is true of are
 * taken, but not more than `room` bytes.
 */
static bool usable(struct foothold *f, raddr_t end, size_t room, bool *ret_ours) {
        unsigned int slots = (unsigned int)MIN(room / slot_size(), (size_t)FOOTHOLD_SLOT_MAX), n = 0;
        char buf[FOOTHOLD_SLOT_MAX * SLOT_SIZE_MAX];
        bool ours;

        ckpt_assert(slot_size() <= SLOT_SIZE_MAX);
        if (slots < FOOTHOLD_SLOT_MIN || !read_mem(f, end - slots * slot_size(), buf, slots * slot_size()))
                return false;
        ours = is_stub(buf + (slots - 1) * slot_size());
        while (n < slots) {
                const char *slot = buf + (slots - 1 - n) * slot_size();

                if (!all_zero(slot, slot_size()) && !(ours && is_stub(slot)))
                        break;
                n++;
        }
        if (n < FOOTHOLD_SLOT_MIN)
                return false;
        f->end = end;
        f->slots = n;
        *ret_ours = ours;
        return true;
}

/* A line of maps that describes private code. */
static bool is_code_line(const char *line, uint64_t *ret_start, uint64_t *ret_end, uint64_t *ret_inode) {
        char perms[5];

        return sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64, ret_start, ret_end, perms,
                      ret_inode) == 4 &&
               perms[2] == 'x' && perms[3] == 'p' && !strstr(line, "[vsyscall]") &&
               !strstr(line, "[uprobes]");
}

static FILE *open_maps(pid_t pid) {
        _cleanup_close_ int fd = open_in_proc(pid, "maps", O_RDONLY);
        FILE *maps = fd < 0 ? NULL : fdopen(fd, "re");

        if (maps)
                TAKE_FD(fd);
        return maps;
}

/* For kernels that cannot be asked. */
static bool is_private_code_by_lines(pid_t pid, raddr_t addr) {
        _cleanup_fclose_ FILE *maps = open_maps(pid);
        _cleanup_free_ char *line = NULL;
        uint64_t start, end, inode;
        size_t cap = 0;

        while (maps && getline(&line, &cap, maps) > 0)
                if (is_code_line(line, &start, &end, &inode) && start <= addr && addr < end)
                        return true;
        return false;
}

/*
 * auxv tells where the vDSO was when the program started. What is there now must be private, so that nobody
 * else sees what is written there, and executable.
 */
static bool is_private_code(pid_t pid, raddr_t addr) {
        _cleanup_close_ int fd = open_in_proc(pid, "maps", O_RDONLY);
        struct vma_query q = { .size = sizeof(q), .query_addr = addr };

        if (fd < 0)
                return false;
        if (ioctl(fd, VMA_QUERY, &q) < 0)
                return errno == ENOTTY && is_private_code_by_lines(pid, addr);
        return (q.flags & (VMA_EXECUTABLE | VMA_SHARED)) == VMA_EXECUTABLE;
}

/* The vDSO's size is in its ELF header: the section headers stand at its end. */
static bool find_in_vdso(struct foothold *f, pid_t pid, bool *ret_ours) {
        raddr_t base = compel_read_auxv(pid, AT_SYSINFO_EHDR);
        Elf64_Ehdr ehdr;
        uint64_t size;

        if (base == 0 || base % PAGE_SIZE != 0 || !read_mem(f, base, &ehdr, sizeof(ehdr)) ||
            memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0 || ehdr.e_shoff > VDSO_SIZE_MAX)
                return false;
        size = ehdr.e_shoff + (uint64_t)ehdr.e_shnum * ehdr.e_shentsize;
        if (size > VDSO_SIZE_MAX)
                return false;
        return is_private_code(pid, base + page_align_up(size) - 1) &&
               usable(f, base + page_align_up(size), page_align_up(size) - size, ret_ours);
}

/*
 * What is zero need not be unused: no more of it than it takes. Memory without a file may be filled by a compiler at run
 * time.
 */
static bool find_in_lines(struct foothold *f, FILE *maps, bool with_file, bool *ret_ours) {
        _cleanup_free_ char *line = NULL;
        uint64_t start, end, inode;
        size_t cap = 0;

        rewind(maps);
        while (getline(&line, &cap, maps) > 0)
                if (is_code_line(line, &start, &end, &inode) &&
                    with_file == (inode != 0 || strstr(line, "[vdso]")) &&
                    usable(f, end, FOOTHOLD_SLOT_MIN * slot_size(), ret_ours))
                        return true;
        return false;
}

/* For tasks without a usable vDSO: any private executable mapping that ends in zeroes. */
static bool find_in_maps(struct foothold *f, pid_t pid, bool *ret_ours) {
        _cleanup_fclose_ FILE *maps = open_maps(pid);

        return maps && (find_in_lines(f, maps, true, ret_ours) || find_in_lines(f, maps, false, ret_ours));
}

/*
 * A stub of an earlier ckpt is still there: has everybody left? Not while the agent is mapped: a
 * process that shares this memory may be under a visit right now.
 */
static int check_vacated(const struct foothold *f, const struct compel_thread *threads, size_t nr_threads) {
        char blob[PAGE_SIZE];
        size_t size = MIN(compel_blob_size(), sizeof(blob));
        struct stub_regs data;

        if (!read_mem(f, slot_addr(f, FOOTHOLD_DRIVER) + code_size(), &data, sizeof(data)))
                return -EFAULT;
        if (data.map_addr && read_mem(f, data.map_addr, blob, size) && memcmp(blob, compel_blob, size) == 0)
                return -EAGAIN;
        for (size_t i = 0; i < nr_threads; i++)
                if (threads[i].regs.rip - foothold_start(f) < f->end - foothold_start(f))
                        return -EAGAIN;
        return 0;
}

int foothold_open(struct foothold *f, const struct compel_thread *threads, size_t nr_threads, bool alone) {
        bool ours = false;

        *f = (struct foothold){ .mem_fd = open_in_proc(threads[0].tid, "mem", O_RDWR) };
        if (f->mem_fd < 0)
                return f->mem_fd;
        if (!find_in_vdso(f, threads[0].tid, &ours) && !find_in_maps(f, threads[0].tid, &ours))
                return -ENOENT;
        if (ours && !alone)
                return -EBUSY;
        return ours ? check_vacated(f, threads, nr_threads) : 0;
}

int foothold_write(struct foothold *f, enum foothold_slot slot, const struct compel_thread *t,
                   uint64_t map_len) {
        char buf[SLOT_SIZE_MAX];
        struct stub_regs data;

        arch_stub_regs(&t->regs, t->sigmask, &data);
        data.map_len = map_len;
        memcpy(buf, compel_stub, code_size());
        memcpy(buf + code_size(), &data, sizeof(data));
        if (slot == FOOTHOLD_DRIVER)
                f->dirty = true;
        return write_mem(f, slot_addr(f, slot), buf, slot_size());
}

int foothold_note_mapping(struct foothold *f, raddr_t addr) {
        return write_mem(f,
                         slot_addr(f, FOOTHOLD_DRIVER) + code_size() + offsetof(struct stub_regs, map_addr),
                         &addr, sizeof(addr));
}

raddr_t foothold_entry(const struct foothold *f, enum foothold_slot slot, const char *label) {
        return slot_addr(f, slot) + (uint64_t)(label - compel_stub);
}

void foothold_close(struct foothold *f, bool keep) {
        static const char zeroes[FOOTHOLD_SLOT_MAX * SLOT_SIZE_MAX];

        if (f->dirty && !keep)
                write_mem(f, foothold_start(f), zeroes, (size_t)(f->end - foothold_start(f)));
        f->dirty = false;
        f->mem_fd = safe_close(f->mem_fd);
}
