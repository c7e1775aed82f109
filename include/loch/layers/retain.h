/* What GC may remove: plain functions over LSNs. No I/O, memory, clock or lock.
 *
 * A timeline can be read at every LSN from its cutoff on, and at single LSNs below it that branches
 * and leases hold (points). A version is kept while a read at one of these would use it; everything
 * else may go, from any layer, in any order: the rule looks at one key's versions within the layers
 * that are being merged and never needs to know what the others hold.
 */
#ifndef LOCH_LAYERS_RETAIN_H
#define LOCH_LAYERS_RETAIN_H

#include "loch/base/types.h"

#include <stdbool.h>
#include <stddef.h>

/* Borrowed arrays. Zero-initialised: everything is kept. */
struct loch_retention {
    loch_lsn cutoff;        /* LOCH_LSN_NONE: all of history */
    const loch_lsn *points; /* below the cutoff, ascending, distinct */
    size_t point_count;
};

bool loch_retention_readable(const struct loch_retention *retention, loch_lsn lsn);

/* One version of a key; lists are newest first. */
struct loch_retain_item {
    loch_lsn lsn;
    bool base; /* needs nothing older: a value; for a cut: it hides everything older */
    bool cut;  /* of a relation's fork: all from block `first` on, as newer ones at `first` or below
                  do too */
    uint32_t first;
    bool keep;
    bool history; /* kept because it lies above the cutoff */
    bool live;    /* kept for a read at the cutoff */
};

/* Marks everything above the cutoff. */
void loch_retain_history(struct loch_retain_item *items, size_t count, loch_lsn cutoff);
/* Marks what a read at `lsn` uses: from the newest at or below it down to the first base, nothing
 * below `floor` (what cuts hide at `lsn`), and of cuts those that begin before all newer ones.
 * live: sets `live` too. */
void loch_retain_read(struct loch_retain_item *items, size_t count, loch_lsn floor, loch_lsn lsn,
                      bool live);

/* When an LSN was reached: all commits at or below it happened at or before that time. */
struct loch_lsn_mark {
    loch_lsn lsn;
    int64_t wall_us; /* since 1970 */
};

/* History is kept for at least so long and for at least so many bytes of WAL. */
struct loch_pitr_window {
    uint64_t seconds, bytes;
};

#define LOCH_MARKS_MAX 512u

/* The mark to which the cutoff may move: the newest that is older than the window by time and by
 * bytes, counted back from `last`. False when it stays where it is (`cutoff`). Marks ascend. */
bool loch_retention_advance(const struct loch_pitr_window *window,
                            const struct loch_lsn_mark *marks, size_t count, int64_t now_us,
                            loch_lsn last, loch_lsn cutoff, struct loch_lsn_mark *out);
/* Adds (lsn, now_us) to marks[0..count), of which there is room for LOCH_MARKS_MAX; returns the new
 * count. Forgets marks below the cutoff (the last of them stays), keeps times from going back,
 * drops every other old one when they are too many, and skips one that follows within gap_us. */
size_t loch_marks_add(struct loch_lsn_mark *marks, size_t count, loch_lsn lsn, int64_t now_us,
                      int64_t gap_us, loch_lsn cutoff);

/* The points to be kept once the cutoff stands at `cutoff`: those of `held` (any order, may repeat)
 * below it. Sorts `held` in place and returns how many stand at its front. */
size_t loch_retention_points(loch_lsn *held, size_t count, loch_lsn cutoff);

#endif
