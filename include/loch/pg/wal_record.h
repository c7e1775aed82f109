/* A whole PostgreSQL 15 WAL record taken apart: header, block references, images, main data.
 *
 * Everything borrows from the record's bytes. Any bytes may be given: what does not add up is
 * LOCH_E_CORRUPT, also two references to one page. The CRC is the scanner's business and not
 * checked here.
 *
 * Source: access/xlogrecord.h, DecodeXLogRecord of xlogreader.c.
 */
#ifndef LOCH_PG_WAL_RECORD_H
#define LOCH_PG_WAL_RECORD_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#include <stdbool.h>
#include <stdint.h>

/* Resource manager ids of PostgreSQL 15. */
enum loch_rmgr {
    LOCH_RM_XLOG = 0,
    LOCH_RM_XACT = 1,
    LOCH_RM_SMGR = 2,
    LOCH_RM_CLOG = 3,
    LOCH_RM_DBASE = 4,
    LOCH_RM_TBLSPC = 5,
    LOCH_RM_MULTIXACT = 6,
    LOCH_RM_RELMAP = 7,
    LOCH_RM_STANDBY = 8,
    LOCH_RM_HEAP2 = 9,
    LOCH_RM_HEAP = 10,
    LOCH_RM_BTREE = 11,
    LOCH_RM_HASH = 12,
    LOCH_RM_GIN = 13,
    LOCH_RM_GIST = 14,
    LOCH_RM_SEQ = 15,
    LOCH_RM_SPGIST = 16,
    LOCH_RM_BRIN = 17,
    LOCH_RM_COMMIT_TS = 18,
    LOCH_RM_REPLORIGIN = 19,
    LOCH_RM_GENERIC = 20,
    LOCH_RM_LOGICALMSG = 21,
    LOCH_RM_CUSTOM_FIRST = 128
};
#define LOCH_RM_BUILTIN_COUNT 22u

/* info bits of xl_info that are not the resource manager's own */
#define LOCH_WAL_INFO_SPECIAL_REL_UPDATE 0x01u
#define LOCH_WAL_INFO_CHECK_CONSISTENCY  0x02u

#define LOCH_WAL_MAX_BLOCKS 33u /* block ids 0..32 */

enum loch_wal_compression {
    LOCH_WAL_PLAIN = 0,
    LOCH_WAL_PGLZ = 1,
    LOCH_WAL_LZ4 = 2,
    LOCH_WAL_ZSTD = 3
};

struct loch_wal_block {
    uint8_t id;
    uint8_t fork; /* enum loch_fork */
    bool same_rel;
    bool will_init;
    bool has_data;
    bool has_image;
    bool apply_image;    /* redo restores the image; without it the image is for checking only */
    uint8_t compression; /* enum loch_wal_compression */
    struct loch_rel rel;
    uint32_t block;
    /* The page is image[0, hole_offset), hole_length zeros, then the rest; the image is compressed
     * as a whole, without the hole, into `image`. */
    uint16_t hole_offset, hole_length;
    struct loch_slice image;
    struct loch_slice data;
};

struct loch_wal_record {
    loch_lsn prev;
    uint32_t total_len;
    uint32_t xid;
    uint8_t info;
    uint8_t rmid;
    uint16_t origin;       /* replication origin, 0: none */
    uint32_t toplevel_xid; /* 0: not stated */
    struct loch_slice main_data;
    uint32_t block_count;
    struct loch_wal_block blocks[LOCH_WAL_MAX_BLOCKS]; /* in order of id, ids may have gaps; no
                                                          page twice */
};

/* `bytes` is exactly one record. LOCH_E_CORRUPT; *out is then undefined. Any thread. */
LOCH_STATUS loch_wal_record_decode(struct loch_slice bytes, struct loch_wal_record *out);

/* The block reference with that id, or NULL. */
const struct loch_wal_block *loch_wal_record_block(const struct loch_wal_record *record,
                                                   uint8_t id);

/* Writes the page of an uncompressed image (b->has_image and compression LOCH_WAL_PLAIN; others are
 * LOCH_E_UNSUPPORTED here: the room `redo` opens them). Does not set the page's LSN: redo sets it
 * to the record's end unless the page is all zeros (loch_page_set_lsn). */
LOCH_STATUS loch_wal_block_plain_image(const struct loch_wal_block *block,
                                       uint8_t page[static LOCH_PAGE_BYTES]);

/* True for a record that ends a transaction (COMMIT, ABORT, and those of prepared ones): when it
 * ended, in PostgreSQL's microseconds since 2000-01-01 00:00 UTC. It is what recovery_target_time
 * is compared with. */
bool loch_wal_record_xact_time(const struct loch_wal_record *record, int64_t *time_us);

/* "Heap" and so on, as pg_waldump prints it; "custom" from 128 on, NULL when unknown. */
const char *loch_rmgr_name(uint8_t rmid);

#endif
