/* A set-associative cache: the page's hash names a set of eight entries, the least recently used of
 * which makes room. One lock for each group of sets.
 *
 * What a look at a set needs lies in its two lines of memory: a page's tag (a part of its hash)
 * beside each entry, and the tags of pages that were read lately but are not kept. A page that was
 * cheap to read is kept at its second read, so that one scan of a large table does not push out
 * what others read again and again, nor copies pages that nobody asks for twice.
 */
#include "page_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define WAYS  8u
#define LOCKS 64u
/* Pages not kept that a set remembers. */
#define GHOSTS 15u

struct entry {
    struct loch_id tenant, timeline;
    struct loch_key key;
    loch_lsn version;
    loch_lsn upto;
};

struct set {
    uint32_t tag[WAYS];  /* 0: free */
    uint32_t used[WAYS]; /* the clock then; it may wrap around */
    uint32_t ghost[GHOSTS];
    uint32_t clock;
};

struct loch_page_cache {
    size_t set_count;
    struct set *sets;
    struct entry *entries;
    uint8_t *pages;
    pthread_mutex_t locks[LOCKS];
};

/* Where a page belongs. */
struct spot {
    size_t number;
    struct set *set;
    uint32_t tag;
};

LOCH_STATUS loch_page_cache_create(size_t budget_bytes, struct loch_page_cache **out)
{
    struct loch_page_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a page cache");
    cache->set_count = budget_bytes / LOCH_PAGE_BYTES / WAYS;
    if (cache->set_count < 2)
        cache->set_count = 2;
    cache->sets = calloc(cache->set_count, sizeof *cache->sets);
    cache->entries = calloc(cache->set_count * WAYS, sizeof *cache->entries);
    cache->pages = calloc(cache->set_count * WAYS, LOCH_PAGE_BYTES);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&cache->locks[i], NULL);
    if (cache->sets == NULL || cache->entries == NULL || cache->pages == NULL) {
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
    free(cache->sets);
    free(cache->entries);
    free(cache->pages);
    free(cache);
}

static struct spot spot_of(const struct loch_page_cache *cache, const struct loch_id *tenant,
                           const struct loch_id *timeline, const struct loch_key *key)
{
    uint64_t seed, of;
    memcpy(&seed, timeline->bytes, sizeof seed);
    memcpy(&of, tenant->bytes, sizeof of);
    uint64_t h = (seed + of) ^ ((uint64_t)key->rel << 32 | key->block);
    h = (h ^ (h >> 31)) * UINT64_C(0xBF58476D1CE4E5B9);
    h ^= (uint64_t)key->db << 32 | (uint64_t)key->spc << 4 | (uint64_t)key->kind << 2 | key->fork;
    h = (h ^ (h >> 29)) * UINT64_C(0x94D049BB133111EB);
    const size_t number = (size_t)((h ^ (h >> 32)) % cache->set_count);
    return (struct spot){number, &cache->sets[number], (uint32_t)(h >> 32) | 1};
}

static pthread_mutex_t *lock_of(struct loch_page_cache *cache, const struct spot *spot)
{
    return &cache->locks[spot->number % LOCKS];
}

/* The page's entry, or NULL; the set's lock held. Its way is counted as used now. */
static struct entry *find(const struct loch_page_cache *cache, const struct spot *spot,
                          const struct loch_id *tenant, const struct loch_id *timeline,
                          const struct loch_key *key)
{
    for (size_t i = 0; i < WAYS; i++) {
        struct entry *e = &cache->entries[spot->number * WAYS + i];
        if (spot->set->tag[i] != spot->tag || !loch_id_equal(&e->timeline, timeline) ||
            !loch_id_equal(&e->tenant, tenant) || loch_key_compare(&e->key, key) != 0)
            continue;
        spot->set->used[i] = ++spot->set->clock;
        return e;
    }
    return NULL;
}

static uint8_t *page_of(const struct loch_page_cache *cache, const struct entry *e)
{
    return cache->pages + (size_t)(e - cache->entries) * LOCH_PAGE_BYTES;
}

bool loch_page_cache_get(struct loch_page_cache *cache, const struct loch_id *tenant,
                         const struct loch_id *timeline, const struct loch_key *key, loch_lsn floor,
                         loch_lsn lsn, loch_lsn *version, uint8_t page[static LOCH_PAGE_BYTES])
{
    const struct spot spot = spot_of(cache, tenant, timeline, key);
    pthread_mutex_lock(lock_of(cache, &spot));
    const struct entry *e = find(cache, &spot, tenant, timeline, key);
    const bool found = e != NULL && e->version >= floor && e->version <= lsn;
    if (found) {
        *version = e->version;
        memcpy(page, page_of(cache, e), LOCH_PAGE_BYTES);
    }
    pthread_mutex_unlock(lock_of(cache, &spot));
    return found;
}

bool loch_page_cache_answer(struct loch_page_cache *cache, const struct loch_id *tenant,
                            const struct loch_id *timeline, const struct loch_key *key,
                            loch_lsn since, loch_lsn lsn, loch_lsn *as_of,
                            uint8_t page[static LOCH_PAGE_BYTES])
{
    const struct spot spot = spot_of(cache, tenant, timeline, key);
    pthread_mutex_lock(lock_of(cache, &spot));
    const struct entry *e = find(cache, &spot, tenant, timeline, key);
    const bool found = e != NULL && e->upto >= since && e->version <= lsn;
    if (found) {
        *as_of = e->upto < lsn ? e->upto : lsn;
        memcpy(page, page_of(cache, e), LOCH_PAGE_BYTES);
    }
    pthread_mutex_unlock(lock_of(cache, &spot));
    return found;
}

void loch_page_cache_confirm(struct loch_page_cache *cache, const struct loch_id *tenant,
                             const struct loch_id *timeline, const struct loch_key *key,
                             loch_lsn version, loch_lsn upto)
{
    const struct spot spot = spot_of(cache, tenant, timeline, key);
    pthread_mutex_lock(lock_of(cache, &spot));
    struct entry *e = find(cache, &spot, tenant, timeline, key);
    if (e != NULL && e->version == version && e->upto < upto)
        e->upto = upto;
    pthread_mutex_unlock(lock_of(cache, &spot));
}

/* The way that makes room: a free one, or the one used longest ago. */
static size_t victim(const struct set *set)
{
    size_t oldest = 0;
    for (size_t i = 0; i < WAYS; i++) {
        if (set->tag[i] == 0)
            return i;
        if (set->clock - set->used[i] > set->clock - set->used[oldest])
            oldest = i;
    }
    return oldest;
}

/* True when the page was read lately; else it is remembered as read now. */
static bool is_second(struct set *set, uint32_t tag)
{
    for (size_t i = 0; i < GHOSTS; i++) {
        if (set->ghost[i] != tag)
            continue;
        set->ghost[i] = 0;
        return true;
    }
    set->ghost[++set->clock % GHOSTS] = tag;
    return false;
}

void loch_page_cache_put(struct loch_page_cache *cache, const struct loch_id *tenant,
                         const struct loch_id *timeline, const struct loch_key *key,
                         loch_lsn version, loch_lsn upto, bool cheap,
                         const uint8_t page[static LOCH_PAGE_BYTES])
{
    const struct spot spot = spot_of(cache, tenant, timeline, key);
    struct set *set = spot.set;
    pthread_mutex_lock(lock_of(cache, &spot));
    struct entry *e = find(cache, &spot, tenant, timeline, key);
    bool take = e != NULL && e->version < version;
    if (e == NULL) {
        const size_t way = victim(set);
        take = !cheap || set->tag[way] == 0 || is_second(set, spot.tag);
        if (take) {
            e = &cache->entries[spot.number * WAYS + way];
            set->tag[way] = spot.tag;
            set->used[way] = ++set->clock;
        }
    }
    if (take) {
        *e = (struct entry){*tenant, *timeline, *key, version, upto};
        memcpy(page_of(cache, e), page, LOCH_PAGE_BYTES);
    }
    pthread_mutex_unlock(lock_of(cache, &spot));
}

void loch_page_cache_drop(struct loch_page_cache *cache, const struct loch_id *tenant,
                          const struct loch_id *timeline)
{
    for (size_t n = 0; n < cache->set_count; n++) {
        pthread_mutex_lock(&cache->locks[n % LOCKS]);
        for (size_t i = 0; i < WAYS; i++) {
            struct entry *e = &cache->entries[n * WAYS + i];
            if (cache->sets[n].tag[i] == 0 || !loch_id_equal(&e->timeline, timeline) ||
                !loch_id_equal(&e->tenant, tenant))
                continue;
            cache->sets[n].tag[i] = 0;
            *e = (struct entry){0};
            memset(page_of(cache, e), 0, LOCH_PAGE_BYTES);
        }
        pthread_mutex_unlock(&cache->locks[n % LOCKS]);
    }
}
