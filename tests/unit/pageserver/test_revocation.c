/* What a revocation and its end mean for each timeline: decisions only. */
#include "../unit.h"

#include "care/revocation.h"

#include "loch/host/keys.h"

static void a_lock_covers_what_it_holds(void **state)
{
    const struct loch_id none = {{0}}, a = {{1}}, b = {{2}};

    (void)state;
    assert_true(loch_lock_covers(&none, &none)); /* the tenant's CMK: all */
    assert_true(loch_lock_covers(&a, &none));
    assert_true(loch_lock_covers(&a, &a));
    assert_false(loch_lock_covers(&none, &a));
    assert_false(loch_lock_covers(&b, &a));
}

static void everything_comes_back_with_the_tenant(void **state)
{
    struct loch_return_facts f = {.opened = true};

    (void)state;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_SERVE);
    f.opened = false;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_BROKEN);
    f.archived = true;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_ARCHIVED);
    f.there = true; /* whatever it is: made while this was opened */
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_LEAVE);
}

static void a_branch_replaces_only_its_reasons(void **state)
{
    struct loch_return_facts f = {.of_rest = true, .there = true, .opened = true};

    (void)state;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_SERVE);
    f.opened = false;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_BROKEN); /* another reason than the last */
    f.archived = true;                                          /* meanwhile */
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_ARCHIVED);
    f.there_archived = true;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_LEAVE);
    f.there_archived = false;
    f.there_serves = true;
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_LEAVE);
    f = (struct loch_return_facts){.of_rest = true, .given = true, .opened = true};
    assert_int_equal(loch_return_plan(&f), LOCH_RETURN_LEAVE); /* its siblings and parents */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_lock_covers_what_it_holds),
                                       cmocka_unit_test(everything_comes_back_with_the_tenant),
                                       cmocka_unit_test(a_branch_replaces_only_its_reasons)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
