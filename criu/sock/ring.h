/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rings of packet sockets (packet(7), PACKET_RX_RING and PACKET_TX_RING): memory that the kernel shares with whoever maps the
 * socket, divided into frames, or, for receiving with TPACKET_V3, blocks of frames. A word in each says whether it is
 * the kernel's or the program's. Which one comes next is known to either side by itself: a program that waits
 * for another than the kernel's waits for ever.
 *
 * So a dump asks the kernel by BPF (ring_state.c; where there is none, a TPACKET_V3 ring still tells by its sequence numbers).
 * A restore makes the ring with the same measures and has the kernel use as many frames or blocks as it had used, by packets over a
 * network device of ckpt's own that is there only for that (ring_move.c); then comes what was in the ring.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "fd/kind.h"
#include "images/packet-sock.pb-c.h"
#include "kernel/bpf.h"
#include "lib/arena.h"
#include "restore/model.h"

/* ---- memory (ring.c) ---- */

/* One ring, or, without `base`, its measures. */
struct ring {
        uint32_t version; /* TPACKET_V* */
        bool blocks;      /* what has a status word is a block: TPACKET_V3, receiving */
        const Img__PacketRing *m;
        char *base;
        uint32_t n; /* frames, or blocks */
};

/* `m` has passed ring_check(). */
struct ring ring_of(const Img__PacketRing *m, uint32_t version, bool rx, char *base);

/* Bytes that a mapping of the socket has for this ring; 0 for NULL. First comes the ring for receiving, then that for sending. */
uint64_t ring_size(const Img__PacketRing *m);

char *ring_at(const struct ring *ring, uint32_t i);
uint64_t ring_status(const struct ring *ring, uint32_t i);
void ring_set_status(const struct ring *ring, uint32_t i, uint64_t status);

/* Can the kernel have made such a ring, and be where it is said to be? NULL, or what is wrong. */
const char *ring_check(const Img__PacketRing *m, uint32_t version, bool rx);

/* Bytes that have to go through a TPACKET_V3 ring until the kernel is where it was; more than RING_WORK_MAX takes minutes. */
uint64_t ring_work(const Img__PacketRing *m);
#define RING_WORK_MAX (1ULL << 39)

/* How many blocks a TPACKET_V3 ring has to have used up; then the kernel stands before number `ring_closings() % block_nr`. */
uint64_t ring_closings(const Img__PacketRing *m);

/* A ring for receiving: does the kernel stand elsewhere in it than in a new one? */
bool ring_is_used(const Img__PacketRing *m, uint32_t version);

/*
 * Number of packets in the block of `size` bytes up to the one whose header is at offset `last`, which is *ret_last;
 * -EBADMSG: they are not chained like that.
 */
int ring_count(const char *block, uint64_t size, uint32_t last, uint32_t *ret);

/*
 * Close the block that was open, as the kernel does when the time for filling it is over (TP_STATUS_BLK_TMO); its status
 * word is left to the caller. Errors as above.
 */
int ring_close_block(char *block, const Img__PacketRing *m);

/* Where the kernel stands, from the memory of a TPACKET_V3 ring alone. -ENODATA: that is not certain. */
int ring_derive(const struct ring *ring, Img__PacketRing *ret);

/* ---- what the kernel knows (ring_state.c) ---- */

struct ring_state {
        uint32_t packets; /* received since somebody asked (PACKET_STATISTICS) */
        uint32_t mapped;  /* areas of any process */
        /* Only what is about the place of the kernel is set. */
        Img__PacketRing rx, tx;
};

struct ring_reader;

/* 0, or a negative errno, without a message: BPF cannot be had. ring_reader_free() frees it. */
int ring_reader_open(const struct bpf *b, struct ring_reader **ret);
void ring_reader_free(struct ring_reader **r);

/*
 * Of the packet socket `fd` of ckpt, whose rings have these measures (NULL: none). -ENODATA: the kernel's structures are not what
 * they are taken for.
 */
int ring_state_read(const struct ring_reader *r, int fd, const Img__PacketRing *rx,
                    const Img__PacketRing *tx, uint32_t version, struct ring_state *ret);

/* ---- dump (ring_dump.c) ---- */

/*
 * Fill in where the kernel stands in the rings of `psk`, whose measures are known, and which frames are the kernel's. The tree
 * is frozen; packets may come in meanwhile: they count as not received. `reader` may be NULL. *ret_mapped: areas of any process that
 * map the rings, 0 where only BPF would tell.
 */
int ring_dump(const struct ring_reader *reader, int fd, Img__PacketSock *psk, struct arena *arena,
              uint32_t *ret_mapped, const char *name, struct ckpt_error *err);

/* Without any change: can it be dumped? NULL, or what stands against it, with *ret_hint. */
const char *ring_look(const struct ring_reader *reader, int fd, const Img__PacketSock *psk,
                      const char **ret_hint);

/* ---- dump, of the tree (ring_sock.c) ---- */

/* What look can say of the rings of a socket, of which only version and measures are filled in. `fd` is ckpt's. */
void rings_look(struct fd_probe *p, int fd, const Img__PacketSock *psk, struct blockers *b);

/* ring_dump(), and note that it is to be saved. psk->id is set. */
int rings_dump(struct dump *d, int fd, uint64_t ino, const char *name, Img__PacketSock *psk,
               struct ckpt_error *err);

/* In the pool: what is in the rings of all. */
int rings_save(struct dump *d, struct ckpt_error *err);

/* ---- restore (ring_move.c, ring_restore.c) ---- */

/* A network device of ckpt's own; it goes with the descriptor, also when ckpt dies. */
struct ring_device {
        int fd;
        int ifindex;
};
#define RING_DEVICE_INIT ((struct ring_device){ .fd = -EBADF })
void ring_device_close(struct ring_device *d);

/* Is a device needed for these rings? */
bool ring_needs_device(const Img__PacketSock *psk);

/* Add what this machine lacks for it: NULL, or a sentence. */
const char *ring_device_lack(void);

/*
 * Have the kernel go to where it was, over *device, which is made for it. The socket is not bound yet and has no filter; what is in
 * the rings afterwards is of no use. For receiving it is bound to the device then, which must stay until it is bound elsewhere.
 */
int ring_move(int fd, const Img__PacketSock *psk, char *base, struct ring_device *device, const char *what,
              struct ckpt_error *err);

/* All of it: the rings of `fd` are made, and become what they were. */
int ring_restore(struct restore *r, int fd, const Img__PacketSock *psk, struct ring_device *device,
                 const char *what, struct ckpt_error *err);
