/* Chains in memory. What a page's chain is in older layers is asked of their indexes once, when its
 * part in the open layer has used the room that flushes leave (LOCH_CHAIN_ROOM); from then on it is
 * counted. Most pages change a few times only, and are never asked about: such a look costs as much
 * as all else that is done with a record. */
#include "hot.h"

#include "mutation.h"
#include "pushdown.h"
#include "read/imager.h"
#include "read/view.h"
#include "timeline_impl.h"

static loch_status put_image(struct loch_timeline *t, const struct loch_imager *imager,
                             const struct loch_key *key, loch_lsn lsn)
{
    uint8_t page[LOCH_PAGE_BYTES];
    bool made = false;
    LOCH_TRY(imager->read(imager->arg, key, lsn, page, &made));
    if (!made)
        return LOCH_OK;
    return loch_timeline_put_value(t, key, lsn, loch_slice_of(page, sizeof page));
}

/* What the put was told is asked again: a put that names a page twice is told it twice. */
static loch_status look_below(struct loch_timeline *t, const struct loch_imager *imager,
                              const struct loch_key *key, struct loch_chain *chain)
{
    struct loch_chain below = {0};
    bool known = false;
    if (loch_mem_layer_chain(t->open, key, chain, &known) && known)
        return LOCH_OK;
    LOCH_TRY(imager->below(imager->arg, key, loch_mem_layer_start_lsn(t->open), &below));
    loch_mem_layer_add_chain(t->open, key, &below);
    (void)loch_mem_layer_chain(t->open, key, chain, &known);
    return LOCH_OK;
}

/* Flushes have left the page that room: it is in no layer that is not flushed yet, nor an
 * ancestor's, which is read at any LSN. */
static bool is_fresh(struct loch_timeline *t, const struct loch_key *key)
{
    loch_lsn last;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    struct loch_chain chain;
    bool known, there = false;
    for (size_t i = 1; i < set->mem_count && !there && !LOCH_STORE_MUTATED(FROZEN_FORGOTTEN); i++)
        there = loch_mem_layer_chain(set->mem[i], key, &chain, &known);
    loch_layer_set_release(set);
    return !there && loch_timeline_parent(t) == NULL;
}

/* Whether older layers need not be asked yet. What is there is older than the open layer: the
 * page's first change there decides. */
static bool has_room(struct loch_timeline *t, const struct loch_key *key,
                     const struct loch_chain *chain)
{
    return chain->records <= LOCH_CHAIN_ROOM(t->store.image_records_max) &&
           chain->bytes <= LOCH_CHAIN_ROOM(t->store.image_bytes_max) &&
           (chain->records > 1 || is_fresh(t, key));
}

LOCH_STATUS loch_timeline_bound_chain(struct loch_timeline *t, const struct loch_key *key,
                                      loch_lsn lsn, const struct loch_mem_chain *at)
{
    struct loch_chain chain = at->chain;
    const bool known = at->known;
    uint32_t most = t->store.image_records_max;
    uint64_t bytes = t->store.image_bytes_max;
    if (key->kind != LOCH_KEY_PAGE || t->store.no_memory_images ||
        LOCH_STORE_MUTATED(HOT_FORGOTTEN))
        return LOCH_OK;
    /* a page that could get no image is tried again now and then, not at every record */
    if (known && (!loch_image_wanted(chain.records, chain.bytes, most, bytes) ||
                  (chain.records > most + 1 && chain.records % most != 0)))
        return LOCH_OK;
    if (!known && has_room(t, key, &chain))
        return LOCH_OK;
    struct loch_view *view = NULL;
    struct loch_imager imager;
    LOCH_TRY(loch_view_create(t, &view));
    loch_imager_init(&imager, view, most, bytes);
    loch_status st = known ? LOCH_OK : look_below(t, &imager, key, &chain);
    if (loch_is_ok(st) && loch_image_wanted(chain.records, chain.bytes, most, bytes))
        st = put_image(t, &imager, key, lsn);
    loch_view_destroy(view);
    return st;
}
