/* How far storage is behind this server, and why: for the throttle, the log and the views. */
#ifndef LOCH_EXT_LAG_H
#define LOCH_EXT_LAG_H

#include "postgres.h"

#include "access/xlogdefs.h"

#include "loch/wire/page.h"

/* The pageserver has answered. */
void loch_lag_note(const struct loch_page_status_reply *status);
/* Bytes of WAL that the pageserver has not ingested, or not made durable as layers. One that does
 * not answer stays where it was last seen. */
uint64 loch_lag_ingested(void);
uint64 loch_lag_persisted(void);
/* Bytes of WAL that the server has to keep for replication slots: what the quorum has not got. */
uint64 loch_lag_kept(void);
/* Where the quorum is, as the walsender knows; InvalidXLogRecPtr when nobody streams. */
XLogRecPtr loch_lag_commit_lsn(void);
/* Why the pageserver is behind, in words: who is missing, since when. */
void loch_lag_describe(char *out, size_t size);

#endif
