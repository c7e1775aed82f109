/* Holds: processes of a local cluster. Invariant: a pid is only ever signalled when its start time
 * is the one noted at its start, so a recycled pid is never hit. */
#include "cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t loch_now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void loch_pause_ms(unsigned ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)nanosleep(&ts, NULL);
}

/* Field 22 of /proc/PID/stat (clock ticks since boot), 0 when there is no such process or it is a
 * zombie. Source: proc(5). */
static unsigned long long start_time(pid_t pid)
{
    char path[64];
    char text[1024];
    unsigned long long ticks = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    char *p = strrchr(text, ')'); /* the name may hold anything */
    if (p == NULL || p[1] == '\0' || p[2] == 'Z' || p[2] == 'X')
        return 0;
    p += 2;
    for (int field = 3; field < 22 && p != NULL; field++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    if (p != NULL)
        ticks = strtoull(p, NULL, 10);
    return ticks;
}

bool loch_process_alive(const struct loch_cluster *c, const char *name, pid_t *pid)
{
    char path[700];
    json_t *note = NULL;

    (void)snprintf(path, sizeof path, "%s/run/%s.json", c->dir, name);
    if (!loch_is_ok(loch_json_read(path, &note)))
        return false;
    pid_t noted = (pid_t)json_integer_value(json_object_get(note, "pid"));
    unsigned long long ticks =
        (unsigned long long)json_integer_value(json_object_get(note, "start_ticks"));
    json_decref(note);
    if (noted <= 0 || start_time(noted) != ticks || ticks == 0)
        return false;
    *pid = noted;
    return true;
}

_Noreturn static void exec_detached(const char *const *argv, int log_fd, int input_fd)
{
    sigset_t none;

    (void)setsid();
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
        _exit(126);
    /* dup2 onto itself would keep close-on-exec */
    if (input_fd >= 0 && (input_fd == 3 ? fcntl(3, F_SETFD, 0) : dup2(input_fd, 3)) < 0)
        _exit(126);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static loch_status note_process(const struct loch_cluster *c, const char *name, pid_t pid)
{
    char path[700];
    json_t *note =
        json_pack("{s:i, s:I}", "pid", (int)pid, "start_ticks", (json_int_t)start_time(pid));

    (void)snprintf(path, sizeof path, "%s/run/%s.json", c->dir, name);
    loch_status st = loch_json_write(path, note, 0600);
    json_decref(note);
    return st;
}

static loch_status start_it(const struct loch_cluster *c, const char *name, const char *const *argv,
                            const char *input, pid_t *pid)
{
    char path[700];
    int pipe_fd[2] = {-1, -1};

    (void)snprintf(path, sizeof path, "%s/log/%s.log", c->dir, name);
    int log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    if (access(argv[0], X_OK) != 0) {
        (void)close(log_fd);
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s is missing: build it first", argv[0]);
    }
    if (input != NULL && pipe2(pipe_fd, O_CLOEXEC) != 0) {
        (void)close(log_fd);
        return LOCH_FAIL(LOCH_E_IO, "cannot make a pipe: %s", strerror(errno));
    }
    pid_t child = fork();
    if (child == 0)
        exec_detached(argv, log_fd, pipe_fd[0]);
    (void)close(log_fd);
    if (input != NULL)
        (void)close(pipe_fd[0]);
    if (child < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot fork: %s", strerror(errno));
    if (input != NULL) {
        /* Credentials are far smaller than a pipe's buffer: this cannot block. */
        size_t len = strlen(input);
        ssize_t n = write(pipe_fd[1], input, len);
        (void)close(pipe_fd[1]);
        if (n != (ssize_t)len)
            return LOCH_FAIL(LOCH_E_IO, "cannot hand %s its credential", name);
    }
    *pid = child;
    return note_process(c, name, child);
}

loch_status loch_process_start(const struct loch_cluster *c, const char *name,
                               const char *const *argv, const char *input, pid_t *pid)
{
    char path[700];
    loch_status st = LOCH_OK;

    /* Two commands at once would start two, and know of one. */
    (void)snprintf(path, sizeof path, "%s/run/%s.lock", c->dir, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX) != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot lock %s: %s", path, strerror(errno));
    else if (!loch_process_alive(c, name, pid))
        st = start_it(c, name, argv, input, pid);
    (void)close(fd);
    return st;
}

loch_status loch_process_stop(const struct loch_cluster *c, const char *name, int signo,
                              int timeout_ms)
{
    uint64_t until = loch_now_ms() + (uint64_t)timeout_ms;
    pid_t pid;

    if (!loch_process_alive(c, name, &pid))
        return LOCH_OK;
    if (kill(pid, signo) != 0 && errno != ESRCH)
        return LOCH_FAIL(LOCH_E_IO, "cannot signal %s (pid %d): %s", name, (int)pid,
                         strerror(errno));
    while (loch_process_alive(c, name, &pid)) {
        if (loch_now_ms() > until)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s (pid %d) is still there after %d ms", name,
                             (int)pid, timeout_ms);
        loch_pause_ms(5);
    }
    return LOCH_OK;
}

const char *loch_log_tail(const struct loch_cluster *c, const char *name, char *out, size_t len)
{
    char path[700];

    out[0] = '\0';
    (void)snprintf(path, sizeof path, "%s/log/%s.log", c->dir, name);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return "(no log)";
    if (fseek(f, -(long)(len - 1), SEEK_END) != 0)
        rewind(f);
    size_t n = fread(out, 1, len - 1, f);
    (void)fclose(f);
    out[n] = '\0';
    /* Only the last line: it names the cause. */
    while (n > 0 && out[n - 1] == '\n')
        out[--n] = '\0';
    char *last = strrchr(out, '\n');
    return last ? last + 1 : out;
}
