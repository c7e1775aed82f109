/* Holds: the records of the resource manager Heap2. Source: heap_xlog_* in heapam.c, pruneheap.c,
 * PageRepairFragmentation and PageTruncateLinePointerArray in bufpage.c (15). */
#include "heap_tuple.h"
#include "room.h"

#include "loch/pg/vm.h"

#include <string.h>

/* Sets line pointers, numbers given as u16 at `at`, to `id`. */
static LOCH_STATUS set_all(uint8_t *page, const uint8_t *at, uint32_t count, uint32_t id)
{
    uint32_t items = items_count(page);

    for (uint32_t i = 0; i < count; i++, at += 2) {
        uint32_t number = loch_get_u16(at);
        if (number < 1 || number > items)
            return LOCH_FAIL(LOCH_E_CORRUPT, "the page has no item %u", number);
        loch_put_u32(item_id_at(page, number), id);
    }
    return LOCH_OK;
}

static void mark_free_lines(uint8_t *page, bool free_lines)
{
    page_change_flags(page, V15_PD_HAS_FREE_LINES, free_lines ? V15_PD_HAS_FREE_LINES : 0);
}

/* Unused line pointers are emptied, those at the end go away, tuples move together. */
static LOCH_STATUS repair_fragmentation(uint8_t *page)
{
    uint32_t count = items_count(page), last_used = 0, unused = 0;

    for (uint32_t i = 1; i <= count; i++) {
        if (item_id_flags(item_id(page, i)) != V15_LP_UNUSED) {
            last_used = i;
        } else {
            loch_put_u32(item_id_at(page, i), 0);
            unused++;
        }
    }
    LOCH_TRY(items_compact(page));
    page_set_bounds(page, LOCH_PG_PAGE_HEADER_BYTES + last_used * ITEM_ID_BYTES, page_upper(page));
    mark_free_lines(page, unused > count - last_used);
    return LOCH_OK;
}

static LOCH_STATUS redo_prune(const struct redo_job *job)
{
    const uint8_t *main = job->record->main_data.data, *at = job->block->data.data;

    LOCH_TRY(redo_need_main(job, V15_XL_PRUNE_BYTES));
    uint32_t redirected = loch_get_u16(main + V15_XL_PRUNE_NREDIRECTED);
    uint32_t dead = loch_get_u16(main + V15_XL_PRUNE_NDEAD);
    uint32_t numbers = (uint32_t)(job->block->data.len / 2), items = items_count(job->page);
    if (redirected * 2 + dead > numbers)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a prune record with %u of %u items", numbers,
                         redirected * 2 + dead);
    for (uint32_t i = 0; i < redirected; i++, at += 4) {
        uint32_t from = loch_get_u16(at), to = loch_get_u16(at + 2);
        if (from < 1 || from > items || to < 1 || to > items)
            return LOCH_FAIL(LOCH_E_CORRUPT, "item %u is redirected to %u of %u", from, to, items);
        loch_put_u32(item_id_at(job->page, from), item_id_make(to, V15_LP_REDIRECT, 0));
    }
    LOCH_TRY(set_all(job->page, at, dead, item_id_make(0, V15_LP_DEAD, 0)));
    at += (size_t)dead * 2;
    LOCH_TRY(set_all(job->page, at, numbers - redirected * 2 - dead, 0));
    LOCH_TRY(repair_fragmentation(job->page));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* Cuts unused line pointers off the end, but never the first. */
static void truncate_line_pointers(uint8_t *page)
{
    uint32_t count = items_count(page), kept = count;
    bool free_lines = false;

    while (kept > 1 && item_id_flags(item_id(page, kept)) == V15_LP_UNUSED)
        kept--;
    for (uint32_t i = kept; i >= 1 && !free_lines; i--)
        free_lines = item_id_flags(item_id(page, i)) == V15_LP_UNUSED;
    page_set_bounds(page, page_lower(page) - (count - kept) * ITEM_ID_BYTES, page_upper(page));
    mark_free_lines(page, free_lines);
}

static LOCH_STATUS redo_vacuum(const struct redo_job *job)
{
    LOCH_TRY(redo_need_main(job, V15_XL_VACUUM_BYTES));
    uint32_t count = loch_get_u16(job->record->main_data.data);
    LOCH_TRY(redo_need_data(job, (size_t)count * 2));
    LOCH_TRY(set_all(job->page, job->block->data.data, count, 0));
    truncate_line_pointers(job->page);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS redo_freeze(const struct redo_job *job)
{
    const uint8_t *at = job->block->data.data;

    LOCH_TRY(redo_need_main(job, V15_XL_FREEZE_BYTES));
    uint32_t count = loch_get_u16(job->record->main_data.data + V15_XL_FREEZE_NTUPLES);
    LOCH_TRY(redo_need_data(job, (size_t)count * V15_XL_FREEZE_TUPLE_BYTES));
    for (uint32_t i = 0; i < count; i++, at += V15_XL_FREEZE_TUPLE_BYTES) {
        uint32_t flags = at[V15_XL_FREEZE_TUPLE_FLAGS];
        struct item tuple;

        LOCH_TRY(heap_tuple_find(job->page, loch_get_u16(at + V15_XL_FREEZE_TUPLE_OFFSET), &tuple));
        memcpy(tuple.at + V15_T_XMAX, at + V15_XL_FREEZE_TUPLE_XMAX, 4);
        if ((flags & V15_XLH_FREEZE_XVAC) != 0)
            loch_put_u32(tuple.at + V15_T_CID, V15_FROZEN_XID);
        if ((flags & V15_XLH_INVALID_XVAC) != 0)
            loch_put_u32(tuple.at + V15_T_CID, 0);
        memcpy(tuple.at + V15_T_INFOMASK, at + V15_XL_FREEZE_TUPLE_INFOMASK, 2);
        memcpy(tuple.at + V15_T_INFOMASK2, at + V15_XL_FREEZE_TUPLE_INFOMASK2, 2);
    }
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* Reference 0 is the VM page, 1 the heap page. */
static LOCH_STATUS redo_visible(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    const struct loch_wal_block *heap = loch_wal_record_block(job->record, 1);
    uint8_t op[LOCH_VM_OP_MAX_BYTES / 2] = {LOCH_VM_SET};

    LOCH_TRY(redo_need_main(job, V15_XL_VISIBLE_BYTES));
    if (heap == NULL || heap->fork != LOCH_FORK_MAIN ||
        (job->block->fork == LOCH_FORK_VM && loch_vm_block_of(heap->block) != job->block->block))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a visibility record without its two pages");
    if (job->block->fork == LOCH_FORK_VM) {
        loch_put_u32(op + 1, heap->block);
        op[5] = job->record->main_data.data[V15_XL_VISIBLE_FLAGS] & V15_VM_VALID_BITS;
        return loch_vm_apply(loch_slice_of(op, sizeof op), job->end, job->page);
    }
    if (job->block != heap) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    page_change_flags(job->page, 0, V15_PD_ALL_VISIBLE);
    if (job->target->hint_lsn)
        loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* One tuple of a multi-insert, from the reader on; tuples begin at even places of the data. */
static LOCH_STATUS add_one(const struct redo_job *job, struct loch_reader *r, uint32_t number)
{
    struct heap_new_tuple t = {
        .xmin = job->record->xid, .block = job->target->block, .ctid_number = number};

    if ((r->at - job->block->data.data) % 2 != 0)
        (void)loch_read_u8(r);
    t.body_len = loch_read_u16(r);
    t.header = loch_read_bytes(r, V15_XL_HEAP_HEADER_BYTES).data;
    t.body = loch_read_bytes(r, t.body_len).data;
    if (r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a record of many tuples ends within one");
    return heap_tuple_add(job->page, number, &t);
}

static LOCH_STATUS redo_multi_insert(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    const uint8_t *main = job->record->main_data.data;
    bool init = job->block->will_init;
    struct loch_reader r;

    LOCH_TRY(redo_need_main(job, V15_XL_MULTI_INSERT_BYTES));
    uint32_t flags = main[V15_XL_MULTI_INSERT_FLAGS];
    uint32_t count = loch_get_u16(main + V15_XL_MULTI_INSERT_NTUPLES);
    if ((flags & ~V15_XLH_INSERT_KNOWN) != 0) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    if (init)
        loch_page_init(job->page, 0);
    else
        LOCH_TRY(redo_need_main(job, V15_XL_MULTI_INSERT_BYTES + (size_t)count * 2));
    loch_reader_init(&r, job->block->data);
    for (uint32_t i = 0; i < count; i++)
        LOCH_TRY(
            add_one(job, &r,
                    init ? i + 1 : loch_get_u16(main + V15_XL_MULTI_INSERT_BYTES + (size_t)2 * i)));
    LOCH_TRY(loch_reader_finish(&r, "record of many tuples"));
    loch_page_set_lsn(job->page, job->end);
    page_change_flags(job->page,
                      (flags & V15_XLH_INSERT_ALL_VISIBLE_CLEARED) != 0 ? V15_PD_ALL_VISIBLE : 0,
                      (flags & V15_XLH_INSERT_ALL_FROZEN_SET) != 0 ? V15_PD_ALL_VISIBLE : 0);
    return LOCH_OK;
}

static LOCH_STATUS redo_lock_updated(const struct redo_job *job)
{
    const uint8_t *main = job->record->main_data.data;
    struct item tuple;

    LOCH_TRY(redo_need_main(job, V15_XL_LOCK_BYTES));
    LOCH_TRY(heap_tuple_find(job->page, loch_get_u16(main + V15_XL_LOCK_OFFNUM), &tuple));
    heap_tuple_set_xmax_bits(tuple.at, main[V15_XL_LOCK_INFOBITS]);
    memcpy(tuple.at + V15_T_XMAX, main + V15_XL_LOCK_XID, 4);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

LOCH_STATUS redo_heap2(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    uint32_t op = job->record->info & V15_HEAP_OPMASK;

    if (op == V15_HEAP2_VISIBLE)
        return redo_visible(job, outcome);
    if (job->block->fork != LOCH_FORK_MAIN || job->block->id != 0) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    switch (op) {
    case V15_HEAP2_PRUNE:
        return redo_prune(job);
    case V15_HEAP2_VACUUM:
        return redo_vacuum(job);
    case V15_HEAP2_FREEZE_PAGE:
        return redo_freeze(job);
    case V15_HEAP2_MULTI_INSERT:
        return redo_multi_insert(job, outcome);
    case V15_HEAP2_LOCK_UPDATED:
        return redo_lock_updated(job);
    default:
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
}
