/* What a stopped compute leaves: round trips, golden bytes, every truncation and nonsense refused.
 */
#include "golden.h"

#include "loch/wire/stop_state.h"

#include <stdio.h>
#include <stdlib.h>

static uint8_t page[LOCH_PAGE_BYTES];

static const struct loch_stop_head head = {.tenant = {{1, 2, 3}},
                                           .timeline = {{4, 5, 6}},
                                           .id = 0x1122334455667788u,
                                           .unlogged_lsn = 4711,
                                           .part_count = 2};

static struct loch_stop_part statistics(void)
{
    return (struct loch_stop_part){.id = head.id,
                                   .number = 0,
                                   .kind = LOCH_STOP_STATISTICS,
                                   .offset = 0x100000,
                                   .bytes = loch_slice_of("figures", 7)};
}

static struct loch_stop_part pages(void)
{
    memset(page, 0xab, sizeof page);
    return (struct loch_stop_part){.id = head.id,
                                   .number = 1,
                                   .kind = LOCH_STOP_PAGES,
                                   .rel = {1663, 5, 16384},
                                   .block = 127,
                                   .bytes = loch_slice_of(page, sizeof page)};
}

static struct loch_buf encoded_head(const struct loch_stop_head *h)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_stop_head_encode(&w, h);
    assert_ok(loch_writer_finish(&w));
    return buf;
}

static struct loch_buf encoded_part(struct loch_stop_part part)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_stop_part_encode(&w, &part);
    assert_ok(loch_writer_finish(&w));
    return buf;
}

static void heads(void **state)
{
    struct loch_buf buf = encoded_head(&head);
    struct loch_stop_head back;

    (void)state;
    assert_ok(loch_stop_head_decode(loch_buf_slice(&buf), &back));
    assert_memory_equal(&back.tenant, &head.tenant, sizeof back.tenant);
    assert_memory_equal(&back.timeline, &head.timeline, sizeof back.timeline);
    assert_true(back.id == head.id && back.unlogged_lsn == 4711 && back.part_count == 2);
    for (size_t len = 0; len < buf.len; len++)
        assert_code(loch_stop_head_decode(loch_slice_of(buf.data, len), &back), LOCH_E_CORRUPT);
    buf.data[0] ^= 1;
    assert_code(loch_stop_head_decode(loch_buf_slice(&buf), &back), LOCH_E_CORRUPT);
    buf.data[0] ^= 1;
    loch_put_u32(buf.data + 52, LOCH_STOP_PARTS_MAX + 1);
    assert_code(loch_stop_head_decode(loch_buf_slice(&buf), &back), LOCH_E_CORRUPT);
    loch_put_u32(buf.data + 52, 2);
    assert_ok(loch_buf_append(&buf, "x", 1));
    assert_code(loch_stop_head_decode(loch_buf_slice(&buf), &back), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);
}

static void parts(void **state)
{
    struct loch_buf buf = encoded_part(statistics());
    struct loch_stop_part back, empty = pages();

    (void)state;
    assert_ok(loch_stop_part_decode(loch_buf_slice(&buf), &back));
    assert_true(back.id == head.id && back.number == 0 && back.offset == 0x100000);
    assert_int_equal(back.kind, LOCH_STOP_STATISTICS);
    assert_int_equal(back.bytes.len, 7);
    assert_memory_equal(back.bytes.data, "figures", 7);
    loch_buf_fini(&buf);
    buf = encoded_part(pages());
    assert_ok(loch_stop_part_decode(loch_buf_slice(&buf), &back));
    assert_int_equal(back.kind, LOCH_STOP_PAGES);
    assert_true(back.rel.rel == 16384 && back.block == 127 && back.number == 1);
    assert_int_equal(back.bytes.len, sizeof page);
    assert_memory_equal(back.bytes.data, page, sizeof page);
    loch_buf_fini(&buf);
    empty.bytes.len = 0;
    buf = encoded_part(empty);
    assert_ok(loch_stop_part_decode(loch_buf_slice(&buf), &back));
    assert_int_equal(back.bytes.len, 0);
    loch_buf_fini(&buf);
}

static void refused(void **state)
{
    struct loch_buf buf = encoded_part(pages());
    struct loch_stop_part back;

    (void)state;
    for (size_t len = 0; len < buf.len; len++)
        if (len != 36) /* an empty relation */
            assert_code(loch_stop_part_decode(loch_slice_of(buf.data, len), &back), LOCH_E_CORRUPT);
    static const size_t places[] = {0, 12, 16, 28, 32};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint32_t before = loch_get_u32(buf.data + places[i]);
        loch_put_u32(buf.data + places[i], places[i] == 28 ? 0 : UINT32_MAX);
        assert_code(loch_stop_part_decode(loch_buf_slice(&buf), &back), LOCH_E_CORRUPT);
        loch_put_u32(buf.data + places[i], before);
    }
    assert_ok(loch_stop_part_decode(loch_buf_slice(&buf), &back));
    loch_buf_fini(&buf);
    buf = encoded_part(statistics());
    loch_put_u64(buf.data + 20, LOCH_STOP_STATS_MAX);
    assert_code(loch_stop_part_decode(loch_buf_slice(&buf), &back), LOCH_E_CORRUPT);
    assert_code(loch_stop_part_decode(loch_slice_of(buf.data, 28), &back), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);
}

static void golden(void **state)
{
    struct loch_stop_part empty = pages();

    (void)state;
    empty.bytes.len = 0;
    is_golden(encoded_head(&head), "stop_head.bin");
    is_golden(encoded_part(statistics()), "stop_statistics.bin");
    is_golden(encoded_part(empty), "stop_pages.bin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads), cmocka_unit_test(parts),
                                       cmocka_unit_test(refused), cmocka_unit_test(golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
