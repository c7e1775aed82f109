/* A heap tuple's header, and how redo changes it. Source: access/htup_details.h, heapam.c. */
#ifndef LOCH_REDO_HEAP_TUPLE_H
#define LOCH_REDO_HEAP_TUPLE_H

#include "items.h"

static inline void field16_change(uint8_t *at, uint32_t clear, uint32_t set)
{
    loch_put_u16(at, (uint16_t)((loch_get_u16(at) & ~clear) | set));
}

/* The tuple at a line pointer in normal use. LOCH_E_CORRUPT when there is none. */
LOCH_STATUS heap_tuple_find(uint8_t *page, uint32_t number, struct item *out);

/* t_ctid: the block number's halves, high first, and the item's number. */
static inline void heap_tuple_set_ctid(uint8_t *tuple, uint32_t block, uint32_t number)
{
    loch_put_u16(tuple + V15_T_CTID, (uint16_t)(block >> 16));
    loch_put_u16(tuple + V15_T_CTID + 2, (uint16_t)block);
    loch_put_u16(tuple + V15_T_CTID + 4, (uint16_t)number);
}

/* t_cid becomes 0, and no combo cid. */
static inline void heap_tuple_clear_cid(uint8_t *tuple)
{
    loch_put_u32(tuple + V15_T_CID, 0);
    field16_change(tuple + V15_T_INFOMASK, V15_HEAP_COMBOCID, 0);
}

/* Who holds or deleted the tuple: xmax' bits replaced by the record's infobits. */
void heap_tuple_set_xmax_bits(uint8_t *tuple, uint32_t infobits);

/* Lowers pd_prune_xid to xid (PageSetPrunable). */
void heap_page_set_prunable(uint8_t *page, uint32_t xid);

static inline void heap_page_clear_all_visible(uint8_t *page)
{
    page_change_flags(page, V15_PD_ALL_VISIBLE, 0);
}

/* The fresh tuple of an insert: header out of xl_heap_header (`header`, 5 bytes), then `body`. */
struct heap_new_tuple {
    const uint8_t *header;
    const uint8_t *body;
    uint32_t body_len;
    uint32_t xmin, xmax;
    uint32_t block, ctid_number; /* t_ctid */
};

/* Writes the 23 bytes of a new tuple's header. */
void heap_tuple_write_header(uint8_t *tuple, const struct heap_new_tuple *t);
/* Places the new tuple at line pointer `number`, which is unused or the next. */
LOCH_STATUS heap_tuple_add(uint8_t *page, uint32_t number, const struct heap_new_tuple *t);
/* Room for a new tuple of `len` bytes at line pointer `number`, which is unused or the next. */
LOCH_STATUS heap_tuple_place(uint8_t *page, uint32_t number, uint32_t len, uint8_t **at);

#endif
