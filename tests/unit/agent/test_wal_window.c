/* Holds: tests of the ring of recent WAL. */
#include "../unit.h"
#include "wal_window.h"

#define MIB (UINT64_C(1) << 20)

static void it_wraps_and_drops_the_oldest(void **state)
{
    (void)state;
    struct loch_wal_window w;
    struct loch_slice parts[2];
    static uint8_t chunk[700 * 1024];

    assert_ok(loch_wal_window_init(&w, 1));
    assert_int_equal(w.cap, MIB);
    loch_wal_window_begin(&w, 5000);
    memset(chunk, 'a', sizeof chunk);
    assert_ok(loch_wal_window_push(&w, loch_slice_of(chunk, sizeof chunk), 5000));
    assert_int_equal(loch_wal_window_room(&w, 5000), MIB - sizeof chunk);
    memset(chunk, 'b', sizeof chunk);
    assert_code(loch_wal_window_push(&w, loch_slice_of(chunk, sizeof chunk), 5000), LOCH_E_LIMIT);
    assert_int_equal(w.end, 5000 + sizeof chunk);
    assert_ok(loch_wal_window_push(&w, loch_slice_of(chunk, sizeof chunk), w.end));
    assert_int_equal(w.end - w.start, MIB);
    loch_wal_window_get(&w, w.end - sizeof chunk, sizeof chunk, parts);
    assert_int_equal(parts[0].len + parts[1].len, sizeof chunk);
    assert_true(parts[1].len > 0);
    assert_memory_equal(parts[0].data, chunk, parts[0].len);
    assert_memory_equal(parts[1].data, chunk, parts[1].len);
    loch_wal_window_get(&w, w.start, 1, parts);
    assert_int_equal(parts[0].data[0], 'a');
    loch_wal_window_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_wraps_and_drops_the_oldest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
