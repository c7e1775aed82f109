/* Holds: the array of last-written LSNs. Invariant: a slot never falls while the server runs. */
#include "last_lsn.h"

#include "shared.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "common/hashfn.h"

static uint32 hash_of(RelFileNode rnode, ForkNumber fork)
{
    return murmurhash32(murmurhash32(rnode.dbNode ^ rnode.spcNode << 3 ^ (uint32)fork) ^
                        rnode.relNode);
}

/* Neighbouring blocks have neighbouring slots: a scan goes through few lines of memory. */
static pg_atomic_uint64 *page_slot(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    return &loch_shared->last_lsn[(hash_of(rnode, fork) + block) & (LOCH_LAST_LSN_SLOTS - 1)];
}

/* Apart from the pages', so that a page written elsewhere does not age a whole relation. */
static pg_atomic_uint64 *fork_slot(RelFileNode rnode, ForkNumber fork)
{
    return &loch_shared->fork_lsn[hash_of(rnode, fork) & (LOCH_FORK_LSN_SLOTS - 1)];
}

static void raise_atomic(pg_atomic_uint64 *slot, XLogRecPtr lsn)
{
    uint64 seen = pg_atomic_read_u64(slot);

    while (seen < lsn && !pg_atomic_compare_exchange_u64(slot, &seen, lsn))
        ;
}

XLogRecPtr loch_last_lsn_get(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    XLogRecPtr of_page = block == InvalidBlockNumber
                             ? InvalidXLogRecPtr
                             : pg_atomic_read_u64(page_slot(rnode, fork, block));
    XLogRecPtr of_fork = pg_atomic_read_u64(fork_slot(rnode, fork));
    XLogRecPtr floor_lsn = pg_atomic_read_u64(&loch_shared->floor_lsn);

    return Max(Max(of_page, of_fork), floor_lsn);
}

void loch_last_lsn_raise_page(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn)
{
    raise_atomic(page_slot(rnode, fork, block), lsn);
}

void loch_last_lsn_raise_fork(RelFileNode rnode, ForkNumber fork, XLogRecPtr lsn)
{
    raise_atomic(fork_slot(rnode, fork), lsn);
}

void loch_last_lsn_raise_floor(XLogRecPtr lsn)
{
    raise_atomic(&loch_shared->floor_lsn, lsn);
}

XLogRecPtr loch_insert_lsn(void)
{
    XLogRecPtr lsn;

    if (RecoveryInProgress())
        return GetXLogReplayRecPtr(NULL);
    lsn = GetXLogInsertRecPtr();
    if (XLogSegmentOffset(lsn, (XLogRecPtr)wal_segment_size) == SizeOfXLogLongPHD)
        return lsn - (XLogRecPtr)SizeOfXLogLongPHD;
    if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
        return lsn - (XLogRecPtr)SizeOfXLogShortPHD;
    return lsn;
}

void loch_wal_flush_to(XLogRecPtr lsn)
{
    if (!RecoveryInProgress())
        XLogFlush(lsn);
}
