/* Immutable lists of layers. */
#include "layer_set.h"

#include "mutation.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static loch_status allocate(const struct loch_layer_set_parts *parts, struct loch_layer_set **out)
{
    struct loch_layer_set *set = calloc(1, sizeof *set);
    if (set != NULL) {
        atomic_init(&set->refs, 1);
        set->mem = calloc(parts->frozen_count + 1, sizeof(struct loch_mem_layer *));
        set->files = calloc(parts->file_count + 1, sizeof(struct loch_layer *));
        set->bands = calloc(parts->file_count + 1, sizeof *set->bands);
        loch_lsn *points = calloc(parts->retention.point_count + 1, sizeof *points);
        set->retention.points = points;
    }
    if (set == NULL || set->mem == NULL || set->files == NULL || set->bands == NULL ||
        set->retention.points == NULL) {
        loch_layer_set_release(set);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    }
    *out = set;
    return LOCH_OK;
}

static void copy_retention(struct loch_layer_set *set, const struct loch_retention *from)
{
    loch_lsn *points = (loch_lsn *)(uintptr_t)set->retention.points;
    for (size_t i = 0; i < from->point_count; i++)
        points[i] = from->points[i];
    set->retention = (struct loch_retention){from->cutoff, points, from->point_count};
}

LOCH_STATUS loch_layer_set_create(const struct loch_layer_set_parts *parts,
                                  struct loch_layer_set **out)
{
    struct loch_layer_set *set = NULL;
    LOCH_TRY(allocate(parts, &set));
    if (parts->open != NULL)
        set->mem[set->mem_count++] = loch_mem_layer_retain(parts->open);
    for (size_t i = 0; i < parts->frozen_count; i++)
        set->mem[set->mem_count++] = loch_mem_layer_retain(parts->frozen[i]);
    for (size_t i = 0; i < parts->file_count; i++) {
        struct loch_layer *layer = loch_layer_retain(parts->files[i]);
        const struct loch_layer_desc *desc = loch_layer_desc(layer);
        set->files[set->file_count++] = layer;
        set->band_count = loch_bands_add(set->bands, set->band_count, &desc->span, desc->file_bytes,
                                         &desc->weight, i);
    }
    copy_retention(set, &parts->retention);
    set->cutoff_us = parts->cutoff_us;
    *out = set;
    return LOCH_OK;
}

struct loch_layer_set *loch_layer_set_retain(struct loch_layer_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void loch_layer_set_release(struct loch_layer_set *set)
{
    if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->mem_count; i++)
        loch_mem_layer_release(set->mem[i]);
    for (size_t i = 0; i < set->file_count; i++)
        loch_layer_release(set->files[i]);
    free(set->mem);
    free(set->files);
    free(set->bands);
    free((loch_lsn *)(uintptr_t)set->retention.points);
    free(set);
}

size_t loch_layer_set_first_band(const struct loch_layer_set *set, loch_lsn lsn)
{
    size_t lo = 0, hi = set->band_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct loch_band *band = &set->bands[mid];
        loch_lsn lowest = band->start_lsn == band->end_lsn ? band->start_lsn : band->start_lsn + 1;
        if (lowest <= lsn)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct loch_layer *loch_layer_set_find(const struct loch_layer_set *set, size_t band,
                                       const struct loch_key *key)
{
    const struct loch_band *b = &set->bands[band];
    size_t lo = b->first, hi = b->first + b->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct loch_layer_span *span = &loch_layer_desc(set->files[mid])->span;
        if (loch_key_compare(&span->last, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == b->first + b->count ||
        loch_key_compare(&loch_layer_desc(set->files[lo])->span.first, key) > 0)
        return NULL;
    return set->files[lo];
}

LOCH_STATUS loch_layer_set_readable(const struct loch_layer_set *set, loch_lsn lsn)
{
    char when[40] = "";
    struct tm tm;
    time_t seconds = (time_t)(set->cutoff_us / 1000000);
    if (loch_retention_readable(&set->retention, lsn) || LOCH_STORE_MUTATED(CUTOFF_NOT_TOLD))
        return LOCH_OK;
    if (set->cutoff_us != 0 && gmtime_r(&seconds, &tm) != NULL)
        (void)strftime(when, sizeof when, ", reached by %Y-%m-%d %H:%M:%S UTC", &tm);
    return LOCH_FAIL(LOCH_E_INVALID,
                     LOCH_LSN_FMT
                     " is older than the history that is kept: it begins at " LOCH_LSN_FMT "%s",
                     LOCH_LSN_ARG(lsn), LOCH_LSN_ARG(set->retention.cutoff), when);
}
