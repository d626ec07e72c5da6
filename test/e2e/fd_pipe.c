/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Pipes in one process: data, capacity, flags of each end, packet mode, exactly full, half read, without writers
 * (end of file after the data) and without readers (EPIPE). */
#include "e2e.h"

struct pipe_end {
        int r, w;
};

static struct pipe_end make_pipe(int flags, int capacity) {
        struct pipe_end p;
        int fd[2];

        CHECK(pipe2(fd, flags) == 0, "pipe2: %m");
        p = (struct pipe_end){ fd[0], fd[1] };
        if (capacity)
                CHECK(fcntl(p.w, F_SETPIPE_SZ, capacity) == capacity, "F_SETPIPE_SZ: %m");
        return p;
}

static void put(const struct pipe_end *p, size_t size, uint64_t seed) {
        char *buf = malloc(size);

        CHECK(buf, "malloc");
        fill(buf, size, seed);
        CHECK(write(p->w, buf, size) == (ssize_t)size, "write %zu bytes: %m", size);
        free(buf);
}

static void get(const struct pipe_end *p, size_t size, uint64_t seed, const char *what) {
        char *buf = malloc(size);

        CHECK(buf, "malloc");
        for (size_t n = 0; n < size;) {
                ssize_t r = read(p->r, buf + n, size - n);

                CHECK(r > 0, "%s: read at %zu of %zu gave %zd: %m", what, n, size, r);
                n += (size_t)r;
        }
        check_filled(buf, size, seed, what);
        free(buf);
}

/* Nothing is left; needs a writer, so that it is not end of file. */
static void check_empty(const struct pipe_end *p, const char *what) {
        int flags = fcntl(p->r, F_GETFL);
        char c;

        CHECK(fcntl(p->r, F_SETFL, flags | O_NONBLOCK) == 0, "F_SETFL: %m");
        CHECK(read(p->r, &c, 1) < 0 && errno == EAGAIN, "%s: there is more in it", what);
        CHECK(fcntl(p->r, F_SETFL, flags) == 0, "F_SETFL: %m");
}

int main(int argc, char **argv) {
        struct pipe_end empty, data, small, large, packets, full, half, no_writer, no_reader, mixed,
                big_packets;
        const size_t sizes[] = { 1, 4096, 17, 100, 4000, 8 };
        char buf[8192];
        int kept, packet_flags[2];

        test_init(argc, argv);
        signal(SIGPIPE, SIG_IGN);
        empty = make_pipe(0, 0);
        data = make_pipe(O_CLOEXEC, 0);
        put(&data, 1000, 1);
        put(&data, 5000, 2);
        small = make_pipe(0, 4096);
        put(&small, 800, 3);
        large = make_pipe(0, 1 << 20);
        put(&large, 1 << 20, 4);
        packets = make_pipe(O_DIRECT, 0);
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                memset(buf, 'a' + (int)i, sizes[i]);
                CHECK(write(packets.w, buf, sizes[i]) == (ssize_t)sizes[i], "write a packet: %m");
        }
        packet_flags[0] = fcntl(packets.r, F_GETFL);
        packet_flags[1] = fcntl(packets.w, F_GETFL);
        CHECK(packet_flags[1] & O_DIRECT, "no O_DIRECT");
        big_packets = make_pipe(O_DIRECT | O_NONBLOCK, 65536);
        memset(buf, 'z', sizeof(buf));
        for (int i = 0; i < 16; i++)
                CHECK(write(big_packets.w, buf, 3) == 3, "write a packet: %m");
        CHECK(write(big_packets.w, buf, 3) < 0 && errno == EAGAIN, "16 packets do not fill it");
        full = make_pipe(O_NONBLOCK, 65536);
        put(&full, 65536, 6);
        CHECK(write(full.w, buf, 1) < 0 && errno == EAGAIN, "it is not full");
        half = make_pipe(0, 0);
        put(&half, 8000, 7);
        CHECK(read(half.r, buf, 3003) == 3003, "read: %m");
        no_writer = make_pipe(0, 0);
        put(&no_writer, 64, 8);
        close(no_writer.w);
        no_reader = make_pipe(0, 0);
        close(no_reader.r);
        mixed = make_pipe(0, 0);
        CHECK(fcntl(mixed.r, F_SETFL, O_NONBLOCK) == 0 && fcntl(mixed.w, F_SETFD, FD_CLOEXEC) == 0,
              "fcntl: %m");
        kept = dup(mixed.w);
        test_ready();
        test_wait();
        /* break: put(&empty, 8, 1); */
        /* break: read(data.r, buf, 8); */
        /* break: fcntl(small.w, F_SETPIPE_SZ, 8192); */
        /* break: put(&packets, 8, 8); */
        /* break: fcntl(packets.w, F_SETFL, 0); */
        /* break: read(full.r, buf, 4096); */
        /* break: read(big_packets.r, buf, 3); */
        /* break: close(large.r); large = make_pipe(0, 1 << 20); put(&large, 1 << 20, 5); */
        /* break: fcntl(mixed.w, F_SETFL, O_NONBLOCK); */
        CHECK(fcntl(empty.w, F_GETPIPE_SZ) == 65536 && fcntl(small.r, F_GETPIPE_SZ) == 4096 &&
                      fcntl(large.w, F_GETPIPE_SZ) == 1 << 20,
              "capacities %d %d %d", fcntl(empty.w, F_GETPIPE_SZ), fcntl(small.r, F_GETPIPE_SZ),
              fcntl(large.w, F_GETPIPE_SZ));
        check_empty(&empty, "the empty pipe");
        put(&empty, 64, 10);
        get(&empty, 64, 10, "written afterwards");
        CHECK(fcntl(data.r, F_GETFD) == FD_CLOEXEC && fcntl(data.w, F_GETFD) == FD_CLOEXEC, "close-on-exec");
        get(&data, 1000, 1, "first write");
        get(&data, 5000, 2, "second write");
        check_empty(&data, "pipe with data");
        get(&small, 800, 3, "small pipe");
        check_empty(&small, "small pipe");
        get(&large, 1 << 20, 4, "large pipe");
        check_empty(&large, "large pipe");

        CHECK(fcntl(packets.r, F_GETFL) == packet_flags[0] && fcntl(packets.w, F_GETFL) == packet_flags[1],
              "O_DIRECT");
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                ssize_t n = read(packets.r, buf, sizeof(buf));

                CHECK(n == (ssize_t)sizes[i], "packet %zu has %zd bytes, not %zu", i, n, sizes[i]);
                for (ssize_t j = 0; j < n; j++)
                        CHECK(buf[j] == 'a' + (int)i, "packet %zu holds '%c'", i, buf[j]);
        }
        check_empty(&packets, "packets");
        CHECK(write(packets.w, "abc", 3) == 3 && write(packets.w, "de", 2) == 2 &&
                      read(packets.r, buf, 2) == 2 && read(packets.r, buf, 10) == 2 && buf[0] == 'd',
              "new packets");
        CHECK(write(big_packets.w, buf, 3) < 0 && errno == EAGAIN, "full of packets: takes more");
        for (int i = 0; i < 16; i++)
                CHECK(read(big_packets.r, buf, sizeof(buf)) == 3 && buf[0] == 'z', "packet %d", i);

        CHECK((fcntl(full.r, F_GETFL) & O_NONBLOCK) && (fcntl(full.w, F_GETFL) & O_NONBLOCK), "O_NONBLOCK");
        CHECK(write(full.w, buf, 1) < 0 && errno == EAGAIN, "the full pipe takes more");
        get(&full, 65536, 6, "full pipe");
        CHECK(write(full.w, buf, 1) == 1 && read(full.r, buf, 10) == 1, "full pipe, emptied: %m");
        CHECK(read(full.r, buf, 1) < 0 && errno == EAGAIN, "full pipe, emptied");
        {
                char want[8000];

                fill(want, sizeof(want), 7);
                CHECK(read(half.r, buf, sizeof(buf)) == 4997 && memcmp(buf, want + 3003, 4997) == 0,
                      "half read");
        }
        get(&no_writer, 64, 8, "without writers");
        CHECK(read(no_writer.r, buf, 1) == 0, "no end of file");
        CHECK(write(no_reader.w, buf, 1) < 0 && errno == EPIPE, "no EPIPE");
        CHECK((fcntl(mixed.r, F_GETFL) & O_NONBLOCK) && !(fcntl(mixed.w, F_GETFL) & O_NONBLOCK) &&
                      fcntl(mixed.w, F_GETFD) == FD_CLOEXEC && fcntl(mixed.r, F_GETFD) == 0 &&
                      fcntl(kept, F_GETFD) == 0,
              "flags of each end");
        CHECK(read(mixed.r, buf, 1) < 0 && errno == EAGAIN, "it has a writer");
        close(mixed.w);
        CHECK(read(mixed.r, buf, 1) < 0 && errno == EAGAIN, "it has another writer");
        close(kept);
        CHECK(read(mixed.r, buf, 1) == 0, "it has no writer any more");
        test_pass();
}
