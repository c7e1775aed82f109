/* One backend's connection to the pageserver: socket, TLS-PSK engine, frames. Nothing of it lives
 * on a C stack, so an ERROR raised while waiting leaves it in a state that the next request goes on
 * from. */
#ifndef LOCH_EXT_PAGE_CONN_H
#define LOCH_EXT_PAGE_CONN_H

#include "loch/base/buf.h"
#include "loch/base/status.h"

/* Connects, does the handshake and HELLO unless that is done already. LOCH_E_UNAVAILABLE when it
 * did not work now; LOCH_E_STALE, LOCH_E_DENIED and others when the pageserver refused. May raise
 * ERROR (cancel). */
LOCH_STATUS loch_page_conn_ready(void);
/* Whether this process has a connection that is past HELLO. */
bool loch_page_conn_is_ready(void);
/* Sends whole frames. May raise ERROR. */
LOCH_STATUS loch_page_conn_send(struct loch_slice frames);
/* Waits for the next frame; *payload is borrowed until the next call. May raise ERROR. */
LOCH_STATUS loch_page_conn_receive(uint8_t *type, struct loch_slice *payload);
void loch_page_conn_close(void);
/* From now on a wait for the pageserver ends with LOCH_E_UNAVAILABLE after so long; 0: never. */
void loch_page_conn_patience(int ms);

#endif
