/* Holds: tenant commands, and which timelines safekeepers forget.
 *
 * A deletion is noted first, in D/deleting/ID.json: {"tenant": id, "name", "pins": ids of branches
 * with a CMK of their own}. The note goes when every safekeeper has dropped the tenant, or when the
 * tenant is seen to be there still. While it stands, a tenant that the pageserver does not list is
 * one that somebody ordered to be deleted, and not one whose store is away. */
#include "commands.h"
#include "console_client.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DELETING_WAIT_MS 60000u

loch_status loch_tenant_find(const struct loch_cluster *c, const char *name, char id[33])
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_name_check("tenant", name));
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
    bool found = false;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, "name"), name) != 0)
            continue;
        if (found)
            st =
                LOCH_FAIL(LOCH_E_INVALID,
                          "two tenants are named \"%s\", %s and %s (one was made while the keys of "
                          "the other could not be had): `loch tenant delete ID` ends one of them",
                          name, id, loch_field(row, "tenant"));
        else
            (void)snprintf(id, 33, "%s", loch_field(row, "tenant"));
        found = true;
    }
    json_decref(rows);
    if (!found)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no tenant \"%s\" (see loch tenant list)",
                         name);
    return st;
}

/* A tenant whose keys cannot be had has no name now. Whether it may be this one: its password is
 * kept here. */
static loch_status refuse_hidden(const struct loch_cluster *c, const char *name)
{
    char path[700];
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    loch_status st = LOCH_OK;

    loch_password_path(c, name, path);
    if (access(path, F_OK) != 0)
        return LOCH_OK;
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
    json_array_foreach(rows, i, row)
    {
        if (loch_field(row, "name")[0] == '\0')
            st = LOCH_FAIL(LOCH_E_EXISTS,
                           "tenant %s has no name while its keys cannot be had, and may be \"%s\", "
                           "whose password is kept in %s: choose another name, or see `loch key "
                           "status`",
                           loch_field(row, "tenant"), name, path);
    }
    json_decref(rows);
    return st;
}

/* The password is kept for URLs; it is shown to nobody else. */
static loch_status keep_password(const struct loch_cluster *c, const char *tenant,
                                 const char *password)
{
    char path[700];

    loch_password_path(c, tenant, path);
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

/* One of that name is there: whether it is of use, or what a creation left that was cut short (its
 * password was in the answer that nobody got). */
static loch_status explain_there(const struct loch_cluster *c, const char *name, const char *id)
{
    json_t *main = NULL;

    const bool unfinished = loch_is_ok(loch_branch_find(c, id, "main", &main)) &&
                            loch_field(main, "ancestor")[0] == '\0' &&
                            loch_branch_unfinished(c, id, main);
    json_decref(main);
    return LOCH_FAIL(LOCH_E_EXISTS, "tenant \"%s\" is there already%s", name,
                     unfinished ? ", but no safekeeper keeps its WAL: its creation was cut short; "
                                  "`loch tenant delete` it, then create it again"
                                : "");
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
    st = loch_tenant_find(c, name, id);
    if (loch_is_ok(st))
        return explain_there(c, name, id);
    if (st.code != LOCH_E_NOT_FOUND)
        return st;
    LOCH_TRY(refuse_hidden(c, name));
    LOCH_TRY(loch_kms_clause(kms_uri, kms, sizeof kms));
    LOCH_TRY(import_clause(o->import, import, sizeof import));
    if (o->import == NULL)
        loch_progress("creating tenant %s (initdb and import)", name);
    else
        loch_progress("creating tenant %s from %s; %s/log/pageserver.log says how far it is", name,
                      o->import, c->dir);
    st =
        loch_consolef(c, loch_port_pageserver(c), &rows, "CREATE TENANT %s%s%s", name, kms, import);
    if (st.code == LOCH_E_EXISTS)
        return LOCH_FAIL(LOCH_E_EXISTS,
                         "tenant %s is being created, by a command that may have been cut short: "
                         "when `loch tenant list` shows it, delete it and create it again",
                         name);
    LOCH_TRY(st);
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

bool loch_safekeepers_told(const struct loch_cluster *c, const char *command)
{
    bool all = true;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *reply = NULL;
        if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &reply, "%s", command))) {
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
            all = false;
        }
        json_decref(reply);
    }
    return all;
}

void loch_timeline_forget(const struct loch_cluster *c, const char *tenant, const char *timeline)
{
    char command[96];
    (void)snprintf(command, sizeof command, "DROP TIMELINE %s %s", tenant, timeline);
    if (!loch_safekeepers_told(c, command))
        loch_progress("what was not told drops timeline %.8s at the next `loch up`", timeline);
}

void loch_lock_forget(const struct loch_cluster *c, const char *tenant, const char *branch)
{
    char command[64];
    (void)snprintf(command, sizeof command, "RELOAD KEYS %s", tenant);
    (void)loch_safekeepers_told(c, command);
    loch_tenant_unpin(c, branch);
}

/* ---- deletion ---- */

static void deletion_path(const struct loch_cluster *c, const char *id, char path[700])
{
    (void)snprintf(path, 700, "%s/deleting/%s.json", c->dir, id);
}

static loch_status note_deletion(const struct loch_cluster *c, const json_t *note)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/deleting", c->dir);
    LOCH_TRY(loch_mkdir(path, 0700));
    deletion_path(c, loch_field(note, "tenant"), path);
    return loch_json_write(path, note, 0600);
}

static void forget_deletion(const struct loch_cluster *c, const json_t *note)
{
    char path[700];

    deletion_path(c, loch_field(note, "tenant"), path);
    (void)unlink(path);
}

/* The tenant's row of SHOW TENANTS, by its id; NULL in *row: there is none. The caller decrefs. */
static loch_status tenant_row(const struct loch_cluster *c, const char *id, json_t **row)
{
    json_t *rows = NULL;
    json_t *each;
    size_t i;

    *row = NULL;
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
    json_array_foreach(rows, i, each)
    {
        if (*row == NULL && strcmp(loch_field(each, "tenant"), id) == 0)
            *row = json_incref(each);
    }
    json_decref(rows);
    return LOCH_OK;
}

/* What goes with a tenant that the pageserver has nothing of any more. A tenant of the same name
 * may have been made since: then the password is that one's. */
static loch_status finish_deletion(struct loch_cluster *c, const json_t *note)
{
    const char *id = loch_field(note, "tenant");
    const char *name = loch_field(note, "name");
    char text[700], other[33];
    json_t *attached = NULL;
    json_t *pin;
    size_t i;

    (void)snprintf(text, sizeof text, "DROP TENANT %s", id);
    const bool all = loch_safekeepers_told(c, text);
    json_array_foreach(json_object_get(note, "pins"), i, pin)
        loch_tenant_unpin(c, json_string_value(pin));
    loch_tenant_unpin(c, id);
    LOCH_TRY(loch_attached(c, id, NULL, &attached));
    loch_status st = loch_attached_refuse_live(attached);
    if (loch_is_ok(st))
        loch_attached_go(c, attached);
    json_decref(attached);
    LOCH_TRY(st);
    loch_password_path(c, name, text);
    if (name[0] != '\0' && loch_tenant_find(c, name, other).code == LOCH_E_NOT_FOUND)
        (void)unlink(text);
    if (all)
        forget_deletion(c, note);
    else
        loch_progress("what was not told drops tenant %.8s at the next `loch up`", id);
    return all ? LOCH_OK : note_deletion(c, note);
}

/* The tenant's row, or NULL when there is none, once the pageserver does not delete it just now
 * (the command that ordered that may be gone). */
static loch_status wait_deleted(const struct loch_cluster *c, const char *id, json_t **row)
{
    const uint64_t until_ms = loch_now_ms() + DELETING_WAIT_MS;

    for (;;) {
        LOCH_TRY(tenant_row(c, id, row));
        if (*row == NULL || strcmp(loch_field(*row, "state"), "deleting") != 0)
            return LOCH_OK;
        json_decref(*row);
        *row = NULL;
        if (loch_now_ms() > until_ms)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "tenant %s is being deleted", id);
        loch_pause_ms(20);
    }
}

static void go_on_deleting(struct loch_cluster *c, const json_t *note)
{
    const char *id = loch_field(note, "tenant");
    json_t *row = NULL;

    if (!loch_is_ok(wait_deleted(c, id, &row)))
        return; /* nobody can say: the next time */
    if (row != NULL) {
        /* The order for it did not get through: were it kept, it would be carried out some day when
         * the pageserver does not find the tenant for another reason. */
        loch_progress(
            "warning: the deletion of tenant %s was cut short: repeat `loch tenant delete "
            "%s`",
            id, id);
        forget_deletion(c, note);
    } else {
        loch_progress("the deletion of tenant %s was cut short: going on", id);
        if (!loch_is_ok(finish_deletion(c, note)))
            loch_progress("warning: %s", loch_error_text());
    }
    json_decref(row);
}

void loch_deletions_finish(struct loch_cluster *c)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/deleting", c->dir);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return; /* nothing was ever deleted */
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        json_t *note = NULL;
        if (dot == NULL || strcmp(dot, ".json") != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/deleting/%.200s", c->dir, e->d_name);
        if (loch_is_ok(loch_json_read(path, &note)))
            go_on_deleting(c, note);
        else
            loch_progress("warning: %s", loch_error_text());
        json_decref(note);
    }
    (void)closedir(dir);
}

/* The ids of the tenant's branches that have a CMK of their own. */
static loch_status own_cmks(const struct loch_cluster *c, const char *id, json_t *out)
{
    json_t *rows = NULL;
    json_t *each;
    size_t i;

    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows));
    json_array_foreach(rows, i, each)
    {
        if (strcmp(loch_field(each, "tenant"), id) == 0 &&
            strcmp(loch_field(each, "cmk_of"), loch_field(each, "name")) == 0)
            json_array_append(out, json_object_get(each, "timeline"));
    }
    json_decref(rows);
    return LOCH_OK;
}

/* The note of the deletion of the tenant with that name, or id, under which a removal that was cut
 * short is repeated: the tenant may have no name any more, or be listed no more; then an earlier
 * note, if there is one, knows more. */
static loch_status find_to_delete(const struct loch_cluster *c, const char *word, json_t **note)
{
    char id[33], path[700];
    struct loch_id parsed;
    json_t *row = NULL;

    loch_status st = loch_tenant_find(c, word, id);
    if (st.code == LOCH_E_NOT_FOUND && loch_is_ok(loch_id_parse(word, &parsed))) {
        st = LOCH_OK;
        (void)loch_id_format(&parsed, id);
    }
    LOCH_TRY(st);
    LOCH_TRY(tenant_row(c, id, &row));
    json_t *pins = json_array();
    deletion_path(c, id, path);
    const bool nameless = loch_field(row, "name")[0] == '\0';
    if (!nameless || access(path, F_OK) != 0 || !loch_is_ok(loch_json_read(path, note))) {
        st = own_cmks(c, id, pins);
        *note = json_pack("{s:s, s:s, s:O}", "tenant", id, "name", loch_field(row, "name"), "pins",
                          pins);
    }
    json_decref(pins);
    json_decref(row);
    return st;
}

/* The pageserver's part. One that has nothing of the tenant is fine: of an earlier command, which
 * may not have come to the safekeepers. Where it is certain that the tenant stays, so is it noted.
 */
static loch_status drop_tenant(const struct loch_cluster *c, const json_t *note)
{
    const char *id = loch_field(note, "tenant");
    json_t *rows = NULL;
    json_t *row = NULL;
    char why[600];

    loch_status st = loch_consolef(c, loch_port_pageserver(c), &rows, "DROP TENANT %s", id);
    json_decref(rows);
    if (loch_is_ok(st))
        return st;
    if (st.code == LOCH_E_NOT_FOUND) {
        loch_progress("the pageserver has no tenant %s: the safekeepers are told all the same", id);
        return LOCH_OK;
    }
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    if (loch_is_ok(tenant_row(c, id, &row)) && row != NULL)
        forget_deletion(c, note);
    json_decref(row);
    return LOCH_FAIL(st.code, "%s", why);
}

static loch_status tenant_delete(struct loch_cluster *c, const char *name)
{
    json_t *attached = NULL;
    json_t *note = NULL;
    loch_status st;

    LOCH_TRY_OUT(st, find_to_delete(c, name, &note));
    LOCH_TRY_OUT(st, loch_attached(c, loch_field(note, "tenant"), NULL, &attached));
    LOCH_TRY_OUT(st, loch_attached_refuse_live(attached));
    LOCH_TRY_OUT(st, note_deletion(c, note));
    LOCH_TRY_OUT(st, drop_tenant(c, note));
    st = finish_deletion(c, note);
out:
    json_decref(attached);
    json_decref(note);
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
