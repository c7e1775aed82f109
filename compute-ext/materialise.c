/* Holds: first use of a fork.
 *
 * Invariants: the main fork's file is there before any other fork is asked for; when the relation
 * has an init fork (it is unlogged), that file is there before the main fork's, so every process
 * that sees the one sees the other. An unlogged main fork begins as a copy of its init fork, as
 * after a crash. */
#include "materialise.h"

#include "free_space.h"
#include "known_absent.h"
#include "last_lsn.h"
#include "local_file.h"
#include "page_client.h"
#include "settings.h"
#include "shared.h"

#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "storage/md.h"

#define INIT_FORK_MOST_BLOCKS 1024u

/* Looking for a file that is not there is dear. What was found absent stays so until an init fork
 * appears anywhere. */
static bool has_init_fork(RelFileNode rnode)
{
    static RelFileNode known_without;
    static uint64 known_at = UINT64_MAX;
    uint64 now = pg_atomic_read_u64(&loch_shared->init_forks_made);
    bool has;

    if (known_at == now && RelFileNodeEquals(known_without, rnode))
        return false;
    has = loch_local_exists(rnode, INIT_FORKNUM);
    if (!has) {
        known_without = rnode;
        known_at = now;
    }
    return has;
}

bool loch_relation_is_local(SMgrRelation reln, ForkNumber fork)
{
    RelFileNode rnode = reln->smgr_rnode.node;

    if (SmgrIsTemp(reln))
        return loch_fix_on(temp);
    if (rnode.spcNode == GLOBALTABLESPACE_OID || fork == INIT_FORKNUM)
        return true;
    return loch_fix_on(unlogged) && has_init_fork(rnode);
}

static bool remote_size(RelFileNode rnode, ForkNumber fork, BlockNumber *blocks)
{
    XLogRecPtr lsn = loch_last_lsn_get(rnode, fork, InvalidBlockNumber);

    loch_wal_flush_to(lsn);
    return loch_page_client_size(rnode, fork, lsn, blocks);
}

bool loch_remote_exists(RelFileNode rnode, ForkNumber fork)
{
    BlockNumber blocks;

    return remote_size(rnode, fork, &blocks);
}

/* The init fork's pages and, out of them, both local files. */
static void materialise_unlogged(RelFileNode rnode, BlockNumber blocks)
{
    XLogRecPtr lsn = loch_last_lsn_get(rnode, INIT_FORKNUM, InvalidBlockNumber);
    char *pages;

    if (blocks > INIT_FORK_MOST_BLOCKS)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("init fork of relation %u has %u blocks", rnode.relNode, blocks)));
    pages = palloc0((Size)Max(blocks, 1) * BLCKSZ);
    for (BlockNumber b = 0; b < blocks; b++)
        loch_page_client_get(rnode, INIT_FORKNUM, b, lsn, pages + (size_t)b * BLCKSZ);
    loch_local_publish(rnode, INIT_FORKNUM, blocks, pages);
    loch_init_fork_made();
    loch_local_publish(rnode, MAIN_FORKNUM, blocks, pages);
    pfree(pages);
}

/* An init fork that is here already (shipped with the base) while its main fork is not. */
static void copy_local_init(SMgrRelation reln)
{
    BlockNumber blocks = mdnblocks(reln, INIT_FORKNUM);
    char *pages = palloc0((Size)Max(blocks, 1) * BLCKSZ);

    for (BlockNumber b = 0; b < blocks; b++)
        mdread(reln, INIT_FORKNUM, b, pages + (size_t)b * BLCKSZ);
    loch_local_publish(reln->smgr_rnode.node, MAIN_FORKNUM, blocks, pages);
    pfree(pages);
}

static bool materialise_main(SMgrRelation reln)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    BlockNumber blocks, init_blocks;

    if (loch_local_exists(rnode, INIT_FORKNUM)) {
        copy_local_init(reln);
        return true;
    }
    if (!remote_size(rnode, MAIN_FORKNUM, &blocks))
        return false;
    if (remote_size(rnode, INIT_FORKNUM, &init_blocks))
        materialise_unlogged(rnode, init_blocks);
    else
        loch_local_publish(rnode, MAIN_FORKNUM, blocks, NULL);
    return true;
}

static bool materialise_other(SMgrRelation reln, ForkNumber fork)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    BlockNumber blocks;

    if (!loch_materialise(reln, MAIN_FORKNUM))
        return false;
    if (fork == FSM_FORKNUM &&
        loch_free_space_restore(rnode, loch_local_blocks(rnode, MAIN_FORKNUM)))
        return true;
    /* the main fork brought its init fork along, and an unlogged relation's maps are local */
    if (loch_local_exists(rnode, INIT_FORKNUM))
        return loch_local_exists(rnode, fork);
    if (fork == INIT_FORKNUM || !remote_size(rnode, fork, &blocks))
        return false;
    loch_local_publish(rnode, fork, blocks, NULL);
    return true;
}

bool loch_materialise(SMgrRelation reln, ForkNumber fork)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    bool there;

    if (SmgrIsTemp(reln) || reln->md_num_open_segs[fork] > 0)
        return true; /* md.c knows, and complains in its own words */
    if (loch_local_exists(rnode, fork))
        return true;
    if (rnode.spcNode == GLOBALTABLESPACE_OID || CritSectionCount > 0)
        return false;
    if (loch_absent_known(rnode, fork))
        return false;
    there = fork == MAIN_FORKNUM ? materialise_main(reln) : materialise_other(reln, fork);
    if (!there)
        loch_absent_add(rnode, LOCH_FORK_BIT(fork));
    return there;
}
