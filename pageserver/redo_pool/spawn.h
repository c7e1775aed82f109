/* Starting a child from a thread that is not the loop's (which is all io/env.h serves).
 *
 * The child is made by vfork, because the pageserver's address space may be large; in it only raw
 * system calls run (glibc's setuid would signal this process's threads). The caller reaps it by its
 * pid.
 */
#ifndef LOCH_PAGESERVER_SPAWN_H
#define LOCH_PAGESERVER_SPAWN_H

#include "loch/base/status.h"

#include <sys/types.h>

#define LOCH_SPAWN_FDS 4

struct loch_spawn {
    const char *path;
    char *const *argv; /* NULL-ended */
    char *const *envp; /* NULL-ended */
    const char *cwd;
    int fds[LOCH_SPAWN_FDS]; /* become the child's 0, 1, 2, 3; -1: not open there */
    uid_t uid;               /* 0: as this process */
    gid_t gid;
};

/* The child starts with no signal blocked and default handlers. LOCH_E_UNAVAILABLE. A path that
 * cannot be executed shows as exit code 127. Any thread. */
LOCH_STATUS loch_spawn(const struct loch_spawn *plan, pid_t *out);

/* Waits for the child; its wait status as of waitpid(2). */
LOCH_STATUS loch_spawn_wait(pid_t pid, int *wait_status);

/* For a process that is root: the user that everything of PostgreSQL's runs as (NULL: postgres).
 * Others: uid and gid stay 0. LOCH_E_INVALID: no such user, or it is root. */
LOCH_STATUS loch_spawn_user(const char *name, uid_t *uid, gid_t *gid);

#endif
