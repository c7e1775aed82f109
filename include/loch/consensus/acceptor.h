/* The acceptor: the safekeeper's half of the consensus on one timeline's WAL, as a pure machine.
 *
 * Event in, effects out. It does no I/O, owns no clock, and never sees a byte of WAL: only
 * positions and lengths. One acceptor per timeline, used on one thread.
 *
 * What it guarantees, if the host does as told below:
 *   - an answer rests on what is durable: no vote, installation or acknowledgement is sent before
 * it;
 *   - acknowledged bytes change only by a later term's truncation, never below commit_lsn;
 *   - flush_lsn, every truncation and every term start lies on a record boundary.
 *
 * ---- What the host must do for each effect ----
 * Effects are carried out in the order in which they were appended. PERSIST, TRUNCATE, WRITE and
 * SYNC
 * ("disk effects") carry tokens 1, 2, 3, ...; they take effect on disk strictly in token order
 * (a queue per timeline). SEND, CLOSE and RECOVER are done at once, in order.
 *
 *   PERSIST   Replace the control file by `control`, whole and atomically, durable (file and
 *             directory). Then loch_acceptor_persisted(token).
 *   TRUNCATE  Cut the WAL to end at `begin` (a record boundary, at or below the last flush_lsn
 * reported), durable, before anything later; a fresh sealing session starts there; the boundary
 * scanner restarts at `begin`. Then loch_acceptor_truncated(token, start of the record that ends at
 *             `begin`). No WRITE is issued between a TRUNCATE and the report that it is done.
 *   WRITE     Append bytes [begin, end) of the APPEND or peer's chunk whose event is being handled:
 * skip the first `skip` bytes of the message. begin is exactly the end of what was written before.
 *             Feed the same bytes to the boundary scanner now. Nothing is reported for a WRITE.
 * When the scanner finds them malformed, call loch_acceptor_poisoned. SYNC      When all WRITEs
 * with smaller tokens are done: fdatasync. Note the scanner's last record end (and that record's
 * start) when the effect is RECEIVED: it covers exactly the WRITEs before. Then
 * loch_acceptor_synced(token, that end, that start). At most one SYNC is outstanding; whatever is
 * written meanwhile is covered by the next one: that is the group commit. SEND      Send `message`
 * on connection `conn` (ignore when it is gone); conn 0: on all connections of proposers. `after`
 * names the disk effect that the answer rests on: it is done already; assert after <= your last
 * completed token. CLOSE     Send LOCH_WAL_ERROR with `code` and loch_acceptor_effect.text, close
 * connection `conn`. RECOVER Fetch [begin, end) from any peer: PULL FLUSHED, from = begin, under
 * `term`; feed each chunk in loch_acceptor_recovered. Replaces the previous order. begin == end:
 * stop recovering. Go round the peers with back-off until told to stop; a peer that refuses the
 * term, or has less than `end`, is no error: it may have it later. After a reconnect ask from
 *             loch_acceptor_view.write_lsn.
 *   REFRESH   Somebody knows a newer configuration: read the authoritative one and give it to
 *             loch_acceptor_configure. Doing it once is enough for many.
 *
 * A failed disk operation is final for the process: crash, never retry, never report it done.
 *
 * ---- Restart ----
 * Load the control file; scan the WAL from a segment start to its last whole record; cut what
 * follows (a torn tail); fdatasync the WAL files (bytes seen in the page cache are not yet
 * durable); then loch_acceptor_create(control, end of the last whole record, its start). A scan
 * that ends below control.commit_lsn is corruption: LOCH_E_CORRUPT; do not serve the timeline.
 *
 * Times: loch_acceptor_tick about once a second (persists a commit_lsn that moved), and before a
 * clean stop (then wait for its PERSIST). After a crash commit_lsn may lag; it is told again by the
 * next leader.
 */
#ifndef LOCH_CONSENSUS_ACCEPTOR_H
#define LOCH_CONSENSUS_ACCEPTOR_H

#include "loch/base/status.h"
#include "loch/base/types.h"
#include "loch/wire/wal.h"

/* The durable state beside the WAL itself. The history is owned by the struct. */
struct loch_acceptor_control {
    uint64_t term;              /* highest term promised: nothing of a lower one is accepted */
    uint64_t min_compute_epoch; /* nothing of a lower epoch is accepted */
    loch_lsn start_lsn;         /* where this timeline's WAL begins, a record boundary */
    loch_lsn start_prev_lsn;    /* start of the record that ends at start_lsn */
    loch_lsn commit_lsn; /* may lag behind the truth, never ahead; <= the durable WAL's end */
    struct loch_term_history history;  /* first entry (0, start_lsn); its last term <= term */
    struct loch_membership membership; /* the newest configuration known; generation 0: none yet */
};

/* The control state of a fresh timeline; it knows no configuration yet. */
LOCH_STATUS loch_acceptor_control_init(struct loch_acceptor_control *out, loch_lsn start_lsn,
                                       loch_lsn start_prev_lsn);
LOCH_STATUS loch_acceptor_control_copy(struct loch_acceptor_control *out,
                                       const struct loch_acceptor_control *from);
void loch_acceptor_control_fini(struct loch_acceptor_control *control);

enum loch_acceptor_effect_kind {
    LOCH_ACCEPTOR_PERSIST = 1,
    LOCH_ACCEPTOR_TRUNCATE,
    LOCH_ACCEPTOR_WRITE,
    LOCH_ACCEPTOR_SYNC,
    LOCH_ACCEPTOR_SEND,
    LOCH_ACCEPTOR_CLOSE,
    LOCH_ACCEPTOR_RECOVER,
    LOCH_ACCEPTOR_REFRESH
};

/* What a SEND carries; `type` says which. */
struct loch_acceptor_message {
    /* HELLO_REPLY, VOTE_REPLY, ELECTED_REPLY, APPEND_REPLY, FENCED or MEMBERS */
    enum loch_wal_type type;
    union {
        struct loch_wal_hello_reply hello_reply;
        struct loch_wal_vote_reply vote_reply;
        struct loch_wal_elected_reply elected_reply;
        struct loch_wal_append_reply append_reply;
        struct loch_wal_fenced fenced;
        struct loch_membership members; /* MEMBERS: the host adds keys */
    } u;
};

struct loch_acceptor_effect {
    enum loch_acceptor_effect_kind kind;
    uint64_t token;      /* disk effects: their place in the order; else 0 */
    uint64_t after;      /* SEND: the disk effect the answer rests on; 0: none */
    uint64_t conn;       /* SEND, CLOSE */
    loch_lsn begin;      /* TRUNCATE, WRITE, RECOVER */
    loch_lsn end;        /* WRITE, RECOVER */
    uint64_t skip;       /* WRITE */
    uint64_t term;       /* WRITE: of the bytes' sender (stands in the sealed frame); RECOVER */
    enum loch_code code; /* CLOSE */
    const char *text;    /* CLOSE: static text */
    struct loch_acceptor_control control; /* PERSIST; owned by the effect */
    struct loch_acceptor_message message; /* SEND; its history, members are owned by the effect */
};

/* Zero-initialised is empty. Events append; the host carries out, then clears. */
struct loch_acceptor_effects {
    struct loch_acceptor_effect *items;
    size_t count, cap;
};
/* Frees what the effects own and empties the list, keeping its memory. */
void loch_acceptor_effects_clear(struct loch_acceptor_effects *effects);
void loch_acceptor_effects_fini(struct loch_acceptor_effects *effects);

struct loch_acceptor;

/* `control` is copied. member: this acceptor's name in configurations. flush_lsn: end of the last
 * whole record on disk, durable; prev_lsn: its start (control->start_prev_lsn when there is none).
 * LOCH_E_CORRUPT when they contradict the control state, LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_acceptor_create(const struct loch_acceptor_control *control,
                                 const struct loch_id *member, loch_lsn flush_lsn,
                                 loch_lsn prev_lsn, struct loch_acceptor **out);
void loch_acceptor_destroy(struct loch_acceptor *a);

/* ---- events from a proposer's connection ----
 * conn: the host's number for the connection, never 0, never reused. compute_epoch: the one its PSK
 * identity proved. All events fail with LOCH_E_NO_MEMORY only, which is final for the process. */
struct loch_acceptor_from {
    uint64_t conn;
    uint64_t compute_epoch;
};
/* The host has checked version, tenant, timeline, system id, PostgreSQL version and segment size.
 */
LOCH_STATUS loch_acceptor_hello(struct loch_acceptor *a, struct loch_acceptor_from from,
                                const struct loch_wal_hello *m, struct loch_acceptor_effects *out);
/* The host has checked that m->compute_epoch is the identity's. */
LOCH_STATUS loch_acceptor_vote(struct loch_acceptor *a, struct loch_acceptor_from from,
                               const struct loch_wal_vote *m, struct loch_acceptor_effects *out);
LOCH_STATUS loch_acceptor_elected(struct loch_acceptor *a, struct loch_acceptor_from from,
                                  const struct loch_wal_elected *m,
                                  struct loch_acceptor_effects *out);
/* Looks at m->bytes.len only. At most one WRITE is appended, about these bytes. */
LOCH_STATUS loch_acceptor_append(struct loch_acceptor *a, struct loch_acceptor_from from,
                                 const struct loch_wal_append *m,
                                 struct loch_acceptor_effects *out);
/* The connection is gone; nothing will be sent on it any more. */
void loch_acceptor_closed(struct loch_acceptor *a, uint64_t conn);

/* ---- events from disk ---- */
LOCH_STATUS loch_acceptor_persisted(struct loch_acceptor *a, uint64_t token,
                                    struct loch_acceptor_effects *out);
LOCH_STATUS loch_acceptor_truncated(struct loch_acceptor *a, uint64_t token, loch_lsn prev_lsn,
                                    struct loch_acceptor_effects *out);
LOCH_STATUS loch_acceptor_synced(struct loch_acceptor *a, uint64_t token, loch_lsn flush_lsn,
                                 loch_lsn prev_lsn, struct loch_acceptor_effects *out);
/* The scanner refused bytes of the last WRITE; the leader's connection is closed, and its
 * retransmission, if any, begins at flush_lsn. `end`: where the WAL ends. The WRITE's begin:
 * nothing of it was taken and what stands before it ends in a record boundary, so nothing changes.
 * The WRITE's end: its bytes, or ones before it that were taken already, are bad, and the WAL is
 * cut back to flush_lsn (TRUNCATE). */
LOCH_STATUS loch_acceptor_poisoned(struct loch_acceptor *a, loch_lsn end,
                                   struct loch_acceptor_effects *out);

/* ---- the membership ----
 * The configuration as its authority keeps it. An older one than what is known does nothing; a
 * newer one is made durable, then told to all proposers (MEMBERS). LOCH_E_CORRUPT when it
 * contradicts the one of that generation which is known. */
LOCH_STATUS loch_acceptor_configure(struct loch_acceptor *a,
                                    const struct loch_membership *membership,
                                    struct loch_acceptor_effects *out);

/* ---- events from peers ----
 * How a peer stands. Without a leader's connection a peer whose log is of a later term, or longer
 * in the same term, is followed: what this log does not share with it is cut, its history made
 * durable, and the rest fetched (RECOVER). Ignored while other disk effects must come first. */
LOCH_STATUS loch_acceptor_peer_state(struct loch_acceptor *a, const struct loch_wal_pull_state *m,
                                     struct loch_acceptor_effects *out);
/*
 * A chunk a peer sent under `term` (its PULL_STATE proves that this term's history is installed
 * there); commit_lsn as that peer knows it. Chunks that do not fit are dropped. At most one WRITE.
 */
LOCH_STATUS loch_acceptor_recovered(struct loch_acceptor *a, uint64_t term, loch_lsn begin,
                                    uint64_t len, loch_lsn commit_lsn,
                                    struct loch_acceptor_effects *out);
/* How far the pageserver is; told to the leader with the next acknowledgement. */
void loch_acceptor_feedback(struct loch_acceptor *a, loch_lsn reader_lsn, loch_lsn persisted_lsn);

LOCH_STATUS loch_acceptor_tick(struct loch_acceptor *a, struct loch_acceptor_effects *out);
/* What the host keeps beside the control state has changed: the next tick persists in any case. */
void loch_acceptor_touch(struct loch_acceptor *a);

/* ---- what others may see ---- */
struct loch_acceptor_view {
    uint64_t term;           /* promised */
    uint64_t installed_term; /* last of the history; its installation is durable when !installing */
    loch_lsn term_start;
    bool installing;
    uint64_t installing_conn; /* whose ELECTED it is; 0: none, or a peer's */
    bool settled;             /* term and history are durable as they are shown */
    uint64_t min_compute_epoch;
    uint64_t generation; /* of the configuration that is durably known; 0: none */
    uint64_t log_term;   /* last term of the history cut to starts <= flush_lsn */
    bool led;            /* a leader is connected */
    loch_lsn start_lsn, flush_lsn, write_lsn, commit_lsn;
    loch_lsn prev_lsn;                        /* start of the record that ends at flush_lsn */
    const struct loch_term_history *history;  /* borrowed until the next event */
    const struct loch_membership *membership; /* likewise; may not be durable yet */
};
void loch_acceptor_look(const struct loch_acceptor *a, struct loch_acceptor_view *out);

/* May WAL be handed out under this PULL, and up to where? Ask again before every PULL_DATA: a
 * truncation may have come. COMMITTED: up to commit_lsn. FLUSHED: up to flush_lsn, only while
 * exactly `term` is durably installed; else LOCH_E_STALE (say so and close). LOOK: nothing.
 * generation: the asker's, for FLUSHED and LOOK: LOCH_E_STALE unless it is ours. `from` below
 * start_lsn: LOCH_E_NOT_FOUND. *upto may be <= from: nothing yet. */
LOCH_STATUS loch_acceptor_pull_limit(const struct loch_acceptor *a, enum loch_pull_mode mode,
                                     uint64_t term, uint64_t generation, loch_lsn from,
                                     loch_lsn *upto);
/* An asker's generation is newer than ours: REFRESH is due. */
bool loch_acceptor_is_behind(const struct loch_acceptor *a, uint64_t generation);

#endif
