/* Holds: the choice of the provider, and the encryption context's one encoding.
 *
 * Context, 69 bytes: 16 cluster | 16 tenant | 16 key id | u8 purpose | 16 scope | u32 version.
 */
#include "loch/kms/kms.h"
#include "loch/base/check.h"
#include "provider.h"

#include <stdlib.h>
#include <string.h>

#define CONTEXT_BYTES 69u

struct loch_kms {
    const struct kms_provider *provider;
    void *state;
    char *uri;
};

static const struct kms_provider *const providers[] = {&kms_file_provider};

loch_status loch_kms_open(const char *uri, const char *const *data_dirs, struct loch_kms **out)
{
    const struct kms_provider *found = NULL;
    loch_status st;

    for (size_t i = 0; i < sizeof providers / sizeof *providers; i++)
        if (strncmp(uri, providers[i]->scheme, strlen(providers[i]->scheme)) == 0)
            found = providers[i];
    if (found == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "no KMS provider for \"%s\" (known: file:/path)", uri);
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

void loch_kms_close(struct loch_kms *kms)
{
    if (kms == NULL)
        return;
    kms->provider->close(kms->state);
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

loch_status loch_kms_wrap(struct loch_kms *kms, const struct loch_kms_context *context,
                          const struct loch_secret *key, struct loch_buf *out)
{
    uint8_t bytes[CONTEXT_BYTES];
    const size_t mark = out->len;

    LOCH_TRY(kms->provider->wrap(kms->state, context_encode(context, bytes), key, out));
    LOCH_ASSERT(out->len - mark <= LOCH_KMS_WRAP_MAX_BYTES);
    return LOCH_OK;
}

loch_status loch_kms_unwrap(struct loch_kms *kms, const struct loch_kms_context *context,
                            struct loch_slice blob, struct loch_secret *out)
{
    uint8_t bytes[CONTEXT_BYTES];

    return kms->provider->unwrap(kms->state, context_encode(context, bytes), blob, out);
}
