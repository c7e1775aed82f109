/* Many cuts of one fork: what they hide equals a list that keeps all, in few looks; what merges
 * leave of them; the value's bytes. */
#include "store_fixture.h"

#include "read/collect.h"
#include "store/compact.h"
#include "store/manifest.h"
#include "store/retention.h"

#define MANY  50000u
#define BEGIN ((loch_lsn)1000)

static const struct loch_key cut_key = {.kind = LOCH_KEY_REL_CUT, .spc = 1663, .db = 5, .rel = 100};

struct history {
    struct loch_timeline *timeline;
    loch_lsn *lsns;
    uint32_t *firsts;
    size_t count;
    loch_lsn last;
    uint64_t random;
};

static uint64_t roll(struct history *h, uint64_t below)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return h->random % below;
}

static void begin(struct site *s, struct history *h, size_t most)
{
    *h = (struct history){.random = 88172645463325252u, .last = BEGIN};
    h->timeline = site_timeline(s, BEGIN, NULL);
    h->lsns = calloc(most, sizeof *h->lsns);
    h->firsts = calloc(most, sizeof *h->firsts);
    assert_non_null(h->lsns);
    assert_non_null(h->firsts);
    assert_ok(loch_timeline_commit(h->timeline, BEGIN - 8, loch_slice_of("c", 1)));
}

static void end(struct history *h)
{
    loch_timeline_release(h->timeline);
    free(h->lsns);
    free(h->firsts);
}

static void put(struct history *h, const struct loch_cut *cut)
{
    uint8_t bytes[LOCH_CUT_BYTES];
    const size_t len = loch_cut_encode(cut, bytes);
    assert_ok(loch_timeline_put_value(h->timeline, &cut_key, cut->lsn, loch_slice_of(bytes, len)));
    loch_timeline_advance(h->timeline, cut->lsn, h->last);
    h->lsns[h->count] = h->last = cut->lsn;
    h->firsts[h->count++] = cut->first;
}

static void add(struct history *h, uint32_t first)
{
    struct loch_view *view = NULL;
    struct loch_cut cut;
    assert_ok(loch_view_create(h->timeline, &view));
    assert_ok(loch_cut_make(view, &cut_key, h->last + 8, first, &cut));
    assert_true(view->cuts <= 2 * LOCH_CUT_AT_ONCE_MAX);
    loch_view_destroy(view);
    put(h, &cut);
}

/* As before 2026-11-30. */
static void add_old(struct history *h, uint32_t first)
{
    const struct loch_cut cut = {.lsn = h->last + 8, .first = first};
    put(h, &cut);
}

static loch_lsn expected(const struct history *h, uint32_t block, loch_lsn lsn)
{
    for (size_t i = h->count; i-- > 0;) {
        if (h->lsns[i] <= lsn && h->firsts[i] <= block)
            return h->lsns[i];
    }
    return LOCH_LSN_NONE;
}

static void check_one(const struct history *h, struct loch_view *view, uint32_t block, loch_lsn lsn)
{
    const struct loch_key page = page_key(block);
    loch_lsn floor = LOCH_LSN_NONE;
    const uint64_t before = view->cuts;
    assert_ok(loch_key_floor(view, &page, lsn, &floor));
    assert_int_equal(floor, expected(h, block, lsn));
    assert_true(view->cuts - before <= LOCH_CUT_AT_ONCE_MAX);
}

static void check(struct history *h, uint32_t blocks)
{
    struct loch_view *view = NULL;
    assert_ok(loch_view_create(h->timeline, &view));
    check_one(h, view, 0, h->last);
    for (unsigned i = 0; i < 300; i++) {
        const loch_lsn lsn = i % 3 == 0 ? h->last : BEGIN + roll(h, h->last - BEGIN + 1);
        check_one(h, view, (uint32_t)roll(h, i % 2 == 0 ? 3 : blocks), lsn);
    }
    loch_view_destroy(view);
}

static void flush(struct history *h)
{
    assert_ok(loch_timeline_freeze(h->timeline, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(h->timeline));
}

enum pattern { QUEUE, STAIRS, ANY };

static uint32_t first_of(struct history *h, enum pattern pattern, uint32_t i)
{
    if (pattern == QUEUE)
        return 1;
    if (pattern == STAIRS)
        return i + 1;
    return roll(h, 2000) == 0 ? 0 : (uint32_t)(1 + roll(h, 1 + roll(h, 3000)));
}

static void run(struct site *s, enum pattern pattern)
{
    struct history h;
    begin(s, &h, MANY + 1);
    add(&h, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        add(&h, first_of(&h, pattern, i));
        if (i == MANY / 2) {
            check(&h, MANY);
            flush(&h);
        }
    }
    check(&h, MANY);
    flush(&h);
    check(&h, MANY);
    end(&h);
}

static void a_queue_is_cut_again_and_again(void **state)
{
    run(*state, QUEUE);
}

static void each_cut_begins_behind_the_last(void **state)
{
    run(*state, STAIRS);
}

static void cuts_of_any_kind(void **state)
{
    run(*state, ANY);
}

/* The way goes on in the ancestor, and knows what was dropped with the database. */
static void cuts_of_a_branch_and_of_a_new_database(void **state)
{
    struct site *s = *state;
    struct history h, b;
    const struct loch_key db = {.kind = LOCH_KEY_DATABASE, .spc = 1663, .db = 5};
    struct loch_view *view = NULL;
    begin(s, &h, 1000);
    add(&h, 0);
    for (uint32_t i = 0; i < 500; i++)
        add(&h, i + 1);
    b = h;
    b.timeline = site_timeline(s, h.lsns[200], h.timeline);
    b.count = 201;
    b.last = h.lsns[200];
    assert_ok(loch_timeline_commit(b.timeline, b.last - 8, loch_slice_of("c", 1)));
    b.lsns = calloc(1000, sizeof *b.lsns);
    b.firsts = calloc(1000, sizeof *b.firsts);
    assert_non_null(b.lsns);
    assert_non_null(b.firsts);
    memcpy(b.lsns, h.lsns, b.count * sizeof *b.lsns);
    memcpy(b.firsts, h.firsts, b.count * sizeof *b.firsts);
    for (uint32_t i = 0; i < 300; i++)
        add(&b, 100 + i);
    check(&b, 500);
    check(&h, 600);
    assert_ok(loch_timeline_put_value(b.timeline, &db, b.last + 8, loch_slice_of("\1", 1)));
    loch_timeline_advance(b.timeline, b.last + 8, b.last);
    b.last += 8;
    const loch_lsn low = b.last;
    for (uint32_t i = 0; i < 40; i++)
        add(&b, 10 + i);
    assert_ok(loch_view_create(b.timeline, &view));
    for (uint32_t block = 0; block < 60; block++) {
        const struct loch_key page = page_key(block);
        loch_lsn floor = LOCH_LSN_NONE, wanted = expected(&b, block, b.last);
        assert_ok(loch_key_floor(view, &page, b.last, &floor));
        assert_int_equal(floor, wanted < low ? low : wanted);
    }
    loch_view_destroy(view);
    end(&b);
    end(&h);
}

static void two_cuts_at_one_lsn_hide_what_both_hide(void **state)
{
    struct site *s = *state;
    struct history h;
    struct loch_view *view = NULL;
    struct loch_cut cut;
    begin(s, &h, 10);
    add(&h, 2);
    add(&h, 5);
    assert_ok(loch_view_create(h.timeline, &view));
    assert_ok(loch_cut_make(view, &cut_key, h.last, 7, &cut)); /* the one of 5 does */
    assert_int_equal(cut.first, 5);
    assert_int_equal(cut.next.first, 2);
    assert_int_equal(cut.next.lsn, h.lsns[0]);
    assert_ok(loch_cut_make(view, &cut_key, h.last, 3, &cut));
    assert_int_equal(cut.first, 3);
    assert_int_equal(cut.next.lsn, h.lsns[0]);
    assert_ok(loch_cut_make(view, &cut_key, h.last, 2, &cut));
    assert_true(cut.linked);
    assert_int_equal(cut.next.lsn, LOCH_LSN_NONE);
    loch_view_destroy(view);
    end(&h);
}

/* Such that know no others are passed one by one, but not by a thread that must not wait. */
static void old_cuts_are_read(void **state)
{
    struct site *s = *state;
    struct history h;
    struct loch_view *view = NULL;
    const struct loch_key page = page_key(0);
    loch_lsn floor = LOCH_LSN_NONE;
    begin(s, &h, 1000);
    add_old(&h, 0);
    for (uint32_t i = 0; i < 500; i++)
        add_old(&h, 1 + i % 3);
    assert_ok(loch_view_create(h.timeline, &view));
    assert_ok(loch_key_floor(view, &page, h.last, &floor));
    assert_int_equal(floor, h.lsns[0]);
    view->at_once = true;
    assert_code(loch_key_floor(view, &page, h.last, &floor), LOCH_E_UNAVAILABLE);
    loch_view_destroy(view);
    assert_ok(loch_view_create(h.timeline, &view));
    struct loch_cut cut;
    assert_ok(loch_cut_make(view, &cut_key, h.last + 8, 1, &cut)); /* the long way, once */
    loch_view_destroy(view);
    put(&h, &cut);
    add(&h, 3);
    add(&h, 1);
    assert_ok(loch_view_create(h.timeline, &view));
    view->at_once = true;
    for (uint32_t block = 0; block < 5; block++)
        check_one(&h, view, block, h.last); /* new ones know the way */
    loch_view_destroy(view);
    end(&h);
}

/* ---- merges ---- */

static size_t stored(const struct history *h)
{
    struct loch_view *view = NULL;
    struct loch_cut cut = {.lsn = LOCH_LSN_MAX};
    size_t n = 0;
    bool found = true;
    assert_ok(loch_view_create(h->timeline, &view));
    for (;; n++) {
        assert_ok(loch_cut_newest(view, &cut_key, LOCH_LSN_NONE, cut.lsn - 1, &cut, &found));
        if (!found)
            break;
    }
    loch_view_destroy(view);
    return n;
}

/* As if the timeline's end had been reached long ago. */
static void mark_end(struct site *s, struct history *h)
{
    struct loch_manifest m = {0};
    struct loch_etag etag = {0};
    const struct loch_id id = loch_timeline_info(h->timeline)->timeline;
    assert_ok(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &m, &etag));
    m.mark_count = 1;
    m.marks[0] = (struct loch_lsn_mark){h->last, 1000000};
    m.generation++;
    assert_ok(loch_manifest_put(&s->store, s->keys, &m, &etag));
    loch_manifest_fini(&m);
    h->timeline = site_reopen(s, h->timeline, NULL);
}

static void merge_at_the_end(struct history *h)
{
    const struct loch_pitr_window none = {0, 0};
    const struct loch_compaction all = {
        .settings = {.fan_in = 3, .band_bytes = 1u << 20, .base_percent = 50},
        .file_bytes = 100000,
        .everything = true};
    struct loch_compaction_stats stats = {0};
    bool moved = false, done = false;
    int64_t when = 0;
    assert_ok(
        loch_timeline_advance_cutoff(h->timeline, &none, 3600 * INT64_C(1000000), NULL, 0, &moved));
    assert_int_equal(loch_timeline_cutoff(h->timeline, &when), h->last);
    assert_ok(loch_timeline_compact(h->timeline, &all, &done, &stats));
    assert_true(done);
}

static void check_at(const struct history *h, loch_lsn lsn)
{
    struct loch_view *view = NULL;
    assert_ok(loch_view_create(h->timeline, &view));
    for (uint32_t block = 0; block < 12; block++)
        check_one(h, view, block, lsn);
    loch_view_destroy(view);
}

static void merges_leave_what_can_be_read(void **state)
{
    struct site *s = *state;
    struct history h;
    begin(s, &h, 1000);
    add(&h, 0);
    for (uint32_t i = 0; i < 300; i++) {
        if (i == 140)
            add_old(&h, 1);
        else
            add(&h, i == 150 ? 3 : i == 151 ? 8 : 1);
        if (i % 100 == 99)
            flush(&h);
    }
    const loch_lsn held = h.lsns[152]; /* the one of 8; below it 3, 1 and 0 count */
    assert_int_equal(h.firsts[152], 8);
    mark_end(s, &h);
    assert_int_equal(stored(&h), 301);
    assert_ok(loch_timeline_lease(h.timeline, held, "reader", 60000));
    merge_at_the_end(&h);
    assert_int_equal(stored(&h), 5); /* the newest, and the first, which both need */
    check_at(&h, h.last);
    check_at(&h, held);
    assert_ok(loch_timeline_lease_end(h.timeline, held, "reader"));
    merge_at_the_end(&h);
    assert_int_equal(stored(&h), 2);
    check_at(&h, h.last);
    add(&h, 4);
    check_at(&h, h.last);
    end(&h);
}

/* ---- the value ---- */

static void golden_cut(void **state)
{
    struct site *s = *state;
    const char *path = LOCH_SOURCE_DIR "/tests/golden/format/cut.bin";
    const struct loch_cut cut = {.lsn = 0x99,
                                 .first = 0x01020304,
                                 .linked = true,
                                 .next = {0x88, 0x01020300, 7},
                                 .leap = {0x1122334455667788, 0x11, 3}};
    struct loch_cut real = cut, got;
    struct loch_buf bytes = {0};
    uint8_t out[LOCH_CUT_BYTES];
    real.lsn = 0x2222222222222222;
    real.next.lsn = 0x2122334455667788;
    assert_int_equal(loch_cut_encode(&real, out), LOCH_CUT_BYTES);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL)
        assert_ok(loch_env_replace_file(s->env, path, loch_slice_of(out, sizeof out)));
    assert_ok(loch_env_read_file(s->env, path, 100, &bytes));
    assert_int_equal(bytes.len, sizeof out);
    assert_memory_equal(bytes.data, out, sizeof out);
    assert_ok(loch_cut_decode(loch_buf_slice(&bytes), real.lsn, &got));
    assert_true(got.linked);
    assert_int_equal(got.first, real.first);
    assert_int_equal(got.next.lsn, real.next.lsn);
    assert_int_equal(got.next.first, real.next.first);
    assert_int_equal(got.next.depth, 7);
    assert_int_equal(got.leap.lsn, real.leap.lsn);
    assert_int_equal(got.leap.depth, 3);
    assert_ok(loch_cut_decode(loch_slice_of(bytes.data, 4), 5, &got)); /* the form before it */
    assert_false(got.linked);
    assert_int_equal(got.first, 0x01020304);
    for (size_t len = 0; len < bytes.len; len++) {
        if (len != 4)
            assert_code(loch_cut_decode(loch_slice_of(bytes.data, len), 5, &got), LOCH_E_CORRUPT);
    }
    /* not older than itself; a leap above the next */
    assert_code(loch_cut_decode(loch_buf_slice(&bytes), real.next.lsn, &got), LOCH_E_CORRUPT);
    assert_int_equal(loch_cut_encode(&cut, out), LOCH_CUT_BYTES);
    assert_code(loch_cut_decode(loch_slice_of(out, sizeof out), 0x99, &got), LOCH_E_CORRUPT);
    loch_buf_fini(&bytes);
}

#define WITH_SITE(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(golden_cut),
        WITH_SITE(a_queue_is_cut_again_and_again),
        WITH_SITE(each_cut_begins_behind_the_last),
        WITH_SITE(cuts_of_any_kind),
        WITH_SITE(cuts_of_a_branch_and_of_a_new_database),
        WITH_SITE(two_cuts_at_one_lsn_hide_what_both_hide),
        WITH_SITE(old_cuts_are_read),
        WITH_SITE(merges_leave_what_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
