/* Holds: an asynchronous client of the streaming replication protocol. Source: PostgreSQL 15
 * documentation, 55.4 "Streaming Replication Protocol".
 *
 * libpq buffers what was read; the loop's descriptor only says when to look again. After `ended`
 * or destroy nothing more is called: `dead` is looked at after every callback.
 */
#include "wal_source.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#define RETRY_MS        2u
#define STATUS_MS       1000u
#define CONNECT_LIMIT   60000u /* tries, RETRY_MS apart */
#define STATUS_BYTES    34
#define XLOGDATA_HEADER 25
#define KEEPALIVE_BYTES 18
/* Microseconds from 1970 to 2000. */
#define PG_EPOCH_US INT64_C(946684800000000)

enum stage { CONNECTING, IDENTIFYING, RESERVING, STARTING, STREAMING, FINISHING };

struct loch_wal_source {
    struct loch_wal_source_order o;
    char conninfo[700];
    enum stage stage;
    PGconn *conn;
    struct loch_watch *watch;
    int watched_fd, watched_events;
    struct loch_timer *timer;
    unsigned tries;
    loch_lsn reported;
    bool paused, want_write;
    unsigned depth; /* calls of ours on the stack */
    bool dead;
};

static void poll_connect(struct loch_wal_source *s);
static void ready(void *arg, int events);

/* ---- life ---- */

static void drop_connection(struct loch_wal_source *s)
{
    if (s->watch != NULL)
        loch_watch_stop(s->watch);
    s->watch = NULL;
    s->watched_fd = -1;
    PQfinish(s->conn);
    s->conn = NULL;
}

static void maybe_free(struct loch_wal_source *s)
{
    if (s->dead && s->depth == 0)
        free(s);
}

static void kill_source(struct loch_wal_source *s)
{
    s->dead = true;
    loch_timer_cancel(s->timer);
    s->timer = NULL;
    drop_connection(s);
}

static void end(struct loch_wal_source *s, loch_status st)
{
    if (s->dead)
        return;
    kill_source(s);
    s->o.ended(s->o.arg, st);
}

static loch_status pq_failure(const struct loch_wal_source *s, const char *what)
{
    const char *text = PQerrorMessage(s->conn);
    int len = (int)strcspn(text, "\n");
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s: %.*s", what, len, text);
}

static void watch(struct loch_wal_source *s, int events)
{
    const int fd = PQsocket(s->conn);

    if (s->watch != NULL && fd == s->watched_fd) {
        if (events != s->watched_events && !loch_is_ok(loch_watch_change(s->watch, events)))
            end(s, LOCH_FAIL(LOCH_E_IO, "cannot watch the walsender: %s", loch_error_text()));
        s->watched_events = events;
        return;
    }
    if (s->watch != NULL)
        loch_watch_stop(s->watch);
    s->watch = NULL;
    loch_status st = loch_env_watch_fd(s->o.env, fd, events, &s->watch, ready, s);
    if (!loch_is_ok(st)) {
        end(s, st);
        return;
    }
    s->watched_fd = fd;
    s->watched_events = events;
}

static void watch_stream(struct loch_wal_source *s)
{
    const int events = (s->paused ? 0 : LOCH_READABLE) | (s->want_write ? LOCH_WRITABLE : 0);

    if (s->dead)
        return;
    if (events != 0) {
        watch(s, events);
        return;
    }
    if (s->watch != NULL)
        loch_watch_stop(s->watch);
    s->watch = NULL;
    s->watched_fd = -1;
}

/* ---- status updates ---- */

static void put_be64(char *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(v >> (56 - 8 * i));
}

static uint64_t get_be64(const char *at)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | (uint8_t)at[i];
    return v;
}

static void flush(struct loch_wal_source *s)
{
    const int left = PQflush(s->conn);

    if (left < 0) {
        end(s, pq_failure(s, "the walsender is gone"));
        return;
    }
    s->want_write = left > 0;
    watch_stream(s);
}

static void send_status(struct loch_wal_source *s)
{
    char m[STATUS_BYTES] = {'r'};
    const int64_t now = loch_env_wall_us(s->o.env) - PG_EPOCH_US;

    if (s->dead || s->stage != STREAMING || s->reported == 0)
        return;
    put_be64(m + 1, s->reported);  /* written */
    put_be64(m + 9, s->reported);  /* flushed */
    put_be64(m + 17, s->reported); /* applied */
    put_be64(m + 25, (uint64_t)now);
    if (PQputCopyData(s->conn, m, STATUS_BYTES) != 1) {
        end(s, pq_failure(s, "the walsender does not take a status"));
        return;
    }
    flush(s);
}

static void status_timer(void *arg)
{
    struct loch_wal_source *s = arg;

    s->depth++;
    s->timer = NULL;
    if (!loch_is_ok(loch_env_timer(s->o.env, STATUS_MS, &s->timer, status_timer, s)))
        end(s, LOCH_FAIL(LOCH_E_NO_MEMORY, "no timer for the walsender"));
    send_status(s);
    s->depth--;
    maybe_free(s);
}

void loch_wal_source_report(struct loch_wal_source *s, loch_lsn lsn)
{
    if (lsn <= s->reported)
        return;
    s->depth++;
    s->reported = lsn;
    send_status(s);
    s->depth--;
    maybe_free(s);
}

/* ---- streaming ---- */

static loch_status take_message(struct loch_wal_source *s, const char *m, int len)
{
    if (len >= XLOGDATA_HEADER && m[0] == 'w')
        return s->o.wal(s->o.arg, get_be64(m + 1),
                        loch_slice_of(m + XLOGDATA_HEADER, (size_t)len - XLOGDATA_HEADER));
    if (len >= KEEPALIVE_BYTES && m[0] == 'k') {
        if (m[KEEPALIVE_BYTES - 1] != 0)
            send_status(s);
        return LOCH_OK;
    }
    return LOCH_FAIL(LOCH_E_CORRUPT, "unknown message from the walsender");
}

static void finish_stream(struct loch_wal_source *s)
{
    PGresult *res = PQgetResult(s->conn);
    const ExecStatusType status = PQresultStatus(res);

    if (status == PGRES_COPY_IN) {
        /* The server has ended its direction; ours follows. */
        PQclear(res);
        if (PQputCopyEnd(s->conn, NULL) != 1 || PQflush(s->conn) < 0) {
            end(s, pq_failure(s, "the stream does not end"));
            return;
        }
        s->stage = FINISHING;
        return;
    }
    PQclear(res);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        end(s, LOCH_OK);
    else
        end(s, pq_failure(s, "the walsender has ended"));
}

static void read_stream(struct loch_wal_source *s)
{
    bool got = false;

    if (PQconsumeInput(s->conn) != 1) {
        end(s, pq_failure(s, "the walsender is gone"));
        return;
    }
    while (!s->dead && !s->paused) {
        char *m = NULL;
        const int len = PQgetCopyData(s->conn, &m, 1);
        if (len == 0)
            break;
        if (len < 0) {
            if (got)
                s->o.batch(s->o.arg);
            if (!s->dead)
                finish_stream(s);
            return;
        }
        got = true;
        loch_status st = take_message(s, m, len);
        PQfreemem(m);
        if (!loch_is_ok(st))
            end(s, st);
    }
    if (got && !s->dead)
        s->o.batch(s->o.arg);
}

void loch_wal_source_pause(struct loch_wal_source *s, bool pause)
{
    if (s->dead || s->paused == pause)
        return;
    s->depth++;
    s->paused = pause;
    if (s->stage == STREAMING) {
        watch_stream(s);
        /* libpq may hold messages that no readiness will tell of. */
        if (!pause && s->depth == 1)
            read_stream(s);
    }
    s->depth--;
    maybe_free(s);
}

/* ---- getting there ---- */

static loch_status check_system(const struct loch_wal_source *s, PGresult *res)
{
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1)
        return pq_failure(s, "the server does not identify itself");
    const uint64_t id = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
    if (id != s->o.system_id)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the server is system %" PRIu64 ", the timeline is of %" PRIu64, id,
                         s->o.system_id);
    return LOCH_OK;
}

static void send_query(struct loch_wal_source *s, const char *query, enum stage next)
{
    if (PQsendQuery(s->conn, query) != 1) {
        end(s, pq_failure(s, "the walsender takes no command"));
        return;
    }
    s->stage = next;
    flush(s);
}

/* Takes the one result of a command; the next may be sent then. */
static PGresult *only_result(struct loch_wal_source *s)
{
    PGresult *res = PQgetResult(s->conn);
    PGresult *more;

    while ((more = PQgetResult(s->conn)) != NULL)
        PQclear(more);
    return res;
}

/* The slot keeps the server from removing WAL that it has not sent yet, and goes with the
 * connection. */
static void identified(struct loch_wal_source *s)
{
    PGresult *res = only_result(s);
    loch_status st = check_system(s, res);

    PQclear(res);
    if (loch_is_ok(st))
        send_query(s, "CREATE_REPLICATION_SLOT loch_proposer TEMPORARY PHYSICAL (RESERVE_WAL)",
                   RESERVING);
    else
        end(s, st);
}

static void reserved(struct loch_wal_source *s)
{
    char query[120];
    PGresult *res = only_result(s);
    const ExecStatusType status = PQresultStatus(res);

    PQclear(res);
    if (status != PGRES_TUPLES_OK) {
        end(s, pq_failure(s, "the server reserves no WAL"));
        return;
    }
    (void)snprintf(query, sizeof query,
                   "START_REPLICATION SLOT loch_proposer PHYSICAL " LOCH_LSN_FMT,
                   LOCH_LSN_ARG(s->o.start_lsn));
    send_query(s, query, STARTING);
}

static void started(struct loch_wal_source *s)
{
    PGresult *res = PQgetResult(s->conn);
    const ExecStatusType status = PQresultStatus(res);

    PQclear(res);
    if (status != PGRES_COPY_BOTH) {
        end(s, pq_failure(s, "the server does not stream its WAL"));
        return;
    }
    s->stage = STREAMING;
    s->timer = NULL;
    loch_status st = loch_env_timer(s->o.env, STATUS_MS, &s->timer, status_timer, s);
    if (!loch_is_ok(st)) {
        end(s, st);
        return;
    }
    send_status(s);
    if (!s->dead)
        s->o.streaming(s->o.arg);
    if (!s->dead)
        read_stream(s);
}

static void take_result(struct loch_wal_source *s)
{
    if (PQconsumeInput(s->conn) != 1) {
        end(s, pq_failure(s, "the walsender is gone"));
        return;
    }
    flush(s);
    if (s->dead || PQisBusy(s->conn))
        return;
    if (s->stage == IDENTIFYING)
        identified(s);
    else if (s->stage == RESERVING)
        reserved(s);
    else if (s->stage == STARTING)
        started(s);
    else
        finish_stream(s);
}

static void begin_connect(void *arg);

static void try_later(struct loch_wal_source *s)
{
    loch_status st = loch_env_timer(s->o.env, RETRY_MS, &s->timer, begin_connect, s);
    if (!loch_is_ok(st))
        end(s, st);
}

static void begin_connect(void *arg)
{
    struct loch_wal_source *s = arg;

    s->depth++;
    s->timer = NULL;
    s->stage = CONNECTING;
    if (!s->o.ready(s->o.arg)) {
        try_later(s);
    } else {
        s->conn = PQconnectStart(s->conninfo);
        if (s->conn == NULL)
            end(s, LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a connection"));
        else
            poll_connect(s);
    }
    s->depth--;
    maybe_free(s);
}

static void try_again(struct loch_wal_source *s)
{
    loch_status st = pq_failure(s, "no walsender");

    if (++s->tries >= CONNECT_LIMIT) {
        end(s, st);
        return;
    }
    if (s->tries % 1000 == 0)
        LOCH_WARN("%s", loch_error_text());
    drop_connection(s);
    try_later(s);
}

static void poll_connect(struct loch_wal_source *s)
{
    const PostgresPollingStatusType status =
        PQstatus(s->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PQconnectPoll(s->conn);

    switch (status) {
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(s->conn, 1) != 0)
            end(s, pq_failure(s, "the walsender's connection"));
        else
            send_query(s, "IDENTIFY_SYSTEM", IDENTIFYING);
        break;
    case PGRES_POLLING_READING:
        watch(s, LOCH_READABLE);
        break;
    case PGRES_POLLING_WRITING:
    case PGRES_POLLING_ACTIVE:
        watch(s, LOCH_WRITABLE);
        break;
    case PGRES_POLLING_FAILED:
        try_again(s);
        break;
    }
}

static void ready(void *arg, int events)
{
    struct loch_wal_source *s = arg;

    s->depth++;
    switch (s->stage) {
    case CONNECTING:
        poll_connect(s);
        break;
    case IDENTIFYING:
    case RESERVING:
    case STARTING:
    case FINISHING:
        take_result(s);
        break;
    case STREAMING:
        if ((events & LOCH_WRITABLE) != 0)
            flush(s);
        if (!s->dead && (events & LOCH_READABLE) != 0)
            read_stream(s);
        break;
    }
    s->depth--;
    maybe_free(s);
}

loch_status loch_wal_source_create(const struct loch_wal_source_order *order,
                                   struct loch_wal_source **out)
{
    struct loch_wal_source *s = calloc(1, sizeof *s);

    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the walsender's client");
    s->o = *order;
    s->watched_fd = -1;
    /* The socket's path is ours, without quotes or backslashes. */
    int n = snprintf(s->conninfo, sizeof s->conninfo,
                     "host='%s' port=%u user='%s' dbname=replication replication=true "
                     "application_name=loch_proposer sslmode=disable gssencmode=disable "
                     "password=none",
                     order->socket_dir, order->port, order->user);
    loch_status st = n < 0 || (size_t)n >= sizeof s->conninfo ||
                             strpbrk(order->user, "'\\") != NULL ||
                             strpbrk(order->socket_dir, "'\\") != NULL
                         ? LOCH_FAIL(LOCH_E_INVALID, "the superuser's name cannot be used")
                         : loch_env_timer(order->env, 0, &s->timer, begin_connect, s);
    if (!loch_is_ok(st)) {
        free(s);
        return st;
    }
    *out = s;
    return LOCH_OK;
}

void loch_wal_source_destroy(struct loch_wal_source *s)
{
    if (s == NULL || s->dead)
        return;
    kill_source(s);
    maybe_free(s);
}
