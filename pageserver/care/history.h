/* A point in a timeline's past: the record boundary at or below an LSN, and the exact control state
 * there.
 *
 * Starts from the control snapshot of the WAL segment and follows at most a segment of WAL, pulled
 * again from a safekeeper; at the tip nothing is pulled. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_CARE_HISTORY_H
#define LOCH_PAGESERVER_CARE_HISTORY_H

#include "served.h"

#include "loch/pg/control.h"

struct loch_history_point {
    loch_lsn lsn;      /* the boundary */
    loch_lsn prev_lsn; /* start of the record that ends there */
    struct loch_control control;
    bool stopped; /* loch_history_find_before: such a record follows; its end and time */
    loch_lsn later_end;
    int64_t later_us;
};

struct loch_history;

typedef void (*loch_history_fn)(void *arg, loch_status st, const struct loch_history_point *point);

/* `lsn` lies in this timeline's own WAL (>= its start_lsn); waits until it is ingested. Calls fn
 * later, once: point is borrowed, NULL on failure. LOCH_E_UNAVAILABLE when that takes longer than
 * timeout_ms, LOCH_E_INVALID below start_lsn. */
LOCH_STATUS loch_history_find(struct loch_served *served, struct loch_pageserver *ps, loch_lsn lsn,
                              uint64_t timeout_ms, loch_history_fn fn, void *arg,
                              struct loch_history **out);
/* Looks at the records behind `from` (>= start_lsn) up to `upto` (ingested) for the first that ends
 * a transaction later than time_us (PostgreSQL's); the point is the boundary before it, or the last
 * one at or below `upto` when there is none. Reads all that WAL again. Else as above. */
LOCH_STATUS loch_history_find_before(struct loch_served *served, struct loch_pageserver *ps,
                                     loch_lsn from, loch_lsn upto, int64_t time_us,
                                     uint64_t timeout_ms, loch_history_fn fn, void *arg,
                                     struct loch_history **out);
/* No callback comes any more. */
void loch_history_cancel(struct loch_history *history);

#endif
