/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper libs=-lpthread timeout=60 */
/* Holds one or more kinds of state that cannot be checkpointed (yet): refuse KIND[,KIND...]. Afterwards each must
 * still work. Driven by refusals.py, which knows what the refusal has to name. */
#include "e2e.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>

struct kind {
        const char *name;
        void (*setup)(struct kind *k);
        void (*check)(struct kind *k);
        long arg;
        int fd[2];
        void *mem;
        pid_t kid;
};

#define NEWTIME 0x80 /* CLONE_NEWTIME, not in every libc */

static struct gate ready, go;

#define NEED(cond)                                                                        \
        do {                                                                              \
                if (!(cond))                                                              \
                        test_skip("%s: not possible here: %s", k->name, strerror(errno)); \
        } while (0)

static void pass_byte(int from, int to) {
        char c = 0;

        CHECK(write(from, "b", 1) == 1 && read(to, &c, 1) == 1 && c == 'b', "pass a byte: %m");
}

static void setup_socketpair(struct kind *k) {
        NEED(socketpair(AF_UNIX, (int)k->arg, 0, k->fd) == 0);
}

static void check_pair(struct kind *k) {
        pass_byte(k->fd[0], k->fd[1]);
}

static void setup_inet(struct kind *k) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

        NEED((k->fd[0] = socket(AF_INET, (int)k->arg, 0)) >= 0);
        NEED(bind(k->fd[0], (struct sockaddr *)&a, sizeof(a)) == 0);
        if (k->arg == SOCK_STREAM)
                NEED(listen(k->fd[0], 5) == 0);
}

static void check_inet(struct kind *k) {
        struct sockaddr_in a;
        socklen_t len = sizeof(a);

        CHECK(getsockname(k->fd[0], (struct sockaddr *)&a, &len) == 0 && a.sin_port != 0, "getsockname: %m");
}

static void setup_netlink(struct kind *k) {
        NEED((k->fd[0] = socket(AF_NETLINK, SOCK_RAW, 0)) >= 0);
}

/* A member whose descriptor was closed, and whose file only a message in a socket's queue holds. */
static void setup_epoll_lost(struct kind *k) {
        union {
                char space[CMSG_SPACE(sizeof(int))];
                struct cmsghdr head;
        } control = { 0 };
        struct epoll_event ev = { .events = EPOLLIN };
        struct iovec iov = { "x", 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        int pair[2], ends[2];

        NEED((k->fd[0] = epoll_create1(EPOLL_CLOEXEC)) >= 0);
        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
        CHECK(epoll_ctl(k->fd[0], EPOLL_CTL_ADD, ends[0], &ev) == 0, "epoll_ctl: %m");
        control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.head), &ends[0], sizeof(int));
        CHECK(sendmsg(pair[0], &msg, 0) == 1, "sendmsg: %m");
        close(ends[0]);
        k->fd[1] = ends[1];
}

static void check_epoll_lost(struct kind *k) {
        struct epoll_event ev;

        CHECK(write(k->fd[1], "x", 1) == 1 && epoll_wait(k->fd[0], &ev, 1, 5000) == 1, "epoll_wait: %m");
}

static void setup_inotify_unread(struct kind *k) {
        NEED((k->fd[0] = inotify_init1(0)) >= 0);
        CHECK(mkdir("watched", 0700) == 0 && inotify_add_watch(k->fd[0], "watched", IN_CREATE) > 0,
              "watch: %m");
        CHECK(mkdir("watched/new", 0700) == 0, "mkdir: %m");
}

static void check_inotify_unread(struct kind *k) {
        char buf[4096];

        CHECK(read(k->fd[0], buf, sizeof(buf)) > 0, "inotify: %m");
}

static void setup_inotify_deleted(struct kind *k) {
        char path[64];

        k->fd[1] = make_file(path, "doomed", "gone", 4);
        NEED((k->fd[0] = inotify_init1(IN_NONBLOCK)) >= 0);
        CHECK(inotify_add_watch(k->fd[0], path, IN_MODIFY) > 0 && unlink(path) == 0, "watch: %m");
}

static void check_inotify_deleted(struct kind *k) {
        char buf[4096];

        CHECK(write(k->fd[1], "x", 1) == 1 && read(k->fd[0], buf, sizeof(buf)) > 0, "inotify: %m");
}

static void setup_fanotify(struct kind *k) {
        NEED((k->fd[0] = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY)) >= 0);
}

static void setup_pidfd(struct kind *k) {
        NEED((k->fd[0] = (int)syscall(SYS_pidfd_open, getppid(), 0)) >= 0);
}

static void check_pidfd(struct kind *k) {
        CHECK(syscall(SYS_pidfd_send_signal, k->fd[0], 0, NULL, 0) == 0, "pidfd_send_signal: %m");
}

static void setup_pty(struct kind *k) {
        NEED(openpty(&k->fd[0], &k->fd[1], NULL, NULL, NULL) == 0);
}

static void check_pty(struct kind *k) {
        char buf[8];

        CHECK(write(k->fd[1], "b", 1) == 1 && read(k->fd[0], buf, sizeof(buf)) == 1, "pty: %m");
}

static void check_deleted(struct kind *k) {
        char buf[8];

        CHECK(pread(k->fd[0], buf, 8, 0) == 4 && memcmp(buf, "gone", 4) == 0, "deleted file: %m");
}

/* Deleted, with another name; only with an option that makes links. */
static void setup_deleted_linked(struct kind *k) {
        char path[64];

        k->fd[0] = make_file(path, "deleted", "gone", 4);
        CHECK(link(path, "another name") == 0 && unlink(path) == 0, "link: %m");
}

/* More than the default of --ghost-limit. */
static void setup_deleted_large(struct kind *k) {
        static char much[2 << 20];
        char path[64];

        k->fd[0] = make_file(path, "large", "gone", 4);
        CHECK(pwrite(k->fd[0], much, sizeof(much), 4) == sizeof(much) && unlink(path) == 0, "write: %m");
}

static void check_deleted_large(struct kind *k) {
        char buf[8];

        CHECK(pread(k->fd[0], buf, 4, 0) == 4 && memcmp(buf, "gone", 4) == 0, "large deleted file: %m");
}

static void check_mapping(struct kind *k) {
        CHECK(memcmp(k->mem, "gone", 4) == 0, "mapping");
}

static void check_kid(struct kind *k) {
        gate_open(&go, 1);
        xwait(k->kid, 3);
}

static void setup_io_uring(struct kind *k) {
        struct io_uring_params p = { 0 };

        NEED((k->fd[0] = (int)syscall(SYS_io_uring_setup, 4, &p)) >= 0);
}

static void setup_aio(struct kind *k) {
        aio_context_t ctx = 0;

        NEED(syscall(SYS_io_setup, 8, &ctx) == 0);
        k->mem = (void *)(uintptr_t)ctx;
        k->kid = xfork();
        if (k->kid == 0) {
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                _exit(3);
        }
        gate_pass(&ready, 1);
}

static void check_aio(struct kind *k) {
        CHECK(syscall(SYS_io_destroy, k->mem) == 0, "io_destroy: %m");
        check_kid(k);
}

static void setup_userfaultfd(struct kind *k) {
        NEED((k->fd[0] = (int)syscall(SYS_userfaultfd, O_CLOEXEC)) >= 0);
}

static void setup_secret(struct kind *k) {
        NEED((k->fd[0] = (int)syscall(447 /* memfd_secret */, O_CLOEXEC)) >= 0 &&
             ftruncate(k->fd[0], 4096) == 0);
}

static void setup_perf(struct kind *k) {
        struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE,
                                     .size = sizeof(a),
                                     .config = PERF_COUNT_SW_CPU_CLOCK };

        NEED((k->fd[0] = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0)) >= 0);
}

static void setup_mqueue(struct kind *k) {
        char name[32];

        snprintf(name, sizeof(name), "/e2e.%d.%ld", getpid(), (long)now_ns(CLOCK_REALTIME));
        NEED((k->fd[0] = mq_open(name, O_RDWR | O_CREAT, 0600, NULL)) >= 0);
        mq_unlink(name);
}

static void setup_shm(struct kind *k) {
        int id = shmget(IPC_PRIVATE, PAGE, 0600);

        NEED(id >= 0 && (k->mem = shmat(id, NULL, 0)) != (void *)-1);
        shmctl(id, IPC_RMID, NULL);
        memcpy(k->mem, "gone", 4);
}

static void setup_device(struct kind *k) {
        NEED((k->fd[0] = open("/dev/kmsg", O_RDONLY | O_NONBLOCK)) >= 0);
}

static void setup_fdinfo(struct kind *k) {
        NEED((k->fd[0] = open("/proc/self/fdinfo/1", O_RDONLY)) >= 0);
}

static void setup_namespace(struct kind *k) {
        k->kid = xfork();
        if (k->kid == 0) {
                /* These two take effect for children only. */
                bool for_children = k->arg == CLONE_NEWPID || k->arg == NEWTIME;

                if (unshare((int)k->arg) < 0)
                        _exit(77);
                if (for_children) {
                        pid_t inner = xfork();

                        if (inner > 0) {
                                xwait(inner, 3);
                                _exit(3);
                        }
                }
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                _exit(3);
        }
        for (;;) {
                struct pollfd p = { .fd = ready.r, .events = POLLIN };

                if (poll(&p, 1, 1) == 1)
                        break;
                NEED(waitpid(k->kid, NULL, WNOHANG) == 0);
        }
        gate_pass(&ready, 1);
}

/* Only one thread of the process is in another namespace, and with LEADER_DEAD there is no other. */
enum { LEADER_DEAD = 1 };

static bool is_elsewhere(void) {
        struct stat mine, parents;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/ns/net", getppid());
        return stat("/proc/thread-self/ns/net", &mine) == 0 && stat(path, &parents) == 0 &&
               mine.st_ino != parents.st_ino;
}

static void *thread_elsewhere(void *arg E2E_UNUSED) {
        if (unshare(CLONE_NEWNET) < 0)
                _exit(77);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        _exit(is_elsewhere() ? 3 : 4);
}

static void setup_thread_namespace(struct kind *k) {
        k->kid = xfork();
        if (k->kid == 0) {
                pthread_t other;

                CHECK(pthread_create(&other, NULL, thread_elsewhere, NULL) == 0, "pthread_create");
                if (k->arg == LEADER_DEAD)
                        pthread_exit(NULL);
                pthread_join(other, NULL);
        }
        gate_pass(&ready, 1);
        if (k->arg == LEADER_DEAD)
                WAIT_FOR(proc_state(k->kid) == 'Z', "leader of %d", k->kid);
}

static void setup_flock(struct kind *k) {
        char path[64];

        k->fd[0] = make_file(path, "locked", "gone", 4);
        CHECK(flock(k->fd[0], LOCK_EX) == 0, "flock: %m");
}

static void setup_lock(struct kind *k) {
        struct flock l = { .l_type = F_WRLCK, .l_len = 2 };
        char path[64];

        k->fd[0] = make_file(path, "locked", "gone", 4);
        CHECK(fcntl(k->fd[0], (int)k->arg, &l) == 0, "fcntl: %m");
}

/* Nobody else can have it. The path is found again: the lock is another open file's. */
static void check_locked(struct kind *k) {
        struct flock l = { .l_type = F_WRLCK, .l_len = 1 };
        pid_t pid = xfork();

        if (pid == 0) {
                char path[64];
                int fd;

                snprintf(path, sizeof(path), "locked.%d", getppid());
                fd = open(path, O_RDWR);
                CHECK(fd >= 0, "open %s: %m", path);
                if (k->setup == setup_flock)
                        CHECK(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK,
                              "the lock is not held");
                else
                        CHECK(fcntl(fd, F_SETLK, &l) < 0 && (errno == EAGAIN || errno == EACCES),
                              "the lock is not held");
                _exit(3);
        }
        xwait(pid, 3);
}

static void setup_lease(struct kind *k) {
        char path[64];

        k->fd[0] = make_file(path, "leased", "gone", 4);
        close(k->fd[0]);
        k->fd[0] = open(path, O_RDONLY);
        NEED(fcntl(k->fd[0], F_SETLEASE, F_RDLCK) == 0);
}

static void check_lease(struct kind *k) {
        CHECK(fcntl(k->fd[0], F_GETLEASE) == F_RDLCK, "lease: %m");
}

/* A child under a filter that lets it read, write and end. */
static void setup_seccomp(struct kind *k) {
        struct sock_filter f[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 6, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 5, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 4, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 3, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { ELEMENTS(f), f };

        k->kid = xfork();
        if (k->kid == 0) {
                CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
                CHECK(k->arg ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0
                             : prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0,
                      "seccomp: %m");
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                syscall(k->arg ? SYS_exit_group : SYS_exit, 3);
        }
        gate_pass(&ready, 1);
}

/* One child traces another. */
static void setup_traced(struct kind *k) {
        k->kid = xfork();
        if (k->kid == 0) {
                pid_t traced = xfork();

                if (traced == 0) {
                        gate_pass(&go, 1);
                        _exit(3);
                }
                CHECK(ptrace(PTRACE_SEIZE, traced, NULL, NULL) == 0, "ptrace: %m");
                gate_open(&ready, 1);
                xwait(traced, 3);
                _exit(3);
        }
        gate_pass(&ready, 1);
}

static void check_nothing(struct kind *k) {
        CHECK(fcntl(k->fd[0], F_GETFD) >= 0, "%s: %m", k->name);
}

static struct kind kinds[] = {
        { .name = "unix-stream", .setup = setup_socketpair, .check = check_pair, .arg = SOCK_STREAM },
        { .name = "unix-datagram", .setup = setup_socketpair, .check = check_pair, .arg = SOCK_DGRAM },
        { .name = "tcp", .setup = setup_inet, .check = check_inet, .arg = SOCK_STREAM },
        { .name = "udp", .setup = setup_inet, .check = check_inet, .arg = SOCK_DGRAM },
        { .name = "netlink", .setup = setup_netlink, .check = check_nothing },
        { .name = "epoll-lost", .setup = setup_epoll_lost, .check = check_epoll_lost },
        { .name = "inotify-unread", .setup = setup_inotify_unread, .check = check_inotify_unread },
        { .name = "inotify-deleted", .setup = setup_inotify_deleted, .check = check_inotify_deleted },
        { .name = "fanotify", .setup = setup_fanotify, .check = check_nothing },
        { .name = "pidfd-outside", .setup = setup_pidfd, .check = check_pidfd },
        { .name = "pty", .setup = setup_pty, .check = check_pty },
        { .name = "deleted-linked", .setup = setup_deleted_linked, .check = check_deleted },
        { .name = "deleted-large", .setup = setup_deleted_large, .check = check_deleted_large },
        { .name = "io_uring", .setup = setup_io_uring, .check = check_nothing },
        { .name = "aio-inherited", .setup = setup_aio, .check = check_aio },
        { .name = "userfaultfd", .setup = setup_userfaultfd, .check = check_nothing },
        { .name = "secret-memory", .setup = setup_secret, .check = check_nothing },
        { .name = "perf", .setup = setup_perf, .check = check_nothing },
        { .name = "mqueue", .setup = setup_mqueue, .check = check_nothing },
        { .name = "sysv-shm", .setup = setup_shm, .check = check_mapping },
        { .name = "device", .setup = setup_device, .check = check_nothing },
        { .name = "fdinfo", .setup = setup_fdinfo, .check = check_nothing },
        { .name = "mntns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWNS },
        { .name = "netns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWNET },
        { .name = "netns-thread", .setup = setup_thread_namespace, .check = check_kid },
        { .name = "netns-dead-leader",
          .setup = setup_thread_namespace,
          .check = check_kid,
          .arg = LEADER_DEAD },
        { .name = "utsns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWUTS },
        { .name = "ipcns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWIPC },
        { .name = "userns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWUSER },
        { .name = "pidns", .setup = setup_namespace, .check = check_kid, .arg = CLONE_NEWPID },
        { .name = "timens", .setup = setup_namespace, .check = check_kid, .arg = NEWTIME },
        { .name = "flock", .setup = setup_flock, .check = check_locked },
        { .name = "posix-lock", .setup = setup_lock, .check = check_locked, .arg = F_SETLK },
        { .name = "ofd-lock", .setup = setup_lock, .check = check_locked, .arg = F_OFD_SETLK },
        { .name = "lease", .setup = setup_lease, .check = check_lease },
        { .name = "seccomp", .setup = setup_seccomp, .check = check_kid, .arg = 1 },
        { .name = "seccomp-strict", .setup = setup_seccomp, .check = check_kid },
        { .name = "traced", .setup = setup_traced, .check = check_kid },
};

int main(int argc, char **argv) {
        struct kind *chosen[16];
        size_t n = 0;
        char *save = NULL;

        test_init(argc, argv);
        CHECK(argc == 2, "refuse KIND[,KIND...]");
        gate_init(&ready);
        gate_init(&go);
        for (char *name = strtok_r(argv[1], ",", &save); name; name = strtok_r(NULL, ",", &save)) {
                struct kind *k = NULL;

                for (size_t i = 0; i < ELEMENTS(kinds); i++)
                        if (strcmp(kinds[i].name, name) == 0)
                                k = &kinds[i];
                CHECK(k && n < ELEMENTS(chosen), "no kind %s", name);
                k->setup(k);
                chosen[n++] = k;
        }
        test_ready();
        test_wait();
        for (size_t i = 0; i < n; i++)
                chosen[i]->check(chosen[i]);
        test_pass();
}
