/* Holds: the records of the resource manager Heap. Source: heap_xlog_* in heapam.c (15). */
#include "heap_tuple.h"
#include "room.h"

#include <string.h>

static LOCH_STATUS redo_insert(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    const uint8_t *main = job->record->main_data.data, *data = job->block->data.data;

    LOCH_TRY(redo_need_main(job, V15_XL_INSERT_BYTES));
    LOCH_TRY(redo_need_data(job, V15_XL_HEAP_HEADER_BYTES));
    uint32_t number = loch_get_u16(main + V15_XL_INSERT_OFFNUM);
    uint32_t flags = main[V15_XL_INSERT_FLAGS];
    if ((flags & ~(V15_XLH_INSERT_KNOWN & ~V15_XLH_INSERT_ALL_FROZEN_SET)) != 0) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    if (job->block->will_init)
        loch_page_init(job->page, 0);
    const struct heap_new_tuple t = {
        .header = data,
        .body = data + V15_XL_HEAP_HEADER_BYTES,
        .body_len = (uint32_t)(job->block->data.len - V15_XL_HEAP_HEADER_BYTES),
        .xmin = job->record->xid,
        .block = job->target->block,
        .ctid_number = number};
    LOCH_TRY(heap_tuple_add(job->page, number, &t));
    loch_page_set_lsn(job->page, job->end);
    if ((flags & V15_XLH_INSERT_ALL_VISIBLE_CLEARED) != 0)
        heap_page_clear_all_visible(job->page);
    return LOCH_OK;
}

static LOCH_STATUS redo_delete(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    const uint8_t *main = job->record->main_data.data;
    struct item tuple;

    LOCH_TRY(redo_need_main(job, V15_XL_DELETE_BYTES));
    uint32_t number = loch_get_u16(main + V15_XL_DELETE_OFFNUM);
    uint32_t flags = main[V15_XL_DELETE_FLAGS];
    if ((flags & ~V15_XLH_DELETE_KNOWN) != 0) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    LOCH_TRY(heap_tuple_find(job->page, number, &tuple));
    heap_tuple_set_xmax_bits(tuple.at, main[V15_XL_DELETE_INFOBITS]);
    field16_change(tuple.at + V15_T_INFOMASK2, V15_HEAP_HOT_UPDATED, 0);
    if ((flags & V15_XLH_DELETE_IS_SUPER) != 0)
        loch_put_u32(tuple.at + V15_T_XMIN, 0);
    else
        memcpy(tuple.at + V15_T_XMAX, main + V15_XL_DELETE_XMAX, 4);
    heap_tuple_clear_cid(tuple.at);
    heap_page_set_prunable(job->page, job->record->xid);
    if ((flags & V15_XLH_DELETE_ALL_VISIBLE_CLEARED) != 0)
        heap_page_clear_all_visible(job->page);
    if ((flags & V15_XLH_DELETE_IS_PARTITION_MOVE) != 0)
        heap_tuple_set_ctid(tuple.at, UINT32_MAX, V15_MOVED_PARTITIONS_OFFSET);
    else
        heap_tuple_set_ctid(tuple.at, job->target->block, number);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* An update: reference 0 is the new tuple's page, reference 1 the old one's when that is another.
 */
struct update {
    const uint8_t *main;
    uint32_t flags;
    uint32_t new_block, new_number;
    bool hot, same_page;
};

static LOCH_STATUS mark_updated(const struct redo_job *job, const struct update *u,
                                struct item *old)
{
    LOCH_TRY(heap_tuple_find(job->page, loch_get_u16(u->main + V15_XL_UPDATE_OLD_OFFNUM), old));
    heap_tuple_set_xmax_bits(old->at, u->main[V15_XL_UPDATE_OLD_INFOBITS]);
    field16_change(old->at + V15_T_INFOMASK2, V15_HEAP_HOT_UPDATED,
                   u->hot ? V15_HEAP_HOT_UPDATED : 0);
    memcpy(old->at + V15_T_XMAX, u->main + V15_XL_UPDATE_OLD_XMAX, 4);
    heap_tuple_clear_cid(old->at);
    heap_tuple_set_ctid(old->at, u->new_block, u->new_number);
    heap_page_set_prunable(job->page, job->record->xid);
    if ((u->flags & V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) != 0)
        heap_page_clear_all_visible(job->page);
    return LOCH_OK;
}

/* What the record gives of the new tuple, and what it takes from the old one. */
struct new_parts {
    const uint8_t *header;
    uint32_t bitmap_len; /* of the record's bytes, those before the prefix */
    const uint8_t *bytes;
    uint32_t len;
    const uint8_t *prefix, *suffix; /* in the old tuple */
    uint32_t prefix_len, suffix_len;
};

static LOCH_STATUS read_parts(const struct redo_job *job, const struct update *u,
                              const struct item *old, struct new_parts *out)
{
    struct loch_reader r;
    struct new_parts p = {0};

    loch_reader_init(&r, job->block->data);
    if ((u->flags & V15_XLH_UPDATE_PREFIX_FROM_OLD) != 0)
        p.prefix_len = loch_read_u16(&r);
    if ((u->flags & V15_XLH_UPDATE_SUFFIX_FROM_OLD) != 0)
        p.suffix_len = loch_read_u16(&r);
    p.header = loch_read_bytes(&r, V15_XL_HEAP_HEADER_BYTES).data;
    if (r.bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "an update record of %zu bytes", job->block->data.len);
    p.len = (uint32_t)loch_reader_left(&r);
    p.bytes = loch_read_bytes(&r, p.len).data;
    if (p.prefix_len + p.suffix_len > 0) {
        if (!u->same_page)
            return LOCH_FAIL(LOCH_E_CORRUPT, "an update takes bytes from a tuple elsewhere");
        uint32_t old_hoff = old->at[V15_T_HOFF];
        if (p.prefix_len > old->len || old_hoff > old->len - p.prefix_len ||
            p.suffix_len > old->len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "an update takes %u and %u bytes of a tuple of %u",
                             p.prefix_len, p.suffix_len, old->len);
        p.prefix = old->at + old_hoff;
        p.suffix = old->at + old->len - p.suffix_len;
    }
    if (p.prefix_len > 0) {
        uint32_t hoff = p.header[V15_XL_HEADER_HOFF];
        if (hoff < V15_HEAP_TUPLE_BYTES || hoff - V15_HEAP_TUPLE_BYTES > p.len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "an updated tuple's data begin at %u", hoff);
        p.bitmap_len = hoff - V15_HEAP_TUPLE_BYTES;
    }
    *out = p;
    return LOCH_OK;
}

static uint8_t *put(uint8_t *at, const uint8_t *bytes, uint32_t len)
{
    if (len > 0 && bytes != NULL)
        memcpy(at, bytes, len);
    return at + len;
}

static LOCH_STATUS add_updated(const struct redo_job *job, const struct update *u,
                               const struct item *old)
{
    struct new_parts p = {0};
    uint8_t *tuple = NULL;

    if (!u->same_page && job->block->will_init)
        loch_page_init(job->page, 0);
    LOCH_TRY(read_parts(job, u, old, &p));
    LOCH_TRY(heap_tuple_place(job->page, u->new_number,
                              V15_HEAP_TUPLE_BYTES + p.len + p.prefix_len + p.suffix_len, &tuple));
    const struct heap_new_tuple t = {.header = p.header,
                                     .xmin = job->record->xid,
                                     .xmax = loch_get_u32(u->main + V15_XL_UPDATE_NEW_XMAX),
                                     .block = u->new_block,
                                     .ctid_number = u->new_number};
    heap_tuple_write_header(tuple, &t);
    uint8_t *at = put(tuple + V15_HEAP_TUPLE_BYTES, p.bytes, p.bitmap_len);
    at = put(at, p.prefix, p.prefix_len);
    at = put(at, p.bytes + p.bitmap_len, p.len - p.bitmap_len);
    put(at, p.suffix, p.suffix_len);
    if ((u->flags & V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) != 0)
        heap_page_clear_all_visible(job->page);
    return LOCH_OK;
}

static LOCH_STATUS redo_update(const struct redo_job *job, bool hot,
                               enum loch_redo_outcome *outcome)
{
    const struct loch_wal_block *new_page = loch_wal_record_block(job->record, 0);
    const struct loch_wal_block *old_page = loch_wal_record_block(job->record, 1);
    struct update u = {.main = job->record->main_data.data, .hot = hot};
    struct item old = {0};

    LOCH_TRY(redo_need_main(job, V15_XL_UPDATE_BYTES));
    if (new_page == NULL || job->block->id > 1)
        return LOCH_FAIL(LOCH_E_CORRUPT, "an update record without its pages");
    u.flags = u.main[V15_XL_UPDATE_FLAGS];
    u.new_block = new_page->block;
    u.new_number = loch_get_u16(u.main + V15_XL_UPDATE_NEW_OFFNUM);
    /* A newer minor may give the visibility map's page as a further reference. */
    u.same_page =
        old_page == NULL || old_page->fork != LOCH_FORK_MAIN || old_page->block == new_page->block;
    if ((u.flags & ~V15_XLH_UPDATE_KNOWN) != 0 || (u.same_page && job->block->will_init)) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    if (u.same_page || job->block->id == 1)
        LOCH_TRY(mark_updated(job, &u, &old));
    if (u.same_page || job->block->id == 0)
        LOCH_TRY(add_updated(job, &u, &old));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static bool is_locked_only(const uint8_t *tuple)
{
    uint32_t mask = loch_get_u16(tuple + V15_T_INFOMASK);

    return (mask & V15_HEAP_XMAX_LOCK_ONLY) != 0 ||
           (mask & (V15_HEAP_XMAX_IS_MULTI | V15_HEAP_LOCK_MASK)) == V15_HEAP_XMAX_EXCL_LOCK;
}

static LOCH_STATUS redo_lock(const struct redo_job *job)
{
    const uint8_t *main = job->record->main_data.data;
    struct item tuple;

    LOCH_TRY(redo_need_main(job, V15_XL_LOCK_BYTES));
    uint32_t number = loch_get_u16(main + V15_XL_LOCK_OFFNUM);
    LOCH_TRY(heap_tuple_find(job->page, number, &tuple));
    heap_tuple_set_xmax_bits(tuple.at, main[V15_XL_LOCK_INFOBITS]);
    if (is_locked_only(tuple.at)) {
        field16_change(tuple.at + V15_T_INFOMASK2, V15_HEAP_HOT_UPDATED, 0);
        heap_tuple_set_ctid(tuple.at, job->target->block, number);
    }
    memcpy(tuple.at + V15_T_XMAX, main + V15_XL_LOCK_XID, 4);
    heap_tuple_clear_cid(tuple.at);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS redo_inplace(const struct redo_job *job)
{
    const struct loch_slice data = job->block->data;
    struct item tuple;

    LOCH_TRY(redo_need_main(job, V15_XL_OFFNUM_BYTES));
    LOCH_TRY(heap_tuple_find(job->page, loch_get_u16(job->record->main_data.data), &tuple));
    uint32_t hoff = tuple.at[V15_T_HOFF];
    if (hoff > tuple.len || data.len != tuple.len - hoff)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%zu bytes are written over a tuple of %u", data.len,
                         tuple.len);
    put(tuple.at + hoff, data.data, (uint32_t)data.len);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

static LOCH_STATUS redo_confirm(const struct redo_job *job)
{
    struct item tuple;

    LOCH_TRY(redo_need_main(job, V15_XL_OFFNUM_BYTES));
    uint32_t number = loch_get_u16(job->record->main_data.data);
    LOCH_TRY(heap_tuple_find(job->page, number, &tuple));
    heap_tuple_set_ctid(tuple.at, job->target->block, number);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

LOCH_STATUS redo_heap(const struct redo_job *job, enum loch_redo_outcome *outcome)
{
    if (job->block->fork != LOCH_FORK_MAIN) {
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
    switch (job->record->info & V15_HEAP_OPMASK) {
    case V15_HEAP_INSERT:
        return redo_insert(job, outcome);
    case V15_HEAP_DELETE:
        return redo_delete(job, outcome);
    case V15_HEAP_UPDATE:
        return redo_update(job, false, outcome);
    case V15_HEAP_HOT_UPDATE:
        return redo_update(job, true, outcome);
    case V15_HEAP_CONFIRM:
        return redo_confirm(job);
    case V15_HEAP_LOCK:
        return redo_lock(job);
    case V15_HEAP_INPLACE:
        return redo_inplace(job);
    default:
        *outcome = LOCH_REDO_NOT_HANDLED;
        return LOCH_OK;
    }
}
