/* What a clean stop left: put in place whole; and for every fault nothing of it. */
#include "../unit.h"

#include "stop_state.h"

#include "loch/pg/control.h"
#include "loch/wire/stop_state.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct loch_env *env;
static uint8_t page[LOCH_PAGE_BYTES];

static void shell(const char *fmt)
{
    char cmd[1024];

    (void)snprintf(cmd, sizeof cmd, "cd %s && %s", dir, fmt);
    assert_int_equal(system(cmd), 0);
}

static void put(const char *name, const void *bytes, size_t len)
{
    char path[200];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wbe");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static size_t get(const char *name, uint8_t *bytes, size_t max)
{
    char path[200];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rbe");
    if (f == NULL)
        return SIZE_MAX;
    size_t n = fread(bytes, 1, max, f);
    (void)fclose(f);
    return n;
}

static void put_head(uint8_t timeline, uint64_t id, uint32_t parts)
{
    const struct loch_stop_head head = {.tenant = {{1}},
                                        .timeline = {{timeline}},
                                        .id = id,
                                        .unlogged_lsn = 4711,
                                        .part_count = parts};
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_stop_head_encode(&w, &head);
    assert_ok(loch_writer_finish(&w));
    put("loch.stop", buf.data, buf.len);
    loch_buf_fini(&buf);
}

static void put_part(struct loch_stop_part part)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    char name[32];

    part.id = 9;
    loch_writer_init(&w, &buf);
    loch_stop_part_encode(&w, &part);
    assert_ok(loch_writer_finish(&w));
    (void)snprintf(name, sizeof name, "loch.stop.%u", part.number);
    put(name, buf.data, buf.len);
    loch_buf_fini(&buf);
}

static void put_pages(uint32_t number, uint32_t rel, uint32_t block, uint32_t count)
{
    static uint8_t pages[3 * LOCH_PAGE_BYTES];

    for (uint32_t i = 0; i < count; i++)
        memset(pages + (size_t)i * LOCH_PAGE_BYTES, (int)(block + i + 1), LOCH_PAGE_BYTES);
    put_part((struct loch_stop_part){.number = number,
                                     .kind = LOCH_STOP_PAGES,
                                     .rel = {1663, 5, rel},
                                     .block = block,
                                     .bytes = {pages, (size_t)count * LOCH_PAGE_BYTES}});
}

/* A data directory with one unlogged relation, and what a stop of it left. */
static int setup(void **state)
{
    const struct loch_control control = {
        .system_id = 77, .unlogged_lsn = 1000, .segment_bytes = 1 << 24};
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];

    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-stop-test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_ok(loch_env_real_create(&env));
    shell("mkdir -p base/5 global pg_stat && printf init > base/5/16384_init && printf init > "
          "base/5/16384");
    loch_control_format(&control, file);
    put("global/pg_control", file, sizeof file);
    put_pages(0, 16384, 0, 2);
    put_pages(1, 16384, 2, 1);
    put_part((struct loch_stop_part){
        .number = 2, .kind = LOCH_STOP_STATISTICS, .bytes = loch_slice_of("fig", 3)});
    put_part((struct loch_stop_part){
        .number = 3, .kind = LOCH_STOP_STATISTICS, .offset = 3, .bytes = loch_slice_of("ures", 4)});
    put_head(2, 9, 4);
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];

    (void)state;
    loch_env_real_destroy(env);
    (void)snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static loch_status restore(bool *restored)
{
    const struct loch_stop_state_order order = {.env = env,
                                                .pgdata = dir,
                                                .tenant = {{1}},
                                                .timeline = {{2}},
                                                .uid = geteuid(),
                                                .gid = getegid()};

    return loch_stop_state_restore(&order, restored);
}

static uint64_t unlogged_lsn(void)
{
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];
    struct loch_control control;

    assert_int_equal(get("global/pg_control", file, sizeof file), sizeof file);
    assert_ok(loch_control_parse(loch_slice_of(file, sizeof file), &control));
    return control.unlogged_lsn;
}

static void is_untouched(void)
{
    uint8_t bytes[16];

    assert_int_equal(get("base/5/16384", bytes, sizeof bytes), 4);
    assert_memory_equal(bytes, "init", 4);
    assert_int_equal(get("pg_stat/pgstat.stat", bytes, sizeof bytes), SIZE_MAX);
    assert_int_equal(unlogged_lsn(), 1000);
    shell("! ls base/5 pg_stat | grep kept");
}

static void whole(void **state)
{
    static uint8_t bytes[5 * LOCH_PAGE_BYTES];
    bool restored;

    (void)state;
    assert_ok(restore(&restored));
    assert_true(restored);
    assert_int_equal(get("base/5/16384", bytes, sizeof bytes), 3 * LOCH_PAGE_BYTES);
    for (size_t i = 0; i < 3; i++) {
        memset(page, (int)i + 1, sizeof page);
        assert_memory_equal(bytes + i * LOCH_PAGE_BYTES, page, sizeof page);
    }
    assert_int_equal(get("pg_stat/pgstat.stat", bytes, sizeof bytes), 7);
    assert_memory_equal(bytes, "figures", 7);
    assert_int_equal(unlogged_lsn(), 4711);
    shell("! ls base/5 pg_stat | grep kept");
}

static void nothing_left(void **state)
{
    bool restored;

    (void)state;
    put("loch.stop", "", 0);
    assert_ok(restore(&restored));
    assert_false(restored);
    is_untouched();
    shell("rm loch.stop");
    assert_ok(restore(&restored));
    assert_false(restored);
    is_untouched();
}

static void refused_is(enum loch_code code)
{
    bool restored;

    assert_code(restore(&restored), code);
    assert_false(restored);
    is_untouched();
}

static void refused(void **state)
{
    (void)state;
    put_head(3, 9, 4); /* another branch */
    refused_is(LOCH_E_STALE);
    put_head(2, 8, 4); /* parts of another stop */
    refused_is(LOCH_E_CORRUPT);
    put_head(2, 9, 5); /* one is missing */
    refused_is(LOCH_E_NOT_FOUND);
    put_head(2, 9, 4);
    shell("cp loch.stop.1 keep && cp loch.stop.0 loch.stop.1"); /* one twice */
    refused_is(LOCH_E_CORRUPT);
    put_pages(1, 16384, 3, 1); /* a gap */
    refused_is(LOCH_E_CORRUPT);
    put_pages(1, 16385, 0, 1); /* not unlogged */
    refused_is(LOCH_E_CORRUPT);
    shell("mv keep loch.stop.1 && cp loch.stop.3 keep");
    put_part((struct loch_stop_part){
        .number = 3, .kind = LOCH_STOP_STATISTICS, .offset = 4, .bytes = loch_slice_of("ures", 4)});
    refused_is(LOCH_E_CORRUPT);
    shell("mv keep loch.stop.3 && : > loch.stop.2"); /* emptied: not the end of the WAL */
    refused_is(LOCH_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_left, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
