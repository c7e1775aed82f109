/* Holds: which record goes where; images; the LSN rule. Source: XLogReadBufferForRedoExtended
 * (xlogutils.c) of PostgreSQL 15. */
#include "loch/redo/redo.h"

#include "items.h"
#include "room.h"

LOCH_STATUS redo_need_main(const struct redo_job *job, size_t least)
{
    if (job->record->main_data.len < least)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the record has %zu bytes of main data, not %zu",
                         job->record->main_data.len, least);
    return LOCH_OK;
}

LOCH_STATUS redo_need_data(const struct redo_job *job, size_t least)
{
    if (job->block->data.len < least)
        return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u has %zu bytes of data, not %zu",
                         job->block->id, job->block->data.len, least);
    return LOCH_OK;
}

static const struct loch_wal_block *find_reference(const struct loch_redo_target *target,
                                                   const struct loch_wal_record *record)
{
    for (uint32_t i = 0; i < record->block_count; i++) {
        const struct loch_wal_block *b = &record->blocks[i];
        if (b->block == target->block && b->fork == target->fork && b->rel.rel == target->rel.rel &&
            b->rel.db == target->rel.db && b->rel.spc == target->rel.spc)
            return b;
    }
    return NULL;
}

static LOCH_STATUS restore_image(const struct redo_job *job)
{
    LOCH_TRY(loch_redo_image(job->block, job->page));
    if (!loch_page_is_new(job->page))
        loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS check_header(const uint8_t *page)
{
    if (!loch_page_is_plausible(page) || page_lower(page) < LOCH_PG_PAGE_HEADER_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the page's header is not in order");
    return LOCH_OK;
}

bool loch_redo_knows(const struct loch_wal_record *record)
{
    uint32_t op = record->info & V15_HEAP_OPMASK;

    switch (record->rmid) {
    case LOCH_RM_HEAP:
        return op != 0x30; /* TRUNCATE names no page */
    case LOCH_RM_HEAP2:
        return op >= V15_HEAP2_PRUNE && op <= V15_HEAP2_LOCK_UPDATED;
    case LOCH_RM_BTREE:
        return (record->info & 0xF0u) <= V15_BTREE_META_CLEANUP &&
               (record->info & 0xF0u) != 0xD0; /* REUSE_PAGE names no page */
    default:
        return false;
    }
}

/* The record makes the page of this reference from nothing; will_init must say the same. */
static bool makes_page(const struct loch_wal_record *record, const struct loch_wal_block *block)
{
    uint32_t op = record->info & V15_HEAP_OPMASK;
    bool init = (record->info & V15_HEAP_INIT_PAGE) != 0 && block->id == 0;

    switch (record->rmid) {
    case LOCH_RM_HEAP:
        return init && (op == V15_HEAP_INSERT || op == V15_HEAP_UPDATE);
    case LOCH_RM_HEAP2:
        return init && op == V15_HEAP2_MULTI_INSERT;
    default:
        return redo_btree_makes_page(record->info, block->id);
    }
}

/* VM pages are made by the record that sets their first bit; other pages only by will_init. */
static bool may_be_new(const struct loch_wal_block *block)
{
    return block->will_init || block->fork == LOCH_FORK_VM;
}

static bool is_handled(const struct loch_wal_record *record, const struct loch_wal_block *block,
                       const uint8_t *page)
{
    return loch_redo_knows(record) && makes_page(record, block) == block->will_init &&
           (!loch_page_is_new(page) || may_be_new(block));
}

LOCH_STATUS loch_redo_apply(const struct loch_redo_target *target,
                            const struct loch_wal_record *record, loch_lsn end,
                            uint8_t page[static LOCH_PAGE_BYTES], enum loch_redo_outcome *outcome)
{
    const struct loch_wal_block *block = find_reference(target, record);
    const struct redo_job job = {
        .target = target, .record = record, .block = block, .end = end, .page = page};
    enum loch_redo_outcome done = LOCH_REDO_APPLIED;

    if (block == NULL) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    if (block->has_image && block->apply_image) {
        LOCH_TRY(restore_image(&job));
        *outcome = LOCH_REDO_APPLIED;
        return LOCH_OK;
    }
    if (!is_handled(record, block, page)) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    if (!block->will_init) {
        if (!loch_page_is_new(page))
            LOCH_TRY(check_header(page));
        if (end <= loch_page_lsn(page)) {
            *outcome = LOCH_REDO_APPLIED;
            return LOCH_OK;
        }
    }
    switch (record->rmid) {
    case LOCH_RM_HEAP:
        LOCH_TRY(redo_heap(&job, &done));
        break;
    case LOCH_RM_HEAP2:
        LOCH_TRY(redo_heap2(&job, &done));
        break;
    default:
        LOCH_TRY(redo_btree(&job, &done));
        break;
    }
    *outcome = done;
    return LOCH_OK;
}
