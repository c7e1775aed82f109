/* The compute's lease on its tenant's key, in every process of the server: the agent renews it in a
 * file (agent/lease_file.h) while it hears from safekeepers. */
#ifndef LOCH_COMPUTE_EXT_LEASE_H
#define LOCH_COMPUTE_EXT_LEASE_H

/* Maps the file, when the agent keeps one, and has every statement checked. In the postmaster. */
void loch_lease_register(void);
/* Ends this process (FATAL) when the lease has run out. Tens of nanoseconds. */
void loch_lease_check(void);
/* Ends the whole server when it has, as an immediate shutdown. */
void loch_lease_watch(void);

#endif
