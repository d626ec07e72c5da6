/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Shared anonymous memory: the same in parent, child and grandchild though mapped at different addresses, in
 * part, twice in one process, read-only, or only by two siblings; all of them write, all of them see. */
#include "e2e.h"

#define N 24

enum { WHOLE, MOVED, PARTIAL, READER, SIB1, SIB2, N_KIDS };

static struct gate ready, go[N_KIDS], done;
static char *shm, *siblings, *twice, *never;

static void step(int who) {
        gate_pass(&go[who], 1);
}

/* Round 1: everybody checks what was there. Round 2: each writes its page. Round 3: each sees the others'. */
static void in_rounds(int who, char *view, size_t first, size_t n, bool writes) {
        gate_open(&ready, 1);
        step(who);
        for (size_t i = 0; i < n; i++) {
                if ((first + i) % 2 == 0)
                        check_filled(view + i * PAGE, PAGE, first + i, "before the dump");
                else
                        check_zero(view + i * PAGE, PAGE, "untouched");
        }
        gate_open(&done, 1);
        step(who);
        if (writes)
                fill(view + ((size_t)who + 8 - first) * PAGE, PAGE, 200 + (uint64_t)who);
        gate_open(&done, 1);
        step(who);
        for (size_t w = WHOLE; w <= PARTIAL; w++)
                check_filled(view + (w + 8 - first) * PAGE, PAGE, 200 + w, "written by another");
        check_filled(view + (20 - first) * PAGE, PAGE, 299, "written by the root");
        gate_open(&done, 1);
        _exit(70 + who);
}

static void run_sibling(int who) {
        gate_open(&ready, 1);
        step(who);
        check_filled(siblings, PAGE, 600, "shared by siblings");
        gate_open(&done, 1);
        step(who);
        if (who == SIB1)
                fill(siblings + PAGE, PAGE, 601);
        gate_open(&done, 1);
        step(who);
        check_filled(siblings + PAGE, PAGE, 601, "written by a sibling");
        gate_open(&done, 1);
        _exit(70 + who);
}

static void run(int who) {
        char *moved, *room;

        switch (who) {
        case WHOLE: /* a grandchild does it */
                if (xfork() > 0) {
                        int st;

                        CHECK(wait(&st) > 0 && WIFEXITED(st), "wait: %m");
                        _exit(WEXITSTATUS(st));
                }
                in_rounds(who, shm, 0, N, true);
                break;
        case MOVED:
                room = mmap(NULL, 2 * N * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                CHECK(room != MAP_FAILED, "mmap: %m");
                moved = mremap(shm, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 3 * PAGE);
                CHECK(moved == room + 3 * PAGE, "mremap: %m");
                in_rounds(who, moved, 0, N, true);
                break;
        case PARTIAL:
                CHECK(munmap(shm, 7 * PAGE) == 0 && munmap(shm + 22 * PAGE, 2 * PAGE) == 0, "munmap: %m");
                in_rounds(who, shm + 7 * PAGE, 7, 15, true);
                break;
        case READER:
                CHECK(mprotect(shm, N * PAGE, PROT_READ) == 0, "mprotect: %m");
                in_rounds(who, shm, 0, N, false);
                break;
        default:
                run_sibling(who);
        }
}

static void round_for_all(void) {
        for (int i = 0; i < N_KIDS; i++)
                gate_open(&go[i], 1);
        gate_pass(&done, N_KIDS);
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&done);
        for (int i = 0; i < N_KIDS; i++)
                gate_init(&go[i]);
        shm = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        siblings = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        never = mmap(NULL, 4096 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shm != MAP_FAILED && siblings != MAP_FAILED && never != MAP_FAILED, "mmap: %m");
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        gate_pass(&ready, N_KIDS);
        for (size_t i = 0; i < N; i += 2)
                fill(shm + i * PAGE, PAGE, i);
        fill(siblings, PAGE, 600);
        CHECK(munmap(siblings, 4 * PAGE) == 0, "munmap: %m");
        twice = mremap(shm, 0, N * PAGE, MREMAP_MAYMOVE);
        CHECK(twice != MAP_FAILED && twice != shm, "map it twice: %m");
        test_ready();
        test_wait();
        /* break: shm[PAGE * 3] = 1; */
        /* break: fill(shm + PAGE * 2, PAGE, 0); */
        /* break: mmap(shm, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        /* break: never[PAGE * 4000] = 1; */
        check_filled(shm + 2 * PAGE, PAGE, 2, "the root's view");
        check_filled(twice + 2 * PAGE, PAGE, 2, "the root's second view");
        round_for_all();
        fill(twice + 20 * PAGE, PAGE, 299);
        round_for_all();
        for (size_t w = WHOLE; w <= PARTIAL; w++) {
                check_filled(shm + (w + 8) * PAGE, PAGE, 200 + w, "written by a child");
                check_filled(twice + (w + 8) * PAGE, PAGE, 200 + w, "written by a child, second view");
        }
        check_zero(never, 4096 * PAGE, "never touched");
        round_for_all();
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 70 + i);
        test_pass();
}
