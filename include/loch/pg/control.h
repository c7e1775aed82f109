/* The control machine: pg_control parsed, then followed along the WAL as redo does, so that at any
 * record boundary the exact nextXid, nextOid, nextMulti and so on are known; and pg_control
 * written.
 *
 * nextXid is exact, never rounded: rounding would skip the first xid of a commit_ts page, whose
 * ZEROPAGE record would then never be logged. Oldest* values come from checkpoints and truncation
 * records, so they may lag behind a running server's (which is safe) until the next checkpoint.
 *
 * A plain value: copy it by assignment. Source: catalog/pg_control.h, xlog_redo and friends of 15.
 */
#ifndef LOCH_PG_CONTROL_H
#define LOCH_PG_CONTROL_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCH_PG_CONTROL_FILE_BYTES 8192u
#define LOCH_PG_CONTROL_VERSION    1300u
#define LOCH_PG_CATALOG_VERSION    202209061u
#define LOCH_PG_NONCE_BYTES        32u
#define LOCH_PG_CHECKPOINT_BYTES   88u
#define LOCH_PG_MAJOR              15u

/* pg_control's DBState */
enum loch_db_state {
    LOCH_DB_STARTUP = 0,
    LOCH_DB_SHUTDOWNED = 1,
    LOCH_DB_SHUTDOWNED_IN_RECOVERY = 2,
    LOCH_DB_SHUTDOWNING = 3,
    LOCH_DB_IN_CRASH_RECOVERY = 4,
    LOCH_DB_IN_ARCHIVE_RECOVERY = 5,
    LOCH_DB_IN_PRODUCTION = 6
};

/* The body of a checkpoint record. */
struct loch_checkpoint {
    loch_lsn redo;
    uint32_t tli, prev_tli;
    bool full_page_writes;
    uint64_t next_xid; /* epoch in the high half */
    uint32_t next_oid;
    uint32_t next_multi, next_multi_offset;
    uint32_t oldest_xid, oldest_xid_db;
    uint32_t oldest_multi, oldest_multi_db;
    int64_t time; /* seconds since 1970 */
    uint32_t oldest_commit_ts_xid, newest_commit_ts_xid;
    uint32_t oldest_active_xid;
};

/* Settings a PARAMETER_CHANGE record carries. */
struct loch_pg_parameters {
    uint32_t wal_level; /* 0 minimal, 1 replica, 2 logical */
    bool wal_log_hints;
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts;
    uint32_t max_locks_per_xact;
    bool track_commit_timestamp;
};

struct loch_control {
    uint64_t system_id;
    uint32_t state;                    /* enum loch_db_state */
    int64_t time;                      /* of pg_control's last update, seconds since 1970 */
    loch_lsn checkpoint_lsn;           /* start of the last checkpoint record */
    struct loch_checkpoint checkpoint; /* after following: the values as of last_end */
    loch_lsn unlogged_lsn;
    loch_lsn min_recovery_lsn;
    uint32_t min_recovery_tli;
    loch_lsn backup_start_lsn, backup_end_lsn;
    bool backup_end_required;
    struct loch_pg_parameters parameters;
    uint32_t segment_bytes;
    uint32_t data_checksum_version;
    uint8_t nonce[LOCH_PG_NONCE_BYTES];
    /* where following stands: the last record taken in, LOCH_LSN_NONE before the first */
    loch_lsn last_start, last_end;
};

/* Parses a pg_control file (at least its first 8192 bytes). LOCH_E_CORRUPT: size, CRC.
 * LOCH_E_UNSUPPORTED: another PostgreSQL version, catalog version, block or segment layout. */
LOCH_STATUS loch_control_parse(struct loch_slice file, struct loch_control *out);

/* The pg_control file of these values, as they are. */
void loch_control_format(const struct loch_control *control,
                         uint8_t file[static LOCH_PG_CONTROL_FILE_BYTES]);

/* Takes in the next record. Records must come in order; those that start before checkpoint.redo of
 * the parsed pg_control must not be given. *changed (may be NULL): a value other than last_start
 * and last_end changed. LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED (custom resource managers); the control
 * is then unchanged. */
LOCH_STATUS loch_control_follow(struct loch_control *control, const struct loch_wal_record *record,
                                loch_lsn start, loch_lsn end, bool *changed);

/* The body of a checkpoint record, 88 bytes. */
LOCH_STATUS loch_checkpoint_parse(struct loch_slice body, struct loch_checkpoint *out);
void loch_checkpoint_format(const struct loch_checkpoint *checkpoint,
                            uint8_t out[static LOCH_PG_CHECKPOINT_BYTES]);

/* The snapshot stored under LOCH_KEY_CONTROL, appended: everything above, with a format version.
 * LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_control_encode(const struct loch_control *control, struct loch_buf *out);
LOCH_STATUS loch_control_decode(struct loch_slice bytes, struct loch_control *out);

#endif
