/* Finds record boundaries in a stream of PostgreSQL 15 WAL, fed in pieces of any size.
 *
 * Every page header is checked (magic, page address, long header, contrecord flag and remaining
 * length) and every record's CRC, length, resource manager and back link. Two modes: BOUNDARIES
 * keeps no record bytes and is what a safekeeper runs over everything it writes; RECORDS hands out
 * whole records and keeps at most one of them in memory.
 *
 * A boundary is MAXALIGN(record end) and is never moved over a page header that follows. An
 * XLOG_SWITCH and the padding behind it count as one record that ends at the segment's end. A
 * boundary is reported once the padding up to it has arrived: position >= last_end always.
 *
 * Source: access/xlogrecord.h, access/xlog_internal.h, the reader's rules of xlogreader.c.
 */
#ifndef LOCH_PG_WAL_SCAN_H
#define LOCH_PG_WAL_SCAN_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCH_WAL_PAGE_BYTES             8192u
#define LOCH_WAL_RECORD_HEADER_BYTES    24u
#define LOCH_WAL_PAGE_HEADER_BYTES      24u
#define LOCH_WAL_LONG_PAGE_HEADER_BYTES 40u
/* The longest record PostgreSQL 15 itself can read back (its allocation limit); longer is corrupt.
 */
#define LOCH_WAL_RECORD_MAX_BYTES 0x3FFFFFFFu
/* Room for a WAL file name and NUL. */
#define LOCH_WAL_SEGMENT_NAME_BYTES 25u

enum loch_wal_scan_mode { LOCH_WAL_SCAN_BOUNDARIES, LOCH_WAL_SCAN_RECORDS };

/* One complete record. */
struct loch_wal_span {
    loch_lsn
        start;    /* of the record header, behind any page header: what xl_prev of the next says */
    loch_lsn end; /* the boundary */
    /* RECORDS: the whole record, page headers removed, xl_tot_len bytes. BOUNDARIES: its 24 header
     * bytes. Borrowed: valid until the next call on this scan or until the input goes away. */
    struct loch_slice bytes;
};

/* Embedded by its owner. The members above the line may be read; none may be written. */
struct loch_wal_scan {
    loch_lsn position;   /* of the next byte wanted */
    loch_lsn last_start; /* start of the last complete record; at first the prev_lsn given */
    loch_lsn last_end;   /* the last boundary; at first the lsn given */
    bool ended;          /* a zero record length or zero page was met: nothing valid follows */
    uint64_t records;    /* complete records seen */
    /* ---- private ---- */
    enum loch_wal_scan_mode mode;
    uint32_t segment_bytes;
    uint32_t state;
    uint32_t header_got, header_need;
    uint32_t record_len, record_got;
    uint32_t crc;
    loch_lsn record_start;
    loch_lsn skip_to;
    bool prev_known;
    bool failed;
    bool yielded;
    uint8_t header[LOCH_WAL_LONG_PAGE_HEADER_BYTES];
    uint8_t record_header[LOCH_WAL_RECORD_HEADER_BYTES];
    struct loch_buf whole; /* RECORDS: a record that spans pages or chunks */
};

/* Begins at `lsn`, a record boundary (8-aligned; it may be the start of a page or segment, whose
 * header then comes first in the stream). prev_lsn is the start of the record that ends at lsn,
 * checked against the first record's back link; LOCH_LSN_NONE: unknown, not checked. segment_bytes:
 * a power of two, 1 MiB to 1 GiB. LOCH_E_INVALID when lsn cannot be a boundary. */
LOCH_STATUS loch_wal_scan_init(struct loch_wal_scan *scan, enum loch_wal_scan_mode mode,
                               loch_lsn lsn, loch_lsn prev_lsn, uint32_t segment_bytes);
void loch_wal_scan_fini(struct loch_wal_scan *scan);

/* Takes bytes off the front of *in until one record is complete (*found true, *out filled) or *in
 * is empty or the end of WAL is met (*found false; then scan->ended, and *in is left where it
 * stopped). Call again until *in is empty; a call with nothing in it lets go of the last record's
 * bytes. LOCH_E_CORRUPT: the stream is not WAL; the scan stays
 * failed, its last_start and last_end stay true. LOCH_E_NO_MEMORY (RECORDS only): likewise. */
LOCH_STATUS loch_wal_scan_next(struct loch_wal_scan *scan, struct loch_slice *in, bool *found,
                               struct loch_wal_span *out);

/* Takes all of `bytes`; read last_start and last_end afterwards. The end of WAL inside the bytes is
 * LOCH_E_CORRUPT here: for streams, which have none. For BOUNDARIES mode. */
LOCH_STATUS loch_wal_scan_feed(struct loch_wal_scan *scan, struct loch_slice bytes);

/* Where a record that follows boundary `lsn` has its header: lsn, or behind the page header there.
 */
loch_lsn loch_wal_record_position(loch_lsn lsn, uint32_t segment_bytes);
/* The page header's size at the page that begins at `page`. */
uint32_t loch_wal_page_header_bytes(loch_lsn page, uint32_t segment_bytes);
/* "000000010000000000000001" */
void loch_wal_segment_name(uint32_t tli, uint64_t segment_number, uint32_t segment_bytes,
                           char out[static LOCH_WAL_SEGMENT_NAME_BYTES]);

#endif
