/* Whether a transaction runs, asked by whichever process writes a page. */
#ifndef LOCH_EXT_RUNNING_H
#define LOCH_EXT_RUNNING_H

#include "postgres.h"

#include "access/transam.h"

/* False: the transaction, or subtransaction, has ended, for good. True may be said of one that
 * ended a moment ago. In every process with a PGPROC, of a normal xid that lies on a page. */
bool loch_xid_is_running(TransactionId xid);

#endif
