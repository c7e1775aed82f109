/* Holds: the pageserver's word to all safekeepers of a timeline.
 *
 * Invariants: at most one call is under way; it carries a `call`, which forgets the herald when
 * that is destroyed; a safekeeper counts as told when it has answered the PULL that comes before
 * the positions, for then it has both. Who was told what is forgotten from time to time, for a
 * safekeeper that has restarted since knows nothing of it.
 */
#include "wal_herald.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 1000
#define RETRY_MS           5000
#define SOON_MS            50
#define REPEAT_MS          60000
#define REPEAT_MAX_MS      (8 * REPEAT_MS) /* while nothing moves */

struct call {
    struct loch_wal_herald *herald; /* NULL: given up */
    struct loch_stream *stream;
    struct loch_tls_client *tls;
    struct loch_id node;
    loch_lsn told;
    bool heard;
};

struct loch_wal_herald {
    struct loch_wal_receiver_options o;
    loch_wal_herald_peers peers;
    struct call *call;
    struct loch_timer *timer, *repeat;
    size_t next;
    struct {
        struct loch_id node;
        loch_lsn lsn;
    } told[LOCH_SAFEKEEPERS_MAX];
    size_t told_count;
    uint64_t repeat_ms;
    loch_lsn repeated_lsn; /* persisted when all was forgotten last */
};

static loch_lsn persisted(struct loch_wal_herald *h, struct loch_wal_pull_feedback *out)
{
    h->o.events.positions(h->o.arg, out);
    return out->remote_consistent_lsn;
}

static loch_lsn told(const struct loch_wal_herald *h, const struct loch_id *node)
{
    for (size_t i = 0; i < h->told_count; i++)
        if (loch_id_equal(&h->told[i].node, node))
            return h->told[i].lsn;
    return 0;
}

static void note(struct loch_wal_herald *h, const struct loch_id *node, loch_lsn lsn)
{
    size_t i = 0;

    while (i < h->told_count && !loch_id_equal(&h->told[i].node, node))
        i++;
    if (i == LOCH_SAFEKEEPERS_MAX)
        i = h->told_count = 0; /* others have left: who is there now is told once more */
    if (i == h->told_count)
        h->told_count++;
    h->told[i].node = *node;
    h->told[i].lsn = lsn;
}

/* The next safekeeper that has not heard of the last whole multiple, if any. */
static bool find(const struct loch_wal_herald *h, loch_lsn lsn, size_t *at, struct loch_peer *peer)
{
    size_t count = 0;
    const struct loch_peer *peers = h->peers(h->o.arg, &count);

    for (size_t i = 0; i < count; i++) {
        *at = (h->next + i) % count;
        *peer = peers[*at];
        if (told(h, &peer->node) / LOCH_HERALD_BYTES < lsn / LOCH_HERALD_BYTES)
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
static void call_end(struct call *call)
{
    struct loch_wal_herald *h = call->herald;

    if (h != NULL) {
        h->call = NULL;
        if (call->heard)
            note(h, &call->node, call->told);
        later(h, call->heard ? SOON_MS : RETRY_MS);
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
    call->heard = true;
    loch_stream_close(call->stream);
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct call *call = arg;

    (void)st;
    call->stream = NULL;
    call_end(call);
}

static const struct loch_stream_events stream_events = {.frame = on_frame, .closed = on_closed};

static loch_status say(struct loch_wal_herald *h, struct call *call)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_wal_pull_feedback m = {0};

    call->told = persisted(h, &m);
    struct loch_wal_pull pull = {.version = LOCH_WIRE_PULL_VERSION,
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
        call_end(call);
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
    struct loch_peer to;
    size_t at = 0;

    h->timer = NULL;
    if (h->call != NULL || !find(h, persisted(h, &m), &at, &to))
        return;
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        later(h, RETRY_MS);
        return;
    }
    call->herald = h;
    call->node = to.node;
    h->next = at + 1;
    loch_status st = loch_wal_receiver_tls(&h->o, &to, &call->tls);
    if (loch_is_ok(st))
        st = loch_env_connect(h->o.env, to.address, call->tls, CONNECT_TIMEOUT_MS, on_connected,
                              call);
    if (loch_is_ok(st))
        h->call = call;
    else
        call_end(call);
}

void loch_wal_herald_moved(struct loch_wal_herald *h)
{
    struct loch_wal_pull_feedback m = {0};
    struct loch_peer peer;
    size_t at;

    if (h->call == NULL && h->timer == NULL && find(h, persisted(h, &m), &at, &peer))
        later(h, SOON_MS);
}

static void repeat(void *arg)
{
    struct loch_wal_herald *h = arg;
    struct loch_wal_pull_feedback m = {0};
    loch_lsn lsn = persisted(h, &m);

    h->repeat = NULL;
    h->repeat_ms =
        lsn != h->repeated_lsn ? REPEAT_MS : loch_min_u64(2 * h->repeat_ms, REPEAT_MAX_MS);
    h->repeated_lsn = lsn;
    h->told_count = 0;
    loch_wal_herald_moved(h);
    if (!loch_is_ok(loch_env_timer(h->o.env, h->repeat_ms, &h->repeat, repeat, h)))
        loch_log_failure("cannot set a timer to tell safekeepers once more what is persisted");
}

loch_status loch_wal_herald_create(const struct loch_wal_receiver_options *options,
                                   loch_wal_herald_peers peers, struct loch_wal_herald **out)
{
    struct loch_wal_herald *h = calloc(1, sizeof *h);

    if (h == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL herald");
    h->o = *options;
    h->peers = peers;
    h->repeat_ms = REPEAT_MS;
    loch_status st = loch_env_timer(options->env, REPEAT_MS, &h->repeat, repeat, h);
    if (!loch_is_ok(st)) {
        free(h);
        return st;
    }
    *out = h;
    return LOCH_OK;
}

void loch_wal_herald_destroy(struct loch_wal_herald *h)
{
    if (h == NULL)
        return;
    loch_timer_cancel(h->timer);
    loch_timer_cancel(h->repeat);
    if (h->call != NULL) {
        h->call->herald = NULL;
        if (h->call->stream != NULL)
            loch_stream_close(h->call->stream);
    }
    free(h);
}

bool loch_wal_herald_all_told(const struct loch_wal_herald *h)
{
    struct loch_wal_pull_feedback m = {0};
    struct loch_peer peer;
    size_t at = 0;

    h->o.events.positions(h->o.arg, &m);
    return h->call == NULL && !find(h, m.remote_consistent_lsn, &at, &peer);
}
