/* Holds: the codecs of pg_control, of the checkpoint record's body and of the control snapshot.
 *
 * Control snapshot (LOCH_KEY_CONTROL), little-endian, version 1:
 *   0 u32 version; 4 u64 last_start; 12 u64 last_end; 20 the first 296 bytes of the pg_control
 * file. Source: catalog/pg_control.h (PostgreSQL 15). */
#include "loch/pg/control.h"

#include "loch/base/crc32c.h"

#include "v15.h"

#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_BYTES   (20u + V15_CF_BYTES)

LOCH_STATUS loch_checkpoint_parse(struct loch_slice body, struct loch_checkpoint *out)
{
    const uint8_t *b = body.data;

    if (body.len != LOCH_PG_CHECKPOINT_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a checkpoint of %zu bytes", body.len);
    memset(out, 0, sizeof *out);
    out->redo = loch_get_u64(b + V15_CP_REDO);
    out->tli = loch_get_u32(b + V15_CP_TLI);
    out->prev_tli = loch_get_u32(b + V15_CP_PREV_TLI);
    out->full_page_writes = b[V15_CP_FULL_PAGE_WRITES] != 0;
    out->next_xid = loch_get_u64(b + V15_CP_NEXT_XID);
    out->next_oid = loch_get_u32(b + V15_CP_NEXT_OID);
    out->next_multi = loch_get_u32(b + V15_CP_NEXT_MULTI);
    out->next_multi_offset = loch_get_u32(b + V15_CP_NEXT_MULTI_OFFSET);
    out->oldest_xid = loch_get_u32(b + V15_CP_OLDEST_XID);
    out->oldest_xid_db = loch_get_u32(b + V15_CP_OLDEST_XID_DB);
    out->oldest_multi = loch_get_u32(b + V15_CP_OLDEST_MULTI);
    out->oldest_multi_db = loch_get_u32(b + V15_CP_OLDEST_MULTI_DB);
    out->time = (int64_t)loch_get_u64(b + V15_CP_TIME);
    out->oldest_commit_ts_xid = loch_get_u32(b + V15_CP_OLDEST_COMMIT_TS_XID);
    out->newest_commit_ts_xid = loch_get_u32(b + V15_CP_NEWEST_COMMIT_TS_XID);
    out->oldest_active_xid = loch_get_u32(b + V15_CP_OLDEST_ACTIVE_XID);
    return LOCH_OK;
}

void loch_checkpoint_format(const struct loch_checkpoint *checkpoint,
                            uint8_t out[static LOCH_PG_CHECKPOINT_BYTES])
{
    memset(out, 0, LOCH_PG_CHECKPOINT_BYTES);
    loch_put_u64(out + V15_CP_REDO, checkpoint->redo);
    loch_put_u32(out + V15_CP_TLI, checkpoint->tli);
    loch_put_u32(out + V15_CP_PREV_TLI, checkpoint->prev_tli);
    out[V15_CP_FULL_PAGE_WRITES] = checkpoint->full_page_writes;
    loch_put_u64(out + V15_CP_NEXT_XID, checkpoint->next_xid);
    loch_put_u32(out + V15_CP_NEXT_OID, checkpoint->next_oid);
    loch_put_u32(out + V15_CP_NEXT_MULTI, checkpoint->next_multi);
    loch_put_u32(out + V15_CP_NEXT_MULTI_OFFSET, checkpoint->next_multi_offset);
    loch_put_u32(out + V15_CP_OLDEST_XID, checkpoint->oldest_xid);
    loch_put_u32(out + V15_CP_OLDEST_XID_DB, checkpoint->oldest_xid_db);
    loch_put_u32(out + V15_CP_OLDEST_MULTI, checkpoint->oldest_multi);
    loch_put_u32(out + V15_CP_OLDEST_MULTI_DB, checkpoint->oldest_multi_db);
    loch_put_u64(out + V15_CP_TIME, (uint64_t)checkpoint->time);
    loch_put_u32(out + V15_CP_OLDEST_COMMIT_TS_XID, checkpoint->oldest_commit_ts_xid);
    loch_put_u32(out + V15_CP_NEWEST_COMMIT_TS_XID, checkpoint->newest_commit_ts_xid);
    loch_put_u32(out + V15_CP_OLDEST_ACTIVE_XID, checkpoint->oldest_active_xid);
}

static uint32_t control_crc(const uint8_t *file)
{
    return loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, file, V15_CF_CRC));
}

/* What must be as this build knows it. */
static LOCH_STATUS check_layout(const uint8_t *f)
{
    uint32_t segment = loch_get_u32(f + V15_CF_XLOG_SEG_SIZE);

    if (loch_get_u32(f + V15_CF_CONTROL_VERSION) != LOCH_PG_CONTROL_VERSION ||
        loch_get_u32(f + V15_CF_CATALOG_VERSION) != LOCH_PG_CATALOG_VERSION)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "pg_control version %u, catalog version %u",
                         loch_get_u32(f + V15_CF_CONTROL_VERSION),
                         loch_get_u32(f + V15_CF_CATALOG_VERSION));
    if (loch_get_u32(f + V15_CF_MAX_ALIGN) != 8 ||
        loch_get_u64(f + V15_CF_FLOAT_FORMAT) != V15_FLOAT_FORMAT_BITS ||
        loch_get_u32(f + V15_CF_BLCKSZ) != LOCH_PAGE_BYTES ||
        loch_get_u32(f + V15_CF_RELSEG_SIZE) != V15_RELSEG_SIZE ||
        loch_get_u32(f + V15_CF_XLOG_BLCKSZ) != LOCH_WAL_PAGE_BYTES ||
        loch_get_u32(f + V15_CF_NAME_DATA_LEN) != V15_NAME_DATA_LEN ||
        loch_get_u32(f + V15_CF_INDEX_MAX_KEYS) != V15_INDEX_MAX_KEYS ||
        loch_get_u32(f + V15_CF_TOAST_MAX_CHUNK_SIZE) != V15_TOAST_MAX_CHUNK_SIZE ||
        loch_get_u32(f + V15_CF_LOBLKSIZE) != V15_LOBLKSIZE || f[V15_CF_FLOAT8_BY_VAL] != 1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a PostgreSQL built with other sizes");
    if (segment < (1u << 20) || segment > (1u << 30) || (segment & (segment - 1)) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "WAL segments of %u bytes", segment);
    if (loch_get_u32(f + V15_CF_STATE) > LOCH_DB_IN_PRODUCTION)
        return LOCH_FAIL(LOCH_E_CORRUPT, "pg_control has state %u", loch_get_u32(f + V15_CF_STATE));
    return LOCH_OK;
}

LOCH_STATUS loch_control_parse(struct loch_slice file, struct loch_control *out)
{
    const uint8_t *f = file.data;
    struct loch_pg_parameters *p = &out->parameters;
    struct loch_checkpoint cp;

    if (file.len < V15_CF_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a pg_control of %zu bytes", file.len);
    /* The version first: another version has its CRC elsewhere. */
    LOCH_TRY(check_layout(f));
    if (control_crc(f) != loch_get_u32(f + V15_CF_CRC))
        return LOCH_FAIL(LOCH_E_CORRUPT, "pg_control has a wrong CRC");
    LOCH_TRY(loch_checkpoint_parse(
        loch_slice_of(f + V15_CF_CHECKPOINT_COPY, LOCH_PG_CHECKPOINT_BYTES), &cp));
    memset(out, 0, sizeof *out);
    out->checkpoint = cp;
    out->system_id = loch_get_u64(f + V15_CF_SYSTEM_IDENTIFIER);
    out->state = loch_get_u32(f + V15_CF_STATE);
    out->time = (int64_t)loch_get_u64(f + V15_CF_TIME);
    out->checkpoint_lsn = loch_get_u64(f + V15_CF_CHECKPOINT);
    out->unlogged_lsn = loch_get_u64(f + V15_CF_UNLOGGED_LSN);
    out->min_recovery_lsn = loch_get_u64(f + V15_CF_MIN_RECOVERY_POINT);
    out->min_recovery_tli = loch_get_u32(f + V15_CF_MIN_RECOVERY_TLI);
    out->backup_start_lsn = loch_get_u64(f + V15_CF_BACKUP_START_POINT);
    out->backup_end_lsn = loch_get_u64(f + V15_CF_BACKUP_END_POINT);
    out->backup_end_required = f[V15_CF_BACKUP_END_REQUIRED] != 0;
    p->wal_level = loch_get_u32(f + V15_CF_WAL_LEVEL);
    p->wal_log_hints = f[V15_CF_WAL_LOG_HINTS] != 0;
    p->max_connections = loch_get_u32(f + V15_CF_MAX_CONNECTIONS);
    p->max_worker_processes = loch_get_u32(f + V15_CF_MAX_WORKER_PROCESSES);
    p->max_wal_senders = loch_get_u32(f + V15_CF_MAX_WAL_SENDERS);
    p->max_prepared_xacts = loch_get_u32(f + V15_CF_MAX_PREPARED_XACTS);
    p->max_locks_per_xact = loch_get_u32(f + V15_CF_MAX_LOCKS_PER_XACT);
    p->track_commit_timestamp = f[V15_CF_TRACK_COMMIT_TIMESTAMP] != 0;
    out->segment_bytes = loch_get_u32(f + V15_CF_XLOG_SEG_SIZE);
    out->data_checksum_version = loch_get_u32(f + V15_CF_DATA_CHECKSUM_VERSION);
    memcpy(out->nonce, f + V15_CF_NONCE, LOCH_PG_NONCE_BYTES);
    return LOCH_OK;
}

static void format_layout(uint8_t *f, const struct loch_control *c)
{
    loch_put_u32(f + V15_CF_MAX_ALIGN, 8);
    loch_put_u64(f + V15_CF_FLOAT_FORMAT, V15_FLOAT_FORMAT_BITS);
    loch_put_u32(f + V15_CF_BLCKSZ, LOCH_PAGE_BYTES);
    loch_put_u32(f + V15_CF_RELSEG_SIZE, V15_RELSEG_SIZE);
    loch_put_u32(f + V15_CF_XLOG_BLCKSZ, LOCH_WAL_PAGE_BYTES);
    loch_put_u32(f + V15_CF_XLOG_SEG_SIZE, c->segment_bytes);
    loch_put_u32(f + V15_CF_NAME_DATA_LEN, V15_NAME_DATA_LEN);
    loch_put_u32(f + V15_CF_INDEX_MAX_KEYS, V15_INDEX_MAX_KEYS);
    loch_put_u32(f + V15_CF_TOAST_MAX_CHUNK_SIZE, V15_TOAST_MAX_CHUNK_SIZE);
    loch_put_u32(f + V15_CF_LOBLKSIZE, V15_LOBLKSIZE);
    f[V15_CF_FLOAT8_BY_VAL] = 1;
}

void loch_control_format(const struct loch_control *control,
                         uint8_t file[static LOCH_PG_CONTROL_FILE_BYTES])
{
    const struct loch_control *c = control;
    const struct loch_pg_parameters *p = &c->parameters;
    uint8_t *f = file;

    memset(f, 0, LOCH_PG_CONTROL_FILE_BYTES);
    loch_put_u64(f + V15_CF_SYSTEM_IDENTIFIER, c->system_id);
    loch_put_u32(f + V15_CF_CONTROL_VERSION, LOCH_PG_CONTROL_VERSION);
    loch_put_u32(f + V15_CF_CATALOG_VERSION, LOCH_PG_CATALOG_VERSION);
    loch_put_u32(f + V15_CF_STATE, c->state);
    loch_put_u64(f + V15_CF_TIME, (uint64_t)c->time);
    loch_put_u64(f + V15_CF_CHECKPOINT, c->checkpoint_lsn);
    loch_checkpoint_format(&c->checkpoint, f + V15_CF_CHECKPOINT_COPY);
    loch_put_u64(f + V15_CF_UNLOGGED_LSN, c->unlogged_lsn);
    loch_put_u64(f + V15_CF_MIN_RECOVERY_POINT, c->min_recovery_lsn);
    loch_put_u32(f + V15_CF_MIN_RECOVERY_TLI, c->min_recovery_tli);
    loch_put_u64(f + V15_CF_BACKUP_START_POINT, c->backup_start_lsn);
    loch_put_u64(f + V15_CF_BACKUP_END_POINT, c->backup_end_lsn);
    f[V15_CF_BACKUP_END_REQUIRED] = c->backup_end_required;
    loch_put_u32(f + V15_CF_WAL_LEVEL, p->wal_level);
    f[V15_CF_WAL_LOG_HINTS] = p->wal_log_hints;
    loch_put_u32(f + V15_CF_MAX_CONNECTIONS, p->max_connections);
    loch_put_u32(f + V15_CF_MAX_WORKER_PROCESSES, p->max_worker_processes);
    loch_put_u32(f + V15_CF_MAX_WAL_SENDERS, p->max_wal_senders);
    loch_put_u32(f + V15_CF_MAX_PREPARED_XACTS, p->max_prepared_xacts);
    loch_put_u32(f + V15_CF_MAX_LOCKS_PER_XACT, p->max_locks_per_xact);
    f[V15_CF_TRACK_COMMIT_TIMESTAMP] = p->track_commit_timestamp;
    format_layout(f, c);
    loch_put_u32(f + V15_CF_DATA_CHECKSUM_VERSION, c->data_checksum_version);
    memcpy(f + V15_CF_NONCE, c->nonce, LOCH_PG_NONCE_BYTES);
    loch_put_u32(f + V15_CF_CRC, control_crc(f));
}

LOCH_STATUS loch_control_encode(const struct loch_control *control, struct loch_buf *out)
{
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];
    struct loch_writer w;

    loch_control_format(control, file);
    loch_writer_init(&w, out);
    loch_write_u32(&w, SNAPSHOT_VERSION);
    loch_write_u64(&w, control->last_start);
    loch_write_u64(&w, control->last_end);
    loch_write_bytes(&w, file, V15_CF_BYTES);
    return loch_writer_finish(&w);
}

LOCH_STATUS loch_control_decode(struct loch_slice bytes, struct loch_control *out)
{
    if (bytes.len != SNAPSHOT_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a control snapshot of %zu bytes", bytes.len);
    if (loch_get_u32(bytes.data) != SNAPSHOT_VERSION)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a control snapshot of version %u",
                         loch_get_u32(bytes.data));
    LOCH_TRY(loch_control_parse(loch_slice_of(bytes.data + 20, V15_CF_BYTES), out));
    out->last_start = loch_get_u64(bytes.data + 4);
    out->last_end = loch_get_u64(bytes.data + 12);
    return LOCH_OK;
}
