/* Holds: deduplication, and the deletion of tuples and of heap tids in posting lists. Source:
 * nbtdedup.c, btree_xlog_dedup, btree_xlog_updates, btree_xlog_vacuum and btree_xlog_delete in
 * nbtxlog.c (15). */
#include "btree_page.h"

#include <string.h>

/* ---- deduplication ---- */

/* Tuples gathered for one posting list; alone, the first stays as it is. */
struct pending {
    const uint8_t *base;
    uint32_t base_len, key_len;
    uint32_t number; /* of the base on the old page */
    uint32_t items;
    uint32_t tid_count;
    uint8_t tids[V15_BT_MAX_ITEM_BYTES];
};

/* The page as it was, and the one that is made of it. */
struct dedup {
    uint8_t *from, *to;
    const uint8_t *intervals; /* pairs of u16: the base's number, how many items */
    uint32_t interval_count, interval;
    struct pending pending;
};

/* False when the list would become too long. */
static LOCH_STATUS take_tids(struct pending *p, const struct posting *posting, bool *taken)
{
    uint32_t bytes = (p->tid_count + posting->count) * V15_TID_BYTES;

    if (bytes > sizeof p->tids)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%u heap tids in one tuple", bytes / V15_TID_BYTES);
    *taken = aligned8(p->key_len + bytes) <= V15_BT_MAX_ITEM_BYTES;
    if (!*taken)
        return LOCH_OK;
    memcpy(p->tids + (size_t)p->tid_count * V15_TID_BYTES, posting->tids,
           (size_t)posting->count * V15_TID_BYTES);
    p->tid_count += posting->count;
    p->items++;
    return LOCH_OK;
}

static LOCH_STATUS start_pending(struct dedup *d, const struct item *tuple, uint32_t number)
{
    struct pending *p = &d->pending;
    struct posting posting;

    LOCH_TRY(posting_read(tuple->at, tuple->len, &posting));
    uint32_t bytes = posting.count * V15_TID_BYTES;
    if (bytes > sizeof p->tids)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%u heap tids in one tuple", posting.count);
    p->base = tuple->at;
    p->base_len = index_tuple_size(tuple->at);
    p->key_len = posting.key_len;
    p->number = number;
    p->items = 1;
    p->tid_count = posting.count;
    memcpy(p->tids, posting.tids, bytes);
    return LOCH_OK;
}

static LOCH_STATUS finish_pending(struct dedup *d)
{
    uint8_t tuple[V15_BT_MAX_ITEM_BYTES];
    struct pending *p = &d->pending;
    uint32_t next = items_count(d->to) + 1, len = 0;

    if (p->items == 1)
        return btree_add(d->to, next, p->base, p->base_len);
    LOCH_TRY(posting_form(tuple, sizeof tuple, p->base, p->key_len, p->tids, p->tid_count, &len));
    d->interval++;
    return btree_add(d->to, next, tuple, len);
}

/* Whether the record has the next tuple join the pending one. */
static bool joins(const struct dedup *d)
{
    if (d->interval >= d->interval_count)
        return false;
    const uint8_t *at = d->intervals + (size_t)d->interval * V15_XL_DEDUP_INTERVAL_BYTES;
    return loch_get_u16(at) == d->pending.number && d->pending.items < loch_get_u16(at + 2);
}

static LOCH_STATUS dedup_items(struct dedup *d, uint32_t first)
{
    uint32_t count = items_count(d->from);

    for (uint32_t number = first; number <= count; number++) {
        struct item tuple;

        LOCH_TRY(index_tuple_find(d->from, number, &tuple));
        if (number > first && joins(d)) {
            struct posting posting;
            bool taken = false;

            LOCH_TRY(posting_read(tuple.at, tuple.len, &posting));
            LOCH_TRY(take_tids(&d->pending, &posting, &taken));
            if (!taken)
                return LOCH_FAIL(LOCH_E_CORRUPT, "a posting list grows beyond a tuple's size");
            continue;
        }
        if (number > first)
            LOCH_TRY(finish_pending(d));
        LOCH_TRY(start_pending(d, &tuple, number));
    }
    return count >= first ? finish_pending(d) : LOCH_OK;
}

LOCH_STATUS btree_dedup(const struct redo_job *job)
{
    uint8_t made[LOCH_PAGE_BYTES], *opaque = NULL;
    struct dedup d = {.from = job->page, .to = made, .intervals = job->block->data.data};

    LOCH_TRY(redo_need_main(job, V15_XL_DEDUP_BYTES));
    d.interval_count = loch_get_u16(job->record->main_data.data);
    LOCH_TRY(redo_need_data(job, (size_t)d.interval_count * V15_XL_DEDUP_INTERVAL_BYTES));
    LOCH_TRY(btree_opaque(job->page, &opaque));
    loch_page_init(made, V15_BT_OPAQUE_BYTES);
    memcpy(made + page_special(made), opaque, V15_BT_OPAQUE_BYTES);
    uint32_t first = btree_first_data(opaque);
    if (first == 2) {
        struct item high_key;
        LOCH_TRY(item_find(job->page, 1, V15_INDEX_TUPLE_BYTES, &high_key));
        LOCH_TRY(btree_add(made, 1, high_key.at, high_key.len));
    }
    LOCH_TRY(dedup_items(&d, first));
    btree_change_flags(made + page_special(made), V15_BTP_HAS_GARBAGE, 0);
    loch_page_set_lsn(made, job->end);
    memcpy(job->page, made, sizeof made);
    return LOCH_OK;
}

/* ---- deletion ---- */

/* The posting tuple at `number` without the tids whose places are given, in order. */
static LOCH_STATUS update_posting(uint8_t *page, uint32_t number, const uint8_t *places,
                                  uint32_t place_count)
{
    uint8_t tids[LOCH_PAGE_BYTES], tuple[LOCH_PAGE_BYTES];
    struct posting posting;
    struct item item;
    uint32_t kept = 0, gone = 0, len = 0;

    LOCH_TRY(index_tuple_find(page, number, &item));
    LOCH_TRY(posting_read(item.at, item.len, &posting));
    for (uint32_t i = 0; i < posting.count; i++) {
        if (gone < place_count && loch_get_u16(places + (size_t)gone * 2) == i) {
            gone++;
            continue;
        }
        memcpy(tids + (size_t)kept * V15_TID_BYTES, posting.tids + (size_t)i * V15_TID_BYTES,
               V15_TID_BYTES);
        kept++;
    }
    if (!posting.is_list || gone != place_count || kept == 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%u of %u heap tids are deleted from item %u", place_count,
                         posting.count, number);
    LOCH_TRY(posting_form(tuple, sizeof tuple, item.at, posting.key_len, tids, kept, &len));
    return item_overwrite(page, number, tuple, aligned8(len));
}

/* Numbers of the items to delete, numbers of those to update, then for each of these u16 how many
 * and the places in its list. */
static LOCH_STATUS delete_items(const struct redo_job *job, uint32_t deleted, uint32_t updated)
{
    struct loch_reader r;

    loch_reader_init(&r, job->block->data);
    struct loch_slice deletions = loch_read_bytes(&r, (size_t)deleted * 2);
    struct loch_slice updates = loch_read_bytes(&r, (size_t)updated * 2);
    for (uint32_t i = 0; i < updated && !r.bad; i++) {
        uint32_t count = loch_read_u16(&r);
        struct loch_slice places = loch_read_bytes(&r, (size_t)count * 2);

        if (!r.bad)
            LOCH_TRY(update_posting(job->page, loch_get_u16(updates.data + (size_t)i * 2),
                                    places.data, count));
    }
    if (r.bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a deletion of %u and %u items has %zu bytes", deleted,
                         updated, job->block->data.len);
    return deleted > 0 ? items_delete(job->page, deletions.data, deleted) : LOCH_OK;
}

/* The cycle id stays: VACUUM clears it when it runs, but not in redo. */
static LOCH_STATUS delete_from_leaf(const struct redo_job *job, uint32_t main_len)
{
    uint8_t *opaque = NULL;

    LOCH_TRY(redo_need_main(job, main_len));
    LOCH_TRY(btree_opaque(job->page, &opaque));
    const uint8_t *counts = job->record->main_data.data + main_len - 4;
    LOCH_TRY(delete_items(job, loch_get_u16(counts), loch_get_u16(counts + 2)));
    btree_change_flags(opaque, V15_BTP_HAS_GARBAGE, 0);
    loch_page_set_lsn(job->page, job->end);
    return LOCH_OK;
}

LOCH_STATUS btree_vacuum(const struct redo_job *job)
{
    return delete_from_leaf(job, V15_XL_BTREE_VACUUM_BYTES);
}

LOCH_STATUS btree_delete(const struct redo_job *job)
{
    return delete_from_leaf(job, V15_XL_BTREE_DELETE_BYTES);
}
