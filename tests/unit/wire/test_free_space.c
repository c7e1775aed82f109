/* What free space maps say: round trip, golden bytes, every truncation and senseless leaf refused.
 */
#include "golden.h"

#include "loch/wire/free_space.h"

#include <stdio.h>
#include <stdlib.h>

static const struct loch_rel rel = {1663, 5, 16384};
static uint8_t mixed[LOCH_FREE_SPACE_SLOTS], none[LOCH_FREE_SPACE_SLOTS];

static struct loch_buf encoded(void)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    memset(mixed, 0, sizeof mixed);
    memset(mixed, 7, 3);
    mixed[100] = 255;
    loch_writer_init(&w, &buf);
    loch_free_space_begin(&w);
    loch_free_space_add(&w, &rel, 0, mixed);
    loch_free_space_add(&w, &rel, 1, none);
    loch_free_space_add(&w, &rel, 1055523, mixed);
    assert_ok(loch_writer_finish(&w));
    return buf;
}

static loch_status decode(struct loch_slice bytes, uint32_t *count)
{
    struct loch_free_space_leaf leaf;
    struct loch_reader r;
    bool found = true;

    *count = 0;
    LOCH_TRY(loch_free_space_open(&r, bytes));
    for (;;) {
        LOCH_TRY(loch_free_space_next(&r, &leaf, &found));
        if (!found)
            return LOCH_OK;
        (*count)++;
    }
}

static void round_trip(void **state)
{
    struct loch_buf buf = encoded(), copy = {0};
    uint8_t back[LOCH_FREE_SPACE_SLOTS];
    struct loch_free_space_leaf leaf;
    struct loch_reader r;
    struct loch_writer w;
    bool found;

    (void)state;
    loch_writer_init(&w, &copy);
    loch_free_space_begin(&w);
    assert_ok(loch_free_space_open(&r, loch_buf_slice(&buf)));
    for (uint32_t i = 0; i < 2; i++) {
        assert_ok(loch_free_space_next(&r, &leaf, &found));
        assert_true(found);
        assert_memory_equal(&leaf.rel, &rel, sizeof rel);
        assert_int_equal(leaf.leaf, i == 0 ? 0 : 1055523);
        assert_int_equal(leaf.run_count, 3);
        loch_free_space_expand(&leaf, back);
        assert_memory_equal(back, mixed, sizeof back);
        loch_free_space_copy(&w, &leaf);
    }
    assert_ok(loch_free_space_next(&r, &leaf, &found));
    assert_false(found);
    assert_ok(loch_writer_finish(&w));
    assert_int_equal(copy.len, buf.len);
    assert_memory_equal(copy.data, buf.data, buf.len);
    loch_buf_fini(&copy);
    loch_buf_fini(&buf);
}

/* No leaf is longer than is said, and a full one fits. */
static void worst_leaf(void **state)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    uint32_t count;

    (void)state;
    for (size_t i = 0; i < sizeof mixed; i++)
        mixed[i] = (uint8_t)(1 + i % 2);
    loch_writer_init(&w, &buf);
    loch_free_space_begin(&w);
    loch_free_space_add(&w, &rel, 0, mixed);
    assert_ok(loch_writer_finish(&w));
    assert_int_equal(buf.len, 4 + LOCH_FREE_SPACE_LEAF_MOST);
    assert_ok(decode(loch_buf_slice(&buf), &count));
    assert_int_equal(count, 1);
    loch_buf_fini(&buf);
}

static void refused(void **state)
{
    static const size_t senseless[][2] = {{0, 0},  {12, 0},   {20, 0},  {20, 200},
                                          {25, 0}, {25, 255}, {45, 255}};
    struct loch_buf buf = encoded();
    uint32_t count;

    (void)state;
    for (size_t len = 0; len < buf.len; len++) {
        uint8_t *cut = malloc(len + 1); /* so that a sanitizer sees reads beyond it */
        assert_non_null(cut);
        memcpy(cut, buf.data, len);
        if (len == 4 || len == 33) /* between two leaves: a list too */
            assert_ok(decode(loch_slice_of(cut, len), &count));
        else
            assert_code(decode(loch_slice_of(cut, len), &count), LOCH_E_CORRUPT);
        free(cut);
    }
    for (size_t i = 0; i < sizeof senseless / sizeof senseless[0]; i++) {
        uint8_t bytes[62];
        assert_int_equal(buf.len, sizeof bytes);
        memcpy(bytes, buf.data, sizeof bytes);
        if (senseless[i][0] == 12)
            memset(bytes + 12, 0, 4); /* no relation */
        else if (senseless[i][0] == 25)
            memset(bytes + 25, (int)senseless[i][1], 2); /* a run of none, or beyond the leaf */
        else if (senseless[i][0] == 45)
            memset(bytes + 45, 255, 4); /* beyond what a relation has */
        else
            bytes[senseless[i][0]] = (uint8_t)senseless[i][1];
        assert_code(decode(loch_slice_of(bytes, sizeof bytes), &count), LOCH_E_CORRUPT);
    }
    loch_buf_fini(&buf);
}

static void golden(void **state)
{
    (void)state;
    is_golden(encoded(), "free_space.bin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(worst_leaf),
                                       cmocka_unit_test(refused), cmocka_unit_test(golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
