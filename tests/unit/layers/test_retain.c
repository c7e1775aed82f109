/* What GC may remove, against a model that keeps everything. */
#include "../unit.h"

#include "loch/layers/retain.h"

#include <stdlib.h>

static uint64_t state64;

static uint64_t roll(uint64_t below)
{
    state64 ^= state64 << 13;
    state64 ^= state64 >> 7;
    state64 ^= state64 << 17;
    return state64 % below;
}

static void readable_lsns(void **state)
{
    const loch_lsn points[] = {10, 20, 30};
    const struct loch_retention r = {100, points, 3}, all = {0};
    (void)state;
    assert_true(loch_retention_readable(&r, 100));
    assert_true(loch_retention_readable(&r, 5000));
    for (size_t i = 0; i < 3; i++) {
        assert_true(loch_retention_readable(&r, points[i]));
        assert_false(loch_retention_readable(&r, points[i] + 1));
        assert_false(loch_retention_readable(&r, points[i] - 1));
    }
    assert_false(loch_retention_readable(&r, 99));
    assert_true(loch_retention_readable(&all, 1));
}

#define VERSIONS_MAX 40u
#define GROUPS_MAX   5u

struct history {
    struct loch_retain_item items[VERSIONS_MAX]; /* newest first */
    size_t count;
    size_t group_end[GROUPS_MAX]; /* of the groups that are merged by themselves */
    size_t groups;
    loch_lsn floors[VERSIONS_MAX * 10 + 20]; /* what cuts hide, by LSN */
};

static void make_history(struct history *h)
{
    *h = (struct history){.count = roll(VERSIONS_MAX + 1), .groups = 1 + roll(GROUPS_MAX)};
    loch_lsn lsn = VERSIONS_MAX * 10;
    for (size_t i = 0; i < h->count; i++) {
        h->items[i] = (struct loch_retain_item){.lsn = lsn, .base = roll(5) == 0};
        lsn -= roll(10); /* equal LSNs too */
    }
    for (size_t g = 0; g < h->groups; g++)
        h->group_end[g] = g + 1 == h->groups ? h->count : roll(h->count + 1);
    for (size_t g = 1; g < h->groups; g++) {
        if (h->group_end[g] < h->group_end[g - 1])
            h->group_end[g] = h->group_end[g - 1];
    }
    loch_lsn floor = 0;
    for (size_t l = 0; l < sizeof h->floors / sizeof h->floors[0]; l++) {
        floor = roll(60) == 0 ? l : floor;
        h->floors[l] = floor;
    }
}

/* Versions that a read uses, as a list of indexes; kept_only: of what is left. */
static size_t chain(const struct history *h, loch_lsn lsn, bool kept_only, size_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < h->count; i++) {
        if (h->items[i].lsn > lsn || h->items[i].lsn < h->floors[lsn] ||
            (kept_only && !h->items[i].keep))
            continue;
        out[n++] = i;
        if (h->items[i].base)
            break;
    }
    return n;
}

static void apply_rule(struct history *h, const struct loch_retention *r)
{
    size_t begin = 0;
    for (size_t g = 0; g < h->groups; g++) {
        struct loch_retain_item *items = h->items + begin;
        size_t count = h->group_end[g] - begin;
        loch_retain_history(items, count, r->cutoff);
        loch_retain_read(items, count, h->floors[r->cutoff], r->cutoff, true);
        for (size_t p = 0; p < r->point_count; p++)
            loch_retain_read(items, count, h->floors[r->points[p]], r->points[p], false);
        begin = h->group_end[g];
    }
}

/* The number of readable LSNs at which a read changed. */
static size_t damage(const struct history *h, const struct loch_retention *r)
{
    size_t wrong = 0;
    for (loch_lsn lsn = 0; lsn <= VERSIONS_MAX * 10 + 9; lsn++) {
        size_t before[VERSIONS_MAX], after[VERSIONS_MAX];
        if (!loch_retention_readable(r, lsn))
            continue;
        size_t n = chain(h, lsn, false, before), m = chain(h, lsn, true, after);
        wrong += n != m || memcmp(before, after, n * sizeof *before) != 0;
    }
    return wrong;
}

static void what_is_readable_stays_equal(void **state)
{
    size_t removed = 0;
    (void)state;
    state64 = 42;
    for (unsigned round = 0; round < 6000; round++) {
        struct history h;
        loch_lsn points[3] = {roll(VERSIONS_MAX * 10), roll(VERSIONS_MAX * 10),
                              roll(VERSIONS_MAX * 10)};
        struct loch_retention r = {.cutoff = roll(VERSIONS_MAX * 10), .points = points};
        make_history(&h);
        r.point_count = loch_retention_points(points, 3, r.cutoff);
        apply_rule(&h, &r);
        assert_int_equal(damage(&h, &r), 0);
        for (size_t i = 0; i < h.count; i++)
            removed += !h.items[i].keep;
    }
    assert_true(removed > 6000); /* and it does remove */
}

#define BLOCKS 6u

/* The cut that hides the block at `lsn`, or none. */
static loch_lsn hides(const struct history *h, uint32_t block, loch_lsn lsn, bool kept_only)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct loch_retain_item *item = &h->items[i];
        if (item->lsn <= lsn && item->lsn >= h->floors[lsn] && item->first <= block &&
            (item->keep || !kept_only))
            return item->lsn;
    }
    return LOCH_LSN_NONE;
}

/* What hides a block at a readable LSN stays, and no more than what is needed for one. */
static void cuts_that_count_stay(void **state)
{
    (void)state;
    state64 = 44;
    for (unsigned round = 0; round < 3000; round++) {
        struct history h;
        loch_lsn points[2] = {roll(VERSIONS_MAX * 10), roll(VERSIONS_MAX * 10)};
        struct loch_retention r = {.cutoff = roll(VERSIONS_MAX * 10), .points = points};
        size_t below = 0;
        make_history(&h);
        for (size_t i = 0; i < h.count; i++) {
            h.items[i].cut = true;
            h.items[i].first = (uint32_t)roll(BLOCKS);
            h.items[i].base = h.items[i].first == 0;
        }
        r.point_count = loch_retention_points(points, 2, r.cutoff);
        apply_rule(&h, &r);
        for (loch_lsn lsn = 0; lsn <= VERSIONS_MAX * 10 + 9; lsn++) {
            for (uint32_t b = 0; b < BLOCKS && loch_retention_readable(&r, lsn); b++)
                assert_int_equal(hides(&h, b, lsn, true), hides(&h, b, lsn, false));
        }
        for (size_t i = 0; i < h.count; i++)
            below += h.items[i].keep && !h.items[i].history;
        assert_true(below <= h.groups * BLOCKS * (r.point_count + 1));
    }
}

static void broken_rules_are_noticed(void **state)
{
    size_t no_points = 0, no_history = 0, no_base = 0;
    (void)state;
    state64 = 43;
    for (unsigned round = 0; round < 500; round++) {
        struct history h;
        loch_lsn point = 300 + roll(60);
        struct loch_retention r = {365, &point, 1}, less = {365, NULL, 0};
        make_history(&h);
        struct history copy = h;
        apply_rule(&copy, &less); /* GC that ignores a branch point */
        no_points += damage(&copy, &r) > 0;
        copy = h;
        less = (struct loch_retention){390, &point, 1}; /* removes before it commits */
        apply_rule(&copy, &less);
        no_history += damage(&copy, &r) > 0;
        copy = h;
        apply_rule(&copy, &r);
        for (size_t i = 0; i < copy.count; i++) /* drops what stands under the window */
            copy.items[i].keep = copy.items[i].keep && copy.items[i].history;
        no_base += damage(&copy, &r) > 0;
    }
    assert_true(no_points > 20 && no_history > 20 && no_base > 20);
}

static void points_below_the_cutoff(void **state)
{
    loch_lsn held[] = {50, 10, 50, 90, 100, 10};
    (void)state;
    assert_int_equal(loch_retention_points(held, 6, 100), 3);
    assert_int_equal(held[0], 10);
    assert_int_equal(held[1], 50);
    assert_int_equal(held[2], 90);
    assert_int_equal(loch_retention_points(NULL, 0, 100), 0);
}

#define S INT64_C(1000000)

static void the_window_is_time_and_bytes(void **state)
{
    struct loch_lsn_mark marks[] = {{1000, 10 * S}, {2000, 20 * S}, {3000, 30 * S}}, out;
    struct loch_pitr_window w = {15, 500};
    (void)state;
    assert_true(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 0, &out));
    assert_int_equal(out.lsn, 2000); /* 30 s is within 15 s of 40 s */
    w.bytes = 3500;                  /* bytes keep more than time does */
    assert_true(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 0, &out));
    assert_int_equal(out.lsn, 1000);
    assert_false(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 1000, &out)); /* stays */
    w.bytes = 6000;
    assert_false(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 0, &out));
    w = (struct loch_pitr_window){0, 0};
    assert_true(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 1000, &out));
    assert_int_equal(out.lsn, 3000);
    w.seconds = UINT64_MAX;
    assert_false(loch_retention_advance(&w, marks, 3, 40 * S, 5000, 0, &out));
}

static void marks_are_bounded(void **state)
{
    struct loch_lsn_mark marks[LOCH_MARKS_MAX];
    size_t n = 0;
    (void)state;
    n = loch_marks_add(marks, n, 100, 10 * S, 5 * S, 0);
    assert_int_equal(n, 1);
    assert_int_equal(loch_marks_add(marks, n, 200, 12 * S, 5 * S, 0), 1); /* too soon */
    assert_int_equal(loch_marks_add(marks, n, 100, 20 * S, 5 * S, 0), 1); /* no progress */
    assert_int_equal(loch_marks_add(marks, n, 200, 9 * S, 5 * S, 0), 1);  /* the clock went back */
    for (loch_lsn lsn = 200; lsn < 200 + 5000; lsn++) {
        n = loch_marks_add(marks, n, lsn, (int64_t)lsn * 10 * S, 5 * S, 0);
        assert_true(n <= LOCH_MARKS_MAX);
        assert_int_equal(marks[n - 1].lsn, lsn);
        assert_int_equal(marks[0].lsn, 100);
        for (size_t i = 1; i < n; i++)
            assert_true(marks[i - 1].lsn < marks[i].lsn && marks[i - 1].wall_us < marks[i].wall_us);
    }
    loch_lsn cutoff = marks[n / 2].lsn;
    n = loch_marks_add(marks, n, 9000, 90000 * S, 5 * S, cutoff);
    assert_int_equal(marks[0].lsn, cutoff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readable_lsns),           cmocka_unit_test(what_is_readable_stays_equal),
        cmocka_unit_test(cuts_that_count_stay),    cmocka_unit_test(broken_rules_are_noticed),
        cmocka_unit_test(points_below_the_cutoff), cmocka_unit_test(the_window_is_time_and_bytes),
        cmocka_unit_test(marks_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
