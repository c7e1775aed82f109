/* What a clean stop keeps for the next compute: cumulative statistics, and unlogged relations
 * (docs/protocol/stop_state.md). It is good for one start of the same branch, at the very end of
 * this compute's WAL; the agent puts it in place before that server starts. */
#ifndef LOCH_EXT_STOP_STATE_H
#define LOCH_EXT_STOP_STATE_H

#include "postgres.h"

/* In the postmaster, when shared memory has been made. */
void loch_stop_state_make(void);
/* In the worker, as its last act: when the server is being stopped, waits until every session is
 * over and logs what is to be kept. */
void loch_stop_state_save(void);
/* In the worker, as its first act: what the last stop left is used up, in the WAL. */
void loch_stop_state_consume(void);
/* In a session, before it may do anything: until a quorum has that. */
void loch_stop_state_wait(void);
/* In every other process that reads or writes a database, before its first transaction commits:
 * likewise; ends the process when the server is being stopped. */
void loch_stop_state_hold(void);
/* Whether the postmaster has been told to stop. Reads a file. */
bool loch_server_is_stopping(void);

#endif
