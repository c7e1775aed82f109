/* How long somebody waits for a member of a timeline: until nothing has come forward for a while.
 * Pure; the time is the caller's.
 */
#ifndef LOCH_TOOLS_PATIENCE_H
#define LOCH_TOOLS_PATIENCE_H

#include "loch/consensus/membership.h"

#define LOCH_PATIENCE_MS 120000u /* without progress */

/* Embedded. */
struct loch_patience {
    uint64_t until_ms, say_ms; /* when it ends; when to say again what is waited for */
    loch_lsn reached;          /* the furthest that was seen */
};

/* Begins at now_ms (monotonic). */
struct loch_patience loch_patience_begin(uint64_t now_ms);
/* Who is waited for is at this LSN: if that is further than before, there is time again. */
void loch_patience_see(struct loch_patience *p, uint64_t now_ms, loch_lsn flush_lsn);
/* The same for the new set of a joint membership: the one that is least far counts, of those that
 * answered. `states` has m->count entries. */
void loch_patience_see_new(struct loch_patience *p, uint64_t now_ms,
                           const struct loch_membership *m, const struct loch_member_state *states);
/* True about every two seconds. */
bool loch_patience_says(struct loch_patience *p, uint64_t now_ms);

#endif
