/* A synthetic shutdown checkpoint record at exactly L, and the pg_control that points at it.
 *
 * A stock server started on them has nothing to replay and writes its next record behind the
 * checkpoint. The record is part of the timeline's WAL: the bytes from L to `end` are its first
 * entry in the term. On L's page a contrecord flag with the right length makes a scan from the
 * page's start land on L.
 *
 * Only the pages that hold something are given; every other byte of the segment file is zero.
 */
#ifndef LOCH_PG_CHECKPOINT_H
#define LOCH_PG_CHECKPOINT_H

#include "loch/base/types.h"
#include "loch/pg/control.h"
#include "loch/pg/wal_scan.h"

#include <stdint.h>

/* The first page of L's segment, L's page, and one more, which may begin the next segment. */
#define LOCH_CHECKPOINT_MAX_PAGES 3u

struct loch_wal_page {
    loch_lsn lsn; /* of the page's first byte */
    uint8_t bytes[LOCH_WAL_PAGE_BYTES];
};

struct loch_synthetic_checkpoint {
    loch_lsn location;      /* of the record: L, or behind the page header at L */
    loch_lsn end;           /* the first LSN the server writes at (a boundary) */
    uint64_t first_segment; /* number of L's segment (L / segment_bytes) */
    uint32_t segment_count; /* 1, or 2 when the record crosses into the next segment */
    uint32_t segment_bytes;
    uint32_t page_count;
    struct loch_wal_page pages[LOCH_CHECKPOINT_MAX_PAGES]; /* ascending */
    uint8_t pg_control[LOCH_PG_CONTROL_FILE_BYTES];        /* DB_SHUTDOWNED at location */
};

/* `control` holds the values as of L (after following all records before it). prev_lsn: exact start
 * of the record that ends at L. time: seconds since 1970. tli 1 unless the timeline has another.
 * LOCH_E_INVALID: L is no boundary. *out is large: allocate it. Any thread. */
LOCH_STATUS loch_checkpoint_synthesize(const struct loch_control *control, loch_lsn lsn,
                                       loch_lsn prev_lsn, uint32_t tli, int64_t time,
                                       struct loch_synthetic_checkpoint *out);

/* The length in bytes of WAL from L to end, and those bytes: what the server streams first. `out`
 * has room for LOCH_CHECKPOINT_MAX_STREAM_BYTES. For tests and tools. */
#define LOCH_CHECKPOINT_MAX_STREAM_BYTES 256u
size_t loch_checkpoint_stream(const struct loch_synthetic_checkpoint *checkpoint, loch_lsn lsn,
                              uint8_t out[static LOCH_CHECKPOINT_MAX_STREAM_BYTES]);

#endif
