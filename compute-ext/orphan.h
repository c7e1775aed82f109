/* No process of the server outlives its parent: the agent's end is the postmaster's (agent/
 * postmaster.c), the postmaster's is everybody's, at once and whatever they are at. */
#ifndef LOCH_COMPUTE_EXT_ORPHAN_H
#define LOCH_COMPUTE_EXT_ORPHAN_H

/* For all that is forked from here on. In the postmaster; FATAL when the server cannot be made so.
 */
void loch_orphan_register(void);

#endif
