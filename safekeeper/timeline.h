/* One timeline of the safekeeper: the acceptor, its disk, and who is connected. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_TIMELINE_H
#define LOCH_SAFEKEEPER_TIMELINE_H

#include "archive.h"
#include "daemon.h"
#include "lsn_metrics.h"

#include "loch/consensus/acceptor.h"

enum sk_state {
    SK_OPENING = 1, /* control file and WAL are being read */
    SK_ACTIVE,
    SK_WAITING, /* its keys or files cannot be had now: tried again */
    SK_BROKEN,  /* damaged: no vote, no donor, nothing served */
    SK_DROPPING
};

struct sk_conn;
struct sk_recovery;
struct sk_scrub;

struct sk_timeline {
    struct sk_daemon *daemon;
    struct loch_id tenant, timeline;
    char tenant_text[LOCH_ID_TEXT_BYTES], timeline_text[LOCH_ID_TEXT_BYTES];
    char dir[SK_PATH_BYTES];
    struct sk_sealer sealer;
    enum sk_state state;
    char why[SK_TEXT_BYTES]; /* WAITING, BROKEN */
    bool job;                /* a pool thread works on it */
    bool dropping;           /* a drop waits for it or is under way */
    uint64_t retry_ns;
    bool said; /* WAITING was logged */

    struct sk_conn *conns; /* those about it, a list */

    /* ACTIVE only */
    struct sk_control control; /* what the timeline is; its acceptor part is the one at open */
    struct loch_acceptor *acceptor;
    struct loch_acceptor_effects effects;
    struct sk_store *store;
    struct sk_recovery *recovery; /* NULL until first needed */
    bool wary; /* a peer's history could not be: none is followed until a term is installed */
    uint32_t members_jobs; /* the membership is being read or changed */
    bool members_due;      /* it is to be read once more after that */
    uint64_t seen_generation;
    struct sk_scrub *scrub;      /* NULL when none is under way */
    struct loch_slice input;     /* bytes of the event being handled */
    char not_wal[SK_TEXT_BYTES]; /* why bytes are being refused; "": they are not */
    uint64_t done_token;
    uint64_t next_conn;
    loch_lsn seen_commit, seen_flush;
    loch_lsn synced_lsn; /* WAL was synced up to here, and not cut since; also while it is parked */
    uint64_t seen_term;  /* installed */
    uint64_t said_term;  /* durably installed, and in the log */
    uint64_t seen_epoch;
    loch_lsn reader_lsn, persisted_lsn; /* the pageserver's positions */
    loch_lsn remote_lsn;                /* up to which it needs no WAL, come what may */
    struct sk_archive archive;
    struct sk_lsn_metrics lsn_metrics;
    char hold[240];           /* why its writers wait; "": they do not */
    bool hold_told;           /* the last proposer that had to wait was told why */
    uint64_t seen_disk_bytes; /* by the limits */
    uint64_t promised_bytes;  /* of free disk, to begin files (wal_limits.c) */
    bool paused;              /* senders are not read from: too much is queued */
    size_t queued_bytes;      /* as counted in the daemon's memory */

    bool parked; /* its key is gone: nothing runs any more, memory is given back soon */
    struct loch_timer *parks; /* until nothing is in flight */

    struct loch_console_request *request; /* who waits for CREATE or DROP */
};

/* What CREATE TIMELINE says. */
struct sk_timeline_spec {
    loch_lsn start_lsn, prev_lsn;
    uint64_t system_id;
    uint32_t pg_version, segment_bytes;
};

LOCH_STATUS sk_timeline_new(struct sk_daemon *daemon, const struct loch_id *tenant,
                            const struct loch_id *timeline, struct sk_timeline **out);
/* All but what it is called goes from memory; only its state says what it is then. Nothing may be
 * under way (sk_timeline_idle). */
void sk_timeline_empty(struct sk_timeline *tl);
/* Nothing may be under way. */
void sk_timeline_destroy(struct sk_timeline *tl);
/* Reads it from disk on a pool thread; then it is ACTIVE, WAITING or BROKEN. With `spec` it is
 * created first, durably. */
LOCH_STATUS sk_timeline_open(struct sk_timeline *tl, const struct sk_timeline_spec *spec);
bool sk_timeline_idle(const struct sk_timeline *tl);
/* Closes its connections and stops recovery: before a drop or a stop. */
void sk_timeline_quiesce(struct sk_timeline *tl, const char *why);
/* Damage was found while it was served: it votes and serves no more. */
void sk_timeline_break(struct sk_timeline *tl, const char *why);
/* Its tenant's key is gone, or a cut could not be made: as if the process had ended, it forgets all
 * that is not on disk, and is opened again (when there is a key); a broken one stays broken. What
 * it acknowledged is durable. */
void sk_timeline_park(struct sk_timeline *tl, enum loch_code code, const char *why);
/* False once a parked timeline has given its memory back. */
bool sk_timeline_holds_plaintext(const struct sk_timeline *tl);
/* Nothing is under way, and nothing is left to be done for now: it may sleep. */
bool sk_timeline_rests(const struct sk_timeline *tl);
/* It was asleep and is about to be opened, or being opened. */
bool sk_timeline_wakes(const struct sk_timeline *tl);
/* About once a second. */
void sk_timeline_tick(struct sk_timeline *tl);
/* Fails unless ACTIVE, saying why. */
LOCH_STATUS sk_timeline_check(const struct sk_timeline *tl);
/* LOCH_E_UNAVAILABLE while the lease on its keys has run out: nothing of it may leave. (A
 * revocation ends its connections itself.) */
LOCH_STATUS sk_timeline_lease(const struct sk_timeline *tl);
const char *sk_state_name(enum sk_state state);
/* The system is short of something (descriptors, memory, a readable sector): what could not be read
 * is not damaged as far as anybody knows. */
bool sk_is_shortage(loch_status st);

/* ---- events; ACTIVE only ---- */
void sk_timeline_hello(struct sk_timeline *tl, struct loch_acceptor_from from,
                       const struct loch_wal_hello *m);
void sk_timeline_vote(struct sk_timeline *tl, struct loch_acceptor_from from,
                      const struct loch_wal_vote *m);
void sk_timeline_elected(struct sk_timeline *tl, struct loch_acceptor_from from,
                         const struct loch_wal_elected *m);
void sk_timeline_append(struct sk_timeline *tl, struct loch_acceptor_from from,
                        const struct loch_wal_append *m);
void sk_timeline_gone(struct sk_timeline *tl, uint64_t conn);
/* LOCH_E_CORRUPT: the bytes are not WAL, the peer is of no use. */
LOCH_STATUS sk_timeline_recovered(struct sk_timeline *tl, uint64_t term, loch_lsn begin,
                                  struct loch_slice bytes, loch_lsn commit_lsn);
/* The authoritative membership. LOCH_E_CORRUPT when it contradicts what is known. */
LOCH_STATUS sk_timeline_configure(struct sk_timeline *tl, const struct loch_membership *m);
void sk_timeline_peer_state(struct sk_timeline *tl, const struct loch_wal_pull_state *m);
void sk_timeline_feedback(struct sk_timeline *tl, const struct loch_wal_pull_feedback *m);

#endif
