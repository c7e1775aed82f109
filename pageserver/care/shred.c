/* Holds: orders to shred, until they are carried out. Invariant: nothing is destroyed before an
 * order's time has come, nor without its token, nor when that names something else than was
 * ordered, nor when the branch has got children meanwhile (the drop refuses). */
#include "shred.h"

#include "commands.h"
#include "served.h"
#include "tenants.h"

#include "loch/base/log.h"
#include "loch/base/time.h"
#include "loch/host/audit.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDERS_MAX  64u
#define TOKEN_BYTES 8u

struct loch_shred {
    struct loch_shred *next;
    struct loch_id tenant, timeline; /* timeline none: the whole tenant */
    char what[160];
    char token[2 * TOKEN_BYTES + 1];
    uint64_t after_ns; /* BOOTTIME */
    int64_t after_us;  /* wall clock, for people */
    bool executing;
};

static struct loch_shred *find(struct loch_pageserver *ps, const char *token)
{
    for (struct loch_shred *o = ps->shreds; o != NULL; o = o->next)
        if (strcmp(o->token, token) == 0)
            return o;
    return NULL;
}

const struct loch_id *loch_shred_tenant(struct loch_pageserver *ps, const char *token)
{
    const struct loch_shred *o = find(ps, token);

    return o != NULL ? &o->tenant : NULL;
}

static void forget(struct loch_pageserver *ps, struct loch_shred *order)
{
    struct loch_shred **link = &ps->shreds;

    while (*link != order)
        link = &(*link)->next;
    *link = order->next;
    free(order);
}

void loch_shreds_free(struct loch_pageserver *ps)
{
    while (ps->shreds != NULL)
        forget(ps, ps->shreds);
}

static const char *name_of(const struct loch_tenant *tenant, const struct loch_id *timeline)
{
    const struct loch_tenant_timeline *entry = loch_tenant_timeline_find(tenant, timeline);
    return entry != NULL ? entry->name : "?";
}

static loch_status check_childless(const struct loch_tenant *tenant, const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < tenant->manifest.count; i++)
        if (loch_id_equal(&tenant->manifest.timelines[i].ancestor, timeline))
            return LOCH_FAIL(LOCH_E_INVALID,
                             "branch %s stands on %s and holds its rows: shred that first, or the "
                             "whole tenant",
                             tenant->manifest.timelines[i].name, name_of(tenant, timeline));
    return LOCH_OK;
}

/* ---- ordering ---- */

static loch_status order(struct loch_pageserver *ps, struct loch_console_request *request,
                         struct loch_shred **out)
{
    struct loch_tenant *tenant = NULL;
    struct loch_shred o = {0};
    uint8_t random[TOKEN_BYTES];
    size_t n = 0;

    for (struct loch_shred *each = ps->shreds; each != NULL; each = each->next)
        n++;
    if (n >= ORDERS_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "%u orders to shred wait already", ORDERS_MAX);
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    o.tenant = tenant->id;
    if (loch_console_arg(request, "timeline") != NULL) {
        LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &o.timeline));
        LOCH_TRY(check_childless(tenant, &o.timeline));
        (void)snprintf(o.what, sizeof o.what, "branch %s of tenant %s",
                       name_of(tenant, &o.timeline), tenant->manifest.name);
    } else {
        (void)snprintf(o.what, sizeof o.what, "tenant %s with %u branches", tenant->manifest.name,
                       tenant->manifest.count);
    }
    LOCH_TRY(loch_env_random(ps->env, random, sizeof random));
    loch_hex_format(random, sizeof random, o.token);
    o.after_ns = loch_env_now_ns(ps->env) + ps->config.shred_delay_ms * UINT64_C(1000000);
    o.after_us = loch_env_wall_us(ps->env) + (int64_t)(ps->config.shred_delay_ms * 1000);
    struct loch_shred *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an order");
    *copy = o;
    copy->next = ps->shreds;
    ps->shreds = copy;
    *out = copy;
    return LOCH_OK;
}

void loch_shred_order(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"token", "what", "not_before"};
    struct loch_pageserver *ps = arg;
    struct loch_shred *o = NULL;
    char when[LOCH_TIME_TEXT_BYTES];
    const loch_status st = order(ps, request, &o);

    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    loch_audit_note(ps->audit, &o->tenant, "shred_ordered", "%s", o->what);
    const char *const values[] = {o->token, o->what, loch_time_format(o->after_us, when)};
    loch_console_columns(request, names, 3);
    loch_console_row(request, values);
    loch_console_done(request, NULL);
}

/* ---- carrying out ---- */

struct execution {
    struct loch_pageserver *ps;
    struct loch_console_request *request;
    struct loch_shred order;
};

/* An order whose execution failed or was refused stands: it can be confirmed again. */
static void executed(void *arg, loch_status st)
{
    struct execution *e = arg;
    struct loch_shred *o = find(e->ps, e->order.token);

    if (o != NULL)
        o->executing = false;
    if (loch_is_ok(st)) {
        if (o != NULL)
            forget(e->ps, o);
        LOCH_WARN("shredded: %s", e->order.what);
        loch_audit_note(e->ps->audit, &e->order.tenant, "shredded", "%s", e->order.what);
        loch_console_done(e->request, "SHRED");
    } else {
        loch_console_fail(e->request, st);
    }
    free(e);
}

/* Whoever confirms names once more what is to go, and goes on to forget that elsewhere: the order
 * must be for exactly that. A timeline that no manifest names any more is named by its id. */
static loch_status check_subject(struct loch_pageserver *ps,
                                 const struct loch_console_request *request,
                                 const struct loch_shred *o)
{
    const bool whole = loch_console_arg(request, "timeline") == NULL;
    struct loch_tenant *tenant = NULL;
    struct loch_id named = {{0}};

    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    if (!whole)
        LOCH_TRY(loch_command_gone_timeline(tenant, request, &named));
    if (!loch_id_equal(&tenant->id, &o->tenant) || !loch_id_equal(&named, &o->timeline) ||
        whole != loch_id_is_none(&o->timeline))
        return LOCH_FAIL(LOCH_E_INVALID, "that token is of the order to shred %s: nothing is done",
                         o->what);
    return LOCH_OK;
}

static loch_status confirm(struct loch_pageserver *ps, struct loch_console_request *request)
{
    const char *token = loch_console_arg(request, "token");
    struct loch_shred *o = find(ps, token);
    char when[LOCH_TIME_TEXT_BYTES];

    if (o == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no order to shred with that token");
    LOCH_TRY(check_subject(ps, request, o));
    if (o->executing)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s is being shredded already", o->what);
    if (loch_env_now_ns(ps->env) < o->after_ns)
        return LOCH_FAIL(LOCH_E_INVALID, "%s may be shredded from %s on, not before", o->what,
                         loch_time_format(o->after_us, when));
    struct loch_tenant *tenant = loch_tenant_find(ps, &o->tenant);
    if (tenant == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant is gone already");
    struct execution *e = malloc(sizeof *e);
    if (e == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    *e = (struct execution){.ps = ps, .request = request, .order = *o};
    o->executing = true;
    if (loch_id_is_none(&e->order.timeline))
        loch_tenant_drop(ps, tenant, executed, e);
    else
        loch_branch_drop(ps, tenant, &e->order.timeline, executed, e);
    return LOCH_OK;
}

void loch_shred_confirm(void *arg, struct loch_console_request *request)
{
    const loch_status st = confirm(arg, request);

    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

void loch_shred_cancel(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    struct loch_shred *o = find(ps, loch_console_arg(request, "token"));

    if (o == NULL) {
        loch_console_fail(
            request, LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no order to shred with that token"));
        return;
    }
    if (o->executing) {
        loch_console_fail(request,
                          LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s is being shredded already", o->what));
        return;
    }
    loch_audit_note(ps->audit, &o->tenant, "shred_cancelled", "%s", o->what);
    forget(ps, o);
    loch_console_done(request, "CANCEL SHRED");
}

void loch_shred_show(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"what", "not_before"};
    struct loch_pageserver *ps = arg;

    loch_console_columns(request, names, 2);
    for (struct loch_shred *o = ps->shreds; o != NULL; o = o->next) {
        char when[LOCH_TIME_TEXT_BYTES];
        const char *const values[] = {o->what, loch_time_format(o->after_us, when)};
        loch_console_row(request, values);
    }
    loch_console_done(request, NULL);
}
