/* Holds: tests of the arithmetic on term histories. */
#include "../unit.h"
#include "loch/consensus/history.h"

#define HISTORY(...)                                                                               \
    {                                                                                              \
        (struct loch_term_start[]){__VA_ARGS__},                                                   \
            sizeof((struct loch_term_start[]){__VA_ARGS__}) / sizeof(struct loch_term_start)       \
    }

static void equal_and_cut(void **state)
{
    (void)state;
    const struct loch_term_history a = HISTORY({0, 100}, {3, 200}, {5, 200});
    const struct loch_term_history b = HISTORY({0, 100}, {3, 200});
    const struct loch_term_history c = HISTORY({0, 100}, {4, 200}, {5, 200});

    assert_true(loch_history_equal(&a, &a));
    assert_false(loch_history_equal(&a, &b));
    assert_false(loch_history_equal(&a, &c));
    assert_int_equal(loch_history_cut(&a, 99), 0);
    assert_int_equal(loch_history_cut(&a, 199), 1);
    assert_int_equal(loch_history_cut(&a, 200), 3); /* a term that starts at the end counts */
    assert_int_equal(loch_history_term(&a, 0), 0);
    assert_int_equal(loch_history_term(&a, 2), 3);
}

static void further(void **state)
{
    (void)state;
    const struct loch_wal_vote_reply a = {.flush_lsn = 300, .history = HISTORY({0, 100}, {3, 200})};
    const struct loch_wal_vote_reply longer = {.flush_lsn = 301, .history = a.history};
    const struct loch_wal_vote_reply later = {.flush_lsn = 250,
                                              .history = HISTORY({0, 100}, {5, 200})};

    assert_false(loch_history_further(&a, &a));
    assert_true(loch_history_further(&longer, &a));
    assert_false(loch_history_further(&a, &longer));
    assert_true(loch_history_further(&later, &longer)); /* whatever the length */
    assert_false(loch_history_further(&longer, &later));
}

static void common_point(void **state)
{
    (void)state;
    const struct loch_term_history own = HISTORY({0, 100}, {3, 200});
    const struct loch_term_history longer = HISTORY({0, 100}, {3, 200}, {7, 300});
    const struct loch_term_history forked = HISTORY({0, 100}, {7, 150});
    const struct loch_term_history late = HISTORY({0, 100}, {7, 250});
    const struct loch_term_history foreign = HISTORY({0, 101});
    loch_lsn lsn = 1;

    assert_true(loch_history_common(&longer, &own, 280, &lsn));
    assert_int_equal(lsn, 280);
    assert_true(loch_history_common(&longer, &own, 320, &lsn)); /* own tail beyond the leader's */
    assert_int_equal(lsn, 300);
    assert_true(loch_history_common(&forked, &own, 280, &lsn));
    assert_int_equal(lsn, 150);
    assert_true(loch_history_common(&late, &own, 280, &lsn)); /* own left the shared term first */
    assert_int_equal(lsn, 200);
    assert_true(loch_history_common(&late, &own, 120, &lsn));
    assert_int_equal(lsn, 120);
    lsn = 1;
    assert_false(loch_history_common(&foreign, &own, 280, &lsn));
    assert_int_equal(lsn, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_and_cut), cmocka_unit_test(further),
                                       cmocka_unit_test(common_point)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
