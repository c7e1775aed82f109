#include "../unit.h"
#include "loch/host/refusals.h"

#include <stdio.h>

#define SECOND UINT64_C(1000000000)

static void the_same_is_said_once_a_minute(void **state)
{
    struct loch_refusals r = {0};
    const char *text = NULL;
    uint32_t more = 0;

    (void)state;
    assert_true(loch_refusals_news(&r, "no", 5 * SECOND));
    for (int i = 0; i < 1000; i++)
        assert_false(loch_refusals_news(&r, "no", 6 * SECOND + (uint64_t)i));
    assert_true(loch_refusals_news(&r, "another", 6 * SECOND));
    assert_false(loch_refusals_over(&r, 64 * SECOND, &text, &more));
    assert_true(loch_refusals_over(&r, 65 * SECOND, &text, &more));
    assert_string_equal(text, "no");
    assert_int_equal(more, 1000);
    assert_false(loch_refusals_over(&r, 66 * SECOND, &text, &more));
    assert_true(loch_refusals_news(&r, "no", 66 * SECOND));
    /* Without a look between: the minute over is enough. */
    assert_true(loch_refusals_news(&r, "another", 126 * SECOND));
    assert_false(loch_refusals_news(&r, "another", 127 * SECOND));
}

static void many_are_said_a_few_a_minute(void **state)
{
    struct loch_refusals r = {0};
    const char *others = NULL;
    char text[600];
    uint32_t said = 0;
    uint32_t more = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        said += loch_refusals_news(&r, text, 7 * SECOND + (uint64_t)i);
    }
    assert_int_equal(said, LOCH_REFUSALS_MINUTE);
    assert_false(loch_refusals_over(&r, 59 * SECOND, &others, &more));
    assert_true(loch_refusals_over(&r, 61 * SECOND, &others, &more));
    assert_int_equal(more, 1000 - LOCH_REFUSALS_MINUTE);
    assert_true(loch_refusals_news(&r, "one more", 61 * SECOND));
    /* What was said last is known, what is long ago has made room. */
    assert_false(loch_refusals_news(&r, "299", 61 * SECOND));
    assert_true(loch_refusals_news(&r, "0", 61 * SECOND));
    /* A text longer than what is kept of it is the same again. */
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_true(loch_refusals_news(&r, text, 61 * SECOND));
    assert_false(loch_refusals_news(&r, text, 61 * SECOND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_is_said_once_a_minute),
                                       cmocka_unit_test(many_are_said_a_few_a_minute)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
