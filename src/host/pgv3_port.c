/* Holds: a TCP port for programs that speak PostgreSQL's protocol, under TLS with client
 * certificates.
 *
 * Invariants: nothing but the request for TLS is read in clear, and nothing that came with it is
 * kept, so no clear text is taken for protected; a connection is freed when its outermost step
 * returns. Source: PostgreSQL 15 documentation, chapter 55.
 */
#include "loch/host/pgv3.h"

#include "flush.h"
#include "pgv3_startup.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/crypto/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX     64u /* greeted; of one client a quarter while half are there */
#define GREETINGS_MAX 64u /* not yet greeted; one more ends the oldest */
#define READ_BYTES    (32u << 10)
#define GREETING_NS   UINT64_C(10000000000)
#define CODE_SSL      80877103u
#define CODE_GSSENC   80877104u
#define PEM_MAX_BYTES (1u << 20)
/* Behind so much nothing more is taken from a client that does not read. Owners send less. */
#define QUEUE_MAX_BYTES (2u << 20)

enum state { WANT_TLS, HANDSHAKE, STARTUP, OPEN };

struct loch_pgv3_conn {
    struct loch_pgv3_port *port;
    struct loch_pgv3_conn *next, **prev;
    enum state state;
    int fd;
    struct loch_watch *watch;
    struct loch_timer *timer; /* until it is OPEN */
    struct loch_tls *tls;
    struct loch_buf in, wire; /* plain text read; cipher text to write */
    struct loch_buf params;   /* of the startup packet: name NUL value NUL ... */
    char peer[128];
    void *owner;
    bool last_word, dead, owes_drained;
    unsigned depth;
};

struct loch_pgv3_port {
    struct loch_pgv3_options o;
    struct loch_tls_server *tls;
    int fd;
    struct loch_watch *watch;
    struct loch_pgv3_conn *conns;
    size_t conn_count, open_count;
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void conn_free(struct loch_pgv3_conn *c)
{
    if (c->state == OPEN) {
        c->port->open_count--;
        c->port->o.events->closed(c->owner);
    }
    loch_timer_cancel(c->timer);
    loch_watch_stop(c->watch);
    (void)close(c->fd);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    c->port->conn_count--;
    loch_tls_destroy(c->tls);
    loch_buf_fini(&c->in);
    loch_buf_fini(&c->wire);
    loch_buf_fini(&c->params);
    free(c);
}

static void conn_write(struct loch_pgv3_conn *c)
{
    if (!loch_host_flush(c->fd, &c->wire)) {
        c->dead = true;
        return;
    }
    if (c->wire.len == 0 && c->last_word)
        c->dead = true;
}

static void seal(struct loch_pgv3_conn *c, struct loch_slice plain)
{
    if (!loch_is_ok(loch_tls_send(c->tls, plain, &c->wire)))
        c->dead = true;
    c->owes_drained = true;
}

static void fatal(struct loch_pgv3_conn *c, const char *sqlstate, const char *text)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    loch_pgv3_error(&w, "FATAL", sqlstate, text, NULL);
    if (c->tls != NULL)
        seal(c, loch_buf_slice(&out));
    else if (!loch_is_ok(loch_buf_append(&c->wire, out.data, out.len)))
        c->dead = true;
    loch_buf_fini(&out);
    c->last_word = true;
}

/* ---- greeting ---- */

static void take_request(struct loch_pgv3_conn *c)
{
    if (c->in.len < 8)
        return;
    uint32_t code = be32(c->in.data + 4);
    if (be32(c->in.data) != 8 || c->in.len != 8 || (code != CODE_SSL && code != CODE_GSSENC)) {
        fatal(c, "28000", "this port wants TLS: sslmode=verify-full, sslcert and sslkey");
        return;
    }
    c->in.len = 0;
    if (!loch_is_ok(loch_buf_append(&c->wire, code == CODE_SSL ? "S" : "N", 1)))
        c->dead = true;
    if (code != CODE_SSL)
        return;
    if (loch_is_ok(loch_tls_accept(c->port->tls, &c->tls)))
        c->state = HANDSHAKE;
    else
        c->dead = true;
}

static void greet(struct loch_pgv3_conn *c)
{
    static const char *const settings[][2] = {{"server_version", "15.0"},
                                              {"server_encoding", "UTF8"},
                                              {"client_encoding", "UTF8"},
                                              {"integer_datetimes", "on"},
                                              {"standard_conforming_strings", "on"}};
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    size_t mark = loch_pgv3_begin(&w, 'R');
    loch_pgv3_u32(&w, 0);
    loch_pgv3_end(&w, mark);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        mark = loch_pgv3_begin(&w, 'S');
        loch_pgv3_text(&w, settings[i][0]);
        loch_pgv3_text(&w, settings[i][1]);
        loch_pgv3_end(&w, mark);
    }
    mark = loch_pgv3_begin(&w, 'K'); /* cancelling is not offered */
    loch_pgv3_u32(&w, 0);
    loch_pgv3_u32(&w, 0);
    loch_pgv3_end(&w, mark);
    loch_pgv3_ready(&w);
    if (w.bad)
        c->dead = true;
    seal(c, loch_buf_slice(&out));
    loch_buf_fini(&out);
}

static loch_status check_room(const struct loch_pgv3_conn *conn)
{
    const struct loch_pgv3_port *port = conn->port;
    size_t same = 0;

    for (const struct loch_pgv3_conn *c = port->conns; c != NULL; c = c->next)
        same += c->state == OPEN && strcmp(c->peer, conn->peer) == 0;
    if (port->open_count >= CONNS_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "this port serves %u clients and takes no more", CONNS_MAX);
    if (port->open_count >= CONNS_MAX / 2 && same >= CONNS_MAX / 4)
        return LOCH_FAIL(LOCH_E_LIMIT,
                         "the certificate has %zu connections here, its share while others are "
                         "served",
                         same);
    return LOCH_OK;
}

/* True when a startup packet was taken. */
static bool take_startup(struct loch_pgv3_conn *c)
{
    size_t len = 0;

    switch (pgv3_startup_take(loch_buf_slice(&c->in), &len)) {
    case PGV3_STARTUP_MORE:
        return false;
    case PGV3_STARTUP_ABSURD:
        c->dead = true;
        return false;
    case PGV3_STARTUP_FOREIGN:
        fatal(c, "08P01", "this port speaks version 3 of PostgreSQL's protocol");
        return false;
    case PGV3_STARTUP_TAKEN:
        break;
    }
    if (!loch_is_ok(loch_buf_append(&c->params, c->in.data + 8, len - 8)))
        c->dead = true;
    loch_buf_consume(&c->in, len);
    loch_status st = check_room(c);
    if (loch_is_ok(st))
        st = c->port->o.events->begin(c->port->o.arg, c, &c->owner);
    if (!loch_is_ok(st)) {
        char text[400];
        (void)snprintf(text, sizeof text, "%s", loch_error_text());
        LOCH_WARN("a client with the certificate of \"%s\" is refused: %s", c->peer, text);
        fatal(c, loch_pgv3_sqlstate(st.code), text);
        return false;
    }
    c->state = OPEN;
    c->port->open_count++;
    loch_timer_cancel(c->timer);
    c->timer = NULL;
    greet(c);
    return true;
}

/* It has not read what it asked for: it is not heard, and not read from, until it has. */
static bool is_deaf(const struct loch_pgv3_conn *c)
{
    return c->state == OPEN && c->wire.len > QUEUE_MAX_BYTES;
}

static bool take_message(struct loch_pgv3_conn *c)
{
    if (c->in.len < 5)
        return false;
    uint32_t len = be32(c->in.data + 1);
    if (len < 4 || len > LOCH_PGV3_MESSAGE_MAX_BYTES) {
        fatal(c, "08P01", "a message of an absurd length");
        return false;
    }
    if (c->in.len - 1 < len)
        return false;
    char type = (char)c->in.data[0];
    if (type == 'X')
        c->dead = true;
    else
        c->port->o.events->message(c->owner, type, loch_slice_of(c->in.data + 5, len - 4));
    loch_buf_consume(&c->in, 1 + (size_t)len);
    return true;
}

/* ---- a connection's steps ---- */

/* True when what waits is more than may be answered now. */
static bool take_all(struct loch_pgv3_conn *c)
{
    bool more = true;

    while (more && !c->dead && !c->last_word && !is_deaf(c) &&
           (c->state == STARTUP || c->state == OPEN))
        more = c->state == STARTUP ? take_startup(c) : take_message(c);
    return is_deaf(c);
}

static void watch(struct loch_pgv3_conn *c, bool writes)
{
    const int events = (is_deaf(c) ? 0 : LOCH_READABLE) | (writes ? LOCH_WRITABLE : 0);

    if (!loch_is_ok(loch_watch_change(c->watch, events)))
        c->dead = true;
}

static void conn_step(struct loch_pgv3_conn *c)
{
    bool more = true;

    if (c->depth > 0)
        return; /* the outer step goes on */
    c->depth++;
    if (c->state == WANT_TLS && !c->dead)
        take_request(c);
    while (more && !c->dead) {
        more = take_all(c);
        if (!c->dead)
            conn_write(c);
        more = more && !is_deaf(c);
    }
    while (!c->dead && c->wire.len == 0 && c->owes_drained && c->state == OPEN && !c->last_word) {
        c->owes_drained = false;
        c->port->o.events->drained(c->owner);
        conn_write(c);
    }
    if (!c->dead)
        watch(c, c->wire.len > 0);
    c->depth--;
    if (c->dead)
        conn_free(c);
}

static void take_cipher(struct loch_pgv3_conn *c, struct loch_slice cipher)
{
    bool closed = false;
    loch_status st = loch_tls_receive(c->tls, cipher, &c->in, &c->wire, &closed);

    if (!loch_is_ok(st)) {
        if (c->state == HANDSHAKE)
            LOCH_WARN("a client is refused: %s", loch_error_text());
        conn_write(c); /* the alert */
        c->dead = true;
    } else if (c->state == HANDSHAKE && loch_tls_ready(c->tls)) {
        struct loch_slice id = loch_tls_identity(c->tls);
        (void)snprintf(c->peer, sizeof c->peer, "%.*s", (int)id.len, (const char *)id.data);
        c->state = STARTUP;
    }
    c->dead = c->dead || closed;
}

static void conn_ready(void *arg, int events)
{
    struct loch_pgv3_conn *c = arg;
    uint8_t bytes[READ_BYTES];

    if ((events & LOCH_READABLE) != 0) {
        ssize_t n =
            recv(c->fd, bytes, c->state == WANT_TLS ? 8 - c->in.len : sizeof bytes, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
            c->dead = true;
        else if (n > 0 && c->state == WANT_TLS)
            c->dead = !loch_is_ok(loch_buf_append(&c->in, bytes, (size_t)n));
        else if (n > 0)
            take_cipher(c, loch_slice_of(bytes, (size_t)n));
        if (c->last_word) /* nobody listens any more */
            c->in.len = 0;
    }
    conn_step(c);
}

static void too_slow(void *arg)
{
    struct loch_pgv3_conn *c = arg;

    c->timer = NULL;
    c->dead = true;
    conn_step(c);
}

/* ---- what the owner calls ---- */

const char *loch_pgv3_param(const struct loch_pgv3_conn *c, const char *name)
{
    return pgv3_startup_param(loch_buf_slice(&c->params), name);
}

const char *loch_pgv3_peer(const struct loch_pgv3_conn *c)
{
    return c->peer;
}

void loch_pgv3_send(struct loch_pgv3_conn *c, struct loch_buf *take_bytes)
{
    if (!c->dead && !c->last_word)
        seal(c, loch_buf_slice(take_bytes));
    if (take_bytes->data != NULL) /* users' rows, maybe */
        loch_wipe(take_bytes->data, take_bytes->cap);
    loch_buf_fini(take_bytes);
    if (c->depth == 0 && !c->dead)
        conn_write(c);
    if (c->depth == 0)
        watch(c, true); /* a failure is noticed at its next step */
}

size_t loch_pgv3_queued(const struct loch_pgv3_conn *c)
{
    return c->wire.len;
}

void loch_pgv3_finish(struct loch_pgv3_conn *c)
{
    c->last_word = true;
    watch(c, true);
}

void loch_pgv3_cut(struct loch_pgv3_conn *c)
{
    loch_host_cut(c->fd);
    c->dead = true;
    if (c->depth == 0)
        conn_free(c);
}

/* ---- the port ---- */

/* Whoever greets is done in a moment: what has been at it longest must keep nobody out. */
static void end_oldest_greeting(struct loch_pgv3_port *port)
{
    struct loch_pgv3_conn *oldest = NULL;

    for (struct loch_pgv3_conn *c = port->conns; c != NULL; c = c->next) /* the newest first */
        if (c->state != OPEN)
            oldest = c;
    LOCH_ASSERT(oldest != NULL);
    conn_free(oldest);
}

static void accept_one(struct loch_pgv3_port *port, int fd)
{
    struct loch_pgv3_conn *c = calloc(1, sizeof *c);
    int one = 1;

    if (c == NULL)
        goto refuse;
    if (port->conn_count - port->open_count >= GREETINGS_MAX)
        end_oldest_greeting(port);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->port = port;
    c->fd = fd;
    if (!loch_is_ok(loch_env_timer(port->o.env, GREETING_NS / 1000000, &c->timer, too_slow, c)))
        goto refuse;
    if (!loch_is_ok(loch_env_watch_fd(port->o.env, fd, LOCH_READABLE, &c->watch, conn_ready, c))) {
        loch_timer_cancel(c->timer);
        goto refuse;
    }
    c->next = port->conns;
    c->prev = &port->conns;
    if (c->next != NULL)
        c->next->prev = &c->next;
    port->conns = c;
    port->conn_count++;
    return;
refuse:
    free(c);
    (void)close(fd);
}

static void port_ready(void *arg, int events)
{
    struct loch_pgv3_port *port = arg;

    (void)events;
    int fd = accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        accept_one(port, fd);
}

static loch_status open_socket(const char *address, int *out)
{
    const char *colon = strrchr(address, ':');
    struct sockaddr_in sa = {.sin_family = AF_INET};
    char host[64];
    int one = 1;

    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not an IPv4 address and port", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    sa.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &sa.sin_addr) != 1)
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not an IPv4 address and port", address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (const struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 16) != 0) {
        loch_status st =
            LOCH_FAIL(LOCH_E_IO, "cannot listen on %s: %s", address, strerrordesc_np(errno));
        if (fd >= 0)
            (void)close(fd);
        return st;
    }
    *out = fd;
    return LOCH_OK;
}

static loch_status load_tls(const struct loch_pgv3_options *o, struct loch_tls_server **out)
{
    struct loch_buf cert = {0};
    struct loch_buf key = {0};
    struct loch_buf ca = {0};
    loch_status st;

    LOCH_TRY_OUT(st, loch_env_read_file(o->env, o->cert, PEM_MAX_BYTES, &cert));
    LOCH_TRY_OUT(st, loch_env_read_file(o->env, o->key, PEM_MAX_BYTES, &key));
    LOCH_TRY_OUT(st, loch_env_read_file(o->env, o->client_ca, PEM_MAX_BYTES, &ca));
    st = loch_tls_server_create_x509(loch_buf_slice(&cert), loch_buf_slice(&key),
                                     loch_buf_slice(&ca), out);
out:
    if (key.data != NULL)
        explicit_bzero(key.data, key.cap);
    loch_buf_fini(&cert);
    loch_buf_fini(&key);
    loch_buf_fini(&ca);
    return st;
}

loch_status loch_pgv3_listen(const struct loch_pgv3_options *options, struct loch_pgv3_port **out)
{
    struct loch_pgv3_port *port = calloc(1, sizeof *port);
    loch_status st;

    if (port == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a port");
    port->o = *options;
    port->fd = -1;
    LOCH_TRY_OUT(st, load_tls(options, &port->tls));
    LOCH_TRY_OUT(st, open_socket(options->address, &port->fd));
    LOCH_TRY_OUT(st, loch_env_watch_fd(options->env, port->fd, LOCH_READABLE, &port->watch,
                                       port_ready, port));
    *out = port;
    return LOCH_OK;
out:
    if (port->fd >= 0)
        (void)close(port->fd);
    loch_tls_server_destroy(port->tls);
    free(port);
    return st;
}

void loch_pgv3_close(struct loch_pgv3_port *port)
{
    if (port == NULL)
        return;
    loch_watch_stop(port->watch);
    (void)close(port->fd);
    while (port->conns != NULL)
        conn_free(port->conns); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks */
    loch_tls_server_destroy(port->tls);
    free(port);
}
