/* A set-associative cache: the page's hash names a set of eight entries, the least recently used of
 * which makes room. One lock for each group of sets. */
#include "page_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define WAYS  8u
#define LOCKS 64u

struct entry {
    struct loch_id timeline;
    struct loch_key key;
    loch_lsn version; /* LOCH_LSN_NONE: free */
    loch_lsn upto;
    uint64_t used;
};

struct loch_page_cache {
    size_t sets;
    struct entry *entries;
    uint8_t *pages;
    pthread_mutex_t locks[LOCKS];
    uint64_t ticks[LOCKS];
};

LOCH_STATUS loch_page_cache_create(size_t budget_bytes, struct loch_page_cache **out)
{
    struct loch_page_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a page cache");
    cache->sets = budget_bytes / LOCH_PAGE_BYTES / WAYS;
    if (cache->sets < 2)
        cache->sets = 2;
    cache->entries = calloc(cache->sets * WAYS, sizeof *cache->entries);
    cache->pages = calloc(cache->sets * WAYS, LOCH_PAGE_BYTES);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&cache->locks[i], NULL);
    if (cache->entries == NULL || cache->pages == NULL) {
        loch_page_cache_destroy(cache);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a page cache of %zu bytes", budget_bytes);
    }
    *out = cache;
    return LOCH_OK;
}

void loch_page_cache_destroy(struct loch_page_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&cache->locks[i]);
    free(cache->entries);
    free(cache->pages);
    free(cache);
}

static size_t set_of(const struct loch_page_cache *cache, const struct loch_id *timeline,
                     const struct loch_key *key)
{
    uint64_t seed;
    memcpy(&seed, timeline->bytes, sizeof seed);
    uint64_t h = seed ^ ((uint64_t)key->rel << 32 | key->block);
    h = (h ^ (h >> 31)) * UINT64_C(0xBF58476D1CE4E5B9);
    h ^= (uint64_t)key->db << 32 | (uint64_t)key->spc << 4 | (uint64_t)key->kind << 2 | key->fork;
    h = (h ^ (h >> 29)) * UINT64_C(0x94D049BB133111EB);
    return (size_t)((h ^ (h >> 32)) % cache->sets);
}

static bool is_entry(const struct entry *e, const struct loch_id *timeline,
                     const struct loch_key *key)
{
    return e->version != LOCH_LSN_NONE && loch_id_equal(&e->timeline, timeline) &&
           loch_key_compare(&e->key, key) == 0;
}

/* The entry's place, or SIZE_MAX; the set's lock held. */
static size_t find(const struct loch_page_cache *cache, size_t set, const struct loch_id *timeline,
                   const struct loch_key *key)
{
    for (size_t i = set * WAYS; i < (set + 1) * WAYS; i++)
        if (is_entry(&cache->entries[i], timeline, key))
            return i;
    return SIZE_MAX;
}

static void copy_out(struct loch_page_cache *cache, size_t set, size_t at,
                     uint8_t page[static LOCH_PAGE_BYTES])
{
    cache->entries[at].used = ++cache->ticks[set % LOCKS];
    memcpy(page, cache->pages + at * LOCH_PAGE_BYTES, LOCH_PAGE_BYTES);
}

bool loch_page_cache_get(struct loch_page_cache *cache, const struct loch_id *timeline,
                         const struct loch_key *key, loch_lsn floor, loch_lsn lsn,
                         loch_lsn *version, uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t set = set_of(cache, timeline, key);
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    size_t at = find(cache, set, timeline, key);
    const struct entry *e = &cache->entries[at == SIZE_MAX ? 0 : at];
    bool found = at != SIZE_MAX && e->version >= floor && e->version <= lsn;
    if (found) {
        *version = e->version;
        copy_out(cache, set, at, page);
    }
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    return found;
}

bool loch_page_cache_answer(struct loch_page_cache *cache, const struct loch_id *timeline,
                            const struct loch_key *key, loch_lsn since, loch_lsn lsn,
                            loch_lsn *as_of, uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t set = set_of(cache, timeline, key);
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    size_t at = find(cache, set, timeline, key);
    const struct entry *e = &cache->entries[at == SIZE_MAX ? 0 : at];
    bool found = at != SIZE_MAX && e->upto >= since && e->version <= lsn;
    if (found) {
        *as_of = e->upto < lsn ? e->upto : lsn;
        copy_out(cache, set, at, page);
    }
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    return found;
}

void loch_page_cache_confirm(struct loch_page_cache *cache, const struct loch_id *timeline,
                             const struct loch_key *key, loch_lsn version, loch_lsn upto)
{
    size_t set = set_of(cache, timeline, key);
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    size_t at = find(cache, set, timeline, key);
    if (at != SIZE_MAX && cache->entries[at].version == version && cache->entries[at].upto < upto)
        cache->entries[at].upto = upto;
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
}

void loch_page_cache_put(struct loch_page_cache *cache, const struct loch_id *timeline,
                         const struct loch_key *key, loch_lsn version, loch_lsn upto,
                         const uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t set = set_of(cache, timeline, key);
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    size_t slot = set * WAYS;
    for (size_t i = slot; i < (set + 1) * WAYS; i++) {
        if (is_entry(&cache->entries[i], timeline, key)) {
            slot = i;
            break;
        }
        if (cache->entries[i].used < cache->entries[slot].used)
            slot = i;
    }
    struct entry *e = &cache->entries[slot];
    if (!is_entry(e, timeline, key) || e->version < version) {
        *e = (struct entry){*timeline, *key, version, upto, ++cache->ticks[set % LOCKS]};
        memcpy(cache->pages + slot * LOCH_PAGE_BYTES, page, LOCH_PAGE_BYTES);
    }
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
}

void loch_page_cache_drop(struct loch_page_cache *cache, const struct loch_id *timeline)
{
    for (size_t set = 0; set < cache->sets; set++) {
        pthread_mutex_lock(&cache->locks[set % LOCKS]);
        for (size_t i = set * WAYS; i < (set + 1) * WAYS; i++) {
            if (!loch_id_equal(&cache->entries[i].timeline, timeline))
                continue;
            cache->entries[i] = (struct entry){0};
            memset(cache->pages + i * LOCH_PAGE_BYTES, 0, LOCH_PAGE_BYTES);
        }
        pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    }
}
