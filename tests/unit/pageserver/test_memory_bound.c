/* The bound over the memory of all timelines: what counts, and when WAL goes on. */
#include "store_fixture.h"

#include "ingest/ingest_impl.h"
#include "pageserver.h"

#include "loch/host/metrics.h"
#include "loch/pg/control.h"

#include "../pg/wal_writer.h"

#define LIMIT UINT64_C(1000)

static int world_up(void **state)
{
    struct loch_pageserver *ps = calloc(1, sizeof *ps);
    assert_non_null(ps);
    assert_ok(loch_metrics_create("test", &ps->metrics));
    assert_ok(loch_env_real_create(&ps->env));
    loch_memory_init(ps);
    ps->config.memory_layers_bytes = LIMIT;
    *state = ps;
    return 0;
}

static int world_down(void **state)
{
    struct loch_pageserver *ps = *state;
    loch_metrics_destroy(ps->metrics);
    loch_env_real_destroy(ps->env);
    free(ps);
    return 0;
}

static void waiting_wal_alone_is_let_in(void **state)
{
    struct loch_pageserver *ps = *state;
    struct loch_memory_share a = {0}, b = {0};
    loch_memory_note(ps, &a, &(struct loch_memory_share){.wal = LIMIT - 1});
    assert_false(ps->memory.full);
    loch_memory_note(ps, &b, &(struct loch_memory_share){.wal = 1});
    assert_true(ps->memory.full && ps->memory.only_wal);
    loch_memory_note(ps, &b, &(struct loch_memory_share){.wal = 1, .open = 5});
    assert_true(ps->memory.full && !ps->memory.only_wal); /* that can be written */
    loch_memory_note(ps, &b, &(struct loch_memory_share){.wal = 1, .frozen = 5});
    assert_true(ps->memory.full && !ps->memory.only_wal); /* that is being written */
    loch_memory_note(ps, &b, &(struct loch_memory_share){.wal = 1});
    assert_true(ps->memory.full && ps->memory.only_wal);
    loch_memory_note(ps, &a, &(struct loch_memory_share){0});
    assert_false(ps->memory.full || ps->memory.only_wal);
    assert_int_equal(loch_metric_value(ps->memory.m_pauses), 1);
}

static void what_stays_counts_and_is_not_waited_for(void **state)
{
    struct loch_pageserver *ps = *state;
    struct loch_memory_share broken = {0}, whole = {0};
    loch_memory_note(
        ps, &broken,
        &(struct loch_memory_share){.open = 600, .frozen = 300, .ordered = true, .lasting = true});
    assert_int_equal(ps->memory.used, 900);
    assert_int_equal(ps->memory.leaving, 0);
    assert_int_equal(ps->memory.writers, 0);
    loch_memory_note(ps, &whole, &(struct loch_memory_share){.wal = 100});
    assert_true(ps->memory.full && ps->memory.only_wal);
    loch_memory_note(ps, &whole, &(struct loch_memory_share){.open = 100});
    assert_true(ps->memory.full && !ps->memory.only_wal);
    loch_memory_note(ps, &broken, &(struct loch_memory_share){0});
    assert_false(ps->memory.full);
    assert_int_equal(ps->memory.used, 100);
}

/* First layers of branches that wait for their turn are nobody's at work: they hold up no early
 * writing. */
static void what_rests_is_no_writer(void **state)
{
    struct loch_pageserver *ps = *state;
    struct loch_memory_share born[8] = {{0}};
    for (int i = 0; i < 8; i++)
        loch_memory_note(ps, &born[i],
                         &(struct loch_memory_share){.frozen = 10, .open = 5, .resting = true});
    assert_int_equal(ps->memory.used, 120);
    assert_int_equal(ps->memory.writers, 0);
    assert_int_equal(ps->memory.leaving, 0);
    assert_int_equal(ps->memory.movable, 120);
    loch_memory_note(ps, &born[0], &(struct loch_memory_share){.frozen = 10});
    assert_int_equal(ps->memory.writers, 1);
    for (int i = 0; i < 8; i++)
        loch_memory_note(ps, &born[i], &(struct loch_memory_share){0});
    assert_int_equal(ps->memory.used + ps->memory.movable + ps->memory.writers, 0);
}

struct bench {
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
    struct wal_writer wal;
};

static void bench_up(struct bench *b, struct site *s)
{
    const loch_lsn begin = UINT64_C(0x1000000) + 8192 + 24;
    struct loch_control control = {.segment_bytes = WRITER_SEGMENT};
    struct loch_timeline_info info = {.tenant = s->tenant,
                                      .system_id = 4711,
                                      .pg_version = 150000,
                                      .segment_bytes = WRITER_SEGMENT,
                                      .start_lsn = begin};
    struct loch_buf bytes = {0};
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_ok(loch_timeline_create(&s->store, s->keys, &info, NULL, &b->timeline));
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(b->timeline, begin - 100, loch_buf_slice(&bytes)));
    assert_ok(loch_ingest_create(b->timeline, &b->ingest));
    writer_init(&b->wal, begin, begin - 100);
    loch_buf_fini(&bytes);
}

static void bench_down(struct bench *b)
{
    loch_ingest_destroy(b->ingest);
    loch_timeline_release(b->timeline);
    writer_fini(&b->wal);
}

/* A NOOP of `len` bytes in all. */
static void write_noop(struct bench *b, uint32_t len)
{
    uint8_t *body = calloc(1, len - 24);
    assert_non_null(body);
    body[0] = 0xFE; /* long main data */
    loch_put_u32(body + 1, len - 24 - 5);
    writer_record(&b->wal, 0, 0x20, 0, len, body);
    free(body);
}

/* What was written from `from` up to `to`. */
static void feed(struct bench *b, size_t from, size_t to)
{
    assert_ok(loch_ingest_feed(b->ingest, loch_slice_of(b->wal.bytes.data + from, to - from)));
}

static void a_record_in_part_is_told(void **state)
{
    enum { RECORD = 50000, LITTLE = 9000, HALF = 20000, HEADERS = 3 * 24 };
    struct bench b;
    bench_up(&b, *state);
    write_noop(&b, RECORD);
    assert_int_equal(loch_ingest_part_bytes(b.ingest), 0);
    feed(&b, 0, LITTLE);
    assert_int_equal(loch_ingest_part_bytes(b.ingest), 0);
    feed(&b, LITTLE, HALF);
    assert_in_range(loch_ingest_part_bytes(b.ingest), HALF - HEADERS, HALF);
    feed(&b, HALF, b.wal.bytes.len);
    assert_int_equal(loch_timeline_last_record_lsn(b.timeline), b.wal.ends[0]);
    assert_int_equal(loch_ingest_part_bytes(b.ingest), 0);
    bench_down(&b);
}

/* Nobody counts the room of a record that is in: it goes with it, though no other record come. */
static void a_long_records_room_goes_with_it(void **state)
{
    enum { RECORD = 8 << 20, PIECE = 1 << 20 };
    struct bench b;
    bench_up(&b, *state);
    write_noop(&b, RECORD);
    for (size_t at = 0; at < b.wal.bytes.len; at += PIECE)
        feed(&b, at, at + PIECE < b.wal.bytes.len ? at + PIECE : b.wal.bytes.len);
    assert_int_equal(loch_timeline_last_record_lsn(b.timeline), b.wal.ends[0]);
    assert_int_equal(loch_ingest_part_bytes(b.ingest), 0);
    assert_in_range(b.ingest->scan.whole.cap, 0, 64 << 10);
    bench_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(waiting_wal_alone_is_let_in, world_up, world_down),
        cmocka_unit_test_setup_teardown(what_stays_counts_and_is_not_waited_for, world_up,
                                        world_down),
        cmocka_unit_test_setup_teardown(what_rests_is_no_writer, world_up, world_down),
        cmocka_unit_test_setup_teardown(a_record_in_part_is_told, site_up, site_down),
        cmocka_unit_test_setup_teardown(a_long_records_room_goes_with_it, site_up, site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
