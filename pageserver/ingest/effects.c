/* What the effects of a WAL record do to the timeline's keys. */
#include "ingest_impl.h"

#include "../basebackup/aux_file.h"

#include "loch/base/check.h"
#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"
#include "loch/redo/redo.h"

#include <stdlib.h>

/* An SLRU page gets an image after so many operations. */
#define SLRU_OPS_MAX 128u

static struct loch_key rel_key(enum loch_key_kind kind, const struct loch_rel *rel, uint8_t fork,
                               uint32_t block)
{
    return (struct loch_key){.kind = (uint8_t)kind,
                             .fork = fork,
                             .spc = rel->spc,
                             .db = rel->db,
                             .rel = rel->rel,
                             .block = block};
}

static loch_status put_u32(struct loch_ingest *ingest, const struct loch_key *key, loch_lsn lsn,
                           uint32_t value)
{
    uint8_t bytes[4];
    loch_put_u32(bytes, value);
    return loch_timeline_put_value(ingest->timeline, key, lsn, loch_slice_of(bytes, sizeof bytes));
}

static loch_status put_absent(struct loch_ingest *ingest, const struct loch_key *key, loch_lsn lsn)
{
    return loch_timeline_put_value(ingest->timeline, key, lsn, loch_slice_of(NULL, 0));
}

/* Reads a value as of now (what this very record has put included). */
static loch_status get_now(struct loch_ingest *ingest, const struct loch_key *key, loch_lsn lsn,
                           struct loch_buf *out, bool *found)
{
    struct loch_view *view = NULL;
    LOCH_TRY(loch_view_create(ingest->timeline, &view));
    loch_status st = loch_view_get(view, key, lsn, out, found, NULL);
    loch_view_destroy(view);
    return st;
}

/* ---- relations ---- */

static loch_status get_size(struct loch_ingest *ingest, const struct loch_rel *rel, uint8_t fork,
                            loch_lsn lsn, bool *exists, uint32_t *blocks)
{
    if (loch_size_cache_find(&ingest->sizes, rel, fork, exists, blocks))
        return LOCH_OK;
    struct loch_view *view = NULL;
    LOCH_TRY(loch_view_create(ingest->timeline, &view));
    loch_status st = loch_view_rel_size(view, rel, fork, lsn, exists, blocks);
    loch_view_destroy(view);
    LOCH_TRY(st);
    return loch_size_cache_put(&ingest->sizes, rel, fork, *exists, *blocks);
}

static loch_status set_size(struct loch_ingest *ingest, const struct loch_rel *rel, uint8_t fork,
                            loch_lsn lsn, uint32_t blocks)
{
    struct loch_key key = rel_key(LOCH_KEY_REL_SIZE, rel, fork, 0);
    LOCH_TRY(put_u32(ingest, &key, lsn, blocks));
    return loch_size_cache_put(&ingest->sizes, rel, fork, true, blocks);
}

static loch_status grow(struct loch_ingest *ingest, const struct loch_rel *rel, uint8_t fork,
                        loch_lsn lsn, uint32_t block)
{
    bool exists = false;
    uint32_t blocks = 0;
    LOCH_TRY(get_size(ingest, rel, fork, lsn, &exists, &blocks));
    if (exists && block < blocks)
        return LOCH_OK;
    if (block == UINT32_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a record names block %u", block);
    return set_size(ingest, rel, fork, lsn, block + 1);
}

static loch_status cut(struct loch_ingest *ingest, const struct loch_rel *rel, uint8_t fork,
                       loch_lsn lsn, uint32_t first)
{
    const struct loch_key key = rel_key(LOCH_KEY_REL_CUT, rel, fork, 0);
    struct loch_view *view = NULL;
    struct loch_cut made = {0};
    uint8_t bytes[LOCH_CUT_BYTES];
    LOCH_TRY(loch_view_create(ingest->timeline, &view));
    loch_status st = loch_cut_make(view, &key, lsn, first, &made);
    loch_view_destroy(view);
    LOCH_TRY(st);
    const size_t len = loch_cut_encode(&made, bytes);
    return loch_timeline_put_value(ingest->timeline, &key, lsn, loch_slice_of(bytes, len));
}

static loch_status rel_create(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    bool exists = false;
    uint32_t blocks = 0;
    LOCH_TRY(get_size(ingest, &e->rel.rel, e->rel.fork, lsn, &exists, &blocks));
    if (exists)
        return LOCH_OK;
    LOCH_TRY(cut(ingest, &e->rel.rel, e->rel.fork, lsn, 0));
    return set_size(ingest, &e->rel.rel, e->rel.fork, lsn, 0);
}

static loch_status rel_truncate(struct loch_ingest *ingest, const struct loch_effect *e,
                                loch_lsn lsn)
{
    bool exists = false;
    uint32_t blocks = 0;
    LOCH_TRY(get_size(ingest, &e->rel.rel, e->rel.fork, lsn, &exists, &blocks));
    if (!exists || blocks <= e->rel.blocks)
        return LOCH_OK;
    LOCH_TRY(cut(ingest, &e->rel.rel, e->rel.fork, lsn, e->rel.blocks));
    return set_size(ingest, &e->rel.rel, e->rel.fork, lsn, e->rel.blocks);
}

static loch_status rel_drop(struct loch_ingest *ingest, const struct loch_rel *rel, loch_lsn lsn)
{
    for (int f = LOCH_FORK_MAIN; f <= LOCH_FORK_INIT; f++) {
        const uint8_t fork = (uint8_t)f;
        bool exists = false;
        uint32_t blocks = 0;
        LOCH_TRY(get_size(ingest, rel, fork, lsn, &exists, &blocks));
        if (!exists)
            continue;
        struct loch_key key = rel_key(LOCH_KEY_REL_SIZE, rel, fork, 0);
        LOCH_TRY(cut(ingest, rel, fork, lsn, 0));
        LOCH_TRY(put_absent(ingest, &key, lsn));
        LOCH_TRY(loch_size_cache_put(&ingest->sizes, rel, fork, false, 0));
    }
    return LOCH_OK;
}

static loch_status vm_op(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    bool set = e->vm.op.len > 0 && e->vm.op.data[0] == LOCH_VM_SET;
    if (set) {
        LOCH_TRY(grow(ingest, &e->vm.rel, LOCH_FORK_VM, lsn, e->vm.block));
    } else {
        bool exists = false;
        uint32_t blocks = 0;
        LOCH_TRY(get_size(ingest, &e->vm.rel, LOCH_FORK_VM, lsn, &exists, &blocks));
        if (e->vm.block >= blocks)
            return LOCH_OK;
    }
    struct loch_key key = rel_key(LOCH_KEY_PAGE, &e->vm.rel, LOCH_FORK_VM, e->vm.block);
    return loch_timeline_put_op(ingest->timeline, &key, lsn, e->vm.op);
}

/* ---- pages ---- */

/* An image is put as the page, opened if it is compressed: the record may have as many as there are
 * pages in it. One that does not open stays a record, which a read of that page says. */
static loch_status put_image(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn,
                             bool *done)
{
    const struct loch_wal_block *block = loch_wal_record_block(&ingest->record, e->page.block_id);
    uint8_t page[LOCH_PAGE_BYTES];
    *done = false;
    if (!e->page.is_image || block == NULL)
        return LOCH_OK;
    loch_status st = loch_redo_image(block, page);
    if (st.code == LOCH_E_CORRUPT)
        return LOCH_OK;
    LOCH_TRY(st);
    if (!loch_page_is_new(page))
        loch_page_set_lsn(page, lsn);
    struct loch_key key = rel_key(LOCH_KEY_PAGE, &e->page.rel, e->page.fork, e->page.block);
    ingest->stats.page_images++;
    *done = true;
    return loch_timeline_put_value(ingest->timeline, &key, lsn, loch_slice_of(page, sizeof page));
}

/* All PAGE effects of the record: images one by one, the record once for the pages that need it. */
static loch_status put_pages(struct loch_ingest *ingest, const struct loch_wal_span *span)
{
    struct loch_put_ref refs[LOCH_WAL_MAX_BLOCKS];
    size_t count = 0;
    for (size_t i = 0; i < ingest->effects.count; i++) {
        const struct loch_effect *e = &ingest->effects.items[i];
        bool done = false;
        if (e->kind != LOCH_EFFECT_PAGE)
            continue;
        LOCH_TRY(grow(ingest, &e->page.rel, e->page.fork, span->end, e->page.block));
        LOCH_TRY(put_image(ingest, e, span->end, &done));
        if (done)
            continue;
        if (count == LOCH_WAL_MAX_BLOCKS)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a record changes too many pages");
        refs[count++] =
            (struct loch_put_ref){rel_key(LOCH_KEY_PAGE, &e->page.rel, e->page.fork, e->page.block),
                                  e->page.will_init || e->page.is_image};
    }
    ingest->stats.page_records += count;
    return loch_timeline_put_record(ingest->timeline, refs, count, span->start, span->end,
                                    span->bytes);
}

/* ---- databases ---- */

static loch_status put_database(struct loch_ingest *ingest, uint32_t spc, uint32_t db, loch_lsn lsn,
                                bool exists, struct loch_slice path)
{
    struct loch_key key = {.kind = LOCH_KEY_DATABASE, .spc = spc, .db = db};
    struct loch_buf value = {0};
    struct loch_writer w;
    loch_writer_init(&w, &value);
    loch_write_u8(&w, exists ? 1 : 0);
    loch_write_bytes(&w, path.data, path.len);
    loch_status st = loch_writer_finish(&w);
    if (loch_is_ok(st))
        st = loch_timeline_put_value(ingest->timeline, &key, lsn, loch_buf_slice(&value));
    loch_buf_fini(&value);
    if (db != 0)
        loch_size_cache_forget(&ingest->sizes);
    return st;
}

/* ---- SLRUs ---- */

/* The cached page, read from the store when it is not there. */
static loch_status slru_page(struct loch_ingest *ingest, uint8_t slru, uint32_t page, loch_lsn lsn,
                             struct slru_entry **out)
{
    struct slru_entry *oldest = &ingest->slru[0];
    for (size_t i = 0; i < SLRU_CACHE; i++) {
        struct slru_entry *e = &ingest->slru[i];
        if (e->used && e->slru == slru && e->page == page) {
            e->tick = ++ingest->tick;
            *out = e;
            return LOCH_OK;
        }
        if (e->tick < oldest->tick)
            oldest = e;
    }
    if (oldest->bytes == NULL)
        oldest->bytes = malloc(LOCH_PAGE_BYTES);
    if (oldest->bytes == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a page of an SLRU");
    struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .rel = slru, .block = page};
    struct loch_buf value = {0};
    bool found = false;
    loch_status st = get_now(ingest, &key, lsn, &value, &found);
    if (loch_is_ok(st)) {
        uint8_t *bytes = oldest->bytes;
        *oldest = (struct slru_entry){
            .used = true, .slru = slru, .page = page, .tick = ++ingest->tick, .bytes = bytes};
        if (found && value.len == LOCH_PAGE_BYTES)
            memcpy(bytes, value.data, LOCH_PAGE_BYTES);
        else
            memset(bytes, 0, LOCH_PAGE_BYTES);
        *out = oldest;
    }
    loch_buf_fini(&value);
    return st;
}

static loch_status slru_op(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct slru_entry *entry = NULL;
    struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .rel = e->slru.slru, .block = e->slru.page};
    LOCH_TRY(slru_page(ingest, e->slru.slru, e->slru.page, lsn, &entry));
    LOCH_TRY(loch_slru_apply(e->slru.op, entry->bytes));
    if (!loch_slru_op_is_base(e->slru.op) && ++entry->ops < SLRU_OPS_MAX)
        return loch_timeline_put_op(ingest->timeline, &key, lsn, e->slru.op);
    entry->ops = 0;
    return loch_timeline_put_value(ingest->timeline, &key, lsn,
                                   loch_slice_of(entry->bytes, LOCH_PAGE_BYTES));
}

static loch_status slru_cut(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct loch_key key = {.kind = LOCH_KEY_SLRU_CUT, .rel = e->slru.slru};
    uint8_t bytes[LOCH_SLRU_CUT_BYTES];
    const size_t len = loch_slru_cut_encode(&e->slru.cut, bytes);
    for (size_t i = 0; i < SLRU_CACHE; i++)
        ingest->slru[i].used = false;
    return loch_timeline_put_value(ingest->timeline, &key, lsn, loch_slice_of(bytes, len));
}

/* ---- the rest ---- */

/* What later transactions are compared with: the newest entry that there is. */
static loch_status know_newest_time(struct loch_ingest *ingest)
{
    struct loch_view *view = NULL;
    bool found = false;
    if (ingest->xact_time_known)
        return LOCH_OK;
    LOCH_TRY(loch_view_create(ingest->timeline, &view));
    loch_status st =
        loch_xact_time_at(view, loch_view_last_record_lsn(view), &found, &ingest->newest_time);
    loch_view_destroy(view);
    LOCH_TRY(st);
    if (!found)
        ingest->newest_time = (struct loch_xact_time){.time_us = INT64_MIN};
    ingest->xact_time_known = true;
    return LOCH_OK;
}

/* An entry for the first end of a transaction in a second later than all before it. */
static loch_status xact_end(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct loch_xact_time entry = {
        .time_us = e->xact.time_us, .end = lsn, .before = ingest->last_xact_end};
    struct loch_key key = LOCH_XACT_TIME_KEY;
    uint8_t bytes[LOCH_XACT_TIME_BYTES];
    LOCH_TRY(know_newest_time(ingest));
    ingest->last_xact_end = lsn;
    if (loch_xact_second(entry.time_us) <= loch_xact_second(ingest->newest_time.time_us))
        return LOCH_OK;
    ingest->newest_time = entry;
    loch_xact_time_encode(&entry, bytes);
    return loch_timeline_put_value(ingest->timeline, &key, lsn, loch_slice_of(bytes, sizeof bytes));
}

static loch_status origin_set(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct loch_key key = {.kind = LOCH_KEY_ORIGIN, .rel = e->origin.origin};
    struct loch_buf old = {0};
    bool found = false;
    uint8_t bytes[16];
    loch_status st = get_now(ingest, &key, lsn, &old, &found);
    found = found && old.len == sizeof bytes;
    loch_lsn remote = found ? loch_get_u64(old.data) : LOCH_LSN_NONE;
    loch_lsn local = found ? loch_get_u64(old.data + 8) : LOCH_LSN_NONE;
    loch_buf_fini(&old);
    LOCH_TRY(st);
    if (!e->origin.force && e->origin.remote_lsn < remote)
        return LOCH_OK;
    if (e->origin.local_lsn != LOCH_LSN_NONE)
        local = e->origin.local_lsn;
    loch_put_u64(bytes, e->origin.remote_lsn);
    loch_put_u64(bytes + 8, local);
    return loch_timeline_put_value(ingest->timeline, &key, lsn, loch_slice_of(bytes, sizeof bytes));
}

static loch_status put_file(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    const char *path = (const char *)e->file.path.data;
    struct loch_key key = loch_aux_key(path);
    struct loch_buf value = {0};

    loch_status st = loch_aux_encode(path, e->file.contents, &value);
    if (loch_is_ok(st))
        st = loch_timeline_put_value(ingest->timeline, &key, lsn, loch_buf_slice(&value));
    loch_buf_fini(&value);
    return st;
}

static loch_status apply_one(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct loch_key key = {0};
    switch (e->kind) {
    case LOCH_EFFECT_PAGE: /* put_pages */
    case LOCH_EFFECT_CHECKPOINT:
        return LOCH_OK;
    case LOCH_EFFECT_VM_OP:
        return vm_op(ingest, e, lsn);
    case LOCH_EFFECT_REL_CREATE:
        return rel_create(ingest, e, lsn);
    case LOCH_EFFECT_REL_TRUNCATE:
        return rel_truncate(ingest, e, lsn);
    case LOCH_EFFECT_REL_DROP:
        return rel_drop(ingest, &e->rel.rel, lsn);
    case LOCH_EFFECT_DB_CREATE:
        return put_database(ingest, e->db.spc, e->db.db, lsn, true, loch_slice_of(NULL, 0));
    case LOCH_EFFECT_DB_COPY:
        LOCH_TRY(put_database(ingest, e->db.spc, e->db.db, lsn, true, loch_slice_of(NULL, 0)));
        return loch_ingest_copy(ingest, e, lsn);
    case LOCH_EFFECT_DB_DROP:
        return put_database(ingest, e->db.spc, e->db.db, lsn, false, loch_slice_of(NULL, 0));
    case LOCH_EFFECT_TABLESPACE_CREATE:
        return put_database(ingest, e->tablespace.spc, 0, lsn, true, e->tablespace.path);
    case LOCH_EFFECT_TABLESPACE_DROP:
        return put_database(ingest, e->tablespace.spc, 0, lsn, false, loch_slice_of(NULL, 0));
    case LOCH_EFFECT_SLRU_OP:
        return slru_op(ingest, e, lsn);
    case LOCH_EFFECT_SLRU_CUT:
        return slru_cut(ingest, e, lsn);
    case LOCH_EFFECT_RELMAP:
        key = (struct loch_key){.kind = LOCH_KEY_RELMAP, .spc = e->relmap.spc, .db = e->relmap.db};
        return loch_timeline_put_value(ingest->timeline, &key, lsn, e->relmap.file);
    case LOCH_EFFECT_TWOPHASE_PUT:
        key = (struct loch_key){.kind = LOCH_KEY_TWOPHASE, .rel = e->twophase.xid};
        return loch_timeline_put_value(ingest->timeline, &key, lsn, e->twophase.file);
    case LOCH_EFFECT_TWOPHASE_DROP:
        key = (struct loch_key){.kind = LOCH_KEY_TWOPHASE, .rel = e->twophase.xid};
        return put_absent(ingest, &key, lsn);
    case LOCH_EFFECT_XACT_END:
        return xact_end(ingest, e, lsn);
    case LOCH_EFFECT_ORIGIN_SET:
        return origin_set(ingest, e, lsn);
    case LOCH_EFFECT_ORIGIN_DROP:
        key = (struct loch_key){.kind = LOCH_KEY_ORIGIN, .rel = e->origin.origin};
        return put_absent(ingest, &key, lsn);
    case LOCH_EFFECT_FILE:
        return put_file(ingest, e, lsn);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "an unknown effect");
}

void loch_ingest_forget(struct loch_ingest *ingest)
{
    loch_size_cache_forget(&ingest->sizes);
    for (size_t i = 0; i < SLRU_CACHE; i++)
        ingest->slru[i].used = false;
    ingest->xact_time_known = false;
}

LOCH_STATUS loch_ingest_apply(struct loch_ingest *ingest, const struct loch_wal_span *span)
{
    LOCH_TRY(put_pages(ingest, span));
    for (size_t i = 0; i < ingest->effects.count; i++)
        LOCH_TRY(apply_one(ingest, &ingest->effects.items[i], span->end));
    return LOCH_OK;
}
