/* What fails for the moment while a record is applied (a layer that cannot be read, no memory) ends
 * nothing: of the record nothing is left, and after a rewind the same WAL gives what it would have
 * given. Memory fails by interposed allocations, so not under sanitizers. */
#include "store_fixture.h"

#include "../failing_alloc.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"
#include "read/xact_time.h"
#include "store/layer_set.h"

#include "loch/io/fault.h"
#include "loch/pg/slru.h"
#include "loch/pg/wal_record.h"

#include <errno.h>

#define L         ((loch_lsn)0x10ff800) /* near the end of a segment */
#define BLOCKS    9u
#define RELATIONS 3u
#define ORIGIN    7u
#define SECOND_US INT64_C(1000000)

struct bench {
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
};

/* The rest of what records are added to. */
static void put_others(struct loch_timeline *t)
{
    const struct loch_key slru = {.kind = LOCH_KEY_SLRU_PAGE, .rel = LOCH_SLRU_XACT};
    const struct loch_key origin = {.kind = LOCH_KEY_ORIGIN, .rel = ORIGIN};
    const struct loch_key time = LOCH_XACT_TIME_KEY;
    const struct loch_xact_time before = {.time_us = SECOND_US, .end = L - 8};
    uint8_t page[LOCH_PAGE_BYTES] = {0}, entry[LOCH_XACT_TIME_BYTES], progress[16] = {1};
    loch_xact_time_encode(&before, entry);
    assert_ok(loch_timeline_put_value(t, &slru, L, loch_slice_of(page, sizeof page)));
    assert_ok(loch_timeline_put_value(t, &origin, L, loch_slice_of(progress, sizeof progress)));
    assert_ok(loch_timeline_put_value(t, &time, L, loch_slice_of(entry, sizeof entry)));
}

/* Relations 100, 101, ... of BLOCKS blocks, known from a layer file alone. */
static struct bench begin(struct site *s)
{
    const struct loch_control control = {.segment_bytes = WRITER_SEGMENT};
    struct loch_timeline_info info = {.tenant = s->tenant,
                                      .system_id = 4711,
                                      .pg_version = 150000,
                                      .segment_bytes = WRITER_SEGMENT,
                                      .start_lsn = L};
    struct loch_buf bytes = {0};
    uint8_t size[4];
    struct bench b = {.timeline = NULL};
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_ok(loch_timeline_create(&s->store, s->keys, &info, NULL, &b.timeline));
    loch_put_u32(size, BLOCKS);
    for (uint32_t i = 0; i < RELATIONS; i++) {
        const struct loch_key key = {
            .kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 100 + i};
        assert_ok(loch_timeline_put_value(b.timeline, &key, L, loch_slice_of(size, sizeof size)));
    }
    put_others(b.timeline);
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(b.timeline, L - 100, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    assert_ok(loch_ingest_create(b.timeline, &b.ingest));
    return b;
}

static void end(struct bench *b)
{
    loch_ingest_destroy(b->ingest);
    loch_timeline_release(b->timeline);
}

/* A record that changes `block` of every relation, and makes it longer if it has none so high. */
static void write_pages(struct wal_writer *w, uint32_t block)
{
    struct loch_buf body = {0};
    struct loch_writer r;
    loch_writer_init(&r, &body);
    for (uint32_t i = 0; i < RELATIONS; i++) {
        loch_write_u8(&r, (uint8_t)i);
        loch_write_u8(&r, 0);
        loch_write_u16(&r, 0);
        loch_write_u32(&r, 1663);
        loch_write_u32(&r, 5);
        loch_write_u32(&r, 100 + i);
        loch_write_u32(&r, block);
    }
    loch_write_u8(&r, 255);
    loch_write_u8(&r, 8);
    loch_write_zeros(&r, 8);
    assert_ok(loch_writer_finish(&r));
    writer_record(w, LOCH_RM_HEAP, 0, 700, 24 + (uint32_t)body.len, body.data);
    loch_buf_fini(&body);
}

/* The end of transaction `xid`, `second` seconds later than the first. */
static void write_commit(struct wal_writer *w, uint32_t xid, int64_t second)
{
    uint8_t body[10] = {255, 8};
    loch_put_u64(body + 2, (uint64_t)((700000000 + second) * SECOND_US));
    writer_record(w, LOCH_RM_XACT, 0, xid, 24 + sizeof body, body);
}

static void write_origin(struct wal_writer *w, loch_lsn remote)
{
    uint8_t body[2 + 16] = {255, 16};
    loch_put_u64(body + 2, remote);
    loch_put_u16(body + 10, ORIGIN);
    writer_record(w, LOCH_RM_REPLORIGIN, 0, 0, 24 + sizeof body, body);
}

static void write_all(struct wal_writer *w)
{
    writer_init(w, L, L - 100);
    for (uint32_t i = 0; i < 3; i++) {
        write_commit(w, 700 + i, i);
        write_pages(w, BLOCKS + 3 * i);
        write_origin(w, 0x5000 + i);
    }
    while (w->at < L / WRITER_SEGMENT * WRITER_SEGMENT + WRITER_SEGMENT + 256)
        write_pages(w, 3);
    write_commit(w, 710, 1);
    write_commit(w, 711, 9);
}

/* Everything from the ingest's position on. */
static loch_status feed(struct bench *b, const struct wal_writer *w)
{
    const size_t from = (size_t)(loch_ingest_position(b->ingest) - L);
    return loch_ingest_feed(b->ingest, loch_slice_of(w->bytes.data + from, w->bytes.len - from));
}

/* Every version that was put, with its key. */
static void list_versions(struct bench *b, struct loch_buf *out)
{
    struct loch_mem_scan *scan = NULL;
    loch_lsn last;
    assert_ok(loch_ingest_freeze(b->ingest));
    struct loch_layer_set *set = loch_timeline_layers(b->timeline, &last);
    assert_int_equal(set->mem_count, 2);
    assert_ok(loch_mem_scan_create(set->mem[1], &scan));
    for (size_t i = 0; i < loch_mem_scan_count(scan); i++) {
        struct loch_versions list = {0};
        assert_ok(loch_mem_scan_history(scan, i, &list));
        for (size_t n = 0; n < list.count; n++) {
            const struct loch_version *v = &list.items[n];
            const uint64_t head[3] = {v->lsn, v->start_lsn, v->kind};
            uint8_t key[LOCH_KEY_BYTES];
            loch_key_encode(loch_mem_scan_key(scan, i), key);
            assert_ok(loch_buf_append(out, key, sizeof key));
            assert_ok(loch_buf_append(out, head, sizeof head));
            assert_ok(loch_buf_append(out, v->bytes.data, v->bytes.len));
        }
        loch_versions_fini(&list);
    }
    loch_mem_scan_destroy(scan);
    loch_layer_set_release(set);
}

struct expected {
    struct wal_writer wal;
    struct loch_buf versions;
    struct loch_control control;
    uint64_t file_operations;
};

static void expect(struct site *s, struct expected *e)
{
    s->store.frames = NULL; /* every look is a read */
    struct bench b = begin(s);
    *e = (struct expected){.file_operations = 0};
    write_all(&e->wal);
    loch_io_fault_set(0, 0);
    assert_ok(feed(&b, &e->wal));
    e->file_operations = loch_io_fault_count();
    loch_ingest_control(b.ingest, &e->control);
    list_versions(&b, &e->versions);
    end(&b);
}

/* After a failure of `code` half-way, if there was one. */
static void check_goes_on(struct bench *b, struct expected *e, loch_status st, enum loch_code code)
{
    struct loch_buf versions = {0};
    struct loch_control control;
    if (!loch_is_ok(st)) {
        assert_int_equal(st.code, code);
        assert_true(loch_timeline_last_record_lsn(b->timeline) < e->wal.at);
        assert_ok(loch_ingest_rewind(b->ingest));
        assert_ok(feed(b, &e->wal));
    }
    assert_int_equal(loch_timeline_last_record_lsn(b->timeline), e->wal.at);
    loch_ingest_control(b->ingest, &control);
    assert_int_equal(control.last_start, e->control.last_start);
    assert_int_equal(control.checkpoint.next_xid, e->control.checkpoint.next_xid);
    list_versions(b, &versions);
    assert_int_equal(versions.len, e->versions.len);
    assert_memory_equal(versions.data, e->versions.data, versions.len);
    loch_buf_fini(&versions);
    assert_ok(loch_timeline_flush(b->timeline));
}

static void finish(struct expected *e)
{
    writer_fini(&e->wal);
    loch_buf_fini(&e->versions);
}

static void a_read_that_fails_once_ends_nothing(void **state)
{
    struct site *s = *state;
    struct expected e;
    unsigned failures = 0;
    expect(s, &e);
    assert_true(e.file_operations > 0);
    for (uint64_t n = 1; n <= e.file_operations; n++) {
        struct bench b = begin(s);
        loch_io_fault_set(n, EIO);
        const loch_status st = feed(&b, &e.wal);
        loch_io_fault_set(0, 0);
        failures += !loch_is_ok(st);
        check_goes_on(&b, &e, st, LOCH_E_IO);
        end(&b);
    }
    assert_true(failures >= 6);
    finish(&e);
}

static void want_of_memory_ends_nothing(void **state)
{
    struct site *s = *state;
    struct expected e;
    unsigned failures = 0;
    expect(s, &e);
    for (long n = 1;; n++) {
        struct bench b = begin(s);
        hit = false;
        countdown = n;
        const loch_status st = feed(&b, &e.wal);
        countdown = 0;
        failures += !loch_is_ok(st);
        check_goes_on(&b, &e, st, LOCH_E_NO_MEMORY);
        end(&b);
        if (!hit)
            break;
    }
#ifndef HAS_OWN_MALLOC
    assert_true(failures >= 10);
#endif
    finish(&e);
}

/* It takes a frozen layer to see more than the newest: no version above the last record is in it.
 */
static void what_has_failed_can_be_frozen(void **state)
{
    struct site *s = *state;
    struct expected e;
    expect(s, &e);
    for (uint64_t n = 1; n <= e.file_operations; n++) {
        struct bench b = begin(s);
        loch_io_fault_set(n, EIO);
        const loch_status st = feed(&b, &e.wal);
        loch_io_fault_set(0, 0);
        if (!loch_is_ok(st)) {
            assert_ok(loch_ingest_freeze(b.ingest));
            assert_ok(loch_timeline_flush(b.timeline));
            assert_int_equal(loch_timeline_disk_consistent_lsn(b.timeline),
                             loch_timeline_last_record_lsn(b.timeline));
            assert_ok(loch_ingest_rewind(b.ingest));
            assert_ok(feed(&b, &e.wal));
        }
        end(&b);
    }
    finish(&e);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_read_that_fails_once_ends_nothing),
        TEST(want_of_memory_ends_nothing),
        TEST(what_has_failed_can_be_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
