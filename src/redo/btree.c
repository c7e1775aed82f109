/* Holds: which btree record does what to which of its references; insertions. Source: btree_redo
 * and btree_xlog_insert in nbtxlog.c (15). */
#include "btree_page.h"

#include <string.h>

/* The child page whose split is complete now that its parent knows. */
static LOCH_STATUS clear_incomplete_split(const struct redo_job *job)
{
    uint8_t *opaque = NULL;

    LOCH_TRY(btree_opaque(job->page, &opaque));
    btree_change_flags(opaque, V15_BTP_INCOMPLETE_SPLIT, 0);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* The data of INSERT_POST begin with where the posting list before the new tuple is split. */
static LOCH_STATUS insert_into_posting(const struct redo_job *job, uint32_t number)
{
    const struct loch_slice data = job->block->data;
    uint8_t tuple[V15_BT_MAX_ITEM_BYTES];
    struct item list;

    LOCH_TRY(redo_need_data(job, 2 + V15_INDEX_TUPLE_BYTES));
    uint32_t len = (uint32_t)data.len - 2;
    if (len > sizeof tuple)
        return LOCH_FAIL(LOCH_E_CORRUPT, "an index tuple of %u bytes", len);
    memcpy(tuple, data.data + 2, len);
    LOCH_TRY(index_tuple_find(job->page, number - 1, &list));
    LOCH_TRY(posting_swap(list.at, list.len, tuple, loch_get_u16(data.data)));
    return btree_add(job->page, number, tuple, len);
}

LOCH_STATUS btree_insert(const struct redo_job *job, bool posting)
{
    const struct loch_slice data = job->block->data;
    uint8_t *opaque = NULL;

    LOCH_TRY(redo_need_main(job, V15_XL_BTREE_INSERT_BYTES));
    LOCH_TRY(redo_need_data(job, V15_INDEX_TUPLE_BYTES));
    LOCH_TRY(btree_opaque(job->page, &opaque));
    uint32_t number = loch_get_u16(job->record->main_data.data);
    if (posting)
        LOCH_TRY(insert_into_posting(job, number));
    else
        LOCH_TRY(btree_add(job->page, number, data.data, (uint32_t)data.len));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS not_handled(enum loch_redo_outcome *outcome)
{
    *outcome = LOCH_REDO_NOT_HANDLED;
    return LOCH_OK;
}

/* References: 0 the page, 1 above the leaves the child, 2 the metapage. */
static LOCH_STATUS redo_insert(const struct redo_job *job, uint32_t op,
                               enum loch_redo_outcome *outcome)
{
    bool leaf = op == V15_BTREE_INSERT_LEAF || op == V15_BTREE_INSERT_POST;

    if (job->block->id == 0)
        return btree_insert(job, op == V15_BTREE_INSERT_POST);
    if (job->block->id == 1 && !leaf)
        return clear_incomplete_split(job);
    if (job->block->id == 2 && op == V15_BTREE_INSERT_META)
        return btree_restore_meta(job);
    return not_handled(outcome);
}

/* References: 0 left, 1 right, 2 the page behind, 3 above the leaves the child. */
static LOCH_STATUS redo_split(const struct redo_job *job, uint32_t op,
                              enum loch_redo_outcome *outcome)
{
    if (job->block->id <= 2)
        return btree_split(job, op == V15_BTREE_SPLIT_L);
    if (job->block->id == 3)
        return clear_incomplete_split(job);
    return not_handled(outcome);
}

/* References: 0 the root, 1 the left child, 2 the metapage. */
static LOCH_STATUS redo_newroot(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    switch (job->block->id) {
    case 0:
        return btree_newroot(job);
    case 1:
        return clear_incomplete_split(job);
    case 2:
        return btree_restore_meta(job);
    default:
        return not_handled(outcome);
    }
}

/* References: 0 the page that goes, 1 and 2 its siblings, 3 the leaf, 4 the metapage. */
static LOCH_STATUS redo_unlink(const struct redo_job *job, uint32_t op,
                               enum loch_redo_outcome *outcome)
{
    if (job->block->id <= 3)
        return btree_unlink(job);
    if (job->block->id == 4 && op == V15_BTREE_UNLINK_PAGE_META)
        return btree_restore_meta(job);
    return not_handled(outcome);
}

bool redo_btree_makes_page(uint32_t info, uint32_t id)
{
    switch (info & 0xF0u) {
    case V15_BTREE_INSERT_META:
        return id == 2;
    case V15_BTREE_SPLIT_L:
    case V15_BTREE_SPLIT_R:
        return id == 1;
    case V15_BTREE_UNLINK_PAGE:
    case V15_BTREE_UNLINK_PAGE_META:
        return id == 0 || id == 3 || id == 4;
    case V15_BTREE_NEWROOT:
        return id == 0 || id == 2;
    case V15_BTREE_MARK_PAGE_HALFDEAD:
    case V15_BTREE_META_CLEANUP:
        return id == 0;
    default:
        return false;
    }
}

LOCH_STATUS redo_btree(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    uint32_t op = job->record->info & 0xF0u;
    bool first = job->block->id == 0;

    if (job->block->fork != LOCH_FORK_MAIN)
        return not_handled(outcome);
    switch (op) {
    case V15_BTREE_INSERT_LEAF:
    case V15_BTREE_INSERT_UPPER:
    case V15_BTREE_INSERT_META:
    case V15_BTREE_INSERT_POST:
        return redo_insert(job, op, outcome);
    case V15_BTREE_SPLIT_L:
    case V15_BTREE_SPLIT_R:
        return redo_split(job, op, outcome);
    case V15_BTREE_DEDUP:
        return first ? btree_dedup(job) : not_handled(outcome);
    case V15_BTREE_DELETE:
        return first ? btree_delete(job) : not_handled(outcome);
    case V15_BTREE_VACUUM:
        return first ? btree_vacuum(job) : not_handled(outcome);
    case V15_BTREE_UNLINK_PAGE:
    case V15_BTREE_UNLINK_PAGE_META:
        return redo_unlink(job, op, outcome);
    case V15_BTREE_NEWROOT:
        return redo_newroot(job, outcome);
    case V15_BTREE_MARK_PAGE_HALFDEAD:
        return job->block->id <= 1 ? btree_mark_halfdead(job) : not_handled(outcome);
    case V15_BTREE_META_CLEANUP:
        return first ? btree_restore_meta(job) : not_handled(outcome);
    default:
        return not_handled(outcome);
    }
}
