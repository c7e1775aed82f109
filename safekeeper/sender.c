/* Holds: the pull side. Invariants: a byte goes out only below what the acceptor allows at that
 * moment; bytes read from files before a truncation are thrown away after it. */
#include "members.h"
#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdio.h>

#define QUEUE_BYTES (1u << 20)   /* handed to a stream and not yet sent */
#define READ_BYTES  (16u << 20)  /* read from files at once; ... */
#define LEAST_BYTES (128u << 10) /* ... while memory is short */
#define STATE_NS    UINT64_C(1000000000)

static void fail(struct sk_conn *conn, loch_status st)
{
    char text[SK_TEXT_BYTES];

    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    sk_conn_refuse(conn, st.code, text);
}

static bool usable(const struct sk_conn *conn)
{
    return !conn->gone && !conn->closing && conn->timeline != NULL &&
           conn->timeline->state == SK_ACTIVE;
}

static void write_state(struct loch_writer *w, const struct loch_acceptor_view *view)
{
    const struct loch_wal_pull_state m = {.term = view->installed_term,
                                          .promised = view->term,
                                          .term_start = view->term_start,
                                          .compute_epoch = view->min_compute_epoch,
                                          .flush_lsn = view->flush_lsn,
                                          .commit_lsn = view->commit_lsn,
                                          .start_lsn = view->start_lsn,
                                          .history = *view->history,
                                          .membership = *view->membership};
    loch_wal_pull_state_encode(w, &m);
}

/* What PULL_STATE says beside positions: a term has one history, a generation one membership. */
static struct sk_told tells(const struct loch_acceptor_view *view)
{
    return (struct sk_told){.term = view->installed_term,
                            .promised = view->term,
                            .term_start = view->term_start,
                            .compute_epoch = view->min_compute_epoch,
                            .start_lsn = view->start_lsn,
                            .generation = view->membership->generation};
}

static bool is_same(const struct sk_told *a, const struct sk_told *b)
{
    return a->term == b->term && a->promised == b->promised && a->term_start == b->term_start &&
           a->compute_epoch == b->compute_epoch && a->start_lsn == b->start_lsn &&
           a->generation == b->generation;
}

/* How we stand: all of it at first and when more than positions has changed, for a long history is
 * much to tell thousands of readers that know it. */
static loch_status send_state(struct sk_conn *conn)
{
    struct loch_acceptor_view view;
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_acceptor_look(conn->timeline->acceptor, &view);
    if (conn->mode == LOCH_PULL_LOOK && !view.settled)
        return LOCH_OK; /* a peer may follow what it is told: it must be durable */
    const struct loch_wal_pull_positions positions = {.flush_lsn = view.flush_lsn,
                                                      .commit_lsn = view.commit_lsn};
    const struct sk_told told = tells(&view);
    loch_writer_init(&w, &out);
    if (conn->stated && is_same(&conn->told, &told))
        loch_wal_pull_positions_encode(&w, &positions);
    else
        write_state(&w, &view);
    loch_status st = loch_writer_finish(&w);
    if (!loch_is_ok(st)) {
        loch_buf_fini(&out);
        return st;
    }
    conn->stated = true;
    conn->told = told;
    conn->state_due = false;
    conn->state_commit = view.commit_lsn;
    conn->state_ns = loch_env_now_ns(conn->daemon->env);
    loch_stream_send(conn->stream, &out);
    return LOCH_OK;
}

static loch_status send_data(struct sk_conn *conn, struct loch_slice bytes)
{
    struct loch_wal_pull_data m = {.begin = conn->position, .bytes = bytes};
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    loch_wal_pull_data_encode(&w, &m);
    loch_status st = loch_writer_finish(&w);
    if (!loch_is_ok(st)) {
        loch_buf_fini(&out);
        return st;
    }
    conn->position += bytes.len;
    loch_metric_add(conn->daemon->stats.pulled_bytes, bytes.len);
    loch_stream_send(conn->stream, &out);
    return LOCH_OK;
}

/* A reader that comes again and again for what cannot be read must not fill the log. */
static void log_unread(struct sk_conn *conn)
{
    char text[SK_TEXT_BYTES];

    (void)snprintf(text, sizeof text, "timeline %s: cannot read WAL: %s",
                   conn->timeline->timeline_text, loch_error_text());
    if (loch_refusals_news(&conn->daemon->refusals, text, loch_env_now_ns(conn->daemon->env)))
        LOCH_ERROR("%s", text);
}

/* Below the WAL on our own disk. */
static bool trimmed(const struct sk_conn *conn)
{
    return conn->position < sk_store_first_lsn(conn->timeline->store);
}

/* What its WAL takes, or will when it is read. */
static void count_wal(struct sk_conn *conn, size_t bytes)
{
    struct sk_daemon *daemon = conn->daemon;

    sk_memory_count(&daemon->memory, &conn->wal_counted, bytes);
    daemon->pieces -= conn->holds_piece;
    conn->holds_piece = bytes > 0 && conn->archived;
    daemon->pieces += conn->holds_piece;
}

void sk_sender_forget(struct sk_conn *conn)
{
    if (conn->wal.cap == 0)
        return;
    sk_wal_wipe(&conn->wal);
    count_wal(conn, 0);
}

static void read_done(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct sk_conn *conn = arg;
    struct sk_timeline *tl = conn->timeline;

    conn->reading = false;
    count_wal(conn, 0);
    if (conn->gone) {
        sk_conn_free(conn);
        return;
    }
    if (!usable(conn))
        return;
    if (sk_store_cuts(tl->store) == conn->wal_cuts) {
        if (!loch_is_ok(st)) {
            if (st.code == LOCH_E_NOT_FOUND && !conn->archived && trimmed(conn)) {
                sk_sender_pump(conn);
                return;
            }
            log_unread(conn);
            if (st.code == LOCH_E_CORRUPT && !conn->archived)
                sk_timeline_break(tl, loch_error_text());
            else
                fail(conn, st);
            return;
        }
        sk_wal_wipe(&conn->wal);
        conn->wal = *take_wal;
        *take_wal = (struct loch_buf){0};
        conn->wal_lsn = conn->position;
        count_wal(conn, conn->wal.cap);
    }
    sk_sender_pump(conn);
}

/* From files as much as its share of memory is. A piece of the archive is read whole, so a reader
 * waits (the next tick looks again) until there is room for it, or no other has one. */
static loch_status begin_to_read(struct sk_conn *conn, loch_lsn upto)
{
    struct sk_daemon *daemon = conn->daemon;
    struct sk_store *store = conn->timeline->store;
    size_t bytes = sk_memory_share(&daemon->memory, LEAST_BYTES, READ_BYTES);

    conn->wal_cuts = sk_store_cuts(store);
    conn->archived = trimmed(conn);
    if (conn->archived) {
        bytes = daemon->piece_bytes;
        if (daemon->pieces > 0 && !sk_memory_has(&daemon->memory, bytes))
            return LOCH_OK;
        LOCH_TRY(sk_archive_read(conn->timeline, conn->position, read_done, conn));
    } else {
        LOCH_TRY(sk_store_read(store, conn->position, upto, bytes, read_done, conn));
        loch_metric_add(daemon->stats.file_reads, 1);
    }
    conn->reading = true;
    count_wal(conn, bytes);
    return LOCH_OK;
}

/* The next piece below `upto`: from memory, from what was read; else *out is empty, and it may have
 * begun to read. */
static loch_status next_piece(struct sk_conn *conn, loch_lsn upto, struct loch_slice *out)
{
    struct sk_store *store = conn->timeline->store;

    *out = (struct loch_slice){0};
    if (sk_store_tail(store, conn->position, upto, LOCH_WAL_CHUNK_BYTES, out)) {
        sk_sender_forget(conn);
        return LOCH_OK;
    }
    loch_lsn end = conn->wal_lsn + conn->wal.len;
    if (conn->wal.len > 0 && conn->wal_cuts == sk_store_cuts(store) &&
        conn->position >= conn->wal_lsn && conn->position < end) {
        size_t len = (size_t)(loch_min_u64(end, upto) - conn->position);
        *out = loch_slice_of(conn->wal.data + (conn->position - conn->wal_lsn),
                             (size_t)loch_min_u64(len, LOCH_WAL_CHUNK_BYTES));
        return LOCH_OK;
    }
    sk_sender_forget(conn);
    return begin_to_read(conn, upto);
}

static loch_status pump(struct sk_conn *conn)
{
    LOCH_TRY(sk_timeline_lease(conn->timeline));
    /* For whom does not read it stays due: `drained` comes back to it. */
    if (conn->state_due && loch_stream_queued(conn->stream) < QUEUE_BYTES)
        LOCH_TRY(send_state(conn));
    while (!conn->reading && loch_stream_queued(conn->stream) < QUEUE_BYTES) {
        struct loch_slice piece;
        loch_lsn upto;
        LOCH_TRY(loch_acceptor_pull_limit(conn->timeline->acceptor, conn->mode, conn->term,
                                          conn->generation, conn->position, &upto));
        if (upto <= conn->position)
            break;
        LOCH_TRY(next_piece(conn, upto, &piece));
        if (piece.len == 0)
            break;
        LOCH_TRY(send_data(conn, piece));
        if (conn->position >= conn->wal_lsn + conn->wal.len)
            sk_sender_forget(conn); /* all of it was sent */
    }
    return LOCH_OK;
}

void sk_sender_pump(struct sk_conn *conn)
{
    if (!usable(conn))
        return;
    loch_status st = pump(conn);
    if (!loch_is_ok(st))
        fail(conn, st);
}

loch_status sk_sender_begin(struct sk_conn *conn, const struct loch_wal_pull *m)
{
    loch_lsn upto;

    if (m->mode < LOCH_PULL_COMMITTED || m->mode > LOCH_PULL_LOOK)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "unknown PULL mode %u", m->mode);
    if (loch_acceptor_is_behind(conn->timeline->acceptor, m->generation))
        sk_members_refresh(conn->timeline);
    conn->mode = (enum loch_pull_mode)m->mode;
    conn->term = m->term;
    conn->generation = m->generation;
    conn->position = m->from;
    LOCH_TRY(loch_acceptor_pull_limit(conn->timeline->acceptor, conn->mode, conn->term,
                                      conn->generation, conn->position, &upto));
    conn->state_due = true;
    return pump(conn);
}

loch_status sk_sender_frame(struct sk_conn *conn, uint8_t type, struct loch_slice payload)
{
    struct loch_wal_pull_feedback m;

    if (type != LOCH_WAL_PULL_FEEDBACK)
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected frame of type %u from a reader", type);
    LOCH_TRY(loch_wal_pull_feedback_decode(payload, &m));
    if (conn->identity.client_role == LOCH_ROLE_PAGESERVER)
        sk_timeline_feedback(conn->timeline, &m);
    return LOCH_OK;
}

void sk_sender_kick(struct sk_timeline *tl, bool state)
{
    struct loch_acceptor_view view;

    loch_acceptor_look(tl->acceptor, &view);
    for (struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        if (c->kind != SK_CONN_PULL)
            continue;
        /* A peer takes commit_lsn from the state; a pageserver is sent nothing else than committed.
         */
        if (state || (c->mode == LOCH_PULL_FLUSHED && view.commit_lsn != c->state_commit))
            c->state_due = true;
        sk_sender_pump(c);
    }
}

void sk_sender_tick(struct sk_conn *conn, uint64_t now_ns)
{
    if (now_ns - conn->state_ns >= STATE_NS)
        conn->state_due = true;
    sk_sender_pump(conn);
}
