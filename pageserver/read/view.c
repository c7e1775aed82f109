/* The face of reading: values, sizes, pages and scans at an LSN. */
#include "read/view.h"

#include "collect.h"

#include "loch/base/check.h"
#include "loch/layers/plan.h"

#include <stdlib.h>

LOCH_STATUS loch_view_create(struct loch_timeline *t, struct loch_view **out)
{
    struct loch_view *head = NULL, **link = &head;
    for (; t != NULL; t = loch_timeline_parent(t)) {
        struct loch_view *view = calloc(1, sizeof *view);
        if (view == NULL) {
            loch_view_destroy(head);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a view");
        }
        view->timeline = loch_timeline_retain(t);
        view->set = loch_timeline_layers(t, &view->last_record_lsn);
        *link = view;
        link = &view->parent;
    }
    *out = head;
    return LOCH_OK;
}

void loch_view_destroy(struct loch_view *view)
{
    while (view != NULL) {
        struct loch_view *parent = view->parent;
        loch_layer_set_release(view->set);
        loch_timeline_release(view->timeline);
        free(view);
        view = parent;
    }
}

bool loch_view_ready(const struct loch_view *view, loch_lsn lsn)
{
    for (; view != NULL; view = view->parent) {
        if (view->last_record_lsn < lsn)
            return false;
        lsn = loch_ancestor_read_lsn(lsn, loch_timeline_info(view->timeline)->ancestor_lsn);
    }
    return true;
}

loch_lsn loch_view_last_record_lsn(const struct loch_view *view)
{
    return view->last_record_lsn;
}

void loch_view_set_passing(struct loch_view *view, struct loch_passing *passing)
{
    view->passing = passing;
}

uint64_t loch_view_layer_bytes(const struct loch_view *view)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < view->set->file_count; i++)
        bytes += loch_layer_desc(view->set->files[i])->file_bytes;
    return bytes;
}

LOCH_STATUS loch_view_readable(const struct loch_view *view, loch_lsn lsn)
{
    while (view->parent != NULL && lsn < loch_timeline_info(view->timeline)->start_lsn)
        view = view->parent;
    return loch_layer_set_readable(view->set, lsn);
}

/* A page of a relation (kind PAGE); zeros where there is none. */
static loch_status get_page(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                            uint8_t out[LOCH_PAGE_BYTES], bool *found, loch_lsn *version)
{
    struct loch_rel rel = {key->spc, key->db, key->rel};
    const struct loch_fork_at *fork = NULL;
    loch_lsn cut = LOCH_LSN_NONE;
    *found = false;
    *version = LOCH_LSN_NONE;
    LOCH_TRY(loch_fork_at(view, &rel, key->fork, lsn, &fork));
    if (!fork->exists || key->block >= fork->blocks) {
        memset(out, 0, LOCH_PAGE_BYTES);
        return LOCH_OK;
    }
    LOCH_TRY(loch_fork_page_floor(view, fork, key->block, &cut));
    LOCH_TRY(loch_reconstruct(view, key, cut, lsn, out, version));
    *found = true;
    return LOCH_OK;
}

static void note_read(const struct loch_view *view)
{
    struct loch_read_stats *stats = loch_timeline_store(view->timeline)->reads;
    if (stats == NULL)
        return;
    atomic_fetch_add_explicit(&stats->records, view->applied, memory_order_relaxed);
    uint64_t most = atomic_load_explicit(&stats->most, memory_order_relaxed);
    while (view->applied > most &&
           !atomic_compare_exchange_weak_explicit(&stats->most, &most, view->applied,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

LOCH_STATUS loch_view_page(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                           uint32_t block, loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES])
{
    struct loch_key key = {.kind = LOCH_KEY_PAGE,
                           .fork = fork,
                           .spc = rel->spc,
                           .db = rel->db,
                           .rel = rel->rel,
                           .block = block};
    bool found = false;
    loch_lsn version = LOCH_LSN_NONE;
    view->applied = 0;
    LOCH_TRY(get_page(view, &key, lsn, out, &found, &version));
    note_read(view);
    return LOCH_OK;
}

bool loch_view_page_at_once(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                            uint32_t block, loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES])
{
    view->at_once = true;
    bool done = loch_is_ok(loch_view_page(view, rel, fork, block, lsn, out));
    view->at_once = false;
    return done;
}

LOCH_STATUS loch_view_page_natively(struct loch_view *view, const struct loch_rel *rel,
                                    uint8_t fork, uint32_t block, loch_lsn lsn,
                                    uint8_t out[static LOCH_PAGE_BYTES], bool *wants_redo)
{
    view->natively = true;
    view->wants_redo = false;
    loch_status st = loch_view_page(view, rel, fork, block, lsn, out);
    view->natively = false;
    *wants_redo = view->wants_redo;
    return st;
}

LOCH_STATUS loch_view_rel_size(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                               loch_lsn lsn, bool *exists, uint32_t *blocks)
{
    struct loch_key key = {
        .kind = LOCH_KEY_REL_SIZE, .fork = fork, .spc = rel->spc, .db = rel->db, .rel = rel->rel};
    struct loch_buf value = {0};
    bool found = false;
    loch_status st = loch_view_get(view, &key, lsn, &value, &found, NULL);
    if (loch_is_ok(st) && found && value.len != 4)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a relation size of %zu bytes", value.len);
    if (loch_is_ok(st)) {
        *exists = found;
        *blocks = found ? loch_get_u32(value.data) : 0;
    }
    loch_buf_fini(&value);
    return st;
}

LOCH_STATUS loch_view_get(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                          struct loch_buf *out, bool *found, loch_lsn *version)
{
    uint8_t page[LOCH_PAGE_BYTES];
    loch_lsn floor = LOCH_LSN_NONE, at = LOCH_LSN_NONE;
    bool is_there = false;
    bool is_page = key->kind == LOCH_KEY_PAGE || key->kind == LOCH_KEY_SLRU_PAGE;
    out->len = 0;
    if (key->kind == LOCH_KEY_PAGE) {
        LOCH_TRY(get_page(view, key, lsn, page, &is_there, &at));
    } else if (key->kind == LOCH_KEY_SLRU_PAGE) {
        LOCH_TRY(loch_slru_page(view, key, lsn, page, &is_there, &at));
    } else {
        LOCH_TRY(loch_key_floor(view, key, lsn, &floor));
        LOCH_TRY(loch_collect_value(view, key, floor, lsn, out, &is_there, &at));
        is_there = is_there && out->len > 0;
    }
    if (is_page && is_there)
        LOCH_TRY(loch_buf_append(out, page, sizeof page));
    *found = is_there;
    if (version != NULL)
        *version = at;
    return LOCH_OK;
}

static int compare_keys(const void *a, const void *b)
{
    return loch_key_compare(a, b);
}

static loch_status gather_keys(struct loch_view *view, const struct loch_key *first,
                               const struct loch_key *end, loch_lsn lsn, struct loch_key **keys,
                               size_t *count)
{
    for (; view != NULL; view = view->parent) {
        const struct loch_layer_set *set = view->set;
        for (size_t i = 0; i < set->mem_count; i++)
            LOCH_TRY(loch_mem_layer_keys(set->mem[i], first, end, keys, count));
        for (size_t i = 0; i < set->file_count; i++) {
            const struct loch_layer_span *span = &loch_layer_desc(set->files[i])->span;
            if (loch_layer_span_meets(span, first, end, lsn))
                LOCH_TRY(loch_layer_keys(set->files[i], first, end, keys, count));
        }
        lsn = loch_ancestor_read_lsn(lsn, loch_timeline_info(view->timeline)->ancestor_lsn);
    }
    return LOCH_OK;
}

/* Of so many blocks each is looked at; of more, those of so many at once that are anywhere. */
#define FEW_BLOCKS    4096u
#define BLOCKS_A_TIME (UINT32_C(1) << 18)

static loch_status written_blocks(struct loch_view *view, const struct loch_key *first,
                                  const struct loch_key *end, loch_lsn lsn, loch_view_block_fn fn,
                                  void *arg)
{
    struct loch_key *keys = NULL;
    size_t count = 0;
    loch_status st = gather_keys(view, first, end, lsn, &keys, &count);
    if (loch_is_ok(st) && count > 0)
        qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count && loch_is_ok(st); i++) {
        if (i == 0 || keys[i - 1].block != keys[i].block)
            st = fn(arg, keys[i].block);
    }
    free(keys);
    return st;
}

LOCH_STATUS loch_view_blocks(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                             uint32_t blocks, loch_lsn lsn, loch_view_block_fn fn, void *arg)
{
    struct loch_key first = {.kind = LOCH_KEY_PAGE,
                             .fork = fork,
                             .spc = rel->spc,
                             .db = rel->db,
                             .rel = rel->rel},
                    end = first;
    if (blocks <= FEW_BLOCKS) {
        for (uint32_t block = 0; block < blocks; block++)
            LOCH_TRY(fn(arg, block));
        return LOCH_OK;
    }
    for (; first.block < blocks; first.block = end.block) {
        const uint32_t left = blocks - first.block;
        end.block = first.block + (left < BLOCKS_A_TIME ? left : BLOCKS_A_TIME);
        LOCH_TRY(written_blocks(view, &first, &end, lsn, fn, arg));
    }
    return LOCH_OK;
}

LOCH_STATUS loch_view_scan(struct loch_view *view, const struct loch_key *first,
                           const struct loch_key *end, loch_lsn lsn, loch_view_scan_fn fn,
                           void *arg)
{
    if (loch_key_compare(first, end) >= 0)
        return LOCH_OK;
    if (first->kind == LOCH_KEY_PAGE)
        return LOCH_FAIL(LOCH_E_INVALID, "relation pages are read by block, not scanned");
    struct loch_key *keys = NULL;
    struct loch_buf value = {0};
    size_t count = 0;
    loch_status st = gather_keys(view, first, end, lsn, &keys, &count);
    if (loch_is_ok(st) && count > 0)
        qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count && loch_is_ok(st); i++) {
        bool found = false;
        loch_lsn version = LOCH_LSN_NONE;
        if (i > 0 && loch_key_compare(&keys[i - 1], &keys[i]) == 0)
            continue;
        st = loch_view_get(view, &keys[i], lsn, &value, &found, &version);
        if (loch_is_ok(st) && found)
            st = fn(arg, &keys[i], loch_buf_slice(&value), version);
    }
    loch_buf_fini(&value);
    free(keys);
    return st;
}
