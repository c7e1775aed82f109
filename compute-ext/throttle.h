/* Backpressure: writers are slowed while the pageserver is far behind, so that no read ever has to
 * wait long for it. */
#ifndef LOCH_EXT_THROTTLE_H
#define LOCH_EXT_THROTTLE_H

void loch_throttle_register(void);
/* Sleeps a moment when this transaction wrote WAL since the last round; else returns at once. */
void loch_throttle_maybe_sleep(void);
/* Likewise, at the end of a statement; there a cancel and a time-out still end it: when a
 * transaction commits it is too late for both, as others' callbacks may have committed elsewhere,
 * and when a database's files are gone. */
void loch_throttle_slow_down(void);
/* A transaction is over: the next one, which may only read, does not wait for what it wrote. */
void loch_throttle_forget(void);
/* For what keeps the worker that watches: else the pageserver would seem to stand still. */
void loch_throttle_look_if_due(void);

#endif
