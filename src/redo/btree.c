/* Holds: the records of the resource manager Btree. Source: btree_xlog_* in nbtxlog.c (15). */
#include "items.h"
#include "room.h"

#include <string.h>

/* The 16 bytes at the end of every btree page. */
static LOCH_STATUS opaque_of(uint8_t *page, uint8_t **out)
{
    uint32_t special = page_special(page);

    if (special != LOCH_PAGE_BYTES - V15_BT_OPAQUE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a btree page's special space begins at %u", special);
    *out = page + special;
    return LOCH_OK;
}

/* Reference 1 of an insertion above the leaves: the child whose split is now complete. */
static LOCH_STATUS clear_incomplete_split(const struct redo_job *job)
{
    uint8_t *opaque = NULL;

    LOCH_TRY(opaque_of(job->page, &opaque));
    uint32_t flags = loch_get_u16(opaque + V15_BTPO_FLAGS);
    loch_put_u16(opaque + V15_BTPO_FLAGS, (uint16_t)(flags & ~V15_BTP_INCOMPLETE_SPLIT));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS redo_insert(const struct redo_job *job)
{
    const struct loch_slice data = job->block->data;
    uint8_t *opaque = NULL, *at = NULL;

    LOCH_TRY(redo_need_main(job, V15_XL_BTREE_INSERT_BYTES));
    LOCH_TRY(redo_need_data(job, V15_INDEX_TUPLE_BYTES));
    LOCH_TRY(opaque_of(job->page, &opaque));
    LOCH_TRY(item_place(job->page, loch_get_u16(job->record->main_data.data), (uint32_t)data.len,
                        false, &at));
    memcpy(at, data.data, data.len);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

LOCH_STATUS redo_btree(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    uint32_t op = job->record->info & 0xF0u;

    if (job->block->fork == LOCH_FORK_MAIN && !job->block->will_init) {
        if (job->block->id == 0)
            return redo_insert(job);
        if (job->block->id == 1 && op == V15_BTREE_INSERT_UPPER)
            return clear_incomplete_split(job);
    }
    *outcome = LOCH_REDO_NOT_HANDLED;
    return LOCH_OK;
}
