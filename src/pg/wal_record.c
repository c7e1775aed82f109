/* Holds: decoding of one whole record. Source: access/xlogrecord.h, DecodeXLogRecord (15). */
#include "loch/pg/wal_record.h"

#include "v15.h"

#include "loch/pg/wal_scan.h"

/* What is left of the headers, and the lengths they promised for the payload behind them. */
struct decoder {
    struct loch_reader r;
    uint64_t promised;
    uint32_t main_len;
    int last_id;
    bool rel_known;
    struct loch_rel rel;
};

static LOCH_STATUS decode_image_header(struct decoder *d, struct loch_wal_block *b, uint32_t *len)
{
    uint32_t image_len = loch_read_u16(&d->r);
    uint32_t hole_offset = loch_read_u16(&d->r);
    uint32_t info = loch_read_u8(&d->r);
    uint32_t method = info & (V15_BKPIMAGE_PGLZ | V15_BKPIMAGE_LZ4 | V15_BKPIMAGE_ZSTD);
    bool has_hole = (info & V15_BKPIMAGE_HAS_HOLE) != 0;
    uint32_t hole_length = 0;

    switch (method) {
    case 0:
        b->compression = LOCH_WAL_PLAIN;
        break;
    case V15_BKPIMAGE_PGLZ:
        b->compression = LOCH_WAL_PGLZ;
        break;
    case V15_BKPIMAGE_LZ4:
        b->compression = LOCH_WAL_LZ4;
        break;
    case V15_BKPIMAGE_ZSTD:
        b->compression = LOCH_WAL_ZSTD;
        break;
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page image is compressed in two ways");
    }
    if (method == 0) {
        if (image_len > LOCH_PAGE_BYTES)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a page image of %u bytes", image_len);
        hole_length = LOCH_PAGE_BYTES - image_len;
    } else {
        if (has_hole)
            hole_length = loch_read_u16(&d->r);
        if (image_len >= LOCH_PAGE_BYTES)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a compressed page image of %u bytes", image_len);
    }
    if (has_hole ? hole_offset == 0 || hole_length == 0 : hole_offset != 0 || hole_length != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page image with a hole of %u at %u", hole_length,
                         hole_offset);
    if (hole_offset + hole_length > LOCH_PAGE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page image with a hole of %u at %u", hole_length,
                         hole_offset);
    b->has_image = true;
    b->apply_image = (info & V15_BKPIMAGE_APPLY) != 0;
    b->hole_offset = (uint16_t)hole_offset;
    b->hole_length = (uint16_t)hole_length;
    *len = image_len;
    return LOCH_OK;
}

/* Stock never writes such a record (XLogRegisterBuffer asserts it), nor could its redo, which would
 * lock the page twice, replay one. */
static bool is_named_before(const struct loch_wal_record *record, const struct loch_wal_block *b)
{
    for (const struct loch_wal_block *o = record->blocks; o < b; o++)
        if (o->block == b->block && o->fork == b->fork && o->rel.rel == b->rel.rel &&
            o->rel.db == b->rel.db && o->rel.spc == b->rel.spc)
            return true;
    return false;
}

static LOCH_STATUS decode_block_header(struct decoder *d, struct loch_wal_record *out, uint8_t id)
{
    struct loch_wal_block *b = &out->blocks[out->block_count];
    uint32_t flags, data_len, image_len = 0;

    if ((int)id <= d->last_id)
        return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u out of order", id);
    d->last_id = id;
    *b = (struct loch_wal_block){.id = id};
    flags = loch_read_u8(&d->r);
    data_len = loch_read_u16(&d->r);
    b->fork = (uint8_t)(flags & V15_BKPBLOCK_FORK_MASK);
    b->has_data = (flags & V15_BKPBLOCK_HAS_DATA) != 0;
    b->will_init = (flags & V15_BKPBLOCK_WILL_INIT) != 0;
    b->same_rel = (flags & V15_BKPBLOCK_SAME_REL) != 0;
    if (b->fork > LOCH_FORK_INIT)
        return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u names fork %u", id, b->fork);
    if (b->has_data != (data_len > 0))
        return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u has %u bytes of data", id, data_len);
    if ((flags & V15_BKPBLOCK_HAS_IMAGE) != 0)
        LOCH_TRY(decode_image_header(d, b, &image_len));
    if (!b->same_rel) {
        d->rel.spc = loch_read_u32(&d->r);
        d->rel.db = loch_read_u32(&d->r);
        d->rel.rel = loch_read_u32(&d->r);
        d->rel_known = true;
    } else if (!d->rel_known) {
        return LOCH_FAIL(LOCH_E_CORRUPT, "the first block reference names no relation");
    }
    b->rel = d->rel;
    b->block = loch_read_u32(&d->r);
    if (b->block == UINT32_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u names no block", id);
    if (is_named_before(out, b))
        return LOCH_FAIL(LOCH_E_CORRUPT, "block %u of %u/%u/%u fork %u is named twice", b->block,
                         b->rel.spc, b->rel.db, b->rel.rel, b->fork);
    b->image.len = image_len; /* the bytes stand behind all headers */
    b->data.len = data_len;
    d->promised += image_len + data_len;
    out->block_count++;
    return LOCH_OK;
}

static LOCH_STATUS decode_headers(struct decoder *d, struct loch_wal_record *out)
{
    bool main_seen = false;

    while (!main_seen && loch_reader_left(&d->r) > d->promised) {
        uint8_t id = loch_read_u8(&d->r);

        if (id == V15_BLOCK_ID_DATA_SHORT || id == V15_BLOCK_ID_DATA_LONG) {
            d->main_len =
                id == V15_BLOCK_ID_DATA_SHORT ? loch_read_u8(&d->r) : loch_read_u32(&d->r);
            d->promised += d->main_len;
            main_seen = true; /* by convention the last header */
        } else if (id == V15_BLOCK_ID_ORIGIN) {
            out->origin = loch_read_u16(&d->r);
        } else if (id == V15_BLOCK_ID_TOPLEVEL_XID) {
            out->toplevel_xid = loch_read_u32(&d->r);
        } else if (id <= V15_BLOCK_ID_MAX) {
            LOCH_TRY(decode_block_header(d, out, id));
        } else {
            return LOCH_FAIL(LOCH_E_CORRUPT, "block reference %u", id);
        }
    }
    if (d->r.bad || loch_reader_left(&d->r) != d->promised)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL record's lengths do not add up");
    return LOCH_OK;
}

LOCH_STATUS loch_wal_record_decode(struct loch_slice bytes, struct loch_wal_record *out)
{
    struct decoder d = {.last_id = -1};
    const uint8_t *h = bytes.data;

    if (bytes.len < LOCH_WAL_RECORD_HEADER_BYTES || loch_get_u32(h + V15_XL_TOT_LEN) != bytes.len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL record of %zu bytes", bytes.len);
    out->total_len = loch_get_u32(h + V15_XL_TOT_LEN);
    out->xid = loch_get_u32(h + V15_XL_XID);
    out->prev = loch_get_u64(h + V15_XL_PREV);
    out->info = h[V15_XL_INFO];
    out->rmid = h[V15_XL_RMID];
    out->origin = 0;
    out->toplevel_xid = 0;
    out->block_count = 0;
    loch_reader_init(&d.r, loch_slice_of(h + LOCH_WAL_RECORD_HEADER_BYTES,
                                         bytes.len - LOCH_WAL_RECORD_HEADER_BYTES));
    LOCH_TRY(decode_headers(&d, out));
    for (uint32_t i = 0; i < out->block_count; i++) {
        struct loch_wal_block *b = &out->blocks[i];
        b->image = loch_read_bytes(&d.r, b->image.len);
        b->data = loch_read_bytes(&d.r, b->data.len);
    }
    out->main_data = loch_read_bytes(&d.r, d.main_len);
    return loch_reader_finish(&d.r, "WAL record");
}

const struct loch_wal_block *loch_wal_record_block(const struct loch_wal_record *record, uint8_t id)
{
    for (uint32_t i = 0; i < record->block_count; i++)
        if (record->blocks[i].id == id)
            return &record->blocks[i];
    return NULL;
}

LOCH_STATUS loch_wal_block_plain_image(const struct loch_wal_block *block,
                                       uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t head = block->hole_offset, hole = block->hole_length;

    if (!block->has_image)
        return LOCH_FAIL(LOCH_E_INVALID, "block reference %u has no image", block->id);
    if (block->compression != LOCH_WAL_PLAIN)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the image of block reference %u is compressed",
                         block->id);
    if (hole == 0)
        head = LOCH_PAGE_BYTES;
    memcpy(page, block->image.data, head);
    memset(page + head, 0, hole);
    memcpy(page + head + hole, block->image.data + head, LOCH_PAGE_BYTES - head - hole);
    return LOCH_OK;
}

const char *loch_rmgr_name(uint8_t rmid)
{
    static const char *const names[LOCH_RM_BUILTIN_COUNT] = {
        "XLOG",       "Transaction",   "Storage", "CLOG",     "Database",
        "Tablespace", "MultiXact",     "RelMap",  "Standby",  "Heap2",
        "Heap",       "Btree",         "Hash",    "Gin",      "Gist",
        "Sequence",   "SPGist",        "BRIN",    "CommitTs", "ReplicationOrigin",
        "Generic",    "LogicalMessage"};

    if (rmid < LOCH_RM_BUILTIN_COUNT)
        return names[rmid];
    return rmid >= LOCH_RM_CUSTOM_FIRST ? "custom" : NULL;
}
