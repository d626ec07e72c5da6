/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Small attributes: comm (with odd bytes), dumpable, child subreaper, parent-death signal (per thread, and it
 * comes), oom_score_adj, timer slack, transparent huge pages off, personality. */
#include "e2e.h"

#include <pthread.h>
#include <sys/personality.h>
#include <sys/utsname.h>

enum {
        ODD_NAME,
        NOT_DUMPABLE,
        SUBREAPER,
        DEATH_SIGNAL,
        OOM,
        SLACK,
        NO_THP,
        NO_RANDOM,
        READ_EXEC,
        UNAME26_,
        EMPTY_NAME,
        N_KIDS
};

struct attributes {
        char comm[16];
        int dumpable, subreaper, pdeathsig, oom, thp, personality;
        long slack;
};

static struct gate ready, go, gone;

static void get_attributes(struct attributes *a) {
        char text[64];

        memset(a, 0, sizeof(*a));
        CHECK(prctl(PR_GET_NAME, a->comm) == 0, "PR_GET_NAME: %m");
        a->dumpable = prctl(PR_GET_DUMPABLE);
        CHECK(prctl(PR_GET_CHILD_SUBREAPER, &a->subreaper) == 0, "PR_GET_CHILD_SUBREAPER: %m");
        CHECK(prctl(PR_GET_PDEATHSIG, &a->pdeathsig) == 0, "PR_GET_PDEATHSIG: %m");
        CHECK(read_file("/proc/self/oom_score_adj", text, sizeof(text)) > 0, "read oom_score_adj: %m");
        a->oom = atoi(text);
        a->thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
        a->personality = personality(0xffffffff);
        a->slack = prctl(PR_GET_TIMERSLACK);
}

static void setup(int which) {
        int fd;

        switch (which) {
        case ODD_NAME:
                CHECK(prctl(PR_SET_NAME, "a) S 1 \n(\xff\\ z") == 0, "PR_SET_NAME: %m");
                break;
        case EMPTY_NAME:
                CHECK(prctl(PR_SET_NAME, "") == 0, "PR_SET_NAME: %m");
                break;
        case NOT_DUMPABLE:
                CHECK(prctl(PR_SET_DUMPABLE, 0) == 0, "PR_SET_DUMPABLE: %m");
                break;
        case SUBREAPER:
                CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER: %m");
                break;
        case DEATH_SIGNAL:
                CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0, "PR_SET_PDEATHSIG: %m");
                break;
        case OOM:
                fd = open("/proc/self/oom_score_adj", O_WRONLY);
                CHECK(fd >= 0 && write(fd, "321", 3) == 3 && close(fd) == 0, "oom_score_adj: %m");
                break;
        case SLACK:
                CHECK(prctl(PR_SET_TIMERSLACK, 123456) == 0, "PR_SET_TIMERSLACK: %m");
                break;
        case NO_THP:
                CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0, "PR_SET_THP_DISABLE: %m");
                break;
        case NO_RANDOM:
                CHECK(personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT) >= 0, "personality: %m");
                break;
        case READ_EXEC:
                CHECK(personality(READ_IMPLIES_EXEC) >= 0, "personality: %m");
                break;
        default:
                CHECK(personality(UNAME26) >= 0, "personality: %m");
        }
}

static void run(int which) {
        struct attributes was, now;
        struct utsname u;
        struct vma v;
        void *p;

        setup(which);
        get_attributes(&was);
        p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        get_attributes(&now);
        CHECK(memcmp(was.comm, now.comm, 16) == 0, "child %d: name '%s'", which, now.comm);
        CHECK(was.dumpable == now.dumpable && was.subreaper == now.subreaper &&
                      was.pdeathsig == now.pdeathsig && was.oom == now.oom && was.thp == now.thp &&
                      was.slack == now.slack && was.personality == now.personality,
              "child %d: dumpable %d subreaper %d pdeathsig %d oom_score_adj %d thp_disable %d slack %ld personality 0x%x, "
              "was %d %d %d %d %d %ld 0x%x",
              which, now.dumpable, now.subreaper, now.pdeathsig, now.oom, now.thp, now.slack,
              (unsigned)now.personality, was.dumpable, was.subreaper, was.pdeathsig, was.oom, was.thp,
              was.slack, (unsigned)was.personality);
        /* What the personality does, now and only to what it should. */
        CHECK(find_vma(p, &v) && (strcmp(v.perms, "r-xp") == 0) == (which == READ_EXEC), "a mapping is %s",
              v.perms);
        CHECK(find_vma(&was, &v) && strcmp(v.perms, "rw-p") == 0, "the stack is %s", v.perms);
        p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED && find_vma(p, &v) && (strcmp(v.perms, "r-xp") == 0) == (which == READ_EXEC),
              "a new mapping is %s", v.perms);
        CHECK(uname(&u) == 0 && (strncmp(u.release, "2.6.", 4) == 0) == (which == UNAME26_), "release %s",
              u.release);
        _exit(20 + which);
}

/* A child whose only thread besides the leader has a parent-death signal of its own; its parent dies. */
static void *death_thread(void *arg) {
        struct timespec limit = { .tv_sec = 100 };
        int sig = 0;
        sigset_t set;

        CHECK(prctl(PR_SET_PDEATHSIG, SIGRTMIN + 5) == 0, "PR_SET_PDEATHSIG: %m");
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == SIGRTMIN + 5,
              "parent-death signal of the thread: %d", sig);
        gate_open(&gone, 1); /* the parent may die now */
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 5);
        CHECK(sigtimedwait(&set, NULL, &limit) == SIGRTMIN + 5, "the parent's death was not told: %m");
        return arg;
}

static void run_parent(void) {
        sigset_t block;
        pthread_t t;
        pid_t pid;

        sigemptyset(&block);
        sigaddset(&block, SIGRTMIN + 5);
        sigprocmask(SIG_BLOCK, &block, NULL);
        pid = xfork();
        if (pid == 0) {
                CHECK(pthread_create(&t, NULL, death_thread, NULL) == 0, "pthread_create");
                CHECK(pthread_join(t, NULL) == 0, "pthread_join");
                _exit(44);
        }
        gate_pass(&gone, 1);
        _exit(43);
}

int main(int argc, char **argv) {
        struct attributes was, now;
        pid_t kids[N_KIDS], parent;
        int st;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&gone);
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER: %m");
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        parent = xfork();
        if (parent == 0)
                run_parent();
        gate_pass(&ready, N_KIDS + 1);
        get_attributes(&was);
        test_ready();
        test_wait();
        /* break: prctl(PR_SET_NAME, "other"); */
        /* break: prctl(PR_SET_TIMERSLACK, 1); */
        /* break: prctl(PR_SET_DUMPABLE, 0); */
        /* break: kill(kids[READ_EXEC], SIGKILL); */
        get_attributes(&now);
        CHECK(memcmp(&was, &now, sizeof(was)) == 0, "the root's attributes changed");
        gate_open(&go, N_KIDS + 1);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 20 + i);
        xwait(parent, 43);
        CHECK(wait(&st) > 0 && WIFEXITED(st) && WEXITSTATUS(st) == 44, "the orphan ended with 0x%x",
              (unsigned)st);
        test_pass();
}
