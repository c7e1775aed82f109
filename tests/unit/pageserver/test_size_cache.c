/* What ingest knows about the sizes of relations: right, bounded, and small while it knows little.
 */
#include "store_fixture.h"

#include "ingest/size_cache.h"

#define MANY 300000u

static struct loch_rel rel_of(uint32_t n)
{
    return (struct loch_rel){.spc = 1663, .db = 5, .rel = n};
}

static bool knows(struct loch_size_cache *cache, uint32_t n, uint32_t *blocks)
{
    const struct loch_rel rel = rel_of(n);
    bool exists = false;
    *blocks = UINT32_MAX;
    const bool known = loch_size_cache_find(cache, &rel, 0, &exists, blocks);
    return known && exists;
}

static void newest_size_counts(void **state)
{
    (void)state;
    struct loch_size_cache cache = {0};
    const struct loch_rel rel = rel_of(7);
    bool exists = true;
    uint32_t blocks = 0;
    assert_false(loch_size_cache_find(&cache, &rel, 0, &exists, &blocks));
    assert_ok(loch_size_cache_put(&cache, &rel, 0, true, 3));
    assert_ok(loch_size_cache_put(&cache, &rel, 1, true, 9));
    assert_ok(loch_size_cache_put(&cache, &rel, 0, true, 4));
    assert_true(loch_size_cache_find(&cache, &rel, 0, &exists, &blocks));
    assert_true(exists);
    assert_int_equal(blocks, 4);
    assert_ok(loch_size_cache_put(&cache, &rel, 0, false, 4));
    assert_true(loch_size_cache_find(&cache, &rel, 0, &exists, &blocks));
    assert_false(exists);
    assert_int_equal(blocks, 0);
    assert_true(cache.young.size <= 64); /* entries: few for few */
    loch_size_cache_forget(&cache);
    assert_false(loch_size_cache_find(&cache, &rel, 1, &exists, &blocks));
    loch_size_cache_forget(&cache);
}

static void what_is_in_use_stays(void **state)
{
    (void)state;
    struct loch_size_cache cache = {0};
    uint32_t blocks = 0;
    for (uint32_t n = 1; n <= MANY; n++) {
        const struct loch_rel rel = rel_of(n), used = rel_of(1);
        assert_ok(loch_size_cache_put(&cache, &rel, 0, true, n));
        if (n % 1000 == 0)
            assert_ok(loch_size_cache_put(&cache, &used, 0, true, n));
        if (n > 2) /* never changed, always asked for */
            assert_true(knows(&cache, 2, &blocks) && blocks == 2);
        assert_true(knows(&cache, n, &blocks) && blocks == n);
        assert_true(cache.young.count + cache.old.count <= 65536);
    }
    assert_true(knows(&cache, 1, &blocks));
    assert_int_equal(blocks, MANY);                 /* not one that had gone to the older table */
    for (uint32_t n = MANY - 30000; n <= MANY; n++) /* what is new is there, without a gap */
        assert_true(knows(&cache, n, &blocks) && blocks == n);
    assert_false(knows(&cache, 3, &blocks));
    loch_size_cache_forget(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(newest_size_counts),
                                       cmocka_unit_test(what_is_in_use_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
