/* Holds: the provider "pkcs11": the CMK is an AES key of an HSM that never leaves it.
 *
 * URI (RFC 7512): pkcs11:token=T;object=O?module-path=/path/module.so&pin-source=file:/path
 * The key is looked up anew at every call, so that disabling (CKA_DECRYPT or CKA_ENCRYPT false) and
 * destroying are seen at the next one. Wrapping is AES-GCM in the token, with the encryption
 * context as associated data. The inner blob, little-endian:
 *
 * u8 1 | 16 fingerprint | 12 IV | 32 ciphertext | 16 tag.
 *
 * fingerprint: a fixed block under the CMK in ECB mode, or zeros where the token does not allow
 * ECB: it tells a blob of another CMK (DENIED) from one that does not belong to its context
 * (CORRUPT). Tokens that choose the IV themselves write it over ours, so it is read back.
 */
#include "attributes.h"
#include "deadline.h"
#include "envelope.h"
#include "pkcs11_token.h"
#include "provider.h"

#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS        5000u
#define CONTEXT_MAX_BYTES 128u
#define FINGERPRINT_BYTES 16u
#define IV_BYTES          12u
#define TAG_BYTES         16u
#define SEALED_BYTES      (KMS_KEK_BYTES + TAG_BYTES)
#define INNER_BYTES       (1u + FINGERPRINT_BYTES + IV_BYTES + SEALED_BYTES)

struct p11_state {
    atomic_int users;   /* the provider, and calls that hang */
    atomic_int at_once; /* calls under way: one token's hang is not another's */
    struct p11_config config;
    struct p11_token *token;
};

/* ---- the URI ---- */

static loch_status check_config(const struct p11_config *c)
{
    if (c->token[0] == '\0' && c->serial[0] == '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "the KMS URI names no token (token= or serial=)");
    if (c->object[0] == '\0' && c->id_len == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "the KMS URI names no key (object= or id=)");
    if (c->type[0] != '\0' && strcmp(c->type, "secret-key") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "the CMK is an AES key: type=%s does not fit", c->type);
    if (c->module[0] != '/')
        return LOCH_FAIL(LOCH_E_INVALID,
                         "the KMS URI names no module (?module-path=/absolute/path.so)");
    if (strncmp(c->pin_source, "file:/", 6) != 0 && strncmp(c->pin_source, "env:", 4) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "the KMS URI does not say where the PIN is "
                                         "(&pin-source=file:/path or env:NAME)");
    return LOCH_OK;
}

static loch_status config_parse(const char *location, struct p11_config *c)
{
    const struct kms_attribute path[] = {{"token", c->token, sizeof c->token, NULL},
                                         {"serial", c->serial, sizeof c->serial, NULL},
                                         {"object", c->object, sizeof c->object, NULL},
                                         {"id", c->id, sizeof c->id, &c->id_len},
                                         {"type", c->type, sizeof c->type, NULL}};
    const struct kms_attribute query[] = {
        {"module-path", c->module, sizeof c->module, NULL},
        {"pin-source", c->pin_source, sizeof c->pin_source, NULL}};
    const char *mark = strchr(location, '?');
    const size_t len = mark == NULL ? strlen(location) : (size_t)(mark - location);

    if (strstr(location, "pin-value=") != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "a PIN has no place in a KMS URI: use pin-source");
    LOCH_TRY(kms_attributes_parse(location, len, ';', path, sizeof path / sizeof *path));
    if (mark != NULL)
        LOCH_TRY(kms_attributes_parse(mark + 1, strlen(mark + 1), '&', query,
                                      sizeof query / sizeof *query));
    return check_config(c);
}

static loch_status pkcs11_open(const char *location, const char *const *data_dirs, void **state)
{
    struct p11_state *s = calloc(1, sizeof *s);

    (void)data_dirs;
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    atomic_init(&s->users, 1);
    loch_status st = config_parse(location, &s->config);
    if (loch_is_ok(st))
        st = p11_token_create(&s->config, &s->token);
    if (!loch_is_ok(st)) {
        free(s);
        return st;
    }
    *state = s;
    return LOCH_OK;
}

static void pkcs11_close(void *state)
{
    struct p11_state *s = state;

    if (atomic_fetch_sub(&s->users, 1) > 1)
        return;
    p11_token_destroy(s->token);
    free(s);
}

/* ---- in a session ---- */

/* One call, in its own thread: owns everything it touches. */
struct call {
    struct p11_state *state;
    bool wrap;
    uint8_t context[CONTEXT_MAX_BYTES];
    size_t context_len;
    struct loch_secret key;
    uint8_t inner[INNER_BYTES];
    loch_status st;
    bool lost; /* a new login may mend it */
    char text[400];
};

static loch_status answer(struct call *c, CK_RV rv, const char *what)
{
    c->lost = c->lost || p11_is_lost(rv);
    return rv == CKR_OK ? LOCH_OK : p11_fail(rv, what);
}

static loch_status find_key(struct call *c, const struct p11_session *s, CK_OBJECT_HANDLE *out)
{
    const struct p11_config *config = &c->state->config;
    char object[sizeof config->object], id[sizeof config->id];
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count = 0;
    CK_ATTRIBUTE want[3] = {{CKA_CLASS, &class, sizeof class}};
    CK_ULONG wanted = 1;

    memcpy(object, config->object, sizeof object);
    memcpy(id, config->id, sizeof id);
    if (object[0] != '\0')
        want[wanted++] = (CK_ATTRIBUTE){CKA_LABEL, object, strlen(object)};
    if (config->id_len > 0)
        want[wanted++] = (CK_ATTRIBUTE){CKA_ID, id, config->id_len};
    CK_RV rv = s->f->C_FindObjectsInit(s->handle, want, wanted);
    if (rv == CKR_OK) {
        rv = s->f->C_FindObjects(s->handle, found, 2, &count);
        (void)s->f->C_FindObjectsFinal(s->handle);
    }
    LOCH_TRY(answer(c, rv, "looking for the CMK"));
    if (count == 1) {
        *out = found[0];
        return LOCH_OK;
    }
    if (count > 1)
        return LOCH_FAIL(LOCH_E_INVALID, "the token has more than one key \"%s\": name it by id",
                         object);
    if (!p11_logged_in(s)) {
        c->lost = true;
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the token has logged us out");
    }
    return LOCH_FAIL(LOCH_E_DENIED, "the token has no key \"%s\": it is destroyed, or never was",
                     object);
}

/* Zeros where the token does not give one. */
static void fingerprint(const struct p11_session *s, CK_OBJECT_HANDLE key,
                        uint8_t out[static FINGERPRINT_BYTES])
{
    uint8_t block[FINGERPRINT_BYTES] = "loch cmk is this";
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0};
    CK_ULONG len = FINGERPRINT_BYTES;

    memset(out, 0, FINGERPRINT_BYTES);
    if (s->f->C_EncryptInit(s->handle, &ecb, key) != CKR_OK)
        return;
    if (s->f->C_Encrypt(s->handle, block, sizeof block, out, &len) != CKR_OK ||
        len != FINGERPRINT_BYTES)
        memset(out, 0, FINGERPRINT_BYTES);
}

static CK_GCM_PARAMS gcm(struct call *c, uint8_t *iv)
{
    return (CK_GCM_PARAMS){.iv_ptr = iv,
                           .iv_len = IV_BYTES,
                           .iv_bits = (CK_ULONG)IV_BYTES * 8,
                           .aad_ptr = c->context,
                           .aad_len = c->context_len,
                           .tag_bits = (CK_ULONG)TAG_BYTES * 8};
}

static loch_status wrap_in(struct call *c, const struct p11_session *s, CK_OBJECT_HANDLE key)
{
    uint8_t *mark = c->inner + 1;
    uint8_t *iv = mark + FINGERPRINT_BYTES;
    uint8_t *sealed = iv + IV_BYTES;
    CK_GCM_PARAMS params = gcm(c, iv);
    CK_MECHANISM mechanism = {CKM_AES_GCM, &params, sizeof params};
    CK_ULONG len = SEALED_BYTES;

    c->inner[0] = 1;
    LOCH_TRY(loch_random_bytes(iv, IV_BYTES));
    LOCH_TRY(answer(c, s->f->C_EncryptInit(s->handle, &mechanism, key), "wrapping"));
    LOCH_TRY(
        answer(c, s->f->C_Encrypt(s->handle, c->key.bytes, c->key.len, sealed, &len), "wrapping"));
    if (len != SEALED_BYTES)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the token wraps a KEK into %lu bytes", len);
    fingerprint(s, key, mark);
    return LOCH_OK;
}

/* Another CMK's blob, a blob of another place, or a token that cannot? */
static loch_status explain(struct call *c, const struct p11_session *s, CK_OBJECT_HANDLE key,
                           CK_RV rv)
{
    static const uint8_t none[FINGERPRINT_BYTES];
    uint8_t now[FINGERPRINT_BYTES];
    struct call self = {.state = c->state, .context_len = 1};

    const loch_status st = answer(c, rv, "unwrapping");
    if (st.code == LOCH_E_DENIED || c->lost)
        return st;
    fingerprint(s, key, now);
    if (memcmp(c->inner + 1, none, sizeof none) != 0 && memcmp(now, none, sizeof none) != 0 &&
        memcmp(c->inner + 1, now, sizeof now) != 0)
        return LOCH_FAIL(LOCH_E_DENIED, "the KEK was wrapped by another CMK than \"%s\"",
                         c->state->config.object);
    if (st.code == LOCH_E_CORRUPT)
        return st;
    /* Some tokens have one answer for everything: if this CMK works, the blob is at fault. */
    LOCH_TRY(loch_random_secret(&self.key, KMS_KEK_BYTES));
    const bool works = loch_is_ok(wrap_in(&self, s, key));
    loch_secret_fini(&self.key);
    if (works)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the token does not unwrap the KEK (0x%lx)", rv);
    return p11_fail(rv, "unwrapping");
}

static loch_status unwrap_in(struct call *c, const struct p11_session *s, CK_OBJECT_HANDLE key)
{
    uint8_t *iv = c->inner + 1 + FINGERPRINT_BYTES;
    CK_GCM_PARAMS params = gcm(c, iv);
    CK_MECHANISM mechanism = {CKM_AES_GCM, &params, sizeof params};
    struct loch_secret out = {0};
    CK_ULONG len = LOCH_SECRET_MAX_BYTES;

    LOCH_TRY(loch_secret_create(&out, LOCH_SECRET_MAX_BYTES));
    CK_RV rv = s->f->C_DecryptInit(s->handle, &mechanism, key);
    if (rv == CKR_OK)
        rv = s->f->C_Decrypt(s->handle, iv + IV_BYTES, SEALED_BYTES, out.bytes, &len);
    if (rv == CKR_OK && len == KMS_KEK_BYTES) {
        out.len = len;
        c->key = out;
        return LOCH_OK;
    }
    loch_secret_fini(&out);
    if (rv == CKR_OK)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the token gives back %lu bytes, not a KEK", len);
    return explain(c, s, key, rv);
}

static loch_status attempt(struct call *c)
{
    struct p11_session s;
    CK_OBJECT_HANDLE key = 0;

    c->lost = false;
    LOCH_TRY(p11_enter(c->state->token, &s));
    loch_status st = find_key(c, &s, &key);
    if (loch_is_ok(st))
        st = c->wrap ? wrap_in(c, &s, key) : unwrap_in(c, &s, key);
    p11_leave(&s);
    if (c->lost)
        p11_forget(&s);
    return st;
}

/* ---- calls ---- */

static void call_run(void *arg)
{
    struct call *c = arg;

    c->st = attempt(c);
    if (c->lost)
        c->st = attempt(c);
    if (!loch_is_ok(c->st))
        (void)snprintf(c->text, sizeof c->text, "%s", loch_error_text());
}

static void call_drop(void *arg)
{
    struct call *c = arg;

    loch_secret_fini(&c->key);
    pkcs11_close(c->state);
    free(c);
}

static loch_status call_new(struct p11_state *s, struct loch_slice context, bool wrap,
                            struct call **out)
{
    struct call *c = calloc(1, sizeof *c);

    if (c == NULL || context.len > sizeof c->context) {
        free(c);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a call of the key service");
    }
    (void)atomic_fetch_add(&s->users, 1);
    c->state = s;
    c->wrap = wrap;
    memcpy(c->context, context.data, context.len);
    c->context_len = context.len;
    *out = c;
    return LOCH_OK;
}

/* On failure the call is gone. */
static loch_status call_do(struct call *c)
{
    LOCH_TRY(kms_run_within(&c->state->at_once, TIMEOUT_MS, call_run, call_drop, c));
    if (loch_is_ok(c->st))
        return LOCH_OK;
    const enum loch_code code = c->st.code;
    const loch_status st = LOCH_FAIL(code, "%s", c->text);
    call_drop(c);
    return st;
}

static loch_status pkcs11_wrap(void *state, struct loch_slice context,
                               const struct loch_secret *key, struct loch_buf *out)
{
    struct call *c = NULL;

    if (key->len != KMS_KEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KEK has %u bytes, not %zu", KMS_KEK_BYTES, key->len);
    LOCH_TRY(call_new(state, context, true, &c));
    loch_status st = loch_secret_copy(&c->key, key);
    if (!loch_is_ok(st)) {
        call_drop(c);
        return st;
    }
    LOCH_TRY(call_do(c));
    st = kms_envelope_write(LOCH_PROVIDER_PKCS11, context, key,
                            loch_slice_of(c->inner, sizeof c->inner), out);
    call_drop(c);
    return st;
}

static loch_status pkcs11_unwrap(void *state, struct loch_slice context, struct loch_slice blob,
                                 struct loch_secret *out)
{
    struct loch_slice inner;
    struct call *c = NULL;

    LOCH_TRY(kms_envelope_read(LOCH_PROVIDER_PKCS11, blob, &inner));
    if (inner.len != INNER_BYTES || inner.data[0] != 1)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is not one of a PKCS#11 token");
    LOCH_TRY(call_new(state, context, false, &c));
    memcpy(c->inner, inner.data, INNER_BYTES);
    LOCH_TRY(call_do(c));
    const loch_status st = kms_envelope_prove(blob, context, &c->key);
    if (loch_is_ok(st)) {
        *out = c->key;
        c->key = (struct loch_secret){0};
    }
    call_drop(c);
    return st;
}

const struct kms_provider kms_pkcs11_provider = {
    .id = LOCH_PROVIDER_PKCS11,
    .customer_held = true,
    .scheme = "pkcs11:",
    .open = pkcs11_open,
    .close = pkcs11_close,
    .wrap = pkcs11_wrap,
    .unwrap = pkcs11_unwrap,
};
