/* Layer files, manifests, flush and restart, with what goes wrong. */
#include "store_fixture.h"

#include "store/layer.h"
#include "store/manifest.h"
#include "store/retention.h"
#include "store/pushdown.h"
#include "store/mem_layer.h"

#include "loch/pg/page.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- layer files ---- */

static void a_chain_over_many_frames(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    const struct loch_timeline_info *info = loch_timeline_info(t);
    struct loch_mem_layer *mem = NULL;
    struct loch_layer_desc desc;
    struct loch_layer *layer = NULL;
    struct loch_key key = page_key(3), first = {0}, end = {.kind = UINT8_MAX}, *keys = NULL;
    char text[400];
    size_t count = 0;
    memset(text, 'x', sizeof text);
    assert_ok(loch_mem_layer_create(100, &mem));
    for (uint32_t i = 0; i < 1000; i++) {
        struct loch_version v = {.lsn = 200 + i,
                                 .start_lsn = 199 + i,
                                 .kind = i == 500 ? LOCH_VERSION_RECORD_INIT : LOCH_VERSION_RECORD,
                                 .bytes = loch_slice_of(text, sizeof text)};
        assert_ok(loch_mem_layer_put(mem, &key, NULL, 1, &v));
    }
    loch_mem_layer_freeze(mem, 1300);
    assert_ok(loch_layer_write(&s->store, s->keys, info, mem, NULL, &desc));
    assert_int_equal(desc.span.start_lsn, 100);
    assert_int_equal(desc.span.end_lsn, 1300);
    assert_ok(loch_layer_open(&s->store, s->keys, info, &desc, &layer));
    for (loch_lsn lsn = 199; lsn < 1300; lsn += 37) {
        struct loch_versions ours = {0}, theirs = {0};
        bool a = false, b = false;
        loch_lsn floor = lsn > 300 ? lsn - 280 : 0;
        assert_ok(loch_layer_collect(layer, &key, floor, lsn, &ours, &a));
        assert_ok(loch_mem_layer_collect(mem, &key, floor, lsn, &theirs, &b));
        assert_int_equal(ours.count, theirs.count);
        assert_int_equal(a, b);
        for (size_t i = 0; i < ours.count; i++) {
            assert_int_equal(ours.items[i].lsn, theirs.items[i].lsn);
            assert_int_equal(ours.items[i].start_lsn, theirs.items[i].start_lsn);
        }
        loch_versions_fini(&ours);
        loch_versions_fini(&theirs);
    }
    assert_ok(loch_layer_keys(layer, &first, &end, &keys, &count));
    assert_int_equal(count, 1);
    free(keys);
    loch_layer_release(layer);
    loch_mem_layer_release(mem);
    loch_timeline_release(t);
}

/* Stands in for reads and redo: an image names its LSN, and how it came about is counted. */
struct maker {
    struct loch_chain below;
    loch_lsn floor;
    unsigned reads, built, records;
};

static loch_status maker_below(void *arg, const struct loch_key *key, loch_lsn lsn,
                               struct loch_chain *out)
{
    const struct maker *m = arg;
    (void)key;
    assert_int_equal(lsn, 100);
    *out = m->below;
    return LOCH_OK;
}

static loch_status maker_read(void *arg, const struct loch_key *key, loch_lsn lsn,
                              uint8_t page[static LOCH_PAGE_BYTES], bool *made)
{
    struct maker *m = arg;
    (void)key;
    memset(page, 'i', LOCH_PAGE_BYTES);
    loch_put_u64(page, lsn);
    m->reads++;
    *made = true;
    return LOCH_OK;
}

static loch_status maker_image(void *arg, const struct loch_key *key,
                               const struct loch_version *items, size_t count, const uint8_t *base,
                               loch_lsn base_lsn, uint8_t page[static LOCH_PAGE_BYTES], bool *made)
{
    struct maker *m = arg;
    assert_true(count >= 1);
    assert_int_equal(base == NULL, items[count - 1].kind == LOCH_VERSION_RECORD_INIT);
    if (base != NULL)
        assert_int_equal(loch_get_u64(base), base_lsn);
    m->built++;
    m->records += (unsigned)count;
    m->reads--;
    return maker_read(arg, key, items[0].lsn, page, made);
}

static loch_status maker_floor(void *arg, const struct loch_key *key, loch_lsn lsn, loch_lsn *floor)
{
    const struct maker *m = arg;
    (void)key;
    *floor = m->floor <= lsn ? m->floor : LOCH_LSN_NONE;
    return LOCH_OK;
}

static struct loch_imager maker_imager(struct maker *m)
{
    return (struct loch_imager){.arg = m,
                                .records_max = 10,
                                .bytes_max = 1000,
                                .below = maker_below,
                                .image = maker_image,
                                .read = maker_read,
                                .floor = maker_floor};
}

/* Every LSN of the key applies at most `most` records. */
static void check_chains(struct loch_layer *layer, const struct loch_key *key, loch_lsn first,
                         loch_lsn last, size_t below, size_t most)
{
    for (loch_lsn lsn = first; lsn <= last; lsn++) {
        struct loch_versions list = {0};
        bool base = false;
        assert_ok(loch_layer_collect(layer, key, 0, lsn, &list, &base));
        assert_true(list.count > 0 && list.items[0].lsn == lsn);
        size_t records = list.count + (base ? 0 : below);
        if (base && list.items[list.count - 1].kind == LOCH_VERSION_VALUE)
            records--;
        assert_true(records <= most);
        loch_versions_fini(&list);
    }
}

static void no_read_applies_more_than_the_bound(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = site_timeline(s, 100, NULL);
    struct loch_mem_layer *mem = NULL;
    struct loch_layer_desc desc;
    struct loch_layer *layer = NULL;
    struct loch_key longer = page_key(1), shorter = page_key(2), fresh = page_key(3);
    struct maker maker = {.below = {7, 70}};
    struct loch_imager imager = maker_imager(&maker);
    struct loch_chain chain;
    assert_ok(loch_mem_layer_create(100, &mem));
    for (uint32_t i = 0; i < 2000; i++) {
        mem_put(mem, &longer, 200 + i, LOCH_VERSION_RECORD, "r");
        if (i < 3)
            mem_put(mem, &shorter, 200 + i, LOCH_VERSION_RECORD, "r");
        if (i < 25)
            mem_put(mem, &fresh, 200 + i, i == 0 ? LOCH_VERSION_RECORD_INIT : LOCH_VERSION_RECORD,
                    "r");
    }
    loch_mem_layer_freeze(mem, 4000);
    assert_ok(loch_layer_write(&s->store, s->keys, loch_timeline_info(t), mem, &imager, &desc));
    assert_int_equal(maker.reads, 1); /* of the longer one's first; each record is applied once */
    assert_true(maker.built > 180 && maker.records <= 2025);
    assert_ok(loch_layer_open(&s->store, s->keys, loch_timeline_info(t), &desc, &layer));
    check_chains(layer, &longer, 200, 2199, 7, 10);
    check_chains(layer, &shorter, 200, 202, 7, 10);
    check_chains(layer, &fresh, 200, 224, 0, 10);
    assert_true(loch_layer_chain(layer, &shorter, &chain));
    assert_int_equal(chain.records, 10);
    assert_true(loch_layer_chain(layer, &fresh, &chain));
    assert_int_equal(chain.records, 3); /* images at the 11th and 22nd */
    fresh.block = 9;
    assert_false(loch_layer_chain(layer, &fresh, &chain));
    loch_layer_release(layer);
    loch_mem_layer_release(mem);
    loch_timeline_release(t);
}

static void images_do_not_reach_across_a_cut(void **state)
{
    struct maker maker = {.floor = 215};
    struct loch_imager imager = maker_imager(&maker);
    struct loch_key key = page_key(1);
    struct loch_versions list = {0};
    struct loch_chain chain;
    (void)state;
    for (loch_lsn lsn = 222; lsn >= 200; lsn--) {
        struct loch_version v = {.lsn = lsn,
                                 .kind =
                                     lsn == 200 ? LOCH_VERSION_RECORD_INIT : LOCH_VERSION_RECORD,
                                 .bytes = loch_slice_of("r", 1)};
        assert_ok(loch_versions_add(&list, &v));
    }
    assert_ok(loch_push_images(&imager, &key, 100, &list, &chain));
    assert_int_equal(list.count, 25);
    assert_int_equal(maker.built, 1); /* at 210, from the record that begins the page */
    assert_int_equal(maker.reads, 1); /* at 221, what is below the cut is not its base */
    assert_int_equal(chain.records, 1);
    loch_versions_fini(&list);
}

/* ---- timelines ---- */

/* The only layer file of the timeline; its path. */
static void layer_file(struct site *s, const struct loch_timeline *t, char path[4400])
{
    char dir[LOCH_LAYER_PATH_BYTES];
    const struct loch_timeline_info *info = loch_timeline_info(t);
    assert_ok(loch_timeline_dir(&s->store, &info->tenant, &info->timeline, dir));
    DIR *d = opendir(dir);
    assert_non_null(d);
    path[0] = '\0';
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strstr(e->d_name, ".layer") != NULL)
            snprintf(path, 4400, "%s/%s", dir, e->d_name);
    }
    closedir(d);
    assert_true(path[0] != '\0');
}

static struct loch_timeline *with_pages(struct site *s)
{
    struct loch_timeline *t = site_timeline(s, 1000, NULL);
    uint8_t page[LOCH_PAGE_BYTES], size[4] = {100, 0, 0, 0};
    struct loch_key key = page_key(0);
    loch_page_init(page, 0);
    for (uint32_t i = 0; i < 100; i++) {
        memset(page + 24, (int)i, LOCH_PAGE_BYTES - 24);
        key = page_key(i);
        assert_ok(loch_timeline_put_value(t, &key, 1000, loch_slice_of(page, sizeof page)));
    }
    key = page_key(0);
    key.kind = LOCH_KEY_REL_SIZE;
    assert_ok(loch_timeline_put_value(t, &key, 1000, loch_slice_of(size, 4)));
    assert_ok(loch_timeline_commit(t, 900, loch_slice_of("control", 7)));
    return t;
}

static loch_status reopen_status(struct site *s, struct loch_id id)
{
    struct loch_timeline *again = NULL;
    loch_status st = loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &again);
    if (loch_is_ok(st))
        loch_timeline_release(again);
    return st;
}

static void restart_keeps_what_was_flushed(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_pages(s);
    struct loch_buf control = {0};
    struct loch_view *view = NULL;
    struct loch_rel rel = {1663, 5, 100};
    uint8_t page[LOCH_PAGE_BYTES];
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_last_record_lsn(t), 1000);
    assert_int_equal(loch_timeline_prev_record_lsn(t), 900);
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), 1000);
    assert_int_equal(loch_timeline_info(t)->system_id, 7);
    assert_ok(loch_timeline_control(t, &control));
    assert_int_equal(control.len, 7);
    assert_true(loch_timeline_ready(t, 1000));
    assert_false(loch_timeline_ready(t, 1001));
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_page(view, &rel, 0, 42, 1000, page));
    assert_int_equal(page[5000], 42);
    assert_ok(loch_view_page(view, &rel, 0, 100, 1000, page)); /* beyond the end */
    assert_true(loch_page_is_zero(page));
    assert_ok(loch_view_page(view, &rel, 0, 42, 999, page)); /* before it was */
    assert_true(loch_page_is_zero(page));
    loch_view_destroy(view);
    loch_buf_fini(&control);
    loch_timeline_release(t);
}

/* The failure says whose block of which file it is. */
static void assert_named(struct site *s, const struct loch_timeline *t, loch_status st)
{
    char tenant[LOCH_ID_TEXT_BYTES], timeline[LOCH_ID_TEXT_BYTES], path[4400], file[40] = "";
    assert_int_equal(st.code, LOCH_E_CORRUPT);
    layer_file(s, t, path);
    snprintf(file, sizeof file, "layer %.32s", strrchr(path, '/') + 1);
    assert_non_null(strstr(loch_error_text(), loch_id_format(&s->tenant, tenant)));
    assert_non_null(
        strstr(loch_error_text(), loch_id_format(&loch_timeline_info(t)->timeline, timeline)));
    assert_non_null(strstr(loch_error_text(), file));
    assert_non_null(strstr(loch_error_text(), ", block "));
}

static void any_flipped_byte_is_noticed(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_pages(s);
    struct loch_id id = loch_timeline_info(t)->timeline;
    struct loch_rel rel = {1663, 5, 100};
    struct stat st;
    char path[4400];
    layer_file(s, t, path);
    loch_timeline_release(t);
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += 1 + st.st_size / 97) {
        uint8_t byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        struct loch_timeline *again = NULL;
        loch_page_cache_drop(s->cache, &s->tenant, &id);
        loch_status open_st = loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &again);
        bool noticed = !loch_is_ok(open_st);
        if (!noticed) { /* a frame: found when it is read */
            struct loch_view *view = NULL;
            uint8_t page[LOCH_PAGE_BYTES];
            assert_ok(loch_view_create(again, &view));
            for (uint32_t block = 0; block < 100; block++) {
                loch_status read_st = loch_view_page(view, &rel, 0, block, 1000, page);
                if (loch_is_ok(read_st))
                    assert_int_equal(page[5000], block); /* never wrong bytes */
                else
                    assert_named(s, again, read_st);
                noticed = noticed || !loch_is_ok(read_st);
            }
            struct loch_key key = {.kind = LOCH_KEY_CONTROL};
            struct loch_buf value = {0};
            bool found = false;
            loch_status read_st = loch_view_get(view, &key, 1000, &value, &found, NULL);
            noticed = noticed || !loch_is_ok(read_st);
            loch_buf_fini(&value);
            loch_view_destroy(view);
            loch_timeline_release(again);
        }
        if (!noticed)
            fail_msg("a flipped byte at %ld of %ld went unnoticed", (long)at, (long)st.st_size);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_ok(reopen_status(s, id));
}

static void missing_short_and_foreign_files(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_pages(s), *other = with_pages(s);
    struct loch_id id = loch_timeline_info(t)->timeline;
    char path[4400], foreign[4400], aside[4500], orphan[4500], command[9200];
    struct stat st;
    layer_file(s, t, path);
    layer_file(s, other, foreign);
    loch_timeline_release(t);
    loch_timeline_release(other);
    snprintf(aside, sizeof aside, "%s/aside", s->dir);
    snprintf(aside, sizeof aside, "%s-aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_code(reopen_status(s, id), LOCH_E_NOT_FOUND);
    snprintf(command, sizeof command, "cp '%s' '%s'", foreign, path);
    assert_int_equal(system(command), 0);
    assert_code(reopen_status(s, id), LOCH_E_CORRUPT); /* another timeline's layer in its place */
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(stat(path, &st), 0);
    snprintf(orphan, sizeof orphan, "%s.orphan", path);
    snprintf(command, sizeof command, "cp '%s' '%s'", path, orphan);
    assert_int_equal(system(command), 0);
    assert_ok(reopen_status(s, id));
    assert_int_not_equal(access(orphan, F_OK), 0); /* swept */
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    assert_code(reopen_status(s, id), LOCH_E_CORRUPT);
}

static void a_lost_race_for_the_manifest(void **state)
{
    struct site *s = *state;
    struct loch_timeline *a = with_pages(s), *b = NULL;
    struct loch_id id = loch_timeline_info(a)->timeline;
    struct loch_key key = page_key(1);
    uint8_t page[LOCH_PAGE_BYTES] = {0};
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &b));
    struct loch_timeline *both[] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(loch_timeline_put_value(both[i], &key, 1100, loch_slice_of(page, sizeof page)));
        loch_timeline_advance(both[i], 1100, 1000);
        assert_ok(loch_timeline_freeze(both[i], loch_slice_of("c", 1)));
    }
    assert_ok(loch_timeline_flush(b));
    assert_code(loch_timeline_flush(a), LOCH_E_STALE);
    assert_int_equal(loch_timeline_disk_consistent_lsn(a), 1000);
    assert_int_equal(loch_timeline_disk_consistent_lsn(b), 1100);
    loch_timeline_release(a);
    loch_timeline_release(b);
}

static void a_branch_waits_for_its_ancestors(void **state)
{
    struct site *s = *state;
    struct loch_timeline *parent = with_pages(s);
    loch_timeline_advance(parent, 1500, 1400);
    struct loch_timeline *child = site_timeline(s, 1400, parent);
    assert_ok(loch_timeline_commit(child, 1300, loch_slice_of("c", 1)));
    assert_true(loch_timeline_ready(child, 1400));
    struct loch_id id = loch_timeline_info(child)->timeline;
    loch_timeline_release(child);
    parent = site_reopen(s, parent, NULL); /* back to 1000: the rest was in memory only */
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, parent, &child));
    assert_int_equal(loch_timeline_last_record_lsn(child), 1400);
    assert_false(loch_timeline_ready(child, 1400));
    assert_true(loch_timeline_ready(child, 1000));
    loch_timeline_advance(parent, 1400, 1390);
    assert_true(loch_timeline_ready(child, 1400));
    loch_timeline_release(child);
    assert_code(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &child),
                LOCH_E_CORRUPT);
    loch_timeline_release(parent);
}

static bool has_forgotten(struct loch_timeline *t, loch_lsn lsn)
{
    struct loch_key mark = LOCH_TWOPHASE_FORGET_KEY;
    struct loch_view *view = NULL;
    struct loch_buf value = {0};
    bool found = false;
    loch_lsn at = LOCH_LSN_NONE;
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_get(view, &mark, lsn, &value, &found, &at));
    loch_view_destroy(view);
    loch_buf_fini(&value);
    return found && at == lsn;
}

static struct loch_timeline *born_again(struct site *s, struct loch_timeline *child,
                                        struct loch_timeline *parent, const struct loch_buf *birth)
{
    struct loch_id id = loch_timeline_info(child)->timeline;
    struct loch_timeline *again = NULL;
    loch_timeline_release(child);
    assert_ok(loch_timeline_open_born(&s->store, s->keys, &s->tenant, &id, parent,
                                      loch_buf_slice(birth), &again));
    return again;
}

static void a_branch_begins_without_a_write(void **state)
{
    struct site *s = *state;
    struct loch_timeline *parent = with_pages(s), *child = site_timeline(s, 1000, parent), *no;
    struct loch_id id = loch_timeline_info(child)->timeline;
    struct loch_buf birth = {0}, control = {0};
    const struct loch_pitr_window window = {60, UINT64_MAX};
    assert_ok(loch_timeline_birth(child, 900, loch_slice_of("state", 5), true, &birth));
    assert_false(loch_timeline_settled(child));
    assert_code(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, parent, &no),
                LOCH_E_NOT_FOUND);
    for (int i = 0; i < 2;
         i++) { /* before its first flush, and after it with a birth that is over */
        child = born_again(s, child, parent, &birth);
        assert_true(loch_timeline_settled(child) == (i == 1));
        assert_true(has_forgotten(child, 1000));
        assert_int_equal(loch_timeline_last_record_lsn(child), i == 0 ? 1000 : 1100);
        control.len = 0;
        assert_ok(loch_timeline_control(child, &control));
        assert_memory_equal(control.data, i == 0 ? "state" : "later", 5);
        if (i == 0) { /* a window is a change of the manifest: the first layer comes before it */
            assert_ok(loch_timeline_set_window(child, &window));
            assert_true(loch_timeline_settled(child));
            loch_timeline_advance(child, 1100, 1050);
            assert_ok(loch_timeline_freeze(child, loch_slice_of("later", 5)));
            assert_ok(loch_timeline_flush(child));
        }
    }
    loch_timeline_release(child);
    loch_buf_fini(&control);
    loch_buf_fini(&birth);
    loch_timeline_release(parent);
}

static void a_birth_of_another_is_refused(void **state)
{
    struct site *s = *state;
    struct loch_timeline *parent = with_pages(s), *child = site_timeline(s, 1000, parent), *no;
    struct loch_id id = loch_timeline_info(child)->timeline;
    struct loch_buf birth = {0};
    assert_ok(loch_timeline_birth(child, 900, loch_slice_of("state", 5), false, &birth));
    assert_false(has_forgotten(child, 1000));
    assert_code(loch_timeline_open_born(&s->store, s->keys, &s->tenant, &id, NULL,
                                        loch_buf_slice(&birth), &no),
                LOCH_E_CORRUPT);
    for (size_t len = 1; len < birth.len; len++)
        assert_false(loch_is_ok(loch_timeline_open_born(&s->store, s->keys, &s->tenant, &id, parent,
                                                        loch_slice_of(birth.data, len), &no)));
    birth.data[14] ^= 1; /* within the tenant's id */
    assert_code(loch_timeline_open_born(&s->store, s->keys, &s->tenant, &id, parent,
                                        loch_buf_slice(&birth), &no),
                LOCH_E_CORRUPT);
    loch_buf_fini(&birth);
    loch_timeline_release(child);
    loch_timeline_release(parent);
}

/* ---- manifests ---- */

static void tenant_manifests_round_trip(void **state)
{
    struct site *s = *state;
    struct loch_tenant_manifest m = {.generation = 1, .tenant = s->tenant}, back = {0}, copy = {0};
    struct loch_etag etag = {0}, stale;
    struct loch_tenant_timeline entry = {.ancestor_lsn = 77, .archived = true};
    assert_ok(loch_buf_append(&entry.birth, "born", 4));
    m.spare_count = 2;
    assert_ok(loch_random_id(&m.spares[1]));
    snprintf(m.name, sizeof m.name, "acme");
    snprintf(entry.name, sizeof entry.name, "main");
    assert_ok(loch_random_id(&entry.timeline));
    assert_ok(loch_tenant_manifest_add(&m, &entry));
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    stale = etag;
    struct loch_etag again = {0};
    assert_code(loch_tenant_manifest_put(&s->store, s->keys, &m, &again, NULL), LOCH_E_EXISTS);
    m.generation = 2;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_code(loch_tenant_manifest_put(&s->store, s->keys, &m, &stale, NULL), LOCH_E_STALE);
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &again));
    assert_string_equal(back.name, "acme");
    assert_int_equal(back.generation, 2);
    assert_int_equal(back.count, 1);
    assert_string_equal(back.timelines[0].name, "main");
    assert_int_equal(back.timelines[0].ancestor_lsn, 77);
    assert_true(back.timelines[0].archived);
    assert_false(back.timelines[0].dropping);
    assert_int_equal(back.spare_count, 2);
    assert_true(loch_id_equal(&back.spares[1], &m.spares[1]));
    assert_ok(loch_tenant_manifest_copy(&copy, &back));
    assert_int_equal(copy.count, 1);
    assert_int_equal(copy.timelines[0].birth.len, 4);
    assert_memory_equal(copy.timelines[0].birth.data, "born", 4);
    loch_tenant_manifest_remove(&copy, 0);
    assert_int_equal(copy.count, 0);
    loch_tenant_manifest_fini(&copy);
    loch_tenant_manifest_fini(&back);
    loch_tenant_manifest_fini(&m);
}

/* A store that is wound back to an older manifest, or holds another one of that generation. */
static void an_older_manifest_is_refused(void **state)
{
    struct site *s = *state;
    struct loch_tenant_manifest m = {.generation = 1, .tenant = s->tenant}, back = {0};
    struct loch_etag etag = {0};
    struct loch_buf old = {0};
    char name[LOCH_OBJECT_NAME_MAX], id[LOCH_ID_TEXT_BYTES], path[512], aside[600], text[16];
    snprintf(m.name, sizeof m.name, "acme");
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    snprintf(name, sizeof name, "tenants/%s/manifest", loch_id_format(&s->tenant, id));
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &old, &etag));
    m.generation = 2;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_ok(
        loch_objstore_put_if_match(s->store.objstore, name, &etag, loch_buf_slice(&old), &etag));
    assert_code(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag),
                LOCH_E_STALE);
    assert_non_null(strstr(loch_error_text(), name));
    /* Another one of the generation that was seen: sealed anew, so its bytes differ. */
    assert_ok(loch_objstore_delete(s->store.objstore, name));
    snprintf(path, sizeof path, "%s/manifests-seen/%s", s->store.dir, id);
    snprintf(aside, sizeof aside, "%s-aside", path);
    assert_int_equal(rename(path, aside), 0);
    etag = (struct loch_etag){0};
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_int_equal(rename(aside, path), 0);
    assert_code(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag),
                LOCH_E_CORRUPT);
    /* An operator who did it by hand says so by removing what is remembered. */
    loch_manifest_forget(&s->store, &s->tenant, NULL);
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag));
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_int_equal(strncmp(text, "2 ", 2), 0);
    assert_int_equal(fclose(f), 0);
    loch_tenant_manifest_fini(&back);
    loch_buf_fini(&old);
}

/* A put whose note comes later: until then the older one still counts as the newest; a note that
 * comes late does not take back a newer one. */
static void a_manifest_is_noted_later_and_never_back(void **state)
{
    struct site *s = *state;
    struct loch_tenant_manifest m = {.generation = 1, .tenant = s->tenant}, back = {0};
    struct loch_manifest_note second = {0}, third = {0};
    struct loch_etag etag = {0};
    struct loch_buf old = {0};
    char name[LOCH_OBJECT_NAME_MAX], id[LOCH_ID_TEXT_BYTES];
    snprintf(m.name, sizeof m.name, "acme");
    snprintf(name, sizeof name, "tenants/%s/manifest", loch_id_format(&s->tenant, id));
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &old, NULL));
    m.generation = 2;
    assert_ok(loch_tenant_manifest_put_unnoted(&s->store, s->keys, &m, &etag, NULL, &second));
    m.generation = 3;
    assert_ok(loch_tenant_manifest_put_unnoted(&s->store, s->keys, &m, &etag, NULL, &third));
    assert_int_equal(second.generation, 2);
    loch_manifest_note(&s->store, &third);
    loch_manifest_note(&s->store, &second);
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag));
    assert_int_equal(back.generation, 3);
    loch_tenant_manifest_fini(&back);
    assert_ok(
        loch_objstore_put_if_match(s->store.objstore, name, &etag, loch_buf_slice(&old), &etag));
    assert_code(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag),
                LOCH_E_STALE);
    assert_non_null(strstr(loch_error_text(), "but 3 was seen"));
    loch_buf_fini(&old);
}

static void put_back(struct site *s, const char *name, const struct loch_buf *bytes)
{
    struct loch_buf there = {0};
    struct loch_etag etag = {0};
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &there, &etag));
    assert_ok(
        loch_objstore_put_if_match(s->store.objstore, name, &etag, loch_buf_slice(bytes), NULL));
    loch_buf_fini(&there);
}

/* Keys were stolen, and rotated. Who has them makes a manifest newer than the newest, which opens:
 * they are RETIRED. But one under a newer key was seen. */
static void a_newer_manifest_of_an_older_key_is_refused(void **state)
{
    struct site *s = *state;
    static const struct loch_id none;
    struct loch_tenant_manifest m = {.generation = 3, .tenant = s->tenant}, back = {0};
    struct loch_etag etag = {0};
    struct loch_buf forged = {0}, right = {0};
    struct loch_rotation_report report;
    char name[LOCH_OBJECT_NAME_MAX], id[LOCH_ID_TEXT_BYTES];
    snprintf(m.name, sizeof m.name, "acme");
    snprintf(name, sizeof name, "tenants/%s/manifest", loch_id_format(&s->tenant, id));
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &forged, &etag));
    loch_manifest_forget(&s->store, &s->tenant, NULL);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &report));
    m.generation = 2;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &right, &etag));
    put_back(s, name, &forged);
    assert_code(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "version 1"));
    put_back(s, name, &right); /* the forged one was not noted as the newest */
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &back, &etag));
    assert_int_equal(back.generation, 2);
    loch_tenant_manifest_fini(&back);
    loch_buf_fini(&forged);
    loch_buf_fini(&right);
}

static void so_is_a_timelines(void **state)
{
    struct site *s = *state;
    static const struct loch_id none;
    struct loch_timeline *t = with_pages(s);
    const struct loch_id id = loch_timeline_info(t)->timeline;
    struct loch_manifest m = {0}, back = {0};
    struct loch_etag etag = {0};
    struct loch_buf forged = {0};
    struct loch_rotation_report report;
    char name[LOCH_OBJECT_NAME_MAX], a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES];
    snprintf(name, sizeof name, "tenants/%s/timelines/%s/manifest", loch_id_format(&s->tenant, a),
             loch_id_format(&id, b));
    assert_ok(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &m, &etag));
    m.generation += 2;
    assert_ok(loch_manifest_put(&s->store, s->keys, &m, &etag));
    assert_ok(loch_objstore_get(s->store.objstore, name, 1u << 20, &forged, &etag));
    loch_manifest_forget(&s->store, &s->tenant, &id);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_TK, &report));
    m.generation--;
    assert_ok(loch_manifest_put(&s->store, s->keys, &m, &etag));
    put_back(s, name, &forged);
    assert_code(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &back, &etag),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "version 1"));
    loch_manifest_fini(&m);
    loch_buf_fini(&forged);
    loch_timeline_release(t);
}

static void cut_manifests_are_corrupt(void **state)
{
    struct site *s = *state;
    struct loch_timeline *t = with_pages(s);
    struct loch_id id = loch_timeline_info(t)->timeline;
    struct loch_manifest m = {0}, back = {0};
    struct loch_buf bytes = {0};
    assert_ok(loch_manifest_get(&s->store, s->keys, &s->tenant, &id, &m, NULL));
    assert_ok(loch_manifest_encode(&m, &bytes));
    assert_ok(loch_manifest_decode(loch_buf_slice(&bytes), &back));
    assert_int_equal(back.layer_count, 1);
    loch_manifest_fini(&back);
    for (size_t len = 0; len < bytes.len; len++) {
        loch_status st = loch_manifest_decode(loch_slice_of(bytes.data, len), &back);
        assert_false(loch_is_ok(st));
        loch_manifest_fini(&back);
    }
    loch_buf_fini(&bytes);
    loch_manifest_fini(&m);
    loch_timeline_release(t);
}

/* What was written before there were archived timelines. */
static void a_tenant_manifest_of_format_2_is_read(void **state)
{
    static const uint8_t tail[4] = {0}; /* no spares */
    struct loch_buf bytes = {0};
    struct loch_writer w;
    struct loch_tenant_manifest m = {0};
    struct loch_id id = {{9}};
    (void)state;
    loch_writer_init(&w, &bytes);
    loch_write_u32(&w, 2);
    loch_write_u64(&w, 5);
    loch_write_id(&w, &id);
    loch_write_lp(&w, loch_slice_of("acme", 4));
    loch_write_u8(&w, 0);
    loch_write_u32(&w, 1);
    loch_write_lp(&w, loch_slice_of("main", 4));
    loch_write_id(&w, &id);
    loch_write_id(&w, &(struct loch_id){0});
    loch_write_u64(&w, 0);
    loch_write_u8(&w, 0);
    loch_write_lp(&w, loch_slice_of("b", 1));
    loch_write_bytes(&w, tail, sizeof tail);
    assert_ok(loch_writer_finish(&w));
    assert_ok(loch_tenant_manifest_decode(loch_buf_slice(&bytes), &m));
    assert_int_equal(m.count, 1);
    assert_false(m.timelines[0].archived);
    assert_int_equal(m.timelines[0].birth.len, 1);
    loch_tenant_manifest_fini(&m);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(loch_is_ok(loch_tenant_manifest_decode(loch_slice_of(bytes.data, len), &m)));
        loch_tenant_manifest_fini(&m);
    }
    loch_buf_fini(&bytes);
}

static void names(void **state)
{
    (void)state;
    assert_ok(loch_name_check("main"));
    assert_ok(loch_name_check("a-b_9"));
    assert_code(loch_name_check(""), LOCH_E_INVALID);
    assert_code(loch_name_check("9a"), LOCH_E_INVALID);
    assert_code(loch_name_check("a/b"), LOCH_E_INVALID);
    assert_code(loch_name_check("a123456789012345678901234567890123456789012345678901234567890123"),
                LOCH_E_INVALID);
}

#define WITH_SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(a_chain_over_many_frames),
        WITH_SITE(no_read_applies_more_than_the_bound),
        cmocka_unit_test(images_do_not_reach_across_a_cut),
        WITH_SITE(restart_keeps_what_was_flushed),
        WITH_SITE(any_flipped_byte_is_noticed),
        WITH_SITE(missing_short_and_foreign_files),
        WITH_SITE(a_lost_race_for_the_manifest),
        WITH_SITE(a_branch_waits_for_its_ancestors),
        WITH_SITE(a_branch_begins_without_a_write),
        WITH_SITE(a_birth_of_another_is_refused),
        WITH_SITE(tenant_manifests_round_trip),
        WITH_SITE(an_older_manifest_is_refused),
        WITH_SITE(a_manifest_is_noted_later_and_never_back),
        WITH_SITE(a_newer_manifest_of_an_older_key_is_refused),
        WITH_SITE(so_is_a_timelines),
        cmocka_unit_test(a_tenant_manifest_of_format_2_is_read),
        WITH_SITE(cut_manifests_are_corrupt),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
