/* Layers, history and leases on the console. */
#include "layer_commands.h"

#include "commands.h"
#include "served.h"
#include "upkeep.h"

#include "store/compact.h"
#include "store/layer_set.h"
#include "store/manifest.h"
#include "store/retention.h"

#include "loch/base/check.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TEXT_BYTES 80u

static const char *text_lsn(loch_lsn lsn, char text[TEXT_BYTES])
{
    snprintf(text, TEXT_BYTES, LOCH_LSN_FMT, LOCH_LSN_ARG(lsn));
    return text;
}

static const char *text_u64(uint64_t v, char text[TEXT_BYTES])
{
    snprintf(text, TEXT_BYTES, "%" PRIu64, v);
    return text;
}

static const char *text_time(int64_t us, char text[TEXT_BYTES])
{
    struct tm tm;
    time_t seconds = (time_t)(us / 1000000);
    if (gmtime_r(&seconds, &tm) == NULL || strftime(text, TEXT_BYTES, "%F %T+00", &tm) == 0)
        text[0] = '\0';
    return text;
}

/* kind spc/db/rel/fork block, as numbers. */
static const char *text_key(const struct loch_key *key, char text[TEXT_BYTES])
{
    snprintf(text, TEXT_BYTES, "%u %u/%u/%u/%u %u", key->kind, key->spc, key->db, key->rel,
             key->fork, key->block);
    return text;
}

/* The timeline named by <tenant> and <timeline>, if it can be read. */
static loch_status served_arg(struct loch_pageserver *ps,
                              const struct loch_console_request *request, struct loch_served **out)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    struct loch_served *served = loch_served_find(ps, &tenant->id, &timeline);
    if (served == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here");
    LOCH_TRY(loch_served_usable(served));
    *out = served;
    return LOCH_OK;
}

/* ---- layers ---- */

static const char *kind_of(const struct loch_layer_desc *d)
{
    if (d->level == LOCH_LAYER_FLUSHED)
        return "L0";
    return d->images == d->versions ? "image" : "L1";
}

static void layer_row(struct loch_console_request *request, const struct loch_layer_desc *d)
{
    char id[LOCH_ID_TEXT_BYTES], text[12][TEXT_BYTES];
    const struct loch_layer_weight *w = &d->weight;
    const char *values[] = {loch_id_format(&d->file_id, id),
                            kind_of(d),
                            text_u64(d->file_bytes, text[0]),
                            text_lsn(d->span.start_lsn, text[1]),
                            text_lsn(d->span.end_lsn, text[2]),
                            text_key(&d->span.first, text[3]),
                            text_key(&d->span.last, text[4]),
                            text_u64(d->keys, text[5]),
                            text_u64(d->versions, text[6]),
                            text_u64(d->images, text[7]),
                            text_u64(w->raw - w->past - w->held, text[8]),
                            text_u64(w->past, text[9]),
                            text_u64(w->held, text[10])};
    loch_console_row(request, values);
}

void loch_command_show_layers(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {
        "layer", "kind",     "bytes",  "start_lsn",  "end_lsn",       "first_key",   "last_key",
        "keys",  "versions", "images", "live_bytes", "history_bytes", "branch_bytes"};
    struct loch_served *served = NULL;
    loch_status st = served_arg(arg, request, &served);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(loch_served_timeline(served), &last);
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < set->file_count; i++)
        layer_row(request, loch_layer_desc(set->files[i]));
    loch_layer_set_release(set);
    loch_console_done(request, NULL);
}

/* ---- history ---- */

static void history_row(struct loch_pageserver *ps, struct loch_console_request *request,
                        const struct loch_tenant *tenant, const char *name,
                        struct loch_served *served)
{
    char text[11][TEXT_BYTES];
    struct loch_timeline *t = loch_served_timeline(served);
    struct loch_layers_summary sum;
    struct loch_pitr_window window = {UINT64_MAX, UINT64_MAX};
    int64_t reached_us = 0;
    loch_lsn cutoff = loch_timeline_cutoff(t, &reached_us);
    bool own = loch_timeline_own_window(t, &window);
    if (!own)
        window = (struct loch_pitr_window){ps->config.history_ms / 1000, ps->config.history_bytes};
    loch_timeline_summary(t, &sum);
    const char *problem = loch_upkeep_problem(ps->upkeep, loch_served_timeline_id(served));
    const char *values[] = {
        tenant->manifest.name,
        name,
        text_lsn(loch_max_u64(cutoff, loch_timeline_info(t)->start_lsn), text[0]),
        cutoff != LOCH_LSN_NONE ? text_time(reached_us, text[1]) : NULL,
        text_u64(window.seconds, text[2]),
        text_u64(window.bytes, text[3]),
        own ? "tenant" : "pageserver",
        text_u64(sum.layers, text[4]),
        text_u64(sum.bands, text[5]),
        text_u64(sum.file_bytes, text[6]),
        text_u64(sum.weight.raw - sum.weight.past - sum.weight.held, text[7]),
        text_u64(sum.weight.past, text[8]),
        text_u64(sum.weight.held, text[9]),
        problem[0] != '\0' ? problem : NULL};
    loch_console_row(request, values);
}

void loch_command_show_history(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {
        "tenant",       "timeline",      "begins_at",    "reached",       "window_seconds",
        "window_bytes", "window_of",     "layers",       "bands",         "file_bytes",
        "live_bytes",   "history_bytes", "branch_bytes", "upkeep_problem"};
    struct loch_pageserver *ps = arg;
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        for (uint32_t i = 0; i < t->manifest.count; i++) {
            const struct loch_tenant_timeline *entry = &t->manifest.timelines[i];
            struct loch_served *served = loch_served_find(ps, &t->id, &entry->timeline);
            if (served != NULL && loch_served_timeline(served) != NULL)
                history_row(ps, request, t, entry->name, served);
        }
    }
    loch_console_done(request, NULL);
}

/* ---- what is still under retired keys ---- */

void loch_command_show_rewrite(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"tenant",     "timeline",   "layers",
                                        "file_bytes", "old_layers", "old_bytes"};
    struct loch_pageserver *ps = arg;
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        for (uint32_t i = 0; i < t->manifest.count; i++) {
            const struct loch_tenant_timeline *entry = &t->manifest.timelines[i];
            struct loch_served *served = loch_served_find(ps, &t->id, &entry->timeline);
            struct loch_layers_summary sum;
            char text[4][TEXT_BYTES];
            if (served == NULL || loch_served_timeline(served) == NULL)
                continue;
            loch_timeline_summary(loch_served_timeline(served), &sum);
            const char *values[] = {t->manifest.name,
                                    entry->name,
                                    text_u64(sum.layers, text[0]),
                                    text_u64(sum.file_bytes, text[1]),
                                    text_u64(sum.old_layers, text[2]),
                                    text_u64(sum.old_bytes, text[3])};
            loch_console_row(request, values);
        }
    }
    loch_console_done(request, NULL);
}

/* ---- leases ---- */

static loch_status lease_rows(struct loch_pageserver *ps, struct loch_console_request *request,
                              const struct loch_tenant *tenant, const char *name,
                              struct loch_served *served)
{
    struct loch_lsn_lease *list = NULL;
    size_t count = 0;
    uint64_t now = loch_env_now_ns(ps->env);
    LOCH_TRY(loch_timeline_leases(loch_served_timeline(served), &list, &count));
    for (size_t i = 0; i < count; i++) {
        char text[2][TEXT_BYTES];
        uint64_t left = list[i].expires_ns > now ? list[i].expires_ns - now : 0;
        const char *values[] = {tenant->manifest.name, name, text_lsn(list[i].lsn, text[0]),
                                list[i].holder, text_u64(left / 1000000, text[1])};
        loch_console_row(request, values);
    }
    free(list);
    return LOCH_OK;
}

void loch_command_show_leases(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"tenant", "timeline", "lsn", "holder", "ms_left"};
    struct loch_pageserver *ps = arg;
    loch_status st = LOCH_OK;
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        for (uint32_t i = 0; i < t->manifest.count && loch_is_ok(st); i++) {
            const struct loch_tenant_timeline *entry = &t->manifest.timelines[i];
            struct loch_served *served = loch_served_find(ps, &t->id, &entry->timeline);
            if (served != NULL && loch_served_timeline(served) != NULL)
                st = lease_rows(ps, request, t, entry->name, served);
        }
    }
    if (loch_is_ok(st))
        loch_console_done(request, NULL);
    else
        loch_console_fail(request, st);
}

static loch_status take_lease(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_served *served = NULL;
    loch_lsn lsn = LOCH_LSN_NONE;
    uint64_t ttl_ms = ps->config.lease_ms;
    LOCH_TRY(served_arg(ps, request, &served));
    LOCH_TRY(loch_console_arg_lsn(request, "lsn", &lsn));
    if (loch_console_arg(request, "ttl") != NULL)
        LOCH_TRY(loch_console_arg_u64(request, "ttl", &ttl_ms));
    return loch_timeline_lease(loch_served_timeline(served), lsn,
                               loch_console_arg(request, "holder"), ttl_ms);
}

static loch_status end_lease(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_served *served = NULL;
    loch_lsn lsn = LOCH_LSN_NONE;
    LOCH_TRY(served_arg(ps, request, &served));
    LOCH_TRY(loch_console_arg_lsn(request, "lsn", &lsn));
    return loch_timeline_lease_end(loch_served_timeline(served), lsn,
                                   loch_console_arg(request, "holder"));
}

static void settle(struct loch_console_request *request, loch_status st, const char *tag)
{
    if (loch_is_ok(st))
        loch_console_done(request, tag);
    else
        loch_console_fail(request, st);
}

void loch_command_lease(void *arg, struct loch_console_request *request)
{
    settle(request, take_lease(arg, request), "LEASE");
}

void loch_command_end_lease(void *arg, struct loch_console_request *request)
{
    settle(request, end_lease(arg, request), "END LEASE");
}

/* ---- compaction by order ---- */

static void compacted(void *arg, loch_status st, const struct loch_upkeep_report *report)
{
    static const char *const names[] = {"layers_before", "bytes_before", "layers_after",
                                        "bytes_after", "removed_bytes"};
    struct loch_console_request *request = arg;
    char text[5][TEXT_BYTES];
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    const char *values[] = {
        text_u64(report->files_read, text[0]), text_u64(report->read_bytes, text[1]),
        text_u64(report->files_written, text[2]), text_u64(report->written_bytes, text[3]),
        text_u64(report->dropped_bytes, text[4])};
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    loch_console_row(request, values);
    loch_console_done(request, "COMPACT");
}

void loch_command_compact(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    struct loch_served *served = NULL;
    loch_status st = served_arg(ps, request, &served);
    if (loch_is_ok(st))
        st = loch_upkeep_order(ps->upkeep, loch_served_tenant_id(served),
                               loch_served_timeline_id(served), compacted, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void checked(void *arg, loch_status st, const struct loch_upkeep_report *report)
{
    static const char *const names[] = {"layers", "bytes", "healed"};
    struct loch_console_request *request = arg;
    char text[3][TEXT_BYTES];
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    const char *values[] = {text_u64(report->files_read, text[0]),
                            text_u64(report->read_bytes, text[1]),
                            text_u64(report->files_healed, text[2])};
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    loch_console_row(request, values);
    loch_console_done(request, "CHECK LAYERS");
}

void loch_command_check(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    struct loch_served *served = NULL;
    loch_status st = served_arg(ps, request, &served);
    if (loch_is_ok(st))
        st = loch_upkeep_check(ps->upkeep, loch_served_tenant_id(served),
                               loch_served_timeline_id(served), checked, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

/* ---- the window ---- */

struct window_change {
    struct loch_console_request *request;
    struct loch_pageserver *ps;
    struct loch_tenant *tenant; /* busy */
    struct loch_pitr_window window;
    struct loch_served **served; /* work of each is held: nobody else opens it meanwhile */
    size_t count;
    struct loch_id *archived; /* nobody has these open: their manifests are written from here */
    size_t archived_count;
    struct loch_failure result;
};

static loch_status set_archived(const struct window_change *c, const struct loch_id *timeline)
{
    struct loch_manifest m = {0};
    struct loch_etag etag = {0};
    LOCH_TRY(loch_manifest_get(&c->ps->store, c->ps->keys, &c->tenant->id, timeline, &m, &etag));
    m.window = c->window;
    m.generation++;
    loch_status st = loch_manifest_put(&c->ps->store, c->ps->keys, &m, &etag);
    loch_manifest_fini(&m);
    return st;
}

static void window_work(void *arg)
{
    struct window_change *c = arg;
    struct loch_failure other = {0};
    for (size_t i = 0; i < c->count + c->archived_count; i++) {
        const loch_status st =
            i < c->count ? loch_timeline_set_window(loch_served_timeline(c->served[i]), &c->window)
                         : set_archived(c, &c->archived[i - c->count]);
        /* The first failure is the answer; it holds up no other. */
        loch_failure_set(loch_is_ok(c->result.st) ? &c->result : &other, st);
    }
}

static void free_change(struct window_change *c)
{
    for (size_t i = 0; i < c->count; i++) {
        loch_served_flushed(c->served[i]);
        loch_served_work_end(c->served[i]);
    }
    if (c->tenant != NULL)
        c->tenant->busy = false;
    free(c->served);
    free(c->archived);
    free(c);
}

static void window_done(void *arg)
{
    struct window_change *c = arg;
    struct loch_console_request *request = c->request;
    const struct loch_failure result = c->result;
    free_change(c);
    settle(request, loch_failure_raise(&result), "SET HISTORY");
}

static loch_status begin_change(struct loch_pageserver *ps, struct loch_console_request *request,
                                const struct loch_pitr_window *window)
{
    struct loch_tenant *tenant = NULL;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    if (tenant->busy)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "another change of the tenant is in progress");
    struct window_change *c = calloc(1, sizeof *c);
    if (c == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    c->served = calloc((size_t)tenant->manifest.count + 1, sizeof(struct loch_served *));
    c->archived = calloc((size_t)tenant->manifest.count + 1, sizeof *c->archived);
    if (c->served == NULL || c->archived == NULL) {
        free_change(c);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    }
    c->request = request;
    c->ps = ps;
    c->tenant = tenant;
    c->window = *window;
    tenant->busy = true;
    for (uint32_t i = 0; i < tenant->manifest.count; i++) {
        const struct loch_tenant_timeline *entry = &tenant->manifest.timelines[i];
        struct loch_served *s = loch_served_find(ps, &tenant->id, &entry->timeline);
        if (entry->archived)
            c->archived[c->archived_count++] = entry->timeline;
        if (s == NULL || loch_served_timeline(s) == NULL)
            continue;
        loch_served_work_begin(s);
        c->served[c->count++] = s;
    }
    loch_status st = loch_env_work(ps->env, window_work, window_done, c);
    if (!loch_is_ok(st))
        free_change(c);
    return st;
}

static loch_status set_history(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_pitr_window window;
    LOCH_TRY(loch_console_arg_u64(request, "seconds", &window.seconds));
    LOCH_TRY(loch_console_arg_u64(request, "bytes", &window.bytes));
    if (window.seconds > UINT32_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "a window of %" PRIu64 " seconds", window.seconds);
    return begin_change(ps, request, &window);
}

void loch_command_set_history(void *arg, struct loch_console_request *request)
{
    loch_status st = set_history(arg, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

void loch_command_default_history(void *arg, struct loch_console_request *request)
{
    const struct loch_pitr_window window = LOCH_WINDOW_DEFAULT;
    loch_status st = begin_change(arg, request, &window);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}
