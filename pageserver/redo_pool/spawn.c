/* vfork, descriptors, credentials, exec. */
#include "redo_pool/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ABOVE 10 /* descriptors are moved here before they take their places */

/* Runs in the vfork child: raw calls only, no return. Handlers of the parent cannot run in it,
 * because every signal is blocked until all have been reset to their defaults. */
_Noreturn static void become_child(const struct loch_spawn *plan)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    int moved[LOCH_SPAWN_FDS];
    sigset_t none;
    bool ok = true;

    for (int i = 0; i < LOCH_SPAWN_FDS; i++) {
        moved[i] = plan->fds[i] < 0 ? -1 : fcntl(plan->fds[i], F_DUPFD, ABOVE);
        ok = ok && (plan->fds[i] < 0 || moved[i] >= 0);
    }
    for (int i = 0; i < LOCH_SPAWN_FDS; i++) {
        if (moved[i] >= 0)
            ok = ok && dup2(moved[i], i) == i;
        else
            (void)close(i);
    }
    (void)syscall(SYS_close_range, LOCH_SPAWN_FDS, ~0u, 0); /* what Loch opens closes on exec */
    ok = ok && syscall(SYS_setsid) >= 0;
    if (plan->uid != 0) {
        ok = ok && syscall(SYS_setgroups, 0, NULL) == 0;
        ok = ok && syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) == 0;
        ok = ok && syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) == 0;
    }
    ok = ok && chdir(plan->cwd) == 0;
    for (int signo = 1; signo < 32; signo++)
        if (signo != SIGKILL && signo != SIGSTOP)
            (void)sigaction(signo, &normal, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (ok)
        (void)execve(plan->path, plan->argv, plan->envp);
    _exit(127);
}

LOCH_STATUS loch_spawn(const struct loch_spawn *plan, pid_t *out)
{
    sigset_t all, before;
    pid_t pid;
    int error;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = vfork();
    if (pid == 0)
        become_child(plan);
    error = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot start %s: %s", plan->path, strerror(error));
    *out = pid;
    return LOCH_OK;
}

LOCH_STATUS loch_spawn_wait(pid_t pid, int *wait_status)
{
    for (;;) {
        if (waitpid(pid, wait_status, 0) == pid)
            return LOCH_OK;
        if (errno != EINTR)
            return LOCH_FAIL(LOCH_E_IO, "waitpid: %s", strerror(errno));
    }
}

LOCH_STATUS loch_spawn_user(const char *name, uid_t *uid, gid_t *gid)
{
    struct passwd found, *result = NULL;
    char names[4096];

    *uid = 0;
    *gid = 0;
    if (geteuid() != 0)
        return LOCH_OK;
    if (name == NULL)
        name = "postgres";
    if (getpwnam_r(name, &found, names, sizeof names, &result) != 0 || result == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "there is no user %s to run PostgreSQL as", name);
    if (found.pw_uid == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "PostgreSQL cannot run as root");
    *uid = found.pw_uid;
    *gid = found.pw_gid;
    return LOCH_OK;
}
