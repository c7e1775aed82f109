/* Line pointers and the items they point to, on pages of hostile origin.
 *
 * A page's header is in order when 24 <= pd_lower <= pd_upper <= pd_special <= 8192 and pd_special
 * is a multiple of 8. Every function wants that and keeps it. Items are numbered from 1. Source:
 * storage/itemid.h, storage/page/bufpage.c.
 */
#ifndef LOCH_REDO_ITEMS_H
#define LOCH_REDO_ITEMS_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/page.h"

#include "v15.h"

#include <stdbool.h>
#include <stdint.h>

#define ITEM_ID_BYTES 4u

struct item {
    uint8_t *at;
    uint32_t len;
    uint32_t flags; /* V15_LP_... */
};

static inline uint32_t page_lower(const uint8_t *page)
{
    return loch_get_u16(page + V15_PD_LOWER);
}

static inline uint32_t page_upper(const uint8_t *page)
{
    return loch_get_u16(page + V15_PD_UPPER);
}

static inline uint32_t page_special(const uint8_t *page)
{
    return loch_get_u16(page + V15_PD_SPECIAL);
}

static inline void page_set_bounds(uint8_t *page, uint32_t lower, uint32_t upper)
{
    loch_put_u16(page + V15_PD_LOWER, (uint16_t)lower);
    loch_put_u16(page + V15_PD_UPPER, (uint16_t)upper);
}

static inline void page_change_flags(uint8_t *page, uint32_t clear, uint32_t set)
{
    uint32_t flags = loch_get_u16(page + V15_PD_FLAGS);
    loch_put_u16(page + V15_PD_FLAGS, (uint16_t)((flags & ~clear) | set));
}

static inline uint32_t aligned8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

static inline uint32_t items_count(const uint8_t *page)
{
    return (page_lower(page) - LOCH_PG_PAGE_HEADER_BYTES) / ITEM_ID_BYTES;
}

/* A line pointer: 15 bits offset, 2 bits flags, 15 bits length. */
static inline uint32_t item_id_make(uint32_t offset, uint32_t flags, uint32_t len)
{
    return offset | flags << 15 | len << 17;
}

static inline uint32_t item_id_offset(uint32_t id)
{
    return id & 0x7FFFu;
}

static inline uint32_t item_id_flags(uint32_t id)
{
    return id >> 15 & 3u;
}

static inline uint32_t item_id_len(uint32_t id)
{
    return id >> 17;
}

/* 1 <= number <= items_count. */
static inline uint8_t *item_id_at(uint8_t *page, uint32_t number)
{
    return page + LOCH_PG_PAGE_HEADER_BYTES + (number - 1) * ITEM_ID_BYTES;
}

static inline uint32_t item_id(const uint8_t *page, uint32_t number)
{
    return loch_get_u32(page + LOCH_PG_PAGE_HEADER_BYTES + (number - 1) * ITEM_ID_BYTES);
}

/* The item of that number, with storage of at least `least` bytes between pd_upper and pd_special.
 * LOCH_E_CORRUPT when there is none. */
LOCH_STATUS item_find(uint8_t *page, uint32_t number, uint32_t least, struct item *out);

/* Makes room for an item of `len` bytes below pd_upper and a line pointer for it: a new one at the
 * end; or, when `number` is taken, with `reuse` an unused one, else by moving it and those behind
 * it up by one. *at: where the caller writes the item. LOCH_E_CORRUPT: no room, a gap before it, or
 * the line pointer is in use. */
LOCH_STATUS item_place(uint8_t *page, uint32_t number, uint32_t len, bool reuse, uint8_t **at);

/* Moves all items with storage up against pd_special, in the order of their line pointers, and sets
 * pd_upper. LOCH_E_CORRUPT: an item lies outside, or they do not fit. */
LOCH_STATUS items_compact(uint8_t *page);
/* Takes items (u16 numbers at `numbers`, ascending, each with storage) off the page, line pointers
 * and all; what is left moves together. As PageIndexMultiDelete: one or two items are taken out one
 * by one, which keeps the others' order on the page; more of them sort it. */
LOCH_STATUS items_delete(uint8_t *page, const uint8_t *numbers, uint32_t count);

/* Replaces the item's bytes (PageIndexTupleOverwrite): those before it on the page move by the
 * difference of the aligned lengths. LOCH_E_CORRUPT: no such item, or no room. */
LOCH_STATUS item_overwrite(uint8_t *page, uint32_t number, const uint8_t *bytes, uint32_t len);

#endif
