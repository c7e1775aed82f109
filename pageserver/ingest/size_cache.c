/* An open-addressing table of fixed size. */
#include "size_cache.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE  131072u
#define ENTRIES_MAX 65536u

static size_t slot_of(const struct loch_rel *rel, uint8_t fork)
{
    uint64_t h = ((uint64_t)rel->rel << 32 | rel->db) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ (h >> 29) ^ ((uint64_t)rel->spc << 8) ^ fork) * UINT64_C(0xBF58476D1CE4E5B9);
    return (size_t)(h >> 40) & (TABLE_SIZE - 1);
}

static struct loch_size_entry *find(const struct loch_size_cache *cache, const struct loch_rel *rel,
                                    uint8_t fork)
{
    size_t i = slot_of(rel, fork);
    while (cache->entries[i].used && (cache->entries[i].fork != fork ||
                                      memcmp(&cache->entries[i].rel, rel, sizeof *rel) != 0))
        i = (i + 1) & (TABLE_SIZE - 1);
    return &cache->entries[i];
}

const struct loch_size_entry *loch_size_cache_find(const struct loch_size_cache *cache,
                                                   const struct loch_rel *rel, uint8_t fork)
{
    if (cache->entries == NULL)
        return NULL;
    const struct loch_size_entry *e = find(cache, rel, fork);
    return e->used ? e : NULL;
}

LOCH_STATUS loch_size_cache_put(struct loch_size_cache *cache, const struct loch_rel *rel,
                                uint8_t fork, bool exists, uint32_t blocks)
{
    if (cache->entries == NULL) {
        cache->entries = calloc(TABLE_SIZE, sizeof *cache->entries);
        if (cache->entries == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the sizes of relations");
    }
    struct loch_size_entry *e = find(cache, rel, fork);
    if (!e->used && cache->count >= ENTRIES_MAX) {
        loch_size_cache_forget(cache);
        e = find(cache, rel, fork);
    }
    cache->count += !e->used;
    *e = (struct loch_size_entry){
        .rel = *rel, .fork = fork, .used = true, .exists = exists, .blocks = exists ? blocks : 0};
    return LOCH_OK;
}

void loch_size_cache_forget(struct loch_size_cache *cache)
{
    if (cache->entries != NULL)
        memset(cache->entries, 0, TABLE_SIZE * sizeof *cache->entries);
    cache->count = 0;
}

void loch_size_cache_fini(struct loch_size_cache *cache)
{
    free(cache->entries);
    *cache = (struct loch_size_cache){0};
}
