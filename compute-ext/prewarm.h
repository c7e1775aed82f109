/* Warm starts: the list of hot pages goes into the WAL regularly and at stop, and the next compute
 * fetches them into its local cache in the background (docs/protocol/hot_pages.md). */
#ifndef LOCH_EXT_PREWARM_H
#define LOCH_EXT_PREWARM_H

/* In the postmaster: the worker that fetches, once, after the start. */
void loch_prewarm_register(void);
/* In the watching worker: logs the list when loch.prewarm_interval has passed since the last. */
void loch_prewarm_look(void);
/* At its end: logs the list now. */
void loch_prewarm_save(void);

#endif
