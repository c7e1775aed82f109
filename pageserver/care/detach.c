/* Detaching a branch from its parent: it becomes a root that stands on nothing.
 *
 * Everything that can be read at its beginning is written once more, as values under the branch's
 * own keys, in layers that lie just below its first LSN; then its manifest names them and no
 * ancestor: the commit point; then the tenant's manifest says so too (if that is not reached, the
 * next detach does it, and opening takes the timeline's own word). What the branch shared of its
 * parent's history from before the branch point is the parent's alone afterwards. The branch and
 * what stands on it are not served meanwhile, so nothing else writes the manifest. */
#include "tenants.h"

#include "basebackup/basebackup.h"
#include "long_work.h"
#include "read/page_cache.h"
#include "read/view.h"
#include "revocation.h"
#include "served.h"
#include "store/layer.h"
#include "store/mem_layer.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/pg/page.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* Below the branch's first LSN, so that every version of its own is newer. */
#define BELOW_BYTES 8u

struct moved { /* the branch, then what stands on it, ancestors first */
    struct loch_id id, ancestor;
    struct loch_timeline *opened; /* again */
    struct loch_failure why;      /* it could not be */
};

struct detach {
    struct loch_pageserver *ps;
    struct loch_tenant *tenant;
    struct loch_timeline *parent; /* retained */
    struct moved *moved;
    size_t count, stopping;
    sem_t out; /* all of them are out of service */
    struct loch_tenant_manifest manifest;
    struct loch_failure result;
    loch_changed_fn fn;
    void *arg;
};

/* ---- what the branch takes over ---- */

struct copy {
    struct detach *d;
    struct loch_view *view;
    const struct loch_timeline_info *info;
    loch_lsn at, below;   /* read there; written with that LSN */
    loch_lsn forgotten;   /* transactions prepared up to there are not seen at `at` */
    struct loch_key fork; /* whose pages are copied just now */
    struct loch_mem_layer *mem;
    struct loch_layer_desc *layers; /* written, ascending by key */
    uint32_t layer_count;
    uint64_t pages;
};

static loch_status write_layer(struct copy *c)
{
    const struct loch_store *store = &c->d->ps->store;
    if (c->mem == NULL || loch_mem_layer_versions(c->mem) == 0)
        return LOCH_OK;
    struct loch_layer_desc *layers =
        reallocarray(c->layers, (size_t)c->layer_count + 1, sizeof *layers);
    if (layers == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    c->layers = layers;
    loch_mem_layer_freeze(c->mem, c->below);
    LOCH_TRY(
        loch_layer_write(store, c->d->ps->keys, c->info, c->mem, NULL, &c->layers[c->layer_count]));
    c->layer_count++;
    loch_mem_layer_release(c->mem);
    c->mem = NULL;
    return LOCH_OK;
}

/* Keys come in ascending order, so that the layers follow each other in keys. */
static loch_status put(struct copy *c, const struct loch_key *key, struct loch_slice value)
{
    struct loch_version v = {.lsn = c->below, .kind = LOCH_VERSION_VALUE, .bytes = value};
    if (c->mem != NULL && loch_mem_layer_bytes(c->mem) >= c->d->ps->store.open_layer_bytes)
        LOCH_TRY(write_layer(c));
    if (c->mem == NULL)
        LOCH_TRY(loch_mem_layer_create(c->below, &c->mem));
    return loch_mem_layer_put(c->mem, key, NULL, 1, &v);
}

static loch_status copy_value(void *arg, const struct loch_key *key, struct loch_slice value,
                              loch_lsn version)
{
    (void)version;
    return put(arg, key, value);
}

/* All is written with one LSN: what stood below a mark that forgets, and the mark, stay behind. */
static loch_status copy_prepared(void *arg, const struct loch_key *key, struct loch_slice value,
                                 loch_lsn version)
{
    struct copy *c = arg;
    return key->rel == 0 || version <= c->forgotten ? LOCH_OK : put(c, key, value);
}

/* A revocation waits for its end. */
static loch_status copy_page(void *arg, uint32_t block)
{
    struct copy *c = arg;
    struct loch_key to = c->fork;
    struct loch_rel rel = {to.spc, to.db, to.rel};
    uint8_t page[LOCH_PAGE_BYTES];
    LOCH_TRY(loch_keys_blocked(c->d->ps->keys, &c->info->tenant, &c->info->timeline));
    LOCH_TRY(loch_view_page(c->view, &rel, to.fork, block, c->at, page));
    if (loch_page_is_zero(page))
        return LOCH_OK;
    to.kind = LOCH_KEY_PAGE;
    to.block = block;
    c->pages++;
    return put(c, &to, loch_slice_of(page, sizeof page));
}

/* The pages of a relation's fork; zeros stay what is not there. */
static loch_status copy_pages(void *arg, const struct loch_key *key, struct loch_slice value,
                              loch_lsn version)
{
    struct copy *c = arg;
    struct loch_rel rel = {key->spc, key->db, key->rel};
    (void)version;
    if (value.len != 4)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a relation size of %zu bytes", value.len);
    c->fork = *key;
    return loch_view_blocks(c->view, &rel, key->fork, loch_get_u32(value.data), c->at, copy_page,
                            c);
}

static loch_status scan_kind(struct copy *c, enum loch_key_kind kind, loch_view_scan_fn fn)
{
    struct loch_key first = {.kind = (uint8_t)kind}, end = {.kind = (uint8_t)(kind + 1)};
    return loch_view_scan(c->view, &first, &end, c->at, fn, c);
}

/* Cuts need no copy: what they hide is not copied. The branch has a control snapshot of its own. */
static loch_status copy_all(struct copy *c)
{
    static const enum loch_key_kind kinds[] = {
        LOCH_KEY_REL_SIZE, LOCH_KEY_DATABASE, LOCH_KEY_SLRU_PAGE, LOCH_KEY_RELMAP,
        LOCH_KEY_TWOPHASE, LOCH_KEY_AUX_FILE, LOCH_KEY_XACT_TIME, LOCH_KEY_ORIGIN};
    LOCH_TRY(loch_basebackup_forgotten_until(c->view, c->at, &c->forgotten));
    LOCH_TRY(scan_kind(c, LOCH_KEY_REL_SIZE, copy_pages));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        LOCH_TRY(
            scan_kind(c, kinds[i], kinds[i] == LOCH_KEY_TWOPHASE ? copy_prepared : copy_value));
    return write_layer(c);
}

/* The manifest with the copied layers, the oldest of all, and without an ancestor. */
static loch_status commit_timeline(const struct copy *c)
{
    const struct detach *d = c->d;
    struct loch_manifest m = {0}, next = {0};
    struct loch_etag etag = {0};
    loch_status st = loch_manifest_get(&d->ps->store, d->ps->keys, &c->info->tenant,
                                       &c->info->timeline, &m, &etag);
    if (loch_is_ok(st))
        st = loch_manifest_copy(&m, &next);
    struct loch_layer_desc *layers = NULL;
    if (loch_is_ok(st)) {
        layers = reallocarray(next.layers, (size_t)next.layer_count + c->layer_count + 1,
                              sizeof *layers);
        if (layers == NULL)
            st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    }
    if (loch_is_ok(st)) {
        next.layers = layers;
        if (c->layer_count > 0)
            memcpy(layers + next.layer_count, c->layers, c->layer_count * sizeof *layers);
        next.layer_count += c->layer_count;
        next.info.ancestor = (struct loch_id){0};
        next.info.ancestor_lsn = LOCH_LSN_NONE;
        st = loch_manifest_put(&d->ps->store, d->ps->keys, &next, &etag);
    }
    loch_manifest_fini(&m);
    loch_manifest_fini(&next);
    return st;
}

static loch_status open_moved(struct detach *d, const struct moved *m, struct loch_timeline *parent,
                              struct loch_timeline **out)
{
    return loch_timeline_open_born(&d->ps->store, d->ps->keys, &d->tenant->id, &m->id, parent,
                                   loch_tenant_birth(&d->manifest, &m->id), out);
}

static loch_status take_over(struct detach *d)
{
    loch_status st = LOCH_OK;
    struct loch_timeline *t = NULL;
    struct copy c = {.d = d};
    LOCH_TRY(open_moved(d, &d->moved[0], d->parent, &t));
    LOCH_TRY_OUT(st, loch_timeline_flush(t)); /* a newborn's first layer and manifest */
    c.info = loch_timeline_info(t);
    c.at = c.info->start_lsn;
    c.below = c.at - BELOW_BYTES;
    if (!loch_id_is_none(&c.info->ancestor)) { /* else an earlier attempt came that far */
        st = loch_view_create(t, &c.view);
        if (loch_is_ok(st))
            st = copy_all(&c);
        if (loch_is_ok(st))
            st = commit_timeline(&c);
    }
    if (loch_is_ok(st))
        LOCH_INFO("a branch is detached: %" PRIu64 " pages in %u layers are its own now", c.pages,
                  c.layer_count);
out:
    loch_view_destroy(c.view);
    loch_mem_layer_release(c.mem);
    free(c.layers);
    loch_timeline_release(t);
    return st;
}

/* ---- the change of the tenant ---- */

static loch_status commit_tenant(struct detach *d)
{
    for (uint32_t i = 0; i < d->manifest.count; i++) {
        struct loch_tenant_timeline *entry = &d->manifest.timelines[i];
        if (!loch_id_equal(&entry->timeline, &d->moved[0].id))
            continue;
        entry->ancestor = (struct loch_id){0};
        entry->ancestor_lsn = LOCH_LSN_NONE;
    }
    return loch_tenant_put(d->ps, d->tenant, &d->manifest);
}

/* Opens everything again, whatever has become of the change. */
static void open_again(struct detach *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct moved *m = &d->moved[i];
        struct loch_timeline *parent = i == 0 ? d->parent : NULL;
        for (size_t k = 0; k < i; k++) {
            if (loch_id_equal(&d->moved[k].id, &m->ancestor))
                parent = d->moved[k].opened;
        }
        loch_page_cache_drop(d->ps->cache, &d->tenant->id, &m->id);
        loch_failure_set(&m->why, parent == NULL
                                      ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "its ancestor is not open")
                                      : open_moved(d, m, parent, &m->opened));
    }
}

static void stopped(void *arg)
{
    struct detach *d = arg;
    if (--d->stopping == 0)
        LOCH_ASSERT(sem_post(&d->out) == 0);
}

/* On the loop, when the detach's turn has come. What has gone dark meanwhile winds down by itself,
 * and may write until it has: then nothing is changed. */
static void take_out(void *arg)
{
    struct detach *d = arg;
    if (d->tenant->dark || d->tenant->darkening > 0) {
        loch_failure_set(&d->result, LOCH_FAIL(LOCH_E_UNAVAILABLE, "its keys went meanwhile"));
        d->count = 0;
    }
    d->stopping = 1; /* until all of them have been told */
    for (size_t i = 0; i < d->count; i++) {
        struct loch_served *served = loch_served_find(d->ps, &d->tenant->id, &d->moved[i].id);
        if (served == NULL)
            continue;
        d->stopping++;
        loch_served_stop(served, stopped, d);
    }
    stopped(d);
}

static void detach_work(void *arg)
{
    struct detach *d = arg;
    loch_env_post(d->ps->env, take_out, d);
    while (sem_wait(&d->out) != 0) /* a debugger's signal */
        continue;
    loch_status st = loch_failure_raise(&d->result);
    if (loch_is_ok(st))
        st = take_over(d);
    if (loch_is_ok(st))
        st = commit_tenant(d);
    loch_failure_set(&d->result, st);
    open_again(d);
}

static void finish(struct detach *d, loch_status st)
{
    d->tenant->busy = false;
    d->fn(d->arg, st);
    loch_tenant_manifest_fini(&d->manifest);
    loch_timeline_release(d->parent);
    (void)sem_destroy(&d->out);
    free(d->moved);
    free(d);
}

static void finish_later(void *arg)
{
    struct detach *d = arg;
    finish(d, loch_failure_raise(&d->result));
}

static void serve_again(struct detach *d, struct moved *m)
{
    struct loch_served *served = NULL;
    if (d->tenant->dark) { /* it comes back with the tenant */
        loch_timeline_release(m->opened);
        return;
    }
    const loch_status st = loch_served_enter(d->ps, &d->tenant->id, &m->id, m->opened, &m->why);
    if (loch_is_ok(st))
        return;
    loch_log_failure("a timeline is not served after a detach");
    if (!loch_is_ok(loch_served_create_broken(d->ps, &d->tenant->id, &m->id, st, &served)))
        loch_log_failure("no memory to remember it");
    loch_revocation_retry(d->ps, &d->tenant->id, &m->id, st);
}

static void detach_done(void *arg)
{
    struct detach *d = arg;
    if (loch_is_ok(d->result.st))
        loch_tenant_take(d->tenant, &d->manifest);
    for (size_t i = 0; i < d->count; i++)
        serve_again(d, &d->moved[i]);
    finish_later(d);
}

/* The branch and all that stands on it; the manifest names ancestors first. */
static loch_status list_moved(struct detach *d, const struct loch_id *timeline)
{
    const struct loch_tenant_manifest *m = &d->tenant->manifest;
    d->moved = calloc((size_t)m->count + 1, sizeof *d->moved);
    if (d->moved == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of timelines");
    for (uint32_t i = 0; i < m->count; i++) {
        const struct loch_tenant_timeline *entry = &m->timelines[i];
        bool in = loch_id_equal(&entry->timeline, timeline);
        for (size_t k = 0; k < d->count; k++)
            in = in || loch_id_equal(&d->moved[k].id, &entry->ancestor);
        if (in && !entry->archived) /* it is not served anyway */
            d->moved[d->count++] =
                (struct moved){.id = entry->timeline, .ancestor = entry->ancestor};
    }
    return LOCH_OK;
}

static loch_status begin(struct detach *d, const struct loch_id *timeline)
{
    const struct loch_tenant_timeline *entry = loch_tenant_timeline_find(d->tenant, timeline);
    if (entry == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline");
    if (entry->archived)
        return LOCH_FAIL(LOCH_E_INVALID, "%s is archived: unarchive it first", entry->name);
    if (loch_id_is_none(&entry->ancestor))
        return LOCH_FAIL(LOCH_E_INVALID, "%s has no parent", entry->name);
    const struct loch_id lock = loch_keys_lock(d->ps->keys, &d->tenant->id, timeline);
    if (!loch_id_is_none(&lock) && !loch_id_equal(&lock, timeline))
        return LOCH_FAIL(LOCH_E_INVALID, "%s stays below the branch whose CMK holds its keys",
                         entry->name);
    const struct loch_served *above = loch_served_find(d->ps, &d->tenant->id, &entry->ancestor);
    if (above == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the parent of %s is not served here", entry->name);
    LOCH_TRY(loch_served_usable(above));
    if (!loch_timeline_ready(loch_served_timeline(above), entry->ancestor_lsn))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the parent of %s is still reading its WAL again",
                         entry->name);
    d->parent = loch_timeline_retain(loch_served_timeline(above));
    LOCH_TRY(list_moved(d, timeline));
    LOCH_TRY(loch_tenant_next(d->ps, d->tenant, &d->manifest));
    return loch_long_work(d->ps, &d->tenant->id, detach_work, detach_done, d);
}

void loch_branch_detach(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_id *timeline, loch_changed_fn fn, void *arg)
{
    struct detach *d = calloc(1, sizeof *d);
    if (d == NULL || tenant->busy) {
        free(d);
        fn(arg, LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress"));
        return;
    }
    *d = (struct detach){.ps = ps, .tenant = tenant, .fn = fn, .arg = arg};
    LOCH_ASSERT(sem_init(&d->out, 0, 0) == 0);
    tenant->busy = true;
    loch_status st = begin(d, timeline);
    if (!loch_is_ok(st)) {
        loch_failure_set(&d->result, st);
        loch_env_post(ps->env, finish_later, d);
    }
}
