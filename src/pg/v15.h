/* PostgreSQL 15's numbers: offsets, sizes, codes. Every one of them is proven against the real
 * headers by static_asserts in tests/unit/pg/test_v15.c. Private to the room.
 */
#ifndef LOCH_PG_V15_H
#define LOCH_PG_V15_H

#define V15_PAGE_MAGIC 0xD110u

/* page header (XLogPageHeaderData, XLogLongPageHeaderData) */
#define V15_XLP_MAGIC                         0u
#define V15_XLP_INFO                          2u
#define V15_XLP_TLI                           4u
#define V15_XLP_PAGEADDR                      8u
#define V15_XLP_REM_LEN                       16u
#define V15_XLP_SYSID                         24u
#define V15_XLP_SEG_SIZE                      32u
#define V15_XLP_BLCKSZ                        36u
#define V15_XLP_FIRST_IS_CONTRECORD           0x0001u
#define V15_XLP_LONG_HEADER                   0x0002u
#define V15_XLP_FIRST_IS_OVERWRITE_CONTRECORD 0x0008u
#define V15_XLP_ALL_FLAGS                     0x000Fu

/* record header (XLogRecord) */
#define V15_XL_TOT_LEN         0u
#define V15_XL_XID             4u
#define V15_XL_PREV            8u
#define V15_XL_INFO            16u
#define V15_XL_RMID            17u
#define V15_XL_CRC             20u
#define V15_XLR_RMGR_INFO_MASK 0xF0u

/* block references */
#define V15_BKPBLOCK_FORK_MASK    0x0Fu
#define V15_BKPBLOCK_HAS_IMAGE    0x10u
#define V15_BKPBLOCK_HAS_DATA     0x20u
#define V15_BKPBLOCK_WILL_INIT    0x40u
#define V15_BKPBLOCK_SAME_REL     0x80u
#define V15_BKPIMAGE_HAS_HOLE     0x01u
#define V15_BKPIMAGE_APPLY        0x02u
#define V15_BKPIMAGE_PGLZ         0x04u
#define V15_BKPIMAGE_LZ4          0x08u
#define V15_BKPIMAGE_ZSTD         0x10u
#define V15_BLOCK_ID_MAX          32u
#define V15_BLOCK_ID_DATA_SHORT   255u
#define V15_BLOCK_ID_DATA_LONG    254u
#define V15_BLOCK_ID_ORIGIN       253u
#define V15_BLOCK_ID_TOPLEVEL_XID 252u

/* XLOG */
#define V15_XLOG_CHECKPOINT_SHUTDOWN  0x00u
#define V15_XLOG_CHECKPOINT_ONLINE    0x10u
#define V15_XLOG_NOOP                 0x20u
#define V15_XLOG_NEXTOID              0x30u
#define V15_XLOG_SWITCH               0x40u
#define V15_XLOG_BACKUP_END           0x50u
#define V15_XLOG_PARAMETER_CHANGE     0x60u
#define V15_XLOG_RESTORE_POINT        0x70u
#define V15_XLOG_FPW_CHANGE           0x80u
#define V15_XLOG_END_OF_RECOVERY      0x90u
#define V15_XLOG_FPI_FOR_HINT         0xA0u
#define V15_XLOG_FPI                  0xB0u
#define V15_XLOG_OVERWRITE_CONTRECORD 0xD0u
#define V15_PARAMETER_CHANGE_BYTES    28u

/* CheckPoint */
#define V15_CP_REDO                 0u
#define V15_CP_TLI                  8u
#define V15_CP_PREV_TLI             12u
#define V15_CP_FULL_PAGE_WRITES     16u
#define V15_CP_NEXT_XID             24u
#define V15_CP_NEXT_OID             32u
#define V15_CP_NEXT_MULTI           36u
#define V15_CP_NEXT_MULTI_OFFSET    40u
#define V15_CP_OLDEST_XID           44u
#define V15_CP_OLDEST_XID_DB        48u
#define V15_CP_OLDEST_MULTI         52u
#define V15_CP_OLDEST_MULTI_DB      56u
#define V15_CP_TIME                 64u
#define V15_CP_OLDEST_COMMIT_TS_XID 72u
#define V15_CP_NEWEST_COMMIT_TS_XID 76u
#define V15_CP_OLDEST_ACTIVE_XID    80u

/* ControlFileData */
#define V15_CF_SYSTEM_IDENTIFIER      0u
#define V15_CF_CONTROL_VERSION        8u
#define V15_CF_CATALOG_VERSION        12u
#define V15_CF_STATE                  16u
#define V15_CF_TIME                   24u
#define V15_CF_CHECKPOINT             32u
#define V15_CF_CHECKPOINT_COPY        40u
#define V15_CF_UNLOGGED_LSN           128u
#define V15_CF_MIN_RECOVERY_POINT     136u
#define V15_CF_MIN_RECOVERY_TLI       144u
#define V15_CF_BACKUP_START_POINT     152u
#define V15_CF_BACKUP_END_POINT       160u
#define V15_CF_BACKUP_END_REQUIRED    168u
#define V15_CF_WAL_LEVEL              172u
#define V15_CF_WAL_LOG_HINTS          176u
#define V15_CF_MAX_CONNECTIONS        180u
#define V15_CF_MAX_WORKER_PROCESSES   184u
#define V15_CF_MAX_WAL_SENDERS        188u
#define V15_CF_MAX_PREPARED_XACTS     192u
#define V15_CF_MAX_LOCKS_PER_XACT     196u
#define V15_CF_TRACK_COMMIT_TIMESTAMP 200u
#define V15_CF_MAX_ALIGN              204u
#define V15_CF_FLOAT_FORMAT           208u
#define V15_CF_BLCKSZ                 216u
#define V15_CF_RELSEG_SIZE            220u
#define V15_CF_XLOG_BLCKSZ            224u
#define V15_CF_XLOG_SEG_SIZE          228u
#define V15_CF_NAME_DATA_LEN          232u
#define V15_CF_INDEX_MAX_KEYS         236u
#define V15_CF_TOAST_MAX_CHUNK_SIZE   240u
#define V15_CF_LOBLKSIZE              244u
#define V15_CF_FLOAT8_BY_VAL          248u
#define V15_CF_DATA_CHECKSUM_VERSION  252u
#define V15_CF_NONCE                  256u
#define V15_CF_CRC                    288u
#define V15_CF_BYTES                  296u
#define V15_RELSEG_SIZE               131072u
#define V15_NAME_DATA_LEN             64u
#define V15_INDEX_MAX_KEYS            32u
#define V15_TOAST_MAX_CHUNK_SIZE      1996u
#define V15_LOBLKSIZE                 2048u
#define V15_FLOAT_FORMAT_BITS         UINT64_C(0x4132D68700000000) /* the double 1234567.0 */

/* transactions */
#define V15_XACT_COMMIT             0x00u
#define V15_XACT_PREPARE            0x10u
#define V15_XACT_ABORT              0x20u
#define V15_XACT_COMMIT_PREPARED    0x30u
#define V15_XACT_ABORT_PREPARED     0x40u
#define V15_XACT_ASSIGNMENT         0x50u
#define V15_XACT_INVALIDATIONS      0x60u
#define V15_XACT_OPMASK             0x70u
#define V15_XACT_HAS_INFO           0x80u
#define V15_XINFO_HAS_DBINFO        (1u << 0)
#define V15_XINFO_HAS_SUBXACTS      (1u << 1)
#define V15_XINFO_HAS_RELFILENODES  (1u << 2)
#define V15_XINFO_HAS_INVALS        (1u << 3)
#define V15_XINFO_HAS_TWOPHASE      (1u << 4)
#define V15_XINFO_HAS_ORIGIN        (1u << 5)
#define V15_XINFO_HAS_AE_LOCKS      (1u << 6)
#define V15_XINFO_HAS_GID           (1u << 7)
#define V15_XINFO_HAS_DROPPED_STATS (1u << 8)
#define V15_STATS_ITEM_BYTES        12u
#define V15_INVAL_MESSAGE_BYTES     16u
#define V15_GID_BYTES               200u
#define V15_TWOPHASE_MAGIC          0x57F94534u
#define V15_PREPARE_BYTES           72u
#define V15_PREPARE_TOTAL_LEN       4u
#define V15_PREPARE_XID             8u
#define V15_PREPARE_NSUBXACTS       28u
#define V15_PREPARE_GIDLEN          54u
#define V15_PREPARE_ORIGIN_LSN      56u

/* storage, databases, tablespaces, maps */
#define V15_SMGR_CREATE            0x10u
#define V15_SMGR_TRUNCATE          0x20u
#define V15_SMGR_TRUNCATE_HEAP     0x0001u
#define V15_SMGR_TRUNCATE_VM       0x0002u
#define V15_SMGR_TRUNCATE_FSM      0x0004u
#define V15_DBASE_CREATE_FILE_COPY 0x00u
#define V15_DBASE_CREATE_WAL_LOG   0x10u
#define V15_DBASE_DROP             0x20u
#define V15_TBLSPC_CREATE          0x00u
#define V15_TBLSPC_DROP            0x10u
#define V15_RELMAP_UPDATE          0x00u

/* SLRUs, origins, standby */
#define V15_CLOG_ZEROPAGE               0x00u
#define V15_CLOG_TRUNCATE               0x10u
#define V15_COMMIT_TS_ZEROPAGE          0x00u
#define V15_COMMIT_TS_TRUNCATE          0x10u
#define V15_MULTIXACT_ZERO_OFF_PAGE     0x00u
#define V15_MULTIXACT_ZERO_MEM_PAGE     0x10u
#define V15_MULTIXACT_CREATE_ID         0x20u
#define V15_MULTIXACT_TRUNCATE_ID       0x30u
#define V15_MULTIXACT_MAX_STATUS        5u
#define V15_REPLORIGIN_SET              0x00u
#define V15_REPLORIGIN_DROP             0x10u
#define V15_REPLORIGIN_DO_NOT_REPLICATE 0xFFFFu
#define V15_STANDBY_RUNNING_XACTS       0x10u
#define V15_RUNNING_XACTS_NEXT_XID      12u

/* heap records that touch the visibility map */
#define V15_HEAP_OPMASK                        0x70u
#define V15_HEAP_INSERT                        0x00u
#define V15_HEAP_DELETE                        0x10u
#define V15_HEAP_UPDATE                        0x20u
#define V15_HEAP_TRUNCATE                      0x30u
#define V15_HEAP_HOT_UPDATE                    0x40u
#define V15_HEAP_CONFIRM                       0x50u
#define V15_HEAP_LOCK                          0x60u
#define V15_HEAP_INPLACE                       0x70u
#define V15_HEAP2_REWRITE                      0x00u
#define V15_HEAP2_PRUNE                        0x10u
#define V15_HEAP2_VACUUM                       0x20u
#define V15_HEAP2_FREEZE_PAGE                  0x30u
#define V15_HEAP2_VISIBLE                      0x40u
#define V15_HEAP2_MULTI_INSERT                 0x50u
#define V15_HEAP2_LOCK_UPDATED                 0x60u
#define V15_HEAP2_NEW_CID                      0x70u
#define V15_HEAP_INSERT_FLAGS                  2u
#define V15_HEAP_DELETE_FLAGS                  7u
#define V15_HEAP_UPDATE_FLAGS                  7u
#define V15_HEAP_LOCK_FLAGS                    7u
#define V15_HEAP_MULTI_INSERT_FLAGS            0u
#define V15_HEAP_LOCK_UPDATED_FLAGS            7u
#define V15_HEAP_VISIBLE_FLAGS                 4u
#define V15_XLH_INSERT_ALL_VISIBLE_CLEARED     0x01u
#define V15_XLH_DELETE_ALL_VISIBLE_CLEARED     0x01u
#define V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED 0x01u
#define V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED 0x02u
#define V15_XLH_LOCK_ALL_FROZEN_CLEARED        0x01u
#define V15_VM_VALID_BITS                      0x03u

#define V15_FIRST_NORMAL_XID   3u
#define V15_FSM_SLOTS_PER_PAGE 4069u
#define V15_FSM_TREE_DEPTH     3u

#endif
