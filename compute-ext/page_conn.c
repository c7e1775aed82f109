/* Holds: the connection. Protocol: docs/protocol/wire.md, loch/wire/page.h.
 *
 * Invariant: `conn.fd` is -1 exactly when there is no connection. A connection belongs to one
 * process (conn.owner); a forked child that finds its parent's forgets it without touching the
 * session. */
#include "page_conn.h"

#include "postgres.h"

#include "page_key.h"
#include "readahead.h"
#include "settings.h"
#include "shared.h"
#include "wait.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "loch/base/frame.h"
#include "loch/crypto/tls.h"
#include "loch/wire/page.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 5000
#define WAIT_SLICE_MS      1000
#define HURRIED_SLICE_MS   100 /* of one whose patience is limited */
#define RECEIVE_BYTES      (128 * 1024)
#define COMPLAIN_US        (5 * 1000 * 1000)

static struct {
    int fd;
    pid_t owner;
    struct loch_tls *tls;
    struct loch_buf wire;  /* ciphertext to send */
    struct loch_buf plain; /* plaintext received; the first `taken` bytes of it are used up */
    size_t taken;
    bool greeted;
    bool plain_only; /* the pageserver knows no packed pages; over all connections of the process */
    TimestampTz give_up_at; /* 0: never */
} conn = {.fd = -1};

void loch_page_conn_patience(int ms)
{
    conn.give_up_at = ms == 0 ? 0 : GetCurrentTimestamp() + (TimestampTz)ms * 1000;
}

static long slice_ms(void)
{
    return conn.give_up_at == 0 ? WAIT_SLICE_MS : HURRIED_SLICE_MS;
}

void loch_page_conn_close(void)
{
    loch_readahead_connection_lost();
    if (loch_shared != NULL)
        pg_atomic_write_u64(&loch_own_process()->connected_at, 0);
    if (conn.owner == MyProcPid) {
        loch_tls_destroy(conn.tls);
        if (conn.fd >= 0)
            (void)close(conn.fd);
    }
    conn.tls = NULL;
    conn.fd = -1;
    conn.wire.len = 0;
    conn.plain.len = 0;
    conn.taken = 0;
    conn.greeted = false;
}

static loch_status set_options(int fd)
{
    int one = 1, idle_s = 10, interval_s = 5, probes = 3;
    unsigned unheard_ms = 20000; /* a request that the other side's system does not take */
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return LOCH_FAIL(LOCH_E_IO, "fcntl: %s", strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof unheard_ms);
    return LOCH_OK;
}

static loch_status begin_connect(const struct addrinfo *ai)
{
    conn.fd = socket(ai->ai_family, SOCK_STREAM, 0);
    conn.owner = MyProcPid;
    if (conn.fd < 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "socket: %s", strerror(errno));
    LOCH_TRY(set_options(conn.fd));
    if (connect(conn.fd, ai->ai_addr, ai->ai_addrlen) != 0 && errno != EINPROGRESS)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "connect: %s", strerror(errno));
    return LOCH_OK;
}

/* A name may have addresses that nobody listens at: each try takes the next one. */
static const struct addrinfo *next_address(const struct addrinfo *list)
{
    static unsigned tries;
    const struct addrinfo *ai = list;
    unsigned count = 0;

    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        count++;
    for (unsigned n = tries++ % count; n > 0; n--)
        ai = ai->ai_next;
    return ai;
}

static loch_status open_socket(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct addrinfo *list = NULL;
    loch_status st;
    int rc;

    hints.ai_flags = AI_NUMERICSERV;
    rc = getaddrinfo(loch_settings.host, loch_settings.port, &hints, &list);
    if (rc != 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s: %s", loch_settings.host, gai_strerror(rc));
    st = begin_connect(next_address(list));
    freeaddrinfo(list);
    return st;
}

static loch_status finish_connect(void)
{
    for (long waited_ms = 0;; waited_ms += slice_ms()) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int error = 0;
        socklen_t error_len = sizeof error;

        if (getpeername(conn.fd, (struct sockaddr *)&peer, &len) == 0)
            return LOCH_OK;
        if (getsockopt(conn.fd, SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error != 0)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "connect: %s", strerror(error));
        if (waited_ms >= CONNECT_TIMEOUT_MS)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "connect: no answer within %d ms",
                             CONNECT_TIMEOUT_MS);
        loch_wait_socket(conn.fd, true, slice_ms());
    }
}

static loch_status flush_wire(void)
{
    while (conn.wire.len > 0) {
        ssize_t n = send(conn.fd, conn.wire.data, conn.wire.len, MSG_NOSIGNAL);

        if (n > 0)
            loch_buf_consume(&conn.wire, (size_t)n);
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            loch_wait_socket(conn.fd, true, slice_ms());
        else if (n < 0 && errno != EINTR)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "send: %s", strerror(errno));
    }
    return LOCH_OK;
}

#ifdef LOCH_TEST_SWITCHES
/* Now and then the network breaks, at any byte: the rest of what came is lost, and what follows. */
static ssize_t maybe_cut(ssize_t n)
{
    uint64 every = (uint64)loch_settings.test_cut_every;

    if (every == 0 || pg_prng_uint64_range(&pg_global_prng_state, 1, every) != 1)
        return n;
    (void)shutdown(conn.fd, SHUT_RDWR);
    return (ssize_t)pg_prng_uint64_range(&pg_global_prng_state, 1, (uint64)n);
}
#else
#define maybe_cut(n_) (n_)
#endif

/* One that takes requests and answers nothing is named, too. */
static void complain(TimestampTz since, TimestampTz *said)
{
    TimestampTz now = GetCurrentTimestamp();

    if (now - *said < COMPLAIN_US)
        return;
    *said = now;
    ereport(LOG, (errmsg("loch: waiting for the pageserver"),
                  errdetail("It has not answered for " INT64_FORMAT " s.",
                            (now - since) / (TimestampTz)1000000)));
}

/* Waits until there are bytes. */
static loch_status receive(uint8_t *bytes, size_t max, size_t *got)
{
    TimestampTz since = 0, said = 0;

    for (;;) {
        ssize_t n = recv(conn.fd, bytes, max, 0);

        if (n > 0) {
            *got = (size_t)maybe_cut(n);
            return LOCH_OK;
        }
        if (n == 0)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver closed the connection");
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "recv: %s", strerror(errno));
        if (errno == EINTR)
            continue;
        if (conn.give_up_at != 0 && GetCurrentTimestamp() > conn.give_up_at)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "no answer from the pageserver");
        if (since == 0)
            since = said = GetCurrentTimestamp();
        loch_wait_socket(conn.fd, false, slice_ms());
        if (conn.give_up_at == 0)
            complain(since, &said);
    }
}

/* Waits for bytes and feeds them to the TLS engine. */
static loch_status pump(void)
{
    static uint8_t bytes[RECEIVE_BYTES];
    loch_status st, sent;
    bool closed = false;
    size_t n = 0;

    /* An ERROR in the middle of sending leaves bytes whose answer may be what we wait for. */
    LOCH_TRY(flush_wire());
    LOCH_TRY(receive(bytes, sizeof bytes, &n));
    st = loch_tls_receive(conn.tls, loch_slice_of(bytes, n), &conn.plain, &conn.wire, &closed);
    sent = flush_wire();
    LOCH_TRY(st);
    LOCH_TRY(sent);
    if (closed)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver closed the session");
    return LOCH_OK;
}

static loch_status handshake(void)
{
    struct loch_tls_client *client;
    bool closed = false;

    LOCH_TRY(loch_page_key_client(&client));
    LOCH_TRY(loch_tls_connect(client, &conn.tls));
    LOCH_TRY(loch_tls_receive(conn.tls, loch_slice_of(NULL, 0), &conn.plain, &conn.wire, &closed));
    LOCH_TRY(flush_wire());
    while (!loch_tls_ready(conn.tls))
        LOCH_TRY(pump());
    return LOCH_OK;
}

static loch_status refusal(struct loch_slice payload)
{
    struct loch_page_error e;

    LOCH_TRY(loch_page_error_decode(payload, &e));
    if (e.code == LOCH_E_OK || e.code > LOCH_E_LAST)
        return LOCH_FAIL(LOCH_E_CORRUPT, "unknown error code %u from the pageserver", e.code);
    return LOCH_FAIL((enum loch_code)e.code, "%.*s", (int)e.text.len, (const char *)e.text.data);
}

static loch_status greet(void)
{
    static struct loch_buf frame;
    struct loch_page_hello hello = {.version = LOCH_WIRE_PAGE_VERSION};
    struct loch_page_hello_reply reply;
    struct loch_slice payload;
    struct loch_writer w;
    uint8_t type;

    if (!loch_settings.packed_pages || conn.plain_only)
        hello.version = LOCH_WIRE_PAGE_VERSION_PLAIN;
    hello.tenant = loch_settings.tenant_id;
    hello.timeline = loch_settings.timeline_id;
    hello.term = loch_settings.term_value;
    hello.compute_epoch = loch_settings.compute_epoch_value;
    frame.len = 0;
    loch_writer_init(&w, &frame);
    loch_page_hello_encode(&w, &hello);
    LOCH_TRY(loch_writer_finish(&w));
    LOCH_TRY(loch_page_conn_send(loch_buf_slice(&frame)));
    LOCH_TRY(loch_page_conn_receive(&type, &payload));
    if (type == LOCH_PAGE_ERROR) {
        loch_status st = refusal(payload);

        conn.plain_only = st.code == LOCH_E_UNSUPPORTED; /* an older one; the next try says so */
        return st;
    }
    if (type != LOCH_PAGE_HELLO_REPLY)
        return LOCH_FAIL(LOCH_E_CORRUPT, "frame type %u instead of the greeting", type);
    return loch_page_hello_reply_decode(payload, &reply);
}

bool loch_page_conn_is_ready(void)
{
    return conn.greeted && conn.owner == MyProcPid;
}

loch_status loch_page_conn_ready(void)
{
    if (loch_page_conn_is_ready())
        return LOCH_OK;
    /* Half a connection is left by an ERROR in the middle of one: begin again. */
    loch_page_conn_close();
    LOCH_TRY(open_socket());
    LOCH_TRY(finish_connect());
    LOCH_TRY(handshake());
    LOCH_TRY(greet());
    conn.greeted = true;
    pg_atomic_write_u64(&loch_own_process()->connected_at, (uint64)GetCurrentTimestamp());
    loch_count(reconnects);
    return LOCH_OK;
}

loch_status loch_page_conn_send(struct loch_slice frames)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    LOCH_TRY(loch_tls_tick(
        conn.tls, (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec, &conn.wire));
    LOCH_TRY(loch_tls_send(conn.tls, frames, &conn.wire));
    return flush_wire();
}

loch_status loch_page_conn_receive(uint8_t *type, struct loch_slice *payload)
{
    for (;;) {
        struct loch_slice bytes =
            loch_slice_of(conn.plain.data + conn.taken, conn.plain.len - conn.taken);
        size_t consumed = 0;
        bool found = false;

        LOCH_TRY(loch_frame_next(bytes, &found, type, payload, &consumed));
        if (found) {
            conn.taken += consumed;
            return LOCH_OK;
        }
        loch_buf_consume(&conn.plain, conn.taken);
        conn.taken = 0;
        LOCH_TRY(pump());
    }
}
