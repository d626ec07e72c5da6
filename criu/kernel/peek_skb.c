/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/peek_skb.h"

#include <errno.h>
#include <stdbool.h>

#include "macro.h"

enum {
        FRAGS_MAX = 64,
        FRAG_SIZE = 16,
        OFFSET_MAX =
                1
                << 22, /* of bytes in the pages that they begin in: the largest piece of memory that sockets get */
};

int peek_skb_length(struct peek *p, uint64_t skb, uint64_t *ret) {
        return peek_number(p, skb, PEEK_sk_buff__len, ret);
}

static int read_piece(struct peek *p, uint64_t addr, uint8_t *buf, size_t size) {
        int r = 0;

        for (size_t at = 0; r == 0 && at < size; at += PEEK_MAX)
                r = peek_bytes(p, addr + at, buf + at, MIN(size - at, (size_t)PEEK_MAX));
        return r;
}

/* Where a fragment is. Older kernels (6.1) have a struct bio_vec there. */
static int find_frag(struct peek *p, uint64_t frag, uint64_t *ret_page, uint64_t *ret_size,
                     uint64_t *ret_offset) {
        int r = peek_number(p, frag, PEEK_skb_frag__netmem, ret_page);
        bool old = r < 0;

        if (old)
                r = peek_number(p, frag, PEEK_bio_vec__bv_page, ret_page);
        if (r == 0)
                r = peek_number(p, frag, old ? PEEK_bio_vec__bv_len : PEEK_skb_frag__len, ret_size);
        if (r == 0)
                r = peek_number(p, frag, old ? PEEK_bio_vec__bv_offset : PEEK_skb_frag__offset, ret_offset);
        return r;
}

static int read_frag(const struct peek_skbs *s, uint64_t frag, uint8_t *buf, size_t room, uint64_t *ret) {
        uint64_t page = 0, size = 0, offset = 0, at;
        struct peek *p = s->peek;
        int r = find_frag(p, frag, &page, &size, &offset);

        if (r == 0 && (size > room || offset > OFFSET_MAX))
                r = -ENODATA;
        if (r == 0)
                r = peek_page_address(s->pages, page, &at);
        if (r == 0)
                r = read_piece(p, at + offset, buf, size);
        if (r == 0)
                *ret = size;
        return r;
}

/* The part that is in the packet's pages. */
static int read_pages(const struct peek_skbs *s, uint64_t skb, uint8_t *buf, size_t len) {
        uint64_t head = 0, end = 0, info, n = 0, list = 1, frag = 0, size;
        struct peek *p = s->peek;
        int r = s->pages ? peek_number(p, skb, PEEK_sk_buff__head, &head) : -ENODATA;

        if (r == 0)
                r = peek_number(p, skb, PEEK_sk_buff__end, &end);
        info = head + end;
        if (r == 0)
                r = peek_number(p, info, PEEK_skb_shared_info__nr_frags, &n);
        if (r == 0)
                r = peek_number(p, info, PEEK_skb_shared_info__frag_list, &list);
        if (r == 0)
                r = list != 0 ? -ENODATA : peek_place(p, info, PEEK_skb_shared_info__frags, &frag);
        for (uint64_t i = 0; r == 0 && i < n && i < FRAGS_MAX; i++, frag += FRAG_SIZE) {
                r = read_frag(s, frag, buf, len, &size);
                if (r == 0) {
                        buf += size;
                        len -= size;
                }
        }
        return r == 0 && len != 0 ? -ENODATA : r;
}

int peek_skb_read(const struct peek_skbs *s, uint64_t skb, void *buf, size_t size) {
        uint64_t len = 0, paged = 0, data = 0;
        uint8_t *to = buf;
        int r;

        r = peek_skb_length(s->peek, skb, &len);
        if (r == 0)
                r = peek_number(s->peek, skb, PEEK_sk_buff__data_len, &paged);
        if (r == 0)
                r = peek_number(s->peek, skb, PEEK_sk_buff__data, &data);
        if (r == 0 && (len != size || paged > len))
                r = -ENODATA;
        if (r == 0)
                r = read_piece(s->peek, data, to, len - paged);
        return r < 0 || paged == 0 ? r : read_pages(s, skb, to + (len - paged), paged);
}

int peek_skb_each(struct peek *p, uint64_t head, size_t max, int (*fn)(void *arg, uint64_t skb), void *arg) {
        uint64_t skb = 0;
        int r = peek_number(p, head, PEEK_sk_buff_head__next, &skb);

        for (size_t i = 0; r == 0 && skb != head; i++) {
                r = i == max ? -ENODATA : fn(arg, skb);
                if (r == 0)
                        r = peek_number(p, skb, PEEK_sk_buff__next, &skb);
        }
        return r;
}
