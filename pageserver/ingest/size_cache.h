/* What ingest knows about the sizes of relation forks at its position, so that it need not read the
 * store for each record. Bounded: when full it forgets everything. One thread. */
#ifndef LOCH_PAGESERVER_INGEST_SIZE_CACHE_H
#define LOCH_PAGESERVER_INGEST_SIZE_CACHE_H

#include "loch/base/status.h"
#include "loch/pg/key.h"

struct loch_size_entry {
    struct loch_rel rel;
    uint8_t fork;
    bool used; /* private */
    bool exists;
    uint32_t blocks; /* 0 when it does not exist */
};

/* Zero-initialised is empty and valid. */
struct loch_size_cache {
    struct loch_size_entry *entries;
    size_t count;
};

/* NULL: not known. Borrowed until the next put or forget. */
const struct loch_size_entry *loch_size_cache_find(const struct loch_size_cache *cache,
                                                   const struct loch_rel *rel, uint8_t fork);
LOCH_STATUS loch_size_cache_put(struct loch_size_cache *cache, const struct loch_rel *rel,
                                uint8_t fork, bool exists, uint32_t blocks);
void loch_size_cache_forget(struct loch_size_cache *cache);
void loch_size_cache_fini(struct loch_size_cache *cache);

#endif
