/* Holds: the pageserver's client of the WAL service.
 *
 * Invariants: at most one attempt or connection is alive; its callbacks carry a `link`, which
 * forgets the receiver when that attempt is given up, so that late events of an old connection do
 * nothing.
 */
#include "wal_receiver.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 1000
#define SILENCE_MS         2500          /* a safekeeper tells where it is every second */
#define RETRY_MS           UINT64_C(100) /* after each was asked in vain; twice that every */
#define RETRY_DOUBLINGS    4u            /* time, up to so often */
#define FEEDBACK_MS        20
#define WATCH_MS           500
#define UNKNOWN_MAX_MS     30000u /* between rounds, while no safekeeper knows the timeline */
#define WAITED_NS          UINT64_C(1000000000)   /* without WAL that somebody waits for */
#define SLOW_NS            UINT64_C(30000000000)  /* for WAL that is there to come */
#define PATIENCE_NS        UINT64_C(5000000000)   /* without WAL, at first */
#define PATIENCE_MAX_NS    UINT64_C(600000000000) /* and at last */

/* One attempt: outlives the receiver until its stream has closed. */
struct link {
    struct loch_wal_receiver *receiver; /* NULL: given up */
    struct loch_stream *stream;
    struct loch_tls_client *tls;
};

struct loch_wal_receiver {
    struct loch_wal_receiver_options o;
    struct link *link; /* NULL: pausing */
    struct loch_timer *retry, *feedback, *watch;
    size_t next;            /* index of the safekeeper to ask next */
    size_t failures;        /* in a row */
    struct loch_peer asked; /* the one asked now */
    /* Who is asked: the members of the timeline as the last PULL_STATE told them; at first the
     * safekeepers of the settings. */
    struct loch_peer peers[LOCH_SAFEKEEPERS_MAX];
    size_t peer_count;
    uint64_t generation;
    bool connected;
    bool flowing;
    loch_lsn position; /* where the next chunk must begin */
    uint64_t heard_ns; /* when the last frame came */
    uint64_t data_ns;  /* when the last WAL came, or this one was asked for it */
    uint64_t patience_ns;
    bool stated;                      /* the connection told its state */
    struct loch_wal_pull_state state; /* as told last; history and members are left out */
    size_t unknown;                   /* answers in a row that there is no such timeline */
    bool is_unknown;                  /* the last answer was that */
    uint64_t lost_ns;                 /* when the last attempt ended */
    bool turning; /* away from one that is not known to be bad: nothing for the log */
};

static void attempt(void *arg);

static void link_free(struct link *link)
{
    loch_tls_client_destroy(link->tls);
    free(link);
}

/* Forgets the current attempt; its stream closes by itself. */
static void give_up(struct loch_wal_receiver *r)
{
    struct link *link = r->link;

    r->link = NULL;
    r->connected = false;
    if (link == NULL)
        return;
    link->receiver = NULL;
    if (link->stream != NULL)
        loch_stream_close(link->stream);
}

static void retry_fired(void *arg)
{
    struct loch_wal_receiver *r = arg;
    r->retry = NULL;
    attempt(r);
}

/* Asks the next safekeeper, at once while there is one that was not asked in this round. */
static void go_on(struct loch_wal_receiver *r)
{
    r->failures++;
    r->next = (r->next + 1) % r->peer_count;
    size_t rounds = r->failures / r->peer_count;
    uint64_t delay = 1;
    if (r->failures % r->peer_count == 0)
        delay = RETRY_MS << loch_min_u64(rounds - 1, RETRY_DOUBLINGS);
    if (r->failures % r->peer_count == 0 && r->unknown >= r->peer_count)
        delay =
            loch_min_u64(UNKNOWN_MAX_MS, RETRY_MS << loch_min_u64(r->unknown / r->peer_count, 16));
    if (r->retry != NULL)
        return;
    if (!loch_is_ok(loch_env_timer(r->o.env, delay, &r->retry, retry_fired, r)))
        loch_log_failure("cannot set a timer for the next safekeeper");
}

static void lost(struct loch_wal_receiver *r, const char *why)
{
    const struct loch_peer *peer = &r->asked;

    if (!r->is_unknown)
        r->unknown = 0;
    r->is_unknown = false;
    r->lost_ns = loch_env_now_ns(r->o.env);
    /* One line when a connection is lost, and one every five rounds while none can be had: a
     * timeline that was just made is not known to all of them yet. */
    if ((r->connected && r->unknown <= 1) || (r->failures + 1) % (5 * r->peer_count) == 0)
        LOCH_WARN("no WAL from the safekeeper at %s: %s", peer->address, why);
    give_up(r);
    go_on(r);
}

/* Whoever is next may have more: soon when somebody waits, but one that has more, or has not said
 * yet, is given the time to fetch it. */
static void turn(struct loch_wal_receiver *r)
{
    r->turning = true;
    give_up(r);
    go_on(r);
}

static void look_for_more(struct loch_wal_receiver *r)
{
    const uint64_t idle_ns = loch_env_now_ns(r->o.env) - r->data_ns;
    const bool waited = idle_ns > WAITED_NS && r->o.events.wanted(r->o.arg) > r->position;

    const bool has_more = !r->stated || r->state.commit_lsn > r->position;

    if (r->peer_count < 2 || (!waited && idle_ns <= r->patience_ns))
        return;
    if (has_more && idle_ns <= SLOW_NS)
        return;
    if (!waited)
        r->patience_ns = loch_min_u64(r->patience_ns * 2, PATIENCE_MAX_NS);
    turn(r);
}

static loch_status take_data(struct loch_wal_receiver *r, struct loch_slice payload)
{
    struct loch_wal_pull_data m;

    LOCH_TRY(loch_wal_pull_data_decode(payload, &m));
    if (m.begin != r->position)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "WAL at " LOCH_LSN_FMT " came where " LOCH_LSN_FMT " was due",
                         LOCH_LSN_ARG(m.begin), LOCH_LSN_ARG(r->position));
    loch_status st = r->o.events.wal(r->o.arg, m.begin, m.bytes);
    if (!loch_is_ok(st)) {
        r->position = r->o.events.restart_from(r->o.arg);
        return st;
    }
    r->position = m.begin + m.bytes.len;
    r->data_ns = r->heard_ns;
    r->patience_ns = PATIENCE_NS;
    return LOCH_OK;
}

/* Goes by the newest membership. A safekeeper that is no member any more gets no more WAL. */
static loch_status take_members(struct loch_wal_receiver *r, const struct loch_membership *m)
{
    bool member = false;

    if (m->generation <= r->generation)
        return LOCH_OK;
    r->generation = m->generation;
    r->peer_count = 0;
    r->next = 0;
    for (uint32_t i = 0; i < m->count && i < LOCH_SAFEKEEPERS_MAX; i++) {
        size_t k = 0; /* a node that rejoins without its disk stands there twice */
        while (k < r->peer_count && !loch_id_equal(&r->peers[k].node, &m->members[i].node))
            k++;
        if (k == r->peer_count)
            r->peers[r->peer_count++].node = m->members[i].node;
        (void)snprintf(r->peers[k].address, sizeof r->peers[k].address, "%s",
                       m->members[i].address);
        if (loch_id_equal(&r->peers[k].node, &r->asked.node)) {
            member = true;
            r->next = k;
        }
    }
    return member ? LOCH_OK : LOCH_FAIL(LOCH_E_UNAVAILABLE, "it is no longer a member");
}

static loch_status take_state(struct loch_wal_receiver *r, struct loch_slice payload)
{
    struct loch_wal_pull_state m;

    LOCH_TRY(loch_wal_pull_state_decode(payload, &m));
    r->stated = true;
    r->state = m;
    r->state.history = (struct loch_term_history){0};
    r->state.membership = (struct loch_membership){0};
    r->o.events.state(r->o.arg, &r->state);
    loch_status st = take_members(r, &m.membership);
    loch_wal_pull_state_fini(&m);
    return st;
}

/* The rest is as it was. */
static loch_status take_positions(struct loch_wal_receiver *r, struct loch_slice payload)
{
    struct loch_wal_pull_positions m;

    LOCH_TRY(loch_wal_pull_positions_decode(payload, &m));
    if (!r->stated)
        return LOCH_FAIL(LOCH_E_CORRUPT, "it tells positions before its state");
    r->state.flush_lsn = m.flush_lsn;
    r->state.commit_lsn = m.commit_lsn;
    r->o.events.state(r->o.arg, &r->state);
    return LOCH_OK;
}

static loch_status take_frame(struct loch_wal_receiver *r, uint8_t type, struct loch_slice payload)
{
    r->heard_ns = loch_env_now_ns(r->o.env);
    if (type != LOCH_WAL_ERROR) { /* a refusal is no sign of life */
        r->failures = 0;
        r->unknown = 0;
    }
    switch (type) {
    case LOCH_WAL_PULL_DATA:
        return take_data(r, payload);
    case LOCH_WAL_PULL_STATE:
        return take_state(r, payload);
    case LOCH_WAL_PULL_POSITIONS:
        return take_positions(r, payload);
    case LOCH_WAL_ERROR: {
        struct loch_wire_error m;
        LOCH_TRY(loch_wire_error_decode(payload, &m));
        r->is_unknown = m.code == LOCH_E_NOT_FOUND;
        r->unknown += r->is_unknown ? 1 : 0;
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "it says: %.*s", (int)m.text.len,
                         (const char *)m.text.data);
    }
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected message of type %u", type);
    }
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct link *link = arg;

    if (link->receiver == NULL)
        return LOCH_OK;
    return take_frame(link->receiver, type, payload);
}

static void on_closed(void *arg, loch_status st)
{
    struct link *link = arg;
    struct loch_wal_receiver *r = link->receiver;
    char why[300];

    (void)snprintf(why, sizeof why, "%s", loch_is_ok(st) ? "it closed" : loch_error_text());
    link->stream = NULL;
    if (r != NULL) {
        LOCH_ASSERT(r->link == link);
        r->link = NULL;
        link_free(link);
        lost(r, why);
        return;
    }
    link_free(link);
}

static const struct loch_stream_events stream_events = {.frame = on_frame, .closed = on_closed};

static loch_status ask(struct loch_wal_receiver *r, struct link *link)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_wal_pull m = {.version = LOCH_WIRE_PULL_VERSION,
                              .tenant = r->o.tenant,
                              .timeline = r->o.timeline,
                              .mode = LOCH_PULL_COMMITTED,
                              .from = r->position};

    loch_writer_init(&w, &buf);
    loch_wal_pull_encode(&w, &m);
    loch_status st = loch_writer_finish(&w);
    if (loch_is_ok(st))
        loch_stream_send(link->stream, &buf);
    else
        loch_buf_fini(&buf);
    return st;
}

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct link *link = arg;
    struct loch_wal_receiver *r = link->receiver;
    char why[300];

    (void)snprintf(why, sizeof why, "%s", loch_is_ok(st) ? "" : loch_error_text());
    if (stream != NULL) {
        link->stream = stream;
        loch_stream_attach(stream, &stream_events, link);
        if (r == NULL) {
            loch_stream_close(stream);
            return;
        }
        r->heard_ns = loch_env_now_ns(r->o.env);
        r->connected = true;
        r->stated = false;
        r->data_ns = r->heard_ns;
        if (!r->turning)
            LOCH_INFO("WAL from the safekeeper at %s, from " LOCH_LSN_FMT, r->asked.address,
                      LOCH_LSN_ARG(r->position));
        r->turning = false;
        loch_stream_read(stream, r->flowing);
        if (!loch_is_ok(ask(r, link)))
            loch_stream_close(stream);
        loch_wal_receiver_moved(r);
        return;
    }
    if (r != NULL) {
        r->link = NULL;
        link_free(link);
        lost(r, why);
        return;
    }
    link_free(link);
}

loch_status loch_wal_receiver_tls(const struct loch_wal_receiver_options *o,
                                  const struct loch_peer *peer, struct loch_tls_client **out)
{
    struct loch_psk_identity identity = {.version = 1,
                                         .client_role = LOCH_ROLE_PAGESERVER,
                                         .server_role = LOCH_ROLE_SAFEKEEPER,
                                         .rights = LOCH_RIGHT_WAL_PULL,
                                         .cluster = o->config->cluster,
                                         .tenant = o->tenant,
                                         .timeline = o->timeline,
                                         .client_id = o->config->node,
                                         .server_node = peer->node};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};
    loch_status st;

    LOCH_TRY_OUT(
        st, loch_env_random(o->env, identity.client_boot.bytes, sizeof identity.client_boot.bytes));
    LOCH_TRY_OUT(st, loch_keys_psk(o->keys, &identity, &psk));
    LOCH_TRY_OUT(st, loch_psk_identity_encode(&identity, &encoded));
    LOCH_TRY_OUT(st, loch_tls_client_create(loch_buf_slice(&encoded), &psk, out));
out:
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    return st;
}

static void attempt(void *arg)
{
    struct loch_wal_receiver *r = arg;
    const struct loch_peer *peer = &r->peers[r->next];
    struct link *link = calloc(1, sizeof *link);

    LOCH_ASSERT(r->link == NULL);
    r->asked = *peer;
    if (link == NULL) {
        go_on(r);
        return;
    }
    link->receiver = r;
    loch_status st = loch_wal_receiver_tls(&r->o, peer, &link->tls);
    if (loch_is_ok(st))
        st = loch_env_connect(r->o.env, peer->address, link->tls, CONNECT_TIMEOUT_MS, on_connected,
                              link);
    if (!loch_is_ok(st)) {
        link_free(link);
        lost(r, loch_error_text());
        return;
    }
    r->link = link;
}

/* Somebody waits: the safekeepers are asked every second at least. */
static void shorten_pause(struct loch_wal_receiver *r)
{
    if (r->retry == NULL || r->link != NULL || r->o.events.wanted(r->o.arg) <= r->position ||
        loch_env_now_ns(r->o.env) - r->lost_ns < WAITED_NS)
        return;
    loch_timer_cancel(r->retry);
    r->retry = NULL;
    attempt(r);
}

static void watch_fired(void *arg)
{
    struct loch_wal_receiver *r = arg;

    r->watch = NULL;
    if (!loch_is_ok(loch_env_timer(r->o.env, WATCH_MS, &r->watch, watch_fired, r)))
        loch_log_failure("cannot set the timer that watches for silence");
    /* While we do not read, silence is our own. */
    if (r->connected && r->flowing &&
        loch_env_now_ns(r->o.env) - r->heard_ns > (uint64_t)SILENCE_MS * 1000000)
        lost(r, "it fell silent");
    else
        loch_wal_receiver_moved(r);
    if (r->connected && r->flowing)
        look_for_more(r);
    else
        shorten_pause(r);
}

static void feedback_fired(void *arg)
{
    struct loch_wal_receiver *r = arg;
    struct loch_wal_pull_feedback m = {0};
    struct loch_buf buf = {0};
    struct loch_writer w;

    r->feedback = NULL;
    if (!r->connected)
        return;
    r->o.events.positions(r->o.arg, &m);
    loch_writer_init(&w, &buf);
    loch_wal_pull_feedback_encode(&w, &m);
    if (loch_is_ok(loch_writer_finish(&w)))
        loch_stream_send(r->link->stream, &buf);
    else
        loch_buf_fini(&buf);
}

void loch_wal_receiver_moved(struct loch_wal_receiver *r)
{
    if (!r->connected || r->feedback != NULL)
        return;
    if (!loch_is_ok(loch_env_timer(r->o.env, FEEDBACK_MS, &r->feedback, feedback_fired, r)))
        loch_log_failure("cannot set the timer of the feedback");
}

void loch_wal_receiver_flow(struct loch_wal_receiver *r, bool on)
{
    r->flowing = on;
    r->heard_ns = loch_env_now_ns(r->o.env);
    r->data_ns = r->heard_ns;
    if (r->connected)
        loch_stream_read(r->link->stream, on);
}

const char *loch_wal_receiver_source(const struct loch_wal_receiver *r)
{
    return r->connected ? r->asked.address : NULL;
}

const struct loch_peer *loch_wal_receiver_peers(const struct loch_wal_receiver *r, size_t *count)
{
    *count = r->peer_count;
    return r->peers;
}

loch_status loch_wal_receiver_create(const struct loch_wal_receiver_options *options,
                                     struct loch_wal_receiver **out)
{
    struct loch_wal_receiver *r = calloc(1, sizeof *r);
    uint8_t first = 0;

    if (r == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL receiver");
    r->o = *options;
    r->position = options->from;
    r->flowing = true;
    r->patience_ns = PATIENCE_MAX_NS; /* thousands of idle ones begin at once */
    /* Timelines spread over the safekeepers. */
    loch_status st = loch_env_random(options->env, &first, sizeof first);
    r->peer_count = options->config->safekeeper_count;
    memcpy(r->peers, options->config->safekeepers, r->peer_count * sizeof r->peers[0]);
    r->next = first % r->peer_count;
    if (loch_is_ok(st))
        st = loch_env_timer(options->env, WATCH_MS, &r->watch, watch_fired, r);
    if (loch_is_ok(st))
        st = loch_env_timer(options->env, 0, &r->retry, retry_fired, r);
    if (!loch_is_ok(st)) {
        loch_timer_cancel(r->watch);
        free(r);
        return st;
    }
    *out = r;
    return LOCH_OK;
}

void loch_wal_receiver_destroy(struct loch_wal_receiver *r)
{
    if (r == NULL)
        return;
    give_up(r);
    loch_timer_cancel(r->retry);
    loch_timer_cancel(r->feedback);
    loch_timer_cancel(r->watch);
    free(r);
}
