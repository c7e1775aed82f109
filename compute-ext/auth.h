/* Who may open a replication connection: our own proposer only. */
#ifndef LOCH_EXT_AUTH_H
#define LOCH_EXT_AUTH_H

void loch_auth_register(void);

#endif
