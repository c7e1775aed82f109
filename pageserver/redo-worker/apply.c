/* Applying records to the target page with the server's own redo functions.
 *
 * The call order of a record: decode, rename relations, rm_redo, then make other pages that the
 * record initialised or restored look newer than everything again, or a later record would find
 * them stale.
 */
#include "worker.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/memutils.h"

#include "redo_protocol.h"

volatile uint64 apply_at;

static XLogReaderState *reader;
static DecodedXLogRecord *decoded;
static MemoryContext redo_context;
static Buffer target_buffer = InvalidBuffer;

static compat_rel target_rel(void)
{
    return compat_rel_make(FAKE_SPC, FAKE_DB, TARGET_REL);
}

void apply_init(void)
{
    reader = XLogReaderAllocate(DEFAULT_XLOG_SEG_SIZE, NULL, XL_ROUTINE(), NULL);
    if (reader == NULL)
        elog(FATAL, "redo worker: no memory for the WAL reader");
    decoded = MemoryContextAllocHuge(TopMemoryContext,
                                     DecodeXLogRecordRequiredSpace(LOCH_REDO_FRAME_MAX));
    redo_context = AllocSetContextCreate(TopMemoryContext, "loch redo", ALLOCSET_DEFAULT_SIZES);
}

void apply_begin(void)
{
    target_buffer = InvalidBuffer;
    MemoryContextSwitchTo(redo_context);
}

static bool is_target_ref(const DecodedBkpBlock *ref)
{
    return ref->in_use && compat_rel_is(ref, FAKE_SPC, FAKE_DB, TARGET_REL) &&
           ref->forknum == target.fork && ref->blkno == target.block;
}

/* Renames the record's relations; true when the target is among its blocks, or is the visibility
 * map page that a heap record of the target's relation changes without naming it. */
static bool rename_relations(const struct apply_request *request)
{
    bool named = false, same_rel = false;
    RmgrId rmid = decoded->header.xl_rmid;
    compat_rel other = compat_rel_make(FAKE_SPC, FAKE_DB, OTHER_REL);

    for (int i = 0; i <= decoded->max_block_id; i++) {
        DecodedBkpBlock *ref = &decoded->blocks[i];

        if (!ref->in_use)
            continue;
        ref->prefetch_buffer = InvalidBuffer;
        if (!compat_rel_is(ref, request->spc, request->db, request->rel)) {
            compat_rel_set(ref, other);
            continue;
        }
        compat_rel_set(ref, target_rel());
        same_rel = true;
        if (is_target_ref(ref)) {
            ref->prefetch_buffer = target_buffer;
            named = true;
        }
    }
    if (target.fork == VISIBILITYMAP_FORKNUM && (rmid == RM_HEAP_ID || rmid == RM_HEAP2_ID))
        return same_rel;
    return named;
}

static void restamp_others(void)
{
    for (int i = 0; i <= decoded->max_block_id; i++) {
        DecodedBkpBlock *ref = &decoded->blocks[i];
        Buffer buffer;

        if (!ref->in_use || is_target_ref(ref) ||
            !(ref->apply_image || (ref->flags & BKPBLOCK_WILL_INIT)))
            continue;
        buffer = XLogReadBufferExtended(compat_ref_rel(ref), ref->forknum, ref->blkno,
                                        RBM_NORMAL_NO_LOG, InvalidBuffer);
        if (!BufferIsValid(buffer))
            continue;
        PageSetLSN(BufferGetPage(buffer), PG_UINT64_MAX);
        ReleaseBuffer(buffer);
    }
}

/* The page against the image that wal_consistency_checking recorded, as PostgreSQL compares them
 * (verifyBackupPageConsistency in xlogrecovery.c). */
static void check_image(struct apply_request *request, uint8 block_id)
{
    static PGAlignedBlock have, want;
    DecodedBkpBlock *ref = &decoded->blocks[block_id];
    RmgrData rmgr = GetRmgr(decoded->header.xl_rmid);
    Buffer buffer;

    if (!RestoreBlockImage(reader, block_id, want.data))
        elog(ERROR, "cannot restore the consistency image of block reference %u", block_id);
    buffer = XLogReadBufferExtended(compat_ref_rel(ref), ref->forknum, ref->blkno,
                                    RBM_NORMAL_NO_LOG, InvalidBuffer);
    if (!BufferIsValid(buffer))
        return;
    memcpy(have.data, BufferGetPage(buffer), BLCKSZ);
    ReleaseBuffer(buffer);
    if (PageGetLSN((Page)have.data) > reader->EndRecPtr)
        return;
    if (rmgr.rm_mask != NULL) {
        rmgr.rm_mask(have.data, ref->blkno);
        rmgr.rm_mask(want.data, ref->blkno);
    }
    request->checked++;
    if (memcmp(have.data, want.data, BLCKSZ) != 0)
        request->differing++;
}

void apply_record(struct apply_request *request, const char *bytes, uint32 length, XLogRecPtr start,
                  XLogRecPtr end)
{
    /* DecodeXLogRecord only reads it; its parameter lacks the const. */
    union {
        const char *borrowed;
        XLogRecord *record;
    } raw = {.borrowed = bytes};
    char *problem = NULL;

    apply_at = start;
    if (length < SizeOfXLogRecord || raw.record->xl_tot_len != length)
        elog(ERROR, "record length does not fit its frame");
    if (!RmgrIdExists(raw.record->xl_rmid))
        elog(ERROR, "unknown resource manager");
    if (!DecodeXLogRecord(reader, decoded, raw.record, start, &problem))
        elog(ERROR, "cannot decode the record: %s", problem != NULL ? problem : "no reason given");
    decoded->next_lsn = end;
    reader->record = decoded;
    reader->ReadRecPtr = start;
    reader->EndRecPtr = end;
    if (!rename_relations(request))
        elog(ERROR, "the record does not touch the page");
    GetRmgr(raw.record->xl_rmid).rm_redo(reader);
    if (!BufferIsValid(target_buffer)) {
        target_buffer = XLogReadBufferExtended(target_rel(), target.fork, target.block,
                                               RBM_ZERO_ON_ERROR, InvalidBuffer);
        ReleaseBuffer(target_buffer);
    }
    restamp_others();
    if (XLogHaveInvalidPages())
        elog(ERROR, "the page was never initialised before the record");
    if (request->verify) {
        for (int i = 0; i <= decoded->max_block_id; i++) {
            DecodedBkpBlock *ref = &decoded->blocks[i];

            if (is_target_ref(ref) && ref->has_image && !ref->apply_image)
                check_image(request, (uint8)i);
        }
    }
    apply_at = 0;
}

void apply_finish(char *page_out)
{
    Buffer buffer = XLogReadBufferExtended(target_rel(), target.fork, target.block,
                                           RBM_ZERO_ON_ERROR, InvalidBuffer);

    memcpy(page_out, BufferGetPage(buffer), BLCKSZ);
    ReleaseBuffer(buffer);
    DropDatabaseBuffers(FAKE_DB);
    MemoryContextReset(redo_context);
}
