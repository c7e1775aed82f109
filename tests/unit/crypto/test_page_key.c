/* The page key's frame: one form, fixed; nonsense is refused. */
#include "../unit.h"

#include "loch/crypto/page_key.h"

static void frames(void **state)
{
    uint8_t frame[LOCH_PAGE_KEY_BYTES];
    struct loch_slice identity, psk_bytes;
    struct loch_secret psk = {0};

    (void)state;
    assert_ok(loch_secret_create(&psk, LOCH_PSK_BYTES));
    memset(psk.bytes, 0x5a, LOCH_PSK_BYTES);
    loch_page_key_encode(loch_slice_of("who", 3), &psk, frame);
    assert_memory_equal(frame, "\3\0who\0", 6);
    assert_int_equal(frame[2 + LOCH_PSK_IDENTITY_MAX_BYTES], 0x5a);
    assert_ok(loch_page_key_decode(frame, &identity, &psk_bytes));
    assert_int_equal(identity.len, 3);
    assert_memory_equal(identity.data, "who", 3);
    assert_int_equal(psk_bytes.len, LOCH_PSK_BYTES);
    assert_memory_equal(psk_bytes.data, psk.bytes, LOCH_PSK_BYTES);
    frame[0] = 0;
    assert_code(loch_page_key_decode(frame, &identity, &psk_bytes), LOCH_E_CORRUPT);
    frame[0] = 1;
    frame[1] = 1; /* 257 */
    assert_code(loch_page_key_decode(frame, &identity, &psk_bytes), LOCH_E_CORRUPT);
    loch_secret_fini(&psk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
