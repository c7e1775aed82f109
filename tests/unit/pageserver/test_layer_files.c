/* What a flush writes: how it is compressed. */
#include "store_fixture.h"

#include "store/layer.h"

#include "loch/format/place.h"
#include "loch/pg/page.h"

#include <dirent.h>
#include <fcntl.h>
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

#define WITH_SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(layers_of_both_codecs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
