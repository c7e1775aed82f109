/* Time as text, with what is not one. */
#include "../unit.h"

#include "loch/base/time.h"

static int64_t parsed(const char *text)
{
    int64_t us = -1;
    assert_ok(loch_time_parse(text, &us));
    return us;
}

static void reads_what_people_write(void **state)
{
    (void)state;
    assert_true(parsed("1970-01-01") == 0);
    assert_true(parsed("2026-11-28T13:11:35Z") == INT64_C(1795871495000000));
    assert_true(parsed("2026-11-28 13:11:35") == INT64_C(1795871495000000));
    assert_true(parsed("2026-11-28 14:11:35+01") == INT64_C(1795871495000000));
    assert_true(parsed("2026-11-28 09:41:35-03:30") == INT64_C(1795871495000000));
    assert_true(parsed("2026-11-28T13:11") == INT64_C(1795871460000000));
    assert_true(parsed("2026-11-28 13:11:35.5+00") == INT64_C(1795871495500000));
    assert_true(parsed("2026-11-28 13:11:35.1234567Z") == INT64_C(1795871495123456));
    assert_true(parsed("2024-02-29T23:59:59.999999Z") == INT64_C(1709251199999999));
}

static void refuses_the_rest(void **state)
{
    static const char *const wrong[] = {"",
                                        "yesterday",
                                        "0/16B3740",
                                        "2026-13-01",
                                        "2026-02-29",
                                        "2026-11-28T24:00:00Z",
                                        "2026-11-28T13:11:35.Z",
                                        "2026-11-28T13:11:35Zx",
                                        "2026-11-28T13:11:35+1",
                                        "2026-11-28T13:11:35+00:61",
                                        "1969-12-31T23:59:59Z",
                                        "1970-01-01T00:30:00+01",
                                        "2026-11-28T",
                                        "2026-1-28"};
    int64_t us = 77;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (loch_time_parse(wrong[i], &us).code != LOCH_E_INVALID)
            fail_msg("\"%s\" was taken", wrong[i]);
    }
    assert_true(us == 77);
}

static void writes_what_it_reads(void **state)
{
    char text[LOCH_TIME_TEXT_BYTES];
    (void)state;
    assert_string_equal(loch_time_format(INT64_C(1795871495123456), text),
                        "2026-11-28T13:11:35.123456Z");
    assert_string_equal(loch_time_format(-5, text), "1970-01-01T00:00:00.000000Z");
    assert_string_equal(loch_time_format(INT64_MAX, text), "9999-12-31T23:59:59.999999Z");
    for (int64_t us = 1; us < INT64_C(200000000000000000); us = us * 3 + 1)
        assert_true(parsed(loch_time_format(us, text)) == us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_people_write),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
