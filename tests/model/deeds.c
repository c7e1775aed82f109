/* What happens to the engine: records, flushes, merges, time, collection, branches, leases, deaths.
 */
#include "model.h"

#include "read/cuts.h"
#include "read/page_cache.h"
#include "read/view.h"
#include "store/compact.h"

#include "loch/base/check.h"
#include "loch/host/keys.h"
#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MS (10u * 60u * 1000u)

/* ---- records ---- */

static void put(struct history *h, struct line *line, const struct loch_key *key, loch_lsn lsn,
                bool op, const void *bytes, size_t len)
{
    note_entry(h, line, key, lsn, op, bytes, len);
    loch_status st =
        op ? loch_timeline_put_op(line->timeline, key, lsn, loch_slice_of(bytes, len))
           : loch_timeline_put_value(line->timeline, key, lsn, loch_slice_of(bytes, len));
    LOCH_ASSERT(loch_is_ok(st));
}

struct loch_key random_page(struct history *h)
{
    return (struct loch_key){.kind = LOCH_KEY_PAGE,
                             .fork = roll(h, 4) != 0 ? LOCH_FORK_VM : LOCH_FORK_MAIN,
                             .spc = 1663,
                             .db = (uint32_t)(1 + roll(h, 2)),
                             .rel = 10 + (uint32_t)roll(h, 2),
                             .block = (uint32_t)roll(h, 3)};
}

static void put_size(struct history *h, struct line *line, const struct loch_key *page,
                     loch_lsn lsn, uint32_t blocks)
{
    struct loch_key key = *page;
    uint8_t bytes[4];
    key.kind = LOCH_KEY_REL_SIZE;
    key.block = 0;
    loch_put_u32(bytes, blocks);
    put(h, line, &key, lsn, false, bytes, sizeof bytes);
}

static void write_page(struct history *h, struct line *line, loch_lsn lsn)
{
    struct loch_key key = random_page(h);
    uint32_t blocks = 0;
    uint8_t bytes[LOCH_PAGE_BYTES];
    if (!model_size(line, &key, line->last, &blocks) || blocks <= key.block)
        put_size(h, line, &key, lsn, key.block + 1);
    if (key.fork == LOCH_FORK_VM && roll(h, 12) != 0) {
        uint8_t op[6] = {roll(h, 3) == 0 ? LOCH_VM_CLEAR : LOCH_VM_SET};
        loch_put_u32(op + 1, key.block * LOCH_VM_HEAP_BLOCKS_PER_PAGE + (uint32_t)roll(h, 40));
        op[5] = 3;
        put(h, line, &key, lsn, true, op, sizeof op);
        return;
    }
    loch_page_init(bytes, 0);
    memset(bytes + 24, (int)roll(h, 256), LOCH_PAGE_BYTES - 24);
    loch_page_set_lsn(bytes, lsn);
    put(h, line, &key, lsn, false, bytes, sizeof bytes);
}

static void write_slru(struct history *h, struct line *line, loch_lsn lsn)
{
    struct loch_key key = {
        .kind = LOCH_KEY_SLRU_PAGE, .rel = LOCH_SLRU_XACT, .block = (uint32_t)roll(h, 3)};
    uint8_t op[4] = {LOCH_SLRU_XACT_STATUS, (uint8_t)(1 + roll(h, 2))};
    loch_put_u16(op + 2, (uint16_t)roll(h, 32768));
    if (roll(h, 10) == 0) {
        struct loch_key cut = {.kind = LOCH_KEY_SLRU_CUT, .rel = LOCH_SLRU_XACT};
        uint8_t bytes[5] = {0};
        loch_put_u32(bytes, (uint32_t)roll(h, 100));
        bytes[4] = roll(h, 5) == 0;
        put(h, line, &cut, lsn, false, bytes, sizeof bytes);
        return;
    }
    put(h, line, &key, lsn, true, op, sizeof op);
}

/* One in four as they were made before they knew of each other. */
static void put_cut(struct history *h, struct line *line, const struct loch_key *key, loch_lsn lsn,
                    uint32_t first)
{
    struct loch_cut cut = {.lsn = lsn, .first = first};
    uint8_t bytes[LOCH_CUT_BYTES];
    if (roll(h, 4) != 0) {
        struct loch_view *view = NULL;
        loch_status st = loch_view_create(line->timeline, &view);
        if (loch_is_ok(st))
            st = loch_cut_make(view, key, lsn, first, &cut);
        loch_view_destroy(view);
        if (!loch_is_ok(st) && !world_dead(h->world))
            violation(h, "a cut cannot be made: %s", loch_error_text());
    }
    put(h, line, key, lsn, false, bytes, loch_cut_encode(&cut, bytes));
}

/* Truncates or drops a relation's fork; later pages make it grow or come again under its id. */
static void cut_relation(struct history *h, struct line *line, loch_lsn lsn)
{
    struct loch_key page = random_page(h), cut = page;
    uint32_t blocks = 0, first = roll(h, 4) == 0 ? 0 : (uint32_t)roll(h, 1 + roll(h, 16));
    if (!model_size(line, &page, line->last, &blocks))
        return;
    cut.kind = LOCH_KEY_REL_CUT;
    cut.block = 0;
    put_cut(h, line, &cut, lsn, first);
    if (first == 0 && roll(h, 2) == 0) {
        cut.kind = LOCH_KEY_REL_SIZE;
        put(h, line, &cut, lsn, false, NULL, 0);
    } else if (first < blocks) {
        put_size(h, line, &page, lsn, first);
    }
}

static void make_database(struct history *h, struct line *line, loch_lsn lsn)
{
    struct loch_key key = {
        .kind = LOCH_KEY_DATABASE, .spc = 1663, .db = (uint32_t)(1 + roll(h, 2))};
    uint8_t exists = roll(h, 2) == 0;
    put(h, line, &key, lsn, false, &exists, 1);
}

static void record(struct history *h, struct line *line)
{
    loch_lsn lsn = line->last + 8 * (1 + roll(h, 3));
    uint64_t kind = roll(h, 100);
    if (kind < 72)
        write_page(h, line, lsn);
    else if (kind < 84)
        write_slru(h, line, lsn);
    else if (kind < 98)
        cut_relation(h, line, lsn);
    else
        make_database(h, line, lsn);
    loch_timeline_advance(line->timeline, lsn, line->last);
    note_reached(h, line, lsn);
    line->last = lsn;
}

/* ---- death and rebirth ---- */

static void release_lines(struct history *h)
{
    for (size_t i = LINES_MAX; i-- > 0;) {
        if (h->lines[i].used)
            loch_timeline_release(h->lines[i].timeline);
        h->lines[i].timeline = NULL;
    }
}

/* WAL is durable elsewhere: what was lost with memory comes again. */
static void ingest_again(struct history *h, struct line *line)
{
    loch_lsn from = loch_timeline_last_record_lsn(line->timeline), at = from;
    for (size_t i = 0; i < line->count; i++) {
        const struct entry *e = &line->entries[i];
        if (e->lsn <= from)
            continue;
        if (e->lsn > at && at > from)
            loch_timeline_advance(line->timeline, at, at - 8);
        at = e->lsn;
        struct loch_slice bytes = loch_slice_of(e->bytes, e->len);
        loch_status st = e->op ? loch_timeline_put_op(line->timeline, &e->key, e->lsn, bytes)
                               : loch_timeline_put_value(line->timeline, &e->key, e->lsn, bytes);
        LOCH_ASSERT(loch_is_ok(st));
    }
    if (at < line->last)
        at = line->last; /* records that put nothing */
    if (at > from)
        loch_timeline_advance(line->timeline, at, at - 8);
    if (loch_timeline_last_record_lsn(line->timeline) != line->last)
        violation(h, "timeline %d came back with more than it was given", (int)(line - h->lines));
}

/* Ancestors first: what a branch puts may read them. */
static size_t in_order(struct history *h, struct line *order[LINES_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < LINES_MAX; i++) {
        if (h->lines[i].used && h->lines[i].parent == NULL)
            order[n++] = &h->lines[i];
    }
    for (size_t done = 0; done < n; done++) {
        for (size_t i = 0; i < LINES_MAX; i++) {
            if (h->lines[i].used && h->lines[i].parent == order[done])
                order[n++] = &h->lines[i];
        }
    }
    return n;
}

/* Idle time before any WAL has come: what stands on an ancestor that lacks some has to wait. */
static void merge_early(struct history *h, struct line *line)
{
    const struct loch_compaction c = {
        .settings = {.fan_in = 2, .band_bytes = 20000, .base_percent = 30},
        .file_bytes = 20000,
        .idle_records = 1,
        .idle_bytes = 100000};
    struct loch_compaction_stats stats = {0};
    bool done = false;
    const loch_status st = loch_timeline_compact(line->timeline, &c, &done, &stats);
    if (!loch_is_ok(st) && st.code != LOCH_E_UNAVAILABLE)
        violation(h, "a merge after a start fails: %s", loch_error_text());
    h->merges += done;
}

static void reborn(struct history *h)
{
    struct line *order[LINES_MAX];
    release_lines(h);
    loch_page_cache_destroy(h->store.cache);
    world_revive(h->world);
    h->crashes++;
    if (!loch_is_ok(loch_page_cache_create((size_t)1 << 18, &h->store.cache)))
        violation(h, "no memory");
    const size_t count = in_order(h, order);
    for (size_t i = 0; i < count; i++) {
        struct line *line = order[i];
        struct loch_timeline *parent = line->parent != NULL ? line->parent->timeline : NULL;
        if (!loch_is_ok(loch_timeline_open_born(&h->store, h->keys, &h->tenant, &line->id, parent,
                                                loch_buf_slice(&line->birth), &line->timeline)))
            violation(h, "timeline %d does not open: %s", (int)(line - h->lines),
                      loch_error_text());
    }
    for (size_t i = 0; i < count; i++) {
        if (h->seed % 3 != 0 && roll(h, 2) == 0)
            merge_early(h, order[i]);
    }
    for (size_t i = 0; i < count; i++)
        ingest_again(h, order[i]);
    for (size_t i = 0; i < LEASES_MAX; i++) { /* before anything is collected */
        struct lease *lease = &h->leases[i];
        char holder[16];
        snprintf(holder, sizeof holder, "h%zu", i);
        if (lease->line != NULL &&
            !loch_is_ok(loch_timeline_lease(lease->line->timeline, lease->lsn, holder, LEASE_MS)))
            violation(h, "a lease is lost: %s", loch_error_text());
    }
}

/* True: done. False: the world died meanwhile and began again. Any other failure is a defect. */
static bool survived(struct history *h, loch_status st, const char *what)
{
    if (world_dead(h->world)) {
        reborn(h);
        return false;
    }
    if (!loch_is_ok(st))
        violation(h, "%s fails: %s", what, loch_error_text());
    return true;
}

/* ---- the engine's own work ---- */

static loch_status flush_now(struct line *line)
{
    loch_status st = loch_timeline_freeze(line->timeline, loch_slice_of("c", 1));
    return loch_is_ok(st) ? loch_timeline_flush(line->timeline) : st;
}

/* A layer may lie frozen while the next one fills. */
static void flush(struct history *h, struct line *line)
{
    const loch_status st = roll(h, 3) == 0
                               ? loch_timeline_freeze(line->timeline, loch_slice_of("c", 1))
                               : flush_now(line);
    if (survived(h, st, "a flush"))
        check_bound(h, line);
}

struct during {
    struct history *h;
    struct line *line;
};

/* While a merge runs: records, flushes and reads of the same timeline. */
static loch_status between(void *arg)
{
    const struct during *d = arg;
    if (roll(d->h, 30) != 0)
        return LOCH_OK;
    if (world_dead(d->h->world))
        return LOCH_FAIL(LOCH_E_IO, "this life is over");
    record(d->h, d->line);
    LOCH_TRY(flush_now(d->line));
    return LOCH_OK;
}

static void compact(struct history *h, struct line *line, bool everything)
{
    struct during during = {h, line};
    struct loch_compaction c = {
        .settings = {.fan_in = 2 + (uint32_t)roll(h, 3), .band_bytes = 20000, .base_percent = 30},
        .file_bytes = 2000 + roll(h, 20000),
        .pace = between,
        .arg = &during,
        .everything = everything,
        .idle_records = (uint32_t)(h->seed % 3), /* every third history knows no idle time */
        .idle_bytes = 100000};
    struct loch_compaction_stats stats = {0};
    bool done = false;
    if (!survived(h, loch_timeline_compact(line->timeline, &c, &done, &stats), "a merge"))
        return;
    h->merges += done;
    h->dropped_bytes += stats.dropped_bytes;
    check_bound(h, line);
}

static void collect(struct history *h, struct line *line)
{
    const struct loch_pitr_window window = {WINDOW_S, WINDOW_BYTES};
    bool moved = false;
    loch_status st =
        loch_timeline_advance_cutoff(line->timeline, &window, h->now_us, NULL, 0, &moved);
    if (survived(h, st, "moving the cutoff"))
        h->moved += moved;
}

static void renew_leases(struct history *h)
{
    for (size_t i = 0; i < LEASES_MAX; i++) {
        char holder[16];
        snprintf(holder, sizeof holder, "h%zu", i);
        if (h->leases[i].line != NULL &&
            !loch_is_ok(loch_timeline_lease(h->leases[i].line->timeline, h->leases[i].lsn, holder,
                                            LEASE_MS)))
            violation(h, "a lease is not renewed: %s", loch_error_text());
    }
}

static void pass_time(struct history *h)
{
    h->now_us += (int64_t)(1 + roll(h, 200)) * 1000000;
    world_set_time(h->world, h->now_us);
    renew_leases(h);
}

/* ---- branches and leases ---- */

static loch_status create_line(struct history *h, struct line *line, struct line *parent)
{
    struct loch_timeline_info info = {.tenant = h->tenant,
                                      .timeline = line->id,
                                      .system_id = 7,
                                      .pg_version = 150000,
                                      .segment_bytes = 16u << 20,
                                      .start_lsn = line->start};
    if (parent != NULL) {
        info.ancestor = parent->id;
        info.ancestor_lsn = line->start;
    }
    LOCH_TRY(loch_timeline_create(&h->store, h->keys, &info,
                                  parent != NULL ? parent->timeline : NULL, &line->timeline));
    for (int i = 0; i < 6 && parent == NULL; i++) /* an import: everything at the start */
        write_page(h, line, line->start);
    if (parent != NULL && roll(h, 3) > 0)
        return loch_timeline_birth(line->timeline, line->start - 8, loch_slice_of("c", 1), false,
                                   &line->birth);
    return loch_timeline_commit(line->timeline, line->start - 8, loch_slice_of("c", 1));
}

static void remove_files(struct history *h, const struct line *line)
{
    char text[LOCH_ID_TEXT_BYTES];
    world_remove(h->world, loch_id_format(&line->id, text));
}

static void branch(struct history *h, struct line *parent)
{
    struct line *line = NULL;
    for (size_t i = 0; i < LINES_MAX; i++)
        line = h->lines[i].used ? line : &h->lines[i];
    if (line == NULL)
        return;
    loch_lsn lsn = parent->start + roll(h, parent->last - parent->start + 1);
    bool readable = loch_is_ok(loch_timeline_readable(parent->timeline, lsn));
    line->start = line->last = lsn;
    line->timeline = NULL;
    loch_status st = create_line(h, line, parent);
    if (loch_is_ok(st) != readable && !world_dead(h->world))
        violation(h, "a branch at %llu: %s", (unsigned long long)lsn,
                  readable ? loch_error_text() : "made where nothing can be read");
    if (!loch_is_ok(st)) {
        loch_timeline_release(line->timeline);
        remove_files(h, line);
        forget_line(line);
        if (world_dead(h->world))
            reborn(h);
        return;
    }
    line->parent = parent;
    line->used = true;
    h->branches++;
}

static void drop(struct history *h, struct line *line)
{
    if (line->parent == NULL)
        return;
    for (size_t i = 0; i < LINES_MAX; i++) {
        if (h->lines[i].used && h->lines[i].parent == line)
            return;
    }
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (h->leases[i].line == line)
            h->leases[i].line = NULL;
    }
    loch_timeline_release(line->timeline);
    loch_page_cache_drop(h->store.cache, &h->tenant, &line->id);
    remove_files(h, line);
    forget_line(line);
}

static void lease(struct history *h, struct line *line)
{
    size_t i = roll(h, LEASES_MAX);
    loch_lsn lsn = line->start + roll(h, line->last - line->start + 1);
    char holder[16];
    snprintf(holder, sizeof holder, "h%zu", i);
    if (h->leases[i].line != NULL) {
        if (!loch_is_ok(
                loch_timeline_lease_end(h->leases[i].line->timeline, h->leases[i].lsn, holder)))
            violation(h, "a lease cannot be ended: %s", loch_error_text());
        h->leases[i].line = NULL;
        return;
    }
    if (loch_is_ok(loch_timeline_lease(line->timeline, lsn, holder, LEASE_MS)))
        h->leases[i] = (struct lease){line, lsn};
    else if (must_be_readable(h, line, lsn))
        violation(h, "a lease is refused: %s", loch_error_text());
}

/* ---- a history ---- */

static void work(struct history *h, struct line *line)
{
    switch (roll(h, 4)) {
    case 0:
        flush(h, line);
        break;
    case 1:
        collect(h, line);
        break;
    case 2:
        compact(h, line, roll(h, 5) == 0);
        break;
    default:
        branch(h, line);
        break;
    }
}

void do_something(struct history *h)
{
    struct line *line = random_line(h);
    uint64_t kind = roll(h, 100);
    h->operations++;
    if (kind < 58)
        record(h, line);
    else if (kind < 66)
        flush(h, line);
    else if (kind < 73)
        compact(h, line, roll(h, 6) == 0);
    else if (kind < 78)
        pass_time(h);
    else if (kind < 83)
        collect(h, line);
    else if (kind < 85)
        branch(h, line);
    else if (kind < 86)
        drop(h, line);
    else if (kind < 89)
        lease(h, line);
    else if (kind < 90)
        reborn(h); /* between two operations */
    else if (kind < 94) {
        world_die_at(h->world, 1 + roll(h, 10), roll(h, 2));
        work(h, line);
        if (world_dead(h->world))
            reborn(h);
        world_die_at(h->world, 0, 0);
    } else {
        check_line(h, line, 2);
        check_bound(h, line);
    }
}

void begin_history(struct history *h, uint64_t seed)
{
    h->seed = seed;
    h->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    h->store.no_memory_images = seed % 2 == 0;
    h->now_us = INT64_C(1000000000);
    world_set_time(h->world, h->now_us);
    h->lines[0].start = h->lines[0].last = START_LSN;
    h->lines[0].used = true;
    if (!loch_is_ok(create_line(h, &h->lines[0], NULL)))
        violation(h, "a timeline cannot be made: %s", loch_error_text());
}

void end_history(struct history *h)
{
    for (size_t i = 0; i < LINES_MAX; i++) {
        if (h->lines[i].used)
            check_line(h, &h->lines[i], 6);
    }
    release_lines(h);
    for (size_t i = 0; i < LINES_MAX; i++) {
        loch_page_cache_drop(h->store.cache, &h->tenant, &h->lines[i].id);
        forget_line(&h->lines[i]);
    }
    memset(h->leases, 0, sizeof h->leases);
    world_clear(h->world);
}
