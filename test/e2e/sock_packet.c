/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * packet sockets: protocols and devices, filters, memberships, a fanout group, every option, rings that nobody has
 * mapped; and that packets go on coming to those, and only those, that asked for them.
 */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>

#include "e2e_net.h"

enum {
        WANTED = 0x88b5, /* local experiments */
        OTHER = 0x88b6,
        BLOCK = 8192,
        BLOCKS = 4,
        FRAME = 2048,
        GROUP = 77,
        MEMBERS = 3,
        FANOUT = GROUP | (PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER) << 16,
};

struct sockets {
        int filtered, cooked, sender, member[MEMBERS], ring, ring3, odd, again;
};

static void set(int fd, int name, int value) {
        CHECK(setsockopt(fd, SOL_PACKET, name, &value, sizeof(value)) == 0, "option %d: %m", name);
}

static int get(int fd, int name) {
        int value = 0;
        socklen_t len = sizeof(value);

        CHECK(getsockopt(fd, SOL_PACKET, name, &value, &len) == 0, "option %d: %m", name);
        return value;
}

static int make(int type, int protocol, const char *device) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol) };
        int fd = SYS(socket(AF_PACKET, type, 0));

        a.sll_ifindex = device ? (int)if_nametoindex(device) : 0;
        SYS(bind(fd, (struct sockaddr *)&a, sizeof(a)));
        return fd;
}

static void join(int fd, int type) {
        struct packet_mreq req = { .mr_ifindex = (int)if_nametoindex("lo"),
                                   .mr_type = (unsigned short)type };

        if (type == PACKET_MR_MULTICAST) {
                req.mr_alen = 6;
                memcpy(req.mr_address, "\1\0\136\1\2\3", 6);
        }
        SYS(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &req, sizeof(req)));
}

/* Passes frames of the protocol WANTED whose first byte is 'w'. */
static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, WANTED, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'w', 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),  BPF_STMT(BPF_RET | BPF_K, 0),
};

static void set_up(struct sockets *s) {
        const struct sock_fprog prog = { ELEMENTS(code), code };
        struct tpacket_req req = { BLOCK, BLOCKS, FRAME, BLOCK / FRAME * BLOCKS };
        struct tpacket_req3 req3 = { BLOCK, BLOCKS, FRAME, BLOCK / FRAME * BLOCKS, 60, 16, 1 };

        loopback_up();
        s->filtered = SYS(socket(AF_PACKET, SOCK_RAW, 0));
        SYS(setsockopt(s->filtered, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
        {
                struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                         .sll_protocol = htons(ETH_P_ALL),
                                         .sll_ifindex = (int)if_nametoindex("lo") };

                SYS(bind(s->filtered, (struct sockaddr *)&a, sizeof(a)));
        }
        set(s->filtered, PACKET_AUXDATA, 1);
        set(s->filtered, PACKET_ORIGDEV, 1);
        set(s->filtered, PACKET_IGNORE_OUTGOING, 1);
        join(s->filtered, PACKET_MR_PROMISC);
        join(s->filtered, PACKET_MR_MULTICAST);
        join(s->filtered, PACKET_MR_MULTICAST);
        s->cooked = SYS(socket(AF_PACKET, SOCK_DGRAM, htons(OTHER)));
        SYS(fcntl(s->cooked, F_SETFL, O_NONBLOCK));
        SYS(fchown(s->cooked, 1234, 567));
        s->sender = SYS(socket(AF_PACKET, SOCK_RAW, 0));
        set(s->sender, PACKET_QDISC_BYPASS, 1);
        for (int i = 0; i < MEMBERS; i++) {
                s->member[i] = make(SOCK_DGRAM, WANTED, "lo");
                set(s->member[i], PACKET_FANOUT, FANOUT);
        }
        s->ring = make(SOCK_RAW, OTHER, "lo");
        set(s->ring, PACKET_VERSION, TPACKET_V2);
        set(s->ring, PACKET_RESERVE, 32);
        set(s->ring, PACKET_LOSS, 1);
        SYS(setsockopt(s->ring, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)));
        SYS(setsockopt(s->ring, SOL_PACKET, PACKET_TX_RING, &req, sizeof(req)));
        s->ring3 = make(SOCK_RAW, OTHER, "lo");
        set(s->ring3, PACKET_VERSION, TPACKET_V3);
        SYS(setsockopt(s->ring3, SOL_PACKET, PACKET_RX_RING, &req3, sizeof(req3)));
        s->odd = make(SOCK_RAW, ETH_P_ARP, NULL);
        set(s->odd, PACKET_VNET_HDR, 1);
        set(s->odd, PACKET_TIMESTAMP, 64);
        set(s->odd, PACKET_COPY_THRESH, 5000);
        s->again = SYS(dup(s->filtered));
}

static void send_frame(int fd, uint16_t protocol, const char *text) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                 .sll_ifindex = (int)if_nametoindex("lo"),
                                 .sll_halen = 6 };
        char frame[64] = { 0 };

        frame[12] = (char)(protocol >> 8);
        frame[13] = (char)protocol;
        strcpy(frame + 14, text);
        CHECK(sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&a, sizeof(a)) == sizeof(frame),
              "send: %m");
}

enum { NOTHING_MS = 200, COMES_MS = 100000 };

/* What comes next; "" if nothing does in `ms`. */
static const char *next(int fd, size_t head, bool outgoing, int ms) {
        static char buf[256];
        struct pollfd p = { .fd = fd, .events = POLLIN };
        struct sockaddr_ll from;

        for (;;) {
                socklen_t len = sizeof(from);

                memset(buf, 0, sizeof(buf));
                if (poll(&p, 1, ms) != 1)
                        return "";
                CHECK(recvfrom(fd, buf, sizeof(buf) - 1, 0, (struct sockaddr *)&from, &len) > 0, "recv: %m");
                if (outgoing || from.sll_pkttype != PACKET_OUTGOING)
                        return buf + head;
        }
}

static void check_packets(const struct sockets *s) {
        int got = 0;
        const char *text;

        send_frame(s->sender, WANTED, "x not this");
        send_frame(s->sender, OTHER, "w nor this");
        send_frame(s->sender, WANTED, "w this");
        /* Its own copy on the way out is ignored (PACKET_IGNORE_OUTGOING). */
        text = next(s->filtered, 14, true, COMES_MS);
        CHECK(strcmp(text, "w this") == 0, "got \"%s\"", text);
        text = next(s->again, 14, true, NOTHING_MS);
        CHECK(*text == 0, "then got \"%s\"", text);
        text = next(s->cooked, 0, false, COMES_MS);
        CHECK(strcmp(text, "w nor this") == 0, "got \"%s\"", text);
        for (int64_t end = now_ns(CLOCK_MONOTONIC) + COMES_MS * 1000000LL;
             got < 2 && now_ns(CLOCK_MONOTONIC) < end;)
                for (int i = 0; i < MEMBERS; i++)
                        while (*next(s->member[i], 0, true, 10))
                                got++;
        for (int i = 0; i < MEMBERS; i++)
                while (*next(s->member[i], 0, true, NOTHING_MS))
                        got++;
        CHECK_EQ(got, 2);
        text = next(s->odd, 0, true, NOTHING_MS);
        CHECK(*text == 0, "got \"%s\" of another protocol", text);
}

/* A V2 ring: one frame each in it; its size is what can be mapped. */
static void check_rings(const struct sockets *s) {
        char *map = mmap(NULL, 2 * BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, s->ring, 0);
        char *map3 = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, s->ring3, 0);
        struct tpacket2_hdr *head = (struct tpacket2_hdr *)map;
        struct tpacket_block_desc *block = (struct tpacket_block_desc *)map3;
        struct pollfd p = { .fd = s->ring, .events = POLLIN };

        CHECK(map != MAP_FAILED && map3 != MAP_FAILED, "mmap: %m");
        CHECK(poll(&p, 1, 30000) == 1, "nothing in the ring");
        CHECK(head->tp_status & TP_STATUS_USER &&
                      strcmp((char *)head + head->tp_mac + 14, "w nor this") == 0,
              "status %#x", head->tp_status);
        p.fd = s->ring3;
        CHECK(poll(&p, 1, 30000) == 1, "no block");
        CHECK_EQ(block->offset_to_priv + 16, block->hdr.bh1.offset_to_first_pkt);
}

static void check_options(const struct sockets *s) {
        struct sockaddr_ll a = { 0 };
        socklen_t len = sizeof(a);
        struct stat st;

        SYS(getsockname(s->filtered, (struct sockaddr *)&a, &len));
        CHECK(a.sll_protocol == htons(ETH_P_ALL) && a.sll_ifindex == (int)if_nametoindex("lo"), "address");
        CHECK(get(s->filtered, PACKET_AUXDATA) == 1 && get(s->filtered, PACKET_ORIGDEV) == 1 &&
                      get(s->filtered, PACKET_IGNORE_OUTGOING) == 1,
              "options of the filtered one");
        CHECK_EQ(get(s->sender, PACKET_QDISC_BYPASS), 1);
        for (int i = 0; i < MEMBERS; i++)
                CHECK_EQ(get(s->member[i], PACKET_FANOUT),
                         GROUP | PACKET_FANOUT_LB << 16 | (PACKET_FANOUT_FLAG_ROLLOVER >> 8) << 24);
        CHECK(get(s->ring, PACKET_VERSION) == TPACKET_V2 && get(s->ring, PACKET_RESERVE) == 32 &&
                      get(s->ring, PACKET_LOSS) == 1,
              "options of the ring");
        CHECK_EQ(get(s->ring3, PACKET_VERSION), TPACKET_V3);
        CHECK(get(s->odd, PACKET_VNET_HDR) == 1 && get(s->odd, PACKET_TIMESTAMP) == 64,
              "options of the odd one");
        SYS(fstat(s->cooked, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 567, "owner %u:%u", st.st_uid, st.st_gid);
        CHECK(SYS(fcntl(s->cooked, F_GETFL)) & O_NONBLOCK, "it is blocking");
}

/* What shows the memberships: the device's own count, and that they can be left as often as they were joined. */
static void check_memberships(int fd) {
        struct packet_mreq req = { .mr_ifindex = (int)if_nametoindex("lo"),
                                   .mr_type = PACKET_MR_MULTICAST,
                                   .mr_alen = 6 };
        struct packet_mreq promisc = { .mr_ifindex = req.mr_ifindex, .mr_type = PACKET_MR_PROMISC };

        memcpy(req.mr_address, "\1\0\136\1\2\3", 6);
        for (int i = 0; i < 2; i++) {
                char text[4096] = "";
                int dev = SYS(open("/proc/net/dev_mcast", O_RDONLY));

                CHECK(read(dev, text, sizeof(text) - 1) >= 0, "read: %m");
                close(dev);
                CHECK(strstr(text, "01005e010203"), "round %d: not joined: %s", i, text);
                SYS(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &req, sizeof(req)));
        }
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &req, sizeof(req)) == 0, "drop: %m");
        {
                char text[4096] = "";
                int dev = SYS(open("/proc/net/dev_mcast", O_RDONLY));

                CHECK(read(dev, text, sizeof(text) - 1) >= 0, "read: %m");
                close(dev);
                CHECK(!strstr(text, "01005e010203"), "joined more than twice: %s", text);
        }
        SYS(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &promisc, sizeof(promisc)));
}

int main(int argc, char **argv) {
        static struct sockets s;

        test_init(argc, argv);
        set_up(&s);
        test_ready();
        test_wait();
        /* break: set(s.filtered, PACKET_IGNORE_OUTGOING, 0); */
        /* break: set(s.odd, PACKET_TIMESTAMP, 0); */
        /* break: { struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(OTHER) }; SYS(bind(s.filtered, (struct sockaddr *)&a, sizeof(a))); } */
        check_options(&s);
        check_packets(&s);
        check_rings(&s);
        check_memberships(s.filtered);
        test_pass();
}
