/* What records become: images of every kind are put as pages, truncations know of each other. */
#include "store_fixture.h"

#include "../pg/wal_writer.h"

#include "ingest/ingest.h"
#include "read/collect.h"
#include "store/compact.h"

#include "loch/pg/page.h"
#include "loch/pg/wal_record.h"

#include <lz4.h>
#include <zstd.h>

#define L        ((loch_lsn)0x1002000)
#define HOLE_AT  200u
#define HOLE_LEN 7000u
#define REST     (LOCH_PAGE_BYTES - HOLE_LEN)
#define PAGES    32u /* log_newpage_range: so many in one record */

static const struct loch_rel rel = {1663, 5, 100};

struct feed {
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
    struct wal_writer w;
};

static void begin(struct site *s, struct feed *f)
{
    struct loch_timeline_info info = {.tenant = s->tenant,
                                      .system_id = 4711,
                                      .pg_version = 150000,
                                      .segment_bytes = WRITER_SEGMENT,
                                      .start_lsn = L};
    struct loch_control control = {.segment_bytes = WRITER_SEGMENT};
    struct loch_buf bytes = {0};
    assert_ok(loch_random_id(&info.timeline));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_ok(loch_timeline_create(&s->store, s->keys, &info, NULL, &f->timeline));
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(f->timeline, L - 100, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    assert_ok(loch_ingest_create(f->timeline, &f->ingest));
    writer_init(&f->w, L, L - 100);
}

static void end(struct feed *f)
{
    loch_ingest_destroy(f->ingest);
    loch_timeline_release(f->timeline);
    writer_fini(&f->w);
}

/* Feeds what one record made of the WAL; returns its end. */
static loch_lsn feed(struct feed *f, uint8_t rmid, uint8_t info, const struct loch_buf *body)
{
    const size_t before = f->w.bytes.len;
    writer_record(&f->w, rmid, info, 0, 24 + (uint32_t)body->len, body->data);
    assert_ok(loch_ingest_feed(f->ingest,
                               loch_slice_of(f->w.bytes.data + before, f->w.bytes.len - before)));
    const loch_lsn last = loch_timeline_last_record_lsn(f->timeline);
    assert_true(last > f->w.starts[f->w.count - 1]);
    return last;
}

/* ---- images ---- */

/* Not compressible, so that what is stored can be told from its size. */
static void make_page(uint32_t block, uint8_t page[LOCH_PAGE_BYTES])
{
    uint64_t x = block * UINT64_C(0x9E3779B97F4A7C15) + 1;
    memset(page, 0, LOCH_PAGE_BYTES);
    loch_page_init(page, 0);
    for (uint32_t i = 24; i < LOCH_PAGE_BYTES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        page[i] = i >= HOLE_AT && i < HOLE_AT + HOLE_LEN ? 0 : (uint8_t)x;
    }
}

static size_t compress(enum loch_wal_compression kind, const uint8_t body[REST], uint8_t *out,
                       size_t room)
{
    size_t len = 0;
    switch (kind) {
    case LOCH_WAL_PLAIN:
        memcpy(out, body, REST);
        return REST;
    case LOCH_WAL_LZ4:
        return (size_t)LZ4_compress_default((const char *)body, (char *)out, REST, (int)room);
    case LOCH_WAL_ZSTD:
        return ZSTD_compress(out, room, body, REST, 3);
    case LOCH_WAL_PGLZ:
        for (size_t i = 0; i < REST; i++) { /* literals alone */
            if (i % 8 == 0)
                out[len++] = 0;
            out[len++] = body[i];
        }
        return len;
    }
    return 0;
}

/* A reference with an image to restore: its header into `head`, its bytes into `data`. */
static void add_image(struct loch_writer *head, struct loch_writer *data, uint8_t id,
                      uint32_t block, enum loch_wal_compression kind, bool broken)
{
    static const uint8_t bits[] = {0, 0x04, 0x08, 0x10};
    uint8_t page[LOCH_PAGE_BYTES], body[REST], packed[2 * LOCH_PAGE_BYTES];
    make_page(block, page);
    memcpy(body, page, HOLE_AT);
    memcpy(body + HOLE_AT, page + HOLE_AT + HOLE_LEN, REST - HOLE_AT);
    const size_t len = compress(kind, body, packed, sizeof packed) - (broken ? 1 : 0);
    assert_true(len > 0 && len < LOCH_PAGE_BYTES);
    loch_write_u8(head, id);
    loch_write_u8(head, 0x10);
    loch_write_u16(head, 0);
    loch_write_u16(head, (uint16_t)len);
    loch_write_u16(head, HOLE_AT);
    loch_write_u8(head, (uint8_t)(0x01 | 0x02 | bits[kind]));
    if (kind != LOCH_WAL_PLAIN)
        loch_write_u16(head, HOLE_LEN);
    loch_write_u32(head, rel.spc);
    loch_write_u32(head, rel.db);
    loch_write_u32(head, rel.rel);
    loch_write_u32(head, block);
    loch_write_bytes(data, packed, len);
}

struct body {
    struct loch_buf head, data;
    struct loch_writer h, d;
};

static void body_begin(struct body *b)
{
    *b = (struct body){0};
    loch_writer_init(&b->h, &b->head);
    loch_writer_init(&b->d, &b->data);
}

static loch_lsn feed_images(struct feed *f, struct body *b)
{
    assert_ok(loch_writer_finish(&b->h));
    assert_ok(loch_writer_finish(&b->d));
    assert_ok(loch_buf_append(&b->head, b->data.data, b->data.len));
    const loch_lsn lsn = feed(f, LOCH_RM_XLOG, 0xB0, &b->head);
    loch_buf_fini(&b->head);
    loch_buf_fini(&b->data);
    return lsn;
}

/* The newest version of the block: its kind, and with an image that it is the page. */
static enum loch_version_kind kind_of(const struct feed *f, uint32_t block, loch_lsn lsn)
{
    struct loch_view *view = NULL;
    struct loch_versions list = {0};
    const struct loch_key key = page_key(block);
    uint8_t page[LOCH_PAGE_BYTES];
    bool base = false;
    assert_ok(loch_view_create(f->timeline, &view));
    assert_ok(loch_collect(view, &key, LOCH_LSN_NONE, lsn, &list, &base));
    assert_true(base);
    assert_int_equal(list.count, 1);
    const enum loch_version_kind kind = list.items[0].kind;
    if (kind == LOCH_VERSION_VALUE) {
        make_page(block, page);
        loch_page_set_lsn(page, lsn);
        assert_int_equal(list.items[0].bytes.len, sizeof page);
        assert_memory_equal(list.items[0].bytes.data, page, sizeof page);
    }
    loch_versions_fini(&list);
    loch_view_destroy(view);
    return kind;
}

static void images_become_pages(void **state)
{
    struct site *s = *state;
    struct feed f = {0};
    struct body b;
    begin(s, &f);
    body_begin(&b);
    for (uint8_t kind = LOCH_WAL_PLAIN; kind <= LOCH_WAL_ZSTD; kind++)
        add_image(&b.h, &b.d, kind, 10u + kind, (enum loch_wal_compression)kind, false);
    add_image(&b.h, &b.d, 4, 20, LOCH_WAL_PGLZ, true);
    add_image(&b.h, &b.d, 5, 21, LOCH_WAL_LZ4, true);
    add_image(&b.h, &b.d, 6, 22, LOCH_WAL_ZSTD, true);
    const loch_lsn lsn = feed_images(&f, &b);
    for (uint32_t kind = LOCH_WAL_PLAIN; kind <= LOCH_WAL_ZSTD; kind++)
        assert_int_equal(kind_of(&f, 10 + kind, lsn), LOCH_VERSION_VALUE);
    for (uint32_t block = 20; block < 23; block++)
        assert_int_equal(kind_of(&f, block, lsn), LOCH_VERSION_RECORD_INIT);
    end(&f);
}

/* As CREATE INDEX USING gin with wal_compression leaves them. */
static void an_index_is_stored_once(void **state)
{
    struct site *s = *state;
    struct feed f = {0};
    struct loch_layers_summary sum;
    begin(s, &f);
    for (uint32_t record = 0; record < 4; record++) {
        struct body b;
        body_begin(&b);
        for (uint32_t i = 0; i < PAGES; i++)
            add_image(&b.h, &b.d, (uint8_t)i, record * PAGES + i, LOCH_WAL_LZ4, false);
        (void)feed_images(&f, &b);
    }
    assert_ok(loch_ingest_freeze(f.ingest));
    assert_ok(loch_timeline_flush(f.timeline));
    loch_timeline_summary(f.timeline, &sum);
    assert_true(sum.file_bytes < (uint64_t)4 * PAGES * 2 * REST); /* once: about half of that */
    end(&f);
}

/* ---- truncations ---- */

static void truncate_to(struct feed *f, uint32_t blocks)
{
    struct loch_buf body = {0};
    struct loch_writer w;
    loch_writer_init(&w, &body);
    loch_write_u8(&w, 255);
    loch_write_u8(&w, 20);
    loch_write_u32(&w, blocks);
    loch_write_u32(&w, rel.spc);
    loch_write_u32(&w, rel.db);
    loch_write_u32(&w, rel.rel);
    loch_write_u32(&w, 1); /* the heap alone */
    assert_ok(loch_writer_finish(&w));
    (void)feed(f, LOCH_RM_SMGR, 0x20, &body);
    loch_buf_fini(&body);
}

static loch_lsn grow_to(struct feed *f, uint32_t blocks)
{
    struct body b;
    body_begin(&b);
    add_image(&b.h, &b.d, 0, blocks - 1, LOCH_WAL_PLAIN, false);
    return feed_images(f, &b);
}

static struct loch_cut newest_cut(const struct feed *f)
{
    const struct loch_key key = {
        .kind = LOCH_KEY_REL_CUT, .spc = rel.spc, .db = rel.db, .rel = rel.rel};
    struct loch_view *view = NULL;
    struct loch_cut cut;
    bool found = false;
    assert_ok(loch_view_create(f->timeline, &view));
    assert_ok(loch_cut_newest(view, &key, LOCH_LSN_NONE, LOCH_LSN_MAX, &cut, &found));
    assert_true(found);
    loch_view_destroy(view);
    return cut;
}

static void truncations_know_of_each_other(void **state)
{
    struct site *s = *state;
    struct feed f = {0};
    begin(s, &f);
    (void)grow_to(&f, 9);
    truncate_to(&f, 3);
    const struct loch_cut first = newest_cut(&f);
    assert_int_equal(first.first, 3);
    assert_true(first.linked);
    assert_int_equal(first.next.lsn, LOCH_LSN_NONE);
    for (uint32_t i = 0; i < 5; i++) {
        (void)grow_to(&f, 6);
        truncate_to(&f, 5);
        const struct loch_cut cut = newest_cut(&f);
        assert_true(cut.lsn > first.lsn);
        assert_int_equal(cut.next.lsn, first.lsn);
        assert_int_equal(cut.next.first, 3);
        assert_int_equal(cut.leap.lsn, first.lsn);
    }
    end(&f);
}

#define WITH_SITE(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(images_become_pages),
        WITH_SITE(an_index_is_stored_once),
        WITH_SITE(truncations_know_of_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
