/* Heap2 records: pruning with compaction, vacuum, freezing, visibility on both pages, many tuples
 * at once. */
#include "records.h"

static uint8_t page[LOCH_PAGE_BYTES];

static int setup(void **state)
{
    (void)state;
    heap_page(page, 6);
    return 0;
}

static void test_prune(void **state)
{
    /* 1 redirected to 3, 2 dead, 4 and 6 unused */
    uint8_t main[8] = {0, 0, 0, 0, 1, 0, 1, 0};
    uint8_t data[] = {1, 0, 3, 0, 2, 0, 4, 0, 6, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x10, main, sizeof main, data, sizeof data);

    (void)state;
    assert_applied(&r, 500, page);
    assert_int_equal(id_of(page, 1), 3u | 2u << 15);
    assert_int_equal(id_of(page, 2), 3u << 15);
    assert_int_equal(id_of(page, 3), (8192 - 32) | 1u << 15 | 32u << 17);
    assert_int_equal(id_of(page, 4), 0);
    assert_int_equal(id_of(page, 5), (8192 - 64) | 1u << 15 | 32u << 17);
    assert_int_equal(lower_of(page), 24 + 5 * 4); /* 6 went off the end */
    assert_int_equal(upper_of(page), 8192 - 64);
    assert_int_equal(item_of(page, 3)[24], 3);
    assert_int_equal(item_of(page, 5)[24], 5);
    assert_int_equal(flags_of(page), 1); /* 4 is free */
    assert_int_equal(loch_page_lsn(page), 500);

    heap_page(page, 6);
    data[0] = 7; /* no such item */
    assert_corrupt(&r, 500, page);
    data[0] = 1;
    data[8] = 0;
    assert_corrupt(&r, 500, page);
    data[8] = 6;
    main[4] = 3; /* more pairs than there are numbers */
    assert_corrupt(&r, 500, page);
}

/* Every tuple goes: the line pointers go too, and the free space is all of the page. */
static void test_prune_all(void **state)
{
    const uint8_t main[8] = {0};
    const uint8_t data[] = {1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x10, main, sizeof main, data, sizeof data);

    (void)state;
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24);
    assert_int_equal(upper_of(page), 8192);
    assert_int_equal(flags_of(page), 0);
}

/* Items that overlap would need more room than there is, and one that reaches beyond the end. */
static void test_prune_of_bad_pages(void **state)
{
    const uint8_t main[8] = {0}, data[] = {1, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x10, main, sizeof main, data, sizeof data);

    (void)state;
    loch_put_u16(page + 14, 192);
    for (uint32_t i = 2; i <= 6; i++) /* five times almost all of the page */
        loch_put_u32(page + 24 + 4 * (i - 1), 192u | 1u << 15 | 8000u << 17);
    assert_corrupt(&r, 500, page);
    heap_page(page, 2);
    loch_put_u32(page + 28, 8180u | 1u << 15 | 20u << 17);
    assert_corrupt(&r, 500, page);
}

static void test_vacuum(void **state)
{
    uint8_t main[2] = {2, 0};
    uint8_t data[] = {3, 0, 6, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x20, main, sizeof main, data, sizeof data);

    (void)state;
    loch_put_u32(page + 24 + 4 * 2, 3u << 15);
    loch_put_u32(page + 24 + 4 * 5, 3u << 15);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 24 + 5 * 4);
    assert_int_equal(id_of(page, 3), 0);
    assert_int_equal(flags_of(page), 1);
    data[0] = 6; /* is no longer there */
    assert_corrupt(&r, 600, page);
    main[0] = 3; /* of two numbers */
    assert_corrupt(&r, 600, page);
}

/* The first line pointer is never cut off. */
static void test_vacuum_of_all(void **state)
{
    const uint8_t main[2] = {2, 0}, data[] = {1, 0, 2, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x20, main, sizeof main, data, sizeof data);

    (void)state;
    heap_page(page, 2);
    loch_put_u32(page + 24, 3u << 15);
    loch_put_u32(page + 28, 3u << 15);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 28);
    assert_int_equal(flags_of(page), 1);
}

static void test_freeze(void **state)
{
    const uint8_t main[6] = {0, 0, 0, 0, 2, 0};
    uint8_t data[24] = {5, 0, 0, 0, 2, 0, 9, 0, 0x00, 0x0B, 2, 0,
                        0, 0, 0, 0, 4, 0, 1, 0, 0,    3,    4, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x30, main, sizeof main, data, sizeof data);

    (void)state;
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u32(item_of(page, 2) + 4), 5);
    assert_int_equal(loch_get_u32(item_of(page, 2) + 8), 2);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 18), 9);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 20), 0x0B00);
    assert_int_equal(loch_get_u32(item_of(page, 4) + 8), 0);
    data[4] = 7;
    assert_corrupt(&r, 600, page);
    data[4] = 2;
    r.blocks[0].data.len = 23;
    assert_corrupt(&r, 600, page);
}

static void test_visible(void **state)
{
    uint8_t main[5] = {0, 0, 0, 0, 3};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x40, main, sizeof main, NULL, 0);
    uint8_t vm[LOCH_PAGE_BYTES] = {0};

    (void)state;
    r.block_count = 2;
    r.blocks[0] = reference(0, NULL, 0);
    r.blocks[0].fork = LOCH_FORK_VM;
    r.blocks[0].block = 0;
    r.blocks[1] = reference(1, NULL, 0);
    assert_applied(&r, 500, page);
    assert_int_equal(flags_of(page), 4);
    assert_int_equal(loch_page_lsn(page), 100); /* the heap page's LSN stays */
    target.hint_lsn = true;
    assert_applied(&r, 500, page);
    assert_int_equal(loch_page_lsn(page), 500);
    target.hint_lsn = false;

    target.fork = LOCH_FORK_VM; /* the map's page, made by its first bit */
    target.block = 0;
    assert_applied(&r, 500, vm);
    assert_int_equal(vm[24 + BLOCK / 4], 3u << BLOCK % 4 * 2);
    assert_int_equal(loch_page_lsn(vm), 500);
    memset(vm + 24, 0, 8);
    assert_applied(&r, 400, vm); /* has it already */
    assert_int_equal(vm[24 + BLOCK / 4], 0);
    r.blocks[1].block = 40000; /* a heap page of the next map page */
    assert_corrupt(&r, 600, vm);
    r.block_count = 1;
    assert_corrupt(&r, 600, vm);
    target.fork = LOCH_FORK_MAIN;
    target.block = BLOCK;
}

static void test_multi_insert(void **state)
{
    /* two tuples: 9 bytes (one odd) and 8 bytes behind a byte of padding */
    static const uint8_t tuples[] = {9,   0,   1,   0,   0,   8,   24,  0,   'o', 'd', 'd',
                                     '-', 's', 'i', 'z', 'e', 8,   0,   1,   0,   0,   8,
                                     24,  0,   's', 'e', 'c', 'o', 'n', 'd', '!'};
    uint8_t main[8] = {0x20, 0, 2, 0, 7, 0, 8, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0xD0, main, 4, tuples, sizeof tuples);

    (void)state;
    r.blocks[0].will_init = true;
    memset(page, 0xEE, sizeof page);
    assert_applied(&r, 500, page);
    assert_int_equal(lower_of(page), 32);
    assert_int_equal(flags_of(page), 4); /* frozen, so all visible */
    assert_memory_equal(item_of(page, 1) + 24, "odd-size", 8);
    assert_memory_equal(item_of(page, 2) + 24, "second!", 7);
    assert_int_equal(loch_get_u16(item_of(page, 2) + 16), 2);

    heap_page(page, 6);
    main[0] = 0;
    r = record_of(LOCH_RM_HEAP2, 0x50, main, sizeof main, tuples, sizeof tuples);
    assert_applied(&r, 500, page);
    assert_memory_equal(item_of(page, 8) + 24, "second!", 7);
    main[4] = 9; /* a gap */
    assert_corrupt(&r, 600, page);
    main[4] = 7;
    heap_page(page, 6);
    r.main_data.len = 7;
    assert_corrupt(&r, 500, page);
    r.main_data.len = 8;
    r.blocks[0].data.len--;
    assert_corrupt(&r, 500, page);
    r.blocks[0].data.len = 16; /* the second is missing */
    assert_corrupt(&r, 500, page);
    main[2] = 1; /* and now a tuple too many */
    r.blocks[0].data.len = sizeof tuples;
    assert_corrupt(&r, 500, page);
    main[0] = 0x40; /* a flag of a later release */
    assert_not_handled(&r, 500, page);
}

static void test_lock_updated(void **state)
{
    const uint8_t main[8] = {0xE8, 3, 0, 0, 5, 0, 0x0A, 0};
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x60, main, sizeof main, NULL, 0);

    (void)state;
    loch_put_u32(page + (item_of(page, 5) - page) + 8, 33);
    assert_applied(&r, 500, page);
    assert_int_equal(loch_get_u32(item_of(page, 5) + 4), 1000);
    assert_int_equal(loch_get_u32(item_of(page, 5) + 8), 33); /* the cid stays */
    assert_int_equal(loch_get_u16(item_of(page, 5) + 20), 0x0190);
    r.main_data.len = 5;
    assert_corrupt(&r, 600, page);
}

static void test_not_handled(void **state)
{
    struct loch_wal_record r = record_of(LOCH_RM_HEAP2, 0x70, NULL, 0, NULL, 0); /* NEW_CID */

    (void)state;
    assert_false(loch_redo_knows(&r));
    assert_not_handled(&r, 500, page);
    r.info = 0x10;
    assert_true(loch_redo_knows(&r));
    r.blocks[0].id = 3; /* PRUNE has no such reference */
    assert_not_handled(&r, 500, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_prune, setup),
        cmocka_unit_test_setup(test_prune_all, setup),
        cmocka_unit_test_setup(test_prune_of_bad_pages, setup),
        cmocka_unit_test_setup(test_vacuum, setup),
        cmocka_unit_test_setup(test_vacuum_of_all, setup),
        cmocka_unit_test_setup(test_freeze, setup),
        cmocka_unit_test_setup(test_visible, setup),
        cmocka_unit_test_setup(test_multi_insert, setup),
        cmocka_unit_test_setup(test_lock_updated, setup),
        cmocka_unit_test_setup(test_not_handled, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
