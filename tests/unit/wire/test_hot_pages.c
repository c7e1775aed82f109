/* The list of hot pages: round trip, golden bytes, every truncation and senseless run refused. */
#include "golden.h"

#include "loch/wire/hot_pages.h"

#include <stdio.h>
#include <stdlib.h>

static const struct loch_hot_run runs[] = {
    {{1663, 5, 16384}, 0, 1}, {{1663, 5, 16384}, 7, 100}, {{1663, 16400, 2619}, 4294967290u, 5}};

static struct loch_buf encoded(uint32_t count)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_hot_pages_encode(&w, runs, count);
    assert_ok(loch_writer_finish(&w));
    return buf;
}

static void round_trip(void **state)
{
    (void)state;
    for (uint32_t count = 0; count <= 3; count++) {
        struct loch_buf buf = encoded(count);
        struct loch_hot_pages list;
        assert_ok(loch_hot_pages_decode(loch_buf_slice(&buf), &list));
        assert_int_equal(list.count, count);
        for (uint32_t i = 0; i < count; i++) {
            struct loch_hot_run run = loch_hot_pages_at(&list, i);
            assert_memory_equal(&run, &runs[i], sizeof run);
        }
        loch_buf_fini(&buf);
    }
}

static void refused(void **state)
{
    struct loch_hot_pages list;
    struct loch_buf buf = encoded(3);

    (void)state;
    for (size_t len = 0; len < buf.len; len++) {
        uint8_t *cut = malloc(len + 1); /* so that a sanitizer sees reads beyond it */
        assert_non_null(cut);
        memcpy(cut, buf.data, len);
        assert_code(loch_hot_pages_decode(loch_slice_of(cut, len), &list), LOCH_E_CORRUPT);
        free(cut);
    }
    static const size_t senseless[][2] = {{0, 0}, {7, 0xff}, {16, 0}, {24, 0}, {64, 6}};
    for (size_t i = 0; i < sizeof senseless / sizeof senseless[0]; i++) {
        uint8_t bytes[68];
        assert_int_equal(buf.len, sizeof bytes);
        memcpy(bytes, buf.data, sizeof bytes);
        bytes[senseless[i][0]] = (uint8_t)senseless[i][1];
        if (senseless[i][0] == 16)
            memset(bytes + 16, 0, 4); /* no relation */
        assert_code(loch_hot_pages_decode(loch_slice_of(bytes, sizeof bytes), &list),
                    LOCH_E_CORRUPT);
    }
    assert_ok(loch_buf_append(&buf, "x", 1));
    assert_code(loch_hot_pages_decode(loch_buf_slice(&buf), &list), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);
}

static void golden(void **state)
{
    (void)state;
    is_golden(encoded(3), "hot_pages.bin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(refused),
                                       cmocka_unit_test(golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
