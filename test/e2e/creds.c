/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Credentials, one kind per child: four different user and group ids, many groups, capability sets with ambient
 * and a reduced bounding set, securebits with their locks, no_new_privs; and they still bind. */
#include "e2e.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>

enum { IDS, GROUPS, CAPS, BOUNDING, SECUREBITS, NO_NEW_PRIVS, NOBODY, NO_CAPS, N_KIDS };

static struct gate ready, go;

static const char *const lines[] = { "Uid",    "Gid",    "Groups", "CapInh",    "CapPrm",
                                     "CapEff", "CapBnd", "CapAmb", "NoNewPrivs" };

struct creds {
        char text[ELEMENTS(lines)][256];
        int securebits, keepcaps;
};

static void get_creds(struct creds *c) {
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                status_text(getpid(), lines[i], c->text[i], sizeof(c->text[i]));
        c->securebits = prctl(PR_GET_SECUREBITS);
        c->keepcaps = prctl(PR_GET_KEEPCAPS);
}

static void set_caps(uint64_t eff, uint64_t prm, uint64_t inh) {
        struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct d[2] = {
                { (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
                { (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
        };

        CHECK(syscall(SYS_capset, &h, d) == 0, "capset: %m");
}

#define CAP(c) (1ULL << (c))

static void setup(int which) {
        const uint64_t some =
                CAP(CAP_CHOWN) | CAP(CAP_KILL) | CAP(CAP_SYS_ADMIN) | CAP(CAP_SETUID) | CAP(CAP_SYSLOG);
        gid_t groups[100];

        for (size_t i = 0; i < ELEMENTS(groups); i++)
                groups[i] = (gid_t)(70000 + i * 3);
        switch (which) {
        case IDS:
                CHECK(setresgid(2001, 2002, 2003) == 0 && setresuid(1001, 0, 1003) == 0, "setresuid: %m");
                setfsuid(1004);
                setfsgid(2004);
                break;
        case GROUPS:
                CHECK(setgroups(ELEMENTS(groups), groups) == 0, "setgroups: %m");
                break;
        case CAPS:
                set_caps(CAP(CAP_CHOWN), some, some);
                CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0,
                      "raise an ambient one: %m");
                break;
        case BOUNDING:
                CHECK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW) == 0 && prctl(PR_CAPBSET_DROP, CAP_SYS_TIME) == 0,
                      "drop: %m");
                break;
        case SECUREBITS:
                CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                                       SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS |
                                                       SECBIT_NO_CAP_AMBIENT_RAISE) == 0,
                      "securebits: %m");
                break;
        case NO_NEW_PRIVS:
                CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
                break;
        case NOBODY:
                CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                              setresuid(65534, 65534, 65534) == 0,
                      "become nobody: %m");
                break;
        default:
                set_caps(0, 0, 0);
        }
}

static void check_binding(int which) {
        int fd;

        switch (which) {
        case IDS:
                CHECK(setresuid((uid_t)-1, 1003, (uid_t)-1) == 0 && geteuid() == 1003,
                      "become the saved user: %m");
                CHECK(setresuid((uid_t)-1, 1002, (uid_t)-1) < 0 && errno == EPERM, "become any user");
                break;
        case GROUPS:
                CHECK(getgroups(0, NULL) == 100, "%d groups", getgroups(0, NULL));
                break;
        case CAPS:
                CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0) == 1, "the ambient one");
                CHECK(chroot(".") < 0 && errno == EPERM, "a capability that is not there");
                CHECK(chown("of-root", 1, 1) == 0, "a capability that is there: %m");
                break;
        case BOUNDING:
                CHECK(prctl(PR_CAPBSET_READ, CAP_NET_RAW) == 0 && prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1,
                      "bounding set");
                break;
        case SECUREBITS:
                CHECK(prctl(PR_SET_SECUREBITS, 0) < 0 && errno == EPERM, "a locked bit could be changed");
                break;
        case NO_NEW_PRIVS:
                CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0 && errno == EINVAL, "no_new_privs");
                break;
        case NOBODY:
                CHECK(setresuid(0, 0, 0) < 0 && errno == EPERM, "root again");
                fd = open("only-root", O_RDONLY);
                CHECK(fd < 0 && errno == EACCES, "root's file opens");
                break;
        default:
                CHECK(getuid() == 0 && chroot(".") < 0 && errno == EPERM, "a capability");
        }
}

static void run(int which) {
        struct creds was, now;

        setup(which);
        get_creds(&was);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        get_creds(&now);
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                CHECK(strcmp(was.text[i], now.text[i]) == 0, "child %d: %s was '%s', is '%s'", which,
                      lines[i], was.text[i], now.text[i]);
        CHECK(was.securebits == now.securebits && was.keepcaps == now.keepcaps,
              "child %d: securebits 0x%x, were 0x%x", which, (unsigned)now.securebits,
              (unsigned)was.securebits);
        check_binding(which);
        check_fork();
        _exit(20 + which);
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];
        int fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        CHECK((fd = open("of-root", O_CREAT | O_WRONLY, 0644)) >= 0 && close(fd) == 0, "create: %m");
        CHECK((fd = open("only-root", O_CREAT | O_WRONLY, 0600)) >= 0 && close(fd) == 0, "create: %m");
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        gate_pass(&ready, N_KIDS);
        test_ready();
        test_wait();
        /* break: unlink("of-root"); */
        /* break: kill(kids[NOBODY], SIGKILL); */
        gate_open(&go, N_KIDS);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 20 + i);
        test_pass();
}
