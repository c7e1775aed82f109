/* Records that a redo worker refused or died of, remembered for a while, so that reads of their
 * page are answered at once instead of costing workers again and again.
 *
 * The oldest of LOCH_POISON_MAX entries makes way for a new one. Private to the pool, which locks.
 */
#ifndef LOCH_PAGESERVER_REDO_POISON_H
#define LOCH_PAGESERVER_REDO_POISON_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#include <stdbool.h>

#define LOCH_POISON_MAX 64u

/* A record on its way to a page. The WAL of two branches may differ at one LSN: the CRC tells. */
struct poison_key {
    struct loch_id tenant;
    struct loch_rel rel;
    uint32_t fork, block;
    loch_lsn start_lsn;
    uint32_t crc; /* the record's own */
};

struct poison {
    struct poison_key key;
    uint64_t until_ms; /* 0: the entry is free */
    char why[200];
};

struct poison_memory {
    struct poison entries[LOCH_POISON_MAX];
    uint32_t next;
};

struct poison_key poison_key(const struct loch_id *tenant, const struct loch_rel *rel,
                             uint32_t fork, uint32_t block, loch_lsn start_lsn,
                             struct loch_slice record);
void poison_remember(struct poison_memory *memory, const struct poison_key *key, uint64_t until_ms,
                     const char *why);
/* NULL when it is not remembered, or no longer. */
const struct poison *poison_find(const struct poison_memory *memory, const struct poison_key *key,
                                 uint64_t now_ms);
/* How many entries are alive: a chain is looked up only when there are any. */
bool poison_any(const struct poison_memory *memory, uint64_t now_ms);

#endif
