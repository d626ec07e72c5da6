/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "macro.h"

/* With SA_RESETHAND and the signal unblocked, raising it again ends the process as it asked for. */
static void say_and_die(int sig, const char *line, size_t len) {
        if (write(STDERR_FILENO, line, len) < 0) {
                /* Nobody is there to read it. */
        }
        raise(sig);
}

static void dump_interrupted(int sig) {
        static const char line[] =
                "ckpt: interrupted: the tree runs on as before, and no checkpoint was made\n";

        say_and_die(sig, line, sizeof(line) - 1);
}

static void restore_interrupted(int sig) {
        static const char line[] = "ckpt: interrupted: what had been restored is killed\n";

        say_and_die(sig, line, sizeof(line) - 1);
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static void install(void (*handler)(int)) {
        struct sigaction old, sa = { .sa_handler = handler, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER) };

        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                /* nohup(1) and shells without job control have them ignored. */
                if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
                        sigaction(signals[i], &sa, NULL);
        }
}

void interrupt_says_tree_runs_on(void) {
        install(dump_interrupted);
}

void interrupt_says_nothing_left(void) {
        install(restore_interrupted);
}

static void set_all(void (*handler)(int)) {
        struct sigaction old, sa = { .sa_handler = handler, .sa_flags = SA_RESTART };

        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
                        sigaction(signals[i], &sa, NULL);
}

static void hold(int sig) {
        (void)sig;
}

void interrupt_not_now(void) {
        set_all(hold);
}

void interrupt_over(void) {
        set_all(SIG_DFL);
}
