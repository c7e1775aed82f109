/* Reads of the engine beside reads of the model. */
#include "model.h"

#include "read/collect.h"
#include "read/view.h"

#include "loch/base/check.h"
#include "loch/pg/slru.h"

#include <string.h>

static void expect(const struct history *h, loch_status st, const char *what, const struct line *l,
                   loch_lsn lsn)
{
    if (!loch_is_ok(st))
        violation(h, "%s of timeline %d at %llu fails: %s", what, (int)(l - h->lines),
                  (unsigned long long)lsn, loch_error_text());
}

static void check_page(struct history *h, struct loch_view *view, const struct line *line,
                       loch_lsn lsn)
{
    struct loch_key key = random_page(h);
    struct loch_rel rel = {key.spc, key.db, key.rel};
    uint8_t ours[LOCH_PAGE_BYTES], theirs[LOCH_PAGE_BYTES];
    bool exists = false;
    uint32_t blocks = 0, wanted = 0;
    expect(h, loch_view_rel_size(view, &rel, key.fork, lsn, &exists, &blocks), "size", line, lsn);
    if (exists != model_size(line, &key, lsn, &wanted) || blocks != wanted)
        violation(h, "relation %u/%u fork %u has %u blocks instead of %u at %llu", key.db, key.rel,
                  key.fork, blocks, wanted, (unsigned long long)lsn);
    expect(h, loch_view_page(view, &rel, key.fork, key.block, lsn, ours), "page", line, lsn);
    model_page(line, &key, lsn, theirs);
    if (memcmp(ours, theirs, sizeof ours) != 0)
        violation(h, "page %u/%u fork %u block %u is another at %llu", key.db, key.rel, key.fork,
                  key.block, (unsigned long long)lsn);
    model_count(h, line, &key, lsn);
}

/* What is hidden from a block, of those also that no relation here reaches. */
static void check_floor(struct history *h, struct loch_view *view, const struct line *line,
                        loch_lsn lsn)
{
    struct loch_key key = random_page(h);
    loch_lsn floor = LOCH_LSN_NONE;
    key.block = (uint32_t)roll(h, 16);
    expect(h, loch_key_floor(view, &key, lsn, &floor), "floor", line, lsn);
    if (floor != model_floor(line, &key, lsn))
        violation(h, "of %u/%u fork %u block %u what is older than %llu is hidden at %llu", key.db,
                  key.rel, key.fork, key.block, (unsigned long long)floor, (unsigned long long)lsn);
}

static void check_slru(struct history *h, struct loch_view *view, const struct line *line,
                       loch_lsn lsn)
{
    struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .block = (uint32_t)roll(h, 3)};
    uint8_t theirs[LOCH_PAGE_BYTES];
    struct loch_buf ours = {0};
    bool found = false;
    expect(h, loch_view_get(view, &key, lsn, &ours, &found, NULL), "SLRU page", line, lsn);
    bool there = model_slru(line, &key, lsn, theirs);
    if (found != there || (found && memcmp(ours.data, theirs, LOCH_PAGE_BYTES) != 0))
        violation(h, "SLRU page %u is another at %llu", key.block, (unsigned long long)lsn);
    loch_buf_fini(&ours);
}

/* The tip, a held LSN, or any. */
static loch_lsn choose_lsn(struct history *h, const struct line *line)
{
    uint64_t kind = roll(h, 4);
    if (kind == 0)
        return line->last;
    const struct line *child = &h->lines[roll(h, LINES_MAX)];
    const struct lease *lease = &h->leases[roll(h, LEASES_MAX)];
    if (kind == 1 && child->used && child->parent == line)
        return child->start;
    if (kind == 1 && lease->line == line)
        return lease->lsn;
    return START_LSN + roll(h, line->last - START_LSN + 1);
}

void check_line(struct history *h, struct line *line, unsigned reads)
{
    struct loch_view *view = NULL;
    expect(h, loch_view_create(line->timeline, &view), "view", line, 0);
    for (unsigned i = 0; i < reads; i++) {
        loch_lsn lsn = choose_lsn(h, line);
        loch_status st = loch_view_readable(view, lsn);
        if (!loch_is_ok(st)) {
            if (must_be_readable(h, line, lsn))
                violation(h, "timeline %d refuses %llu: %s", (int)(line - h->lines),
                          (unsigned long long)lsn, loch_error_text());
            h->refused++;
            continue;
        }
        for (unsigned k = 0; k < 3; k++)
            check_page(h, view, line, lsn);
        check_floor(h, view, line, lsn);
        check_slru(h, view, line, lsn);
        h->reads++;
    }
    loch_view_destroy(view);
}

static void count_chain(struct history *h, struct loch_view *view, const struct line *line,
                        loch_lsn lsn)
{
    struct loch_key key = random_page(h);
    struct loch_versions list = {0};
    loch_lsn floor = LOCH_LSN_NONE;
    bool base = false;
    key.fork = LOCH_FORK_VM;
    expect(h, loch_key_floor(view, &key, lsn, &floor), "floor", line, lsn);
    expect(h, loch_collect(view, &key, floor, lsn, &list, &base), "collect", line, lsn);
    size_t records = list.count;
    if (base && list.items[list.count - 1].kind == LOCH_VERSION_VALUE)
        records--;
    if (records > RECORDS_MAX)
        violation(h, "a read of timeline %d at %llu applies %zu records", (int)(line - h->lines),
                  (unsigned long long)lsn, records);
    h->bounds++;
    loch_versions_fini(&list);
}

void check_bound(struct history *h, struct line *line)
{
    struct loch_view *view = NULL;
    for (const struct line *l = line; l != NULL && h->store.no_memory_images; l = l->parent) {
        if (loch_timeline_disk_consistent_lsn(l->timeline) != l->last)
            return; /* what is in memory is not bounded then */
    }
    expect(h, loch_view_create(line->timeline, &view), "view", line, 0);
    for (unsigned i = 0; i < 6; i++) {
        loch_lsn lsn = choose_lsn(h, line);
        if (loch_is_ok(loch_view_readable(view, lsn)))
            count_chain(h, view, line, lsn);
    }
    loch_view_destroy(view);
}
