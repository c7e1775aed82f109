/* Holds: shredding, and the proof that something is shredded. */
#include "aside.h"
#include "commands.h"
#include "console_client.h"

#include "loch/io/tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WALK_TRIES 10

/* ---- shred ---- */

/* Everything outside of the pageserver that belonged to it. */
static void forget_elsewhere(const struct loch_cluster *c, const char *tenant, const char *timeline)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *reply = NULL;
        const int port = loch_port_safekeeper(c, i);
        loch_status st =
            timeline != NULL
                ? loch_consolef(c, port, &reply, "DROP TIMELINE %s %s", tenant, timeline)
                : loch_consolef(c, port, &reply, "DROP TENANT %s", tenant);
        json_decref(reply);
        reply = NULL;
        if (loch_is_ok(st) && timeline != NULL) /* it forgets the keys, too */
            st = loch_consolef(c, port, &reply, "RELOAD KEYS %s", tenant);
        if (!loch_is_ok(st))
            loch_progress("warning: safekeeper %d: %s; verify-shredded says when all is gone",
                          i + 1, loch_error_text());
        json_decref(reply);
    }
}

/* What safekeepers put to the archive between the pageserver's removal and their own. */
static void remove_late_objects(const struct loch_cluster *c, const char *tenant,
                                const char *timeline)
{
    char path[700];

    if (timeline != NULL)
        (void)snprintf(path, sizeof path, "%s/store/tenants/%s/timelines/%s", c->dir, tenant,
                       timeline);
    else
        (void)snprintf(path, sizeof path, "%s/store/tenants/%s", c->dir, tenant);
    if (!loch_is_ok(loch_remove_tree(path)))
        loch_progress("warning: %s", loch_error_text());
}

static bool has_own_cmk(const json_t *branch)
{
    return strcmp(loch_field(branch, "cmk_of"), loch_field(branch, "name")) == 0;
}

/* The tenant's pins, and its branches' (rows of SHOW TIMELINES from before), and its password. */
static void forget_tenant(const struct loch_cluster *c, const char *tenant, const char *name,
                          const json_t *timelines)
{
    char path[700];
    const json_t *row;
    size_t i;

    json_array_foreach(timelines, i, row)
    {
        if (strcmp(loch_field(row, "tenant"), tenant) == 0 && has_own_cmk(row))
            loch_tenant_unpin(c, loch_field(row, "timeline"));
    }
    loch_tenant_unpin(c, tenant);
    loch_password_path(c, name, path);
    (void)unlink(path);
}

/* The pageserver's part, and the computes that stood on it. */
static loch_status confirm(struct loch_cluster *c, const struct loch_options *o, const char *tenant,
                           const json_t *branch)
{
    char again[128];
    json_t *attached = NULL;
    json_t *reply = NULL;
    bool gone = false;

    LOCH_TRY(loch_attached(c, o->tenant ? o->tenant : "main",
                           branch != NULL ? loch_field(branch, "name") : NULL, &attached));
    loch_status st = loch_attached_refuse_live(attached);
    if (loch_is_ok(st)) {
        st =
            loch_consolef(c, loch_port_pageserver(c), &reply, "CONFIRM SHRED %s OF %s %s",
                          o->confirm, tenant, branch != NULL ? loch_field(branch, "timeline") : "");
        (void)snprintf(again, sizeof again, "--confirm %.60s --branch ", o->confirm);
        if (!loch_is_ok(st) && branch != NULL)
            st = loch_branch_gone_hint(c, tenant, branch, again, st, &gone);
    }
    json_decref(reply);
    if (loch_is_ok(st) || gone)
        loch_attached_go(c, attached);
    json_decref(attached);
    return st;
}

static loch_status shred_confirm(struct loch_cluster *c, const struct loch_options *o,
                                 const char *tenant, const json_t *branch)
{
    const char *timeline = branch != NULL ? loch_field(branch, "timeline") : NULL;
    json_t *timelines = NULL;

    if (branch == NULL)
        LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &timelines));
    const loch_status st = confirm(c, o, tenant, branch);
    if (!loch_is_ok(st)) {
        json_decref(timelines);
        return st;
    }
    forget_elsewhere(c, tenant, timeline);
    remove_late_objects(c, tenant, timeline);
    if (branch == NULL)
        forget_tenant(c, tenant, o->tenant, timelines);
    else if (has_own_cmk(branch))
        loch_tenant_unpin(c, timeline);
    json_decref(timelines);
    json_t *rows = json_pack("[{s:s, s:s}]", "shredded", branch != NULL ? "branch" : "tenant", "id",
                             timeline != NULL ? timeline : tenant);
    loch_print_rows(c, rows);
    json_decref(rows);
    loch_progress("prove it with: loch key verify-shredded %s --tenant %s",
                  timeline != NULL ? timeline : tenant, tenant);
    return LOCH_OK;
}

static loch_status shred_order(const struct loch_cluster *c, const char *tenant,
                               const json_t *branch)
{
    json_t *rows = NULL;

    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "SHRED %s %s", tenant,
                           branch != NULL ? loch_field(branch, "timeline") : ""));
    loch_print_rows(c, rows);
    loch_progress("nothing is destroyed yet: give the same command with --confirm %s from %s on",
                  loch_field(json_array_get(rows, 0), "token"),
                  loch_field(json_array_get(rows, 0), "not_before"));
    json_decref(rows);
    return LOCH_OK;
}

loch_status loch_key_shred(struct loch_cluster *c, const struct loch_options *o, const char *what)
{
    char tenant[33];
    json_t *branch = NULL;
    const bool of_branch = what != NULL && strcmp(what, "branch") == 0;

    if (!of_branch && (what == NULL || strcmp(what, "tenant") != 0))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "want: loch key shred branch --branch B [--tenant T] | "
                         "shred tenant --tenant T, then again with --confirm TOKEN");
    if ((of_branch && o->branch == NULL) || (!of_branch && o->tenant == NULL))
        return LOCH_FAIL(LOCH_E_INVALID, "name what is to be shredded: --%s NAME", what);
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    if (of_branch && o->confirm != NULL) /* it may be a repetition */
        LOCH_TRY(loch_branch_find_gone(c, tenant, o->branch, &branch));
    else if (of_branch)
        LOCH_TRY(loch_branch_find(c, tenant, o->branch, &branch));
    const loch_status st =
        o->confirm != NULL ? shred_confirm(c, o, tenant, branch) : shred_order(c, tenant, branch);
    json_decref(branch);
    return st;
}

/* ---- verify ---- */

static const char *looked_for; /* nftw has no argument */
static unsigned long found_count;
static char found_path[500], unread_path[500];

static int see_path(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    struct stat again;

    if (type == FTW_DNR || (type == FTW_NS && (lstat(path, &again) == 0 || errno != ENOENT)))
        (void)snprintf(unread_path, sizeof unread_path, "%.490s", path);
    if (type == FTW_F && sb->st_size > 0 &&
        /* the store's .lock files are empty and stay */ strstr(path + ftw->base, ".log") == NULL &&
        strstr(path, looked_for) != NULL) {
        found_count++;
        (void)snprintf(found_path, sizeof found_path, "%.490s", path);
    }
    return 0;
}

/* No file of it below the cluster's directory: store, layers, WAL. */
static bool check_files(const struct loch_cluster *c, const char *id, json_t *out)
{
    char detail[600];

    looked_for = id;
    for (int tries = 0;; tries++) { /* a directory that goes meanwhile ends a walk */
        found_count = 0;
        unread_path[0] = '\0';
        if (nftw(c->dir, see_path, 16, FTW_PHYS) == 0)
            break;
        if (errno != ENOENT || tries == WALK_TRIES) {
            (void)snprintf(unread_path, sizeof unread_path, "%.300s: %s", c->dir, strerror(errno));
            break;
        }
    }
    if (found_count == 0 && unread_path[0] != '\0') {
        loch_aside_row(out, "files and objects", "UNKNOWN", unread_path);
        return false;
    }
    if (found_count == 0) {
        loch_aside_row(out, "files and objects", "none left", "");
        return true;
    }
    (void)snprintf(detail, sizeof detail, "%lu, such as %s", found_count, found_path);
    loch_aside_row(out, "files and objects", "LEFT", detail);
    return false;
}

/* No daemon's opened keyring knows keys of it. One that has none of the tenant says so; any other
 * failure proves nothing. */
static bool check_daemons(const struct loch_cluster *c, const char *tenant, const char *id,
                          json_t *out)
{
    bool good = true;

    LOCH_EACH_DAEMON(c, i)
    {
        json_t *rows = NULL;
        json_t *row;
        size_t k;
        char daemon[32];
        char name[48];
        bool has = false;
        const int port = loch_port_daemon(c, i);
        (void)snprintf(name, sizeof name, "keys in %s", loch_daemon_name(i, daemon));
        const loch_status st = loch_consolef(c, port, &rows, "SHOW KEYS %s", tenant);
        if (!loch_is_ok(st) && strstr(loch_error_text(), "not known here") == NULL) {
            loch_aside_row(out, name, "UNKNOWN", loch_error_text());
            good = false;
            continue;
        }
        json_array_foreach(rows, k, row) has =
            has || strcmp(tenant, id) == 0 || strcmp(loch_field(row, "timeline"), id) == 0;
        json_decref(rows);
        loch_aside_row(out, name, has ? "LEFT" : "none left", "");
        good = good && !has;
    }
    return good;
}

static loch_status check_aside(const struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant, const char *id, json_t *out, bool *good)
{
    char own[700], pins[700];
    const struct loch_aside what = {.dir = o->aside,
                                    .id = id,
                                    .whole_tenant = strcmp(tenant, id) == 0,
                                    .cluster_kms = c->kms_uri != NULL ? c->kms_uri : own,
                                    .pins = pins,
                                    .named = o->kms_uri};

    (void)snprintf(own, sizeof own, "file:%s/cmk.key", c->dir);
    (void)snprintf(pins, sizeof pins, "%s/pageserver/kms.pins", c->dir);
    return loch_aside_check(&what, out, good);
}

loch_status loch_key_verify_shredded(struct loch_cluster *c, const struct loch_options *o,
                                     const char *id)
{
    char tenant[33];
    struct loch_id parsed;
    bool good = true;
    loch_status st = LOCH_OK;

    if (id == NULL || !loch_is_ok(loch_id_parse(id, &parsed)))
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch key verify-shredded ID --tenant T [--aside "
                                         "DIR]; ID is the timeline's (or the tenant's) 32 digits");
    if (o->tenant != NULL && loch_is_ok(loch_id_parse(o->tenant, &parsed)))
        (void)snprintf(tenant, sizeof tenant, "%s", o->tenant);
    else
        LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    json_t *out = json_array();
    good = check_daemons(c, tenant, id, out);
    good = check_files(c, id, out) && good;
    if (o->aside != NULL)
        st = check_aside(c, o, tenant, id, out, &good);
    if (loch_is_ok(st))
        loch_print_rows(c, out);
    json_decref(out);
    LOCH_TRY(st);
    if (!good)
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not shredded: see the rows above", id);
    return LOCH_OK;
}
