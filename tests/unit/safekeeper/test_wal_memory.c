/* WAL in memory: what all timelines take together, and rings that are as large as their writers
 * need.
 */
#include "../unit.h"
#include "wal_tail.h"

#include <stdlib.h>

#define KIB 1024u
#define MIB (1024u * KIB)

static void a_share_of_what_is_left(void **state)
{
    struct sk_memory m = {0};
    size_t first = 0, second = 0;

    (void)state;
    assert_int_equal(sk_memory_share(NULL, 10, 1000), 1000);
    assert_int_equal(sk_memory_share(&m, 10, 1000), 1000); /* no limit */
    assert_true(sk_memory_has(&m, SIZE_MAX));
    m.limit_bytes = 1000;
    assert_int_equal(sk_memory_share(&m, 10, 1000), 250);
    assert_int_equal(sk_memory_share(&m, 10, 100), 100);
    sk_memory_count(&m, &first, 960);
    assert_int_equal(sk_memory_share(&m, 5, 1000), 10);
    assert_int_equal(sk_memory_share(&m, 20, 1000), 20);
    assert_true(sk_memory_has(&m, 40));
    assert_false(sk_memory_has(&m, 41));
    sk_memory_count(&m, &second, 500); /* whatever the limit */
    assert_false(sk_memory_has(&m, 1));
    assert_int_equal(sk_memory_share(&m, 0, 1000), 0);
    sk_memory_count(&m, &first, 100);
    assert_int_equal(m.used_bytes, 600);
    sk_memory_count(&m, &first, 0);
    sk_memory_count(&m, &second, 0);
    assert_int_equal(m.used_bytes, 0);
    sk_memory_count(NULL, &first, 1);
}

static uint8_t byte_of(loch_lsn lsn)
{
    return (uint8_t)(lsn * 31 + (lsn >> 8) * 7);
}

static void write_some(struct sk_tail *tail, size_t len)
{
    uint8_t *bytes = malloc(len);

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = byte_of(tail->end + i);
    sk_tail_append(tail, loch_slice_of(bytes, len));
    free(bytes);
}

/* All that it says it holds is right, to the byte. */
static void check(const struct sk_tail *tail)
{
    struct loch_slice got;
    loch_lsn at = tail->start;

    while (sk_tail_read(tail, at, UINT64_MAX, SIZE_MAX, &got)) {
        for (size_t i = 0; i < got.len; i++)
            assert_int_equal(got.data[i], byte_of(at + i));
        at += got.len;
    }
    assert_int_equal(at, tail->end);
    assert_true(tail->end - tail->start <= tail->capacity);
}

static void a_ring_follows_its_writer(void **state)
{
    struct sk_memory m = {0};
    struct sk_tail tail;

    (void)state;
    sk_tail_init(&tail, SK_TAIL_BYTES, &m, 77777);
    for (int second = 0; second < 100; second++) { /* 10 KB a second */
        write_some(&tail, 10000);
        sk_tail_tick(&tail);
        assert_int_equal(m.used_bytes, SK_TAIL_LEAST_BYTES);
    }
    check(&tail);
    assert_int_equal(tail.end - tail.start, SK_TAIL_LEAST_BYTES);
    for (int i = 0; i < 40; i++) { /* 5 MB within a second */
        write_some(&tail, 128 * KIB);
        check(&tail);
    }
    assert_int_equal(tail.capacity, SK_TAIL_BYTES);
    assert_true(tail.end - tail.start >= 40 * 128 * KIB); /* nothing went while it grew */
    assert_int_equal(m.used_bytes, tail.capacity);
    for (int second = 0; second < 200; second++) {
        write_some(&tail, 10000);
        sk_tail_tick(&tail);
        check(&tail);
    }
    assert_int_equal(m.used_bytes, SK_TAIL_LEAST_BYTES);
    sk_tail_release(&tail);
    assert_int_equal(m.used_bytes, 0);
    write_some(&tail, 1);
    sk_tail_fini(&tail);
    assert_int_equal(m.used_bytes, 0);
}

static void rings_share_what_there_is(void **state)
{
    struct sk_memory m = {.limit_bytes = 16 * MIB};
    struct sk_tail tails[500];
    const size_t count = sizeof tails / sizeof tails[0];
    size_t without = 0;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        sk_tail_init(&tails[i], SK_TAIL_BYTES, &m, 1000 * i);
        write_some(&tails[i], 300 * KIB);
        check(&tails[i]);
        assert_true(m.used_bytes <= m.limit_bytes);
        without += tails[i].bytes == NULL;
    }
    assert_in_range(without, 1, count - 10);
    for (size_t i = 0; i < count / 2; i++)
        sk_tail_fini(&tails[i]);
    struct sk_tail *last = &tails[count - 1];
    assert_null(last->bytes);
    assert_int_equal(last->start, last->end);
    write_some(last, 100); /* there is room again */
    check(last);
    assert_int_equal(last->end - last->start, 100);
    for (size_t i = count / 2; i < count; i++)
        sk_tail_fini(&tails[i]);
    assert_int_equal(m.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_share_of_what_is_left),
                                       cmocka_unit_test(a_ring_follows_its_writer),
                                       cmocka_unit_test(rings_share_what_there_is)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
