/* Starting, asking and ending one redo worker.
 *
 * The pool starts children itself, not through io/env.h, because reads block on pool threads and
 * must not wait for the loop. The child is made by vfork: the pageserver's address space may be
 * large. In it only raw system calls run (glibc's setuid would signal this process's threads).
 */
#include "redo_pool/redo_process.h"

#include "redo_pool/spawn.h"

#include "loch/base/log.h"
#include "loch/io/tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_TAIL_BYTES 500u

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the directory ---- */

static LOCH_STATUS write_small_file(const struct redo_launch *launch, const char *dir,
                                    const char *name, const void *bytes, size_t len)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    if (write(fd, bytes, len) != (ssize_t)len ||
        (launch->uid != 0 && fchown(fd, launch->uid, launch->gid) != 0)) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
        close(fd);
        return st;
    }
    close(fd);
    return LOCH_OK;
}

static LOCH_STATUS make_dir(const struct redo_launch *launch, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    if (launch->uid != 0 && chown(path, launch->uid, launch->gid) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    return LOCH_OK;
}

static LOCH_STATUS make_data_dir(const struct redo_launch *launch, char **out)
{
    char path[4096], global[4160];
    char *copy;

    snprintf(path, sizeof path, "%s/redo-XXXXXX", launch->scratch);
    if (mkdtemp(path) == NULL)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    copy = strdup(path);
    if (copy == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "redo worker's directory");
    *out = copy; /* from here on the caller removes it */
    snprintf(global, sizeof global, "%s/global", path);
    LOCH_TRY(make_dir(launch, path));
    LOCH_TRY(make_dir(launch, global));
    LOCH_TRY(write_small_file(launch, path, "PG_VERSION", "15\n", 3));
    LOCH_TRY(write_small_file(launch, path, "postgresql.conf", "", 0));
    LOCH_TRY(write_small_file(launch, path, "postgresql.auto.conf", "", 0));
    LOCH_TRY(write_small_file(launch, path, "worker.log", "", 0));
    return write_small_file(launch, path, "global/pg_control", launch->control,
                            sizeof launch->control);
}

/* The last words in a worker's log, on one line. */
static void log_tail(const char *dir, char *out, size_t size)
{
    char path[4096];
    ssize_t got = 0;
    struct stat st;
    int fd;

    out[0] = '\0';
    snprintf(path, sizeof path, "%s/worker.log", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0) {
        off_t from = st.st_size > (off_t)size - 1 ? st.st_size - ((off_t)size - 1) : 0;
        got = pread(fd, out, size - 1, from);
    }
    close(fd);
    if (got < 0)
        got = 0;
    out[got] = '\0';
    for (ssize_t i = 0; i < got; i++)
        if ((unsigned char)out[i] < ' ')
            out[i] = ' ';
}

/* ---- the child ---- */

static LOCH_STATUS spawn(const struct redo_launch *launch, struct redo_process *p, int socket_fd,
                         int log_fd, int null_fd)
{
    char preload[4200], fd_text[64], hints[64];
    char *argv[] = {launch->postgres, (char[]){"--single"},
                    (char[]){"-D"},   p->dir,
                    (char[]){"-c"},   preload,
                    (char[]){"x"},    NULL};
    char *envp[] = {(char[]){"LC_ALL=C"},
                    (char[]){"PATH=/usr/bin:/bin"},
                    (char[]){"TZ=UTC"},
                    fd_text,
                    hints,
                    NULL};
    struct loch_spawn plan = {.path = launch->postgres,
                              .argv = argv,
                              .envp = envp,
                              .cwd = p->dir,
                              .fds = {null_fd, null_fd, log_fd, socket_fd},
                              .uid = launch->uid,
                              .gid = launch->gid};

    static_assert(LOCH_REDO_FD == 3, "the socket's place in loch_spawn.fds");
    if (snprintf(preload, sizeof preload, "shared_preload_libraries=%s", launch->library) >=
        (int)sizeof preload)
        return LOCH_FAIL(LOCH_E_INVALID, "the library's path is too long");
    snprintf(fd_text, sizeof fd_text, "%s=%d", LOCH_REDO_ENV, LOCH_REDO_FD);
    snprintf(hints, sizeof hints, "%s=%d", LOCH_REDO_ENV_HINTS, launch->hint_lsn ? 1 : 0);
    return loch_spawn(&plan, &p->pid);
}

/* ---- socket ---- */

static enum redo_end wait_for(int fd, short events, uint64_t deadline)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd pfd = {.fd = fd, .events = events};
        int n;

        if (now >= deadline)
            return REDO_END_HUNG;
        n = poll(&pfd, 1, (int)(deadline - now));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return REDO_END_DIED;
        if (n > 0)
            return REDO_END_OK; /* an error shows at the next read or write */
    }
}

static enum redo_end send_all(int fd, struct loch_slice bytes, uint64_t deadline)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            bytes.data += n;
            bytes.len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return REDO_END_DIED;
        /* A worker that refused already has answered: that is read next, not waited for here. */
        enum redo_end end = wait_for(fd, POLLOUT | POLLIN, deadline);
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        if (end != REDO_END_OK)
            return end;
        if (poll(&readable, 1, 0) > 0)
            return REDO_END_OK;
    }
    return REDO_END_OK;
}

static enum redo_end receive_all(int fd, void *out, size_t len, uint64_t deadline)
{
    uint8_t *at = out;

    while (len > 0) {
        enum redo_end end = wait_for(fd, POLLIN, deadline);
        ssize_t n;

        if (end != REDO_END_OK)
            return end;
        n = recv(fd, at, len, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return REDO_END_DIED;
        at += n;
        len -= (size_t)n;
    }
    return REDO_END_OK;
}

enum redo_end redo_process_ask(struct redo_process *p, unsigned timeout_ms,
                               uint8_t page_out[static LOCH_PAGE_BYTES], struct redo_answer *answer)
{
    uint64_t deadline = now_ms() + timeout_ms;
    uint8_t head[LOCH_REDO_ANSWER_BYTES];
    uint32_t kind, len;
    enum redo_end end;

    memset(answer, 0, sizeof *answer);
    end = send_all(p->fd, loch_buf_slice(&p->request), deadline);
    if (end == REDO_END_HUNG)
        return end;
    /* Even when sending failed there may be an answer that says why. */
    end = receive_all(p->fd, head, sizeof head, deadline);
    if (end != REDO_END_OK)
        return end;
    kind = loch_get_u32(head);
    len = loch_get_u32(head + 4);
    answer->checked = loch_get_u32(head + 8);
    answer->differing = loch_get_u32(head + 12);
    answer->at = loch_get_u64(head + 16);
    if (kind == LOCH_REDO_DONE && len == LOCH_PAGE_BYTES)
        return receive_all(p->fd, page_out, LOCH_PAGE_BYTES, deadline);
    if (kind != LOCH_REDO_FAILED || len > LOCH_REDO_TEXT_MAX)
        return REDO_END_DIED; /* it no longer speaks the protocol */
    end = receive_all(p->fd, answer->text, len, deadline);
    return end == REDO_END_OK ? REDO_END_REFUSED : end;
}

/* ---- life ---- */

static LOCH_STATUS greet(struct redo_process *p, unsigned timeout_ms)
{
    uint8_t greeting[LOCH_REDO_GREETING_BYTES];
    char tail[LOG_TAIL_BYTES];

    if (receive_all(p->fd, greeting, sizeof greeting, now_ms() + timeout_ms) != REDO_END_OK) {
        log_tail(p->dir, tail, sizeof tail);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "a redo worker did not start: %s",
                         tail[0] != '\0' ? tail : "it left no log");
    }
    if (loch_get_u64(greeting) != LOCH_REDO_MAGIC ||
        loch_get_u32(greeting + 8) != LOCH_REDO_PROTOCOL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the redo library is of another build of Loch");
    return LOCH_OK;
}

LOCH_STATUS redo_process_start(const struct redo_launch *launch, struct redo_process *out)
{
    struct redo_process p = {.fd = -1};
    int pair[2] = {-1, -1}, log_fd = -1, null_fd = -1;
    char path[4160];
    loch_status st;

    LOCH_TRY_OUT(st, make_data_dir(launch, &p.dir));
    snprintf(path, sizeof path, "%s/worker.log", p.dir);
    log_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (log_fd < 0 || null_fd < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "no descriptor for a redo worker: %s", strerror(errno));
        goto out;
    }
    p.fd = pair[0];
    LOCH_TRY_OUT(st, spawn(launch, &p, pair[1], log_fd, null_fd));
    close(pair[1]);
    pair[1] = -1;
    st = greet(&p, launch->timeout_ms);
out:
    if (pair[1] >= 0)
        close(pair[1]);
    if (log_fd >= 0)
        close(log_fd);
    if (null_fd >= 0)
        close(null_fd);
    if (loch_is_ok(st))
        *out = p;
    else
        redo_process_end(&p);
    return st;
}

void redo_process_end(struct redo_process *p)
{
    if (p->pid > 0) {
        int ignored;

        (void)kill(p->pid, SIGKILL);
        if (!loch_is_ok(loch_spawn_wait(p->pid, &ignored)))
            loch_log_failure("a redo worker's end");
    }
    if (p->fd >= 0)
        close(p->fd);
    if (p->dir != NULL) {
        if (!loch_is_ok(loch_remove_tree(p->dir)))
            loch_log_failure("a redo worker's directory stays");
        free(p->dir);
    }
    loch_buf_fini(&p->request);
    *p = (struct redo_process){.fd = -1};
}
