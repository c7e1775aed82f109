/* Holds: watched descriptors and children.
 *
 * Invariants: a child starts with descriptors 0, 1, 2 and at most 3, default signals, and the ids
 * asked for; `exited` is called once; a signal never goes to a process that took over the pid
 * (pidfd).
 */
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- watched descriptors ---- */
struct real_watch {
    struct loch_watch base;
    struct real_owner owner;
    uv_poll_t poll;
    int events;
    void (*ready)(void *arg, int events);
    void *arg;
};

static void watch_free(uv_handle_t *handle)
{
    free(((struct real_owner *)handle->data)->self);
}

static void watch_end(void *self)
{
    struct real_watch *w = self;

    uv_close((uv_handle_t *)&w->poll, watch_free);
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
    struct real_watch *w = ((struct real_owner *)poll->data)->self;
    int got = 0;

    if (status < 0)
        got = w->events; /* the owner's read or write says what is wrong */
    if ((events & (UV_READABLE | UV_DISCONNECT)) != 0)
        got |= LOCH_READABLE;
    if ((events & UV_WRITABLE) != 0)
        got |= LOCH_WRITABLE;
    if ((got & w->events) != 0)
        w->ready(w->arg, got & w->events);
}

loch_status real_watch_change(struct loch_watch *watch, int events)
{
    struct real_watch *w = (struct real_watch *)watch;
    int rc = 0;

    w->events = events;
    int uv =
        (events & LOCH_READABLE ? UV_READABLE : 0) | (events & LOCH_WRITABLE ? UV_WRITABLE : 0);
    rc = uv == 0 ? uv_poll_stop(&w->poll) : uv_poll_start(&w->poll, uv, watch_ready);
    if (rc != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot watch a descriptor: %s", uv_strerror(rc));
    return LOCH_OK;
}

loch_status real_watch_fd(struct loch_env *env, int fd, int events, struct loch_watch **out,
                          void (*ready)(void *arg, int events), void *arg)
{
    struct real_watch *w = calloc(1, sizeof *w);

    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to watch a descriptor");
    *w = (struct real_watch){.base = {env}, .owner = {w, watch_end}, .ready = ready, .arg = arg};
    int rc = uv_poll_init(&real_env_of(env)->loop, &w->poll, fd);
    if (rc != 0) {
        free(w);
        return LOCH_FAIL(LOCH_E_IO, "cannot watch descriptor %d: %s", fd, uv_strerror(rc));
    }
    w->poll.data = &w->owner;
    loch_status st = real_watch_change(&w->base, events);
    if (!loch_is_ok(st)) {
        watch_end(w);
        return st;
    }
    *out = &w->base;
    return LOCH_OK;
}

void real_watch_stop(struct loch_watch *watch)
{
    watch_end(watch);
}

/* ---- children ---- */
struct real_child {
    struct loch_child base;
    struct real_owner owner;
    uv_poll_t poll; /* of pidfd: readable once it has exited */
    pid_t pid;
    int pidfd;
    void (*exited)(void *arg, int wait_status);
    void *arg;
};

static void child_free(uv_handle_t *handle)
{
    struct real_child *c = ((struct real_owner *)handle->data)->self;

    (void)close(c->pidfd);
    free(c);
}

/* At loch_env_real_destroy: the process itself goes on, or dies with its parent if so asked. */
static void child_end(void *self)
{
    struct real_child *c = self;

    uv_close((uv_handle_t *)&c->poll, child_free);
}

static void child_ready(uv_poll_t *poll, int status, int events)
{
    struct real_child *c = ((struct real_owner *)poll->data)->self;
    int wait_status = 0;

    (void)status;
    (void)events;
    pid_t got = waitpid(c->pid, &wait_status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR))
        return;
    if (got < 0)
        wait_status = 0xff00; /* someone else reaped it: as if it had exited with 255 */
    child_end(c);
    c->exited(c->arg, wait_status);
}

/* What the child does between fork and exec: async-signal-safe calls only. Returns on failure. */
struct child_plan {
    const struct loch_child_options *o;
    int fds[4]; /* become 0..3; -1: closed (3 only) */
    int report_fd;
    pid_t parent;
};

static int child_descriptors(const struct child_plan *plan)
{
    int high[5];

    /* Out of the way first, so that none overwrites another. */
    for (int i = 0; i < 5; i++) {
        int from = i < 4 ? plan->fds[i] : plan->report_fd;
        high[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 16);
        if (from >= 0 && high[i] < 0)
            return -1;
    }
    for (int i = 0; i < 4; i++)
        if (high[i] >= 0 && dup2(high[i], i) < 0)
            return -1;
    /* Everything else goes, but for the report, which exec closes. */
    unsigned first = high[3] >= 0 ? 4 : 3;
    if (dup3(high[4], (int)first, O_CLOEXEC) < 0)
        return -1;
    if (syscall(SYS_close_range, first + 1, ~0U, 0) != 0)
        for (int fd = (int)first + 1; fd < 4096; fd++)
            (void)close(fd);
    return (int)first;
}

static _Noreturn void child_main(const struct child_plan *plan)
{
    const struct loch_child_options *o = plan->o;
    union {
        const char *const *given;
        char *const *wanted;
    } argv = {o->argv}, env = {o->env};
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++)
        (void)signal(signo, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int report_fd = child_descriptors(plan);
    bool ok = report_fd >= 0;
    if (!ok)
        report_fd = plan->report_fd;
    if (ok && o->gid != 0)
        ok = setgroups(0, NULL) == 0 && setresgid(o->gid, o->gid, o->gid) == 0;
    if (ok && o->uid != 0)
        ok = setresuid(o->uid, o->uid, o->uid) == 0;
    if (ok && o->cwd != NULL)
        ok = chdir(o->cwd) == 0;
    /* After the ids: a change of ids clears it. The parent may have died just before. */
    if (ok && o->die_with_parent) {
        ok = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
        if (ok && getppid() != plan->parent)
            _exit(127);
    }
    if (ok && o->env != NULL)
        (void)execve(o->argv[0], argv.wanted, env.wanted);
    else if (ok)
        (void)execv(o->argv[0], argv.wanted);
    int err = errno;
    ssize_t n = write(report_fd, &err, sizeof err);
    (void)n;
    _exit(127);
}

/* 0 once the program runs in the child, else the errno that stopped it. */
static int exec_result(int fd)
{
    int err = 0;
    ssize_t n;

    do
        n = read(fd, &err, sizeof err);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof err ? err : 0;
}

static loch_status child_start(const struct loch_child_options *o, struct real_child *c)
{
    int report[2] = {-1, -1};
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t all;
    sigset_t before;

    if (null_fd < 0 || pipe2(report, O_CLOEXEC) != 0) {
        if (null_fd >= 0)
            (void)close(null_fd);
        return LOCH_FAIL(LOCH_E_IO, "cannot start %s: %s", o->argv[0], strerrordesc_np(errno));
    }
    struct child_plan plan = {.o = o,
                              .fds = {o->stdin_fd >= 0 ? o->stdin_fd : null_fd,
                                      o->stdout_fd >= 0 ? o->stdout_fd : STDOUT_FILENO,
                                      o->stderr_fd >= 0 ? o->stderr_fd : STDERR_FILENO, o->pass_fd},
                              .report_fd = report[1],
                              .parent = getpid()};
    /* No handler of the parent's may run in the child before its handlers are reset. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child_main(&plan);
    int err = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)close(null_fd);
    (void)close(report[1]);
    if (pid > 0)
        err = exec_result(report[0]);
    (void)close(report[0]);
    if (err != 0) {
        if (pid > 0)
            (void)waitpid(pid, NULL, 0);
        return LOCH_FAIL(LOCH_E_IO, "cannot start %s: %s", o->argv[0], strerrordesc_np(err));
    }
    c->pid = pid;
    c->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (c->pidfd < 0) {
        err = errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return LOCH_FAIL(LOCH_E_IO, "pidfd_open: %s", strerrordesc_np(err));
    }
    (void)fcntl(c->pidfd, F_SETFD, FD_CLOEXEC);
    return LOCH_OK;
}

loch_status real_spawn(struct loch_env *env, const struct loch_child_options *options,
                       struct loch_child **out, void (*exited)(void *arg, int wait_status),
                       void *arg)
{
    struct real_child *c = calloc(1, sizeof *c);

    if (c == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a child");
    LOCH_ASSERT(options->argv != NULL && options->argv[0] != NULL);
    *c = (struct real_child){.base = {env}, .owner = {c, child_end}, .exited = exited, .arg = arg};
    loch_status st = child_start(options, c);
    if (!loch_is_ok(st)) {
        free(c);
        return st;
    }
    LOCH_ASSERT(uv_poll_init(&real_env_of(env)->loop, &c->poll, c->pidfd) == 0);
    c->poll.data = &c->owner;
    LOCH_ASSERT(uv_poll_start(&c->poll, UV_READABLE, child_ready) == 0);
    *out = &c->base;
    return LOCH_OK;
}

pid_t real_child_pid(const struct loch_child *child)
{
    return ((const struct real_child *)child)->pid;
}

void real_child_kill(struct loch_child *child, int signo)
{
    struct real_child *c = (struct real_child *)child;

    (void)syscall(SYS_pidfd_send_signal, c->pidfd, signo, NULL, 0);
}
