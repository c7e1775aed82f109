/* Holds: the darkening and the return of a tenant, or of what a branch's own CMK holds. Invariant:
 * while a tenant is dark none of its timelines is in service, and tenant->problem says why; while a
 * branch is, each timeline under its CMK stands there broken, with the reason. What could not be
 * opened for want of something that may come is tried again until it can. */
#include "revocation.h"

#include "commands.h"
#include "long_work.h"
#include "read/page_cache.h"
#include "redo_pool/redo_pool.h"
#include "served.h"
#include "shred.h"
#include "tenant_files.h"
#include "tenants.h"
#include "upkeep.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/leases.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIPE_POLL_MS 5u

/* ---- going dark ---- */

struct darkening {
    struct loch_pageserver *ps;
    struct loch_id tenant, branch; /* none: the whole tenant */
    bool counted;                  /* in the tenant's darkening */
    bool change;                   /* one was under way, and has not ended since */
    size_t stopping;               /* timelines that still wind down */
    struct loch_timeline *
        *timelines; /* one reference of each: they are wiped when it is the last */
    size_t count;
};

static void drop_caches(struct loch_pageserver *ps, const struct loch_timeline *t)
{
    const struct loch_timeline_info *info = loch_timeline_info(t);
    loch_page_cache_drop(ps->cache, &info->tenant, &info->timeline);
}

/* They work for all timelines of the tenant: what they remember of a branch's pages is not told
 * from the rest. What others of them asked goes to new ones. */
static void end_redo_workers(struct loch_pageserver *ps, const struct loch_id *tenant,
                             const struct loch_id *branch)
{
    if (loch_id_is_none(branch))
        loch_redo_pool_drop_tenant(ps->redo, tenant);
    else
        loch_redo_pool_renew_tenant(ps->redo, tenant);
}

static void wiped(struct darkening *d)
{
    struct loch_tenant *t = loch_tenant_find(d->ps, &d->tenant);
    char id[LOCH_ID_TEXT_BYTES];

    if (t != NULL && d->counted)
        t->darkening--;
    /* readers in flight may have started workers since the others were ended */
    end_redo_workers(d->ps, &d->tenant, &d->branch);
    LOCH_INFO("tenant %s: all that its keys had opened is wiped", loch_id_format(&d->tenant, id));
    loch_leases_wiped(d->ps->leases, &d->tenant, &d->branch);
    free(d->timelines);
    free(d);
}

/* Whether a change of the tenant that was under way when it went dark still is: it may hold what
 * the keys have opened (it lets nothing into service any more). */
static bool change_goes_on(struct darkening *d)
{
    const struct loch_tenant *t = loch_tenant_find(d->ps, &d->tenant);

    d->change = d->change && t != NULL && t->busy;
    return d->change;
}

/* Reads in flight hold timelines for a moment; a branch holds its parent. */
static void wipe_later(void *arg)
{
    struct darkening *d = arg;
    struct loch_timer *timer = NULL;
    bool released = true;

    while (released) {
        released = false;
        for (size_t i = 0; i < d->count; i++) {
            if (!loch_timeline_is_last(d->timelines[i]))
                continue;
            drop_caches(d->ps, d->timelines[i]); /* what a late read may have put there */
            loch_timeline_release(d->timelines[i]);
            d->timelines[i] = d->timelines[--d->count];
            released = true;
        }
    }
    const bool more = change_goes_on(d) || d->count > 0;
    if (more && loch_is_ok(loch_env_timer(d->ps->env, WIPE_POLL_MS, &timer, wipe_later, d)))
        return;
    for (size_t i = 0; i < d->count; i++) { /* no timer: they go with their readers */
        drop_caches(d->ps, d->timelines[i]);
        loch_timeline_release(d->timelines[i]);
    }
    wiped(d);
}

static void stopped(void *arg)
{
    struct darkening *d = arg;

    if (--d->stopping == 0)
        wipe_later(d);
}

static bool is_under(struct loch_pageserver *ps, const struct loch_id *tenant,
                     const struct loch_id *timeline, const struct loch_id *branch)
{
    const struct loch_id lock = loch_keys_lock(ps->keys, tenant, timeline);

    return loch_lock_covers(&lock, branch);
}

/* What stands in the place of a timeline whose branch's CMK is gone: its connections, and whoever
 * comes, learn why. */
static void leave_reason(struct loch_pageserver *ps, const struct loch_id *tenant,
                         const struct loch_id *timeline, enum loch_code code, const char *why)
{
    struct loch_served *served = NULL;

    if (!loch_is_ok(
            loch_served_create_broken(ps, tenant, timeline, LOCH_FAIL(code, "%s", why), &served)))
        loch_log_failure("no memory to remember why a timeline is not served");
}

static void darken_timelines(struct darkening *d, enum loch_code code, const char *why)
{
    struct loch_pageserver *ps = d->ps;
    size_t n = 0;

    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s))
        n++;
    d->timelines = calloc(n > 0 ? n : 1, sizeof(struct loch_timeline *));
    for (struct loch_served *s = ps->served, *next; s != NULL; s = next) {
        next = loch_served_next(s);
        if (!loch_id_equal(loch_served_tenant_id(s), &d->tenant) ||
            loch_served_find(ps, &d->tenant, loch_served_timeline_id(s)) != s ||
            (!loch_id_is_none(&d->branch) && loch_served_is_archived(s)) || /* it holds nothing */
            !is_under(ps, &d->tenant, loch_served_timeline_id(s), &d->branch))
            continue;
        const struct loch_id timeline = *loch_served_timeline_id(s);
        struct loch_timeline *t = loch_served_timeline(s);
        if (t != NULL)
            drop_caches(ps, t);
        if (t != NULL && d->timelines != NULL)
            d->timelines[d->count++] = loch_timeline_retain(t);
        d->stopping++;
        loch_served_darken(s, code, why, stopped, d);
        if (!loch_id_is_none(&d->branch))
            leave_reason(ps, &d->tenant, &timeline, code, why);
    }
}

static void dark(void *arg, const struct loch_id *tenant, const struct loch_id *branch,
                 enum loch_code code, const char *why)
{
    struct loch_pageserver *ps = arg;
    struct loch_tenant *t = loch_tenant_find(ps, tenant);
    struct darkening *d = calloc(1, sizeof *d);

    if (t != NULL && loch_id_is_none(branch)) {
        if (!loch_keys_asleep(ps->keys, tenant)) /* which is no problem */
            (void)snprintf(t->problem, sizeof t->problem, "%s", why);
        t->dark = true;
    }
    end_redo_workers(ps, tenant, branch);
    if (d == NULL) {
        LOCH_ERROR("no memory to wind a tenant down in order; the process ends instead");
        abort();
    }
    *d = (struct darkening){
        .ps = ps, .tenant = *tenant, .branch = *branch, .counted = t != NULL, .stopping = 1};
    d->change = t != NULL && t->busy;
    if (t != NULL)
        t->darkening++;
    loch_long_work_hurry(ps, tenant);
    darken_timelines(d, code, why);
    stopped(d);
}

/* ---- coming back ---- */

struct opened {
    struct loch_timeline *timeline; /* NULL: it could not be opened */
    bool given;                     /* of another's lock: as it is served, or not */
    struct loch_failure why;
};

struct return_job {
    struct loch_pageserver *ps;
    struct loch_id tenant, branch; /* none: the whole tenant */
    bool rest;                     /* of a tenant that is back: what its key or branch's lacks */
    struct loch_tenant_manifest manifest;
    struct loch_etag etag;
    struct opened *opened; /* as many as the manifest has timelines */
    struct loch_failure result;
};

static const struct opened *opened_of(const struct return_job *job, const struct loch_id *id)
{
    for (uint32_t i = 0; i < job->manifest.count; i++)
        if (loch_id_equal(&job->manifest.timelines[i].timeline, id))
            return &job->opened[i];
    return NULL;
}

static void return_job_free(struct return_job *job)
{
    for (uint32_t i = 0; job->opened != NULL && i < job->manifest.count; i++)
        loch_timeline_release(job->opened[i].timeline);
    free(job->opened);
    loch_tenant_manifest_fini(&job->manifest);
    free(job);
}

static loch_status open_one(struct return_job *job, const struct loch_tenant_timeline *entry,
                            struct loch_timeline **out)
{
    struct loch_timeline *parent = NULL;

    LOCH_TRY(loch_keys_usable(job->ps->keys, &job->tenant, &entry->timeline));
    if (!loch_id_is_none(&entry->ancestor)) {
        const struct opened *above = opened_of(job, &entry->ancestor);
        if (above == NULL)
            return LOCH_FAIL(LOCH_E_CORRUPT, "its ancestor is not in the tenant's manifest");
        parent = above->timeline;
        if (parent == NULL) /* for as long as that one */
            return LOCH_FAIL(!loch_is_ok(above->why.st) ? above->why.st.code : LOCH_E_UNAVAILABLE,
                             "its ancestor is not served");
    }
    return loch_timeline_open_born(&job->ps->store, job->ps->keys, &job->tenant, &entry->timeline,
                                   parent, loch_buf_slice(&entry->birth), out);
}

static void open_timelines(struct return_job *job)
{
    for (uint32_t i = 0; i < job->manifest.count; i++) {
        if (job->manifest.timelines[i].archived || job->opened[i].given)
            continue;
        loch_failure_set(&job->opened[i].why,
                         open_one(job, &job->manifest.timelines[i], &job->opened[i].timeline));
    }
}

static void open_work(void *arg)
{
    struct return_job *job = arg;
    loch_status st = loch_tenant_manifest_get(&job->ps->store, job->ps->keys, &job->tenant,
                                              &job->manifest, &job->etag);

    if (loch_is_ok(st)) {
        job->opened = calloc(job->manifest.count + 1, sizeof *job->opened);
        if (job->opened == NULL)
            st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a tenant's timelines");
    }
    if (loch_is_ok(st))
        tenant_sweep(job->ps, &job->manifest);
    loch_failure_set(&job->result, st);
    if (loch_is_ok(st))
        open_timelines(job);
}

/* Whether one that stands broken for this reason may be opened some day. */
static bool comes_back(loch_status why)
{
    return why.code == LOCH_E_KEY_REVOKED || loch_status_passes(why);
}

/* Of a branch, or of what a tenant that is back still lacks: the manifest is the tenant's, which
 * does not change while the tenant is busy; what is served, or of another's lock, is given. */
static loch_status gather_rest(struct return_job *job, const struct loch_tenant *t)
{
    LOCH_TRY(loch_tenant_manifest_copy(&job->manifest, &t->manifest));
    job->opened = calloc(job->manifest.count + 1, sizeof *job->opened);
    if (job->opened == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a branch's timelines");
    for (uint32_t i = 0; i < job->manifest.count; i++) {
        const struct loch_id *id = &job->manifest.timelines[i].timeline;
        const struct loch_served *s = loch_served_find(job->ps, &job->tenant, id);
        const struct loch_id lock = loch_keys_lock(job->ps->keys, &job->tenant, id);
        const loch_status st = s != NULL ? loch_served_usable(s) : LOCH_OK;
        const bool waits = s == NULL || (loch_served_timeline(s) == NULL &&
                                         !loch_served_is_archived(s) && comes_back(st));
        if (waits && loch_id_equal(&lock, &job->branch))
            continue;
        job->opened[i].given = true;
        loch_failure_set(&job->opened[i].why, st);
        if (s != NULL && loch_served_timeline(s) != NULL)
            job->opened[i].timeline = loch_timeline_retain(loch_served_timeline(s));
    }
    return LOCH_OK;
}

static void open_rest_work(void *arg)
{
    open_timelines(arg);
}

enum loch_return_act loch_return_plan(const struct loch_return_facts *f)
{
    if (f->given || (f->there && (!f->of_rest || f->there_serves || f->there_archived)))
        return LOCH_RETURN_LEAVE;
    if (f->archived)
        return LOCH_RETURN_ARCHIVED;
    return f->opened ? LOCH_RETURN_SERVE : LOCH_RETURN_BROKEN;
}

/* `said`: the reason stood there before. */
static loch_status bring_back(struct return_job *job, uint32_t i, enum loch_return_act act,
                              bool said)
{
    const struct loch_tenant_timeline *entry = &job->manifest.timelines[i];
    struct opened *o = &job->opened[i];
    struct loch_served *served = NULL;
    struct loch_timeline *timeline = o->timeline;

    if (act == LOCH_RETURN_ARCHIVED)
        return loch_served_create_archived(job->ps, &job->tenant, &entry->timeline);
    if (act == LOCH_RETURN_SERVE) {
        o->timeline = NULL; /* taken, also on failure */
        return loch_served_enter(job->ps, &job->tenant, &entry->timeline, timeline, NULL);
    }
    if (!said)
        LOCH_ERROR("timeline %s is not served: %s", entry->name, o->why.text);
    return loch_served_create_broken(job->ps, &job->tenant, &entry->timeline,
                                     loch_failure_raise(&o->why), &served);
}

/* Whether what stands in the timeline's place now is to be tried again with this job's key: what is
 * of another's lock comes with that. */
static bool wants_more(const struct return_job *job, const struct loch_id *timeline)
{
    const struct loch_served *s = loch_served_find(job->ps, &job->tenant, timeline);
    const struct loch_id lock = loch_keys_lock(job->ps->keys, &job->tenant, timeline);

    if (!loch_id_equal(&lock, &job->branch))
        return false;
    return s == NULL || (loch_served_timeline(s) == NULL && !loch_served_is_archived(s) &&
                         loch_status_passes(loch_served_usable(s)));
}

/* Returns false when it is to be tried again. */
static bool serve(struct return_job *job, uint32_t i)
{
    const struct loch_tenant_timeline *entry = &job->manifest.timelines[i];
    struct loch_served *there = loch_served_find(job->ps, &job->tenant, &entry->timeline);
    const struct loch_return_facts facts = {
        .of_rest = job->rest,
        .given = job->opened[i].given,
        .there = there != NULL,
        .there_serves = there != NULL && loch_served_timeline(there) != NULL,
        .there_archived = there != NULL && loch_served_is_archived(there),
        .archived = entry->archived,
        .opened = job->opened[i].timeline != NULL};
    const enum loch_return_act act = loch_return_plan(&facts);
    bool said = false;

    if (act == LOCH_RETURN_LEAVE)
        return true;
    if (there != NULL) {
        said = strcmp(loch_served_problem(there), job->opened[i].why.text) == 0;
        loch_served_stop(there, NULL, NULL); /* it only said why it was dark */
    }
    if (!loch_is_ok(bring_back(job, i, act, said)))
        loch_log_failure("a timeline does not come back");
    return !wants_more(job, &entry->timeline);
}

/* Returns false when something is to be tried again. */
static bool serve_all(struct return_job *job)
{
    bool all = true;

    for (uint32_t i = 0; i < job->manifest.count; i++)
        all = serve(job, i) && all;
    return all;
}

static void rest_done(void *arg)
{
    struct return_job *job = arg;
    struct loch_pageserver *ps = job->ps;
    struct loch_tenant *t = loch_tenant_find(ps, &job->tenant);
    char id[LOCH_ID_TEXT_BYTES];
    bool all = false;

    if (t != NULL)
        t->busy = false;
    if (t != NULL && !t->dark && !ps->stopping &&
        loch_is_ok(loch_keys_usable(ps->keys, &job->tenant, &job->branch))) {
        all = serve_all(job);
        LOCH_INFO("tenant %s: %s %s %s back", t->manifest.name,
                  loch_id_is_none(&job->branch) ? "all of" : "branch",
                  loch_id_format(loch_id_is_none(&job->branch) ? &job->tenant : &job->branch, id),
                  all ? "is" : "is not yet");
    }
    if (!all)
        loch_leases_relight(ps->leases, &job->tenant, &job->branch);
    return_job_free(job);
}

static void open_done(void *arg)
{
    struct return_job *job = arg;
    struct loch_pageserver *ps = job->ps;
    struct loch_tenant *t = loch_tenant_find(ps, &job->tenant);
    loch_status st = loch_failure_raise(&job->result);

    if (t != NULL)
        t->busy = false;
    if (loch_is_ok(st))
        st =
            loch_keys_usable(ps->keys, &job->tenant, NULL); /* it may have been revoked meanwhile */
    if (loch_is_ok(st) && t != NULL && !ps->stopping) {
        const bool all = serve_all(job);
        loch_tenant_take(t, &job->manifest);
        t->etag = job->etag;
        t->problem[0] = '\0';
        t->dark = false;
        LOCH_INFO("tenant %s is back", t->manifest.name);
        if (!all)
            loch_leases_relight(ps->leases, &job->tenant, &job->branch);
    } else if (!loch_is_ok(st) && t != NULL) {
        (void)snprintf(t->problem, sizeof t->problem, "it does not come back yet: %.300s",
                       loch_error_text());
        loch_leases_relight(ps->leases, &job->tenant, &job->branch);
    }
    return_job_free(job);
}

static void light(void *arg, const struct loch_id *tenant, const struct loch_id *branch)
{
    struct loch_pageserver *ps = arg;
    struct loch_tenant *t = loch_tenant_find(ps, tenant);
    struct return_job *job;

    if (t == NULL || ps->stopping)
        return;
    /* a flush of the old struct could still put a manifest, with a file that opening sweeps */
    job = t->busy || t->darkening > 0 ? NULL : calloc(1, sizeof *job);
    if (job != NULL) {
        job->ps = ps;
        job->tenant = *tenant;
        job->branch = *branch;
        loch_status st = LOCH_OK;
        job->rest = !t->dark;
        if (job->rest)
            st = gather_rest(job, t);
        else if (!loch_id_is_none(branch))
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant is not back yet");
        if (loch_is_ok(st))
            st = loch_env_work(ps->env, t->dark ? open_work : open_rest_work,
                               t->dark ? open_done : rest_done, job);
        if (loch_is_ok(st)) {
            t->busy = true;
            return;
        }
        return_job_free(job);
    }
    loch_leases_relight(ps->leases, tenant, branch); /* it changes or winds down, or no memory */
}

/* ---- asleep ---- */

/* Whether the tenant's timelines are used or have something to do. What is only in memory is
 * written first. */
static bool busy(void *arg, const struct loch_id *tenant)
{
    struct loch_pageserver *ps = arg;
    const struct loch_tenant *t = loch_tenant_find(ps, tenant);
    bool any = t == NULL || t->busy || t->making_keys || t->darkening > 0;

    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s)) {
        if (!loch_id_equal(loch_served_tenant_id(s), tenant))
            continue;
        any = any || !loch_served_rests(s) || loch_upkeep_due(ps->upkeep, s);
    }
    return any;
}

/* The tenant that a command is about, or whose order it is about; NULL: none. */
static struct loch_tenant *subject(struct loch_pageserver *ps,
                                   const struct loch_console_request *request)
{
    const char *token = loch_console_arg(request, "token");
    const struct loch_id *ordered = token != NULL ? loch_shred_tenant(ps, token) : NULL;
    struct loch_tenant *t = NULL;

    if (ordered != NULL)
        return loch_tenant_find(ps, ordered);
    if (loch_console_arg(request, "tenant") == NULL ||
        !loch_is_ok(loch_command_tenant(ps, request, &t)))
        return NULL;
    return t;
}

/* Whether the timeline that a command is about is on its way into service, with all it stands on:
 * a branch's own CMK is asked only after the tenant's. */
static bool is_coming(struct loch_pageserver *ps, const struct loch_tenant *t,
                      const struct loch_console_request *request)
{
    struct loch_id id;
    bool coming = false;

    if (loch_console_arg(request, "timeline") == NULL ||
        !loch_is_ok(loch_command_timeline(t, request, "timeline", &id)))
        return false;
    for (;;) {
        const struct loch_served *s = loch_served_find(ps, &t->id, &id);
        const struct loch_tenant_timeline *entry = loch_tenant_timeline_find(t, &id);
        if (entry == NULL || s == NULL || loch_served_is_archived(s))
            return false;
        if (loch_served_timeline(s) != NULL)
            return coming;
        const enum loch_code why = loch_served_usable(s).code;
        if ((why != LOCH_E_KMS_UNAVAILABLE && why != LOCH_E_KEY_REVOKED) ||
            !(loch_keys_opening(ps->keys, &t->id, &id) ||
              loch_is_ok(loch_keys_usable(ps->keys, &t->id, &id))))
            return false;
        coming = true;
        id = entry->ancestor;
    }
}

bool loch_revocation_hold(void *state, const struct loch_console_request *request)
{
    struct loch_pageserver *ps = state;
    const struct loch_tenant *t = subject(ps, request);

    if (t == NULL)
        return false;
    loch_keys_want(ps->keys, &t->id);
    if (t->dark)
        return loch_keys_asleep(ps->keys, &t->id) ||
               (t->problem[0] == '\0' && loch_is_ok(loch_keys_usable(ps->keys, &t->id, NULL)));
    return loch_keys_asleep(ps->keys, &t->id) || is_coming(ps, t, request);
}

void loch_revocation_retry(struct loch_pageserver *ps, const struct loch_id *tenant,
                           const struct loch_id *timeline, loch_status why)
{
    const struct loch_id lock = loch_keys_lock(ps->keys, tenant, timeline);

    if (ps->leases != NULL && loch_status_passes(why))
        loch_leases_relight(ps->leases, tenant, &lock);
}

/* What the start could not open for want of something that may come: the branches' own locks are
 * opened by their leases. */
static void look_again(struct loch_pageserver *ps)
{
    static const struct loch_id none;

    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next)
        if (t->dark)
            loch_leases_relight(ps->leases, &t->id, &none);
    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s)) {
        if (loch_served_timeline(s) == NULL && !loch_served_is_archived(s))
            loch_revocation_retry(ps, loch_served_tenant_id(s), loch_served_timeline_id(s),
                                  loch_served_usable(s));
    }
}

loch_status loch_revocation_start(struct loch_pageserver *ps)
{
    const struct loch_leases_options options = {.env = ps->env,
                                                .keys = ps->keys,
                                                .metrics = ps->metrics,
                                                .audit = ps->audit,
                                                .settings = ps->config.leases,
                                                .idle_ms = ps->config.key_idle_ms,
                                                .busy = busy,
                                                .dark = dark,
                                                .light = light,
                                                .arg = ps};

    LOCH_TRY(loch_leases_create(&options, &ps->leases));
    look_again(ps);
    return LOCH_OK;
}
