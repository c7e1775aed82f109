/* Small formats of base backup and import: auxiliary files, origins, the tar stream's errors, and
 * what inspection refuses. Whole backups that a server starts on:
 * tests/integration/import_basebackup.sh. */
#include "store_fixture.h"

#include "basebackup/aux_file.h"
#include "basebackup/basebackup.h"
#include "basebackup/origins.h"
#include "import/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_aux_round_trip(void **state)
{
    struct loch_buf value = {0};
    struct loch_slice contents;
    char path[LOCH_AUX_PATH_MAX + 1];

    (void)state;
    assert_ok(loch_aux_encode("pg_hba.conf", loch_slice_of("local all", 9), &value));
    assert_ok(loch_aux_decode(loch_buf_slice(&value), path, &contents));
    assert_string_equal(path, "pg_hba.conf");
    assert_int_equal(contents.len, 9);
    assert_memory_equal(contents.data, "local all", 9);
    assert_ok(loch_aux_encode("base/5/PG_VERSION", loch_slice_of(NULL, 0), &value));
    assert_ok(loch_aux_decode(loch_buf_slice(&value), path, &contents));
    assert_int_equal(contents.len, 0);
    struct loch_key a = loch_aux_key("PG_VERSION"), b = loch_aux_key("pg_hba.conf");
    assert_int_equal(a.kind, LOCH_KEY_AUX_FILE);
    assert_int_not_equal(a.rel, b.rel);
    loch_buf_fini(&value);
}

static void test_aux_refuses(void **state)
{
    static const char *const bad[] = {"/etc/passwd", "../x", "a/../b", "a//b", "",
                                      "a/",          ".",    "a/./b",  "a\nb"};
    static const uint8_t forged[] = {4, 0, '.', '.', '/', 'x', 'y'};
    struct loch_buf value = {0};
    struct loch_slice contents;
    char path[LOCH_AUX_PATH_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_code(loch_aux_encode(bad[i], loch_slice_of("x", 1), &value), LOCH_E_INVALID);
    assert_code(loch_aux_encode("big", loch_slice_of("x", LOCH_AUX_FILE_MAX + 1), &value),
                LOCH_E_LIMIT);
    assert_code(loch_aux_decode(loch_slice_of(forged, sizeof forged), path, &contents),
                LOCH_E_CORRUPT);
    assert_code(loch_aux_decode(loch_slice_of(forged, 4), path, &contents), LOCH_E_CORRUPT);
    assert_code(loch_aux_decode(loch_slice_of(NULL, 0), path, &contents), LOCH_E_CORRUPT);
    loch_buf_fini(&value);
}

static LOCH_STATUS sum_origin(void *arg, uint16_t origin, loch_lsn remote)
{
    uint64_t *sum = arg;
    *sum += origin * UINT64_C(1000) + remote;
    return LOCH_OK;
}

static void test_origins(void **state)
{
    struct loch_buf file = {0};
    uint64_t sum = 0;

    (void)state;
    assert_ok(loch_origins_begin(&file));
    assert_ok(loch_origins_add(&file, 1, 5));
    assert_ok(loch_origins_add(&file, 2, 7));
    assert_ok(loch_origins_finish(&file));
    assert_int_equal(file.len, 4 + 2 * 16 + 4);
    assert_ok(loch_origins_parse(loch_buf_slice(&file), sum_origin, &sum));
    assert_int_equal(sum, 3012);
    file.data[10] ^= 1;
    assert_code(loch_origins_parse(loch_buf_slice(&file), sum_origin, &sum), LOCH_E_CORRUPT);
    assert_code(loch_origins_parse(loch_slice_of(file.data, 7), sum_origin, &sum), LOCH_E_CORRUPT);
    assert_code(loch_origins_parse(loch_slice_of(file.data, 20), sum_origin, &sum), LOCH_E_CORRUPT);
    loch_buf_fini(&file);
}

/* ---- a backup of almost nothing ---- */

static LOCH_STATUS no_page(void *arg, const struct loch_rel *rel, uint8_t fork, uint32_t block,
                           loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES])
{
    (void)arg;
    (void)rel;
    (void)fork;
    (void)block;
    (void)lsn;
    memset(out, 0, LOCH_PAGE_BYTES);
    return LOCH_OK;
}

static LOCH_STATUS one_value(void *arg, const struct loch_key *first, const struct loch_key *end,
                             loch_lsn lsn, loch_view_scan_fn fn, void *fn_arg)
{
    const uint8_t *kind = arg;
    const struct loch_key key = {.kind = first->kind, .spc = 1664, .rel = 9};

    (void)end;
    if (first->kind != *kind)
        return LOCH_OK;
    return fn(fn_arg, &key, loch_slice_of("abc", 3), lsn);
}

static LOCH_STATUS count_bytes(void *arg, struct loch_slice bytes)
{
    size_t *left = arg;

    if (bytes.len > *left)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the peer is gone");
    *left -= bytes.len;
    return LOCH_OK;
}

static loch_status backup_forgetting(uint8_t kind, loch_lsn lsn, loch_lsn forget, size_t *room,
                                     loch_lsn *end)
{
    struct loch_control control = {.system_id = 1,
                                   .state = LOCH_DB_SHUTDOWNED,
                                   .checkpoint = {.tli = 1, .prev_tli = 1},
                                   .segment_bytes = 16u << 20,
                                   .last_start = 0x1000028,
                                   .last_end = 0x10000A0};
    struct loch_basebackup_source source = {no_page, one_value, &kind};
    struct loch_basebackup_request request = {
        .lsn = lsn, .prev_lsn = 0x1000028, .control = &control, .time = 1};

    request.forget_prepared_until = forget;
    return loch_basebackup_send(&source, &request, count_bytes, room, end);
}

static loch_status backup(uint8_t kind, loch_lsn lsn, size_t room, loch_lsn *end)
{
    return backup_forgetting(kind, lsn, LOCH_LSN_NONE, &room, end);
}

/* In a branch, transactions prepared up to the branch point are rolled back: their state stays out.
 * (one_value gives every value the version of the LSN scanned at.) */
static void test_prepared_at_branch_point(void **state)
{
    size_t kept = SIZE_MAX, kept_after = SIZE_MAX, forgotten = SIZE_MAX;
    loch_lsn end;

    (void)state;
    assert_ok(backup_forgetting(LOCH_KEY_TWOPHASE, 0x10000A0, LOCH_LSN_NONE, &kept, &end));
    assert_ok(backup_forgetting(LOCH_KEY_TWOPHASE, 0x10000A0, 0x100009F, &kept_after, &end));
    assert_ok(backup_forgetting(LOCH_KEY_TWOPHASE, 0x10000A0, 0x10000A0, &forgotten, &end));
    assert_int_equal(kept, kept_after);
    assert_int_equal(forgotten - kept, 1024); /* a header and a padded block */
}

/* A mark at a branch's beginning forgets what was prepared by then, seen from there on only. */
static void test_mark_of_forgotten(void **state)
{
    struct site *s = *state;
    struct loch_key mark = LOCH_TWOPHASE_FORGET_KEY;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    struct loch_view *view = NULL;
    loch_lsn until = 7;

    assert_ok(loch_timeline_put_value(t, &mark, 150, loch_slice_of("", 1)));
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_basebackup_forgotten_until(view, 149, &until));
    assert_true(until == LOCH_LSN_NONE);
    assert_ok(loch_basebackup_forgotten_until(view, 200, &until));
    assert_true(until == 150);
    assert_true(loch_view_layer_bytes(view) == 0);
    loch_view_destroy(view);
    loch_timeline_advance(t, 160, 150);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(t));
    assert_ok(loch_view_create(t, &view));
    assert_true(loch_view_layer_bytes(view) > 0);
    loch_view_destroy(view);
    loch_timeline_release(t);
}

static void test_backup_errors(void **state)
{
    loch_lsn end = 7;

    (void)state;
    assert_ok(backup(0, 0x10000A0, SIZE_MAX, &end));
    assert_true(end > 0x10000A0 && end < 0x10000A0 + 200);
    end = 7;
    assert_code(backup(0, 0x10000A8, SIZE_MAX, &end), LOCH_E_INVALID); /* control of another LSN */
    assert_code(backup(0, 0x10000A0, 1u << 20, &end),
                LOCH_E_UNAVAILABLE); /* the writer's failure */
    assert_code(backup(LOCH_KEY_AUX_FILE, 0x10000A0, SIZE_MAX, &end), LOCH_E_CORRUPT);
    assert_code(backup(LOCH_KEY_SLRU_PAGE, 0x10000A0, SIZE_MAX, &end), LOCH_E_CORRUPT);
    assert_code(backup(LOCH_KEY_REL_SIZE, 0x10000A0, SIZE_MAX, &end), LOCH_E_CORRUPT);
    assert_code(backup(LOCH_KEY_ORIGIN, 0x10000A0, SIZE_MAX, &end), LOCH_E_CORRUPT);
    assert_int_equal(end, 7);
}

/* ---- a relation where no tablespace is (any more) ---- */

static LOCH_STATUS one_relation(void *arg, const struct loch_key *first, const struct loch_key *end,
                                loch_lsn lsn, loch_view_scan_fn fn, void *fn_arg)
{
    static const uint8_t no_blocks[4];
    const struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 16400, .db = 5, .rel = 9};

    (void)arg;
    (void)end;
    if (first->kind != LOCH_KEY_REL_SIZE)
        return LOCH_OK;
    LOCH_TRY(fn(fn_arg, &key, loch_slice_of(no_blocks, 4), lsn));
    return fn(fn_arg, &key, loch_slice_of(no_blocks, 4), lsn);
}

struct dirs_seen {
    size_t count;
    char names[4][64];
};

/* The stream comes in pieces of any size; a header of a directory below pg_tblspc in one. */
static LOCH_STATUS note_dirs(void *arg, struct loch_slice bytes)
{
    struct dirs_seen *seen = arg;
    const uint8_t *at = bytes.data;

    while ((at = memmem(at, bytes.len - (size_t)(at - bytes.data), "pg_tblspc/1", 11)) != NULL) {
        assert_true(seen->count < 4);
        snprintf(seen->names[seen->count++], sizeof seen->names[0], "%s", (const char *)at);
        at += 11;
    }
    return LOCH_OK;
}

static void test_directories_without_tablespace(void **state)
{
    struct loch_control control = {.system_id = 1,
                                   .state = LOCH_DB_SHUTDOWNED,
                                   .checkpoint = {.tli = 1, .prev_tli = 1},
                                   .segment_bytes = 16u << 20,
                                   .last_start = 0x1000028,
                                   .last_end = 0x10000A0};
    struct loch_basebackup_source source = {no_page, one_relation, NULL};
    struct loch_basebackup_request request = {
        .lsn = control.last_end, .prev_lsn = control.last_start, .control = &control, .time = 1};
    struct dirs_seen seen = {0};
    loch_lsn end;

    (void)state;
    assert_ok(loch_basebackup_send(&source, &request, note_dirs, &seen, &end));
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.names[0], "pg_tblspc/16400/");
    assert_string_equal(seen.names[1], "pg_tblspc/16400/PG_15_202209061/");
    assert_string_equal(seen.names[2], "pg_tblspc/16400/PG_15_202209061/5/");
}

static void put_text(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_inspect_refuses(void **state)
{
    struct loch_import_facts facts;
    char dir[] = "/tmp/redo-inspect-XXXXXX", path[256];

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_code(loch_import_inspect(dir, &facts), LOCH_E_INVALID);
    put_text(dir, "PG_VERSION", "14\n");
    assert_code(loch_import_inspect(dir, &facts), LOCH_E_UNSUPPORTED);
    put_text(dir, "PG_VERSION", "15\n");
    put_text(dir, "backup_label", "");
    assert_code(loch_import_inspect(dir, &facts), LOCH_E_INVALID);
    snprintf(path, sizeof path, "%s/backup_label", dir);
    unlink(path);
    assert_code(loch_import_inspect(dir, &facts), LOCH_E_NOT_FOUND); /* no pg_control */
    snprintf(path, sizeof path, "%s/global", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    put_text(dir, "global/pg_control", "nonsense");
    assert_code(loch_import_inspect(dir, &facts), LOCH_E_CORRUPT);
    loch_import_remove_dir(dir);
    assert_int_not_equal(access(dir, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aux_round_trip),
        cmocka_unit_test(test_aux_refuses),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_backup_errors),
        cmocka_unit_test(test_directories_without_tablespace),
        cmocka_unit_test(test_inspect_refuses),
        cmocka_unit_test(test_prepared_at_branch_point),
        cmocka_unit_test_setup_teardown(test_mark_of_forgotten, site_up, site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
