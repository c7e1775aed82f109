/* Holds: parsing of commit, abort and prepare records. */
#include "xact_record.h"

#include "v15.h"

/* A counted array: i32 count, then count items. */
static const uint8_t *read_array(struct loch_reader *r, uint32_t item_bytes, uint32_t *count)
{
    uint32_t n = loch_read_u32(r);

    if (n > loch_reader_left(r) / item_bytes) {
        r->bad = true;
        *count = 0;
        return NULL;
    }
    *count = n;
    return loch_read_bytes(r, (size_t)n * item_bytes).data;
}

static void skip_gid(struct loch_reader *r)
{
    for (uint32_t i = 0; i < V15_GID_BYTES && !r->bad; i++)
        if (loch_read_u8(r) == 0)
            return;
    r->bad = true;
}

static void read_optional(struct loch_reader *r, uint32_t xinfo, struct loch_xact_end *x)
{
    uint32_t ignored;

    if ((xinfo & V15_XINFO_HAS_DBINFO) != 0)
        loch_read_u64(r);
    if ((xinfo & V15_XINFO_HAS_SUBXACTS) != 0)
        x->subxacts = read_array(r, 4, &x->subxact_count);
    if ((xinfo & V15_XINFO_HAS_RELFILENODES) != 0)
        x->rels = read_array(r, 12, &x->rel_count);
    if ((xinfo & V15_XINFO_HAS_DROPPED_STATS) != 0)
        read_array(r, V15_STATS_ITEM_BYTES, &ignored);
    if ((xinfo & V15_XINFO_HAS_INVALS) != 0)
        read_array(r, V15_INVAL_MESSAGE_BYTES, &ignored);
    if ((xinfo & V15_XINFO_HAS_TWOPHASE) != 0) {
        uint32_t xid = loch_read_u32(r);
        if (x->prepared)
            x->xid = xid;
        if ((xinfo & V15_XINFO_HAS_GID) != 0)
            skip_gid(r);
    }
    if ((xinfo & V15_XINFO_HAS_ORIGIN) != 0) {
        x->has_origin = true;
        x->origin_lsn = loch_read_u64(r);
        x->origin_time_us = (int64_t)loch_read_u64(r);
    }
}

LOCH_STATUS loch_xact_end_parse(const struct loch_wal_record *record, struct loch_xact_end *out)
{
    struct loch_xact_end x = {.xid = record->xid};
    uint32_t op = record->info & V15_XACT_OPMASK;
    uint32_t xinfo = 0;
    struct loch_reader r;

    x.committed = op == V15_XACT_COMMIT || op == V15_XACT_COMMIT_PREPARED;
    x.prepared = op == V15_XACT_COMMIT_PREPARED || op == V15_XACT_ABORT_PREPARED;
    loch_reader_init(&r, record->main_data);
    x.time_us = (int64_t)loch_read_u64(&r);
    if ((record->info & V15_XACT_HAS_INFO) != 0)
        xinfo = loch_read_u32(&r);
    if (x.prepared && (xinfo & V15_XINFO_HAS_TWOPHASE) == 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the end of a prepared transaction does not name it");
    read_optional(&r, xinfo, &x);
    /* The record may be padded; nothing of ours follows. */
    if (r.bad || x.xid == 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a commit or abort record does not add up");
    *out = x;
    return LOCH_OK;
}

bool loch_wal_record_xact_time(const struct loch_wal_record *record, int64_t *time_us)
{
    uint32_t op = record->info & V15_XACT_OPMASK;

    if (record->rmid != LOCH_RM_XACT || record->main_data.len < 8 ||
        (op != V15_XACT_COMMIT && op != V15_XACT_ABORT && op != V15_XACT_COMMIT_PREPARED &&
         op != V15_XACT_ABORT_PREPARED))
        return false;
    *time_us = (int64_t)loch_get_u64(record->main_data.data);
    return true;
}

LOCH_STATUS loch_xact_prepare_parse(struct loch_slice state, struct loch_xact_prepare *out)
{
    uint64_t gid_bytes, subxacts_at, count;
    const uint8_t *d = state.data;

    if (state.len < V15_PREPARE_BYTES || loch_get_u32(d) != V15_TWOPHASE_MAGIC ||
        loch_get_u32(d + V15_PREPARE_TOTAL_LEN) != state.len + 4)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a two-phase state of %zu bytes", state.len);
    gid_bytes = (loch_get_u16(d + V15_PREPARE_GIDLEN) + UINT64_C(7)) & ~UINT64_C(7);
    count = loch_get_u32(d + V15_PREPARE_NSUBXACTS);
    subxacts_at = V15_PREPARE_BYTES + gid_bytes;
    if (subxacts_at > state.len || count > (state.len - subxacts_at) / 4 ||
        loch_get_u32(d + V15_PREPARE_XID) < V15_FIRST_NORMAL_XID)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a two-phase state does not add up");
    *out = (struct loch_xact_prepare){loch_get_u32(d + V15_PREPARE_XID), (uint32_t)count,
                                      d + subxacts_at, loch_get_u64(d + V15_PREPARE_ORIGIN_LSN)};
    return LOCH_OK;
}
