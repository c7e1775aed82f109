/* The model: keeps everything, replays it for every read. */
#include "model.h"

#include "loch/base/check.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

#include <stdlib.h>
#include <string.h>

void note_entry(struct history *h, struct line *line, const struct loch_key *key, loch_lsn lsn,
                bool op, const void *bytes, size_t len)
{
    if (line->count == line->cap) {
        line->cap = line->cap == 0 ? 256 : line->cap * 2;
        line->entries = reallocarray(line->entries, line->cap, sizeof *line->entries);
        LOCH_ASSERT(line->entries != NULL);
    }
    struct entry *e = &line->entries[line->count++];
    *e = (struct entry){.key = *key, .lsn = lsn, .time_us = h->now_us, .op = op, .len = len};
    e->bytes = malloc(len + 1);
    LOCH_ASSERT(e->bytes != NULL);
    if (len > 0)
        memcpy(e->bytes, bytes, len);
}

void note_reached(const struct history *h, struct line *line, loch_lsn lsn)
{
    if (line->reached_count == line->reached_cap) {
        line->reached_cap = line->reached_cap == 0 ? 256 : line->reached_cap * 2;
        line->reached = reallocarray(line->reached, line->reached_cap, sizeof *line->reached);
        LOCH_ASSERT(line->reached != NULL);
    }
    line->reached[line->reached_count++] = (struct reached){lsn, h->now_us};
}

void forget_line(struct line *line)
{
    for (size_t i = 0; i < line->count; i++)
        free(line->entries[i].bytes);
    free(line->entries);
    free(line->reached);
    loch_buf_fini(&line->birth);
    struct loch_id id = line->id;
    *line = (struct line){.id = id};
}

static loch_lsn up(const struct line *line, loch_lsn lsn)
{
    return line->start < lsn ? line->start : lsn;
}

/* The newest entry of the key at or below `lsn` from floor on; walks up to the ancestors. */
static const struct entry *newest(const struct line *line, const struct loch_key *key,
                                  loch_lsn floor, loch_lsn lsn)
{
    for (; line != NULL; lsn = up(line, lsn), line = line->parent) {
        for (size_t i = line->count; i-- > 0;) {
            const struct entry *e = &line->entries[i];
            if (e->lsn <= lsn && e->lsn >= floor && loch_key_compare(&e->key, key) == 0)
                return e;
        }
    }
    return NULL;
}

static loch_lsn db_floor(const struct line *line, const struct loch_key *key, loch_lsn lsn)
{
    struct loch_key db = {.kind = LOCH_KEY_DATABASE, .spc = key->spc, .db = key->db};
    const struct entry *e = newest(line, &db, 0, lsn);
    return e != NULL ? e->lsn : 0;
}

static bool cuts(const struct entry *e, const struct loch_key *page)
{
    if (page->kind == LOCH_KEY_SLRU_PAGE)
        return e->key.kind == LOCH_KEY_SLRU_CUT && e->key.rel == page->rel &&
               (e->bytes[4] != 0 ||
                loch_slru_page_is_cut((uint8_t)page->rel, page->block, loch_get_u32(e->bytes)));
    return e->key.kind == LOCH_KEY_REL_CUT && e->key.rel == page->rel && e->key.db == page->db &&
           e->key.fork == page->fork && loch_get_u32(e->bytes) <= page->block;
}

/* The newest cut of the line and its ancestors at or below lsn. */
static loch_lsn cut_floor(const struct line *line, const struct loch_key *page, loch_lsn low,
                          loch_lsn lsn)
{
    loch_lsn floor = low;
    for (; line != NULL; lsn = up(line, lsn), line = line->parent) {
        for (size_t i = 0; i < line->count; i++) {
            const struct entry *e = &line->entries[i];
            if (e->lsn <= lsn && e->lsn >= floor && cuts(e, page))
                floor = e->lsn;
        }
    }
    return floor;
}

loch_lsn model_floor(const struct line *line, const struct loch_key *page, loch_lsn lsn)
{
    return cut_floor(line, page, db_floor(line, page, lsn), lsn);
}

/* Replays entries of the key oldest first. */
static bool replay(const struct line *line, const struct loch_key *key, loch_lsn floor,
                   loch_lsn lsn, uint8_t page[LOCH_PAGE_BYTES])
{
    bool any = false;
    if (line->parent != NULL)
        any = replay(line->parent, key, floor, up(line, lsn), page);
    for (size_t i = 0; i < line->count; i++) {
        const struct entry *e = &line->entries[i];
        loch_status st = LOCH_OK;
        if (e->lsn > lsn || e->lsn < floor || loch_key_compare(&e->key, key) != 0)
            continue;
        any = true;
        if (!e->op)
            memcpy(page, e->bytes, LOCH_PAGE_BYTES);
        else if (key->kind == LOCH_KEY_SLRU_PAGE)
            st = loch_slru_apply(loch_slice_of(e->bytes, e->len), page);
        else
            st = loch_vm_apply(loch_slice_of(e->bytes, e->len), e->lsn, page);
        LOCH_ASSERT(loch_is_ok(st));
    }
    return any;
}

bool model_size(const struct line *line, const struct loch_key *page, loch_lsn lsn,
                uint32_t *blocks)
{
    struct loch_key key = *page;
    key.kind = LOCH_KEY_REL_SIZE;
    key.block = 0;
    const struct entry *e = newest(line, &key, db_floor(line, page, lsn), lsn);
    if (e == NULL || e->len == 0)
        return false;
    *blocks = loch_get_u32(e->bytes);
    return true;
}

void model_page(const struct line *line, const struct loch_key *key, loch_lsn lsn,
                uint8_t page[LOCH_PAGE_BYTES])
{
    uint32_t blocks = 0;
    memset(page, 0, LOCH_PAGE_BYTES);
    if (!model_size(line, key, lsn, &blocks) || key->block >= blocks)
        return;
    replay(line, key, model_floor(line, key, lsn), lsn, page);
}

/* The fork was dropped at or below lsn, in the line or an ancestor. */
static bool was_dropped(const struct line *line, const struct loch_key *page, loch_lsn lsn)
{
    struct loch_key key = *page;
    key.kind = LOCH_KEY_REL_SIZE;
    key.block = 0;
    for (; line != NULL; lsn = up(line, lsn), line = line->parent) {
        for (size_t i = 0; i < line->count; i++) {
            const struct entry *e = &line->entries[i];
            if (e->lsn <= lsn && e->len == 0 && loch_key_compare(&e->key, &key) == 0)
                return true;
        }
    }
    return false;
}

void model_count(struct history *h, const struct line *line, const struct loch_key *key,
                 loch_lsn lsn)
{
    uint32_t blocks = 0;
    if (!model_size(line, key, lsn, &blocks) || key->block >= blocks)
        return;
    const loch_lsn low = db_floor(line, key, lsn), floor = cut_floor(line, key, low, lsn);
    h->reused += was_dropped(line, key, lsn);
    h->extended_again += floor > low && newest(line, key, floor, lsn) != NULL;
    h->cut_below += floor > low && line->parent != NULL && floor <= line->start;
}

bool model_slru(const struct line *line, const struct loch_key *key, loch_lsn lsn,
                uint8_t page[LOCH_PAGE_BYTES])
{
    memset(page, 0, LOCH_PAGE_BYTES);
    return replay(line, key, cut_floor(line, key, 0, lsn), lsn, page);
}

/* ---- what must be readable ---- */

static loch_lsn window_start(const struct history *h, const struct line *line)
{
    int64_t since = h->now_us - (int64_t)WINDOW_S * 1000000;
    loch_lsn by_time = line->start;
    loch_lsn by_bytes = line->last > WINDOW_BYTES ? line->last - WINDOW_BYTES : 0;
    for (size_t i = 0; i < line->reached_count; i++) {
        if (line->reached[i].time_us <= since)
            by_time = line->reached[i].lsn;
    }
    return by_time < by_bytes ? by_time : by_bytes;
}

bool must_be_readable(const struct history *h, const struct line *line, loch_lsn lsn)
{
    while (line->parent != NULL && lsn < line->start)
        line = line->parent;
    if (lsn < line->start)
        return false;
    for (size_t i = 0; i < LINES_MAX; i++) {
        if (h->lines[i].used && h->lines[i].parent == line && h->lines[i].start == lsn)
            return true;
    }
    for (size_t i = 0; i < LEASES_MAX; i++) {
        if (h->leases[i].line == line && h->leases[i].lsn == lsn)
            return true;
    }
    return lsn >= window_start(h, line);
}
