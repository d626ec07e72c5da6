/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* For look_races.py: directories, descriptors and names that change all the time. */
#include "e2e.h"

#include <sys/stat.h>

struct state {
        int x, y, z;
        bool odd;
};

static void round_trip(void *arg) {
        struct state *s = arg;

        SYS(chdir("a"));
        SYS(dup2(s->x, s->z));
        SYS(chdir("../b"));
        SYS(dup2(s->y, s->z));
        SYS(chdir(".."));
        close(s->z);
        s->z = SYS(open("a/x", O_RDONLY));
        close(s->z);
        s->z = SYS(open("b/y", O_RDONLY));
        SYS(rename(s->odd ? "moves" : "moved", s->odd ? "moved" : "moves"));
        s->odd = !s->odd;
}

int main(int argc, char **argv) {
        struct state s = { 0 };
        int moves;

        test_init(argc, argv);
        SYS(mkdir("a", 0755));
        SYS(mkdir("b", 0755));
        s.x = SYS(open("a/x", O_CREAT | O_RDWR, 0644));
        s.y = SYS(open("b/y", O_CREAT | O_RDWR, 0644));
        s.z = SYS(dup(s.x));
        moves = SYS(open("moved", O_CREAT | O_RDWR, 0644));
        test_ready();
        test_wait_busy(round_trip, &s);
        CHECK(write(moves, "m", 1) == 1, "write: %m");
        test_pass();
}
