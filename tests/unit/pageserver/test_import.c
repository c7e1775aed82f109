/* Import of a directory's relation files: how many blocks a fork has, what is read of it, and what
 * is refused. Directories that a server made: tests/e2e/import_export.sh. */
#include "store_fixture.h"

#include "import/data_dir.h"
#include "import/import.h"

#include "loch/pg/page.h"
#include "loch/pg/relmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB UINT64_C(1048576)
#define ALL IMPORT_SEGMENT_BYTES

/* ---- how many blocks ---- */

struct segments {
    const char *what;
    size_t count;
    uint64_t bytes[4];
    uint32_t numbers[4];
    bool joins;
    uint64_t blocks;
};

static void test_fork_size(void **state)
{
    static const struct segments cases[] = {
        {"empty", 1, {0}, {0}, true, 0},
        {"one", 1, {512 * MIB}, {0}, true, 65536},
        {"a full one", 1, {ALL}, {0}, true, 131072},
        {"two", 2, {ALL, 512 * MIB}, {0, 1}, true, 196608},
        /* truncated: mdtruncate leaves what it empties */
        {"half, then empty", 2, {512 * MIB, 0}, {0, 1}, true, 65536},
        {"one and a half, then empty", 3, {ALL, 512 * MIB, 0}, {0, 1, 2}, true, 196608},
        {"one, then empty", 3, {ALL, 0, 0}, {0, 1, 2}, true, 131072},
        {"all empty", 3, {0, 0, 0}, {0, 1, 2}, true, 0},
        {"one, and empty behind a gap", 2, {ALL, 0}, {0, 2}, true, 131072},
        {"something behind a half", 2, {512 * MIB, 8192}, {0, 1}, false, 0},
        {"something behind an empty", 3, {ALL, 0, 8192}, {0, 1, 2}, false, 0},
        {"something behind a gap", 2, {ALL, 8192}, {0, 2}, false, 0},
        {"no first one", 1, {8192}, {1}, false, 0},
        {"no first one, empty", 1, {0}, {1}, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct segments *c = &cases[i];
        struct import_fork_size fork = {0};
        bool joins = true;

        for (size_t k = 0; k < c->count; k++)
            joins = import_fork_size_add(&fork, c->numbers[k], c->bytes[k]) && joins;
        if (joins != c->joins || (joins && fork.bytes / LOCH_PAGE_BYTES != c->blocks))
            fail_msg("%s: %s, %llu blocks", c->what, joins ? "joins" : "does not join",
                     (unsigned long long)(fork.bytes / LOCH_PAGE_BYTES));
    }
}

/* ---- a directory of hardly anything ---- */

struct world {
    char dir[32];
    struct loch_import_facts facts;
    struct loch_import_stats stats;
    uint32_t size, pages; /* of relation 9 */
    uint16_t checksum;    /* of the last page that was put */
    const char *swap;     /* becomes a FIFO, or a link, when the relation's size is known */
    bool link;
};

static void path_of(const struct world *w, const char *name, char path[static 300])
{
    snprintf(path, 300, "%s/%s", w->dir, name);
}

static void put_bytes(const struct world *w, const char *name, const void *bytes, size_t len)
{
    char path[300];

    path_of(w, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* A file of `count` pages; with the checksums of blocks from `first` on, or without any. */
static void put_pages(const struct world *w, const char *name, uint32_t count, uint32_t first)
{
    uint8_t pages[4 * LOCH_PAGE_BYTES];

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *page = pages + (size_t)i * LOCH_PAGE_BYTES;
        loch_page_init(page, 0);
        memset(page + 4000, 'a' + (int)i, 100);
        if (w->facts.had_checksums)
            loch_page_set_checksum(page, loch_page_checksum_for(page, first + i));
    }
    put_bytes(w, name, pages, (size_t)count * LOCH_PAGE_BYTES);
}

static int world_up(void **state)
{
    static const char *const dirs[] = {"global",
                                       "base",
                                       "base/5",
                                       "pg_tblspc",
                                       "pg_xact",
                                       "pg_twophase",
                                       "pg_multixact",
                                       "pg_multixact/offsets",
                                       "pg_multixact/members",
                                       "pg_commit_ts"};
    struct world *w = calloc(1, sizeof *w);
    struct loch_relmap map = {0};
    uint8_t file[LOCH_RELMAP_BYTES];
    char path[300];

    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/import-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        path_of(w, dirs[i], path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    loch_relmap_format(&map, file);
    put_bytes(w, "global/pg_filenode.map", file, sizeof file);
    put_bytes(w, "base/5/pg_filenode.map", file, sizeof file);
    put_bytes(w, "PG_VERSION", "15\n", 3);
    w->facts.start_lsn = 0x10000A0;
    w->facts.control.last_end = 0x10000A0;
    *state = w;
    return 0;
}

static int world_down(void **state)
{
    struct world *w = *state;

    loch_import_remove_dir(w->dir);
    free(w);
    return 0;
}

static LOCH_STATUS take(void *arg, const struct loch_key *key, struct loch_slice value)
{
    struct world *w = arg;
    char path[300], to[300];

    if (key->rel != 9)
        return LOCH_OK;
    if (key->kind == LOCH_KEY_REL_SIZE) {
        w->size = loch_get_u32(value.data);
        if (w->swap != NULL) {
            path_of(w, w->swap, path);
            path_of(w, "PG_VERSION", to);
            assert_int_equal(unlink(path), 0);
            assert_int_equal(w->link ? symlink(to, path) : mkfifo(path, 0600), 0);
        }
    } else if (key->kind == LOCH_KEY_PAGE) {
        w->pages++;
        w->checksum = loch_page_checksum(value.data);
    }
    return LOCH_OK;
}

static loch_status import(struct world *w)
{
    w->pages = 0;
    w->size = UINT32_MAX;
    return loch_import_put(w->dir, &w->facts, take, w, &w->stats);
}

static void test_truncated(void **state)
{
    struct world *w = *state;

    put_pages(w, "base/5/9", 3, 0);
    put_bytes(w, "base/5/9.1", "", 0);
    put_bytes(w, "base/5/9.2", "", 0);
    assert_ok(import(w));
    assert_int_equal(w->size, 3);
    assert_int_equal(w->pages, 3);
    put_bytes(w, "base/5/9", "", 0);
    assert_ok(import(w));
    assert_int_equal(w->size, 0);
    assert_int_equal(w->pages, 0);
    put_pages(w, "base/5/9.2", 1, 262144);
    assert_code(import(w), LOCH_E_CORRUPT);
}

/* ---- checksums ---- */

static void flip(const struct world *w, const char *name, long at)
{
    char path[300];

    path_of(w, name, path);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    const int was = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(was ^ 1, f), was ^ 1);
    assert_int_equal(fclose(f), 0);
}

static void test_checksums(void **state)
{
    static const uint8_t zeros[2 * LOCH_PAGE_BYTES];
    struct world *w = *state;

    w->facts.had_checksums = true;
    put_pages(w, "base/5/9", 3, 0);
    put_bytes(w, "base/5/9_vm", zeros, sizeof zeros);
    assert_ok(import(w));
    assert_int_equal(w->pages, 3);
    assert_int_equal(w->checksum, 0);
    flip(w, "base/5/9", 2 * 8192 + 6000);
    assert_code(import(w), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "base/5/9: block 2 "));
    w->facts.had_checksums = false; /* nobody can tell */
    assert_ok(import(w));
    w->facts.had_checksums = true;
    put_pages(w, "base/5/9", 3, 1); /* each of them another block's */
    assert_code(import(w), LOCH_E_CORRUPT);
}

/* ---- changed later than the WAL ends ---- */

static void test_later(void **state)
{
    struct world *w = *state;
    uint8_t page[LOCH_PAGE_BYTES];

    loch_page_init(page, 0);
    w->facts.start_lsn = 0x2000;
    loch_page_set_lsn(page, 0x2000);
    put_bytes(w, "base/5/9", page, sizeof page);
    assert_ok(import(w));
    loch_page_set_lsn(page, 0x2008);
    put_bytes(w, "base/5/9", page, sizeof page);
    assert_code(import(w), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "base/5/9: block 0 was changed at 0/2008"));
}

/* ---- what is no file any more when it is opened ---- */

static void test_swapped(void **state)
{
    struct world *w = *state;

    alarm(60); /* a FIFO that is waited for */
    w->swap = "base/5/9";
    put_pages(w, "base/5/9", 3, 0);
    assert_code(import(w), LOCH_E_INVALID);
    char path[300];
    path_of(w, "base/5/9", path);
    assert_int_equal(unlink(path), 0);
    put_pages(w, "base/5/9", 3, 0);
    w->link = true;
    assert_code(import(w), LOCH_E_IO);
    assert_int_equal(w->pages, 0);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork_size),
        cmocka_unit_test_setup_teardown(test_truncated, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_checksums, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_later, world_up, world_down),
        cmocka_unit_test_setup_teardown(test_swapped, world_up, world_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
