/* The upkeep of timelines' layers: the window moves on, bands are merged, what is past is removed.
 *
 * One piece of work at a time for the whole pageserver, on a pool thread, which rests as long as it
 * worked while pages are being read. A timeline without anything to do costs a look at its list of
 * bands. One whose upkeep fails again and again is left alone for a while (a breaker); the others
 * are not concerned. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_CARE_UPKEEP_H
#define LOCH_PAGESERVER_CARE_UPKEEP_H

#include "../pageserver.h"

#include "loch/base/types.h"

struct loch_upkeep;

/* Begins to look after ps->served, every config.upkeep_ms. ps must outlive it. */
LOCH_STATUS loch_upkeep_create(struct loch_pageserver *ps, struct loch_upkeep **out);
/* No work begins any more; what runs ends soon and is waited for by its timeline. Takes NULL. */
void loch_upkeep_stop(struct loch_upkeep *upkeep);
/* After every timeline has gone. Takes NULL. */
void loch_upkeep_destroy(struct loch_upkeep *upkeep);

/* What a merge of everything did. */
struct loch_upkeep_report {
    uint64_t read_bytes, written_bytes, dropped_bytes;
    uint32_t files_read, files_written;
    uint32_t files_healed; /* of loch_upkeep_check */
};
/* Moves the cutoff and merges all layers of the timeline into one band, as the next piece of work,
 * whatever the breaker says; then calls fn (later, once). LOCH_E_NOT_FOUND; LOCH_E_UNAVAILABLE: one
 * such order of the timeline waits already, or an ancestor has not ingested up to the branch point
 * again. */
LOCH_STATUS loch_upkeep_order(
    struct loch_upkeep *upkeep, const struct loch_id *tenant, const struct loch_id *timeline,
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report), void *arg);
/* Opens every block of its layers and of their copies, and heals the one from the other; needs
 * no ancestor. Else as above; LOCH_E_CORRUPT: neither is good. */
LOCH_STATUS loch_upkeep_check(
    struct loch_upkeep *upkeep, const struct loch_id *tenant, const struct loch_id *timeline,
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report), void *arg);
/* Whether the timeline has upkeep to be done now, or when its leases are settled (not while its
 * breaker is open). */
bool loch_upkeep_due(struct loch_upkeep *upkeep, const struct loch_served *served);
/* Why the upkeep of a timeline rests, or "". Valid until the next call. */
const char *loch_upkeep_problem(struct loch_upkeep *upkeep, const struct loch_id *timeline);

#endif
