/* The control file of a timeline: the acceptor's durable state and what the timeline is.
 *
 * A sealed object, replaced whole. Content, little-endian:
 *    0 u32 version (3)        4 u32 pg_version        8 u32 segment_bytes   12 u32 zero
 *   16 u64 system_id         24 u64 incarnation      32 u64 term            40 u64
 * min_compute_epoch 48 u64 generation        56 u64 start_lsn        64 u64 start_prev_lsn  72 u64
 * commit_lsn 80 u64 anchor_lsn        88 u64 anchor_prev_lsn  96 u64 last_seq 104 u64 trim_lsn
 * 112 term history (u32 count, (u64 term, u64 start)...), then the member's id (16 bytes) and the
 * membership it knows (docs/format/members.md). Version 2 lacks the last two, version 1 trim_lsn
 * as well. The sequence number of the write stands in the object's place as its generation.
 */
#ifndef LOCH_SAFEKEEPER_CONTROL_H
#define LOCH_SAFEKEEPER_CONTROL_H

#include "sealer.h"

#include "loch/consensus/acceptor.h"

#define SK_CONTROL_NAME "control"

struct sk_control {
    uint64_t system_id; /* PostgreSQL's */
    uint32_t pg_version;
    uint32_t segment_bytes;
    uint64_t incarnation; /* of the node that wrote it */
    uint64_t sequence;    /* of this write, from 1 */
    /* A record boundary at or below commit_lsn and the start of the record that ends there: where a
     * restart begins to scan. */
    loch_lsn anchor_lsn, anchor_prev_lsn;
    uint64_t
        last_seq; /* newest WAL file there was: an older newest one means that files are gone */
    /* Where the first WAL file that is kept begins: start_lsn until WAL is trimmed. A restart that
     * finds older files finishes their deletion. */
    loch_lsn trim_lsn;
    struct loch_id member; /* what this timeline's directory was named when it was made */
    struct loch_acceptor_control acceptor; /* owned */
};

void sk_control_fini(struct sk_control *control);
/* Appends the sealed file to *out. */
LOCH_STATUS sk_control_seal(const struct sk_control *control, const struct sk_sealer *sealer,
                            struct loch_buf *out);
/* Reads DIR/control. LOCH_E_NOT_FOUND when there is none; LOCH_E_CORRUPT names the file; keys'
 * failures pass through. Blocks: start-up and pool threads. */
LOCH_STATUS sk_control_load(const char *dir, const struct sk_sealer *sealer,
                            struct sk_control *out);

#endif
