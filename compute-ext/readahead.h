/* Pages asked for before they are needed: when reads of neighbouring blocks follow each other, and
 * when the server itself prefetches (bitmap scans, vacuum). Main forks only; loch.read_ahead pages.
 *
 * Rule (CORRECTNESS A14): a page asked for with last-written LSN x may be used only while the
 * page's last-written LSN is still x. Whatever changes the page later goes through this server's
 * buffers and raises it before the page can be read again; truncation and removal raise the fork's,
 * a database's end the floor. Slots are private to the process. */
#ifndef LOCH_EXT_READAHEAD_H
#define LOCH_EXT_READAHEAD_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "storage/smgr.h"

/* True: the page of the main fork has been asked for, and was a hole in its file then. */
bool loch_readahead_has(RelFileNode rnode, BlockNumber block);
/* For a page that is a hole here; `lsn` is its last-written LSN now. True: `page` is filled. False
 * with *posted_id != 0: it has been asked for under that id and is on its way (the slot is given
 * up); with 0: nothing is known. */
bool loch_readahead_take(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                         char *page, uint64 *posted_id);
/* Around a read of a block, before its wait if there is one: goes on asking when the reads are
 * sequential. */
void loch_readahead_continue(SMgrRelation reln, ForkNumber fork, BlockNumber block);
/* The server's own prefetch of one block. */
void loch_readahead_one(RelFileNode rnode, ForkNumber fork, BlockNumber block);
/* For a page that the caller knows to be a hole, whatever loch.read_ahead says: prepares the
 * request, to be taken with loch_readahead_take. Nothing when it is asked for already. */
void loch_readahead_ask(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn);
/* The relation is closed, truncated or removed. No ERROR, also in a critical section. */
void loch_readahead_forget(RelFileNode rnode);

/* From the page client: an answer that nobody waits for; an error instead of one; the connection
 * and all it had under way are gone. */
void loch_readahead_arrived(uint64 id, XLogRecPtr lsn, const uint8_t *page);
void loch_readahead_refused(uint64 id);
void loch_readahead_connection_lost(void);

#endif
