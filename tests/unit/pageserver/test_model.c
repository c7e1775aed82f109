/* The store against a model that keeps everything: random puts, operations, cuts, dropped
 * databases, freezes, flushes, restarts and branches; then every key read at random LSNs, and
 * scans. The seed is printed on failure: LOCH_SEED=n runs one seed. */
#include "store_fixture.h"

#include "read/cuts.h"

#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

#define LINES_MAX   4u
#define STEPS       700u
#define ENTRIES_MAX 4096u

struct entry {
    struct loch_key key;
    loch_lsn lsn;
    bool op;
    uint8_t *bytes;
    size_t len;
};

struct line { /* a timeline and all that was put into it */
    struct loch_timeline *timeline;
    struct line *parent;
    loch_lsn start, last, durable;
    struct entry entries[ENTRIES_MAX];
    size_t count, durable_count;
};

struct world {
    struct site *site;
    struct line *lines[LINES_MAX];
    size_t line_count;
    uint64_t random;
};

static uint64_t roll(struct world *w, uint64_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random % below;
}

/* ---- the model ---- */

/* The newest entry of the key at or below `lsn` from floor on; walks up to the ancestors. */
static const struct entry *newest(const struct line *line, const struct loch_key *key,
                                  loch_lsn floor, loch_lsn lsn)
{
    for (; line != NULL; line = line->parent) {
        for (size_t i = line->count; i-- > 0;) {
            const struct entry *e = &line->entries[i];
            if (e->lsn <= lsn && e->lsn >= floor && loch_key_compare(&e->key, key) == 0)
                return e;
        }
        if (line->start < lsn)
            lsn = line->start;
    }
    return NULL;
}

static loch_lsn db_floor(const struct line *line, const struct loch_key *key, loch_lsn lsn)
{
    struct loch_key db = {.kind = LOCH_KEY_DATABASE, .spc = key->spc, .db = key->db};
    const struct entry *e = newest(line, &db, 0, lsn);
    return e != NULL ? e->lsn : 0;
}

/* All cuts, oldest to newest, of the line and its ancestors at or below lsn. */
static loch_lsn cut_floor(const struct line *line, const struct loch_key *page, loch_lsn low,
                          loch_lsn lsn)
{
    loch_lsn floor = low;
    bool slru = page->kind == LOCH_KEY_SLRU_PAGE;
    for (; line != NULL; line = line->parent) {
        for (size_t i = 0; i < line->count; i++) {
            const struct entry *e = &line->entries[i];
            if (e->lsn > lsn || e->lsn < floor)
                continue;
            if (!slru && e->key.kind == LOCH_KEY_REL_CUT && e->key.rel == page->rel &&
                e->key.db == page->db && e->key.fork == page->fork &&
                loch_get_u32(e->bytes) <= page->block)
                floor = e->lsn;
            if (slru && e->key.kind == LOCH_KEY_SLRU_CUT && e->key.rel == page->rel &&
                (e->bytes[4] != 0 ||
                 loch_slru_page_is_cut((uint8_t)page->rel, page->block, loch_get_u32(e->bytes))))
                floor = e->lsn;
        }
        if (line->start < lsn)
            lsn = line->start;
    }
    return floor;
}

/* Replays entries of the key oldest first. */
static bool replay(const struct line *line, const struct loch_key *key, loch_lsn floor,
                   loch_lsn lsn, uint8_t page[LOCH_PAGE_BYTES])
{
    bool any = false;
    if (line->parent != NULL)
        any = replay(line->parent, key, floor, lsn < line->start ? lsn : line->start, page);
    for (size_t i = 0; i < line->count; i++) {
        const struct entry *e = &line->entries[i];
        if (e->lsn > lsn || e->lsn < floor || loch_key_compare(&e->key, key) != 0)
            continue;
        any = true;
        if (!e->op)
            memcpy(page, e->bytes, LOCH_PAGE_BYTES);
        else if (key->kind == LOCH_KEY_SLRU_PAGE)
            assert_ok(loch_slru_apply(loch_slice_of(e->bytes, e->len), page));
        else
            assert_ok(loch_vm_apply(loch_slice_of(e->bytes, e->len), e->lsn, page));
    }
    return any;
}

static bool model_size(const struct line *line, const struct loch_key *page, loch_lsn lsn,
                       uint32_t *blocks)
{
    struct loch_key key = *page;
    key.kind = LOCH_KEY_REL_SIZE;
    key.block = 0;
    loch_lsn floor = db_floor(line, page, lsn);
    const struct entry *e = newest(line, &key, floor, lsn);
    if (e == NULL || e->len == 0)
        return false;
    *blocks = loch_get_u32(e->bytes);
    return true;
}

static void model_page(const struct line *line, const struct loch_key *key, loch_lsn lsn,
                       uint8_t page[LOCH_PAGE_BYTES])
{
    uint32_t blocks = 0;
    memset(page, 0, LOCH_PAGE_BYTES);
    if (!model_size(line, key, lsn, &blocks) || key->block >= blocks)
        return;
    loch_lsn floor = db_floor(line, key, lsn);
    replay(line, key, cut_floor(line, key, floor, lsn), lsn, page);
}

/* ---- random deeds ---- */

static void put(struct world *w, struct line *line, const struct loch_key *key, loch_lsn lsn,
                bool op, const void *bytes, size_t len)
{
    (void)w;
    assert_true(line->count < ENTRIES_MAX);
    struct entry *e = &line->entries[line->count++];
    *e = (struct entry){.key = *key, .lsn = lsn, .op = op, .len = len};
    e->bytes = malloc(len + 1);
    assert_non_null(e->bytes);
    if (len > 0)
        memcpy(e->bytes, bytes, len);
    if (op)
        assert_ok(loch_timeline_put_op(line->timeline, key, lsn, loch_slice_of(bytes, len)));
    else
        assert_ok(loch_timeline_put_value(line->timeline, key, lsn, loch_slice_of(bytes, len)));
}

static struct loch_key random_page(struct world *w)
{
    return (struct loch_key){.kind = LOCH_KEY_PAGE,
                             .fork = roll(w, 4) == 0 ? LOCH_FORK_VM : LOCH_FORK_MAIN,
                             .spc = 1663,
                             .db = (uint32_t)(1 + roll(w, 2)),
                             .rel = (uint32_t)(10 + roll(w, 3)),
                             .block = (uint32_t)roll(w, 6)};
}

static void put_size(struct world *w, struct line *line, const struct loch_key *page, loch_lsn lsn,
                     uint32_t blocks)
{
    struct loch_key key = *page;
    uint8_t bytes[4];
    key.kind = LOCH_KEY_REL_SIZE;
    key.block = 0;
    loch_put_u32(bytes, blocks);
    put(w, line, &key, lsn, false, bytes, sizeof bytes);
}

static void deed_page(struct world *w, struct line *line, loch_lsn lsn)
{
    struct loch_key key = random_page(w);
    uint32_t blocks = 0;
    uint8_t bytes[LOCH_PAGE_BYTES];
    if (!model_size(line, &key, line->last, &blocks) || blocks <= key.block)
        put_size(w, line, &key, lsn, key.block + 1);
    if (key.fork == LOCH_FORK_VM && roll(w, 8) != 0) {
        uint8_t op[6] = {roll(w, 3) == 0 ? LOCH_VM_CLEAR : LOCH_VM_SET};
        loch_put_u32(op + 1, key.block * LOCH_VM_HEAP_BLOCKS_PER_PAGE + (uint32_t)roll(w, 40));
        op[5] = 3;
        put(w, line, &key, lsn, true, op, sizeof op);
        return;
    }
    loch_page_init(bytes, 0);
    memset(bytes + 24, (int)roll(w, 256), LOCH_PAGE_BYTES - 24);
    loch_page_set_lsn(bytes, lsn);
    put(w, line, &key, lsn, false, bytes, sizeof bytes);
}

static void deed_slru(struct world *w, struct line *line, loch_lsn lsn)
{
    struct loch_key key = {
        .kind = LOCH_KEY_SLRU_PAGE, .rel = LOCH_SLRU_XACT, .block = (uint32_t)roll(w, 3)};
    uint8_t op[4] = {LOCH_SLRU_XACT_STATUS, (uint8_t)(1 + roll(w, 2))};
    loch_put_u16(op + 2, (uint16_t)roll(w, 32768));
    if (roll(w, 10) == 0) {
        struct loch_key cut = {.kind = LOCH_KEY_SLRU_CUT, .rel = LOCH_SLRU_XACT};
        uint8_t bytes[5] = {0};
        loch_put_u32(bytes, (uint32_t)roll(w, 100));
        bytes[4] = roll(w, 5) == 0;
        put(w, line, &cut, lsn, false, bytes, sizeof bytes);
        return;
    }
    put(w, line, &key, lsn, true, op, sizeof op);
}

/* One in four as they were made before they knew of each other. */
static void put_cut(struct world *w, struct line *line, const struct loch_key *key, loch_lsn lsn,
                    uint32_t first)
{
    struct loch_cut cut = {.lsn = lsn, .first = first};
    uint8_t bytes[LOCH_CUT_BYTES];
    if (roll(w, 4) != 0) {
        struct loch_view *view = NULL;
        assert_ok(loch_view_create(line->timeline, &view));
        assert_ok(loch_cut_make(view, key, lsn, first, &cut));
        loch_view_destroy(view);
    }
    put(w, line, key, lsn, false, bytes, loch_cut_encode(&cut, bytes));
}

static void deed_relation(struct world *w, struct line *line, loch_lsn lsn)
{
    struct loch_key page = random_page(w), cut = page;
    uint32_t blocks = 0, first = roll(w, 4) == 0 ? 0 : (uint32_t)roll(w, 1 + roll(w, 20));
    if (!model_size(line, &page, line->last, &blocks))
        return;
    cut.kind = LOCH_KEY_REL_CUT;
    cut.block = 0;
    put_cut(w, line, &cut, lsn, first);
    if (first == 0 && roll(w, 2) == 0) {
        cut.kind = LOCH_KEY_REL_SIZE;
        put(w, line, &cut, lsn, false, NULL, 0);
    } else if (first < blocks) {
        put_size(w, line, &page, lsn, first);
    }
}

static void deed_database(struct world *w, struct line *line, loch_lsn lsn)
{
    struct loch_key key = {
        .kind = LOCH_KEY_DATABASE, .spc = 1663, .db = (uint32_t)(1 + roll(w, 2))};
    uint8_t exists = roll(w, 2) == 0;
    put(w, line, &key, lsn, false, &exists, 1);
}

static void record(struct world *w, struct line *line)
{
    loch_lsn lsn = line->last + 8 * (1 + roll(w, 5));
    uint64_t kind = roll(w, 100);
    if (kind < 70)
        deed_page(w, line, lsn);
    else if (kind < 83)
        deed_slru(w, line, lsn);
    else if (kind < 98)
        deed_relation(w, line, lsn);
    else
        deed_database(w, line, lsn);
    loch_timeline_advance(line->timeline, lsn, line->last);
    line->last = lsn;
}

static void flush(struct line *line)
{
    assert_ok(loch_timeline_freeze(line->timeline, loch_slice_of("c", 1)));
    assert_ok(loch_timeline_flush(line->timeline));
    line->durable = line->last;
    line->durable_count = line->count;
}

/* A crash: what was not flushed is gone; a leaf only, so that no child holds the timeline. */
static void restart(struct world *w, struct line *line)
{
    for (size_t i = 0; i < w->line_count; i++) {
        if (w->lines[i]->parent == line)
            return;
    }
    line->timeline =
        site_reopen(w->site, line->timeline, line->parent != NULL ? line->parent->timeline : NULL);
    assert_int_equal(loch_timeline_last_record_lsn(line->timeline), line->durable);
    assert_int_equal(loch_timeline_disk_consistent_lsn(line->timeline), line->durable);
    while (line->count > line->durable_count)
        free(line->entries[--line->count].bytes);
    line->last = line->durable;
}

static void add_line(struct world *w, struct line *parent)
{
    if (w->line_count == LINES_MAX)
        return;
    struct line *line = calloc(1, sizeof *line);
    assert_non_null(line);
    line->parent = parent;
    line->start = 1000;
    if (parent != NULL)
        line->start = parent->start + roll(w, parent->last - parent->start + 1);
    if (parent != NULL && line->start == parent->start)
        line->start = parent->last;
    line->last = line->durable = line->start;
    line->timeline = site_timeline(w->site, line->start, parent != NULL ? parent->timeline : NULL);
    if (parent == NULL) {
        for (int i = 0; i < 20; i++) /* an import: everything at the start */
            deed_page(w, line, line->start);
    }
    assert_ok(loch_timeline_commit(line->timeline, line->start - 8, loch_slice_of("c", 1)));
    line->durable_count = line->count;
    w->lines[w->line_count++] = line;
}

/* ---- checking ---- */

static void check_page(struct world *w, struct loch_view *view, struct line *line, loch_lsn lsn)
{
    struct loch_key key = random_page(w);
    struct loch_rel rel = {key.spc, key.db, key.rel};
    uint8_t ours[LOCH_PAGE_BYTES], theirs[LOCH_PAGE_BYTES];
    bool exists = false, model = false;
    uint32_t blocks = 0, wanted = 0;
    assert_ok(loch_view_rel_size(view, &rel, key.fork, lsn, &exists, &blocks));
    model = model_size(line, &key, lsn, &wanted);
    assert_int_equal(exists, model);
    assert_int_equal(blocks, model ? wanted : 0);
    assert_ok(loch_view_page(view, &rel, key.fork, key.block, lsn, ours));
    model_page(line, &key, lsn, theirs);
    assert_memory_equal(ours, theirs, LOCH_PAGE_BYTES);
}

static void check_slru(struct world *w, struct loch_view *view, struct line *line, loch_lsn lsn)
{
    struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .block = 31 * (uint32_t)roll(w, 3)};
    uint8_t theirs[LOCH_PAGE_BYTES] = {0};
    struct loch_buf ours = {0};
    bool found = false;
    bool model = replay(line, &key, cut_floor(line, &key, 0, lsn), lsn, theirs);
    assert_ok(loch_view_get(view, &key, lsn, &ours, &found, NULL));
    assert_int_equal(found, model);
    if (found)
        assert_memory_equal(ours.data, theirs, LOCH_PAGE_BYTES);
    loch_buf_fini(&ours);
}

struct scanned {
    struct line *line;
    loch_lsn lsn;
    struct loch_key last;
    size_t count;
};

static loch_status see(void *arg, const struct loch_key *key, struct loch_slice value,
                       loch_lsn version)
{
    struct scanned *s = arg;
    uint32_t wanted = 0;
    assert_true(s->count == 0 || loch_key_compare(&s->last, key) < 0);
    assert_true(version <= s->lsn);
    assert_true(model_size(s->line, key, s->lsn, &wanted));
    assert_int_equal(value.len, 4);
    assert_int_equal(loch_get_u32(value.data), wanted);
    s->last = *key;
    s->count++;
    return LOCH_OK;
}

static void check_scan(struct loch_view *view, struct line *line, loch_lsn lsn)
{
    struct loch_key first = {.kind = LOCH_KEY_REL_SIZE}, end = {.kind = LOCH_KEY_REL_CUT};
    struct scanned s = {.line = line, .lsn = lsn};
    size_t wanted = 0;
    assert_ok(loch_view_scan(view, &first, &end, lsn, see, &s));
    for (uint32_t db = 1; db <= 2; db++) {
        for (uint32_t rel = 10; rel < 13; rel++) {
            for (uint8_t fork = 0; fork < 4; fork++) {
                struct loch_key key = {.fork = fork, .spc = 1663, .db = db, .rel = rel};
                uint32_t blocks = 0;
                wanted += model_size(line, &key, lsn, &blocks);
            }
        }
    }
    assert_int_equal(s.count, wanted);
}

static void check(struct world *w, struct line *line, unsigned reads)
{
    struct loch_view *view = NULL;
    assert_ok(loch_view_create(line->timeline, &view));
    assert_int_equal(loch_view_last_record_lsn(view), line->last);
    for (unsigned i = 0; i < reads; i++) {
        loch_lsn lsn = roll(w, 3) == 0 ? line->last : 1000 + roll(w, line->last - 1000 + 1);
        check_page(w, view, line, lsn);
        check_slru(w, view, line, lsn);
        if (i % 8 == 0)
            check_scan(view, line, lsn);
    }
    loch_view_destroy(view);
}

static void run_seed(struct site *site, uint64_t seed)
{
    struct world w = {.site = site, .random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1};
    add_line(&w, NULL);
    for (unsigned step = 0; step < STEPS; step++) {
        struct line *line = w.lines[roll(&w, w.line_count)];
        uint64_t kind = roll(&w, 100);
        if (kind < 85)
            record(&w, line);
        else if (kind < 89)
            flush(line);
        else if (kind < 91)
            restart(&w, line);
        else if (kind < 92)
            add_line(&w, line);
        else
            check(&w, line, 3);
    }
    for (size_t i = 0; i < w.line_count; i++)
        check(&w, w.lines[i], 40);
    for (size_t i = w.line_count; i-- > 0;) {
        loch_timeline_release(w.lines[i]->timeline);
        for (size_t k = 0; k < w.lines[i]->count; k++)
            free(w.lines[i]->entries[k].bytes);
        free(w.lines[i]);
    }
}

static void store_equals_model(void **state)
{
    const char *one = getenv("LOCH_SEED");
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1, count = one != NULL ? 1 : 30;
    for (uint64_t seed = first; seed < first + count; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(*state, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(store_equals_model, site_up, site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
