/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The fields of the mm: arguments (also rewritten in place), environment, auxiliary vector, exe link, code and
 * data limits; in the root and in a child that runs another executable. */
#include "e2e.h"

#include <elf.h>
#include <sys/auxv.h>

/* start_code end_code start_stack, start_data end_data start_brk arg_start arg_end env_start env_end */
static const int fields[] = { 26, 27, 28, 45, 46, 47, 48, 49, 50, 51 };

struct mm {
        uint64_t field[ELEMENTS(fields)];
        char cmdline[4096], environ[16384], auxv[4096], exe[4096];
        ssize_t n_cmdline, n_environ, n_auxv, n_exe;
};

static struct mm before, after;

static void read_mm(struct mm *m) {
        for (size_t i = 0; i < ELEMENTS(fields); i++)
                m->field[i] = stat_u64(getpid(), fields[i]);
        m->n_cmdline = read_file("/proc/self/cmdline", m->cmdline, sizeof(m->cmdline));
        m->n_environ = read_file("/proc/self/environ", m->environ, sizeof(m->environ));
        m->n_auxv = read_file("/proc/self/auxv", m->auxv, sizeof(m->auxv));
        m->n_exe = readlink("/proc/self/exe", m->exe, sizeof(m->exe));
        CHECK(m->n_cmdline > 0 && m->n_environ >= 0 && m->n_auxv > 0 && m->n_exe > 0, "read /proc/self: %m");
}

static void check_mm(void) {
        read_mm(&after);
        for (size_t i = 0; i < ELEMENTS(fields); i++)
                CHECK(before.field[i] == after.field[i],
                      "field %d of /proc/self/stat: 0x%" PRIx64 ", not 0x%" PRIx64, fields[i],
                      after.field[i], before.field[i]);
        CHECK(before.n_cmdline == after.n_cmdline &&
                      !memcmp(before.cmdline, after.cmdline, sizeof(after.cmdline)),
              "command line: '%s', not '%s'", after.cmdline, before.cmdline);
        CHECK(before.n_environ == after.n_environ &&
                      !memcmp(before.environ, after.environ, sizeof(after.environ)),
              "environment: '%s'", after.environ);
        CHECK(before.n_auxv == after.n_auxv && !memcmp(before.auxv, after.auxv, sizeof(after.auxv)),
              "auxiliary vector");
        CHECK(before.n_exe == after.n_exe && !memcmp(before.exe, after.exe, sizeof(after.exe)), "exe: '%s'",
              after.exe);
        CHECK(getauxval(AT_PAGESZ) == PAGE, "AT_PAGESZ");
        CHECK(strcmp((const char *)getauxval(AT_EXECFN), "") != 0, "AT_EXECFN");
}

static void copy_self(const char *to) {
        char buf[65536];
        ssize_t n;
        int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);

        CHECK(in >= 0 && out >= 0, "copy the executable: %m");
        while ((n = read(in, buf, sizeof(buf))) > 0)
                CHECK(write(out, buf, (size_t)n) == n, "copy the executable: %m");
        close(in);
        close(out);
}

/* The child: argv is "child READ-FD WRITE-FD". */
static int run_child(char **argv) {
        struct gate go = { .r = atoi(argv[2]) };
        struct gate ready = { .w = atoi(argv[3]) };

        read_mm(&before);
        CHECK(strstr(before.exe, "mem_fields.copy"), "exe is '%s'", before.exe);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_mm();
        return 21;
}

int main(int argc, char **argv) {
        char fd_go[16], fd_ready[16], *args[] = { argv[0], (char *)"child", fd_go, fd_ready, NULL };
        struct gate ready, go;
        pid_t kid;

        if (argc == 4 && strcmp(argv[1], "child") == 0)
                return run_child(argv);
        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        snprintf(fd_go, sizeof(fd_go), "%d", go.r);
        snprintf(fd_ready, sizeof(fd_ready), "%d", ready.w);
        copy_self("mem_fields.copy");
        kid = xfork();
        if (kid == 0) {
                execv("./mem_fields.copy", args);
                CHECK(false, "exec: %m");
        }
        gate_pass(&ready, 1);
        /* What a program does that shows its state in ps. */
        argv[0][0] = '@';
        read_mm(&before);
        test_ready();
        test_wait();
        /* break: argv[0][0] = '#'; */
        /* break: before.field[5]++; */
        /* break: before.exe[3]++; */
        /* break: before.auxv[8]++; */
        check_mm();
        gate_open(&go, 1);
        xwait(kid, 21);
        CHECK(getenv("PATH") || before.n_environ == 0 || strchr(before.environ, '='), "environment");
        test_pass();
}
