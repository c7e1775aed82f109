/* The key to the pageserver: this boot's own PSK and identity, from the agent. It changes when the
 * tenant's wire epoch moves on; connections that are there live on. */
#ifndef LOCH_EXT_PAGE_KEY_H
#define LOCH_EXT_PAGE_KEY_H

#include "loch/base/status.h"
#include "loch/crypto/tls.h"

/* In the postmaster, before any child: takes the first key from the descriptor that LOCH_KEY_FD
 * names, and keeps the descriptor. LOCH_E_INVALID when it is not there or not this branch's. */
LOCH_STATUS loch_page_key_load(void);
/* Takes what the agent has sent since. One process calls this. */
void loch_page_key_look(void);
/* This process's client, made or renewed with the key of now. Owned here; lives as long as the
 * process. */
LOCH_STATUS loch_page_key_client(struct loch_tls_client **out);

#endif
