/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The root process itself, and with it the whole tree, in a chroot; descriptors from outside stay usable. */
#include "e2e.h"

int main(int argc, char **argv) {
        struct ready_helper helper;
        struct gate go, ready;
        char path[64], text[4096];
        int outside;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        outside = make_file(path, "outside", "from outside", 12);
        CHECK(mkdir("jail", 0755) == 0 && mkdir("jail/dir", 0755) == 0 && mkdir("jail/inside", 0755) == 0,
              "mkdir: %m");
        ready_start(&helper);
        CHECK(chroot("jail") == 0 && chdir("/dir") == 0, "chroot: %m");
        kid = xfork();
        if (kid == 0) {
                CHECK(chdir("/inside") == 0, "chdir: %m");
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(getcwd(text, sizeof(text)) && strcmp(text, "/inside") == 0, "working directory '%s'",
                      text);
                _exit(4);
        }
        gate_pass(&ready, 1);
        ready_go(&helper);
        test_wait();
        /* break: chdir("/"); */
        /* break: chroot("/dir"); */
        /* break: lseek(outside, 0, SEEK_SET); */
        CHECK(getcwd(text, sizeof(text)) && strcmp(text, "/dir") == 0, "working directory '%s'", text);
        CHECK(access("/inside", F_OK) == 0 && access("/proc", F_OK) < 0 && access("/../jail", F_OK) < 0,
              "the root");
        CHECK(lseek(outside, 0, SEEK_CUR) == 12 && pread(outside, text, 20, 0) == 12 &&
                      memcmp(text, "from outside", 12) == 0,
              "the file outside");
        gate_open(&go, 1);
        xwait(kid, 4);
        CHECK(mkdir("new", 0700) == 0 && access("/dir/new", F_OK) == 0 && rmdir("new") == 0, "mkdir: %m");
        test_pass();
}
