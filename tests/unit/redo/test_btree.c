/* Btree records on pages made by hand, field by field, and what does not fit together. That the
 * whole page is PostgreSQL's is shown by tests/integration/redo_consistency.sh. */
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

#define OPAQUE (8192 - 16)

/* A posting tuple: a key of 8 bytes, then the tids (1, 1), (2, 1) ... */
static void posting_tuple(uint8_t *out, uint32_t count, char key)
{
    uint32_t size = (16 + 6 * count + 7) & ~7u;

    memset(out, 0, size);
    loch_put_u16(out + 2, 16);
    loch_put_u16(out + 4, (uint16_t)(0x2000 | count));
    loch_put_u16(out + 6, (uint16_t)(0x2000 | size));
    memset(out + 8, key, 8);
    for (uint32_t i = 0; i < count; i++) {
        loch_put_u16(out + 16 + 6 * i + 2, (uint16_t)(i + 1));
        loch_put_u16(out + 16 + 6 * i + 4, 1);
    }
}

static uint32_t tid_block(const uint8_t *tuple, uint32_t i)
{
    return loch_get_u16(tuple + 16 + 6 * i + 2);
}

static void test_insert_post(void **state)
{
    const uint8_t main[2] = {5, 0};
    uint8_t data[2 + 16] = {2, 0}, list[40];
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x50, main, 2, data, sizeof data);

    (void)state;
    posting_tuple(list, 4, 'p');
    put_item(page, list, sizeof list);
    index_tuple(data + 2, 99, 9, 'p');
    assert_applied(&r, 500, page);
    const uint8_t *t = item_of(page, 4);
    assert_int_equal(tid_block(t, 0), 1);
    assert_int_equal(tid_block(t, 1), 2);
    assert_int_equal(tid_block(t, 2), 99); /* the new one falls in */
    assert_int_equal(tid_block(t, 3), 3);
    assert_int_equal(loch_get_u16(item_of(page, 5) + 2), 4); /* and pushes the last one out */
    data[0] = 4;
    assert_corrupt(&r, 600, page); /* behind the list's end */
    data[0] = 0;
    assert_corrupt(&r, 600, page);
    data[0] = 2;
    r.main_data = loch_slice_of((const uint8_t[]){2, 0}, 2); /* no posting list before it */
    assert_corrupt(&r, 600, page);
    r.main_data = loch_slice_of((const uint8_t[]){1, 0}, 2);
    assert_corrupt(&r, 600, page);
}

static void test_dedup(void **state)
{
    const uint8_t main[2] = {1, 0};
    uint8_t data[4] = {1, 0, 3, 0}; /* from item 1 on, three items */
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x60, main, 2, data, 4);
    uint8_t tuple[16];

    (void)state;
    index_tuple(tuple, 5, 5, 'x');
    put_item(page, tuple, sizeof tuple);
    page[OPAQUE + 12] |= 0x40; /* has garbage */
    loch_put_u32(page + 20, 333);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 2 * 4);
    const uint8_t *t = item_of(page, 1);
    assert_int_equal(loch_get_u16(t + 6), 0x2000 | 40);
    assert_int_equal(loch_get_u16(t + 4), 0x2000 | 3);
    assert_int_equal(loch_get_u16(t + 16 + 12 + 4), 3); /* the third tid's item */
    assert_int_equal(item_of(page, 2)[8], 'x');
    assert_int_equal(page[OPAQUE + 12], 0x81);
    assert_int_equal(loch_get_u32(page + 20), 0); /* a fresh header */
    r.blocks[0].data.len = 3;
    assert_corrupt(&r, 600, page);
    r.blocks[0].data.len = 4;
    loch_put_u16((uint8_t *)(uintptr_t)item_of(page, 1) + 4, 0x2FFF); /* a list beyond its tuple */
    assert_corrupt(&r, 600, page);
}

static void test_vacuum_and_delete(void **state)
{
    /* items 1 and 3 go; of item 4's list the places 0 and 2 */
    uint8_t main[8] = {0, 0, 0, 0, 2, 0, 1, 0};
    uint8_t data[] = {1, 0, 3, 0, 4, 0, 2, 0, 0, 0, 2, 0};
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x70, main, 8, data, sizeof data);
    uint8_t list[40], whole[LOCH_PAGE_BYTES];

    (void)state;
    posting_tuple(list, 4, 'p');
    put_item(page, list, sizeof list);
    loch_put_u16(page + OPAQUE + 14, 77); /* a vacuum's cycle id */
    memcpy(whole, page, sizeof whole);
    assert_applied(&r, 500, page); /* DELETE */
    assert_int_equal(lower_of(page), 24 + 2 * 4);
    assert_int_equal(item_of(page, 1)[8], 'c');
    assert_int_equal(loch_get_u16(item_of(page, 2) + 4), 0x2000 | 2);
    assert_int_equal(tid_block(item_of(page, 2), 0), 2);
    assert_int_equal(tid_block(item_of(page, 2), 1), 4);
    assert_int_equal(loch_get_u16(page + OPAQUE + 14), 77);

    memcpy(page, whole, sizeof whole); /* VACUUM: three items, which is another way */
    r = record_of(LOCH_RM_BTREE, 0xC0, main + 4, 4, (const uint8_t[]){1, 0, 2, 0, 4, 0}, 6);
    main[4] = 3;
    main[6] = 0;
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 28);
    assert_int_equal(upper_of(page), OPAQUE - 16);
    assert_int_equal(item_of(page, 1)[8], 'd');
    assert_corrupt(&r, 600, page); /* they are gone */
    main[4] = 0;
    main[6] = 1;
    memcpy(page, whole, sizeof whole);
    const uint8_t all[] = {4, 0, 4, 0, 0, 0, 1, 0, 2, 0, 3, 0};
    r.blocks[0].data = loch_slice_of(all, sizeof all);
    assert_corrupt(&r, 500, page); /* nothing would be left of the list */
    r.blocks[0].data.len--;
    assert_corrupt(&r, 500, page);
    const uint8_t one_left[] = {4, 0, 3, 0, 0, 0, 1, 0, 2, 0};
    r.blocks[0].data = loch_slice_of(one_left, sizeof one_left);
    assert_applied(&r, 500, page); /* one tid: a plain tuple again */
    assert_int_equal(id_of(page, 4) >> 17, 16);
    assert_int_equal(loch_get_u16(item_of(page, 4) + 2), 4);
    assert_int_equal(loch_get_u16(item_of(page, 4) + 6), 16);
}

/* A split of a leaf with three items: 1 stays, the new one and a high key come, 2 and 3 go right.
 */
static void test_split(void **state)
{
    uint8_t main[10] = {0, 0, 0, 0, 2, 0, 2, 0, 0, 0};
    uint8_t left_data[32], right_data[48];
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0x30, main, 10, left_data, 32);

    (void)state;
    index_tuple(left_data, 8, 8, 'n');
    index_tuple(left_data + 16, 0, 0, 'h');
    for (uint32_t i = 0; i < 3; i++)
        index_tuple(right_data + 16 * i, 1, i, (char)('r' + i));
    r.block_count = 3;
    r.blocks[1] = reference(1, right_data, sizeof right_data);
    r.blocks[1].block = BLOCK + 1;
    r.blocks[1].will_init = true;
    r.blocks[2] = reference(2, NULL, 0);
    r.blocks[2].block = BLOCK + 2;
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 3 * 4);
    assert_int_equal(item_of(page, 1)[8], 'h');
    assert_int_equal(item_of(page, 2)[8], 'b');
    assert_int_equal(item_of(page, 3)[8], 'n');
    assert_int_equal(loch_get_u32(page + OPAQUE + 4), BLOCK + 1);
    assert_int_equal(loch_get_u16(page + OPAQUE + 12), 0x81);
    r.blocks[0].data.len = 16;
    setup(NULL);
    assert_corrupt(&r, 500, page); /* no high key */
    r.blocks[0].data.len = 32;
    main[4] = 9; /* items that the page does not have */
    assert_corrupt(&r, 500, page);
    main[4] = 2;

    r.blocks[0].block = BLOCK + 1; /* as the right page */
    r.blocks[1].block = BLOCK;
    memset(page, 0xEE, sizeof page);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 3 * 4);
    assert_int_equal(item_of(page, 1)[8], 't'); /* logged last, placed first */
    assert_int_equal(loch_get_u32(page + OPAQUE), BLOCK + 1);
    assert_int_equal(loch_get_u32(page + OPAQUE + 4), BLOCK + 2);
    right_data[6] = 200; /* a tuple beyond the data */
    assert_corrupt(&r, 500, page);
    right_data[6] = 0;
    assert_corrupt(&r, 500, page);

    r.blocks[1].block = BLOCK + 2; /* as the page behind */
    r.blocks[2].block = BLOCK;
    setup(NULL);
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u32(page + OPAQUE), BLOCK + 2);
}

static void test_newroot_and_meta(void **state)
{
    const uint8_t main[8] = {BLOCK, 0, 0, 0, 0, 0, 0, 0};
    uint8_t meta[28] = {4, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1};
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0xA0, main, 8, NULL, 0);

    (void)state;
    r.blocks[0].will_init = true;
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u16(page + OPAQUE + 12), 0x03);
    assert_int_equal(lower_of(page), 24);

    r = record_of(LOCH_RM_BTREE, 0xE0, NULL, 0, meta, sizeof meta);
    r.blocks[0].will_init = true;
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u32(page + 24), 0x053162);
    assert_int_equal(loch_get_u32(page + 32), 3);
    assert_int_equal(loch_get_u32(page + 48), 5);
    assert_int_equal(page[64], 1);
    assert_int_equal(lower_of(page), 24 + 48);
    assert_int_equal(loch_get_u16(page + OPAQUE + 12), 0x08);
    r.blocks[0].data.len = 27;
    assert_corrupt(&r, 600, page);
    r.blocks[0].will_init = false;
    assert_not_handled(&r, 600, page);
}

static void test_pages_that_go(void **state)
{
    uint8_t half[20] = {2, 0, 0, 0, BLOCK, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 9, 0, 0, 0};
    uint8_t unlink[36] = {4, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x55};
    struct loch_wal_record r = record_of(LOCH_RM_BTREE, 0xB0, half, 20, NULL, 0);

    (void)state;
    r.blocks[0].will_init = true;
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 28);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 2), 9);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 6), 0x2008);
    assert_int_equal(loch_get_u16(page + OPAQUE + 12), 0x11);
    assert_int_equal(loch_get_u32(page + OPAQUE + 4), 6);

    setup(NULL); /* the parent: item 2 takes item 3's downlink */
    r.blocks[0] = reference(1, NULL, 0);
    loch_put_u16((uint8_t *)(uintptr_t)item_of(page, 3) + 2, 66);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 2 * 4);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 2), 66);
    assert_int_equal(item_of(page, 2)[8], 'c');
    assert_corrupt(&r, 600, page); /* no item behind it now */

    r = record_of(LOCH_RM_BTREE, 0x80, unlink, 36, NULL, 0);
    r.blocks[0].will_init = true;
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 32);
    assert_int_equal(upper_of(page), OPAQUE);
    assert_int_equal(loch_get_u64(page + 24), 0x55);
    assert_int_equal(loch_get_u16(page + OPAQUE + 12), 0x105);
    for (uint8_t id = 1; id <= 2; id++) { /* its siblings */
        setup(NULL);
        r.blocks[0] = reference(id, NULL, 0);
        assert_applied(&r, 500, page);
        assert_int_equal(loch_get_u32(page + OPAQUE + (id == 1 ? 4 : 0)), id == 1 ? 6 : 4);
    }
    r.main_data.len = 35;
    assert_corrupt(&r, 600, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_insert_post, setup),
        cmocka_unit_test_setup(test_dedup, setup),
        cmocka_unit_test_setup(test_vacuum_and_delete, setup),
        cmocka_unit_test_setup(test_split, setup),
        cmocka_unit_test_setup(test_newroot_and_meta, setup),
        cmocka_unit_test_setup(test_pages_that_go, setup),
        cmocka_unit_test_setup(test_insert, setup),
        cmocka_unit_test_setup(test_insert_upper, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
