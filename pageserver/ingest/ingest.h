/* Ingest: WAL records in, versions of keys out, for one timeline.
 *
 * Bytes are fed in any pieces, from exactly loch_ingest_position on; every record is checked (CRC,
 * back link), decoded once, and its effects put; then the timeline's last_record_lsn advances. One
 * thread at a time (a pool thread: sizes and databases may have to be read from layer files).
 */
#ifndef LOCH_PAGESERVER_INGEST_INGEST_H
#define LOCH_PAGESERVER_INGEST_INGEST_H

#include "store/timeline.h"

#include "loch/base/buf.h"
#include "loch/pg/control.h"

struct loch_ingest;

struct loch_ingest_stats {
    uint64_t records, bytes, page_records, page_images, copied_pages;
};

/* Resumes at the timeline's last_record_lsn, from the control snapshot in its manifest. Retains t.
 */
LOCH_STATUS loch_ingest_create(struct loch_timeline *t, struct loch_ingest **out);
/* Takes NULL. */
void loch_ingest_destroy(struct loch_ingest *ingest);
/* Where the next byte must come from; may be inside a record. */
loch_lsn loch_ingest_position(const struct loch_ingest *ingest);
/* Bytes kept of a record that arrived in part; 0 when they are fewer than 16 KiB, as most are. */
size_t loch_ingest_part_bytes(const struct loch_ingest *ingest);
/* Forgets a record that arrived in part, or could not be applied for the moment: the position goes
 * back to last_record_lsn. LOCH_E_CORRUPT after a record that will not do another time either. */
LOCH_STATUS loch_ingest_rewind(struct loch_ingest *ingest);
/* Takes all of `bytes`. LOCH_E_CORRUPT: not WAL, or a record that makes no sense here;
 * LOCH_E_LIMIT: one that is too long for a page, has too long a value (LOCH_VERSION_MAX_BYTES), or
 * copies a database of more than the store's copy_max_bytes. What passes
 * (loch_status_passes: a layer could not be read, there was no memory) can be fed again after
 * loch_ingest_rewind. The text names the record; the timeline then stands at the one before it,
 * with nothing of it put, and ingest can only be rewound or destroyed. */
LOCH_STATUS loch_ingest_feed(struct loch_ingest *ingest, struct loch_slice bytes);
/* Any thread: a feed that copies a database fails soon, with LOCH_E_UNAVAILABLE and nothing of the
 * record to be seen. What can be done then is loch_ingest_destroy, after the feed. */
void loch_ingest_end(struct loch_ingest *ingest);
/* The control state at last_record_lsn. */
void loch_ingest_control(const struct loch_ingest *ingest, struct loch_control *out);
/* Freezes the open layer now, whatever its size. */
LOCH_STATUS loch_ingest_freeze(struct loch_ingest *ingest);
void loch_ingest_stats(const struct loch_ingest *ingest, struct loch_ingest_stats *out);

#endif
