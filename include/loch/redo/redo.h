/* Native redo: one decoded WAL record applied to one page in memory, as the stock server does it.
 *
 * What is handled gives the page that PostgreSQL's own redo gives, byte for byte, the hole between
 * pd_lower and pd_upper included; everything else is said to be not handled and goes to the redo
 * process. Record and page are hostile input: what does not fit together is LOCH_E_CORRUPT, never
 * a read or write outside them.
 *
 * Pure: no I/O, clock, lock or randomness. Any thread. Source: the rm_redo functions of
 * PostgreSQL 15 (heapam.c, pruneheap.c, nbtxlog.c, nbtdedup.c, bufpage.c, xlogutils.c).
 */
#ifndef LOCH_REDO_REDO_H
#define LOCH_REDO_REDO_H

#include "loch/base/types.h"
#include "loch/pg/key.h"
#include "loch/pg/wal_record.h"

#include <stdbool.h>
#include <stdint.h>

/* Which page it is. */
struct loch_redo_target {
    struct loch_rel rel;
    uint8_t fork; /* enum loch_fork */
    uint32_t block;
    bool hint_lsn; /* the WAL's origin ran with data checksums or wal_log_hints: HEAP2 VISIBLE then
                    * sets the heap page's LSN */
};

enum loch_redo_outcome {
    LOCH_REDO_APPLIED,    /* the page is as of `end` (or was already: its LSN is not below) */
    LOCH_REDO_NOT_HANDLED /* the page is unchanged; the redo process knows the record */
};

/* Applies `record`, which ends at `end`, to `page`, which for a record that needs nothing older
 * (will_init, or an image to be restored) may hold anything, else is the page as of the record
 * before. A record without a reference to the page, and one on an all-zero page that does not make
 * it, are not handled. LOCH_E_CORRUPT: the page is then undefined and *outcome untouched. */
LOCH_STATUS loch_redo_apply(const struct loch_redo_target *target,
                            const struct loch_wal_record *record, loch_lsn end,
                            uint8_t page[static LOCH_PAGE_BYTES], enum loch_redo_outcome *outcome);

/* Whether such a record is among those that loch_redo_apply knows, whatever its contents: for
 * tests, which then insist that it is applied. */
bool loch_redo_knows(const struct loch_wal_record *record);

/* Writes the page of a block reference's image, plain or compressed (PGLZ, LZ4, Zstandard), without
 * setting its LSN. LOCH_E_INVALID: the reference has no image. LOCH_E_CORRUPT: it does not
 * decompress to exactly the page without its hole; the page is then undefined. */
LOCH_STATUS loch_redo_image(const struct loch_wal_block *block,
                            uint8_t page[static LOCH_PAGE_BYTES]);

#endif
