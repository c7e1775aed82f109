/* Holds: what changes a btree's shape: splits, new roots, pages that go. Source: btree_xlog_split,
 * btree_xlog_newroot, btree_xlog_mark_page_halfdead, btree_xlog_unlink_page in nbtxlog.c (15). */
#include "btree_page.h"

#include <string.h>

/* ---- split ---- */

/* What xl_btree_split and the left page's data say. */
struct split {
    uint32_t level, firstright, newitem_number, posting_offset;
    bool newitem_left;
    uint32_t swap_number; /* of the posting list that the new tuple falls into; 0: none */
    uint8_t newitem[V15_BT_MAX_ITEM_BYTES];
    uint32_t newitem_len;
    uint8_t list[LOCH_PAGE_BYTES]; /* that posting list with the new tuple's tid */
    uint32_t list_len;
    struct loch_slice high_key;
};

/* The next tuple of the left page's data, with its padding. */
static LOCH_STATUS next_tuple(struct loch_reader *r, uint32_t most, struct loch_slice *out)
{
    if (loch_reader_left(r) < V15_INDEX_TUPLE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a split record lacks a tuple");
    *out = loch_read_bytes(r, aligned8(index_tuple_size(r->at)));
    if (r->bad || out->len < V15_INDEX_TUPLE_BYTES || out->len > most)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a split record with a tuple of %zu bytes", out->len);
    return LOCH_OK;
}

static LOCH_STATUS read_split(const struct redo_job *job, struct split *s)
{
    const uint8_t *main = job->record->main_data.data;
    struct loch_reader r;
    struct loch_slice newitem;
    struct item list;

    s->firstright = loch_get_u16(main + V15_XL_SPLIT_FIRSTRIGHT);
    s->newitem_number = loch_get_u16(main + V15_XL_SPLIT_NEWITEM);
    s->posting_offset = loch_get_u16(main + V15_XL_SPLIT_POSTING);
    loch_reader_init(&r, job->block->data);
    if (s->newitem_left || s->posting_offset != 0) {
        LOCH_TRY(next_tuple(&r, sizeof s->newitem, &newitem));
        memcpy(s->newitem, newitem.data, newitem.len);
        s->newitem_len = (uint32_t)newitem.len;
    }
    if (s->posting_offset != 0) {
        s->swap_number = s->newitem_number - 1;
        LOCH_TRY(index_tuple_find(job->page, s->swap_number, &list));
        memcpy(s->list, list.at, list.len);
        s->list_len = aligned8(index_tuple_size(list.at));
        if (s->list_len > list.len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a posting tuple of %u bytes in %u", s->list_len,
                             list.len);
        LOCH_TRY(posting_swap(s->list, list.len, s->newitem, s->posting_offset));
    }
    LOCH_TRY(next_tuple(&r, LOCH_PAGE_BYTES, &s->high_key));
    return loch_reader_finish(&r, "left page of a split");
}

/* The high key, then the items before firstright, with the new one and the changed list among them,
 * in their order. */
static LOCH_STATUS fill_left(const struct redo_job *job, const struct split *s, uint32_t first,
                             uint8_t *made)
{
    uint32_t to = 1, from = first;

    LOCH_TRY(btree_add(made, to++, s->high_key.data, (uint32_t)s->high_key.len));
    for (; from < s->firstright; from++) {
        struct item item;

        if (from == s->swap_number) {
            LOCH_TRY(btree_add(made, to++, s->list, s->list_len));
            continue;
        }
        if (s->newitem_left && from == s->newitem_number)
            LOCH_TRY(btree_add(made, to++, s->newitem, s->newitem_len));
        LOCH_TRY(item_find(job->page, from, V15_INDEX_TUPLE_BYTES, &item));
        LOCH_TRY(btree_add(made, to++, item.at, item.len));
    }
    if (s->newitem_left && from == s->newitem_number)
        LOCH_TRY(btree_add(made, to, s->newitem, s->newitem_len));
    return LOCH_OK;
}

static LOCH_STATUS split_left(const struct redo_job *job, bool newitem_left, uint32_t level,
                              uint32_t right)
{
    uint8_t made[LOCH_PAGE_BYTES], *opaque = NULL;
    struct split s = {.level = level, .newitem_left = newitem_left};

    LOCH_TRY(btree_opaque(job->page, &opaque));
    LOCH_TRY(read_split(job, &s));
    loch_page_init(made, V15_BT_OPAQUE_BYTES);
    memcpy(made + page_special(made), opaque, V15_BT_OPAQUE_BYTES);
    LOCH_TRY(fill_left(job, &s, btree_first_data(opaque), made));
    uint8_t *made_opaque = made + page_special(made);
    loch_put_u16(made_opaque + V15_BTPO_FLAGS,
                 (uint16_t)(V15_BTP_INCOMPLETE_SPLIT | (level == 0 ? V15_BTP_LEAF : 0)));
    loch_put_u32(made_opaque + V15_BTPO_NEXT, right);
    loch_put_u16(made_opaque + V15_BTPO_CYCLEID, 0);
    memcpy(job->page, made, sizeof made);
    return LOCH_OK;
}

static LOCH_STATUS set_prev(const struct redo_job *job, uint32_t prev)
{
    uint8_t *opaque = NULL;

    LOCH_TRY(btree_opaque(job->page, &opaque));
    loch_put_u32(opaque + V15_BTPO_PREV, prev);
    return LOCH_OK;
}

LOCH_STATUS btree_split(const struct redo_job *job, bool newitem_left)
{
    const struct loch_wal_block *left = loch_wal_record_block(job->record, 0);
    const struct loch_wal_block *right = loch_wal_record_block(job->record, 1);
    const struct loch_wal_block *behind = loch_wal_record_block(job->record, 2);

    LOCH_TRY(redo_need_main(job, V15_XL_SPLIT_BYTES));
    if (left == NULL || right == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a split record without its pages");
    uint32_t level = loch_get_u32(job->record->main_data.data + V15_XL_SPLIT_LEVEL);
    if (job->block == left) {
        LOCH_TRY(split_left(job, newitem_left, level, right->block));
    } else if (job->block == right) {
        const struct btree_opaque opaque = {.prev = left->block,
                                            .next = behind != NULL ? behind->block : 0,
                                            .level = level,
                                            .flags = level == 0 ? V15_BTP_LEAF : 0};
        btree_page_init(job->page, &opaque);
        LOCH_TRY(btree_restore_items(job->page, job->block->data));
    } else {
        LOCH_TRY(set_prev(job, right->block));
    }
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* ---- new roots ---- */

LOCH_STATUS btree_newroot(const struct redo_job *job)
{
    struct btree_opaque opaque = {.flags = V15_BTP_ROOT};

    LOCH_TRY(redo_need_main(job, V15_XL_NEWROOT_BYTES));
    opaque.level = loch_get_u32(job->record->main_data.data + V15_XL_NEWROOT_LEVEL);
    if (opaque.level == 0)
        opaque.flags |= V15_BTP_LEAF;
    btree_page_init(job->page, &opaque);
    if (opaque.level > 0)
        LOCH_TRY(btree_restore_items(job->page, job->block->data));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* ---- pages that go ---- */

/* A half-dead leaf: no items but a high key that names the topmost page to go with it. */
static LOCH_STATUS make_halfdead(uint8_t *page, uint32_t prev, uint32_t next, uint32_t top_parent)
{
    const struct btree_opaque opaque = {
        .prev = prev, .next = next, .flags = V15_BTP_HALF_DEAD | V15_BTP_LEAF};
    uint8_t tuple[V15_INDEX_TUPLE_BYTES] = {0};

    btree_page_init(page, &opaque);
    index_tuple_set_block(tuple, top_parent);
    loch_put_u16(tuple + V15_IT_INFO, V15_INDEX_TUPLE_BYTES | V15_INDEX_ALT_TID_MASK);
    return btree_add(page, 1, tuple, sizeof tuple);
}

/* The parent's downlink takes over the right sibling; the sibling's own goes. */
static LOCH_STATUS move_downlink(const struct redo_job *job, uint32_t number)
{
    struct item item, next;
    uint8_t after[2];

    LOCH_TRY(index_tuple_find(job->page, number + 1, &next));
    LOCH_TRY(index_tuple_find(job->page, number, &item));
    index_tuple_set_block(item.at, index_tuple_block(next.at));
    loch_put_u16(after, (uint16_t)(number + 1));
    return items_delete(job->page, after, 1);
}

LOCH_STATUS btree_mark_halfdead(const struct redo_job *job)
{
    const uint8_t *main = job->record->main_data.data;

    LOCH_TRY(redo_need_main(job, V15_XL_HALFDEAD_BYTES));
    if (job->block->id == 0)
        LOCH_TRY(make_halfdead(job->page, loch_get_u32(main + V15_XL_HALFDEAD_LEFT),
                               loch_get_u32(main + V15_XL_HALFDEAD_RIGHT),
                               loch_get_u32(main + V15_XL_HALFDEAD_TOPPARENT)));
    else
        LOCH_TRY(move_downlink(job, loch_get_u16(main + V15_XL_HALFDEAD_POFFSET)));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

/* A deleted page: a tombstone with the transaction id from which on it may be used again. */
static void make_deleted(const struct redo_job *job, const uint8_t *main)
{
    uint32_t level = loch_get_u32(main + V15_XL_UNLINK_LEVEL);
    const struct btree_opaque opaque = {.prev = loch_get_u32(main + V15_XL_UNLINK_LEFT),
                                        .next = loch_get_u32(main + V15_XL_UNLINK_RIGHT),
                                        .level = level,
                                        .flags = V15_BTP_DELETED | V15_BTP_HAS_FULLXID |
                                                 (level == 0 ? V15_BTP_LEAF : 0)};

    btree_page_init(job->page, &opaque);
    memcpy(job->page + LOCH_PG_PAGE_HEADER_BYTES, main + V15_XL_UNLINK_SAFEXID,
           V15_BT_DELETED_XID_BYTES);
    page_set_bounds(job->page, LOCH_PG_PAGE_HEADER_BYTES + V15_BT_DELETED_XID_BYTES,
                    page_upper(job->page));
}

LOCH_STATUS btree_unlink(const struct redo_job *job)
{
    const uint8_t *main = job->record->main_data.data;
    uint8_t *opaque = NULL;

    LOCH_TRY(redo_need_main(job, V15_XL_UNLINK_BYTES));
    switch (job->block->id) {
    case 0:
        make_deleted(job, main);
        break;
    case 1:
        LOCH_TRY(btree_opaque(job->page, &opaque));
        loch_put_u32(opaque + V15_BTPO_NEXT, loch_get_u32(main + V15_XL_UNLINK_RIGHT));
        break;
    case 2:
        LOCH_TRY(set_prev(job, loch_get_u32(main + V15_XL_UNLINK_LEFT)));
        break;
    default: /* 3 */
        LOCH_TRY(make_halfdead(job->page, loch_get_u32(main + V15_XL_UNLINK_LEAFLEFT),
                               loch_get_u32(main + V15_XL_UNLINK_LEAFRIGHT),
                               loch_get_u32(main + V15_XL_UNLINK_TOPPARENT)));
        break;
    }
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}
