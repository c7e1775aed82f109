/* Times of transactions by LSN: what "the state at time T" is found with.
 *
 * One key holds the running maximum of the times at which transactions ended (committed or
 * aborted), in WAL order: a version is put for the first end in each second that is later than all
 * before it. So along the LSNs of a timeline and its ancestors the seconds of the versions only
 * rise, and the first record later than T is found by bisection, although commit times themselves
 * go back and forth. Format: docs/format/keys.md. Any thread; blocking.
 */
#ifndef LOCH_PAGESERVER_READ_XACT_TIME_H
#define LOCH_PAGESERVER_READ_XACT_TIME_H

#include "read/view.h"

#define LOCH_XACT_TIME_BYTES 24u
#define LOCH_XACT_TIME_KEY   ((struct loch_key){.kind = LOCH_KEY_XACT_TIME})

struct loch_xact_time {
    int64_t time_us; /* PostgreSQL's: microseconds since 2000-01-01 00:00 UTC */
    loch_lsn end;    /* of the record that ended the transaction */
    loch_lsn before; /* end of the record before it that ended one; LOCH_LSN_NONE: unknown */
};

/* The second a time lies in, rounded down also before 2000. */
static inline int64_t loch_xact_second(int64_t time_us)
{
    return time_us / 1000000 - (time_us % 1000000 < 0);
}

void loch_xact_time_encode(const struct loch_xact_time *entry,
                           uint8_t out[static LOCH_XACT_TIME_BYTES]);
/* LOCH_E_CORRUPT. */
LOCH_STATUS loch_xact_time_decode(struct loch_slice bytes, struct loch_xact_time *out);

/* The newest entry whose record ends at or below `lsn`: a transaction ended then, and none before
 * it in WAL order in a later second. */
LOCH_STATUS loch_xact_time_at(struct loch_view *view, loch_lsn lsn, bool *found,
                              struct loch_xact_time *out);
/* The first entry at or below `lsn` whose second is later than that of time_us: no record before it
 * lies in a later second. */
LOCH_STATUS loch_xact_time_after(struct loch_view *view, loch_lsn lsn, int64_t time_us, bool *found,
                                 struct loch_xact_time *out);

#endif
