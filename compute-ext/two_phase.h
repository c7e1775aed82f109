/* Refuses that a subscription's worker ends transactions which its publisher prepared.
 *
 * The worker calls the server's FinishPreparedTransaction itself, outside of any statement: between
 * its record and the wait for the quorum no callback is made that could hold signals back. A cancel
 * there would let the publisher forget what no quorum has. Without two_phase the worker applies
 * what was prepared when the publisher commits it, as any other transaction. */
#ifndef LOCH_EXT_TWO_PHASE_H
#define LOCH_EXT_TWO_PHASE_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* ERROR for a subscription with two_phase. One that is made without connecting, as pg_dump writes
 * them, is let through: its worker will refuse. */
void loch_two_phase_check(const CreateSubscriptionStmt *stmt);
/* In the postmaster: a worker of such a subscription (imported, restored, or made by an older Loch)
 * ends in its first transaction, and any worker instead of preparing one. */
void loch_two_phase_register(void);

#endif
