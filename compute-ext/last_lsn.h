/* Last-written LSN of pages: how new the pageserver's answer to a read must be.
 *
 * Fixed arrays of atomics indexed by a hash, each only ever raised: one of pages, one of (relation,
 * fork) pairs; a global floor. A read takes the greatest of the three: conservative under
 * collisions, lossless, without locks or eviction. */
#ifndef LOCH_EXT_LAST_LSN_H
#define LOCH_EXT_LAST_LSN_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

/* The LSN a read of this page needs; block InvalidBlockNumber: of the fork's size. */
XLogRecPtr loch_last_lsn_get(RelFileNode rnode, ForkNumber fork, BlockNumber block);
void loch_last_lsn_raise_page(RelFileNode rnode, ForkNumber fork, BlockNumber block,
                              XLogRecPtr lsn);
/* Every page of the fork, and its size. */
void loch_last_lsn_raise_fork(RelFileNode rnode, ForkNumber fork, XLogRecPtr lsn);
void loch_last_lsn_raise_floor(XLogRecPtr lsn);

/* End of the last record inserted, moved back over a page header: a position ingestion reaches. */
XLogRecPtr loch_insert_lsn(void);
/* Sees to it that the WAL up to lsn leaves this process's buffers, so that waiting for it can end.
 */
void loch_wal_flush_to(XLogRecPtr lsn);

#endif
