/* Images of every kind, with and without a hole; streams that are too short, too long, or point
 * before their beginning. */
#include "records.h"

#include <lz4.h>
#include <zstd.h>

#define HOLE_AT  200u
#define HOLE_LEN 7000u
#define REST     (LOCH_PAGE_BYTES - HOLE_LEN)

static uint8_t want[LOCH_PAGE_BYTES]; /* the page */
static uint8_t body[REST];            /* without its hole */

static int setup(void **state)
{
    (void)state;
    memset(want, 0, sizeof want);
    loch_page_init(want, 0);
    for (uint32_t i = 24; i < HOLE_AT; i++)
        want[i] = (uint8_t)(i % 11 + 1);
    for (uint32_t i = HOLE_AT + HOLE_LEN; i < LOCH_PAGE_BYTES; i++)
        want[i] = (uint8_t)(i % 13 + 1);
    memcpy(body, want, HOLE_AT);
    memcpy(body + HOLE_AT, want + HOLE_AT + HOLE_LEN, REST - HOLE_AT);
    return 0;
}

static struct loch_wal_block image(uint8_t compression, const void *bytes, size_t len)
{
    struct loch_wal_block b = reference(0, NULL, 0);
    b.has_image = b.apply_image = true;
    b.compression = compression;
    b.hole_offset = HOLE_AT;
    b.hole_length = HOLE_LEN;
    b.image = loch_slice_of(bytes, len);
    return b;
}

static void assert_opens(const struct loch_wal_block *b)
{
    uint8_t page[LOCH_PAGE_BYTES];

    memset(page, 0xEE, sizeof page);
    assert_ok(loch_redo_image(b, page));
    assert_memory_equal(page, want, sizeof page);
}

/* Neither with its last byte cut off nor with a longer or shorter hole. */
static void assert_refuses_others(struct loch_wal_block b)
{
    uint8_t page[LOCH_PAGE_BYTES];

    b.image.len--;
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
    b.image.len++;
    b.hole_length++;
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
    b.hole_length = (uint16_t)(b.hole_length - 2);
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
}

static void test_plain(void **state)
{
    struct loch_wal_block b = image(LOCH_WAL_PLAIN, body, sizeof body);
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    assert_opens(&b);
    b = image(LOCH_WAL_PLAIN, want, sizeof want);
    b.hole_offset = b.hole_length = 0;
    assert_opens(&b);
    b.image.len--;
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
    b.hole_offset = 8000;
    b.hole_length = 300;
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
    b.has_image = false;
    assert_code(loch_redo_image(&b, page), LOCH_E_INVALID);
}

static void test_lz4(void **state)
{
    char packed[2 * LOCH_PAGE_BYTES];
    int len = LZ4_compress_default((const char *)body, packed, sizeof body, sizeof packed);

    (void)state;
    assert_true(len > 0);
    struct loch_wal_block b = image(LOCH_WAL_LZ4, packed, (size_t)len);
    assert_opens(&b);
    assert_refuses_others(b);
}

static void test_zstd(void **state)
{
    uint8_t packed[2 * LOCH_PAGE_BYTES];
    size_t len = ZSTD_compress(packed, sizeof packed, body, sizeof body, 3);

    (void)state;
    assert_false(ZSTD_isError(len));
    struct loch_wal_block b = image(LOCH_WAL_ZSTD, packed, len);
    assert_opens(&b);
    assert_refuses_others(b);
}

/* Eight literals after each control byte of 0. */
static size_t pglz_literals(uint8_t *out, const uint8_t *in, size_t len)
{
    size_t made = 0;

    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0)
            out[made++] = 0;
        out[made++] = in[i];
    }
    return made;
}

static void test_pglz(void **state)
{
    uint8_t packed[2 * LOCH_PAGE_BYTES];
    struct loch_wal_block b =
        image(LOCH_WAL_PGLZ, packed, pglz_literals(packed, body, sizeof body));

    (void)state;
    assert_opens(&b);
    assert_refuses_others(b);
}

static void test_pglz_copies(void **state)
{
    /* literals a b, a copy of 17 from 2 back, a copy of 18 + 255 from 2 back, ... */
    static const uint8_t copies[] = {0x0C, 'a', 'b', 0x0E, 0x02, 0x0F, 0x02, 0xFF};
    static const uint8_t before[] = {0x02, 'a', 0x00, 0x02};    /* 2 back after one byte */
    static const uint8_t none_back[] = {0x02, 'a', 0x00, 0x00}; /* 0 back */
    static const uint8_t cut_tag[] = {0x02, 'a', 0x00};
    static const uint8_t cut_long[] = {0x02, 'a', 0x0F, 0x01};
    uint8_t page[LOCH_PAGE_BYTES];
    struct loch_wal_block b = image(LOCH_WAL_PGLZ, copies, sizeof copies);

    (void)state;
    b.hole_offset = 2;
    b.hole_length = (uint16_t)(LOCH_PAGE_BYTES - (2 + 17 + 18 + 255));
    assert_ok(loch_redo_image(&b, page));
    assert_memory_equal(page, "ab", 2);
    for (uint32_t i = 2; i < 2u + b.hole_length; i++)
        assert_int_equal(page[i], 0);
    for (uint32_t i = 2u + b.hole_length; i < LOCH_PAGE_BYTES; i++)
        assert_int_equal(page[i], i % 2 == 0 ? 'a' : 'b');
    b.hole_length++; /* the copy then passes the end */
    assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);

    b.hole_length = LOCH_PAGE_BYTES - 4;
    const struct loch_slice bad[] = {
        loch_slice_of(before, sizeof before), loch_slice_of(none_back, sizeof none_back),
        loch_slice_of(cut_tag, sizeof cut_tag), loch_slice_of(cut_long, sizeof cut_long)};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        b.image = bad[i];
        assert_code(loch_redo_image(&b, page), LOCH_E_CORRUPT);
    }
}

/* As the page of any record: the LSN is set, but not on a page of zeros. */
static void test_restored_by_any_record(void **state)
{
    struct loch_wal_record r = record_of(LOCH_RM_GIN, 0x20, NULL, 0, NULL, 0);
    uint8_t page[LOCH_PAGE_BYTES] = {1};
    static const uint8_t zeros[LOCH_PAGE_BYTES];

    (void)state;
    r.blocks[0] = image(LOCH_WAL_PLAIN, body, sizeof body);
    assert_applied(&r, 0x200000300, page);
    assert_int_equal(loch_page_lsn(page), 0x200000300);
    assert_memory_equal(page + 8, want + 8, sizeof page - 8);

    r.blocks[0].image = loch_slice_of(zeros, sizeof zeros);
    r.blocks[0].hole_offset = r.blocks[0].hole_length = 0;
    assert_applied(&r, 0x300, page);
    assert_memory_equal(page, zeros, sizeof page);

    r.blocks[0].apply_image = false; /* an image for checking only, of a foreign kind of record */
    heap_page(page, 1);
    assert_not_handled(&r, 0x300, page);
    r.blocks[0].apply_image = true;
    r.blocks[0].compression = LOCH_WAL_PGLZ;
    assert_corrupt(&r, 0x300, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_lz4),
        cmocka_unit_test(test_zstd),        cmocka_unit_test(test_pglz),
        cmocka_unit_test(test_pglz_copies), cmocka_unit_test(test_restored_by_any_record),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
