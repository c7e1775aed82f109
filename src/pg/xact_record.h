/* Commit, abort and prepare records taken apart; shared by effects and control. Private to the
 * room. Source: access/xact.h, ParseCommitRecord and ParsePrepareRecord of xactdesc.c (PostgreSQL
 * 15). */
#ifndef LOCH_PG_XACT_RECORD_H
#define LOCH_PG_XACT_RECORD_H

#include "loch/pg/wal_record.h"

struct loch_xact_end {
    bool committed;
    bool prepared; /* COMMIT PREPARED, ROLLBACK PREPARED */
    bool has_origin;
    uint32_t xid; /* the transaction that ends: not always the record's */
    int64_t time_us;
    uint32_t subxact_count;
    const uint8_t *subxacts; /* u32 each */
    uint32_t rel_count;
    const uint8_t *rels; /* spc, db, rel: u32 each */
    loch_lsn origin_lsn;
    int64_t origin_time_us;
};

/* For the four record types that end a transaction. LOCH_E_CORRUPT. */
LOCH_STATUS loch_xact_end_parse(const struct loch_wal_record *record, struct loch_xact_end *out);

struct loch_xact_prepare {
    uint32_t xid;
    uint32_t subxact_count;
    const uint8_t *subxacts;
    loch_lsn origin_lsn; /* means something when the record has an origin */
};

/* Of a PREPARE record's main data, or a pg_twophase file without its CRC. LOCH_E_CORRUPT. */
LOCH_STATUS loch_xact_prepare_parse(struct loch_slice state, struct loch_xact_prepare *out);

#endif
