/* The memory of poison records: what is the same record, how long it is kept, what makes way. */
#include "../unit.h"

#include "redo_pool/poison.h"

static const struct loch_id tenant = {{1}};
static const struct loch_rel rel = {1663, 5, 16384};
static struct poison_memory memory;

static struct poison_key key_at(loch_lsn lsn, uint8_t crc)
{
    const uint8_t record[24] = {[20] = crc};
    return poison_key(&tenant, &rel, 0, 7, lsn, loch_slice_of(record, sizeof record));
}

static void test_find(void **state)
{
    struct poison_key key = key_at(100, 9), other;

    (void)state;
    memset(&memory, 0, sizeof memory);
    assert_false(poison_any(&memory, 0));
    assert_null(poison_find(&memory, &key, 0));
    poison_remember(&memory, &key, 1000, "why");
    assert_true(poison_any(&memory, 999));
    assert_string_equal(poison_find(&memory, &key, 999)->why, "why");
    assert_null(poison_find(&memory, &key, 1000));
    assert_false(poison_any(&memory, 1000));
    poison_remember(&memory, &key, 2000, "again"); /* in the same place */
    assert_int_equal(poison_find(&memory, &key, 1500)->until_ms, 2000);
    assert_int_equal(memory.next, 1);

    other = key_at(100, 8); /* another branch's record at the same LSN */
    assert_null(poison_find(&memory, &other, 0));
    other = key_at(101, 9);
    assert_null(poison_find(&memory, &other, 0));
    other = key;
    other.block++;
    assert_null(poison_find(&memory, &other, 0));
    other = key;
    other.tenant.bytes[3] = 1;
    assert_null(poison_find(&memory, &other, 0));
    other = poison_key(&tenant, &rel, 0, 7, 100, loch_slice_of("short", 5));
    assert_int_equal(other.crc, 0);
}

static void test_oldest_makes_way(void **state)
{
    (void)state;
    memset(&memory, 0, sizeof memory);
    for (uint32_t i = 0; i <= LOCH_POISON_MAX; i++) {
        struct poison_key key = key_at(1000 + i, 0);
        poison_remember(&memory, &key, 10, "why");
    }
    struct poison_key first = key_at(1000, 0), second = key_at(1001, 0);
    struct poison_key last = key_at(1000 + LOCH_POISON_MAX, 0);
    assert_null(poison_find(&memory, &first, 0));
    assert_non_null(poison_find(&memory, &second, 0));
    assert_non_null(poison_find(&memory, &last, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_oldest_makes_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
