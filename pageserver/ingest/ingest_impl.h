/* Inside of ingest: shared by ingest.c (the stream), effects.c (what effects do) and db_copy.c.
 * Private. */
#ifndef LOCH_PAGESERVER_INGEST_IMPL_H
#define LOCH_PAGESERVER_INGEST_IMPL_H

#include "ingest.h"
#include "read/cuts.h"
#include "read/view.h"
#include "read/xact_time.h"
#include "size_cache.h"

#include "loch/pg/effects.h"
#include "loch/pg/wal_scan.h"

#include <stdatomic.h>

#define SLRU_CACHE 8u

/* An SLRU page as of now, so that every so many operations an image of it can be put. */
struct slru_entry {
    bool used;
    uint8_t slru;
    uint32_t page;
    uint32_t ops; /* since the last image */
    uint64_t tick;
    uint8_t *bytes; /* LOCH_PAGE_BYTES, owned; NULL until the entry is first used */
};

struct loch_ingest {
    struct loch_timeline *timeline;
    struct loch_wal_scan scan;
    struct loch_control control;
    struct loch_effects effects;
    struct loch_wal_record record;
    struct loch_size_cache sizes;
    struct slru_entry slru[SLRU_CACHE];
    uint64_t tick;
    uint64_t control_segment;          /* of the newest control snapshot */
    struct loch_xact_time newest_time; /* the newest entry, with xact_time_known */
    bool xact_time_known;              /* looked up since the start */
    loch_lsn last_xact_end;            /* of the newest record that ended a transaction */
    bool failed;                       /* at a record that will not do another time either */
    atomic_bool ending;                /* nobody wants the rest of a long record any more */
    struct loch_ingest_stats stats;
};

/* Puts what the effects of ingest->record (start..end, `bytes`) say. */
LOCH_STATUS loch_ingest_apply(struct loch_ingest *ingest, const struct loch_wal_span *span);

/* What is known of the store is read again when it is needed. */
void loch_ingest_forget(struct loch_ingest *ingest);

/* db_copy.c: whether ingest->effects copy a database. */
bool loch_ingest_copies(const struct loch_ingest *ingest);
/* Before anything of such a record is put. LOCH_E_LIMIT: more than the store's copy_max_bytes.
 * LOCH_E_UNAVAILABLE: another is being copied, or what came before cannot be written. Once it is
 * done loch_ingest_copy_end has to follow. */
LOCH_STATUS loch_ingest_copy_begin(struct loch_ingest *ingest);
/* The pages and maps of the source at this LSN become those of the copy. LOCH_E_UNAVAILABLE: the
 * ingest is ending. */
LOCH_STATUS loch_ingest_copy(struct loch_ingest *ingest, const struct loch_effect *e, loch_lsn lsn);
/* done: the timeline has advanced past the record, and what was copied is written now. */
void loch_ingest_copy_end(struct loch_ingest *ingest, bool done);

#endif
