/* Limits of WAL on disk: a timeline's, the node's, and what must stay free on the file system.
 *
 * Above one of them a timeline is held: its writers wait, with the reason in their log, in SHOW
 * TIMELINES and in ours, until WAL has been trimmed or there is room again; votes, readers, the
 * archive and other timelines go on. A reserve file is given up when the disk fills for another
 * reason, so that control files can still be written. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_WAL_LIMITS_H
#define LOCH_SAFEKEEPER_WAL_LIMITS_H

#include "loch/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define SK_RESERVE_NAME "reserve"

struct sk_daemon;
struct sk_timeline;

/* Embedded in the daemon; 0: no such limit. */
struct sk_limits {
    uint64_t timeline_bytes, node_bytes, min_free_bytes; /* settings */
    uint64_t least_free_bytes; /* min_free_bytes, or less on a small file system */
    uint64_t free_bytes;       /* as last seen; UINT64_MAX: not known */
    uint64_t promised_bytes;   /* of them, to timelines that are about to begin files */
    uint64_t wal_bytes;        /* of all timelines, as last seen */
    uint64_t fair_bytes;       /* the mean of those that have WAL */
    bool reserved, working;    /* the reserve is there; it is being made or given up */
};

/* Before anything else is written to the directory: gives up the reserve that the last process
 * left, for the disk may have filled since. */
LOCH_STATUS sk_limits_enter(struct sk_daemon *daemon);
/* When the node's files are written: makes the reserve if there is room. */
LOCH_STATUS sk_limits_start(struct sk_daemon *daemon);
/* About once a second, before control files are written: looks at everything, holds and releases.
 * While limits.working, the reserve is being given up (or made): control files can wait for that.
 */
void sk_limits_tick(struct sk_daemon *daemon);
/* Before WAL of a timeline is taken: holds it if it is above a limit by now. True: held. */
bool sk_limits_held(struct sk_timeline *tl);
/* How much of what is trimmed of a timeline may stay as spare files. */
uint64_t sk_limits_spare_bytes(const struct sk_timeline *tl);

#endif
