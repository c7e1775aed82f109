/* Asks the pageserver, from any kind of server process, one request at a time.
 *
 * Every call waits for as long as it takes: while the pageserver is away it connects again with
 * growing pauses. It raises ERROR only for a cancel or termination where that is safe, or for an
 * answer that repeating cannot mend; FATAL when the pageserver says that this compute is fenced. */
#ifndef LOCH_EXT_PAGE_CLIENT_H
#define LOCH_EXT_PAGE_CLIENT_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

#include "loch/wire/page.h"

/* The newest version of the page, at least as new as `lsn`; BLCKSZ bytes to `page`. */
void loch_page_client_get(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                          char *page);
/* Waits for the answer to a request that was posted; asks anew when it was lost. */
void loch_page_client_get_posted(RelFileNode rnode, ForkNumber fork, BlockNumber block,
                                 XLogRecPtr lsn, uint64 posted_id, char *page);

/* So many answers at most wait on a connection for this process to read them. */
#define LOCH_PAGE_CLIENT_UNANSWERED_MAX 256

/* How many requests may be posted now: 0 without a connection. */
uint32 loch_page_client_room(void);
/* Prepares a request, to be waited for by loch_page_client_get_posted; its answer, if it arrives
 * before that, goes to loch_readahead_arrived. Returns its id. */
uint64 loch_page_client_post(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn);
/* Sends what was prepared if it is so many requests or more; every wait sends the rest first. A
 * failure closes the connection; nothing is reported. */
#define LOCH_POST_BATCH 8
void loch_page_client_post_send(uint32 least);

/* False when the fork does not exist. */
bool loch_page_client_size(RelFileNode rnode, ForkNumber fork, XLogRecPtr lsn, BlockNumber *blocks);
/* All forks of all relations of a database; spc InvalidOid: in all tablespaces. */
uint64 loch_page_client_db_bytes(Oid spc, Oid db, XLogRecPtr lsn);
/* One attempt, a second or two at most; false: no answer. FATAL when this compute is fenced. */
bool loch_page_client_try_status(struct loch_page_status_reply *out);

#endif
