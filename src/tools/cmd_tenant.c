/* Holds: tenant and branch commands. */
#include "commands.h"
#include "console_client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define QUORUM      (LOCH_SAFEKEEPERS / 2 + 1)
#define TIP_WAIT_MS 5000

loch_status loch_tenant_find(const struct loch_cluster *c, const char *name, char id[33])
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    LOCH_TRY(loch_name_check("tenant", name));
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
    bool found = false;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, "name"), name) != 0)
            continue;
        (void)snprintf(id, 33, "%s", loch_field(row, "tenant"));
        found = true;
    }
    json_decref(rows);
    if (!found)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no tenant \"%s\" (see loch tenant list)",
                         name);
    return LOCH_OK;
}

loch_status loch_branch_find(const struct loch_cluster *c, const char *tenant_id, const char *name,
                             json_t **row)
{
    json_t *rows = NULL;
    json_t *each;
    size_t i;

    LOCH_TRY(loch_name_check("branch", name));
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows));
    json_t *found = NULL;
    json_array_foreach(rows, i, each) if (strcmp(loch_field(each, "tenant"), tenant_id) == 0 &&
                                          strcmp(loch_field(each, "name"), name) == 0) found =
        json_incref(each);
    json_decref(rows);
    if (found == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no branch \"%s\" (see loch branch list)",
                         name);
    *row = found;
    return LOCH_OK;
}

loch_status loch_timeline_announce(const struct loch_cluster *c, const json_t *row)
{
    int taken = 0;
    char why[400] = "";

    for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
        json_t *reply = NULL;
        loch_status st = loch_consolef(
            c, loch_port_safekeeper(c, i), &reply,
            "CREATE TIMELINE %s %s START %s PREV %s SYSID %s PGVERSION %s SEGMENT %s",
            loch_field(row, "tenant"), loch_field(row, "timeline"), loch_field(row, "start_lsn"),
            loch_field(row, "prev_lsn"), loch_field(row, "system_id"),
            loch_field(row, "pg_version"), loch_field(row, "segment_bytes"));
        json_decref(reply);
        if (loch_is_ok(st)) {
            taken++;
            continue;
        }
        (void)snprintf(why, sizeof why, "safekeeper %d: %s", i + 1, loch_error_text());
        loch_progress("warning: %s", why);
    }
    if (taken < QUORUM)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of %d safekeepers took the timeline (%s): run "
                         "`loch up` and try again",
                         taken, LOCH_SAFEKEEPERS, why);
    return LOCH_OK;
}

/* The password is kept for URLs; it is shown to nobody else. */
static loch_status keep_password(const struct loch_cluster *c, const char *tenant,
                                 const char *password)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/secrets/%s", c->dir, tenant);
    return loch_text_write(path, password, 0600);
}

static loch_status tenant_create(struct loch_cluster *c, const char *name, const char *kms_uri)
{
    char kms[LOCH_KMS_CLAUSE_BYTES];
    json_t *rows = NULL;
    char id[33];
    loch_status st;

    LOCH_TRY(loch_name_check("tenant", name));
    if (loch_is_ok(loch_tenant_find(c, name, id)))
        return LOCH_FAIL(LOCH_E_EXISTS, "tenant \"%s\" is there already", name);
    LOCH_TRY(loch_kms_clause(kms_uri, kms, sizeof kms));
    loch_progress("creating tenant %s (initdb and import)", name);
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "CREATE TENANT %s%s", name, kms));
    json_t *row = json_array_get(rows, 0);
    if (kms_uri != NULL)
        LOCH_TRY_OUT(st, loch_tenant_pin(c, loch_field(row, "tenant"), kms_uri));
    LOCH_TRY_OUT(st, keep_password(c, name, loch_field(row, "password")));
    LOCH_TRY_OUT(st, loch_timeline_announce(c, row));
    json_object_del(row, "password");
    loch_print_rows(c, rows);
out:
    json_decref(rows);
    return st;
}

/* Every safekeeper forgets the timeline; one that does not answer is named, not waited for. */
static void timeline_forget(const struct loch_cluster *c, const char *tenant, const char *timeline)
{
    for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
        json_t *reply = NULL;
        if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &reply, "DROP TIMELINE %s %s",
                                      tenant, timeline)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        json_decref(reply);
    }
}

static loch_status tenant_delete(struct loch_cluster *c, const char *name)
{
    char id[33];
    char path[700];
    json_t *timelines = NULL;
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    loch_status st;

    LOCH_TRY(loch_tenant_find(c, name, id));
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &timelines));
    LOCH_TRY_OUT(st, loch_consolef(c, loch_port_pageserver(c), &rows, "DROP TENANT %s", id));
    json_array_foreach(timelines, i, row)
    {
        if (strcmp(loch_field(row, "tenant"), id) == 0)
            timeline_forget(c, id, loch_field(row, "timeline"));
    }
    loch_tenant_unpin(c, id);
    (void)snprintf(path, sizeof path, "%s/secrets/%s", c->dir, name);
    (void)unlink(path);
out:
    json_decref(rows);
    json_decref(timelines);
    return st;
}

loch_status loch_cmd_tenant(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                            const char *name)
{
    json_t *rows = NULL;

    if (strcmp(verb, "list") == 0) {
        LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
        loch_print_rows(c, rows);
        json_decref(rows);
        return LOCH_OK;
    }
    if (name == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch tenant create|list|show|delete NAME");
    if (strcmp(verb, "create") == 0)
        return tenant_create(c, name, o->kms_uri);
    if (strcmp(verb, "delete") == 0)
        return tenant_delete(c, name);
    if (strcmp(verb, "show") == 0) {
        struct loch_options for_tenant = {.tenant = name};
        return loch_cmd_branch(c, &for_tenant, "list", NULL);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch tenant create|list|show|delete NAME");
}

/* One safekeeper's flush and commit of a timeline; false when it does not answer. */
static bool timeline_positions(const struct loch_cluster *c, int n, const char *timeline,
                               loch_lsn *flush, loch_lsn *commit)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    bool found = false;

    if (!loch_is_ok(loch_console(c, loch_port_safekeeper(c, n), "SHOW TIMELINES", &rows)))
        return false;
    json_array_foreach(rows, i, row) if (strcmp(loch_field(row, "timeline"), timeline) == 0) found =
        loch_is_ok(loch_lsn_parse(loch_field(row, "flush_lsn"), flush)) &&
        loch_is_ok(loch_lsn_parse(loch_field(row, "commit_lsn"), commit));
    json_decref(rows);
    return found;
}

/* The branch's tip, by a quorum read: every acknowledged commit is flushed on a quorum, so the
 * highest flush among any quorum is at or beyond all of them. It must become committed before it
 * may be branched at. */
static loch_status read_tip(const struct loch_cluster *c, const char *timeline, loch_lsn *tip)
{
    uint64_t until = loch_now_ms() + TIP_WAIT_MS;
    loch_lsn target = LOCH_LSN_NONE;

    for (;;) {
        loch_lsn best_flush = 0;
        loch_lsn best_commit = 0;
        int answers = 0;
        for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
            loch_lsn flush = 0;
            loch_lsn commit = 0;
            if (!timeline_positions(c, i, timeline, &flush, &commit))
                continue;
            answers++;
            best_flush = flush > best_flush ? flush : best_flush;
            best_commit = commit > best_commit ? commit : best_commit;
        }
        if (answers < QUORUM)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "only %d of %d safekeepers answer: the tip cannot be "
                             "known; name an LSN with --at",
                             answers, LOCH_SAFEKEEPERS);
        if (target == LOCH_LSN_NONE)
            target = best_flush;
        if (best_commit >= target) {
            *tip = target;
            return LOCH_OK;
        }
        if (loch_now_ms() > until)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "WAL up to " LOCH_LSN_FMT " is flushed but only " LOCH_LSN_FMT
                             " is committed, and no compute settles it: start the "
                             "branch's compute, or name an LSN with --at",
                             LOCH_LSN_ARG(target), LOCH_LSN_ARG(best_commit));
        loch_pause_ms(20);
    }
}

static loch_status branch_create(struct loch_cluster *c, const struct loch_options *o,
                                 const char *name)
{
    const char *from = o->from ? o->from : "main";
    char tenant[33];
    json_t *parent = NULL;
    json_t *rows = NULL;
    loch_lsn at;
    loch_status st;

    LOCH_TRY(loch_name_check("branch", name));
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    LOCH_TRY(loch_branch_find(c, tenant, from, &parent));
    if (o->at != NULL)
        LOCH_TRY_OUT(st, loch_lsn_parse(o->at, &at));
    else
        LOCH_TRY_OUT(st, read_tip(c, loch_field(parent, "timeline"), &at));
    LOCH_TRY_OUT(st, loch_consolef(c, loch_port_pageserver(c), &rows,
                                   "CREATE BRANCH %s %s FROM %s AT " LOCH_LSN_FMT, tenant, name,
                                   loch_field(parent, "timeline"), LOCH_LSN_ARG(at)));
    LOCH_TRY_OUT(st, loch_timeline_announce(c, json_array_get(rows, 0)));
    loch_print_rows(c, rows);
out:
    json_decref(rows);
    json_decref(parent);
    return st;
}

static loch_status branch_delete(struct loch_cluster *c, const char *tenant, const char *name)
{
    json_t *row = NULL;
    json_t *rows = NULL;

    LOCH_TRY(loch_branch_find(c, tenant, name, &row));
    loch_status st = loch_consolef(c, loch_port_pageserver(c), &rows, "DROP BRANCH %s %s", tenant,
                                   loch_field(row, "timeline"));
    if (loch_is_ok(st))
        timeline_forget(c, tenant, loch_field(row, "timeline"));
    json_decref(rows);
    json_decref(row);
    return st;
}

static loch_status branch_list(struct loch_cluster *c, const char *tenant, const char *only)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    json_t *shown = json_array();

    loch_status st = loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows);
    json_array_foreach(rows, i, row) if (strcmp(loch_field(row, "tenant"), tenant) == 0 &&
                                         (only == NULL || strcmp(loch_field(row, "name"), only) ==
                                                              0)) json_array_append(shown, row);
    if (loch_is_ok(st) && only != NULL && json_array_size(shown) == 0)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no branch \"%s\"", only);
    if (loch_is_ok(st))
        loch_print_rows(c, shown);
    json_decref(shown);
    json_decref(rows);
    return st;
}

loch_status loch_cmd_branch(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                            const char *name)
{
    char tenant[33];

    if (strcmp(verb, "create") == 0 && name != NULL)
        return branch_create(c, o, name);
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    if (strcmp(verb, "list") == 0)
        return branch_list(c, tenant, NULL);
    if (strcmp(verb, "show") == 0 && name != NULL)
        return branch_list(c, tenant, name);
    if (strcmp(verb, "delete") == 0 && name != NULL)
        return branch_delete(c, tenant, name);
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch create|list|show|delete NAME");
}
