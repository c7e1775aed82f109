/* Base: ids, LSNs, cursors, CRC, secrets, status. */
#include "../unit.h"

#include "loch/base/buf.h"
#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"

#include <stdlib.h>

static void lsn_text(void **state)
{
    loch_lsn lsn = 7;
    (void)state;
    assert_ok(loch_lsn_parse("16/B374D848", &lsn));
    assert_true(lsn == UINT64_C(0x16B374D848));
    assert_code(loch_lsn_parse("16", &lsn), LOCH_E_INVALID);
    assert_code(loch_lsn_parse("16/", &lsn), LOCH_E_INVALID);
    assert_code(loch_lsn_parse("16/123456789", &lsn), LOCH_E_INVALID);
    assert_code(loch_lsn_parse("x/1", &lsn), LOCH_E_INVALID);
    assert_true(lsn == UINT64_C(0x16B374D848));
}

static void id_text(void **state)
{
    struct loch_id id = {{0}};
    char text[LOCH_ID_TEXT_BYTES];
    (void)state;
    assert_true(loch_id_is_none(&id));
    assert_ok(loch_id_parse("00112233445566778899aabbccddeeFF", &id));
    assert_string_equal(loch_id_format(&id, text), "00112233445566778899aabbccddeeff");
    assert_code(loch_id_parse("0011", &id), LOCH_E_INVALID);
    assert_code(loch_id_parse("00112233445566778899aabbccddeefg", &id), LOCH_E_INVALID);
    assert_int_equal(id.bytes[15], 0xff);
}

static void cursor_round_trip(void **state)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_reader r;
    (void)state;
    loch_writer_init(&w, &buf);
    loch_write_u8(&w, 1);
    loch_write_u16(&w, 0x0203);
    loch_write_u32(&w, 0x04050607);
    loch_write_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
    loch_write_lp(&w, loch_slice_of("abc", 3));
    assert_ok(loch_writer_finish(&w));
    assert_int_equal(buf.len, 1 + 2 + 4 + 8 + 4 + 3);
    assert_int_equal(buf.data[1], 3); /* little-endian */
    loch_reader_init(&r, loch_buf_slice(&buf));
    assert_int_equal(loch_read_u8(&r), 1);
    assert_int_equal(loch_read_u16(&r), 0x0203);
    assert_int_equal(loch_read_u32(&r), 0x04050607);
    assert_true(loch_read_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_code(loch_reader_finish(&r, "message"), LOCH_E_CORRUPT); /* bytes left over */
    struct loch_slice s = loch_read_lp(&r, 3);
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "abc", 3);
    assert_ok(loch_reader_finish(&r, "message"));
    assert_int_equal(loch_read_u32(&r), 0);
    assert_code(loch_reader_finish(&r, "message"), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);
}

static void cursor_absurd_length(void **state)
{
    struct loch_reader r;
    (void)state;
    loch_reader_init(&r, loch_slice_of("\xff\xff\xff\xff", 4));
    assert_int_equal(loch_read_lp(&r, 100).len, 0);
    assert_code(loch_reader_finish(&r, "message"), LOCH_E_CORRUPT);
}

static void buf_consume(void **state)
{
    struct loch_buf buf = {0};
    (void)state;
    assert_ok(loch_buf_append(&buf, "hello", 5));
    loch_buf_consume(&buf, 2);
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "llo", 3);
    assert_code(loch_buf_reserve(&buf, SIZE_MAX), LOCH_E_NO_MEMORY);
    loch_buf_fini(&buf);
}

/* Short and long runs are computed by different means: both as the polynomial says, in any split.
 */
static void crc_every_length(void **state)
{
    uint8_t bytes[700];
    uint32_t slow = LOCH_CRC32C_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t len = 0; len < sizeof bytes; len++) {
        uint32_t split = loch_crc32c_update(LOCH_CRC32C_INIT, bytes, len / 3);
        assert_true(loch_crc32c_update(LOCH_CRC32C_INIT, bytes, len) == slow);
        assert_true(loch_crc32c_update(split, bytes + len / 3, len - len / 3) == slow);
        slow ^= bytes[len];
        for (int bit = 0; bit < 8; bit++)
            slow = slow >> 1 ^ (slow & 1 ? 0x82F63B78u : 0);
    }
}

static void crc_known_answer(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4: 32 bytes of zeros, and "123456789". */
    uint8_t zeros[32] = {0};
    assert_true(loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, zeros, 32)) == 0x8A9136AA);
    uint32_t crc = loch_crc32c_update(LOCH_CRC32C_INIT, "12345", 5);
    assert_true(loch_crc32c_finish(loch_crc32c_update(crc, "6789", 4)) == 0xE3069283);
}

static void secrets(void **state)
{
    struct loch_secret a = {0};
    struct loch_secret b = {0};
    (void)state;
    assert_code(loch_secret_create(&a, 0), LOCH_E_INVALID);
    assert_code(loch_secret_create(&a, LOCH_SECRET_MAX_BYTES + 1), LOCH_E_INVALID);
    assert_ok(loch_secret_from(&a, "0123456789abcdef", 16));
    assert_ok(loch_secret_copy(&b, &a));
    assert_true(loch_secret_equal(&a, &b));
    assert_ptr_not_equal(a.bytes, b.bytes);
    b.bytes[3] ^= 1;
    assert_false(loch_secret_equal(&a, &b));
    uint8_t *was = a.bytes;
    loch_secret_fini(&a);
    assert_null(a.bytes);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(was[i], 0); /* the slab stays mapped; the slot is wiped */
    loch_secret_fini(&a);
    loch_secret_fini(&b);
}

/* More than a large daemon's open layers and keyrings hold: nothing is full before memory is. */
static void many_secrets(void **state)
{
    enum { MANY = 70000 };
    struct loch_secret *s = calloc(MANY, sizeof *s);
    const size_t before = loch_secrets_in_use();
    (void)state;
    assert_non_null(s);
    assert_ok(loch_secret_create(&s[0], 32));
    const char *backing = loch_secret_backing();
    loch_secret_fini(&s[0]);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < MANY; i++) {
            assert_ok(loch_secret_create(&s[i], 32));
            for (size_t k = 0; k < 32; k++)
                assert_int_equal(s[i].bytes[k], 0);
            memcpy(s[i].bytes, &i, sizeof i);
        }
        assert_int_equal(loch_secrets_in_use(), before + MANY);
        for (size_t i = 0; i < MANY; i++)
            assert_memory_equal(s[i].bytes, &i, sizeof i);
        for (size_t i = round; i < MANY; i += 7) /* holes, far from one another */
            loch_secret_fini(&s[i]);
        for (size_t i = round; i < MANY; i += 7) {
            assert_ok(loch_secret_create(&s[i], 32));
            memcpy(s[i].bytes, &i, sizeof i);
        }
        for (size_t i = 0; i < MANY; i++)
            assert_memory_equal(s[i].bytes, &i, sizeof i);
        for (size_t i = 0; i < MANY; i++)
            loch_secret_fini(&s[round == 0 ? i : MANY - 1 - i]);
        assert_int_equal(loch_secrets_in_use(), before);
    }
    assert_string_equal(loch_secret_backing(), backing);
    free(s);
}

static loch_status fails(void)
{
    return LOCH_FAIL(LOCH_E_IO, "disk %d is gone", 3);
}

static loch_status wraps(void)
{
    LOCH_TRY(fails());
    return LOCH_OK;
}

static void status_text(void **state)
{
    (void)state;
    assert_code(wraps(), LOCH_E_IO);
    assert_string_equal(loch_error_text(), "disk 3 is gone");
    assert_non_null(strstr(loch_error_where(), "test_base.c:"));
    assert_code(LOCH_FAIL(LOCH_E_CORRUPT, "again: %s", loch_error_text()), LOCH_E_CORRUPT);
    assert_string_equal(loch_error_text(), "again: disk 3 is gone");
    assert_string_equal(loch_code_name(LOCH_E_STALE), "stale");
    assert_code(loch_status_about((loch_status){LOCH_E_CORRUPT}, "a/file"), LOCH_E_CORRUPT);
    assert_string_equal(loch_error_text(), "a/file: again: disk 3 is gone");
    assert_code(loch_status_about((loch_status){LOCH_E_CORRUPT}, "a/file"), LOCH_E_CORRUPT);
    assert_string_equal(loch_error_text(), "a/file: again: disk 3 is gone");
    assert_ok(loch_status_about(LOCH_OK, "a/file"));
}

/* All others are as final as what was asked for. */
static void status_passes(void **state)
{
    (void)state;
    for (int code = LOCH_E_OK; code <= LOCH_E_LAST; code++)
        assert_int_equal(loch_status_passes((loch_status){(enum loch_code)code}),
                         code == LOCH_E_IO || code == LOCH_E_UNAVAILABLE ||
                             code == LOCH_E_NO_MEMORY || code == LOCH_E_KMS_UNAVAILABLE);
}

static void arithmetic(void **state)
{
    uint64_t v = 5;
    (void)state;
    assert_false(loch_add_u64(UINT64_MAX, 1, &v));
    assert_false(loch_mul_u64(UINT64_MAX, 2, &v));
    assert_true(v == 5);
    assert_true(loch_add_u64(2, 3, &v) && loch_mul_u64(v, 4, &v) && v == 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lsn_text),          cmocka_unit_test(id_text),
        cmocka_unit_test(cursor_round_trip), cmocka_unit_test(cursor_absurd_length),
        cmocka_unit_test(buf_consume),       cmocka_unit_test(crc_known_answer),
        cmocka_unit_test(crc_every_length),  cmocka_unit_test(secrets),
        cmocka_unit_test(many_secrets),      cmocka_unit_test(status_text),
        cmocka_unit_test(status_passes),     cmocka_unit_test(arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
