/* Holds: the safekeeper's connections. Invariants: nothing of a connection is believed beyond what
 * its PSK identity proved; a connection's kind is fixed by its first frame. */
#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/consensus/proposer.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_FRAME_NS    UINT64_C(10000000000) /* a connection that says nothing is closed */
#define CLOSING_NS        UINT64_C(5000000000)  /* a refused peer that does not read likewise */
#define REPLIES_MAX_BYTES (8u << 20)            /* a proposer that does not read its replies */
#define BEAT_MS           1000u                 /* at most: what waits is answered so often */
#define BEAT_LEAST_MS     100u
#define WAITING_NS        UINT64_C(60000000000) /* then the clocks are compared anew */
#define TOO_MANY          "all connections of its kind are taken; others go on"
#define MANY              "the compute has connected again, and again: its oldest connection ends"

/* What its first frame named: it is about that timeline for good. */
static void join(struct sk_conn *conn, struct sk_timeline *tl)
{
    conn->timeline = tl;
    conn->next_beside = tl->conns;
    conn->link_beside = &tl->conns;
    if (tl->conns != NULL)
        tl->conns->link_beside = &conn->next_beside;
    tl->conns = conn;
}

static void leave(struct sk_conn *conn)
{
    if (conn->timeline == NULL)
        return;
    *conn->link_beside = conn->next_beside;
    if (conn->next_beside != NULL)
        conn->next_beside->link_beside = conn->link_beside;
}

void sk_conn_free(struct sk_conn *conn)
{
    leave(conn);
    *conn->link = conn->next;
    if (conn->next != NULL)
        conn->next->link = conn->link;
    conn->daemon->conn_count--;
    if (conn->counted != NULL)
        --*conn->counted;
    loch_metric_move(conn->daemon->stats.connections, -1);
    sk_sender_forget(conn);
    sk_wal_wipe(&conn->waiting);
    free(conn);
}

/* Once, however often it comes. */
static void log_refusal(struct sk_daemon *daemon, const char *text)
{
    if (loch_refusals_news(&daemon->refusals, text, loch_env_now_ns(daemon->env)))
        LOCH_INFO("%s", text);
}

static void closed(void *arg, loch_status st)
{
    struct sk_conn *conn = arg;

    if (st.code == LOCH_E_UNAVAILABLE) { /* broken off, maybe inside a message */
        char text[SK_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "a connection ended: %s", loch_error_text());
        log_refusal(conn->daemon, text);
    }
    conn->gone = true;
    conn->stream = NULL;
    if (conn->kind == SK_CONN_PUSH && conn->timeline != NULL && conn->timeline->state == SK_ACTIVE)
        sk_timeline_gone(conn->timeline, conn->number);
    if (!conn->reading) /* else the read's end frees it */
        sk_conn_free(conn);
}

static void drained(void *arg)
{
    struct sk_conn *conn = arg;

    if (conn->closing)
        loch_stream_close(conn->stream);
    else if (conn->kind == SK_CONN_PULL)
        sk_sender_pump(conn);
}

void sk_conn_refuse(struct sk_conn *conn, enum loch_code code, const char *text)
{
    struct loch_wire_error error = {.code = (uint32_t)code,
                                    .text = loch_slice_of(text, strnlen(text, 1000))};
    struct loch_buf out = {0};
    struct loch_writer w;

    if (conn->gone || conn->closing)
        return;
    conn->closing = true;
    loch_metric_add(conn->daemon->stats.refused, 1);
    conn->since_ns = loch_env_now_ns(conn->daemon->env);
    loch_writer_init(&w, &out);
    loch_wire_error_encode(&w, &error);
    if (loch_is_ok(loch_writer_finish(&w))) {
        loch_stream_read(conn->stream, false);
        loch_stream_send(conn->stream, &out);
    } else {
        loch_buf_fini(&out);
        loch_stream_close(conn->stream);
    }
}

/* ---- frames ---- */

static loch_status check_version(uint32_t version, uint32_t ours)
{
    if (version != ours)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED,
                         "WAL protocol version %" PRIu32 "; this safekeeper speaks %u", version,
                         ours);
    return LOCH_OK;
}

/* The timeline that a first frame names, if the identity may have it. */
static loch_status find_timeline(struct sk_conn *conn, const struct loch_id *tenant,
                                 const struct loch_id *timeline, uint8_t right,
                                 struct sk_timeline **out)
{
    const struct loch_psk_identity *id = &conn->identity;

    if (!loch_id_equal(tenant, &id->tenant) ||
        (!loch_id_is_none(&id->timeline) && !loch_id_equal(timeline, &id->timeline)))
        return LOCH_FAIL(LOCH_E_DENIED, "the credential is for another tenant or timeline");
    if ((id->rights & right) == 0)
        return LOCH_FAIL(LOCH_E_DENIED, "the credential lacks the right to do this");
    struct sk_timeline *tl = sk_daemon_find(conn->daemon, tenant, timeline);
    if (tl == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "this safekeeper has no such timeline");
    LOCH_TRY(sk_timeline_check(tl));
    *out = tl;
    return LOCH_OK;
}

static struct loch_acceptor_from from(const struct sk_conn *conn)
{
    return (struct loch_acceptor_from){.conn = conn->number,
                                       .compute_epoch = conn->identity.compute_epoch};
}

/* The timeline that a HELLO is about, if the sender may push its WAL and means the same by it. */
static loch_status check_hello(struct sk_conn *conn, const struct loch_wal_hello *m,
                               struct sk_timeline **out)
{
    struct sk_timeline *tl;

    LOCH_TRY(check_version(m->version, LOCH_WIRE_WAL_VERSION));
    LOCH_TRY(find_timeline(conn, &m->tenant, &m->timeline, LOCH_RIGHT_WAL_PUSH, &tl));
    if (conn->identity.client_role != LOCH_ROLE_COMPUTE)
        return LOCH_FAIL(LOCH_E_DENIED, "only a compute pushes WAL");
    if (m->system_id != tl->control.system_id)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "system identifier %" PRIu64 ", the timeline's is %" PRIu64, m->system_id,
                         tl->control.system_id);
    if (m->pg_version / 10000 != tl->control.pg_version / 10000)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "PostgreSQL version %" PRIu32 ", the timeline's is %" PRIu32,
                         m->pg_version, tl->control.pg_version);
    if (m->segment_bytes != tl->control.segment_bytes)
        return LOCH_FAIL(LOCH_E_INVALID, "WAL segments of %" PRIu32 " bytes, not %" PRIu32,
                         m->segment_bytes, tl->control.segment_bytes);
    *out = tl;
    return LOCH_OK;
}

/* The first of a connection, or again, under another membership. */
static loch_status hello(struct sk_conn *conn, struct loch_slice payload)
{
    struct loch_wal_hello m;
    struct sk_timeline *tl = NULL;

    LOCH_TRY(loch_wal_hello_decode(payload, &m));
    LOCH_TRY(check_hello(conn, &m, &tl));
    if (conn->kind == SK_CONN_PUSH && conn->timeline != tl)
        return LOCH_FAIL(LOCH_E_DENIED, "a connection is about one timeline");
    conn->generation = m.generation;
    if (conn->kind == SK_CONN_PUSH) {
        sk_timeline_hello(tl, from(conn), &m);
        return LOCH_OK;
    }
    conn->kind = SK_CONN_PUSH;
    join(conn, tl);
    conn->number = tl->next_conn++;
    conn->pageserver = m.pageserver;
    if (tl->paused)
        loch_stream_read(conn->stream, false);
    sk_timeline_hello(tl, from(conn), &m);
    sk_conn_renew(conn);
    return LOCH_OK;
}

/* How long ago it was read. A thousandth less: no two clocks go alike. */
static uint32_t since_ms(const struct sk_conn *conn, uint64_t now_ns)
{
    const uint64_t ms = (now_ns - conn->stamped_ns) / 1000000u;

    return (uint32_t)loch_min_u64(ms - ms / 1000, UINT32_MAX);
}

/* Of all stamps that were read here the one is echoed that proves most: of the APPEND that was
 * under way for the shortest time. One that came behind much WAL says less than an older one. */
static void take_stamp(struct sk_conn *conn, uint64_t stamp_ms)
{
    const uint64_t now_ns = loch_env_now_ns(conn->daemon->env);

    if (conn->stamp_ms != 0 &&
        (stamp_ms < conn->stamp_ms || stamp_ms - conn->stamp_ms < since_ms(conn, now_ns)))
        return;
    conn->stamp_ms = stamp_ms;
    conn->stamped_ns = now_ns;
}

/* A proposer that waits learns that this safekeeper is there, and has the tenant's keys: as if its
 * APPEND had come without WAL. */
static void beat(struct sk_conn *conn)
{
    struct sk_timeline *tl = conn->timeline;
    struct loch_wal_append m;

    if (loch_env_now_ns(conn->daemon->env) - conn->waits_ns > WAITING_NS) {
        tl->hold_told = true; /* so that the next one waits */
        sk_conn_refuse(conn, LOCH_E_LIMIT, tl->hold);
        return;
    }
    if (tl->state != SK_ACTIVE || !loch_is_ok(sk_timeline_lease(tl)) ||
        loch_stream_queued(conn->stream) > 0 ||
        !loch_is_ok(loch_wal_append_decode(loch_buf_slice(&conn->waiting), &m)))
        return;
    m.bytes = (struct loch_slice){0};
    m.commit_lsn = 0;
    sk_timeline_append(tl, from(conn), &m);
}

static void beat_all(void *arg);

/* As often as computes want to hear something, to go by the leases that their keys have here. */
static loch_status arm_beats(struct sk_daemon *daemon)
{
    const struct loch_lease_settings *s = &daemon->lease_settings;
    const uint64_t lease_ms = s->poll_ms + s->lease_ms;
    uint64_t ms = BEAT_MS;

    if (lease_ms != 0)
        ms = loch_max_u64(BEAT_LEAST_MS, loch_min_u64(BEAT_MS, lease_ms / 4));
    return loch_env_timer(daemon->env, ms, &daemon->beats, beat_all, daemon);
}

static void beat_all(void *arg)
{
    struct sk_daemon *daemon = arg;
    bool more = false;

    daemon->beats = NULL;
    for (struct sk_conn *c = daemon->conns; c != NULL; c = c->next) {
        if (c->waiting.len == 0 || c->gone || c->closing)
            continue;
        beat(c);
        more = true;
    }
    if (more && !loch_is_ok(arm_beats(daemon)))
        loch_log_failure("those that wait hear nothing");
}

/* The timeline is held: every other connection ends with the reason, which its proposer logs; those
 * between wait, or it would come and go all the time, and only hear that we live (beat_all). What
 * waits is not read from, so its end goes unseen: when a proposer has come again, its connection
 * before is done with. */
static loch_status hold(struct sk_conn *conn, struct loch_slice payload)
{
    struct sk_timeline *tl = conn->timeline;

    tl->hold_told = !tl->hold_told;
    if (tl->hold_told)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s", tl->hold);
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside)
        if (c != conn && c->waiting.len > 0)
            sk_conn_refuse(c, LOCH_E_LIMIT, tl->hold);
    if (tl->daemon->beats == NULL)
        LOCH_TRY(arm_beats(tl->daemon));
    LOCH_TRY(loch_buf_append(&conn->waiting, payload.data, payload.len));
    conn->waits_ns = loch_env_now_ns(tl->daemon->env);
    loch_stream_read(conn->stream, false);
    return LOCH_OK;
}

static loch_status append(struct sk_conn *conn, struct loch_slice payload)
{
    struct loch_acceptor_view view;
    struct loch_wal_append m;

    LOCH_TRY(loch_wal_append_decode(payload, &m));
    take_stamp(conn, m.stamp_ms);
    loch_acceptor_look(conn->timeline->acceptor, &view);
    if (m.bytes.len > 0 && m.term == view.term && sk_limits_held(conn->timeline))
        return hold(conn, payload);
    conn->generation = m.generation; /* what waits has not been said yet */
    sk_timeline_append(conn->timeline, from(conn), &m);
    return LOCH_OK;
}

/* A promise of a term beyond the epoch's own would lock out every later compute. An older one's is
 * answered FENCED. */
static loch_status check_term(const struct sk_conn *conn, uint64_t term)
{
    if (term >> LOCH_TERM_EPOCH_SHIFT > conn->identity.compute_epoch)
        return LOCH_FAIL(LOCH_E_DENIED, "term %" PRIu64 " is not one of compute epoch %" PRIu64,
                         term, conn->identity.compute_epoch);
    return LOCH_OK;
}

static loch_status vote(struct sk_conn *conn, struct loch_slice payload)
{
    struct loch_wal_vote m;

    LOCH_TRY(loch_wal_vote_decode(payload, &m));
    if (m.compute_epoch != conn->identity.compute_epoch)
        return LOCH_FAIL(LOCH_E_DENIED, "the credential is for another compute epoch");
    LOCH_TRY(check_term(conn, m.term));
    conn->generation = m.generation;
    sk_timeline_vote(conn->timeline, from(conn), &m);
    return LOCH_OK;
}

static loch_status elected(struct sk_conn *conn, struct loch_slice payload)
{
    struct loch_wal_elected m;

    LOCH_TRY(loch_wal_elected_decode(payload, &m));
    loch_status st = check_term(conn, m.term);
    if (loch_is_ok(st)) {
        conn->generation = m.generation;
        sk_timeline_elected(conn->timeline, from(conn), &m);
    }
    loch_term_history_fini(&m.history);
    return st;
}

static loch_status push_frame(struct sk_conn *conn, uint8_t type, struct loch_slice payload)
{
    if (type == LOCH_WAL_APPEND) {
        return append(conn, payload);
    } else if (type == LOCH_WAL_VOTE) {
        return vote(conn, payload);
    } else if (type == LOCH_WAL_ELECTED) {
        return elected(conn, payload);
    } else if (type == LOCH_WAL_HELLO) {
        return hello(conn, payload);
    } else {
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected frame of type %u from a proposer", type);
    }
    return LOCH_OK;
}

static loch_status first_frame(struct sk_conn *conn, uint8_t type, struct loch_slice payload)
{
    if (type == LOCH_WAL_HELLO)
        return hello(conn, payload);
    if (type == LOCH_WAL_PULL) {
        struct loch_wal_pull m;
        struct sk_timeline *tl;
        LOCH_TRY(loch_wal_pull_decode(payload, &m));
        LOCH_TRY(check_version(m.version, LOCH_WIRE_PULL_VERSION));
        LOCH_TRY(find_timeline(conn, &m.tenant, &m.timeline, LOCH_RIGHT_WAL_PULL, &tl));
        conn->kind = SK_CONN_PULL;
        join(conn, tl);
        return sk_sender_begin(conn, &m);
    }
    return LOCH_FAIL(LOCH_E_CORRUPT, "a connection begins with HELLO or PULL, not with type %u",
                     type);
}

static void audit_refused(const struct sk_conn *conn, enum loch_code code)
{
    loch_refused_code(conn->daemon->refused, code, &conn->identity.tenant,
                      &conn->identity.client_id);
}

static void log_refused(struct sk_conn *conn, enum loch_code code, const char *why)
{
    char text[SK_TEXT_BYTES + 64];
    char of[LOCH_ID_TEXT_BYTES];

    (void)snprintf(text, sizeof text, "a connection of tenant %s is refused (%s): %s",
                   loch_id_format(&conn->identity.tenant, of), loch_code_name(code), why);
    log_refusal(conn->daemon, text);
    audit_refused(conn, code);
}

/* A failure is told to the peer, then the connection ends. */
static loch_status frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct sk_conn *conn = arg;
    loch_status st = LOCH_OK;

    if (conn->closing || type == LOCH_WAL_ERROR)
        return LOCH_OK;
    if (conn->kind == SK_CONN_NEW) {
        st = first_frame(conn, type, payload);
    } else if (conn->timeline == NULL || conn->timeline->state != SK_ACTIVE) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline has gone away");
    } else if (!loch_is_ok(loch_keys_usable(conn->daemon->keys, &conn->timeline->tenant,
                                            &conn->timeline->timeline))) {
        /* A revocation closes connections itself; here a lease waits for its next Decrypt. */
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", loch_error_text());
    } else if (conn->kind == SK_CONN_PUSH) {
        if (loch_stream_queued(conn->stream) > REPLIES_MAX_BYTES)
            return LOCH_FAIL(LOCH_E_LIMIT, "a proposer does not read its replies");
        st = push_frame(conn, type, payload);
    } else {
        st = sk_sender_frame(conn, type, payload);
    }
    if (!loch_is_ok(st)) {
        char text[SK_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "%s", loch_error_text());
        log_refused(conn, st.code, text);
        sk_conn_refuse(conn, st.code, text);
    }
    return LOCH_OK;
}

static const struct loch_stream_events events = {
    .frame = frame, .closed = closed, .drained = drained};

static loch_status ignore_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    (void)arg;
    (void)type;
    (void)payload;
    return LOCH_OK;
}

static void ignore_closed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
}

static const struct loch_stream_events no_events = {.frame = ignore_frame, .closed = ignore_closed};

static bool is_same_compute(const struct loch_psk_identity *a, const struct loch_psk_identity *b)
{
    return a->client_role == LOCH_ROLE_COMPUTE && b->client_role == LOCH_ROLE_COMPUTE &&
           loch_id_equal(&a->tenant, &b->tenant) && loch_id_equal(&a->timeline, &b->timeline) &&
           loch_id_equal(&a->client_id, &b->client_id) && a->compute_epoch == b->compute_epoch;
}

/* A compute comes again: beyond so many its oldest connections end, or one credential could have
 * all that there are. Those of another epoch are another compute's: who was fenced cannot disturb
 * the leader. */
static void end_oldest(const struct sk_conn *newest)
{
    struct sk_daemon *daemon = newest->daemon;
    uint32_t count = 0;

    for (struct sk_conn *c = daemon->conns; c != NULL; c = c->next) { /* the newest first */
        if (c->gone || c->closing || !is_same_compute(&c->identity, &newest->identity) ||
            ++count <= SK_COMPUTE_CONNECTIONS_MAX)
            continue;
        log_refused(c, LOCH_E_LIMIT, MANY);
        sk_conn_refuse(c, LOCH_E_LIMIT, MANY);
        loch_stream_close(c->stream);
    }
}

static uint32_t connections_max(const struct sk_daemon *daemon)
{
    return daemon->conns_max != 0 ? daemon->conns_max : SK_CONNECTIONS_MAX;
}

/* Neither computes nor those who read may have all connections: a reader rests on each branch, and
 * its compute must find room when it comes. The count that one more of them goes by; NULL: it is
 * one too many. */
static uint32_t *find_room(struct sk_daemon *daemon, const struct loch_psk_identity *identity)
{
    const bool compute = identity->client_role == LOCH_ROLE_COMPUTE;
    const uint32_t most = connections_max(daemon);
    uint32_t *count = compute ? &daemon->compute_count : &daemon->other_count;

    if (*count >= most - most / 4 || daemon->compute_count + daemon->other_count >= most)
        return NULL;
    return count;
}

static void close_unheard(struct loch_stream *stream)
{
    loch_stream_attach(stream, &no_events, NULL);
    loch_stream_close(stream);
}

static struct sk_conn *new_conn(struct sk_daemon *daemon, struct loch_stream *stream,
                                const struct loch_psk_identity *identity)
{
    struct sk_conn *conn = NULL;

    if (daemon->conn_count < connections_max(daemon) + SK_TURNED_AWAY_MAX)
        conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    conn->daemon = daemon;
    conn->stream = stream;
    conn->identity = *identity;
    conn->kind = SK_CONN_NEW;
    conn->since_ns = loch_env_now_ns(daemon->env);
    conn->next = daemon->conns;
    conn->link = &daemon->conns;
    if (daemon->conns != NULL)
        daemon->conns->link = &conn->next;
    daemon->conns = conn;
    daemon->conn_count++;
    loch_metric_move(daemon->stats.connections, 1);
    loch_stream_attach(stream, &events, conn);
    return conn;
}

/* One too many. A few at a time are told. */
static void turn_away(struct sk_daemon *daemon, struct sk_conn *conn)
{
    loch_metric_add(daemon->stats.turned_away, 1);
    if (conn == NULL) {
        log_refusal(daemon, TOO_MANY);
        return;
    }
    log_refused(conn, LOCH_E_LIMIT, TOO_MANY);
    sk_conn_refuse(conn, LOCH_E_LIMIT, TOO_MANY);
}

void sk_service_accept(void *arg, struct loch_stream *stream)
{
    struct sk_daemon *daemon = arg;
    struct loch_psk_identity identity;

    if (daemon->stopping ||
        !loch_is_ok(loch_psk_identity_decode(loch_stream_identity(stream), &identity))) {
        close_unheard(stream);
        return;
    }
    uint32_t *count = find_room(daemon, &identity);
    struct sk_conn *conn = new_conn(daemon, stream, &identity);
    if (conn == NULL)
        close_unheard(stream);
    if (conn == NULL || count == NULL) {
        turn_away(daemon, conn);
        return;
    }
    conn->counted = count;
    ++*count;
    end_oldest(conn);
}

/* ---- what a timeline tells its proposers ---- */

static struct sk_conn *find_push(struct sk_timeline *tl, uint64_t number)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside)
        if (c->kind == SK_CONN_PUSH && c->number == number)
            return c->gone || c->closing ? NULL : c;
    return NULL;
}

static void encode_append_reply(struct loch_writer *w, const struct sk_conn *conn,
                                const struct loch_wal_append_reply *m)
{
    struct loch_wal_append_reply reply = *m;

    if (loch_is_ok(sk_timeline_lease(conn->timeline)))
        reply.echo_ms = conn->stamp_ms;
    if (reply.echo_ms != 0)
        reply.since_ms = since_ms(conn, loch_env_now_ns(conn->daemon->env));
    loch_wal_append_reply_encode(w, &reply);
}

static void encode(struct loch_writer *w, const struct sk_conn *conn,
                   const struct loch_acceptor_message *m)
{
    if (m->type == LOCH_WAL_APPEND_REPLY)
        encode_append_reply(w, conn, &m->u.append_reply);
    else if (m->type == LOCH_WAL_HELLO_REPLY)
        loch_wal_hello_reply_encode(w, &m->u.hello_reply);
    else if (m->type == LOCH_WAL_VOTE_REPLY)
        loch_wal_vote_reply_encode(w, &m->u.vote_reply);
    else if (m->type == LOCH_WAL_ELECTED_REPLY)
        loch_wal_elected_reply_encode(w, &m->u.elected_reply);
    else {
        LOCH_ASSERT(m->type == LOCH_WAL_FENCED);
        loch_wal_fenced_encode(w, &m->u.fenced);
    }
}

/* Number 0: to all. */
static void tell_members(struct sk_timeline *tl, uint64_t number, const struct loch_membership *m)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        if (c->kind == SK_CONN_PUSH && !c->gone && !c->closing &&
            (number == 0 || c->number == number))
            sk_conn_send_members(c, m);
    }
}

void sk_service_send(struct sk_timeline *tl, uint64_t number,
                     const struct loch_acceptor_message *message)
{
    if (message->type == LOCH_WAL_MEMBERS) {
        tell_members(tl, number, &message->u.members);
        return;
    }
    struct sk_conn *conn = find_push(tl, number);
    struct loch_buf out = {0};
    struct loch_writer w;

    if (conn == NULL)
        return;
    if (message->type == LOCH_WAL_FENCED) {
        loch_metric_add(tl->daemon->stats.fenced, 1);
        if (!conn->told_fenced)
            LOCH_INFO("timeline %s: the compute of epoch %" PRIu64 " is fenced: term %" PRIu64
                      " is promised, from epoch %" PRIu64 " on",
                      tl->timeline_text, conn->identity.compute_epoch, message->u.fenced.term,
                      message->u.fenced.min_compute_epoch);
        if (!conn->told_fenced)
            audit_refused(conn, LOCH_E_STALE);
        conn->told_fenced = true;
    }
    loch_writer_init(&w, &out);
    encode(&w, conn, message);
    loch_status st = loch_writer_finish(&w);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot answer a proposer", st);
    loch_stream_send(conn->stream, &out);
}

void sk_service_close(struct sk_timeline *tl, uint64_t number, enum loch_code code,
                      const char *text)
{
    struct sk_conn *conn = find_push(tl, number);

    if (conn != NULL) {
        log_refused(conn, code, text);
        sk_conn_refuse(conn, code, text);
    }
}

void sk_service_generation(struct sk_timeline *tl, uint64_t generation)
{
    char text[160];

    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        if (c->kind != SK_CONN_PUSH || c->generation <= generation || c->gone || c->closing)
            continue;
        (void)snprintf(text, sizeof text,
                       "a membership of generation %" PRIu64
                       " is spoken of; the newest is %" PRIu64,
                       c->generation, generation);
        log_refused(c, LOCH_E_STALE, text);
        sk_conn_refuse(c, LOCH_E_STALE, text);
    }
}

void sk_service_drop(struct sk_timeline *tl, enum loch_code code, const char *text)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside)
        sk_conn_refuse(c, code, text);
}

void sk_service_cut(struct sk_timeline *tl, enum loch_code code, const char *text)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        sk_conn_refuse(c, code, text);
        if (!c->gone)
            loch_stream_cut(c->stream);
    }
}

bool sk_service_uses(const struct sk_timeline *tl)
{
    return tl->conns != NULL;
}

bool sk_service_knows(const struct sk_daemon *daemon, const struct loch_id *tenant)
{
    for (const struct sk_conn *c = daemon->conns; c != NULL; c = c->next)
        if (loch_id_equal(&c->identity.tenant, tenant))
            return true;
    return false;
}

void sk_service_pause(struct sk_timeline *tl, bool paused)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside)
        if (c->kind == SK_CONN_PUSH && !c->gone && !c->closing && c->waiting.len == 0)
            loch_stream_read(c->stream, !paused);
}

void sk_service_release(struct sk_timeline *tl)
{
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        struct loch_wal_append m;
        struct loch_buf payload = c->waiting;
        if (payload.len == 0 || c->gone || c->closing)
            continue;
        c->waiting = (struct loch_buf){0};
        if (loch_is_ok(loch_wal_append_decode(loch_buf_slice(&payload), &m)))
            sk_timeline_append(tl, from(c), &m);
        sk_wal_wipe(&payload);
        if (!c->gone && !c->closing)
            loch_stream_read(c->stream, !tl->paused);
    }
}

void sk_service_tick(struct sk_daemon *daemon)
{
    const uint64_t now = loch_env_now_ns(daemon->env);
    const uint64_t changes = loch_keys_changes(daemon->keys);
    const bool keys_changed = changes != daemon->keys_seen;
    const char *text;
    uint32_t more;

    while (loch_refusals_over(&daemon->refusals, now, &text, &more))
        LOCH_INFO("%" PRIu32 " more within a minute: %s", more, text);
    daemon->keys_seen = changes;
    for (struct sk_conn *c = daemon->conns; c != NULL; c = c->next) {
        if (c->gone)
            continue;
        if (keys_changed &&
            !loch_keys_epoch_lives(daemon->keys, &c->identity.tenant, c->identity.wire_epoch)) {
            loch_stream_close(c->stream); /* it comes again with a newer key, if it has one */
            continue;
        }
        if (keys_changed)
            sk_conn_renew(c);
        if ((c->kind == SK_CONN_NEW && now - c->since_ns > FIRST_FRAME_NS) ||
            (c->closing && now - c->since_ns > CLOSING_NS))
            loch_stream_close(c->stream);
        else if (c->kind == SK_CONN_PULL && !c->closing)
            sk_sender_tick(c, now);
    }
}
