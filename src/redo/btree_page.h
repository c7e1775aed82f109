/* Btree pages and index tuples, plain and with posting lists. Source: access/nbtree.h, itup.h. */
#ifndef LOCH_REDO_BTREE_PAGE_H
#define LOCH_REDO_BTREE_PAGE_H

#include "items.h"
#include "room.h"

/* ---- pages ---- */

/* The 16 bytes at the end of every btree page. LOCH_E_CORRUPT when its special space is not that.
 */
LOCH_STATUS btree_opaque(uint8_t *page, uint8_t **out);

/* What stands in the opaque bytes of a page made by redo; the cycle id is 0. */
struct btree_opaque {
    uint32_t prev, next, level, flags;
};

/* An empty btree page. */
void btree_page_init(uint8_t *page, const struct btree_opaque *opaque);

static inline void btree_change_flags(uint8_t *opaque, uint32_t clear, uint32_t set)
{
    uint32_t flags = loch_get_u16(opaque + V15_BTPO_FLAGS);
    loch_put_u16(opaque + V15_BTPO_FLAGS, (uint16_t)((flags & ~clear) | set));
}

/* The first item that is no high key: only a rightmost page has none. */
static inline uint32_t btree_first_data(const uint8_t *opaque)
{
    return loch_get_u32(opaque + V15_BTPO_NEXT) == 0 ? 1 : 2;
}

/* Places a copy of the item at line pointer `number`, those from there on moving up. */
LOCH_STATUS btree_add(uint8_t *page, uint32_t number, const uint8_t *tuple, uint32_t len);
/* Tuples as a split or a new root logs them, last item first, on an empty page. */
LOCH_STATUS btree_restore_items(uint8_t *page, struct loch_slice data);
/* The metapage of xl_btree_metadata. */
LOCH_STATUS btree_restore_meta(const struct redo_job *job);

/* ---- tuples ---- */

static inline uint32_t index_tuple_size(const uint8_t *tuple)
{
    return loch_get_u16(tuple + V15_IT_INFO) & V15_INDEX_SIZE_MASK;
}

/* The block number in t_tid: of the heap, a downlink, a top parent. */
static inline uint32_t index_tuple_block(const uint8_t *tuple)
{
    return (uint32_t)loch_get_u16(tuple + V15_IT_TID_BLOCK) << 16 |
           loch_get_u16(tuple + V15_IT_TID_BLOCK + 2);
}

static inline void index_tuple_set_block(uint8_t *tuple, uint32_t block)
{
    loch_put_u16(tuple + V15_IT_TID_BLOCK, (uint16_t)(block >> 16));
    loch_put_u16(tuple + V15_IT_TID_BLOCK + 2, (uint16_t)block);
}

/* A tuple's heap tids: one in a plain tuple, a list behind the key in a posting tuple. */
struct posting {
    const uint8_t *tids;
    uint32_t count;
    uint32_t key_len; /* of the tuple without its list */
    bool is_list;
};

/* The item at `number` as an index tuple with storage for all its size says. LOCH_E_CORRUPT. */
LOCH_STATUS index_tuple_find(uint8_t *page, uint32_t number, struct item *out);
/* LOCH_E_CORRUPT when the list does not lie within the tuple's len bytes. */
LOCH_STATUS posting_read(const uint8_t *tuple, uint32_t len, struct posting *out);
/* Writes key and tids (count >= 1, 6 bytes each) as a tuple, a posting tuple when count > 1; at
 * most `room` bytes. `tids` may not overlap `out`. *len: its size. LOCH_E_CORRUPT: too large. */
LOCH_STATUS posting_form(uint8_t *out, uint32_t room, const uint8_t *key, uint32_t key_len,
                         const uint8_t *tids, uint32_t count, uint32_t *len);

#define TUPLE_ROOM LOCH_PAGE_BYTES

/* A posting list that a new tuple falls into, at `offset`: `list` (a posting tuple of list_len
 * bytes, changed in place) takes the new tuple's tid in, and `tuple` (changed too) gets the list's
 * last tid. */
LOCH_STATUS posting_swap(uint8_t *list, uint32_t list_len, uint8_t *tuple, uint32_t offset);

/* ---- records, by file ---- */

LOCH_STATUS btree_insert(const struct redo_job *job, bool posting);
LOCH_STATUS btree_dedup(const struct redo_job *job);
LOCH_STATUS btree_vacuum(const struct redo_job *job);
LOCH_STATUS btree_delete(const struct redo_job *job);
/* References 0, 1 and 2 of a split: left, right, and the page behind. */
LOCH_STATUS btree_split(const struct redo_job *job, bool newitem_left);
LOCH_STATUS btree_mark_halfdead(const struct redo_job *job);
LOCH_STATUS btree_unlink(const struct redo_job *job);
LOCH_STATUS btree_newroot(const struct redo_job *job);

#endif
