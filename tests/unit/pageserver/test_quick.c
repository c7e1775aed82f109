/* What makes reads and branches quick, held to what they did before: runs that are reckoned, pages
 * that are kept at their second read, notes of manifests that are written later. */
#include "store_fixture.h"

#include "store/layer_set.h"
#include "store/manifest.h"
#include "store/witnesses.h"

#include "loch/base/check.h"
#include "loch/pg/page.h"

#include <sys/stat.h>

#define BLOCKS           300u
#define WITH_SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

static struct loch_key key_of(uint32_t rel, uint32_t block)
{
    struct loch_key key = page_key(block);
    key.rel = rel;
    return key;
}

/* Block 7 of every ten is missing, block 3 has a history of three images. */
static uint32_t images_of(uint32_t block)
{
    return block % 10 == 7 ? 0 : block % 10 == 3 ? 3 : 1;
}

static void put_images(struct loch_timeline *t, uint32_t rel, loch_lsn lsn, uint32_t round)
{
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    for (uint32_t b = 0; b < BLOCKS; b++) {
        const struct loch_key key = key_of(rel, b);
        if (images_of(b) <= round)
            continue;
        loch_put_u32(page, rel);
        loch_put_u32(page + 4, b);
        loch_put_u32(page + 8, round);
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    }
}

static struct loch_layer *layer_of_images(struct loch_timeline *t)
{
    loch_lsn last = LOCH_LSN_NONE;
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t rel = 10; rel <= 12; rel++)
            put_images(t, rel, 101 + round, round);
    loch_timeline_advance(t, 110, 100);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
    assert_ok(loch_timeline_flush(t));
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    struct loch_layer *layer = loch_layer_retain(set->files[0]);
    loch_layer_set_release(set);
    return layer;
}

static void expect(struct loch_layer *layer, uint32_t rel, uint32_t block, loch_lsn lsn)
{
    struct loch_versions list = {0};
    const struct loch_key key = key_of(rel, block);
    const uint32_t made = loch_min_u64(images_of(block), lsn < 101 ? 0 : lsn - 100);
    bool base = false;
    assert_ok(loch_layer_collect(layer, &key, LOCH_LSN_NONE, lsn, &list, &base));
    assert_int_equal(base, made > 0);
    assert_int_equal(list.count, made > 0);
    if (made > 0) {
        const uint8_t *page = list.items[0].bytes.data;
        assert_int_equal(list.items[0].lsn, 100 + made);
        assert_int_equal(loch_get_u32(page), rel);
        assert_int_equal(loch_get_u32(page + 4), block);
        assert_int_equal(loch_get_u32(page + 8), made - 1);
    }
    loch_versions_fini(&list);
}

/* From wherever the last page was found: in order, backwards, at random, in another relation,
 * beyond the end, at each LSN. */
static void every_page_is_found_from_every_other(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    assert_ok(loch_timeline_commit(t, 90, loch_slice_of("control", 7)));
    struct loch_layer *layer = layer_of_images(t);
    for (uint32_t b = 0; b < BLOCKS + 20; b++)
        expect(layer, 11, b < BLOCKS ? b : 7 + 10 * b, 110);
    for (uint32_t b = BLOCKS; b-- > 0;)
        expect(layer, 12, b, 102);
    uint32_t x = 1;
    for (uint32_t i = 0; i < 20000; i++) {
        x = x * 1664525u + 1013904223u;
        expect(layer, 10 + (x >> 8) % 3, (x >> 12) % BLOCKS, 100 + (x >> 24) % 6);
    }
    loch_layer_release(layer);
    loch_timeline_release(t);
}

/* ---- the page cache ---- */

static bool is_kept(struct site *s, uint32_t block)
{
    const struct loch_key key = key_of(5, block);
    uint8_t out[LOCH_PAGE_BYTES];
    loch_lsn version = LOCH_LSN_NONE;
    bool found = loch_page_cache_get(s->cache, &s->tenant, &key, 0, 100, &version, out);
    assert_true(!found || loch_get_u32(out) == block);
    return found;
}

static void keep(struct site *s, uint32_t block, bool cheap)
{
    const struct loch_key key = key_of(5, block);
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    loch_put_u32(page, block);
    loch_page_cache_put(s->cache, &s->tenant, &key, 100, 100, cheap, page);
}

static uint32_t count_kept(struct site *s, uint32_t first, uint32_t end)
{
    uint32_t n = 0;
    for (uint32_t b = first; b < end; b++)
        n += is_kept(s, b);
    return n;
}

/* A megabyte: 128 pages. */
static void a_scan_does_not_push_out_what_is_kept(void **state)
{
    struct site *s = *state;
    for (uint32_t b = 0; b < 2000; b++)
        keep(s, b, false);
    assert_int_equal(count_kept(s, 0, 2000), 128);
    for (uint32_t b = 10000; b < 12000; b++)
        keep(s, b, true);
    assert_int_equal(count_kept(s, 0, 2000), 128);
    assert_int_equal(count_kept(s, 10000, 12000), 0);
    keep(s, 11999, true); /* read a second time */
    assert_true(is_kept(s, 11999));
    keep(s, 20000, false); /* not cheap: at once */
    assert_true(is_kept(s, 20000));
    loch_page_cache_drop(s->cache, &s->tenant);
    assert_int_equal(count_kept(s, 0, 20001), 0);
    keep(s, 3, true); /* there is room */
    assert_true(is_kept(s, 3));
}

/* ---- notes of manifests ---- */

static void note(struct loch_witnesses *w, const char *dir, const char *path, uint64_t generation)
{
    const uint8_t hash[LOCH_WITNESS_HASH_BYTES] = {(uint8_t)generation};
    assert_ok(loch_witnesses_note(w, dir, path, generation, hash));
}

static void notes_are_there_at_the_end(void **state)
{
    struct site *s = *state;
    struct loch_witnesses *w = NULL;
    uint8_t hash[LOCH_WITNESS_HASH_BYTES] = {200};
    char path[3][200];
    struct stat sb;
    assert_ok(loch_witnesses_create(s->env, &w));
    for (int i = 0; i < 3; i++)
        snprintf(path[i], sizeof path[i], "%s/seen/%d", s->dir, i);
    char dir[200];
    snprintf(dir, sizeof dir, "%s/seen", s->dir);
    for (uint64_t g = 1; g <= 200; g++)
        for (int i = 0; i < 3; i++)
            note(w, dir, path[i], g);
    loch_witnesses_drop(w, path[1]);
    loch_witness_forget(s->env, path[1]);
    loch_witnesses_destroy(w);
    assert_ok(loch_witness_check(s->env, path[0], "it", 200, hash));
    assert_code(loch_witness_check(s->env, path[2], "it", 199, hash), LOCH_E_STALE);
    assert_int_equal(stat(path[1], &sb), -1); /* nothing of it was written after it was dropped */
}

static void manifests_are_noted_later(void **state)
{
    struct site *s = *state;
    struct loch_tenant_manifest m = {.tenant = s->tenant}, back = {0};
    struct loch_etag etag = {0}, old_etag = {0};
    struct loch_buf old = {0};
    char name[LOCH_OBJECT_NAME_MAX], id[LOCH_ID_TEXT_BYTES];
    snprintf(m.name, sizeof m.name, "acme");
    snprintf(name, sizeof name, "tenants/%s/manifest", loch_id_format(&s->tenant, id));
    assert_ok(loch_witnesses_create(s->env, &s->store.witnesses));
    for (m.generation = 1; m.generation <= 20; m.generation++) {
        assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag));
        if (m.generation == 10)
            assert_ok(loch_objstore_get(s->objstore, name, 1u << 20, &old, &old_etag));
    }
    loch_witnesses_destroy(s->store.witnesses);
    s->store.witnesses = NULL;
    assert_ok(loch_objstore_put_if_match(s->objstore, name, &etag, loch_buf_slice(&old), &etag));
    assert_code(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag),
                LOCH_E_STALE);
    loch_buf_fini(&old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(every_page_is_found_from_every_other),
        WITH_SITE(a_scan_does_not_push_out_what_is_kept),
        WITH_SITE(notes_are_there_at_the_end),
        WITH_SITE(manifests_are_noted_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
