/* Planning, merging and committing a compaction. */
#include "compact.h"

#include "layer_copy.h"
#include "merge.h"
#include "mutation.h"
#include "pushdown.h"
#include "read/imager.h"
#include "timeline_impl.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/io/env.h"

#include <stdlib.h>

/* ---- what to do ---- */

static bool is_old(const struct loch_layer_set *set, const struct loch_band *band,
                   struct loch_keys *keys)
{
    for (size_t i = 0; i < band->count; i++) {
        if (loch_layer_is_old(set->files[band->first + i], keys))
            return true;
    }
    return false;
}

/* Merges first; then bands under retired keys, one at a time, so that a restart goes on there. */
static struct loch_compact_plan next_of(const struct loch_layer_set *set, loch_lsn cutoff,
                                        const struct loch_compact_settings *settings,
                                        struct loch_keys *keys)
{
    struct loch_compact_plan plan =
        loch_compact_next(set->bands, set->band_count, settings, cutoff);
    for (size_t i = set->band_count; plan.count == 0 && i > 0; i--) {
        if (is_old(set, &set->bands[i - 1], keys))
            plan = (struct loch_compact_plan){i - 1, 1};
    }
    return plan;
}

static bool has_long_chains(const struct loch_layer_set *set, const struct loch_band *band,
                            uint32_t records)
{
    for (size_t i = band->first; i < band->first + band->count; i++) {
        if (loch_layer_longest(set->files[i]) > records && !loch_layer_is_imaged(set->files[i]))
            return true;
    }
    return false;
}

static struct loch_compact_plan idle_plan(const struct loch_layer_set *set, uint32_t records,
                                          uint64_t bytes)
{
    struct loch_compact_plan plan = {0, 0};
    bool *long_chains = calloc(set->band_count + 1, sizeof *long_chains);
    if (long_chains == NULL)
        return plan; /* another time */
    for (size_t i = 0; i < set->band_count; i++)
        long_chains[i] = has_long_chains(set, &set->bands[i], records);
    plan = loch_compact_idle(set->bands, set->band_count, long_chains, bytes);
    free(long_chains);
    return plan;
}

static struct loch_compact_plan plan(const struct loch_layer_set *set, loch_lsn cutoff,
                                     const struct loch_compaction *c, struct loch_keys *keys)
{
    if (c->everything)
        return (struct loch_compact_plan){0, set->band_count};
    return next_of(set, cutoff, &c->settings, keys);
}

uint64_t loch_timeline_quiet_ns(struct loch_timeline *t, uint64_t now_ns)
{
    const loch_lsn last = loch_timeline_last_record_lsn(t);
    if (last != t->quiet_lsn) {
        t->quiet_lsn = last;
        t->quiet_since_ns = now_ns;
    }
    return now_ns - t->quiet_since_ns;
}

size_t loch_timeline_idle_backlog(struct loch_timeline *t, uint32_t idle_records,
                                  uint64_t idle_bytes)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    size_t count = idle_plan(set, idle_records, idle_bytes).count;
    loch_layer_set_release(set);
    return count;
}

size_t loch_timeline_backlog(struct loch_timeline *t, const struct loch_compact_settings *settings)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    size_t count = next_of(set, set->retention.cutoff, settings, t->keys).count;
    loch_layer_set_release(set);
    return count;
}

void loch_timeline_summary(struct loch_timeline *t, struct loch_layers_summary *out)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    *out = (struct loch_layers_summary){.layers = set->file_count, .bands = set->band_count};
    for (size_t i = 0; i < set->band_count; i++) {
        out->file_bytes += set->bands[i].bytes;
        out->weight.raw += set->bands[i].weight.raw;
        out->weight.past += set->bands[i].weight.past;
        out->weight.held += set->bands[i].weight.held;
    }
    for (size_t i = 0; i < set->file_count; i++) {
        if (!loch_layer_is_old(set->files[i], t->keys))
            continue;
        out->old_layers++;
        out->old_bytes += loch_layer_desc(set->files[i])->file_bytes;
    }
    loch_layer_set_release(set);
}

/* The manifest's retention and the layers that go with it. A cutoff that moves later only lets this
 * merge keep more than it must. */
static loch_status snapshot(struct loch_timeline *t, struct loch_retention *retention,
                            struct loch_layer_set **set)
{
    loch_lsn last = LOCH_LSN_NONE;
    pthread_mutex_lock(&t->commit);
    const struct loch_manifest *m = &t->manifest;
    loch_lsn *points = calloc((size_t)m->point_count + 1, sizeof *points);
    if (points != NULL) {
        for (uint32_t i = 0; i < m->point_count; i++)
            points[i] = m->points[i];
        *retention = (struct loch_retention){m->cutoff.lsn, points, m->point_count};
        if (LOCH_STORE_MUTATED(CUTOFF_TOO_FAR))
            retention->cutoff = m->disk_consistent_lsn;
        *set = loch_timeline_layers(t, &last);
    }
    pthread_mutex_unlock(&t->commit);
    if (points == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a merge");
    return LOCH_OK;
}

/* ---- commit ---- */

/* The files of `all` with those that were merged replaced. commit held: only flushes, in front, may
 * have come since the merge began. */
static loch_status replaced(const struct loch_merge *m, struct loch_layer **all, size_t count,
                            struct loch_layer ***out, size_t *out_count)
{
    const struct loch_band *newest = &m->set->bands[m->plan.first];
    size_t old_count = m->stats.files_read, at = 0, n = 0;
    const struct loch_layer *first = m->set->files[newest->first];
    while (at < count && all[at] != first)
        at++;
    LOCH_ASSERT(at + old_count <= count);
    struct loch_layer **list =
        calloc(count - old_count + m->file_count + 1, sizeof(struct loch_layer *));
    if (list == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    for (size_t i = 0; i < at; i++)
        list[n++] = all[i];
    for (size_t i = 0; i < m->file_count; i++)
        list[n++] = m->files[i];
    for (size_t i = at + old_count; i < count; i++)
        list[n++] = all[i];
    *out = list;
    *out_count = n;
    return LOCH_OK;
}

static loch_status manifest_of(const struct loch_timeline *t, struct loch_layer **files,
                               size_t count, struct loch_manifest *next)
{
    LOCH_TRY(loch_manifest_copy(&t->manifest, next));
    struct loch_layer_desc *layers = calloc(count + 1, sizeof *layers);
    if (layers == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    for (size_t i = 0; i < count; i++)
        layers[i] = *loch_layer_desc(files[i]);
    free(next->layers);
    next->layers = layers;
    next->layer_count = (uint32_t)count;
    return LOCH_OK;
}

static loch_status commit(struct loch_timeline *t, const struct loch_merge *m)
{
    struct loch_layer **files = NULL;
    struct loch_manifest next = {0};
    size_t count = 0;
    loch_lsn last = LOCH_LSN_NONE;
    pthread_mutex_lock(&t->commit);
    /* files change under commit alone: what the set shows is what the manifest names */
    struct loch_layer_set *now = LOCH_STORE_MUTATED(FLUSH_FORGOTTEN)
                                     ? loch_layer_set_retain(m->set)
                                     : loch_timeline_layers(t, &last);
    loch_status st = replaced(m, now->files, now->file_count, &files, &count);
    if (loch_is_ok(st))
        st = manifest_of(t, files, count, &next);
    if (loch_is_ok(st))
        st = loch_timeline_put_manifest(t, &next);
    if (loch_is_ok(st)) {
        pthread_mutex_lock(&t->lock);
        struct loch_layer_set_parts parts = loch_timeline_parts(t);
        parts.files = files;
        parts.file_count = count;
        st = loch_timeline_install(t, &parts);
        pthread_mutex_unlock(&t->lock);
        LOCH_ASSERT(loch_is_ok(st)); /* pointers only: no going on without what is committed */
    } else {
        loch_timeline_doubt(t, m->files, m->file_count);
    }
    pthread_mutex_unlock(&t->commit);
    loch_layer_set_release(now);
    free(files);
    loch_manifest_fini(&next);
    return st;
}

/* ---- afterwards ---- */

static void remove_file(const struct loch_timeline *t, const struct loch_layer *layer)
{
    loch_layer_discard(&t->store, &t->info, loch_layer_desc(layer));
}

static void remove_merged(const struct loch_timeline *t, const struct loch_merge *m)
{
    size_t first = m->set->bands[m->plan.first].first;
    for (size_t i = 0; i < m->stats.files_read; i++)
        remove_file(t, m->set->files[first + i]);
}

/* Nothing was put: nobody names what this merge wrote. */
static void remove_written(const struct loch_timeline *t, const struct loch_merge *m)
{
    for (size_t i = 0; i < m->file_count; i++)
        remove_file(t, m->files[i]);
}

static loch_status run(struct loch_timeline *t, struct loch_merge *m)
{
    struct loch_view *view = NULL;
    struct loch_imager imager;
    LOCH_TRY(loch_view_create(t, &view));
    if (!loch_view_ready(view, loch_view_last_record_lsn(view)) &&
        !LOCH_STORE_MUTATED(ANCESTOR_FORGOTTEN)) {
        loch_view_destroy(view);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "an ancestor has not ingested up to the branch point "
                                             "again: images would lack what it lacks");
    }
    loch_imager_init(&imager, view, t->store.image_records_max, t->store.image_bytes_max);
    if (m->idle) {
        imager.tip_max = m->compaction->idle_records;
        imager.tip_images = &m->stats.idle_images;
    }
    m->imager = &imager;
    loch_status st = loch_merge_run(m);
    for (size_t i = 0; i < m->file_count && m->idle; i++)
        loch_layer_set_imaged(m->files[i]);
    loch_view_destroy(view);
    if (!loch_is_ok(st)) {
        remove_written(t, m);
        return st;
    }
    if (LOCH_STORE_MUTATED(OLD_FILES_FIRST))
        remove_merged(t, m);
    LOCH_TRY(commit(t, m)); /* a put may have failed after it was done: its files stay for now */
    remove_merged(t, m);
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_compact(struct loch_timeline *t, const struct loch_compaction *c,
                                  bool *done, struct loch_compaction_stats *stats)
{
    struct loch_layer_set *set = NULL;
    struct loch_merge m = {.timeline = t, .compaction = c};
    *done = false;
    LOCH_TRY(snapshot(t, &m.retention, &set));
    m.set = set;
    m.plan = plan(set, m.retention.cutoff, c, t->keys);
    if (m.plan.count == 0 && c->idle_records > 0) {
        m.plan = idle_plan(set, c->idle_records, c->idle_bytes);
        m.idle = true;
    }
    loch_status st = LOCH_OK;
    if (m.plan.count > 0) {
        st = run(t, &m);
        *done = loch_is_ok(st);
        *stats = m.stats;
    }
    loch_merge_fini(&m);
    loch_layer_set_release(set);
    free((loch_lsn *)(uintptr_t)m.retention.points);
    return st;
}
