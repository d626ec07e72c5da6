/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Extended attributes of deleted files and directories: the user's, an access control list, capabilities. */
#include "e2e.h"

#include <linux/capability.h>
#include <sys/xattr.h>

enum { LARGE = 900 };

/* An ACL: version 2, then tag, permissions, id of each entry. */
static const uint8_t acl[] = {
        2, 0,    0,    0,    1,    0,    6,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,    4,
        0, 0xe8, 3,    0,    0,    4,    0,    4, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
        4, 0,    0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff,
};

static void check(int fd, const char *name, const void *want, size_t size) {
        char got[LARGE + 1];
        ssize_t n = fgetxattr(fd, name, got, sizeof(got));

        CHECK(n == (ssize_t)size && memcmp(got, want, size) == 0, "%s: %zd bytes: %m", name, n);
}

int main(int argc, char **argv) {
        struct vfs_cap_data caps = { VFS_CAP_REVISION_2, { { 1 << CAP_NET_RAW, 0 } } };
        char large[LARGE];
        int file, dir;

        test_init(argc, argv);
        test_fill(large, sizeof(large), 7);
        file = SYS(open("file", O_RDWR | O_CREAT, 0640));
        SYS(mkdir("dir", 0700));
        dir = SYS(open("dir", O_RDONLY | O_DIRECTORY));
        if (fsetxattr(file, "user.large", large, sizeof(large), 0) < 0 && errno == EOPNOTSUPP)
                test_skip("no extended attributes in this filesystem");
        SYS(fsetxattr(file, "user.empty", "", 0, 0));
        SYS(fsetxattr(file, "system.posix_acl_access", acl, sizeof(acl), 0));
        SYS(fsetxattr(file, "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
        SYS(fsetxattr(dir, "trusted.dir", "of a directory", 14, 0));
        SYS(unlink("file"));
        SYS(rmdir("dir"));
        test_ready();
        test_wait();
        check(file, "user.large", large, sizeof(large));
        check(file, "user.empty", "", 0);
        check(file, "system.posix_acl_access", acl, sizeof(acl));
        check(file, "security.capability", &caps, XATTR_CAPS_SZ_2);
        check(dir, "trusted.dir", "of a directory", 14);
        test_pass();
}
