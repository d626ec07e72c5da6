/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* epoll: level- and edge-triggered members, one-shot ones that are armed and ones that have fired, exclusive ones,
 * instances in instances, one shared with a child; members whose descriptor was closed, or is another file's by now,
 * while the file lives on by a duplicate, here or in the child. */
#include "e2e.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

struct pair {
        int r, w;
};

static int ep, inner, innermost;

static struct pair make_pipe(void) {
        int fd[2];

        SYS(pipe2(fd, O_NONBLOCK));
        return (struct pair){ fd[0], fd[1] };
}

static void control(int e, int op, int fd, uint32_t events, uint64_t data) {
        struct epoll_event ev = { .events = events, .data.u64 = data };

        CHECK(epoll_ctl(e, op, fd, &ev) == 0, "epoll_ctl %d of %d: %m", op, fd);
}

/* The events of `data` among those that are there now; ~0: none. */
static uint32_t events_of(int e, uint64_t data) {
        struct epoll_event ev[64];
        int n = SYS(epoll_wait(e, ev, ELEMENTS(ev), 0));

        for (int i = 0; i < n; i++)
                if (ev[i].data.u64 == data)
                        return ev[i].events;
        return ~0U;
}

static int count(int e) {
        struct epoll_event ev[64];

        return SYS(epoll_wait(e, ev, ELEMENTS(ev), 0));
}

static void send_byte(int fd) {
        CHECK(write(fd, "x", 1) == 1, "write: %m");
}

static void drain(int fd) {
        char c[16];

        while (read(fd, c, sizeof(c)) > 0)
                ;
}

/* Members of the instance as the kernel lists them: their number, and the events of the last with `number`. */
static int members(int e, int number, uint32_t *ret_events) {
        static char text[65536];
        char path[64];
        int n = 0;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", e);
        CHECK(read_file(path, text, sizeof(text)) > 0, "read %s: %m", path);
        for (char *at = text; (at = strstr(at, "tfd:")); at++) {
                int fd;
                unsigned int events;

                CHECK(sscanf(at, "tfd: %d events: %x", &fd, &events) == 2, "%s", at);
                n++;
                if (fd == number && ret_events)
                        *ret_events = events;
        }
        return n;
}

int main(int argc, char **argv) {
        struct pair level, ready, edge, once, fired, fired_empty, moved, replaced, kids, nested;
        int ev_excl, timer, closed_number, replaced_number, kids_number, copy_moved, copy_replaced,
                nr_members;
        struct gate started, go, done;
        struct epoll_event ev;
        uint32_t events = 0;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&started);
        gate_init(&go);
        gate_init(&done);
        ep = SYS(epoll_create1(EPOLL_CLOEXEC));
        inner = SYS(epoll_create1(0));
        innermost = SYS(epoll_create1(0));
        level = make_pipe();
        ready = make_pipe();
        edge = make_pipe();
        once = make_pipe();
        fired = make_pipe();
        fired_empty = make_pipe();
        moved = make_pipe();
        replaced = make_pipe();
        kids = make_pipe();
        nested = make_pipe();
        ev_excl = SYS(eventfd(0, EFD_NONBLOCK));
        timer = SYS(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));

        control(ep, EPOLL_CTL_ADD, level.r, EPOLLIN | EPOLLRDHUP, 0xaaaabbbbcccc0001);
        control(ep, EPOLL_CTL_ADD, ready.r, EPOLLIN | EPOLLPRI, 2);
        control(ep, EPOLL_CTL_ADD, ready.w, EPOLLERR, 20);
        control(ep, EPOLL_CTL_ADD, edge.r, EPOLLIN | EPOLLET, 3);
        control(ep, EPOLL_CTL_ADD, once.r, EPOLLIN | EPOLLONESHOT, 4);
        control(ep, EPOLL_CTL_ADD, fired.r, EPOLLIN | EPOLLONESHOT | EPOLLET, 5);
        control(ep, EPOLL_CTL_ADD, fired_empty.r, EPOLLIN | EPOLLONESHOT, 6);
        control(ep, EPOLL_CTL_ADD, ev_excl, EPOLLIN | EPOLLEXCLUSIVE, 7);
        control(ep, EPOLL_CTL_ADD, timer, EPOLLIN | EPOLLET, 8);
        control(innermost, EPOLL_CTL_ADD, nested.r, EPOLLIN, 100);
        control(inner, EPOLL_CTL_ADD, innermost, EPOLLIN, 101);
        control(inner, EPOLL_CTL_ADD, nested.r, EPOLLIN | EPOLLONESHOT, 103);
        control(ep, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLET, 102);
        /* One-shot members that fire: one has its data still, the other not. */
        send_byte(fired.w);
        send_byte(fired_empty.w);
        CHECK(count(ep) == 2, "the one-shot members do not fire");
        drain(fired_empty.r);
        /* Closed, and alive by a duplicate. */
        closed_number = moved.r;
        control(ep, EPOLL_CTL_ADD, moved.r, EPOLLIN, 9);
        copy_moved = SYS(fcntl(moved.r, F_DUPFD, 300));
        close(moved.r);
        /* The same, and the number is that of an end of another pipe, which is a member too, and has no data. */
        replaced_number = replaced.r;
        control(ep, EPOLL_CTL_ADD, replaced.r, EPOLLIN, 10);
        copy_replaced = SYS(fcntl(replaced.r, F_DUPFD, 310));
        SYS(dup2(level.r, replaced_number));
        control(ep, EPOLL_CTL_ADD, replaced_number, EPOLLIN, 11);
        /* Open in the child only. */
        kids_number = kids.r;
        control(ep, EPOLL_CTL_ADD, kids.r, EPOLLIN, 12);
        kid = xfork();
        if (kid == 0) {
                SYS(dup3(kids.r, 350, 0));
                SYS(close(kids.r));
                gate_open(&started, 1);
                gate_pass(&go, 1);
                CHECK(epoll_wait(ep, &ev, 1, 10000) == 1 && ev.data.u64 == 12, "the child sees %" PRIx64,
                      ev.data.u64);
                gate_open(&done, 1);
                _exit(6);
        }
        close(kids.r);
        gate_pass(&started, 1);
        send_byte(ready.w);
        nr_members = members(ep, -1, NULL);
        test_ready();
        test_wait();
        /* break: control(ep, EPOLL_CTL_MOD, level.r, EPOLLIN, 1); */
        /* break: control(ep, EPOLL_CTL_MOD, edge.r, EPOLLIN, 3); */
        /* break: control(ep, EPOLL_CTL_MOD, once.r, EPOLLIN, 4); */
        /* break: control(ep, EPOLL_CTL_MOD, fired.r, EPOLLIN | EPOLLONESHOT | EPOLLET, 5); */
        /* break: control(ep, EPOLL_CTL_MOD, fired_empty.r, EPOLLONESHOT, 6); */
        /* break: control(ep, EPOLL_CTL_DEL, ev_excl, 0, 0); */
        /* break: control(ep, EPOLL_CTL_DEL, inner, 0, 0); */
        /* break: SYS(dup2(copy_moved, closed_number)); control(ep, EPOLL_CTL_DEL, closed_number, 0, 0); close(closed_number); */
        /* break: SYS(dup2(copy_replaced, replaced_number)); control(ep, EPOLL_CTL_DEL, replaced_number, 0, 0); SYS(dup2(level.r, replaced_number)); */
        CHECK(fcntl(ep, F_GETFD) == FD_CLOEXEC && fcntl(inner, F_GETFD) == 0, "flags");
        CHECK(members(ep, -1, NULL) == nr_members, "%d members, not %d", members(ep, -1, NULL), nr_members);
        CHECK(count(ep) == 1 && events_of(ep, 2) == EPOLLIN, "%d are ready, one was", count(ep));
        drain(ready.r);
        drain(edge.r);
        count(ep);
        CHECK(count(ep) == 0, "something is ready: %d", count(ep));
        send_byte(level.w);
        CHECK(events_of(ep, 0xaaaabbbbcccc0001) == EPOLLIN && events_of(ep, 11) == EPOLLIN,
              "level-triggered");
        drain(level.r);
        CHECK(count(ep) == 0, "level-triggered, drained");
        send_byte(edge.w);
        CHECK(events_of(ep, 3) == EPOLLIN && events_of(ep, 3) == ~0U, "edge-triggered");
        send_byte(once.w);
        CHECK(events_of(ep, 4) == EPOLLIN && events_of(ep, 4) == ~0U, "one-shot");
        /* Fired ones say nothing whatever happens, until they are armed again. */
        members(ep, fired_empty.r, &events);
        CHECK((events & ~(uint32_t)EPOLLONESHOT) == 0, "fired, without data: events %x", events);
        members(ep, fired.r, &events);
        CHECK((events & ~(uint32_t)(EPOLLONESHOT | EPOLLET)) == 0, "fired: events %x", events);
        send_byte(fired.w);
        send_byte(fired_empty.w);
        CHECK(count(ep) == 0, "one-shot members fire again");
        control(ep, EPOLL_CTL_MOD, fired_empty.r, EPOLLIN | EPOLLONESHOT, 60);
        CHECK(events_of(ep, 60) == EPOLLIN, "armed again");
        close(fired.w);
        CHECK(count(ep) == 0, "a hangup of one that has fired");
        CHECK(eventfd_write(ev_excl, 1) == 0 && events_of(ep, 7) == EPOLLIN, "exclusive");
        members(ep, ev_excl, &events);
        CHECK(events & EPOLLEXCLUSIVE, "exclusive: events %x", events);
        drain(ev_excl);
        {
                struct itimerspec its = { .it_value.tv_nsec = 1 };

                CHECK(timerfd_settime(timer, 0, &its, NULL) == 0 && epoll_wait(ep, &ev, 1, 5000) == 1 &&
                              ev.data.u64 == 8,
                      "timer: %" PRIx64, ev.data.u64);
        }
        send_byte(nested.w);
        CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.data.u64 == 102, "nested: %" PRIx64, ev.data.u64);
        CHECK(count(inner) == 2 && events_of(innermost, 100) == EPOLLIN, "nested instances");
        drain(nested.r);
        count(ep);
        send_byte(moved.w);
        CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.data.u64 == 9, "the closed one: %" PRIx64,
              ev.data.u64);
        drain(copy_moved);
        CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, closed_number, NULL) < 0 && errno == EBADF,
              "the number is not closed");
        SYS(dup2(copy_moved, closed_number));
        control(ep, EPOLL_CTL_DEL, closed_number, 0, 0);
        send_byte(replaced.w);
        CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.data.u64 == 10, "the replaced one: %" PRIx64,
              ev.data.u64);
        drain(copy_replaced);
        control(ep, EPOLL_CTL_DEL, replaced_number, 0, 0);
        CHECK(count(ep) == 0, "something is ready");
        gate_open(&go, 1);
        send_byte(kids.w);
        gate_pass(&done, 1);
        xwait(kid, 6);
        CHECK(members(ep, kids_number, &events) == nr_members - 3, "members at the end: %d",
              members(ep, -1, NULL));
        test_pass();
}
