/* Times of transactions: what ingest notes of times that go back and forth, and what is found in
 * it, over flushes, restarts and a branch, against a list of everything. */
#include "store_fixture.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"
#include "read/xact_time.h"

#include "loch/pg/control.h"
#include "loch/pg/wal_record.h"

#define START     ((loch_lsn)WRITER_SEGMENT + 40)
#define RECORDS   600u
#define ABORT     0x20
#define PG_SECOND INT64_C(1000000)

struct ended {
    loch_lsn end;
    int64_t time_us;
};

static struct ended list[2 * RECORDS];
static size_t count;

static void commit(struct loch_timeline *t, loch_lsn at, loch_lsn prev)
{
    struct loch_control control = {.system_id = 7, .segment_bytes = WRITER_SEGMENT};
    struct loch_buf bytes = {0};
    control.checkpoint.next_xid = 700;
    control.checkpoint.tli = 1;
    control.last_start = prev;
    control.last_end = at;
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(t, prev, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
}

/* Transactions from time `us` on: mostly forward, often a little back, sometimes far back. */
static int64_t write_transactions(struct wal_writer *w, size_t n, int64_t us, uint32_t *random)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t body[2 + 8] = {255, 8}, filler[2 + 200] = {255, 200};
        *random = *random * 1664525u + 1013904223u;
        int64_t step = (int64_t)(*random >> 8) % 700000;
        us += *random % 5 == 0 ? -step : step;
        int64_t at = *random % 97 == 0 ? us - 20 * PG_SECOND : us;
        loch_put_u64(body + 2, (uint64_t)at);
        writer_record(w, LOCH_RM_XACT, *random % 7 == 0 ? ABORT : 0, 700 + (uint32_t)i,
                      24 + sizeof body, body);
        list[count++] = (struct ended){w->at, at};
        if (*random % 3 == 0)
            writer_record(w, LOCH_RM_LOGICALMSG, 0, 0, 24 + sizeof filler, filler);
    }
    return us;
}

static void feed(struct loch_timeline *t, const struct wal_writer *w, size_t from, size_t to)
{
    struct loch_ingest *ingest = NULL;
    assert_ok(loch_ingest_create(t, &ingest));
    assert_ok(loch_ingest_feed(ingest, loch_slice_of(w->bytes.data + from, to - from)));
    assert_ok(loch_ingest_freeze(ingest));
    loch_ingest_destroy(ingest);
}

static const struct ended *first_later(int64_t second, loch_lsn upto)
{
    for (size_t i = 0; i < count && list[i].end <= upto; i++)
        if (loch_xact_second(list[i].time_us) > second)
            return &list[i];
    return NULL;
}

static void check(struct loch_timeline *t, loch_lsn upto)
{
    struct loch_view *view = NULL;
    assert_ok(loch_view_create(t, &view));
    for (size_t i = 0; i < count; i += 3) {
        struct loch_xact_time entry;
        bool found = false;
        int64_t second = loch_xact_second(list[i].time_us);
        assert_ok(loch_xact_time_after(view, upto, list[i].time_us, &found, &entry));
        const struct ended *want = first_later(second, upto);
        assert_int_equal(found, want != NULL);
        if (found) {
            assert_true(entry.end == want->end && entry.time_us == want->time_us);
            assert_true(entry.before == LOCH_LSN_NONE || want == list ||
                        entry.before == want[-1].end);
        }
        int64_t newest = INT64_MIN;
        for (size_t k = 0; k < count && list[k].end <= list[i].end; k++)
            if (loch_xact_second(list[k].time_us) > newest)
                newest = loch_xact_second(list[k].time_us);
        if (list[i].end > upto)
            continue;
        assert_ok(loch_xact_time_at(view, list[i].end, &found, &entry));
        assert_true(found && loch_xact_second(entry.time_us) == newest);
    }
    loch_view_destroy(view);
}

static void finds_what_a_list_of_all_finds(void **state)
{
    struct site *s = *state;
    struct wal_writer w, own;
    struct loch_xact_time entry;
    struct loch_view *view = NULL;
    uint32_t random = 17;
    bool found = true;
    struct loch_timeline *t = site_timeline(s, START, NULL);
    count = 0;
    writer_init(&w, START, START - 24);
    commit(t, START, START - 24);
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_xact_time_at(view, START, &found, &entry));
    assert_false(found);
    assert_ok(loch_xact_time_after(view, START, -5, &found, &entry));
    assert_false(found);
    loch_view_destroy(view);
    int64_t us = write_transactions(&w, RECORDS, -30 * PG_SECOND, &random); /* crosses 2000 */
    size_t half = (size_t)(list[RECORDS / 2].end - START);
    feed(t, &w, 0, half);
    assert_ok(loch_timeline_flush(t));
    t = site_reopen(s, t, NULL);
    feed(t, &w, half, w.bytes.len);
    check(t, w.at);
    check(t, list[RECORDS / 3].end);
    /* A branch goes on from the middle: its parent's later transactions are not its own. */
    size_t kept = RECORDS / 2 + 1;
    loch_lsn at = list[kept - 1].end;
    struct loch_timeline *branch = site_timeline(s, at, t);
    writer_init(&own, at, at - 32);
    commit(branch, at, at - 32);
    count = kept;
    (void)write_transactions(&own, RECORDS, us - 100 * PG_SECOND, &random);
    feed(branch, &own, 0, own.bytes.len);
    check(branch, own.at);
    loch_timeline_release(branch);
    loch_timeline_release(t);
    writer_fini(&w);
    writer_fini(&own);
}

/* As a detached branch has it: its parent's newest entry, put below the branch's first LSN. */
static void an_entry_put_below_its_own_lsn(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, START, NULL);
    struct loch_xact_time in = {.time_us = 5 * PG_SECOND, .end = START}, out;
    struct loch_key key = LOCH_XACT_TIME_KEY;
    uint8_t bytes[LOCH_XACT_TIME_BYTES];
    struct loch_view *view = NULL;
    bool found = false;
    loch_xact_time_encode(&in, bytes);
    assert_ok(loch_timeline_put_value(t, &key, START - 8, loch_slice_of(bytes, sizeof bytes)));
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_xact_time_at(view, START, &found, &out));
    assert_true(found && out.end == START);
    assert_ok(loch_xact_time_at(view, START - 1, &found, &out));
    assert_false(found);
    assert_ok(loch_xact_time_after(view, START, 4 * PG_SECOND, &found, &out));
    assert_true(found && out.end == START);
    loch_view_destroy(view);
    loch_timeline_release(t);
}

static void refuses_bytes_that_are_no_entry(void **state)
{
    uint8_t bytes[LOCH_XACT_TIME_BYTES];
    struct loch_xact_time in = {.time_us = -1500000, .end = 0x2000, .before = 0x1000}, out;
    (void)state;
    assert_true(loch_xact_second(in.time_us) == -2 && loch_xact_second(-1) == -1);
    assert_true(loch_xact_second(0) == 0 && loch_xact_second(1999999) == 1);
    loch_xact_time_encode(&in, bytes);
    assert_ok(loch_xact_time_decode(loch_slice_of(bytes, sizeof bytes), &out));
    assert_true(out.time_us == in.time_us && out.end == in.end && out.before == in.before);
    assert_code(loch_xact_time_decode(loch_slice_of(bytes, 8), &out), LOCH_E_CORRUPT);
    in.before = in.end;
    loch_xact_time_encode(&in, bytes);
    assert_code(loch_xact_time_decode(loch_slice_of(bytes, sizeof bytes), &out), LOCH_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_what_a_list_of_all_finds, site_up, site_down),
        cmocka_unit_test_setup_teardown(an_entry_put_below_its_own_lsn, site_up, site_down),
        cmocka_unit_test(refuses_bytes_that_are_no_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
