/* Holds: btree pages made and filled; index tuples and posting lists read, formed, swapped.
 * Source: _bt_pageinit, _bt_restore_page, _bt_restore_meta, _bt_form_posting, _bt_swap_posting. */
#include "btree_page.h"

#include <string.h>

LOCH_STATUS btree_opaque(uint8_t *page, uint8_t **out)
{
    uint32_t special = page_special(page);

    if (special != LOCH_PAGE_BYTES - V15_BT_OPAQUE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a btree page's special space begins at %u", special);
    *out = page + special;
    return LOCH_OK;
}

void btree_page_init(uint8_t *page, const struct btree_opaque *opaque)
{
    uint8_t *at = page + LOCH_PAGE_BYTES - V15_BT_OPAQUE_BYTES;

    loch_page_init(page, V15_BT_OPAQUE_BYTES);
    loch_put_u32(at + V15_BTPO_PREV, opaque->prev);
    loch_put_u32(at + V15_BTPO_NEXT, opaque->next);
    loch_put_u32(at + V15_BTPO_LEVEL, opaque->level);
    loch_put_u16(at + V15_BTPO_FLAGS, (uint16_t)opaque->flags);
}

LOCH_STATUS btree_add(uint8_t *page, uint32_t number, const uint8_t *tuple, uint32_t len)
{
    uint8_t *at = NULL;

    LOCH_TRY(item_place(page, number, len, false, &at));
    memcpy(at, tuple, len);
    return LOCH_OK;
}

LOCH_STATUS btree_restore_items(uint8_t *page, struct loch_slice data)
{
    uint16_t starts[V15_INDEX_TUPLES_MAX + 1];
    uint32_t count = 0, at = 0;

    if (data.len > LOCH_PAGE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%zu bytes of tuples for one page", data.len);
    while (at < data.len) {
        if (count == V15_INDEX_TUPLES_MAX || data.len - at < V15_INDEX_TUPLE_BYTES)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a row of index tuples ends within one");
        uint32_t len = aligned8(index_tuple_size(data.data + at));
        if (len < V15_INDEX_TUPLE_BYTES || len > data.len - at)
            return LOCH_FAIL(LOCH_E_CORRUPT, "an index tuple of %u bytes", len);
        starts[count++] = (uint16_t)at;
        at += len;
    }
    starts[count] = (uint16_t)at;
    for (uint32_t i = count; i-- > 0;)
        LOCH_TRY(btree_add(page, count - i, data.data + starts[i],
                           (uint32_t)(starts[i + 1] - starts[i])));
    return LOCH_OK;
}

LOCH_STATUS btree_restore_meta(const struct redo_job *job)
{
    static const struct btree_opaque opaque = {.flags = V15_BTP_META};
    const uint8_t *from = job->block->data.data;
    uint8_t *to = job->page + LOCH_PG_PAGE_HEADER_BYTES;
    static const double unknown = -1.0;

    LOCH_TRY(redo_need_data(job, V15_XL_META_BYTES));
    btree_page_init(job->page, &opaque);
    loch_put_u32(to, V15_BTREE_MAGIC);
    memcpy(to + V15_BTM_VERSION, from + V15_XL_META_VERSION, V15_BTM_SAME_BYTES);
    memcpy(to + V15_BTM_HEAP_TUPLES, &unknown, sizeof unknown);
    to[V15_BTM_ALLEQUAL] = from[V15_XL_META_ALLEQUAL];
    page_set_bounds(job->page, LOCH_PG_PAGE_HEADER_BYTES + V15_BTM_BYTES, page_upper(job->page));
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

LOCH_STATUS index_tuple_find(uint8_t *page, uint32_t number, struct item *out)
{
    struct item item;

    LOCH_TRY(item_find(page, number, V15_INDEX_TUPLE_BYTES, &item));
    uint32_t size = index_tuple_size(item.at);
    if (size < V15_INDEX_TUPLE_BYTES || size > item.len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page holds a tuple of %u bytes in %u",
                         number, size, item.len);
    *out = item;
    return LOCH_OK;
}

LOCH_STATUS posting_read(const uint8_t *tuple, uint32_t len, struct posting *out)
{
    uint32_t number = loch_get_u16(tuple + V15_IT_TID_NUMBER);
    struct posting p = {.tids = tuple, .count = 1, .key_len = index_tuple_size(tuple)};

    p.is_list = (loch_get_u16(tuple + V15_IT_INFO) & V15_INDEX_ALT_TID_MASK) != 0 &&
                (number & V15_BT_IS_POSTING) != 0;
    if (p.is_list) {
        p.count = number & V15_BT_OFFSET_MASK;
        p.key_len = index_tuple_block(tuple);
        if (p.key_len < V15_INDEX_TUPLE_BYTES || p.key_len > len || p.count == 0 ||
            p.count > (len - p.key_len) / V15_TID_BYTES)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a posting list of %u at %u in a tuple of %u bytes",
                             p.count, p.key_len, len);
        p.tids = tuple + p.key_len;
    }
    *out = p;
    return LOCH_OK;
}

LOCH_STATUS posting_form(uint8_t *out, uint32_t room, const uint8_t *key, uint32_t key_len,
                         const uint8_t *tids, uint32_t count, uint32_t *len)
{
    uint32_t size = count > 1 ? aligned8(key_len + count * V15_TID_BYTES) : key_len;

    if (key_len < V15_INDEX_TUPLE_BYTES || size > room || size > V15_INDEX_SIZE_MASK)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a tuple of %u bytes with %u heap tids", key_len, count);
    memset(out, 0, size);
    memcpy(out, key, key_len);
    uint32_t info = (loch_get_u16(out + V15_IT_INFO) & ~V15_INDEX_SIZE_MASK) | size;
    if (count > 1) {
        info |= V15_INDEX_ALT_TID_MASK;
        loch_put_u16(out + V15_IT_TID_NUMBER, (uint16_t)(count | V15_BT_IS_POSTING));
        index_tuple_set_block(out, key_len);
        memcpy(out + key_len, tids, (size_t)count * V15_TID_BYTES);
    } else {
        info &= ~V15_INDEX_ALT_TID_MASK;
        memcpy(out, tids, V15_TID_BYTES);
    }
    loch_put_u16(out + V15_IT_INFO, (uint16_t)info);
    *len = size;
    return LOCH_OK;
}

LOCH_STATUS posting_swap(uint8_t *list, uint32_t list_len, uint8_t *tuple, uint32_t offset)
{
    struct posting p;
    uint8_t last[V15_TID_BYTES];

    LOCH_TRY(posting_read(list, list_len, &p));
    if (!p.is_list || offset == 0 || offset >= p.count)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a posting list of %u is split at %u", p.count, offset);
    uint8_t *gap = list + p.key_len + (size_t)offset * V15_TID_BYTES;
    memcpy(last, list + p.key_len + (size_t)(p.count - 1) * V15_TID_BYTES, sizeof last);
    memmove(gap + V15_TID_BYTES, gap, (size_t)(p.count - offset - 1) * V15_TID_BYTES);
    memcpy(gap, tuple, V15_TID_BYTES);
    memcpy(tuple, last, sizeof last);
    return LOCH_OK;
}
