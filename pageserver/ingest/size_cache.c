/* Two open-addressing tables: what is new goes into `young`; when that is full it becomes `old`,
 * and what was old is gone. So what is in use stays, however many relations come by, and a timeline
 * that knows few holds little: tables grow with what is in them. Invariant: a fork in `young` hides
 * the same fork in `old`; a table is at most half full. */
#include "size_cache.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_LEAST 64u
#define YOUNG_MAX   32768u

static size_t slot_of(const struct loch_size_table *t, const struct loch_rel *rel, uint8_t fork)
{
    uint64_t h = ((uint64_t)rel->rel << 32 | rel->db) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ (h >> 29) ^ ((uint64_t)rel->spc << 8) ^ fork) * UINT64_C(0xBF58476D1CE4E5B9);
    return (size_t)(h >> 40) & (t->size - 1);
}

/* Where it is, or belongs; the table has room. */
static struct loch_size_entry *place(const struct loch_size_table *t, const struct loch_rel *rel,
                                     uint8_t fork)
{
    size_t i = slot_of(t, rel, fork);
    while (t->entries[i].used &&
           (t->entries[i].fork != fork || memcmp(&t->entries[i].rel, rel, sizeof *rel) != 0))
        i = (i + 1) & (t->size - 1);
    return &t->entries[i];
}

static const struct loch_size_entry *find(const struct loch_size_table *t,
                                          const struct loch_rel *rel, uint8_t fork)
{
    if (t->size == 0)
        return NULL;
    const struct loch_size_entry *e = place(t, rel, fork);
    return e->used ? e : NULL;
}

static loch_status grow(struct loch_size_table *t)
{
    struct loch_size_table next = {.size = t->size == 0 ? TABLE_LEAST : t->size * 2,
                                   .count = t->count};
    next.entries = calloc(next.size, sizeof *next.entries);
    if (next.entries == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the sizes of relations");
    for (size_t i = 0; i < t->size; i++)
        if (t->entries[i].used)
            *place(&next, &t->entries[i].rel, t->entries[i].fork) = t->entries[i];
    free(t->entries);
    *t = next;
    return LOCH_OK;
}

LOCH_STATUS loch_size_cache_put(struct loch_size_cache *cache, const struct loch_rel *rel,
                                uint8_t fork, bool exists, uint32_t blocks)
{
    struct loch_size_table *t = &cache->young;
    const bool known = find(t, rel, fork) != NULL;
    if (!known && t->count >= YOUNG_MAX) {
        free(cache->old.entries);
        cache->old = cache->young;
        cache->young = (struct loch_size_table){0};
    }
    if (!known && t->count >= t->size / 2)
        LOCH_TRY(grow(t));
    struct loch_size_entry *e = place(t, rel, fork);
    t->count += !e->used;
    *e = (struct loch_size_entry){
        .rel = *rel, .fork = fork, .used = true, .exists = exists, .blocks = exists ? blocks : 0};
    return LOCH_OK;
}

bool loch_size_cache_find(struct loch_size_cache *cache, const struct loch_rel *rel, uint8_t fork,
                          bool *exists, uint32_t *blocks)
{
    const struct loch_size_entry *e = find(&cache->young, rel, fork);
    const bool old = e == NULL;
    if (old)
        e = find(&cache->old, rel, fork);
    if (e == NULL)
        return false;
    *exists = e->exists;
    *blocks = e->blocks;
    /* In use: it stays. Without memory for that it is just forgotten sooner. */
    if (old)
        (void)loch_size_cache_put(cache, rel, fork, *exists, *blocks).code;
    return true;
}

void loch_size_cache_forget(struct loch_size_cache *cache)
{
    free(cache->young.entries);
    free(cache->old.entries);
    *cache = (struct loch_size_cache){0};
}
