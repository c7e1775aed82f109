/* A merge walks the bands key by key, newest band first. What may go is decided for one key at a
 * time (layers/retain.h): what no readable LSN uses, seen through cuts. */
#include "merge.h"

#include "layer_build.h"
#include "layer_copy.h"
#include "mutation.h"
#include "pushdown.h"
#include "timeline_impl.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>

/* One band's files, one after the other. */
struct band_cursor {
    struct loch_layer **files; /* borrowed */
    size_t count, at;
    struct loch_layer_cursor cursor;
    struct loch_key key; /* where it stands */
    bool ended;
};

struct walk {
    struct loch_merge *merge;
    struct band_cursor *bands;
    struct loch_layer_builder *builder;
    struct loch_layer_desc span;
    struct loch_retain_item *items;
    size_t item_cap;
};

/* ---- keys in order ---- */

static void settle(struct band_cursor *b)
{
    while (!loch_layer_cursor_key(&b->cursor, &b->key)) {
        loch_layer_cursor_fini(&b->cursor);
        if (++b->at >= b->count) {
            b->ended = true;
            return;
        }
        b->cursor = (struct loch_layer_cursor){.layer = b->files[b->at]};
    }
}

static void begin_bands(struct walk *w)
{
    const struct loch_layer_set *set = w->merge->set;
    for (size_t i = 0; i < w->merge->plan.count; i++) {
        const struct loch_band *band = &set->bands[w->merge->plan.first + i];
        struct band_cursor *b = &w->bands[i];
        *b = (struct band_cursor){.files = set->files + band->first, .count = band->count};
        b->cursor = (struct loch_layer_cursor){.layer = b->files[0]};
        settle(b);
    }
}

static bool next_key(const struct walk *w, struct loch_key *key)
{
    bool any = false;
    for (size_t i = 0; i < w->merge->plan.count; i++) {
        const struct band_cursor *b = &w->bands[i];
        if (b->ended || (any && loch_key_compare(&b->key, key) >= 0))
            continue;
        *key = b->key;
        any = true;
    }
    return any;
}

/* All versions of a key are in memory at once: a history that is too long for that must not be
 * found out by loading it. */
static loch_status check_histories(struct walk *w)
{
    const uint64_t most = w->merge->compaction->key_bytes;
    struct loch_key key;
    begin_bands(w);
    while (most > 0 && next_key(w, &key)) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < w->merge->plan.count; i++) {
            struct band_cursor *b = &w->bands[i];
            if (b->ended || loch_key_compare(&b->key, &key) != 0)
                continue;
            bytes += loch_layer_cursor_skip(&b->cursor);
            settle(b);
        }
        if (bytes > most)
            return LOCH_FAIL(LOCH_E_LIMIT,
                             "a merge would load %" PRIu64 " MiB of one key's history, more than "
                             "%" PRIu64 " MiB: kind %u, %u/%u/%u fork %u block %u",
                             bytes >> 20, most >> 20, key.kind, key.spc, key.db, key.rel, key.fork,
                             key.block);
    }
    return LOCH_OK;
}

/* All versions of the key, newest first. */
static loch_status take_key(struct walk *w, const struct loch_key *key, struct loch_versions *out)
{
    for (size_t i = 0; i < w->merge->plan.count; i++) {
        struct band_cursor *b =
            &w->bands[LOCH_STORE_MUTATED(BANDS_REVERSED) ? w->merge->plan.count - 1 - i : i];
        if (b->ended || loch_key_compare(&b->key, key) != 0)
            continue;
        size_t from = out->count;
        LOCH_TRY(loch_layer_cursor_take(&b->cursor, out));
        for (size_t lo = from, hi = out->count; lo + 1 < hi; lo++) {
            struct loch_version v = out->items[lo];
            out->items[lo] = out->items[--hi];
            out->items[hi] = v;
        }
        settle(b);
    }
    return LOCH_OK;
}

/* ---- what stays ---- */

/* A cut that hides every block needs no older one; any other those that hide more. */
static bool is_base(const struct loch_key *key, const struct loch_version *v)
{
    if (LOCH_STORE_MUTATED(CUT_REMOVED))
        return loch_version_is_base(v);
    if (key->kind == LOCH_KEY_REL_CUT)
        return v->bytes.len >= 4 && loch_get_u32(v->bytes.data) == 0;
    if (key->kind == LOCH_KEY_SLRU_CUT)
        return v->bytes.len >= 5 && v->bytes.data[4] != 0;
    return loch_version_is_base(v);
}

static loch_status note_items(struct walk *w, const struct loch_key *key,
                              const struct loch_versions *list)
{
    if (list->count > w->item_cap) {
        struct loch_retain_item *items = reallocarray(w->items, list->count, sizeof *items);
        if (items == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu versions", list->count);
        w->items = items;
        w->item_cap = list->count;
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct loch_slice bytes = list->items[i].bytes;
        w->items[i] = (struct loch_retain_item){.lsn = list->items[i].lsn,
                                                .base = is_base(key, &list->items[i])};
        if (key->kind != LOCH_KEY_REL_CUT || bytes.len < 4)
            continue;
        w->items[i].cut = true;
        w->items[i].first = loch_get_u32(bytes.data);
        if (LOCH_STORE_MUTATED(CUT_HELD_SHORT))
            w->items[i].first = UINT32_MAX - w->items[i].first;
    }
    return LOCH_OK;
}

static loch_status pace(const struct walk *w)
{
    const struct loch_compaction *c = w->merge->compaction;
    return c->pace != NULL ? c->pace(c->arg) : LOCH_OK;
}

static loch_status mark_read(struct walk *w, const struct loch_key *key, size_t count, loch_lsn lsn,
                             bool live)
{
    const struct loch_imager *im = w->merge->imager;
    loch_lsn floor = LOCH_LSN_NONE;
    if (w->items[count - 1].lsn > lsn)
        return LOCH_OK;
    LOCH_TRY(im->floor(im->arg, key, lsn, &floor));
    loch_retain_read(w->items, count, floor, lsn, live);
    return pace(w);
}

/* Between two versions every point sees the same ones, down to its floor, and floors do not fall
 * from one point to the next: the lowest marks all that the others would. What there is to ask for
 * is as much as there are versions, however many points. */
static loch_status mark_points(struct walk *w, const struct loch_key *key, size_t count)
{
    const struct loch_retention *r = &w->merge->retention;
    size_t at = 0;
    for (size_t i = count; i-- > 0;) {
        while (at < r->point_count && r->points[at] < w->items[i].lsn)
            at++;
        if (at == r->point_count)
            break;
        if (i == 0 || r->points[at] < w->items[i - 1].lsn)
            LOCH_TRY(mark_read(w, key, count, r->points[at], false));
    }
    return LOCH_OK;
}

/* Leaves in the list what a readable LSN uses; *held: bytes that only points keep. */
static loch_status retain(struct walk *w, const struct loch_key *key, struct loch_versions *list,
                          uint64_t *held)
{
    const struct loch_retention *r = &w->merge->retention;
    const bool unheld = LOCH_STORE_MUTATED(POINTS_IGNORED) ||
                        (LOCH_STORE_MUTATED(CUT_NOT_HELD) && key->kind == LOCH_KEY_REL_CUT);
    size_t kept = 0;
    *held = 0;
    LOCH_TRY(note_items(w, key, list));
    loch_retain_history(w->items, list->count, r->cutoff);
    if (!LOCH_STORE_MUTATED(BASE_REMOVED) &&
        !(LOCH_STORE_MUTATED(CUT_FORGOTTEN) && key->kind == LOCH_KEY_REL_CUT))
        LOCH_TRY(mark_read(w, key, list->count, r->cutoff, true));
    if (!unheld)
        LOCH_TRY(mark_points(w, key, list->count));
    for (size_t i = 0; i < list->count; i++) {
        const struct loch_retain_item *item = &w->items[i];
        if (!item->keep) {
            w->merge->stats.dropped_bytes += loch_layer_version_bytes(&list->items[i]);
            continue;
        }
        if (!item->history && !item->live)
            *held += loch_layer_version_bytes(&list->items[i]);
        list->items[kept++] = list->items[i];
    }
    list->count = kept;
    return LOCH_OK;
}

/* ---- files ---- */

/* A file that was written and cannot be opened: no list has it. Passes the failure on. */
static loch_status discard(const struct loch_merge *m, const struct loch_layer_desc *desc,
                           loch_status why)
{
    char text[400];
    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    loch_layer_discard(&m->timeline->store, &m->timeline->info, desc);
    return LOCH_FAIL(why.code, "%s", text);
}

static loch_status end_file(struct walk *w)
{
    struct loch_merge *m = w->merge;
    struct loch_layer_desc desc;
    if (w->builder == NULL)
        return LOCH_OK;
    struct loch_layer **files =
        reallocarray(m->files, m->file_count + 1, sizeof(struct loch_layer *));
    if (files == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    m->files = files;
    LOCH_TRY(loch_layer_builder_finish(w->builder, &desc));
    loch_layer_builder_destroy(w->builder);
    w->builder = NULL;
    m->stats.written_bytes += desc.file_bytes;
    m->stats.files_written++;
    loch_status st = loch_layer_open(&m->timeline->store, m->timeline->keys, &m->timeline->info,
                                     &desc, &m->files[m->file_count]);
    if (!loch_is_ok(st))
        return discard(m, &desc, st);
    m->file_count++;
    return LOCH_OK;
}

static loch_status merge_key(struct walk *w, const struct loch_key *key, struct loch_versions *list)
{
    struct loch_merge *m = w->merge;
    struct loch_chain chain = {0};
    uint64_t held = 0;
    LOCH_TRY(take_key(w, key, list));
    if (list->count == 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index names a key without versions");
    LOCH_TRY(retain(w, key, list, &held));
    if (list->count == 0)
        return LOCH_OK;
    LOCH_TRY(loch_push_images(m->imager, key, w->span.span.start_lsn, list, &chain));
    if (w->builder == NULL)
        LOCH_TRY(loch_layer_builder_create(&m->timeline->store, m->timeline->keys,
                                           &m->timeline->info, &w->span, &w->builder));
    LOCH_TRY(loch_layer_builder_add(w->builder, key, list->items, list->count, &chain, held));
    return loch_layer_builder_bytes(w->builder) >= m->compaction->file_bytes ? end_file(w)
                                                                             : LOCH_OK;
}

static loch_status merge_all(struct walk *w)
{
    struct loch_versions list = {0};
    struct loch_key key;
    loch_status st = LOCH_OK;
    while (loch_is_ok(st) && next_key(w, &key)) {
        st = merge_key(w, &key, &list);
        loch_versions_clear(&list);
        if (loch_is_ok(st))
            st = pace(w);
    }
    loch_versions_fini(&list);
    return loch_is_ok(st) ? end_file(w) : st;
}

/* The LSNs of all that is merged; an import's one LSN becomes a range that ends there. */
static void span_of(struct walk *w)
{
    const struct loch_merge *m = w->merge;
    const struct loch_band *newest = &m->set->bands[m->plan.first];
    const struct loch_band *oldest = newest + m->plan.count - 1;
    w->span.level = LOCH_LAYER_MERGED;
    w->span.span.end_lsn = newest->end_lsn;
    w->span.span.start_lsn = oldest->start_lsn;
    if (oldest->start_lsn == oldest->end_lsn)
        w->span.span.start_lsn--;
}

LOCH_STATUS loch_merge_run(struct loch_merge *m)
{
    struct walk w = {.merge = m};
    LOCH_ASSERT(m->plan.count > 0);
    for (size_t i = 0; i < m->plan.count; i++) {
        m->stats.files_read += (uint32_t)m->set->bands[m->plan.first + i].count;
        m->stats.read_bytes += m->set->bands[m->plan.first + i].bytes;
    }
    span_of(&w);
    w.bands = calloc(m->plan.count, sizeof *w.bands);
    if (w.bands == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a merge");
    loch_status st = check_histories(&w);
    begin_bands(&w);
    if (loch_is_ok(st))
        st = merge_all(&w);
    for (size_t i = 0; i < m->plan.count; i++)
        loch_layer_cursor_fini(&w.bands[i].cursor);
    loch_layer_builder_destroy(w.builder);
    free(w.bands);
    free(w.items);
    return st;
}

void loch_merge_fini(struct loch_merge *m)
{
    for (size_t i = 0; i < m->file_count; i++)
        loch_layer_release(m->files[i]);
    free(m->files);
    m->files = NULL;
    m->file_count = 0;
}
