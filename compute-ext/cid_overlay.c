/* Holds: the table of remembered command ids. Source: access/heap/heapam.c (heap_xlog_insert sets
 * FirstCommandId), utils/time/combocid.c, PostgreSQL 15. */
#include "cid_overlay.h"

#include "rules.h"
#include "running.h"
#include "settings.h"
#include "shared.h"

#include "access/htup_details.h"
#include "utils/timestamp.h"

#define REAP_AGAIN_MS 1000

/* True when the tuple's command id field may say something about a deletion or update. */
static bool touched_by_xmax(HeapTupleHeader tuple)
{
    if ((tuple->t_infomask & HEAP_XMAX_INVALID) != 0)
        return false;
    if ((tuple->t_infomask & HEAP_XMAX_IS_MULTI) != 0)
        return true;
    return TransactionIdIsNormal(HeapTupleHeaderGetRawXmax(tuple)) &&
           HeapTupleHeaderGetRawCommandId(tuple) != FirstCommandId;
}

bool loch_overlay_describes(Page page, TransactionId *xid, CommandId *cid)
{
    OffsetNumber last = loch_heap_last_offset(page);
    TransactionId found = InvalidTransactionId;
    CommandId common = FirstCommandId;

    for (OffsetNumber off = FirstOffsetNumber; off <= last; off++) {
        HeapTupleHeader tuple = loch_heap_tuple_at(page, off);
        TransactionId xmin;

        if (tuple == NULL)
            continue;
        if (touched_by_xmax(tuple))
            return false;
        if ((tuple->t_infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)) != 0)
            continue;
        if ((tuple->t_infomask & (HEAP_COMBOCID | HEAP_MOVED)) != 0)
            return false;
        xmin = HeapTupleHeaderGetRawXmin(tuple);
        if (xmin != found) {
            if (!TransactionIdIsNormal(xmin) || !loch_xid_is_running(xmin))
                continue;
            if (found != InvalidTransactionId)
                return false;
            found = xmin;
            common = HeapTupleHeaderGetRawCommandId(tuple);
        } else if (HeapTupleHeaderGetRawCommandId(tuple) != common) {
            return false;
        }
    }
    if (found == InvalidTransactionId)
        return false;
    *xid = found;
    *cid = common;
    return true;
}

static struct cid_overlay_key key_of(RelFileNode rnode, BlockNumber block)
{
    struct cid_overlay_key key;

    memset(&key, 0, sizeof key);
    key.rnode = rnode;
    key.block = block;
    return key;
}

static void remove_locked(const struct cid_overlay_key *key)
{
    if (hash_search(loch_overlay_table, key, HASH_REMOVE, NULL) != NULL)
        pg_atomic_fetch_sub_u64(&loch_shared->overlay_count, 1);
}

void loch_overlay_reap(void)
{
    TransactionId xid = InvalidTransactionId;
    bool live = false;
    HASH_SEQ_STATUS scan;
    struct cid_overlay *e;

    if (pg_atomic_read_u64(&loch_shared->overlay_count) == 0)
        return;
    loch_count(cid_overlay_scans);
    LWLockAcquire(loch_overlay_lock, LW_EXCLUSIVE);
    hash_seq_init(&scan, loch_overlay_table);
    while ((e = hash_seq_search(&scan)) != NULL) {
        if (e->xid != xid) {
            xid = e->xid;
            live = loch_xid_is_running(xid);
        }
        if (live)
            continue;
        remove_locked(&e->key);
        loch_count(cid_overlay_reaped);
    }
    LWLockRelease(loch_overlay_lock);
}

static bool is_full(void)
{
    uint64 most = LOCH_OVERLAY_MAX;

#ifdef LOCH_TEST_SWITCHES
    most = (uint64)loch_settings.test_overlay_max;
#endif
    return pg_atomic_read_u64(&loch_shared->overlay_count) >= most - 1;
}

/* One writer in a second. A transaction that is larger than the table fills it with what is still
 * needed: to look through all of it for each further page would find nothing, and keep everybody
 * from the lock. */
static bool may_reap(void)
{
    uint64 last = pg_atomic_read_u64(&loch_shared->overlay_full_at);
    TimestampTz now = GetCurrentTimestamp();

    if (!loch_fix_on(overlay_full))
        return true;
    return TimestampDifferenceExceeds((TimestampTz)last, now, REAP_AGAIN_MS) &&
           pg_atomic_compare_exchange_u64(&loch_shared->overlay_full_at, &last, (uint64)now);
}

bool loch_overlay_put(RelFileNode rnode, BlockNumber block, TransactionId xid, CommandId cid)
{
    struct cid_overlay_key key = key_of(rnode, block);
    struct cid_overlay *e;
    bool found;

    if (is_full() && may_reap())
        loch_overlay_reap();
    if (is_full())
        return false;
    LWLockAcquire(loch_overlay_lock, LW_EXCLUSIVE);
    e = hash_search(loch_overlay_table, &key, HASH_ENTER_NULL, &found);
    if (e != NULL) {
        if (!found)
            pg_atomic_fetch_add_u64(&loch_shared->overlay_count, 1);
        e->xid = xid;
        e->cid = cid;
    }
    LWLockRelease(loch_overlay_lock);
    return e != NULL;
}

void loch_overlay_forget(RelFileNode rnode, BlockNumber block)
{
    struct cid_overlay_key key = key_of(rnode, block);

    if (pg_atomic_read_u64(&loch_shared->overlay_count) == 0)
        return;
    LWLockAcquire(loch_overlay_lock, LW_EXCLUSIVE);
    remove_locked(&key);
    LWLockRelease(loch_overlay_lock);
}

void loch_overlay_forget_range(RelFileNode rnode, BlockNumber first)
{
    HASH_SEQ_STATUS scan;
    struct cid_overlay *e;

    if (pg_atomic_read_u64(&loch_shared->overlay_count) == 0)
        return;
    LWLockAcquire(loch_overlay_lock, LW_EXCLUSIVE);
    hash_seq_init(&scan, loch_overlay_table);
    while ((e = hash_seq_search(&scan)) != NULL) {
        bool hit = rnode.relNode == InvalidOid
                       ? e->key.rnode.dbNode == rnode.dbNode
                       : RelFileNodeEquals(e->key.rnode, rnode) && e->key.block >= first;

        if (hit)
            remove_locked(&e->key);
    }
    LWLockRelease(loch_overlay_lock);
}

void loch_overlay_apply(RelFileNode rnode, BlockNumber block, Page page)
{
    struct cid_overlay_key key = key_of(rnode, block);
    const struct cid_overlay *e;
    struct cid_overlay copy = {0};
    OffsetNumber last;

    if (pg_atomic_read_u64(&loch_shared->overlay_count) == 0 || PageIsNew(page))
        return;
    LWLockAcquire(loch_overlay_lock, LW_SHARED);
    e = hash_search(loch_overlay_table, &key, HASH_FIND, NULL);
    if (e != NULL)
        copy = *e;
    LWLockRelease(loch_overlay_lock);
    if (e == NULL)
        return;
    if (!loch_xid_is_running(copy.xid)) {
        loch_overlay_forget(rnode, block);
        return;
    }
    last = loch_heap_last_offset(page);
    for (OffsetNumber off = FirstOffsetNumber; off <= last; off++) {
        HeapTupleHeader tuple = loch_heap_tuple_at(page, off);

        if (tuple != NULL && TransactionIdEquals(HeapTupleHeaderGetRawXmin(tuple), copy.xid))
            tuple->t_choice.t_heap.t_field3.t_cid = copy.cid;
    }
    loch_count(cid_overlay_applied);
}
