/* Holds: the choice of the provider and of the tenant's CMK, and the encryption context's one
 * encoding.
 *
 * Context, 69 bytes: 16 cluster | 16 tenant | 16 key id | u8 purpose | 16 scope | u32 version.
 */
#include "loch/kms/kms.h"
#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "pins.h"
#include "provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTEXT_BYTES 69u

struct loch_kms {
    const struct kms_provider *provider;
    void *state;
    char *uri;
    char **data_dirs; /* NULL-ended; NULL in a pinned one */
    struct kms_pins *pins;
};

static const struct kms_provider *const providers[] = {&kms_file_provider, &kms_pkcs11_provider,
                                                       &kms_aws_provider, &kms_vault_provider};

static void strings_free(char **strings)
{
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
        free(strings[i]);
    free(strings);
}

static loch_status strings_copy(const char *const *from, char ***out)
{
    size_t count = 0;

    while (from != NULL && from[count] != NULL)
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    if (copy == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    for (size_t i = 0; i < count; i++) {
        copy[i] = strdup(from[i]);
        if (copy[i] == NULL) {
            strings_free(copy);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
        }
    }
    *out = copy;
    return LOCH_OK;
}

static loch_status find_provider(const char *uri, const struct kms_provider **out)
{
    char known[200] = "";
    size_t n = 0;

    for (size_t i = 0; i < sizeof providers / sizeof *providers; i++) {
        if (strncmp(uri, providers[i]->scheme, strlen(providers[i]->scheme)) == 0) {
            *out = providers[i];
            return LOCH_OK;
        }
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "",
                              providers[i]->scheme);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "no KMS provider for \"%s\" (known: %s)", uri, known);
}

loch_status kms_open_one(const char *uri, const char *const *data_dirs, struct loch_kms **out)
{
    const struct kms_provider *found = NULL;
    loch_status st;

    if (strlen(uri) > LOCH_KEYRING_URI_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KMS URI has at most %u bytes",
                         LOCH_KEYRING_URI_MAX_BYTES);
    LOCH_TRY(find_provider(uri, &found));
    struct loch_kms *kms = calloc(1, sizeof *kms);
    if (kms == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    kms->uri = strdup(uri);
    if (kms->uri == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
        goto out;
    }
    LOCH_TRY_OUT(st, found->open(uri + strlen(found->scheme), data_dirs, &kms->state));
    kms->provider = found;
    *out = kms;
    return LOCH_OK;
out:
    free(kms->uri);
    free(kms);
    return st;
}

loch_status loch_kms_open(const char *uri, const char *const *data_dirs, struct loch_kms **out)
{
    struct loch_kms *kms = NULL;

    LOCH_TRY(kms_open_one(uri, data_dirs, &kms));
    loch_status st = kms->provider->start == NULL ? LOCH_OK : kms->provider->start(kms->state);
    if (loch_is_ok(st))
        st = strings_copy(data_dirs, &kms->data_dirs);
    if (loch_is_ok(st))
        st = kms_pins_create(&kms->pins);
    if (!loch_is_ok(st)) {
        loch_kms_close(kms);
        return st;
    }
    *out = kms;
    return LOCH_OK;
}

void loch_kms_close(struct loch_kms *kms)
{
    if (kms == NULL)
        return;
    kms_pins_destroy(kms->pins);
    kms->provider->close(kms->state);
    strings_free(kms->data_dirs);
    free(kms->uri);
    free(kms);
}

const char *loch_kms_uri(const struct loch_kms *kms)
{
    return kms->uri;
}

uint8_t loch_kms_provider(const struct loch_kms *kms)
{
    return kms->provider->id;
}

bool loch_kms_customer_held(const struct loch_kms *kms)
{
    return kms->provider->customer_held;
}

/* ---- pins ---- */

loch_status loch_kms_pins_open(struct loch_kms *kms, struct loch_env *env, const char *path)
{
    LOCH_ASSERT(kms->pins != NULL);
    return kms_pins_load(kms->pins, env, path, (const char *const *)kms->data_dirs);
}

loch_status loch_kms_pin(struct loch_kms *kms, const struct loch_id *tenant, const char *uri)
{
    LOCH_ASSERT(kms->pins != NULL);
    return kms_pins_add(kms->pins, tenant, uri, (const char *const *)kms->data_dirs);
}

loch_status loch_kms_unpin(struct loch_kms *kms, const struct loch_id *tenant, const char *uri)
{
    LOCH_ASSERT(kms->pins != NULL);
    return kms_pins_remove(kms->pins, tenant, uri);
}

struct loch_kms *loch_kms_for(struct loch_kms *kms, const struct loch_id *tenant, const char *uri)
{
    struct loch_kms *pinned = kms->pins == NULL ? NULL : kms_pins_find(kms->pins, tenant, uri);

    return pinned != NULL ? pinned : kms;
}

void loch_kms_each_pin(struct loch_kms *kms,
                       void (*fn)(void *arg, const struct loch_id *tenant,
                                  const struct loch_kms *cmk),
                       void *arg)
{
    LOCH_ASSERT(kms->pins != NULL);
    kms_pins_each(kms->pins, fn, arg);
}

/* ---- calls ---- */

static struct loch_slice context_encode(const struct loch_kms_context *c,
                                        uint8_t out[static CONTEXT_BYTES])
{
    memcpy(out, c->cluster.bytes, 16);
    memcpy(out + 16, c->tenant.bytes, 16);
    memcpy(out + 32, c->key_id.bytes, 16);
    out[48] = c->purpose;
    memcpy(out + 49, c->scope.bytes, 16);
    loch_put_u32(out + 65, c->version);
    return loch_slice_of(out, CONTEXT_BYTES);
}

struct loch_kms_context kms_context_decode(struct loch_slice bytes)
{
    struct loch_kms_context c = {.purpose = bytes.data[48],
                                 .version = loch_get_u32(bytes.data + 65)};

    LOCH_ASSERT(bytes.len == CONTEXT_BYTES);
    memcpy(c.cluster.bytes, bytes.data, 16);
    memcpy(c.tenant.bytes, bytes.data + 16, 16);
    memcpy(c.key_id.bytes, bytes.data + 32, 16);
    memcpy(c.scope.bytes, bytes.data + 49, 16);
    return c;
}

loch_status loch_kms_wrap(struct loch_kms *kms, const struct loch_kms_context *context,
                          const struct loch_secret *key, struct loch_buf *out)
{
    const struct loch_kms *one = loch_kms_for(kms, &context->tenant, NULL);
    uint8_t bytes[CONTEXT_BYTES];
    const size_t mark = out->len;

    LOCH_TRY(one->provider->wrap(one->state, context_encode(context, bytes), key, out));
    LOCH_ASSERT(out->len - mark <= LOCH_KMS_WRAP_MAX_BYTES);
    return LOCH_OK;
}

loch_status loch_kms_unwrap(struct loch_kms *kms, const struct loch_kms_context *context,
                            struct loch_slice blob, struct loch_secret *out)
{
    const struct loch_kms *one = loch_kms_for(kms, &context->tenant, NULL);
    uint8_t bytes[CONTEXT_BYTES];

    if (blob.len > LOCH_KMS_WRAP_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK of %zu bytes is damaged", blob.len);
    return one->provider->unwrap(one->state, context_encode(context, bytes), blob, out);
}

static uint64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static loch_status refuse_other_context(struct loch_kms *kms, const struct loch_kms_context *right,
                                        struct loch_slice blob)
{
    struct loch_kms_context other = *right;
    struct loch_secret got = {0};

    other.key_id.bytes[0] ^= 1;
    const loch_status st = loch_kms_unwrap(kms, &other, blob, &got);
    loch_secret_fini(&got);
    if (loch_is_ok(st))
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s unwraps a key under another encryption context: it "
                         "does not bind the context",
                         kms->uri);
    return st.code == LOCH_E_CORRUPT ? LOCH_OK : st;
}

loch_status loch_kms_check(struct loch_kms *kms, uint64_t *wrap_us, uint64_t *unwrap_us)
{
    struct loch_kms_context context = {.purpose = LOCH_PURPOSE_META, .version = 1};
    struct loch_secret key = {0};
    struct loch_secret back = {0};
    struct loch_buf blob = {0};
    loch_status st;

    LOCH_TRY_OUT(st, loch_random_id(&context.key_id));
    LOCH_TRY_OUT(st, loch_random_secret(&key, 32));
    const uint64_t begun = now_us();
    LOCH_TRY_OUT(st, loch_kms_wrap(kms, &context, &key, &blob));
    const uint64_t wrapped = now_us();
    LOCH_TRY_OUT(st, loch_kms_unwrap(kms, &context, loch_buf_slice(&blob), &back));
    const uint64_t unwrapped = now_us();
    if (!loch_secret_equal(&key, &back)) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s unwraps another key than the one it wrapped", kms->uri);
        goto out;
    }
    LOCH_TRY_OUT(st, refuse_other_context(kms, &context, loch_buf_slice(&blob)));
    if (wrap_us != NULL)
        *wrap_us = wrapped - begun;
    if (unwrap_us != NULL)
        *unwrap_us = unwrapped - wrapped;
out:
    loch_secret_fini(&key);
    loch_secret_fini(&back);
    loch_buf_fini(&blob);
    return st;
}
