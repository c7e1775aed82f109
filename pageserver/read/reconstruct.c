/* Pages out of versions: images as they are, VM and SLRU operations here, records by redo_chain. */
#include "collect.h"
#include "page_cache.h"
#include "redo_chain.h"

#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

/* Copies a whole-page value. */
static loch_status take_image(const struct loch_version *v, uint8_t page[LOCH_PAGE_BYTES])
{
    if (v->bytes.len != LOCH_PAGE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page image of %zu bytes", v->bytes.len);
    memcpy(page, v->bytes.data, LOCH_PAGE_BYTES);
    return LOCH_OK;
}

LOCH_STATUS loch_slru_page(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                           uint8_t out[static LOCH_PAGE_BYTES], bool *found, loch_lsn *version)
{
    struct loch_versions list = {0};
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    bool base = false;
    loch_lsn floor = LOCH_LSN_NONE;
    loch_status st = LOCH_OK;
    LOCH_TRY_OUT(st, loch_slru_floor(view, (uint8_t)key->rel, key->block, lsn, &floor));
    LOCH_TRY_OUT(st, loch_collect(view, key, floor, lsn, &list, &base));
    for (size_t i = list.count; i-- > 0;) {
        const struct loch_version *v = &list.items[i];
        if (v->kind == LOCH_VERSION_VALUE)
            LOCH_TRY_OUT(st, take_image(v, page));
        else
            LOCH_TRY_OUT(st, loch_slru_apply(v->bytes, page));
    }
    *found = list.count > 0;
    *version = list.count > 0 ? list.items[0].lsn : LOCH_LSN_NONE;
    memcpy(out, page, LOCH_PAGE_BYTES);
out:
    loch_versions_fini(&list);
    return st;
}

LOCH_STATUS loch_page_build(struct loch_view *view, const struct loch_key *key,
                            const struct loch_version *items, size_t count, bool have_base,
                            uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t left = count;
    while (left > 0) {
        const struct loch_version *v = &items[left - 1];
        size_t run = 0;
        while (run < left && (items[left - 1 - run].kind == LOCH_VERSION_RECORD ||
                              items[left - 1 - run].kind == LOCH_VERSION_RECORD_INIT))
            run++;
        if (run > 0) {
            bool fresh = v->kind == LOCH_VERSION_RECORD_INIT || !have_base;
            bool alone = view->at_once || view->natively;
            loch_status st = (alone ? loch_redo_chain_at_once : loch_redo_chain_apply)(
                view->timeline, key, v - (run - 1), run, fresh, page);
            view->wants_redo = alone && !loch_is_ok(st);
            LOCH_TRY(st);
            left -= run;
        } else {
            if (v->kind == LOCH_VERSION_VALUE)
                LOCH_TRY(take_image(v, page));
            else
                LOCH_TRY(loch_vm_apply(v->bytes, v->lsn, page));
            left--;
        }
        have_base = true;
    }
    return LOCH_OK;
}

/* What is made again in less time than its copy into the cache is worth: an image, or a chain
 * that took neither a redo process nor a disk. */
static bool is_cheap(const struct loch_view *view)
{
    return view->applied == 0 || view->at_once;
}

LOCH_STATUS loch_reconstruct(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                             loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES], loch_lsn *version)
{
    struct loch_page_cache *cache = loch_timeline_store(view->timeline)->cache;
    const struct loch_timeline_info *info = loch_timeline_info(view->timeline);
    loch_lsn cached = LOCH_LSN_NONE;
    struct loch_versions list = {0};
    bool base = false;
    bool hit = cache != NULL && loch_page_cache_get(cache, &info->tenant, &info->timeline, key,
                                                    floor, lsn, &cached, out);
    loch_status st = LOCH_OK;
    if (hit)
        floor = cached + 1;
    if (floor <= lsn)
        LOCH_TRY_OUT(st, loch_collect(view, key, floor, lsn, &list, &base));
    view->applied = list.count - (base && list.items[list.count - 1].kind == LOCH_VERSION_VALUE);
    if (!hit && !base)
        memset(out, 0, LOCH_PAGE_BYTES);
    LOCH_TRY_OUT(st, loch_page_build(view, key, list.items, list.count, hit && !base, out));
    *version = list.count > 0 ? list.items[0].lsn : cached;
    if (cache != NULL && list.count > 0 && (hit || view->passing == NULL))
        loch_page_cache_put(cache, &info->tenant, &info->timeline, key, *version, lsn,
                            is_cheap(view), out);
    else if (hit)
        loch_page_cache_confirm(cache, &info->tenant, &info->timeline, key, cached, lsn);
out:
    loch_versions_fini(&list);
    return st;
}
