/* Btree insertions into pages made by hand. */
#include "records.h"

static uint8_t page[LOCH_PAGE_BYTES];

/* An index tuple: heap block, item, size, a key of 8 bytes. */
static void index_tuple(uint8_t out[16], uint32_t block, uint32_t number, char key)
{
    memset(out, 0, 16);
    loch_put_u16(out + 2, (uint16_t)block);
    loch_put_u16(out + 4, (uint16_t)number);
    loch_put_u16(out + 6, 16);
    memset(out + 8, key, 8);
}

static int setup(void **state)
{
    uint8_t tuple[16];

    (void)state;
    loch_page_init(page, 16);
    loch_put_u16(page + 8192 - 16 + 12, 0x81); /* a leaf whose split is incomplete */
    for (uint32_t i = 1; i <= 3; i++) {
        index_tuple(tuple, 1, i, (char)('a' + i));
        put_item(page, tuple, sizeof tuple);
    }
    loch_page_set_lsn(page, 100);
    return 0;
}

static void test_insert(void **state)
{
    uint8_t main[2] = {2, 0}, tuple[16];
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x00, main, 2, tuple, sizeof tuple);

    (void)state;
    index_tuple(tuple, 9, 9, 'B');
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 4 * 4);
    assert_int_equal(item_of(page, 1)[8], 'b');
    assert_int_equal(item_of(page, 2)[8], 'B');
    assert_int_equal(item_of(page, 3)[8], 'c'); /* moved up */
    assert_int_equal(item_of(page, 4)[8], 'd');
    assert_int_equal(loch_page_lsn(page), 500);
    main[0] = 6;
    assert_corrupt(&r, 600, page);
    main[0] = 1;
    r.blocks[0].data.len = 7;
    assert_corrupt(&r, 600, page);
    loch_put_u16(page + 16, 8192); /* no special space */
    r.blocks[0].data.len = 16;
    assert_corrupt(&r, 600, page);
}

static void test_insert_upper(void **state)
{
    const uint8_t main[2] = {4, 0};
    uint8_t tuple[16];
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x10, main, 2, tuple, sizeof tuple);

    (void)state;
    index_tuple(tuple, 9, 9, 'z');
    r.block_count = 2;
    r.blocks[1] = reference(1, NULL, 0);
    r.blocks[1].block = BLOCK + 1;
    assert_applied(&r, 500, page);
    assert_int_equal(item_of(page, 4)[8], 'z');
    assert_int_equal(loch_get_u16(page + 8192 - 4), 0x81);
    r.blocks[0].block = BLOCK + 1; /* as the child */
    r.blocks[1].block = BLOCK;
    assert_applied(&r, 600, page);
    assert_int_equal(loch_get_u16(page + 8192 - 4), 0x01);
    assert_int_equal(lower_of(page), 24 + 4 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_insert, setup),
        cmocka_unit_test_setup(test_insert_upper, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
