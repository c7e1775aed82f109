/* Compaction and what goes wrong with it; that it keeps what is readable is tests/model's. */
#include "store_fixture.h"

#include "read/imager.h"
#include "store/compact.h"
#include "store/layer_build.h"
#include "store/layer_set.h"
#include "store/manifest.h"
#include "store/merge.h"
#include "store/retention.h"
#include "store/timeline_impl.h"

#include "loch/host/keys.h"
#include "loch/io/fault.h"
#include "loch/pg/page.h"
#include "loch/pg/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const struct loch_id none;

#define BLOCKS 40u

/* Flushes of pages whose bytes are not compressible: page n of round r is filled from (n, r). */
static void fill(uint8_t page[LOCH_PAGE_BYTES], uint32_t block, uint32_t round)
{
    uint64_t x = (uint64_t)block << 32 | (round + 1);
    loch_page_init(page, 0);
    for (size_t i = 24; i + 8 <= LOCH_PAGE_BYTES; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        loch_put_u64(page + i, x);
    }
}

static void put_round(struct loch_timeline *t, loch_lsn lsn, uint32_t round)
{
    uint8_t page[LOCH_PAGE_BYTES];
    for (uint32_t b = 0; b < BLOCKS; b++) {
        struct loch_key key = page_key(b);
        fill(page, b, round);
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    }
}

static struct loch_timeline *with_rounds(struct site *s, uint32_t rounds)
{
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    struct loch_key size = page_key(0);
    uint8_t bytes[4] = {BLOCKS};
    size.kind = LOCH_KEY_REL_SIZE;
    assert_ok(loch_timeline_put_value(t, &size, 1000, loch_slice_of(bytes, 4)));
    put_round(t, 1000, 0);
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("c", 1)));
    for (uint32_t r = 1; r <= rounds; r++) {
        put_round(t, 1000 + 100 * r, r);
        loch_timeline_advance(t, 1000 + 100 * r, 1000 + 100 * r - 50);
        assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
        assert_ok(loch_timeline_flush(t));
    }
    return t;
}

static void check_round(struct loch_timeline *t, loch_lsn lsn, uint32_t round)
{
    struct loch_view *view = NULL;
    struct loch_rel rel = {1663, 5, 100};
    uint8_t ours[LOCH_PAGE_BYTES], theirs[LOCH_PAGE_BYTES];
    assert_ok(loch_view_create(t, &view));
    for (uint32_t b = 0; b < BLOCKS; b++) {
        assert_ok(loch_view_page(view, &rel, 0, b, lsn, ours));
        fill(theirs, b, round);
        assert_memory_equal(ours, theirs, LOCH_PAGE_BYTES);
    }
    loch_view_destroy(view);
}

static const struct loch_compaction plain = {
    .settings = {.fan_in = 3, .band_bytes = 1u << 20, .base_percent = 50}, .file_bytes = 100000};

static size_t files_on_disk(struct site *s, const struct loch_timeline *t)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    const struct loch_timeline_info *info = loch_timeline_info(t);
    size_t n = 0;
    assert_ok(loch_timeline_dir(&s->store, &info->tenant, &info->timeline, dir));
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strstr(e->d_name, ".layer") != NULL;
    closedir(d);
    return n;
}

static struct loch_layers_summary summary(struct loch_timeline *t)
{
    struct loch_layers_summary sum;
    loch_timeline_summary(t, &sum);
    return sum;
}

static void bands_are_merged_and_partitioned(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 5);
    struct loch_compaction_stats stats = {0};
    bool done = false;
    assert_int_equal(summary(t).layers, 6);
    assert_int_equal(loch_timeline_backlog(t, &plain.settings), 6);
    assert_ok(loch_timeline_compact(t, &plain, &done, &stats));
    assert_true(done);
    assert_int_equal(stats.files_read, 6);
    assert_int_equal(stats.dropped_bytes, 0); /* all of history is kept */
    struct loch_layers_summary sum = summary(t);
    assert_int_equal(sum.bands, 1);
    assert_true(sum.layers > 10); /* 240 pages, at most 100 kB a file */
    assert_int_equal(sum.layers, stats.files_written);
    assert_int_equal(files_on_disk(s, t), sum.layers);
    for (uint32_t r = 0; r <= 5; r++)
        check_round(t, 1000 + 100 * r, r);
    assert_ok(loch_timeline_compact(t, &plain, &done, &stats));
    assert_false(done);
    assert_int_equal(loch_timeline_backlog(t, &plain.settings), 0);
    t = site_reopen(s, t, NULL);
    assert_int_equal(summary(t).layers, sum.layers);
    for (uint32_t r = 0; r <= 5; r++)
        check_round(t, 1000 + 100 * r, r);
    loch_timeline_release(t);
}

/* After a rotation of the timeline keys: a band at a time, over restarts, until nothing is left. */
static void what_lies_under_a_retired_key_is_written_anew(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 3);
    struct loch_compaction calm = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_rotation_report report;
    bool done = false;

    calm.settings.fan_in = 100; /* nothing to merge for another reason */
    assert_int_equal(summary(t).bands, 4);
    assert_int_equal(summary(t).old_layers, 0);
    assert_ok(loch_timeline_compact(t, &calm, &done, &stats));
    assert_false(done);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_TK, &report));
    assert_int_equal(summary(t).old_layers, 4);
    assert_int_equal(summary(t).old_bytes, summary(t).file_bytes);
    for (size_t left = 4; left > 0; left--) {
        assert_int_equal(loch_timeline_backlog(t, &calm.settings), 1);
        assert_ok(loch_timeline_compact(t, &calm, &done, &stats));
        assert_true(done);
        assert_int_equal(stats.files_read, 1);
        assert_int_equal(stats.dropped_bytes, 0);
        t = site_reopen(s, t, NULL); /* it goes on where it was */
        assert_true(summary(t).old_bytes < summary(t).file_bytes);
    }
    assert_int_equal(summary(t).old_layers, 0);
    assert_int_equal(summary(t).old_bytes, 0);
    assert_int_equal(summary(t).bands, 4);
    assert_int_equal(loch_timeline_backlog(t, &calm.settings), 0);
    for (uint32_t r = 0; r <= 3; r++)
        check_round(t, 1000 + 100 * r, r);
    loch_timeline_release(t);
}

static void a_history_that_is_too_long_is_not_loaded(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 3);
    struct loch_compaction limited = plain;
    struct loch_compaction_stats stats = {0};
    bool done = false;
    limited.everything = true;
    limited.key_bytes = 3 * LOCH_FRAME_TARGET_BYTES; /* a page has a frame in each of four bands */
    assert_code(loch_timeline_compact(t, &limited, &done, &stats), LOCH_E_LIMIT);
    assert_false(done);
    assert_non_null(strstr(loch_error_text(), "1663/5/100 fork 0 block 0"));
    assert_int_equal(files_on_disk(s, t), 4);
    limited.key_bytes = 1u << 20;
    assert_ok(loch_timeline_compact(t, &limited, &done, &stats));
    assert_true(done);
    check_round(t, 1300, 3);
    loch_timeline_release(t);
}

static void a_view_outlives_the_files_it_shows(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 4);
    struct loch_compaction all = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_view *view = NULL;
    struct loch_rel rel = {1663, 5, 100};
    uint8_t ours[LOCH_PAGE_BYTES], theirs[LOCH_PAGE_BYTES];
    bool done = false;
    all.everything = true;
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    assert_true(done);
    loch_page_cache_drop(s->cache, &s->tenant, &loch_timeline_info(t)->timeline);
    assert_ok(loch_view_page(view, &rel, 0, 7, 1200, ours));
    fill(theirs, 7, 2);
    assert_memory_equal(ours, theirs, LOCH_PAGE_BYTES);
    loch_view_destroy(view);
    loch_timeline_release(t);
}

/* Whatever operation fails: what is there is what was there, now and after a restart. */
static void any_failed_operation_leaves_all_in_place(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 3);
    struct loch_compaction all = plain;
    bool done = false;
    all.everything = true;
    for (uint64_t n = 1; !done; n++) {
        struct loch_compaction_stats stats = {0};
        loch_io_fault_set(n, EIO);
        loch_status st = loch_timeline_compact(t, &all, &done, &stats);
        loch_io_fault_set(0, 0);
        assert_true(loch_is_ok(st) || st.code == LOCH_E_IO || st.code == LOCH_E_STALE);
        if (st.code == LOCH_E_IO && t->doubtful_count == 0)
            assert_int_equal(files_on_disk(s, t), summary(t).layers);
        for (uint32_t r = 0; r <= 3; r++)
            check_round(t, 1000 + 100 * r, r);
        t = site_reopen(s, t, NULL);
        assert_int_equal(files_on_disk(s, t), summary(t).layers);
        for (uint32_t r = 0; r <= 3; r++)
            check_round(t, 1000 + 100 * r, r);
        assert_true(n < 400);
    }
    loch_timeline_release(t);
}

static loch_status stop_at_once(void *arg)
{
    unsigned *left = arg;
    return --*left > 0 ? LOCH_OK : LOCH_FAIL(LOCH_E_UNAVAILABLE, "stop");
}

static void a_stopped_merge_leaves_nothing(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 3);
    struct loch_compaction all = plain;
    struct loch_compaction_stats stats = {0};
    unsigned left = 30;
    bool done = true;
    all.everything = true;
    all.pace = stop_at_once;
    all.arg = &left;
    assert_code(loch_timeline_compact(t, &all, &done, &stats), LOCH_E_UNAVAILABLE);
    assert_false(done);
    assert_int_equal(files_on_disk(s, t), 4);
    check_round(t, 1300, 3);
    loch_timeline_release(t);
}

/* A byte in the middle of the file. */
static const struct loch_layer_desc *damage(struct site *s, const struct loch_timeline *t,
                                            const struct loch_layer *layer)
{
    const struct loch_layer_desc *d = loch_layer_desc(layer);
    char path[LOCH_LAYER_PATH_BYTES];
    uint8_t byte = 0;
    assert_ok(loch_layer_path(&s->store, loch_timeline_info(t), d, path));
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)d->file_bytes / 2), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)d->file_bytes / 2), 1);
    close(fd);
    return d;
}

static void a_corrupt_block_stops_the_merge_and_is_named(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 3), *other = with_rounds(s, 3);
    struct loch_compaction_stats stats = {0};
    char id[LOCH_ID_TEXT_BYTES];
    loch_lsn last = 0;
    bool done = false;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    const struct loch_layer_desc *d = damage(s, t, set->files[1]);
    assert_code(loch_timeline_compact(t, &plain, &done, &stats), LOCH_E_CORRUPT);
    assert_false(done);
    assert_non_null(strstr(loch_error_text(), loch_id_format(&d->file_id, id)));
    assert_non_null(strstr(loch_error_text(), ", block "));
    assert_int_equal(files_on_disk(s, t), 4);                       /* nothing was replaced */
    assert_ok(loch_timeline_compact(other, &plain, &done, &stats)); /* others go on */
    assert_true(done);
    check_round(other, 1300, 3);
    loch_layer_set_release(set);
    loch_timeline_release(t);
    loch_timeline_release(other);
}

static void put_op(struct loch_timeline *t, loch_lsn lsn)
{
    struct loch_key key = page_key(0);
    uint8_t op[6] = {LOCH_VM_SET, 0, 0, 0, 0, 3};
    assert_ok(loch_timeline_put_op(t, &key, lsn, loch_slice_of(op, sizeof op)));
}

/* A branch's first layer has one LSN: a merge with it begins one below the branch point. */
static void chains_are_counted_across_the_branch_point(void **state)
{
    struct site *s = *state;
    struct loch_timeline *parent = site_timeline(s, 1000, NULL);
    struct loch_compaction all = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_chain chain = {0};
    struct loch_key key = page_key(0);
    loch_lsn last = 0;
    bool done = false;
    s->store.image_records_max = 32;
    s->store.image_bytes_max = 1000;
    put_op(parent, 1000);
    assert_ok(loch_timeline_commit(parent, 900, loch_slice_of("c", 1)));
    struct loch_timeline *t = site_timeline(s, 1000, parent);
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("c", 1)));
    put_op(t, 1100);
    loch_timeline_advance(t, 1100, 1050);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(t));
    all.everything = true;
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    assert_int_equal(set->file_count, 1);
    assert_true(loch_layer_chain(set->files[0], &key, &chain));
    assert_int_equal(chain.records, 2);
    loch_layer_set_release(set);
    loch_timeline_release(t);
    loch_timeline_release(parent);
}

/* The chain of page 0 as the layers' indexes tell it. */
static uint32_t chain_now(struct loch_timeline *t, size_t *files)
{
    struct loch_chain chain = {0};
    struct loch_key key = page_key(0);
    loch_lsn last = 0;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    bool found = false;
    for (size_t i = 0; i < set->file_count && !found; i++)
        found = loch_layer_chain(set->files[i], &key, &chain);
    assert_true(found);
    *files = set->file_count;
    loch_layer_set_release(set);
    return chain.records;
}

static void put_ops(struct loch_timeline *t, loch_lsn from, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        put_op(t, from + i);
        loch_timeline_advance(t, from + i, from + i - 1);
    }
    assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(t));
}

static void idle_time_makes_images_once(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    struct loch_compaction idle = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_key key = page_key(0);
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    size_t files = 0;
    bool done = false;
    s->store.image_records_max = 32;
    s->store.image_bytes_max = 16u << 10;
    idle.settings.fan_in = 100;
    assert_ok(loch_timeline_put_value(t, &key, 1000, loch_slice_of(page, sizeof page)));
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("c", 1)));
    put_ops(t, 2000, 5);
    put_ops(t, 3000, 5);
    assert_int_equal(chain_now(t, &files), 10);
    assert_int_equal(files, 3);
    assert_ok(loch_timeline_compact(t, &idle, &done, &stats)); /* not idle: nothing to do */
    assert_false(done);
    assert_true(loch_timeline_idle_backlog(t, 4, 1u << 20) > 0);
    assert_int_equal(loch_timeline_idle_backlog(t, 10, 1u << 20), 0);
    assert_int_equal(loch_timeline_idle_backlog(t, 4, 1), 0); /* more than may be read */
    idle.idle_records = 4;
    idle.idle_bytes = 1u << 20;
    assert_ok(loch_timeline_compact(t, &idle, &done, &stats));
    assert_true(done);
    assert_int_equal(stats.idle_images, 1);
    assert_int_equal(chain_now(t, &files), 0);
    assert_int_equal(loch_timeline_idle_backlog(t, 4, 1u << 20), 0);
    assert_ok(loch_timeline_compact(t, &idle, &done, &stats));
    assert_false(done); /* once, and then nothing */
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_idle_backlog(t, 4, 1u << 20), 0);

    put_ops(t, 4000, 3); /* within the bound */
    assert_int_equal(chain_now(t, &files), 3);
    assert_int_equal(loch_timeline_idle_backlog(t, 4, 1u << 20), 0);
    put_ops(t, 5000, 3); /* together not: the older layers' part is counted */
    assert_int_equal(chain_now(t, &files), 6);
    assert_int_equal(loch_timeline_idle_backlog(t, 4, 1u << 20), 1); /* the newest band alone */
    stats = (struct loch_compaction_stats){0};
    assert_ok(loch_timeline_compact(t, &idle, &done, &stats));
    assert_true(done);
    assert_int_equal(stats.files_read, 1);
    assert_int_equal(chain_now(t, &files), 0);
    loch_timeline_release(t);
}

/* The bound on chains is not worth that ingest stops. */
static void a_corrupt_ancestor_stops_no_ingest(void **state)
{
    struct site *s = *state;
    loch_lsn last = 0;
    s->store.image_records_max = 2;
    s->store.image_bytes_max = 1000;
    struct loch_timeline *parent = with_rounds(s, 1);
    struct loch_layer_set *set = loch_timeline_layers(parent, &last);
    (void)damage(s, parent, set->files[0]);
    loch_layer_set_release(set);
    parent = site_reopen(s, parent, NULL);
    struct loch_timeline *t = site_timeline(s, 1100, parent);
    assert_ok(loch_timeline_commit(t, 1050, loch_slice_of("c", 1)));
    for (loch_lsn lsn = 1200; lsn <= 1500; lsn += 100) {
        for (uint32_t b = 0; b < BLOCKS; b++) {
            struct loch_key key = page_key(b);
            uint8_t op[6] = {LOCH_VM_SET, 0, 0, 0, 0, 3};
            loch_put_u32(op + 1, b * LOCH_VM_HEAP_BLOCKS_PER_PAGE);
            assert_ok(loch_timeline_put_op(t, &key, lsn, loch_slice_of(op, sizeof op)));
        }
        loch_timeline_advance(t, lsn, lsn - 50);
    }
    assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(t));
    loch_timeline_release(t);
    loch_timeline_release(parent);
}

/* An image made without what the ancestor has not ingested again would lack it for good. */
static void nothing_is_merged_before_ancestors_are_back(void **state)
{
    struct site *s = *state;
    struct loch_timeline *parent = site_timeline(s, 1000, NULL);
    struct loch_compaction idle = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_key key = page_key(0);
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    bool done = false;
    s->store.image_records_max = 32;
    s->store.image_bytes_max = 16u << 10;
    idle.settings.fan_in = 100;
    idle.idle_records = 4;
    idle.idle_bytes = 1u << 20;
    assert_ok(loch_timeline_put_value(parent, &key, 1000, loch_slice_of(page, sizeof page)));
    assert_ok(loch_timeline_commit(parent, 900, loch_slice_of("c", 1)));
    put_op(parent, 1100);
    loch_timeline_advance(parent, 1100, 1000); /* in memory only */
    struct loch_timeline *t = site_timeline(s, 1100, parent);
    const struct loch_id id = loch_timeline_info(t)->timeline;
    assert_ok(loch_timeline_commit(t, 1000, loch_slice_of("c", 1)));
    put_ops(t, 2000, 8);
    loch_timeline_release(t);
    parent = site_reopen(s, parent, NULL);
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, parent, &t));
    const size_t files = files_on_disk(s, t);
    assert_true(loch_timeline_idle_backlog(t, idle.idle_records, idle.idle_bytes) > 0);
    assert_code(loch_timeline_compact(t, &idle, &done, &stats), LOCH_E_UNAVAILABLE);
    idle.everything = true;
    assert_code(loch_timeline_compact(t, &idle, &done, &stats), LOCH_E_UNAVAILABLE);
    idle.everything = false;
    assert_false(done);
    assert_int_equal(files_on_disk(s, t), files);
    put_op(parent, 1100);
    loch_timeline_advance(parent, 1100, 1000);
    assert_ok(loch_timeline_compact(t, &idle, &done, &stats));
    assert_true(done);
    assert_int_equal(stats.idle_images, 1);
    loch_timeline_release(t);
    loch_timeline_release(parent);
}

static void what_is_past_goes_and_held_lsns_stay(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_rounds(s, 5);
    const struct loch_pitr_window none = {0, 0};
    struct loch_compaction all = plain;
    struct loch_compaction_stats stats = {0};
    struct loch_manifest m = {0};
    struct loch_etag etag = {0};
    struct loch_id id = loch_timeline_info(t)->timeline;
    struct loch_hold *hold = NULL;
    bool moved = false, done = false;
    all.everything = true;
    assert_ok(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &m, &etag));
    m.marks[m.mark_count++] = (struct loch_lsn_mark){1500, m.marks[0].wall_us + 1};
    m.generation++;
    assert_ok(loch_manifest_put(&s->store, s->keys, &m, &etag));
    loch_manifest_fini(&m);
    s->store.lease_max_ms = 1;
    t = site_reopen(s, t, NULL);
    assert_ok(loch_timeline_hold(t, 1250, &hold));
    assert_true(loch_timeline_cutoff_waits(t, &none, INT64_MAX / 2)); /* settled or not */
    while (!loch_timeline_leases_settled(t))                          /* a millisecond */
        ;
    assert_true(loch_timeline_cutoff_due(t, &none, INT64_MAX / 2));
    assert_ok(loch_timeline_advance_cutoff(t, &none, INT64_MAX / 2, NULL, 0, &moved));
    assert_true(moved);
    assert_false(loch_timeline_cutoff_due(t, &none, INT64_MAX / 2));
    assert_false(loch_timeline_cutoff_waits(t, &none, INT64_MAX / 2));
    uint64_t before = summary(t).file_bytes;
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    assert_true(done && stats.dropped_bytes >= 4u * BLOCKS * LOCH_PAGE_BYTES);
    assert_true(summary(t).file_bytes < before / 2);
    assert_true(summary(t).weight.held >= (uint64_t)BLOCKS * LOCH_PAGE_BYTES);
    assert_int_equal(summary(t).weight.past, 0);
    check_round(t, 1500, 5);
    check_round(t, 1250, 2);
    loch_hold_release(hold);
    assert_ok(loch_timeline_advance_cutoff(t, &none, INT64_MAX / 2, NULL, 0, &moved));
    assert_true(moved);
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    assert_int_equal(summary(t).weight.held, 0);
    check_round(t, 1500, 5);
    loch_timeline_release(t);
}

/* ---- what a merge asks about many points ---- */

#define POINTS 1000u

static unsigned floors, paces;
static LOCH_STATUS (*floor_of)(void *arg, const struct loch_key *key, loch_lsn lsn,
                               loch_lsn *floor);

static loch_status counted_floor(void *arg, const struct loch_key *key, loch_lsn lsn,
                                 loch_lsn *floor)
{
    floors++;
    return floor_of(arg, key, lsn, floor);
}

static loch_status counted_pace(void *arg)
{
    (void)arg;
    paces++;
    return LOCH_OK;
}

/* Merges everything; every LSN in [first, first + POINTS) is held below the cutoff. */
static struct loch_compaction_stats merge_under_points(struct loch_timeline *t, loch_lsn first,
                                                       loch_lsn cutoff)
{
    loch_lsn points[POINTS], last = LOCH_LSN_NONE;
    struct loch_compaction all = plain;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    struct loch_view *view = NULL;
    struct loch_imager imager;
    for (size_t i = 0; i < POINTS; i++)
        points[i] = first + i;
    assert_ok(loch_view_create(t, &view));
    loch_imager_init(&imager, view, LOCH_IMAGE_RECORDS_MAX, LOCH_IMAGE_BYTES_MAX);
    floor_of = imager.floor;
    imager.floor = counted_floor;
    floors = paces = 0;
    all.pace = counted_pace;
    struct loch_merge m = {.timeline = t,
                           .compaction = &all,
                           .set = set,
                           .plan = {0, set->band_count},
                           .retention = {cutoff, points, POINTS},
                           .imager = &imager};
    assert_ok(loch_merge_run(&m));
    loch_merge_fini(&m);
    loch_view_destroy(view);
    loch_layer_set_release(set);
    return m.stats;
}

static void a_merge_asks_once_between_two_versions(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    struct loch_key key = {.kind = LOCH_KEY_RELMAP, .spc = 1663, .db = 5};
    assert_ok(loch_timeline_put_value(t, &key, 1000, loch_slice_of("a", 1)));
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("c", 1)));
    struct loch_compaction_stats stats = merge_under_points(t, 1001, 9000);
    assert_int_equal(floors, 4); /* the control snapshot's key has one version too */
    assert_int_equal(stats.dropped_bytes, 0);
    const loch_lsn lsns[] = {1100, 1100 + POINTS / 2, 5000, 6000}; /* points read the first two */
    for (size_t i = 0; i < 4; i++)
        assert_ok(loch_timeline_put_value(t, &key, lsns[i], loch_slice_of("bcde" + i, 1)));
    loch_timeline_advance(t, 6000, 5000);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(t));
    stats = merge_under_points(t, 1100, 9000);
    assert_int_equal(floors, 3 + 2);
    assert_true(paces > floors); /* within a key's history too */
    const struct loch_version gone = {.bytes = loch_slice_of("a", 1)};
    assert_int_equal(stats.dropped_bytes, 2 * loch_layer_version_bytes(&gone)); /* 1000, 5000 */
    loch_timeline_release(t);
}

#define WITH_SITE(name_) cmocka_unit_test_setup_teardown(name_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(bands_are_merged_and_partitioned),
        WITH_SITE(what_lies_under_a_retired_key_is_written_anew),
        WITH_SITE(a_history_that_is_too_long_is_not_loaded),
        WITH_SITE(a_view_outlives_the_files_it_shows),
        WITH_SITE(any_failed_operation_leaves_all_in_place),
        WITH_SITE(a_stopped_merge_leaves_nothing),
        WITH_SITE(a_corrupt_block_stops_the_merge_and_is_named),
        WITH_SITE(chains_are_counted_across_the_branch_point),
        WITH_SITE(a_corrupt_ancestor_stops_no_ingest),
        WITH_SITE(idle_time_makes_images_once),
        WITH_SITE(nothing_is_merged_before_ancestors_are_back),
        WITH_SITE(what_is_past_goes_and_held_lsns_stay),
        WITH_SITE(a_merge_asks_once_between_two_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
