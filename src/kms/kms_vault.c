/* Holds: the provider "vault": the CMK is a key of a transit engine (HashiCorp Vault, OpenBao).
 *
 * URI: vault:https://HOST:PORT/MOUNT/KEY?token-file=/path[&namespace=N][&derived=true][&ca=/path].
 * The encryption context is the call's associated_data, and of a derived key the context as well.
 * Vault's errors have no type, only a status and a text: known ones decide, anything else is
 * UNAVAILABLE, never DENIED; a 403 is a verdict only when the token itself is good.
 * Inner blob: u8 1 | 16 name | Vault's ciphertext as text ("vault:v1:...").
 * name: of namespace, mount and key, so that another key's blob is told from a damaged one.
 */
#include "attributes.h"
#include "base64.h"
#include "envelope.h"
#include "http.h"
#include "provider.h"
#include "vault_token.h"
#include "wiped.h"

#include "loch/base/check.h"
#include "loch/crypto/hkdf.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST_MS    4000u
#define TRIES_MAX     3
#define PAUSE_MS      100
#define NAME_BYTES    16u
#define TEXT_BYTES    2048u
#define BODY_BYTES    4096u
#define CONTEXT_BYTES 128u

struct vault_state {
    char base[300], mount[200], key[100];
    char name_space[200];
    bool derived;
    uint8_t name[NAME_BYTES];
    struct vault_server server;
    struct vault_token *token;
};

/* ---- the URI ---- */

/* https://host:port/mount/key into its parts; the mount may hold slashes. */
static loch_status split_url(struct vault_state *s, const char *url, size_t len)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
    char text[620];

    if (len >= sizeof text)
        return LOCH_FAIL(LOCH_E_INVALID, "the address of the Vault key is too long");
    memcpy(text, url, len);
    text[len] = '\0';
    LOCH_TRY(kms_http_check_url(text));
    char *path = strchr(strstr(text, "://") + 3, '/');
    char *last = path == NULL ? NULL : strrchr(path, '/');
    if (path == NULL || last == path || last[1] == '\0' || path[1] == '/' || last[-1] == '/' ||
        strspn(path, plain) != strlen(path) || strstr(path, "..") != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" does not name a key (https://HOST:8200/MOUNT/KEY)",
                         text);
    *path = *last = '\0';
    if (strlen(text) >= sizeof s->base || strlen(path + 1) >= sizeof s->mount ||
        strlen(last + 1) >= sizeof s->key)
        return LOCH_FAIL(LOCH_E_INVALID, "the address of the Vault key is too long");
    (void)snprintf(s->base, sizeof s->base, "%s", text);
    (void)snprintf(s->mount, sizeof s->mount, "%s", path + 1);
    (void)snprintf(s->key, sizeof s->key, "%s", last + 1);
    return LOCH_OK;
}

static loch_status configure(struct vault_state *s, const char *location)
{
    char file[512] = "", variable[128] = "", ca[512] = "", derived[8] = "";
    const struct kms_attribute query[] = {{"token-file", file, sizeof file, NULL},
                                          {"token-env", variable, sizeof variable, NULL},
                                          {"namespace", s->name_space, sizeof s->name_space, NULL},
                                          {"derived", derived, sizeof derived, NULL},
                                          {"ca", ca, sizeof ca, NULL}};
    const char *mark = strchr(location, '?');
    uint8_t hash[LOCH_SHA256_BYTES];

    LOCH_TRY(split_url(s, location, mark == NULL ? strlen(location) : (size_t)(mark - location)));
    if (mark != NULL)
        LOCH_TRY(kms_attributes_parse(mark + 1, strlen(mark + 1), '&', query, 5));
    if (strpbrk(s->name_space, "\r\n") != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "the Vault namespace holds a line's end");
    if (derived[0] != '\0' && strcmp(derived, "true") != 0 && strcmp(derived, "false") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "derived=%s is neither true nor false", derived);
    s->derived = strcmp(derived, "true") == 0;
    const struct loch_slice parts[] = {loch_slice_of(s->name_space, strlen(s->name_space) + 1),
                                       loch_slice_of(s->mount, strlen(s->mount) + 1),
                                       loch_slice_of(s->key, strlen(s->key) + 1)};
    LOCH_TRY(loch_sha256(parts, 3, hash));
    memcpy(s->name, hash, sizeof s->name);
    const struct kms_http_options options = {.ca_file = ca[0] != '\0' ? ca : NULL,
                                             .timeout_ms = REQUEST_MS};
    LOCH_TRY(kms_http_create(&options, &s->server.http));
    s->server.base = s->base;
    s->server.name_space = s->name_space;
    return vault_token_create(&s->server, file, variable, &s->token);
}

static void vault_close(void *state)
{
    struct vault_state *s = state;

    vault_token_destroy(s->token);
    kms_http_destroy(s->server.http);
    free(s);
}

static loch_status vault_open(const char *location, const char *const *data_dirs, void **state)
{
    struct vault_state *s = calloc(1, sizeof *s);

    (void)data_dirs;
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    const loch_status st = configure(s, location);
    if (!loch_is_ok(st)) {
        vault_close(s);
        return st;
    }
    *state = s;
    return LOCH_OK;
}

/* ---- what an error means ---- */

static const struct {
    const char *text; /* part of it */
    unsigned status;  /* 0: any; releases differ between 400 and 500 */
    enum loch_code code;
} meanings[] = {
    {"encryption key not found", 0, LOCH_E_DENIED},
    {"policy not found", 0, LOCH_E_DENIED},       /* the same, of early releases */
    {"disallowed by policy", 0, LOCH_E_DENIED},   /* below min_decryption_version */
    {"no handler for route", 404, LOCH_E_DENIED}, /* the engine is unmounted */
    {"message authentication failed", 0, LOCH_E_CORRUPT},
    {"invalid ciphertext", 0, LOCH_E_CORRUPT},
    {"larger than the latest key version", 0, LOCH_E_CORRUPT},
    {"associated", 400, LOCH_E_INVALID}, /* not an AEAD key */
    {"context", 400, LOCH_E_INVALID},    /* a derived key wants derived=true */
};

static loch_status fail_by_text(struct vault_state *s, const struct kms_http_reply *reply)
{
    json_t *json = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const char *text = json_string_value(json_array_get(json_object_get(json, "errors"), 0));
    enum loch_code code = LOCH_E_UNAVAILABLE;
    const char *note = "";

    for (size_t i = sizeof meanings / sizeof *meanings; text != NULL && i-- > 0;)
        if ((meanings[i].status == 0 || reply->status == meanings[i].status) &&
            strstr(text, meanings[i].text) != NULL)
            code = meanings[i].code;
    if (reply->status == 403 && text != NULL) {
        const bool good = vault_token_is_good(s->token);
        code = good ? LOCH_E_DENIED : LOCH_E_UNAVAILABLE;
        note = good ? " (the token is good: a policy says no, or the key is gone)"
                    : " (the token has ended, or may not look itself up)";
    }
    const loch_status st = LOCH_FAIL(code, "Vault answers %u: %.200s%s", reply->status,
                                     text != NULL ? text : "without an error's text", note);
    json_decref(json);
    return st;
}

/* ---- a call ---- */

static bool may_pass(loch_status st, const struct kms_http_reply *reply)
{
    if (!loch_is_ok(st))
        return false; /* silence has taken its time already */
    return reply->status >= 500 || reply->status == 429 || reply->status == 412;
}

static loch_status call(struct vault_state *s, const char *verb, const char *body,
                        struct kms_http_reply *out)
{
    const struct timespec pause = {0, PAUSE_MS * 1000000L};
    char token[VAULT_TOKEN_BYTES], path[400];
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/%s/%s", s->mount, verb, s->key);
    for (int turn = 1;; turn++) {
        struct kms_http_reply reply = {0};
        LOCH_TRY(vault_token_get(s->token, token));
        st = vault_request(&s->server, token, "POST", path, body, &reply);
        loch_wipe(token, sizeof token);
        if (loch_is_ok(st) && reply.status == 200) {
            *out = reply;
            return LOCH_OK;
        }
        const bool passing = may_pass(st, &reply);
        if (loch_is_ok(st))
            st = fail_by_text(s, &reply);
        const bool again = passing && st.code == LOCH_E_UNAVAILABLE && turn < TRIES_MAX;
        kms_http_reply_fini(&reply);
        if (!again)
            return st;
        (void)nanosleep(&pause, NULL);
    }
}

/* {"NAME":"VALUE","associated_data":"..."[,"context":"..."]} */
static loch_status make_body(const struct vault_state *s, const char *name, const char *value,
                             struct loch_slice context, char out[static BODY_BYTES])
{
    char where[KMS_BASE64_BYTES(CONTEXT_BYTES)];

    LOCH_ASSERT(context.len <= CONTEXT_BYTES);
    kms_base64_encode(context, where);
    const int n = snprintf(out, BODY_BYTES, "{\"%s\":\"%s\",\"associated_data\":\"%s\"%s%s%s}",
                           name, value, where, s->derived ? ",\"context\":\"" : "",
                           s->derived ? where : "", s->derived ? "\"" : "");
    if (n < 0 || (size_t)n >= BODY_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is too long for Vault");
    return LOCH_OK;
}

/* data.NAME of the answer, in the JSON that the caller releases. */
static const char *member(const struct kms_http_reply *reply, const char *name, json_t **json)
{
    *json = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    return json_string_value(json_object_get(json_object_get(*json, "data"), name));
}

static loch_status vault_wrap(void *state, struct loch_slice context, const struct loch_secret *key,
                              struct loch_buf *out)
{
    struct vault_state *s = state;
    struct kms_http_reply reply = {0};
    char body[BODY_BYTES], plain[KMS_BASE64_BYTES(LOCH_SECRET_MAX_BYTES)];
    uint8_t inner[1 + NAME_BYTES + TEXT_BYTES] = {1};
    json_t *json = NULL;

    if (key->len != KMS_KEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KEK has %u bytes, not %zu", KMS_KEK_BYTES, key->len);
    kms_base64_encode(loch_slice_of(key->bytes, key->len), plain);
    loch_status st = make_body(s, "plaintext", plain, context, body);
    if (loch_is_ok(st))
        st = call(s, "encrypt", body, &reply);
    loch_wipe(plain, sizeof plain);
    loch_wipe(body, sizeof body);
    LOCH_TRY(st);
    const char *text = member(&reply, "ciphertext", &json);
    const size_t len = text == NULL ? 0 : strlen(text);
    if (len == 0 || len > TEXT_BYTES || strpbrk(text, "\"\\") != NULL) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "Vault answers 200 without a ciphertext that it could "
                                           "have made");
    } else {
        memcpy(inner + 1, s->name, NAME_BYTES);
        memcpy(inner + 1 + NAME_BYTES, text, len);
        st = kms_envelope_write(LOCH_PROVIDER_VAULT, context, key,
                                loch_slice_of(inner, 1 + NAME_BYTES + len), out);
    }
    json_decref(json);
    kms_http_reply_fini(&reply);
    return st;
}

/* The ciphertext's text out of a blob, fit to stand in JSON. */
static loch_status text_of(const struct vault_state *s, struct loch_slice blob,
                           char out[static TEXT_BYTES + 1])
{
    struct loch_slice inner;

    LOCH_TRY(kms_envelope_read(LOCH_PROVIDER_VAULT, blob, &inner));
    if (inner.len <= 1 + NAME_BYTES || inner.len > 1 + NAME_BYTES + TEXT_BYTES ||
        inner.data[0] != 1)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is not one of Vault");
    if (memcmp(inner.data + 1, s->name, NAME_BYTES) != 0)
        return LOCH_FAIL(LOCH_E_DENIED, "the KEK was wrapped by another key than %s/%s", s->mount,
                         s->key);
    const size_t len = inner.len - 1 - NAME_BYTES;
    for (size_t i = 0; i < len; i++) {
        const char c = (char)inner.data[1 + NAME_BYTES + i];
        if (c <= ' ' || c > '~' || c == '"' || c == '\\')
            return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is not one of Vault");
        out[i] = c;
    }
    out[len] = '\0';
    return LOCH_OK;
}

static loch_status vault_unwrap(void *state, struct loch_slice context, struct loch_slice blob,
                                struct loch_secret *out)
{
    struct vault_state *s = state;
    struct kms_http_reply reply = {0};
    char body[BODY_BYTES], text[TEXT_BYTES + 1];
    struct loch_secret key = {0};
    json_t *json = NULL;
    loch_status st;

    LOCH_TRY(text_of(s, blob, text));
    LOCH_TRY(make_body(s, "ciphertext", text, context, body));
    LOCH_TRY(call(s, "decrypt", body, &reply));
    const char *plain = member(&reply, "plaintext", &json);
    if (plain == NULL) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "Vault answers 200 without a plaintext");
        goto out;
    }
    LOCH_TRY_OUT(st, loch_secret_create(&key, LOCH_SECRET_MAX_BYTES));
    LOCH_TRY_OUT(st, kms_base64_decode(plain, key.bytes, LOCH_SECRET_MAX_BYTES, &key.len));
    LOCH_TRY_OUT(st, kms_envelope_prove(blob, context, &key));
    *out = key;
    key = (struct loch_secret){0};
out:
    loch_secret_fini(&key);
    json_decref(json);
    kms_http_reply_fini(&reply);
    return st;
}

const struct kms_provider kms_vault_provider = {
    .id = LOCH_PROVIDER_VAULT,
    .customer_held = true,
    .scheme = "vault:",
    .open = vault_open,
    .close = vault_close,
    .wrap = vault_wrap,
    .unwrap = vault_unwrap,
};
