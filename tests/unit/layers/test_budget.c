/* Whose open layer is written early when memory runs short. */
#include "../unit.h"

#include "loch/layers/budget.h"

static void the_largest_go_first(void **state)
{
    struct loch_budget_item items[] = {{5, 1, NULL}, {50, 2, NULL}, {20, 3, NULL}, {0, 0, NULL}};
    (void)state;
    assert_int_equal(loch_budget_choose(items, 4, 60, 10), 2);
    assert_int_equal(items[0].bytes, 50);
    assert_int_equal(items[1].bytes, 20);
}

static void of_equals_the_oldest_goes_first(void **state)
{
    struct loch_budget_item items[] = {{8, 30, NULL}, {8, 10, NULL}, {8, 20, NULL}};
    (void)state;
    assert_int_equal(loch_budget_choose(items, 3, 9, 10), 2);
    assert_int_equal(items[0].since, 10);
    assert_int_equal(items[1].since, 20);
}

static void never_more_than_are_wanted_or_there(void **state)
{
    struct loch_budget_item items[] = {{1, 0, NULL}, {1, 0, NULL}, {0, 0, NULL}};
    (void)state;
    assert_int_equal(loch_budget_choose(items, 3, 0, 10), 0);
    assert_int_equal(loch_budget_choose(items, 3, 1, 10), 1);
    assert_int_equal(loch_budget_choose(items, 3, UINT64_MAX, 10), 2); /* not the empty one */
    assert_int_equal(loch_budget_choose(items, 3, UINT64_MAX, 1), 1);
    assert_int_equal(loch_budget_choose(items, 0, 5, 10), 0);
}

/* Many small ones: what is chosen covers the excess, and one fewer would not. */
static void the_excess_is_covered_and_no_more(void **state)
{
    struct loch_budget_item items[1000];
    uint64_t all = 0;
    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        items[i] = (struct loch_budget_item){(i * 7919) % 1000, i, NULL};
        all += items[i].bytes;
    }
    for (uint64_t excess = 1; excess < all; excess += 9973) {
        uint64_t sum = 0;
        size_t n = loch_budget_choose(items, 1000, excess, 1000);
        for (size_t i = 0; i < n; i++)
            sum += items[i].bytes;
        assert_true(sum >= excess);
        assert_true(sum - items[n - 1].bytes < excess);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_go_first),
        cmocka_unit_test(of_equals_the_oldest_goes_first),
        cmocka_unit_test(never_more_than_are_wanted_or_there),
        cmocka_unit_test(the_excess_is_covered_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
