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

static loch_status read_cut(struct loch_slice value, uint32_t *first, bool *all)
{
    if (value.len != 4 && value.len != 5)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a cut of %zu bytes", value.len);
    *first = loch_get_u32(value.data);
    *all = value.len == 5 && value.data[4] != 0;
    return LOCH_OK;
}

/* The newest cut within floor..lsn for which hides() is true. */
static loch_status find_cut(struct loch_view *view, const struct loch_key *cut_key, loch_lsn low,
                            loch_lsn lsn, uint32_t block, loch_lsn *floor)
{
    *floor = low;
    for (;;) {
        struct loch_buf value = {0};
        bool found = false, all = false;
        loch_lsn at = LOCH_LSN_NONE;
        uint32_t first = 0;
        loch_status st = loch_collect_value(view, cut_key, low, lsn, &value, &found, &at);
        if (loch_is_ok(st) && found)
            st = read_cut(loch_buf_slice(&value), &first, &all);
        loch_buf_fini(&value);
        LOCH_TRY(st);
        if (!found)
            return LOCH_OK;
        bool hidden = cut_key->kind == LOCH_KEY_SLRU_CUT
                          ? all || loch_slru_page_is_cut((uint8_t)cut_key->rel, block, first)
                          : loch_cut_hides(first, block);
        if (hidden) {
            *floor = at;
            return LOCH_OK;
        }
        if (at == LOCH_LSN_NONE)
            return LOCH_OK;
        lsn = at - 1;
    }
}

LOCH_STATUS loch_page_floor(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                            uint32_t block, loch_lsn lsn, loch_lsn db_floor, loch_lsn *floor)
{
    struct loch_key key = {
        .kind = LOCH_KEY_REL_CUT, .fork = fork, .spc = rel->spc, .db = rel->db, .rel = rel->rel};
    return find_cut(view, &key, db_floor, lsn, block, floor);
}

LOCH_STATUS loch_fork_at(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                         loch_lsn lsn, const struct loch_fork_at **out)
{
    struct loch_fork_at at = {.rel = *rel, .fork = fork, .lsn = lsn};
    const struct loch_fork_at *known = &view->fork;
    const struct loch_key cut_key = {
        .kind = LOCH_KEY_REL_CUT, .fork = fork, .spc = rel->spc, .db = rel->db, .rel = rel->rel};
    struct loch_buf value = {0};
    bool all = false;
    *out = known;
    if (known->lsn == lsn && lsn != LOCH_LSN_NONE && known->fork == fork &&
        known->rel.spc == rel->spc && known->rel.db == rel->db && known->rel.rel == rel->rel)
        return LOCH_OK;
    LOCH_TRY(loch_view_rel_size(view, rel, fork, lsn, &at.exists, &at.blocks));
    LOCH_TRY(loch_database_floor(view, rel->spc, rel->db, lsn, &at.db_floor));
    loch_status st =
        loch_collect_value(view, &cut_key, at.db_floor, lsn, &value, &at.cut, &at.cut_lsn);
    if (loch_is_ok(st) && at.cut)
        st = read_cut(loch_buf_slice(&value), &at.cut_first, &all);
    loch_buf_fini(&value);
    LOCH_TRY(st);
    view->fork = at;
    return LOCH_OK;
}

LOCH_STATUS loch_fork_page_floor(struct loch_view *view, const struct loch_fork_at *at,
                                 uint32_t block, loch_lsn *floor)
{
    *floor = at->db_floor;
    if (!at->cut)
        return LOCH_OK;
    if (loch_cut_hides(at->cut_first, block)) {
        *floor = at->cut_lsn;
        return LOCH_OK;
    }
    if (at->cut_lsn == LOCH_LSN_NONE)
        return LOCH_OK;
    return loch_page_floor(view, &at->rel, at->fork, block, at->cut_lsn - 1, at->db_floor, floor);
}

LOCH_STATUS loch_slru_floor(struct loch_view *view, uint8_t slru, uint32_t page, loch_lsn lsn,
                            loch_lsn *floor)
{
    struct loch_key key = {.kind = LOCH_KEY_SLRU_CUT, .rel = slru};
    return find_cut(view, &key, LOCH_LSN_NONE, lsn, page, floor);
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
