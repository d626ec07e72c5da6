/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Files of the kernel: its own and a child's in /proc, directories there (also as the working directory), sysctls, /sys,
 * offsets; namespaces of its own. What is read afterwards is what is true then. */
#include "e2e.h"

#include <dirent.h>
#include <sched.h>

static struct gate ready, go;

/* The line "KEY:\tVALUE" of a status file, read from its beginning. */
static long status_of(int fd, const char *key) {
        char buf[8192], *at;
        ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

        CHECK(n > 0, "read status: %m");
        buf[n] = 0;
        at = strstr(buf, key);
        CHECK(at, "no %s in %s", key, buf);
        return strtol(at + strlen(key) + 1, NULL, 10);
}

static size_t count_entries(DIR *dir) {
        size_t n = 0;

        rewinddir(dir);
        while (readdir(dir))
                n++;
        return n;
}

static void check_same_ns(int fd, const char *name) {
        char path[32];
        struct stat a, b;

        snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
        SYS(fstat(fd, &a));
        SYS(stat(path, &b));
        CHECK(a.st_dev == b.st_dev && a.st_ino == b.st_ino, "%s is another namespace", name);
}

int main(int argc, char **argv) {
        int status, kids, maps, sysctl, sys, oom, net, half, ns_net, ns_uts, ns_pid, fd;
        char path[64], buf[256], *page, want[64];
        DIR *fds, *tasks;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        kid = xfork();
        if (kid == 0) {
                SYS(chdir("/proc/self/task"));
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                snprintf(path, sizeof(path), "%d/status", getpid());
                CHECK(access(path, R_OK) == 0, "its working directory has not its own thread: %m");
                _exit(2);
        }
        gate_pass(&ready, 1);
        status = SYS(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
        CHECK(read(status, buf, 100) == 100, "read: %m");
        snprintf(path, sizeof(path), "/proc/%d/status", kid);
        kids = SYS(open(path, O_RDONLY));
        maps = SYS(open("/proc/self/maps", O_RDONLY));
        sysctl = SYS(open("/proc/sys/kernel/osrelease", O_RDONLY));
        CHECK(read(sysctl, buf, 3) == 3, "read: %m");
        sys = SYS(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY));
        oom = SYS(open("/proc/self/oom_score_adj", O_RDWR));
        net = SYS(open("/proc/net/tcp", O_RDONLY));
        half = SYS(open("/proc/self/limits", O_RDONLY));
        SYS(lseek(half, 10, SEEK_SET));
        fds = opendir("/proc/self/fd");
        tasks = opendir("/proc/thread-self/task/..");
        tasks = tasks ? tasks : opendir("/proc/self/task");
        CHECK(fds && tasks, "opendir: %m");
        ns_net = SYS(open("/proc/self/ns/net", O_RDONLY));
        ns_uts = SYS(open("/proc/self/ns/uts", O_RDONLY));
        ns_pid = SYS(open("/proc/self/ns/pid_for_children", O_RDONLY));
        test_ready();
        test_wait();
        /* break: lseek(status, 0, SEEK_SET); */
        /* break: dup2(sysctl, sys); */
        /* break: dup2(ns_uts, ns_net); */
        /* break: closedir(fds); fds = opendir("/"); */
        CHECK(lseek(status, 0, SEEK_CUR) == 100, "the offset of status is %lld",
              (long long)lseek(status, 0, SEEK_CUR));
        CHECK(status_of(status, "\nPid:") == getpid(), "its own status has another pid");
        CHECK(status_of(kids, "\nPid:") == kid, "the child's status has another pid");
        CHECK(lseek(sysctl, 0, SEEK_CUR) == 3, "the offset of a sysctl");
        CHECK(pread(sysctl, buf, sizeof(buf), 0) > 3 && buf[1] == '.', "a sysctl: %m");
        CHECK(read(sys, buf, sizeof(buf)) > 0 && memchr(buf, '[', 30), "a file in /sys: %m");
        CHECK(read(net, buf, 4) == 4 && memcmp(buf, "  sl", 4) == 0, "/proc/net/tcp: %m");
        CHECK(read(half, buf, 10) == 10 && lseek(half, 0, SEEK_CUR) == 20, "limits: %m");
        CHECK(pwrite(oom, "500", 3, 0) == 3, "write oom_score_adj: %m");
        CHECK(read_file("/proc/self/oom_score_adj", buf, sizeof(buf)) > 0 && strcmp(buf, "500\n") == 0,
              "it is %s", buf);
        /* What is mapped now is in its maps now. */
        page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED && mprotect(page, PAGE, PROT_EXEC) == 0, "mmap: %m");
        snprintf(want, sizeof(want), "%lx-", (unsigned long)page);
        {
                char *text = malloc(1 << 20);
                size_t n = 0;
                ssize_t r;

                while ((r = read(maps, text + n, (1 << 20) - 1 - n)) > 0)
                        n += (size_t)r;
                text[n] = 0;
                CHECK(strstr(text, want), "%s is not in its maps", want);
                free(text);
        }
        {
                size_t before = count_entries(fds);

                fd = SYS(open("/dev/null", O_RDONLY));
                CHECK(count_entries(fds) == before + 1, "/proc/self/fd is that of somebody else");
                snprintf(buf, sizeof(buf), "%d", fd);
                CHECK(readlinkat(dirfd(fds), buf, want, sizeof(want)) == 9, "/proc/self/fd/%d: %m", fd);
        }
        CHECK(count_entries(tasks) >= 3, "/proc/self/task");
        check_same_ns(ns_net, "net");
        check_same_ns(ns_uts, "uts");
        check_same_ns(ns_pid, "pid");
        CHECK(setns(ns_uts, CLONE_NEWUTS) == 0, "setns: %m");
        gate_open(&go, 1);
        xwait(kid, 2);
        test_pass();
}
