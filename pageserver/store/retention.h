/* What of a timeline's past can be read, and holding on to it.
 *
 * Everything from the cutoff on is readable, and single LSNs below it that a branch or a lease
 * holds. The cutoff and these LSNs stand in the manifest before anything is removed. Any thread.
 */
#ifndef LOCH_PAGESERVER_STORE_RETENTION_H
#define LOCH_PAGESERVER_STORE_RETENTION_H

#include "timeline.h"

#include "loch/layers/retain.h"

/* LOCH_E_INVALID, naming the history's beginning and its time, when `lsn` cannot be read any more,
 * here or in the ancestor it leads to. Nothing keeps it readable afterwards: see holds. */
LOCH_STATUS loch_timeline_readable(struct loch_timeline *t, loch_lsn lsn);

/* Keeps `lsn` readable, ancestors included, until it is released (in this process: what must
 * outlive it is a branch or a lease). Fails as loch_timeline_readable does. */
struct loch_hold;
LOCH_STATUS loch_timeline_hold(struct loch_timeline *t, loch_lsn lsn, struct loch_hold **out);
/* Takes NULL. */
void loch_hold_release(struct loch_hold *hold);

/* A lease: a hold with a holder and an end, which the holder renews by taking it again. It survives
 * a restart if it is renewed within the longest time of a lease: for so long the cutoff stays. */
#define LOCH_LEASE_MAX_MS (UINT64_C(10) * 60 * 1000) /* unless the store says otherwise */
#define LOCH_HOLDER_BYTES 64u
struct loch_lsn_lease {
    loch_lsn lsn;
    uint64_t expires_ns; /* of loch_env_now_ns */
    char holder[LOCH_HOLDER_BYTES];
};
/* Takes or renews (same holder and lsn). LOCH_E_INVALID: not readable, or the holder's name;
 * LOCH_E_LIMIT: ttl_ms, or too many. */
LOCH_STATUS loch_timeline_lease(struct loch_timeline *t, loch_lsn lsn, const char *holder,
                                uint64_t ttl_ms);
/* LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_timeline_lease_end(struct loch_timeline *t, loch_lsn lsn, const char *holder);
/* Copies those that have not expired; *out is malloc'ed. */
LOCH_STATUS loch_timeline_leases(struct loch_timeline *t, struct loch_lsn_lease **out,
                                 size_t *count);

/* The cutoff (LOCH_LSN_NONE: all is kept) and when its LSN was reached. */
loch_lsn loch_timeline_cutoff(struct loch_timeline *t, int64_t *reached_us);
/* The timeline's own window; false, and *out untouched, when the pageserver's holds. */
bool loch_timeline_own_window(struct loch_timeline *t, struct loch_pitr_window *out);
/* Blocks: commits the manifest. */
LOCH_STATUS loch_timeline_set_window(struct loch_timeline *t,
                                     const struct loch_pitr_window *window);

/* False for the longest time of a lease after the timeline was opened: leases of before have that
 * long to be renewed, and until then nobody moves the cutoff. */
bool loch_timeline_leases_settled(struct loch_timeline *t);
/* Whether the next call would move it (and may); false also while something is being committed.
 * Never blocks.
 */
bool loch_timeline_cutoff_due(struct loch_timeline *t, const struct loch_pitr_window *window,
                              int64_t now_us);
/* The same, but true also before the leases are settled. */
bool loch_timeline_cutoff_waits(struct loch_timeline *t, const struct loch_pitr_window *window,
                                int64_t now_us);
/* Around listing `extra` for loch_timeline_advance_cutoff and calling it: a hold that is released
 * between the two counts as held until the end, so that a branch which is made after the list and
 * closed before the call has its point kept. One at a time; the caller retains t until the end. */
void loch_timeline_gather_begin(struct loch_timeline *t);
void loch_timeline_gather_end(struct loch_timeline *t);
/* Moves the cutoff to where `window` (the timeline's own, if it has one, goes before) says, and
 * commits it with the LSNs below it that stay readable: those of holds, live leases, open branches
 * and `extra` (branch points that are not open here), of which one that cannot be read any more
 * stays refused. *moved: something changed. Removes no version; merges do. Blocks. LOCH_E_STALE:
 * another pageserver writes the timeline. */
LOCH_STATUS loch_timeline_advance_cutoff(struct loch_timeline *t,
                                         const struct loch_pitr_window *window, int64_t now_us,
                                         const loch_lsn *extra, size_t extra_count, bool *moved);

#endif
