/* Archived WAL: one immutable object holds one piece of a timeline's committed WAL.
 *
 * A sealed object whose content names the piece and holds its bytes, compressed with zstd when that
 * makes them smaller. Any safekeeper of the timeline may write a piece, and all write the same WAL:
 * the place names no node. Its generation is the piece's begin. Format: docs/format/wal-archive.md.
 * Any thread.
 */
#ifndef LOCH_FORMAT_WAL_ARCHIVE_H
#define LOCH_FORMAT_WAL_ARCHIVE_H

#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#define LOCH_WAL_ARCHIVE_MAX_BYTES (48u << 20) /* of WAL in one piece */

struct loch_wal_piece {
    loch_lsn begin, end; /* half-open, begin < end */
    uint64_t system_id;  /* PostgreSQL's */
    uint32_t pg_version;
    uint32_t segment_bytes;
};

/* Appends the sealed object to *out. place: kind WAL_ARCHIVE, tenant, timeline; its generation is
 * set from piece->begin. wal.len is end - begin. LOCH_E_LIMIT above LOCH_WAL_ARCHIVE_MAX_BYTES. */
LOCH_STATUS loch_wal_archive_seal(const struct loch_place *place, const struct loch_wrap_key *key,
                                  const struct loch_wal_piece *piece, struct loch_slice wal,
                                  struct loch_buf *out);
/* Fills *piece and appends its WAL to *wal; expected->generation is the begin that the caller asks
 * for. LOCH_E_CORRUPT: damaged, belongs elsewhere, or another piece; LOCH_E_UNSUPPORTED: a newer
 * format; keys' failures pass through. */
LOCH_STATUS loch_wal_archive_open(const struct loch_place *expected,
                                  const struct loch_key_source *keys, struct loch_slice sealed,
                                  struct loch_wal_piece *piece, struct loch_buf *wal);

#endif
