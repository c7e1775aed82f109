/* What the pageserver does when a tenant's key goes and comes back. Loop's thread.
 *
 * Goes: nothing of the tenant is served any more, at once; its connections are closed with the
 * reason, its redo workers killed, its pages, frames and open layers wiped as soon as no thread
 * reads them. Comes back: its timelines are opened again, as at start-up, and WAL that was only in
 * memory comes again from the safekeepers.
 */
#ifndef LOCH_PAGESERVER_CARE_REVOCATION_H
#define LOCH_PAGESERVER_CARE_REVOCATION_H

#include "../pageserver.h"

#include "loch/host/console.h"

/* Begins to keep leases on the keys of all tenants. After loch_tenants_open. */
LOCH_STATUS loch_revocation_start(struct loch_pageserver *ps);
/* For the console: true while a command about a sleeping tenant waits for it. */
bool loch_revocation_hold(void *state, const struct loch_console_request *request);

#endif
