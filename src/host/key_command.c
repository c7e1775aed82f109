/* Holds: SHOW KEYS, RELOAD KEYS, ROTATE KEY, ACTIVATE KEYS. Store and key service may take their
 * time: pool threads ask them. */
#include "loch/host/key_command.h"

#include "loch/host/audit.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXT_BYTES 24u

static const char *provider_name(uint8_t provider)
{
    static const char *const names[] = {NULL, "file (not customer-held)", "pkcs11", "aws-kms",
                                        "vault"};

    return provider < sizeof names / sizeof names[0] ? names[provider] : "?";
}

static void key_row(struct loch_console_request *request, const struct loch_keyring_entry *e)
{
    char ids[3][LOCH_ID_TEXT_BYTES];
    char version[TEXT_BYTES];
    char parent[TEXT_BYTES];
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];
    const bool kek = e->level == LOCH_LEVEL_KEK;

    (void)snprintf(version, sizeof version, "%" PRIu32, e->version);
    (void)snprintf(parent, sizeof parent, "%" PRIu32, e->parent_version);
    (void)snprintf(uri, sizeof uri, "%.*s", (int)e->cmk_uri.len, (const char *)e->cmk_uri.data);
    const char *const values[] = {kek ? "kek" : "tk",
                                  loch_purpose_name(e->purpose),
                                  loch_id_is_none(&e->scope) ? NULL
                                                             : loch_id_format(&e->scope, ids[0]),
                                  version,
                                  loch_key_state_name(e->state),
                                  kek ? NULL : parent,
                                  kek ? provider_name(e->provider) : NULL,
                                  kek ? uri : NULL,
                                  loch_id_format(&e->key_id, ids[1])};
    loch_console_row(request, values);
}

void loch_show_keys_command(struct loch_keys *keys, struct loch_console_request *request)
{
    static const char *const names[] = {"level",    "purpose", "timeline",
                                        "version",  "state",   "parent_version",
                                        "provider", "cmk",     "key_id"};
    struct loch_keyring ring = {0};
    struct loch_id tenant;

    loch_status st = loch_console_arg_id(request, "tenant", &tenant);
    if (loch_is_ok(st))
        st = loch_keys_ring(keys, &tenant, &ring);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (uint32_t i = 0; i < ring.count; i++)
        key_row(request, &ring.entries[i]);
    loch_keyring_fini(&ring);
    loch_console_done(request, NULL);
}

/* ---- changing ---- */

enum act { ACT_RELOAD, ACT_ROTATE, ACT_ACTIVATE };

struct order {
    struct loch_keys *keys;
    struct loch_console_request *request;
    struct loch_id tenant, branch; /* none: what the tenant's CMK holds */
    enum act act;
    enum loch_rotation what;
    char *uri; /* of the CMK to move to; NULL: no move */
    struct loch_rotation_report report;
    loch_status st;
    char text[400];
};

static void order_free(struct order *o)
{
    free(o->uri);
    free(o);
}

static void work(void *arg)
{
    struct order *o = arg;

    switch (o->act) {
    case ACT_RELOAD:
        o->st = loch_keys_tenant_load(o->keys, &o->tenant);
        if (loch_is_ok(o->st))
            loch_keys_open_news(o->keys, &o->tenant);
        break;
    case ACT_ROTATE:
        o->st = o->uri != NULL
                    ? loch_keys_move(o->keys, &o->tenant, &o->branch, o->uri, &o->report)
                    : loch_keys_rotate(o->keys, &o->tenant, &o->branch, o->what, &o->report);
        break;
    case ACT_ACTIVATE:
        o->st = loch_keys_settle(o->keys, &o->tenant);
        break;
    }
    if (!loch_is_ok(o->st))
        (void)snprintf(o->text, sizeof o->text, "%s", loch_error_text());
}

static void done(void *arg)
{
    static const char *const names[] = {"generation", "made", "rewrapped", "bytes_written"};
    struct order *o = arg;
    char text[4][TEXT_BYTES];

    if (loch_is_ok(o->st)) {
        (void)snprintf(text[0], TEXT_BYTES, "%" PRIu64, loch_keys_generation(o->keys, &o->tenant));
        (void)snprintf(text[1], TEXT_BYTES, "%" PRIu32, o->report.made);
        (void)snprintf(text[2], TEXT_BYTES, "%" PRIu32, o->report.rewrapped);
        (void)snprintf(text[3], TEXT_BYTES, "%" PRIu64, o->report.bytes_written);
        const char *const values[] = {text[0], text[1], text[2], text[3]};
        loch_console_columns(o->request, names, sizeof names / sizeof names[0]);
        loch_console_row(o->request, values);
        loch_console_done(o->request, NULL);
    } else {
        loch_console_fail(o->request, LOCH_FAIL(o->st.code, "%s", o->text));
    }
    order_free(o);
}

static loch_status what_of(const struct loch_console_request *request, enum loch_rotation *out)
{
    static const char *const words[] = {"cmk", "kek", "tk", "wire", "wire-anew"};
    const char *word = loch_console_arg(request, "what");

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(word, words[i]) == 0) {
            *out = (enum loch_rotation)(i + 1);
            return LOCH_OK;
        }
    }
    return LOCH_FAIL(LOCH_E_INVALID,
                     "\"%s\" is no kind of key: want cmk, kek, tk, wire or wire-anew", word);
}

static loch_status read_rotation(const struct loch_console_request *request, struct order *o)
{
    const char *uri = loch_console_arg(request, "uri");

    LOCH_TRY(what_of(request, &o->what));
    if (loch_console_arg(request, "branch") != NULL)
        LOCH_TRY(loch_console_arg_id(request, "branch", &o->branch));
    if (uri == NULL)
        return LOCH_OK;
    if (o->what != LOCH_ROTATE_CMK)
        return LOCH_FAIL(LOCH_E_INVALID, "KMS goes with cmk alone");
    o->uri = strdup(uri);
    if (o->uri == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    return LOCH_OK;
}

static loch_status begin(struct loch_env *env, struct loch_keys *keys,
                         struct loch_console_request *request, enum act act)
{
    struct loch_id tenant;

    LOCH_TRY(loch_console_arg_id(request, "tenant", &tenant));
    struct order *o = calloc(1, sizeof *o);
    if (o == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    *o = (struct order){.keys = keys, .request = request, .tenant = tenant, .act = act};
    loch_status st = act == ACT_ROTATE ? read_rotation(request, o) : LOCH_OK;
    if (loch_is_ok(st))
        st = loch_env_work(env, work, done, o);
    if (!loch_is_ok(st))
        order_free(o);
    return st;
}

static void run(struct loch_env *env, struct loch_keys *keys, struct loch_console_request *request,
                enum act act)
{
    const loch_status st = begin(env, keys, request, act);

    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

void loch_reload_keys_command(struct loch_env *env, struct loch_keys *keys,
                              struct loch_console_request *take_request)
{
    run(env, keys, take_request, ACT_RELOAD);
}

void loch_rotate_key_command(struct loch_env *env, struct loch_keys *keys,
                             struct loch_console_request *take_request)
{
    run(env, keys, take_request, ACT_ROTATE);
}

void loch_activate_keys_command(struct loch_env *env, struct loch_keys *keys,
                                struct loch_console_request *take_request)
{
    run(env, keys, take_request, ACT_ACTIVATE);
}

/* ---- receipts ---- */

#define RECEIPT_RECORDS 16u

struct asking {
    struct loch_console_request *request;
    const char *dir;
    struct loch_id tenant, branch; /* none: of the tenant's own key */
    struct loch_audit_copy *copies;
    size_t count;
    loch_status st;
    char text[400];
};

static void receipt_work(void *arg)
{
    struct asking *a = arg;

    a->st =
        loch_audit_receipt(a->dir, &a->tenant, &a->branch, a->copies, RECEIPT_RECORDS, &a->count);
    if (!loch_is_ok(a->st))
        (void)snprintf(a->text, sizeof a->text, "%s", loch_error_text());
}

static void receipt_done(void *arg)
{
    static const char *const names[] = {"body", "signature"};
    struct asking *a = arg;
    char hex[2 * LOCH_SIGNATURE_BYTES + 1];

    if (loch_is_ok(a->st)) {
        loch_console_columns(a->request, names, 2);
        for (size_t i = 0; i < a->count; i++) {
            loch_hex_format(a->copies[i].signature, LOCH_SIGNATURE_BYTES, hex);
            const char *const values[] = {a->copies[i].body, hex};
            loch_console_row(a->request, values);
        }
        loch_console_done(a->request, NULL);
    } else {
        loch_console_fail(a->request, LOCH_FAIL(a->st.code, "%s", a->text));
    }
    free(a->copies);
    free(a);
}

static loch_status begin_receipt(struct loch_env *env, const char *dir,
                                 struct loch_console_request *request)
{
    struct asking a = {.request = request, .dir = dir};

    LOCH_TRY(loch_console_arg_id(request, "tenant", &a.tenant));
    if (loch_console_arg(request, "branch") != NULL)
        LOCH_TRY(loch_console_arg_id(request, "branch", &a.branch));
    struct asking *copy = malloc(sizeof *copy);
    a.copies = calloc(RECEIPT_RECORDS, sizeof *a.copies);
    loch_status st = copy == NULL || a.copies == NULL
                         ? LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a receipt")
                         : LOCH_OK;
    if (loch_is_ok(st)) {
        *copy = a;
        st = loch_env_work(env, receipt_work, receipt_done, copy);
    }
    if (!loch_is_ok(st)) {
        free(a.copies);
        free(copy);
    }
    return st;
}

void loch_receipt_command(struct loch_env *env, const char *dir,
                          struct loch_console_request *take_request)
{
    const loch_status st = begin_receipt(env, dir, take_request);

    if (!loch_is_ok(st))
        loch_console_fail(take_request, st);
}
