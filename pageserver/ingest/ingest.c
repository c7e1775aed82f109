/* The stream side of ingest: scan, decode, derive, apply, advance; freeze when the layer is full.
 */
#include "ingest_impl.h"

#include "redo_pool/redo_protocol.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>

#define PART_LEAST_BYTES ((size_t)16 << 10)
/* Of what a record's effects took: kept for the next ones. */
#define EFFECTS_KEPT_BYTES ((size_t)64 << 10)

static loch_status begin(struct loch_ingest *ingest)
{
    const struct loch_timeline *t = ingest->timeline;
    return loch_wal_scan_init(&ingest->scan, LOCH_WAL_SCAN_RECORDS,
                              loch_timeline_last_record_lsn(t), loch_timeline_prev_record_lsn(t),
                              loch_timeline_info(t)->segment_bytes);
}

LOCH_STATUS loch_ingest_create(struct loch_timeline *t, struct loch_ingest **out)
{
    struct loch_ingest *ingest = calloc(1, sizeof *ingest);
    if (ingest == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for ingest");
    struct loch_buf control = {0};
    ingest->timeline = loch_timeline_retain(t);
    loch_status st = loch_timeline_control(t, &control);
    if (loch_is_ok(st))
        st = loch_control_decode(loch_buf_slice(&control), &ingest->control);
    loch_buf_fini(&control);
    if (loch_is_ok(st))
        st = begin(ingest);
    if (!loch_is_ok(st)) {
        loch_ingest_destroy(ingest);
        return st;
    }
    *out = ingest;
    return LOCH_OK;
}

void loch_ingest_destroy(struct loch_ingest *ingest)
{
    if (ingest == NULL)
        return;
    loch_wal_scan_fini(&ingest->scan);
    loch_effects_fini(&ingest->effects);
    loch_size_cache_forget(&ingest->sizes);
    for (size_t i = 0; i < SLRU_CACHE; i++)
        free(ingest->slru[i].bytes);
    loch_timeline_release(ingest->timeline);
    free(ingest);
}

loch_lsn loch_ingest_position(const struct loch_ingest *ingest)
{
    return ingest->scan.position;
}

size_t loch_ingest_part_bytes(const struct loch_ingest *ingest)
{
    const size_t bytes = ingest->scan.yielded ? 0 : ingest->scan.whole.len;
    return bytes < PART_LEAST_BYTES ? 0 : bytes;
}

LOCH_STATUS loch_ingest_rewind(struct loch_ingest *ingest)
{
    if (ingest->failed)
        return LOCH_FAIL(LOCH_E_CORRUPT, "ingest stopped at a record it could not apply");
    loch_wal_scan_fini(&ingest->scan);
    return begin(ingest);
}

void loch_ingest_control(const struct loch_ingest *ingest, struct loch_control *out)
{
    *out = ingest->control;
}

void loch_ingest_stats(const struct loch_ingest *ingest, struct loch_ingest_stats *out)
{
    *out = ingest->stats;
}

/* One snapshot of the control state in each WAL segment, at the first boundary in it. */
static loch_status put_control(struct loch_ingest *ingest, loch_lsn end)
{
    uint64_t segment = end / loch_timeline_info(ingest->timeline)->segment_bytes;
    if (segment == ingest->control_segment)
        return LOCH_OK;
    struct loch_key key = {.kind = LOCH_KEY_CONTROL};
    struct loch_buf bytes = {0};
    loch_status st = loch_control_encode(&ingest->control, &bytes);
    if (loch_is_ok(st))
        st = loch_timeline_put_value(ingest->timeline, &key, end, loch_buf_slice(&bytes));
    loch_buf_fini(&bytes);
    if (loch_is_ok(st))
        ingest->control_segment = segment;
    return st;
}

LOCH_STATUS loch_ingest_freeze(struct loch_ingest *ingest)
{
    struct loch_buf bytes = {0};
    loch_status st = loch_control_encode(&ingest->control, &bytes);
    if (loch_is_ok(st))
        st = loch_timeline_freeze(ingest->timeline, loch_buf_slice(&bytes));
    loch_buf_fini(&bytes);
    return st;
}

/* What a page cannot be made from is not kept for it. Stock's records stay below: 33 references of
 * 64 KiB and an image at most, and the rows that logical decoding adds are not logged here. */
static loch_status check_length(const struct loch_wal_record *record)
{
    const uint32_t most = LOCH_REDO_FRAME_MAX - LOCH_REDO_REQUEST_BYTES - LOCH_REDO_RECORD_BYTES -
                          LOCH_PAGE_BYTES - 8;
    if (record->block_count == 0 || record->total_len <= most)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_LIMIT, "it has %u bytes and changes pages, for which %u are the most",
                     record->total_len, most);
}

void loch_ingest_end(struct loch_ingest *ingest)
{
    atomic_store_explicit(&ingest->ending, true, memory_order_relaxed);
}

/* At the first boundary in a segment the snapshot may fail: then it was not followed. */
static loch_status follow(struct loch_ingest *ingest, const struct loch_wal_span *span)
{
    const struct loch_control before = ingest->control;
    LOCH_TRY(loch_control_follow(&ingest->control, &ingest->record, span->start, span->end, NULL));
    const loch_status st = put_control(ingest, span->end);
    if (!loch_is_ok(st))
        ingest->control = before;
    return st;
}

static loch_status put_record(struct loch_ingest *ingest, const struct loch_wal_span *span)
{
    LOCH_TRY(loch_ingest_apply(ingest, span));
    LOCH_TRY(follow(ingest, span));
    loch_timeline_advance(ingest->timeline, span->end, span->start);
    ingest->stats.records++;
    if (loch_timeline_wants_freeze(ingest->timeline))
        LOCH_TRY(loch_ingest_freeze(ingest));
    return LOCH_OK;
}

static loch_status take_record(struct loch_ingest *ingest, const struct loch_wal_span *span)
{
    struct loch_wal_record *record = &ingest->record;
    LOCH_TRY(loch_wal_record_decode(span->bytes, record));
    LOCH_TRY(check_length(record));
    LOCH_TRY(loch_effects_derive(&ingest->effects, record, span->end, &ingest->control));
    if (!loch_ingest_copies(ingest))
        return put_record(ingest, span);
    LOCH_TRY(loch_ingest_copy_begin(ingest));
    loch_status st = put_record(ingest, span);
    loch_ingest_copy_end(ingest, loch_is_ok(st));
    return st;
}

/* After a failure: a record that is not in is as if it had never come. xact_end: last_xact_end
 * before it. */
static void take_back(struct loch_ingest *ingest, const struct loch_wal_span *span,
                      loch_lsn xact_end)
{
    if (loch_timeline_last_record_lsn(ingest->timeline) >= span->end)
        return;
    loch_timeline_take_back(ingest->timeline);
    loch_ingest_forget(ingest);
    ingest->last_xact_end = xact_end;
}

/* Says which record it is. */
static loch_status name_failure(const struct loch_ingest *ingest, const struct loch_wal_span *span,
                                loch_status st)
{
    char what[100];
    const char *rmgr = loch_rmgr_name(ingest->record.rmid);
    (void)snprintf(what, sizeof what, "the %s record (%02X) at " LOCH_LSN_FMT,
                   rmgr != NULL ? rmgr : "unknown", ingest->record.info, LOCH_LSN_ARG(span->start));
    return loch_status_about(st, what);
}

/* A prepared transaction's state is copied, and a commit may drop many relations. */
static void let_go_of_effects(struct loch_ingest *ingest)
{
    struct loch_effects *e = &ingest->effects;
    if (e->bytes.cap > EFFECTS_KEPT_BYTES || e->capacity * sizeof *e->items > EFFECTS_KEPT_BYTES)
        loch_effects_fini(e);
}

LOCH_STATUS loch_ingest_feed(struct loch_ingest *ingest, struct loch_slice bytes)
{
    if (ingest->failed)
        return LOCH_FAIL(LOCH_E_CORRUPT, "ingest stopped at a record it could not apply");
    ingest->stats.bytes += bytes.len;
    for (;;) {
        struct loch_wal_span span;
        bool found = false;
        /* Once more when all is taken: no other record may come to end the last one's bytes. */
        LOCH_TRY(loch_wal_scan_next(&ingest->scan, &bytes, &found, &span));
        if (!found && ingest->scan.ended)
            return LOCH_FAIL(LOCH_E_CORRUPT,
                             "the stream holds no record at " LOCH_LSN_FMT " but zeros",
                             LOCH_LSN_ARG(ingest->scan.last_end));
        if (!found)
            return LOCH_OK;
        const loch_lsn xact_end = ingest->last_xact_end;
        loch_status st = take_record(ingest, &span);
        let_go_of_effects(ingest);
        if (!loch_is_ok(st)) {
            ingest->failed = !loch_status_passes(st);
            take_back(ingest, &span, xact_end);
            loch_wal_scan_fini(&ingest->scan); /* a timeline that stands still keeps no record */
            return name_failure(ingest, &span, st);
        }
    }
}
