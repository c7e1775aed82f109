/* Holds: tests of when WAL waits for company. */
#include "../unit.h"

#include "loch/wire/wal.h"
#include "pace.h"

#define MS UINT64_C(1000000)

static void short_of_cpu(struct loch_pace *p)
{
    loch_pace_look(p, "1000 1000 10\n");
    assert_false(p->short_of_cpu); /* nothing to compare with */
    loch_pace_look(p, "2000000 4001000 110\n");
    assert_true(p->short_of_cpu); /* 40 us, 100 times */
}

static void with_cpu_to_spare_nothing_waits(void **state)
{
    struct loch_pace p = {0};

    (void)state;
    loch_pace_look(&p, "1000 1000 10\n");
    loch_pace_look(&p, "2000000 201000 110\n"); /* 2 us */
    for (loch_lsn end = 1; end <= 100; end++) {
        assert_true(loch_pace_arrived(&p, 1000 + end, MS));
        loch_pace_sent(&p, 1000 + end, MS);
    }
}

static void one_client_never_waits(void **state)
{
    struct loch_pace p = {0};

    (void)state;
    short_of_cpu(&p);
    for (loch_lsn end = 1; end <= 100; end++) {
        assert_true(loch_pace_arrived(&p, 1000 + end, MS));
        loch_pace_sent(&p, 1000 + end, MS);
        loch_pace_committed(&p, 1000 + end);
    }
    /* Nor do as many as are no company. */
    for (loch_lsn end = 201; end <= 300; end += LOCH_PACE_COMPANY - 1) {
        for (loch_lsn i = 0; i < LOCH_PACE_COMPANY - 1; i++)
            assert_true(loch_pace_arrived(&p, 1000 + end + i, MS));
        loch_pace_sent(&p, 1000 + end + LOCH_PACE_COMPANY, MS);
        loch_pace_committed(&p, 1000 + end + LOCH_PACE_COMPANY);
    }
}

static void many_go_together(void **state)
{
    struct loch_pace p = {0};

    (void)state;
    short_of_cpu(&p);
    loch_pace_sent(&p, 1000, 10 * MS);
    for (loch_lsn end = 1001; end < 1000 + LOCH_PACE_COMPANY; end++)
        assert_true(loch_pace_arrived(&p, end, 10 * MS + 5));
    assert_false(loch_pace_arrived(&p, 1100, 10 * MS + 6));
    assert_false(loch_pace_arrived(&p, 1101, 11 * MS - 1)); /* more than are remembered */
    assert_true(loch_pace_arrived(&p, 1102, 11 * MS));
    loch_pace_sent(&p, 1102, 11 * MS);
    loch_pace_committed(&p, 1101);
    assert_int_equal(p.count, 1); /* what came last is not committed */
    loch_pace_committed(&p, 1102);
    assert_int_equal(p.count, 0);
    assert_false(loch_pace_arrived(&p, 1103, 11 * MS + 1)); /* company was seen not long ago */
    assert_true(loch_pace_arrived(&p, 1102 + LOCH_WAL_CHUNK_BYTES, 11 * MS + 2)); /* a load */
    for (unsigned i = 0; i < 100; i++) {                                          /* alone again */
        loch_pace_committed(&p, UINT64_MAX);
        (void)loch_pace_arrived(&p, 1110 + i, 11 * MS + 3);
    }
    loch_pace_committed(&p, UINT64_MAX);
    assert_true(loch_pace_arrived(&p, 1300, 11 * MS + 4));
}

static void what_tells_nothing_is_no_shortage(void **state)
{
    static const char *const bad[] = {"", "12", "a b c", "1 2"};
    struct loch_pace p = {0};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        short_of_cpu(&p);
        loch_pace_look(&p, bad[i]);
        assert_false(p.short_of_cpu);
    }
    short_of_cpu(&p);
    loch_pace_look(&p, "2000001 9001000 112\n"); /* twice: an idle agent's accident */
    assert_false(p.short_of_cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_cpu_to_spare_nothing_waits),
        cmocka_unit_test(one_client_never_waits),
        cmocka_unit_test(many_go_together),
        cmocka_unit_test(what_tells_nothing_is_no_shortage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
