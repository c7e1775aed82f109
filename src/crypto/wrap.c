/* Holds: wrapping a DEK, bound to its place, and commitments to keys.
 * Source: RFC 3394 (AES key wrap), RFC 5869. */
#include "loch/crypto/wrap.h"
#include "algorithms.h"
#include "loch/base/check.h"
#include "loch/crypto/hkdf.h"

#include <openssl/err.h>

static const char wrap_label[] = "loch dek wrap v1";
static const char commit_label[] = "loch commit v1";
#define PLACE_MAX_BYTES 256u

void loch_wrap_key_fini(struct loch_wrap_key *key)
{
    loch_secret_fini(&key->secret);
    *key = (struct loch_wrap_key){0};
}

static loch_status wrapping_key(const struct loch_secret *key, struct loch_slice salt,
                                struct loch_slice place, struct loch_secret *out)
{
    uint8_t info[sizeof wrap_label + PLACE_MAX_BYTES];

    LOCH_ASSERT(place.len <= PLACE_MAX_BYTES);
    memcpy(info, wrap_label, sizeof wrap_label); /* with its NUL: the end of the label */
    if (place.len > 0)
        memcpy(info + sizeof wrap_label, place.data, place.len);
    return loch_hkdf(LOCH_HASH_SHA256, key, salt,
                     loch_slice_of(info, sizeof wrap_label + place.len), LOCH_DEK_BYTES, out);
}

/* One pass of AES-256-WRAP; false when OpenSSL refuses or the unwrap does not check out. */
static bool wrap_pass(const struct loch_algorithms *alg, const struct loch_secret *key, int sealing,
                      struct loch_slice in, uint8_t *out, size_t want)
{
    int n = 0;
    int last = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (ctx == NULL)
        return false;
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    bool done = EVP_CipherInit_ex2(ctx, alg->wrap, key->bytes, NULL, sealing, NULL) == 1 &&
                EVP_CipherUpdate(ctx, out, &n, in.data, (int)in.len) == 1 &&
                EVP_CipherFinal_ex(ctx, out + n, &last) == 1 && n >= 0 && last >= 0 &&
                (size_t)n + (size_t)last == want;
    EVP_CIPHER_CTX_free(ctx);
    return done;
}

loch_status loch_dek_wrap(const struct loch_secret *key, struct loch_slice salt,
                          struct loch_slice place, const struct loch_secret *dek,
                          uint8_t out[static LOCH_WRAPPED_DEK_BYTES])
{
    const struct loch_algorithms *alg;
    struct loch_secret wrapping = {0};

    if (dek->len != LOCH_DEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a DEK has 32 bytes, not %zu", dek->len);
    LOCH_TRY(loch_algorithms(&alg));
    LOCH_TRY(wrapping_key(key, salt, place, &wrapping));
    bool done = wrap_pass(alg, &wrapping, 1, loch_slice_of(dek->bytes, dek->len), out,
                          LOCH_WRAPPED_DEK_BYTES);
    loch_secret_fini(&wrapping);
    return done ? LOCH_OK : loch_openssl_failed("AES key wrap");
}

loch_status loch_dek_unwrap(const struct loch_secret *key, struct loch_slice salt,
                            struct loch_slice place, struct loch_slice wrapped,
                            struct loch_secret *out)
{
    const struct loch_algorithms *alg;
    struct loch_secret wrapping = {0};
    struct loch_secret dek = {0};
    loch_status st;

    if (wrapped.len != LOCH_WRAPPED_DEK_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped DEK of %zu bytes", wrapped.len);
    LOCH_TRY(loch_algorithms(&alg));
    LOCH_TRY(wrapping_key(key, salt, place, &wrapping));
    /* A slot has 64 bytes: OpenSSL may use up to 8 more than the result has. */
    LOCH_TRY_OUT(st, loch_secret_create(&dek, LOCH_DEK_BYTES));
    if (!wrap_pass(alg, &wrapping, 0, wrapped, dek.bytes, LOCH_DEK_BYTES)) {
        ERR_clear_error();
        st = LOCH_FAIL(LOCH_E_CORRUPT, "the wrapped key does not open with this key and place");
        goto out;
    }
    *out = dek;
    dek = (struct loch_secret){0};
out:
    loch_secret_fini(&dek);
    loch_secret_fini(&wrapping);
    return st;
}

loch_status loch_key_commitment(const struct loch_secret *key, struct loch_slice salt,
                                uint8_t out[static LOCH_COMMITMENT_BYTES])
{
    struct loch_secret s = {0};

    LOCH_TRY(loch_hkdf(LOCH_HASH_SHA256, key, salt,
                       loch_slice_of(commit_label, sizeof commit_label), LOCH_COMMITMENT_BYTES,
                       &s));
    memcpy(out, s.bytes, LOCH_COMMITMENT_BYTES);
    loch_secret_fini(&s);
    return LOCH_OK;
}
