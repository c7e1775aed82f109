/* Holds: the console's socket and connections, and the part of protocol v3 they speak.
 *
 * Invariants: only the daemon's own uid and root get in; one request runs at a time on a
 * connection; what a peer sends is bounded before it is kept; a connection that errs against the
 * protocol is closed. Source: PostgreSQL 15 documentation, chapter 55 (Frontend/Backend Protocol).
 */
#include "console.h"
#include "flush.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNS_MAX         64u
#define STARTUP_MAX_BYTES 10000u
#define READ_BYTES        (64u << 10)
#define CODE_CANCEL       80877102u
#define CODE_SSL          80877103u
#define CODE_GSSENC       80877104u
#define PROTOCOL_MAJOR    3u

enum conn_state { CONN_STARTUP, CONN_IDLE, CONN_RUNNING, CONN_SKIPPING /* to the next Sync */ };

struct console_conn {
    struct loch_console *console;
    struct console_conn *next, **prev;
    struct loch_console_request *request; /* while RUNNING */
    enum conn_state state;
    int fd;
    struct loch_watch *watch;
    bool denied;    /* by its uid: told after its startup packet */
    bool last_word; /* close once everything is written */
    bool dead;      /* freed when the outermost step returns */
    unsigned depth;
    struct loch_buf in, out;
};

static void conn_free(struct console_conn *c)
{
    if (c->request != NULL)
        c->request->conn = NULL;
    loch_watch_stop(c->watch);
    (void)close(c->fd);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    c->console->conn_count--;
    loch_buf_fini(&c->in);
    loch_buf_fini(&c->out);
    free(c);
}

/* ---- writing ---- */
static void conn_write(struct console_conn *c)
{
    if (!loch_host_flush(c->fd, &c->out)) {
        c->dead = true;
        return;
    }
    if (c->out.len == 0 && c->last_word)
        c->dead = true;
}

/* Reads while there is something to expect; writes while something is left. */
static void conn_interest(struct console_conn *c)
{
    bool reads = c->state != CONN_RUNNING && !c->last_word && c->out.len == 0;
    int events = (reads ? LOCH_READABLE : 0) | (c->out.len > 0 ? LOCH_WRITABLE : 0);

    if (!loch_is_ok(loch_watch_change(c->watch, events)))
        c->dead = true;
}

static void fatal(struct console_conn *c, const char *sqlstate, const char *text)
{
    struct loch_writer w;

    loch_writer_init(&w, &c->out);
    loch_pgv3_error(&w, "FATAL", sqlstate, text, NULL);
    c->last_word = true;
}

/* ---- messages ---- */
static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void greet(struct console_conn *c, uint32_t version)
{
    static const char *const settings[][2] = {
        {"server_version", "15.0"},   {"server_encoding", "UTF8"},
        {"client_encoding", "UTF8"},  {"DateStyle", "ISO, MDY"},
        {"integer_datetimes", "on"},  {"standard_conforming_strings", "on"},
        {"application_name", "loch"},
    };
    struct loch_writer w;
    size_t mark;

    loch_writer_init(&w, &c->out);
    if ((version & 0xffff) != 0) { /* a newer minor: we speak 3.0 */
        mark = loch_pgv3_begin(&w, 'v');
        loch_pgv3_u32(&w, PROTOCOL_MAJOR << 16);
        loch_pgv3_u32(&w, 0);
        loch_pgv3_end(&w, mark);
    }
    mark = loch_pgv3_begin(&w, 'R');
    loch_pgv3_u32(&w, 0);
    loch_pgv3_end(&w, mark);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        mark = loch_pgv3_begin(&w, 'S');
        loch_pgv3_text(&w, settings[i][0]);
        loch_pgv3_text(&w, settings[i][1]);
        loch_pgv3_end(&w, mark);
    }
    mark = loch_pgv3_begin(&w, 'K'); /* cancelling is not offered: no process, no secret */
    loch_pgv3_u32(&w, 0);
    loch_pgv3_u32(&w, 0);
    loch_pgv3_end(&w, mark);
    loch_pgv3_ready(&w);
    c->state = CONN_IDLE;
    if (w.bad)
        c->dead = true;
}

/* One startup packet; false: more bytes are needed. */
static bool take_startup(struct console_conn *c)
{
    if (c->in.len < 8)
        return false;
    uint32_t len = be32(c->in.data);
    uint32_t code = be32(c->in.data + 4);
    if (len < 8 || len > STARTUP_MAX_BYTES) {
        LOCH_DEBUG("console: a client sent a startup packet of %u bytes", len);
        c->dead = true;
        return false;
    }
    if (c->in.len < len)
        return false;
    loch_buf_consume(&c->in, len);
    if (code == CODE_SSL || code == CODE_GSSENC) {
        if (!loch_is_ok(loch_buf_append(&c->out, "N", 1)))
            c->dead = true;
    } else if (code == CODE_CANCEL) {
        c->dead = true; /* ignored, as the key it was given says */
    } else if (code >> 16 != PROTOCOL_MAJOR) {
        fatal(c, "08P01", "this console speaks version 3 of PostgreSQL's protocol");
    } else if (c->denied) {
        fatal(c, "28000", "only the daemon's own user and root may use this console");
    } else {
        greet(c, code);
    }
    return true;
}

static void refuse_extended(struct console_conn *c)
{
    struct loch_writer w;

    loch_writer_init(&w, &c->out);
    loch_pgv3_error(&w, "ERROR", "0A000",
                    "this console knows simple queries only, not prepared statements or parameters",
                    "With psql everything is a simple query; with libpq use PQexec.");
    c->state = CONN_SKIPPING;
}

static void take_query(struct console_conn *c, struct loch_slice body)
{
    struct loch_writer w;

    if (body.len == 0 || body.data[body.len - 1] != 0 ||
        memchr(body.data, 0, body.len) != body.data + body.len - 1) {
        fatal(c, "08P01", "a query must be one NUL-ended text");
        return;
    }
    char *text = malloc(body.len);
    if (text == NULL) {
        loch_writer_init(&w, &c->out);
        loch_pgv3_error(&w, "ERROR", "53200", "no memory for a command", NULL);
        loch_pgv3_ready(&w);
        return;
    }
    memcpy(text, body.data, body.len); /* the buffer may move while the command runs */
    c->state = CONN_RUNNING;
    console_request_begin(c->console, c, text);
    free(text);
}

static void take_message(struct console_conn *c, uint8_t type, struct loch_slice body)
{
    struct loch_writer w;

    loch_writer_init(&w, &c->out);
    if (type == 'X') {
        c->dead = true;
    } else if (type == 'S') {
        c->state = CONN_IDLE;
        loch_pgv3_ready(&w);
    } else if (c->state == CONN_SKIPPING || type == 'H' || type == 'd' || type == 'c' ||
               type == 'f') {
        /* until the Sync; and what may straggle after an error */
    } else if (type == 'Q') {
        take_query(c, body);
    } else if (type == 'P' || type == 'B' || type == 'D' || type == 'E' || type == 'C') {
        refuse_extended(c);
    } else if (type == 'F') {
        loch_pgv3_error(&w, "ERROR", "0A000", "this console has no functions to call", NULL);
        loch_pgv3_ready(&w);
    } else {
        fatal(c, "08P01", "a message of an unknown type");
    }
}

/* One message after startup; false: more bytes are needed. */
static bool take_one(struct console_conn *c)
{
    if (c->in.len < 5)
        return false;
    uint32_t len = be32(c->in.data + 1);
    if (len < 4 || len > LOCH_CONSOLE_QUERY_MAX_BYTES) {
        fatal(c, "08P01", "a message of an absurd length");
        return true;
    }
    if (c->in.len - 1 < len)
        return false;
    uint8_t type = c->in.data[0];
    take_message(c, type, loch_slice_of(c->in.data + 5, len - 4));
    loch_buf_consume(&c->in, 1 + (size_t)len);
    return true;
}

/* Does what can be done; frees the connection when it is over. */
static void conn_step(struct console_conn *c)
{
    bool more = true;

    if (c->depth > 0)
        return; /* the outer step goes on */
    c->depth++;
    while (more && !c->dead && !c->last_word && c->state != CONN_RUNNING && c->out.len < READ_BYTES)
        more = c->state == CONN_STARTUP ? take_startup(c) : take_one(c);
    if (!c->dead)
        conn_write(c);
    if (!c->dead)
        conn_interest(c);
    c->depth--;
    if (c->dead)
        conn_free(c);
}

static void conn_read(struct console_conn *c)
{
    if (!loch_is_ok(loch_buf_reserve(&c->in, READ_BYTES))) {
        c->dead = true;
        return;
    }
    ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_BYTES, MSG_DONTWAIT);
    if (n > 0)
        c->in.len += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
        c->dead = true;
}

static void conn_ready(void *arg, int events)
{
    struct console_conn *c = arg;

    if ((events & LOCH_READABLE) != 0)
        conn_read(c);
    conn_step(c);
}

void console_conn_running(struct console_conn *conn, struct loch_console_request *request)
{
    conn->request = request;
}

void console_conn_answer(struct console_conn *conn, struct loch_buf *take_bytes)
{
    conn->request = NULL;
    conn->state = CONN_IDLE;
    if (conn->out.len == 0) {
        struct loch_buf old = conn->out;
        conn->out = *take_bytes;
        *take_bytes = old;
    } else if (!loch_is_ok(loch_buf_append(&conn->out, take_bytes->data, take_bytes->len))) {
        conn->dead = true;
    }
    loch_buf_fini(take_bytes);
    conn_step(conn);
}

/* ---- the socket ---- */
static bool is_welcome(int fd)
{
    struct ucred cred = {0};
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return false;
    return cred.uid == geteuid() || cred.uid == 0;
}

static void accept_one(struct loch_console *console, int fd)
{
    struct console_conn *c = calloc(1, sizeof *c);

    if (c == NULL || console->conn_count >= CONNS_MAX) {
        LOCH_WARN("console: too many connections (at most %u)", CONNS_MAX);
        free(c);
        (void)close(fd);
        return;
    }
    c->console = console;
    c->fd = fd;
    c->denied = !is_welcome(fd);
    if (!loch_is_ok(loch_env_watch_fd(console->env, fd, LOCH_READABLE, &c->watch, conn_ready, c))) {
        loch_log_failure("console");
        free(c);
        (void)close(fd);
        return;
    }
    c->next = console->conns;
    c->prev = &console->conns;
    if (c->next != NULL)
        c->next->prev = &c->next;
    console->conns = c;
    console->conn_count++;
}

static void console_ready(void *arg, int events)
{
    struct loch_console *console = arg;

    (void)events;
    int fd = accept4(console->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        accept_one(console, fd);
    else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        LOCH_WARN("console: cannot accept: %s", strerrordesc_np(errno));
}

/* A socket file that nobody listens on goes; a live one is LOCH_E_EXISTS. */
static loch_status clear_path(const struct sockaddr_un *sa)
{
    struct stat sb;

    if (lstat(sa->sun_path, &sb) != 0)
        return LOCH_OK;
    if (!S_ISSOCK(sb.st_mode))
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not a socket", sa->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "socket: %s", strerrordesc_np(errno));
    bool live = connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN;
    (void)close(fd);
    if (live)
        return LOCH_FAIL(LOCH_E_EXISTS, "another process listens on %s", sa->sun_path);
    if (unlink(sa->sun_path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", sa->sun_path, strerrordesc_np(errno));
    return LOCH_OK;
}

static loch_status open_socket(const char *path, int *out)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof sa.sun_path)
        return LOCH_FAIL(LOCH_E_INVALID, "the socket's path is longer than %zu bytes: %s",
                         sizeof sa.sun_path - 1, path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    LOCH_TRY(clear_path(&sa));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "socket: %s", strerrordesc_np(errno));
    /* The file gets the socket's mode (Linux): it is never there with a wider one. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)&sa, sizeof sa) != 0 ||
        chmod(path, 0600) != 0 || listen(fd, 64) != 0) {
        loch_status st =
            LOCH_FAIL(LOCH_E_IO, "cannot listen on %s: %s", path, strerrordesc_np(errno));
        (void)close(fd);
        return st;
    }
    *out = fd;
    return LOCH_OK;
}

loch_status loch_console_listen(struct loch_env *env, const char *socket_path,
                                const struct loch_console_command *commands, size_t count,
                                void *arg, struct loch_console **out)
{
    int fd = -1;

    LOCH_TRY(open_socket(socket_path, &fd));
    struct loch_console *console = calloc(1, sizeof *console);
    loch_status st = LOCH_OK;
    if (console == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a console");
    } else {
        *console = (struct loch_console){
            .env = env, .commands = commands, .command_count = count, .arg = arg, .fd = fd};
        memcpy(console->path, socket_path, strlen(socket_path) + 1);
        st = loch_env_watch_fd(env, fd, LOCH_READABLE, &console->watch, console_ready, console);
    }
    if (!loch_is_ok(st)) {
        (void)close(fd);
        (void)unlink(socket_path);
        free(console);
        return st;
    }
    *out = console;
    return LOCH_OK;
}

void loch_console_hold(struct loch_console *console,
                       bool (*hold)(void *arg, const struct loch_console_request *request))
{
    console->hold = hold;
}

void loch_console_close(struct loch_console *console)
{
    if (console == NULL)
        return;
    loch_watch_stop(console->watch);
    (void)close(console->fd);
    (void)unlink(console->path);
    while (console->conns != NULL)
        conn_free(console->conns); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks */
    free(console);
}
