/* Checking old WAL files after a timeline was opened, slowly, on a pool thread. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_SCRUB_H
#define LOCH_SAFEKEEPER_SCRUB_H

#include "timeline.h"

/* A restart checks the newest files before it serves; this checks the others after. Damage breaks
 * the timeline; a file that the system could not read is tried again. */
LOCH_STATUS sk_scrub_start(struct sk_timeline *tl);
/* No further file is begun. */
void sk_scrub_stop(struct sk_timeline *tl);
/* True when none is under way. */
bool sk_scrub_idle(const struct sk_timeline *tl);

#endif
