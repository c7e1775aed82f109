/* Bands, and what is merged when. */
#include "../unit.h"

#include "loch/layers/compact.h"

static const struct loch_compact_settings settings = {
    .fan_in = 4, .band_bytes = 100, .base_percent = 50};

static struct loch_band band(loch_lsn end, uint64_t bytes, uint64_t past)
{
    return (struct loch_band){.start_lsn = end - 10,
                              .end_lsn = end,
                              .bytes = bytes,
                              .weight = {.raw = bytes, .past = past},
                              .count = 1};
}

static void files_form_bands(void **state)
{
    struct loch_layer_span spans[] = {{.start_lsn = 200, .end_lsn = 300},
                                      {.start_lsn = 100, .end_lsn = 200},
                                      {.start_lsn = 100, .end_lsn = 200},
                                      {.start_lsn = 100, .end_lsn = 100}};
    struct loch_layer_weight weight = {10, 3, 2};
    struct loch_band bands[4];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < 4; i++)
        n = loch_bands_add(bands, n, &spans[i], 5, &weight, i);
    assert_int_equal(n, 3);
    assert_int_equal(bands[1].first, 1);
    assert_int_equal(bands[1].count, 2);
    assert_int_equal(bands[1].bytes, 10);
    assert_int_equal(bands[1].weight.past, 6);
    assert_int_equal(bands[2].first, 3);
}

static void new_layers_are_merged_by_number(void **state)
{
    struct loch_band bands[8];
    struct loch_compact_plan plan;
    (void)state;
    bands[0] = band(100, 90, 0);
    for (size_t i = 1; i < 8; i++)
        bands[i] = band(100 - 10 * i, i < 4 ? 80 : 350, 0);
    plan = loch_compact_next(bands, 3, &settings, 0);
    assert_int_equal(plan.count, 0);
    plan = loch_compact_next(bands, 7, &settings, 0); /* four small ones, three of the next tier */
    assert_int_equal(plan.first, 0);
    assert_int_equal(plan.count, 4);
    bands[3].bytes = 350;
    plan = loch_compact_next(bands, 8, &settings, 0); /* three small ones, five of the next tier */
    assert_int_equal(plan.first, 3);
    assert_int_equal(plan.count, 5);
    bands[5].bytes = 10; /* a small one among larger ones counts as theirs */
    plan = loch_compact_next(bands, 8, &settings, 0);
    assert_int_equal(plan.count, 5);
}

static void what_the_cutoff_passed_is_merged_by_share(void **state)
{
    struct loch_band bands[] = {band(100, 50, 50), band(90, 40, 0), band(80, 100, 0)};
    struct loch_compact_plan plan;
    (void)state;
    assert_int_equal(loch_compact_next(bands, 3, &settings, 95).count, 0); /* 40 of 100 */
    assert_int_equal(loch_compact_next(bands, 3, &settings, 85).count, 0); /* one, nothing past */
    bands[1].bytes = 60;
    plan = loch_compact_next(bands, 3, &settings, 95);
    assert_int_equal(plan.first, 1);
    assert_int_equal(plan.count, 2);
    bands[1].bytes = 10;
    bands[2].weight.past = 60; /* most of the oldest is past: rewritten, by itself too */
    assert_int_equal(loch_compact_next(bands, 3, &settings, 95).count, 2);
    plan = loch_compact_next(bands, 3, &settings, 80);
    assert_int_equal(plan.first, 2);
    assert_int_equal(plan.count, 1);
    assert_int_equal(loch_compact_next(bands, 3, &settings, 79).count, 0); /* not passed yet */
    assert_int_equal(loch_compact_next(bands, 0, &settings, 79).count, 0);
}

/* However many flushes there are, bands stay few and a byte is rewritten few times. */
static void bands_grow_with_the_logarithm(void **state)
{
    static struct loch_band bands[64];
    size_t n = 0, most = 0;
    uint64_t rewritten = 0, flushes = 20000;
    (void)state;
    for (uint64_t i = 1; i <= flushes; i++) {
        memmove(bands + 1, bands, n * sizeof *bands);
        bands[0] = band(10 * i, 100, 0);
        n++;
        for (;;) {
            struct loch_compact_plan p = loch_compact_next(bands, n, &settings, 0);
            if (p.count == 0)
                break;
            struct loch_band *to = &bands[p.first], *from = &bands[p.first + p.count - 1];
            for (struct loch_band *b = to + 1; b <= from; b++)
                to->bytes += b->bytes;
            to->start_lsn = from->start_lsn;
            rewritten += to->bytes;
            memmove(to + 1, from + 1, (n - p.first - p.count) * sizeof *bands);
            n -= p.count - 1;
        }
        most = n > most ? n : most;
        assert_true(n < 60);
    }
    assert_true(most <= 24);                     /* 3 in each of 8 tiers */
    assert_true(rewritten <= flushes * 100 * 8); /* once a tier */
    assert_true(loch_image_wanted(33, 0, 32, 10));
    assert_false(loch_image_wanted(32, 10, 32, 10));
    assert_true(loch_image_wanted(1, 11, 32, 10));
}

static void idle_time_merges_down_to_the_last_long_chain(void **state)
{
    const struct loch_band bands[] = {band(500, 10, 0), band(400, 20, 0), band(300, 30, 0),
                                      band(200, 1000, 0)};
    const bool none[4] = {false}, second[4] = {false, true, false, false},
               deep[4] = {true, false, false, true};
    (void)state;
    assert_int_equal(loch_compact_idle(bands, 4, none, 5000).count, 0);
    assert_int_equal(loch_compact_idle(bands, 4, second, 5000).count, 2);
    assert_int_equal(loch_compact_idle(bands, 4, deep, 5000).count, 4);
    assert_int_equal(loch_compact_idle(bands, 4, deep, 1059).count, 1); /* the last is too much */
    assert_int_equal(loch_compact_idle(bands, 4, deep, 1060).count, 4);
    assert_int_equal(loch_compact_idle(bands, 4, second, 29).count, 0);
    assert_int_equal(loch_compact_idle(bands, 0, none, 29).count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_form_bands),
        cmocka_unit_test(new_layers_are_merged_by_number),
        cmocka_unit_test(what_the_cutoff_passed_is_merged_by_share),
        cmocka_unit_test(bands_grow_with_the_logarithm),
        cmocka_unit_test(idle_time_merges_down_to_the_last_long_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
