/* What a flush writes: how it is compressed, and into how many files. */
#include "store_fixture.h"

#include "store/layer.h"
#include "store/layer_set.h"
#include "store/pushdown.h"

#include "loch/format/place.h"
#include "loch/io/fault.h"
#include "loch/pg/page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define PAGES 100u

/* Every page of `rel` as of `lsn`, marked with it, in the open layer. */
static void put_pages(struct loch_timeline *t, loch_lsn lsn)
{
    uint8_t page[LOCH_PAGE_BYTES], size[4] = {PAGES, 0, 0, 0};
    struct loch_key key = page_key(0);
    loch_page_init(page, 0);
    for (uint32_t i = 0; i < PAGES; i++) {
        memset(page + 24, (int)(i + lsn), LOCH_PAGE_BYTES - 24);
        key = page_key(i);
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    }
    key = page_key(0);
    key.kind = LOCH_KEY_REL_SIZE;
    assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(size, 4)));
}

static void flush_at(struct loch_timeline *t, loch_lsn lsn)
{
    put_pages(t, lsn);
    loch_timeline_advance(t, lsn, lsn - 50);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
    assert_ok(loch_timeline_flush(t));
}

static void assert_pages(struct loch_timeline *t, loch_lsn lsn)
{
    struct loch_view *view = NULL;
    struct loch_rel rel = {1663, 5, 100};
    uint8_t page[LOCH_PAGE_BYTES];
    assert_ok(loch_view_create(t, &view));
    for (uint32_t i = 0; i < PAGES; i++) {
        assert_ok(loch_view_page(view, &rel, 0, i, lsn, page));
        assert_int_equal(page[5000], (uint8_t)(i + lsn));
    }
    loch_view_destroy(view);
}

/* How many of the timeline's layer files have the codec. */
static unsigned files_of(struct site *s, const struct loch_timeline *t, uint8_t codec)
{
    const struct loch_timeline_info *info = loch_timeline_info(t);
    char dir[LOCH_LAYER_PATH_BYTES], path[LOCH_LAYER_PATH_BYTES + 256];
    unsigned n = 0;
    assert_ok(loch_timeline_dir(&s->store, &info->tenant, &info->timeline, dir));
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        uint8_t head[LOCH_FILE_HEADER_BYTES];
        struct loch_file_peek peek;
        if (strstr(e->d_name, ".layer") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, head, sizeof head), sizeof head);
        close(fd);
        assert_ok(loch_file_peek(loch_slice_of(head, sizeof head), &peek));
        n += peek.codec == codec;
    }
    closedir(d);
    return n;
}

/* The setting is that of new layers; old ones are read as they are. */
static void layers_of_both_codecs(void **state)
{
    struct site *s = *state;
    s->store.zstd = true;
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    put_pages(t, 1000);
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("control", 7)));
    assert_int_equal(files_of(s, t, 1), 1);
    s->store.zstd = false;
    t = site_reopen(s, t, NULL);
    assert_pages(t, 1000);
    flush_at(t, 2000);
    assert_int_equal(files_of(s, t, 1), 1);
    assert_int_equal(files_of(s, t, 2), 1);
    t = site_reopen(s, t, NULL);
    assert_pages(t, 1000);
    assert_pages(t, 2000);
    loch_timeline_release(t);
}

static void assert_band(struct loch_timeline *t, size_t band, size_t files)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    const struct loch_band *b = &set->bands[band];
    assert_int_equal(b->count, files);
    for (size_t i = b->first + 1; i < b->first + files; i++)
        assert_true(loch_key_compare(&loch_layer_desc(set->files[i - 1])->span.last,
                                     &loch_layer_desc(set->files[i])->span.first) < 0);
    loch_layer_set_release(set);
}

/* Files of like size, one band, with threads and without; small ones stay whole. */
static void a_flush_as_several_files(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < 2; i++) {
        s->store.one_thread = i == 1;
        s->store.flush_parts = 3;
        s->store.flush_part_bytes = PAGES * LOCH_PAGE_BYTES / 3;
        struct loch_timeline *t = site_timeline(s, 1000, NULL);
        put_pages(t, 1000);
        assert_ok(loch_timeline_commit(t, 900, loch_slice_of("control", 7)));
        assert_int_equal(files_of(s, t, 2), 3);
        flush_at(t, 2000);
        assert_int_equal(files_of(s, t, 2), 6);
        for (int again = 0; again < 2; again++) {
            assert_band(t, 0, 3);
            assert_band(t, 1, 3);
            assert_pages(t, 1000);
            assert_pages(t, 2000);
            if (again == 0)
                t = site_reopen(s, t, NULL);
        }
        loch_timeline_release(t);
        s->store.flush_part_bytes = 0;
        t = site_timeline(s, 1000, NULL);
        put_pages(t, 1000);
        assert_ok(loch_timeline_commit(t, 900, loch_slice_of("control", 7)));
        assert_int_equal(files_of(s, t, 2), 1);
        loch_timeline_release(t);
    }
}

/* The n-th operation fails, for every n: the flush says so and comes again; what it leaves is one
 * flush's files at the most, which is what a manifest names that could not be put. */
static void a_flush_whose_parts_fail(void **state)
{
    struct site *s = *state;
    s->store.flush_parts = 3;
    s->store.flush_part_bytes = PAGES * LOCH_PAGE_BYTES / 3;
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    put_pages(t, 1000);
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("control", 7)));
    put_pages(t, 2000);
    loch_timeline_advance(t, 2000, 1900);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
    unsigned failures = 0, alone = 0, before = 3;
    for (uint64_t n = 1;; n++) {
        loch_io_fault_set(n, EIO);
        const loch_status st = loch_timeline_flush(t);
        loch_io_fault_set(0, 0);
        const unsigned now = files_of(s, t, 2);
        assert_true(now == before || now == before + 3);
        assert_pages(t, 2000);
        if (loch_is_ok(st))
            break;
        assert_int_equal(st.code, LOCH_E_IO);
        assert_true(strlen(loch_error_text()) > 0);
        failures++;
        alone += now == before;
        before = now;
    }
    assert_true(alone >= 9); /* three files: made, written, synced */
    assert_true(failures > alone);
    t = site_reopen(s, t, NULL);
    assert_int_equal(files_of(s, t, 2), 6); /* what nobody names is swept */
    assert_pages(t, 1000);
    assert_pages(t, 2000);
    loch_timeline_release(t);
}

/* Makes no image. The first part stands still at its second page, which the first thread comes to,
 * until the other thread comes to a page of that part; and the other waits for it to come there. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool first_there;
    uint32_t least_by_other; /* page */
    struct timespec until;
};

static loch_status below_first(void *arg, const struct loch_key *key, loch_lsn lsn,
                               struct loch_chain *out)
{
    struct gate *gate = arg;
    (void)lsn;
    *out = (struct loch_chain){0};
    int rc = 0;
    pthread_mutex_lock(&gate->lock);
    gate->first_there = gate->first_there || key->block == 1;
    pthread_cond_signal(&gate->moved);
    while (key->block == 1 && gate->least_by_other >= PAGES / 2 && rc == 0)
        rc = pthread_cond_timedwait(&gate->moved, &gate->lock, &gate->until);
    pthread_mutex_unlock(&gate->lock);
    return LOCH_OK;
}

static loch_status below_other(void *arg, const struct loch_key *key, loch_lsn lsn,
                               struct loch_chain *out)
{
    struct gate *gate = arg;
    (void)lsn;
    *out = (struct loch_chain){0};
    int rc = 0;
    pthread_mutex_lock(&gate->lock);
    while (!gate->first_there && rc == 0)
        rc = pthread_cond_timedwait(&gate->moved, &gate->lock, &gate->until);
    if (key->block < gate->least_by_other)
        gate->least_by_other = key->block;
    pthread_cond_signal(&gate->moved);
    pthread_mutex_unlock(&gate->lock);
    return LOCH_OK;
}

/* A record for each page, frozen. */
static struct loch_mem_layer *records_of_all_pages(void)
{
    struct loch_mem_layer *mem = NULL;
    assert_ok(loch_mem_layer_create(100, &mem));
    for (uint32_t i = 0; i < PAGES; i++) {
        const struct loch_key key = page_key(i);
        const struct loch_version v = {
            .lsn = 200, .kind = LOCH_VERSION_RECORD, .bytes = loch_slice_of("record", 6)};
        assert_ok(loch_mem_layer_put(mem, &key, NULL, 1, &v));
    }
    loch_mem_layer_freeze(mem, 300);
    return mem;
}

/* ms: after which the gate opens by itself. */
static loch_status write_divided(struct site *s, const struct loch_timeline *t,
                                 struct loch_mem_layer *mem, uint32_t ms, struct gate *gate,
                                 struct loch_layer_desc *descs, size_t *count)
{
    *gate = (struct gate){.lock = PTHREAD_MUTEX_INITIALIZER,
                          .moved = PTHREAD_COND_INITIALIZER,
                          .least_by_other = PAGES};
    const struct loch_imager imagers[2] = {
        {.arg = gate, .records_max = 32, .bytes_max = 1 << 20, .below = below_first},
        {.arg = gate, .records_max = 32, .bytes_max = 1 << 20, .below = below_other}};
    clock_gettime(CLOCK_REALTIME, &gate->until);
    const uint64_t until = (uint64_t)gate->until.tv_nsec + UINT64_C(1000000) * ms;
    gate->until.tv_sec += (time_t)(until / 1000000000);
    gate->until.tv_nsec = (long)(until % 1000000000);
    return loch_layer_write_parts(&s->store, s->keys, loch_timeline_info(t), mem, imagers, 2, descs,
                                  count);
}

/* A thread that is done takes over what another has not come to: one more file, in its place. */
static void a_part_that_takes_long_is_divided(void **state)
{
    struct site *s = *state;
    struct gate gate;
    struct loch_layer_desc descs[LOCH_FLUSH_PARTS_MAX];
    size_t count = 0;
    uint32_t keys = 0;
    s->store.flush_parts = 2;
    s->store.flush_part_bytes = 1;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    struct loch_mem_layer *mem = records_of_all_pages();
    assert_ok(write_divided(s, t, mem, 60000, &gate, descs, &count));
    assert_true(gate.least_by_other > 1);
    assert_true(gate.least_by_other < PAGES / 2);
    assert_in_range(count, 3, 4);
    for (size_t i = 0; i < count; i++) {
        keys += descs[i].keys;
        if (i > 0)
            assert_int_equal(descs[i].span.first.block, descs[i - 1].span.last.block + 1);
    }
    assert_int_equal(keys, PAGES);
    assert_int_equal(descs[0].span.first.block, 0);
    loch_mem_layer_release(mem);
    loch_timeline_release(t);
}

/* Whichever part fails, of those to begin with or of those made later: no file stays. The gate
 * opens by itself where the other thread's part failed, and takes no more. */
static void a_part_that_fails_takes_the_divided_with_it(void **state)
{
    struct site *s = *state;
    struct gate gate;
    struct loch_layer_desc descs[LOCH_FLUSH_PARTS_MAX];
    size_t count = 0;
    unsigned divided = 0, failures = 0;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    put_pages(t, 100);
    assert_ok(loch_timeline_commit(t, 90, loch_slice_of("control", 7)));
    s->store.flush_parts = 2;
    s->store.flush_part_bytes = 1;
    struct loch_mem_layer *mem = records_of_all_pages();
    for (uint64_t n = 1;; n++) {
        loch_io_fault_set(n, EIO);
        const loch_status st = write_divided(s, t, mem, 100, &gate, descs, &count);
        loch_io_fault_set(0, 0);
        divided += gate.least_by_other < PAGES / 2;
        if (loch_is_ok(st))
            break;
        assert_int_equal(st.code, LOCH_E_IO);
        failures++;
        assert_int_equal(files_of(s, t, 2), 1);
    }
    assert_true(failures >= 6);
    assert_true(divided >= 1);
    assert_int_equal(files_of(s, t, 2), 1 + count);
    loch_mem_layer_release(mem);
    loch_timeline_release(t);
}

static void keys_are_divided(void **state)
{
    struct loch_mem_layer *mem = NULL;
    struct loch_mem_scan *scan = NULL;
    size_t ends[8];
    char text[1000];
    (void)state;
    memset(text, 'x', sizeof text);
    assert_ok(loch_mem_layer_create(1, &mem));
    for (uint32_t i = 0; i < 100; i++) {
        const struct loch_key key = page_key(i);
        struct loch_version v = {.lsn = 2 + i,
                                 .kind = LOCH_VERSION_VALUE,
                                 .bytes = loch_slice_of(text, i == 50 ? 1000 : 1)};
        for (int again = 0; again < (i == 70 ? 300 : 1); again++)
            assert_ok(loch_mem_layer_put(mem, &key, NULL, 1, &v));
    }
    loch_mem_layer_freeze(mem, 1000);
    assert_ok(loch_mem_scan_create(mem, &scan));
    assert_int_equal(loch_mem_scan_divide(scan, 1, ends), 1);
    assert_int_equal(ends[0], 100);
    /* one key has more than half: it ends a part, and what is behind it is one more */
    assert_int_equal(loch_mem_scan_divide(scan, 2, ends), 2);
    assert_int_equal(ends[0], 71);
    assert_int_equal(ends[1], 100);
    const size_t n = loch_mem_scan_divide(scan, 8, ends);
    assert_in_range(n, 2, 8);
    for (size_t i = 0; i < n; i++)
        assert_true(ends[i] > (i > 0 ? ends[i - 1] : 0));
    assert_int_equal(ends[n - 1], 100);
    size_t middle = 0;
    const uint64_t all = loch_mem_scan_halve(scan, 0, 100, &middle);
    assert_int_equal(middle, 71);
    assert_true(all > loch_mem_scan_halve(scan, 71, 100, &middle));
    assert_in_range(middle, 84, 86);
    (void)loch_mem_scan_halve(scan, 70, 72, &middle); /* neither half is empty */
    assert_int_equal(middle, 71);
    (void)loch_mem_scan_halve(scan, 69, 71, &middle);
    assert_int_equal(middle, 70);
    loch_mem_scan_destroy(scan);
    loch_mem_layer_release(mem);
}

#define WITH_SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(layers_of_both_codecs),
        WITH_SITE(a_flush_as_several_files),
        WITH_SITE(a_flush_whose_parts_fail),
        WITH_SITE(a_part_that_takes_long_is_divided),
        WITH_SITE(a_part_that_fails_takes_the_divided_with_it),
        cmocka_unit_test(keys_are_divided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
