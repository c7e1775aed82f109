/* Holds: the control machine, which takes in one record after another as redo does.
 * Source: xlog_redo, xact_redo, multixact_redo, clog_redo, commit_ts_redo, ApplyWalRecord (15.18).
 */
#include "loch/pg/control.h"

#include "v15.h"
#include "xact_record.h"

static bool xid_precedes(uint32_t a, uint32_t b)
{
    if (a < V15_FIRST_NORMAL_XID || b < V15_FIRST_NORMAL_XID)
        return a < b;
    return (int32_t)(a - b) < 0;
}

static bool counter_precedes(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* AdvanceNextFullTransactionIdPastXid */
static void advance_past_xid(struct loch_checkpoint *cp, uint32_t xid)
{
    uint32_t next = (uint32_t)cp->next_xid;
    uint64_t epoch = cp->next_xid >> 32;

    if (xid_precedes(xid, next))
        return;
    xid++;
    if (xid < V15_FIRST_NORMAL_XID)
        xid = V15_FIRST_NORMAL_XID;
    if (xid < next)
        epoch++;
    cp->next_xid = epoch << 32 | xid;
}

static void advance_multi(struct loch_checkpoint *cp, uint32_t multi, uint32_t offset)
{
    if (counter_precedes(cp->next_multi, multi))
        cp->next_multi = multi;
    if (counter_precedes(cp->next_multi_offset, offset))
        cp->next_multi_offset = offset;
}

static void advance_oldest_multi(struct loch_checkpoint *cp, uint32_t multi, uint32_t db)
{
    if (counter_precedes(cp->oldest_multi, multi)) {
        cp->oldest_multi = multi;
        cp->oldest_multi_db = db;
    }
}

static LOCH_STATUS short_data(const struct loch_wal_record *record)
{
    return LOCH_FAIL(LOCH_E_CORRUPT, "a %s record of kind %02X has %zu bytes of data",
                     loch_rmgr_name(record->rmid), record->info, record->main_data.len);
}

static LOCH_STATUS follow_checkpoint(struct loch_control *c, const struct loch_wal_record *record,
                                     bool shutdown)
{
    struct loch_checkpoint *now = &c->checkpoint;
    struct loch_checkpoint cp;

    LOCH_TRY(loch_checkpoint_parse(record->main_data, &cp));
    if (shutdown) {
        /* Its counters are exact. */
        now->next_xid = cp.next_xid;
        now->next_oid = cp.next_oid;
        now->next_multi = cp.next_multi;
        now->next_multi_offset = cp.next_multi_offset;
        now->oldest_xid = cp.oldest_xid;
        now->oldest_xid_db = cp.oldest_xid_db;
        now->oldest_commit_ts_xid = cp.oldest_commit_ts_xid;
        now->newest_commit_ts_xid = cp.newest_commit_ts_xid;
    } else {
        /* Minima. next_oid may be stale against a NEXTOID record: left alone. */
        if (now->next_xid < cp.next_xid)
            now->next_xid = cp.next_xid;
        advance_multi(now, cp.next_multi, cp.next_multi_offset);
        if (xid_precedes(now->oldest_xid, cp.oldest_xid)) {
            now->oldest_xid = cp.oldest_xid;
            now->oldest_xid_db = cp.oldest_xid_db;
        }
    }
    advance_oldest_multi(now, cp.oldest_multi, cp.oldest_multi_db);
    now->redo = cp.redo;
    now->tli = cp.tli;
    now->prev_tli = cp.prev_tli;
    now->time = cp.time;
    now->full_page_writes = cp.full_page_writes;
    now->oldest_active_xid = cp.oldest_active_xid;
    return LOCH_OK;
}

static LOCH_STATUS follow_parameters(struct loch_control *c, const struct loch_wal_record *record)
{
    const uint8_t *d = record->main_data.data;
    struct loch_pg_parameters *p = &c->parameters;
    struct loch_checkpoint *cp = &c->checkpoint;

    if (record->main_data.len < V15_PARAMETER_CHANGE_BYTES)
        return short_data(record);
    p->max_connections = loch_get_u32(d);
    p->max_worker_processes = loch_get_u32(d + 4);
    p->max_wal_senders = loch_get_u32(d + 8);
    p->max_prepared_xacts = loch_get_u32(d + 12);
    p->max_locks_per_xact = loch_get_u32(d + 16);
    p->wal_level = loch_get_u32(d + 20);
    p->wal_log_hints = d[24] != 0;
    p->track_commit_timestamp = d[25] != 0;
    if (!p->track_commit_timestamp) {
        cp->oldest_commit_ts_xid = 0;
        cp->newest_commit_ts_xid = 0;
    } else if (cp->oldest_commit_ts_xid == 0) {
        cp->oldest_commit_ts_xid = (uint32_t)cp->next_xid;
        cp->newest_commit_ts_xid = (uint32_t)cp->next_xid;
    }
    return LOCH_OK;
}

static LOCH_STATUS follow_xlog(struct loch_control *c, const struct loch_wal_record *record,
                               loch_lsn start)
{
    struct loch_slice d = record->main_data;

    switch (record->info & V15_XLR_RMGR_INFO_MASK) {
    case V15_XLOG_CHECKPOINT_SHUTDOWN:
    case V15_XLOG_CHECKPOINT_ONLINE:
        LOCH_TRY(follow_checkpoint(
            c, record, (record->info & V15_XLR_RMGR_INFO_MASK) == V15_XLOG_CHECKPOINT_SHUTDOWN));
        c->checkpoint_lsn = start;
        return LOCH_OK;
    case V15_XLOG_NEXTOID:
        if (d.len < 4)
            return short_data(record);
        c->checkpoint.next_oid = loch_get_u32(d.data);
        return LOCH_OK;
    case V15_XLOG_FPW_CHANGE:
        if (d.len < 1)
            return short_data(record);
        c->checkpoint.full_page_writes = d.data[0] != 0;
        return LOCH_OK;
    case V15_XLOG_PARAMETER_CHANGE:
        return follow_parameters(c, record);
    case V15_XLOG_END_OF_RECOVERY:
        if (d.len < 16)
            return short_data(record);
        c->checkpoint.tli = loch_get_u32(d.data + 8);
        c->checkpoint.prev_tli = loch_get_u32(d.data + 12);
        return LOCH_OK;
    default:
        return LOCH_OK;
    }
}

static void follow_tree(struct loch_checkpoint *cp, uint32_t xid, const uint8_t *subxacts,
                        uint32_t count)
{
    advance_past_xid(cp, xid);
    for (uint32_t i = 0; i < count; i++)
        advance_past_xid(cp, loch_get_u32(subxacts + (size_t)i * 4));
}

static LOCH_STATUS follow_xact(struct loch_control *c, const struct loch_wal_record *record)
{
    struct loch_checkpoint *cp = &c->checkpoint;
    struct loch_xact_prepare prepare;
    struct loch_xact_end x;
    uint32_t newest;

    switch (record->info & V15_XACT_OPMASK) {
    case V15_XACT_COMMIT:
    case V15_XACT_ABORT:
    case V15_XACT_COMMIT_PREPARED:
    case V15_XACT_ABORT_PREPARED:
        LOCH_TRY(loch_xact_end_parse(record, &x));
        follow_tree(cp, x.xid, x.subxacts, x.subxact_count);
        if (x.committed && c->parameters.track_commit_timestamp) {
            newest = x.subxact_count == 0
                         ? x.xid
                         : loch_get_u32(x.subxacts + (size_t)(x.subxact_count - 1) * 4);
            if (xid_precedes(cp->newest_commit_ts_xid, newest))
                cp->newest_commit_ts_xid = newest;
        }
        return LOCH_OK;
    case V15_XACT_PREPARE:
        LOCH_TRY(loch_xact_prepare_parse(record->main_data, &prepare));
        follow_tree(cp, prepare.xid, prepare.subxacts, prepare.subxact_count);
        return LOCH_OK;
    default:
        return LOCH_OK;
    }
}

static LOCH_STATUS follow_create_id(struct loch_checkpoint *cp,
                                    const struct loch_wal_record *record)
{
    const uint8_t *d = record->main_data.data;
    uint32_t count;

    if (record->main_data.len < 12)
        return short_data(record);
    count = loch_get_u32(d + 8);
    if (count > (record->main_data.len - 12) / 8)
        return short_data(record);
    advance_multi(cp, loch_get_u32(d) + 1, loch_get_u32(d + 4) + count);
    for (uint32_t i = 0; i < count; i++)
        advance_past_xid(cp, loch_get_u32(d + 12 + (size_t)i * 8));
    return LOCH_OK;
}

static LOCH_STATUS follow_multixact(struct loch_checkpoint *cp,
                                    const struct loch_wal_record *record)
{
    const uint8_t *d = record->main_data.data;

    switch (record->info & V15_XLR_RMGR_INFO_MASK) {
    case V15_MULTIXACT_CREATE_ID:
        return follow_create_id(cp, record);
    case V15_MULTIXACT_TRUNCATE_ID:
        if (record->main_data.len < 20)
            return short_data(record);
        advance_oldest_multi(cp, loch_get_u32(d + 8), loch_get_u32(d));
        return LOCH_OK;
    default:
        return LOCH_OK;
    }
}

static LOCH_STATUS follow_truncations(struct loch_checkpoint *cp,
                                      const struct loch_wal_record *record)
{
    const uint8_t *d = record->main_data.data;
    size_t len = record->main_data.len;
    uint32_t xid;

    if (record->rmid == LOCH_RM_CLOG &&
        (record->info & V15_XLR_RMGR_INFO_MASK) == V15_CLOG_TRUNCATE) {
        if (len < 12)
            return short_data(record);
        xid = loch_get_u32(d + 4);
        if (xid_precedes(cp->oldest_xid, xid)) {
            cp->oldest_xid = xid;
            cp->oldest_xid_db = loch_get_u32(d + 8);
        }
    } else if (record->rmid == LOCH_RM_COMMIT_TS &&
               (record->info & V15_XLR_RMGR_INFO_MASK) == V15_COMMIT_TS_TRUNCATE) {
        if (len < 8)
            return short_data(record);
        xid = loch_get_u32(d + 4);
        if (cp->oldest_commit_ts_xid != 0 && xid_precedes(cp->oldest_commit_ts_xid, xid))
            cp->oldest_commit_ts_xid = xid;
    }
    return LOCH_OK;
}

static LOCH_STATUS follow_standby(struct loch_checkpoint *cp, const struct loch_wal_record *record)
{
    uint32_t next;

    if ((record->info & V15_XLR_RMGR_INFO_MASK) != V15_STANDBY_RUNNING_XACTS)
        return LOCH_OK;
    if (record->main_data.len < V15_RUNNING_XACTS_NEXT_XID + 4)
        return short_data(record);
    /* The counter itself: all below it have been assigned. */
    next = loch_get_u32(record->main_data.data + V15_RUNNING_XACTS_NEXT_XID);
    if (next > V15_FIRST_NORMAL_XID)
        advance_past_xid(cp, next - 1);
    return LOCH_OK;
}

static LOCH_STATUS follow(struct loch_control *c, const struct loch_wal_record *record,
                          loch_lsn start)
{
    if (record->xid != 0)
        advance_past_xid(&c->checkpoint, record->xid);
    switch ((enum loch_rmgr)record->rmid) {
    case LOCH_RM_XLOG:
        return follow_xlog(c, record, start);
    case LOCH_RM_XACT:
        return follow_xact(c, record);
    case LOCH_RM_MULTIXACT:
        return follow_multixact(&c->checkpoint, record);
    case LOCH_RM_CLOG:
    case LOCH_RM_COMMIT_TS:
        return follow_truncations(&c->checkpoint, record);
    case LOCH_RM_STANDBY:
        return follow_standby(&c->checkpoint, record);
    case LOCH_RM_SMGR:
    case LOCH_RM_DBASE:
    case LOCH_RM_TBLSPC:
    case LOCH_RM_RELMAP:
    case LOCH_RM_HEAP2:
    case LOCH_RM_HEAP:
    case LOCH_RM_BTREE:
    case LOCH_RM_HASH:
    case LOCH_RM_GIN:
    case LOCH_RM_GIST:
    case LOCH_RM_SEQ:
    case LOCH_RM_SPGIST:
    case LOCH_RM_BRIN:
    case LOCH_RM_REPLORIGIN:
    case LOCH_RM_GENERIC:
    case LOCH_RM_LOGICALMSG:
        return LOCH_OK;
    case LOCH_RM_CUSTOM_FIRST:
        break;
    }
    return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a record of custom resource manager %u", record->rmid);
}

LOCH_STATUS loch_control_follow(struct loch_control *control, const struct loch_wal_record *record,
                                loch_lsn start, loch_lsn end, bool *changed)
{
    struct loch_control c;

    /* Copied as bytes, so that padding compares equal; if not, a change too many is reported. */
    memcpy(&c, control, sizeof c);
    LOCH_TRY(follow(&c, record, start));
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c) */
    bool differs = memcmp(&c, control, sizeof c) != 0;
    if (changed != NULL)
        *changed = differs;
    c.last_start = start;
    c.last_end = end;
    memcpy(control, &c, sizeof c);
    return LOCH_OK;
}
