/* What the parts of the room share. Private. */
#ifndef LOCH_REDO_ROOM_H
#define LOCH_REDO_ROOM_H

#include "loch/redo/redo.h"

/* One record on its way to one page. */
struct redo_job {
    const struct loch_redo_target *target;
    const struct loch_wal_record *record;
    const struct loch_wal_block *block; /* the record's reference to the page */
    loch_lsn end;
    uint8_t *page; /* LOCH_PAGE_BYTES; its header is in order (items.h) unless block->will_init */
};

/* The record has at least `least` bytes of main data. */
LOCH_STATUS redo_need_main(const struct redo_job *job, size_t least);
/* The reference has at least `least` bytes of data. */
LOCH_STATUS redo_need_data(const struct redo_job *job, size_t least);

/* Each applies a record of its resource manager, and sets *outcome only when it does not know it.
 * The page is older than the record. */
LOCH_STATUS redo_heap(const struct redo_job *job, enum loch_redo_outcome *outcome);
LOCH_STATUS redo_heap2(const struct redo_job *job, enum loch_redo_outcome *outcome);
LOCH_STATUS redo_btree(const struct redo_job *job, enum loch_redo_outcome *outcome);

/* Whether a btree record makes the page of its reference `id` from nothing. */
bool redo_btree_makes_page(uint32_t info, uint32_t id);

#endif
