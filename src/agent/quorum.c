/* Holds: the hands of the proposer machine.
 *
 * A peer's connection attempt cannot be taken back, so a closed quorum lives on, silent, until its
 * last connection has reported its end (`busy` counts them).
 */
#include "quorum.h"

#include "pace.h"
#include "wal_window.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"
#include "loch/base/log.h"
#include "loch/consensus/membership.h"
#include "loch/consensus/proposer.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS  2000u
#define RETRY_FIRST_MS      50u
#define RETRY_LAST_MS       1000u
#define TICK_MS             100u
#define NEWS_MS             2u /* a commit_lsn waits so long for WAL to travel with */
#define IN_FLIGHT_BYTES     (UINT64_C(8) << 20)
#define REPLY_TIMEOUT_MS    10000u
#define ELECTION_TIMEOUT_MS 1000u
#define HEARTBEAT_MS        1000u
#define STUCK_MS            10000u
#define SLACK_BYTES         (UINT64_C(512) << 10)

/* A slot's member. Lives on, dropped, until its connection has reported its end. */
struct peer {
    struct loch_quorum *q;
    uint32_t index; /* the slot */
    struct loch_id id, node;
    bool dropped;
    bool pending; /* a connection, or an attempt, will still call back */
    const struct loch_credential_server *server;
    struct loch_stream *stream; /* NULL: none, or on its way */
    struct loch_timer *retry;
    uint64_t retry_ms;
    uint64_t lost_ms; /* since when there is no connection; 0: there is one */
    bool told;        /* the log knows that it is away */
    bool outage;      /* it said that its KMS is away for too long, and has not taken us since */
    char why[160];
};

struct loch_quorum {
    struct loch_quorum_order o;
    struct loch_proposer *proposer;
    struct loch_wal_window window;
    struct loch_timer *tick, *news, *held;
    struct loch_pace pace; /* `held`: until when WAL waits for company */
    bool contacts;         /* the members are not known yet */
    uint32_t busy;         /* connections that will still call back */
    uint32_t depth;        /* calls of ours on the stack */
    bool closed;
    bool was_full;
    uint64_t random;
    uint64_t begun_ms;
    uint64_t stuck_ms;                    /* since when it looks so; 0: it does not */
    struct peer *peers[LOCH_MEMBERS_MAX]; /* by slot; NULL: nobody sits there */
};

static void connect_peer(void *arg);
static void lose(struct peer *p, const char *why);

static uint64_t now_ms(const struct loch_quorum *q)
{
    return loch_env_now_ns(q->o.env) / 1000000u;
}

/* Candidates must not keep step; nothing here is secret (splitmix64 from a random seed). */
static struct loch_proposer_now now_of(struct loch_quorum *q)
{
    uint64_t z = (q->random += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (struct loch_proposer_now){.ms = now_ms(q), .random = z ^ (z >> 31)};
}

static void maybe_free(struct loch_quorum *q)
{
    if (!q->closed || q->busy > 0 || q->depth > 0)
        return;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        free(q->peers[i]);
    loch_proposer_destroy(q->proposer);
    loch_wal_window_fini(&q->window);
    free(q);
}

/* Is a quorum being sent WAL, and has written at least up to lsn? */
static bool quorum_writes(const struct loch_quorum *q, const struct loch_proposer_view *view,
                          loch_lsn lsn)
{
    bool has[LOCH_MEMBERS_MAX];

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        const struct loch_proposer_member_view *m = &view->members[i];
        has[i] = m->installed && !m->recovering && m->write_lsn >= lsn;
    }
    return loch_proposer_quorum(q->proposer, has);
}

/* What the window must keep: what is not committed, except for the front of a record so long that
 * it does not fit: of that, what a quorum has not written yet. */
static loch_lsn keep_from(const struct loch_quorum *q)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    loch_lsn keep = loch_max_u64(view.commit_lsn, view.start_lsn);
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        const loch_lsn written = view.members[i].write_lsn;
        if (written > keep && quorum_writes(q, &view, written))
            keep = written;
    }
    return keep;
}

/* The front of a very long record is gone from memory, and no quorum is left that has it: nobody
 * can ever commit it. */
static bool is_stuck(struct loch_quorum *q)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    if (view.state != LOCH_PROPOSER_LEADING || view.commit_lsn >= q->window.start ||
        view.commit_lsn == 0 || quorum_writes(q, &view, 0))
        q->stuck_ms = 0;
    else if (q->stuck_ms == 0)
        q->stuck_ms = now_ms(q);
    return q->stuck_ms != 0 && now_ms(q) - q->stuck_ms > STUCK_MS;
}

/* ---- effects ---- */

/* An APPEND frame whose bytes come straight out of the window, in one or two pieces. */
static void encode_append(struct loch_quorum *q, struct loch_writer *w,
                          const struct loch_proposer_message *m)
{
    struct loch_slice parts[2];
    struct loch_wal_append append = m->u.append;
    uint8_t *joined = NULL;

    loch_wal_window_get(&q->window, append.begin, m->append_len, parts);
    append.bytes = parts[0];
    if (parts[1].len > 0) {
        joined = malloc(m->append_len);
        if (joined == NULL) {
            w->bad = true;
            return;
        }
        memcpy(joined, parts[0].data, parts[0].len);
        memcpy(joined + parts[0].len, parts[1].data, parts[1].len);
        append.bytes = loch_slice_of(joined, m->append_len);
    }
    loch_wal_append_encode(w, &append);
    free(joined);
}

static void send_message(struct loch_quorum *q, const struct loch_proposer_effect *e)
{
    struct peer *p = q->peers[e->member];
    const struct loch_proposer_message *m = &e->message;
    struct loch_buf buf = {0};
    struct loch_writer w;

    if (p == NULL || p->stream == NULL)
        return;
    loch_writer_init(&w, &buf);
    if (m->type == LOCH_WAL_HELLO)
        loch_wal_hello_encode(&w, &m->u.hello);
    else if (m->type == LOCH_WAL_VOTE)
        loch_wal_vote_encode(&w, &m->u.vote);
    else if (m->type == LOCH_WAL_ELECTED)
        loch_wal_elected_encode(&w, &m->u.elected);
    else if (m->append_len > 0)
        encode_append(q, &w, m);
    else
        loch_wal_append_encode(&w, &m->u.append);
    if (loch_is_ok(loch_writer_finish(&w))) {
        loch_stream_send(p->stream, &buf);
        return;
    }
    loch_buf_fini(&buf);
    lose(p, "no memory for a message");
}

static void take_elected(struct loch_quorum *q)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    loch_wal_window_begin(&q->window, view.start_lsn);
    q->o.events->elected(q->o.arg, view.term, view.start_lsn, view.start_prev_lsn);
}

static void carry_out(struct loch_quorum *q, loch_status st, struct loch_proposer_effects *effects);
static void take_members(struct loch_quorum *q);

static void news_fired(void *arg)
{
    struct loch_quorum *q = arg;
    struct loch_proposer_effects effects = {0};

    q->news = NULL;
    carry_out(q, loch_proposer_tell(q->proposer, now_of(q), &effects), &effects);
}

/* Without a timer the tick tells it. */
static void arm_news(struct loch_quorum *q)
{
    struct loch_proposer_view view;

    if (q->news != NULL)
        return;
    loch_proposer_look(q->proposer, &view);
    if (view.news && !loch_is_ok(loch_env_timer(q->o.env, NEWS_MS, &q->news, news_fired, q)))
        loch_log_failure("cannot set the timer of the commit_lsn");
}

/* Carries out and frees. A callback may close the quorum: nothing is done after that. */
static void carry_out(struct loch_quorum *q, loch_status st, struct loch_proposer_effects *effects)
{
    q->depth++;
    if (!loch_is_ok(st) && !q->closed)
        q->o.events->lost(q->o.arg, loch_error_text());
    for (size_t k = 0; k < effects->count && !q->closed; k++) {
        const struct loch_proposer_effect *e = &effects->items[k];
        switch (e->kind) {
        case LOCH_PROPOSER_SEND:
            send_message(q, e);
            break;
        case LOCH_PROPOSER_CLOSE:
            if (q->peers[e->member] != NULL)
                lose(q->peers[e->member], e->text);
            break;
        case LOCH_PROPOSER_MEMBERS:
            take_members(q);
            break;
        case LOCH_PROPOSER_ELECTED:
            take_elected(q);
            break;
        case LOCH_PROPOSER_COMMIT:
            loch_pace_committed(&q->pace, e->lsn);
            q->o.events->committed(q->o.arg, e->lsn);
            break;
        case LOCH_PROPOSER_FENCED:
            q->o.events->fenced(q->o.arg, e->text);
            break;
        }
    }
    if (!q->closed && q->was_full && !loch_quorum_full(q)) {
        q->was_full = false;
        q->o.events->room(q->o.arg);
    }
    if (!q->closed)
        arm_news(q);
    loch_proposer_effects_fini(effects);
    q->depth--;
    maybe_free(q);
}

/* ---- connections ---- */

static void retry_fired(void *arg)
{
    ((struct peer *)arg)->retry = NULL;
    connect_peer(arg);
}

static void note_loss(struct peer *p, const char *why)
{
    if (p->lost_ms == 0)
        p->lost_ms = now_ms(p->q);
    (void)snprintf(p->why, sizeof p->why, "%s", why);
    if (!p->told)
        LOCH_WARN("safekeeper %u at %s is away: %s", p->index + 1, p->server->address, p->why);
    p->told = true;
}

/* The connection is gone for good: try again later, each time a little later. */
static void schedule(struct peer *p)
{
    if (p->q->closed || p->dropped || p->retry != NULL)
        return;
    p->retry_ms = p->retry_ms == 0 ? RETRY_FIRST_MS : loch_min_u64(p->retry_ms * 2, RETRY_LAST_MS);
    if (!loch_is_ok(loch_env_timer(p->q->o.env, p->retry_ms, &p->retry, retry_fired, p)))
        LOCH_ERROR("safekeeper %u is given up: %s", p->index + 1, loch_error_text());
}

/* Gives the connection up from our side; its end is reported later. */
static void lose(struct peer *p, const char *why)
{
    struct loch_stream *stream = p->stream;

    if (stream == NULL)
        return;
    note_loss(p, why);
    p->stream = NULL;
    loch_proposer_disconnected(p->q->proposer, p->index);
    loch_stream_close(stream);
}

/* The proposer knows nothing of it: the connection ends, and the next one brings it again. */
static loch_status untold(loch_status st)
{
    return st.code == LOCH_E_NO_MEMORY ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", loch_error_text())
                                       : st;
}

/* Tells the proposer of the members, once they can be connected to. */
static loch_status take_members_frame(struct peer *p, struct loch_slice payload,
                                      struct loch_proposer_effects *out)
{
    struct loch_wal_members m;

    LOCH_TRY(untold(loch_wal_members_decode(payload, &m)));
    loch_status st = untold(loch_credential_learn(p->q->o.credential, &m));
    if (loch_is_ok(st))
        st = loch_proposer_members(p->q->proposer, now_of(p->q), p->index, &m.membership, out);
    loch_membership_fini(&m.membership);
    return st;
}

/* Are those that we are connected to, and whose KMS answers, a quorum? One safekeeper's own outage
 * is its own; one that is away may be so for the same reason. */
static bool quorum_has_kms(const struct loch_quorum *q)
{
    bool has[LOCH_MEMBERS_MAX];

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        has[i] = q->peers[i] != NULL && q->peers[i]->stream != NULL && !q->peers[i]->outage;
    return loch_proposer_quorum(q->proposer, has);
}

static loch_status take_error(struct peer *p, struct loch_slice payload)
{
    struct loch_quorum *q = p->q;
    struct loch_wire_error m;

    LOCH_TRY(loch_wire_error_decode(payload, &m));
    p->outage = m.code == LOCH_E_KMS_UNAVAILABLE;
    if (m.code == LOCH_E_KEY_REVOKED || (p->outage && !quorum_has_kms(q)))
        q->o.events->dark(q->o.arg, LOCH_FAIL((enum loch_code)m.code, "%.*s", (int)m.text.len,
                                              (const char *)m.text.data));
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "it says: %.*s", (int)m.text.len,
                     (const char *)m.text.data);
}

static loch_status take_frame(struct peer *p, uint8_t type, struct loch_slice payload,
                              struct loch_proposer_effects *out)
{
    struct loch_quorum *q = p->q;
    union {
        struct loch_wal_hello_reply hello_reply;
        struct loch_wal_vote_reply vote_reply;
        struct loch_wal_elected_reply elected_reply;
        struct loch_wal_append_reply append_reply;
        struct loch_wal_fenced fenced;
        struct loch_wal_keys keys;
    } m;
    loch_status st;

    switch (type) {
    case LOCH_WAL_HELLO_REPLY:
        LOCH_TRY(loch_wal_hello_reply_decode(payload, &m.hello_reply));
        return loch_proposer_hello_reply(q->proposer, now_of(q), p->index, &m.hello_reply, out);
    case LOCH_WAL_VOTE_REPLY:
        LOCH_TRY(untold(loch_wal_vote_reply_decode(payload, &m.vote_reply)));
        st = loch_proposer_vote_reply(q->proposer, now_of(q), p->index, &m.vote_reply, out);
        loch_term_history_fini(&m.vote_reply.history);
        return st;
    case LOCH_WAL_ELECTED_REPLY:
        LOCH_TRY(loch_wal_elected_reply_decode(payload, &m.elected_reply));
        return loch_proposer_elected_reply(q->proposer, now_of(q), p->index, &m.elected_reply, out);
    case LOCH_WAL_APPEND_REPLY:
        LOCH_TRY(loch_wal_append_reply_decode(payload, &m.append_reply));
        return loch_proposer_append_reply(q->proposer, now_of(q), p->index, &m.append_reply, out);
    case LOCH_WAL_FENCED:
        LOCH_TRY(loch_wal_fenced_decode(payload, &m.fenced));
        return loch_proposer_fenced(q->proposer, p->index, &m.fenced, out);
    case LOCH_WAL_MEMBERS:
        return take_members_frame(p, payload, out);
    case LOCH_WAL_KEYS:
        LOCH_TRY(loch_wal_keys_decode(payload, &m.keys));
        return untold(loch_credential_renew(q->o.credential, &m.keys));
    case LOCH_WAL_ERROR:
        return take_error(p, payload);
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected message of type %u", type);
    }
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct peer *p = arg;
    struct loch_quorum *q = p->q;
    struct loch_proposer_effects effects = {0};

    if (q->closed || p->stream == NULL)
        return LOCH_OK;
    if (type == LOCH_WAL_HELLO_REPLY) {
        if (p->told)
            LOCH_INFO("safekeeper %u at %s is back", p->index + 1, p->server->address);
        p->told = p->outage = false;
        p->lost_ms = p->retry_ms = 0;
    }
    q->depth++; /* what is told may close us */
    loch_status st = take_frame(p, type, payload, &effects);
    q->depth--;
    if (!loch_is_ok(st) && st.code != LOCH_E_NO_MEMORY) {
        loch_proposer_effects_fini(&effects);
        return st; /* closes the stream with this text */
    }
    carry_out(q, st, &effects);
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct peer *p = arg;
    struct loch_quorum *q = p->q;

    q->busy--;
    p->pending = false;
    if (p->dropped) {
        free(p);
    } else if (!q->closed) {
        if (p->stream != NULL) {
            note_loss(p, loch_is_ok(st) ? "it closed the connection" : loch_error_text());
            p->stream = NULL;
            loch_proposer_disconnected(q->proposer, p->index);
        }
        schedule(p);
    }
    maybe_free(q);
}

static const struct loch_stream_events stream_events = {.frame = on_frame, .closed = on_closed};

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct peer *p = arg;
    struct loch_quorum *q = p->q;
    struct loch_proposer_effects effects = {0};

    (void)st;
    if (stream == NULL) {
        q->busy--;
        p->pending = false;
        if (p->dropped) {
            free(p);
        } else if (!q->closed) {
            note_loss(p, loch_error_text());
            schedule(p);
        }
        maybe_free(q);
        return;
    }
    loch_stream_attach(stream, &stream_events, p);
    if (q->closed || p->dropped) {
        loch_stream_close(stream);
        return;
    }
    p->stream = stream;
    carry_out(q, loch_proposer_connected(q->proposer, now_of(q), p->index, &effects), &effects);
}

static void connect_peer(void *arg)
{
    struct peer *p = arg;

    loch_status st = loch_env_connect(p->q->o.env, p->server->address, p->server->tls,
                                      CONNECT_TIMEOUT_MS, on_connected, p);
    if (loch_is_ok(st)) {
        p->q->busy++;
        p->pending = true;
        return;
    }
    note_loss(p, loch_error_text());
    schedule(p);
}

/* ---- who sits where ---- */

static void drop_peer(struct peer *p)
{
    struct loch_stream *stream = p->stream;

    p->q->peers[p->index] = NULL;
    p->dropped = true;
    p->stream = NULL;
    loch_timer_cancel(p->retry);
    p->retry = NULL;
    if (stream != NULL)
        loch_stream_close(stream);
    else if (!p->pending)
        free(p);
}

static loch_status seat(struct loch_quorum *q, uint32_t slot, const struct loch_member *m)
{
    const struct loch_credential_server *server =
        loch_credential_find(q->o.credential, &m->node, m->address);
    struct peer *p = calloc(1, sizeof *p);

    if (p == NULL || server == NULL) {
        free(p);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory, or no key, for a safekeeper");
    }
    *p = (struct peer){.q = q,
                       .index = slot,
                       .id = m->id,
                       .node = m->node,
                       .server = server,
                       .lost_ms = now_ms(q)};
    q->peers[slot] = p;
    connect_peer(p);
    return LOCH_OK;
}

/* A member keeps its connection; so does a contact that turns out to be one. */
static bool stays(const struct loch_quorum *q, const struct peer *p, const struct loch_member *m)
{
    return loch_id_equal(q->contacts ? &p->node : &p->id, q->contacts ? &m->node : &m->id) &&
           strcmp(p->server->address, m->address) == 0;
}

static void take_members(struct loch_quorum *q)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    LOCH_INFO("the timeline has %" PRIu32 " safekeepers (generation %" PRIu64 "%s)",
              view.membership->count, view.membership->generation,
              loch_membership_joint(view.membership) ? ", a change is under way" : "");
    for (uint32_t s = 0; s < LOCH_MEMBERS_MAX; s++) {
        const uint32_t i = loch_membership_find(view.membership, &view.members[s].id);
        const struct loch_member *m = view.members[s].used ? &view.membership->members[i] : NULL;
        if (q->peers[s] != NULL && m != NULL && stays(q, q->peers[s], m)) {
            q->peers[s]->id = m->id;
            continue;
        }
        if (q->peers[s] != NULL)
            drop_peer(q->peers[s]);
        if (m != NULL && !loch_is_ok(seat(q, s, m)))
            loch_log_failure("a safekeeper cannot be reached");
    }
    q->contacts = false;
}

static void tick(void *arg)
{
    struct loch_quorum *q = arg;
    struct loch_proposer_effects effects = {0};

    q->tick = NULL;
    if (!loch_is_ok(loch_env_timer(q->o.env, TICK_MS, &q->tick, tick, q)))
        LOCH_ERROR("the election's clock stands still: %s", loch_error_text());
    loch_pace_ask(&q->pace, q->o.env);
    if (is_stuck(q)) {
        q->stuck_ms = 0;
        q->o.events->lost(q->o.arg, "a record longer than wal_window lost its quorum half-way");
        return; /* we may be closed */
    }
    carry_out(q, loch_proposer_tick(q->proposer, now_of(q), &effects), &effects);
}

/* ---- the face ---- */

/* Answers keep the lease alive: several of them within one. */
static uint64_t heartbeat_ms(const struct loch_quorum *q)
{
    const uint64_t lease_ms = q->o.credential->lease_ms;

    return lease_ms == 0 ? HEARTBEAT_MS
                         : loch_max_u64(TICK_MS, loch_min_u64(HEARTBEAT_MS, lease_ms / 4));
}

static loch_status make_proposer(struct loch_quorum *q)
{
    const struct loch_credential *c = q->o.credential;
    struct loch_proposer_config config = {.hello = {.version = LOCH_WIRE_WAL_VERSION,
                                                    .tenant = c->tenant,
                                                    .timeline = c->timeline,
                                                    .system_id = c->system_id,
                                                    .pg_version = c->pg_version,
                                                    .segment_bytes = c->segment_bytes,
                                                    .pageserver = c->pageserver.node},
                                          .compute_epoch = c->compute_epoch,
                                          .highest_term = q->o.highest_term,
                                          .membership = c->membership,
                                          .window_bytes = IN_FLIGHT_BYTES,
                                          .reply_timeout_ms = REPLY_TIMEOUT_MS,
                                          .election_timeout_ms = ELECTION_TIMEOUT_MS,
                                          .heartbeat_ms = heartbeat_ms(q)};

    struct loch_member contacts[LOCH_MEMBERS_MAX];
    q->contacts = c->membership.generation == 0;
    if (q->contacts) {
        for (uint32_t i = 0; i < c->safekeeper_count; i++) {
            contacts[i] = (struct loch_member){.id = c->safekeepers[i].node,
                                               .node = c->safekeepers[i].node,
                                               .in = LOCH_MEMBER_BOTH};
            memcpy(contacts[i].address, c->safekeepers[i].address, sizeof contacts[i].address);
        }
        config.membership.members = contacts;
        config.membership.count = c->safekeeper_count;
    }
    return loch_proposer_create(&config, &q->proposer);
}

static loch_status seat_all(struct loch_quorum *q)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    for (uint32_t i = 0; i < view.membership->count; i++)
        LOCH_TRY(seat(q, i, &view.membership->members[i]));
    return LOCH_OK;
}

loch_status loch_quorum_create(const struct loch_quorum_order *order, struct loch_quorum **out)
{
    struct loch_quorum *q = calloc(1, sizeof *q);
    loch_status st;

    if (q == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the quorum");
    q->o = *order;
    q->begun_ms = now_ms(q);
    LOCH_TRY_OUT(st, loch_env_random(order->env, &q->random, sizeof q->random));
    LOCH_TRY_OUT(st, make_proposer(q));
    LOCH_TRY_OUT(st, loch_wal_window_init(&q->window, order->window_bytes));
    LOCH_TRY_OUT(st, loch_env_timer(order->env, TICK_MS, &q->tick, tick, q));
    st = seat_all(q);
    if (!loch_is_ok(st)) {
        loch_quorum_close(q);
        return st;
    }
    *out = q;
    return LOCH_OK;
out:
    loch_proposer_destroy(q->proposer);
    loch_wal_window_fini(&q->window);
    free(q);
    return st;
}

void loch_quorum_close(struct loch_quorum *q)
{
    if (q == NULL || q->closed)
        return;
    q->closed = true;
    loch_timer_cancel(q->tick);
    q->tick = NULL;
    loch_timer_cancel(q->news);
    q->news = NULL;
    loch_timer_cancel(q->held);
    q->held = NULL;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        struct peer *p = q->peers[i];
        if (p == NULL)
            continue;
        loch_timer_cancel(p->retry);
        p->retry = NULL;
        if (p->stream != NULL)
            loch_stream_close(p->stream);
        p->stream = NULL;
    }
    maybe_free(q);
}

loch_status loch_quorum_push(struct loch_quorum *q, loch_lsn begin, struct loch_slice bytes)
{
    if (begin != q->window.end)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "the server sends WAL at " LOCH_LSN_FMT ", expected " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(begin), LOCH_LSN_ARG(q->window.end));
    LOCH_TRY(loch_wal_window_push(&q->window, bytes, keep_from(q)));
    loch_proposer_forget(q->proposer, q->window.start);
    return LOCH_OK;
}

static void propose(void *arg)
{
    struct loch_quorum *q = arg;
    struct loch_proposer_effects effects = {0};

    q->held = NULL;
    loch_pace_sent(&q->pace, q->window.end, loch_env_now_ns(q->o.env));
    carry_out(q,
              loch_proposer_wal(q->proposer, now_of(q), q->window.start, q->window.end, &effects),
              &effects);
}

void loch_quorum_propose(struct loch_quorum *q)
{
    if (!loch_pace_arrived(&q->pace, q->window.end, loch_env_now_ns(q->o.env)) &&
        (q->held != NULL ||
         loch_is_ok(loch_env_timer(q->o.env, LOCH_PACE_MS, &q->held, propose, q))))
        return;
    loch_timer_cancel(q->held);
    propose(q);
}

bool loch_quorum_full(struct loch_quorum *q)
{
    const bool full = loch_wal_window_room(&q->window, keep_from(q)) < SLACK_BYTES;

    q->was_full = q->was_full || full;
    return full;
}

void loch_quorum_look(const struct loch_quorum *q, struct loch_quorum_view *out)
{
    struct loch_proposer_view view;

    loch_proposer_look(q->proposer, &view);
    *out = (struct loch_quorum_view){.term = view.term,
                                     .highest_term = view.highest_term,
                                     .start_lsn = view.start_lsn,
                                     .end_lsn = q->window.end,
                                     .commit_lsn = view.commit_lsn,
                                     .reader_lsn = view.reader_lsn,
                                     .persisted_lsn = view.persisted_lsn,
                                     .heard_ms = loch_max_u64(q->begun_ms, view.heard_ms)};
}

bool loch_quorum_member(const struct loch_quorum *q, uint32_t index,
                        struct loch_quorum_member_view *out)
{
    struct loch_proposer_view view;
    uint32_t slot = 0;

    while (slot < LOCH_MEMBERS_MAX && (q->peers[slot] == NULL || index-- > 0))
        slot++;
    if (slot == LOCH_MEMBERS_MAX)
        return false;
    loch_proposer_look(q->proposer, &view);
    const struct peer *p = q->peers[slot];
    const struct loch_proposer_member_view *m = &view.members[slot];
    *out = (struct loch_quorum_member_view){.address = p->server->address,
                                            .state = m->recovering  ? "catching up"
                                                     : m->installed ? "streaming"
                                                                    : "joining",
                                            .why = "",
                                            .write_lsn = m->write_lsn,
                                            .flush_lsn = m->flush_lsn};
    if (p->lost_ms != 0) {
        out->state = "unreachable";
        out->why = p->why;
        out->away_ms = now_ms(q) - p->lost_ms;
    }
    return true;
}

void loch_quorum_describe(const struct loch_quorum *q, char *text, size_t len)
{
    struct loch_proposer_view view;
    size_t at = 0;

    loch_proposer_look(q->proposer, &view);
    text[0] = '\0';
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX && at < len; i++) {
        const struct peer *p = q->peers[i];
        if (p == NULL)
            continue;
        const struct loch_proposer_member_view *m = &view.members[i];
        const char *gap = at > 0 ? "; " : "";
        int n = 0;
        if (p->lost_ms != 0)
            n = snprintf(text + at, len - at,
                         "%ssafekeeper %u at %s unreachable since %" PRIu64 " s (%s)", gap, i + 1,
                         p->server->address, (now_ms(q) - p->lost_ms) / 1000, p->why);
        else if (view.state == LOCH_PROPOSER_LEADING && m->recovering)
            n = snprintf(text + at, len - at, "%ssafekeeper %u is catching up, at " LOCH_LSN_FMT,
                         gap, i + 1, LOCH_LSN_ARG(m->write_lsn));
        else if (view.state == LOCH_PROPOSER_LEADING && !m->installed)
            n = snprintf(text + at, len - at, "%ssafekeeper %u has not taken the term yet", gap,
                         i + 1);
        if (n > 0)
            at += (size_t)n;
    }
}
