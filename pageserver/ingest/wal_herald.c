/* Holds: the pageserver's word to safekeepers that it does not read from.
 *
 * Invariants: at most one call is under way; it carries a `call`, which forgets the herald when
 * that is destroyed; a safekeeper counts as told when it has answered the PULL that comes before
 * the positions, for then it has both.
 */
#include "wal_herald.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 1000
#define RETRY_MS           5000
#define SOON_MS            50

struct call {
    struct loch_wal_herald *herald; /* NULL: given up */
    struct loch_stream *stream;
    struct loch_tls_client *tls;
    size_t peer;
    loch_lsn told;
};

struct loch_wal_herald {
    struct loch_wal_receiver_options o;
    struct call *call;
    struct loch_timer *timer;
    size_t next;
    loch_lsn told[LOCH_SAFEKEEPERS_MAX];
};

static loch_lsn persisted(struct loch_wal_herald *h, struct loch_wal_pull_feedback *out)
{
    h->o.events.positions(h->o.arg, out);
    return out->remote_consistent_lsn;
}

/* The next safekeeper that has not heard of the last whole multiple, if any. */
static bool find(const struct loch_wal_herald *h, loch_lsn lsn, size_t *peer)
{
    size_t count = h->o.config->safekeeper_count;

    for (size_t i = 0; i < count; i++) {
        *peer = (h->next + i) % count;
        if (h->told[*peer] / LOCH_HERALD_BYTES < lsn / LOCH_HERALD_BYTES)
            return true;
    }
    return false;
}

static void attempt(void *arg);

static void later(struct loch_wal_herald *h, uint64_t ms)
{
    if (h->timer == NULL && !loch_is_ok(loch_env_timer(h->o.env, ms, &h->timer, attempt, h)))
        loch_log_failure("cannot set a timer to tell safekeepers what is persisted");
}

/* The call is over: on to the next one, after a while if it was in vain. */
static void call_end(struct call *call, bool told)
{
    struct loch_wal_herald *h = call->herald;

    if (h != NULL) {
        h->call = NULL;
        if (told)
            h->told[call->peer] = call->told;
        later(h, told ? SOON_MS : RETRY_MS);
    }
    loch_tls_client_destroy(call->tls);
    free(call);
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct call *call = arg;
    struct loch_wal_herald *h = call->herald;

    (void)payload;
    if (h == NULL || type != LOCH_WAL_PULL_STATE)
        return type == LOCH_WAL_ERROR ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "refused") : LOCH_OK;
    h->told[call->peer] = call->told;
    loch_stream_close(call->stream);
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct call *call = arg;

    (void)st;
    call->stream = NULL;
    call_end(call, call->herald != NULL && call->herald->told[call->peer] == call->told);
}

static const struct loch_stream_events stream_events = {on_frame, on_closed, NULL};

static loch_status say(struct loch_wal_herald *h, struct call *call)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_wal_pull_feedback m = {0};

    call->told = persisted(h, &m);
    struct loch_wal_pull pull = {.version = LOCH_WIRE_WAL_VERSION,
                                 .tenant = h->o.tenant,
                                 .timeline = h->o.timeline,
                                 .mode = LOCH_PULL_COMMITTED,
                                 .from = m.last_record_lsn};
    loch_writer_init(&w, &buf);
    loch_wal_pull_encode(&w, &pull);
    loch_wal_pull_feedback_encode(&w, &m);
    loch_status st = loch_writer_finish(&w);
    if (loch_is_ok(st))
        loch_stream_send(call->stream, &buf);
    else
        loch_buf_fini(&buf);
    return st;
}

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct call *call = arg;

    (void)st;
    if (stream == NULL) {
        call_end(call, false);
        return;
    }
    call->stream = stream;
    loch_stream_attach(stream, &stream_events, call);
    if (call->herald == NULL || !loch_is_ok(say(call->herald, call)))
        loch_stream_close(stream);
}

static void attempt(void *arg)
{
    struct loch_wal_herald *h = arg;
    struct loch_wal_pull_feedback m = {0};
    size_t peer = 0;

    h->timer = NULL;
    if (h->call != NULL || !find(h, persisted(h, &m), &peer))
        return;
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        later(h, RETRY_MS);
        return;
    }
    call->herald = h;
    call->peer = peer;
    h->next = (peer + 1) % h->o.config->safekeeper_count;
    const struct loch_peer *to = &h->o.config->safekeepers[peer];
    loch_status st = loch_wal_receiver_tls(&h->o, to, &call->tls);
    if (loch_is_ok(st))
        st = loch_env_connect(h->o.env, to->address, call->tls, CONNECT_TIMEOUT_MS, on_connected,
                              call);
    if (loch_is_ok(st))
        h->call = call;
    else
        call_end(call, false);
}

void loch_wal_herald_moved(struct loch_wal_herald *h)
{
    struct loch_wal_pull_feedback m = {0};
    size_t peer;

    if (h->call == NULL && h->timer == NULL && find(h, persisted(h, &m), &peer))
        later(h, SOON_MS);
}

loch_status loch_wal_herald_create(const struct loch_wal_receiver_options *options,
                                   struct loch_wal_herald **out)
{
    struct loch_wal_herald *h = calloc(1, sizeof *h);

    if (h == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL herald");
    h->o = *options;
    *out = h;
    return LOCH_OK;
}

void loch_wal_herald_destroy(struct loch_wal_herald *h)
{
    if (h == NULL)
        return;
    loch_timer_cancel(h->timer);
    if (h->call != NULL) {
        h->call->herald = NULL;
        if (h->call->stream != NULL)
            loch_stream_close(h->call->stream);
    }
    free(h);
}
