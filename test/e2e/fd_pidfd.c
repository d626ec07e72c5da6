/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* pidfds: of this process, a child, the parent, a zombie; of one that is gone (two descriptors of the same, and one of
 * another), flags. */
#include "e2e.h"

#include <poll.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static int open_pidfd(pid_t pid, unsigned int flags) {
        return (int)SYS(syscall(SYS_pidfd_open, pid, flags));
}

static int send_signal(int fd, int sig) {
        return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0 ? -errno : 0;
}

static bool is_ended(int fd) {
        struct pollfd p = { fd, POLLIN, 0 };

        return poll(&p, 1, 0) == 1;
}

/* The pid that fdinfo shows. */
static long pid_of(int fd) {
        char path[64], text[512], *at;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        CHECK(read_file(path, text, sizeof(text)) > 0 && (at = strstr(text, "Pid:")), "no pid");
        return strtol(at + 4, NULL, 10);
}

static uint64_t inode_of(int fd) {
        struct stat st;

        SYS(fstat(fd, &st));
        return st.st_ino;
}

int main(int argc, char **argv) {
        int self, child, zombie, gone, gone_too, other, pending_kill;
        struct gate ready, go;
        pid_t kid, dead, gone_pid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        self = open_pidfd(getpid(), 0);
        kid = xfork();
        if (kid == 0) {
                int parent = open_pidfd(getppid(), 0);

                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(pid_of(parent) == getppid() && pid_of(self) == getppid(), "parent: pid %ld",
                      pid_of(parent));
                CHECK(send_signal(parent, 0) == 0 && !is_ended(parent), "parent: %m");
                _exit(9);
        }
        child = open_pidfd(kid, O_NONBLOCK);
        gate_pass(&ready, 1);
        dead = xfork();
        if (dead == 0)
                _exit(11);
        zombie = open_pidfd(dead, 0);
        CHECK(waitid(P_PID, (id_t)dead, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) == 0, "waitid: %m");
        gone_pid = xfork();
        if (gone_pid == 0)
                _exit(12);
        gone = open_pidfd(gone_pid, 0);
        gone_too = open_pidfd(gone_pid, O_NONBLOCK);
        xwait(gone_pid, 12);
        gone_pid = xfork();
        if (gone_pid == 0)
                raise(SIGKILL);
        other = open_pidfd(gone_pid, 0);
        waitpid(gone_pid, NULL, 0);
        pending_kill = SYS(fcntl(gone, F_DUPFD_CLOEXEC, 200));
        test_ready();
        test_wait();
        /* break: dup2(child, self); */
        /* break: dup2(gone, zombie); */
        /* break: dup2(zombie, gone_too); */
        /* break: fcntl(child, F_SETFL, 0); */
        /* break: dup2(gone, other); */
        CHECK(pid_of(self) == getpid() && !is_ended(self), "self: pid %ld", pid_of(self));
        CHECK(send_signal(self, 0) == 0, "self");
        CHECK((fcntl(child, F_GETFL) & O_NONBLOCK) && !(fcntl(self, F_GETFL) & O_NONBLOCK), "flags");
        CHECK(pid_of(child) == kid && !is_ended(child), "child: pid %ld", pid_of(child));
        CHECK(pid_of(zombie) == dead && is_ended(zombie), "zombie: pid %ld", pid_of(zombie));
        CHECK(pid_of(gone) == -1 && is_ended(gone) && send_signal(gone, 0) == -ESRCH, "gone: pid %ld",
              pid_of(gone));
        CHECK(pid_of(gone_too) == -1 && is_ended(gone_too), "gone too: pid %ld", pid_of(gone_too));
        CHECK(pid_of(other) == -1 && is_ended(other), "other: pid %ld", pid_of(other));
        CHECK(pid_of(pending_kill) == -1, "duplicate");
        /* With pidfs (6.9) the inode tells processes apart. */
        if (inode_of(self) != inode_of(child)) {
                CHECK(inode_of(gone) == inode_of(gone_too), "not the same process any more");
                CHECK(inode_of(gone) != inode_of(other), "the same process now");
        }
        gate_open(&go, 1);
        CHECK(poll(&(struct pollfd){ child, POLLIN, 0 }, 1, 30000) == 1, "the child's end is not seen");
        {
                siginfo_t si = { 0 };

                CHECK(waitid((idtype_t)3 /* P_PIDFD */, (id_t)child, &si, WEXITED) == 0 && si.si_status == 9,
                      "wait by pidfd");
                CHECK(waitid((idtype_t)3, (id_t)zombie, &si, WEXITED) == 0 && si.si_status == 11,
                      "wait for the zombie");
        }
        CHECK(pid_of(zombie) == -1 && pid_of(child) == -1, "they are gone now");
        test_pass();
}
