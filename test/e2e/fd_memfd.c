/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 ignore=fd.10 */
/* memfds: names, seals, owner and permissions, several descriptions of one (one of them read-only), offsets, holes, a
 * size that is no multiple of a page, a lock; shared with a child by inheritance and with another by SCM_RIGHTS. */
#include "e2e.h"

#include <sys/file.h>
#include <sys/socket.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

enum { ODD = 3 * 4096 + 123, HOLE = 64 << 20 };

static struct gate ready, go, done;

static int make(const char *name, unsigned int flags, size_t size, uint64_t seed) {
        int fd = SYS(memfd_create(name, flags));
        char *data = malloc(size + 8);

        CHECK(data, "malloc");
        fill(data, (size + 7) & ~(size_t)7, seed);
        CHECK(write(fd, data, size) == (ssize_t)size, "write: %m");
        free(data);
        return fd;
}

static void check_content(int fd, size_t size, uint64_t seed, const char *what) {
        char *got = malloc(size + 8), *want = malloc(size + 8);
        struct stat st;

        SYS(fstat(fd, &st));
        CHECK(st.st_size == (off_t)size, "%s has %lld bytes", what, (long long)st.st_size);
        CHECK(got && want && pread(fd, got, size + 1, 0) == (ssize_t)size, "read %s: %m", what);
        fill(want, (size + 7) & ~(size_t)7, seed);
        CHECK(memcmp(got, want, size) == 0, "the content of %s", what);
        free(got);
        free(want);
}

static int reopen(int fd, int flags) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return SYS(open(path, flags));
}

static void check_name(int fd, const char *want) {
        char path[32], link[300], full[320];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, link, sizeof(link) - 1);
        CHECK(n > 0, "readlink: %m");
        link[n] = 0;
        snprintf(full, sizeof(full), "/memfd:%s (deleted)", want);
        CHECK(strcmp(link, full) == 0, "fd %d is %s, not %s", fd, link, full);
}

static void check_sealed(int fd, int seals, const char *what) {
        int got = fcntl(fd, F_GET_SEALS);

        CHECK(got == seals, "%s has the seals %#x, not %#x", what, (unsigned)got, (unsigned)seals);
}

static void send_fd(int sock, int fd) {
        char byte = 'x', control[CMSG_SPACE(sizeof(fd))] = { 0 };
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        CHECK(sendmsg(sock, &msg, 0) == 1, "sendmsg: %m");
}

static int receive_fd(int sock) {
        char byte, control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        int fd;

        CHECK(recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg), "recvmsg: %m");
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
        return fd;
}

/* Has `inherited` from its parent and gets the other one by a socket, which is closed again. */
static void run_child(int sock, int inherited) {
        int received = receive_fd(sock);

        close(sock);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(lseek(inherited, 0, SEEK_CUR) == 777, "its offset is %lld",
              (long long)lseek(inherited, 0, SEEK_CUR));
        CHECK(lseek(inherited, 888, SEEK_SET) == 888, "lseek: %m");
        CHECK(lseek(received, 0, SEEK_CUR) == 4096, "the offset of what was received");
        CHECK(pwrite(received, "from the child", 14, 8192) == 14, "write: %m");
        gate_open(&done, 1);
        _exit(5);
}

int main(int argc, char **argv) {
        int plain, again, read_only, append, path_only, odd, sparse, sealed, future, noexec, no_seals, empty,
                pair[2];
        const int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        char long_name[250], buf[32], *kept;
        struct stat st;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        memset(long_name, 'n', 249);
        long_name[249] = 0;

        plain = make("plain", MFD_ALLOW_SEALING, 100000, 1);
        again = reopen(plain, O_RDWR | O_NONBLOCK);
        read_only = reopen(plain, O_RDONLY | O_CLOEXEC);
        append = reopen(plain, O_WRONLY | O_APPEND);
        path_only = reopen(plain, O_PATH);
        SYS(lseek(plain, 777, SEEK_SET));
        SYS(lseek(again, 4096, SEEK_SET));
        SYS(fchown(plain, 1234, 4321));
        SYS(fchmod(plain, 04640));
        SYS(flock(again, LOCK_EX));

        odd = make("odd (deleted)", MFD_CLOEXEC, ODD, 2);
        empty = make("", 0, 0, 0);
        sparse = make(long_name, MFD_ALLOW_SEALING, 0, 0);
        SYS(ftruncate(sparse, HOLE));
        CHECK(pwrite(sparse, "middle", 6, HOLE / 2 + 5) == 6, "pwrite: %m");
        SYS(fcntl(sparse, F_ADD_SEALS, F_SEAL_SHRINK));
        sealed = make("sealed", MFD_ALLOW_SEALING, 9000, 3);
        SYS(fcntl(sealed, F_ADD_SEALS, all));
        future = make("future", MFD_ALLOW_SEALING, 2 * PAGE, 4);
        kept = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
        CHECK(kept != MAP_FAILED, "mmap: %m");
        SYS(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW));
        no_seals = make("no\nseals", 0, 10, 5);
        check_sealed(no_seals, F_SEAL_SEAL, "one without sealing");
        noexec = memfd_create("noexec", MFD_NOEXEC_SEAL);
        CHECK(noexec >= 0 || errno == EINVAL, "memfd_create: %m");

        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        kid = xfork();
        if (kid == 0) {
                close(pair[0]);
                close(again);
                run_child(pair[1], plain);
        }
        send_fd(pair[0], again);
        gate_pass(&ready, 1);
        close(pair[0]);
        close(pair[1]);
        test_ready();
        test_wait();
        /* break: pwrite(plain, "x", 1, 5); */
        /* break: lseek(plain, 0, SEEK_SET); */
        /* break: fcntl(plain, F_ADD_SEALS, F_SEAL_GROW); */
        /* break: close(sealed); sealed = memfd_create("sealed", 0); */
        /* break: plain = reopen(plain, O_RDWR); */
        check_content(plain, 100000, 1, "plain");
        check_name(plain, "plain");
        check_name(odd, "odd (deleted)");
        check_name(no_seals, "no\nseals");
        check_name(empty, "");
        check_name(sparse, long_name);
        SYS(fstat(plain, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 4321 && (st.st_mode & 07777) == 04640 && st.st_nlink == 0,
              "owner %d:%d, mode %o", st.st_uid, st.st_gid, st.st_mode);
        CHECK(lseek(plain, 0, SEEK_CUR) == 777, "offset of plain");
        CHECK(lseek(again, 0, SEEK_CUR) == 4096, "offset of again");
        CHECK(write(read_only, "x", 1) < 0 && errno == EBADF, "write to a read-only one: %m");
        CHECK(read(path_only, buf, 1) < 0 && errno == EBADF, "read from an O_PATH one: %m");
        CHECK(flock(plain, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK, "the lock is gone");
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 5);
        CHECK(lseek(plain, 0, SEEK_CUR) == 888, "the child moved the shared offset to %lld",
              (long long)lseek(plain, 0, SEEK_CUR));
        CHECK(pread(read_only, buf, 14, 8192) == 14 && memcmp(buf, "from the child", 14) == 0,
              "what the child wrote");
        CHECK(write(append, "tail", 4) == 4, "write: %m");
        SYS(fstat(plain, &st));
        CHECK(st.st_size == 100004, "appended to %lld", (long long)st.st_size);

        check_content(odd, ODD, 2, "odd");
        check_sealed(plain, 0, "plain");
        SYS(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
        CHECK(ftruncate(plain, 200000) < 0 && errno == EPERM, "growing a sealed one: %m");

        SYS(fstat(sparse, &st));
        CHECK(st.st_size == HOLE && st.st_blocks * 512 <= 2 << 20, "sparse: %lld bytes, %lld blocks",
              (long long)st.st_size, (long long)st.st_blocks);
        CHECK(pread(sparse, buf, 8, HOLE / 2 + 4) == 8 && memcmp(buf, "\0middle", 8) == 0,
              "what is in the middle");
        check_sealed(sparse, F_SEAL_SHRINK, "sparse");
        CHECK(ftruncate(sparse, 0) < 0 && errno == EPERM, "shrinking a sealed one: %m");
        SYS(ftruncate(sparse, HOLE + 1));

        check_content(sealed, 9000, 3, "sealed");
        check_sealed(sealed, all, "sealed");
        CHECK(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM, "writing to a sealed one: %m");
        CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK) < 0 && errno == EPERM, "one more seal: %m");
        check_sealed(future, F_SEAL_FUTURE_WRITE | F_SEAL_GROW, "future");
        CHECK(pwrite(future, "x", 1, 0) < 0 && errno == EPERM, "writing in the future: %m");
        CHECK(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED && errno == EPERM,
              "mapping it: %m");
        fill(kept, PAGE, 44);
        CHECK(pread(future, buf, 8, 0) == 8 && memcmp(buf, kept, 8) == 0,
              "written by what was mapped before");
        check_sealed(no_seals, F_SEAL_SEAL, "one without sealing");
        if (noexec >= 0) {
                check_sealed(noexec, F_SEAL_EXEC, "noexec");
                SYS(fstat(noexec, &st));
                CHECK((st.st_mode & 0777) == 0666, "noexec has the mode %o", st.st_mode);
                CHECK(fchmod(noexec, 0777) < 0 && errno == EPERM, "making it executable: %m");
        }
        check_fork();
        test_pass();
}
