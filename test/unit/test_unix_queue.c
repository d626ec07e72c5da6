/* SPDX-License-Identifier: GPL-2.0-only */
/* Queues of unix sockets: what is in them, read without taking it out, twice and as often as one likes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "macro.h"
#include "sock/unix.h"

static struct ckpt_error err = CKPT_ERROR_INIT;

static void test_peek(void **state) {
        static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                struct unix_peek job = { .type = types[i] };
                struct unix_room room = { 0 };
                char buf[16];
                int s[2], off = -1, before = 2;
                socklen_t len = sizeof(off);
                size_t n = 0;

                assert_int_equal(socketpair(AF_UNIX, types[i], 0, s), 0);
                assert_int_equal(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before)), 0);
                assert_int_equal(send(s[0], "one", 3, 0), 3);
                assert_int_equal(send(s[0], "three", 5, 0), 5);
                job.fd = s[1];
                job.total = types[i] == SOCK_DGRAM ? 3 : 8;
                /* twice: nothing has changed */
                for (int again = 0; again < 2; again++, n = 0) {
                        job.first = job.last = NULL;
                        assert_int_equal(unix_peek(&job, 1, &room, &err), 0);
                        assert_int_equal(job.result, 0);
                        for (const struct unix_peeked *p = job.first; p; p = p->next)
                                n += p->len;
                        assert_int_equal(n, 8);
                        assert_memory_equal(job.first->data, "one", 3);
                        assert_int_equal(job.first == job.last, types[i] == SOCK_STREAM);
                        unix_room_done(&room);
                }
                assert_int_equal(getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &off, &len), 0);
                assert_int_equal(off, 2);
                assert_int_equal(recv(s[1], buf, sizeof(buf), MSG_DONTWAIT),
                                 types[i] == SOCK_STREAM ? 8 : 3);
                close(s[0]);
                close(s[1]);
        }
}

/* Who reads dies in the midst of it, here because it cannot write where the result belongs. The socket is as it was. */
static void test_peek_dies(void **state) {
        struct unix_peek *job =
                mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const struct rlimit none = { 0 };
        struct unix_room room = { 0 };
        int s[2], off = -1, before = 2;
        socklen_t len = sizeof(off);

        (void)state;
        assert_ptr_not_equal(job, MAP_FAILED);
        setrlimit(RLIMIT_CORE, &none);
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, s), 0);
        assert_int_equal(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before)), 0);
        assert_int_equal(send(s[0], "one", 3, 0), 3);
        *job = (struct unix_peek){ .type = SOCK_DGRAM, .fd = s[1], .total = 3 };
        assert_int_equal(mprotect(job, PAGE_SIZE, PROT_READ), 0);
        assert_int_equal(unix_peek(job, 1, &room, &err), -EPIPE);
        ckpt_error_clear(&err);
        unix_room_done(&room);
        assert_int_equal(getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &off, &len), 0);
        assert_int_equal(off, 2);
        munmap(job, PAGE_SIZE);
        close(s[0]);
        close(s[1]);
}

static size_t count_fds(void) {
        size_t n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void send_fds(int to, size_t n) {
        char control[CMSG_SPACE(4 * sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)"x", 1 };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

        assert_true(n <= 4);
        *(struct cmsghdr *)control = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        for (size_t i = 0; i < n; i++)
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)) + i * sizeof(to), &to, sizeof(to));
        assert_int_equal(sendmsg(to, &msg, 0), 1);
}

/* There is no room for all descriptors: none stays. */
static void test_peek_truncated(void **state) {
        static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
        struct rlimit before, few;

        (void)state;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        for (size_t i = 0; i < 2; i++) {
                struct unix_peek job = { .type = types[i], .total = 1 };
                struct unix_room room = { 0 };
                size_t have;
                int s[2];

                assert_int_equal(socketpair(AF_UNIX, types[i], 0, s), 0);
                job.fd = s[1];
                send_fds(s[0], 4);
                few = (struct rlimit){ .rlim_cur = (rlim_t)s[1] + 3, .rlim_max = before.rlim_max };
                have = count_fds();
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
                assert_int_equal(unix_peek(&job, 1, &room, &err), 0);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
                assert_int_equal(job.result, -EMFILE);
                assert_int_equal(count_fds(), have);
                unix_room_done(&room);
                close(s[0]);
                close(s[1]);
        }
}

static struct unix_memory memory;
static struct bpf *own_bpf;
static struct peek *own_peek;

static void need_memory(void) {
        assert_int_equal(bpf_new(&own_bpf), 0);
        if (peek_open(own_bpf, &own_peek) < 0) {
                bpf_free(&own_bpf);
                skip();
        }
        memory = (struct unix_memory){ .peek = own_peek };
        unix_memory_prove(&memory);
        assert_true(memory.rights && memory.urgent && memory.empty);
}

static void done_memory(void) {
        peek_free(&own_peek);
        bpf_free(&own_bpf);
}

/* All that urgent data leaves in a queue, twice; the socket is as it was. */
static void test_parts(void **state) {
        static const struct {
                const char *data;
                enum unix_urgent urgent;
        } want[] = {
                { "ab", 0 }, { "", UNIX_URGENT_READ }, { "d", 0 }, { "e", UNIX_URGENT_UNREAD }, { "fg", 0 }
        };
        struct unix_peek job = { .type = SOCK_STREAM };
        struct unix_room room = { 0 };
        struct arena arena = { 0 };
        int s[2], off;
        socklen_t len = sizeof(off);
        char c;

        (void)state;
        need_memory();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        job.fd = s[1];
        assert_int_equal(send(s[0], "ab", 2, 0), 2);
        assert_int_equal(unix_memory_parts(&memory, s[1], SOCK_STREAM, &arena, &job.parts, &job.nr_parts),
                         0);
        assert_null(job.parts);
        if (send(s[0], "c", 1, MSG_OOB) < 0)
                skip();
        assert_int_equal(recv(s[1], &c, 1, MSG_OOB), 1);
        assert_int_equal(send(s[0], "de", 2, MSG_OOB), 2);
        assert_int_equal(send(s[0], "fg", 2, 0), 2);
        assert_int_equal(unix_memory_parts(&memory, s[1], SOCK_STREAM, &arena, &job.parts, &job.nr_parts),
                         0);
        assert_int_equal(job.nr_parts, 5);
        for (int again = 0; again < 2; again++) {
                const struct unix_peeked *p;
                size_t i = 0;

                job.first = job.last = NULL;
                assert_int_equal(unix_peek(&job, 1, &room, &err), 0);
                assert_int_equal(job.result, 0);
                for (p = job.first; p; p = p->next, i++) {
                        assert_int_equal(p->len, strlen(want[i].data));
                        assert_memory_equal(p->data ? p->data : "", want[i].data, p->len);
                        assert_int_equal(p->urgent, want[i].urgent);
                }
                assert_int_equal(i, 5);
                unix_room_done(&room);
        }
        assert_int_equal(getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &off, &len), 0);
        assert_int_equal(off, -1);
        arena_done(&arena);
        done_memory();
        close(s[0]);
        close(s[1]);
}

/* Where it is not known what a queue consists of, a piece that ends for no reason is not taken for another. */
static void test_mark_unknown(void **state) {
        struct unix_peek job = { .type = SOCK_STREAM, .total = 5 };
        struct unix_room room = { 0 };
        int s[2];
        char c;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        job.fd = s[1];
        assert_int_equal(send(s[0], "ab", 2, 0), 2);
        if (send(s[0], "c", 1, MSG_OOB) < 0)
                skip();
        assert_int_equal(recv(s[1], &c, 1, MSG_OOB), 1);
        assert_int_equal(send(s[0], "def", 3, 0), 3);
        assert_int_equal(unix_peek(&job, 1, &room, &err), 0);
        assert_int_equal(job.result, -EBADE);
        unix_room_done(&room);
        close(s[0]);
        close(s[1]);
}

/* An empty packet behind others is passed over by whoever comes the second time; not so if its place is known. */
static void test_empty_again(void **state) {
        static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };

        (void)state;
        need_memory();
        for (size_t i = 0; i < 2; i++) {
                struct unix_peek job = { .type = types[i], .total = 6 };
                struct unix_room room = { 0 };
                struct arena arena = { 0 };
                int s[2];

                assert_int_equal(socketpair(AF_UNIX, types[i], 0, s), 0);
                job.fd = s[1];
                assert_int_equal(send(s[0], "one", 3, 0), 3);
                assert_int_equal(send(s[0], "", 0, 0), 0);
                assert_int_equal(send(s[0], "", 0, 0), 0);
                assert_int_equal(send(s[0], "two", 3, 0), 3);
                assert_int_equal(send(s[0], "", 0, 0), 0);
                for (int again = 0; again < 3; again++) {
                        static const size_t lengths[] = { 3, 0, 0, 3, 0 };
                        size_t n = 0;

                        job.first = job.last = job.stray = NULL;
                        assert_int_equal(unix_memory_parts(&memory, s[1], types[i], &arena, &job.parts,
                                                           &job.nr_parts),
                                         0);
                        assert_int_equal(unix_peek(&job, 1, &room, &err), 0);
                        assert_int_equal(job.result, 0);
                        for (const struct unix_peeked *p = job.first; p; p = p->next, n++)
                                assert_int_equal(p->len, lengths[n]);
                        assert_int_equal(n, 5);
                        unix_room_done(&room);
                }
                arena_done(&arena);
                close(s[0]);
                close(s[1]);
        }
        done_memory();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_peek),           cmocka_unit_test(test_peek_dies),
                cmocka_unit_test(test_peek_truncated), cmocka_unit_test(test_parts),
                cmocka_unit_test(test_mark_unknown),   cmocka_unit_test(test_empty_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
