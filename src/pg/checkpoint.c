/* Holds: the making of a shutdown checkpoint record at L, page by page.
 * Source: access/xlogrecord.h, xlog_internal.h; CreateCheckPoint and CopyXLogRecordToWAL of 15. */
#include "loch/pg/checkpoint.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "v15.h"

/* Header, a short data header, the body. */
#define RECORD_BYTES (LOCH_WAL_RECORD_HEADER_BYTES + 2u + LOCH_PG_CHECKPOINT_BYTES)

struct maker {
    struct loch_synthetic_checkpoint *out;
    uint64_t system_id;
    uint32_t tli;
};

/* The page that begins at `lsn`, added with a header when it is not there yet. */
static struct loch_wal_page *page_at(struct maker *m, loch_lsn lsn, uint32_t info, uint32_t rem_len)
{
    struct loch_synthetic_checkpoint *out = m->out;
    struct loch_wal_page *p;
    uint8_t *h;

    if (out->page_count > 0 && out->pages[out->page_count - 1].lsn == lsn)
        return &out->pages[out->page_count - 1];
    LOCH_ASSERT(out->page_count < LOCH_CHECKPOINT_MAX_PAGES);
    p = &out->pages[out->page_count++];
    memset(p->bytes, 0, sizeof p->bytes);
    p->lsn = lsn;
    h = p->bytes;
    if (lsn % out->segment_bytes == 0) {
        info |= V15_XLP_LONG_HEADER;
        loch_put_u64(h + V15_XLP_SYSID, m->system_id);
        loch_put_u32(h + V15_XLP_SEG_SIZE, out->segment_bytes);
        loch_put_u32(h + V15_XLP_BLCKSZ, LOCH_WAL_PAGE_BYTES);
    }
    loch_put_u16(h + V15_XLP_MAGIC, V15_PAGE_MAGIC);
    loch_put_u16(h + V15_XLP_INFO, (uint16_t)info);
    loch_put_u32(h + V15_XLP_TLI, m->tli);
    loch_put_u64(h + V15_XLP_PAGEADDR, lsn);
    loch_put_u32(h + V15_XLP_REM_LEN, rem_len);
    return p;
}

static void make_record(const struct loch_checkpoint *cp, loch_lsn prev_lsn,
                        uint8_t record[static RECORD_BYTES])
{
    uint32_t crc;

    memset(record, 0, RECORD_BYTES);
    loch_put_u32(record + V15_XL_TOT_LEN, RECORD_BYTES);
    loch_put_u64(record + V15_XL_PREV, prev_lsn);
    record[V15_XL_INFO] = V15_XLOG_CHECKPOINT_SHUTDOWN;
    record[V15_XL_RMID] = LOCH_RM_XLOG;
    record[LOCH_WAL_RECORD_HEADER_BYTES] = V15_BLOCK_ID_DATA_SHORT;
    record[LOCH_WAL_RECORD_HEADER_BYTES + 1] = LOCH_PG_CHECKPOINT_BYTES;
    loch_checkpoint_format(cp, record + LOCH_WAL_RECORD_HEADER_BYTES + 2);
    crc = loch_crc32c_update(LOCH_CRC32C_INIT, record + LOCH_WAL_RECORD_HEADER_BYTES,
                             RECORD_BYTES - LOCH_WAL_RECORD_HEADER_BYTES);
    loch_put_u32(record + V15_XL_CRC,
                 loch_crc32c_finish(loch_crc32c_update(crc, record, V15_XL_CRC)));
}

/* Makes the segment's first page and L's page such that a reader from either lands on `location`.
 */
static void open_pages(struct maker *m, loch_lsn location)
{
    uint32_t in_page = (uint32_t)(location % LOCH_WAL_PAGE_BYTES);
    loch_lsn page = location - in_page;
    uint32_t header = loch_wal_page_header_bytes(page, m->out->segment_bytes);

    page_at(m, location - location % m->out->segment_bytes, 0, 0);
    if (page % m->out->segment_bytes == 0)
        m->out->page_count = 0; /* the same page: made again, with the right flags */
    if (in_page > header)
        page_at(m, page, V15_XLP_FIRST_IS_CONTRECORD, in_page - header);
    else
        page_at(m, page, 0, 0);
}

/* Lays the record's bytes down from `location`; returns the boundary behind them. */
static loch_lsn put_record(struct maker *m, loch_lsn location, const uint8_t *record)
{
    loch_lsn at = location;
    uint32_t put = 0;

    while (put < RECORD_BYTES) {
        uint32_t in_page, n;
        struct loch_wal_page *p;

        if (at % LOCH_WAL_PAGE_BYTES == 0) {
            page_at(m, at, V15_XLP_FIRST_IS_CONTRECORD, RECORD_BYTES - put);
            at += loch_wal_page_header_bytes(at, m->out->segment_bytes);
        }
        in_page = (uint32_t)(at % LOCH_WAL_PAGE_BYTES);
        p = page_at(m, at - in_page, 0, 0);
        n = (uint32_t)loch_min_u64(RECORD_BYTES - put, LOCH_WAL_PAGE_BYTES - in_page);
        memcpy(p->bytes + in_page, record + put, n);
        at += n;
        put += n;
    }
    return (at + 7) & ~UINT64_C(7);
}

static LOCH_STATUS check_place(loch_lsn lsn, loch_lsn prev_lsn, uint32_t segment_bytes)
{
    struct loch_wal_scan scan;

    /* The scanner's rules are the rules. */
    LOCH_TRY(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, lsn, prev_lsn, segment_bytes));
    loch_wal_scan_fini(&scan);
    return LOCH_OK;
}

LOCH_STATUS loch_checkpoint_synthesize(const struct loch_control *control, loch_lsn lsn,
                                       loch_lsn prev_lsn, uint32_t tli, int64_t time,
                                       struct loch_synthetic_checkpoint *out)
{
    struct maker m = {out, control->system_id, tli};
    struct loch_control c = *control;
    uint8_t record[RECORD_BYTES];

    LOCH_TRY(check_place(lsn, prev_lsn, control->segment_bytes));
    if (prev_lsn == LOCH_LSN_NONE)
        return LOCH_FAIL(LOCH_E_INVALID, "a checkpoint needs the record before it");
    out->segment_bytes = control->segment_bytes;
    out->page_count = 0;
    out->location = loch_wal_record_position(lsn, out->segment_bytes);
    c.state = LOCH_DB_SHUTDOWNED;
    c.time = time;
    c.checkpoint_lsn = out->location;
    c.checkpoint.redo = out->location;
    c.checkpoint.tli = tli;
    c.checkpoint.prev_tli = tli;
    c.checkpoint.time = time;
    c.checkpoint.oldest_active_xid = 0;
    c.min_recovery_lsn = LOCH_LSN_NONE;
    c.min_recovery_tli = 0;
    c.backup_start_lsn = LOCH_LSN_NONE;
    c.backup_end_lsn = LOCH_LSN_NONE;
    c.backup_end_required = false;
    make_record(&c.checkpoint, prev_lsn, record);
    open_pages(&m, out->location);
    out->end = put_record(&m, out->location, record);
    out->first_segment = lsn / out->segment_bytes;
    out->segment_count =
        (uint32_t)(out->pages[out->page_count - 1].lsn / out->segment_bytes - out->first_segment) +
        1;
    loch_control_format(&c, out->pg_control);
    return LOCH_OK;
}

size_t loch_checkpoint_stream(const struct loch_synthetic_checkpoint *checkpoint, loch_lsn lsn,
                              uint8_t out[static LOCH_CHECKPOINT_MAX_STREAM_BYTES])
{
    size_t len = 0;

    LOCH_ASSERT(checkpoint->end - lsn <= LOCH_CHECKPOINT_MAX_STREAM_BYTES);
    for (uint32_t i = 0; i < checkpoint->page_count; i++) {
        const struct loch_wal_page *p = &checkpoint->pages[i];
        loch_lsn start = loch_max_u64(p->lsn, lsn);
        loch_lsn end = loch_min_u64(p->lsn + LOCH_WAL_PAGE_BYTES, checkpoint->end);
        if (start >= end)
            continue;
        memcpy(out + len, p->bytes + (start - p->lsn), (size_t)(end - start));
        len += (size_t)(end - start);
    }
    return len;
}
