/* Pulls the committed WAL of one timeline from whichever safekeeper has it.
 *
 * One connection at a time. When it breaks, is refused or falls silent, the next safekeeper is
 * asked, from where the chunks stopped; for ever, with a pause of 0.1 to 1.6 s between rounds, of
 * up to 30 s while none knows the timeline, of 1 s when somebody waits. A safekeeper that lives and
 * has no more WAL may be one that is stuck (its disk is full, the compute cannot reach it): while
 * somebody waits for more than it has, the next one is asked after a second; while nobody waits, 5
 * s after the last WAL, then ever more seldom, every 10 minutes at last. Everything runs on the
 * loop's thread.
 */
#ifndef LOCH_PAGESERVER_INGEST_WAL_RECEIVER_H
#define LOCH_PAGESERVER_INGEST_WAL_RECEIVER_H

#include "../config.h"

#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/wire/wal.h"

struct loch_wal_receiver;

struct loch_wal_receiver_events {
    /* The next committed bytes, contiguous: begin is where the last chunk ended (first:
     * options.from). A failure (WAL that is not WAL) drops the connection and begins again at
     * restart_from. */
    LOCH_STATUS (*wal)(void *arg, loch_lsn begin, struct loch_slice bytes);
    /* After such a failure: where to begin again, a record boundary. */
    loch_lsn (*restart_from)(void *arg);
    /* What the safekeeper says of itself: term, smallest epoch, positions; no history, no members.
     * Borrowed. */
    void (*state)(void *arg, const struct loch_wal_pull_state *state);
    /* The highest LSN that somebody waits for; 0: nobody does. */
    loch_lsn (*wanted)(void *arg);
    /* How far this pageserver is; asked before each feedback. */
    void (*positions)(void *arg, struct loch_wal_pull_feedback *out);
};

struct loch_wal_receiver_options {
    struct loch_env *env;
    struct loch_keys *keys;
    const struct loch_pageserver_config *config; /* safekeepers, cluster, node */
    struct loch_id tenant, timeline;
    loch_lsn from; /* a record boundary */
    struct loch_wal_receiver_events events;
    void *arg;
};

/* The pageserver's half of a connection to a safekeeper, to read this timeline's WAL. */
LOCH_STATUS loch_wal_receiver_tls(const struct loch_wal_receiver_options *options,
                                  const struct loch_peer *peer, struct loch_tls_client **out);
/* Begins at once. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_wal_receiver_create(const struct loch_wal_receiver_options *options,
                                     struct loch_wal_receiver **out);
/* No event comes after this returned. Takes NULL. */
void loch_wal_receiver_destroy(struct loch_wal_receiver *receiver);
/* Stops (false) or resumes reading: backpressure when memory is full. */
void loch_wal_receiver_flow(struct loch_wal_receiver *receiver, bool on);
/* Tell the safekeeper how far we are, within 20 ms: call when a position has moved. */
void loch_wal_receiver_moved(struct loch_wal_receiver *receiver);
/* The connected safekeeper's address, or NULL, and why it is not connected (static text or
 * address). */
const char *loch_wal_receiver_source(const struct loch_wal_receiver *receiver);
/* The safekeepers it asks: the members of the timeline, as far as it was told. Borrowed until the
 * next event. */
const struct loch_peer *loch_wal_receiver_peers(const struct loch_wal_receiver *receiver,
                                                size_t *count);

#endif
