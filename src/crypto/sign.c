/* Holds: Ed25519. Source: RFC 8032; EVP_PKEY-ED25519(7). */
#include "loch/crypto/sign.h"
#include "algorithms.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct loch_sign_key {
    EVP_PKEY *pkey;
    uint8_t public_key[LOCH_SIGN_PUBLIC_BYTES];
};

loch_status loch_sign_key_create(const struct loch_secret *seed, struct loch_sign_key **out)
{
    size_t len = LOCH_SIGN_PUBLIC_BYTES;

    if (seed->len != LOCH_SIGN_SEED_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "an Ed25519 seed has 32 bytes, not %zu", seed->len);
    struct loch_sign_key *key = calloc(1, sizeof *key);
    if (key == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a signing key");
    key->pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed->bytes, seed->len);
    if (key->pkey == NULL || EVP_PKEY_get_raw_public_key(key->pkey, key->public_key, &len) != 1 ||
        len != LOCH_SIGN_PUBLIC_BYTES) {
        loch_sign_key_destroy(key);
        return loch_openssl_failed("Ed25519 key");
    }
    *out = key;
    return LOCH_OK;
}

void loch_sign_key_destroy(struct loch_sign_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

void loch_sign_public(const struct loch_sign_key *key, uint8_t out[static LOCH_SIGN_PUBLIC_BYTES])
{
    memcpy(out, key->public_key, LOCH_SIGN_PUBLIC_BYTES);
}

loch_status loch_sign(const struct loch_sign_key *key, struct loch_slice message,
                      uint8_t out[static LOCH_SIGNATURE_BYTES])
{
    uint8_t signature[LOCH_SIGNATURE_BYTES];
    size_t len = sizeof signature;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const bool done = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
                      EVP_DigestSign(ctx, signature, &len, message.data, message.len) == 1 &&
                      len == sizeof signature;

    EVP_MD_CTX_free(ctx);
    if (!done)
        return loch_openssl_failed("Ed25519 signature");
    memcpy(out, signature, sizeof signature);
    return LOCH_OK;
}

loch_status loch_sign_verify(const uint8_t public_key[static LOCH_SIGN_PUBLIC_BYTES],
                             struct loch_slice message,
                             const uint8_t signature[static LOCH_SIGNATURE_BYTES])
{
    EVP_PKEY *pkey =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, LOCH_SIGN_PUBLIC_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const bool ready =
        pkey != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1;
    const bool good = ready && EVP_DigestVerify(ctx, signature, LOCH_SIGNATURE_BYTES, message.data,
                                                message.len) == 1;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (!ready)
        return loch_openssl_failed("Ed25519 verification");
    if (!good)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the signature is not of this key and text");
    return LOCH_OK;
}
