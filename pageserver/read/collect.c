/* Walking layers newest to oldest, then the ancestors; and the floors that cuts make. */
#include "collect.h"

#include "loch/layers/plan.h"
#include "loch/pg/slru.h"

static loch_status collect_own(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_versions *out, bool *base)
{
    const struct loch_layer_set *set = view->set;
    for (size_t i = 0; i < set->mem_count && !*base; i++) {
        if (loch_mem_layer_start_lsn(set->mem[i]) <= lsn)
            LOCH_TRY(loch_mem_layer_collect(set->mem[i], key, floor, lsn, out, base));
    }
    for (size_t b = loch_layer_set_first_band(set, lsn); b < set->band_count && !*base; b++) {
        if (set->bands[b].end_lsn < floor)
            break;
        struct loch_layer *layer = loch_layer_set_find(set, b, key);
        if (layer != NULL)
            LOCH_TRY(loch_layer_collect(layer, key, floor, lsn, out, base));
    }
    return LOCH_OK;
}

LOCH_STATUS loch_collect(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                         loch_lsn lsn, struct loch_versions *out, bool *base)
{
    *base = false;
    out->at_once = view->at_once;
    out->passing = view->passing;
    while (view != NULL) {
        LOCH_TRY(collect_own(view, key, floor, lsn, out, base));
        if (*base || view->parent == NULL)
            return LOCH_OK;
        loch_lsn ancestor_lsn = loch_timeline_info(view->timeline)->ancestor_lsn;
        if (ancestor_lsn < floor)
            return LOCH_OK;
        lsn = loch_ancestor_read_lsn(lsn, ancestor_lsn);
        view = view->parent;
    }
    return LOCH_OK;
}

LOCH_STATUS loch_collect_value(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_buf *out, bool *found, loch_lsn *version)
{
    struct loch_versions list = {0};
    bool base = false;
    loch_status st = loch_collect(view, key, floor, lsn, &list, &base);
    if (loch_is_ok(st) && list.count > 0 && list.items[0].kind != LOCH_VERSION_VALUE)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a value of kind %u is stored as a change", key->kind);
    if (loch_is_ok(st) && list.count > 0 && out != NULL)
        st = loch_buf_append(out, list.items[0].bytes.data, list.items[0].bytes.len);
    if (loch_is_ok(st)) {
        *found = list.count > 0;
        *version = list.count > 0 ? list.items[0].lsn : LOCH_LSN_NONE;
    }
    loch_versions_fini(&list);
    return st;
}

LOCH_STATUS loch_database_floor(struct loch_view *view, uint32_t spc, uint32_t db, loch_lsn lsn,
                                loch_lsn *floor)
{
    *floor = LOCH_LSN_NONE;
    if (db == 0)
        return LOCH_OK;
    struct loch_key key = {.kind = LOCH_KEY_DATABASE, .spc = spc, .db = db};
    bool found = false;
    return loch_collect_value(view, &key, LOCH_LSN_NONE, lsn, NULL, &found, floor);
}

static struct loch_key cut_key(const struct loch_rel *rel, uint8_t fork)
{
    return (struct loch_key){
        .kind = LOCH_KEY_REL_CUT, .fork = fork, .spc = rel->spc, .db = rel->db, .rel = rel->rel};
}

static loch_status floor_from(struct loch_view *view, const struct loch_key *key,
                              const struct loch_cut *newest, loch_lsn low, uint32_t block,
                              loch_lsn *floor)
{
    struct loch_cut_step cut = {0};
    bool found = false;
    LOCH_TRY(loch_cut_find(view, key, newest, low, block, &cut, &found));
    *floor = found ? cut.lsn : low;
    return LOCH_OK;
}

LOCH_STATUS loch_page_floor(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                            uint32_t block, loch_lsn lsn, loch_lsn db_floor, loch_lsn *floor)
{
    const struct loch_key key = cut_key(rel, fork);
    struct loch_cut newest = {0};
    bool found = false;
    *floor = db_floor;
    LOCH_TRY(loch_cut_newest(view, &key, db_floor, lsn, &newest, &found));
    return found ? floor_from(view, &key, &newest, db_floor, block, floor) : LOCH_OK;
}

LOCH_STATUS loch_fork_at(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                         loch_lsn lsn, const struct loch_fork_at **out)
{
    struct loch_fork_at at = {.rel = *rel, .fork = fork, .lsn = lsn};
    const struct loch_fork_at *known = &view->fork;
    const struct loch_key key = cut_key(rel, fork);
    *out = known;
    if (known->lsn == lsn && lsn != LOCH_LSN_NONE && known->fork == fork &&
        known->rel.spc == rel->spc && known->rel.db == rel->db && known->rel.rel == rel->rel)
        return LOCH_OK;
    LOCH_TRY(loch_view_rel_size(view, rel, fork, lsn, &at.exists, &at.blocks));
    LOCH_TRY(loch_database_floor(view, rel->spc, rel->db, lsn, &at.db_floor));
    LOCH_TRY(loch_cut_newest(view, &key, at.db_floor, lsn, &at.cut, &at.is_cut));
    view->fork = at;
    return LOCH_OK;
}

LOCH_STATUS loch_fork_page_floor(struct loch_view *view, const struct loch_fork_at *at,
                                 uint32_t block, loch_lsn *floor)
{
    const struct loch_key key = cut_key(&at->rel, at->fork);
    *floor = at->db_floor;
    return at->is_cut ? floor_from(view, &key, &at->cut, at->db_floor, block, floor) : LOCH_OK;
}

static loch_status slru_cut_hides(uint8_t slru, struct loch_slice value, uint32_t page, bool *hides)
{
    struct loch_slru_cut cut;
    LOCH_TRY(loch_slru_cut_decode(value, &cut));
    *hides = loch_slru_cut_hides(slru, &cut, page);
    return LOCH_OK;
}

/* They are few: PostgreSQL cuts an SLRU when a file of it can go. */
LOCH_STATUS loch_slru_floor(struct loch_view *view, uint8_t slru, uint32_t page, loch_lsn lsn,
                            loch_lsn *floor)
{
    const struct loch_key key = {.kind = LOCH_KEY_SLRU_CUT, .rel = slru};
    bool found = true, hides = false;
    *floor = LOCH_LSN_NONE;
    for (;;) {
        struct loch_buf value = {0};
        loch_lsn at = LOCH_LSN_NONE;
        loch_status st = loch_collect_value(view, &key, LOCH_LSN_NONE, lsn, &value, &found, &at);
        if (loch_is_ok(st) && found)
            st = slru_cut_hides(slru, loch_buf_slice(&value), page, &hides);
        loch_buf_fini(&value);
        LOCH_TRY(st);
        if (found && hides)
            *floor = at;
        if (!found || hides || at == LOCH_LSN_NONE)
            return LOCH_OK;
        lsn = at - 1;
    }
}

LOCH_STATUS loch_key_floor(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                           loch_lsn *floor)
{
    struct loch_rel rel = {key->spc, key->db, key->rel};
    loch_lsn db_floor = LOCH_LSN_NONE;
    *floor = LOCH_LSN_NONE;
    if (key->kind == LOCH_KEY_SLRU_PAGE)
        return loch_slru_floor(view, (uint8_t)key->rel, key->block, lsn, floor);
    if (key->kind != LOCH_KEY_PAGE && key->kind != LOCH_KEY_REL_SIZE &&
        key->kind != LOCH_KEY_REL_CUT && key->kind != LOCH_KEY_RELMAP)
        return LOCH_OK;
    LOCH_TRY(loch_database_floor(view, key->spc, key->db, lsn, &db_floor));
    *floor = db_floor;
    if (key->kind != LOCH_KEY_PAGE)
        return LOCH_OK;
    return loch_page_floor(view, &rel, key->fork, key->block, lsn, db_floor, floor);
}
