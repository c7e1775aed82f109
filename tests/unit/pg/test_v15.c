/* Proves src/pg/v15.h against the headers of the PostgreSQL that is installed. Nothing happens at
 * run time: if it compiles, the numbers are right. */
#include "postgres.h"

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/heapam_xlog.h"
#include "access/multixact.h"
#include "access/rmgr.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "catalog/catversion.h"
#include "catalog/pg_control.h"
#include "catalog/storage_xlog.h"
#include "commands/dbcommands_xlog.h"
#include "commands/tablespace.h"
#include "replication/origin.h"
#include "storage/bufpage.h"
#include "storage/checksum.h"
#include "storage/checksum_impl.h"
#include "storage/fsm_internals.h"
#include "storage/sinval.h"
#include "storage/standbydefs.h"
#include "utils/relmapper.h"

#include "loch/pg/control.h"
#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"
#include "v15.h"

#define SAME(ours_, theirs_)      _Static_assert((long long)(ours_) == (long long)(theirs_), #ours_)
#define AT(ours_, type_, member_) SAME(ours_, offsetof(type_, member_))

_Static_assert(PG_VERSION_NUM / 10000 == LOCH_PG_MAJOR, "this table is for PostgreSQL 15");

SAME(V15_PAGE_MAGIC, XLOG_PAGE_MAGIC);
SAME(LOCH_WAL_PAGE_BYTES, XLOG_BLCKSZ);
SAME(LOCH_WAL_PAGE_HEADER_BYTES, SizeOfXLogShortPHD);
SAME(LOCH_WAL_LONG_PAGE_HEADER_BYTES, SizeOfXLogLongPHD);
AT(V15_XLP_MAGIC, XLogPageHeaderData, xlp_magic);
AT(V15_XLP_INFO, XLogPageHeaderData, xlp_info);
AT(V15_XLP_TLI, XLogPageHeaderData, xlp_tli);
AT(V15_XLP_PAGEADDR, XLogPageHeaderData, xlp_pageaddr);
AT(V15_XLP_REM_LEN, XLogPageHeaderData, xlp_rem_len);
AT(V15_XLP_SYSID, XLogLongPageHeaderData, xlp_sysid);
AT(V15_XLP_SEG_SIZE, XLogLongPageHeaderData, xlp_seg_size);
AT(V15_XLP_BLCKSZ, XLogLongPageHeaderData, xlp_xlog_blcksz);
SAME(V15_XLP_FIRST_IS_CONTRECORD, XLP_FIRST_IS_CONTRECORD);
SAME(V15_XLP_LONG_HEADER, XLP_LONG_HEADER);
SAME(V15_XLP_FIRST_IS_OVERWRITE_CONTRECORD, XLP_FIRST_IS_OVERWRITE_CONTRECORD);
SAME(V15_XLP_ALL_FLAGS, XLP_ALL_FLAGS);

SAME(LOCH_WAL_RECORD_HEADER_BYTES, SizeOfXLogRecord);
AT(V15_XL_TOT_LEN, XLogRecord, xl_tot_len);
AT(V15_XL_XID, XLogRecord, xl_xid);
AT(V15_XL_PREV, XLogRecord, xl_prev);
AT(V15_XL_INFO, XLogRecord, xl_info);
AT(V15_XL_RMID, XLogRecord, xl_rmid);
AT(V15_XL_CRC, XLogRecord, xl_crc);
SAME(V15_XLR_RMGR_INFO_MASK, XLR_RMGR_INFO_MASK);
SAME(LOCH_WAL_INFO_SPECIAL_REL_UPDATE, XLR_SPECIAL_REL_UPDATE);
SAME(LOCH_WAL_INFO_CHECK_CONSISTENCY, XLR_CHECK_CONSISTENCY);
SAME(V15_BKPBLOCK_FORK_MASK, BKPBLOCK_FORK_MASK);
SAME(V15_BKPBLOCK_HAS_IMAGE, BKPBLOCK_HAS_IMAGE);
SAME(V15_BKPBLOCK_HAS_DATA, BKPBLOCK_HAS_DATA);
SAME(V15_BKPBLOCK_WILL_INIT, BKPBLOCK_WILL_INIT);
SAME(V15_BKPBLOCK_SAME_REL, BKPBLOCK_SAME_REL);
SAME(V15_BKPIMAGE_HAS_HOLE, BKPIMAGE_HAS_HOLE);
SAME(V15_BKPIMAGE_APPLY, BKPIMAGE_APPLY);
SAME(V15_BKPIMAGE_PGLZ, BKPIMAGE_COMPRESS_PGLZ);
SAME(V15_BKPIMAGE_LZ4, BKPIMAGE_COMPRESS_LZ4);
SAME(V15_BKPIMAGE_ZSTD, BKPIMAGE_COMPRESS_ZSTD);
SAME(V15_BLOCK_ID_MAX, XLR_MAX_BLOCK_ID);
SAME(LOCH_WAL_MAX_BLOCKS, XLR_MAX_BLOCK_ID + 1);
SAME(V15_BLOCK_ID_DATA_SHORT, XLR_BLOCK_ID_DATA_SHORT);
SAME(V15_BLOCK_ID_DATA_LONG, XLR_BLOCK_ID_DATA_LONG);
SAME(V15_BLOCK_ID_ORIGIN, XLR_BLOCK_ID_ORIGIN);
SAME(V15_BLOCK_ID_TOPLEVEL_XID, XLR_BLOCK_ID_TOPLEVEL_XID);
SAME(SizeOfXLogRecordBlockHeader, 4);
SAME(SizeOfXLogRecordBlockImageHeader, 5);
SAME(SizeOfXLogRecordBlockCompressHeader, 2);
SAME(sizeof(RelFileNode), 12);
AT(0, RelFileNode, spcNode);
AT(4, RelFileNode, dbNode);
AT(8, RelFileNode, relNode);
SAME(LOCH_FORK_MAIN, MAIN_FORKNUM);
SAME(LOCH_FORK_FSM, FSM_FORKNUM);
SAME(LOCH_FORK_VM, VISIBILITYMAP_FORKNUM);
SAME(LOCH_FORK_INIT, INIT_FORKNUM);

SAME(LOCH_RM_XLOG, RM_XLOG_ID);
SAME(LOCH_RM_XACT, RM_XACT_ID);
SAME(LOCH_RM_SMGR, RM_SMGR_ID);
SAME(LOCH_RM_CLOG, RM_CLOG_ID);
SAME(LOCH_RM_DBASE, RM_DBASE_ID);
SAME(LOCH_RM_TBLSPC, RM_TBLSPC_ID);
SAME(LOCH_RM_MULTIXACT, RM_MULTIXACT_ID);
SAME(LOCH_RM_RELMAP, RM_RELMAP_ID);
SAME(LOCH_RM_STANDBY, RM_STANDBY_ID);
SAME(LOCH_RM_HEAP2, RM_HEAP2_ID);
SAME(LOCH_RM_HEAP, RM_HEAP_ID);
SAME(LOCH_RM_BTREE, RM_BTREE_ID);
SAME(LOCH_RM_HASH, RM_HASH_ID);
SAME(LOCH_RM_GIN, RM_GIN_ID);
SAME(LOCH_RM_GIST, RM_GIST_ID);
SAME(LOCH_RM_SEQ, RM_SEQ_ID);
SAME(LOCH_RM_SPGIST, RM_SPGIST_ID);
SAME(LOCH_RM_BRIN, RM_BRIN_ID);
SAME(LOCH_RM_COMMIT_TS, RM_COMMIT_TS_ID);
SAME(LOCH_RM_REPLORIGIN, RM_REPLORIGIN_ID);
SAME(LOCH_RM_GENERIC, RM_GENERIC_ID);
SAME(LOCH_RM_LOGICALMSG, RM_LOGICALMSG_ID);
SAME(LOCH_RM_BUILTIN_COUNT, RM_MAX_BUILTIN_ID + 1);
SAME(LOCH_RM_CUSTOM_FIRST, RM_MIN_CUSTOM_ID);

SAME(V15_XLOG_CHECKPOINT_SHUTDOWN, XLOG_CHECKPOINT_SHUTDOWN);
SAME(V15_XLOG_CHECKPOINT_ONLINE, XLOG_CHECKPOINT_ONLINE);
SAME(V15_XLOG_NOOP, XLOG_NOOP);
SAME(V15_XLOG_NEXTOID, XLOG_NEXTOID);
SAME(V15_XLOG_SWITCH, XLOG_SWITCH);
SAME(V15_XLOG_BACKUP_END, XLOG_BACKUP_END);
SAME(V15_XLOG_PARAMETER_CHANGE, XLOG_PARAMETER_CHANGE);
SAME(V15_XLOG_RESTORE_POINT, XLOG_RESTORE_POINT);
SAME(V15_XLOG_FPW_CHANGE, XLOG_FPW_CHANGE);
SAME(V15_XLOG_END_OF_RECOVERY, XLOG_END_OF_RECOVERY);
SAME(V15_XLOG_FPI_FOR_HINT, XLOG_FPI_FOR_HINT);
SAME(V15_XLOG_FPI, XLOG_FPI);
SAME(V15_XLOG_OVERWRITE_CONTRECORD, XLOG_OVERWRITE_CONTRECORD);
SAME(V15_PARAMETER_CHANGE_BYTES, sizeof(xl_parameter_change));
AT(0, xl_parameter_change, MaxConnections);
AT(4, xl_parameter_change, max_worker_processes);
AT(8, xl_parameter_change, max_wal_senders);
AT(12, xl_parameter_change, max_prepared_xacts);
AT(16, xl_parameter_change, max_locks_per_xact);
AT(20, xl_parameter_change, wal_level);
AT(24, xl_parameter_change, wal_log_hints);
AT(25, xl_parameter_change, track_commit_timestamp);
AT(8, xl_end_of_recovery, ThisTimeLineID);
AT(12, xl_end_of_recovery, PrevTimeLineID);

SAME(LOCH_PG_CHECKPOINT_BYTES, sizeof(CheckPoint));
AT(V15_CP_REDO, CheckPoint, redo);
AT(V15_CP_TLI, CheckPoint, ThisTimeLineID);
AT(V15_CP_PREV_TLI, CheckPoint, PrevTimeLineID);
AT(V15_CP_FULL_PAGE_WRITES, CheckPoint, fullPageWrites);
AT(V15_CP_NEXT_XID, CheckPoint, nextXid);
AT(V15_CP_NEXT_OID, CheckPoint, nextOid);
AT(V15_CP_NEXT_MULTI, CheckPoint, nextMulti);
AT(V15_CP_NEXT_MULTI_OFFSET, CheckPoint, nextMultiOffset);
AT(V15_CP_OLDEST_XID, CheckPoint, oldestXid);
AT(V15_CP_OLDEST_XID_DB, CheckPoint, oldestXidDB);
AT(V15_CP_OLDEST_MULTI, CheckPoint, oldestMulti);
AT(V15_CP_OLDEST_MULTI_DB, CheckPoint, oldestMultiDB);
AT(V15_CP_TIME, CheckPoint, time);
AT(V15_CP_OLDEST_COMMIT_TS_XID, CheckPoint, oldestCommitTsXid);
AT(V15_CP_NEWEST_COMMIT_TS_XID, CheckPoint, newestCommitTsXid);
AT(V15_CP_OLDEST_ACTIVE_XID, CheckPoint, oldestActiveXid);

SAME(LOCH_PG_CONTROL_FILE_BYTES, PG_CONTROL_FILE_SIZE);
SAME(LOCH_PG_CONTROL_VERSION, PG_CONTROL_VERSION);
SAME(LOCH_PG_CATALOG_VERSION, CATALOG_VERSION_NO);
SAME(LOCH_PG_NONCE_BYTES, MOCK_AUTH_NONCE_LEN);
SAME(V15_CF_BYTES, sizeof(ControlFileData));
AT(V15_CF_SYSTEM_IDENTIFIER, ControlFileData, system_identifier);
AT(V15_CF_CONTROL_VERSION, ControlFileData, pg_control_version);
AT(V15_CF_CATALOG_VERSION, ControlFileData, catalog_version_no);
AT(V15_CF_STATE, ControlFileData, state);
AT(V15_CF_TIME, ControlFileData, time);
AT(V15_CF_CHECKPOINT, ControlFileData, checkPoint);
AT(V15_CF_CHECKPOINT_COPY, ControlFileData, checkPointCopy);
AT(V15_CF_UNLOGGED_LSN, ControlFileData, unloggedLSN);
AT(V15_CF_MIN_RECOVERY_POINT, ControlFileData, minRecoveryPoint);
AT(V15_CF_MIN_RECOVERY_TLI, ControlFileData, minRecoveryPointTLI);
AT(V15_CF_BACKUP_START_POINT, ControlFileData, backupStartPoint);
AT(V15_CF_BACKUP_END_POINT, ControlFileData, backupEndPoint);
AT(V15_CF_BACKUP_END_REQUIRED, ControlFileData, backupEndRequired);
AT(V15_CF_WAL_LEVEL, ControlFileData, wal_level);
AT(V15_CF_WAL_LOG_HINTS, ControlFileData, wal_log_hints);
AT(V15_CF_MAX_CONNECTIONS, ControlFileData, MaxConnections);
AT(V15_CF_MAX_WORKER_PROCESSES, ControlFileData, max_worker_processes);
AT(V15_CF_MAX_WAL_SENDERS, ControlFileData, max_wal_senders);
AT(V15_CF_MAX_PREPARED_XACTS, ControlFileData, max_prepared_xacts);
AT(V15_CF_MAX_LOCKS_PER_XACT, ControlFileData, max_locks_per_xact);
AT(V15_CF_TRACK_COMMIT_TIMESTAMP, ControlFileData, track_commit_timestamp);
AT(V15_CF_MAX_ALIGN, ControlFileData, maxAlign);
AT(V15_CF_FLOAT_FORMAT, ControlFileData, floatFormat);
AT(V15_CF_BLCKSZ, ControlFileData, blcksz);
AT(V15_CF_RELSEG_SIZE, ControlFileData, relseg_size);
AT(V15_CF_XLOG_BLCKSZ, ControlFileData, xlog_blcksz);
AT(V15_CF_XLOG_SEG_SIZE, ControlFileData, xlog_seg_size);
AT(V15_CF_NAME_DATA_LEN, ControlFileData, nameDataLen);
AT(V15_CF_INDEX_MAX_KEYS, ControlFileData, indexMaxKeys);
AT(V15_CF_TOAST_MAX_CHUNK_SIZE, ControlFileData, toast_max_chunk_size);
AT(V15_CF_LOBLKSIZE, ControlFileData, loblksize);
AT(V15_CF_FLOAT8_BY_VAL, ControlFileData, float8ByVal);
AT(V15_CF_DATA_CHECKSUM_VERSION, ControlFileData, data_checksum_version);
AT(V15_CF_NONCE, ControlFileData, mock_authentication_nonce);
AT(V15_CF_CRC, ControlFileData, crc);
SAME(V15_RELSEG_SIZE, RELSEG_SIZE);
SAME(V15_NAME_DATA_LEN, NAMEDATALEN);
SAME(V15_INDEX_MAX_KEYS, INDEX_MAX_KEYS);
SAME(LOCH_DB_SHUTDOWNED, DB_SHUTDOWNED);
SAME(LOCH_DB_IN_PRODUCTION, DB_IN_PRODUCTION);

SAME(V15_XACT_COMMIT, XLOG_XACT_COMMIT);
SAME(V15_XACT_PREPARE, XLOG_XACT_PREPARE);
SAME(V15_XACT_ABORT, XLOG_XACT_ABORT);
SAME(V15_XACT_COMMIT_PREPARED, XLOG_XACT_COMMIT_PREPARED);
SAME(V15_XACT_ABORT_PREPARED, XLOG_XACT_ABORT_PREPARED);
SAME(V15_XACT_ASSIGNMENT, XLOG_XACT_ASSIGNMENT);
SAME(V15_XACT_INVALIDATIONS, XLOG_XACT_INVALIDATIONS);
SAME(V15_XACT_OPMASK, XLOG_XACT_OPMASK);
SAME(V15_XACT_HAS_INFO, XLOG_XACT_HAS_INFO);
SAME(V15_XINFO_HAS_DBINFO, XACT_XINFO_HAS_DBINFO);
SAME(V15_XINFO_HAS_SUBXACTS, XACT_XINFO_HAS_SUBXACTS);
SAME(V15_XINFO_HAS_RELFILENODES, XACT_XINFO_HAS_RELFILENODES);
SAME(V15_XINFO_HAS_INVALS, XACT_XINFO_HAS_INVALS);
SAME(V15_XINFO_HAS_TWOPHASE, XACT_XINFO_HAS_TWOPHASE);
SAME(V15_XINFO_HAS_ORIGIN, XACT_XINFO_HAS_ORIGIN);
SAME(V15_XINFO_HAS_AE_LOCKS, XACT_XINFO_HAS_AE_LOCKS);
SAME(V15_XINFO_HAS_GID, XACT_XINFO_HAS_GID);
SAME(V15_XINFO_HAS_DROPPED_STATS, XACT_XINFO_HAS_DROPPED_STATS);
SAME(V15_STATS_ITEM_BYTES, sizeof(xl_xact_stats_item));
SAME(V15_INVAL_MESSAGE_BYTES, sizeof(SharedInvalidationMessage));
SAME(V15_GID_BYTES, GIDSIZE);
SAME(MinSizeOfXactCommit, 8);
SAME(sizeof(xl_xact_dbinfo), 8);
SAME(sizeof(xl_xact_origin), 16);
SAME(V15_PREPARE_BYTES, MAXALIGN(sizeof(xl_xact_prepare)));
AT(V15_PREPARE_TOTAL_LEN, xl_xact_prepare, total_len);
AT(V15_PREPARE_XID, xl_xact_prepare, xid);
AT(V15_PREPARE_NSUBXACTS, xl_xact_prepare, nsubxacts);
AT(V15_PREPARE_GIDLEN, xl_xact_prepare, gidlen);
AT(V15_PREPARE_ORIGIN_LSN, xl_xact_prepare, origin_lsn);

SAME(V15_SMGR_CREATE, XLOG_SMGR_CREATE);
SAME(V15_SMGR_TRUNCATE, XLOG_SMGR_TRUNCATE);
SAME(V15_SMGR_TRUNCATE_HEAP, SMGR_TRUNCATE_HEAP);
SAME(V15_SMGR_TRUNCATE_VM, SMGR_TRUNCATE_VM);
SAME(V15_SMGR_TRUNCATE_FSM, SMGR_TRUNCATE_FSM);
AT(12, xl_smgr_create, forkNum);
AT(0, xl_smgr_truncate, blkno);
AT(4, xl_smgr_truncate, rnode);
AT(16, xl_smgr_truncate, flags);
SAME(V15_DBASE_CREATE_FILE_COPY, XLOG_DBASE_CREATE_FILE_COPY);
SAME(V15_DBASE_CREATE_WAL_LOG, XLOG_DBASE_CREATE_WAL_LOG);
SAME(V15_DBASE_DROP, XLOG_DBASE_DROP);
AT(4, xl_dbase_create_file_copy_rec, tablespace_id);
AT(8, xl_dbase_create_file_copy_rec, src_db_id);
AT(12, xl_dbase_create_file_copy_rec, src_tablespace_id);
AT(4, xl_dbase_create_wal_log_rec, tablespace_id);
AT(8, xl_dbase_drop_rec, tablespace_ids);
SAME(V15_TBLSPC_CREATE, XLOG_TBLSPC_CREATE);
SAME(V15_TBLSPC_DROP, XLOG_TBLSPC_DROP);
AT(4, xl_tblspc_create_rec, ts_path);
SAME(V15_RELMAP_UPDATE, XLOG_RELMAP_UPDATE);
AT(12, xl_relmap_update, data);

SAME(V15_CLOG_ZEROPAGE, CLOG_ZEROPAGE);
SAME(V15_CLOG_TRUNCATE, CLOG_TRUNCATE);
AT(4, xl_clog_truncate, oldestXact);
AT(8, xl_clog_truncate, oldestXactDb);
SAME(V15_COMMIT_TS_ZEROPAGE, COMMIT_TS_ZEROPAGE);
SAME(V15_COMMIT_TS_TRUNCATE, COMMIT_TS_TRUNCATE);
AT(4, xl_commit_ts_truncate, oldestXid);
SAME(V15_MULTIXACT_ZERO_OFF_PAGE, XLOG_MULTIXACT_ZERO_OFF_PAGE);
SAME(V15_MULTIXACT_ZERO_MEM_PAGE, XLOG_MULTIXACT_ZERO_MEM_PAGE);
SAME(V15_MULTIXACT_CREATE_ID, XLOG_MULTIXACT_CREATE_ID);
SAME(V15_MULTIXACT_TRUNCATE_ID, XLOG_MULTIXACT_TRUNCATE_ID);
SAME(V15_MULTIXACT_MAX_STATUS, MaxMultiXactStatus);
AT(4, xl_multixact_create, moff);
AT(8, xl_multixact_create, nmembers);
AT(12, xl_multixact_create, members);
SAME(sizeof(MultiXactMember), 8);
AT(4, MultiXactMember, status);
AT(8, xl_multixact_truncate, endTruncOff);
AT(16, xl_multixact_truncate, endTruncMemb);
SAME(V15_REPLORIGIN_SET, XLOG_REPLORIGIN_SET);
SAME(V15_REPLORIGIN_DROP, XLOG_REPLORIGIN_DROP);
SAME(V15_REPLORIGIN_DO_NOT_REPLICATE, DoNotReplicateId);
AT(8, xl_replorigin_set, node_id);
AT(10, xl_replorigin_set, force);
SAME(V15_STANDBY_RUNNING_XACTS, XLOG_RUNNING_XACTS);
AT(V15_RUNNING_XACTS_NEXT_XID, xl_running_xacts, nextXid);
SAME(LOCH_XACT_COMMITTED, TRANSACTION_STATUS_COMMITTED);
SAME(LOCH_XACT_ABORTED, TRANSACTION_STATUS_ABORTED);
SAME(LOCH_XACT_SUB_COMMITTED, TRANSACTION_STATUS_SUB_COMMITTED);

SAME(V15_HEAP_OPMASK, XLOG_HEAP_OPMASK);
SAME(V15_HEAP_INSERT, XLOG_HEAP_INSERT);
SAME(V15_HEAP_DELETE, XLOG_HEAP_DELETE);
SAME(V15_HEAP_UPDATE, XLOG_HEAP_UPDATE);
SAME(V15_HEAP_TRUNCATE, XLOG_HEAP_TRUNCATE);
SAME(V15_HEAP_HOT_UPDATE, XLOG_HEAP_HOT_UPDATE);
SAME(V15_HEAP_CONFIRM, XLOG_HEAP_CONFIRM);
SAME(V15_HEAP_LOCK, XLOG_HEAP_LOCK);
SAME(V15_HEAP_INPLACE, XLOG_HEAP_INPLACE);
SAME(V15_HEAP2_REWRITE, XLOG_HEAP2_REWRITE);
SAME(V15_HEAP2_PRUNE, XLOG_HEAP2_PRUNE);
SAME(V15_HEAP2_VACUUM, XLOG_HEAP2_VACUUM);
SAME(V15_HEAP2_FREEZE_PAGE, XLOG_HEAP2_FREEZE_PAGE);
SAME(V15_HEAP2_VISIBLE, XLOG_HEAP2_VISIBLE);
SAME(V15_HEAP2_MULTI_INSERT, XLOG_HEAP2_MULTI_INSERT);
SAME(V15_HEAP2_LOCK_UPDATED, XLOG_HEAP2_LOCK_UPDATED);
SAME(V15_HEAP2_NEW_CID, XLOG_HEAP2_NEW_CID);
AT(V15_HEAP_INSERT_FLAGS, xl_heap_insert, flags);
AT(V15_HEAP_DELETE_FLAGS, xl_heap_delete, flags);
AT(V15_HEAP_UPDATE_FLAGS, xl_heap_update, flags);
AT(V15_HEAP_LOCK_FLAGS, xl_heap_lock, flags);
AT(V15_HEAP_MULTI_INSERT_FLAGS, xl_heap_multi_insert, flags);
AT(V15_HEAP_LOCK_UPDATED_FLAGS, xl_heap_lock_updated, flags);
AT(V15_HEAP_VISIBLE_FLAGS, xl_heap_visible, flags);
SAME(V15_XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_INSERT_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_DELETE_ALL_VISIBLE_CLEARED, XLH_DELETE_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED, XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_LOCK_ALL_FROZEN_CLEARED, XLH_LOCK_ALL_FROZEN_CLEARED);
SAME(V15_VM_VALID_BITS, VISIBILITYMAP_VALID_BITS);
SAME(LOCH_VM_ALL_VISIBLE, VISIBILITYMAP_ALL_VISIBLE);
SAME(LOCH_VM_ALL_FROZEN, VISIBILITYMAP_ALL_FROZEN);

SAME(LOCH_PG_PAGE_HEADER_BYTES, MAXALIGN(SizeOfPageHeaderData));
SAME(LOCH_PG_PAGE_LAYOUT, BLCKSZ | PG_PAGE_LAYOUT_VERSION);
SAME(LOCH_PAGE_BYTES, BLCKSZ);
SAME(V15_FIRST_NORMAL_XID, FirstNormalTransactionId);
SAME(V15_FSM_SLOTS_PER_PAGE, SlotsPerFSMPage);
SAME(LOCH_VM_HEAP_BLOCKS_PER_PAGE, (BLCKSZ - MAXALIGN(SizeOfPageHeaderData)) * 4);

/* The server's own code for its page checksums is the oracle of ours. */
static bool checksums_agree(void)
{
    union {
        uint64_t words[BLCKSZ / 8];
        uint8_t bytes[BLCKSZ];
        char chars[BLCKSZ];
    } page;
    uint64_t x = UINT64_C(0x9E3779B97F4A7C15);

    for (uint32_t round = 0; round < 1000; round++) {
        for (size_t i = 0; i < BLCKSZ / 8; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            page.words[i] = round % 2 == 0 ? x : 0;
        }
        page.bytes[15] |= 1; /* pd_upper: not a new page */
        const uint32_t block = round % 3 == 0 ? round : (uint32_t)x;
        if (pg_checksum_page(page.chars, block) != loch_page_checksum_for(page.bytes, block))
            return false;
    }
    return true;
}

int main(void)
{
    return checksums_agree() ? 0 : 1;
}
