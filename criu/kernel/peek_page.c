/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/peek_page.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"

enum { STRUCT_PAGE = 64 /* bytes of a struct page, on every kernel for x86-64 that has BTF */ };

#define PAGE_PRESENT     (UINT64_C(1) << 63)
#define PAGE_NUMBER_MASK ((UINT64_C(1) << 55) - 1)

static int number_of(const void *addr, uint64_t *ret) {
        _cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        uint64_t entry = 0;

        if (fd < 0 || pread_full(fd, &entry, sizeof(entry),
                                 (off_t)((uintptr_t)addr / PAGE_SIZE * sizeof(entry))) != sizeof(entry))
                return -ENODATA;
        *ret = entry & PAGE_NUMBER_MASK;
        return entry & PAGE_PRESENT && *ret != 0 ? 0 : -ENODATA;
}

/* The ring of a packet socket is memory of the kernel's, of which it keeps the address, and which can be mapped. */
static int find_start(struct peek *p, uint64_t *ret) {
        _cleanup_close_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        const struct tpacket_req req = {
                .tp_block_size = PAGE_SIZE, .tp_block_nr = 1, .tp_frame_size = PAGE_SIZE, .tp_frame_nr = 1
        };
        uint64_t at = 0, own[8], seen[8] = { 0 }, number = 0;
        void *ring;
        int r;

        if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
                return -ENODATA;
        ring = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (ring == MAP_FAILED)
                return -ENODATA;
        r = getrandom(own, sizeof(own), 0) == sizeof(own) ? 0 : -ENODATA;
        memcpy(ring, own, sizeof(own));
        if (r == 0)
                r = number_of(ring, &number);
        if (r == 0)
                r = peek_sock(p, fd, &at);
        if (r == 0)
                r = peek_place(p, at, PEEK_packet_sock__rx_ring, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_packet_ring_buffer__pg_vec, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_pgv__buffer, &at);
        if (r == 0)
                r = peek_bytes(p, at, seen, sizeof(seen));
        if (r == 0 && memcmp(own, seen, sizeof(own)) != 0)
                r = -ENODATA;
        munmap(ring, PAGE_SIZE);
        *ret = at - number * PAGE_SIZE;
        return r;
}

/* A pipe refers to what is spliced into it by its struct page. */
static int find_page(struct peek *p, struct peek_pages *ret) {
        struct iovec own = { mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0),
                             PAGE_SIZE };
        uint64_t at = 0;
        int ends[2], r = 0;

        if (own.iov_base == MAP_FAILED)
                return -ENODATA;
        if (pipe2(ends, O_CLOEXEC) < 0) {
                munmap(own.iov_base, PAGE_SIZE);
                return -ENODATA;
        }
        if (vmsplice(ends[1], &own, 1, 0) != PAGE_SIZE)
                r = -ENODATA;
        if (r == 0)
                r = number_of(own.iov_base, &ret->number);
        if (r == 0)
                r = peek_file(p, ends[0], &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_file__f_inode, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_inode__i_pipe, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_pipe_inode_info__bufs, &at);
        if (r == 0)
                r = peek_number(p, at, PEEK_pipe_buffer__page, &ret->page);
        close(ends[0]);
        close(ends[1]);
        munmap(own.iov_base, PAGE_SIZE);
        return r;
}

int peek_pages_find(struct peek *p, struct peek_pages *ret) {
        struct peek_pages pages = { 0 };
        int r = find_start(p, &pages.start);

        if (r == 0)
                r = find_page(p, &pages);
        if (r == 0)
                *ret = pages;
        return r;
}

int peek_page_address(const struct peek_pages *pages, uint64_t page, uint64_t *ret) {
        uint64_t first = pages->page - pages->number * STRUCT_PAGE;

        if (page < first || (page - first) % STRUCT_PAGE != 0)
                return -ENODATA;
        *ret = pages->start + (page - first) / STRUCT_PAGE * PAGE_SIZE;
        return 0;
}
