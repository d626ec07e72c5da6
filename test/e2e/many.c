/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=120 */
/* More threads, or (with the argument "processes") processes, than one thread of ckpt traces: each in a read of its own,
 * with signal mask and registers of its own, which it compares when it is let on. */
#include "e2e.h"

#include <pthread.h>
#include <sys/wait.h>

#define N_SLEEPERS  100
#define N_PROCESSES 40
#define N_REGS      6 /* rbx rbp r12 r13 r14 r15 */

struct sleeper {
        int i, pipe[2];
        pthread_t t;
        uint64_t in[N_REGS], out[N_REGS];
        long result;
};

static struct sleeper sleepers[N_SLEEPERS];

static void __attribute__((noinline)) read_with(struct sleeper *s, char *byte) {
        register long rax __asm__("rax") = 0; /* read */
        register long rdi __asm__("rdi") = s->pipe[0];
        register char *rsi __asm__("rsi") = byte;
        register long rdx __asm__("rdx") = 1;
        register uint64_t *r8 __asm__("r8") = s->in;
        register uint64_t *r9 __asm__("r9") = s->out;

        __asm__ volatile("push %%rbx\n push %%rbp\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
                         "mov 0(%%r8), %%rbx\n mov 8(%%r8), %%rbp\n mov 16(%%r8), %%r12\n"
                         "mov 24(%%r8), %%r13\n mov 32(%%r8), %%r14\n mov 40(%%r8), %%r15\n"
                         "syscall\n"
                         "mov %%rbx, 0(%%r9)\n mov %%rbp, 8(%%r9)\n mov %%r12, 16(%%r9)\n"
                         "mov %%r13, 24(%%r9)\n mov %%r14, 32(%%r9)\n mov %%r15, 40(%%r9)\n"
                         "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbp\n pop %%rbx\n"
                         : "+r"(rax)
                         : "r"(rdi), "r"(rsi), "r"(rdx), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory", "cc");
        s->result = rax;
}

static void *sleep_once(void *arg) {
        struct sleeper *s = arg;
        sigset_t mask, now;
        char byte = 0;

        sigemptyset(&mask);
        sigaddset(&mask, SIGRTMIN + s->i % 20);
        sigaddset(&mask, SIGUSR1);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        read_with(s, &byte);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        CHECK(s->result == 1 && byte == (char)s->i, "sleeper %d: read %ld, byte %d", s->i, s->result, byte);
        CHECK(memcmp(s->in, s->out, sizeof(s->in)) == 0, "sleeper %d: other registers", s->i);
        for (int sig = 1; sig <= SIGRTMAX; sig++)
                CHECK(sigismember(&now, sig) == sigismember(&mask, sig), "sleeper %d: signal %d", s->i, sig);
        return NULL;
}

static void start(struct sleeper *s, bool process, pid_t *ret) {
        if (!process) {
                CHECK(pthread_create(&s->t, NULL, sleep_once, s) == 0, "pthread_create");
                return;
        }
        *ret = fork();
        CHECK(*ret >= 0, "fork");
        if (*ret > 0)
                return;
        for (int i = 0; i <= s->i; i++) {
                close(sleepers[i].pipe[1]);
                if (i < s->i)
                        close(sleepers[i].pipe[0]);
        }
        sleep_once(s);
        _exit(0);
}

static void finish(struct sleeper *s, bool process, pid_t pid) {
        char byte = (char)s->i;
        int status = 0;

        CHECK(write(s->pipe[1], &byte, 1) == 1, "write");
        if (!process) {
                CHECK(pthread_join(s->t, NULL) == 0, "pthread_join");
                return;
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == 0, "sleeper %d ended with %d", s->i, status);
}

int main(int argc, char **argv) {
        bool processes = argc > 1 && strcmp(argv[1], "processes") == 0;
        int n = processes ? N_PROCESSES : N_SLEEPERS;
        static pid_t pids[N_SLEEPERS];

        test_init(argc, argv);
        for (int i = 0; i < n; i++) {
                struct sleeper *s = &sleepers[i];

                s->i = i;
                for (int j = 0; j < N_REGS; j++)
                        s->in[j] = 0x0101010101010101ULL * (uint64_t)(i + 1) + (uint64_t)j;
                CHECK(pipe2(s->pipe, O_CLOEXEC) == 0, "pipe2");
                start(s, processes, &pids[i]);
        }
        test_ready();
        test_wait();
        /* break: sleepers[7].in[2]++; */
        for (int i = 0; i < n; i++)
                finish(&sleepers[i], processes, pids[i]);
        test_pass();
}
