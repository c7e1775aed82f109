/* The console of the pageserver. */
#include "commands.h"

#include "care/credential.h"
#include "layer_commands.h"
#include "served.h"
#include "shred.h"
#include "tenants.h"

#include "ingest/ingest.h"
#include "read/view.h"

#include "loch/base/time.h"
#include "loch/host/console.h"
#include "loch/host/key_command.h"
#include "loch/host/keys.h"
#include "loch/host/leases.h"
#include "loch/host/pin_command.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>

/* Several columns of text for one row. */
#define TEXT_BYTES 40u

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

/* ---- creating ---- */

struct creating {
    struct loch_console_request *request;
    const char *tag;
};

static void created(void *arg, loch_status st, const struct loch_created *made)
{
    static const char *const names[] = {"tenant",   "timeline",  "name",       "start_lsn",
                                        "prev_lsn", "system_id", "pg_version", "segment_bytes",
                                        "ancestor", "password"};
    struct creating *c = arg;
    char ids[3][LOCH_ID_TEXT_BYTES], text[5][TEXT_BYTES];
    if (!loch_is_ok(st)) {
        loch_console_fail(c->request, st);
        free(c);
        return;
    }
    const struct loch_timeline_info *info = &made->info;
    bool root = loch_id_is_none(&info->ancestor);
    const char *values[] = {loch_id_format(&info->tenant, ids[0]),
                            loch_id_format(&info->timeline, ids[1]),
                            made->name,
                            text_lsn(info->start_lsn, text[0]),
                            text_lsn(made->prev_lsn, text[1]),
                            text_u64(info->system_id, text[2]),
                            text_u64(info->pg_version, text[3]),
                            text_u64(info->segment_bytes, text[4]),
                            root ? NULL : loch_id_format(&info->ancestor, ids[2]),
                            root ? made->password : NULL};
    loch_console_columns(c->request, names, sizeof names / sizeof names[0]);
    loch_console_row(c->request, values);
    loch_console_done(c->request, c->tag);
    free(c);
}

static struct creating *creating_new(struct loch_console_request *request, const char *tag)
{
    struct creating *c = malloc(sizeof *c);
    if (c == NULL) {
        loch_console_fail(request, LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command"));
        return NULL;
    }
    *c = (struct creating){request, tag};
    return c;
}

static void create_tenant(void *arg, struct loch_console_request *request)
{
    struct creating *c = creating_new(request, "CREATE TENANT");
    const struct loch_tenant_order order = {loch_console_arg(request, "name"),
                                            loch_console_arg(request, "uri"),
                                            loch_console_arg(request, "directory")};
    if (c != NULL)
        loch_tenant_create(arg, &order, created, c);
}

LOCH_STATUS loch_command_tenant(struct loch_pageserver *ps,
                                const struct loch_console_request *request,
                                struct loch_tenant **out)
{
    const char *text = loch_console_arg(request, "tenant");
    struct loch_id id;
    struct loch_tenant *tenant = loch_tenant_by_name(ps, text);
    /* one that was made while the keys of the other, and so its name, could not be had */
    const struct loch_tenant *other = tenant != NULL ? loch_tenant_namesake(tenant) : NULL;
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES];
    if (other != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "two tenants are named %s: say which of %s and %s", text,
                         loch_id_format(&tenant->id, a), loch_id_format(&other->id, b));
    if (tenant == NULL && loch_is_ok(loch_id_parse(text, &id)))
        tenant = loch_tenant_find(ps, &id);
    if (tenant == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no tenant %s", text);
    *out = tenant;
    return LOCH_OK;
}

LOCH_STATUS loch_command_timeline(const struct loch_tenant *tenant,
                                  const struct loch_console_request *request, const char *name,
                                  struct loch_id *out)
{
    const char *text = loch_console_arg(request, name);
    struct loch_id id;
    bool is_id = loch_is_ok(loch_id_parse(text, &id));
    for (uint32_t i = 0; i < tenant->manifest.count; i++) {
        const struct loch_tenant_timeline *entry = &tenant->manifest.timelines[i];
        if (strcmp(entry->name, text) != 0 && !(is_id && loch_id_equal(&entry->timeline, &id)))
            continue;
        *out = entry->timeline;
        return LOCH_OK;
    }
    return LOCH_FAIL(LOCH_E_NOT_FOUND, "tenant %s has no timeline %s", tenant->manifest.name, text);
}

LOCH_STATUS loch_command_gone_timeline(const struct loch_tenant *tenant,
                                       const struct loch_console_request *request,
                                       struct loch_id *out)
{
    if (loch_is_ok(loch_command_timeline(tenant, request, "timeline", out)) ||
        loch_is_ok(loch_id_parse(loch_console_arg(request, "timeline"), out)))
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_NOT_FOUND, "tenant %s has no timeline %s", tenant->manifest.name,
                     loch_console_arg(request, "timeline"));
}

/* PREPARED keep or roll-back, by default the latter. */
static loch_status prepared_arg(const struct loch_console_request *request, bool *keep)
{
    const char *text = loch_console_arg(request, "prepared");
    *keep = text != NULL && strcmp(text, "keep") == 0;
    if (text == NULL || *keep || strcmp(text, "roll-back") == 0)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID, "PREPARED %s: want keep or roll-back", text);
}

static loch_status begin_branch(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    struct loch_branch_order order = {.name = loch_console_arg(request, "name"),
                                      .kms_uri = loch_console_arg(request, "uri")};
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &order.from));
    LOCH_TRY(prepared_arg(request, &order.keep_prepared));
    if (loch_console_arg(request, "lsn") != NULL)
        LOCH_TRY(loch_console_arg_lsn(request, "lsn", &order.lsn));
    struct creating *c = creating_new(request, "CREATE BRANCH");
    if (c != NULL)
        loch_branch_create(ps, tenant, &order, created, c);
    return LOCH_OK;
}

static void create_branch(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_branch(arg, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

/* ---- renaming and dropping ---- */

static void changed(void *arg, loch_status st)
{
    struct creating *c = arg;
    if (loch_is_ok(st))
        loch_console_done(c->request, c->tag);
    else
        loch_console_fail(c->request, st);
    free(c);
}

static void drop_tenant(void *arg, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    loch_status st = loch_command_tenant(arg, request, &tenant);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    struct creating *c = creating_new(request, "DROP TENANT");
    if (c != NULL)
        loch_tenant_drop(arg, tenant, changed, c);
}

static loch_status begin_detach(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    struct creating *c = creating_new(request, "DETACH BRANCH");
    if (c != NULL)
        loch_branch_detach(ps, tenant, &timeline, changed, c);
    return LOCH_OK;
}

static void detach_branch(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_detach(arg, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static loch_status begin_archive(struct loch_pageserver *ps, struct loch_console_request *request,
                                 bool back)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    loch_lsn lsn = LOCH_LSN_NONE;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    LOCH_TRY(loch_keys_usable(ps->keys, &tenant->id, &timeline));
    if (!back && loch_console_arg(request, "lsn") != NULL)
        LOCH_TRY(loch_console_arg_lsn(request, "lsn", &lsn));
    struct creating *c = creating_new(request, back ? "UNARCHIVE BRANCH" : "ARCHIVE BRANCH");
    if (c != NULL && back)
        loch_branch_unarchive(ps, tenant, &timeline, changed, c);
    else if (c != NULL)
        loch_branch_archive(ps, tenant, &timeline, lsn, changed, c);
    return LOCH_OK;
}

static void archive_branch(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_archive(arg, request, false);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void unarchive_branch(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_archive(arg, request, true);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void drop_branch(void *arg, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    loch_status st = loch_command_tenant(arg, request, &tenant);
    if (loch_is_ok(st))
        st = loch_command_gone_timeline(tenant, request, &timeline);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    struct creating *c = creating_new(request, "DROP BRANCH");
    if (c != NULL)
        loch_branch_drop(arg, tenant, &timeline, changed, c);
}

static loch_status begin_rename(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline, taker;
    bool taken = loch_console_arg(request, "taker") != NULL;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    if (taken)
        LOCH_TRY(loch_command_timeline(tenant, request, "taker", &taker));
    struct creating *c = creating_new(request, "RENAME BRANCH");
    if (c != NULL)
        loch_branch_rename(ps, tenant, &timeline, loch_console_arg(request, "name"),
                           taken ? &taker : NULL, changed, c);
    return LOCH_OK;
}

static void rename_branch(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_rename(arg, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void pin_tenant(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_pin_command(ps->env, ps->kms, request);
}

static void show_pins(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_show_pins_command(ps->kms, request);
}

static void unpin_tenant(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_unpin_command(ps->env, ps->kms, request);
}

/* ---- showing ---- */

/* Whether the tenant's key may be used stands above any other state. */
static const char *state_word(struct loch_pageserver *ps, const struct loch_tenant *t,
                              const struct loch_id *timeline, const char *otherwise)
{
    const enum loch_code code = loch_keys_usable(ps->keys, &t->id, timeline).code;

    if (loch_keys_asleep(ps->keys, &t->id))
        return "asleep";
    if (code == LOCH_E_KEY_REVOKED)
        return "REVOKED";
    return code == LOCH_E_KMS_UNAVAILABLE ? "OUTAGE" : otherwise;
}

static void show_leases(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_leases_show(ps->leases, request);
}

static void show_keys(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_show_keys_command(ps->keys, request);
}

static void reload_keys(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_reload_keys_command(ps->env, ps->keys, request);
}

static void show_receipt(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_receipt_command(ps->env, ps->store.dir, request);
}

static void rotate_key(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_rotate_key_command(ps->env, ps->keys, request);
}

static void activate_keys(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    loch_activate_keys_command(ps->env, ps->keys, request);
}

static void show_tenants(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"tenant", "name", "timelines", "state", "problem"};
    struct loch_pageserver *ps = arg;
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        char id[LOCH_ID_TEXT_BYTES], count[TEXT_BYTES];
        /* Being created; not one that is being opened again, whose timelines are not known yet. */
        if (loch_id_is_none(&t->id) ||
            (t->busy && t->manifest.count == 0 && !t->going && !t->dark && t->problem[0] == '\0'))
            continue;
        const char *otherwise = t->problem[0] == '\0' ? "active" : "broken";
        const char *values[] = {loch_id_format(&t->id, id), t->manifest.name,
                                text_u64(t->manifest.count, count),
                                t->going ? "deleting" : state_word(ps, t, NULL, otherwise),
                                t->problem[0] == '\0' ? NULL : t->problem};
        loch_console_row(request, values);
    }
    loch_console_done(request, NULL);
}

/* Of its own layer files; what it shares with its ancestors is theirs. */
static uint64_t layer_bytes(struct loch_timeline *t)
{
    struct loch_view *view = NULL;
    if (!loch_is_ok(loch_view_create(t, &view)))
        return 0;
    uint64_t bytes = loch_view_layer_bytes(view);
    loch_view_destroy(view);
    return bytes;
}

/* A system identifier begins with the second of its making (initdb's rule, and create.c's). */
static int64_t created_us(const struct loch_timeline *t)
{
    return (int64_t)(loch_timeline_info(t)->system_id >> 32) * 1000000;
}

static void timeline_row(struct loch_pageserver *ps, struct loch_console_request *request,
                         const struct loch_tenant *tenant, const struct loch_tenant_timeline *entry,
                         const struct loch_served *s)
{
    char ids[3][LOCH_ID_TEXT_BYTES], text[9][TEXT_BYTES], created_text[LOCH_TIME_TEXT_BYTES];
    struct loch_timeline *t = s != NULL ? loch_served_timeline(s) : NULL;
    const char *problem = s != NULL ? loch_served_problem(s) : tenant->problem;
    bool root = loch_id_is_none(&entry->ancestor);
    const char *values[20] = {loch_id_format(&tenant->id, ids[0]),
                              tenant->manifest.name,
                              loch_id_format(&entry->timeline, ids[1]),
                              entry->name,
                              root ? NULL : loch_id_format(&entry->ancestor, ids[2]),
                              root ? NULL : text_lsn(entry->ancestor_lsn, text[0])};
    if (t != NULL) {
        const struct loch_timeline_info *info = loch_timeline_info(t);
        values[6] = text_lsn(info->start_lsn, text[1]);
        values[7] = text_lsn(loch_timeline_last_record_lsn(t), text[2]);
        values[8] = text_lsn(loch_timeline_disk_consistent_lsn(t), text[3]);
        values[9] = text_u64(info->system_id, text[4]);
        values[10] = text_u64(info->pg_version, text[5]);
        values[11] = text_u64(info->segment_bytes, text[6]);
        values[12] = text_u64(loch_served_term(s), text[7]);
        values[13] = loch_served_source(s);
    }
    values[14] = state_word(ps, tenant, &entry->timeline,
                            entry->archived      ? "archived"
                            : problem[0] != '\0' ? "broken"
                            : t != NULL          ? "active"
                                                 : "absent");
    values[15] = problem[0] != '\0' ? problem : NULL;
    const struct loch_id lock = loch_keys_lock(ps->keys, &tenant->id, &entry->timeline);
    const struct loch_tenant_timeline *holder = loch_tenant_timeline_find(tenant, &lock);
    values[19] = holder != NULL ? holder->name : NULL;
    const struct loch_tenant_timeline *above =
        root ? NULL : loch_tenant_timeline_find(tenant, &entry->ancestor);
    values[16] = above != NULL ? above->name : NULL;
    if (t != NULL) {
        values[17] = text_u64(layer_bytes(t), text[8]);
        values[18] = loch_time_format(created_us(t), created_text);
    }
    loch_console_row(request, values);
}

static void show_timelines(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"tenant",    "tenant_name",     "timeline",
                                        "name",      "ancestor",        "ancestor_lsn",
                                        "start_lsn", "last_record_lsn", "disk_consistent_lsn",
                                        "system_id", "pg_version",      "segment_bytes",
                                        "term",      "wal_from",        "state",
                                        "problem",   "parent",          "layer_bytes",
                                        "created",   "cmk_of"};
    struct loch_pageserver *ps = arg;
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        for (uint32_t i = 0; i < t->manifest.count; i++) {
            const struct loch_tenant_timeline *entry = &t->manifest.timelines[i];
            timeline_row(ps, request, t, entry, loch_served_find(ps, &t->id, &entry->timeline));
        }
    }
    loch_console_done(request, NULL);
}

static void show_status(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"daemon",    "node",   "address", "tenants",
                                        "timelines", "broken", "state"};
    struct loch_pageserver *ps = arg;
    char node[LOCH_ID_TEXT_BYTES], text[3][TEXT_BYTES];
    uint64_t tenants = 0, timelines = 0, broken = 0;
    for (struct loch_tenant *t = ps->tenants; t != NULL; t = t->next) {
        tenants++;
        broken += t->problem[0] != '\0';
    }
    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s)) {
        timelines++;
        broken += loch_served_problem(s)[0] != '\0' && !loch_served_is_archived(s);
    }
    const char *values[] = {"loch-pageserver",
                            loch_id_format(&ps->config.node, node),
                            ps->config.address,
                            text_u64(tenants, text[0]),
                            text_u64(timelines, text[1]),
                            text_u64(broken, text[2]),
                            ps->stopping ? "stopping" : "up"};
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    loch_console_row(request, values);
    loch_console_done(request, NULL);
}

/* ---- credentials ---- */

struct issue {
    struct loch_console_request *request;
    struct loch_credential_order order;
    struct loch_buf json;
    struct loch_failure result;
};

static void issue_work(void *arg)
{
    struct issue *issue = arg;
    loch_failure_set(&issue->result, loch_credential_issue(&issue->order, &issue->json));
}

static void issue_done(void *arg)
{
    static const char *const names[] = {"credential"};
    struct issue *issue = arg;
    loch_status st = loch_failure_raise(&issue->result);
    if (loch_is_ok(st)) {
        const char *values[] = {(const char *)issue->json.data};
        loch_console_columns(issue->request, names, 1);
        loch_console_row(issue->request, values);
        loch_console_done(issue->request, "ISSUE CREDENTIAL");
    } else {
        loch_console_fail(issue->request, st);
    }
    if (issue->json.data != NULL)
        loch_wipe(issue->json.data, issue->json.cap);
    loch_buf_fini(&issue->json);
    free(issue);
}

static loch_status begin_issue(struct loch_pageserver *ps, struct loch_console_request *request)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline, compute;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    LOCH_TRY(loch_keys_usable(ps->keys, &tenant->id, &timeline));
    LOCH_TRY(loch_console_arg_id(request, "compute", &compute));
    const struct loch_served *served = loch_served_find(ps, &tenant->id, &timeline);
    if (served == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here");
    LOCH_TRY(loch_served_usable(served));
    const struct loch_timeline_info *info = loch_timeline_info(loch_served_timeline(served));
    struct issue *issue = calloc(1, sizeof *issue);
    if (issue == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a credential");
    issue->request = request;
    bool held = loch_kms_customer_held(loch_kms_for(ps->kms, &tenant->id, NULL));
    issue->order = (struct loch_credential_order){.config = &ps->config,
                                                  .keys = ps->keys,
                                                  .store = ps->objstore,
                                                  .env = ps->env,
                                                  .dir = ps->store.dir,
                                                  .tenant = tenant->id,
                                                  .timeline = timeline,
                                                  .compute = compute,
                                                  .customer_held = held,
                                                  .system_id = info->system_id,
                                                  .pg_version = info->pg_version,
                                                  .segment_bytes = info->segment_bytes};
    const struct loch_peer *peers = loch_served_safekeepers(served, &issue->order.safekeeper_count);
    memcpy(issue->order.safekeepers, peers, issue->order.safekeeper_count * sizeof *peers);
    loch_status st = loch_env_work(ps->env, issue_work, issue_done, issue);
    if (!loch_is_ok(st))
        free(issue);
    return st;
}

static void issue_credential(void *arg, struct loch_console_request *request)
{
    loch_status st = begin_issue(arg, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void flush_timeline(void *arg, struct loch_console_request *request)
{
    struct loch_pageserver *ps = arg;
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    loch_status st = loch_command_tenant(ps, request, &tenant);
    if (loch_is_ok(st))
        st = loch_command_timeline(tenant, request, "timeline", &timeline);
    struct loch_served *served =
        loch_is_ok(st) ? loch_served_find(ps, &tenant->id, &timeline) : NULL;
    if (loch_is_ok(st) && served == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here");
    if (loch_is_ok(st))
        st = loch_served_usable(served);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    loch_served_flush_soon(served);
    loch_console_done(request, "FLUSH");
}

/* Its hold (revocation.c) has done it. */
static void wake_tenant(void *arg, struct loch_console_request *request)
{
    (void)arg;
    loch_console_done(request, "WAKE TENANT");
}

const struct loch_console_command loch_pageserver_commands[] = {
    {"CREATE TENANT <name> [KMS <uri>] [IMPORT <directory>]",
     "Makes a tenant with the timeline main, under that CMK, of a fresh PostgreSQL or a shut down "
     "data directory.",
     create_tenant},
    {LOCH_PIN_WORDS, LOCH_PIN_HELP, pin_tenant},
    {LOCH_UNPIN_WORDS, LOCH_UNPIN_HELP, unpin_tenant},
    {LOCH_SHOW_PINS_WORDS, LOCH_SHOW_PINS_HELP, show_pins},
    {"DROP TENANT <tenant>", "Removes a tenant, its timelines and its keys, for good.",
     drop_tenant},
    {"SHOW TENANTS", "One row a tenant.", show_tenants},
    {"SHOW TIMELINES", "One row a timeline of every tenant.", show_timelines},
    {"SHOW STATUS", "One row about this daemon.", show_status},
    {LOCH_SHRED_WORDS, LOCH_SHRED_HELP, loch_shred_order},
    {LOCH_CONFIRM_SHRED_WORDS, LOCH_CONFIRM_SHRED_HELP, loch_shred_confirm},
    {LOCH_CANCEL_SHRED_WORDS, LOCH_CANCEL_SHRED_HELP, loch_shred_cancel},
    {LOCH_SHOW_SHREDS_WORDS, LOCH_SHOW_SHREDS_HELP, loch_shred_show},
    {LOCH_RECEIPT_WORDS, LOCH_RECEIPT_HELP, show_receipt},
    {LOCH_SHOW_KEYS_WORDS, LOCH_SHOW_KEYS_HELP, show_keys},
    {LOCH_RELOAD_KEYS_WORDS, LOCH_RELOAD_KEYS_HELP, reload_keys},
    {LOCH_ROTATE_KEY_WORDS, LOCH_ROTATE_KEY_HELP, rotate_key},
    {LOCH_ACTIVATE_WORDS, LOCH_ACTIVATE_HELP, activate_keys},
    {LOCH_WAKE_WORDS, LOCH_WAKE_HELP, wake_tenant},
    {"SHOW LEASES", "One row a tenant: whether its key may be used, and why not.", show_leases},
    {"ISSUE CREDENTIAL <tenant> <timeline> <compute>",
     "A compute's keys and its epoch, as JSON; earlier ones of the timeline are fenced.",
     issue_credential},
    {"CREATE BRANCH <tenant> <name> FROM <timeline> [AT <lsn>] [PREPARED <prepared>] "
     "[KMS <uri>]",
     "A timeline that goes on from another at a record boundary; nothing is copied. KMS: a CMK of "
     "its own holds its keys.",
     create_branch},
    {"RENAME BRANCH <tenant> <timeline> TO <name> [NAME TAKEN BY <taker>]",
     "A new name; another branch may take the old one at the same moment.", rename_branch},
    {"DETACH BRANCH <tenant> <timeline>",
     "Copies what it shares with its parent, and stands alone from then on.", detach_branch},
    {"ARCHIVE BRANCH <tenant> <timeline> [AT <lsn>]",
     "Its layers go to the object store alone; it is not served until it is unarchived.",
     archive_branch},
    {"UNARCHIVE BRANCH <tenant> <timeline>", "Brings an archived timeline back into service.",
     unarchive_branch},
    {"DROP BRANCH <tenant> <timeline>",
     "Removes a timeline that no other stands on, or (by its id) what a failed removal left.",
     drop_branch},
    {"SHOW LSN <tenant> <timeline> BEFORE <time> [UPTO <lsn>]",
     "The boundary before the first transaction that ended later, as recovery_target_time.",
     loch_command_show_lsn},
    {"SHOW TIME <tenant> <timeline> AT <lsn>",
     "When a transaction ended at or below an LSN, to within a second of the newest.",
     loch_command_show_time},
    {"FLUSH <tenant> <timeline>", "Writes what is in memory to a layer file soon.", flush_timeline},
    LOCH_LAYER_COMMANDS,
};
const size_t loch_pageserver_command_count =
    sizeof loch_pageserver_commands / sizeof loch_pageserver_commands[0];
