/* Makes the wait for the quorum uncancellable.
 *
 * Stock PostgreSQL answers "committed" (with a warning) when a statement is cancelled or its
 * session terminated while the commit waits for synchronous replication; on Loch that would
 * acknowledge a transaction that may be lost. While a commit is under way SIGINT and SIGTERM are
 * held back; afterwards they take effect: a SIGINT came too late for this transaction. A statement
 * that has ended a prepared transaction drops it. */
#ifndef LOCH_EXT_COMMIT_GUARD_H
#define LOCH_EXT_COMMIT_GUARD_H

#include <stdbool.h>

/* In the postmaster: covers backends, background and autovacuum workers alike. */
void loch_commit_guard_register(void);

/* For statements that wait inside themselves (COMMIT PREPARED, ROLLBACK PREPARED), at any level of
 * synchronous_commit. Begin may raise ERROR for a cancel that came before; end is safe to call in
 * any case. */
void loch_commit_guard_begin(void);
void loch_commit_guard_end(void);
/* The transaction under way waits for the quorum even at synchronous_commit = off. */
void loch_commit_guard_demand(void);
/* For a wait between PRE_COMMIT and the commit's record, while nothing is decided: when a SIGINT or
 * SIGTERM waits, or a termination came before, lets it in and returns true; then the guard is to be
 * closed again if the transaction still goes on. */
bool loch_commit_guard_open(void);
void loch_commit_guard_close(void);
/* In a statement that ends a prepared transaction; where interrupts are held, past its record. */
bool loch_commit_guard_decided(void);

#endif
