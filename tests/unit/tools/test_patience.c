/* Waiting for a member: as long as it comes forward, and not without end when it does not. */
#include "../unit.h"
#include "patience.h"

static void progress_gives_time(void **state)
{
    struct loch_patience p = loch_patience_begin(1000);

    (void)state;
    assert_int_equal(p.until_ms, 1000 + LOCH_PATIENCE_MS);
    loch_patience_see(&p, 50000, 100);
    assert_int_equal(p.until_ms, 50000 + LOCH_PATIENCE_MS);
    loch_patience_see(&p, 60000, 100); /* stands still */
    loch_patience_see(&p, 70000, 50);  /* and is cut */
    assert_int_equal(p.until_ms, 50000 + LOCH_PATIENCE_MS);
    loch_patience_see(&p, 80000, 101);
    assert_int_equal(p.until_ms, 80000 + LOCH_PATIENCE_MS);
}

/* A leader that writes on does not make up for a newcomer that is stuck. */
static void the_slowest_newcomer_counts(void **state)
{
    struct loch_member members[] = {{.id = {{1}}, .in = LOCH_MEMBER_OLD},
                                    {.id = {{2}}, .in = LOCH_MEMBER_BOTH},
                                    {.id = {{3}}, .in = LOCH_MEMBER_NEW},
                                    {.id = {{4}}, .in = LOCH_MEMBER_NEW}};
    const struct loch_membership m = {.generation = 2, .members = members, .count = 4};
    struct loch_member_state states[] = {{.known = true, .flush_lsn = 10},
                                         {.known = true, .flush_lsn = 900},
                                         {.known = true, .flush_lsn = 300},
                                         {.known = false}};
    struct loch_patience p = loch_patience_begin(0);

    (void)state;
    loch_patience_see_new(&p, 10, &m, states);
    assert_int_equal(p.reached, 300);
    states[0].flush_lsn = states[1].flush_lsn = 5000;
    loch_patience_see_new(&p, 20, &m, states);
    assert_int_equal(p.until_ms, 10 + LOCH_PATIENCE_MS);
    states[2].flush_lsn = 400;
    loch_patience_see_new(&p, 30, &m, states);
    assert_int_equal(p.until_ms, 30 + LOCH_PATIENCE_MS);
    for (int i = 0; i < 4; i++)
        states[i].known = false;
    loch_patience_see_new(&p, 40, &m, states); /* nobody answers */
    assert_int_equal(p.until_ms, 30 + LOCH_PATIENCE_MS);
}

static void it_says_now_and_then(void **state)
{
    struct loch_patience p = loch_patience_begin(0);

    (void)state;
    assert_false(loch_patience_says(&p, 1000));
    assert_true(loch_patience_says(&p, 2001));
    assert_false(loch_patience_says(&p, 2002));
    assert_true(loch_patience_says(&p, 4002));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(progress_gives_time),
                                       cmocka_unit_test(the_slowest_newcomer_counts),
                                       cmocka_unit_test(it_says_now_and_then)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
