/* Holds: the recognisers. Sources: access/htup_details.h, access/nbtree.h, commands/sequence.c,
 * access/gist.h (GistBuildLSN), access/heap/visibilitymap.c, PostgreSQL 15. */
#include "rules.h"

#include "last_lsn.h"
#include "running.h"
#include "settings.h"
#include "shared.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "access/xlog.h"

#define SEQUENCE_MAGIC 0x1717u

/* The last xid asked about, so that a page full of one transaction's tuples asks once. */
struct liveness {
    TransactionId xid;
    bool live;
};

bool loch_page_is_zero(const char *page)
{
    static const PGAlignedBlock zero;

    return memcmp(page, zero.data, BLCKSZ) == 0;
}

OffsetNumber loch_heap_last_offset(Page page)
{
    LocationIndex lower = ((PageHeader)page)->pd_lower;

    if (lower < SizeOfPageHeaderData || lower > BLCKSZ)
        return 0;
    return (OffsetNumber)((lower - SizeOfPageHeaderData) / sizeof(ItemIdData));
}

HeapTupleHeader loch_heap_tuple_at(Page page, OffsetNumber off)
{
    const ItemIdData *item;

    if ((const char *)PageGetItemId(page, off) + sizeof(ItemIdData) > (const char *)page + BLCKSZ)
        return NULL;
    item = PageGetItemId(page, off);
    if (!ItemIdIsNormal(item) || ItemIdGetLength(item) < SizeofHeapTupleHeader ||
        ItemIdGetOffset(item) + ItemIdGetLength(item) > BLCKSZ)
        return NULL;
    return (HeapTupleHeader)(void *)((char *)page + ItemIdGetOffset(item));
}

static bool is_live(TransactionId xid, struct liveness *memo)
{
    if (!TransactionIdIsNormal(xid))
        return false;
    if (xid != memo->xid) {
        memo->xid = xid;
        memo->live = loch_xid_is_running(xid);
    }
    return memo->live;
}

static bool inserter_is_live(HeapTupleHeader tuple, struct liveness *memo)
{
    return (tuple->t_infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)) == 0 &&
           is_live(HeapTupleHeaderGetRawXmin(tuple), memo);
}

/* A multixact that is not only a lock counts as live: looking inside could need I/O. */
static bool deleter_is_live(HeapTupleHeader tuple, struct liveness *memo)
{
    if ((tuple->t_infomask & (HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID)) != 0)
        return false;
    if ((tuple->t_infomask & HEAP_XMAX_IS_MULTI) != 0)
        return !HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask);
    return is_live(HeapTupleHeaderGetRawXmax(tuple), memo);
}

/* Redo of an insertion or deletion writes FirstCommandId and no speculative token. */
static enum keep_reason keep_heap_tuple(HeapTupleHeader tuple, struct liveness *memo)
{
    bool plain = HeapTupleHeaderGetRawCommandId(tuple) == FirstCommandId &&
                 (tuple->t_infomask & HEAP_COMBOCID) == 0;

    if ((tuple->t_infomask & HEAP_MOVED) != 0)
        return KEEP_NOT;
    if (HeapTupleHeaderIsSpeculative(tuple) && loch_fix_on(speculative) &&
        inserter_is_live(tuple, memo))
        return KEEP_SPECULATIVE;
    if (plain || !loch_fix_on(cid))
        return KEEP_NOT;
    if (inserter_is_live(tuple, memo) || deleter_is_live(tuple, memo))
        return KEEP_COMMAND_ID;
    return KEEP_NOT;
}

static enum keep_reason keep_heap(Page page)
{
    struct liveness memo = {InvalidTransactionId, false};
    enum keep_reason why = KEEP_NOT;
    OffsetNumber last;

    if (((PageHeader)page)->pd_lower < SizeOfPageHeaderData ||
        ((PageHeader)page)->pd_lower > BLCKSZ)
        return KEEP_ODD;
    last = loch_heap_last_offset(page);
    for (OffsetNumber off = FirstOffsetNumber; off <= last; off++) {
        HeapTupleHeader tuple = loch_heap_tuple_at(page, off);
        enum keep_reason one;

        if (tuple == NULL)
            continue;
        one = keep_heap_tuple(tuple, &memo);
        if (one == KEEP_SPECULATIVE)
            return one;
        if (one != KEEP_NOT)
            why = one;
    }
    return why;
}

/* GIN, GiST and SP-GiST builds, and unlogged indexes before their init fork exists, write pages
 * whose LSN is none, or a small made-up one, and log them (or never) later. */
static bool not_logged_yet(Page page)
{
    return PageGetLSN(page) < (XLogRecPtr)wal_segment_size;
}

/* 32 values are logged ahead, so the page in WAL is ahead of the page in memory. */
static bool is_sequence(Page page)
{
    uint32 magic;

    if (((PageHeader)page)->pd_special != BLCKSZ - MAXALIGN(sizeof magic))
        return false;
    memcpy(&magic, (const char *)page + ((PageHeader)page)->pd_special, sizeof magic);
    return magic == SEQUENCE_MAGIC;
}

/* Redo writes cycle id 0, and a running VACUUM would not see that the page was split under it. The
 * page-type ids of other access methods lie in the same place, above the largest cycle id. */
static bool has_btree_cycle_id(Page page)
{
    uint16 id;

    if (((PageHeader)page)->pd_special != BLCKSZ - MAXALIGN(sizeof(BTPageOpaqueData)))
        return false;
    memcpy(&id, (const char *)page + BLCKSZ - sizeof id, sizeof id);
    return id != 0 && id <= MAX_BT_CYCLE_ID;
}

static enum keep_reason keep_main(Page page)
{
    LocationIndex special = ((PageHeader)page)->pd_special;

    if (not_logged_yet(page))
        return loch_fix_on(not_logged) ? KEEP_NOT_LOGGED : KEEP_NOT;
    if (special == BLCKSZ)
        return keep_heap(page);
    if (is_sequence(page))
        return loch_fix_on(sequence) ? KEEP_SEQUENCE : KEEP_NOT;
    if (has_btree_cycle_id(page))
        return loch_fix_on(btree_cycle) ? KEEP_BTREE_CYCLE : KEEP_NOT;
    if (special < SizeOfPageHeaderData || special > BLCKSZ)
        return KEEP_ODD;
    return KEEP_NOT;
}

enum keep_reason loch_rules_keep(ForkNumber fork, Page page)
{
    if (loch_page_is_zero((const char *)page))
        return KEEP_NOT;
    switch (fork) {
    case FSM_FORKNUM:
        return loch_fix_on(fsm) ? KEEP_FSM : KEEP_NOT;
    case VISIBILITYMAP_FORKNUM:
        return loch_fix_on(vm) ? KEEP_VM : KEEP_NOT;
    case MAIN_FORKNUM:
        return keep_main(page);
    case INIT_FORKNUM:
    case InvalidForkNumber:
        break;
    }
    return KEEP_ODD;
}

void loch_rules_count(enum keep_reason why)
{
    switch (why) {
    case KEEP_COMMAND_ID:
        loch_count(spill_cid);
        break;
    case KEEP_SPECULATIVE:
        loch_count(spill_speculative);
        break;
    case KEEP_NOT_LOGGED:
        loch_count(spill_not_logged);
        break;
    case KEEP_BTREE_CYCLE:
        loch_count(spill_btree_cycle);
        break;
    case KEEP_SEQUENCE:
        loch_count(spill_sequence);
        break;
    case KEEP_FSM:
        loch_count(spill_fsm);
        break;
    case KEEP_VM:
        loch_count(spill_vm);
        break;
    case KEEP_ODD:
        loch_count(spill_odd);
        break;
    case KEEP_NOT:
        break;
    }
}

/* visibilitymap_set logs the heap page's new flag without moving the heap page's LSN. */
static bool flag_moved_without_lsn(ForkNumber fork, Page page)
{
    return fork == MAIN_FORKNUM && ((PageHeader)page)->pd_special == BLCKSZ &&
           PageIsAllVisible(page);
}

XLogRecPtr loch_rules_page_lsn(ForkNumber fork, Page page)
{
    XLogRecPtr lsn = PageGetLSN(page);

    if (flag_moved_without_lsn(fork, page) && loch_fix_on(all_visible)) {
        loch_count(all_visible_raised);
        return Max(lsn, loch_insert_lsn());
    }
    return lsn < (XLogRecPtr)wal_segment_size ? InvalidXLogRecPtr : lsn;
}
