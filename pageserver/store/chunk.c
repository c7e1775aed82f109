/* Holds: the chunks that are kept. */
#include "chunk.h"

#include "loch/base/secret.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

static struct {
    pthread_mutex_t lock;
    struct loch_chunk *first;
    size_t count;
    size_t least; /* of `count` since what was not needed went back */
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct loch_chunk *take(void)
{
    pthread_mutex_lock(&kept.lock);
    struct loch_chunk *chunk = kept.first;
    if (chunk != NULL) {
        kept.first = chunk->next;
        kept.count--;
        kept.least = kept.count < kept.least ? kept.count : kept.least;
    }
    pthread_mutex_unlock(&kept.lock);
    return chunk;
}

static bool keep(struct loch_chunk *chunk)
{
    pthread_mutex_lock(&kept.lock);
    const bool room = kept.count < LOCH_CHUNKS_KEPT_MAX;
    if (room) {
        chunk->next = kept.first;
        kept.first = chunk;
        kept.count++;
    }
    pthread_mutex_unlock(&kept.lock);
    return room;
}

struct loch_chunk *loch_chunk_create(size_t size)
{
    struct loch_chunk *chunk = NULL;
    if (size != LOCH_CHUNK_MOST_BYTES) {
        chunk = malloc(sizeof *chunk + size);
    } else if ((chunk = take()) == NULL) {
        chunk = aligned_alloc(LOCH_LARGE_PAGE_BYTES, LOCH_LARGE_PAGE_BYTES);
        if (chunk != NULL)
            loch_large_pages(chunk, LOCH_LARGE_PAGE_BYTES);
    }
    if (chunk != NULL)
        chunk->size = size;
    return chunk;
}

void loch_chunk_destroy(struct loch_chunk *chunk)
{
    if (chunk == NULL)
        return;
    loch_wipe(chunk->bytes, chunk->size); /* users' rows */
    if (chunk->size != LOCH_CHUNK_MOST_BYTES || !keep(chunk))
        free(chunk);
}

size_t loch_chunks_give_back(void)
{
    struct loch_chunk *gone = NULL;
    pthread_mutex_lock(&kept.lock);
    const size_t count = kept.least;
    for (; kept.least > 0; kept.least--, kept.count--) {
        struct loch_chunk *chunk = kept.first;
        kept.first = chunk->next;
        chunk->next = gone;
        gone = chunk;
    }
    kept.least = kept.count;
    pthread_mutex_unlock(&kept.lock);
    while (gone != NULL) {
        struct loch_chunk *next = gone->next;
        free(gone);
        gone = next;
    }
    return count;
}
