/* Which blocks of a fork are to be read. */
#include "store_fixture.h"

#define L ((loch_lsn)0x1000000)

struct blocks {
    uint32_t seen[8];
    size_t count;
};

static loch_status see_block(void *arg, uint32_t block)
{
    struct blocks *b = arg;
    if (b->count == sizeof b->seen / sizeof b->seen[0])
        return LOCH_FAIL(LOCH_E_LIMIT, "blocks that were never written");
    b->seen[b->count++] = block;
    return LOCH_OK;
}

/* A size of nearly 2^32 blocks, as one forged block number makes it, costs no walk over them. */
static void blocks_of_a_fork_are_those_that_were_written(void **state)
{
    static const uint32_t written[] = {0, 262143, 262144, UINT32_MAX - 1};
    struct site *s = *state;
    struct loch_timeline *parent = site_timeline(s, L, NULL);
    struct loch_view *view = NULL;
    const struct loch_rel rel = {1663, 5, 100};
    char page[8192] = {1};
    for (size_t i = 0; i < 3; i++) {
        const struct loch_key key = page_key(written[i]);
        assert_ok(loch_timeline_put_value(parent, &key, L, loch_slice_of(page, sizeof page)));
    }
    const struct loch_key other = {
        .kind = LOCH_KEY_PAGE, .fork = 1, .spc = 1663, .db = 5, .rel = 100, .block = 7};
    assert_ok(loch_timeline_put_value(parent, &other, L, loch_slice_of(page, sizeof page)));
    assert_ok(loch_timeline_commit(parent, L - 8, loch_slice_of("control", 7)));
    struct loch_timeline *t = site_timeline(s, L, parent);
    for (size_t i = 2; i < 4; i++) {
        const struct loch_key key = page_key(written[i]);
        assert_ok(loch_timeline_put_value(t, &key, L + 8, loch_slice_of(page, sizeof page)));
    }
    loch_timeline_advance(t, L + 8, L);
    assert_ok(loch_view_create(t, &view));

    struct blocks all = {.count = 0}, fewer = {.count = 0}, few = {.count = 0};
    assert_ok(loch_view_blocks(view, &rel, 0, UINT32_MAX, L + 8, see_block, &all));
    assert_int_equal(all.count, 4);
    assert_memory_equal(all.seen, written, sizeof written);
    assert_ok(loch_view_blocks(view, &rel, 0, 262144, L + 8, see_block, &fewer));
    assert_int_equal(fewer.count, 2);
    assert_ok(loch_view_blocks(view, &rel, 0, 5, L + 8, see_block, &few)); /* each of so few */
    assert_int_equal(few.count, 5);
    assert_code(loch_view_blocks(view, &rel, 0, 9, L + 8, see_block, &few), LOCH_E_LIMIT);
    loch_view_destroy(view);
    loch_timeline_release(t);
    loch_timeline_release(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_of_a_fork_are_those_that_were_written, site_up,
                                        site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
