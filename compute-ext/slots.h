/* Refuses what makes replication slots by SQL. */
#ifndef LOCH_EXT_SLOTS_H
#define LOCH_EXT_SLOTS_H

void loch_slots_install(void);

#endif
