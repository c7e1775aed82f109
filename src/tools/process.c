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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOLDER_GIVES_UP_MS 2000

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

/* gate_fd: a byte comes when the process is noted. When it is closed without one nobody would know
 * of what runs. */
_Noreturn static void exec_detached(const char *const *argv, int log_fd, int input_fd, int gate_fd)
{
    sigset_t none;
    char noted;
    ssize_t n;

    (void)setsid();
    do {
        n = read(gate_fd, &noted, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(125);
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

struct starting {
    int log;
    int input[2]; /* -1: there is none */
    int gate[2];
};

static void close_both(int fd[2])
{
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0)
            (void)close(fd[i]);
        fd[i] = -1;
    }
}

static loch_status open_starting(const struct loch_cluster *c, const char *name,
                                 const char *const *argv, const char *input, struct starting *s)
{
    char path[700];

    *s = (struct starting){-1, {-1, -1}, {-1, -1}};
    (void)snprintf(path, sizeof path, "%s/log/%s.log", c->dir, name);
    s->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (s->log < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    if (access(argv[0], X_OK) != 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s is missing: build it first", argv[0]);
    if (pipe2(s->gate, O_CLOEXEC) != 0 || (input != NULL && pipe2(s->input, O_CLOEXEC) != 0))
        return LOCH_FAIL(LOCH_E_IO, "cannot make a pipe: %s", strerror(errno));
    return LOCH_OK;
}

/* Noted, and given its credential, before it may do anything. */
static loch_status let_go(const struct loch_cluster *c, const char *name, const char *input,
                          const struct starting *s, pid_t child)
{
    LOCH_TRY(note_process(c, name, child));
    /* Credentials are far smaller than a pipe's buffer: this cannot block. */
    if (input != NULL && !loch_write_all(s->input[1], input, strlen(input)))
        return LOCH_FAIL(LOCH_E_IO, "cannot hand %s its credential", name);
    if (!loch_write_all(s->gate[1], "", 1))
        return LOCH_FAIL(LOCH_E_IO, "cannot let %s go on: %s", name, strerror(errno));
    return LOCH_OK;
}

static loch_status start_it(const struct loch_cluster *c, const char *name, const char *const *argv,
                            const char *input, pid_t *pid)
{
    struct starting s;
    loch_status st = open_starting(c, name, argv, input, &s);
    const pid_t child = loch_is_ok(st) ? fork() : -1;

    if (child == 0) {
        (void)close(s.gate[1]); /* else it would not see that we are gone */
        exec_detached(argv, s.log, s.input[0], s.gate[0]);
    }
    if (loch_is_ok(st))
        st = child > 0 ? let_go(c, name, input, &s, child)
                       : LOCH_FAIL(LOCH_E_IO, "cannot fork: %s", strerror(errno));
    if (loch_is_ok(st)) {
        *pid = child;
    } else if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    if (s.log >= 0)
        (void)close(s.log);
    close_both(s.input);
    close_both(s.gate);
    return st;
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

pid_t loch_process_holder(const char *dir)
{
    const uint64_t until = loch_now_ms() + HOLDER_GIVES_UP_MS;
    char path[700];
    char text[32] = "";
    bool held = true;

    (void)snprintf(path, sizeof path, "%s/daemon.pid", dir);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    /* One that has just ended may still be giving its memory back. */
    while (held && loch_now_ms() < until) {
        held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (held)
            loch_pause_ms(20);
    }
    const ssize_t n = held ? pread(fd, text, sizeof text - 1, 0) : 0;
    (void)close(fd);
    const long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (!held)
        return 0;
    return pid > 0 ? (pid_t)pid : -1;
}

loch_status loch_process_none(const char *name, const char *dir)
{
    const pid_t pid = loch_process_holder(dir);

    if (pid == 0)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "%s runs (pid %d, by %s/daemon.pid), though nobody noted its start: end it "
                     "(kill), then repeat this",
                     name, (int)pid, dir);
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
