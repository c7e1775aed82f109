/* Command ids of a running transaction, remembered beside a page instead of keeping the whole page.
 *
 * cmin is not in WAL: a page rebuilt by redo has command id 0 in every tuple. When ALL tuples that
 * one live xid put on the page carry the same command id and none of them is updated or deleted,
 * (xid, cid) says everything that would be lost: 24 bytes instead of 8192. Invariants: every
 * eviction of a page replaces or removes its entry before the page may be read again; an entry is
 * only applied while its xid is in progress (a subtransaction counts until its top ends). */
#ifndef LOCH_EXT_CID_OVERLAY_H
#define LOCH_EXT_CID_OVERLAY_H

#include "postgres.h"

#include "access/transam.h"
#include "storage/block.h"
#include "storage/bufpage.h"
#include "storage/relfilenode.h"

struct cid_overlay_key {
    RelFileNode rnode;
    BlockNumber block;
};

struct cid_overlay {
    struct cid_overlay_key key; /* first */
    TransactionId xid;
    CommandId cid;
};

/* True when the page's command ids are fully told by *xid, *cid. */
bool loch_overlay_describes(Page page, TransactionId *xid, CommandId *cid);
/* False when there is no room: keep the page instead. */
bool loch_overlay_put(RelFileNode rnode, BlockNumber block, TransactionId xid, CommandId cid);
void loch_overlay_forget(RelFileNode rnode, BlockNumber block);
/* Every entry of the relation from `first` on; of the whole database when rnode.relNode is 0. */
void loch_overlay_forget_range(RelFileNode rnode, BlockNumber first);
/* Drops the entries of transactions that have ended. The caller holds no lock. */
void loch_overlay_reap(void);
/* Puts remembered command ids into a page that was just fetched. */
void loch_overlay_apply(RelFileNode rnode, BlockNumber block, Page page);

#endif
