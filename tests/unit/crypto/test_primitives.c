/* Known answers and failing sides of random, hash, HKDF, AEAD and wrap. */
#include "../unit.h"

#include "loch/crypto/aead.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/memory.h"
#include "loch/crypto/random.h"
#include "loch/crypto/wrap.h"

#include <pthread.h>

static struct loch_secret secret_of_hex(const char *hex)
{
    uint8_t bytes[LOCH_SECRET_MAX_BYTES];
    struct loch_secret s = {0};
    const size_t len = strlen(hex) / 2;

    assert_ok(loch_hex_parse(hex, bytes, len));
    assert_ok(loch_secret_from(&s, bytes, len));
    return s;
}

static void random_differs(void **state)
{
    uint8_t a[32];
    uint8_t b[32];
    struct loch_id id;
    struct loch_secret s = {0};

    (void)state;
    assert_ok(loch_random_bytes(a, sizeof a));
    assert_ok(loch_random_bytes(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(loch_random_id(&id));
    assert_false(loch_id_is_none(&id));
    assert_code(loch_random_secret(&s, 0), LOCH_E_INVALID);
    assert_code(loch_random_secret(&s, LOCH_SECRET_MAX_BYTES + 1), LOCH_E_INVALID);
    loch_random_test_seed(7);
    assert_ok(loch_random_bytes(a, sizeof a));
    loch_random_test_seed(7);
    assert_ok(loch_random_bytes(b, sizeof b));
    assert_memory_equal(a, b, sizeof a);
    loch_random_test_seed(0);
    assert_ok(loch_random_bytes(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_code(loch_crypto_memory_init(), LOCH_E_INVALID); /* OpenSSL is in use already */
    assert_int_equal(loch_crypto_memory_now().held_bytes, 0);
}

/* FIPS 180-4's "abc", RFC 4231 case 2, RFC 5869 case 1. */
static void hash_known_answers(void **state)
{
    const struct loch_slice parts[2] = {loch_slice_of("a", 1), loch_slice_of("bc", 2)};
    uint8_t digest[32];
    char text[65];
    struct loch_secret key = {0};
    struct loch_secret okm = {0};
    uint8_t salt[13];
    uint8_t info[10];

    (void)state;
    assert_ok(loch_sha256(parts, 2, digest));
    loch_hex_format(digest, 32, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_ok(loch_secret_from(&key, "Jefe", 4));
    assert_ok(loch_hmac_sha256(&key, loch_slice_of("what do ya want for nothing?", 28), digest));
    loch_hex_format(digest, 32, text);
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    loch_secret_fini(&key);
    key = secret_of_hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    assert_ok(loch_hex_parse("000102030405060708090a0b0c", salt, sizeof salt));
    assert_ok(loch_hex_parse("f0f1f2f3f4f5f6f7f8f9", info, sizeof info));
    assert_ok(loch_hkdf(LOCH_HASH_SHA256, &key, loch_slice_of(salt, 13), loch_slice_of(info, 10),
                        42, &okm));
    loch_hex_format(okm.bytes, 32, text);
    assert_string_equal(text, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
    loch_secret_fini(&okm);
    assert_code(
        loch_hkdf(LOCH_HASH_SHA384, &key, loch_slice_of(NULL, 0), loch_slice_of(NULL, 0), 65, &okm),
        LOCH_E_INVALID);
    assert_ok(loch_hkdf(LOCH_HASH_SHA384, &key, loch_slice_of(NULL, 0), loch_slice_of(NULL, 0), 48,
                        &okm));
    assert_int_equal(okm.len, 48);
    assert_true(loch_bytes_equal("ab", "ab", 2));
    assert_false(loch_bytes_equal("ab", "aa", 2));
    loch_secret_fini(&okm);
    loch_secret_fini(&key);
}

static void aead_round_trip_and_tamper(void **state)
{
    const struct loch_nonce nonce = {3, 77};
    const struct loch_slice aad[2] = {loch_slice_of("he", 2), loch_slice_of("ader", 4)};
    const struct loch_slice same = loch_slice_of("header", 6);
    struct loch_secret key = {0};
    struct loch_aead *seal = NULL;
    struct loch_aead *open = NULL;
    uint8_t plain[1000];
    uint8_t sealed[1016];
    uint8_t out[1000];

    (void)state;
    assert_ok(loch_random_secret(&key, 16));
    assert_code(loch_aead_create(&key, LOCH_AEAD_SEAL, &seal), LOCH_E_INVALID);
    loch_secret_fini(&key);
    assert_ok(loch_random_secret(&key, 32));
    assert_ok(loch_aead_create(&key, LOCH_AEAD_SEAL, &seal));
    assert_ok(loch_aead_create(&key, LOCH_AEAD_OPEN, &open));
    memset(plain, 5, sizeof plain);
    for (size_t len = 0; len <= sizeof plain; len += 250) {
        const struct loch_slice whole = loch_slice_of(sealed, len + 16);
        assert_ok(loch_aead_seal(seal, nonce, aad, 2, loch_slice_of(plain, len), sealed));
        assert_ok(loch_aead_open(open, nonce, &same, 1, whole, out));
        assert_memory_equal(plain, out, len);
        for (size_t i = 0; i < len + 16; i += 13) {
            sealed[i] ^= 0x10;
            assert_code(loch_aead_open(open, nonce, &same, 1, whole, out), LOCH_E_CORRUPT);
            sealed[i] ^= 0x10;
        }
        assert_code(loch_aead_open(open, (struct loch_nonce){3, 78}, &same, 1, whole, out),
                    LOCH_E_CORRUPT);
        assert_code(loch_aead_open(open, (struct loch_nonce){4, 77}, &same, 1, whole, out),
                    LOCH_E_CORRUPT);
        assert_code(loch_aead_open(open, nonce, &same, 0, whole, out), LOCH_E_CORRUPT);
        assert_ok(loch_aead_open(open, nonce, &same, 1, whole, out));
    }
    assert_code(loch_aead_open(open, nonce, &same, 1, loch_slice_of(sealed, 15), out),
                LOCH_E_CORRUPT);
    loch_aead_destroy(seal);
    loch_aead_destroy(open);
    loch_aead_destroy(NULL);
    loch_secret_fini(&key);
}

/* NIST GCM test case 14's shape: all-zero key and block, nonce zero. */
static void aead_known_answer(void **state)
{
    struct loch_secret key = {0};
    struct loch_aead *seal = NULL;
    uint8_t zero[16] = {0};
    uint8_t out[32];
    char text[65];

    (void)state;
    assert_ok(loch_secret_create(&key, 32));
    assert_ok(loch_aead_create(&key, LOCH_AEAD_SEAL, &seal));
    assert_ok(
        loch_aead_seal(seal, (struct loch_nonce){0, 0}, NULL, 0, loch_slice_of(zero, 16), out));
    loch_hex_format(out, 32, text);
    assert_string_equal(text, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    loch_aead_destroy(seal);
    loch_secret_fini(&key);
}

static void *pool_worker(void *arg)
{
    struct loch_aead_pool *pool = arg;
    uint8_t plain[64] = {1};
    uint8_t sealed[80];

    for (uint64_t i = 0; i < 2000; i++) {
        struct loch_aead *aead = NULL;
        assert_ok(loch_aead_pool_take(pool, &aead));
        assert_ok(loch_aead_seal(aead, (struct loch_nonce){1, i}, NULL, 0,
                                 loch_slice_of(plain, sizeof plain), sealed));
        loch_aead_pool_give(pool, aead);
    }
    return NULL;
}

static void aead_pool_serves_threads(void **state)
{
    struct loch_secret key = {0};
    struct loch_aead_pool pool;
    struct loch_aead *taken[LOCH_AEAD_POOL_KEPT + 2];
    pthread_t threads[3];

    (void)state;
    assert_ok(loch_random_secret(&key, 32));
    assert_ok(loch_aead_pool_init(&pool, &key, LOCH_AEAD_SEAL));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pool_worker, &pool), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT + 2; i++)
        assert_ok(loch_aead_pool_take(&pool, &taken[i]));
    for (size_t i = 0; i < LOCH_AEAD_POOL_KEPT + 2; i++)
        loch_aead_pool_give(&pool, taken[i]);
    loch_aead_pool_fini(&pool);
    loch_secret_fini(&key);
}

static void dek_wrap_is_bound(void **state)
{
    struct loch_secret tk = {0};
    struct loch_secret other = {0};
    struct loch_secret dek = {0};
    struct loch_secret back = {0};
    const struct loch_slice salt = loch_slice_of("salt", 4);
    const struct loch_slice place = loch_slice_of("tenant/timeline/file", 20);
    uint8_t wrapped[LOCH_WRAPPED_DEK_BYTES];
    const struct loch_slice whole = loch_slice_of(wrapped, sizeof wrapped);
    uint8_t c1[32];
    uint8_t c2[32];

    (void)state;
    assert_ok(loch_random_secret(&tk, 32));
    assert_ok(loch_random_secret(&other, 32));
    assert_ok(loch_random_secret(&dek, 16));
    assert_code(loch_dek_wrap(&tk, salt, place, &dek, wrapped), LOCH_E_INVALID);
    loch_secret_fini(&dek);
    assert_ok(loch_random_secret(&dek, 32));
    assert_ok(loch_dek_wrap(&tk, salt, place, &dek, wrapped));
    assert_ok(loch_dek_unwrap(&tk, salt, place, whole, &back));
    assert_true(loch_secret_equal(&dek, &back));
    loch_secret_fini(&back);
    assert_code(loch_dek_unwrap(&other, salt, place, whole, &back), LOCH_E_CORRUPT);
    assert_code(loch_dek_unwrap(&tk, place, place, whole, &back), LOCH_E_CORRUPT);
    assert_code(loch_dek_unwrap(&tk, salt, salt, whole, &back), LOCH_E_CORRUPT);
    assert_code(loch_dek_unwrap(&tk, salt, place, loch_slice_of(wrapped, 39), &back),
                LOCH_E_CORRUPT);
    for (size_t i = 0; i < sizeof wrapped; i++) {
        wrapped[i] ^= 1;
        assert_code(loch_dek_unwrap(&tk, salt, place, whole, &back), LOCH_E_CORRUPT);
        wrapped[i] ^= 1;
    }
    assert_null(back.bytes);
    assert_ok(loch_key_commitment(&tk, salt, c1));
    assert_ok(loch_key_commitment(&other, salt, c2));
    assert_memory_not_equal(c1, c2, 32);
    struct loch_wrap_key owned = {{{1}}, 2, tk};
    loch_wrap_key_fini(&owned);
    assert_null(owned.secret.bytes);
    loch_secret_fini(&other);
    loch_secret_fini(&dek);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_differs),           cmocka_unit_test(hash_known_answers),
        cmocka_unit_test(aead_known_answer),        cmocka_unit_test(aead_round_trip_and_tamper),
        cmocka_unit_test(aead_pool_serves_threads), cmocka_unit_test(dek_wrap_is_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
