/* A record that copies a database: all of its pages in memory at once, so within a limit; given up
 * between two pages; and asked for again when there is no room for it. */
#include "store_fixture.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"

#define L           ((loch_lsn)0x1002000)
#define BLOCKS      9u
#define COPY        6u /* the database that is made of 5 */
#define RM_XLOG     0
#define RM_DATABASE 4

struct bench {
    struct site *site;
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
    struct wal_writer wal;
};

static void put_size(struct loch_timeline *t, uint32_t rel, uint32_t blocks)
{
    const struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = rel};
    uint8_t size[4];
    loch_put_u32(size, blocks);
    assert_ok(loch_timeline_put_value(t, &key, L, loch_slice_of(size, sizeof size)));
}

/* A database 5 with a relation of BLOCKS blocks, the third of which is not zeros; and one more of
 * `more` blocks. */
static void begin(struct bench *b, struct site *s, uint32_t more)
{
    const struct loch_control control = {.segment_bytes = 16u << 20};
    const struct loch_key key = page_key(3);
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    struct loch_buf bytes = {0};
    *b = (struct bench){.site = s, .timeline = site_timeline(s, L, NULL)};
    page[100] = 77;
    assert_ok(loch_timeline_put_value(b->timeline, &key, L, loch_slice_of(page, sizeof page)));
    put_size(b->timeline, 100, BLOCKS);
    put_size(b->timeline, 101, more);
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(b->timeline, L - 100, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    assert_ok(loch_ingest_create(b->timeline, &b->ingest));
    writer_init(&b->wal, L, L - 100);
}

static void end(struct bench *b)
{
    loch_ingest_destroy(b->ingest);
    loch_timeline_release(b->timeline);
    writer_fini(&b->wal);
}

static void write_copy(struct bench *b)
{
    uint8_t body[18] = {255, 16};
    loch_put_u32(body + 2, COPY);
    loch_put_u32(body + 6, 1663);
    loch_put_u32(body + 10, 5);
    loch_put_u32(body + 14, 1663);
    writer_record(&b->wal, RM_DATABASE, 0, 700, 24 + sizeof body, body);
}

static void write_nothing(struct bench *b)
{
    const uint8_t body[2] = {255, 0};
    writer_record(&b->wal, RM_XLOG, 0x20, 0, 24 + sizeof body, body);
}

/* Everything from the ingest's position on. */
static loch_status feed(struct bench *b)
{
    const size_t from = (size_t)(loch_ingest_position(b->ingest) - L);
    return loch_ingest_feed(b->ingest,
                            loch_slice_of(b->wal.bytes.data + from, b->wal.bytes.len - from));
}

static bool has(struct loch_timeline *t, uint32_t db)
{
    const struct loch_rel rel = {1663, db, 100};
    const loch_lsn lsn = loch_timeline_last_record_lsn(t);
    struct loch_view *view = NULL;
    uint8_t page[LOCH_PAGE_BYTES];
    bool exists = false;
    uint32_t blocks = 0;
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_rel_size(view, &rel, LOCH_FORK_MAIN, lsn, &exists, &blocks));
    if (exists) {
        assert_int_equal(blocks, BLOCKS);
        assert_ok(loch_view_page(view, &rel, LOCH_FORK_MAIN, 3, lsn, page));
        assert_int_equal(page[100], 77);
    }
    loch_view_destroy(view);
    return exists;
}

static uint64_t copied_pages(const struct loch_ingest *ingest)
{
    struct loch_ingest_stats stats;
    loch_ingest_stats(ingest, &stats);
    return stats.copied_pages;
}

static void a_copy_is_written_at_once(void **state)
{
    struct bench b;
    begin(&b, *state, 0);
    write_nothing(&b);
    write_copy(&b);
    assert_ok(feed(&b));
    assert_true(has(b.timeline, COPY));
    assert_int_equal(copied_pages(b.ingest), 1);
    assert_int_equal(loch_timeline_frozen_bytes(b.timeline), 0);
    assert_int_equal(loch_timeline_disk_consistent_lsn(b.timeline),
                     loch_timeline_last_record_lsn(b.timeline));
    loch_ingest_destroy(b.ingest);
    b.ingest = NULL;
    b.timeline = site_reopen(b.site, b.timeline, NULL);
    assert_true(has(b.timeline, COPY));
    end(&b);
}

static void refuse(struct bench *b)
{
    write_copy(b);
    assert_code(feed(b), LOCH_E_LIMIT);
    assert_non_null(strstr(loch_error_text(), "pageserver.copy_max"));
    assert_int_equal(loch_timeline_last_record_lsn(b->timeline), L);
    assert_int_equal(copied_pages(b->ingest), 0);
    assert_int_equal(loch_timeline_open_bytes(b->timeline), 0);
    assert_code(loch_ingest_rewind(b->ingest), LOCH_E_CORRUPT);
    assert_true(has(b->timeline, 5));
    end(b);
}

static void what_is_too_large_is_not_begun(void **state)
{
    struct site *s = *state;
    struct bench b;
    begin(&b, s, UINT32_MAX); /* a block number that nobody has: pages in the gap are not walked */
    refuse(&b);
    s->store.copy_max_bytes = (uint64_t)BLOCKS * LOCH_PAGE_BYTES;
    begin(&b, s, 1);
    refuse(&b);
    begin(&b, s, 0);
    write_copy(&b);
    assert_ok(feed(&b));
    assert_true(has(b.timeline, COPY));
    end(&b);
}

static void it_ends_between_two_pages(void **state)
{
    struct bench b;
    begin(&b, *state, 0);
    write_copy(&b);
    loch_ingest_end(b.ingest);
    assert_code(feed(&b), LOCH_E_UNAVAILABLE);
    assert_int_equal(copied_pages(b.ingest), 0);
    assert_int_equal(loch_timeline_last_record_lsn(b.timeline), L);
    assert_false(has(b.timeline, COPY));
    loch_ingest_destroy(b.ingest);
    b.timeline = site_reopen(b.site, b.timeline, NULL);
    assert_ok(loch_ingest_create(b.timeline, &b.ingest));
    assert_ok(feed(&b));
    assert_true(has(b.timeline, COPY));
    end(&b);
}

static void without_room_it_is_asked_for_again(void **state)
{
    struct bench b;
    char store[96], aside[96], command[240];
    begin(&b, *state, 0);
    snprintf(store, sizeof store, "%s/store", b.site->dir);
    snprintf(aside, sizeof aside, "%s/aside", b.site->dir);
    write_nothing(&b);
    write_copy(&b);
    snprintf(command, sizeof command, "mv %s %s && touch %s", store, aside, store);
    assert_int_equal(system(command), 0);
    loch_status st = feed(&b); /* what came before cannot be written */
    assert_false(loch_is_ok(st));
    assert_int_equal(copied_pages(b.ingest), 0);
    assert_ok(loch_ingest_rewind(b.ingest));
    snprintf(command, sizeof command, "rm %s && mv %s %s", store, aside, store);
    assert_int_equal(system(command), 0);
    assert_ok(feed(&b));
    assert_true(has(b.timeline, COPY));
    end(&b);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_is_written_at_once),
        TEST(what_is_too_large_is_not_begun),
        TEST(it_ends_between_two_pages),
        TEST(without_room_it_is_asked_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
