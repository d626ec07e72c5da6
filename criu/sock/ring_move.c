/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the kernel gets to where it was in a new ring, where it starts at the beginning: by packets. They come in from a network
 * device of ckpt's own (tun(4)), so that each is ckpt's and none another's, with a protocol of their own; for sending, they go
 * out over it. Whoever listens on all devices (tcpdump -i any) sees them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/clock.h"
#include "macro.h"
#include "sock/ring.h"

enum {
        PROTOCOL = 0x88b5, /* IEEE 802: local experiments */
        ADDRESS_SIZE = 6,
        HEAD_SIZE = 14, /* of an Ethernet frame */
        SMALL = 60,
        LARGE = 65535,
        MTU = LARGE - HEAD_SIZE,
        VNET_HEAD_MAX = 20,
        PATIENCE_US = 5 * 1000 * 1000, /* for what is done in microseconds */
};

static const char tun[] = "/dev/net/tun";

/* ---- the device ---- */

void ring_device_close(struct ring_device *d) {
        d->fd = safe_close(d->fd);
}

static bool moves(const Img__PacketRing *rx, uint32_t version) {
        return rx && ring_is_used(rx, version);
}

bool ring_needs_device(const Img__PacketSock *psk) {
        return moves(psk->rx_ring, psk->version) ||
               (psk->tx_ring && psk->tx_ring->has_head && psk->tx_ring->head > 0);
}

const char *ring_device_lack(void) {
        _cleanup_close_ int fd = open(tun, O_RDWR | O_CLOEXEC);

        return fd < 0 ? "a packet socket with a ring can come back only over a device of tun(4) (/dev/net/tun), "
                        "which is not to be had"
                      : NULL;
}

/* Nobody is to say anything of his own there. */
static void keep_quiet(const char *name) {
        char path[64 + IFNAMSIZ];
        _cleanup_close_ int fd = -EBADF;

        snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, "1", 1) < 0)
                return; /* its packets do no harm */
}

static int set_up(const char *name, int *ret_ifindex) {
        _cleanup_close_ int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq req = { .ifr_mtu = MTU };

        if (control < 0)
                return -errno;
        memcpy(req.ifr_name, name, IFNAMSIZ);
        keep_quiet(name);
        if (ioctl(control, SIOCSIFMTU, &req) < 0)
                return -errno;
        req.ifr_flags = IFF_UP | IFF_NOARP;
        if (ioctl(control, SIOCSIFFLAGS, &req) < 0 || ioctl(control, SIOCGIFINDEX, &req) < 0)
                return -errno;
        *ret_ifindex = req.ifr_ifindex;
        return 0;
}

static int open_device(struct ring_device *ret) {
        struct ifreq req = { .ifr_name = "ckpt%d" };
        _cleanup_close_ int fd = open(tun, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        int r;

        if (fd < 0)
                return -errno;
        req.ifr_flags = IFF_TAP | IFF_NO_PI;
        if (ioctl(fd, TUNSETIFF, &req) < 0)
                return -errno;
        r = set_up(req.ifr_name, &ret->ifindex);
        if (r == 0)
                ret->fd = TAKE_FD(fd);
        return r;
}

static struct sockaddr_ll address_of(const struct ring_device *d) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                 .sll_protocol = htons(PROTOCOL),
                                 .sll_ifindex = d->ifindex,
                                 .sll_halen = ADDRESS_SIZE };

        memset(a.sll_addr, 0xff, ADDRESS_SIZE);
        return a;
}

static void fill_head(char *frame) {
        memset(frame, 0xff, ADDRESS_SIZE);
        memset(frame + ADDRESS_SIZE, 0, ADDRESS_SIZE);
        frame[2 * ADDRESS_SIZE] = (char)(PROTOCOL >> 8);
        frame[2 * ADDRESS_SIZE + 1] = (char)(PROTOCOL & 0xff);
}

/* ---- receiving ---- */

static int come_in(const struct ring_device *d, const char *frame, size_t size) {
        ssize_t n;

        do
                n = write(d->fd, frame, size);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* The kernel need not have put in at once what came in. */
static int wait_for(const struct ring *ring, uint32_t i) {
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        struct timespec pause = { 0, 20 * 1000 };

        while (ring_status(ring, i) == TP_STATUS_KERNEL) {
                if (clock_us(CLOCK_MONOTONIC) - start > PATIENCE_US)
                        return -ETIMEDOUT;
                nanosleep(&pause, NULL);
        }
        return 0;
}

static int move_frames(const struct ring_device *d, const struct ring *ring) {
        char frame[SMALL] = { 0 };
        int r = 0;

        fill_head(frame);
        for (uint32_t i = 0; r == 0 && i < ring->m->head; i++) {
                r = come_in(d, frame, sizeof(frame));
                /* Of the time to be in there, packets would be lost where the way is long. */
                if (r == 0 && (i % 256 == 255 || i + 1 == ring->m->head))
                        r = wait_for(ring, i);
        }
        return r;
}

/* Packets, until the block is closed. */
static int fill_block(const struct ring_device *d, const struct ring *ring, uint32_t i, const char *frame) {
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        size_t size = MIN((size_t)LARGE, MAX((size_t)ring->m->block_size, (size_t)SMALL));
        int r = 0;

        for (uint32_t n = 1; r == 0 && !(ring_status(ring, i) & TP_STATUS_USER); n++) {
                r = come_in(d, frame, size);
                if (n % 1024 == 0 && clock_us(CLOCK_MONOTONIC) - start > PATIENCE_US)
                        return -ETIMEDOUT;
        }
        return r;
}

/*
 * Each block that is closed is given back at once, except the one that the kernel is to stand before in the end: it finds that
 * taken and stops, and goes on there once the program, or ring_restore(), gives it back. Also time may close blocks.
 */
static int move_blocks(const struct ring_device *d, const struct ring *ring) {
        uint64_t n = ring_closings(ring->m);
        uint32_t stop = (uint32_t)(n % ring->n);
        _cleanup_free_ char *frame = calloc(1, LARGE);
        int r = 0;

        if (!frame)
                return -ENOMEM;
        fill_head(frame);
        if (n < ring->n)
                ring_set_status(ring, stop, TP_STATUS_USER);
        for (uint64_t i = 0; r == 0 && i < n; i++) {
                uint32_t at = (uint32_t)(i % ring->n);

                r = fill_block(d, ring, at, frame);
                if (r == 0 && (i + ring->n != n))
                        ring_set_status(ring, at, TP_STATUS_KERNEL);
        }
        return r;
}

/* ---- sending ---- */

/* Where the data begins, in the ways of all versions and of PACKET_TX_HAS_OFF. */
static void fill_tx_frame(const struct ring *ring, uint32_t i, uint32_t vnet_head) {
        char *at = ring_at(ring, i), *data;
        uint32_t off, len = HEAD_SIZE + vnet_head;

        if (ring->version == TPACKET_V1) {
                struct tpacket_hdr *h = (struct tpacket_hdr *)at;

                off = TPACKET_HDRLEN - sizeof(struct sockaddr_ll);
                h->tp_len = len;
                h->tp_mac = h->tp_net = (uint16_t)off;
        } else if (ring->version == TPACKET_V2) {
                struct tpacket2_hdr *h = (struct tpacket2_hdr *)at;

                off = TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
                h->tp_len = len;
                h->tp_mac = h->tp_net = (uint16_t)off;
        } else {
                struct tpacket3_hdr *h = (struct tpacket3_hdr *)at;

                off = TPACKET3_HDRLEN - sizeof(struct sockaddr_ll);
                h->tp_next_offset = 0;
                h->tp_len = len;
                h->tp_mac = h->tp_net = (uint16_t)off;
        }
        data = at + off;
        memset(data, 0, vnet_head);
        fill_head(data + vnet_head);
        ring_set_status(ring, i, TP_STATUS_SEND_REQUEST);
}

static void drain(const struct ring_device *d) {
        char buf[256]; /* the rest of a packet is thrown away */

        while (read(d->fd, buf, sizeof(buf)) > 0)
                ;
}

/* All of these frames have been taken, and what was in them is gone. */
static bool all_sent(const struct ring *ring, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (ring_status(ring, i) & (TP_STATUS_SEND_REQUEST | TP_STATUS_SENDING))
                        return false;
        return true;
}

static int send_frames(int fd, const struct ring_device *d, const struct ring *ring) {
        struct sockaddr_ll a = address_of(d);
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        struct timespec pause = { 0, 20 * 1000 };

        while (!all_sent(ring, ring->m->head)) {
                if (sendto(fd, "", 0, MSG_DONTWAIT, (struct sockaddr *)&a, sizeof(a)) < 0 &&
                    errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
                        return -errno;
                drain(d);
                if (clock_us(CLOCK_MONOTONIC) - start > PATIENCE_US)
                        return -ETIMEDOUT;
                nanosleep(&pause, NULL);
        }
        return 0;
}

static int move_sending(int fd, const struct ring_device *d, const struct ring *ring) {
        int vnet_head = 0;
        socklen_t len = sizeof(vnet_head);

        if (getsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &vnet_head, &len) == 0 && vnet_head) {
                vnet_head = 10; /* struct virtio_net_hdr; PACKET_VNET_HDR_SZ is younger */
                len = sizeof(vnet_head);
                (void)getsockopt(fd, SOL_PACKET, 24 /* PACKET_VNET_HDR_SZ */, &vnet_head, &len);
        }
        if (vnet_head < 0 || vnet_head > VNET_HEAD_MAX)
                return -EINVAL;
        for (uint32_t i = 0; i < ring->m->head; i++)
                fill_tx_frame(ring, i, (uint32_t)vnet_head);
        return send_frames(fd, d, ring);
}

/* ---- both ---- */

static int move(int fd, const Img__PacketSock *psk, char *base, const struct ring_device *d) {
        struct sockaddr_ll a = address_of(d);
        struct tpacket_stats_v3 stats;
        socklen_t len = sizeof(stats);
        int r = 0;

        if (psk->tx_ring && psk->tx_ring->has_head && psk->tx_ring->head > 0) {
                struct ring tx = ring_of(psk->tx_ring, psk->version, false, base + ring_size(psk->rx_ring));

                r = move_sending(fd, d, &tx);
        }
        if (r == 0 && moves(psk->rx_ring, psk->version)) {
                struct ring rx = ring_of(psk->rx_ring, psk->version, true, base);

                if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                        return -errno;
                r = rx.blocks ? move_blocks(d, &rx) : move_frames(d, &rx);
        }
        /* What was counted until now is not the program's. */
        if (r == 0 && getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) < 0)
                r = -errno;
        return r;
}

int ring_move(int fd, const Img__PacketSock *psk, char *base, struct ring_device *device, const char *what,
              struct ckpt_error *err) {
        int r;

        if (!ring_needs_device(psk))
                return 0;
        r = open_device(device);
        if (r < 0) {
                r = ckpt_error_errno(err, r, "cannot make a network device for the rings of %s", what);
                ckpt_error_hint(err, "Run ckpt with CAP_NET_ADMIN, where there is %s", tun);
                return r;
        }
        r = move(fd, psk, base, device);
        return r < 0 ? ckpt_error_errno(err, r, "cannot bring the rings of %s to where they were", what) : 0;
}
