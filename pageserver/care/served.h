/* A timeline in service: pulls its WAL, ingests it on pool threads, flushes, and lets readers wait
 * for an LSN. Loop's thread only, unless said otherwise.
 *
 * At most one ingest and one flush of a timeline run at a time, each as a piece of pool work; while
 * memory is full the receiver does not read. A timeline that cannot be opened or ingested is marked
 * with the reason and goes on serving what it can; others are not touched.
 */
#ifndef LOCH_PAGESERVER_CARE_SERVED_H
#define LOCH_PAGESERVER_CARE_SERVED_H

#include "../pageserver.h"
#include "care/memory.h"
#include "ingest/ingest.h"

#include "loch/wire/wal.h"

struct loch_wal_receiver;
struct loch_served;

/* Embedded by whoever waits. */
struct loch_waiter {
    loch_lsn lsn;
    /* Once: when versions at lsn can be read, or with why they never will (dropped, broken, stop).
     */
    void (*fn)(void *arg, loch_status st);
    void *arg;
    struct loch_waiter *next; /* private, as is prev */
    struct loch_waiter **prev;
};

/* Told when a term or epoch rises, and before the timeline goes. */
struct loch_served_watch {
    void (*term)(void *arg);
    void (*gone)(void *arg, loch_status st);
    void *arg;
    struct loch_served_watch *next, **prev; /* private */
};

/* Takes over one reference of the timeline and begins to pull. */
LOCH_STATUS loch_served_create(struct loch_pageserver *ps, struct loch_timeline *take_timeline,
                               struct loch_served **out);
/* The same for one whose keys may have gone dark while it was opened: it stands there broken then,
 * with that reason, and holds nothing. take_timeline NULL: it could not be opened, and `why` says
 * so (else `why` is not looked at); it is tried again if that may pass. */
LOCH_STATUS loch_served_enter(struct loch_pageserver *ps, const struct loch_id *tenant,
                              const struct loch_id *timeline, struct loch_timeline *take_timeline,
                              const struct loch_failure *why);
/* A timeline that could not be opened: known, refused with `why`. */
LOCH_STATUS loch_served_create_broken(struct loch_pageserver *ps, const struct loch_id *tenant,
                                      const struct loch_id *timeline, loch_status why,
                                      struct loch_served **out);
/* A timeline whose layers are in the object store alone: known, and refused with the cure. */
LOCH_STATUS loch_served_create_archived(struct loch_pageserver *ps, const struct loch_id *tenant,
                                        const struct loch_id *timeline);
bool loch_served_is_archived(const struct loch_served *served);
/* Stops pulling, fails the waiters with LOCH_E_NOT_FOUND and tells the watchers; `done` is called
 * later, when no work of it is in flight any more and it has been freed. */
void loch_served_stop(struct loch_served *served, void (*done)(void *arg), void *arg);
/* The same, with another reason for waiters and watchers: its key is gone. */
void loch_served_darken(struct loch_served *served, enum loch_code code, const char *why,
                        void (*done)(void *arg), void *arg);
/* Those that are not stopping yet; the daemon's end is considered after each. */
void loch_served_stop_all(struct loch_pageserver *ps);
/* NULL when there is none. */
struct loch_served *loch_served_find(struct loch_pageserver *ps, const struct loch_id *tenant,
                                     const struct loch_id *timeline);
struct loch_served *loch_served_next(const struct loch_served *served);

/* NULL for a broken one; borrowed. */
struct loch_timeline *loch_served_timeline(const struct loch_served *served);
const struct loch_id *loch_served_tenant_id(const struct loch_served *served);
const struct loch_id *loch_served_timeline_id(const struct loch_served *served);
/* LOCH_OK when it can be read; else why not. */
LOCH_STATUS loch_served_usable(const struct loch_served *served);
/* Why it does not go on, or "" (also for one that still can be read). A branch that waits for what
 * an ancestor will not ingest any more has that ancestor's. */
const char *loch_served_problem(const struct loch_served *served);
/* The safekeeper that WAL comes from, or NULL. */
const char *loch_served_source(const struct loch_served *served);
/* The safekeepers of the timeline, as far as this pageserver was told. Borrowed. */
const struct loch_peer *loch_served_safekeepers(const struct loch_served *served, size_t *count);
uint64_t loch_served_term(const struct loch_served *served);
/* Up to where the safekeepers have told that WAL is committed; LOCH_LSN_NONE: not yet. */
loch_lsn loch_served_commit_lsn(const struct loch_served *served);
uint64_t loch_served_min_epoch(const struct loch_served *served);
/* True when ingest rests: the control state is that of last_record_lsn. */
bool loch_served_control(const struct loch_served *served, struct loch_control *out);

/* Calls back (later) when loch_timeline_ready(lsn); the waiter is linked until then. */
void loch_served_wait(struct loch_served *served, struct loch_waiter *waiter);
/* Before it was called back. */
void loch_served_unwait(struct loch_waiter *waiter);
void loch_served_watch_add(struct loch_served *served, struct loch_served_watch *watch);
void loch_served_watch_remove(struct loch_served_watch *watch);

/* Work of others on the timeline, in flight: a stop waits for its end. After the end `served` may
 * be gone. */
void loch_served_work_begin(struct loch_served *served);
void loch_served_work_end(struct loch_served *served);

/* True when nobody uses the timeline and all of its WAL that has come is in layer files; what is
 * not is written soon. */
bool loch_served_rests(struct loch_served *served);
/* The safekeepers have been told how far it is persisted. */
bool loch_served_told(const struct loch_served *served);
/* Freezes what is in memory, as soon as ingest rests, and writes it. */
void loch_served_flush_soon(struct loch_served *served);

/* ---- for care/memory.c ---- */
const struct loch_memory_share *loch_served_memory(const struct loch_served *served);
/* The open layer is to be written early; false when it cannot be. */
bool loch_served_relieve(struct loch_served *served);
/* What is here of a long record is dropped and asked for again, as it does not come on; false: not
 * now. */
bool loch_served_give_way(struct loch_served *served);
/* A job of somebody else's may have written the timeline's layers: what is in memory is counted
 * anew, and what waited for it goes on. */
void loch_served_flushed(struct loch_served *served);
/* Whether memory is full has changed: pauses or goes on. */
void loch_served_flow(struct loch_served *served);

#endif
