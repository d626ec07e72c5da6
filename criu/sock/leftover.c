/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/leftover.h"

#include <errno.h>
#include <unistd.h>

#include "cleanup.h"
#include "sock/lock.h"

static bool wants_removal(FILE *out) {
        char answer[16] = "";

        if (!isatty(STDIN_FILENO) || !isatty(fileno(out)))
                return false;
        fprintf(out, "  Remove it now? [y/N] ");
        fflush(out);
        return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* The legacy iptables have no single command for it; as one transaction, with the counters of all other rules. */
static void show_commands(FILE *out, const struct netlock_found *lock) {
        if (lock->nft)
                fprintf(out, " nft delete table inet %s\n", lock->name);
        for (int i = 0; i < 2; i++)
                if (lock->xt[i])
                        fprintf(out,
                                "    ip%stables-legacy-save -c -t mangle | grep -v %s | "
                                "ip%stables-legacy-restore -c -T mangle\n",
                                i ? "6" : "", lock->name, i ? "6" : "");
}

static void show(FILE *out, const struct netlock_found *lock) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_close_ int fd = -EBADF;

        if (lock->owner > 0) {
                fprintf(out, "Network lock %s: pid %d works with it (%s)\n", lock->name, lock->owner,
                        lock->note);
                return;
        }
        fprintf(out, "Network lock %s: left by a %s\n", lock->name,
                lock->note[0] ? lock->note : "run of ckpt");
        fprintf(out,
                "  It holds back the TCP connections of a checkpoint until that is restored, which removes it.\n"
                "  If it never will be, remove it with:%s",
                lock->nft ? "" : "\n");
        show_commands(out, lock);
        if (!wants_removal(out))
                return;
        if (netlock_remove(&fd, lock->name, &err) < 0)
                fprintf(out, "  %s\n", ckpt_error_message(&err));
        else
                fprintf(out, "  Removed.\n");
}

void sock_show_leftovers(FILE *out) {
        _cleanup_(netlock_found_vec_done) struct netlock_found_vec locks = { 0 };
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (netlock_list(&locks, &err) < 0)
                return;
        for (size_t i = 0; i < locks.n; i++)
                show(out, &locks.v[i]);
}
