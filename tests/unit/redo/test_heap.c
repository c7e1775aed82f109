/* Heap records on pages made by hand, field by field; and records and pages that do not fit
 * together. That the whole page is PostgreSQL's, byte for byte, is shown by
 * tests/integration/redo_consistency.sh. */
#include "records.h"

/* infomask2 1, infomask 0x0800, hoff 24; a byte of padding; 8 bytes of data */
static const uint8_t new_tuple[] = {1,   0,   0x00, 0x08, 24,  0,   'n',
                                    'e', 'w', 't',  'u',  'p', 'l', 'e'};

static uint8_t page[LOCH_PAGE_BYTES];

static int setup(void **state)
{
    (void)state;
    heap_page(page, 3);
    return 0;
}

static void test_insert(void **state)
{
    const uint8_t main1[] = {1, 0, 0}, main2[] = {2, 0, 1}, main9[] = {9, 0, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0x80, main1, 3, new_tuple, sizeof new_tuple);

    (void)state;
    r.blocks[0].will_init = true;
    memset(page, 0xEE, sizeof page);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 28);
    assert_int_equal(upper_of(page), 8192 - 32);
    assert_int_equal(id_of(page, 1), (8192 - 32) | 1u << 15 | 32u << 17);
    const uint8_t *t = item_of(page, 1);
    assert_int_equal(loch_get_u32(t), XID);
    assert_int_equal(loch_get_u32(t + 4), 0);
    assert_int_equal(loch_get_u16(t + 12), 0);
    assert_int_equal(loch_get_u16(t + 14), BLOCK);
    assert_int_equal(loch_get_u16(t + 16), 1);
    assert_int_equal(loch_get_u16(t + 20), 0x0800);
    assert_memory_equal(t + 24, "newtuple", 8);
    assert_int_equal(loch_page_lsn(page), 500);
    for (uint32_t i = 28; i < 8192 - 32; i++)
        assert_int_equal(page[i], 0);

    loch_put_u16(page + 10, 4); /* all visible, which the next one clears */
    r = record_of(LOCH_RM_HEAP, 0x00, main2, 3, new_tuple, sizeof new_tuple);
    assert_applied(&r, 600, page);
    assert_int_equal(flags_of(page), 0);
    assert_int_equal(lower_of(page), 32);
    assert_corrupt(&r, 700, page); /* item 2 is in use */
    r.main_data = loch_slice_of(main9, 3);
    assert_corrupt(&r, 700, page); /* a gap */
}

static void test_insert_without_room(void **state)
{
    static uint8_t big[8000] = {1, 0, 0, 8, 24};
    const uint8_t main[] = {4, 0, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0, main, 3, big, sizeof big);

    (void)state;
    assert_applied(&r, 500, page);
    heap_page(page, 8);
    assert_corrupt(&r, 500, page);
    r.blocks[0].data.len = 4;
    assert_corrupt(&r, 500, page);
    r.main_data.len = 2;
    assert_corrupt(&r, 500, page);
}

static void test_delete(void **state)
{
    uint8_t main[8] = {0xE8, 3, 0, 0, 2, 0, 0x10, 0x01}; /* xmax 1000, item 2, keys updated */
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0x10, main, sizeof main, NULL, 0);

    (void)state;
    loch_put_u16(page + 10, 4);
    loch_put_u16(page + (item_of(page, 2) - page) + 18, 0x4001); /* HOT updated */
    assert_applied(&r, 500, page);
    const uint8_t *t = item_of(page, 2);
    assert_int_equal(loch_get_u32(t), 600);
    assert_int_equal(loch_get_u32(t + 4), 1000);
    assert_int_equal(loch_get_u16(t + 18), 0x2001);
    assert_int_equal(loch_get_u16(t + 20), 0x0100);
    assert_int_equal(loch_get_u32(page + 20), XID); /* prunable since */
    assert_int_equal(flags_of(page), 0);

    main[7] = 0x08; /* a speculative insertion taken back */
    main[4] = 3;
    assert_applied(&r, 600, page);
    assert_int_equal(loch_get_u32(item_of(page, 3)), 0);
    main[7] = 0x10; /* moved to another partition */
    main[4] = 1;
    assert_applied(&r, 700, page);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 12), 0xFFFF);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 16), 0xFFFD);
    main[7] = 0x80;
    assert_not_handled(&r, 800, page);
    main[7] = 0;
    main[4] = 4;
    assert_corrupt(&r, 800, page);
    main[4] = 0;
    assert_corrupt(&r, 800, page);
}

/* old: xmax 777, item 1; new: item 4; the first 2 and the last 3 bytes of the data are kept */
static uint8_t update_main[14] = {9, 3, 0, 0, 1, 0, 0, 0x60, 0, 0, 0, 0, 4, 0};
static const uint8_t update_data[] = {2, 0, 3, 0, 1, 0, 0x00, 0x28, 24, 0, 'x', 'y'};

static void test_hot_update(void **state)
{
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0x40, update_main, sizeof update_main,
                                         update_data, sizeof update_data);

    (void)state;
    assert_applied(&r, 500, page);
    const uint8_t *old = item_of(page, 1), *new = item_of(page, 4);
    assert_int_equal(loch_get_u32(old + 4), 777);
    assert_int_equal(loch_get_u16(old + 16), 4);
    assert_int_equal(loch_get_u16(old + 18), 0x4001);
    assert_int_equal(id_of(page, 4) >> 17, 24 + 2 + 2 + 3);
    assert_int_equal(loch_get_u32(new), XID);
    assert_int_equal(loch_get_u16(new + 20), 0x2800);
    assert_memory_equal(new + 24, "\1\1xy\1\1\1", 7);
    assert_int_equal(loch_page_lsn(page), 500);
}

static void test_update_that_takes_too_much(void **state)
{
    uint8_t data[sizeof update_data];
    struct loch_wal_record r =
        record_of(LOCH_RM_HEAP, 0x40, update_main, sizeof update_main, data, sizeof data);

    (void)state;
    for (size_t at = 0; at <= 2; at += 2) {
        memcpy(data, update_data, sizeof data);
        data[at] = 33; /* of 32 */
        assert_corrupt(&r, 500, page);
    }
    memcpy(data, update_data, sizeof data);
    data[8] = 22; /* hoff below the header */
    assert_corrupt(&r, 500, page);
    data[8] = 60; /* beyond the bytes given */
    assert_corrupt(&r, 500, page);
    memcpy(data, update_data, sizeof data);
    page[item_of(page, 1) - page + 22] = 255; /* the old tuple's own hoff */
    assert_corrupt(&r, 500, page);
    r.blocks[0].data.len = 7;
    assert_corrupt(&r, 500, page);
}

static void test_update_across_pages(void **state)
{
    uint8_t main[14];
    struct loch_wal_record r =
        record_of(LOCH_RM_HEAP, 0xA0, main, sizeof main, new_tuple, sizeof new_tuple);

    (void)state;
    memcpy(main, update_main, sizeof main);
    main[7] = 0x03; /* both pages were all visible */
    main[12] = 1;
    r.blocks[0].will_init = true;
    r.block_count = 2;
    r.blocks[1] = reference(1, NULL, 0);
    r.blocks[1].block = BLOCK + 9;
    assert_applied(&r, 500, page); /* as the new page */
    assert_int_equal(lower_of(page), 28);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 14), BLOCK);
    r.blocks[0].will_init = false;
    r.info = 0x20;
    main[7] = 0x20;
    assert_corrupt(&r, 600, page); /* a prefix of a tuple that is elsewhere */

    heap_page(page, 2);
    main[7] = 0x01;
    r.info = 0xA0;
    r.blocks[0].block = BLOCK + 9;
    r.blocks[1].block = BLOCK;
    assert_applied(&r, 500, page); /* as the old page */
    assert_int_equal(lower_of(page), 32);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 14), BLOCK + 9);
    assert_int_equal(loch_get_u16(item_of(page, 1) + 18), 1);
}

static void test_lock(void **state)
{
    uint8_t main[8] = {0xE8, 3, 0, 0, 2, 0, 0x06, 0}; /* xid 1000, lock only, exclusive */
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0x60, main, sizeof main, NULL, 0);

    (void)state;
    loch_put_u16(page + (item_of(page, 2) - page) + 16, 3); /* a chain that leads on */
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u32(item_of(page, 2) + 4), 1000);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 16), 2);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 20), 0x01C0);
    main[6] = 0x01; /* a multixact with an update in it: the chain stays */
    loch_put_u16(page + (item_of(page, 2) - page) + 16, 3);
    assert_applied(&r, 600, page);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 16), 3);
    r.main_data.len = 7;
    assert_corrupt(&r, 700, page);
    loch_put_u32(page + 28, (id_of(page, 2) & ~(3u << 15)) | 3u << 15); /* dead */
    r.main_data.len = 8;
    assert_corrupt(&r, 700, page);
}

static void test_inplace_and_confirm(void **state)
{
    const uint8_t main[] = {3, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0x70, main, 2, "inplace!", 8);

    (void)state;
    assert_applied(&r, 500, page);
    assert_memory_equal(item_of(page, 3) + 24, "inplace!", 8);
    r.blocks[0].data.len = 7;
    assert_corrupt(&r, 600, page);

    r = record_of(LOCH_RM_HEAP, 0x50, main, 2, NULL, 0);
    loch_put_u16(page + (item_of(page, 3) - page) + 16, 0xFFFE); /* a speculative token */
    assert_applied(&r, 600, page);
    assert_int_equal(loch_get_u16(item_of(page, 3) + 16), 3);
    r.main_data.len = 1;
    assert_corrupt(&r, 700, page);
}

static void test_what_is_not_handled(void **state)
{
    const uint8_t main[] = {4, 0, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0, main, 3, new_tuple, sizeof new_tuple);
    static uint8_t zeros[LOCH_PAGE_BYTES];

    (void)state;
    assert_not_handled(&r, 500, zeros); /* never made */
    r.blocks[0].block++;
    assert_not_handled(&r, 500, page); /* another page */
    r.blocks[0].block--;
    r.blocks[0].fork = target.fork = LOCH_FORK_VM;
    assert_not_handled(&r, 500, page);
    r.blocks[0].fork = target.fork = LOCH_FORK_MAIN;
    r.rmid = LOCH_RM_GIST;
    assert_not_handled(&r, 500, page);
    assert_false(loch_redo_knows(&r));
    r.rmid = LOCH_RM_HEAP;
    assert_true(loch_redo_knows(&r));
    r.blocks[0].will_init = true; /* by a record that makes no page */
    assert_not_handled(&r, 500, page);
    r.blocks[0].will_init = false;
    r.info = 0x80; /* and the other way round */
    assert_not_handled(&r, 500, page);
    r.info = 0x30; /* TRUNCATE */
    assert_not_handled(&r, 500, page);
}

/* A record that the page has already is applied by doing nothing. */
static void test_lsn_rule(void **state)
{
    const uint8_t main[] = {4, 0, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0, main, 3, new_tuple, sizeof new_tuple);
    uint8_t before[LOCH_PAGE_BYTES];

    (void)state;
    memcpy(before, page, sizeof before);
    assert_applied(&r, 100, page);
    assert_memory_equal(before, page, sizeof before);
    assert_applied(&r, 101, page);
    assert_int_equal(lower_of(page), 24 + 4 * 4);
}

static void test_bad_headers(void **state)
{
    const uint8_t main[] = {4, 0, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP, 0, main, 3, new_tuple, sizeof new_tuple);
    static const struct {
        uint32_t at, value;
    } bad[] = {{12, 23}, {12, 8100}, {14, 20}, {14, 8193}, {16, 8200}, {16, 8190}, {10, 0x80}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        heap_page(page, 3);
        loch_put_u16(page + bad[i].at, (uint16_t)bad[i].value);
        assert_corrupt(&r, 500, page);
    }
    heap_page(page, 3);
    loch_put_u32(page + 24, 8190u | 1u << 15 | 32u << 17); /* a tuple beyond the page's end */
    r = record_of(LOCH_RM_HEAP, 0x50, (const uint8_t[]){1, 0}, 2, NULL, 0);
    assert_corrupt(&r, 500, page);
    loch_put_u32(page + 24, 24u | 1u << 15 | 32u << 17); /* over the line pointers */
    assert_corrupt(&r, 500, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_insert, setup),
        cmocka_unit_test_setup(test_insert_without_room, setup),
        cmocka_unit_test_setup(test_delete, setup),
        cmocka_unit_test_setup(test_hot_update, setup),
        cmocka_unit_test_setup(test_update_that_takes_too_much, setup),
        cmocka_unit_test_setup(test_update_across_pages, setup),
        cmocka_unit_test_setup(test_lock, setup),
        cmocka_unit_test_setup(test_inplace_and_confirm, setup),
        cmocka_unit_test_setup(test_what_is_not_handled, setup),
        cmocka_unit_test_setup(test_lsn_rule, setup),
        cmocka_unit_test_setup(test_bad_headers, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
