/* A moment: the record boundary that a point in time means, and the time that an LSN means.
 *
 * "At time T" is what PostgreSQL's recovery_target_time means: before the first record, in WAL
 * order, that ends a transaction later than T. Commit times are not monotone, so this is not "all
 * transactions up to T". Loop's thread.
 */
#ifndef LOCH_PAGESERVER_CARE_MOMENT_H
#define LOCH_PAGESERVER_CARE_MOMENT_H

#include "history.h"
#include "tenants.h"

struct loch_moment {
    loch_lsn lsn;      /* the boundary; without `later` the end of what was searched */
    bool later;        /* a transaction that ended later than T follows */
    int64_t later_us;  /* when; microseconds since 1970 */
    bool before;       /* some transaction had ended by then */
    int64_t before_us; /* when one did: at most a second before the newest */
};

typedef void (*loch_moment_fn)(void *arg, loch_status st, const struct loch_moment *moment);

/* The moment of time_us (microseconds since 1970) in the history of a timeline up to `upto`
 * (LOCH_LSN_NONE: what is ingested now); waits until that is ingested. fn is called later, once,
 * moment NULL on failure. LOCH_E_INVALID: the time lies in the future, or before the history. */
LOCH_STATUS loch_moment_find(struct loch_pageserver *ps, struct loch_tenant *tenant,
                             const struct loch_id *timeline, int64_t time_us, loch_lsn upto,
                             loch_moment_fn fn, void *arg);
/* The time of an LSN: only `lsn` and `before` are set. */
LOCH_STATUS loch_moment_of(struct loch_pageserver *ps, struct loch_tenant *tenant,
                           const struct loch_id *timeline, loch_lsn lsn, loch_moment_fn fn,
                           void *arg);

#endif
