/* The in-memory storage manager: one target page, and a world of pages that need no redo.
 *
 * A page other than the target reads as a valid empty page with the largest LSN, so redo finds
 * BLK_DONE and never "page does not exist". Relations have every block, so nothing is ever
 * extended. Source of the table's shape: PostgreSQL 15 src/backend/storage/smgr/smgr.c.
 */
#include "worker.h"

#include "storage/bufpage.h"

#include "loch/pg/seam.h"

struct target target;

static bool is_target(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    return block == target.block && fork == target.fork &&
           compat_smgr_relnumber(reln) == TARGET_REL;
}

static void memory_open(SMgrRelation reln)
{
    (void)reln;
}

static void memory_close(SMgrRelation reln, ForkNumber fork)
{
    (void)reln;
    (void)fork;
}

static void memory_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
    (void)reln;
    (void)fork;
    (void)is_redo;
}

static bool memory_exists(SMgrRelation reln, ForkNumber fork)
{
    (void)reln;
    (void)fork;
    return true;
}

static void memory_unlink(RelFileNodeBackend rel, ForkNumber fork, bool is_redo)
{
    (void)rel;
    (void)fork;
    (void)is_redo;
}

static void memory_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer)
{
    PageHeader page = (PageHeader)buffer;

    if (is_target(reln, fork, block)) {
        memcpy(buffer, target.page.data, BLCKSZ);
        return;
    }
    memset(buffer, 0, BLCKSZ);
    PageXLogRecPtrSet(page->pd_lsn, PG_UINT64_MAX);
    page->pd_lower = SizeOfPageHeaderData;
    page->pd_upper = BLCKSZ;
    page->pd_special = BLCKSZ;
    PageSetPageSizeAndVersion((Page)page, BLCKSZ, PG_PAGE_LAYOUT_VERSION);
}

static void memory_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer,
                         bool skip_fsync)
{
    (void)skip_fsync;
    if (is_target(reln, fork, block))
        memcpy(target.page.data, buffer, BLCKSZ);
}

static bool memory_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    (void)reln;
    (void)fork;
    (void)block;
    return true;
}

static void memory_writeback(SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber n)
{
    (void)reln;
    (void)fork;
    (void)block;
    (void)n;
}

static BlockNumber memory_nblocks(SMgrRelation reln, ForkNumber fork)
{
    (void)reln;
    (void)fork;
    return MaxBlockNumber;
}

static void memory_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks,
                            BlockNumber blocks)
{
    (void)reln;
    (void)fork;
    (void)old_blocks;
    (void)blocks;
}

static void memory_immedsync(SMgrRelation reln, ForkNumber fork)
{
    (void)reln;
    (void)fork;
}

static const struct smgr_table memory_table = {
    .open = memory_open,
    .close = memory_close,
    .create = memory_create,
    .exists = memory_exists,
    .unlink = memory_unlink,
    .extend = memory_write,
    .prefetch = memory_prefetch,
    .read = memory_read,
    .write = memory_write,
    .writeback = memory_writeback,
    .nblocks = memory_nblocks,
    .truncate = memory_truncate,
    .immedsync = memory_immedsync,
};

void pages_install(void)
{
    union {
        struct smgr_table table;
        const void *pointers[sizeof(struct smgr_table) / sizeof(void *)];
    } stock = {.table = SMGR_TABLE_MD}, ours = {.table = memory_table};
    void **found;

    StaticAssertStmt(sizeof(struct smgr_table) == 15 * sizeof(void *), "smgr table has 15 members");
    if (!loch_is_ok(loch_seam_find(stock.pointers, lengthof(stock.pointers), &found)))
        ereport(FATAL, (errmsg("redo worker: the server's storage manager table was not found"),
                        errdetail("%s", loch_error_text())));
    if (!loch_is_ok(loch_seam_write(found, ours.pointers, lengthof(ours.pointers))))
        ereport(FATAL,
                (errmsg("redo worker: the server's storage manager table cannot be replaced"),
                 errdetail("%s", loch_error_text())));
}
