/* Names of branches: they stand in the tenant's manifest and nowhere else, so one put of it renames
 * one, or lets two change places. */
#include "tenants.h"

#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>

struct renaming {
    struct loch_pageserver *ps;
    struct loch_tenant *tenant;
    struct loch_tenant_manifest manifest;
    struct loch_failure result;
    loch_changed_fn fn;
    void *arg;
};

static void finish(void *arg)
{
    struct renaming *r = arg;
    loch_status st = loch_failure_raise(&r->result);
    r->tenant->busy = false;
    r->fn(r->arg, st);
    loch_tenant_manifest_fini(&r->manifest);
    free(r);
}

static void commit_work(void *arg)
{
    struct renaming *r = arg;
    loch_failure_set(&r->result, loch_tenant_put(r->ps, r->tenant, &r->manifest));
}

static void commit_done(void *arg)
{
    struct renaming *r = arg;
    if (loch_is_ok(r->result.st))
        loch_tenant_take(r->tenant, &r->manifest);
    finish(r);
}

static struct loch_tenant_timeline *entry_of(struct loch_tenant_manifest *m,
                                             const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (loch_id_equal(&m->timelines[i].timeline, timeline))
            return &m->timelines[i];
    }
    return NULL;
}

static loch_status begin(struct renaming *r, const struct loch_id *timeline, const char *name,
                         const struct loch_id *taker)
{
    LOCH_TRY(loch_name_check(name));
    LOCH_TRY(loch_tenant_next(r->ps, r->tenant, &r->manifest));
    for (uint32_t i = 0; i < r->manifest.count; i++) {
        if (strcmp(r->manifest.timelines[i].name, name) == 0)
            return LOCH_FAIL(LOCH_E_EXISTS, "there is a branch %s already", name);
    }
    struct loch_tenant_timeline *entry = entry_of(&r->manifest, timeline);
    struct loch_tenant_timeline *other = taker != NULL ? entry_of(&r->manifest, taker) : NULL;
    if (entry == NULL || (taker != NULL && other == NULL))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline");
    if (entry == other)
        return LOCH_FAIL(LOCH_E_INVALID, "a branch cannot take its own name");
    if (other != NULL)
        memcpy(other->name, entry->name, sizeof other->name);
    snprintf(entry->name, sizeof entry->name, "%s", name);
    return loch_env_work(r->ps->env, commit_work, commit_done, r);
}

void loch_branch_rename(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_id *timeline, const char *name,
                        const struct loch_id *taker, loch_changed_fn fn, void *arg)
{
    struct renaming *r = calloc(1, sizeof *r);
    if (r == NULL || tenant->busy) {
        free(r);
        fn(arg, LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress"));
        return;
    }
    *r = (struct renaming){.ps = ps, .tenant = tenant, .fn = fn, .arg = arg};
    tenant->busy = true;
    loch_status st = begin(r, timeline, name, taker);
    if (!loch_is_ok(st)) {
        loch_failure_set(&r->result, st);
        loch_env_post(ps->env, finish, r);
    }
}
