/* WAL that is well formed (lengths, back links, CRC) and makes no sense: it ends the ingest of its
 * timeline with an exact error, or is taken; what was there before can be read, and others go on.
 */
#include "store_fixture.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"
#include "store/compact.h"
#include "store/layer_set.h"

#include "loch/pg/wal_record.h"

#define L ((loch_lsn)0x1002000) /* a page, no segment: its header is a short one */

static struct loch_timeline *begin(struct site *s, struct loch_ingest **ingest)
{
    struct loch_timeline *t = NULL;
    struct loch_timeline_info info = {.tenant = s->tenant,
                                      .system_id = 4711,
                                      .pg_version = 150000,
                                      .segment_bytes = WRITER_SEGMENT,
                                      .start_lsn = L};
    struct loch_control control = {.segment_bytes = WRITER_SEGMENT};
    struct loch_buf bytes = {0};
    uint8_t page[LOCH_PAGE_BYTES] = {0}, size[4] = {9, 0, 0, 0};
    struct loch_key key = page_key(3);
    page[100] = 77;
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_ok(loch_timeline_create(&s->store, s->keys, &info, NULL, &t));
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

/* A record of references to `count` pages and so much main data, whose length is true. */
static uint8_t *body_of(const uint32_t *blocks, size_t count, uint32_t main_len, uint32_t *len)
{
    struct loch_buf bytes = {0};
    struct loch_writer w;
    loch_writer_init(&w, &bytes);
    for (size_t i = 0; i < count; i++) {
        loch_write_u8(&w, (uint8_t)i);
        loch_write_u8(&w, i == 0 ? 0 : 0x80); /* the same relation */
        loch_write_u16(&w, 0);
        for (uint32_t k = 0; i == 0 && k < 3; k++)
            loch_write_u32(&w, k == 0 ? 1663 : k == 1 ? 5 : 4000);
        loch_write_u32(&w, blocks[i]);
    }
    loch_write_u8(&w, 254);
    loch_write_u32(&w, main_len);
    loch_write_zeros(&w, main_len);
    assert_ok(loch_writer_finish(&w));
    *len = 24 + (uint32_t)bytes.len;
    return bytes.data; /* plain malloc's */
}

static void check_refused(struct loch_ingest *ingest, struct loch_timeline *t,
                          const struct wal_writer *w, enum loch_code code, const char *why)
{
    assert_code(loch_ingest_feed(ingest, loch_buf_slice(&w->bytes)), code);
    assert_non_null(strstr(loch_error_text(), why));
    assert_int_equal(loch_timeline_last_record_lsn(t), L);
    assert_code(loch_ingest_rewind(ingest), LOCH_E_CORRUPT);
    check_readable(t);
}

/* Of a relation that is not there, so that both references are the page's first. */
static void a_page_named_twice_ends_the_ingest(void **state)
{
    struct site *s = *state;
    struct loch_ingest *ingest = NULL;
    struct loch_timeline *t = begin(s, &ingest);
    struct wal_writer w;
    const uint32_t blocks[2] = {6, 6};
    uint32_t len = 0;
    uint8_t *body = body_of(blocks, 2, 8, &len);
    writer_init(&w, L, L - 100);
    writer_record(&w, LOCH_RM_HEAP, 0, 700, len, body);
    check_refused(ingest, t, &w, LOCH_E_CORRUPT, "is named twice");
    free(body);
    writer_fini(&w);
    loch_ingest_destroy(ingest);
    loch_timeline_release(t);
}

/* Below the decoder, which lets none through, such a put counts each of the two. */
static void a_page_put_twice_is_counted_twice(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, L, NULL);
    struct loch_versions list = {0};
    loch_lsn last = LOCH_LSN_NONE;
    const struct loch_put_ref refs[2] = {{.key = page_key(7)}, {.key = page_key(7)}};
    bool base = false;
    assert_ok(
        loch_timeline_put_record(t, refs, 2, L + 8, L + 64, loch_slice_of("a record's bytes", 16)));
    loch_timeline_advance(t, L + 64, L + 8);
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    assert_int_equal(last, L + 64);
    assert_ok(loch_mem_layer_collect(set->mem[0], &refs[0].key, 0, L + 64, &list, &base));
    assert_int_equal(list.count, 2);
    loch_versions_fini(&list);
    loch_layer_set_release(set);
    loch_timeline_release(t);
}

/* Well below what a layer can hold, and above what a redo process takes. */
static void a_record_too_long_for_a_page_ends_the_ingest(void **state)
{
    struct site *s = *state;
    struct loch_ingest *ingest = NULL;
    struct loch_timeline *t = begin(s, &ingest);
    struct wal_writer w;
    const uint32_t block = 6;
    uint32_t len = 0;
    uint8_t *body = body_of(&block, 1, 17u << 20, &len);
    writer_init(&w, L, L - 100);
    writer_record(&w, LOCH_RM_HEAP, 0, 700, len, body);
    check_refused(ingest, t, &w, LOCH_E_LIMIT, "the Heap record (00) at 0/1002018: it has 17825");
    free(body);
    writer_fini(&w);
    loch_ingest_destroy(ingest);
    loch_timeline_release(t);
}

static void check_value(struct loch_timeline *t, const struct loch_key *key, struct loch_slice want)
{
    struct loch_view *view = NULL;
    struct loch_buf value = {0};
    bool found = false;
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_get(view, key, loch_timeline_last_record_lsn(t), &value, &found, NULL));
    assert_true(found && value.len == want.len);
    assert_memory_equal(value.data, want.data, want.len);
    loch_buf_fini(&value);
    loch_view_destroy(view);
}

/* A two-phase state file of more than four million subtransactions. */
static void a_large_value_is_flushed_merged_and_read(void **state)
{
    enum { LEN = 17 << 20 };
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, L, NULL);
    const struct loch_key key = {.kind = LOCH_KEY_TWOPHASE, .rel = 700};
    const struct loch_compaction all = {.file_bytes = 1u << 20, .everything = true};
    struct loch_compaction_stats stats;
    bool done = false;
    uint8_t *value = malloc(LEN);
    assert_non_null(value);
    assert_ok(loch_random_bytes(value, LEN));
    assert_ok(loch_timeline_commit(t, L - 100, loch_slice_of("control", 7)));
    for (loch_lsn lsn = L + 64; lsn <= L + 128; lsn += 64) {
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(value, LEN)));
        loch_timeline_advance(t, lsn, lsn - 64);
        assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
        assert_ok(loch_timeline_flush(t));
    }
    t = site_reopen(s, t, NULL);
    check_value(t, &key, loch_slice_of(value, LEN));
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    assert_true(done);
    t = site_reopen(s, t, NULL);
    check_value(t, &key, loch_slice_of(value, LEN));
    assert_code(
        loch_timeline_put_value(t, &key, L + 192, loch_slice_of(value, LOCH_VERSION_MAX_BYTES + 1)),
        LOCH_E_LIMIT);
    free(value);
    loch_timeline_release(t);
}

#define WITH_SITE(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(garbage_with_a_valid_crc_harms_nobody_else),
        WITH_SITE(a_page_named_twice_ends_the_ingest),
        WITH_SITE(a_page_put_twice_is_counted_twice),
        WITH_SITE(a_record_too_long_for_a_page_ends_the_ingest),
        WITH_SITE(a_large_value_is_flushed_merged_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
