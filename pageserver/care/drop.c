/* Dropping branches and tenants: the manifest first, then the service, then objects and files.
 *
 * A drop of a branch that ended behind its manifest can be repeated with its id. */
#include "tenants.h"

#include "long_work.h"
#include "read/page_cache.h"
#include "redo_pool/redo_pool.h"
#include "served.h"
#include "tenant_files.h"

#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMOVAL_FAILED "its removal failed: "

struct drop {
    struct loch_pageserver *ps;
    struct loch_tenant *tenant;
    struct loch_id timeline; /* none: the whole tenant */
    struct loch_tenant_manifest manifest;
    size_t stopping; /* timelines that still wind down */
    struct loch_failure result;
    loch_changed_fn fn;
    void *arg;
};

static void finish(struct drop *d, loch_status st)
{
    if (d->tenant != NULL)
        d->tenant->busy = d->tenant->going = false;
    d->fn(d->arg, st);
    loch_tenant_manifest_fini(&d->manifest);
    free(d);
}

static void finish_later(void *arg)
{
    struct drop *d = arg;
    finish(d, loch_failure_raise(&d->result));
}

static void forget_tenant(struct drop *d)
{
    loch_tenant_delist(d->ps, d->tenant);
    loch_tenant_manifest_fini(&d->tenant->manifest);
    free(d->tenant);
    d->tenant = NULL;
}

/* ---- objects and files ---- */

static void remove_work(void *arg)
{
    struct drop *d = arg;
    if (loch_id_is_none(&d->timeline)) {
        loch_failure_set(&d->result, tenant_remove(d->ps, &d->tenant->id, &d->tenant->manifest));
        loch_keys_tenant_drop(d->ps->keys, &d->tenant->id);
        if (loch_is_ok(d->result.st))
            loch_failure_set(&d->result, tenant_unpin(d->ps, &d->tenant->id, &d->tenant->manifest));
        loch_redo_pool_drop_tenant(d->ps->redo, &d->tenant->id);
        return;
    }
    loch_page_cache_drop(d->ps->cache, &d->tenant->id, &d->timeline);
    loch_failure_set(&d->result, tenant_remove_timeline(d->ps, &d->tenant->id, &d->timeline));
}

static void remove_done(void *arg)
{
    struct drop *d = arg;
    char *problem = d->tenant->problem;
    loch_status st = loch_failure_raise(&d->result);
    if (loch_id_is_none(&d->timeline) && loch_is_ok(st))
        forget_tenant(d);
    else if (!loch_is_ok(st))
        snprintf(problem, sizeof d->tenant->problem, REMOVAL_FAILED "%s", d->result.text);
    else if (strncmp(problem, REMOVAL_FAILED, sizeof REMOVAL_FAILED - 1) == 0)
        problem[0] = '\0'; /* this was the repetition */
    finish(d, st);
}

static void stopped(void *arg)
{
    struct drop *d = arg;
    if (--d->stopping > 0)
        return;
    loch_status st = loch_long_work(d->ps, &d->tenant->id, remove_work, remove_done, d);
    if (!loch_is_ok(st))
        finish(d, st);
}

/* ---- a branch ---- */

/* The removal of its keys asks the CMK: while that is silent nothing at all is to change. */
static loch_status commit(struct drop *d)
{
    static const struct loch_id none;
    LOCH_TRY(loch_keys_prove(d->ps->keys, &d->tenant->id, &none));
    return loch_tenant_put(d->ps, d->tenant, &d->manifest);
}

static void commit_work(void *arg)
{
    struct drop *d = arg;
    loch_failure_set(&d->result, commit(d));
}

static void stop_served(struct drop *d)
{
    struct loch_served *served = loch_served_find(d->ps, &d->tenant->id, &d->timeline);
    d->stopping = 1;
    if (served != NULL)
        loch_served_stop(served, stopped, d);
    else
        stopped(d);
}

static void commit_done(void *arg)
{
    struct drop *d = arg;
    loch_status st = loch_failure_raise(&d->result);
    if (!loch_is_ok(st)) {
        finish(d, st);
        return;
    }
    loch_tenant_take(d->tenant, &d->manifest);
    stop_served(d);
}

static void look_work(void *arg)
{
    struct drop *d = arg;
    bool any = false;
    loch_status st = tenant_look_for_remains(d->ps, &d->tenant->id, &d->timeline, &any);
    if (loch_is_ok(st) && !any)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline");
    loch_failure_set(&d->result, st);
}

static void look_done(void *arg)
{
    struct drop *d = arg;
    loch_status st = loch_failure_raise(&d->result);
    if (loch_is_ok(st))
        stop_served(d);
    else
        finish(d, st);
}

/* Goes on with a drop that failed behind the manifest. A timeline to come has keys as well. Whoever
 * hears LOCH_E_NOT_FOUND drops the timeline's WAL: of a tenant whose manifest may not be known that
 * is never said. */
static loch_status begin_again(struct drop *d)
{
    const struct loch_tenant_manifest *m = &d->tenant->manifest;
    if (d->tenant->dark || m->name[0] == '\0')
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "which timelines the tenant has is not known now");
    for (uint32_t i = 0; i < m->spare_count; i++)
        if (loch_id_equal(&m->spares[i], &d->timeline))
            return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline yet");
    return loch_env_work(d->ps->env, look_work, look_done, d);
}

static loch_status begin_branch(struct drop *d)
{
    const struct loch_tenant_manifest *m = &d->tenant->manifest;
    const struct loch_tenant_timeline *entry = loch_tenant_timeline_find(d->tenant, &d->timeline);
    for (uint32_t i = 0; i < m->count; i++) {
        if (loch_id_equal(&m->timelines[i].ancestor, &d->timeline))
            return LOCH_FAIL(LOCH_E_INVALID, "branch %s stands on %s: drop it first",
                             m->timelines[i].name, entry != NULL ? entry->name : "it");
    }
    if (entry == NULL)
        return begin_again(d);
    LOCH_TRY(loch_tenant_next(d->ps, d->tenant, &d->manifest));
    size_t at = (size_t)(entry - m->timelines);
    loch_tenant_manifest_remove(&d->manifest, at);
    return loch_env_work(d->ps->env, commit_work, commit_done, d);
}

static struct drop *begin(struct loch_pageserver *ps, struct loch_tenant *tenant,
                          loch_changed_fn fn, void *arg)
{
    struct drop *d = calloc(1, sizeof *d);
    if (d == NULL || tenant->busy) {
        free(d);
        fn(arg, LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress"));
        return NULL;
    }
    *d = (struct drop){.ps = ps, .tenant = tenant, .fn = fn, .arg = arg};
    tenant->busy = true;
    return d;
}

void loch_branch_drop(struct loch_pageserver *ps, struct loch_tenant *tenant,
                      const struct loch_id *timeline, loch_changed_fn fn, void *arg)
{
    struct drop *d = begin(ps, tenant, fn, arg);
    if (d == NULL)
        return;
    d->timeline = *timeline;
    loch_status st = begin_branch(d);
    if (!loch_is_ok(st)) {
        loch_failure_set(&d->result, st);
        loch_env_post(ps->env, finish_later, d);
    }
}

/* ---- a tenant ---- */

void loch_tenant_drop(struct loch_pageserver *ps, struct loch_tenant *tenant, loch_changed_fn fn,
                      void *arg)
{
    struct drop *d = begin(ps, tenant, fn, arg);
    if (d == NULL)
        return;
    tenant->going = true;
    d->stopping = 1; /* until all of them have been told */
    for (struct loch_served *s = ps->served, *next; s != NULL; s = next) {
        next = loch_served_next(s);
        if (!loch_id_equal(loch_served_tenant_id(s), &tenant->id) ||
            loch_served_find(ps, &tenant->id, loch_served_timeline_id(s)) != s)
            continue;
        if (loch_served_timeline(s) != NULL)
            loch_page_cache_drop(ps->cache, &tenant->id, loch_served_timeline_id(s));
        d->stopping++;
        loch_served_stop(s, stopped, d);
    }
    stopped(d);
}
