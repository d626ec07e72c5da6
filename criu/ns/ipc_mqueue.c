/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * POSIX message queues of an IPC namespace: the files of a file system that is mounted nowhere for the purpose
 * (fsopen(2), Linux 5.2), so also those that the mounts of nobody show are found.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cleanup.h"
#include "ns/ipc_internal.h"

/* The file system of the namespace that the calling thread is in. */
static int open_root(void) {
        _cleanup_close_ int context = fsopen("mqueue", FSOPEN_CLOEXEC), mount = -EBADF;
        int fd;

        if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        mount = fsmount(context, FSMOUNT_CLOEXEC, 0);
        if (mount < 0)
                return -errno;
        fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

void ipc_mqueue_look(struct blockers *b) {
        _cleanup_close_ int fd = open_root();
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *e;

        if (fd == -ENODEV)
                return; /* a kernel without them */
        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir)
                return blocker_add(b, "Run ckpt as root",
                                   "the POSIX message queues of the tree cannot be listed (%s)",
                                   strerror(fd < 0 ? -fd : errno));
        fd = -EBADF; /* the directory's */
        while ((e = readdir(dir)))
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        blocker_add(b,
                                    "Let the program remove it (mq_unlink) for the time of the checkpoint",
                                    "the POSIX message queue /%s in the IPC namespace of the tree cannot be "
                                    "checkpointed yet",
                                    e->d_name);
}
