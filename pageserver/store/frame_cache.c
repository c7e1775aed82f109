/* Set-associative, as the page cache; entries hold references. A set's frames together never exceed
 * its share of the budget, nor is there room for more than WAYS of them. */
#include "frame_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define WAYS  16u
#define LOCKS 32u
/* Of a set: 16 frames of an image each, or two of the largest. */
#define SET_BYTES (2 * LOCH_FRAME_CACHED_MAX_BYTES)

struct slot {
    struct loch_id file;
    uint32_t number;
    struct loch_frame *frame; /* NULL: free */
    uint64_t used;
};

struct loch_frame_cache {
    size_t sets;
    struct slot *slots;
    pthread_mutex_t locks[LOCKS];
    uint64_t ticks[LOCKS];
};

LOCH_STATUS loch_frame_cache_create(size_t budget_bytes, struct loch_frame_cache **out)
{
    struct loch_frame_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a frame cache");
    cache->sets = budget_bytes / SET_BYTES;
    if (cache->sets < 2)
        cache->sets = 2;
    cache->slots = calloc(cache->sets * WAYS, sizeof *cache->slots);
    if (cache->slots == NULL) {
        free(cache);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a frame cache");
    }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&cache->locks[i], NULL);
    *out = cache;
    return LOCH_OK;
}

void loch_frame_cache_destroy(struct loch_frame_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->sets * WAYS; i++)
        loch_frame_release(cache->slots[i].frame);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&cache->locks[i]);
    free(cache->slots);
    free(cache);
}

static size_t set_of(const struct loch_frame_cache *cache, const struct loch_id *file,
                     uint32_t number)
{
    uint64_t h; /* file ids are random */
    memcpy(&h, file->bytes, sizeof h);
    h = (h ^ number) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)((h >> 32) % cache->sets);
}

static bool is_slot(const struct slot *s, const struct loch_id *file, uint32_t number)
{
    return s->frame != NULL && s->number == number && loch_id_equal(&s->file, file);
}

struct loch_frame *loch_frame_cache_get(struct loch_frame_cache *cache, const struct loch_id *file,
                                        uint32_t number)
{
    size_t set = set_of(cache, file, number);
    struct loch_frame *found = NULL;
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    for (size_t i = set * WAYS; i < (set + 1) * WAYS && found == NULL; i++) {
        if (!is_slot(&cache->slots[i], file, number))
            continue;
        cache->slots[i].used = ++cache->ticks[set % LOCKS];
        found = loch_frame_retain(cache->slots[i].frame);
    }
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    return found;
}

static size_t slot_bytes(const struct slot *s)
{
    return s->frame == NULL ? 0 : loch_frame_bytes(s->frame).len;
}

/* A free slot of the set once `len` more bytes fit into its share; what was used longest ago goes.
 * The set's lock held. */
static struct slot *make_room(struct slot *set, size_t len, struct loch_frame *gone[WAYS])
{
    for (size_t n = 0;; n++) {
        struct slot *oldest = NULL, *empty = NULL;
        size_t bytes = len;
        for (struct slot *s = set; s < set + WAYS; s++) {
            bytes += slot_bytes(s);
            if (s->frame == NULL)
                empty = s;
            else if (oldest == NULL || s->used < oldest->used)
                oldest = s;
        }
        if (empty != NULL && (bytes <= SET_BYTES || oldest == NULL))
            return empty;
        gone[n] = oldest->frame;
        *oldest = (struct slot){0};
    }
}

void loch_frame_cache_put(struct loch_frame_cache *cache, const struct loch_id *file,
                          uint32_t number, struct loch_frame *frame)
{
    const size_t len = loch_frame_bytes(frame).len;
    if (len > LOCH_FRAME_CACHED_MAX_BYTES)
        return;
    size_t set = set_of(cache, file, number);
    struct loch_frame *gone[WAYS] = {0};
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    struct slot *slots = &cache->slots[set * WAYS];
    bool there = false;
    for (size_t i = 0; i < WAYS && !there; i++)
        there = is_slot(&slots[i], file, number);
    if (!there)
        *make_room(slots, len, gone) =
            (struct slot){*file, number, loch_frame_retain(frame), ++cache->ticks[set % LOCKS]};
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    for (size_t i = 0; i < WAYS; i++)
        loch_frame_release(gone[i]);
}

void loch_frame_cache_drop(struct loch_frame_cache *cache, const struct loch_id *file)
{
    for (size_t set = 0; set < cache->sets; set++) {
        pthread_mutex_lock(&cache->locks[set % LOCKS]);
        for (size_t i = set * WAYS; i < (set + 1) * WAYS; i++) {
            if (cache->slots[i].frame == NULL || !loch_id_equal(&cache->slots[i].file, file))
                continue;
            loch_frame_release(cache->slots[i].frame);
            cache->slots[i] = (struct slot){0};
        }
        pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    }
}
