/* Set-associative, as the page cache; entries hold references. A set's frames together never exceed
 * what eight of the largest would take, which bounds the whole. */
#include "frame_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define WAYS  8u
#define LOCKS 32u
/* Frames are cut at about 32 KiB. */
#define USUAL_BYTES ((size_t)36 << 10)

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
    cache->sets = budget_bytes / USUAL_BYTES / WAYS;
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

void loch_frame_cache_put(struct loch_frame_cache *cache, const struct loch_id *file,
                          uint32_t number, struct loch_frame *frame)
{
    if (loch_frame_bytes(frame).len > LOCH_FRAME_CACHED_MAX_BYTES)
        return;
    size_t set = set_of(cache, file, number);
    struct loch_frame *old = NULL;
    pthread_mutex_lock(&cache->locks[set % LOCKS]);
    struct slot *slot = &cache->slots[set * WAYS];
    bool there = false;
    for (size_t i = set * WAYS; i < (set + 1) * WAYS && !there; i++) {
        there = is_slot(&cache->slots[i], file, number);
        if (cache->slots[i].used < slot->used)
            slot = &cache->slots[i];
    }
    if (!there) {
        old = slot->frame;
        *slot = (struct slot){*file, number, loch_frame_retain(frame), ++cache->ticks[set % LOCKS]};
    }
    pthread_mutex_unlock(&cache->locks[set % LOCKS]);
    loch_frame_release(old);
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
