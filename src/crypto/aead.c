/* Holds: AES-256-GCM contexts that keep their key, and a lock-free pool of them.
 * Source: NIST SP 800-38D; nonce = domain | counter, little-endian. */
#include "loch/crypto/aead.h"
#include "algorithms.h"
#include "loch/base/check.h"

#include <openssl/err.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NONCE_BYTES       12u
#define MESSAGE_MAX_BYTES (UINT32_C(1) << 30) /* EVP counts in int */

struct loch_aead {
    EVP_CIPHER_CTX *ctx;
    enum loch_aead_use use;
};

loch_status loch_aead_create(const struct loch_secret *key, enum loch_aead_use use,
                             struct loch_aead **out)
{
    const struct loch_algorithms *alg;

    if (key->len != LOCH_AEAD_KEY_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "an AES-256-GCM key has 32 bytes, not %zu", key->len);
    LOCH_TRY(loch_algorithms(&alg));
    struct loch_aead *aead = calloc(1, sizeof *aead);
    if (aead == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a cipher context");
    aead->use = use;
    aead->ctx = EVP_CIPHER_CTX_new();
    if (aead->ctx == NULL || EVP_CipherInit_ex2(aead->ctx, alg->gcm, key->bytes, NULL,
                                                use == LOCH_AEAD_SEAL ? 1 : 0, NULL) != 1) {
        loch_aead_destroy(aead);
        return loch_openssl_failed("AES-256-GCM key");
    }
    *out = aead;
    return LOCH_OK;
}

void loch_aead_destroy(struct loch_aead *aead)
{
    if (aead == NULL)
        return;
    EVP_CIPHER_CTX_free(aead->ctx); /* wipes the key schedule */
    free(aead);
}

#ifdef LOCH_NULL_CIPHER /* a build that measures what the cipher costs: aead.h */
loch_status loch_aead_seal(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice plain,
                           uint8_t *out)
{
    (void)nonce;
    (void)aad;
    (void)aad_count;
    LOCH_ASSERT(aead->use == LOCH_AEAD_SEAL);
    if (plain.len > 0)
        memmove(out, plain.data, plain.len);
    memset(out + plain.len, 0, LOCH_AEAD_TAG_BYTES);
    return LOCH_OK;
}

loch_status loch_aead_open(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice sealed,
                           uint8_t *out)
{
    (void)nonce;
    (void)aad;
    (void)aad_count;
    LOCH_ASSERT(aead->use == LOCH_AEAD_OPEN);
    if (sealed.len < LOCH_AEAD_TAG_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a sealed message of %zu bytes is too short", sealed.len);
    if (sealed.len > LOCH_AEAD_TAG_BYTES)
        memmove(out, sealed.data, sealed.len - LOCH_AEAD_TAG_BYTES);
    return LOCH_OK;
}
#else
static bool begin(struct loch_aead *aead, struct loch_nonce nonce, const struct loch_slice *aad,
                  size_t aad_count)
{
    uint8_t iv[NONCE_BYTES];
    int n;

    loch_put_u32(iv, nonce.domain);
    loch_put_u64(iv + 4, nonce.counter);
    if (EVP_CipherInit_ex2(aead->ctx, NULL, NULL, iv, -1, NULL) != 1)
        return false;
    for (size_t i = 0; i < aad_count; i++) {
        LOCH_ASSERT(aad[i].len <= MESSAGE_MAX_BYTES);
        if (aad[i].len > 0 &&
            EVP_CipherUpdate(aead->ctx, NULL, &n, aad[i].data, (int)aad[i].len) != 1)
            return false;
    }
    return true;
}

loch_status loch_aead_seal(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice plain,
                           uint8_t *out)
{
    int n = 0;
    uint8_t none[LOCH_AEAD_TAG_BYTES];

    LOCH_ASSERT(aead->use == LOCH_AEAD_SEAL);
    LOCH_ASSERT(plain.len <= MESSAGE_MAX_BYTES);
    bool done = begin(aead, nonce, aad, aad_count);
    if (done && plain.len > 0)
        done = EVP_CipherUpdate(aead->ctx, out, &n, plain.data, (int)plain.len) == 1 &&
               (size_t)n == plain.len;
    done = done && EVP_CipherFinal_ex(aead->ctx, none, &n) == 1 && n == 0 &&
           EVP_CIPHER_CTX_ctrl(aead->ctx, EVP_CTRL_AEAD_GET_TAG, LOCH_AEAD_TAG_BYTES,
                               out + plain.len) == 1;
    if (!done)
        return loch_openssl_failed("AES-256-GCM seal");
    return LOCH_OK;
}

loch_status loch_aead_open(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice sealed,
                           uint8_t *out)
{
    int n = 0;
    uint8_t none[LOCH_AEAD_TAG_BYTES];
    uint8_t tag[LOCH_AEAD_TAG_BYTES];

    LOCH_ASSERT(aead->use == LOCH_AEAD_OPEN);
    LOCH_ASSERT(sealed.len <= MESSAGE_MAX_BYTES);
    if (sealed.len < LOCH_AEAD_TAG_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a sealed message of %zu bytes is too short", sealed.len);
    const size_t len = sealed.len - LOCH_AEAD_TAG_BYTES;
    memcpy(tag, sealed.data + len, sizeof tag);
    bool done = begin(aead, nonce, aad, aad_count);
    if (done && len > 0)
        done = EVP_CipherUpdate(aead->ctx, out, &n, sealed.data, (int)len) == 1 && (size_t)n == len;
    done = done &&
           EVP_CIPHER_CTX_ctrl(aead->ctx, EVP_CTRL_AEAD_SET_TAG, LOCH_AEAD_TAG_BYTES, tag) == 1 &&
           EVP_CipherFinal_ex(aead->ctx, none, &n) == 1;
    if (done)
        return LOCH_OK;
    if (len > 0)
        loch_wipe(out, len); /* unproven plaintext leaves nobody's hands */
    ERR_clear_error();
    return LOCH_FAIL(LOCH_E_CORRUPT, "the authentication tag does not match");
}

#endif /* LOCH_NULL_CIPHER */

loch_status loch_aead_pool_init(struct loch_aead_pool *pool, const struct loch_secret *key,
                                enum loch_aead_use use)
{
    struct loch_secret copy = {0};

    if (key->len != LOCH_AEAD_KEY_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "an AES-256-GCM key has 32 bytes, not %zu", key->len);
    LOCH_TRY(loch_secret_copy(&copy, key));
    pool->key = copy;
    pool->use = use;
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT; i++)
        atomic_init(&pool->kept[i], NULL);
    return LOCH_OK;
}

void loch_aead_pool_fini(struct loch_aead_pool *pool)
{
    if (pool->key.bytes == NULL)
        return;
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT; i++)
        loch_aead_destroy(atomic_exchange(&pool->kept[i], NULL));
    loch_secret_fini(&pool->key);
}

loch_status loch_aead_pool_take(struct loch_aead_pool *pool, struct loch_aead **out)
{
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT; i++) {
        struct loch_aead *aead = atomic_exchange(&pool->kept[i], NULL);
        if (aead != NULL) {
            *out = aead;
            return LOCH_OK;
        }
    }
    return loch_aead_create(&pool->key, pool->use, out);
}

void loch_aead_pool_give(struct loch_aead_pool *pool, struct loch_aead *take_aead)
{
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT; i++) {
        struct loch_aead *empty = NULL;
        if (atomic_compare_exchange_strong(&pool->kept[i], &empty, take_aead))
            return;
    }
    loch_aead_destroy(take_aead);
}
