/* What of the past can be read: cutoff, holds, leases, branch points; what stands in the manifest.
 */
#include "store_fixture.h"

#include "store/manifest.h"
#include "store/retention.h"

#define HOUR_US (INT64_C(3600) * 1000000)

/* A timeline with flushes at 2000, 3000, ... 9000, each with a mark (times are faked by the
 * window).
 */
static struct loch_timeline *with_history(struct site *s)
{
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    struct loch_key key = {.kind = LOCH_KEY_RELMAP, .spc = 1663, .db = 5};
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("c", 1)));
    for (loch_lsn lsn = 2000; lsn <= 9000; lsn += 1000) {
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(&lsn, sizeof lsn)));
        loch_timeline_advance(t, lsn, lsn - 10);
        assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
        assert_ok(loch_timeline_flush(t));
    }
    return t;
}

/* Moves the cutoff to the newest mark: with the gap between marks that is where the timeline began.
 */
static loch_lsn collect_all(struct site *s, struct loch_timeline *t, const loch_lsn *extra,
                            size_t extra_count)
{
    const struct loch_pitr_window none = {0, 0};
    int64_t when = 0;
    bool moved = false;
    assert_ok(loch_timeline_advance_cutoff(t, &none, loch_env_wall_us(s->env) + HOUR_US, extra,
                                           extra_count, &moved));
    return loch_timeline_cutoff(t, &when);
}

/* Puts marks at every flush's LSN into the manifest, as if they lay hours apart. */
static struct loch_timeline *spread_marks(struct site *s, struct loch_timeline *t)
{
    struct loch_manifest m = {0};
    struct loch_etag etag = {0};
    struct loch_id id = loch_timeline_info(t)->timeline;
    assert_ok(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &m, &etag));
    m.mark_count = 0;
    for (loch_lsn lsn = 1000; lsn <= 9000; lsn += 1000)
        m.marks[m.mark_count++] = (struct loch_lsn_mark){lsn, (int64_t)lsn / 1000 * HOUR_US};
    m.generation++;
    assert_ok(loch_manifest_put(&s->store, s->keys, &m, &etag));
    loch_manifest_fini(&m);
    return site_reopen(s, t, NULL);
}

static loch_lsn move_to(struct loch_timeline *t, uint64_t hours_before_nine)
{
    const struct loch_pitr_window w = {hours_before_nine * 3600, 0};
    int64_t when = 0;
    bool moved = false;
    assert_ok(loch_timeline_advance_cutoff(t, &w, 9 * HOUR_US, NULL, 0, &moved));
    return loch_timeline_cutoff(t, &when);
}

static void all_is_readable_at_first(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_history(s);
    int64_t when = 0;
    assert_int_equal(loch_timeline_cutoff(t, &when), LOCH_LSN_NONE);
    assert_true(loch_timeline_leases_settled(t)); /* it was made here: there are none of before */
    assert_ok(loch_timeline_readable(t, 1000));
    assert_ok(loch_timeline_readable(t, 9000));
    assert_code(loch_timeline_readable(t, 999), LOCH_E_INVALID);
    loch_timeline_release(t);
}

static void below_the_cutoff_is_refused_with_the_reason(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_view *view = NULL;
    const struct loch_pitr_window all = {0, 0};
    assert_int_equal(move_to(t, 5), 4000);
    assert_int_equal(move_to(t, 6), 4000); /* never back */
    assert_ok(loch_timeline_readable(t, 4000));
    assert_code(loch_timeline_readable(t, 3999), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), "begins at 0/FA0, reached by 1970-01-01 04:00:00"));
    assert_ok(loch_view_create(t, &view));
    assert_code(loch_view_readable(view, 3999), LOCH_E_INVALID);
    assert_ok(loch_view_readable(view, 4000));
    assert_int_equal(move_to(t, 2), 7000);
    assert_ok(loch_view_readable(view, 4000)); /* an older view still shows what it did */
    loch_view_destroy(view);
    assert_false(loch_timeline_leases_settled(t)); /* opened a moment ago */
    assert_false(loch_timeline_cutoff_due(t, &all, 9 * HOUR_US));
    t = site_reopen(s, t, NULL); /* it is in the manifest */
    assert_code(loch_timeline_readable(t, 6999), LOCH_E_INVALID);
    assert_ok(loch_timeline_readable(t, 7000));
    loch_timeline_release(t);
}

static void holds_keep_an_lsn(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_hold *a = NULL, *b = NULL;
    assert_ok(loch_timeline_hold(t, 2500, &a));
    assert_ok(loch_timeline_hold(t, 8500, &b));
    assert_int_equal(move_to(t, 3), 6000);
    assert_ok(loch_timeline_readable(t, 2500));
    assert_code(loch_timeline_readable(t, 2501), LOCH_E_INVALID);
    loch_hold_release(b);
    assert_ok(loch_timeline_hold(t, 2500, &b)); /* what is kept can be held by another too */
    loch_hold_release(a);
    assert_int_equal(move_to(t, 2), 7000);
    assert_ok(loch_timeline_readable(t, 2500));
    loch_hold_release(b);
    loch_hold_release(NULL);
    assert_int_equal(move_to(t, 1), 8000);
    assert_code(loch_timeline_hold(t, 2500, &a), LOCH_E_INVALID);
    loch_timeline_release(t);
}

static void leases_end_and_are_renewed(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_lsn_lease *list = NULL;
    size_t count = 0;
    assert_ok(loch_timeline_lease(t, 2500, "replica", 60000));
    assert_ok(loch_timeline_lease(t, 2500, "replica", 60000));
    assert_ok(loch_timeline_lease(t, 2600, "short", 1));
    assert_code(loch_timeline_lease(t, 2500, "", 60000), LOCH_E_INVALID);
    assert_code(loch_timeline_lease(t, 2500, "x", 0), LOCH_E_LIMIT);
    assert_code(loch_timeline_lease(t, 2500, "x", LOCH_LEASE_MAX_MS + 1), LOCH_E_LIMIT);
    assert_code(loch_timeline_lease(t, 9001, "x", 60000), LOCH_E_INVALID);
    do { /* until the short one has expired */
        free(list);
        assert_ok(loch_timeline_leases(t, &list, &count));
    } while (count == 2);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].holder, "replica");
    assert_int_equal(list[0].lsn, 2500);
    free(list);
    assert_int_equal(move_to(t, 3), 6000);
    assert_ok(loch_timeline_readable(t, 2500));
    assert_code(loch_timeline_readable(t, 2600), LOCH_E_INVALID);
    t = site_reopen(s, t, NULL); /* the lease is gone, what it holds is not until the next move */
    assert_ok(loch_timeline_lease(t, 2500, "replica", 60000));
    assert_code(loch_timeline_lease(t, 2600, "short", 60000), LOCH_E_INVALID);
    assert_int_equal(move_to(t, 2), 7000);
    assert_ok(loch_timeline_readable(t, 2500));
    assert_code(loch_timeline_lease_end(t, 2500, "other"), LOCH_E_NOT_FOUND);
    assert_ok(loch_timeline_lease_end(t, 2500, "replica"));
    assert_int_equal(move_to(t, 1), 8000);
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    loch_timeline_release(t);
}

static void branches_hold_what_they_stand_on(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_timeline *child = site_timeline(s, 2500, t), *late = NULL;
    struct loch_timeline_info info = *loch_timeline_info(child);
    struct loch_hold *hold = NULL;
    const loch_lsn broken = 3500;
    bool moved = false;
    const struct loch_pitr_window three = {3 * 3600, 0};
    assert_ok(loch_timeline_commit(child, 2400, loch_slice_of("c", 1)));
    /* 3500: the point of a branch that could not be opened */
    assert_ok(loch_timeline_advance_cutoff(t, &three, 9 * HOUR_US, &broken, 1, &moved));
    assert_true(moved);
    assert_ok(loch_timeline_advance_cutoff(t, &three, 9 * HOUR_US, &broken, 1, &moved));
    assert_false(moved); /* nothing to commit */
    assert_ok(loch_timeline_readable(t, 3500));
    assert_ok(loch_timeline_readable(child, 2500));
    assert_code(loch_timeline_readable(child, 2499), LOCH_E_INVALID); /* the ancestor's */
    assert_ok(loch_timeline_hold(child, 3500 - 1000, &hold));
    loch_hold_release(hold);
    info.start_lsn = info.ancestor_lsn = 4000;
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_code(loch_timeline_create(&s->store, s->keys, &info, t, &late), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), "older than the history"));
    loch_timeline_release(child);
    assert_ok(loch_timeline_advance_cutoff(t, &three, 9 * HOUR_US, NULL, 0, &moved));
    assert_true(moved); /* the points went with the branches */
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    loch_timeline_release(t);
}

/* As the tenant's manifest goes on naming the point of a branch that was lost. */
static void what_was_passed_is_not_put_back(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_timeline *late = NULL;
    struct loch_timeline_info info;
    const loch_lsn points[] = {2500, 6500};
    const struct loch_pitr_window three = {3 * 3600, 0}, two = {2 * 3600, 0};
    bool moved = false;
    assert_int_equal(move_to(t, 3), 6000);
    assert_ok(loch_timeline_advance_cutoff(t, &three, 9 * HOUR_US, points, 2, &moved));
    assert_false(moved);
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    assert_ok(loch_timeline_advance_cutoff(t, &two, 9 * HOUR_US, points, 2, &moved));
    assert_true(moved);
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    assert_ok(loch_timeline_readable(t, 6500));
    info = *loch_timeline_info(t); /* and a branch that stands there does not open */
    info.ancestor = info.timeline;
    info.start_lsn = info.ancestor_lsn = 2500;
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_code(loch_timeline_create(&s->store, s->keys, &info, t, &late), LOCH_E_INVALID);
    t = site_reopen(s, t, NULL);
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    assert_ok(loch_timeline_readable(t, 6500));
    loch_timeline_release(t);
}

static void holds_let_go_while_points_are_gathered_count(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_hold *a = NULL, *b = NULL, *c = NULL;
    assert_ok(loch_timeline_hold(t, 2500, &a));
    assert_ok(loch_timeline_hold(t, 2600, &b));
    loch_hold_release(a); /* before: whoever gathers knows of it */
    loch_timeline_gather_begin(t);
    assert_ok(loch_timeline_hold(t, 2700, &c));
    loch_hold_release(b);
    loch_hold_release(c);
    assert_int_equal(move_to(t, 3), 6000);
    loch_timeline_gather_end(t);
    assert_code(loch_timeline_readable(t, 2500), LOCH_E_INVALID);
    assert_ok(loch_timeline_readable(t, 2600));
    assert_ok(loch_timeline_readable(t, 2700));
    loch_timeline_gather_begin(t);
    assert_int_equal(move_to(t, 2), 7000);
    loch_timeline_gather_end(t);
    assert_code(loch_timeline_readable(t, 2600), LOCH_E_INVALID);
    loch_timeline_release(t);
}

static void a_window_of_its_own(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    struct loch_pitr_window w;
    assert_false(loch_timeline_own_window(t, &w));
    w = (struct loch_pitr_window){6 * 3600, 0};
    assert_ok(loch_timeline_set_window(t, &w));
    assert_int_equal(move_to(t, 2), 3000);
    t = site_reopen(s, t, NULL);
    assert_true(loch_timeline_own_window(t, &w));
    assert_int_equal(w.seconds, 6 * 3600);
    struct loch_timeline *child = site_timeline(s, 5000, t);
    assert_true(loch_timeline_own_window(child, &w));
    assert_int_equal(w.seconds, 6 * 3600); /* a branch begins with its parent's */
    loch_timeline_release(child);
    loch_timeline_release(t);
}

static void the_tip_can_be_the_cutoff(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = spread_marks(s, with_history(s));
    assert_int_equal(collect_all(s, t, NULL, 0), 9000);
    assert_ok(loch_timeline_readable(t, 9000));
    assert_code(loch_timeline_readable(t, 8999), LOCH_E_INVALID);
    loch_timeline_release(t);
}

#define WITH_SITE(name_) cmocka_unit_test_setup_teardown(name_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(all_is_readable_at_first),
        WITH_SITE(below_the_cutoff_is_refused_with_the_reason),
        WITH_SITE(holds_keep_an_lsn),
        WITH_SITE(leases_end_and_are_renewed),
        WITH_SITE(branches_hold_what_they_stand_on),
        WITH_SITE(what_was_passed_is_not_put_back),
        WITH_SITE(holds_let_go_while_points_are_gathered_count),
        WITH_SITE(a_window_of_its_own),
        WITH_SITE(the_tip_can_be_the_cutoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
