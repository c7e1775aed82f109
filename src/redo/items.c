/* Holds: finding, placing, replacing, deleting and compacting items. Source: bufpage.c
 * (PageAddItemExtended, compactify_tuples, PageIndexTupleDelete, PageIndexMultiDelete,
 * PageIndexTupleOverwrite). The result of a compaction depends on the line pointers' order alone,
 * so it is the same bytes that the server gets. */
#include "items.h"

#include <string.h>

LOCH_STATUS item_find(uint8_t *page, uint32_t number, uint32_t least, struct item *out)
{
    if (number < 1 || number > items_count(page))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the page has no item %u", number);
    uint32_t id = item_id(page, number);
    uint32_t offset = item_id_offset(id), len = item_id_len(id);
    if (len < least || offset < page_upper(page) || offset + len > page_special(page))
        return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page has %u bytes at %u", number, len,
                         offset);
    *out = (struct item){.at = page + offset, .len = len, .flags = item_id_flags(id)};
    return LOCH_OK;
}

LOCH_STATUS item_place(uint8_t *page, uint32_t number, uint32_t len, bool reuse, uint8_t **at)
{
    uint32_t lower = page_lower(page), upper = page_upper(page);
    uint32_t limit = items_count(page) + 1;
    bool fresh = number == limit;

    if (number < 1 || number > limit)
        return LOCH_FAIL(LOCH_E_CORRUPT, "item %u is placed on a page of %u", number, limit - 1);
    if (!fresh && reuse) {
        uint32_t id = item_id(page, number);
        if (item_id_flags(id) != V15_LP_UNUSED || item_id_len(id) != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page is in use", number);
    }
    if (fresh || !reuse)
        lower += ITEM_ID_BYTES;
    if (len > LOCH_PAGE_BYTES || lower + aligned8(len) > upper)
        return LOCH_FAIL(LOCH_E_CORRUPT, "no room on the page for an item of %u bytes", len);
    upper -= aligned8(len);
    uint8_t *id_at = item_id_at(page, number);
    if (!fresh && !reuse)
        memmove(id_at + ITEM_ID_BYTES, id_at, (size_t)(limit - number) * ITEM_ID_BYTES);
    loch_put_u32(id_at, item_id_make(upper, V15_LP_NORMAL, len));
    page_set_bounds(page, lower, upper);
    *at = page + upper;
    return LOCH_OK;
}

LOCH_STATUS items_compact(uint8_t *page)
{
    uint8_t before[LOCH_PAGE_BYTES];
    uint32_t count = items_count(page), lower = page_lower(page), upper = page_upper(page);
    uint32_t special = page_special(page), to = special;

    memcpy(before + upper, page + upper, special - upper);
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t id = item_id(page, i), offset = item_id_offset(id);
        uint32_t len = aligned8(item_id_len(id));

        if (len == 0)
            continue;
        if (offset < upper || offset + len > special || len > to - lower)
            return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page has %u bytes at %u", i,
                             item_id_len(id), offset);
        to -= len;
        if (offset == to)
            continue;
        memcpy(page + to, before + offset, len);
        loch_put_u32(item_id_at(page, i), item_id_make(to, item_id_flags(id), item_id_len(id)));
    }
    page_set_bounds(page, lower, to);
    return LOCH_OK;
}

/* Moves the bytes from pd_upper up to `offset` by `by` bytes towards the end (or back, when
 * negative), with the line pointers of all items that begin at or before it. */
static void shift_items(uint8_t *page, uint32_t offset, int32_t by)
{
    uint32_t upper = page_upper(page), count = items_count(page);

    memmove(page + (int32_t)upper + by, page + upper, offset - upper);
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t id = item_id(page, i), at = item_id_offset(id);
        if (item_id_len(id) != 0 && at <= offset)
            loch_put_u32(item_id_at(page, i), item_id_make((uint32_t)((int32_t)at + by) & 0x7FFFu,
                                                           item_id_flags(id), item_id_len(id)));
    }
    page_set_bounds(page, page_lower(page), (uint32_t)((int32_t)upper + by));
}

/* The item and its aligned length, both within the tuple area. */
static LOCH_STATUS find_aligned(uint8_t *page, uint32_t number, struct item *out, uint32_t *len)
{
    struct item item;

    LOCH_TRY(item_find(page, number, 1, &item));
    uint32_t aligned = aligned8(item.len), offset = (uint32_t)(item.at - page);
    if (offset % 8 != 0 || offset + aligned > page_special(page))
        return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page has %u bytes at %u", number, item.len,
                         offset);
    *out = item;
    *len = aligned;
    return LOCH_OK;
}

static LOCH_STATUS delete_one(uint8_t *page, uint32_t number)
{
    struct item item;
    uint32_t len = 0, lower = page_lower(page);

    LOCH_TRY(find_aligned(page, number, &item, &len));
    uint8_t *id_at = item_id_at(page, number);
    memmove(id_at, id_at + ITEM_ID_BYTES, (size_t)(page + lower - id_at) - ITEM_ID_BYTES);
    page_set_bounds(page, lower - ITEM_ID_BYTES, page_upper(page));
    shift_items(page, (uint32_t)(item.at - page), (int32_t)len);
    return LOCH_OK;
}

LOCH_STATUS items_delete(uint8_t *page, const uint8_t *numbers, uint32_t count)
{
    uint32_t total = items_count(page), kept = 0, gone = 0;

    if (count <= 2) {
        while (count-- > 0)
            LOCH_TRY(delete_one(page, loch_get_u16(numbers + (size_t)count * 2)));
        return LOCH_OK;
    }
    for (uint32_t i = 1; i <= total; i++) {
        struct item item;
        uint32_t len = 0;

        LOCH_TRY(find_aligned(page, i, &item, &len));
        if (gone < count && loch_get_u16(numbers + (size_t)gone * 2) == i) {
            gone++;
            continue;
        }
        kept++;
        loch_put_u32(item_id_at(page, kept), item_id(page, i));
    }
    if (gone != count)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%u of %u items to delete are on the page", gone, count);
    page_set_bounds(page, LOCH_PG_PAGE_HEADER_BYTES + kept * ITEM_ID_BYTES, page_upper(page));
    return items_compact(page);
}

LOCH_STATUS item_overwrite(uint8_t *page, uint32_t number, const uint8_t *bytes, uint32_t len)
{
    struct item item;
    uint32_t before = 0, after = aligned8(len);

    LOCH_TRY(find_aligned(page, number, &item, &before));
    if (len > LOCH_PAGE_BYTES || after > before + (page_upper(page) - page_lower(page)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "no room on the page for an item of %u bytes", len);
    int32_t by = (int32_t)before - (int32_t)after;
    uint32_t offset = (uint32_t)(item.at - page);
    if (by != 0)
        shift_items(page, offset, by);
    offset = (uint32_t)((int32_t)offset + by);
    loch_put_u32(item_id_at(page, number), item_id_make(offset, item.flags, len));
    memcpy(page + offset, bytes, len);
    return LOCH_OK;
}
