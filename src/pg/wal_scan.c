/* Holds: the streaming boundary scanner.
 *
 * Invariants: position >= last_end; a record is reported once and only with a good CRC; after a
 * failure nothing moves any more. See the face for the rules. Source: access/xlog_internal.h,
 * access/xlogrecord.h, ValidXLogRecordHeader and XLogReaderValidatePageHeader of xlogreader.c
 * (PostgreSQL 15).
 */
#include "loch/pg/wal_scan.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/pg/wal_record.h"

#include "v15.h"

#include <stdio.h>

#define MIN_SEGMENT_BYTES (1u << 20)
#define MAX_SEGMENT_BYTES (1u << 30)
/* Of the room for a record that spans pages: kept for the next one. */
#define KEPT_BYTES ((size_t)64 << 10)

uint32_t loch_wal_page_header_bytes(loch_lsn page, uint32_t segment_bytes)
{
    return page % segment_bytes == 0 ? LOCH_WAL_LONG_PAGE_HEADER_BYTES : LOCH_WAL_PAGE_HEADER_BYTES;
}

loch_lsn loch_wal_record_position(loch_lsn lsn, uint32_t segment_bytes)
{
    if (lsn % LOCH_WAL_PAGE_BYTES != 0)
        return lsn;
    return lsn + loch_wal_page_header_bytes(lsn, segment_bytes);
}

void loch_wal_segment_name(uint32_t tli, uint64_t segment_number, uint32_t segment_bytes,
                           char out[static LOCH_WAL_SEGMENT_NAME_BYTES])
{
    uint64_t per_id = (UINT64_C(1) << 32) / segment_bytes;

    (void)snprintf(out, LOCH_WAL_SEGMENT_NAME_BYTES, "%08X%08X%08X", tli,
                   (uint32_t)(segment_number / per_id), (uint32_t)(segment_number % per_id));
}

LOCH_STATUS loch_wal_scan_init(struct loch_wal_scan *scan, enum loch_wal_scan_mode mode,
                               loch_lsn lsn, loch_lsn prev_lsn, uint32_t segment_bytes)
{
    uint32_t in_page = (uint32_t)(lsn % LOCH_WAL_PAGE_BYTES);

    if (segment_bytes < MIN_SEGMENT_BYTES || segment_bytes > MAX_SEGMENT_BYTES ||
        (segment_bytes & (segment_bytes - 1)) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "WAL segments of %u bytes", segment_bytes);
    if (lsn == LOCH_LSN_NONE || lsn % 8 != 0 || lsn > LOCH_LSN_MAX - 2 * (uint64_t)segment_bytes ||
        (in_page != 0 && in_page < loch_wal_page_header_bytes(lsn - in_page, segment_bytes)) ||
        prev_lsn >= lsn)
        return LOCH_FAIL(LOCH_E_INVALID, LOCH_LSN_FMT " is no record boundary", LOCH_LSN_ARG(lsn));
    *scan = (struct loch_wal_scan){.position = lsn,
                                   .last_start = prev_lsn,
                                   .last_end = lsn,
                                   .mode = mode,
                                   .segment_bytes = segment_bytes,
                                   .prev_known = prev_lsn != LOCH_LSN_NONE};
    return LOCH_OK;
}

void loch_wal_scan_fini(struct loch_wal_scan *scan)
{
    loch_buf_fini(&scan->whole);
}

static void take(struct loch_wal_scan *scan, struct loch_slice *in, size_t n)
{
    in->data += n;
    in->len -= n;
    scan->position += n;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A long record is rare, and what it took nobody counts once it is done. */
static void empty_whole(struct loch_wal_scan *scan)
{
    if (scan->whole.cap > KEPT_BYTES)
        loch_buf_fini(&scan->whole);
    scan->whole.len = 0;
}

static void drop_record(struct loch_wal_scan *scan)
{
    scan->record_len = 0;
    scan->record_got = 0;
    empty_whole(scan);
}

/* The record's length of record_got bytes is complete and the boundary is reached: report it. */
static void yield_record(struct loch_wal_scan *scan, struct loch_slice bytes,
                         struct loch_wal_span *out)
{
    scan->last_start = scan->record_start;
    scan->last_end = scan->position;
    scan->prev_known = true;
    scan->records++;
    scan->record_len = 0;
    scan->record_got = 0;
    scan->skip_to = LOCH_LSN_NONE;
    scan->yielded = true;
    *out = (struct loch_wal_span){scan->last_start, scan->last_end, bytes};
}

static LOCH_STATUS check_page_header(struct loch_wal_scan *scan, loch_lsn page)
{
    const uint8_t *h = scan->header;
    uint32_t info = loch_get_u16(h + V15_XLP_INFO);
    uint32_t rem_len = loch_get_u32(h + V15_XLP_REM_LEN);
    bool is_long = page % scan->segment_bytes == 0;

    if (loch_get_u16(h + V15_XLP_MAGIC) != V15_PAGE_MAGIC)
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL page " LOCH_LSN_FMT " has magic %04X",
                         LOCH_LSN_ARG(page), loch_get_u16(h + V15_XLP_MAGIC));
    if (loch_get_u64(h + V15_XLP_PAGEADDR) != page)
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL page " LOCH_LSN_FMT " bears another page's address",
                         LOCH_LSN_ARG(page));
    if ((info & ~V15_XLP_ALL_FLAGS) != 0 || ((info & V15_XLP_LONG_HEADER) != 0) != is_long)
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL page " LOCH_LSN_FMT " has flags %04X",
                         LOCH_LSN_ARG(page), info);
    if (is_long && (loch_get_u32(h + V15_XLP_SEG_SIZE) != scan->segment_bytes ||
                    loch_get_u32(h + V15_XLP_BLCKSZ) != LOCH_WAL_PAGE_BYTES))
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL page " LOCH_LSN_FMT " is of another segment size",
                         LOCH_LSN_ARG(page));
    if ((info & V15_XLP_FIRST_IS_OVERWRITE_CONTRECORD) != 0) {
        /* A crash left the record incomplete; its writer said so and went on from here. */
        drop_record(scan);
        return LOCH_OK;
    }
    if (scan->record_got > 0) {
        if ((info & V15_XLP_FIRST_IS_CONTRECORD) == 0 ||
            rem_len != scan->record_len - scan->record_got)
            return LOCH_FAIL(LOCH_E_CORRUPT,
                             "WAL page " LOCH_LSN_FMT " does not continue the record",
                             LOCH_LSN_ARG(page));
    } else if ((info & V15_XLP_FIRST_IS_CONTRECORD) != 0 || rem_len != 0) {
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL page " LOCH_LSN_FMT " continues a record that is not",
                         LOCH_LSN_ARG(page));
    }
    return LOCH_OK;
}

static LOCH_STATUS step_page_header(struct loch_wal_scan *scan, struct loch_slice *in)
{
    size_t n;

    if (scan->header_need == 0) {
        scan->header_need = loch_wal_page_header_bytes(scan->position, scan->segment_bytes);
        scan->header_got = 0;
    }
    n = min_size(scan->header_need - scan->header_got, in->len);
    memcpy(scan->header + scan->header_got, in->data, n);
    scan->header_got += (uint32_t)n;
    if (scan->header_got == scan->header_need && loch_get_u16(scan->header) == 0) {
        scan->ended = true;
        return LOCH_OK;
    }
    take(scan, in, n);
    if (scan->header_got < scan->header_need)
        return LOCH_OK;
    scan->header_need = 0;
    return check_page_header(scan, scan->position - scan->header_got);
}

static LOCH_STATUS check_length(const struct loch_wal_scan *scan, uint32_t len)
{
    if (len < LOCH_WAL_RECORD_HEADER_BYTES || len > LOCH_WAL_RECORD_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL record at " LOCH_LSN_FMT " has length %u",
                         LOCH_LSN_ARG(scan->record_start), len);
    return LOCH_OK;
}

static LOCH_STATUS check_record_header(const struct loch_wal_scan *scan, const uint8_t *h)
{
    loch_lsn prev = loch_get_u64(h + V15_XL_PREV);
    uint8_t rmid = h[V15_XL_RMID];

    if (scan->prev_known ? prev != scan->last_start : prev >= scan->record_start)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the WAL record at " LOCH_LSN_FMT " points back to " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(scan->record_start), LOCH_LSN_ARG(prev));
    if (rmid >= LOCH_RM_BUILTIN_COUNT && rmid < LOCH_RM_CUSTOM_FIRST)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the WAL record at " LOCH_LSN_FMT " has resource manager %u",
                         LOCH_LSN_ARG(scan->record_start), rmid);
    return LOCH_OK;
}

static LOCH_STATUS check_crc(const struct loch_wal_scan *scan, uint32_t body_crc, const uint8_t *h)
{
    uint32_t crc = loch_crc32c_finish(loch_crc32c_update(body_crc, h, V15_XL_CRC));

    if (crc != loch_get_u32(h + V15_XL_CRC))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the WAL record at " LOCH_LSN_FMT " has a wrong CRC",
                         LOCH_LSN_ARG(scan->record_start));
    return LOCH_OK;
}

static bool is_switch(const uint8_t *h)
{
    return h[V15_XL_RMID] == LOCH_RM_XLOG &&
           (h[V15_XL_INFO] & V15_XLR_RMGR_INFO_MASK) == V15_XLOG_SWITCH;
}

/* A record that lies whole, with its padding, in this page and chunk: no copy. *done false: it does
 * not. */
static LOCH_STATUS try_whole(struct loch_wal_scan *scan, struct loch_slice *in, bool *done,
                             struct loch_wal_span *out)
{
    const uint8_t *h = in->data;
    uint32_t room = LOCH_WAL_PAGE_BYTES - (uint32_t)(scan->position % LOCH_WAL_PAGE_BYTES);
    uint32_t len = loch_get_u32(h + V15_XL_TOT_LEN);
    uint32_t aligned, crc;

    *done = false;
    if (len < LOCH_WAL_RECORD_HEADER_BYTES || len > room || is_switch(h))
        return LOCH_OK;
    aligned = (len + 7u) & ~7u; /* the room ends 8-aligned: it fits too */
    if (aligned > in->len)
        return LOCH_OK;
    LOCH_TRY(check_record_header(scan, h));
    crc = loch_crc32c_update(LOCH_CRC32C_INIT, h + LOCH_WAL_RECORD_HEADER_BYTES,
                             len - LOCH_WAL_RECORD_HEADER_BYTES);
    LOCH_TRY(check_crc(scan, crc, h));
    take(scan, in, aligned);
    yield_record(
        scan,
        loch_slice_of(h, scan->mode == LOCH_WAL_SCAN_RECORDS ? len : LOCH_WAL_RECORD_HEADER_BYTES),
        out);
    *done = true;
    return LOCH_OK;
}

/* The length field is never split over pages, as records are 8-aligned; over chunks it may be. */
static LOCH_STATUS step_length(struct loch_wal_scan *scan, struct loch_slice *in, bool *found,
                               struct loch_wal_span *out)
{
    size_t n;
    uint32_t len;

    if (scan->record_got == 0) {
        scan->record_start = scan->position;
        if (in->len >= LOCH_WAL_RECORD_HEADER_BYTES) {
            LOCH_TRY(try_whole(scan, in, found, out));
            if (*found)
                return LOCH_OK;
        }
    }
    n = min_size(4 - scan->record_got, in->len);
    memcpy(scan->record_header + scan->record_got, in->data, n);
    scan->record_got += (uint32_t)n;
    if (scan->record_got == 4) {
        len = loch_get_u32(scan->record_header);
        if (len == 0) {
            scan->record_got = 0;
            scan->ended = true;
            return LOCH_OK;
        }
        LOCH_TRY(check_length(scan, len));
        scan->record_len = len;
        scan->crc = LOCH_CRC32C_INIT;
    }
    if (scan->mode == LOCH_WAL_SCAN_RECORDS)
        LOCH_TRY(loch_buf_append(&scan->whole, in->data, n));
    take(scan, in, n);
    return LOCH_OK;
}

/* The last byte of the record came: where is its boundary? */
static LOCH_STATUS end_record(struct loch_wal_scan *scan)
{
    loch_lsn end = (scan->position + 7) & ~UINT64_C(7);

    LOCH_TRY(check_crc(scan, scan->crc, scan->record_header));
    if (is_switch(scan->record_header) && end % scan->segment_bytes != 0)
        end += scan->segment_bytes - end % scan->segment_bytes;
    scan->skip_to = end;
    return LOCH_OK;
}

static LOCH_STATUS step_body(struct loch_wal_scan *scan, struct loch_slice *in)
{
    size_t room = LOCH_WAL_PAGE_BYTES - (size_t)(scan->position % LOCH_WAL_PAGE_BYTES);
    size_t n = min_size(min_size(scan->record_len - scan->record_got, room), in->len);

    if (scan->record_got < LOCH_WAL_RECORD_HEADER_BYTES) {
        n = min_size(n, LOCH_WAL_RECORD_HEADER_BYTES - scan->record_got);
        memcpy(scan->record_header + scan->record_got, in->data, n);
    } else {
        scan->crc = loch_crc32c_update(scan->crc, in->data, n);
    }
    if (scan->mode == LOCH_WAL_SCAN_RECORDS)
        LOCH_TRY(loch_buf_append(&scan->whole, in->data, n));
    scan->record_got += (uint32_t)n;
    take(scan, in, n);
    if (scan->record_got == LOCH_WAL_RECORD_HEADER_BYTES)
        LOCH_TRY(check_record_header(scan, scan->record_header));
    if (scan->record_got == scan->record_len)
        return end_record(scan);
    return LOCH_OK;
}

static LOCH_STATUS step(struct loch_wal_scan *scan, struct loch_slice *in, bool *found,
                        struct loch_wal_span *out)
{
    if (scan->skip_to > scan->position) {
        /* Padding; behind an XLOG_SWITCH it includes page headers. */
        take(scan, in, (size_t)loch_min_u64(scan->skip_to - scan->position, in->len));
    } else if (scan->header_need > 0 || scan->position % LOCH_WAL_PAGE_BYTES == 0) {
        return step_page_header(scan, in);
    } else if (scan->record_len == 0) {
        return step_length(scan, in, found, out);
    } else {
        LOCH_TRY(step_body(scan, in));
    }
    if (scan->skip_to != LOCH_LSN_NONE && scan->skip_to == scan->position) {
        yield_record(scan,
                     scan->mode == LOCH_WAL_SCAN_RECORDS
                         ? loch_buf_slice(&scan->whole)
                         : loch_slice_of(scan->record_header, LOCH_WAL_RECORD_HEADER_BYTES),
                     out);
        *found = true;
    }
    return LOCH_OK;
}

LOCH_STATUS loch_wal_scan_next(struct loch_wal_scan *scan, struct loch_slice *in, bool *found,
                               struct loch_wal_span *out)
{
    *found = false;
    if (scan->failed)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the WAL scan failed before, at " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(scan->position));
    if (scan->yielded) {
        scan->yielded = false;
        empty_whole(scan);
    }
    while (in->len > 0 && !*found && !scan->ended) {
        loch_status st = step(scan, in, found, out);
        if (!loch_is_ok(st)) {
            scan->failed = true;
            *found = false;
            return st;
        }
    }
    return LOCH_OK;
}

LOCH_STATUS loch_wal_scan_feed(struct loch_wal_scan *scan, struct loch_slice bytes)
{
    struct loch_wal_span span;
    bool found;

    while (bytes.len > 0) {
        LOCH_TRY(loch_wal_scan_next(scan, &bytes, &found, &span));
        if (scan->ended) {
            scan->failed = true;
            return LOCH_FAIL(LOCH_E_CORRUPT, "no WAL record at " LOCH_LSN_FMT,
                             LOCH_LSN_ARG(scan->position));
        }
    }
    return LOCH_OK;
}
