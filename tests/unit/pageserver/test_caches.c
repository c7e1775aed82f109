/* The caches of pages and of frames. */
#include "store_fixture.h"

#include "store/frame_cache.h"

static void cached_pages_honour_floor_and_lsn(void **state)
{
    struct site *s = *state;
    struct loch_key key = page_key(1);
    uint8_t page[LOCH_PAGE_BYTES] = {1}, out[LOCH_PAGE_BYTES];
    const struct loch_id line = {{7}}, other = {{9}}; /* another tenant's timeline of the same id */
    loch_lsn version = 0;
    loch_page_cache_put(s->cache, &s->tenant, &line, &key, 100, 120, false, page);
    assert_true(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 0, 100, &version, out));
    assert_int_equal(version, 100);
    assert_false(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 0, 99, &version, out));
    assert_false(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 101, 200, &version, out));
    page[0] = 2;
    loch_page_cache_put(s->cache, &s->tenant, &line, &key, 90, 99, false,
                        page); /* older: not taken */
    assert_true(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 0, 500, &version, out));
    assert_int_equal(out[0], 1);
    assert_false(loch_page_cache_get(s->cache, &other, &line, &key, 0, 500, &version, out));
    loch_page_cache_drop(s->cache, &other, &line);
    assert_true(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 0, 500, &version, out));
    loch_page_cache_drop(s->cache, &s->tenant, &line);
    assert_false(loch_page_cache_get(s->cache, &s->tenant, &line, &key, 0, 500, &version, out));
}

/* In a cache that is full: what was cheap to make has to be asked for twice, what was not is kept.
 */
static void cheap_pages_are_kept_at_their_second_read(void **state)
{
    struct site *s = *state;
    struct loch_page_cache *full = NULL;
    const struct loch_id line = {{7}};
    const struct loch_key cheap = page_key(1000), dear = page_key(1001);
    uint8_t page[LOCH_PAGE_BYTES] = {1}, out[LOCH_PAGE_BYTES];
    loch_lsn version = 0;
    assert_ok(loch_page_cache_create(1, &full)); /* 16 pages */
    for (uint32_t block = 0; block < 256; block++) {
        const struct loch_key key = page_key(block);
        loch_page_cache_put(full, &s->tenant, &line, &key, 100, 120, false, page);
    }
    loch_page_cache_put(full, &s->tenant, &line, &cheap, 100, 120, true, page);
    assert_false(loch_page_cache_get(full, &s->tenant, &line, &cheap, 0, 120, &version, out));
    loch_page_cache_put(full, &s->tenant, &line, &cheap, 100, 120, true, page);
    assert_true(loch_page_cache_get(full, &s->tenant, &line, &cheap, 0, 120, &version, out));
    loch_page_cache_put(full, &s->tenant, &line, &dear, 100, 120, false, page);
    assert_true(loch_page_cache_get(full, &s->tenant, &line, &dear, 0, 120, &version, out));
    loch_page_cache_destroy(full);
}

static void cached_frames(void **state)
{
    struct site *s = *state;
    struct loch_buf bytes = {0}, large = {0};
    struct loch_frame *frame = NULL, *got;
    assert_ok(loch_buf_append(&bytes, "frame", 5));
    assert_ok(loch_frame_create(&bytes, &frame));
    loch_frame_cache_put(s->frames, &s->tenant, 3, frame);
    loch_frame_release(frame);
    got = loch_frame_cache_get(s->frames, &s->tenant, 3);
    assert_non_null(got);
    assert_memory_equal(loch_frame_bytes(got).data, "frame", 5);
    loch_frame_release(got);
    assert_null(loch_frame_cache_get(s->frames, &s->tenant, 4));
    loch_frame_cache_drop(s->frames, &s->tenant);
    assert_null(loch_frame_cache_get(s->frames, &s->tenant, 3));
    assert_ok(loch_buf_reserve(&large, LOCH_FRAME_CACHED_MAX_BYTES + 1));
    large.len = LOCH_FRAME_CACHED_MAX_BYTES + 1;
    assert_ok(loch_frame_create(&large, &frame));
    loch_frame_cache_put(s->frames, &s->tenant, 5, frame);
    assert_null(loch_frame_cache_get(s->frames, &s->tenant, 5));
    loch_frame_release(frame);
}

/* Frames together never take more than the budget, and the newest is there. */
static void frames_within_the_budget(void **state)
{
    struct site *s = *state;
    struct loch_frame_cache *cache = NULL;
    const size_t budget = (size_t)1 << 20;
    size_t kept = 0;

    assert_ok(loch_frame_cache_create(budget, &cache));
    for (uint32_t i = 0; i < 1000; i++) {
        const size_t len = i % 3 == 0 ? LOCH_FRAME_CACHED_MAX_BYTES : i % 3 == 1 ? 8200 : 100;
        struct loch_buf bytes = {0};
        struct loch_frame *frame = NULL, *got;
        assert_ok(loch_buf_reserve(&bytes, len));
        memset(bytes.data, 0, len);
        bytes.len = len;
        assert_ok(loch_frame_create(&bytes, &frame));
        loch_frame_cache_put(cache, &s->tenant, i, frame);
        loch_frame_cache_put(cache, &s->tenant, i, frame); /* once only */
        got = loch_frame_cache_get(cache, &s->tenant, i);
        assert_ptr_equal(got, frame);
        loch_frame_release(got);
        loch_frame_release(frame);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct loch_frame *got = loch_frame_cache_get(cache, &s->tenant, i);
        kept += got == NULL ? 0 : loch_frame_bytes(got).len;
        loch_frame_release(got);
    }
    assert_in_range(kept, budget / 4, budget);
    loch_frame_cache_destroy(cache);
}

#define WITH_SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(cached_pages_honour_floor_and_lsn),
        WITH_SITE(cheap_pages_are_kept_at_their_second_read),
        WITH_SITE(cached_frames),
        WITH_SITE(frames_within_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
