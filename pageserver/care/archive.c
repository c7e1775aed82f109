/* Archiving a branch that nobody uses, and bringing it back.
 *
 * Archive: once the branch rests (nobody connected, all WAL up to the asked LSN in layers), it is
 * taken out of service, every layer gets a checked copy in the object store, and the tenant's
 * manifest says that it is archived: the commit point. Then its files go. Unarchive: the layers are
 * fetched, checked, and opened; the tenant's manifest says so; then it is served. Died before the
 * commit point: nothing has changed but copies that are there already, or files that the next start
 * removes. Either can be asked for again. Copies stay behind an unarchive and heal damage
 * (store/layer_copy.h) until their layers go. */
#include "tenants.h"

#include "long_work.h"
#include "read/page_cache.h"
#include "revocation.h"
#include "served.h"
#include "store/layer_copy.h"
#include "tenant_files.h"

#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 50u
#define REST_MS 20000u /* for the branch to come to rest */
#define TELL_MS 5000u  /* of them, for the safekeepers to hear what is persisted */

struct archive {
    struct loch_pageserver *ps;
    struct loch_tenant *tenant;
    struct loch_id timeline;
    char name[LOCH_NAME_MAX_BYTES + 1];
    bool back;
    loch_lsn lsn;
    uint64_t began_ns;
    struct loch_timer *timer;
    struct loch_timeline *parent; /* retained; NULL: a root */
    struct loch_timeline *opened; /* to be served */
    struct loch_failure not_opened;
    struct loch_tenant_manifest manifest;
    struct loch_failure result;
    loch_changed_fn fn;
    void *arg;
};

static void finish(struct archive *a, loch_status st)
{
    a->tenant->busy = false;
    a->fn(a->arg, st);
    loch_tenant_manifest_fini(&a->manifest);
    loch_timeline_release(a->parent);
    loch_timeline_release(a->opened);
    free(a);
}

static void finish_later(void *arg)
{
    struct archive *a = arg;
    finish(a, loch_failure_raise(&a->result));
}

/* ---- on a thread of its own ---- */

static loch_status commit(struct archive *a)
{
    for (uint32_t i = 0; i < a->manifest.count; i++) {
        if (loch_id_equal(&a->manifest.timelines[i].timeline, &a->timeline))
            a->manifest.timelines[i].archived = !a->back;
    }
    return loch_tenant_put(a->ps, a->tenant, &a->manifest);
}

/* Every layer that the branch's manifest names, opened block by block, is here and in the object
 * store afterwards. */
static loch_status move_layers(struct archive *a)
{
    struct loch_pageserver *ps = a->ps;
    struct loch_manifest m = {0};
    bool healed = false;
    LOCH_TRY(loch_manifest_get(&ps->store, ps->keys, &a->tenant->id, &a->timeline, &m, NULL));
    loch_status st = LOCH_OK;
    for (uint32_t i = 0; i < m.layer_count && loch_is_ok(st); i++)
        st = loch_layer_copy_check(&ps->store, ps->keys, &m.info, &m.layers[i], true, &healed);
    loch_manifest_fini(&m);
    return st;
}

static loch_status open_it(struct archive *a)
{
    return loch_timeline_open(&a->ps->store, a->ps->keys, &a->tenant->id, &a->timeline, a->parent,
                              &a->opened);
}

static void remove_files(struct archive *a)
{
    loch_page_cache_drop(a->ps->cache, &a->tenant->id, &a->timeline);
    if (!loch_is_ok(tenant_remove_files(a->ps, &a->tenant->id, &a->timeline)))
        loch_log_failure("files of an archived timeline stay until the next start");
}

static void archive_work(void *arg)
{
    struct archive *a = arg;
    loch_status st = move_layers(a);
    if (loch_is_ok(st))
        st = commit(a);
    loch_failure_set(&a->result, st);
    if (loch_is_ok(st))
        remove_files(a);
    else
        loch_failure_set(&a->not_opened, open_it(a)); /* it goes on as it was */
}

static void unarchive_work(void *arg)
{
    struct archive *a = arg;
    loch_status st = move_layers(a);
    if (loch_is_ok(st))
        st = open_it(a);
    if (loch_is_ok(st))
        st = commit(a);
    loch_failure_set(&a->result, st);
    if (loch_is_ok(st))
        return;
    loch_timeline_release(a->opened);
    a->opened = NULL;
    remove_files(a);
}

/* ---- on the loop ---- */

static void serve(struct archive *a)
{
    struct loch_timeline *opened = a->opened;
    if (a->tenant->dark || a->ps->stopping) /* it comes back with the tenant */
        return;
    a->opened = NULL; /* taken, also on failure */
    const loch_status st =
        loch_served_enter(a->ps, &a->tenant->id, &a->timeline, opened, &a->not_opened);
    if (loch_is_ok(st))
        return;
    loch_log_failure("a timeline is not served again");
    loch_revocation_retry(a->ps, &a->tenant->id, &a->timeline, st);
}

static void archive_done(void *arg)
{
    struct archive *a = arg;
    if (!loch_is_ok(a->result.st)) {
        serve(a);
        finish_later(a);
        return;
    }
    loch_tenant_take(a->tenant, &a->manifest);
    LOCH_INFO("branch %s is archived", a->name);
    if (!a->tenant->dark && !a->ps->stopping &&
        !loch_is_ok(loch_served_create_archived(a->ps, &a->tenant->id, &a->timeline)))
        loch_log_failure("no memory to remember an archived timeline");
    finish_later(a);
}

static void unarchive_done(void *arg)
{
    struct archive *a = arg;
    if (loch_is_ok(a->result.st)) {
        struct loch_served *served = loch_served_find(a->ps, &a->tenant->id, &a->timeline);
        loch_tenant_take(a->tenant, &a->manifest);
        if (served != NULL)
            loch_served_stop(served, NULL, NULL);
        LOCH_INFO("branch %s is back from the archive", a->name);
        serve(a);
    }
    finish_later(a);
}

static void stopped(void *arg)
{
    struct archive *a = arg;
    loch_status st = loch_long_work(a->ps, &a->tenant->id, archive_work, archive_done, a);
    if (loch_is_ok(st))
        return;
    loch_failure_set(&a->result, st);
    loch_failure_set(&a->not_opened, st);
    archive_done(a);
}

/* Whether everything is in layers and nobody is there; else why not. */
static loch_status at_rest(struct archive *a, struct loch_served *s, uint64_t waited_ms)
{
    if (loch_timeline_last_record_lsn(loch_served_timeline(s)) < a->lsn)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "branch %s is not archived: its WAL up to " LOCH_LSN_FMT
                         " is not here yet",
                         a->name, LOCH_LSN_ARG(a->lsn));
    if (!loch_served_rests(s))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "branch %s is not archived: it is in use, or not at rest yet; stop its "
                         "computes and try again",
                         a->name);
    if (!loch_served_told(s) && waited_ms < TELL_MS)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the safekeepers are not told yet");
    return LOCH_OK;
}

static void look(void *arg)
{
    struct archive *a = arg;
    const uint64_t waited_ms = (loch_env_now_ns(a->ps->env) - a->began_ns) / 1000000;
    struct loch_served *s = loch_served_find(a->ps, &a->tenant->id, &a->timeline);
    a->timer = NULL;
    loch_status st = s == NULL ? LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here")
                               : loch_served_usable(s);
    if (loch_is_ok(st)) {
        st = at_rest(a, s, waited_ms);
        if (loch_is_ok(st)) {
            loch_served_stop(s, stopped, a);
            return;
        }
        if (waited_ms < REST_MS && !a->ps->stopping &&
            loch_is_ok(loch_env_timer(a->ps->env, LOOK_MS, &a->timer, look, a)))
            return;
    }
    loch_failure_set(&a->result, st);
    finish_later(a);
}

/* ---- orders ---- */

static loch_status take_parent(struct archive *a, const struct loch_tenant_timeline *entry)
{
    if (loch_id_is_none(&entry->ancestor))
        return LOCH_OK;
    const struct loch_tenant_timeline *above =
        loch_tenant_timeline_find(a->tenant, &entry->ancestor);
    if (above != NULL && above->archived)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s, which %s stands on, is archived: unarchive that first", above->name,
                         entry->name);
    const struct loch_served *s = loch_served_find(a->ps, &a->tenant->id, &entry->ancestor);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the parent of %s is not served here", entry->name);
    LOCH_TRY(loch_served_usable(s));
    a->parent = loch_timeline_retain(loch_served_timeline(s));
    return LOCH_OK;
}

static loch_status check_children(const struct archive *a)
{
    const struct loch_tenant_manifest *m = &a->tenant->manifest;
    for (uint32_t i = 0; i < m->count; i++) {
        if (loch_id_equal(&m->timelines[i].ancestor, &a->timeline) && !m->timelines[i].archived)
            return LOCH_FAIL(LOCH_E_INVALID,
                             "branch %s stands on %s: archive, detach or delete it first",
                             m->timelines[i].name, a->name);
    }
    return LOCH_OK;
}

static loch_status begin(struct archive *a, bool *nothing)
{
    const struct loch_tenant_timeline *entry = loch_tenant_timeline_find(a->tenant, &a->timeline);
    if (entry == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline");
    snprintf(a->name, sizeof a->name, "%s", entry->name);
    *nothing = entry->archived != a->back;
    if (*nothing)
        return LOCH_OK;
    if (!a->back)
        LOCH_TRY(check_children(a));
    LOCH_TRY(take_parent(a, entry));
    LOCH_TRY(loch_tenant_next(a->ps, a->tenant, &a->manifest));
    if (a->back)
        return loch_long_work(a->ps, &a->tenant->id, unarchive_work, unarchive_done, a);
    loch_env_post(a->ps->env, look, a);
    return LOCH_OK;
}

static void order(const struct archive *what)
{
    struct archive *a = malloc(sizeof *a);
    bool nothing = false;
    if (a == NULL || what->tenant->busy) {
        free(a);
        what->fn(what->arg,
                 LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress"));
        return;
    }
    *a = *what;
    a->began_ns = loch_env_now_ns(a->ps->env);
    a->tenant->busy = true;
    loch_status st = begin(a, &nothing);
    if (!loch_is_ok(st) || nothing) {
        loch_failure_set(&a->result, st);
        loch_env_post(a->ps->env, finish_later, a);
    }
}

void loch_branch_archive(struct loch_pageserver *ps, struct loch_tenant *tenant,
                         const struct loch_id *timeline, loch_lsn lsn, loch_changed_fn fn,
                         void *arg)
{
    order(&(struct archive){
        .ps = ps, .tenant = tenant, .timeline = *timeline, .lsn = lsn, .fn = fn, .arg = arg});
}

void loch_branch_unarchive(struct loch_pageserver *ps, struct loch_tenant *tenant,
                           const struct loch_id *timeline, loch_changed_fn fn, void *arg)
{
    order(&(struct archive){
        .ps = ps, .tenant = tenant, .timeline = *timeline, .back = true, .fn = fn, .arg = arg});
}
