/* Chains of records: natively as far as that goes, from there on by a real redo process; the switch
 * that turns native redo off; chains that nobody can apply, and what their errors name. */
#include "store_fixture.h"

#include "read/redo_chain.h"
#include "redo_pool/redo_pool.h"

#include "loch/host/metrics.h"
#include "loch/pg/page.h"
#include "loch/pg/wal_record.h"

#include <sys/stat.h>
#include <unistd.h>

#define BIN_DIR "/usr/lib/postgresql/15/bin"
#define COUNT   4u

static const struct loch_key key = {
    .kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 16384, .block = 7};

struct chains {
    struct site *site;
    char scratch[64];
    struct loch_redo_pool *pool;
    struct loch_metrics *metrics;
    struct loch_redo_use use;
    struct loch_timeline *timeline;
    struct loch_buf bytes[COUNT];
    struct loch_version items[COUNT]; /* newest first */
};

/* Heap INSERT as item `at` (1: with INIT_PAGE), with `flags`. */
static struct loch_buf insert_record(uint16_t at, uint8_t flags)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_write_zeros(&w, 24);
    loch_write_u8(&w, 0); /* block reference 0 */
    loch_write_u8(&w, (uint8_t)(0x20 | (at == 1 ? 0x40 : 0)));
    loch_write_u16(&w, 5 + 1 + 8);
    loch_write_u32(&w, key.spc);
    loch_write_u32(&w, key.db);
    loch_write_u32(&w, key.rel);
    loch_write_u32(&w, key.block);
    loch_write_u8(&w, 255);
    loch_write_u8(&w, 3);
    loch_write_u16(&w, 1);
    loch_write_u16(&w, 0x0800);
    loch_write_u8(&w, 24);
    loch_write_u8(&w, 0);
    loch_write_u64(&w, 0x4142434445464748);
    loch_write_u16(&w, at);
    loch_write_u8(&w, flags);
    assert_ok(loch_writer_finish(&w));
    loch_put_u32(buf.data, (uint32_t)buf.len);
    loch_put_u32(buf.data + 4, 777);
    buf.data[16] = (uint8_t)(at == 1 ? 0x80 : 0x00);
    buf.data[17] = LOCH_RM_HEAP;
    return buf;
}

static void set_record(struct chains *c, uint32_t i, uint16_t at, uint8_t flags)
{
    loch_lsn start = 0x1000028 + 200 * (i + 1);

    loch_buf_fini(&c->bytes[i]);
    c->bytes[i] = insert_record(at, flags);
    c->items[COUNT - 1 - i] =
        (struct loch_version){.lsn = start + 100,
                              .start_lsn = start,
                              .kind = i == 0 ? LOCH_VERSION_RECORD_INIT : LOCH_VERSION_RECORD,
                              .bytes = loch_buf_slice(&c->bytes[i])};
}

static struct loch_metric *counter(struct chains *c, const char *name)
{
    return loch_metrics_counter(c->metrics, name, "For the test.", NULL, 0);
}

static int up(void **state)
{
    struct chains *c = calloc(1, sizeof *c);
    void *site = NULL;

    assert_non_null(c);
    assert_int_equal(site_up(&site), 0);
    c->site = site;
    snprintf(c->scratch, sizeof c->scratch, "/tmp/redo-unit-XXXXXX");
    assert_non_null(mkdtemp(c->scratch));
    assert_int_equal(chmod(c->scratch, 0711), 0);
    struct loch_redo_pool_options options = {
        .postgres_bin_dir = BIN_DIR, .lib_dir = LOCH_LIB_DIR, .scratch_dir = c->scratch};
    assert_ok(loch_redo_pool_create(&options, &c->pool));
    assert_ok(loch_metrics_create("test", &c->metrics));
    c->use = (struct loch_redo_use){.native_records = counter(c, "native_records"),
                                    .process_records = counter(c, "process_records"),
                                    .native_pages = counter(c, "native_pages"),
                                    .process_pages = counter(c, "process_pages"),
                                    .disputes = counter(c, "disputes"),
                                    .failures = counter(c, "failures")};
    c->site->store.redo = c->pool;
    c->site->store.redo_use = &c->use;
    c->timeline = site_timeline(c->site, 0x1000028, NULL);
    for (uint32_t i = 0; i < COUNT; i++)
        set_record(c, i, (uint16_t)(i + 1), 0);
    *state = c;
    return 0;
}

static int down(void **state)
{
    struct chains *c = *state;
    void *site = c->site;

    loch_timeline_release(c->timeline);
    loch_redo_pool_destroy(c->pool);
    loch_metrics_destroy(c->metrics);
    for (uint32_t i = 0; i < COUNT; i++)
        loch_buf_fini(&c->bytes[i]);
    assert_int_equal(rmdir(c->scratch), 0);
    assert_int_equal(site_down(&site), 0);
    free(c);
    return 0;
}

static void assert_counts(struct chains *c, int64_t native, int64_t process, int64_t native_pages,
                          int64_t process_pages)
{
    assert_int_equal(loch_metric_value(c->use.native_records), native);
    assert_int_equal(loch_metric_value(c->use.process_records), process);
    assert_int_equal(loch_metric_value(c->use.native_pages), native_pages);
    assert_int_equal(loch_metric_value(c->use.process_pages), process_pages);
}

static struct loch_redo_stats pool_stats(struct chains *c)
{
    struct loch_redo_stats stats;

    loch_redo_pool_stats(c->pool, &stats);
    return stats;
}

static void test_native(void **state)
{
    struct chains *c = *state;
    uint8_t page[LOCH_PAGE_BYTES];

    memset(page, 0xEE, sizeof page); /* a fresh chain starts from zeros whatever is there */
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, page));
    assert_int_equal(loch_get_u16(page + 12), 24 + 4 * COUNT);
    assert_int_equal(loch_page_lsn(page), c->items[0].lsn);
    assert_counts(c, COUNT, 0, 1, 0);
    assert_int_equal(pool_stats(c).spawned, 0);

    /* Without the metrics and the pool, as tools use a store. */
    c->site->store.redo_use = NULL;
    c->site->store.redo = NULL;
    uint8_t again[LOCH_PAGE_BYTES];
    struct loch_timeline *bare = site_timeline(c->site, 0x1000028, NULL);
    assert_ok(loch_redo_chain_apply(bare, &key, c->items, COUNT, true, again));
    assert_memory_equal(page, again, sizeof page);
    set_record(c, 2, 3, 0x80);
    assert_code(loch_redo_chain_apply(bare, &key, c->items, COUNT, true, again),
                LOCH_E_UNAVAILABLE);
    loch_timeline_release(bare);
}

/* What takes the process is left to others, with nothing counted. */
static void test_at_once(void **state)
{
    struct chains *c = *state;
    uint8_t page[LOCH_PAGE_BYTES], again[LOCH_PAGE_BYTES];

    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, page));
    memset(again, 0xEE, sizeof again);
    assert_ok(loch_redo_chain_at_once(c->timeline, &key, c->items, COUNT, true, again));
    assert_memory_equal(page, again, sizeof page);
    assert_counts(c, 2 * (int64_t)COUNT, 0, 2, 0);
    c->use.native_off = true;
    assert_code(loch_redo_chain_at_once(c->timeline, &key, c->items, COUNT, true, again),
                LOCH_E_UNAVAILABLE);
    c->use.native_off = false;
    set_record(c, 2, 3, 0x80); /* not native */
    assert_code(loch_redo_chain_at_once(c->timeline, &key, c->items, COUNT, true, again),
                LOCH_E_UNAVAILABLE);
    assert_counts(c, 2 * (int64_t)COUNT, 0, 2, 0);
    assert_int_equal(pool_stats(c).spawned, 0);
}

static void test_switched_off(void **state)
{
    struct chains *c = *state;
    uint8_t native[LOCH_PAGE_BYTES], process[LOCH_PAGE_BYTES];

    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, native));
    c->use.native_off = true;
    memset(process, 0xEE, sizeof process);
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, process));
    assert_memory_equal(native, process, sizeof native);
    assert_counts(c, COUNT, COUNT, 1, 1);
    assert_int_equal(pool_stats(c).records, COUNT);
}

/* The third record carries a flag that only the process takes: it and the fourth are its. */
static void test_mixed(void **state)
{
    struct chains *c = *state;
    uint8_t all[LOCH_PAGE_BYTES], page[LOCH_PAGE_BYTES];

    set_record(c, 2, 3, 0x80);
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, page));
    assert_counts(c, 2, 2, 0, 1);
    assert_int_equal(pool_stats(c).records, 2);
    c->use.native_off = true;
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, all));
    assert_memory_equal(all, page, sizeof page);
}

/* What native redo refuses goes to the process from the chain's beginning; it refuses too. */
static void test_refused_by_both(void **state)
{
    struct chains *c = *state;
    uint8_t page[LOCH_PAGE_BYTES];
    char tenant[LOCH_ID_TEXT_BYTES], timeline[LOCH_ID_TEXT_BYTES];

    set_record(c, 3, 9, 0); /* a gap before it */
    assert_code(loch_redo_chain_apply(c->timeline, &key, c->items, COUNT, true, page),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(),
                           loch_id_format(&loch_timeline_info(c->timeline)->tenant, tenant)));
    assert_non_null(strstr(loch_error_text(),
                           loch_id_format(&loch_timeline_info(c->timeline)->timeline, timeline)));
    assert_non_null(strstr(loch_error_text(), "1663/5/16384"));
    assert_non_null(strstr(loch_error_text(), "block 7"));
    assert_non_null(strstr(loch_error_text(), "0/1000348")); /* the record's start */
    assert_int_equal(loch_metric_value(c->use.disputes), 1);
    assert_int_equal(loch_metric_value(c->use.failures), 1);

    /* On a base: the process too starts from the page as it was. */
    loch_page_init(page, 0);
    assert_code(loch_redo_chain_apply(c->timeline, &key, c->items, 1, false, page), LOCH_E_CORRUPT);
    set_record(c, 3, 1, 0x80); /* what only the process takes */
    c->items[0].kind = LOCH_VERSION_RECORD;
    c->bytes[3].data[20] = 1; /* another CRC: not the record that is remembered as refused */
    c->bytes[3].data[16] = 0;
    c->bytes[3].data[25] = 0x20;
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, 1, false, page));
    assert_int_equal(loch_get_u16(page + 12), 28);
}

/* The masks of PostgreSQL's own check hide a vacuum's cycle id: that VACUUM leaves or clears it the
 * same way is shown here. */
static void test_cycle_id(void **state)
{
    struct chains *c = *state;
    uint8_t page[LOCH_PAGE_BYTES], native[LOCH_PAGE_BYTES], process[LOCH_PAGE_BYTES];
    uint8_t *record = c->bytes[3].data;

    loch_page_init(page, 16);
    for (uint32_t i = 1; i <= 2; i++) {
        uint32_t at = LOCH_PAGE_BYTES - 16 - 16 * i;
        loch_put_u16(page + at + 6, 16);
        loch_put_u32(page + 20 + 4 * i, at | 1u << 15 | 16u << 17);
        loch_put_u16(page + 12, (uint16_t)(24 + 4 * i));
        loch_put_u16(page + 14, (uint16_t)at);
    }
    loch_put_u16(page + LOCH_PAGE_BYTES - 4, 0x01 | 0x40);
    loch_put_u16(page + LOCH_PAGE_BYTES - 2, 77);
    /* VACUUM of one item: 4 bytes of main data, 2 of the reference's */
    loch_put_u16(record + 26, 2);
    record[16] = 0xC0;
    record[17] = LOCH_RM_BTREE;
    record[25] = 0x20;
    record[45] = 4;
    loch_put_u16(record + 46, 1);
    loch_put_u16(record + 48, 1);
    loch_put_u16(record + 50, 0);
    loch_put_u32(record, 52);
    c->items[0].bytes.len = 52;
    memcpy(native, page, sizeof page);
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, 1, false, native));
    assert_counts(c, 1, 0, 1, 0);
    assert_int_equal(loch_get_u16(native + 12), 28);
    c->use.native_off = true;
    memcpy(process, page, sizeof page);
    assert_ok(loch_redo_chain_apply(c->timeline, &key, c->items, 1, false, process));
    assert_memory_equal(native, process, sizeof native);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_native, up, down),
        cmocka_unit_test_setup_teardown(test_at_once, up, down),
        cmocka_unit_test_setup_teardown(test_switched_off, up, down),
        cmocka_unit_test_setup_teardown(test_mixed, up, down),
        cmocka_unit_test_setup_teardown(test_refused_by_both, up, down),
        cmocka_unit_test_setup_teardown(test_cycle_id, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
