/* Holds: tenant commands, and which timelines safekeepers forget. */
#include "commands.h"
#include "console_client.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The password is kept for URLs; it is shown to nobody else. */
static loch_status keep_password(const struct loch_cluster *c, const char *tenant,
                                 const char *password)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/secrets/%s", c->dir, tenant);
    return loch_text_write(path, password, 0600);
}

/* " IMPORT 'directory'" for the console, or nothing. */
static loch_status import_clause(const char *dir, char *out, size_t len)
{
    char full[PATH_MAX];

    out[0] = '\0';
    if (dir == NULL)
        return LOCH_OK;
    if (realpath(dir, full) == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot import %s: %s", dir, strerror(errno));
    if (strchr(full, '\'') != NULL || strlen(full) + 16 > len)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot import %s: its path is too long or has a quote",
                         dir);
    (void)snprintf(out, len, " IMPORT '%s'", full);
    return LOCH_OK;
}

static loch_status tenant_create(struct loch_cluster *c, const char *name,
                                 const struct loch_options *o)
{
    const char *kms_uri = o->kms_uri;
    char kms[LOCH_KMS_CLAUSE_BYTES], import[1024];
    json_t *rows = NULL;
    char id[33];
    loch_status st;

    LOCH_TRY(loch_name_check("tenant", name));
    if (loch_is_ok(loch_tenant_find(c, name, id)))
        return LOCH_FAIL(LOCH_E_EXISTS, "tenant \"%s\" is there already", name);
    LOCH_TRY(loch_kms_clause(kms_uri, kms, sizeof kms));
    LOCH_TRY(import_clause(o->import, import, sizeof import));
    if (o->import == NULL)
        loch_progress("creating tenant %s (initdb and import)", name);
    else
        loch_progress("creating tenant %s from %s; %s/log/pageserver.log says how far it is", name,
                      o->import, c->dir);
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "CREATE TENANT %s%s%s", name, kms,
                           import));
    json_t *row = json_array_get(rows, 0);
    if (kms_uri != NULL)
        LOCH_TRY_OUT(st, loch_tenant_pin(c, loch_field(row, "tenant"), kms_uri));
    if (o->import == NULL)
        LOCH_TRY_OUT(st, keep_password(c, name, loch_field(row, "password")));
    LOCH_TRY_OUT(st, loch_timeline_announce(c, row));
    json_object_del(row, "password");
    loch_print_rows(c, rows);
out:
    json_decref(rows);
    return st;
}

void loch_safekeepers_told(const struct loch_cluster *c, const char *command)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *reply = NULL;
        if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &reply, "%s", command)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        json_decref(reply);
    }
}

void loch_timeline_forget(const struct loch_cluster *c, const char *tenant, const char *timeline)
{
    char command[96];
    (void)snprintf(command, sizeof command, "DROP TIMELINE %s %s", tenant, timeline);
    loch_safekeepers_told(c, command);
}

void loch_lock_forget(const struct loch_cluster *c, const char *tenant, const char *branch)
{
    char command[64];
    (void)snprintf(command, sizeof command, "RELOAD KEYS %s", tenant);
    loch_safekeepers_told(c, command);
    loch_tenant_unpin(c, branch);
}

static loch_status tenant_delete(struct loch_cluster *c, const char *name)
{
    char id[33];
    char path[700];
    json_t *attached = NULL;
    json_t *timelines = NULL;
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    loch_status st;

    LOCH_TRY(loch_tenant_find(c, name, id));
    LOCH_TRY(loch_attached(c, name, NULL, &attached));
    LOCH_TRY_OUT(st, loch_attached_refuse_live(attached));
    LOCH_TRY_OUT(st, loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &timelines));
    LOCH_TRY_OUT(st, loch_consolef(c, loch_port_pageserver(c), &rows, "DROP TENANT %s", id));
    json_array_foreach(timelines, i, row)
    {
        if (strcmp(loch_field(row, "tenant"), id) != 0)
            continue;
        loch_timeline_forget(c, id, loch_field(row, "timeline"));
        if (strcmp(loch_field(row, "cmk_of"), loch_field(row, "name")) == 0)
            loch_tenant_unpin(c, loch_field(row, "timeline"));
    }
    loch_tenant_unpin(c, id);
    loch_attached_go(c, attached);
    (void)snprintf(path, sizeof path, "%s/secrets/%s", c->dir, name);
    (void)unlink(path);
out:
    json_decref(rows);
    json_decref(timelines);
    json_decref(attached);
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
        return tenant_create(c, name, o);
    if (strcmp(verb, "delete") == 0)
        return tenant_delete(c, name);
    if (strcmp(verb, "show") == 0) {
        struct loch_options for_tenant = {.tenant = name};
        return loch_cmd_branch(c, &for_tenant, "list", NULL);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch tenant create|list|show|delete NAME");
}
