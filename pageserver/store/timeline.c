/* A timeline: its open and frozen memory layers, its layer files, its manifest. */
#include "timeline_impl.h"

#include "hot.h"
#include "layer_copy.h"
#include "mutation.h"
#include "pushdown.h"
#include "read/imager.h"
#include "read/view.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>

/* Times of LSNs are kept this far apart at least. */
#define MARK_GAP_US (INT64_C(10) * 1000000)

/* ---- the current list ---- */

struct loch_layer_set *loch_timeline_layers(struct loch_timeline *t, loch_lsn *last_record_lsn)
{
    pthread_mutex_lock(&t->lock);
    struct loch_layer_set *set = loch_layer_set_retain(t->set);
    *last_record_lsn = t->last_record_lsn;
    pthread_mutex_unlock(&t->lock);
    return set;
}

struct loch_timeline *loch_timeline_parent(struct loch_timeline *t)
{
    return t->parent;
}

const struct loch_store *loch_timeline_store(const struct loch_timeline *t)
{
    return &t->store;
}

const struct loch_timeline_info *loch_timeline_info(const struct loch_timeline *t)
{
    return &t->info;
}

/* pthread_mutex_lock wants a pointer to non-const; the timeline is never a const object. */
static loch_lsn read_lsn(const struct loch_timeline *t, const loch_lsn *field)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&t->lock;
    pthread_mutex_lock(lock);
    loch_lsn lsn = *field;
    pthread_mutex_unlock(lock);
    return lsn;
}

loch_lsn loch_timeline_last_record_lsn(const struct loch_timeline *t)
{
    return read_lsn(t, &t->last_record_lsn);
}

loch_lsn loch_timeline_prev_record_lsn(const struct loch_timeline *t)
{
    return read_lsn(t, &t->prev_record_lsn);
}

loch_lsn loch_timeline_disk_consistent_lsn(const struct loch_timeline *t)
{
    return read_lsn(t, &t->disk_consistent_lsn);
}

bool loch_timeline_ready(const struct loch_timeline *t, loch_lsn lsn)
{
    for (; t != NULL; t = t->parent) {
        if (loch_timeline_last_record_lsn(t) < lsn)
            return false;
        lsn = loch_ancestor_read_lsn(lsn, t->info.ancestor_lsn);
    }
    return true;
}

size_t loch_timeline_frozen_bytes(const struct loch_timeline *t)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&t->lock;
    pthread_mutex_lock(lock);
    size_t bytes = t->frozen_bytes;
    pthread_mutex_unlock(lock);
    return bytes;
}

size_t loch_timeline_open_bytes(const struct loch_timeline *t)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&t->lock;
    pthread_mutex_lock(lock);
    size_t bytes = t->set->mem_count > 0 ? loch_mem_layer_bytes(t->set->mem[0]) : 0;
    pthread_mutex_unlock(lock);
    return bytes;
}

struct loch_layer_set_parts loch_timeline_parts(const struct loch_timeline *t)
{
    struct loch_layer_set_parts parts = {0};
    if (t->set != NULL) {
        parts.files = t->set->files;
        parts.file_count = t->set->file_count;
        parts.retention = t->set->retention;
        parts.cutoff_us = t->set->cutoff_us;
    }
    return parts;
}

LOCH_STATUS loch_timeline_install(struct loch_timeline *t, struct loch_layer_set_parts *parts)
{
    size_t n = 0;
    for (struct frozen *f = t->oldest; f != NULL; f = f->newer)
        n++;
    struct loch_mem_layer **frozen = calloc(n + 1, sizeof(struct loch_mem_layer *));
    if (frozen == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    size_t at = n;
    for (struct frozen *f = t->oldest; f != NULL; f = f->newer)
        frozen[--at] = f->layer;
    struct loch_layer_set *set = NULL;
    parts->open = t->open;
    parts->frozen = frozen;
    parts->frozen_count = n;
    loch_status st = loch_layer_set_create(parts, &set);
    free(frozen);
    LOCH_TRY(st);
    loch_layer_set_release(t->set);
    t->set = set;
    return LOCH_OK;
}

void loch_timeline_doubt(struct loch_timeline *t, struct loch_layer *const *files, size_t count)
{
    struct loch_layer_desc *list =
        reallocarray(t->doubtful, t->doubtful_count + count + 1, sizeof *list);
    if (list == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        list[t->doubtful_count++] = *loch_layer_desc(files[i]);
    t->doubtful = list;
}

static loch_status put_next(struct loch_timeline *t, const struct loch_manifest *next)
{
    const loch_status st = loch_manifest_put_anew(&t->store, t->keys, next, &t->etag, &t->doubt);
    if (t->doubt.any)
        t->manifest.generation = next->generation; /* the next try is another manifest */
    LOCH_TRY(st);
    while (t->doubtful_count > 0)
        loch_layer_discard(&t->store, &t->info, &t->doubtful[--t->doubtful_count]);
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_put_manifest(struct loch_timeline *t, struct loch_manifest *next)
{
    /* The parts of an import become known together. */
    if (next->disk_consistent_lsn >= next->info.start_lsn)
        LOCH_TRY(put_next(t, next));
    loch_manifest_fini(&t->manifest);
    t->manifest = *next;
    *next = (struct loch_manifest){0};
    atomic_store_explicit(&t->settled, true, memory_order_release);
    return LOCH_OK;
}

/* ---- birth and end ---- */

static loch_status allocate(const struct loch_store *store, struct loch_keys *keys,
                            struct loch_timeline *parent, struct loch_timeline **out)
{
    struct loch_timeline *t = calloc(1, sizeof *t);
    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a timeline");
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->flush, NULL);
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->commit, NULL);
    t->window = t->manifest.window = LOCH_WINDOW_DEFAULT;
    t->store = *store;
    if (t->store.image_records_max == 0) {
        t->store.image_records_max = LOCH_IMAGE_RECORDS_MAX;
        t->store.image_bytes_max = LOCH_IMAGE_BYTES_MAX;
    }
    t->keys = keys;
    if (parent != NULL)
        t->parent = loch_timeline_retain(parent);
    *out = t;
    return LOCH_OK;
}

struct loch_timeline *loch_timeline_retain(struct loch_timeline *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

static void free_frozen(struct frozen *f)
{
    for (size_t i = 0; i < f->file_count; i++)
        loch_layer_release(f->files[i]);
    loch_mem_layer_release(f->layer);
    loch_buf_fini(&f->control);
    free(f);
}

bool loch_timeline_is_last(const struct loch_timeline *t)
{
    return atomic_load_explicit(&t->refs, memory_order_acquire) == 1;
}

void loch_timeline_release(struct loch_timeline *t)
{
    while (t != NULL && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
        struct loch_timeline *parent = t->parent;
        loch_hold_release(t->branch_point);
        loch_timeline_free_leases(t);
        while (t->oldest != NULL) {
            struct frozen *next = t->oldest->newer;
            free_frozen(t->oldest);
            t->oldest = next;
        }
        loch_layer_set_release(t->set);
        loch_mem_layer_release(t->open);
        loch_manifest_fini(&t->manifest);
        free(t->doubtful);
        pthread_mutex_destroy(&t->flush);
        pthread_mutex_destroy(&t->lock);
        pthread_mutex_destroy(&t->commit);
        free(t);
        t = parent;
    }
}

static loch_status begin_at(struct loch_timeline *t, loch_lsn lsn, loch_lsn prev)
{
    t->last_record_lsn = t->disk_consistent_lsn = lsn;
    t->prev_record_lsn = prev;
    LOCH_TRY(loch_mem_layer_create(lsn, &t->open));
    pthread_mutex_lock(&t->lock);
    struct loch_layer_set_parts parts = loch_timeline_parts(t);
    parts.retention = (struct loch_retention){t->manifest.cutoff.lsn, t->manifest.points,
                                              t->manifest.point_count};
    parts.cutoff_us = t->manifest.cutoff.wall_us;
    loch_status st = loch_timeline_install(t, &parts);
    pthread_mutex_unlock(&t->lock);
    return st;
}

/* The ancestor keeps what this branch stands on. */
static loch_status hold_branch_point(struct loch_timeline *t)
{
    if (t->parent == NULL || LOCH_STORE_MUTATED(BRANCH_NOT_HELD))
        return LOCH_OK;
    return loch_timeline_hold(t->parent, t->info.ancestor_lsn, &t->branch_point);
}

LOCH_STATUS loch_timeline_create(const struct loch_store *store, struct loch_keys *keys,
                                 const struct loch_timeline_info *info,
                                 struct loch_timeline *parent, struct loch_timeline **out)
{
    LOCH_ASSERT((parent != NULL) == !loch_id_is_none(&info->ancestor));
    struct loch_timeline *t = NULL;
    LOCH_TRY(allocate(store, keys, parent, &t));
    t->info = *info;
    loch_status st = hold_branch_point(t);
    if (loch_is_ok(st) && parent != NULL && loch_timeline_own_window(parent, &t->window))
        t->manifest.window = t->window;
    if (loch_is_ok(st))
        st = begin_at(t, info->start_lsn, LOCH_LSN_NONE);
    if (!loch_is_ok(st)) {
        loch_timeline_release(t);
        return st;
    }
    *out = t;
    return LOCH_OK;
}

struct sweep {
    struct loch_timeline *t;
    const char *dir;
    size_t removed;
};

static bool sweep_file(void *arg, const char *name)
{
    struct sweep *s = arg;
    char path[LOCH_LAYER_PATH_BYTES], wanted[LOCH_LAYER_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return true;
    for (uint32_t i = 0; i < s->t->manifest.layer_count; i++) {
        loch_status st =
            loch_layer_path(&s->t->store, &s->t->info, &s->t->manifest.layers[i], wanted);
        if (!loch_is_ok(st) || strcmp(path, wanted) == 0)
            return true;
    }
    /* The object first: as long as the file is there, the next opening comes here again. */
    if (loch_is_ok(loch_layer_copy_name(&s->t->info.tenant, &s->t->info.timeline, name, wanted)) &&
        loch_is_ok(loch_objstore_delete(s->t->store.objstore, wanted)) &&
        loch_is_ok(loch_env_unlink(s->t->store.env, path)))
        s->removed++;
    return true;
}

/* A file that is damaged or gone comes back from its copy, if there is one. */
static loch_status open_layer(struct loch_timeline *t, const struct loch_layer_desc *desc,
                              struct loch_layer **out)
{
    char why[400];
    loch_status st = loch_layer_open(&t->store, t->keys, &t->info, desc, out);
    if (st.code != LOCH_E_CORRUPT && st.code != LOCH_E_NOT_FOUND && st.code != LOCH_E_IO)
        return st;
    snprintf(why, sizeof why, "%s", loch_error_text());
    const loch_status fetched = loch_layer_copy_fetch(&t->store, t->keys, &t->info, desc);
    if (loch_status_passes(fetched)) /* it may be there */
        return loch_layer_copy_away(fetched, why);
    if (!loch_is_ok(fetched))
        return LOCH_FAIL(st.code, "%s", why);
    LOCH_WARN("a layer file came back from its copy: %s", why);
    if (t->store.heals != NULL)
        atomic_fetch_add_explicit(&t->store.heals->files, 1, memory_order_relaxed);
    return loch_layer_open(&t->store, t->keys, &t->info, desc, out);
}

static loch_status open_layers(struct loch_timeline *t)
{
    uint32_t n = t->manifest.layer_count;
    struct loch_layer **files = calloc((size_t)n + 1, sizeof(struct loch_layer *));
    if (files == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u layers", n);
    loch_status st = LOCH_OK;
    for (uint32_t i = 0; i < n && loch_is_ok(st); i++)
        st = open_layer(t, &t->manifest.layers[i], &files[i]);
    struct loch_layer_set_parts parts = {.files = files, .file_count = n};
    if (loch_is_ok(st))
        st = loch_layer_set_create(&parts, &t->set);
    for (uint32_t i = 0; i < n; i++)
        loch_layer_release(files[i]);
    free(files);
    return st;
}

static loch_status open_existing(struct loch_timeline *t)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    atomic_store_explicit(&t->settled, true, memory_order_release);
    t->info = t->manifest.info;
    t->opened_ns = loch_env_now_ns(t->store.env);
    t->window = t->manifest.window;
    if (t->parent != NULL && loch_id_is_none(&t->info.ancestor)) {
        /* It was detached, and its tenant's manifest does not say so yet. */
        loch_timeline_release(t->parent);
        t->parent = NULL;
    }
    if ((t->parent != NULL) != !loch_id_is_none(&t->info.ancestor))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a timeline's manifest and its tenant's disagree about "
                                         "its ancestor");
    LOCH_TRY(hold_branch_point(t));
    LOCH_TRY(open_layers(t));
    LOCH_TRY(loch_timeline_dir(&t->store, &t->info.tenant, &t->info.timeline, dir));
    struct sweep sweep = {t, dir, 0};
    loch_status st = loch_env_list_dir(t->store.env, dir, sweep_file, &sweep);
    if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND) /* made with the first layer */
        return st;
    if (sweep.removed > 0)
        LOCH_INFO("removed %zu layer files that no manifest names", sweep.removed);
    return begin_at(t, t->manifest.disk_consistent_lsn, t->manifest.prev_lsn);
}

/* The first versions of a new timeline, in a frozen layer that is not written yet. */
static loch_status put_first(struct loch_timeline *t, loch_lsn prev_lsn, struct loch_slice control,
                             bool forget_prepared)
{
    struct loch_key mark = LOCH_TWOPHASE_FORGET_KEY;
    struct loch_key key = {.kind = LOCH_KEY_CONTROL};
    if (forget_prepared)
        LOCH_TRY(loch_timeline_put_value(t, &mark, t->info.start_lsn, loch_slice_of("", 1)));
    pthread_mutex_lock(&t->lock);
    t->last_record_lsn = t->info.start_lsn;
    t->prev_record_lsn = prev_lsn;
    pthread_mutex_unlock(&t->lock);
    LOCH_TRY(loch_timeline_put_value(t, &key, t->info.start_lsn, control));
    return loch_timeline_freeze(t, control);
}

/* A branch whose own manifest is not in the store yet, from what its tenant's manifest says. */
static loch_status begin_again(struct loch_timeline *t, const struct loch_id *tenant,
                               const struct loch_id *timeline, struct loch_slice birth)
{
    LOCH_TRY(loch_manifest_decode(loch_slice_of(birth.data + 1, birth.len - 1), &t->manifest));
    t->info = t->manifest.info;
    if (!loch_id_equal(&t->info.tenant, tenant) || !loch_id_equal(&t->info.timeline, timeline) ||
        t->parent == NULL || t->manifest.layer_count > 0 ||
        t->manifest.disk_consistent_lsn != t->info.start_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a branch's birth is not that of a branch");
    t->opened_ns = loch_env_now_ns(t->store.env);
    t->window = t->manifest.window;
    t->manifest.generation = 0; /* none was put */
    LOCH_TRY(hold_branch_point(t));
    LOCH_TRY(begin_at(t, t->info.start_lsn, t->manifest.prev_lsn));
    return put_first(t, t->manifest.prev_lsn, loch_buf_slice(&t->manifest.control),
                     birth.data[0] != 0);
}

LOCH_STATUS loch_timeline_open_born(const struct loch_store *store, struct loch_keys *keys,
                                    const struct loch_id *tenant, const struct loch_id *timeline,
                                    struct loch_timeline *parent, struct loch_slice birth,
                                    struct loch_timeline **out)
{
    struct loch_timeline *t = NULL;
    LOCH_TRY(allocate(store, keys, parent, &t));
    loch_status st = loch_manifest_get(&t->store, keys, tenant, timeline, &t->manifest, &t->etag);
    if (loch_is_ok(st))
        st = open_existing(t);
    else if (st.code == LOCH_E_NOT_FOUND && birth.len > 0) {
        st = loch_manifest_unseen(&t->store, tenant, timeline);
        if (loch_is_ok(st))
            st = begin_again(t, tenant, timeline, birth);
    }
    if (!loch_is_ok(st)) {
        loch_timeline_release(t);
        return st;
    }
    *out = t;
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_open(const struct loch_store *store, struct loch_keys *keys,
                               const struct loch_id *tenant, const struct loch_id *timeline,
                               struct loch_timeline *parent, struct loch_timeline **out)
{
    return loch_timeline_open_born(store, keys, tenant, timeline, parent, loch_slice_of(NULL, 0),
                                   out);
}

LOCH_STATUS loch_timeline_control(const struct loch_timeline *t, struct loch_buf *out)
{
    return loch_buf_append(out, t->manifest.control.data, t->manifest.control.len);
}

/* ---- putting ---- */

LOCH_STATUS loch_timeline_put_value(struct loch_timeline *t, const struct loch_key *key,
                                    loch_lsn lsn, struct loch_slice bytes)
{
    struct loch_version v = {.lsn = lsn, .kind = LOCH_VERSION_VALUE, .bytes = bytes};
    return loch_mem_layer_put(t->open, key, NULL, 1, &v);
}

LOCH_STATUS loch_timeline_put_op(struct loch_timeline *t, const struct loch_key *key, loch_lsn lsn,
                                 struct loch_slice op)
{
    struct loch_version v = {.lsn = lsn, .kind = LOCH_VERSION_OP, .bytes = op};
    struct loch_mem_chain chain;
    LOCH_TRY(loch_mem_layer_put_chains(t->open, key, NULL, 1, &v, &chain));
    return loch_timeline_bound_chain(t, key, lsn, &chain);
}

LOCH_STATUS loch_timeline_put_record(struct loch_timeline *t, const struct loch_put_ref *refs,
                                     size_t count, loch_lsn start_lsn, loch_lsn end_lsn,
                                     struct loch_slice record)
{
    struct loch_key keys[64];
    uint8_t kinds[64];
    struct loch_mem_chain chains[64];
    LOCH_ASSERT(count <= sizeof kinds);
    if (count == 0)
        return LOCH_OK;
    for (size_t i = 0; i < count; i++) {
        keys[i] = refs[i].key;
        kinds[i] = refs[i].will_init ? LOCH_VERSION_RECORD_INIT : LOCH_VERSION_RECORD;
    }
    struct loch_version v = {
        .lsn = end_lsn, .start_lsn = start_lsn, .kind = LOCH_VERSION_RECORD, .bytes = record};
    LOCH_TRY(loch_mem_layer_put_chains(t->open, keys, kinds, count, &v, chains));
    for (size_t i = 0; i < count; i++)
        LOCH_TRY(loch_timeline_bound_chain(t, &keys[i], end_lsn, &chains[i]));
    return LOCH_OK;
}

void loch_timeline_take_back(struct loch_timeline *t)
{
    loch_mem_layer_take_back(t->open, loch_timeline_last_record_lsn(t));
}

void loch_timeline_advance(struct loch_timeline *t, loch_lsn end, loch_lsn start)
{
    pthread_mutex_lock(&t->lock);
    LOCH_ASSERT(end > t->last_record_lsn);
    t->last_record_lsn = end;
    t->prev_record_lsn = start;
    pthread_mutex_unlock(&t->lock);
}

bool loch_timeline_wants_freeze(const struct loch_timeline *t)
{
    return loch_mem_layer_bytes(t->open) >= t->store.open_layer_bytes;
}

/* Moves the open layer to the list of frozen ones; a fresh one takes its place. After a failure all
 * is as it was. Lock held. */
static loch_status freeze_locked(struct loch_timeline *t, struct frozen *f,
                                 struct loch_mem_layer *fresh)
{
    struct loch_mem_layer *closed = t->open;
    struct frozen **link = t->newest != NULL ? &t->newest->newer : &t->oldest;
    struct loch_layer_set_parts parts = loch_timeline_parts(t);
    f->layer = closed;
    f->end_lsn = t->last_record_lsn;
    f->prev_lsn = t->prev_record_lsn;
    *link = f;
    t->open = fresh;
    loch_status st = loch_timeline_install(t, &parts);
    if (!loch_is_ok(st)) {
        *link = NULL;
        t->open = closed;
        f->layer = NULL;
        return st;
    }
    loch_mem_layer_freeze(closed, t->last_record_lsn);
    t->newest = f;
    t->frozen_bytes += loch_mem_layer_bytes(closed);
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_freeze(struct loch_timeline *t, struct loch_slice control)
{
    loch_lsn last = loch_timeline_last_record_lsn(t);
    if (loch_mem_layer_versions(t->open) == 0 && last == loch_mem_layer_start_lsn(t->open))
        return LOCH_OK;
    struct frozen *f = calloc(1, sizeof *f);
    struct loch_mem_layer *fresh = NULL;
    if (f == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a frozen layer");
    loch_status st = loch_buf_append(&f->control, control.data, control.len);
    if (loch_is_ok(st))
        st = loch_mem_layer_create(last, &fresh);
    if (loch_is_ok(st)) {
        pthread_mutex_lock(&t->lock);
        st = freeze_locked(t, f, fresh);
        pthread_mutex_unlock(&t->lock);
    }
    if (!loch_is_ok(st)) {
        loch_mem_layer_release(fresh);
        free_frozen(f);
    }
    return st;
}

/* ---- flushing ---- */

/* Files that were written and not all opened, which no manifest names: the next try writes others.
 * Passes the failure on. */
static loch_status discard_parts(struct loch_timeline *t, struct frozen *f,
                                 const struct loch_layer_desc *descs, size_t count, loch_status why)
{
    char text[400];
    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    while (f->file_count > 0)
        loch_layer_release(f->files[--f->file_count]);
    for (size_t i = 0; i < count; i++)
        loch_layer_discard(&t->store, &t->info, &descs[i]);
    return LOCH_FAIL(why.code, "%s", text);
}

/* For what is put before anybody asks how long a chain is (hot.c). */
static void leave_room(struct loch_imager *imager)
{
    if (LOCH_STORE_MUTATED(ROOM_FORGOTTEN))
        return;
    imager->tip_max = imager->records_max - LOCH_CHAIN_ROOM(imager->records_max);
    imager->tip_bytes = imager->bytes_max - LOCH_CHAIN_ROOM(imager->bytes_max);
}

static loch_status write_layers(struct loch_timeline *t, struct frozen *f)
{
    struct loch_view *views[LOCH_FLUSH_PARTS_MAX] = {0}; /* each for one thread */
    struct loch_imager imagers[LOCH_FLUSH_PARTS_MAX];
    struct loch_layer_desc descs[LOCH_FLUSH_PARTS_MAX];
    const size_t parts = loch_layer_parts(&t->store, f->layer);
    size_t count = 0;
    loch_status st;
    for (size_t i = 0; i < parts; i++) {
        LOCH_TRY_OUT(st, loch_view_create(t, &views[i]));
        loch_imager_init(&imagers[i], views[i], t->store.image_records_max,
                         t->store.image_bytes_max);
        leave_room(&imagers[i]);
    }
    LOCH_TRY_OUT(st, loch_layer_write_parts(&t->store, t->keys, &t->info, f->layer, imagers, parts,
                                            descs, &count));
    for (; f->file_count < count && loch_is_ok(st); f->file_count += loch_is_ok(st))
        st = loch_layer_open(&t->store, t->keys, &t->info, &descs[f->file_count],
                             &f->files[f->file_count]);
    if (!loch_is_ok(st))
        st = discard_parts(t, f, descs, count, st);
out:
    for (size_t i = 0; i < parts; i++)
        loch_view_destroy(views[i]);
    return st;
}

/* The manifest that names f's files too and stands at its end. */
static loch_status next_manifest(const struct loch_timeline *t, const struct frozen *f,
                                 struct loch_manifest *next)
{
    LOCH_TRY(loch_manifest_copy(&t->manifest, next));
    next->info = t->info;
    next->disk_consistent_lsn = f->end_lsn;
    next->prev_lsn = f->prev_lsn;
    struct loch_layer_desc *layers =
        reallocarray(next->layers, next->layer_count + f->file_count + 1, sizeof *layers);
    if (layers == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    next->layers = layers;
    memmove(layers + f->file_count, layers, next->layer_count * sizeof *layers);
    for (size_t i = 0; i < f->file_count; i++)
        layers[i] = *loch_layer_desc(f->files[i]);
    next->layer_count += (uint32_t)f->file_count;
    if (f->file_count > 1 && LOCH_STORE_MUTATED(PART_FORGOTTEN))
        memmove(layers + f->file_count - 1, layers + f->file_count,
                (--next->layer_count - f->file_count + 1) * sizeof *layers);
    next->mark_count =
        (uint32_t)loch_marks_add(next->marks, next->mark_count, f->end_lsn,
                                 loch_env_wall_us(t->store.env), MARK_GAP_US, next->cutoff.lsn);
    next->control.len = 0;
    return loch_buf_append(&next->control, f->control.data, f->control.len);
}

/* Takes the oldest frozen layer out and its files in; lock held. */
static loch_status replace_locked(struct loch_timeline *t, const struct frozen *f)
{
    struct loch_layer_set_parts parts = loch_timeline_parts(t);
    struct loch_layer **files =
        calloc(parts.file_count + f->file_count + 1, sizeof(struct loch_layer *));
    if (files == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    size_t n = 0;
    for (size_t i = 0; i < f->file_count; i++)
        files[n++] = f->files[i];
    for (size_t i = 0; i < parts.file_count; i++)
        files[n++] = parts.files[i];
    parts.files = files;
    parts.file_count = n;
    t->oldest = f->newer;
    if (t->oldest == NULL)
        t->newest = NULL;
    t->frozen_bytes -= loch_mem_layer_bytes(f->layer);
    t->disk_consistent_lsn = f->end_lsn;
    loch_status st = loch_timeline_install(t, &parts);
    free(files);
    return st;
}

static loch_status commit_flush(struct loch_timeline *t, struct frozen *f)
{
    struct loch_manifest next = {0};
    pthread_mutex_lock(&t->commit);
    loch_status st = next_manifest(t, f, &next);
    if (loch_is_ok(st))
        st = loch_timeline_put_manifest(t, &next);
    if (loch_is_ok(st)) {
        pthread_mutex_lock(&t->lock);
        st = replace_locked(t, f);
        pthread_mutex_unlock(&t->lock);
        LOCH_ASSERT(loch_is_ok(st)); /* pointers only: no going on without what is committed */
        free_frozen(f);
    }
    pthread_mutex_unlock(&t->commit);
    loch_manifest_fini(&next);
    return st;
}

static loch_status flush_one(struct loch_timeline *t, struct frozen *f)
{
    if (!f->written && loch_mem_layer_versions(f->layer) > 0)
        LOCH_TRY(write_layers(t, f));
    f->written = true;
    return commit_flush(t, f);
}

static struct frozen *oldest(struct loch_timeline *t)
{
    pthread_mutex_lock(&t->lock);
    struct frozen *f = t->oldest;
    pthread_mutex_unlock(&t->lock);
    return f;
}

LOCH_STATUS loch_timeline_flush_oldest(struct loch_timeline *t)
{
    loch_status st = LOCH_OK;
    pthread_mutex_lock(&t->flush);
    struct frozen *f = oldest(t);
    do {
        if (f != NULL)
            st = flush_one(t, f);
        f = oldest(t);
    } while (loch_is_ok(st) && f != NULL && loch_mem_layer_versions(f->layer) == 0);
    pthread_mutex_unlock(&t->flush);
    return st;
}

LOCH_STATUS loch_timeline_flush(struct loch_timeline *t)
{
    loch_status st;
    do
        st = loch_timeline_flush_oldest(t);
    while (loch_is_ok(st) && oldest(t) != NULL);
    return st;
}

LOCH_STATUS loch_timeline_parts_begin(struct loch_timeline *t)
{
    LOCH_ASSERT(t->parent == NULL);
    if (t->info.start_lsn <= LOCH_TIMELINE_PARTS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, LOCH_LSN_FMT " is no place for a checkpoint",
                         LOCH_LSN_ARG(t->info.start_lsn));
    loch_mem_layer_release(t->open);
    t->open = NULL;
    return begin_at(t, t->info.start_lsn - LOCH_TIMELINE_PARTS_MAX, LOCH_LSN_NONE);
}

loch_lsn loch_timeline_part_lsn(const struct loch_timeline *t)
{
    return loch_timeline_last_record_lsn(t) + 1;
}

LOCH_STATUS loch_timeline_part_end(struct loch_timeline *t, struct loch_slice control)
{
    loch_lsn lsn = loch_timeline_part_lsn(t);
    if (lsn >= t->info.start_lsn)
        return LOCH_FAIL(LOCH_E_LIMIT, "the import has more than %u parts",
                         LOCH_TIMELINE_PARTS_MAX);
    loch_timeline_advance(t, lsn, lsn - 1);
    LOCH_TRY(loch_timeline_freeze(t, control));
    return loch_timeline_flush(t);
}

LOCH_STATUS loch_timeline_commit(struct loch_timeline *t, loch_lsn prev_lsn,
                                 struct loch_slice control)
{
    LOCH_TRY(put_first(t, prev_lsn, control, false));
    return loch_timeline_flush(t);
}

LOCH_STATUS loch_timeline_birth(struct loch_timeline *t, loch_lsn prev_lsn,
                                struct loch_slice control, bool forget_prepared,
                                struct loch_buf *birth)
{
    const uint8_t forget = forget_prepared;
    t->manifest.info = t->info;
    t->manifest.disk_consistent_lsn = t->info.start_lsn;
    t->manifest.prev_lsn = prev_lsn;
    t->manifest.control.len = 0;
    LOCH_TRY(loch_buf_append(&t->manifest.control, control.data, control.len));
    LOCH_TRY(put_first(t, prev_lsn, control, forget_prepared));
    LOCH_TRY(loch_buf_append(birth, &forget, 1));
    return loch_manifest_encode(&t->manifest, birth);
}

bool loch_timeline_settled(const struct loch_timeline *t)
{
    return atomic_load_explicit(&t->settled, memory_order_acquire);
}
