/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * packet(7) sockets: device, protocol, memberships, fanout group, options; rings (ring.h) with what is in them. Packets that a
 * program without a ring has not read yet are lost, as when the socket's buffer is full. Devices are found by their names.
 */
#include "sock/af_packet.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "sock/common.h"
#include "sock/inet.h"
#include "sock/nlmsg.h"
#include "sock/ring.h"
#include "sock/sock.h"

#define NO_FANOUT UINT32_MAX
enum {
        MEMBERSHIPS_MAX = 1 << 16,
        COUNT_MAX = 1 << 16,
        FANOUT_TYPE_SHIFT = 16,
        FANOUT_TYPE_MASK = 0xff,
        TEXT_MAX = 96,
};

static bool is_known(int domain, int type, int protocol __attribute__((unused))) {
        return domain == AF_PACKET && (type == SOCK_RAW || type == SOCK_DGRAM);
}

static bool packet_match(struct fd_probe *p) {
        return sock_match(p, is_known);
}

/* ---- all of the network namespace ---- */

DEFINE_VEC(packet_diag_vec, struct packet_diag);

struct packet_table {
        struct arena arena;
        struct packet_diag_vec all; /* sorted by ino */
};

static const void *copy_attr(const struct nl_attr *attr, size_t size, struct arena *arena) {
        return attr->len >= size ? arena_copy(arena, attr->data, size) : NULL;
}

static void take_attr(const struct nl_attr *attr, struct arena *arena, struct packet_diag *s) {
        switch (attr->type) {
        case PACKET_DIAG_INFO:
                memcpy(&s->info, attr->data, MIN(attr->len, sizeof(s->info)));
                break;
        case PACKET_DIAG_MCLIST:
                s->nr_mclist = attr->len / sizeof(*s->mclist);
                s->mclist = arena_copy(arena, attr->data, s->nr_mclist * sizeof(*s->mclist));
                break;
        case PACKET_DIAG_RX_RING:
                s->rx = copy_attr(attr, sizeof(*s->rx), arena);
                break;
        case PACKET_DIAG_TX_RING:
                s->tx = copy_attr(attr, sizeof(*s->tx), arena);
                break;
        case PACKET_DIAG_FANOUT:
                s->has_fanout = attr->len >= sizeof(s->fanout);
                if (s->has_fanout)
                        memcpy(&s->fanout, attr->data, sizeof(s->fanout));
                break;
        default:
                break;
        }
}

int packet_parse_diag(const void *payload, size_t len, struct arena *arena, struct packet_diag *ret) {
        struct nl_attrs attrs = nl_attrs(payload, len, sizeof(struct packet_diag_msg));
        struct packet_diag_msg msg;
        struct packet_diag s = { 0 };
        struct nl_attr attr;
        int r;

        if (len < sizeof(msg))
                return -EBADMSG;
        memcpy(&msg, payload, sizeof(msg));
        s.ino = msg.pdiag_ino;
        while ((r = nl_attrs_next(&attrs, &attr)) > 0)
                take_attr(&attr, arena, &s);
        if (r < 0)
                return r;
        *ret = s;
        return 0;
}

static int take_socket(const void *payload, size_t len, void *arg) {
        struct packet_table *t = arg;
        struct packet_diag s;
        int r = packet_parse_diag(payload, len, &t->arena, &s);

        return r < 0 ? r : packet_diag_vec_push(&t->all, s);
}

static void begin_again(void *arg) {
        ((struct packet_table *)arg)->all.n = 0;
}

static int compare_ino(const void *a, const void *b) {
        uint32_t x = ((const struct packet_diag *)a)->ino, y = ((const struct packet_diag *)b)->ino;

        return (x > y) - (x < y);
}

static int query(struct packet_table *t) {
        const struct packet_diag_req req = {
                .sdiag_family = AF_PACKET,
                .pdiag_show =
                        PACKET_SHOW_INFO | PACKET_SHOW_MCLIST | PACKET_SHOW_RING_CFG | PACKET_SHOW_FANOUT,
        };
        int r = nl_list_sockets(&req, sizeof(req), take_socket, begin_again, t);

        if (r == 0)
                qsort(t->all.v, t->all.n, sizeof(*t->all.v), compare_ino);
        return r;
}

void packet_table_free(struct packet_table **t) {
        if (!*t)
                return;
        packet_diag_vec_done(&(*t)->all);
        arena_done(&(*t)->arena);
        free(*t);
        *t = NULL;
}

/* Asked for once, frozen. */
static int find_diag(struct dump_socks *s, uint64_t ino, const struct packet_diag **ret) {
        struct packet_diag key = { .ino = (uint32_t)ino }, *found = NULL;
        int r;

        if (!s->packets) {
                s->packets = calloc(1, sizeof(*s->packets));
                ckpt_assert(s->packets);
                r = query(s->packets);
                if (r < 0)
                        return r;
        }
        if (s->packets->all.n > 0)
                found = bsearch(&key, s->packets->all.v, s->packets->all.n, sizeof(key), compare_ino);
        if (!found)
                return -ENOENT;
        *ret = found;
        return 0;
}

/* ---- dump ---- */

static int option(int fd, int name) {
        int value = 0;
        socklen_t len = sizeof(value);

        return getsockopt(fd, SOL_PACKET, name, &value, &len) < 0 ? -1 : value;
}

static Img__PacketRing *copy_ring(const struct packet_diag_ring *ring, struct arena *arena) {
        Img__PacketRing *msg;

        if (!ring)
                return NULL;
        msg = arena_message(arena, Img__PacketRing, img__packet_ring__init);
        msg->block_size = ring->pdr_block_size;
        msg->block_nr = ring->pdr_block_nr;
        msg->frame_size = ring->pdr_frame_size;
        msg->frame_nr = ring->pdr_frame_nr;
        msg->retire_tmo = ring->pdr_retire_tmo;
        msg->sizeof_priv = ring->pdr_sizeof_priv;
        msg->features = ring->pdr_features;
        return msg;
}

static void look_rings(struct fd_probe *p, int fd, struct blockers *b) {
        struct arena *arena = &dump_files(p->task->dump)->arena;
        Img__PacketSock psk = IMG__PACKET_SOCK__INIT;
        const struct packet_diag *diag = NULL;

        if (find_diag(dump_socks(p->task->dump), p->st.stx_ino, &diag) < 0 || (!diag->rx && !diag->tx))
                return;
        psk.version = diag->info.pdi_version;
        psk.rx_ring = copy_ring(diag->rx, arena);
        psk.tx_ring = copy_ring(diag->tx, arena);
        rings_look(p, fd, &psk, b);
}

static void packet_look(struct fd_probe *p, struct blockers *b) {
        int fd = sock_look_at(p, b), fanout, type;
        struct sockaddr_ll a = { 0 };
        socklen_t len = sizeof(a);

        if (fd < 0)
                return;
        if (getsockname(fd, (struct sockaddr *)&a, &len) == 0 && a.sll_ifindex < 0)
                blocker_add(b, "Have the program close it",
                            "%s is a packet socket of a network device that is gone", fd_probe_name(p));
        fanout = option(fd, PACKET_FANOUT);
        type = fanout >> FANOUT_TYPE_SHIFT & FANOUT_TYPE_MASK;
        if (fanout > 0 && (type == PACKET_FANOUT_CBPF || type == PACKET_FANOUT_EBPF))
                blocker_add(b, "Have the program use another way of PACKET_FANOUT",
                            "%s is a packet socket of a group among which a program distributes the packets "
                            "(PACKET_FANOUT_%s), which the kernel does not tell",
                            fd_probe_name(p), type == PACKET_FANOUT_CBPF ? "CBPF" : "EBPF");
        look_rings(p, fd, b);
        sock_copy_keep(p, fd);
}

static char *device_name(uint32_t ifindex, struct arena *arena) {
        char name[IF_NAMESIZE];

        return ifindex != 0 && if_indextoname(ifindex, name) ? arena_strdup(arena, name) : NULL;
}

static void copy_mclist(const struct packet_diag *diag, struct arena *arena, Img__PacketSock *psk) {
        psk->n_mclist = diag->nr_mclist;
        psk->mclist = arena_new_array(arena, Img__PacketMclist *, diag->nr_mclist);
        for (size_t i = 0; i < diag->nr_mclist; i++) {
                const struct packet_diag_mclist *from = &diag->mclist[i];
                Img__PacketMclist *to = arena_message(arena, Img__PacketMclist, img__packet_mclist__init);

                to->index = from->pdmc_index;
                to->type = from->pdmc_type;
                to->addr.len = MIN((size_t)from->pdmc_alen, sizeof(from->pdmc_addr));
                to->addr.data = arena_copy(arena, from->pdmc_addr, to->addr.len);
                to->has_count = true;
                to->count = from->pdmc_count;
                to->ifname = device_name(to->index, arena);
                psk->mclist[i] = to;
        }
}

static void copy_diag(int fd, const struct packet_diag *diag, struct arena *arena, Img__PacketSock *psk) {
        psk->version = diag->info.pdi_version;
        psk->reserve = diag->info.pdi_reserve;
        psk->timestamp = diag->info.pdi_tstamp;
        psk->copy_thresh = diag->info.pdi_copy_thresh;
        psk->aux_data = diag->info.pdi_flags & PDI_AUXDATA;
        psk->orig_dev = diag->info.pdi_flags & PDI_ORIGDEV;
        psk->vnet_hdr = diag->info.pdi_flags & PDI_VNETHDR;
        psk->loss = diag->info.pdi_flags & PDI_LOSS;
        psk->rx_ring = copy_ring(diag->rx, arena);
        psk->tx_ring = copy_ring(diag->tx, arena);
        copy_mclist(diag, arena, psk);
        psk->has_fanout = diag->has_fanout;
        if (diag->has_fanout) /* with the flags, which sock_diag leaves out */
                psk->fanout = (uint32_t)option(fd, PACKET_FANOUT);
}

static bool has_unread(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0 && p.revents & POLLIN;
}

static int read_socket(struct dump *d, int fd, uint64_t ino, Img__PacketSock *psk) {
        struct arena *arena = &dump_files(d)->arena;
        const struct packet_diag *diag = NULL;
        struct sockaddr_ll a = { 0 };
        socklen_t len = sizeof(a);
        int r;

        if (fd < 0)
                return fd;
        if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
                return -errno;
        r = find_diag(dump_socks(d), ino, &diag);
        if (r < 0)
                return r;
        psk->type = (uint32_t)sock_option(fd, SO_TYPE);
        psk->protocol = a.sll_protocol;
        psk->ifindex = (uint32_t)a.sll_ifindex;
        psk->ifname = device_name(psk->ifindex, arena);
        copy_diag(fd, diag, arena, psk);
        return 0;
}

static int packet_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct arena *arena = &dump_files(d)->arena;
        Img__PacketSock *psk = arena_message(arena, Img__PacketSock, img__packet_sock__init);
        const char *name = fd_probe_name(p);
        _cleanup_close_ int fd = sock_copy_take(p);
        struct sock_kind kind = { .domain = AF_PACKET };
        struct sock_owner owner;
        struct sock_opts opts;
        int r = read_socket(d, fd, p->st.stx_ino, psk);

        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read this packet socket", name);
        kind.type = (int)psk->type;
        r = sock_owner_dump(d, fd, &dump_files(d)->arena, name, &owner, err);
        if (r == 0)
                r = sock_opts_dump(fd, &kind, arena, dump_socks(d)->defaults, NULL, &opts, err);
        if (r < 0)
                return r;
        psk->id = file->id;
        if (psk->rx_ring || psk->tx_ring)
                r = rings_dump(d, fd, p->st.stx_ino, name, psk, err);
        if (r < 0)
                return r;
        if (!psk->rx_ring && has_unread(fd))
                log_warn("%s: packets that were not read yet are lost, as when the socket's buffer is full",
                         name);
        psk->flags = fd_probe_flags(p);
        psk->fown = owner.fown;
        psk->opts = opts.sk;
        psk->has_ns_id = psk->has_uid = psk->has_gid = true;
        psk->ns_id = sock_ns_id();
        psk->uid = owner.uid;
        psk->gid = owner.gid;
        file->msg->psk = psk;
        return 0;
}

/* ---- restore ---- */

static const char *check_rings(const Img__PacketSock *psk) {
        const char *why = psk->rx_ring ? ring_check(psk->rx_ring, psk->version, true) : NULL;

        if (!why && psk->tx_ring)
                why = ring_check(psk->tx_ring, psk->version, false);
        if (!why && psk->rx_ring && psk->version == TPACKET_V3 && ring_work(psk->rx_ring) > RING_WORK_MAX)
                why = "has a ring of which too much has been used";
        /* Without a protocol, nothing has ever come in. */
        if (!why && psk->rx_ring && psk->protocol == 0 && ring_is_used(psk->rx_ring, psk->version))
                why = "has a ring with packets of no protocol";
        return why;
}

const char *packet_check(const Img__PacketSock *psk) {
        uint32_t way = psk->fanout >> FANOUT_TYPE_SHIFT & FANOUT_TYPE_MASK;
        struct sock_opts opts = { .sk = psk->opts };
        const char *why;

        if (!is_known(AF_PACKET, (int)psk->type, 0))
                return "is of an impossible type";
        if (psk->protocol > UINT16_MAX || psk->version > TPACKET_V3 || psk->ifindex > INT32_MAX)
                return "has an impossible protocol, version or device";
        if (psk->ifname && strlen(psk->ifname) >= IF_NAMESIZE)
                return "is on a device of an impossible name";
        why = check_rings(psk);
        if (why)
                return why;
        if (psk->has_fanout && psk->fanout != NO_FANOUT &&
            (way == PACKET_FANOUT_CBPF || way > PACKET_FANOUT_EBPF - 1))
                return "is in a group (PACKET_FANOUT) that cannot be restored";
        if (psk->n_mclist > MEMBERSHIPS_MAX)
                return "has too many memberships";
        for (size_t i = 0; i < psk->n_mclist; i++) {
                const Img__PacketMclist *m = psk->mclist[i];

                if (m->addr.len > 32 || m->type > UINT16_MAX || (m->has_count && m->count > COUNT_MAX) ||
                    (m->ifname && strlen(m->ifname) >= IF_NAMESIZE))
                        return "has a membership that makes no sense";
        }
        return sock_opts_check(&opts, &why) < 0 ? why : NULL;
}

/* The device that has the name now; foreign images have only the number. */
static int find_device(const char *name, uint32_t ifindex, int *ret) {
        char text[IF_NAMESIZE];
        unsigned int now = ifindex;

        if (name)
                now = if_nametoindex(name);
        else if (ifindex != 0 && !if_indextoname(ifindex, text))
                now = 0;
        if (now == 0 && (name || ifindex != 0))
                return -ENODEV;
        *ret = (int)now;
        return 0;
}

static void check_device(struct restore *r, const char *name, uint32_t ifindex) {
        int now;

        if (find_device(name, ifindex, &now) == 0)
                return;
        if (name)
                blocker_add(r->files->blockers, "Make a device of this name",
                            "a packet socket needs the network "
                            "device %s, which is not there",
                            name);
        else
                blocker_add(r->files->blockers, "Make that device",
                            "a packet socket needs the network device %u, which is not there", ifindex);
}

static void describe(const Img__PacketSock *psk, char ret[static TEXT_MAX]) {
        snprintf(ret, TEXT_MAX, "the packet socket (protocol %#06x, %s)", ntohs((uint16_t)psk->protocol),
                 psk->ifname ? psk->ifname : "all devices");
}

static int packet_check_file(struct restore *r, struct restore_file *file, struct image_file *image,
                             struct ckpt_error *err) {
        const Img__PacketSock *psk = file->msg->psk;
        const struct sock_kind kind = { AF_PACKET, (int)psk->type, 0 };
        const struct sock_opts opts = { .sk = psk->opts };
        const char *why = packet_check(psk);
        char what[TEXT_MAX];

        if (why)
                return image_damaged(image, err, "the packet socket with the id %u %s", psk->id, why);
        check_device(r, psk->ifname, psk->ifindex);
        describe(psk, what);
        sock_check_machine(r, &kind, &opts, sock_defaults_of(r), what);
        why = ring_needs_device(psk) ? ring_device_lack() : NULL;
        if (why)
                blocker_add(r->files->blockers,
                            "Load the module tun, or make the device (mknod /dev/net/tun c 10 200)", "%s",
                            why);
        for (size_t i = 0; i < psk->n_mclist; i++)
                check_device(r, psk->mclist[i]->ifname, psk->mclist[i]->index);
        if (psk->has_shmid)
                return mem_check_object(r, psk->shmid, ring_size(psk->rx_ring) + ring_size(psk->tx_ring),
                                        err);
        return 0;
}

static int set(int fd, int name, const void *value, size_t size, const char *label, const char *what,
               struct ckpt_error *err) {
        if (setsockopt(fd, SOL_PACKET, name, value, (socklen_t)size) < 0)
                return ckpt_error_errno(err, -errno, "cannot set %s of %s", label, what);
        return 0;
}

/* New sockets have 0 in all of them. They must be set while there is no ring. */
static int set_options(int fd, const Img__PacketSock *psk, const char *what, struct ckpt_error *err) {
        const struct {
                int name;
                uint32_t value;
                const char *label;
        } rows[] = {
                { PACKET_VERSION, psk->version, "PACKET_VERSION" },
                { PACKET_RESERVE, psk->reserve, "PACKET_RESERVE" },
                { PACKET_AUXDATA, (uint32_t)psk->aux_data, "PACKET_AUXDATA" },
                { PACKET_ORIGDEV, (uint32_t)psk->orig_dev, "PACKET_ORIGDEV" },
                { PACKET_VNET_HDR, (uint32_t)psk->vnet_hdr, "PACKET_VNET_HDR" },
                { PACKET_LOSS, (uint32_t)psk->loss, "PACKET_LOSS" },
                { PACKET_TIMESTAMP, psk->timestamp, "PACKET_TIMESTAMP" },
                { PACKET_COPY_THRESH, psk->copy_thresh, "PACKET_COPY_THRESH" },
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(rows); i++)
                if (rows[i].value != 0 && option(fd, rows[i].name) != (int)rows[i].value)
                        r = set(fd, rows[i].name, &rows[i].value, sizeof(rows[i].value), rows[i].label, what,
                                err);
        return r;
}

static int join(int fd, const Img__PacketMclist *m, const char *what, struct ckpt_error *err) {
        struct { /* struct packet_mreq with the longest address that the kernel takes */
                int ifindex;
                unsigned short type, alen;
                unsigned char address[32];
        } req = { .type = (unsigned short)m->type, .alen = (unsigned short)m->addr.len };
        int r = find_device(m->ifname, m->index, &req.ifindex);

        if (m->addr.len > 0)
                memcpy(req.address, m->addr.data, MIN(m->addr.len, sizeof(req.address)));
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot find a device of %s", what);
        for (uint32_t i = 0; r == 0 && i < (m->has_count ? m->count : 1); i++)
                r = set(fd, PACKET_ADD_MEMBERSHIP, &req,
                        MAX(sizeof(struct packet_mreq),
                            offsetof(__typeof__(req), address) + (size_t)req.alen),
                        "a membership", what, err);
        return r;
}

/* From here on packets come in, through the filter; a group (PACKET_FANOUT) takes only sockets that have them. */
static int bind_it(int fd, const Img__PacketSock *psk, const char *what, struct ckpt_error *err) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = (uint16_t)psk->protocol };
        int r = find_device(psk->ifname, psk->ifindex, &a.sll_ifindex);

        if (r == 0 && (psk->protocol != 0 || psk->ifindex != 0) &&
            bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                r = -errno;
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot bind %s again", what);
        if (psk->has_fanout && psk->fanout != NO_FANOUT)
                r = set(fd, PACKET_FANOUT, &psk->fanout, sizeof(psk->fanout), "PACKET_FANOUT", what, err);
        for (size_t i = 0; r == 0 && i < psk->n_mclist; i++)
                r = join(fd, psk->mclist[i], what, err);
        return r;
}

static int build(struct restore *r, int fd, const Img__PacketSock *psk, const char *what,
                 struct ckpt_error *err) {
        _cleanup_(ring_device_close) struct ring_device device = RING_DEVICE_INIT;
        struct sock_kind kind = { AF_PACKET, (int)psk->type, 0 };
        struct sock_opts opts = { .sk = psk->opts };
        struct sock_defaults *defaults = sock_defaults_of(r);
        int rc;

        rc = set_options(fd, psk, what, err);
        if (rc == 0)
                rc = sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_BIND, 0, defaults, what, err);
        if (rc == 0)
                rc = ring_restore(r, fd, psk, &device, what, err);
        if (rc == 0)
                rc = sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_FILTER, 0, defaults, what, err);
        if (rc == 0)
                rc = bind_it(fd, psk, what, err);
        if (rc == 0)
                rc = sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_OPEN, 0, defaults, what, err);
        if (rc == 0)
                rc = sock_opts_restore(fd, &kind, &opts, SOCK_WHEN_LAST, 0, defaults, what, err);
        return rc < 0 ? rc : sock_set_flags(fd, psk->flags, what, err);
}

static int packet_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__PacketSock *psk = file->msg->psk;
        struct sock_kind kind = { AF_PACKET, (int)psk->type, 0 };
        _cleanup_close_ int fd = -EBADF;
        char what[TEXT_MAX];
        int rc;

        describe(psk, what);
        rc = sock_make(&kind, psk->has_uid && psk->has_gid, psk->uid, psk->gid, what, &fd, err);
        if (rc == 0)
                rc = build(r, fd, psk, what, err);
        if (rc == 0)
                file->fd = TAKE_FD(fd);
        return rc;
}

uint64_t packet_mapping_size(const struct restore *r, uint32_t id) {
        const struct restore_file *file = restore_find_file(r->files, id);

        if (!file || file->kind != &fd_kind_packet)
                return 0;
        return ring_size(file->msg->psk->rx_ring) + ring_size(file->msg->psk->tx_ring);
}

bool packet_place_is_known(const struct restore *r, uint32_t id) {
        const Img__PacketSock *psk = restore_find_file(r->files, id)->msg->psk;

        return (!psk->rx_ring || psk->rx_ring->has_head) && (!psk->tx_ring || psk->tx_ring->has_head);
}

const struct fd_kind fd_kind_packet = {
        .type = IMG__FD_TYPES__PACKETSK,
        .name = "packet socket",
        .match = packet_match,
        .look = packet_look,
        .dump = packet_dump,
        .save = rings_save,
        .check = packet_check_file,
        .open = packet_open,
        .free = sock_defaults_drop,
};
