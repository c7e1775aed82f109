/* Ed25519 against RFC 8032, section 7.1, test 2. */
#include "../unit.h"

#include "loch/base/types.h"
#include "loch/crypto/sign.h"

static void rfc_8032_test_2(void **state)
{
    struct loch_secret seed = {0};
    struct loch_sign_key *key = NULL;
    uint8_t want_public[32], want[64], public_key[32], got[64];
    const uint8_t message = 0x72;
    const struct loch_slice m = loch_slice_of(&message, 1);

    (void)state;
    assert_ok(loch_secret_create(&seed, 32));
    assert_ok(loch_hex_parse("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                             seed.bytes, 32));
    assert_ok(loch_hex_parse("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                             want_public, 32));
    assert_ok(loch_hex_parse("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                             "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
                             want, 64));
    assert_ok(loch_sign_key_create(&seed, &key));
    loch_sign_public(key, public_key);
    assert_memory_equal(public_key, want_public, 32);
    assert_ok(loch_sign(key, m, got));
    assert_memory_equal(got, want, 64);
    assert_ok(loch_sign_verify(public_key, m, got));
    for (size_t i = 0; i < 64; i += 7) {
        got[i] ^= 1;
        assert_code(loch_sign_verify(public_key, m, got), LOCH_E_CORRUPT);
        got[i] ^= 1;
    }
    assert_code(loch_sign_verify(public_key, loch_slice_of("s", 1), got), LOCH_E_CORRUPT);
    public_key[3] ^= 1;
    assert_false(loch_is_ok(loch_sign_verify(public_key, m, got)));
    loch_sign_key_destroy(key);
    loch_sign_key_destroy(NULL);
    seed.len = 31;
    assert_code(loch_sign_key_create(&seed, &key), LOCH_E_INVALID);
    seed.len = 32;
    loch_secret_fini(&seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rfc_8032_test_2)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
