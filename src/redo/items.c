/* Holds: finding, placing and compacting items. Source: bufpage.c (PageAddItemExtended,
 * compactify_tuples). The result of a compaction depends on the line pointers' order alone, so it
 * is the same bytes that the server gets. */
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
        memmove(id_at + ITEM_ID_BYTES, id_at, (limit - number) * ITEM_ID_BYTES);
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
