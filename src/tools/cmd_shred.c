/* Holds: shredding, and the proof that something is shredded. */
#include "commands.h"
#include "console_client.h"

#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/io/tree.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

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
    if (timeline == NULL)
        loch_tenant_unpin(c, tenant);
}

static loch_status shred_confirm(struct loch_cluster *c, const struct loch_options *o,
                                 const char *tenant, const json_t *branch)
{
    json_t *attached = NULL;
    json_t *reply = NULL;
    const char *timeline = branch != NULL ? loch_field(branch, "timeline") : NULL;

    LOCH_TRY(loch_attached(c, o->tenant ? o->tenant : "main",
                           branch != NULL ? loch_field(branch, "name") : NULL, &attached));
    loch_status st = loch_attached_refuse_live(attached);
    if (loch_is_ok(st))
        st = loch_consolef(c, loch_port_pageserver(c), &reply, "CONFIRM SHRED %s OF %s %s",
                           o->confirm, tenant, timeline != NULL ? timeline : "");
    json_decref(reply);
    if (loch_is_ok(st))
        loch_attached_go(c, attached);
    json_decref(attached);
    LOCH_TRY(st);
    forget_elsewhere(c, tenant, timeline);
    if (branch != NULL && strcmp(loch_field(branch, "cmk_of"), loch_field(branch, "name")) == 0)
        loch_tenant_unpin(c, timeline);
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
    if (of_branch)
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

/* No daemon's opened keyring knows keys of it. */
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
        if (st.code == LOCH_E_UNAVAILABLE) {
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
    const struct loch_cluster *c;
    struct loch_id timeline; /* or the tenant */
    bool whole_tenant;
    struct loch_env *env;
    struct loch_kms *kms;
    const char *branch_uri; /* --kms-uri: of the branch's own CMK; NULL: not given */
    json_t *out;
    bool good;
};

static struct aside *aside_now; /* for nftw */

/* Whether every KEK under the branch's own CMK is to be opened at the URI that was given. */
static bool is_tried(const struct aside *a, const struct loch_keyring *ring,
                     const struct loch_id *lock)
{
    if (a->branch_uri == NULL)
        return false;
    const size_t len = strlen(a->branch_uri);
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (e->level == LOCH_LEVEL_KEK && loch_id_equal(&e->scope, lock) && e->wrap.len > 0 &&
            (e->cmk_uri.len != len || memcmp(e->cmk_uri.data, a->branch_uri, len) != 0))
            return false;
    }
    return true;
}

/* The key that its pages lie under, from the opened keyring: LOCH_E_NOT_FOUND when it has none, or
 * why it does not open. */
static loch_status try_timeline(struct aside *a, struct loch_keys *keys,
                                const struct loch_id *tenant, const struct loch_id *lock,
                                const struct loch_keyring *ring)
{
    struct loch_wrap_key key = {0};

    if (loch_keys_has(keys, tenant, &a->timeline))
        return LOCH_OK;
    if (!loch_id_is_none(lock) && !is_tried(a, ring, lock))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "its keys lie under a branch's own CMK, which was not tried: name it with "
                         "--kms-uri");
    const loch_status st = loch_keys_wrap_key(keys, tenant, &a->timeline, LOCH_PURPOSE_PAGE, &key);
    loch_wrap_key_fini(&key);
    return st;
}

/* Opens a kept keyring with the key service as it is now, as a daemon would. LOCH_OK: it opens what
 * is looked for. LOCH_E_UNAVAILABLE: that cannot be said. */
static loch_status try_keyring(struct aside *a, const struct loch_buf *bytes)
{
    char dir[] = "/tmp/loch-verify-XXXXXX";
    char name[80], id[LOCH_ID_TEXT_BYTES];
    struct loch_keyring ring = {0};
    struct loch_slice body, mac;
    struct loch_keys *keys = NULL;
    struct loch_objstore *store = NULL;
    loch_status st;

    LOCH_TRY(loch_keyring_decode(loch_buf_slice(bytes), &ring, &body, &mac));
    if (mkdtemp(dir) == NULL) {
        loch_keyring_fini(&ring);
        return LOCH_FAIL(LOCH_E_IO, "no temporary directory: %s", strerror(errno));
    }
    const struct loch_id tenant = ring.tenant;
    const struct loch_id lock =
        a->whole_tenant ? (struct loch_id){{0}} : loch_keyring_lock(&ring, &a->timeline);
    if (!loch_id_is_none(&lock) && a->branch_uri != NULL)
        LOCH_TRY_OUT(st, loch_kms_pin(a->kms, &lock, a->branch_uri));
    LOCH_TRY_OUT(st, loch_objstore_open_local(a->env, dir, &store));
    (void)snprintf(name, sizeof name, "tenants/%s/keyring", loch_id_format(&tenant, id));
    LOCH_TRY_OUT(st, loch_objstore_put_if_absent(store, name, loch_buf_slice(bytes), NULL));
    const struct loch_keys_options ko = {
        .store = store, .kms = a->kms, .cluster = ring.cluster, .role = LOCH_ROLE_TOOL};
    LOCH_TRY_OUT(st, loch_keys_create(&ko, &keys));
    LOCH_TRY_OUT(st, loch_keys_tenant_load(keys, &tenant));
    if (!a->whole_tenant)
        st = try_timeline(a, keys, &tenant, &lock, &ring);
    else if (!loch_id_equal(&tenant, &a->timeline))
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "it is another tenant's");
out:
    loch_keys_destroy(keys);
    loch_objstore_close(store);
    loch_keyring_fini(&ring);
    if (!loch_is_ok(loch_remove_tree(dir)))
        loch_progress("warning: %s is left: %s", dir, loch_error_text());
    return st;
}

static int see_kept(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    struct aside *a = aside_now;
    struct loch_buf bytes = {0};

    (void)ftw;
    if (type != FTW_F || sb->st_size < 8)
        return 0;
    loch_status st = loch_env_read_file(a->env, path, RING_MAX_BYTES, &bytes);
    if (loch_is_ok(st) && bytes.len > STORE_HEAD_BYTES && memcmp(bytes.data, "LOCHOBJ1", 8) == 0)
        loch_buf_consume(&bytes, STORE_HEAD_BYTES);
    if (loch_is_ok(st) && bytes.len > 8 && memcmp(bytes.data, "LOCHRING", 8) == 0) {
        st = try_keyring(a, &bytes);
        const bool unknown = st.code == LOCH_E_UNAVAILABLE || st.code == LOCH_E_KMS_UNAVAILABLE;
        if (loch_is_ok(st))
            add_check(a->out, path, "OPENS",
                      "destroy the CMK that wraps it (move the tenant first: loch key rotate cmk "
                      "--kms-uri)");
        else
            add_check(a->out, path, unknown ? "UNKNOWN" : "does not open",
                      st.code == LOCH_E_NOT_FOUND ? "it has no keys of it" : loch_error_text());
        a->good = a->good && !loch_is_ok(st) && !unknown;
    }
    loch_buf_fini(&bytes);
    return 0;
}

static loch_status pin_failed; /* of the copying below */

static void copy_pin(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    struct aside *a = arg;
    if (loch_is_ok(pin_failed))
        pin_failed = loch_kms_pin(a->kms, tenant, loch_kms_uri(cmk));
}

/* The pins as the pageserver has them; what is pinned later stays in this process. */
static loch_status take_pins(struct aside *a, const char *cmk)
{
    struct loch_kms *live = NULL;
    char path[700];

    (void)snprintf(path, sizeof path, "%s/pageserver/kms.pins", a->c->dir);
    LOCH_TRY(loch_kms_open(cmk, NULL, &live));
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
    struct aside a = {.c = c,
                      .branch_uri = o->kms_uri,
                      .out = out,
                      .good = true,
                      .whole_tenant = strcmp(tenant, id) == 0};
    char path[700];
    loch_status st;

    LOCH_TRY(loch_id_parse(id, &a.timeline));
    LOCH_TRY(loch_env_real_create(&a.env));
    (void)snprintf(path, sizeof path, "file:%s/cmk.key", c->dir);
    LOCH_TRY_OUT(st, loch_kms_open(path, NULL, &a.kms));
    LOCH_TRY_OUT(st, take_pins(&a, path));
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
