/* WAL that is well formed (lengths, back links, CRC) and makes no sense: it ends the ingest of its
 * timeline with an exact error, or is taken; what was there before can be read, and others go on.
 */
#include "store_fixture.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"

#define L ((loch_lsn)0x1002000) /* a page, no segment: its header is a short one */

static struct loch_timeline *begin(struct site *s, struct loch_ingest **ingest)
{
    struct loch_timeline *t = site_timeline(s, L, NULL);
    struct loch_control control = {.segment_bytes = 16u << 20};
    struct loch_buf bytes = {0};
    uint8_t page[LOCH_PAGE_BYTES] = {0}, size[4] = {9, 0, 0, 0};
    struct loch_key key = page_key(3);
    page[100] = 77;
    assert_ok(loch_timeline_put_value(t, &key, L, loch_slice_of(page, sizeof page)));
    key = (struct loch_key){.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 100};
    assert_ok(loch_timeline_put_value(t, &key, L, loch_slice_of(size, sizeof size)));
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(t, L - 100, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    assert_ok(loch_ingest_create(t, ingest));
    return t;
}

static void check_readable(struct loch_timeline *t)
{
    struct loch_view *view = NULL;
    struct loch_rel rel = {1663, 5, 100};
    uint8_t page[LOCH_PAGE_BYTES];
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_page(view, &rel, LOCH_FORK_MAIN, 3, L, page));
    assert_int_equal(page[100], 77);
    loch_view_destroy(view);
}

static void feed_one(struct site *s, uint8_t rmid, uint8_t info, uint32_t len, unsigned *refused,
                     unsigned *taken)
{
    struct wal_writer w;
    struct loch_ingest *ingest = NULL;
    struct loch_timeline *t = begin(s, &ingest);
    uint8_t body[400];
    assert_ok(loch_random_bytes(body, sizeof body));
    if (body[0] % 2 == 0) { /* half of them are main data alone, of a length that is true */
        body[0] = 255;
        body[1] = (uint8_t)(len - 26);
    }
    writer_init(&w, L, L - 100);
    writer_record(&w, rmid, info, 700, len, body);
    loch_status st = loch_ingest_feed(ingest, loch_buf_slice(&w.bytes));
    if (loch_is_ok(st)) {
        (*taken)++;
        assert_true(loch_timeline_last_record_lsn(t) > L);
    } else {
        (*refused)++;
        assert_true(st.code == LOCH_E_CORRUPT || st.code == LOCH_E_UNSUPPORTED ||
                    st.code == LOCH_E_INVALID || st.code == LOCH_E_LIMIT);
        assert_true(strlen(loch_error_text()) > 0);
        assert_int_equal(loch_timeline_last_record_lsn(t), L);
        if (rmid < 22 || rmid >= 128) { /* else no WAL at all: another safekeeper may have better */
            assert_code(loch_ingest_feed(ingest, loch_slice_of("x", 1)), LOCH_E_CORRUPT);
            assert_code(loch_ingest_rewind(ingest), LOCH_E_CORRUPT);
        } else {
            assert_ok(loch_ingest_rewind(ingest));
        }
    }
    check_readable(t);
    loch_ingest_destroy(ingest);
    loch_timeline_release(t);
    loch_buf_fini(&w.bytes);
}

static void garbage_with_a_valid_crc_harms_nobody_else(void **state)
{
    struct site *s = *state;
    struct loch_ingest *ingest = NULL;
    struct loch_timeline *other = begin(s, &ingest);
    struct wal_writer w;
    unsigned refused = 0, taken = 0;
    uint8_t nothing[2] = {255, 0};
    for (unsigned rmid = 0; rmid < 24; rmid++) {
        for (unsigned i = rmid == 0 ? 5 : 0; i < 8;
             i++) /* below: a switch, which fills a segment */
            feed_one(s, (uint8_t)rmid, (uint8_t)(i << 4), 60 + 25 * i, &refused, &taken);
    }
    feed_one(s, 200, 0, 100, &refused, &taken); /* a custom resource manager */
    assert_true(refused >= 24);
    /* A NOOP of XLOG: its body is an empty piece of main data. */
    writer_init(&w, L, L - 100);
    writer_record(&w, 0, 0x20, 0, 26, nothing);
    assert_ok(loch_ingest_feed(ingest, loch_buf_slice(&w.bytes)));
    assert_true(loch_timeline_last_record_lsn(other) > L);
    check_readable(other);
    loch_buf_fini(&w.bytes);
    loch_ingest_destroy(ingest);
    loch_timeline_release(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(garbage_with_a_valid_crc_harms_nobody_else, site_up,
                                        site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
