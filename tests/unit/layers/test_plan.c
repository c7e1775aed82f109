/* Which layers a read needs. */
#include "../unit.h"

#include "loch/layers/plan.h"

static struct loch_layer_span span(uint32_t first, uint32_t last, loch_lsn start, loch_lsn end)
{
    return (struct loch_layer_span){.first = {.kind = LOCH_KEY_PAGE, .block = first},
                                    .last = {.kind = LOCH_KEY_PAGE, .block = last},
                                    .start_lsn = start,
                                    .end_lsn = end};
}

static void keys_and_lsns(void **state)
{
    (void)state;
    struct loch_layer_span s = span(10, 20, 100, 200);
    struct loch_key key = {.kind = LOCH_KEY_PAGE, .block = 10};
    assert_true(loch_layer_span_needed(&s, &key, 0, 150));
    assert_true(loch_layer_span_needed(&s, &key, 200, 900));
    assert_true(loch_layer_span_needed(&s, &key, 0, 101));
    assert_false(
        loch_layer_span_needed(&s, &key, 0, 100)); /* the start itself is an older layer's */
    assert_false(loch_layer_span_needed(&s, &key, 201, 900));
    key.block = 20;
    assert_true(loch_layer_span_needed(&s, &key, 0, 150));
    key.block = 21;
    assert_false(loch_layer_span_needed(&s, &key, 0, 150));
    key.block = 9;
    assert_false(loch_layer_span_needed(&s, &key, 0, 150));
}

static void an_import_holds_its_own_lsn(void **state)
{
    (void)state;
    struct loch_layer_span s = span(0, 9, 100, 100);
    struct loch_key key = {.kind = LOCH_KEY_PAGE, .block = 3};
    assert_true(loch_layer_span_needed(&s, &key, 0, 100));
    assert_false(loch_layer_span_needed(&s, &key, 0, 99));
    assert_true(loch_layer_span_needed(&s, &key, 100, 100));
}

static void ranges_of_keys(void **state)
{
    (void)state;
    struct loch_layer_span s = span(10, 20, 100, 200);
    struct loch_key first = {.kind = LOCH_KEY_PAGE, .block = 20}, end = first;
    end.block = 30;
    assert_true(loch_layer_span_meets(&s, &first, &end, 150));
    assert_false(loch_layer_span_meets(&s, &first, &end, 100));
    first.block = 21;
    assert_false(loch_layer_span_meets(&s, &first, &end, 150));
    first.block = 0;
    end.block = 10; /* exclusive */
    assert_false(loch_layer_span_meets(&s, &first, &end, 150));
    assert_true(loch_layer_span_below(&s, 201));
    assert_false(loch_layer_span_below(&s, 200));
}

static void overlaps_are_corrupt(void **state)
{
    (void)state;
    struct loch_layer_span good[] = {span(0, 9, 200, 300), span(0, 9, 200, 200),
                                     span(5, 6, 100, 200)};
    assert_ok(loch_layers_check(good, 3));
    struct loch_layer_span overlap[] = {span(0, 9, 200, 300), span(0, 9, 100, 201)};
    assert_code(loch_layers_check(overlap, 2), LOCH_E_CORRUPT);
    struct loch_layer_span backwards[] = {span(0, 9, 300, 200)};
    assert_code(loch_layers_check(backwards, 1), LOCH_E_CORRUPT);
    struct loch_layer_span keys[] = {span(9, 0, 100, 200)};
    assert_code(loch_layers_check(keys, 1), LOCH_E_CORRUPT);
}

static void ancestors_and_cuts(void **state)
{
    (void)state;
    assert_int_equal(loch_ancestor_read_lsn(50, 100), 50);
    assert_int_equal(loch_ancestor_read_lsn(500, 100), 100);
    assert_true(loch_cut_hides(0, 0));
    assert_true(loch_cut_hides(7, 7));
    assert_false(loch_cut_hides(8, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_lsns),      cmocka_unit_test(an_import_holds_its_own_lsn),
        cmocka_unit_test(ranges_of_keys),     cmocka_unit_test(overlaps_are_corrupt),
        cmocka_unit_test(ancestors_and_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
