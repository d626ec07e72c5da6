/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Bound and connected sockets: paths (absolute, relative from where the program is no more, deleted, replaced, moved to
 * another name since), abstract names, owner and mode; listeners, connections over them between processes with their SO_PEERCRED, clients that wait to
 * be accepted; accepted sockets whose listener is closed.
 */
#include "e2e.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct gate ready, go;
static struct sockaddr_un a;
static socklen_t alen;
static char start[4096];

static void name_path(const char *path) {
        memset(&a, 0, sizeof(a));
        a.sun_family = AF_UNIX;
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        alen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static void name_abstract(const char *tag) {
        memset(&a, 0, sizeof(a));
        a.sun_family = AF_UNIX;
        alen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                           (size_t)snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s.%d.%s", tag,
                                            getpid(), start));
        if (alen > sizeof(a))
                alen = sizeof(a);
}

static int make(int type, bool bound, bool listens) {
        int fd = SYS(socket(AF_UNIX, type, 0));

        if (bound)
                SYS(bind(fd, (struct sockaddr *)&a, alen));
        if (listens)
                SYS(listen(fd, 5));
        return fd;
}

static int make_connected(int type) {
        int fd = make(type, false, false);

        SYS(connect(fd, (struct sockaddr *)&a, alen));
        return fd;
}

static void put(int fd, const char *text) {
        CHECK(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text), "send %s: %m", text);
}

static void get(int fd, const char *want) {
        char buf[200] = "";
        ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

        CHECK(n == (ssize_t)strlen(want) && memcmp(buf, want, (size_t)n) == 0,
              "got %zd bytes \"%s\", not \"%s\": %m", n, buf, want);
}

static void talk(int x, int y) {
        put(x, "there");
        get(y, "there");
        put(y, "and back");
        get(x, "and back");
}

static void check_name(int fd, const struct sockaddr_un *want, socklen_t want_len, bool peer) {
        struct sockaddr_un got;
        socklen_t len = sizeof(got);

        SYS((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&got, &len));
        CHECK(len == want_len && memcmp(&got, want, len) == 0,
              "fd %d: name of %u bytes \"%s\", not %u \"%s\"", fd, len, got.sun_path + !got.sun_path[0],
              want_len, want->sun_path + !want->sun_path[0]);
}

static void check_cred(int fd, pid_t pid, uid_t uid, gid_t gid) {
        struct ucred c = { 0 };
        socklen_t len = sizeof(c);

        SYS(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
        CHECK(c.pid == pid && c.uid == uid && c.gid == gid, "fd %d: pid %d uid %u gid %u, not %d %u %u", fd,
              c.pid, c.uid, c.gid, pid, uid, gid);
}

struct named {
        struct sockaddr_un a;
        socklen_t len;
        int fd, client, accepted, waiting[2];
};

static struct named path, relative, deleted, replaced, abstract, packets, gone, gone_abstract, closed, odd,
        moved, successor, moved_relative;
static pid_t kid;

static void set_up(struct named *n, int type) {
        n->a = a;
        n->len = alen;
        n->fd = make(type, true, true);
        n->client = make_connected(type);
        n->accepted = SYS(accept(n->fd, NULL, NULL));
        n->waiting[0] = make_connected(type);
        n->waiting[1] = make_connected(type);
        put(n->client, "early");
}

static void check_listener(struct named *n, int type, bool reachable) {
        struct sockaddr_un none = { .sun_family = AF_UNIX };
        int fd, more;

        check_name(n->fd, &n->a, n->len, false);
        check_name(n->accepted, &n->a, n->len, false);
        check_name(n->client, &n->a, n->len, true);
        check_name(n->client, &none, sizeof(sa_family_t), false);
        check_cred(n->client, getpid(), 0, 0);
        check_cred(n->accepted, getpid(), 0, 0);
        get(n->accepted, "early");
        talk(n->client, n->accepted);
        for (int i = 0; i < 2; i++) {
                put(n->waiting[i], i ? "second" : "first");
                fd = SYS(accept(n->fd, NULL, NULL));
                get(fd, i ? "second" : "first");
                check_name(fd, &n->a, n->len, false);
                talk(fd, n->waiting[i]);
                close(fd);
        }
        if (!reachable)
                return;
        a = n->a;
        alen = n->len;
        more = make_connected(type);
        fd = SYS(accept(n->fd, NULL, NULL));
        talk(more, fd);
        close(more);
        close(fd);
}

static void check_mode(const char *p, mode_t mode, uid_t uid, gid_t gid) {
        struct stat st;

        SYS(lstat(p, &st));
        CHECK(S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == mode && st.st_uid == uid && st.st_gid == gid,
              "%s: mode %o, %u:%u", p, st.st_mode, st.st_uid, st.st_gid);
}

/* The socket that has this path now. */
static void connects_to(const char *p, int type, int listener) {
        int more, fd;

        name_path(p);
        more = make_connected(type);
        fd = SYS(accept(listener, NULL, NULL));
        talk(more, fd);
        close(more);
        close(fd);
}

/* Another user connects, and stays. */
static int child(void) {
        int fd;

        SYS(setgid(2345));
        SYS(setuid(1234));
        a = path.a;
        alen = path.len;
        fd = make_connected(SOCK_STREAM);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_cred(fd, getppid(), 0, 0);
        get(fd, "to the child");
        put(fd, "to the parent");
        return 3;
}

int main(int argc, char **argv) {
        char text[4200];
        int from_kid, fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        CHECK(getcwd(start, sizeof(start)), "getcwd: %m");
        snprintf(text, sizeof(text), "%s/path.sock", start);
        CHECK(strlen(text) < sizeof(a.sun_path), "the directory's name is too long");
        umask(0);
        name_path(text);
        set_up(&path, SOCK_STREAM);
        SYS(chmod(text, 0767));
        SYS(chown(text, 12, 34));
        SYS(mkdir("below", 0755));
        SYS(mkdir("below/deeper", 0755));
        SYS(chdir("below"));
        name_path("./deeper/relative.sock");
        set_up(&relative, SOCK_STREAM);
        SYS(chdir(start));
        name_path("deleted.sock");
        set_up(&deleted, SOCK_STREAM);
        SYS(unlink("deleted.sock"));
        name_path("replaced.sock");
        set_up(&replaced, SOCK_STREAM);
        SYS(unlink("replaced.sock"));
        close(SYS(open("replaced.sock", O_CREAT | O_WRONLY, 0600)));
        /* As servers do that replace another: bound aside, and renamed; and the name is another's then. */
        snprintf(text, sizeof(text), "%s/moved.tmp", start);
        name_path(text);
        set_up(&moved, SOCK_STREAM);
        SYS(chmod(text, 0640));
        SYS(rename(text, "below/moved.sock"));
        set_up(&successor, SOCK_STREAM);
        name_path("moved_relative.tmp");
        set_up(&moved_relative, SOCK_SEQPACKET);
        SYS(rename("moved_relative.tmp", "moved_relative.sock"));
        name_abstract("stream");
        set_up(&abstract, SOCK_STREAM);
        name_path("packets.sock");
        set_up(&packets, SOCK_SEQPACKET);
        name_path("gone.sock");
        set_up(&gone, SOCK_STREAM);
        fd = SYS(accept(gone.fd, NULL, NULL));
        close(gone.fd);
        close(fd);
        name_abstract("gone");
        set_up(&gone_abstract, SOCK_STREAM);
        close(gone_abstract.fd);
        /* its client has closed */
        name_path("closed.sock");
        set_up(&closed, SOCK_STREAM);
        close(closed.client);
        /* bound, and nothing else; bound clients */
        name_path("odd.sock");
        odd.a = a;
        odd.len = alen;
        odd.fd = make(SOCK_STREAM, true, false);
        a = path.a;
        alen = path.len;
        SYS(connect(odd.fd, (struct sockaddr *)&a, alen));
        kid = xfork();
        if (kid == 0)
                _exit(child());
        gate_pass(&ready, 1);
        /* path: two of ours wait, then the bound one, then the child's */
        test_ready();
        test_wait();
        check_listener(&path, SOCK_STREAM, false);
        fd = SYS(accept(path.fd, NULL, NULL));
        check_name(fd, &odd.a, odd.len, true);
        talk(fd, odd.fd);
        from_kid = SYS(accept(path.fd, NULL, NULL));
        check_cred(from_kid, kid, 1234, 2345);
        put(from_kid, "to the child");
        gate_open(&go, 1);
        xwait(kid, 3);
        get(from_kid, "to the parent");
        check_mode(path.a.sun_path, 0767, 12, 34);
        SYS(chdir("below"));
        check_listener(&relative, SOCK_STREAM, true);
        SYS(chdir(start));
        check_mode("below/deeper/relative.sock", 0777, 0, 0);
        check_listener(&deleted, SOCK_STREAM, false);
        CHECK(access("deleted.sock", F_OK) < 0, "deleted.sock is there");
        check_listener(&replaced, SOCK_STREAM, false);
        {
                struct stat st;

                SYS(stat("replaced.sock", &st));
                CHECK(S_ISREG(st.st_mode), "replaced.sock is no file");
        }
        check_mode("below/moved.sock", 0640, 0, 0);
        check_listener(&moved, SOCK_STREAM, false);
        connects_to("below/moved.sock", SOCK_STREAM, moved.fd);
        check_listener(&successor, SOCK_STREAM, true);
        check_listener(&moved_relative, SOCK_SEQPACKET, false);
        connects_to("moved_relative.sock", SOCK_SEQPACKET, moved_relative.fd);
        CHECK(access("moved_relative.tmp", F_OK) < 0, "moved_relative.tmp is there");
        check_listener(&abstract, SOCK_STREAM, true);
        check_listener(&packets, SOCK_SEQPACKET, true);
        check_name(gone.accepted, &gone.a, gone.len, false);
        check_name(gone.client, &gone.a, gone.len, true);
        get(gone.accepted, "early");
        talk(gone.client, gone.accepted);
        check_mode("gone.sock", 0777, 0, 0);
        check_name(gone_abstract.accepted, &gone_abstract.a, gone_abstract.len, false);
        get(gone_abstract.accepted, "early");
        talk(gone_abstract.client, gone_abstract.accepted);
        fd = SYS(accept(closed.fd, NULL, NULL));
        talk(fd, closed.waiting[0]);
        get(closed.accepted, "early");
        get(closed.accepted, "");
        check_name(closed.accepted, &closed.a, closed.len, false);
        test_pass();
}
