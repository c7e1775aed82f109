/* The copy of a database's files that one record stands for: ALTER DATABASE ... SET TABLESPACE, and
 * CREATE DATABASE ... STRATEGY file_copy (commands/dbcommands.c, PostgreSQL 15).
 *
 * Everything that it puts has the LSN of that one record, so it is all in memory before a layer can
 * be written. Hence: it is measured before anything is put; nothing else of its timeline is in
 * memory then; it is written before the next record; and the process does one at a time. */
#include "ingest_impl.h"

#include "store/layer_set.h"

#include "loch/base/log.h"
#include "loch/pg/page.h"

#include <inttypes.h>
#include <stdio.h>

static atomic_bool copying; /* by any timeline of the process */

struct db_copy {
    struct loch_ingest *ingest;
    struct loch_view *view;
    uint32_t spc, db;
    loch_lsn lsn;
    uint64_t bytes, most_bytes; /* measured; the limit */
};

/* The keys of `kind` that the source has. */
static loch_status scan(struct loch_view *view, const struct loch_effect *e,
                        enum loch_key_kind kind, loch_lsn lsn, loch_view_scan_fn fn,
                        struct db_copy *copy)
{
    const struct loch_key first = {.kind = (uint8_t)kind, .spc = e->db.src_spc, .db = e->db.src_db};
    struct loch_key end = first;
    end.db++;
    return loch_view_scan(view, &first, &end, lsn, fn, copy);
}

/* ---- before it ---- */

static loch_status add_size(void *arg, const struct loch_key *key, struct loch_slice value,
                            loch_lsn version)
{
    struct db_copy *copy = arg;
    (void)key;
    (void)version;
    if (value.len != 4)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a relation size of %zu bytes", value.len);
    copy->bytes += (uint64_t)loch_get_u32(value.data) * LOCH_PAGE_BYTES;
    if (copy->bytes > copy->most_bytes)
        return LOCH_FAIL(LOCH_E_LIMIT,
                         "a database is moved as a whole (ALTER DATABASE ... SET TABLESPACE) that "
                         "has more than the %" PRIu64
                         " bytes of pageserver.copy_max; with a higher "
                         "one its branch goes on after a restart",
                         copy->most_bytes);
    return LOCH_OK;
}

static loch_status measure(struct loch_ingest *ingest, const struct loch_effect *e)
{
    const uint64_t set = loch_timeline_store(ingest->timeline)->copy_max_bytes;
    struct db_copy copy = {.most_bytes = set != 0 ? set : LOCH_COPY_MAX_BYTES};
    struct loch_view *view = NULL;
    LOCH_TRY(loch_view_create(ingest->timeline, &view));
    loch_status st =
        scan(view, e, LOCH_KEY_REL_SIZE, loch_view_last_record_lsn(view), add_size, &copy);
    loch_view_destroy(view);
    return st;
}

static loch_status make_room(struct loch_ingest *ingest)
{
    LOCH_TRY(loch_ingest_freeze(ingest));
    return loch_timeline_flush(ingest->timeline);
}

/* What is in the way of a flush shows where flushes are tried: this record waits, whatever it is.
 */
static loch_status make_room_first(struct loch_ingest *ingest)
{
    char why[300];
    const loch_status st = make_room(ingest);
    if (loch_is_ok(st) || loch_status_passes(st))
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "what came before cannot be written: %s", why);
}

bool loch_ingest_copies(const struct loch_ingest *ingest)
{
    for (size_t i = 0; i < ingest->effects.count; i++)
        if (ingest->effects.items[i].kind == LOCH_EFFECT_DB_COPY)
            return true;
    return false;
}

LOCH_STATUS loch_ingest_copy_begin(struct loch_ingest *ingest)
{
    for (size_t i = 0; i < ingest->effects.count; i++)
        if (ingest->effects.items[i].kind == LOCH_EFFECT_DB_COPY)
            LOCH_TRY(measure(ingest, &ingest->effects.items[i]));
    if (atomic_exchange(&copying, true))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "another database is being copied");
    const loch_status st = make_room_first(ingest);
    if (!loch_is_ok(st))
        atomic_store(&copying, false);
    return st;
}

void loch_ingest_copy_end(struct loch_ingest *ingest, bool done)
{
    /* Tried again as every flush is; until then no other copy of the timeline begins. */
    if (done && !loch_is_ok(make_room(ingest)))
        loch_log_failure("a copied database could not be written yet");
    atomic_store(&copying, false);
}

/* ---- the copy ---- */

static loch_status copy_value(void *arg, const struct loch_key *key, struct loch_slice value,
                              loch_lsn version)
{
    struct db_copy *copy = arg;
    (void)version;
    struct loch_key to = *key;
    to.spc = copy->spc;
    to.db = copy->db;
    return loch_timeline_put_value(copy->ingest->timeline, &to, copy->lsn, value);
}

static loch_status copy_page(struct db_copy *copy, const struct loch_key *size_key, uint32_t block)
{
    const struct loch_rel from = {size_key->spc, size_key->db, size_key->rel};
    struct loch_key to = *size_key;
    uint8_t page[LOCH_PAGE_BYTES];
    if (atomic_load_explicit(&copy->ingest->ending, memory_order_relaxed))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline is taken out of service");
    LOCH_TRY(loch_view_page(copy->view, &from, to.fork, block, copy->lsn, page));
    if (loch_page_is_zero(page))
        return LOCH_OK;
    to.kind = LOCH_KEY_PAGE;
    to.spc = copy->spc;
    to.db = copy->db;
    to.block = block;
    copy->ingest->stats.copied_pages++;
    return loch_timeline_put_value(copy->ingest->timeline, &to, copy->lsn,
                                   loch_slice_of(page, sizeof page));
}

static loch_status copy_relation(void *arg, const struct loch_key *key, struct loch_slice value,
                                 loch_lsn version)
{
    if (value.len != 4)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a relation size of %zu bytes", value.len);
    const uint32_t blocks = loch_get_u32(value.data);
    for (uint32_t block = 0; block < blocks; block++)
        LOCH_TRY(copy_page(arg, key, block));
    return copy_value(arg, key, value, version);
}

LOCH_STATUS loch_ingest_copy(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn)
{
    struct db_copy copy = {.ingest = ingest, .spc = e->db.spc, .db = e->db.db, .lsn = lsn};
    LOCH_TRY(loch_view_create(ingest->timeline, &copy.view));
    loch_status st = scan(copy.view, e, LOCH_KEY_REL_SIZE, lsn, copy_relation, &copy);
    if (loch_is_ok(st))
        st = scan(copy.view, e, LOCH_KEY_RELMAP, lsn, copy_value, &copy);
    loch_view_destroy(copy.view);
    return st;
}
