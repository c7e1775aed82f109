/* Holds: shredding, and the proof that something is shredded. */
#include "commands.h"
#include "console_client.h"

#include "loch/io/env.h"
#include "loch/io/tree.h"
#include "loch/keyring/keyring.h"
#include "loch/kms/kms.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_MAX_BYTES   (96u << 20)
#define STORE_HEAD_BYTES 48u /* of an object in a local store (src/objstore/local.c) */

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
    (void)snprintf(path, sizeof path, "%s/secrets/%s", c->dir, name);
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

static void add_check(json_t *out, const char *what, const char *result, const char *detail)
{
    json_array_append_new(
        out, json_pack("{s:s, s:s, s:s}", "what", what, "result", result, "detail", detail));
}

static const char *looked_for; /* nftw has no argument */
static unsigned long found_count;
static char found_path[500];

static int see_path(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
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
    found_count = 0;
    (void)nftw(c->dir, see_path, 16, FTW_PHYS);
    if (found_count == 0) {
        add_check(out, "files and objects", "none left", "");
        return true;
    }
    (void)snprintf(detail, sizeof detail, "%lu, such as %s", found_count, found_path);
    add_check(out, "files and objects", "LEFT", detail);
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
            add_check(out, name, "UNKNOWN", loch_error_text());
            good = false;
            continue;
        }
        json_array_foreach(rows, k, row) has =
            has || strcmp(tenant, id) == 0 || strcmp(loch_field(row, "timeline"), id) == 0;
        json_decref(rows);
        add_check(out, name, has ? "LEFT" : "none left", "");
        good = good && !has;
    }
    return good;
}

/* ---- keyrings that were kept aside ---- */

struct aside {
    struct loch_id id; /* the timeline's, or the tenant's */
    bool whole_tenant;
    struct loch_env *env;
    struct loch_kms *kms; /* with a pin, of the id `tried`, for each CMK that may be asked */
    json_t *out;
    bool good;
};

static struct aside *aside_now; /* for nftw */

/* No tenant: holds the pins of the CMKs that are asked. Others are not: a copy could name any. */
static const struct loch_id tried = {{0xff}};

/* Whether the CMK that the entry names, and no other, opens this KEK now. LOCH_OK; LOCH_E_DENIED,
 * LOCH_E_CORRUPT: it does not; else that cannot be said. */
static loch_status try_kek(const struct aside *a, const struct loch_keyring *ring,
                           const struct loch_keyring_entry *e)
{
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];
    struct loch_secret kek = {0};
    const struct loch_kms_context context = {ring->cluster, ring->tenant, e->key_id,
                                             e->purpose,    e->scope,     e->version};

    (void)snprintf(uri, sizeof uri, "%.*s", (int)e->cmk_uri.len, (const char *)e->cmk_uri.data);
    struct loch_kms *cmk = loch_kms_for(a->kms, &tried, uri);
    if (cmk == a->kms || strcmp(loch_kms_uri(cmk), uri) != 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "its keys lie under %s, which was not tried: name it with --kms-uri", uri);
    LOCH_TRY(loch_kms_unwrap(cmk, &context, loch_buf_slice(&e->wrap), &kek));
    loch_secret_fini(&kek);
    return LOCH_OK;
}

/* The KEK that the entry, if it is a key of what is looked for, lies under: itself when that is the
 * whole tenant. */
static const struct loch_keyring_entry *
kek_of(const struct aside *a, const struct loch_keyring *ring, const struct loch_keyring_entry *e)
{
    if (e->wrap.len == 0)
        return NULL;
    if (a->whole_tenant)
        return e->level == LOCH_LEVEL_KEK ? e : NULL;
    return e->level == LOCH_LEVEL_TK && loch_id_equal(&e->scope, &a->id)
               ? loch_keyring_find(ring, &e->parent, e->parent_version)
               : NULL;
}

/* Opens the keys of a kept keyring with the key service as it is now. LOCH_OK: one that is looked
 * for opens; LOCH_E_DENIED, LOCH_E_CORRUPT: none does; LOCH_E_NOT_FOUND: it has none; else that
 * cannot be said. */
static loch_status try_keyring(const struct aside *a, const struct loch_keyring *ring)
{
    loch_status st = {LOCH_E_NOT_FOUND};

    if (a->whole_tenant && !loch_id_equal(&ring->tenant, &a->id))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "it is another tenant's");
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *kek = kek_of(a, ring, &ring->entries[i]);
        if (kek == NULL)
            continue;
        st = try_kek(a, ring, kek);
        if (st.code != LOCH_E_DENIED && st.code != LOCH_E_CORRUPT)
            return st;
    }
    return st.code != LOCH_E_NOT_FOUND ? st : LOCH_FAIL(LOCH_E_NOT_FOUND, "it has no keys of it");
}

static void judge(struct aside *a, const char *path, const struct loch_buf *bytes)
{
    struct loch_keyring ring = {0};
    struct loch_slice body, mac;
    loch_status st = loch_keyring_decode(loch_buf_slice(bytes), &ring, &body, &mac);

    if (loch_is_ok(st))
        st = try_keyring(a, &ring);
    const bool closed = st.code == LOCH_E_DENIED || st.code == LOCH_E_CORRUPT;
    if (loch_is_ok(st))
        add_check(a->out, path, "OPENS",
                  "destroy the CMK that wraps it (move the tenant first: loch key rotate cmk "
                  "--kms-uri)");
    else
        add_check(a->out, path, closed || st.code == LOCH_E_NOT_FOUND ? "does not open" : "UNKNOWN",
                  loch_error_text());
    a->good = a->good && (closed || st.code == LOCH_E_NOT_FOUND);
    loch_keyring_fini(&ring);
}

static int see_kept(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    struct aside *a = aside_now;
    struct loch_buf bytes = {0};

    (void)ftw;
    if (type != FTW_F || sb->st_size < 8)
        return 0;
    const loch_status st = loch_env_read_file(a->env, path, RING_MAX_BYTES, &bytes);
    if (loch_is_ok(st) && bytes.len > STORE_HEAD_BYTES && memcmp(bytes.data, "LOCHOBJ1", 8) == 0)
        loch_buf_consume(&bytes, STORE_HEAD_BYTES);
    if (loch_is_ok(st) && bytes.len > 8 && memcmp(bytes.data, "LOCHRING", 8) == 0)
        judge(a, path, &bytes);
    loch_buf_fini(&bytes);
    return 0;
}

static loch_status pin_failed; /* of the copying below */

static void copy_pin(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    struct aside *a = arg;
    (void)tenant;
    if (loch_is_ok(pin_failed))
        pin_failed = loch_kms_pin(a->kms, &tried, loch_kms_uri(cmk));
}

/* --kms-uri: one, or several with spaces between them, which no URI holds. */
static loch_status pin_named(struct aside *a, const char *named)
{
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];

    for (const char *at = named; *at != '\0';) {
        const size_t n = strcspn(at, " ");
        if (n >= sizeof uri)
            return LOCH_FAIL(LOCH_E_INVALID, "a KMS URI has at most %u bytes",
                             LOCH_KEYRING_URI_MAX_BYTES);
        memcpy(uri, at, n);
        uri[n] = '\0';
        if (n > 0)
            LOCH_TRY(loch_kms_pin(a->kms, &tried, uri));
        at += n + (at[n] == ' ');
    }
    return LOCH_OK;
}

/* Which CMKs are tried: the cluster's, those that the pageserver has pinned, and --kms-uri. */
static loch_status take_cmks(struct aside *a, const struct loch_cluster *c, const char *cluster,
                             const char *named)
{
    struct loch_kms *live = NULL;
    char path[700];

    (void)snprintf(path, sizeof path, "%s/pageserver/kms.pins", c->dir);
    LOCH_TRY(loch_kms_pin(a->kms, &tried, cluster));
    if (named != NULL)
        LOCH_TRY(pin_named(a, named));
    LOCH_TRY(loch_kms_open(cluster, NULL, &live));
    loch_status st = loch_kms_pins_open(live, a->env, path);
    pin_failed = LOCH_OK;
    if (loch_is_ok(st)) {
        loch_kms_each_pin(live, copy_pin, a);
        st = pin_failed;
    }
    loch_kms_close(live);
    return st;
}

static loch_status check_aside(const struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant, const char *id, json_t *out, bool *good)
{
    struct aside a = {.out = out, .good = true, .whole_tenant = strcmp(tenant, id) == 0};
    char own[700];
    const char *cluster = c->kms_uri != NULL ? c->kms_uri : own;
    loch_status st;

    LOCH_TRY(loch_id_parse(id, &a.id));
    LOCH_TRY(loch_env_real_create(&a.env));
    (void)snprintf(own, sizeof own, "file:%s/cmk.key", c->dir);
    LOCH_TRY_OUT(st, loch_kms_open(cluster, NULL, &a.kms));
    LOCH_TRY_OUT(st, take_cmks(&a, c, cluster, o->kms_uri));
    aside_now = &a;
    if (nftw(o->aside, see_kept, 16, FTW_PHYS) != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot look through %s: %s", o->aside, strerror(errno));
    *good = *good && a.good;
out:
    loch_kms_close(a.kms);
    loch_env_real_destroy(a.env);
    return st;
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
