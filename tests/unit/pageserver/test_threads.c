/* One writer, one flusher and readers at once: what a reader sees at an LSN is exactly what was put
 * up to there, whatever is frozen or flushed meanwhile. Meant for the thread sanitizer too. */
#include "store_fixture.h"

#include "loch/pg/page.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define BLOCKS  64u
#define RECORDS 6000u
#define READERS 3u

struct shared {
    struct site *site;
    struct loch_timeline *timeline;
    atomic_bool done;
    atomic_uint failures, reads;
};

/* Block b is written at LSNs 1000 + 8 * n for n % BLOCKS == b. */
static loch_lsn newest_at(uint32_t block, loch_lsn lsn)
{
    uint64_t n = (lsn - 1000) / 8;
    if (n < block + BLOCKS)
        return 1000;
    return 1000 + 8 * (n - (n - block) % BLOCKS);
}

static void fill(uint8_t page[LOCH_PAGE_BYTES], loch_lsn lsn)
{
    loch_page_init(page, 0);
    memset(page + 24, (int)(lsn / 8 % 251), LOCH_PAGE_BYTES - 24);
    loch_page_set_lsn(page, lsn);
}

static void *write_all(void *arg)
{
    struct shared *s = arg;
    uint8_t page[LOCH_PAGE_BYTES];
    for (uint64_t n = BLOCKS; n < RECORDS; n++) {
        loch_lsn lsn = 1000 + 8 * n;
        struct loch_key key = {
            .kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 9, .block = (uint32_t)(n % BLOCKS)};
        fill(page, lsn);
        bool ok = loch_is_ok(
            loch_timeline_put_value(s->timeline, &key, lsn, loch_slice_of(page, sizeof page)));
        loch_timeline_advance(s->timeline, lsn, lsn - 8);
        if (n % 400 == 0)
            ok = ok && loch_is_ok(loch_timeline_freeze(s->timeline, loch_slice_of("c", 1)));
        if (!ok)
            atomic_fetch_add(&s->failures, 1);
    }
    atomic_store(&s->done, true);
    return NULL;
}

static void *flush_all(void *arg)
{
    struct shared *s = arg;
    while (!atomic_load(&s->done)) {
        if (!loch_is_ok(loch_timeline_flush(s->timeline)))
            atomic_fetch_add(&s->failures, 1);
        usleep(1000);
    }
    return NULL;
}

static void *read_all(void *arg)
{
    struct shared *s = arg;
    struct loch_rel rel = {1663, 5, 9};
    uint8_t page[LOCH_PAGE_BYTES], wanted[LOCH_PAGE_BYTES];
    uint64_t random = (uint64_t)(uintptr_t)page | 1;
    while (!atomic_load(&s->done)) {
        struct loch_view *view = NULL;
        if (!loch_is_ok(loch_view_create(s->timeline, &view))) {
            atomic_fetch_add(&s->failures, 1);
            continue;
        }
        for (int i = 0; i < 20; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            uint32_t block = (uint32_t)(random >> 33) % BLOCKS;
            loch_lsn last = loch_view_last_record_lsn(view);
            loch_lsn lsn = i % 2 == 0 ? last : 1000 + (random >> 20) % (last - 1000 + 1);
            fill(wanted, newest_at(block, lsn));
            if (!loch_is_ok(loch_view_page(view, &rel, 0, block, lsn, page)) ||
                memcmp(page, wanted, sizeof page) != 0)
                atomic_fetch_add(&s->failures, 1);
            atomic_fetch_add(&s->reads, 1);
        }
        loch_view_destroy(view);
    }
    return NULL;
}

static void readers_see_whole_lsns(void **state)
{
    struct shared s = {.site = *state};
    pthread_t writer, flusher, readers[READERS];
    uint8_t page[LOCH_PAGE_BYTES], size[4] = {BLOCKS, 0, 0, 0};
    struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 9};
    s.timeline = site_timeline(*state, 1000, NULL);
    assert_ok(loch_timeline_put_value(s.timeline, &key, 1000, loch_slice_of(size, 4)));
    key.kind = LOCH_KEY_PAGE;
    fill(page, 1000);
    for (key.block = 0; key.block < BLOCKS; key.block++)
        assert_ok(
            loch_timeline_put_value(s.timeline, &key, 1000, loch_slice_of(page, sizeof page)));
    assert_ok(loch_timeline_commit(s.timeline, 900, loch_slice_of("c", 1)));
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all, &s), 0);
    assert_int_equal(pthread_create(&flusher, NULL, flush_all, &s), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &s), 0);
    pthread_join(writer, NULL);
    pthread_join(flusher, NULL);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&s.failures), 0);
    assert_true(atomic_load(&s.reads) > 0);
    loch_timeline_release(s.timeline);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_see_whole_lsns, site_up, site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
