/* The safekeepers as the agent sees them: one stream to each, the proposer machine, and the memory
 * window of recent WAL that they are sent from.
 *
 * Called on the loop's thread. Callbacks may call loch_quorum_close.
 */
#ifndef LOCH_AGENT_QUORUM_H
#define LOCH_AGENT_QUORUM_H

#include "credential.h"

#include "loch/io/env.h"

struct loch_quorum;

struct loch_quorum_events {
    /* Won the election: WAL goes on at lsn, in `term`; prev_lsn starts the record that ends there.
     */
    void (*elected)(void *arg, uint64_t term, loch_lsn lsn, loch_lsn prev_lsn);
    /* Durable on a quorum up to lsn; first called with L itself. */
    void (*committed)(void *arg, loch_lsn lsn);
    /* Another leader has taken over: final. */
    void (*fenced)(void *arg, const char *why);
    /* After loch_quorum_full was true: there is room again. */
    void (*room)(void *arg);
    /* Nothing can be committed here any more, and nobody else has taken over: only a new boot
     * helps. A record longer than the window has lost its quorum half-way, or memory has run out.
     */
    void (*lost)(void *arg, const char *why);
    /* A safekeeper says that the tenant's key is revoked, or so many that the others are no quorum
     * that the KMS is away for too long. */
    void (*dark)(void *arg, loch_status st);
};

struct loch_quorum_order {
    struct loch_env *env;
    struct loch_credential *credential; /* outlives the quorum, closed ones too */
    uint64_t window_bytes;              /* recent WAL kept in memory */
    uint64_t highest_term;              /* seen by an earlier quorum of this boot, else 0 */
    const struct loch_quorum_events *events;
    void *arg;
};

/* Connects and campaigns by itself, for ever. */
LOCH_STATUS loch_quorum_create(const struct loch_quorum_order *order, struct loch_quorum **out);
/* No callback comes any more; the streams close and the memory goes when the last is gone. Takes
 * NULL. */
void loch_quorum_close(struct loch_quorum *q);

/* WAL at `begin` (the end of what was pushed before; L at first). LOCH_E_INVALID for a gap,
 * LOCH_E_LIMIT when it does not fit (see loch_quorum_full). It is sent by loch_quorum_propose. */
LOCH_STATUS loch_quorum_push(struct loch_quorum *q, loch_lsn begin, struct loch_slice bytes);
/* Callbacks may come, and the quorum may be closed by them. */
void loch_quorum_propose(struct loch_quorum *q);
/* Too little room for another walsender message: stop reading until `room` is called. */
bool loch_quorum_full(struct loch_quorum *q);

struct loch_quorum_view {
    uint64_t term, highest_term;
    loch_lsn start_lsn, end_lsn, commit_lsn;
    loch_lsn reader_lsn, persisted_lsn;
    uint64_t heard_ms; /* a safekeeper has answered then or later; at first: when it began */
};
void loch_quorum_look(const struct loch_quorum *q, struct loch_quorum_view *out);
struct loch_quorum_member_view {
    const char *address; /* borrowed from the credential */
    const char *state;   /* "streaming", "catching up", "joining" or "unreachable" */
    const char *why;     /* what ended the last connection, "" unless unreachable; borrowed */
    uint64_t away_ms;    /* 0 unless unreachable */
    loch_lsn write_lsn, flush_lsn;
};
/* False: there is no such member. */
bool loch_quorum_member(const struct loch_quorum *q, uint32_t index,
                        struct loch_quorum_member_view *out);
/* One line on who is missing, for the log: "safekeeper 1 at 127.0.0.1:7001 unreachable since 12 s:
 * ..." */
void loch_quorum_describe(const struct loch_quorum *q, char *text, size_t len);

#endif
