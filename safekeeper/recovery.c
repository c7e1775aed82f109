/* Holds: a safekeeper's own pulls from its peers, for WAL that its proposer no longer has.
 * Invariants: bytes are taken only under the ordered term, and only from a peer whose PULL_STATE
 * says that this term is installed there; the acceptor judges where they fit. A peer that has no
 * more than we do is left for the next. Peers are the members of the timeline's configuration.
 *
 * With no order standing it may look around: ask each peer how it stands (PULL LOOK), so that the
 * acceptor can follow one that is further. It ends when all were asked in vain, or cannot be had.
 * It also looks when a peer has left the ordered term: who is no member hears of a new term from
 * nobody. At most SK_LOOKS_MAX timelines of a daemon look at a time, and SK_PULLS_MAX fetch WAL,
 * for each of those has a donor read ahead for it; the others wait, each in its line. Who fetches
 * for long, or is held and takes none, goes to the end of it while others wait.
 *
 * A peer that goes silent (stopped, its disk hung) is left for the next: one that owes WAL and
 * sends none, one that owes nothing and does not even say so.
 */
#include "members.h"
#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_MS   3000u
#define PAUSE_MIN_MS 50u
#define PAUSE_MAX_MS 2000u
#define PATIENCE     8u /* attempts to look in vain, per peer, before it is left */
/* Without progress for so long a peer is left; twice as long the next time, until there is some:
 * all of them may be slow. */
#define STALL_MIN_NS UINT64_C(5000000000)
#define STALL_MAX_NS UINT64_C(80000000000)
#define TURN_NS      UINT64_C(10000000000) /* to fetch WAL, while others wait for it */

struct sk_recovery {
    struct sk_timeline *tl;
    bool wanted;
    uint64_t term;
    loch_lsn begin, end;
    uint32_t peer; /* counts up; its remainder is the member in use or tried next */
    struct loch_id node;
    char address[LOCH_MEMBER_ADDRESS_BYTES];
    uint32_t look_left; /* peers to be asked in vain before looking ends; 0: not looking */
    uint32_t patience;
    bool looking;   /* the connection is for that */
    bool look_next; /* a peer has left the ordered term: how it stands comes before more of the same
                     */
    uint64_t pause_ms;
    struct loch_tls_client *tls; /* while connecting */
    struct loch_stream *stream;
    struct loch_timer *timer;
    bool connecting;
    bool proven; /* PULL_STATE said that the term is installed */
    uint64_t stream_term;
    loch_lsn peer_commit, peer_flush; /* as it said last */
    uint64_t heard_ns;                /* when its last frame came */
    uint64_t wal_ns;                  /* when it last sent WAL, or owed none */
    uint64_t stall_ns;                /* how long it may be silent */
    struct sk_turns *turns;           /* the daemon's, to look or to fetch WAL */
    bool has_turn;                    /* one of those */
    bool in_line;                     /* for one */
    uint64_t turn_ns;                 /* when it got it */
    struct sk_recovery *before, *behind;
};

static void try_next(struct sk_recovery *r);
static void start(struct sk_recovery *r);

static const char *peer_address(const struct sk_recovery *r)
{
    return r->address;
}

static uint32_t count_peers(const struct sk_timeline *tl)
{
    struct loch_acceptor_view view;
    uint32_t n = 0;

    loch_acceptor_look(tl->acceptor, &view);
    for (uint32_t i = 0; i < view.membership->count; i++)
        n += !loch_id_equal(&view.membership->members[i].node, &tl->daemon->node);
    return n;
}

/* The next member on another node. False: there is none. */
static bool choose_peer(struct sk_recovery *r)
{
    struct loch_acceptor_view view;

    loch_acceptor_look(r->tl->acceptor, &view);
    for (uint32_t i = 0; i < view.membership->count; i++) {
        const struct loch_member *m =
            &view.membership->members[(r->peer + i) % view.membership->count];
        if (loch_id_equal(&m->node, &r->tl->daemon->node))
            continue;
        r->peer += i;
        r->node = m->node;
        (void)snprintf(r->address, sizeof r->address, "%s", m->address);
        return true;
    }
    return false;
}

static bool has_reason(const struct sk_recovery *r)
{
    return r->wanted || r->look_left > 0;
}

/* A look brings no WAL: its answer is read whatever waits, or it would keep its turn. */
static bool is_kept_from_reading(const struct sk_recovery *r)
{
    return !r->looking && (r->tl->paused || r->tl->hold[0] != '\0');
}

/* ---- turns ---- */

static struct sk_turns *turns_of(const struct sk_recovery *r)
{
    struct sk_daemon *daemon = r->tl->daemon;

    return r->wanted ? &daemon->pulls : &daemon->looks;
}

static void leave_line(struct sk_recovery *r)
{
    struct sk_turns *turns = r->turns;

    if (!r->in_line)
        return;
    *(r->before != NULL ? &r->before->behind : &turns->first) = r->behind;
    *(r->behind != NULL ? &r->behind->before : &turns->last) = r->before;
    r->before = r->behind = NULL;
    r->in_line = false;
}

static void take_turn(struct sk_recovery *r)
{
    leave_line(r);
    r->has_turn = true;
    r->turn_ns = loch_env_now_ns(r->tl->daemon->env);
    r->turns->count++;
}

static void stand_in_line(struct sk_recovery *r)
{
    struct sk_turns *turns = r->turns;

    if (r->in_line)
        return;
    r->in_line = true;
    r->before = turns->last;
    *(turns->last != NULL ? &turns->last->behind : &turns->first) = r;
    turns->last = r;
}

/* It has looked, or fetched WAL, or will not: the first in line does. */
static void end_turn(struct sk_recovery *r)
{
    struct sk_turns *turns = r->turns;

    if (!r->has_turn)
        return;
    r->has_turn = false;
    turns->count--;
    if (turns->first != NULL) {
        struct sk_recovery *next = turns->first;
        take_turn(next);
        start(next);
    }
}

/* True when it may look, or fetch WAL, now; else it stands in line for it. */
static bool may_go_on(struct sk_recovery *r)
{
    struct sk_turns *turns = turns_of(r);
    const uint32_t most = r->wanted ? SK_PULLS_MAX : SK_LOOKS_MAX;

    if (r->turns != turns) {
        leave_line(r);
        end_turn(r);
        r->turns = turns;
    }
    if (r->has_turn)
        return true;
    if (turns->count < most && (turns->first == NULL || turns->first == r)) {
        take_turn(r);
        return true;
    }
    stand_in_line(r);
    return false;
}

/* Others wait for its turn, and it takes nothing, or has had it for long. */
static bool is_to_yield(const struct sk_recovery *r, uint64_t now_ns)
{
    if (r->looking || !r->has_turn || r->turns->first == NULL)
        return false;
    return r->tl->hold[0] != '\0' || now_ns - r->turn_ns >= TURN_NS;
}

static void fire(void *arg)
{
    struct sk_recovery *r = arg;

    r->timer = NULL;
    try_next(r);
}

/* Goes on with the next peer after a while. */
static void later(struct sk_recovery *r)
{
    end_turn(r);
    if (!has_reason(r) || r->timer != NULL)
        return;
    r->peer++;
    loch_status st = loch_env_timer(r->tl->daemon->env, r->pause_ms, &r->timer, fire, r);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot start a timer", st);
    r->pause_ms = loch_min_u64(r->pause_ms * 2, PAUSE_MAX_MS);
}

/* A peer has said how it stands. The connection has served its end. */
static loch_status looked(struct sk_recovery *r, const struct loch_wal_pull_state *m)
{
    struct loch_acceptor_view before;
    struct loch_acceptor_view after;

    loch_acceptor_look(r->tl->acceptor, &before);
    sk_timeline_peer_state(r->tl, m);
    if (r->tl->parked) /* and stopped: nothing may give it a reason to go on */
        return LOCH_FAIL(LOCH_E_STALE, "the timeline is parked");
    loch_acceptor_look(r->tl->acceptor, &after);
    if (r->wanted || after.installed_term != before.installed_term || after.term != before.term)
        r->look_left = count_peers(r->tl); /* there was news: ask all of them once more */
    else if (r->look_left > 0)
        r->look_left--;
    r->pause_ms = PAUSE_MIN_MS;
    r->proven = true;
    return LOCH_FAIL(LOCH_E_STALE, "looked");
}

/* Two that lack the same WAL would wait for each other for ever. */
static loch_status peer_stands(struct sk_recovery *r, loch_lsn flush_lsn, loch_lsn commit_lsn)
{
    struct loch_acceptor_view view;

    r->peer_flush = flush_lsn;
    r->peer_commit = commit_lsn;
    loch_acceptor_look(r->tl->acceptor, &view);
    if (flush_lsn <= view.write_lsn)
        return LOCH_FAIL(LOCH_E_STALE, "peer %s has no more WAL", peer_address(r));
    return LOCH_OK;
}

static loch_status state_frame(struct sk_recovery *r, struct loch_slice payload)
{
    struct loch_wal_pull_state m;

    LOCH_TRY(loch_wal_pull_state_decode(payload, &m));
    if (r->looking) {
        loch_status st = looked(r, &m);
        loch_wal_pull_state_fini(&m);
        return st;
    }
    r->proven = m.term == r->stream_term;
    loch_wal_pull_state_fini(&m);
    if (!r->proven) {
        r->look_next = true;
        return LOCH_FAIL(LOCH_E_STALE, "peer %s is in another term", peer_address(r));
    }
    return peer_stands(r, m.flush_lsn, m.commit_lsn);
}

static loch_status positions_frame(struct sk_recovery *r, struct loch_slice payload)
{
    struct loch_wal_pull_positions m;

    LOCH_TRY(loch_wal_pull_positions_decode(payload, &m));
    if (!r->proven)
        return LOCH_FAIL(LOCH_E_CORRUPT, "peer %s sent positions before its state",
                         peer_address(r));
    return peer_stands(r, m.flush_lsn, m.commit_lsn);
}

static loch_status frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct sk_recovery *r = arg;

    r->heard_ns = loch_env_now_ns(r->tl->daemon->env);
    if (type == LOCH_WAL_PULL_STATE)
        return state_frame(r, payload);
    if (type == LOCH_WAL_PULL_POSITIONS)
        return positions_frame(r, payload);
    if (type == LOCH_WAL_PULL_DATA) {
        struct loch_wal_pull_data m;
        LOCH_TRY(loch_wal_pull_data_decode(payload, &m));
        if (!r->proven)
            return LOCH_FAIL(LOCH_E_CORRUPT, "peer %s sent WAL before its state", peer_address(r));
        if (!r->wanted || r->term != r->stream_term)
            return LOCH_FAIL(LOCH_E_STALE, "no longer wanted");
        r->pause_ms = PAUSE_MIN_MS;
        r->wal_ns = r->heard_ns;
        r->stall_ns = STALL_MIN_NS;
        loch_status st =
            sk_timeline_recovered(r->tl, r->stream_term, m.begin, m.bytes, r->peer_commit);
        (void)sk_limits_held(r->tl); /* pauses us, above a limit */
        return st;
    }
    if (type == LOCH_WAL_ERROR) {
        struct loch_wire_error m;
        LOCH_TRY(loch_wire_error_decode(payload, &m));
        if (m.code == LOCH_E_STALE) {
            sk_members_refresh(r->tl); /* the peer may know a newer membership, or a newer term */
            r->look_next = true;
        }
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "peer %s: %.*s", peer_address(r),
                         (int)loch_min_u64(m.text.len, 300), (const char *)m.text.data);
    }
    return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected frame of type %u from peer %s", type,
                     peer_address(r));
}

/* A peer that cannot be asked is not waited for without end. */
static void in_vain(struct sk_recovery *r)
{
    if (r->patience > 0)
        r->patience--;
    if (r->patience == 0)
        r->look_left = 0;
}

static void closed(void *arg, loch_status st)
{
    struct sk_recovery *r = arg;

    if (!loch_is_ok(st) && st.code != LOCH_E_STALE)
        LOCH_INFO("timeline %s: recovery from %s: %s", r->tl->timeline_text, peer_address(r),
                  loch_error_text());
    r->stream = NULL;
    if (r->looking && !r->proven)
        in_vain(r);
    later(r);
}

static const struct loch_stream_events events = {.frame = frame, .closed = closed};

static void connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct sk_recovery *r = arg;
    struct loch_acceptor_view view;
    struct loch_buf out = {0};
    struct loch_writer w;

    r->connecting = false;
    loch_tls_client_destroy(r->tls);
    r->tls = NULL;
    if (!loch_is_ok(st)) {
        LOCH_DEBUG("timeline %s: cannot reach %s: %s", r->tl->timeline_text, peer_address(r),
                   loch_error_text());
        if (!r->wanted)
            in_vain(r);
        later(r);
        return;
    }
    r->stream = stream;
    r->proven = false;
    r->looking = !r->wanted || r->look_next;
    r->look_next = false;
    r->stream_term = r->looking ? 0 : r->term;
    r->peer_flush = 0;
    r->heard_ns = r->wal_ns = loch_env_now_ns(r->tl->daemon->env);
    loch_stream_attach(stream, &events, r);
    if (!has_reason(r) || r->turns != turns_of(r)) { /* it has another reason by now */
        loch_stream_close(stream);
        return;
    }
    loch_acceptor_look(r->tl->acceptor, &view);
    struct loch_wal_pull m = {.version = LOCH_WIRE_PULL_VERSION,
                              .tenant = r->tl->tenant,
                              .timeline = r->tl->timeline,
                              .mode = r->looking ? LOCH_PULL_LOOK : LOCH_PULL_FLUSHED,
                              .term = r->stream_term,
                              .generation = view.membership->generation,
                              .from = view.write_lsn};
    loch_writer_init(&w, &out);
    loch_wal_pull_encode(&w, &m);
    st = loch_writer_finish(&w);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot ask a peer", st);
    if (is_kept_from_reading(r))
        loch_stream_read(stream, false);
    loch_stream_send(stream, &out);
}

static loch_status connect_peer(struct sk_recovery *r)
{
    const struct sk_daemon *daemon = r->tl->daemon;
    struct loch_psk_identity identity = {.version = 1,
                                         .client_role = LOCH_ROLE_SAFEKEEPER,
                                         .server_role = LOCH_ROLE_SAFEKEEPER,
                                         .rights = LOCH_RIGHT_WAL_PULL,
                                         .cluster = daemon->cluster,
                                         .tenant = r->tl->tenant,
                                         .client_id = daemon->node,
                                         .client_boot = daemon->boot,
                                         .server_node = r->node};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};
    loch_status st;

    LOCH_TRY_OUT(st, loch_keys_psk(daemon->keys, &identity, &psk));
    LOCH_TRY_OUT(st, loch_psk_identity_encode(&identity, &encoded));
    LOCH_TRY_OUT(st, loch_tls_client_create(loch_buf_slice(&encoded), &psk, &r->tls));
    st = loch_env_connect(daemon->env, r->address, r->tls, CONNECT_MS, connected, r);
    if (loch_is_ok(st)) {
        r->connecting = true;
    } else {
        loch_tls_client_destroy(r->tls);
        r->tls = NULL;
    }
out:
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    return st;
}

static void try_next(struct sk_recovery *r)
{
    if (!has_reason(r) || r->connecting || r->stream != NULL) {
        if (!r->connecting && r->stream == NULL)
            end_turn(r);
        return;
    }
    if (!may_go_on(r))
        return;
    if (!choose_peer(r)) {
        r->look_left = 0;
        later(r);
        return;
    }
    loch_status st = connect_peer(r);
    if (!loch_is_ok(st)) {
        loch_log_failure("cannot connect to a peer");
        if (!r->wanted)
            in_vain(r);
        later(r);
    }
}

static struct sk_recovery *get(struct sk_timeline *tl)
{
    if (tl->recovery == NULL) {
        tl->recovery = calloc(1, sizeof *tl->recovery);
        if (tl->recovery == NULL)
            sk_daemon_fail_stop("no memory to recover WAL", LOCH_FAIL(LOCH_E_NO_MEMORY, "calloc"));
        tl->recovery->tl = tl;
        tl->recovery->stall_ns = STALL_MIN_NS;
    }
    return tl->recovery;
}

static void start(struct sk_recovery *r)
{
    if (r->stream != NULL || r->connecting || r->timer != NULL)
        return;
    r->pause_ms = PAUSE_MIN_MS;
    loch_status st = loch_env_timer(r->tl->daemon->env, 0, &r->timer, fire, r);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot start a timer", st);
}

void sk_recovery_order(struct sk_timeline *tl, uint64_t term, loch_lsn begin, loch_lsn end)
{
    struct sk_recovery *r = tl->recovery;

    if (begin >= end) {
        if (r != NULL) {
            r->wanted = false;
            if (r->stream != NULL && !r->looking)
                loch_stream_close(r->stream); /* `closed` goes on looking, if it did */
            if (r->in_line && r->turns == &tl->daemon->pulls) {
                leave_line(r);
                if (has_reason(r))
                    start(r);
            }
        }
        return;
    }
    if (tl->daemon->stopping || tl->state != SK_ACTIVE)
        return;
    r = get(tl);
    if (!r->wanted || r->term != term)
        LOCH_INFO("timeline %s: recovering WAL " LOCH_LSN_FMT " to " LOCH_LSN_FMT
                  " of term %" PRIu64 " from peers",
                  tl->timeline_text, LOCH_LSN_ARG(begin), LOCH_LSN_ARG(end), term);

    r->wanted = true;
    r->term = term;
    r->begin = begin;
    r->end = end;
    if (r->stream != NULL && r->stream_term != term) {
        loch_stream_close(r->stream); /* `closed` goes on */
        return;
    }
    start(r);
}

void sk_recovery_look(struct sk_timeline *tl)
{
    if (tl->daemon->stopping || tl->state != SK_ACTIVE || count_peers(tl) == 0)
        return;
    struct sk_recovery *r = get(tl);
    r->look_left = count_peers(tl);
    r->patience = PATIENCE * r->look_left;
    start(r);
}

void sk_recovery_pause(struct sk_timeline *tl, bool paused)
{
    struct sk_recovery *r = tl->recovery;

    if (r != NULL && r->stream != NULL)
        loch_stream_read(r->stream, !paused || r->looking);
}

/* Has the peer said nothing for too long, or sent nothing of what it has? */
static bool is_silent(struct sk_recovery *r, uint64_t now_ns)
{
    struct loch_acceptor_view view;

    if (is_kept_from_reading(r)) { /* it is we who do not read */
        r->heard_ns = r->wal_ns = now_ns;
        return false;
    }
    loch_acceptor_look(r->tl->acceptor, &view);
    if (r->looking || r->peer_flush <= view.write_lsn)
        r->wal_ns = now_ns; /* none is due */
    return now_ns - loch_min_u64(r->heard_ns, r->wal_ns) >= r->stall_ns;
}

void sk_recovery_tick(struct sk_timeline *tl)
{
    struct sk_recovery *r = tl->recovery;

    const uint64_t now_ns = loch_env_now_ns(tl->daemon->env);

    if (r == NULL || r->stream == NULL)
        return;
    if (is_to_yield(r, now_ns)) {
        loch_stream_close(r->stream); /* `closed` stands in line */
        return;
    }
    if (!is_silent(r, now_ns))
        return;
    LOCH_INFO("timeline %s: recovery from %s: it has sent nothing for %" PRIu64 " s",
              tl->timeline_text, peer_address(r), r->stall_ns / UINT64_C(1000000000));
    r->stall_ns = loch_min_u64(2 * r->stall_ns, STALL_MAX_NS);
    loch_stream_close(r->stream); /* `closed` goes on with the next */
}

bool sk_recovery_stop(struct sk_timeline *tl)
{
    struct sk_recovery *r = tl->recovery;

    if (r == NULL)
        return true;
    r->wanted = false;
    r->look_left = 0;
    loch_timer_cancel(r->timer);
    r->timer = NULL;
    leave_line(r);
    if (r->stream != NULL)
        loch_stream_close(r->stream);
    else if (!r->connecting)
        end_turn(r);
    return sk_recovery_idle(tl);
}

bool sk_recovery_idle(const struct sk_timeline *tl)
{
    const struct sk_recovery *r = tl->recovery;

    return r == NULL || (!has_reason(r) && !r->connecting && r->stream == NULL && r->timer == NULL);
}

void sk_recovery_destroy(struct sk_timeline *tl)
{
    LOCH_ASSERT(sk_recovery_idle(tl));
    free(tl->recovery);
    tl->recovery = NULL;
}
