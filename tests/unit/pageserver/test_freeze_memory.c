/* Every allocation of a freeze fails once: all is as it was, what is put afterwards is seen, and
 * the next freeze takes everything along. Interposes calloc, so it does nothing under sanitizers.
 */
#include "store_fixture.h"

#include "../failing_alloc.h"

#define L ((loch_lsn)0x1000000)

static void put(struct loch_timeline *t, loch_lsn lsn, uint8_t mark)
{
    const struct loch_key key = {.kind = LOCH_KEY_TWOPHASE, .rel = 9};
    assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(&mark, 1)));
    loch_timeline_advance(t, lsn, lsn - 8);
}

static void check(struct loch_timeline *t, loch_lsn lsn, uint8_t mark)
{
    const struct loch_key key = {.kind = LOCH_KEY_TWOPHASE, .rel = 9};
    struct loch_view *view = NULL;
    struct loch_buf value = {0};
    bool found = false;
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_get(view, &key, lsn, &value, &found, NULL));
    assert_true(found && value.len == 1 && value.data[0] == mark);
    loch_buf_fini(&value);
    loch_view_destroy(view);
}

static void a_freeze_without_memory_changes_nothing(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, L, NULL);
    unsigned failures = 0;
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    put(t, L + 64, 1);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
    for (long n = 1;; n++) {
        const loch_lsn lsn = L + 64 + (loch_lsn)n * 64;
        const size_t frozen = loch_timeline_frozen_bytes(t);
        put(t, lsn, (uint8_t)n);
        hit = false;
        countdown = n;
        const loch_status st = loch_timeline_freeze(t, loch_slice_of("control", 7));
        countdown = 0;
        check(t, lsn, (uint8_t)n);
        if (loch_is_ok(st))
            break;
        failures += hit;
        assert_int_equal(st.code, LOCH_E_NO_MEMORY);
        assert_int_equal(loch_timeline_frozen_bytes(t), frozen);
        put(t, lsn + 8, (uint8_t)(100 + n)); /* the open layer is still the one that is read */
        check(t, lsn + 8, (uint8_t)(100 + n));
        check(t, lsn, (uint8_t)n);
    }
#ifndef HAS_OWN_MALLOC
    assert_true(failures > 4);
#endif
    assert_ok(loch_timeline_flush(t));
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 128 + failures * 64);
    for (unsigned n = 1; n <= failures; n++)
        check(t, L + 64 + n * 64 + 8, (uint8_t)(100 + n));
    loch_timeline_release(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_freeze_without_memory_changes_nothing, site_up,
                                        site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
