/* Statements that would go past the storage manager or past the quorum: refused, changed or
 * guarded. */
#ifndef LOCH_EXT_UTILITY_H
#define LOCH_EXT_UTILITY_H

void loch_utility_register(void);

#endif
