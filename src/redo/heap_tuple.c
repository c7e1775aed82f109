/* Holds: heap tuples found, marked, made. */
#include "heap_tuple.h"

#include <string.h>

LOCH_STATUS heap_tuple_find(uint8_t *page, uint32_t number, struct item *out)
{
    LOCH_TRY(item_find(page, number, V15_HEAP_TUPLE_BYTES, out));
    if (out->flags != V15_LP_NORMAL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "item %u of the page is no tuple", number);
    return LOCH_OK;
}

void heap_tuple_set_xmax_bits(uint8_t *tuple, uint32_t infobits)
{
    uint32_t mask = 0, mask2 = 0;

    if ((infobits & V15_XLHL_XMAX_IS_MULTI) != 0)
        mask |= V15_HEAP_XMAX_IS_MULTI;
    if ((infobits & V15_XLHL_XMAX_LOCK_ONLY) != 0)
        mask |= V15_HEAP_XMAX_LOCK_ONLY;
    if ((infobits & V15_XLHL_XMAX_EXCL_LOCK) != 0)
        mask |= V15_HEAP_XMAX_EXCL_LOCK;
    if ((infobits & V15_XLHL_XMAX_KEYSHR_LOCK) != 0)
        mask |= V15_HEAP_XMAX_KEYSHR_LOCK;
    if ((infobits & V15_XLHL_KEYS_UPDATED) != 0)
        mask2 |= V15_HEAP_KEYS_UPDATED;
    field16_change(tuple + V15_T_INFOMASK, V15_HEAP_XMAX_BITS | V15_HEAP_MOVED, mask);
    field16_change(tuple + V15_T_INFOMASK2, V15_HEAP_KEYS_UPDATED, mask2);
}

/* TransactionIdPrecedes: modulo 2^32 among normal ids. */
static bool xid_precedes(uint32_t a, uint32_t b)
{
    if (a < V15_FIRST_NORMAL_XID || b < V15_FIRST_NORMAL_XID)
        return a < b;
    return (int32_t)(a - b) < 0;
}

void heap_page_set_prunable(uint8_t *page, uint32_t xid)
{
    uint32_t now = loch_get_u32(page + V15_PD_PRUNE_XID);

    if (now == 0 || xid_precedes(xid, now))
        loch_put_u32(page + V15_PD_PRUNE_XID, xid);
}

void heap_tuple_write_header(uint8_t *tuple, const struct heap_new_tuple *t)
{
    loch_put_u32(tuple + V15_T_XMIN, t->xmin);
    loch_put_u32(tuple + V15_T_XMAX, t->xmax);
    heap_tuple_set_ctid(tuple, t->block, t->ctid_number);
    memcpy(tuple + V15_T_INFOMASK2, t->header + V15_XL_HEADER_INFOMASK2, 2);
    memcpy(tuple + V15_T_INFOMASK, t->header + V15_XL_HEADER_INFOMASK, 2);
    tuple[V15_T_HOFF] = t->header[V15_XL_HEADER_HOFF];
    heap_tuple_clear_cid(tuple);
}

LOCH_STATUS heap_tuple_place(uint8_t *page, uint32_t number, uint32_t len, uint8_t **at)
{
    if (number > V15_HEAP_TUPLES_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a tuple is inserted as item %u", number);
    return item_place(page, number, len, true, at);
}

LOCH_STATUS heap_tuple_add(uint8_t *page, uint32_t number, const struct heap_new_tuple *t)
{
    uint8_t *tuple = NULL;

    LOCH_TRY(heap_tuple_place(page, number, V15_HEAP_TUPLE_BYTES + t->body_len, &tuple));
    heap_tuple_write_header(tuple, t);
    if (t->body_len > 0)
        memcpy(tuple + V15_HEAP_TUPLE_BYTES, t->body, t->body_len);
    return LOCH_OK;
}
