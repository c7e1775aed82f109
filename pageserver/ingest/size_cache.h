/* What ingest knows about the sizes of relation forks at its position, so that it need not read the
 * store for each record. Bounded: of many forks it knows those that were in use lately, 32,768 at
 * least and 65,536 at most. One thread. */
#ifndef LOCH_PAGESERVER_INGEST_SIZE_CACHE_H
#define LOCH_PAGESERVER_INGEST_SIZE_CACHE_H

#include "loch/base/status.h"
#include "loch/pg/key.h"

struct loch_size_entry {
    struct loch_rel rel;
    uint8_t fork;
    bool used, exists;
    uint32_t blocks;
};

struct loch_size_table {
    struct loch_size_entry *entries;
    size_t size, count; /* size: a power of two, or 0 */
};

/* Zero-initialised is empty and valid; its insides are private. */
struct loch_size_cache {
    struct loch_size_table young, old;
};

/* False: not known. *blocks: 0 when it does not exist. */
bool loch_size_cache_find(struct loch_size_cache *cache, const struct loch_rel *rel, uint8_t fork,
                          bool *exists, uint32_t *blocks);
/* LOCH_E_NO_MEMORY; what is known then may be out of date, so the caller must stop using it. */
LOCH_STATUS loch_size_cache_put(struct loch_size_cache *cache, const struct loch_rel *rel,
                                uint8_t fork, bool exists, uint32_t blocks);
/* Forgets everything and gives up its memory: also the end of a cache. */
void loch_size_cache_forget(struct loch_size_cache *cache);

#endif
