/* What is counted here without reading is what the layers' indexes say; an ancestor, whose newest
 * versions may lie above the branch point, is asked for the versions themselves. */
#include "imager.h"

#include "collect.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

static void count_versions(const struct loch_versions *list, struct loch_chain *out)
{
    uint64_t bytes = 0;
    *out = (struct loch_chain){0};
    for (size_t i = 0; i < list->count && list->items[i].kind != LOCH_VERSION_VALUE; i++) {
        out->records++;
        bytes += list->items[i].bytes.len;
    }
    out->bytes = (uint32_t)loch_min_u64(UINT32_MAX, bytes);
}

/* Versions of an ancestor that cannot be read now count as none: the bound is not worth that ingest
 * and flushes stop. Memory is a reason to stop. */
static loch_status count_ancestor(struct loch_view *view, const struct loch_key *key,
                                  struct loch_chain *out)
{
    struct loch_versions list = {0};
    bool base = false;
    /* whatever starts the layer: a merge with the first, of one LSN, begins one below */
    loch_lsn at = loch_timeline_info(view->timeline)->ancestor_lsn;
    loch_status st = loch_collect(view->parent, key, LOCH_LSN_NONE, at, &list, &base);
    if (loch_is_ok(st)) {
        count_versions(&list, out);
    } else if (st.code != LOCH_E_NO_MEMORY) {
        loch_log_failure("the chain of a page in an ancestor is not known; counted from here");
        st = LOCH_OK;
    }
    loch_versions_fini(&list);
    return st;
}

static void add_chain(struct loch_chain *out, const struct loch_chain *older)
{
    out->records = (uint32_t)loch_min_u64(UINT32_MAX, (uint64_t)out->records + older->records);
    out->bytes = (uint32_t)loch_min_u64(UINT32_MAX, (uint64_t)out->bytes + older->bytes);
}

/* Adds what files say, or else the ancestor. */
static loch_status below_memory(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                                struct loch_chain *out)
{
    const struct loch_layer_set *set = view->set;
    struct loch_chain chain = {0};
    bool found = false;
    for (size_t b = 0; b < set->band_count && !found; b++) {
        if (set->bands[b].end_lsn > lsn)
            continue;
        struct loch_layer *layer = loch_layer_set_find(set, b, key);
        found = layer != NULL && loch_layer_chain(layer, key, &chain);
    }
    if (!found && view->parent != NULL)
        LOCH_TRY(count_ancestor(view, key, &chain));
    add_chain(out, &chain);
    return LOCH_OK;
}

static loch_status below(void *arg, const struct loch_key *key, loch_lsn lsn,
                         struct loch_chain *out)
{
    struct loch_view *view = arg;
    const struct loch_layer_set *set = view->set;
    *out = (struct loch_chain){0};
    for (size_t i = 0; i < set->mem_count; i++) {
        struct loch_chain chain = {0};
        bool known = false;
        if (loch_mem_layer_end_lsn(set->mem[i]) > lsn ||
            !loch_mem_layer_chain(set->mem[i], key, &chain, &known))
            continue;
        add_chain(out, &chain);
        if (known)
            return LOCH_OK;
    }
    return below_memory(view, key, lsn, out);
}

/* A page that cannot be made keeps its records; only memory is a reason to stop. */
static loch_status settle(loch_status st, bool *made)
{
    *made = loch_is_ok(st);
    if (*made || st.code == LOCH_E_NO_MEMORY)
        return st;
    loch_log_failure("no image of a page with a long chain; its records are kept");
    return LOCH_OK;
}

static loch_status image(void *arg, const struct loch_key *key, const struct loch_version *items,
                         size_t count, const uint8_t *base, loch_lsn base_lsn,
                         uint8_t page[static LOCH_PAGE_BYTES], bool *made)
{
    (void)base_lsn;
    if (base != NULL)
        memcpy(page, base, LOCH_PAGE_BYTES);
    else
        memset(page, 0, LOCH_PAGE_BYTES);
    return settle(loch_page_build(arg, key, items, count, base != NULL, page), made);
}

/* The relation's size is not asked for: it is kept for the LSNs that people read at, and a version
 * that is kept is within it there. */
static loch_status read_page(void *arg, const struct loch_key *key, loch_lsn lsn,
                             uint8_t page[static LOCH_PAGE_BYTES], bool *made)
{
    loch_lsn floor = LOCH_LSN_NONE, version = LOCH_LSN_NONE;
    loch_status st = loch_key_floor(arg, key, lsn, &floor);
    if (loch_is_ok(st))
        st = loch_reconstruct(arg, key, floor, lsn, page, &version);
    LOCH_TRY(settle(st, made));
    *made = *made && version == lsn;
    return LOCH_OK;
}

static loch_status floor_at(void *arg, const struct loch_key *key, loch_lsn lsn, loch_lsn *floor)
{
    return loch_key_floor(arg, key, lsn, floor);
}

void loch_imager_init(struct loch_imager *imager, struct loch_view *view, uint32_t records_max,
                      uint64_t bytes_max)
{
    *imager = (struct loch_imager){.arg = view,
                                   .records_max = records_max,
                                   .bytes_max = bytes_max,
                                   .below = below,
                                   .image = image,
                                   .read = read_page,
                                   .floor = floor_at};
}
