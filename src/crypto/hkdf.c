/* Holds: SHA-256, HMAC-SHA256, HKDF. Source: FIPS 180-4, RFC 2104, RFC 5869. */
#include "loch/crypto/hkdf.h"
#include "algorithms.h"
#include "loch/base/check.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

loch_status loch_sha256(const struct loch_slice *parts, size_t count,
                        uint8_t out[static LOCH_SHA256_BYTES])
{
    const struct loch_algorithms *alg;
    uint8_t digest[LOCH_SHA256_BYTES];

    LOCH_TRY(loch_algorithms(&alg));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestInit_ex2(ctx, alg->sha256, NULL) == 1;
    for (size_t i = 0; i < count && done; i++)
        done = EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) == 1;
    done = done && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!done)
        return loch_openssl_failed("SHA-256");
    memcpy(out, digest, sizeof digest);
    return LOCH_OK;
}

loch_status loch_hmac_sha256(const struct loch_secret *key, struct loch_slice message,
                             uint8_t out[static LOCH_SHA256_BYTES])
{
    const struct loch_algorithms *alg;
    char digest_name[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_end(),
    };
    uint8_t mac[LOCH_SHA256_BYTES];
    size_t len = 0;

    LOCH_TRY(loch_algorithms(&alg));
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(alg->hmac);
    bool done = ctx != NULL && EVP_MAC_init(ctx, key->bytes, key->len, params) == 1 &&
                EVP_MAC_update(ctx, message.data, message.len) == 1 &&
                EVP_MAC_final(ctx, mac, &len, sizeof mac) == 1 && len == sizeof mac;
    EVP_MAC_CTX_free(ctx);
    if (!done)
        return loch_openssl_failed("HMAC-SHA256");
    memcpy(out, mac, sizeof mac);
    return LOCH_OK;
}

/* OSSL_PARAM wants writable pointers but only reads them. */
static OSSL_PARAM octets(const char *name, const uint8_t *bytes, size_t len)
{
    union {
        const uint8_t *in;
        uint8_t *out;
    } p = {.in = bytes};

    return OSSL_PARAM_construct_octet_string(name, p.out, len);
}

loch_status loch_hkdf(enum loch_hash hash, const struct loch_secret *ikm, struct loch_slice salt,
                      struct loch_slice info, size_t len, struct loch_secret *out)
{
    const struct loch_algorithms *alg;
    char sha256[] = "SHA256";
    char sha384[] = "SHA384";
    static const uint8_t nothing[1];
    struct loch_secret s = {0};
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                         hash == LOCH_HASH_SHA256 ? sha256 : sha384, 0),
        octets(OSSL_KDF_PARAM_KEY, ikm->bytes, ikm->len),
        octets(OSSL_KDF_PARAM_SALT, salt.len > 0 ? salt.data : nothing, salt.len),
        octets(OSSL_KDF_PARAM_INFO, info.len > 0 ? info.data : nothing, info.len),
        OSSL_PARAM_construct_end(),
    };

    LOCH_ASSERT(ikm->len > 0);
    LOCH_TRY(loch_algorithms(&alg));
    LOCH_TRY(loch_secret_create(&s, len));
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(alg->hkdf);
    bool done = ctx != NULL && EVP_KDF_derive(ctx, s.bytes, len, params) == 1;
    EVP_KDF_CTX_free(ctx);
    if (!done) {
        loch_secret_fini(&s);
        return loch_openssl_failed("HKDF");
    }
    *out = s;
    return LOCH_OK;
}

bool loch_bytes_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}
