/* Creating tenants and branches. */
#include "tenants.h"

#include "history.h"
#include "long_work.h"
#include "revocation.h"
#include "served.h"
#include "tenant_files.h"

#include "basebackup/basebackup.h"
#include "import/import.h"
#include "store/retention.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/host/metrics.h"
#include "loch/host/pin_command.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>

/* How long a branch waits for WAL up to its LSN. */
#define BRANCH_TIMEOUT_MS 30000u
#define FIRST_TIMELINE    "main"

struct creation {
    struct loch_pageserver *ps;
    struct loch_tenant *tenant;
    struct loch_created made;
    struct loch_tenant_manifest manifest; /* to be put, owned */
    struct loch_timeline *parent;         /* retained */
    struct loch_timeline *timeline;
    struct loch_history_point point;
    bool keep_prepared, put_began;
    struct loch_history *history;
    uint64_t began_ns;      /* of a branch */
    struct loch_hold *hold; /* on the branch point, until the branch holds it itself */
    struct loch_failure result;
    char *kms_uri;       /* a tenant's or branch's own CMK, or NULL */
    struct loch_id lock; /* of a branch: the branch whose CMK holds its keys; none: the tenant's */
    char *import_dir;    /* a tenant's first data, or NULL */
    loch_created_fn fn;
    void *arg;
    struct loch_manifest_note note; /* of a branch, when its manifest was put */
};

static void finish(struct creation *c, loch_status st)
{
    c->tenant->busy = false;
    if (c->began_ns != 0 && loch_is_ok(st))
        loch_metric_observe_ns(c->ps->m_branch_seconds, loch_env_now_ns(c->ps->env) - c->began_ns);
    c->fn(c->arg, st, &c->made);
    loch_tenant_manifest_fini(&c->manifest);
    loch_hold_release(c->hold);
    loch_timeline_release(c->parent);
    loch_timeline_release(c->timeline);
    free(c->kms_uri);
    free(c->import_dir);
    free(c);
}

/* Answers from the loop, later. */
static void finish_later(void *arg)
{
    struct creation *c = arg;
    finish(c, loch_failure_raise(&c->result));
}

static void fail_later(struct creation *c, loch_status st)
{
    loch_failure_set(&c->result, st);
    loch_env_post(c->ps->env, finish_later, c);
}

static loch_status commit_timeline(struct creation *c, const struct loch_control *control)
{
    struct loch_buf bytes = {0};
    loch_status st = loch_control_encode(control, &bytes);
    if (loch_is_ok(st))
        st = loch_timeline_commit(c->timeline, c->made.prev_lsn, loch_buf_slice(&bytes));
    loch_buf_fini(&bytes);
    return st;
}

/* Takes an id that is to have keys already, and sees to it that others follow. */
static loch_status take_spare(struct creation *c)
{
    struct loch_tenant_manifest *m = &c->manifest;
    uint32_t want = 2 + m->count < LOCH_SPARES_MAX ? 2 + m->count : LOCH_SPARES_MAX;
    if (m->spare_count > 0)
        c->made.info.timeline = m->spares[0];
    else
        LOCH_TRY(loch_env_random(c->ps->env, c->made.info.timeline.bytes, sizeof(struct loch_id)));
    if (m->spare_count > 0)
        memmove(m->spares, m->spares + 1, --m->spare_count * sizeof *m->spares);
    while (m->spare_count < want) {
        struct loch_id *id = &m->spares[m->spare_count];
        LOCH_TRY(loch_env_random(c->ps->env, id->bytes, sizeof *id));
        m->spare_count++;
    }
    return LOCH_OK;
}

/* Adds the new timeline to the tenant's manifest: the commit point. Takes birth. */
static loch_status commit_tenant(struct creation *c, struct loch_buf *birth)
{
    struct loch_tenant_timeline entry = {.timeline = c->made.info.timeline,
                                         .ancestor = c->made.info.ancestor,
                                         .ancestor_lsn = c->made.info.ancestor_lsn,
                                         .birth = *birth};
    *birth = (struct loch_buf){0};
    snprintf(entry.name, sizeof entry.name, "%s", c->made.name);
    LOCH_TRY(loch_tenant_manifest_add(&c->manifest, &entry));
    return loch_tenant_put_unnoted(c->ps, c->tenant, &c->manifest,
                                   c->began_ns != 0 ? &c->note : NULL);
}

/* ---- a tenant ---- */

/* The timeline of what is in `dir`; all but its commit. */
static loch_status import_data(struct creation *c, const char *dir, struct loch_import_facts *facts)
{
    struct loch_import_stats stats = {0};
    struct loch_timeline_info *info = &c->made.info;
    facts->control.last_start = facts->prev_lsn;
    facts->control.last_end = facts->start_lsn;
    info->system_id = facts->system_id;
    info->pg_version = facts->pg_version;
    info->segment_bytes = facts->segment_bytes;
    info->start_lsn = facts->start_lsn;
    c->made.prev_lsn = facts->prev_lsn;
    LOCH_TRY(loch_timeline_create(&c->ps->store, c->ps->keys, info, NULL, &c->timeline));
    LOCH_TRY(loch_import_into_timeline(dir, facts, c->timeline, &stats));
    LOCH_INFO("imported %" PRIu64 " relations, %" PRIu64 " pages, up to " LOCH_LSN_FMT,
              stats.relations, stats.pages, LOCH_LSN_ARG(info->start_lsn));
    return LOCH_OK;
}

/* A user's directory: somebody may start a server on it meanwhile. */
static loch_status import_given(struct creation *c, struct loch_import_facts *facts)
{
    struct loch_import_facts after;
    LOCH_TRY(import_data(c, c->import_dir, facts));
    LOCH_TRY(loch_import_inspect(c->import_dir, &after));
    if (after.start_lsn != facts->start_lsn)
        return LOCH_FAIL(LOCH_E_INVALID, "a server ran on %s while it was imported", c->import_dir);
    return LOCH_OK;
}

/* As initdb makes it: unique enough, and rising with time. */
static uint64_t fresh_system_id(struct loch_env *env)
{
    uint64_t us = (uint64_t)loch_env_wall_us(env);
    uint16_t low = 0;
    if (!loch_is_ok(loch_env_random(env, &low, sizeof low)))
        low = (uint16_t)us;
    return (us / 1000000) << 32 | (us % 1000000) << 12 | (low & 0xfff);
}

/* The first data of a tenant that brings none. The directory is a copy: what tells one cluster from
 * another, and what strangers are not to know of it, is made here. */
static loch_status import_initdb(struct creation *c, struct loch_import_facts *facts)
{
    struct loch_pageserver *ps = c->ps;
    struct loch_initdb_options options = {.postgres_bin_dir = ps->config.pg_bin_dir,
                                          .lib_dir = ps->config.lib_dir,
                                          .scratch_dir = ps->scratch,
                                          .from = ps->initdb};
    char sql[LOCH_LAYER_PATH_BYTES], password[LOCH_PASSWORD_BYTES];
    uint8_t random[16];
    char *dir = NULL;
    LOCH_TRY(loch_env_random(ps->env, random, sizeof random));
    snprintf(sql, sizeof sql, "%s/loch.sql", ps->config.lib_dir);
    options.extension_sql = sql;
    LOCH_TRY(loch_import_initdb(&options, random, password, &dir));
    snprintf(c->made.password, sizeof c->made.password, "%s", password);
    loch_wipe(password, sizeof password);
    loch_wipe(random, sizeof random);
    loch_status st = loch_import_inspect(dir, facts);
    if (loch_is_ok(st))
        st = loch_env_random(ps->env, facts->control.nonce, sizeof facts->control.nonce);
    facts->system_id = facts->control.system_id = fresh_system_id(ps->env);
    if (loch_is_ok(st))
        st = import_data(c, dir, facts);
    loch_import_remove_dir(dir);
    free(dir);
    return st;
}

static loch_status make_tenant(struct creation *c)
{
    struct loch_pageserver *ps = c->ps;
    struct loch_import_facts facts;
    if (c->import_dir != NULL) /* refused before anything is made */
        LOCH_TRY(loch_import_inspect(c->import_dir, &facts));
    LOCH_TRY(tenant_mark_unfinished(ps, &c->made.info.tenant));
    if (c->kms_uri != NULL)
        LOCH_TRY(loch_pin_checked(ps->kms, &c->made.info.tenant, c->kms_uri));
    LOCH_TRY(loch_keys_tenant_create(ps->keys, &c->made.info.tenant));
    LOCH_TRY(loch_keys_add_timeline(ps->keys, &c->made.info.tenant, &c->made.info.timeline));
    LOCH_TRY(c->import_dir != NULL ? import_given(c, &facts) : import_initdb(c, &facts));
    LOCH_TRY(commit_timeline(c, &facts.control));
    LOCH_TRY(commit_tenant(c, &(struct loch_buf){0}));
    return tenant_mark_finished(ps, &c->made.info.tenant);
}

static void tenant_work(void *arg)
{
    struct creation *c = arg;
    loch_failure_set(&c->result, make_tenant(c));
    if (loch_is_ok(c->result.st))
        return;
    if (!loch_is_ok(tenant_remove(c->ps, &c->made.info.tenant, NULL)))
        loch_log_failure("cannot remove what a failed creation left");
    loch_keys_tenant_drop(c->ps->keys, &c->made.info.tenant);
    if (!loch_is_ok(loch_kms_unpin(c->ps->kms, &c->made.info.tenant, NULL)))
        loch_log_failure("cannot forget the CMK of a tenant whose creation failed");
}

/* ---- keys for the timelines to come ---- */

struct spare_job {
    struct loch_pageserver *ps;
    struct loch_id tenant;
    struct loch_id ids[LOCH_SPARES_MAX];
    size_t count;
};

static void spare_work(void *arg)
{
    struct spare_job *job = arg;
    if (!loch_is_ok(loch_keys_add_timelines(job->ps->keys, &job->tenant, job->ids, job->count)))
        loch_log_failure("no keys for timelines to come"); /* whoever takes one tries again */
}

static void make_keys(struct loch_pageserver *ps, struct loch_tenant *tenant);

static void spare_done(void *arg)
{
    struct spare_job *job = arg;
    struct loch_tenant *tenant = loch_tenant_find(job->ps, &job->tenant);
    if (tenant != NULL)
        tenant->making_keys = false;
    if (tenant != NULL && !job->ps->stopping && tenant->manifest.spare_count > 0 &&
        !loch_id_equal(&tenant->manifest.spares[tenant->manifest.spare_count - 1],
                       &job->ids[job->count - 1]))
        make_keys(job->ps, tenant);
    free(job);
}

static void make_keys(struct loch_pageserver *ps, struct loch_tenant *tenant)
{
    const struct loch_tenant_manifest *m = &tenant->manifest;
    /* Half of them first: one change of the keyring serves several branches. */
    if (tenant->making_keys || m->spare_count == 0 ||
        loch_keys_has(ps->keys, &tenant->id, &m->spares[m->spare_count / 2]))
        return;
    struct spare_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return; /* the next branch tries again */
    *job = (struct spare_job){.ps = ps, .tenant = tenant->id};
    for (uint32_t i = 0; i < m->spare_count; i++)
        if (!loch_keys_has(ps->keys, &tenant->id, &m->spares[i]))
            job->ids[job->count++] = m->spares[i];
    tenant->making_keys = true;
    if (!loch_is_ok(loch_env_work(ps->env, spare_work, spare_done, job))) {
        tenant->making_keys = false;
        free(job);
    }
}

/* The new timeline begins its service; takes over what the creation made. Of a tenant that went
 * dark meanwhile only the manifest: the timeline is served when the tenant comes back; so with a
 * branch's CMK, which leaves the reason in its place. */
static loch_status serve(struct creation *c)
{
    struct loch_served *served = NULL;
    struct loch_timeline *timeline = c->timeline;
    loch_tenant_take(c->tenant, &c->manifest);
    make_keys(c->ps, c->tenant);
    if (c->tenant->dark)
        return LOCH_OK;
    c->timeline = NULL;
    const loch_status st =
        loch_served_enter(c->ps, &c->tenant->id, &c->made.info.timeline, timeline, NULL);
    if (!loch_is_ok(st)) {
        loch_log_failure("the new timeline is not served");
        LOCH_TRY(loch_served_create_broken(c->ps, &c->made.info.tenant, &c->made.info.timeline, st,
                                           &served));
        loch_revocation_retry(c->ps, &c->made.info.tenant, &c->made.info.timeline, st);
    }
    return LOCH_OK;
}

static void unlink_tenant(struct loch_pageserver *ps, struct loch_tenant *tenant)
{
    loch_tenant_delist(ps, tenant);
    loch_tenant_manifest_fini(&tenant->manifest);
    free(tenant);
}

static void tenant_done(void *arg)
{
    struct creation *c = arg;
    loch_status st = loch_failure_raise(&c->result);
    if (loch_is_ok(st)) {
        finish(c, serve(c));
        return;
    }
    struct loch_pageserver *ps = c->ps;
    struct loch_tenant *tenant = c->tenant;
    finish(c, st);
    unlink_tenant(ps, tenant);
}

/* Failures before anything was made: the answer still comes later. */
static loch_status begin_tenant(struct creation *c, const char *name)
{
    struct loch_pageserver *ps = c->ps;
    LOCH_TRY(loch_name_check(name));
    if (loch_tenant_by_name(ps, name) != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS, "there is a tenant %s already", name);
    LOCH_TRY(loch_env_random(ps->env, c->made.info.tenant.bytes, sizeof(struct loch_id)));
    c->tenant->id = c->manifest.tenant = c->made.info.tenant;
    c->manifest.generation = 1;
    LOCH_TRY(take_spare(c));
    snprintf(c->tenant->manifest.name, sizeof c->tenant->manifest.name, "%s", name);
    snprintf(c->manifest.name, sizeof c->manifest.name, "%s", name);
    snprintf(c->made.name, sizeof c->made.name, "%s", FIRST_TIMELINE);
    LOCH_TRY(loch_tenant_enlist(ps, c->tenant));
    loch_status st = loch_long_work(ps, &c->tenant->id, tenant_work, tenant_done, c);
    if (!loch_is_ok(st))
        loch_tenant_delist(ps, c->tenant);
    return st;
}

static void refuse_tenant(void *arg)
{
    struct creation *c = arg;
    struct loch_tenant *tenant = c->tenant;
    finish(c, loch_failure_raise(&c->result));
    free(tenant);
}

static loch_status copy_text(const char *text, char **out)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL ? LOCH_OK
                                        : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a tenant");
}

void loch_tenant_create(struct loch_pageserver *ps, const struct loch_tenant_order *order,
                        loch_created_fn fn, void *arg)
{
    struct creation *c = calloc(1, sizeof *c);
    struct loch_tenant *tenant = calloc(1, sizeof *tenant);
    if (c == NULL || tenant == NULL) {
        free(c);
        free(tenant);
        fn(arg, LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a tenant"), NULL);
        return;
    }
    *c = (struct creation){.ps = ps, .tenant = tenant, .fn = fn, .arg = arg};
    tenant->busy = true;
    loch_status st = copy_text(order->kms_uri, &c->kms_uri);
    if (loch_is_ok(st))
        st = copy_text(order->import_dir, &c->import_dir);
    if (loch_is_ok(st))
        st = begin_tenant(c, order->name);
    if (!loch_is_ok(st)) {
        loch_failure_set(&c->result, st);
        loch_env_post(ps->env, refuse_tenant, c);
    }
}

/* ---- a branch ---- */

/* Below a branch's own CMK: its own, or that of the one that it leaves. Its directory comes first:
 * by that the next start finds what a creation that was cut short leaves, keys and pin. */
static loch_status make_locked_keys(struct creation *c)
{
    const struct loch_timeline_info *info = &c->made.info;
    char dir[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(loch_timeline_dir(&c->ps->store, &info->tenant, &info->timeline, dir));
    LOCH_TRY(loch_env_mkdirs(c->ps->env, dir));
    if (c->kms_uri != NULL)
        LOCH_TRY(loch_pin_checked(c->ps->kms, &info->timeline, c->kms_uri));
    return loch_keys_add_locked(c->ps->keys, &info->tenant, &info->timeline, &c->lock);
}

/* One object is put: the tenant's manifest, which says all that the branch begins with; its own
 * manifest and first layer come with its first flush. Keys that are not there yet are made first.
 * What ends before the commit leaves an id that the manifest names as one to come. */
static loch_status make_branch(struct creation *c)
{
    const struct loch_timeline_info *info = &c->made.info;
    struct loch_buf control = {0}, birth = {0};
    if (!loch_id_is_none(&c->lock))
        LOCH_TRY(make_locked_keys(c));
    else if (!loch_keys_has(c->ps->keys, &info->tenant, &info->timeline))
        LOCH_TRY(loch_keys_add_timeline(c->ps->keys, &info->tenant, &info->timeline));
    LOCH_TRY(loch_timeline_create(&c->ps->store, c->ps->keys, info, c->parent, &c->timeline));
    c->point.control.system_id = info->system_id;
    c->point.control.last_start = c->point.prev_lsn;
    c->point.control.last_end = c->point.lsn;
    loch_status st = loch_control_encode(&c->point.control, &control);
    if (loch_is_ok(st))
        st = loch_timeline_birth(c->timeline, c->point.prev_lsn, loch_buf_slice(&control),
                                 !c->keep_prepared, &birth);
    c->put_began = loch_is_ok(st);
    if (loch_is_ok(st))
        st = commit_tenant(c, &birth);
    loch_buf_fini(&control);
    loch_buf_fini(&birth);
    return st;
}

static void branch_work(void *arg)
{
    struct creation *c = arg;
    loch_failure_set(&c->result, make_branch(c));
    /* The manifest's put may have reached the store although it failed: then only the start knows.
     */
    if (loch_is_ok(c->result.st) || c->put_began || loch_id_is_none(&c->lock))
        return;
    if (!loch_is_ok(tenant_remove_timeline(c->ps, &c->tenant->id, &c->made.info.timeline)))
        loch_log_failure("what was made of a branch stays until the next start");
}

/* Which manifest is the newest is noted while the answer is on its way: that takes as long again
 * as the put, and protects nothing that was not put. */
struct note_job {
    struct loch_store store; /* a copy: a stop does not wait for it */
    struct loch_manifest_note note;
};

static void note_work(void *arg)
{
    const struct note_job *job = arg;
    loch_manifest_note(&job->store, &job->note);
}

static void note_soon(const struct creation *c)
{
    struct note_job *job = calloc(1, sizeof *job);
    if (job != NULL)
        *job = (struct note_job){.store = c->ps->store, .note = c->note};
    if (job != NULL && loch_is_ok(loch_env_work(c->ps->env, note_work, free, job)))
        return;
    free(job);
    LOCH_WARN("no memory to note which manifest is the newest: the next change notes its own");
}

static void branch_done(void *arg)
{
    struct creation *c = arg;
    loch_status st = loch_failure_raise(&c->result);
    if (loch_is_ok(st))
        note_soon(c);
    finish(c, loch_is_ok(st) ? serve(c) : st);
}

static void point_found(void *arg, loch_status st, const struct loch_history_point *point)
{
    struct creation *c = arg;
    struct loch_timeline_info *info = &c->made.info;
    c->history = NULL;
    if (loch_is_ok(st))
        st = loch_timeline_hold(c->parent, point->lsn, &c->hold);
    if (!loch_is_ok(st)) {
        finish(c, st);
        return;
    }
    const struct loch_timeline_info *above = loch_timeline_info(c->parent);
    c->point = *point;
    c->made.prev_lsn = point->prev_lsn;
    info->start_lsn = info->ancestor_lsn = point->lsn;
    info->ancestor = above->timeline;
    info->pg_version = above->pg_version;
    info->segment_bytes = above->segment_bytes;
    info->system_id = fresh_system_id(c->ps->env);
    st = loch_env_work(c->ps->env, branch_work, branch_done, c);
    if (!loch_is_ok(st))
        finish(c, st);
}

/* Where the branch leaves: by default what is ingested now. */
static loch_status find_owner(struct creation *c, const struct loch_id *from, loch_lsn *lsn,
                              struct loch_served **out)
{
    const struct loch_served *served = loch_served_find(c->ps, &c->tenant->id, from);
    if (served == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no such timeline to branch from");
    LOCH_TRY(loch_served_usable(served));
    if (*lsn == LOCH_LSN_NONE)
        *lsn = loch_timeline_last_record_lsn(loch_served_timeline(served));
    LOCH_TRY(loch_tenant_owner(c->ps, c->tenant, from, *lsn, out, NULL));
    c->parent = loch_timeline_retain(loch_served_timeline(*out));
    return loch_timeline_readable(c->parent, *lsn);
}

/* Its keys are below the CMK of what it leaves, unless it brings its own; and of spare ids only
 * those of the tenant's CMK have keys. */
static loch_status choose_lock(struct creation *c, const struct loch_branch_order *order)
{
    struct loch_keys *keys = c->ps->keys;
    const struct loch_id above =
        loch_keys_lock(keys, &c->tenant->id, &loch_timeline_info(c->parent)->timeline);
    const struct loch_id named = loch_keys_lock(keys, &c->tenant->id, &order->from);
    if (!loch_id_equal(&above, &named))
        return LOCH_FAIL(LOCH_E_INVALID, "that LSN lies before the branch with a CMK of its own: "
                                         "branch from its parent");
    if (!loch_id_is_none(&above) && order->kms_uri != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "a branch below one with a CMK of its own stays under it");
    c->lock = above;
    if (loch_id_is_none(&above) && order->kms_uri == NULL)
        return take_spare(c);
    LOCH_TRY(loch_env_random(c->ps->env, c->made.info.timeline.bytes, sizeof(struct loch_id)));
    if (order->kms_uri != NULL)
        c->lock = c->made.info.timeline;
    return copy_text(order->kms_uri, &c->kms_uri);
}

static loch_status begin_branch(struct creation *c, const struct loch_branch_order *order)
{
    struct loch_served *served = NULL;
    loch_lsn lsn = order->lsn;
    LOCH_TRY(loch_name_check(order->name));
    for (uint32_t i = 0; i < c->tenant->manifest.count; i++) {
        if (strcmp(c->tenant->manifest.timelines[i].name, order->name) == 0)
            return LOCH_FAIL(LOCH_E_EXISTS, "there is a branch %s already", order->name);
    }
    snprintf(c->made.name, sizeof c->made.name, "%s", order->name);
    c->keep_prepared = order->keep_prepared;
    c->made.info.tenant = c->tenant->id;
    LOCH_TRY(loch_tenant_next(c->ps, c->tenant, &c->manifest));
    LOCH_TRY(find_owner(c, &order->from, &lsn, &served));
    LOCH_TRY(choose_lock(c, order));
    return loch_history_find(served, c->ps, lsn, BRANCH_TIMEOUT_MS, point_found, c, &c->history);
}

void loch_branch_create(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_branch_order *order, loch_created_fn fn, void *arg)
{
    struct creation *c = calloc(1, sizeof *c);
    if (c == NULL || tenant->busy) {
        free(c);
        fn(arg, LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress"), NULL);
        return;
    }
    *c = (struct creation){.ps = ps, .tenant = tenant, .fn = fn, .arg = arg};
    c->began_ns = loch_env_now_ns(ps->env);
    tenant->busy = true;
    loch_status st = begin_branch(c, order);
    if (!loch_is_ok(st))
        fail_later(c, st);
}
