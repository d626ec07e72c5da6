/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of IPv4 and IPv6 sockets share. */
#pragma once

#include "fd/kind.h"
#include "sock/diag.h"
#include "sock/guard.h"
#include "sock/lock.h"
#include "sock/mptcp.h"
#include "sock/opts.h"
#include "sock/packet.h"
#include "sock/sock.h"
#include "sock/tcp.h"
#include "sock/uapi.h"

enum { SOCK_NAME_MAX = 160 };

union sock_address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
};

/* ---- dump ---- */

/* A TCP socket that is more than an address: connected, closed by the peer, or listening. */
struct inet_conn {
        Img__InetSk *isk;
        const char *
                name; /* for messages: "pid 812 (redis): fd 7, the TCP connection 10.0.0.1:80 - 10.0.0.2:99 */
        const struct dump_file *file;
        int fd;                  /* a copy in ckpt */
        struct sock_tuple tuple; /* of a connection */
        struct tcp_told told;
        struct inet_conn *peer; /* the other end, when that is in the tree too */
        int result;             /* of silencing it */
        bool saved, in_flight;
        bool mptcp; /* an MPTCP socket that has fallen back to TCP */
};
DEFINE_VEC(inet_conn_vec, struct inet_conn *);

/* The copy of a descriptor between one question about it and the next. */
struct sock_copy {
        pid_t tid;
        int number;
        uint64_t ino;
        int fd;
};

/* A group of SO_REUSEPORT with a program. */
struct reuseport_group {
        uint64_t addr;    /* of the kernel's */
        uint64_t n;       /* sockets that it has */
        bool *known;      /* by place: those of the tree; owned */
        bool changed;     /* others have come or gone while the tree stood still */
        const char *name; /* of one of these */
};
DEFINE_VEC(reuseport_group_vec, struct reuseport_group);

struct dump_socks {
        pthread_mutex_t copy_lock;
        struct sock_copy copy;
        uint64_t netns; /* SO_NETNS_COOKIE of ckpt's own sockets; 0: not told (before 5.14) */
        struct sock_diag_table diag;
        struct sock_diag_table
                tcp; /* of all TCP sockets, made before collect and not changed: for all threads */
        struct netlink_table *netlink; /* NULL: not asked */
        struct packet_table *packets;
        struct packet_rings *rings; /* af_packet.c; NULL: none */
        struct unix_dump *unix_;    /* unix.h; NULL: none */
        struct mptcp_reader mptcp;  /* of dump_peek_for() */
        struct inet_conn_vec conns;
        struct reuseport_group_vec reuseport;
        bool no_ao;                  /* this kernel has no TCP-AO; atomic */
        struct inet_conn_vec unread; /* UDP sockets with datagrams in them */
        struct arena arena;
        struct sock_defaults *defaults;
        struct sock_guard guard;
        struct netlock_hold *hold;   /* the network lock until then; NULL: none */
        char lock[NETLOCK_NAME_MAX]; /* that comes when the tree is killed, and stays; "": none is needed */
        bool connections;            /* look has seen one; atomic */
        bool left, silenced, told;   /* left: `lock` is there; told: the action scripts */
        bool killed;                 /* the tree, or it will be */
};

/* netlink.c's and af_packet.c's */
void netlink_table_free(struct netlink_table **t);
void packet_table_free(struct packet_table **t);
void packet_rings_free(struct packet_rings **r);

/* At the end of the look stage: adds a blocker for each area of a socket's memory that is no ring that was looked at. */
void packet_look_tree(struct dump *d);

/* Made at the first call, by any thread. */
struct dump_socks *dump_socks(struct dump *d);

/* Connections that wait in a listening socket for accept(2), with TCP_DEFER_ACCEPT those that have sent nothing yet too. */
unsigned int inet_in_flight(struct dump_socks *s, int fd, const Img__InetSk *isk);
#define INET_IN_FLIGHT_HINT "Try again in a moment, or use --skip-in-flight to have them closed"

/*
 * SO_REUSEPORT (reuseport.c). The program that distributes what arrives among the sockets of a group is seen only in the kernel's
 * memory. `fd` is a copy in ckpt of a socket that is no connection.
 */
bool reuseport_is_set(int fd);

/* For look(): adds a blocker if the program cannot be carried over. */
void reuseport_look(struct dump *d, int fd, const char *name, struct blockers *b);

/* Fill isk->reuseport, if there is a program. In the main thread. */
int reuseport_dump(struct dump *d, int fd, Img__InetSk *isk, const char *name, struct ckpt_error *err);

/* All sockets are known: are those of the groups with programs all in the tree? The first is for `ckpt check`. */
void reuseport_look_groups(struct dump *d, struct blockers *b);
int reuseport_check_groups(struct dump *d, struct ckpt_error *err);

void reuseport_dump_free(struct dump_socks *s);

/* NULL, or what is wrong with it. */
const char *reuseport_check(const Img__InetSk *isk);

/*
 * Errors that the program has not been told of (error.c). The socket polls POLLERR: fill isk->error, or warn of it; where it
 * cannot be seen, nothing.
 */
void pending_error_dump(struct dump *d, int fd, Img__InetSk *isk, const char *name);
const char *pending_error_check(const Img__InetSk *isk);

/* The tuple of a connection. */
void inet_tuple(const Img__InetSk *isk, struct sock_tuple *ret);

/* "the TCP connection 127.0.0.1:80 - 127.0.0.1:4711 (ESTABLISHED)", "the UDP socket [::]:53". */
void inet_describe(const Img__InetSk *isk, char ret[static SOCK_NAME_MAX]);

/* Multicast groups (group.c). */
int inet_groups_dump(int fd, Img__InetSk *isk, struct arena *arena, struct ckpt_error *err);
const char *inet_groups_check(const Img__InetSk *isk); /* do they make sense? */
int inet_groups_restore(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err);

/* A line of /proc/net/igmp or igmp6: a group that a device of the network namespace has joined. */
struct inet_group {
        int ifindex;
        char ifname[16];
        uint32_t group[4]; /* network byte order */
};
DEFINE_VEC(inet_group_vec, struct inet_group);

/* Parse the text of /proc/net/igmp, igmp6. -EBADMSG: it is something else. */
int inet_parse_igmp(const char *text, struct inet_group_vec *ret);
int inet_parse_igmp6(const char *text, struct inet_group_vec *ret);

/* ---- restore ---- */

struct inet_file {
        struct restore_file *file;
        Img__InetSk *isk;
        Img__TcpStream *stream; /* owned; NULL: none */
        uint8_t *in, *out;      /* its queues, owned */
        struct sock_tuple tuple;
        int fd;                   /* a copy in ckpt until the end; -EBADF: not open */
        char what[SOCK_NAME_MAX]; /* inet_describe(), once it was needed */
        bool repaired, outside;   /* the peer is not in the images */
        bool closed;              /* --tcp-close */
        bool deaf;                /* closed by the peer: connected for show, then reset */
};

DEFINE_VEC(inet_file_ref_vec, struct inet_file *);

struct inet_state {
        struct inet_file *v; /* in the order of files->v */
        size_t n, cap;
        struct sock_defaults *defaults;
        struct packet_sender *sender;
        struct netlock_hold *hold; /* made by this run; NULL: none */
        int unlock;                /* a socket to remove locks of the dump */
        bool connections;          /* there are such */
        unsigned int next_port;
        struct inet_file_ref_vec grouped; /* reuseport.c */
        uint16_t *claimed; /* by port: TCP sockets that are no connections and are still to be bound to it */
};

/* NULL: there are no such files. */
struct inet_state *inet_state(struct restore *r);

/* Is there a kind of internet socket like that, which ckpt knows? */
bool inet_is_known(int domain, int type, int protocol);

/* Is it a TCP socket that has, or had, a peer? */
bool inet_is_connection(const Img__InetSk *isk);
