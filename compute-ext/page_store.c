/* Holds: the storage manager's operations. What stays local and why: rules.c; where: local_file.c.
 *
 * Invariants: writes and truncations need no network and create no file (checkpoints can finish
 * while the pageserver is away, and truncation runs in a critical section); before a page's bytes
 * are let go its last-written LSN has been raised; a page of a permanent relation is either a hole
 * (the pageserver has it) or non-zero (this copy is the newest). */
#include "page_store.h"

#include "cid_overlay.h"
#include "commit_guard.h"
#include "free_space.h"
#include "kept.h"
#include "known_absent.h"
#include "last_lsn.h"
#include "lease.h"
#include "local_cache.h"
#include "local_file.h"
#include "materialise.h"
#include "page_client.h"
#include "readahead.h"
#include "rules.h"
#include "seam.h"
#include "settings.h"
#include "shared.h"
#include "throttle.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogutils.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "storage/md.h"

static void store_close(SMgrRelation reln, ForkNumber fork)
{
    if (loch_seam_probed(SEAM_CLOSE))
        return;
    mdclose(reln, fork);
    if (fork == MAIN_FORKNUM)
        loch_readahead_forget(reln->smgr_rnode.node);
    loch_throttle_maybe_sleep();
}

/* PostgreSQL looks for a free file number with access(2), which does not see files that were never
 * materialised here. */
static void refuse_used_number(RelFileNode rnode)
{
    if (!loch_fix_on(collision) || !loch_remote_exists(rnode, MAIN_FORKNUM))
        return;
    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_FILE),
                    errmsg("relation file number %u is in use on the pageserver", rnode.relNode),
                    errhint("Repeat the command; it will get another number.")));
}

static void store_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    if (loch_seam_probed(SEAM_CREATE))
        return;
    if (SmgrIsTemp(reln) || rnode.spcNode == GLOBALTABLESPACE_OID) {
        mdcreate(reln, fork, is_redo);
        return;
    }
    if (fork == MAIN_FORKNUM && !is_redo && !InRecovery)
        refuse_used_number(rnode);
    mdcreate(reln, fork, is_redo);
    if (fork == INIT_FORKNUM)
        loch_init_fork_made();
    loch_absent_remove(rnode, fork);
    if (fork == MAIN_FORKNUM) {
        loch_absent_born(rnode,
                         LOCH_FORK_BIT(FSM_FORKNUM) | LOCH_FORK_BIT(VISIBILITYMAP_FORKNUM) |
                             LOCH_FORK_BIT(INIT_FORKNUM),
                         loch_insert_lsn());
        loch_free_space_forget(rnode);
    }
    if (loch_fix_on(truncate))
        loch_last_lsn_raise_fork(rnode, fork, loch_insert_lsn());
}

/* A transaction that has ended (in COMMIT PREPARED as well) asks which forks of what it drops may
 * have pages in memory: of one without a file here there are none, and neither a wait nor an ERROR
 * may come any more. */
static bool is_past_its_end(void)
{
    return !RecoveryInProgress() && IsUnderPostmaster && InterruptHoldoffCount > 0 &&
           (!IsTransactionState() || loch_commit_guard_decided());
}

static bool store_exists(SMgrRelation reln, ForkNumber fork)
{
    if (loch_seam_probed(SEAM_EXISTS))
        return false;
    if (is_past_its_end())
        return mdexists(reln, fork);
    return mdexists(reln, fork) || (!SmgrIsTemp(reln) && loch_materialise(reln, fork));
}

/* After commit: no ERROR and no network here. */
static void store_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool is_redo)
{
    if (loch_seam_probed(SEAM_UNLINK))
        return;
    mdunlink(rnode, fork, is_redo);
    loch_readahead_forget(rnode.node);
    if (RelFileNodeBackendIsTemp(rnode) || rnode.node.spcNode == GLOBALTABLESPACE_OID)
        return;
    for (ForkNumber f = MAIN_FORKNUM; f <= MAX_FORKNUM; f++)
        if (f == fork || fork == InvalidForkNumber)
            loch_last_lsn_raise_fork(rnode.node, f, loch_insert_lsn());
    if (fork == MAIN_FORKNUM || fork == InvalidForkNumber) {
        loch_overlay_forget_range(rnode.node, 0);
        loch_free_space_forget(rnode.node);
    }
}

static void put_kept(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool extend)
{
    if (fork == MAIN_FORKNUM)
        loch_kept_note(reln->smgr_rnode.node, block);
    if (extend)
        loch_local_extend(reln->smgr_rnode.node, fork, block);
    mdwrite(reln, fork, block, page, true);
}

static void put_dropped(SMgrRelation reln, ForkNumber fork, BlockNumber block, const char *page,
                        bool extend)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    if (extend) {
        loch_local_extend(rnode, fork, block);
    } else {
        PGAlignedBlock before;

        mdread(reln, fork, block, before.data);
        if (!loch_page_is_zero(before.data)) {
            loch_local_punch(rnode, fork, block);
            loch_count(unspill);
        }
    }
    if (loch_page_is_zero(page)) {
        loch_count(write_zero);
        return;
    }
    loch_count(write_dropped);
    if (fork == MAIN_FORKNUM)
        loch_cache_put(rnode, block, loch_last_lsn_get(rnode, fork, block), page);
}

/* Decides; a page kept for its command ids only may get by with an overlay. */
static enum keep_reason decide(RelFileNode rnode, ForkNumber fork, BlockNumber block, Page page)
{
    enum keep_reason why = loch_rules_keep(fork, page);
    TransactionId xid;
    CommandId cid;

    if (fork != MAIN_FORKNUM)
        return why;
    loch_overlay_forget(rnode, block);
    if (loch_fix_on(born) && !loch_page_is_zero((const char *)page) &&
        loch_absent_born_after(rnode, PageGetLSN(page)))
        return KEEP_NOT_LOGGED;
    if (why == KEEP_COMMAND_ID && loch_fix_on(overlay) &&
        loch_overlay_describes(page, &xid, &cid) && loch_overlay_put(rnode, block, xid, cid)) {
        loch_count(cid_overlay_put);
        return KEEP_NOT;
    }
    return why;
}

static void put(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync,
                bool extend)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    enum keep_reason why;
    XLogRecPtr lsn;

    if (loch_relation_is_local(reln, fork)) {
        loch_count(local_write);
        if (extend)
            mdextend(reln, fork, block, page, skip_fsync);
        else
            mdwrite(reln, fork, block, page, skip_fsync);
        return;
    }
    lsn = loch_rules_page_lsn(fork, (Page)page);
    if (lsn != InvalidXLogRecPtr)
        loch_last_lsn_raise_page(rnode, fork, block, lsn);
    why = decide(rnode, fork, block, (Page)page);
    loch_rules_count(why);
    if (why == KEEP_NOT)
        put_dropped(reln, fork, block, page, extend);
    else
        put_kept(reln, fork, block, page, extend);
    if (fork == MAIN_FORKNUM && (why != KEEP_NOT || loch_page_is_zero(page)))
        loch_cache_forget(rnode, block);
}

static void store_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page,
                         bool skip_fsync)
{
    if (loch_seam_probed(SEAM_EXTEND))
        return;
    (void)loch_materialise(reln, fork);
    put(reln, fork, block, page, skip_fsync, true);
}

static void store_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page,
                        bool skip_fsync)
{
    if (loch_seam_probed(SEAM_WRITE))
        return;
    put(reln, fork, block, page, skip_fsync, false);
}

static bool store_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    if (loch_seam_probed(SEAM_PREFETCH))
        return true;
    if (SmgrIsTemp(reln))
        return mdprefetch(reln, fork, block);
    if (!loch_relation_is_local(reln, fork))
        loch_readahead_one(reln->smgr_rnode.node, fork, block);
    return true;
}

/* The request is prepared before those of the pages after it, and all are sent together. */
static void fetch(SMgrRelation reln, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                  uint64 posted_id, char *page)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    loch_wal_flush_to(lsn);
    if (posted_id == 0 && loch_page_client_room() > 0)
        posted_id = loch_page_client_post(rnode, fork, block, lsn);
    loch_readahead_continue(reln, fork, block);
    loch_page_client_get_posted(rnode, fork, block, lsn, posted_id, page);
}

/* `mark`: the local cache's, from before the look at the file. */
static void read_remote(SMgrRelation reln, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                        uint32 mark, char *page)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    uint64 posted_id;

    if (loch_readahead_take(rnode, fork, block, lsn, page, &posted_id))
        loch_readahead_continue(reln, fork, block);
    else
        fetch(reln, fork, block, lsn, posted_id, page);
    if (fork == MAIN_FORKNUM && !loch_page_is_zero(page))
        (void)loch_cache_put_marked(rnode, block, lsn, page, mark);
}

/* A page in the local cache is not kept in its file: what keeps one removes the other. */
static bool read_cached(SMgrRelation reln, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                        char *page)
{
    return fork == MAIN_FORKNUM && !SmgrIsTemp(reln) &&
           loch_cache_get(reln->smgr_rnode.node, block, lsn, page);
}

/* Without a look at the file: the page was a hole when it was asked for ahead, and nothing was kept
 * of it since. */
static bool is_hole(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    return fork == MAIN_FORKNUM && !SmgrIsTemp(reln) && loch_readahead_has(rnode, block) &&
           !loch_kept_maybe(rnode, block);
}

/* True: the file has it, or nobody else can. */
static bool read_local(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
    mdread(reln, fork, block, page);
    if (!loch_page_is_zero(page)) {
        loch_count(read_local);
        return true;
    }
    return loch_relation_is_local(reln, fork);
}

static void store_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
    uint32 mark = 0;
    XLogRecPtr lsn;

    if (loch_seam_probed(SEAM_READ))
        return;
    loch_lease_check();
    /* Also for a page that was prewarmed before anybody used it: writing it will need the file. */
    (void)loch_materialise(reln, fork);
    /* Not every read has the buffer's I/O lock: pg_prewarm(..., 'read'). */
    if (fork == MAIN_FORKNUM)
        mark = loch_cache_mark(reln->smgr_rnode.node, block);
    lsn = loch_last_lsn_get(reln->smgr_rnode.node, fork, block);
    if (read_cached(reln, fork, block, lsn, page)) {
        loch_readahead_continue(reln, fork, block);
    } else {
        if (!is_hole(reln, fork, block) && read_local(reln, fork, block, page))
            return;
        read_remote(reln, fork, block, lsn, mark, page);
    }
    if (fork == MAIN_FORKNUM)
        loch_overlay_apply(reln->smgr_rnode.node, block, (Page)page);
}

/* Nothing on the scratch is worth hurrying to a disk. */
static void store_writeback(SMgrRelation reln, ForkNumber fork, BlockNumber block,
                            BlockNumber count)
{
    (void)reln;
    (void)fork;
    (void)block;
    (void)count;
    (void)loch_seam_probed(SEAM_WRITEBACK);
}

static BlockNumber store_nblocks(SMgrRelation reln, ForkNumber fork)
{
    if (loch_seam_probed(SEAM_NBLOCKS))
        return 0;
    (void)loch_materialise(reln, fork);
    return mdnblocks(reln, fork);
}

/* In a critical section. */
static void store_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks,
                           BlockNumber blocks)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    if (loch_seam_probed(SEAM_TRUNCATE))
        return;
    mdtruncate(reln, fork, old_blocks, blocks);
    loch_readahead_forget(rnode);
    if (SmgrIsTemp(reln) || rnode.spcNode == GLOBALTABLESPACE_OID)
        return;
    if (loch_fix_on(truncate))
        loch_last_lsn_raise_fork(rnode, fork, loch_insert_lsn());
    if (fork == MAIN_FORKNUM)
        loch_overlay_forget_range(rnode, blocks);
}

void loch_page_store_table(struct smgr_table *out)
{
    out->close = store_close;
    out->create = store_create;
    out->exists = store_exists;
    out->unlink = store_unlink;
    out->extend = store_extend;
    out->prefetch = store_prefetch;
    out->read = store_read;
    out->write = store_write;
    out->writeback = store_writeback;
    out->nblocks = store_nblocks;
    out->truncate = store_truncate;
}
